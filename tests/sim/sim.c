/* sim.c: whole clusters in one process on virtual time. Real consensus, journal, peer, propose, dispatch, proxy, apply
 * and store; fake time, streams and disks (tests/sim). One seed decides everything; the same seed gives the same
 * run. Two phases: faults while clients work, then everything heals and the cluster must serve again.
 *
 * Keys are of four kinds: plain values, counters, values with versions (GETV, CAS), values that may expire. Clients
 * send one command or several at once. Journals are short, so that they are cut all the time.
 *
 * Checked: every client's view of every key is linearizable and in the order of its connection (so no acknowledged
 * write is lost and no read is stale); a version belongs to one value only; equal state digests at equal applied
 * indexes; at the end all nodes agree, writes and reads succeed and no command waits for ever.
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
#define PIPELINE_MAX       4
#define WORDS_MAX          5
#define TOUCHED_MAX        2

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
    bool is_probing, is_transferring;
};

struct client {
    struct sim *sim;
    unsigned number, at; /* node it is connected to */
    struct hf_lane *lane;
    struct request *busy[PIPELINE_MAX];
    unsigned n_busy;
    uint64_t next_ms;
    uint32_t pipelined_key, pipelined_op; /* 1 + the last operation of the pipeline on that key, 0 = none */
    struct {
        uint32_t key;
        uint64_t version, value;
    } seen; /* of a key with versions */
};

struct request {
    struct hf_dispatch_req req; /* first: the lane frees the block */
    struct client *client;      /* NULL once the client gave up on it */
    struct node *probe;
    uint64_t started_ms;
    struct {
        uint32_t key, op; /* in the key's history */
    } touched[TOUCHED_MAX];
    unsigned n_touched;
    bool wants_version;
    struct hf_slice words[WORDS_MAX];
    char bytes[160];
};

enum key_kind { KEY_PLAIN, KEY_COUNTER, KEY_VERSIONED, KEY_EXPIRING, KEY_KINDS };

/* Versions seen with their values. */
#define VERSIONS_MAX 8192

struct sim {
    uint64_t seed;
    struct hf_sim_world *world;
    struct hf_prng prng; /* of the schedule and the clients, apart from the world's */
    unsigned n;
    struct node nodes[NODES_MAX];
    struct client clients[CLIENTS];
    struct client visitor; /* reads at a node that was just resumed, before it hears what it missed */
    struct hf_history keys[KEYS];
    uint32_t key_base; /* clients work on a window of keys that moves on, so that histories stay short */
    uint64_t next_value;
    uint64_t clock; /* rises with every invocation and completion */
    uint64_t acked, unknown, failed, reads;
    struct {
        uint64_t version, value;
    } versions[VERSIONS_MAX];
    uint64_t heal_ms;
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
    c.consensus.journal_segment_bytes = 16u << 10;
    c.consensus.journal_tail_bytes = 4u << 10;
    c.consensus.journal_retain_bytes = 4u << 10;
    c.consensus.journal_max_bytes = 16u << 20;
    c.consensus.snapshot_journal_bytes = 4u << 10;
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
    n->is_probing = n->is_transferring = false;
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

    for (unsigned i = 0; i < c->n_busy; i++) {
        const struct request *r = c->busy[i];

        if (s->keys[r->touched[0].key].ops[r->touched[0].op].kind != HF_HISTORY_READ)
            s->unknown++;
        c->busy[i]->client = NULL; /* its operation stays open in the history */
    }
    c->n_busy = 0;
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
    if (s->visitor.lane && s->visitor.at == n->number)
        abandon(&s->visitor);
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

/* A version names one write, and so one value (R1). */
static void check_version(struct sim *s, uint64_t version, uint64_t value)
{
    uint64_t at = (version * UINT64_C(0x9E3779B97F4A7C15)) >> 51;

    if (s->versions[at].version == version && s->versions[at].value != value)
        complain(s, "version %" PRIu64 " belongs to v%" PRIu64 " and to v%" PRIu64, version, s->versions[at].value,
                 value);
    s->versions[at].version = version;
    s->versions[at].value = value;
}

static void note_version(struct sim *s, struct request *r, uint64_t version, uint64_t value)
{
    check_version(s, version, value);
    r->client->seen.key = r->touched[0].key;
    r->client->seen.version = version;
    r->client->seen.value = value;
}

/* One value of a reply to a read. */
static uint64_t read_value(struct sim *s, struct hf_reader *in)
{
    enum hf_reply_tag tag = (enum hf_reply_tag)hf_read_u8(in);
    struct hf_slice v;
    char text[32];

    if (tag == HF_REPLY_NULL)
        return 0;
    if (tag != HF_REPLY_BULK) {
        complain(s, "a read was answered with tag %d", (int)tag);
        return 0;
    }
    v = hf_read_slice(in);
    snprintf(text, sizeof text, "%.*s", (int)(v.len < 31 ? v.len : 31), (const char *)v.ptr);
    return strtoull(text[0] == 'v' ? text + 1 : text, NULL, 10);
}

static void close_reads(struct sim *s, struct request *r, struct hf_reader *in, enum hf_reply_tag tag)
{
    s->reads++;
    if (tag == HF_REPLY_ARRAY) {
        hf_read_u8(in);
        hf_read_u32(in);
    }
    for (unsigned i = 0; i < r->n_touched; i++) {
        struct hf_history_op *op = &s->keys[r->touched[i].key].ops[r->touched[i].op];

        op->completed = s->clock;
        op->value = read_value(s, in);
        if (r->wants_version && op->value != 0) {
            hf_read_u8(in);
            note_version(s, r, hf_read_u64(in), op->value);
        }
    }
}

static void close_op(struct sim *s, struct request *r, struct hf_slice reply)
{
    struct hf_history_op *op = &s->keys[r->touched[0].key].ops[r->touched[0].op];
    enum hf_reply_tag tag = hf_reply_first_tag(reply);
    struct hf_reader in = hf_reader(reply);

    if (tag == HF_REPLY_ERROR) {
        struct hf_slice text;

        hf_read_u8(&in);
        text = hf_read_slice(&in);
        if (text.len >= 7 && memcmp(text.ptr, "UNKNOWN", 7) == 0 && op->kind != HF_HISTORY_READ) {
            s->unknown++;
            return; /* stays open */
        }
        if (text.len >= 3 && memcmp(text.ptr, "ERR", 3) == 0)
            complain(s, "an error that nobody asked for: %.*s", (int)text.len, (const char *)text.ptr);
        /* Every other error says that it did not happen. */
        s->failed++;
        for (unsigned i = 0; i < r->n_touched; i++)
            s->keys[r->touched[i].key].ops[r->touched[i].op].invoked = UINT64_MAX;
        return;
    }
    ++s->clock;
    switch (op->kind) {
    case HF_HISTORY_READ:
        close_reads(s, r, &in, tag);
        return;
    case HF_HISTORY_WRITE:
        if (tag != HF_REPLY_STATUS)
            complain(s, "SET answered with tag %d", (int)tag);
        break;
    case HF_HISTORY_ADD:
        hf_read_u8(&in);
        op->value = hf_read_u64(&in);
        if (tag != HF_REPLY_INT)
            complain(s, "INCR answered with tag %d", (int)tag);
        break;
    case HF_HISTORY_SWAP:
        op->did_swap = tag == HF_REPLY_INT;
        if (op->did_swap) {
            hf_read_u8(&in);
            note_version(s, r, hf_read_u64(&in), op->value);
        } else if (tag != HF_REPLY_NULL) {
            complain(s, "HF.CAS answered with tag %d", (int)tag);
        }
        break;
    case HF_HISTORY_EXPIRE:
        break;
    }
    op->completed = s->clock;
    s->acked++;
}

static void on_reply(struct hf_dispatch_req *req)
{
    struct request *r = (struct request *)(void *)req;
    struct client *c = r->client;

    if (c) {
        struct sim *s = c->sim;
        unsigned i = 0;

        trace(s, "client %u key %u op %u: reply tag %d", c->number, r->touched[0].key, r->touched[0].op,
              (int)hf_reply_first_tag(hf_buf_slice(&req->reply.buf)));
        close_op(s, r, hf_buf_slice(&req->reply.buf));
        while (c->busy[i] != r)
            i++;
        c->busy[i] = c->busy[--c->n_busy];
        c->next_ms = now_ms(s) + hf_prng_below(&s->prng, 30);
    }
    release_request(req);
}

static void give_word(struct request *r, const char *text)
{
    size_t used = 0;

    for (unsigned i = 0; i < r->req.args.n; i++)
        used += r->words[i].len;
    HF_ASSERT(r->req.args.n < WORDS_MAX && used + strlen(text) <= sizeof r->bytes);
    memcpy(r->bytes + used, text, strlen(text));
    r->words[r->req.args.n++] = hf_slice(r->bytes + used, strlen(text));
}

/* Words separated by blanks. */
static struct request *new_request(const char *text)
{
    struct request *r = hf_calloc(1, sizeof *r);
    struct hf_reply err = {0};
    char copy[160], *save = NULL;

    snprintf(copy, sizeof copy, "%s", text);
    for (char *word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save))
        give_word(r, word);
    r->req.args.at = r->words;
    r->req.command = hf_command_resolve(&r->req.args, &err);
    HF_ASSERT(r->req.command != NULL);
    r->req.cb = on_reply;
    hf_reply_free(&err);
    return r;
}

static enum key_kind kind_of(uint32_t key)
{
    return (enum key_kind)(key % KEY_KINDS);
}

static struct hf_history_op *add_op(struct sim *s, uint32_t key, enum hf_history_kind kind)
{
    struct hf_history *h = &s->keys[key];

    HF_ASSERT(h->n < HF_HISTORY_OPS_MAX);
    h->ops[h->n] = (struct hf_history_op){.kind = kind, .invoked = s->clock, .completed = UINT64_MAX};
    return &h->ops[h->n++];
}

/* The words of a command on this key, and its operation. */
static struct hf_history_op *plan_command(struct sim *s, struct client *c, uint32_t key, char *text, size_t cap,
                                          bool *wants_version)
{
    bool is_write = hf_prng_below(&s->prng, 2) == 0;
    uint64_t value = ++s->next_value;
    struct hf_history_op *op;

    ++s->clock;
    if (!is_write && kind_of(key) == KEY_VERSIONED) {
        snprintf(text, cap, "HF.GETV k%u", key);
        *wants_version = true;
        return add_op(s, key, HF_HISTORY_READ);
    }
    if (!is_write) {
        snprintf(text, cap, "GET k%u", key);
        return add_op(s, key, HF_HISTORY_READ);
    }
    if (kind_of(key) == KEY_COUNTER) {
        snprintf(text, cap, "INCR k%u", key);
        return add_op(s, key, HF_HISTORY_ADD);
    }
    if (kind_of(key) == KEY_VERSIONED && c->seen.key == key && hf_prng_below(&s->prng, 3) != 0) {
        snprintf(text, cap, "HF.CAS k%u VERSION %" PRIu64 " v%" PRIu64, key, c->seen.version, value);
        op = add_op(s, key, HF_HISTORY_SWAP);
        op->expected = c->seen.value;
    } else if (kind_of(key) == KEY_EXPIRING && hf_prng_below(&s->prng, 2) == 0) {
        struct hf_history_op *end = add_op(s, key, HF_HISTORY_EXPIRE);

        end->expected = value;
        snprintf(text, cap, "SET k%u v%" PRIu64 " PX %" PRIu64, key, value, 20 + hf_prng_below(&s->prng, 800));
        op = add_op(s, key, HF_HISTORY_WRITE);
    } else {
        snprintf(text, cap, "SET k%u v%" PRIu64, key, value);
        op = add_op(s, key, HF_HISTORY_WRITE);
    }
    op->value = value;
    return op;
}

static void touch(struct request *r, struct client *c, uint32_t key)
{
    struct sim *s = c->sim;
    uint32_t op = s->keys[key].n - 1;

    if (c->pipelined_op && c->pipelined_key == key)
        s->keys[key].ops[op].after = c->pipelined_op;
    c->pipelined_key = key;
    c->pipelined_op = op + 1;
    r->touched[r->n_touched].key = key;
    r->touched[r->n_touched++].op = op;
}

static void send_command(struct sim *s, struct client *c, uint32_t key)
{
    uint32_t other = s->key_base + (uint32_t)hf_prng_below(&s->prng, 4);
    struct request *r;
    bool wants_version = false;
    char text[128];

    /* Several keys in one read, now and then. */
    if (hf_prng_below(&s->prng, 8) == 0 && other != key && other < KEYS && s->keys[other].n < 40) {
        snprintf(text, sizeof text, "MGET k%u k%u", key, other);
        r = new_request(text);
        ++s->clock;
        add_op(s, key, HF_HISTORY_READ);
        touch(r, c, key);
        add_op(s, other, HF_HISTORY_READ);
        touch(r, c, other);
    } else {
        plan_command(s, c, key, text, sizeof text, &wants_version);
        r = new_request(text);
        touch(r, c, key);
        r->wants_version = wants_version;
    }
    r->client = c;
    r->started_ms = now_ms(s);
    c->busy[c->n_busy++] = r;
    trace(s, "client %u at %u: %s (op %u)", c->number, c->at + 1, text, r->touched[0].op);
    hf_lane_submit(c->lane, &r->req);
}

static void visit(struct sim *s, struct node *n)
{
    struct client *c = &s->visitor;

    if (c->lane)
        abandon(c);
    c->at = n->number;
    c->lane = hf_lane_open(hf_node_dispatcher(n->node));
    c->pipelined_op = 0;
    for (uint32_t key = s->key_base; key < s->key_base + PIPELINE_MAX && key < KEYS; key++) {
        char text[32];
        struct request *r;

        if (s->keys[key].n >= 50)
            continue;
        snprintf(text, sizeof text, "GET k%u", key);
        ++s->clock;
        r = new_request(text);
        add_op(s, key, HF_HISTORY_READ);
        touch(r, c, key);
        r->client = c;
        r->started_ms = now_ms(s);
        c->busy[c->n_busy++] = r;
        trace(s, "visitor at %u: %s", c->at + 1, text);
        hf_lane_submit(c->lane, &r->req);
    }
}

static void client_turn(struct sim *s, struct client *c)
{
    unsigned n;
    uint32_t k;

    if (c->n_busy > 0) {
        if (now_ms(s) - c->busy[0]->started_ms > CLIENT_PATIENCE_MS) {
            if (s->heal_ms != 0 && c->busy[0]->started_ms > s->heal_ms + 2000)
                complain(s, "client %u got no answer within %u ms although everything had healed", c->number,
                         CLIENT_PATIENCE_MS);
            abandon(c);
        }
        return;
    }
    if (now_ms(s) < c->next_ms)
        return;
    if (!c->lane || hf_prng_below(&s->prng, 50) == 0) {
        struct node *node;

        if (c->lane)
            abandon(c);
        c->at = (unsigned)hf_prng_below(&s->prng, s->n);
        node = &s->nodes[c->at];
        if (!node->node || node->resume_at_ms) {
            c->next_ms = now_ms(s) + 20;
            return;
        }
        c->lane = hf_lane_open(hf_node_dispatcher(node->node));
    }
    k = s->key_base + (uint32_t)hf_prng_below(&s->prng, 4);
    if (k >= KEYS)
        return;
    if (s->keys[k].n >= 40) {
        s->key_base++;
        return;
    }
    /* One command, or several on the same key without waiting: then their order counts. */
    n = hf_prng_below(&s->prng, 3) == 0 ? 2 + (unsigned)hf_prng_below(&s->prng, PIPELINE_MAX - 1) : 1;
    c->pipelined_op = 0;
    while (n-- > 0)
        send_command(s, c, k);
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
    r = new_request("INFO raft");
    r->req.cb = on_probe;
    r->probe = n;
    hf_lane_submit(n->probe_lane, &r->req);
}

/* ---- faults ------------------------------------------------------------------------------------------- */

static void on_transferred(void *data, int rc)
{
    struct node *n = data;

    (void)rc;
    n->is_transferring = false;
}

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
            visit(s, x);
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
    case 10: /* the leader sleeps, and when it wakes another one can't tell it what happened */
    case 11:
        for (unsigned i = 0; i < s->n; i++)
            if (s->nodes[i].node && hf_consensus_role(hf_node_consensus(s->nodes[i].node)) == HF_ROLE_LEADER)
                n = &s->nodes[i];
        if (n->node && !n->resume_at_ms) {
            unsigned other = (unsigned)hf_prng_below(&s->prng, s->n);

            trace(s, "pause node %u, block %u -> %u", n->number + 1, other + 1, n->number + 1);
            s->pauses++;
            if (other != n->number)
                hf_sim_world_block(s->world, other, n->number, true);
            hf_sim_node_pause(n->fake);
            n->resume_at_ms = now + 800 + hf_prng_below(&s->prng, 2500);
        }
        break;
    case 9: /* leadership by order */
        if (n->node && !n->resume_at_ms && !n->is_transferring) {
            trace(s, "node %u hands over", n->number + 1);
            n->is_transferring = true;
            hf_consensus_transfer(hf_node_consensus(n->node), 0, 1000, on_transferred, n);
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

static void complain_of_difference(struct sim *s)
{
    char text[400];
    size_t used = 0;

    for (unsigned i = 0; i < s->n && used < sizeof text; i++) {
        struct hf_consensus_status st;

        hf_consensus_status(hf_node_consensus(s->nodes[i].node), &st);
        used += (size_t)snprintf(
            text + used, sizeof text - used, "; %u applied %" PRIu64 " of log %" PRIu64 "-%" PRIu64, i + 1,
            hf_state_applied_index(hf_node_state(s->nodes[i].node)), st.first_index, st.last_index);
    }
    complain(s, "the nodes do not reach the same applied index%s", text);
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
    static const char *const kind_names[] = {"read", "write", "add", "swap", "expire"};
    struct sim *s = hf_calloc(1, sizeof *s);
    uint64_t deadline, acked, reads;
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
    s->visitor.sim = s;
    s->visitor.number = CLIENTS;
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
    reads = s->reads;
    s->heal_ms = now_ms(s);
    run_clients(s, now_ms(s) + HEAL_MS, true);
    if (!s->is_broken && s->reads == reads)
        complain(s, "no read succeeded within %u ms after everything healed", HEAL_MS);
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
            is_idle &= s->clients[i].n_busy == 0;
        if (is_idle && all_agree(s))
            break;
    }
    if (!s->is_broken && !all_agree(s))
        complain_of_difference(s);
    for (unsigned i = 0; i < s->n && !s->is_broken; i++)
        probe(s, &s->nodes[i]);
    if (!s->is_broken)
        hf_sim_world_run_until(s->world, now_ms(s) + 3000);
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
            complain(s, "the history of key k%u is not linearizable", k);
            for (uint32_t i = 0; i < kept.n; i++)
                printf("  %2u %s %" PRIu64 " (expected %" PRIu64 ", swapped %d) invoked %" PRIu64 " completed %" PRId64
                       " after %d\n",
                       i, kind_names[kept.ops[i].kind], kept.ops[i].value, kept.ops[i].expected,
                       (int)kept.ops[i].did_swap, kept.ops[i].invoked, (int64_t)kept.ops[i].completed,
                       (int)kept.ops[i].after - 1);
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
    abandon(&s->visitor);
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
