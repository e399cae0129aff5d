/* connect.c: the options that all subcommands take, and connections by them. See tools.h. */
#include "base/util.h"
#include "tools/tools.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A server on the way to being dead must not hold up the search for a live one. */
#define CONNECT_TIMEOUT_MS 2000u

const char hf_tool_options_help[] =
    "      --server HOST:PORT      a node to ask; may be given several times, the first that answers is taken\n"
    "                              (" HF_TOOL_SERVER_DEFAULT ", or the environment variable HOLDFAST_SERVER)\n"
    "      --password TEXT         for AUTH (or the environment variable HOLDFAST_PASSWORD)\n"
    "      --timeout MS            longest wait for an answer (30000)\n"
    "      --json                  print JSON\n"
    "  -h, --help                  print this\n";

static bool split_server(const char *server, char *host, size_t host_size, int *port)
{
    const char *colon = strrchr(server, ':');
    size_t n = colon ? (size_t)(colon - server) : 0;
    int64_t value;

    if (!colon || !hf_parse_int64(hf_slice_str(colon + 1), &value) || value < 1 || value > 65535 || n >= host_size)
        return false;
    if (n >= 2 && server[0] == '[' && server[n - 1] == ']') {
        server++;
        n -= 2;
    }
    memcpy(host, server, n);
    host[n] = 0;
    *port = (int)value;
    return n > 0;
}

static const char *take_value(int argc, char **argv, int *i)
{
    const char *equals = strchr(argv[*i], '=');

    if (equals)
        return equals + 1;
    if (*i + 1 < argc)
        return argv[++*i];
    fprintf(stderr, "holdfast: %s needs a value\n", argv[*i]);
    return NULL;
}

int hf_tool_option(struct hf_tool *tool, int argc, char **argv, int *i)
{
    const char *arg = argv[*i], *value;
    size_t n = strcspn(arg, "=");
    int64_t ms;

    if (strcmp(arg, "--json") == 0) {
        tool->style = HF_TOOL_JSON;
    } else if (n == 8 && strncmp(arg, "--server", n) == 0) {
        char host[256];
        int port;

        value = take_value(argc, argv, i);
        if (!value)
            return -1;
        if (!split_server(value, host, sizeof host, &port)) {
            fprintf(stderr, "holdfast: --server must be HOST:PORT, not '%s'\n", value);
            return -1;
        }
        if (tool->n_servers == HF_TOOL_SERVERS_MAX) {
            fprintf(stderr, "holdfast: at most %d servers\n", HF_TOOL_SERVERS_MAX);
            return -1;
        }
        tool->servers[tool->n_servers++] = value;
    } else if (n == 10 && strncmp(arg, "--password", n) == 0) {
        tool->password = take_value(argc, argv, i);
        return tool->password ? 1 : -1;
    } else if (n == 9 && strncmp(arg, "--timeout", n) == 0) {
        value = take_value(argc, argv, i);
        if (!value)
            return -1;
        if (!hf_parse_int64(hf_slice_str(value), &ms) || ms < 1 || ms > 86400000) {
            fprintf(stderr, "holdfast: --timeout must be milliseconds from 1 to 86400000, not '%s'\n", value);
            return -1;
        }
        tool->timeout_ms = (uint64_t)ms;
        tool->is_timeout_given = true;
    } else {
        return 0;
    }
    return 1;
}

int hf_tool_value(int argc, char **argv, int *i, const char *name, const char **value)
{
    size_t n = strcspn(argv[*i], "=");

    if (n != strlen(name) || strncmp(argv[*i], name, n) != 0)
        return 0;
    *value = take_value(argc, argv, i);
    return *value ? 1 : -1;
}

int hf_tool_number(int argc, char **argv, int *i, const char *name, uint64_t low, uint64_t high, uint64_t *value)
{
    const char *text;
    int taken = hf_tool_value(argc, argv, i, name, &text);
    int64_t n;

    if (taken <= 0)
        return taken;
    if (!hf_parse_int64(hf_slice_str(text), &n) || n < 0 || (uint64_t)n < low || (uint64_t)n > high) {
        fprintf(stderr, "holdfast: %s must be a number from %" PRIu64 " to %" PRIu64 ", not '%s'\n", name, low, high,
                text);
        return -1;
    }
    *value = (uint64_t)n;
    return 1;
}

int hf_tool_unknown(const char *arg, const char *name, void (*help)(void))
{
    if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
        help();
        return HF_TOOL_OK;
    }
    fprintf(stderr, "holdfast: %s takes no '%s' (try holdfast %s --help)\n", name, arg, name);
    return HF_TOOL_USAGE;
}

void hf_tool_default_server(struct hf_tool *tool)
{
    const char *server = getenv("HOLDFAST_SERVER");

    if (tool->n_servers == 0)
        tool->servers[tool->n_servers++] = server && *server ? server : HF_TOOL_SERVER_DEFAULT;
}

static struct timeval timeval_of(uint64_t ms)
{
    return (struct timeval){.tv_sec = (time_t)(ms / 1000), .tv_usec = (suseconds_t)(ms % 1000 * 1000)};
}

redisContext *hf_tool_connect(const struct hf_tool *tool, const char *server, uint64_t timeout_ms, char *why,
                              size_t why_size)
{
    char host[256];
    int port;
    redisContext *link;
    redisReply *reply;

    if (!split_server(server, host, sizeof host, &port)) {
        snprintf(why, why_size, "%s is not HOST:PORT", server);
        return NULL;
    }
    link = redisConnectWithTimeout(host, port,
                                   timeval_of(timeout_ms < CONNECT_TIMEOUT_MS ? timeout_ms : CONNECT_TIMEOUT_MS));
    if (!link || link->err) {
        snprintf(why, why_size, "cannot connect to %s: %s", server, link ? link->errstr : "out of memory");
        redisFree(link);
        return NULL;
    }
    redisSetTimeout(link, timeval_of(timeout_ms));
    if (!tool->password)
        return link;
    reply = redisCommand(link, "AUTH %s", tool->password);
    if (!reply || reply->type == REDIS_REPLY_ERROR) {
        snprintf(why, why_size, "%s refuses the password: %s", server, reply ? reply->str : link->errstr);
        if (reply)
            freeReplyObject(reply);
        redisFree(link);
        return NULL;
    }
    freeReplyObject(reply);
    return link;
}

bool hf_tool_connect_any(struct hf_tool *tool)
{
    for (uint32_t i = 0; i < tool->n_servers; i++) {
        char why[512];

        tool->link = hf_tool_connect(tool, tool->servers[i], tool->timeout_ms, why, sizeof why);
        if (tool->link) {
            tool->link_server = tool->servers[i];
            return true;
        }
        fprintf(stderr, "holdfast: %s\n", why);
    }
    return false;
}

void hf_tool_disconnect(struct hf_tool *tool)
{
    if (tool->link)
        redisFree(tool->link);
    tool->link = NULL;
}

/* ---- commands ------------------------------------------------------------------------------------------ */

int hf_tool_run(struct hf_tool *tool, int n, const char **words)
{
    struct hf_buf out = {0};
    redisReply *reply;
    int code;

    if (!tool->link && !hf_tool_connect_any(tool))
        return HF_TOOL_NO_SERVER;
    reply = redisCommandArgv(tool->link, n, words, NULL);
    if (!reply) {
        fprintf(stderr, "holdfast: no answer from %s (%s): it may or may not have been done\n", tool->link_server,
                tool->link->errstr);
        hf_tool_disconnect(tool);
        return HF_TOOL_NO_ANSWER;
    }
    code = reply->type == REDIS_REPLY_ERROR ? HF_TOOL_FAILED : HF_TOOL_OK;
    hf_tool_print_reply(&out, reply, tool->style == HF_TOOL_JSON ? HF_TOOL_JSON : HF_TOOL_RAW);
    fwrite(out.data, 1, out.len, code == HF_TOOL_OK || tool->style == HF_TOOL_JSON ? stdout : stderr);
    hf_buf_free(&out);
    freeReplyObject(reply);
    return code;
}

const redisReply *hf_tool_field(const redisReply *map, const char *name)
{
    for (size_t i = 0; map->type == REDIS_REPLY_ARRAY && i + 1 < map->elements; i += 2)
        if (map->element[i]->type == REDIS_REPLY_STRING && strcmp(map->element[i]->str, name) == 0)
            return map->element[i + 1];
    return NULL;
}

const char *hf_tool_text(const redisReply *map, const char *name)
{
    const redisReply *r = hf_tool_field(map, name);

    return r && (r->type == REDIS_REPLY_STRING || r->type == REDIS_REPLY_STATUS) ? r->str : "";
}

uint64_t hf_tool_uint(const redisReply *map, const char *name)
{
    const redisReply *r = hf_tool_field(map, name);

    return r && r->type == REDIS_REPLY_INTEGER && r->integer > 0 ? (uint64_t)r->integer : 0;
}
