/* test_review.c: schedules around changes of the members that a plain build gets wrong: each of them once lost an
 * entry, stopped a healthy node, or left one behind for ever. On the simulated world; the state machine is a running
 * hash that is committed to a small file. */
#include "consensus/consensus.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/util.h"
#include "sim/world.h"
#include "suites.h"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define N 7

struct member {
    struct group *group;
    unsigned number;
    struct hf_sim_node *fake;
    struct hf_sim_disk *disk;
    struct hf_stats *stats;
    struct hf_consensus *c;
    uint64_t index, hash; /* the state, which lasts as it was at the last stop */
    uint64_t durable_index, durable_hash;
    bool has_failed, is_removed, is_paused;
    uint64_t term, configuration_index; /* of the state */
    uint8_t configuration[1024];
    uint32_t configuration_len;
    uint64_t behind, at_least; /* as leader: which member needs a copy, of which index or later */
    char why[512];
};

struct group {
    struct hf_sim_world *w;
    struct member m[N];
    const char *listed;
    bool has_small_journal;
    unsigned starts;
};

static bool on_commit(void *data, struct hf_log_entry *e)
{
    struct member *m = data;

    ck_assert_uint_eq(e->index, m->index + 1);
    m->index = e->index;
    m->term = e->term;
    if (e->type == HF_ENTRY_CONFIGURATION) {
        ck_assert_uint_le(e->len, sizeof m->configuration);
        m->configuration_index = e->index;
        m->configuration_len = e->len;
        memcpy(m->configuration, e->data, e->len);
    }
    m->hash ^= e->index * UINT64_C(0x9e3779b97f4a7c15) + (uint64_t)e->type;
    for (uint32_t i = 0; i < e->len; i++)
        m->hash = (m->hash ^ e->data[i]) * UINT64_C(0x100000001b3);
    return !m->is_paused;
}

static void on_behind(void *data, uint64_t member, uint64_t at_least)
{
    struct member *m = data;

    m->behind = member;
    m->at_least = at_least;
}

static void on_caught_up(void *data, uint64_t member)
{
    struct member *m = data;

    if (member == 0 || member == m->behind)
        m->behind = 0;
}

static void on_failed(void *data, int err, const char *why)
{
    struct member *m = data;

    m->has_failed = true;
    snprintf(m->why, sizeof m->why, "%s (%d)", why, err);
}

static void on_removed(void *data, const char *why)
{
    struct member *m = data;

    m->is_removed = true;
    snprintf(m->why, sizeof m->why, "%s", why);
}

static void start(struct group *g, unsigned i, const char *join, bool is_learner)
{
    struct member *m = &g->m[i];
    struct hf_consensus_events events = {.data = m,
                                         .on_commit = on_commit,
                                         .on_behind = on_behind,
                                         .on_caught_up = on_caught_up,
                                         .on_removed = on_removed,
                                         .on_failed = on_failed};
    char dir[16], address[16], name[16];
    struct hf_consensus_config config = {.node_id = join ? 0 : i + 1,
                                         .members = join ? "" : g->listed,
                                         .client_address = "",
                                         .cluster_id = "",
                                         .join = join,
                                         .join_as_learner = is_learner,
                                         .seed = 100 * i + ++g->starts,
                                         .election_timeout_ms = 600,
                                         .heartbeat_ms = 100,
                                         .message_bytes_max = 8u << 20,
                                         .journal_segment_bytes = 64u << 10,
                                         .journal_tail_bytes = 64u << 10,
                                         .journal_retain_bytes = 1u << 20,
                                         .journal_max_bytes = 1u << 20,
                                         .journal_pin_bytes = 1u << 20,
                                         .snapshot_journal_bytes = 1u << 20};
    int rc;

    if (g->has_small_journal) {
        config.journal_segment_bytes = config.journal_retain_bytes = 16u << 10;
        config.journal_tail_bytes = 4096;
        config.journal_max_bytes = 32u << 10;
        config.snapshot_journal_bytes = 8u << 10;
    }
    m->group = g;
    m->number = i;
    m->fake = hf_sim_node_new(g->w, i);
    if (m->disk)
        hf_sim_node_set_fs(m->fake, m->disk);
    m->disk = NULL;
    m->index = m->durable_index;
    m->hash = m->durable_hash;
    m->behind = m->at_least = 0;
    m->has_failed = m->is_removed = m->is_paused = false;
    m->stats = hf_stats_new();
    snprintf(dir, sizeof dir, "/n%u", i + 1);
    snprintf(address, sizeof address, "n%u:1", i + 1);
    snprintf(name, sizeof name, "node-%c", 'a' + (int)i);
    config.dir = dir;
    config.listen_address = address;
    config.name = join ? name : "";
    rc = hf_consensus_open(hf_sim_node_env(m->fake), &config, &events, m->stats, &m->c, m->why, sizeof m->why);
    if (rc == 0)
        rc = hf_consensus_start(m->c, m->index, m->why, sizeof m->why);
    ck_assert_msg(rc == 0, "member %u: %s", i + 1, m->why);
    hf_consensus_set_level(m->c, HF_LEVEL_MAX);
}

/* A crash takes the state back to where it began; the log brings it forward again. */
static void stop(struct group *g, unsigned i, bool is_crash)
{
    struct member *m = &g->m[i];

    if (!m->fake)
        return;
    if (is_crash)
        hf_sim_node_crash(m->fake, &m->disk);
    hf_consensus_close(m->c);
    if (!is_crash) {
        m->disk = hf_sim_node_take_fs(m->fake);
        m->durable_index = m->index;
        m->durable_hash = m->hash;
    }
    hf_sim_node_free(m->fake);
    hf_stats_free(m->stats);
    m->c = NULL;
    m->fake = NULL;
}

static void group_open(struct group *g, uint64_t seed, const char *listed, unsigned n)
{
    bool has_small_journal = g->has_small_journal;

    memset(g, 0, sizeof *g);
    hf_log_silence(true);
    g->w = hf_sim_world_new(seed);
    g->listed = listed;
    g->has_small_journal = has_small_journal;
    for (unsigned i = 0; i < n; i++)
        start(g, i, NULL, false);
}

static void group_close(struct group *g)
{
    for (unsigned i = 0; i < N; i++) {
        stop(g, i, false);
        hf_sim_disk_free(g->m[i].disk);
    }
    hf_sim_world_free(g->w);
}

static void run(struct group *g, uint64_t ms)
{
    hf_sim_world_run_until(g->w, hf_sim_world_now_ms(g->w) + ms);
}

/* Of the highest term. */
static struct member *leader(struct group *g, uint64_t within_ms)
{
    struct member *found = NULL;

    for (uint64_t t = 0; t < within_ms; t += 10) {
        for (unsigned i = 0; i < N; i++)
            if (g->m[i].c && hf_consensus_role(g->m[i].c) == HF_ROLE_LEADER &&
                (!found || hf_consensus_term(found->c) < hf_consensus_term(g->m[i].c)))
                found = &g->m[i];
        if (found)
            return found;
        run(g, 10);
    }
    ck_abort_msg("nobody leads");
}

static bool submit(struct member *m, uint8_t fill)
{
    struct hf_log_entry *e = hf_log_entry_new(HF_ENTRY_COMMAND, 0, 0, 100);
    uint64_t index, term;
    int rc;

    memset(e->data, fill, 100);
    rc = hf_consensus_submit(m->c, e, &index, &term);
    if (rc < 0)
        hf_log_entry_unref(e);
    return rc == 0;
}

static const char *role_of(struct member *m, uint64_t id)
{
    struct hf_consensus_status st;

    hf_consensus_status(m->c, &st);
    for (uint32_t i = 0; i < st.n_members; i++)
        if (st.members[i].id == id)
            return st.members[i].role;
    return "none";
}

static bool wait_role(struct group *g, uint64_t id, const char *role, uint64_t within_ms)
{
    for (uint64_t t = 0; t < within_ms; t += 50) {
        if (strcmp(role_of(leader(g, 10000), id), role) == 0)
            return true;
        run(g, 50);
    }
    return false;
}

struct asked {
    struct hf_member_request req;
    int rc;
    bool is_done;
    char text[512];
};

static void on_answer(struct hf_member_request *req, int rc, const char *text)
{
    struct asked *a = req->data;

    a->rc = rc;
    a->is_done = true;
    snprintf(a->text, sizeof a->text, "%s", text);
}

static void ask(struct member *by, int op, const char *node, const char *other, struct asked *a)
{
    memset(a, 0, sizeof *a);
    a->req = (struct hf_member_request){.data = a, .cb = on_answer, .op = op, .timeout_ms = 5000};
    snprintf(a->req.node, sizeof a->req.node, "%s", node);
    snprintf(a->req.other, sizeof a->req.other, "%s", other);
    hf_consensus_operate(by->c, &a->req);
}

static void change(struct group *g, int op, const char *node, const char *other)
{
    struct asked a = {.rc = -1};

    for (unsigned tries = 0; tries < 20 && a.rc != 0; tries++) {
        ask(leader(g, 10000), op, node, other, &a);
        for (uint64_t t = 0; t < 30000 && !a.is_done; t += 10)
            run(g, 10);
        ck_assert(a.is_done);
        run(g, 300);
    }
    ck_assert_msg(a.rc == 0, "%s", a.text);
}

static void check_equal(struct group *g)
{
    struct member *first = NULL;

    run(g, 4000);
    for (unsigned i = 0; i < N; i++) {
        struct member *m = &g->m[i];

        if (!m->c || m->is_removed)
            continue;
        ck_assert_msg(!m->has_failed, "member %u: %s", i + 1, m->why);
        if (!first)
            first = m;
        ck_assert_uint_eq(m->index, first->index);
        ck_assert_uint_eq(m->hash, first->hash);
    }
}

/* From every member but one (or from all). */
static void cut_off(struct group *g, unsigned a, unsigned but)
{
    for (unsigned b = 0; b < N; b++) {
        if (b == a || b == but)
            continue;
        hf_sim_world_block(g->w, a, b, true);
        hf_sim_world_block(g->w, b, a, true);
    }
}

/* The sole voter loses an entry that a learner has stored, and writes another in its place: not of the same term. */
START_TEST(test_sole_voter_comes_back_in_a_new_term)
{
    struct group g = {0};
    struct hf_sim_rules *rules, usual;
    uint64_t term;

    group_open(&g, (uint64_t)_i + 1, "1=n1:1", 1);
    rules = hf_sim_world_rules(g.w);
    usual = *rules;
    leader(&g, 5000);
    start(&g, 1, "n1:1", true);
    ck_assert(wait_role(&g, 2, "standby", 10000));
    for (unsigned i = 0; i < 5; i++)
        ck_assert(submit(&g.m[0], 1));
    run(&g, 2000);
    term = hf_consensus_term(g.m[0].c);
    for (unsigned k = 0; k < 10; k++) {
        leader(&g, 5000);
        rules->job_min_us = rules->job_max_us = 300000; /* all disks are slow, and the power of one goes */
        ck_assert(submit(&g.m[0], (uint8_t)(2 + k)));
        run(&g, 100);
        stop(&g, 0, true);
        *rules = usual;
        start(&g, 0, NULL, false);
        ck_assert(submit(leader(&g, 5000), (uint8_t)(102 + k)));
        run(&g, 1000);
    }
    check_equal(&g);
    ck_assert_uint_gt(hf_consensus_term(g.m[0].c), term);
    group_close(&g);
}
END_TEST

/* A follower that delivers late holds two changes; the second is taken back: it goes back to the first. */
START_TEST(test_second_change_is_taken_back)
{
    struct group g = {0};
    struct member *l, *f, *next;
    struct asked a;
    unsigned k = 0;

    group_open(&g, (uint64_t)_i + 20, "1=n1:1,2=n2:1,3=n3:1,4=n4:1,5=n5:1", 5);
    l = leader(&g, 5000);
    f = &g.m[(l->number + 1) % 5];
    ck_assert(submit(l, 1));
    run(&g, 1000);
    f->is_paused = true;
    ck_assert(submit(l, 2));
    run(&g, 500);
    change(&g, HF_MEMBER_ADD, "first", "n6:1");
    ck_assert_ptr_eq(leader(&g, 10), l);
    cut_off(&g, l->number, f->number);
    ask(l, HF_MEMBER_ADD, "second", "n7:1", &a);
    for (k = 0; k < 300 && strcmp(role_of(f, 7), "spare") != 0; k++)
        run(&g, 1);
    ck_assert_str_eq(role_of(f, 7), "spare");
    ck_assert_str_eq(role_of(f, 6), "spare");
    stop(&g, l->number, true);
    run(&g, 4000);
    next = leader(&g, 5000);
    ck_assert_ptr_ne(next, f);
    ck_assert(submit(next, 3));
    run(&g, 2000);
    ck_assert_str_eq(role_of(next, 7), "none");
    ck_assert_str_eq(role_of(f, 7), "none");
    ck_assert_str_eq(role_of(f, 6), "spare"); /* committed before */
    f->is_paused = false;
    hf_consensus_resume(f->c);
    run(&g, 1000);
    ck_assert_str_eq(role_of(f, 6), "spare");
    hf_sim_world_heal(g.w);
    start(&g, l->number, NULL, false);
    check_equal(&g);
    group_close(&g);
}
END_TEST

/* A member that was away knows the place only, not yet who took it: it must not send that one away for ever. */
START_TEST(test_place_was_taken_meanwhile)
{
    struct group g = {0};
    unsigned away;

    group_open(&g, (uint64_t)_i + 40, "1=n1:1,2=n2:1,3=n3:1", 3);
    away = (leader(&g, 5000)->number + 1) % 3;
    run(&g, 1000);
    change(&g, HF_MEMBER_ADD, "node-d", "n4:1");
    run(&g, 1000);
    for (unsigned i = 0; i < 3; i++) {
        if (i == away)
            continue;
        hf_sim_world_block(g.w, away, i, true);
        hf_sim_world_block(g.w, i, away, true);
    }
    start(&g, 3, away == 0 ? "n2:1" : "n1:1", false);
    run(&g, 5000);
    ck_assert_msg(!g.m[3].is_removed, "%s", g.m[3].why);
    hf_sim_world_heal(g.w);
    ck_assert(wait_role(&g, 4, "voter", 20000));
    check_equal(&g);
    group_close(&g);
}
END_TEST

/* A leader that was cut off while it removed another hears that other one, which leads now. */
START_TEST(test_removed_in_vain_leads)
{
    struct group g = {0};
    struct member *l, *removed;
    struct asked a;
    char id[8];

    group_open(&g, (uint64_t)_i + 60, "1=n1:1,2=n2:1,3=n3:1", 3);
    l = leader(&g, 5000);
    removed = &g.m[(l->number + 1) % 3];
    ck_assert(submit(l, 1));
    run(&g, 1000);
    cut_off(&g, l->number, N);
    snprintf(id, sizeof id, "%u", removed->number + 1);
    ask(l, HF_MEMBER_REMOVE, id, "", &a);
    run(&g, 100);
    ck_assert_str_eq(role_of(l, removed->number + 1), "none");
    run(&g, 4000);
    ck_assert_ptr_ne(leader(&g, 5000), l);
    if (leader(&g, 10) != removed)
        change(&g, HF_MEMBER_TRANSFER, id, "");
    run(&g, 1000);
    ck_assert_ptr_eq(leader(&g, 10), removed);
    ck_assert(submit(removed, 2));
    hf_sim_world_heal(g.w);
    run(&g, 5000);
    ck_assert(a.is_done);
    ck_assert_ptr_eq(leader(&g, 10), removed);
    ck_assert_uint_eq(hf_consensus_leader(l->c), removed->number + 1);
    check_equal(&g);
    group_close(&g);
}
END_TEST

/* All members that a node knew were replaced while it was away; and a node joins that reads of long gone members at the
 * beginning of the log. */
START_TEST(test_only_strangers_are_left)
{
    struct group g = {0};
    struct member *l;

    group_open(&g, (uint64_t)_i + 80, "1=n1:1,2=n2:1,3=n3:1", 3);
    leader(&g, 5000);
    run(&g, 1000);
    stop(&g, 2, _i % 2);
    start(&g, 3, "n1:1", false);
    ck_assert(wait_role(&g, 4, "voter", 20000));
    start(&g, 4, "n1:1", false);
    ck_assert(wait_role(&g, 5, "voter", 20000));
    change(&g, HF_MEMBER_REMOVE, "1", "");
    change(&g, HF_MEMBER_REMOVE, "2", "");
    stop(&g, 0, false);
    stop(&g, 1, false);
    l = leader(&g, 10000);
    ck_assert(submit(l, 1));
    run(&g, 1000);
    start(&g, 5, "n4:1", false);
    ck_assert_msg(wait_role(&g, 6, "voter", 20000), "a node that joins stays behind");
    start(&g, 2, NULL, false);
    run(&g, 5000);
    check_equal(&g);
    group_close(&g);
}
END_TEST

/* All states are durable as far as they go, again and again, while n entries are written. */
static void write_and_commit(struct group *g, struct member *l, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        submit(l, (uint8_t)i);
        run(g, 5);
        for (unsigned k = 0; k < N && i % 20 == 19; k++) {
            struct member *m = &g->m[k];

            if (m->c)
                hf_consensus_state_durable(m->c, m->index, m->term, m->configuration_index,
                                           hf_slice(m->configuration, m->configuration_len));
        }
    }
}

/* R17: a copy on its way is not too old because of a new marker, as long as the log behind it is there. And nobody
 * calls it off while the core still wants it. */
START_TEST(test_markers_do_not_outdate_a_copy)
{
    struct group g = {.has_small_journal = true};
    struct hf_consensus_status st;
    struct member *l, *away;
    uint64_t index, marker;

    group_open(&g, (uint64_t)_i + 100, "1=n1:1,2=n2:1,3=n3:1", 3);
    l = leader(&g, 5000);
    away = &g.m[(l->number + 1) % 3];
    write_and_commit(&g, l, 50);
    stop(&g, away->number, false);
    write_and_commit(&g, l, 1000);
    start(&g, away->number, NULL, false);
    for (unsigned t = 0; t < 500 && l->behind == 0; t++)
        run(&g, 10);
    ck_assert_uint_eq(l->behind, away->number + 1);
    index = l->index; /* of the copy that is begun now */
    ck_assert_uint_le(l->at_least, index);
    hf_consensus_pin(l->c, index);
    hf_consensus_status(l->c, &st);
    marker = st.snapshot_index;
    for (unsigned k = 0; k < 10; k++) {
        write_and_commit(&g, l, 100);
        run(&g, 5000); /* the core asks again after a while */
        ck_assert_uint_eq(l->behind, away->number + 1);
        ck_assert_uint_le(l->at_least, index);
    }
    hf_consensus_status(l->c, &st);
    ck_assert_uint_gt(st.snapshot_index, index);
    ck_assert_uint_gt(st.snapshot_index, marker);
    for (unsigned i = 0; i < 3; i++) /* nobody carries copies here */
        stop(&g, i, true);
    group_close(&g);
}
END_TEST

/* A learner that was promoted has not heard of it, and is the only one whose vote is missing. */
START_TEST(test_voter_that_does_not_know_it)
{
    struct group g = {0};
    struct asked a;

    group_open(&g, (uint64_t)_i + 120, "1=n1:1", 1);
    leader(&g, 5000);
    start(&g, 1, "n1:1", true);
    ck_assert(wait_role(&g, 2, "standby", 10000));
    run(&g, 2000);
    hf_sim_world_block(g.w, 0, 1, true);
    ask(&g.m[0], HF_MEMBER_PROMOTE, "2", "", &a);
    run(&g, 100);
    ck_assert_str_eq(role_of(&g.m[0], 2), "voter");
    ck_assert_str_eq(role_of(&g.m[1], 2), "standby");
    stop(&g, 0, _i % 2);
    run(&g, 10000); /* what it sent is lost */
    hf_sim_world_heal(g.w);
    run(&g, 100);
    ck_assert_str_eq(role_of(&g.m[1], 2), "standby");
    start(&g, 0, NULL, false);
    ck_assert(wait_role(&g, 2, "voter", 10000));
    ck_assert(submit(leader(&g, 10000), 1));
    check_equal(&g);
    group_close(&g);
}
END_TEST

Suite *review_suite(void)
{
    Suite *s = suite_create("review");
    TCase *t = tcase_create("schedules");

    tcase_set_timeout(t, 240);
    tcase_add_loop_test(t, test_sole_voter_comes_back_in_a_new_term, 0, 10);
    tcase_add_loop_test(t, test_second_change_is_taken_back, 0, 4);
    tcase_add_loop_test(t, test_place_was_taken_meanwhile, 0, 4);
    tcase_add_loop_test(t, test_removed_in_vain_leads, 0, 6);
    tcase_add_loop_test(t, test_only_strangers_are_left, 0, 4);
    tcase_add_loop_test(t, test_voter_that_does_not_know_it, 0, 4);
    tcase_add_loop_test(t, test_markers_do_not_outdate_a_copy, 0, 4);
    suite_add_tcase(s, t);
    return s;
}
