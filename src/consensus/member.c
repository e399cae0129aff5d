/* member.c: handing leadership over, and what an operator may see. */
#include "consensus/internal.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- transfer ----------------------------------------------------------------------------------------- */

static void finish_transfer(struct hf_consensus *c, int rc)
{
    void (*cb)(void *, int) = c->transfer_cb;

    c->is_transferring = false;
    c->transfer_cb = NULL;
    if (cb)
        cb(c->transfer_data, rc);
}

static uint64_t best_target(struct hf_consensus *c)
{
    uint64_t best = 0, best_match = 0;

    for (unsigned i = 0; i < c->raft.configuration.n; i++) {
        const struct raft_server *s = &c->raft.configuration.servers[i];
        raft_index match = 0;

        if (s->role != RAFT_VOTER || s->id == c->config.node_id || !hf_peers_link(c->peers, s->id, HF_CHANNEL_RAFT) ||
            raft_match_index(&c->raft, s->id, &match) != 0)
            continue;
        if (best == 0 || match > best_match) {
            best = s->id;
            best_match = match;
        }
    }
    return best;
}

/* Quiesce first: nothing new is submitted, everything is stored and acknowledged by the target, then TimeoutNow; a
 * transfer under load would only cost an election timeout. */
void hf_consensus_transfer_progress(struct hf_consensus *c)
{
    struct raft_event event = {.type = RAFT_TRANSFER};
    raft_index match = 0;

    if (!c->is_transferring || c->is_closing)
        return;
    if (!hf_consensus_is_leader(c)) {
        finish_transfer(c, 0);
        return;
    }
    if (hf_consensus_now(c) > c->transfer_deadline_ms) {
        finish_transfer(c, HF_E_TIMEOUT);
        return;
    }
    if (!hf_consensus_can_step(c))
        return;
    if (c->has_sent_transfer && raft_transferee(&c->raft) != 0)
        return;
    if (raft_match_index(&c->raft, c->transfer_target, &match) != 0 || match != hf_journal_next_index(c->journal) - 1 ||
        c->commit_index != match)
        return;
    c->has_sent_transfer = true;
    event.transfer.server_id = c->transfer_target;
    HF_LOG_INFO("consensus", "handing leadership over", "to=%" PRIu64, c->transfer_target);
    if (hf_consensus_step(c, &event) != 0)
        finish_transfer(c, HF_E_AGAIN);
}

void hf_consensus_transfer(struct hf_consensus *c, uint64_t target, uint64_t timeout_ms, void (*cb)(void *data, int rc),
                           void *data)
{
    if (c->is_transferring) /* the later one counts: a node that stops has to hand over */
        finish_transfer(c, HF_E_AGAIN);
    c->transfer_cb = cb;
    c->transfer_data = data;
    if (!hf_consensus_is_leader(c)) {
        finish_transfer(c, 0);
        return;
    }
    c->transfer_target = target ? target : best_target(c);
    if (c->transfer_target == 0 || !hf_consensus_server(c, c->transfer_target)) {
        finish_transfer(c, HF_E_NOENT);
        return;
    }
    c->is_transferring = true;
    c->has_sent_transfer = false;
    c->transfer_deadline_ms = hf_consensus_now(c) + timeout_ms;
    c->env->timer_start(c->env, &c->status_timer, 20); /* looks at the deadline too */
    hf_consensus_transfer_progress(c);
}

/* ---- status ------------------------------------------------------------------------------------------- */

enum hf_role hf_consensus_role(const struct hf_consensus *c)
{
    if (c->has_failed)
        return HF_ROLE_UNAVAILABLE;
    /* Deposed, and the new term not stored yet: the owner is told afterwards, but nothing may count on us any more (it
     * would be refused, look again, find a leader, and so on for as long as the disk takes). */
    if (c->role == HF_ROLE_LEADER && c->raft.state != RAFT_LEADER)
        return HF_ROLE_FOLLOWER;
    return c->role;
}

uint64_t hf_consensus_term(const struct hf_consensus *c)
{
    return c->is_raft_open ? raft_current_term(&c->raft) : c->recovered.term;
}

static const char *role_name(int role)
{
    return role == RAFT_VOTER ? "voter" : role == RAFT_STANDBY ? "standby" : "spare";
}

void hf_consensus_status(const struct hf_consensus *c, struct hf_consensus_status *out)
{
    size_t used = 0;

    memset(out, 0, sizeof *out);
    out->role = hf_consensus_role(c);
    out->node_id = c->config.node_id;
    out->term = hf_consensus_term(c);
    out->leader_id = hf_consensus_leader(c);
    out->first_index = hf_journal_first_index(c->journal);
    out->last_index = hf_journal_next_index(c->journal) - 1;
    out->commit_index = c->commit_index;
    out->delivered_index = c->delivered_index;
    out->durable_index = c->durable_index;
    out->snapshot_index = c->marker.index;
    out->journal_bytes = hf_journal_disk_bytes(c->journal);
    out->journal_tail_bytes = hf_journal_tail_bytes(c->journal);
    out->is_formed = c->identity.is_formed;
    for (int i = 0; i < 16; i++)
        snprintf(out->cluster_id + 2 * i, 3, "%02x", c->identity.cluster_id[i]);
    memcpy(out->problem, c->problem, sizeof out->problem);
    if (!out->problem[0] && c->is_disk_slow)
        snprintf(out->problem, sizeof out->problem, "the disk under %.180s does not finish a write", c->dir);
    if (!out->problem[0] && c->install.is_active)
        snprintf(out->problem, sizeof out->problem, "installing a copy of the state at index %" PRIu64,
                 c->install.marker.index);
    if (c->identity.name[0])
        snprintf(out->name, sizeof out->name, "%s", c->identity.name);
    else
        snprintf(out->name, sizeof out->name, "%" PRIu64, c->config.node_id);
    if (!c->is_raft_open)
        return;
    out->journal_bytes_max = hf_consensus_journal_bytes_max(c);
    out->is_installing = c->install.is_active;
    for (unsigned i = 0; i < c->raft.configuration.n && out->n_members < 16; i++) {
        const struct raft_server *s = &c->raft.configuration.servers[i];

        if (hf_consensus_is_tombstone(s))
            continue;
        struct hf_consensus_member *m = &out->members[out->n_members++];
        struct hf_member parsed;
        raft_index match = 0;

        m->id = s->id;
        m->role = role_name(s->role);
        hf_consensus_member_name(s, m->name);
        m->silence_ms = UINT64_MAX;
        if (hf_member_parse(s->id, s->address, &parsed) == 0)
            snprintf(m->address, sizeof m->address, "%s", parsed.address);
        if (s->role == RAFT_VOTER && used < sizeof out->voters)
            used += (size_t)snprintf(out->voters + used, sizeof out->voters - used, "%s%" PRIu64, used ? "," : "",
                                     (uint64_t)s->id);
        if (s->id == c->config.node_id) {
            snprintf(m->client_address, sizeof m->client_address, "%s", c->client_address);
            m->is_connected = true;
            m->level = HF_LEVEL_MAX;
            m->silence_ms = 0;
            m->match_index = out->last_index;
            continue;
        }
        for (uint32_t k = 0; k < c->n_others; k++)
            if (c->others[k].id == s->id) {
                snprintf(m->client_address, sizeof m->client_address, "%s", c->others[k].client_address);
                m->level = c->others[k].level;
            }
        m->is_connected = hf_peers_link(c->peers, s->id, HF_CHANNEL_RAFT) != NULL;
        m->silence_ms = hf_peers_silence_ms(c->peers, s->id);
        if (hf_consensus_is_leader(c) && raft_match_index(&c->raft, s->id, &match) == 0)
            m->match_index = match;
    }
}

/* ---- live settings ------------------------------------------------------------------------------------ */

void hf_consensus_set_timeouts(struct hf_consensus *c, uint32_t election_timeout_ms, uint32_t heartbeat_ms)
{
    if (c->config.election_timeout_ms == election_timeout_ms && c->config.heartbeat_ms == heartbeat_ms)
        return;
    c->config.election_timeout_ms = election_timeout_ms;
    c->config.heartbeat_ms = heartbeat_ms;
    if (!c->is_raft_open)
        return;
    raft_set_heartbeat_timeout(&c->raft, heartbeat_ms);
    raft_set_election_timeout(&c->raft, election_timeout_ms);
    hf_consensus_arm(c);
}

void hf_consensus_set_journal(struct hf_consensus *c, uint64_t retain_bytes, uint64_t max_bytes,
                              uint64_t snapshot_bytes)
{
    c->config.journal_retain_bytes = retain_bytes;
    c->config.journal_max_bytes = max_bytes;
    c->config.snapshot_journal_bytes = snapshot_bytes;
}
