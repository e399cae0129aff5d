/* sim.c: whole clusters in one process on virtual time. Real consensus, journal, peer, propose, dispatch, proxy, apply
 * and store; fake time, streams and disks (tests/sim). One seed decides everything; the same seed gives the same
 * run. Two phases: faults while clients work, then everything heals and the cluster must serve again.
 *
 * Members come and go, lose their disks, lag so far that they need a copy of the state. Each seed picks some of the
 * kinds of faults (faults.c).
 *
 * Keys are of four kinds: plain values, counters, values with versions (GETV, CAS), values that may expire. Clients
 * send one command or several at once. Journals are short, so that they are cut all the time.
 *
 * Checked: every client's view of every key is linearizable and in the order of its connection (so no acknowledged
 * write is lost and no read is stale); a version belongs to one value only; equal state digests at equal applied
 * indexes; no raft id is used twice; journals keep to their bound; at the end who is a member agrees, who is none has
 * stopped, writes and reads succeed, no command waits for ever and no file is left behind.
 *
 *   sim --seed N [--trace]     one run
 *   sim --seeds A..B [--count] many; prints a failing seed and how to repeat it */
#include "sim/sim.h"
#include "base/log.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TURN_MS  5u
#define WATCH_MS 50u
#define QUIET_MS 36000u /* a copy that was received and is not asked for any more is kept for half a minute */

void hf_sim_complain(struct sim *s, const char *fmt, ...)
{
    va_list ap;

    if (s->is_broken)
        return;
    s->is_broken = true;
    va_start(ap, fmt);
    vsnprintf(s->complaint, sizeof s->complaint, fmt, ap);
    va_end(ap);
}

uint64_t hf_sim_now_ms(const struct sim *s)
{
    return hf_sim_world_now_ms(s->world);
}

void hf_sim_trace(const struct sim *s, const char *fmt, ...)
{
    va_list ap;

    if (!s->trace)
        return;
    printf("%8" PRIu64 " ", hf_sim_now_ms(s));
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("\n");
}

/* ---- a run -------------------------------------------------------------------------------------------- */

static void run_turns(struct sim *s, uint64_t until_ms, bool with_faults)
{
    uint64_t watched_ms = 0;

    while (hf_sim_now_ms(s) < until_ms && !s->is_broken) {
        hf_sim_world_run_until(s->world, hf_sim_now_ms(s) + TURN_MS);
        if (hf_sim_now_ms(s) >= watched_ms + WATCH_MS) {
            watched_ms = hf_sim_now_ms(s);
            hf_sim_watch(s);
        }
        if (with_faults && !s->is_broken) {
            hf_sim_fault_turn(s);
            hf_sim_member_turn(s);
        }
        for (unsigned i = 0; i < CLIENTS; i++)
            hf_sim_client_turn(s, &s->clients[i]);
        if (hf_prng_below(&s->prng, 10) == 0)
            hf_sim_probe(s, &s->nodes[hf_prng_below(&s->prng, s->n_all)]);
    }
}

static void set_up(struct sim *s)
{
    hf_prng_seed(&s->prng, s->seed);
    s->world = hf_sim_world_new(s->seed ^ 0x5deece66d);
    s->n = hf_prng_below(&s->prng, 4) == 0 ? 5 : hf_prng_below(&s->prng, 10) == 0 ? 1 : 3;
    hf_sim_choose_faults(s);
    s->n_all = s->n;
    if (s->faults & FAULT_MEMBERS)
        s->n_all += s->n == 1 ? 2 : 1 + (unsigned)hf_prng_below(&s->prng, 2);
    for (unsigned i = 0; i < s->n_all; i++) {
        s->nodes[i].sim = s;
        s->nodes[i].number = i;
        if (i >= s->n)
            continue;
        s->nodes[i].standing = STANDING_MEMBER;
        s->nodes[i].was_voter = true;
        hf_sim_start(s, &s->nodes[i]);
    }
    for (unsigned i = 0; i < CLIENTS; i++) {
        s->clients[i].sim = s;
        s->clients[i].number = i;
    }
    s->visitor.sim = s;
    s->visitor.number = CLIENTS;
}

/* Nothing goes wrong any more; what was lost comes back as new members. */
static void heal(struct sim *s)
{
    struct hf_sim_rules *r = hf_sim_world_rules(s->world);

    s->is_healing = true;
    hf_sim_world_heal(s->world);
    r->reset_per_million = 0;
    r->slow_job_per_mille = 0;
    r->latency_max_us = 500;
    for (unsigned i = 0; i < s->n_all; i++)
        if (s->nodes[i].fake)
            hf_sim_node_hang(s->nodes[i].fake, "", 0);
    if (!s->is_broken)
        hf_sim_fault_turn(s);
    s->heal_ms = hf_sim_now_ms(s);
}

/* Clients stop; everybody ends with the same state, and no file is left behind. */
static void settle(struct sim *s)
{
    uint64_t deadline = hf_sim_now_ms(s) + CONVERGE_MS;
    bool is_settled = false;
    char why[800] = "a client waits";

    s->is_ending = true;
    while (!s->is_broken && hf_sim_now_ms(s) < deadline && !is_settled) {
        bool is_idle = true;

        run_turns(s, hf_sim_now_ms(s) + 100, true);
        hf_sim_watch(s);
        for (unsigned i = 0; i < CLIENTS; i++)
            is_idle &= s->clients[i].n_busy == 0;
        is_settled = is_idle && hf_sim_members_settled(s, why, sizeof why);
    }
    if (!s->is_broken && !is_settled)
        hf_sim_complain(s, "not settled within %u ms after everything healed: %s", CONVERGE_MS, why);
    if (!s->is_broken)
        hf_sim_world_run_until(s->world, hf_sim_now_ms(s) + QUIET_MS);
    for (unsigned i = 0; i < s->n_all && !s->is_broken; i++)
        if (s->nodes[i].node) {
            hf_sim_check_files(s, &s->nodes[i]);
            hf_sim_probe(s, &s->nodes[i]);
        }
    if (!s->is_broken)
        hf_sim_world_run_until(s->world, hf_sim_now_ms(s) + 1000);
}

static void check_histories(struct sim *s)
{
    static const char *const kind_names[] = {"read", "write", "add", "swap", "expire"};

    for (unsigned k = 0; k < KEYS && !s->is_broken; k++) {
        struct hf_history kept = {.n = 0};
        uint32_t place[HF_HISTORY_OPS_MAX] = {0}; /* 1 + place among the kept */

        for (uint32_t i = 0; i < s->keys[k].n; i++) {
            const struct hf_history_op *op = &s->keys[k].ops[i];

            /* Reads without an answer and operations that did not happen say nothing. */
            if (op->invoked == UINT64_MAX || (op->kind == HF_HISTORY_READ && op->completed == UINT64_MAX))
                continue;
            kept.ops[kept.n] = *op;
            kept.ops[kept.n].after = op->after ? place[op->after - 1] : 0;
            place[i] = ++kept.n;
        }
        if (!hf_history_is_linearizable(&kept)) {
            hf_sim_complain(s, "the history of key k%u is not linearizable", k);
            for (uint32_t i = 0; i < kept.n; i++)
                printf("  %2u %s %" PRIu64 " (expected %" PRIu64 ", swapped %d) invoked %" PRIu64 " completed %" PRId64
                       " after %d\n",
                       i, kind_names[kept.ops[i].kind], kept.ops[i].value, kept.ops[i].expected,
                       (int)kept.ops[i].did_swap, kept.ops[i].invoked, (int64_t)kept.ops[i].completed,
                       (int)kept.ops[i].after - 1);
        }
    }
}

static void tear_down(struct sim *s)
{
    for (unsigned i = 0; i < s->n_all; i++)
        if (s->nodes[i].resume_at_ms) {
            hf_sim_node_resume(s->nodes[i].fake);
            s->nodes[i].resume_at_ms = 0;
        }
    for (unsigned i = 0; i < CLIENTS; i++)
        hf_sim_abandon(&s->clients[i]);
    hf_sim_abandon(&s->visitor);
    for (unsigned i = 0; i < s->n_all; i++) {
        if (s->nodes[i].fake)
            hf_sim_stop(s, &s->nodes[i], false);
        hf_sim_disk_free(s->nodes[i].disk);
    }
    hf_sim_world_free(s->world);
    hf_free(s);
}

static bool run_seed(uint64_t seed, bool is_traced)
{
    struct sim *s = hf_calloc(1, sizeof *s);
    uint64_t acked, reads;
    bool ok;

    s->seed = seed;
    s->trace = is_traced;
    set_up(s);
    /* The cluster forms in peace; from then on anything may happen. */
    run_turns(s, 4000, false);
    run_turns(s, 4000 + FAULT_MS, true);

    /* Heal, then progress is owed within a bound. */
    heal(s);
    acked = s->acked;
    reads = s->reads;
    run_turns(s, hf_sim_now_ms(s) + HEAL_MS, true);
    while (!s->is_broken && (s->reads == reads || s->acked == acked) && hf_sim_now_ms(s) < s->heal_ms + SERVE_MS)
        run_turns(s, hf_sim_now_ms(s) + 100, true);
    if (!s->is_broken && s->reads == reads)
        hf_sim_complain(s, "no read succeeded within %u ms after everything healed", SERVE_MS);
    if (!s->is_broken && s->acked == acked)
        hf_sim_complain(s, "no write succeeded within %u ms after everything healed", SERVE_MS);
    settle(s);
    if (!s->is_broken)
        check_histories(s);
    ok = !s->is_broken;
    if (!ok)
        printf("seed %" PRIu64 " FAILED: %s\n  repeat: sim --seed %" PRIu64 " --trace\n", seed, s->complaint, seed);
    if (is_traced)
        printf("seed %" PRIu64 " %s: faults %x, %u nodes, %" PRIu64 " writes acked, %" PRIu64 " unknown, %" PRIu64
               " failed, %" PRIu64 " reads, %u crashes, %u pauses, %u partitions, %u hangs, %u copies installed, %u "
               "disks lost, %u joined, %u changes, %u removed\n",
               seed, ok ? "ok" : "failed", s->faults, s->n_all, s->acked, s->unknown, s->failed, s->reads, s->crashes,
               s->pauses, s->partitions, s->hangs, s->installs, s->wipes, s->joins, s->changes, s->removals);
    tear_down(s);
    return ok;
}

int main(int argc, char **argv)
{
    uint64_t from = 1, to = 1, failed = 0, done = 0;
    bool is_traced = false, is_counted = false;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
            from = to = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--seeds") == 0 && i + 1 < argc) {
            char *dots = strstr(argv[++i], "..");

            from = strtoull(argv[i], NULL, 10);
            to = dots ? strtoull(dots + 2, NULL, 10) : from;
        } else if (strcmp(argv[i], "--trace") == 0) {
            is_traced = true;
        } else if (strcmp(argv[i], "--count") == 0) {
            is_counted = true; /* close with the line that tests/run adds up */
        } else {
            fprintf(stderr, "usage: sim [--seed N | --seeds A..B] [--trace] [--count]\n");
            return 2;
        }
    }
    hf_command_table_init();
    hf_log_silence(!is_traced);
    for (uint64_t seed = from; seed <= to; seed++) {
        failed += !run_seed(seed, is_traced);
        done++;
        if (isatty(1) && to > from)
            printf("\r%" PRIu64 " of %" PRIu64 " seeds, %" PRIu64 " failed ", done, to - from + 1, failed);
        fflush(stdout);
    }
    if (isatty(1))
        printf("\n");
    if (is_counted)
        printf("%" PRIu64 " passed, %" PRIu64 " failed\n", done - failed, failed);
    else
        printf("%" PRIu64 " seeds run, %" PRIu64 " failed\n", done, failed);
    return failed ? 1 : 0;
}
