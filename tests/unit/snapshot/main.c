/* main.c: runs the suites of snapshot. */
#include "suites.h"

#include "base/log.h"

#include <stdlib.h>

int main(void)
{
    SRunner *runner = srunner_create(transfer_suite());
    int failed;

    hf_log_silence(getenv("HF_TEST_LOG") == NULL);
    srunner_add_suite(runner, trouble_suite());
    srunner_add_suite(runner, copy_suite());
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
