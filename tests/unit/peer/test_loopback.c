/* The same streams on real sockets: two nodes on the loopback interface. */
#include "suites.h"

#include "base/mem.h"
#include "base/util.h"
#include "peer/peer.h"
#include "uv/uv_env.h"

#include <stdio.h>

#define BULK_BYTES (64u << 20)

struct end {
    struct hf_env *env;
    struct hf_stats *stats;
    struct hf_peers *p;
    int ups, downs, urgent, bulk;
    uint32_t bulk_crc;
    int urgent_before_bulk;
};

static bool on_hello(void *data, const struct hf_hello *theirs, bool is_dialed, char *why, size_t why_size)
{
    (void)data;
    (void)theirs;
    (void)is_dialed;
    (void)why;
    (void)why_size;
    return true;
}

static void on_refused(void *data, uint64_t node_id, const char *why)
{
    (void)data;
    ck_abort_msg("refused by %llu: %s", (unsigned long long)node_id, why);
}

static void on_link_up(void *data, struct hf_link *link)
{
    struct end *e = data;

    (void)link;
    e->ups++;
}

static void on_link_down(void *data, struct hf_link *link)
{
    struct end *e = data;

    (void)link;
    e->downs++;
}

static void on_message(void *data, struct hf_link *link, uint8_t type, struct hf_slice payload)
{
    struct end *e = data;

    (void)link;
    if (type == 'u') {
        e->urgent++;
        return;
    }
    e->bulk++;
    e->bulk_crc = hf_crc32c(0, payload.ptr, payload.len);
    e->urgent_before_bulk = e->urgent;
}

static void on_progress(void *data, struct hf_link *link)
{
    (void)data;
    (void)link;
}

static uint16_t free_port(struct hf_env *env)
{
    static const struct hf_listener_events none = {NULL};
    struct hf_listener *l;
    uint16_t port;

    ck_assert_int_eq(env->listen(env, "127.0.0.1:0", &none, NULL, &l), 0);
    port = hf_uv_listener_port(l);
    env->listener_close(env, l);
    return port;
}

static void open_end(struct end *e, struct hf_env *env, uint64_t id, char address[32])
{
    struct hf_peers_config config = {.message_bytes_max = BULK_BYTES};
    struct hf_peers_events events = {e, on_hello, on_refused, on_link_up, on_link_down, on_message, on_progress};

    snprintf(address, 32, "127.0.0.1:%u", free_port(env));
    config.listen_address = address;
    config.self.node_id = id;
    config.self.store_id = id;
    *e = (struct end){.env = env, .stats = hf_stats_new()};
    ck_assert_int_eq(hf_peers_open(env, &config, &events, e->stats, &e->p), 0);
}

/* Runs the loop until a condition holds, looking once a millisecond. */
struct waiter {
    struct hf_env *env;
    struct hf_timer timer;
    bool (*is_done)(struct end *a, struct end *b);
    struct end *a, *b;
    uint64_t deadline_ms;
    bool is_late;
};

static void look(struct hf_timer *timer)
{
    struct waiter *w = timer->data;

    w->is_late = w->env->boot_ms(w->env) > w->deadline_ms;
    if (w->is_late || w->is_done(w->a, w->b))
        hf_uv_env_stop(w->env);
    else
        w->env->timer_start(w->env, timer, 1);
}

static void wait_for(struct end *a, struct end *b, bool (*is_done)(struct end *a, struct end *b))
{
    struct waiter w = {.env = a->env, .is_done = is_done, .a = a, .b = b};

    w.timer.data = &w;
    w.timer.cb = look;
    w.deadline_ms = a->env->boot_ms(a->env) + 20000;
    a->env->timer_start(a->env, &w.timer, 1);
    hf_uv_env_run(a->env);
    ck_assert(!w.is_late);
}

static bool is_linked(struct end *a, struct end *b)
{
    return a->ups == 2 && b->ups == 2;
}

static void beat(struct end *a)
{
    struct hf_slice part = hf_slice_str("beat");

    ck_assert_int_eq(hf_link_send(hf_peers_link(a->p, 2, HF_CHANNEL_RAFT), 'u', true, &part, 1), 0);
}

/* An urgent message with each look, so that they are spread over the transfer. */
static bool is_carried(struct end *a, struct end *b)
{
    if (b->bulk == 0)
        beat(a);
    return b->bulk == 1;
}

static bool is_down(struct end *a, struct end *b)
{
    (void)b;
    return a->downs == 2;
}

START_TEST(test_large_message_and_heartbeats_over_loopback)
{
    uint8_t *bytes = hf_malloc(BULK_BYTES);
    struct hf_slice part = hf_slice(bytes, BULK_BYTES);
    char address_a[32], address_b[32];
    struct hf_env *env;
    struct end a, b;

    for (size_t i = 0; i < BULK_BYTES; i++)
        bytes[i] = (uint8_t)(i * 31 + (i >> 16));
    ck_assert_int_eq(hf_uv_env_open(&env), 0);
    open_end(&a, env, 1, address_a);
    open_end(&b, env, 2, address_b);
    hf_peers_add(a.p, 2, address_b);
    wait_for(&a, &b, is_linked);
    ck_assert_int_eq(hf_link_send(hf_peers_link(a.p, 2, HF_CHANNEL_RAFT), 'b', false, &part, 1), 0);
    wait_for(&a, &b, is_carried);
    ck_assert_uint_eq(b.bulk_crc, hf_crc32c(0, bytes, BULK_BYTES));
    ck_assert_int_gt(b.urgent_before_bulk, 2);
    hf_peers_close(b.p);
    wait_for(&a, &b, is_down);
    hf_peers_close(a.p);
    hf_uv_env_close(env);
    hf_stats_free(a.stats);
    hf_stats_free(b.stats);
    hf_free(bytes);
}
END_TEST

static bool is_joined(struct end *a, struct end *b)
{
    return hf_peers_join_link(a->p) != NULL && b->ups == 1;
}

static bool is_told(struct end *a, struct end *b)
{
    (void)a;
    return b->urgent == 1;
}

static bool has_state(struct end *a, struct end *b)
{
    return hf_peers_link(a->p, 2, HF_CHANNEL_STATE) != NULL && b->ups == 4;
}

static bool has_no_state(struct end *a, struct end *b)
{
    (void)a;
    return b->downs == 1;
}

/* A node without an id asks a member, gets an id, becomes one that dials, and carries a chunk of state. */
START_TEST(test_join_then_state_over_loopback)
{
    uint8_t *bytes = hf_calloc(1, 1u << 20);
    struct hf_slice part = hf_slice(bytes, 1u << 20), word = hf_slice_str("hello");
    struct hf_hello self = {.node_id = 1, .store_id = 1};
    char address_a[32], address_b[32];
    struct hf_env *env;
    struct end a, b;

    ck_assert_int_eq(hf_uv_env_open(&env), 0);
    open_end(&b, env, 2, address_b);
    open_end(&a, env, 0, address_a);
    self.store_id = 77;
    hf_peers_update_self(a.p, &(struct hf_hello){.store_id = 77});
    hf_peers_dial_join(a.p, address_b);
    wait_for(&a, &b, is_joined);
    ck_assert_int_eq(hf_link_send(hf_peers_join_link(a.p), 'u', false, &word, 1), 0);
    wait_for(&a, &b, is_told);
    hf_peers_update_self(a.p, &self);
    hf_peers_add(a.p, 2, address_b);
    hf_peers_want_state(a.p, 2, true);
    wait_for(&a, &b, has_state);
    ck_assert_int_eq(hf_link_send(hf_peers_link(a.p, 2, HF_CHANNEL_STATE), 'b', false, &part, 1), 0);
    wait_for(&a, &b, is_carried);
    hf_peers_want_state(a.p, 2, false);
    wait_for(&a, &b, has_no_state);
    hf_peers_close(b.p);
    hf_peers_close(a.p);
    hf_uv_env_close(env);
    hf_stats_free(a.stats);
    hf_stats_free(b.stats);
    hf_free(bytes);
}
END_TEST

START_TEST(test_taken_address_is_an_error)
{
    struct hf_peers_config config = {.message_bytes_max = 1000};
    struct hf_peers_events events = {0};
    struct hf_peers *second;
    struct hf_env *env;
    struct end a;
    char address[32];

    ck_assert_int_eq(hf_uv_env_open(&env), 0);
    open_end(&a, env, 1, address);
    config.listen_address = address;
    config.self.node_id = 2;
    ck_assert_int_eq(hf_peers_open(env, &config, &events, a.stats, &second), HF_E_ADDRINUSE);
    hf_peers_close(a.p);
    hf_uv_env_close(env);
    hf_stats_free(a.stats);
}
END_TEST

Suite *loopback_suite(void)
{
    Suite *s = suite_create("loopback");
    TCase *t = tcase_create("loopback");

    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_large_message_and_heartbeats_over_loopback);
    tcase_add_test(t, test_join_then_state_over_loopback);
    tcase_add_test(t, test_taken_address_is_an_error);
    suite_add_tcase(s, t);
    return s;
}
