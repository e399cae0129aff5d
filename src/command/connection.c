/* connection.c: commands about the connection itself: PING, HELLO, AUTH, RESET and their like. LOCAL: they run on
 * the loop thread of the node the client is connected to and touch nothing but struct hf_client and hf_local_ops. */
#include "command/args.h"
#include "command/client.h"
#include "command/rows.h"

#include "base/mem.h"

static void local_ping(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    (void)cx;
    if (args->n > 2)
        hf_reply_error(out, "ERR wrong number of arguments for 'ping' command");
    else if (args->n == 2)
        hf_reply_bulk(out, args->at[1]);
    else
        hf_reply_status(out, "PONG");
}

static void local_echo(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    (void)cx;
    hf_reply_bulk(out, args->at[1]);
}

static void local_quit(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    (void)args;
    cx->client->close_after_reply = true;
    hf_reply_ok(out);
}

static void local_select(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    int64_t db;

    (void)cx;
    if (!hf_arg_int64(args, 1, &db))
        hf_reply_error(out, HF_ERR_NOT_INTEGER);
    else if (db != 0)
        hf_reply_error(out, "ERR DB index is out of range");
    else
        hf_reply_ok(out);
}

#define ERR_WRONGPASS "WRONGPASS invalid username-password pair or user is disabled."

static void local_auth(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    const struct hf_local_ops *ops = cx->ops;
    struct hf_slice user = args->n == 3 ? args->at[1] : hf_slice_str("default");

    if (args->n > 3) {
        hf_reply_error(out, HF_ERR_SYNTAX);
        return;
    }
    if (args->n == 2 && !ops->auth_required(ops->data)) {
        hf_reply_error(out, "ERR AUTH <password> called without any password configured for the default user. Are you "
                            "sure your configuration is correct?");
        return;
    }
    if (!ops->auth(ops->data, user, args->at[args->n - 1])) {
        hf_reply_error(out, ERR_WRONGPASS);
        return;
    }
    cx->client->authenticated = true;
    hf_reply_ok(out);
}

/* Redis' rule for names: printable ASCII without spaces. */
bool hf_client_name_is_valid(struct hf_slice name)
{
    for (size_t i = 0; i < name.len; i++) {
        if (name.ptr[i] < '!' || name.ptr[i] > '~')
            return false;
    }
    return true;
}

void hf_client_set_text(char **field, struct hf_slice text)
{
    char *copy = NULL;

    if (text.len != 0) {
        copy = hf_malloc(text.len + 1);
        memcpy(copy, text.ptr, text.len);
        copy[text.len] = '\0';
    }
    hf_free(*field);
    *field = copy;
}

const char *hf_client_name_error(struct hf_slice name)
{
    if (!hf_client_name_is_valid(name))
        return "ERR Client names cannot contain spaces, newlines or special characters.";
    if (name.len > HF_CLIENT_NAME_MAX)
        return "ERR Client names cannot be longer than 256 bytes.";
    return NULL;
}
_Static_assert(HF_CLIENT_NAME_MAX == 256, "the text above names the limit");

static void local_hello(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    const struct hf_local_ops *ops = cx->ops;
    struct hf_client *client = cx->client;
    const struct hf_node_status *status;
    int64_t protocol = client->protocol;
    const struct hf_slice *user = NULL, *password = NULL, *name = NULL;

    if (args->n > 1) {
        if (!hf_arg_int64(args, 1, &protocol)) {
            hf_reply_error(out, "ERR Protocol version is not an integer or out of range");
            return;
        }
        if (protocol != 2 && protocol != 3) {
            hf_reply_error(out, "NOPROTO unsupported protocol version");
            return;
        }
    }
    for (uint32_t i = 2; i < args->n; i++) {
        if (hf_arg_is(args, i, "AUTH") && i + 2 < args->n) {
            user = &args->at[i + 1];
            password = &args->at[i + 2];
            i += 2;
        } else if (hf_arg_is(args, i, "SETNAME") && i + 1 < args->n) {
            const char *error = hf_client_name_error(args->at[i + 1]);

            if (error != NULL) {
                hf_reply_error(out, error);
                return;
            }
            name = &args->at[++i];
        } else {
            hf_reply_errorf(out, "ERR Syntax error in HELLO option '%.*s'",
                            (int)(args->at[i].len < 128 ? args->at[i].len : 128), (const char *)args->at[i].ptr);
            return;
        }
    }
    if (user != NULL) {
        if (!ops->auth(ops->data, *user, *password)) {
            hf_reply_error(out, ERR_WRONGPASS);
            return;
        }
        client->authenticated = true;
    }
    if (!client->authenticated) {
        hf_reply_error(out, "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO "
                            "<proto> AUTH <user> <pass> option can be used to authenticate the client and select the "
                            "RESP protocol version at the same time");
        return;
    }
    if (name != NULL)
        hf_client_set_text(&client->name, *name);
    client->protocol = (int)protocol;

    status = ops->status(ops->data);
    hf_reply_map(out, 7);
    hf_reply_bulk_str(out, "server");
    hf_reply_bulk_str(out, "redis");
    hf_reply_bulk_str(out, "version");
    hf_reply_bulk_str(out, HF_REDIS_VERSION);
    hf_reply_bulk_str(out, "proto");
    hf_reply_int(out, protocol);
    hf_reply_bulk_str(out, "id");
    hf_reply_int(out, (int64_t)client->id);
    hf_reply_bulk_str(out, "mode");
    hf_reply_bulk_str(out, "standalone");
    hf_reply_bulk_str(out, "role");
    hf_reply_bulk_str(out, hf_node_is_leader(status) ? "master" : "replica");
    hf_reply_bulk_str(out, "modules");
    hf_reply_array(out, 0);
}

static void local_reset(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    struct hf_client *client = cx->client;

    (void)args;
    client->protocol = 2;
    client->authenticated = !cx->ops->auth_required(cx->ops->data);
    client->no_evict = false;
    client->no_touch = false;
    client->reply_mode = HF_CLIENT_REPLY_ON;
    hf_client_set_text(&client->name, hf_slice(NULL, 0));
    hf_reply_status(out, "RESET");
}

static void local_ok(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    (void)cx;
    (void)args;
    hf_reply_ok(out);
}

/* ---- rows ---------------------------------------------------------------------------------------- */

const struct hf_command hf_commands_connection[] = {
    {
        .name = "ping",
        .arity = -1,
        .flags = HF_CMD_LOCAL | HF_CMD_FAST | HF_CMD_LOADING,
        .local = local_ping,
        .doc = {.group = HF_GROUP_CONNECTION,
                .summary = "Answers PONG, or the message given.",
                .since = "1.0.0",
                .complexity = "O(1)",
                .args = "[message:string]"},
    },
    {
        .name = "echo",
        .arity = 2,
        .flags = HF_CMD_LOCAL | HF_CMD_FAST | HF_CMD_LOADING,
        .local = local_echo,
        .doc = {.group = HF_GROUP_CONNECTION,
                .summary = "Answers the message given.",
                .since = "1.0.0",
                .complexity = "O(1)",
                .args = "message:string"},
    },
    {
        .name = "hello",
        .arity = -1,
        .flags = HF_CMD_LOCAL | HF_CMD_FAST | HF_CMD_NO_AUTH | HF_CMD_LOADING | HF_CMD_FRAMING,
        .local = local_hello,
        .doc = {.group = HF_GROUP_CONNECTION,
                .summary = "Shakes hands: chooses the protocol version, authenticates, names the connection.",
                .since = "6.0.0",
                .complexity = "O(1)",
                .args = "[protover:integer [AUTH (username:string password:string)] [SETNAME clientname:string]]"},
    },
    {
        .name = "auth",
        .arity = -2,
        .flags = HF_CMD_LOCAL | HF_CMD_FAST | HF_CMD_NO_AUTH | HF_CMD_LOADING,
        .local = local_auth,
        .doc = {.group = HF_GROUP_CONNECTION,
                .summary = "Authenticates the connection.",
                .since = "1.0.0",
                .complexity = "O(1)",
                .args = "[username:string] password:string"},
    },
    {
        .name = "select",
        .arity = 2,
        .flags = HF_CMD_LOCAL | HF_CMD_FAST | HF_CMD_LOADING,
        .local = local_select,
        .doc = {.group = HF_GROUP_CONNECTION,
                .summary = "Chooses the database; there is one, number 0.",
                .since = "1.0.0",
                .complexity = "O(1)",
                .args = "index:integer"},
    },
    {
        .name = "quit",
        .arity = -1,
        .flags = HF_CMD_LOCAL | HF_CMD_FAST | HF_CMD_NO_AUTH | HF_CMD_LOADING,
        .local = local_quit,
        .doc = {.group = HF_GROUP_CONNECTION,
                .summary = "Closes the connection.",
                .since = "1.0.0",
                .complexity = "O(1)",
                .args = ""},
    },
    {
        .name = "reset",
        .arity = 1,
        .flags = HF_CMD_LOCAL | HF_CMD_FAST | HF_CMD_NO_AUTH | HF_CMD_LOADING | HF_CMD_FRAMING,
        .local = local_reset,
        .doc = {.group = HF_GROUP_CONNECTION,
                .summary = "Resets the connection to its first state.",
                .since = "6.2.0",
                .complexity = "O(1)",
                .args = ""},
    },
    {
        .name = "readonly",
        .arity = 1,
        .flags = HF_CMD_LOCAL | HF_CMD_FAST | HF_CMD_LOADING,
        .local = local_ok,
        .doc = {.group = HF_GROUP_CONNECTION,
                .summary = "Accepted for clients that send it; every node answers reads as it is.",
                .since = "3.0.0",
                .complexity = "O(1)",
                .args = ""},
    },
    {
        .name = "readwrite",
        .arity = 1,
        .flags = HF_CMD_LOCAL | HF_CMD_FAST | HF_CMD_LOADING,
        .local = local_ok,
        .doc = {.group = HF_GROUP_CONNECTION,
                .summary = "Accepted for clients that send it.",
                .since = "3.0.0",
                .complexity = "O(1)",
                .args = ""},
    },
    {
        .name = "client",
        .arity = -2,
        .flags = 0,
        .subcommands = hf_subcommands_client,
        .doc = {.group = HF_GROUP_CONNECTION,
                .summary = "Looks at client connections and changes them.",
                .since = "2.4.0",
                .complexity = "Depends on the subcommand",
                .args = ""},
    },
    {.name = NULL},
};
