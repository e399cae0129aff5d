/* cli.c: `holdfast cli`: commands from the arguments, from standard input, or typed in a shell with history and with
 * completion from the command table. A command is never sent twice: when the connection breaks before its answer, the
 * user is told that it may have happened. */
#include "base/mem.h"
#include "command/command.h"
#include "tools/tools.h"

#include <ctype.h>
#include <editline/readline.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define HISTORY_LINES_MAX 1000
#define WORDS_MAX         (1u << 16)

static void print_help(void)
{
    printf(
        "usage: holdfast cli [options] [COMMAND [argument ...]]\n\n"
        "Without a command: a shell (Tab completes, history in ~/.holdfast_history or $HOLDFAST_HISTORY), or, when\n"
        "standard input is no terminal, a command from each of its lines. In both, words may be quoted: \"a\\n\\x00\"\n"
        "or 'as it is'.\n\n"
        "      --raw                   print strings as they are (default when output is no terminal)\n"
        "      --no-raw                print strings quoted, with types (default on a terminal)\n%s",
        hf_tool_options_help);
}

/* ---- words -------------------------------------------------------------------------------------------- */

struct words {
    char **at;
    size_t *len;
    uint32_t n, cap;
};

static void free_words(struct words *w)
{
    for (uint32_t i = 0; i < w->n; i++)
        hf_free(w->at[i]);
    hf_free(w->at);
    hf_free(w->len);
    *w = (struct words){0};
}

static void add_word(struct words *w, const void *text, size_t n)
{
    if (w->n == w->cap) {
        w->cap = w->cap ? w->cap * 2 : 8;
        w->at = hf_realloc(w->at, w->cap * sizeof *w->at);
        w->len = hf_realloc(w->len, w->cap * sizeof *w->len);
    }
    w->at[w->n] = hf_malloc(n + 1);
    if (n)
        memcpy(w->at[w->n], text, n);
    w->at[w->n][n] = 0;
    w->len[w->n++] = n;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)tolower((unsigned char)c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The character after a backslash inside double quotes; moves *p past it. */
static char unescape(const char **p)
{
    static const char letters[] = "nrtba", meanings[] = "\n\r\t\b\a";
    const char *s = *p, *found;

    if (s[0] == 'x' && hex_value(s[1]) >= 0 && hex_value(s[2]) >= 0) {
        *p += 3;
        return (char)(hex_value(s[1]) * 16 + hex_value(s[2]));
    }
    *p += 1;
    found = strchr(letters, s[0]);
    return found ? meanings[found - letters] : s[0];
}

/* Takes a line apart as redis-cli does. False: a quote is not closed, or text follows a closing quote. */
static bool split_line(const char *p, struct words *out)
{
    struct hf_buf word = {0};
    bool ok = true;

    while (ok) {
        p += strspn(p, " \t\r\n");
        if (*p == 0 || out->n == WORDS_MAX)
            break;
        word.len = 0;
        while (*p && !strchr(" \t\r\n", *p)) {
            char quote = *p;

            if (quote != '"' && quote != '\'') {
                hf_buf_put_u8(&word, (uint8_t)*p++);
                continue;
            }
            p++;
            while (*p && *p != quote) {
                if (*p == '\\' && p[1] && (quote == '"' || p[1] == '\'')) {
                    p++;
                    hf_buf_put_u8(&word, (uint8_t)(quote == '"' ? unescape(&p) : *p++));
                } else {
                    hf_buf_put_u8(&word, (uint8_t)*p++);
                }
            }
            ok = *p == quote && (p[1] == 0 || strchr(" \t\r\n", p[1]));
            p += *p != 0;
            if (!ok)
                break;
        }
        if (ok)
            add_word(out, word.data, word.len);
    }
    hf_buf_free(&word);
    return ok;
}

/* ---- one command -------------------------------------------------------------------------------------- */

/* Answers that are a text of many lines, made for reading. */
static bool is_report(const struct words *w)
{
    return strcasecmp(w->at[0], "info") == 0 ||
           (w->n > 1 && strcasecmp(w->at[0], "client") == 0 &&
            (strcasecmp(w->at[1], "list") == 0 || strcasecmp(w->at[1], "info") == 0));
}

static enum hf_tool_style style_of(const struct hf_tool *tool, const struct words *w, const redisReply *reply)
{
    if (tool->style == HF_TOOL_JSON || tool->style == HF_TOOL_RAW)
        return tool->style;
    if (reply->type == REDIS_REPLY_STRING && is_report(w))
        return HF_TOOL_RAW;
    if (tool->style == HF_TOOL_AUTO)
        return isatty(STDOUT_FILENO) ? HF_TOOL_READABLE : HF_TOOL_RAW;
    return tool->style;
}

static int run_command(struct hf_tool *tool, const struct words *w)
{
    struct hf_buf out = {0};
    redisReply *reply;
    int code;

    if (w->n > 1 && strcasecmp(w->at[0], "hello") == 0 && strcmp(w->at[1], "3") == 0) {
        fprintf(stderr, "holdfast: this tool speaks RESP2\n");
        return HF_TOOL_USAGE;
    }
    if (!tool->link && !hf_tool_connect_any(tool))
        return HF_TOOL_NO_SERVER;
    reply = redisCommandArgv(tool->link, (int)w->n, (const char **)w->at, w->len);
    if (!reply) {
        bool is_stop = strcasecmp(w->at[0], "shutdown") == 0;

        if (!is_stop)
            fprintf(stderr, "holdfast: no answer from %s (%s): the command may or may not have run\n",
                    tool->link_server, tool->link->errstr);
        hf_tool_disconnect(tool);
        return is_stop ? HF_TOOL_OK : HF_TOOL_NO_ANSWER;
    }
    code = reply->type == REDIS_REPLY_ERROR ? HF_TOOL_FAILED : HF_TOOL_OK;
    hf_tool_print_reply(&out, reply, style_of(tool, w, reply));
    fwrite(out.data, 1, out.len, stdout);
    hf_buf_free(&out);
    freeReplyObject(reply);
    if (strcasecmp(w->at[0], "quit") == 0)
        hf_tool_disconnect(tool);
    return code;
}

static int run_line(struct hf_tool *tool, const char *line)
{
    struct words w = {0};
    int code = HF_TOOL_OK;

    if (!split_line(line, &w)) {
        fprintf(stderr, "holdfast: a quote is not closed, or text follows it without a blank\n");
        code = HF_TOOL_USAGE;
    } else if (w.n > 0) {
        code = run_command(tool, &w);
    }
    fflush(stdout);
    free_words(&w);
    return code;
}

/* ---- the shell ---------------------------------------------------------------------------------------- */

static const struct hf_command *first_word_row(const char *line)
{
    line += strspn(line, " ");
    return hf_command_find(hf_slice(line, strcspn(line, " ")));
}

/* The part of a subcommand's name behind '|'. */
static const char *last_part(const char *name)
{
    const char *bar = strchr(name, '|');

    return bar ? bar + 1 : name;
}

static char *as_typed(const char *name, const char *typed)
{
    char *out = strdup(name); /* libedit frees it */

    for (char *p = out; p && *p; p++)
        *p = (char)(islower((unsigned char)typed[0]) ? tolower((unsigned char)*p) : toupper((unsigned char)*p));
    return out;
}

/* libedit calls these with state 0 first, then until NULL; it has no place to keep our position between calls. */
static char *next_command(const char *text, int state)
{
    static uint32_t at;
    const struct hf_command *const *all = hf_command_all();

    if (state == 0)
        at = 0;
    while (all[at]) {
        const struct hf_command *cmd = all[at++];

        if (strncasecmp(cmd->name, text, strlen(text)) == 0)
            return as_typed(cmd->name, text);
    }
    return NULL;
}

static char *next_subcommand(const char *text, int state)
{
    static uint32_t at;
    const struct hf_command *row = first_word_row(rl_line_buffer);

    if (state == 0)
        at = 0;
    while (row && row->subcommands && row->subcommands[at].name) {
        const char *name = last_part(row->subcommands[at++].name);

        if (strncasecmp(name, text, strlen(text)) == 0)
            return as_typed(name, text);
    }
    return NULL;
}

static char **complete(const char *text, int start, int end)
{
    const char *line = rl_line_buffer + strspn(rl_line_buffer, " ");
    int first = (int)(line - rl_line_buffer), second = first + (int)strcspn(line, " ");

    (void)end;
    rl_attempted_completion_over = 1; /* no file names */
    if (start <= first || strncasecmp(line, "help ", 5) == 0)
        return rl_completion_matches(text, next_command);
    if (start == second + (int)strspn(rl_line_buffer + second, " "))
        return rl_completion_matches(text, next_subcommand);
    return NULL;
}

/* The notation of the table without the types: "key:key [count:integer]" reads "key [count]". */
static void print_usage(const char *args)
{
    for (const char *p = args; *p;) {
        if (*p == ':')
            p += 1 + strspn(p + 1, "abcdefghijklmnopqrstuvwxyz-");
        else
            putchar(*p++);
    }
}

static void print_command_help(const char *name)
{
    const struct hf_command *cmd;

    name += strspn(name, " ");
    if (*name == 0) {
        printf("help COMMAND tells of a command; quit, exit or Ctrl-D leaves; Tab completes.\n");
        return;
    }
    cmd = hf_command_find(hf_slice(name, strcspn(name, " ")));
    if (!cmd) {
        printf("no command '%s'\n", name);
        return;
    }
    for (const struct hf_command *c = cmd->subcommands ? cmd->subcommands : cmd; c->name; c++) {
        for (const char *p = c->name; *p; p++)
            putchar(*p == '|' ? ' ' : toupper((unsigned char)*p));
        putchar(' ');
        print_usage(c->doc.args ? c->doc.args : "");
        printf("\n    %s\n", c->doc.summary);
        if (!cmd->subcommands)
            break;
    }
}

/* A line with a password in it is not kept. */
static bool has_secret(const char *line)
{
    return strcasestr(line, "auth") || strcasestr(line, "requirepass");
}

static const char *history_path(char *buf, size_t cap)
{
    const char *path = getenv("HOLDFAST_HISTORY"), *home = getenv("HOME");

    if (path)
        return *path ? path : NULL;
    if (!home)
        return NULL;
    snprintf(buf, cap, "%s/.holdfast_history", home);
    return buf;
}

static int run_shell(struct hf_tool *tool)
{
    char prompt[300], buf[4096], *line;
    const char *path = history_path(buf, sizeof buf);

    umask(077); /* the history file is the user's alone */
    rl_readline_name = "holdfast";
    rl_attempted_completion_function = complete;
    using_history();
    stifle_history(HISTORY_LINES_MAX);
    if (path)
        read_history(path);
    printf("holdfast " HF_VERSION "; help COMMAND, Tab, Ctrl-D leaves\n");
    hf_tool_connect_any(tool);
    for (;;) {
        const char *start;

        snprintf(prompt, sizeof prompt, "%s> ", tool->link ? tool->link_server : "not connected");
        line = readline(prompt);
        if (!line)
            break;
        start = line + strspn(line, " \t");
        if (*start && !has_secret(line)) {
            add_history(line);
            if (path)
                write_history(path);
        }
        if (strcasecmp(start, "quit") == 0 || strcasecmp(start, "exit") == 0) {
            free(line);
            return HF_TOOL_OK;
        }
        if (strncasecmp(start, "help", 4) == 0 && (start[4] == 0 || start[4] == ' '))
            print_command_help(start + 4);
        else
            (void)run_line(tool, line);
        free(line);
    }
    printf("\n");
    return HF_TOOL_OK;
}

static int run_lines(struct hf_tool *tool)
{
    char *line = NULL;
    size_t cap = 0;
    int worst = HF_TOOL_OK;

    while (getline(&line, &cap, stdin) >= 0) {
        int code = run_line(tool, line);

        worst = code > worst ? code : worst;
        if (code == HF_TOOL_NO_SERVER)
            break;
    }
    free(line);
    return worst;
}

int hf_tool_cli(struct hf_tool *tool, int argc, char **argv)
{
    struct words w = {0};
    int i = 1, code;

    for (; i < argc && argv[i][0] == '-'; i++) {
        int taken = hf_tool_option(tool, argc, argv, &i);

        if (taken < 0)
            return HF_TOOL_USAGE;
        if (taken > 0)
            continue;
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_help();
            return HF_TOOL_OK;
        }
        if (strcmp(argv[i], "--raw") == 0) {
            tool->style = HF_TOOL_RAW;
        } else if (strcmp(argv[i], "--no-raw") == 0) {
            tool->style = HF_TOOL_READABLE;
        } else {
            fprintf(stderr, "holdfast: unknown option '%s' (try holdfast cli --help)\n", argv[i]);
            return HF_TOOL_USAGE;
        }
    }
    hf_tool_default_server(tool);
    hf_command_table_init();
    if (i == argc)
        return isatty(STDIN_FILENO) ? run_shell(tool) : run_lines(tool);
    for (; i < argc; i++)
        add_word(&w, argv[i], strlen(argv[i]));
    code = run_command(tool, &w);
    if (fflush(stdout) != 0)
        code = HF_TOOL_FAILED;
    free_words(&w);
    return code;
}
