/* compact.c: marker snapshots and cutting the journal (I4, R14, R16).
 *
 * The state itself is the snapshot: SQLite is durable at some index, so a snapshot is only a marker that says so.
 * Order: marker file durable -> RAFT_SNAPSHOT to the core -> journal cut. The journal keeps a tail behind the marker:
 * journal_retain_bytes for everyone, more (up to journal_max_bytes) while a voter lags. */
#include "base/crashpoint.h"
#include "consensus/internal.h"

#include <inttypes.h>
#include <stdio.h>

/* Leader: the lowest index that some member still needs; that is the last one it is known to have, because the term of
 * that entry goes with the next one. Others: what the leader said in the present term, 0 = unknown. What was said in an
 * earlier one counts for nothing: a member may have had entries of that term which were replaced since. */
uint64_t hf_consensus_needed_from(const struct hf_consensus *c)
{
    uint64_t lowest = UINT64_MAX;

    if (hf_consensus_is_leader(c)) {
        for (unsigned i = 0; i < c->raft.configuration.n; i++) {
            const struct raft_server *s = &c->raft.configuration.servers[i];
            raft_index match = 0;

            if (s->role == RAFT_SPARE || s->id == c->config.node_id)
                continue;
            if (raft_match_index(&c->raft, s->id, &match) == 0 && match < lowest)
                lowest = match > 0 ? match : 1;
        }
        if (c->pin_index != 0 && c->pin_index < lowest)
            lowest = c->pin_index;
        return lowest == UINT64_MAX ? c->commit_index + 1 : lowest;
    }
    for (uint32_t i = 0; i < c->n_others; i++)
        if (c->others[i].id == hf_consensus_leader(c) && c->others[i].needs_term == c->raft.current_term)
            lowest = c->others[i].needs_from;
    return lowest == UINT64_MAX ? 0 : lowest;
}

static void save_marker(struct hf_job *job)
{
    struct hf_consensus *c = job->data;

    c->marker_rc = hf_marker_save(c->env->fs, c->dir, &c->marker_next);
}

/* First index to keep when the marker stands at `index`. */
static uint64_t keep_from(const struct hf_consensus *c, uint64_t index)
{
    uint64_t first = hf_journal_first_index(c->journal), from = index + 1, needed = hf_consensus_needed_from(c);
    uint64_t limit = c->config.journal_max_bytes;

    /* R17: a copy of the state on its way keeps the entries behind it, up to a limit of its own; with that, what a
     * member needs that lags less than journal_max_bytes is kept as well. */
    if (c->pin_index != 0 && hf_consensus_is_leader(c))
        limit += c->config.journal_pin_bytes;

    /* By space on disk: records say nothing about it (a batch of one small entry takes several times its size). */
    if (hf_journal_first_within(c->journal, c->config.journal_retain_bytes) < from)
        from = hf_journal_first_within(c->journal, c->config.journal_retain_bytes);
    /* Not known yet (we just started, or the leader is new): whatever the limit allows, for we may be the next leader
     * of a member that lags. */
    if (needed < from) {
        uint64_t allowed = hf_journal_first_within(c->journal, limit);

        from = allowed > from ? from : allowed > needed ? allowed : needed;
    }
    return from < first ? first : from;
}

static void on_marker_saved(struct hf_job *job)
{
    struct hf_consensus *c = job->data;
    struct raft_event event = {.type = RAFT_SNAPSHOT};
    struct raft_buffer buf;
    struct hf_marker next = c->marker_next;
    uint64_t from;
    int rv;

    c->is_marker_running = false;
    memset(&c->marker_next, 0, sizeof c->marker_next);
    hf_crash_point("compact-marker-saved");
    if (c->install.is_active) { /* it began meanwhile: its own marker follows this one */
        hf_marker_free(&next);
        return;
    }
    if (c->is_closing || c->has_failed || c->marker_rc < 0 || !hf_consensus_can_step(c)) {
        if (c->marker_rc < 0)
            HF_LOG_ERROR("consensus", "cannot write the marker", "error=\"%s\"", hf_strerror(c->marker_rc));
        if (c->marker_rc == 0) {
            /* The file already says so; the core and the journal follow at the next round. */
            hf_marker_free(&c->marker);
            c->marker = next;
        } else {
            hf_marker_free(&next);
        }
        return;
    }
    hf_marker_free(&c->marker);
    c->marker = next;
    if (c->raft.trail.snapshot.index >= next.index)
        return;
    buf.len = next.configuration.len;
    buf.base = raft_malloc(buf.len);
    HF_ASSERT(buf.base != NULL);
    memcpy(buf.base, next.configuration.data, buf.len);
    rv = raft_configuration_decode(&buf, &event.snapshot.metadata.configuration);
    raft_free(buf.base);
    if (rv != 0) {
        hf_consensus_fail(c, HF_E_CORRUPT, "the configuration of the state does not decode: %s", raft_strerror(rv));
        return;
    }
    from = keep_from(c, next.index);
    event.snapshot.metadata.index = next.index;
    event.snapshot.metadata.term = next.term;
    event.snapshot.metadata.configuration_index = next.configuration_index;
    event.snapshot.trailing = (unsigned)(next.index + 1 - from);
    hf_counter_add(c->snapshots, 1);
    HF_LOG_INFO("consensus", "marker snapshot", "index=%" PRIu64 " term=%" PRIu64 " keep_from=%" PRIu64, next.index,
                next.term, from);
    hf_consensus_step(c, &event);
    hf_journal_truncate_prefix(c->journal, from - 1);
    hf_crash_point("compact-journal-cut");
}

static uint64_t bytes_max(const struct hf_consensus *c, bool is_pinned)
{
    const struct hf_consensus_config *k = &c->config;
    uint64_t kept = k->journal_max_bytes > k->journal_retain_bytes ? k->journal_max_bytes : k->journal_retain_bytes;

    if (is_pinned)
        kept += k->journal_pin_bytes;
    return hf_journal_bytes_bound(c->journal, kept, 4 * k->snapshot_journal_bytes, 0);
}

/* Take a marker when the journal has grown enough since the last one and the state is durable further on. */
void hf_consensus_compact(struct hf_consensus *c)
{
    uint64_t index = c->marker_durable.index;

    if (c->pin_index == 0 && hf_journal_disk_bytes(c->journal) <= bytes_max(c, false))
        c->was_pinned = false;
    if (!c->is_raft_open || c->is_marker_running || c->is_held || c->has_failed || c->is_closing ||
        c->install.is_active)
        return; /* R29 */
    if (index <= c->marker.index || index > c->delivered_index || index >= hf_journal_next_index(c->journal))
        return;
    if (hf_journal_bytes_after(c->journal, hf_journal_first_index(c->journal) - 1) <
        c->config.journal_retain_bytes + c->config.snapshot_journal_bytes)
        return;
    if (c->marker.index != 0 && (!c->was_pinned || c->pin_index != 0) &&
        hf_journal_bytes_after(c->journal, c->marker.index) - hf_journal_bytes_after(c->journal, index) <
            c->config.snapshot_journal_bytes / 2)
        return;
    c->is_marker_running = true;
    c->marker_next = c->marker_durable;
    c->marker_next.generation = c->marker.generation;
    memset(&c->marker_durable, 0, sizeof c->marker_durable);
    c->marker_job.data = c;
    c->marker_job.run = save_marker;
    c->marker_job.done = on_marker_saved;
    c->env->executor_submit(c->env, c->meta_executor, &c->marker_job);
}

void hf_consensus_state_durable(struct hf_consensus *c, uint64_t index, uint64_t term, uint64_t configuration_index,
                                struct hf_slice configuration)
{
    /* While a copy is being installed the old state may still speak of itself. */
    if (c->install.is_active || index <= c->state_durable_index || configuration.len == 0)
        return;
    c->state_durable_index = index;
    c->marker_durable.index = index;
    c->marker_durable.term = term;
    c->marker_durable.configuration_index = configuration_index;
    c->marker_durable.configuration.len = 0;
    hf_buf_put(&c->marker_durable.configuration, configuration.ptr, configuration.len);
    hf_consensus_compact(c);
}

/* What the journal's files stay below: what may be kept for members that lag (and, while a copy of the state travels,
 * behind it), what grows until the next marker, and the segments at both ends and in stock. When the state becomes
 * durable more slowly than the log grows (I4), nothing is appended until it is: a leader takes no command, a follower
 * takes no entry. */
uint64_t hf_consensus_journal_bytes_max(const struct hf_consensus *c)
{
    return bytes_max(c, c->pin_index != 0 || c->was_pinned);
}

bool hf_consensus_is_journal_full(const struct hf_consensus *c)
{
    uint64_t not_durable;

    if (hf_journal_disk_bytes(c->journal) + c->config.journal_segment_bytes <= hf_consensus_journal_bytes_max(c) ||
        c->commit_index <= c->state_durable_index)
        return false;
    /* Of what is committed only: the rest may need the very entries that would be refused to become so. */
    not_durable = hf_journal_bytes_after(c->journal, c->state_durable_index) -
                  hf_journal_bytes_after(c->journal, c->commit_index);
    return not_durable >= c->config.snapshot_journal_bytes;
}

bool hf_consensus_is_throttled(const struct hf_consensus *c)
{
    if (hf_consensus_is_journal_full(c))
        return true;
    return c->throttled_until_ms != 0 && hf_consensus_now(c) < c->throttled_until_ms;
}

/* An entry of this many bytes was taken. From three quarters of what may be kept behind a copy of the state on its way
 * to a member, each entry is followed by a pause in proportion to its size: at the limit, a second for a MiB. Slower
 * writes for a while are better than a copy that is too old when it arrives, again and again. */
void hf_consensus_throttle(struct hf_consensus *c, uint64_t bytes)
{
    uint64_t limit = c->config.journal_max_bytes + c->config.journal_pin_bytes, kept, over, quarter = limit / 4;

    c->throttled_until_ms = 0;
    if (c->pin_index == 0 || quarter == 0) {
        c->is_throttling = false;
        return;
    }
    kept = hf_journal_bytes_after(c->journal, c->pin_index);
    over = kept > limit - quarter ? kept - (limit - quarter) : 0;
    if (over > quarter)
        over = quarter;
    if (over > 0 && !c->is_throttling)
        HF_LOG_WARN("consensus", "writes are slowed: a copy of the state on its way keeps much of the journal",
                    "kept=%" PRIu64 " limit=%" PRIu64, kept, limit);
    c->is_throttling = over > 0;
    if (over > 0)
        c->throttled_until_ms = hf_consensus_now(c) + bytes * 1000 / (1u << 20) * over / quarter;
}
