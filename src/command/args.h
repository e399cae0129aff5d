/* args.h: what plan, read and apply handlers share: looking at arguments, refusing a plan, decoding a payload,
 * and the rules for expiry times. Pure; private to the folder. */
#ifndef HF_COMMAND_ARGS_H
#define HF_COMMAND_ARGS_H

#include "command/command.h"

/* Largest string a key may hold. Part of the replicated semantics, so a constant and not a setting. */
#define HF_STRING_BYTES_MAX (512ull << 20)
#define HF_ERR_STRING_SIZE  "ERR string exceeds maximum allowed size (proto-max-bulk-len)"
#define HF_ERR_OFFSET       "ERR offset is out of range"
#define HF_ERR_OVERFLOW     "ERR increment or decrement would overflow"

/* Argument i as strict decimal. i < args->n. */
bool hf_arg_int64(const struct hf_args *args, uint32_t i, int64_t *out);
/* Argument i exists and is this word, in any case. */
bool hf_arg_is(const struct hf_args *args, uint32_t i, const char *word);
/* 1 for yes/on, 0 for no/off as given, -1 for anything else. */
int hf_arg_switch(const struct hf_args *args, uint32_t i, const char *on, const char *off);

/* Set the refusal and return a non-zero code, for `return hf_plan_refuse(...)`. */
int hf_plan_refuse(struct hf_plan *plan, const char *text);
/* "ERR wrong number of arguments for 'x' command", x being the command that is planned. */
int hf_plan_refuse_arity(struct hf_plan *plan);
/* "ERR invalid expire time in 'x' command". */
int hf_plan_refuse_expire(struct hf_plan *plan);

static inline void hf_plan_put_bytes(struct hf_plan *plan, struct hf_slice s)
{
    hf_buf_put_slice(&plan->payload, s);
}

static inline void hf_plan_put_int64(struct hf_plan *plan, int64_t v)
{
    hf_buf_put_u64(&plan->payload, (uint64_t)v);
}

/* How an expiry was written by the client. */
struct hf_expiry_unit {
    const char *word; /* EX PX EXAT PXAT */
    bool is_seconds;
    bool is_absolute;
};
/* The unit named by argument i, NULL when it names none. */
const struct hf_expiry_unit *hf_arg_expiry_unit(const struct hf_args *args, uint32_t i);
/* Turn argument i into milliseconds. The value must be positive, and, when relative, small enough that no log time
 * before the year 10000 overflows with it. 0, or the plan was refused with Redis' words. */
int hf_plan_expiry(struct hf_plan *plan, const struct hf_args *args, uint32_t i, const struct hf_expiry_unit *unit,
                   int64_t *ms);
/* As above for EXPIRE and its kin: zero and negative values are allowed (they delete). */
int hf_plan_expiry_signed(struct hf_plan *plan, const struct hf_args *args, uint32_t i, bool is_seconds,
                          bool is_absolute, int64_t *ms);

/* now + relative, never past INT64_MAX. */
int64_t hf_expiry_from_now(int64_t now_ms, int64_t relative_ms);

/* After the last field of a payload was read: a payload that does not fit its op was written by a node of another
 * kind or is damaged, and the node stops before any of it takes effect. */
void hf_apply_payload_end(const struct hf_reader *in, const char *command);

/* i64 of a payload. */
static inline int64_t hf_payload_int64(struct hf_reader *in)
{
    return (int64_t)hf_read_u64(in);
}

#endif
