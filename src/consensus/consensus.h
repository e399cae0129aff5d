/* consensus.h: one member of the raft group: libraft's pure core driven by our journal, peers and timer.
 * The only folder that includes raft.h; this header shows none of it. Loop thread only.
 *
 * Life: open (identity, marker, journal recovered; nothing runs) -> the owner opens the state at
 * hf_consensus_generation -> start -> ... -> close. A new data directory forms the cluster first: it waits until
 * every listed member is reachable and empty, once (R19). */
#ifndef HF_CONSENSUS_CONSENSUS_H
#define HF_CONSENSUS_CONSENSUS_H

#include "base/env.h"
#include "base/stats.h"
#include "entry/entry.h"
#include "peer/peer.h"

#include <stdbool.h>
#include <stdint.h>

struct hf_consensus;

/* After a start a voter neither grants votes nor campaigns for this long, because it has forgotten the promises it
 * may have made to a leaseholder (R10). No lease will ever be longer. */
#define HF_LEASE_MAX_MS 500u

enum hf_role { HF_ROLE_UNAVAILABLE = 0, HF_ROLE_FOLLOWER, HF_ROLE_CANDIDATE, HF_ROLE_LEADER };

struct hf_consensus_config {
    const char *dir; /* data directory (created if missing) */
    uint64_t node_id;
    const char *listen_address; /* peer address to listen on */
    const char *client_address; /* told to the other members */
    const char *members;        /* "1=host:port,..." or "" = this node alone at listen_address */
    const char *cluster_id;     /* word or "" */
    uint64_t seed;              /* randomises elections; unique per start */
    uint32_t election_timeout_ms, heartbeat_ms;
    uint64_t message_bytes_max; /* longest entry plus slack */
    uint64_t journal_segment_bytes, journal_tail_bytes;
    uint64_t journal_retain_bytes;   /* kept behind the marker for members that are a little behind */
    uint64_t journal_max_bytes;      /* kept at most for a voter that lags further */
    uint64_t snapshot_journal_bytes; /* take a marker when the journal grew by this much since the last */
};

struct hf_consensus_events {
    void *data;
    /* The next entry of the log is committed and in the local journal: every entry > the applied index given to
     * start, in order, once. Borrowed (ref to keep). Return false to pause delivery after this one (the state queue
     * is full) until hf_consensus_resume. */
    bool (*on_commit)(void *data, struct hf_log_entry *e);
    /* Role, term or known leader changed. Leader here means: the core says so; reads and writes need no more than
     * submit and gate, which check for themselves. */
    void (*on_role)(void *data, enum hf_role role, uint64_t term, uint64_t leader_id);
    /* Links of the PROXY channel and their messages, for the proxy. */
    void (*on_link_up)(void *data, struct hf_link *link);
    void (*on_link_down)(void *data, struct hf_link *link);
    void (*on_message)(void *data, struct hf_link *link, uint8_t type, struct hf_slice payload);
    /* The node cannot go on; err and text say why. Called at most once; the owner stops. */
    void (*on_failed)(void *data, int err, const char *why);
};

/* Errors come with `why`: a text for the operator that names the file and what to do. */
HF_MUST_CHECK int hf_consensus_open(struct hf_env *env, const struct hf_consensus_config *config,
                                    const struct hf_consensus_events *events, struct hf_stats *stats,
                                    struct hf_consensus **out, char *why, size_t why_size);
uint64_t hf_consensus_generation(const struct hf_consensus *c);
/* applied_index: of the opened state. Starts listening, dialing, and raft (when formed). */
HF_MUST_CHECK int hf_consensus_start(struct hf_consensus *c, uint64_t applied_index, char *why, size_t why_size);
void hf_consensus_close(struct hf_consensus *c);

/* ---- leader ------------------------------------------------------------------------------------------- */

/* Append one COMMAND entry; takes the reference on 0. *index and *term name its place. HF_E_NOT_LEADER: nothing
 * happened (definite). HF_E_AGAIN: leads but hands over leadership right now (nothing happened). */
HF_MUST_CHECK int hf_consensus_submit(struct hf_consensus *c, struct hf_log_entry *e, uint64_t *index, uint64_t *term);

/* Read gate (DESIGN.md 5): cb with 0 once a majority of voters confirmed, after this call, that no later leader
 * existed, and every entry committed at the time of this call (and one of our own term) was delivered through
 * on_commit: the state then answers linearizably. cb with HF_E_NOT_LEADER when that can't be had here (nothing
 * happened: ask elsewhere). Never from inside this call. The struct is the caller's until cb. */
struct hf_gate {
    void *data;
    void (*cb)(struct hf_gate *gate, int rc);
    /* private */
    struct hf_gate *next;
    uint64_t read_index, sequence;
};
void hf_consensus_gate(struct hf_consensus *c, struct hf_gate *gate);

/* Hand leadership over to `target` (0 = the most up-to-date voter). cb: 0 when this node no longer leads (or never
 * did), HF_E_TIMEOUT, HF_E_NOENT (no other voter). New submits give HF_E_AGAIN meanwhile. One at a time. */
void hf_consensus_transfer(struct hf_consensus *c, uint64_t target, uint64_t timeout_ms, void (*cb)(void *data, int rc),
                           void *data);

/* ---- the owner's part of compaction ------------------------------------------------------------------- */

/* The state is durable up to this index (I4, R14); configuration bytes as delivered. May take a marker snapshot and
 * cut the journal. Bytes are copied. */
void hf_consensus_state_durable(struct hf_consensus *c, uint64_t index, uint64_t term, uint64_t configuration_index,
                                struct hf_slice configuration);
/* Continue delivery after on_commit returned false. */
void hf_consensus_resume(struct hf_consensus *c);

/* ---- looking ------------------------------------------------------------------------------------------ */

struct hf_consensus_member {
    uint64_t id;
    char address[256];        /* peer address */
    char client_address[256]; /* "" until a hello told it */
    const char *role;         /* voter, standby, spare */
    bool is_connected;
    uint64_t match_index; /* on the leader, else 0 */
    uint64_t silence_ms;  /* UINT64_MAX = never heard of */
};
struct hf_consensus_status {
    enum hf_role role;
    uint64_t node_id, term;
    uint64_t leader_id; /* 0 = none known in this term (R30) */
    uint64_t first_index, last_index, commit_index, delivered_index, durable_index, snapshot_index;
    uint64_t journal_bytes, journal_tail_bytes;
    uint32_t n_members;
    struct hf_consensus_member members[16]; /* this node included */
    char cluster_id[33];                    /* hex */
    char voters[128];                       /* "1,2,3" */
    bool is_formed;
    char problem[256]; /* "" or what keeps this node from serving, for operators */
};
void hf_consensus_status(const struct hf_consensus *c, struct hf_consensus_status *out);
enum hf_role hf_consensus_role(const struct hf_consensus *c);
uint64_t hf_consensus_term(const struct hf_consensus *c);
uint64_t hf_consensus_leader(const struct hf_consensus *c); /* 0 = none known in the current term */
/* Dialed PROXY link to a member, NULL when not connected. */
struct hf_link *hf_consensus_proxy_link(struct hf_consensus *c, uint64_t node_id);
/* Tell the other members whether this node's disk is low on space (R15). */
void hf_consensus_set_space_low(struct hf_consensus *c, bool is_low);
/* A member whose disk is low on space, as far as is known here (this node first); 0 = none. */
uint64_t hf_consensus_space_low_on(const struct hf_consensus *c);
/* Median of (voter's wall clock - ours) over the voters heard of lately, ourselves included (R4). */
int64_t hf_consensus_clock_offset_ms(const struct hf_consensus *c);

#endif
