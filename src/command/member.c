/* member.c: the commands of operators: members (HF.MEMBER), leadership (HF.TRANSFER) and backups (HF.BACKUP). All but
 * LIST are OPERATE rows: their arguments are checked here, and hf_operator_ops answers when it is done. What is wrong
 * with the words is said at once and never reaches another node. */
#include "command/args.h"
#include "command/client.h"
#include "command/rows.h"

#include "base/util.h"

#define NAME_BYTES_MAX    64
#define ADDRESS_BYTES_MAX 255

static void refuse(struct hf_operation *op, const char *text)
{
    hf_reply_error(&op->reply, text);
    hf_operation_done(op);
}

/* ---- looking ------------------------------------------------------------------------------------- */

/* What is unknown is shown as nil. */
static void put_number(struct hf_reply *out, const char *name, bool is_known, uint64_t n)
{
    hf_reply_bulk_str(out, name);
    if (is_known)
        hf_reply_int(out, (int64_t)n);
    else
        hf_reply_null(out);
}

static void put_word(struct hf_reply *out, const char *name, const char *word)
{
    hf_reply_bulk_str(out, name);
    hf_reply_bulk_str(out, word);
}

static void put_flag(struct hf_reply *out, const char *name, bool is_set)
{
    hf_reply_bulk_str(out, name);
    hf_reply_bool(out, is_set);
}

const char *hf_role_word(const char *role)
{
    return strcmp(role, "standby") == 0 ? "learner" : role;
}

/* Only the leader knows how far the others are; every node knows it of itself. */
static void put_member(struct hf_reply *out, const struct hf_node_status *status,
                       const struct hf_node_peer_status *member, bool is_self)
{
    bool is_leader = hf_node_is_leader(status);
    uint64_t match = is_self ? status->last_index : member->match_index;

    hf_reply_map(out, 11);
    put_number(out, "id", true, member->id);
    put_word(out, "name", member->name);
    put_word(out, "role", hf_role_word(member->role));
    put_flag(out, "leader", member->id == status->leader_id);
    put_flag(out, "self", is_self);
    put_word(out, "address", member->address);
    put_word(out, "client-address", member->client_address);
    put_flag(out, "connected", member->is_connected);
    put_number(out, "match-index", is_self || is_leader, match);
    put_number(out, "lag", is_leader, status->last_index > match ? status->last_index - match : 0);
    put_number(out, "level", member->level != 0, member->level);
}

static void local_member_list(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    const struct hf_node_status *status = cx->ops->status(cx->ops->data);
    bool is_member = status->self_role != NULL && status->self_role[0] != '\0';
    struct hf_node_peer_status self = {
        .id = status->node_id,
        .address = status->peer_address,
        .client_address = status->client_address,
        .role = status->self_role,
        .is_connected = true,
        .name = status->name,
        .level = status->level_max,
    };

    (void)args;
    hf_reply_array(out, status->n_peers + is_member);
    for (uint32_t i = 0; i < status->n_peers; i++) {
        if (is_member && self.id < status->peers[i].id) { /* in order of ids, as the peers are */
            put_member(out, status, &self, true);
            is_member = false;
        }
        put_member(out, status, &status->peers[i], false);
    }
    if (is_member)
        put_member(out, status, &self, true);
}

/* ---- members ------------------------------------------------------------------------------------- */

/* A name, or an id in digits: the characters of both. */
static bool is_node(struct hf_slice s)
{
    if (s.len == 0 || s.len > NAME_BYTES_MAX)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.ptr[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
              c == '-'))
            return false;
    }
    return true;
}

static bool is_address(struct hf_slice s)
{
    size_t colon = s.len;
    int64_t port;

    while (colon > 0 && s.ptr[colon - 1] != ':')
        colon--;
    if (colon < 2 || s.len > ADDRESS_BYTES_MAX)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] <= ' ' || s.ptr[i] == ',' || s.ptr[i] == '#' || s.ptr[i] == '=' || s.ptr[i] >= 127)
            return false;
    }
    return hf_parse_int64(hf_slice(s.ptr + colon, s.len - colon), &port) && port > 0 && port <= 65535;
}

#define ERR_NODE    "ERR a node is named by its name or id: 1 to 64 letters, digits, '.', '_' or '-'"
#define ERR_ADDRESS "ERR the address must be host:port, where the node's peers reach it"

static void operate_member_add(struct hf_operation *op, const struct hf_operator_ops *ops, const struct hf_args *args)
{
    int64_t number;

    if (!is_node(args->at[2]))
        refuse(op, ERR_NODE);
    else if (hf_parse_int64(args->at[2], &number))
        refuse(op, "ERR a name of digits only would be taken for an id");
    else if (!is_address(args->at[3]))
        refuse(op, ERR_ADDRESS);
    else
        ops->member(ops->data, op, HF_MEMBER_ADD, args->at[2], args->at[3]);
}

static void operate_one(struct hf_operation *op, const struct hf_operator_ops *ops, const struct hf_args *args,
                        enum hf_member_op what)
{
    if (!is_node(args->at[2]))
        refuse(op, ERR_NODE);
    else
        ops->member(ops->data, op, what, args->at[2], hf_slice_str(""));
}

static void operate_member_remove(struct hf_operation *op, const struct hf_operator_ops *ops,
                                  const struct hf_args *args)
{
    operate_one(op, ops, args, HF_MEMBER_REMOVE);
}

static void operate_member_promote(struct hf_operation *op, const struct hf_operator_ops *ops,
                                   const struct hf_args *args)
{
    operate_one(op, ops, args, HF_MEMBER_PROMOTE);
}

static void operate_member_demote(struct hf_operation *op, const struct hf_operator_ops *ops,
                                  const struct hf_args *args)
{
    operate_one(op, ops, args, HF_MEMBER_DEMOTE);
}

static void operate_member_replace(struct hf_operation *op, const struct hf_operator_ops *ops,
                                   const struct hf_args *args)
{
    if (!is_node(args->at[2]) || !is_node(args->at[3]))
        refuse(op, ERR_NODE);
    else if (hf_slice_eq(args->at[2], args->at[3]))
        refuse(op, "ERR a node cannot replace itself");
    else
        ops->member(ops->data, op, HF_MEMBER_REPLACE, args->at[2], args->at[3]);
}

static void operate_transfer(struct hf_operation *op, const struct hf_operator_ops *ops, const struct hf_args *args)
{
    if (args->n > 2)
        refuse(op, "ERR wrong number of arguments for 'hf.transfer' command");
    else if (args->n == 2 && !is_node(args->at[1]))
        refuse(op, ERR_NODE);
    else
        ops->member(ops->data, op, HF_MEMBER_TRANSFER, args->n == 2 ? args->at[1] : hf_slice_str(""), hf_slice_str(""));
}

/* ---- backups ------------------------------------------------------------------------------------- */

static void operate_backup_start(struct hf_operation *op, const struct hf_operator_ops *ops, const struct hf_args *args)
{
    (void)args;
    ops->backup_start(ops->data, op);
}

static bool take_number(const struct hf_args *args, uint32_t i, uint64_t *out)
{
    int64_t n;

    if (!hf_arg_int64(args, i, &n) || n < 0)
        return false;
    *out = (uint64_t)n;
    return true;
}

#define ERR_BACKUP_ID "ERR the id of a backup is not an integer or out of range"

static void operate_backup_read(struct hf_operation *op, const struct hf_operator_ops *ops, const struct hf_args *args)
{
    uint64_t id, offset, count;

    if (!take_number(args, 2, &id))
        refuse(op, ERR_BACKUP_ID);
    else if (!take_number(args, 3, &offset))
        refuse(op, HF_ERR_OFFSET);
    else if (!take_number(args, 4, &count) || count == 0)
        refuse(op, "ERR count must be an integer greater than 0");
    else
        ops->backup_read(ops->data, op, id, offset, count);
}

static void operate_backup_end(struct hf_operation *op, const struct hf_operator_ops *ops, const struct hf_args *args)
{
    uint64_t id;

    if (!take_number(args, 2, &id))
        refuse(op, ERR_BACKUP_ID);
    else
        ops->backup_end(ops->data, op, id);
}

/* ---- rows ---------------------------------------------------------------------------------------- */

#define OPERATE (HF_CMD_OPERATE | HF_CMD_LOADING | HF_CMD_ADMIN)

static const struct hf_command member_subcommands[] = {
    {
        .name = "hf.member|list",
        .arity = 2,
        .flags = HF_CMD_LOCAL | HF_CMD_LOADING | HF_CMD_ADMIN,
        .local = local_member_list,
        .doc = {.group = HF_GROUP_HOLDFAST,
                .summary = "Returns a map for each member of the cluster, as this node knows it: id, name, role "
                           "(voter, learner), leader, self, address (peers), client-address, connected, match-index "
                           "and lag in log entries (nil where only the leader knows), level (nil until heard).",
                .since = "0.1.0",
                .complexity = "O(N) with N the number of members",
                .args = ""},
    },
    {
        .name = "hf.member|add",
        .arity = 4,
        .flags = OPERATE,
        .operate = operate_member_add,
        .doc = {.group = HF_GROUP_HOLDFAST,
                .summary = "Makes a place for a node that will join under this name and be reached by its peers at "
                           "this address.",
                .since = "0.1.0",
                .complexity = "One change of the membership, through the log",
                .args = "name:string address:string"},
    },
    {
        .name = "hf.member|remove",
        .arity = 3,
        .flags = OPERATE,
        .operate = operate_member_remove,
        .doc = {.group = HF_GROUP_HOLDFAST,
                .summary = "Removes a member; a leader hands over first, and the removed node stops. Refused where too "
                           "few voters would be left to go on.",
                .since = "0.1.0",
                .complexity = "One change of the membership, through the log",
                .args = "node:string"},
    },
    {
        .name = "hf.member|promote",
        .arity = 3,
        .flags = OPERATE,
        .operate = operate_member_promote,
        .doc = {.group = HF_GROUP_HOLDFAST,
                .summary = "Makes a learner a voter, when it has caught up.",
                .since = "0.1.0",
                .complexity = "One change of the membership, through the log",
                .args = "node:string"},
    },
    {
        .name = "hf.member|demote",
        .arity = 3,
        .flags = OPERATE,
        .operate = operate_member_demote,
        .doc = {.group = HF_GROUP_HOLDFAST,
                .summary = "Makes a voter a learner: it keeps its copy of the state and does not count any more.",
                .since = "0.1.0",
                .complexity = "One change of the membership, through the log",
                .args = "node:string"},
    },
    {
        .name = "hf.member|replace",
        .arity = 4,
        .flags = OPERATE,
        .operate = operate_member_replace,
        .doc = {.group = HF_GROUP_HOLDFAST,
                .summary = "Puts a learner that has caught up in the place of a member: promotes the new one, then "
                           "removes the old one.",
                .since = "0.1.0",
                .complexity = "Two changes of the membership, through the log",
                .args = "old:string new:string"},
    },
    HF_ROW_HELP("hf.member", HF_GROUP_HOLDFAST),
    {.name = NULL},
};

static const struct hf_command backup_subcommands[] = {
    {
        .name = "hf.backup|start",
        .arity = 2,
        .flags = OPERATE,
        .operate = operate_backup_start,
        .doc = {.group = HF_GROUP_HOLDFAST,
                .summary = "Makes a copy of this node's state for reading, and returns a map: id, index, term, bytes, "
                           "digest, level. The copy is a SQLite database and goes away when nobody reads from it.",
                .since = "0.1.0",
                .complexity = "O(N) with N the size of the state",
                .args = ""},
    },
    {
        .name = "hf.backup|read",
        .arity = 5,
        .flags = OPERATE,
        .operate = operate_backup_read,
        .doc = {.group = HF_GROUP_HOLDFAST,
                .summary = "Returns up to count bytes of a copy from an offset on; fewer at its end.",
                .since = "0.1.0",
                .complexity = "O(N) with N the bytes",
                .args = "id:integer offset:integer count:integer"},
    },
    {
        .name = "hf.backup|end",
        .arity = 3,
        .flags = OPERATE,
        .operate = operate_backup_end,
        .doc = {.group = HF_GROUP_HOLDFAST,
                .summary = "Ends reading from a copy and removes it.",
                .since = "0.1.0",
                .complexity = "O(1)",
                .args = "id:integer"},
    },
    HF_ROW_HELP("hf.backup", HF_GROUP_HOLDFAST),
    {.name = NULL},
};

const struct hf_command hf_commands_member[] = {
    {
        .name = "hf.member",
        .arity = -2,
        .flags = 0,
        .subcommands = member_subcommands,
        .doc = {.group = HF_GROUP_HOLDFAST,
                .summary = "Looks at the members of the cluster and changes them, one at a time.",
                .since = "0.1.0",
                .complexity = "Depends on the subcommand",
                .args = ""},
    },
    {
        .name = "hf.transfer",
        .arity = -1,
        .flags = OPERATE,
        .operate = operate_transfer,
        .doc = {.group = HF_GROUP_HOLDFAST,
                .summary = "Hands leadership over to a voter, the most up-to-date one when none is named.",
                .since = "0.1.0",
                .complexity = "O(1)",
                .args = "[node:string]"},
    },
    {
        .name = "hf.backup",
        .arity = -2,
        .flags = 0,
        .subcommands = backup_subcommands,
        .doc = {.group = HF_GROUP_HOLDFAST,
                .summary = "Reads a copy of the state while the node serves; `holdfast backup` writes it to a file.",
                .since = "0.1.0",
                .complexity = "Depends on the subcommand",
                .args = ""},
    },
    {.name = NULL},
};
