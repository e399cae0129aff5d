/* connection_client.c: CLIENT and its subcommands: the connections of this node, listed, named, closed. */
#include "command/args.h"
#include "command/client.h"
#include "command/rows.h"

#include "base/util.h"

#include <inttypes.h>

static const char *text_or_empty(const char *s)
{
    return s != NULL ? s : "";
}

/* One line of CLIENT LIST. There is no boot clock here; the client that asks has just sent a command, so its
 * last_command_ms is the present. */
static void put_client_line(struct hf_buf *b, const struct hf_client *c, uint64_t now_ms)
{
    uint64_t age_ms = now_ms > c->connected_ms ? now_ms - c->connected_ms : 0;
    uint64_t idle_ms = now_ms > c->last_command_ms ? now_ms - c->last_command_ms : 0;
    char flags[8];
    size_t n = 0;

    if (c->close_after_reply)
        flags[n++] = 'c';
    if (c->killed)
        flags[n++] = 'A';
    if (c->no_evict)
        flags[n++] = 'e';
    if (c->no_touch)
        flags[n++] = 'T';
    if (n == 0)
        flags[n++] = 'N';
    flags[n] = '\0';
    hf_buf_printf(b,
                  "id=%" PRIu64 " addr=%s laddr=%s fd=%d name=%s age=%" PRIu64 " idle=%" PRIu64
                  " flags=%s db=0 sub=0 psub=0 ssub=0 multi=-1 qbuf=%" PRIu64 " qbuf-free=0 argv-mem=0 multi-mem=0 "
                  "rbs=0 rbp=0 obl=0 oll=%d omem=%" PRIu64 " tot-mem=%" PRIu64
                  " events=r cmd=%s user=default redir=-1 resp=%d lib-name=%s lib-ver=%s\n",
                  c->id, c->addr, c->laddr, c->fd, text_or_empty(c->name), age_ms / 1000, idle_ms / 1000, flags,
                  c->query_bytes, c->output_bytes != 0, c->output_bytes,
                  c->query_bytes + c->output_bytes + (uint64_t)sizeof(*c),
                  c->last_command != NULL ? c->last_command : "NULL", c->protocol, text_or_empty(c->lib_name),
                  text_or_empty(c->lib_ver));
}

static void local_id(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    (void)args;
    hf_reply_int(out, (int64_t)cx->client->id);
}

static void local_getname(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    (void)args;
    if (cx->client->name != NULL)
        hf_reply_bulk_str(out, cx->client->name);
    else
        hf_reply_null(out);
}

static void local_setname(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    const char *error = hf_client_name_error(args->at[2]);

    if (error != NULL) {
        hf_reply_error(out, error);
        return;
    }
    hf_client_set_text(&cx->client->name, args->at[2]);
    hf_reply_ok(out);
}

static void local_setinfo(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    struct hf_slice value = args->at[3];
    bool is_name = hf_arg_is(args, 2, "LIB-NAME");

    if (!is_name && !hf_arg_is(args, 2, "LIB-VER")) {
        hf_reply_errorf(out, "ERR Unrecognized option '%.*s'", (int)(args->at[2].len < 128 ? args->at[2].len : 128),
                        (const char *)args->at[2].ptr);
        return;
    }
    if (!hf_client_name_is_valid(value)) {
        hf_reply_errorf(out, "ERR %s cannot contain spaces, newlines or special characters.",
                        is_name ? "lib-name" : "lib-ver");
        return;
    }
    if (value.len > HF_CLIENT_NAME_MAX) {
        hf_reply_errorf(out, "ERR %s cannot be longer than %d bytes.", is_name ? "lib-name" : "lib-ver",
                        HF_CLIENT_NAME_MAX);
        return;
    }
    hf_client_set_text(is_name ? &cx->client->lib_name : &cx->client->lib_ver, value);
    hf_reply_ok(out);
}

static void local_info(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    struct hf_buf text = {0};

    (void)args;
    put_client_line(&text, cx->client, cx->client->last_command_ms);
    hf_reply_verbatim(out, hf_buf_slice(&text));
    hf_buf_free(&text);
}

enum client_type { CLIENT_TYPE_ANY, CLIENT_TYPE_NORMAL, CLIENT_TYPE_OTHER, CLIENT_TYPE_UNKNOWN };

/* All connections here are of type normal; the other types are known and match none. */
static enum client_type parse_type(struct hf_slice s)
{
    if (hf_slice_is(s, "normal"))
        return CLIENT_TYPE_NORMAL;
    if (hf_slice_is(s, "master") || hf_slice_is(s, "replica") || hf_slice_is(s, "slave") || hf_slice_is(s, "pubsub"))
        return CLIENT_TYPE_OTHER;
    return CLIENT_TYPE_UNKNOWN;
}

static void reply_unknown_type(struct hf_reply *out, struct hf_slice s)
{
    hf_reply_errorf(out, "ERR Unknown client type '%.*s'", (int)(s.len < 128 ? s.len : 128), (const char *)s.ptr);
}

/* ---- CLIENT LIST --------------------------------------------------------------------------------- */

struct list_request {
    struct hf_buf *text;
    const struct hf_args *args; /* ids from args->at[3] on, when has_ids */
    bool has_ids;
    uint64_t now_ms;
};

static bool list_client(void *arg, struct hf_client *c)
{
    struct list_request *list = arg;
    bool is_wanted = !list->has_ids;

    for (uint32_t i = 3; !is_wanted && i < list->args->n; i++) {
        int64_t id;

        is_wanted = hf_arg_int64(list->args, i, &id) && (uint64_t)id == c->id;
    }
    if (is_wanted)
        put_client_line(list->text, c, list->now_ms);
    return true;
}

static void local_list(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    struct hf_buf text = {0};
    struct list_request list = {.text = &text, .args = args, .now_ms = cx->client->last_command_ms};
    enum client_type type = CLIENT_TYPE_ANY;

    if (args->n == 4 && hf_arg_is(args, 2, "TYPE")) {
        type = parse_type(args->at[3]);
        if (type == CLIENT_TYPE_UNKNOWN) {
            reply_unknown_type(out, args->at[3]);
            return;
        }
    } else if (args->n > 3 && hf_arg_is(args, 2, "ID")) {
        list.has_ids = true;
        for (uint32_t i = 3; i < args->n; i++) {
            int64_t id;

            if (!hf_arg_int64(args, i, &id)) {
                hf_reply_error(out, "ERR Invalid client ID");
                return;
            }
        }
    } else if (args->n != 2) {
        hf_reply_error(out, HF_ERR_SYNTAX);
        return;
    }
    if (type != CLIENT_TYPE_OTHER)
        cx->ops->clients(cx->ops->data, list_client, &list);
    hf_reply_verbatim(out, hf_buf_slice(&text));
    hf_buf_free(&text);
}

/* ---- CLIENT KILL --------------------------------------------------------------------------------- */

struct kill_request {
    struct hf_client *self;
    bool has_id, has_max_age, skip_self;
    int64_t id, max_age_s;
    const struct hf_slice *addr, *laddr;
    enum client_type type;
    uint64_t now_ms;
    int64_t n_killed;
};

static bool kill_client(void *arg, struct hf_client *c)
{
    struct kill_request *kill = arg;
    uint64_t age_ms = kill->now_ms > c->connected_ms ? kill->now_ms - c->connected_ms : 0;

    if (kill->addr != NULL && !hf_slice_eq(*kill->addr, hf_slice_str(c->addr)))
        return true;
    if (kill->laddr != NULL && !hf_slice_eq(*kill->laddr, hf_slice_str(c->laddr)))
        return true;
    if (kill->has_id && c->id != (uint64_t)kill->id)
        return true;
    if (kill->has_max_age && age_ms / 1000 < (uint64_t)kill->max_age_s)
        return true;
    if (kill->type == CLIENT_TYPE_OTHER || c->killed)
        return true;
    if (c == kill->self) {
        if (kill->skip_self)
            return true;
        /* The one that asks still gets its answer. */
        c->close_after_reply = true;
    } else {
        c->killed = true;
    }
    kill->n_killed++;
    return true;
}

/* False when the filters are wrong; the error is in out. */
static bool parse_kill(struct kill_request *kill, const struct hf_args *args, struct hf_reply *out)
{
    for (uint32_t i = 2; i < args->n; i += 2) {
        const struct hf_slice *value;

        if (i + 1 == args->n)
            break;
        value = &args->at[i + 1];
        if (hf_arg_is(args, i, "ID")) {
            if (!hf_arg_int64(args, i + 1, &kill->id) || kill->id < 1) {
                hf_reply_error(out, "ERR client-id should be greater than 0");
                return false;
            }
            kill->has_id = true;
        } else if (hf_arg_is(args, i, "MAXAGE")) {
            if (!hf_arg_int64(args, i + 1, &kill->max_age_s) || kill->max_age_s < 1) {
                hf_reply_error(out, "ERR maxage should be greater than 0");
                return false;
            }
            kill->has_max_age = true;
        } else if (hf_arg_is(args, i, "TYPE")) {
            kill->type = parse_type(*value);
            if (kill->type == CLIENT_TYPE_UNKNOWN) {
                reply_unknown_type(out, *value);
                return false;
            }
        } else if (hf_arg_is(args, i, "ADDR")) {
            kill->addr = value;
        } else if (hf_arg_is(args, i, "LADDR")) {
            kill->laddr = value;
        } else if (hf_arg_is(args, i, "USER")) {
            if (!hf_slice_eq(*value, hf_slice_str("default"))) {
                hf_reply_errorf(out, "ERR No such user '%.*s'", (int)(value->len < 128 ? value->len : 128),
                                (const char *)value->ptr);
                return false;
            }
        } else if (hf_arg_is(args, i, "SKIPME")) {
            int skip = hf_arg_switch(args, i + 1, "yes", "no");

            if (skip < 0)
                break;
            kill->skip_self = skip;
        } else {
            break;
        }
        if (i + 2 == args->n)
            return true;
    }
    hf_reply_error(out, HF_ERR_SYNTAX);
    return false;
}

static void local_kill(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    bool is_old_form = args->n == 3;
    struct kill_request kill = {.self = cx->client, .now_ms = cx->client->last_command_ms};

    if (is_old_form) {
        kill.addr = &args->at[2];
    } else {
        kill.skip_self = true;
        if (!parse_kill(&kill, args, out))
            return;
    }
    cx->ops->clients(cx->ops->data, kill_client, &kill);
    if (!is_old_form)
        hf_reply_int(out, kill.n_killed);
    else if (kill.n_killed != 0)
        hf_reply_ok(out);
    else
        hf_reply_error(out, "ERR No such client");
}

/* ---- switches ------------------------------------------------------------------------------------ */

static void reply_switch(struct hf_reply *out, const struct hf_args *args, bool *field)
{
    int on = hf_arg_switch(args, 2, "ON", "OFF");

    if (on < 0) {
        hf_reply_error(out, HF_ERR_SYNTAX);
        return;
    }
    *field = on;
    hf_reply_ok(out);
}

static void local_no_evict(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    reply_switch(out, args, &cx->client->no_evict);
}

static void local_no_touch(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    reply_switch(out, args, &cx->client->no_touch);
}

static void local_reply(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    if (hf_arg_is(args, 2, "ON")) {
        cx->client->reply_mode = HF_CLIENT_REPLY_ON;
        hf_reply_ok(out);
    } else if (hf_arg_is(args, 2, "OFF")) {
        cx->client->reply_mode = HF_CLIENT_REPLY_OFF;
    } else if (hf_arg_is(args, 2, "SKIP")) {
        if (cx->client->reply_mode != HF_CLIENT_REPLY_OFF)
            cx->client->reply_mode = HF_CLIENT_REPLY_SKIP;
    } else {
        hf_reply_error(out, HF_ERR_SYNTAX);
    }
}

/* ---- rows ---------------------------------------------------------------------------------------- */

const struct hf_command hf_subcommands_client[] = {
    {
        .name = "client|id",
        .arity = 2,
        .flags = HF_CMD_LOCAL | HF_CMD_LOADING | HF_CMD_FAST,
        .local = local_id,
        .doc = {.group = HF_GROUP_CONNECTION,
                .summary = "Returns the id of this connection.",
                .since = "5.0.0",
                .complexity = "O(1)",
                .args = ""},
    },
    {
        .name = "client|getname",
        .arity = 2,
        .flags = HF_CMD_LOCAL | HF_CMD_LOADING | HF_CMD_FAST,
        .local = local_getname,
        .doc = {.group = HF_GROUP_CONNECTION,
                .summary = "Returns the name of this connection.",
                .since = "2.6.9",
                .complexity = "O(1)",
                .args = ""},
    },
    {
        .name = "client|setname",
        .arity = 3,
        .flags = HF_CMD_LOCAL | HF_CMD_LOADING | HF_CMD_FAST,
        .local = local_setname,
        .doc = {.group = HF_GROUP_CONNECTION,
                .summary = "Names this connection; an empty name removes it.",
                .since = "2.6.9",
                .complexity = "O(1)",
                .args = "connection-name:string"},
    },
    {
        .name = "client|setinfo",
        .arity = 4,
        .flags = HF_CMD_LOCAL | HF_CMD_LOADING | HF_CMD_FAST,
        .local = local_setinfo,
        .doc = {.group = HF_GROUP_CONNECTION,
                .summary = "Tells the name or version of the client library.",
                .since = "7.2.0",
                .complexity = "O(1)",
                .args = "(LIB-NAME libname:string | LIB-VER libver:string)"},
    },
    {
        .name = "client|info",
        .arity = 2,
        .flags = HF_CMD_LOCAL | HF_CMD_LOADING,
        .local = local_info,
        .doc = {.group = HF_GROUP_CONNECTION,
                .summary = "Describes this connection.",
                .since = "6.2.0",
                .complexity = "O(1)",
                .args = ""},
    },
    {
        .name = "client|list",
        .arity = -2,
        .flags = HF_CMD_LOCAL | HF_CMD_LOADING | HF_CMD_ADMIN,
        .local = local_list,
        .doc = {.group = HF_GROUP_CONNECTION,
                .summary = "Describes the connections of this node.",
                .since = "2.4.0",
                .complexity = "O(N) with N the number of connections",
                .args = "[TYPE (NORMAL | MASTER | REPLICA | PUBSUB)] [ID client-id:integer...]"},
    },
    {
        .name = "client|kill",
        .arity = -3,
        .flags = HF_CMD_LOCAL | HF_CMD_LOADING | HF_CMD_ADMIN,
        .local = local_kill,
        .doc = {.group = HF_GROUP_CONNECTION,
                .summary = "Closes connections of this node.",
                .since = "2.4.0",
                .complexity = "O(N) with N the number of connections",
                .args = "(old-format:string | [ID client-id:integer] [TYPE (NORMAL | MASTER | REPLICA | PUBSUB)] [USER "
                        "username:string] [ADDR address:string] [LADDR address:string] [SKIPME yes-no:string] [MAXAGE "
                        "seconds:integer])"},
    },
    {
        .name = "client|no-evict",
        .arity = 3,
        .flags = HF_CMD_LOCAL | HF_CMD_LOADING | HF_CMD_ADMIN,
        .local = local_no_evict,
        .doc = {.group = HF_GROUP_CONNECTION,
                .summary = "Accepted and shown in CLIENT LIST; connections are not evicted by size here.",
                .since = "7.0.0",
                .complexity = "O(1)",
                .args = "(ON | OFF)"},
    },
    {
        .name = "client|no-touch",
        .arity = 3,
        .flags = HF_CMD_LOCAL | HF_CMD_LOADING | HF_CMD_FAST,
        .local = local_no_touch,
        .doc = {.group = HF_GROUP_CONNECTION,
                .summary = "Accepted and shown in CLIENT LIST; access times are not kept.",
                .since = "7.2.0",
                .complexity = "O(1)",
                .args = "(ON | OFF)"},
    },
    {
        .name = "client|reply",
        .arity = 3,
        .flags = HF_CMD_LOCAL | HF_CMD_LOADING | HF_CMD_FAST | HF_CMD_FRAMING,
        .local = local_reply,
        .doc = {.group = HF_GROUP_CONNECTION,
                .summary = "Switches replies to this connection on or off, or skips the next one.",
                .since = "3.2.0",
                .complexity = "O(1)",
                .args = "(ON | OFF | SKIP)"},
    },
    HF_ROW_HELP("client", HF_GROUP_CONNECTION),
    {.name = NULL},
};
