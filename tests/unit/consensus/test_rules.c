/* test_rules.c: schedules that would break a rule of safety or of progress, played on members of a group in the
 * simulated world. Messages that a real network would have to be lucky to produce are handed in directly. */
#include "consensus/internal.h"
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
    uint64_t delivered, delivered_term;
    struct hf_buf configuration; /* the last one delivered, and its index */
    uint64_t configuration_index;
};

struct group {
    struct hf_sim_world *w;
    struct member m[N];
    unsigned starts;
};

static bool on_commit(void *data, struct hf_log_entry *e)
{
    struct member *m = data;

    m->delivered = e->index;
    m->delivered_term = e->term;
    if (e->type == HF_ENTRY_CONFIGURATION) {
        m->configuration.len = 0;
        hf_buf_put(&m->configuration, e->data, e->len);
        m->configuration_index = e->index;
    }
    return true;
}

static void on_failed(void *data, int err, const char *why)
{
    (void)data;
    ck_abort_msg("a member failed: %s (%d)", why, err);
}

static void start(struct group *g, unsigned i)
{
    struct member *m = &g->m[i];
    struct hf_consensus_events events = {.data = m, .on_commit = on_commit, .on_failed = on_failed};
    char dir[16], address[16], why[512] = "";
    struct hf_consensus_config config = {.node_id = i + 1,
                                         .dir = dir,
                                         .listen_address = address,
                                         .members = "1=n1:1,2=n2:1,3=n3:1",
                                         .client_address = "",
                                         .cluster_id = "",
                                         .seed = 100 * i + ++g->starts,
                                         .election_timeout_ms = 600,
                                         .heartbeat_ms = 100,
                                         .message_bytes_max = 8u << 20,
                                         .journal_segment_bytes = 16u << 10,
                                         .journal_tail_bytes = 4096,
                                         .journal_retain_bytes = 16u << 10,
                                         .journal_max_bytes = 4u << 20,
                                         .snapshot_journal_bytes = 16u << 10};
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
    rc = hf_consensus_open(hf_sim_node_env(m->fake), &config, &events, m->stats, &m->c, why, sizeof why);
    ck_assert_msg(rc == 0, "%s", why);
    rc = hf_consensus_start(m->c, 0, why, sizeof why);
    ck_assert_msg(rc == 0, "%s", why);
}

static void stop(struct group *g, unsigned i)
{
    struct member *m = &g->m[i];

    if (!m->fake)
        return;
    hf_consensus_close(m->c);
    m->disk = hf_sim_node_take_fs(m->fake);
    hf_sim_node_free(m->fake);
    hf_stats_free(m->stats);
    m->c = NULL;
    m->fake = NULL;
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
    ck_abort_msg("no leader");
    return NULL;
}

static struct member *group_open(struct group *g, uint64_t seed)
{
    memset(g, 0, sizeof *g);
    hf_log_silence(true);
    g->w = hf_sim_world_new(seed);
    for (unsigned i = 0; i < N; i++)
        start(g, i);
    return leader(g, 5000);
}

static void group_close(struct group *g)
{
    for (unsigned i = 0; i < N; i++) {
        stop(g, i);
        hf_sim_disk_free(g->m[i].disk);
        hf_buf_free(&g->m[i].configuration);
    }
    hf_sim_world_free(g->w);
}

static void submit(struct member *m, uint32_t bytes)
{
    struct hf_log_entry *e = hf_log_entry_new(HF_ENTRY_COMMAND, 0, 0, bytes);
    uint64_t index, term;

    memset(e->data, 0, bytes);
    ck_assert_int_eq(hf_consensus_submit(m->c, e, &index, &term), 0);
}

static void hand_in(struct member *to, uint64_t from, const struct raft_message *m)
{
    struct hf_buf buf = {0};

    hf_codec_put_message(&buf, m);
    hf_consensus_dispatch(to->c, from, (uint8_t)m->type, hf_buf_slice(&buf));
    hf_buf_free(&buf);
}

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

/* A leader hears of a later term and its disk hangs while it stores that term: it does not lead any more, and must
 * say so at once. Otherwise commands would be sent to a gate that refuses them, back, and to it again, without end. */
START_TEST(test_a_deposed_leader_says_so_before_its_term_is_stored)
{
    struct group g;
    struct member *l = group_open(&g, 5);
    struct raft_message m = {.type = RAFT_APPEND_ENTRIES};
    struct watched_gate gate = {.gate = {.cb = on_gate}};

    run(&g, 500);
    ck_assert_int_eq(hf_consensus_role(l->c), HF_ROLE_LEADER);
    hf_sim_world_rules(g.w)->slow_job_per_mille = 1000;
    hf_sim_world_rules(g.w)->slow_job_us = 60000000;
    m.append_entries = (struct raft_append_entries){
        .version = 0, .term = hf_consensus_term(l->c) + 1, .prev_log_index = 1, .prev_log_term = 1, .leader_commit = 1};
    hand_in(l, (l->number + 1) % N + 1, &m);
    ck_assert(l->c->is_held);
    hf_consensus_gate(l->c, &gate.gate);
    run(&g, 100);
    ck_assert(l->c->is_held);
    ck_assert(gate.is_done);
    ck_assert_int_eq(gate.rc, HF_E_NOT_LEADER);
    ck_assert_int_ne(hf_consensus_role(l->c), HF_ROLE_LEADER);
    ck_assert_uint_ne(hf_consensus_leader(l->c), l->number + 1);
    hf_sim_world_rules(g.w)->slow_job_per_mille = 0;
    group_close(&g);
}
END_TEST

/* R7: an answer to a pre-vote names a term that nobody is in. Late, it must not end a reign, nor make a follower
 * leave its leader. */
START_TEST(test_a_late_pre_vote_answer_changes_nothing)
{
    struct group g;
    struct member *l = group_open(&g, 6);
    struct raft_message m = {.type = RAFT_REQUEST_VOTE_RESULT};
    uint64_t term;

    run(&g, 500);
    term = hf_consensus_term(l->c);
    m.request_vote_result =
        (struct raft_request_vote_result){.version = 2, .term = term + 1, .vote_granted = true, .pre_vote = true};
    for (unsigned i = 0; i < N; i++)
        hand_in(&g.m[i], (i + 1) % N + 1, &m);
    for (unsigned i = 0; i < N; i++)
        ck_assert_uint_eq(hf_consensus_term(g.m[i].c), term);
    run(&g, 3000);
    ck_assert_int_eq(hf_consensus_role(l->c), HF_ROLE_LEADER);
    ck_assert_uint_eq(hf_consensus_term(l->c), term);
    group_close(&g);
}
END_TEST

/* A member that has not heard yet what the others need (it just started, or the leader is new) keeps what any of them
 * may need: it may be the next leader, and this release sends no copies of the state. */
START_TEST(test_the_journal_is_not_cut_before_the_needs_of_others_are_known)
{
    struct group g;
    struct member *l = group_open(&g, 7), *f, *v;
    uint64_t needed;

    run(&g, 500);
    f = &g.m[(l->number + 1) % N];
    v = &g.m[(l->number + 2) % N];
    needed = v->delivered + 1;
    stop(&g, v->number);
    for (int i = 0; i < 200; i++) {
        submit(l, 1000);
        if (i % 20 == 0)
            run(&g, 20);
    }
    run(&g, 500);
    ck_assert_uint_eq(f->delivered, l->delivered);
    stop(&g, f->number);
    start(&g, f->number);
    for (int i = 0; i < 3000 && f->delivered < l->delivered; i++)
        run(&g, 1);
    ck_assert_uint_eq(f->delivered, l->delivered);
    for (unsigned i = 0; i < N; i++) { /* as if no word of a leader had come yet in this term */
        f->c->others[i].needs_from = f->delivered;
        f->c->others[i].needs_term = hf_consensus_term(f->c) - 1;
    }
    hf_consensus_state_durable(f->c, f->delivered, f->delivered_term, f->configuration_index,
                               hf_buf_slice(&f->configuration));
    run(&g, 50);
    ck_assert_uint_eq(f->c->marker.index, f->delivered);
    ck_assert_uint_le(hf_journal_first_index(f->c->journal), needed);
    group_close(&g);
}
END_TEST

static uint64_t messages_sent(struct member *m)
{
    return hf_counter_get(hf_stats_counter(m->stats, "peer_messages_sent_total", "channel=\"raft\"", ""));
}

/* R13: a vote leaves only when it is on the disk, and nothing else leaves before it. */
START_TEST(test_nothing_leaves_before_the_vote_is_stored)
{
    struct group g;
    struct member *l = group_open(&g, 8), *v;
    struct raft_message m = {.type = RAFT_REQUEST_VOTE};
    uint64_t sent, from;

    run(&g, 1000);
    v = &g.m[(l->number + 1) % N];
    from = (l->number + 2) % N + 1;
    m.request_vote = (struct raft_request_vote){.version = 2,
                                                .term = hf_consensus_term(v->c) + 1,
                                                .candidate_id = from,
                                                .last_log_index = 1000,
                                                .last_log_term = hf_consensus_term(v->c),
                                                .disrupt_leader = true};
    hf_sim_world_rules(g.w)->slow_job_per_mille = 1000;
    hf_sim_world_rules(g.w)->slow_job_us = 3000000;
    sent = messages_sent(v);
    ck_assert_uint_gt(sent, 0);
    hand_in(v, from, &m);
    ck_assert_uint_eq(raft_voted_for(&v->c->raft), from);
    run(&g, 2500);
    ck_assert_uint_eq(messages_sent(v), sent);
    run(&g, 1000);
    ck_assert_uint_gt(messages_sent(v), sent);
    hf_sim_world_rules(g.w)->slow_job_per_mille = 0;
    group_close(&g);
}
END_TEST

/* While a vote is being stored messages wait, but not without bound: they are dropped, and raft sends again. */
START_TEST(test_messages_that_wait_for_the_disk_are_bounded)
{
    struct group g;
    struct member *l = group_open(&g, 9), *v;
    struct raft_message m = {.type = RAFT_REQUEST_VOTE};

    run(&g, 1000);
    v = &g.m[(l->number + 1) % N];
    m.request_vote = (struct raft_request_vote){.version = 2,
                                                .term = hf_consensus_term(v->c) + 1,
                                                .candidate_id = l->number + 1,
                                                .last_log_index = 1000,
                                                .last_log_term = hf_consensus_term(v->c),
                                                .disrupt_leader = true};
    hf_sim_world_rules(g.w)->slow_job_per_mille = 1000;
    hf_sim_world_rules(g.w)->slow_job_us = 500000;
    hand_in(v, l->number + 1, &m);
    ck_assert(v->c->is_held);
    for (int i = 0; i < 30; i++) {
        submit(l, 1u << 20);
        run(&g, 5);
    }
    run(&g, 200);
    ck_assert(v->c->is_held);
    ck_assert_uint_gt(v->c->n_deferred, 5);
    size_t bytes = 0;
    for (const struct hf_deferred *d = v->c->deferred_head; d; d = d->next)
        bytes += d->len;
    ck_assert_uint_le(bytes, 17u << 20);
    hf_sim_world_rules(g.w)->slow_job_per_mille = 0;
    l = NULL;
    run(&g, 5000);
    l = leader(&g, 5000);
    run(&g, 1000);
    ck_assert_uint_eq(v->delivered, l->delivered);
    group_close(&g);
}
END_TEST

/* Pings are sent again while gates wait; the answers to the last ones may never come, although one before them
 * confirmed all. The next gate must not wait for them. */
START_TEST(test_lost_answers_do_not_close_the_gate_for_ever)
{
    struct group g;
    struct member *l = group_open(&g, 10);
    struct watched_gate first = {.gate = {.cb = on_gate}}, second = {.gate = {.cb = on_gate}};
    struct hf_buf pong = {0};
    uint64_t sequence;

    run(&g, 500);
    sequence = l->c->ping_sequence + 1;
    for (unsigned i = 0; i < N; i++)
        if (i != l->number)
            hf_sim_world_block(g.w, i, l->number, true);
    hf_consensus_gate(l->c, &first.gate);
    run(&g, 450);
    ck_assert(!first.is_done);
    ck_assert_int_eq(hf_consensus_role(l->c), HF_ROLE_LEADER);
    /* One answer comes through, the streams with all others break. */
    hf_buf_put_u64(&pong, hf_consensus_term(l->c));
    hf_buf_put_u64(&pong, sequence);
    hf_buf_put_u8(&pong, 1);
    hf_consensus_dispatch(l->c, (l->number + 1) % N + 1, HF_MSG_PONG, hf_buf_slice(&pong));
    hf_buf_free(&pong);
    ck_assert(first.is_done);
    ck_assert_int_eq(first.rc, 0);
    hf_consensus_gate(l->c, &second.gate);
    run(&g, 1);
    ck_assert_ptr_null(l->c->gates_new);
    hf_sim_world_heal(g.w);
    run(&g, 300);
    ck_assert(second.is_done);
    ck_assert_int_eq(second.rc, 0);
    group_close(&g);
}
END_TEST

/* R23: a leader whose disk hangs goes silent, so that the others elect one whose disk works. */
START_TEST(test_a_leader_whose_disk_hangs_is_replaced)
{
    struct group g;
    struct member *l = group_open(&g, 11);

    run(&g, 500);
    hf_sim_world_rules(g.w)->slow_job_per_mille = 1000;
    hf_sim_world_rules(g.w)->slow_job_us = 20000000;
    submit(l, 100);
    run(&g, 0);
    hf_sim_world_rules(g.w)->slow_job_per_mille = 0;
    run(&g, 6000);
    ck_assert_int_ne(hf_consensus_role(l->c), HF_ROLE_LEADER);
    ck_assert_ptr_ne(leader(&g, 1), l);
    group_close(&g);
}
END_TEST

Suite *rules_suite(void)
{
    Suite *s = suite_create("rules");
    TCase *t = tcase_create("schedules");

    tcase_set_timeout(t, 120);
    tcase_add_test(t, test_a_deposed_leader_says_so_before_its_term_is_stored);
    tcase_add_test(t, test_nothing_leaves_before_the_vote_is_stored);
    tcase_add_test(t, test_messages_that_wait_for_the_disk_are_bounded);
    tcase_add_test(t, test_lost_answers_do_not_close_the_gate_for_ever);
    tcase_add_test(t, test_a_leader_whose_disk_hangs_is_replaced);
    tcase_add_test(t, test_a_late_pre_vote_answer_changes_nothing);
    tcase_add_test(t, test_the_journal_is_not_cut_before_the_needs_of_others_are_known);
    suite_add_tcase(s, t);
    return s;
}
