/* The dispatcher over a real proposer and real proxies, with doubles of consensus, state and links: the order of a
 * lane, the three ways of a command, what comes back and what is given up. */
#include "fixture.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/util.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- on the leader ------------------------------------------------------------------------------------ */

/* Writes of a turn share an entry, whatever lane they come from; the callback never comes from inside submit. */
START_TEST(test_writes_share_an_entry)
{
    struct hf_lane *a, *b;
    struct request *r[4];

    begin();
    role(HF_ROLE_LEADER, 1, 1);
    a = hf_lane_open(d);
    b = hf_lane_open(d);
    r[0] = submit(a, "set a 1");
    r[1] = submit(a, "set a 2");
    r[2] = submit(b, "set b 1");
    r[3] = submit(b, "set b 2");
    test_env_turn(&te);
    ck_assert_uint_eq(consensus.last_index, 1);
    ck_assert_int_eq(r[0]->calls, 0);
    commit_all();
    ck_assert_uint_lt(r[0]->order, r[1]->order);
    check_done(r[0], "1.0");
    check_done(r[1], "1.1");
    check_done(r[2], "1.2");
    check_done(r[3], "1.3");
    hf_lane_close(a, release);
    hf_lane_close(b, release);
    finish();
}
END_TEST

/* R2: a read behind a write waits until it is applied; a write behind a read waits until that is answered. */
START_TEST(test_reads_and_writes_of_a_lane_take_turns)
{
    struct hf_lane *lane;
    struct request *r[6];

    begin();
    role(HF_ROLE_LEADER, 1, 1);
    lane = hf_lane_open(d);
    r[0] = submit(lane, "set a 1");
    r[1] = submit(lane, "get a");
    r[2] = submit(lane, "get a");
    r[3] = submit(lane, "set a 2");
    r[4] = submit(lane, "set a 3");
    r[5] = submit(lane, "get a");
    test_env_turn(&te);
    ck_assert_uint_eq(consensus.last_index, 1);
    ck_assert_uint_eq(consensus.n_gates, 0);
    test_consensus_commit(&consensus, 1);
    test_env_turn(&te);
    ck_assert_uint_eq(consensus.n_gates, 0); /* committed is not applied */
    test_state_apply(&state, 1);
    test_env_turn(&te);
    ck_assert_int_eq(r[0]->calls, 1);
    ck_assert_uint_eq(consensus.n_gates, 1); /* both reads */
    ck_assert_uint_eq(consensus.last_index, 1);
    test_consensus_answer_gates(&consensus, 0);
    test_env_turn(&te);
    ck_assert_uint_eq(state.n_reads, 2);
    ck_assert_uint_eq(consensus.last_index, 1);
    test_state_answer_reads(&state);
    test_env_turn(&te);
    ck_assert_int_eq(r[2]->calls, 1);
    ck_assert_uint_eq(consensus.last_index, 2); /* both writes */
    ck_assert_uint_eq(consensus.n_gates, 1);
    settle();
    for (int i = 0; i < 5; i++)
        ck_assert_uint_lt(r[i]->order, r[i + 1]->order);
    check_done(r[0], "1.0");
    check_done(r[1], "read");
    check_done(r[2], "read");
    check_done(r[3], "2.0");
    check_done(r[4], "2.1");
    check_done(r[5], "read");
    hf_lane_close(lane, release);
    finish();
}
END_TEST

/* Other lanes do not wait for that. Reads of a turn share a gate over all lanes. */
START_TEST(test_lanes_do_not_wait_for_each_other)
{
    struct hf_lane *a, *b, *c;
    struct request *r[3];

    begin();
    role(HF_ROLE_LEADER, 1, 1);
    a = hf_lane_open(d);
    b = hf_lane_open(d);
    c = hf_lane_open(d);
    r[0] = submit(a, "set a 1");
    r[1] = submit(b, "get a");
    r[2] = submit(c, "get a");
    test_env_turn(&te);
    ck_assert_uint_eq(consensus.n_gates, 1);
    test_consensus_answer_gates(&consensus, 0);
    test_state_answer_reads(&state);
    test_env_turn(&te);
    check_done(r[1], "read");
    check_done(r[2], "read");
    settle();
    check_done(r[0], "1.0");
    hf_lane_close(a, release);
    hf_lane_close(b, release);
    hf_lane_close(c, release);
    finish();
}
END_TEST

/* A plan's refusal is the answer; nothing is proposed. */
START_TEST(test_plan_refusal)
{
    struct hf_lane *lane;
    struct request *r;

    begin();
    role(HF_ROLE_LEADER, 1, 1);
    lane = hf_lane_open(d);
    r = submit(lane, "incrby a x");
    ck_assert_int_eq(r->calls, 0);
    test_env_turn(&te);
    check_done(r, HF_ERR_NOT_INTEGER);
    ck_assert_uint_eq(consensus.submits, 0);
    hf_lane_close(lane, release);
    finish();
}
END_TEST

/* Low on space: what may grow the state is refused, deletions and reads go on. */
START_TEST(test_writes_refused_for_space)
{
    struct hf_lane *lane;
    struct request *r[3];

    begin();
    role(HF_ROLE_LEADER, 1, 1);
    hf_dispatcher_refuse_writes(d, "NOSPACE disk low");
    lane = hf_lane_open(d);
    r[0] = submit(lane, "set a 1");
    r[1] = submit(lane, "del a");
    r[2] = submit(lane, "get a");
    settle();
    check_done(r[0], "NOSPACE disk low");
    check_done(r[1], "1.0");
    check_done(r[2], "read");
    hf_dispatcher_refuse_writes(d, NULL);
    r[0] = submit(lane, "set a 1");
    settle();
    check_done(r[0], "2.0");
    hf_lane_close(lane, release);
    finish();
}
END_TEST

static uint32_t n_needs_tick;

/* Due by the clock of the read, not yet by log time. */
static void answer_when_expired(struct hf_state *st, struct hf_state_read *read)
{
    ck_assert_int_gt(read->clock_ms, 0);
    if (st->log_time_ms < read->clock_ms) {
        read->needs_tick = true;
        n_needs_tick++;
    } else {
        hf_reply_null(&read->reply);
    }
}

/* R4: such a read makes the leader tick, and is answered after it. */
START_TEST(test_read_of_a_due_key_waits_for_a_tick)
{
    struct hf_lane *lane;
    struct request *r, *w;

    begin();
    role(HF_ROLE_LEADER, 1, 1);
    state.on_read = answer_when_expired;
    n_needs_tick = 0;
    lane = hf_lane_open(d);
    r = submit(lane, "get a");
    w = submit(lane, "set a 1");
    test_env_turn(&te);
    test_consensus_answer_gates(&consensus, 0);
    test_state_answer_reads(&state);
    test_env_turn(&te);
    ck_assert_uint_eq(n_needs_tick, 1);
    ck_assert_uint_eq(consensus.last_index, 1); /* the tick, not the write behind the read */
    ck_assert_int_eq(r->calls, 0);
    commit_all();
    test_state_answer_reads(&state);
    test_env_turn(&te);
    ck_assert_uint_eq(consensus.n_gates, 1);
    check_done(r, "");
    settle();
    check_done(w, "2.0");
    hf_lane_close(lane, release);
    finish();
}
END_TEST

/* Leadership goes while the tick is on its way: the read runs elsewhere. */
START_TEST(test_refused_tick_reroutes_the_read)
{
    struct hf_lane *lane;
    struct request *r;

    begin();
    role(HF_ROLE_LEADER, 1, 1);
    state.on_read = answer_when_expired;
    lane = hf_lane_open(d);
    r = submit(lane, "get a");
    test_env_turn(&te);
    test_consensus_answer_gates(&consensus, 0);
    consensus.submit_rc = HF_E_AGAIN;
    test_state_answer_reads(&state);
    test_env_turn(&te);
    role(HF_ROLE_FOLLOWER, 2, 2);
    carry();
    ck_assert_uint_eq(n_arrived, 1);
    answer(0);
    carry();
    check_done(r, "get a");
    hf_lane_close(lane, release);
    finish();
}
END_TEST

/* A submitted write without a commit is UNKNOWN; the lane goes on after that, not before. */
START_TEST(test_unknown_write_releases_the_lane)
{
    struct hf_lane *lane;
    struct request *w, *r;

    begin();
    role(HF_ROLE_LEADER, 1, 1);
    lane = hf_lane_open(d);
    w = submit(lane, "set a 1");
    r = submit(lane, "get a");
    test_env_turn(&te);
    role(HF_ROLE_FOLLOWER, 2, 2);
    test_env_pass(&te, 2900);
    carry();
    ck_assert_int_eq(w->calls, 0);
    ck_assert_uint_eq(n_arrived, 0); /* R3: nothing of the lane is forwarded meanwhile */
    test_env_pass(&te, 200);
    carry();
    check_prefix(w, "UNKNOWN ");
    ck_assert_uint_eq(n_arrived, 1);
    answer(0);
    carry();
    check_done(r, "get a");
    hf_lane_close(lane, release);
    finish();
}
END_TEST

/* Back-pressure: the queue is full, lanes wait and say so; all get through in their order. */
START_TEST(test_full_queue_makes_lanes_wait)
{
    struct hf_lane *lanes[4];
    struct request *r[4][30];

    begin_with(600, 1000);
    role(HF_ROLE_LEADER, 1, 1);
    for (int i = 0; i < 4; i++) {
        lanes[i] = hf_lane_open(d);
        hf_lane_set_ready_cb(lanes[i], on_ready, NULL);
        for (int k = 0; k < 30; k++)
            r[i][k] = submit(lanes[i], "set key value");
    }
    ck_assert(!hf_lane_is_full(lanes[3]));
    test_env_turn(&te);
    ck_assert(hf_lane_is_full(lanes[3]));
    ck_assert_uint_le(hf_propose_queued_bytes(proposer), 700);
    settle();
    ck_assert(!hf_lane_is_full(lanes[3]));
    ck_assert_uint_ge(n_ready, 4);
    for (int i = 0; i < 4; i++) {
        for (int k = 0; k < 30; k++) {
            ck_assert_int_eq(r[i][k]->calls, 1);
            if (k > 0)
                ck_assert_uint_gt(r[i][k]->order, r[i][k - 1]->order);
        }
        for (int k = 0; k < 30; k++)
            hf_free(r[i][k]);
        hf_lane_close(lanes[i], release);
    }
    finish();
}
END_TEST

/* A lane with many commands says that it is full, and when it is not any more. */
START_TEST(test_full_lane)
{
    struct hf_lane *lane;
    struct request *r[8];

    begin_with(1 << 20, 8);
    role(HF_ROLE_LEADER, 1, 1);
    lane = hf_lane_open(d);
    hf_lane_set_ready_cb(lane, on_ready, NULL);
    for (int i = 0; i < 8; i++) {
        ck_assert(!hf_lane_is_full(lane));
        r[i] = submit(lane, "set a 1");
    }
    ck_assert(hf_lane_is_full(lane));
    test_env_turn(&te);
    ck_assert(hf_lane_is_full(lane));
    ck_assert_uint_eq(n_ready, 0);
    settle();
    ck_assert(!hf_lane_is_full(lane));
    ck_assert_uint_eq(n_ready, 1);
    for (int i = 0; i < 8; i++)
        hf_free(r[i]);
    hf_lane_close(lane, release);
    finish();
}
END_TEST

/* INFO and its like run on this node, also without a leader, with a status of its own, in the lane's order. */
START_TEST(test_nogate_reads_run_here)
{
    struct hf_lane *lane;
    struct request *r, *i;

    begin();
    role(HF_ROLE_CANDIDATE, 1, 0);
    lane = hf_lane_open(d);
    i = submit(lane, "info");
    test_env_turn(&te);
    ck_assert_uint_eq(state.n_reads, 1);
    ck_assert_ptr_eq(state.reads->status, last_status);
    ck_assert_int_eq(state.reads->clock_ms, 0);
    test_state_answer_reads(&state);
    test_env_turn(&te);
    check_done(i, "read");
    r = submit(lane, "get a");
    i = submit(lane, "info");
    test_env_pass(&te, 100);
    ck_assert_uint_eq(state.n_reads, 1); /* not past the read that waits for a leader */
    role(HF_ROLE_LEADER, 2, 1);
    settle();
    ck_assert_uint_lt(r->order, i->order);
    check_done(r, "read");
    check_done(i, "read");
    hf_lane_close(lane, release);
    finish();
}
END_TEST

/* ---- elsewhere ---------------------------------------------------------------------------------------- */

/* A follower forwards a lane's commands in order, without waiting for answers, reads and writes alike. */
START_TEST(test_follower_forwards_in_order)
{
    struct hf_lane *lane;
    struct request *r[3];

    begin();
    role(HF_ROLE_FOLLOWER, 4, 2);
    lane = hf_lane_open(d);
    r[0] = submit(lane, "set a 1");
    r[1] = submit(lane, "get a");
    r[2] = submit(lane, "del a");
    carry();
    ck_assert_uint_eq(n_arrived, 3);
    ck_assert_str_eq(arrived[0].text, "set a 1");
    ck_assert_str_eq(arrived[1].text, "get a");
    ck_assert_str_eq(arrived[2].text, "del a");
    ck_assert_uint_eq(arrived[0].term, 4);
    answer(2);
    answer(0);
    answer(1);
    carry();
    check_done(r[0], "set a 1");
    check_done(r[1], "get a");
    check_done(r[2], "del a");
    hf_lane_close(lane, release);
    carry();
    ck_assert_uint_eq(n_remote_ends, 1);
    finish();
}
END_TEST

/* What another node refused did not happen: it comes back to its place, and the order holds. */
START_TEST(test_refused_commands_return_in_order)
{
    struct hf_lane *lane;
    struct request *r[4];

    begin();
    role(HF_ROLE_FOLLOWER, 4, 2);
    lane = hf_lane_open(d);
    for (int i = 0; i < 4; i++) {
        char line[20];

        snprintf(line, sizeof line, "set a %d", i);
        r[i] = submit(lane, line);
    }
    carry();
    ck_assert_uint_eq(n_arrived, 4);
    answer(0);
    refuse(3);
    refuse(1);
    refuse(2);
    carry();
    ck_assert_int_eq(r[0]->calls, 1);
    ck_assert_int_eq(r[1]->calls, 0);
    /* Not sent to the same node in the same term at once. */
    ck_assert_uint_eq(n_arrived, 4);
    role(HF_ROLE_LEADER, 5, 1);
    settle();
    ck_assert_uint_lt(r[1]->order, r[2]->order);
    ck_assert_uint_lt(r[2]->order, r[3]->order);
    check_done(r[0], "set a 0");
    check_done(r[1], "1.0");
    check_done(r[2], "1.1");
    check_done(r[3], "1.2");
    hf_lane_close(lane, release);
    finish();
}
END_TEST

/* R3: after a change of leader nothing of a lane is forwarded before its earlier commands are answered. */
START_TEST(test_leader_change_waits_for_answers)
{
    struct hf_lane *lane;
    struct request *r[3];

    begin();
    role(HF_ROLE_FOLLOWER, 4, 2);
    lane = hf_lane_open(d);
    r[0] = submit(lane, "set a 1");
    r[1] = submit(lane, "get a");
    carry();
    ck_assert_uint_eq(n_arrived, 2);
    role(HF_ROLE_LEADER, 5, 1);
    r[2] = submit(lane, "set a 2");
    settle();
    ck_assert_uint_eq(consensus.last_index, 0);
    answer(1);
    settle();
    ck_assert_uint_eq(consensus.last_index, 0);
    refuse(0);
    settle();
    check_done(r[1], "get a");
    ck_assert_uint_lt(r[0]->order, r[2]->order);
    check_done(r[0], "1.0");
    check_done(r[2], "1.1");
    /* The same leader in a later term is another destination too. */
    role(HF_ROLE_FOLLOWER, 6, 2);
    r[0] = submit(lane, "set b 1");
    carry();
    role(HF_ROLE_FOLLOWER, 7, 2);
    r[1] = submit(lane, "set b 2");
    carry();
    ck_assert_uint_eq(n_arrived, 3);
    answer(2);
    carry();
    ck_assert_uint_eq(n_arrived, 4);
    ck_assert_uint_eq(arrived[3].term, 7);
    answer(3);
    carry();
    check_done(r[0], "set b 1");
    check_done(r[1], "set b 2");
    hf_lane_close(lane, release);
    finish();
}
END_TEST

/* A client that goes to another leader leaves nothing behind at the old one. */
START_TEST(test_new_leader_ends_the_lane_at_the_old_one)
{
    struct hf_lane *lane;
    struct request *r;

    begin();
    role(HF_ROLE_FOLLOWER, 4, 2);
    lane = hf_lane_open(d);
    r = submit(lane, "set a 1");
    carry();
    answer(0);
    carry();
    check_done(r, "set a 1");
    consensus.links[3] = &from2;
    role(HF_ROLE_FOLLOWER, 5, 3);
    r = submit(lane, "set a 2");
    carry();
    ck_assert_uint_eq(n_arrived, 2);
    ck_assert_uint_eq(n_remote_ends, 1);
    answer(1);
    carry();
    check_done(r, "set a 2");
    hf_lane_close(lane, release);
    carry();
    ck_assert_uint_eq(n_remote_ends, 2);
    finish();
}
END_TEST

/* The stream to the leader breaks: writes are UNKNOWN and never sent again, reads are. */
START_TEST(test_lost_stream)
{
    struct hf_lane *lane;
    struct request *w, *r;
    uint64_t applied = 0;

    begin();
    role(HF_ROLE_FOLLOWER, 4, 2);
    lane = hf_lane_open(d);
    w = submit(lane, "set a 1");
    r = submit(lane, "get a");
    carry();
    hf_proxy_on_link_down(proxy, &to2);
    hf_proxy_on_link_down(other, &at2);
    consensus.links[2] = NULL;
    test_env_turn(&te);
    check_prefix(w, "UNKNOWN ");
    ck_assert_int_eq(r->calls, 0);
    /* A new link: found by itself, a little later. */
    hf_proxy_on_link_up(proxy, &to2);
    hf_proxy_on_link_up(other, &at2);
    consensus.links[2] = &to2;
    test_env_pass(&te, 30);
    carry();
    ck_assert_uint_eq(n_arrived, 3);
    ck_assert_str_eq(arrived[2].text, "get a");
    answer(2);
    carry();
    check_done(r, "get a");
    ck_assert_uint_eq(applied, state.applied_index);
    hf_lane_close(lane, release);
    finish();
}
END_TEST

/* R2: a lost read is not run again when a later write of its lane was sent: that may have happened, and the read
 * would see what the client asked for only afterwards. */
START_TEST(test_lost_read_before_a_sent_write)
{
    struct hf_lane *lane;
    struct request *r[4];

    begin();
    role(HF_ROLE_FOLLOWER, 4, 2);
    lane = hf_lane_open(d);
    r[0] = submit(lane, "set a 1");
    r[1] = submit(lane, "get a");
    r[2] = submit(lane, "set a 2");
    r[3] = submit(lane, "get a");
    carry();
    ck_assert_uint_eq(n_arrived, 4);
    hf_proxy_on_link_down(proxy, &to2);
    consensus.links[2] = NULL;
    role(HF_ROLE_LEADER, 5, 1);
    settle();
    check_prefix(r[0], "UNKNOWN ");
    check_prefix(r[1], "NOLEADER ");
    check_prefix(r[2], "UNKNOWN ");
    check_done(r[3], "read");
    hf_lane_close(lane, release);
    finish();
}
END_TEST

/* A former leader that hangs keeps its stream open but answers nothing: after a while it is given up. One that leads
 * again in time is not. */
START_TEST(test_hanging_former_leader)
{
    struct hf_lane *lane;
    struct request *w, *r;

    begin();
    role(HF_ROLE_FOLLOWER, 4, 2);
    lane = hf_lane_open(d);
    w = submit(lane, "set a 1");
    r = submit(lane, "get a");
    carry();
    role(HF_ROLE_FOLLOWER, 4, 0);
    test_env_pass(&te, 900);
    role(HF_ROLE_FOLLOWER, 4, 2);
    test_env_pass(&te, 5000);
    ck_assert(!to2.is_closed);
    role(HF_ROLE_LEADER, 5, 1);
    test_env_pass(&te, 900);
    ck_assert(!to2.is_closed);
    test_env_pass(&te, 200);
    ck_assert(to2.is_closed);
    hf_proxy_on_link_down(proxy, &to2);
    settle();
    check_prefix(w, "UNKNOWN ");
    check_done(r, "read");
    hf_lane_close(lane, release);
    finish();
}
END_TEST

/* An answer that is no value is not passed on. */
START_TEST(test_invalid_answer)
{
    struct hf_lane *lane;
    struct request *w;

    begin();
    role(HF_ROLE_FOLLOWER, 4, 2);
    lane = hf_lane_open(d);
    w = submit(lane, "set a 1");
    carry();
    hf_proxy_answer(arrived[0].remote, arrived[0].sequence, hf_slice("\x63nonsense", 9));
    carry();
    check_prefix(w, "UNKNOWN ");
    hf_lane_close(lane, release);
    finish();
}
END_TEST

/* No leader: commands wait for their time, then hear that they did not happen, each at its own deadline. */
START_TEST(test_no_leader_in_time)
{
    struct hf_lane *lane, *late;
    struct request *r[3];

    begin();
    role(HF_ROLE_CANDIDATE, 4, 0);
    lane = hf_lane_open(d);
    late = hf_lane_open(d);
    r[0] = submit(lane, "set a 1");
    test_env_pass(&te, 500);
    r[1] = submit(lane, "get a");
    r[2] = submit(late, "get a");
    test_env_pass(&te, 480);
    ck_assert_int_eq(r[0]->calls, 0);
    test_env_pass(&te, 40);
    check_prefix(r[0], "NOLEADER ");
    ck_assert_int_eq(r[1]->calls, 0);
    test_env_pass(&te, 440);
    ck_assert_int_eq(r[1]->calls, 0);
    ck_assert_int_eq(r[2]->calls, 0);
    test_env_pass(&te, 60);
    check_prefix(r[1], "NOLEADER ");
    check_prefix(r[2], "NOLEADER ");
    role(HF_ROLE_LEADER, 5, 1);
    settle();
    ck_assert_uint_eq(consensus.last_index, 0); /* never executed later */
    hf_lane_close(lane, release);
    hf_lane_close(late, release);
    finish();
}
END_TEST

/* A leader in time: nobody hears of the gap. */
START_TEST(test_leader_in_time)
{
    struct hf_lane *lane;
    struct request *r;

    begin();
    role(HF_ROLE_CANDIDATE, 4, 0);
    lane = hf_lane_open(d);
    r = submit(lane, "set a 1");
    test_env_pass(&te, 900);
    role(HF_ROLE_LEADER, 5, 1);
    settle();
    check_done(r, "1.0");
    hf_lane_close(lane, release);
    finish();
}
END_TEST

/* Leader known, no link to it for too long: the same. */
START_TEST(test_no_link_in_time)
{
    struct hf_lane *lane;
    struct request *r;

    begin();
    consensus.links[2] = NULL;
    role(HF_ROLE_FOLLOWER, 4, 2);
    lane = hf_lane_open(d);
    r = submit(lane, "set a 1");
    test_env_pass(&te, 980);
    ck_assert_int_eq(r->calls, 0);
    test_env_pass(&te, 50);
    check_prefix(r, "NOLEADER ");
    hf_lane_close(lane, release);
    finish();
}
END_TEST

/* A failed gate: the read goes to the new leader. */
START_TEST(test_failed_gate_reroutes_reads)
{
    struct hf_lane *lane;
    struct request *r[2];

    begin();
    role(HF_ROLE_LEADER, 1, 1);
    lane = hf_lane_open(d);
    r[0] = submit(lane, "get a");
    r[1] = submit(lane, "get b");
    test_env_turn(&te);
    role(HF_ROLE_FOLLOWER, 2, 2);
    carry();
    ck_assert_uint_eq(n_arrived, 2);
    ck_assert_str_eq(arrived[0].text, "get a");
    answer(0);
    answer(1);
    carry();
    check_done(r[0], "get a");
    check_done(r[1], "get b");
    hf_lane_close(lane, release);
    finish();
}
END_TEST

/* Writes that were not submitted yet go to the new leader, without an error. */
START_TEST(test_refused_batch_reroutes_writes)
{
    struct hf_lane *lane;
    struct request *r[2];

    begin();
    role(HF_ROLE_LEADER, 1, 1);
    lane = hf_lane_open(d);
    consensus.submit_rc = HF_E_AGAIN;
    r[0] = submit(lane, "set a 1");
    r[1] = submit(lane, "set a 2");
    test_env_turn(&te);
    consensus.submit_rc = 0;
    role(HF_ROLE_FOLLOWER, 2, 2);
    carry();
    ck_assert_uint_eq(n_arrived, 2);
    ck_assert_str_eq(arrived[0].text, "set a 1");
    answer(0);
    answer(1);
    carry();
    check_done(r[0], "set a 1");
    check_done(r[1], "set a 2");
    hf_lane_close(lane, release);
    finish();
}
END_TEST

/* ---- closing a lane ----------------------------------------------------------------------------------- */

/* Waiting commands are dropped, those in flight run to their end; each block is released once, nobody is called. */
START_TEST(test_close_lane_with_commands)
{
    struct hf_lane *lane, *forwarding;

    begin();
    role(HF_ROLE_LEADER, 1, 1);
    lane = hf_lane_open(d);
    submit(lane, "set a 1");
    submit(lane, "get a");
    submit(lane, "set a 2");
    test_env_turn(&te);
    hf_lane_close(lane, release);
    test_env_turn(&te);
    ck_assert_uint_eq(n_released, 2);
    commit_all();
    ck_assert_uint_eq(n_released, 3);
    ck_assert_uint_eq(consensus.last_index, 1);
    /* In the gate, and on the state thread. */
    lane = hf_lane_open(d);
    submit(lane, "get a");
    test_env_turn(&te);
    hf_lane_close(lane, NULL);
    test_consensus_answer_gates(&consensus, 0);
    test_state_answer_reads(&state);
    test_env_turn(&te);
    /* On its way to another node: the end is told there after the answer. */
    role(HF_ROLE_FOLLOWER, 2, 2);
    forwarding = hf_lane_open(d);
    submit(forwarding, "set a 1");
    carry();
    hf_lane_close(forwarding, release);
    carry();
    ck_assert_uint_eq(n_remote_ends, 0);
    answer(0);
    carry();
    ck_assert_uint_eq(n_released, 4);
    ck_assert_uint_eq(n_remote_ends, 1);
    ck_assert_uint_eq(next_order, 0);
    /* A command of a closed lane that comes back is not sent again. */
    forwarding = hf_lane_open(d);
    submit(forwarding, "set a 1");
    carry();
    hf_lane_close(forwarding, release);
    refuse(1);
    test_env_pass(&te, 100);
    carry();
    ck_assert_uint_eq(n_arrived, 2);
    ck_assert_uint_eq(n_released, 5);
    finish();
}
END_TEST

static struct hf_lane *closing_lane;

static void on_done_close(struct hf_dispatch_req *req)
{
    hf_reply_free(&req->reply);
    hf_free(req);
    if (closing_lane)
        hf_lane_close(closing_lane, release);
    closing_lane = NULL;
}

/* Closing the lane from one of its own callbacks. */
START_TEST(test_close_lane_from_callback)
{
    begin();
    role(HF_ROLE_LEADER, 1, 1);
    closing_lane = hf_lane_open(d);
    submit(closing_lane, "set a 1")->req.cb = on_done_close;
    submit(closing_lane, "set a 2")->req.cb = on_done_close;
    submit(closing_lane, "get a")->req.cb = on_done_close;
    settle();
    ck_assert_uint_eq(n_released, 2);
    ck_assert_ptr_null(closing_lane);
    finish();
}
END_TEST

/* Shutting down: what waits hears NOLEADER, what is in flight UNKNOWN. */
START_TEST(test_shutdown)
{
    struct hf_lane *lane;
    struct request *w, *g;

    begin();
    role(HF_ROLE_LEADER, 1, 1);
    lane = hf_lane_open(d);
    w = submit(lane, "set a 1");
    g = submit(lane, "get a");
    test_env_turn(&te);
    finish();
    check_prefix(w, "UNKNOWN ");
    check_prefix(g, "NOLEADER ");
}
END_TEST

/* ---- other nodes' clients ----------------------------------------------------------------------------- */

struct remote_call {
    struct hf_proxy_call call;
    int calls;
    enum hf_proxy_outcome outcome;
    char reply[100];
};

static void on_remote_outcome(struct hf_proxy_call *call, enum hf_proxy_outcome outcome, struct hf_slice reply)
{
    struct remote_call *c = call->data;

    c->calls++;
    c->outcome = outcome;
    if (reply.len > 5)
        snprintf(c->reply, sizeof c->reply, "%.*s", (int)(reply.len - 5), (const char *)reply.ptr + 5);
}

static void call_us(struct remote_call *c, uint64_t connection, uint64_t term, const char *line)
{
    struct hf_slice words[6];
    struct hf_args args = {words, 0};
    char copy[100], *save = NULL;

    memset(c, 0, sizeof *c);
    c->call.data = c;
    c->call.cb = on_remote_outcome;
    snprintf(copy, sizeof copy, "%s", line);
    for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save))
        words[args.n++] = hf_slice_str(w);
    ck_assert_int_eq(hf_proxy_send(other, &by2, connection, term, &args, &c->call), 0);
}

/* They run here like local ones when the term is right. */
START_TEST(test_remote_commands_run)
{
    struct remote_call c[4];

    begin();
    role(HF_ROLE_LEADER, 3, 1);
    call_us(&c[0], 9, 3, "set a 1");
    call_us(&c[1], 9, 3, "get a");
    call_us(&c[2], 9, 3, "incrby a x");
    call_us(&c[3], 8, 3, "get b");
    carry();
    ck_assert_uint_eq(consensus.last_index, 1);
    ck_assert_uint_eq(consensus.n_gates, 1); /* only client 8's read */
    settle();
    ck_assert_str_eq(c[0].reply, "1.0");
    ck_assert_str_eq(c[1].reply, "read");
    ck_assert_str_eq(c[2].reply, HF_ERR_NOT_INTEGER);
    ck_assert_str_eq(c[3].reply, "read");
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(c[i].outcome, HF_PROXY_ANSWERED);
    finish();
}
END_TEST

/* Another term, or no leader: refused, never forwarded. Unknown and local commands are errors. */
/* Nodes may submit what clients cannot name; operators' requests belong to the node of their client. */
START_TEST(test_remote_internal_commands)
{
    struct remote_call c[3];

    begin();
    role(HF_ROLE_LEADER, 3, 1);
    call_us(&c[0], 9, 3, "_setting config.x 1");
    call_us(&c[1], 9, 3, "_setting config.x");
    call_us(&c[2], 9, 3, "config set x 1");
    settle();
    ck_assert_str_eq(c[0].reply, "1.0");
    ck_assert_msg(strncmp(c[1].reply, "ERR unknown command", 19) == 0, "%s", c[1].reply);
    ck_assert_msg(strncmp(c[2].reply, "ERR the command belongs", 23) == 0, "%s", c[2].reply);
    finish();
}
END_TEST

START_TEST(test_remote_commands_refused)
{
    struct remote_call c[5];

    begin();
    role(HF_ROLE_LEADER, 3, 1);
    call_us(&c[0], 9, 2, "set a 1");
    call_us(&c[1], 9, 4, "set a 1");
    carry();
    ck_assert_int_eq(c[0].outcome, HF_PROXY_REFUSED);
    ck_assert_int_eq(c[1].outcome, HF_PROXY_REFUSED);
    role(HF_ROLE_FOLLOWER, 4, 2);
    call_us(&c[2], 7, 4, "set a 1");
    call_us(&c[3], 7, 4, "nosuch a");
    call_us(&c[4], 7, 4, "ping");
    carry();
    ck_assert_int_eq(c[2].outcome, HF_PROXY_REFUSED);
    ck_assert_uint_eq(n_arrived, 0);
    ck_assert(strncmp(c[3].reply, "ERR unknown command", 19) == 0);
    ck_assert(strncmp(c[4].reply, "ERR ", 4) == 0);
    ck_assert_uint_eq(consensus.submits, 0);
    finish();
}
END_TEST

/* Leadership goes: what was submitted is answered by its fate, all the rest of the client is refused, in its order. */
START_TEST(test_remote_commands_after_loss)
{
    struct remote_call c[4];

    begin();
    role(HF_ROLE_LEADER, 3, 1);
    call_us(&c[0], 9, 3, "set a 1");
    call_us(&c[1], 9, 3, "get a");
    call_us(&c[2], 9, 3, "set a 2");
    carry();
    role(HF_ROLE_FOLLOWER, 4, 2);
    carry();
    ck_assert_int_eq(c[0].calls, 0);
    test_env_pass(&te, 3100);
    carry();
    ck_assert_int_eq(c[1].outcome, HF_PROXY_REFUSED);
    ck_assert_int_eq(c[2].outcome, HF_PROXY_REFUSED);
    ck_assert_int_eq(c[0].outcome, HF_PROXY_ANSWERED);
    ck_assert(strncmp(c[0].reply, "UNKNOWN ", 8) == 0);
    ck_assert_uint_eq(n_arrived, 0);
    finish();
}
END_TEST

/* Once one command of a term was refused no later one of it runs, or it would overtake. */
START_TEST(test_remote_refusal_sticks_to_the_term)
{
    struct remote_call c[3];

    begin();
    role(HF_ROLE_LEADER, 3, 1);
    call_us(&c[0], 9, 3, "get a");
    carry();
    test_consensus_answer_gates(&consensus, HF_E_NOT_LEADER); /* for a reason of its own: the role stays */
    carry();
    ck_assert_int_eq(c[0].outcome, HF_PROXY_REFUSED);
    call_us(&c[1], 9, 3, "set a 1");
    call_us(&c[2], 8, 3, "set b 1");
    settle();
    ck_assert_int_eq(c[1].outcome, HF_PROXY_REFUSED);
    ck_assert_int_eq(c[2].outcome, HF_PROXY_ANSWERED);
    finish();
}
END_TEST

/* The other node's stream breaks with commands in flight: they run to their end, nothing is answered. */
START_TEST(test_remote_stream_breaks)
{
    struct remote_call c[2];

    begin();
    role(HF_ROLE_LEADER, 3, 1);
    call_us(&c[0], 9, 3, "set a 1");
    call_us(&c[1], 9, 3, "get a");
    carry();
    hf_proxy_on_link_down(proxy, &from2);
    hf_proxy_on_link_down(other, &by2);
    settle();
    ck_assert_int_eq(c[0].outcome, HF_PROXY_LOST);
    ck_assert_int_eq(c[1].outcome, HF_PROXY_LOST);
    ck_assert_uint_eq(state.applied_index, 1);
    ck_assert_uint_eq(consensus.n_gates, 0);
    finish();
}
END_TEST

/* ---- at random ---------------------------------------------------------------------------------------- */

/* Random commands on many lanes under random changes of role, refusals and broken streams: every command is answered
 * once; what a lane wrote and heard to be applied here was applied in the lane's order. */
START_TEST(test_random_life)
{
    for (uint64_t seed = 1; seed <= 300; seed++) {
        static struct request *r[400];
        struct hf_lane *lanes[5];
        int lane_of[400], n = 0;
        uint64_t term = 1;
        struct hf_prng prng;

        begin_with(2000, 50);
        hf_prng_seed(&prng, seed);
        for (int i = 0; i < 5; i++)
            lanes[i] = hf_lane_open(d);
        role(HF_ROLE_LEADER, term, 1);
        for (int step = 0; step < 600; step++) {
            switch (hf_prng_below(&prng, 12)) {
            case 0:
            case 1:
            case 2:
            case 3:
                if (n < 400) {
                    lane_of[n] = (int)hf_prng_below(&prng, 5);
                    r[n] = submit(lanes[lane_of[n]], hf_prng_below(&prng, 2) ? "set key value" : "get key");
                    n++;
                }
                break;
            case 4:
                if (hf_prng_below(&prng, 8) == 0) {
                    term++;
                    switch (hf_prng_below(&prng, 3)) {
                    case 0:
                        role(HF_ROLE_LEADER, term, 1);
                        break;
                    case 1:
                        role(HF_ROLE_FOLLOWER, term, 2);
                        break;
                    case 2:
                        role(HF_ROLE_FOLLOWER, term, 0);
                        break;
                    }
                    if (consensus.delivered_index < consensus.last_index && hf_prng_below(&prng, 2))
                        test_consensus_overwrite(&consensus, consensus.delivered_index + 1, term);
                }
                break;
            case 5:
                test_consensus_answer_gates(&consensus, hf_prng_below(&prng, 4) ? 0 : HF_E_NOT_LEADER);
                break;
            case 6:
                test_state_answer_reads(&state);
                break;
            case 7:
                test_state_apply(&state, (uint32_t)hf_prng_below(&prng, 3));
                break;
            case 8:
                if (consensus.delivered_index < consensus.last_index)
                    test_consensus_commit(&consensus, consensus.delivered_index + 1 + hf_prng_below(&prng, 2));
                break;
            case 9:
                carry();
                /* In order, as a lane does it: one refusal and all later ones of the term are. */
                for (uint32_t i = 0; i < n_arrived; i++) {
                    if (arrived[i].is_answered || hf_prng_below(&prng, 2))
                        continue;
                    if (arrived[i].term != term)
                        refuse(i);
                    else
                        answer(i);
                }
                carry();
                break;
            case 10:
                test_env_pass(&te, hf_prng_below(&prng, 30));
                break;
            case 11:
                test_env_turn(&te);
                break;
            }
        }
        role(HF_ROLE_LEADER, ++term, 1);
        for (int i = 0; i < 20; i++) {
            for (uint32_t k = 0; k < n_arrived; k++)
                if (!arrived[k].is_answered)
                    answer(k);
            settle();
            test_env_pass(&te, 1000);
        }
        for (int lane = 0; lane < 5; lane++) {
            double last = 0;

            for (int i = 0; i < n; i++) {
                unsigned index, position;

                if (lane_of[i] != lane)
                    continue;
                ck_assert_msg(r[i]->calls == 1, "seed %u request %d", (unsigned)seed, i);
                if (sscanf(r[i]->reply, "%u.%u", &index, &position) == 2) {
                    ck_assert((double)index * 70000 + position > last);
                    last = (double)index * 70000 + position;
                }
            }
        }
        for (int i = 0; i < n; i++)
            hf_free(r[i]);
        for (int i = 0; i < 5; i++)
            hf_lane_close(lanes[i], release);
        finish();
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("dispatch");
    TCase *t = tcase_create("dispatch");
    SRunner *runner;
    int failed;

    hf_log_silence(getenv("HF_TEST_LOG") == NULL);
    hf_command_table_init();
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_writes_share_an_entry);
    tcase_add_test(t, test_reads_and_writes_of_a_lane_take_turns);
    tcase_add_test(t, test_lanes_do_not_wait_for_each_other);
    tcase_add_test(t, test_plan_refusal);
    tcase_add_test(t, test_writes_refused_for_space);
    tcase_add_test(t, test_read_of_a_due_key_waits_for_a_tick);
    tcase_add_test(t, test_refused_tick_reroutes_the_read);
    tcase_add_test(t, test_unknown_write_releases_the_lane);
    tcase_add_test(t, test_full_queue_makes_lanes_wait);
    tcase_add_test(t, test_full_lane);
    tcase_add_test(t, test_nogate_reads_run_here);
    tcase_add_test(t, test_follower_forwards_in_order);
    tcase_add_test(t, test_refused_commands_return_in_order);
    tcase_add_test(t, test_leader_change_waits_for_answers);
    tcase_add_test(t, test_new_leader_ends_the_lane_at_the_old_one);
    tcase_add_test(t, test_lost_stream);
    tcase_add_test(t, test_lost_read_before_a_sent_write);
    tcase_add_test(t, test_hanging_former_leader);
    tcase_add_test(t, test_invalid_answer);
    tcase_add_test(t, test_no_leader_in_time);
    tcase_add_test(t, test_leader_in_time);
    tcase_add_test(t, test_no_link_in_time);
    tcase_add_test(t, test_failed_gate_reroutes_reads);
    tcase_add_test(t, test_refused_batch_reroutes_writes);
    tcase_add_test(t, test_close_lane_with_commands);
    tcase_add_test(t, test_close_lane_from_callback);
    tcase_add_test(t, test_shutdown);
    tcase_add_test(t, test_remote_commands_run);
    tcase_add_test(t, test_remote_internal_commands);
    tcase_add_test(t, test_remote_commands_refused);
    tcase_add_test(t, test_remote_commands_after_loss);
    tcase_add_test(t, test_remote_refusal_sticks_to_the_term);
    tcase_add_test(t, test_remote_stream_breaks);
    tcase_add_test(t, test_random_life);
    suite_add_tcase(s, t);
    suite_add_tcase(s, operate_case());
    runner = srunner_create(s);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
