/* test_journal.c: the seam, one promise at a time. */
#include "fixture.h"

#include "base/mem.h"

START_TEST(new_journal_is_empty)
{
    struct fixture f;

    fixture_init(&f, 1, 65536);
    fixture_must_open(&f);
    ck_assert_uint_eq(f.state.term, 0);
    ck_assert_uint_eq(f.state.vote, 0);
    ck_assert_uint_eq(f.state.first_index, 1);
    ck_assert_uint_eq(f.state.next_index, 1);
    ck_assert(!f.state.torn_tail);
    ck_assert_uint_eq(hf_journal_durable_index(f.journal), 0);
    ck_assert_uint_eq(hf_journal_bytes_after(f.journal, 0), 0);
    fixture_free(&f);
}
END_TEST

START_TEST(appended_entries_become_durable_and_survive)
{
    struct fixture f;

    fixture_init(&f, 2, 65536);
    fixture_must_open(&f);
    fixture_append(&f, 1, 10, 100);
    ck_assert_uint_eq(hf_journal_next_index(f.journal), 11);
    ck_assert_uint_eq(hf_journal_durable_index(f.journal), 0);
    fixture_wait_durable(&f, 10);
    ck_assert_uint_eq(hf_journal_durable_index(f.journal), 10);
    ck_assert_uint_gt(hf_journal_bytes_after(f.journal, 0), 1000);
    ck_assert_uint_eq(hf_journal_bytes_after(f.journal, 9), 128);
    fixture_crash(&f, HF_FAKE_LOSS_ALL);
    fixture_must_open(&f);
    ck_assert_uint_eq(f.state.next_index, 11);
    ck_assert_uint_eq(f.state.term, 1);
    fixture_check_scan(&f, 1, 11);
    fixture_check_scan(&f, 7, 11);
    fixture_free(&f);
}
END_TEST

START_TEST(what_waits_goes_into_one_write)
{
    struct fixture f;
    uint64_t syncs;

    fixture_init(&f, 3, 1 << 20);
    fixture_must_open(&f);
    fixture_run_ms(&f, 3000);
    fixture_append(&f, 1, 1, 10);
    (void)hf_fake_world_step(f.world); /* the pump: write of entry 1 is on its way */
    syncs = hf_fake_fs_ops(f.disk, HF_FAKE_SYNC);
    fixture_append(&f, 1, 500, 10);
    fixture_wait_durable(&f, 501);
    ck_assert_uint_eq(hf_fake_fs_ops(f.disk, HF_FAKE_SYNC) - syncs, 2);
    ck_assert_int_eq(f.durable_calls, 2);
    fixture_free(&f);
}
END_TEST

START_TEST(close_keeps_what_was_appended)
{
    struct fixture f;

    fixture_init(&f, 4, 65536);
    fixture_must_open(&f);
    fixture_append(&f, 3, 20, 50);
    fixture_close(&f);
    fixture_must_open(&f);
    ck_assert_uint_eq(f.state.next_index, 21);
    ck_assert(!f.state.torn_tail);
    fixture_free(&f);
}
END_TEST

START_TEST(vote_is_durable_in_both_slots)
{
    struct fixture f;
    uint64_t syncs;

    fixture_init(&f, 5, 65536);
    fixture_must_open(&f);
    fixture_run_ms(&f, 3000);
    syncs = hf_fake_fs_ops(f.disk, HF_FAKE_SYNC);
    hf_journal_set_vote(f.journal, 7, 2);
    ck_assert_int_eq(f.vote_calls, 0);
    fixture_run_ms(&f, 100);
    ck_assert_int_eq(f.vote_calls, 1);
    ck_assert_uint_eq(hf_fake_fs_ops(f.disk, HF_FAKE_SYNC) - syncs, 2);
    fixture_crash(&f, HF_FAKE_LOSS_ALL);
    /* Either slot alone is current. */
    for (uint64_t slot = 0; slot < 2; slot++) {
        ck_assert(hf_fake_fs_flip_bit(f.disk, "/j/vote", slot * 4096 + 24, 3));
        fixture_must_open(&f);
        ck_assert_uint_eq(f.state.term, 7);
        ck_assert_uint_eq(f.state.vote, 2);
        fixture_crash(&f, HF_FAKE_LOSS_ALL);
    }
    ck_assert(hf_fake_fs_flip_bit(f.disk, "/j/vote", 24, 3));
    ck_assert(hf_fake_fs_flip_bit(f.disk, "/j/vote", 4096 + 24, 3));
    ck_assert_int_eq(fixture_open(&f), HF_E_CORRUPT);
    ck_assert_ptr_nonnull(strstr(f.why, "vote"));
    fixture_free(&f);
}
END_TEST

START_TEST(vote_goes_ahead_of_waiting_appends)
{
    struct fixture f;

    fixture_init(&f, 6, 1 << 20);
    fixture_must_open(&f);
    fixture_append(&f, 1, 1, 10);
    (void)hf_fake_world_step(f.world);
    fixture_append(&f, 1, 100, 1000);
    hf_journal_set_vote(f.journal, 1, 1);
    while (f.vote_calls == 0)
        ck_assert(hf_fake_world_step(f.world));
    ck_assert_uint_le(f.durable, 1);
    fixture_wait_durable(&f, 101);
    fixture_free(&f);
}
END_TEST

START_TEST(truncated_entries_do_not_come_back)
{
    struct fixture f;

    fixture_init(&f, 7, 65536);
    fixture_must_open(&f);
    fixture_append(&f, 1, 10, 100);
    fixture_wait_durable(&f, 10);
    hf_journal_truncate_suffix(f.journal, 6);
    ck_assert_uint_eq(hf_journal_durable_index(f.journal), 5);
    ck_assert_uint_eq(hf_journal_next_index(f.journal), 6);
    f.durable = 5;
    fixture_append(&f, 2, 2, 40);
    fixture_wait_durable(&f, 7);
    fixture_crash(&f, HF_FAKE_LOSS_ALL);
    fixture_must_open(&f);
    ck_assert_uint_eq(f.state.next_index, 8);
    fixture_check_scan(&f, 1, 8);
    fixture_free(&f);
}
END_TEST

/* R12: the write of 5..10 is in flight, they are replaced; its completion may not report 10. */
START_TEST(completion_of_truncated_write_is_not_reported)
{
    struct fixture f;

    fixture_init(&f, 8, 65536);
    fixture_must_open(&f);
    fixture_append(&f, 1, 4, 10);
    fixture_wait_durable(&f, 4);
    fixture_append(&f, 1, 6, 10);
    (void)hf_fake_world_step(f.world); /* on its way */
    hf_journal_truncate_suffix(f.journal, 5);
    fixture_append(&f, 2, 6, 10);
    f.durable_calls = 0;
    hf_fake_fs_fail_at(f.disk, HF_FAKE_SYNC, 2, HF_E_IO, true);
    fixture_run_ms(&f, 500);
    ck_assert_int_ne(f.failed, 0);
    ck_assert_int_eq(f.durable_calls, 0);
    fixture_free(&f);
}
END_TEST

START_TEST(crash_at_every_step_of_a_truncation)
{
    for (uint64_t n = 1; n < 60; n++) {
        struct fixture f;
        bool died;

        fixture_init(&f, 900 + n, 16384);
        fixture_must_open(&f);
        fixture_append(&f, 1, 10, 300);
        fixture_wait_durable(&f, 10);
        hf_fake_fs_crash_at(f.disk, HF_FAKE_CHANGES, n, HF_FAKE_LOSS_RANDOM);
        hf_journal_truncate_suffix(f.journal, 5);
        f.durable = f.durable_calls = 0;
        fixture_append(&f, 2, 3, 200);
        fixture_run_ms(&f, 5000);
        died = hf_fake_fs_is_dead(f.disk);
        n = died ? n : 100;
        if (died) {
            uint64_t reported = f.durable;

            fixture_crash(&f, HF_FAKE_LOSS_RANDOM);
            fixture_must_open(&f);
            if (reported > 0)
                ck_assert_uint_gt(f.state.next_index, reported);
            /* the old log, or the cut one with some of the new entries */
            ck_assert(f.state.next_index == 11 || (f.state.next_index >= 5 && f.state.next_index <= 8));
            if (reported >= 5)
                ck_assert_uint_le(f.state.next_index, 8);
            fixture_check_scan(&f, 1, f.state.next_index);
        } else {
            ck_assert_uint_eq(f.durable, 7);
        }
        fixture_free(&f);
    }
}
END_TEST

START_TEST(reset_forgets_the_log_and_keeps_the_vote)
{
    struct fixture f;
    struct hf_log_entry *e;

    fixture_init(&f, 10, 16384);
    fixture_must_open(&f);
    hf_journal_set_vote(f.journal, 3, 1);
    fixture_append(&f, 3, 100, 400);
    fixture_wait_durable(&f, 100);
    f.durable_calls = 0;
    hf_journal_reset(f.journal, 501);
    ck_assert_uint_eq(hf_journal_first_index(f.journal), 501);
    ck_assert_uint_eq(hf_journal_next_index(f.journal), 501);
    ck_assert_int_eq(hf_journal_get(f.journal, 50, &e), HF_E_NOENT);
    while (f.durable_calls == 0)
        ck_assert(hf_fake_world_step(f.world));
    ck_assert_uint_eq(f.durable, 500);
    fixture_crash(&f, HF_FAKE_LOSS_ALL);
    fixture_must_open(&f);
    ck_assert_uint_eq(f.state.first_index, 501);
    ck_assert_uint_eq(f.state.next_index, 501);
    ck_assert_uint_eq(f.state.vote, 1);
    fixture_append(&f, 3, 5, 10);
    fixture_wait_durable(&f, 505);
    fixture_run_ms(&f, 3000);
    ck_assert_uint_le(hf_journal_disk_bytes(f.journal), 4 * 16384);
    fixture_crash(&f, HF_FAKE_LOSS_ALL);
    fixture_must_open(&f);
    ck_assert_uint_eq(f.state.next_index, 506);
    fixture_check_scan(&f, 501, 506);
    fixture_free(&f);
}
END_TEST

START_TEST(prefix_truncation_frees_whole_segments)
{
    struct fixture f;
    uint64_t first, before;

    fixture_init(&f, 11, 16384);
    fixture_must_open(&f);
    fixture_append(&f, 1, 500, 400);
    fixture_wait_durable(&f, 500);
    before = hf_journal_disk_bytes(f.journal);
    ck_assert_uint_gt(before, 500 * 400);
    hf_journal_truncate_prefix(f.journal, 250);
    first = hf_journal_first_index(f.journal);
    ck_assert_uint_le(first, 251);
    ck_assert_uint_gt(first, 200);
    fixture_run_ms(&f, 2000);
    ck_assert_uint_lt(hf_journal_disk_bytes(f.journal), before * 7 / 10);
    fixture_crash(&f, HF_FAKE_LOSS_ALL);
    fixture_must_open(&f);
    ck_assert_uint_eq(f.state.first_index, first);
    fixture_check_scan(&f, first, 501);
    fixture_free(&f);
}
END_TEST

START_TEST(segments_are_reused)
{
    struct fixture f;

    fixture_init(&f, 12, 16384);
    fixture_must_open(&f);
    for (int i = 0; i < 40; i++) {
        fixture_append(&f, 1, 20, 400);
        fixture_wait_durable(&f, hf_journal_next_index(f.journal) - 1);
        hf_journal_truncate_prefix(f.journal, hf_journal_next_index(f.journal) - 1);
        fixture_run_ms(&f, 20);
    }
    ck_assert_uint_le(hf_fake_fs_used(f.disk), 6 * 16384 + 3 * 8192);
    fixture_crash(&f, HF_FAKE_LOSS_EACH);
    fixture_must_open(&f);
    ck_assert_uint_eq(f.state.next_index, 801);
    fixture_check_scan(&f, f.state.first_index, 801);
    fixture_free(&f);
}
END_TEST

START_TEST(entry_larger_than_a_segment)
{
    struct fixture f;

    fixture_init(&f, 13, 16384);
    fixture_must_open(&f);
    fixture_append(&f, 1, 2, 10);
    fixture_append(&f, 1, 1, 300000);
    fixture_append(&f, 1, 50, 1000);
    fixture_wait_durable(&f, 53);
    fixture_crash(&f, HF_FAKE_LOSS_ALL);
    fixture_must_open(&f);
    fixture_check_scan(&f, 1, 54);
    fixture_free(&f);
}
END_TEST

START_TEST(old_entries_leave_memory_and_are_read_from_disk)
{
    struct fixture f;
    struct hf_log_entry *e;
    uint64_t n;

    fixture_init(&f, 14, 16384);
    fixture_must_open(&f);
    fixture_append(&f, 1, 300, 200);
    ck_assert_uint_gt(hf_journal_tail_bytes(f.journal), 300 * 200); /* unwritten ones stay */
    fixture_wait_durable(&f, 300);
    ck_assert_uint_le(hf_journal_tail_bytes(f.journal), f.config.tail_bytes_max);
    ck_assert_int_eq(hf_journal_get(f.journal, 300, &e), HF_OK);
    ck_assert_uint_eq(e->index, 300);
    hf_log_entry_unref(e);
    ck_assert_int_eq(hf_journal_get(f.journal, 10, &e), HF_E_AGAIN);
    ck_assert_int_eq(hf_journal_get(f.journal, 0, &e), HF_E_NOENT);
    ck_assert_int_eq(hf_journal_get(f.journal, 301, &e), HF_E_NOENT);
    for (uint64_t at = 1; at <= 300; at += n) {
        ck_assert_int_eq(fixture_read(&f, at, 64, 100000, &n), HF_OK);
        ck_assert_uint_ge(n, 1);
        ck_assert_uint_le(n, 64);
    }
    ck_assert_int_eq(fixture_read(&f, 5, 100, 450, &n), HF_OK);
    ck_assert_uint_eq(n, 2);
    ck_assert_int_eq(fixture_read(&f, 5, 100, 1, &n), HF_OK);
    ck_assert_uint_eq(n, 1);
    ck_assert_int_eq(fixture_read(&f, 301, 1, 1, &n), HF_E_NOENT);
    fixture_free(&f);
}
END_TEST

struct slow_read {
    int rc;
    bool done;
    size_t n;
};

static void on_slow_read(struct hf_journal_read *req, int rc, struct hf_log_entry **entries, size_t n)
{
    struct slow_read *s = req->data;

    s->rc = rc;
    s->n = n;
    s->done = true;
    for (size_t i = 0; i < n; i++)
        hf_log_entry_unref(entries[i]);
}

START_TEST(read_meets_a_truncation_on_its_way)
{
    struct fixture f;
    struct slow_read s = {0};
    struct hf_journal_read req = {.data = &s, .cb = on_slow_read, .first = 10, .n_max = 50, .bytes_max = 100000};

    fixture_init(&f, 15, 65536);
    fixture_must_open(&f);
    fixture_append(&f, 1, 100, 200);
    fixture_wait_durable(&f, 100);
    hf_journal_read(f.journal, &req);
    hf_journal_truncate_suffix(f.journal, 15);
    fixture_run_ms(&f, 100);
    ck_assert(s.done);
    ck_assert_int_eq(s.rc, HF_OK);
    ck_assert_uint_eq(s.n, 5);
    s.done = false;
    hf_journal_read(f.journal, &req);
    hf_journal_truncate_suffix(f.journal, 10);
    fixture_run_ms(&f, 100);
    ck_assert(s.done);
    ck_assert_int_eq(s.rc, HF_E_NOENT);
    /* A read that runs when the journal closes is still answered. */
    s.done = false;
    req.first = 3;
    hf_journal_read(f.journal, &req);
    fixture_close(&f);
    ck_assert(s.done);
    ck_assert_int_eq(s.rc, HF_E_CLOSED);
    fixture_free(&f);
}
END_TEST

/* Many reads queue up, and the files they need go out of the log meanwhile: each is answered from its file. */
START_TEST(prefix_truncation_waits_for_running_reads)
{
    struct fixture f;
    struct slow_read s[40] = {0};
    struct hf_journal_read req[40];

    fixture_init(&f, 16, 16384);
    fixture_must_open(&f);
    fixture_append(&f, 1, 300, 400);
    fixture_wait_durable(&f, 300);
    fixture_run_ms(&f, 100);
    for (int i = 0; i < 40; i++) {
        req[i] = (struct hf_journal_read){.data = &s[i], .cb = on_slow_read, .n_max = 5, .bytes_max = 100000};
        req[i].first = 1 + (uint64_t)i * 5;
        hf_journal_read(f.journal, &req[i]);
    }
    hf_journal_truncate_prefix(f.journal, 290);
    fixture_run_ms(&f, 3000);
    for (int i = 0; i < 40; i++) {
        ck_assert(s[i].done);
        ck_assert_int_eq(s[i].rc, HF_OK);
        ck_assert_uint_ge(s[i].n, 1);
    }
    ck_assert_uint_le(hf_journal_disk_bytes(f.journal), 4 * 16384);
    fixture_free(&f);
}
END_TEST

START_TEST(full_disk_uses_the_reserve_then_fails)
{
    struct fixture f;
    const uint8_t *data;
    uint64_t size;

    fixture_init(&f, 17, 16384);
    f.config.reserve_bytes = 32768;
    fixture_must_open(&f);
    fixture_run_ms(&f, 3000);
    ck_assert(hf_fake_fs_peek(f.disk, "/j/ballast", &data, &size));
    ck_assert_uint_eq(size, 32768);
    hf_fake_fs_set_capacity(f.disk, hf_fake_fs_used(f.disk) + 1000);
    fixture_append(&f, 1, 60, 400);
    fixture_wait_durable(&f, 60); /* needs a third and a fourth segment: the ballast made room */
    ck_assert(!hf_fake_fs_peek(f.disk, "/j/ballast", &data, &size));
    fixture_append(&f, 1, 500, 400);
    fixture_run_ms(&f, 10000);
    ck_assert_int_eq(f.failed, HF_E_NOSPC);
    fixture_crash(&f, HF_FAKE_LOSS_ALL);
    hf_fake_fs_set_capacity(f.disk, 0);
    fixture_must_open(&f);
    ck_assert_uint_ge(f.state.next_index, 61);
    fixture_check_scan(&f, 1, f.state.next_index);
    fixture_run_ms(&f, 3000);
    ck_assert(hf_fake_fs_peek(f.disk, "/j/ballast", &data, &size)); /* and is back */
    fixture_free(&f);
}
END_TEST

START_TEST(full_disk_that_is_freed_in_time_is_survived)
{
    struct fixture f;

    fixture_init(&f, 18, 16384);
    f.config.reserve_bytes = HF_JOURNAL_NO_RESERVE;
    fixture_must_open(&f);
    fixture_run_ms(&f, 3000);
    hf_fake_fs_set_capacity(f.disk, hf_fake_fs_used(f.disk) + 100);
    fixture_append(&f, 1, 40, 400); /* into the spare; no space for the one after it */
    fixture_wait_durable(&f, 40);
    fixture_run_ms(&f, 3000);
    ck_assert_int_eq(f.failed, 0);
    hf_fake_fs_set_capacity(f.disk, 0);
    fixture_run_ms(&f, 3000);
    fixture_append(&f, 1, 200, 400);
    fixture_wait_durable(&f, 240);
    fixture_free(&f);
}
END_TEST

/* Fail the n-th change of the disk, for every n until nothing fails any more: reported once, never retried, and
 * what was reported durable before is there afterwards. */
START_TEST(every_failing_operation_is_reported_and_loses_nothing)
{
    static const int errors[] = {HF_E_IO, HF_E_NOSPC};

    for (size_t k = 0; k < 2; k++) {
        bool failed = true;

        for (uint64_t n = 1; failed; n++) {
            struct fixture f;
            uint64_t durable = 0;
            int rc;

            fixture_init(&f, 5000 + n, 16384);
            hf_fake_fs_fail_at(f.disk, HF_FAKE_CHANGES, n, errors[k], true);
            rc = fixture_open(&f);
            if (rc == HF_OK) {
                fixture_append(&f, 1, 30, 300);
                fixture_run_ms(&f, 200);
                hf_journal_set_vote(f.journal, 1, 1);
                fixture_append(&f, 1, 60, 300);
                fixture_run_ms(&f, 200);
                hf_journal_truncate_suffix(f.journal, 80);
                f.durable = f.durable < 80 ? f.durable : 79;
                fixture_append(&f, 2, 60, 300);
                fixture_run_ms(&f, 2000);
                hf_journal_truncate_prefix(f.journal, 50);
                fixture_run_ms(&f, 2000);
                durable = f.durable;
                failed = f.failed != 0;
                if (!failed)
                    ck_assert_uint_eq(durable, 139);
            } else {
                ck_assert_uint_gt(strlen(f.why), 0);
            }
            /* With the power lost as well: unsynced bytes are gone. */
            fixture_crash(&f, HF_FAKE_LOSS_RANDOM);
            fixture_must_open(&f);
            ck_assert_uint_gt(f.state.next_index, durable);
            fixture_check_scan(&f, f.state.first_index, f.state.next_index);
            fixture_free(&f);
            ck_assert_uint_lt(n, 1000);
        }
    }
}
END_TEST

static int stop_at_5(void *data, struct hf_log_entry *e)
{
    (void)data;
    return e->index == 5 ? 42 : 0;
}

START_TEST(scan_stops_when_told)
{
    struct fixture f;

    fixture_init(&f, 19, 65536);
    fixture_must_open(&f);
    fixture_append(&f, 1, 10, 10);
    fixture_close(&f);
    fixture_must_open(&f);
    ck_assert_int_eq(hf_journal_scan(f.journal, 1, stop_at_5, NULL), 42);
    fixture_free(&f);
}
END_TEST

START_TEST(stall_is_seen_while_the_disk_hangs)
{
    struct fixture f;

    fixture_init(&f, 20, 65536);
    fixture_must_open(&f);
    fixture_run_ms(&f, 3000);
    ck_assert_uint_eq(hf_journal_stall_ms(f.journal), 0);
    hf_fake_node_set_disk(f.world, 0, 60000000, 60000001);
    fixture_append(&f, 1, 1, 10);
    fixture_run_ms(&f, 5000);
    ck_assert_uint_ge(hf_journal_stall_ms(f.journal), 4900);
    fixture_free(&f);
}
END_TEST

Suite *journal_suite(void)
{
    Suite *s = suite_create("journal");
    TCase *t = tcase_create("journal");

    tcase_set_timeout(t, 120);
    tcase_add_test(t, new_journal_is_empty);
    tcase_add_test(t, appended_entries_become_durable_and_survive);
    tcase_add_test(t, what_waits_goes_into_one_write);
    tcase_add_test(t, close_keeps_what_was_appended);
    tcase_add_test(t, vote_is_durable_in_both_slots);
    tcase_add_test(t, vote_goes_ahead_of_waiting_appends);
    tcase_add_test(t, truncated_entries_do_not_come_back);
    tcase_add_test(t, completion_of_truncated_write_is_not_reported);
    tcase_add_test(t, crash_at_every_step_of_a_truncation);
    tcase_add_test(t, reset_forgets_the_log_and_keeps_the_vote);
    tcase_add_test(t, prefix_truncation_frees_whole_segments);
    tcase_add_test(t, segments_are_reused);
    tcase_add_test(t, entry_larger_than_a_segment);
    tcase_add_test(t, old_entries_leave_memory_and_are_read_from_disk);
    tcase_add_test(t, read_meets_a_truncation_on_its_way);
    tcase_add_test(t, prefix_truncation_waits_for_running_reads);
    tcase_add_test(t, full_disk_uses_the_reserve_then_fails);
    tcase_add_test(t, full_disk_that_is_freed_in_time_is_survived);
    tcase_add_test(t, every_failing_operation_is_reported_and_loses_nothing);
    tcase_add_test(t, scan_stops_when_told);
    tcase_add_test(t, stall_is_seen_while_the_disk_hangs);
    suite_add_tcase(s, t);
    return s;
}
