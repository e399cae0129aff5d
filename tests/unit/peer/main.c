/* main.c: runs the suites of peer. */
#include "suites.h"

#include "base/log.h"

#include <stdlib.h>

int main(void)
{
    SRunner *runner = srunner_create(frame_suite());
    int failed;

    hf_log_silence(getenv("HF_TEST_LOG") == NULL);
    srunner_add_suite(runner, peer_suite());
    srunner_add_suite(runner, stranger_suite());
    srunner_add_suite(runner, channels_suite());
    srunner_add_suite(runner, loopback_suite());
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
