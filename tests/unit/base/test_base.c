/* test_base.c: runs the unit tests of src/base. */
#include "test_base.h"

#include <stdlib.h>

int main(void)
{
    Suite *suite = suite_create("base");
    SRunner *runner;
    int n_failed;

    suite_add_tcase(suite, buf_case());
    suite_add_tcase(suite, util_case());
    suite_add_tcase(suite, timer_case());
    suite_add_tcase(suite, stats_case());
    suite_add_tcase(suite, fs_case());
    suite_add_tcase(suite, log_case());
    suite_add_tcase(suite, crashpoint_case());
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
