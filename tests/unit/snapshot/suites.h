/* suites.h: the unit tests of src/snapshot, one suite a file, run by main.c. */
#ifndef HF_TEST_SNAPSHOT_SUITES_H
#define HF_TEST_SNAPSHOT_SUITES_H

#include <check.h>

Suite *transfer_suite(void);
Suite *trouble_suite(void);
Suite *copy_suite(void);

#endif
