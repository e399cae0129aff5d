/* copy.c: local copies of the database. At most one is being made, step by step on the executor; each that is complete
 * is shared by everyone who reads from it, given to whoever asks next while it is recent enough, and deleted when
 * nobody uses it and keep_ms have passed. */
#include "snapshot/internal.h"

#include "base/assert.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>

static void free_copy(struct copy *c)
{
    HF_ASSERT(c->file == NULL);
    HF_ASSERT(c->handle == NULL);
    hf_held_info_free(&c->held);
    hf_file_hash_free(c->hash);
    hf_free(c->path);
    hf_free(c->live);
    hf_free(c);
}

static void forget_copy(struct copy *c)
{
    struct copy **at = &c->s->copies;

    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    c->s->n_copies--;
    free_copy(c);
}

struct copy *hf_copies_making(const struct hf_snapshots *s)
{
    for (struct copy *c = s->copies; c != NULL; c = c->next) {
        if (c->is_making)
            return c;
    }
    return NULL;
}

/* ---- making -------------------------------------------------------------------------------------- */

/* The info of what was copied, and the file opened for reading. On the executor. */
static int finish_copy(struct copy *c)
{
    struct hf_fs *fs = c->s->env->fs;
    const struct hf_store_info *from = hf_store_copy_info(c->handle);
    struct hf_snapshot_info info = {.index = from->meta.applied_index,
                                    .term = from->meta.applied_term,
                                    .configuration_index = from->meta.configuration_index,
                                    .configuration = from->meta.configuration,
                                    .level = from->level};
    int rc;

    memcpy(info.digest, from->meta.digest, sizeof(info.digest));
    memcpy(info.history, from->meta.history, sizeof(info.history));
    rc = fs->open(fs, c->path, HF_FS_READ, &c->file);
    if (rc == 0)
        rc = fs->size(fs, c->file, &c->bytes);
    if (rc != 0) {
        snprintf(c->why, sizeof(c->why), "%s: %s", c->path, hf_strerror(rc));
        return rc;
    }
    info.bytes = c->bytes;
    hf_held_info_set(&c->held, &info);
    if (info.configuration.len > HF_COPY_CONFIGURATION_MAX || info.index == 0 || info.bytes == 0) {
        snprintf(c->why, sizeof(c->why), "nothing was applied to the database yet");
        return HF_E_AGAIN;
    }
    hf_store_copy_close(c->handle);
    c->handle = NULL;
    return 0;
}

static void make_run(struct hf_job *job)
{
    struct copy *c = job->data;
    struct hf_env *env = c->s->env;
    uint64_t from_ms = env->boot_ms(env);

    if (c->handle == NULL) {
        c->rc = hf_store_copy_open(c->live, c->s->config.vfs, c->path, &c->handle, c->why, sizeof(c->why));
        if (c->rc != 0) {
            c->handle = NULL;
            return;
        }
    }
    /* Not a job for every step: on a busy machine the way through the loop takes longer than the step. */
    for (unsigned i = 0; i < HF_COPY_STEPS_MAX && !c->is_done && env->boot_ms(env) - from_ms < HF_COPY_STEPS_MS; i++) {
        c->rc = hf_store_copy_step(c->handle, HF_COPY_STEP_BYTES, &c->is_done);
        if (c->rc != 0) {
            snprintf(c->why, sizeof(c->why), "%s", hf_store_copy_why(c->handle));
            return;
        }
    }
    hf_store_copy_progress(c->handle, &c->job_done_bytes, &c->job_total_bytes);
    if (c->is_done)
        c->rc = finish_copy(c);
}

/* Whether anybody waits for a copy that is not there. */
static bool is_wanted(const struct hf_snapshots *s)
{
    return s->requests != NULL || hf_source_wants_copy(s);
}

static void abandon_run(struct hf_job *job)
{
    struct copy *c = job->data;
    struct hf_fs *fs = c->s->env->fs;

    if (c->handle != NULL)
        hf_store_copy_close(c->handle);
    c->handle = NULL;
    if (c->file != NULL)
        fs->close(fs, c->file);
    c->file = NULL;
    c->rc = hf_snapshots_unlink(fs, c->path);
}

static void abandon_done(struct hf_job *job)
{
    struct copy *c = job->data;
    struct hf_snapshots *s = c->s;

    if (c->rc != 0)
        HF_LOG_WARN(HF_COPY_LOG, "cannot remove a copy", "file=%s error=\"%s\"", c->path, hf_strerror(c->rc));
    if (s->is_closing)
        return;
    forget_copy(c);
    hf_snapshots_poke(s);
}

static void remove_copy(struct copy *c)
{
    c->is_making = c->is_ready = false;
    c->is_removed = true;
    c->job = (struct hf_job){.data = c, .run = abandon_run, .done = abandon_done};
    c->s->env->executor_submit(c->s->env, c->s->executor, &c->job);
}

/* Everybody who waits for this copy hears that there is none. */
static void fail_copy(struct copy *c, int rc, const char *why)
{
    struct hf_snapshots *s = c->s;
    struct hf_snapshot_request *req = s->requests, *next;
    char text[256];

    snprintf(text, sizeof(text), "%s", why);
    HF_LOG_WARN(HF_COPY_LOG, "no local copy", "file=%s error=\"%s\"", c->path, text);
    hf_counter_add(s->stats.copies_failed, 1);
    s->copy_not_before_ms = hf_snapshots_now(s) + HF_COPY_RETRY_MS;
    remove_copy(c);
    hf_source_copied(s, text);
    s->requests = NULL;
    for (; req != NULL; req = next) {
        next = req->impl;
        req->impl = NULL;
        req->cb(req, rc, NULL, text);
    }
}

static void copy_ready(struct copy *c)
{
    struct hf_snapshots *s = c->s;
    uint64_t now = hf_snapshots_now(s);

    c->is_making = false;
    c->is_ready = true;
    c->ready_ms = c->idle_ms = now;
    /* If it is too old for somebody, the next one must wait for the store's next commit. */
    s->copy_not_before_ms = now + HF_COPY_RETRY_MS;
    hf_counter_add(s->stats.copies, 1);
    HF_LOG_INFO(HF_COPY_LOG, "local copy made", "index=%" PRIu64 " bytes=%" PRIu64 " ms=%" PRIu64, c->held.info.index,
                c->bytes, now - c->started_ms);
    hf_source_copied(s, NULL);
}

static void make_done(struct hf_job *job)
{
    struct copy *c = job->data;
    struct hf_snapshots *s = c->s;

    if (s->is_closing)
        return;
    c->done_bytes = c->job_done_bytes;
    c->total_bytes = c->job_total_bytes;
    hf_source_copy_progress(s);
    c->has_result = true; /* the next turn of work decides */
    hf_snapshots_poke(s);
}

/* The job of the copy that is being made is done: what now. */
static void go_on_making(struct copy *c)
{
    struct hf_snapshots *s = c->s;
    char why[96];

    c->has_result = false;
    if (c->rc != 0) {
        fail_copy(c, c->rc, c->why);
    } else if (c->is_done) {
        copy_ready(c);
    } else if (!is_wanted(s)) {
        HF_LOG_INFO(HF_COPY_LOG, "local copy given up", "file=%s", c->path);
        remove_copy(c);
    } else if (hf_snapshots_now(s) - c->started_ms > s->config.copy_ms_max) {
        snprintf(why, sizeof(why), "the local copy takes longer than %" PRIu64 " s", s->config.copy_ms_max / 1000);
        fail_copy(c, HF_E_TIMEOUT, why);
    } else {
        c->job = (struct hf_job){.data = c, .run = make_run, .done = make_done};
        s->env->executor_submit(s->env, s->executor, &c->job);
    }
}

static void start_copy(struct hf_snapshots *s, const char *live)
{
    struct copy *c = hf_calloc(1, sizeof(*c));

    c->s = s;
    c->number = ++s->last_number;
    c->path = hf_asprintf("%s/copy-%" PRIu64 ".db", s->config.dir, c->number);
    c->live = hf_strdup(live);
    c->hash = hf_file_hash_new();
    c->is_making = true;
    c->started_ms = hf_snapshots_now(s);
    c->next = s->copies;
    s->copies = c;
    s->n_copies++;
    HF_LOG_INFO(HF_COPY_LOG, "local copy begins", "from=%s to=%s", live, c->path);
    c->job = (struct hf_job){.data = c, .run = make_run, .done = make_done};
    s->env->executor_submit(s->env, s->executor, &c->job);
}

static void start_if_wanted(struct hf_snapshots *s)
{
    uint64_t now = hf_snapshots_now(s);
    const char *live;

    if (!is_wanted(s) || hf_copies_making(s) != NULL || s->n_copies >= HF_COPY_FILES_MAX)
        return;
    if (now < s->copy_not_before_ms) {
        hf_snapshots_poke_in(s, s->copy_not_before_ms - now);
        return;
    }
    live = s->events.live_path(s->events.data);
    if (live == NULL) {
        s->copy_not_before_ms = now + HF_COPY_RETRY_MS;
        hf_snapshots_poke_in(s, HF_COPY_RETRY_MS);
        return;
    }
    start_copy(s, live);
}

/* ---- sharing ------------------------------------------------------------------------------------- */

struct copy *hf_copies_acquire(struct hf_snapshots *s, uint64_t at_least)
{
    struct copy *best = NULL;

    for (struct copy *c = s->copies; c != NULL; c = c->next) {
        if (c->is_ready && !c->is_suspect && c->held.info.index >= at_least &&
            (best == NULL || c->held.info.index > best->held.info.index))
            best = c;
    }
    if (best != NULL)
        best->users++;
    return best;
}

void hf_copies_release(struct copy *c)
{
    HF_ASSERT(c->users > 0);
    c->users--;
    c->idle_ms = hf_snapshots_now(c->s);
    hf_snapshots_poke(c->s);
}

/* Copies that nobody reads: those that can still be of use are kept for a while. */
static void delete_unused(struct hf_snapshots *s)
{
    uint64_t now = hf_snapshots_now(s);

    for (struct copy *c = s->copies; c != NULL; c = c->next) {
        if (!c->is_ready || c->users != 0)
            continue;
        if (!c->is_suspect && now - c->idle_ms < s->config.keep_ms && s->n_copies < HF_COPY_FILES_MAX)
            hf_snapshots_poke_in(s, s->config.keep_ms - (now - c->idle_ms));
        else
            remove_copy(c);
    }
}

static struct copy *recent_copy(struct hf_snapshots *s, uint64_t at_least)
{
    uint64_t now = hf_snapshots_now(s);

    for (struct copy *c = s->copies; c != NULL; c = c->next) {
        if (c->is_ready && !c->is_suspect && now - c->ready_ms <= s->config.keep_ms && c->held.info.index >= at_least)
            return c;
    }
    return NULL;
}

/* Readers for those that asked for one. */
static void serve_requests(struct hf_snapshots *s)
{
    struct copy *c = s->requests != NULL ? recent_copy(s, s->requests->at_least) : NULL;

    while (c != NULL && s->requests != NULL) {
        struct hf_snapshot_request *req = s->requests;
        struct hf_snapshot_reader *r = hf_calloc(1, sizeof(*r));

        s->requests = req->impl;
        req->impl = NULL;
        r->s = s;
        r->copy = c;
        c->users++;
        hf_held_info_set(&r->held, &c->held.info);
        r->next = s->readers;
        s->readers = r;
        req->cb(req, 0, r, NULL);
        c = s->requests != NULL ? recent_copy(s, s->requests->at_least) : NULL;
    }
}

void hf_copies_work(struct hf_snapshots *s)
{
    struct copy *making = hf_copies_making(s);

    if (making != NULL && making->has_result)
        go_on_making(making);
    hf_source_take_copies(s);
    serve_requests(s);
    delete_unused(s);
    start_if_wanted(s);
}

int hf_copies_read(struct copy *c, uint64_t offset, void *buf, size_t n)
{
    struct hf_fs *fs = c->s->env->fs;
    size_t got = 0;
    int rc = fs->read(fs, c->file, offset, buf, n, &got);

    if (rc == 0 && got != n)
        rc = HF_E_CORRUPT;
    if (rc != 0)
        return rc;
    if (offset <= c->hashed && c->hashed < offset + n) {
        size_t known = (size_t)(c->hashed - offset);

        hf_file_hash_feed(c->hash, (uint8_t *)buf + known, n - known);
        c->hashed = offset + n;
    }
    return 0;
}

/* ---- readers ------------------------------------------------------------------------------------- */

void hf_snapshots_copy(struct hf_snapshots *s, struct hf_snapshot_request *req)
{
    struct hf_snapshot_request *last = s->requests;

    req->impl = NULL;
    while (last != NULL && last->impl != NULL)
        last = last->impl;
    if (last != NULL)
        last->impl = req;
    else
        s->requests = req;
    hf_snapshots_poke(s);
}

const struct hf_snapshot_info *hf_snapshot_reader_info(const struct hf_snapshot_reader *r)
{
    return &r->held.info;
}

static void reader_run(struct hf_job *job)
{
    struct hf_snapshot_reader *r = job->data;

    r->rc = r->got == 0 ? 0 : hf_copies_read(r->copy, r->read->offset, r->buf, r->got);
}

static void reader_done(struct hf_job *job)
{
    struct hf_snapshot_reader *r = job->data;
    struct hf_snapshot_read *read = r->read;

    r->read = NULL;
    if (r->s == NULL || r->s->is_closing)
        return;
    read->cb(read, r->rc, hf_slice(r->buf, r->rc == 0 ? r->got : 0));
}

void hf_snapshot_reader_read(struct hf_snapshot_reader *r, struct hf_snapshot_read *read)
{
    uint64_t left;

    HF_ASSERT(r->read == NULL);
    if (r->s == NULL)
        return;
    left = read->offset < r->copy->bytes ? r->copy->bytes - read->offset : 0;
    r->got = read->n < left ? read->n : (size_t)left;
    if (r->got > r->cap) {
        hf_free(r->buf);
        r->buf = hf_malloc(r->got);
        r->cap = r->got;
    }
    r->read = read;
    r->job = (struct hf_job){.data = r, .run = reader_run, .done = reader_done};
    r->s->env->executor_submit(r->s->env, r->s->executor, &r->job);
}

void hf_snapshot_reader_close(struct hf_snapshot_reader *r)
{
    HF_ASSERT(r->read == NULL);
    if (r->s != NULL) {
        struct hf_snapshot_reader **at = &r->s->readers;

        while (*at != r)
            at = &(*at)->next;
        *at = r->next;
        hf_copies_release(r->copy);
    }
    hf_held_info_free(&r->held);
    hf_free(r->buf);
    hf_free(r);
}

void hf_copies_close(struct hf_snapshots *s)
{
    struct hf_fs *fs = s->env->fs;
    struct copy *c;

    /* Readers are their owners' to close; they only find nothing behind them any more. */
    for (struct hf_snapshot_reader *r = s->readers; r != NULL; r = r->next) {
        r->s = NULL;
        r->copy = NULL;
        r->read = NULL;
    }
    s->readers = NULL;
    s->requests = NULL;
    while ((c = s->copies) != NULL) {
        if (c->handle != NULL)
            hf_store_copy_close(c->handle);
        c->handle = NULL;
        if (c->file != NULL)
            fs->close(fs, c->file);
        c->file = NULL;
        (void)hf_snapshots_unlink(fs, c->path);
        forget_copy(c);
    }
}
