/* harness.h: one node's commands without network, log and threads: words in, reply out, along the true path
 * (resolve, plan, encode an entry, decode it, apply; or read; or local). */
#ifndef HF_TESTS_COMMAND_HARNESS_H
#define HF_TESTS_COMMAND_HARNESS_H

#include "command/command.h"
#include "entry/entry.h"

#define HARNESS_CLIENTS 3
#define HARNESS_EPOCH   1700000000000ll /* log time and clock at the start */

struct harness {
    char dir[64];
    struct hf_stats *stats;
    struct hf_store *store;
    int64_t clock_ms; /* the leader's; log time follows it at each entry */
    uint64_t seed;
    struct hf_log_entry **log;
    size_t n_log;
    struct hf_plan plan;
    uint32_t n_ticks; /* asked for by reads */
    struct hf_client clients[HARNESS_CLIENTS];
    struct hf_local_ops ops;
    struct hf_operator_ops operator_ops;
    struct hf_node_status status;
    struct hf_node_peer_status peers[2];
    bool debug_allowed, password_set, stats_reset, is_shut_down;
    char config[3][2][32];
};

void harness_open(struct harness *h);
void harness_close(struct harness *h);
/* Run words as client 0 (or, for rows that clients cannot name, as a node); the flat reply (empty = none) is valid
 * until the next call. */
struct hf_slice harness_run(struct harness *h, const struct hf_args *args);
/* Run one line in the notation of redis-cli; *text gets the reply as redis-cli shows it, with a final 0. */
void harness_run_line(struct harness *h, const char *line, struct hf_buf *text);
/* An entry without commands at the present clock. */
void harness_tick(struct harness *h);
/* Propose several lines as one entry, all of them writes; replies are dropped. */
void harness_entry(struct harness *h, const char *const *lines, uint32_t n);
/* Apply the whole log to a second store and compare the digests. */
void harness_check_replay(struct harness *h);

/* Render a flat reply as redis-cli shows it to a terminal. */
void render_reply(struct hf_buf *out, struct hf_slice flat);

/* The text of a reply to `line`, compared. */
#define expect(h, line, wanted)                                                                                        \
    do {                                                                                                               \
        struct hf_buf text_ = {0};                                                                                     \
        harness_run_line(h, line, &text_);                                                                             \
        ck_assert_msg(strcmp((char *)text_.data, wanted) == 0, "%s: %s", line, (char *)text_.data);                    \
        hf_buf_free(&text_);                                                                                           \
    } while (0)

#endif
