/* fake_commands.c: a command table for the tests of net: one row for each way in which net treats commands. */
#include "fake.h"

#include "base/util.h"

#include <stdio.h>
#include <stdlib.h>

static void local_ping(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    (void)cx;
    (void)args;
    hf_reply_status(out, "PONG");
}

static void local_echo(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    (void)cx;
    hf_reply_bulk(out, args->at[1]);
}

static void local_nil(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    (void)cx;
    (void)args;
    hf_reply_null(out);
}

static void local_hello(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    cx->client->protocol = hf_slice_is(args->at[1], "3") ? 3 : 2;
    hf_reply_map(out, 1);
    hf_reply_bulk_str(out, "proto");
    hf_reply_int(out, cx->client->protocol);
}

static void local_quit(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    (void)args;
    cx->client->close_after_reply = true;
    hf_reply_ok(out);
}

static void local_auth(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    (void)args;
    cx->client->authenticated = true;
    hf_reply_ok(out);
}

/* REPLY ON|OFF|SKIP: what CLIENT REPLY does. */
static void local_reply(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    if (hf_slice_is(args->at[1], "on")) {
        cx->client->reply_mode = HF_CLIENT_REPLY_ON;
        hf_reply_ok(out);
    } else if (hf_slice_is(args->at[1], "off")) {
        cx->client->reply_mode = HF_CLIENT_REPLY_OFF;
    } else if (cx->client->reply_mode != HF_CLIENT_REPLY_OFF) {
        cx->client->reply_mode = HF_CLIENT_REPLY_SKIP;
    }
}

struct kill {
    struct hf_client *self;
    int64_t id, n;
};

static bool kill_client(void *arg, struct hf_client *client)
{
    struct kill *k = arg;

    if ((int64_t)client->id != k->id)
        return true;
    if (client == k->self)
        client->close_after_reply = true;
    else
        client->killed = true;
    k->n++;
    return false;
}

/* KILL id: the number of clients killed. */
static void local_kill(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    struct kill k = {cx->client, 0, 0};

    if (hf_parse_int64(args->at[1], &k.id))
        cx->ops->clients(cx->ops->data, kill_client, &k);
    hf_reply_int(out, k.n);
}

static void local_shutdown(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    (void)args;
    (void)out;
    cx->ops->shutdown(cx->ops->data);
}

#define LOCAL(name_, arity_, flags_, fn)                                                                               \
    {                                                                                                                  \
        .name = name_, .arity = arity_, .flags = HF_CMD_LOCAL | (flags_), .local = fn                                  \
    }

static struct hf_command rows[] = {
    LOCAL("ping", 1, 0, local_ping),
    LOCAL("echo", 2, 0, local_echo),
    LOCAL("nil", 1, 0, local_nil),
    LOCAL("hello", 2, HF_CMD_FRAMING | HF_CMD_NO_AUTH, local_hello),
    LOCAL("quit", 1, HF_CMD_NO_AUTH, local_quit),
    LOCAL("auth", 2, HF_CMD_NO_AUTH, local_auth),
    LOCAL("reply", 2, 0, local_reply),
    LOCAL("kill", 2, 0, local_kill),
    LOCAL("shutdown", 1, 0, local_shutdown),
    {.name = "get", .arity = 2, .flags = HF_CMD_READ},
    {.name = "big", .arity = 2, .flags = HF_CMD_READ},
    {.name = "set", .arity = 3, .flags = HF_CMD_WRITE},
};

#define N_ROWS ((uint16_t)(sizeof rows / sizeof *rows))

/* GET key: "v:key", or nothing for a key that begins with "no". BIG n: n bytes. SET key value: OK. */
void fake_run_command(const struct hf_dispatch_req *req, struct hf_reply *out)
{
    const struct hf_args *args = &req->args;
    struct hf_buf text = {NULL, 0, 0};
    int64_t n;

    if (hf_slice_is(args->at[0], "set")) {
        hf_reply_ok(out);
    } else if (hf_slice_is(args->at[0], "big") && hf_parse_int64(args->at[1], &n)) {
        memset(hf_buf_reserve(&text, (size_t)n), 'x', (size_t)n);
        hf_reply_bulk(out, hf_slice(text.data, (size_t)n));
    } else if (args->at[1].len >= 2 && memcmp(args->at[1].ptr, "no", 2) == 0) {
        hf_reply_null(out);
    } else {
        hf_buf_printf(&text, "v:%.*s", (int)args->at[1].len, (const char *)args->at[1].ptr);
        hf_reply_bulk(out, hf_buf_slice(&text));
    }
    hf_buf_free(&text);
}

const struct hf_command *hf_command_find(struct hf_slice name)
{
    for (uint16_t i = 0; i < N_ROWS; i++) {
        rows[i].id = i;
        if (hf_slice_is(name, rows[i].name))
            return &rows[i];
    }
    return NULL;
}

const struct hf_command *hf_command_resolve(const struct hf_args *args, struct hf_reply *err)
{
    const struct hf_command *command = hf_command_find(args->at[0]);

    if (command == NULL)
        hf_reply_error(err, "ERR unknown command");
    else if (args->n != (uint32_t)command->arity)
        hf_reply_errorf(err, "ERR wrong number of arguments for '%s' command", command->name);
    else
        return command;
    return NULL;
}

uint16_t hf_command_count(void)
{
    return N_ROWS;
}

struct hf_command_stats hf_command_stats(struct hf_stats *st, uint16_t id)
{
    struct hf_command_stats s;
    char label[64];

    snprintf(label, sizeof label, "cmd=\"%s\"", rows[id].name);
    s.calls = hf_stats_counter(st, "command_calls_total", label, "");
    s.rejected = hf_stats_counter(st, "command_rejected_total", label, "");
    s.failed = hf_stats_counter(st, "command_failed_total", label, "");
    s.duration_us = hf_stats_histogram(st, "command_duration_us", label, "");
    return s;
}
