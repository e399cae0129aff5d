/* doubles.h: what stands around propose, proxy and dispatch in their unit tests: an environment with a clock that the
 * test moves, a consensus that commits what the test says, a state that applies when the test says, and links that
 * deliver to each other. They define the functions of those folders' headers; the real ones are not linked. */
#ifndef HF_TEST_DOUBLES_H
#define HF_TEST_DOUBLES_H

#include "apply/apply.h"
#include "base/env.h"
#include "base/stats.h"
#include "consensus/consensus.h"
#include "peer/peer.h"

/* ---- environment -------------------------------------------------------------------------------------- */

struct test_env {
    struct hf_env env;
    uint64_t boot_ns;
    int64_t wall_ms;
    struct hf_timer_heap timers;
    struct hf_task *tasks, **tasks_tail;
};
void test_env_init(struct test_env *te);
void test_env_free(struct test_env *te);
/* Run posted tasks until there are none: the end of a loop turn. */
void test_env_turn(struct test_env *te);
/* Move both clocks forward, firing timers on the way, with a turn after each. */
void test_env_pass(struct test_env *te, uint64_t ms);

/* ---- consensus ---------------------------------------------------------------------------------------- */

#define TEST_LOG_MAX   4096
#define TEST_NODES_MAX 8

struct hf_consensus {
    struct test_env *te;
    enum hf_role role;
    uint64_t term, leader;
    int submit_rc; /* != 0: what submit answers */
    int64_t offset_ms;
    struct hf_log_entry *log[TEST_LOG_MAX]; /* by index, from 1 */
    uint64_t last_index, delivered_index;
    uint32_t submits, resumes;
    bool is_paused;
    struct hf_gate *gates, **gates_tail;
    uint32_t n_gates;
    struct hf_link *links[TEST_NODES_MAX]; /* dialed, by node id */
    bool (*on_commit)(void *data, struct hf_log_entry *e);
    void *on_commit_data;
};
void test_consensus_init(struct hf_consensus *c, struct test_env *te);
void test_consensus_free(struct hf_consensus *c);
/* Deliver up to this index (stops when told to pause). */
void test_consensus_commit(struct hf_consensus *c, uint64_t upto);
/* Replace what stands at index (and drop what follows) by an entry of another leader. */
void test_consensus_overwrite(struct hf_consensus *c, uint64_t index, uint64_t term);
/* All gates open now answer rc. */
void test_consensus_answer_gates(struct hf_consensus *c, int rc);

/* ---- state -------------------------------------------------------------------------------------------- */

/* Applying gives "index.position" as each command's reply. */
struct hf_state {
    struct hf_state_entry *entries, **entries_tail;
    struct hf_state_read *reads, **reads_tail;
    uint64_t queued_bytes, applied_index;
    int64_t log_time_ms;
    uint32_t n_entries, n_reads;
    /* Fills in the reply of a read; NULL: "read". */
    void (*on_read)(struct hf_state *st, struct hf_state_read *read);
};
void test_state_init(struct hf_state *st);
/* Finish entries, at most n; then all reads that wait. */
void test_state_apply(struct hf_state *st, uint32_t n);
void test_state_answer_reads(struct hf_state *st);

/* ---- links -------------------------------------------------------------------------------------------- */

struct test_message {
    struct test_message *next;
    uint8_t type;
    size_t len;
    uint8_t bytes[];
};
struct hf_link {
    uint64_t node_id; /* of the other side */
    struct hf_link *other;
    bool is_closed; /* hf_link_close was called on this side */
    bool is_busy;
    int send_rc;
    size_t message_max; /* 0 = none */
    uint32_t sent;
    struct test_message *inbox, **inbox_tail; /* on their way to this side */
};
void test_link_pair(struct hf_link *a, uint64_t a_id, struct hf_link *b, uint64_t b_id);
void test_link_free(struct hf_link *l);
/* Put bytes into a link's inbox as if the other side had sent them. */
void test_link_inject(struct hf_link *l, uint8_t type, struct hf_slice bytes);
/* The next message for this side, NULL when none; free it with hf_free. */
struct test_message *test_link_take(struct hf_link *l);

#endif
