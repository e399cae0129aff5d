/* The leader's log clock (R4): what it starts at, how it moves, and what cannot move it. */
#include "suites.h"

#include "base/util.h"
#include "propose/logclock.h"

#define WALL   INT64_C(1700000000000)
#define BOOT   UINT64_C(7000000)
#define HOUR   INT64_C(3600000)
#define MINUTE INT64_C(60000)

/* A new cluster has no log time: it starts at the wall clock. */
START_TEST(test_start_without_log_time_is_wall_clock)
{
    struct hf_logclock c;

    hf_logclock_start(&c, 0, WALL, 0, BOOT);
    ck_assert_int_eq(hf_logclock_now(&c, WALL, 0, BOOT), WALL);
}
END_TEST

/* The larger of stored time and the voters' wall clock. */
START_TEST(test_start_takes_the_later_of_log_and_wall)
{
    struct hf_logclock c;

    hf_logclock_start(&c, WALL - HOUR, WALL, 0, BOOT);
    ck_assert_int_eq(hf_logclock_now(&c, WALL, 0, BOOT), WALL);
    hf_logclock_start(&c, WALL + HOUR, WALL, 0, BOOT);
    ck_assert_int_eq(hf_logclock_now(&c, WALL, 0, BOOT), WALL + HOUR);
    hf_logclock_start(&c, WALL - HOUR, WALL, 900, BOOT);
    ck_assert_int_eq(hf_logclock_now(&c, WALL, 900, BOOT), WALL + 900);
}
END_TEST

/* A wall clock that is off the others' is not believed: the clock goes on from the log. */
START_TEST(test_start_with_a_wrong_wall_clock_goes_on_from_the_log)
{
    struct hf_logclock c;

    hf_logclock_start(&c, WALL, WALL + HOUR, -HOUR, BOOT);
    ck_assert_int_eq(hf_logclock_now(&c, WALL + HOUR, -HOUR, BOOT), WALL);
    /* And is steered by the others' clock, not by its own. */
    ck_assert_int_eq(hf_logclock_now(&c, WALL + HOUR + 1000, -HOUR, BOOT + 1000000), WALL + 1000);
}
END_TEST

/* Not even when it is ahead of the log, by however it comes about. */
START_TEST(test_start_with_a_wrong_wall_clock_stays_with_the_log)
{
    struct hf_logclock c;

    hf_logclock_start(&c, WALL - 5000, WALL + HOUR, -HOUR, BOOT);
    ck_assert_int_eq(hf_logclock_now(&c, WALL + HOUR, -HOUR, BOOT), WALL - 5000);
}
END_TEST

/* A wall clock that jumps between two readings of one stretch does not take the clock back. */
START_TEST(test_jumping_wall_never_takes_it_back)
{
    struct hf_logclock c;
    int64_t last = 0, now;

    hf_logclock_start(&c, 0, WALL, 0, BOOT);
    for (uint64_t us = 0; us < 200000; us += 3) {
        now = hf_logclock_now(&c, us % 2 ? WALL + HOUR : WALL - HOUR, 0, BOOT + us);
        ck_assert_int_ge(now, last);
        last = now;
    }
}
END_TEST

/* A jump of the wall clock, either way, moves the log clock by at most a tenth of the time that passes, and it goes on
 * moving. */
START_TEST(test_wall_jump_is_slewed)
{
    static const int64_t jumps[] = {HOUR, -HOUR};

    for (int i = 0; i < 2; i++) {
        struct hf_logclock c;
        int64_t before, now;

        hf_logclock_start(&c, 0, WALL, 0, BOOT);
        before = hf_logclock_now(&c, WALL, 0, BOOT);
        for (int64_t ms = 1; ms <= MINUTE; ms++) {
            now = hf_logclock_now(&c, WALL + ms + jumps[i], 0, BOOT + (uint64_t)ms * 1000);
            ck_assert_int_ge(now, before);
            before = now;
        }
        ck_assert_int_le(before - WALL, MINUTE + MINUTE / 10);
        ck_assert_int_ge(before - WALL, MINUTE - MINUTE / 10 - 1);
        /* It does follow: the bound is used. */
        if (jumps[i] > 0)
            ck_assert_int_ge(before - WALL, MINUTE + MINUTE / 10 - 100);
        else
            ck_assert_int_le(before - WALL, MINUTE - MINUTE / 10 + 100);
    }
}
END_TEST

/* Steering works also when the clock is asked every few microseconds. */
START_TEST(test_frequent_readings_are_steered_too)
{
    struct hf_logclock c;
    int64_t now = 0;

    hf_logclock_start(&c, 0, WALL, 0, BOOT);
    for (uint64_t us = 0; us <= 1000000; us += 3)
        now = hf_logclock_now(&c, WALL + HOUR + (int64_t)(us / 1000), 0, BOOT + us);
    ck_assert_int_ge(now - WALL, 1090);
    ck_assert_int_le(now - WALL, 1100);
}
END_TEST

/* Ahead of the wall clock the clock is slowed until both agree, and then stays with it. */
START_TEST(test_catches_up_with_the_wall_clock_and_stays)
{
    struct hf_logclock c;
    int64_t now = 0;

    hf_logclock_start(&c, WALL + 1000, WALL, 0, BOOT);
    for (int64_t ms = 0; ms <= 30000; ms += 10)
        now = hf_logclock_now(&c, WALL + ms, 0, BOOT + (uint64_t)ms * 1000);
    ck_assert_int_eq(now, WALL + 30000);
}
END_TEST

/* A new leader whose wall clock is an hour behind does not take log time back, nor does it freeze it. */
START_TEST(test_monotone_across_leaders)
{
    struct hf_logclock first, second;
    int64_t last, now;

    hf_logclock_start(&first, 0, WALL, 0, BOOT);
    last = hf_logclock_now(&first, WALL + 5000, 0, BOOT + 5000000);
    hf_logclock_start(&second, last, WALL - HOUR, 0, 99);
    now = hf_logclock_now(&second, WALL - HOUR, 0, 99);
    ck_assert_int_eq(now, last);
    now = hf_logclock_now(&second, WALL - HOUR + 1000, 0, 99 + 1000000);
    ck_assert_int_ge(now, last + 900);
    /* An entry of the former leader, committed only now, was stamped later than all that was known. */
    hf_logclock_raise(&second, last + 7000);
    now = hf_logclock_now(&second, WALL - HOUR + 1001, 0, 99 + 1001000);
    ck_assert_int_ge(now, last + 7000);
}
END_TEST

/* Random jumps of the wall clock at random moments: never back, never faster or slower than a tenth. */
START_TEST(test_random_jumps)
{
    struct hf_prng prng;
    struct hf_logclock c;
    uint64_t boot = BOOT, step;
    int64_t wall = WALL, last, now;

    hf_prng_seed(&prng, 42);
    hf_logclock_start(&c, 0, wall, 0, boot);
    last = hf_logclock_now(&c, wall, 0, boot);
    for (int i = 0; i < 100000; i++) {
        step = hf_prng_below(&prng, 50000);
        boot += step;
        wall += (int64_t)(step / 1000);
        if (hf_prng_below(&prng, 50) == 0)
            wall += (int64_t)hf_prng_below(&prng, 20000) - 10000;
        now = hf_logclock_now(&c, wall, 0, boot);
        ck_assert_int_ge(now, last);
        ck_assert_int_le((now - last) * 1000, (int64_t)(step + step / 10) + 2200);
        last = now;
    }
}
END_TEST

/* Stamps come from the log: absurd ones overflow nothing. */
START_TEST(test_absurd_stamps)
{
    struct hf_logclock c;

    hf_logclock_start(&c, INT64_MAX, WALL, 0, BOOT);
    ck_assert_int_gt(hf_logclock_now(&c, WALL, 0, BOOT + 1), WALL);
    hf_logclock_raise(&c, INT64_MAX);
    hf_logclock_start(&c, INT64_MIN, WALL, INT64_MAX, BOOT);
    ck_assert_int_gt(hf_logclock_now(&c, WALL, INT64_MIN, BOOT + 1), 0);
}
END_TEST

Suite *logclock_suite(void)
{
    Suite *s = suite_create("logclock");
    TCase *t = tcase_create("logclock");

    tcase_add_test(t, test_start_without_log_time_is_wall_clock);
    tcase_add_test(t, test_start_takes_the_later_of_log_and_wall);
    tcase_add_test(t, test_start_with_a_wrong_wall_clock_goes_on_from_the_log);
    tcase_add_test(t, test_start_with_a_wrong_wall_clock_stays_with_the_log);
    tcase_add_test(t, test_jumping_wall_never_takes_it_back);
    tcase_add_test(t, test_wall_jump_is_slewed);
    tcase_add_test(t, test_frequent_readings_are_steered_too);
    tcase_add_test(t, test_catches_up_with_the_wall_clock_and_stays);
    tcase_add_test(t, test_monotone_across_leaders);
    tcase_add_test(t, test_random_jumps);
    tcase_add_test(t, test_absurd_stamps);
    suite_add_tcase(s, t);
    return s;
}
