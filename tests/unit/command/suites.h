/* suites.h: the suites of test_command. */
#ifndef HF_TESTS_COMMAND_SUITES_H
#define HF_TESTS_COMMAND_SUITES_H

#include <check.h>

Suite *suite_table(void);
Suite *suite_decimal(void);
Suite *suite_read(void);
Suite *suite_server(void);
Suite *suite_member(void);
Suite *suite_golden(void);
void golden_rewrite(void);

#endif
