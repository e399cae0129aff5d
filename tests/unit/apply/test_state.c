/* test_state.c: the state thread on the real loop. The loop runs until a condition holds; each step also has a limit,
 * after which the test fails instead of hanging. */
#include "fake_table.h"

#include "base/mem.h"
#include "uv/uv_env.h"

#include <stdio.h>

#define LIMIT_MS 20000u

struct world {
    struct hf_env *env;
    struct hf_stats *stats;
    struct hf_state *st;
    struct hf_store_meta meta; /* as of open */
    struct hf_timer poll;
    bool (*condition)(struct world *w);
    uint64_t give_up_ms;
    bool is_met;

    struct hf_buf order; /* a character for each callback */
    unsigned n_callbacks, n_durable, n_failed;
    uint64_t durable_index, wanted;
    char durable_configuration[32];
    int64_t due_ms;
    struct hf_buf settings; /* "name=value;" for each that was told */
    unsigned n_swapped;
    int err;
    char why[512];
};

static void on_durable(void *data, const struct hf_store_meta *meta)
{
    struct world *w = data;

    w->n_durable++;
    ck_assert_uint_ge(meta->applied_index, w->durable_index);
    w->durable_index = meta->applied_index;
    snprintf(w->durable_configuration, sizeof w->durable_configuration, "%.*s", (int)meta->configuration.len,
             meta->configuration.len ? (const char *)meta->configuration.ptr : "");
}

static void on_next_due(void *data, int64_t due_ms)
{
    ((struct world *)data)->due_ms = due_ms;
}

static void on_setting(void *data, struct hf_slice name, struct hf_slice value)
{
    struct world *w = data;

    hf_buf_printf(&w->settings, "%.*s=%.*s;", (int)name.len, (const char *)name.ptr, (int)value.len,
                  (const char *)value.ptr);
}

static void on_failed(void *data, int err, const char *why)
{
    struct world *w = data;

    w->n_failed++;
    w->err = err;
    snprintf(w->why, sizeof w->why, "%s", why);
}

static void world_open(struct world *w, uint64_t commit_interval_ms)
{
    struct hf_state_config config = {.store.path = test_path(), .commit_interval_ms = commit_interval_ms};
    struct hf_state_events events = {.on_durable = on_durable,
                                     .on_setting = on_setting,
                                     .on_next_due = on_next_due,
                                     .on_failed = on_failed,
                                     .data = w};
    char why[512] = "";
    int rc;

    memset(w, 0, sizeof *w);
    ck_assert_int_eq(hf_uv_env_open(&w->env), 0);
    w->stats = hf_stats_new();
    rc = hf_state_open(w->env, &config, &events, w->stats, &w->st, &w->meta, why, sizeof why);
    ck_assert_msg(rc == 0, "%s", why);
}

static void world_close(struct world *w)
{
    hf_state_close(w->st);
    hf_uv_env_close(w->env);
    hf_stats_free(w->stats);
    hf_buf_free(&w->order);
    hf_buf_free(&w->settings);
}

static void on_poll(struct hf_timer *timer)
{
    struct world *w = timer->data;

    w->is_met = w->condition(w);
    if (w->is_met || w->env->boot_ms(w->env) > w->give_up_ms)
        hf_uv_env_stop(w->env);
    else
        w->env->timer_start(w->env, timer, 1);
}

static void run_until(struct world *w, bool (*condition)(struct world *w))
{
    w->condition = condition;
    w->give_up_ms = w->env->boot_ms(w->env) + LIMIT_MS;
    w->poll = (struct hf_timer){.data = w, .cb = on_poll};
    w->env->timer_start(w->env, &w->poll, 0);
    hf_uv_env_run(w->env);
    ck_assert(w->is_met);
}

struct item {
    struct hf_state_entry entry;
    struct hf_state_read read;
    struct hf_slice arg;
    struct world *w;
    char mark;
};

static void note(struct item *it)
{
    hf_buf_put_u8(&it->w->order, (uint8_t)it->mark);
    it->w->n_callbacks++;
}

static void on_entry(struct hf_state_entry *req)
{
    note(req->data);
    ck_assert_ptr_null(req->entry);
}

static void on_read(struct hf_state_read *req)
{
    note(req->data);
}

static void give_entry(struct world *w, struct item *it, char mark, struct hf_log_entry *e)
{
    memset(it, 0, sizeof *it);
    it->w = w;
    it->mark = mark;
    it->entry = (struct hf_state_entry){.data = it, .cb = on_entry, .entry = e, .wants_replies = true};
    hf_state_apply(w->st, &it->entry);
}

static void give_read(struct world *w, struct item *it, char mark, const struct hf_command *command, const char *key)
{
    memset(it, 0, sizeof *it);
    it->w = w;
    it->mark = mark;
    it->arg = hf_slice_str(key);
    it->read =
        (struct hf_state_read){.data = it, .cb = on_read, .command = command, .args = {&it->arg, 1}, .clock_ms = 5};
    hf_state_read(w->st, &it->read);
}

static void free_item(struct item *it)
{
    hf_apply_result_free(&it->entry.result);
    hf_reply_free(&it->read.reply);
}

static bool all_called(struct world *w)
{
    return w->n_callbacks >= w->wanted;
}

static bool is_durable(struct world *w)
{
    return w->durable_index >= w->wanted;
}

static bool has_failed(struct world *w)
{
    return w->n_failed != 0;
}

static bool reply_is_bulk(const struct hf_reply *r, const char *text)
{
    return r->buf.len == 5 + strlen(text) && r->buf.data[0] == HF_REPLY_BULK &&
           memcmp(r->buf.data + 5, text, strlen(text)) == 0;
}

/* A read sees exactly the entries that were given before it, in one turn and across turns. */
START_TEST(test_entries_and_reads_keep_their_order)
{
    struct world w;
    struct item it[6];

    world_open(&w, 1000);
    give_read(&w, &it[0], 'a', &fake_get, "k");
    give_entry(&w, &it[1], 'b', entry_put(1, 1, "k", "one", 0));
    give_read(&w, &it[2], 'c', &fake_get, "k");
    ck_assert_uint_eq(hf_state_queued_index(w.st), 1);
    ck_assert_uint_eq(hf_state_applied_index(w.st), 0);
    ck_assert_uint_gt(hf_state_queued_bytes(w.st), 0);
    ck_assert_uint_eq(w.n_callbacks, 0); /* never from inside the call */
    w.wanted = 3;
    run_until(&w, all_called);
    give_entry(&w, &it[3], 'd', entry_put(2, 1, "k", "two", 0));
    give_read(&w, &it[4], 'e', &fake_get, "k");
    give_read(&w, &it[5], 'f', &fake_applied, "");
    w.wanted = 6;
    run_until(&w, all_called);
    ck_assert(hf_slice_is(hf_buf_slice(&w.order), "abcdef"));
    ck_assert_int_eq(it[0].read.reply.buf.data[0], HF_REPLY_NULL);
    ck_assert(reply_is_bulk(&it[2].read.reply, "one"));
    ck_assert(reply_is_bulk(&it[4].read.reply, "two"));
    ck_assert_uint_eq(hf_load_u64(it[5].read.reply.buf.data + 1), 2);
    ck_assert_uint_eq(it[3].entry.result.n, 1);
    ck_assert_uint_eq(hf_state_applied_index(w.st), 2);
    ck_assert_uint_eq(hf_state_queued_bytes(w.st), 0);
    for (unsigned i = 0; i < 6; i++)
        free_item(&it[i]);
    world_close(&w);
}
END_TEST

START_TEST(test_read_that_needs_a_tick_has_no_reply)
{
    struct world w;
    struct item it;

    world_open(&w, 1000);
    give_read(&w, &it, 'a', &fake_not_yet, "k");
    w.wanted = 1;
    run_until(&w, all_called);
    ck_assert(it.read.needs_tick);
    ck_assert_uint_eq(it.read.reply.buf.len, 0);
    free_item(&it);
    world_close(&w);
}
END_TEST

/* Changes become durable within the interval though nothing else happens, once; then the node is quiet. */
START_TEST(test_idle_node_commits_after_its_last_change)
{
    struct world w;
    struct item it[2];

    world_open(&w, 30);
    give_entry(&w, &it[0], 'a', entry_put(1, 1, "k", "v", 0));
    give_entry(&w, &it[1], 'b', entry_other(2, HF_ENTRY_CONFIGURATION, "voters"));
    w.wanted = 2;
    run_until(&w, is_durable);
    ck_assert_uint_eq(w.n_durable, 1);
    ck_assert_str_eq(w.durable_configuration, "voters");
    free_item(&it[0]);
    free_item(&it[1]);
    world_close(&w);
}
END_TEST

START_TEST(test_commit_that_is_asked_for_comes_at_once_and_covers_what_was_given_before)
{
    struct world w;
    struct item it;
    uint64_t started;

    world_open(&w, 1000000);
    started = w.env->boot_ms(w.env);
    give_entry(&w, &it, 'a', entry_put(1, 1, "k", "v", 0));
    hf_state_commit(w.st);
    w.wanted = 1;
    run_until(&w, is_durable);
    ck_assert_uint_lt(w.env->boot_ms(w.env) - started, 1000000);
    free_item(&it);
    world_close(&w);
}
END_TEST

/* While a commit waits behind a slow job, a second request is not lost. */
START_TEST(test_second_commit_request_is_served_too)
{
    struct world w;
    struct item it[3];

    world_open(&w, 1000000);
    fake_gate_close();
    give_entry(&w, &it[0], 'a', entry_op(1, OP_GATE, hf_slice(NULL, 0)));
    hf_state_commit(w.st);
    w.wanted = 0;
    run_until(&w, all_called); /* one turn: the jobs are with the thread */
    give_entry(&w, &it[1], 'b', entry_put(2, 1, "k", "v", 0));
    hf_state_commit(w.st);
    run_until(&w, all_called);
    fake_gate_open();
    w.wanted = 2;
    run_until(&w, is_durable);
    ck_assert_uint_ge(w.n_durable, 1);
    free_item(&it[0]);
    free_item(&it[1]);
    world_close(&w);
}
END_TEST

START_TEST(test_next_due_time_is_reported_when_it_changes_and_after_a_restart)
{
    struct world w;
    struct item it[2];

    world_open(&w, 1000);
    give_entry(&w, &it[0], 'a', entry_put(1, 1, "k", "v", 700));
    w.wanted = 1;
    run_until(&w, all_called);
    ck_assert_int_eq(w.due_ms, 700);
    free_item(&it[0]);
    world_close(&w);

    world_open(&w, 1000);
    ck_assert_uint_eq(w.meta.applied_index, 1);
    ck_assert_uint_eq(hf_state_applied_index(w.st), 1);
    run_until(&w, all_called);
    ck_assert_int_eq(w.due_ms, 700);
    give_entry(&w, &it[1], 'a', entry_put(2, 700, "other", "v", 0));
    w.wanted = 1;
    run_until(&w, all_called);
    ck_assert_int_eq(w.due_ms, 0);
    free_item(&it[1]);
    world_close(&w);
}
END_TEST

/* Closing runs what was given, delivers it, and commits. */
START_TEST(test_close_finishes_the_queue_and_commits)
{
    struct world w;
    struct item it[20];
    struct hf_store *s;
    char key[16];

    world_open(&w, 1000000);
    for (unsigned i = 0; i < 20; i++) {
        snprintf(key, sizeof key, "k%u", i);
        give_entry(&w, &it[i], (char)('a' + i), entry_put(i + 1, 1, key, "v", 0));
    }
    hf_state_close(w.st);
    ck_assert(hf_slice_is(hf_buf_slice(&w.order), "abcdefghijklmnopqrst"));
    for (unsigned i = 0; i < 20; i++)
        free_item(&it[i]);
    hf_uv_env_close(w.env);
    hf_stats_free(w.stats);
    hf_buf_free(&w.order);
    hf_buf_free(&w.settings);
    s = open_test_store();
    ck_assert_uint_eq(hf_store_meta(s)->applied_index, 20);
    ck_assert_uint_eq(hf_store_count(s), 20);
    hf_store_close(s);
}
END_TEST

/* After an entry that cannot be applied no callback comes any more, not even of reads: they would see half a state. */
START_TEST(test_failure_is_told_once_and_nothing_is_answered_after_it)
{
    struct world w;
    struct item it[5];
    struct hf_state_entry *own = hf_calloc(1, sizeof *own);

    world_open(&w, 1000);
    give_entry(&w, &it[0], 'a', entry_put(1, 1, "k", "v", 0));
    give_entry(&w, &it[1], 'b', entry_op(2, OP_UNKNOWN, hf_slice(NULL, 0)));
    give_read(&w, &it[2], 'c', &fake_get, "k");
    own->entry = entry_put(3, 1, "k", "v", 0); /* the facade frees this one */
    hf_state_apply(w.st, own);
    run_until(&w, has_failed);
    ck_assert_int_eq(w.err, HF_E_VERSION);
    ck_assert_ptr_nonnull(strstr(w.why, "newer release"));
    give_entry(&w, &it[3], 'd', entry_put(3, 1, "k", "v", 0));
    give_read(&w, &it[4], 'e', &fake_get, "k");
    hf_state_close(w.st);
    ck_assert(hf_slice_is(hf_buf_slice(&w.order), "a"));
    ck_assert_uint_eq(w.n_failed, 1);
    for (unsigned i = 0; i < 5; i++)
        free_item(&it[i]);
    hf_uv_env_close(w.env);
    hf_stats_free(w.stats);
    hf_buf_free(&w.order);
    hf_buf_free(&w.settings);
}
END_TEST

/* Many turns with work on both sides: what the sanitizers look at. */
START_TEST(test_many_turns_with_commits_between_them)
{
    struct world w;
    struct item *it = hf_calloc(2000, sizeof *it);
    char key[16];

    world_open(&w, 2);
    for (unsigned turn = 0; turn < 100; turn++) {
        for (unsigned i = 0; i < 10; i++) {
            unsigned n = turn * 10 + i;
            snprintf(key, sizeof key, "k%u", n % 37);
            give_entry(&w, &it[2 * n], 'e', entry_put(n + 1, n, key, "value", n % 5 ? 0 : n + 3));
            give_read(&w, &it[2 * n + 1], 'r', &fake_get, "k5");
        }
        w.wanted = turn < 5 ? 0 : 20 * (turn - 5);
        run_until(&w, all_called);
    }
    w.wanted = 2000;
    run_until(&w, all_called);
    w.wanted = 1000;
    run_until(&w, is_durable);
    ck_assert_uint_eq(w.n_failed, 0);
    for (unsigned i = 0; i < 2000; i++)
        free_item(&it[i]);
    hf_free(it);
    world_close(&w);
}
END_TEST

/* ---- settings ------------------------------------------------------------------------------------ */

/* What was told since the last look. */
static bool told(struct world *w, const char *wanted)
{
    bool is_same = hf_slice_is(hf_buf_slice(&w->settings), wanted);

    w->settings.len = 0;
    return is_same;
}

/* Told when they change, before the answer of the entry that changed them, and those that are there after a start. */
START_TEST(test_settings_are_told)
{
    struct world w;
    struct item it[4];

    world_open(&w, 1000);
    ck_assert_uint_eq(hf_state_level(w.st), 1);
    give_entry(&w, &it[0], 'a', entry_setting(1, "b", "1"));
    give_entry(&w, &it[1], 'b', entry_setting(2, "a", "2"));
    give_entry(&w, &it[2], 'c', entry_level(3, 2));
    ck_assert_uint_eq(w.settings.len, 0);
    w.wanted = 3;
    run_until(&w, all_called);
    ck_assert(told(&w, "a=2;b=1;level=2;"));
    ck_assert_uint_eq(hf_state_level(w.st), 2);
    for (unsigned i = 0; i < 3; i++)
        free_item(&it[i]);
    give_entry(&w, &it[0], 'd', entry_put(4, 1, "k", "v", 0));
    give_entry(&w, &it[1], 'e', entry_setting(5, "a", "2"));
    give_entry(&w, &it[2], 'f', entry_setting(6, "b", ""));
    give_entry(&w, &it[3], 'g', entry_setting(7, "aa", "x"));
    w.wanted = 7;
    run_until(&w, all_called);
    ck_assert(told(&w, "aa=x;b=;"));
    for (unsigned i = 0; i < 4; i++)
        free_item(&it[i]);
    world_close(&w);

    world_open(&w, 1000);
    ck_assert_uint_eq(hf_state_level(w.st), 2);
    ck_assert_uint_eq(w.settings.len, 0); /* not from inside */
    w.wanted = 0;
    run_until(&w, all_called);
    ck_assert(told(&w, "a=2;aa=x;level=2;"));
    world_close(&w);
}
END_TEST

START_TEST(test_state_of_a_level_above_ours_is_not_opened)
{
    struct hf_store *s = open_test_store();
    struct hf_state_config config = {.store.path = test_path()};
    struct hf_state_events events = {.on_failed = on_failed};
    struct hf_env *env;
    struct hf_state *st;
    struct hf_store_meta meta;
    char why[512] = "";

    hf_store_begin(s, 1, 1, 1);
    hf_store_setting_put(s, hf_slice_str("level"), hf_slice_str("3"));
    hf_store_end(s, hf_slice_str("x"));
    hf_store_close(s);
    ck_assert_int_eq(hf_uv_env_open(&env), 0);
    ck_assert_int_eq(hf_state_open(env, &config, &events, NULL, &st, &meta, why, sizeof why), HF_E_VERSION);
    ck_assert_ptr_nonnull(strstr(why, "level 3"));
    ck_assert_ptr_nonnull(strstr(why, test_path()));
    ck_assert_ptr_null(st);
    hf_uv_env_close(env);
}
END_TEST

/* ---- swaps --------------------------------------------------------------------------------------- */

static void on_swapped(struct hf_state_swap *swap)
{
    struct world *w = swap->data;

    w->n_swapped++;
    hf_buf_put_u8(&w->order, '!');
    ck_assert_uint_eq(hf_state_applied_index(w->st), swap->meta.applied_index);
    ck_assert_str_eq(hf_state_path(w->st), swap->path);
    /* Everything about the new one was told before. */
    hf_buf_printf(&w->settings, "swapped;");
}

static bool is_swapped(struct world *w)
{
    return w->n_swapped != 0;
}

/* A database with n entries: keys k of value "new", a configuration, a due time, settings. */
static void make_database_b(uint64_t n, const char *level)
{
    struct hf_store *s = open_store_at(test_path_b());
    char why[512] = "";

    for (uint64_t i = 1; i <= n; i++) {
        struct hf_log_entry *e = i == 1   ? entry_other(i, HF_ENTRY_CONFIGURATION, "new voters")
                                 : i == 2 ? entry_setting(i, "a", "9")
                                          : entry_put(i, 1, "k", "new", 900);

        ck_assert_msg(hf_apply_entry(s, e, NULL, why, sizeof why) == 0, "%s", why);
        hf_log_entry_unref(e);
    }
    if (level) {
        hf_store_begin(s, n + 1, 1, 1);
        hf_store_setting_put(s, hf_slice_str("level"), hf_slice_str(level));
        hf_store_end(s, hf_slice_str("x"));
    }
    hf_store_close(s);
}

/* Entries and reads before the swap see the old database, those after it the new one, also within one turn. Then all
 * there is to know is of the new one. */
START_TEST(test_swap_has_its_place_in_the_queue)
{
    struct world w;
    struct item it[6];
    struct hf_state_swap swap = {.data = &w, .cb = on_swapped, .path = test_path_b()};

    make_database_b(50, "2");
    world_open(&w, 1000000);
    ck_assert_str_eq(hf_state_path(w.st), test_path());
    ck_assert_ptr_null(hf_state_vfs(w.st));
    give_entry(&w, &it[0], 'a', entry_setting(1, "gone", "1"));
    give_entry(&w, &it[1], 'b', entry_put(2, 1, "k", "old", 0));
    give_read(&w, &it[2], 'c', &fake_get, "k");
    hf_state_swap(w.st, &swap);
    ck_assert_uint_eq(w.n_swapped, 0);
    give_read(&w, &it[3], 'd', &fake_get, "k");
    give_entry(&w, &it[4], 'e', entry_put(52, 1, "k", "newer", 0));
    give_read(&w, &it[5], 'f', &fake_get, "k");
    ck_assert_uint_eq(hf_state_queued_index(w.st), 52);
    w.wanted = 6;
    run_until(&w, all_called);
    ck_assert(hf_slice_is(hf_buf_slice(&w.order), "abc!def"));
    ck_assert(reply_is_bulk(&it[2].read.reply, "old"));
    ck_assert(reply_is_bulk(&it[3].read.reply, "new"));
    ck_assert(reply_is_bulk(&it[5].read.reply, "newer"));
    ck_assert_uint_eq(hf_state_applied_index(w.st), 52);
    ck_assert_uint_eq(hf_state_queued_index(w.st), 52);
    ck_assert_uint_eq(hf_state_level(w.st), 2);
    ck_assert(told(&w, "a=9;level=2;swapped;")); /* "gone" was never told: its database was given up before */
    ck_assert_uint_eq(swap.meta.applied_index, 51);
    ck_assert_uint_eq(swap.meta.configuration_index, 1);
    for (unsigned i = 0; i < 6; i++)
        free_item(&it[i]);
    hf_state_commit(w.st);
    w.wanted = 52;
    run_until(&w, is_durable);
    ck_assert_str_eq(w.durable_configuration, "new voters");
    world_close(&w);
}
END_TEST

/* A setting that was told and is not in the new database is told to be gone; one that stays the same is told again. */
START_TEST(test_settings_and_due_time_after_a_swap)
{
    struct world w;
    struct item it[2];
    struct hf_state_swap swap = {.data = &w, .cb = on_swapped, .path = test_path_b()};

    make_database_b(5, NULL);
    world_open(&w, 1000000);
    give_entry(&w, &it[0], 'a', entry_setting(1, "b", "1"));
    give_entry(&w, &it[1], 'b', entry_setting(2, "a", "9"));
    w.wanted = 2;
    run_until(&w, all_called);
    ck_assert(told(&w, "a=9;b=1;"));
    hf_state_swap(w.st, &swap);
    run_until(&w, is_swapped);
    ck_assert(told(&w, "a=9;b=;swapped;"));
    ck_assert_int_eq(w.due_ms, 900);
    ck_assert_uint_eq(hf_state_queued_index(w.st), 5);
    ck_assert_uint_eq(hf_state_queued_bytes(w.st), 0);
    free_item(&it[0]);
    free_item(&it[1]);
    world_close(&w);
}
END_TEST

/* A commit of the old database that was under way when the swap was asked for is told to nobody: its index would be
 * taken for one of the new database's log. What was not committed of the old one is lost, and its files stay. */
START_TEST(test_no_durable_index_of_the_old_database_after_a_swap)
{
    struct world w;
    struct item it[3];
    struct hf_state_swap swap = {.data = &w, .cb = on_swapped, .path = test_path_b()};
    struct hf_store *old;

    make_database_b(3, NULL);
    world_open(&w, 1000000);
    fake_gate_close();
    give_entry(&w, &it[0], 'a', entry_put(1, 1, "k", "v", 0));
    give_entry(&w, &it[1], 'b', entry_op(2, OP_GATE, hf_slice(NULL, 0)));
    hf_state_commit(w.st);
    w.wanted = 0;
    run_until(&w, all_called); /* both jobs are with the thread */
    give_entry(&w, &it[2], 'c', entry_put(3, 1, "k", "late", 0));
    hf_state_swap(w.st, &swap);
    fake_gate_open();
    w.wanted = 3;
    run_until(&w, is_swapped);
    run_until(&w, all_called);
    ck_assert_uint_eq(w.n_durable, 0);
    ck_assert(hf_slice_is(hf_buf_slice(&w.order), "abc!"));
    for (unsigned i = 0; i < 3; i++)
        free_item(&it[i]);
    give_entry(&w, &it[0], 'd', entry_put(4, 1, "k", "v", 0));
    hf_state_commit(w.st);
    w.wanted = 4;
    run_until(&w, is_durable);
    ck_assert_uint_eq(w.n_durable, 1);
    free_item(&it[0]);
    world_close(&w);
    old = open_test_store();
    ck_assert_uint_eq(hf_store_meta(old)->applied_index, 2);
    hf_store_close(old);
}
END_TEST

/* A database that cannot be opened, or is of a newer level: the node stops, and nobody hears of a swap. */
START_TEST(test_failed_swap_stops_the_node)
{
    for (unsigned i = 0; i < 2; i++) {
        char missing[100];
        struct world w;
        struct item it;
        struct hf_state_swap swap = {.data = &w, .cb = on_swapped, .path = missing};

        snprintf(missing, sizeof missing, "%s/none/c.db", test_dir);
        if (i == 1) {
            make_database_b(3, "3");
            swap.path = test_path_b();
        }
        world_open(&w, 1000);
        hf_state_swap(w.st, &swap);
        give_read(&w, &it, 'a', &fake_get, "k");
        run_until(&w, has_failed);
        ck_assert_uint_eq(w.n_swapped, 0);
        ck_assert_ptr_nonnull(strstr(w.why, i == 0 ? missing : "level 3"));
        if (i == 1)
            ck_assert_int_eq(w.err, HF_E_VERSION);
        ck_assert_uint_eq(w.order.len, 0);
        free_item(&it);
        world_close(&w);
    }
}
END_TEST

/* Closing finishes a swap that is under way. */
START_TEST(test_close_with_a_swap_in_the_queue)
{
    struct world w;
    struct hf_state_swap swap = {.data = &w, .cb = on_swapped, .path = test_path_b()};

    make_database_b(3, NULL);
    world_open(&w, 1000);
    hf_state_swap(w.st, &swap);
    world_close(&w);
    ck_assert_uint_eq(w.n_swapped, 1);
}
END_TEST

/* Again and again, with commits running: what the sanitizers look at. */
START_TEST(test_many_swaps)
{
    struct world w;
    struct item it[40];

    make_database_b(10, NULL);
    world_open(&w, 1);
    for (unsigned i = 0; i < 20; i++) {
        struct hf_state_swap swap = {.data = &w, .cb = on_swapped, .path = i % 2 ? test_path() : test_path_b()};
        uint64_t index;

        w.n_swapped = 0;
        hf_state_swap(w.st, &swap);
        run_until(&w, is_swapped);
        index = hf_state_applied_index(w.st);
        w.durable_index = 0;
        give_entry(&w, &it[2 * i], 'a', entry_put(index + 1, 1, "k", "v", 0));
        give_entry(&w, &it[2 * i + 1], 'b', entry_setting(index + 2, "s", i % 3 ? "1" : "2"));
        w.wanted = index + 2;
        if (i % 2)
            run_until(&w, is_durable);
    }
    ck_assert_uint_eq(w.n_failed, 0);
    world_close(&w);
    for (unsigned i = 0; i < 40; i++)
        free_item(&it[i]);
}
END_TEST

TCase *state_case(void)
{
    TCase *tc = tcase_create("state");

    tcase_add_checked_fixture(tc, make_test_dir, remove_test_dir);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, test_entries_and_reads_keep_their_order);
    tcase_add_test(tc, test_read_that_needs_a_tick_has_no_reply);
    tcase_add_test(tc, test_idle_node_commits_after_its_last_change);
    tcase_add_test(tc, test_commit_that_is_asked_for_comes_at_once_and_covers_what_was_given_before);
    tcase_add_test(tc, test_second_commit_request_is_served_too);
    tcase_add_test(tc, test_next_due_time_is_reported_when_it_changes_and_after_a_restart);
    tcase_add_test(tc, test_close_finishes_the_queue_and_commits);
    tcase_add_test(tc, test_failure_is_told_once_and_nothing_is_answered_after_it);
    tcase_add_test(tc, test_many_turns_with_commits_between_them);
    tcase_add_test(tc, test_settings_are_told);
    tcase_add_test(tc, test_state_of_a_level_above_ours_is_not_opened);
    tcase_add_test(tc, test_swap_has_its_place_in_the_queue);
    tcase_add_test(tc, test_settings_and_due_time_after_a_swap);
    tcase_add_test(tc, test_no_durable_index_of_the_old_database_after_a_swap);
    tcase_add_test(tc, test_failed_swap_stops_the_node);
    tcase_add_test(tc, test_close_with_a_swap_in_the_queue);
    tcase_add_test(tc, test_many_swaps);
    return tc;
}
