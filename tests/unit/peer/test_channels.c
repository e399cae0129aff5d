/* The channels of the second release: copies of the state while they are wanted, and nodes that ask to join. */
#include "harness.h"
#include "suites.h"

static struct hf_link *state_link(struct node *n, unsigned other)
{
    return hf_peers_link(n->p, id_of(other), HF_CHANNEL_STATE);
}

static int64_t up_links(struct node *n, const char *label)
{
    return hf_gauge_get(hf_stats_gauge(n->stats, "peer_links", label, ""));
}

/* ---- a node that says what the test wants --------------------------------------------------------- */

struct caller {
    struct hf_buf say;
    struct hf_stream *s;
    bool is_open, is_closed;
    struct hf_buf heard;
};

static void caller_open(struct hf_stream *s)
{
    struct caller *c = s->data;

    c->is_open = true;
    (void)s->env->stream_write(s->env, s, c->say.data, c->say.len);
    c->say.len = 0;
}

static void caller_data(struct hf_stream *s, const uint8_t *bytes, size_t n)
{
    struct caller *c = s->data;

    hf_buf_put(&c->heard, bytes, n);
}

static void caller_close(struct hf_stream *s, int rc)
{
    struct caller *c = s->data;

    (void)rc;
    c->s = NULL;
    c->is_closed = true;
}

static const struct hf_stream_events caller_events = {
    .on_open = caller_open, .on_data = caller_data, .on_close = caller_close};

/* Dials node 1 with a hello and, when the link shall come up, the keepalive that makes it. */
static void call(struct caller *c, struct node *from, const struct hf_hello *h, bool is_linking)
{
    struct hf_buf payload = {0};
    struct hf_slice part;

    hf_hello_put(&payload, h);
    part = hf_buf_slice(&payload);
    hf_frame_put_preface(&c->say);
    hf_frame_put(&c->say, HF_FRAME_HELLO, 0, 0, &part, 1);
    if (is_linking)
        hf_frame_put(&c->say, HF_FRAME_KEEPALIVE, 0, 1, NULL, 0);
    hf_buf_free(&payload);
    ck_assert_int_eq(from->env->connect(from->env, address_of(1), 500, &caller_events, c, &c->s), 0);
    run(50);
}

static void hang_up(struct caller *c, struct node *from)
{
    if (c->s != NULL) {
        from->env->stream_close(from->env, c->s, false);
        run(10);
    }
    hf_buf_free(&c->say);
    hf_buf_free(&c->heard);
}

/* What the other side refused us with, "" for nothing. */
static const char *refusal(struct caller *c)
{
    static char why[256];
    size_t at = HF_PREFACE_BYTES;

    why[0] = '\0';
    if (c->heard.len >= at + HF_FRAME_HEADER_BYTES && c->heard.data[at + 4] == HF_FRAME_REFUSE)
        ck_assert(hf_refuse_decode(
            hf_slice(c->heard.data + at + HF_FRAME_HEADER_BYTES, hf_load_u32(c->heard.data + at)), why, sizeof(why)));
    return why;
}

static struct hf_hello joiner_hello(uint64_t store_id)
{
    struct hf_hello h = {.protocol_min = 1, .protocol_max = 1, .channel = HF_CHANNEL_JOIN, .store_id = store_id};

    return h;
}

/* ---- STATE --------------------------------------------------------------------------------------- */

START_TEST(test_state_link_is_there_while_it_is_wanted)
{
    struct node *a = start(0), *b = start(1);

    hf_peers_want_state(a->p, id_of(1), true); /* not added yet: nothing */
    add(a, 1);
    run(200);
    ck_assert_ptr_null(state_link(a, 1));
    a->is_inside = true;
    hf_peers_want_state(a->p, id_of(1), true);
    hf_peers_want_state(a->p, id_of(1), true);
    a->is_inside = false;
    run(100);
    ck_assert_ptr_nonnull(state_link(a, 1));
    ck_assert_int_eq(hf_link_channel(b->last_up), HF_CHANNEL_STATE);
    ck_assert_uint_eq(hf_link_node_id(b->last_up), id_of(0));
    ck_assert_int_eq(up_links(b, "channel=\"state\""), 1);
    ck_assert_int_eq(send_bytes(a, state_link(a, 1), 3, false, "chunk", 5), 0);
    run(10);
    ck_assert_int_eq(b->messages, 1);
    run(20 * SECONDS); /* keepalives carry it */
    ck_assert_int_eq(a->downs, 0);
    a->is_inside = true;
    hf_peers_want_state(a->p, id_of(1), false);
    a->is_inside = false;
    run(5 * SECONDS);
    ck_assert_ptr_null(state_link(a, 1));
    ck_assert_int_eq(up_links(b, "channel=\"state\""), 0);
    assert_links(b, 2);
    hf_peers_want_state(a->p, id_of(1), true);
    run(100);
    ck_assert_ptr_nonnull(state_link(a, 1));
    hf_peers_remove(a->p, id_of(1));
    run(100);
    add(a, 1);
    run(100);
    ck_assert_ptr_null(state_link(a, 1)); /* the wish went with the member */
}
END_TEST

START_TEST(test_state_link_comes_back_and_follows_the_address)
{
    struct node *a = start(0), *b = start(1);

    add(a, 1);
    hf_peers_want_state(a->p, id_of(1), true);
    run(100);
    hf_link_close(b->last_up);
    run(2 * SECONDS);
    ck_assert_ptr_nonnull(state_link(a, 1));
    hf_peers_add(a->p, id_of(1), address_of(2));
    run(100);
    ck_assert_ptr_null(state_link(a, 1));
    add(a, 1);
    run(100);
    ck_assert_ptr_nonnull(state_link(a, 1));
}
END_TEST

START_TEST(test_full_state_link_leaves_the_others_alone)
{
    struct node *a = start(0), *b = start(1);
    uint8_t *bytes = pattern(MB, 5);
    int sent = 0;

    add(a, 1);
    hf_peers_want_state(a->p, id_of(1), true);
    run(200);
    hf_sim_world_block(world, 0, 1, true);
    while (send_bytes(a, state_link(a, 1), 1, false, bytes, MB) == 0)
        ck_assert_int_le(++sent, 16);
    ck_assert_int_ge(sent, 14);
    ck_assert_uint_le(hf_link_queued(state_link(a, 1)), HF_PEER_STATE_QUEUE_BYTES_MAX);
    ck_assert_int_eq(send_bytes(a, link_to(a, 1), 2, false, bytes, MB), 0);
    ck_assert_uint_eq(counter(a, "peer_dropped_total", "channel=\"raft\""), 0);
    ck_assert_uint_eq(counter(a, "peer_dropped_total", "channel=\"state\""), 1);
    hf_sim_world_heal(world);
    for (int i = 0; i < 20000 && b->messages < sent + 1; i++)
        run(1);
    ck_assert_int_eq(b->messages, sent + 1);
    hf_free(bytes);
}
END_TEST

START_TEST(test_state_messages_have_a_limit_of_their_own)
{
    struct node *a = start(0), *b = start(1);
    size_t n = HF_PEER_STATE_MESSAGE_BYTES_MAX;
    uint8_t *bytes = pattern(n + 1, 5);

    add(a, 1);
    hf_peers_want_state(a->p, id_of(1), true);
    run(200);
    ck_assert_int_eq(send_bytes(a, state_link(a, 1), 1, false, bytes, n + 1), HF_E_LIMIT);
    ck_assert_int_eq(send_bytes(a, state_link(a, 1), 1, false, bytes, n), 0);
    for (int i = 0; i < 5000 && b->messages == 0; i++)
        run(1);
    ck_assert_uint_eq(b->last_crc, hf_crc32c(0, bytes, n));
    ck_assert_int_eq(send_bytes(a, link_to(a, 1), 1, false, bytes, n + 1), 0);
    hf_free(bytes);
}
END_TEST

/* ---- a node of the first release ------------------------------------------------------------------ */

/* It hangs up on a hello of a channel it does not know, without a word. */
struct old_node {
    struct hf_listener *listener;
    int calls[HF_CHANNELS];
};

struct old_call {
    struct old_node *o;
    size_t heard;
};

static void old_data(struct hf_stream *s, const uint8_t *bytes, size_t n)
{
    struct old_call *call = s->data;
    size_t at = HF_PREFACE_BYTES + HF_FRAME_HEADER_BYTES + 4, from = call->heard;

    call->heard += n;
    if (from > at || call->heard <= at)
        return;
    ck_assert_uint_lt(bytes[at - from], HF_CHANNELS);
    call->o->calls[bytes[at - from]]++;
    s->env->stream_close(s->env, s, false);
}

static void old_close(struct hf_stream *s, int rc)
{
    (void)rc;
    hf_free(s->data);
}

static const struct hf_stream_events old_events = {.on_data = old_data, .on_close = old_close};

static void old_accept(void *data, struct hf_stream *s)
{
    struct old_call *call = hf_calloc(1, sizeof(*call));

    call->o = data;
    s->events = &old_events;
    s->data = call;
}

static const struct hf_listener_events old_listener = {.on_accept = old_accept};

START_TEST(test_node_that_does_not_know_a_channel_is_tried_ever_more_rarely)
{
    struct node *a = start(0), *c = boot(3);
    struct old_node o = {0};
    int state, join;

    ck_assert_int_eq(c->env->listen(c->env, "old:1", &old_listener, &o, &o.listener), 0);
    hf_peers_add(a->p, id_of(3), "old:1");
    hf_peers_want_state(a->p, id_of(3), true);
    hf_peers_dial_join(a->p, "old:1");
    run(10 * SECONDS);
    state = o.calls[HF_CHANNEL_STATE];
    join = o.calls[HF_CHANNEL_JOIN];
    ck_assert_int_ge(state, 3);
    ck_assert_int_le(state, 6);
    ck_assert_int_ge(join, 3);
    ck_assert_int_le(join, 6);
    run(600 * SECONDS);
    ck_assert_int_ge(o.calls[HF_CHANNEL_STATE] - state, 39); /* each 7.5 to 15 s */
    ck_assert_int_le(o.calls[HF_CHANNEL_STATE] - state, 82);
    ck_assert_int_le(o.calls[HF_CHANNEL_JOIN] - join, 82);
    ck_assert_int_ge(o.calls[HF_CHANNEL_RAFT], 1000); /* as soon as ever: there it is a member that starts */
    ck_assert_int_eq(a->ups + a->refused, 0);
    stop(a);
    run(10);
    c->env->listener_close(c->env, o.listener);
    run(10);
}
END_TEST

START_TEST(test_channel_that_becomes_known_comes_up)
{
    struct node *a = start(0), *c = boot(1);
    struct old_node o = {0};

    ck_assert_int_eq(c->env->listen(c->env, address_of(1), &old_listener, &o, &o.listener), 0);
    hf_peers_dial_join(a->p, address_of(1));
    run(60 * SECONDS);
    c->env->listener_close(c->env, o.listener);
    open_peers(c);
    run(16 * SECONDS);
    ck_assert_ptr_nonnull(hf_peers_join_link(a->p));
}
END_TEST

/* ---- JOIN ---------------------------------------------------------------------------------------- */

static struct node *start_joiner(unsigned number)
{
    struct node *n = boot(number);

    n->config.self.node_id = 0;
    n->cluster = 0;
    n->likes_all = true;
    open_peers(n);
    return n;
}

START_TEST(test_node_without_an_id_joins_and_becomes_a_member)
{
    struct node *a = start_joiner(0), *b = start(1);
    struct hf_link *accepted;

    b->likes_all = true;
    ck_assert_ptr_null(hf_peers_join_link(a->p));
    a->is_inside = true;
    hf_peers_dial_join(a->p, address_of(1));
    hf_peers_dial_join(a->p, address_of(1));
    a->is_inside = false;
    run(100);
    ck_assert_ptr_nonnull(hf_peers_join_link(a->p));
    ck_assert_uint_eq(hf_link_node_id(hf_peers_join_link(a->p)), id_of(1));
    ck_assert_uint_eq(a->last_hello.cluster_id[0], 7);
    ck_assert_int_eq(b->hellos, 1);
    ck_assert_int_eq(b->last_hello.channel, HF_CHANNEL_JOIN);
    ck_assert_uint_eq(b->last_hello.node_id, 0);
    ck_assert_uint_eq(b->last_hello.target_id, 0);
    ck_assert_uint_eq(b->last_hello.cluster_id[0], 0);
    ck_assert_uint_eq(b->last_hello.store_id, 1000);
    accepted = b->last_up;
    ck_assert_uint_eq(hf_link_node_id(accepted), 0);
    ck_assert_int_eq(hf_link_channel(accepted), HF_CHANNEL_JOIN);
    ck_assert_int_eq(send_bytes(a, hf_peers_join_link(a->p), 1, false, "may I?", 6), 0);
    run(10);
    ck_assert_int_eq(b->messages, 1);
    ck_assert_int_eq(send_bytes(b, accepted, 2, false, "you are 1", 9), 0);
    run(10);
    ck_assert_int_eq(a->messages, 1);
    run(20 * SECONDS);
    ck_assert_int_eq(a->downs + b->downs, 0);

    memset(a->config.self.cluster_id, 7, 16);
    a->config.self.node_id = id_of(0);
    hf_peers_update_self(a->p, &a->config.self);
    add(a, 1);
    run(100);
    ck_assert_int_eq(a->ups, 3);
    ck_assert_int_eq(up_links(a, "channel=\"join\""), 1);
    ck_assert_int_eq(up_links(b, "channel=\"raft\""), 1);
}
END_TEST

START_TEST(test_join_that_the_owner_refuses_says_why_with_node_id_zero)
{
    struct node *a = start_joiner(0), *b = start(1);

    hf_peers_dial_join(a->p, address_of(1));
    run(100);
    ck_assert_int_eq(a->refused, 1);
    ck_assert_uint_eq(a->refused_node, 0);
    ck_assert_str_eq(a->refused_why, "node 1 does not like cluster 0");
    ck_assert_uint_eq(counter(b, "peer_refused_total", "channel=\"join\""), 1);
    b->likes_all = true;
    run(3 * SECONDS);
    ck_assert_ptr_nonnull(hf_peers_join_link(a->p));
}
END_TEST

START_TEST(test_joining_can_be_given_up_and_aimed_elsewhere)
{
    struct node *a = start_joiner(0), *b = start(1), *c = start(2);

    b->likes_all = c->likes_all = true;
    hf_peers_dial_join(a->p, address_of(1));
    run(100);
    hf_peers_dial_join(a->p, address_of(2));
    ck_assert_ptr_null(hf_peers_join_link(a->p));
    run(100);
    ck_assert_uint_eq(hf_link_node_id(hf_peers_join_link(a->p)), id_of(2));
    ck_assert_int_eq(b->downs, 1);
    hf_peers_dial_join(a->p, NULL);
    run(2 * SECONDS);
    ck_assert_ptr_null(hf_peers_join_link(a->p));
    ck_assert_int_eq(c->downs, 1);
    ck_assert_int_eq(c->hellos, 1);
}
END_TEST

START_TEST(test_node_without_an_id_reaches_no_other_channel)
{
    struct node *b = start(1), *c = boot(3);
    struct hf_hello h = joiner_hello(5);
    struct caller caller = {0};

    b->likes_all = true;
    h.channel = (enum hf_channel)_i;
    h.target_id = id_of(1);
    call(&caller, c, &h, true);
    ck_assert(caller.is_closed);
    ck_assert_int_eq(b->hellos + b->ups, 0);
    hang_up(&caller, c);
}
END_TEST

struct bad_join {
    uint64_t node_id, target_id, store_id;
    const char *why;
};

static const struct bad_join bad_joins[] = {
    {0, 2, 5, "you meant node 2 where none is named"},
    {9, 2, 5, "you meant node 2 where none is named"},
    {0, 0, 1001, "node 0 is this node itself"},
    {2, 0, 1001, "node 2 is this node itself"},
    {2, 0, 5, "node 2 is this node itself, two nodes use one id"},
    {0, 0, 5, ""},
    {9, 0, 5, ""},
};

START_TEST(test_join_hello_names_nobody_and_is_not_our_own)
{
    struct node *b = start(1), *c = boot(3);
    const struct bad_join *j = &bad_joins[_i];
    struct hf_hello h = joiner_hello(j->store_id);
    struct caller caller = {0};

    b->likes_all = true;
    h.node_id = j->node_id;
    h.target_id = j->target_id;
    call(&caller, c, &h, true);
    ck_assert_str_eq(refusal(&caller), j->why);
    ck_assert_int_eq(b->ups, j->why[0] == '\0');
    if (b->last_up != NULL)
        ck_assert_uint_eq(hf_link_node_id(b->last_up), j->node_id);
    hang_up(&caller, c);
}
END_TEST

START_TEST(test_node_without_an_id_lets_nobody_in)
{
    struct node *a = start_joiner(0), *b = start_joiner(1);
    struct hf_hello h = {.protocol_min = 1, .protocol_max = 1, .node_id = 9};
    struct caller caller = {0};
    struct node *c = boot(3);

    hf_peers_dial_join(a->p, address_of(1));
    run(50);
    ck_assert_str_eq(a->refused_why, "this node is no member itself");
    call(&caller, c, &h, true); /* RAFT, and the target is 0 like ours */
    ck_assert_str_eq(refusal(&caller), "this node is no member yet");
    ck_assert_int_eq(a->ups + b->ups, 0);
    hang_up(&caller, c);
}
END_TEST

START_TEST(test_few_may_join_at_once_and_one_that_returns_takes_its_old_place)
{
    struct node *b = start(1), *c = boot(3);
    struct caller callers[HF_PEER_JOIN_LINKS_MAX + 1] = {0}, again = {0}, late = {0};
    struct hf_hello h;

    b->likes_all = true;
    for (unsigned i = 0; i < HF_PEER_JOIN_LINKS_MAX; i++) {
        h = joiner_hello(10 + i);
        call(&callers[i], c, &h, true);
        ck_assert_int_eq(b->ups, (int)i + 1);
    }
    h = joiner_hello(500);
    call(&callers[HF_PEER_JOIN_LINKS_MAX], c, &h, true);
    ck_assert_str_eq(refusal(&callers[HF_PEER_JOIN_LINKS_MAX]), "too many nodes ask to join at once");
    ck_assert_int_eq(b->ups, (int)HF_PEER_JOIN_LINKS_MAX);
    hang_up(&callers[0], c);
    call(&late, c, &h, true);
    ck_assert_int_eq(b->ups, (int)HF_PEER_JOIN_LINKS_MAX + 1);
    hang_up(&callers[1], c);
    h = joiner_hello(12);
    call(&again, c, &h, true);
    ck_assert(callers[2].is_closed);
    ck_assert(!again.is_closed);
    ck_assert(!callers[3].is_closed); /* as much without an id, but another directory */
    for (unsigned i = 2; i <= HF_PEER_JOIN_LINKS_MAX; i++)
        hang_up(&callers[i], c);
    hang_up(&again, c);
    hang_up(&late, c);
}
END_TEST

START_TEST(test_join_messages_are_short)
{
    struct node *a = start_joiner(0), *b = start(1), *c = boot(3);
    size_t n = HF_PEER_JOIN_MESSAGE_BYTES_MAX;
    uint8_t *bytes = pattern(n + 1, 4);
    struct hf_slice part = hf_slice(bytes, n + 1);
    struct caller caller = {0};
    struct hf_hello h = joiner_hello(5);
    int sent = 0;

    b->likes_all = true;
    hf_peers_dial_join(a->p, address_of(1));
    run(100);
    ck_assert_int_eq(send_bytes(a, hf_peers_join_link(a->p), 1, false, bytes, n + 1), HF_E_LIMIT);
    ck_assert_int_eq(send_bytes(a, hf_peers_join_link(a->p), 1, false, bytes, n), 0);
    run(100);
    ck_assert_uint_eq(b->last_len, n);
    while (send_bytes(a, hf_peers_join_link(a->p), 1, false, bytes, n) == 0)
        ck_assert_int_le(++sent, 16);
    run(100);
    ck_assert_int_eq(b->messages, 1 + sent);

    call(&caller, c, &h, true);
    ck_assert_int_eq(b->ups, 2);
    hf_frame_put(&caller.say, 1, 0, 2, &part, 1);
    ck_assert_int_eq(c->env->stream_write(c->env, caller.s, caller.say.data, caller.say.len), 0);
    run(100);
    ck_assert(caller.is_closed);
    ck_assert_int_eq(b->messages, 1 + sent);
    hang_up(&caller, c);
    hf_free(bytes);
}
END_TEST

START_TEST(test_join_link_speaks_for_no_member)
{
    struct node *b = start(1), *c = boot(3);
    struct hf_hello h = joiner_hello(5);
    struct caller caller = {0};

    b->likes_all = true;
    add(b, 2);
    h.node_id = id_of(2);
    call(&caller, c, &h, true);
    ck_assert_int_eq(b->ups, 1);
    ck_assert_uint_eq(hf_peers_silence_ms(b->p, id_of(2)), UINT64_MAX);
    hf_peers_remove(b->p, id_of(2));
    run(10);
    ck_assert(!caller.is_closed);
    hang_up(&caller, c);
    run(10);
    add(b, 2);
    ck_assert_uint_eq(hf_peers_silence_ms(b->p, id_of(2)), UINT64_MAX);
}
END_TEST

Suite *channels_suite(void)
{
    Suite *s = suite_create("channels");
    TCase *t = tcase_create("channels");

    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, test_state_link_is_there_while_it_is_wanted);
    tcase_add_test(t, test_state_link_comes_back_and_follows_the_address);
    tcase_add_test(t, test_full_state_link_leaves_the_others_alone);
    tcase_add_test(t, test_state_messages_have_a_limit_of_their_own);
    tcase_add_test(t, test_node_that_does_not_know_a_channel_is_tried_ever_more_rarely);
    tcase_add_test(t, test_channel_that_becomes_known_comes_up);
    tcase_add_test(t, test_node_without_an_id_joins_and_becomes_a_member);
    tcase_add_test(t, test_join_that_the_owner_refuses_says_why_with_node_id_zero);
    tcase_add_test(t, test_joining_can_be_given_up_and_aimed_elsewhere);
    tcase_add_loop_test(t, test_node_without_an_id_reaches_no_other_channel, HF_CHANNEL_RAFT, HF_CHANNEL_JOIN);
    tcase_add_loop_test(t, test_join_hello_names_nobody_and_is_not_our_own, 0, COUNT(bad_joins));
    tcase_add_test(t, test_node_without_an_id_lets_nobody_in);
    tcase_add_test(t, test_few_may_join_at_once_and_one_that_returns_takes_its_old_place);
    tcase_add_test(t, test_join_messages_are_short);
    tcase_add_test(t, test_join_link_speaks_for_no_member);
    suite_add_tcase(s, t);
    return s;
}
