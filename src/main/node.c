/* node.c: the wiring of one node. Commands go down through dispatch, propose and consensus; commits come up through
 * propose to the state; replies and durable indexes come back up. This file only connects; all it decides is the order
 * of closing. */
#include "main/node.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "main/space.h"

#include <inttypes.h>
#include <stdio.h>

struct hf_node {
    struct hf_env *env;
    struct hf_node_config config;
    struct hf_stats *stats;
    char *dir;
    struct hf_consensus *consensus;
    struct hf_state *state;
    struct hf_proposer *proposer;
    struct hf_proxy *proxy;
    struct hf_dispatcher *dispatcher;
    struct hf_space *space;
    struct hf_snapshots *snapshots;
    struct hf_operator *operator;
    struct hf_state_swap swap;
    char *swap_path; /* ours: a swap that is under way at the end outlives consensus */
    bool has_failed, is_closing;
    void (*retired)(void *data);
    void *retired_data;
    struct hf_gauge *applied_gauge, *durable_gauge;
    int64_t last_commit_ms;
    uint64_t durable_index;
    uint64_t uncommitted_bytes; /* of log entries since a commit of the state was last asked for */
};

static void fail(struct hf_node *node, int err, const char *why)
{
    if (node->has_failed)
        return;
    node->has_failed = true;
    if (err == HF_E_NOSPC)
        hf_space_give_up(node->space);
    if (node->config.on_failed)
        node->config.on_failed(node->config.failed_data, err, why);
}

/* ---- consensus events --------------------------------------------------------------------------------- */

static bool on_commit(void *data, struct hf_log_entry *e)
{
    struct hf_node *node = data;
    bool goes_on = hf_propose_on_commit(node->proposer, e);

    /* What is not durable in the database cannot be cut off the journal, however little of it is dirty. */
    node->uncommitted_bytes += e->len;
    if (node->uncommitted_bytes >= node->config.consensus.snapshot_journal_bytes) {
        node->uncommitted_bytes = 0;
        hf_state_commit(node->state);
    }
    return goes_on;
}

static void on_role(void *data, enum hf_role role, uint64_t term, uint64_t leader_id)
{
    struct hf_node *node = data;

    (void)leader_id;
    hf_propose_on_role(node->proposer, role, term);
    hf_dispatcher_on_role(node->dispatcher);
    hf_operator_on_role(node->operator, role);
}

static void on_link_up(void *data, struct hf_link *link)
{
    struct hf_node *node = data;

    if (hf_link_channel(link) == HF_CHANNEL_STATE) {
        hf_snapshots_on_link_up(node->snapshots, link);
        return;
    }
    hf_proxy_on_link_up(node->proxy, link);
    hf_dispatcher_on_role(node->dispatcher); /* a way to the leader may have opened */
}

static void on_link_down(void *data, struct hf_link *link)
{
    struct hf_node *node = data;

    if (hf_link_channel(link) == HF_CHANNEL_STATE)
        hf_snapshots_on_link_down(node->snapshots, link);
    else
        hf_proxy_on_link_down(node->proxy, link);
}

static void on_message(void *data, struct hf_link *link, uint8_t type, struct hf_slice payload)
{
    struct hf_node *node = data;

    if (hf_link_channel(link) == HF_CHANNEL_STATE)
        hf_snapshots_on_message(node->snapshots, link, type, payload);
    else
        hf_proxy_on_message(node->proxy, link, type, payload);
}

static void on_behind(void *data, uint64_t member, uint64_t at_least)
{
    struct hf_node *node = data;

    hf_snapshots_send(node->snapshots, member, at_least);
}

static void on_caught_up(void *data, uint64_t member)
{
    struct hf_node *node = data;

    hf_snapshots_stop(node->snapshots, member);
}

static bool take_copy(void *data, uint64_t index, uint64_t term, const char **path)
{
    struct hf_node *node = data;
    struct hf_snapshot_info info;

    if (!hf_snapshots_received(node->snapshots, index, term, &info))
        return false;
    *path = hf_snapshots_take(node->snapshots);
    return true;
}

static void on_swapped(struct hf_state_swap *swap)
{
    struct hf_node *node = swap->data;

    node->durable_index = swap->meta.applied_index;
    hf_gauge_set(node->durable_gauge, (int64_t)swap->meta.applied_index);
    if (node->is_closing)
        return;
    hf_propose_on_swap(node->proposer, swap->meta.log_time_ms);
    hf_operator_on_durable(node->operator, swap->meta.applied_index);
    hf_consensus_installed(node->consensus);
}

static void on_install(void *data, const char *path, uint64_t index)
{
    struct hf_node *node = data;

    (void)index;
    hf_free(node->swap_path);
    node->swap_path = hf_strdup(path);
    node->swap = (struct hf_state_swap){.data = node, .cb = on_swapped, .path = node->swap_path};
    hf_state_swap(node->state, &node->swap);
}

static uint64_t state_stall_ms(void *data)
{
    return hf_state_stall_ms(((struct hf_node *)data)->state);
}

static void on_removed(void *data, const char *why)
{
    struct hf_node *node = data;

    if (node->config.on_removed)
        node->config.on_removed(node->config.removed_data, why);
}

static void on_consensus_failed(void *data, int err, const char *why)
{
    fail(data, err, why);
}

/* ---- state events ------------------------------------------------------------------------------------- */

static void on_durable(void *data, const struct hf_store_meta *meta)
{
    struct hf_node *node = data;

    node->last_commit_ms = node->env->wall_ms(node->env);
    node->durable_index = meta->applied_index;
    hf_gauge_set(node->durable_gauge, (int64_t)meta->applied_index);
    if (node->is_closing)
        return;
    if (node->operator)
        hf_operator_on_durable(node->operator, meta->applied_index);
    hf_consensus_state_durable(node->consensus, meta->applied_index, meta->applied_term, meta->configuration_index,
                               meta->configuration);
}

static void on_next_due(void *data, int64_t due_ms)
{
    struct hf_node *node = data;

    if (node->proposer && !node->is_closing)
        hf_propose_on_next_due(node->proposer, due_ms);
}

static void on_setting(void *data, struct hf_slice name, struct hf_slice value)
{
    struct hf_node *node = data;

    if (node->is_closing)
        return;
    hf_consensus_set_level(node->consensus, hf_state_level(node->state));
    if (node->operator)
        hf_operator_on_setting(node->operator, name, value);
}

static void on_state_failed(void *data, int err, const char *why)
{
    fail(data, err, why);
}

/* ---- copies of the state ------------------------------------------------------------------------------ */

static const char *live_path(void *data)
{
    return hf_state_path(((struct hf_node *)data)->state);
}

static void on_pin(void *data, uint64_t index)
{
    hf_consensus_pin(((struct hf_node *)data)->consensus, index);
}

static void on_delivered(void *data, uint64_t member, const struct hf_snapshot_info *info)
{
    struct hf_node *node = data;

    hf_consensus_send_install(node->consensus, member, info->index, info->term, info->configuration_index,
                              info->configuration);
}

static void on_send_failed(void *data, uint64_t member, const char *why)
{
    (void)data;
    HF_LOG_WARN("node", "a copy of the state did not reach a member; it is tried again",
                "member=%" PRIu64 " reason=\"%s\"", member, why);
}

static bool may_receive(void *data, uint64_t member, const struct hf_snapshot_info *info, char *why, size_t why_size)
{
    struct hf_node *node = data;
    uint64_t free_bytes = hf_space_free_bytes(node->space);

    if (info->level > HF_LEVEL_MAX) {
        snprintf(why, why_size,
                 "the state has feature level %" PRIu32 ", this release knows up to %u: start a newer release on it",
                 info->level, HF_LEVEL_MAX);
        return false;
    }
    if (free_bytes != 0 && free_bytes < info->bytes + node->config.free_bytes_min) {
        snprintf(why, why_size,
                 "the disk has %" PRIu64 " bytes free, the copy needs %" PRIu64 " besides min-free-disk: free some",
                 free_bytes, info->bytes);
        return false;
    }
    return hf_consensus_may_receive(node->consensus, member, info->index, info->term, why, why_size);
}

static struct hf_link *state_link(void *data, uint64_t member)
{
    return hf_consensus_state_link(((struct hf_node *)data)->consensus, member);
}

/* ---- life --------------------------------------------------------------------------------------------- */

static const struct hf_node_status *take_status(void *data)
{
    struct hf_node *node = data;

    return node->config.status ? node->config.status(node->config.status_data) : hf_node_status_new(node);
}

int hf_node_open(struct hf_env *env, const struct hf_node_config *config, struct hf_stats *stats, struct hf_node **out,
                 char *why, size_t why_size)
{
    struct hf_node *node = hf_calloc(1, sizeof *node);
    struct hf_consensus_events ce = {.data = node,
                                     .on_commit = on_commit,
                                     .on_role = on_role,
                                     .on_link_up = on_link_up,
                                     .on_link_down = on_link_down,
                                     .on_message = on_message,
                                     .on_behind = on_behind,
                                     .on_caught_up = on_caught_up,
                                     .take_copy = take_copy,
                                     .on_install = on_install,
                                     .state_stall_ms = state_stall_ms,
                                     .on_removed = on_removed,
                                     .on_failed = on_consensus_failed};
    struct hf_snapshots_events sne = {.data = node,
                                      .live_path = live_path,
                                      .on_pin = on_pin,
                                      .on_delivered = on_delivered,
                                      .on_send_failed = on_send_failed,
                                      .may_receive = may_receive};
    struct hf_snapshots_config snc = {.dir = config->consensus.dir,
                                      .vfs = config->state.store.vfs,
                                      .rate_bytes = config->snapshot_rate,
                                      .chunk_bytes = config->snapshot_chunk_bytes,
                                      .window_bytes = config->snapshot_window_bytes};
    struct hf_dispatch_config dc = config->dispatch;
    struct hf_state_events se = {.data = node,
                                 .on_durable = on_durable,
                                 .on_setting = on_setting,
                                 .on_next_due = on_next_due,
                                 .on_failed = on_state_failed};
    struct hf_space_config space = {.dir = config->consensus.dir, .free_bytes_min = config->free_bytes_min};
    struct hf_state_config sc = config->state;
    struct hf_store_meta meta;
    char *path;
    int rc;

    node->env = env;
    node->config = *config;
    node->stats = stats;
    node->dir = hf_strdup(config->consensus.dir);
    node->applied_gauge = hf_stats_gauge(stats, "applied_index", NULL, "Highest index applied to the state");
    node->durable_gauge = hf_stats_gauge(stats, "state_durable_index", NULL, "Highest index durable in SQLite");

    hf_space_make_room(env, &space);
    rc = hf_consensus_open(env, &config->consensus, &ce, stats, &node->consensus, why, why_size);
    if (rc < 0)
        goto fail;
    path = hf_asprintf("%s/state-%" PRIu64 ".db", node->dir, hf_consensus_generation(node->consensus));
    sc.store.path = path;
    rc = hf_state_open(env, &sc, &se, stats, &node->state, &meta, why, why_size);
    hf_free(path);
    if (rc < 0)
        goto fail;
    node->durable_index = meta.applied_index;
    rc = hf_snapshots_open(env, &snc, &sne, stats, &node->snapshots, why, why_size);
    if (rc < 0)
        goto fail;
    hf_snapshots_set_link_of(node->snapshots, state_link, node);
    rc = hf_proposer_open(env, &config->proposer, node->consensus, node->state, stats, meta.log_time_ms,
                          &node->proposer);
    if (rc == 0)
        rc = hf_proxy_open(env, &config->limits, stats, &node->proxy);
    if (rc == 0)
        rc = hf_operator_open(env, &config->operate, node->consensus, node->proposer, node->state, node->snapshots,
                              config->settings, stats, &node->operator);
    if (rc == 0) {
        dc.operator_ops = hf_operator_ops(node->operator);
        rc = hf_dispatcher_open(env, &dc, node->consensus, node->proposer, node->state, node->proxy, take_status, node,
                                stats, &node->dispatcher);
    }
    if (rc < 0) {
        snprintf(why, why_size, "cannot start: %s", hf_strerror(rc));
        goto fail;
    }
    hf_operator_set_dispatcher(node->operator, node->dispatcher);
    hf_operator_on_durable(node->operator, meta.applied_index);
    rc = hf_consensus_start(node->consensus, meta.applied_index, why, why_size);
    if (rc < 0)
        goto fail;
    if (meta.applied_index > 0 && meta.configuration.len > 0)
        hf_consensus_state_durable(node->consensus, meta.applied_index, meta.applied_term, meta.configuration_index,
                                   meta.configuration);
    rc = hf_space_open(env, &space, node->consensus, node->dispatcher, stats, &node->space);
    if (rc < 0) {
        snprintf(why, why_size, "cannot start: %s", hf_strerror(rc));
        goto fail;
    }
    *out = node;
    return 0;

fail:
    hf_node_close(node);
    return rc;
}

static void on_transferred(void *data, int rc)
{
    struct hf_node *node = data;
    void (*done)(void *) = node->retired;

    if (rc != 0 && rc != HF_E_NOENT)
        HF_LOG_WARN("node", "leadership was not handed over", "reason=\"%s\"", hf_strerror(rc));
    node->retired = NULL;
    if (done)
        done(node->retired_data);
}

void hf_node_retire(struct hf_node *node, uint64_t timeout_ms, void (*done)(void *data), void *data)
{
    node->retired = done;
    node->retired_data = data;
    hf_consensus_transfer(node->consensus, 0, timeout_ms, on_transferred, node);
}

/* Consensus first, so that nothing more is committed here; then the state finishes what it was given and its
 * callbacks still find the proposer; then the rest, from the source of commands to their answers. */
void hf_node_close(struct hf_node *node)
{
    if (!node)
        return;
    node->is_closing = true;
    if (node->dispatcher)
        hf_dispatcher_stop(node->dispatcher);
    hf_space_close(node->space);
    if (node->consensus)
        hf_consensus_close(node->consensus);
    if (node->snapshots)
        hf_snapshots_close(node->snapshots);
    if (node->state)
        hf_state_close(node->state);
    if (node->proposer)
        hf_proposer_close(node->proposer);
    if (node->operator)
        hf_operator_close(node->operator); /* those before gave back what it had asked of them */
    if (node->proxy)
        hf_proxy_close(node->proxy);
    if (node->dispatcher)
        hf_dispatcher_close(node->dispatcher);
    hf_free(node->swap_path);
    hf_free(node->dir);
    hf_free(node);
}

struct hf_dispatcher *hf_node_dispatcher(struct hf_node *node)
{
    return node->dispatcher;
}

struct hf_consensus *hf_node_consensus(struct hf_node *node)
{
    return node->consensus;
}

struct hf_state *hf_node_state(struct hf_node *node)
{
    return node->state;
}

struct hf_proposer *hf_node_proposer(struct hf_node *node)
{
    return node->proposer;
}

struct hf_snapshots *hf_node_snapshots(struct hf_node *node)
{
    return node->snapshots;
}

struct hf_space *hf_node_space(struct hf_node *node)
{
    return node->space;
}

#define HF_STATUS_COPIES_MAX 8u

/* One block: the public struct first, then everything it points to. */
struct status_block {
    struct hf_node_status status;
    struct hf_consensus_status consensus;
    struct hf_node_peer_status peers[16];
    struct hf_node_copy_status copies[HF_STATUS_COPIES_MAX];
    char data_dir[512];
    char space_problem[HF_SPACE_PROBLEM_BYTES];
};

static void fill_copies(struct hf_node *node, struct status_block *b)
{
    struct hf_snapshot_progress progress[HF_STATUS_COPIES_MAX];
    uint32_t n = hf_snapshots_progress(node->snapshots, progress, HF_STATUS_COPIES_MAX);

    b->status.n_copies = n < HF_STATUS_COPIES_MAX ? n : HF_STATUS_COPIES_MAX;
    b->status.copies = b->copies;
    for (uint32_t i = 0; i < b->status.n_copies; i++) {
        const struct hf_snapshot_progress *p = &progress[i];

        b->copies[i] = (struct hf_node_copy_status){.member = p->member,
                                                    .is_sending = p->is_sending,
                                                    .phase = p->phase,
                                                    .index = p->index,
                                                    .done_bytes = p->done_bytes,
                                                    .total_bytes = p->total_bytes,
                                                    .bytes_per_second = p->bytes_per_second};
    }
}

struct hf_node_status *hf_node_status_new(struct hf_node *node)
{
    static const char *const roles[] = {"unavailable", "follower", "candidate", "leader"};
    struct status_block *b = hf_calloc(1, sizeof *b);
    struct hf_node_status *s = &b->status;

    hf_consensus_status(node->consensus, &b->consensus);
    snprintf(b->data_dir, sizeof b->data_dir, "%s", node->dir);
    s->node_id = b->consensus.node_id;
    s->cluster_id = b->consensus.cluster_id;
    s->role = roles[b->consensus.role];
    s->term = b->consensus.term;
    s->leader_id = b->consensus.leader_id;
    s->leader_address = s->leader_client_address = "";
    s->client_address = "";
    s->self_role = s->peer_address = "";
    s->name = b->consensus.name;
    s->level = hf_state_level(node->state);
    s->level_max = HF_LEVEL_MAX;
    s->journal_bytes_max = b->consensus.journal_bytes_max;
    fill_copies(node, b);
    s->first_index = b->consensus.first_index;
    s->last_index = b->consensus.last_index;
    s->commit_index = b->consensus.commit_index;
    s->applied_index = hf_state_applied_index(node->state);
    if (s->commit_index < s->applied_index) /* after a start, until a leader says how far it has come */
        s->commit_index = s->applied_index;
    s->durable_index = node->durable_index;
    s->snapshot_index = b->consensus.snapshot_index;
    s->voters = b->consensus.voters;
    s->peers = b->peers;
    for (uint32_t i = 0; i < b->consensus.n_members; i++) {
        const struct hf_consensus_member *m = &b->consensus.members[i];

        if (m->id == s->leader_id) {
            s->leader_address = m->address;
            s->leader_client_address = m->client_address;
        }
        if (m->id == s->node_id) {
            s->client_address = m->client_address;
            s->self_role = m->role;
            s->peer_address = m->address;
            continue;
        }
        b->peers[s->n_peers++] = (struct hf_node_peer_status){.id = m->id,
                                                              .address = m->address,
                                                              .client_address = m->client_address,
                                                              .role = m->role,
                                                              .name = m->name,
                                                              .level = m->level,
                                                              .is_connected = m->is_connected,
                                                              .match_index = m->match_index,
                                                              .last_contact_ms = m->silence_ms};
    }
    s->journal_bytes = b->consensus.journal_bytes;
    s->journal_tail_bytes = b->consensus.journal_tail_bytes;
    s->disk_free_bytes = hf_space_free_bytes(node->space);
    s->last_commit_ms = node->last_commit_ms;
    s->config_file = "";
    s->data_dir = b->data_dir;
    s->stats = node->stats;
    s->problem = b->consensus.problem;
    hf_gauge_set(node->applied_gauge, (int64_t)s->applied_index);
    s->is_ready =
        s->leader_id != 0 && b->consensus.problem[0] == 0 && !hf_space_is_low(node->space) && !node->has_failed;
    snprintf(b->space_problem, sizeof b->space_problem, "%s", hf_space_problem(node->space));
    if (s->problem[0] == 0)
        s->problem = s->leader_id == 0 && !hf_space_is_low(node->space) ? "no leader is known" : b->space_problem;
    return s;
}
