/* receive.c: streams and messages from the other members, who may be a member at all, and forming a new cluster.
 *
 * Forming (R19): every node of the static list starts with an empty directory and a random store id of its own. Each
 * tells the others its store id in the hello. A node that every listed member has let in (its dialed link is up) writes
 * the first entry: the configuration with all addresses and store ids, byte-identical on every node. From then on a
 * member is recognised by its store id: an empty directory under a known node id is a stranger, refused by every
 * formed member, and so it can never form a second time. The incarnation is a hash of that first entry: nodes that
 * formed with another list of store ids (one was wiped half-way) refuse each other. */
#include "consensus/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Why a node that was a member is refused: "removed INDEX: ..." tells it from which configuration on. */
#define REFUSAL_REMOVED "removed "

/* How the others reach this node: as it was told, else as the list or the configuration spell it. */
static void self_address(const struct hf_consensus *c, char out[256])
{
    struct hf_member m;

    snprintf(out, 256, "%s", *c->peer_address ? c->peer_address : c->listen_address);
    if (*c->peer_address)
        return;
    for (uint32_t i = 0; i < c->identity.n_members; i++)
        if (c->identity.members[i].id == c->config.node_id && c->config.node_id != 0)
            snprintf(out, 256, "%s", c->identity.members[i].address);
    for (unsigned i = 0; c->is_raft_open && i < c->raft.configuration.n; i++) {
        const struct raft_server *s = &c->raft.configuration.servers[i];

        if (s->id == c->config.node_id && hf_member_parse(s->id, s->address, &m) == 0)
            snprintf(out, 256, "%s", m.address);
    }
}

struct hf_hello hf_consensus_hello(const struct hf_consensus *c)
{
    struct hf_hello h = {.protocol_min = HF_PEER_PROTOCOL_MIN, .protocol_max = HF_PEER_PROTOCOL_MAX};

    memcpy(h.cluster_id, c->identity.cluster_id, sizeof h.cluster_id);
    memcpy(h.incarnation, c->identity.incarnation, sizeof h.incarnation);
    h.node_id = c->config.node_id;
    h.store_id = c->identity.store_id;
    h.is_formed = c->identity.is_formed || (c->identity.is_joining && c->identity.node_id != 0);
    snprintf(h.client_address, sizeof h.client_address, "%s", c->client_address);
    self_address(c, h.address);
    return h;
}

static struct hf_other *new_other(struct hf_consensus *c, uint64_t id);

static bool is_member_of_something(const struct hf_consensus *c)
{
    return c->identity.is_formed || (c->identity.is_joining && c->identity.node_id != 0);
}

/* A node that knows no member yet, or thinks that it does. */
static bool judge_join(struct hf_consensus *c, const struct hf_hello *theirs, bool is_dialed, char *why,
                       size_t why_size)
{
    static const uint8_t none[16];

    if (is_dialed) { /* we ask; they answer */
        if (!theirs->is_formed) {
            snprintf(why, why_size, "node %" PRIu64 " is no member of a cluster itself", theirs->node_id);
            return false;
        }
        return true;
    }
    if (!c->identity.is_formed || !c->is_raft_open) {
        snprintf(why, why_size, "node %" PRIu64 " is no member of a formed cluster: join by way of another one",
                 c->config.node_id);
        return false;
    }
    if (memcmp(theirs->cluster_id, none, sizeof none) != 0 &&
        memcmp(theirs->cluster_id, c->identity.cluster_id, sizeof theirs->cluster_id) != 0) {
        snprintf(why, why_size, "this is another cluster");
        return false;
    }
    return true;
}

/* A formed node of this cluster whose id is above all that our configuration knows: it was let in later, and knows more
 * than we do. It may be the only one that can tell us. */
static struct hf_other *meet_newer(struct hf_consensus *c, const struct hf_hello *theirs)
{
    struct hf_member m = {.id = theirs->node_id, .store_id = theirs->store_id};
    struct hf_other *o;
    char text[HF_MEMBER_TEXT_BYTES];
    uint32_t n = 0;

    memcpy(m.address, theirs->address, sizeof m.address);
    m.address[sizeof m.address - 1] = 0;
    hf_member_format(&m, text, sizeof text);
    if (!c->is_raft_open || !theirs->is_formed || m.id <= hf_consensus_id_max(c) || m.id == c->config.node_id ||
        hf_member_parse(m.id, text, &m) < 0)
        return NULL;
    for (uint32_t i = 0; i < c->n_others; i++)
        n += c->others[i].id > hf_consensus_id_max(c);
    if (n >= HF_MEMBERS_MAX / 2)
        return NULL;
    o = new_other(c, m.id);
    o->member = m;
    hf_peers_add(c->peers, o->id, m.address);
    o->is_added = true;
    return o;
}

static bool judge_hello(void *data, const struct hf_hello *theirs, bool is_dialed, char *why, size_t why_size)
{
    struct hf_consensus *c = data;
    struct hf_other *o;

    if (theirs->channel == HF_CHANNEL_JOIN)
        return judge_join(c, theirs, is_dialed, why, why_size);
    o = hf_consensus_other(c, theirs->node_id);
    if (memcmp(theirs->cluster_id, c->identity.cluster_id, sizeof theirs->cluster_id) != 0) {
        snprintf(why, why_size, "node %" PRIu64 " belongs to another cluster", theirs->node_id);
        return false;
    }
    if (is_member_of_something(c) && theirs->is_formed &&
        memcmp(theirs->incarnation, c->identity.incarnation, sizeof theirs->incarnation) != 0) {
        snprintf(why, why_size,
                 "node %" PRIu64 " belongs to another incarnation of this cluster: wipe the one that was not "
                 "recovered: holdfast repair --dir ITS-DIR --from-peers --join HOST:PORT",
                 theirs->node_id);
        return false;
    }
    if (!o)
        o = meet_newer(c, theirs);
    if (!o) {
        const struct raft_server *s = hf_consensus_server(c, theirs->node_id);

        /* A place that is kept for a node may have been taken already, and we have not heard of it yet. */
        if (c->is_raft_open && c->raft.configuration_uncommitted_index == 0 &&
            theirs->node_id <= hf_consensus_id_max(c) && (!s || hf_consensus_is_tombstone(s)))
            snprintf(why, why_size, REFUSAL_REMOVED "%" PRIu64 ": node %" PRIu64 " is not a member of this cluster",
                     (uint64_t)c->raft.configuration_committed_index, theirs->node_id);
        else
            snprintf(why, why_size, "node %" PRIu64 " is not a member of this cluster", theirs->node_id);
        return false;
    }
    if (is_member_of_something(c) && o->member.store_id != theirs->store_id) {
        snprintf(why, why_size,
                 "node %" PRIu64 " comes with %s data directory, not with the one it was a member with: it must be "
                 "replaced or repaired, not restarted empty",
                 theirs->node_id, theirs->is_formed ? "another" : "a new");
        return false;
    }
    if (!c->identity.is_formed && o->has_hello && o->member.store_id != theirs->store_id) {
        /* It was wiped while the cluster forms: that is allowed until the first entry is written. */
        HF_LOG_WARN("consensus", "a node changed its data directory while the cluster forms", "member=%" PRIu64,
                    theirs->node_id);
    }
    if (!is_member_of_something(c))
        o->member.store_id = theirs->store_id;
    o->has_hello = true;
    o->hello_is_formed = theirs->is_formed;
    memcpy(o->hello_incarnation, theirs->incarnation, sizeof o->hello_incarnation);
    memcpy(o->client_address, theirs->client_address, sizeof o->client_address);
    o->client_address[sizeof o->client_address - 1] = 0;
    memcpy(o->hello_address, theirs->address, sizeof o->hello_address);
    o->hello_address[sizeof o->hello_address - 1] = 0;
    return true;
}

/* It is dialed again each second, and says the same. */
static bool is_news(struct hf_other *o, uint64_t now, const char *why)
{
    if (!o)
        return true;
    if (o->refused_ms != 0 && now - o->refused_ms < HF_REFUSAL_NEWS_MS &&
        strncmp(o->refused, why, sizeof o->refused - 1) == 0)
        return false;
    o->refused_ms = now;
    snprintf(o->refused, sizeof o->refused, "%s", why);
    return true;
}

static void on_refused(void *data, uint64_t node_id, const char *why)
{
    struct hf_consensus *c = data;
    char *end;

    if (is_news(hf_consensus_other(c, node_id), hf_consensus_now(c), why))
        HF_LOG_WARN("consensus", "a member refuses this node", "member=%" PRIu64 " reason=\"%s\"", node_id, why);
    if (c->is_closing || c->has_failed)
        return;
    if (is_member_of_something(c) && strncmp(why, REFUSAL_REMOVED, sizeof REFUSAL_REMOVED - 1) == 0) {
        uint64_t index = strtoull(why + sizeof REFUSAL_REMOVED - 1, &end, 10);

        if (*end == ':')
            hf_consensus_on_removed(c, index, why);
        return;
    }
    if (!is_member_of_something(c)) {
        c->is_shut_out = true;
        snprintf(c->problem, sizeof c->problem,
                 "member %" PRIu64 " refuses this node: %.90s; an empty directory cannot rejoin a formed cluster: "
                 "holdfast repair --dir DIR --from-peers --name NAME --join HOST:PORT",
                 node_id, why);
    }
}

static void send_level(struct hf_consensus *c, uint64_t to)
{
    struct hf_buf buf = {0};

    hf_buf_put_u32(&buf, HF_LEVEL_MAX);
    if (hf_peers_link(c->peers, to, HF_CHANNEL_RAFT))
        hf_consensus_send_simple(c, to, HF_MSG_LEVEL, hf_buf_slice(&buf));
    hf_buf_free(&buf);
}

static void on_link_up(void *data, struct hf_link *link)
{
    struct hf_consensus *c = data;

    HF_LOG_INFO("consensus", "link up", "member=%" PRIu64 " channel=%d dialed=%d", hf_link_node_id(link),
                (int)hf_link_channel(link), hf_link_is_dialed(link));
    switch (hf_link_channel(link)) {
    case HF_CHANNEL_PROXY:
    case HF_CHANNEL_STATE:
        if (c->events.on_link_up)
            c->events.on_link_up(c->events.data, link);
        return;
    case HF_CHANNEL_JOIN:
        hf_consensus_on_join_link(c, link, true);
        return;
    case HF_CHANNEL_RAFT:
        if (!c->is_finishing_install)
            hf_consensus_try_form(c);
        send_level(c, hf_link_node_id(link));
        return;
    case HF_CHANNELS:
        break;
    }
    HF_UNREACHABLE();
}

static void on_link_down(void *data, struct hf_link *link)
{
    struct hf_consensus *c = data;

    HF_LOG_INFO("consensus", "link down", "member=%" PRIu64 " channel=%d dialed=%d", hf_link_node_id(link),
                (int)hf_link_channel(link), hf_link_is_dialed(link));
    if (hf_link_channel(link) == HF_CHANNEL_RAFT && !hf_link_is_dialed(link)) {
        struct hf_other *o = hf_consensus_other(c, hf_link_node_id(link));

        if (o)
            o->level = 0; /* it may come back as another release, and says so then */
    }
    if (hf_link_channel(link) == HF_CHANNEL_JOIN)
        hf_consensus_on_join_link(c, link, false);
    else if (hf_link_channel(link) != HF_CHANNEL_RAFT && c->events.on_link_down)
        c->events.on_link_down(c->events.data, link);
}

static void on_progress(void *data, struct hf_link *link)
{
    struct hf_consensus *c = data;

    if (hf_link_channel(link) == HF_CHANNEL_RAFT && hf_link_node_id(link) == hf_consensus_leader(c))
        c->progress_ms = hf_consensus_now(c);
}

static void on_message(void *data, struct hf_link *link, uint8_t type, struct hf_slice payload)
{
    struct hf_consensus *c = data;
    struct hf_deferred *d;

    if (c->is_closing || c->has_failed)
        return;
    if (hf_link_channel(link) == HF_CHANNEL_JOIN) {
        hf_consensus_on_join_message(c, link, type, payload);
        return;
    }
    if (hf_link_channel(link) != HF_CHANNEL_RAFT) {
        if (c->events.on_message)
            c->events.on_message(c->events.data, link, type, payload);
        return;
    }
    if (!c->is_raft_open)
        return;
    HF_ASSERT(!c->is_stepping);
    if (c->is_held) { /* R13 */
        if (c->n_deferred >= HF_DEFERRED_MESSAGES_MAX ||
            (c->n_deferred > 0 && c->deferred_bytes + payload.len > HF_DEFERRED_BYTES_MAX)) {
            hf_counter_add(c->appends_dropped, 1);
            return;
        }
        d = hf_malloc(sizeof *d + payload.len);
        d->next = NULL;
        d->from = hf_link_node_id(link);
        d->type = type;
        d->len = payload.len;
        if (payload.len > 0)
            memcpy(d->bytes, payload.ptr, payload.len);
        if (c->deferred_tail)
            c->deferred_tail->next = d;
        else
            c->deferred_head = d;
        c->deferred_tail = d;
        c->n_deferred++;
        c->deferred_bytes += payload.len;
        return;
    }
    hf_consensus_dispatch(c, hf_link_node_id(link), type, payload);
}

/* ---- raft messages ------------------------------------------------------------------------------------ */

/* R10: after a start we may have promised what we no longer know. */
static bool is_quiet(const struct hf_consensus *c)
{
    return hf_consensus_voters(c) > 1 && hf_consensus_now(c) < c->quiet_until_ms;
}

static void prepare_entries(struct hf_consensus *c, struct raft_message *m, struct hf_log_entry **entries)
{
    uint32_t n = m->append_entries.n_entries;
    void *batch;

    c->step_entries = entries;
    c->n_step_entries = n;
    c->step_array = hf_calloc(n, sizeof *c->step_array);
    /* The core only looks into configuration entries (aligned, so a copy); a message holds at most one, first. */
    if (entries[0]->type == HF_ENTRY_CONFIGURATION) {
        batch = raft_malloc(entries[0]->len);
        HF_ASSERT(batch != NULL);
        memcpy(batch, entries[0]->data, entries[0]->len);
    } else {
        batch = raft_malloc(8);
        HF_ASSERT(batch != NULL);
    }
    for (uint32_t i = 0; i < n; i++) {
        c->step_array[i].term = entries[i]->term;
        c->step_array[i].type = (enum raft_entry_type)entries[i]->type;
        c->step_array[i].batch = batch;
        c->step_array[i].buf.base = batch;
        c->step_array[i].buf.len = entries[i]->type == HF_ENTRY_CONFIGURATION ? entries[i]->len : 8;
    }
    m->append_entries.entries = c->step_array;
}

static void free_entries(struct hf_log_entry **entries, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        hf_log_entry_unref(entries[i]);
    hf_free(entries);
}

static bool has_late_configuration(struct hf_log_entry *const *entries, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++)
        if (entries[i]->type == HF_ENTRY_CONFIGURATION)
            return true;
    return false;
}

/* What the decoder allocated for a message that the core does not get. */
static void drop_message(struct raft_message *m, struct hf_log_entry **entries)
{
    if (entries)
        free_entries(entries, m->append_entries.n_entries);
    if (m->type == RAFT_INSTALL_SNAPSHOT) {
        raft_configuration_close(&m->install_snapshot.conf);
        raft_free(m->install_snapshot.data.base);
    }
}

/* What no member that works sends, and the core does not look at: the word of a second leader of our own term, and the
 * beginning of a log whose beginning we have cut (it would be appended at the end). */
static bool is_impossible(const struct hf_consensus *c, const struct raft_message *m)
{
    if (m->type == RAFT_APPEND_ENTRIES)
        return (c->raft.state == RAFT_LEADER && m->append_entries.term == raft_current_term(&c->raft)) ||
               (m->append_entries.n_entries > 0 && m->append_entries.prev_log_index == 0 && c->raft.trail.offset > 0);
    return m->type == RAFT_INSTALL_SNAPSHOT && c->raft.state == RAFT_LEADER &&
           m->install_snapshot.term == raft_current_term(&c->raft);
}

/* The core keeps one uncommitted configuration. When the next one is appended before we have told it that the first is
 * committed (delivery lags), it would go back to the one before both if the second were taken back. But nobody appends
 * a second before the first is committed: so the first is what to go back to. `kept` is a copy of it. */
struct kept_configuration {
    uint64_t index; /* 0 = there was none */
    struct raft_configuration conf;
};

static void keep_configuration(const struct hf_consensus *c, const struct hf_log_entry *first,
                               struct kept_configuration *kept)
{
    const struct raft_configuration *from = &c->raft.configuration;

    kept->index = 0;
    if (first->type != HF_ENTRY_CONFIGURATION || c->raft.configuration_uncommitted_index == 0 ||
        c->raft.configuration_uncommitted_index >= first->index)
        return;
    kept->index = c->raft.configuration_uncommitted_index;
    raft_configuration_init(&kept->conf);
    for (unsigned i = 0; i < from->n; i++) {
        int rv =
            raft_configuration_add(&kept->conf, from->servers[i].id, from->servers[i].address, from->servers[i].role);
        HF_ASSERT(rv == 0); /* it is a copy of what was accepted */
    }
}

static void settle_configuration(struct hf_consensus *c, struct kept_configuration *kept)
{
    if (kept->index == 0)
        return;
    if (c->raft.configuration_uncommitted_index <= kept->index) { /* the second was not taken */
        raft_configuration_close(&kept->conf);
        return;
    }
    raft_configuration_close(&c->raft.configuration_committed);
    c->raft.configuration_committed = kept->conf;
    c->raft.configuration_committed_index = kept->index;
}

/* A server votes whoever it is (Raft dissertation 4.1): a candidate may count it as a voter by a change that it has not
 * heard of, and then nobody else can tell it. The core lets voters vote only; a candidate that does not count this node
 * takes no notice. Returns what to put back after the step, NULL when there is nothing. */
static struct raft_server *let_learner_vote(struct hf_consensus *c, const struct raft_message *m)
{
    for (unsigned i = 0; m->type == RAFT_REQUEST_VOTE && i < c->raft.configuration.n; i++) {
        struct raft_server *s = &c->raft.configuration.servers[i];

        if (s->id != c->config.node_id || s->role != RAFT_STANDBY)
            continue;
        s->role = RAFT_VOTER;
        /* A voter forgets its leader when it campaigns; a learner never does. */
        if (c->raft.state == RAFT_FOLLOWER && hf_consensus_now(c) - c->append_heard_ms >= c->config.election_timeout_ms)
            c->raft.follower_state.current_leader.id = 0;
        return s;
    }
    return NULL;
}

static bool has_all_of(const struct hf_consensus *c, const struct raft_install_snapshot *m)
{
    return m->term == raft_current_term(&c->raft) && c->raft.state == RAFT_FOLLOWER && !c->install.is_active &&
           m->last_index <= c->commit_index;
}

/* A leader of our term thinks that we need a copy of the state, and we do not: the answer to an install was lost with
 * us. The core would name the index that it was asked about, which may lie before all that it knows of the log. What is
 * committed and stored is in the leader's log as it is in ours. */
static void tell_how_far(struct hf_consensus *c, uint64_t to)
{
    struct raft_message m = {.type = RAFT_APPEND_ENTRIES_RESULT};
    struct hf_buf buf = {0};

    m.append_entries_result.version = HF_APPEND_RESULT_VERSION;
    m.append_entries_result.features = HF_APPEND_RESULT_FEATURES;
    m.append_entries_result.term = raft_current_term(&c->raft);
    m.append_entries_result.last_log_index = c->commit_index < c->durable_index ? c->commit_index : c->durable_index;
    m.append_entries_result.capacity = UINT16_MAX;
    hf_codec_put_message(&buf, &m);
    hf_consensus_send_simple(c, to, HF_MSG_APPEND_ENTRIES_RESULT, hf_buf_slice(&buf));
    hf_buf_free(&buf);
}

static void receive_raft(struct hf_consensus *c, uint64_t from, uint8_t type, struct hf_slice payload)
{
    struct raft_event event = {.type = RAFT_RECEIVE};
    struct raft_message m;
    struct hf_log_entry **entries = NULL;
    struct kept_configuration kept = {0};
    struct raft_server *learner;
    const struct raft_server *server = hf_consensus_server(c, from);
    char address[HF_MEMBER_TEXT_BYTES];
    int rc;

    memset(&m, 0, sizeof m);
    rc = hf_codec_decode(type, payload, &m, &entries);
    if (rc < 0) {
        HF_LOG_WARN("consensus", "malformed message dropped", "member=%" PRIu64 " type=%d", from, (int)type);
        return;
    }
    if (!hf_consensus_knows(c, from) || is_impossible(c, &m)) {
        drop_message(&m, entries);
        return;
    }
    snprintf(address, sizeof address, "%s", server ? server->address : "member");
    m.server_id = from;
    m.server_address = address;
    switch (m.type) {
    case RAFT_REQUEST_VOTE:
        if (m.request_vote.candidate_id != from || (is_quiet(c) && !m.request_vote.disrupt_leader))
            return;
        break;
    case RAFT_APPEND_ENTRIES:
        if (entries && has_late_configuration(entries, m.append_entries.n_entries)) {
            HF_LOG_WARN("consensus", "message with a late configuration entry dropped", "member=%" PRIu64, from);
            free_entries(entries, m.append_entries.n_entries);
            return;
        }
        /* The core hears the leader, but takes nothing for now: it will be sent again. */
        if (entries &&
            (hf_consensus_is_journal_full(c) || hf_journal_waiting_bytes(c->journal) > HF_UNWRITTEN_BYTES_MAX)) {
            free_entries(entries, m.append_entries.n_entries);
            m.append_entries.n_entries = 0;
            entries = NULL;
            hf_counter_add(c->appends_dropped, 1);
        }
        if (entries) {
            keep_configuration(c, entries[0], &kept);
            prepare_entries(c, &m, entries);
        }
        c->is_append_stale = m.append_entries.term < raft_current_term(&c->raft);
        /* R30: a leader is known only through its own messages of the present term. */
        if (m.append_entries.term >= raft_current_term(&c->raft)) {
            c->leader_id = from;
            c->leader_term = m.append_entries.term;
            c->append_heard_ms = hf_consensus_now(c);
        }
        break;
    case RAFT_TIMEOUT_NOW:
        c->timeout_now_term = m.timeout_now.term;
        break;
    case RAFT_APPEND_ENTRIES_RESULT:
        /* What the core would take for a mismatch of its own book-keeping is not let in. */
        if (hf_consensus_is_leader(c) && m.append_entries_result.term == raft_current_term(&c->raft) &&
            m.append_entries_result.rejected == 0 &&
            m.append_entries_result.last_log_index >= hf_journal_next_index(c->journal))
            m.append_entries_result.last_log_index = hf_journal_next_index(c->journal) - 1;
        break;
    case RAFT_REQUEST_VOTE_RESULT:
        /* An answer to a pre-vote names a term that nobody is in yet. The core takes a late one at its word (it looks
         * into the part of its state that only a candidate has), and leaves its leader or its reign. */
        if (c->raft.state != RAFT_CANDIDATE)
            return;
        break;
    case RAFT_INSTALL_SNAPSHOT:
        if (has_all_of(c, &m.install_snapshot)) {
            tell_how_far(c, from);
            drop_message(&m, NULL);
            return;
        }
        if (!hf_consensus_admit_install(c, &m.install_snapshot)) {
            drop_message(&m, NULL);
            return;
        }
        if (m.install_snapshot.term >= raft_current_term(&c->raft)) {
            c->leader_id = from;
            c->leader_term = m.install_snapshot.term;
        }
        break;
    }
    event.receive.message = &m;
    learner = let_learner_vote(c, &m);
    hf_consensus_step(c, &event);
    if (learner)
        learner->role = RAFT_STANDBY; /* a vote does not change the configuration */
    settle_configuration(c, &kept);
    c->is_append_stale = false;
    if (m.type == RAFT_INSTALL_SNAPSHOT)
        hf_consensus_drop_unused_copy(c);
}

void hf_consensus_dispatch(struct hf_consensus *c, uint64_t from, uint8_t type, struct hf_slice payload)
{
    switch (type) {
    case HF_MSG_APPEND_ENTRIES:
    case HF_MSG_APPEND_ENTRIES_RESULT:
    case HF_MSG_REQUEST_VOTE:
    case HF_MSG_REQUEST_VOTE_RESULT:
    case HF_MSG_TIMEOUT_NOW:
    case HF_MSG_INSTALL_SNAPSHOT:
        receive_raft(c, from, type, payload);
        return;
    case HF_MSG_PING:
        hf_consensus_on_ping(c, from, payload);
        return;
    case HF_MSG_PONG:
        hf_consensus_on_pong(c, from, payload);
        return;
    case HF_MSG_LEVEL: {
        struct hf_reader r = hf_reader(payload);
        uint32_t level = hf_read_u32(&r);
        struct hf_other *o = hf_consensus_other(c, from);

        if (!r.failed && o)
            o->level = level;
        return;
    }
    case HF_MSG_OPERATE:
        hf_consensus_on_operate(c, from, payload);
        return;
    case HF_MSG_OPERATED:
        hf_consensus_on_operated(c, from, payload);
        return;
    case HF_MSG_REMOVED: {
        struct hf_reader r = hf_reader(payload);
        uint64_t index = hf_read_u64(&r);

        if (hf_reader_done(&r) && hf_consensus_knows(c, from))
            hf_consensus_on_removed(c, index, "the leader says so");
        return;
    }
    case HF_MSG_STATUS: {
        struct hf_reader r = hf_reader(payload);
        int64_t wall = (int64_t)hf_read_u64(&r);
        uint64_t needs = hf_read_u64(&r), term = hf_read_u64(&r);
        uint8_t flags = hf_read_u8(&r);
        struct hf_other *o = hf_consensus_other(c, from);

        if (!hf_reader_done(&r) || !o)
            return;
        o->wall_offset_ms = wall - c->env->wall_ms(c->env);
        o->wall_heard_ms = hf_consensus_now(c);
        o->is_space_low = flags & 1;
        if (needs != 0) {
            o->needs_from = needs;
            o->needs_term = term;
        }
        return;
    }
    default:
        /* A newer member may know more kinds of messages; they are optional by rule. */
        HF_LOG_DEBUG("consensus", "unknown message ignored", "member=%" PRIu64 " type=%d", from, (int)type);
        return;
    }
}

void hf_consensus_send_status(struct hf_consensus *c)
{
    struct hf_buf buf = {0};

    if (!c->is_raft_open || c->is_held)
        return;
    hf_buf_put_u64(&buf, (uint64_t)c->env->wall_ms(c->env));
    hf_buf_put_u64(&buf, hf_consensus_is_leader(c) ? hf_consensus_needed_from(c) : 0);
    hf_buf_put_u64(&buf, raft_current_term(&c->raft));
    hf_buf_put_u8(&buf, c->is_space_low ? 1 : 0);
    for (uint32_t i = 0; i < c->n_others; i++)
        if (hf_peers_link(c->peers, c->others[i].id, HF_CHANNEL_RAFT))
            hf_consensus_send_simple(c, c->others[i].id, HF_MSG_STATUS, hf_buf_slice(&buf));
    hf_buf_free(&buf);
    for (uint32_t i = 0; i < c->n_others; i++)
        send_level(c, c->others[i].id);
}

void hf_consensus_set_space_low(struct hf_consensus *c, bool is_low)
{
    if (c->is_space_low == is_low)
        return;
    c->is_space_low = is_low;
    hf_consensus_send_status(c); /* at once: a disk fills faster than the next interval comes */
}

/* R15: what a voter said lately; one that is not heard of is down, and its disk does not fill. */
uint64_t hf_consensus_space_low_on(const struct hf_consensus *c)
{
    uint64_t now = hf_consensus_now(c);

    if (c->is_space_low)
        return c->config.node_id;
    for (uint32_t i = 0; i < c->n_others; i++) {
        const struct hf_other *o = &c->others[i];

        if (o->is_space_low && now - o->wall_heard_ms <= 10ull * HF_STATUS_INTERVAL_MS)
            return o->id;
    }
    return 0;
}

/* R4: median over ourselves (0) and the voters heard of in the last seconds. */
int64_t hf_consensus_clock_offset_ms(const struct hf_consensus *c)
{
    int64_t offsets[sizeof c->others / sizeof c->others[0] + 1];
    uint32_t n = 0;
    uint64_t now = hf_consensus_now(c);

    for (uint32_t i = 0; i <= c->n_others; i++) {
        int64_t v = 0;

        if (i < c->n_others) {
            const struct hf_other *o = &c->others[i];

            if (o->wall_heard_ms == 0 || now - o->wall_heard_ms > 10ull * HF_STATUS_INTERVAL_MS)
                continue;
            v = o->wall_offset_ms;
        }
        uint32_t at = n++;
        while (at > 0 && offsets[at - 1] > v) {
            offsets[at] = offsets[at - 1];
            at--;
        }
        offsets[at] = v;
    }
    return offsets[(n - 1) / 2];
}

/* ---- forming ------------------------------------------------------------------------------------------ */

/* Not a member any more: tell it (it may not hear of the commit otherwise), close its links, free its place once a
 * read for it that is under way is back. */
static void forget_other(struct hf_consensus *c, struct hf_other *o)
{
    struct hf_buf buf = {0};
    bool is_reading = o->is_reading;
    struct hf_journal_read read = o->read;

    HF_LOG_INFO("consensus", "no member any more", "member=%" PRIu64, o->id);
    hf_consensus_operate_leaving(c, o->id);
    if (hf_consensus_is_leader(c)) {
        hf_buf_put_u64(&buf, c->raft.configuration_committed_index);
        hf_consensus_send_simple(c, o->id, HF_MSG_REMOVED, hf_buf_slice(&buf));
        hf_buf_free(&buf);
    }
    hf_consensus_drop_sends(c, o);
    if (o->needs_copy && c->events.on_caught_up && !c->is_closing)
        c->events.on_caught_up(c->events.data, o->id);
    if (c->peers)
        hf_peers_remove(c->peers, o->id);
    memset(o, 0, sizeof *o);
    o->owner = c;
    o->read = read;
    o->is_reading = o->is_leaving = is_reading;
}

static struct hf_other *new_other(struct hf_consensus *c, uint64_t id)
{
    struct hf_other *o = NULL;

    for (uint32_t i = 0; i < c->n_others && !o; i++)
        if (c->others[i].id == 0 && !c->others[i].is_leaving)
            o = &c->others[i];
    if (!o) {
        HF_ASSERT(c->n_others < sizeof c->others / sizeof c->others[0]);
        o = &c->others[c->n_others++];
    }
    memset(o, 0, sizeof *o);
    o->id = id;
    o->owner = c;
    return o;
}

static uint32_t add_members(const struct raft_configuration *from, struct hf_member members[HF_MEMBERS_MAX], uint32_t n)
{
    for (unsigned i = 0; i < from->n && n < HF_MEMBERS_MAX; i++) {
        const struct raft_server *s = &from->servers[i];
        bool is_there = false;

        if (s->role == RAFT_SPARE)
            continue; /* a place that nobody took, or the last id given out */
        for (uint32_t k = 0; k < n; k++)
            is_there |= members[k].id == s->id;
        if (is_there)
            continue;
        if (hf_member_parse(s->id, s->address, &members[n]) < 0) {
            HF_LOG_ERROR("consensus", "a member's address does not parse", "member=%" PRIu64 " address=%s",
                         (uint64_t)s->id, s->address);
            continue;
        }
        n++;
    }
    return n;
}

/* The members to keep links with: the initial list while forming, what it was told for a node that joins, else those
 * of the newest configuration, and while that is not committed those of the one before: it may be taken back, and one
 * that it leaves out may lead. */
static uint32_t wanted_members(struct hf_consensus *c, struct hf_member members[HF_MEMBERS_MAX])
{
    uint32_t n;

    if (c->config.node_id == 0)
        return 0; /* no member yet: only asks to join */
    if (!c->is_raft_open || c->raft.configuration.n == 0) {
        memcpy(members, c->identity.members, c->identity.n_members * sizeof members[0]);
        return c->identity.n_members;
    }
    n = add_members(&c->raft.configuration, members, 0);
    if (c->raft.configuration_uncommitted_index != 0)
        n = add_members(&c->raft.configuration_committed, members, n);
    return n;
}

/* Bring `others` and the dialed links in line with the members. One that an uncommitted change leaves out stays until
 * the change is committed; one with an id above all of ours is a member that our log does not know yet. */
void hf_consensus_members_changed(struct hf_consensus *c)
{
    struct hf_member members[HF_MEMBERS_MAX];
    uint32_t n = wanted_members(c, members);

    for (uint32_t i = 0; i < n; i++) {
        struct hf_other *o;

        if (members[i].id == c->config.node_id)
            continue;
        o = hf_consensus_other(c, members[i].id);
        if (!o)
            o = new_other(c, members[i].id);
        if (members[i].store_id == 0)
            members[i].store_id = o->member.store_id;
        if (c->peers && (!o->is_added || strcmp(o->member.address, members[i].address) != 0)) {
            hf_peers_add(c->peers, o->id, members[i].address);
            o->is_added = true;
        }
        o->member = members[i];
    }
    if (!c->is_raft_open || c->raft.configuration.n == 0 || c->raft.configuration_uncommitted_index != 0)
        return;
    for (uint32_t k = 0; k < c->n_others; k++) {
        bool is_wanted = c->others[k].id == 0 || c->others[k].id > hf_consensus_id_max(c);

        for (uint32_t i = 0; i < n; i++)
            is_wanted |= members[i].id == c->others[k].id;
        if (!is_wanted)
            forget_other(c, &c->others[k]);
    }
}

/* The first entry, from the store ids heard. */
static struct hf_log_entry *first_entry(struct hf_consensus *c)
{
    struct raft_configuration conf;
    struct raft_buffer buf;
    struct hf_log_entry *e;
    int rv;

    raft_configuration_init(&conf);
    for (uint32_t i = 0; i < c->identity.n_members; i++) {
        struct hf_member m = c->identity.members[i];
        const struct hf_other *o = hf_consensus_other(c, m.id);
        char text[HF_MEMBER_TEXT_BYTES];

        m.store_id = o ? o->member.store_id : c->identity.store_id;
        hf_member_format(&m, text, sizeof text);
        rv = raft_configuration_add(&conf, m.id, text, RAFT_VOTER);
        HF_ASSERT(rv == 0); /* ids and addresses were checked to be unique */
    }
    rv = raft_configuration_encode(&conf, &buf);
    HF_ASSERT(rv == 0 && buf.len <= UINT32_MAX);
    raft_configuration_close(&conf);
    e = hf_log_entry_new(HF_ENTRY_CONFIGURATION, 1, 1, (uint32_t)buf.len);
    memcpy(e->data, buf.base, buf.len);
    raft_free(buf.base);
    return e;
}

static void hash_entry(const struct hf_log_entry *e, uint8_t out[16])
{
    struct hf_buf text = {0};

    for (uint32_t i = 0; i < e->len; i++)
        hf_buf_printf(&text, "%02x", e->data[i]);
    hf_buf_put_u8(&text, 0);
    hf_cluster_id((const char *)text.data, NULL, 0, out);
    hf_buf_free(&text);
}

static bool members_are_ready(struct hf_consensus *c, const uint8_t incarnation[16])
{
    for (uint32_t i = 0; i < c->n_others; i++) {
        const struct hf_other *o = &c->others[i];

        if (o->has_hello && o->hello_is_formed && memcmp(o->hello_incarnation, incarnation, 16) != 0) {
            snprintf(c->problem, sizeof c->problem,
                     "member %" PRIu64 " has formed the cluster with other data directories: if the cluster never "
                     "served, wipe all directories and start again; else replace this node",
                     o->id);
            return false;
        }
    }
    return true;
}

/* Write the first entry once every listed member let us in; then start raft. Called again at each step. */
void hf_consensus_try_form(struct hf_consensus *c)
{
    struct hf_log_entry *e;
    uint8_t incarnation[16];
    char why[256];
    int rc;

    if (c->identity.is_formed || c->identity.is_joining || c->is_raft_open || c->is_closing || c->has_failed ||
        !c->is_started || c->is_held)
        return;
    if (hf_journal_next_index(c->journal) == 1) {
        for (uint32_t i = 0; i < c->n_others; i++) {
            if (!hf_peers_link(c->peers, c->others[i].id, HF_CHANNEL_RAFT)) {
                if (c->is_shut_out) /* that is the better text */
                    return;
                snprintf(c->problem, sizeof c->problem,
                         "waiting for member %" PRIu64 " at %.100s: to form the cluster, all listed members must be "
                         "reachable once",
                         c->others[i].id, c->others[i].member.address);
                return;
            }
        }
        if (c->recovered.term == 0) {
            c->recovered.term = 1;
            c->recovered.vote = 0;
            c->is_held = true;
            hf_journal_set_vote(c->journal, 1, 0); /* comes back here when durable */
            return;
        }
        e = first_entry(c);
        hash_entry(e, incarnation);
        if (!members_are_ready(c, incarnation)) {
            hf_log_entry_unref(e);
            return;
        }
        memcpy(c->identity.incarnation, incarnation, sizeof incarnation);
        rc = hf_identity_save(c->env->fs, c->dir, &c->identity);
        if (rc < 0) {
            hf_log_entry_unref(e);
            hf_consensus_fail(c, rc, "cannot write %s/identity: %s", c->dir, hf_strerror(rc));
            return;
        }
        hf_journal_append(c->journal, &e, 1);
        hf_log_entry_unref(e);
        return;
    }
    if (c->durable_index < 1)
        return;
    c->identity.is_formed = true;
    rc = hf_identity_save(c->env->fs, c->dir, &c->identity);
    if (rc < 0) {
        hf_consensus_fail(c, rc, "cannot write %s/identity: %s", c->dir, hf_strerror(rc));
        return;
    }
    c->problem[0] = 0;
    struct hf_hello hello = hf_consensus_hello(c);
    hf_peers_update_self(c->peers, &hello);
    HF_LOG_INFO("consensus", "cluster formed", "members=%" PRIu32 " store=%016" PRIx64, c->identity.n_members,
                c->identity.store_id);
    rc = hf_consensus_begin_raft(c, why, sizeof why);
    if (rc < 0)
        hf_consensus_fail(c, rc, "%s", why);
}

/* ---- start -------------------------------------------------------------------------------------------- */

int hf_consensus_listen(struct hf_consensus *c, char *why, size_t why_size)
{
    struct hf_peers_config config = {.listen_address = c->listen_address,
                                     .message_bytes_max = c->config.message_bytes_max};
    int rc;

    config.self = hf_consensus_hello(c);
    c->peers_events.data = c;
    c->peers_events.on_hello = judge_hello;
    c->peers_events.on_refused = on_refused;
    c->peers_events.on_link_up = on_link_up;
    c->peers_events.on_link_down = on_link_down;
    c->peers_events.on_message = on_message;
    c->peers_events.on_progress = on_progress;
    rc = hf_peers_open(c->env, &config, &c->peers_events, c->stats, &c->peers);
    if (rc < 0) {
        snprintf(why, why_size, "cannot listen for the other members on %s: %s", c->listen_address, hf_strerror(rc));
        return rc;
    }
    hf_consensus_members_changed(c);
    return 0;
}

struct hf_link *hf_consensus_state_link(struct hf_consensus *c, uint64_t node_id)
{
    if (!c->peers || !hf_consensus_other(c, node_id))
        return NULL;
    hf_peers_want_state(c->peers, node_id, true);
    return hf_peers_link(c->peers, node_id, HF_CHANNEL_STATE);
}

struct hf_link *hf_consensus_proxy_link(struct hf_consensus *c, uint64_t node_id)
{
    return c->peers ? hf_peers_link(c->peers, node_id, HF_CHANNEL_PROXY) : NULL;
}
