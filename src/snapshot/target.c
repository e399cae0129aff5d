/* target.c: the copy that is received: DIR/incoming.db, one at a time. The walk is described in wire.h.
 *
 *   NONE       no file (or one that is being removed)
 *   OPENING    an empty file is made
 *   GOING      bytes come: into one buffer while the other is written and hashed, then they change places
 *   CHECKING   END came; what is left is written, then the hash compared
 *   VERIFYING  synced, read as a database, compared with the offer
 *   VERIFIED   waits to be taken
 *
 * All work on the file is one job at a time; what is wanted meanwhile (another offer, giving up) is noted and done
 * after it. Whatever happens to the link, the file and its hash stay, and the next OFFER of the same copy goes on from
 * there.
 */
#include "snapshot/internal.h"

#include "base/assert.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>

#define WRITE_PIECE_BYTES (256u << 10) /* hashed, then written, while it is in the processor's cache */

void hf_target_open(struct hf_snapshots *s)
{
    s->in.phase = RECEIVE_NONE;
    s->in.running = hf_file_hash_new();
}

/* ---- what we say --------------------------------------------------------------------------------- */

static void say_failed(struct hf_link *link, uint64_t offer, enum hf_transfer_reason reason, const char *why)
{
    struct hf_transfer_wire w = {.type = HF_TRANSFER_FAILED, .offer = offer, .reason = reason};

    snprintf(w.why, sizeof(w.why), "%s", why);
    /* If it cannot be said, the source finds out by its own clock. */
    (void)!hf_snapshots_say(link, &w);
}

static void say_verifying(struct hf_snapshots *s)
{
    struct incoming *in = &s->in;
    struct hf_transfer_wire w = {.type = HF_TRANSFER_VERIFYING,
                                 .offer = in->offer,
                                 .done = atomic_load_explicit(&in->verify_done, memory_order_relaxed),
                                 .total = atomic_load_explicit(&in->verify_total, memory_order_relaxed)};

    if (in->link != NULL)
        (void)!hf_snapshots_say(in->link, &w);
}

static void say_verified(struct hf_snapshots *s)
{
    struct incoming *in = &s->in;
    struct hf_transfer_wire w = {.type = HF_TRANSFER_VERIFIED, .offer = in->offer, .info = in->held.info};

    if (in->link != NULL && hf_snapshots_say(in->link, &w) != 0)
        hf_link_close(in->link); /* the next link's OFFER asks again */
}

static void violation(struct hf_link *link, const char *what)
{
    HF_LOG_WARN(HF_COPY_LOG, "message out of place", "member=%" PRIu64 " what=\"%s\"", hf_link_node_id(link), what);
    hf_link_close(link);
}

/* ---- the end ------------------------------------------------------------------------------------- */

static bool is_coming(const struct incoming *in)
{
    return in->phase != RECEIVE_NONE && in->phase != RECEIVE_VERIFIED;
}

/* The file is not wanted any more; it goes as soon as no job is at it. */
static void drop(struct hf_snapshots *s, const char *why)
{
    struct incoming *in = &s->in;

    if (is_coming(in)) {
        hf_counter_add(s->stats.receive_failed, 1);
        HF_LOG_WARN(HF_COPY_LOG, "receiving ended", "member=%" PRIu64 " index=%" PRIu64 " bytes=%" PRIu64 " why=\"%s\"",
                    in->member, in->held.info.index, in->received, why);
    }
    in->phase = RECEIVE_NONE;
    in->link = NULL;
    in->owes_want = false;
    in->is_dropped = true;
    in->filling.len = 0;
    atomic_store(&in->cancel, true);
    hf_snapshots_poke(s);
}

static void fail(struct hf_snapshots *s, enum hf_transfer_reason reason, const char *why)
{
    if (s->in.link != NULL)
        say_failed(s->in.link, s->in.offer, reason, why);
    drop(s, why);
}

/* ---- jobs ---------------------------------------------------------------------------------------- */

static void close_file(struct hf_snapshots *s)
{
    struct hf_fs *fs = s->env->fs;

    if (s->in.file != NULL)
        fs->close(fs, s->in.file);
    s->in.file = NULL;
}

static void open_run(struct hf_job *job)
{
    struct hf_snapshots *s = job->data;
    struct incoming *in = &s->in;
    struct hf_fs *fs = s->env->fs;

    close_file(s);
    hf_file_hash_reset(in->running);
    in->rc = hf_snapshots_unlink(fs, s->incoming_path);
    if (in->rc == 0)
        in->rc = fs->open(fs, s->incoming_path, HF_FS_WRITE | HF_FS_CREATE, &in->file);
    if (in->rc != 0)
        in->file = NULL;
}

static void write_run(struct hf_job *job)
{
    struct hf_snapshots *s = job->data;
    struct incoming *in = &s->in;
    struct hf_fs *fs = s->env->fs;

    in->rc = 0;
    for (size_t at = 0; at < in->writing.len && in->rc == 0;) {
        size_t n = in->writing.len - at < WRITE_PIECE_BYTES ? in->writing.len - at : WRITE_PIECE_BYTES;

        hf_file_hash_feed(in->running, in->writing.data + at, n);
        in->rc = fs->write(fs, in->file, in->written + at, in->writing.data + at, n);
        at += n;
    }
}

static bool on_verify_progress(void *data, uint64_t done, uint64_t total)
{
    struct incoming *in = data;

    atomic_store_explicit(&in->verify_done, done, memory_order_relaxed);
    atomic_store_explicit(&in->verify_total, total, memory_order_relaxed);
    return !atomic_load(&in->cancel);
}

static int compare_info(struct incoming *in, const struct hf_store_info *found)
{
    const struct hf_snapshot_info *want = &in->held.info;
    const char *what = NULL;

    if (found->meta.applied_index != want->index || found->meta.applied_term != want->term)
        what = "index or term";
    else if (memcmp(found->meta.digest, want->digest, sizeof(want->digest)) != 0)
        what = "digest";
    else if (memcmp(found->meta.history, want->history, sizeof(want->history)) != 0)
        what = "history";
    else if (found->meta.configuration_index != want->configuration_index ||
             !hf_slice_eq(found->meta.configuration, want->configuration))
        what = "configuration";
    else if (found->level != want->level)
        what = "feature level";
    if (what == NULL)
        return 0;
    snprintf(in->why, sizeof(in->why), "the received database has another %s than was offered", what);
    return HF_E_CORRUPT;
}

static void verify_run(struct hf_job *job)
{
    struct hf_snapshots *s = job->data;
    struct incoming *in = &s->in;
    struct hf_fs *fs = s->env->fs;
    struct hf_store_info found = {0};

    in->why[0] = '\0';
    in->rc = fs->sync(fs, in->file);
    close_file(s);
    if (in->rc != 0)
        return;
    in->rc = hf_store_verify_digest(s->incoming_path, s->config.vfs, &found, on_verify_progress, in, in->why,
                                    sizeof(in->why));
    if (in->rc != 0)
        return;
    in->rc = compare_info(in, &found);
    hf_store_info_free(&found);
    if (in->rc == 0)
        in->rc = fs->sync_dir(fs, s->config.dir);
}

static void remove_run(struct hf_job *job)
{
    struct hf_snapshots *s = job->data;

    close_file(s);
    s->in.rc = hf_snapshots_unlink(s->env->fs, s->incoming_path);
}

static void job_done(struct hf_job *job);

static void start_job(struct hf_snapshots *s, enum receive_job what, void (*run)(struct hf_job *job))
{
    HF_ASSERT(s->in.doing == JOB_NONE);
    s->in.doing = what;
    s->in.job = (struct hf_job){.data = s, .run = run, .done = job_done};
    s->env->executor_submit(s->env, s->executor, &s->in.job);
}

/* ---- early write-back ---------------------------------------------------------------------------- */

/* Makes the last sync short. Its own result decides nothing: what it meets, the last sync meets too. */
static void sync_run(struct hf_job *job)
{
    struct hf_snapshots *s = job->data;
    struct hf_fs *fs = s->env->fs;
    struct hf_file *f;

    if (fs->open(fs, s->incoming_path, HF_FS_WRITE, &f) != 0)
        return;
    (void)!fs->sync(fs, f);
    fs->close(fs, f);
}

static void sync_done(struct hf_job *job)
{
    struct hf_snapshots *s = job->data;

    s->in.is_syncing = false;
}

static void sync_early(struct hf_snapshots *s)
{
    struct incoming *in = &s->in;

    if (in->is_syncing || in->written - in->synced < HF_COPY_SYNC_BYTES)
        return;
    in->is_syncing = true;
    in->synced = in->written;
    in->sync_job = (struct hf_job){.data = s, .run = sync_run, .done = sync_done};
    s->env->executor_submit(s->env, s->syncer, &in->sync_job);
}

/* ---- what follows a job -------------------------------------------------------------------------- */

static enum hf_transfer_reason reason_of(int rc)
{
    return rc == HF_E_NOSPC ? HF_TRANSFER_NO_SPACE : HF_TRANSFER_IO;
}

static void fail_rc(struct hf_snapshots *s, const char *what)
{
    char why[HF_COPY_WHY_MAX + 1];

    snprintf(why, sizeof(why), "%s: %s", what, hf_strerror(s->in.rc));
    fail(s, reason_of(s->in.rc), why);
}

static void after_write(struct hf_snapshots *s)
{
    struct incoming *in = &s->in;
    struct hf_transfer_wire w = {.type = HF_TRANSFER_ACK, .offer = in->offer};

    if (in->rc != 0) {
        fail_rc(s, "the copy cannot be written");
        return;
    }
    in->written += in->writing.len;
    in->writing.len = 0;
    in->progress_ms = hf_snapshots_now(s);
    w.offset = in->written;
    if (in->link != NULL && !in->owes_want && hf_snapshots_say(in->link, &w) != 0)
        hf_link_close(in->link); /* without it the source would wait for ever */
    if (hf_speed_is_tenth(&in->speed, in->written, in->held.info.bytes))
        HF_LOG_INFO(HF_COPY_LOG, "receiving", "member=%" PRIu64 " percent=%u bytes=%" PRIu64 " of=%" PRIu64, in->member,
                    in->speed.tenth * 10, in->written, in->held.info.bytes);
    sync_early(s);
}

static void after_verify(struct hf_snapshots *s)
{
    struct incoming *in = &s->in;
    uint64_t now = hf_snapshots_now(s);

    if (in->rc == HF_E_CORRUPT || in->rc == HF_E_VERSION || in->rc == HF_E_INVALID) {
        fail(s, HF_TRANSFER_DAMAGED, in->why[0] != '\0' ? in->why : hf_strerror(in->rc));
        return;
    }
    if (in->rc != 0) {
        fail_rc(s, in->why[0] != '\0' ? in->why : "the copy cannot be verified");
        return;
    }
    in->phase = RECEIVE_VERIFIED;
    in->progress_ms = now;
    hf_buf_free(&in->filling);
    hf_buf_free(&in->writing);
    hf_counter_add(s->stats.receive_completed, 1);
    HF_LOG_INFO(HF_COPY_LOG, "received and verified",
                "member=%" PRIu64 " index=%" PRIu64 " term=%" PRIu64 " bytes=%" PRIu64 " MBps=%.0f", in->member,
                in->held.info.index, in->held.info.term, in->received, hf_speed_mean(&in->speed, now, in->received));
    say_verified(s);
}

static void job_done(struct hf_job *job)
{
    struct hf_snapshots *s = job->data;
    struct incoming *in = &s->in;
    enum receive_job doing = in->doing;

    in->doing = JOB_NONE;
    if (s->is_closing)
        return;
    hf_snapshots_poke(s);
    if (in->is_dropped && doing != JOB_REMOVE)
        return; /* work removes it */
    switch (doing) {
    case JOB_NONE:
        HF_UNREACHABLE();
    case JOB_OPEN:
        if (in->rc != 0)
            fail_rc(s, "the copy cannot be created");
        else
            in->phase = RECEIVE_GOING;
        break;
    case JOB_WRITE:
        after_write(s);
        break;
    case JOB_VERIFY:
        after_verify(s);
        break;
    case JOB_REMOVE:
        in->is_dropped = false;
        if (in->rc != 0)
            HF_LOG_WARN(HF_COPY_LOG, "cannot remove a copy", "file=%s error=\"%s\"", s->incoming_path,
                        hf_strerror(in->rc));
        break;
    }
}

/* ---- work ---------------------------------------------------------------------------------------- */

/* The offer that waited gets its file. */
static void begin_next(struct hf_snapshots *s)
{
    struct incoming *in = &s->in;
    const struct hf_transfer_wire *w = &in->next;

    in->has_next = false;
    in->member = in->next_member;
    in->store_id = in->next_store_id;
    in->epoch = w->epoch;
    in->counter = w->counter;
    in->offer = w->offer;
    in->window = w->window < s->config.window_bytes ? w->window : s->config.window_bytes;
    in->link = in->next_link;
    in->next_link = NULL;
    hf_held_info_set(&in->held, &in->next_held.info);
    in->owes_want = true;
    in->received = in->written = in->synced = 0;
    in->restarts = 0;
    in->filling.len = in->writing.len = 0;
    in->is_dropped = false;
    atomic_store(&in->cancel, false);
    atomic_store_explicit(&in->verify_done, 0, memory_order_relaxed);
    atomic_store_explicit(&in->verify_total, 0, memory_order_relaxed);
    in->phase = RECEIVE_OPENING;
    in->progress_ms = hf_snapshots_now(s);
    hf_speed_start(&in->speed, in->progress_ms, 0);
    hf_counter_add(s->stats.receive_started, 1);
    HF_LOG_INFO(HF_COPY_LOG, "receiving begins", "member=%" PRIu64 " index=%" PRIu64 " bytes=%" PRIu64, in->member,
                in->held.info.index, in->held.info.bytes);
    start_job(s, JOB_OPEN, open_run);
}

static void start_write(struct hf_snapshots *s)
{
    struct incoming *in = &s->in;
    struct hf_buf swap = in->writing;

    in->writing = in->filling;
    in->filling = swap;
    in->filling.len = 0;
    start_job(s, JOB_WRITE, write_run);
}

static void say_want(struct hf_snapshots *s)
{
    struct incoming *in = &s->in;
    struct hf_transfer_wire w = {
        .type = HF_TRANSFER_WANT, .offer = in->offer, .offset = in->received, .window = in->window};

    HF_ASSERT(in->received == in->written);
    if (in->link == NULL)
        return;
    if (hf_snapshots_say(in->link, &w) == 0)
        in->owes_want = false;
    else
        hf_snapshots_poke_in(s, HF_COPY_LINK_RETRY_MS);
}

/* Everything is written: is it what was sent? */
static void check_hash(struct hf_snapshots *s)
{
    struct incoming *in = &s->in;
    uint8_t hash[16];

    hf_file_hash_get(in->running, hash);
    if (memcmp(hash, in->hash, sizeof(hash)) == 0) {
        in->phase = RECEIVE_VERIFYING;
        say_verifying(s);
        start_job(s, JOB_VERIFY, verify_run);
        return;
    }
    HF_LOG_WARN(HF_COPY_LOG, "wrong hash", "member=%" PRIu64 " index=%" PRIu64 " restarts=%u", in->member,
                in->held.info.index, in->restarts);
    if (in->restarts++ == HF_COPY_RESTARTS_MAX) {
        fail(s, HF_TRANSFER_DAMAGED, "the hash of the copy is wrong again and again");
        return;
    }
    in->received = in->written = in->synced = 0;
    in->owes_want = true;
    in->phase = RECEIVE_OPENING;
    start_job(s, JOB_OPEN, open_run);
}

void hf_target_work(struct hf_snapshots *s)
{
    struct incoming *in = &s->in;

    if (in->doing != JOB_NONE)
        return;
    if (in->has_next) {
        begin_next(s);
        return;
    }
    if (in->is_dropped) {
        hf_buf_free(&in->filling);
        hf_buf_free(&in->writing);
        start_job(s, JOB_REMOVE, remove_run);
        return;
    }
    switch (in->phase) {
    case RECEIVE_GOING:
        if (in->filling.len != 0)
            start_write(s);
        else if (in->owes_want)
            say_want(s);
        break;
    case RECEIVE_CHECKING:
        if (in->filling.len != 0)
            start_write(s);
        else
            check_hash(s);
        break;
    case RECEIVE_NONE:
    case RECEIVE_OPENING:
    case RECEIVE_VERIFYING:
    case RECEIVE_VERIFIED:
        break;
    }
}

/* ---- what the source says ------------------------------------------------------------------------- */

/* The owner's word on it, told to the source when it is no. */
static bool may_receive(struct hf_snapshots *s, struct hf_link *link, const struct hf_snapshot_info *info,
                        uint64_t here, char *why, size_t why_size)
{
    struct hf_snapshot_info asked = *info;

    /* What is here needs no room any more. */
    asked.bytes -= here < asked.bytes ? here : asked.bytes;
    snprintf(why, why_size, "not wanted");
    return s->events.may_receive(s->events.data, hf_link_node_id(link), &asked, why, why_size);
}

/* From now on this link and offer are the ones we answer. */
static void adopt(struct incoming *in, struct hf_link *link, uint64_t offer)
{
    if (in->link != NULL && in->link != link)
        say_failed(in->link, in->offer, HF_TRANSFER_REPLACED, "another node sends the same now");
    in->link = link;
    in->offer = offer;
    in->member = hf_link_node_id(link);
}

static bool is_same_copy(const struct incoming *in, const struct hf_link *link, const struct hf_transfer_wire *w)
{
    const struct hf_snapshot_info *a = &in->held.info, *b = &w->info;

    return is_coming(in) && in->store_id == hf_link_hello(link)->store_id && in->epoch == w->epoch &&
           in->counter == w->counter && a->index == b->index && a->term == b->term && a->bytes == b->bytes &&
           a->level == b->level && a->configuration_index == b->configuration_index &&
           memcmp(a->digest, b->digest, sizeof(a->digest)) == 0 &&
           memcmp(a->history, b->history, sizeof(a->history)) == 0 && hf_slice_eq(a->configuration, b->configuration);
}

static void resume(struct hf_snapshots *s, struct hf_link *link, const struct hf_transfer_wire *w)
{
    struct incoming *in = &s->in;

    adopt(in, link, w->offer);
    in->window = w->window < s->config.window_bytes ? w->window : s->config.window_bytes;
    if (in->phase == RECEIVE_CHECKING || in->phase == RECEIVE_VERIFYING)
        say_verifying(s);
    else
        in->owes_want = true;
    hf_snapshots_poke(s);
}

static void on_offer(struct hf_snapshots *s, struct hf_link *link, const struct hf_transfer_wire *w)
{
    struct incoming *in = &s->in;
    bool is_checked = in->phase == RECEIVE_VERIFYING || in->phase == RECEIVE_VERIFIED;
    bool is_same = is_same_copy(in, link, w);
    char why[HF_COPY_WHY_MAX + 1];

    /* A file whose bytes are all here is good under any leader: its index was committed. */
    if (!is_same && is_checked && !in->has_next && in->held.info.index >= w->at_least &&
        may_receive(s, link, &in->held.info, in->held.info.bytes, why, sizeof(why))) {
        adopt(in, link, w->offer);
        if (in->phase == RECEIVE_VERIFIED)
            say_verified(s);
        else
            say_verifying(s);
        return;
    }
    if (!may_receive(s, link, &w->info, is_same ? in->written : 0, why, sizeof(why))) {
        HF_LOG_INFO(HF_COPY_LOG, "offer refused", "member=%" PRIu64 " index=%" PRIu64 " why=\"%s\"",
                    hf_link_node_id(link), w->info.index, why);
        say_failed(link, w->offer, HF_TRANSFER_REFUSED, why);
        if (is_same)
            drop(s, why);
        return;
    }
    if (is_same && !in->has_next) {
        resume(s, link, w);
        return;
    }
    if (in->link != NULL && in->link != link)
        say_failed(in->link, in->offer, HF_TRANSFER_REPLACED, "another node sends a copy now");
    if (in->has_next && in->next_link != NULL && in->next_link != link)
        say_failed(in->next_link, in->next.offer, HF_TRANSFER_REPLACED, "another node sends a copy now");
    if (in->phase != RECEIVE_NONE)
        drop(s, "another copy is offered");
    in->has_next = true;
    in->next = *w;
    in->next_link = link;
    in->next_member = hf_link_node_id(link);
    in->next_store_id = hf_link_hello(link)->store_id;
    hf_held_info_set(&in->next_held, &w->info);
    hf_snapshots_poke(s);
}

static void on_data(struct hf_snapshots *s, struct hf_link *link, const struct hf_transfer_wire *w)
{
    struct incoming *in = &s->in;

    if (in->phase != RECEIVE_GOING || in->owes_want || w->offset != in->received ||
        w->bytes.len > in->held.info.bytes - in->received || in->received - in->written + w->bytes.len > in->window) {
        violation(link, "DATA");
        return;
    }
    hf_buf_put(&in->filling, w->bytes.ptr, w->bytes.len);
    in->received += w->bytes.len;
    hf_counter_add(s->stats.received_bytes, w->bytes.len);
    hf_snapshots_poke(s);
}

static void on_end(struct hf_snapshots *s, struct hf_link *link, const struct hf_transfer_wire *w)
{
    struct incoming *in = &s->in;

    if (in->phase != RECEIVE_GOING || in->owes_want || in->received != in->held.info.bytes) {
        violation(link, "END");
        return;
    }
    memcpy(in->hash, w->hash, sizeof(in->hash));
    in->phase = RECEIVE_CHECKING;
    hf_snapshots_poke(s);
}

void hf_target_message(struct hf_snapshots *s, struct hf_link *link, const struct hf_transfer_wire *w)
{
    struct incoming *in = &s->in;
    bool is_current = in->link == link && in->offer == w->offer;

    if (in->has_next && in->next_link == link && in->next.offer == w->offer && w->type == HF_TRANSFER_FAILED) {
        in->has_next = false;
        in->next_link = NULL;
        return;
    }
    switch (w->type) {
    case HF_TRANSFER_OFFER:
        on_offer(s, link, w);
        break;
    case HF_TRANSFER_DATA:
        if (is_current)
            on_data(s, link, w);
        break;
    case HF_TRANSFER_END:
        if (is_current)
            on_end(s, link, w);
        break;
    case HF_TRANSFER_FAILED:
        if (is_current && is_coming(in))
            drop(s, w->why);
        break;
    case HF_TRANSFER_WANT:
    case HF_TRANSFER_ACK:
    case HF_TRANSFER_VERIFYING:
    case HF_TRANSFER_VERIFIED:
        violation(link, "a target's message from the source");
        break;
    }
}

void hf_target_link_down(struct hf_snapshots *s, struct hf_link *link)
{
    struct incoming *in = &s->in;

    if (in->next_link == link)
        in->next_link = NULL;
    if (in->link != link)
        return;
    in->link = NULL;
    if (is_coming(in))
        HF_LOG_INFO(HF_COPY_LOG, "receiving broken off", "member=%" PRIu64 " bytes=%" PRIu64, in->member, in->received);
}

/* ---- time, looking, taking ------------------------------------------------------------------------ */

void hf_target_tick(struct hf_snapshots *s, uint64_t now_ms)
{
    struct incoming *in = &s->in;

    if (in->phase == RECEIVE_VERIFYING) {
        say_verifying(s);
    } else if (is_coming(in)) {
        hf_speed_tick(&in->speed, now_ms, in->written);
        if (now_ms - in->progress_ms > s->config.idle_ms_max)
            fail(s, HF_TRANSFER_IO, "nothing came for too long");
    } else if (in->phase == RECEIVE_VERIFIED && now_ms - in->progress_ms > s->config.idle_ms_max) {
        fail(s, HF_TRANSFER_IO, "nobody asked for the copy to be installed"); /* the log was enough in the end */
    }
}

bool hf_target_is_busy(const struct hf_snapshots *s)
{
    const struct incoming *in = &s->in;

    return in->phase != RECEIVE_NONE || in->has_next || in->is_dropped || in->doing != JOB_NONE;
}

uint32_t hf_target_progress(const struct hf_snapshots *s, struct hf_snapshot_progress *out, uint32_t n)
{
    static const char *const phases[] = {
        [RECEIVE_NONE] = "",
        [RECEIVE_OPENING] = "receiving",
        [RECEIVE_GOING] = "receiving",
        [RECEIVE_CHECKING] = "receiving",
        [RECEIVE_VERIFYING] = "verifying",
        [RECEIVE_VERIFIED] = "received",
    };
    const struct incoming *in = &s->in;

    if (in->phase == RECEIVE_NONE)
        return 0;
    if (n == 0)
        return 1;
    *out = (struct hf_snapshot_progress){.member = in->member,
                                         .phase = phases[in->phase],
                                         .index = in->held.info.index,
                                         .done_bytes = in->written,
                                         .total_bytes = in->held.info.bytes};
    if (in->phase == RECEIVE_GOING)
        out->bytes_per_second = in->speed.rate;
    if (in->phase == RECEIVE_VERIFYING) {
        /* Rows, told in the unit of the rest. */
        uint64_t done = atomic_load_explicit(&in->verify_done, memory_order_relaxed);
        uint64_t total = atomic_load_explicit(&in->verify_total, memory_order_relaxed);

        out->done_bytes = total != 0 ? (uint64_t)((double)out->total_bytes * ((double)done / (double)total)) : 0;
    }
    return 1;
}

bool hf_snapshots_received(const struct hf_snapshots *s, uint64_t index, uint64_t term, struct hf_snapshot_info *info)
{
    const struct incoming *in = &s->in;

    if (in->phase != RECEIVE_VERIFIED || in->held.info.index != index || in->held.info.term != term)
        return false;
    *info = in->held.info;
    return true;
}

const char *hf_snapshots_take(struct hf_snapshots *s)
{
    HF_ASSERT(s->in.phase == RECEIVE_VERIFIED);
    s->in.phase = RECEIVE_NONE;
    s->in.link = NULL;
    return s->incoming_path;
}

void hf_target_close(struct hf_snapshots *s)
{
    struct incoming *in = &s->in;

    close_file(s);
    if (in->phase != RECEIVE_NONE || in->is_dropped)
        (void)hf_snapshots_unlink(s->env->fs, s->incoming_path);
    hf_buf_free(&in->filling);
    hf_buf_free(&in->writing);
    hf_held_info_free(&in->held);
    hf_held_info_free(&in->next_held);
    hf_file_hash_free(in->running);
}
