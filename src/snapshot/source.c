/* source.c: transfers of a local copy to members; the walk is described in wire.h.
 *
 *   COPYING     waits for a copy that is recent enough
 *   CONNECTING  waits for the link
 *   OFFERED     waits for the target's answer
 *   SENDING     bytes go; a read of the copy at a time, its bytes sent when it is done
 *   VERIFYING   END was sent (or the target had everything already); it checks
 *   DELIVERED   the target has a verified file; the owner is told about each second
 *
 * A broken link leads back to CONNECTING from everywhere but COPYING. A transfer that fails is gone; the owner hears
 * why and may ask again. */
#include "snapshot/internal.h"

#include "base/assert.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>

#define NS_PER_SECOND UINT64_C(1000000000)
#define SLICE_MIN     4096u

static struct transfer *find_transfer(const struct hf_snapshots *s, uint64_t member)
{
    for (struct transfer *t = s->transfers; t != NULL; t = t->next) {
        if (t->member == member)
            return t;
    }
    return NULL;
}

/* ---- the end of a transfer ----------------------------------------------------------------------- */

static void free_transfer(struct transfer *t)
{
    if (t->copy != NULL)
        hf_copies_release(t->copy);
    hf_held_info_free(&t->delivered);
    hf_free(t->buf);
    hf_free(t);
}

/* Off the list; told to the target if it would go on waiting. */
static void end_transfer(struct transfer *t, const char *why)
{
    struct hf_snapshots *s = t->s;
    struct transfer **at = &s->transfers;
    struct hf_transfer_wire w = {.type = HF_TRANSFER_FAILED, .offer = t->offer, .reason = HF_TRANSFER_GIVEN_UP};

    if (t->link != NULL && why != NULL && t->phase != SEND_DELIVERED) {
        snprintf(w.why, sizeof(w.why), "%s", why);
        (void)!hf_snapshots_say(t->link, &w);
    }
    while (*at != t)
        at = &(*at)->next;
    *at = t->next;
    t->is_ended = true;
    if (!t->is_reading)
        free_transfer(t);
    hf_snapshots_poke(s);
}

/* told: what the target hears, NULL when it knows. */
static void fail_transfer(struct transfer *t, const char *told, const char *why)
{
    struct hf_snapshots *s = t->s;
    struct owed_failure *f = hf_calloc(1, sizeof(*f)), **at = &s->failures;

    HF_LOG_WARN(HF_COPY_LOG, "transfer failed", "member=%" PRIu64 " bytes=%" PRIu64 " why=\"%s\"", t->member, t->acked,
                why);
    hf_counter_add(s->stats.send_failed, 1);
    f->member = t->member;
    snprintf(f->why, sizeof(f->why), "%s", why);
    while (*at != NULL)
        at = &(*at)->next;
    *at = f;
    end_transfer(t, told);
}

static void violation(struct transfer *t, struct hf_link *link, const char *what)
{
    HF_LOG_WARN(HF_COPY_LOG, "message out of place", "member=%" PRIu64 " what=\"%s\"", t->member, what);
    hf_link_close(link);
}

/* ---- what the owner asks -------------------------------------------------------------------------- */

static void set_phase(struct transfer *t, enum send_phase phase)
{
    t->phase = phase;
    t->owes_delivered = false;
}

static void set_progress(struct transfer *t)
{
    t->progress_ms = hf_snapshots_now(t->s);
}

/* Once more from the copy on. */
static void start_over(struct transfer *t)
{
    if (t->copy != NULL)
        hf_copies_release(t->copy);
    t->copy = NULL;
    t->is_stale = t->is_reading;
    t->link = NULL;
    t->sent = t->acked = 0;
    t->has_hash = false;
    hf_held_info_free(&t->delivered);
    set_phase(t, SEND_COPYING);
    set_progress(t);
}

/* What was delivered may not be there any more, or will not do. */
static void lose_delivered(struct transfer *t)
{
    hf_held_info_free(&t->delivered);
    set_phase(t, SEND_CONNECTING);
    set_progress(t);
}

void hf_snapshots_send(struct hf_snapshots *s, uint64_t member, uint64_t at_least)
{
    struct transfer *t = find_transfer(s, member);

    if (t == NULL) {
        t = hf_calloc(1, sizeof(*t));
        t->s = s;
        t->member = member;
        t->at_least = at_least;
        t->next = s->transfers;
        s->transfers = t;
        set_phase(t, SEND_COPYING);
        set_progress(t);
        hf_counter_add(s->stats.send_started, 1);
        HF_LOG_INFO(HF_COPY_LOG, "transfer begins", "member=%" PRIu64 " at_least=%" PRIu64, member, at_least);
    } else if (at_least > t->at_least) {
        t->at_least = at_least;
        if (t->copy != NULL && t->copy->held.info.index < at_least)
            start_over(t);
        else if (t->phase == SEND_DELIVERED && t->delivered.info.index < at_least)
            lose_delivered(t); /* what it has will not do: offer our copy again */
    }
    hf_snapshots_poke(s);
}

void hf_snapshots_stop(struct hf_snapshots *s, uint64_t member)
{
    struct transfer *next;

    for (struct transfer *t = s->transfers; t != NULL; t = next) {
        next = t->next;
        if (member != 0 && t->member != member)
            continue;
        HF_LOG_INFO(HF_COPY_LOG, "transfer stopped", "member=%" PRIu64 " delivered=%d", t->member,
                    t->phase == SEND_DELIVERED);
        /* Who leads no more says nothing: what the target has may serve the next leader, or this one again. */
        end_transfer(t, member != 0 ? "not needed any more" : NULL);
    }
}

/* ---- copies -------------------------------------------------------------------------------------- */

bool hf_source_wants_copy(const struct hf_snapshots *s)
{
    for (struct transfer *t = s->transfers; t != NULL; t = t->next) {
        if (t->phase == SEND_COPYING)
            return true;
    }
    return false;
}

void hf_source_copy_progress(struct hf_snapshots *s)
{
    for (struct transfer *t = s->transfers; t != NULL; t = t->next) {
        if (t->phase == SEND_COPYING)
            set_progress(t);
    }
}

/* Whoever waits and finds a copy that will do. */
void hf_source_take_copies(struct hf_snapshots *s)
{
    for (struct transfer *t = s->transfers; t != NULL; t = t->next) {
        if (t->phase != SEND_COPYING)
            continue;
        t->copy = hf_copies_acquire(s, t->at_least);
        if (t->copy == NULL)
            continue;
        set_phase(t, SEND_CONNECTING);
        set_progress(t);
    }
}

void hf_source_copied(struct hf_snapshots *s, const char *why)
{
    struct transfer *next;
    char text[96];

    if (why == NULL)
        hf_source_take_copies(s);
    for (struct transfer *t = s->transfers; t != NULL; t = next) {
        next = t->next;
        if (t->phase != SEND_COPYING)
            continue;
        if (why != NULL) {
            fail_transfer(t, NULL, why);
        } else if (++t->attempts >= HF_COPY_ATTEMPTS_MAX) {
            snprintf(text, sizeof(text), "no copy with index %" PRIu64 " or later comes about", t->at_least);
            fail_transfer(t, NULL, text);
        }
    }
}

/* ---- offering ------------------------------------------------------------------------------------ */

static void offer(struct transfer *t)
{
    struct hf_snapshots *s = t->s;
    struct hf_link *link = s->link_of != NULL ? s->link_of(s->link_of_data, t->member) : NULL;
    struct hf_transfer_wire w = {.type = HF_TRANSFER_OFFER,
                                 .epoch = s->epoch,
                                 .counter = t->copy->number,
                                 .at_least = t->at_least,
                                 .window = s->config.window_bytes,
                                 .info = t->copy->held.info};

    if (link == NULL)
        return;
    w.offer = s->last_offer + 1;
    if (hf_snapshots_say(link, &w) != 0)
        return; /* the next tick tries again */
    t->offer = ++s->last_offer;
    t->link = link;
    t->is_stale = t->is_reading;
    set_phase(t, SEND_OFFERED);
}

void hf_source_link_down(struct hf_snapshots *s, struct hf_link *link)
{
    for (struct transfer *t = s->transfers; t != NULL; t = t->next) {
        if (t->link != link)
            continue;
        HF_LOG_INFO(HF_COPY_LOG, "transfer broken off", "member=%" PRIu64 " acknowledged=%" PRIu64, t->member,
                    t->acked);
        t->link = NULL;
        t->is_stale = t->is_reading;
        if (t->phase == SEND_DELIVERED)
            lose_delivered(t);
        else
            set_phase(t, SEND_CONNECTING);
    }
    hf_snapshots_poke(s);
}

/* ---- sending ------------------------------------------------------------------------------------- */

/* How much is read at once: less when the rate is low, so that it stays even. */
static uint64_t slice_bytes(const struct hf_snapshots *s)
{
    uint64_t n = HF_COPY_READ_BYTES_MAX;

    if (s->config.rate_bytes != 0 && s->config.rate_bytes / 8 < n)
        n = s->config.rate_bytes / 8 > SLICE_MIN ? s->config.rate_bytes / 8 : SLICE_MIN;
    return n;
}

/* The bucket holds one slice at most and may be overdrawn by one: in any time no more than rate * time plus two slices
 * are sent. */
static bool has_tokens(struct hf_snapshots *s)
{
    uint64_t rate = s->config.rate_bytes, now_ns = s->env->boot_ns(s->env), slice = slice_bytes(s);
    uint64_t elapsed_ns = now_ns - s->tokens_ns, add, wait_ms;

    if (rate == 0)
        return true;
    if (elapsed_ns > 10 * NS_PER_SECOND)
        elapsed_ns = 10 * NS_PER_SECOND; /* more would not fit the bucket, nor the product below */
    add = (uint64_t)((double)rate * (double)elapsed_ns / (double)NS_PER_SECOND);
    if (add != 0) {
        s->tokens_ns = now_ns;
        s->tokens += (int64_t)(add < 4 * slice ? add : 4 * slice);
        if (s->tokens > (int64_t)slice)
            s->tokens = (int64_t)slice;
    }
    if (s->tokens > 0)
        return true;
    wait_ms = (uint64_t)(1 - s->tokens) * 1000 / rate + 1;
    hf_snapshots_poke_in(s, wait_ms);
    return false;
}

static void read_run(struct hf_job *job)
{
    struct transfer *t = job->data;
    struct copy *c = t->reading;

    if (t->is_hashing) {
        /* The target had a part that was not read here since the copy was made. */
        uint64_t left = c->bytes - c->hashed;

        t->n = left < HF_COPY_READ_BYTES_MAX ? (size_t)left : HF_COPY_READ_BYTES_MAX;
        t->offset = c->hashed;
    }
    t->rc = t->n != 0 ? hf_copies_read(c, t->offset, t->buf, t->n) : 0;
    t->read_has_hash = t->rc == 0 && c->hashed == c->bytes;
    if (t->read_has_hash)
        hf_file_hash_get(c->hash, t->read_hash);
}

static void send_read(struct transfer *t)
{
    struct hf_snapshots *s = t->s;
    struct hf_transfer_wire w = {.type = HF_TRANSFER_DATA, .offer = t->offer};
    size_t at = 0;

    while (at < t->n) {
        size_t n = t->n - at < s->config.chunk_bytes ? t->n - at : (size_t)s->config.chunk_bytes;
        int rc;

        w.offset = t->offset + at;
        w.bytes = hf_slice(t->buf + at, n);
        rc = hf_snapshots_say(t->link, &w);
        if (rc != 0) {
            /* Full: the rest is read again. Closed: its end is on the way. */
            hf_snapshots_poke_in(s, HF_COPY_LINK_RETRY_MS);
            break;
        }
        at += n;
    }
    t->sent = t->offset + at;
    t->reserved -= t->reserved != 0 ? at : 0;
    hf_counter_add(s->stats.sent_bytes, at);
}

static void read_done(struct hf_job *job)
{
    struct transfer *t = job->data;
    struct hf_snapshots *s = t->s;
    bool is_stale = t->is_stale;
    char why[128];

    t->is_reading = t->is_stale = false;
    if (t->rc != 0)
        t->reading->is_suspect = true;
    if (!is_stale && !t->is_ended && !s->is_closing && t->rc == 0 && !t->is_hashing)
        send_read(t);
    s->tokens += (int64_t)t->reserved; /* what was not sent */
    hf_copies_release(t->reading);     /* pokes */
    t->reading = NULL;
    if (t->is_ended) {
        free_transfer(t);
        return;
    }
    if (is_stale || s->is_closing)
        return;
    if (t->rc != 0) {
        snprintf(why, sizeof(why), "the local copy cannot be read at %" PRIu64 ": %s", t->offset, hf_strerror(t->rc));
        fail_transfer(t, why, why);
        return;
    }
    t->has_hash = t->read_has_hash;
    if (t->has_hash)
        memcpy(t->hash, t->read_hash, sizeof(t->hash));
    if (t->is_hashing)
        set_progress(t);
}

static void start_read(struct transfer *t, uint64_t n, bool is_hashing)
{
    struct hf_snapshots *s = t->s;

    HF_ASSERT(!t->is_reading);
    if (t->buf == NULL)
        t->buf = hf_malloc(HF_COPY_READ_BYTES_MAX);
    t->offset = t->sent;
    t->n = (size_t)n;
    t->is_hashing = is_hashing;
    t->reserved = is_hashing || s->config.rate_bytes == 0 ? 0 : n;
    s->tokens -= (int64_t)t->reserved;
    t->is_reading = true;
    t->reading = t->copy;
    t->reading->users++;
    t->job = (struct hf_job){.data = t, .run = read_run, .done = read_done};
    s->env->executor_submit(s->env, s->executor, &t->job);
}

/* All bytes are sent: say their hash, or find it out. */
static void send_end(struct transfer *t)
{
    struct hf_snapshots *s = t->s;
    struct hf_transfer_wire w = {.type = HF_TRANSFER_END, .offer = t->offer};

    if (!t->has_hash) {
        start_read(t, 0, true);
        return;
    }
    memcpy(w.hash, t->hash, sizeof(w.hash));
    if (hf_snapshots_say(t->link, &w) != 0) {
        hf_snapshots_poke_in(s, HF_COPY_LINK_RETRY_MS);
        return;
    }
    t->verify_done = t->verify_total = 0;
    set_phase(t, SEND_VERIFYING);
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void pump(struct transfer *t)
{
    struct hf_snapshots *s = t->s;
    uint64_t left = t->copy->bytes - t->sent, room = t->window - (t->sent - t->acked);

    if (t->is_reading)
        return;
    if (left == 0) {
        send_end(t);
        return;
    }
    /* Not for every small acknowledgement a small read. */
    if (room < smaller(left, t->window / 4 + 1) || hf_link_queued(t->link) > HF_COPY_QUEUE_BYTES_MAX || !has_tokens(s))
        return;
    start_read(t, smaller(slice_bytes(s), smaller(left, room)), false);
}

/* When the rate is what holds them back, the one that was served goes to the end of the line. */
static void rotate(struct hf_snapshots *s)
{
    struct transfer *first = s->transfers, **at = &s->transfers;

    if (s->config.rate_bytes == 0 || first == NULL || first->next == NULL)
        return;
    s->transfers = first->next;
    while (*at != NULL)
        at = &(*at)->next;
    *at = first;
    first->next = NULL;
}

static void tell_pin(struct hf_snapshots *s)
{
    uint64_t pin = 0;

    for (struct transfer *t = s->transfers; t != NULL; t = t->next) {
        /* The copy's index is known once it is complete; it is at least what was asked for. */
        uint64_t index = t->copy != NULL ? t->copy->held.info.index : t->at_least;

        if (t->delivered.info.index != 0 && t->delivered.info.index < index)
            index = t->delivered.info.index;
        if (index == 0)
            index = 1;
        if (pin == 0 || index < pin)
            pin = index;
    }
    if (pin == s->pin)
        return;
    s->pin = pin;
    s->events.on_pin(s->events.data, pin);
}

void hf_source_work(struct hf_snapshots *s)
{
    for (struct transfer *t = s->transfers; t != NULL; t = t->next) {
        if (t->phase == SEND_CONNECTING)
            offer(t);
        if (t->phase == SEND_SENDING)
            pump(t);
    }
    rotate(s);
}

/* ---- what the target says ------------------------------------------------------------------------- */

static void on_want(struct transfer *t, struct hf_link *link, const struct hf_transfer_wire *w)
{
    if ((t->phase != SEND_OFFERED && t->phase != SEND_VERIFYING) || w->offset > t->copy->bytes) {
        violation(t, link, "WANT");
        return;
    }
    if (t->phase == SEND_VERIFYING || w->offset != 0)
        HF_LOG_INFO(HF_COPY_LOG, "transfer resumes", "member=%" PRIu64 " offset=%" PRIu64, t->member, w->offset);
    t->sent = t->acked = w->offset;
    t->window = smaller(w->window, t->s->config.window_bytes);
    t->is_stale = t->is_reading;
    set_phase(t, SEND_SENDING);
    hf_speed_start(&t->speed, hf_snapshots_now(t->s), w->offset);
    (void)hf_speed_is_tenth(&t->speed, w->offset, t->copy->bytes);
    HF_LOG_INFO(HF_COPY_LOG, "sending", "member=%" PRIu64 " index=%" PRIu64 " bytes=%" PRIu64 " from=%" PRIu64,
                t->member, t->copy->held.info.index, t->copy->bytes, w->offset);
}

static void on_ack(struct transfer *t, struct hf_link *link, const struct hf_transfer_wire *w)
{
    if ((t->phase != SEND_SENDING && t->phase != SEND_VERIFYING) || w->offset < t->acked || w->offset > t->sent) {
        violation(t, link, "ACK");
        return;
    }
    if (w->offset > t->acked)
        set_progress(t);
    t->acked = w->offset;
    if (hf_speed_is_tenth(&t->speed, t->acked, t->copy->bytes))
        HF_LOG_INFO(HF_COPY_LOG, "sending", "member=%" PRIu64 " percent=%u bytes=%" PRIu64 " of=%" PRIu64, t->member,
                    t->speed.tenth * 10, t->acked, t->copy->bytes);
}

static void on_verifying(struct transfer *t, struct hf_link *link, const struct hf_transfer_wire *w)
{
    if (t->phase != SEND_OFFERED && t->phase != SEND_VERIFYING) {
        violation(t, link, "VERIFYING");
        return;
    }
    if (t->phase == SEND_OFFERED)
        t->sent = t->acked = t->copy->bytes;
    set_phase(t, SEND_VERIFYING);
    set_progress(t);
    t->verify_done = w->done;
    t->verify_total = w->total;
}

static void on_verified(struct transfer *t, struct hf_link *link, const struct hf_transfer_wire *w)
{
    if ((t->phase != SEND_OFFERED && t->phase != SEND_VERIFYING) || w->info.index < t->at_least) {
        violation(t, link, "VERIFIED");
        return;
    }
    hf_held_info_set(&t->delivered, &w->info);
    set_phase(t, SEND_DELIVERED);
    set_progress(t);
    t->owes_delivered = true;
    hf_counter_add(t->s->stats.send_completed, 1);
    HF_LOG_INFO(HF_COPY_LOG, "delivered", "member=%" PRIu64 " index=%" PRIu64 " bytes=%" PRIu64 " MBps=%.0f", t->member,
                w->info.index, w->info.bytes,
                t->speed.start_ms != 0 ? hf_speed_mean(&t->speed, t->progress_ms, t->acked) : 0.0);
}

static void on_failed(struct transfer *t, const struct hf_transfer_wire *w)
{
    char why[HF_COPY_WHY_MAX + 32];

    if (w->reason == HF_TRANSFER_DAMAGED)
        t->copy->is_suspect = true; /* perhaps it is ours that is damaged: the next try makes another */
    snprintf(why, sizeof(why), "member %" PRIu64 ": %s", t->member, w->why);
    fail_transfer(t, NULL, why);
}

void hf_source_message(struct hf_snapshots *s, struct hf_link *link, const struct hf_transfer_wire *w)
{
    struct transfer *t = s->transfers;

    while (t != NULL && (t->link != link || t->offer != w->offer))
        t = t->next;
    if (t == NULL) {
        if (w->offer > s->last_offer) {
            HF_LOG_WARN(HF_COPY_LOG, "message out of place", "member=%" PRIu64 " what=\"offer\"",
                        hf_link_node_id(link));
            hf_link_close(link);
        }
        return; /* of an offer that is over */
    }
    switch (w->type) {
    case HF_TRANSFER_WANT:
        on_want(t, link, w);
        break;
    case HF_TRANSFER_ACK:
        on_ack(t, link, w);
        break;
    case HF_TRANSFER_VERIFYING:
        on_verifying(t, link, w);
        break;
    case HF_TRANSFER_VERIFIED:
        on_verified(t, link, w);
        break;
    case HF_TRANSFER_FAILED:
        on_failed(t, w);
        break;
    case HF_TRANSFER_OFFER:
    case HF_TRANSFER_DATA:
    case HF_TRANSFER_END:
        violation(t, link, "a source's message from the target");
        break;
    }
    hf_snapshots_poke(s);
}

/* ---- time and telling ---------------------------------------------------------------------------- */

void hf_source_tick(struct hf_snapshots *s, uint64_t now_ms)
{
    struct transfer *next;
    char why[96];

    for (struct transfer *t = s->transfers; t != NULL; t = next) {
        next = t->next;
        if (t->phase == SEND_SENDING || t->phase == SEND_VERIFYING)
            hf_speed_tick(&t->speed, now_ms, t->acked);
        if (t->phase == SEND_DELIVERED) {
            t->owes_delivered = true;
        } else if (now_ms - t->progress_ms > s->config.idle_ms_max) {
            snprintf(why, sizeof(why), "no progress for %" PRIu64 " s", s->config.idle_ms_max / 1000);
            fail_transfer(t, why, why);
        }
    }
}

static struct transfer *find_owed(struct hf_snapshots *s)
{
    for (struct transfer *t = s->transfers; t != NULL; t = t->next) {
        if (t->owes_delivered && t->phase == SEND_DELIVERED)
            return t;
    }
    return NULL;
}

void hf_source_tell(struct hf_snapshots *s)
{
    struct owed_failure *f;
    struct transfer *t;

    tell_pin(s);
    while ((f = s->failures) != NULL) {
        s->failures = f->next;
        s->events.on_send_failed(s->events.data, f->member, f->why);
        hf_free(f);
    }
    while ((t = find_owed(s)) != NULL) {
        struct hf_held_info held = {0};

        /* A copy of it: the owner may end the transfer in the event. */
        t->owes_delivered = false;
        hf_held_info_set(&held, &t->delivered.info);
        s->events.on_delivered(s->events.data, t->member, &held.info);
        hf_held_info_free(&held);
    }
}

uint32_t hf_source_progress(const struct hf_snapshots *s, struct hf_snapshot_progress *out, uint32_t n)
{
    static const char *const phases[] = {
        [SEND_COPYING] = "copying", [SEND_CONNECTING] = "connecting", [SEND_OFFERED] = "connecting",
        [SEND_SENDING] = "sending", [SEND_VERIFYING] = "verifying",   [SEND_DELIVERED] = "delivered",
    };
    const struct copy *making = hf_copies_making(s);
    uint32_t count = 0;

    for (struct transfer *t = s->transfers; t != NULL; t = t->next) {
        struct hf_snapshot_progress p = {.member = t->member, .is_sending = true, .phase = phases[t->phase]};

        if (t->phase == SEND_COPYING && making != NULL) {
            p.done_bytes = making->done_bytes;
            p.total_bytes = making->total_bytes;
        } else if (t->phase == SEND_DELIVERED) {
            p.index = t->delivered.info.index;
            p.done_bytes = p.total_bytes = t->delivered.info.bytes;
        } else if (t->copy != NULL) {
            p.index = t->copy->held.info.index;
            p.done_bytes = t->acked;
            p.total_bytes = t->copy->bytes;
            p.bytes_per_second = t->phase == SEND_SENDING ? t->speed.rate : 0;
        }
        if (count < n)
            out[count] = p;
        count++;
    }
    return count;
}

void hf_source_close(struct hf_snapshots *s)
{
    struct owed_failure *f;
    struct transfer *t;

    while ((t = s->transfers) != NULL) {
        s->transfers = t->next;
        if (t->copy != NULL)
            t->copy->users--;
        hf_held_info_free(&t->delivered);
        hf_free(t->buf);
        hf_free(t);
    }
    while ((f = s->failures) != NULL) {
        s->failures = f->next;
        hf_free(f);
    }
}
