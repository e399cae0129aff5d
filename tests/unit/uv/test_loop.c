/* test_loop.c: time, timers, tasks, executors, calls from other threads, signals. */
#include "test_uv.h"

#include "base/assert.h"
#include "base/buf.h"
#include "uv/uv_env.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

static struct hf_env *env;
static struct hf_buf trace; /* one letter an event, in order */
static pthread_t loop_thread;

static void set_up(void)
{
    ck_assert_int_eq(hf_uv_env_open(&env), 0);
    loop_thread = pthread_self();
}

static void tear_down(void)
{
    hf_uv_env_close(env);
    hf_buf_free(&trace);
}

static void note(char letter)
{
    hf_buf_put_u8(&trace, (uint8_t)letter);
}

static void expect_trace(const char *text)
{
    hf_buf_put_u8(&trace, 0);
    ck_assert_str_eq((const char *)trace.data, text);
    trace.len = 0;
}

struct item {
    struct hf_timer timer;
    struct hf_task task;
    char letter;
    unsigned n_left; /* how often it starts itself again */
    uint64_t not_before_ns;
};

static void on_item_timer(struct hf_timer *t)
{
    struct item *it = t->data;

    ck_assert(!hf_timer_is_active(t));
    ck_assert_uint_ge(env->boot_ns(env), it->not_before_ns);
    note(it->letter);
    if (it->letter == '.')
        hf_uv_env_stop(env);
}

static void start_item(struct item *it, char letter, uint64_t delay_ms)
{
    it->letter = letter;
    it->timer.data = it;
    it->timer.cb = on_item_timer;
    it->not_before_ns = env->boot_ns(env) + delay_ms * 1000000;
    env->timer_start(env, &it->timer, delay_ms);
}

START_TEST(test_clocks)
{
    struct timespec ts;
    uint64_t ns = env->boot_ns(env), ms = env->boot_ms(env);

    clock_gettime(CLOCK_BOOTTIME, &ts);
    ck_assert_uint_le(ns / 1000000, ms);
    ck_assert_uint_le(ms, (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000);
    ck_assert_int_ge(env->wall_ms(env) / 1000, time(NULL) - 1);
    while (env->boot_ns(env) == ns) /* read afresh, also outside the loop */
        ;
}
END_TEST

START_TEST(test_timers_in_order_and_not_early)
{
    struct item a = {0}, b = {0}, c = {0}, d = {0}, never = {0}, end = {0};

    start_item(&end, '.', 40);
    start_item(&c, 'c', 25);
    start_item(&a, 'a', 5);
    start_item(&b, 'b', 5);
    start_item(&never, 'x', 10);
    start_item(&d, 'd', 1);
    start_item(&d, 'd', 30); /* restarted */
    env->timer_stop(env, &never.timer);
    env->timer_stop(env, &never.timer);
    hf_uv_env_run(env);
    expect_trace("abcd.");
}
END_TEST

static void restart_at_once(struct hf_timer *t)
{
    struct item *it = t->data;

    note(it->letter);
    if (it->n_left-- > 0)
        env->timer_start(env, t, 0);
    else
        hf_uv_env_stop(env);
}

START_TEST(test_timer_restarts_itself_and_stops_others)
{
    struct item a = {.letter = 'a', .n_left = 3};

    a.timer.data = &a;
    a.timer.cb = restart_at_once;
    env->timer_start(env, &a.timer, 0);
    hf_uv_env_run(env);
    expect_trace("aaaa");
    a.n_left = 0; /* a second run of the same env */
    env->timer_start(env, &a.timer, 2);
    hf_uv_env_run(env);
    expect_trace("a");
}
END_TEST

static void on_item_task(struct hf_task *task)
{
    struct item *it = task->data;

    note(it->letter);
    if (it->letter == '.')
        hf_uv_env_stop(env);
    if (it->n_left > 0) {
        it->n_left--;
        env->post(env, task);
    }
}

static void post_item(struct item *it, char letter, unsigned n_left)
{
    it->letter = letter;
    it->n_left = n_left;
    it->task.data = it;
    it->task.cb = on_item_task;
    env->post(env, &it->task);
}

START_TEST(test_tasks_in_rounds)
{
    struct item a = {0}, b = {0}, c = {0}, x = {0}, end = {0};

    post_item(&x, 'x', 0);
    post_item(&a, 'a', 2);
    post_item(&b, 'b', 0);
    post_item(&c, 'c', 1);
    env->post(env, &a.task); /* posted already: once is enough */
    env->unpost(env, &x.task);
    env->unpost(env, &x.task);
    env->unpost(env, &c.task); /* the last of the queue */
    post_item(&c, 'c', 1);
    start_item(&end, '.', 5); /* a timer ends it: the tasks come before the loop waits for it */
    hf_uv_env_run(env);
    expect_trace("abcaca.");
    ck_assert(!a.task.posted && !x.task.posted);
}
END_TEST

static void post_next(struct hf_timer *t)
{
    struct item *it = t->data;

    note('t');
    post_item(it, '.', 0);
}

START_TEST(test_task_posted_by_timer_runs_without_another_event)
{
    struct item it = {0};

    it.timer.data = &it;
    it.timer.cb = post_next;
    env->timer_start(env, &it.timer, 1);
    hf_uv_env_run(env); /* hangs when the loop blocks with the task in its queue */
    expect_trace("t.");
}
END_TEST

static void post_for_ever(struct hf_task *task)
{
    env->post(env, task);
}

START_TEST(test_endless_task_starves_nobody)
{
    struct item end = {0};
    struct hf_task endless = {.cb = post_for_ever};

    env->post(env, &endless);
    start_item(&end, '.', 3);
    hf_uv_env_run(env);
    expect_trace(".");
    env->unpost(env, &endless);
}
END_TEST

/* ---- executors ----------------------------------------------------------------------------------- */

#define N_JOBS 2000

struct numbered {
    struct hf_job job;
    unsigned number, ran_as;
    pthread_t ran_on;
};

static struct {
    struct hf_executor *ex, *other;
    struct numbered jobs[N_JOBS];
    unsigned n_run, n_done, n_submitted; /* n_run: worker thread only */
    atomic_bool gate;                    /* while set the worker is held up */
} jobs;

static void run_numbered(struct hf_job *job)
{
    struct numbered *n = job->data;

    while (atomic_load(&jobs.gate))
        sched_yield();
    n->ran_on = pthread_self();
    n->ran_as = jobs.n_run++;
}

static void done_numbered(struct hf_job *job)
{
    struct numbered *n = job->data;

    ck_assert(pthread_equal(pthread_self(), loop_thread));
    ck_assert(!pthread_equal(pthread_self(), n->ran_on));
    ck_assert_uint_eq(n->number, jobs.n_done);
    ck_assert_uint_eq(n->ran_as, n->number);
    jobs.n_done++;
    if (jobs.n_done == N_JOBS)
        hf_uv_env_stop(env);
}

static void submit_numbered(void (*done)(struct hf_job *job))
{
    struct numbered *n = &jobs.jobs[jobs.n_submitted];

    *n = (struct numbered){.number = jobs.n_submitted++};
    n->job.data = n;
    n->job.run = run_numbered;
    n->job.done = done;
    env->executor_submit(env, jobs.ex, &n->job);
}

static void jobs_open(void)
{
    memset(&jobs, 0, sizeof(jobs));
    ck_assert_int_eq(env->executor_open(env, "worker-name-that-is-long", &jobs.ex), 0);
}

START_TEST(test_jobs_run_in_order_and_are_done_in_order)
{
    jobs_open();
    for (unsigned i = 0; i < N_JOBS; i++)
        submit_numbered(done_numbered);
    ck_assert_uint_eq(jobs.n_done, 0);
    hf_uv_env_run(env);
    ck_assert_uint_eq(jobs.n_done, N_JOBS);
    env->executor_close(env, jobs.ex);
}
END_TEST

static void done_and_next(struct hf_job *job)
{
    done_numbered(job);
    if (jobs.n_submitted < N_JOBS)
        submit_numbered(done_and_next);
}

START_TEST(test_one_job_at_a_time_never_gets_lost)
{
    /* Each hand-over meets a sleeping worker or loop, or one about to sleep: a lost wake-up hangs here. */
    jobs_open();
    submit_numbered(done_and_next);
    hf_uv_env_run(env);
    ck_assert_uint_eq(jobs.n_done, N_JOBS);
    env->executor_close(env, jobs.ex);
}
END_TEST

static void release_gate(void *arg)
{
    (void)arg;
    atomic_store(&jobs.gate, false);
}

static void *release_later(void *arg)
{
    struct timespec ts = {0, 2000000};

    nanosleep(&ts, NULL);
    release_gate(arg);
    return NULL;
}

START_TEST(test_executor_close_runs_everything)
{
    pthread_t helper;

    jobs_open();
    atomic_store(&jobs.gate, true);
    for (unsigned i = 0; i < 100; i++)
        submit_numbered(done_numbered);
    ck_assert_int_eq(pthread_create(&helper, NULL, release_later, NULL), 0);
    env->executor_close(env, jobs.ex); /* without the loop running */
    pthread_join(helper, NULL);
    ck_assert_uint_eq(jobs.n_done, 100);
}
END_TEST

static void done_submits_while_closing(struct hf_job *job)
{
    struct numbered *n = job->data;

    ck_assert_uint_eq(n->ran_as, jobs.n_done);
    jobs.n_done++;
    if (jobs.n_submitted < 5)
        submit_numbered(done_submits_while_closing);
}

START_TEST(test_done_may_submit_while_closing)
{
    jobs_open();
    submit_numbered(done_submits_while_closing);
    env->executor_close(env, jobs.ex);
    ck_assert_uint_eq(jobs.n_done, 5);
}
END_TEST

static void done_closes_both(struct hf_job *job)
{
    (void)job;
    jobs.n_done++;
    env->executor_close(env, jobs.ex);
    env->executor_close(env, jobs.other);
    hf_uv_env_stop(env);
}

START_TEST(test_done_may_close_executors)
{
    jobs_open();
    ck_assert_int_eq(env->executor_open(env, "other", &jobs.other), 0);
    submit_numbered(done_closes_both);
    hf_uv_env_run(env);
    ck_assert_uint_eq(jobs.n_done, 1);
}
END_TEST

START_TEST(test_env_close_closes_executors)
{
    jobs_open();
    for (unsigned i = 0; i < 10; i++)
        submit_numbered(done_numbered);
    hf_uv_env_close(env);
    ck_assert_uint_eq(jobs.n_done, 10);
    set_up();
}
END_TEST

/* ---- other threads ------------------------------------------------------------------------------- */

static unsigned n_calls;

static void count_call(void *arg)
{
    ck_assert(pthread_equal(pthread_self(), loop_thread));
    ck_assert_ptr_eq(arg, &n_calls);
    if (++n_calls == 4 * 1000)
        hf_uv_env_stop(env);
}

static void *make_calls(void *arg)
{
    for (int i = 0; i < 1000; i++)
        hf_uv_call(arg, count_call, &n_calls);
    return NULL;
}

START_TEST(test_calls_of_other_threads)
{
    pthread_t threads[4];

    n_calls = 0;
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, make_calls, env), 0);
    hf_uv_env_run(env);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    ck_assert_uint_eq(n_calls, 4000);
    hf_uv_call(env, count_call, &n_calls); /* dropped by close, not leaked */
}
END_TEST

static void on_signal(void *data, int signum)
{
    ck_assert_int_eq(signum, SIGUSR1);
    ck_assert_ptr_eq(data, &n_calls);
    note('s');
    hf_uv_env_stop(env);
}

START_TEST(test_signals)
{
    ck_assert_int_eq(hf_uv_signal(env, SIGUSR1, on_signal, &n_calls), 0);
    ck_assert_int_eq(kill(getpid(), SIGUSR1), 0);
    hf_uv_env_run(env);
    expect_trace("s");
    ck_assert_int_eq(hf_uv_signal(env, SIGKILL, on_signal, NULL), HF_E_INVALID);
}
END_TEST

TCase *loop_case(void)
{
    TCase *tc = tcase_create("loop");

    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, set_up, tear_down);
    tcase_add_test(tc, test_clocks);
    tcase_add_test(tc, test_timers_in_order_and_not_early);
    tcase_add_test(tc, test_timer_restarts_itself_and_stops_others);
    tcase_add_test(tc, test_tasks_in_rounds);
    tcase_add_test(tc, test_task_posted_by_timer_runs_without_another_event);
    tcase_add_test(tc, test_endless_task_starves_nobody);
    tcase_add_test(tc, test_jobs_run_in_order_and_are_done_in_order);
    tcase_add_test(tc, test_one_job_at_a_time_never_gets_lost);
    tcase_add_test(tc, test_executor_close_runs_everything);
    tcase_add_test(tc, test_done_may_submit_while_closing);
    tcase_add_test(tc, test_done_may_close_executors);
    tcase_add_test(tc, test_env_close_closes_executors);
    tcase_add_test(tc, test_calls_of_other_threads);
    tcase_add_test(tc, test_signals);
    return tc;
}
