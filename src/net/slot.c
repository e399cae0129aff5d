/* slot.c: commands in flight. Each has one block: the request for dispatch, the words, and a copy of their bytes
 * (the lane needs them longer than the input buffer lives). The slots of a connection form a list in the order of the
 * requests; an answer is encoded when all before it are. */
#include "net/internal.h"

#include "base/assert.h"
#include "base/mem.h"

static struct hf_net_slot *new_slot(struct hf_net *net, size_t extra)
{
    size_t bytes = sizeof(struct hf_net_slot) + extra;
    struct hf_net_slot *slot = net->free_slots;

    if (bytes > HF_NET_SLOT_BYTES) {
        slot = hf_malloc(bytes);
    } else if (slot != NULL) {
        bytes = HF_NET_SLOT_BYTES;
        net->free_slots = slot->next;
        net->n_free_slots--;
    } else {
        bytes = HF_NET_SLOT_BYTES;
        slot = hf_malloc(bytes);
    }
    memset(slot, 0, sizeof *slot);
    slot->bytes = bytes;
    return slot;
}

static void free_slot(struct hf_net *net, struct hf_net_slot *slot)
{
    hf_reply_free(&slot->req.reply);
    if (slot->bytes == HF_NET_SLOT_BYTES && net->n_free_slots != HF_NET_FREE_SLOTS_MAX) {
        slot->next = net->free_slots;
        net->free_slots = slot;
        net->n_free_slots++;
    } else {
        hf_free(slot);
    }
}

/* The lane's way to end a request whose client is gone; net itself may be gone too. */
static void release_orphan(struct hf_dispatch_req *req)
{
    hf_reply_free(&req->reply);
    hf_free(HF_CONTAINER_OF(req, struct hf_net_slot, req));
}

static void append(struct hf_net_conn *c, struct hf_net_slot *slot)
{
    slot->conn = c;
    if (c->tail != NULL)
        c->tail->next = slot;
    else
        c->head = slot;
    c->tail = slot;
}

static void encode(struct hf_net_conn *c, struct hf_slice flat, int protocol, bool is_muted)
{
    if (hf_reply_first_tag(flat) == HF_REPLY_ERROR) {
        hf_counter_add(c->net->errors, 1);
        hf_error_stats_count(&c->net->error_words, flat);
    }
    if (is_muted || c->is_over_limit)
        return;
    if (c->out.data == NULL)
        c->out = hf_net_take_buf(c->net);
    hf_resp_encode(&c->out, flat, protocol);
}

/* A client that does not read while it asks for more: from here on its answers are thrown away, and it is closed at
 * the end of the turn. */
static void check_limit(struct hf_net_conn *c)
{
    if (!c->is_over_limit && hf_net_conn_unread(c) > c->net->config.output_bytes_max)
        c->is_over_limit = true;
}

static void on_answer(struct hf_dispatch_req *req)
{
    struct hf_net_slot *slot = HF_CONTAINER_OF(req, struct hf_net_slot, req);
    struct hf_net_conn *c = slot->conn;

    HF_ASSERT(!slot->is_done);
    HF_ASSERT(req->reply.buf.len != 0);
    slot->is_done = true;
    /* A larger answer counts at once, smaller ones bring the expectation down bit by bit. */
    if (req->reply.buf.len >= c->answer_bytes)
        c->answer_bytes = req->reply.buf.len;
    else
        c->answer_bytes -= (c->answer_bytes - req->reply.buf.len) / HF_NET_ANSWER_DECAY;
    c->in_flight--;
    c->in_flight_bytes -= slot->bytes;
    if (slot != c->head) {
        if (slot->is_muted || c->is_over_limit)
            hf_reply_free(&req->reply);
        c->held_bytes += req->reply.buf.len;
    } else {
        for (bool is_first = true; slot != NULL && slot->is_done; slot = c->head, is_first = false) {
            if (!is_first)
                c->held_bytes -= slot->req.reply.buf.len;
            encode(c, hf_buf_slice(&slot->req.reply.buf), slot->protocol, slot->is_muted);
            c->head = slot->next;
            free_slot(c->net, slot);
        }
        if (c->head == NULL)
            c->tail = NULL;
    }
    check_limit(c);
    hf_net_conn_mark(c);
}

void hf_net_slot_submit(struct hf_net_conn *c, const struct hf_command *command, bool is_muted)
{
    const struct hf_args *args = &c->parser.args;
    size_t extra = args->n * sizeof(struct hf_slice);
    struct hf_net_slot *slot;
    struct hf_slice *words;
    uint8_t *bytes;

    for (uint32_t i = 0; i < args->n; i++)
        extra += args->at[i].len;
    slot = new_slot(c->net, extra);
    words = (struct hf_slice *)(void *)(slot + 1);
    bytes = (uint8_t *)(words + args->n);
    for (uint32_t i = 0; i < args->n; i++) {
        words[i] = hf_slice(bytes, args->at[i].len);
        if (args->at[i].len != 0)
            memcpy(bytes, args->at[i].ptr, args->at[i].len);
        bytes += args->at[i].len;
    }
    slot->protocol = c->client.protocol;
    slot->is_muted = is_muted;
    slot->req.cb = on_answer;
    slot->req.command = command;
    slot->req.args.at = words;
    slot->req.args.n = args->n;
    append(c, slot);
    c->in_flight++;
    c->in_flight_bytes += slot->bytes;
    hf_lane_submit(c->lane, &slot->req);
}

void hf_net_slot_answer(struct hf_net_conn *c, struct hf_reply *reply, int protocol, bool is_muted)
{
    if (reply->buf.len != 0 && c->head == NULL) {
        encode(c, hf_buf_slice(&reply->buf), protocol, is_muted);
    } else if (reply->buf.len != 0 && !is_muted) {
        struct hf_net_slot *slot = new_slot(c->net, 0);

        slot->protocol = protocol;
        slot->is_done = true;
        slot->req.reply.buf = reply->buf;
        memset(&reply->buf, 0, sizeof reply->buf);
        c->held_bytes += slot->req.reply.buf.len;
        append(c, slot);
    }
    check_limit(c);
    hf_net_conn_mark(c);
}

void hf_net_slots_drop(struct hf_net_conn *c)
{
    for (struct hf_net_slot *slot = c->head, *next; slot != NULL; slot = next) {
        next = slot->next;
        if (slot->is_done)
            free_slot(c->net, slot);
    }
    c->head = c->tail = NULL;
    c->in_flight = 0;
    c->in_flight_bytes = c->held_bytes = 0;
    if (c->lane != NULL)
        hf_lane_close(c->lane, release_orphan);
    c->lane = NULL;
}

void hf_net_slots_free_spare(struct hf_net *net)
{
    while (net->free_slots != NULL) {
        struct hf_net_slot *slot = net->free_slots;

        net->free_slots = slot->next;
        hf_free(slot);
    }
    net->n_free_slots = 0;
}
