/* env.h: everything a node needs from the outside world, as one table of functions: time, timers, deferred
 * tasks, worker threads, byte streams, files. src/uv implements it on libuv and POSIX; the simulator
 * implements it on virtual time, fake streams and a fake disk. No other folder calls the kernel for these.
 *
 * All functions are called on the loop thread unless said otherwise, and all callbacks come on the loop
 * thread, never from inside the call that asked for them. */
#ifndef HF_BASE_ENV_H
#define HF_BASE_ENV_H

#include "base/err.h"
#include "base/fs.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hf_env;

/* ---- timers -------------------------------------------------------------------------------------- */

/* One-shot timer, embedded by its owner. Zero-initialise, set data and cb, start. */
struct hf_timer {
    void *data;
    void (*cb)(struct hf_timer *timer);
    /* private to the env */
    uint64_t due_ms;
    uint64_t seq;
    size_t heap_pos; /* 1-based; 0 = not started */
};

static inline bool hf_timer_is_active(const struct hf_timer *t)
{
    return t->heap_pos != 0;
}

/* ---- deferred tasks ------------------------------------------------------------------------------ */

/* Work collected during a loop turn and run once before the loop blocks again (after all stream input of
 * this turn was delivered). Posting a posted task does nothing. A task may post itself or others again:
 * they run in the next round of the same turn, before blocking. Unpost before freeing the owner. */
struct hf_task {
    void *data;
    void (*cb)(struct hf_task *task);
    /* private to the env */
    struct hf_task *next;
    bool posted;
};

/* ---- worker threads ------------------------------------------------------------------------------ */

/* One worker thread with a FIFO queue. Jobs run in order, one at a time, on that thread; done comes in the
 * same order on the loop thread. The job belongs to the executor from submit until done returns. */
struct hf_executor;
struct hf_job {
    void *data;
    void (*run)(struct hf_job *job);  /* on the worker thread; may block */
    void (*done)(struct hf_job *job); /* on the loop thread */
    /* private to the env */
    struct hf_job *next;
};

/* ---- byte streams -------------------------------------------------------------------------------- */

struct hf_stream;

/* Callbacks of a stream; `data` is the stream's own `data` field. on_close is the last one and comes exactly
 * once for every stream (rc 0: the other side ended or we closed; else why it broke; for an outgoing stream
 * that never opened, the connect error). The stream is freed after on_close returns. */
struct hf_stream_events {
    void (*on_open)(struct hf_stream *s);                                 /* outgoing only; may be NULL */
    void (*on_data)(struct hf_stream *s, const uint8_t *bytes, size_t n); /* borrowed for the call */
    void (*on_drain)(struct hf_stream *s);                                /* queued output fell to 0; may be NULL */
    void (*on_close)(struct hf_stream *s, int rc);
};

struct hf_stream {
    const struct hf_stream_events *events;
    void *data;
    struct hf_env *env;
};

struct hf_listener; /* opaque */

struct hf_listener_events {
    /* A new incoming stream. The callee sets s->events and s->data before it returns; reading starts after. */
    void (*on_accept)(void *data, struct hf_stream *s);
};

/* ---- the table ----------------------------------------------------------------------------------- */

struct hf_env {
    /* Monotonic time that also runs while the machine sleeps (CLOCK_BOOTTIME), read afresh at each call,
     * never cached. Any thread. */
    uint64_t (*boot_ms)(struct hf_env *env);
    uint64_t (*boot_ns)(struct hf_env *env);
    /* Wall clock, ms since 1970. May jump. Any thread. */
    int64_t (*wall_ms)(struct hf_env *env);

    /* (Re)start: fires once, not before delay_ms from now. */
    void (*timer_start)(struct hf_env *env, struct hf_timer *timer, uint64_t delay_ms);
    void (*timer_stop)(struct hf_env *env, struct hf_timer *timer); /* no-op when inactive */

    void (*post)(struct hf_env *env, struct hf_task *task);
    void (*unpost)(struct hf_env *env, struct hf_task *task); /* no-op when not posted */

    /* name: at most 15 characters, shown by top -H; copied. */
    HF_MUST_CHECK int (*executor_open)(struct hf_env *env, const char *name, struct hf_executor **out);
    /* Waits for all submitted jobs to run, delivers their done callbacks, joins the thread, frees. */
    void (*executor_close)(struct hf_env *env, struct hf_executor *ex);
    void (*executor_submit)(struct hf_env *env, struct hf_executor *ex, struct hf_job *job);

    /* address: "host:port" (IPv4, [IPv6] or name); copied. On 0 *out is live and events will come. */
    HF_MUST_CHECK int (*connect)(struct hf_env *env, const char *address, uint64_t timeout_ms,
                                 const struct hf_stream_events *events, void *data, struct hf_stream **out);
    HF_MUST_CHECK int (*listen)(struct hf_env *env, const char *address, const struct hf_listener_events *events,
                                void *data, struct hf_listener **out);
    void (*listener_close)(struct hf_env *env, struct hf_listener *l); /* frees it; no accept afterwards */

    /* Bytes are copied or sent before it returns. What the kernel does not take at once is queued without a
     * limit here: the caller looks at stream_queued and applies its own. 0, or HF_E_CLOSED after close. */
    int (*stream_write)(struct hf_env *env, struct hf_stream *s, const uint8_t *bytes, size_t n);
    size_t (*stream_queued)(struct hf_env *env, struct hf_stream *s); /* bytes not yet taken by the kernel */
    /* Stop / resume delivery of on_data (back-pressure). Streams start reading. */
    void (*stream_read_stop)(struct hf_env *env, struct hf_stream *s);
    void (*stream_read_start)(struct hf_env *env, struct hf_stream *s);
    /* flush: queued output is still sent (bounded by a few seconds); else dropped. on_close follows later,
     * no other callback does. Calling it twice is allowed. */
    void (*stream_close)(struct hf_env *env, struct hf_stream *s, bool flush);
    /* "host:port" of the other end (peer true) or this end; writes at most cap bytes with the final 0. */
    void (*stream_name)(struct hf_env *env, struct hf_stream *s, bool peer, char *out, size_t cap);

    struct hf_fs *fs; /* thread-safe: called from worker threads */
};

/* ---- a heap of timers, shared by the implementations --------------------------------------------- */

struct hf_timer_heap {
    struct hf_timer **items; /* items[0] unused */
    size_t n, cap;
    uint64_t next_seq; /* equal due times fire in the order they were started */
};

void hf_timer_heap_free(struct hf_timer_heap *h);
void hf_timer_heap_insert(struct hf_timer_heap *h, struct hf_timer *t, uint64_t due_ms); /* re-inserts if active */
void hf_timer_heap_remove(struct hf_timer_heap *h, struct hf_timer *t);                  /* no-op when inactive */
struct hf_timer *hf_timer_heap_first(const struct hf_timer_heap *h);                     /* NULL when empty */

#endif
