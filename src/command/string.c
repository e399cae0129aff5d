/* string.c: what the string commands mean. Plan encodes the arguments as ops.h says; apply runs on every node and
 * sees the state, the entry's log time and its revision, nothing else; read runs behind the read gate.
 *
 * Every write gives its key the version cx->revision. A condition that is not met changes nothing at all. */
#include "command/args.h"
#include "command/decimal.h"
#include "command/ops.h"
#include "command/rows.h"

#include "base/assert.h"
#include "base/util.h"

/* ---- SET and its kin ----------------------------------------------------------------------------- */

struct set_request {
    unsigned flags; /* hf_set_flags */
    struct hf_slice key, value, compare;
    int64_t expiry;
};

static int put_set(struct hf_plan *plan, const struct set_request *set)
{
    if (set->value.len > HF_STRING_BYTES_MAX)
        return hf_plan_refuse(plan, HF_ERR_STRING_SIZE);
    hf_buf_put_u16(&plan->payload, (uint16_t)set->flags);
    hf_plan_put_bytes(plan, set->key);
    hf_plan_put_bytes(plan, set->value);
    if (set->flags & (HF_SET_RELATIVE | HF_SET_ABSOLUTE))
        hf_plan_put_int64(plan, set->expiry);
    if (set->flags & HF_SET_IFEQ)
        hf_plan_put_bytes(plan, set->compare);
    return 0;
}

static int plan_set(struct hf_plan *plan, const struct hf_args *args)
{
    struct set_request set = {.key = args->at[1], .value = args->at[2]};
    const struct hf_expiry_unit *unit = NULL;
    uint32_t expiry_at = 0;

    /* An option may be repeated, as in Redis; two of a kind that differ may not be given together. */
    for (uint32_t i = 3; i < args->n; i++) {
        bool has_next = i + 1 < args->n;
        const struct hf_expiry_unit *u = hf_arg_expiry_unit(args, i);

        if (hf_arg_is(args, i, "NX") && !(set.flags & (HF_SET_XX | HF_SET_IFEQ))) {
            set.flags |= HF_SET_NX;
        } else if (hf_arg_is(args, i, "XX") && !(set.flags & (HF_SET_NX | HF_SET_IFEQ))) {
            set.flags |= HF_SET_XX;
        } else if (hf_arg_is(args, i, "IFEQ") && has_next && !(set.flags & (HF_SET_NX | HF_SET_XX))) {
            set.flags |= HF_SET_IFEQ;
            set.compare = args->at[++i];
        } else if (hf_arg_is(args, i, "GET")) {
            set.flags |= HF_SET_GET;
        } else if (hf_arg_is(args, i, "KEEPTTL") && unit == NULL) {
            set.flags |= HF_SET_KEEPTTL;
        } else if (u != NULL && has_next && (unit == NULL || unit == u) && !(set.flags & HF_SET_KEEPTTL)) {
            set.flags |= u->is_absolute ? HF_SET_ABSOLUTE : HF_SET_RELATIVE;
            unit = u;
            expiry_at = ++i;
        } else {
            return hf_plan_refuse(plan, HF_ERR_SYNTAX);
        }
    }
    /* Only now, as in Redis: a syntax error further on is told before a bad number. */
    if (unit != NULL) {
        int rc = hf_plan_expiry(plan, args, expiry_at, unit, &set.expiry);

        if (rc != 0)
            return rc;
    }
    return put_set(plan, &set);
}

static int plan_setnx(struct hf_plan *plan, const struct hf_args *args)
{
    struct set_request set = {.flags = HF_SET_NX | HF_SET_COUNT, .key = args->at[1], .value = args->at[2]};

    return put_set(plan, &set);
}

static int plan_set_for(struct hf_plan *plan, const struct hf_args *args, bool is_seconds)
{
    const struct hf_expiry_unit unit = {.is_seconds = is_seconds};
    struct set_request set = {.flags = HF_SET_RELATIVE, .key = args->at[1], .value = args->at[3]};
    int rc = hf_plan_expiry(plan, args, 2, &unit, &set.expiry);

    return rc != 0 ? rc : put_set(plan, &set);
}

static int plan_setex(struct hf_plan *plan, const struct hf_args *args)
{
    return plan_set_for(plan, args, true);
}

static int plan_psetex(struct hf_plan *plan, const struct hf_args *args)
{
    return plan_set_for(plan, args, false);
}

static int plan_getset(struct hf_plan *plan, const struct hf_args *args)
{
    struct set_request set = {.flags = HF_SET_GET, .key = args->at[1], .value = args->at[2]};

    return put_set(plan, &set);
}

static bool may_set(const struct set_request *set, bool is_found, const struct hf_row *old)
{
    if (set->flags & HF_SET_NX)
        return !is_found;
    if (set->flags & HF_SET_XX)
        return is_found;
    if (set->flags & HF_SET_IFEQ)
        return is_found && hf_slice_eq(old->value, set->compare);
    return true;
}

static void apply_set(struct hf_apply_ctx *cx, struct hf_reader *in, struct hf_reply *out)
{
    struct set_request set = {.flags = hf_read_u16(in)};
    struct hf_row old = {0}, row = {.type = HF_TYPE_STRING, .version = cx->revision};
    bool is_found = false, may;

    set.key = hf_read_slice(in);
    set.value = hf_read_slice(in);
    if (set.flags & (HF_SET_RELATIVE | HF_SET_ABSOLUTE))
        set.expiry = hf_payload_int64(in);
    if (set.flags & HF_SET_IFEQ)
        set.compare = hf_read_slice(in);
    hf_apply_payload_end(in, "set");

    /* The plain SET of a key, most writes there are, needs no look at what was there before. */
    if (set.flags & (HF_SET_GET | HF_SET_IFEQ))
        is_found = hf_store_get(cx->store, set.key, &old);
    else if (set.flags & (HF_SET_NX | HF_SET_XX | HF_SET_KEEPTTL))
        is_found = hf_store_peek(cx->store, set.key, &old);
    may = may_set(&set, is_found, &old);

    /* The reply first: it may copy the old value, which the store lends only until its next call. */
    if (set.flags & HF_SET_COUNT) {
        hf_reply_int(out, may);
    } else if (set.flags & HF_SET_GET) {
        if (is_found)
            hf_reply_bulk(out, old.value);
        else
            hf_reply_null(out);
    } else if (may) {
        hf_reply_ok(out);
    } else {
        hf_reply_null(out);
    }
    if (!may)
        return;

    row.value = set.value;
    if (set.flags & HF_SET_KEEPTTL)
        row.expires_at_ms = is_found ? old.expires_at_ms : 0;
    else if (set.flags & HF_SET_RELATIVE)
        row.expires_at_ms = hf_expiry_from_now(cx->now_ms, set.expiry);
    else if (set.flags & HF_SET_ABSOLUTE)
        row.expires_at_ms = set.expiry;
    if (row.expires_at_ms != 0 && row.expires_at_ms <= cx->now_ms)
        hf_store_del(cx->store, set.key);
    else
        hf_store_put(cx->store, set.key, &row);
}

/* ---- GET and its kin ----------------------------------------------------------------------------- */

static void read_get(struct hf_read_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    struct hf_row row;

    if (hf_read_row(cx, args->at[1], &row))
        hf_reply_bulk(out, row.value);
    else
        hf_reply_null(out);
}

static void read_mget(struct hf_read_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    struct hf_row row;

    hf_reply_array(out, args->n - 1);
    for (uint32_t i = 1; i < args->n; i++) {
        if (hf_read_row(cx, args->at[i], &row))
            hf_reply_bulk(out, row.value);
        else
            hf_reply_null(out);
    }
}

static void read_strlen(struct hf_read_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    struct hf_row row;

    hf_reply_int(out, hf_read_row(cx, args->at[1], &row) ? (int64_t)row.value.len : 0);
}

static void read_getrange(struct hf_read_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    struct hf_row row;
    int64_t start, end, len;

    if (!hf_arg_int64(args, 2, &start) || !hf_arg_int64(args, 3, &end)) {
        hf_reply_error(out, HF_ERR_NOT_INTEGER);
        return;
    }
    if (!hf_read_row(cx, args->at[1], &row) || (start < 0 && end < 0 && start > end)) {
        hf_reply_bulk_str(out, "");
        return;
    }
    len = (int64_t)row.value.len;
    if (start < 0)
        start = start + len < 0 ? 0 : start + len;
    if (end < 0)
        end = end + len < 0 ? 0 : end + len;
    if (end >= len)
        end = len - 1;
    if (start > end || len == 0)
        hf_reply_bulk_str(out, "");
    else
        hf_reply_bulk(out, hf_slice(row.value.ptr + start, (size_t)(end - start + 1)));
}

static int plan_key(struct hf_plan *plan, const struct hf_args *args)
{
    hf_plan_put_bytes(plan, args->at[1]);
    return 0;
}

static void apply_getdel(struct hf_apply_ctx *cx, struct hf_reader *in, struct hf_reply *out)
{
    struct hf_slice key = hf_read_slice(in);
    struct hf_row row;

    hf_apply_payload_end(in, "getdel");
    if (!hf_store_get(cx->store, key, &row)) {
        hf_reply_null(out);
        return;
    }
    hf_reply_bulk(out, row.value);
    hf_store_del(cx->store, key);
}

static int plan_getex(struct hf_plan *plan, const struct hf_args *args)
{
    const struct hf_expiry_unit *unit = NULL;
    enum hf_expiry_kind kind = HF_EXPIRY_UNCHANGED;
    int64_t expiry = 0;
    uint32_t expiry_at = 0;

    for (uint32_t i = 2; i < args->n; i++) {
        const struct hf_expiry_unit *u = hf_arg_expiry_unit(args, i);

        if (hf_arg_is(args, i, "PERSIST") && unit == NULL) {
            kind = HF_EXPIRY_PERSIST;
        } else if (u != NULL && i + 1 < args->n && (unit == NULL || unit == u) && kind != HF_EXPIRY_PERSIST) {
            unit = u;
            kind = u->is_absolute ? HF_EXPIRY_ABSOLUTE : HF_EXPIRY_RELATIVE;
            expiry_at = ++i;
        } else {
            return hf_plan_refuse(plan, HF_ERR_SYNTAX);
        }
    }
    if (unit != NULL) {
        int rc = hf_plan_expiry(plan, args, expiry_at, unit, &expiry);

        if (rc != 0)
            return rc;
    }
    hf_buf_put_u8(&plan->payload, (uint8_t)kind);
    hf_plan_put_bytes(plan, args->at[1]);
    hf_plan_put_int64(plan, expiry);
    return 0;
}

static void apply_getex(struct hf_apply_ctx *cx, struct hf_reader *in, struct hf_reply *out)
{
    uint8_t kind = hf_read_u8(in);
    struct hf_slice key = hf_read_slice(in);
    int64_t expiry = hf_payload_int64(in);
    struct hf_row row;

    hf_apply_payload_end(in, "getex");
    if (!hf_store_get(cx->store, key, &row)) {
        hf_reply_null(out);
        return;
    }
    hf_reply_bulk(out, row.value);
    if (kind == HF_EXPIRY_UNCHANGED)
        return;
    if (kind == HF_EXPIRY_PERSIST) {
        if (row.expires_at_ms != 0)
            hf_store_touch(cx->store, key, cx->revision, 0);
        return;
    }
    if (kind == HF_EXPIRY_RELATIVE)
        expiry = hf_expiry_from_now(cx->now_ms, expiry);
    if (expiry <= cx->now_ms)
        hf_store_del(cx->store, key);
    else
        hf_store_touch(cx->store, key, cx->revision, expiry);
}

/* ---- several keys -------------------------------------------------------------------------------- */

static int plan_mset(struct hf_plan *plan, const struct hf_args *args)
{
    if (args->n % 2 == 0)
        return hf_plan_refuse_arity(plan);
    hf_buf_put_u32(&plan->payload, (args->n - 1) / 2);
    for (uint32_t i = 1; i < args->n; i++)
        hf_plan_put_bytes(plan, args->at[i]);
    return 0;
}

static void set_pairs(struct hf_apply_ctx *cx, struct hf_reader *in, uint32_t n)
{
    struct hf_row row = {.type = HF_TYPE_STRING, .version = cx->revision};

    for (uint32_t i = 0; i < n; i++) {
        struct hf_slice key = hf_read_slice(in);

        row.value = hf_read_slice(in);
        hf_store_put(cx->store, key, &row);
    }
}

/* The pairs are walked once without effect, so that a malformed payload stops the node before the first one. */
static bool any_key_exists(struct hf_apply_ctx *cx, struct hf_reader in, uint32_t n, const char *command)
{
    struct hf_row row;
    bool is_any = false;

    for (uint32_t i = 0; i < n && !in.failed; i++) {
        struct hf_slice key = hf_read_slice(&in);

        (void)hf_read_slice(&in);
        is_any = is_any || hf_store_peek(cx->store, key, &row);
    }
    hf_apply_payload_end(&in, command);
    return is_any;
}

static void apply_mset(struct hf_apply_ctx *cx, struct hf_reader *in, struct hf_reply *out)
{
    uint32_t n = hf_read_u32(in);
    struct hf_reader all = *in;

    for (uint64_t i = 0; i < 2ull * n && !all.failed; i++)
        (void)hf_read_slice(&all);
    hf_apply_payload_end(&all, "mset");
    set_pairs(cx, in, n);
    hf_reply_ok(out);
}

static void apply_msetnx(struct hf_apply_ctx *cx, struct hf_reader *in, struct hf_reply *out)
{
    uint32_t n = hf_read_u32(in);
    bool may = !any_key_exists(cx, *in, n, "msetnx");

    if (may)
        set_pairs(cx, in, n);
    hf_reply_int(out, may);
}

/* ---- parts of a value ---------------------------------------------------------------------------- */

static int plan_append(struct hf_plan *plan, const struct hf_args *args)
{
    hf_plan_put_bytes(plan, args->at[1]);
    hf_plan_put_bytes(plan, args->at[2]);
    return 0;
}

/* Puts `value` at `offset` into the old value (old_len bytes, zero-padded where it is shorter). */
static void put_patched(struct hf_apply_ctx *cx, struct hf_slice key, const struct hf_row *old, size_t offset,
                        struct hf_slice value)
{
    struct hf_row row = {.type = HF_TYPE_STRING, .version = cx->revision, .expires_at_ms = old->expires_at_ms};
    size_t len = offset + value.len > old->value.len ? offset + value.len : old->value.len;
    struct hf_buf buf = {0};

    hf_buf_reserve(&buf, len);
    hf_buf_put(&buf, old->value.ptr, old->value.len);
    if (offset > old->value.len)
        memset(buf.data + old->value.len, 0, offset - old->value.len);
    if (value.len != 0)
        memcpy(buf.data + offset, value.ptr, value.len);
    buf.len = len;
    row.value = hf_buf_slice(&buf);
    hf_store_put(cx->store, key, &row);
    hf_buf_free(&buf);
}

static void apply_append(struct hf_apply_ctx *cx, struct hf_reader *in, struct hf_reply *out)
{
    struct hf_slice key = hf_read_slice(in);
    struct hf_slice value = hf_read_slice(in);
    struct hf_row old = {0};

    hf_apply_payload_end(in, "append");
    if (!hf_store_get(cx->store, key, &old))
        old = (struct hf_row){0};
    if (old.value.len + value.len > HF_STRING_BYTES_MAX) {
        hf_reply_error(out, HF_ERR_STRING_SIZE);
        return;
    }
    hf_reply_int(out, (int64_t)(old.value.len + value.len));
    put_patched(cx, key, &old, old.value.len, value);
}

static int plan_setrange(struct hf_plan *plan, const struct hf_args *args)
{
    int64_t offset;

    if (!hf_arg_int64(args, 2, &offset))
        return hf_plan_refuse(plan, HF_ERR_NOT_INTEGER);
    if (offset < 0)
        return hf_plan_refuse(plan, HF_ERR_OFFSET);
    hf_plan_put_bytes(plan, args->at[1]);
    hf_plan_put_int64(plan, offset);
    hf_plan_put_bytes(plan, args->at[3]);
    return 0;
}

static void apply_setrange(struct hf_apply_ctx *cx, struct hf_reader *in, struct hf_reply *out)
{
    struct hf_slice key = hf_read_slice(in);
    uint64_t offset = hf_read_u64(in);
    struct hf_slice value = hf_read_slice(in);
    struct hf_row old = {0};

    hf_apply_payload_end(in, "setrange");
    if (!hf_store_get(cx->store, key, &old))
        old = (struct hf_row){0};
    if (value.len == 0) {
        hf_reply_int(out, (int64_t)old.value.len);
        return;
    }
    if (offset > HF_STRING_BYTES_MAX || offset + value.len > HF_STRING_BYTES_MAX) {
        hf_reply_error(out, HF_ERR_STRING_SIZE);
        return;
    }
    hf_reply_int(out, (int64_t)(offset + value.len > old.value.len ? offset + value.len : old.value.len));
    put_patched(cx, key, &old, (size_t)offset, value);
}

/* ---- numbers ------------------------------------------------------------------------------------- */

static int put_incr(struct hf_plan *plan, const struct hf_args *args, int64_t delta)
{
    hf_plan_put_bytes(plan, args->at[1]);
    hf_plan_put_int64(plan, delta);
    return 0;
}

static int plan_incr(struct hf_plan *plan, const struct hf_args *args)
{
    return put_incr(plan, args, 1);
}

static int plan_decr(struct hf_plan *plan, const struct hf_args *args)
{
    return put_incr(plan, args, -1);
}

static int plan_incrby(struct hf_plan *plan, const struct hf_args *args)
{
    int64_t delta;

    if (!hf_arg_int64(args, 2, &delta))
        return hf_plan_refuse(plan, HF_ERR_NOT_INTEGER);
    return put_incr(plan, args, delta);
}

static int plan_decrby(struct hf_plan *plan, const struct hf_args *args)
{
    int64_t delta;

    if (!hf_arg_int64(args, 2, &delta))
        return hf_plan_refuse(plan, HF_ERR_NOT_INTEGER);
    if (delta == INT64_MIN)
        return hf_plan_refuse(plan, "ERR decrement would overflow");
    return put_incr(plan, args, -delta);
}

static void apply_incr(struct hf_apply_ctx *cx, struct hf_reader *in, struct hf_reply *out)
{
    struct hf_slice key = hf_read_slice(in);
    int64_t delta = hf_payload_int64(in);
    struct hf_row row = {0};
    int64_t value = 0;
    char text[24];

    hf_apply_payload_end(in, "incrby");
    if (hf_store_get(cx->store, key, &row)) {
        if (!hf_parse_int64(row.value, &value)) {
            hf_reply_error(out, HF_ERR_NOT_INTEGER);
            return;
        }
    } else {
        row.expires_at_ms = 0;
    }
    if (__builtin_add_overflow(value, delta, &value)) {
        hf_reply_error(out, HF_ERR_OVERFLOW);
        return;
    }
    row.type = HF_TYPE_STRING;
    row.version = cx->revision;
    row.value = hf_slice(text, hf_format_int64(text, value));
    hf_store_put(cx->store, key, &row);
    hf_reply_int(out, value);
}

#define ERR_NAN "ERR increment would produce NaN or Infinity"

static int plan_incrbyfloat(struct hf_plan *plan, const struct hf_args *args)
{
    char text[HF_DECIMAL_TEXT_MAX];
    struct hf_decimal delta;

    switch (hf_decimal_parse(&delta, args->at[2])) {
    case HF_DECIMAL_OK:
        break;
    case HF_DECIMAL_INFINITE:
        return hf_plan_refuse(plan, ERR_NAN);
    case HF_DECIMAL_INVALID:
        return hf_plan_refuse(plan, HF_ERR_NOT_FLOAT);
    }
    hf_plan_put_bytes(plan, args->at[1]);
    hf_plan_put_bytes(plan, hf_slice(text, hf_decimal_format(&delta, text)));
    return 0;
}

static void apply_incrbyfloat(struct hf_apply_ctx *cx, struct hf_reader *in, struct hf_reply *out)
{
    struct hf_slice key = hf_read_slice(in);
    struct hf_slice delta_text = hf_read_slice(in);
    struct hf_decimal delta, value = {0};
    struct hf_row row = {0};
    char text[HF_DECIMAL_TEXT_MAX];

    hf_apply_payload_end(in, "incrbyfloat");
    if (hf_decimal_parse(&delta, delta_text) != HF_DECIMAL_OK)
        hf_fatal("apply: an incrbyfloat command holds no number: this node cannot follow the log");
    if (hf_store_get(cx->store, key, &row)) {
        switch (hf_decimal_parse(&value, row.value)) {
        case HF_DECIMAL_OK:
            break;
        case HF_DECIMAL_INFINITE:
            hf_reply_error(out, ERR_NAN);
            return;
        case HF_DECIMAL_INVALID:
            hf_reply_error(out, HF_ERR_NOT_FLOAT);
            return;
        }
    } else {
        row.expires_at_ms = 0;
    }
    if (!hf_decimal_add(&value, &delta)) {
        hf_reply_error(out, ERR_NAN);
        return;
    }
    row.type = HF_TYPE_STRING;
    row.version = cx->revision;
    row.value = hf_slice(text, hf_decimal_format(&value, text));
    hf_store_put(cx->store, key, &row);
    hf_reply_bulk(out, row.value);
}

/* ---- rows ---------------------------------------------------------------------------------------- */

const struct hf_command hf_commands_string[] = {
    {
        .name = "set",
        .op = HF_OP_SET,
        .arity = -3,
        .flags = HF_CMD_WRITE | HF_CMD_DENYOOM,
        .keys = HF_ONE_KEY,
        .plan = plan_set,
        .apply = apply_set,
        .doc = {.group = HF_GROUP_STRING,
                .summary = "Sets the string value of a key, replacing whatever it held and its expiry. With a "
                           "condition (absent, present, or equal to a value) nothing changes when it is not met.",
                .since = "1.0.0",
                .complexity = "O(1)",
                .args = "key:key value:string [NX | XX | IFEQ comparison-value:string] [GET] [EX seconds:integer | PX "
                        "milliseconds:integer | EXAT unix-time-seconds:unix-time | PXAT "
                        "unix-time-milliseconds:unix-time | KEEPTTL]"},
    },
    {
        .name = "setnx",
        .op = HF_OP_SETNX,
        .arity = 3,
        .flags = HF_CMD_WRITE | HF_CMD_DENYOOM | HF_CMD_FAST,
        .keys = HF_ONE_KEY,
        .plan = plan_setnx,
        .apply = apply_set,
        .doc = {.group = HF_GROUP_STRING,
                .summary = "Sets the string value of a key only when the key does not exist.",
                .since = "1.0.0",
                .complexity = "O(1)",
                .args = "key:key value:string"},
    },
    {
        .name = "setex",
        .op = HF_OP_SETEX,
        .arity = 4,
        .flags = HF_CMD_WRITE | HF_CMD_DENYOOM,
        .keys = HF_ONE_KEY,
        .plan = plan_setex,
        .apply = apply_set,
        .doc = {.group = HF_GROUP_STRING,
                .summary = "Sets the string value and the expiry in seconds of a key.",
                .since = "2.0.0",
                .complexity = "O(1)",
                .args = "key:key seconds:integer value:string"},
    },
    {
        .name = "psetex",
        .op = HF_OP_PSETEX,
        .arity = 4,
        .flags = HF_CMD_WRITE | HF_CMD_DENYOOM,
        .keys = HF_ONE_KEY,
        .plan = plan_psetex,
        .apply = apply_set,
        .doc = {.group = HF_GROUP_STRING,
                .summary = "Sets the string value and the expiry in milliseconds of a key.",
                .since = "2.6.0",
                .complexity = "O(1)",
                .args = "key:key milliseconds:integer value:string"},
    },
    {
        .name = "getset",
        .op = HF_OP_GETSET,
        .arity = 3,
        .flags = HF_CMD_WRITE | HF_CMD_DENYOOM | HF_CMD_FAST,
        .keys = HF_ONE_KEY,
        .plan = plan_getset,
        .apply = apply_set,
        .doc = {.group = HF_GROUP_STRING,
                .summary = "Returns the previous string value of a key after setting it to a new one.",
                .since = "1.0.0",
                .complexity = "O(1)",
                .args = "key:key value:string"},
    },
    {
        .name = "get",
        .arity = 2,
        .flags = HF_CMD_READ | HF_CMD_FAST,
        .keys = HF_ONE_KEY,
        .read = read_get,
        .doc = {.group = HF_GROUP_STRING,
                .summary = "Returns the string value of a key.",
                .since = "1.0.0",
                .complexity = "O(1)",
                .args = "key:key"},
    },
    {
        .name = "getdel",
        .op = HF_OP_GETDEL,
        .arity = 2,
        .flags = HF_CMD_WRITE | HF_CMD_FAST,
        .keys = HF_ONE_KEY,
        .plan = plan_key,
        .apply = apply_getdel,
        .doc = {.group = HF_GROUP_STRING,
                .summary = "Returns the string value of a key and deletes the key.",
                .since = "6.2.0",
                .complexity = "O(1)",
                .args = "key:key"},
    },
    {
        .name = "getex",
        .op = HF_OP_GETEX,
        .arity = -2,
        .flags = HF_CMD_WRITE | HF_CMD_FAST,
        .keys = HF_ONE_KEY,
        .plan = plan_getex,
        .apply = apply_getex,
        .doc = {.group = HF_GROUP_STRING,
                .summary = "Returns the string value of a key and sets or removes its expiry.",
                .since = "6.2.0",
                .complexity = "O(1)",
                .args = "key:key [EX seconds:integer | PX milliseconds:integer | EXAT unix-time-seconds:unix-time | "
                        "PXAT unix-time-milliseconds:unix-time | PERSIST]"},
    },
    {
        .name = "mget",
        .arity = -2,
        .flags = HF_CMD_READ | HF_CMD_FAST,
        .keys = HF_ALL_KEYS,
        .read = read_mget,
        .doc = {.group = HF_GROUP_STRING,
                .summary = "Returns the string values of one or more keys at one point in time.",
                .since = "1.0.0",
                .complexity = "O(N) with N the number of keys",
                .args = "key:key..."},
    },
    {
        .name = "mset",
        .op = HF_OP_MSET,
        .arity = -3,
        .flags = HF_CMD_WRITE | HF_CMD_DENYOOM,
        .keys = HF_ALL_PAIRS,
        .plan = plan_mset,
        .apply = apply_mset,
        .doc = {.group = HF_GROUP_STRING,
                .summary = "Sets the string values of one or more keys, all at once.",
                .since = "1.0.1",
                .complexity = "O(N) with N the number of keys",
                .args = "(key:key value:string)..."},
    },
    {
        .name = "msetnx",
        .op = HF_OP_MSETNX,
        .arity = -3,
        .flags = HF_CMD_WRITE | HF_CMD_DENYOOM,
        .keys = HF_ALL_PAIRS,
        .plan = plan_mset,
        .apply = apply_msetnx,
        .doc = {.group = HF_GROUP_STRING,
                .summary = "Sets the string values of one or more keys only when none of them exists.",
                .since = "1.0.1",
                .complexity = "O(N) with N the number of keys",
                .args = "(key:key value:string)..."},
    },
    {
        .name = "append",
        .op = HF_OP_APPEND,
        .arity = 3,
        .flags = HF_CMD_WRITE | HF_CMD_DENYOOM | HF_CMD_FAST,
        .keys = HF_ONE_KEY,
        .plan = plan_append,
        .apply = apply_append,
        .doc = {.group = HF_GROUP_STRING,
                .summary = "Appends to the string value of a key, creating it when it is absent.",
                .since = "2.0.0",
                .complexity = "O(N) with N the length of the new value",
                .args = "key:key value:string"},
    },
    {
        .name = "strlen",
        .arity = 2,
        .flags = HF_CMD_READ | HF_CMD_FAST,
        .keys = HF_ONE_KEY,
        .read = read_strlen,
        .doc = {.group = HF_GROUP_STRING,
                .summary = "Returns the length of a string value.",
                .since = "2.2.0",
                .complexity = "O(1)",
                .args = "key:key"},
    },
    {
        .name = "getrange",
        .arity = 4,
        .flags = HF_CMD_READ,
        .keys = HF_ONE_KEY,
        .read = read_getrange,
        .doc = {.group = HF_GROUP_STRING,
                .summary = "Returns a part of the string value of a key.",
                .since = "2.4.0",
                .complexity = "O(N) with N the length of the part",
                .args = "key:key start:integer end:integer"},
    },
    {
        .name = "substr",
        .arity = 4,
        .flags = HF_CMD_READ,
        .keys = HF_ONE_KEY,
        .read = read_getrange,
        .doc = {.group = HF_GROUP_STRING,
                .summary = "Returns a part of the string value of a key (older name of GETRANGE).",
                .since = "1.0.0",
                .complexity = "O(N) with N the length of the part",
                .args = "key:key start:integer end:integer"},
    },
    {
        .name = "setrange",
        .op = HF_OP_SETRANGE,
        .arity = 4,
        .flags = HF_CMD_WRITE | HF_CMD_DENYOOM,
        .keys = HF_ONE_KEY,
        .plan = plan_setrange,
        .apply = apply_setrange,
        .doc = {.group = HF_GROUP_STRING,
                .summary =
                    "Overwrites a part of the string value of a key, padding it with zero bytes where it is shorter.",
                .since = "2.2.0",
                .complexity = "O(N) with N the length of the new value",
                .args = "key:key offset:integer value:string"},
    },
    {
        .name = "incr",
        .op = HF_OP_INCR,
        .arity = 2,
        .flags = HF_CMD_WRITE | HF_CMD_DENYOOM | HF_CMD_FAST,
        .keys = HF_ONE_KEY,
        .plan = plan_incr,
        .apply = apply_incr,
        .doc = {.group = HF_GROUP_STRING,
                .summary = "Adds one to the integer kept at a key, starting from 0.",
                .since = "1.0.0",
                .complexity = "O(1)",
                .args = "key:key"},
    },
    {
        .name = "decr",
        .op = HF_OP_DECR,
        .arity = 2,
        .flags = HF_CMD_WRITE | HF_CMD_DENYOOM | HF_CMD_FAST,
        .keys = HF_ONE_KEY,
        .plan = plan_decr,
        .apply = apply_incr,
        .doc = {.group = HF_GROUP_STRING,
                .summary = "Subtracts one from the integer kept at a key, starting from 0.",
                .since = "1.0.0",
                .complexity = "O(1)",
                .args = "key:key"},
    },
    {
        .name = "incrby",
        .op = HF_OP_INCRBY,
        .arity = 3,
        .flags = HF_CMD_WRITE | HF_CMD_DENYOOM | HF_CMD_FAST,
        .keys = HF_ONE_KEY,
        .plan = plan_incrby,
        .apply = apply_incr,
        .doc = {.group = HF_GROUP_STRING,
                .summary = "Adds a number to the integer kept at a key, starting from 0.",
                .since = "1.0.0",
                .complexity = "O(1)",
                .args = "key:key increment:integer"},
    },
    {
        .name = "decrby",
        .op = HF_OP_DECRBY,
        .arity = 3,
        .flags = HF_CMD_WRITE | HF_CMD_DENYOOM | HF_CMD_FAST,
        .keys = HF_ONE_KEY,
        .plan = plan_decrby,
        .apply = apply_incr,
        .doc = {.group = HF_GROUP_STRING,
                .summary = "Subtracts a number from the integer kept at a key, starting from 0.",
                .since = "1.0.0",
                .complexity = "O(1)",
                .args = "key:key decrement:integer"},
    },
    {
        .name = "incrbyfloat",
        .op = HF_OP_INCRBYFLOAT,
        .arity = 3,
        .flags = HF_CMD_WRITE | HF_CMD_DENYOOM | HF_CMD_FAST,
        .keys = HF_ONE_KEY,
        .plan = plan_incrbyfloat,
        .apply = apply_incrbyfloat,
        .doc = {.group = HF_GROUP_STRING,
                .summary =
                    "Adds a decimal number to the number kept at a key, starting from 0, in exact decimal arithmetic.",
                .since = "2.6.0",
                .complexity = "O(1)",
                .args = "key:key increment:double"},
    },
    {.name = NULL},
};
