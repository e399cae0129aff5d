/* link.c: one stream between two nodes: its handshake, what comes in, what goes out, whether it is alive. */
#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "peer/internal.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- life ---------------------------------------------------------------------------------------- */

static void flush_cb(struct hf_task *task)
{
    hf_link_flush(task->data);
}

static void timer_cb(struct hf_timer *timer);

struct hf_link *hf_link_new(struct hf_peers *p, bool is_dialed)
{
    struct hf_link *link = hf_calloc(1, sizeof(*link));

    link->p = p;
    link->is_dialed = is_dialed;
    link->state = is_dialed ? LINK_CONNECTING : LINK_HELLO;
    link->timer.data = link;
    link->timer.cb = timer_cb;
    link->flush.data = link;
    link->flush.cb = flush_cb;
    hf_frame_reader_init(&link->reader, HF_HELLO_BYTES_MAX, p->config.message_bytes_max);
    return link;
}

static void pop_queued(struct hf_link *link)
{
    struct hf_queued *m = link->queue_head;

    link->queue_head = m->next;
    if (link->queue_head == NULL)
        link->queue_tail = NULL;
    link->queue_bytes -= sizeof(*m) + (m->len - m->sent);
    hf_free(m);
}

void hf_link_free(struct hf_link *link)
{
    HF_ASSERT(link->stream == NULL);
    while (link->queue_head != NULL)
        pop_queued(link);
    HF_ASSERT(link->queue_bytes == 0);
    hf_frame_reader_free(&link->reader);
    hf_buf_free(&link->out);
    hf_free(link);
}

/* A stream that nobody listens to any more: closed by us, its on_close still to come. */
static void ignore_open(struct hf_stream *s)
{
    (void)s;
}

static void ignore_data(struct hf_stream *s, const uint8_t *bytes, size_t n)
{
    (void)s;
    (void)bytes;
    (void)n;
}

static void ignore_close(struct hf_stream *s, int rc)
{
    (void)s;
    (void)rc;
}

static const struct hf_stream_events detached_events = {
    .on_open = ignore_open, .on_data = ignore_data, .on_drain = ignore_open, .on_close = ignore_close};

void hf_link_detach(struct hf_link *link, bool flush)
{
    struct hf_env *env = link->p->env;
    struct hf_stream *s = link->stream;

    env->timer_stop(env, &link->timer);
    env->unpost(env, &link->flush);
    if (s == NULL)
        return;
    if (flush && link->state != LINK_CONNECTING && link->out.len != 0)
        (void)env->stream_write(env, s, link->out.data, link->out.len);
    link->stream = NULL;
    s->events = &detached_events;
    s->data = NULL;
    env->stream_close(env, s, flush);
}

/* ---- output -------------------------------------------------------------------------------------- */

static void write_out(struct hf_link *link)
{
    struct hf_env *env = link->p->env;

    if (link->out.len == 0)
        return;
    /* HF_E_CLOSED: on_close is on its way and ends the link. */
    (void)env->stream_write(env, link->stream, link->out.data, link->out.len);
    hf_counter_add(link->p->stats[link->channel].bytes_sent, link->out.len);
    link->out.len = 0;
    link->has_sent = true;
}

/* The next frame of the oldest queued message. */
static void frame_queued(struct hf_link *link)
{
    struct hf_queued *m = link->queue_head;
    size_t left = m->len - m->sent;
    size_t n = left < HF_PEER_FRAME_BYTES ? left : HF_PEER_FRAME_BYTES;
    struct hf_slice part = hf_slice(m->bytes + m->sent, n);
    unsigned flags = (m->sent != 0 ? HF_FRAME_CONTINUED : 0u) | (n < left ? HF_FRAME_MORE : 0u);

    hf_frame_put(&link->out, m->type, (uint8_t)flags, link->sequence++, &part, 1);
    m->sent += n;
    link->queue_bytes -= n;
    if (m->sent == m->len)
        pop_queued(link);
}

void hf_link_flush(struct hf_link *link)
{
    struct hf_env *env = link->p->env;

    if (link->state == LINK_CONNECTING || link->state == LINK_DEAD)
        return;
    write_out(link);
    while (link->queue_head != NULL && env->stream_queued(env, link->stream) < HF_LINK_WINDOW_BYTES) {
        frame_queued(link);
        write_out(link);
    }
    if (link->out.cap > HF_LINK_OUT_KEEP_BYTES)
        hf_buf_free(&link->out);
}

/* A frame of the link's own, with the preface before it when it is the first thing we say. */
static void send_own(struct hf_link *link, uint8_t type, struct hf_slice payload)
{
    if (link->sequence == 0 && link->state == LINK_HELLO)
        hf_frame_put_preface(&link->out);
    hf_frame_put(&link->out, type, 0, link->sequence++, &payload, 1);
    hf_link_flush(link);
}

static void send_hello(struct hf_link *link)
{
    struct hf_hello self = link->p->config.self;
    struct hf_buf payload = {0};

    self.channel = link->channel;
    self.target_id = link->is_dialed ? link->node_id : 0;
    hf_hello_put(&payload, &self);
    HF_ASSERT(payload.len <= HF_HELLO_BYTES_MAX);
    send_own(link, HF_FRAME_HELLO, hf_buf_slice(&payload));
    hf_buf_free(&payload);
}

size_t hf_link_queued(const struct hf_link *link)
{
    struct hf_env *env = link->p->env;

    if (link->stream == NULL)
        return 0;
    return link->out.len + link->queue_bytes + env->stream_queued(env, link->stream);
}

static void enqueue(struct hf_link *link, uint8_t type, const struct hf_slice *parts, size_t n, size_t len)
{
    struct hf_queued *m = hf_malloc(sizeof(*m) + len);
    size_t at = 0;

    *m = (struct hf_queued){.type = type, .len = len};
    for (size_t i = 0; i < n; i++) {
        if (parts[i].len != 0)
            memcpy(m->bytes + at, parts[i].ptr, parts[i].len);
        at += parts[i].len;
    }
    if (link->queue_tail != NULL)
        link->queue_tail->next = m;
    else
        link->queue_head = m;
    link->queue_tail = m;
    link->queue_bytes += sizeof(*m) + len;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Each channel has limits of its own, so that a full one is full for itself alone. */
static uint64_t message_bytes_max(const struct hf_link *link)
{
    uint64_t max = link->p->config.message_bytes_max;

    switch (link->channel) {
    case HF_CHANNEL_STATE:
        return smaller(max, HF_PEER_STATE_MESSAGE_BYTES_MAX);
    case HF_CHANNEL_JOIN:
        return smaller(max, HF_PEER_JOIN_MESSAGE_BYTES_MAX);
    case HF_CHANNEL_RAFT:
    case HF_CHANNEL_PROXY:
    case HF_CHANNELS:
        break;
    }
    return max;
}

static uint64_t queue_bytes_max(const struct hf_link *link)
{
    uint64_t max = link->p->config.queue_bytes_max;

    switch (link->channel) {
    case HF_CHANNEL_STATE:
        return smaller(max, HF_PEER_STATE_QUEUE_BYTES_MAX);
    case HF_CHANNEL_JOIN:
        return smaller(max, HF_PEER_JOIN_QUEUE_BYTES_MAX);
    case HF_CHANNEL_RAFT:
    case HF_CHANNEL_PROXY:
    case HF_CHANNELS:
        break;
    }
    return max;
}

/* Whether a message of len bytes would pass the limit it is under. */
static bool is_full(const struct hf_link *link, bool urgent, size_t len)
{
    size_t queued = hf_link_queued(link);

    len += HF_FRAME_HEADER_BYTES;
    /* An urgent message stands behind what is in the stream, not behind the queue: bulk that waits there, however
     * much, must not keep a heartbeat back. */
    if (urgent)
        return queued - link->queue_bytes + len > HF_LINK_URGENT_QUEUE_MAX;
    return queued != 0 && queued + len > queue_bytes_max(link);
}

int hf_link_send(struct hf_link *link, uint8_t type, bool urgent, const struct hf_slice *parts, size_t n)
{
    struct hf_peers *p = link->p;
    struct channel_stats *stats = &p->stats[link->channel];
    size_t len = 0;

    HF_ASSERT(type <= HF_PEER_TYPE_MAX);
    if (link->state != LINK_UP)
        return HF_E_CLOSED;
    for (size_t i = 0; i < n; i++)
        len += parts[i].len;
    if (len > message_bytes_max(link))
        return HF_E_LIMIT;
    urgent = urgent && len <= HF_LINK_URGENT_MAX;
    if (is_full(link, urgent, len)) {
        hf_counter_add(stats->dropped, 1);
        return HF_E_BUSY;
    }
    hf_counter_add(stats->messages_sent, 1);
    if (urgent)
        hf_frame_put(&link->out, type, HF_FRAME_URGENT, link->sequence++, parts, n);
    else if (link->queue_head == NULL && len <= HF_PEER_FRAME_BYTES &&
             hf_link_queued(link) + len <= HF_LINK_WINDOW_BYTES)
        hf_frame_put(&link->out, type, 0, link->sequence++, parts, n);
    else
        enqueue(link, type, parts, n, len);
    p->env->post(p->env, &link->flush);
    return 0;
}

/* ---- handshake ----------------------------------------------------------------------------------- */

/* Refuse with a reason that both sides log. */
static void refuse(struct hf_link *link, const char *why)
{
    char line[HF_REFUSE_BYTES_MAX + 64];

    hf_counter_add(link->p->stats[link->channel].refused, 1);
    send_own(link, HF_FRAME_REFUSE, hf_slice(why, strnlen(why, HF_REFUSE_BYTES_MAX)));
    link->was_refused = true;
    snprintf(line, sizeof(line), "we refused it: %.*s", (int)HF_REFUSE_BYTES_MAX, why);
    hf_peers_end_link(link, true, line);
}

static void was_refused(struct hf_link *link, struct hf_slice payload)
{
    struct hf_peers *p = link->p;
    char why[HF_REFUSE_BYTES_MAX + 1], line[HF_REFUSE_BYTES_MAX + 64];
    uint64_t node_id = link->node_id;

    if (!hf_refuse_decode(payload, why, sizeof(why))) {
        hf_peers_end_link(link, false, "refusal longer than the limit");
        return;
    }
    link->was_refused = true;
    snprintf(line, sizeof(line), "it refused us: %s", why);
    hf_peers_end_link(link, false, line);
    p->events.on_refused(p->events.data, node_id, why);
}

static void go_up(struct hf_link *link)
{
    struct hf_peers *p = link->p;
    struct hf_link *older = link->is_dialed ? NULL : hf_peers_older_link(link);

    if (older != NULL)
        hf_peers_retire_link(older, "replaced by a newer one");
    if (link->state == LINK_DEAD) /* its going down made the owner remove the node */
        return;
    if (!link->is_dialed)
        hf_peers_stranger_done(p);
    link->state = LINK_UP;
    link->was_up = true;
    link->up_ms = link->ticked_ms = p->env->boot_ms(p->env);
    p->env->timer_start(p->env, &link->timer, p->config.keepalive_ms);
    hf_gauge_set(p->stats[link->channel].links, hf_gauge_get(p->stats[link->channel].links) + 1);
    if (link->is_dialed)
        link->dial->is_trouble_told = false;
    HF_LOG_INFO(HF_PEER_LOG_MODULE, "link up", "node=%" PRIu64 " channel=%d dialed=%d", link->node_id,
                (int)link->channel, link->is_dialed);
    if (link->is_dialed)
        send_own(link, HF_FRAME_KEEPALIVE, hf_slice(NULL, 0));
    p->events.on_link_up(p->events.data, link);
}

/* Whether a JOIN hello is what it may be: any member answers whoever asks. */
static bool is_join_for_us(const struct hf_link *link, const struct hf_hello *h, char *why, size_t why_size)
{
    const struct hf_hello *self = &link->p->config.self;

    if ((h->node_id != 0 && h->node_id == self->node_id) || h->store_id == self->store_id) {
        snprintf(why, why_size, "node %" PRIu64 " is this node itself%s", h->node_id,
                 h->store_id == self->store_id ? "" : ", two nodes use one id");
        return false;
    }
    if (link->is_dialed && h->node_id == 0) {
        snprintf(why, why_size, "the node that was asked is no member itself");
        return false;
    }
    if (!link->is_dialed && self->node_id == 0) {
        snprintf(why, why_size, "this node is no member itself");
        return false;
    }
    if (!link->is_dialed && h->target_id != 0) {
        snprintf(why, why_size, "you meant node %" PRIu64 " where none is named", h->target_id);
        return false;
    }
    if (!link->is_dialed && hf_peers_count_joining(link->p) >= HF_PEER_JOIN_LINKS_MAX) {
        snprintf(why, why_size, "too many nodes ask to join at once");
        return false;
    }
    return true;
}

/* Whether the hello names the two of us; else `why`. */
static bool is_meant_for_us(const struct hf_link *link, const struct hf_hello *h, char *why, size_t why_size)
{
    const struct hf_hello *self = &link->p->config.self;

    if (link->is_dialed && h->channel != link->channel) {
        snprintf(why, why_size, "the answer is for another channel");
        return false;
    }
    if (h->channel == HF_CHANNEL_JOIN)
        return is_join_for_us(link, h, why, why_size);
    if (link->is_dialed && h->node_id != link->node_id) {
        snprintf(why, why_size, "node %" PRIu64 " was meant, this is node %" PRIu64, link->node_id, h->node_id);
        return false;
    }
    if (!link->is_dialed && self->node_id == 0) {
        snprintf(why, why_size, "this node is no member yet");
        return false;
    }
    if (!link->is_dialed && h->node_id == self->node_id) {
        snprintf(why, why_size, "node %" PRIu64 " is this node itself%s", h->node_id,
                 h->store_id == self->store_id ? "" : ", two nodes use one id");
        return false;
    }
    if (!link->is_dialed && h->target_id != self->node_id) {
        snprintf(why, why_size, "you meant node %" PRIu64 ", this is node %" PRIu64, h->target_id, self->node_id);
        return false;
    }
    return true;
}

static void judge_hello(struct hf_link *link, struct hf_slice payload)
{
    struct hf_peers *p = link->p;
    char why[HF_REFUSE_BYTES_MAX + 1] = "not welcome";
    struct hf_hello h;
    int rc = hf_hello_decode(payload, &p->config.self, &h, why, sizeof(why));

    if (rc == HF_E_INVALID) {
        hf_peers_end_link(link, false, why);
        return;
    }
    if (rc != 0 || !is_meant_for_us(link, &h, why, sizeof(why))) {
        refuse(link, why);
        return;
    }
    link->channel = h.channel;
    if (!p->events.on_hello(p->events.data, &h, link->is_dialed, why, sizeof(why))) {
        if (link->state != LINK_DEAD)
            refuse(link, why);
        return;
    }
    if (link->state == LINK_DEAD) /* the owner closed it while judging */
        return;
    link->theirs = h;
    link->node_id = h.node_id;
    link->reader.message_bytes_max = message_bytes_max(link);
    link->reader.frame_bytes_max = HF_PEER_FRAME_BYTES;
    if (link->is_dialed) {
        go_up(link);
        return;
    }
    send_hello(link);
    link->state = LINK_ANSWERED;
}

/* ---- input --------------------------------------------------------------------------------------- */

static void take_message(struct hf_link *link, const struct hf_frame_message *m)
{
    struct hf_peers *p = link->p;

    if (m->type == HF_FRAME_HELLO && link->state == LINK_HELLO) {
        judge_hello(link, m->payload);
        return;
    }
    if (m->type == HF_FRAME_REFUSE && (link->is_dialed || link->state != LINK_HELLO)) {
        was_refused(link, m->payload);
        return;
    }
    if (link->state == LINK_HELLO || m->type == HF_FRAME_HELLO || m->type == HF_FRAME_REFUSE) {
        hf_peers_end_link(link, false, "breaks the handshake");
        return;
    }
    if (link->state == LINK_ANSWERED)
        go_up(link);
    if (link->state != LINK_UP || m->type == HF_FRAME_KEEPALIVE)
        return;
    hf_counter_add(p->stats[link->channel].messages_received, 1);
    p->events.on_message(p->events.data, link, m->type, m->payload);
}

static void on_data(struct hf_stream *s, const uint8_t *bytes, size_t n)
{
    struct hf_link *link = s->data;
    struct hf_peers *p = link->p;
    struct hf_frame_message m;
    bool has_message = false;
    int rc;

    link->heard_ms = p->env->boot_ms(p->env);
    hf_counter_add(p->stats[link->channel].bytes_received, n);
    hf_frame_reader_input(&link->reader, hf_slice(bytes, n));
    for (;;) {
        rc = hf_frame_reader_next(&link->reader, &m);
        if (rc != 1)
            break;
        has_message = true;
        take_message(link, &m);
        /* The reaper has not run yet: the memory of a dead link is still there, but nothing more is its business. */
        if (link->state == LINK_DEAD)
            return;
    }
    if (rc == HF_E_VERSION && !link->is_dialed) {
        /* Nothing more can be said to it; our preface tells it which version would do. */
        hf_frame_put_preface(&link->out);
        hf_peers_end_link(link, true, link->reader.error);
    } else if (rc != 0) {
        hf_peers_end_link(link, false, link->reader.error);
    } else if (link->state == LINK_UP && !has_message && hf_frame_reader_is_midway(&link->reader)) {
        p->events.on_progress(p->events.data, link);
    }
}

static void on_open(struct hf_stream *s)
{
    struct hf_link *link = s->data;
    struct hf_env *env = link->p->env;

    HF_ASSERT(link->state == LINK_CONNECTING);
    link->state = LINK_HELLO;
    env->timer_start(env, &link->timer, link->p->config.handshake_timeout_ms);
    send_hello(link);
}

static void on_drain(struct hf_stream *s)
{
    hf_link_flush(s->data);
}

static void on_close(struct hf_stream *s, int rc)
{
    struct hf_link *link = s->data;

    link->stream = NULL; /* freed when we return */
    link->is_unanswered = link->is_dialed && link->state == LINK_HELLO;
    hf_peers_end_link(link, false, rc == 0 ? "the other side closed it" : hf_strerror(rc));
}

const struct hf_stream_events hf_link_stream_events = {
    .on_open = on_open, .on_data = on_data, .on_drain = on_drain, .on_close = on_close};

void hf_link_accepted(struct hf_link *link, struct hf_stream *s)
{
    struct hf_env *env = link->p->env;

    link->stream = s;
    s->events = &hf_link_stream_events;
    s->data = link;
    env->timer_start(env, &link->timer, link->p->config.handshake_timeout_ms);
}

/* Once every keepalive_ms on a link that is up. */
static void tick(struct hf_link *link)
{
    struct hf_peers *p = link->p;
    uint64_t now = p->env->boot_ms(p->env);
    /* When we were the ones that stood still, what the other side sent meanwhile is still unread: judge next time. */
    bool is_late = now - link->ticked_ms > 2 * p->config.keepalive_ms;

    link->ticked_ms = now;
    if (!is_late && now - link->heard_ms >= p->config.silence_max_ms) {
        hf_peers_end_link(link, false, "silent");
        return;
    }
    /* Bytes that wait in the stream will speak for us once they go. */
    if (!link->has_sent && p->env->stream_queued(p->env, link->stream) == 0)
        send_own(link, HF_FRAME_KEEPALIVE, hf_slice(NULL, 0));
    link->has_sent = false;
    p->env->timer_start(p->env, &link->timer, p->config.keepalive_ms);
}

static void timer_cb(struct hf_timer *timer)
{
    struct hf_link *link = timer->data;

    if (link->state == LINK_UP)
        tick(link);
    else
        hf_peers_end_link(link, false, "no hello in time");
}

/* ---- what the owner may ask ---------------------------------------------------------------------- */

uint64_t hf_link_node_id(const struct hf_link *link)
{
    return link->node_id;
}

enum hf_channel hf_link_channel(const struct hf_link *link)
{
    return link->channel;
}

bool hf_link_is_dialed(const struct hf_link *link)
{
    return link->is_dialed;
}

const struct hf_hello *hf_link_hello(const struct hf_link *link)
{
    return &link->theirs;
}

void hf_link_set_data(struct hf_link *link, void *data)
{
    link->data = data;
}

void *hf_link_data(const struct hf_link *link)
{
    return link->data;
}

void hf_link_close(struct hf_link *link)
{
    hf_peers_end_link(link, false, "closed by its owner");
}
