/* fake.c: see fake.h. */
#include "fake.h"

#include "base/assert.h"
#include "base/mem.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

static struct fake *self(struct hf_env *env)
{
    return HF_CONTAINER_OF(env, struct fake, env);
}

/* ---- time and tasks ------------------------------------------------------------------------------ */

static uint64_t env_boot_ms(struct hf_env *env)
{
    return self(env)->now_ms;
}

static uint64_t env_boot_ns(struct hf_env *env)
{
    return self(env)->now_ms * 1000000;
}

static void env_timer_start(struct hf_env *env, struct hf_timer *t, uint64_t delay_ms)
{
    hf_timer_heap_insert(&self(env)->timers, t, self(env)->now_ms + delay_ms);
}

static void env_timer_stop(struct hf_env *env, struct hf_timer *t)
{
    hf_timer_heap_remove(&self(env)->timers, t);
}

static void env_post(struct hf_env *env, struct hf_task *task)
{
    struct hf_task **at = &self(env)->tasks;

    if (task->posted)
        return;
    task->posted = true;
    task->next = NULL;
    while (*at != NULL)
        at = &(*at)->next;
    *at = task;
}

static void env_unpost(struct hf_env *env, struct hf_task *task)
{
    for (struct hf_task **at = &self(env)->tasks; *at != NULL; at = &(*at)->next) {
        if (*at == task) {
            *at = task->next;
            task->posted = false;
            return;
        }
    }
}

/* ---- streams ------------------------------------------------------------------------------------- */

static int env_listen(struct hf_env *env, const char *address, const struct hf_listener_events *events, void *data,
                      struct hf_listener **out)
{
    struct fake *f = self(env);

    if (strcmp(address, "127.0.0.1:1") == 0)
        return HF_E_ADDRINUSE;
    f->listener = events;
    f->listener_data = data;
    f->is_listening = true;
    *out = (struct hf_listener *)(void *)f;
    return 0;
}

static void env_listener_close(struct hf_env *env, struct hf_listener *l)
{
    ck_assert_ptr_eq(l, self(env));
    ck_assert(self(env)->is_listening);
    self(env)->is_listening = false;
}

static struct fake_client *client_of(struct hf_stream *s)
{
    return HF_CONTAINER_OF(s, struct fake_client, stream);
}

static void take(struct fake_client *c)
{
    size_t n = c->queue.len < c->window ? c->queue.len : c->window;

    if (n == 0)
        return;
    hf_buf_put(&c->received, c->queue.data, n);
    hf_buf_consume(&c->queue, n);
    if (c->window != SIZE_MAX)
        c->window -= n;
}

static int env_stream_write(struct hf_env *env, struct hf_stream *s, const uint8_t *bytes, size_t n)
{
    struct fake_client *c = client_of(s);

    (void)env;
    ck_assert(!c->is_closing);
    c->n_writes++;
    hf_buf_put(&c->queue, bytes, n);
    take(c);
    if (c->queue.len != 0)
        c->wants_drain = true;
    return 0;
}

static size_t env_stream_queued(struct hf_env *env, struct hf_stream *s)
{
    (void)env;
    return client_of(s)->queue.len;
}

static void env_stream_read_stop(struct hf_env *env, struct hf_stream *s)
{
    (void)env;
    client_of(s)->is_stopped = true;
}

static void env_stream_read_start(struct hf_env *env, struct hf_stream *s)
{
    (void)env;
    client_of(s)->is_stopped = false;
}

static void env_stream_close(struct hf_env *env, struct hf_stream *s, bool flush)
{
    struct fake_client *c = client_of(s);

    (void)env;
    if (c->is_closing)
        return;
    c->is_closing = true;
    c->is_flushing = flush;
    if (!flush)
        c->queue.len = 0;
}

static void env_stream_name(struct hf_env *env, struct hf_stream *s, bool peer, char *out, size_t cap)
{
    (void)env;
    (void)s;
    snprintf(out, cap, "%s", peer ? "10.0.0.2:5000" : "10.0.0.1:7379");
}

struct fake_client *fake_connect(struct fake *f)
{
    struct fake_client *c = hf_calloc(1, sizeof *c);

    ck_assert(f->is_listening);
    c->fake = f;
    c->window = SIZE_MAX;
    c->stream.env = &f->env;
    c->next = f->clients;
    f->clients = c;
    f->listener->on_accept(f->listener_data, &c->stream);
    ck_assert_ptr_nonnull(c->stream.events);
    return c;
}

static void deliver(struct fake_client *c, const void *bytes, size_t n)
{
    uint8_t *copy = hf_memdup(bytes, n); /* gone right after the call: nothing may point into it */

    c->stream.events->on_data(&c->stream, copy, n);
    hf_free(copy);
}

void fake_send_bytes(struct fake_client *c, const void *bytes, size_t n)
{
    if (n == 0 || c->is_closing)
        return;
    if (c->is_stopped || c->unread.len != 0)
        hf_buf_put(&c->unread, bytes, n);
    else
        deliver(c, bytes, n);
}

void fake_send(struct fake_client *c, const char *text)
{
    fake_send_bytes(c, text, strlen(text));
}

static void end_stream(struct fake_client *c, int rc)
{
    c->is_closing = c->is_closed = true;
    c->stream.events->on_close(&c->stream, rc);
}

void fake_hang_up(struct fake_client *c)
{
    if (!c->is_closed)
        end_stream(c, 0);
}

void fake_read_on(struct fake_client *c, size_t n)
{
    c->window = n;
    take(c);
}

void fake_turn(struct fake *f)
{
    for (int round = 0; round < 100; round++) {
        bool is_quiet = f->tasks == NULL;

        while (f->tasks != NULL) {
            struct hf_task *task = f->tasks;

            f->tasks = task->next;
            task->posted = false;
            task->cb(task);
        }
        for (struct fake_client *c = f->clients; c != NULL; c = c->next) {
            if (c->is_closed)
                continue;
            if (c->is_closing) {
                if (c->queue.len == 0) {
                    end_stream(c, 0);
                    is_quiet = false;
                }
                continue;
            }
            if (c->wants_drain && c->queue.len == 0) {
                c->wants_drain = false;
                c->stream.events->on_drain(&c->stream);
                is_quiet = false;
            }
            if (c->unread.len != 0 && !c->is_stopped) {
                struct hf_buf bytes = c->unread;

                memset(&c->unread, 0, sizeof c->unread);
                deliver(c, bytes.data, bytes.len);
                hf_buf_free(&bytes);
                is_quiet = false;
            }
        }
        if (is_quiet)
            return;
    }
    ck_abort_msg("the loop does not come to rest");
}

void fake_advance(struct fake *f, uint64_t ms)
{
    for (uint64_t end = f->now_ms + ms; f->now_ms < end;) {
        struct hf_timer *t;

        f->now_ms++;
        while ((t = hf_timer_heap_first(&f->timers)) != NULL && t->due_ms <= f->now_ms) {
            hf_timer_heap_remove(&f->timers, t);
            t->cb(t);
        }
        fake_turn(f);
    }
}

void fake_expect(struct fake_client *c, const char *text)
{
    hf_buf_put_u8(&c->received, 0);
    ck_assert_str_eq((char *)c->received.data, text);
    c->received.len = 0;
}

/* ---- dispatcher ---------------------------------------------------------------------------------- */

struct hf_dispatcher {
    struct fake fake;
};

struct hf_lane {
    struct fake *fake;
    size_t n;
    void (*on_ready)(void *data);
    void *ready_data;
};

struct hf_lane *hf_lane_open(struct hf_dispatcher *d)
{
    struct hf_lane *lane = hf_calloc(1, sizeof *lane);

    lane->fake = &d->fake;
    return lane;
}

static void remove_pending(struct fake *f, unsigned i)
{
    f->pending[i].lane->n--;
    memmove(f->pending + i, f->pending + i + 1, (f->n_pending - i - 1) * sizeof *f->pending);
    f->n_pending--;
}

/* The oldest one counts as in flight and is released at the end, the others are dropped at once. */
void hf_lane_close(struct hf_lane *lane, void (*release)(struct hf_dispatch_req *req))
{
    struct fake *f = lane->fake;
    bool is_first = true;

    for (unsigned i = 0; i < f->n_pending;) {
        struct hf_dispatch_req *req = f->pending[i].req;

        if (f->pending[i].lane != lane) {
            i++;
            continue;
        }
        remove_pending(f, i);
        if (is_first && f->n_orphans < 64) {
            f->orphans[f->n_orphans].req = req;
            f->orphans[f->n_orphans++].release = release;
        } else {
            f->n_released++;
            release(req);
        }
        is_first = false;
    }
    ck_assert_uint_eq(lane->n, 0);
    hf_free(lane);
}

void hf_lane_submit(struct hf_lane *lane, struct hf_dispatch_req *req)
{
    struct fake *f = lane->fake;

    if (f->n_pending == f->pending_cap) {
        f->pending_cap = f->pending_cap == 0 ? 16 : 2 * f->pending_cap;
        f->pending = hf_realloc(f->pending, f->pending_cap * sizeof *f->pending);
    }
    f->pending[f->n_pending].req = req;
    f->pending[f->n_pending++].lane = lane;
    lane->n++;
}

bool hf_lane_is_full(const struct hf_lane *lane)
{
    return lane->n >= lane->fake->lane_max;
}

void hf_lane_set_ready_cb(struct hf_lane *lane, void (*on_ready)(void *data), void *data)
{
    lane->on_ready = on_ready;
    lane->ready_data = data;
}

unsigned fake_pending(const struct fake *f)
{
    return f->n_pending;
}

void fake_answer(struct fake *f, unsigned position)
{
    struct hf_dispatch_req *req;
    struct hf_lane *lane;
    bool was_full;

    ck_assert_uint_lt(position, f->n_pending);
    req = f->pending[position].req;
    lane = f->pending[position].lane;
    was_full = hf_lane_is_full(lane);
    remove_pending(f, position);
    fake_run_command(req, &req->reply);
    req->cb(req);
    if (was_full && !hf_lane_is_full(lane))
        lane->on_ready(lane->ready_data);
}

void fake_answer_all(struct fake *f)
{
    fake_turn(f);
    while (f->n_pending != 0) {
        fake_answer(f, 0);
        if (f->n_pending == 0)
            fake_turn(f);
    }
}

/* ---- the world ----------------------------------------------------------------------------------- */

static bool ops_auth_required(void *data)
{
    return ((struct fake *)data)->needs_auth;
}

static void ops_shutdown(void *data)
{
    struct fake *f = data;

    hf_net_close(f->net, NULL, NULL);
    f->net = NULL;
}

struct fake *fake_new(void)
{
    struct fake *f = hf_calloc(1, sizeof(struct hf_dispatcher));

    f->env = (struct hf_env){.boot_ms = env_boot_ms,
                             .boot_ns = env_boot_ns,
                             .timer_start = env_timer_start,
                             .timer_stop = env_timer_stop,
                             .post = env_post,
                             .unpost = env_unpost,
                             .listen = env_listen,
                             .listener_close = env_listener_close,
                             .stream_write = env_stream_write,
                             .stream_queued = env_stream_queued,
                             .stream_read_stop = env_stream_read_stop,
                             .stream_read_start = env_stream_read_start,
                             .stream_close = env_stream_close,
                             .stream_name = env_stream_name};
    f->config = (struct hf_net_config){
        .address = "127.0.0.1:7379",
        .clients_max = 100,
        .output_bytes_max = 100000,
        .output_soft_bytes = 10000,
        .pipeline_max = 100,
        .limits = {.bulk_bytes_max = 1 << 20, .query_bytes_max = 4 << 20, .args_max = 1000, .inline_bytes_max = 65536}};
    f->lane_max = 1000;
    f->now_ms = 1000;
    f->ops.data = f;
    f->ops.auth_required = ops_auth_required;
    f->ops.shutdown = ops_shutdown;
    f->stats = hf_stats_new();
    return f;
}

void fake_open(struct fake *f)
{
    ck_assert_int_eq(hf_net_open(&f->env, &f->config, (struct hf_dispatcher *)(void *)f, &f->ops, f->stats, &f->net),
                     0);
}

static void on_net_closed(void *data)
{
    struct fake *f = data;

    ck_assert(!f->is_net_closed);
    f->is_net_closed = true;
}

void fake_free(struct fake *f)
{
    if (f->net != NULL) {
        hf_net_close(f->net, on_net_closed, f);
        ck_assert(!f->is_net_closed);
        for (struct fake_client *c = f->clients; c != NULL; c = c->next)
            fake_read_on(c, SIZE_MAX);
        fake_turn(f);
        ck_assert(f->is_net_closed);
    }
    ck_assert_uint_eq(f->n_pending, 0);
    ck_assert_ptr_null(f->tasks);
    ck_assert_ptr_null(hf_timer_heap_first(&f->timers));
    for (unsigned i = 0; i < f->n_orphans; i++)
        f->orphans[i].release(f->orphans[i].req);
    for (struct fake_client *c = f->clients, *next; c != NULL; c = next) {
        next = c->next;
        ck_assert(c->is_closed);
        hf_buf_free(&c->unread);
        hf_buf_free(&c->queue);
        hf_buf_free(&c->received);
        hf_free(c);
    }
    hf_free(f->pending);
    hf_timer_heap_free(&f->timers);
    hf_stats_free(f->stats);
    hf_free(f);
}
