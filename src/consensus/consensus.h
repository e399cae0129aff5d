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
    const char *name;           /* of this node, "" = the id in digits */
    const char *join;           /* "host:port,..." peer addresses of members to join by, "" = do not join */
    const char *peer_address;   /* how the others reach listen_address; "" = as the member list or listen_address say */
    bool join_as_learner;       /* stay a learner after joining */
    const char *replaces;       /* joining in the place of this member (name or id), "" = of nobody */
    uint64_t seed;              /* randomises elections; unique per start */
    uint32_t election_timeout_ms, heartbeat_ms;
    uint64_t message_bytes_max; /* longest entry plus slack */
    uint64_t journal_segment_bytes, journal_tail_bytes;
    uint64_t journal_retain_bytes;   /* kept behind the marker for members that are a little behind */
    uint64_t journal_max_bytes;      /* kept at most for a voter that lags further */
    uint64_t journal_pin_bytes;      /* kept at most, beyond that, while a state copy travels (R17) */
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
    /* A member needs the state itself, at an index >= at_least: this node leads and its log begins after what the
     * member has. Repeated while that is so. */
    void (*on_behind)(void *data, uint64_t member, uint64_t at_least);
    /* It needs none any more; member 0: this node does not lead any more. */
    void (*on_caught_up)(void *data, uint64_t member);
    /* The leader says: install the copy of this index and term. True with the path of that verified, synced database
     * file (it is renamed then); false = there is none. */
    bool (*take_copy)(void *data, uint64_t index, uint64_t term, const char **path);
    /* The current state is the database at `path` from now on (its files are durable, the journal starts behind it):
     * put it in the place of the old one, then call hf_consensus_installed. Nothing is delivered meanwhile. */
    void (*on_install)(void *data, const char *path, uint64_t index);
    /* For how long a commit of the state has been under way (R23); may be NULL. */
    uint64_t (*state_stall_ms)(void *data);
    /* This node was removed from the cluster: the owner stops it cleanly. */
    void (*on_removed)(void *data, const char *why);
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

/* ---- state copies ------------------------------------------------------------------------------------- */

/* As leader: the member has a verified copy of this index and term: tell it to install. May be repeated. */
void hf_consensus_send_install(struct hf_consensus *c, uint64_t member, uint64_t index, uint64_t term,
                               uint64_t configuration_index, struct hf_slice configuration);
/* Keep the journal from this index on for a running transfer, up to journal_pin_bytes (R17); 0 = no transfer. */
void hf_consensus_pin(struct hf_consensus *c, uint64_t index);
/* May a copy of this index and term be received now (this node lags, installs nothing)? */
bool hf_consensus_may_receive(const struct hf_consensus *c, uint64_t member, uint64_t index, uint64_t term, char *why,
                              size_t why_size);
/* The owner has done what on_install asked for. */
void hf_consensus_installed(struct hf_consensus *c);
/* Dialed STATE link to a member, NULL when not connected. */
struct hf_link *hf_consensus_state_link(struct hf_consensus *c, uint64_t node_id);

/* ---- membership --------------------------------------------------------------------------------------- */

/* One change asked for by an operator (the leader or any member), or by a node that wants to join. Answered by cb
 * once, never from inside the call: rc 0 and a text that says what is so now; or an error with the full text of the
 * RESP error ("ERR ...": nothing happened; "UNKNOWN ...": it may have). Forwarded to the leader; waits for one up to
 * timeout_ms. The struct is the caller's until cb. */
#define HF_NODE_NAME_BYTES 65
struct hf_member_request {
    void *data;
    void (*cb)(struct hf_member_request *req, int rc, const char *text);
    int op;                        /* enum hf_member_op of command.h, as a number */
    char node[HF_NODE_NAME_BYTES]; /* name or id */
    char other[256];               /* REPLACE: the new one, name or id; ADD: the address */
    uint64_t timeout_ms;
    /* private */
    struct hf_member_request *next;
    uint64_t id, deadline_ms, sent_term, sent_to, store_id, result_id;
    char address[256];
    int step;
};
void hf_consensus_operate(struct hf_consensus *c, struct hf_member_request *req);

/* Lowest feature level that every member of the configuration has announced, 0 = not heard of all of them. The leader
 * raises the cluster's level to it. */
uint32_t hf_consensus_members_level(const struct hf_consensus *c);
/* The cluster's level, from the state: what this node may send. */
void hf_consensus_set_level(struct hf_consensus *c, uint32_t level);
/* Live settings. */
void hf_consensus_set_timeouts(struct hf_consensus *c, uint32_t election_timeout_ms, uint32_t heartbeat_ms);
void hf_consensus_set_journal(struct hf_consensus *c, uint64_t retain_bytes, uint64_t max_bytes,
                              uint64_t snapshot_bytes);

/* ---- looking ------------------------------------------------------------------------------------------ */

struct hf_consensus_member {
    uint64_t id;
    char address[256];        /* peer address */
    char client_address[256]; /* "" until a hello told it */
    const char *role;         /* voter, standby, spare */
    bool is_connected;
    uint64_t match_index; /* on the leader, else 0 */
    uint64_t silence_ms;  /* UINT64_MAX = never heard of */
    char name[HF_NODE_NAME_BYTES];
    uint32_t level; /* announced, 0 = not heard */
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
    char name[HF_NODE_NAME_BYTES];
    uint64_t journal_bytes_max; /* the journal's files stay below this */
    bool is_installing;
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
