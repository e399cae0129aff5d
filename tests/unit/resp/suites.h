/* suites.h: the test cases of this program. */
#ifndef HF_TEST_RESP_SUITES_H
#define HF_TEST_RESP_SUITES_H

#include <check.h>

TCase *parse_tests(void);
TCase *reply_tests(void);

#endif
