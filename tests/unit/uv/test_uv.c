/* test_uv.c: runs the unit tests of src/uv. */
#include "test_uv.h"

#include "base/log.h"

#include <stdlib.h>

int main(void)
{
    Suite *suite = suite_create("uv");
    SRunner *runner;
    int n_failed;

    hf_log_silence(true);
    suite_add_tcase(suite, loop_case());
    suite_add_tcase(suite, stream_case());
    suite_add_tcase(suite, fs_case());
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
