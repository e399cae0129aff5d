/* Nodes that talk through peer in a world of virtual time whose streams cut bytes anywhere. The recorder checks all
 * the time that events keep their promises: never from inside a call, up before anything, down exactly once. */
#include "suites.h"

#include "base/mem.h"
#include "base/util.h"
#include "peer/frame.h"
#include "peer/peer.h"
#include "sim/world.h"

#include <stdio.h>

#define NODES   4
#define MB      (1u << 20)
#define SECONDS 1000u

static struct hf_sim_world *world;

struct seen { /* hangs on a link while it is up */
    bool is_up;
};

struct node {
    unsigned number;
    struct hf_sim_node *fake;
    struct hf_env *env;
    struct hf_stats *stats;
    struct hf_peers *p;
    struct hf_peers_config config;
    bool is_inside; /* one of peer's functions */
    uint8_t cluster;
    bool refuses_answers; /* on_hello says no to those we dialed */
    /* what happened */
    int hellos, refused, ups, downs, messages, progress;
    uint64_t refused_node;
    char refused_why[256];
    struct hf_hello last_hello;
    struct hf_link *last_up;
    uint8_t last_type;
    size_t last_len;
    uint32_t last_crc;
    char order[64]; /* types of the messages as they came */
    /* what to do in an event */
    void (*on_message)(struct node *n, struct hf_link *link, uint8_t type);
    void (*on_up)(struct node *n, struct hf_link *link);
    void (*on_down)(struct node *n, struct hf_link *link);
};

static struct node nodes[NODES];

static const char *address_of(unsigned number)
{
    static const char *const addresses[NODES] = {"n0:7000", "n1:7000", "n2:7000", "n3:7000"};

    return addresses[number];
}

static uint64_t id_of(unsigned number)
{
    return number + 1;
}

/* ---- the recorder -------------------------------------------------------------------------------- */

static bool on_hello(void *data, const struct hf_hello *theirs, bool is_dialed, char *why, size_t why_size)
{
    struct node *n = data;

    ck_assert(!n->is_inside);
    n->hellos++;
    n->last_hello = *theirs;
    if (theirs->cluster_id[0] != n->cluster || (is_dialed && n->refuses_answers)) {
        snprintf(why, why_size, "node %u does not like cluster %u", n->number, theirs->cluster_id[0]);
        return false;
    }
    return true;
}

static void on_refused(void *data, uint64_t node_id, const char *why)
{
    struct node *n = data;

    ck_assert(!n->is_inside);
    n->refused++;
    n->refused_node = node_id;
    snprintf(n->refused_why, sizeof(n->refused_why), "%s", why);
}

static void on_link_up(void *data, struct hf_link *link)
{
    struct node *n = data;
    struct seen *seen = hf_calloc(1, sizeof(*seen));

    ck_assert(!n->is_inside);
    ck_assert_ptr_null(hf_link_data(link));
    seen->is_up = true;
    hf_link_set_data(link, seen);
    n->ups++;
    n->last_up = link;
    if (n->on_up)
        n->on_up(n, link);
}

static void on_link_down(void *data, struct hf_link *link)
{
    struct node *n = data;
    struct seen *seen = hf_link_data(link);

    ck_assert(!n->is_inside);
    ck_assert_ptr_nonnull(seen);
    ck_assert(seen->is_up);
    ck_assert_int_eq(hf_link_send(link, 1, false, NULL, 0), HF_E_CLOSED);
    hf_link_set_data(link, NULL);
    hf_free(seen);
    n->downs++;
    if (n->last_up == link)
        n->last_up = NULL;
    if (n->on_down)
        n->on_down(n, link);
}

static void on_message(void *data, struct hf_link *link, uint8_t type, struct hf_slice payload)
{
    struct node *n = data;
    struct seen *seen = hf_link_data(link);

    ck_assert(!n->is_inside);
    ck_assert_ptr_nonnull(seen);
    if ((size_t)n->messages < sizeof(n->order) - 1)
        n->order[n->messages] = (char)type;
    n->messages++;
    n->last_type = type;
    n->last_len = payload.len;
    n->last_crc = hf_crc32c(0, payload.ptr, payload.len);
    if (n->on_message)
        n->on_message(n, link, type);
}

static void on_progress(void *data, struct hf_link *link)
{
    struct node *n = data;

    ck_assert(!n->is_inside);
    ck_assert_ptr_nonnull(hf_link_data(link));
    n->progress++;
}

/* ---- the world ----------------------------------------------------------------------------------- */

static void open_peers(struct node *n)
{
    struct hf_peers_events events = {.data = n,
                                     .on_hello = on_hello,
                                     .on_refused = on_refused,
                                     .on_link_up = on_link_up,
                                     .on_link_down = on_link_down,
                                     .on_message = on_message,
                                     .on_progress = on_progress};

    memset(n->config.self.cluster_id, n->cluster, 16);
    n->is_inside = true;
    ck_assert_int_eq(hf_peers_open(n->env, &n->config, &events, n->stats, &n->p), 0);
    n->is_inside = false;
}

static struct node *boot(unsigned number)
{
    struct node *n = &nodes[number];

    *n = (struct node){.number = number, .cluster = 7};
    n->fake = hf_sim_node_new(world, number);
    n->env = hf_sim_node_env(n->fake);
    n->stats = hf_stats_new();
    n->config = (struct hf_peers_config){.listen_address = address_of(number), .message_bytes_max = 80 * MB};
    n->config.self.node_id = id_of(number);
    n->config.self.store_id = 1000 + number;
    snprintf(n->config.self.address, sizeof(n->config.self.address), "%s", address_of(number));
    snprintf(n->config.self.client_address, sizeof(n->config.self.client_address), "client%u:1", number);
    return n;
}

static struct node *start(unsigned number)
{
    struct node *n = boot(number);

    open_peers(n);
    return n;
}

static void free_seen(struct node *n)
{
    /* hf_peers_close calls nothing: what hangs on the links is the owner's to find. */
    for (unsigned i = 0; i < NODES; i++) {
        for (int c = 0; c < HF_CHANNELS; c++) {
            struct hf_link *link = hf_peers_link(n->p, id_of(i), (enum hf_channel)c);

            if (link != NULL) {
                hf_free(hf_link_data(link));
                hf_link_set_data(link, NULL);
            }
        }
    }
}

static void close_peers(struct node *n)
{
    if (n->p == NULL)
        return;
    /* Take every link down first, so that the recorder lets go of what it hung on them. */
    n->on_down = NULL;
    for (unsigned i = 0; i < NODES; i++) {
        if (i != n->number)
            hf_peers_remove(n->p, id_of(i));
    }
    hf_sim_world_run_until(world, hf_sim_world_now_ms(world) + 1);
    free_seen(n);
    hf_peers_close(n->p);
    n->p = NULL;
    ck_assert_int_eq(n->ups, n->downs);
}

static void stop(struct node *n)
{
    if (n->fake == NULL)
        return;
    close_peers(n);
    hf_stats_free(n->stats);
    hf_sim_node_free(n->fake);
    *n = (struct node){0};
}

static void setup(void)
{
    world = hf_sim_world_new(1);
    memset(nodes, 0, sizeof(nodes));
}

static void teardown(void)
{
    for (unsigned i = 0; i < NODES; i++) {
        if (nodes[i].fake != NULL && nodes[i].p != NULL)
            nodes[i].on_message = NULL;
    }
    for (unsigned i = 0; i < NODES; i++)
        stop(&nodes[i]);
    hf_sim_world_free(world);
}

static void run(uint64_t ms)
{
    hf_sim_world_run_until(world, hf_sim_world_now_ms(world) + ms);
}

static void add(struct node *n, unsigned other)
{
    n->is_inside = true;
    hf_peers_add(n->p, id_of(other), address_of(other));
    n->is_inside = false;
}

static struct hf_link *link_to(struct node *n, unsigned other)
{
    return hf_peers_link(n->p, id_of(other), HF_CHANNEL_RAFT);
}

static int send_bytes(struct node *n, struct hf_link *link, uint8_t type, bool urgent, const void *bytes, size_t len)
{
    struct hf_slice part = hf_slice(bytes, len);
    int rc;

    n->is_inside = true;
    rc = hf_link_send(link, type, urgent, &part, 1);
    n->is_inside = false;
    return rc;
}

static uint64_t counter(struct node *n, const char *name, const char *labels)
{
    return hf_counter_get(hf_stats_counter(n->stats, name, labels, ""));
}

static void assert_links(struct node *n, int up)
{
    ck_assert_int_eq(n->ups - n->downs, up);
    ck_assert_int_eq(hf_gauge_get(hf_stats_gauge(n->stats, "peer_links", "channel=\"raft\"", "")) +
                         hf_gauge_get(hf_stats_gauge(n->stats, "peer_links", "channel=\"proxy\"", "")),
                     up);
}

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
    for (int c = 0; c < HF_CHANNELS; c++) {
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

/* ---- strangers ----------------------------------------------------------------------------------- */

struct stranger {
    struct hf_buf say; /* when the stream opens */
    struct hf_stream *s;
    bool is_open, is_closed;
    struct hf_buf heard;
    uint64_t closed_ms;
};

static void stranger_open(struct hf_stream *s)
{
    struct stranger *st = s->data;

    st->is_open = true;
    if (st->say.len != 0)
        (void)s->env->stream_write(s->env, s, st->say.data, st->say.len);
}

static void stranger_data(struct hf_stream *s, const uint8_t *bytes, size_t n)
{
    struct stranger *st = s->data;

    hf_buf_put(&st->heard, bytes, n);
}

static void stranger_close(struct hf_stream *s, int rc)
{
    struct stranger *st = s->data;

    (void)rc;
    st->s = NULL;
    st->is_closed = true;
    st->closed_ms = hf_sim_world_now_ms(world);
}

static const struct hf_stream_events stranger_events = {
    .on_open = stranger_open, .on_data = stranger_data, .on_close = stranger_close};

static void stranger_dial(struct stranger *st, struct node *from, unsigned to)
{
    ck_assert_int_eq(from->env->connect(from->env, address_of(to), 500, &stranger_events, st, &st->s), 0);
}

static void stranger_free(struct stranger *st, struct node *from)
{
    if (st->s != NULL) {
        from->env->stream_close(from->env, st->s, false);
        run(10);
    }
    hf_buf_free(&st->say);
    hf_buf_free(&st->heard);
}

static void put_frame(struct hf_buf *b, uint8_t type, unsigned flags, uint16_t sequence, struct hf_slice payload)
{
    hf_frame_put(b, type, (uint8_t)flags, sequence, &payload, 1);
}

static void put_hello(struct hf_buf *b, const struct hf_hello *h)
{
    struct hf_buf payload = {0};

    hf_hello_put(&payload, h);
    hf_frame_put_preface(b);
    put_frame(b, HF_FRAME_HELLO, 0, 0, hf_buf_slice(&payload));
    hf_buf_free(&payload);
}

static struct hf_hello good_hello(void)
{
    struct hf_hello h = {.protocol_min = 1, .protocol_max = 1, .node_id = id_of(3), .target_id = id_of(1)};

    memset(h.cluster_id, 7, 16);
    return h;
}

static void say_http(struct hf_buf *b)
{
    hf_buf_printf(b, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
}
static void say_resp(struct hf_buf *b)
{
    hf_buf_printf(b, "*1\r\n$4\r\nPING\r\n");
}
static void say_three_bytes(struct hf_buf *b)
{
    hf_buf_put(b, "abc", 3);
}
static void say_zeroes(struct hf_buf *b)
{
    for (int i = 0; i < 5000; i++)
        hf_buf_put_u8(b, 0);
}
static void say_other_framing(struct hf_buf *b)
{
    hf_frame_put_preface(b);
    b->data[8] = 9;
}
static void say_message_first(struct hf_buf *b)
{
    hf_frame_put_preface(b);
    put_frame(b, 1, 0, 0, hf_slice_str("raft?"));
}
static void say_keepalive_first(struct hf_buf *b)
{
    hf_frame_put_preface(b);
    put_frame(b, HF_FRAME_KEEPALIVE, 0, 0, hf_slice(NULL, 0));
}
static void say_refuse_first(struct hf_buf *b)
{
    hf_frame_put_preface(b);
    put_frame(b, HF_FRAME_REFUSE, 0, 0, hf_slice_str("no"));
}
static void say_long_frame(struct hf_buf *b)
{
    static const uint8_t zeroes[4096];

    hf_frame_put_preface(b);
    put_frame(b, HF_FRAME_HELLO, 0, 0, hf_slice(zeroes, sizeof(zeroes)));
}
static void say_bad_hello(struct hf_buf *b)
{
    hf_frame_put_preface(b);
    put_frame(b, HF_FRAME_HELLO, 0, 0, hf_slice_str("\x01"));
}
static void say_damaged_hello(struct hf_buf *b)
{
    struct hf_hello h = good_hello();

    put_hello(b, &h);
    b->data[60] ^= 1;
}
static void say_two_hellos(struct hf_buf *b)
{
    struct hf_hello h = good_hello();
    struct hf_buf payload = {0};

    put_hello(b, &h);
    hf_hello_put(&payload, &h);
    put_frame(b, HF_FRAME_HELLO, 0, 1, hf_buf_slice(&payload));
    hf_buf_free(&payload);
}

static void (*const garbage[])(struct hf_buf *) = {
    say_http,          say_resp,          say_three_bytes,     say_zeroes,
    say_other_framing, say_message_first, say_keepalive_first, say_refuse_first,
    say_long_frame,    say_bad_hello,     say_damaged_hello,   say_two_hellos,
};

START_TEST(test_garbage_ends_the_stream_at_once_and_reaches_nobody)
{
    struct node *b = start(1), *c = boot(3);
    struct stranger st = {0};

    garbage[_i](&st.say);
    stranger_dial(&st, c, 1);
    run(50);
    ck_assert(st.is_open);
    ck_assert(st.is_closed);
    ck_assert_int_eq(b->ups + b->messages + b->refused, 0);
    ck_assert_uint_eq(counter(b, "peer_strangers_rejected_total", NULL), 1);
    stranger_free(&st, c);
}
END_TEST

START_TEST(test_half_open_streams_end_after_the_handshake_timeout)
{
    struct node *b = start(1), *c = boot(3);
    struct stranger st[3] = {0};
    struct hf_hello h = good_hello();

    hf_buf_put(&st[1].say, "HOLDFA", 6);
    put_hello(&st[2].say, &h); /* answered, but never makes the link */
    for (int i = 0; i < 3; i++)
        stranger_dial(&st[i], c, 1);
    run(1900);
    for (int i = 0; i < 3; i++)
        ck_assert(!st[i].is_closed);
    ck_assert_uint_eq(st[1].heard.len, 0);
    ck_assert_uint_gt(st[2].heard.len, HF_PREFACE_BYTES);
    run(200);
    for (int i = 0; i < 3; i++) {
        ck_assert(st[i].is_closed);
        stranger_free(&st[i], c);
    }
    ck_assert_int_eq(b->ups, 0);
}
END_TEST

START_TEST(test_crowd_of_strangers_keeps_no_member_out)
{
    struct node *a = start(0), *b = start(1), *c = boot(3);
    struct stranger *crowd = hf_calloc(300, sizeof(*crowd));
    int open = 0;

    for (int i = 0; i < 300; i++)
        stranger_dial(&crowd[i], c, 1);
    run(50);
    for (int i = 0; i < 300; i++)
        open += crowd[i].is_open && !crowd[i].is_closed;
    ck_assert_int_eq(open, 64);
    add(a, 1);
    run(50);
    assert_links(a, 2);
    assert_links(b, 2);
    for (int i = 0; i < 300; i++)
        stranger_free(&crowd[i], c);
    hf_free(crowd);
}
END_TEST

/* A stranger that makes a link by hand can then break it in each of these ways. */
static void break_with_hello(struct hf_buf *b)
{
    struct hf_hello h = good_hello();
    struct hf_buf payload = {0};

    hf_hello_put(&payload, &h);
    put_frame(b, HF_FRAME_HELLO, 0, 2, hf_buf_slice(&payload));
    hf_buf_free(&payload);
}
static void break_with_flags(struct hf_buf *b)
{
    put_frame(b, 1, 0x20, 2, hf_slice_str("x"));
}
static void break_with_sequence(struct hf_buf *b)
{
    put_frame(b, 1, 0, 3, hf_slice_str("x"));
}
static void break_with_type(struct hf_buf *b)
{
    put_frame(b, 0xfe, 0, 2, hf_slice_str("x"));
}
static void break_with_checksum(struct hf_buf *b)
{
    put_frame(b, 1, 0, 2, hf_slice_str("x"));
    b->data[b->len - 1] ^= 1;
}

static void (*const breaks[])(struct hf_buf *) = {break_with_hello, break_with_flags, break_with_sequence,
                                                  break_with_type, break_with_checksum};

START_TEST(test_violation_on_a_link_takes_it_down)
{
    struct node *b = start(1), *c = boot(3);
    struct hf_hello h = good_hello();
    struct stranger st = {0};
    struct hf_buf more = {0};

    put_hello(&st.say, &h);
    put_frame(&st.say, 1, 0, 1, hf_slice_str("ok"));
    stranger_dial(&st, c, 1);
    run(50);
    assert_links(b, 1);
    ck_assert_int_eq(b->messages, 1);
    breaks[_i](&more);
    ck_assert_int_eq(c->env->stream_write(c->env, st.s, more.data, more.len), 0);
    run(50);
    assert_links(b, 0);
    ck_assert_int_eq(b->messages, 1);
    ck_assert(st.is_closed);
    hf_buf_free(&more);
    stranger_free(&st, c);
}
END_TEST

/* ---- queues -------------------------------------------------------------------------------------- */

static uint8_t *pattern(size_t n, uint64_t seed)
{
    uint8_t *bytes = hf_malloc(n);
    struct hf_prng prng;

    hf_prng_seed(&prng, seed);
    for (size_t i = 0; i + 8 <= n; i += 8)
        hf_store_u64(bytes + i, hf_prng_next(&prng));
    for (size_t i = n & ~(size_t)7; i < n; i++)
        bytes[i] = (uint8_t)i;
    return bytes;
}

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

START_TEST(test_crashed_peer_that_returns_replaces_its_old_link)
{
    struct node *b = start(1), *c = boot(3);
    struct hf_hello h = good_hello();
    struct stranger first = {0}, second = {0};
    struct hf_link *old;

    put_hello(&first.say, &h);
    put_frame(&first.say, HF_FRAME_KEEPALIVE, 0, 1, hf_slice(NULL, 0));
    stranger_dial(&first, c, 1);
    run(50);
    assert_links(b, 1);
    old = b->last_up;
    put_hello(&second.say, &h);
    stranger_dial(&second, c, 1);
    run(50);
    ck_assert_int_eq(b->ups, 1); /* a hello alone replaces nothing */
    ck_assert(!first.is_closed);
    hf_buf_free(&second.say);
    put_frame(&second.say, HF_FRAME_KEEPALIVE, 0, 1, hf_slice(NULL, 0));
    ck_assert_int_eq(c->env->stream_write(c->env, second.s, second.say.data, second.say.len), 0);
    run(50);
    ck_assert_int_eq(b->ups, 2);
    ck_assert_int_eq(b->downs, 1);
    ck_assert_ptr_ne(b->last_up, old);
    ck_assert(first.is_closed);
    ck_assert(!second.is_closed);
    stranger_free(&first, c);
    stranger_free(&second, c);
    run(50);
    assert_links(b, 0);
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

/* ---- damage on the way --------------------------------------------------------------------------- */

/* A proxy between the two that flips one bit of the n-th byte it carries in one direction. */
struct relay {
    struct hf_env *env;
    struct relay_pair *pairs;
    uint64_t flip_at; /* of all bytes towards the listener */
    uint64_t carried;
    struct hf_listener *listener;
};

struct relay_pair {
    struct relay_pair *next;
    struct relay *relay;
    struct hf_stream *in, *out;
    struct hf_buf waiting; /* until out is open */
    bool is_open;
};

static void relay_close(struct hf_stream *s, int rc)
{
    struct relay_pair *p = s->data;
    struct hf_stream *other = p->in == s ? p->out : p->in;

    (void)rc;
    if (p->in == s)
        p->in = NULL;
    else
        p->out = NULL;
    if (other != NULL)
        s->env->stream_close(s->env, other, true);
}

static void relay_forward(struct hf_stream *s, const uint8_t *bytes, size_t n)
{
    struct relay_pair *p = s->data;
    struct relay *r = p->relay;

    if (s == p->out) {
        if (p->in != NULL)
            (void)s->env->stream_write(s->env, p->in, bytes, n);
        return;
    }
    for (size_t i = 0; i < n; i++)
        hf_buf_put_u8(&p->waiting, (uint8_t)(bytes[i] ^ (r->carried++ == r->flip_at ? 0x10 : 0)));
    if (p->is_open && p->out != NULL) {
        (void)s->env->stream_write(s->env, p->out, p->waiting.data, p->waiting.len);
        p->waiting.len = 0;
    }
}

static void relay_open(struct hf_stream *s)
{
    struct relay_pair *p = s->data;

    p->is_open = true;
    if (p->waiting.len != 0)
        (void)s->env->stream_write(s->env, s, p->waiting.data, p->waiting.len);
    p->waiting.len = 0;
}

static const struct hf_stream_events relay_events = {
    .on_open = relay_open, .on_data = relay_forward, .on_close = relay_close};

static void relay_accept(void *data, struct hf_stream *s)
{
    struct relay *r = data;
    struct relay_pair *p = hf_calloc(1, sizeof(*p));

    p->relay = r;
    p->next = r->pairs;
    r->pairs = p;
    p->in = s;
    s->events = &relay_events;
    s->data = p;
    ck_assert_int_eq(r->env->connect(r->env, address_of(1), 500, &relay_events, p, &p->out), 0);
}

static const struct hf_listener_events relay_listener = {.on_accept = relay_accept};

START_TEST(test_flipped_bit_on_the_way_never_becomes_a_message)
{
    struct node *a = start(0), *b = start(1), *c = boot(3);
    struct relay r = {.env = c->env, .flip_at = UINT64_MAX};
    uint8_t *bytes = pattern(700, 11);
    struct hf_prng prng;

    hf_prng_seed(&prng, 12);
    ck_assert_int_eq(c->env->listen(c->env, "relay:1", &relay_listener, &r, &r.listener), 0);
    hf_peers_add(a->p, id_of(1), "relay:1");
    for (int round = 0; round < 200; round++) {
        int before, downs;

        for (int i = 0; i < 3000 && link_to(a, 1) == NULL; i++)
            run(1);
        run(30);
        ck_assert_ptr_nonnull(link_to(a, 1));
        before = b->messages;
        downs = b->downs;
        r.flip_at = r.carried + hf_prng_below(&prng, HF_FRAME_HEADER_BYTES + 700);
        ck_assert_int_eq(send_bytes(a, link_to(a, 1), 1, false, bytes, 700), 0);
        run(30);
        ck_assert_int_eq(b->messages, before);
        ck_assert_int_gt(b->downs, downs);
        r.flip_at = UINT64_MAX;
    }
    stop(a);
    run(100);
    c->env->listener_close(c->env, r.listener);
    run(100);
    while (r.pairs != NULL) {
        struct relay_pair *p = r.pairs;

        r.pairs = p->next;
        hf_buf_free(&p->waiting);
        hf_free(p);
    }
    hf_free(bytes);
}
END_TEST

/* Resets at random while messages flow: what arrives is whole and in order within a link, and it always recovers. */
START_TEST(test_random_resets_lose_messages_but_never_bend_them)
{
    struct node *a = start(0), *b = start(1);
    uint8_t *bytes = pattern(600 << 10, 13);
    struct hf_prng prng;
    int sent = 0;

    hf_prng_seed(&prng, 14);
    add(a, 1);
    add(b, 0);
    hf_sim_world_rules(world)->reset_per_million = 2000;
    for (int i = 0; i < 5000; i++) {
        struct hf_link *link = link_to(a, 1);
        size_t len = hf_prng_below(&prng, hf_prng_below(&prng, 50) == 0 ? 600 << 10 : 200);

        if (link != NULL && send_bytes(a, link, 1, hf_prng_below(&prng, 2) == 0, bytes, len) == 0)
            sent++;
        run(1 + hf_prng_below(&prng, 3));
        if (b->messages > 0)
            ck_assert_uint_eq(b->last_crc, hf_crc32c(0, bytes, b->last_len));
    }
    ck_assert_int_gt(b->messages, 1000);
    ck_assert_int_le(b->messages, sent);
    ck_assert_int_gt(a->downs, 3);
    hf_sim_world_rules(world)->reset_per_million = 0;
    run(2 * SECONDS);
    assert_links(a, 4);
    assert_links(b, 4);
    hf_free(bytes);
}
END_TEST

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

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
    tcase_add_loop_test(t, test_garbage_ends_the_stream_at_once_and_reaches_nobody, 0, COUNT(garbage));
    tcase_add_test(t, test_half_open_streams_end_after_the_handshake_timeout);
    tcase_add_test(t, test_crowd_of_strangers_keeps_no_member_out);
    tcase_add_loop_test(t, test_violation_on_a_link_takes_it_down, 0, COUNT(breaks));
    tcase_add_test(t, test_urgent_messages_overtake_a_large_one);
    tcase_add_test(t, test_ordinary_messages_keep_their_order);
    tcase_add_test(t, test_full_queue_refuses_but_leaves_room_for_urgent_ones);
    tcase_add_test(t, test_message_over_the_limit_is_refused_on_both_sides);
    tcase_add_test(t, test_restarted_peer_is_dialed_again);
    tcase_add_test(t, test_crashed_peer_that_returns_replaces_its_old_link);
    tcase_add_test(t, test_silent_link_is_closed_and_comes_back);
    tcase_add_test(t, test_own_standstill_is_not_taken_for_silence);
    tcase_add_test(t, test_removed_member_loses_all_links_and_is_left_alone);
    tcase_add_test(t, test_new_address_of_a_member_is_dialed);
    tcase_add_test(t, test_link_closed_in_its_own_message_delivers_no_more);
    tcase_add_test(t, test_member_removed_in_a_message_and_added_in_its_down);
    tcase_add_test(t, test_link_closed_in_its_own_up_is_dialed_again);
    tcase_add_test(t, test_last_words_before_close_arrive);
    tcase_add_test(t, test_flipped_bit_on_the_way_never_becomes_a_message);
    tcase_add_test(t, test_random_resets_lose_messages_but_never_bend_them);
    suite_add_tcase(s, t);
    return s;
}
