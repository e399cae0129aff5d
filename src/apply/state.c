/* state.c: the state thread. The loop collects committed entries and reads in one queue; once a turn they go to the
 * executor "hf-state" as one job; its answers come back together. Between jobs of that kind stand maintenance jobs:
 * write-back and commits, asked for by the loop after the answers of a job are out, so that no answer waits for the
 * commit that its own entry made due. A large commit is prepared by several short jobs, with entries between them.
 *
 * A swap is a job of its own, so its place in the queue is the moment when one database ends and the other begins. From
 * the call on the loop counts itself to the new one: a commit of the old one that is still under way is told to nobody,
 * because its index means nothing for the new database's log.
 *
 * Replicated settings travel as a list of all of them, made by a job that changed any; the loop compares it with the
 * list before and tells the differences, before the answers of that job go out.
 *
 * Who touches what: `store` and what the run functions use belong to the executor's thread between open and the end of
 * executor_close; all else is the loop's. A job carries everything between the two. */
#include "apply/apply.h"

#include "apply/internal.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define COMMIT_INTERVAL_MS 1000u
#define COMMIT_BYTES_MAX   (32ull << 20)
#define WORK_BUDGET_US     3000u

enum job_kind { JOB_ITEMS, JOB_WORK, JOB_COMMIT, JOB_SWAP };

/* An entry or a read, by the lowest bit of its address. */
#define ITEM_IS_READ ((uintptr_t)1)

struct state_job {
    struct hf_job job;
    struct hf_state *st;
    enum job_kind kind;
    uintptr_t *items;
    uint32_t n, cap;
    uint64_t database; /* which one it was meant for when it was given in: counts swaps */
    struct hf_state_swap *swap;
    uint64_t submitted_ns;
    /* what the run found */
    uint32_t n_done;
    int err;
    char why[512];
    int64_t next_due_ms;
    bool wants_work, wants_commit, has_changes;
    bool is_unfinished;     /* COMMIT: only a part was written back, another job goes on */
    bool is_swapped;        /* SWAP: it was done */
    bool has_settings;      /* ITEMS, SWAP: `settings` and `level` are filled in */
    struct hf_buf settings; /* as hf_settings_list writes them */
    uint32_t level;
    struct hf_store_meta meta; /* COMMIT: what is durable; SWAP: of the new database. Its configuration is in ... */
    struct hf_buf configuration;
    struct state_job *next; /* in the pool */
};

struct hf_state {
    struct hf_env *env;
    struct hf_state_events events;
    struct hf_executor *executor;
    uint64_t commit_interval_ms, commit_bytes_max;

    /* the executor's thread */
    struct hf_store_config store_config; /* but for the path */
    struct hf_stats *registry;
    struct hf_store *store; /* NULL after a swap that failed */
    bool is_stopped;        /* something failed, nothing more is run */

    /* the loop's */
    char *path, *vfs;
    uint64_t database; /* counts swaps asked for */
    uint32_t level;
    struct hf_buf settings; /* as told, in the form of hf_settings_list */
    bool are_settings_told; /* false: those of open are not yet */

    struct hf_task task;
    struct hf_timer commit_timer;
    struct state_job *open; /* collects this turn's items */
    struct state_job *pool; /* finished jobs, for reuse */
    bool is_maintaining;    /* a WORK or COMMIT job is under way */
    uint64_t committing_ms; /* boot clock when the present COMMIT job was asked for, 0 = none */
    bool is_commit_asked;
    bool is_failed, is_closing;
    int64_t reported_due_ms, first_due_ms;
    uint64_t applied_index, queued_index, queued_bytes;
    struct hf_buf configuration; /* as of open: hf_state_open's meta points here */

    struct {
        struct hf_counter *entries, *commands, *reads, *hits, *misses;
        struct hf_histogram *wait_us, *run_us;
        struct hf_gauge *queued_bytes;
    } stats;
};

static void submit(struct hf_state *st, struct state_job *j);
static void finish_job(struct hf_job *job);
static void run_job(struct hf_job *job);

static struct state_job *job_new(struct hf_state *st, enum job_kind kind)
{
    struct state_job *j = st->pool;

    if (j)
        st->pool = j->next;
    else
        j = hf_calloc(1, sizeof *j);
    j->st = st;
    j->job = (struct hf_job){.data = j, .run = run_job, .done = finish_job};
    j->kind = kind;
    j->n = j->n_done = 0;
    j->err = 0;
    j->is_unfinished = j->is_swapped = j->has_settings = false;
    j->swap = NULL;
    j->settings.len = 0;
    return j;
}

static void job_push(struct state_job *j, uintptr_t item)
{
    if (j->n == j->cap) {
        j->cap = j->cap ? j->cap * 2 : 16;
        j->items = hf_realloc(j->items, j->cap * sizeof j->items[0]);
    }
    j->items[j->n++] = item;
}

/* ---- on the state thread ------------------------------------------------------------------------- */

static int run_entry(struct state_job *j, struct hf_state_entry *req)
{
    struct hf_apply_result *result = req->wants_replies ? &req->result : NULL;
    int err = hf_apply_entry_noting(j->st->store, req->entry, result, &j->has_settings, j->why, sizeof j->why);

    hf_counter_add(j->st->stats.entries, 1);
    if (result)
        hf_counter_add(j->st->stats.commands, result->n);
    return err;
}

static int run_read(struct state_job *j, struct hf_state_read *req)
{
    struct hf_read_ctx cx = {
        .store = j->st->store, .clock_ms = req->clock_ms, .seed = req->seed, .status = req->status};
    const char *text;
    int err;

    req->command->read(&cx, &req->args, &req->reply);
    req->needs_tick = cx.needs_tick;
    if (cx.needs_tick)
        req->reply.buf.len = 0;
    hf_counter_add(j->st->stats.reads, 1);
    if (cx.hits != 0)
        hf_counter_add(j->st->stats.hits, cx.hits);
    if (cx.misses != 0)
        hf_counter_add(j->st->stats.misses, cx.misses);
    /* A store that failed under a read has answered "absent": that must not become a reply (R15). */
    err = hf_store_error(j->st->store, &text);
    if (err != 0)
        snprintf(j->why, sizeof j->why, "%s", text);
    return err;
}

static void run_items(struct state_job *j)
{
    uint64_t started = j->st->env->boot_ns(j->st->env);

    hf_histogram_record(j->st->stats.wait_us, (started - j->submitted_ns) / 1000);
    for (; j->n_done < j->n; j->n_done++) {
        uintptr_t item = j->items[j->n_done];

        if (item & ITEM_IS_READ)
            j->err = run_read(j, (struct hf_state_read *)(item & ~ITEM_IS_READ));
        else
            j->err = run_entry(j, (struct hf_state_entry *)item);
        if (j->err != 0)
            break;
    }
    if (j->has_settings)
        hf_settings_list(j->st->store, &j->settings, &j->level);
    hf_histogram_record(j->st->stats.run_us, (j->st->env->boot_ns(j->st->env) - started) / 1000);
}

static void keep_meta(struct state_job *j, const struct hf_store_meta *meta)
{
    j->configuration.len = 0;
    hf_buf_put(&j->configuration, meta->configuration.ptr, meta->configuration.len);
    j->meta = *meta;
    j->meta.configuration = hf_buf_slice(&j->configuration);
}

static void run_commit(struct state_job *j)
{
    const char *text;

    j->is_unfinished = !hf_store_prepare_commit(j->st->store, WORK_BUDGET_US);
    if (j->is_unfinished)
        return;
    j->err = hf_store_commit(j->st->store);
    if (j->err != 0) {
        hf_store_error(j->st->store, &text);
        snprintf(j->why, sizeof j->why, "%s", text);
        return;
    }
    keep_meta(j, hf_store_durable_meta(j->st->store));
}

/* What the old database still had in memory is worth nothing: the log goes on behind the new one. So nothing that it
 * meets while closing can matter, and it is not asked. */
static void run_swap(struct state_job *j)
{
    struct hf_state *st = j->st;
    struct hf_store_config config = st->store_config;

    hf_store_abandon(st->store);
    st->store = NULL;
    config.path = j->swap->path;
    j->err = hf_open_supported(&config, st->registry, &st->store, j->why, sizeof j->why);
    if (j->err != 0)
        return;
    keep_meta(j, hf_store_meta(st->store));
    hf_settings_list(st->store, &j->settings, &j->level);
    j->is_swapped = j->has_settings = true;
}

static void run_job(struct hf_job *job)
{
    struct state_job *j = job->data;
    struct hf_state *st = j->st;
    const char *text;

    if (st->is_stopped)
        return;
    switch (j->kind) {
    case JOB_ITEMS:
        run_items(j);
        break;
    case JOB_WORK:
        hf_store_work(st->store, WORK_BUDGET_US);
        j->err = hf_store_error(st->store, &text);
        if (j->err != 0)
            snprintf(j->why, sizeof j->why, "%s", text);
        break;
    case JOB_COMMIT:
        run_commit(j);
        break;
    case JOB_SWAP:
        run_swap(j);
        break;
    }
    st->is_stopped = j->err != 0;
    if (st->store == NULL)
        return;
    j->next_due_ms = hf_store_next_due_ms(st->store);
    j->wants_work = hf_store_wants_work(st->store);
    j->wants_commit = hf_store_dirty_bytes(st->store) >= st->commit_bytes_max || hf_store_wants_commit(st->store);
    j->has_changes = hf_store_meta(st->store)->applied_index != hf_store_durable_index(st->store);
}

/* ---- on the loop thread -------------------------------------------------------------------------- */

static void submit(struct hf_state *st, struct state_job *j)
{
    j->submitted_ns = st->env->boot_ns(st->env);
    j->database = st->database;
    st->env->executor_submit(st->env, st->executor, &j->job);
}

static void submit_maintenance(struct hf_state *st, enum job_kind kind)
{
    if (st->is_maintaining || st->is_closing || st->is_failed)
        return;
    st->is_maintaining = true;
    if (kind == JOB_COMMIT)
        st->committing_ms = st->env->boot_ms(st->env);
    if (kind == JOB_COMMIT)
        st->is_commit_asked = false;
    submit(st, job_new(st, kind));
}

static void on_commit_timer(struct hf_timer *timer)
{
    struct hf_state *st = timer->data;

    st->is_commit_asked = true;
    submit_maintenance(st, JOB_COMMIT);
}

static void report_due(struct hf_state *st, int64_t due_ms)
{
    if (due_ms == st->reported_due_ms)
        return;
    st->reported_due_ms = due_ms;
    if (st->events.on_next_due)
        st->events.on_next_due(st->events.data, due_ms);
}

/* is_all: also those that stay as they are. */
static void tell_settings(struct hf_state *st, const struct hf_buf *now, uint32_t level, bool is_all)
{
    struct hf_buf before = st->settings;

    st->settings = (struct hf_buf){0};
    hf_buf_put(&st->settings, now->data, now->len);
    st->level = level;
    if (st->events.on_setting)
        hf_settings_compare(&before, now, is_all, st->events.on_setting, st->events.data);
    hf_buf_free(&before);
}

/* Those that the database of open had. */
static void tell_first_settings(struct hf_state *st)
{
    struct hf_buf now = st->settings;

    if (st->are_settings_told)
        return;
    st->are_settings_told = true;
    st->settings = (struct hf_buf){0};
    tell_settings(st, &now, st->level, true);
    hf_buf_free(&now);
}

static void deliver_entry(struct hf_state *st, struct hf_state_entry *req)
{
    st->applied_index = req->entry->index > st->applied_index ? req->entry->index : st->applied_index;
    st->queued_bytes -= req->entry->len;
    hf_log_entry_unref(req->entry);
    req->entry = NULL;
    if (req->cb) {
        req->cb(req);
        return;
    }
    hf_apply_result_free(&req->result);
    hf_free(req);
}

static void deliver_items(struct state_job *j)
{
    for (uint32_t i = 0; i < j->n; i++) {
        uintptr_t item = j->items[i];

        if (i >= j->n_done) { /* after a failure: the owners hear on_failed only */
            struct hf_state_entry *req = (struct hf_state_entry *)item;
            if (item & ITEM_IS_READ)
                continue;
            hf_log_entry_unref(req->entry);
            req->entry = NULL;
            if (!req->cb)
                hf_free(req);
        } else if (item & ITEM_IS_READ) {
            struct hf_state_read *req = (struct hf_state_read *)(item & ~ITEM_IS_READ);
            req->cb(req);
        } else {
            deliver_entry(j->st, (struct hf_state_entry *)item);
        }
    }
    hf_gauge_set(j->st->stats.queued_bytes, (int64_t)j->st->queued_bytes);
}

/* The new database is in its place. */
static void deliver_swap(struct state_job *j)
{
    struct hf_state *st = j->st;
    struct hf_state_swap *swap = j->swap;

    hf_free(st->path);
    st->path = hf_strdup(swap->path);
    st->applied_index = j->meta.applied_index;
    if (st->queued_index < st->applied_index)
        st->queued_index = st->applied_index;
    report_due(st, j->next_due_ms);
    swap->meta = j->meta;
    swap->cb(swap);
}

static void fail(struct hf_state *st, const struct state_job *j)
{
    if (st->is_failed)
        return;
    st->is_failed = true;
    st->env->timer_stop(st->env, &st->commit_timer);
    if (st->events.on_failed)
        st->events.on_failed(st->events.data, j->err, j->why);
}

/* What the store needs next, told by the job that saw it last. */
static void maintain(struct hf_state *st, const struct state_job *j)
{
    if ((j->wants_commit && j->kind != JOB_COMMIT) || st->is_commit_asked)
        submit_maintenance(st, JOB_COMMIT);
    else if (j->wants_work)
        submit_maintenance(st, JOB_WORK);
    if (j->has_changes && !hf_timer_is_active(&st->commit_timer))
        st->env->timer_start(st->env, &st->commit_timer, st->commit_interval_ms);
}

static void finish_job(struct hf_job *job)
{
    struct state_job *j = job->data;
    struct hf_state *st = j->st;

    if (j->kind == JOB_WORK || j->kind == JOB_COMMIT)
        st->is_maintaining = false;
    if (j->kind == JOB_COMMIT)
        st->committing_ms = 0;
    if (j->has_settings && j->err == 0 && j->database == st->database)
        tell_settings(st, &j->settings, j->level, j->kind == JOB_SWAP);
    if (j->kind == JOB_ITEMS)
        deliver_items(j);
    if (j->is_swapped)
        deliver_swap(j);
    if (j->err != 0) {
        fail(st, j);
    } else if (!st->is_failed) {
        if (j->kind != JOB_SWAP)
            report_due(st, j->next_due_ms);
        if (j->kind == JOB_COMMIT && j->is_unfinished)
            st->is_commit_asked = true;
        else if (j->kind == JOB_COMMIT && j->database == st->database && st->events.on_durable)
            st->events.on_durable(st->events.data, &j->meta);
        if (!st->is_closing)
            maintain(st, j);
    }
    j->next = st->pool;
    st->pool = j;
}

static void submit_open(struct hf_state *st)
{
    struct state_job *j = st->open;

    st->open = NULL;
    if (j)
        submit(st, j);
}

static void on_task(struct hf_task *task)
{
    struct hf_state *st = task->data;

    submit_open(st);
    tell_first_settings(st);
    if (st->first_due_ms != 0) {
        int64_t due_ms = st->first_due_ms;
        st->first_due_ms = 0;
        report_due(st, due_ms);
    }
    if (st->is_commit_asked)
        submit_maintenance(st, JOB_COMMIT);
}

static struct state_job *open_job(struct hf_state *st)
{
    if (!st->open) {
        st->open = job_new(st, JOB_ITEMS);
        st->env->post(st->env, &st->task);
    }
    return st->open;
}

void hf_state_apply(struct hf_state *st, struct hf_state_entry *req)
{
    struct state_job *j;

    HF_ASSERT(!st->is_closing);
    HF_ASSERT(req->entry->index != 0);
    j = open_job(st);
    memset(&req->result, 0, sizeof req->result);
    req->next = NULL;
    job_push(j, (uintptr_t)req);
    st->queued_bytes += req->entry->len;
    if (req->entry->index > st->queued_index)
        st->queued_index = req->entry->index;
    hf_gauge_set(st->stats.queued_bytes, (int64_t)st->queued_bytes);
}

void hf_state_read(struct hf_state *st, struct hf_state_read *req)
{
    HF_ASSERT(!st->is_closing);
    HF_ASSERT(req->command->read);
    memset(&req->reply, 0, sizeof req->reply);
    req->needs_tick = false;
    req->next = NULL;
    job_push(open_job(st), (uintptr_t)req | ITEM_IS_READ);
}

void hf_state_commit(struct hf_state *st)
{
    HF_ASSERT(!st->is_closing);
    st->is_commit_asked = true; /* after the entries of this turn */
    st->env->post(st->env, &st->task);
}

void hf_state_swap(struct hf_state *st, struct hf_state_swap *swap)
{
    struct state_job *j;

    HF_ASSERT(!st->is_closing);
    submit_open(st); /* still for the old one */
    tell_first_settings(st);
    st->first_due_ms = 0;
    st->database++;
    st->queued_index = 0;
    j = job_new(st, JOB_SWAP);
    j->swap = swap;
    submit(st, j);
}

const char *hf_state_path(const struct hf_state *st)
{
    return st->path;
}

const char *hf_state_vfs(const struct hf_state *st)
{
    return st->vfs;
}

uint32_t hf_state_level(const struct hf_state *st)
{
    return st->level;
}

void hf_state_set_commit_interval(struct hf_state *st, uint64_t commit_interval_ms)
{
    st->commit_interval_ms = commit_interval_ms ? commit_interval_ms : COMMIT_INTERVAL_MS;
}

uint64_t hf_state_applied_index(const struct hf_state *st)
{
    return st->applied_index;
}

uint64_t hf_state_queued_index(const struct hf_state *st)
{
    return st->queued_index;
}

uint64_t hf_state_stall_ms(const struct hf_state *st)
{
    return st->committing_ms != 0 ? st->env->boot_ms(st->env) - st->committing_ms : 0;
}

uint64_t hf_state_queued_bytes(const struct hf_state *st)
{
    return st->queued_bytes;
}

/* ---- opening and closing -------------------------------------------------------------------------- */

static void register_stats(struct hf_state *st, struct hf_stats *stats)
{
    st->stats.entries = hf_stats_counter(stats, "apply_entries_total", NULL, "Log entries applied");
    st->stats.commands =
        hf_stats_counter(stats, "apply_replies_total", NULL, "Replies made for commands proposed here");
    st->stats.reads = hf_stats_counter(stats, "state_reads_total", NULL, "Reads run on the state thread");
    st->stats.hits = hf_stats_counter(stats, HF_METRIC_HITS, NULL, "Lookups of keys by reads that found one");
    st->stats.misses = hf_stats_counter(stats, HF_METRIC_MISSES, NULL, "Lookups of keys by reads that found none");
    st->stats.wait_us = hf_stats_histogram(stats, "state_wait_us", NULL, "From queueing to the state thread's start");
    st->stats.run_us = hf_stats_histogram(stats, "state_run_us", NULL, "Run of one batch of entries and reads");
    st->stats.queued_bytes =
        hf_stats_gauge(stats, "state_queued_bytes", NULL, "Bytes of entries waiting to be applied");
}

int hf_state_open(struct hf_env *env, const struct hf_state_config *config, const struct hf_state_events *events,
                  struct hf_stats *stats, struct hf_state **out, struct hf_store_meta *meta, char *why, size_t why_size)
{
    struct hf_state *st = hf_calloc(1, sizeof *st);
    int err = hf_open_supported(&config->store, stats, &st->store, why, why_size);

    *out = NULL;
    if (err != 0)
        goto free_state;
    err = env->executor_open(env, "hf-state", &st->executor);
    if (err != 0) {
        snprintf(why, why_size, "cannot start the state thread: %s", hf_strerror(err));
        goto close_store;
    }
    st->env = env;
    st->events = *events;
    st->path = hf_strdup(config->store.path);
    st->vfs = config->store.vfs ? hf_strdup(config->store.vfs) : NULL;
    st->store_config = config->store;
    st->store_config.vfs = st->vfs;
    st->store_config.path = NULL;
    st->registry = stats;
    st->commit_interval_ms = config->commit_interval_ms ? config->commit_interval_ms : COMMIT_INTERVAL_MS;
    st->commit_bytes_max = config->commit_bytes_max ? config->commit_bytes_max : COMMIT_BYTES_MAX;
    st->task = (struct hf_task){.data = st, .cb = on_task};
    st->commit_timer = (struct hf_timer){.data = st, .cb = on_commit_timer};
    register_stats(st, stats);
    *meta = *hf_store_meta(st->store);
    hf_buf_put(&st->configuration, meta->configuration.ptr, meta->configuration.len);
    meta->configuration = hf_buf_slice(&st->configuration);
    st->applied_index = st->queued_index = meta->applied_index;
    st->first_due_ms = hf_store_next_due_ms(st->store);
    hf_settings_list(st->store, &st->settings, &st->level);
    env->post(env, &st->task);
    *out = st;
    return 0;

close_store:
    hf_store_abandon(st->store);
free_state:
    hf_free(st);
    return err;
}

void hf_state_close(struct hf_state *st)
{
    if (!st)
        return;
    st->is_closing = true;
    st->env->timer_stop(st->env, &st->commit_timer);
    st->env->unpost(st->env, &st->task);
    submit_open(st);
    st->env->executor_close(st->env, st->executor);
    if (st->store)
        hf_store_close(st->store);
    while (st->pool) {
        struct state_job *j = st->pool;
        st->pool = j->next;
        hf_free(j->items);
        hf_buf_free(&j->configuration);
        hf_buf_free(&j->settings);
        hf_free(j);
    }
    hf_buf_free(&st->configuration);
    hf_buf_free(&st->settings);
    hf_free(st->path);
    hf_free(st->vfs);
    hf_free(st);
}
