/* world.c: see world.h. */
#include "sim/world.h"

#include "base/assert.h"
#include "base/buf.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

struct event {
    struct event *next; /* only in a paused node's list */
    uint64_t at_us, seq;
    struct hf_sim_node *node; /* on whose loop it happens */
    void (*cb)(void *arg);
    void *arg;
};

struct hf_executor {
    struct hf_executor *next;
    struct hf_sim_node *node;
    struct hf_job *head, **tail;
    bool is_scheduled, has_run_head, is_closed;
    char name[24];
};

struct hf_listener {
    struct hf_listener *next;
    struct hf_sim_node *node;
    char *address;
    const struct hf_listener_events *events;
    void *data;
};

/* One end of a stream. The two ends live on different nodes and free themselves separately. */
struct end {
    struct hf_stream base;
    struct end *next, *prev; /* of all ends of a node */
    struct hf_sim_node *node;
    struct end *peer;   /* NULL once the other end is gone */
    unsigned peer_node; /* number */
    char name[80], peer_name[80];
    struct hf_buf inbox; /* arrived while reading was stopped */
    uint64_t last_arrival_us;
    size_t in_flight; /* bytes sent and not yet arrived */
    bool is_open, is_outgoing, is_closing, is_closed, is_read_stopped, peer_is_done, wants_drain;
    int close_rc;
    unsigned pending; /* events that refer to this end */
};

struct hf_sim_node {
    struct hf_env env;
    struct hf_sim_world *world;
    struct hf_sim_node *next;
    unsigned number;
    struct hf_sim_disk *fs;
    struct hf_timer_heap timers;
    struct hf_task *tasks, **tasks_tail;
    struct hf_executor *executors;
    struct hf_listener *listeners;
    struct end *ends;
    struct event *deferred, **deferred_tail;
    int64_t wall_offset_ms;
    bool is_paused, is_dead;
    char hung[24]; /* the executor whose jobs do not end before hung_until_us */
    uint64_t hung_until_us;
};

struct hf_sim_world {
    uint64_t now_us, seq;
    struct hf_prng prng;
    struct hf_sim_rules rules;
    struct event **heap; /* 1-based */
    size_t n, cap;
    struct hf_sim_node *nodes;
    bool blocked[HF_SIM_NODES_MAX][HF_SIM_NODES_MAX];
    struct event *held; /* deliveries waiting for a blocked direction */
};

/* Base of the wall clock: some day in 2023, so that it never looks like a boot time. */
#define WALL_BASE_MS      1700000000000ll
#define QUEUED_FREE_BYTES (256u << 10) /* in flight beyond this counts as queued */

static struct hf_sim_node *self(struct hf_env *env)
{
    return (struct hf_sim_node *)(void *)env;
}

/* ---- events ------------------------------------------------------------------------------------------- */

static bool is_before(const struct event *a, const struct event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->seq < b->seq;
}

static void heap_push(struct hf_sim_world *w, struct event *e)
{
    size_t i;

    if (w->n + 2 > w->cap) {
        w->cap = w->cap ? w->cap * 2 : 64;
        w->heap = hf_realloc(w->heap, w->cap * sizeof *w->heap);
    }
    for (i = ++w->n; i > 1 && is_before(e, w->heap[i / 2]); i /= 2)
        w->heap[i] = w->heap[i / 2];
    w->heap[i] = e;
}

static struct event *heap_pop(struct hf_sim_world *w)
{
    struct event *top = w->heap[1], *last = w->heap[w->n--];
    size_t i = 1;

    while (i * 2 <= w->n) {
        size_t child = i * 2;

        if (child < w->n && is_before(w->heap[child + 1], w->heap[child]))
            child++;
        if (!is_before(w->heap[child], last))
            break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = last;
    return top;
}

static void schedule(struct hf_sim_node *node, uint64_t at_us, void (*cb)(void *), void *arg)
{
    struct event *e = hf_calloc(1, sizeof *e);

    e->at_us = at_us < node->world->now_us ? node->world->now_us : at_us;
    e->seq = node->world->seq++;
    e->node = node;
    e->cb = cb;
    e->arg = arg;
    heap_push(node->world, e);
}

static uint64_t between(struct hf_sim_world *w, uint64_t low, uint64_t high)
{
    return high > low ? low + hf_prng_below(&w->prng, high - low + 1) : low;
}

static uint64_t latency(struct hf_sim_world *w)
{
    return between(w, w->rules.latency_min_us, w->rules.latency_max_us);
}

/* ---- time, timers, tasks ------------------------------------------------------------------------------ */

static uint64_t env_boot_ns(struct hf_env *env)
{
    return self(env)->world->now_us * 1000 + 1000000000u;
}

static uint64_t env_boot_ms(struct hf_env *env)
{
    return env_boot_ns(env) / 1000000;
}

static int64_t env_wall_ms(struct hf_env *env)
{
    struct hf_sim_node *n = self(env);

    return WALL_BASE_MS + (int64_t)(n->world->now_us / 1000) + n->wall_offset_ms;
}

static void env_timer_start(struct hf_env *env, struct hf_timer *t, uint64_t delay_ms)
{
    hf_timer_heap_insert(&self(env)->timers, t, env_boot_ms(env) + delay_ms);
}

static void env_timer_stop(struct hf_env *env, struct hf_timer *t)
{
    hf_timer_heap_remove(&self(env)->timers, t);
}

static void env_post(struct hf_env *env, struct hf_task *task)
{
    struct hf_sim_node *n = self(env);

    if (task->posted)
        return;
    task->posted = true;
    task->next = NULL;
    *n->tasks_tail = task;
    n->tasks_tail = &task->next;
}

static void env_unpost(struct hf_env *env, struct hf_task *task)
{
    struct hf_sim_node *n = self(env);
    struct hf_task **at = &n->tasks;

    if (!task->posted)
        return;
    while (*at != task)
        at = &(*at)->next;
    *at = task->next;
    if (!task->next)
        n->tasks_tail = at;
    task->posted = false;
}

static void drain_tasks(struct hf_sim_node *n)
{
    struct hf_task *t;

    while ((t = n->tasks) != NULL) {
        n->tasks = t->next;
        if (!n->tasks)
            n->tasks_tail = &n->tasks;
        t->posted = false;
        t->cb(t);
    }
}

/* ---- executors ---------------------------------------------------------------------------------------- */

static void executor_schedule(struct hf_executor *ex);

static bool is_hung(const struct hf_executor *ex)
{
    return ex->node->hung_until_us > ex->node->world->now_us && strcmp(ex->name, ex->node->hung) == 0;
}

static void executor_finish_head(struct hf_executor *ex)
{
    struct hf_job *job = ex->head;

    if (!ex->has_run_head)
        job->run(job);
    ex->has_run_head = false;
    ex->head = job->next;
    if (!ex->head)
        ex->tail = &ex->head;
    job->done(job);
}

static void on_job(void *arg)
{
    struct hf_executor *ex = arg;

    ex->is_scheduled = false;
    if (ex->is_closed) {
        hf_free(ex);
        return;
    }
    if (ex->head && !is_hung(ex))
        executor_finish_head(ex);
    executor_schedule(ex);
}

static void executor_schedule(struct hf_executor *ex)
{
    struct hf_sim_world *w = ex->node->world;
    uint64_t us;

    if (ex->is_scheduled || !ex->head || ex->is_closed)
        return;
    us = between(w, w->rules.job_min_us, w->rules.job_max_us);
    if (w->rules.slow_job_per_mille > 0 && hf_prng_below(&w->prng, 1000) < w->rules.slow_job_per_mille)
        us = w->rules.slow_job_us;
    if (is_hung(ex) && us < ex->node->hung_until_us - w->now_us)
        us = ex->node->hung_until_us - w->now_us;
    ex->is_scheduled = true;
    schedule(ex->node, w->now_us + us, on_job, ex);
}

static int env_executor_open(struct hf_env *env, const char *name, struct hf_executor **out)
{
    struct hf_sim_node *n = self(env);
    struct hf_executor *ex = hf_calloc(1, sizeof *ex);

    snprintf(ex->name, sizeof ex->name, "%s", name);
    ex->node = n;
    ex->tail = &ex->head;
    ex->next = n->executors;
    n->executors = ex;
    *out = ex;
    return 0;
}

static void env_executor_close(struct hf_env *env, struct hf_executor *ex)
{
    struct hf_executor **at = &self(env)->executors;

    while (ex->head)
        executor_finish_head(ex);
    while (*at != ex)
        at = &(*at)->next;
    *at = ex->next;
    ex->is_closed = true;
    if (!ex->is_scheduled)
        hf_free(ex);
}

static void env_executor_submit(struct hf_env *env, struct hf_executor *ex, struct hf_job *job)
{
    (void)env;
    HF_ASSERT(!ex->is_closed);
    job->next = NULL;
    *ex->tail = job;
    ex->tail = &job->next;
    executor_schedule(ex);
}

/* ---- streams ------------------------------------------------------------------------------------------ */

static struct end *end_new(struct hf_sim_node *node)
{
    struct end *e = hf_calloc(1, sizeof *e);

    e->node = node;
    e->base.env = &node->env;
    e->next = node->ends;
    if (e->next)
        e->next->prev = e;
    node->ends = e;
    return e;
}

static void end_free(struct end *e)
{
    if (e->prev)
        e->prev->next = e->next;
    else
        e->node->ends = e->next;
    if (e->next)
        e->next->prev = e->prev;
    if (e->peer)
        e->peer->peer = NULL;
    hf_buf_free(&e->inbox);
    hf_free(e);
}

static void on_end_close(void *arg)
{
    struct end *e = arg;

    e->pending--;
    if (!e->is_closed) {
        e->is_closed = true;
        e->base.events->on_close(&e->base, e->close_rc);
    }
    if (e->pending == 0)
        end_free(e);
}

static void close_end(struct end *e, int rc, uint64_t delay_us)
{
    if (e->is_closed || e->is_closing)
        return;
    e->is_closing = true;
    e->close_rc = rc;
    e->pending++;
    schedule(e->node, e->node->world->now_us + delay_us, on_end_close, e);
}

/* The other end learns that this one is gone. */
static void on_peer_gone(void *arg)
{
    struct end *e = arg;

    e->pending--;
    if (e->is_closed) {
        if (e->pending == 0)
            end_free(e);
        return;
    }
    close_end(e, e->close_rc, 0);
}

static void tell_peer(struct end *e, int rc, uint64_t at_us)
{
    struct end *p = e->peer;

    if (!p || p->is_closing || p->is_closed || p->peer_is_done)
        return;
    p->peer_is_done = true;
    p->close_rc = rc;
    p->pending++;
    schedule(p->node, at_us, on_peer_gone, p);
}

struct delivery {
    struct end *to;
    size_t n;
    uint8_t bytes[];
};

static void settle(struct end *to, size_t n)
{
    struct end *from = to->peer;

    if (!from)
        return;
    from->in_flight -= n < from->in_flight ? n : from->in_flight;
    if (from->wants_drain && from->in_flight <= QUEUED_FREE_BYTES && !from->is_closing && !from->is_closed) {
        from->wants_drain = false;
        if (from->base.events->on_drain)
            from->base.events->on_drain(&from->base);
    }
}

static void on_delivery(void *arg)
{
    struct delivery *d = arg;
    struct end *to = d->to;
    struct hf_sim_world *w = to->node->world;

    to->pending--;
    settle(to, d->n);
    if (to->is_closed) {
        if (to->pending == 0)
            end_free(to);
    } else if (!to->is_closing) {
        if (w->rules.reset_per_million > 0 && hf_prng_below(&w->prng, 1000000) < w->rules.reset_per_million) {
            tell_peer(to, HF_E_CONN, w->now_us + latency(w));
            close_end(to, HF_E_CONN, 0);
        } else if (to->is_read_stopped || to->inbox.len > 0) {
            hf_buf_put(&to->inbox, d->bytes, d->n);
        } else {
            to->base.events->on_data(&to->base, d->bytes, d->n);
        }
    }
    hf_free(d);
}

static void on_cut(void *arg)
{
    struct end *e = arg;
    struct hf_sim_world *w = e->node->world;

    e->pending--;
    if (e->is_closed) {
        if (e->pending == 0)
            end_free(e);
        return;
    }
    /* Still blocked after the whole timeout: the sender's kernel gives the stream up. */
    if (!e->is_closing && e->in_flight > 0 && w->blocked[e->node->number][e->peer_node])
        close_end(e, HF_E_TIMEOUT, 0);
}

static int env_stream_write(struct hf_env *env, struct hf_stream *s, const uint8_t *bytes, size_t n)
{
    struct hf_sim_world *w = self(env)->world;
    struct end *e = (struct end *)(void *)s;

    if (e->is_closing || e->is_closed)
        return HF_E_CLOSED;
    if (!e->peer || e->node->is_dead || !e->is_open)
        return e->is_open ? 0 : HF_E_CLOSED;
    while (n > 0) {
        /* Any cut of the bytes must do. */
        size_t piece = hf_prng_below(&w->prng, 4) == 0 ? 1 + (size_t)hf_prng_below(&w->prng, n) : n;
        struct delivery *d;
        uint64_t at = w->now_us + latency(w);

        if (piece > (64u << 10))
            piece = 64u << 10;
        d = hf_malloc(sizeof *d + piece);
        d->to = e->peer;
        d->n = piece;
        memcpy(d->bytes, bytes, piece);
        e->in_flight += piece;
        if (at < e->last_arrival_us)
            at = e->last_arrival_us;
        e->last_arrival_us = at;
        e->peer->pending++;
        schedule(e->peer->node, at, on_delivery, d);
        bytes += piece;
        n -= piece;
    }
    if (w->blocked[e->node->number][e->peer_node]) {
        e->pending++;
        schedule(e->node, w->now_us + w->rules.cut_timeout_ms * 1000, on_cut, e);
    }
    if (e->in_flight > QUEUED_FREE_BYTES)
        e->wants_drain = true;
    return 0;
}

static size_t env_stream_queued(struct hf_env *env, struct hf_stream *s)
{
    struct end *e = (struct end *)(void *)s;

    (void)env;
    return e->in_flight > QUEUED_FREE_BYTES ? e->in_flight - QUEUED_FREE_BYTES : 0;
}

static void env_stream_read_stop(struct hf_env *env, struct hf_stream *s)
{
    (void)env;
    ((struct end *)(void *)s)->is_read_stopped = true;
}

static void on_read_again(void *arg)
{
    struct end *e = arg;

    e->pending--;
    if (e->is_closed) {
        if (e->pending == 0)
            end_free(e);
        return;
    }
    while (e->inbox.len > 0 && !e->is_read_stopped && !e->is_closing) {
        struct hf_buf got = e->inbox;

        e->inbox = (struct hf_buf){0};
        e->base.events->on_data(&e->base, got.data, got.len);
        hf_buf_free(&got);
    }
}

static void env_stream_read_start(struct hf_env *env, struct hf_stream *s)
{
    struct end *e = (struct end *)(void *)s;

    if (!e->is_read_stopped)
        return;
    e->is_read_stopped = false;
    e->pending++;
    schedule(self(env), 0, on_read_again, e);
}

static void env_stream_close(struct hf_env *env, struct hf_stream *s, bool flush)
{
    struct end *e = (struct end *)(void *)s;
    struct hf_sim_world *w = self(env)->world;
    uint64_t at = w->now_us + latency(w);

    if (e->is_closing || e->is_closed)
        return;
    if (flush && at < e->last_arrival_us)
        at = e->last_arrival_us;
    tell_peer(e, 0, at);
    close_end(e, 0, 0);
}

static void env_stream_name(struct hf_env *env, struct hf_stream *s, bool peer, char *out, size_t cap)
{
    struct end *e = (struct end *)(void *)s;

    (void)env;
    snprintf(out, cap, "%s", peer ? e->peer_name : e->name);
}

static struct hf_listener *find_listener(struct hf_sim_world *w, const char *address)
{
    for (struct hf_sim_node *n = w->nodes; n; n = n->next)
        for (struct hf_listener *l = n->listeners; l && !n->is_dead; l = l->next)
            if (strcmp(l->address, address) == 0)
                return l;
    return NULL;
}

struct dial {
    struct end *from;
    char address[128];
};

static void on_opened(void *arg)
{
    struct end *e = arg;

    e->pending--;
    if (e->is_closed) {
        if (e->pending == 0)
            end_free(e);
        return;
    }
    if (e->is_closing)
        return;
    e->is_open = true;
    if (e->base.events->on_open)
        e->base.events->on_open(&e->base);
}

static void on_dial(void *arg)
{
    struct dial *d = arg;
    struct end *from = d->from, *to;
    struct hf_sim_world *w = from->node->world;
    struct hf_listener *l = find_listener(w, d->address);

    from->pending--;
    if (from->is_closed || from->is_closing) {
        if (from->is_closed && from->pending == 0)
            end_free(from);
    } else if (!l || from->node->is_dead) {
        close_end(from, HF_E_CONN, latency(w));
    } else if (l->node->is_paused || w->blocked[from->node->number][l->node->number] ||
               w->blocked[l->node->number][from->node->number]) {
        close_end(from, HF_E_TIMEOUT, 500000);
    } else {
        to = end_new(l->node);
        to->is_open = true;
        to->peer = from;
        from->peer = to;
        to->peer_node = from->node->number;
        from->peer_node = l->node->number;
        snprintf(to->name, sizeof to->name, "%.79s", d->address);
        snprintf(to->peer_name, sizeof to->peer_name, "node%u:%u", from->node->number, (unsigned)(w->seq & 0xffff));
        snprintf(from->peer_name, sizeof from->peer_name, "%.79s", d->address);
        from->pending++;
        schedule(from->node, w->now_us + latency(w), on_opened, from);
        /* The accepter's loop is another node's, but its callback only sets up the stream. */
        l->events->on_accept(l->data, &to->base);
        HF_ASSERT(to->base.events != NULL);
        drain_tasks(l->node);
    }
    hf_free(d);
}

static int env_connect(struct hf_env *env, const char *address, uint64_t timeout_ms,
                       const struct hf_stream_events *events, void *data, struct hf_stream **out)
{
    struct hf_sim_node *n = self(env);
    struct end *e = end_new(n);
    struct dial *d = hf_calloc(1, sizeof *d);

    (void)timeout_ms;
    e->base.events = events;
    e->base.data = data;
    e->is_outgoing = true;
    snprintf(e->name, sizeof e->name, "node%u", n->number);
    d->from = e;
    snprintf(d->address, sizeof d->address, "%s", address);
    e->pending++;
    schedule(n, n->world->now_us + latency(n->world), on_dial, d);
    *out = &e->base;
    return 0;
}

static int env_listen(struct hf_env *env, const char *address, const struct hf_listener_events *events, void *data,
                      struct hf_listener **out)
{
    struct hf_sim_node *n = self(env);
    struct hf_listener *l;

    if (find_listener(n->world, address))
        return HF_E_ADDRINUSE;
    l = hf_calloc(1, sizeof *l);
    l->node = n;
    l->address = hf_strdup(address);
    l->events = events;
    l->data = data;
    l->next = n->listeners;
    n->listeners = l;
    *out = l;
    return 0;
}

static void env_listener_close(struct hf_env *env, struct hf_listener *l)
{
    struct hf_listener **at = &self(env)->listeners;

    while (*at != l)
        at = &(*at)->next;
    *at = l->next;
    hf_free(l->address);
    hf_free(l);
}

/* ---- nodes -------------------------------------------------------------------------------------------- */

struct hf_sim_node *hf_sim_node_new(struct hf_sim_world *w, unsigned number)
{
    struct hf_sim_node *n = hf_calloc(1, sizeof *n);

    HF_ASSERT(number < HF_SIM_NODES_MAX);
    n->env = (struct hf_env){.boot_ms = env_boot_ms,
                             .boot_ns = env_boot_ns,
                             .wall_ms = env_wall_ms,
                             .timer_start = env_timer_start,
                             .timer_stop = env_timer_stop,
                             .post = env_post,
                             .unpost = env_unpost,
                             .executor_open = env_executor_open,
                             .executor_close = env_executor_close,
                             .executor_submit = env_executor_submit,
                             .connect = env_connect,
                             .listen = env_listen,
                             .listener_close = env_listener_close,
                             .stream_write = env_stream_write,
                             .stream_queued = env_stream_queued,
                             .stream_read_stop = env_stream_read_stop,
                             .stream_read_start = env_stream_read_start,
                             .stream_close = env_stream_close,
                             .stream_name = env_stream_name};
    n->world = w;
    n->number = number;
    n->fs = hf_sim_disk_new();
    n->env.fs = hf_sim_disk_ops(n->fs);
    n->tasks_tail = &n->tasks;
    n->deferred_tail = &n->deferred;
    n->next = w->nodes;
    w->nodes = n;
    return n;
}

struct hf_env *hf_sim_node_env(struct hf_sim_node *n)
{
    return &n->env;
}

struct hf_sim_disk *hf_sim_node_fs(struct hf_sim_node *n)
{
    return n->fs;
}

void hf_sim_node_set_fs(struct hf_sim_node *n, struct hf_sim_disk *fs)
{
    hf_sim_disk_free(n->fs);
    n->fs = fs;
    n->env.fs = hf_sim_disk_ops(fs);
}

struct hf_sim_disk *hf_sim_node_take_fs(struct hf_sim_node *n)
{
    struct hf_sim_disk *fs = n->fs;

    n->fs = NULL;
    return fs;
}

static void run_deferred(struct hf_sim_node *n)
{
    struct event *e;

    while ((e = n->deferred) != NULL) {
        n->deferred = e->next;
        e->next = NULL;
        e->at_us = n->world->now_us;
        e->seq = n->world->seq++;
        heap_push(n->world, e);
    }
    n->deferred_tail = &n->deferred;
}

void hf_sim_node_crash(struct hf_sim_node *n, struct hf_sim_disk **disk)
{
    struct hf_sim_world *w = n->world;

    /* Each worker may be anywhere inside its job: let the running ones do their writes, but no sync. */
    hf_sim_disk_stop_syncing(n->fs);
    for (struct hf_executor *ex = n->executors; ex; ex = ex->next)
        if (ex->head && !ex->has_run_head && hf_prng_below(&w->prng, 2) == 0) {
            ex->has_run_head = true;
            hf_sim_disk_stop_syncing(n->fs);
            ex->head->run(ex->head);
        }
    *disk = hf_sim_disk_crash(n->fs, &w->prng);
    n->is_dead = true;
    n->is_paused = false;
    for (struct end *e = n->ends; e; e = e->next)
        tell_peer(e, HF_E_CONN, w->now_us + latency(w));
    run_deferred(n);
}

/* What a partition holds back is released in order when it heals. */
static void release_held(struct hf_sim_world *w)
{
    struct event *all = w->held, *e;

    w->held = NULL;
    while ((e = all) != NULL) {
        all = e->next;
        e->next = NULL;
        e->at_us = 0; /* before anything that arrived later on the same stream */
        e->seq = w->seq++;
        heap_push(w, e);
    }
}

/* Everything in the queue that belongs to this node happens now or never. */
void hf_sim_node_free(struct hf_sim_node *n)
{
    struct hf_sim_world *w = n->world;
    struct hf_sim_node **at = &w->nodes;
    bool again = true;

    n->is_dead = true;
    n->is_paused = false;
    run_deferred(n);
    release_held(w);
    for (struct end *e = n->ends; e; e = e->next) {
        tell_peer(e, 0, w->now_us + latency(w));
        if (!e->is_closing && !e->is_closed)
            close_end(e, 0, 0);
    }
    while (again) {
        again = false;
        for (size_t i = 1; i <= w->n; i++) {
            struct event *e = w->heap[i];

            if (e->node != n)
                continue;
            /* Move it to the front: order among a dead node's events does not matter. */
            e->at_us = 0;
            e->seq = 0;
            for (; i > 1 && is_before(w->heap[i], w->heap[i / 2]); i /= 2) {
                struct event *t = w->heap[i];

                w->heap[i] = w->heap[i / 2];
                w->heap[i / 2] = t;
            }
            e = heap_pop(w);
            HF_ASSERT(e->node == n);
            e->cb(e->arg);
            drain_tasks(n);
            hf_free(e);
            again = true;
            break;
        }
    }
    HF_ASSERT(n->ends == NULL);
    HF_ASSERT(n->executors == NULL);
    while (n->listeners)
        env_listener_close(&n->env, n->listeners);
    while (*at != n)
        at = &(*at)->next;
    *at = n->next;
    hf_timer_heap_free(&n->timers);
    hf_sim_disk_free(n->fs);
    hf_free(n);
}

void hf_sim_node_pause(struct hf_sim_node *n)
{
    n->is_paused = true;
}

void hf_sim_node_resume(struct hf_sim_node *n)
{
    n->is_paused = false;
    run_deferred(n);
}

void hf_sim_node_hang(struct hf_sim_node *n, const char *executor, uint64_t until_ms)
{
    snprintf(n->hung, sizeof n->hung, "%s", executor);
    n->hung_until_us = until_ms * 1000;
}

void hf_sim_node_set_wall_offset(struct hf_sim_node *n, int64_t offset_ms)
{
    n->wall_offset_ms = offset_ms;
}

/* ---- the world ---------------------------------------------------------------------------------------- */

struct hf_sim_world *hf_sim_world_new(uint64_t seed)
{
    struct hf_sim_world *w = hf_calloc(1, sizeof *w);

    hf_prng_seed(&w->prng, seed);
    w->seq = 1;
    w->rules = (struct hf_sim_rules){
        .latency_min_us = 50, .latency_max_us = 500, .job_min_us = 50, .job_max_us = 1000, .cut_timeout_ms = 3000};
    return w;
}

void hf_sim_world_free(struct hf_sim_world *w)
{
    HF_ASSERT(w->nodes == NULL);
    HF_ASSERT(w->n == 0);
    while (w->held) {
        struct event *e = w->held;

        w->held = e->next;
        hf_free(e->arg);
        hf_free(e);
    }
    hf_free(w->heap);
    hf_free(w);
}

struct hf_sim_rules *hf_sim_world_rules(struct hf_sim_world *w)
{
    return &w->rules;
}

struct hf_prng *hf_sim_world_prng(struct hf_sim_world *w)
{
    return &w->prng;
}

uint64_t hf_sim_world_now_ms(const struct hf_sim_world *w)
{
    return w->now_us / 1000;
}

void hf_sim_world_block(struct hf_sim_world *w, unsigned a, unsigned b, bool is_blocked)
{
    w->blocked[a][b] = is_blocked;
    release_held(w); /* what is still blocked is held again when it comes up */
}

void hf_sim_world_heal(struct hf_sim_world *w)
{
    memset(w->blocked, 0, sizeof w->blocked);
    release_held(w);
}

static bool is_held_back(struct hf_sim_world *w, const struct event *e)
{
    const struct end *to;

    if (e->cb != on_delivery)
        return false;
    to = ((const struct delivery *)e->arg)->to;
    return !to->is_closed && !to->is_closing && !to->node->is_dead && w->blocked[to->peer_node][to->node->number];
}

static struct hf_sim_node *next_timer(struct hf_sim_world *w, uint64_t *at_us)
{
    struct hf_sim_node *best = NULL;

    for (struct hf_sim_node *n = w->nodes; n; n = n->next) {
        const struct hf_timer *t = hf_timer_heap_first(&n->timers);
        uint64_t at;

        if (!t || n->is_paused || n->is_dead)
            continue;
        at = t->due_ms <= 1000 ? 0 : (t->due_ms - 1000) * 1000;
        if (at < w->now_us)
            at = w->now_us;
        if (!best || at < *at_us || (at == *at_us && n->number < best->number)) {
            best = n;
            *at_us = at;
        }
    }
    return best;
}

bool hf_sim_world_step(struct hf_sim_world *w, uint64_t until_ms)
{
    uint64_t until_us = until_ms * 1000, timer_us = 0;

    for (struct hf_sim_node *n = w->nodes; n; n = n->next)
        if (!n->is_paused && !n->is_dead)
            drain_tasks(n); /* posted from outside any event */
    for (;;) {
        struct hf_sim_node *node = next_timer(w, &timer_us);
        struct event *e = w->n > 0 ? w->heap[1] : NULL;

        if (node && (!e || timer_us < e->at_us)) {
            struct hf_timer *t = hf_timer_heap_first(&node->timers);

            if (timer_us > until_us)
                break;
            w->now_us = timer_us;
            hf_timer_heap_remove(&node->timers, t);
            t->cb(t);
            drain_tasks(node);
            return true;
        }
        if (!e || e->at_us > until_us)
            break;
        heap_pop(w);
        if (e->at_us > w->now_us)
            w->now_us = e->at_us;
        if (e->node->is_paused) {
            e->next = NULL;
            *e->node->deferred_tail = e;
            e->node->deferred_tail = &e->next;
            continue;
        }
        if (is_held_back(w, e)) {
            struct event **at = &w->held;

            while (*at)
                at = &(*at)->next;
            e->next = NULL;
            *at = e;
            continue;
        }
        node = e->node;
        e->cb(e->arg);
        drain_tasks(node);
        hf_free(e);
        return true;
    }
    if (w->now_us < until_us)
        w->now_us = until_us;
    return false;
}

void hf_sim_world_run_until(struct hf_sim_world *w, uint64_t until_ms)
{
    while (hf_sim_world_step(w, until_ms))
        ;
}
