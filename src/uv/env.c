/* env.c: the loop of a node: time, timers, deferred tasks, calls from other threads, signals, start and end.
 *
 * One turn of the loop, in libuv's order, and what we do in it:
 *
 *     timers -> pending -> idle -> prepare -> poll (blocks) -> check -> closing
 *       |                            |                          |
 *       due timers of the heap       deferred work,             deferred work
 *                                    arm the timer, go to sleep
 *
 * Deferred work is: done callbacks of executors, calls of other threads, tasks, again and again until nothing
 * is left (bounded: see ROUNDS_MAX). The check phase comes after all input of the turn was delivered; the
 * prepare phase catches what timers and close callbacks posted, so that nothing waits while the loop blocks. */
#include "uv/internal.h"

#include <signal.h>
#include <time.h>

/* A task that posts itself for ever must not keep the sockets from being read: after so many rounds the loop
 * polls (without blocking) in between. */
#define ROUNDS_MAX 32
/* The heap runs on CLOCK_BOOTTIME, libuv on CLOCK_MONOTONIC. After a suspend the former has jumped ahead: look
 * at it at least this often. */
#define ARM_MS_MAX 1000

struct uv_call {
    struct uv_call *next;
    void (*fn)(void *arg);
    void *arg;
};

struct uv_signal_watch {
    struct uv_signal_watch *next;
    uv_signal_t handle;
    void (*cb)(void *data, int signum);
    void *data;
};

int hf_uv_err_to_hf(int uv_rc)
{
    if (uv_rc >= 0)
        return 0;
    if (uv_rc <= -3000 && uv_rc > -4000) /* UV_EAI_* */
        return HF_E_CONN;
    return hf_err_from_errno(-uv_rc);
}

/* ---- time ---------------------------------------------------------------------------------------- */

static uint64_t env_boot_ns(struct hf_env *env)
{
    struct timespec ts;

    (void)env;
    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t env_boot_ms(struct hf_env *env)
{
    return env_boot_ns(env) / 1000000;
}

static int64_t env_wall_ms(struct hf_env *env)
{
    struct timespec ts;

    (void)env;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ---- timers -------------------------------------------------------------------------------------- */

static void env_timer_start(struct hf_env *env, struct hf_timer *timer, uint64_t delay_ms)
{
    struct uv_env *e = hf_uv_env_of(env);
    uint64_t ns = env_boot_ns(env);
    /* Rounded up: a timer never fires before its full delay is over. */
    uint64_t now_ms = delay_ms ? (ns + 999999) / 1000000 : ns / 1000000;

    hf_timer_heap_insert(&e->timers, timer, delay_ms > UINT64_MAX / 2 ? UINT64_MAX / 2 : now_ms + delay_ms);
}

static void env_timer_stop(struct hf_env *env, struct hf_timer *timer)
{
    hf_timer_heap_remove(&hf_uv_env_of(env)->timers, timer);
}

static void on_timer(uv_timer_t *handle)
{
    struct uv_env *e = handle->data;
    uint64_t now = env_boot_ms(&e->env);
    uint64_t end_seq = e->timers.next_seq;
    struct hf_timer *t;

    e->armed_due_ms = 0;
    /* Timers that the callbacks start with no delay wait for the next turn. They are due not before `now` and
     * sort behind all older ones, so the first of them ends the walk. */
    while ((t = hf_timer_heap_first(&e->timers)) != NULL && t->due_ms <= now && t->seq < end_seq) {
        hf_timer_heap_remove(&e->timers, t);
        t->cb(t);
    }
}

static void arm_timer(struct uv_env *e)
{
    const struct hf_timer *t = hf_timer_heap_first(&e->timers);
    uint64_t now, delay;

    if (t == NULL) {
        if (e->armed_due_ms != 0)
            uv_timer_stop(&e->timer);
        e->armed_due_ms = 0;
        return;
    }
    if (t->due_ms == e->armed_due_ms)
        return;
    now = env_boot_ms(&e->env);
    delay = t->due_ms > now ? t->due_ms - now : 0;
    uv_update_time(&e->loop); /* uv_timer_start counts from the cached time */
    uv_timer_start(&e->timer, on_timer, delay < ARM_MS_MAX ? delay : ARM_MS_MAX, 0);
    e->armed_due_ms = t->due_ms;
}

/* ---- tasks --------------------------------------------------------------------------------------- */

static void env_post(struct hf_env *env, struct hf_task *task)
{
    struct uv_env *e = hf_uv_env_of(env);

    if (task->posted)
        return;
    task->posted = true;
    task->next = NULL;
    *e->task_last = task;
    e->task_last = &task->next;
    e->n_tasks++;
}

static void env_unpost(struct hf_env *env, struct hf_task *task)
{
    struct uv_env *e = hf_uv_env_of(env);
    struct hf_task **at = &e->task_first;

    if (!task->posted)
        return;
    while (*at != task)
        at = &(*at)->next;
    *at = task->next;
    if (e->task_last == &task->next)
        e->task_last = at;
    task->next = NULL;
    task->posted = false;
    e->n_tasks--;
}

static void run_task_round(struct uv_env *e)
{
    for (size_t n = e->n_tasks; n > 0 && e->task_first != NULL; n--) {
        struct hf_task *task = e->task_first;

        env_unpost(&e->env, task);
        task->cb(task);
    }
}

/* ---- work brought by other threads --------------------------------------------------------------- */

void hf_uv_call(struct hf_env *env, void (*fn)(void *arg), void *arg)
{
    struct uv_env *e = hf_uv_env_of(env);
    struct uv_call *call = hf_malloc(sizeof(*call));
    bool wake;

    call->next = NULL;
    call->fn = fn;
    call->arg = arg;
    pthread_mutex_lock(&e->lock);
    *e->call_last = call;
    e->call_last = &call->next;
    wake = e->asleep;
    e->asleep = false;
    pthread_mutex_unlock(&e->lock);
    if (wake)
        uv_async_send(&e->async);
}

/* Takes what was brought so far. When there is nothing and may_sleep, leaves the loop marked asleep. */
static bool take_brought(struct uv_env *e, struct uv_call **calls, bool may_sleep)
{
    bool has_any;

    pthread_mutex_lock(&e->lock);
    has_any = e->n_done > 0 || e->call_first != NULL;
    *calls = e->call_first;
    e->call_first = NULL;
    e->call_last = &e->call_first;
    hf_uv_executor_take_done(e);
    e->asleep = may_sleep && !has_any;
    pthread_mutex_unlock(&e->lock);
    return has_any;
}

static void run_calls(struct uv_call *call)
{
    while (call != NULL) {
        struct uv_call *next = call->next;

        call->fn(call->arg);
        hf_free(call);
        call = next;
    }
}

static void run_deferred(struct uv_env *e, bool may_sleep)
{
    for (int round = 0; round < ROUNDS_MAX; round++) {
        struct uv_call *calls;
        /* Marked asleep only when no task waits either: then this was the last round. */
        bool has_any = take_brought(e, &calls, may_sleep && e->n_tasks == 0 && !e->stopped);

        if (!has_any && e->n_tasks == 0)
            return;
        hf_uv_executor_run_done(e);
        run_calls(calls);
        run_task_round(e);
    }
}

static void on_idle(uv_idle_t *handle)
{
    (void)handle;
}

static void on_prepare(uv_prepare_t *handle)
{
    struct uv_env *e = handle->data;
    bool asleep;

    run_deferred(e, true);
    arm_timer(e);
    pthread_mutex_lock(&e->lock);
    asleep = e->asleep;
    pthread_mutex_unlock(&e->lock);
    /* Cut off by ROUNDS_MAX (or woken since): poll without blocking, the check phase goes on. */
    if (asleep)
        uv_idle_stop(&e->idle);
    else
        uv_idle_start(&e->idle, on_idle);
}

static void on_check(uv_check_t *handle)
{
    run_deferred(handle->data, false);
}

static void on_async(uv_async_t *handle)
{
    (void)handle; /* it only ends the poll: the check phase does the work, after the input of this turn */
}

/* ---- signals ------------------------------------------------------------------------------------- */

static void on_signal(uv_signal_t *handle, int signum)
{
    struct uv_signal_watch *w = handle->data;

    w->cb(w->data, signum);
}

static void on_signal_closed(uv_handle_t *handle)
{
    hf_free(handle->data);
}

int hf_uv_signal(struct hf_env *env, int signum, void (*cb)(void *data, int signum), void *data)
{
    struct uv_env *e = hf_uv_env_of(env);
    struct uv_signal_watch *w = hf_calloc(1, sizeof(*w));
    int rc = uv_signal_init(&e->loop, &w->handle);

    if (rc != 0) {
        hf_free(w);
        return hf_uv_err_to_hf(rc);
    }
    w->handle.data = w;
    w->cb = cb;
    w->data = data;
    rc = uv_signal_start(&w->handle, on_signal, signum);
    if (rc != 0) {
        uv_close((uv_handle_t *)&w->handle, on_signal_closed);
        return hf_uv_err_to_hf(rc);
    }
    w->next = e->signals;
    e->signals = w;
    return 0;
}

/* ---- start and end ------------------------------------------------------------------------------- */

/* These cannot fail in libuv 1.x but return int. */
static void init_handles(struct uv_env *e)
{
    int rc = uv_timer_init(&e->loop, &e->timer);

    HF_ASSERT(rc == 0);
    uv_prepare_init(&e->loop, &e->prepare);
    uv_check_init(&e->loop, &e->check);
    uv_idle_init(&e->loop, &e->idle);
    e->timer.data = e->prepare.data = e->check.data = e->idle.data = e->async.data = e;
    uv_prepare_start(&e->prepare, on_prepare);
    uv_check_start(&e->check, on_check);
}

int hf_uv_env_open(struct hf_env **out)
{
    struct uv_env *e = hf_calloc(1, sizeof(*e));
    int rc = uv_loop_init(&e->loop);

    if (rc != 0)
        goto free_env;
    rc = uv_async_init(&e->loop, &e->async, on_async);
    if (rc != 0)
        goto close_loop;
    signal(SIGPIPE, SIG_IGN);
    pthread_mutex_init(&e->lock, NULL);
    e->task_last = &e->task_first;
    e->call_last = &e->call_first;
    init_handles(e);
    e->env.boot_ms = env_boot_ms;
    e->env.boot_ns = env_boot_ns;
    e->env.wall_ms = env_wall_ms;
    e->env.timer_start = env_timer_start;
    e->env.timer_stop = env_timer_stop;
    e->env.post = env_post;
    e->env.unpost = env_unpost;
    e->env.fs = &e->fs;
    hf_uv_fs_init(&e->fs);
    hf_uv_executor_init(e);
    hf_uv_stream_init(e);
    hf_uv_listener_init(e);
    *out = &e->env;
    return 0;

close_loop:
    uv_loop_close(&e->loop);
free_env:
    hf_free(e);
    return hf_uv_err_to_hf(rc);
}

void hf_uv_env_run(struct hf_env *env)
{
    struct uv_env *e = hf_uv_env_of(env);

    while (!e->stopped)
        uv_run(&e->loop, UV_RUN_DEFAULT);
    e->stopped = false;
}

void hf_uv_env_stop(struct hf_env *env)
{
    struct uv_env *e = hf_uv_env_of(env);

    e->stopped = true;
    uv_stop(&e->loop);
}

static void drop_deferred(struct uv_env *e)
{
    while (e->call_first != NULL) {
        struct uv_call *call = e->call_first;

        e->call_first = call->next;
        hf_free(call);
    }
    while (e->task_first != NULL)
        env_unpost(&e->env, e->task_first);
    hf_timer_heap_free(&e->timers);
}

void hf_uv_env_close(struct hf_env *env)
{
    struct uv_env *e = hf_uv_env_of(env);
    int rc;

    while (e->executors != NULL)
        env->executor_close(env, e->executors);
    while (e->signals != NULL) {
        struct uv_signal_watch *w = e->signals;

        e->signals = w->next;
        uv_close((uv_handle_t *)&w->handle, on_signal_closed);
    }
    uv_close((uv_handle_t *)&e->timer, NULL);
    uv_close((uv_handle_t *)&e->prepare, NULL);
    uv_close((uv_handle_t *)&e->check, NULL);
    uv_close((uv_handle_t *)&e->idle, NULL);
    uv_close((uv_handle_t *)&e->async, NULL);
    /* The on_close callbacks of streams come here, and may open others. Also waits for address look-ups. */
    do {
        while (e->listeners != NULL)
            env->listener_close(env, e->listeners);
        while (e->streams != NULL)
            hf_uv_stream_cancel(e->streams);
    } while (uv_run(&e->loop, UV_RUN_ONCE) != 0);
    drop_deferred(e);
    rc = uv_loop_close(&e->loop);
    HF_ASSERT(rc == 0);
    pthread_mutex_destroy(&e->lock);
    hf_free(e);
}
