/* args.c: see args.h. */
#include "command/args.h"

#include "base/assert.h"
#include "base/util.h"

/* The end of the year 9999 in ms: the last log time for which a relative expiry is exact. */
#define LOG_TIME_MS_MAX 253402300799999ll

static const struct hf_expiry_unit expiry_units[] = {
    {"EX", true, false},
    {"PX", false, false},
    {"EXAT", true, true},
    {"PXAT", false, true},
};

bool hf_arg_int64(const struct hf_args *args, uint32_t i, int64_t *out)
{
    HF_ASSERT(i < args->n);
    return hf_parse_int64(args->at[i], out);
}

bool hf_arg_is(const struct hf_args *args, uint32_t i, const char *word)
{
    return i < args->n && hf_slice_is(args->at[i], word);
}

int hf_arg_switch(const struct hf_args *args, uint32_t i, const char *on, const char *off)
{
    if (hf_arg_is(args, i, on))
        return 1;
    if (hf_arg_is(args, i, off))
        return 0;
    return -1;
}

int hf_plan_refuse(struct hf_plan *plan, const char *text)
{
    plan->refusal.buf.len = 0;
    hf_reply_error(&plan->refusal, text);
    return HF_E_INVALID;
}

static const char *planned_name(const struct hf_plan *plan)
{
    const struct hf_command *cmd = hf_command_by_op(plan->op);

    HF_ASSERT(cmd != NULL);
    return cmd->name;
}

int hf_plan_refuse_arity(struct hf_plan *plan)
{
    plan->refusal.buf.len = 0;
    hf_reply_errorf(&plan->refusal, "ERR wrong number of arguments for '%s' command", planned_name(plan));
    return HF_E_INVALID;
}

int hf_plan_refuse_expire(struct hf_plan *plan)
{
    plan->refusal.buf.len = 0;
    hf_reply_errorf(&plan->refusal, "ERR invalid expire time in '%s' command", planned_name(plan));
    return HF_E_INVALID;
}

const struct hf_expiry_unit *hf_arg_expiry_unit(const struct hf_args *args, uint32_t i)
{
    for (size_t u = 0; u < sizeof(expiry_units) / sizeof(expiry_units[0]); u++) {
        if (hf_arg_is(args, i, expiry_units[u].word))
            return &expiry_units[u];
    }
    return NULL;
}

int hf_plan_expiry_signed(struct hf_plan *plan, const struct hf_args *args, uint32_t i, bool is_seconds,
                          bool is_absolute, int64_t *ms)
{
    int64_t v;

    if (!hf_arg_int64(args, i, &v))
        return hf_plan_refuse(plan, HF_ERR_NOT_INTEGER);
    if (is_seconds) {
        if (v > INT64_MAX / 1000 || v < INT64_MIN / 1000)
            return hf_plan_refuse_expire(plan);
        v *= 1000;
    }
    /* Redis refuses what overflows when added to its clock. Here the log time of the entry is not known yet, so
     * the bound leaves room for any. */
    if (!is_absolute && v > INT64_MAX - LOG_TIME_MS_MAX)
        return hf_plan_refuse_expire(plan);
    *ms = v;
    return 0;
}

int hf_plan_expiry(struct hf_plan *plan, const struct hf_args *args, uint32_t i, const struct hf_expiry_unit *unit,
                   int64_t *ms)
{
    int rc = hf_plan_expiry_signed(plan, args, i, unit->is_seconds, unit->is_absolute, ms);

    if (rc == 0 && *ms <= 0)
        return hf_plan_refuse_expire(plan);
    return rc;
}

int64_t hf_expiry_from_now(int64_t now_ms, int64_t relative_ms)
{
    HF_ASSERT(now_ms >= 0);
    return relative_ms > INT64_MAX - now_ms ? INT64_MAX : now_ms + relative_ms;
}

void hf_apply_payload_end(const struct hf_reader *in, const char *command)
{
    if (!hf_reader_done(in))
        hf_fatal("apply: the payload of a %s command is malformed: this node cannot follow the log", command);
}
