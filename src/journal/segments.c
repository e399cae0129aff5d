/* segments.c: the life of segment files around the log: the next one is prepared while there is time, a full one is
 * sealed, an old one deleted in order. All blocking work goes to the executor "hf-jfiles", so that neither the loop
 * nor a write ever waits for it, except when the log fills a segment faster than the next one can be made. */
#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "journal/internal.h"

/* While the disk is full the next segment is tried again this often; the present one may have room for long. */
#define SPARE_RETRY_MS 1000

void hf_jsegments_push(struct hf_journal *j, struct hf_jsegment *s)
{
    if (j->n_segments == j->cap_segments) {
        j->cap_segments = j->cap_segments ? j->cap_segments * 2 : 16;
        j->segments = hf_realloc(j->segments, j->cap_segments * sizeof(struct hf_jsegment *));
    }
    j->segments[j->n_segments++] = s;
}

void hf_jsegments_update_stats(struct hf_journal *j)
{
    hf_gauge_set(j->stat_disk_bytes, (int64_t)hf_journal_disk_bytes(j));
    hf_gauge_set(j->stat_tail_bytes, (int64_t)j->tail.bytes);
}

/* ---- the spare ----------------------------------------------------------------------------------- */

static void run_prepare(struct hf_job *job)
{
    hf_jfiles_prepare(job->data);
}

static void prepare_done(struct hf_job *job)
{
    struct hf_journal *j = HF_CONTAINER_OF(job, struct hf_journal, prepare.job);
    struct hf_jprepare *p = &j->prepare;
    char name[HF_JSEG_NAME_BYTES];

    if (p->ballast_used)
        HF_LOG_WARN("journal", "disk full, the reserve was released", "dir=%s", j->dir);
    j->ballast_bytes = p->ballast_bytes;
    hf_gauge_set(j->stat_reserve_bytes, (int64_t)p->ballast_bytes);
    if (p->recycled_used)
        j->recycle_bytes = 0;
    if (p->rc == HF_OK) {
        if (!p->in_place)
            j->spare = hf_jsegment_new(p->id, p->salt, p->bytes);
        j->spare->file = p->file;
        j->spare->capacity = p->bytes;
        j->spare_state = HF_JSPARE_READY;
        hf_gauge_set(j->stat_spare_failed, 0);
        hf_jsegments_update_stats(j);
        hf_journal_pump(j);
        return;
    }
    j->spare_state = HF_JSPARE_FAILED;
    hf_gauge_set(j->stat_spare_failed, 1);
    if (atomic_load(&j->stopping))
        return;
    hf_jseg_name(name, p->id);
    if (p->rc != HF_E_NOSPC) {
        hf_journal_fail(j, p->rc, "preparing", name);
    } else if (j->blocked_ms == 0) {
        HF_LOG_WARN("journal", "no space for the next segment", "dir=%s retry_ms=%d", j->dir, SPARE_RETRY_MS);
        j->env->timer_start(j->env, &j->spare_timer, SPARE_RETRY_MS);
    } else if (j->spare_last_chance) {
        hf_journal_fail(j, p->rc, "the reserve is used up: preparing", name);
    } else {
        hf_journal_pump(j); /* a write waits: one more attempt, with what was freed meanwhile */
    }
}

void hf_jspare_prepare(struct hf_journal *j, uint64_t min_bytes)
{
    struct hf_jprepare *p = &j->prepare;
    uint64_t bytes = HF_JSEG_HEADER_BYTES + min_bytes + HF_JBATCH_HEADER_BYTES;

    HF_ASSERT(j->spare_state != HF_JSPARE_PREPARING);
    if (j->failed || atomic_load(&j->stopping))
        return;
    j->env->timer_stop(j->env, &j->spare_timer);
    p->in_place = j->spare != NULL;
    if (p->in_place) {
        HF_ASSERT(bytes > j->spare->capacity);
        j->fs->close(j->fs, j->spare->file);
        j->spare->file = NULL;
    } else {
        p->id = j->segments[j->n_segments - 1]->id + 1;
        p->salt = hf_prng_next(&j->prng);
    }
    p->bytes = bytes > j->segment_bytes ? bytes : j->segment_bytes;
    p->rc = HF_OK;
    p->file = NULL;
    p->job.data = p;
    p->job.run = run_prepare;
    p->job.done = prepare_done;
    j->spare_last_chance = j->blocked_ms != 0;
    j->spare_state = HF_JSPARE_PREPARING;
    j->env->executor_submit(j->env, j->files, &p->job);
}

void hf_jspare_activate(struct hf_journal *j, uint64_t first_index)
{
    struct hf_jsegment *s = j->spare;

    HF_ASSERT(j->spare_state == HF_JSPARE_READY);
    HF_ASSERT(s->file != NULL);
    s->first_index = first_index;
    s->last_index = first_index - 1;
    hf_jsegments_push(j, s);
    j->spare = NULL;
    j->spare_state = HF_JSPARE_NONE;
    j->blocked_ms = 0;
}

/* ---- sealing and deleting ------------------------------------------------------------------------ */

static void run_cleanup(struct hf_job *job)
{
    struct hf_jcleanup *c = HF_CONTAINER_OF(job, struct hf_jcleanup, job);
    struct hf_journal *j = c->j;

    c->rc = HF_OK;
    for (c->n_done = 0; c->n_done < c->n; c->n_done++) {
        struct hf_jcleanup_item *item = &c->items[c->n_done];
        struct hf_jsegment *s = item->segment;

        if (item->cut)
            c->rc = j->fs->truncate(j->fs, s->file, s->end);
        if (s->file != NULL)
            j->fs->close(j->fs, s->file);
        if (c->rc == HF_OK && item->is_delete)
            c->rc = hf_jfiles_delete(j->fs, j->dir, s->id, s->capacity, j->segment_bytes, &item->is_kept);
        if (c->rc != HF_OK)
            return;
    }
}

static void cleanup_done(struct hf_job *job)
{
    struct hf_jcleanup *c = HF_CONTAINER_OF(job, struct hf_jcleanup, job);
    struct hf_journal *j = c->j;
    size_t n_deleted = 0;
    char name[HF_JSEG_NAME_BYTES] = "";

    j->cleanup_busy = false;
    for (size_t i = 0; i < c->n; i++) {
        struct hf_jcleanup_item *item = &c->items[i];
        struct hf_jsegment *s = item->segment;
        bool is_done = i < c->n_done;

        if (i <= c->n_done)
            s->file = NULL;
        if (i == c->n_done)
            hf_jseg_name(name, s->id);
        if (!is_done)
            continue;
        if (item->is_kept)
            j->recycle_bytes = s->capacity;
        if (item->cut)
            s->capacity = s->end;
        if (item->is_delete) {
            hf_jsegment_free(s);
            n_deleted++;
        }
    }
    if (n_deleted > 0) {
        j->n_doomed -= n_deleted;
        memmove(j->doomed, j->doomed + n_deleted, j->n_doomed * sizeof(struct hf_jsegment *));
    }
    hf_jsegments_update_stats(j);
    if (c->rc != HF_OK && !atomic_load(&j->stopping)) {
        hf_journal_fail(j, c->rc, c->items[c->n_done].is_delete ? "deleting" : "sealing", name);
        return;
    }
    hf_jsegments_clean(j);
}

static struct hf_jcleanup_item *add_cleanup(struct hf_jcleanup *c, struct hf_jsegment *s)
{
    struct hf_jcleanup_item *item = &c->items[c->n++];

    *item = (struct hf_jcleanup_item){.segment = s};
    return item;
}

void hf_jsegments_clean(struct hf_journal *j)
{
    struct hf_jcleanup *c = &j->cleanup;

    if (j->cleanup_busy || j->failed || atomic_load(&j->stopping))
        return;
    c->n = 0;
    for (size_t i = 0; i < j->n_doomed && j->doomed[i]->reads == 0 && c->n < HF_JCLEANUP_MAX; i++)
        add_cleanup(c, j->doomed[i])->is_delete = true;
    /* All but the active segment; and its predecessor only once the active one has a batch on disk. A segment left
     * early (truncation, restart, a large entry) gives its space back; a full one keeps its size for reuse. */
    for (size_t i = 0; i + 1 < j->n_segments && c->n < HF_JCLEANUP_MAX; i++) {
        struct hf_jsegment *s = j->segments[i];

        if (s->file == NULL || s->id >= j->durable_segment)
            continue;
        add_cleanup(c, s)->cut = s->capacity - s->end > j->segment_bytes / 4;
    }
    if (c->n == 0)
        return;
    c->j = j;
    c->job.run = run_cleanup;
    c->job.done = cleanup_done;
    j->cleanup_busy = true;
    j->env->executor_submit(j->env, j->files, &c->job);
}

void hf_jsegments_doom(struct hf_journal *j, size_t n)
{
    HF_ASSERT(n < j->n_segments);
    for (size_t i = 0; i < n; i++) {
        if (j->n_doomed == j->cap_doomed) {
            j->cap_doomed = j->cap_doomed ? j->cap_doomed * 2 : 16;
            j->doomed = hf_realloc(j->doomed, j->cap_doomed * sizeof(struct hf_jsegment *));
        }
        j->doomed[j->n_doomed++] = j->segments[i];
    }
    j->n_segments -= n;
    memmove(j->segments, j->segments + n, j->n_segments * sizeof(struct hf_jsegment *));
    hf_jsegments_clean(j);
}
