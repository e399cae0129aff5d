/* key.c: what the commands on keys of any type mean: existence, expiry, names, the walk over all keys.
 * Plan encodes as ops.h says, apply sees state and entry only, read runs behind the read gate. */
#include "command/args.h"
#include "command/ops.h"
#include "command/rows.h"

#include "base/assert.h"
#include "base/util.h"

#include <stdio.h>

/* ---- DEL, UNLINK, EXISTS, TOUCH, TYPE ------------------------------------------------------------ */

static int plan_keys(struct hf_plan *plan, const struct hf_args *args)
{
    hf_buf_put_u32(&plan->payload, args->n - 1);
    for (uint32_t i = 1; i < args->n; i++)
        hf_plan_put_bytes(plan, args->at[i]);
    return 0;
}

static void apply_del(struct hf_apply_ctx *cx, struct hf_reader *in, struct hf_reply *out)
{
    uint32_t n = hf_read_u32(in);
    struct hf_reader all = *in;
    int64_t n_deleted = 0;

    for (uint32_t i = 0; i < n && !all.failed; i++)
        (void)hf_read_slice(&all);
    hf_apply_payload_end(&all, "del");
    for (uint32_t i = 0; i < n; i++)
        n_deleted += hf_store_del(cx->store, hf_read_slice(in));
    hf_reply_int(out, n_deleted);
}

static void read_exists(struct hf_read_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    struct hf_row row;
    int64_t n = 0;

    for (uint32_t i = 1; i < args->n; i++)
        n += hf_read_peek(cx, args->at[i], &row);
    hf_reply_int(out, n);
}

static const char *type_name(enum hf_type type)
{
    switch (type) {
    case HF_TYPE_NONE:
        return "none";
    case HF_TYPE_STRING:
        return "string";
    }
    HF_UNREACHABLE();
}

static void read_type(struct hf_read_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    struct hf_row row;

    hf_reply_status(out, type_name(hf_read_peek(cx, args->at[1], &row) ? row.type : HF_TYPE_NONE));
}

/* ---- expiry -------------------------------------------------------------------------------------- */

static int plan_expiry_of(struct hf_plan *plan, const struct hf_args *args, bool is_seconds, bool is_absolute)
{
    unsigned flags = is_absolute ? HF_EXPIRE_ABSOLUTE : 0;
    int64_t expiry;
    int rc;

    for (uint32_t i = 3; i < args->n; i++) {
        if (hf_arg_is(args, i, "NX")) {
            flags |= HF_EXPIRE_NX;
        } else if (hf_arg_is(args, i, "XX")) {
            flags |= HF_EXPIRE_XX;
        } else if (hf_arg_is(args, i, "GT")) {
            flags |= HF_EXPIRE_GT;
        } else if (hf_arg_is(args, i, "LT")) {
            flags |= HF_EXPIRE_LT;
        } else {
            hf_reply_errorf(&plan->refusal, "ERR Unsupported option %.*s",
                            (int)(args->at[i].len < 128 ? args->at[i].len : 128), (const char *)args->at[i].ptr);
            return HF_E_INVALID;
        }
    }
    if ((flags & HF_EXPIRE_NX) && (flags & (HF_EXPIRE_XX | HF_EXPIRE_GT | HF_EXPIRE_LT)))
        return hf_plan_refuse(plan, "ERR NX and XX, GT or LT options at the same time are not compatible");
    if ((flags & HF_EXPIRE_GT) && (flags & HF_EXPIRE_LT))
        return hf_plan_refuse(plan, "ERR GT and LT options at the same time are not compatible");
    rc = hf_plan_expiry_signed(plan, args, 2, is_seconds, is_absolute, &expiry);
    if (rc != 0)
        return rc;
    hf_buf_put_u8(&plan->payload, (uint8_t)flags);
    hf_plan_put_bytes(plan, args->at[1]);
    hf_plan_put_int64(plan, expiry);
    return 0;
}

static int plan_expire(struct hf_plan *plan, const struct hf_args *args)
{
    return plan_expiry_of(plan, args, true, false);
}

static int plan_pexpire(struct hf_plan *plan, const struct hf_args *args)
{
    return plan_expiry_of(plan, args, false, false);
}

static int plan_expireat(struct hf_plan *plan, const struct hf_args *args)
{
    return plan_expiry_of(plan, args, true, true);
}

static int plan_pexpireat(struct hf_plan *plan, const struct hf_args *args)
{
    return plan_expiry_of(plan, args, false, true);
}

/* A key without expiry counts as one that expires never: GT is never met by it, LT always. */
static bool may_expire(unsigned flags, int64_t old, int64_t expiry)
{
    if ((flags & HF_EXPIRE_NX) && old != 0)
        return false;
    if ((flags & HF_EXPIRE_XX) && old == 0)
        return false;
    if ((flags & HF_EXPIRE_GT) && (old == 0 || expiry <= old))
        return false;
    if ((flags & HF_EXPIRE_LT) && old != 0 && expiry >= old)
        return false;
    return true;
}

static void apply_expire(struct hf_apply_ctx *cx, struct hf_reader *in, struct hf_reply *out)
{
    unsigned flags = hf_read_u8(in);
    struct hf_slice key = hf_read_slice(in);
    int64_t expiry = hf_payload_int64(in);
    struct hf_row row;

    hf_apply_payload_end(in, "expire");
    if (!(flags & HF_EXPIRE_ABSOLUTE))
        expiry = hf_expiry_from_now(cx->now_ms, expiry);
    if (!hf_store_peek(cx->store, key, &row) || !may_expire(flags, row.expires_at_ms, expiry)) {
        hf_reply_int(out, 0);
        return;
    }
    if (expiry <= cx->now_ms)
        hf_store_del(cx->store, key);
    else
        hf_store_touch(cx->store, key, cx->revision, expiry);
    hf_reply_int(out, 1);
}

static int plan_key(struct hf_plan *plan, const struct hf_args *args)
{
    hf_plan_put_bytes(plan, args->at[1]);
    return 0;
}

static void apply_persist(struct hf_apply_ctx *cx, struct hf_reader *in, struct hf_reply *out)
{
    struct hf_slice key = hf_read_slice(in);
    struct hf_row row;
    bool has_expiry;

    hf_apply_payload_end(in, "persist");
    has_expiry = hf_store_peek(cx->store, key, &row) && row.expires_at_ms != 0;
    if (has_expiry)
        hf_store_touch(cx->store, key, cx->revision, 0);
    hf_reply_int(out, has_expiry);
}

/* -2: no such key, -1: no expiry, else the expiry or the time left. */
static int64_t expiry_of(struct hf_read_ctx *cx, struct hf_slice key, bool is_left)
{
    struct hf_row row;
    int64_t now;

    if (!hf_read_peek(cx, key, &row))
        return -2;
    if (row.expires_at_ms == 0)
        return -1;
    if (!is_left)
        return row.expires_at_ms;
    now = hf_store_log_time_ms(cx->store);
    if (now < cx->clock_ms)
        now = cx->clock_ms;
    return row.expires_at_ms > now ? row.expires_at_ms - now : 0;
}

/* Half a second is rounded up, as in Redis, without overflow at the far end of time. */
static int64_t in_seconds(int64_t ms)
{
    return ms < 0 ? ms : ms / 1000 + (ms % 1000 >= 500);
}

static void read_ttl(struct hf_read_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    hf_reply_int(out, in_seconds(expiry_of(cx, args->at[1], true)));
}

static void read_pttl(struct hf_read_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    hf_reply_int(out, expiry_of(cx, args->at[1], true));
}

static void read_expiretime(struct hf_read_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    hf_reply_int(out, in_seconds(expiry_of(cx, args->at[1], false)));
}

static void read_pexpiretime(struct hf_read_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    hf_reply_int(out, expiry_of(cx, args->at[1], false));
}

/* ---- the walk over all keys ---------------------------------------------------------------------- */

struct walk {
    struct hf_read_ctx *cx;
    struct hf_slice pattern;
    bool has_pattern;
    const struct hf_slice *type; /* NULL = any */
    struct hf_reply *out;
    uint32_t n;
};

static bool visit_key(void *data, struct hf_slice key, const struct hf_row *row)
{
    struct walk *w = data;

    if (row->expires_at_ms != 0 && row->expires_at_ms <= w->cx->clock_ms) {
        w->cx->needs_tick = true;
        return false;
    }
    if (w->type != NULL && !hf_slice_is(*w->type, type_name(row->type)))
        return true;
    if (w->has_pattern && !hf_glob_match(w->pattern, key, false))
        return true;
    hf_reply_bulk(w->out, key);
    w->n++;
    return true;
}

static void read_keys(struct hf_read_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    bool is_all = args->at[1].len == 1 && args->at[1].ptr[0] == '*';
    struct walk w = {.cx = cx, .pattern = args->at[1], .has_pattern = !is_all, .out = out};
    size_t mark = hf_reply_begin(out, HF_REPLY_ARRAY);

    hf_store_scan(cx->store, 0, UINT64_MAX, visit_key, &w);
    hf_reply_end(out, mark, w.n);
}

static bool parse_cursor(struct hf_slice s, uint64_t *out)
{
    uint64_t v = 0;

    if (s.len == 0 || s.len > 20)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9' || __builtin_mul_overflow(v, (uint64_t)10, &v) ||
            __builtin_add_overflow(v, (uint64_t)(s.ptr[i] - '0'), &v))
            return false;
    }
    *out = v;
    return true;
}

static void read_scan(struct hf_read_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    struct hf_reply found = {0};
    struct walk w = {.cx = cx, .out = &found};
    uint64_t cursor;
    int64_t count = 10;
    size_t mark;
    char text[24];

    if (!parse_cursor(args->at[1], &cursor)) {
        hf_reply_error(out, "ERR invalid cursor");
        return;
    }
    for (uint32_t i = 2; i < args->n; i += 2) {
        bool has_next = i + 1 < args->n;

        if (hf_arg_is(args, i, "COUNT") && has_next) {
            if (!hf_arg_int64(args, i + 1, &count)) {
                hf_reply_error(out, HF_ERR_NOT_INTEGER);
                return;
            }
            if (count < 1) {
                hf_reply_error(out, HF_ERR_SYNTAX);
                return;
            }
        } else if (hf_arg_is(args, i, "MATCH") && has_next) {
            w.pattern = args->at[i + 1];
            w.has_pattern = !(w.pattern.len == 1 && w.pattern.ptr[0] == '*');
        } else if (hf_arg_is(args, i, "TYPE") && has_next) {
            w.type = &args->at[i + 1];
        } else {
            hf_reply_error(out, HF_ERR_SYNTAX);
            return;
        }
    }

    mark = hf_reply_begin(&found, HF_REPLY_ARRAY);
    cursor = hf_store_scan(cx->store, cursor, (uint64_t)count, visit_key, &w);
    hf_reply_end(&found, mark, w.n);
    hf_reply_array(out, 2);
    snprintf(text, sizeof(text), "%llu", (unsigned long long)cursor);
    hf_reply_bulk_str(out, text);
    if (!out->discard)
        hf_buf_put(&out->buf, found.buf.data, found.buf.len);
    hf_reply_free(&found);
}

static void read_randomkey(struct hf_read_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    struct hf_slice key;
    struct hf_buf copy = {0};
    struct hf_row row;

    (void)args;
    if (!hf_store_random(cx->store, cx->seed, &key)) {
        hf_reply_null(out);
        return;
    }
    /* The key is lent until the next call, and that is the look at its expiry. */
    hf_buf_put(&copy, key.ptr, key.len);
    if (hf_store_peek(cx->store, hf_buf_slice(&copy), &row) && row.expires_at_ms != 0 &&
        row.expires_at_ms <= cx->clock_ms)
        cx->needs_tick = true;
    hf_reply_bulk(out, hf_buf_slice(&copy));
    hf_buf_free(&copy);
}

/* Keys dead by log time and not yet deleted are counted, as in Redis; one that is due by the clock alone is not
 * shown before log time has reached it. */
static void read_dbsize(struct hf_read_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    int64_t due = hf_store_next_due_ms(cx->store);

    (void)args;
    if (due != 0 && due <= cx->clock_ms && due > hf_store_log_time_ms(cx->store))
        cx->needs_tick = true;
    hf_reply_int(out, (int64_t)hf_store_count(cx->store));
}

/* ---- RENAME, COPY -------------------------------------------------------------------------------- */

static int plan_rename(struct hf_plan *plan, const struct hf_args *args)
{
    hf_plan_put_bytes(plan, args->at[1]);
    hf_plan_put_bytes(plan, args->at[2]);
    return 0;
}

/* The new key gets value and expiry of the old one, and a version of its own. */
static void put_copy(struct hf_apply_ctx *cx, const struct hf_row *from, struct hf_slice to)
{
    struct hf_row row = *from;
    struct hf_buf value = {0};

    /* The store lends the value until its next call, and put is that call. */
    hf_buf_put(&value, from->value.ptr, from->value.len);
    row.value = hf_buf_slice(&value);
    row.version = cx->revision;
    hf_store_put(cx->store, to, &row);
    hf_buf_free(&value);
}

static void apply_rename(struct hf_apply_ctx *cx, struct hf_reader *in, struct hf_reply *out)
{
    struct hf_slice from = hf_read_slice(in);
    struct hf_slice to = hf_read_slice(in);
    struct hf_row row;

    hf_apply_payload_end(in, "rename");
    if (!hf_store_get(cx->store, from, &row)) {
        hf_reply_error(out, HF_ERR_NO_SUCH_KEY);
        return;
    }
    if (!hf_slice_eq(from, to)) {
        put_copy(cx, &row, to);
        hf_store_del(cx->store, from);
    }
    hf_reply_ok(out);
}

static void apply_renamenx(struct hf_apply_ctx *cx, struct hf_reader *in, struct hf_reply *out)
{
    struct hf_slice from = hf_read_slice(in);
    struct hf_slice to = hf_read_slice(in);
    struct hf_row row;
    bool may;

    hf_apply_payload_end(in, "renamenx");
    may = !hf_store_peek(cx->store, to, &row); /* false also when both are the same key */
    if (!hf_store_get(cx->store, from, &row)) {
        hf_reply_error(out, HF_ERR_NO_SUCH_KEY);
        return;
    }
    if (may) {
        put_copy(cx, &row, to);
        hf_store_del(cx->store, from);
    }
    hf_reply_int(out, may);
}

static int plan_copy(struct hf_plan *plan, const struct hf_args *args)
{
    bool is_replace = false;
    int64_t db;

    for (uint32_t i = 3; i < args->n; i++) {
        if (hf_arg_is(args, i, "REPLACE")) {
            is_replace = true;
        } else if (hf_arg_is(args, i, "DB") && i + 1 < args->n) {
            if (!hf_arg_int64(args, ++i, &db))
                return hf_plan_refuse(plan, HF_ERR_NOT_INTEGER);
            if (db != 0)
                return hf_plan_refuse(plan, "ERR DB index is out of range");
        } else {
            return hf_plan_refuse(plan, HF_ERR_SYNTAX);
        }
    }
    if (hf_slice_eq(args->at[1], args->at[2]))
        return hf_plan_refuse(plan, "ERR source and destination objects are the same");
    hf_buf_put_u8(&plan->payload, is_replace);
    hf_plan_put_bytes(plan, args->at[1]);
    hf_plan_put_bytes(plan, args->at[2]);
    return 0;
}

static void apply_copy(struct hf_apply_ctx *cx, struct hf_reader *in, struct hf_reply *out)
{
    uint8_t is_replace = hf_read_u8(in);
    struct hf_slice from = hf_read_slice(in);
    struct hf_slice to = hf_read_slice(in);
    struct hf_row row;
    bool may;

    hf_apply_payload_end(in, "copy");
    may = is_replace || !hf_store_peek(cx->store, to, &row);
    may = hf_store_get(cx->store, from, &row) && may;
    if (may)
        put_copy(cx, &row, to);
    hf_reply_int(out, may);
}

/* ---- FLUSHDB, FLUSHALL --------------------------------------------------------------------------- */

static int plan_flush(struct hf_plan *plan, const struct hf_args *args)
{
    if (args->n > 2 || (args->n == 2 && hf_arg_switch(args, 1, "ASYNC", "SYNC") < 0))
        return hf_plan_refuse(plan, HF_ERR_SYNTAX);
    return 0;
}

static void apply_flush(struct hf_apply_ctx *cx, struct hf_reader *in, struct hf_reply *out)
{
    hf_apply_payload_end(in, "flushall");
    hf_store_clear(cx->store);
    hf_reply_ok(out);
}

/* ---- OBJECT -------------------------------------------------------------------------------------- */

/* What Redis would use for the value when freshly set. Nothing here is stored in different ways. */
static const char *encoding_name(struct hf_slice value)
{
    int64_t v;

    if (hf_parse_int64(value, &v))
        return "int";
    return value.len <= 44 ? "embstr" : "raw";
}

static void read_object_encoding(struct hf_read_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    struct hf_row row;

    if (hf_read_row(cx, args->at[2], &row))
        hf_reply_bulk_str(out, encoding_name(row.value));
    else
        hf_reply_null(out);
}

static void read_object_freq(struct hf_read_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    struct hf_row row;

    if (hf_read_peek(cx, args->at[2], &row))
        hf_reply_error(out, "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note "
                            "that when switching between policies at runtime LRU and LFU data will take some time to "
                            "adjust.");
    else
        hf_reply_null(out);
}

static void read_object_number(struct hf_read_ctx *cx, const struct hf_args *args, struct hf_reply *out, int64_t v)
{
    struct hf_row row;

    if (hf_read_peek(cx, args->at[2], &row))
        hf_reply_int(out, v);
    else
        hf_reply_null(out);
}

/* Access times are not kept. */
static void read_object_idletime(struct hf_read_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    read_object_number(cx, args, out, 0);
}

static void read_object_refcount(struct hf_read_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    read_object_number(cx, args, out, 1);
}

/* ---- rows ---------------------------------------------------------------------------------------- */

static const struct hf_command object_subcommands[] = {
    {
        .name = "object|encoding",
        .arity = 3,
        .flags = HF_CMD_READ,
        .keys = HF_KEY_AT_2,
        .read = read_object_encoding,
        .doc = {.group = HF_GROUP_GENERIC,
                .summary = "Returns the encoding Redis would choose for the value of a key.",
                .since = "2.2.3",
                .complexity = "O(1)",
                .args = "key:key"},
    },
    {
        .name = "object|freq",
        .arity = 3,
        .flags = HF_CMD_READ,
        .keys = HF_KEY_AT_2,
        .read = read_object_freq,
        .doc = {.group = HF_GROUP_GENERIC,
                .summary = "Access frequencies are not kept: an error for a key that exists.",
                .since = "4.0.0",
                .complexity = "O(1)",
                .args = "key:key"},
    },
    {
        .name = "object|idletime",
        .arity = 3,
        .flags = HF_CMD_READ,
        .keys = HF_KEY_AT_2,
        .read = read_object_idletime,
        .doc = {.group = HF_GROUP_GENERIC,
                .summary = "Access times are not kept: 0 for a key that exists.",
                .since = "2.2.3",
                .complexity = "O(1)",
                .args = "key:key"},
    },
    {
        .name = "object|refcount",
        .arity = 3,
        .flags = HF_CMD_READ,
        .keys = HF_KEY_AT_2,
        .read = read_object_refcount,
        .doc = {.group = HF_GROUP_GENERIC,
                .summary = "Returns 1 for a key that exists.",
                .since = "2.2.3",
                .complexity = "O(1)",
                .args = "key:key"},
    },
    HF_ROW_HELP("object", HF_GROUP_GENERIC),
    {.name = NULL},
};

const struct hf_command hf_commands_key[] = {
    {
        .name = "del",
        .op = HF_OP_DEL,
        .arity = -2,
        .flags = HF_CMD_WRITE,
        .keys = HF_ALL_KEYS,
        .plan = plan_keys,
        .apply = apply_del,
        .doc = {.group = HF_GROUP_GENERIC,
                .summary = "Deletes one or more keys.",
                .since = "1.0.0",
                .complexity = "O(N) with N the number of keys",
                .args = "key:key..."},
    },
    {
        .name = "unlink",
        .op = HF_OP_UNLINK,
        .arity = -2,
        .flags = HF_CMD_WRITE | HF_CMD_FAST,
        .keys = HF_ALL_KEYS,
        .plan = plan_keys,
        .apply = apply_del,
        .doc = {.group = HF_GROUP_GENERIC,
                .summary = "Deletes one or more keys (same as DEL).",
                .since = "4.0.0",
                .complexity = "O(N) with N the number of keys",
                .args = "key:key..."},
    },
    {
        .name = "exists",
        .arity = -2,
        .flags = HF_CMD_READ | HF_CMD_FAST,
        .keys = HF_ALL_KEYS,
        .read = read_exists,
        .doc = {.group = HF_GROUP_GENERIC,
                .summary = "Counts how many of the named keys exist; a key named twice counts twice.",
                .since = "1.0.0",
                .complexity = "O(N) with N the number of keys",
                .args = "key:key..."},
    },
    {
        .name = "touch",
        .arity = -2,
        .flags = HF_CMD_READ | HF_CMD_FAST,
        .keys = HF_ALL_KEYS,
        .read = read_exists,
        .doc = {.group = HF_GROUP_GENERIC,
                .summary = "Counts how many of the named keys exist; access times are not kept.",
                .since = "3.2.1",
                .complexity = "O(N) with N the number of keys",
                .args = "key:key..."},
    },
    {
        .name = "type",
        .arity = 2,
        .flags = HF_CMD_READ | HF_CMD_FAST,
        .keys = HF_ONE_KEY,
        .read = read_type,
        .doc = {.group = HF_GROUP_GENERIC,
                .summary = "Returns the type of the value at a key, or none.",
                .since = "1.0.0",
                .complexity = "O(1)",
                .args = "key:key"},
    },
    {
        .name = "expire",
        .op = HF_OP_EXPIRE,
        .arity = -3,
        .flags = HF_CMD_WRITE | HF_CMD_FAST,
        .keys = HF_ONE_KEY,
        .plan = plan_expire,
        .apply = apply_expire,
        .doc = {.group = HF_GROUP_GENERIC,
                .summary = "Sets the expiry of a key in seconds from now.",
                .since = "1.0.0",
                .complexity = "O(1)",
                .args = "key:key seconds:integer [NX | XX | GT | LT]"},
    },
    {
        .name = "pexpire",
        .op = HF_OP_PEXPIRE,
        .arity = -3,
        .flags = HF_CMD_WRITE | HF_CMD_FAST,
        .keys = HF_ONE_KEY,
        .plan = plan_pexpire,
        .apply = apply_expire,
        .doc = {.group = HF_GROUP_GENERIC,
                .summary = "Sets the expiry of a key in milliseconds from now.",
                .since = "2.6.0",
                .complexity = "O(1)",
                .args = "key:key milliseconds:integer [NX | XX | GT | LT]"},
    },
    {
        .name = "expireat",
        .op = HF_OP_EXPIREAT,
        .arity = -3,
        .flags = HF_CMD_WRITE | HF_CMD_FAST,
        .keys = HF_ONE_KEY,
        .plan = plan_expireat,
        .apply = apply_expire,
        .doc = {.group = HF_GROUP_GENERIC,
                .summary = "Sets the expiry of a key to a Unix time in seconds.",
                .since = "1.2.0",
                .complexity = "O(1)",
                .args = "key:key unix-time-seconds:unix-time [NX | XX | GT | LT]"},
    },
    {
        .name = "pexpireat",
        .op = HF_OP_PEXPIREAT,
        .arity = -3,
        .flags = HF_CMD_WRITE | HF_CMD_FAST,
        .keys = HF_ONE_KEY,
        .plan = plan_pexpireat,
        .apply = apply_expire,
        .doc = {.group = HF_GROUP_GENERIC,
                .summary = "Sets the expiry of a key to a Unix time in milliseconds.",
                .since = "2.6.0",
                .complexity = "O(1)",
                .args = "key:key unix-time-milliseconds:unix-time [NX | XX | GT | LT]"},
    },
    {
        .name = "persist",
        .op = HF_OP_PERSIST,
        .arity = 2,
        .flags = HF_CMD_WRITE | HF_CMD_FAST,
        .keys = HF_ONE_KEY,
        .plan = plan_key,
        .apply = apply_persist,
        .doc = {.group = HF_GROUP_GENERIC,
                .summary = "Removes the expiry of a key.",
                .since = "2.2.0",
                .complexity = "O(1)",
                .args = "key:key"},
    },
    {
        .name = "ttl",
        .arity = 2,
        .flags = HF_CMD_READ | HF_CMD_FAST,
        .keys = HF_ONE_KEY,
        .read = read_ttl,
        .doc = {.group = HF_GROUP_GENERIC,
                .summary = "Returns the seconds until a key expires: -1 without expiry, -2 without key.",
                .since = "1.0.0",
                .complexity = "O(1)",
                .args = "key:key"},
    },
    {
        .name = "pttl",
        .arity = 2,
        .flags = HF_CMD_READ | HF_CMD_FAST,
        .keys = HF_ONE_KEY,
        .read = read_pttl,
        .doc = {.group = HF_GROUP_GENERIC,
                .summary = "Returns the milliseconds until a key expires: -1 without expiry, -2 without key.",
                .since = "2.6.0",
                .complexity = "O(1)",
                .args = "key:key"},
    },
    {
        .name = "expiretime",
        .arity = 2,
        .flags = HF_CMD_READ | HF_CMD_FAST,
        .keys = HF_ONE_KEY,
        .read = read_expiretime,
        .doc = {.group = HF_GROUP_GENERIC,
                .summary =
                    "Returns the Unix time in seconds at which a key expires: -1 without expiry, -2 without key.",
                .since = "7.0.0",
                .complexity = "O(1)",
                .args = "key:key"},
    },
    {
        .name = "pexpiretime",
        .arity = 2,
        .flags = HF_CMD_READ | HF_CMD_FAST,
        .keys = HF_ONE_KEY,
        .read = read_pexpiretime,
        .doc = {.group = HF_GROUP_GENERIC,
                .summary =
                    "Returns the Unix time in milliseconds at which a key expires: -1 without expiry, -2 without key.",
                .since = "7.0.0",
                .complexity = "O(1)",
                .args = "key:key"},
    },
    {
        .name = "keys",
        .arity = 2,
        .flags = HF_CMD_READ | HF_CMD_SLOW_READ,
        .read = read_keys,
        .doc = {.group = HF_GROUP_GENERIC,
                .summary = "Returns all keys that match a glob pattern.",
                .since = "1.0.0",
                .complexity = "O(N) with N the number of keys in the database",
                .args = "pattern:pattern"},
    },
    {
        .name = "scan",
        .arity = -2,
        .flags = HF_CMD_READ | HF_CMD_SLOW_READ,
        .read = read_scan,
        .doc = {.group = HF_GROUP_GENERIC,
                .summary = "Walks over the keys in steps; a key present throughout is returned at least once, also "
                           "when the walk goes on at another node.",
                .since = "2.8.0",
                .complexity = "O(1) a call, O(N) for a whole walk with N the number of keys in the database",
                .args = "cursor:integer [MATCH pattern:pattern] [COUNT count:integer] [TYPE type:string]"},
    },
    {
        .name = "randomkey",
        .arity = 1,
        .flags = HF_CMD_READ,
        .read = read_randomkey,
        .doc = {.group = HF_GROUP_GENERIC,
                .summary = "Returns a random key.",
                .since = "1.0.0",
                .complexity = "O(1)",
                .args = ""},
    },
    {
        .name = "dbsize",
        .arity = 1,
        .flags = HF_CMD_READ | HF_CMD_FAST,
        .read = read_dbsize,
        .doc = {.group = HF_GROUP_GENERIC,
                .summary = "Returns the number of keys.",
                .since = "1.0.0",
                .complexity = "O(1)",
                .args = ""},
    },
    {
        .name = "rename",
        .op = HF_OP_RENAME,
        .arity = 3,
        .flags = HF_CMD_WRITE,
        .keys = HF_TWO_KEYS,
        .plan = plan_rename,
        .apply = apply_rename,
        .doc = {.group = HF_GROUP_GENERIC,
                .summary = "Renames a key, replacing the destination; the expiry goes along.",
                .since = "1.0.0",
                .complexity = "O(1)",
                .args = "key:key newkey:key"},
    },
    {
        .name = "renamenx",
        .op = HF_OP_RENAMENX,
        .arity = 3,
        .flags = HF_CMD_WRITE | HF_CMD_FAST,
        .keys = HF_TWO_KEYS,
        .plan = plan_rename,
        .apply = apply_renamenx,
        .doc = {.group = HF_GROUP_GENERIC,
                .summary = "Renames a key only when the destination does not exist.",
                .since = "1.0.0",
                .complexity = "O(1)",
                .args = "key:key newkey:key"},
    },
    {
        .name = "copy",
        .op = HF_OP_COPY,
        .arity = -3,
        .flags = HF_CMD_WRITE | HF_CMD_DENYOOM,
        .keys = HF_TWO_KEYS,
        .plan = plan_copy,
        .apply = apply_copy,
        .doc = {.group = HF_GROUP_GENERIC,
                .summary = "Copies the value and the expiry of a key to a new key.",
                .since = "6.2.0",
                .complexity = "O(N) with N the length of the value",
                .args = "source:key destination:key [DB destination-db:integer] [REPLACE]"},
    },
    {
        .name = "flushdb",
        .op = HF_OP_FLUSHDB,
        .arity = -1,
        .flags = HF_CMD_WRITE,
        .plan = plan_flush,
        .apply = apply_flush,
        .doc = {.group = HF_GROUP_GENERIC,
                .summary = "Deletes all keys.",
                .since = "1.0.0",
                .complexity = "O(N) with N the number of keys in the database",
                .args = "[ASYNC | SYNC]"},
    },
    {
        .name = "flushall",
        .op = HF_OP_FLUSHALL,
        .arity = -1,
        .flags = HF_CMD_WRITE,
        .plan = plan_flush,
        .apply = apply_flush,
        .doc = {.group = HF_GROUP_GENERIC,
                .summary = "Deletes all keys (there is one database).",
                .since = "1.0.0",
                .complexity = "O(N) with N the number of keys in the database",
                .args = "[ASYNC | SYNC]"},
    },
    {
        .name = "object",
        .arity = -2,
        .flags = 0,
        .subcommands = object_subcommands,
        .doc = {.group = HF_GROUP_GENERIC,
                .summary = "Looks into how a value is kept.",
                .since = "2.2.3",
                .complexity = "Depends on the subcommand",
                .args = ""},
    },
    {.name = NULL},
};
