/* fake_env.c: see fake_env.h. One heap of events ordered by (time, sequence); what an event is about is found by
 * number, never by pointer, so that whatever was freed meanwhile is simply not there. */
#include "support/fake_env.h"

#include "base/assert.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/util.h"

#include <stdio.h>

/* What a sender's kernel takes before bytes count as queued. */
#define WINDOW_BYTES (256u * 1024u)
#define WALL_BASE_MS INT64_C(1700000000000)

enum event_kind {
    EVENT_JOB_RUN = 1, /* id: executor */
    EVENT_JOB_DONE,
    EVENT_CONNECT, /* id: stream of the connecting side; runs in the world, not in a node */
    EVENT_OPEN,    /* id: stream */
    EVENT_ACCEPT,  /* id: stream of the listening side */
    EVENT_CHUNK,   /* id: receiving stream */
    EVENT_FLUSH,   /* id: receiving stream: deliver what stalled */
    EVENT_DELIVER, /* id: receiving stream: reading began again */
    EVENT_DRAIN,   /* id: sending stream */
    EVENT_STALL,   /* id: receiving stream: break it if it still stalls */
    EVENT_CLOSE,   /* id: stream */
};

struct event {
    uint64_t at_us, seq, id;
    uint64_t epoch; /* of the node; 0 = any */
    enum event_kind kind;
    int node; /* whose turn it is; -1 = the world's */
    int rc;
    bool eof;
    uint8_t *bytes;
    size_t n;
};

struct events {
    struct event *items;
    size_t n, cap;
};

struct fake_stream {
    struct hf_stream base;
    uint64_t id, other; /* other: the far end's id, 0 = none (yet) */
    int node, far_node;
    bool is_incoming, is_open, is_closing, is_reading, has_eof;
    int eof_rc;
    struct hf_buf rx;
    struct events stalled; /* chunks held back by a cut way */
    uint64_t stalled_since_us;
    uint64_t unacked;     /* bytes written and not yet seen by the far side's owner */
    uint64_t last_due_us; /* bytes never overtake each other */
    uint64_t timeout_ms;
    char local[64], remote[64];
    struct fake_stream *next;
};

struct hf_listener {
    char *address;
    int node;
    const struct hf_listener_events *events;
    void *data;
    bool is_dead;
    struct hf_listener *next;
};

struct hf_executor {
    uint64_t id;
    struct hf_job *first, *last;
    struct hf_job *current;
    bool current_ran;
    int node;
    struct hf_executor *next;
};

struct fake_node {
    struct hf_env env;
    struct hf_fake_world *world;
    struct hf_fake_fs *fs;
    int id;
    uint64_t epoch;
    bool is_alive, is_paused;
    struct hf_timer_heap timers;
    struct hf_task *first_task, *last_task;
    struct events deferred; /* while paused */
    int64_t wall_skew_ms;
    uint64_t boot_offset_us;
    uint64_t disk_us_min, disk_us_max;
};

struct hf_fake_world {
    struct hf_fake_world_config config;
    struct hf_prng prng;
    uint64_t now_us, next_seq, next_id;
    struct events heap; /* items[0] is the first */
    struct fake_node *nodes;
    struct fake_stream *streams;
    struct hf_listener *listeners;
    struct hf_executor *executors;
    bool *cuts; /* [from * nodes + to] */
};

static uint64_t draw_between(struct hf_fake_world *w, uint64_t low, uint64_t high)
{
    return low + hf_prng_below(&w->prng, high - low + 1);
}

/* ---- events -------------------------------------------------------------------------------------- */

static void events_push(struct events *e, struct event ev)
{
    if (e->n == e->cap) {
        e->cap = e->cap ? e->cap * 2 : 32;
        e->items = hf_realloc(e->items, e->cap * sizeof *e->items);
    }
    e->items[e->n++] = ev;
}

static void events_free(struct events *e)
{
    for (size_t i = 0; i < e->n; i++)
        hf_free(e->items[i].bytes);
    hf_free(e->items);
    *e = (struct events){0};
}

static bool is_before(const struct event *a, const struct event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->seq < b->seq;
}

static void schedule(struct hf_fake_world *w, uint64_t at_us, struct event ev)
{
    size_t i;

    ev.at_us = at_us < w->now_us ? w->now_us : at_us;
    ev.seq = w->next_seq++;
    if (ev.node >= 0 && ev.epoch == 0)
        ev.epoch = w->nodes[ev.node].epoch;
    events_push(&w->heap, ev);
    for (i = w->heap.n - 1; i > 0 && is_before(&w->heap.items[i], &w->heap.items[(i - 1) / 2]); i = (i - 1) / 2) {
        struct event t = w->heap.items[i];

        w->heap.items[i] = w->heap.items[(i - 1) / 2];
        w->heap.items[(i - 1) / 2] = t;
    }
}

static struct event take_first(struct hf_fake_world *w)
{
    struct event *h = w->heap.items, first = h[0];
    size_t i = 0, n = --w->heap.n;

    h[0] = h[n];
    for (;;) {
        size_t least = i, left = 2 * i + 1;
        struct event t;

        for (size_t k = left; k < left + 2 && k < n; k++)
            if (is_before(&h[k], &h[least]))
                least = k;
        if (least == i)
            return first;
        t = h[i];
        h[i] = h[least];
        h[least] = t;
        i = least;
    }
}

static uint64_t latency(struct hf_fake_world *w)
{
    return draw_between(w, w->config.latency_us_min, w->config.latency_us_max);
}

static struct fake_node *node_of(struct hf_env *env)
{
    return HF_CONTAINER_OF(env, struct fake_node, env);
}

/* ---- time, timers, tasks ------------------------------------------------------------------------- */

static uint64_t env_boot_ns(struct hf_env *env)
{
    return (node_of(env)->world->now_us + node_of(env)->boot_offset_us) * 1000;
}

static uint64_t env_boot_ms(struct hf_env *env)
{
    return env_boot_ns(env) / 1000000;
}

static int64_t env_wall_ms(struct hf_env *env)
{
    return WALL_BASE_MS + (int64_t)(node_of(env)->world->now_us / 1000) + node_of(env)->wall_skew_ms;
}

static void env_timer_start(struct hf_env *env, struct hf_timer *t, uint64_t delay_ms)
{
    struct fake_node *n = node_of(env);

    if (n->is_alive)
        hf_timer_heap_insert(&n->timers, t, (n->world->now_us + 999) / 1000 + delay_ms);
}

static void env_timer_stop(struct hf_env *env, struct hf_timer *t)
{
    hf_timer_heap_remove(&node_of(env)->timers, t);
}

static void env_post(struct hf_env *env, struct hf_task *t)
{
    struct fake_node *n = node_of(env);

    if (t->posted || !n->is_alive)
        return;
    t->posted = true;
    t->next = NULL;
    if (n->last_task != NULL)
        n->last_task->next = t;
    else
        n->first_task = t;
    n->last_task = t;
}

static void env_unpost(struct hf_env *env, struct hf_task *t)
{
    struct fake_node *n = node_of(env);
    struct hf_task *before = NULL;

    if (!t->posted)
        return;
    for (struct hf_task *i = n->first_task; i != t; i = i->next) {
        HF_ASSERT(i != NULL);
        before = i;
    }
    if (before != NULL)
        before->next = t->next;
    else
        n->first_task = t->next;
    if (n->last_task == t)
        n->last_task = before;
    t->posted = false;
}

static bool run_tasks(struct fake_node *n)
{
    bool any = false;

    while (n->is_alive && !n->is_paused && n->first_task != NULL) {
        struct hf_task *t = n->first_task;

        n->first_task = t->next;
        if (n->first_task == NULL)
            n->last_task = NULL;
        t->posted = false;
        any = true;
        t->cb(t);
    }
    return any;
}

/* ---- executors ----------------------------------------------------------------------------------- */

static void start_job(struct hf_fake_world *w, struct hf_executor *ex)
{
    const struct fake_node *n = &w->nodes[ex->node];
    uint64_t us = n->disk_us_max != 0 ? draw_between(w, n->disk_us_min, n->disk_us_max)
                                      : draw_between(w, w->config.disk_us_min, w->config.disk_us_max);

    if (ex->current != NULL || ex->first == NULL)
        return;
    ex->current = ex->first;
    ex->current_ran = false;
    ex->first = ex->current->next;
    if (ex->first == NULL)
        ex->last = NULL;
    schedule(w, w->now_us + us, (struct event){.kind = EVENT_JOB_RUN, .node = ex->node, .id = ex->id});
}

static struct hf_executor *find_executor(struct hf_fake_world *w, uint64_t id)
{
    struct hf_executor *ex = w->executors;

    while (ex != NULL && ex->id != id)
        ex = ex->next;
    return ex;
}

static int env_executor_open(struct hf_env *env, const char *name, struct hf_executor **out)
{
    struct fake_node *n = node_of(env);
    struct hf_executor *ex;

    HF_ASSERT(strlen(name) <= 15);
    if (!n->is_alive)
        return HF_E_SYS;
    ex = hf_calloc(1, sizeof *ex);
    ex->id = ++n->world->next_id;
    ex->node = n->id;
    ex->next = n->world->executors;
    n->world->executors = ex;
    *out = ex;
    return HF_OK;
}

static void env_executor_submit(struct hf_env *env, struct hf_executor *ex, struct hf_job *job)
{
    job->next = NULL;
    if (ex->last != NULL)
        ex->last->next = job;
    else
        ex->first = job;
    ex->last = job;
    if (node_of(env)->is_alive)
        start_job(node_of(env)->world, ex);
}

static void job_ran(struct hf_fake_world *w, struct hf_executor *ex)
{
    ex->current_ran = true;
    ex->current->run(ex->current);
    /* Rarely long after: what was written may matter before anybody here knows. */
    schedule(w, w->now_us + (hf_prng_below(&w->prng, 16) == 0 ? draw_between(w, 100, 20000) : 5),
             (struct event){.kind = EVENT_JOB_DONE, .node = ex->node, .id = ex->id});
}

static void job_done(struct hf_fake_world *w, struct hf_executor *ex)
{
    struct hf_job *job = ex->current;

    ex->current = NULL;
    start_job(w, ex);
    job->done(job);
}

static void env_executor_close(struct hf_env *env, struct hf_executor *ex)
{
    struct hf_executor **link = &node_of(env)->world->executors;

    while (ex->current != NULL || ex->first != NULL) {
        struct hf_job *job = ex->current;
        bool ran = job != NULL && ex->current_ran;

        if (job == NULL) {
            job = ex->first;
            ex->first = job->next;
            if (ex->first == NULL)
                ex->last = NULL;
        }
        ex->current = NULL;
        if (!ran)
            job->run(job);
        job->done(job); /* may submit more: it runs here as well */
    }
    while (*link != ex)
        link = &(*link)->next;
    *link = ex->next;
    hf_free(ex);
}

/* ---- streams ------------------------------------------------------------------------------------- */

static struct fake_stream *find_stream(struct hf_fake_world *w, uint64_t id)
{
    struct fake_stream *s = w->streams;

    if (id == 0)
        return NULL;
    while (s != NULL && s->id != id)
        s = s->next;
    return s;
}

static struct fake_stream *stream_of(struct hf_stream *s)
{
    return HF_CONTAINER_OF(s, struct fake_stream, base);
}

static struct fake_stream *stream_new(struct fake_node *n, const char *local, const char *remote)
{
    struct fake_stream *s = hf_calloc(1, sizeof *s);

    s->id = ++n->world->next_id;
    s->base.env = &n->env;
    s->node = n->id;
    s->far_node = n->id;
    s->is_reading = true;
    snprintf(s->local, sizeof s->local, "%s", local);
    snprintf(s->remote, sizeof s->remote, "%s", remote);
    s->next = n->world->streams;
    n->world->streams = s;
    return s;
}

static void stream_free(struct hf_fake_world *w, struct fake_stream *s)
{
    struct fake_stream **link = &w->streams;

    while (*link != s)
        link = &(*link)->next;
    *link = s->next;
    events_free(&s->stalled);
    hf_buf_free(&s->rx);
    hf_free(s);
}

static void end_stream(struct hf_fake_world *w, struct fake_stream *s, int rc)
{
    /* A stream that was never accepted has no owner to tell. */
    if (s->base.events != NULL)
        s->base.events->on_close(&s->base, rc);
    stream_free(w, s);
}

static void schedule_close(struct hf_fake_world *w, struct fake_stream *s, uint64_t at_us, int rc)
{
    schedule(w, at_us, (struct event){.kind = EVENT_CLOSE, .node = s->node, .id = s->id, .rc = rc});
}

static bool is_cut(const struct hf_fake_world *w, int from, int to)
{
    return w->cuts[from * w->config.nodes + to];
}

/* Put bytes (or the end of the stream) on the way to the far side. */
static void send_chunk(struct hf_fake_world *w, struct fake_stream *s, const uint8_t *bytes, size_t n, bool eof, int rc)
{
    const struct fake_stream *far = find_stream(w, s->other);
    uint64_t at = w->now_us + latency(w);

    if (far == NULL)
        return;
    if (at <= s->last_due_us)
        at = s->last_due_us + 1;
    s->last_due_us = at;
    schedule(w, at,
             (struct event){.kind = EVENT_CHUNK,
                            .node = far->node,
                            .id = far->id,
                            .rc = rc,
                            .eof = eof,
                            .bytes = n > 0 ? hf_memdup(bytes, n) : NULL,
                            .n = n});
}

static void acknowledge(struct hf_fake_world *w, struct fake_stream *receiver, size_t n)
{
    struct fake_stream *s = find_stream(w, receiver->other);
    bool was_queued;

    if (s == NULL)
        return;
    was_queued = s->unacked > WINDOW_BYTES;
    s->unacked -= n;
    if (was_queued && s->unacked <= WINDOW_BYTES)
        schedule(w, w->now_us + latency(w), (struct event){.kind = EVENT_DRAIN, .node = s->node, .id = s->id});
}

/* Hand what has arrived to the owner, in pieces. */
static void deliver(struct hf_fake_world *w, struct fake_stream *s)
{
    uint64_t id = s->id;

    while (s->base.events != NULL && s->is_reading && !s->is_closing && s->rx.len > 0) {
        size_t n = hf_prng_below(&w->prng, 4) == 0 ? 1 + (size_t)hf_prng_below(&w->prng, s->rx.len) : s->rx.len;
        uint8_t *bytes = hf_memdup(s->rx.data, n); /* exactly as long as promised, so that ASan sees a step too far */

        hf_buf_consume(&s->rx, n);
        acknowledge(w, s, n);
        s->base.events->on_data(&s->base, bytes, n);
        hf_free(bytes);
        s = find_stream(w, id);
        if (s == NULL)
            return;
    }
    if (s->has_eof && s->rx.len == 0 && !s->is_closing && s->base.events != NULL) {
        s->is_closing = true;
        schedule_close(w, s, w->now_us, s->eof_rc);
    }
}

static void arrive(struct hf_fake_world *w, struct event *ev)
{
    struct fake_stream *s = find_stream(w, ev->id);

    if (s == NULL || s->is_closing)
        return;
    if (is_cut(w, s->far_node, s->node) || s->stalled.n > 0) {
        if (s->stalled.n == 0) {
            s->stalled_since_us = w->now_us;
            schedule(w, w->now_us + w->config.break_ms * 1000,
                     (struct event){.kind = EVENT_STALL, .node = -1, .id = s->id, .n = 0});
        }
        events_push(&s->stalled, *ev);
        ev->bytes = NULL;
        return;
    }
    hf_buf_put(&s->rx, ev->bytes, ev->n);
    if (ev->eof) {
        s->has_eof = true;
        s->eof_rc = ev->rc;
    }
    deliver(w, s);
}

static void flush_stalled(struct hf_fake_world *w, struct fake_stream *s)
{
    if (is_cut(w, s->far_node, s->node) || s->is_closing)
        return;
    for (size_t i = 0; i < s->stalled.n; i++) {
        struct event *ev = &s->stalled.items[i];

        hf_buf_put(&s->rx, ev->bytes, ev->n);
        if (ev->eof) {
            s->has_eof = true;
            s->eof_rc = ev->rc;
        }
    }
    events_free(&s->stalled);
    deliver(w, s);
}

/* The sender gives up after break_ms; the receiver learns it later, as from a reset or its own keepalive. */
static void break_stalled(struct hf_fake_world *w, uint64_t id)
{
    struct fake_stream *s = find_stream(w, id), *far;

    if (s == NULL || s->stalled.n == 0)
        return;
    if (w->now_us < s->stalled_since_us + w->config.break_ms * 1000) {
        schedule(w, s->stalled_since_us + w->config.break_ms * 1000,
                 (struct event){.kind = EVENT_STALL, .node = -1, .id = id});
        return;
    }
    far = find_stream(w, s->other);
    if (far != NULL)
        schedule_close(w, far, w->now_us, HF_E_TIMEOUT);
    schedule_close(w, s, w->now_us + draw_between(w, 0, w->config.break_ms * 1000), HF_E_CONN);
}

static struct hf_listener *find_listener(struct hf_fake_world *w, const char *address)
{
    struct hf_listener *l = w->listeners;

    while (l != NULL && (l->is_dead || strcmp(l->address, address) != 0))
        l = l->next;
    return l;
}

static void try_connect(struct hf_fake_world *w, struct fake_stream *s)
{
    struct hf_listener *l = find_listener(w, s->remote);
    struct fake_stream *far;

    if (l == NULL) {
        schedule_close(w, s, w->now_us + latency(w), HF_E_CONN);
        return;
    }
    if (is_cut(w, s->node, l->node) || is_cut(w, l->node, s->node)) {
        schedule_close(w, s, w->now_us + s->timeout_ms * 1000, HF_E_TIMEOUT);
        return;
    }
    far = stream_new(&w->nodes[l->node], s->remote, s->local);
    far->is_incoming = true;
    far->is_open = true;
    far->far_node = s->node;
    far->other = s->id;
    s->far_node = l->node;
    s->other = far->id;
    schedule(w, w->now_us, (struct event){.kind = EVENT_ACCEPT, .node = far->node, .id = far->id});
    schedule(w, w->now_us + latency(w), (struct event){.kind = EVENT_OPEN, .node = s->node, .id = s->id});
}

static void accept_stream(struct hf_fake_world *w, struct fake_stream *s)
{
    struct hf_listener *l = find_listener(w, s->local);
    struct fake_stream *far = find_stream(w, s->other);

    if (l == NULL || l->node != s->node) {
        if (far != NULL)
            schedule_close(w, far, w->now_us + latency(w), HF_E_CONN);
        stream_free(w, s);
        return;
    }
    l->events->on_accept(l->data, &s->base);
    HF_ASSERT(s->base.events != NULL);
    if (!s->is_closing)
        schedule(w, w->now_us, (struct event){.kind = EVENT_DELIVER, .node = s->node, .id = s->id});
}

static int env_connect(struct hf_env *env, const char *address, uint64_t timeout_ms,
                       const struct hf_stream_events *events, void *data, struct hf_stream **out)
{
    struct fake_node *n = node_of(env);
    struct fake_stream *s;
    char local[32];

    if (!n->is_alive)
        return HF_E_CONN;
    snprintf(local, sizeof local, "node%d:%u", n->id, (unsigned)(20000 + n->world->next_id % 40000));
    s = stream_new(n, local, address);
    s->base.events = events;
    s->base.data = data;
    s->timeout_ms = timeout_ms;
    schedule(n->world, n->world->now_us + latency(n->world),
             (struct event){.kind = EVENT_CONNECT, .node = -1, .id = s->id});
    *out = &s->base;
    return HF_OK;
}

static int env_listen(struct hf_env *env, const char *address, const struct hf_listener_events *events, void *data,
                      struct hf_listener **out)
{
    struct fake_node *n = node_of(env);
    struct hf_listener *l;

    if (!n->is_alive)
        return HF_E_SYS;
    if (find_listener(n->world, address) != NULL)
        return HF_E_ADDRINUSE;
    l = hf_calloc(1, sizeof *l);
    l->address = hf_strdup(address);
    l->node = n->id;
    l->events = events;
    l->data = data;
    l->next = n->world->listeners;
    n->world->listeners = l;
    *out = l;
    return HF_OK;
}

static void env_listener_close(struct hf_env *env, struct hf_listener *l)
{
    struct hf_listener **link = &node_of(env)->world->listeners;

    while (*link != l)
        link = &(*link)->next;
    *link = l->next;
    hf_free(l->address);
    hf_free(l);
}

static int env_stream_write(struct hf_env *env, struct hf_stream *stream, const uint8_t *bytes, size_t n)
{
    struct fake_stream *s = stream_of(stream);

    HF_ASSERT(s->is_open || s->is_closing || !node_of(env)->is_alive);
    if (s->is_closing || !node_of(env)->is_alive)
        return HF_E_CLOSED;
    if (n == 0)
        return HF_OK;
    s->unacked += n;
    send_chunk(node_of(env)->world, s, bytes, n, false, 0);
    return HF_OK;
}

static size_t env_stream_queued(struct hf_env *env, struct hf_stream *stream)
{
    struct fake_stream *s = stream_of(stream);

    (void)env;
    return s->unacked > WINDOW_BYTES ? (size_t)(s->unacked - WINDOW_BYTES) : 0;
}

static void env_stream_read_stop(struct hf_env *env, struct hf_stream *stream)
{
    (void)env;
    stream_of(stream)->is_reading = false;
}

static void env_stream_read_start(struct hf_env *env, struct hf_stream *stream)
{
    struct fake_stream *s = stream_of(stream);
    struct hf_fake_world *w = node_of(env)->world;

    if (s->is_reading || s->is_closing || !node_of(env)->is_alive)
        return;
    s->is_reading = true;
    schedule(w, w->now_us, (struct event){.kind = EVENT_DELIVER, .node = s->node, .id = s->id});
}

static void env_stream_close(struct hf_env *env, struct hf_stream *stream, bool flush)
{
    struct fake_stream *s = stream_of(stream);
    struct hf_fake_world *w = node_of(env)->world;

    if (s->is_closing || !node_of(env)->is_alive)
        return;
    s->is_closing = true;
    if (s->is_open)
        send_chunk(w, s, NULL, 0, true, flush ? 0 : HF_E_CONN);
    schedule_close(w, s, w->now_us, 0);
}

static void env_stream_name(struct hf_env *env, struct hf_stream *stream, bool peer, char *out, size_t cap)
{
    struct fake_stream *s = stream_of(stream);

    (void)env;
    snprintf(out, cap, "%s", peer ? s->remote : s->local);
}

/* ---- stepping ------------------------------------------------------------------------------------ */

static void dispatch(struct hf_fake_world *w, struct event *ev)
{
    struct hf_executor *ex;
    struct fake_stream *s;

    switch (ev->kind) {
    case EVENT_JOB_RUN:
    case EVENT_JOB_DONE:
        ex = find_executor(w, ev->id);
        if (ex != NULL && ex->current != NULL && ev->kind == EVENT_JOB_RUN)
            job_ran(w, ex);
        else if (ex != NULL && ex->current != NULL)
            job_done(w, ex);
        return;
    case EVENT_CHUNK:
        arrive(w, ev);
        return;
    case EVENT_STALL:
        break_stalled(w, ev->id);
        return;
    case EVENT_CONNECT:
    case EVENT_OPEN:
    case EVENT_ACCEPT:
    case EVENT_FLUSH:
    case EVENT_DELIVER:
    case EVENT_DRAIN:
    case EVENT_CLOSE:
        break;
    }
    s = find_stream(w, ev->id);
    if (s == NULL)
        return;
    if (ev->kind == EVENT_CLOSE) {
        end_stream(w, s, ev->rc);
        return;
    }
    if (s->is_closing)
        return;
    if (ev->kind == EVENT_CONNECT)
        try_connect(w, s);
    else if (ev->kind == EVENT_ACCEPT)
        accept_stream(w, s);
    else if (ev->kind == EVENT_FLUSH)
        flush_stalled(w, s);
    else if (ev->kind == EVENT_DELIVER)
        deliver(w, s);
    else if (ev->kind == EVENT_DRAIN && s->base.events->on_drain != NULL && s->unacked <= WINDOW_BYTES)
        s->base.events->on_drain(&s->base);
    else if (ev->kind == EVENT_OPEN) {
        s->is_open = true;
        if (s->base.events->on_open != NULL)
            s->base.events->on_open(&s->base);
    }
}

static void run_event(struct hf_fake_world *w)
{
    struct event ev = take_first(w);

    w->now_us = ev.at_us;
    if (ev.node >= 0) {
        struct fake_node *n = &w->nodes[ev.node];

        if (!n->is_alive || n->epoch != ev.epoch) {
            hf_free(ev.bytes);
            return;
        }
        if (n->is_paused) {
            events_push(&n->deferred, ev);
            return;
        }
    }
    dispatch(w, &ev);
    hf_free(ev.bytes);
    if (ev.node >= 0)
        (void)run_tasks(&w->nodes[ev.node]);
}

bool hf_fake_world_step(struct hf_fake_world *w)
{
    struct fake_node *timer_node = NULL;
    struct hf_timer *timer = NULL;
    bool any = false;

    for (int i = 0; i < w->config.nodes; i++)
        any = run_tasks(&w->nodes[i]) || any;
    if (any)
        return true;
    for (int i = 0; i < w->config.nodes; i++) {
        struct fake_node *n = &w->nodes[i];
        struct hf_timer *t = n->is_alive && !n->is_paused ? hf_timer_heap_first(&n->timers) : NULL;

        if (t != NULL && (timer == NULL || t->due_ms < timer->due_ms)) {
            timer = t;
            timer_node = n;
        }
    }
    if (w->heap.n > 0 && (timer == NULL || w->heap.items[0].at_us <= timer->due_ms * 1000)) {
        run_event(w);
        return true;
    }
    if (timer == NULL)
        return false;
    if (timer->due_ms * 1000 > w->now_us)
        w->now_us = timer->due_ms * 1000;
    hf_timer_heap_remove(&timer_node->timers, timer);
    timer->cb(timer);
    (void)run_tasks(timer_node);
    return true;
}

static uint64_t next_event_us(struct hf_fake_world *w)
{
    uint64_t at = w->heap.n > 0 ? w->heap.items[0].at_us : UINT64_MAX;

    for (int i = 0; i < w->config.nodes; i++) {
        struct fake_node *n = &w->nodes[i];
        struct hf_timer *t = n->is_alive && !n->is_paused ? hf_timer_heap_first(&n->timers) : NULL;

        if (n->is_alive && !n->is_paused && n->first_task != NULL)
            return w->now_us;
        if (t != NULL && t->due_ms * 1000 < at)
            at = t->due_ms * 1000;
    }
    return at;
}

bool hf_fake_world_run_until(struct hf_fake_world *w, uint64_t ms, bool (*done)(void *data), void *data)
{
    uint64_t end = w->now_us + ms * 1000;

    while (done == NULL || !done(data)) {
        if (next_event_us(w) > end) {
            w->now_us = end;
            return done != NULL && done(data);
        }
        (void)hf_fake_world_step(w);
    }
    return true;
}

void hf_fake_world_run_ms(struct hf_fake_world *w, uint64_t ms)
{
    (void)hf_fake_world_run_until(w, ms, NULL, NULL);
}

/* ---- the world and its nodes --------------------------------------------------------------------- */

struct hf_fake_world *hf_fake_world_new(const struct hf_fake_world_config *config)
{
    struct hf_fake_world *w = hf_calloc(1, sizeof *w);

    w->config = *config;
    HF_ASSERT(config->nodes > 0);
    if (w->config.latency_us_max == 0) {
        w->config.latency_us_min = 50;
        w->config.latency_us_max = 500;
    }
    if (w->config.disk_us_max == 0) {
        w->config.disk_us_min = 50;
        w->config.disk_us_max = 400;
    }
    if (w->config.break_ms == 0)
        w->config.break_ms = 3000;
    hf_prng_seed(&w->prng, config->seed);
    w->now_us = 1000000;
    w->cuts = hf_calloc((size_t)config->nodes * (size_t)config->nodes, sizeof *w->cuts);
    w->nodes = hf_calloc((size_t)config->nodes, sizeof *w->nodes);
    for (int i = 0; i < config->nodes; i++) {
        struct fake_node *n = &w->nodes[i];

        n->world = w;
        n->id = i;
        n->epoch = 1;
        n->is_alive = true;
        n->fs = hf_fake_fs_new(hf_prng_next(&w->prng));
        /* Clocks of different machines have nothing to do with each other. */
        n->boot_offset_us = hf_prng_below(&w->prng, UINT64_C(1000000000000));
        n->env = (struct hf_env){
            .boot_ms = env_boot_ms,
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
            .stream_name = env_stream_name,
            .fs = hf_fake_fs_table(n->fs),
        };
    }
    return w;
}

void hf_fake_world_free(struct hf_fake_world *w)
{
    HF_ASSERT(w->executors == NULL);
    HF_ASSERT(w->listeners == NULL);
    while (w->streams != NULL)
        end_stream(w, w->streams, HF_E_CANCELED);
    for (int i = 0; i < w->config.nodes; i++) {
        hf_timer_heap_free(&w->nodes[i].timers);
        events_free(&w->nodes[i].deferred);
        hf_fake_fs_free(w->nodes[i].fs);
    }
    events_free(&w->heap);
    hf_free(w->nodes);
    hf_free(w->cuts);
    hf_free(w);
}

uint64_t hf_fake_world_now_us(const struct hf_fake_world *w)
{
    return w->now_us;
}

uint64_t hf_fake_world_draw(struct hf_fake_world *w, uint64_t bound)
{
    return hf_prng_below(&w->prng, bound);
}

struct hf_env *hf_fake_node_env(struct hf_fake_world *w, int node)
{
    return &w->nodes[node].env;
}

struct hf_fake_fs *hf_fake_node_fs(struct hf_fake_world *w, int node)
{
    return w->nodes[node].fs;
}

bool hf_fake_node_is_alive(const struct hf_fake_world *w, int node)
{
    return w->nodes[node].is_alive;
}

void hf_fake_node_kill(struct hf_fake_world *w, int node, enum hf_fake_loss loss)
{
    struct fake_node *n = &w->nodes[node];
    struct hf_timer *t;

    HF_ASSERT(n->is_alive);
    n->is_alive = false;
    n->is_paused = false;
    n->epoch++;
    hf_fake_fs_crash(n->fs, loss);
    while ((t = hf_timer_heap_first(&n->timers)) != NULL)
        hf_timer_heap_remove(&n->timers, t);
    while (n->first_task != NULL) {
        struct hf_task *task = n->first_task;

        n->first_task = task->next;
        task->posted = false;
    }
    n->last_task = NULL;
    events_free(&n->deferred);
    for (struct hf_listener *l = w->listeners; l != NULL; l = l->next)
        if (l->node == node)
            l->is_dead = true;
    for (struct fake_stream *s = w->streams; s != NULL; s = s->next) {
        struct fake_stream *far = s->node == node ? find_stream(w, s->other) : NULL;

        if (far != NULL && far->node != node)
            schedule_close(w, far, w->now_us + latency(w), HF_E_CONN);
    }
}

void hf_fake_node_bury(struct hf_fake_world *w, int node)
{
    HF_ASSERT(!w->nodes[node].is_alive);
    for (struct fake_stream *s = w->streams; s != NULL;) {
        if (s->node != node) {
            s = s->next;
            continue;
        }
        end_stream(w, s, HF_E_CONN);
        s = w->streams;
    }
    for (struct hf_listener *l = w->listeners; l != NULL; l = l->next)
        HF_ASSERT(l->node != node);
    for (struct hf_executor *ex = w->executors; ex != NULL; ex = ex->next)
        HF_ASSERT(ex->node != node);
}

void hf_fake_node_boot(struct hf_fake_world *w, int node)
{
    struct fake_node *n = &w->nodes[node];

    HF_ASSERT(!n->is_alive);
    n->is_alive = true;
    hf_fake_fs_revive(n->fs);
}

void hf_fake_node_pause(struct hf_fake_world *w, int node)
{
    w->nodes[node].is_paused = true;
}

void hf_fake_node_resume(struct hf_fake_world *w, int node)
{
    struct fake_node *n = &w->nodes[node];

    n->is_paused = false;
    for (size_t i = 0; i < n->deferred.n; i++) {
        schedule(w, w->now_us, n->deferred.items[i]);
        n->deferred.items[i].bytes = NULL;
    }
    n->deferred.n = 0;
}

void hf_fake_node_set_wall_skew(struct hf_fake_world *w, int node, int64_t ms)
{
    w->nodes[node].wall_skew_ms = ms;
}

void hf_fake_node_set_disk(struct hf_fake_world *w, int node, uint64_t us_min, uint64_t us_max)
{
    w->nodes[node].disk_us_min = us_min;
    w->nodes[node].disk_us_max = us_max;
}

static void heal_streams(struct hf_fake_world *w)
{
    for (struct fake_stream *s = w->streams; s != NULL; s = s->next)
        if (s->stalled.n > 0)
            schedule(w, w->now_us + latency(w), (struct event){.kind = EVENT_FLUSH, .node = s->node, .id = s->id});
}

void hf_fake_world_cut(struct hf_fake_world *w, int from, int to, bool cut)
{
    w->cuts[from * w->config.nodes + to] = cut;
    if (!cut)
        heal_streams(w);
}

void hf_fake_world_heal(struct hf_fake_world *w)
{
    memset(w->cuts, 0, (size_t)w->config.nodes * (size_t)w->config.nodes * sizeof *w->cuts);
    heal_streams(w);
}

void hf_fake_world_drop_streams(struct hf_fake_world *w, int a, int b)
{
    for (struct fake_stream *s = w->streams; s != NULL; s = s->next)
        if ((s->node == a && s->far_node == b) || (s->node == b && s->far_node == a))
            schedule_close(w, s, w->now_us, HF_E_CONN);
}
