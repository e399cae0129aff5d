/* Links between members: how they come up, are refused, carry messages, go down and come back. */
#include "harness.h"
#include "suites.h"

/* ---- links --------------------------------------------------------------------------------------- */

START_TEST(test_both_channels_come_up_and_carry_messages_both_ways)
{
    struct node *a = start(0), *b = start(1);
    struct hf_slice parts[3] = {hf_slice_str("one "), hf_slice(NULL, 0), hf_slice_str("two")};
    struct hf_link *link;

    ck_assert_uint_eq(hf_peers_silence_ms(a->p, id_of(1)), UINT64_MAX);
    add(a, 1);
    ck_assert_ptr_null(link_to(a, 1));
    run(100);
    assert_links(a, 2);
    assert_links(b, 2);
    ck_assert_ptr_null(link_to(b, 0)); /* b dials nobody */
    for (int c = HF_CHANNEL_RAFT; c <= HF_CHANNEL_PROXY; c++) {
        link = hf_peers_link(a->p, id_of(1), (enum hf_channel)c);
        ck_assert_ptr_nonnull(link);
        ck_assert_int_eq(hf_link_channel(link), c);
        ck_assert_uint_eq(hf_link_node_id(link), id_of(1));
        ck_assert(hf_link_is_dialed(link));
        ck_assert_str_eq(hf_link_hello(link)->client_address, "client1:1");
        ck_assert_uint_eq(hf_link_hello(link)->store_id, 1001);
    }
    ck_assert(!hf_link_is_dialed(b->last_up));
    ck_assert_uint_eq(hf_link_node_id(b->last_up), id_of(0));
    ck_assert_str_eq(hf_link_hello(b->last_up)->address, "n0:7000");

    ck_assert_int_eq(hf_link_send(link_to(a, 1), 5, false, parts, 3), 0);
    run(10);
    ck_assert_int_eq(b->messages, 1);
    ck_assert_uint_eq(b->last_type, 5);
    ck_assert_uint_eq(b->last_len, 7);
    ck_assert_uint_eq(b->last_crc, hf_crc32c(0, "one two", 7));
    ck_assert_int_eq(send_bytes(b, b->last_up, HF_PEER_TYPE_MAX, true, NULL, 0), 0);
    run(10);
    ck_assert_int_eq(a->messages, 1);
    ck_assert_uint_eq(a->last_type, HF_PEER_TYPE_MAX);
    ck_assert_uint_eq(a->last_len, 0);
    ck_assert_uint_le(hf_peers_silence_ms(a->p, id_of(1)), 20);
    ck_assert_uint_eq(counter(a, "peer_messages_sent_total", "channel=\"raft\""), 1);
    ck_assert_uint_eq(counter(b, "peer_messages_received_total", "channel=\"raft\""), 1);
}
END_TEST

START_TEST(test_three_nodes_dial_each_other)
{
    for (unsigned i = 0; i < 3; i++)
        start(i);
    for (unsigned i = 0; i < 3; i++) {
        for (unsigned j = 0; j < 3; j++) {
            if (i != j)
                add(&nodes[i], j);
        }
    }
    run(200);
    for (unsigned i = 0; i < 3; i++)
        assert_links(&nodes[i], 8); /* two others, two channels, dialed and accepted */
    run(60 * SECONDS);
    for (unsigned i = 0; i < 3; i++) {
        assert_links(&nodes[i], 8);
        ck_assert_int_eq(nodes[i].downs, 0); /* keepalives carry idle links */
    }
}
END_TEST

/* ---- refusals ------------------------------------------------------------------------------------ */

START_TEST(test_wrong_cluster_is_refused_with_the_reason_on_both_sides)
{
    struct node *a = boot(0), *b = start(1);

    a->cluster = 9;
    open_peers(a);
    add(a, 1);
    run(100);
    ck_assert_int_eq(a->refused, 2);
    ck_assert_uint_eq(a->refused_node, id_of(1));
    ck_assert_str_eq(a->refused_why, "node 1 does not like cluster 9");
    ck_assert_int_eq(a->ups + b->ups, 0);
    ck_assert_uint_eq(counter(b, "peer_refused_total", "channel=\"raft\""), 1);
    ck_assert_uint_eq(counter(b, "peer_refused_total", "channel=\"proxy\""), 1);
    /* Tried again about once a second, not every back-off. */
    run(20 * SECONDS);
    ck_assert_int_ge(b->hellos, 2 * 15);
    ck_assert_int_le(b->hellos, 2 * 42);
    /* And comes up once the reason is gone. */
    b->cluster = 9;
    memset(b->config.self.cluster_id, 9, 16);
    hf_peers_update_self(b->p, &b->config.self);
    run(3 * SECONDS);
    assert_links(a, 2);
    assert_links(b, 2);
}
END_TEST

START_TEST(test_dialer_may_refuse_the_answer_and_the_accepter_never_sees_a_link)
{
    struct node *a = start(0), *b = start(1);

    a->refuses_answers = true;
    add(a, 1);
    run(5 * SECONDS);
    ck_assert_int_gt(b->refused, 0);
    ck_assert_uint_eq(b->refused_node, id_of(0));
    ck_assert_str_eq(b->refused_why, "node 0 does not like cluster 7");
    ck_assert_int_eq(a->ups + b->ups, 0);
}
END_TEST

START_TEST(test_wrong_target_is_refused)
{
    struct node *a = start(0), *b = start(2);

    hf_peers_add(a->p, id_of(1), address_of(2));
    run(100);
    ck_assert_int_eq(a->ups + b->ups, 0);
    ck_assert_int_eq(b->hellos, 0);
    ck_assert_str_eq(a->refused_why, "you meant node 2, this is node 3");
}
END_TEST

START_TEST(test_node_that_dials_itself_is_refused)
{
    struct node *a = start(0);

    hf_peers_add(a->p, id_of(1), address_of(0));
    run(100);
    ck_assert_int_eq(a->ups, 0);
    ck_assert_str_eq(a->refused_why, "node 1 is this node itself");
}
END_TEST

START_TEST(test_second_node_with_our_id_is_refused)
{
    struct node *a = boot(0), *b = start(1);

    a->config.self.node_id = id_of(1);
    open_peers(a);
    hf_peers_add(a->p, 77, address_of(1));
    run(100);
    ck_assert_int_eq(a->ups + b->ups, 0);
    ck_assert_str_eq(a->refused_why, "node 2 is this node itself, two nodes use one id");
}
END_TEST

START_TEST(test_no_common_protocol_version_is_refused_naming_both)
{
    struct node *a = boot(0), *b = start(1);

    a->config.self.protocol_min = 2;
    a->config.self.protocol_max = 4;
    open_peers(a);
    add(a, 1);
    run(100);
    ck_assert_int_eq(a->ups + b->ups, 0);
    ck_assert_int_eq(b->hellos, 0);
    ck_assert_str_eq(a->refused_why, "no protocol version in common: you speak 2 to 4, this node 1 to 1");
}
END_TEST

START_TEST(test_overlapping_protocol_versions_meet)
{
    struct node *a = boot(0);

    a->config.self.protocol_min = 1;
    a->config.self.protocol_max = 4;
    open_peers(a);
    start(1);
    add(a, 1);
    run(100);
    assert_links(a, 2);
}
END_TEST

/* ---- queues -------------------------------------------------------------------------------------- */

START_TEST(test_urgent_messages_overtake_a_large_one)
{
    struct node *a = start(0), *b = start(1);
    size_t n = 64 * MB;
    uint8_t *bytes = pattern(n, 3);
    int urgent = 0;

    add(a, 1);
    run(100);
    ck_assert_int_eq(send_bytes(a, link_to(a, 1), 'L', false, bytes, n), 0); /* nothing queued: any size goes */
    ck_assert_uint_ge(hf_link_queued(link_to(a, 1)), n);
    ck_assert_int_eq(send_bytes(a, link_to(a, 1), 'o', false, "after", 5), HF_E_BUSY);
    for (int i = 0; i < 1000 && b->last_type != 'L'; i++) {
        if (urgent < 5) {
            ck_assert_int_eq(send_bytes(a, link_to(a, 1), 'u', true, "beat", 4), 0);
            urgent++;
        }
        run(1);
    }
    ck_assert_str_eq(b->order, "uuuuuL");
    ck_assert_uint_eq(b->last_len, n);
    ck_assert_uint_eq(b->last_crc, hf_crc32c(0, bytes, n));
    ck_assert_int_gt(b->progress, 10);
    ck_assert_uint_lt(hf_link_queued(link_to(a, 1)), MB);
    hf_free(bytes);
}
END_TEST

/* Ordinary messages keep their order whatever their sizes, through the queue and past it. */
START_TEST(test_ordinary_messages_keep_their_order)
{
    struct node *a = start(0), *b = start(1);
    static const size_t sizes[] = {10, 300 << 10, 0, 2 * MB, 5, 256 << 10, (256 << 10) + 1, 100, 1};
    uint8_t *bytes = pattern(2 * MB, 4);

    add(a, 1);
    run(100);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        ck_assert_int_eq(send_bytes(a, link_to(a, 1), (uint8_t)('a' + i), false, bytes, sizes[i]), 0);
    run(100);
    ck_assert_str_eq(b->order, "abcdefghi");
    ck_assert_uint_eq(counter(a, "peer_messages_sent_total", "channel=\"raft\""), 9);
    ck_assert_uint_eq(hf_link_queued(link_to(a, 1)), 0);
    hf_free(bytes);
}
END_TEST

START_TEST(test_full_queue_refuses_but_leaves_room_for_urgent_ones)
{
    struct node *a = boot(0), *b = start(1);
    uint8_t *bytes = pattern(MB, 5);
    int sent = 0;

    a->config.queue_bytes_max = 4 * MB;
    open_peers(a);
    add(a, 1);
    run(100);
    hf_sim_world_block(world, 0, 1, true);
    while (send_bytes(a, link_to(a, 1), 'b', false, bytes, MB / 2) == 0)
        sent++;
    ck_assert_int_eq(sent, 7); /* 8 would be 4 MiB and their headers */
    ck_assert_int_eq(send_bytes(a, link_to(a, 1), 'b', false, bytes, MB / 2), HF_E_BUSY);
    ck_assert_uint_le(hf_link_queued(link_to(a, 1)), 4 * MB);
    while (send_bytes(a, link_to(a, 1), 'b', false, bytes, 1000) == 0)
        sent++;
    ck_assert_int_eq(send_bytes(a, link_to(a, 1), 'u', true, bytes, 1000), 0);
    ck_assert_int_eq(send_bytes(a, link_to(a, 1), 'U', true, bytes, 17 << 10), HF_E_BUSY); /* too long to be urgent */
    ck_assert_uint_eq(counter(a, "peer_dropped_total", "channel=\"raft\""), 4);
    while (send_bytes(a, link_to(a, 1), 'u', true, bytes, 16 << 10) == 0)
        sent++;
    ck_assert_uint_le(hf_link_queued(link_to(a, 1)), 7 * MB);
    hf_sim_world_heal(world);
    run(500);
    ck_assert_int_eq(b->messages, sent + 1);
    ck_assert_int_eq(send_bytes(a, link_to(a, 1), 'b', false, bytes, MB / 2), 0);
    run(50);
    ck_assert_int_eq(b->messages, sent + 2);
    hf_free(bytes);
}
END_TEST

START_TEST(test_message_over_the_limit_is_refused_on_both_sides)
{
    struct node *a = start(0), *b = boot(1);
    uint8_t *bytes = pattern(MB, 6);

    b->config.message_bytes_max = MB - 1;
    open_peers(b);
    add(a, 1);
    run(100);
    a->config.message_bytes_max = 0;
    ck_assert_int_eq(send_bytes(b, b->last_up, 1, false, bytes, MB), HF_E_LIMIT);
    ck_assert_int_eq(send_bytes(a, link_to(a, 1), 1, false, bytes, MB - 1), 0);
    run(100);
    ck_assert_int_eq(b->messages, 1);
    ck_assert_int_eq(b->downs, 0);
    ck_assert_int_eq(send_bytes(a, link_to(a, 1), 1, false, bytes, MB), 0);
    run(100);
    ck_assert_int_eq(b->messages, 1);
    ck_assert_int_eq(b->downs, 1);
    ck_assert_int_eq(a->downs, 1);
    run(2 * SECONDS);
    assert_links(a, 2); /* dialed again */
    hf_free(bytes);
}
END_TEST

/* ---- trouble ------------------------------------------------------------------------------------- */

START_TEST(test_restarted_peer_is_dialed_again)
{
    struct node *a = start(0), *b = start(1);

    add(a, 1);
    add(b, 0);
    run(100);
    assert_links(a, 4);
    stop(b);
    run(3 * SECONDS);
    assert_links(a, 0);
    ck_assert_uint_ge(hf_peers_silence_ms(a->p, id_of(1)), 2900);
    ck_assert_uint_lt(hf_peers_silence_ms(a->p, id_of(1)), 4200);
    b = start(1);
    run(600); /* redial_max and a bit */
    assert_links(a, 2);
    assert_links(b, 2);
    ck_assert_int_eq(a->ups, 6);
}
END_TEST

START_TEST(test_silent_link_is_closed_and_comes_back)
{
    struct node *a = start(0), *b = start(1);

    hf_sim_world_rules(world)->cut_timeout_ms = 60 * SECONDS;
    add(a, 1);
    run(100);
    hf_sim_world_block(world, 0, 1, true);
    hf_sim_world_block(world, 1, 0, true);
    run(4 * SECONDS);
    assert_links(a, 2);
    run(3 * SECONDS);
    assert_links(a, 0);
    assert_links(b, 0);
    ck_assert_uint_ge(hf_peers_silence_ms(a->p, id_of(1)), 5 * SECONDS);
    hf_sim_world_heal(world);
    run(2 * SECONDS);
    assert_links(a, 2);
    assert_links(b, 2);
}
END_TEST

static uint64_t (*true_boot_ms)(struct hf_env *env);
static uint64_t slept_ms;

static uint64_t boot_ms_after_sleep(struct hf_env *env)
{
    return true_boot_ms(env) + slept_ms;
}

/* A node that stood still (a stopped process, a machine asleep) finds its timers due before it has read what the
 * others sent meanwhile; that is no silence of theirs. */
START_TEST(test_own_standstill_is_not_taken_for_silence)
{
    struct node *a = start(0);

    start(1);
    add(a, 1);
    run(100);
    true_boot_ms = a->env->boot_ms;
    slept_ms = 0;
    a->env->boot_ms = boot_ms_after_sleep;
    for (int i = 0; i < 20; i++) {
        run(2 * SECONDS + 37);
        slept_ms += 6 * SECONDS;
    }
    run(10 * SECONDS);
    ck_assert_int_eq(a->downs, 0);
    assert_links(a, 2);
}
END_TEST

START_TEST(test_removed_member_loses_all_links_and_is_left_alone)
{
    struct node *a = start(0), *b = start(1);

    add(a, 1);
    add(b, 0);
    run(100);
    assert_links(a, 4);
    a->is_inside = true;
    hf_peers_remove(a->p, id_of(1));
    a->is_inside = false;
    ck_assert_ptr_null(link_to(a, 1));
    ck_assert_int_eq(a->downs, 0); /* later, never from inside the call */
    hf_peers_remove(b->p, id_of(0));
    run(5 * SECONDS);
    assert_links(a, 0);
    assert_links(b, 0);
    ck_assert_int_eq(a->downs, 4);
    ck_assert_uint_eq(hf_peers_silence_ms(a->p, id_of(1)), UINT64_MAX);
}
END_TEST

START_TEST(test_new_address_of_a_member_is_dialed)
{
    struct node *a = start(0), *b = start(1), *c = boot(2);

    add(a, 1);
    run(100);
    add(a, 1); /* the same again changes nothing */
    run(100);
    ck_assert_int_eq(a->ups, 2);
    c->config.self.node_id = id_of(1); /* node 1 moved */
    open_peers(c);
    hf_peers_add(a->p, id_of(1), address_of(2));
    run(100);
    assert_links(a, 2);
    assert_links(b, 0);
    assert_links(c, 2);
}
END_TEST

/* ---- acting inside events ------------------------------------------------------------------------ */

static void close_on_message(struct node *n, struct hf_link *link, uint8_t type)
{
    (void)type;
    n->is_inside = true;
    hf_link_close(link);
    hf_link_close(link);
    n->is_inside = false;
}

START_TEST(test_link_closed_in_its_own_message_delivers_no_more)
{
    struct node *a = start(0), *b = start(1);

    b->on_message = close_on_message;
    add(a, 1);
    run(100);
    for (int i = 0; i < 10; i++)
        ck_assert_int_eq(send_bytes(a, link_to(a, 1), 1, false, "x", 1), 0);
    run(20);
    ck_assert_int_eq(b->messages, 1);
    ck_assert_int_eq(b->downs, 1);
    run(1 * SECONDS);
    assert_links(a, 2);
}
END_TEST

static void remove_on_message(struct node *n, struct hf_link *link, uint8_t type)
{
    (void)type;
    n->is_inside = true;
    hf_peers_remove(n->p, hf_link_node_id(link));
    n->is_inside = false;
}

static void add_on_down(struct node *n, struct hf_link *link)
{
    unsigned number = (unsigned)hf_link_node_id(link) - 1;

    n->on_message = NULL;
    add(n, number);
}

START_TEST(test_member_removed_in_a_message_and_added_in_its_down)
{
    struct node *a = start(0), *b = start(1);

    a->on_message = remove_on_message;
    a->on_down = add_on_down;
    add(a, 1);
    run(100);
    ck_assert_int_eq(send_bytes(b, b->last_up, 1, false, "x", 1), 0);
    run(2 * SECONDS);
    ck_assert_int_eq(a->downs, 2);
    assert_links(a, 2);
    assert_links(b, 2);
}
END_TEST

static void close_on_up(struct node *n, struct hf_link *link)
{
    if (n->ups > 4)
        return;
    hf_link_close(link);
}

START_TEST(test_link_closed_in_its_own_up_is_dialed_again)
{
    struct node *a = start(0), *b = start(1);

    a->on_up = close_on_up;
    add(a, 1);
    run(5 * SECONDS);
    assert_links(a, 2);
    assert_links(b, 2);
    ck_assert_int_eq(a->downs, 4);
}
END_TEST

/* Messages sent in the turn of the close still go out: a leader hands over with its last words. */
START_TEST(test_last_words_before_close_arrive)
{
    struct node *a = start(0), *b = start(1);

    add(a, 1);
    run(100);
    free_seen(a);
    ck_assert_int_eq(send_bytes(a, link_to(a, 1), 'z', true, "bye", 3), 0);
    hf_peers_close(a->p);
    a->p = NULL;
    run(100);
    ck_assert_str_eq(b->order, "z");
    assert_links(b, 0);
}
END_TEST

Suite *peer_suite(void)
{
    Suite *s = suite_create("peer");
    TCase *t = tcase_create("peer");

    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, test_both_channels_come_up_and_carry_messages_both_ways);
    tcase_add_test(t, test_three_nodes_dial_each_other);
    tcase_add_test(t, test_wrong_cluster_is_refused_with_the_reason_on_both_sides);
    tcase_add_test(t, test_dialer_may_refuse_the_answer_and_the_accepter_never_sees_a_link);
    tcase_add_test(t, test_wrong_target_is_refused);
    tcase_add_test(t, test_node_that_dials_itself_is_refused);
    tcase_add_test(t, test_second_node_with_our_id_is_refused);
    tcase_add_test(t, test_no_common_protocol_version_is_refused_naming_both);
    tcase_add_test(t, test_overlapping_protocol_versions_meet);
    tcase_add_test(t, test_urgent_messages_overtake_a_large_one);
    tcase_add_test(t, test_ordinary_messages_keep_their_order);
    tcase_add_test(t, test_full_queue_refuses_but_leaves_room_for_urgent_ones);
    tcase_add_test(t, test_message_over_the_limit_is_refused_on_both_sides);
    tcase_add_test(t, test_restarted_peer_is_dialed_again);
    tcase_add_test(t, test_silent_link_is_closed_and_comes_back);
    tcase_add_test(t, test_own_standstill_is_not_taken_for_silence);
    tcase_add_test(t, test_removed_member_loses_all_links_and_is_left_alone);
    tcase_add_test(t, test_new_address_of_a_member_is_dialed);
    tcase_add_test(t, test_link_closed_in_its_own_message_delivers_no_more);
    tcase_add_test(t, test_member_removed_in_a_message_and_added_in_its_down);
    tcase_add_test(t, test_link_closed_in_its_own_up_is_dialed_again);
    tcase_add_test(t, test_last_words_before_close_arrive);
    suite_add_tcase(s, t);
    return s;
}
