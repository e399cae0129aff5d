/* install.c: a whole copy of the state in the place of what this node has (R16), and the leader's side of it.
 *
 * Leader: libraft's core wants to send a snapshot to a member whose next entry was cut. We do not let that message
 * out: the owner is told (on_behind) and carries the database there by its own way; when the member has it verified
 * and synced, hf_consensus_send_install lets InstallSnapshot go with the copy's index, term and configuration.
 *
 * Member: InstallSnapshot reaches the core only when the copy that it names is here. Then the core forgets its log and
 * asks for the snapshot to be stored. The order, each step durable before the next:
 *
 *   1  incoming.db -> state-<g+1>.db, folder synced
 *   2  CURRENT: generation g+1, index, term, configuration, install pending      (before: the old state, after: the
 * new) 3  journal reset to index + 1, term and vote kept 4  CURRENT: no longer pending 5  the owner swaps the state;
 * delivery goes on at index + 1; the core hears that the snapshot is stored 6  state-<g>.db and what stands beside it
 * are deleted
 *
 * A start that finds "install pending" does 3 and 4 again; a start deletes databases of other generations. From the
 * core's request until step 5 nothing is delivered and no entry is reported as stored (R12), and no marker snapshot is
 * taken (R29). */
#include "base/crashpoint.h"
#include "consensus/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- the leader's side -------------------------------------------------------------------------------- */

/* Nobody is there to receive: no copy is made, and none keeps the journal back. */
static bool is_away(const struct hf_consensus *c, const struct hf_other *o)
{
    return hf_peers_silence_ms(c->peers, o->id) > HF_AWAY_MS;
}

/* The oldest copy that will do: our log goes on behind it. Markers that are taken while a copy is on its way do not
 * make it too old, as long as the journal is kept for it (R17). */
static uint64_t oldest_copy(const struct hf_consensus *c)
{
    uint64_t snapshot = c->raft.trail.snapshot.index, first = c->raft.trail.offset + 1;

    return first < snapshot ? first : snapshot;
}

/* The core asks for it again and again (install_snapshot_timeout), which keeps the owner informed. */
void hf_consensus_note_behind(struct hf_consensus *c, struct hf_other *o)
{
    if (!o->needs_copy)
        HF_LOG_WARN("consensus",
                    "a member needs entries that are no longer in the journal: it gets a copy of the state",
                    "member=%" PRIu64 " first=%" PRIu64, o->id, hf_journal_first_index(c->journal));
    if (is_away(c, o))
        return;
    o->needs_copy = true;
    if (o->level >= HF_LEVEL_COPIES && c->events.on_behind && !c->is_closing)
        c->events.on_behind(c->events.data, o->id, oldest_copy(c));
}

/* Will it do without a copy, also when nothing is kept for one any more (R17)? The first half is the core's own rule:
 * the journal may hold a little more than the core knows of. */
static bool has_caught_up(const struct hf_consensus *c, uint64_t match)
{
    return (match > c->raft.trail.offset || match == c->raft.trail.snapshot.index) &&
           match >= hf_journal_first_within(c->journal, c->config.journal_max_bytes);
}

/* Members that have caught up, went away, or are none any more, need no copy; and nobody gets one from a node that
 * leads no more.
 */
void hf_consensus_check_behind(struct hf_consensus *c)
{
    for (uint32_t i = 0; i < c->n_others; i++) {
        struct hf_other *o = &c->others[i];
        raft_index match = 0;

        if (!o->needs_copy)
            continue;
        if (hf_consensus_is_leader(c) && !is_away(c, o) && raft_match_index(&c->raft, o->id, &match) == 0 &&
            !has_caught_up(c, match))
            continue;
        o->needs_copy = false;
        if (c->events.on_caught_up && !c->is_closing)
            c->events.on_caught_up(c->events.data, o->id);
    }
}

void hf_consensus_send_install(struct hf_consensus *c, uint64_t member, uint64_t index, uint64_t term,
                               uint64_t configuration_index, struct hf_slice configuration)
{
    struct hf_other *o = hf_consensus_other(c, member);
    struct hf_buf buf = {0};

    if (!o || !hf_consensus_is_leader(c) || hf_consensus_is_mute(c) || c->is_held || index > c->commit_index)
        return;
    hf_codec_put_install(&buf, raft_current_term(&c->raft), index, term, configuration_index, configuration);
    hf_consensus_send_simple(c, member, HF_MSG_INSTALL_SNAPSHOT, hf_buf_slice(&buf));
    hf_buf_free(&buf);
}

void hf_consensus_pin(struct hf_consensus *c, uint64_t index)
{
    c->was_pinned |= c->pin_index != 0;
    c->pin_index = index;
}

/* ---- the member's side -------------------------------------------------------------------------------- */

bool hf_consensus_may_receive(const struct hf_consensus *c, uint64_t member, uint64_t index, uint64_t term, char *why,
                              size_t why_size)
{
    if (!c->is_raft_open || c->is_closing || c->has_failed)
        snprintf(why, why_size, "node %" PRIu64 " is not ready", c->config.node_id);
    else if (!hf_consensus_knows(c, member))
        snprintf(why, why_size, "node %" PRIu64 " does not know member %" PRIu64, c->config.node_id, member);
    else if (c->install.is_active || c->raft.snapshot.installing) /* the latter first, while a new term is stored */
        snprintf(why, why_size, "node %" PRIu64 " installs a copy already", c->config.node_id);
    else if (index <= c->commit_index || term == 0)
        snprintf(why, why_size, "node %" PRIu64 " has committed up to %" PRIu64 " already", c->config.node_id,
                 c->commit_index);
    else if (c->raft.state == RAFT_LEADER)
        snprintf(why, why_size, "node %" PRIu64 " leads", c->config.node_id);
    else
        return true;
    return false;
}

/* An InstallSnapshot came: may the core see it? Takes the copy when it does. */
bool hf_consensus_admit_install(struct hf_consensus *c, const struct raft_install_snapshot *m)
{
    const char *path = NULL;

    if (c->install.is_active)
        return false;
    if (m->term < raft_current_term(&c->raft) || c->raft.trail.snapshot.index >= m->last_index)
        return true; /* the core only answers it */
    /* A late one: the next heartbeat tells how far we are. The core would compare terms, and believe those of a member
     * that is confused. */
    if (m->last_index <= c->commit_index)
        return false;
    if (!c->events.take_copy || !c->events.take_copy(c->events.data, m->last_index, m->last_term, &path))
        return false;
    hf_free(c->install.from);
    c->install.from = hf_strdup(path);
    return true;
}

/* The core has seen InstallSnapshot and found that its log holds all that: the copy was taken for nothing. */
void hf_consensus_drop_unused_copy(struct hf_consensus *c)
{
    bool is_wanted = c->install.is_active || (c->is_held && (c->update.flags & (RAFT_UPDATE_SNAPSHOT)));
    int rc;

    if (!c->install.from || is_wanted || c->has_failed)
        return;
    rc = c->env->fs->unlink(c->env->fs, c->install.from);
    if (rc < 0 && rc != HF_E_NOENT)
        HF_LOG_WARN("consensus", "cannot delete a copy of the state", "file=%s error=\"%s\"", c->install.from,
                    hf_strerror(rc));
    hf_free(c->install.from);
    c->install.from = NULL;
}

static char *state_path(const struct hf_consensus *c, uint64_t generation, const char *suffix)
{
    return hf_asprintf("%s/state-%" PRIu64 ".db%s", c->dir, generation, suffix);
}

static void place_files(struct hf_job *job)
{
    struct hf_consensus *c = job->data;
    struct hf_fs *fs = c->env->fs;
    char *to = state_path(c, c->install.marker.generation, "");

    hf_crash_point("install-before-rename");
    c->install.rc = fs->rename(fs, c->install.from, to);
    hf_crash_point("install-after-rename");
    if (c->install.rc == 0)
        c->install.rc = fs->sync_dir(fs, c->dir);
    if (c->install.rc == 0)
        c->install.rc = hf_marker_save(fs, c->dir, &c->install.marker);
    hf_crash_point("install-current-pending");
    hf_free(to);
}

static void finish_files(struct hf_job *job)
{
    struct hf_consensus *c = job->data;

    hf_crash_point("install-journal-reset");
    c->install.rc = hf_marker_save(c->env->fs, c->dir, &c->install.marker);
    hf_crash_point("install-current-final");
}

struct cleaner {
    uint64_t keep;
    char *names[64];
    unsigned n;
};

static void collect_old(void *data, const char *name)
{
    struct cleaner *cl = data;
    char *end;
    unsigned long long generation;

    if (strncmp(name, "state-", 6) != 0 || name[6] < '0' || name[6] > '9')
        return;
    generation = strtoull(name + 6, &end, 10);
    if (strncmp(end, ".db", 3) == 0 && generation != cl->keep && cl->n < sizeof cl->names / sizeof cl->names[0])
        cl->names[cl->n++] = hf_strdup(name);
}

/* Databases of other generations are left over from an install: from before it (done) or of one that never came to
 * name its file in CURRENT. */
static void delete_all_but(struct hf_consensus *c, uint64_t generation)
{
    struct hf_fs *fs = c->env->fs;
    struct cleaner cl = {.keep = generation};
    int rc = fs->list(fs, c->dir, collect_old, &cl);

    for (unsigned i = 0; i < cl.n; i++) {
        char *path = hf_asprintf("%s/%s", c->dir, cl.names[i]);

        rc = fs->unlink(fs, path);
        if (rc < 0 && rc != HF_E_NOENT)
            HF_LOG_WARN("consensus", "cannot delete an old database", "file=%s error=\"%s\"", path, hf_strerror(rc));
        hf_free(path);
        hf_free(cl.names[i]);
    }
}

void hf_consensus_delete_old(struct hf_consensus *c)
{
    delete_all_but(c, c->marker.generation);
}

static void run_cleanup(struct hf_job *job)
{
    struct hf_consensus *c = job->data;

    delete_all_but(c, c->install.cleanup_keep);
    hf_crash_point("install-old-deleted");
}

static void on_cleaned(struct hf_job *job)
{
    struct hf_consensus *c = job->data;

    c->install.is_cleaning = false;
}

/* What is not deleted now (another deletion is still under way) is deleted at the next start. */
static void begin_cleanup(struct hf_consensus *c)
{
    if (c->install.is_cleaning)
        return;
    c->install.is_cleaning = true;
    c->install.cleanup_keep = c->marker.generation;
    c->install.cleanup_job.data = c;
    c->install.cleanup_job.run = run_cleanup;
    c->install.cleanup_job.done = on_cleaned;
    c->env->executor_submit(c->env, c->meta_executor, &c->install.cleanup_job);
}

static void submit(struct hf_consensus *c, void (*run)(struct hf_job *), void (*done)(struct hf_job *))
{
    c->install.job.data = c;
    c->install.job.run = run;
    c->install.job.done = done;
    c->env->executor_submit(c->env, c->meta_executor, &c->install.job);
}

static bool goes_on(struct hf_consensus *c, const char *what)
{
    if (c->is_closing || c->has_failed)
        return false;
    if (c->install.rc == 0)
        return true;
    hf_consensus_fail(c, c->install.rc, "cannot install the copy of the state in %s (%s): %s", c->dir, what,
                      hf_strerror(c->install.rc));
    return false;
}

static void on_placed(struct hf_job *job)
{
    struct hf_consensus *c = job->data;

    if (!goes_on(c, "placing state-*.db and writing CURRENT"))
        return;
    c->install.phase = HF_INSTALL_JOURNAL;
    hf_journal_reset(c->journal, c->install.marker.index + 1); /* hf_consensus_install_journal_done follows */
}

static void on_final(struct hf_job *job)
{
    struct hf_consensus *c = job->data;
    char *path;

    if (!goes_on(c, "writing CURRENT"))
        return;
    c->install.phase = HF_INSTALL_SWAP;
    path = state_path(c, c->install.marker.generation, "");
    hf_free(c->install.path);
    c->install.path = path;
    if (c->events.on_install)
        c->events.on_install(c->events.data, path, c->install.marker.index);
    else
        hf_consensus_installed(c);
}

/* The journal is empty and starts behind the copy. */
void hf_consensus_install_journal_done(struct hf_consensus *c)
{
    HF_ASSERT(c->install.phase == HF_INSTALL_JOURNAL);
    c->install.phase = HF_INSTALL_CURRENT;
    c->install.marker.install_pending = false;
    submit(c, finish_files, on_final);
}

/* The core asks for the snapshot to be stored: from inside carry_out. */
void hf_consensus_begin_install(struct hf_consensus *c)
{
    struct raft_snapshot_metadata *metadata = &c->update.snapshot.metadata;
    struct raft_buffer buf;
    int rv;

    if (!c->install.from) {
        hf_consensus_fail(c, HF_E_INVALID, "the consensus core asked to install a snapshot that nobody sent");
        return;
    }
    HF_ASSERT(!c->install.is_active);
    raft_free(c->update.snapshot.chunk.base);
    c->install.is_active = true;
    c->install.phase = HF_INSTALL_FILES;
    c->install.metadata = *metadata;
    hf_marker_free(&c->install.marker);
    rv = raft_configuration_encode(&metadata->configuration, &buf);
    if (rv != 0) {
        hf_consensus_fail(c, HF_E_NOMEM, "cannot encode a configuration: %s", raft_strerror(rv));
        return;
    }
    hf_buf_put(&c->install.marker.configuration, buf.base, buf.len);
    raft_free(buf.base);
    c->install.marker.generation = c->marker.generation + 1;
    c->install.marker.install_pending = true;
    c->install.marker.index = metadata->index;
    c->install.marker.term = metadata->term;
    c->install.marker.configuration_index = metadata->configuration_index;
    c->durable_index = 0;
    c->durable_pending = 0;
    hf_counter_add(c->installs, 1);
    HF_LOG_INFO("consensus", "installing a copy of the state",
                "index=%" PRIu64 " term=%" PRIu64 " generation=%" PRIu64 " delivered=%" PRIu64,
                (uint64_t)metadata->index, (uint64_t)metadata->term, c->install.marker.generation, c->delivered_index);
    submit(c, place_files, on_placed);
}

/* The last step towards the core waits while an update is held. */
void hf_consensus_install_progress(struct hf_consensus *c)
{
    struct raft_event event = {.type = RAFT_PERSISTED_SNAPSHOT};
    uint64_t index = c->install.marker.index;

    if (c->install.phase != HF_INSTALL_TELL || !hf_consensus_can_step(c))
        return;
    hf_marker_free(&c->marker);
    c->marker = c->install.marker;
    memset(&c->install.marker, 0, sizeof c->install.marker);
    hf_marker_free(&c->marker_durable);
    c->delivered_index = index;
    c->applied_at_start = index;
    c->state_durable_index = index;
    if (c->commit_index < index)
        c->commit_index = index;
    c->durable_index = index;
    c->install.phase = HF_INSTALL_IDLE;
    c->install.is_active = false;
    hf_free(c->install.from);
    c->install.from = NULL;
    c->is_behind = false;
    c->problem[0] = 0;
    hf_gauge_set(c->delivered_gauge, (int64_t)index);
    event.persisted_snapshot.metadata = c->install.metadata;
    event.persisted_snapshot.offset = 0;
    event.persisted_snapshot.last = true;
    memset(&c->install.metadata, 0, sizeof c->install.metadata);
    HF_LOG_INFO("consensus", "the copy of the state is installed", "index=%" PRIu64 " generation=%" PRIu64, index,
                c->marker.generation);
    hf_consensus_step(c, &event);
    hf_consensus_members_changed(c);
    hf_consensus_check_self(c);
    begin_cleanup(c);
}

void hf_consensus_installed(struct hf_consensus *c)
{
    HF_ASSERT(c->install.phase == HF_INSTALL_SWAP);
    hf_crash_point("install-swapped");
    c->install.phase = HF_INSTALL_TELL;
    hf_consensus_install_progress(c);
}

/* At start: CURRENT said that an install was under way; the journal has been reset (again) since. */
int hf_consensus_finish_install_at_start(struct hf_consensus *c)
{
    c->marker.install_pending = false;
    return hf_marker_save(c->env->fs, c->dir, &c->marker);
}

void hf_consensus_install_free(struct hf_consensus *c)
{
    if (c->install.is_active)
        raft_configuration_close(&c->install.metadata.configuration);
    hf_marker_free(&c->install.marker);
    hf_free(c->install.from);
    hf_free(c->install.path);
}
