/* main.c: holdfastd. Settings, limits of the process, one node with its client port and HTTP pages, signals, and the
 * order of a clean stop: stop accepting, hand leadership over, finish and answer what is under way, close clients,
 * close the node, exit. */
#include "admin/admin.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "main/config.h"
#include "main/node.h"
#include "main/space.h"
#include "net/net.h"
#include "uv/uv_env.h"

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* Descriptors that a node needs besides its clients: segments, database, peers, threads. */
#define HF_DESCRIPTORS_RESERVED 256u
/* How long an HTTP page waits for the loop. */
#define HF_HTTP_PATIENCE_MS 2000u
/* While a node joins: how often it is looked whether it has an id. */
#define HF_NAME_LOOK_MS 100u
/* A node that was removed serves on for a moment: who asked it for that gets its answer. */
#define HF_REMOVED_STOP_MS 100u
/* A clean stop takes at most this long before the process gives up waiting for clients and peers. */
#define HF_STOP_MS 10000u
/* Exit codes (sysexits.h): wrong settings; the node cannot go on. */
#define EXIT_CONFIG 78
#define EXIT_FAILED 70

struct server {
    struct hf_env *env;
    struct hf_config config;
    struct hf_stats *stats;
    struct hf_node *node;
    struct hf_net *net;
    struct hf_admin *admin;
    struct hf_local_ops ops;
    struct hf_settings_ops settings_ops;
    struct hf_admin_ops admin_ops;
    struct hf_node_status *last_status; /* lent to LOCAL commands until the next call */
    struct hf_timer stop_timer, name_timer, removed_timer;
    uint64_t started_ms;
    bool is_stopping, is_net_closed;
    int exit_code;
    atomic_bool is_gone; /* the loop runs no more: HTTP must not wait for it */
};

/* ---- status ------------------------------------------------------------------------------------------- */

static int port_of(const char *address)
{
    const char *colon = strrchr(address, ':');

    return colon ? atoi(colon + 1) : 0;
}

/* Resident and peak memory, from the kernel. */
static void read_memory(uint64_t *rss, uint64_t *peak)
{
    FILE *f = fopen("/proc/self/status", "re");
    char line[256];
    unsigned long long v;

    *rss = *peak = 0;
    if (!f)
        return;
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "VmRSS: %llu kB", &v) == 1)
            *rss = v * 1024;
        else if (sscanf(line, "VmHWM: %llu kB", &v) == 1)
            *peak = v * 1024;
    }
    fclose(f);
}

static struct hf_node_status *new_status(void *data)
{
    struct server *s = data;
    struct hf_node_status *st = hf_node_status_new(s->node);

    st->client_port = port_of(s->config.listen);
    st->peer_port = port_of(s->config.peer_listen);
    st->http_port = port_of(s->config.http_listen);
    st->client_address = *s->config.advertise ? s->config.advertise : s->config.listen;
    st->uptime_ms = s->env->boot_ms(s->env) - s->started_ms;
    st->pid = (uint64_t)getpid();
    st->connected_clients = s->net ? hf_net_clients(s->net) : 0;
    st->maxclients = s->config.maxclients;
    read_memory(&st->rss_bytes, &st->rss_peak_bytes);
    st->database_bytes =
        (uint64_t)hf_gauge_get(hf_stats_gauge(s->stats, "store_database_bytes", NULL, "Size of the database file"));
    st->config_file = s->config.config_file;
    return st;
}

static const struct hf_node_status *lend_status(void *data)
{
    struct server *s = data;

    hf_free(s->last_status);
    s->last_status = new_status(s);
    return s->last_status;
}

/* ---- what LOCAL commands may ask ---------------------------------------------------------------------- */

static void config_get(void *data, struct hf_slice pattern, void (*cb)(void *arg, const char *name, const char *value),
                       void *arg)
{
    hf_config_get(&((struct server *)data)->config, pattern, cb, arg);
}

/* Everything that can change while the node runs, put where it takes effect; what did not change does no harm. */
static void apply_live(struct server *s)
{
    struct hf_net_config *live = s->net ? hf_net_config_live(s->net) : NULL;
    enum hf_log_level level;

    if (hf_log_level_parse(s->config.log_level, &level))
        hf_log_set_level(level);
    if (s->node) {
        hf_snapshots_set_rate(hf_node_snapshots(s->node), s->config.transfer_rate);
        hf_space_set_min(hf_node_space(s->node), s->config.free_disk_min);
        hf_state_set_commit_interval(hf_node_state(s->node), s->config.commit_interval_ms);
        hf_consensus_set_timeouts(hf_node_consensus(s->node), (uint32_t)s->config.election_timeout_ms,
                                  (uint32_t)hf_config_heartbeat_ms(&s->config));
        hf_consensus_set_journal(hf_node_consensus(s->node), s->config.journal_retain_bytes,
                                 s->config.journal_max_bytes, s->config.snapshot_journal_bytes);
    }
    if (!live)
        return;
    live->clients_max = (uint32_t)s->config.maxclients;
    live->idle_timeout_ms = s->config.timeout_s * 1000;
    live->limits.bulk_bytes_max = s->config.bulk_bytes_max;
    live->limits.query_bytes_max = s->config.query_bytes_max;
    live->limits.args_max = (uint32_t)s->config.args_max;
}

static bool settings_check(void *data, const struct hf_slice *names, const struct hf_slice *values, uint32_t n,
                           bool *is_cluster, char *err, size_t err_size)
{
    return hf_config_check(&((struct server *)data)->config, names, values, n, is_cluster, err, err_size);
}

static bool settings_set(void *data, struct hf_slice name, struct hf_slice value, bool persist, char *err,
                         size_t err_size)
{
    struct server *s = data;

    if (persist ? !hf_config_set_local(&s->config, s->env->fs, name, value, err, err_size)
                : !hf_config_set_cluster(&s->config, name, value, err, err_size))
        return false;
    apply_live(s);
    return true;
}

static void config_resetstat(void *data)
{
    hf_stats_mark(((struct server *)data)->stats);
}

/* Compares in time that does not depend on where the strings differ. */
static bool is_same_secret(struct hf_slice a, const char *b)
{
    size_t n = strlen(b);
    unsigned diff = (unsigned)(a.len != n);

    for (size_t i = 0; i < a.len; i++)
        diff |= (unsigned)(a.ptr[i] ^ (uint8_t)(n > 0 ? b[i % n] : 0));
    return diff == 0;
}

static bool auth(void *data, struct hf_slice user, struct hf_slice password)
{
    struct server *s = data;

    if (user.len > 0 && !hf_slice_eq(user, hf_slice_str("default")))
        return false;
    return *s->config.requirepass == 0 || is_same_secret(password, s->config.requirepass);
}

static bool auth_required(void *data)
{
    return *((struct server *)data)->config.requirepass != 0;
}

static void begin_stop(struct server *s, const char *why);

static void shutdown_command(void *data)
{
    begin_stop(data, "SHUTDOWN");
}

static uint32_t replicas_in_sync(void *data)
{
    struct server *s = data;
    struct hf_consensus_status st;
    uint32_t n = 0;

    hf_consensus_status(hf_node_consensus(s->node), &st);
    for (uint32_t i = 0; i < st.n_members; i++)
        n +=
            st.members[i].id != st.node_id && st.role == HF_ROLE_LEADER && st.members[i].match_index >= st.commit_index;
    /* A follower does not know the others, but what it acknowledged is on a majority. */
    if (st.role != HF_ROLE_LEADER && st.n_members > 1)
        n = st.n_members / 2;
    return n;
}

static int64_t wall_ms(void *data)
{
    struct server *s = data;

    return s->env->wall_ms(s->env);
}

static uint64_t wall_us(void *data)
{
    struct timespec t;

    (void)data;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static bool debug_allowed(void *data)
{
    return ((struct server *)data)->config.enable_debug_command;
}

/* ---- HTTP: from its thread to the loop and back ------------------------------------------------------- */

struct http_call {
    struct server *server;
    bool (*fill)(struct server *s, struct hf_buf *out);
    pthread_mutex_t lock;
    pthread_cond_t done_cond;
    bool is_done, is_abandoned, result;
    struct hf_buf out;
};

static void free_call(struct http_call *call)
{
    pthread_mutex_destroy(&call->lock);
    pthread_cond_destroy(&call->done_cond);
    hf_buf_free(&call->out);
    hf_free(call);
}

static void on_http_call(void *arg)
{
    struct http_call *call = arg;
    bool is_abandoned;

    pthread_mutex_lock(&call->lock);
    is_abandoned = call->is_abandoned;
    if (!is_abandoned) {
        call->result = call->fill(call->server, &call->out);
        call->is_done = true;
        pthread_cond_signal(&call->done_cond);
    }
    pthread_mutex_unlock(&call->lock);
    if (is_abandoned)
        free_call(call);
}

static bool ask_loop(struct server *s, bool (*fill)(struct server *s, struct hf_buf *out), struct hf_buf *out)
{
    struct http_call *call;
    struct timespec until;
    pthread_condattr_t attr;
    bool result = false, is_done;
    int rc = 0;

    if (atomic_load(&s->is_gone))
        return false;
    call = hf_calloc(1, sizeof *call);
    call->server = s;
    call->fill = fill;
    pthread_mutex_init(&call->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&call->done_cond, &attr);
    pthread_condattr_destroy(&attr);
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += HF_HTTP_PATIENCE_MS / 1000;
    hf_uv_call(s->env, on_http_call, call);
    pthread_mutex_lock(&call->lock);
    while (!call->is_done && rc == 0)
        rc = pthread_cond_timedwait(&call->done_cond, &call->lock, &until);
    is_done = call->is_done;
    if (is_done) {
        result = call->result;
        hf_buf_put(out, call->out.data, call->out.len);
    } else {
        call->is_abandoned = true; /* the loop frees it if it ever comes to it */
    }
    pthread_mutex_unlock(&call->lock);
    if (is_done)
        free_call(call);
    return result;
}

static bool fill_metrics(struct server *s, struct hf_buf *out)
{
    uint64_t rss, peak;

    read_memory(&rss, &peak);
    hf_gauge_set(hf_stats_gauge(s->stats, "resident_memory_bytes", NULL, "Resident memory of the process"),
                 (int64_t)rss);
    hf_free(hf_node_status_new(s->node)); /* brings the gauges up to date */
    hf_stats_prometheus(s->stats, out);
    return true;
}

static void put_json_text(struct hf_buf *out, const char *text)
{
    hf_buf_put_u8(out, '"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            hf_buf_printf(out, "\\%c", *text);
        else if ((unsigned char)*text < 0x20)
            hf_buf_printf(out, "\\u%04x", (unsigned)*text);
        else
            hf_buf_put_u8(out, (uint8_t)*text);
    }
    hf_buf_put_u8(out, '"');
}

static bool fill_status(struct server *s, struct hf_buf *out)
{
    struct hf_node_status *st = new_status(s);

    hf_buf_printf(out, "{\"version\":\"" HF_VERSION "\",\"id\":%" PRIu64 ",\"cluster_id\":", st->node_id);
    put_json_text(out, st->cluster_id);
    hf_buf_printf(out,
                  ",\"role\":\"%s\",\"term\":%" PRIu64 ",\"leader_id\":%" PRIu64 ",\"first_index\":%" PRIu64
                  ",\"last_index\":%" PRIu64 ",\"commit_index\":%" PRIu64 ",\"applied_index\":%" PRIu64
                  ",\"durable_index\":%" PRIu64 ",\"snapshot_index\":%" PRIu64 ",\"clients\":%" PRIu64
                  ",\"rss_bytes\":%" PRIu64 ",\"uptime_ms\":%" PRIu64 ",\"ready\":%s,\"problem\":",
                  st->role, st->term, st->leader_id, st->first_index, st->last_index, st->commit_index,
                  st->applied_index, st->durable_index, st->snapshot_index, st->connected_clients, st->rss_bytes,
                  st->uptime_ms, st->is_ready ? "true" : "false");
    put_json_text(out, st->problem);
    hf_buf_printf(out, ",\"peers\":[");
    for (uint32_t i = 0; i < st->n_peers; i++) {
        const struct hf_node_peer_status *p = &st->peers[i];

        hf_buf_printf(out, "%s{\"id\":%" PRIu64 ",\"address\":", i ? "," : "", p->id);
        put_json_text(out, p->address);
        hf_buf_printf(out, ",\"client_address\":");
        put_json_text(out, p->client_address);
        hf_buf_printf(out, ",\"role\":\"%s\",\"connected\":%s,\"match_index\":%" PRIu64 "}", p->role,
                      p->is_connected ? "true" : "false", p->match_index);
    }
    hf_buf_printf(out, "]}\n");
    hf_free(st);
    return true;
}

static bool fill_ready(struct server *s, struct hf_buf *out)
{
    struct hf_node_status *st = new_status(s);
    bool is_ready = st->is_ready && !s->is_stopping;

    if (!is_ready)
        hf_buf_printf(out, "%s", s->is_stopping ? "the node is stopping" : st->problem);
    hf_free(st);
    return is_ready;
}

static bool http_metrics(void *data, struct hf_buf *out)
{
    return ask_loop(data, fill_metrics, out);
}

static bool http_status(void *data, struct hf_buf *out)
{
    return ask_loop(data, fill_status, out);
}

static bool http_ready(void *data, struct hf_buf *out)
{
    return ask_loop(data, fill_ready, out);
}

/* ---- stopping ----------------------------------------------------------------------------------------- */

static void on_net_closed(void *data)
{
    struct server *s = data;

    s->is_net_closed = true;
    hf_uv_env_stop(s->env);
}

static void on_retired(void *data)
{
    struct server *s = data;

    if (s->net)
        hf_net_close(s->net, on_net_closed, s);
    else
        hf_uv_env_stop(s->env);
}

static void on_stop_timeout(struct hf_timer *timer)
{
    struct server *s = timer->data;

    HF_LOG_WARN("main", "stop took too long, leaving at once", "limit_ms=%u", HF_STOP_MS);
    hf_uv_env_stop(s->env);
}

static void begin_stop(struct server *s, const char *why)
{
    if (s->is_stopping)
        return;
    s->is_stopping = true;
    HF_LOG_INFO("main", "stopping", "reason=%s", why);
    s->stop_timer.data = s;
    s->stop_timer.cb = on_stop_timeout;
    s->env->timer_start(s->env, &s->stop_timer, HF_STOP_MS);
    if (s->net)
        hf_net_stop_accepting(s->net);
    hf_node_retire(s->node, s->config.election_timeout_ms * 2 + 500, on_retired, s);
}

static void on_signal(void *data, int signum)
{
    begin_stop(data, signum == SIGTERM ? "SIGTERM" : "SIGINT");
}

static void on_removed_timer(struct hf_timer *timer)
{
    begin_stop(timer->data, "removed from the cluster");
}

/* Nothing is wrong with this node; it is just not wanted any more. */
static void on_node_removed(void *data, const char *why)
{
    struct server *s = data;

    if (s->is_stopping)
        return;
    fprintf(stderr, "holdfastd: %s\n", why);
    fflush(stderr);
    s->removed_timer.data = s;
    s->removed_timer.cb = on_removed_timer;
    s->env->timer_start(s->env, &s->removed_timer, HF_REMOVED_STOP_MS);
}

/* The node cannot go on: nothing more may be answered from memory that is not on disk. The journal has all that
 * was acknowledged, so leaving at once is safe. */
static void on_node_failed(void *data, int err, const char *why)
{
    (void)data;
    HF_LOG_ERROR("main", "this node stops", "error=\"%s\" reason=\"%s\"", hf_strerror(err), why);
    fprintf(stderr, "holdfastd: %s (%s)\n", why, hf_strerror(err));
    fflush(NULL);
    _exit(EXIT_FAILED);
}

/* ---- start -------------------------------------------------------------------------------------------- */

static void raise_descriptor_limit(uint64_t clients)
{
    struct rlimit limit;
    rlim_t want = clients + HF_DESCRIPTORS_RESERVED;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= want)
        return;
    if (limit.rlim_max < want) {
        struct rlimit higher = {want, want};

        if (setrlimit(RLIMIT_NOFILE, &higher) == 0)
            return;
    }
    limit.rlim_cur = want < limit.rlim_max ? want : limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur < want)
        HF_LOG_WARN("main", "fewer descriptors than maxclients needs", "limit=%" PRIu64 " wanted=%" PRIu64,
                    (uint64_t)limit.rlim_cur, (uint64_t)want);
}

static uint64_t random_seed(void)
{
    uint64_t seed = 0;

    if (getrandom(&seed, sizeof seed, 0) != sizeof seed)
        hf_fatal("the kernel gives no random bytes");
    return seed;
}

static int open_node(struct server *s, char *why, size_t why_size)
{
    const struct hf_config *c = &s->config;
    struct hf_node_config nc = {
        .consensus = {.dir = c->dir,
                      .node_id = c->id,
                      .name = c->name,
                      .join = c->join,
                      .join_as_learner = c->join_as_learner,
                      .replaces = c->replaces,
                      .peer_address = c->peer_advertise,
                      .listen_address = c->peer_listen,
                      .client_address = *c->advertise ? c->advertise : c->listen,
                      .members = c->peers,
                      .cluster_id = c->cluster_id,
                      .seed = random_seed(),
                      .election_timeout_ms = (uint32_t)c->election_timeout_ms,
                      .heartbeat_ms = (uint32_t)hf_config_heartbeat_ms(c),
                      /* One command may exceed the batch size: the longest one, and what frames it. */
                      .message_bytes_max = c->query_bytes_max + c->entry_bytes_max + (1u << 20),
                      .journal_segment_bytes = c->journal_segment_bytes,
                      .journal_tail_bytes = c->journal_tail_bytes,
                      .journal_retain_bytes = c->journal_retain_bytes,
                      .journal_max_bytes = c->journal_max_bytes,
                      .journal_pin_bytes = c->journal_pin_bytes,
                      .snapshot_journal_bytes = c->snapshot_journal_bytes},
        .state = {.store = {.cache_bytes_max = c->cache_bytes,
                            .dirty_bytes_max = c->dirty_bytes,
                            .page_cache_bytes = c->page_cache_bytes},
                  .commit_interval_ms = c->commit_interval_ms,
                  .commit_bytes_max = c->commit_bytes_max},
        .proposer = {.entry_bytes_max = c->entry_bytes_max,
                     .entries_in_flight = (uint32_t)c->entries_in_flight,
                     .queue_bytes_max = c->propose_queue_bytes,
                     .unknown_timeout_ms = c->unknown_timeout_ms,
                     .state_queue_bytes_max = c->propose_queue_bytes,
                     .seed = random_seed()},
        .dispatch = {.no_leader_timeout_ms = c->no_leader_timeout_ms,
                     .lane_queue_max = (uint32_t)c->pipeline_max,
                     .overload_bytes = c->propose_queue_bytes / 2},
        .limits = {.bulk_bytes_max = c->bulk_bytes_max,
                   .query_bytes_max = c->query_bytes_max,
                   .args_max = (uint32_t)c->args_max,
                   .inline_bytes_max = HF_RESP_INLINE_BYTES_DEFAULT},
        .free_bytes_min = c->free_disk_min,
        .snapshot_rate = c->transfer_rate,
        .settings = &s->settings_ops,
        .status = new_status,
        .status_data = s,
        .on_failed = on_node_failed,
        .failed_data = s,
        .on_removed = on_node_removed,
        .removed_data = s,
    };

    s->settings_ops = (struct hf_settings_ops){.data = s, .check = settings_check, .set = settings_set};
    return hf_node_open(s->env, &nc, s->stats, &s->node, why, why_size);
}

/* What this node is called may stand in its data directory, or come from the cluster that it joins. */
static void on_name_timer(struct hf_timer *timer)
{
    struct server *s = timer->data;
    struct hf_consensus_status st;

    hf_consensus_status(hf_node_consensus(s->node), &st);
    if (st.node_id == 0) {
        s->env->timer_start(s->env, timer, HF_NAME_LOOK_MS);
        return;
    }
    hf_log_set_prefix(st.name);
    HF_LOG_INFO("main", "this node has its id", "id=%" PRIu64 " name=%s", st.node_id, st.name);
}

static int open_net(struct server *s, char *why, size_t why_size)
{
    const struct hf_config *c = &s->config;
    struct hf_net_config nc = {.address = c->listen,
                               .clients_max = (uint32_t)c->maxclients,
                               .output_bytes_max = c->output_bytes_max,
                               .output_soft_bytes = 1u << 20,
                               .idle_timeout_ms = c->timeout_s * 1000,
                               .pipeline_max = (uint32_t)c->pipeline_max,
                               .limits = {.bulk_bytes_max = c->bulk_bytes_max,
                                          .query_bytes_max = c->query_bytes_max,
                                          .args_max = (uint32_t)c->args_max,
                                          .inline_bytes_max = HF_RESP_INLINE_BYTES_DEFAULT}};
    int rc;

    s->ops = (struct hf_local_ops){.data = s,
                                   .status = lend_status,
                                   .config_get = config_get,
                                   .config_resetstat = config_resetstat,
                                   .auth = auth,
                                   .auth_required = auth_required,
                                   .shutdown = shutdown_command,
                                   .replicas_in_sync = replicas_in_sync,
                                   .wall_ms = wall_ms,
                                   .wall_us = wall_us,
                                   .debug_allowed = debug_allowed};
    rc = hf_net_open(s->env, &nc, hf_node_dispatcher(s->node), &s->ops, s->stats, &s->net);
    if (rc < 0)
        snprintf(why, why_size, "cannot listen for clients on %s: %s", c->listen, hf_strerror(rc));
    return rc;
}

static int print_only(enum hf_config_want want)
{
    struct hf_buf out = {0};

    switch (want) {
    case HF_CONFIG_HELP:
        hf_config_help(&out);
        break;
    case HF_CONFIG_VERSION:
        hf_buf_printf(&out, "holdfastd " HF_VERSION "\n");
        break;
    case HF_CONFIG_PRINT_CONFIG:
        hf_config_sample(&out);
        break;
    case HF_CONFIG_PRINT_DOCS:
        hf_config_markdown(&out);
        break;
    case HF_CONFIG_RUN:
        break;
    }
    fwrite(out.data, 1, out.len, stdout);
    hf_buf_free(&out);
    return 0;
}

/* A node that was given a name and no id has its id in its data directory, unless that is new. */
static void find_id(struct server *s)
{
    struct hf_config *c = &s->config;
    char *path;

    if (c->is_id_given || !*c->name || *c->peers)
        return;
    path = hf_asprintf("%s/identity", c->dir);
    if (access(path, F_OK) == 0)
        c->id = 0;
    hf_free(path);
}

static int run(struct server *s)
{
    char why[1024];
    int rc;

    s->stats = hf_stats_new();
    rc = hf_uv_env_open(&s->env);
    if (rc < 0) {
        fprintf(stderr, "holdfastd: cannot start: %s\n", hf_strerror(rc));
        return EXIT_FAILED;
    }
    s->started_ms = s->env->boot_ms(s->env);
    if (hf_config_load_settings(&s->config, s->env->fs, why, sizeof why) < 0) {
        fprintf(stderr, "holdfastd: %s\n", why);
        hf_uv_env_close(s->env);
        hf_stats_free(s->stats);
        return EXIT_CONFIG;
    }
    apply_live(s);
    raise_descriptor_limit(s->config.maxclients);
    hf_command_table_init();
    rc = hf_uv_signal(s->env, SIGTERM, on_signal, s);
    if (rc == 0)
        rc = hf_uv_signal(s->env, SIGINT, on_signal, s);
    if (rc < 0)
        snprintf(why, sizeof why, "cannot watch for signals: %s", hf_strerror(rc));
    if (rc == 0)
        find_id(s);
    if (rc == 0)
        rc = open_node(s, why, sizeof why);
    if (rc == 0)
        rc = open_net(s, why, sizeof why);
    if (rc == 0 && *s->config.http_listen) {
        s->admin_ops = (struct hf_admin_ops){
            .data = s, .metrics = http_metrics, .status_json = http_status, .is_ready = http_ready};
        rc = hf_admin_open(s->config.http_listen, &s->admin_ops, &s->admin, why, sizeof why);
    }
    if (rc < 0) {
        fprintf(stderr, "holdfastd: %s\n", why);
        s->exit_code = EXIT_FAILED;
        if (s->net) {
            hf_net_close(s->net, on_net_closed, s);
            hf_uv_env_run(s->env);
        }
    } else {
        struct hf_consensus_status st;

        hf_consensus_status(hf_node_consensus(s->node), &st);
        if (st.node_id != 0)
            hf_log_set_prefix(st.name);
        s->name_timer = (struct hf_timer){.data = s, .cb = on_name_timer};
        if (st.node_id == 0)
            s->env->timer_start(s->env, &s->name_timer, HF_NAME_LOOK_MS);
        HF_LOG_INFO("main", "ready for clients",
                    "version=" HF_VERSION " id=%" PRIu64 " listen=%s peer_listen=%s http_listen=%s dir=%s", st.node_id,
                    s->config.listen, s->config.peer_listen, s->config.http_listen, s->config.dir);
        hf_uv_env_run(s->env);
    }
    s->env->timer_stop(s->env, &s->name_timer);
    atomic_store(&s->is_gone, true);
    hf_admin_close(s->admin);
    /* After a stop that timed out clients may still be attached to the node: leave their memory to the kernel. */
    if (s->is_stopping && !s->is_net_closed) {
        HF_LOG_WARN("main", "leaving with clients attached", "%s", "");
        _exit(s->exit_code);
    }
    hf_node_close(s->node);
    hf_uv_env_close(s->env);
    hf_free(s->last_status);
    hf_stats_free(s->stats);
    HF_LOG_INFO("main", "stopped", "code=%d", s->exit_code);
    return s->exit_code;
}

int main(int argc, char **argv)
{
    struct server s = {0};
    enum hf_config_want want;
    enum hf_log_level level = HF_LOG_INFO_LEVEL;
    char err[512], digits[32] = "";
    const char *prefix;
    int code;

    if (hf_config_load(&s.config, argc, argv, &want, err, sizeof err) < 0) {
        fprintf(stderr, "holdfastd: %s\n", err);
        return EXIT_CONFIG;
    }
    if (want != HF_CONFIG_RUN) {
        code = print_only(want);
        hf_config_free(&s.config);
        return code;
    }
    if (s.config.id != 0)
        snprintf(digits, sizeof digits, "%" PRIu64, s.config.id);
    prefix = *s.config.name ? s.config.name : digits;
    hf_log_level_parse(s.config.log_level, &level);
    if (!hf_log_open(*s.config.log_file ? s.config.log_file : NULL, level, strcmp(s.config.log_format, "json") == 0,
                     prefix)) {
        fprintf(stderr, "holdfastd: cannot open the log file %s\n", s.config.log_file);
        hf_config_free(&s.config);
        return EXIT_CONFIG;
    }
    code = run(&s);
    hf_config_free(&s.config);
    return code;
}
