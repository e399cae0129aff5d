/* test_resp.c: runs the suites of src/resp. */
#include "suites.h"

#include <stdlib.h>

int main(void)
{
    Suite *suite = suite_create("resp");
    SRunner *runner;
    int failed;

    suite_add_tcase(suite, parse_tests());
    suite_add_tcase(suite, reply_tests());
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
