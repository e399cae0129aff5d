/* dispatch.h: runs one client's commands in order, here or on the leader.
 *
 * A lane is one ordered stream of commands: a client connection of this node, or a client of another node whose
 * commands arrive over a proxy stream. The rule that gives I7, R2 and R3 at once: a command starts only when the
 * lane has nothing in flight, or when everything in flight is of the same kind (write, read, forwarded) and has the
 * same destination (this leader in this term, or that leader in that term). Otherwise it waits its turn.
 *
 * WRITE: planned, proposed, answered when applied. READ: passes the read gate, then runs on the state thread.
 * On a node that does not lead, both are forwarded to the leader; with no leader known they wait at most
 * no_leader_timeout_ms, then fail with NOLEADER (nothing happened). OPERATE: given to operator_ops here, alone in its
 * lane, whether a leader is known or not; whoever takes it cares for time limits. Loop thread only. */
#ifndef HF_DISPATCH_DISPATCH_H
#define HF_DISPATCH_DISPATCH_H

#include "apply/apply.h"
#include "base/env.h"
#include "base/stats.h"
#include "command/command.h"
#include "consensus/consensus.h"
#include "propose/propose.h"
#include "proxy/proxy.h"

#include <stdbool.h>
#include <stdint.h>

struct hf_dispatcher; /* one per node; made in main/node.c */
struct hf_lane;

struct hf_dispatch_config {
    uint64_t no_leader_timeout_ms; /* how long a command may wait for a leader */
    uint32_t lane_queue_max;       /* commands a lane holds (waiting and in flight) before it is full */
    uint64_t overload_bytes;       /* propose queue beyond which new writes wait in their lanes (back-pressure) */
    const struct hf_operator_ops *operator_ops; /* for OPERATE commands; borrowed. NULL: they are refused */
};

/* All borrowed for the dispatcher's life; config is copied. Installs itself as the proxy's handler. status gives one
 * hf_malloc'ed block with everything in it, which the dispatcher frees after the read that it was for. */
HF_MUST_CHECK int hf_dispatcher_open(struct hf_env *env, const struct hf_dispatch_config *config,
                                     struct hf_consensus *consensus, struct hf_proposer *proposer,
                                     struct hf_state *state, struct hf_proxy *proxy,
                                     const struct hf_node_status *(*status)(void *data), void *status_data,
                                     struct hf_stats *stats, struct hf_dispatcher **out);
/* The node begins to close: nothing is given to the state any more, whose queue is about to be finished. */
void hf_dispatcher_stop(struct hf_dispatcher *d);
/* Every waiting command gets NOLEADER (shutting down), those in flight end as UNKNOWN; lanes must be closed by
 * their owners before. Comes last: consensus, state, proposer and proxy are closed by then, and by that have given back
 * everything that was in flight with them. */
void hf_dispatcher_close(struct hf_dispatcher *d);
/* consensus.on_role, from the wiring: waiting commands look again where to go. */
void hf_dispatcher_on_role(struct hf_dispatcher *d);
/* Why writes are refused now ("NOSPACE ..." or "READONLY ..." full error text), NULL = they are not. Copied. */
void hf_dispatcher_refuse_writes(struct hf_dispatcher *d, const char *error_text);

/* One command on its way. Embedded in the caller's slot; the caller owns it until hf_lane_submit and again from
 * cb on. args and the bytes they point to must stay valid until cb. */
struct hf_dispatch_req {
    void *data;
    void (*cb)(struct hf_dispatch_req *req);
    const struct hf_command *command; /* resolved row: WRITE, READ (NOGATE included) or OPERATE, never LOCAL. Rows that
                                       * clients cannot name (hf_command_internal) are as good as any. */
    struct hf_args args;
    struct hf_reply reply; /* out, owned by the caller in cb: one flat value, possibly an error */
    /* private to dispatch */
    struct hf_dispatch_req *next;
    struct hf_lane *lane;
    uint64_t started_ns, seq, term;
    int state;
    int outcome;
    int64_t clock_ms;
    union {
        struct hf_propose_req propose;
        struct hf_state_read read;
        struct hf_proxy_call call;
        struct hf_operation operation;
    } op;
};

/* queued_max: commands a lane may hold before hf_lane_is_full says to stop reading from the client. */
struct hf_lane *hf_lane_open(struct hf_dispatcher *d);
/* The client is gone: commands not yet started are dropped, those in flight run to their end; no cb comes any more
 * for any of them, so requests still in flight are *moved* to the lane: the caller must have allocated each request
 * with hf_malloc as one block [req first member at offset 0 of the block], and `release` (may be NULL = hf_free) is
 * called for each, later. */
void hf_lane_close(struct hf_lane *lane, void (*release)(struct hf_dispatch_req *req));
/* Always accepted; cb exactly once, never before this returns. */
void hf_lane_submit(struct hf_lane *lane, struct hf_dispatch_req *req);
/* Back-pressure: true when the client should not be read from now; on_ready (set once) is called when that ends. */
bool hf_lane_is_full(const struct hf_lane *lane);
void hf_lane_set_ready_cb(struct hf_lane *lane, void (*on_ready)(void *data), void *data);

#endif
