/* test_space.c: how much of the disk and of memory the journal takes, and what it says about that. */
#include "fixture.h"
#include "journal/format.h"

#define VOTE_BYTES 8192u

static void check_counted(struct fixture *f)
{
    fixture_run_ms(f, 2000); /* until preparing, sealing and deleting is done */
    ck_assert_uint_eq(hf_journal_disk_bytes(f->journal) + VOTE_BYTES, hf_fake_fs_used(f->disk));
}

/* Every file in the directory is counted, whatever the log went through. */
START_TEST(bytes_on_disk_are_those_of_the_files)
{
    struct fixture f;

    fixture_init(&f, 41, 16384);
    fixture_must_open(&f);
    check_counted(&f);
    fixture_append(&f, 1, 300, 400);
    fixture_wait_durable(&f, 300);
    check_counted(&f);
    hf_journal_truncate_prefix(f.journal, 200); /* one file is kept for reuse now */
    check_counted(&f);
    fixture_append(&f, 1, 3, 40000); /* segments of their own size */
    fixture_wait_durable(&f, 303);
    check_counted(&f);
    hf_journal_truncate_suffix(f.journal, 302);
    check_counted(&f);
    fixture_close(&f);
    fixture_must_open(&f);
    check_counted(&f);
    hf_journal_reset(f.journal, 1000);
    check_counted(&f);
    fixture_free(&f);
}
END_TEST

static void check_bound(struct fixture *f, uint64_t kept, uint32_t len, uint64_t rounds)
{
    uint64_t bound = hf_journal_bytes_bound(f->journal, kept, 0, len), most = 0;

    if (hf_journal_first_within(f->journal, kept) > 1)
        hf_journal_truncate_prefix(f->journal, hf_journal_first_within(f->journal, kept) - 1);
    fixture_run_ms(f, 1000);
    for (uint64_t i = 0; i < rounds; i++) {
        uint64_t first;

        fixture_append(f, 1, 1, len);
        fixture_wait_durable(f, hf_journal_next_index(f->journal) - 1);
        first = hf_journal_first_within(f->journal, kept);
        if (first > 1)
            hf_journal_truncate_prefix(f->journal, first - 1);
        if (hf_journal_disk_bytes(f->journal) > most)
            most = hf_journal_disk_bytes(f->journal);
        ck_assert_uint_le(hf_journal_disk_bytes(f->journal), bound);
        ck_assert_uint_le(hf_fake_fs_used(f->disk), bound + VOTE_BYTES);
    }
    /* The cut does not throw away more than it must, and there was something to cut. */
    ck_assert_uint_ge(most + 2 * (16384 + len), kept);
    ck_assert_uint_gt(hf_journal_first_index(f->journal), 1);
}

/* Entries written one by one take several times the bytes of their records, and those that fill half a segment leave
 * the other half empty: a journal that is cut by bytes of files stays within the bound all the same. */
START_TEST(a_journal_cut_by_files_stays_within_its_bound)
{
    static const uint32_t lens[] = {0, 10, 400, 8300, 16000, 40000};
    static const uint64_t rounds[] = {3000, 3000, 900, 60, 40, 30};
    struct fixture f;

    fixture_init(&f, 42 + (uint64_t)_i, 16384);
    fixture_must_open(&f);
    check_bound(&f, 100000, lens[_i], rounds[_i]);
    check_bound(&f, 60000, 10, 1000); /* of another size from here on */
    fixture_free(&f);
}
END_TEST

START_TEST(a_cut_within_no_bytes_keeps_the_active_segment)
{
    struct fixture f;

    fixture_init(&f, 50, 16384);
    fixture_must_open(&f);
    ck_assert_uint_eq(hf_journal_first_within(f.journal, 0), 1);
    fixture_append(&f, 1, 100, 400);
    fixture_wait_durable(&f, 100);
    ck_assert_uint_eq(hf_journal_first_within(f.journal, UINT64_MAX), 1);
    ck_assert_uint_gt(hf_journal_first_within(f.journal, 0), 50);
    ck_assert_uint_le(hf_journal_first_within(f.journal, 0), 100);
    fixture_free(&f);
}
END_TEST

START_TEST(entries_that_wait_for_the_disk_are_counted)
{
    struct fixture f;

    fixture_init(&f, 51, 16384);
    fixture_must_open(&f);
    ck_assert_uint_eq(hf_journal_waiting_bytes(f.journal), 0);
    fixture_append(&f, 1, 10, 400);
    ck_assert_uint_eq(hf_journal_waiting_bytes(f.journal), 10 * hf_jrecord_size(400));
    fixture_wait_durable(&f, 10);
    ck_assert_uint_eq(hf_journal_waiting_bytes(f.journal), 0);
    fixture_append(&f, 1, 5, 100);
    hf_journal_truncate_suffix(f.journal, 13);
    ck_assert_uint_eq(hf_journal_waiting_bytes(f.journal), 2 * hf_jrecord_size(100));
    fixture_free(&f);
}
END_TEST

/* A hung write of entries or of term and vote is seen, and only while it lasts. */
START_TEST(a_write_that_does_not_end_is_seen)
{
    struct fixture f;

    fixture_init(&f, 52, 16384);
    fixture_must_open(&f);
    fixture_run_ms(&f, 3000);
    ck_assert_uint_eq(hf_journal_stall_ms(f.journal), 0);
    hf_fake_node_set_disk(f.world, 0, 5000000, 5000000);
    fixture_append(&f, 1, 1, 10);
    fixture_run_ms(&f, 2000);
    ck_assert_uint_ge(hf_journal_stall_ms(f.journal), 1900);
    fixture_run_ms(&f, 10000);
    ck_assert_uint_eq(hf_journal_stall_ms(f.journal), 0);
    hf_journal_set_vote(f.journal, 7, 1);
    fixture_run_ms(&f, 2000);
    ck_assert_uint_ge(hf_journal_stall_ms(f.journal), 1900);
    fixture_run_ms(&f, 10000);
    ck_assert_uint_eq(hf_journal_stall_ms(f.journal), 0);
    fixture_free(&f);
}
END_TEST

/* A file kept for reuse that has the size of segments of an earlier configuration would never be used. */
START_TEST(files_without_use_are_removed_at_start)
{
    struct fixture f;
    const uint8_t *data;
    uint64_t size;

    fixture_init(&f, 53, 16384);
    fixture_must_open(&f);
    fixture_append(&f, 1, 200, 400);
    fixture_wait_durable(&f, 200);
    hf_journal_truncate_prefix(f.journal, 150);
    fixture_run_ms(&f, 2000);
    ck_assert(hf_fake_fs_peek(f.disk, "/j/recycle.tmp", &data, &size));
    fixture_close(&f);
    f.config.segment_bytes = 32768;
    fixture_must_open(&f);
    ck_assert(!hf_fake_fs_peek(f.disk, "/j/recycle.tmp", &data, &size));
    check_counted(&f);
    fixture_free(&f);
}
END_TEST

Suite *space_suite(void)
{
    Suite *s = suite_create("space");
    TCase *t = tcase_create("space");

    tcase_add_test(t, bytes_on_disk_are_those_of_the_files);
    tcase_add_loop_test(t, a_journal_cut_by_files_stays_within_its_bound, 0, 6);
    tcase_add_test(t, a_cut_within_no_bytes_keeps_the_active_segment);
    tcase_add_test(t, entries_that_wait_for_the_disk_are_counted);
    tcase_add_test(t, a_write_that_does_not_end_is_seen);
    tcase_add_test(t, files_without_use_are_removed_at_start);
    tcase_set_timeout(t, 60);
    suite_add_tcase(s, t);
    return s;
}
