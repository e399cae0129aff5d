/* test_main.c: runs the suites of src/apply. */
#include "fake_table.h"

int main(void)
{
    Suite *suite = suite_create("apply");
    SRunner *runner;
    int failed;

    suite_add_tcase(suite, apply_case());
    suite_add_tcase(suite, state_case());
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
