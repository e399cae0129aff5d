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
#define HF_TOOL_TIMEOUT_MS     30000u

/* Exit codes of every subcommand. */
enum hf_tool_exit {
    HF_TOOL_OK = 0,
    HF_TOOL_FAILED = 1,    /* the server answered with an error; the cluster is not whole (status); a file or directory
                            * is not what it should be, or could not be written */
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
    uint64_t timeout_ms; /* for one answer; HF_TOOL_TIMEOUT_MS unless told otherwise */
    bool is_timeout_given;
    redisContext *link;      /* NULL = not connected */
    const char *link_server; /* whom link reaches */
};

/* A subcommand: argv[0] is its name. Returns the exit code. */
int hf_tool_cli(struct hf_tool *tool, int argc, char **argv);
int hf_tool_status(struct hf_tool *tool, int argc, char **argv);
int hf_tool_member(struct hf_tool *tool, int argc, char **argv);
int hf_tool_transfer(struct hf_tool *tool, int argc, char **argv);
int hf_tool_backup(struct hf_tool *tool, int argc, char **argv);
int hf_tool_restore(struct hf_tool *tool, int argc, char **argv);
int hf_tool_inspect(struct hf_tool *tool, int argc, char **argv);
int hf_tool_recover(struct hf_tool *tool, int argc, char **argv);
int hf_tool_repair(struct hf_tool *tool, int argc, char **argv);

/* An option that every subcommand takes (--server, --password, --timeout, --json, --raw, --no-raw) at argv[*i]:
 * 1 = taken and *i stands on its last word, 0 = not one of them, -1 = wrong and said so on stderr. */
int hf_tool_option(struct hf_tool *tool, int argc, char **argv, int *i);
/* An option of one subcommand, "--out FILE" or "--out=FILE": as above, with its value. */
int hf_tool_value(int argc, char **argv, int *i, const char *name, const char **value);
int hf_tool_number(int argc, char **argv, int *i, const char *name, uint64_t low, uint64_t high, uint64_t *value);
/* An argument that nothing takes: --help prints `help` and gives HF_TOOL_OK, anything else HF_TOOL_USAGE, said on
 * stderr. */
int hf_tool_unknown(const char *arg, const char *name, void (*help)(void));
/* After all options: the server to ask when none was given. */
void hf_tool_default_server(struct hf_tool *tool);
/* The lines about them for --help. */
extern const char hf_tool_options_help[];

/* Connect to one server, with AUTH if there is a password; NULL with a reason in why. */
redisContext *hf_tool_connect(const struct hf_tool *tool, const char *server, uint64_t timeout_ms, char *why,
                              size_t why_size);
/* Connect to the first of tool->servers that answers. False: said why on stderr, a line for each. */
bool hf_tool_connect_any(struct hf_tool *tool);
/* Run a command on the first server that answers and print its answer. Returns the exit code. */
int hf_tool_run(struct hf_tool *tool, int n, const char **words);
/* The element behind this name in a map, which RESP2 gives as an array; NULL when there is none. */
const redisReply *hf_tool_field(const redisReply *map, const char *name);
/* As text, "" when absent; as number, 0 when absent. */
const char *hf_tool_text(const redisReply *map, const char *name);
uint64_t hf_tool_uint(const redisReply *map, const char *name);
void hf_tool_disconnect(struct hf_tool *tool);

/* Append a reply with its line end. style is not AUTO. RESP has bytes, JSON has characters: a byte that is not part of
 * valid UTF-8 is written as the character of the same number. */
void hf_tool_print_reply(struct hf_buf *out, const redisReply *reply, enum hf_tool_style style);
void hf_tool_print_json_text(struct hf_buf *out, const char *text, size_t n);

/* ---- progress ------------------------------------------------------------------------------------------ */

/* Work whose size is known, shown on stderr: a bar that moves on a terminal, a line every few seconds elsewhere. */
struct hf_tool_progress {
    const char *what; /* "backing up" */
    uint64_t total;
    bool is_bytes; /* else rows */
    bool is_quiet;
    bool is_terminal;
    uint64_t began_ms, shown_ms, done;
};
void hf_tool_progress_begin(struct hf_tool_progress *p, const char *what, uint64_t total, bool is_bytes, bool is_quiet);
void hf_tool_progress_step(struct hf_tool_progress *p, uint64_t done);
/* Ends the line of a bar. */
void hf_tool_progress_end(struct hf_tool_progress *p);
/* "12.3 MB". */
void hf_tool_format_bytes(char *out, size_t cap, uint64_t bytes);
uint64_t hf_tool_now_ms(void);
/* From here on INT, TERM and HUP only set a mark: long work looks at it and cleans up. */
void hf_tool_catch_signals(void);
bool hf_tool_is_stopped(void);
/* A database file that only this tool uses, and what SQLite may have put beside it. */
void hf_tool_remove_database(const char *path);

#endif
