/* life.c: opening a data directory, starting libraft's core from it, closing. */
#include "consensus/internal.h"

#include <inttypes.h>
#include <stdio.h>

static int collect_entry(void *data, struct hf_log_entry *e)
{
    struct hf_buf *b = data;
    struct raft_entry re = {.term = e->term, .type = (enum raft_entry_type)e->type};

    if (e->type == HF_ENTRY_CONFIGURATION) {
        re.buf.len = e->len;
        re.buf.base = raft_malloc(e->len);
        HF_ASSERT(re.buf.base != NULL);
        memcpy(re.buf.base, e->data, e->len);
    }
    hf_buf_put(b, &re, sizeof re);
    return 0;
}

/* Would the core lead at once? `entries` and `n`: the log; `snapshot`: what it begins with, if anything. */
static bool is_sole_voter(const struct hf_consensus *c, const struct raft_entry *entries, size_t n,
                          const struct raft_configuration *snapshot)
{
    struct raft_configuration decoded;
    const struct raft_configuration *conf = snapshot;
    unsigned voters = 0;
    bool is_voter = false;

    raft_configuration_init(&decoded);
    while (n > 0 && entries[n - 1].type != RAFT_CHANGE)
        n--;
    if (n > 0) {
        if (raft_configuration_decode(&entries[n - 1].buf, &decoded) != 0)
            return false; /* the core says so next */
        conf = &decoded;
    }
    for (unsigned i = 0; i < conf->n; i++) {
        if (conf->servers[i].role != RAFT_VOTER)
            continue;
        voters++;
        is_voter |= conf->servers[i].id == c->config.node_id;
    }
    raft_configuration_close(&decoded);
    return is_voter && voters == 1;
}

/* Start the core from what the journal and the marker hold. */
int hf_consensus_begin_raft(struct hf_consensus *c, char *why, size_t why_size)
{
    struct raft_event event = {.type = RAFT_START};
    struct raft_snapshot_metadata metadata = {0};
    struct hf_buf entries = {0};
    struct raft_entry *array;
    struct hf_hello hello = hf_consensus_hello(c);
    struct hf_member self = {.id = c->config.node_id, .store_id = c->identity.store_id};
    char address[HF_MEMBER_TEXT_BYTES];
    bool has_new_term = false;
    size_t n;
    int rv;

    memcpy(self.address, hello.address, sizeof self.address);
    hf_member_format(&self, address, sizeof address);

    memset(&c->raft, 0, sizeof c->raft);
    if (raft_init(&c->raft, NULL, NULL, c->config.node_id, address) != 0) {
        snprintf(why, why_size, "the consensus core cannot start: %s", c->raft.errmsg);
        return HF_E_NOMEM;
    }
    c->raft.tracer = NULL;
    raft_seed(&c->raft, (unsigned)hf_prng_next(&c->prng));
    raft_set_pre_vote(&c->raft, true);
    raft_set_max_inflight_entries(&c->raft, HF_INFLIGHT_ENTRIES_MAX);
    /* It asks for nothing more than a look at how far a member is: the copy goes its own way, and may be older than the
     * last marker, of which the core waits to hear. */
    raft_set_install_snapshot_timeout(&c->raft, HF_STATUS_INTERVAL_MS);
    raft_set_heartbeat_timeout(&c->raft, c->config.heartbeat_ms);
    raft_set_election_timeout(&c->raft, c->config.election_timeout_ms);

    if (c->marker.index > 0) {
        struct raft_buffer buf = {raft_malloc(c->marker.configuration.len), c->marker.configuration.len};

        HF_ASSERT(buf.base != NULL);
        memcpy(buf.base, c->marker.configuration.data, buf.len);
        metadata.index = c->marker.index;
        metadata.term = c->marker.term;
        metadata.configuration_index = c->marker.configuration_index;
        rv = raft_configuration_decode(&buf, &metadata.configuration);
        raft_free(buf.base);
        if (rv != 0) {
            snprintf(why, why_size, "%s/CURRENT holds a configuration that does not decode", c->dir);
            return HF_E_CORRUPT;
        }
        event.start.metadata = &metadata;
    }
    event.start.term = c->recovered.term;
    event.start.voted_for = c->recovered.vote;
    event.start.start_index = hf_journal_first_index(c->journal);
    if (hf_journal_next_index(c->journal) == event.start.start_index) {
        rv = 0; /* empty: let in just now, or right after a copy of the state */
    } else if (c->recovered.next_index == 1) {
        /* Formed just now: the one entry is the one we wrote. */
        struct hf_log_entry *e;

        rv = hf_journal_get(c->journal, 1, &e);
        if (rv == 0) {
            rv = collect_entry(&entries, e);
            hf_log_entry_unref(e);
        }
    } else {
        rv = hf_journal_scan(c->journal, event.start.start_index, collect_entry, &entries);
    }
    if (rv != 0) {
        snprintf(why, why_size, "the journal in %s cannot be read: %s", c->dir, hf_strerror(rv));
        hf_buf_free(&entries);
        return rv;
    }
    array = (struct raft_entry *)(void *)entries.data;
    n = entries.len / sizeof *array;
    /* The core lets a sole voter lead at once, and that in the term that it led in before. But then it may have sent
     * entries to learners that it lost itself: what it writes in their places must not carry the same term. */
    if (c->recovered.next_index > 1 && is_sole_voter(c, array, n, &metadata.configuration)) {
        has_new_term = true;
        c->recovered.term++;
        c->recovered.vote = c->config.node_id;
        event.start.term = c->recovered.term;
        event.start.voted_for = c->recovered.vote;
    }
    event.start.entries = array;
    event.start.n_entries = (unsigned)n;
    event.time = hf_consensus_now(c);
    event.capacity = UINT16_MAX;
    c->durable_index = hf_journal_durable_index(c->journal);
    /* What the state holds is committed, also while no leader can say so: it may be what a member needs for one. */
    c->commit_index = c->applied_at_start > c->marker.index ? c->applied_at_start : c->marker.index;
    c->delivered_index = event.start.start_index - 1;
    if (c->marker.index > c->delivered_index)
        c->delivered_index = c->marker.index;
    memset(&c->update, 0, sizeof c->update);
    rv = raft_step(&c->raft, &event, &c->update);
    for (size_t i = 0; i < n; i++)
        if (array[i].type == RAFT_CHANGE)
            raft_free(array[i].buf.base);
    hf_buf_free(&entries);
    if (rv != 0 || (c->raft.configuration.n == 0 && !c->identity.is_joining)) {
        snprintf(why, why_size, "the consensus core cannot start from the journal in %s: %s", c->dir,
                 rv != 0 ? raft_strerror(rv) : "no configuration in it");
        return HF_E_CORRUPT;
    }
    c->is_raft_open = true;
    hf_consensus_members_changed(c);
    if (has_new_term || (c->update.flags & (RAFT_UPDATE_CURRENT_TERM | RAFT_UPDATE_VOTED_FOR))) {
        c->is_held = true;
        hf_journal_set_vote(c->journal, raft_current_term(&c->raft), raft_voted_for(&c->raft));
        return 0;
    }
    hf_consensus_carry_out_start(c);
    return 0;
}

int hf_consensus_save_identity(struct hf_consensus *c)
{
    int rc = hf_identity_save(c->env->fs, c->dir, &c->identity);

    if (rc < 0)
        hf_consensus_fail(c, rc, "cannot write %s/identity: %s", c->dir, hf_strerror(rc));
    return rc;
}

static bool is_named(const struct hf_consensus *c, const char *name)
{
    char digits[24];

    if (c->identity.name[0])
        return strcmp(c->identity.name, name) == 0;
    snprintf(digits, sizeof digits, "%" PRIu64, c->identity.node_id);
    return strcmp(digits, name) == 0;
}

static bool is_there(const struct hf_consensus *c, const char *name)
{
    struct hf_file *file;
    char *path = hf_asprintf("%s/%s", c->dir, name);
    int rc = c->env->fs->open(c->env->fs, path, HF_FS_READ, &file);

    hf_free(path);
    if (rc == 0)
        c->env->fs->close(c->env->fs, file);
    return rc == 0;
}

/* A new directory: the node will form a cluster with those of its list, or ask to join one. */
static int new_identity(struct hf_consensus *c, const struct hf_member *members, uint32_t n,
                        const uint8_t cluster_id[16], char *why, size_t why_size)
{
    int rc;

    if (is_there(c, "restore.db")) {
        snprintf(
            why, why_size,
            "%s holds restore.db, what is left of a restore that was interrupted: run holdfast restore into it again, "
            "or delete the directory",
            c->dir);
        return HF_E_AGAIN;
    }
    if (is_there(c, "CURRENT")) { /* identity is written before anything else */
        snprintf(why, why_size,
                 "%s/identity is missing, though other parts of a node are there: put it back as it was, or let this "
                 "node start again from the other members: holdfast repair --dir %s --from-peers --name NAME --join "
                 "HOST:PORT",
                 c->dir, c->dir);
        return HF_E_CORRUPT;
    }
    memset(&c->identity, 0, sizeof c->identity);
    do
        c->identity.store_id = hf_prng_next(&c->prng);
    while (c->identity.store_id == 0);
    if (*c->join) {
        c->identity.is_joining = true;
        c->identity.wants_vote = !c->config.join_as_learner;
        snprintf(c->identity.replaces, sizeof c->identity.replaces, "%s", c->replaces);
    } else {
        c->identity.node_id = c->config.node_id;
        memcpy(c->identity.cluster_id, cluster_id, 16);
        c->identity.n_members = n;
        memcpy(c->identity.members, members, n * sizeof *members);
    }
    if (*c->join || (*c->name && !is_named(c, c->name)))
        snprintf(c->identity.name, sizeof c->identity.name, "%s", c->name);
    rc = hf_identity_save(c->env->fs, c->dir, &c->identity);
    if (rc < 0)
        snprintf(why, why_size, "cannot write %s/identity: %s", c->dir, hf_strerror(rc));
    return rc;
}

static int open_identity(struct hf_consensus *c, const struct hf_member *members, uint32_t n, char *why,
                         size_t why_size)
{
    uint8_t cluster_id[16];
    char digits[24];
    bool is_listed = false;
    int rc;

    hf_cluster_id(c->cluster_word, members, n, cluster_id);
    rc = hf_identity_load(c->env->fs, c->dir, &c->identity, why, why_size);
    if (rc < 0 && rc != HF_E_NOENT)
        return rc;
    if (rc == HF_E_NOENT || (!c->identity.is_joining && !c->identity.is_formed)) {
        for (uint32_t i = 0; i < n; i++)
            is_listed |= members[i].id == c->config.node_id;
        if (!is_listed && !*c->join) {
            snprintf(why, why_size, "node %" PRIu64 " (--id) is not in the list of members (--peers)",
                     c->config.node_id);
            return HF_E_INVALID;
        }
    }
    if (rc == HF_E_NOENT)
        return new_identity(c, members, n, cluster_id, why, why_size);
    if (c->identity.is_removed) {
        snprintf(why, why_size,
                 "%s belongs to node %" PRIu64
                 ", which was removed from its cluster: to bring it back as a new member, "
                 "run holdfast repair --dir %s --from-peers and start it again, or give it another --dir",
                 c->dir, c->identity.node_id, c->dir);
        return HF_E_FOREIGN;
    }
    /* A node that joined got its id from the cluster; one that was repaired keeps its old id as its name. */
    snprintf(digits, sizeof digits, "%" PRIu64, c->config.node_id);
    if (c->config.node_id != 0 && c->identity.node_id != c->config.node_id && !is_named(c, digits) && !*c->join) {
        snprintf(why, why_size,
                 "%s belongs to node %" PRIu64 ", but this node was started as %" PRIu64 ": start it with --id %" PRIu64
                 " or give it another --dir",
                 c->dir, c->identity.node_id, c->config.node_id, c->identity.node_id);
        return HF_E_FOREIGN;
    }
    if (*c->name && c->identity.name[0] && !is_named(c, c->name)) {
        snprintf(
            why, why_size,
            "%s belongs to the node called %s, but this node was started as %s: start it with --name %s or give it "
            "another --dir",
            c->dir, c->identity.name, c->name, c->identity.name);
        return HF_E_FOREIGN;
    }
    if (memcmp(c->identity.cluster_id, cluster_id, sizeof cluster_id) != 0 &&
        ((!c->identity.is_formed && !c->identity.is_joining) ||
         (c->cluster_word[0] && (c->identity.is_formed || c->identity.node_id != 0)))) {
        snprintf(why, why_size,
                 "%s belongs to another cluster (the --cluster-id or the --peers it was started with differ): start it "
                 "as before, or give it another --dir",
                 c->dir);
        return HF_E_FOREIGN;
    }
    return 0;
}

int hf_consensus_open(struct hf_env *env, const struct hf_consensus_config *config,
                      const struct hf_consensus_events *events, struct hf_stats *stats, struct hf_consensus **out,
                      char *why, size_t why_size)
{
    struct hf_member members[HF_MEMBERS_MAX];
    struct hf_consensus *c;
    struct hf_fs *fs = env->fs;
    uint32_t n = 0;
    char *path;
    int rc;

    if (config->members && *config->members) {
        rc = hf_members_parse(config->members, members, &n, why, why_size);
        if (rc < 0)
            return rc;
    } else {
        memset(&members[0], 0, sizeof members[0]);
        members[0].id = config->node_id;
        snprintf(members[0].address, sizeof members[0].address, "%s",
                 config->peer_address && *config->peer_address ? config->peer_address : config->listen_address);
        n = 1;
    }

    c = hf_calloc(1, sizeof *c);
    c->env = env;
    c->config = *config;
    c->events = *events;
    c->stats = stats;
    c->dir = hf_strdup(config->dir);
    c->listen_address = hf_strdup(config->listen_address);
    c->client_address = hf_strdup(config->client_address ? config->client_address : "");
    c->cluster_word = hf_strdup(config->cluster_id ? config->cluster_id : "");
    c->config.dir = c->dir;
    c->config.listen_address = c->listen_address;
    c->config.client_address = c->client_address;
    c->config.cluster_id = c->cluster_word;
    c->config.members = NULL;
    c->name = hf_strdup(config->name ? config->name : "");
    c->join = hf_strdup(config->join ? config->join : "");
    c->peer_address = hf_strdup(config->peer_address ? config->peer_address : "");
    c->replaces = hf_strdup(config->replaces ? config->replaces : "");
    c->config.name = c->name;
    c->config.join = c->join;
    c->config.peer_address = c->peer_address;
    c->config.replaces = c->replaces;
    c->level = 1;
    hf_prng_seed(&c->prng, config->seed);
    hf_consensus_init_callbacks(c);
    hf_consensus_operate_init(c);
    c->elections = hf_stats_counter(stats, "raft_elections_total", NULL, "Elections this node started");
    c->leader_changes = hf_stats_counter(stats, "raft_leader_terms_total", NULL, "Terms in which this node led");
    c->appends_dropped =
        hf_stats_counter(stats, "raft_messages_dropped_total", NULL, "Messages not sent because a queue was full");
    c->pings = hf_stats_counter(stats, "raft_confirmation_rounds_total", NULL, "Confirmation rounds for reads");
    c->gates = hf_stats_counter(stats, "raft_read_gates_total", NULL, "Read gates opened");
    c->snapshots = hf_stats_counter(stats, "raft_marker_snapshots_total", NULL, "Marker snapshots taken");
    c->installs = hf_stats_counter(stats, "raft_state_installs_total", NULL, "Copies of the state installed");
    c->term_gauge = hf_stats_gauge(stats, "raft_term", NULL, "Current term");
    c->commit_gauge = hf_stats_gauge(stats, "raft_commit_index", NULL, "Highest index known to be committed");
    c->delivered_gauge =
        hf_stats_gauge(stats, "raft_delivered_index", NULL, "Highest index handed to the state machine");
    c->role_gauge = hf_stats_gauge(stats, "raft_role", NULL, "0 unavailable, 1 follower, 2 candidate, 3 leader");
    hf_consensus_gate_init(c);

    rc = fs->mkdir(fs, c->dir);
    if (rc < 0 && rc != HF_E_EXISTS) {
        snprintf(why, why_size, "cannot create the data directory %s: %s", c->dir, hf_strerror(rc));
        goto fail;
    }
    path = hf_asprintf("%s/lock", c->dir);
    rc = fs->open(fs, path, HF_FS_WRITE | HF_FS_CREATE, &c->lock);
    if (rc == 0)
        rc = fs->lock(fs, c->lock);
    if (rc < 0) {
        snprintf(why, why_size, "cannot lock %s: %s", path,
                 rc == HF_E_LOCKED ? "another process uses this data directory" : hf_strerror(rc));
        hf_free(path);
        goto fail;
    }
    hf_free(path);
    rc = open_identity(c, members, n, why, why_size);
    if (rc < 0)
        goto fail;
    c->config.node_id = c->identity.node_id;
    rc = hf_marker_load(fs, c->dir, &c->marker, why, why_size);
    if (rc == HF_E_NOENT) {
        c->marker.generation = 1;
        if (c->identity.is_formed) {
            /* Written before the cluster was formed; its loss means lost state. */
            snprintf(why, why_size,
                     "%s/CURRENT is missing although this node was a member before: the directory is damaged; put it "
                     "back, or run holdfast repair --dir %s --from-peers",
                     c->dir, c->dir);
            rc = HF_E_CORRUPT;
            goto fail;
        }
        rc = hf_marker_save(fs, c->dir, &c->marker);
        if (rc < 0)
            snprintf(why, why_size, "cannot write %s/CURRENT: %s", c->dir, hf_strerror(rc));
    }
    if (rc < 0)
        goto fail;

    path = hf_asprintf("%s/journal", c->dir);
    struct hf_journal_config jc = {
        .dir = path, .segment_bytes = config->journal_segment_bytes, .tail_bytes_max = config->journal_tail_bytes};
    rc = hf_journal_open(env, &jc, &c->journal_events, stats, &c->recovered, &c->journal, why, why_size);
    hf_free(path);
    if (rc < 0)
        goto fail;
    if (c->recovered.torn_tail)
        HF_LOG_WARN("consensus", "the journal ended in an unfinished write, which was cut", "next=%" PRIu64,
                    c->recovered.next_index);
    bool is_journal_empty = c->recovered.next_index == 1 && c->recovered.term == 0;
    if (c->identity.is_formed && c->recovered.next_index == 1 && !c->marker.install_pending) {
        snprintf(why, why_size,
                 "the journal in %s is empty although this node was a member before: a voter that lost its log must "
                 "not come back under the same identity; run holdfast repair --dir %s --from-peers",
                 c->dir, c->dir);
        rc = HF_E_CORRUPT;
        goto fail;
    }
    if (!c->identity.is_formed && !c->identity.is_joining && !is_journal_empty && c->recovered.next_index > 1) {
        /* Stopped between writing the first entry and saying so. */
        c->identity.is_formed = true;
        rc = hf_identity_save(fs, c->dir, &c->identity);
        if (rc < 0) {
            snprintf(why, why_size, "cannot write %s/identity: %s", c->dir, hf_strerror(rc));
            goto fail;
        }
    }
    *out = c;
    return 0;

fail:
    hf_consensus_close(c);
    return rc;
}

uint64_t hf_consensus_generation(const struct hf_consensus *c)
{
    return c->marker.generation;
}

/* What start began and had to wait for: the journal's reset behind an installed copy, or the first entry. */
void hf_consensus_go_on_starting(struct hf_consensus *c)
{
    char why[512];
    int rc;

    if (!c->is_started || c->is_closing || c->has_failed || c->is_raft_open)
        return;
    if (!c->is_finishing_install) {
        hf_consensus_try_form(c);
        return;
    }
    if (hf_journal_durable_index(c->journal) != c->marker.index)
        return;
    rc = hf_consensus_finish_install_at_start(c);
    if (rc < 0) {
        hf_consensus_fail(c, rc, "cannot write %s/CURRENT: %s", c->dir, hf_strerror(rc));
        return;
    }
    HF_LOG_INFO("consensus", "finished installing a copy of the state", "index=%" PRIu64, c->marker.index);
    c->is_finishing_install = false;
    c->quiet_until_ms = hf_consensus_now(c) + HF_LEASE_MAX_MS;
    rc = hf_consensus_begin_raft(c, why, sizeof why);
    if (rc < 0)
        hf_consensus_fail(c, rc, "%s", why);
}

/* R16: the journal must reach the marker and the state. */
static int check_parts(struct hf_consensus *c, uint64_t applied_index, char *why, size_t why_size)
{
    if (!c->marker.install_pending &&
        (c->recovered.next_index <= applied_index || c->recovered.next_index <= c->marker.index ||
         c->recovered.first_index > applied_index + 1)) {
        snprintf(why, why_size,
                 "the parts of %s do not fit together: journal %" PRIu64 "..%" PRIu64 ", state at %" PRIu64
                 ", marker at %" PRIu64
                 ": put the directory back as it was, or run holdfast repair --dir %s --from-peers",
                 c->dir, c->recovered.first_index, c->recovered.next_index - 1, applied_index, c->marker.index, c->dir);
        return HF_E_CORRUPT;
    }
    if (c->marker.index > applied_index || (c->marker.install_pending && c->marker.index != applied_index)) {
        snprintf(why, why_size,
                 "%s/state-%" PRIu64 ".db is at index %" PRIu64 " but CURRENT says %" PRIu64
                 ": the database was replaced or damaged; put it back, or run holdfast repair --dir %s --from-peers",
                 c->dir, c->marker.generation, applied_index, c->marker.index, c->dir);
        return HF_E_CORRUPT;
    }
    return 0;
}

int hf_consensus_start(struct hf_consensus *c, uint64_t applied_index, char *why, size_t why_size)
{
    int rc = check_parts(c, applied_index, why, why_size);

    if (rc < 0)
        return rc;
    rc = c->env->executor_open(c->env, "hf-meta", &c->meta_executor);
    if (rc < 0) {
        snprintf(why, why_size, "cannot start a thread: %s", hf_strerror(rc));
        return rc;
    }
    c->applied_at_start = applied_index;
    c->state_durable_index = applied_index;
    c->started_ms = hf_consensus_now(c);
    c->is_started = true;
    hf_consensus_delete_old(c);
    rc = hf_consensus_listen(c, why, why_size);
    if (rc < 0)
        return rc;
    if (c->marker.install_pending) {
        c->is_finishing_install = true;
        hf_journal_reset(c->journal, c->marker.index + 1);
    } else if (c->identity.is_joining && c->identity.node_id == 0) {
        hf_consensus_join_begin(c);
    } else if (c->identity.is_formed || c->identity.is_joining) {
        c->quiet_until_ms = c->started_ms + HF_LEASE_MAX_MS;
        rc = hf_consensus_begin_raft(c, why, why_size);
        if (rc < 0)
            return rc;
    } else {
        hf_consensus_try_form(c);
    }
    c->env->timer_start(c->env, &c->status_timer, HF_STATUS_INTERVAL_MS);
    return 0;
}

void hf_consensus_close(struct hf_consensus *c)
{
    struct hf_deferred *d;

    if (!c)
        return;
    c->is_closing = true;
    hf_consensus_gate_reset(c, HF_E_NOT_LEADER);
    hf_consensus_operate_close(c);
    hf_consensus_join_close(c);
    c->env->timer_stop(c->env, &c->timer);
    c->env->timer_stop(c->env, &c->status_timer);
    c->env->timer_stop(c->env, &c->gate_timer);
    c->env->unpost(c->env, &c->delivery_task);
    c->env->unpost(c->env, &c->gate_task);
    for (uint32_t i = 0; i < c->n_others; i++)
        hf_consensus_drop_sends(c, &c->others[i]);
    if (c->peers)
        hf_peers_close(c->peers);
    if (c->meta_executor)
        c->env->executor_close(c->env, c->meta_executor);
    if (c->journal)
        hf_journal_close(c->journal);
    if (c->is_raft_open && c->is_held) { /* what the update that waits holds */
        if (c->update.flags & RAFT_UPDATE_ENTRIES)
            raft_free(c->update.entries.batch[0].batch);
        if (c->update.flags & RAFT_UPDATE_SNAPSHOT) {
            raft_configuration_close(&c->update.snapshot.metadata.configuration);
            raft_free(c->update.snapshot.chunk.base);
        }
    }
    hf_consensus_drop_step(c);
    while ((d = c->deferred_head) != NULL) {
        c->deferred_head = d->next;
        hf_free(d);
    }
    if (c->is_raft_open)
        raft_close(&c->raft, NULL);
    hf_marker_free(&c->marker);
    hf_marker_free(&c->marker_next);
    hf_marker_free(&c->marker_durable);
    hf_consensus_install_free(c);
    if (c->lock)
        c->env->fs->close(c->env->fs, c->lock);
    hf_free(c->dir);
    hf_free(c->listen_address);
    hf_free(c->client_address);
    hf_free(c->cluster_word);
    hf_free(c->name);
    hf_free(c->join);
    hf_free(c->peer_address);
    hf_free(c->replaces);
    hf_free(c);
}
