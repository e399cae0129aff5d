/* snapshot.c: the seam: opening and closing, the left-overs of an earlier process, which message is whose, the clock,
 * what is going on. */
#include "snapshot/snapshot.h"

#include "base/assert.h"
#include "base/log.h"
#include "snapshot/internal.h"

#include <inttypes.h>
#include <stdio.h>

#define DEFAULT_WINDOW_BYTES (8u << 20)

/* ---- small parts --------------------------------------------------------------------------------- */

void hf_held_info_set(struct hf_held_info *h, const struct hf_snapshot_info *info)
{
    h->info = *info;
    h->room.len = 0;
    hf_buf_put(&h->room, info->configuration.ptr, info->configuration.len);
    h->info.configuration = hf_buf_slice(&h->room);
}

void hf_held_info_free(struct hf_held_info *h)
{
    hf_buf_free(&h->room);
    h->info = (struct hf_snapshot_info){0};
}

void hf_speed_start(struct hf_speed *v, uint64_t now_ms, uint64_t bytes)
{
    *v = (struct hf_speed){.start_ms = now_ms, .start_bytes = bytes, .last_ms = now_ms, .last_bytes = bytes};
}

void hf_speed_tick(struct hf_speed *v, uint64_t now_ms, uint64_t bytes)
{
    if (now_ms <= v->last_ms)
        return;
    v->rate = bytes > v->last_bytes ? (bytes - v->last_bytes) * 1000 / (now_ms - v->last_ms) : 0;
    v->last_ms = now_ms;
    v->last_bytes = bytes;
}

bool hf_speed_is_tenth(struct hf_speed *v, uint64_t done, uint64_t total)
{
    unsigned tenth = total != 0 ? (unsigned)(done / ((total + 9) / 10)) : 0;

    if (tenth <= v->tenth)
        return false;
    v->tenth = tenth;
    return true;
}

double hf_speed_mean(const struct hf_speed *v, uint64_t now_ms, uint64_t bytes)
{
    uint64_t ms = now_ms > v->start_ms ? now_ms - v->start_ms : 1;

    return (double)(bytes - v->start_bytes) / 1000.0 / (double)ms;
}

int hf_snapshots_unlink(struct hf_fs *fs, const char *path)
{
    static const char *const suffixes[] = {"", "-wal", "-shm", "-journal"};
    int result = 0;

    for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
        char *name = hf_asprintf("%s%s", path, suffixes[i]);
        int rc = fs->unlink(fs, name);

        if (rc != 0 && rc != HF_E_NOENT && result == 0)
            result = rc;
        hf_free(name);
    }
    return result;
}

int hf_snapshots_say(struct hf_link *link, const struct hf_transfer_wire *w)
{
    struct hf_buf head = {0};
    struct hf_slice parts[2];
    int rc;

    hf_transfer_put(&head, w);
    parts[0] = hf_buf_slice(&head);
    parts[1] = w->bytes;
    rc = hf_link_send(link, (uint8_t)w->type, false, parts, w->bytes.len != 0 ? 2 : 1);
    hf_buf_free(&head);
    return rc;
}

/* ---- the clock ----------------------------------------------------------------------------------- */

static bool is_idle(const struct hf_snapshots *s)
{
    return s->transfers == NULL && s->requests == NULL && s->copies == NULL && !hf_target_is_busy(s);
}

/* Everything that can be done now. */
static void work(struct hf_task *task)
{
    struct hf_snapshots *s = task->data;

    if (s->is_closing)
        return;
    hf_copies_work(s);
    hf_source_work(s);
    hf_target_work(s);
    hf_source_tell(s);
    if (!is_idle(s) && !hf_timer_is_active(&s->tick))
        s->env->timer_start(s->env, &s->tick, HF_COPY_TICK_MS);
}

static void tick_cb(struct hf_timer *timer)
{
    struct hf_snapshots *s = timer->data;
    uint64_t now = hf_snapshots_now(s);

    hf_source_tick(s, now);
    hf_target_tick(s, now);
    hf_snapshots_poke(s);
}

static void retry_cb(struct hf_timer *timer)
{
    hf_snapshots_poke(timer->data);
}

void hf_snapshots_poke(struct hf_snapshots *s)
{
    if (!s->is_closing)
        s->env->post(s->env, &s->task);
}

void hf_snapshots_poke_in(struct hf_snapshots *s, uint64_t ms)
{
    uint64_t at_ms = hf_snapshots_now(s) + ms;

    if (s->is_closing || (hf_timer_is_active(&s->retry) && s->retry_at_ms <= at_ms))
        return;
    s->retry_at_ms = at_ms;
    s->env->timer_start(s->env, &s->retry, ms);
}

/* ---- opening and closing ------------------------------------------------------------------------- */

struct names {
    char **at;
    size_t n;
};

static bool is_leftover(const char *name)
{
    return strncmp(name, "incoming.db", 11) == 0 || (strncmp(name, "copy-", 5) == 0 && strstr(name, ".db") != NULL);
}

static void collect(void *data, const char *name)
{
    struct names *names = data;

    if (!is_leftover(name))
        return;
    names->at = hf_realloc(names->at, (names->n + 1) * sizeof(*names->at));
    names->at[names->n++] = hf_strdup(name);
}

static int remove_leftovers(struct hf_fs *fs, const char *dir, char *why, size_t why_size)
{
    struct names names = {0};
    int rc = fs->list(fs, dir, collect, &names);

    if (rc != 0)
        snprintf(why, why_size, "%s: cannot be listed: %s", dir, hf_strerror(rc));
    for (size_t i = 0; i < names.n; i++) {
        char *path = hf_asprintf("%s/%s", dir, names.at[i]);

        if (rc == 0) {
            rc = fs->unlink(fs, path);
            if (rc != 0)
                snprintf(why, why_size, "%s: left over from an earlier process, cannot be removed: %s", path,
                         hf_strerror(rc));
            else
                HF_LOG_INFO(HF_COPY_LOG, "left-over removed", "file=%s", path);
        }
        hf_free(path);
        hf_free(names.at[i]);
    }
    hf_free(names.at);
    return rc;
}

static void register_stats(struct hf_snapshots *s, struct hf_stats *st)
{
    s->stats.copies = hf_stats_counter(st, "snapshot_copies_total", NULL, "Local copies of the database made.");
    s->stats.copies_failed =
        hf_stats_counter(st, "snapshot_copies_failed_total", NULL, "Local copies of the database that failed.");
    s->stats.sent_bytes =
        hf_stats_counter(st, "snapshot_sent_bytes_total", NULL, "Bytes of copies of the state sent to members.");
    s->stats.received_bytes =
        hf_stats_counter(st, "snapshot_received_bytes_total", NULL, "Bytes of copies of the state received.");
    s->stats.send_started =
        hf_stats_counter(st, "snapshot_transfers_started_total", "direction=\"send\"", "Transfers of the state begun.");
    s->stats.receive_started = hf_stats_counter(st, "snapshot_transfers_started_total", "direction=\"receive\"",
                                                "Transfers of the state begun.");
    s->stats.send_completed = hf_stats_counter(st, "snapshot_transfers_completed_total", "direction=\"send\"",
                                               "Transfers of the state that were verified by the target.");
    s->stats.receive_completed = hf_stats_counter(st, "snapshot_transfers_completed_total", "direction=\"receive\"",
                                                  "Transfers of the state that were verified by the target.");
    s->stats.send_failed = hf_stats_counter(st, "snapshot_transfers_failed_total", "direction=\"send\"",
                                            "Transfers of the state that ended without success.");
    s->stats.receive_failed = hf_stats_counter(st, "snapshot_transfers_failed_total", "direction=\"receive\"",
                                               "Transfers of the state that ended without success.");
}

static void set_default(uint64_t *field, uint64_t value)
{
    if (*field == 0)
        *field = value;
}

static void set_config(struct hf_snapshots *s, const struct hf_snapshots_config *config)
{
    struct hf_snapshots_config *c = &s->config;

    *c = *config;
    c->dir = hf_strdup(config->dir);
    c->vfs = config->vfs != NULL ? hf_strdup(config->vfs) : NULL;
    set_default(&c->chunk_bytes, HF_COPY_CHUNK_BYTES);
    set_default(&c->window_bytes, DEFAULT_WINDOW_BYTES);
    set_default(&c->copy_ms_max, 600000);
    set_default(&c->idle_ms_max, 30000);
    set_default(&c->keep_ms, 10000);
    if (c->window_bytes > HF_COPY_WINDOW_BYTES_MAX)
        c->window_bytes = HF_COPY_WINDOW_BYTES_MAX;
    if (c->chunk_bytes > HF_COPY_READ_BYTES_MAX)
        c->chunk_bytes = HF_COPY_READ_BYTES_MAX;
    if (c->chunk_bytes > c->window_bytes)
        c->chunk_bytes = c->window_bytes;
}

static void free_snapshots(struct hf_snapshots *s)
{
    hf_free((char *)s->config.dir);
    hf_free((char *)s->config.vfs);
    hf_free(s->incoming_path);
    hf_free(s);
}

static int open_executors(struct hf_snapshots *s, char *why, size_t why_size)
{
    struct hf_env *env = s->env;
    int rc = env->executor_open(env, "hf-snapshot", &s->executor);

    if (rc == 0) {
        rc = env->executor_open(env, "hf-snap-sync", &s->syncer);
        if (rc != 0)
            env->executor_close(env, s->executor);
    }
    if (rc != 0)
        snprintf(why, why_size, "cannot start a thread for copies of the state: %s", hf_strerror(rc));
    return rc;
}

int hf_snapshots_open(struct hf_env *env, const struct hf_snapshots_config *config,
                      const struct hf_snapshots_events *events, struct hf_stats *stats, struct hf_snapshots **out,
                      char *why, size_t why_size)
{
    struct hf_snapshots *s;
    int rc = remove_leftovers(env->fs, config->dir, why, why_size);

    if (rc != 0)
        return rc;
    s = hf_calloc(1, sizeof(*s));
    s->env = env;
    s->events = *events;
    set_config(s, config);
    rc = open_executors(s, why, why_size);
    if (rc != 0) {
        free_snapshots(s);
        return rc;
    }
    s->incoming_path = hf_asprintf("%s/incoming.db", config->dir);
    /* Two processes of one data directory never draw the same: the clocks have moved on. */
    s->epoch = (uint64_t)env->wall_ms(env) << 20 ^ env->boot_ns(env);
    s->tokens_ns = env->boot_ns(env);
    s->task.data = s->tick.data = s->retry.data = s;
    s->task.cb = work;
    s->tick.cb = tick_cb;
    s->retry.cb = retry_cb;
    register_stats(s, stats);
    hf_target_open(s);
    *out = s;
    return 0;
}

void hf_snapshots_close(struct hf_snapshots *s)
{
    struct hf_env *env;

    if (s == NULL)
        return;
    env = s->env;
    s->is_closing = true;
    atomic_store(&s->in.cancel, true);
    env->unpost(env, &s->task);
    env->timer_stop(env, &s->tick);
    env->timer_stop(env, &s->retry);
    env->executor_close(env, s->executor);
    env->executor_close(env, s->syncer);
    hf_source_close(s);
    hf_target_close(s);
    hf_copies_close(s);
    free_snapshots(s);
}

void hf_snapshots_set_rate(struct hf_snapshots *s, uint64_t rate_bytes)
{
    s->config.rate_bytes = rate_bytes;
    s->tokens = 0;
    s->tokens_ns = s->env->boot_ns(s->env);
    hf_snapshots_poke(s);
}

/* ---- links --------------------------------------------------------------------------------------- */

void hf_snapshots_set_link_of(struct hf_snapshots *s, struct hf_link *(*link_of)(void *data, uint64_t member),
                              void *data)
{
    s->link_of = link_of;
    s->link_of_data = data;
}

void hf_snapshots_on_link_up(struct hf_snapshots *s, struct hf_link *link)
{
    (void)link; /* whoever waits for it asks link_of */
    hf_snapshots_poke(s);
}

void hf_snapshots_on_link_down(struct hf_snapshots *s, struct hf_link *link)
{
    if (hf_link_is_dialed(link))
        hf_source_link_down(s, link);
    else
        hf_target_link_down(s, link);
}

void hf_snapshots_on_message(struct hf_snapshots *s, struct hf_link *link, uint8_t type, struct hf_slice payload)
{
    struct hf_transfer_wire w;

    if (hf_transfer_decode(type, payload, &w) != 0) {
        HF_LOG_WARN(HF_COPY_LOG, "malformed message", "member=%" PRIu64 " type=%d bytes=%zu", hf_link_node_id(link),
                    (int)type, payload.len);
        hf_link_close(link);
        return;
    }
    if (hf_link_is_dialed(link))
        hf_source_message(s, link, &w);
    else
        hf_target_message(s, link, &w);
}

uint32_t hf_snapshots_progress(const struct hf_snapshots *s, struct hf_snapshot_progress *out, uint32_t n)
{
    uint32_t sending = hf_source_progress(s, out, n);
    uint32_t filled = sending < n ? sending : n;

    return sending + hf_target_progress(s, out + filled, n - filled);
}
