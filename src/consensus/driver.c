/* driver.c: events into libraft's core, updates out of it. See internal.h for the order of effects, and
 * docs/consensus.md for what the core leaves to us. */
#include "base/crashpoint.h"
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
        if (c->others[i].id == id && id != 0)
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

static bool is_member_of(const struct raft_configuration *conf, uint64_t id)
{
    for (unsigned i = 0; i < conf->n; i++)
        if (conf->servers[i].id == id)
            return conf->servers[i].role != RAFT_SPARE;
    return false;
}

/* May this node speak to us as a member? One that an uncommitted change leaves out is a member until that is committed:
 * it may be elected by those who never saw the change, and takes it back. One with an id above all that we know was let
 * in after our configuration, which it may be about to tell us. Before a joining node has its first configuration it
 * knows the members that it was told when it was let in. */
bool hf_consensus_knows(const struct hf_consensus *c, uint64_t id)
{
    if (c->raft.configuration.n > 0) {
        if (is_member_of(&c->raft.configuration, id) ||
            (c->raft.configuration_uncommitted_index != 0 && is_member_of(&c->raft.configuration_committed, id)))
            return true;
        for (uint32_t i = 0; i < c->n_others; i++)
            if (c->others[i].id == id && id > hf_consensus_id_max(c))
                return true;
        return false;
    }
    for (uint32_t i = 0; i < c->identity.n_members; i++)
        if (c->identity.members[i].id == id)
            return true;
    /* Let in, and no log yet: the leader may be one that came after those that we were told of. */
    for (uint32_t i = 0; i < c->n_others && c->identity.is_joining && c->config.node_id != 0; i++)
        if (c->others[i].id == id && c->others[i].has_hello)
            return true;
    return false;
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
    bool has_configuration = false;
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
        has_configuration |= entries[i]->type == HF_ENTRY_CONFIGURATION;
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
        has_configuration = true; /* maybe one was taken back */
        hf_journal_truncate_suffix(c->journal, index);
        hf_crash_point("truncate-suffix-sealed");
        if (c->durable_index >= index)
            c->durable_index = index - 1;
        if (c->durable_pending >= index)
            c->durable_pending = index - 1;
    }
    hf_journal_append(c->journal, entries, n);
    for (uint32_t i = 0; i < n; i++)
        hf_log_entry_unref(entries[i]);
    hf_free(entries);
    if (has_configuration) /* the newest one counts, committed or not */
        hf_consensus_members_changed(c);
}

static void carry_out(struct hf_consensus *c)
{
    if (c->update.flags & (RAFT_UPDATE_SNAPSHOT))
        hf_consensus_begin_install(c);
    if (c->update.flags & (RAFT_UPDATE_ENTRIES))
        carry_out_entries(c);
    drop_step_entries(c);
    if (c->update.flags & (RAFT_UPDATE_MESSAGES))
        for (unsigned i = 0; i < c->update.messages.n; i++)
            hf_consensus_send(c, &c->update.messages.batch[i]);
}

/* The core of a learner grants no vote. But its promotion may stand only in the log of a leader that restarted, and by
 * that configuration the leader needs this vote: without it nobody is elected any more. The vote counts only for a
 * candidate whose log makes us a voter, so it does no harm (dissertation, 4.2.2). */
static void let_learner_vote(struct hf_consensus *c, bool is_let)
{
    for (unsigned i = 0; i < c->raft.configuration.n; i++) {
        struct raft_server *s = &c->raft.configuration.servers[i];

        if (s->id == c->config.node_id)
            s->role = is_let ? RAFT_VOTER : RAFT_STANDBY;
    }
}

/* Feed the core; the update is carried out at once, or after term and vote are durable (R13). */
int hf_consensus_step(struct hf_consensus *c, struct raft_event *event)
{
    const struct raft_server *self = hf_consensus_server(c, c->config.node_id);
    bool is_learner_asked = event->type == RAFT_RECEIVE && event->receive.message->type == RAFT_REQUEST_VOTE && self &&
                            self->role == RAFT_STANDBY;
    int rv;

    HF_ASSERT(hf_consensus_can_step(c));
    event->time = hf_consensus_now(c);
    event->capacity = UINT16_MAX;
    memset(&c->update, 0, sizeof c->update);
    c->is_stepping = true;
    if (is_learner_asked)
        let_learner_vote(c, true);
    rv = raft_step(&c->raft, event, &c->update);
    if (is_learner_asked)
        let_learner_vote(c, false);
    if (rv != 0) {
        c->is_stepping = false;
        drop_step_entries(c);
        if (event->type != RAFT_SUBMIT && event->type != RAFT_TRANSFER && event->type != RAFT_CATCH_UP)
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
        hf_consensus_check_behind(c);
        if (c->events.on_caught_up && !c->is_closing)
            c->events.on_caught_up(c->events.data, 0);
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
    if (c->operation.is_active || c->requests)
        c->env->post(c->env, &c->request_task);
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
    hf_consensus_install_progress(c);
    if (c->durable_pending > c->raft.last_stored && !c->install.is_active && hf_consensus_can_step(c)) {
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

    if (c->install.is_active) { /* R12: nothing else counts until the journal is reset */
        if (c->install.phase == HF_INSTALL_JOURNAL && index == c->install.marker.index && !c->is_closing)
            hf_consensus_install_journal_done(c);
        return;
    }
    c->durable_index = index;
    if (!c->is_raft_open) {
        hf_consensus_go_on_starting(c);
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
        hf_consensus_go_on_starting(c);
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
    hf_consensus_check_self(c);
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
    if (c->install.is_active || req->first != c->delivered_index + 1)
        rc = 0; /* a copy of the state came in between: those entries are behind it */
    if (goes_on && rc < 0)
        hf_consensus_fail(c, rc, "committed entry %" PRIu64 " cannot be read from the journal in %s: %s", req->first,
                          c->dir, hf_strerror(rc));
    for (size_t i = 0; i < n; i++) {
        goes_on = goes_on && !c->is_delivery_paused && !c->has_failed && !c->install.is_active &&
                  entries[i]->index == c->delivered_index + 1 && entries[i]->index <= deliverable_index(c) &&
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

    if (c->is_delivering || c->is_delivery_reading || c->is_closing || !c->is_raft_open || c->install.is_active)
        return;
    c->is_delivering = true;
    while (!c->is_delivery_paused && !c->has_failed && !c->install.is_active && c->delivered_index < upto) {
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

static bool has_spare(const struct hf_consensus *c)
{
    for (unsigned i = 0; i < c->raft.configuration.n; i++)
        if (c->raft.configuration.servers[i].role == RAFT_SPARE)
            return true;
    return false;
}

void hf_consensus_arm(struct hf_consensus *c)
{
    uint64_t now, due;

    if (!c->is_raft_open || c->is_held || c->has_failed || c->is_closing)
        return;
    now = hf_consensus_now(c);
    due = raft_timeout(&c->raft);
    if (c->raft.state == RAFT_FOLLOWER && hf_consensus_voters(c) > 1 && due < c->quiet_until_ms)
        due = c->quiet_until_ms; /* R10 */
    /* The core counts a spare among those that wait for a heartbeat but never sends it one, so its timeout stays in the
     * past. Then the clock is looked at four times in a heartbeat. */
    if (c->raft.state == RAFT_LEADER && due <= now && has_spare(c))
        due = now + (c->config.heartbeat_ms + 3) / 4;
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
    hf_consensus_step(c, &event);
}

/* R23, for every role: say that the disk hangs, and give up when it hangs for good. */
static void judge_disk(struct hf_consensus *c)
{
    uint64_t stall_ms = hf_journal_stall_ms(c->journal);
    uint64_t state_ms = c->events.state_stall_ms ? c->events.state_stall_ms(c->events.data) : 0;

    if (state_ms > stall_ms)
        stall_ms = state_ms;
    if (stall_ms > HF_DISK_HUNG_EXIT_MS) {
        hf_consensus_fail(c, HF_E_IO, "the disk under %s has not finished a write for %u ms", c->dir,
                          HF_DISK_HUNG_EXIT_MS);
    } else if (stall_ms > 2ull * c->config.election_timeout_ms) {
        if (!c->is_disk_slow)
            HF_LOG_WARN("consensus", "the disk does not finish a write", "dir=%s since_ms=%" PRIu64, c->dir, stall_ms);
        c->is_disk_slow = true;
    } else {
        c->is_disk_slow = false;
    }
}

static void on_status_timer(struct hf_timer *timer)
{
    struct hf_consensus *c = timer->data;

    judge_disk(c);
    if (c->has_failed)
        return;
    hf_consensus_send_status(c);
    hf_consensus_check_behind(c);
    hf_consensus_check_self(c); /* a crash may have come before it was written down */
    hf_consensus_compact(c);
    hf_consensus_transfer_progress(c);
    hf_consensus_operate_progress(c);
    c->env->timer_start(c->env, &c->status_timer, HF_STATUS_INTERVAL_MS);
}

/* ---- submit ------------------------------------------------------------------------------------------- */

int hf_consensus_submit_entry(struct hf_consensus *c, struct hf_log_entry *e, uint64_t *index, uint64_t *term)
{
    struct raft_event event = {.type = RAFT_SUBMIT};
    size_t len = e->type == HF_ENTRY_CONFIGURATION ? e->len : 8; /* the core looks into configurations only */
    void *batch;
    int rv;

    if (!hf_consensus_is_leader(c))
        return HF_E_NOT_LEADER;
    if (c->is_transferring)
        return HF_E_AGAIN;
    if (!hf_consensus_can_step(c))
        return c->is_held ? HF_E_NOT_LEADER : HF_E_AGAIN;
    HF_ASSERT(e->index == 0);
    batch = raft_malloc(len);
    HF_ASSERT(batch != NULL);
    if (e->type == HF_ENTRY_CONFIGURATION)
        memcpy(batch, e->data, len);
    e->term = raft_current_term(&c->raft);
    *index = hf_journal_next_index(c->journal);
    *term = e->term;
    c->step_entries = hf_malloc(sizeof *c->step_entries);
    c->step_array = hf_calloc(1, sizeof *c->step_array);
    c->n_step_entries = 1;
    c->step_entries[0] = hf_log_entry_ref(e);
    c->step_array[0].term = e->term;
    c->step_array[0].type = (enum raft_entry_type)e->type;
    c->step_array[0].buf.base = batch;
    c->step_array[0].buf.len = len;
    c->step_array[0].batch = batch;
    event.submit.entries = c->step_array;
    event.submit.n = 1;
    rv = hf_consensus_step(c, &event);
    if (rv != 0) {
        raft_free(batch);
        e->term = 0;
        if (rv == RAFT_NOTLEADER)
            return HF_E_NOT_LEADER;
        if (rv == RAFT_CANTCHANGE)
            return HF_E_BUSY;
        hf_consensus_fail(c, HF_E_INVALID, "the consensus core refused an entry: %s", raft_strerror(rv));
        return HF_E_NOT_LEADER;
    }
    hf_log_entry_unref(e);
    return 0;
}

int hf_consensus_submit(struct hf_consensus *c, struct hf_log_entry *e, uint64_t *index, uint64_t *term)
{
    int rc;

    HF_ASSERT(e->type == HF_ENTRY_COMMAND);
    if (hf_consensus_is_throttled(c))
        return HF_E_AGAIN;
    rc = hf_consensus_submit_entry(c, e, index, term);
    if (rc == 0)
        hf_consensus_throttle(c, e->len);
    return rc;
}

/* ---- for life.c --------------------------------------------------------------------------------------- */

void hf_consensus_carry_out_start(struct hf_consensus *c)
{
    c->is_stepping = true;
    carry_out(c);
    c->is_stepping = false;
    hf_consensus_after_step(c);
}

void hf_consensus_drop_step(struct hf_consensus *c)
{
    drop_step_entries(c);
}

void hf_consensus_init_callbacks(struct hf_consensus *c)
{
    c->timer.data = c;
    c->timer.cb = on_timer;
    c->status_timer.data = c;
    c->status_timer.cb = on_status_timer;
    c->delivery_task.data = c;
    c->delivery_task.cb = on_delivery_task;
    c->journal_events.data = c;
    c->journal_events.on_durable = on_durable;
    c->journal_events.on_vote_durable = on_vote_durable;
    c->journal_events.on_failed = on_journal_failed;
}
