/* suites.h: the suites of this program. */
#ifndef HF_TEST_SUITES_H
#define HF_TEST_SUITES_H

#include <check.h>

Suite *logclock_suite(void);
Suite *propose_suite(void);

#endif
