/* main.c: runs the suites of consensus. */
#include "suites.h"

#include <stdlib.h>

int main(void)
{
    SRunner *runner = srunner_create(codec_suite());
    int failed;

    srunner_add_suite(runner, identity_suite());
    srunner_add_suite(runner, member_suite());
    srunner_add_suite(runner, offline_suite());
    srunner_add_suite(runner, rules_suite());
    srunner_add_suite(runner, operate_suite());
    srunner_add_suite(runner, review_suite());
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
