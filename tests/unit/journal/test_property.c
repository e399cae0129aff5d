/* test_property.c: random operations and power losses against a model. Whatever the order of appends, truncations,
 * resets, votes and crashes: what was reported durable is there afterwards, what was truncated durably does not come
 * back, every entry equals what was written at that index, and no power loss is ever taken for damage. */
#include "fixture.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>

#define LOG_MAX 4096

/* The log as it should be: terms by index, 0 = absent. Lengths follow from the seed of the entry. */
struct model {
    uint64_t term[LOG_MAX];
    uint32_t len[LOG_MAX];
    uint64_t first, next; /* as asked for; the journal may keep more in front */
    uint64_t reset_first; /* nothing below this may exist any more once a reset was reported */
    uint64_t durable;     /* greatest index that was reported and is still part of the log */
    bool reset_pending, reset_seen;
    uint64_t reset_to;
    uint64_t current_term, vote, vote_term;
    uint64_t asked_vote, asked_vote_term;
    bool vote_pending;
    bool vote_maybe; /* the last vote asked for was never reported: it may or may not be on disk */
};

struct run {
    struct fixture f;
    struct model m;
};

static void note_reports(struct run *r)
{
    struct model *m = &r->m;

    if (r->f.durable_calls > 0) {
        m->durable = r->f.durable;
        if (m->reset_pending) {
            m->reset_pending = false;
            m->reset_seen = true;
            m->reset_first = m->reset_to;
        }
        r->f.durable_calls = 0;
    }
    if (m->vote_pending && r->f.vote_calls > 0) {
        m->vote = m->asked_vote;
        m->vote_term = m->asked_vote_term;
        m->vote_pending = false;
        m->vote_maybe = false;
        r->f.vote_calls = 0;
    }
}

/* hf_journal_durable_index can be ahead of our last step only by a callback, so stepping is enough. */
static void some_steps(struct run *r, uint64_t max)
{
    for (uint64_t n = hf_fake_world_draw(r->f.world, max); n > 0; n--) {
        if (hf_fake_fs_is_dead(r->f.disk) || !hf_fake_world_step(r->f.world))
            break;
        if (!hf_fake_fs_is_dead(r->f.disk))
            ck_assert_int_eq(r->f.failed, 0);
        note_reports(r);
    }
}

static int take_entry(void *data, struct hf_log_entry *e)
{
    struct run *r = data;
    struct model *m = &r->m;

    ck_assert_uint_lt(e->index, LOG_MAX);
    ck_assert(fixture_entry_is_genuine(e));
    if (e->index <= m->durable) {
        ck_assert_msg(m->term[e->index] == e->term && m->len[e->index] == e->len,
                      "index %lu has term %lu, was %lu when it was reported durable", e->index, e->term,
                      m->term[e->index]);
    }
    /* Beyond the durable part an older life of the index may show: a truncation that was not durable is undone. */
    m->term[e->index] = e->term;
    m->len[e->index] = e->len;
    return 0;
}

static void check_after_open(struct run *r)
{
    struct fixture *f = &r->f;
    struct model *m = &r->m;
    bool reset_happened = m->reset_pending && f->state.first_index == m->reset_to && f->state.next_index == m->reset_to;

    if (reset_happened) {
        m->durable = m->reset_to - 1;
        m->reset_first = m->reset_to;
    } else if (m->reset_pending) {
        m->durable = 0; /* the old log, all of it or less: its owner had given it up */
    }
    m->reset_pending = false;
    ck_assert_msg(f->state.next_index > m->durable, "next %lu, but %lu was durable", f->state.next_index, m->durable);
    ck_assert_uint_ge(f->state.first_index, m->reset_first);
    if (m->durable > 0 && m->first <= m->durable)
        ck_assert_uint_le(f->state.first_index, m->first);
    ck_assert_int_eq(hf_journal_scan(f->journal, f->state.first_index, take_entry, r), 0);
    m->vote_maybe = m->vote_maybe || m->vote_pending;
    m->vote_pending = false;
    ck_assert_msg(f->state.term >= m->vote_term, "term %lu, was %lu", f->state.term, m->vote_term);
    if (m->vote_maybe && f->state.term == m->asked_vote_term && f->state.vote == m->asked_vote) {
        m->vote = m->asked_vote;
        m->vote_term = m->asked_vote_term;
        m->vote_maybe = false;
    }
    if (f->state.term == m->vote_term)
        ck_assert_msg(f->state.vote == m->vote, "vote %lu, was %lu", f->state.vote, m->vote);
    if (f->state.term > m->current_term)
        m->current_term = f->state.term;
    if (f->state.first_index > m->first)
        m->first = f->state.first_index;
    if (m->first > f->state.next_index)
        m->first = f->state.next_index;
    m->next = f->state.next_index;
    m->durable = m->next - 1;
}

static void do_append(struct run *r)
{
    struct fixture *f = &r->f;
    uint64_t n = 1 + hf_fake_world_draw(f->world, 6);

    for (uint64_t i = 0; i < n && r->m.next + 1 < LOG_MAX; i++) {
        uint32_t len = (uint32_t)hf_fake_world_draw(f->world, hf_fake_world_draw(f->world, 30) == 0 ? 30000 : 700);

        r->m.term[r->m.next] = r->m.current_term;
        r->m.len[r->m.next] = len;
        fixture_append(f, r->m.current_term, 1, len);
        r->m.next++;
    }
}

static void do_truncate(struct run *r)
{
    uint64_t first = hf_journal_first_index(r->f.journal), from;

    if (r->m.first > first)
        first = r->m.first;
    if (r->m.next <= first || r->m.reset_pending)
        return;
    from = r->m.next - hf_fake_world_draw(r->f.world, r->m.next - first < 8 ? r->m.next - first : 8);
    hf_journal_truncate_suffix(r->f.journal, from);
    r->m.next = from;
    r->m.current_term++; /* replacements come from a newer leader */
    if (r->m.durable >= from)
        r->m.durable = from - 1;
}

static void do_vote(struct run *r)
{
    struct model *m = &r->m;

    if (m->vote_pending)
        return;
    /* A vote that may be on disk without our knowing it was in an older term than any new one. */
    if (m->vote_maybe || hf_fake_world_draw(r->f.world, 2) == 0)
        m->current_term =
            1 + (m->vote_maybe && m->asked_vote_term > m->current_term ? m->asked_vote_term : m->current_term);
    m->asked_vote_term = m->current_term;
    /* One vote a term. */
    m->asked_vote =
        m->asked_vote_term == m->vote_term && m->vote != 0 ? m->vote : 1 + hf_fake_world_draw(r->f.world, 3);
    m->vote_pending = true;
    r->f.vote_calls = 0;
    hf_journal_set_vote(r->f.journal, m->asked_vote_term, m->asked_vote);
}

static void do_prefix(struct run *r)
{
    uint64_t first = hf_journal_first_index(r->f.journal), up_to;

    if (r->m.durable < first || r->m.reset_pending)
        return;
    up_to = first + hf_fake_world_draw(r->f.world, r->m.durable - first + 1);
    hf_journal_truncate_prefix(r->f.journal, up_to);
    ck_assert_uint_le(hf_journal_first_index(r->f.journal), up_to + 1);
    if (up_to + 1 > r->m.first)
        r->m.first = up_to + 1;
}

static void do_reset(struct run *r)
{
    uint64_t to = r->m.next + hf_fake_world_draw(r->f.world, 20);

    if (to + 50 >= LOG_MAX || r->m.reset_pending)
        return;
    hf_journal_reset(r->f.journal, to);
    memset(r->m.term, 0, sizeof r->m.term);
    r->m.first = r->m.next = to;
    r->m.durable = 0;
    r->m.reset_pending = true;
    r->m.reset_to = to;
    r->f.durable_calls = 0;
}

static void do_read(struct run *r)
{
    uint64_t first = hf_journal_first_index(r->f.journal), n = 0;
    int rc;

    if (r->m.next <= first || hf_fake_fs_is_dead(r->f.disk))
        return;
    first += hf_fake_world_draw(r->f.world, r->m.next - first);
    rc = fixture_read(&r->f, first, 1 + hf_fake_world_draw(r->f.world, 20), 4000, &n);
    note_reports(r);
    if (hf_fake_fs_is_dead(r->f.disk))
        return;
    ck_assert_msg(rc == HF_OK, "read %lu: %s", first, hf_strerror(rc));
    ck_assert_uint_ge(n, 1);
}

static void do_crash(struct run *r)
{
    fixture_crash(&r->f, HF_FAKE_LOSS_RANDOM);
    /* Sometimes the power goes again while it starts. */
    while (hf_fake_world_draw(r->f.world, 3) == 0) {
        hf_fake_fs_crash_at(r->f.disk, HF_FAKE_CHANGES, 1 + hf_fake_world_draw(r->f.world, 12), HF_FAKE_LOSS_RANDOM);
        if (fixture_open(&r->f) == HF_OK) {
            /* Its answers were never used: only what is on disk counts. */
            fixture_crash(&r->f, HF_FAKE_LOSS_RANDOM);
        } else {
            ck_assert_msg(hf_fake_fs_is_dead(r->f.disk), "refused a power loss: %s", r->f.why);
            fixture_crash(&r->f, HF_FAKE_LOSS_RANDOM);
        }
    }
    fixture_must_open(&r->f);
    check_after_open(r);
}

static void do_restart(struct run *r)
{
    fixture_close(&r->f);
    /* A close finishes what was submitted where it can; nothing durable is lost by it. */
    if (hf_fake_fs_is_dead(r->f.disk) || hf_fake_world_draw(r->f.world, 2) == 0)
        fixture_crash(&r->f, HF_FAKE_LOSS_RANDOM);
    if (fixture_open(&r->f) != HF_OK) {
        ck_assert_msg(hf_fake_fs_is_dead(r->f.disk), "refused after a restart: %s", r->f.why);
        fixture_crash(&r->f, HF_FAKE_LOSS_RANDOM);
        fixture_must_open(&r->f);
    }
    check_after_open(r);
}

static void run_seed(uint64_t seed, int steps)
{
    struct run *r = hf_calloc(1, sizeof *r);

    fixture_init(&r->f, seed, 16384);
    r->m.first = r->m.next = 1;
    r->m.current_term = 1;
    fixture_must_open(&r->f);
    for (int i = 0; i < steps; i++) {
        uint64_t draw = hf_fake_world_draw(r->f.world, 100);

        if (hf_fake_fs_is_dead(r->f.disk))
            do_crash(r);
        else if (draw < 55)
            do_append(r);
        else if (draw < 65)
            do_truncate(r);
        else if (draw < 73)
            do_vote(r);
        else if (draw < 79)
            do_prefix(r);
        else if (draw < 80)
            do_reset(r);
        else if (draw < 90)
            do_read(r);
        else if (draw < 91)
            do_restart(r);
        else if (draw < 94)
            hf_fake_fs_crash_at(r->f.disk, HF_FAKE_CHANGES, 1 + hf_fake_world_draw(r->f.world, 30),
                                HF_FAKE_LOSS_RANDOM);
        else if (draw < 98)
            do_crash(r);
        else if (draw < 99 && !hf_fake_fs_is_dead(r->f.disk)) {
            for (uint64_t end = hf_fake_world_now_us(r->f.world) + 1500000; hf_fake_world_now_us(r->f.world) < end;)
                if (hf_fake_fs_is_dead(r->f.disk) || !hf_fake_world_step(r->f.world))
                    break;
                else
                    note_reports(r);
        }
        if (!hf_fake_fs_is_dead(r->f.disk))
            some_steps(r, 12);
    }
    /* In the end all of it becomes durable. */
    if (hf_fake_fs_is_dead(r->f.disk))
        do_crash(r);
    hf_fake_fs_crash_at(r->f.disk, 0, 0, HF_FAKE_LOSS_RANDOM);
    if (r->m.next > hf_journal_first_index(r->f.journal))
        fixture_wait_durable(&r->f, r->m.next - 1);
    fixture_free(&r->f);
    hf_free(r);
}

START_TEST(random_histories_keep_the_promises)
{
    const char *n_text = getenv("HF_JOURNAL_SEEDS"), *first_text = getenv("HF_JOURNAL_SEED");
    uint64_t n = n_text != NULL ? strtoull(n_text, NULL, 10) : 400;
    uint64_t first = first_text != NULL ? strtoull(first_text, NULL, 10) : 1;

    for (uint64_t seed = first; seed < first + (first_text != NULL ? 1 : n); seed++) {
        if (getenv("HF_JOURNAL_VERBOSE") != NULL)
            fprintf(stderr, "seed %lu\n", seed);
        run_seed(seed, 300);
    }
}
END_TEST

Suite *property_suite(void)
{
    Suite *s = suite_create("property");
    TCase *t = tcase_create("property");

    tcase_set_timeout(t, 600);
    tcase_add_test(t, random_histories_keep_the_promises);
    suite_add_tcase(s, t);
    return s;
}
