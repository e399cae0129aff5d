/* operate.c: changes of the members, asked for by operators and by nodes that join, carried out by the leader: one
 * server at a time (Raft dissertation 4.1 to 4.3), each an entry of the log.
 *
 * A request waits here until this node leads, or goes to the leader and comes back as an answer:
 *
 *   OPERATE    u64 request, u8 op, then each as u32 length + bytes: node, other, address; u64 store id
 *   OPERATED   u64 request, u8 code (0 done, 1 refused: nothing happened, 2 not the leader: nothing happened, 3
 * unknown), u32 length + text, u64 node id (of a node that joined)
 *
 * Before a change the leader has committed an entry of its own term (the single-server rule needs it, and libraft does
 * not check it), no other change is uncommitted, and a majority of the voters that will be is connected.
 *
 * Ids are never used again (R19): a new one is the highest of the configuration + 1, and when the member with the
 * highest id goes, its place stays as a spare (a server that gets no log and has no vote), called a tombstone here,
 * until there is a higher one. The core matches the followers' progress by their position unless their number changes,
 * so a change never takes one server away and adds another at the same time.
 *
 * A spare with a name and the store id 0 is a place for a node that will join under that name (member add). */
#include "base/crashpoint.h"
#include "consensus/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Answers of a leader, on the wire. */
enum { CODE_DONE = 0, CODE_REFUSED = 1, CODE_NOT_LEADER = 2, CODE_UNKNOWN = 3 };

#define TEXT_MAX             512
#define OPERATION_TIMEOUT_MS 20000u /* a change that is not committed by then is unknown to who asked */
#define TRANSFER_TIMEOUT_MS  5000u
#define DEPOSED_PATIENCE_MS  2000u /* for the answer of a leader that is none any more */

/* ---- names -------------------------------------------------------------------------------------------- */

bool hf_consensus_is_tombstone(const struct raft_server *s)
{
    struct hf_member m;

    return s->role == RAFT_SPARE && hf_member_parse(s->id, s->address, &m) == 0 && m.store_id == 0 && m.name[0] == 0;
}

const char *hf_consensus_member_name(const struct raft_server *s, char buf[HF_MEMBER_NAME_BYTES + 1])
{
    char digits[HF_MEMBER_NAME_BYTES + 1];
    struct hf_member m;

    snprintf(digits, sizeof digits, "%" PRIu64, (uint64_t)s->id);
    snprintf(buf, HF_MEMBER_NAME_BYTES + 1, "%s",
             hf_member_parse(s->id, s->address, &m) == 0 ? hf_member_name(&m, digits) : digits);
    return buf;
}

uint64_t hf_consensus_id_max(const struct hf_consensus *c)
{
    uint64_t max = 0;

    for (unsigned i = 0; i < c->raft.configuration.n; i++)
        if (c->raft.configuration.servers[i].id > max)
            max = c->raft.configuration.servers[i].id;
    return max;
}

/* By id, else by name: the id first, because a repaired node is called by the id that it had. */
static const struct raft_server *find(const struct hf_consensus *c, const char *text)
{
    const struct raft_server *found = NULL;
    char name[HF_MEMBER_NAME_BYTES + 1];
    int64_t id;

    if (hf_parse_int64(hf_slice_str(text), &id) && id > 0) {
        found = hf_consensus_server(c, (uint64_t)id);
        if (found && !hf_consensus_is_tombstone(found))
            return found;
    }
    for (unsigned i = 0; i < c->raft.configuration.n; i++) {
        const struct raft_server *s = &c->raft.configuration.servers[i];

        if (!hf_consensus_is_tombstone(s) && strcmp(hf_consensus_member_name(s, name), text) == 0)
            return s;
    }
    return NULL;
}

/* ---- composing a configuration ------------------------------------------------------------------------ */

enum edit_kind { EDIT_ADD, EDIT_SET, EDIT_DROP };

struct edit {
    enum edit_kind kind;
    uint64_t id;
    int role;            /* ADD, SET */
    const char *address; /* ADD, SET (NULL = as it is): the text of the configuration */
};

/* The newest configuration with one change. DROP of the highest id leaves a tombstone; older tombstones go along when
 * the number of servers falls anyway. 0, or the core's error. */
static int compose(const struct hf_consensus *c, const struct edit *edit, struct raft_configuration *out)
{
    uint64_t max = hf_consensus_id_max(c);
    bool drops = edit->kind == EDIT_DROP && edit->id != max;
    char text[64];
    int rv = 0;

    raft_configuration_init(out);
    for (unsigned i = 0; i < c->raft.configuration.n && rv == 0; i++) {
        const struct raft_server *s = &c->raft.configuration.servers[i];

        if (drops && (s->id == edit->id || (s->id != max && hf_consensus_is_tombstone(s))))
            continue;
        if (s->id == edit->id && edit->kind == EDIT_DROP) {
            snprintf(text, sizeof text, "removed-%" PRIu64 ":0#0000000000000000", (uint64_t)s->id);
            rv = raft_configuration_add(out, s->id, text, RAFT_SPARE);
        } else if (s->id == edit->id && edit->kind == EDIT_SET) {
            rv = raft_configuration_add(out, s->id, edit->address ? edit->address : s->address, edit->role);
        } else {
            rv = raft_configuration_add(out, s->id, s->address, s->role);
        }
    }
    if (rv == 0 && edit->kind == EDIT_ADD)
        rv = raft_configuration_add(out, edit->id, edit->address, edit->role);
    return rv;
}

static bool is_reachable(const struct hf_consensus *c, uint64_t id)
{
    return id == c->config.node_id || (hf_peers_link(c->peers, id, HF_CHANNEL_RAFT) &&
                                       hf_peers_silence_ms(c->peers, id) < 2ull * c->config.election_timeout_ms);
}

/* Could the voters that will be elect and commit now? */
static bool keeps_quorum(const struct hf_consensus *c, const struct raft_configuration *next, char *why,
                         size_t why_size)
{
    unsigned voters = 0, reachable = 0;

    for (unsigned i = 0; i < next->n; i++) {
        if (next->servers[i].role != RAFT_VOTER)
            continue;
        voters++;
        reachable += is_reachable(c, next->servers[i].id);
    }
    if (voters == 0) {
        snprintf(why, why_size, "ERR no voter would remain");
        return false;
    }
    if (reachable <= voters / 2) {
        snprintf(why, why_size,
                 "ERR no quorum would remain: %u of the %u voters that would be are connected; bring nodes back first",
                 reachable, voters);
        return false;
    }
    return true;
}

/* ---- the leader's part -------------------------------------------------------------------------------- */

static void answer_forwarded(struct hf_consensus *c, uint64_t to, uint64_t request, int code, const char *text,
                             uint64_t node_id)
{
    struct hf_buf buf = {0};

    hf_buf_put_u64(&buf, request);
    hf_buf_put_u8(&buf, (uint8_t)code);
    hf_buf_put_slice(&buf, hf_slice_str(text));
    hf_buf_put_u64(&buf, node_id);
    hf_consensus_send_simple(c, to, HF_MSG_OPERATED, hf_buf_slice(&buf));
    hf_buf_free(&buf);
}

static void unlink_request(struct hf_consensus *c, struct hf_member_request *req)
{
    for (struct hf_member_request **at = &c->requests; *at; at = &(*at)->next)
        if (*at == req) {
            *at = req->next;
            c->n_requests--;
            return;
        }
}

/* The end of a request that was asked for here. */
static void answer_own(struct hf_consensus *c, struct hf_member_request *req, int code, const char *text,
                       uint64_t node_id)
{
    char copy[TEXT_MAX];

    snprintf(copy, sizeof copy, "%s", text);
    unlink_request(c, req);
    req->result_id = node_id;
    req->cb(req, code == CODE_DONE ? 0 : code == CODE_UNKNOWN ? HF_E_TIMEOUT : HF_E_INVALID, copy);
}

/* NOT_LEADER: it is asked for again elsewhere. */
static void retry_own(struct hf_member_request *req)
{
    req->sent_to = 0;
    req->step = 0;
}

static void finish(struct hf_consensus *c, int code, const char *text, uint64_t node_id)
{
    struct hf_operation_state op = c->operation;

    if (text == c->operation.text)
        text = op.text;
    memset(&c->operation, 0, sizeof c->operation);
    if (code != CODE_NOT_LEADER)
        HF_LOG_INFO("consensus", "membership", "result=\"%s\"", text);
    if (op.is_forwarded)
        answer_forwarded(c, op.from, op.request, code, text, node_id);
    else if (op.own && code == CODE_NOT_LEADER)
        retry_own(op.own);
    else if (op.own)
        answer_own(c, op.own, code, text, node_id);
    c->env->post(c->env, &c->request_task);
}

static bool is_possible(const struct hf_consensus *c, const struct edit *edit, char *why, size_t why_size)
{
    struct raft_configuration next;
    bool is = compose(c, edit, &next) == 0 && keeps_quorum(c, &next, why, why_size);

    raft_configuration_close(&next);
    return is;
}

/* Submits the edited configuration; the operation then waits for its commit. False: refused, with the text. */
static bool submit_edit(struct hf_consensus *c, const struct edit *edit, char *why, size_t why_size)
{
    struct raft_configuration next;
    struct raft_buffer buf;
    struct hf_log_entry *e;
    int rv = compose(c, edit, &next), rc;

    if (rv != 0) {
        snprintf(why, why_size, "ERR the change is not possible: %s", raft_strerror(rv));
        raft_configuration_close(&next);
        return false;
    }
    if (!keeps_quorum(c, &next, why, why_size)) {
        raft_configuration_close(&next);
        return false;
    }
    if (next.n > HF_MEMBERS_MAX) {
        snprintf(why, why_size, "ERR a cluster has at most %d members", HF_MEMBERS_MAX);
        raft_configuration_close(&next);
        return false;
    }
    rv = raft_configuration_encode(&next, &buf);
    raft_configuration_close(&next);
    HF_ASSERT(rv == 0 && buf.len <= UINT32_MAX);
    e = hf_log_entry_new(HF_ENTRY_CONFIGURATION, 0, 0, (uint32_t)buf.len);
    memcpy(e->data, buf.base, buf.len);
    raft_free(buf.base);
    rc = hf_consensus_submit_entry(c, e, &c->operation.index, &c->operation.term);
    if (rc < 0) {
        hf_log_entry_unref(e);
        c->operation.index = 0;
        snprintf(why, why_size, "ERR another change of the members is under way: try again");
        return false;
    }
    hf_crash_point("member-submitted");
    return true;
}

/* A learner that could vote now: what it lacks is little, and it is there. */
static bool may_vote(struct hf_consensus *c, const struct raft_server *s, char *why, size_t why_size)
{
    char name[HF_MEMBER_NAME_BYTES + 1];
    raft_index match = 0;

    hf_consensus_member_name(s, name);
    if (s->role == RAFT_SPARE) {
        snprintf(why, why_size, "ERR %s has not joined yet: start a node with --join and --name %s", name, name);
        return false;
    }
    if (!is_reachable(c, s->id)) {
        snprintf(why, why_size, "ERR %s is not connected", name);
        return false;
    }
    if (raft_match_index(&c->raft, s->id, &match) != 0 || match + 1 < hf_journal_first_index(c->journal) ||
        hf_journal_bytes_after(c->journal, match) > HF_PROMOTE_LAG_BYTES) {
        snprintf(why, why_size,
                 "ERR %s lags: it is at index %" PRIu64 " of %" PRIu64 "; try again when it has caught up", name,
                 (uint64_t)match, hf_journal_next_index(c->journal) - 1);
        return false;
    }
    return true;
}

static void on_stepped_aside(void *data, int rc)
{
    struct hf_consensus *c = data;

    if (c->is_closing || !c->operation.is_active)
        return;
    if (c->operation.op == HF_MEMBER_TRANSFER) {
        if (rc == 0)
            finish(c, CODE_DONE, "OK leadership was handed over", 0);
        else if (rc == HF_E_NOENT)
            finish(c, CODE_REFUSED, "ERR there is no connected voter that could lead", 0);
        else
            finish(c, CODE_REFUSED, "ERR leadership was not handed over in time: this node leads on", 0);
        return;
    }
    if (rc == 0)
        finish(c, CODE_NOT_LEADER, "", 0); /* the new leader carries it out */
    else
        finish(c, CODE_REFUSED, "ERR this node leads and could not hand over: transfer leadership first", 0);
}

/* One step of the operation: an edit submitted, or the end. */
static void advance(struct hf_consensus *c)
{
    struct hf_operation_state *op = &c->operation;
    const struct raft_server *s = hf_consensus_server(c, op->target);
    struct edit edit = {.kind = EDIT_SET, .id = op->target, .role = RAFT_VOTER};
    char name[HF_MEMBER_NAME_BYTES + 1] = "", text[TEXT_MAX] = "";

    if (s)
        hf_consensus_member_name(s, name);
    switch (op->op) {
    case HF_MEMBER_REMOVE:
        edit.kind = EDIT_DROP;
        break;
    case HF_MEMBER_DEMOTE:
        edit.role = RAFT_STANDBY;
        break;
    case HF_MEMBER_PROMOTE:
        if (s && !may_vote(c, s, text, sizeof text)) {
            finish(c, CODE_REFUSED, text, 0);
            return;
        }
        break;
    case HF_MEMBER_REPLACE: {
        const struct raft_server *other = hf_consensus_server(c, op->other);

        if (!other || !may_vote(c, other, text, sizeof text)) {
            finish(c, CODE_REFUSED, other ? text : "ERR the new member is not there", 0);
            return;
        }
        if (op->step == 0 && s && !hf_consensus_is_tombstone(s)) {
            edit.kind = EDIT_DROP; /* first, so that the quorum never grows by a dead voter */
        } else {
            op->step = 1;
            edit.id = op->other;
        }
        break;
    }
    default:
        HF_UNREACHABLE();
    }
    if ((op->op == HF_MEMBER_REMOVE || op->op == HF_MEMBER_DEMOTE || (op->op == HF_MEMBER_REPLACE && op->step == 0)) &&
        edit.id == c->config.node_id && c->raft.state == RAFT_LEADER && hf_consensus_voters(c) > 1) {
        op->index = 0;
        if (!is_possible(c, &edit, text, sizeof text)) /* before leadership is given away for nothing */
            finish(c, CODE_REFUSED, text, 0);
        else
            hf_consensus_transfer(c, 0, TRANSFER_TIMEOUT_MS, on_stepped_aside, c);
        return;
    }
    if (!submit_edit(c, &edit, text, sizeof text))
        finish(c, CODE_REFUSED, text, 0);
}

/* A member that asked to be removed hears that it is done before its links go. */
void hf_consensus_operate_leaving(struct hf_consensus *c, uint64_t id)
{
    struct hf_operation_state *op = &c->operation;

    if (!op->is_active || !op->is_forwarded || op->from != id || op->target != id || op->op != HF_MEMBER_REMOVE)
        return;
    answer_forwarded(c, op->from, op->request, CODE_DONE, op->text, 0);
    op->is_forwarded = false;
}

/* The configuration entry of the present step is committed and the core knows it. */
static void on_step_committed(struct hf_consensus *c)
{
    struct hf_operation_state *op = &c->operation;
    uint64_t target = op->target;
    int what = op->op;

    hf_crash_point("member-committed");
    op->index = 0;
    if (what == HF_MEMBER_REPLACE && op->step == 0) {
        op->step = 1;
        advance(c);
        return;
    }
    finish(c, CODE_DONE, op->text, what == HF_MEMBER_JOIN ? target : 0);
}

/* What begins an operation needs: this node leads for sure, and nothing else is under way. */
enum readiness { READY, WAIT, BUSY };

static enum readiness is_ready(const struct hf_consensus *c)
{
    if (!hf_consensus_is_leader(c) || !hf_consensus_can_step(c) || c->own_term_index == 0 ||
        c->commit_index < c->own_term_index || c->delivered_index < c->own_term_index || hf_consensus_is_mute(c))
        return WAIT;
    if (c->operation.is_active || c->is_transferring || c->raft.configuration_uncommitted_index != 0)
        return BUSY;
    return READY;
}

struct ask { /* a request as the leader sees it */
    int op;
    const char *node, *other, *address;
    uint64_t store_id;
};

static bool is_dialable(const char *address)
{
    return strncmp(address, "0.0.0.0:", 8) != 0 && strncmp(address, "[::]:", 5) != 0 && *address != ':';
}

/* A node that is no member wants to be one. */
static void begin_join(struct hf_consensus *c, const struct ask *ask)
{
    const struct raft_server *old = *ask->other ? find(c, ask->other) : NULL, *same = NULL;
    struct hf_member m = {.store_id = ask->store_id}, known;
    struct edit edit = {.kind = EDIT_ADD, .role = RAFT_STANDBY};
    char text[HF_MEMBER_TEXT_BYTES], why[TEXT_MAX], name[HF_MEMBER_NAME_BYTES + 1];

    for (unsigned i = 0; i < c->raft.configuration.n; i++) {
        const struct raft_server *s = &c->raft.configuration.servers[i];

        if (s->role != RAFT_SPARE && hf_member_parse(s->id, s->address, &known) == 0 &&
            known.store_id == ask->store_id) {
            finish(c, CODE_DONE, "OK is a member", s->id); /* asked again: the first answer was lost */
            return;
        }
        if (*ask->node && s != old && !hf_consensus_is_tombstone(s) &&
            strcmp(hf_consensus_member_name(s, name), ask->node) == 0)
            same = s;
    }
    if (ask->store_id == 0 || !is_dialable(ask->address) ||
        (*ask->node && !hf_member_name_is_good(hf_slice_str(ask->node)))) {
        snprintf(why, sizeof why,
                 "ERR a node that joins needs a good name and an address that the others can dial (--peer-advertise), "
                 "not %.200s",
                 ask->address);
        finish(c, CODE_REFUSED, why, 0);
        return;
    }
    /* A learner of that name that is away never came further: its directory was wiped once more. It goes by itself when
     * the new one is there (drop_shadowed). */
    if (same && same->role == RAFT_STANDBY && !is_reachable(c, same->id))
        same = NULL;
    if (same && same->role != RAFT_SPARE) {
        snprintf(why, sizeof why,
                 "ERR there is a member called %s (id %" PRIu64
                 ") already: choose another --name, or join in its place with --replaces %s",
                 ask->node, (uint64_t)same->id, ask->node);
        finish(c, CODE_REFUSED, why, 0);
        return;
    }
    snprintf(m.address, sizeof m.address, "%s", ask->address);
    snprintf(m.name, sizeof m.name, "%s", ask->node);
    edit.id = same ? same->id : hf_consensus_id_max(c) + 1;
    if (same)
        edit.kind = EDIT_SET; /* a place kept for it */
    m.id = edit.id;
    hf_member_format(&m, text, sizeof text);
    edit.address = text;
    c->operation.target = edit.id;
    snprintf(c->operation.text, sizeof c->operation.text, "OK %s joined as a learner with the id %" PRIu64,
             *ask->node ? ask->node : "a node", edit.id);
    if (!submit_edit(c, &edit, why, sizeof why))
        finish(c, CODE_REFUSED, why, 0);
}

static void begin_add(struct hf_consensus *c, const struct ask *ask)
{
    struct hf_member m = {.id = hf_consensus_id_max(c) + 1}, list[HF_MEMBERS_MAX];
    struct edit edit = {.kind = EDIT_ADD, .role = RAFT_SPARE, .id = m.id};
    char text[HF_MEMBER_TEXT_BYTES], why[TEXT_MAX], checked[300];
    uint32_t n;

    snprintf(checked, sizeof checked, "1=%.256s", ask->other);
    if (!hf_member_name_is_good(hf_slice_str(ask->node)) || hf_parse_int64(hf_slice_str(ask->node), &(int64_t){0})) {
        finish(c, CODE_REFUSED, "ERR a name has 1 to 64 letters, digits, '.', '_' or '-', and is not a number", 0);
        return;
    }
    if (hf_members_parse(checked, list, &n, why, sizeof why) != 0 || n != 1) {
        finish(c, CODE_REFUSED, "ERR the address must be host:port, as the other members dial it", 0);
        return;
    }
    if (find(c, ask->node)) {
        snprintf(why, sizeof why, "ERR there is a member called %.64s already", ask->node);
        finish(c, CODE_REFUSED, why, 0);
        return;
    }
    snprintf(m.address, sizeof m.address, "%s", list[0].address);
    snprintf(m.name, sizeof m.name, "%s", ask->node);
    hf_member_format(&m, text, sizeof text);
    edit.address = text;
    snprintf(c->operation.text, sizeof c->operation.text,
             "OK a place for %s is kept (id %" PRIu64 "): start the node with --join and --name %s", m.name, m.id,
             m.name);
    if (!submit_edit(c, &edit, why, sizeof why))
        finish(c, CODE_REFUSED, why, 0);
}

/* The operation is set up as active; ends it at once or leaves it waiting for a commit. */
static void begin(struct hf_consensus *c, const struct ask *ask)
{
    struct hf_operation_state *op = &c->operation;
    const struct raft_server *s = *ask->node ? find(c, ask->node) : NULL, *other;
    char name[HF_MEMBER_NAME_BYTES + 1] = "", other_name[HF_MEMBER_NAME_BYTES + 1] = "", why[TEXT_MAX];

    /* Roles and removals are understood by the first release as well, and needed: the level cannot rise while a member
     * is gone for good. */
    if ((ask->op == HF_MEMBER_JOIN || ask->op == HF_MEMBER_ADD || ask->op == HF_MEMBER_REPLACE) &&
        c->level < HF_LEVEL_MEMBERS) {
        finish(
            c, CODE_REFUSED,
            "ERR nodes can join once the cluster is at feature level 2, which it reaches by itself when every member "
            "runs this release and is connected: upgrade the others, remove those that are gone for good",
            0);
        return;
    }
    if (ask->op == HF_MEMBER_JOIN) {
        begin_join(c, ask);
        return;
    }
    if (ask->op == HF_MEMBER_ADD) {
        begin_add(c, ask);
        return;
    }
    if (!s && !(ask->op == HF_MEMBER_TRANSFER && !*ask->node) && ask->op != HF_MEMBER_REPLACE) {
        snprintf(why, sizeof why, "ERR there is no member called %.64s: see HF.MEMBER LIST", ask->node);
        finish(c, CODE_REFUSED, why, 0);
        return;
    }
    if (s)
        hf_consensus_member_name(s, name);
    op->target = s ? s->id : 0;
    switch (ask->op) {
    case HF_MEMBER_REMOVE:
        snprintf(op->text, sizeof op->text, "OK %s (id %" PRIu64 ") was removed", name, op->target);
        break;
    case HF_MEMBER_PROMOTE:
        if (s->role == RAFT_VOTER) {
            finish(c, CODE_DONE, "OK is a voter already", 0);
            return;
        }
        snprintf(op->text, sizeof op->text, "OK %s (id %" PRIu64 ") is a voter now", name, op->target);
        break;
    case HF_MEMBER_DEMOTE:
        if (s->role != RAFT_VOTER) {
            finish(c, s->role == RAFT_STANDBY ? CODE_DONE : CODE_REFUSED,
                   s->role == RAFT_STANDBY ? "OK is a learner already" : "ERR it has not joined yet", 0);
            return;
        }
        snprintf(op->text, sizeof op->text, "OK %s (id %" PRIu64 ") is a learner now", name, op->target);
        break;
    case HF_MEMBER_REPLACE:
        other = find(c, ask->other);
        if (!other) {
            snprintf(why, sizeof why, "ERR there is no other member called %.64s: let it join first (--join)",
                     ask->other);
            finish(c, CODE_REFUSED, why, 0);
            return;
        }
        op->other = other->id;
        hf_consensus_member_name(other, other_name);
        if (!s || s->id == other->id) { /* it is gone, and the new one may even be called like it */
            if (other->role == RAFT_VOTER) {
                finish(c, CODE_DONE, "OK was replaced already", 0);
                return;
            }
            op->op = HF_MEMBER_PROMOTE;
            op->target = other->id;
        }
        snprintf(op->text, sizeof op->text, "OK %s (id %" PRIu64 ") is a voter in the place of %s", other_name,
                 op->other, s ? name : ask->node);
        break;
    case HF_MEMBER_TRANSFER:
        if (s && s->id == c->config.node_id) {
            finish(c, CODE_DONE, "OK leads already", 0);
            return;
        }
        if (s && (s->role != RAFT_VOTER || !is_reachable(c, s->id))) {
            snprintf(why, sizeof why, "ERR %s is not a connected voter", name);
            finish(c, CODE_REFUSED, why, 0);
            return;
        }
        hf_consensus_transfer(c, op->target, TRANSFER_TIMEOUT_MS, on_stepped_aside, c);
        return;
    default:
        finish(c, CODE_REFUSED, "ERR unknown request", 0);
        return;
    }
    advance(c);
}

static void start_operation(struct hf_consensus *c, const struct ask *ask, struct hf_member_request *own, uint64_t from,
                            uint64_t request)
{
    memset(&c->operation, 0, sizeof c->operation);
    c->operation.is_active = true;
    c->operation.op = ask->op;
    c->operation.own = own;
    c->operation.is_forwarded = own == NULL && from != 0;
    c->operation.from = from;
    c->operation.request = request;
    c->operation.deadline_ms = hf_consensus_now(c) + OPERATION_TIMEOUT_MS;
    begin(c, ask);
}

/* The operation under way: committed, lost, or late? */
static void check_operation(struct hf_consensus *c)
{
    struct hf_operation_state *op = &c->operation;

    if (!op->is_active)
        return;
    if (op->index == 0) {
        if (!c->is_transferring && hf_consensus_now(c) > op->deadline_ms)
            finish(c, CODE_UNKNOWN, "UNKNOWN the change took too long: look at HF.MEMBER LIST before asking again", 0);
        return;
    }
    if (!hf_consensus_is_leader(c) || raft_current_term(&c->raft) != op->term) {
        finish(c, CODE_UNKNOWN,
               "UNKNOWN leadership was lost during the change: look at HF.MEMBER LIST before asking again", 0);
        return;
    }
    if (c->delivered_index >= op->index && c->raft.configuration_uncommitted_index == 0 && hf_consensus_can_step(c)) {
        on_step_committed(c);
        return;
    }
    if (hf_consensus_now(c) > op->deadline_ms)
        finish(c, CODE_UNKNOWN, "UNKNOWN the change is not committed yet: look at HF.MEMBER LIST before asking again",
               0);
}

/* A member says that it is reached at another address than the configuration knows; its store id is the right one. */
static void follow_moved(struct hf_consensus *c)
{
    char text[HF_MEMBER_TEXT_BYTES];

    if (c->level < HF_LEVEL_MEMBERS || is_ready(c) != READY)
        return;
    for (unsigned i = 0; i < c->raft.configuration.n; i++) {
        const struct raft_server *s = &c->raft.configuration.servers[i];
        struct hf_hello self = hf_consensus_hello(c);
        const struct hf_other *o = hf_consensus_other(c, s->id);
        const char *says = s->id == c->config.node_id ? self.address : o && o->has_hello ? o->hello_address : "";
        struct edit edit = {.kind = EDIT_SET, .id = s->id, .role = s->role, .address = text};
        struct hf_member m;
        char why[TEXT_MAX];

        if (s->role == RAFT_SPARE || !*says || !is_dialable(says) || hf_member_parse(s->id, s->address, &m) != 0 ||
            strcmp(m.address, says) == 0)
            continue;
        snprintf(m.address, sizeof m.address, "%s", says);
        hf_member_format(&m, text, sizeof text);
        memset(&c->operation, 0, sizeof c->operation);
        c->operation.is_active = true;
        c->operation.op = HF_MEMBER_MOVE;
        c->operation.target = s->id;
        c->operation.deadline_ms = hf_consensus_now(c) + OPERATION_TIMEOUT_MS;
        snprintf(c->operation.text, sizeof c->operation.text, "OK member %" PRIu64 " is reached at %.100s now",
                 (uint64_t)s->id, says);
        if (!submit_edit(c, &edit, why, sizeof why))
            memset(&c->operation, 0, sizeof c->operation); /* looked at again at the next occasion */
        return;
    }
}

/* A learner that is away while a later member has its name: what is left of a node that was wiped before it could
 * vote. */
static void drop_shadowed(struct hf_consensus *c)
{
    char name[HF_MEMBER_NAME_BYTES + 1], other[HF_MEMBER_NAME_BYTES + 1];

    if (c->level < HF_LEVEL_MEMBERS || is_ready(c) != READY)
        return;
    for (unsigned i = 0; i < c->raft.configuration.n; i++) {
        const struct raft_server *s = &c->raft.configuration.servers[i];
        struct edit edit = {.kind = EDIT_DROP, .id = s->id};
        bool is_shadowed = false;
        char why[TEXT_MAX];

        if (s->role != RAFT_STANDBY || hf_peers_silence_ms(c->peers, s->id) < HF_AWAY_MS)
            continue;
        hf_consensus_member_name(s, name);
        for (unsigned k = 0; k < c->raft.configuration.n; k++) {
            const struct raft_server *t = &c->raft.configuration.servers[k];

            is_shadowed |=
                t->id > s->id && t->role != RAFT_SPARE && strcmp(hf_consensus_member_name(t, other), name) == 0;
        }
        if (!is_shadowed || !is_possible(c, &edit, why, sizeof why))
            continue;
        memset(&c->operation, 0, sizeof c->operation);
        c->operation.is_active = true;
        c->operation.op = HF_MEMBER_REMOVE;
        c->operation.target = s->id;
        c->operation.deadline_ms = hf_consensus_now(c) + OPERATION_TIMEOUT_MS;
        snprintf(c->operation.text, sizeof c->operation.text,
                 "OK learner %" PRIu64 " was removed: a later member is called %s as well", (uint64_t)s->id, name);
        advance(c);
        return;
    }
}

/* ---- requests asked for here -------------------------------------------------------------------------- */

static void forward(struct hf_consensus *c, struct hf_member_request *req, uint64_t leader)
{
    struct hf_buf buf = {0};

    hf_buf_put_u64(&buf, req->id);
    hf_buf_put_u8(&buf, (uint8_t)req->op);
    hf_buf_put_slice(&buf, hf_slice_str(req->node));
    hf_buf_put_slice(&buf, hf_slice_str(req->other));
    hf_buf_put_slice(&buf, hf_slice_str(req->address));
    hf_buf_put_u64(&buf, req->store_id);
    hf_consensus_send_simple(c, leader, HF_MSG_OPERATE, hf_buf_slice(&buf));
    hf_buf_free(&buf);
    req->sent_to = leader;
    req->sent_term = hf_consensus_term(c);
}

static void place(struct hf_consensus *c, struct hf_member_request *req)
{
    struct ask ask = {
        .op = req->op, .node = req->node, .other = req->other, .address = req->address, .store_id = req->store_id};
    uint64_t leader = hf_consensus_leader(c), now = hf_consensus_now(c);

    if (req->step < 0) {
        answer_own(c, req, CODE_REFUSED, "ERR too many requests about members wait on this node: try again later", 0);
        return;
    }
    if (hf_consensus_is_leader(c)) {
        switch (is_ready(c)) {
        case READY:
            req->sent_to = c->config.node_id;
            req->sent_term = hf_consensus_term(c);
            start_operation(c, &ask, req, 0, 0);
            return;
        case BUSY:
            answer_own(c, req, CODE_REFUSED, "ERR a change of the members or of the leader is under way: try again", 0);
            return;
        case WAIT:
            break;
        }
    } else if (leader != 0 && hf_peers_link(c->peers, leader, HF_CHANNEL_RAFT)) {
        forward(c, req, leader);
        return;
    }
    if (now > req->deadline_ms)
        answer_own(c, req, CODE_REFUSED, "NOLEADER no leader was found in time: nothing was changed", 0);
}

/* Sent to the leader, and no answer yet. */
static void watch(struct hf_consensus *c, struct hf_member_request *req)
{
    uint64_t now = hf_consensus_now(c);

    if (req->sent_to == c->config.node_id)
        return; /* the operation under way answers it */
    /* It may have handed over just for this request, and says so next. */
    if (req->sent_term != 0 && hf_consensus_term(c) != req->sent_term) {
        req->sent_term = 0;
        if (req->deadline_ms > now + DEPOSED_PATIENCE_MS)
            req->deadline_ms = now + DEPOSED_PATIENCE_MS;
    }
    if (now > req->deadline_ms || !hf_peers_link(c->peers, req->sent_to, HF_CHANNEL_RAFT))
        answer_own(c, req, CODE_UNKNOWN,
                   "UNKNOWN the leader did not answer: look at HF.MEMBER LIST before asking again", 0);
}

static void on_self_answer(struct hf_member_request *req, int rc, const char *text)
{
    struct hf_consensus *c = req->data;

    c->is_self_asking = false;
    if (rc != 0)
        HF_LOG_DEBUG("consensus", "not promoted yet", "reason=\"%s\"", text);
}

/* A node that joined to vote asks for its vote until it has it. */
static void ask_for_vote(struct hf_consensus *c)
{
    struct hf_member_request *req = &c->self_request;
    const struct raft_server *self = hf_consensus_server(c, c->config.node_id);

    if (!c->identity.wants_vote || c->identity.is_joining || c->is_self_asking || c->is_removed_told || !self ||
        self->role != RAFT_STANDBY || hf_consensus_leader(c) == 0)
        return;
    memset(req, 0, sizeof *req);
    req->data = c;
    req->cb = on_self_answer;
    req->timeout_ms = 10000;
    if (c->identity.replaces[0]) {
        req->op = HF_MEMBER_REPLACE;
        snprintf(req->node, sizeof req->node, "%s", c->identity.replaces);
        snprintf(req->other, sizeof req->other, "%" PRIu64, c->config.node_id);
    } else {
        req->op = HF_MEMBER_PROMOTE;
        snprintf(req->node, sizeof req->node, "%" PRIu64, c->config.node_id);
    }
    c->is_self_asking = true;
    hf_consensus_operate(c, req);
}

void hf_consensus_operate_progress(struct hf_consensus *c)
{
    struct hf_member_request *req, *next;

    if (c->is_closing || c->has_failed || !c->is_raft_open)
        return;
    check_operation(c);
    for (req = c->requests; req; req = next) {
        next = req->next;
        if (req->sent_to == 0)
            place(c, req);
        else
            watch(c, req);
    }
    follow_moved(c);
    drop_shadowed(c);
    ask_for_vote(c);
}

static void on_request_task(struct hf_task *task)
{
    hf_consensus_operate_progress(task->data);
}

void hf_consensus_operate_init(struct hf_consensus *c)
{
    c->request_task.data = c;
    c->request_task.cb = on_request_task;
}

void hf_consensus_operate(struct hf_consensus *c, struct hf_member_request *req)
{
    req->id = ++c->next_request;
    req->deadline_ms = hf_consensus_now(c) + req->timeout_ms;
    req->sent_to = 0;
    req->step = c->n_requests < HF_REQUESTS_MAX ? 0 : -1;
    req->result_id = 0;
    req->next = c->requests;
    c->requests = req;
    c->n_requests++;
    c->env->post(c->env, &c->request_task);
}

/* This node is no member any more: who asked it for just that hears so before it stops. */
void hf_consensus_operate_removed(struct hf_consensus *c)
{
    struct hf_member_request *req, *next;
    char id[24], text[TEXT_MAX];

    snprintf(id, sizeof id, "%" PRIu64, c->config.node_id);
    for (req = c->requests; req; req = next) {
        next = req->next;
        if (req->op != HF_MEMBER_REMOVE || (strcmp(req->node, id) != 0 && strcmp(req->node, c->identity.name) != 0))
            continue;
        snprintf(text, sizeof text, "OK %s was removed, and stops", req->node);
        answer_own(c, req, CODE_DONE, text, 0);
    }
}

void hf_consensus_operate_close(struct hf_consensus *c)
{
    c->env->unpost(c->env, &c->request_task);
    c->operation.is_active = false;
    while (c->requests)
        answer_own(c, c->requests, c->requests->sent_to != 0 ? CODE_UNKNOWN : CODE_REFUSED,
                   c->requests->sent_to != 0
                       ? "UNKNOWN this node is stopping: look at HF.MEMBER LIST before asking again"
                       : "ERR this node is stopping: nothing was changed",
                   0);
}

/* ---- between nodes ------------------------------------------------------------------------------------ */

bool hf_consensus_take_text(struct hf_reader *r, char *out, size_t size)
{
    struct hf_slice s = hf_read_slice(r);

    if (r->failed || s.len >= size)
        return false;
    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] < 0x20 || s.ptr[i] > 0x7e)
            return false;
    if (s.len)
        memcpy(out, s.ptr, s.len);
    out[s.len] = 0;
    return true;
}

void hf_consensus_on_operate(struct hf_consensus *c, uint64_t from, struct hf_slice payload)
{
    struct hf_reader r = hf_reader(payload);
    uint64_t request = hf_read_u64(&r);
    char node[HF_NODE_NAME_BYTES], other[256], address[256];
    struct ask ask = {.op = hf_read_u8(&r), .node = node, .other = other, .address = address};

    if (!hf_consensus_take_text(&r, node, sizeof node) || !hf_consensus_take_text(&r, other, sizeof other) ||
        !hf_consensus_take_text(&r, address, sizeof address))
        return;
    ask.store_id = hf_read_u64(&r);
    if (!hf_reader_done(&r) || !hf_consensus_knows(c, from) || ask.op < HF_MEMBER_JOIN || ask.op > HF_MEMBER_TRANSFER)
        return;
    if (!hf_consensus_is_leader(c)) {
        answer_forwarded(c, from, request, CODE_NOT_LEADER, "", 0);
        return;
    }
    switch (is_ready(c)) {
    case READY:
        start_operation(c, &ask, NULL, from, request);
        return;
    case BUSY:
        answer_forwarded(c, from, request, CODE_REFUSED,
                         "ERR a change of the members or of the leader is under way: try again", 0);
        return;
    case WAIT: /* a leader of a moment: it asks again */
        answer_forwarded(c, from, request, CODE_NOT_LEADER, "", 0);
        return;
    }
}

void hf_consensus_on_operated(struct hf_consensus *c, uint64_t from, struct hf_slice payload)
{
    struct hf_reader r = hf_reader(payload);
    uint64_t request = hf_read_u64(&r), node_id;
    uint8_t code = hf_read_u8(&r);
    char text[TEXT_MAX];

    if (!hf_consensus_take_text(&r, text, sizeof text))
        return;
    node_id = hf_read_u64(&r);
    if (!hf_reader_done(&r) || code > CODE_UNKNOWN)
        return;
    for (struct hf_member_request *req = c->requests; req; req = req->next) {
        if (req->id != request || req->sent_to != from)
            continue;
        if (code == CODE_NOT_LEADER)
            retry_own(req); /* again at the next progress, until its deadline */
        else
            answer_own(c, req, code, text, node_id);
        return;
    }
}

/* ---- levels ------------------------------------------------------------------------------------------- */

uint32_t hf_consensus_members_level(const struct hf_consensus *c)
{
    uint32_t lowest = HF_LEVEL_MAX;

    if (!c->is_raft_open)
        return 0;
    for (unsigned i = 0; i < c->raft.configuration.n; i++) {
        const struct raft_server *s = &c->raft.configuration.servers[i];
        uint32_t level = 0;

        if (s->role == RAFT_SPARE || s->id == c->config.node_id)
            continue;
        for (uint32_t k = 0; k < c->n_others; k++)
            if (c->others[k].id == s->id)
                level = c->others[k].level;
        if (level < lowest)
            lowest = level;
    }
    return c->raft.configuration.n == 0 ? 0 : lowest;
}

/* Written down first: a release that does not know the level must find a directory that it refuses. */
void hf_consensus_set_level(struct hf_consensus *c, uint32_t level)
{
    if (level >= 2 && !c->identity.is_level_2) {
        c->identity.is_level_2 = true;
        if (hf_consensus_save_identity(c) < 0)
            return;
    }
    c->level = level;
}
