/* suites.h: the unit tests of src/peer, one suite a file, run by main.c. */
#ifndef HF_TEST_PEER_SUITES_H
#define HF_TEST_PEER_SUITES_H

#include <check.h>

Suite *frame_suite(void);
Suite *peer_suite(void);
Suite *stranger_suite(void);
Suite *channels_suite(void);
Suite *loopback_suite(void);

#endif
