/* What can go wrong between source and target: damage, full disks, crashes, other leaders, refusals, nonsense. */
#include "harness.h"
#include "suites.h"

static bool is_delivered(void)
{
    return nodes[0].delivered > 0;
}

static bool is_delivered_by_third(void)
{
    return nodes[2].delivered > 0;
}

static bool has_failed(void)
{
    return nodes[0].failed > 0;
}

static bool is_half_way(void)
{
    return progress_of(&nodes[1]).done_bytes > fake_store.live[0].bytes / 2;
}

/* The last bytes are being written: the next job verifies. */
static bool is_last_write(void)
{
    const struct incoming *in = &nodes[1].s->in;

    return in->phase == RECEIVE_CHECKING && in->filling.len == 0 && in->doing == JOB_WRITE;
}

static bool is_verifying(void)
{
    return strcmp(progress_of(&nodes[1]).phase, "verifying") == 0;
}

/* ---- damage -------------------------------------------------------------------------------------- */

/* Damage that no checksum of a frame can see: it happened before the source's. */
static int damage_left;

static void give_damaged(struct node *n, struct hf_link *link, uint8_t type, struct hf_slice payload, size_t at)
{
    uint8_t *bytes = hf_memdup(payload.ptr, payload.len);

    bytes[at] ^= 1;
    hf_snapshots_on_message(n->s, link, type, hf_slice(bytes, payload.len));
    hf_free(bytes);
}

static bool damage_data(struct node *n, struct hf_link *link, uint8_t type, struct hf_slice payload)
{
    if (type != HF_TRANSFER_DATA || hf_load_u64(payload.ptr + 8) != 32 * KB || damage_left == 0)
        return true;
    damage_left--;
    give_damaged(n, link, type, payload, payload.len - 100);
    return false;
}

static bool damage_hash(struct node *n, struct hf_link *link, uint8_t type, struct hf_slice payload)
{
    if (type != HF_TRANSFER_END || damage_left == 0)
        return true;
    damage_left--;
    give_damaged(n, link, type, payload, payload.len - 1);
    return false;
}

static bool (*const damages[])(struct node *, struct hf_link *, uint8_t, struct hf_slice) = {damage_data, damage_hash};

START_TEST(test_wrong_hash_starts_over)
{
    struct node *a = start(0), *b = start(1);

    damage_left = (int)HF_COPY_RESTARTS_MAX;
    b->filter = damages[_i];
    send_to(a, b, 1);
    ck_assert(run_until(20 * SECONDS, is_delivered));
    assert_received(b, &fake_store.live[0]);
    ck_assert_int_eq(damage_left, 0);
    ck_assert_uint_eq(counter(a, "snapshot_sent_bytes_total", NULL), (HF_COPY_RESTARTS_MAX + 1) * MB);
    ck_assert_int_eq(b->count[HF_TRANSFER_OFFER], 1);
    ck_assert_uint_eq(fake_store.verified, 1); /* what has the wrong hash is not even opened */
}
END_TEST

START_TEST(test_hash_that_stays_wrong_fails_and_the_next_try_has_another_copy)
{
    struct node *a = start(0), *b = start(1);

    damage_left = (int)HF_COPY_RESTARTS_MAX + 1;
    b->filter = damages[_i];
    send_to(a, b, 1);
    ck_assert(run_until(20 * SECONDS, has_failed));
    ck_assert_str_eq(a->why, "member 2: the hash of the copy is wrong again and again");
    run(100);
    ck_assert_int_eq(files(b), 0);
    ck_assert_int_eq(files(a), 0); /* nobody else shall get it */
    ck_assert_uint_eq(a->pin, 0);
    ck_assert_int_eq(a->delivered, 0);
    ck_assert_uint_eq(counter(a, "snapshot_transfers_failed_total", "direction=\"send\""), 1);
    ck_assert_uint_eq(counter(b, "snapshot_transfers_failed_total", "direction=\"receive\""), 1);
    send_to(a, b, 1);
    ck_assert(run_until(20 * SECONDS, is_delivered));
    ck_assert_uint_eq(counter(a, "snapshot_copies_total", NULL), 2);
}
END_TEST

/* The copy itself is damaged: its hash fits, its rows do not. */
START_TEST(test_damaged_copy_is_found_by_verification)
{
    struct node *a = start(0), *b = start(1);

    send_to(a, b, 1);
    for (int i = 0; i < 10000 && counter(a, "snapshot_copies_total", NULL) == 0; i++)
        hf_sim_world_step(world, hf_sim_world_now_ms(world) + 1);
    ck_assert(hf_sim_disk_flip(hf_sim_node_fs(a->fake), "n0/copy-1.db", 700000, 3));
    ck_assert(run_until(20 * SECONDS, has_failed));
    ck_assert_str_eq(a->why, "member 2: n1/incoming.db: not the rows that its digest is of");
    run(100);
    ck_assert_int_eq(files(b), 0);
    ck_assert_int_eq(files(a), 0);
    send_to(a, b, 1);
    ck_assert(run_until(20 * SECONDS, is_delivered));
    assert_received(b, &fake_store.live[0]);
}
END_TEST

/* A good database, but not the one that was offered: each thing that was promised of it is compared. */
static size_t lie_at;

static bool lie(struct node *n, struct hf_link *link, uint8_t type, struct hf_slice payload)
{
    if (type != HF_TRANSFER_OFFER)
        return true;
    give_damaged(n, link, type, payload, lie_at);
    return false;
}

struct offer_lie {
    size_t at;
    const char *what;
};

/* Offsets in OFFER: 5 numbers, then INFO. */
static const struct offer_lie lies[] = {
    {40, "index or term"}, {48, "index or term"},      {40 + 36, "digest"},   {40 + 52, "history"},
    {56, "configuration"}, {40 + 72, "configuration"}, {72, "feature level"},
};

START_TEST(test_database_that_is_not_the_one_offered_is_refused)
{
    struct node *a = start(0), *b = start(1);
    char why[256];

    lie_at = lies[_i].at;
    b->filter = lie;
    send_to(a, b, 1);
    ck_assert(run_until(20 * SECONDS, has_failed));
    snprintf(why, sizeof(why), "member 2: the received database has another %s than was offered", lies[_i].what);
    ck_assert_str_eq(a->why, why);
    run(100);
    ck_assert_int_eq(files(b), 0);
}
END_TEST

/* ---- disks and crashes --------------------------------------------------------------------------- */

START_TEST(test_full_disk_of_the_target_fails_the_transfer_and_frees_the_disk)
{
    struct node *a = start(0), *b = start(1);

    hf_sim_disk_limit(hf_sim_node_fs(b->fake), 600 * KB);
    send_to(a, b, 1);
    ck_assert(run_until(20 * SECONDS, has_failed));
    ck_assert_str_eq(a->why, "member 2: the copy cannot be written: no space left on the disk");
    run(100);
    ck_assert_int_eq(files(b), 0);
    ck_assert_uint_eq(hf_sim_disk_used(hf_sim_node_fs(b->fake)), 0);
    ck_assert_int_eq(hf_sim_disk_open_files(hf_sim_node_fs(b->fake)), 0);
    hf_sim_disk_limit(hf_sim_node_fs(b->fake), 0);
    send_to(a, b, 1);
    ck_assert(run_until(20 * SECONDS, is_delivered));
    ck_assert_uint_eq(counter(a, "snapshot_copies_total", NULL), 1); /* its copy was good */
}
END_TEST

/* Every operation of the target on its disk fails once, in turn: the transfer fails or does not need it, never does it
 * deliver something else, and the next one goes well. */
START_TEST(test_any_failing_operation_of_the_target)
{
    int failures = 0;

    for (uint64_t n = 1;; n++) {
        struct node *a = start(0), *b = start(1);
        uint64_t done;

        set_live(a, 100, 200 * KB);
        link_nodes(a, b);
        run(200);
        done = hf_sim_disk_ops_done(hf_sim_node_fs(b->fake));
        hf_sim_disk_fail(hf_sim_node_fs(b->fake), HF_SIM_ANY, n, HF_E_IO, false);
        send_to(a, b, 1);
        while (a->failed + a->delivered == 0)
            run(10);
        done = hf_sim_disk_ops_done(hf_sim_node_fs(b->fake)) - done;
        if (a->failed != 0) {
            failures++;
            run(100);
            hf_sim_disk_fail(hf_sim_node_fs(b->fake), HF_SIM_ANY, 0, 0, false);
            send_to(a, b, 1);
            ck_assert(run_until(20 * SECONDS, is_delivered));
        }
        hf_sim_disk_fail(hf_sim_node_fs(b->fake), HF_SIM_ANY, 0, 0, false);
        assert_received(b, &fake_store.live[0]);
        stop(a);
        stop(b);
        if (done < n)
            break;
    }
    ck_assert_int_ge(failures, 5);
}
END_TEST

START_TEST(test_crash_of_the_target_begins_anew)
{
    struct node *a = start(0), *b = start(1);

    send_to(a, b, 1);
    ck_assert(run_until(20 * SECONDS, is_half_way));
    crash(b);
    ck_assert_int_eq(files(b), 0);
    ck_assert_int_eq(a->delivered, 0);
    ck_assert(run_until(30 * SECONDS, is_delivered));
    assert_received(b, &fake_store.live[0]);
    ck_assert_uint_eq(counter(a, "snapshot_copies_total", NULL), 1);
    crash(b); /* verified, not yet installed */
    ck_assert_int_eq(files(b), 0);
    run(5 * SECONDS);
    a->delivered = 0;
    ck_assert(run_until(30 * SECONDS, is_delivered));
    assert_received(b, &fake_store.live[0]);
    ck_assert_int_eq(a->failed, 0);
}
END_TEST

START_TEST(test_crash_of_the_source_leaves_no_copy_and_the_target_takes_the_next)
{
    struct node *a = start(0), *b = start(1);

    send_to(a, b, 1);
    ck_assert(run_until(20 * SECONDS, is_half_way));
    crash(a);
    ck_assert_int_eq(files(a), 0);
    set_live(a, 101, MB);
    send_to(a, b, 1);
    ck_assert(run_until(20 * SECONDS, is_delivered));
    assert_received(b, &fake_store.live[0]);
    ck_assert_uint_eq(counter(a, "snapshot_sent_bytes_total", NULL), MB);
}
END_TEST

/* The same process number, index, size: another file all the same, since another process made it. */
START_TEST(test_bytes_of_another_process_are_not_mixed_in)
{
    struct node *a = start(0), *b = start(1);

    send_to(a, b, 1);
    ck_assert(run_until(20 * SECONDS, is_half_way));
    crash(a);
    send_to(a, b, 1);
    ck_assert(run_until(20 * SECONDS, is_delivered));
    ck_assert_uint_eq(counter(a, "snapshot_sent_bytes_total", NULL), MB);
}
END_TEST

/* So is the next copy of the same process, though it has the same index and size. */
START_TEST(test_bytes_of_another_copy_are_not_mixed_in)
{
    struct node *a = start(0), *b = start(1);

    send_to(a, b, 1);
    ck_assert(run_until(20 * SECONDS, is_half_way));
    hf_snapshots_stop(a->s, 0); /* without a word: the target keeps what it has for a while */
    run(15 * SECONDS);
    ck_assert_int_eq(files(a), 0);
    ck_assert_int_eq(files(b), 1);
    send_to(a, b, 1);
    ck_assert(run_until(20 * SECONDS, is_delivered));
    ck_assert_uint_eq(counter(a, "snapshot_copies_total", NULL), 2);
    ck_assert_uint_ge(counter(a, "snapshot_sent_bytes_total", NULL), MB + MB / 2);
    assert_received(b, &fake_store.live[0]);
}
END_TEST

/* ---- leaders ------------------------------------------------------------------------------------- */

START_TEST(test_new_leaders_copy_replaces_one_on_its_way)
{
    struct node *a = start(0), *b = start(1), *c = start(2);

    set_live(c, 150, 2 * MB);
    send_to(a, b, 1);
    ck_assert(run_until(20 * SECONDS, is_half_way));
    if (_i == 0)
        hf_snapshots_stop(a->s, 0); /* else it does not know yet that it leads no more */
    send_to(c, b, 120);
    ck_assert(run_until(20 * SECONDS, is_delivered_by_third));
    ck_assert_uint_eq(c->last.info.index, 150);
    assert_received(b, &fake_store.live[2]);
    ck_assert_int_eq(a->delivered, 0);
    ck_assert_int_eq(a->failed, _i);
    if (_i == 1)
        ck_assert_str_eq(a->why, "member 2: another node sends a copy now");
}
END_TEST

START_TEST(test_file_being_verified_is_kept_for_the_new_leader)
{
    struct node *a = start(0), *b = start(1), *c = start(2);

    send_to(a, b, 1);
    ck_assert(run_until(20 * SECONDS, is_half_way));
    hf_sim_world_rules(world)->job_min_us = hf_sim_world_rules(world)->job_max_us = 2 * 1000 * 1000;
    ck_assert(run_until(60 * SECONDS, is_verifying));
    hf_sim_world_rules(world)->job_min_us = hf_sim_world_rules(world)->job_max_us = 100;
    hf_snapshots_stop(a->s, 0);
    send_to(c, b, _i == 0 ? 100 : 101); /* will do, will not do */
    ck_assert(run_until(60 * SECONDS, is_delivered_by_third));
    if (_i == 0) {
        ck_assert_uint_eq(c->last.info.index, 100);
        ck_assert_uint_eq(counter(c, "snapshot_sent_bytes_total", NULL), 0);
        assert_received(b, &fake_store.live[0]);
    } else {
        assert_received(b, &fake_store.live[2]);
    }
}
END_TEST

START_TEST(test_verified_file_is_delivered_to_the_new_leader_as_it_is)
{
    struct node *a = start(0), *b = start(1), *c = start(2);

    send_to(a, b, 1);
    ck_assert(run_until(20 * SECONDS, is_delivered));
    hf_snapshots_stop(a->s, 0);
    fake_store.live[2].configuration = "B, C and D";
    send_to(c, b, _i == 0 ? 100 : 101);
    ck_assert(run_until(20 * SECONDS, is_delivered_by_third));
    if (_i == 0) {
        ck_assert_uint_eq(c->last.info.index, 100);
        ck_assert_uint_eq(c->pin, 100);
        ck_assert(hf_slice_eq(c->last.info.configuration, hf_slice_str("A, B and C")));
        ck_assert_uint_eq(counter(c, "snapshot_sent_bytes_total", NULL), 0);
        ck_assert_uint_eq(b->asked_bytes, 0);
        assert_received(b, &fake_store.live[0]);
        /* Nothing older, and when it will not do for the log any more, another. */
        send_to(c, b, 101);
        run(1);
        c->delivered = 0;
        ck_assert(run_until(20 * SECONDS, is_delivered_by_third));
    }
    ck_assert_uint_eq(c->last.info.index, 102);
    assert_received(b, &fake_store.live[2]);
}
END_TEST

/* The file would do, but its owner (which has moved on) does not want it any more: the offer itself is judged. */
static bool refuses_old(struct node *n, struct hf_link *link, uint8_t type, struct hf_slice payload)
{
    (void)link;
    (void)payload;
    if (type == HF_TRANSFER_OFFER)
        n->refuses = "older than what is here";
    return true;
}

START_TEST(test_verified_file_that_is_not_wanted_any_more_is_not_offered)
{
    struct node *a = start(0), *b = start(1), *c = start(2);

    send_to(a, b, 1);
    ck_assert(run_until(20 * SECONDS, is_delivered));
    b->filter = refuses_old;
    send_to(c, b, 100);
    for (int i = 0; i < 1000 && c->failed == 0; i++)
        run(10);
    ck_assert_str_eq(c->why, "member 2: older than what is here");
    ck_assert_int_eq(c->delivered, 0);
    assert_received(b, &fake_store.live[0]); /* still there to be installed */
}
END_TEST

/* ---- refusals and giving up ------------------------------------------------------------------------ */

START_TEST(test_refusal_is_told_and_nothing_is_received)
{
    struct node *a = start(0), *b = start(1);

    b->refuses = "node 1 is not a member";
    send_to(a, b, 1);
    ck_assert(run_until(20 * SECONDS, has_failed));
    ck_assert_str_eq(a->why, "member 2: node 1 is not a member");
    run(100);
    ck_assert_int_eq(files(b), 0);
    ck_assert_uint_eq(counter(b, "snapshot_received_bytes_total", NULL), 0);
    ck_assert_uint_eq(counter(b, "snapshot_transfers_started_total", "direction=\"receive\""), 0);
    b->refuses = NULL;
    send_to(a, b, 1);
    ck_assert(run_until(20 * SECONDS, is_delivered));
}
END_TEST

START_TEST(test_refusal_of_a_resumed_transfer_removes_what_was_received)
{
    struct node *a = start(0), *b = start(1);

    send_to(a, b, 1);
    ck_assert(run_until(20 * SECONDS, is_half_way));
    b->refuses = "an install is under way";
    hf_link_close(link_between(a, b));
    ck_assert(run_until(20 * SECONDS, has_failed));
    run(100);
    ck_assert_int_eq(files(b), 0);
}
END_TEST

START_TEST(test_stop_removes_what_was_received)
{
    struct node *a = start(0), *b = start(1);

    send_to(a, b, 1);
    ck_assert(run_until(20 * SECONDS, is_half_way));
    hf_snapshots_stop(a->s, id_of(2)); /* another's */
    ck_assert_str_eq(progress_of(a).phase, "sending");
    hf_snapshots_stop(a->s, id_of(1));
    run(100);
    ck_assert_int_eq(files(b), 0);
    ck_assert_uint_eq(a->pin, 0);
    ck_assert_int_eq(a->failed + a->delivered, 0);
    ck_assert_uint_eq(hf_snapshots_progress(a->s, NULL, 0) + hf_snapshots_progress(b->s, NULL, 0), 0);
}
END_TEST

/* The owner ends the transfer inside the event, and starts another inside the other. */
static void stop_inside(struct node *n, uint64_t member)
{
    hf_snapshots_stop(n->s, member);
    hf_snapshots_send(n->s, id_of(2), 1);
}

START_TEST(test_owner_may_stop_and_send_inside_the_event)
{
    struct node *a = start(0), *b = start(1), *c = start(2);

    a->on_delivered = stop_inside;
    link_nodes(a, c);
    send_to(a, b, 1);
    ck_assert(run_until(20 * SECONDS, is_delivered));
    a->on_delivered = NULL;
    a->delivered = 0;
    ck_assert(run_until(20 * SECONDS, is_delivered));
    ck_assert_uint_eq(a->delivered_member, id_of(2));
    assert_received(c, &fake_store.live[0]);
}
END_TEST

START_TEST(test_silent_target_is_given_up)
{
    struct node *a = start(0), *b = start(1);

    send_to(a, b, 1);
    ck_assert(run_until(20 * SECONDS, is_half_way));
    hf_sim_node_pause(b->fake);
    ck_assert(run_until(40 * SECONDS, has_failed));
    ck_assert_str_eq(a->why, "no progress for 30 s");
    ck_assert_uint_eq(a->pin, 0);
    hf_sim_node_resume(b->fake);
}
END_TEST

/* A long verification is no silence. */
START_TEST(test_long_verification_is_waited_for)
{
    struct node *a = start(0), *b = start(1);

    send_to(a, b, 1);
    ck_assert(run_until(20 * SECONDS, is_last_write));
    hf_sim_world_rules(world)->job_min_us = hf_sim_world_rules(world)->job_max_us = 200 * 1000 * 1000;
    ck_assert(run_until(20 * SECONDS, is_verifying));
    ck_assert_int_eq(a->failed, 0);
    run(100 * SECONDS);
    ck_assert_str_eq(progress_of(a).phase, "verifying");
    ck_assert(run_until(200 * SECONDS, is_delivered));
}
END_TEST

/* ---- nonsense from a member ------------------------------------------------------------------------ */

/* Node 3 is a member without good manners: it has links, and says what the test wants. */
static struct hf_link *rude_link(struct node *rude, struct node *to)
{
    hf_snapshots_close(rude->s);
    rude->s = NULL;
    link_nodes(rude, to);
    for (int i = 0; i < 1000 && link_between(rude, to) == NULL; i++)
        run(1);
    run(10);
    return link_between(rude, to);
}

static void say(struct hf_link *link, const struct hf_transfer_wire *w)
{
    ck_assert_int_eq(hf_snapshots_say(link, w), 0);
    run(30);
}

static const struct hf_transfer_wire rude_offer = {
    .type = HF_TRANSFER_OFFER,
    .offer = 1,
    .epoch = 2,
    .counter = 3,
    .window = 64 * KB,
    .info = {.index = 9, .term = 1, .bytes = 40 * KB, .level = 1, .configuration = {(const uint8_t *)"c", 1}}};

static uint8_t rude_bytes[100 * KB];

static const struct hf_transfer_wire rude_messages[] = {
    {.type = HF_TRANSFER_DATA, .offer = 1, .offset = 1, .bytes = {rude_bytes, 10}},
    {.type = HF_TRANSFER_DATA, .offer = 1, .offset = UINT64_MAX, .bytes = {rude_bytes, 10}},
    {.type = HF_TRANSFER_DATA, .offer = 1, .bytes = {rude_bytes, 40 * KB + 1}},
    {.type = HF_TRANSFER_DATA, .offer = 1, .bytes = {rude_bytes, 100 * KB}},
    {.type = HF_TRANSFER_END, .offer = 1},
    {.type = HF_TRANSFER_WANT, .offer = 1, .window = 1},
    {.type = HF_TRANSFER_ACK, .offer = 1},
    {.type = HF_TRANSFER_VERIFYING, .offer = 1},
    {.type = HF_TRANSFER_VERIFIED, .offer = 1, .info = {.index = 9, .term = 1, .bytes = 1}},
    /* and what is ignored, since it belongs to an offer that is over */
    {.type = HF_TRANSFER_DATA, .offer = 7, .bytes = {rude_bytes, 10}},
    {.type = HF_TRANSFER_END, .offer = 7},
    {.type = HF_TRANSFER_FAILED, .offer = 7, .reason = HF_TRANSFER_GIVEN_UP},
};

START_TEST(test_target_hangs_up_on_what_is_out_of_place)
{
    struct node *b = start(1), *rude = start(3);
    struct hf_link *link = rude_link(rude, b);

    say(link, &rude_offer);
    ck_assert_str_eq(progress_of(b).phase, "receiving");
    say(link, &rude_messages[_i]);
    if (_i < 9)
        ck_assert_ptr_ne(link_between(rude, b), link);
    else
        ck_assert_ptr_eq(link_between(rude, b), link);
    ck_assert_uint_eq(counter(b, "snapshot_received_bytes_total", NULL), 0);
    ck_assert_uint_le(b->s->in.filling.cap, 128 * KB);
}
END_TEST

/* More than the window before it is acknowledged. */
START_TEST(test_target_never_holds_more_than_the_window)
{
    struct node *b = start(1), *rude = start(3);
    struct hf_link *link = rude_link(rude, b);
    struct hf_transfer_wire w = rude_offer;

    w.info.bytes = 10 * MB;
    say(link, &w);
    hf_sim_world_rules(world)->job_min_us = hf_sim_world_rules(world)->job_max_us = 1000 * 1000;
    w = (struct hf_transfer_wire){.type = HF_TRANSFER_DATA, .offer = 1, .bytes = {rude_bytes, 8 * KB}};
    for (int i = 0; i < 8; i++, w.offset += 8 * KB)
        say(link, &w);
    ck_assert_ptr_eq(link_between(rude, b), link);
    say(link, &w);
    ck_assert_ptr_ne(link_between(rude, b), link);
    ck_assert_uint_eq(counter(b, "snapshot_received_bytes_total", NULL), 64 * KB);
}
END_TEST

START_TEST(test_malformed_message_hangs_up)
{
    static const struct hf_slice malformed[] = {
        {(const uint8_t *)"", 0},          {(const uint8_t *)"1234567", 7},
        {(const uint8_t *)"12345678", 8},  {(const uint8_t *)"1234567812345678", 16},
        {(const uint8_t *)"12345678x", 9},
    };
    struct node *b = start(1), *rude = start(3);
    struct hf_link *link = rude_link(rude, b);

    ck_assert_int_eq(hf_link_send(link, (uint8_t)(_i % 10), false, &malformed[_i / 10], 1), 0);
    run(30);
    ck_assert_ptr_ne(link_between(rude, b), link);
}
END_TEST

/* Messages of the target that the source cannot believe. */
static struct hf_transfer_wire rude_answer;

static bool answer_rudely(struct node *n, struct hf_link *link, uint8_t type, struct hf_slice payload)
{
    (void)n;
    if (type != HF_TRANSFER_OFFER)
        return false;
    rude_answer.offer = hf_load_u64(payload.ptr) + rude_answer.counter;
    ck_assert_int_eq(hf_snapshots_say(link, &rude_answer), 0);
    return false;
}

static const struct hf_transfer_wire rude_answers[] = {
    {.type = HF_TRANSFER_WANT, .offset = MB + 1, .window = 100},
    {.type = HF_TRANSFER_WANT, .offset = UINT64_MAX, .window = 100},
    {.type = HF_TRANSFER_ACK, .offset = 0},
    {.type = HF_TRANSFER_VERIFIED, .info = {.index = 89, .term = 3, .bytes = 1}},
    {.type = HF_TRANSFER_OFFER, .window = 1, .info = {.index = 1, .term = 3, .bytes = 1}},
    {.type = HF_TRANSFER_DATA, .bytes = {rude_bytes, 1}},
    {.type = HF_TRANSFER_END},
    {.type = HF_TRANSFER_WANT, .window = 100, .counter = 1}, /* an offer that was never made */
};

START_TEST(test_source_hangs_up_on_what_is_out_of_place)
{
    struct node *a = start(0), *rude = start(1);

    hf_snapshots_close(rude->s);
    rude->s = NULL;
    rude->filter = answer_rudely;
    rude_answer = rude_answers[_i];
    send_to(a, rude, 90);
    ck_assert(run_until(60 * SECONDS, has_failed)); /* and does not try for ever */
    ck_assert_str_eq(a->why, "no progress for 30 s");
    ck_assert_int_gt(rude->count[HF_TRANSFER_OFFER], 1);
    ck_assert_int_eq(a->delivered, 0);
}
END_TEST

/* Random messages in random order, well formed and about the offer at hand: no crash, no leak, bounded memory, and a
 * good source still gets through afterwards. */
START_TEST(test_random_messages_do_no_harm)
{
    struct node *a = start(0), *b = start(1), *rude = start(3);
    struct hf_prng *prng = hf_sim_world_prng(world);

    (void)rude_link(rude, b);
    for (int i = 0; i < 3000; i++) {
        struct hf_transfer_wire w = rude_offer;
        struct hf_link *link = link_between(rude, b);

        w.type = (enum hf_transfer_message)(1 + hf_prng_below(prng, 8));
        w.offer = 1 + hf_prng_below(prng, 2);
        w.counter = hf_prng_below(prng, 2);
        w.offset = hf_prng_below(prng, 3) * 20 * KB;
        w.reason = HF_TRANSFER_GIVEN_UP;
        if (w.type == HF_TRANSFER_DATA)
            w.bytes = hf_slice(rude_bytes, 20 * KB);
        if (link != NULL)
            (void)!hf_snapshots_say(link, &w);
        run(hf_prng_below(prng, 40) == 0 ? 200 : hf_prng_below(prng, 2));
        ck_assert_uint_le(b->s->in.filling.cap + b->s->in.writing.cap, 4 * 128 * KB);
    }
    send_to(a, b, 1);
    ck_assert(run_until(60 * SECONDS, is_delivered));
    assert_received(b, &fake_store.live[0]);
}
END_TEST

Suite *trouble_suite(void)
{
    Suite *s = suite_create("trouble");
    TCase *t = tcase_create("trouble");

    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, test_wrong_hash_starts_over, 0, COUNT(damages));
    tcase_add_loop_test(t, test_hash_that_stays_wrong_fails_and_the_next_try_has_another_copy, 0, COUNT(damages));
    tcase_add_test(t, test_damaged_copy_is_found_by_verification);
    tcase_add_loop_test(t, test_database_that_is_not_the_one_offered_is_refused, 0, COUNT(lies));
    tcase_add_test(t, test_full_disk_of_the_target_fails_the_transfer_and_frees_the_disk);
    tcase_add_test(t, test_any_failing_operation_of_the_target);
    tcase_add_test(t, test_crash_of_the_target_begins_anew);
    tcase_add_test(t, test_crash_of_the_source_leaves_no_copy_and_the_target_takes_the_next);
    tcase_add_test(t, test_bytes_of_another_process_are_not_mixed_in);
    tcase_add_test(t, test_bytes_of_another_copy_are_not_mixed_in);
    tcase_add_loop_test(t, test_new_leaders_copy_replaces_one_on_its_way, 0, 2);
    tcase_add_loop_test(t, test_file_being_verified_is_kept_for_the_new_leader, 0, 2);
    tcase_add_loop_test(t, test_verified_file_is_delivered_to_the_new_leader_as_it_is, 0, 2);
    tcase_add_test(t, test_verified_file_that_is_not_wanted_any_more_is_not_offered);
    tcase_add_test(t, test_refusal_is_told_and_nothing_is_received);
    tcase_add_test(t, test_refusal_of_a_resumed_transfer_removes_what_was_received);
    tcase_add_test(t, test_stop_removes_what_was_received);
    tcase_add_test(t, test_owner_may_stop_and_send_inside_the_event);
    tcase_add_test(t, test_silent_target_is_given_up);
    tcase_add_test(t, test_long_verification_is_waited_for);
    tcase_add_loop_test(t, test_target_hangs_up_on_what_is_out_of_place, 0, COUNT(rude_messages));
    tcase_add_test(t, test_target_never_holds_more_than_the_window);
    tcase_add_loop_test(t, test_malformed_message_hangs_up, 0, 50);
    tcase_add_loop_test(t, test_source_hangs_up_on_what_is_out_of_place, 0, COUNT(rude_answers));
    tcase_add_test(t, test_random_messages_do_no_harm);
    suite_add_tcase(s, t);
    return s;
}
