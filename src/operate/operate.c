/* operate.c: the operator: its life, members and leadership, and raising the cluster's feature level. See operate.h,
 * and internal.h for the other files.
 *
 * The level (R26): a leader looks once a second, and when it begins to lead, whether every member has announced a
 * higher level than the cluster has; then it submits one entry that raises it. Nobody waits for the answer: whatever
 * became of it, the next look sees. */
#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "operate/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define BACKUPS_MAX       2u
#define BACKUP_IDLE_MS    60000u
#define BACKUP_CHUNK_MAX  (4u << 20)
#define MEMBER_TIMEOUT_MS 30000u
#define LEVEL_LOOK_MS     1000u

static const char closing_text[] =
    "UNKNOWN outcome: this node is shutting down before the request was answered; it may "
    "still be carried out; check before retrying";

void hf_operation_fail(struct hf_operation *op, const char *text)
{
    hf_reply_error(&op->reply, text);
    hf_operation_done(op);
}

/* ---- members and leadership ------------------------------------------------------------------------ */

struct member_call {
    struct hf_member_request request; /* consensus' until its cb */
    struct member_call *next;
    struct hf_operator *o;
    struct hf_operation *op;
};

static void remove_call(struct member_call *call)
{
    struct member_call **at = &call->o->members;

    while (*at != call)
        at = &(*at)->next;
    *at = call->next;
}

static void on_member_answer(struct hf_member_request *request, int rc, const char *text)
{
    struct member_call *call = request->data;
    struct hf_operation *op = call->op;

    remove_call(call);
    if (rc == 0) {
        char line[512];

        snprintf(line, sizeof line, "%s%s", strncmp(text, "OK", 2) == 0 ? "" : *text ? "OK " : "OK", text);
        hf_reply_status(&op->reply, line);
        hf_operation_done(op);
    } else {
        hf_operation_fail(op, text);
    }
    hf_free(call);
}

static bool take_word(char *out, size_t size, struct hf_slice word)
{
    if (word.len >= size || (word.len > 0 && memchr(word.ptr, 0, word.len) != NULL))
        return false;
    if (word.len > 0)
        memcpy(out, word.ptr, word.len);
    out[word.len] = 0;
    return true;
}

static void operate_member(void *data, struct hf_operation *op, enum hf_member_op what, struct hf_slice node,
                           struct hf_slice other)
{
    struct hf_operator *o = data;
    struct member_call *call = hf_calloc(1, sizeof *call);
    struct hf_member_request *request = &call->request;

    if (!take_word(request->node, sizeof request->node, node) ||
        !take_word(request->other, sizeof request->other, other)) {
        hf_free(call);
        hf_operation_fail(op, "ERR a name or an address is too long, or has a zero byte");
        return;
    }
    call->o = o;
    call->op = op;
    call->next = o->members;
    o->members = call;
    request->data = call;
    request->cb = on_member_answer;
    request->op = (int)what;
    request->timeout_ms = o->config.member_timeout_ms;
    hf_consensus_operate(o->consensus, request);
}

/* ---- the feature level ----------------------------------------------------------------------------- */

static void on_raised(struct hf_propose_req *req, enum hf_fate fate, struct hf_slice reply)
{
    struct hf_operator *o = req->data;

    (void)reply;
    o->is_raising = false;
    if (fate == HF_FATE_APPLIED)
        HF_LOG_INFO("operate", "the cluster's feature level was raised", "level=%" PRIu32, hf_state_level(o->state));
}

static void look_at_level(struct hf_operator *o)
{
    uint32_t level = hf_consensus_members_level(o->consensus), present = hf_state_level(o->state);
    const struct hf_command *row = hf_command_internal(hf_slice_str(HF_COMMAND_LEVEL));
    char text[16];
    struct hf_slice words[] = {hf_slice_str(HF_COMMAND_LEVEL), hf_slice(text, 0)};
    struct hf_args args = {words, 2};
    int rc;

    if (level > HF_LEVEL_MAX)
        level = HF_LEVEL_MAX;
    if (o->is_raising || level <= present)
        return;
    words[1].len = (size_t)snprintf(text, sizeof text, "%" PRIu32, level);
    if (hf_command_plan(row, &o->plan, &args) != 0)
        HF_UNREACHABLE();
    memset(&o->raise, 0, sizeof o->raise);
    o->raise.data = o;
    o->raise.cb = on_raised;
    rc = hf_propose(o->proposer, &o->raise, &o->plan);
    if (rc < 0) /* not the leader any more, or too much to do: the next look comes */
        return;
    o->is_raising = true;
    HF_LOG_INFO("operate", "every member supports a higher feature level: raising the cluster's",
                "from=%" PRIu32 " to=%" PRIu32, present, level);
}

static void on_level_timer(struct hf_timer *timer)
{
    struct hf_operator *o = timer->data;

    if (!o->leads)
        return;
    look_at_level(o);
    o->env->timer_start(o->env, timer, LEVEL_LOOK_MS);
}

void hf_operator_on_role(struct hf_operator *o, enum hf_role role)
{
    bool leads = role == HF_ROLE_LEADER;

    if (leads == o->leads)
        return;
    o->leads = leads;
    /* Not from here: the proposer may hear of the role after us. */
    if (leads)
        o->env->timer_start(o->env, &o->level_timer, 0);
    else
        o->env->timer_stop(o->env, &o->level_timer);
}

/* ---- life ------------------------------------------------------------------------------------------ */

int hf_operator_open(struct hf_env *env, const struct hf_operator_config *config, struct hf_consensus *consensus,
                     struct hf_proposer *proposer, struct hf_state *state, struct hf_snapshots *snapshots,
                     const struct hf_settings_ops *settings, struct hf_stats *stats, struct hf_operator **out)
{
    struct hf_operator *o = hf_calloc(1, sizeof *o);

    hf_command_table_init();
    o->env = env;
    o->config = *config;
    if (o->config.backups_max == 0)
        o->config.backups_max = BACKUPS_MAX;
    if (o->config.backup_idle_ms == 0)
        o->config.backup_idle_ms = BACKUP_IDLE_MS;
    if (o->config.backup_chunk_max == 0)
        o->config.backup_chunk_max = BACKUP_CHUNK_MAX;
    if (o->config.member_timeout_ms == 0)
        o->config.member_timeout_ms = MEMBER_TIMEOUT_MS;
    o->consensus = consensus;
    o->proposer = proposer;
    o->state = state;
    o->snapshots = snapshots;
    o->settings = settings;
    o->level_timer = (struct hf_timer){.data = o, .cb = on_level_timer};
    o->ops = (struct hf_operator_ops){.data = o,
                                      .member = operate_member,
                                      .backup_start = hf_operate_backup_start,
                                      .backup_read = hf_operate_backup_read,
                                      .backup_end = hf_operate_backup_end,
                                      .config_set = hf_operate_config_set_pairs};
    hf_operate_backups_open(o, stats);
    hf_operate_settings_open(o);
    *out = o;
    return 0;
}

void hf_operator_close(struct hf_operator *o)
{
    struct member_call *call;

    if (!o)
        return;
    o->env->timer_stop(o->env, &o->level_timer);
    while ((call = o->members) != NULL) {
        o->members = call->next;
        hf_operation_fail(call->op, closing_text);
        hf_free(call);
    }
    hf_operate_backups_close(o);
    hf_operate_settings_close(o);
    hf_plan_free(&o->plan);
    hf_free(o);
}

const struct hf_operator_ops *hf_operator_ops(struct hf_operator *o)
{
    return &o->ops;
}

void hf_operator_set_dispatcher(struct hf_operator *o, struct hf_dispatcher *d)
{
    HF_ASSERT(o->lane == NULL);
    o->lane = hf_lane_open(d);
}
