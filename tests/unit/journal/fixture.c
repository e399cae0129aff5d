/* fixture.c: see fixture.h. */
#include "fixture.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/util.h"

static void on_durable(void *data, uint64_t index)
{
    struct fixture *f = data;

    f->durable = index;
    f->durable_calls++;
}

static void on_vote_durable(void *data)
{
    ((struct fixture *)data)->vote_calls++;
}

static void on_failed(void *data, int err, const char *what)
{
    struct fixture *f = data;

    (void)what;
    ck_assert_int_eq(f->failed, 0); /* once */
    f->failed = err;
}

void fixture_init(struct fixture *f, uint64_t seed, uint64_t segment_bytes)
{
    struct hf_fake_world_config config = {.seed = seed, .nodes = 1};

    hf_log_silence(true);
    memset(f, 0, sizeof *f);
    f->world = hf_fake_world_new(&config);
    f->env = hf_fake_node_env(f->world, 0);
    f->disk = hf_fake_node_fs(f->world, 0);
    f->stats = hf_stats_new();
    f->events = (struct hf_journal_events){
        .on_durable = on_durable, .on_vote_durable = on_vote_durable, .on_failed = on_failed, .data = f};
    f->config = (struct hf_journal_config){
        .dir = "/j", .segment_bytes = segment_bytes, .tail_bytes_max = 4096, .reserve_bytes = 8192};
}

void fixture_free(struct fixture *f)
{
    if (f->journal != NULL)
        fixture_close(f);
    hf_fake_world_free(f->world);
    hf_stats_free(f->stats);
}

int fixture_open(struct fixture *f)
{
    int rc;

    f->durable = 0;
    f->durable_calls = f->vote_calls = f->failed = 0;
    f->journal = NULL;
    rc = hf_journal_open(f->env, &f->config, &f->events, f->stats, &f->state, &f->journal, f->why, sizeof f->why);
    if (rc == HF_OK)
        f->durable = f->state.next_index - 1;
    return rc;
}

void fixture_must_open(struct fixture *f)
{
    int rc = fixture_open(f);

    ck_assert_msg(rc == HF_OK, "open: %s: %s", hf_strerror(rc), f->why);
}

void fixture_close(struct fixture *f)
{
    hf_journal_close(f->journal);
    f->journal = NULL;
}

void fixture_crash(struct fixture *f, enum hf_fake_loss loss)
{
    hf_fake_node_kill(f->world, 0, loss);
    if (f->journal != NULL)
        fixture_close(f);
    hf_fake_node_bury(f->world, 0);
    hf_fake_node_boot(f->world, 0);
}

static void fill(uint8_t *data, uint64_t index, uint64_t term, uint32_t len)
{
    struct hf_prng p;

    hf_prng_seed(&p, index * 1000003 + term * 7919 + len);
    for (uint32_t i = 0; i < len; i++)
        data[i] = (uint8_t)hf_prng_next(&p);
}

struct hf_log_entry *fixture_entry(uint64_t index, uint64_t term, uint32_t len)
{
    struct hf_log_entry *e = hf_log_entry_new((enum hf_entry_type)(1 + index % 3), index, term, len);

    fill(e->data, index, term, len);
    return e;
}

bool fixture_entry_is_genuine(const struct hf_log_entry *e)
{
    uint8_t *data = hf_malloc(e->len + 1);
    bool ok;

    fill(data, e->index, e->term, e->len);
    ok = (uint64_t)e->type == 1 + e->index % 3 && memcmp(data, e->data, e->len) == 0;
    hf_free(data);
    return ok;
}

void fixture_append(struct fixture *f, uint64_t term, uint64_t n, uint32_t len)
{
    for (uint64_t i = 0; i < n; i++) {
        struct hf_log_entry *e = fixture_entry(hf_journal_next_index(f->journal), term, len);

        hf_journal_append(f->journal, &e, 1);
        hf_log_entry_unref(e);
    }
}

void fixture_run_ms(struct fixture *f, uint64_t ms)
{
    hf_fake_world_run_ms(f->world, ms);
}

struct wait {
    struct fixture *f;
    uint64_t index;
};

static bool is_durable(void *data)
{
    const struct wait *w = data;

    return w->f->durable >= w->index || w->f->failed != 0;
}

void fixture_wait_durable(struct fixture *f, uint64_t index)
{
    struct wait w = {f, index};

    ck_assert(hf_fake_world_run_until(f->world, 60000, is_durable, &w));
    ck_assert_int_eq(f->failed, 0);
}

static int check_next(void *data, struct hf_log_entry *e)
{
    uint64_t *next = data;

    ck_assert_uint_eq(e->index, *next);
    ck_assert(fixture_entry_is_genuine(e));
    (*next)++;
    return 0;
}

void fixture_check_scan(struct fixture *f, uint64_t first, uint64_t next)
{
    uint64_t at = first;

    ck_assert_int_eq(hf_journal_scan(f->journal, first, check_next, &at), 0);
    ck_assert_uint_eq(at, next);
}

struct read_state {
    int rc;
    bool done;
    uint64_t first, n;
};

static void on_read(struct hf_journal_read *req, int rc, struct hf_log_entry **entries, size_t n)
{
    struct read_state *s = req->data;

    s->rc = rc;
    s->done = true;
    s->n = n;
    for (size_t i = 0; i < n; i++) {
        ck_assert_uint_eq(entries[i]->index, s->first + i);
        ck_assert(fixture_entry_is_genuine(entries[i]));
        hf_log_entry_unref(entries[i]);
    }
}

static bool read_is_done(void *data)
{
    return ((struct read_state *)data)->done;
}

int fixture_read(struct fixture *f, uint64_t first, size_t n_max, size_t bytes_max, uint64_t *n)
{
    struct read_state s = {.first = first};
    struct hf_journal_read req = {.data = &s, .cb = on_read, .first = first, .n_max = n_max, .bytes_max = bytes_max};

    hf_journal_read(f->journal, &req);
    ck_assert(!s.done); /* never from inside the call */
    ck_assert(hf_fake_world_run_until(f->world, 60000, read_is_done, &s));
    *n = s.n;
    return s.rc;
}
