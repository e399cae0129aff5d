/* member.c: `holdfast member` and `holdfast transfer`: the members of the cluster, as a node tells of them, and
 * changing them one at a time. The server says what was done or why not; this only asks and prints. */
#include "tools/tools.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* A change waits for a leader and for the log, and a promotion for the new one to catch up. */
#define CHANGE_TIMEOUT_MS 90000u

static void print_help(void)
{
    printf(
        "usage: holdfast member [options] COMMAND\n\n"
        "  list                    the members, as the leader knows them (or the node asked, when it cannot be "
        "reached:\n"
        "                          then MATCH and LAG, in log entries, are not known)\n"
        "  add NAME HOST:PORT      make a place for a node that will join under this name; the address is where its\n"
        "                          peers reach it. `holdfastd --join` does this by itself.\n"
        "  promote NODE            make a learner a voter, when it has caught up\n"
        "  demote NODE             make a voter a learner\n"
        "  remove NODE             remove a member; the node stops by itself\n"
        "  replace OLD NEW         promote NEW, then remove OLD\n\n"
        "NODE is a name or an id. Any member takes the request; the leader carries out one at a time and refuses,\n"
        "with a reason, what is not safe. Exit status: 0 done, 1 refused (nothing happened, unless the text begins\n"
        "with UNKNOWN), 2 wrong usage, 3 no server reached, 4 no answer (it may have been done: look at the list).\n\n"
        "%s",
        hf_tool_options_help);
}

static void print_transfer_help(void)
{
    printf(
        "usage: holdfast transfer [options] [NODE]\n\n"
        "Hands leadership over to NODE (a name or an id of a voter), or to the most up-to-date voter. Clients notice\n"
        "a short pause. Exit status: as for `holdfast member`.\n\n%s",
        hf_tool_options_help);
}

/* ---- the list ----------------------------------------------------------------------------------------- */

static redisReply *ask_list(struct hf_tool *tool, int *code)
{
    redisReply *list;

    *code = HF_TOOL_NO_SERVER;
    if (!tool->link && !hf_tool_connect_any(tool))
        return NULL;
    list = redisCommand(tool->link, "HF.MEMBER LIST");
    if (list && list->type == REDIS_REPLY_ARRAY) {
        *code = HF_TOOL_OK;
        return list;
    }
    fprintf(stderr, "holdfast: %s: %s\n", tool->link_server,
            list && list->type == REDIS_REPLY_ERROR ? list->str : tool->link->errstr);
    *code = list ? HF_TOOL_FAILED : HF_TOOL_NO_ANSWER;
    if (list)
        freeReplyObject(list);
    hf_tool_disconnect(tool);
    return NULL;
}

/* A number, or "-" for what the node does not know. */
static const char *number_text(const redisReply *member, const char *name, char *out, size_t cap)
{
    const redisReply *r = hf_tool_field(member, name);

    if (r && r->type == REDIS_REPLY_INTEGER)
        snprintf(out, cap, "%lld", r->integer);
    else
        snprintf(out, cap, "-");
    return out;
}

/* The leader's view where it can be had: only there the others' progress is known. NULL: take the asked node's. */
static redisReply *list_of_leader(struct hf_tool *tool, const redisReply *list)
{
    for (size_t i = 0; i < list->elements; i++) {
        const redisReply *member = list->element[i];
        redisContext *link;
        redisReply *reply;
        char why[512];

        if (!hf_tool_uint(member, "leader") || hf_tool_uint(member, "self") || !*hf_tool_text(member, "client-address"))
            continue;
        link = hf_tool_connect(tool, hf_tool_text(member, "client-address"), 3000, why, sizeof why);
        if (!link)
            return NULL;
        reply = redisCommand(link, "HF.MEMBER LIST");
        redisFree(link);
        if (reply && reply->type == REDIS_REPLY_ARRAY)
            return reply;
        if (reply)
            freeReplyObject(reply);
        return NULL;
    }
    return NULL;
}

static void print_list(const redisReply *list)
{
    int name_width = 4, address_width = 7, client_width = 7;
    bool has_leader = false;

    for (size_t i = 0; i < list->elements; i++) {
        int n = (int)strlen(hf_tool_text(list->element[i], "name"));
        int a = (int)strlen(hf_tool_text(list->element[i], "address"));
        int c = (int)strlen(hf_tool_text(list->element[i], "client-address"));

        name_width = n > name_width ? n : name_width;
        address_width = a > address_width ? a : address_width;
        client_width = c > client_width ? c : client_width;
    }
    printf("%4s  %-*s  %-7s  %-6s  %-*s  %-*s  %-9s %12s %8s %5s\n", "ID", name_width, "NAME", "ROLE", "LEADER",
           address_width, "ADDRESS", client_width, "CLIENTS", "CONNECTED", "MATCH", "LAG", "LEVEL");
    for (size_t i = 0; i < list->elements; i++) {
        const redisReply *m = list->element[i];
        const char *clients = hf_tool_text(m, "client-address");
        char match[24], lag[24], level[24];

        has_leader = has_leader || hf_tool_uint(m, "leader");
        printf("%4" PRIu64 "  %-*s  %-7s  %-6s  %-*s  %-*s  %-9s %12s %8s %5s\n", hf_tool_uint(m, "id"), name_width,
               hf_tool_text(m, "name"), hf_tool_text(m, "role"), hf_tool_uint(m, "leader") ? "yes" : "no",
               address_width, hf_tool_text(m, "address"), client_width, *clients ? clients : "-",
               hf_tool_uint(m, "connected") ? "yes" : "no", number_text(m, "match-index", match, sizeof match),
               number_text(m, "lag", lag, sizeof lag), number_text(m, "level", level, sizeof level));
    }
    if (!has_leader)
        printf("\nThis node knows of no leader.\n");
}

static void json_number(struct hf_buf *out, const redisReply *m, const char *name, const char *shown)
{
    const redisReply *r = hf_tool_field(m, name);

    if (r && r->type == REDIS_REPLY_INTEGER)
        hf_buf_printf(out, ",\"%s\":%lld", shown, r->integer);
    else
        hf_buf_printf(out, ",\"%s\":null", shown);
}

static void json_text(struct hf_buf *out, const redisReply *m, const char *name, const char *shown)
{
    const char *text = hf_tool_text(m, name);

    hf_buf_printf(out, ",\"%s\":", shown);
    hf_tool_print_json_text(out, text, strlen(text));
}

static void print_list_json(const redisReply *list)
{
    struct hf_buf out = {0};

    hf_buf_put_u8(&out, '[');
    for (size_t i = 0; i < list->elements; i++) {
        const redisReply *m = list->element[i];

        hf_buf_printf(&out, "%s{\"id\":%" PRIu64, i ? "," : "", hf_tool_uint(m, "id"));
        json_text(&out, m, "name", "name");
        json_text(&out, m, "role", "role");
        hf_buf_printf(&out, ",\"leader\":%s,\"connected\":%s", hf_tool_uint(m, "leader") ? "true" : "false",
                      hf_tool_uint(m, "connected") ? "true" : "false");
        json_text(&out, m, "address", "address");
        json_text(&out, m, "client-address", "client_address");
        json_number(&out, m, "match-index", "match_index");
        json_number(&out, m, "lag", "lag");
        json_number(&out, m, "level", "level");
        hf_buf_put_u8(&out, '}');
    }
    hf_buf_printf(&out, "]\n");
    fwrite(out.data, 1, out.len, stdout);
    hf_buf_free(&out);
}

static int run_list(struct hf_tool *tool)
{
    redisReply *leaders, *list;
    int code;

    list = ask_list(tool, &code);
    if (!list)
        return code;
    leaders = list_of_leader(tool, list);
    if (tool->style == HF_TOOL_JSON)
        print_list_json(leaders ? leaders : list);
    else
        print_list(leaders ? leaders : list);
    if (leaders)
        freeReplyObject(leaders);
    freeReplyObject(list);
    return HF_TOOL_OK;
}

/* ---- the command line --------------------------------------------------------------------------------- */

/* Takes the options, leaves the words. */
static int take_words(struct hf_tool *tool, int argc, char **argv, const char *name, void (*help)(void),
                      const char *words[4], int *n)
{
    for (int i = 1; i < argc; i++) {
        int taken = hf_tool_option(tool, argc, argv, &i);

        if (taken < 0)
            return HF_TOOL_USAGE;
        if (taken > 0)
            continue;
        if (argv[i][0] == '-' || *n == 4) {
            int code = hf_tool_unknown(argv[i], name, help);

            *n = code == HF_TOOL_OK ? -1 : *n;
            return code;
        }
        words[(*n)++] = argv[i];
    }
    hf_tool_default_server(tool);
    if (!tool->is_timeout_given)
        tool->timeout_ms = CHANGE_TIMEOUT_MS;
    return HF_TOOL_OK;
}

int hf_tool_member(struct hf_tool *tool, int argc, char **argv)
{
    static const struct {
        const char *name, *usage;
        int n_words;
    } commands[] = {
        {"add", "NAME HOST:PORT", 3}, {"remove", "NODE", 2},     {"promote", "NODE", 2},
        {"demote", "NODE", 2},        {"replace", "OLD NEW", 3},
    };
    const char *words[4], *command[5] = {"HF.MEMBER"};
    int n = 0, code = take_words(tool, argc, argv, "member", print_help, words, &n);

    if (code != HF_TOOL_OK || n < 0)
        return code;
    if (n == 1 && strcmp(words[0], "list") == 0)
        return run_list(tool);
    for (size_t i = 0; n > 0 && i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(words[0], commands[i].name) != 0)
            continue;
        if (n != commands[i].n_words) {
            fprintf(stderr, "usage: holdfast member %s %s\n", commands[i].name, commands[i].usage);
            return HF_TOOL_USAGE;
        }
        memcpy(&command[1], words, (size_t)n * sizeof words[0]);
        return hf_tool_run(tool, n + 1, command);
    }
    fprintf(stderr, "holdfast: member takes list, add, remove, promote, demote or replace%s%s%s\n",
            n > 0 ? ", not '" : "", n > 0 ? words[0] : "", n > 0 ? "'" : "");
    return HF_TOOL_USAGE;
}

int hf_tool_transfer(struct hf_tool *tool, int argc, char **argv)
{
    const char *words[4], *command[2] = {"HF.TRANSFER"};
    int n = 0, code = take_words(tool, argc, argv, "transfer", print_transfer_help, words, &n);

    if (code != HF_TOOL_OK || n < 0)
        return code;
    if (n > 1) {
        fprintf(stderr, "usage: holdfast transfer [NODE]\n");
        return HF_TOOL_USAGE;
    }
    command[1] = words[0];
    return hf_tool_run(tool, n + 1, command);
}
