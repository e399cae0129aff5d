/* suites.h: the unit tests of src/consensus, one suite a file, run by main.c. */
#ifndef HF_TEST_CONSENSUS_SUITES_H
#define HF_TEST_CONSENSUS_SUITES_H

#include <check.h>

Suite *codec_suite(void);
Suite *identity_suite(void);
Suite *member_suite(void);
Suite *offline_suite(void);
Suite *operate_suite(void);
Suite *review_suite(void);
Suite *rules_suite(void);

#endif
