/* main.c: runs the suites of the journal. */
#include "fixture.h"

#include <stdlib.h>

int main(void)
{
    SRunner *r = srunner_create(format_suite());
    int failed;

    srunner_add_suite(r, journal_suite());
    srunner_add_suite(r, damage_suite());
    srunner_add_suite(r, property_suite());
    srunner_add_suite(r, space_suite());
    srunner_add_suite(r, threads_suite());
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
