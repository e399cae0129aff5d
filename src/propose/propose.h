/* propose.h: turns planned commands into log entries and tells what became of them. Leader side; loop thread only.
 * Commands that arrive while entries are in flight are packed into the next one: no timer, no latency added when
 * idle. Knows nothing of sockets or lanes.
 *
 * Also the leader's log clock (R4), ticks for due expiries, and the way of committed entries into the state
 * thread, so that the replies of an entry find their way back (matched by index, term and nonce: R21). */
#ifndef HF_PROPOSE_PROPOSE_H
#define HF_PROPOSE_PROPOSE_H

#include "apply/apply.h"
#include "base/env.h"
#include "base/stats.h"
#include "command/command.h"
#include "consensus/consensus.h"

struct hf_proposer;

enum hf_fate {
    HF_FATE_APPLIED = 1, /* reply holds the answer */
    HF_FATE_REFUSED,     /* never entered the log, or its place went to another entry: it did not happen */
    HF_FATE_UNKNOWN,     /* leadership lost or time-out after submit: it may still happen */
};

struct hf_propose_req { /* caller-allocated; embed it */
    void *data;
    void (*cb)(struct hf_propose_req *req, enum hf_fate fate, struct hf_slice reply);
    /* private */
    struct hf_propose_req *next;
    size_t bytes;
};

struct hf_proposer_config {
    uint64_t entry_bytes_max;       /* a batch is closed at this size (one larger command still goes, alone) */
    uint32_t entries_in_flight;     /* submitted and not yet committed */
    uint64_t queue_bytes_max;       /* commands waiting for an entry, and entries not yet applied */
    uint64_t unknown_timeout_ms;    /* a submitted entry that did not commit by then is UNKNOWN to its clients */
    uint64_t state_queue_bytes_max; /* committed entries waiting for the state thread, beyond it delivery pauses */
    uint64_t seed;
};

HF_MUST_CHECK int hf_proposer_open(struct hf_env *env, const struct hf_proposer_config *config,
                                   struct hf_consensus *consensus, struct hf_state *state, struct hf_stats *stats,
                                   int64_t log_time_ms, struct hf_proposer **out);
/* Everything still pending gets UNKNOWN (submitted) or REFUSED. */
void hf_proposer_close(struct hf_proposer *p);

/* Queue a planned command. Plan bytes are copied. On 0 the request belongs to propose until cb, which comes exactly
 * once and never before this returns; reply is borrowed for the length of cb and empty unless APPLIED.
 * On error cb never comes: HF_E_NOT_LEADER, HF_E_BUSY (queue_bytes_max), HF_E_LIMIT (larger than an entry may be). */
HF_MUST_CHECK int hf_propose(struct hf_proposer *p, struct hf_propose_req *req, const struct hf_plan *plan);
/* Propose an entry that only moves log time to the leader's clock; requests that come together share one.
 * Same contract as hf_propose; the reply is empty. */
HF_MUST_CHECK int hf_propose_tick(struct hf_proposer *p, struct hf_propose_req *req);

/* The leader's log clock, ms: never goes back, advances by CLOCK_BOOTTIME, slewed to the wall clock (R4). On a
 * node that does not lead: log time as last applied. */
int64_t hf_propose_clock_ms(struct hf_proposer *p);
/* Bytes waiting or in flight, for back-pressure and status. */
uint64_t hf_propose_queued_bytes(const struct hf_proposer *p);

/* ---- called by the wiring (main/node.c) from the events of consensus and state ----------------------- */

/* consensus.on_commit: hands the entry to the state thread; false = pause delivery. */
bool hf_propose_on_commit(struct hf_proposer *p, struct hf_log_entry *e);
void hf_propose_on_role(struct hf_proposer *p, enum hf_role role, uint64_t term);
/* After a swap of the state (hf_state_swap): log time as the new database has it. What was submitted at an index that
 * the swap went past ends as UNKNOWN. */
void hf_propose_on_swap(struct hf_proposer *p, int64_t log_time_ms);
/* state.on_next_due. */
void hf_propose_on_next_due(struct hf_proposer *p, int64_t due_ms);

#endif
