/* The whole way on real sockets, files, threads and databases: a store, its copy, the transfer, the verification, and
 * the store that is opened on what arrived. One process, one loop, two nodes.
 *
 *   HF_SNAPSHOT_MB=1024 unit_snapshot_loopback     a state of that size; prints how long each part took */
#include "base/log.h"
#include "base/mem.h"
#include "base/util.h"
#include "peer/peer.h"
#include "snapshot/snapshot.h"
#include "store/store.h"
#include "uv/uv_env.h"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define DEFAULT_MB  24u
#define VALUE_BYTES 1000u
#define PUTS        64u /* rows an entry */

struct end {
    struct hf_env *env;
    struct hf_stats *stats;
    struct hf_peers *p;
    struct hf_snapshots *s;
    char dir[256], live[300], address[32];
    int delivered, failed;
    char why[256];
    uint64_t start_ms, copied_ms, ended_ms, delivered_ms;
};

static char folder[200];
static uint64_t state_mb;

/* ---- events -------------------------------------------------------------------------------------- */

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
    ck_abort_msg("refused by %d: %s", (int)node_id, why);
}

static void on_link_up(void *data, struct hf_link *link)
{
    struct end *e = data;

    if (hf_link_channel(link) == HF_CHANNEL_STATE)
        hf_snapshots_on_link_up(e->s, link);
}

static void on_link_down(void *data, struct hf_link *link)
{
    struct end *e = data;

    if (hf_link_channel(link) == HF_CHANNEL_STATE)
        hf_snapshots_on_link_down(e->s, link);
}

static void on_message(void *data, struct hf_link *link, uint8_t type, struct hf_slice payload)
{
    struct end *e = data;

    hf_snapshots_on_message(e->s, link, type, payload);
}

static void on_progress(void *data, struct hf_link *link)
{
    (void)data;
    (void)link;
}

static const char *live_path(void *data)
{
    struct end *e = data;

    return e->live;
}

static void on_pin(void *data, uint64_t index)
{
    (void)data;
    (void)index;
}

static void on_delivered(void *data, uint64_t member, const struct hf_snapshot_info *info)
{
    struct end *e = data;

    (void)member;
    (void)info;
    if (e->delivered++ == 0)
        e->delivered_ms = e->env->boot_ms(e->env);
}

static void on_send_failed(void *data, uint64_t member, const char *why)
{
    struct end *e = data;

    (void)member;
    e->failed++;
    snprintf(e->why, sizeof(e->why), "%s", why);
}

static bool may_receive(void *data, uint64_t member, const struct hf_snapshot_info *info, char *why, size_t why_size)
{
    (void)data;
    (void)member;
    (void)info;
    (void)why;
    (void)why_size;
    return true;
}

static struct hf_link *link_of(void *data, uint64_t member)
{
    struct end *e = data;

    return hf_peers_link(e->p, member, HF_CHANNEL_STATE);
}

/* ---- ends ---------------------------------------------------------------------------------------- */

static void find_port(struct end *e)
{
    static const struct hf_listener_events none = {NULL};
    struct hf_listener *l;

    ck_assert_int_eq(e->env->listen(e->env, "127.0.0.1:0", &none, NULL, &l), 0);
    snprintf(e->address, sizeof(e->address), "127.0.0.1:%u", (unsigned)hf_uv_listener_port(l));
    e->env->listener_close(e->env, l);
}

static void open_end(struct end *e, struct hf_env *env, uint64_t id, const struct hf_snapshots_config *settings)
{
    struct hf_peers_config peers = {.message_bytes_max = 64u << 20};
    struct hf_peers_events peer_events = {e, on_hello, on_refused, on_link_up, on_link_down, on_message, on_progress};
    struct hf_snapshots_events events = {e, live_path, on_pin, on_delivered, on_send_failed, may_receive};
    struct hf_snapshots_config config = *settings;
    char why[256] = "";

    *e = (struct end){.env = env, .stats = hf_stats_new()};
    snprintf(e->dir, sizeof(e->dir), "%s/%d", folder, (int)id);
    snprintf(e->live, sizeof(e->live), "%s/state-1.db", e->dir);
    ck_assert_int_eq(env->fs->mkdir(env->fs, e->dir), 0);
    config.dir = e->dir;
    ck_assert_msg(hf_snapshots_open(env, &config, &events, e->stats, &e->s, why, sizeof(why)) == 0, "%s", why);
    hf_snapshots_set_link_of(e->s, link_of, e);
    find_port(e);
    peers.listen_address = e->address;
    peers.self.node_id = peers.self.store_id = id;
    ck_assert_int_eq(hf_peers_open(env, &peers, &peer_events, e->stats, &e->p), 0);
}

static void close_end(struct end *e)
{
    hf_peers_close(e->p);
    hf_snapshots_close(e->s);
    hf_stats_free(e->stats);
}

/* ---- the store ----------------------------------------------------------------------------------- */

static struct hf_store *open_store(const char *path, struct hf_stats *stats)
{
    struct hf_store_config config = {.path = path};
    struct hf_store *store;
    char why[256] = "";

    ck_assert_msg(hf_store_open(&config, stats, &store, why, sizeof(why)) == 0, "%s", why);
    return store;
}

static void apply(struct hf_store *store, uint64_t index, struct hf_prng *prng)
{
    uint8_t value[VALUE_BYTES];
    char key[32];

    hf_store_begin(store, index, 1, 1000000 + (int64_t)index);
    if (index == 1)
        hf_store_set_configuration(store, 1, hf_slice_str("A and B"));
    for (unsigned i = 0; i < PUTS; i++) {
        struct hf_row row = {.type = HF_TYPE_STRING, .version = index << 16 | i, .value = {value, sizeof(value)}};

        for (size_t at = 0; at + 8 <= sizeof(value); at += 8)
            hf_store_u64(value + at, hf_prng_next(prng));
        snprintf(key, sizeof(key), "key:%012" PRIu64, index * PUTS + i);
        hf_store_put(store, hf_slice_str(key), &row);
    }
    hf_store_end(store, hf_slice_str("an entry"));
}

static void fill(struct hf_store *store, uint64_t bytes)
{
    struct hf_prng prng;

    hf_prng_seed(&prng, 4);
    for (uint64_t index = 1; index <= bytes / (PUTS * VALUE_BYTES); index++) {
        apply(store, index, &prng);
        if (index % 256 == 0)
            ck_assert_int_eq(hf_store_commit(store), 0);
        while (hf_store_wants_work(store))
            hf_store_work(store, 100000);
    }
    ck_assert_int_eq(hf_store_commit(store), 0);
}

/* ---- waiting ------------------------------------------------------------------------------------- */

struct waiter {
    struct hf_env *env;
    struct hf_timer timer;
    struct end *a, *b;
    uint64_t deadline_ms, break_bytes;
    bool is_late;
};

/* What the phases say to whoever measures. */
static void note_times(struct waiter *w)
{
    struct hf_snapshot_progress p;
    uint64_t now = w->env->boot_ms(w->env);

    if (hf_snapshots_progress(w->a->s, &p, 1) == 0)
        return;
    if (w->a->copied_ms == 0 && strcmp(p.phase, "copying") != 0)
        w->a->copied_ms = now;
    if (w->a->ended_ms == 0 && strcmp(p.phase, "verifying") == 0)
        w->a->ended_ms = now;
    if (w->break_bytes != 0 && strcmp(p.phase, "sending") == 0 && p.done_bytes > w->break_bytes) {
        hf_link_close(hf_peers_link(w->a->p, 2, HF_CHANNEL_STATE));
        w->break_bytes = p.done_bytes + (3u << 20);
    }
}

static void look(struct hf_timer *timer)
{
    struct waiter *w = timer->data;

    note_times(w);
    w->is_late = w->env->boot_ms(w->env) > w->deadline_ms;
    if (w->is_late || w->a->delivered + w->a->failed != 0)
        hf_uv_env_stop(w->env);
    else
        w->env->timer_start(w->env, timer, 1);
}

static void wait_for_end(struct end *a, struct end *b, uint64_t break_bytes)
{
    struct waiter w = {.env = a->env, .a = a, .b = b, .break_bytes = break_bytes};

    w.timer.data = &w;
    w.timer.cb = look;
    w.deadline_ms = a->env->boot_ms(a->env) + 100000;
    a->env->timer_start(a->env, &w.timer, 1);
    hf_uv_env_run(a->env);
    ck_assert(!w.is_late);
}

/* ---- the test ------------------------------------------------------------------------------------ */

static void make_folder(struct hf_env *env)
{
    const char *tmp = getenv("TMPDIR");

    snprintf(folder, sizeof(folder), "%s/holdfast-snapshot-XXXXXX", tmp != NULL ? tmp : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    (void)env;
}

static void remove_all(struct hf_env *env, const char *dir)
{
    static const char *const names[] = {"state-1.db", "state-1.db-wal", "state-1.db-shm",
                                        "state-2.db", "state-2.db-wal", "state-2.db-shm"};
    char path[300];

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
        (void)!env->fs->unlink(env->fs, path);
    }
    ck_assert_int_eq(remove(dir), 0);
}

static void tell_times(const struct end *a, uint64_t bytes)
{
    if (state_mb == DEFAULT_MB)
        return;
    printf("bytes %" PRIu64 "  copy %" PRIu64 " ms  transfer %" PRIu64 " ms  verification %" PRIu64
           " ms  together %" PRIu64 " ms\n",
           bytes, a->copied_ms - a->start_ms, a->ended_ms - a->copied_ms, a->delivered_ms - a->ended_ms,
           a->delivered_ms - a->start_ms);
}

/* _i 1: the link is broken again and again. */
START_TEST(test_state_travels_and_a_store_opens_on_it)
{
    static const struct hf_snapshots_config small = {.window_bytes = 2u << 20}, none = {0};
    struct hf_store *store, *received;
    struct hf_prng prng;
    struct hf_snapshot_info info;
    struct hf_store_meta at_copy;
    struct hf_env *env;
    struct end a, b;
    char path[300];
    uint64_t index;

    ck_assert_int_eq(hf_uv_env_open(&env), 0);
    make_folder(env);
    open_end(&a, env, 1, _i == 1 ? &small : &none);
    open_end(&b, env, 2, &none);
    store = open_store(a.live, a.stats);
    fill(store, state_mb << 20);
    at_copy = *hf_store_meta(store);
    index = at_copy.applied_index;
    /* What was not committed when the copy is made is not in it. */
    hf_prng_seed(&prng, 5);
    apply(store, index + 1, &prng);

    a.start_ms = env->boot_ms(env);
    hf_peers_add(a.p, 2, b.address);
    hf_peers_want_state(a.p, 2, true);
    hf_snapshots_send(a.s, 2, index);
    wait_for_end(&a, &b, _i == 1 ? 3u << 20 : 0);
    ck_assert_msg(a.failed == 0, "%s", a.why);
    ck_assert(hf_snapshots_received(b.s, index, 1, &info));
    ck_assert_mem_eq(info.digest, at_copy.digest, 16);
    ck_assert_mem_eq(info.history, at_copy.history, 16);
    ck_assert_uint_eq(info.configuration_index, 1);
    ck_assert(hf_slice_eq(info.configuration, hf_slice_str("A and B")));
    tell_times(&a, info.bytes);
    hf_store_close(store);

    snprintf(path, sizeof(path), "%s/state-2.db", b.dir);
    ck_assert_int_eq(env->fs->rename(env->fs, hf_snapshots_take(b.s), path), 0);
    received = open_store(path, b.stats);
    ck_assert_uint_eq(hf_store_meta(received)->applied_index, index);
    ck_assert_uint_eq(hf_store_count(received), index * PUTS);
    if (state_mb == DEFAULT_MB)
        ck_assert(hf_store_digest_is_right(received));
    hf_store_close(received);
    close_end(&a);
    close_end(&b);
    remove_all(env, a.dir);
    remove_all(env, b.dir);
    ck_assert_int_eq(remove(folder), 0);
    hf_uv_env_close(env);
}
END_TEST

int main(void)
{
    const char *mb = getenv("HF_SNAPSHOT_MB");
    Suite *s = suite_create("loopback");
    TCase *t = tcase_create("loopback");
    SRunner *runner;
    int failed;

    state_mb = mb != NULL ? strtoull(mb, NULL, 10) : DEFAULT_MB;
    hf_log_silence(getenv("HF_TEST_LOG") == NULL);
    tcase_set_timeout(t, 200);
    tcase_add_loop_test(t, test_state_travels_and_a_store_opens_on_it, 0, state_mb == DEFAULT_MB ? 2 : 1);
    suite_add_tcase(s, t);
    runner = srunner_create(s);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
