/* Local copies: made once, shared, read, given up, deleted. */
#include "harness.h"
#include "suites.h"

struct asked { /* one request for a reader */
    struct hf_snapshot_request req;
    int answers, rc;
    struct hf_snapshot_reader *reader;
    char why[256];
};

static void on_reader(struct hf_snapshot_request *req, int rc, struct hf_snapshot_reader *reader, const char *why)
{
    struct asked *a = req->data;

    a->answers++;
    a->rc = rc;
    a->reader = reader;
    snprintf(a->why, sizeof(a->why), "%s", why != NULL ? why : "");
}

static void ask(struct node *n, struct asked *a)
{
    *a = (struct asked){.req = {.data = a, .cb = on_reader}};
    hf_snapshots_copy(n->s, &a->req);
    ck_assert_int_eq(a->answers, 0); /* never from inside */
}

struct reading {
    struct hf_snapshot_read read;
    int answers, rc;
    struct hf_buf bytes;
};

static void on_read(struct hf_snapshot_read *read, int rc, struct hf_slice bytes)
{
    struct reading *r = read->data;

    r->answers++;
    r->rc = rc;
    hf_buf_put(&r->bytes, bytes.ptr, bytes.len);
}

static void read_piece(struct hf_snapshot_reader *reader, struct reading *r, uint64_t offset, size_t n)
{
    int before = r->answers;

    r->read = (struct hf_snapshot_read){.data = r, .cb = on_read, .offset = offset, .n = n};
    hf_snapshot_reader_read(reader, &r->read);
    ck_assert_int_eq(r->answers, before);
    for (int i = 0; i < 1000 && r->answers == before; i++)
        run(1);
    ck_assert_int_eq(r->answers, before + 1);
}

static bool is_delivered(void)
{
    return nodes[0].delivered > 0;
}

static bool has_failed(void)
{
    return nodes[0].failed > 0;
}

static void assert_reads_all(struct node *n, struct hf_snapshot_reader *reader)
{
    struct hf_buf want = {0};
    struct reading r = {0};

    fake_store_image(&fake_store.live[n->number], &want);
    ck_assert_uint_eq(hf_snapshot_reader_info(reader)->bytes, want.len);
    while (r.bytes.len < want.len) {
        size_t before = r.bytes.len;

        read_piece(reader, &r, before, 100000);
        ck_assert_int_eq(r.rc, 0);
        ck_assert_uint_gt(r.bytes.len, before);
    }
    ck_assert(hf_slice_eq(hf_buf_slice(&r.bytes), hf_buf_slice(&want)));
    read_piece(reader, &r, want.len, 10); /* at the end: nothing */
    ck_assert_int_eq(r.rc, 0);
    ck_assert_uint_eq(r.bytes.len, want.len);
    hf_buf_free(&r.bytes);
    hf_buf_free(&want);
}

START_TEST(test_backup_reads_a_copy_beside_a_transfer)
{
    struct node *a = start(0), *b = start(1);
    struct asked first, second;

    send_to(a, b, 1);
    ask(a, &first);
    ask(a, &second);
    run(100);
    ck_assert_int_eq(first.answers, 1);
    ck_assert_int_eq(first.rc, 0);
    ck_assert_uint_eq(hf_snapshot_reader_info(first.reader)->index, 100);
    ck_assert(hf_slice_eq(hf_snapshot_reader_info(first.reader)->configuration, hf_slice_str("A, B and C")));
    assert_reads_all(a, first.reader);
    assert_reads_all(a, second.reader);
    ck_assert(run_until(10 * SECONDS, is_delivered));
    assert_received(b, &fake_store.live[0]);
    ck_assert_uint_eq(counter(a, "snapshot_copies_total", NULL), 1);
    hf_snapshots_stop(a->s, 0);
    run(20 * SECONDS);
    ck_assert_int_eq(files(a), 1);
    ck_assert_uint_eq(a->pin, 0); /* a backup needs no log */
    hf_snapshot_reader_close(first.reader);
    run(20 * SECONDS);
    ck_assert_int_eq(files(a), 1);
    assert_reads_all(a, second.reader);
    hf_snapshot_reader_close(second.reader);
    run(11 * SECONDS);
    ck_assert_int_eq(files(a), 0);
}
END_TEST

START_TEST(test_backup_gets_a_fresh_copy_when_the_last_is_old)
{
    struct node *a = start(0);
    struct asked first, second, third;

    ask(a, &first);
    run(100);
    set_live(a, 200, MB);
    ask(a, &second);
    run(5 * SECONDS);
    ck_assert_uint_eq(hf_snapshot_reader_info(second.reader)->index, 100);
    run(6 * SECONDS);
    ask(a, &third);
    run(SECONDS);
    ck_assert_uint_eq(hf_snapshot_reader_info(third.reader)->index, 200);
    ck_assert_int_eq(files(a), 2);
    hf_snapshot_reader_close(first.reader);
    hf_snapshot_reader_close(second.reader);
    hf_snapshot_reader_close(third.reader);
}
END_TEST

/* There are never more files than a few, whoever reads them. */
START_TEST(test_number_of_copies_is_bounded)
{
    struct node *a = start(0), *b = start(1);
    struct asked asked[HF_COPY_FILES_MAX], more;

    for (unsigned i = 0; i < HF_COPY_FILES_MAX; i++) {
        set_live(a, 100 + i, MB);
        ask(a, &asked[i]);
        run(11 * SECONDS);
        ck_assert_int_eq(asked[i].answers, 1);
    }
    set_live(a, 1000, MB);
    ask(a, &more);
    send_to(a, b, 900);
    run(20 * SECONDS);
    ck_assert_int_eq(files(a), (int)HF_COPY_FILES_MAX);
    ck_assert_int_eq(more.answers, 0);
    hf_snapshot_reader_close(asked[0].reader);
    run(2 * SECONDS);
    ck_assert_int_eq(more.answers, 1);
    ck_assert_uint_eq(hf_snapshot_reader_info(more.reader)->index, 1000);
    ck_assert(run_until(10 * SECONDS, is_delivered));
    ck_assert_int_eq(files(a), (int)HF_COPY_FILES_MAX);
    for (unsigned i = 1; i < HF_COPY_FILES_MAX; i++)
        hf_snapshot_reader_close(asked[i].reader);
    hf_snapshot_reader_close(more.reader);
}
END_TEST

START_TEST(test_recent_copy_serves_the_next_member)
{
    struct node *a = start(0), *b = start(1), *c = start(2);

    send_to(a, b, 1);
    ck_assert(run_until(10 * SECONDS, is_delivered));
    hf_snapshots_stop(a->s, 0);
    run(5 * SECONDS);
    set_live(a, 300, MB);
    a->delivered = 0;
    send_to(a, c, 100);
    ck_assert(run_until(10 * SECONDS, is_delivered));
    ck_assert_uint_eq(a->last.info.index, 100);
    ck_assert_uint_eq(counter(a, "snapshot_copies_total", NULL), 1);
    hf_snapshots_stop(a->s, 0);
    send_to(a, b, 101); /* too old for this */
    a->delivered = 0;
    ck_assert(run_until(10 * SECONDS, is_delivered));
    ck_assert_uint_eq(a->last.info.index, 300);
}
END_TEST

static void fail_open(struct node *n)
{
    fake_store.live[n->number].open_rc = HF_E_IO;
}
static void fail_first_step(struct node *n)
{
    fake_store.live[n->number].step_rc = HF_E_CORRUPT;
}
static void fail_late(struct node *n)
{
    fake_store.live[n->number].step_rc = HF_E_IO;
    fake_store.live[n->number].fail_at = MB - 1;
}
static void fail_full(struct node *n)
{
    hf_sim_disk_limit(hf_sim_node_fs(n->fake), 500 * KB);
}
static void fail_nothing_applied(struct node *n)
{
    fake_store.live[n->number].index = 0;
}

struct copy_fault {
    void (*make)(struct node *n);
    int rc;
    const char *why;
};

static const struct copy_fault copy_faults[] = {
    {fail_open, HF_E_IO, "n0/state-1.db: cannot be opened by this test"},
    {fail_first_step, HF_E_CORRUPT, "the copy fails in this test"},
    {fail_late, HF_E_IO, "the copy fails in this test"},
    {fail_full, HF_E_NOSPC, "the copy fails in this test"},
    {fail_nothing_applied, HF_E_AGAIN, "nothing was applied to the database yet"},
};

START_TEST(test_copy_that_fails_is_told_to_everyone_and_leaves_nothing)
{
    struct node *a = start(0), *b = start(1);
    struct asked asked;

    fake_store.live[0].step_bytes = 100 * KB;
    copy_faults[_i].make(a);
    send_to(a, b, 1);
    ask(a, &asked);
    ck_assert(run_until(10 * SECONDS, has_failed));
    run(100);
    ck_assert_str_eq(a->why, copy_faults[_i].why);
    ck_assert_int_eq(asked.answers, 1);
    ck_assert_int_eq(asked.rc, copy_faults[_i].rc);
    ck_assert_ptr_null(asked.reader);
    ck_assert_str_eq(asked.why, copy_faults[_i].why);
    ck_assert_int_eq(files(a), 0);
    ck_assert_uint_eq(a->pin, 0);
    ck_assert_uint_eq(counter(a, "snapshot_copies_failed_total", NULL), 1);
    /* The fault is mended: the next try goes well. */
    hf_sim_disk_limit(hf_sim_node_fs(a->fake), 0);
    set_live(a, 100, MB);
    send_to(a, b, 1);
    ck_assert(run_until(10 * SECONDS, is_delivered));
}
END_TEST

START_TEST(test_copy_that_takes_too_long_is_given_up)
{
    struct node *a = boot(0), *b = start(1);

    a->config.copy_ms_max = 20 * SECONDS;
    open_node(a);
    fake_store.live[0].step_bytes = 1;
    send_to(a, b, 1);
    ck_assert(run_until(60 * SECONDS, has_failed));
    ck_assert_str_eq(a->why, "the local copy takes longer than 20 s");
    run(100);
    ck_assert_int_eq(files(a), 0);
}
END_TEST

START_TEST(test_copy_that_nobody_wants_any_more_is_given_up)
{
    struct node *a = start(0), *b = start(1);

    fake_store.live[0].step_bytes = 1000;
    send_to(a, b, 1);
    run(50);
    ck_assert_int_eq(files(a), 1);
    hf_snapshots_stop(a->s, id_of(1));
    run(50);
    ck_assert_int_eq(files(a), 0);
    ck_assert_int_eq(a->failed, 0);
    ck_assert_uint_eq(a->pin, 0);
}
END_TEST

START_TEST(test_copy_that_is_always_too_old_fails_the_transfer_at_last)
{
    struct node *a = start(0), *b = start(1);

    send_to(a, b, 101);
    ck_assert(run_until(60 * SECONDS, has_failed));
    ck_assert_str_eq(a->why, "no copy with index 101 or later comes about");
    ck_assert_uint_eq(counter(a, "snapshot_copies_total", NULL), HF_COPY_ATTEMPTS_MAX);
    run(20 * SECONDS);
    ck_assert_int_eq(files(a), 0);
}
END_TEST

START_TEST(test_copy_waits_until_there_is_a_live_database)
{
    struct node *a = start(0), *b = start(1);

    a->has_no_live = true;
    send_to(a, b, 1);
    run(5 * SECONDS);
    ck_assert_int_eq(files(a), 0);
    a->has_no_live = false;
    ck_assert(run_until(10 * SECONDS, is_delivered));
}
END_TEST

START_TEST(test_copy_that_cannot_be_read_fails_the_transfer_and_is_not_used_again)
{
    struct node *a = start(0), *b = start(1);

    fake_store.live[0].step_bytes = MB;
    send_to(a, b, 1);
    for (int i = 0; i < 10000 && counter(a, "snapshot_copies_total", NULL) == 0; i++)
        hf_sim_world_step(world, hf_sim_world_now_ms(world) + 1);
    hf_sim_disk_fail(hf_sim_node_fs(a->fake), HF_SIM_READ, 1, HF_E_IO, false);
    ck_assert(run_until(10 * SECONDS, has_failed));
    ck_assert_str_eq(a->why, "the local copy cannot be read at 0: input/output error");
    send_to(a, b, 1);
    ck_assert(run_until(10 * SECONDS, is_delivered));
    assert_received(b, &fake_store.live[0]);
    ck_assert_uint_eq(counter(a, "snapshot_copies_total", NULL), 2);
}
END_TEST

/* A copy that a target found damaged may still be open for a backup: no other target gets it. */
START_TEST(test_damaged_copy_is_given_to_nobody_else)
{
    struct node *a = start(0), *b = start(1);
    struct asked backup;

    ask(a, &backup);
    run(100);
    ck_assert_int_eq(backup.answers, 1);
    ck_assert(hf_sim_disk_flip(hf_sim_node_fs(a->fake), "n0/copy-1.db", 700000, 3));
    send_to(a, b, 1);
    ck_assert(run_until(20 * SECONDS, has_failed));
    send_to(a, b, 1);
    ck_assert(run_until(20 * SECONDS, is_delivered));
    ck_assert_uint_eq(counter(a, "snapshot_copies_total", NULL), 2);
    ck_assert_int_eq(a->failed, 1);
    hf_snapshot_reader_close(backup.reader);
}
END_TEST

/* Closing at any moment: nothing leaks, nothing is called, no file stays. */
START_TEST(test_close_at_any_moment)
{
    for (uint64_t us = 0; us < 60; us++) {
        struct node *a = start(0), *b = start(1);
        struct asked asked;
        struct hf_fs *fs;

        fake_store.live[0].step_bytes = 300 * KB;
        send_to(a, b, 1);
        ask(a, &asked);
        for (uint64_t i = 0; i < us * us; i++)
            hf_sim_world_step(world, hf_sim_world_now_ms(world) + 1000);
        hf_peers_close(a->p);
        a->p = NULL;
        hf_peers_close(b->p);
        b->p = NULL;
        fs = a->env->fs;
        hf_snapshots_close(a->s);
        a->s = NULL;
        ck_assert_int_eq(files(a), 0);
        if (asked.answers != 0)
            hf_snapshot_reader_close(asked.reader); /* still its owner's to close */
        ck_assert_int_eq(hf_sim_disk_open_files(hf_sim_node_fs(a->fake)), 0);
        (void)fs;
        hf_snapshots_close(b->s);
        b->s = NULL;
        ck_assert_int_eq(files(b), 0);
        ck_assert_int_eq(hf_sim_disk_open_files(hf_sim_node_fs(b->fake)), 0);
        ck_assert_int_eq(fake_store.copies_open, 0);
        stop(a);
        stop(b);
    }
}
END_TEST

START_TEST(test_left_overs_are_removed_and_nothing_else)
{
    static const char *const names[] = {
        "n0/copy-1.db",         "n0/copy-77.db-wal", "n0/incoming.db",    "n0/incoming.db-shm",
        "n0/copy-3.db-journal", "n0/state-1.db",     "n0/copy-notes.txt", "n0/CURRENT"};
    struct node *a = boot(0);
    struct hf_fs *fs = a->env->fs;
    struct hf_file *f;

    for (int i = 0; i < COUNT(names); i++) {
        ck_assert_int_eq(fs->open(fs, names[i], HF_FS_WRITE | HF_FS_CREATE, &f), 0);
        fs->close(fs, f);
    }
    open_node(a);
    for (int i = 0; i < COUNT(names); i++) {
        int rc = fs->open(fs, names[i], HF_FS_READ, &f);

        ck_assert_int_eq(rc, i < 5 ? HF_E_NOENT : 0);
        if (rc == 0)
            fs->close(fs, f);
    }
}
END_TEST

START_TEST(test_left_over_that_cannot_be_removed_stops_the_start)
{
    struct node *a = boot(0);
    struct hf_fs *fs = a->env->fs;
    struct hf_snapshots_events events = {0};
    struct hf_snapshots *s;
    struct hf_file *f;
    char why[256] = "";

    ck_assert_int_eq(fs->open(fs, "n0/copy-1.db", HF_FS_WRITE | HF_FS_CREATE, &f), 0);
    fs->close(fs, f);
    hf_sim_disk_fail(hf_sim_node_fs(a->fake), HF_SIM_META, 1, HF_E_IO, true);
    ck_assert_int_eq(hf_snapshots_open(a->env, &a->config, &events, a->stats, &s, why, sizeof(why)), HF_E_IO);
    ck_assert_ptr_nonnull(strstr(why, "n0"));
    hf_sim_disk_fail(hf_sim_node_fs(a->fake), HF_SIM_META, 0, 0, false);
}
END_TEST

Suite *copy_suite(void)
{
    Suite *s = suite_create("copy");
    TCase *t = tcase_create("copy");

    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, test_backup_reads_a_copy_beside_a_transfer);
    tcase_add_test(t, test_backup_gets_a_fresh_copy_when_the_last_is_old);
    tcase_add_test(t, test_number_of_copies_is_bounded);
    tcase_add_test(t, test_recent_copy_serves_the_next_member);
    tcase_add_loop_test(t, test_copy_that_fails_is_told_to_everyone_and_leaves_nothing, 0, COUNT(copy_faults));
    tcase_add_test(t, test_copy_that_takes_too_long_is_given_up);
    tcase_add_test(t, test_copy_that_nobody_wants_any_more_is_given_up);
    tcase_add_test(t, test_copy_that_is_always_too_old_fails_the_transfer_at_last);
    tcase_add_test(t, test_copy_waits_until_there_is_a_live_database);
    tcase_add_test(t, test_copy_that_cannot_be_read_fails_the_transfer_and_is_not_used_again);
    tcase_add_test(t, test_damaged_copy_is_given_to_nobody_else);
    tcase_add_test(t, test_close_at_any_moment);
    tcase_add_test(t, test_left_overs_are_removed_and_nothing_else);
    tcase_add_test(t, test_left_over_that_cannot_be_removed_stops_the_start);
    suite_add_tcase(s, t);
    return s;
}
