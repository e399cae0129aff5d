/* proxy.c: commands of this node's clients to the leader, and those of other nodes' clients to this one. On the walk
 * it stands beside net: what arrives here joins a lane of dispatch as if its client were connected to this node.
 *
 * A message (type 1, the only one) of the PROXY channel is a sequence of records, so that the commands of one loop turn
 * share a frame. All little-endian:
 *
 *   u32 length of the rest, u8 kind, then
 *     CALL  = 1  u64 connection, u64 sequence, u64 term, u32 n, then n times: u32 length, bytes     (n >= 1)
 *     REPLY = 2  u64 connection, u64 sequence, u8 outcome (1 answered, 2 refused), the reply's flat form
 *     END   = 3  u64 connection
 *
 * connection: the client's number on the caller's node. sequence: the caller's name for the call, never used
 * twice in a process and rising; its low SLOT_BITS are the place in the caller's table where the answer is looked
 * up. So an answer finds the one call that it names, or none, and then the stream is closed: a peer that answers what
 * was not asked is not to be believed.
 *
 * Limits: a stream carries at most WINDOW_BYTES of unanswered commands (or one larger); the caller's node makes its
 * clients wait beyond that. The answering side closes a stream on which more than REMOTES_MAX clients are open or
 * SERVED_MAX commands unanswered, or on which REPLIES_BYTES_MAX of answers wait because the other side does not
 * read. */
#include "proxy/proxy.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"

#include <inttypes.h>

#define MESSAGE_RECORDS 1u

enum record_kind { RECORD_CALL = 1, RECORD_REPLY = 2, RECORD_END = 3 };

#define RECORD_HEADER_BYTES 5u
#define CALL_HEADER_BYTES   28u
#define REPLY_HEADER_BYTES  17u

#define SLOT_BITS         20u
#define SLOTS_MAX         (1u << SLOT_BITS)
#define WINDOW_BYTES      (32u << 20)
#define REMOTES_MAX       (256u << 10)
#define SERVED_MAX        (1u << 20)
#define REPLIES_BYTES_MAX (32u << 20)
#define RECORD_BYTES_MAX  (UINT32_C(1) << 30)
/* Records are collected up to this size; a larger one travels in a message of its own. */
#define MESSAGE_BYTES (64u << 10)
/* A link whose queue was full is tried again after this long. */
#define RETRY_MS 5u

/* One link and what goes over it, in both directions. */
struct hf_proxy_stream {
    struct hf_proxy_stream *next, *prev;
    struct hf_proxy *p;
    struct hf_link *link;
    bool is_doomed; /* closed by us; its end is still to be told */
    /* calling */
    struct hf_proxy_call *first, *last; /* without an answer, in the order of their sending */
    struct hf_proxy_call *unsent;       /* the first one whose record waits in `calls` */
    struct hf_buf calls;
    size_t window_bytes;
    /* answering */
    struct hf_buf replies;
    struct hf_proxy_remote **buckets;
    uint32_t n_buckets, n_remotes, n_served;
};

struct hf_proxy_remote {
    struct hf_proxy_remote *next; /* in its bucket */
    struct hf_proxy_stream *stream;
    uint64_t connection, last_sequence;
    uint32_t n_served; /* commands without an answer */
    void *state;
};

struct slot {
    struct hf_proxy_call *call; /* NULL = free */
    uint32_t next_free;
};

struct hf_proxy {
    struct hf_env *env;
    struct hf_resp_limits limits;
    struct hf_proxy_handler handler;
    bool has_handler;
    struct hf_proxy_stream *streams;
    struct slot *slots;
    uint32_t n_slots, first_free; /* UINT32_MAX = none free */
    uint64_t calls;
    struct hf_slice *words; /* of the command being handed over */
    uint32_t words_cap;
    struct hf_buf scratch;
    struct hf_task flush_task;
    struct hf_timer retry_timer;
    struct hf_counter *calls_total, *lost_total, *refused_total, *served_total;
};

/* ---- streams ------------------------------------------------------------------------------------------ */

static struct hf_proxy_stream *find_stream(struct hf_proxy *p, const struct hf_link *link)
{
    for (struct hf_proxy_stream *s = p->streams; s; s = s->next)
        if (s->link == link)
            return s;
    return NULL;
}

/* After this the stream may be gone. */
static void doom(struct hf_proxy_stream *s, const char *why)
{
    if (s->is_doomed)
        return;
    s->is_doomed = true;
    HF_LOG_WARN("proxy", "closed a stream", "peer=%" PRIu64 " reason=\"%s\"", hf_link_node_id(s->link), why);
    hf_link_close(s->link);
}

static void put_record(struct hf_buf *out, enum record_kind kind, size_t body)
{
    hf_buf_put_u32(out, (uint32_t)(body + 1));
    hf_buf_put_u8(out, (uint8_t)kind);
}

static size_t record_size(const uint8_t *record)
{
    return 4 + (size_t)hf_load_u32(record);
}

static void put_reply(struct hf_buf *out, uint64_t connection, uint64_t sequence, enum hf_proxy_outcome outcome,
                      struct hf_slice flat)
{
    put_record(out, RECORD_REPLY, REPLY_HEADER_BYTES + flat.len);
    hf_buf_put_u64(out, connection);
    hf_buf_put_u64(out, sequence);
    hf_buf_put_u8(out, (uint8_t)outcome);
    hf_buf_put(out, flat.ptr, flat.len);
}

static void mark_sent(struct hf_proxy_stream *s, uint32_t n_calls)
{
    for (; n_calls > 0; n_calls--) {
        HF_ASSERT(s->unsent != NULL);
        s->unsent->is_sent = true;
        s->unsent = s->unsent->next;
    }
}

/* An answer that no message can carry: say so instead. The command may have had its effect. */
static int send_too_large(struct hf_proxy_stream *s, const uint8_t *record)
{
    struct hf_reply reply = {0};
    struct hf_buf out = {0};
    struct hf_slice part;
    int rc;

    hf_reply_error(&reply, "UNKNOWN outcome: the reply is too large to be passed on by this node, the command may have "
                           "been executed; connect to the leader and check before retrying");
    put_reply(&out, hf_load_u64(record + RECORD_HEADER_BYTES), hf_load_u64(record + RECORD_HEADER_BYTES + 8),
              HF_PROXY_ANSWERED, hf_buf_slice(&reply.buf));
    part = hf_buf_slice(&out);
    rc = hf_link_send(s->link, MESSAGE_RECORDS, false, &part, 1);
    hf_buf_free(&out);
    hf_reply_free(&reply);
    return rc;
}

/* Send what was collected, in messages of whole records; what the link does not take stays. */
static int send_records(struct hf_proxy_stream *s, struct hf_buf *out)
{
    size_t at = 0;
    int rc = 0;

    while (at < out->len) {
        size_t end = at;
        uint32_t n_calls = 0, n = 0;
        struct hf_slice part;

        do {
            size_t size = record_size(out->data + end);

            if (n > 0 && end - at + size > MESSAGE_BYTES)
                break;
            if (out->data[end + 4] == RECORD_CALL)
                n_calls++;
            end += size;
            n++;
        } while (end < out->len);
        part = hf_slice(out->data + at, end - at);
        rc = hf_link_send(s->link, MESSAGE_RECORDS, false, &part, 1);
        if (rc == HF_E_LIMIT && n == 1 && out->data[at + 4] == RECORD_REPLY)
            rc = send_too_large(s, out->data + at);
        if (rc < 0)
            break;
        mark_sent(s, n_calls);
        at = end;
    }
    hf_buf_consume(out, at);
    return rc;
}

static void flush_stream(struct hf_proxy_stream *s)
{
    struct hf_proxy *p = s->p;
    int rc = 0, rc2 = 0;

    if (s->is_doomed)
        return;
    if (s->calls.len > 0)
        rc = send_records(s, &s->calls);
    if (s->replies.len > 0)
        rc2 = send_records(s, &s->replies);
    if (s->replies.len > REPLIES_BYTES_MAX) {
        doom(s, "the other side does not read its answers");
        return;
    }
    if ((rc == HF_E_BUSY || rc2 == HF_E_BUSY) && !hf_timer_is_active(&p->retry_timer))
        p->env->timer_start(p->env, &p->retry_timer, RETRY_MS);
    /* HF_E_CLOSED: the end of the link is about to be told. Anything else is no way to go on. */
    if ((rc < 0 && rc != HF_E_BUSY && rc != HF_E_CLOSED) || (rc2 < 0 && rc2 != HF_E_BUSY && rc2 != HF_E_CLOSED))
        doom(s, "a message cannot be sent");
}

static void flush_all(struct hf_proxy *p)
{
    struct hf_proxy_stream *s, *next;

    for (s = p->streams; s; s = next) {
        next = s->next;
        flush_stream(s);
    }
}

static void on_flush(struct hf_task *task)
{
    flush_all(task->data);
}

static void on_retry(struct hf_timer *timer)
{
    flush_all(timer->data);
}

/* ---- calling ------------------------------------------------------------------------------------------ */

static bool take_slot(struct hf_proxy *p, uint32_t *out)
{
    uint32_t slot = p->first_free;

    if (slot == UINT32_MAX) {
        uint32_t n = p->n_slots ? p->n_slots * 2 : 64;

        if (p->n_slots == SLOTS_MAX)
            return false;
        p->slots = hf_realloc(p->slots, n * sizeof *p->slots);
        for (uint32_t i = n; i > p->n_slots; i--) {
            p->slots[i - 1].call = NULL;
            p->slots[i - 1].next_free = p->first_free;
            p->first_free = i - 1;
        }
        p->n_slots = n;
        slot = p->first_free;
    }
    p->first_free = p->slots[slot].next_free;
    *out = slot;
    return true;
}

static void put_call(struct hf_buf *out, uint64_t term, const struct hf_proxy_call *call, const struct hf_args *args)
{
    put_record(out, RECORD_CALL, call->bytes - RECORD_HEADER_BYTES);
    hf_buf_put_u64(out, call->connection);
    hf_buf_put_u64(out, call->sequence);
    hf_buf_put_u64(out, term);
    hf_buf_put_u32(out, args->n);
    for (uint32_t i = 0; i < args->n; i++)
        hf_buf_put_slice(out, args->at[i]);
}

int hf_proxy_send(struct hf_proxy *p, struct hf_link *link, uint64_t connection, uint64_t term,
                  const struct hf_args *args, struct hf_proxy_call *call)
{
    struct hf_proxy_stream *s = find_stream(p, link);
    uint64_t bytes = RECORD_HEADER_BYTES + CALL_HEADER_BYTES;
    uint32_t slot;

    HF_ASSERT(args->n > 0);
    if (s == NULL || s->is_doomed)
        return HF_E_CLOSED;
    for (uint32_t i = 0; i < args->n; i++)
        bytes += 4 + (uint64_t)args->at[i].len;
    if (bytes > RECORD_BYTES_MAX)
        return HF_E_LIMIT;
    if (s->window_bytes > 0 && s->window_bytes + bytes > WINDOW_BYTES)
        return HF_E_BUSY;
    if (!take_slot(p, &slot))
        return HF_E_BUSY;
    call->connection = connection;
    call->sequence = (++p->calls << SLOT_BITS) | slot;
    call->stream = s;
    call->bytes = (size_t)bytes;
    call->is_sent = false;
    if (bytes <= MESSAGE_BYTES) {
        put_call(&s->calls, term, call, args);
        p->env->post(p->env, &p->flush_task);
    } else {
        /* On its own at once, so that a command which no message can carry is known to be one here and now. */
        int rc = s->calls.len > 0 ? send_records(s, &s->calls) : 0;

        if (rc == 0) {
            struct hf_slice part;

            p->scratch.len = 0;
            put_call(&p->scratch, term, call, args);
            part = hf_buf_slice(&p->scratch);
            rc = hf_link_send(s->link, MESSAGE_RECORDS, false, &part, 1);
            hf_buf_free(&p->scratch);
        }
        if (rc < 0) {
            p->slots[slot].next_free = p->first_free;
            p->first_free = slot;
            if (s->calls.len > 0)
                p->env->post(p->env, &p->flush_task);
            return rc;
        }
        call->is_sent = true;
    }
    p->slots[slot].call = call;
    call->next = NULL;
    call->prev = s->last;
    if (s->last)
        s->last->next = call;
    else
        s->first = call;
    s->last = call;
    if (!call->is_sent && s->unsent == NULL)
        s->unsent = call;
    s->window_bytes += call->bytes;
    hf_counter_add(p->calls_total, 1);
    return 0;
}

void hf_proxy_end(struct hf_proxy *p, struct hf_link *link, uint64_t connection)
{
    struct hf_proxy_stream *s = find_stream(p, link);

    if (s == NULL || s->is_doomed)
        return;
    put_record(&s->calls, RECORD_END, 8);
    hf_buf_put_u64(&s->calls, connection);
    p->env->post(p->env, &p->flush_task);
}

/* Take a call out of everything and tell its owner. */
static void finish_call(struct hf_proxy *p, struct hf_proxy_call *call, enum hf_proxy_outcome outcome,
                        struct hf_slice reply)
{
    struct hf_proxy_stream *s = call->stream;
    uint32_t slot = (uint32_t)(call->sequence & (SLOTS_MAX - 1));

    HF_ASSERT(p->slots[slot].call == call);
    p->slots[slot].call = NULL;
    p->slots[slot].next_free = p->first_free;
    p->first_free = slot;
    if (call->prev)
        call->prev->next = call->next;
    else
        s->first = call->next;
    if (call->next)
        call->next->prev = call->prev;
    else
        s->last = call->prev;
    if (s->unsent == call)
        s->unsent = call->next;
    HF_ASSERT(s->window_bytes >= call->bytes);
    s->window_bytes -= call->bytes;
    call->stream = NULL;
    call->cb(call, outcome, reply);
}

static void lose_calls(struct hf_proxy *p, struct hf_proxy_stream *s)
{
    while (s->first) {
        bool is_sent = s->first->is_sent;

        hf_counter_add(is_sent ? p->lost_total : p->refused_total, 1);
        finish_call(p, s->first, is_sent ? HF_PROXY_LOST : HF_PROXY_REFUSED, hf_slice(NULL, 0));
    }
}

/* NULL, or why the stream cannot be believed. */
static const char *take_reply(struct hf_proxy_stream *s, struct hf_reader *in)
{
    struct hf_proxy *p = s->p;
    uint64_t connection = hf_read_u64(in), sequence = hf_read_u64(in);
    uint8_t outcome = hf_read_u8(in);
    uint32_t slot = (uint32_t)(sequence & (SLOTS_MAX - 1));
    struct hf_proxy_call *call;

    if (in->failed || (outcome != HF_PROXY_ANSWERED && outcome != HF_PROXY_REFUSED))
        return "a malformed answer";
    call = slot < p->n_slots ? p->slots[slot].call : NULL;
    if (call == NULL || call->sequence != sequence || call->connection != connection || call->stream != s ||
        !call->is_sent)
        return "an answer to a call that does not wait for one";
    if (outcome == HF_PROXY_REFUSED)
        hf_counter_add(p->refused_total, 1);
    finish_call(p, call, (enum hf_proxy_outcome)outcome, hf_read_bytes(in, hf_reader_left(in)));
    return NULL;
}

/* ---- answering ---------------------------------------------------------------------------------------- */

static uint32_t bucket_of(uint64_t connection, uint32_t n_buckets)
{
    /* Fibonacci hashing: connection numbers are consecutive. */
    return (uint32_t)((connection * UINT64_C(0x9E3779B97F4A7C15)) >> 40) & (n_buckets - 1);
}

static struct hf_proxy_remote **find_remote(struct hf_proxy_stream *s, uint64_t connection)
{
    struct hf_proxy_remote **at;

    if (s->n_buckets == 0)
        return NULL;
    at = &s->buckets[bucket_of(connection, s->n_buckets)];
    while (*at && (*at)->connection != connection)
        at = &(*at)->next;
    return *at ? at : NULL;
}

static void grow_buckets(struct hf_proxy_stream *s)
{
    uint32_t n = s->n_buckets ? s->n_buckets * 2 : 64;
    struct hf_proxy_remote **buckets = hf_calloc(n, sizeof(struct hf_proxy_remote *));

    for (uint32_t i = 0; i < s->n_buckets; i++) {
        for (struct hf_proxy_remote *r = s->buckets[i], *next; r; r = next) {
            uint32_t at = bucket_of(r->connection, n);

            next = r->next;
            r->next = buckets[at];
            buckets[at] = r;
        }
    }
    hf_free(s->buckets);
    s->buckets = buckets;
    s->n_buckets = n;
}

static struct hf_proxy_remote *open_remote(struct hf_proxy_stream *s, uint64_t connection)
{
    struct hf_proxy_remote *r = hf_calloc(1, sizeof *r);
    uint32_t at;

    if (s->n_remotes >= s->n_buckets)
        grow_buckets(s);
    at = bucket_of(connection, s->n_buckets);
    r->stream = s;
    r->connection = connection;
    r->next = s->buckets[at];
    s->buckets[at] = r;
    s->n_remotes++;
    r->state = s->p->handler.open(s->p->handler.data, r);
    return r;
}

static void close_remote(struct hf_proxy_stream *s, struct hf_proxy_remote **at)
{
    struct hf_proxy_remote *r = *at;

    *at = r->next;
    s->n_remotes--;
    HF_ASSERT(s->n_served >= r->n_served);
    s->n_served -= r->n_served;
    s->p->handler.close(r->state);
    hf_free(r);
}

static void close_remotes(struct hf_proxy_stream *s)
{
    for (uint32_t i = 0; i < s->n_buckets; i++)
        while (s->buckets[i])
            close_remote(s, &s->buckets[i]);
}

static void answer(struct hf_proxy_remote *r, uint64_t sequence, enum hf_proxy_outcome outcome, struct hf_slice flat)
{
    struct hf_proxy_stream *s = r->stream;

    HF_ASSERT(r->n_served > 0);
    r->n_served--;
    s->n_served--;
    if (s->is_doomed)
        return;
    if (flat.len > RECORD_BYTES_MAX)
        flat = hf_slice(NULL, 0); /* not a valid value, so the other side makes it UNKNOWN */
    put_reply(&s->replies, r->connection, sequence, outcome, flat);
    s->p->env->post(s->p->env, &s->p->flush_task);
}

void hf_proxy_answer(struct hf_proxy_remote *remote, uint64_t sequence, struct hf_slice reply)
{
    answer(remote, sequence, HF_PROXY_ANSWERED, reply);
}

void hf_proxy_refuse(struct hf_proxy_remote *remote, uint64_t sequence)
{
    answer(remote, sequence, HF_PROXY_REFUSED, hf_slice(NULL, 0));
}

static const char *take_call(struct hf_proxy_stream *s, struct hf_reader *in)
{
    struct hf_proxy *p = s->p;
    uint64_t connection = hf_read_u64(in), sequence = hf_read_u64(in), term = hf_read_u64(in), bytes = 0;
    uint32_t n = hf_read_u32(in);
    struct hf_proxy_remote **at, *r;
    struct hf_args args;

    /* Every word has at least its length: what cannot fit is refused before anything is allocated for it. */
    if (in->failed || n == 0 || n > hf_reader_left(in) / 4 || n > p->limits.args_max)
        return "a malformed command, or one with too many words";
    if (n > p->words_cap) {
        p->words_cap = n;
        p->words = hf_realloc(p->words, n * sizeof *p->words);
    }
    for (uint32_t i = 0; i < n; i++) {
        p->words[i] = hf_read_slice(in);
        bytes += p->words[i].len;
        if (p->words[i].len > p->limits.bulk_bytes_max)
            return "a word above the limit for one";
    }
    if (!hf_reader_done(in))
        return "a malformed command";
    if (bytes > p->limits.query_bytes_max)
        return "a command above the limit for one";
    at = find_remote(s, connection);
    if (at == NULL) {
        if (s->n_remotes >= REMOTES_MAX)
            return "too many clients on one stream";
        r = open_remote(s, connection);
    } else {
        r = *at;
    }
    if (sequence <= r->last_sequence)
        return "a command out of order";
    if (s->n_served >= SERVED_MAX)
        return "too many commands without an answer";
    r->last_sequence = sequence;
    r->n_served++;
    s->n_served++;
    args.at = p->words;
    args.n = n;
    hf_counter_add(p->served_total, 1);
    p->handler.command(r->state, sequence, term, &args);
    return NULL;
}

/* An END for a client that is not known is normal: its stream was a former one. */
static const char *take_end(struct hf_proxy_stream *s, struct hf_reader *in)
{
    uint64_t connection = hf_read_u64(in);
    struct hf_proxy_remote **at;

    if (!hf_reader_done(in))
        return "a malformed end of a client";
    at = find_remote(s, connection);
    if (at)
        close_remote(s, at);
    return NULL;
}

/* ---- events ------------------------------------------------------------------------------------------- */

void hf_proxy_on_message(struct hf_proxy *p, struct hf_link *link, uint8_t type, struct hf_slice payload)
{
    struct hf_proxy_stream *s = find_stream(p, link);
    struct hf_reader in = hf_reader(payload);
    const char *why = NULL;

    if (s == NULL || s->is_doomed)
        return;
    if (type != MESSAGE_RECORDS || payload.len == 0)
        why = "an unknown message";
    while (why == NULL && hf_reader_left(&in) > 0) {
        struct hf_reader record = hf_reader(hf_read_slice(&in));

        if (in.failed) {
            why = "a malformed message";
            break;
        }
        switch (hf_read_u8(&record)) {
        case RECORD_CALL:
            why = p->has_handler ? take_call(s, &record) : "a command, which this node does not take";
            break;
        case RECORD_REPLY:
            why = take_reply(s, &record);
            break;
        case RECORD_END:
            why = take_end(s, &record);
            break;
        default:
            why = "an unknown record";
            break;
        }
        if (s->is_doomed)
            return;
    }
    if (why)
        doom(s, why);
}

void hf_proxy_on_link_up(struct hf_proxy *p, struct hf_link *link)
{
    struct hf_proxy_stream *s = hf_calloc(1, sizeof *s);

    HF_ASSERT(find_stream(p, link) == NULL);
    s->p = p;
    s->link = link;
    s->next = p->streams;
    if (s->next)
        s->next->prev = s;
    p->streams = s;
}

static void end_stream(struct hf_proxy *p, struct hf_proxy_stream *s)
{
    s->is_doomed = true;
    if (s->prev)
        s->prev->next = s->next;
    else
        p->streams = s->next;
    if (s->next)
        s->next->prev = s->prev;
    lose_calls(p, s);
    close_remotes(s);
    hf_buf_free(&s->calls);
    hf_buf_free(&s->replies);
    hf_free(s->buckets);
    hf_free(s);
}

void hf_proxy_on_link_down(struct hf_proxy *p, struct hf_link *link)
{
    struct hf_proxy_stream *s = find_stream(p, link);

    if (s)
        end_stream(p, s);
}

/* ---- life --------------------------------------------------------------------------------------------- */

int hf_proxy_open(struct hf_env *env, const struct hf_resp_limits *limits, struct hf_stats *stats,
                  struct hf_proxy **out)
{
    struct hf_proxy *p = hf_calloc(1, sizeof *p);

    p->env = env;
    p->limits = *limits;
    p->first_free = UINT32_MAX;
    p->flush_task.data = p->retry_timer.data = p;
    p->flush_task.cb = on_flush;
    p->retry_timer.cb = on_retry;
    p->calls_total = hf_stats_counter(stats, "proxy_calls_total", NULL, "Commands passed on to the leader");
    p->lost_total =
        hf_stats_counter(stats, "proxy_calls_lost_total", NULL, "Commands whose stream broke before their answer");
    p->refused_total = hf_stats_counter(stats, "proxy_calls_refused_total", NULL,
                                        "Commands passed on that came back because the other node did not lead");
    p->served_total = hf_stats_counter(stats, "proxy_served_total", NULL, "Commands that arrived from other nodes");
    *out = p;
    return 0;
}

void hf_proxy_set_handler(struct hf_proxy *p, const struct hf_proxy_handler *handler)
{
    HF_ASSERT(!p->has_handler);
    p->handler = *handler;
    p->has_handler = true;
}

void hf_proxy_close(struct hf_proxy *p)
{
    if (!p)
        return;
    p->env->unpost(p->env, &p->flush_task);
    p->env->timer_stop(p->env, &p->retry_timer);
    while (p->streams)
        end_stream(p, p->streams);
    p->env->unpost(p->env, &p->flush_task);
    hf_buf_free(&p->scratch);
    hf_free(p->slots);
    hf_free(p->words);
    hf_free(p);
}
