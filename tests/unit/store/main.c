/* main.c: the unit tests of src/store. */
#include "fixture.h"

int main(void)
{
    SRunner *runner = srunner_create(suite_store());
    int failed;

    srunner_add_suite(runner, suite_settings());
    srunner_add_suite(runner, suite_rest());
    srunner_add_suite(runner, suite_copy());
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
