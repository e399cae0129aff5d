/* peer.c: the table of members and links: listening, accepting, dialing and redialing, who replaces whom. */
#include "peer/peer.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "peer/internal.h"

#include <inttypes.h>
#include <stdio.h>

static const char *const channel_labels[HF_CHANNELS] = {[HF_CHANNEL_RAFT] = "channel=\"raft\"",
                                                        [HF_CHANNEL_PROXY] = "channel=\"proxy\"",
                                                        [HF_CHANNEL_STATE] = "channel=\"state\"",
                                                        [HF_CHANNEL_JOIN] = "channel=\"join\""};

/* ---- lists --------------------------------------------------------------------------------------- */

static void list_push(struct hf_link **list, struct hf_link *link)
{
    link->previous = NULL;
    link->next = *list;
    if (*list != NULL)
        (*list)->previous = link;
    *list = link;
}

static void list_remove(struct hf_link **list, struct hf_link *link)
{
    if (link->previous != NULL)
        link->previous->next = link->next;
    else
        *list = link->next;
    if (link->next != NULL)
        link->next->previous = link->previous;
    link->next = link->previous = NULL;
}

static struct member *find_member(const struct hf_peers *p, uint64_t id)
{
    for (struct member *m = p->members; m != NULL; m = m->next) {
        if (m->id == id)
            return m;
    }
    return NULL;
}

struct hf_link *hf_peers_older_link(const struct hf_link *link)
{
    for (struct hf_link *l = link->p->links; l != NULL; l = l->next) {
        if (l == link || l->state != LINK_UP || l->is_dialed || l->channel != link->channel)
            continue;
        /* Those that join have no id of their own yet; what they are known by is their data directory. */
        if (link->channel == HF_CHANNEL_JOIN ? l->theirs.store_id == link->theirs.store_id
                                             : l->node_id == link->node_id)
            return l;
    }
    return NULL;
}

uint32_t hf_peers_count_joining(const struct hf_peers *p)
{
    uint32_t n = 0;

    for (struct hf_link *l = p->links; l != NULL; l = l->next)
        n += l->channel == HF_CHANNEL_JOIN && !l->is_dialed && (l->state == LINK_UP || l->state == LINK_ANSWERED);
    return n;
}

/* ---- dialing ------------------------------------------------------------------------------------- */

static void redial_later(struct dial *dial, uint64_t base_ms)
{
    struct hf_peers *p = dial->p;
    /* Half fixed, half drawn: nodes that lost each other at one moment do not come back at one moment. */
    uint64_t delay_ms = base_ms / 2 + hf_prng_below(&p->prng, base_ms / 2 + 1);

    p->env->timer_start(p->env, &dial->timer, delay_ms);
}

static void back_off(struct dial *dial)
{
    uint64_t base_ms = dial->backoff_ms;

    dial->backoff_ms = base_ms * 2 < dial->p->config.redial_max_ms ? base_ms * 2 : dial->p->config.redial_max_ms;
    redial_later(dial, base_ms);
}

static void dial_now(struct dial *dial)
{
    struct hf_peers *p = dial->p;
    const char *address = dial->member != NULL ? dial->member->address : p->join_address;
    struct hf_link *link;
    int rc;

    HF_ASSERT(dial->link == NULL);
    link = hf_link_new(p, true);
    link->node_id = dial->member != NULL ? dial->member->id : 0;
    link->channel = dial->channel;
    rc = p->env->connect(p->env, address, p->config.connect_timeout_ms, &hf_link_stream_events, link, &link->stream);
    if (rc != 0) {
        HF_LOG_WARN(HF_PEER_LOG_MODULE, "cannot dial", "node=%" PRIu64 " address=%s error=\"%s\"", link->node_id,
                    address, hf_strerror(rc));
        link->stream = NULL;
        hf_link_free(link);
        back_off(dial);
        return;
    }
    link->dial = dial;
    dial->link = link;
    list_push(&p->links, link);
}

static void redial_cb(struct hf_timer *timer)
{
    dial_now(timer->data);
}

/* The dialed link is gone: when to try again. */
static void dial_lost(struct dial *dial, const struct hf_link *link, uint64_t now)
{
    bool is_optional = dial->channel == HF_CHANNEL_STATE || dial->channel == HF_CHANNEL_JOIN;

    dial->link = NULL;
    if (link->is_unanswered && is_optional) {
        uint64_t base_ms = dial->unanswered_ms;

        dial->unanswered_ms = base_ms * 2 < HF_LINK_UNANSWERED_MAX_MS ? base_ms * 2 : HF_LINK_UNANSWERED_MAX_MS;
        redial_later(dial, base_ms);
        return;
    }
    dial->unanswered_ms = dial->p->config.refused_redial_ms;
    if (link->was_refused) {
        redial_later(dial, dial->p->config.refused_redial_ms);
        return;
    }
    if (link->was_up && now - link->up_ms >= HF_LINK_DIAL_PROVEN_MS)
        dial->backoff_ms = dial->p->config.redial_min_ms;
    back_off(dial);
}

/* ---- the end of a link --------------------------------------------------------------------------- */

static void log_end(struct hf_link *link, const char *why)
{
    struct hf_peers *p = link->p;
    enum hf_log_level level = HF_LOG_DEBUG_LEVEL;
    char name[128] = "?";

    if (link->was_up) {
        level = HF_LOG_INFO_LEVEL;
    } else if (link->is_dialed) {
        /* One line an outage: the same line at every redial would drown the rest. */
        if (!link->dial || !link->dial->is_trouble_told)
            level = HF_LOG_WARN_LEVEL;
        if (link->dial)
            link->dial->is_trouble_told = true;
    } else {
        /* Strangers can come as fast as they like; their lines cannot. */
        uint64_t now = p->env->boot_ms(p->env);

        if (now - p->stranger_logged_ms >= HF_PEER_STRANGER_LOG_MS) {
            level = HF_LOG_WARN_LEVEL;
            p->stranger_logged_ms = now;
        }
    }
    if (!hf_log_wants(level))
        return;
    if (link->stream != NULL)
        p->env->stream_name(p->env, link->stream, true, name, sizeof(name));
    HF_LOG_AT(level, HF_PEER_LOG_MODULE, link->was_up ? "link down" : "no link",
              "node=%" PRIu64 " channel=%d dialed=%d stream=%s why=\"%s\"", link->node_id, (int)link->channel,
              link->is_dialed, name, why);
}

void hf_peers_stranger_done(struct hf_peers *p)
{
    HF_ASSERT(p->n_strangers > 0);
    p->n_strangers--;
}

void hf_peers_end_link(struct hf_link *link, bool flush, const char *why)
{
    struct hf_peers *p = link->p;
    struct member *m;
    uint64_t now;

    if (link->state == LINK_DEAD)
        return;
    log_end(link, why);
    now = p->env->boot_ms(p->env);
    if (link->state == LINK_UP) {
        hf_gauge_set(p->stats[link->channel].links, hf_gauge_get(p->stats[link->channel].links) - 1);
        m = link->channel != HF_CHANNEL_JOIN ? find_member(p, link->node_id) : NULL;
        if (m != NULL && link->heard_ms > m->heard_ms)
            m->heard_ms = link->heard_ms;
    } else if (!link->is_dialed) {
        hf_peers_stranger_done(p);
        hf_counter_add(p->strangers_rejected, 1);
    }
    hf_link_detach(link, flush);
    link->state = LINK_DEAD;
    list_remove(&p->links, link);
    list_push(&p->dead, link);
    if (link->dial != NULL)
        dial_lost(link->dial, link, now);
    link->dial = NULL;
    p->env->post(p->env, &p->reaper);
}

static void tell_down(struct hf_link *link)
{
    struct hf_peers *p = link->p;

    if (!link->was_up)
        return;
    link->was_up = false;
    p->events.on_link_down(p->events.data, link);
}

void hf_peers_retire_link(struct hf_link *link, const char *why)
{
    hf_peers_end_link(link, true, why);
    tell_down(link);
}

static void reap_cb(struct hf_task *task)
{
    struct hf_peers *p = task->data;
    struct hf_link *link;

    /* on_link_down may end further links; they join this list. */
    while ((link = p->dead) != NULL) {
        list_remove(&p->dead, link);
        tell_down(link);
        hf_link_free(link);
    }
}

/* ---- accepting ----------------------------------------------------------------------------------- */

static void on_accept(void *data, struct hf_stream *s)
{
    struct hf_peers *p = data;
    struct hf_link *link, *oldest = NULL;

    if (p->n_strangers >= p->config.strangers_max) {
        /* The oldest goes rather than the newest: a member says its hello within a round trip, so those that have
         * waited longest are the least likely to be one. New links are pushed at the front of the list. */
        for (struct hf_link *l = p->links; l != NULL; l = l->next) {
            if (!l->is_dialed && l->state != LINK_UP)
                oldest = l;
        }
        HF_ASSERT(oldest != NULL);
        hf_peers_end_link(oldest, false, "too many strangers");
    }
    link = hf_link_new(p, false);
    p->n_strangers++;
    list_push(&p->links, link);
    hf_link_accepted(link, s);
}

static const struct hf_listener_events listener_events = {.on_accept = on_accept};

/* ---- the seam ------------------------------------------------------------------------------------ */

static void set_default(uint64_t *field, uint64_t value)
{
    if (*field == 0)
        *field = value;
}

static void set_defaults(struct hf_peers_config *c)
{
    set_default(&c->queue_bytes_max, 32u << 20);
    set_default(&c->connect_timeout_ms, 500);
    set_default(&c->redial_min_ms, 50);
    set_default(&c->redial_max_ms, 500);
    set_default(&c->handshake_timeout_ms, 2000);
    set_default(&c->refused_redial_ms, 1000);
    set_default(&c->keepalive_ms, 1000);
    set_default(&c->silence_max_ms, 5000);
    if (c->strangers_max == 0)
        c->strangers_max = 64;
    c->listen_address = NULL;
}

static void set_self(struct hf_peers *p, const struct hf_hello *self)
{
    HF_ASSERT(self->node_id != 0 || p->members == NULL); /* only members have members to talk to */
    p->config.self = *self;
    if (p->config.self.protocol_max == 0) {
        p->config.self.protocol_min = HF_PEER_PROTOCOL_MIN;
        p->config.self.protocol_max = HF_PEER_PROTOCOL_MAX;
    }
}

static void register_stats(struct hf_peers *p, struct hf_stats *st)
{
    for (int i = 0; i < HF_CHANNELS; i++) {
        struct channel_stats *c = &p->stats[i];
        const char *l = channel_labels[i];

        c->messages_sent = hf_stats_counter(st, "peer_messages_sent_total", l, "Messages given to other nodes' links.");
        c->messages_received = hf_stats_counter(st, "peer_messages_received_total", l, "Messages from other nodes.");
        c->bytes_sent = hf_stats_counter(st, "peer_bytes_sent_total", l, "Bytes written to other nodes.");
        c->bytes_received = hf_stats_counter(st, "peer_bytes_received_total", l, "Bytes read from other nodes.");
        c->dropped = hf_stats_counter(st, "peer_dropped_total", l, "Messages not sent because a queue was full.");
        c->refused = hf_stats_counter(st, "peer_refused_total", l, "Hellos of other nodes refused.");
        c->links = hf_stats_gauge(st, "peer_links", l, "Links to and from other nodes that are up.");
    }
    p->strangers_rejected = hf_stats_counter(st, "peer_strangers_rejected_total", NULL,
                                             "Incoming streams that ended before they became a link.");
}

static void init_dial(struct dial *dial, struct hf_peers *p, struct member *m, enum hf_channel channel)
{
    dial->p = p;
    dial->member = m;
    dial->channel = channel;
    dial->timer.data = dial;
    dial->timer.cb = redial_cb;
    dial->backoff_ms = p->config.redial_min_ms;
    dial->unanswered_ms = p->config.refused_redial_ms;
    dial->is_trouble_told = false;
}

int hf_peers_open(struct hf_env *env, const struct hf_peers_config *config, const struct hf_peers_events *events,
                  struct hf_stats *stats, struct hf_peers **out)
{
    struct hf_peers *p = hf_calloc(1, sizeof(*p));
    int rc;

    HF_ASSERT(config->message_bytes_max > 0);
    p->env = env;
    p->config = *config;
    p->events = *events;
    p->reaper.data = p;
    p->reaper.cb = reap_cb;
    set_defaults(&p->config);
    set_self(p, &config->self);
    init_dial(&p->join, p, NULL, HF_CHANNEL_JOIN);
    hf_prng_seed(&p->prng, config->self.store_id);
    register_stats(p, stats);
    rc = env->listen(env, config->listen_address, &listener_events, p, &p->listener);
    if (rc != 0) {
        hf_free(p);
        return rc;
    }
    *out = p;
    return 0;
}

static void free_member(struct hf_peers *p, struct member *m)
{
    for (int i = 0; i < HF_CHANNELS; i++)
        p->env->timer_stop(p->env, &m->dials[i].timer);
    hf_free(m->address);
    hf_free(m);
}

void hf_peers_close(struct hf_peers *p)
{
    struct hf_link *link;
    struct member *m;

    if (p == NULL)
        return;
    p->env->listener_close(p->env, p->listener);
    p->env->unpost(p->env, &p->reaper);
    while ((link = p->links) != NULL) {
        list_remove(&p->links, link);
        hf_link_detach(link, link->state == LINK_UP);
        hf_link_free(link);
    }
    while ((link = p->dead) != NULL) {
        list_remove(&p->dead, link);
        hf_link_free(link);
    }
    while ((m = p->members) != NULL) {
        p->members = m->next;
        free_member(p, m);
    }
    p->env->timer_stop(p->env, &p->join.timer);
    hf_free(p->join_address);
    for (int i = 0; i < HF_CHANNELS; i++)
        hf_gauge_set(p->stats[i].links, 0);
    hf_free(p);
}

void hf_peers_update_self(struct hf_peers *p, const struct hf_hello *self)
{
    set_self(p, self);
}

/* End a dial's present attempt or link without scheduling another. */
static void dial_stop(struct dial *dial, const char *why)
{
    struct hf_link *link = dial->link;

    dial->p->env->timer_stop(dial->p->env, &dial->timer);
    dial->link = NULL;
    if (link != NULL) {
        link->dial = NULL;
        hf_peers_end_link(link, true, why);
    }
}

void hf_peers_add(struct hf_peers *p, uint64_t node_id, const char *address)
{
    struct member *m = find_member(p, node_id);

    HF_ASSERT(node_id != 0);
    HF_ASSERT(p->config.self.node_id != 0);
    HF_ASSERT(node_id != p->config.self.node_id);
    if (m != NULL && strcmp(m->address, address) == 0)
        return;
    if (m == NULL) {
        m = hf_calloc(1, sizeof(*m));
        m->id = node_id;
        m->next = p->members;
        p->members = m;
    }
    hf_free(m->address);
    m->address = hf_strdup(address);
    for (int i = 0; i < HF_CHANNELS; i++) {
        struct dial *dial = &m->dials[i];

        init_dial(dial, p, m, (enum hf_channel)i);
        dial_stop(dial, "the member's address changed");
        if (i == HF_CHANNEL_RAFT || i == HF_CHANNEL_PROXY || (i == HF_CHANNEL_STATE && m->wants_state))
            dial_now(dial);
    }
}

void hf_peers_want_state(struct hf_peers *p, uint64_t node_id, bool is_wanted)
{
    struct member *m = find_member(p, node_id);
    struct dial *dial;

    if (m == NULL || m->wants_state == is_wanted)
        return;
    m->wants_state = is_wanted;
    dial = &m->dials[HF_CHANNEL_STATE];
    dial_stop(dial, "no state is to be copied any more");
    init_dial(dial, p, m, HF_CHANNEL_STATE);
    if (is_wanted)
        dial_now(dial);
}

void hf_peers_dial_join(struct hf_peers *p, const char *address)
{
    if (address != NULL && p->join_address != NULL && strcmp(address, p->join_address) == 0)
        return;
    dial_stop(&p->join, address != NULL ? "another node is asked to join" : "no node is asked to join any more");
    hf_free(p->join_address);
    p->join_address = address != NULL ? hf_strdup(address) : NULL;
    init_dial(&p->join, p, NULL, HF_CHANNEL_JOIN);
    if (address != NULL)
        dial_now(&p->join);
}

struct hf_link *hf_peers_join_link(struct hf_peers *p)
{
    struct hf_link *link = p->join.link;

    return link != NULL && link->state == LINK_UP ? link : NULL;
}

void hf_peers_remove(struct hf_peers *p, uint64_t node_id)
{
    struct hf_link *next;

    for (struct member **at = &p->members; *at != NULL; at = &(*at)->next) {
        struct member *m = *at;

        if (m->id != node_id)
            continue;
        for (int i = 0; i < HF_CHANNELS; i++)
            dial_stop(&m->dials[i], "the member was removed");
        *at = m->next;
        free_member(p, m);
        break;
    }
    for (struct hf_link *link = p->links; link != NULL; link = next) {
        next = link->next;
        if (link->node_id == node_id && link->channel != HF_CHANNEL_JOIN)
            hf_peers_end_link(link, true, "the member was removed");
    }
}

struct hf_link *hf_peers_link(struct hf_peers *p, uint64_t node_id, enum hf_channel channel)
{
    struct member *m = find_member(p, node_id);
    struct hf_link *link = m != NULL ? m->dials[channel].link : NULL;

    return link != NULL && link->state == LINK_UP ? link : NULL;
}

uint64_t hf_peers_silence_ms(const struct hf_peers *p, uint64_t node_id)
{
    struct member *m = find_member(p, node_id);
    uint64_t heard_ms = m != NULL ? m->heard_ms : 0;

    for (struct hf_link *link = p->links; link != NULL; link = link->next) {
        /* On JOIN anyone may say any id. */
        if (link->state == LINK_UP && link->node_id == node_id && link->channel != HF_CHANNEL_JOIN &&
            link->heard_ms > heard_ms)
            heard_ms = link->heard_ms;
    }
    return heard_ms == 0 ? UINT64_MAX : p->env->boot_ms(p->env) - heard_ms;
}
