/* server.c: commands about the node and the cluster. LOCAL ones ask the node through hf_local_ops on the loop
 * thread; READ|NOGATE ones run on this node's state thread, because they tell of the store. INFO is in info.c, COMMAND
 * in introspect.c. */
#include "command/args.h"
#include "command/client.h"
#include "command/rows.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* ---- CONFIG -------------------------------------------------------------------------------------- */

struct config_list {
    struct hf_reply *out;
    char **names; /* told already: several patterns may match one name */
    uint32_t n, cap;
};

static void tell_config(void *arg, const char *name, const char *value)
{
    struct config_list *list = arg;

    for (uint32_t i = 0; i < list->n; i++) {
        if (strcmp(list->names[i], name) == 0)
            return;
    }
    if (list->n == list->cap) {
        list->cap = list->cap ? 2 * list->cap : 16;
        list->names = hf_realloc(list->names, list->cap * sizeof(list->names[0]));
    }
    list->names[list->n++] = hf_strdup(name);
    hf_reply_bulk_str(list->out, name);
    hf_reply_bulk_str(list->out, value);
}

static void local_config_get(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    struct config_list list = {.out = out};
    size_t mark = hf_reply_begin(out, HF_REPLY_MAP);

    for (uint32_t i = 2; i < args->n; i++)
        cx->ops->config_get(cx->ops->data, args->at[i], tell_config, &list);
    hf_reply_end(out, mark, list.n);
    for (uint32_t i = 0; i < list.n; i++)
        hf_free(list.names[i]);
    hf_free(list.names);
}

static void operate_config_set(struct hf_operation *op, const struct hf_operator_ops *ops, const struct hf_args *args)
{
    uint32_t n = (args->n - 2) / 2;
    struct hf_slice *names, *values;

    if (args->n % 2 != 0) {
        hf_reply_error(&op->reply, HF_ERR_SYNTAX);
        hf_operation_done(op);
        return;
    }
    names = hf_malloc(n * sizeof(names[0]));
    values = hf_malloc(n * sizeof(values[0]));
    for (uint32_t i = 0; i < n; i++) {
        names[i] = args->at[2 + 2 * i];
        values[i] = args->at[3 + 2 * i];
    }
    ops->config_set(ops->data, op, names, values, n);
    hf_free(names);
    hf_free(values);
}

static void local_config_resetstat(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    (void)args;
    cx->ops->config_resetstat(cx->ops->data);
    hf_reply_ok(out);
}

static void local_config_rewrite(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    (void)cx;
    (void)args;
    hf_reply_ok(out);
}

/* ---- time, role, replicas ------------------------------------------------------------------------ */

static void local_time(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    uint64_t us = cx->ops->wall_us(cx->ops->data);
    char text[24];

    (void)args;
    hf_reply_array(out, 2);
    snprintf(text, sizeof(text), "%" PRIu64, us / 1000000);
    hf_reply_bulk_str(out, text);
    snprintf(text, sizeof(text), "%" PRIu64, us % 1000000);
    hf_reply_bulk_str(out, text);
}

static void read_lastsave(struct hf_read_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    (void)args;
    hf_reply_int(out, cx->status != NULL ? cx->status->last_commit_ms / 1000 : 0);
}

static void local_role(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    const struct hf_node_status *status = cx->ops->status(cx->ops->data);
    struct hf_host_port at;
    char text[24];

    (void)args;
    if (!hf_node_is_leader(status)) {
        bool is_known = hf_host_port_split(status->leader_client_address, &at);

        hf_reply_array(out, 5);
        hf_reply_bulk_str(out, "slave");
        hf_reply_bulk(out, at.host);
        hf_reply_int(out, at.port);
        hf_reply_bulk_str(out, is_known ? "connected" : "connect");
        hf_reply_int(out, (int64_t)status->applied_index);
        return;
    }
    hf_reply_array(out, 3);
    hf_reply_bulk_str(out, "master");
    hf_reply_int(out, (int64_t)status->commit_index);
    hf_reply_array(out, status->n_peers);
    for (uint32_t i = 0; i < status->n_peers; i++) {
        (void)hf_host_port_split(hf_peer_address(&status->peers[i]), &at);
        hf_reply_array(out, 3);
        hf_reply_bulk(out, at.host);
        snprintf(text, sizeof(text), "%d", at.port);
        hf_reply_bulk_str(out, text);
        snprintf(text, sizeof(text), "%" PRIu64, status->peers[i].match_index);
        hf_reply_bulk_str(out, text);
    }
}

/* Every acknowledged write is on a majority already; the number tells how many followers hold all of them. */
static void local_wait(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    int64_t n, timeout_ms;

    if (!hf_arg_int64(args, 1, &n))
        hf_reply_error(out, HF_ERR_NOT_INTEGER);
    else if (!hf_arg_int64(args, 2, &timeout_ms))
        hf_reply_error(out, "ERR timeout is not an integer or out of range");
    else if (timeout_ms < 0)
        hf_reply_error(out, "ERR timeout is negative");
    else
        hf_reply_int(out, cx->ops->replicas_in_sync(cx->ops->data));
}

static void local_shutdown(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    bool is_abort = false, is_save = false, is_nosave = false, is_other = false;

    for (uint32_t i = 1; i < args->n; i++) {
        if (hf_arg_is(args, i, "NOSAVE")) {
            is_nosave = true;
        } else if (hf_arg_is(args, i, "SAVE")) {
            is_save = true;
        } else if (hf_arg_is(args, i, "NOW") || hf_arg_is(args, i, "FORCE")) {
            is_other = true;
        } else if (hf_arg_is(args, i, "ABORT")) {
            is_abort = true;
        } else {
            hf_reply_error(out, HF_ERR_SYNTAX);
            return;
        }
    }
    if ((is_abort && (is_save || is_nosave || is_other)) || (is_save && is_nosave)) {
        hf_reply_error(out, HF_ERR_SYNTAX);
        return;
    }
    if (is_abort) {
        hf_reply_error(out, "ERR No shutdown in progress.");
        return;
    }
    /* No reply: the connection closes when the node is down. */
    cx->ops->shutdown(cx->ops->data);
}

/* ---- DEBUG --------------------------------------------------------------------------------------- */

static bool debug_refused(struct hf_local_ctx *cx, struct hf_reply *out)
{
    if (cx->ops->debug_allowed(cx->ops->data))
        return false;
    hf_reply_error(out, "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you "
                        "can run it from a local connection, otherwise you need to set this option in the "
                        "configuration file, and then restart the server.");
    return true;
}

#define SLEEP_SECONDS_MAX 600

/* Holds the loop thread, as a stalled process would: heartbeats stop as well. That is what it is for. */
static void local_debug_sleep(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    char text[32] = "", *end;
    struct timespec ts;
    double seconds;

    if (debug_refused(cx, out))
        return;
    if (args->at[2].len < sizeof(text))
        memcpy(text, args->at[2].ptr, args->at[2].len);
    seconds = strtod(text, &end);
    if (end == text || *end != '\0' || !(seconds >= 0 && seconds <= SLEEP_SECONDS_MAX)) {
        hf_reply_error(out, HF_ERR_NOT_FLOAT);
        return;
    }
    ts.tv_sec = (time_t)seconds;
    ts.tv_nsec = (long)((seconds - (double)ts.tv_sec) * 1e9);
    nanosleep(&ts, NULL);
    hf_reply_ok(out);
}

/* Accepted for test suites that send it. Expiry is part of the log here and cannot be stopped on one node. */
static void local_debug_accept(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    (void)args;
    if (!debug_refused(cx, out))
        hf_reply_ok(out);
}

static void read_debug_digest(struct hf_read_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    char text[HF_DIGEST_TEXT_BYTES];

    (void)args;
    hf_digest_text(hf_store_meta(cx->store), text);
    hf_reply_status(out, text);
}

/* ---- small ones ---------------------------------------------------------------------------------- */

/* What a row costs beside its key and value: the row cache's slot and SQLite's cell and index, roughly. */
#define ROW_OVERHEAD_BYTES 96

static void read_memory_usage(struct hf_read_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    struct hf_row row;
    int64_t samples;

    if (args->n == 5 && hf_arg_is(args, 3, "SAMPLES")) {
        if (!hf_arg_int64(args, 4, &samples)) {
            hf_reply_error(out, HF_ERR_NOT_INTEGER);
            return;
        }
        if (samples < 0) {
            hf_reply_error(out, HF_ERR_SYNTAX);
            return;
        }
    } else if (args->n != 3) {
        hf_reply_error(out, HF_ERR_SYNTAX);
        return;
    }
    if (hf_read_row(cx, args->at[2], &row))
        hf_reply_int(out, (int64_t)(args->at[2].len + row.value.len + ROW_OVERHEAD_BYTES));
    else
        hf_reply_null(out);
}

static void local_empty_array(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    (void)cx;
    (void)args;
    hf_reply_array(out, 0);
}

static void local_slowlog_get(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    int64_t count;

    (void)cx;
    if (args->n > 3)
        hf_reply_error(out, "ERR wrong number of arguments for 'slowlog|get' command");
    else if (args->n == 3 && (!hf_arg_int64(args, 2, &count) || count < -1))
        hf_reply_error(out, "ERR count should be greater than or equal to -1");
    else
        hf_reply_array(out, 0);
}

static void local_zero(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    (void)cx;
    (void)args;
    hf_reply_int(out, 0);
}

static void local_ok(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    (void)cx;
    (void)args;
    hf_reply_ok(out);
}

static void local_lolwut(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    (void)cx;
    (void)args;
    hf_reply_verbatim(out, hf_slice_str("Holdfast: where kelp meets rock.\nHoldfast ver. " HF_VERSION "\n"));
}

/* ---- rows ---------------------------------------------------------------------------------------- */

static const struct hf_command config_subcommands[] = {
    {
        .name = "config|get",
        .arity = -3,
        .flags = HF_CMD_LOCAL | HF_CMD_LOADING | HF_CMD_ADMIN | HF_CMD_FRAMING,
        .local = local_config_get,
        .doc = {.group = HF_GROUP_SERVER,
                .summary = "Returns the settings whose names match the patterns.",
                .since = "2.0.0",
                .complexity = "O(N) with N the number of settings",
                .args = "parameter:string..."},
    },
    {
        .name = "config|set",
        .arity = -4,
        .flags = HF_CMD_OPERATE | HF_CMD_LOADING | HF_CMD_ADMIN,
        .operate = operate_config_set,
        .doc = {.group = HF_GROUP_SERVER,
                .summary = "Changes settings while the node runs, for good: those of this node alone in its data "
                           "directory, those of the whole cluster on every node.",
                .since = "2.0.0",
                .complexity = "O(N) with N the number of settings given",
                .args = "(parameter:string value:string)..."},
    },
    {
        .name = "config|resetstat",
        .arity = 2,
        .flags = HF_CMD_LOCAL | HF_CMD_LOADING | HF_CMD_ADMIN,
        .local = local_config_resetstat,
        .doc = {.group = HF_GROUP_SERVER,
                .summary = "Sets the figures of this node back to zero.",
                .since = "2.0.0",
                .complexity = "O(N) with N the number of figures",
                .args = ""},
    },
    {
        .name = "config|rewrite",
        .arity = 2,
        .flags = HF_CMD_LOCAL | HF_CMD_LOADING | HF_CMD_ADMIN,
        .local = local_config_rewrite,
        .doc = {.group = HF_GROUP_SERVER,
                .summary = "Does nothing and succeeds: what CONFIG SET changes is kept already.",
                .since = "2.8.0",
                .complexity = "O(1)",
                .args = ""},
    },
    HF_ROW_HELP("config", HF_GROUP_SERVER),
    {.name = NULL},
};

static const struct hf_command debug_subcommands[] = {
    {
        .name = "debug|sleep",
        .arity = 3,
        .flags = HF_CMD_LOCAL | HF_CMD_LOADING | HF_CMD_ADMIN,
        .local = local_debug_sleep,
        .doc = {.group = HF_GROUP_SERVER,
                .summary = "Stops the loop of this node for a time (only where DEBUG is allowed).",
                .since = "1.0.0",
                .complexity = "O(1)",
                .args = "seconds:double"},
    },
    {
        .name = "debug|set-active-expire",
        .arity = 3,
        .flags = HF_CMD_LOCAL | HF_CMD_LOADING | HF_CMD_ADMIN,
        .local = local_debug_accept,
        .doc = {.group = HF_GROUP_SERVER,
                .summary = "Accepted without effect (only where DEBUG is allowed).",
                .since = "1.0.0",
                .complexity = "O(1)",
                .args = "flag:integer"},
    },
    {
        .name = "debug|digest",
        .arity = 2,
        .flags = HF_CMD_READ | HF_CMD_NOGATE | HF_CMD_LOADING | HF_CMD_ADMIN,
        .read = read_debug_digest,
        .doc = {.group = HF_GROUP_SERVER,
                .summary = "Returns the digest of this node's state.",
                .since = "1.0.0",
                .complexity = "O(1)",
                .args = ""},
    },
    HF_ROW_HELP("debug", HF_GROUP_SERVER),
    {.name = NULL},
};

static const struct hf_command memory_subcommands[] = {
    {
        .name = "memory|usage",
        .arity = -3,
        .flags = HF_CMD_READ,
        .keys = HF_KEY_AT_2,
        .read = read_memory_usage,
        .doc = {.group = HF_GROUP_SERVER,
                .summary = "Estimates the bytes that a key takes.",
                .since = "4.0.0",
                .complexity = "O(1)",
                .args = "key:key [SAMPLES count:integer]"},
    },
    HF_ROW_HELP("memory", HF_GROUP_SERVER),
    {.name = NULL},
};

static const struct hf_command module_subcommands[] = {
    {
        .name = "module|list",
        .arity = 2,
        .flags = HF_CMD_LOCAL | HF_CMD_LOADING | HF_CMD_ADMIN,
        .local = local_empty_array,
        .doc = {.group = HF_GROUP_SERVER,
                .summary = "Returns an empty list: there are no modules.",
                .since = "4.0.0",
                .complexity = "O(1)",
                .args = ""},
    },
    HF_ROW_HELP("module", HF_GROUP_SERVER),
    {.name = NULL},
};

static const struct hf_command slowlog_subcommands[] = {
    {
        .name = "slowlog|get",
        .arity = -2,
        .flags = HF_CMD_LOCAL | HF_CMD_LOADING | HF_CMD_ADMIN,
        .local = local_slowlog_get,
        .doc = {.group = HF_GROUP_SERVER,
                .summary = "Returns an empty list: no slow log is kept; see the latency figures of INFO and /metrics.",
                .since = "2.2.12",
                .complexity = "O(1)",
                .args = "[count:integer]"},
    },
    {
        .name = "slowlog|len",
        .arity = 2,
        .flags = HF_CMD_LOCAL | HF_CMD_LOADING | HF_CMD_ADMIN,
        .local = local_zero,
        .doc = {.group = HF_GROUP_SERVER, .summary = "Returns 0.", .since = "2.2.12", .complexity = "O(1)", .args = ""},
    },
    {
        .name = "slowlog|reset",
        .arity = 2,
        .flags = HF_CMD_LOCAL | HF_CMD_LOADING | HF_CMD_ADMIN,
        .local = local_ok,
        .doc = {.group = HF_GROUP_SERVER,
                .summary = "Accepted without effect.",
                .since = "2.2.12",
                .complexity = "O(1)",
                .args = ""},
    },
    HF_ROW_HELP("slowlog", HF_GROUP_SERVER),
    {.name = NULL},
};

static const struct hf_command latency_subcommands[] = {
    {
        .name = "latency|latest",
        .arity = 2,
        .flags = HF_CMD_LOCAL | HF_CMD_LOADING | HF_CMD_ADMIN,
        .local = local_empty_array,
        .doc = {.group = HF_GROUP_SERVER,
                .summary = "Returns an empty list: see the latency figures of INFO and /metrics.",
                .since = "2.8.13",
                .complexity = "O(1)",
                .args = ""},
    },
    {
        .name = "latency|history",
        .arity = 3,
        .flags = HF_CMD_LOCAL | HF_CMD_LOADING | HF_CMD_ADMIN,
        .local = local_empty_array,
        .doc = {.group = HF_GROUP_SERVER,
                .summary = "Returns an empty list.",
                .since = "2.8.13",
                .complexity = "O(1)",
                .args = "event:string"},
    },
    {
        .name = "latency|reset",
        .arity = -2,
        .flags = HF_CMD_LOCAL | HF_CMD_LOADING | HF_CMD_ADMIN,
        .local = local_zero,
        .doc = {.group = HF_GROUP_SERVER,
                .summary = "Returns 0.",
                .since = "2.8.13",
                .complexity = "O(1)",
                .args = "[event:string...]"},
    },
    HF_ROW_HELP("latency", HF_GROUP_SERVER),
    {.name = NULL},
};

const struct hf_command hf_commands_server[] = {
    {
        .name = "info",
        .arity = -1,
        .flags = HF_CMD_READ | HF_CMD_NOGATE | HF_CMD_LOADING,
        .read = hf_read_info,
        .doc = {.group = HF_GROUP_SERVER,
                .summary = "Tells about this node: server, clients, memory, replication, raft and more.",
                .since = "1.0.0",
                .complexity = "O(1)",
                .args = "[section:string...]"},
    },
    {
        .name = "config",
        .arity = -2,
        .flags = 0,
        .subcommands = config_subcommands,
        .doc = {.group = HF_GROUP_SERVER,
                .summary = "Looks at the settings of this node and changes them.",
                .since = "2.0.0",
                .complexity = "Depends on the subcommand",
                .args = ""},
    },
    {
        .name = "time",
        .arity = 1,
        .flags = HF_CMD_LOCAL | HF_CMD_LOADING | HF_CMD_FAST,
        .local = local_time,
        .doc = {.group = HF_GROUP_SERVER,
                .summary = "Returns the wall clock of this node in seconds and microseconds.",
                .since = "2.6.0",
                .complexity = "O(1)",
                .args = ""},
    },
    {
        .name = "lastsave",
        .arity = 1,
        .flags = HF_CMD_READ | HF_CMD_NOGATE | HF_CMD_LOADING | HF_CMD_FAST,
        .read = read_lastsave,
        .doc = {.group = HF_GROUP_SERVER,
                .summary = "Returns the Unix time of the last durable commit of this node's state database.",
                .since = "1.0.0",
                .complexity = "O(1)",
                .args = ""},
    },
    {
        .name = "command",
        .arity = -1,
        .flags = HF_CMD_LOCAL | HF_CMD_LOADING,
        .local = hf_local_command,
        .subcommands = hf_subcommands_command,
        .doc = {.group = HF_GROUP_SERVER,
                .summary = "Describes all commands.",
                .since = "2.8.13",
                .complexity = "O(N) with N the number of commands",
                .args = ""},
    },
    {
        .name = "role",
        .arity = 1,
        .flags = HF_CMD_LOCAL | HF_CMD_LOADING | HF_CMD_FAST,
        .local = local_role,
        .doc = {.group = HF_GROUP_SERVER,
                .summary = "Tells whether this node leads, and who follows or is followed.",
                .since = "2.8.12",
                .complexity = "O(1)",
                .args = ""},
    },
    {
        .name = "wait",
        .arity = 3,
        .flags = HF_CMD_LOCAL | HF_CMD_FRAMING,
        .local = local_wait,
        .doc = {.group = HF_GROUP_SERVER,
                .summary = "Tells at once how many followers hold all acknowledged writes; each of those is on a "
                           "majority before it is acknowledged.",
                .since = "3.0.0",
                .complexity = "O(1)",
                .args = "numreplicas:integer timeout:integer"},
    },
    {
        .name = "shutdown",
        .arity = -1,
        .flags = HF_CMD_LOCAL | HF_CMD_LOADING | HF_CMD_ADMIN,
        .local = local_shutdown,
        .doc = {.group = HF_GROUP_SERVER,
                .summary = "Stops this node in good order; a leader hands over first.",
                .since = "1.0.0",
                .complexity = "O(1)",
                .args = "[NOSAVE | SAVE] [NOW] [FORCE] [ABORT]"},
    },
    {
        .name = "debug",
        .arity = -2,
        .flags = 0,
        .subcommands = debug_subcommands,
        .doc = {.group = HF_GROUP_SERVER,
                .summary = "Helps tests.",
                .since = "1.0.0",
                .complexity = "Depends on the subcommand",
                .args = ""},
    },
    {
        .name = "memory",
        .arity = -2,
        .flags = 0,
        .subcommands = memory_subcommands,
        .doc = {.group = HF_GROUP_SERVER,
                .summary = "Tells about memory.",
                .since = "4.0.0",
                .complexity = "Depends on the subcommand",
                .args = ""},
    },
    {
        .name = "module",
        .arity = -2,
        .flags = 0,
        .subcommands = module_subcommands,
        .doc = {.group = HF_GROUP_SERVER,
                .summary = "Tells about modules; there are none.",
                .since = "4.0.0",
                .complexity = "Depends on the subcommand",
                .args = ""},
    },
    {
        .name = "slowlog",
        .arity = -2,
        .flags = 0,
        .subcommands = slowlog_subcommands,
        .doc = {.group = HF_GROUP_SERVER,
                .summary = "Kept for tools that ask for it.",
                .since = "2.2.12",
                .complexity = "Depends on the subcommand",
                .args = ""},
    },
    {
        .name = "latency",
        .arity = -2,
        .flags = 0,
        .subcommands = latency_subcommands,
        .doc = {.group = HF_GROUP_SERVER,
                .summary = "Kept for tools that ask for it.",
                .since = "2.8.13",
                .complexity = "Depends on the subcommand",
                .args = ""},
    },
    {
        .name = "lolwut",
        .arity = -1,
        .flags = HF_CMD_LOCAL | HF_CMD_LOADING | HF_CMD_FAST,
        .local = local_lolwut,
        .doc = {.group = HF_GROUP_SERVER,
                .summary = "Says which server this is.",
                .since = "5.0.0",
                .complexity = "O(1)",
                .args = "[VERSION version:integer]"},
    },
    {.name = NULL},
};
