/* faults.c: what goes wrong in the simulated cluster. Each seed picks the kinds that it knows, so that rare meetings of
 * few kinds come up as well as the storm of all. */
#include "base/assert.h"
#include "sim/sim.h"

#include <stdio.h>
#include <string.h>

#define AIM_MEMORY_MS 300u

void hf_sim_choose_faults(struct sim *s)
{
    struct hf_sim_rules *r = hf_sim_world_rules(s->world);
    struct hf_prng *p = &s->prng;

    for (unsigned bit = FAULT_CRASH; bit <= FAULT_HANDOVER; bit <<= 1)
        if (hf_prng_below(p, 5) != 0)
            s->faults |= bit;
    for (unsigned bit = FAULT_HANG; bit <= FAULT_LONG; bit <<= 1)
        if (hf_prng_below(p, 3) == 0)
            s->faults |= bit;
    if (hf_prng_below(p, 2) == 0)
        s->faults |= FAULT_MEMBERS;
    if ((s->faults & FAULT_MEMBERS) && hf_prng_below(p, 2) == 0)
        s->faults |= FAULT_WIPE;
    if (hf_prng_below(p, 4) != 0)
        s->faults |= FAULT_SHORT;
    r->latency_min_us = 20 + hf_prng_below(p, 200);
    r->latency_max_us = r->latency_min_us + hf_prng_below(p, 20000);
    r->job_min_us = 20;
    r->job_max_us = 100 + hf_prng_below(p, 5000);
    r->slow_job_per_mille = (uint32_t)hf_prng_below(p, 20);
    r->slow_job_us = 1000 + hf_prng_below(p, 400000);
    r->reset_per_million = hf_prng_below(p, 2) ? (uint32_t)hf_prng_below(p, 3000) : 0;
    r->cut_timeout_ms = 1000 + hf_prng_below(p, 4000);
    s->journal_max = s->faults & FAULT_SHORT ? (2u << 10) + hf_prng_below(p, 16u << 10) : 16u << 20;
    s->journal_pin = (16u << 10) + hf_prng_below(p, 512u << 10);
    s->chunk_bytes = (4u << 10) << hf_prng_below(p, 5);
    s->snapshot_rate = hf_prng_below(p, 2) ? 0 : (32u << 10) + hf_prng_below(p, 512u << 10);
}

static void crash(struct sim *s, struct node *n)
{
    hf_sim_trace(s, "crash node %u", n->number + 1);
    s->crashes++;
    hf_sim_stop(s, n, true);
    n->restart_at_ms = hf_sim_now_ms(s) + 50 +
                       hf_prng_below(&s->prng, s->faults & FAULT_LONG && hf_prng_below(&s->prng, 2) ? 9000 : 3000);
}

static void pause_node(struct sim *s, struct node *n)
{
    hf_sim_trace(s, "pause node %u", n->number + 1);
    s->pauses++;
    hf_sim_node_pause(n->fake);
    n->resume_at_ms = hf_sim_now_ms(s) + 50 +
                      hf_prng_below(&s->prng, s->faults & FAULT_LONG && hf_prng_below(&s->prng, 2) ? 8000 : 3000);
}

static void isolate(struct sim *s, const struct node *n)
{
    hf_sim_trace(s, "isolate node %u", n->number + 1);
    s->partitions++;
    for (unsigned i = 0; i < s->n_all; i++)
        if (i != n->number) {
            hf_sim_world_block(s->world, i, n->number, true);
            hf_sim_world_block(s->world, n->number, i, true);
        }
}

static void block(struct sim *s, unsigned a, unsigned b, bool is_both)
{
    if (a == b)
        return;
    hf_sim_trace(s, "block %u -> %u%s", a + 1, b + 1, is_both ? " and back" : "");
    s->partitions++;
    hf_sim_world_block(s->world, a, b, true);
    if (is_both)
        hf_sim_world_block(s->world, b, a, true);
}

static void on_transferred(void *data, int rc)
{
    struct node *n = data;

    (void)rc;
    n->is_transferring = false;
}

static void hand_over(struct sim *s, struct node *n)
{
    if (n->is_transferring || !hf_sim_is_up(n))
        return;
    hf_sim_trace(s, "node %u hands over", n->number + 1);
    n->is_transferring = true;
    hf_consensus_transfer(hf_node_consensus(n->node), 0, 1000, on_transferred, n);
}

static void hang(struct sim *s, struct node *n)
{
    static const char *const names[] = {"hf-journal", "hf-journal", "hf-state", "hf-meta", "hf-snapshot"};
    const char *name = names[hf_prng_below(&s->prng, sizeof names / sizeof names[0])];
    uint64_t ms = 200 + hf_prng_below(&s->prng, 5000);

    hf_sim_trace(s, "%s of node %u hangs for %u ms", name, n->number + 1, (unsigned)ms);
    s->hangs++;
    hf_sim_node_hang(n->fake, name, hf_sim_now_ms(s) + ms);
}

static struct node *leader_or(struct sim *s, struct node *n)
{
    for (unsigned i = 0; i < s->n_all; i++)
        if (s->nodes[i].node && hf_consensus_role(hf_node_consensus(s->nodes[i].node)) == HF_ROLE_LEADER)
            n = &s->nodes[i];
    return n;
}

/* Is a copy of the state on its way from or to this node, or being installed? */
static bool is_copying(struct sim *s, struct node *n)
{
    struct hf_snapshot_progress p[4];
    uint32_t count = hf_snapshots_progress(hf_node_snapshots(n->node), p, 4);

    for (uint32_t i = 0; i < count && i < 4; i++)
        if (!p[i].is_sending)
            n->aimed_until_ms = hf_sim_now_ms(s) + AIM_MEMORY_MS;
    return count > 0 || n->aimed_until_ms > hf_sim_now_ms(s);
}

/* Something happens to one end of a copy. */
static void aim(struct sim *s)
{
    struct node *n = &s->nodes[hf_prng_below(&s->prng, s->n_all)];

    if (!hf_sim_is_up(n) || !is_copying(s, n))
        return;
    /* Most often at who installs. */
    if (hf_prng_below(&s->prng, n->aimed_until_ms > hf_sim_now_ms(s) ? 6 : 25) != 0)
        return;
    hf_sim_trace(s, "aim at node %u", n->number + 1);
    switch (hf_prng_below(&s->prng, 6)) {
    case 0:
    case 1:
        crash(s, n);
        break;
    case 2:
        pause_node(s, n);
        break;
    case 3:
        isolate(s, n);
        break;
    case 4:
        hand_over(s, leader_or(s, n));
        break;
    case 5:
        block(s, n->number, (unsigned)hf_prng_below(&s->prng, s->n_all), true);
        break;
    }
}

static void bring_back(struct sim *s)
{
    for (unsigned i = 0; i < s->n_all; i++) {
        struct node *x = &s->nodes[i];

        if (x->resume_at_ms && (hf_sim_now_ms(s) >= x->resume_at_ms || s->is_healing)) {
            hf_sim_trace(s, "resume node %u", i + 1);
            hf_sim_node_resume(x->fake);
            x->resume_at_ms = 0;
            hf_sim_visit(s, x);
        }
        if (!x->node && x->standing == STANDING_MEMBER && !s->is_broken &&
            (hf_sim_now_ms(s) >= x->restart_at_ms || s->is_healing)) {
            hf_sim_trace(s, "start node %u", i + 1);
            hf_sim_start(s, x);
        }
    }
}

void hf_sim_fault_turn(struct sim *s)
{
    struct node *n = &s->nodes[hf_prng_below(&s->prng, s->n_all)];
    unsigned a = (unsigned)hf_prng_below(&s->prng, s->n_all), b = (unsigned)hf_prng_below(&s->prng, s->n_all);
    bool is_both = hf_prng_below(&s->prng, 2) == 0;

    bring_back(s);
    if (s->is_healing)
        return;
    if (s->faults & FAULT_AIM)
        aim(s);
    switch (hf_prng_below(&s->prng, 160)) {
    case 0:
        if (hf_sim_is_up(n) && s->faults & FAULT_CRASH)
            crash(s, n);
        break;
    case 1:
        if (hf_sim_is_up(n) && s->faults & FAULT_PAUSE)
            pause_node(s, n);
        break;
    case 2:
        if (s->faults & FAULT_CUT)
            block(s, a, b, is_both);
        break;
    case 3:
        if (s->faults & FAULT_CUT)
            isolate(s, n);
        break;
    case 4:
    case 5:
    case 6:
        hf_sim_trace(s, "heal");
        hf_sim_world_heal(s->world);
        break;
    case 7:
        if (n->node && s->faults & FAULT_CLOCK)
            hf_sim_node_set_wall_offset(n->fake, (int64_t)hf_prng_below(&s->prng, 20000) - 10000);
        break;
    case 8:
        if (hf_sim_is_up(n) && s->faults & FAULT_STOP && hf_prng_below(&s->prng, 3) == 0) {
            hf_sim_trace(s, "stop node %u", n->number + 1);
            hf_sim_stop(s, n, false);
            n->restart_at_ms = hf_sim_now_ms(s) + 50 + hf_prng_below(&s->prng, 1000);
        }
        break;
    case 9: /* leadership by order */
        if (hf_sim_is_up(n) && s->faults & FAULT_HANDOVER)
            hand_over(s, n);
        break;
    case 10: /* the leader sleeps, and when it wakes another one can't tell it what happened */
    case 11:
        n = leader_or(s, n);
        if (hf_sim_is_up(n) && s->faults & FAULT_PAUSE) {
            block(s, a, n->number, false);
            pause_node(s, n);
            if (n->resume_at_ms < hf_sim_now_ms(s) + 800)
                n->resume_at_ms += 800;
        }
        break;
    case 12:
        if (hf_sim_is_up(n) && s->faults & FAULT_HANG)
            hang(s, is_both ? leader_or(s, n) : n);
        break;
    default:
        break;
    }
}
