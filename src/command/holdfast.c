/* holdfast.c: the commands that only Holdfast has: versions of keys, and compare-and-swap on them.
 *
 * A key's version is the revision of the command that changed it last: the place of that command in the log. No two
 * writes share one, and later writes have larger ones, so a version also serves as a fencing token. */
#include "command/args.h"
#include "command/ops.h"
#include "command/rows.h"

static void read_getv(struct hf_read_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    struct hf_row row;

    hf_reply_array(out, 2);
    if (hf_read_row(cx, args->at[1], &row)) {
        hf_reply_bulk(out, row.value);
        hf_reply_int(out, (int64_t)row.version);
    } else {
        hf_reply_null(out);
        hf_reply_int(out, 0);
    }
}

static int plan_cas(struct hf_plan *plan, const struct hf_args *args)
{
    int64_t version;

    if (args->at[4].len > HF_STRING_BYTES_MAX)
        return hf_plan_refuse(plan, HF_ERR_STRING_SIZE);
    if (hf_arg_is(args, 2, "VERSION")) {
        if (!hf_arg_int64(args, 3, &version) || version < 0)
            return hf_plan_refuse(plan, "ERR version is not an integer or out of range");
        hf_buf_put_u8(&plan->payload, HF_CAS_VERSION);
        hf_plan_put_bytes(plan, args->at[1]);
        hf_plan_put_int64(plan, version);
    } else if (hf_arg_is(args, 2, "VALUE")) {
        hf_buf_put_u8(&plan->payload, HF_CAS_VALUE);
        hf_plan_put_bytes(plan, args->at[1]);
        hf_plan_put_bytes(plan, args->at[3]);
    } else {
        return hf_plan_refuse(plan, HF_ERR_SYNTAX);
    }
    hf_plan_put_bytes(plan, args->at[4]);
    return 0;
}

/* The expiry stays: it is the value that is swapped. */
static void apply_cas(struct hf_apply_ctx *cx, struct hf_reader *in, struct hf_reply *out)
{
    uint8_t kind = hf_read_u8(in);
    struct hf_slice key = hf_read_slice(in);
    uint64_t version = kind == HF_CAS_VERSION ? hf_read_u64(in) : 0;
    struct hf_slice old = kind == HF_CAS_VALUE ? hf_read_slice(in) : hf_slice(NULL, 0);
    struct hf_slice value = hf_read_slice(in);
    struct hf_row row = {0};
    bool is_found, may;

    hf_apply_payload_end(in, "hf.cas");
    if (kind == HF_CAS_VERSION) {
        is_found = hf_store_peek(cx->store, key, &row);
        may = version == (is_found ? row.version : 0);
    } else {
        is_found = hf_store_get(cx->store, key, &row);
        may = is_found && hf_slice_eq(row.value, old);
    }
    if (!may) {
        hf_reply_null(out);
        return;
    }
    if (!is_found)
        row.expires_at_ms = 0;
    row.type = HF_TYPE_STRING;
    row.version = cx->revision;
    row.value = value;
    hf_store_put(cx->store, key, &row);
    hf_reply_int(out, (int64_t)cx->revision);
}

const struct hf_command hf_commands_holdfast[] = {
    {
        .name = "hf.getv",
        .arity = 2,
        .flags = HF_CMD_READ | HF_CMD_FAST,
        .keys = HF_ONE_KEY,
        .read = read_getv,
        .doc = {.group = HF_GROUP_HOLDFAST,
                .summary = "Returns the value and the version of a key; nil and 0 when it is absent.",
                .since = "0.1.0",
                .complexity = "O(1)",
                .args = "key:key"},
    },
    {
        .name = "hf.cas",
        .op = HF_OP_HF_CAS,
        .arity = 5,
        .flags = HF_CMD_WRITE | HF_CMD_DENYOOM | HF_CMD_FAST,
        .keys = HF_ONE_KEY,
        .plan = plan_cas,
        .apply = apply_cas,
        .doc = {.group = HF_GROUP_HOLDFAST,
                .summary = "Sets the value of a key, keeping its expiry, only when the key has this version (0: is "
                           "absent) or this value. Returns the new version, or nil when nothing was changed.",
                .since = "0.1.0",
                .complexity = "O(1)",
                .args = "key:key (VERSION version:integer | VALUE old:string) new:string"},
    },
    {.name = NULL},
};
