/* executor.c: worker threads, one each for work that may block (journal writes, SQLite, ...).
 *
 * submit appends to the executor's queue under its mutex and wakes the thread only if it waits. The thread takes
 * the whole queue at once, runs job after job, and hands each one back at once through its done list under the
 * env's lock (see struct uv_env), waking the loop only if it sleeps. */
#include "uv/internal.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>

struct job_list {
    struct hf_job *first, **last;
};

struct hf_executor {
    struct hf_executor *next; /* in the env's list; loop thread */
    struct uv_env *e;
    pthread_t thread;
    char name[16];

    pthread_mutex_t lock; /* guards up to the next blank line */
    pthread_cond_t cond;
    struct job_list queue;
    bool is_waiting;
    bool is_closing;

    struct job_list done;  /* guarded by the env's lock */
    struct job_list taken; /* loop thread: done callbacks to call */
};

static void list_init(struct job_list *l)
{
    l->first = NULL;
    l->last = &l->first;
}

static void list_append(struct job_list *l, struct hf_job *job)
{
    job->next = NULL;
    *l->last = job;
    l->last = &job->next;
}

static struct hf_job *list_pop(struct job_list *l)
{
    struct hf_job *job = l->first;

    if (job != NULL) {
        l->first = job->next;
        if (l->first == NULL)
            l->last = &l->first;
    }
    return job;
}

/* Appends all of `from` to `to` and empties it. */
static void list_move(struct job_list *to, struct job_list *from)
{
    if (from->first == NULL)
        return;
    *to->last = from->first;
    to->last = from->last;
    list_init(from);
}

/* ---- the worker's side --------------------------------------------------------------------------- */

static void hand_back(struct hf_executor *ex, struct hf_job *job)
{
    struct uv_env *e = ex->e;
    bool wake;

    pthread_mutex_lock(&e->lock);
    list_append(&ex->done, job);
    e->n_done++;
    wake = e->asleep;
    e->asleep = false;
    pthread_mutex_unlock(&e->lock);
    if (wake)
        uv_async_send(&e->async);
}

/* False when closing and nothing is left. */
static bool wait_for_jobs(struct hf_executor *ex, struct job_list *out)
{
    pthread_mutex_lock(&ex->lock);
    while (ex->queue.first == NULL && !ex->is_closing) {
        ex->is_waiting = true;
        pthread_cond_wait(&ex->cond, &ex->lock);
    }
    ex->is_waiting = false;
    list_move(out, &ex->queue);
    pthread_mutex_unlock(&ex->lock);
    return out->first != NULL;
}

static void *worker_main(void *arg)
{
    struct hf_executor *ex = arg;
    struct job_list mine;

    pthread_setname_np(pthread_self(), ex->name);
    list_init(&mine);
    while (wait_for_jobs(ex, &mine)) {
        struct hf_job *job;

        while ((job = list_pop(&mine)) != NULL) {
            job->run(job);
            hand_back(ex, job);
        }
    }
    return NULL;
}

/* ---- the loop's side ----------------------------------------------------------------------------- */

static int executor_open(struct hf_env *env, const char *name, struct hf_executor **out)
{
    struct uv_env *e = hf_uv_env_of(env);
    struct hf_executor *ex = hf_calloc(1, sizeof(*ex));
    sigset_t all, before;
    int rc;

    ex->e = e;
    snprintf(ex->name, sizeof(ex->name), "%s", name);
    pthread_mutex_init(&ex->lock, NULL);
    pthread_cond_init(&ex->cond, NULL);
    list_init(&ex->queue);
    list_init(&ex->done);
    list_init(&ex->taken);
    /* Signals are for the loop thread. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&ex->thread, NULL, worker_main, ex);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0) {
        pthread_cond_destroy(&ex->cond);
        pthread_mutex_destroy(&ex->lock);
        hf_free(ex);
        return rc == EAGAIN ? HF_E_LIMIT : hf_err_from_errno(rc);
    }
    ex->next = e->executors;
    e->executors = ex;
    *out = ex;
    return 0;
}

static void executor_submit(struct hf_env *env, struct hf_executor *ex, struct hf_job *job)
{
    bool wake;

    (void)env;
    pthread_mutex_lock(&ex->lock);
    list_append(&ex->queue, job);
    wake = ex->is_waiting;
    ex->is_waiting = false; /* woken once is enough */
    pthread_mutex_unlock(&ex->lock);
    if (wake)
        pthread_cond_signal(&ex->cond);
}

static void take_done_of(struct uv_env *e, struct hf_executor *ex)
{
    for (struct hf_job *job = ex->done.first; job != NULL; job = job->next)
        e->n_done--;
    list_move(&ex->taken, &ex->done);
}

static void executor_close(struct hf_env *env, struct hf_executor *ex)
{
    struct uv_env *e = hf_uv_env_of(env);
    struct hf_executor **at = &e->executors;
    struct hf_job *job;

    pthread_mutex_lock(&ex->lock);
    HF_ASSERT(!ex->is_closing);
    ex->is_closing = true;
    pthread_mutex_unlock(&ex->lock);
    pthread_cond_signal(&ex->cond);
    pthread_join(ex->thread, NULL);
    while (*at != ex)
        at = &(*at)->next;
    *at = ex->next;

    pthread_mutex_lock(&e->lock);
    take_done_of(e, ex);
    pthread_mutex_unlock(&e->lock);
    /* A done callback may submit once more (the next step of its work): the thread is gone, run it here. */
    for (;;) {
        while ((job = list_pop(&ex->taken)) != NULL)
            job->done(job);
        job = list_pop(&ex->queue);
        if (job == NULL)
            break;
        job->run(job);
        list_append(&ex->taken, job);
    }
    pthread_cond_destroy(&ex->cond);
    pthread_mutex_destroy(&ex->lock);
    hf_free(ex);
}

void hf_uv_executor_take_done(struct uv_env *e)
{
    if (e->n_done == 0)
        return;
    for (struct hf_executor *ex = e->executors; ex != NULL; ex = ex->next)
        take_done_of(e, ex);
    HF_ASSERT(e->n_done == 0);
}

/* Looks for the next job afresh each time: a done callback may close any executor, its own too. */
static struct hf_job *next_taken(struct uv_env *e)
{
    for (struct hf_executor *ex = e->executors; ex != NULL; ex = ex->next) {
        if (ex->taken.first != NULL)
            return list_pop(&ex->taken);
    }
    return NULL;
}

void hf_uv_executor_run_done(struct uv_env *e)
{
    struct hf_job *job;

    while ((job = next_taken(e)) != NULL)
        job->done(job);
}

void hf_uv_executor_init(struct uv_env *e)
{
    e->env.executor_open = executor_open;
    e->env.executor_close = executor_close;
    e->env.executor_submit = executor_submit;
}
