/* harness.c: see harness.h. */
#include "harness.h"

#include "base/assert.h"
#include "base/mem.h"
#include "base/util.h"

#include <check.h>
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- the node ------------------------------------------------------------------------------------ */

static void visit_clients(void *data, bool (*cb)(void *arg, struct hf_client *c), void *arg)
{
    struct harness *h = data;

    for (size_t i = 0; i < HARNESS_CLIENTS; i++) {
        if (!cb(arg, &h->clients[i]))
            return;
    }
}

static const struct hf_node_status *get_status(void *data)
{
    return &((struct harness *)data)->status;
}

static void get_config(void *data, struct hf_slice pattern, void (*cb)(void *arg, const char *name, const char *value),
                       void *arg)
{
    struct harness *h = data;

    for (size_t i = 0; i < 3; i++) {
        if (hf_glob_match(pattern, hf_slice_str(h->config[i][0]), true))
            cb(arg, h->config[i][0], h->config[i][1]);
    }
}

static void set_config(void *data, struct hf_operation *op, const struct hf_slice *names, const struct hf_slice *values,
                       uint32_t n)
{
    struct harness *h = data;

    for (uint32_t i = 0; i < n; i++) {
        size_t c = 0;

        while (c < 3 && !hf_slice_is(names[i], h->config[c][0]))
            c++;
        if (c == 3) {
            hf_reply_errorf(&op->reply, "ERR Unknown option or number of arguments for CONFIG SET - '%.*s'",
                            (int)names[i].len, (const char *)names[i].ptr);
            hf_operation_done(op);
            return;
        }
        snprintf(h->config[c][1], sizeof(h->config[c][1]), "%.*s", (int)values[i].len, (const char *)values[i].ptr);
    }
    hf_reply_ok(&op->reply);
    hf_operation_done(op);
}

/* What operators ask for is answered with what it was. */
static void answer_member(void *data, struct hf_operation *op, enum hf_member_op what, struct hf_slice node,
                          struct hf_slice other)
{
    char text[200];

    (void)data;
    snprintf(text, sizeof(text), "OK %d <%.*s> <%.*s>", (int)what, (int)node.len, (const char *)node.ptr,
             (int)other.len, (const char *)other.ptr);
    hf_reply_status(&op->reply, text);
    hf_operation_done(op);
}

static void answer_start(void *data, struct hf_operation *op)
{
    (void)data;
    hf_reply_status(&op->reply, "START");
    hf_operation_done(op);
}

static void answer_read(void *data, struct hf_operation *op, uint64_t id, uint64_t offset, uint64_t n)
{
    char text[100];

    (void)data;
    snprintf(text, sizeof(text), "READ %" PRIu64 " %" PRIu64 " %" PRIu64, id, offset, n);
    hf_reply_status(&op->reply, text);
    hf_operation_done(op);
}

static void answer_end(void *data, struct hf_operation *op, uint64_t id)
{
    (void)data;
    hf_reply_errorf(&op->reply, "ERR END %" PRIu64, id);
    hf_operation_done(op);
}

static void reset_stats(void *data)
{
    ((struct harness *)data)->stats_reset = true;
    hf_stats_mark(((struct harness *)data)->stats);
}

static bool auth(void *data, struct hf_slice user, struct hf_slice password)
{
    struct harness *h = data;

    return hf_slice_eq(user, hf_slice_str("default")) &&
           (!h->password_set || hf_slice_eq(password, hf_slice_str("secret")));
}

static bool auth_required(void *data)
{
    return ((struct harness *)data)->password_set;
}

static void shut_down(void *data)
{
    ((struct harness *)data)->is_shut_down = true;
}

static uint32_t replicas_in_sync(void *data)
{
    (void)data;
    return 2;
}

static int64_t wall_ms(void *data)
{
    return ((struct harness *)data)->clock_ms;
}

static uint64_t wall_us(void *data)
{
    return (uint64_t)((struct harness *)data)->clock_ms * 1000 + 42;
}

static bool debug_allowed(void *data)
{
    return ((struct harness *)data)->debug_allowed;
}

static struct hf_store *open_store(const char *dir, const char *name, struct hf_stats *stats)
{
    char path[128], why[256] = "";
    struct hf_store_config config = {.path = path, .cache_bytes_max = 1 << 20, .dirty_bytes_max = 1 << 18};
    struct hf_store *s;
    int rc;

    snprintf(path, sizeof(path), "%s/%s.db", dir, name);
    rc = hf_store_open(&config, stats, &s, why, sizeof(why));
    ck_assert_msg(rc == 0, "%s", why);
    return s;
}

void harness_open(struct harness *h)
{
    memset(h, 0, sizeof(*h));
    hf_command_table_init();
    strcpy(h->dir, "/tmp/hf-command-XXXXXX"); /* fits; and gcc 14 sees ghosts in snprintf here */
    ck_assert_ptr_nonnull(mkdtemp(h->dir));
    h->stats = hf_stats_new();
    h->store = open_store(h->dir, "state-1", h->stats);
    h->clock_ms = HARNESS_EPOCH;
    h->seed = 7;
    h->ops = (struct hf_local_ops){
        .data = h,
        .clients = visit_clients,
        .status = get_status,
        .config_get = get_config,
        .config_resetstat = reset_stats,
        .auth = auth,
        .auth_required = auth_required,
        .shutdown = shut_down,
        .replicas_in_sync = replicas_in_sync,
        .wall_ms = wall_ms,
        .wall_us = wall_us,
        .debug_allowed = debug_allowed,
    };
    h->operator_ops = (struct hf_operator_ops){
        .data = h,
        .member = answer_member,
        .backup_start = answer_start,
        .backup_read = answer_read,
        .backup_end = answer_end,
        .config_set = set_config,
    };
    for (int i = 0; i < HARNESS_CLIENTS; i++) {
        struct hf_client *c = &h->clients[i];

        c->id = 10 + (uint64_t)i;
        snprintf(c->addr, sizeof(c->addr), "10.0.0.%d:5000", i + 1);
        snprintf(c->laddr, sizeof(c->laddr), "10.0.0.9:7379");
        c->protocol = 2;
        c->authenticated = true;
        c->fd = 20 + i;
        c->connected_ms = 1000;
        c->last_command_ms = 61000 - 30000ull * (uint64_t)i;
        c->last_command = "get";
    }
    snprintf(h->config[0][0], 32, "maxclients");
    snprintf(h->config[0][1], 32, "10000");
    snprintf(h->config[1][0], 32, "maxmemory");
    snprintf(h->config[1][1], 32, "0");
    snprintf(h->config[2][0], 32, "save");
    h->peers[0] = (struct hf_node_peer_status){.id = 2,
                                               .address = "10.0.0.2:17379",
                                               .client_address = "10.0.0.2:7379",
                                               .role = "voter",
                                               .is_connected = true,
                                               .match_index = 41,
                                               .last_contact_ms = 1500,
                                               .name = "2",
                                               .level = 2};
    h->peers[1] = (struct hf_node_peer_status){.id = 3,
                                               .address = "[::1]:17379",
                                               .client_address = "",
                                               .role = "voter",
                                               .is_connected = false,
                                               .last_contact_ms = UINT64_MAX,
                                               .name = "3"};
    h->status = (struct hf_node_status){
        .node_id = 1,
        .cluster_id = "c1",
        .role = "leader",
        .term = 5,
        .leader_id = 1,
        .leader_address = "10.0.0.1:17379",
        .leader_client_address = "10.0.0.1:7379",
        .first_index = 1,
        .last_index = 42,
        .commit_index = 42,
        .applied_index = 42,
        .durable_index = 40,
        .snapshot_index = 30,
        .voters = "1,2,3",
        .n_peers = 2,
        .peers = h->peers,
        .client_port = 7379,
        .peer_port = 17379,
        .http_port = 8379,
        .client_address = "10.0.0.1:7379",
        .uptime_ms = 90061000,
        .pid = 4711,
        .connected_clients = HARNESS_CLIENTS,
        .maxclients = 10000,
        .rss_bytes = 3 << 20,
        .rss_peak_bytes = 5 << 20,
        .disk_free_bytes = 1 << 30,
        .last_commit_ms = HARNESS_EPOCH,
        .config_file = "",
        .data_dir = "/data",
        .stats = h->stats,
        .problem = "",
        .is_ready = true,
        .name = "1",
        .self_role = "voter",
        .peer_address = "10.0.0.1:17379",
        .level = 1,
        .level_max = 2,
    };
    harness_tick(h);
}

static void remove_store(const char *dir, const char *name)
{
    static const char *const ends[] = {"", "-wal", "-shm", "-journal"};
    char path[160];

    for (size_t i = 0; i < 4; i++) {
        snprintf(path, sizeof(path), "%s/%s.db%s", dir, name, ends[i]);
        (void)unlink(path);
    }
}

void harness_close(struct harness *h)
{
    hf_store_close(h->store);
    remove_store(h->dir, "state-1");
    (void)rmdir(h->dir);
    hf_stats_free(h->stats);
    hf_plan_free(&h->plan);
    for (size_t i = 0; i < h->n_log; i++)
        hf_log_entry_unref(h->log[i]);
    hf_free(h->log);
    for (size_t i = 0; i < HARNESS_CLIENTS; i++) {
        hf_free(h->clients[i].name);
        hf_free(h->clients[i].lib_name);
        hf_free(h->clients[i].lib_ver);
    }
}

/* ---- entries ------------------------------------------------------------------------------------- */

static void apply_entry(struct hf_store *s, const struct hf_log_entry *e, struct hf_reply *out)
{
    struct hf_slice bytes = hf_slice(e->data, e->len);
    struct hf_entry_reader r;
    struct hf_slice payload;
    uint16_t op;
    int rc = hf_entry_decode(&r, bytes);

    ck_assert_int_eq(rc, 0);
    hf_store_begin(s, e->index, 1, r.header.stamp_ms);
    hf_store_expire(s, 20);
    for (uint32_t position = 0; hf_entry_next(&r, &op, &payload); position++) {
        const struct hf_command *cmd = hf_command_by_op(op);
        struct hf_apply_ctx cx = {.store = s, .now_ms = hf_store_log_time_ms(s), .revision = e->index << 16 | position};
        struct hf_reader in = hf_reader(payload);

        ck_assert_ptr_nonnull(cmd);
        hf_prng_seed(&cx.prng, r.header.seed + position);
        out->buf.len = 0;
        cmd->apply(&cx, &in, out);
    }
    hf_store_end(s, bytes);
}

static void append_entry(struct harness *h, struct hf_entry_writer *w, struct hf_reply *out)
{
    struct hf_log_entry *e = hf_entry_finish(w, 1, h->clock_ms, h->seed);

    e->index = h->n_log + 1;
    e->term = 1;
    h->log = hf_realloc(h->log, (h->n_log + 1) * sizeof(h->log[0]));
    h->log[h->n_log++] = e;
    hf_entry_writer_free(w);
    apply_entry(h->store, e, out);
}

void harness_tick(struct harness *h)
{
    struct hf_entry_writer w = {0};
    struct hf_reply out = {0};

    hf_entry_begin(&w);
    append_entry(h, &w, &out);
    hf_reply_free(&out);
}

void harness_check_replay(struct harness *h)
{
    struct hf_stats *stats = hf_stats_new();
    struct hf_store *again = open_store(h->dir, "state-2", stats);
    struct hf_reply none = {.discard = true};

    for (size_t i = 0; i < h->n_log; i++)
        apply_entry(again, h->log[i], &none);
    /* A node that answers nobody applies the same. */
    ck_assert_uint_eq(none.buf.len, 0);
    ck_assert_mem_eq(hf_store_meta(again)->digest, hf_store_meta(h->store)->digest, 16);
    ck_assert_mem_eq(hf_store_meta(again)->history, hf_store_meta(h->store)->history, 16);
    ck_assert_uint_eq(hf_store_count(again), hf_store_count(h->store));
    ck_assert(hf_store_digest_is_right(again));
    hf_store_close(again);
    hf_stats_free(stats);
    remove_store(h->dir, "state-2");
}

/* ---- running a command --------------------------------------------------------------------------- */

static struct hf_reply *reply_of(struct harness *h)
{
    return &h->plan.refusal; /* any buffer that lives until the next call */
}

static void run_read(struct harness *h, const struct hf_command *cmd, const struct hf_args *args, struct hf_reply *out)
{
    struct hf_read_ctx cx = {.store = h->store, .clock_ms = h->clock_ms, .seed = h->seed};

    if (cmd->flags & HF_CMD_NOGATE)
        cx.status = &h->status;
    cmd->read(&cx, args, out);
    if (!cx.needs_tick)
        return;
    h->n_ticks++;
    harness_tick(h);
    cx.needs_tick = false;
    out->buf.len = 0;
    cmd->read(&cx, args, out);
    ck_assert_msg(!cx.needs_tick, "%s still wants a tick", cmd->name);
}

static void note_operated(struct hf_operation *op)
{
    ++*(unsigned *)op->data;
}

static void run_operate(struct harness *h, const struct hf_command *cmd, const struct hf_args *args,
                        struct hf_reply *out)
{
    unsigned n_done = 0;
    struct hf_operation op = {.data = &n_done, .cb = note_operated};

    cmd->operate(&op, &h->operator_ops, args);
    ck_assert_uint_eq(n_done, 1);
    hf_buf_put(&out->buf, op.reply.buf.data, op.reply.buf.len);
    hf_reply_free(&op.reply);
}

struct hf_slice harness_run(struct harness *h, const struct hf_args *args)
{
    struct hf_reply *out = reply_of(h);
    const struct hf_command *cmd;

    out->buf.len = 0;
    cmd = hf_command_resolve(args, out);
    if (cmd == NULL && args->at[0].ptr[0] == '_') {
        cmd = hf_command_internal(args->at[0]);
        if (cmd != NULL && args->n != (uint32_t)cmd->arity)
            cmd = NULL;
        out->buf.len = cmd != NULL ? 0 : out->buf.len;
    }
    if (cmd == NULL)
        return hf_buf_slice(&out->buf);
    if (cmd->flags & HF_CMD_WRITE) {
        struct hf_entry_writer w = {0};
        bool is_added;

        if (hf_command_plan(cmd, &h->plan, args) != 0)
            return hf_buf_slice(&out->buf);
        hf_entry_begin(&w);
        is_added = hf_entry_add(&w, h->plan.op, hf_buf_slice(&h->plan.payload));
        ck_assert(is_added);
        append_entry(h, &w, out);
        ck_assert(hf_reply_is_valid(hf_buf_slice(&out->buf)));
    } else if (cmd->flags & HF_CMD_READ) {
        run_read(h, cmd, args, out);
        ck_assert(hf_reply_is_valid(hf_buf_slice(&out->buf)));
    } else if (cmd->flags & HF_CMD_OPERATE) {
        run_operate(h, cmd, args, out);
        ck_assert(hf_reply_is_valid(hf_buf_slice(&out->buf)));
    } else {
        struct hf_local_ctx cx = {.client = &h->clients[0], .ops = &h->ops};

        cmd->local(&cx, args, out);
        ck_assert(out->buf.len == 0 || hf_reply_is_valid(hf_buf_slice(&out->buf)));
    }
    return hf_buf_slice(&out->buf);
}

/* ---- words --------------------------------------------------------------------------------------- */

#define WORDS_MAX 64

struct words {
    struct hf_slice at[WORDS_MAX];
    struct hf_args args;
    struct hf_buf bytes;
};

static uint8_t hex_value(char c)
{
    return (uint8_t)(isdigit((unsigned char)c) ? c - '0' : tolower((unsigned char)c) - 'a' + 10);
}

/* "..." with \n \r \t \\ \" \xHH as redis-cli reads it. */
static const char *parse_quoted(const char *p, struct hf_buf *out)
{
    for (p++; *p != '"'; p++) {
        uint8_t c = (uint8_t)*p;

        ck_assert_msg(*p != '\0', "a quote is not closed");
        if (*p == '\\') {
            p++;
            switch (*p) {
            case 'n':
                c = '\n';
                break;
            case 'r':
                c = '\r';
                break;
            case 't':
                c = '\t';
                break;
            case 'x':
                c = (uint8_t)(hex_value(p[1]) * 16 + hex_value(p[2]));
                p += 2;
                break;
            default:
                c = (uint8_t)*p;
            }
        }
        hf_buf_put_u8(out, c);
    }
    return p + 1;
}

static void split_words(struct words *w, const char *line)
{
    size_t start[WORDS_MAX], n = 0;

    memset(w, 0, sizeof(*w));
    hf_buf_reserve(&w->bytes, 1);
    for (const char *p = line; *p != '\0';) {
        if (*p == ' ') {
            p++;
            continue;
        }
        ck_assert_uint_lt(n, WORDS_MAX);
        start[n++] = w->bytes.len;
        while (*p != '\0' && *p != ' ') {
            if (*p == '"')
                p = parse_quoted(p, &w->bytes);
            else
                hf_buf_put_u8(&w->bytes, (uint8_t)*p++);
        }
    }
    for (size_t i = 0; i < n; i++)
        w->at[i] = hf_slice(w->bytes.data + start[i], (i + 1 < n ? start[i + 1] : w->bytes.len) - start[i]);
    w->args = (struct hf_args){.at = w->at, .n = (uint32_t)n};
}

void harness_run_line(struct harness *h, const char *line, struct hf_buf *text)
{
    struct words w;
    uint32_t n_ticks = h->n_ticks;

    split_words(&w, line);
    text->len = 0;
    render_reply(text, harness_run(h, &w.args));
    if (text->len > 0 && text->data[text->len - 1] == '\n')
        text->len--;
    if (h->n_ticks != n_ticks)
        hf_buf_printf(text, "\n(after a tick)");
    hf_buf_put_u8(text, 0);
    hf_buf_free(&w.bytes);
}

void harness_entry(struct harness *h, const char *const *lines, uint32_t n)
{
    struct hf_entry_writer entry = {0};
    struct hf_reply out = {0};

    hf_entry_begin(&entry);
    for (uint32_t i = 0; i < n; i++) {
        struct words w;
        const struct hf_command *cmd;
        bool is_added;

        split_words(&w, lines[i]);
        cmd = hf_command_resolve(&w.args, &out);
        ck_assert_ptr_nonnull(cmd);
        ck_assert_int_eq(hf_command_plan(cmd, &h->plan, &w.args), 0);
        is_added = hf_entry_add(&entry, h->plan.op, hf_buf_slice(&h->plan.payload));
        ck_assert(is_added);
        hf_buf_free(&w.bytes);
    }
    append_entry(h, &entry, &out);
    hf_reply_free(&out);
}

/* ---- rendering ----------------------------------------------------------------------------------- */

static void render_quoted(struct hf_buf *out, struct hf_slice s)
{
    hf_buf_put_u8(out, '"');
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.ptr[i];

        if (c == '"' || c == '\\')
            hf_buf_printf(out, "\\%c", c);
        else if (c == '\n')
            hf_buf_printf(out, "\\n");
        else if (c == '\r')
            hf_buf_printf(out, "\\r");
        else if (c == '\t')
            hf_buf_printf(out, "\\t");
        else if (isprint(c))
            hf_buf_put_u8(out, c);
        else
            hf_buf_printf(out, "\\x%02x", c);
    }
    hf_buf_printf(out, "\"\n");
}

static void render_value(struct hf_buf *out, struct hf_reader *in, int indent);

static void render_items(struct hf_buf *out, struct hf_reader *in, int indent, char mark)
{
    uint32_t n = hf_read_u32(in);
    int width = snprintf(NULL, 0, "%u", n);

    if (n == 0) {
        hf_buf_printf(out, "(empty %s)\n", mark == '#' ? "hash" : mark == '~' ? "set" : "array");
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        hf_buf_printf(out, "%*s%*u%c ", i == 0 ? 0 : indent, "", width, i + 1, mark);
        render_value(out, in, indent + width + 2);
        if (mark == '#') {
            out->len--;
            hf_buf_printf(out, " => ");
            render_value(out, in, indent + width + 2);
        }
    }
}

static void render_value(struct hf_buf *out, struct hf_reader *in, int indent)
{
    enum hf_reply_tag tag = (enum hf_reply_tag)hf_read_u8(in);
    struct hf_slice s;

    switch (tag) {
    case HF_REPLY_STATUS:
    case HF_REPLY_VERBATIM:
    case HF_REPLY_BIGNUM:
    case HF_REPLY_DOUBLE:
        s = hf_read_slice(in);
        hf_buf_put(out, s.ptr, s.len);
        hf_buf_put_u8(out, '\n');
        break;
    case HF_REPLY_ERROR:
        s = hf_read_slice(in);
        hf_buf_printf(out, "(error) %.*s\n", (int)s.len, (const char *)s.ptr);
        break;
    case HF_REPLY_BULK:
        render_quoted(out, hf_read_slice(in));
        break;
    case HF_REPLY_INT:
        hf_buf_printf(out, "(integer) %lld\n", (long long)hf_read_u64(in));
        break;
    case HF_REPLY_BOOL:
        hf_buf_printf(out, "(%s)\n", hf_read_u8(in) ? "true" : "false");
        break;
    case HF_REPLY_NULL:
    case HF_REPLY_NULL_ARRAY:
        hf_buf_printf(out, "(nil)\n");
        break;
    case HF_REPLY_ARRAY:
    case HF_REPLY_PUSH:
        render_items(out, in, indent, ')');
        break;
    case HF_REPLY_SET:
        render_items(out, in, indent, '~');
        break;
    case HF_REPLY_MAP:
        render_items(out, in, indent, '#');
        break;
    case HF_REPLY_ATTRIBUTE:
        ck_abort_msg("no command gives attributes");
    }
}

void render_reply(struct hf_buf *out, struct hf_slice flat)
{
    struct hf_reader in = hf_reader(flat);

    if (flat.len == 0) {
        hf_buf_printf(out, "(no reply)\n");
        return;
    }
    render_value(out, &in, 0);
    ck_assert(hf_reader_done(&in));
}
