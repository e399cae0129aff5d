/* node.h: one node without its client sockets: consensus, state, proposer, proxy and dispatcher wired together. main.c
 * adds net, HTTP and signals; the simulator runs nodes as they are, on fake time, streams and files.
 * Loop thread only. */
#ifndef HF_MAIN_NODE_H
#define HF_MAIN_NODE_H

#include "apply/apply.h"
#include "base/env.h"
#include "base/stats.h"
#include "consensus/consensus.h"
#include "dispatch/dispatch.h"
#include "operate/operate.h"
#include "propose/propose.h"
#include "proxy/proxy.h"

struct hf_node;

struct hf_node_config {
    struct hf_consensus_config consensus;
    struct hf_state_config state; /* store.path is filled in by the node: DIR/state-<generation>.db */
    struct hf_proposer_config proposer;
    struct hf_dispatch_config dispatch;
    struct hf_resp_limits limits; /* of proxied commands */
    uint64_t free_bytes_min;      /* below this much free disk, writes that grow the state are refused */
    uint64_t snapshot_rate;       /* bytes a second that copies of the state are sent with at most, 0 = unlimited */
    uint64_t snapshot_chunk_bytes, snapshot_window_bytes; /* of copies on their way, 0 = default */
    struct hf_operator_config operate;
    const struct hf_settings_ops *settings; /* how CONFIG SET takes effect; borrowed. NULL: it is refused */
    /* A self-contained hf_malloc'ed snapshot for INFO and the like; the reader frees it. May be NULL. */
    struct hf_node_status *(*status)(void *data);
    void *status_data;
    /* The node cannot go on; `why` says what to do. Called once; the owner exits. */
    void (*on_failed)(void *data, int err, const char *why);
    void *failed_data;
    /* This node was removed from the cluster: the owner stops it cleanly. */
    void (*on_removed)(void *data, const char *why);
    void *removed_data;
};

/* Opens everything and starts. Strings in config are copied. `why` is for the operator. */
HF_MUST_CHECK int hf_node_open(struct hf_env *env, const struct hf_node_config *config, struct hf_stats *stats,
                               struct hf_node **out, char *why, size_t why_size);
/* Hand leadership over if this node has it (bounded by timeout_ms), then call done. New commands wait meanwhile. */
void hf_node_retire(struct hf_node *node, uint64_t timeout_ms, void (*done)(void *data), void *data);
/* Finishes the state's work and commits; lanes must be closed before. */
void hf_node_close(struct hf_node *node);

struct hf_dispatcher *hf_node_dispatcher(struct hf_node *node);
struct hf_consensus *hf_node_consensus(struct hf_node *node);
struct hf_state *hf_node_state(struct hf_node *node);
struct hf_proposer *hf_node_proposer(struct hf_node *node);
struct hf_snapshots *hf_node_snapshots(struct hf_node *node);
struct hf_space *hf_node_space(struct hf_node *node);
/* A status of what is known here, as one hf_malloc'ed block (strings inside); the caller frees it. */
struct hf_node_status *hf_node_status_new(struct hf_node *node);

#endif
