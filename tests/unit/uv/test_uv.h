/* test_uv.h: one case for each topic of src/uv. */
#ifndef HF_TEST_UV_H
#define HF_TEST_UV_H

#include <check.h>

TCase *loop_case(void);
TCase *stream_case(void);
TCase *fs_case(void);

#endif
