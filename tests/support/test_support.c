/* test_support.c: the fakes keep what they promise: what was synced stays, streams keep their order, partitions stall
 * and break them, a killed node is cut off, and a seed repeats a run exactly. */
#include "support/fake_env.h"

#include "base/buf.h"
#include "base/mem.h"
#include "base/util.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- the disk ------------------------------------------------------------------------------------ */

static struct hf_file *open_file(struct hf_fs *fs, const char *path)
{
    struct hf_file *f;

    ck_assert_int_eq(fs->open(fs, path, HF_FS_WRITE | HF_FS_CREATE, &f), HF_OK);
    return f;
}

START_TEST(synced_bytes_and_names_survive_others_may_not)
{
    int lost_write = 0, kept_write = 0, lost_name = 0, kept_name = 0, torn = 0;

    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct hf_fake_fs *ff = hf_fake_fs_new(seed);
        struct hf_fs *fs = hf_fake_fs_table(ff);
        struct hf_file *f;
        uint8_t page[2048];
        const uint8_t *data;
        uint64_t size;
        int ones = 0;

        ck_assert_int_eq(fs->mkdir(fs, "/d"), HF_OK);
        ck_assert_int_eq(fs->sync_dir(fs, "/"), HF_OK);
        f = open_file(fs, "/d/a");
        memset(page, 7, sizeof page);
        ck_assert_int_eq(fs->write(fs, f, 0, page, sizeof page), HF_OK);
        ck_assert_int_eq(fs->sync(fs, f), HF_OK);
        ck_assert_int_eq(fs->sync_dir(fs, "/d"), HF_OK);
        memset(page, 1, sizeof page);
        ck_assert_int_eq(fs->write(fs, f, 0, page, sizeof page), HF_OK);
        fs->close(fs, f);
        fs->close(fs, open_file(fs, "/d/b"));
        hf_fake_fs_crash(ff, HF_FAKE_LOSS_EACH);
        ck_assert_int_eq(fs->open(fs, "/d/a", HF_FS_READ, &f), HF_E_IO);
        hf_fake_fs_revive(ff);
        ck_assert(hf_fake_fs_peek(ff, "/d/a", &data, &size));
        ck_assert_uint_eq(size, sizeof page);
        for (size_t i = 0; i < sizeof page; i++) {
            ck_assert(data[i] == 1 || data[i] == 7);
            ck_assert(data[i] == data[i / 512 * 512]); /* sectors are whole */
            ones += data[i] == 1;
        }
        lost_write += ones == 0;
        kept_write += ones == 2048;
        torn += ones != 0 && ones != 2048;
        if (hf_fake_fs_peek(ff, "/d/b", &data, &size))
            kept_name++;
        else
            lost_name++;
        hf_fake_fs_free(ff);
    }
    ck_assert(lost_write > 20 && kept_write > 20 && torn > 20 && lost_name > 20 && kept_name > 20);
}
END_TEST

START_TEST(killed_process_leaves_its_page_cache)
{
    struct hf_fake_fs *ff = hf_fake_fs_new(1);
    struct hf_fs *fs = hf_fake_fs_table(ff);
    struct hf_file *f = open_file(fs, "/a");
    const uint8_t *data;
    uint64_t size;
    size_t got;
    char c;

    ck_assert_int_eq(fs->sync_dir(fs, "/"), HF_OK);
    ck_assert_int_eq(fs->write(fs, f, 0, "x", 1), HF_OK);
    hf_fake_fs_crash(ff, HF_FAKE_LOSS_NOTHING);
    hf_fake_fs_revive(ff);
    ck_assert_int_eq(fs->read(fs, f, 0, &c, 1, &got), HF_E_IO); /* a handle of the dead process */
    fs->close(fs, f);
    ck_assert(hf_fake_fs_peek(ff, "/a", &data, &size));
    ck_assert_uint_eq(size, 1);
    hf_fake_fs_crash(ff, HF_FAKE_LOSS_ALL);
    hf_fake_fs_revive(ff);
    ck_assert(hf_fake_fs_peek(ff, "/a", &data, &size));
    ck_assert_uint_eq(size, 0);
    hf_fake_fs_free(ff);
}
END_TEST

START_TEST(failpoints_limits_and_locks)
{
    struct hf_fake_fs *ff = hf_fake_fs_new(1);
    struct hf_fs *fs = hf_fake_fs_table(ff);
    struct hf_file *f = open_file(fs, "/a"), *g = open_file(fs, "/a");
    uint64_t left;

    hf_fake_fs_fail_at(ff, HF_FAKE_SYNC, 2, HF_E_IO, false);
    ck_assert_int_eq(fs->sync(fs, f), HF_OK);
    ck_assert_int_eq(fs->sync(fs, f), HF_E_IO);
    ck_assert_int_eq(fs->sync(fs, f), HF_OK);
    hf_fake_fs_set_capacity(ff, 1000);
    ck_assert_int_eq(fs->allocate(fs, f, 1001), HF_E_NOSPC);
    ck_assert_int_eq(fs->allocate(fs, f, 900), HF_OK);
    ck_assert_int_eq(fs->free_bytes(fs, "/", &left), HF_OK);
    ck_assert_uint_eq(left, 100);
    ck_assert_int_eq(fs->lock(fs, f), HF_OK);
    ck_assert_int_eq(fs->lock(fs, g), HF_E_LOCKED);
    fs->close(fs, f);
    ck_assert_int_eq(fs->lock(fs, g), HF_OK);
    fs->close(fs, g);
    ck_assert_int_eq(fs->open(fs, "/a", HF_FS_WRITE | HF_FS_CREATE | HF_FS_EXCL, &f), HF_E_EXISTS);
    ck_assert_int_eq(fs->open(fs, "/none/a", HF_FS_WRITE | HF_FS_CREATE, &f), HF_E_NOENT);
    hf_fake_fs_free(ff);
}
END_TEST

/* ---- streams ------------------------------------------------------------------------------------- */

struct end {
    struct hf_stream *stream;
    struct hf_buf got;
    int opens, closes, drains, rc;
    int pieces;
};

struct pair {
    struct hf_fake_world *w;
    struct hf_listener *listener;
    struct end client, server;
};

static void on_open(struct hf_stream *s)
{
    ((struct end *)s->data)->opens++;
}

static void on_data(struct hf_stream *s, const uint8_t *bytes, size_t n)
{
    struct end *e = s->data;

    hf_buf_put(&e->got, bytes, n);
    e->pieces++;
}

static void on_drain(struct hf_stream *s)
{
    ((struct end *)s->data)->drains++;
}

static void on_close(struct hf_stream *s, int rc)
{
    struct end *e = s->data;

    e->closes++;
    e->rc = rc;
    e->stream = NULL;
}

static const struct hf_stream_events stream_events = {on_open, on_data, on_drain, on_close};

static void on_accept(void *data, struct hf_stream *s)
{
    struct pair *p = data;

    s->events = &stream_events;
    s->data = &p->server;
    p->server.stream = s;
}

static const struct hf_listener_events listener_events = {on_accept};

static void pair_init(struct pair *p, uint64_t seed)
{
    struct hf_fake_world_config config = {.seed = seed, .nodes = 2};
    struct hf_env *a, *b;

    memset(p, 0, sizeof *p);
    p->w = hf_fake_world_new(&config);
    a = hf_fake_node_env(p->w, 0);
    b = hf_fake_node_env(p->w, 1);
    ck_assert_int_eq(b->listen(b, "n1:1", &listener_events, p, &p->listener), HF_OK);
    ck_assert_int_eq(a->connect(a, "n1:1", 1000, &stream_events, &p->client, &p->client.stream), HF_OK);
    ck_assert_int_eq(p->client.opens, 0);
    hf_fake_world_run_ms(p->w, 10);
    ck_assert_int_eq(p->client.opens, 1);
    ck_assert_ptr_nonnull(p->server.stream);
}

static void pair_free(struct pair *p)
{
    struct hf_env *b = hf_fake_node_env(p->w, 1);

    b->listener_close(b, p->listener);
    hf_fake_world_free(p->w);
    hf_buf_free(&p->client.got);
    hf_buf_free(&p->server.got);
}

static void send_numbers(struct pair *p, uint32_t from, uint32_t to)
{
    struct hf_env *a = hf_fake_node_env(p->w, 0);

    for (uint32_t i = from; i < to; i++)
        ck_assert_int_eq(a->stream_write(a, p->client.stream, (const uint8_t *)&i, sizeof i), HF_OK);
}

static void check_numbers(struct pair *p, uint32_t n)
{
    ck_assert_uint_eq(p->server.got.len, n * sizeof n);
    for (uint32_t i = 0; i < n; i++)
        ck_assert_uint_eq(hf_load_u32(p->server.got.data + i * sizeof i), i);
}

START_TEST(bytes_arrive_in_order_in_any_pieces)
{
    struct pair p;
    struct hf_env *a;

    pair_init(&p, 1);
    a = hf_fake_node_env(p.w, 0);
    for (uint32_t i = 0; i < 50; i++) {
        send_numbers(&p, i * 20, (i + 1) * 20);
        hf_fake_world_run_ms(p.w, i % 3);
    }
    a->stream_close(a, p.client.stream, true);
    hf_fake_world_run_ms(p.w, 100);
    check_numbers(&p, 1000);
    ck_assert_int_gt(p.server.pieces, 10);
    ck_assert_int_eq(p.server.closes, 1);
    ck_assert_int_eq(p.server.rc, 0);
    ck_assert_int_eq(p.client.closes, 1);
    pair_free(&p);
}
END_TEST

START_TEST(partition_stalls_then_breaks)
{
    struct pair p;

    pair_init(&p, 2);
    hf_fake_world_cut(p.w, 0, 1, true);
    send_numbers(&p, 0, 100);
    hf_fake_world_run_ms(p.w, 1000);
    ck_assert_uint_eq(p.server.got.len, 0);
    hf_fake_world_heal(p.w); /* in time: nothing is lost */
    send_numbers(&p, 100, 200);
    hf_fake_world_run_ms(p.w, 5000);
    check_numbers(&p, 200);
    ck_assert_int_eq(p.client.closes, 0);
    hf_fake_world_cut(p.w, 0, 1, true);
    send_numbers(&p, 200, 300);
    hf_fake_world_run_ms(p.w, 10000);
    check_numbers(&p, 200);
    ck_assert_int_eq(p.client.closes, 1);
    ck_assert_int_eq(p.client.rc, HF_E_TIMEOUT);
    ck_assert_int_eq(p.server.closes, 1);
    pair_free(&p);
}
END_TEST

START_TEST(back_pressure_and_drain)
{
    struct pair p;
    struct hf_env *a, *b;
    uint8_t *big = hf_calloc(1, 1 << 20);

    pair_init(&p, 3);
    a = hf_fake_node_env(p.w, 0);
    b = hf_fake_node_env(p.w, 1);
    b->stream_read_stop(b, p.server.stream);
    ck_assert_int_eq(a->stream_write(a, p.client.stream, big, 1 << 20), HF_OK);
    hf_fake_world_run_ms(p.w, 100);
    ck_assert_uint_gt(a->stream_queued(a, p.client.stream), 500000);
    ck_assert_uint_eq(p.server.got.len, 0);
    b->stream_read_start(b, p.server.stream);
    ck_assert_uint_eq(p.server.got.len, 0); /* never from inside the call */
    hf_fake_world_run_ms(p.w, 100);
    ck_assert_uint_eq(p.server.got.len, 1 << 20);
    ck_assert_uint_eq(a->stream_queued(a, p.client.stream), 0);
    ck_assert_int_eq(p.client.drains, 1);
    hf_free(big);
    pair_free(&p);
}
END_TEST

START_TEST(pause_holds_everything_and_loses_nothing)
{
    struct pair p;

    pair_init(&p, 4);
    hf_fake_node_pause(p.w, 1);
    send_numbers(&p, 0, 100);
    hf_fake_world_run_ms(p.w, 60000);
    ck_assert_uint_eq(p.server.got.len, 0);
    ck_assert_int_eq(p.client.closes, 0);
    hf_fake_node_resume(p.w, 1);
    hf_fake_world_run_ms(p.w, 10);
    check_numbers(&p, 100);
    pair_free(&p);
}
END_TEST

START_TEST(killed_node_is_cut_off_and_can_start_again)
{
    struct pair p;
    struct hf_env *b;
    struct hf_stream *s;
    struct end late = {0};
    struct hf_env *a;

    pair_init(&p, 5);
    a = hf_fake_node_env(p.w, 0);
    b = hf_fake_node_env(p.w, 1);
    hf_fake_node_kill(p.w, 1, HF_FAKE_LOSS_ALL);
    ck_assert_int_eq(p.server.closes, 0);
    ck_assert_int_eq(b->stream_write(b, p.server.stream, (const uint8_t *)"x", 1), HF_E_CLOSED);
    b->listener_close(b, p.listener);
    hf_fake_node_bury(p.w, 1);
    ck_assert_int_eq(p.server.closes, 1);
    hf_fake_world_run_ms(p.w, 10);
    ck_assert_int_eq(p.client.closes, 1);
    ck_assert_int_eq(p.client.rc, HF_E_CONN);
    ck_assert_int_eq(a->connect(a, "n1:1", 1000, &stream_events, &late, &s), HF_OK);
    hf_fake_world_run_ms(p.w, 10);
    ck_assert_int_eq(late.closes, 1);
    hf_fake_node_boot(p.w, 1);
    ck_assert_int_eq(b->listen(b, "n1:1", &listener_events, &p, &p.listener), HF_OK);
    ck_assert_int_eq(a->connect(a, "n1:1", 1000, &stream_events, &p.client, &p.client.stream), HF_OK);
    hf_fake_world_run_ms(p.w, 10);
    send_numbers(&p, 0, 10);
    hf_fake_world_run_ms(p.w, 10);
    check_numbers(&p, 10);
    pair_free(&p);
}
END_TEST

START_TEST(one_seed_one_history)
{
    uint64_t first_now = 0;
    int first_pieces = 0;

    for (int round = 0; round < 2; round++) {
        struct pair p;

        pair_init(&p, 6);
        for (uint32_t i = 0; i < 30; i++) {
            send_numbers(&p, i * 20, (i + 1) * 20);
            (void)hf_fake_world_step(p.w);
        }
        while (hf_fake_world_step(p.w))
            ;
        check_numbers(&p, 600);
        if (round == 0) {
            first_now = hf_fake_world_now_us(p.w);
            first_pieces = p.server.pieces;
        }
        ck_assert_uint_eq(hf_fake_world_now_us(p.w), first_now);
        ck_assert_int_eq(p.server.pieces, first_pieces);
        pair_free(&p);
    }
}
END_TEST

/* ---- timers, tasks, jobs ------------------------------------------------------------------------- */

struct trace {
    struct hf_env *env;
    char text[100];
    struct hf_timer t1, t2;
    struct hf_task task;
    struct hf_job job;
};

static void note(struct trace *r, char c)
{
    size_t n = strlen(r->text);

    ck_assert_uint_lt(n, sizeof r->text - 1);
    r->text[n] = c;
}

static void on_t1(struct hf_timer *t)
{
    struct trace *r = t->data;

    note(r, '1');
    r->env->post(r->env, &r->task);
}

static void on_t2(struct hf_timer *t)
{
    note(t->data, '2');
}

static void on_task(struct hf_task *t)
{
    note(t->data, 't');
}

static void on_run(struct hf_job *job)
{
    note(job->data, 'r');
}

static void on_done(struct hf_job *job)
{
    note(job->data, 'd');
}

START_TEST(timers_tasks_and_jobs_come_in_order)
{
    struct hf_fake_world_config config = {.seed = 1, .nodes = 1, .disk_us_min = 5000, .disk_us_max = 5000};
    struct hf_fake_world *w = hf_fake_world_new(&config);
    struct trace r = {.env = hf_fake_node_env(w, 0)};
    struct hf_env *env = r.env;
    struct hf_executor *ex;

    r.t1 = (struct hf_timer){.data = &r, .cb = on_t1};
    r.t2 = (struct hf_timer){.data = &r, .cb = on_t2};
    r.task = (struct hf_task){.data = &r, .cb = on_task};
    r.job = (struct hf_job){.data = &r, .run = on_run, .done = on_done};
    ck_assert_int_eq(env->executor_open(env, "work", &ex), HF_OK);
    env->timer_start(env, &r.t1, 1);
    env->timer_start(env, &r.t2, 1);
    env->executor_submit(env, ex, &r.job);
    hf_fake_world_run_ms(w, 100);
    ck_assert_str_eq(r.text, "1t2rd");
    env->executor_submit(env, ex, &r.job);
    env->executor_close(env, ex);
    ck_assert_str_eq(r.text, "1t2rdrd");
    env->post(env, &r.task);
    env->post(env, &r.task);
    env->unpost(env, &r.task);
    env->timer_start(env, &r.t1, 1);
    env->timer_stop(env, &r.t1);
    hf_fake_world_run_ms(w, 100);
    ck_assert_str_eq(r.text, "1t2rdrd");
    hf_fake_world_free(w);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("support");
    TCase *t = tcase_create("support");
    SRunner *r;
    int failed;

    tcase_add_test(t, synced_bytes_and_names_survive_others_may_not);
    tcase_add_test(t, killed_process_leaves_its_page_cache);
    tcase_add_test(t, failpoints_limits_and_locks);
    tcase_add_test(t, bytes_arrive_in_order_in_any_pieces);
    tcase_add_test(t, partition_stalls_then_breaks);
    tcase_add_test(t, back_pressure_and_drain);
    tcase_add_test(t, pause_holds_everything_and_loses_nothing);
    tcase_add_test(t, killed_node_is_cut_off_and_can_start_again);
    tcase_add_test(t, one_seed_one_history);
    tcase_add_test(t, timers_tasks_and_jobs_come_in_order);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
