/* test_base.h: one case for each file of src/base. */
#ifndef HF_TEST_BASE_H
#define HF_TEST_BASE_H

#include <check.h>

TCase *buf_case(void);
TCase *crashpoint_case(void);
TCase *fs_case(void);
TCase *log_case(void);
TCase *stats_case(void);
TCase *timer_case(void);
TCase *util_case(void);

#endif
