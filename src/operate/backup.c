/* backup.c: HF.BACKUP. START makes (or shares) a local copy of the state, READ gives chunks of that file, END lets go
 * of it. A client that forgot END, or is gone, is noticed by its silence: a backup that nobody reads from for
 * backup_idle_ms is closed, so that its file does not fill the disk. The numbers of backups begin at the wall clock's
 * milliseconds, so that one of an earlier process is not taken for one of this. */
#include "base/log.h"
#include "base/mem.h"
#include "operate/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char closing_text[] = "NOLEADER This node is shutting down; start the backup again at another node";

struct backup {
    struct backup *next;
    struct hf_operator *o;
    uint64_t id;
    struct hf_snapshot_request request;
    bool waits_for_commit; /* of the state, before a copy is asked for */ /* until there is a reader */
    struct hf_snapshot_reader *reader;
    struct hf_snapshot_read read;
    struct hf_operation *op; /* START until the copy is made, READ while it is under way */
    bool is_reading, is_ended;
    uint64_t used_ms;
};

static void free_backup(struct backup *b)
{
    struct hf_operator *o = b->o;
    struct backup **at = &o->backups;

    while (*at != b)
        at = &(*at)->next;
    *at = b->next;
    o->n_backups--;
    hf_gauge_set(o->backups_gauge, o->n_backups);
    if (b->reader)
        hf_snapshot_reader_close(b->reader);
    hf_free(b);
}

static struct backup *find_backup(struct hf_operator *o, uint64_t id)
{
    for (struct backup *b = o->backups; b; b = b->next)
        if (b->id == id && b->reader && !b->is_ended)
            return b;
    return NULL;
}

static bool is_idle(const struct backup *b)
{
    return b->reader && !b->is_reading;
}

static void arm_timer(struct hf_operator *o)
{
    uint64_t now_ms = o->env->boot_ms(o->env), due_ms = UINT64_MAX;

    for (struct backup *b = o->backups; b; b = b->next)
        if (is_idle(b) && b->used_ms + o->config.backup_idle_ms < due_ms)
            due_ms = b->used_ms + o->config.backup_idle_ms;
    if (due_ms == UINT64_MAX)
        o->env->timer_stop(o->env, &o->backup_timer);
    else
        o->env->timer_start(o->env, &o->backup_timer, due_ms > now_ms ? due_ms - now_ms : 0);
}

static void on_backup_timer(struct hf_timer *timer)
{
    struct hf_operator *o = timer->data;
    uint64_t now_ms = o->env->boot_ms(o->env);
    struct backup *next;

    for (struct backup *b = o->backups; b; b = next) {
        next = b->next;
        if (!is_idle(b) || now_ms - b->used_ms < o->config.backup_idle_ms)
            continue;
        HF_LOG_WARN("operate", "a backup was left without being ended: closing it", "id=%" PRIu64 " silent_ms=%" PRIu64,
                    b->id, now_ms - b->used_ms);
        free_backup(b);
    }
    arm_timer(o);
}

/* ---- start ----------------------------------------------------------------------------------------- */

static void put_number(struct hf_reply *out, const char *name, uint64_t n)
{
    hf_reply_bulk_str(out, name);
    hf_reply_int(out, (int64_t)n);
}

static void on_copied(struct hf_snapshot_request *request, int rc, struct hf_snapshot_reader *reader, const char *why)
{
    struct backup *b = request->data;
    struct hf_operator *o = b->o;
    struct hf_operation *op = b->op;
    const struct hf_snapshot_info *info;
    char digest[2 * sizeof info->digest + 1];

    b->op = NULL;
    if (rc != 0) {
        free_backup(b);
        hf_reply_errorf(&op->reply, "%s %s",
                        rc == HF_E_NOSPC ? "NOSPACE" : "ERR no copy of the state could be made:", why);
        hf_operation_done(op);
        return;
    }
    b->reader = reader;
    b->used_ms = o->env->boot_ms(o->env);
    arm_timer(o);
    info = hf_snapshot_reader_info(reader);
    for (size_t i = 0; i < sizeof info->digest; i++)
        snprintf(digest + 2 * i, 3, "%02x", info->digest[i]);
    hf_reply_map(&op->reply, 6);
    put_number(&op->reply, "id", b->id);
    put_number(&op->reply, "index", info->index);
    put_number(&op->reply, "term", info->term);
    put_number(&op->reply, "bytes", info->bytes);
    hf_reply_bulk_str(&op->reply, "digest");
    hf_reply_bulk_str(&op->reply, digest);
    put_number(&op->reply, "level", info->level);
    hf_counter_add(o->backups_total, 1);
    HF_LOG_INFO("operate", "a backup begins", "id=%" PRIu64 " index=%" PRIu64 " bytes=%" PRIu64, b->id, info->index,
                info->bytes);
    hf_operation_done(op);
}

static void go_on(struct hf_operator *o, struct backup *b)
{
    if (o->durable_index < b->request.at_least) {
        hf_state_commit(o->state);
        return;
    }
    b->waits_for_commit = false;
    hf_snapshots_copy(o->snapshots, &b->request);
}

void hf_operate_backup_start(void *data, struct hf_operation *op)
{
    struct hf_operator *o = data;
    struct backup *b;

    if (o->n_backups >= o->config.backups_max) {
        hf_reply_errorf(&op->reply,
                        "ERR %" PRIu32
                        " backups are open on this node, which is as many as there may be: wait until one "
                        "ends, or use another node",
                        o->n_backups);
        hf_operation_done(op);
        return;
    }
    b = hf_calloc(1, sizeof *b);
    b->o = o;
    b->op = op;
    b->id = ++o->last_backup_id;
    b->next = o->backups;
    o->backups = b;
    o->n_backups++;
    hf_gauge_set(o->backups_gauge, o->n_backups);
    b->request.data = b;
    b->request.cb = on_copied;
    /* What was applied here when the backup was asked for is in it. */
    b->request.at_least = hf_state_applied_index(o->state);
    b->waits_for_commit = true;
    go_on(o, b);
}

void hf_operator_on_durable(struct hf_operator *o, uint64_t index)
{
    struct backup *next;

    o->durable_index = index;
    for (struct backup *b = o->backups; b; b = next) {
        next = b->next;
        if (b->waits_for_commit)
            go_on(o, b);
    }
}

/* ---- read and end ---------------------------------------------------------------------------------- */

static void on_read(struct hf_snapshot_read *read, int rc, struct hf_slice bytes)
{
    struct backup *b = read->data;
    struct hf_operator *o = b->o;
    struct hf_operation *op = b->op;

    b->op = NULL;
    b->is_reading = false;
    b->used_ms = o->env->boot_ms(o->env);
    if (rc == 0) {
        hf_reply_bulk(&op->reply, bytes);
        hf_counter_add(o->backup_bytes, bytes.len);
    } else {
        hf_reply_errorf(&op->reply, "ERR the copy cannot be read: %s; end this backup and start another",
                        hf_strerror(rc));
    }
    if (b->is_ended)
        free_backup(b);
    arm_timer(o);
    hf_operation_done(op);
}

void hf_operate_backup_read(void *data, struct hf_operation *op, uint64_t id, uint64_t offset, uint64_t n)
{
    struct hf_operator *o = data;
    struct backup *b = find_backup(o, id);

    if (b == NULL) {
        hf_operation_fail(op, "ERR there is no such backup: it was ended, was idle for too long, or is another node's");
        return;
    }
    if (n == 0 || n > o->config.backup_chunk_max) {
        hf_reply_errorf(&op->reply, "ERR count must be from 1 to %" PRIu64, o->config.backup_chunk_max);
        hf_operation_done(op);
        return;
    }
    if (offset > hf_snapshot_reader_info(b->reader)->bytes) {
        hf_operation_fail(op, "ERR offset is beyond the end of the copy");
        return;
    }
    if (b->is_reading) {
        hf_operation_fail(op, "ERR this backup is being read by another connection");
        return;
    }
    b->op = op;
    b->is_reading = true;
    memset(&b->read, 0, sizeof b->read);
    b->read.data = b;
    b->read.cb = on_read;
    b->read.offset = offset;
    b->read.n = (size_t)n;
    hf_snapshot_reader_read(b->reader, &b->read);
}

void hf_operate_backup_end(void *data, struct hf_operation *op, uint64_t id)
{
    struct hf_operator *o = data;
    struct backup *b = find_backup(o, id);

    if (b == NULL) {
        hf_operation_fail(op, "ERR there is no such backup: it was ended, was idle for too long, or is another node's");
        return;
    }
    if (b->is_reading)
        b->is_ended = true;
    else
        free_backup(b);
    arm_timer(o);
    hf_reply_ok(&op->reply);
    hf_operation_done(op);
}

/* ---- life ------------------------------------------------------------------------------------------ */

void hf_operate_backups_open(struct hf_operator *o, struct hf_stats *stats)
{
    o->last_backup_id = (uint64_t)o->env->wall_ms(o->env);
    o->backup_timer = (struct hf_timer){.data = o, .cb = on_backup_timer};
    o->backups_gauge = hf_stats_gauge(stats, "backups_open", NULL, "Backups that clients read from this node now");
    o->backups_total = hf_stats_counter(stats, "backups_total", NULL, "Backups begun on this node");
    o->backup_bytes = hf_stats_counter(stats, "backup_bytes_total", NULL, "Bytes of backups given to clients");
}

void hf_operate_backups_close(struct hf_operator *o)
{
    struct backup *b;

    o->env->timer_stop(o->env, &o->backup_timer);
    while ((b = o->backups) != NULL) {
        struct hf_operation *op = b->op;

        free_backup(b);
        if (op)
            hf_operation_fail(op, closing_text);
    }
}
