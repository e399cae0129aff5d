/* command.h: the command table. Each command is one row: what it is called, what it may do, where its keys
 * are, how it is documented, and its handlers. Dispatch, arity errors, COMMAND, GETKEYS and docs/commands.md all
 * read these rows; no other code compares command names.
 *
 * WRITE  plan (leader, loop thread: checks and encodes arguments, sees no state) then apply (every node, state
 *        thread: deterministic). READ read (state thread, after the read gate). LOCAL local (loop thread of the
 *        node the client is connected to). READ|NOGATE: read on the local node's state thread without the gate
 *        (INFO: tells about this node). OPERATE operate (loop thread of the node the client is connected to, answers
 *        later: membership, backups, settings). */
#ifndef HF_COMMAND_COMMAND_H
#define HF_COMMAND_COMMAND_H

#include "base/buf.h"
#include "base/stats.h"
#include "entry/entry.h"
#include "resp/reply.h"
#include "resp/resp.h"
#include "store/store.h"

#include <stdbool.h>
#include <stdint.h>

/* ---- plan ---------------------------------------------------------------------------------------- */

/* A planned command: op and payload for the entry, or a refusal. */
struct hf_plan {
    uint16_t op;
    struct hf_buf payload;   /* reused between commands: reset by hf_command_plan */
    struct hf_reply refusal; /* a definite error when plan returned non-zero */
};
void hf_plan_free(struct hf_plan *p);

/* ---- apply --------------------------------------------------------------------------------------- */

/* All an apply handler can reach. */
struct hf_apply_ctx {
    struct hf_store *store;
    int64_t now_ms;            /* log time of this entry */
    uint64_t revision;         /* index << 16 | position: the version that this command's writes get */
    struct hf_prng prng;       /* seeded from (entry seed, position) */
    bool are_settings_changed; /* out: a replicated setting was written */
};

/* ---- read ---------------------------------------------------------------------------------------- */

struct hf_node_status;

struct hf_read_ctx {
    struct hf_store *store;
    int64_t clock_ms; /* leader's log clock, 0 = judge by log time only */
    uint64_t seed;
    const struct hf_node_status *status; /* NOGATE commands; else NULL */
    bool needs_tick;       /* set by hf_read_row / hf_read_peek; the handler's reply is then thrown away */
    uint32_t hits, misses; /* lookups by hf_read_row / hf_read_peek, for HF_METRIC_HITS and HF_METRIC_MISSES */
};

/* The only ways a read handler looks up a key: they notice keys that are due by clock_ms but not by log time. */
bool hf_read_row(struct hf_read_ctx *cx, struct hf_slice key, struct hf_row *row);
bool hf_read_peek(struct hf_read_ctx *cx, struct hf_slice key, struct hf_row *row);

/* ---- local --------------------------------------------------------------------------------------- */

#define HF_CLIENT_NAME_MAX 256 /* bytes of a name set by CLIENT SETNAME, SETINFO or HELLO SETNAME */

enum hf_client_reply_mode { HF_CLIENT_REPLY_ON, HF_CLIENT_REPLY_OFF, HF_CLIENT_REPLY_SKIP };

/* A local handler that leaves its reply empty wants none to be sent (CLIENT REPLY OFF, SHUTDOWN). */

/* One client connection as LOCAL commands see and change it; net owns it. */
struct hf_client {
    uint64_t id;
    char addr[64], laddr[64];
    char *name, *lib_name, *lib_ver; /* hf_malloc'ed or NULL */
    int protocol;                    /* 2 or 3 */
    bool authenticated;
    bool no_evict, no_touch;
    bool close_after_reply;                 /* QUIT, CLIENT KILL of self, protocol errors */
    bool killed;                            /* to be closed as soon as possible, no further command runs */
    enum hf_client_reply_mode reply_mode;   /* SKIP: the next command's reply is dropped, then ON */
    uint64_t connected_ms, last_command_ms; /* boot clock */
    const char *last_command;               /* static name or NULL */
    uint64_t query_bytes, output_bytes, commands, input_total, output_total;
    int fd;
};

/* What LOCAL commands and INFO may ask of the node and of net. `data` is the provider's. Loop thread. */
struct hf_local_ops {
    void *data;
    /* Visit all client connections of this node; cb returns false to stop. */
    void (*clients)(void *data, bool (*cb)(void *arg, struct hf_client *c), void *arg);
    /* Fill in a fresh status (see below); valid until the next call. */
    const struct hf_node_status *(*status)(void *data);
    /* Configuration: name/value pairs matching a glob; value of "maxclients" etc. */
    void (*config_get)(void *data, struct hf_slice pattern, void (*cb)(void *arg, const char *name, const char *value),
                       void *arg);
    void (*config_resetstat)(void *data);
    /* True when user/password are right (or no password is set and user is "default"). */
    bool (*auth)(void *data, struct hf_slice user, struct hf_slice password);
    bool (*auth_required)(void *data);
    /* Orderly stop of this node (SHUTDOWN): leadership is handed over first. */
    void (*shutdown)(void *data);
    /* Followers known to hold everything committed (WAIT). */
    uint32_t (*replicas_in_sync)(void *data);
    int64_t (*wall_ms)(void *data);
    uint64_t (*wall_us)(void *data);
    bool (*debug_allowed)(void *data);
};

struct hf_local_ctx {
    struct hf_client *client;
    const struct hf_local_ops *ops;
};

/* ---- operate ------------------------------------------------------------------------------------- */

/* One operator's request on its way. The provider of hf_operator_ops fills `reply` and calls hf_operation_done, now or
 * later, exactly once. */
struct hf_operation {
    void *data;
    void (*cb)(struct hf_operation *op); /* whoever started it (dispatch) */
    struct hf_reply reply;               /* out: one flat value, possibly an error */
    void *impl;                          /* the provider's */
};
void hf_operation_done(struct hf_operation *op);

/* What OPERATE commands may ask; the arguments are borrowed for the call. */
struct hf_operator_ops {
    void *data;
    /* nodes are named by name or id; replies "+OK ..." with what was done, or an error that says why not. */
    void (*member)(void *data, struct hf_operation *op, enum hf_member_op what, struct hf_slice node,
                   struct hf_slice other);
    /* START: a map with id, index, term, bytes, digest (hex), level. READ: a bulk. END: OK. */
    void (*backup_start)(void *data, struct hf_operation *op);
    void (*backup_read)(void *data, struct hf_operation *op, uint64_t id, uint64_t offset, uint64_t n);
    void (*backup_end)(void *data, struct hf_operation *op, uint64_t id);
    /* CONFIG SET: n pairs, all or nothing. */
    void (*config_set)(void *data, struct hf_operation *op, const struct hf_slice *names, const struct hf_slice *values,
                       uint32_t n);
};

/* Everything INFO, ROLE, HELLO and the status tools tell about this node, gathered on the loop thread. Strings
 * are borrowed from the provider. */
struct hf_node_peer_status {
    uint64_t id;
    const char *address;        /* peer address */
    const char *client_address; /* host:port clients use, "" when unknown */
    const char *role;           /* "voter", "standby", "spare" */
    bool is_connected;
    uint64_t match_index;     /* known on the leader only, else 0 */
    uint64_t last_contact_ms; /* age; UINT64_MAX = never */
    const char *name;         /* as operators call it; the id in digits unless it was given one */
    uint32_t level;           /* feature level it announced, 0 = not heard */
};
/* A state copy on its way from or to this node. */
struct hf_node_copy_status {
    uint64_t member;
    bool is_sending;
    const char *phase;
    uint64_t index, done_bytes, total_bytes, bytes_per_second;
};
struct hf_node_status {
    uint64_t node_id;
    const char *cluster_id;
    const char *role;                                   /* leader follower candidate unavailable */
    uint64_t term, leader_id;                           /* 0 = none known */
    const char *leader_address, *leader_client_address; /* "" when unknown */
    uint64_t first_index, last_index, commit_index, applied_index, durable_index, snapshot_index;
    const char *voters; /* "1,2,3" */
    uint32_t n_peers;
    const struct hf_node_peer_status *peers; /* the other members */
    int client_port, peer_port, http_port;
    const char *client_address; /* of this node */
    uint64_t uptime_ms, pid;
    uint64_t connected_clients, blocked_clients, maxclients;
    uint64_t rss_bytes, rss_peak_bytes, disk_free_bytes, journal_bytes, journal_tail_bytes, database_bytes;
    int64_t last_commit_ms; /* wall clock of the last durable SQLite commit (LASTSAVE) */
    const char *config_file, *data_dir;
    struct hf_stats *stats; /* the registry: command and latency statistics, totals */
    const char *problem;    /* "" or why the node is not ready, for /readyz and status */
    bool is_ready;          /* knows a leader and has applied what was committed when it started */
    const char *name;       /* of this node */
    const char *self_role;  /* "voter", "standby", "spare", "" when it is no member */
    const char *peer_address;
    uint32_t level, level_max; /* the cluster's feature level; what this release supports */
    uint32_t n_copies;
    const struct hf_node_copy_status *copies;
    uint64_t journal_bytes_max; /* what the journal on disk is kept under */
};

/* Metrics that INFO reads from the registry by name and that other folders count: whoever counts one registers it
 * under this name. One that nobody registered shows as 0. */
#define HF_METRIC_CONNECTIONS  "net_connections_total"          /* counter: connections accepted */
#define HF_METRIC_REJECTED     "net_connections_rejected_total" /* counter: refused over maxclients */
#define HF_METRIC_INPUT_BYTES  "net_input_bytes_total"          /* counter */
#define HF_METRIC_OUTPUT_BYTES "net_output_bytes_total"         /* counter */
#define HF_METRIC_COMMANDS     "commands_processed_total"       /* counter: commands read from clients */
#define HF_METRIC_ERRORS       "error_replies_total"            /* counter: replies to clients that were errors */
#define HF_METRIC_OPS          "commands_per_second"            /* gauge: over the last second or so */
#define HF_METRIC_HITS         "keyspace_hits_total"            /* counter: sum of hf_read_ctx.hits */
#define HF_METRIC_MISSES       "keyspace_misses_total"          /* counter: sum of hf_read_ctx.misses */
#define HF_METRIC_EXPIRED      "keyspace_expired_total"         /* counter: keys removed because they were due */

/* Error replies by their first word (INFO errorstats): a fixed list of words, "other" for the rest, so that neither
 * clients nor other nodes can make it grow. */
#define HF_ERROR_WORDS 14
struct hf_error_stats {
    struct hf_counter *of[HF_ERROR_WORDS];
};
/* Registers error_replies_by_word_total{word="ERR"} and so on at the first call. Any thread, but slow: callers keep the
 * result. */
struct hf_error_stats hf_error_stats(struct hf_stats *st);
const char *hf_error_word(uint32_t i);
/* Counts a flat reply that is an error; others are left alone. Any thread. */
void hf_error_stats_count(const struct hf_error_stats *errors, struct hf_slice flat);

/* What is counted for each command. rejected: refused before it ran (wrong number of arguments, not permitted,
 * refused by its plan, no leader); failed: ran and gave an error. calls counts those that ran. */
struct hf_command_stats {
    struct hf_counter *calls, *rejected, *failed;
    struct hf_histogram *duration_us;
};

/* ---- the table ----------------------------------------------------------------------------------- */

enum hf_command_flags {
    HF_CMD_WRITE = 1 << 0,
    HF_CMD_READ = 1 << 1,
    HF_CMD_LOCAL = 1 << 2,
    HF_CMD_NOGATE = 1 << 3,
    HF_CMD_FAST = 1 << 4,
    HF_CMD_ADMIN = 1 << 5,
    HF_CMD_NO_AUTH = 1 << 6,    /* allowed before AUTH */
    HF_CMD_LOADING = 1 << 7,    /* allowed while not ready */
    HF_CMD_DENYOOM = 1 << 8,    /* may grow the state: refused when space is low */
    HF_CMD_FRAMING = 1 << 9,    /* LOCAL: runs only when all earlier commands of the connection are answered, because it
                                 * changes the protocol of replies (HELLO, RESET) or shows what they did (CONFIG GET) */
    HF_CMD_SLOW_READ = 1 << 10, /* may visit the whole state (KEYS) */
    HF_CMD_OPERATE = 1 << 11,   /* see above; neither WRITE, READ nor LOCAL */
};

enum hf_command_group { HF_GROUP_CONNECTION, HF_GROUP_GENERIC, HF_GROUP_STRING, HF_GROUP_SERVER, HF_GROUP_HOLDFAST };

struct hf_command {
    const char *name; /* lower case; "client|id" style for subcommands */
    uint16_t op;      /* WRITE only; numbers are for ever (ops.h) */
    int16_t arity;    /* with the name; negative = at least */
    uint32_t flags;
    struct {
        int16_t first, last, step; /* 0,0,0 = no keys; last < 0 counts from the end */
    } keys;
    int (*plan)(struct hf_plan *plan, const struct hf_args *args);
    void (*apply)(struct hf_apply_ctx *cx, struct hf_reader *in, struct hf_reply *out);
    void (*read)(struct hf_read_ctx *cx, const struct hf_args *args, struct hf_reply *out);
    void (*local)(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out);
    void (*operate)(struct hf_operation *op, const struct hf_operator_ops *ops, const struct hf_args *args);
    const struct hf_command *subcommands; /* array ended by name NULL */
    struct {
        enum hf_command_group group;
        const char *summary, *since, *complexity, *args; /* args: "key:key [count:integer]" */
    } doc;
    uint16_t id; /* dense number, for per-command statistics; set by hf_command_table_init */
};

/* Builds the lookup; call once per process before use (idempotent, not thread-safe). */
void hf_command_table_init(void);
/* Case-insensitive; NULL when unknown. Any thread. */
const struct hf_command *hf_command_find(struct hf_slice name);
/* The row that runs: descends into subcommands. On failure returns NULL with the exact Redis error in err:
 * unknown command, unknown subcommand, wrong number of arguments. */
const struct hf_command *hf_command_resolve(const struct hf_args *args, struct hf_reply *err);
/* Row of an op, NULL when unknown (the node must stop). */
const struct hf_command *hf_command_by_op(uint16_t op);
/* The feature level (entry.h) that a node needs to apply this command. */
uint32_t hf_command_level(const struct hf_command *cmd, struct hf_slice payload);
/* WRITE rows that only nodes submit: settings and the feature level. No client can name them: they have an op, but are
 * not found by hf_command_find or resolve, and have no id. NULL when there is none of this name. */
const struct hf_command *hf_command_internal(struct hf_slice name);
#define HF_COMMAND_SETTING "_setting" /* name value: sets a replicated setting; "" deletes */
#define HF_COMMAND_LEVEL   "_level"   /* level: raises the cluster's feature level */
/* Number of rows with an id; row by id. */
uint16_t hf_command_count(void);
const struct hf_command *hf_command_at(uint16_t id);
/* Top-level rows in table order, ended by NULL. */
const struct hf_command *const *hf_command_all(void);

/* Run cmd->plan with a clean plan: 0 = op and payload are set; non-zero = plan->refusal holds the reply. */
int hf_command_plan(const struct hf_command *cmd, struct hf_plan *plan, const struct hf_args *args);

/* The figures of the command with this id: command_calls_total{cmd="get"}, command_rejected_total,
 * command_failed_total and command_duration_us, registered at the first call. Any thread, but slow (it searches
 * the registry): callers keep the result. */
struct hf_command_stats hf_command_stats(struct hf_stats *st, uint16_t id);

/* Markdown of docs/commands.md, and the names for completion in the shell. */
void hf_command_docs_markdown(struct hf_buf *out);

#endif
