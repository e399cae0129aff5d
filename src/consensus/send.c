/* send.c: messages to the other members. The core names entries by index only; here they are taken from the journal's
 * memory, or from disk for a follower that lags, in which case later messages to it wait their turn. A message that
 * cannot be queued is dropped: raft sends again. */
#include "consensus/internal.h"

#include <inttypes.h>

/* R23: a leader whose disk hangs must not keep its followers loyal. */
bool hf_consensus_is_mute(const struct hf_consensus *c)
{
    return c->raft.state == RAFT_LEADER && hf_journal_stall_ms(c->journal) > 2ull * c->config.election_timeout_ms;
}

void hf_consensus_send_simple(struct hf_consensus *c, uint64_t to, uint8_t type, struct hf_slice bytes)
{
    struct hf_link *link = hf_peers_link(c->peers, to, HF_CHANNEL_RAFT);

    if (!link || hf_link_send(link, type, true, &bytes, 1) < 0)
        hf_counter_add(c->appends_dropped, 1);
}

static bool send_append(struct hf_consensus *c, struct hf_link *link, const struct raft_append_entries *header,
                        struct hf_log_entry *const *entries, uint32_t n)
{
    struct raft_message m = {.type = RAFT_APPEND_ENTRIES};
    struct hf_buf buf = {0};
    struct hf_slice part;
    int rc;

    m.append_entries = *header;
    m.append_entries.n_entries = n;
    hf_codec_put_message(&buf, &m);
    for (uint32_t i = 0; i < n; i++)
        hf_codec_put_entry(&buf, entries[i]);
    part = hf_buf_slice(&buf);
    rc = hf_link_send(link, HF_MSG_APPEND_ENTRIES, n == 0, &part, 1);
    hf_buf_free(&buf);
    if (rc < 0)
        hf_counter_add(c->appends_dropped, 1);
    return rc == 0;
}

/* Send entries[0..n) that follow header->prev_log_index, cut where a message would grow too long, and so that a
 * configuration entry always starts its own message (the core's book-keeping of uncommitted configurations is wrong
 * otherwise). Returns false when the link refused. */
static bool send_in_pieces(struct hf_consensus *c, struct hf_link *link, struct raft_append_entries *header,
                           struct hf_log_entry *const *entries, uint32_t n)
{
    uint32_t from = 0;

    while (from < n) {
        uint32_t to = from;
        size_t bytes = 0;

        while (to < n) {
            if (to > from &&
                (entries[to]->type == HF_ENTRY_CONFIGURATION || bytes + entries[to]->len > HF_APPEND_BYTES_MAX))
                break;
            bytes += entries[to]->len;
            to++;
        }
        if (!send_append(c, link, header, entries + from, to - from))
            return false;
        header->prev_log_index = entries[to - 1]->index;
        header->prev_log_term = entries[to - 1]->term;
        from = to;
    }
    return true;
}

static void pop_waiting(struct hf_other *o)
{
    struct hf_send_item *item = o->waiting_head;

    o->waiting_head = item->next;
    if (!o->waiting_head)
        o->waiting_tail = NULL;
    o->n_waiting--;
    hf_free(item);
}

void hf_consensus_drop_sends(struct hf_consensus *c, struct hf_other *o)
{
    (void)c;
    while (o->waiting_head)
        pop_waiting(o);
}

static void pump(struct hf_consensus *c, struct hf_other *o);

/* The entries that the first waiting message needs came from disk. */
static void send_read(struct hf_consensus *c, struct hf_other *o, uint64_t first, int rc,
                      struct hf_log_entry *const *entries, size_t n)
{
    struct hf_send_item *item = o->waiting_head;
    struct hf_link *link = hf_peers_link(c->peers, o->id, HF_CHANNEL_RAFT);

    if (rc < 0 && rc != HF_E_NOENT) {
        hf_consensus_fail(c, rc, "entry %" PRIu64 " cannot be read from the journal in %s: %s", first, c->dir,
                          hf_strerror(rc));
        return;
    }
    /* The queue may have been dropped and refilled meanwhile (leadership lost and won): then the first item is not
     * the one that was read for. */
    if (!item || item->first != first || rc < 0 || !link || !hf_consensus_is_leader(c) ||
        item->header.term != c->raft.current_term) {
        if (item && rc < 0)
            pop_waiting(o);
        pump(c, o);
        return;
    }
    if (n > item->n)
        n = item->n;
    if (!send_in_pieces(c, link, &item->header, entries, (uint32_t)n)) {
        hf_consensus_drop_sends(c, o);
        return;
    }
    item->first += n;
    item->n -= (uint32_t)n;
    if (item->n == 0)
        pop_waiting(o);
    pump(c, o);
}

static void on_read(struct hf_journal_read *req, int rc, struct hf_log_entry **entries, size_t n)
{
    struct hf_other *o = req->data;
    struct hf_consensus *c = o->owner;

    o->is_reading = false;
    if (!o->is_leaving && !c->is_closing && !c->has_failed)
        send_read(c, o, req->first, rc, entries, n);
    o->is_leaving = false;
    for (size_t i = 0; i < n; i++)
        hf_log_entry_unref(entries[i]);
}

/* Send what waits for this member, in order, until something must be read from disk. */
static void pump(struct hf_consensus *c, struct hf_other *o)
{
    while (o->waiting_head && !o->is_reading) {
        struct hf_send_item *item = o->waiting_head;
        struct hf_link *link = hf_peers_link(c->peers, o->id, HF_CHANNEL_RAFT);
        struct hf_log_entry *entries[HF_INFLIGHT_ENTRIES_MAX];
        uint32_t n = 0;
        bool is_sent;
        int rc = 0;

        if (!link || item->header.term != c->raft.current_term || !hf_consensus_is_leader(c)) {
            pop_waiting(o);
            continue;
        }
        while (n < item->n && n < HF_INFLIGHT_ENTRIES_MAX) {
            rc = hf_journal_get(c->journal, item->first + n, &entries[n]);
            if (rc < 0)
                break;
            n++;
        }
        if (item->n > 0 && n == 0) {
            if (rc != HF_E_AGAIN) { /* cut meanwhile: the core will find out */
                pop_waiting(o);
                continue;
            }
            o->is_reading = true;
            o->read.data = o;
            o->read.cb = on_read;
            o->read.first = item->first;
            o->read.n_max = item->n;
            o->read.bytes_max = HF_APPEND_BYTES_MAX;
            hf_journal_read(c->journal, &o->read);
            return;
        }
        is_sent =
            n > 0 ? send_in_pieces(c, link, &item->header, entries, n) : send_append(c, link, &item->header, NULL, 0);
        for (uint32_t i = 0; i < n; i++)
            hf_log_entry_unref(entries[i]);
        if (!is_sent) {
            hf_consensus_drop_sends(c, o);
            return;
        }
        item->first += n;
        item->n -= n;
        if (item->n == 0)
            pop_waiting(o);
    }
}

static void queue_append(struct hf_consensus *c, struct hf_other *o, const struct raft_append_entries *header)
{
    struct hf_send_item *item;

    if (o->n_waiting >= HF_SEND_WAITING_MAX) {
        hf_counter_add(c->appends_dropped, 1);
        return;
    }
    item = hf_calloc(1, sizeof *item);
    item->header = *header;
    item->header.entries = NULL;
    item->first = header->prev_log_index + 1;
    item->n = header->n_entries;
    if (o->waiting_tail)
        o->waiting_tail->next = item;
    else
        o->waiting_head = item;
    o->waiting_tail = item;
    o->n_waiting++;
    pump(c, o);
}

/* Carry one message of the core to its destination. */
void hf_consensus_send(struct hf_consensus *c, const struct raft_message *m)
{
    struct hf_other *o = hf_consensus_other(c, m->server_id);
    struct raft_message copy = *m;
    struct hf_buf buf = {0};

    if (!o || hf_consensus_is_mute(c))
        return;
    switch (m->type) {
    case RAFT_APPEND_ENTRIES:
        queue_append(c, o, &m->append_entries);
        return;
    case RAFT_INSTALL_SNAPSHOT:
        hf_consensus_note_behind(c, o);
        /* It may have all that already, and only its answer was lost: then it says so. */
        if (o->level >= HF_LEVEL_COPIES && c->marker.index == m->install_snapshot.last_index)
            hf_consensus_send_install(c, o->id, c->marker.index, c->marker.term, c->marker.configuration_index,
                                      hf_buf_slice(&c->marker.configuration));
        return;
    case RAFT_REQUEST_VOTE:
        /* R8: the leave to disturb a leader holds for the one election that its TimeoutNow started. */
        if (copy.request_vote.term != c->timeout_now_term + 1)
            copy.request_vote.disrupt_leader = false;
        break;
    case RAFT_REQUEST_VOTE_RESULT:
        /* A denied pre-vote carries our term, else a node with a longer log and a lower term can never win. */
        if (copy.request_vote_result.pre_vote && !copy.request_vote_result.vote_granted &&
            copy.request_vote_result.term < c->raft.current_term)
            copy.request_vote_result.term = c->raft.current_term;
        break;
    case RAFT_APPEND_ENTRIES_RESULT:
        /* The core answers an AppendEntries of an older term without setting last_log_index; when the old leader has
         * meanwhile been elected again in our term, garbage there would count as acknowledged entries. Just below the
         * rejected one is what makes it try the same place again; 0 would make it look for entries it may have cut. */
        if (c->is_append_stale) {
            uint64_t rejected = copy.append_entries_result.rejected;

            copy.append_entries_result.last_log_index = rejected > 0 ? rejected - 1 : 0;
        }
        break;
    case RAFT_TIMEOUT_NOW:
        break;
    }
    hf_codec_put_message(&buf, &copy);
    hf_consensus_send_simple(c, m->server_id, (uint8_t)m->type, hf_buf_slice(&buf));
    hf_buf_free(&buf);
}
