/* members.c: operators of the simulated cluster, nodes that join it, disks that are lost. One operator at a time. The
 * driver knows what may be taken away: a disk is lost only when, in every configuration that any node knows, the voters
 * whose disks are not lost are a majority, and while no request is under way that could make it otherwise. The cluster
 * itself refuses changes after which the voters that are there would be none. */
#include "base/assert.h"
#include "sim/sim.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TURNS_PER_ACTION 120u  /* on average, of 5 ms */
#define ASK_APART_MS     3000u /* a lost disk and a request */
#define GHOST_MS         2500u

bool hf_sim_may_wipe(struct sim *s, const struct node *victim)
{
    if (s->is_asking || hf_sim_now_ms(s) < s->answered_ms + ASK_APART_MS)
        return false;
    for (unsigned i = 0; i < s->n_all; i++) {
        const struct node *x = &s->nodes[i];
        unsigned voters = 0, live = 0;

        for (unsigned k = 0; k < x->view.n; k++) {
            uint64_t id = x->view.members[k].id;
            bool is_lost = id == victim->id || (id < IDS_MAX && s->ids[id].is_lost);

            /* A learner that is lost may become a voter by a request of its own that is still on its way. */
            voters += x->view.members[k].is_voter || is_lost;
            live += x->view.members[k].is_voter && !is_lost;
        }
        if (x->view.n > 0 && live <= voters / 2)
            return false;
    }
    return true;
}

static bool has_member(struct sim *s)
{
    for (unsigned i = 0; i < s->n_all; i++)
        if (hf_sim_is_up(&s->nodes[i]) && s->nodes[i].view.n > 0)
            return true;
    return false;
}

static void start_joiner(struct sim *s, struct node *n)
{
    if (!has_member(s))
        return;
    if (n->standing == STANDING_NONE && !n->name[0] && hf_prng_below(&s->prng, 2) == 0)
        snprintf(n->name, sizeof n->name, "m%u", n->number + 1);
    n->replaces[0] = 0;
    if (n->name[0] && n->life > 0)
        snprintf(n->replaces, sizeof n->replaces, "%s", n->name);
    else if (n->old_id != 0)
        snprintf(n->replaces, sizeof n->replaces, "%" PRIu64, n->old_id);
    hf_sim_trace(s, "node %u joins as \"%s\" in the place of \"%s\"", n->number + 1, n->name, n->replaces);
    s->joins++;
    n->is_joiner = true;
    n->standing = STANDING_MEMBER;
    hf_sim_start(s, n);
}

static void lose_disk(struct sim *s, struct node *n)
{
    hf_sim_trace(s, "node %u (id %" PRIu64 ") loses its disk", n->number + 1, n->id);
    s->wipes++;
    s->wiped_ms = hf_sim_now_ms(s);
    hf_sim_wipe(s, n);
    n->restart_at_ms = hf_sim_now_ms(s) + 300 + hf_prng_below(&s->prng, 2500);
}

/* With its old command line and an empty disk: it must not form a cluster, nor vote. */
static bool may_haunt(struct sim *s, const struct node *n)
{
    if (n->is_joiner || s->n == 1 || n->number >= s->n || s->is_healing)
        return false;
    for (unsigned i = 0; i < s->n_all; i++)
        if (s->nodes[i].is_ghost)
            return false;
    return hf_prng_below(&s->prng, 2) == 0;
}

static void look_after(struct sim *s, struct node *n)
{
    uint64_t now = hf_sim_now_ms(s);

    if (n->is_ghost && (now >= n->ghost_until_ms || s->is_healing)) {
        hf_sim_trace(s, "the ghost of node %u ends", n->number + 1);
        if (n->resume_at_ms) {
            hf_sim_node_resume(n->fake);
            n->resume_at_ms = 0;
        }
        hf_sim_wipe(s, n);
        n->is_joiner = true;
        n->restart_at_ms = now + 200;
    }
    if (n->standing != STANDING_WIPED || (now < n->restart_at_ms && !s->is_healing))
        return;
    if (may_haunt(s, n)) {
        hf_sim_trace(s, "node %u starts as what it was, with an empty disk", n->number + 1);
        n->is_ghost = true;
        n->standing = STANDING_MEMBER;
        n->ghost_until_ms = now + GHOST_MS;
        hf_sim_start(s, n);
        return;
    }
    start_joiner(s, n);
}

static void rejoin(struct sim *s, struct node *n)
{
    if (!has_member(s))
        return;
    hf_sim_trace(s, "node %u (id %" PRIu64 ") is repaired from its peers", n->number + 1, n->id);
    s->wipes++;
    s->wiped_ms = hf_sim_now_ms(s);
    if (n->node)
        hf_sim_stop(s, n, hf_prng_below(&s->prng, 2) == 0);
    if (hf_sim_rejoin(s, n))
        n->restart_at_ms = hf_sim_now_ms(s) + 100;
}

/* ---- operators ---------------------------------------------------------------------------------------- */

static void on_answer(struct hf_member_request *req, int rc, const char *text)
{
    struct sim *s = req->data;

    hf_sim_trace(s, "answer: %d %s", rc, text);
    s->is_asking = false;
    s->answered_ms = hf_sim_now_ms(s);
    if (rc == 0)
        s->changes++;
    /* It may have been a voter for a moment only. */
    for (unsigned i = 0; i < s->n_all && req->op == HF_MEMBER_DEMOTE && rc != HF_E_INVALID; i++)
        s->nodes[i].was_voter |= s->nodes[i].id == strtoull(req->node, NULL, 10);
    if (strncmp(text, rc == 0 ? "OK" : rc == HF_E_TIMEOUT ? "UNKNOWN" : text[0] == 'N' ? "NOLEADER" : "ERR", 2) != 0)
        hf_sim_complain(s, "an answer about members that says nothing: %d %s", rc, text);
}

static void choose_request(struct sim *s, const struct node *by, struct hf_member_request *req)
{
    static const int ops[] = {HF_MEMBER_REMOVE,  HF_MEMBER_REMOVE,   HF_MEMBER_PROMOTE,  HF_MEMBER_DEMOTE,
                              HF_MEMBER_REPLACE, HF_MEMBER_TRANSFER, HF_MEMBER_TRANSFER, HF_MEMBER_ADD};
    unsigned at = (unsigned)hf_prng_below(&s->prng, by->view.n), other = (unsigned)hf_prng_below(&s->prng, by->view.n);
    struct node *spare = &s->nodes[hf_prng_below(&s->prng, s->n_all)];

    req->op = ops[hf_prng_below(&s->prng, sizeof ops / sizeof ops[0])];
    snprintf(req->node, sizeof req->node, "%" PRIu64, by->view.members[at].id);
    switch (req->op) {
    case HF_MEMBER_TRANSFER:
        if (hf_prng_below(&s->prng, 2) == 0)
            req->node[0] = 0;
        break;
    case HF_MEMBER_REPLACE:
        for (unsigned i = 0; i < by->view.n; i++)
            if (!by->view.members[i].is_voter)
                other = i;
        snprintf(req->other, sizeof req->other, "%" PRIu64, by->view.members[other].id);
        break;
    case HF_MEMBER_ADD:
        if (spare->standing == STANDING_NONE) {
            snprintf(spare->name, sizeof spare->name, "m%u", spare->number + 1);
            snprintf(req->node, sizeof req->node, "%s", spare->name);
            snprintf(req->other, sizeof req->other, "n%u:1", spare->number + 1);
        } else {
            req->op = HF_MEMBER_TRANSFER;
        }
        break;
    default:
        break;
    }
}

static void ask(struct sim *s, struct node *by)
{
    static const char *const names[] = {"", "join", "add", "remove", "promote", "demote", "replace", "transfer"};

    if (s->is_asking || !hf_sim_is_up(by) || by->view.n == 0 || by->is_ghost ||
        hf_sim_now_ms(s) < s->wiped_ms + ASK_APART_MS)
        return;
    memset(&s->ask, 0, sizeof s->ask);
    s->ask.data = s;
    s->ask.cb = on_answer;
    s->ask.timeout_ms = 5000;
    choose_request(s, by, &s->ask);
    hf_sim_trace(s, "an operator asks node %u: %s %s %s", by->number + 1, names[s->ask.op], s->ask.node, s->ask.other);
    s->is_asking = true;
    s->asked_ms = hf_sim_now_ms(s);
    hf_consensus_operate(hf_node_consensus(by->node), &s->ask);
}

/* ---- turns -------------------------------------------------------------------------------------------- */

static void act(struct sim *s, struct node *n)
{
    switch (n->standing) {
    case STANDING_NONE:
        start_joiner(s, n);
        break;
    case STANDING_REMOVED:
        switch (hf_prng_below(&s->prng, 3)) {
        case 0:
            hf_sim_start(s, n); /* is refused */
            break;
        case 1:
            rejoin(s, n);
            break;
        case 2:
            hf_sim_wipe(s, n);
            n->restart_at_ms = hf_sim_now_ms(s);
            break;
        }
        break;
    case STANDING_MEMBER:
        if (!n->is_ghost && s->faults & FAULT_WIPE && n->resume_at_ms == 0 && n->id != 0 &&
            hf_prng_below(&s->prng, 3) == 0 && hf_sim_may_wipe(s, n)) {
            if (hf_prng_below(&s->prng, 3) == 0)
                rejoin(s, n);
            else
                lose_disk(s, n);
            break;
        }
        ask(s, n);
        break;
    case STANDING_WIPED:
        break;
    }
}

void hf_sim_member_turn(struct sim *s)
{
    if (!(s->faults & FAULT_MEMBERS))
        return;
    for (unsigned i = 0; i < s->n_all && !s->is_broken; i++)
        look_after(s, &s->nodes[i]);
    if (!s->is_healing && !s->is_broken && hf_prng_below(&s->prng, TURNS_PER_ACTION) == 0)
        act(s, &s->nodes[hf_prng_below(&s->prng, s->n_all)]);
}

static const struct node *leader(struct sim *s)
{
    const struct node *best = NULL;

    for (unsigned i = 0; i < s->n_all; i++) {
        const struct node *n = &s->nodes[i];

        if (n->node && hf_consensus_role(hf_node_consensus(n->node)) == HF_ROLE_LEADER &&
            (!best || hf_consensus_term(hf_node_consensus(n->node)) > hf_consensus_term(hf_node_consensus(best->node))))
            best = n;
    }
    return best;
}

bool hf_sim_members_settled(struct sim *s, char *why, size_t why_size)
{
    const struct node *l = leader(s);
    uint64_t applied = l ? hf_state_applied_index(hf_node_state(l->node)) : 0;

    if (!l) {
        snprintf(why, why_size, "nobody leads");
        return false;
    }
    if (s->is_asking) {
        snprintf(why, why_size, "an operator waits for an answer since %" PRIu64, s->asked_ms);
        return false;
    }
    for (unsigned i = 0; i < s->n_all; i++) {
        const struct node *n = &s->nodes[i];
        struct hf_consensus_status st = {0};
        bool is_member = false, is_voter = false;

        for (unsigned k = 0; k < l->view.n && n->id != 0; k++)
            if (l->view.members[k].id == n->id) {
                is_member = true;
                is_voter = l->view.members[k].is_voter;
            }
        if (n->node)
            hf_consensus_status(hf_node_consensus(n->node), &st);
        if (n->standing == STANDING_WIPED || (n->standing == STANDING_MEMBER && !n->node)) {
            snprintf(why, why_size, "node %u is down", i + 1);
            return false;
        }
        if (n->standing == STANDING_REMOVED && is_member) {
            snprintf(why, why_size, "node %u (id %" PRIu64 ") was told that it is removed, and is a member", i + 1,
                     n->id);
            return false;
        }
        if (n->standing != STANDING_MEMBER)
            continue;
        /* It was repaired twice before it was a voter: its name is still taken, and an operator has to say more. */
        if (n->id == 0 && strstr(st.problem, "ERR there is a member called")) {
            s->refusals++;
            continue;
        }
        if (!is_member || (!is_voter && !n->was_voter)) {
            snprintf(why, why_size, "node %u (id %" PRIu64 ") is %s: %s", i + 1, n->id,
                     is_member ? "a learner and wants to vote" : "no member and does not stop", st.problem);
            return false;
        }
        if (hf_state_applied_index(hf_node_state(n->node)) != applied) {
            snprintf(why, why_size,
                     "node %u has applied %" PRIu64 " of its log %" PRIu64 "-%" PRIu64 ", the leader %" PRIu64 " (%s)",
                     i + 1, hf_state_applied_index(hf_node_state(n->node)), st.first_index, st.last_index, applied,
                     st.problem);
            return false;
        }
    }
    return applied > 0;
}
