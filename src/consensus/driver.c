/* driver.c: events into libraft's core, updates out of it. See internal.h for the order of effects, and
 * docs/consensus.md for what the core leaves to us. */
#include "consensus/internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

_Static_assert((int)HF_ENTRY_COMMAND == (int)RAFT_COMMAND, "entry types are the core's");
_Static_assert((int)HF_ENTRY_BARRIER == (int)RAFT_BARRIER, "entry types are the core's");
_Static_assert((int)HF_ENTRY_CONFIGURATION == (int)RAFT_CHANGE, "entry types are the core's");
_Static_assert(sizeof(raft_index) == sizeof(uint64_t), "indexes are 64 bits");

void hf_consensus_fail(struct hf_consensus *c, int err, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (c->has_failed)
        return;
    c->has_failed = true;
    c->env->timer_stop(c->env, &c->timer);
    snprintf(c->problem, sizeof c->problem, "%.250s", text);
    if (c->events.on_failed)
        c->events.on_failed(c->events.data, err, text);
}

uint64_t hf_consensus_now(const struct hf_consensus *c)
{
    return c->env->boot_ms(c->env);
}

struct hf_other *hf_consensus_other(struct hf_consensus *c, uint64_t id)
{
    for (uint32_t i = 0; i < c->n_others; i++)
        if (c->others[i].id == id)
            return &c->others[i];
    return NULL;
}

const struct raft_server *hf_consensus_server(const struct hf_consensus *c, uint64_t id)
{
    for (unsigned i = 0; i < c->raft.configuration.n; i++)
        if (c->raft.configuration.servers[i].id == id)
            return &c->raft.configuration.servers[i];
    return NULL;
}

uint32_t hf_consensus_voters(const struct hf_consensus *c)
{
    uint32_t n = 0;

    for (unsigned i = 0; i < c->raft.configuration.n; i++)
        n += c->raft.configuration.servers[i].role == RAFT_VOTER;
    return n;
}

bool hf_consensus_is_leader(const struct hf_consensus *c)
{
    return c->is_raft_open && c->raft.state == RAFT_LEADER && !c->has_failed;
}

bool hf_consensus_can_step(const struct hf_consensus *c)
{
    return c->is_raft_open && !c->is_held && !c->is_stepping && !c->has_failed && !c->is_closing;
}

/* ---- carrying out an update --------------------------------------------------------------------------- */

static void drop_step_entries(struct hf_consensus *c)
{
    for (uint32_t i = 0; i < c->n_step_entries; i++)
        hf_log_entry_unref(c->step_entries[i]);
    hf_free(c->step_entries);
    hf_free(c->step_array);
    c->step_entries = NULL;
    c->step_array = NULL;
    c->n_step_entries = 0;
}

/* The core hands back the accepted part of the event's array, or the barrier kept inside struct raft. The payloads
 * never went through the core: its entries carry a placeholder (see hf_consensus_step). */
static void carry_out_entries(struct hf_consensus *c)
{
    struct raft_entry *batch = c->update.entries.batch;
    uint32_t n = c->update.entries.n;
    uint64_t index = c->update.entries.index;
    struct hf_log_entry **entries = hf_malloc(n * sizeof *entries);
    bool is_ours = c->step_array && batch >= c->step_array && batch < c->step_array + c->n_step_entries;

    for (uint32_t i = 0; i < n; i++) {
        if (is_ours) {
            entries[i] = hf_log_entry_ref(c->step_entries[(size_t)(batch - c->step_array) + i]);
        } else {
            HF_ASSERT(batch[i].buf.len <= UINT32_MAX);
            entries[i] =
                hf_log_entry_new((enum hf_entry_type)batch[i].type, 0, batch[i].term, (uint32_t)batch[i].buf.len);
            memcpy(entries[i]->data, batch[i].buf.base, batch[i].buf.len);
        }
        HF_ASSERT(entries[i]->index == 0 || entries[i]->index == index + i);
        HF_ASSERT(entries[i]->term == batch[i].term);
        entries[i]->index = index + i;
    }
    raft_free(batch[0].batch);
    if (c->is_behind) {
        c->is_behind = false;
        c->problem[0] = 0;
    }
    if (index < hf_journal_next_index(c->journal)) {
        HF_ASSERT(index > c->commit_index);
        HF_ASSERT(index > c->delivered_index);
        HF_LOG_INFO("consensus", "log conflict, dropping the uncommitted end", "from=%" PRIu64 " last=%" PRIu64, index,
                    hf_journal_next_index(c->journal) - 1);
        hf_journal_truncate_suffix(c->journal, index);
        if (c->durable_index >= index)
            c->durable_index = index - 1;
        if (c->durable_pending >= index)
            c->durable_pending = index - 1;
    }
    hf_journal_append(c->journal, entries, n);
    for (uint32_t i = 0; i < n; i++)
        hf_log_entry_unref(entries[i]);
    hf_free(entries);
}

static void carry_out(struct hf_consensus *c)
{
    if (c->update.flags & (RAFT_UPDATE_SNAPSHOT)) {
        /* We never send InstallSnapshot and never let one in, so the core cannot ask for this. */
        hf_consensus_fail(c, HF_E_INVALID, "the consensus core asked to install a snapshot that nobody sent");
        return;
    }
    if (c->update.flags & (RAFT_UPDATE_ENTRIES))
        carry_out_entries(c);
    drop_step_entries(c);
    if (c->update.flags & (RAFT_UPDATE_MESSAGES))
        for (unsigned i = 0; i < c->update.messages.n; i++)
            hf_consensus_send(c, &c->update.messages.batch[i]);
}

/* Feed the core; the update is carried out at once, or after term and vote are durable (R13). */
int hf_consensus_step(struct hf_consensus *c, struct raft_event *event)
{
    int rv;

    HF_ASSERT(hf_consensus_can_step(c));
    event->time = hf_consensus_now(c);
    event->capacity = UINT16_MAX;
    memset(&c->update, 0, sizeof c->update);
    c->is_stepping = true;
    rv = raft_step(&c->raft, event, &c->update);
    if (rv != 0) {
        c->is_stepping = false;
        drop_step_entries(c);
        if (event->type != RAFT_SUBMIT && event->type != RAFT_TRANSFER)
            hf_consensus_fail(c, HF_E_INVALID, "the consensus core failed on event %d: %s (%s)", (int)event->type,
                              raft_strerror(rv), c->raft.errmsg);
        return rv;
    }
    if (c->update.flags & (RAFT_UPDATE_CURRENT_TERM | RAFT_UPDATE_VOTED_FOR)) {
        c->is_held = true;
        c->is_stepping = false;
        hf_journal_set_vote(c->journal, raft_current_term(&c->raft), raft_voted_for(&c->raft));
        return 0;
    }
    carry_out(c);
    c->is_stepping = false;
    hf_consensus_after_step(c);
    return 0;
}

/* R6: reads, and later membership changes, need an entry of our own term; the core appends one only when it has
 * uncommitted entries. */
static void ensure_own_term_entry(struct hf_consensus *c)
{
    struct raft_event event = {.type = RAFT_SUBMIT};
    struct hf_log_entry *e;

    if (c->own_term_index != 0 || !hf_consensus_can_step(c))
        return;
    e = hf_log_entry_new(HF_ENTRY_BARRIER, 0, raft_current_term(&c->raft), 8);
    memset(e->data, 0, 8);
    c->step_entries = hf_malloc(sizeof *c->step_entries);
    c->step_array = hf_calloc(1, sizeof *c->step_array);
    c->n_step_entries = 1;
    c->step_entries[0] = e;
    c->step_array[0].term = e->term;
    c->step_array[0].type = RAFT_BARRIER;
    c->step_array[0].batch = raft_malloc(8);
    HF_ASSERT(c->step_array[0].batch != NULL);
    c->step_array[0].buf.base = c->step_array[0].batch;
    c->step_array[0].buf.len = 8;
    event.submit.entries = c->step_array;
    event.submit.n = 1;
    c->own_term_index = hf_journal_next_index(c->journal);
    if (hf_consensus_step(c, &event) != 0)
        hf_consensus_fail(c, HF_E_INVALID, "the consensus core refused the first entry of a term: %s", c->raft.errmsg);
}

static enum hf_role role_of(const struct hf_consensus *c)
{
    if (!c->is_raft_open)
        return HF_ROLE_UNAVAILABLE;
    switch (c->raft.state) {
    case RAFT_FOLLOWER:
        return HF_ROLE_FOLLOWER;
    case RAFT_CANDIDATE:
        return HF_ROLE_CANDIDATE;
    case RAFT_LEADER:
        return HF_ROLE_LEADER;
    default:
        return HF_ROLE_UNAVAILABLE;
    }
}

uint64_t hf_consensus_leader(const struct hf_consensus *c)
{
    if (!c->is_raft_open || c->has_failed)
        return 0;
    if (c->raft.state == RAFT_LEADER)
        return c->config.node_id;
    if (c->raft.state != RAFT_FOLLOWER || c->leader_term != c->raft.current_term)
        return 0;
    return c->leader_id;
}

static void tell_role(struct hf_consensus *c)
{
    static const char *const names[] = {"unavailable", "follower", "candidate", "leader"};
    enum hf_role role = role_of(c), before = c->role;
    uint64_t term = raft_current_term(&c->raft), leader = hf_consensus_leader(c);
    bool is_new_reign = role == HF_ROLE_LEADER && (before != HF_ROLE_LEADER || c->told_term != term);

    if (role == before && term == c->told_term && leader == c->told_leader)
        return;
    if (role == HF_ROLE_CANDIDATE && (before != HF_ROLE_CANDIDATE || term != c->told_term))
        hf_counter_add(c->elections, 1);
    if (role != before || leader != c->told_leader)
        HF_LOG_INFO("consensus", "role", "role=%s term=%" PRIu64 " leader=%" PRIu64 " last=%" PRIu64 " commit=%" PRIu64,
                    names[role], term, leader, hf_journal_next_index(c->journal) - 1, c->commit_index);
    if (before == HF_ROLE_LEADER && (role != HF_ROLE_LEADER || c->told_term != term)) {
        c->own_term_index = 0;
        hf_consensus_gate_reset(c, HF_E_NOT_LEADER);
        for (uint32_t i = 0; i < c->n_others; i++)
            hf_consensus_drop_sends(c, &c->others[i]);
    }
    c->role = role;
    c->told_term = term;
    c->told_leader = leader;
    hf_gauge_set(c->term_gauge, (int64_t)term);
    hf_gauge_set(c->role_gauge, (int64_t)role);
    if (is_new_reign) {
        /* The core's own barrier, if it wrote one, came with the update that made us leader. */
        bool has_barrier = (c->update.flags & (RAFT_UPDATE_ENTRIES)) && c->update.entries.n > 0;

        c->own_term_index = has_barrier ? hf_journal_next_index(c->journal) - 1 : 0;
        c->ping_sequence += 1; /* answers to pings of an earlier reign must not count */
        c->confirmed_sequence = c->ping_sequence;
        for (uint32_t i = 0; i < c->n_others; i++) {
            c->others[i].acked_sequence = 0;
            c->others[i].needs_copy = false;
        }
        hf_counter_add(c->leader_changes, 1);
        ensure_own_term_entry(c);
    }
    if (c->events.on_role && !c->is_closing && !c->has_failed)
        c->events.on_role(c->events.data, role, term, leader);
}

/* What follows every carried-out step: role, commit and delivery, the next timer. */
void hf_consensus_after_step(struct hf_consensus *c)
{
    uint64_t commit = raft_commit_index(&c->raft);

    tell_role(c);
    if (commit > c->commit_index) {
        c->commit_index = commit;
        hf_gauge_set(c->commit_gauge, (int64_t)commit);
    }
    hf_consensus_transfer_progress(c);
    if (c->commit_index > c->delivered_index)
        c->env->post(c->env, &c->delivery_task);
    hf_consensus_arm(c);
}

static void release_held(struct hf_consensus *c)
{
    struct hf_deferred *d;

    c->is_held = false;
    c->is_stepping = true;
    carry_out(c);
    c->is_stepping = false;
    hf_consensus_after_step(c);
    if (c->durable_pending > c->raft.last_stored && hf_consensus_can_step(c)) {
        struct raft_event event = {.type = RAFT_PERSISTED_ENTRIES};

        event.persisted_entries.index = c->durable_pending;
        c->durable_pending = 0;
        hf_consensus_step(c, &event);
    }
    while ((d = c->deferred_head) != NULL && hf_consensus_can_step(c)) {
        c->deferred_head = d->next;
        if (!c->deferred_head)
            c->deferred_tail = NULL;
        c->n_deferred--;
        c->deferred_bytes -= d->len;
        hf_consensus_dispatch(c, d->from, d->type, hf_slice(d->bytes, d->len));
        hf_free(d);
    }
}

/* ---- journal events ----------------------------------------------------------------------------------- */

static void on_durable(void *data, uint64_t index)
{
    struct hf_consensus *c = data;
    struct raft_event event = {.type = RAFT_PERSISTED_ENTRIES};

    c->durable_index = index;
    if (!c->is_raft_open) {
        hf_consensus_try_form(c);
        return;
    }
    if (!hf_consensus_can_step(c)) {
        c->durable_pending = index;
        return;
    }
    /* A candidate has no writes in flight (the core waits for them before it campaigns). */
    if (index > c->raft.last_stored && c->raft.state != RAFT_CANDIDATE) {
        event.persisted_entries.index = index;
        hf_consensus_step(c, &event);
    }
    if (c->commit_index > c->delivered_index)
        c->env->post(c->env, &c->delivery_task);
}

static void on_vote_durable(void *data)
{
    struct hf_consensus *c = data;

    if (!c->is_raft_open) {
        c->is_held = false;
        hf_consensus_try_form(c);
        return;
    }
    if (c->is_held && !c->is_closing)
        release_held(c);
}

static void on_journal_failed(void *data, int err, const char *what)
{
    struct hf_consensus *c = data;

    hf_consensus_fail(c, err, "the journal in %s/journal cannot be written: %s", c->dir, what);
}

/* ---- delivery ----------------------------------------------------------------------------------------- */

static void apply_configuration(struct hf_consensus *c, const struct hf_log_entry *e)
{
    struct raft_event event = {.type = RAFT_CONFIGURATION};
    void *copy = raft_malloc(e->len); /* the core's decoder reads aligned words */
    struct raft_buffer buf = {copy, e->len};
    int rv;

    HF_ASSERT(copy != NULL);
    memcpy(copy, e->data, e->len);
    rv = raft_configuration_decode(&buf, &event.configuration.conf);
    raft_free(copy);
    if (rv != 0) {
        hf_consensus_fail(c, HF_E_CORRUPT, "the configuration entry at index %" PRIu64 " does not decode: %s", e->index,
                          raft_strerror(rv));
        return;
    }
    event.configuration.index = e->index;
    hf_consensus_step(c, &event);
    hf_consensus_members_changed(c);
}

static void deliver_one(struct hf_consensus *c, struct hf_log_entry *e)
{
    bool goes_on = true;

    HF_ASSERT(e->index == c->delivered_index + 1);
    c->delivered_index = e->index;
    hf_gauge_set(c->delivered_gauge, (int64_t)e->index);
    /* Also for entries that the state holds already: the core needs to know that they committed (R18). */
    if (e->type == HF_ENTRY_CONFIGURATION && e->index > c->marker.configuration_index)
        apply_configuration(c, e);
    if (e->index > c->applied_at_start)
        goes_on = c->events.on_commit(c->events.data, e);
    if (!goes_on)
        c->is_delivery_paused = true;
}

static uint64_t deliverable_index(const struct hf_consensus *c)
{
    return c->commit_index < c->durable_index ? c->commit_index : c->durable_index;
}

static void on_delivery_read(struct hf_journal_read *req, int rc, struct hf_log_entry **entries, size_t n)
{
    struct hf_consensus *c = req->data;
    bool goes_on = !c->is_closing && !c->has_failed;

    c->is_delivery_reading = false;
    if (goes_on && rc < 0)
        hf_consensus_fail(c, rc, "committed entry %" PRIu64 " cannot be read from the journal in %s: %s", req->first,
                          c->dir, hf_strerror(rc));
    for (size_t i = 0; i < n; i++) {
        goes_on = goes_on && !c->is_delivery_paused && !c->has_failed && entries[i]->index == c->delivered_index + 1 &&
                  entries[i]->index <= deliverable_index(c) &&
                  (entries[i]->type != HF_ENTRY_CONFIGURATION || hf_consensus_can_step(c));
        if (goes_on)
            deliver_one(c, entries[i]);
        hf_log_entry_unref(entries[i]);
    }
    if (c->is_closing)
        return;
    hf_consensus_gate_delivered(c);
    c->env->post(c->env, &c->delivery_task);
}

/* Hand committed and stored entries to the owner, in order (R22: never beyond what the local journal has stored). */
void hf_consensus_deliver(struct hf_consensus *c)
{
    uint64_t upto = deliverable_index(c);

    if (c->is_delivering || c->is_delivery_reading || c->is_closing || !c->is_raft_open)
        return;
    c->is_delivering = true;
    while (!c->is_delivery_paused && !c->has_failed && c->delivered_index < upto) {
        struct hf_log_entry *e;
        int rc = hf_journal_get(c->journal, c->delivered_index + 1, &e);

        if (rc == HF_E_AGAIN) {
            c->is_delivery_reading = true;
            c->delivery_read.data = c;
            c->delivery_read.cb = on_delivery_read;
            c->delivery_read.first = c->delivered_index + 1;
            c->delivery_read.n_max = 1024;
            c->delivery_read.bytes_max = 1u << 20;
            hf_journal_read(c->journal, &c->delivery_read);
            break;
        }
        if (rc < 0) {
            hf_consensus_fail(c, rc,
                              "committed entry %" PRIu64 " is not in the journal in %s (it holds %" PRIu64
                              " to %" PRIu64 "): %s",
                              c->delivered_index + 1, c->dir, hf_journal_first_index(c->journal),
                              hf_journal_next_index(c->journal) - 1, hf_strerror(rc));
            break;
        }
        /* A configuration has to reach the core too; while an update is held it waits (release posts again). */
        if (e->type == HF_ENTRY_CONFIGURATION && !hf_consensus_can_step(c)) {
            hf_log_entry_unref(e);
            break;
        }
        deliver_one(c, e);
        hf_log_entry_unref(e);
        upto = deliverable_index(c);
    }
    c->is_delivering = false;
    hf_consensus_gate_delivered(c);
}

static void on_delivery_task(struct hf_task *task)
{
    hf_consensus_deliver(task->data);
}

void hf_consensus_resume(struct hf_consensus *c)
{
    c->is_delivery_paused = false;
    if (!c->is_closing)
        c->env->post(c->env, &c->delivery_task);
}

/* ---- the timer ---------------------------------------------------------------------------------------- */

void hf_consensus_arm(struct hf_consensus *c)
{
    uint64_t now, due;

    if (!c->is_raft_open || c->is_held || c->has_failed || c->is_closing)
        return;
    now = hf_consensus_now(c);
    due = raft_timeout(&c->raft);
    if (c->raft.state == RAFT_FOLLOWER && hf_consensus_voters(c) > 1 && due < c->quiet_until_ms)
        due = c->quiet_until_ms; /* R10 */
    c->env->timer_start(c->env, &c->timer, due > now ? due - now : 0);
}

static void on_timer(struct hf_timer *timer)
{
    struct hf_consensus *c = timer->data;
    struct raft_event event = {.type = RAFT_TIMEOUT};
    uint64_t now = hf_consensus_now(c), due = raft_timeout(&c->raft);

    if (!hf_consensus_can_step(c))
        return; /* release_held arms again */
    if (now < due) {
        hf_consensus_arm(c);
        return;
    }
    /* After a stall of the whole process messages wait in the sockets: read them before judging by the clock. */
    if (now - due > c->config.heartbeat_ms / 2 && !c->has_skipped_turn) {
        c->has_skipped_turn = true;
        c->env->timer_start(c->env, &c->timer, 5);
        return;
    }
    c->has_skipped_turn = false;
    /* A large entry is on its way from the leader: that is contact too. Bounded: bytes must keep coming. */
    if (c->raft.state == RAFT_FOLLOWER && c->progress_ms != 0 && now - c->progress_ms < c->config.election_timeout_ms &&
        hf_consensus_leader(c) != 0) {
        c->env->timer_start(c->env, &c->timer, c->config.heartbeat_ms);
        return;
    }
    if (hf_journal_stall_ms(c->journal) > HF_DISK_HUNG_EXIT_MS) {
        hf_consensus_fail(c, HF_E_IO, "the disk under %s has not finished a write for %u ms", c->dir,
                          HF_DISK_HUNG_EXIT_MS);
        return;
    }
    hf_consensus_step(c, &event);
}

static void on_status_timer(struct hf_timer *timer)
{
    struct hf_consensus *c = timer->data;

    hf_consensus_send_status(c);
    hf_consensus_compact(c);
    hf_consensus_transfer_progress(c);
    c->env->timer_start(c->env, &c->status_timer, HF_STATUS_INTERVAL_MS);
}

/* ---- submit ------------------------------------------------------------------------------------------- */

int hf_consensus_submit(struct hf_consensus *c, struct hf_log_entry *e, uint64_t *index, uint64_t *term)
{
    struct raft_event event = {.type = RAFT_SUBMIT};
    void *placeholder;
    int rv;

    if (!hf_consensus_is_leader(c))
        return HF_E_NOT_LEADER;
    if (c->is_transferring)
        return HF_E_AGAIN;
    if (!hf_consensus_can_step(c))
        return c->is_held ? HF_E_NOT_LEADER : HF_E_AGAIN;
    HF_ASSERT(e->index == 0);
    placeholder = raft_malloc(8);
    HF_ASSERT(placeholder != NULL);
    e->term = raft_current_term(&c->raft);
    *index = hf_journal_next_index(c->journal);
    *term = e->term;
    c->step_entries = hf_malloc(sizeof *c->step_entries);
    c->step_array = hf_calloc(1, sizeof *c->step_array);
    c->n_step_entries = 1;
    c->step_entries[0] = hf_log_entry_ref(e);
    c->step_array[0].term = e->term;
    c->step_array[0].type = (enum raft_entry_type)e->type;
    c->step_array[0].buf.base = placeholder;
    c->step_array[0].buf.len = 8;
    c->step_array[0].batch = placeholder;
    event.submit.entries = c->step_array;
    event.submit.n = 1;
    rv = hf_consensus_step(c, &event);
    if (rv != 0) {
        raft_free(placeholder);
        e->term = 0;
        if (rv == RAFT_NOTLEADER)
            return HF_E_NOT_LEADER;
        hf_consensus_fail(c, HF_E_INVALID, "the consensus core refused an entry: %s", raft_strerror(rv));
        return HF_E_NOT_LEADER;
    }
    hf_log_entry_unref(e);
    return 0;
}

/* ---- life --------------------------------------------------------------------------------------------- */

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

/* Start the core from what the journal and the marker hold. */
int hf_consensus_begin_raft(struct hf_consensus *c, char *why, size_t why_size)
{
    struct raft_event event = {.type = RAFT_START};
    struct raft_snapshot_metadata metadata = {0};
    struct hf_buf entries = {0};
    struct raft_entry *array;
    struct hf_member self = {.id = c->config.node_id};
    char address[300];
    size_t n;
    int rv;

    for (uint32_t i = 0; i < c->identity.n_members; i++)
        if (c->identity.members[i].id == self.id)
            self = c->identity.members[i];
    self.store_id = c->identity.store_id;
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
    if (c->recovered.next_index == 1) {
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
    event.start.entries = array;
    event.start.n_entries = (unsigned)n;
    event.time = hf_consensus_now(c);
    event.capacity = UINT16_MAX;
    c->durable_index = hf_journal_durable_index(c->journal);
    c->commit_index = c->marker.index;
    c->delivered_index = event.start.start_index - 1;
    if (c->marker.index > c->delivered_index)
        c->delivered_index = c->marker.index;
    memset(&c->update, 0, sizeof c->update);
    rv = raft_step(&c->raft, &event, &c->update);
    for (size_t i = 0; i < n; i++)
        if (array[i].type == RAFT_CHANGE)
            raft_free(array[i].buf.base);
    hf_buf_free(&entries);
    if (rv != 0 || c->raft.configuration.n == 0) {
        snprintf(why, why_size, "the consensus core cannot start from the journal in %s: %s", c->dir,
                 rv != 0 ? raft_strerror(rv) : "no configuration in it");
        return HF_E_CORRUPT;
    }
    if (!hf_consensus_server(c, c->config.node_id)) {
        snprintf(why, why_size, "node %" PRIu64 " is not a member of the cluster that %s belongs to", c->config.node_id,
                 c->dir);
        return HF_E_FOREIGN;
    }
    c->is_raft_open = true;
    hf_consensus_members_changed(c);
    /* The sole voter leads at once, without a new term and so without a term or vote to store. */
    if (c->update.flags & (RAFT_UPDATE_CURRENT_TERM | RAFT_UPDATE_VOTED_FOR)) {
        c->is_held = true;
        hf_journal_set_vote(c->journal, raft_current_term(&c->raft), raft_voted_for(&c->raft));
        return 0;
    }
    c->is_stepping = true;
    carry_out(c);
    c->is_stepping = false;
    hf_consensus_after_step(c);
    return 0;
}

static int open_identity(struct hf_consensus *c, const struct hf_member *members, uint32_t n, char *why,
                         size_t why_size)
{
    struct hf_fs *fs = c->env->fs;
    uint8_t cluster_id[16];
    int rc;

    hf_cluster_id(c->cluster_word, members, n, cluster_id);
    rc = hf_identity_load(fs, c->dir, &c->identity, why, why_size);
    if (rc == HF_E_NOENT) {
        memset(&c->identity, 0, sizeof c->identity);
        c->identity.node_id = c->config.node_id;
        do
            c->identity.store_id = hf_prng_next(&c->prng);
        while (c->identity.store_id == 0);
        memcpy(c->identity.cluster_id, cluster_id, sizeof cluster_id);
        c->identity.n_members = n;
        memcpy(c->identity.members, members, n * sizeof *members);
        rc = hf_identity_save(fs, c->dir, &c->identity);
        if (rc < 0)
            snprintf(why, why_size, "cannot write %s/identity: %s", c->dir, hf_strerror(rc));
        return rc;
    }
    if (rc < 0)
        return rc;
    if (c->identity.node_id != c->config.node_id) {
        snprintf(why, why_size,
                 "%s belongs to node %" PRIu64 ", but this node was started as %" PRIu64 ": start it with --id %" PRIu64
                 " or give it another --dir",
                 c->dir, c->identity.node_id, c->config.node_id, c->identity.node_id);
        return HF_E_FOREIGN;
    }
    if (memcmp(c->identity.cluster_id, cluster_id, sizeof cluster_id) != 0 &&
        (!c->identity.is_formed || (c->cluster_word && *c->cluster_word))) {
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
        snprintf(members[0].address, sizeof members[0].address, "%s", config->listen_address);
        n = 1;
    }
    bool is_listed = false;
    for (uint32_t i = 0; i < n; i++)
        is_listed |= members[i].id == config->node_id;
    if (!is_listed) {
        snprintf(why, why_size, "node %" PRIu64 " (--id) is not in the list of members (--peers %s)", config->node_id,
                 config->members);
        return HF_E_INVALID;
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
    hf_prng_seed(&c->prng, config->seed);
    c->timer.data = c;
    c->timer.cb = on_timer;
    c->status_timer.data = c;
    c->status_timer.cb = on_status_timer;
    c->delivery_task.data = c;
    c->delivery_task.cb = on_delivery_task;
    c->elections = hf_stats_counter(stats, "raft_elections_total", NULL, "Elections this node started");
    c->leader_changes = hf_stats_counter(stats, "raft_leader_terms_total", NULL, "Terms in which this node led");
    c->appends_dropped =
        hf_stats_counter(stats, "raft_messages_dropped_total", NULL, "Messages not sent because a queue was full");
    c->pings = hf_stats_counter(stats, "raft_confirmation_rounds_total", NULL, "Confirmation rounds for reads");
    c->gates = hf_stats_counter(stats, "raft_read_gates_total", NULL, "Read gates opened");
    c->snapshots = hf_stats_counter(stats, "raft_marker_snapshots_total", NULL, "Marker snapshots taken");
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
    rc = hf_marker_load(fs, c->dir, &c->marker, why, why_size);
    if (rc == HF_E_NOENT) {
        c->marker.generation = 1;
        if (c->identity.is_formed) {
            /* Written before the cluster was formed; its loss means lost state. */
            snprintf(why, why_size,
                     "%s/CURRENT is missing although this node was a member before: the directory is "
                     "damaged; restore it or replace the node",
                     c->dir);
            rc = HF_E_CORRUPT;
            goto fail;
        }
        rc = hf_marker_save(fs, c->dir, &c->marker);
        if (rc < 0)
            snprintf(why, why_size, "cannot write %s/CURRENT: %s", c->dir, hf_strerror(rc));
    }
    if (rc < 0)
        goto fail;

    c->journal_events.data = c;
    c->journal_events.on_durable = on_durable;
    c->journal_events.on_vote_durable = on_vote_durable;
    c->journal_events.on_failed = on_journal_failed;
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
    if (c->identity.is_formed && c->recovered.next_index == 1) {
        snprintf(why, why_size,
                 "the journal in %s is empty although this node was a member before: a voter that lost its log must "
                 "not come back under the same identity; replace the node",
                 c->dir);
        rc = HF_E_CORRUPT;
        goto fail;
    }
    if (!c->identity.is_formed && !is_journal_empty && c->recovered.next_index > 1) {
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

int hf_consensus_start(struct hf_consensus *c, uint64_t applied_index, char *why, size_t why_size)
{
    int rc;

    /* R16: the journal must reach the marker and the state. */
    if (c->recovered.next_index <= applied_index || c->recovered.next_index <= c->marker.index ||
        c->recovered.first_index > applied_index + 1) {
        snprintf(why, why_size,
                 "the parts of %s do not fit together: journal %" PRIu64 "..%" PRIu64 ", state at %" PRIu64
                 ", marker at %" PRIu64 ": restore the directory or replace the node",
                 c->dir, c->recovered.first_index, c->recovered.next_index - 1, applied_index, c->marker.index);
        return HF_E_CORRUPT;
    }
    if (c->marker.index > applied_index) {
        snprintf(why, why_size,
                 "the state in %s is at index %" PRIu64 " but its marker says %" PRIu64
                 ": the database was replaced or damaged; restore it or replace the node",
                 c->dir, applied_index, c->marker.index);
        return HF_E_CORRUPT;
    }
    rc = c->env->executor_open(c->env, "hf-meta", &c->meta_executor);
    if (rc < 0) {
        snprintf(why, why_size, "cannot start a thread: %s", hf_strerror(rc));
        return rc;
    }
    c->applied_at_start = applied_index;
    c->state_durable_index = applied_index;
    c->started_ms = hf_consensus_now(c);
    c->is_started = true;
    rc = hf_consensus_listen(c, why, why_size);
    if (rc < 0)
        return rc;
    if (c->identity.is_formed) {
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
    drop_step_entries(c);
    while ((d = c->deferred_head) != NULL) {
        c->deferred_head = d->next;
        hf_free(d);
    }
    if (c->is_raft_open)
        raft_close(&c->raft, NULL);
    hf_marker_free(&c->marker);
    hf_marker_free(&c->marker_next);
    if (c->lock)
        c->env->fs->close(c->env->fs, c->lock);
    hf_free(c->dir);
    hf_free(c->listen_address);
    hf_free(c->client_address);
    hf_free(c->cluster_word);
    hf_free(c);
}
