/* apply.c: the state machine, synchronous: one committed log entry in, changed state and replies out. The last step
 * of a write's walk: every node runs these lines for the same entries in the same order, so nothing here may depend
 * on anything but the store and the entry.
 *
 * An entry is understood completely before any of it is applied. What still goes wrong afterwards (a payload that its
 * handler cannot read, an error of the store) leaves a store that refuses to commit: the node stops and replays. */
#include "apply/apply.h"

#include "apply/internal.h"
#include "base/assert.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>

void hf_apply_result_free(struct hf_apply_result *r)
{
    hf_reply_free(&r->replies);
    hf_free(r->end);
    r->end = NULL;
    r->n = r->cap = 0;
}

struct hf_slice hf_apply_result_at(const struct hf_apply_result *r, uint32_t position)
{
    uint32_t start;

    HF_ASSERT(position < r->n);
    start = position ? r->end[position - 1] : 0;
    return hf_slice(r->replies.buf.data + start, r->end[position] - start);
}

static void result_reset(struct hf_apply_result *r, uint32_t n)
{
    r->replies.buf.len = 0;
    r->n = 0;
    if (r->cap < n) {
        r->end = hf_realloc(r->end, n * sizeof r->end[0]);
        r->cap = n;
    }
}

/* All commands must be known, and of a feature level that this release has (R26): a node that is older than the entry
 * stops before it applies half of it. */
static int check_ops(struct hf_entry_reader reader, const struct hf_log_entry *e, char *why, size_t why_size)
{
    struct hf_slice payload;
    uint16_t op;

    while (hf_entry_next(&reader, &op, &payload)) {
        const struct hf_command *command = hf_command_by_op(op);
        uint32_t level = command ? hf_command_level(command, payload) : 1;

        if (level > HF_LEVEL_MAX) {
            snprintf(why, why_size,
                     "entry %" PRIu64 " raises the cluster to feature level %" PRIu32
                     ", and this release supports levels up to %u: start a newer release on this data directory; the "
                     "entry was not applied, so nothing is lost",
                     e->index, level, HF_LEVEL_MAX);
            return HF_E_VERSION;
        }
        if (command && command->apply)
            continue;
        snprintf(why, why_size,
                 "entry %" PRIu64 " has command number %u, which this release does not know: start a newer release",
                 e->index, op);
        return HF_E_VERSION;
    }
    return 0;
}

static int apply_commands(struct hf_store *s, struct hf_entry_reader *reader, const struct hf_log_entry *e,
                          struct hf_apply_result *result, bool *are_settings_changed, char *why, size_t why_size)
{
    struct hf_reply nobody = {.discard = true};
    struct hf_reply *out = result ? &result->replies : &nobody;
    struct hf_apply_ctx cx = {.store = s, .now_ms = hf_store_log_time_ms(s)};
    struct hf_slice payload;
    uint16_t op;
    uint32_t position = 0;

    for (; hf_entry_next(reader, &op, &payload); position++) {
        const struct hf_command *command = hf_command_by_op(op);
        struct hf_reader in = hf_reader(payload);

        cx.revision = e->index << 16 | position;
        hf_prng_seed(&cx.prng, reader->header.seed + position * UINT64_C(0x9e3779b97f4a7c15));
        command->apply(&cx, &in, out);
        if (!hf_reader_done(&in)) {
            snprintf(why, why_size, "entry %" PRIu64 ": command %u (%s) has a malformed payload", e->index, position,
                     command->name);
            return HF_E_CORRUPT;
        }
        if (result) {
            HF_ASSERT(out->buf.len <= UINT32_MAX);
            result->end[result->n++] = (uint32_t)out->buf.len;
        }
    }
    if (cx.are_settings_changed)
        *are_settings_changed = true;
    return 0;
}

int hf_apply_entry(struct hf_store *s, const struct hf_log_entry *e, struct hf_apply_result *result, char *why,
                   size_t why_size)
{
    bool are_settings_changed = false;

    return hf_apply_entry_noting(s, e, result, &are_settings_changed, why, why_size);
}

int hf_apply_entry_noting(struct hf_store *s, const struct hf_log_entry *e, struct hf_apply_result *result,
                          bool *are_settings_changed, char *why, size_t why_size)
{
    const struct hf_store_meta *meta = hf_store_meta(s);
    struct hf_slice bytes = hf_slice(e->data, e->len);
    struct hf_entry_reader reader = {.header.stamp_ms = INT64_MIN}; /* only commands move log time */
    const char *text;
    int err = hf_store_error(s, &text);

    if (result)
        result_reset(result, 0);
    if (err == 0 && e->index <= meta->applied_index)
        return 0;
    if (err == 0 && e->index != meta->applied_index + 1) {
        snprintf(why, why_size, "entry %" PRIu64 " does not follow the applied index %" PRIu64, e->index,
                 meta->applied_index);
        return HF_E_CORRUPT;
    }
    if (err == 0 && e->type == HF_ENTRY_COMMAND) {
        err = hf_entry_decode(&reader, bytes);
        if (err != 0) {
            snprintf(why, why_size, "entry %" PRIu64 " (%u bytes): %s", e->index, e->len,
                     err == HF_E_VERSION ? "written by a newer release: start that one" : "damaged or malformed");
            return err;
        }
        err = check_ops(reader, e, why, why_size);
        if (err != 0)
            return err;
        if (result)
            result_reset(result, reader.header.count);
    }
    if (err == 0) {
        hf_store_begin(s, e->index, e->term, reader.header.stamp_ms);
        hf_store_expire(s, HF_APPLY_EXPIRE_MAX);
        if (e->type == HF_ENTRY_COMMAND)
            err = apply_commands(s, &reader, e, result, are_settings_changed, why, why_size);
        else if (e->type == HF_ENTRY_CONFIGURATION)
            hf_store_set_configuration(s, e->index, bytes);
        if (err != 0) {
            hf_store_fail(s, err, why);
            return err;
        }
        hf_store_end(s, bytes);
        err = hf_store_error(s, &text);
    }
    if (err != 0)
        snprintf(why, why_size, "%s", text);
    return err;
}
