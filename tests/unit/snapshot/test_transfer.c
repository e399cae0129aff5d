/* Transfers that go well: what arrives, how fast, in how much memory, over how many links. */
#include "harness.h"
#include "suites.h"

static bool is_delivered(void)
{
    return nodes[0].delivered > 0;
}

static bool has_failed(void)
{
    return nodes[0].failed > 0;
}

static bool is_half_way(void)
{
    return progress_of(&nodes[1]).done_bytes > fake_store.live[0].bytes / 2;
}

START_TEST(test_copy_arrives_byte_for_byte_and_is_installed_once)
{
    struct node *a = start(0), *b = start(1);
    struct hf_snapshot_info info;
    char path[64];

    send_to(a, b, 90);
    run(0);
    ck_assert_uint_eq(a->pin, 90); /* the copy's own index is not known yet */
    ck_assert_str_eq(progress_of(a).phase, "copying");
    ck_assert(run_until(10 * SECONDS, is_delivered));
    ck_assert_uint_eq(a->delivered_member, id_of(1));
    ck_assert_uint_eq(a->last.info.index, 100);
    ck_assert_uint_eq(a->last.info.term, 3);
    ck_assert(hf_slice_eq(a->last.info.configuration, hf_slice_str("A, B and C")));
    ck_assert_uint_eq(a->pin, 100);
    assert_received(b, &fake_store.live[0]);
    ck_assert_uint_eq(fake_store.verified, 1);
    ck_assert_uint_eq(b->asked_bytes, MB);
    ck_assert_str_eq(progress_of(a).phase, "delivered");
    ck_assert_str_eq(progress_of(b).phase, "received");
    ck_assert_uint_eq(progress_of(b).total_bytes, MB);
    ck_assert_uint_eq(counter(a, "snapshot_sent_bytes_total", NULL), MB);
    ck_assert_uint_eq(counter(b, "snapshot_received_bytes_total", NULL), MB);
    ck_assert_uint_eq(counter(a, "snapshot_transfers_started_total", "direction=\"send\""), 1);
    ck_assert_uint_eq(counter(a, "snapshot_transfers_completed_total", "direction=\"send\""), 1);
    ck_assert_uint_eq(counter(b, "snapshot_transfers_started_total", "direction=\"receive\""), 1);
    ck_assert_uint_eq(counter(b, "snapshot_transfers_completed_total", "direction=\"receive\""), 1);
    /* The news is repeated until it is heard. */
    run(10 * SECONDS);
    ck_assert_int_ge(a->delivered, 9);
    ck_assert_int_le(a->delivered, 12);
    snprintf(path, sizeof(path), "%s", hf_snapshots_take(b->s));
    ck_assert_str_eq(path, "n1/incoming.db");
    ck_assert(!hf_snapshots_received(b->s, 100, 3, &info));
    ck_assert_int_eq(b->env->fs->rename(b->env->fs, path, "n1/state-2.db"), 0);
    hf_snapshots_stop(a->s, id_of(1));
    run(1);
    ck_assert_uint_eq(a->pin, 0);
    a->delivered = 0;
    ck_assert_int_eq(files(a), 1); /* kept for the next who asks */
    run(11 * SECONDS);
    ck_assert_int_eq(files(a), 0);
    ck_assert_int_eq(files(b), 0);
    ck_assert_int_eq(a->delivered + a->failed, 0);
    ck_assert_uint_eq(hf_snapshots_progress(a->s, NULL, 0) + hf_snapshots_progress(b->s, NULL, 0), 0);
}
END_TEST

START_TEST(test_any_size_arrives)
{
    static const uint64_t sizes[] = {FAKE_PAGE,          FAKE_PAGE + 1,      16 * KB - 1,  16 * KB,
                                     16 * KB + 1,        128 * KB,           128 * KB + 1, 5 * MB + 12345,
                                     HF_COPY_SYNC_BYTES, 100 * MB + 4096 + 7};
    struct node *a = boot(0), *b = boot(1);

    if (sizes[_i] > 10 * MB)
        a->config.chunk_bytes = a->config.window_bytes = b->config.window_bytes = 0; /* the defaults */
    set_live(a, 100, sizes[_i]);
    open_node(a);
    open_node(b);
    send_to(a, b, 1);
    ck_assert(run_until(100 * SECONDS, is_delivered));
    assert_received(b, &fake_store.live[0]);
}
END_TEST

START_TEST(test_progress_is_told_on_both_sides)
{
    struct node *a = boot(0), *b = start(1);
    struct hf_snapshot_progress p;

    a->config.rate_bytes = 200 * KB;
    set_live(a, 100, 2 * MB);
    open_node(a);
    send_to(a, b, 1);
    ck_assert(run_until(60 * SECONDS, is_half_way));
    p = progress_of(a);
    ck_assert(p.is_sending);
    ck_assert_str_eq(p.phase, "sending");
    ck_assert_uint_eq(p.member, id_of(1));
    ck_assert_uint_eq(p.index, 100);
    ck_assert_uint_eq(p.total_bytes, 2 * MB);
    ck_assert_uint_ge(p.done_bytes, MB - 128 * KB);
    ck_assert_uint_ge(p.bytes_per_second, 150 * KB);
    ck_assert_uint_le(p.bytes_per_second, 250 * KB);
    p = progress_of(b);
    ck_assert(!p.is_sending);
    ck_assert_str_eq(p.phase, "receiving");
    ck_assert_uint_eq(p.member, id_of(0));
    ck_assert_uint_ge(p.bytes_per_second, 150 * KB);
}
END_TEST

/* ---- limits -------------------------------------------------------------------------------------- */

/* At no time more than rate * time and two slices were sent. */
static void assert_rate(struct node *a, uint64_t rate, uint64_t seconds)
{
    uint64_t from_bytes = counter(a, "snapshot_sent_bytes_total", NULL), from_ms = hf_sim_world_now_ms(world), sent = 0;

    for (uint64_t i = 0; i < seconds * 10 && a->delivered == 0; i++) {
        run(100);
        sent = counter(a, "snapshot_sent_bytes_total", NULL) - from_bytes;
        ck_assert_uint_le(sent, rate * (hf_sim_world_now_ms(world) - from_ms) / 1000 + 2 * (rate / 8));
    }
    if (a->delivered == 0)
        ck_assert_uint_ge(sent, rate * seconds * 9 / 10);
}

START_TEST(test_rate_is_kept_and_changes_while_it_runs)
{
    struct node *a = boot(0), *b = start(1);

    a->config.rate_bytes = 100 * KB;
    set_live(a, 100, 8 * MB);
    open_node(a);
    send_to(a, b, 1);
    run(SECONDS);
    assert_rate(a, 100 * KB, 20);
    /* What was not sent while nothing could be is not made up for. */
    hf_sim_node_pause(b->fake);
    run(3 * SECONDS);
    hf_sim_node_resume(b->fake);
    assert_rate(a, 100 * KB, 10);
    hf_snapshots_set_rate(a->s, 400 * KB);
    assert_rate(a, 400 * KB, 10);
    hf_snapshots_set_rate(a->s, 10 * KB);
    run(100);
    assert_rate(a, 10 * KB, 20);
    ck_assert_int_eq(a->delivered, 0);
    hf_snapshots_set_rate(a->s, 0);
    ck_assert(run_until(5 * SECONDS, is_delivered));
    assert_received(b, &fake_store.live[0]);
}
END_TEST

START_TEST(test_rate_is_shared_by_all_targets_evenly)
{
    struct node *a = boot(0), *b = start(1), *c = start(2);
    uint64_t to_b, to_c;

    a->config.rate_bytes = 200 * KB;
    set_live(a, 100, 8 * MB);
    open_node(a);
    send_to(a, b, 1);
    send_to(a, c, 1);
    run(SECONDS);
    assert_rate(a, 200 * KB, 20);
    to_b = progress_of(b).done_bytes;
    to_c = progress_of(c).done_bytes;
    ck_assert_uint_ge(to_b, 3 * to_c / 4);
    ck_assert_uint_ge(to_c, 3 * to_b / 4);
}
END_TEST

START_TEST(test_target_that_stands_still_holds_back_one_window)
{
    struct node *a = start(0), *b = start(1);
    uint64_t acked, sent;

    send_to(a, b, 1);
    ck_assert(run_until(10 * SECONDS, is_half_way));
    hf_sim_node_pause(b->fake);
    run(2 * SECONDS);
    acked = progress_of(a).done_bytes;
    sent = counter(a, "snapshot_sent_bytes_total", NULL);
    ck_assert_uint_le(sent, acked + 128 * KB);
    ck_assert_uint_gt(sent, acked);
    hf_sim_node_resume(b->fake);
    ck_assert(run_until(20 * SECONDS, is_delivered));
    assert_received(b, &fake_store.live[0]);
}
END_TEST

START_TEST(test_smaller_window_of_the_two_counts)
{
    struct node *a = start(0), *b = boot(1);

    b->config.window_bytes = 32 * KB;
    open_node(b);
    send_to(a, b, 1);
    ck_assert(run_until(20 * SECONDS, is_half_way));
    ck_assert_uint_le(b->s->in.filling.cap + b->s->in.writing.cap, 2 * 32 * KB);
    hf_sim_node_pause(b->fake);
    run(2 * SECONDS);
    ck_assert_uint_le(counter(a, "snapshot_sent_bytes_total", NULL), progress_of(a).done_bytes + 32 * KB);
    hf_sim_node_resume(b->fake);
    ck_assert(run_until(20 * SECONDS, is_delivered));
}
END_TEST

/* ---- more than one ------------------------------------------------------------------------------- */

START_TEST(test_two_targets_read_one_copy)
{
    struct node *a = start(0), *b = start(1), *c = start(2);

    send_to(a, b, 1);
    send_to(a, c, 50);
    run(20 * SECONDS);
    assert_received(b, &fake_store.live[0]);
    assert_received(c, &fake_store.live[0]);
    ck_assert_uint_eq(counter(a, "snapshot_copies_total", NULL), 1);
    ck_assert_uint_eq(counter(a, "snapshot_transfers_completed_total", "direction=\"send\""), 2);
    hf_snapshots_stop(a->s, 0);
    run(20 * SECONDS);
    ck_assert_int_eq(files(a), 0);
    ck_assert_uint_eq(a->pin, 0);
}
END_TEST

START_TEST(test_node_sends_and_receives_at_once)
{
    struct node *a = start(0), *b = start(1), *c = start(2);

    send_to(a, b, 1);
    send_to(b, c, 1);
    send_to(c, a, 1);
    run(20 * SECONDS);
    assert_received(b, &fake_store.live[0]);
    assert_received(c, &fake_store.live[1]);
    assert_received(a, &fake_store.live[2]);
}
END_TEST

START_TEST(test_asking_again_changes_nothing)
{
    struct node *a = start(0), *b = start(1);

    for (int i = 0; i < 200; i++) {
        send_to(a, b, 90);
        run(5);
    }
    ck_assert_int_ge(a->delivered, 1);
    ck_assert_int_le(a->delivered, 3);
    ck_assert_uint_eq(counter(a, "snapshot_copies_total", NULL), 1);
    ck_assert_uint_eq(counter(a, "snapshot_sent_bytes_total", NULL), MB);
    ck_assert_int_eq(b->count[HF_TRANSFER_OFFER], 1);
}
END_TEST

/* What was delivered is too old by now: it is replaced by a newer copy. */
START_TEST(test_newer_copy_replaces_the_delivered_one)
{
    struct node *a = start(0), *b = start(1);

    send_to(a, b, 90);
    ck_assert(run_until(10 * SECONDS, is_delivered));
    set_live(a, 500, 2 * MB);
    send_to(a, b, 400);
    run(1);
    a->delivered = 0;
    ck_assert(run_until(10 * SECONDS, is_delivered));
    ck_assert_uint_eq(a->last.info.index, 500);
    assert_received(b, &fake_store.live[0]);
    ck_assert_uint_eq(counter(a, "snapshot_copies_total", NULL), 2);
    run(15 * SECONDS);
    ck_assert_int_eq(files(a), 1); /* nobody needs the first any more */
    ck_assert_int_eq(files(b), 1);
}
END_TEST

START_TEST(test_newer_copy_replaces_one_that_is_on_its_way)
{
    struct node *a = start(0), *b = start(1);

    send_to(a, b, 90);
    ck_assert(run_until(10 * SECONDS, is_half_way));
    set_live(a, 500, 2 * MB);
    send_to(a, b, 400);
    ck_assert(run_until(10 * SECONDS, is_delivered));
    ck_assert_uint_eq(a->last.info.index, 500);
    assert_received(b, &fake_store.live[0]);
    ck_assert_int_eq(a->failed, 0);
}
END_TEST

/* ---- links --------------------------------------------------------------------------------------- */

START_TEST(test_transfer_waits_for_its_link)
{
    struct node *a = start(0), *b = start(1);

    hf_snapshots_send(a->s, id_of(1), 1);
    run(10 * SECONDS);
    ck_assert_str_eq(progress_of(a).phase, "connecting");
    link_nodes(a, b);
    ck_assert(run_until(10 * SECONDS, is_delivered));
}
END_TEST

/* The link breaks at the n-th message of either side, for every n: what is there already is not sent again. */
static void break_at_every_message(unsigned breaking)
{
    uint64_t n;

    for (n = 1;; n++) {
        struct node *a = start(0), *b = start(1);
        bool was_broken;

        set_live(a, 100, 300 * KB);
        nodes[breaking].break_at = n;
        send_to(a, b, 1);
        ck_assert_msg(run_until(20 * SECONDS, is_delivered), "broken at %d", (int)n);
        assert_received(b, &fake_store.live[0]);
        ck_assert_uint_le(counter(a, "snapshot_sent_bytes_total", NULL), 300 * KB + 128 * KB);
        ck_assert_int_eq(a->failed, 0);
        ck_assert_uint_eq(counter(a, "snapshot_copies_total", NULL), 1);
        was_broken = nodes[breaking].messages >= n;
        stop(a);
        stop(b);
        if (!was_broken)
            break;
    }
    ck_assert_uint_gt(n, 4);
}

START_TEST(test_break_at_every_message_of_the_source)
{
    break_at_every_message(1);
}
END_TEST

START_TEST(test_break_at_every_message_of_the_target)
{
    break_at_every_message(0);
}
END_TEST

START_TEST(test_resuming_asks_for_the_room_that_is_missing)
{
    struct node *a = start(0), *b = start(1);

    send_to(a, b, 1);
    ck_assert(run_until(10 * SECONDS, is_half_way));
    hf_link_close(link_between(a, b));
    b->asked = 0;
    ck_assert(run_until(10 * SECONDS, is_delivered));
    ck_assert_int_eq(b->asked, 1);
    ck_assert_uint_le(b->asked_bytes, MB / 2);
    ck_assert_uint_gt(b->asked_bytes, 0);
}
END_TEST

START_TEST(test_random_breaks_delay_but_never_spoil)
{
    struct node *a = start(0), *b = start(1);

    set_live(a, 100, 20 * MB);
    hf_sim_world_rules(world)->reset_per_million = 3000;
    send_to(a, b, 1);
    ck_assert(run_until(300 * SECONDS, is_delivered));
    assert_received(b, &fake_store.live[0]);
    ck_assert_int_gt(b->count[HF_TRANSFER_OFFER], 1);
    ck_assert_uint_lt(counter(a, "snapshot_sent_bytes_total", NULL),
                      20 * MB + (uint64_t)b->count[HF_TRANSFER_OFFER] * 128 * KB);
}
END_TEST

START_TEST(test_delivered_file_survives_a_break)
{
    struct node *a = start(0), *b = start(1);

    send_to(a, b, 1);
    ck_assert(run_until(10 * SECONDS, is_delivered));
    hf_link_close(link_between(a, b));
    run(1);
    a->delivered = 0;
    ck_assert(run_until(10 * SECONDS, is_delivered));
    ck_assert_uint_eq(counter(a, "snapshot_sent_bytes_total", NULL), MB);
    ck_assert_uint_eq(fake_store.verified, 1);
    ck_assert_int_eq(a->failed, 0);
}
END_TEST

START_TEST(test_link_that_stays_away_ends_the_transfer_and_the_left_over)
{
    struct node *a = start(0), *b = start(1);

    send_to(a, b, 1);
    ck_assert(run_until(10 * SECONDS, is_half_way));
    hf_peers_want_state(a->p, id_of(1), false);
    ck_assert(run_until(33 * SECONDS, has_failed));
    ck_assert_str_eq(a->why, "no progress for 30 s");
    ck_assert_uint_eq(a->failed_member, id_of(1));
    run(12 * SECONDS);
    ck_assert_int_eq(files(b), 0);
    ck_assert_int_eq(files(a), 0);
    ck_assert_uint_eq(a->pin, 0);
    ck_assert_uint_eq(counter(b, "snapshot_transfers_failed_total", "direction=\"receive\""), 1);
    /* And begins anew when it is asked for. */
    send_to(a, b, 1);
    ck_assert(run_until(20 * SECONDS, is_delivered));
}
END_TEST

Suite *transfer_suite(void)
{
    Suite *s = suite_create("transfer");
    TCase *t = tcase_create("transfer");

    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, test_copy_arrives_byte_for_byte_and_is_installed_once);
    tcase_add_loop_test(t, test_any_size_arrives, 0, 10);
    tcase_add_test(t, test_progress_is_told_on_both_sides);
    tcase_add_test(t, test_rate_is_kept_and_changes_while_it_runs);
    tcase_add_test(t, test_rate_is_shared_by_all_targets_evenly);
    tcase_add_test(t, test_target_that_stands_still_holds_back_one_window);
    tcase_add_test(t, test_smaller_window_of_the_two_counts);
    tcase_add_test(t, test_two_targets_read_one_copy);
    tcase_add_test(t, test_node_sends_and_receives_at_once);
    tcase_add_test(t, test_asking_again_changes_nothing);
    tcase_add_test(t, test_newer_copy_replaces_the_delivered_one);
    tcase_add_test(t, test_newer_copy_replaces_one_that_is_on_its_way);
    tcase_add_test(t, test_transfer_waits_for_its_link);
    tcase_add_test(t, test_break_at_every_message_of_the_source);
    tcase_add_test(t, test_break_at_every_message_of_the_target);
    tcase_add_test(t, test_resuming_asks_for_the_room_that_is_missing);
    tcase_add_test(t, test_random_breaks_delay_but_never_spoil);
    tcase_add_test(t, test_delivered_file_survives_a_break);
    tcase_add_test(t, test_link_that_stays_away_ends_the_transfer_and_the_left_over);
    suite_add_tcase(s, t);
    return s;
}
