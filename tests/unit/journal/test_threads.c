/* test_threads.c: the journal on the real loop, real threads and real files, with reads, truncations and deletions
 * under way at the same time: what the thread sanitizer wants to see. */
#include "fixture.h"

#include "base/log.h"
#include "base/mem.h"
#include "uv/uv_env.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define LAST 6000

struct load {
    struct hf_env *env;
    struct hf_journal *journal;
    uint64_t term;
    int reads_running;
    uint64_t reads_done, read_at;
    struct hf_journal_read read;
    struct hf_timer timer;
    bool truncated;
};

static void add(struct load *l, uint64_t n)
{
    for (uint64_t i = 0; i < n && hf_journal_next_index(l->journal) <= LAST; i++) {
        struct hf_log_entry *e = fixture_entry(hf_journal_next_index(l->journal), l->term, 300);

        hf_journal_append(l->journal, &e, 1);
        hf_log_entry_unref(e);
    }
}

static void read_some(struct load *l);

static void on_read(struct hf_journal_read *req, int rc, struct hf_log_entry **entries, size_t n)
{
    struct load *l = req->data;

    l->reads_running--;
    if (rc == HF_E_CLOSED)
        return;
    ck_assert_msg(rc == HF_OK || rc == HF_E_NOENT, "read: %s", hf_strerror(rc));
    for (size_t i = 0; i < n; i++) {
        ck_assert_uint_eq(entries[i]->index, req->first + i);
        ck_assert(fixture_entry_is_genuine(entries[i]));
        hf_log_entry_unref(entries[i]);
    }
    l->reads_done++;
    l->read_at = rc == HF_OK ? req->first + n : 0;
    read_some(l);
}

static void read_some(struct load *l)
{
    uint64_t first = hf_journal_first_index(l->journal);

    if (l->read_at < first || l->read_at >= hf_journal_next_index(l->journal))
        l->read_at = first;
    if (first == hf_journal_next_index(l->journal))
        return;
    l->read = (struct hf_journal_read){.data = l, .cb = on_read, .first = l->read_at, .n_max = 50, .bytes_max = 9000};
    l->reads_running++;
    hf_journal_read(l->journal, &l->read);
}

static void on_durable(void *data, uint64_t index)
{
    struct load *l = data;

    if (index == LAST) {
        hf_uv_env_stop(l->env);
        return;
    }
    if (index > LAST / 2 && !l->truncated) {
        l->truncated = true;
        l->term++;
        hf_journal_truncate_suffix(l->journal, index - 5);
    }
    if (index > 600)
        hf_journal_truncate_prefix(l->journal, index - 500);
    add(l, 60);
    if (l->reads_running == 0)
        read_some(l);
}

static void on_vote_durable(void *data)
{
    (void)data;
}

static void on_failed(void *data, int err, const char *what)
{
    (void)data;
    ck_abort_msg("journal failed: %s: %s", what, hf_strerror(err));
}

static void begin(struct hf_timer *timer)
{
    struct load *l = timer->data;

    hf_journal_set_vote(l->journal, 1, 1);
    add(l, 100);
}

START_TEST(load_on_real_threads_and_files)
{
    struct load l = {.term = 1};
    struct hf_journal_events events = {
        .on_durable = on_durable, .on_vote_durable = on_vote_durable, .on_failed = on_failed, .data = &l};
    struct hf_journal_config config = {.segment_bytes = 65536, .tail_bytes_max = 20000, .reserve_bytes = 65536};
    struct hf_journal_state state;
    struct hf_stats *stats = hf_stats_new();
    char why[500], dir[] = "/tmp/hf-journal-XXXXXX", *path, *command;
    int rc;

    hf_log_silence(true);
    ck_assert_ptr_nonnull(mkdtemp(dir));
    path = hf_asprintf("%s/journal", dir);
    config.dir = path;
    ck_assert_int_eq(hf_uv_env_open(&l.env), HF_OK);
    for (int round = 0; round < 2; round++) {
        rc = hf_journal_open(l.env, &config, &events, stats, &state, &l.journal, why, sizeof why);
        ck_assert_msg(rc == HF_OK, "%s", why);
        if (round == 1) {
            ck_assert_uint_eq(state.next_index, LAST + 1);
            ck_assert_uint_eq(state.term, 2);
            ck_assert(!state.torn_tail);
        } else {
            l.timer = (struct hf_timer){.data = &l, .cb = begin};
            l.env->timer_start(l.env, &l.timer, 1);
            hf_uv_env_run(l.env);
            ck_assert_uint_gt(l.reads_done, 0);
        }
        hf_journal_close(l.journal);
        ck_assert_int_eq(l.reads_running, 0);
    }
    hf_uv_env_close(l.env);
    hf_stats_free(stats);
    command = hf_asprintf("rm -rf %s", dir);
    ck_assert_int_eq(system(command), 0);
    hf_free(command);
    hf_free(path);
}
END_TEST

Suite *threads_suite(void)
{
    Suite *s = suite_create("threads");
    TCase *t = tcase_create("threads");

    tcase_set_timeout(t, 120);
    tcase_add_test(t, load_on_real_threads_and_files);
    suite_add_tcase(s, t);
    return s;
}
