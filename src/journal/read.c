/* read.c: entries from disk, for followers that are behind the tail in memory and for the walk at start. A read
 * goes over one segment only and checks every batch it passes, so what it returns is what was written. */
#include "base/assert.h"
#include "base/mem.h"
#include "journal/internal.h"

#include <stdio.h>

#define WINDOW_BYTES (256u * 1024u)

/* ---- walking one segment (blocking) -------------------------------------------------------------- */

struct window {
    struct hf_fs *fs;
    struct hf_file *file;
    uint64_t at, end; /* file offset of data[0]; end of the segment's batches */
    uint8_t *data;
    size_t len, cap;
};

/* n bytes at offset, or NULL with *rc set. */
static const uint8_t *see(struct window *w, uint64_t offset, size_t n, int *rc)
{
    if (offset + n > w->end) {
        *rc = HF_E_CORRUPT;
        return NULL;
    }
    if (offset < w->at || offset + n > w->at + w->len) {
        uint64_t left = w->end - offset;
        size_t want = left < WINDOW_BYTES ? (size_t)left : WINDOW_BYTES;

        if (want < n)
            want = n;
        if (want > w->cap) {
            hf_free(w->data);
            w->data = hf_malloc(want);
            w->cap = want;
        }
        w->at = offset;
        w->len = 0;
        *rc = w->fs->read(w->fs, w->file, offset, w->data, want, &w->len);
        if (*rc == HF_OK && w->len < n)
            *rc = HF_E_CORRUPT;
        if (*rc != HF_OK)
            return NULL;
    }
    return w->data + (offset - w->at);
}

static int hand_out(const struct hf_jwalk *w, const struct hf_jbatch *b, const uint8_t *body,
                    int (*cb)(void *data, struct hf_log_entry *e), void *data)
{
    struct hf_reader in = hf_reader(hf_slice(body, b->body_bytes));
    struct hf_jrecord rec;
    int rc = 0;

    for (uint32_t i = 0; i < b->count && rc == 0; i++) {
        struct hf_log_entry *e;

        if (!hf_jrecord_next(&in, &rec))
            return HF_E_CORRUPT;
        if (rec.index < w->first || rec.index > w->last)
            continue;
        e = hf_log_entry_new(rec.type, rec.index, rec.term, (uint32_t)rec.payload.len);
        if (rec.payload.len > 0)
            memcpy(e->data, rec.payload.ptr, rec.payload.len);
        rc = cb(data, e);
        hf_log_entry_unref(e);
    }
    return rc;
}

int hf_jwalk_run(const struct hf_jwalk *w, int (*cb)(void *data, struct hf_log_entry *e), void *data)
{
    struct window win = {.fs = w->fs, .end = w->end};
    char *path = hf_jfiles_segment_path(w->dir, w->segment);
    uint64_t at = w->offset, next = 0;
    int rc = w->fs->open(w->fs, path, HF_FS_READ, &win.file);

    hf_free(path);
    if (rc != HF_OK)
        return rc;
    while (rc == HF_OK && next <= w->last && at < w->end) {
        const uint8_t *p = see(&win, at, HF_JBATCH_HEADER_BYTES, &rc);
        struct hf_jbatch b;

        if (p == NULL)
            break;
        rc = hf_jbatch_decode(&b, p, HF_JBATCH_HEADER_BYTES);
        if (rc == HF_OK && (b.segment != w->segment || b.salt != w->salt || b.offset != at))
            rc = HF_E_CORRUPT;
        if (rc != HF_OK)
            break;
        p = see(&win, at + HF_JBATCH_HEADER_BYTES, b.body_bytes, &rc);
        if (p == NULL)
            break;
        rc = hf_jbatch_check_body(&b, p);
        if (rc == HF_OK)
            rc = hand_out(w, &b, p, cb, data);
        at += HF_JBATCH_HEADER_BYTES + b.body_bytes;
        next = b.first_index + b.count;
    }
    w->fs->close(w->fs, win.file);
    hf_free(win.data);
    /* The caller knows that the entries up to `last` are there. */
    if (rc == HF_OK && next <= w->last)
        rc = HF_E_CORRUPT;
    return rc;
}

/* ---- the walk at start --------------------------------------------------------------------------- */

static int scan(struct hf_fs *fs, const char *dir, struct hf_jsegment *const *segments, size_t n, uint64_t first,
                int (*cb)(void *data, struct hf_log_entry *e), void *data)
{
    for (size_t i = 0; i < n; i++) {
        const struct hf_jsegment *s = segments[i];
        struct hf_jwalk w = {.fs = fs, .dir = dir, .segment = s->id, .salt = s->salt};
        int rc;

        if (hf_jsegment_is_empty(s) || s->last_index < first)
            continue;
        w.first = first > s->first_index ? first : s->first_index;
        w.last = s->last_index;
        w.offset = hf_jsegment_find(s, w.first)->offset;
        w.end = s->end;
        rc = hf_jwalk_run(&w, cb, data);
        if (rc != 0)
            return rc;
    }
    return 0;
}

int hf_journal_scan(struct hf_journal *j, uint64_t first, int (*cb)(void *data, struct hf_log_entry *e), void *data)
{
    HF_ASSERT(j->tail.first == j->next_index); /* before the first append */
    return scan(j->fs, j->dir, j->segments, j->n_segments, first, cb, data);
}

int hf_journal_look(struct hf_fs *fs, const char *dir, struct hf_journal_state *state,
                    int (*cb)(void *data, struct hf_log_entry *e), void *data, char *why, size_t why_size)
{
    struct hf_jrecovery r = {0};
    int rc = hf_jrecover(fs, dir, &r, why, why_size);

    if (rc != HF_OK)
        return rc;
    *state = hf_jrecovery_state(&r);
    rc = scan(fs, dir, r.segments, r.n, state->first_index, cb, data);
    if (rc < 0)
        snprintf(why, why_size, "journal: cannot read the entries in %s: %s", dir, hf_strerror(rc));
    hf_jrecovery_free(&r);
    return rc;
}

/* ---- asynchronous reads -------------------------------------------------------------------------- */

struct hf_jread_impl {
    struct hf_job job;
    struct hf_journal *j;
    struct hf_journal_read *req;
    struct hf_jsegment *segment; /* NULL: nothing to read from disk */
    struct hf_jwalk walk;
    size_t n_max, bytes_max, bytes;
    struct hf_log_entry **entries;
    size_t n, cap;
    uint64_t cut_from; /* entries from here on were truncated meanwhile */
    int rc;
    struct hf_jread_impl *next;
};

/* Stops the walk; never seen outside. */
#define ENOUGH 1

static int collect(void *data, struct hf_log_entry *e)
{
    struct hf_jread_impl *r = data;

    if (r->n > 0 && (r->n >= r->n_max || r->bytes + e->len > r->bytes_max))
        return ENOUGH;
    if (r->n == r->cap) {
        r->cap = r->cap ? r->cap * 2 : 16;
        r->entries = hf_realloc(r->entries, r->cap * sizeof(struct hf_log_entry *));
    }
    r->entries[r->n++] = hf_log_entry_ref(e);
    r->bytes += e->len;
    return 0;
}

static void run_read(struct hf_job *job)
{
    struct hf_jread_impl *r = HF_CONTAINER_OF(job, struct hf_jread_impl, job);

    if (r->segment == NULL)
        return;
    r->rc = hf_jwalk_run(&r->walk, collect, r);
    /* What was read before a bad batch is good; the error will come with the next read. */
    if (r->rc == ENOUGH || (r->rc < 0 && r->n > 0))
        r->rc = HF_OK;
}

static void read_done(struct hf_job *job)
{
    struct hf_jread_impl *r = HF_CONTAINER_OF(job, struct hf_jread_impl, job);
    struct hf_journal *j = r->j;
    struct hf_journal_read *req = r->req;
    struct hf_jread_impl **link = &j->reads;

    while (*link != r)
        link = &(*link)->next;
    *link = r->next;
    if (r->segment != NULL) {
        r->segment->reads--;
        hf_jsegments_clean(j);
    }
    if (atomic_load(&j->stopping))
        r->rc = HF_E_CLOSED;
    if (r->rc == HF_OK && r->n > 0 && r->entries[0]->index >= r->cut_from)
        r->rc = HF_E_NOENT;
    while (r->n > 0 && (r->rc != HF_OK || r->entries[r->n - 1]->index >= r->cut_from))
        hf_log_entry_unref(r->entries[--r->n]);
    req->impl = NULL;
    req->cb(req, r->rc, r->entries, r->n);
    hf_free(r->entries);
    hf_free(r);
}

/* Plan the read now; the executor only sees the plan. */
static void plan_read(struct hf_journal *j, struct hf_jread_impl *r, uint64_t first)
{
    if (first < hf_journal_first_index(j) || first >= j->next_index) {
        r->rc = HF_E_NOENT;
        return;
    }
    if (hf_jtail_has(&j->tail, first)) {
        for (uint64_t i = first; i < j->tail.next; i++)
            if (collect(r, hf_jtail_at(&j->tail, i)->entry) != 0)
                break;
        return;
    }
    for (size_t i = 0; i < j->n_segments; i++) {
        struct hf_jsegment *s = j->segments[i];

        if (hf_jsegment_is_empty(s) || first > s->last_index)
            continue;
        r->segment = s;
        s->reads++;
        r->walk = (struct hf_jwalk){.fs = j->fs, .dir = j->dir, .segment = s->id, .salt = s->salt, .end = s->end};
        r->walk.first = first;
        /* Below the tail everything is durable, so the executor meets no write in flight. */
        r->walk.last = s->last_index < j->tail.first ? s->last_index : j->tail.first - 1;
        r->walk.offset = hf_jsegment_find(s, first)->offset;
        return;
    }
    HF_UNREACHABLE();
}

void hf_journal_read(struct hf_journal *j, struct hf_journal_read *req)
{
    struct hf_jread_impl *r = hf_calloc(1, sizeof *r);

    HF_ASSERT(!atomic_load(&j->stopping));
    r->j = j;
    r->req = req;
    r->n_max = req->n_max;
    r->bytes_max = req->bytes_max;
    r->cut_from = UINT64_MAX;
    r->job.run = run_read;
    r->job.done = read_done;
    plan_read(j, r, req->first);
    r->next = j->reads;
    j->reads = r;
    req->impl = r;
    j->env->executor_submit(j->env, j->reader, &r->job);
}

void hf_jreads_cut(struct hf_journal *j, uint64_t from_index)
{
    for (struct hf_jread_impl *r = j->reads; r != NULL; r = r->next)
        if (from_index < r->cut_from)
            r->cut_from = from_index;
}
