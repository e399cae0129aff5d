/* internal.h: what the files of src/uv share. */
#ifndef HF_UV_INTERNAL_H
#define HF_UV_INTERNAL_H

#include "base/assert.h"
#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "uv/uv_env.h"

#include <pthread.h>
#include <uv.h>

#define HF_UV_READ_BYTES 65536

struct uv_call; /* one hf_uv_call */
struct stream;
struct uv_signal_watch;

struct uv_env {
    struct hf_env env; /* first: the pointer that others hold */
    struct hf_fs fs;
    uv_loop_t loop;
    uv_timer_t timer; /* armed for the first timer of the heap, just before the loop blocks */
    uv_prepare_t prepare;
    uv_check_t check;
    uv_idle_t idle; /* active while tasks wait: an active idle handle keeps the loop from blocking */
    uv_async_t async;
    struct hf_timer_heap timers;
    uint64_t armed_due_ms; /* 0 = not armed */
    struct hf_task *task_first, **task_last;
    size_t n_tasks;
    bool stopped;

    struct hf_executor *executors;
    struct stream *streams;
    struct hf_listener *listeners;
    struct uv_signal_watch *signals;

    /* What other threads bring to the loop, guarded by lock: the done lists of all executors, the calls and
     * `asleep`. The loop sets asleep under the lock when it is about to block and nothing has been brought; the
     * first one to bring something then clears it and wakes the loop. So a busy loop costs nobody a wake-up. */
    pthread_mutex_t lock;
    struct uv_call *call_first, **call_last;
    size_t n_done; /* jobs in done lists */
    bool asleep;

    uint8_t read_buf[HF_UV_READ_BYTES]; /* one for all streams: on_data borrows it for the call only */
};

static inline struct uv_env *hf_uv_env_of(struct hf_env *env)
{
    return (struct uv_env *)(void *)env;
}

/* libuv's codes are negated errno values, or address resolver errors, which all mean "no connection". */
int hf_uv_err_to_hf(int uv_rc);

/* executor.c. take: moves the done lists to the loop's side (lock held). run: calls done of what was taken. */
void hf_uv_executor_init(struct uv_env *e);
void hf_uv_executor_take_done(struct uv_env *e);
void hf_uv_executor_run_done(struct uv_env *e);

/* stream.c and listener.c fill in their part of the table. */
void hf_uv_stream_init(struct uv_env *e);
void hf_uv_listener_init(struct uv_env *e);
/* Takes over a connected socket; the fd is closed on failure (NULL). Not reading yet. */
struct stream *hf_uv_stream_adopt(struct uv_env *e, int fd);
struct hf_stream *hf_uv_stream_public(struct stream *st);
void hf_uv_stream_start(struct stream *st);
void hf_uv_stream_cancel(struct stream *st);

/* address.c. Splits "host:port" (brackets removed); false when malformed. */
#define HF_UV_HOST_MAX 256
bool hf_uv_address_split(const char *address, char host[HF_UV_HOST_MAX], uint16_t *port);
/* Only numeric hosts; false for names. */
bool hf_uv_address_numeric(const char *host, uint16_t port, struct sockaddr_storage *out);
void hf_uv_address_format(const struct sockaddr_storage *addr, char *out, size_t cap);

#endif
