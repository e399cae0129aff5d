/* config.h: every setting of the server, declared once. One table (config.c) gives --help, the sample file,
 * docs/configuration.md, CONFIG GET/SET and this struct's values. A setting comes from, strongest first: the command
 * line (--name value), the file (--config FILE: lines `name value`), the environment (HOLDFAST_NAME), the default. */
#ifndef HF_MAIN_CONFIG_H
#define HF_MAIN_CONFIG_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct hf_config {
    /* identity and addresses */
    uint64_t id;
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
    /* state */
    uint64_t commit_interval_ms, commit_bytes_max, cache_bytes, dirty_bytes, page_cache_bytes, free_disk_min;
    bool enable_debug_command;
    /* where it came from */
    char *config_file;             /* "" or the absolute path */
    struct hf_config_inert *inert; /* Redis parameters that are kept and mean nothing here; private */
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

/* CONFIG GET: every name (ours, and Redis' names for the same thing) that matches the glob. */
void hf_config_get(const struct hf_config *c, struct hf_slice pattern,
                   void (*cb)(void *arg, const char *name, const char *value), void *arg);
/* CONFIG SET: all or nothing; err is the text of the error reply without "ERR ". */
bool hf_config_set(struct hf_config *c, const struct hf_slice *names, const struct hf_slice *values, uint32_t n,
                   char *err, size_t err_size);

#endif
