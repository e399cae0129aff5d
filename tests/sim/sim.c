/* sim.c: whole clusters in one process on virtual time. Real consensus, journal, peer, propose, dispatch, proxy, apply
 * and store; fake time, streams and disks (tests/sim). One seed decides everything; the same seed gives the same
 * run. Two phases: faults while clients work, then everything heals and the cluster must serve again.
 *
 * Checked: every client's view of every key is linearizable (so no acknowledged write is lost and no read is stale);
 * equal state digests at equal applied indexes; at the end all nodes agree and a write succeeds.
 *
 *   sim --seed N [--trace]     one run
 *   sim --seeds A..B [--count] many; prints a failing seed and how to repeat it */
#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "main/node.h"
#include "sim/history.h"
#include "sim/vfs.h"
#include "sim/world.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NODES_MAX          5
#define CLIENTS            5
#define KEYS               400
#define FAULT_MS           20000u
#define HEAL_MS            20000u
#define DIGESTS_MAX        4096
#define CLIENT_PATIENCE_MS 12000u

struct sim;

struct node {
    struct sim *sim;
    unsigned number;
    struct hf_sim_node *fake;
    struct hf_node *node;
    struct hf_stats *stats;
    struct hf_sim_vfs *vfs;
    struct hf_sim_disk *disk; /* while down */
    unsigned starts;
    uint64_t restart_at_ms; /* 0 = up */
    uint64_t resume_at_ms;  /* 0 = not paused */
    bool has_failed;
    struct hf_lane *probe_lane;
    bool is_probing;
};

struct client {
    struct sim *sim;
    unsigned number, at; /* node it is connected to */
    struct hf_lane *lane;
    struct request *busy;
    uint64_t next_ms;
};

struct request {
    struct hf_dispatch_req req; /* first: the lane frees the block */
    struct client *client;      /* NULL once the client gave up on it */
    struct node *probe;
    uint64_t started_ms;
    uint32_t key;
    uint32_t op; /* in the key's history */
    struct hf_slice words[3];
    char bytes[128];
};

struct sim {
    uint64_t seed;
    struct hf_sim_world *world;
    struct hf_prng prng; /* of the schedule and the clients, apart from the world's */
    unsigned n;
    struct node nodes[NODES_MAX];
    struct client clients[CLIENTS];
    struct hf_history keys[KEYS];
    uint32_t key_base; /* clients work on a window of keys that moves on, so that histories stay short */
    uint64_t next_value;
    uint64_t clock; /* rises with every invocation and completion */
    uint64_t acked, unknown, failed, reads;
    struct {
        uint64_t index;
        char digest[40];
    } digests[DIGESTS_MAX];
    bool is_healing, is_broken, trace;
    char complaint[512];
    unsigned crashes, pauses, partitions;
};

static void complain(struct sim *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void complain(struct sim *s, const char *fmt, ...)
{
    va_list ap;

    if (s->is_broken)
        return;
    s->is_broken = true;
    va_start(ap, fmt);
    vsnprintf(s->complaint, sizeof s->complaint, fmt, ap);
    va_end(ap);
}

static uint64_t now_ms(const struct sim *s)
{
    return hf_sim_world_now_ms(s->world);
}

static void trace(const struct sim *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void trace(const struct sim *s, const char *fmt, ...)
{
    va_list ap;

    if (!s->trace)
        return;
    printf("%8" PRIu64 " ", now_ms(s));
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("\n");
}

/* ---- nodes -------------------------------------------------------------------------------------------- */

static void on_node_failed(void *data, int err, const char *why)
{
    struct node *n = data;

    n->has_failed = true;
    complain(n->sim, "node %u stopped: %s (%s)", n->number + 1, why, hf_strerror(err));
}

static void start_node(struct sim *s, struct node *n)
{
    struct hf_node_config c;
    char dir[32], listen[32], client[32], members[256], vfs[64], why[512];
    size_t used = 0;
    int rc;

    n->fake = hf_sim_node_new(s->world, n->number);
    if (n->disk)
        hf_sim_node_set_fs(n->fake, n->disk);
    n->disk = NULL;
    n->stats = hf_stats_new();
    snprintf(vfs, sizeof vfs, "sim-%u", n->number);
    n->vfs = hf_sim_vfs_new(vfs, hf_sim_node_env(n->fake)->fs);
    snprintf(dir, sizeof dir, "/n%u", n->number + 1);
    snprintf(listen, sizeof listen, "n%u:1", n->number + 1);
    snprintf(client, sizeof client, "n%u:2", n->number + 1);
    for (unsigned i = 0; i < s->n; i++)
        used += (size_t)snprintf(members + used, sizeof members - used, "%s%u=n%u:1", i ? "," : "", i + 1, i + 1);
    memset(&c, 0, sizeof c);
    c.consensus.dir = dir;
    c.consensus.node_id = n->number + 1;
    c.consensus.listen_address = listen;
    c.consensus.client_address = client;
    c.consensus.members = members;
    c.consensus.cluster_id = "";
    c.consensus.seed = s->seed * 1000 + n->number * 100 + ++n->starts;
    c.consensus.election_timeout_ms = 600;
    c.consensus.heartbeat_ms = 100;
    c.consensus.message_bytes_max = 4u << 20;
    c.consensus.journal_segment_bytes = 64u << 10;
    c.consensus.journal_tail_bytes = 16u << 10;
    c.consensus.journal_retain_bytes = 8u << 20;
    c.consensus.journal_max_bytes = 16u << 20;
    c.consensus.snapshot_journal_bytes = 256u << 10;
    c.state.store.vfs = hf_sim_vfs_name(n->vfs);
    c.state.store.cache_bytes_max = 64u << 10;
    c.state.store.dirty_bytes_max = 8u << 10;
    c.state.store.page_cache_bytes = 256u << 10;
    c.state.commit_interval_ms = 500;
    c.state.commit_bytes_max = 64u << 10;
    c.proposer.entry_bytes_max = 64u << 10;
    c.proposer.entries_in_flight = 4;
    c.proposer.queue_bytes_max = 1u << 20;
    c.proposer.unknown_timeout_ms = 3000;
    c.proposer.state_queue_bytes_max = 1u << 20;
    c.proposer.seed = c.consensus.seed + 7;
    c.dispatch.no_leader_timeout_ms = 3000;
    c.dispatch.lane_queue_max = 64;
    c.dispatch.overload_bytes = 512u << 10;
    c.limits.bulk_bytes_max = 1u << 20;
    c.limits.query_bytes_max = 2u << 20;
    c.limits.args_max = 1024;
    c.limits.inline_bytes_max = 64u << 10;
    c.on_failed = on_node_failed;
    c.failed_data = n;
    rc = hf_node_open(hf_sim_node_env(n->fake), &c, n->stats, &n->node, why, sizeof why);
    if (rc < 0) {
        n->node = NULL;
        complain(s, "node %u does not start: %s (%s)", n->number + 1, why, hf_strerror(rc));
        return;
    }
    n->restart_at_ms = 0;
    n->probe_lane = hf_lane_open(hf_node_dispatcher(n->node));
    n->is_probing = false;
}

static void release_request(struct hf_dispatch_req *req)
{
    hf_reply_free(&req->reply);
    hf_free(req);
}

/* The client's command is lost from its sight: it may have happened. */
static void abandon(struct client *c)
{
    struct sim *s = c->sim;

    if (c->busy) {
        struct hf_history *h = &s->keys[c->busy->key];

        c->busy->client = NULL;
        if (h->ops[c->busy->op].kind == HF_HISTORY_WRITE)
            s->unknown++;
        c->busy = NULL; /* its operation stays open in the history */
    }
    if (c->lane)
        hf_lane_close(c->lane, release_request);
    c->lane = NULL;
    c->next_ms = now_ms(s) + 50;
}

static void stop_node(struct sim *s, struct node *n, bool is_crash)
{
    struct hf_sim_disk *disk = NULL;

    if (is_crash)
        hf_sim_node_crash(n->fake, &disk);
    for (unsigned i = 0; i < CLIENTS; i++)
        if (s->clients[i].lane && s->clients[i].at == n->number)
            abandon(&s->clients[i]);
    if (n->node) {
        hf_lane_close(n->probe_lane, release_request);
        hf_node_close(n->node);
    }
    n->node = NULL;
    if (!is_crash) {
        /* A clean stop; the disk is what its owner left. */
        disk = hf_sim_node_take_fs(n->fake);
    }
    hf_sim_node_free(n->fake);
    n->fake = NULL;
    hf_sim_vfs_free(n->vfs);
    hf_stats_free(n->stats);
    n->disk = disk;
    n->resume_at_ms = 0;
}

/* ---- clients ------------------------------------------------------------------------------------------ */

static void close_op(struct sim *s, struct request *r, struct hf_slice reply)
{
    struct hf_history *h = &s->keys[r->key];
    struct hf_history_op *op = &h->ops[r->op];
    enum hf_reply_tag tag = hf_reply_first_tag(reply);
    struct hf_reader in = hf_reader(hf_slice(reply.ptr + 1, reply.len - 1));

    if (tag == HF_REPLY_ERROR) {
        struct hf_slice text = hf_read_slice(&in);

        if (text.len >= 7 && memcmp(text.ptr, "UNKNOWN", 7) == 0 && op->kind == HF_HISTORY_WRITE) {
            s->unknown++;
            return; /* stays open */
        }
        /* Every other error says that it did not happen. */
        s->failed++;
        if (op->kind == HF_HISTORY_WRITE)
            op->value = UINT64_MAX; /* nobody may ever read this */
        op->invoked = UINT64_MAX;
        return;
    }
    op->completed = ++s->clock;
    if (op->kind == HF_HISTORY_WRITE) {
        s->acked++;
        if (tag != HF_REPLY_STATUS)
            complain(s, "SET answered with tag %d", (int)tag);
        return;
    }
    s->reads++;
    if (tag == HF_REPLY_NULL) {
        op->value = 0;
    } else if (tag == HF_REPLY_BULK) {
        struct hf_slice v = hf_read_slice(&in);
        char text[32];

        snprintf(text, sizeof text, "%.*s", (int)(v.len < 31 ? v.len : 31), (const char *)v.ptr);
        op->value = strtoull(text + 1, NULL, 10);
    } else {
        complain(s, "GET answered with tag %d", (int)tag);
    }
}

static void on_reply(struct hf_dispatch_req *req)
{
    struct request *r = (struct request *)(void *)req;
    struct client *c = r->client;

    if (c) {
        struct sim *s = c->sim;

        trace(s, "client %u key %u op %u: reply tag %d", c->number, r->key, r->op,
              (int)hf_reply_first_tag(hf_buf_slice(&req->reply.buf)));
        close_op(s, r, hf_buf_slice(&req->reply.buf));
        c->busy = NULL;
        c->next_ms = now_ms(s) + hf_prng_below(&s->prng, 30);
    }
    release_request(req);
}

static void give_word(struct request *r, unsigned at, const char *text)
{
    size_t used = 0;

    for (unsigned i = 0; i < at; i++)
        used += r->words[i].len;
    memcpy(r->bytes + used, text, strlen(text));
    r->words[at] = hf_slice(r->bytes + used, strlen(text));
}

static struct request *new_request(const char *a, const char *b, const char *c)
{
    struct request *r = hf_calloc(1, sizeof *r);
    struct hf_reply err = {0};

    give_word(r, 0, a);
    if (b)
        give_word(r, 1, b);
    if (c)
        give_word(r, 2, c);
    r->req.args.at = r->words;
    r->req.args.n = c ? 3 : b ? 2 : 1;
    r->req.command = hf_command_resolve(&r->req.args, &err);
    HF_ASSERT(r->req.command != NULL);
    r->req.cb = on_reply;
    hf_reply_free(&err);
    return r;
}

static void client_turn(struct sim *s, struct client *c)
{
    struct hf_history *h;
    struct request *r;
    char key[24], value[24];
    uint32_t k;
    bool is_write;

    if (c->busy) {
        if (now_ms(s) - c->busy->started_ms > CLIENT_PATIENCE_MS)
            abandon(c);
        return;
    }
    if (now_ms(s) < c->next_ms)
        return;
    if (!c->lane || hf_prng_below(&s->prng, 50) == 0) {
        struct node *n;

        if (c->lane)
            abandon(c);
        c->at = (unsigned)hf_prng_below(&s->prng, s->n);
        n = &s->nodes[c->at];
        if (!n->node || n->resume_at_ms) {
            c->next_ms = now_ms(s) + 20;
            return;
        }
        c->lane = hf_lane_open(hf_node_dispatcher(n->node));
    }
    k = s->key_base + (uint32_t)hf_prng_below(&s->prng, 4);
    if (k >= KEYS)
        return;
    h = &s->keys[k];
    if (h->n >= 40) {
        s->key_base++;
        return;
    }
    is_write = hf_prng_below(&s->prng, 2) == 0;
    snprintf(key, sizeof key, "k%u", k);
    snprintf(value, sizeof value, "v%" PRIu64, ++s->next_value);
    r = new_request(is_write ? "SET" : "GET", key, is_write ? value : NULL);
    r->client = c;
    r->key = k;
    r->op = h->n;
    r->started_ms = now_ms(s);
    h->ops[h->n++] = (struct hf_history_op){.kind = is_write ? HF_HISTORY_WRITE : HF_HISTORY_READ,
                                            .value = is_write ? s->next_value : 0,
                                            .invoked = ++s->clock,
                                            .completed = UINT64_MAX};
    c->busy = r;
    trace(s, "client %u at %u: %s %s (op %u)", c->number, c->at + 1, is_write ? value : "get", key, r->op);
    hf_lane_submit(c->lane, &r->req);
}

/* ---- digests ------------------------------------------------------------------------------------------ */

static bool info_field(struct hf_slice text, const char *name, char *out, size_t cap)
{
    const char *at = memmem(text.ptr, text.len, name, strlen(name));
    size_t n = 0;

    if (!at)
        return false;
    for (at += strlen(name); n + 1 < cap && at < (const char *)text.ptr + text.len && *at != '\r' && *at != '\n'; at++)
        out[n++] = *at;
    out[n] = 0;
    return true;
}

static void on_probe(struct hf_dispatch_req *req)
{
    struct request *r = (struct request *)(void *)req;
    struct sim *s = r->probe->sim;
    struct hf_slice flat = hf_buf_slice(&req->reply.buf);
    struct hf_reader in = hf_reader(hf_slice(flat.ptr + 1, flat.len - 1));
    char index_text[32], digest[40];
    uint64_t index;

    r->probe->is_probing = false;
    struct hf_slice text = hf_read_slice(&in);
    if (!info_field(text, "raft_applied_index:", index_text, sizeof index_text) ||
        !info_field(text, "raft_digest:", digest, sizeof digest)) {
        complain(s, "INFO raft has no applied index or digest");
    } else {
        index = strtoull(index_text, NULL, 10);
        if (s->digests[index % DIGESTS_MAX].index == index && index > 0) {
            if (strcmp(s->digests[index % DIGESTS_MAX].digest, digest) != 0)
                complain(s, "node %u has digest %s at index %" PRIu64 ", another had %s", r->probe->number + 1, digest,
                         index, s->digests[index % DIGESTS_MAX].digest);
        } else {
            s->digests[index % DIGESTS_MAX].index = index;
            snprintf(s->digests[index % DIGESTS_MAX].digest, 40, "%s", digest);
        }
    }
    release_request(req);
}

static void probe(struct sim *s, struct node *n)
{
    struct request *r;

    if (!n->node || n->is_probing || n->resume_at_ms || s->is_broken)
        return;
    n->is_probing = true;
    r = new_request("INFO", "raft", NULL);
    r->req.cb = on_probe;
    r->probe = n;
    hf_lane_submit(n->probe_lane, &r->req);
}

/* ---- faults ------------------------------------------------------------------------------------------- */

static void fault_turn(struct sim *s)
{
    uint64_t now = now_ms(s);
    struct node *n = &s->nodes[hf_prng_below(&s->prng, s->n)];

    for (unsigned i = 0; i < s->n; i++) {
        struct node *x = &s->nodes[i];

        if (x->resume_at_ms && (now >= x->resume_at_ms || s->is_healing)) {
            trace(s, "resume node %u", i + 1);
            hf_sim_node_resume(x->fake);
            x->resume_at_ms = 0;
        }
        if (!x->node && !s->is_broken && (now >= x->restart_at_ms || s->is_healing)) {
            trace(s, "start node %u", i + 1);
            start_node(s, x);
        }
    }
    if (s->is_healing)
        return;
    switch (hf_prng_below(&s->prng, 160)) {
    case 0:
        if (n->node && !n->resume_at_ms) {
            trace(s, "crash node %u", n->number + 1);
            s->crashes++;
            stop_node(s, n, true);
            n->restart_at_ms = now + 50 + hf_prng_below(&s->prng, 3000);
        }
        break;
    case 1:
        if (n->node && !n->resume_at_ms) {
            trace(s, "pause node %u", n->number + 1);
            s->pauses++;
            hf_sim_node_pause(n->fake);
            n->resume_at_ms = now + 50 + hf_prng_below(&s->prng, 3000);
        }
        break;
    case 2: {
        unsigned a = (unsigned)hf_prng_below(&s->prng, s->n), b = (unsigned)hf_prng_below(&s->prng, s->n);
        bool is_both = hf_prng_below(&s->prng, 2) == 0;

        if (a != b) {
            trace(s, "block %u -> %u%s", a + 1, b + 1, is_both ? " and back" : "");
            s->partitions++;
            hf_sim_world_block(s->world, a, b, true);
            if (is_both)
                hf_sim_world_block(s->world, b, a, true);
        }
        break;
    }
    case 3: { /* isolate one */
        trace(s, "isolate node %u", n->number + 1);
        s->partitions++;
        for (unsigned i = 0; i < s->n; i++)
            if (i != n->number) {
                hf_sim_world_block(s->world, i, n->number, true);
                hf_sim_world_block(s->world, n->number, i, true);
            }
        break;
    }
    case 4:
    case 5:
    case 6:
        trace(s, "heal");
        hf_sim_world_heal(s->world);
        break;
    case 7:
        if (n->node)
            hf_sim_node_set_wall_offset(n->fake, (int64_t)hf_prng_below(&s->prng, 20000) - 10000);
        break;
    case 8:
        if (n->node && !n->resume_at_ms && hf_prng_below(&s->prng, 3) == 0) {
            trace(s, "stop node %u", n->number + 1);
            stop_node(s, n, false);
            n->restart_at_ms = now + 50 + hf_prng_below(&s->prng, 1000);
        }
        break;
    default:
        break;
    }
}

/* ---- a run -------------------------------------------------------------------------------------------- */

static void set_rules(struct sim *s)
{
    struct hf_sim_rules *r = hf_sim_world_rules(s->world);

    r->latency_min_us = 20 + hf_prng_below(&s->prng, 200);
    r->latency_max_us = r->latency_min_us + hf_prng_below(&s->prng, 20000);
    r->job_min_us = 20;
    r->job_max_us = 100 + hf_prng_below(&s->prng, 5000);
    r->slow_job_per_mille = (uint32_t)hf_prng_below(&s->prng, 20);
    r->slow_job_us = 1000 + hf_prng_below(&s->prng, 400000);
    r->reset_per_million = hf_prng_below(&s->prng, 2) ? (uint32_t)hf_prng_below(&s->prng, 3000) : 0;
    r->cut_timeout_ms = 1000 + hf_prng_below(&s->prng, 4000);
}

static bool all_agree(struct sim *s)
{
    uint64_t applied = 0;

    for (unsigned i = 0; i < s->n; i++) {
        uint64_t a = hf_state_applied_index(hf_node_state(s->nodes[i].node));

        if (i > 0 && a != applied)
            return false;
        applied = a;
    }
    return applied > 0;
}

static void run_clients(struct sim *s, uint64_t until_ms, bool with_faults)
{
    while (now_ms(s) < until_ms && !s->is_broken) {
        hf_sim_world_run_until(s->world, now_ms(s) + 5);
        if (with_faults)
            fault_turn(s);
        for (unsigned i = 0; i < CLIENTS; i++)
            client_turn(s, &s->clients[i]);
        if (hf_prng_below(&s->prng, 10) == 0)
            probe(s, &s->nodes[hf_prng_below(&s->prng, s->n)]);
    }
}

static bool run_seed(uint64_t seed, bool is_traced)
{
    struct sim *s = hf_calloc(1, sizeof *s);
    uint64_t deadline, acked;
    bool ok;

    s->seed = seed;
    s->trace = is_traced;
    hf_prng_seed(&s->prng, seed);
    s->world = hf_sim_world_new(seed ^ 0x5deece66d);
    s->n = hf_prng_below(&s->prng, 4) == 0 ? 5 : hf_prng_below(&s->prng, 10) == 0 ? 1 : 3;
    set_rules(s);
    for (unsigned i = 0; i < s->n; i++) {
        s->nodes[i].sim = s;
        s->nodes[i].number = i;
        start_node(s, &s->nodes[i]);
    }
    for (unsigned i = 0; i < CLIENTS; i++) {
        s->clients[i].sim = s;
        s->clients[i].number = i;
    }
    /* The cluster forms in peace; from then on anything may happen. */
    run_clients(s, 4000, false);
    run_clients(s, 4000 + FAULT_MS, true);

    /* Heal, then progress is owed within a bound. */
    s->is_healing = true;
    hf_sim_world_heal(s->world);
    hf_sim_world_rules(s->world)->reset_per_million = 0;
    hf_sim_world_rules(s->world)->slow_job_per_mille = 0;
    hf_sim_world_rules(s->world)->latency_max_us = 500;
    if (!s->is_broken)
        fault_turn(s);
    acked = s->acked;
    run_clients(s, now_ms(s) + HEAL_MS, true);
    if (!s->is_broken && s->acked == acked)
        complain(s, "no write succeeded within %u ms after everything healed", HEAL_MS);
    /* Clients stop; everybody ends with the same state. */
    deadline = now_ms(s) + HEAL_MS;
    for (unsigned i = 0; i < CLIENTS; i++)
        s->clients[i].next_ms = UINT64_MAX;
    while (!s->is_broken && now_ms(s) < deadline) {
        bool is_idle = true;

        hf_sim_world_run_until(s->world, now_ms(s) + 50);
        for (unsigned i = 0; i < CLIENTS; i++)
            is_idle &= s->clients[i].busy == NULL;
        if (is_idle && all_agree(s))
            break;
    }
    if (!s->is_broken && !all_agree(s))
        complain(s, "the nodes do not reach the same applied index");
    for (unsigned i = 0; i < s->n && !s->is_broken; i++)
        probe(s, &s->nodes[i]);
    if (!s->is_broken)
        hf_sim_world_run_until(s->world, now_ms(s) + 3000);
    for (unsigned k = 0; k < KEYS && !s->is_broken; k++) {
        struct hf_history kept = {.n = 0};

        for (uint32_t i = 0; i < s->keys[k].n; i++) {
            const struct hf_history_op *op = &s->keys[k].ops[i];

            /* Reads without an answer and operations that did not happen say nothing. */
            if (op->invoked == UINT64_MAX || (op->kind == HF_HISTORY_READ && op->completed == UINT64_MAX))
                continue;
            kept.ops[kept.n++] = *op;
        }
        if (!hf_history_is_linearizable(&kept)) {
            complain(s, "the history of key k%u is not linearizable", k);
            for (uint32_t i = 0; i < kept.n; i++)
                printf("  %s %" PRIu64 " invoked %" PRIu64 " completed %" PRId64 "\n",
                       kept.ops[i].kind == HF_HISTORY_WRITE ? "write" : "read ", kept.ops[i].value, kept.ops[i].invoked,
                       (int64_t)kept.ops[i].completed);
        }
    }
    ok = !s->is_broken;
    if (!ok)
        printf("seed %" PRIu64 " FAILED: %s\n  repeat: sim --seed %" PRIu64 " --trace\n", seed, s->complaint, seed);
    else if (is_traced)
        printf("seed %" PRIu64 " ok: %u nodes, %" PRIu64 " writes acked, %" PRIu64 " unknown, %" PRIu64
               " failed, %" PRIu64 " reads, %u crashes, %u pauses, %u partitions\n",
               seed, s->n, s->acked, s->unknown, s->failed, s->reads, s->crashes, s->pauses, s->partitions);
    for (unsigned i = 0; i < s->n; i++)
        if (s->nodes[i].resume_at_ms) {
            hf_sim_node_resume(s->nodes[i].fake);
            s->nodes[i].resume_at_ms = 0;
        }
    for (unsigned i = 0; i < CLIENTS; i++)
        abandon(&s->clients[i]);
    for (unsigned i = 0; i < s->n; i++) {
        if (s->nodes[i].fake)
            stop_node(s, &s->nodes[i], false);
        hf_sim_disk_free(s->nodes[i].disk);
    }
    hf_sim_world_free(s->world);
    hf_free(s);
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
