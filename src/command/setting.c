/* setting.c: the writes that nodes themselves submit: replicated settings, and the cluster's feature level (R26). Their
 * rows have an op like any write, so that the log and the leader treat them as such, but no name that a client can use.
 *
 * A setting's name is a short word of lower-case letters, digits, '.', '-' and '_'; what stands for it is text. The
 * level is the setting "level", written as decimal digits, and only ever rises. */
#include "base/util.h"
#include "command/args.h"
#include "command/ops.h"
#include "command/rows.h"

#include <inttypes.h>
#include <stdio.h>

static const char level_name[] = "level";

/* ---- settings ------------------------------------------------------------------------------------ */

static bool is_setting_name(struct hf_slice name)
{
    if (name.len == 0 || name.len > HF_SETTING_NAME_MAX)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.ptr[i];

        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_'))
            return false;
    }
    return !hf_slice_is(name, level_name);
}

static int plan_setting(struct hf_plan *plan, const struct hf_args *args)
{
    if (!is_setting_name(args->at[1]))
        return hf_plan_refuse(plan, "ERR this is not the name of a setting");
    if (args->at[2].len > HF_SETTING_VALUE_MAX)
        return hf_plan_refuse(plan, "ERR the value of a setting is longer than 4096 bytes");
    hf_plan_put_bytes(plan, args->at[1]);
    hf_plan_put_bytes(plan, args->at[2]);
    return 0;
}

static void count_setting(void *data, struct hf_slice name, struct hf_slice value)
{
    (void)name;
    (void)value;
    ++*(uint32_t *)data;
}

/* A payload that no plan makes stops the node, like one that does not fit: the limits are part of the format. */
static void apply_setting(struct hf_apply_ctx *cx, struct hf_reader *in, struct hf_reply *out)
{
    struct hf_slice name = hf_read_slice(in), value = hf_read_slice(in), old;
    uint32_t n = 0;

    if (!is_setting_name(name) || value.len > HF_SETTING_VALUE_MAX)
        in->failed = true;
    hf_apply_payload_end(in, HF_COMMAND_SETTING);
    if (value.len > 0 && !hf_store_setting_get(cx->store, name, &old)) {
        hf_store_setting_visit(cx->store, count_setting, &n);
        if (n >= HF_SETTINGS_MAX) {
            hf_reply_error(out, "ERR there are too many settings");
            return;
        }
    }
    hf_store_setting_put(cx->store, name, value);
    cx->are_settings_changed = true;
    hf_reply_ok(out);
}

/* ---- the feature level --------------------------------------------------------------------------- */

static int plan_level(struct hf_plan *plan, const struct hf_args *args)
{
    int64_t level;

    if (!hf_arg_int64(args, 1, &level) || level < 1 || level > UINT32_MAX)
        return hf_plan_refuse(plan, "ERR this is not a feature level");
    hf_buf_put_u32(&plan->payload, (uint32_t)level);
    return 0;
}

static void apply_level(struct hf_apply_ctx *cx, struct hf_reader *in, struct hf_reply *out)
{
    uint32_t level = hf_read_u32(in);
    struct hf_slice value;
    int64_t present = 1;
    char text[16];

    hf_apply_payload_end(in, HF_COMMAND_LEVEL);
    if (hf_store_setting_get(cx->store, hf_slice_str(level_name), &value) && !hf_parse_int64(value, &present))
        present = 1;
    if (level > present) {
        present = level;
        snprintf(text, sizeof text, "%" PRIu32, level);
        hf_store_setting_put(cx->store, hf_slice_str(level_name), hf_slice_str(text));
        cx->are_settings_changed = true;
    }
    hf_reply_int(out, present);
}

uint32_t hf_command_level(const struct hf_command *cmd, struct hf_slice payload)
{
    struct hf_reader in = hf_reader(payload);

    if (cmd->op == HF_OP_LEVEL)
        return hf_read_u32(&in);
    return cmd->op == HF_OP_SETTING ? 2 : 1;
}

const struct hf_command hf_commands_internal[] = {
    {
        .name = HF_COMMAND_SETTING,
        .op = HF_OP_SETTING,
        .arity = 3,
        .flags = HF_CMD_WRITE,
        .plan = plan_setting,
        .apply = apply_setting,
    },
    {
        .name = HF_COMMAND_LEVEL,
        .op = HF_OP_LEVEL,
        .arity = 2,
        .flags = HF_CMD_WRITE,
        .plan = plan_level,
        .apply = apply_level,
    },
    {.name = NULL},
};
