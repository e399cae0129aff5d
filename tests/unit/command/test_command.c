/* test_command.c: the command table and its handlers. Built twice: on the plain model of a store beside it, and on
 * the real one; both must give the same answers. `test_command --rewrite` writes the answers of the golden scripts
 * anew. */
#include "suites.h"

#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    SRunner *runner;
    int n_failed;

    if (argc > 1 && strcmp(argv[1], "--rewrite") == 0) {
        golden_rewrite();
        runner = srunner_create(suite_golden());
    } else {
        runner = srunner_create(suite_table());
        srunner_add_suite(runner, suite_decimal());
        srunner_add_suite(runner, suite_read());
        srunner_add_suite(runner, suite_server());
        srunner_add_suite(runner, suite_member());
        srunner_add_suite(runner, suite_golden());
    }
    srunner_run_all(runner, CK_NORMAL);
    n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
