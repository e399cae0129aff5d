/* journal.c: the seam and the write path. The log lives twice: as the owner sees it (changed by each call at once)
 * and as it goes to disk (one write and one sync at a time; all that came meanwhile goes into the next).
 *
 * Suffix truncation and reset never touch old bytes: a batch that says "from here on the log goes on at index i" is
 * the first of a new segment, synced before any replacement is written. So a crash at any byte leaves the
 * old log or the new one. Completions of writes that were in flight at a truncation are not reported (R12); what
 * stays of them is, when the truncation itself is durable. */
#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "journal/internal.h"

#include <inttypes.h>
#include <stdio.h>

/* After the last write the position synced is published within this time (R11): until then rot in the very last
 * batch would look like a torn tail. */
#define IDLE_MS 1000
/* Entries of one write, besides the first: bounds how long a write that came just after has to wait. */
#define WRITE_BYTES_MAX   (4u * 1024u * 1024u)
#define SEGMENT_BYTES_MIN (16u * 1024u)

static struct hf_jsegment *active(const struct hf_journal *j)
{
    return j->segments[j->n_segments - 1];
}

void hf_journal_fail(struct hf_journal *j, int rc, const char *doing, const char *name)
{
    char *what;

    if (j->failed || atomic_load(&j->stopping))
        return;
    j->failed = true;
    what = hf_asprintf("%s %s/%s: %s", doing, j->dir, name, hf_strerror(rc));
    HF_LOG_ERROR("journal", "failed", "what=\"%s\"", what);
    j->events->on_failed(j->events->data, rc, what);
    hf_free(what);
}

/* ---- one write ----------------------------------------------------------------------------------- */

static void run_write(struct hf_job *job)
{
    struct hf_jwrite *w = HF_CONTAINER_OF(job, struct hf_jwrite, job);
    struct hf_jbatch *h = &w->header;
    uint64_t began_ns;

    w->buf.len = 0;
    (void)hf_buf_reserve(&w->buf, HF_JBATCH_HEADER_BYTES + h->body_bytes);
    w->buf.len = HF_JBATCH_HEADER_BYTES;
    for (uint32_t i = 0; i < h->count; i++)
        hf_jrecord_put(&w->buf, w->entries[i]);
    HF_ASSERT(w->buf.len == HF_JBATCH_HEADER_BYTES + h->body_bytes);
    h->body_crc = hf_crc32c(0, w->buf.data + HF_JBATCH_HEADER_BYTES, h->body_bytes);
    hf_jbatch_encode(w->buf.data, h);

    began_ns = w->env->boot_ns(w->env);
    w->what = "writing";
    w->rc = w->fs->write(w->fs, w->file, h->offset, w->buf.data, w->buf.len);
    if (w->rc == HF_OK) {
        w->what = "syncing";
        w->rc = w->fs->sync(w->fs, w->file);
    }
    w->sync_us = (w->env->boot_ns(w->env) - began_ns) / 1000;
    /* One huge entry must not keep its buffer for ever. */
    if (w->buf.cap > 2 * WRITE_BYTES_MAX)
        hf_buf_free(&w->buf);
}

static void evict(struct hf_journal *j)
{
    while (j->tail.bytes > j->tail_bytes_max && j->tail.first < j->next_index && j->tail.first <= j->durable_index &&
           j->tail.first <= j->submitted_index)
        hf_jtail_drop_first(&j->tail);
}

/* Takes over what a finished write means for the log on disk. Returns whether on_durable is due. */
static bool settle_write(struct hf_journal *j)
{
    struct hf_jwrite *w = &j->write;
    const struct hf_jbatch *h = &w->header;
    uint64_t durable = h->first_index + h->count - 1;

    j->write_busy = false;
    for (uint32_t i = 0; i < h->count; i++)
        hf_log_entry_unref(w->entries[i]);
    if (w->rc != HF_OK)
        return false;
    hf_counter_add(j->stat_writes, 1);
    hf_counter_add(j->stat_bytes, HF_JBATCH_HEADER_BYTES + h->body_bytes);
    hf_histogram_record(j->stat_sync_us, w->sync_us);
    if (h->count > 0)
        hf_histogram_record(j->stat_batch_entries, h->count);
    j->last_crc = h->header_crc;
    j->durable_segment = h->segment;
    j->durable_offset = h->offset + HF_JBATCH_HEADER_BYTES + h->body_bytes;
    j->published_segment = h->durable_segment;
    j->published_offset = h->durable_offset;
    if (h->kind == HF_JBATCH_RESET) {
        size_t n = 0;

        while (j->segments[n]->id < h->segment)
            n++;
        hf_jsegments_doom(j, n);
    }
    if (w->truncations != j->truncations)
        return false;
    /* A reset is reported even where the number says nothing new: its owner waits for it. */
    if (durable <= j->durable_index && h->kind != HF_JBATCH_RESET)
        return false;
    j->durable_index = durable;
    evict(j);
    return true;
}

static void write_done(struct hf_job *job)
{
    struct hf_journal *j = HF_CONTAINER_OF(job, struct hf_journal, write.job);
    struct hf_jwrite *w = &j->write;
    bool is_due = settle_write(j);

    if (w->rc != HF_OK) {
        char name[HF_JSEG_NAME_BYTES];

        hf_jseg_name(name, w->header.segment);
        hf_journal_fail(j, w->rc, w->what, name);
        return;
    }
    if (atomic_load(&j->stopping))
        return;
    if (w->header.offset == HF_JSEG_HEADER_BYTES) {
        hf_jsegments_clean(j);
        if (j->spare_state == HF_JSPARE_NONE)
            hf_jspare_prepare(j, 0);
    }
    hf_jsegments_update_stats(j);
    if (w->header.kind != HF_JBATCH_IDLE)
        j->env->timer_start(j->env, &j->idle_timer, IDLE_MS);
    /* The next write first: the disk works while the owner does. */
    hf_journal_pump(j);
    if (is_due)
        j->events->on_durable(j->events->data, j->durable_index);
}

static void begin_batch(struct hf_journal *j, enum hf_jbatch_kind kind, uint64_t first_index)
{
    struct hf_jsegment *s = active(j);
    struct hf_jwrite *w = &j->write;
    bool is_first = s->end == HF_JSEG_HEADER_BYTES;

    memset(&w->header, 0, sizeof w->header);
    w->header.kind = kind;
    w->header.segment = s->id;
    w->header.salt = s->salt;
    w->header.offset = s->end;
    w->header.generation = j->generation;
    w->header.prev_end = is_first && j->n_segments > 1 ? j->segments[j->n_segments - 2]->end : s->end;
    w->header.durable_segment = j->durable_segment;
    w->header.durable_offset = j->durable_offset;
    w->header.first_index = first_index;
    w->header.prev_crc = j->last_crc;
    w->fs = j->fs;
    w->file = s->file;
    w->env = j->env;
    w->truncations = j->truncations;
    w->began_ms = j->env->boot_ms(j->env);
    w->job.run = run_write;
    w->job.done = write_done;
    s->end += HF_JBATCH_HEADER_BYTES;
}

/* Put the entries after submitted_index that fit into `room` bytes of body into the batch just begun. */
static void fill_batch(struct hf_journal *j, uint64_t room)
{
    struct hf_jsegment *s = active(j);
    struct hf_jwrite *w = &j->write;
    struct hf_jbatch *h = &w->header;
    uint64_t bytes = 0, index = h->first_index;

    while (index < j->next_index) {
        struct hf_log_entry *e = hf_jtail_at(&j->tail, index)->entry;
        uint64_t size = hf_jrecord_size(e->len);

        if (bytes + size > room || (bytes > 0 && bytes + size > WRITE_BYTES_MAX))
            break;
        if (h->count == w->cap_entries) {
            w->cap_entries = w->cap_entries ? w->cap_entries * 2 : 64;
            w->entries = hf_realloc(w->entries, w->cap_entries * sizeof(struct hf_log_entry *));
        }
        w->entries[h->count++] = hf_log_entry_ref(e);
        bytes += size;
        index++;
    }
    HF_ASSERT(h->count > 0);
    h->body_bytes = (uint32_t)bytes;
    hf_jsegment_add_batch(s, h->offset, h->first_index, h->count,
                          hf_jtail_at(&j->tail, h->first_index)->cum -
                              hf_jrecord_size(hf_jtail_at(&j->tail, h->first_index)->entry->len));
    s->end += bytes;
    j->submitted_index = index - 1;
}

/* Bytes of body that the active segment still takes; room for an idle batch is always left behind. */
static uint64_t room_in(const struct hf_jsegment *s)
{
    uint64_t used = s->end + 2 * (uint64_t)HF_JBATCH_HEADER_BYTES;

    return s->capacity > used ? s->capacity - used : 0;
}

/* Make a new segment active. False: it has to be waited for. */
static bool switch_segment(struct hf_journal *j, uint64_t first_index, uint64_t body_bytes)
{
    if (j->spare_state == HF_JSPARE_READY && room_in(j->spare) >= body_bytes) {
        hf_jspare_activate(j, first_index);
        return true;
    }
    if (atomic_load(&j->stopping))
        return false;
    if (j->blocked_ms == 0)
        j->blocked_ms = j->env->boot_ms(j->env);
    if (j->spare_state != HF_JSPARE_PREPARING)
        hf_jspare_prepare(j, HF_JBATCH_HEADER_BYTES + body_bytes);
    return false;
}

/* Form the next batch. False: nothing to write, or no segment to write it to yet. */
static bool form_write(struct hf_journal *j)
{
    if (j->cut != HF_JCUT_NONE) {
        if (!switch_segment(j, j->cut_from, 0))
            return false;
        j->generation++;
        begin_batch(j, j->cut == HF_JCUT_RESET ? HF_JBATCH_RESET : HF_JBATCH_TRUNCATE, j->cut_from);
        j->cut = HF_JCUT_NONE;
        return true;
    }
    if (j->submitted_index + 1 < j->next_index) {
        uint64_t first = j->submitted_index + 1;
        uint64_t size = hf_jrecord_size(hf_jtail_at(&j->tail, first)->entry->len), room = room_in(active(j));

        if (room < size) {
            if (!switch_segment(j, first, size))
                return false;
            room = room_in(active(j));
        }
        begin_batch(j, HF_JBATCH_ENTRIES, first);
        fill_batch(j, room);
        j->idle_wanted = false;
        return true;
    }
    if (j->idle_wanted) {
        struct hf_jsegment *s = active(j);

        j->idle_wanted = false;
        if (s->capacity - s->end < HF_JBATCH_HEADER_BYTES)
            return false;
        begin_batch(j, HF_JBATCH_IDLE, j->submitted_index + 1);
        return true;
    }
    return false;
}

void hf_journal_pump(struct hf_journal *j)
{
    /* While term and vote are on their way nothing is formed: what comes meanwhile can still join the batch. */
    if (j->failed || j->write_busy || j->vote_busy || atomic_load(&j->stopping))
        return;
    if (!form_write(j))
        return;
    j->write_busy = true;
    j->env->executor_submit(j->env, j->writer, &j->write.job);
}

static void pump_cb(struct hf_task *task)
{
    hf_journal_pump(task->data);
}

static void idle_cb(struct hf_timer *timer)
{
    struct hf_journal *j = timer->data;

    if (j->write_busy || j->submitted_index + 1 < j->next_index || j->cut != HF_JCUT_NONE)
        return; /* not idle: the next write publishes it, and starts the timer again */
    j->idle_wanted = true;
    hf_journal_pump(j);
}

static void spare_retry_cb(struct hf_timer *timer)
{
    struct hf_journal *j = timer->data;

    if (j->spare_state == HF_JSPARE_FAILED)
        hf_jspare_prepare(j, 0);
}

/* ---- changing the log ---------------------------------------------------------------------------- */

void hf_journal_append(struct hf_journal *j, struct hf_log_entry *const *entries, size_t n)
{
    HF_ASSERT(!atomic_load(&j->stopping));
    for (size_t i = 0; i < n; i++) {
        struct hf_log_entry *e = entries[i];

        HF_ASSERT(e->index == j->next_index);
        HF_ASSERT(e->len <= HF_JENTRY_BYTES_MAX);
        j->cum += hf_jrecord_size(e->len);
        hf_jtail_push(&j->tail, e, j->cum);
        j->next_index++;
    }
    if (n > 0)
        j->env->post(j->env, &j->pump_task);
}

/* Running sum of record bytes up to and with `index`: exact in the tail, else a little low (by less than the
 * distance of two points). */
static uint64_t cum_through(const struct hf_journal *j, uint64_t index)
{
    if (index + 1 >= j->next_index)
        return j->cum;
    if (hf_jtail_has(&j->tail, index))
        return hf_jtail_at(&j->tail, index)->cum;
    if (index + 1 == j->tail.first) {
        const struct hf_jtail_item *next = hf_jtail_at(&j->tail, index + 1);

        return next->cum - hf_jrecord_size(next->entry->len);
    }
    for (size_t i = 0; i < j->n_segments; i++) {
        const struct hf_jsegment *s = j->segments[i];

        if (hf_jsegment_is_empty(s) || index + 1 > s->last_index)
            continue;
        return hf_jsegment_find(s, index + 1 > s->first_index ? index + 1 : s->first_index)->cum;
    }
    return j->cum;
}

void hf_journal_truncate_suffix(struct hf_journal *j, uint64_t from_index)
{
    HF_ASSERT(from_index >= hf_journal_first_index(j));
    HF_ASSERT(from_index <= j->next_index);
    if (from_index == j->next_index)
        return;
    j->cum = cum_through(j, from_index - 1);
    hf_jtail_cut(&j->tail, from_index);
    j->next_index = from_index;
    hf_jreads_cut(j, from_index);
    if (from_index > j->submitted_index)
        return; /* the disk has not heard of them */
    for (size_t i = 0; i < j->n_segments; i++)
        hf_jsegment_cut(j->segments[i], from_index);
    j->submitted_index = from_index - 1;
    if (j->durable_index >= from_index)
        j->durable_index = from_index - 1;
    j->truncations++;
    /* Nothing lies between a waiting cut and submitted_index, so the lowest wins by itself; a reset is never below. */
    HF_ASSERT(j->cut != HF_JCUT_RESET);
    j->cut = HF_JCUT_TRUNCATE;
    j->cut_from = from_index;
    j->env->post(j->env, &j->pump_task);
}

void hf_journal_reset(struct hf_journal *j, uint64_t next_index)
{
    HF_ASSERT(next_index >= 1);
    hf_jtail_cut(&j->tail, j->tail.first);
    j->tail.first = j->tail.next = next_index;
    hf_jreads_cut(j, 0);
    for (size_t i = 0; i < j->n_segments; i++)
        hf_jsegment_cut(j->segments[i], 0);
    j->next_index = next_index;
    j->submitted_index = next_index - 1;
    j->durable_index = 0; /* until the reset itself is durable */
    j->truncations++;
    j->cut = HF_JCUT_RESET;
    j->cut_from = next_index;
    j->env->post(j->env, &j->pump_task);
}

void hf_journal_truncate_prefix(struct hf_journal *j, uint64_t up_to_index)
{
    size_t n = 0;

    /* Never the segment that a later one has not yet succeeded on disk. */
    while (n + 1 < j->n_segments && j->segments[n]->id < j->durable_segment &&
           (hf_jsegment_is_empty(j->segments[n]) || j->segments[n]->last_index <= up_to_index))
        n++;
    if (n == 0)
        return;
    hf_jsegments_doom(j, n);
    while (j->tail.first < hf_journal_first_index(j) && j->tail.first < j->next_index)
        hf_jtail_drop_first(&j->tail);
    hf_jsegments_update_stats(j);
}

static void run_vote(struct hf_job *job)
{
    struct hf_jvote_write *w = HF_CONTAINER_OF(job, struct hf_jvote_write, job);

    w->rc = hf_jvote_store(w->fs, w->file, &w->value);
}

static void vote_done(struct hf_job *job)
{
    struct hf_journal *j = HF_CONTAINER_OF(job, struct hf_journal, vote_write.job);

    j->vote_busy = false;
    if (j->vote_write.rc != HF_OK) {
        hf_journal_fail(j, j->vote_write.rc, "writing term and vote to", "vote");
        return;
    }
    if (atomic_load(&j->stopping) || j->failed)
        return;
    hf_journal_pump(j);
    j->events->on_vote_durable(j->events->data);
}

void hf_journal_set_vote(struct hf_journal *j, uint64_t term, uint64_t vote)
{
    struct hf_jvote_write *w = &j->vote_write;

    HF_ASSERT(!j->vote_busy);
    HF_ASSERT(term >= j->vote.term);
    HF_ASSERT(!atomic_load(&j->stopping));
    if (j->failed)
        return;
    j->vote = (struct hf_jvote){.sequence = j->vote.sequence + 1, .term = term, .vote = vote};
    w->value = j->vote;
    w->fs = j->fs;
    w->file = j->vote_file;
    w->began_ms = j->env->boot_ms(j->env);
    w->job.run = run_vote;
    w->job.done = vote_done;
    j->vote_busy = true;
    j->env->executor_submit(j->env, j->writer, &w->job);
}

/* ---- asking -------------------------------------------------------------------------------------- */

uint64_t hf_journal_first_index(const struct hf_journal *j)
{
    for (size_t i = 0; i < j->n_segments; i++)
        if (!hf_jsegment_is_empty(j->segments[i]))
            return j->segments[i]->first_index;
    return j->submitted_index + 1;
}

uint64_t hf_journal_next_index(const struct hf_journal *j)
{
    return j->next_index;
}

uint64_t hf_journal_durable_index(const struct hf_journal *j)
{
    return j->durable_index;
}

uint64_t hf_journal_disk_bytes(const struct hf_journal *j)
{
    uint64_t sum = j->recycle_bytes + j->ballast_bytes + (j->spare != NULL ? j->spare->capacity : 0);

    if (j->spare_state == HF_JSPARE_PREPARING) { /* at most: a file for reuse becomes it, if it fits */
        if (j->prepare.in_place)
            sum += j->prepare.bytes - j->spare->capacity;
        else if (j->recycle_bytes != j->prepare.bytes)
            sum += j->prepare.bytes;
    }
    for (size_t i = 0; i < j->n_segments; i++)
        sum += j->segments[i]->capacity;
    for (size_t i = 0; i < j->n_doomed; i++)
        sum += j->doomed[i]->capacity;
    return sum;
}

uint64_t hf_journal_tail_bytes(const struct hf_journal *j)
{
    return j->tail.bytes;
}

uint64_t hf_journal_bytes_after(const struct hf_journal *j, uint64_t index)
{
    return j->cum - cum_through(j, index);
}

uint64_t hf_journal_first_within(const struct hf_journal *j, uint64_t bytes)
{
    size_t i = j->n_segments - 1;
    uint64_t sum = j->segments[i]->capacity;

    while (i > 0 && sum + j->segments[i - 1]->capacity <= bytes)
        sum += j->segments[--i]->capacity;
    while (i < j->n_segments && hf_jsegment_is_empty(j->segments[i]))
        i++;
    return i < j->n_segments ? j->segments[i]->first_index : j->submitted_index + 1;
}

uint64_t hf_journal_bytes_bound(const struct hf_journal *j, uint64_t kept_bytes, uint64_t grown_bytes,
                                uint64_t entry_bytes_max)
{
    uint64_t large = hf_jrecord_size((uint32_t)entry_bytes_max) + HF_JSEG_HEADER_BYTES + 3 * HF_JBATCH_HEADER_BYTES;
    uint64_t segment = large > j->segment_bytes ? large : j->segment_bytes;

    /* The segment that growth ends in, the one prepared after it, two that wait for their deletion, which is slower
     * than a cut but not slower than preparing what replaces them. */
    return kept_bytes + grown_bytes + 4 * segment + j->segment_bytes + j->reserve_bytes;
}

uint64_t hf_journal_waiting_bytes(const struct hf_journal *j)
{
    uint64_t first = j->durable_index + 1 > j->tail.first ? j->durable_index + 1 : j->tail.first;

    return first >= j->next_index ? 0 : j->cum - cum_through(j, first - 1);
}

uint64_t hf_journal_stall_ms(const struct hf_journal *j)
{
    uint64_t since = UINT64_MAX, now = j->env->boot_ms(j->env);

    if (j->write_busy && j->write.began_ms < since)
        since = j->write.began_ms;
    if (j->vote_busy && j->vote_write.began_ms < since)
        since = j->vote_write.began_ms;
    if (j->blocked_ms != 0 && j->blocked_ms < since)
        since = j->blocked_ms;
    return since < now ? now - since : 0;
}

int hf_journal_get(struct hf_journal *j, uint64_t index, struct hf_log_entry **out)
{
    if (hf_jtail_has(&j->tail, index)) {
        *out = hf_log_entry_ref(hf_jtail_at(&j->tail, index)->entry);
        return HF_OK;
    }
    if (index >= j->next_index || index < hf_journal_first_index(j))
        return HF_E_NOENT;
    return HF_E_AGAIN;
}

/* ---- opening ------------------------------------------------------------------------------------- */

/* Make or take the next segment, now. */
static int prepare_now(struct hf_journal *j, uint64_t id)
{
    struct hf_jprepare *p = &j->prepare;

    p->in_place = false;
    p->id = id;
    p->salt = hf_prng_next(&j->prng);
    p->bytes = j->segment_bytes;
    hf_jfiles_prepare(p);
    j->ballast_bytes = p->ballast_bytes;
    if (p->recycled_used)
        j->recycle_bytes = 0;
    if (p->rc != HF_OK)
        return p->rc;
    j->spare = hf_jsegment_new(id, p->salt, p->bytes);
    j->spare->file = p->file;
    return HF_OK;
}

/* Begin a segment with a batch that says where the log before it ends; it also publishes that all of it is synced. */
static int write_start(struct hf_journal *j)
{
    j->spare_state = HF_JSPARE_READY;
    hf_jspare_activate(j, j->next_index);
    j->generation++;
    begin_batch(j, HF_JBATCH_START, j->next_index);
    run_write(&j->write.job);
    (void)settle_write(j);
    return j->write.rc;
}

static int create(struct hf_journal *j, const struct hf_jrecovery *r, const char *vote_path)
{
    int rc = HF_OK;

    if (r->lowest_id != 0) {
        rc = hf_jfiles_delete(j->fs, j->dir, r->lowest_id, 0, UINT64_MAX, NULL);
        if (rc != HF_OK)
            return rc;
    }
    rc = prepare_now(j, 1);
    if (rc == HF_OK)
        rc = write_start(j);
    if (rc == HF_OK)
        rc = hf_jvote_create(j->fs, j->dir, vote_path, &j->vote);
    return rc;
}

/* The end of the log is known: make it so on disk. Everything up to it is synced before it is believed, since after a
 * crash of the process alone it may only be in the page cache. */
static int settle_tail(struct hf_journal *j)
{
    struct hf_jsegment *s = active(j);
    char *path = hf_jfiles_segment_path(j->dir, s->id);
    struct hf_file *f;
    int rc = j->fs->open(j->fs, path, HF_FS_WRITE, &f);

    hf_free(path);
    if (rc != HF_OK)
        return rc;
    rc = j->fs->truncate(j->fs, f, s->end);
    if (rc == HF_OK)
        rc = j->fs->sync(j->fs, f);
    j->fs->close(j->fs, f);
    s->capacity = s->end;
    j->durable_segment = s->id;
    j->durable_offset = s->end;
    return rc;
}

static int resume(struct hf_journal *j, struct hf_jrecovery *r)
{
    uint64_t spare_id;
    int rc;

    for (size_t i = 0; i < r->n; i++)
        hf_jsegments_push(j, r->segments[i]);
    r->n = 0;
    j->spare = r->spare;
    r->spare = NULL;
    j->next_index = r->next_index;
    j->cum = r->cum;
    j->generation = r->generation;
    j->last_crc = r->last_crc;
    spare_id = active(j)->id + 1;

    rc = settle_tail(j);
    if (rc == HF_OK && r->vote_differs)
        rc = hf_jvote_store(j->fs, j->vote_file, &r->vote);
    if (rc == HF_OK)
        rc = j->fs->sync_dir(j->fs, j->dir);
    for (uint64_t id = r->lowest_id; rc == HF_OK && id < r->dead_to; id++) {
        rc = hf_jfiles_delete(j->fs, j->dir, id, 0, UINT64_MAX, NULL);
        if (rc == HF_E_NOENT)
            rc = HF_OK;
    }
    if (rc == HF_OK && j->spare != NULL && (r->spare_is_bad || j->spare->capacity < j->segment_bytes)) {
        hf_jsegment_free(j->spare);
        j->spare = NULL;
        rc = hf_jfiles_delete(j->fs, j->dir, spare_id, 0, UINT64_MAX, NULL);
    }
    if (rc == HF_OK && j->spare == NULL) {
        rc = prepare_now(j, spare_id);
    } else if (rc == HF_OK) {
        char *path = hf_jfiles_segment_path(j->dir, spare_id);

        rc = j->fs->open(j->fs, path, HF_FS_WRITE, &j->spare->file);
        hf_free(path);
    }
    if (rc == HF_OK)
        rc = write_start(j);
    return rc;
}

static void register_stats(struct hf_journal *j, struct hf_stats *stats)
{
    j->stat_writes = hf_stats_counter(stats, "journal_writes_total", NULL, "Writes to the log, each with one sync");
    j->stat_bytes = hf_stats_counter(stats, "journal_bytes_total", NULL, "Bytes written to the log");
    j->stat_sync_us = hf_stats_histogram(stats, "journal_sync_us", NULL, "Time of one write and sync");
    j->stat_batch_entries = hf_stats_histogram(stats, "journal_batch_entries", NULL, "Entries in one write");
    j->stat_disk_bytes = hf_stats_gauge(stats, "journal_disk_bytes", NULL, "Bytes of the log's files");
    j->stat_tail_bytes = hf_stats_gauge(stats, "journal_tail_bytes", NULL, "Bytes of log entries in memory");
    j->stat_reserve_bytes =
        hf_stats_gauge(stats, "journal_reserve_bytes", NULL, "Bytes of the ballast file, 0 once it was released");
    j->stat_spare_failed =
        hf_stats_gauge(stats, "journal_no_space", NULL, "1 while there is no space for the next segment");
}

static int make_dir(struct hf_journal *j)
{
    char *parent = hf_strdup(j->dir), *slash = strrchr(parent, '/');
    int rc = j->fs->mkdir(j->fs, j->dir);

    if (rc == HF_E_EXISTS)
        rc = HF_OK;
    if (slash != NULL)
        slash[slash == parent ? 1 : 0] = 0;
    if (rc == HF_OK)
        rc = j->fs->sync_dir(j->fs, slash != NULL ? parent : ".");
    hf_free(parent);
    return rc;
}

static void free_journal(struct hf_journal *j)
{
    struct hf_fs *fs = j->fs;

    if (j->spare != NULL) {
        if (j->spare->file != NULL)
            fs->close(fs, j->spare->file);
        j->spare->file = NULL;
        hf_jsegment_free(j->spare);
    }
    for (size_t i = 0; i < j->n_segments + j->n_doomed; i++) {
        struct hf_jsegment *s = i < j->n_segments ? j->segments[i] : j->doomed[i - j->n_segments];

        if (s->file != NULL)
            fs->close(fs, s->file);
        s->file = NULL;
        hf_jsegment_free(s);
    }
    if (j->vote_file != NULL)
        fs->close(fs, j->vote_file);
    hf_jtail_free(&j->tail);
    hf_buf_free(&j->write.buf);
    hf_free(j->write.entries);
    hf_free(j->segments);
    hf_free(j->doomed);
    hf_free(j->dir);
    hf_free(j);
}

static int open_files(struct hf_journal *j, struct hf_jrecovery *r, char *why, size_t why_size)
{
    char *vote_path = hf_jfiles_path(j->dir, "vote");
    int rc = HF_OK;

    j->vote = r->vote;
    rc = hf_jfiles_tidy(j->fs, j->dir, j->segment_bytes, &j->recycle_bytes);
    if (rc == HF_OK && r->empty)
        rc = create(j, r, vote_path);
    if (rc == HF_OK)
        rc = j->fs->open(j->fs, vote_path, HF_FS_WRITE, &j->vote_file);
    if (rc == HF_OK && !r->empty)
        rc = resume(j, r);
    hf_free(vote_path);
    if (rc != HF_OK)
        snprintf(why, why_size, "journal: cannot prepare %s: %s", j->dir, hf_strerror(rc));
    return rc;
}

static int open_executors(struct hf_journal *j, char *why, size_t why_size)
{
    int rc = j->env->executor_open(j->env, "hf-journal", &j->writer);

    if (rc == HF_OK)
        rc = j->env->executor_open(j->env, "hf-jread", &j->reader);
    if (rc == HF_OK)
        rc = j->env->executor_open(j->env, "hf-jfiles", &j->files);
    if (rc != HF_OK)
        snprintf(why, why_size, "journal: cannot start a thread: %s", hf_strerror(rc));
    return rc;
}

static void close_executors(struct hf_journal *j)
{
    if (j->writer != NULL)
        j->env->executor_close(j->env, j->writer);
    if (j->files != NULL)
        j->env->executor_close(j->env, j->files);
    if (j->reader != NULL)
        j->env->executor_close(j->env, j->reader);
    j->writer = j->files = j->reader = NULL;
}

static struct hf_journal *new_journal(struct hf_env *env, const struct hf_journal_config *config,
                                      const struct hf_journal_events *events, struct hf_stats *stats)
{
    struct hf_journal *j = hf_calloc(1, sizeof *j);

    j->env = env;
    j->fs = env->fs;
    j->dir = hf_strdup(config->dir);
    j->segment_bytes = config->segment_bytes < SEGMENT_BYTES_MIN ? SEGMENT_BYTES_MIN : config->segment_bytes;
    j->segment_bytes = (j->segment_bytes + HF_JSEG_HEADER_BYTES - 1) & ~(uint64_t)(HF_JSEG_HEADER_BYTES - 1);
    j->tail_bytes_max = config->tail_bytes_max;
    j->reserve_bytes = config->reserve_bytes == HF_JOURNAL_NO_RESERVE ? 0
                       : config->reserve_bytes == 0                   ? j->segment_bytes
                                                                      : config->reserve_bytes;
    j->events = events;
    j->next_index = 1;
    j->pump_task = (struct hf_task){.data = j, .cb = pump_cb};
    j->idle_timer = (struct hf_timer){.data = j, .cb = idle_cb};
    j->spare_timer = (struct hf_timer){.data = j, .cb = spare_retry_cb};
    j->prepare.fs = j->fs;
    j->prepare.dir = j->dir;
    j->prepare.stop = &j->stopping;
    j->prepare.reserve_bytes = j->reserve_bytes;
    atomic_init(&j->stopping, false);
    hf_prng_seed(&j->prng, env->boot_ns(env) ^ ((uint64_t)env->wall_ms(env) << 24));
    register_stats(j, stats);
    return j;
}

int hf_journal_open(struct hf_env *env, const struct hf_journal_config *config, const struct hf_journal_events *events,
                    struct hf_stats *stats, struct hf_journal_state *state, struct hf_journal **out, char *why,
                    size_t why_size)
{
    struct hf_journal *j = new_journal(env, config, events, stats);
    struct hf_jrecovery r = {0};
    int rc;

    if (why_size > 0)
        why[0] = 0;
    rc = make_dir(j);
    if (rc != HF_OK)
        snprintf(why, why_size, "journal: cannot create %s: %s", j->dir, hf_strerror(rc));
    if (rc == HF_OK)
        rc = hf_jrecover(j->fs, j->dir, &r, why, why_size);
    if (rc == HF_OK) {
        *state = hf_jrecovery_state(&r);
        rc = open_files(j, &r, why, why_size);
    }
    if (rc == HF_OK)
        rc = open_executors(j, why, why_size);
    hf_jrecovery_free(&r);
    if (rc != HF_OK) {
        close_executors(j);
        free_journal(j);
        return rc;
    }
    j->submitted_index = j->next_index - 1;
    j->durable_index = j->next_index - 1;
    hf_jtail_init(&j->tail, j->next_index);

    if (state->torn_tail)
        HF_LOG_WARN("journal", "cut an unfinished write off the end of the log", "dir=%s next_index=%" PRIu64, j->dir,
                    j->next_index);
    hf_gauge_set(j->stat_reserve_bytes, (int64_t)j->ballast_bytes);
    hf_jsegments_update_stats(j);
    hf_jsegments_clean(j);
    hf_jspare_prepare(j, 0);
    j->env->timer_start(j->env, &j->idle_timer, IDLE_MS);
    *out = j;
    return HF_OK;
}

void hf_journal_close(struct hf_journal *j)
{
    atomic_store(&j->stopping, true);
    j->env->timer_stop(j->env, &j->idle_timer);
    j->env->timer_stop(j->env, &j->spare_timer);
    j->env->unpost(j->env, &j->pump_task);
    close_executors(j);

    /* What was appended and not yet written, as far as the prepared space goes; then the word that all is synced. */
    j->idle_wanted = j->published_segment != j->durable_segment || j->published_offset != j->durable_offset;
    while (!j->failed && j->write.rc == HF_OK && j->vote_write.rc == HF_OK) {
        if (!form_write(j)) {
            if (j->cut != HF_JCUT_NONE || j->submitted_index + 1 < j->next_index || !j->idle_wanted)
                break;
            continue;
        }
        if (j->write.header.kind == HF_JBATCH_ENTRIES)
            j->idle_wanted = true;
        run_write(&j->write.job);
        (void)settle_write(j);
    }
    free_journal(j);
}
