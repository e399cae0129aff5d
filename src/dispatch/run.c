/* run.c: one command's run, from the moment its lane lets it start: WRITE and READ here when this node leads, both
 * forwarded when another does, NOGATE reads and OPERATE here in any case. And what each way of ending means:
 *
 *   proposed   applied: answered; refused: did not happen, back to the lane; unknown: an UNKNOWN error
 *   gate       failed: back to the lane (a read has no effect, so it may always run again)
 *   read       answered; or it met a key that is due and waits for a tick (R4), then reads again. No second gate: the
 *              state has only moved on since the first one.
 *   forwarded  answered; refused: did not happen, back to the lane; lost: UNKNOWN for a write; a read goes back, unless
 *              a later write of the lane was sent after it, which may have happened: the read would see the future (R2)
 *   operate    answered, by whoever took it
 *
 * A former leader has a while to answer what it was sent (it may hang, and its kernel would keep the stream alive for
 * ever); then its stream is closed, which makes the rest lost. */
#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "dispatch/internal.h"

#include <inttypes.h>

/* A node that refused is not asked again in the same term for this long: it knows more than we do, and the news of the
 * next leader is on its way. */
#define REFUSED_PAUSE_MS 20u
/* A healthy former leader knows the fate of its last entries as soon as its successor commits. */
#define FORMER_LEADER_MS 1000u

static const char unknown_proposed[] =
    "UNKNOWN outcome: leadership was lost or the time limit passed while the command was being replicated; it may have "
    "been executed; check before retrying";
static const char unknown_lost[] = "UNKNOWN outcome: the connection to the leader broke before its answer came; the "
                                   "command may have been executed; check before retrying";
static const char lost_read[] =
    "NOLEADER The connection to the leader broke before the answer to this read came; it has "
    "no effect; retry it";
static const char unknown_invalid[] = "UNKNOWN outcome: the leader's answer could not be read; the command may have "
                                      "been executed; check before retrying";

/* ---- leaving the queue -------------------------------------------------------------------------------- */

/* The lane's rule. */
static bool may_start(const struct hf_lane *lane, enum lane_kind kind, uint64_t node_id, uint64_t term)
{
    return lane->n_in_flight == 0 || (lane->kind == kind && lane->node_id == node_id && lane->term == term);
}

static void leave_queue(struct hf_lane *lane, struct hf_dispatch_req *req)
{
    struct hf_dispatch_req *first = hf_dispatch_pop(&lane->waiting);

    HF_ASSERT(first == req);
    if (lane->returned == req)
        lane->returned = NULL;
}

static void take_off(struct hf_lane *lane, struct hf_dispatch_req *req, enum lane_kind kind, uint64_t node_id,
                     uint64_t term)
{
    leave_queue(lane, req);
    req->state = REQ_STARTED;
    lane->kind = kind;
    lane->node_id = node_id;
    lane->term = term;
    lane->n_in_flight++;
    lane->d->n_in_flight++;
}

/* ---- reads -------------------------------------------------------------------------------------------- */

static void on_read(struct hf_state_read *read);

static void give_to_state(struct hf_dispatcher *d, struct hf_dispatch_req *req, const struct hf_node_status *status)
{
    struct hf_state_read *read = &req->op.read;

    memset(read, 0, sizeof *read);
    read->data = req;
    read->cb = on_read;
    read->command = req->command;
    read->args = req->args;
    read->clock_ms = req->clock_ms;
    read->seed = hf_prng_next(&d->prng);
    read->status = status;
    hf_state_read(d->state, read);
}

static void on_tick(struct hf_propose_req *op, enum hf_fate fate, struct hf_slice reply)
{
    struct hf_dispatch_req *req = op->data;

    (void)reply;
    if (fate == HF_FATE_APPLIED && !req->lane->d->is_stopped) {
        /* By the same clock as before: log time has reached it, so this one is answered. */
        give_to_state(req->lane->d, req, NULL);
        return;
    }
    hf_dispatch_landed(req);
    hf_dispatch_return(req);
}

static void on_read(struct hf_state_read *read)
{
    struct hf_dispatch_req *req = read->data;
    struct hf_dispatcher *d = req->lane->d;
    bool is_gated = !(req->command->flags & HF_CMD_NOGATE);

    hf_free((void *)read->status);
    if (read->needs_tick && is_gated) {
        struct hf_propose_req *op = &req->op.propose;

        hf_reply_free(&read->reply);
        memset(op, 0, sizeof *op);
        op->data = req;
        op->cb = on_tick;
        if (hf_propose_tick(d->proposer, op) == 0)
            return;
        hf_dispatch_landed(req);
        hf_dispatch_return(req);
        return;
    }
    req->reply = read->reply;
    hf_dispatch_landed(req);
    hf_dispatch_finish(req, OUTCOME_RAN);
}

static void on_gate(struct hf_gate *gate, int rc)
{
    struct gate_batch *batch = gate->data;
    struct hf_dispatcher *d = batch->d;
    struct req_list reads = batch->reads;
    struct hf_dispatch_req *req;
    int64_t clock_ms = 0;

    batch->reads.first = batch->reads.last = NULL;
    batch->next = d->spare_gates;
    d->spare_gates = batch;
    if (rc == 0)
        clock_ms = hf_propose_clock_ms(d->proposer);
    while ((req = hf_dispatch_pop(&reads)) != NULL) {
        if (rc == 0) {
            req->clock_ms = clock_ms;
            give_to_state(d, req, NULL);
        } else {
            hf_dispatch_landed(req);
            hf_dispatch_return(req);
        }
    }
}

void hf_dispatch_open_gate(struct hf_dispatcher *d)
{
    struct gate_batch *batch = d->spare_gates;

    if (d->gate_reads.first == NULL)
        return;
    if (batch)
        d->spare_gates = batch->next;
    else
        batch = hf_calloc(1, sizeof *batch);
    memset(&batch->gate, 0, sizeof batch->gate);
    batch->d = d;
    batch->gate.data = batch;
    batch->gate.cb = on_gate;
    batch->reads = d->gate_reads;
    d->gate_reads.first = d->gate_reads.last = NULL;
    hf_consensus_gate(d->consensus, &batch->gate);
}

static enum hf_wait start_read(struct hf_dispatcher *d, struct hf_lane *lane, struct hf_dispatch_req *req,
                               uint64_t term)
{
    if (!may_start(lane, KIND_READ, 0, term))
        return WAIT_LANE;
    take_off(lane, req, KIND_READ, 0, term);
    hf_dispatch_push(&d->gate_reads, req);
    return WAIT_NOTHING;
}

static enum hf_wait start_local(struct hf_dispatcher *d, struct hf_lane *lane, struct hf_dispatch_req *req)
{
    if (!may_start(lane, KIND_LOCAL, 0, 0))
        return WAIT_LANE;
    take_off(lane, req, KIND_LOCAL, 0, 0);
    req->clock_ms = 0;
    give_to_state(d, req, d->status ? d->status(d->status_data) : NULL);
    return WAIT_NOTHING;
}

/* ---- operators' requests ------------------------------------------------------------------------------ */

static void on_operated(struct hf_operation *op)
{
    struct hf_dispatch_req *req = op->data;

    req->reply = op->reply;
    if (req->lane->d->operating == req) {
        req->lane->d->operating = NULL; /* from inside start_operate, which goes on with the lane itself */
        return;
    }
    hf_dispatch_landed(req);
    hf_dispatch_finish(req, OUTCOME_RAN);
}

/* Never two of a lane at once: the second may rest on what the first did. */
static enum hf_wait start_operate(struct hf_dispatcher *d, struct hf_lane *lane, struct hf_dispatch_req *req)
{
    struct hf_operation *op = &req->op.operation;

    if (lane->n_in_flight > 0)
        return WAIT_LANE;
    if (d->config.operator_ops == NULL || d->is_stopped) {
        leave_queue(lane, req);
        hf_dispatch_finish_error(req, OUTCOME_REJECTED,
                                 d->is_stopped ? "NOLEADER This node is shutting down; the command was not executed; "
                                                 "retry at another node"
                                               : "ERR this node takes no operators' commands");
        return WAIT_NOTHING;
    }
    take_off(lane, req, KIND_OPERATE, 0, 0);
    memset(op, 0, sizeof *op);
    op->data = req;
    op->cb = on_operated;
    d->operating = req;
    req->command->operate(op, d->config.operator_ops, &req->args);
    if (d->operating == NULL) {
        lane->n_in_flight--;
        d->n_in_flight--;
        lane->kind = KIND_NONE;
        hf_dispatch_finish(req, OUTCOME_RAN);
    }
    d->operating = NULL;
    return WAIT_NOTHING;
}

/* ---- writes ------------------------------------------------------------------------------------------- */

static void on_proposed(struct hf_propose_req *op, enum hf_fate fate, struct hf_slice reply)
{
    struct hf_dispatch_req *req = op->data;
    struct hf_dispatcher *d = req->lane->d;

    hf_dispatch_landed(req);
    switch (fate) {
    case HF_FATE_APPLIED:
        hf_buf_put(&req->reply.buf, reply.ptr, reply.len);
        hf_dispatch_finish(req, OUTCOME_RAN);
        break;
    case HF_FATE_REFUSED:
        hf_dispatch_return(req);
        break;
    case HF_FATE_UNKNOWN:
        hf_dispatch_finish_error(req, OUTCOME_RAN, unknown_proposed);
        break;
    }
    if (d->wait_room.first) {
        d->wakes_room = true;
        hf_dispatch_ask_run(d);
    }
}

static enum hf_wait start_write(struct hf_dispatcher *d, struct hf_lane *lane, struct hf_dispatch_req *req,
                                uint64_t term)
{
    int rc;

    if (!may_start(lane, KIND_WRITE, 0, term))
        return WAIT_LANE;
    if (d->refuse_text && (req->command->flags & HF_CMD_DENYOOM)) {
        leave_queue(lane, req);
        hf_dispatch_finish_error(req, OUTCOME_REJECTED, d->refuse_text);
        return WAIT_NOTHING;
    }
    /* Those that wait already come first. */
    if ((d->wait_room.first && !d->is_waking_room) || hf_propose_queued_bytes(d->proposer) > d->config.overload_bytes)
        return WAIT_ROOM;
    if (hf_command_plan(req->command, &d->plan, &req->args) != 0) {
        struct hf_slice refusal = hf_buf_slice(&d->plan.refusal.buf);

        leave_queue(lane, req);
        hf_buf_put(&req->reply.buf, refusal.ptr, refusal.len);
        hf_dispatch_finish(req, OUTCOME_REJECTED);
        return WAIT_NOTHING;
    }
    memset(&req->op.propose, 0, sizeof req->op.propose);
    req->op.propose.data = req;
    req->op.propose.cb = on_proposed;
    rc = hf_propose(d->proposer, &req->op.propose, &d->plan);
    if (rc == 0) {
        take_off(lane, req, KIND_WRITE, 0, term);
        return WAIT_NOTHING;
    }
    if (rc == HF_E_BUSY)
        return WAIT_ROOM;
    if (rc == HF_E_NOT_LEADER)
        return WAIT_LEADER; /* its news of the role is ahead of ours, or behind */
    leave_queue(lane, req);
    hf_dispatch_finish_error(req, OUTCOME_REJECTED, "ERR the command is too large for the log; it was not executed");
    return WAIT_NOTHING;
}

/* ---- forwarding --------------------------------------------------------------------------------------- */

static void count_forwarded(struct hf_dispatcher *d, uint64_t node_id, uint64_t term)
{
    struct destination *to = d->destinations;

    while (to && (to->node_id != node_id || to->term != term))
        to = to->next;
    if (to == NULL) {
        to = hf_calloc(1, sizeof *to);
        to->node_id = node_id;
        to->term = term;
        to->next = d->destinations;
        d->destinations = to;
    }
    to->n++;
}

static void count_answered(struct hf_dispatcher *d, uint64_t node_id, uint64_t term)
{
    struct destination **at = &d->destinations, *to;

    while ((*at)->node_id != node_id || (*at)->term != term)
        at = &(*at)->next;
    to = *at;
    if (--to->n == 0) {
        *at = to->next;
        hf_free(to);
    }
}

void hf_dispatch_watch_former(struct hf_dispatcher *d)
{
    uint64_t leader = hf_consensus_leader(d->consensus), term = hf_consensus_term(d->consensus);
    uint64_t now_ms = d->env->boot_ms(d->env), next_ms = UINT64_MAX;
    struct hf_link *silent = NULL;

    for (struct destination *to = d->destinations; to; to = to->next) {
        uint64_t due_ms;

        if (to->node_id == leader && to->term == term) {
            to->former_since_ms = 0;
            continue;
        }
        if (to->former_since_ms == 0)
            to->former_since_ms = now_ms;
        due_ms = to->former_since_ms + FORMER_LEADER_MS;
        if (now_ms >= due_ms && silent == NULL) {
            silent = hf_consensus_proxy_link(d->consensus, to->node_id); /* none: its end was told, or is about to be */
            HF_LOG_WARN("dispatch", "a former leader does not answer: giving up its stream",
                        "node=%" PRIu64 " term=%" PRIu64 " commands=%" PRIu32, to->node_id, to->term, to->n);
            to->former_since_ms = now_ms;
            due_ms = now_ms + FORMER_LEADER_MS;
        }
        if (due_ms < next_ms)
            next_ms = due_ms;
    }
    if (next_ms != UINT64_MAX)
        d->env->timer_start(d->env, &d->former_timer, next_ms > now_ms ? next_ms - now_ms : 0);
    /* Last: its end may be told from inside, which changes the list. */
    if (silent)
        hf_link_close(silent);
}

static void on_forwarded(struct hf_proxy_call *call, enum hf_proxy_outcome outcome, struct hf_slice reply)
{
    struct hf_dispatch_req *req = call->data;
    struct hf_lane *lane = req->lane;
    struct hf_dispatcher *d = lane->d;

    count_answered(d, lane->node_id, lane->term);
    switch (outcome) {
    case HF_PROXY_ANSWERED:
        hf_dispatch_landed(req);
        if (hf_reply_is_valid(reply)) {
            hf_buf_put(&req->reply.buf, reply.ptr, reply.len);
            hf_dispatch_finish(req, OUTCOME_RAN);
        } else {
            hf_dispatch_finish_error(req, OUTCOME_RAN, unknown_invalid);
        }
        break;
    case HF_PROXY_REFUSED:
        d->refused_term = req->term;
        d->refused_until_ms = d->env->boot_ms(d->env) + REFUSED_PAUSE_MS;
        hf_dispatch_landed(req);
        hf_dispatch_return(req);
        break;
    case HF_PROXY_LOST:
        hf_dispatch_landed(req);
        if (req->command->flags & HF_CMD_WRITE)
            hf_dispatch_finish_error(req, OUTCOME_RAN, unknown_lost);
        else if (lane->forwarded_write_seq > req->seq)
            hf_dispatch_finish_error(req, OUTCOME_RAN, lost_read);
        else
            hf_dispatch_return(req);
        break;
    }
    if (d->wait_link.first) {
        d->wakes_link = true;
        hf_dispatch_ask_run(d);
    }
}

static enum hf_wait start_forward(struct hf_dispatcher *d, struct hf_lane *lane, struct hf_dispatch_req *req,
                                  uint64_t leader, uint64_t term)
{
    struct hf_link *link;
    int rc;

    if (!may_start(lane, KIND_FORWARDED, leader, term))
        return WAIT_LANE;
    if (term == d->refused_term && d->env->boot_ms(d->env) < d->refused_until_ms)
        return WAIT_LEADER;
    link = hf_consensus_proxy_link(d->consensus, leader);
    if (link == NULL)
        return WAIT_LINK;
    if (lane->forwarded_to && lane->forwarded_to != leader) {
        struct hf_link *old = hf_consensus_proxy_link(d->consensus, lane->forwarded_to);

        if (old)
            hf_proxy_end(d->proxy, old, lane->id);
        lane->forwarded_to = 0;
    }
    memset(&req->op.call, 0, sizeof req->op.call);
    req->op.call.data = req;
    req->op.call.cb = on_forwarded;
    rc = hf_proxy_send(d->proxy, link, lane->id, term, &req->args, &req->op.call);
    if (rc == 0) {
        take_off(lane, req, KIND_FORWARDED, leader, term);
        count_forwarded(d, leader, term);
        req->term = term;
        lane->forwarded_to = leader;
        if (req->command->flags & HF_CMD_WRITE)
            lane->forwarded_write_seq = req->seq;
        return WAIT_NOTHING;
    }
    if (rc != HF_E_LIMIT)
        return WAIT_LINK;
    leave_queue(lane, req);
    hf_dispatch_finish_error(req, OUTCOME_REJECTED,
                             "ERR the command is too large to be passed on to the leader; it was not executed");
    return WAIT_NOTHING;
}

/* ---- which way ---------------------------------------------------------------------------------------- */

enum hf_wait hf_dispatch_start(struct hf_dispatcher *d, struct hf_lane *lane, struct hf_dispatch_req *req)
{
    bool leads = hf_consensus_role(d->consensus) == HF_ROLE_LEADER;
    uint64_t term = hf_consensus_term(d->consensus), leader;

    if (lane->is_remote && (!leads || term != req->term || req->term <= lane->refused_term)) {
        /* Meant for the leader of a term, which this node is not, or not any more. Once one command of a term is
         * refused all later ones must be, or they would run before it. */
        leave_queue(lane, req);
        hf_dispatch_return(req);
        return WAIT_NOTHING;
    }
    if (req->command->flags & HF_CMD_OPERATE)
        return start_operate(d, lane, req);
    if (req->command->flags & HF_CMD_NOGATE)
        return start_local(d, lane, req);
    if (leads)
        return req->command->flags & HF_CMD_WRITE ? start_write(d, lane, req, term) : start_read(d, lane, req, term);
    leader = hf_consensus_leader(d->consensus);
    return leader == 0 ? WAIT_LEADER : start_forward(d, lane, req, leader, term);
}
