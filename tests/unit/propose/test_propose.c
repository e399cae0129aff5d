/* The proposer over a consensus and a state that do what the test says: batching, what becomes of a proposal, the
 * window, back-pressure, ticks. */
#include "doubles.h"
#include "suites.h"

#include "base/mem.h"
#include "propose/propose.h"

#include <stdio.h>

static struct test_env te;
static struct hf_consensus consensus;
static struct hf_state state;
static struct hf_stats *stats;
static struct hf_proposer *p;
static struct hf_plan plan;

struct asked {
    struct hf_propose_req req;
    int calls;
    enum hf_fate fate;
    char reply[64];
    uint64_t order;
    bool proposes_again;
    struct asked *again;
};
static uint64_t next_order;
static struct asked asked[512];

static void on_fate(struct hf_propose_req *req, enum hf_fate fate, struct hf_slice reply)
{
    struct asked *a = req->data;

    a->calls++;
    a->fate = fate;
    a->order = ++next_order;
    if (reply.len > 5) /* a status: tag, u32 length, text */
        snprintf(a->reply, sizeof a->reply, "%.*s", (int)(reply.len - 5), (const char *)reply.ptr + 5);
    if (a->again) {
        a->again->req.data = a->again;
        a->again->req.cb = on_fate;
        ck_assert_int_eq(hf_propose(p, &a->again->req, &plan), HF_E_NOT_LEADER);
    }
}

static int ask(struct asked *a)
{
    memset(a, 0, sizeof *a);
    a->req.data = a;
    a->req.cb = on_fate;
    return hf_propose(p, &a->req, &plan);
}

static void must_ask(struct asked *a)
{
    ck_assert_int_eq(ask(a), 0);
}

static bool on_commit(void *data, struct hf_log_entry *e)
{
    (void)data;
    return hf_propose_on_commit(p, e);
}

static struct hf_proposer_config default_config(void)
{
    struct hf_proposer_config config = {.entry_bytes_max = 4096,
                                        .entries_in_flight = 4,
                                        .queue_bytes_max = 1 << 20,
                                        .unknown_timeout_ms = 1000,
                                        .state_queue_bytes_max = 1 << 20,
                                        .seed = 7};
    return config;
}

static void begin_with(const struct hf_proposer_config *config)
{
    test_env_init(&te);
    test_consensus_init(&consensus, &te);
    test_state_init(&state);
    stats = hf_stats_new();
    ck_assert_int_eq(hf_proposer_open(&te.env, config, &consensus, &state, stats, 0, &p), 0);
    consensus.on_commit = on_commit;
    memset(&plan, 0, sizeof plan);
    memset(asked, 0, sizeof asked);
    plan.op = 1;
    hf_buf_put(&plan.payload, "payload", 7);
    next_order = 0;
}

static void begin(void)
{
    struct hf_proposer_config config = default_config();

    begin_with(&config);
}

static void lead(uint64_t term)
{
    consensus.role = HF_ROLE_LEADER;
    consensus.term = term;
    hf_propose_on_role(p, HF_ROLE_LEADER, term);
    test_env_turn(&te);
}

static void lose(uint64_t term)
{
    consensus.role = HF_ROLE_FOLLOWER;
    consensus.term = term;
    hf_propose_on_role(p, HF_ROLE_FOLLOWER, term);
    test_env_turn(&te);
}

static void end(void)
{
    hf_proposer_close(p);
    test_state_apply(&state, UINT32_MAX);
    test_env_turn(&te);
    test_consensus_free(&consensus);
    hf_stats_free(stats);
    hf_plan_free(&plan);
    test_env_free(&te);
}

static struct hf_entry_header header_at(uint64_t index)
{
    struct hf_entry_header h;
    struct hf_log_entry *e = consensus.log[index];

    ck_assert_int_eq(hf_entry_peek(&h, hf_slice(e->data, e->len)), 0);
    return h;
}

/* Commands of one loop turn make one entry, are answered in order, each with its own reply. */
START_TEST(test_commands_of_a_turn_share_an_entry)
{
    begin();
    lead(3);
    for (int i = 0; i < 10; i++)
        must_ask(&asked[i]);
    ck_assert_uint_eq(consensus.last_index, 0);
    test_env_turn(&te);
    ck_assert_uint_eq(consensus.last_index, 1);
    ck_assert_uint_eq(header_at(1).count, 10);
    test_consensus_commit(&consensus, 1);
    ck_assert_int_eq(asked[0].calls, 0);
    test_state_apply(&state, 1);
    for (int i = 0; i < 10; i++) {
        char expected[64];

        snprintf(expected, sizeof expected, "1.%d", i);
        ck_assert_int_eq(asked[i].calls, 1);
        ck_assert_int_eq(asked[i].fate, HF_FATE_APPLIED);
        ck_assert_str_eq(asked[i].reply, expected);
        ck_assert_uint_eq(asked[i].order, (uint64_t)i + 1);
    }
    ck_assert_uint_eq(hf_propose_queued_bytes(p), 0);
    end();
}
END_TEST

/* While the window is full commands gather in one batch, which goes when an entry commits. */
START_TEST(test_full_window_gathers_commands)
{
    begin();
    lead(1);
    for (int i = 0; i < 8; i++) {
        must_ask(&asked[i]);
        test_env_turn(&te);
    }
    ck_assert_uint_eq(consensus.last_index, 4);
    test_consensus_commit(&consensus, 1);
    test_env_turn(&te);
    ck_assert_uint_eq(consensus.last_index, 5);
    ck_assert_uint_eq(header_at(5).count, 4);
    test_consensus_commit(&consensus, 5);
    test_state_apply(&state, UINT32_MAX);
    for (int i = 0; i < 8; i++)
        ck_assert_int_eq(asked[i].fate, HF_FATE_APPLIED);
    ck_assert_str_eq(asked[7].reply, "5.3");
    end();
}
END_TEST

/* An entry is closed at its size; a command larger than that goes alone. */
START_TEST(test_entry_size_is_bounded)
{
    struct hf_proposer_config config = default_config();
    static uint8_t large[1000];

    config.entry_bytes_max = 200;
    config.entries_in_flight = 100;
    begin_with(&config);
    lead(1);
    for (int i = 0; i < 30; i++)
        must_ask(&asked[i]);
    hf_buf_put(&plan.payload, large, sizeof large);
    must_ask(&asked[30]);
    plan.payload.len = 7;
    must_ask(&asked[31]);
    test_env_turn(&te);
    for (uint64_t i = 1; i <= consensus.last_index; i++)
        if (header_at(i).count > 1)
            ck_assert_uint_le(consensus.log[i]->len, 200);
    ck_assert_uint_eq(header_at(consensus.last_index - 1).count, 1);
    ck_assert_uint_gt(consensus.log[consensus.last_index - 1]->len, 1000);
    test_consensus_commit(&consensus, 100);
    test_state_apply(&state, UINT32_MAX);
    for (int i = 0; i < 32; i++) {
        ck_assert_int_eq(asked[i].fate, HF_FATE_APPLIED);
        ck_assert_uint_eq(asked[i].order, (uint64_t)i + 1);
    }
    end();
}
END_TEST

/* More than that is not held: BUSY, and room again once entries were applied. */
START_TEST(test_queue_is_bounded)
{
    struct hf_proposer_config config = default_config();
    int n = 0;

    config.queue_bytes_max = 500;
    begin_with(&config);
    lead(1);
    while (ask(&asked[n]) == 0)
        n++;
    ck_assert_int_gt(n, 20);
    ck_assert_int_lt(n, 100);
    ck_assert_int_eq(ask(&asked[n]), HF_E_BUSY);
    test_env_turn(&te);
    ck_assert_int_eq(ask(&asked[n]), HF_E_BUSY);
    test_consensus_commit(&consensus, 1);
    ck_assert_int_eq(ask(&asked[n]), HF_E_BUSY);
    test_state_apply(&state, 1);
    must_ask(&asked[n]);
    end();
    ck_assert_int_eq(asked[n].fate, HF_FATE_REFUSED);
}
END_TEST

/* Another leader's entry at the index of ours: ours did not happen (R21). */
START_TEST(test_overwritten_entry_is_refused)
{
    begin();
    lead(1);
    must_ask(&asked[0]);
    test_env_turn(&te);
    must_ask(&asked[1]);
    test_env_turn(&te);
    lose(2);
    ck_assert_int_eq(asked[0].calls, 0);
    test_consensus_commit(&consensus, 1); /* the first one survived */
    test_consensus_overwrite(&consensus, 2, 2);
    test_consensus_commit(&consensus, 2);
    test_state_apply(&state, UINT32_MAX);
    ck_assert_int_eq(asked[0].fate, HF_FATE_APPLIED);
    ck_assert_str_eq(asked[0].reply, "1.0");
    ck_assert_int_eq(asked[1].calls, 1);
    ck_assert_int_eq(asked[1].fate, HF_FATE_REFUSED);
    end();
    ck_assert_int_eq(asked[0].calls, 1);
}
END_TEST

/* The same index proposed in two reigns: each proposal finds its own fate. */
START_TEST(test_same_index_in_two_reigns)
{
    begin();
    lead(1);
    must_ask(&asked[0]);
    test_env_turn(&te);
    must_ask(&asked[1]);
    test_env_turn(&te);
    lose(2);
    test_consensus_overwrite(&consensus, 1, 2);
    lead(3);
    must_ask(&asked[2]);
    test_env_turn(&te);
    ck_assert_uint_eq(consensus.last_index, 2);
    test_consensus_commit(&consensus, 2);
    test_state_apply(&state, UINT32_MAX);
    ck_assert_int_eq(asked[0].fate, HF_FATE_REFUSED);
    ck_assert_int_eq(asked[1].fate, HF_FATE_REFUSED);
    ck_assert_int_eq(asked[2].fate, HF_FATE_APPLIED);
    end();
}
END_TEST

/* Loss of leadership: what was not submitted did not happen and is told so at once; what was waits for its fate. */
START_TEST(test_loss_refuses_only_what_was_not_submitted)
{
    struct hf_proposer_config config = default_config();

    config.entries_in_flight = 1;
    begin_with(&config);
    lead(1);
    must_ask(&asked[0]);
    test_env_turn(&te);
    must_ask(&asked[1]);
    test_env_turn(&te);
    asked[1].again = &asked[2];
    lose(2);
    ck_assert_int_eq(asked[1].calls, 1);
    ck_assert_int_eq(asked[1].fate, HF_FATE_REFUSED);
    ck_assert_int_eq(asked[0].calls, 0);
    ck_assert_int_eq(ask(&asked[3]), HF_E_NOT_LEADER);
    test_consensus_commit(&consensus, 1);
    test_state_apply(&state, 1);
    ck_assert_int_eq(asked[0].fate, HF_FATE_APPLIED);
    end();
}
END_TEST

/* A change of term without a word of the loss in between ends the reign too. */
START_TEST(test_new_term_refuses_what_was_queued)
{
    struct hf_proposer_config config = default_config();

    config.entries_in_flight = 1;
    begin_with(&config);
    lead(1);
    must_ask(&asked[0]);
    test_env_turn(&te);
    must_ask(&asked[1]);
    lead(5);
    ck_assert_int_eq(asked[1].fate, HF_FATE_REFUSED);
    /* The window is empty again: the old reign's entry does not count. */
    must_ask(&asked[2]);
    test_env_turn(&te);
    ck_assert_uint_eq(consensus.last_index, 2);
    end();
}
END_TEST

/* No commit in time: UNKNOWN, and a commit afterwards finds nobody. */
START_TEST(test_no_commit_in_time_is_unknown)
{
    begin();
    lead(1);
    must_ask(&asked[0]);
    test_env_turn(&te);
    test_env_pass(&te, 500);
    must_ask(&asked[1]);
    test_env_turn(&te);
    test_env_pass(&te, 490);
    ck_assert_int_eq(asked[0].calls, 0);
    test_env_pass(&te, 20);
    ck_assert_int_eq(asked[0].fate, HF_FATE_UNKNOWN);
    ck_assert_int_eq(asked[1].calls, 0);
    test_consensus_commit(&consensus, 2);
    ck_assert(!state.entries->wants_replies);
    test_state_apply(&state, UINT32_MAX);
    ck_assert_int_eq(asked[0].calls, 1);
    ck_assert_int_eq(asked[1].fate, HF_FATE_APPLIED);
    ck_assert_uint_eq(hf_counter_get(hf_stats_counter(stats, "unknown_outcomes_total", NULL, "")), 1);
    end();
}
END_TEST

/* Committed entries that wait for the state are never unknown, however long they wait. */
START_TEST(test_committed_entry_does_not_time_out)
{
    begin();
    lead(1);
    must_ask(&asked[0]);
    test_env_turn(&te);
    test_consensus_commit(&consensus, 1);
    test_env_pass(&te, 10000);
    ck_assert_int_eq(asked[0].calls, 0);
    test_state_apply(&state, 1);
    ck_assert_int_eq(asked[0].fate, HF_FATE_APPLIED);
    end();
}
END_TEST

/* Our index went by without us (a snapshot took the log's place): nobody knows. */
START_TEST(test_skipped_index_is_unknown)
{
    begin();
    lead(1);
    must_ask(&asked[0]);
    test_env_turn(&te);
    lose(2);
    consensus.delivered_index = 1;
    state.applied_index = 1;
    test_consensus_overwrite(&consensus, 2, 2);
    test_consensus_commit(&consensus, 2);
    ck_assert_int_eq(asked[0].fate, HF_FATE_UNKNOWN);
    end();
}
END_TEST

/* The nonce names the proposal: what stands at our place without it is not ours, and nobody knows about ours. */
START_TEST(test_foreign_nonce_is_unknown)
{
    struct hf_entry_writer w = {0};

    begin();
    lead(1);
    must_ask(&asked[0]);
    test_env_turn(&te);
    hf_log_entry_unref(consensus.log[1]);
    hf_entry_begin(&w);
    ck_assert(hf_entry_add(&w, 1, hf_slice("x", 1)));
    consensus.log[1] = hf_entry_finish(&w, 99, 123456, 1);
    consensus.log[1]->index = consensus.log[1]->term = 1;
    hf_entry_writer_free(&w);
    test_consensus_commit(&consensus, 1);
    test_state_apply(&state, 1);
    ck_assert_int_eq(asked[0].calls, 1);
    ck_assert_int_eq(asked[0].fate, HF_FATE_UNKNOWN);
    end();
}
END_TEST

/* Leadership is being handed over: commands wait, and go when it failed, or are refused when it did not. */
START_TEST(test_transfer_holds_commands)
{
    begin();
    lead(1);
    consensus.submit_rc = HF_E_AGAIN;
    must_ask(&asked[0]);
    test_env_turn(&te);
    must_ask(&asked[1]);
    test_env_pass(&te, 100);
    ck_assert_int_eq(asked[0].calls, 0);
    ck_assert_uint_lt(consensus.submits, 20);
    consensus.submit_rc = 0;
    test_env_pass(&te, 20);
    ck_assert_uint_eq(consensus.last_index, 2);
    test_consensus_commit(&consensus, 2);
    test_state_apply(&state, 2);
    ck_assert_int_eq(asked[0].fate, HF_FATE_APPLIED);
    ck_assert_int_eq(asked[1].fate, HF_FATE_APPLIED);
    consensus.submit_rc = HF_E_AGAIN;
    must_ask(&asked[2]);
    test_env_turn(&te);
    lose(2);
    ck_assert_int_eq(asked[2].fate, HF_FATE_REFUSED);
    end();
}
END_TEST

/* The core does not lead any more and says so before the role is told: refused, once, without a busy loop. */
START_TEST(test_submit_not_leader_refuses)
{
    begin();
    lead(1);
    consensus.submit_rc = HF_E_NOT_LEADER;
    must_ask(&asked[0]);
    must_ask(&asked[1]);
    asked[0].again = &asked[2];
    test_env_turn(&te);
    ck_assert_int_eq(asked[0].fate, HF_FATE_REFUSED);
    ck_assert_int_eq(asked[1].fate, HF_FATE_REFUSED);
    ck_assert_uint_eq(consensus.submits, 1);
    ck_assert_int_eq(ask(&asked[3]), HF_E_NOT_LEADER);
    /* If no news of the role come it is tried again. */
    consensus.submit_rc = 0;
    test_env_pass(&te, 20);
    must_ask(&asked[4]);
    test_env_turn(&te);
    ck_assert_uint_eq(consensus.last_index, 1);
    end();
}
END_TEST

/* A full state queue pauses delivery, at half of it delivery goes on. */
START_TEST(test_full_state_queue_pauses_delivery)
{
    struct hf_proposer_config config = default_config();

    config.state_queue_bytes_max = 200;
    config.entries_in_flight = 100;
    begin_with(&config);
    lead(1);
    for (int i = 0; i < 20; i++) {
        must_ask(&asked[i]);
        test_env_turn(&te);
    }
    test_consensus_commit(&consensus, 20);
    ck_assert(consensus.is_paused);
    ck_assert_uint_lt(consensus.delivered_index, 20);
    ck_assert_uint_gt(state.queued_bytes, 200);
    test_state_apply(&state, 1);
    test_env_turn(&te);
    ck_assert_uint_eq(consensus.resumes, 0);
    while (state.queued_bytes > 100) {
        ck_assert_uint_eq(consensus.resumes, 0);
        test_state_apply(&state, 1);
        test_env_turn(&te);
    }
    ck_assert_uint_eq(consensus.resumes, 1);
    while (consensus.delivered_index < 20) {
        test_consensus_commit(&consensus, 20);
        test_state_apply(&state, UINT32_MAX);
        test_env_turn(&te);
    }
    test_state_apply(&state, UINT32_MAX);
    for (int i = 0; i < 20; i++)
        ck_assert_int_eq(asked[i].fate, HF_FATE_APPLIED);
    end();
}
END_TEST

/* A follower hands everything on, and its clock is log time as applied. */
START_TEST(test_follower_passes_entries_on)
{
    struct hf_entry_writer w = {0};

    begin();
    lose(4);
    hf_entry_begin(&w);
    ck_assert(hf_entry_add(&w, 1, hf_slice("x", 1)));
    consensus.log[1] = hf_entry_finish(&w, 99, 123456, 1);
    consensus.log[1]->index = consensus.last_index = 1;
    consensus.log[1]->term = 4;
    hf_entry_writer_free(&w);
    test_consensus_commit(&consensus, 1);
    ck_assert_uint_eq(state.n_entries, 1);
    ck_assert(!state.entries->wants_replies);
    ck_assert_int_eq(hf_propose_clock_ms(p), 0);
    test_state_apply(&state, 1);
    ck_assert_int_eq(hf_propose_clock_ms(p), 123456);
    end();
}
END_TEST

/* Stamps follow the log clock, never behind an entry that was delivered before; seeds and nonces differ. */
START_TEST(test_stamps_rise)
{
    begin();
    lead(1);
    must_ask(&asked[0]);
    test_env_turn(&te);
    te.wall_ms -= 3600000;
    test_env_pass(&te, 10);
    must_ask(&asked[1]);
    test_env_turn(&te);
    ck_assert_int_gt(header_at(2).stamp_ms, header_at(1).stamp_ms);
    ck_assert_int_le(header_at(2).stamp_ms, header_at(1).stamp_ms + 11);
    ck_assert_uint_ne(header_at(1).nonce, header_at(2).nonce);
    ck_assert_uint_ne(header_at(1).seed, header_at(2).seed);
    test_consensus_commit(&consensus, 2);
    lose(2);
    lead(3);
    ck_assert_int_ge(hf_propose_clock_ms(p), header_at(2).stamp_ms);
    end();
}
END_TEST

/* A copy of the state brings its log time along: a leader of later never stamps behind it. Earlier ones change nothing.
 */
START_TEST(test_swap_moves_log_time)
{
    int64_t ahead;

    begin();
    ahead = te.wall_ms + 3600000;
    hf_propose_on_swap(p, ahead);
    ck_assert_int_eq(hf_propose_clock_ms(p), ahead);
    hf_propose_on_swap(p, 5);
    ck_assert_int_eq(hf_propose_clock_ms(p), ahead);
    lead(1);
    must_ask(&asked[0]);
    test_env_turn(&te);
    ck_assert_int_ge(header_at(1).stamp_ms, ahead);
    hf_propose_on_swap(p, ahead + 1000000);
    ck_assert_int_ge(hf_propose_clock_ms(p), ahead + 1000000);
    end();
}
END_TEST

/* Ticks: requests share an entry; with commands they ride on theirs; an empty one moves log time only. */
START_TEST(test_ticks_share_an_entry)
{
    begin();
    lead(1);
    for (int i = 0; i < 3; i++) {
        asked[i].req.data = &asked[i];
        asked[i].req.cb = on_fate;
        ck_assert_int_eq(hf_propose_tick(p, &asked[i].req), 0);
    }
    test_env_turn(&te);
    ck_assert_uint_eq(consensus.last_index, 1);
    ck_assert_uint_eq(header_at(1).count, 0);
    asked[3].req.data = &asked[3];
    asked[3].req.cb = on_fate;
    ck_assert_int_eq(hf_propose_tick(p, &asked[3].req), 0);
    must_ask(&asked[4]);
    test_env_turn(&te);
    ck_assert_uint_eq(consensus.last_index, 2);
    ck_assert_uint_eq(header_at(2).count, 1);
    test_consensus_commit(&consensus, 2);
    test_state_apply(&state, 2);
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq(asked[i].fate, HF_FATE_APPLIED);
    ck_assert_str_eq(asked[4].reply, "2.0");
    end();
}
END_TEST

/* A key is due: the leader proposes one tick when the clock is there, not before, and the next only after it. */
START_TEST(test_due_keys_make_the_leader_tick)
{
    int64_t due_ms;

    begin();
    lead(1);
    due_ms = hf_propose_clock_ms(p) + 5000;
    hf_propose_on_next_due(p, due_ms);
    test_env_pass(&te, 4900);
    ck_assert_uint_eq(consensus.last_index, 0);
    test_env_pass(&te, 150);
    ck_assert_uint_eq(consensus.last_index, 1);
    ck_assert_uint_eq(header_at(1).count, 0);
    ck_assert_int_ge(header_at(1).stamp_ms, due_ms);
    test_env_pass(&te, 300);
    ck_assert_uint_eq(consensus.last_index, 1);
    test_consensus_commit(&consensus, 1);
    test_state_apply(&state, 1);
    /* More than one entry's share is due: the due time did not change. */
    test_env_turn(&te);
    ck_assert_uint_eq(consensus.last_index, 2);
    test_consensus_commit(&consensus, 2);
    test_state_apply(&state, 1);
    hf_propose_on_next_due(p, 0);
    test_env_pass(&te, 60000);
    ck_assert_uint_eq(consensus.last_index, 2);
    end();
}
END_TEST

/* A follower never ticks; when it becomes leader it catches up with what is due. */
START_TEST(test_only_the_leader_ticks)
{
    begin();
    lose(1);
    hf_propose_on_next_due(p, 1000);
    test_env_pass(&te, 10000);
    ck_assert_uint_eq(consensus.submits, 0);
    lead(2);
    ck_assert_uint_eq(consensus.last_index, 1);
    end();
}
END_TEST

/* Closing tells everyone exactly once: submitted UNKNOWN, waiting REFUSED, also what lies in the state's queue. */
START_TEST(test_close_tells_everyone)
{
    struct hf_proposer_config config = default_config();

    config.entries_in_flight = 2;
    begin_with(&config);
    lead(1);
    for (int i = 0; i < 4; i++) {
        must_ask(&asked[i]);
        test_env_turn(&te);
        if (i == 0)
            test_consensus_commit(&consensus, 1);
    }
    end();
    ck_assert_int_eq(asked[0].fate, HF_FATE_UNKNOWN);
    ck_assert_int_eq(asked[1].fate, HF_FATE_UNKNOWN);
    ck_assert_int_eq(asked[2].fate, HF_FATE_UNKNOWN);
    ck_assert_int_eq(asked[3].fate, HF_FATE_REFUSED);
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(asked[i].calls, 1);
}
END_TEST

Suite *propose_suite(void)
{
    Suite *s = suite_create("propose");
    TCase *t = tcase_create("propose");

    tcase_add_test(t, test_commands_of_a_turn_share_an_entry);
    tcase_add_test(t, test_full_window_gathers_commands);
    tcase_add_test(t, test_entry_size_is_bounded);
    tcase_add_test(t, test_queue_is_bounded);
    tcase_add_test(t, test_overwritten_entry_is_refused);
    tcase_add_test(t, test_same_index_in_two_reigns);
    tcase_add_test(t, test_loss_refuses_only_what_was_not_submitted);
    tcase_add_test(t, test_new_term_refuses_what_was_queued);
    tcase_add_test(t, test_no_commit_in_time_is_unknown);
    tcase_add_test(t, test_committed_entry_does_not_time_out);
    tcase_add_test(t, test_skipped_index_is_unknown);
    tcase_add_test(t, test_foreign_nonce_is_unknown);
    tcase_add_test(t, test_transfer_holds_commands);
    tcase_add_test(t, test_submit_not_leader_refuses);
    tcase_add_test(t, test_full_state_queue_pauses_delivery);
    tcase_add_test(t, test_follower_passes_entries_on);
    tcase_add_test(t, test_stamps_rise);
    tcase_add_test(t, test_swap_moves_log_time);
    tcase_add_test(t, test_ticks_share_an_entry);
    tcase_add_test(t, test_due_keys_make_the_leader_tick);
    tcase_add_test(t, test_only_the_leader_ticks);
    tcase_add_test(t, test_close_tells_everyone);
    suite_add_tcase(s, t);
    return s;
}
