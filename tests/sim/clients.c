/* clients.c: clients of the simulated cluster, and the histories of what they saw. */
#include "base/assert.h"
#include "base/mem.h"
#include "sim/sim.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void hf_sim_release_request(struct hf_dispatch_req *req)
{
    hf_reply_free(&req->reply);
    hf_free(req);
}

void hf_sim_abandon(struct client *c)
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
        hf_lane_close(c->lane, hf_sim_release_request);
    c->lane = NULL;
    c->next_ms = hf_sim_now_ms(s) + 50;
}

/* A version names one write, and so one value (R1). */
static void check_version(struct sim *s, uint64_t version, uint64_t value)
{
    uint64_t at = (version * UINT64_C(0x9E3779B97F4A7C15)) >> 51;

    if (s->versions[at].version == version && s->versions[at].value != value)
        hf_sim_complain(s, "version %" PRIu64 " belongs to v%" PRIu64 " and to v%" PRIu64, version,
                        s->versions[at].value, value);
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
        hf_sim_complain(s, "a read was answered with tag %d", (int)tag);
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
            hf_sim_complain(s, "an error that nobody asked for: %.*s", (int)text.len, (const char *)text.ptr);
        /* Every other error says that it did not happen. */
        s->failed++;
        r->client->is_disappointed = true;
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
            hf_sim_complain(s, "SET answered with tag %d", (int)tag);
        break;
    case HF_HISTORY_ADD:
        hf_read_u8(&in);
        op->value = hf_read_u64(&in);
        if (tag != HF_REPLY_INT)
            hf_sim_complain(s, "INCR answered with tag %d", (int)tag);
        break;
    case HF_HISTORY_SWAP:
        op->did_swap = tag == HF_REPLY_INT;
        if (op->did_swap) {
            hf_read_u8(&in);
            note_version(s, r, hf_read_u64(&in), op->value);
        } else if (tag != HF_REPLY_NULL) {
            hf_sim_complain(s, "HF.CAS answered with tag %d", (int)tag);
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

        hf_sim_trace(s, "client %u key %u op %u: reply tag %d", c->number, r->touched[0].key, r->touched[0].op,
                     (int)hf_reply_first_tag(hf_buf_slice(&req->reply.buf)));
        close_op(s, r, hf_buf_slice(&req->reply.buf));
        while (c->busy[i] != r)
            i++;
        c->busy[i] = c->busy[--c->n_busy];
        c->next_ms = hf_sim_now_ms(s) + hf_prng_below(&s->prng, 30);
    }
    hf_sim_release_request(req);
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
struct request *hf_sim_new_request(const char *text)
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
        r = hf_sim_new_request(text);
        ++s->clock;
        add_op(s, key, HF_HISTORY_READ);
        touch(r, c, key);
        add_op(s, other, HF_HISTORY_READ);
        touch(r, c, other);
    } else {
        plan_command(s, c, key, text, sizeof text, &wants_version);
        r = hf_sim_new_request(text);
        touch(r, c, key);
        r->wants_version = wants_version;
    }
    r->client = c;
    r->started_ms = hf_sim_now_ms(s);
    c->busy[c->n_busy++] = r;
    hf_sim_trace(s, "client %u at %u: %s (op %u)", c->number, c->at + 1, text, r->touched[0].op);
    hf_lane_submit(c->lane, &r->req);
}

void hf_sim_visit(struct sim *s, struct node *n)
{
    struct client *c = &s->visitor;

    if (c->lane)
        hf_sim_abandon(c);
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
        r = hf_sim_new_request(text);
        add_op(s, key, HF_HISTORY_READ);
        touch(r, c, key);
        r->client = c;
        r->started_ms = hf_sim_now_ms(s);
        c->busy[c->n_busy++] = r;
        hf_sim_trace(s, "visitor at %u: %s", c->at + 1, text);
        hf_lane_submit(c->lane, &r->req);
    }
}

void hf_sim_client_turn(struct sim *s, struct client *c)
{
    unsigned n;
    uint32_t k;

    if (c->n_busy > 0) {
        if (hf_sim_now_ms(s) - c->busy[0]->started_ms > CLIENT_PATIENCE_MS) {
            if (s->heal_ms != 0 && c->busy[0]->started_ms > s->heal_ms + 2000)
                hf_sim_complain(s, "client %u got no answer within %u ms although everything had healed", c->number,
                                CLIENT_PATIENCE_MS);
            hf_sim_abandon(c);
        }
        return;
    }
    if (hf_sim_now_ms(s) < c->next_ms || s->is_ending)
        return;
    if (!c->lane || hf_prng_below(&s->prng, c->is_disappointed ? 2 : 50) == 0) {
        struct node *node;

        c->is_disappointed = false;
        if (c->lane)
            hf_sim_abandon(c);
        c->at = (unsigned)hf_prng_below(&s->prng, s->n_all);
        node = &s->nodes[c->at];
        if (!node->node || node->resume_at_ms) {
            c->next_ms = hf_sim_now_ms(s) + 20;
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
