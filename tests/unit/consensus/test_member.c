/* test_member.c: members of a group on the simulated world, without a state machine: forming, electing, replicating,
 * read gates, restarts, quiet time, strangers. */
#include "consensus/consensus.h"

#include "base/log.h"
#include "base/mem.h"
#include "sim/world.h"
#include "suites.h"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define N 3

struct member {
    struct group *group;
    unsigned number;
    struct hf_sim_node *fake;
    struct hf_sim_disk *disk;
    struct hf_stats *stats;
    struct hf_consensus *c;
    uint64_t delivered; /* highest index seen through on_commit since the start */
    uint64_t payload[4096];
    bool has_failed;
};

struct group {
    struct hf_sim_world *w;
    struct member m[N];
    unsigned starts;
    const char *cluster_word;
};

static bool on_commit(void *data, struct hf_log_entry *e)
{
    struct member *m = data;

    ck_assert_uint_eq(e->index, m->delivered + 1);
    m->delivered = e->index;
    if (e->type == HF_ENTRY_COMMAND) {
        ck_assert_uint_lt(e->index, 4096);
        memcpy(&m->payload[e->index], e->data, sizeof m->payload[0]);
    }
    return true;
}

static void on_failed(void *data, int err, const char *why)
{
    struct member *m = data;

    m->has_failed = true;
    printf("member %u failed: %s (%d)\n", m->number + 1, why, err);
}

static int open_member(struct group *g, unsigned i, char *why, size_t why_size)
{
    struct member *m = &g->m[i];
    struct hf_consensus_events events = {.data = m, .on_commit = on_commit, .on_failed = on_failed};
    char dir[16], address[16];
    struct hf_consensus_config config = {.node_id = i + 1,
                                         .members = "1=n1:1,2=n2:1,3=n3:1",
                                         .client_address = "",
                                         .cluster_id = g->cluster_word,
                                         .seed = 100 * i + ++g->starts,
                                         .election_timeout_ms = 600,
                                         .heartbeat_ms = 100,
                                         .message_bytes_max = 8u << 20,
                                         .journal_segment_bytes = 256u << 10,
                                         .journal_tail_bytes = 4096,
                                         .journal_retain_bytes = 1u << 20,
                                         .journal_max_bytes = 4u << 20,
                                         .snapshot_journal_bytes = 64u << 10};
    int rc;

    m->group = g;
    m->number = i;
    m->fake = hf_sim_node_new(g->w, i);
    if (m->disk)
        hf_sim_node_set_fs(m->fake, m->disk);
    m->disk = NULL;
    m->delivered = 0;
    m->stats = hf_stats_new();
    snprintf(dir, sizeof dir, "/n%u", i + 1);
    snprintf(address, sizeof address, "n%u:1", i + 1);
    config.dir = dir;
    config.listen_address = address;
    rc = hf_consensus_open(hf_sim_node_env(m->fake), &config, &events, m->stats, &m->c, why, why_size);
    if (rc == 0) {
        rc = hf_consensus_start(m->c, 0, why, why_size);
        if (rc < 0)
            hf_consensus_close(m->c);
    }
    if (rc < 0)
        m->c = NULL;
    return rc;
}

static void start(struct group *g, unsigned i)
{
    char why[512] = "";
    int rc = open_member(g, i, why, sizeof why);

    ck_assert_msg(rc == 0, "member %u: %s", i + 1, why);
}

static void stop(struct group *g, unsigned i, bool is_crash)
{
    struct member *m = &g->m[i];

    if (!m->fake)
        return;
    if (is_crash)
        hf_sim_node_crash(m->fake, &m->disk);
    if (m->c)
        hf_consensus_close(m->c);
    if (!is_crash)
        m->disk = hf_sim_node_take_fs(m->fake);
    hf_sim_node_free(m->fake);
    hf_stats_free(m->stats);
    m->c = NULL;
    m->fake = NULL;
}

static void group_open(struct group *g, uint64_t seed)
{
    memset(g, 0, sizeof *g);
    hf_log_silence(true);
    g->cluster_word = "";
    g->w = hf_sim_world_new(seed);
    for (unsigned i = 0; i < N; i++)
        start(g, i);
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

static struct member *leader(struct group *g, uint64_t within_ms)
{
    for (uint64_t t = 0; t < within_ms; t += 10) {
        for (unsigned i = 0; i < N; i++)
            if (g->m[i].c && hf_consensus_role(g->m[i].c) == HF_ROLE_LEADER)
                return &g->m[i];
        run(g, 10);
    }
    return NULL;
}

static int submit(struct member *m, uint64_t value, uint64_t *index)
{
    struct hf_log_entry *e = hf_log_entry_new(HF_ENTRY_COMMAND, 0, 0, 40);
    uint64_t term;
    int rc;

    memset(e->data, 0, 40);
    memcpy(e->data, &value, sizeof value);
    rc = hf_consensus_submit(m->c, e, index, &term);
    if (rc < 0)
        hf_log_entry_unref(e);
    return rc;
}

START_TEST(test_three_members_form_elect_and_replicate)
{
    struct group g;
    struct member *l;
    uint64_t index = 0;

    group_open(&g, (uint64_t)_i + 1);
    l = leader(&g, 5000);
    ck_assert_ptr_nonnull(l);
    for (uint64_t v = 1; v <= 500; v++) {
        ck_assert_int_eq(submit(l, v * 7, &index), 0);
        if (v % 50 == 0)
            run(&g, 5);
    }
    run(&g, 500);
    for (unsigned i = 0; i < N; i++) {
        ck_assert_uint_eq(g.m[i].delivered, index);
        ck_assert_uint_eq(g.m[i].payload[index], 3500);
    }
    group_close(&g);
}
END_TEST

START_TEST(test_acknowledged_entries_survive_crashes)
{
    struct group g;
    uint64_t index = 0, committed = 0;

    group_open(&g, (uint64_t)_i + 40);
    for (int round = 0; round < 6; round++) {
        struct member *l = leader(&g, 8000);

        ck_assert_ptr_nonnull(l);
        for (uint64_t v = 0; v < 40; v++)
            if (submit(l, 1000 + v, &index) == 0)
                run(&g, 3);
        run(&g, 100);
        ck_assert_uint_ge(l->delivered, committed);
        committed = l->delivered;
        unsigned victim = round % 2 ? l->number : (l->number + 1) % N;
        stop(&g, victim, true);
        run(&g, 20);
        start(&g, victim);
    }
    ck_assert_ptr_nonnull(leader(&g, 8000));
    run(&g, 3000);
    for (unsigned i = 0; i < N; i++) {
        ck_assert(!g.m[i].has_failed);
        ck_assert_uint_ge(g.m[i].delivered, committed);
        ck_assert_uint_eq(g.m[i].delivered, g.m[0].delivered);
        ck_assert_mem_eq(g.m[i].payload, g.m[0].payload, sizeof g.m[0].payload);
    }
    group_close(&g);
}
END_TEST

struct watched_gate {
    struct hf_gate gate;
    int rc;
    bool is_done;
};

static void on_gate(struct hf_gate *gate, int rc)
{
    struct watched_gate *w = (struct watched_gate *)(void *)gate;

    w->rc = rc;
    w->is_done = true;
}

START_TEST(test_gate_passes_on_the_leader_and_not_when_cut_off)
{
    struct group g;
    struct watched_gate gate = {.gate = {.cb = on_gate}};
    struct member *l;

    group_open(&g, 7);
    l = leader(&g, 5000);
    ck_assert_ptr_nonnull(l);
    hf_consensus_gate(l->c, &gate.gate);
    ck_assert(!gate.is_done);
    run(&g, 200);
    ck_assert(gate.is_done);
    ck_assert_int_eq(gate.rc, 0);

    for (unsigned i = 0; i < N; i++)
        if (i != l->number) {
            hf_sim_world_block(g.w, i, l->number, true);
            hf_sim_world_block(g.w, l->number, i, true);
        }
    gate.is_done = false;
    hf_consensus_gate(l->c, &gate.gate);
    run(&g, 500);
    ck_assert_msg(!gate.is_done || gate.rc != 0, "a leader that is cut off confirmed a read");
    run(&g, 3000);
    ck_assert(gate.is_done);
    ck_assert_int_eq(gate.rc, HF_E_NOT_LEADER);
    group_close(&g);
}
END_TEST

/* R6: nothing uncommitted, so the core appends no entry of the new term; reads must work all the same. */
START_TEST(test_idle_failover_serves_reads)
{
    struct group g;
    struct watched_gate gate = {.gate = {.cb = on_gate}};
    struct member *l;

    group_open(&g, 11);
    l = leader(&g, 5000);
    ck_assert_ptr_nonnull(l);
    run(&g, 2000);
    stop(&g, l->number, true);
    l = leader(&g, 5000);
    ck_assert_ptr_nonnull(l);
    hf_consensus_gate(l->c, &gate.gate);
    run(&g, 500);
    ck_assert(gate.is_done);
    ck_assert_int_eq(gate.rc, 0);
    group_close(&g);
}
END_TEST

/* R19: a voter whose directory was wiped neither forms nor votes, though the third member is down. */
START_TEST(test_wiped_voter_stays_out)
{
    struct group g;
    struct member *l;
    unsigned wiped, down;
    struct hf_consensus_status st;
    char why[512];

    group_open(&g, 3);
    l = leader(&g, 5000);
    ck_assert_ptr_nonnull(l);
    wiped = (l->number + 1) % N;
    down = l->number;
    stop(&g, wiped, false);
    hf_sim_disk_free(g.m[wiped].disk);
    g.m[wiped].disk = NULL;
    stop(&g, down, false);
    ck_assert_int_eq(open_member(&g, wiped, why, sizeof why), 0);
    run(&g, 10000);
    hf_consensus_status(g.m[wiped].c, &st);
    ck_assert(!st.is_formed);
    ck_assert_int_eq(st.role, HF_ROLE_UNAVAILABLE);
    ck_assert_msg(strstr(st.problem, "refuses this node") != NULL, "%s", st.problem);
    for (unsigned i = 0; i < N; i++)
        if (g.m[i].c)
            ck_assert_int_ne(hf_consensus_role(g.m[i].c), HF_ROLE_LEADER);
    start(&g, down);
    ck_assert_ptr_nonnull(leader(&g, 8000));
    group_close(&g);
}
END_TEST

START_TEST(test_transfer_moves_leadership)
{
    struct group g;
    struct member *l, *n;
    uint64_t index;

    group_open(&g, 21);
    l = leader(&g, 5000);
    ck_assert_ptr_nonnull(l);
    for (uint64_t v = 0; v < 20; v++)
        ck_assert_int_eq(submit(l, v, &index), 0);
    hf_consensus_transfer(l->c, 0, 2000, NULL, NULL);
    ck_assert_int_eq(submit(l, 1, &index), HF_E_AGAIN);
    run(&g, 400);
    n = leader(&g, 100);
    ck_assert_ptr_nonnull(n);
    ck_assert_ptr_ne(n, l);
    group_close(&g);
}
END_TEST

/* R10: promises made before a restart are forgotten, so nothing is granted for HF_LEASE_MAX_MS. */
START_TEST(test_restarted_voters_keep_quiet)
{
    struct group g;
    uint64_t began;

    group_open(&g, 31);
    ck_assert_ptr_nonnull(leader(&g, 5000));
    for (unsigned i = 0; i < N; i++)
        stop(&g, i, true);
    for (unsigned i = 0; i < N; i++)
        start(&g, i);
    began = hf_sim_world_now_ms(g.w);
    ck_assert_ptr_nonnull(leader(&g, 8000));
    ck_assert_uint_ge(hf_sim_world_now_ms(g.w) - began, HF_LEASE_MAX_MS);
    group_close(&g);
}
END_TEST

Suite *member_suite(void)
{
    Suite *s = suite_create("member");
    TCase *t = tcase_create("group");

    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, test_three_members_form_elect_and_replicate, 0, 10);
    tcase_add_loop_test(t, test_acknowledged_entries_survive_crashes, 0, 20);
    tcase_add_test(t, test_gate_passes_on_the_leader_and_not_when_cut_off);
    tcase_add_test(t, test_idle_failover_serves_reads);
    tcase_add_test(t, test_wiped_voter_stays_out);
    tcase_add_test(t, test_transfer_moves_leadership);
    tcase_add_test(t, test_restarted_voters_keep_quiet);
    suite_add_tcase(s, t);
    return s;
}
