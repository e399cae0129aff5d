/* config.h: every setting of the server, declared once. One table (config.c) gives --help, the sample file,
 * docs/configuration.md, CONFIG GET/SET and this struct's values. A setting comes from, strongest first: the replicated
 * state (settings of the cluster), DIR/settings (changed while the node ran), the command line (--SETTING VALUE), the
 * file
 * (--config FILE: lines `SETTING VALUE`), the environment (HOLDFAST_SETTING), the default.
 *
 * DIR/settings is text with a checksum behind it (hf_fs_write_small): first "holdfast-settings 1", then a line `name
 * value` for each setting that CONFIG SET changed, in the order of the table; in the value a line break is written \n
 * and a backslash \\. */
#ifndef HF_MAIN_CONFIG_H
#define HF_MAIN_CONFIG_H

#include "base/buf.h"
#include "base/err.h"
#include "base/fs.h"

#include <stdbool.h>
#include <stdint.h>

struct hf_config {
    /* identity and addresses */
    uint64_t id;      /* 0: the cluster gives it (with --join), or it stands in the data directory */
    bool is_id_given; /* it does not come from the default */
    char *name, *join, *replaces, *peer_advertise;
    bool join_as_learner;
    char *listen, *advertise, *peer_listen, *http_listen, *peers, *cluster_id, *dir;
    /* logging */
    char *log_level, *log_format, *log_file;
    /* clients */
    char *requirepass;
    uint64_t maxclients, timeout_s, bulk_bytes_max, args_max, query_bytes_max, output_bytes_max, pipeline_max;
    /* commands */
    uint64_t no_leader_timeout_ms, unknown_timeout_ms, entry_bytes_max, entries_in_flight, propose_queue_bytes;
    /* consensus */
    uint64_t election_timeout_ms, heartbeat_ms;
    uint64_t journal_segment_bytes, journal_tail_bytes, journal_retain_bytes, journal_max_bytes, snapshot_journal_bytes;
    uint64_t journal_pin_bytes, transfer_rate;
    /* state */
    uint64_t commit_interval_ms, commit_bytes_max, cache_bytes, dirty_bytes, page_cache_bytes, free_disk_min;
    bool enable_debug_command;
    /* where it came from */
    char *config_file;         /* "" or the absolute path */
    struct hf_config_run *run; /* what was changed while the node ran, and Redis' parameters without effect; private */
};

enum hf_config_want {
    HF_CONFIG_RUN,
    HF_CONFIG_HELP,         /* --help */
    HF_CONFIG_VERSION,      /* --version */
    HF_CONFIG_PRINT_CONFIG, /* --print-config: the sample file */
    HF_CONFIG_PRINT_DOCS,   /* --print-docs: docs/configuration.md */
};

/* Fill *out from everything. On error a message for the operator in err names the place (flag, file:line, variable). */
HF_MUST_CHECK int hf_config_load(struct hf_config *out, int argc, char **argv, enum hf_config_want *want, char *err,
                                 size_t err_size);
void hf_config_free(struct hf_config *c);

void hf_config_help(struct hf_buf *out);
void hf_config_sample(struct hf_buf *out);
void hf_config_markdown(struct hf_buf *out);

/* ---- while the node runs ---- */

/* Take in c->dir's file "settings", if there is one: it wins over all other sources, with a line in the log where it
 * differs from one that was given. On error err names the file and says what to do. */
HF_MUST_CHECK int hf_config_load_settings(struct hf_config *c, struct hf_fs *fs, char *err, size_t err_size);

/* CONFIG GET: every name (ours, and Redis' names for the same thing) that matches the glob. */
void hf_config_get(const struct hf_config *c, struct hf_slice pattern,
                   void (*cb)(void *arg, const char *name, const char *value), void *arg);
/* CONFIG SET, first step: may these n pairs be set? Changes nothing; is_cluster[i] tells whose each is. False: err is
 * the text of the error reply without "ERR ". */
bool hf_config_check(const struct hf_config *c, const struct hf_slice *names, const struct hf_slice *values, uint32_t n,
                     bool *is_cluster, char *err, size_t err_size);
/* Second step, for a pair of this node: it has this value, and the file has it too; or nothing is changed. */
bool hf_config_set_local(struct hf_config *c, struct hf_fs *fs, struct hf_slice name, struct hf_slice value, char *err,
                         size_t err_size);
/* A setting of the cluster has this value in the replicated state; "" = none: what this node was started with holds. */
bool hf_config_set_cluster(struct hf_config *c, struct hf_slice name, struct hf_slice value, char *err,
                           size_t err_size);
/* The heartbeat to run with: settings of the cluster come one by one, so for a moment two may not fit each other. */
uint64_t hf_config_heartbeat_ms(const struct hf_config *c);

#endif
