/* nodes.c: nodes of the simulated cluster: their start and end, their disks, and what is watched on them. */
#include "base/assert.h"
#include "base/mem.h"
#include "consensus/offline.h"
#include "sim/sim.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JOURNAL_SLACK (64u << 10)

bool hf_sim_is_up(const struct node *n)
{
    return n->node && n->resume_at_ms == 0;
}

/* ---- start and end ------------------------------------------------------------------------------------ */

static void on_node_failed(void *data, int err, const char *why)
{
    struct node *n = data;

    n->has_failed = true;
    hf_sim_complain(n->sim, "node %u stopped: %s (%s)", n->number + 1, why, hf_strerror(err));
}

static void on_node_removed(void *data, const char *why)
{
    struct node *n = data;

    hf_sim_trace(n->sim, "node %u: %s", n->number + 1, why);
    n->is_told_removed = true;
}

/* Where a node that joins may ask: the members that run now, from a random one on. */
static void list_members(struct sim *s, const struct node *but, char *out, size_t size)
{
    unsigned from = (unsigned)hf_prng_below(&s->prng, s->n_all);
    size_t used = 0;

    out[0] = 0;
    for (unsigned i = 0; i < s->n_all; i++) {
        const struct node *n = &s->nodes[(from + i) % s->n_all];

        if (n != but && n->standing == STANDING_MEMBER && n->view.n > 0 && !n->is_ghost && used < size)
            used += (size_t)snprintf(out + used, size - used, "%sn%u:1", used ? "," : "", n->number + 1);
    }
}

static void set_sizes(const struct sim *s, struct hf_node_config *c)
{
    c->consensus.election_timeout_ms = 600;
    c->consensus.heartbeat_ms = 100;
    c->consensus.message_bytes_max = 4u << 20;
    c->consensus.journal_segment_bytes = 8u << 10;
    c->consensus.journal_tail_bytes = 4u << 10;
    c->consensus.journal_retain_bytes = 2u << 10;
    c->consensus.journal_max_bytes = s->journal_max;
    c->consensus.journal_pin_bytes = s->journal_pin;
    c->consensus.snapshot_journal_bytes = 4u << 10;
    c->snapshot_rate = s->snapshot_rate;
    c->snapshot_chunk_bytes = s->chunk_bytes;
    c->snapshot_window_bytes = 4 * s->chunk_bytes;
    c->state.store.cache_bytes_max = 64u << 10;
    c->state.store.dirty_bytes_max = 8u << 10;
    c->state.store.page_cache_bytes = 256u << 10;
    c->state.commit_interval_ms = 500;
    c->state.commit_bytes_max = 64u << 10;
    c->proposer.entry_bytes_max = 64u << 10;
    c->proposer.entries_in_flight = 4;
    c->proposer.queue_bytes_max = 1u << 20;
    c->proposer.unknown_timeout_ms = 3000;
    c->proposer.state_queue_bytes_max = 1u << 20;
    c->dispatch.no_leader_timeout_ms = 3000;
    c->dispatch.lane_queue_max = 64;
    c->dispatch.overload_bytes = 512u << 10;
    c->limits.bulk_bytes_max = 1u << 20;
    c->limits.query_bytes_max = 2u << 20;
    c->limits.args_max = 1024;
    c->limits.inline_bytes_max = 64u << 10;
}

static void free_outside(struct node *n)
{
    hf_sim_node_free(n->fake);
    n->fake = NULL;
    hf_sim_vfs_free(n->vfs);
    hf_stats_free(n->stats);
}

void hf_sim_start(struct sim *s, struct node *n)
{
    struct hf_node_config c;
    char dir[32], listen[32], client[32], members[256], join[256] = "", vfs[64], why[512];
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
    set_sizes(s, &c);
    if (n->is_joiner)
        list_members(s, n, join, sizeof join);
    c.consensus.dir = dir;
    c.consensus.node_id = n->is_joiner ? 0 : n->number + 1;
    c.consensus.listen_address = listen;
    c.consensus.client_address = client;
    c.consensus.members = n->is_joiner ? "" : members;
    c.consensus.cluster_id = "";
    c.consensus.name = n->name;
    c.consensus.join = n->is_joiner ? join : "";
    c.consensus.replaces = n->replaces;
    c.consensus.seed = s->seed * 1000 + n->number * 100 + ++n->starts;
    c.proposer.seed = c.consensus.seed + 7;
    c.state.store.vfs = hf_sim_vfs_name(n->vfs);
    c.on_failed = on_node_failed;
    c.failed_data = n;
    c.on_removed = on_node_removed;
    c.removed_data = n;
    n->is_told_removed = false;
    rc = hf_node_open(hf_sim_node_env(n->fake), &c, n->stats, &n->node, why, sizeof why);
    if (rc == 0 && n->standing == STANDING_REMOVED)
        hf_sim_complain(s, "node %u starts although it was removed", n->number + 1);
    if (rc < 0) {
        n->node = NULL;
        if (n->standing != STANDING_REMOVED)
            hf_sim_complain(s, "node %u does not start: %s (%s)", n->number + 1, why, hf_strerror(rc));
        n->disk = hf_sim_node_take_fs(n->fake);
        free_outside(n);
        return;
    }
    n->restart_at_ms = 0;
    n->probe_lane = hf_lane_open(hf_node_dispatcher(n->node));
    n->is_probing = n->is_transferring = false;
}

void hf_sim_stop(struct sim *s, struct node *n, bool is_crash)
{
    struct hf_sim_disk *disk = NULL;

    if (is_crash)
        hf_sim_node_crash(n->fake, &disk);
    for (unsigned i = 0; i < CLIENTS; i++)
        if (s->clients[i].lane && s->clients[i].at == n->number)
            hf_sim_abandon(&s->clients[i]);
    if (s->visitor.lane && s->visitor.at == n->number)
        hf_sim_abandon(&s->visitor);
    if (n->node) {
        hf_lane_close(n->probe_lane, hf_sim_release_request);
        hf_node_close(n->node);
    }
    n->node = NULL;
    if (!is_crash) {
        /* A clean stop; the disk is what its owner left. */
        disk = hf_sim_node_take_fs(n->fake);
    }
    free_outside(n);
    n->disk = disk;
    n->resume_at_ms = 0;
    if (n->is_told_removed && !n->is_ghost) {
        s->removals++;
        n->standing = STANDING_REMOVED;
        n->view.n = 0;
    }
}

/* The directory is another node's from now on. */
static void begin_life(struct sim *s, struct node *n)
{
    if (n->id != 0 && n->id < IDS_MAX)
        s->ids[n->id].is_lost = true;
    if (n->id != 0)
        n->old_id = n->id;
    n->id = 0;
    n->view.n = 0;
    n->life++;
    n->generation = 0;
    n->was_voter = false;
}

void hf_sim_wipe(struct sim *s, struct node *n)
{
    if (n->node)
        hf_sim_stop(s, n, true);
    hf_sim_disk_free(n->disk);
    n->disk = NULL;
    begin_life(s, n);
    n->is_ghost = false;
    n->standing = STANDING_WIPED;
}

bool hf_sim_rejoin(struct sim *s, struct node *n)
{
    struct hf_sim_node *fake = hf_sim_node_new(s->world, n->number);
    struct hf_sim_disk *survivor;
    char dir[32], join[256], why[512];
    bool is_learner = false;
    int rc;

    for (unsigned i = 0; i < n->view.n; i++)
        is_learner |= n->view.members[i].id == n->id && !n->view.members[i].is_voter;
    is_learner &= n->was_voter; /* somebody wanted it to be one */
    snprintf(dir, sizeof dir, "/n%u", n->number + 1);
    list_members(s, n, join, sizeof join);
    hf_sim_node_set_fs(fake, n->disk);
    rc = hf_offline_rejoin(hf_sim_node_env(fake), dir, "", join, s->seed * 1000 + n->number * 100 + ++n->starts, why,
                           sizeof why);
    if (rc < 0)
        hf_sim_complain(s, "node %u cannot be repaired: %s", n->number + 1, why);
    /* What it did is durable. */
    survivor = hf_sim_disk_crash(hf_sim_node_fs(fake), &s->prng);
    hf_sim_node_free(fake);
    n->disk = survivor;
    begin_life(s, n);
    n->was_voter = is_learner;
    n->standing = STANDING_MEMBER;
    return rc == 0;
}

/* ---- what is watched ---------------------------------------------------------------------------------- */

/* A raft id belongs to one data directory for ever. */
static void check_id(struct sim *s, struct node *n, uint64_t id)
{
    if (id == 0 || id >= IDS_MAX)
        return;
    if (s->ids[id].life == 0) {
        s->ids[id].number = n->number;
        s->ids[id].life = n->life + 1;
    } else if (s->ids[id].number != n->number || s->ids[id].life != n->life + 1) {
        hf_sim_complain(s, "the id %" PRIu64 " belongs to node %u and to node %u", id, s->ids[id].number + 1,
                        n->number + 1);
    }
    n->id = id;
}

static void look_at(struct sim *s, struct node *n)
{
    struct hf_consensus_status st;

    hf_consensus_status(hf_node_consensus(n->node), &st);
    if (n->is_ghost) {
        if (st.is_formed || st.role != HF_ROLE_UNAVAILABLE)
            hf_sim_complain(s, "node %u lost its disk and takes part again as what it was", n->number + 1);
        return;
    }
    check_id(s, n, st.node_id);
    if (n->generation != 0 && hf_consensus_generation(hf_node_consensus(n->node)) > n->generation)
        s->installs++;
    n->generation = hf_consensus_generation(hf_node_consensus(n->node));
    /* Segments that are cut off wait for a disk that may hang here. */
    if (st.journal_bytes_max != 0 && st.journal_bytes > st.journal_bytes_max + JOURNAL_SLACK)
        hf_sim_complain(s, "the journal of node %u has %" PRIu64 " bytes and should have %" PRIu64 " at most",
                        n->number + 1, st.journal_bytes, st.journal_bytes_max);
    n->view.n = 0;
    for (uint32_t i = 0; i < st.n_members && i < 16; i++) {
        bool is_voter = strcmp(st.members[i].role, "voter") == 0;

        if (strcmp(st.members[i].role, "spare") == 0)
            continue;
        n->view.members[n->view.n].id = st.members[i].id;
        n->view.members[n->view.n++].is_voter = is_voter;
        for (unsigned k = 0; k < s->n_all && is_voter; k++)
            s->nodes[k].was_voter |= s->nodes[k].id == st.members[i].id;
    }
}

void hf_sim_watch(struct sim *s)
{
    for (unsigned i = 0; i < s->n_all; i++) {
        struct node *n = &s->nodes[i];

        if (!hf_sim_is_up(n))
            continue;
        look_at(s, n);
        if (!n->is_told_removed || n->is_ghost)
            continue;
        hf_sim_trace(s, "node %u is removed and stops", i + 1);
        hf_sim_stop(s, n, false);
    }
}

struct file_check {
    struct sim *s;
    const struct node *n;
    char state[32];
};

static void check_file(void *data, const char *name)
{
    struct file_check *f = data;
    bool is_state = strncmp(name, "state-", 6) == 0 && strncmp(name, f->state, strlen(f->state)) != 0;

    if (is_state || strncmp(name, "incoming.db", 11) == 0 || strncmp(name, "copy-", 5) == 0)
        hf_sim_complain(f->s, "node %u left the file %s behind", f->n->number + 1, name);
}

void hf_sim_check_files(struct sim *s, struct node *n)
{
    struct file_check f = {.s = s, .n = n};
    struct hf_fs *fs = hf_sim_node_env(n->fake)->fs;
    char dir[32];

    snprintf(dir, sizeof dir, "/n%u", n->number + 1);
    snprintf(f.state, sizeof f.state, "state-%" PRIu64 ".db", hf_consensus_generation(hf_node_consensus(n->node)));
    if (fs->list(fs, dir, check_file, &f) < 0)
        hf_sim_complain(s, "the directory of node %u cannot be read", n->number + 1);
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
        hf_sim_complain(s, "INFO raft has no applied index or digest");
    } else {
        index = strtoull(index_text, NULL, 10);
        if (s->digests[index % DIGESTS_MAX].index == index && index > 0) {
            if (strcmp(s->digests[index % DIGESTS_MAX].digest, digest) != 0)
                hf_sim_complain(s, "node %u has digest %s at index %" PRIu64 ", another had %s", r->probe->number + 1,
                                digest, index, s->digests[index % DIGESTS_MAX].digest);
        } else {
            s->digests[index % DIGESTS_MAX].index = index;
            snprintf(s->digests[index % DIGESTS_MAX].digest, 40, "%s", digest);
        }
    }
    hf_sim_release_request(req);
}

void hf_sim_probe(struct sim *s, struct node *n)
{
    struct request *r;

    if (!hf_sim_is_up(n) || n->is_probing || s->is_broken)
        return;
    n->is_probing = true;
    r = hf_sim_new_request("INFO raft");
    r->req.cb = on_probe;
    r->probe = n;
    hf_lane_submit(n->probe_lane, &r->req);
}
