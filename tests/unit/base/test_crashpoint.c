/* test_crashpoint.c: a process dies at the point that the environment names, at the right time, and nowhere else. */
#include "test_base.h"

#include "base/crashpoint.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* How a child ends that reaches the points one, other, one, one: 0 after all of them, or the number of the point that
 * killed it by SIGKILL. */
static int dies_at(const char *named)
{
    static const char *const points[] = {"one", "other", "one", "one"};
    int fds[2], status, n = 0;
    char c;
    pid_t pid;

    ck_assert_int_eq(pipe(fds), 0);
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        if (named != NULL)
            setenv("HOLDFAST_CRASH_AT", named, 1);
        else
            unsetenv("HOLDFAST_CRASH_AT");
        for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
            if (write(fds[1], "x", 1) != 1)
                _exit(1);
            hf_crash_point_reached(points[i]);
        }
        _exit(0);
    }
    close(fds[1]);
    while (read(fds[0], &c, 1) == 1)
        n++;
    close(fds[0]);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    if (WIFSIGNALED(status)) {
        ck_assert_int_eq(WTERMSIG(status), SIGKILL);
        return n;
    }
    ck_assert_int_eq(WEXITSTATUS(status), 0);
    ck_assert_int_eq(n, 4);
    return 0;
}

START_TEST(dies_where_it_is_told)
{
    ck_assert_int_eq(dies_at("one"), 1);
    ck_assert_int_eq(dies_at("one:1"), 1);
    ck_assert_int_eq(dies_at("one:2"), 3);
    ck_assert_int_eq(dies_at("one:3"), 4);
    ck_assert_int_eq(dies_at("other"), 2);
}
END_TEST

START_TEST(lives_elsewhere)
{
    ck_assert_int_eq(dies_at(NULL), 0);
    ck_assert_int_eq(dies_at(""), 0);
    ck_assert_int_eq(dies_at("on"), 0);
    ck_assert_int_eq(dies_at("ones"), 0);
    ck_assert_int_eq(dies_at("one:4"), 0);
    ck_assert_int_eq(dies_at("one:0"), 0);
}
END_TEST

TCase *crashpoint_case(void)
{
    TCase *tc = tcase_create("crashpoint");

    tcase_add_test(tc, dies_where_it_is_told);
    tcase_add_test(tc, lives_elsewhere);
    return tc;
}
