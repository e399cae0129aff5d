/* What strangers and damaged streams can do to a node: nothing but cost a little, for a little while. */
#include "harness.h"
#include "suites.h"

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

Suite *stranger_suite(void)
{
    Suite *s = suite_create("stranger");
    TCase *t = tcase_create("stranger");

    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, test_garbage_ends_the_stream_at_once_and_reaches_nobody, 0, COUNT(garbage));
    tcase_add_test(t, test_half_open_streams_end_after_the_handshake_timeout);
    tcase_add_test(t, test_crowd_of_strangers_keeps_no_member_out);
    tcase_add_loop_test(t, test_violation_on_a_link_takes_it_down, 0, COUNT(breaks));
    tcase_add_test(t, test_crashed_peer_that_returns_replaces_its_old_link);
    tcase_add_test(t, test_flipped_bit_on_the_way_never_becomes_a_message);
    tcase_add_test(t, test_random_resets_lose_messages_but_never_bend_them);
    suite_add_tcase(s, t);
    return s;
}
