/* tools.h: what the subcommands of `holdfast` share: the options every one takes, a connection to the first server
 * that answers, and the printing of replies. One thread; everything blocks. */
#ifndef HF_TOOLS_TOOLS_H
#define HF_TOOLS_TOOLS_H

#include "base/buf.h"

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stdint.h>

#define HF_TOOL_SERVERS_MAX    64
#define HF_TOOL_SERVER_DEFAULT "127.0.0.1:7379"

/* Exit codes of every subcommand. */
enum hf_tool_exit {
    HF_TOOL_OK = 0,
    HF_TOOL_FAILED = 1,    /* the server answered with an error; the cluster is not whole (status) */
    HF_TOOL_USAGE = 2,     /* the command line makes no sense */
    HF_TOOL_NO_SERVER = 3, /* no server could be reached; nothing happened */
    HF_TOOL_NO_ANSWER = 4, /* the connection broke after a command was sent: it may have happened */
};

enum hf_tool_style {
    HF_TOOL_AUTO, /* readable on a terminal, raw elsewhere */
    HF_TOOL_READABLE,
    HF_TOOL_RAW,
    HF_TOOL_JSON,
};

struct hf_tool {
    const char *servers[HF_TOOL_SERVERS_MAX]; /* "host:port", as given */
    uint32_t n_servers;
    const char *password; /* NULL = none */
    enum hf_tool_style style;
    uint64_t timeout_ms;     /* for one answer */
    redisContext *link;      /* NULL = not connected */
    const char *link_server; /* whom link reaches */
};

/* A subcommand: argv[0] is its name. Returns the exit code. */
int hf_tool_cli(struct hf_tool *tool, int argc, char **argv);
int hf_tool_status(struct hf_tool *tool, int argc, char **argv);

/* An option that every subcommand takes (--server, --password, --timeout, --json, --raw, --no-raw) at argv[*i]:
 * 1 = taken and *i stands on its last word, 0 = not one of them, -1 = wrong and said so on stderr. */
int hf_tool_option(struct hf_tool *tool, int argc, char **argv, int *i);
/* After all options: the server to ask when none was given. */
void hf_tool_default_server(struct hf_tool *tool);
/* The lines about them for --help. */
extern const char hf_tool_options_help[];

/* Connect to one server, with AUTH if there is a password; NULL with a reason in why. */
redisContext *hf_tool_connect(const struct hf_tool *tool, const char *server, uint64_t timeout_ms, char *why,
                              size_t why_size);
/* Connect to the first of tool->servers that answers. False: said why on stderr, a line for each. */
bool hf_tool_connect_any(struct hf_tool *tool);
void hf_tool_disconnect(struct hf_tool *tool);

/* Append a reply with its line end. style is not AUTO. RESP has bytes, JSON has characters: a byte that is not part of
 * valid UTF-8 is written as the character of the same number. */
void hf_tool_print_reply(struct hf_buf *out, const redisReply *reply, enum hf_tool_style style);
void hf_tool_print_json_text(struct hf_buf *out, const char *text, size_t n);

#endif
