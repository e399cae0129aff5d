/* setting.c: CONFIG SET, and what replicated settings do when they are applied here.
 *
 * All pairs are checked first. Then those of this node alone take effect and are written to its data directory, at
 * once; then those of the cluster go as one write each, in order, down a lane of our own, so that they find the leader
 * like any client's write and fail like one. A change has these steps:
 *
 *   writing   a write is under way; its answer starts the next one
 *   waiting   all are in the state of the leader; the client is answered when this node has applied them too, so that
 * it finds them in CONFIG GET (or after APPLY_WAIT_MS: a node that lags so far has other troubles)
 *
 * Nothing is rolled back: a change that failed after a part of it took effect is answered with UNKNOWN and says so. */
#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "operate/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define PREFIX         "config."
#define PREFIX_BYTES   (sizeof PREFIX - 1)
#define APPLY_WAIT_MS  1000u
#define WAIT_LOOK_MS   20u
#define NEEDS_LEVEL    2u
#define ERR_CLOSING    "UNKNOWN outcome: this node is shutting down; settings of the cluster may have been changed"
#define ERR_NO_SETTING "ERR settings of this node cannot be changed while it runs"

struct change {
    struct change *next;
    struct hf_operator *o;
    struct hf_operation *op;
    char **names, **values; /* of the cluster */
    uint32_t n, n_written;
    uint32_t n_local;
    bool is_waiting;
    uint64_t deadline_ms;
};

/* One write in the lane; its block belongs to the lane once that is closed. */
struct setting_write {
    struct hf_dispatch_req req; /* first */
    struct change *change;
    struct hf_slice words[3];
    char name[HF_SETTING_NAME_MAX + 1];
    char value[];
};

static void finish_change(struct change *c)
{
    struct change **at = &c->o->changes;
    struct hf_operation *op = c->op;

    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    for (uint32_t i = 0; i < c->n; i++) {
        hf_free(c->names[i]);
        hf_free(c->values[i]);
    }
    hf_free(c->names);
    hf_free(c->values);
    hf_free(c);
    hf_operation_done(op);
}

/* text: the whole error of what failed. What took effect before makes the outcome one that must be looked at. */
static void fail_change(struct change *c, const char *text, size_t len)
{
    uint32_t n_done = c->n_local + c->n_written;

    if (n_done == 0)
        hf_reply_errorf(&c->op->reply, "%.*s", (int)len, text);
    else
        hf_reply_errorf(&c->op->reply, "UNKNOWN outcome: the first %" PRIu32 " settings were changed, then: %.*s",
                        n_done, (int)len, text);
    finish_change(c);
}

/* ---- waiting for the own state --------------------------------------------------------------------- */

static struct known_setting **known_place(struct hf_operator *o, const char *name)
{
    struct known_setting **at = &o->known;

    while (*at && strcmp((*at)->name, name) != 0)
        at = &(*at)->next;
    return at;
}

static bool is_applied(const struct change *c)
{
    for (uint32_t i = 0; i < c->n; i++) {
        struct known_setting *k = *known_place(c->o, c->names[i]);

        if (k == NULL || strcmp(k->value, c->values[i]) != 0)
            return false;
    }
    return true;
}

static void look_at_waiting(struct hf_operator *o)
{
    uint64_t now_ms = o->env->boot_ms(o->env);
    bool are_any = false;
    struct change *next;

    for (struct change *c = o->changes; c; c = next) {
        next = c->next;
        if (!c->is_waiting)
            continue;
        if (now_ms < c->deadline_ms && !is_applied(c)) {
            are_any = true;
            continue;
        }
        hf_reply_ok(&c->op->reply);
        finish_change(c);
    }
    if (are_any && !hf_timer_is_active(&o->change_timer))
        o->env->timer_start(o->env, &o->change_timer, WAIT_LOOK_MS);
}

static void on_change_timer(struct hf_timer *timer)
{
    look_at_waiting(timer->data);
}

/* ---- writing --------------------------------------------------------------------------------------- */

static void on_written(struct hf_dispatch_req *req);

static void write_next(struct change *c)
{
    const char *value = c->values[c->n_written];
    size_t len = strlen(value);
    struct setting_write *w = hf_calloc(1, sizeof *w + len + 1);

    memcpy(w->value, value, len);
    snprintf(w->name, sizeof w->name, PREFIX "%s", c->names[c->n_written]);
    w->change = c;
    w->words[0] = hf_slice_str(HF_COMMAND_SETTING);
    w->words[1] = hf_slice_str(w->name);
    w->words[2] = hf_slice(w->value, len);
    w->req.cb = on_written;
    w->req.command = hf_command_internal(w->words[0]);
    w->req.args = (struct hf_args){w->words, 3};
    HF_ASSERT(w->req.command != NULL);
    hf_lane_submit(c->o->lane, &w->req);
}

static void on_written(struct hf_dispatch_req *req)
{
    struct setting_write *w = (struct setting_write *)(void *)req;
    struct change *c = w->change;
    struct hf_operator *o = c->o;
    struct hf_reader in = hf_reader(hf_buf_slice(&req->reply.buf));

    if (hf_read_u8(&in) == HF_REPLY_ERROR) {
        struct hf_slice text = hf_read_slice(&in);

        fail_change(c, (const char *)text.ptr, text.len);
    } else if (++c->n_written < c->n) {
        write_next(c);
    } else {
        c->is_waiting = true;
        c->deadline_ms = o->env->boot_ms(o->env) + APPLY_WAIT_MS;
        look_at_waiting(o);
    }
    hf_reply_free(&req->reply);
    hf_free(w);
}

/* ---- CONFIG SET ------------------------------------------------------------------------------------ */

static char *copy_lower(struct hf_slice s)
{
    char *out = hf_malloc(s.len + 1);

    for (size_t i = 0; i < s.len; i++)
        out[i] = (char)(s.ptr[i] >= 'A' && s.ptr[i] <= 'Z' ? s.ptr[i] + ('a' - 'A') : s.ptr[i]);
    out[s.len] = 0;
    return out;
}

static char *copy_text(struct hf_slice s)
{
    char *out = hf_malloc(s.len + 1);

    if (s.len > 0)
        memcpy(out, s.ptr, s.len);
    out[s.len] = 0;
    return out;
}

/* The cluster's pairs can be written at all. */
static bool may_write(struct hf_operator *o, const struct hf_slice *names, const bool *is_cluster, uint32_t n,
                      char *err, size_t err_size)
{
    for (uint32_t i = 0; i < n; i++) {
        if (!is_cluster[i])
            continue;
        if (names[i].len + PREFIX_BYTES > HF_SETTING_NAME_MAX || o->lane == NULL) {
            snprintf(err, err_size, "CONFIG SET failed - this node takes no settings of the cluster");
            return false;
        }
        if (hf_state_level(o->state) < NEEDS_LEVEL) {
            snprintf(err, err_size,
                     "CONFIG SET failed (possibly related to argument '%.*s') - it is a setting of the whole cluster, "
                     "which is at feature level %" PRIu32 " and needs %u: it rises by itself when every member runs a "
                     "release that has it",
                     (int)names[i].len, (const char *)names[i].ptr, hf_state_level(o->state), NEEDS_LEVEL);
            return false;
        }
    }
    return true;
}

static void set_pairs(struct hf_operator *o, struct hf_operation *op, const struct hf_slice *names,
                      const struct hf_slice *values, const bool *is_cluster, uint32_t n)
{
    struct change *c = hf_calloc(1, sizeof *c);
    char err[512] = "", text[600];

    c->o = o;
    c->op = op;
    c->next = o->changes;
    o->changes = c;
    c->names = hf_calloc(n, sizeof *c->names);
    c->values = hf_calloc(n, sizeof *c->values);
    for (uint32_t i = 0; i < n; i++) {
        if (is_cluster[i]) {
            c->names[c->n] = copy_lower(names[i]);
            c->values[c->n++] = copy_text(values[i]);
        } else if (o->settings->set(o->settings->data, names[i], values[i], true, err, sizeof err)) {
            c->n_local++;
        } else {
            snprintf(text, sizeof text, "ERR %s", err);
            fail_change(c, text, strlen(text));
            return;
        }
    }
    if (c->n > 0) {
        write_next(c);
        return;
    }
    hf_reply_ok(&op->reply);
    finish_change(c);
}

void hf_operate_config_set_pairs(void *data, struct hf_operation *op, const struct hf_slice *names,
                                 const struct hf_slice *values, uint32_t n)
{
    struct hf_operator *o = data;
    char err[512] = "";
    bool *is_cluster;

    if (o->settings == NULL) {
        hf_operation_fail(op, ERR_NO_SETTING);
        return;
    }
    is_cluster = hf_calloc((size_t)n + 1, sizeof *is_cluster);
    if (!o->settings->check(o->settings->data, names, values, n, is_cluster, err, sizeof err) ||
        !may_write(o, names, is_cluster, n, err, sizeof err)) {
        hf_reply_errorf(&op->reply, "ERR %s", err);
        hf_operation_done(op);
    } else {
        set_pairs(o, op, names, values, is_cluster, n);
    }
    hf_free(is_cluster);
}

/* ---- applied --------------------------------------------------------------------------------------- */

void hf_operator_on_setting(struct hf_operator *o, struct hf_slice name, struct hf_slice value)
{
    struct known_setting **at, *k;
    char err[256] = "";
    char *own;

    if (name.len <= PREFIX_BYTES || memcmp(name.ptr, PREFIX, PREFIX_BYTES) != 0)
        return;
    name = hf_slice(name.ptr + PREFIX_BYTES, name.len - PREFIX_BYTES);
    own = copy_text(name);
    at = known_place(o, own);
    k = *at;
    if (value.len == 0) {
        if (k) {
            *at = k->next;
            hf_free(k->name);
            hf_free(k->value);
            hf_free(k);
        }
        hf_free(own);
    } else if (k) {
        hf_free(own);
        hf_free(k->value);
        k->value = copy_text(value);
    } else {
        k = *at = hf_calloc(1, sizeof *k);
        k->name = own;
        k->value = copy_text(value);
    }
    if (o->settings && !o->settings->set(o->settings->data, name, value, false, err, sizeof err))
        HF_LOG_WARN("operate", "a setting of the cluster means nothing to this release and is left alone",
                    "name=%.*s value=\"%.*s\" reason=\"%s\"", (int)name.len, (const char *)name.ptr,
                    (int)(value.len < 80 ? value.len : 80), value.len ? (const char *)value.ptr : "", err);
    look_at_waiting(o);
}

/* ---- life ------------------------------------------------------------------------------------------ */

void hf_operate_settings_open(struct hf_operator *o)
{
    o->change_timer = (struct hf_timer){.data = o, .cb = on_change_timer};
}

static void release_write(struct hf_dispatch_req *req)
{
    hf_free(req);
}

void hf_operate_settings_close(struct hf_operator *o)
{
    struct known_setting *k;
    struct change *c;

    o->env->timer_stop(o->env, &o->change_timer);
    if (o->lane)
        hf_lane_close(o->lane, release_write);
    while ((c = o->changes) != NULL) {
        hf_reply_error(&c->op->reply, ERR_CLOSING);
        finish_change(c);
    }
    while ((k = o->known) != NULL) {
        o->known = k->next;
        hf_free(k->name);
        hf_free(k->value);
        hf_free(k);
    }
}
