/* join.c: a node that is no member yet, and one that is none any more.
 *
 * Joining: the node dials one member after the other on the JOIN channel and asks; that member passes the request to
 * the leader (operate.c), which gives it a new id and adds it as a learner. The answer tells the id and the members;
 * the node writes that into its identity, from then on it is known by its store id, and the log (or a copy of the
 * state) comes to it like to any other member. Asking again is harmless: the leader knows the store id.
 *
 *   JOIN    u64 store id, then each as u32 length + bytes: name, whom it replaces, its peer address
 *   JOINED  u8 code (0 yes, 1 refused, 2 try again), u32 length + text, and for yes: u64 node id, 16 cluster id,
 *           16 incarnation, u16 count, then each member: u64 id, u32 length + its text in the configuration
 *
 * Removed: a node hears it from the leader (REMOVED), from a member that refuses its hello, or finds a committed
 * configuration in its own log that it is not in. It says so in its identity, so that it never starts again as what it
 * was, and stops. */
#include "base/crashpoint.h"
#include "consensus/internal.h"

#include <inttypes.h>
#include <stdio.h>

#define JOIN_INTERVAL_MS  500u
#define JOIN_PATIENCE_MS  10000u /* without an answer the next address is tried */
#define JOIN_REQUESTS_MAX 16u    /* nodes that ask by way of this one at the same time */

enum { JOINED_YES = 0, JOINED_REFUSED = 1, JOINED_AGAIN = 2 };

struct hf_join { /* a node that asks by way of this one */
    struct hf_join *next;
    struct hf_consensus *c;
    struct hf_link *link; /* NULL: gone meanwhile */
    struct hf_member_request request;
};

/* ---- the node that asks ------------------------------------------------------------------------------- */

/* The k-th address to try: those it was given, else the members it remembers. */
static bool address_at(const struct hf_consensus *c, uint32_t k, char out[256])
{
    const char *p = c->join;
    uint32_t n = 0;

    for (size_t len; *p; p += len + (p[len] == ',')) {
        len = strcspn(p, ",");
        if (len > 0 && len < 256 && n++ == k) {
            memcpy(out, p, len);
            out[len] = 0;
            return true;
        }
    }
    if (n > 0)
        return false;
    if (k >= c->identity.n_members)
        return false;
    snprintf(out, 256, "%s", c->identity.members[k].address);
    return true;
}

static void dial_next(struct hf_consensus *c)
{
    char address[256];

    if (!address_at(c, c->join_at, address)) {
        c->join_at = 0;
        if (!address_at(c, 0, address)) {
            snprintf(c->problem, sizeof c->problem, "no member to join by is known: start with --join HOST:PORT");
            return;
        }
    }
    c->join_since_ms = hf_consensus_now(c);
    snprintf(c->problem, sizeof c->problem, "joining by way of %.200s", address);
    HF_LOG_INFO("consensus", "joining", "by=%s", address);
    hf_peers_dial_join(c->peers, address);
}

static void ask(struct hf_consensus *c, struct hf_link *link)
{
    struct hf_hello self = hf_consensus_hello(c);
    struct hf_buf buf = {0};
    struct hf_slice bytes;

    hf_buf_put_u64(&buf, c->identity.store_id);
    hf_buf_put_slice(&buf, hf_slice_str(c->identity.name));
    hf_buf_put_slice(&buf, hf_slice_str(c->identity.replaces));
    hf_buf_put_slice(&buf, hf_slice_str(self.address));
    bytes = hf_buf_slice(&buf);
    if (hf_link_send(link, HF_MSG_JOIN, true, &bytes, 1) < 0)
        HF_LOG_DEBUG("consensus", "join request not sent", "%s", "");
    hf_buf_free(&buf);
}

static bool is_asking(const struct hf_consensus *c)
{
    return c->identity.is_joining && c->identity.node_id == 0 && !c->is_closing && !c->has_failed;
}

static void on_join_timer(struct hf_timer *timer)
{
    struct hf_consensus *c = timer->data;

    if (!is_asking(c))
        return;
    if (hf_consensus_now(c) - c->join_since_ms > JOIN_PATIENCE_MS) {
        c->join_at++;
        dial_next(c);
    }
    if (hf_peers_join_link(c->peers))
        ask(c, hf_peers_join_link(c->peers));
    c->env->timer_start(c->env, timer, JOIN_INTERVAL_MS * 2);
}

void hf_consensus_join_begin(struct hf_consensus *c)
{
    c->join_timer.data = c;
    c->join_timer.cb = on_join_timer;
    dial_next(c);
    c->env->timer_start(c->env, &c->join_timer, JOIN_INTERVAL_MS);
}

/* The leader let us in. */
static void become_member(struct hf_consensus *c, struct hf_reader *r)
{
    struct hf_identity id = c->identity;
    const uint8_t *cluster_id, *incarnation;
    struct hf_hello hello;
    uint64_t previous = 0;
    char why[512], text[HF_MEMBER_TEXT_BYTES];
    uint16_t n;
    int rc;

    id.node_id = hf_read_u64(r);
    cluster_id = hf_reader_take(r, 16);
    incarnation = hf_reader_take(r, 16);
    n = hf_read_u16(r);
    if (r->failed || id.node_id == 0 || n > HF_MEMBERS_MAX)
        return;
    memcpy(id.cluster_id, cluster_id, 16);
    memcpy(id.incarnation, incarnation, 16);
    id.n_members = 0;
    for (uint16_t i = 0; i < n; i++) {
        uint64_t member = hf_read_u64(r);
        struct hf_slice s = hf_read_slice(r);

        if (r->failed || s.len >= sizeof text || member <= previous)
            return;
        memcpy(text, s.ptr, s.len);
        text[s.len] = 0;
        if (hf_member_parse(member, text, &id.members[id.n_members]) < 0)
            return;
        previous = member;
        id.n_members++;
    }
    if (!hf_reader_done(r) || id.n_members == 0)
        return;
    c->identity = id;
    if (hf_consensus_save_identity(c) < 0)
        return;
    hf_crash_point("join-told");
    c->config.node_id = id.node_id;
    c->problem[0] = 0;
    HF_LOG_INFO("consensus", "joined", "id=%" PRIu64 " members=%" PRIu32, id.node_id, id.n_members);
    c->env->timer_stop(c->env, &c->join_timer);
    hf_peers_dial_join(c->peers, NULL);
    hello = hf_consensus_hello(c);
    hf_peers_update_self(c->peers, &hello);
    hf_consensus_members_changed(c);
    c->quiet_until_ms = hf_consensus_now(c) + HF_LEASE_MAX_MS;
    rc = hf_consensus_begin_raft(c, why, sizeof why);
    if (rc < 0)
        hf_consensus_fail(c, rc, "%s", why);
}

static void on_joined(struct hf_consensus *c, struct hf_slice payload)
{
    struct hf_reader r = hf_reader(payload);
    uint8_t code = hf_read_u8(&r);
    struct hf_slice text = hf_read_slice(&r);

    if (r.failed || !is_asking(c))
        return;
    c->join_since_ms = hf_consensus_now(c);
    if (code == JOINED_YES) {
        become_member(c, &r);
        return;
    }
    snprintf(c->problem, sizeof c->problem, "joining: %.*s", (int)(text.len < 200 ? text.len : 200),
             (const char *)text.ptr);
    HF_LOG_WARN("consensus", "not let in yet", "reason=\"%.*s\"", (int)(text.len < 200 ? text.len : 200),
                (const char *)text.ptr);
}

/* ---- the member that is asked ------------------------------------------------------------------------- */

static void answer(struct hf_consensus *c, struct hf_join *j, uint8_t code, const char *text, uint64_t node_id)
{
    struct hf_buf buf = {0};
    struct hf_slice bytes;
    uint16_t n = 0;

    hf_buf_put_u8(&buf, code);
    hf_buf_put_slice(&buf, hf_slice_str(text));
    if (code == JOINED_YES) {
        hf_buf_put_u64(&buf, node_id);
        hf_buf_put(&buf, c->identity.cluster_id, 16);
        hf_buf_put(&buf, c->identity.incarnation, 16);
        for (unsigned i = 0; i < c->raft.configuration.n; i++)
            if (c->raft.configuration.servers[i].role != RAFT_SPARE && c->raft.configuration.servers[i].id != node_id)
                n++;
        hf_buf_put_u16(&buf, n);
        for (unsigned i = 0; i < c->raft.configuration.n; i++) {
            const struct raft_server *s = &c->raft.configuration.servers[i];

            if (s->role == RAFT_SPARE || s->id == node_id)
                continue;
            hf_buf_put_u64(&buf, s->id);
            hf_buf_put_slice(&buf, hf_slice_str(s->address));
        }
    }
    bytes = hf_buf_slice(&buf);
    if (j->link && hf_link_send(j->link, HF_MSG_JOINED, true, &bytes, 1) < 0)
        HF_LOG_DEBUG("consensus", "join answer not sent", "%s", ""); /* it asks again */
    hf_buf_free(&buf);
}

static void on_request_done(struct hf_member_request *req, int rc, const char *text)
{
    struct hf_join *j = req->data;
    struct hf_consensus *c = j->c;

    if (!c->is_closing)
        answer(c, j, rc == 0 ? JOINED_YES : rc == HF_E_TIMEOUT ? JOINED_AGAIN : JOINED_REFUSED, text, req->result_id);
    for (struct hf_join **at = &c->joins; *at; at = &(*at)->next)
        if (*at == j) {
            *at = j->next;
            break;
        }
    hf_free(j);
}

static void on_join(struct hf_consensus *c, struct hf_link *link, struct hf_slice payload)
{
    struct hf_reader r = hf_reader(payload);
    struct hf_join *j;
    unsigned n = 0;

    for (j = c->joins; j; j = j->next) {
        n++;
        if (j->link == link)
            return; /* it asks again while its request is under way */
    }
    if (n >= JOIN_REQUESTS_MAX || !c->is_raft_open || !c->identity.is_formed)
        return;
    j = hf_calloc(1, sizeof *j);
    j->c = c;
    j->link = link;
    j->request.data = j;
    j->request.cb = on_request_done;
    j->request.op = HF_MEMBER_JOIN;
    j->request.timeout_ms = JOIN_PATIENCE_MS / 2;
    j->request.store_id = hf_read_u64(&r);
    if (!hf_consensus_take_text(&r, j->request.node, sizeof j->request.node) ||
        !hf_consensus_take_text(&r, j->request.other, sizeof j->request.other) ||
        !hf_consensus_take_text(&r, j->request.address, sizeof j->request.address) || !hf_reader_done(&r)) {
        hf_free(j);
        return;
    }
    j->next = c->joins;
    c->joins = j;
    hf_consensus_operate(c, &j->request);
}

void hf_consensus_on_join_link(struct hf_consensus *c, struct hf_link *link, bool is_up)
{
    if (is_up && hf_link_is_dialed(link) && is_asking(c))
        ask(c, link);
    if (is_up)
        return;
    for (struct hf_join *j = c->joins; j; j = j->next)
        if (j->link == link)
            j->link = NULL;
}

void hf_consensus_on_join_message(struct hf_consensus *c, struct hf_link *link, uint8_t type, struct hf_slice payload)
{
    if (type == HF_MSG_JOIN && !hf_link_is_dialed(link))
        on_join(c, link, payload);
    else if (type == HF_MSG_JOINED && hf_link_is_dialed(link))
        on_joined(c, payload);
}

void hf_consensus_join_close(struct hf_consensus *c)
{
    c->env->timer_stop(c->env, &c->join_timer);
}

/* ---- member or not ------------------------------------------------------------------------------------ */

void hf_consensus_on_removed(struct hf_consensus *c, uint64_t index, const char *by)
{
    const struct raft_server *self = hf_consensus_server(c, c->config.node_id);
    uint64_t known = c->raft.configuration_uncommitted_index ? c->raft.configuration_uncommitted_index
                                                             : c->raft.configuration_committed_index;
    char text[256];

    if (c->is_removed_told || !c->is_raft_open || c->identity.node_id == 0)
        return;
    /* Whoever says so may know less than we do: we may have been added since. */
    if (self && self->role != RAFT_SPARE && index <= known)
        return;
    c->is_removed_told = true;
    c->identity.is_removed = true;
    if (hf_consensus_save_identity(c) < 0)
        return;
    snprintf(text, sizeof text, "node %" PRIu64 " was removed from its cluster (configuration at index %" PRIu64 ")",
             c->config.node_id, index);
    snprintf(c->problem, sizeof c->problem, "%.250s", text);
    hf_consensus_operate_removed(c);
    HF_LOG_WARN("consensus", "removed", "index=%" PRIu64 " by=\"%s\"", index, by);
    if (c->events.on_removed)
        c->events.on_removed(c->events.data, text);
}

void hf_consensus_check_self(struct hf_consensus *c)
{
    const struct raft_server *self = hf_consensus_server(c, c->config.node_id);
    bool is_changed = false;

    if (c->raft.configuration.n == 0 || c->raft.configuration_uncommitted_index != 0)
        return;
    if (!self || self->role == RAFT_SPARE) {
        if (c->identity.is_formed)
            hf_consensus_on_removed(c, c->raft.configuration_committed_index, "the log");
        return;
    }
    if (c->identity.is_joining) {
        c->identity.is_joining = false;
        c->identity.is_formed = true;
        is_changed = true;
    }
    if (c->identity.wants_vote && self->role == RAFT_VOTER) {
        c->identity.wants_vote = false;
        c->identity.replaces[0] = 0;
        is_changed = true;
    }
    if (is_changed && hf_consensus_save_identity(c) == 0)
        hf_crash_point("identity-saved");
}
