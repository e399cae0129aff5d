/* internal.h: the consensus member's state, shared by the files of this folder and by nobody else.
 *
 *   driver.c    events into the core, updates out of it: term and vote, entries, commit and delivery, the timer
 *   send.c      messages to the others: AppendEntries filled from the journal, split, bounded
 *   receive.c   streams and messages from the others; forming a new cluster
 *   gate.c      the read gate: confirmation rounds
 *   compact.c   marker snapshots and cutting the journal
 *   install.c   a copy of the state in the place of what a member has
 *   operate.c   changes of the members, one at a time
 *   join.c      a node that is no member yet, and one that is none any more
 *   member.c    leadership transfer, status
 *   life.c      open, start, close
 *
 * The order in which an update of the core is carried out (R13): term and vote become durable first; until then
 * nothing is sent and no event is fed ("held"). Then entries go to the journal, then messages go out, then what is
 * committed and stored is delivered. */
#ifndef HF_CONSENSUS_INTERNAL_H
#define HF_CONSENSUS_INTERNAL_H

#include "base/assert.h"
#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/util.h"
#include "consensus/codec.h"
#include "consensus/consensus.h"
#include "consensus/identity.h"
#include "journal/journal.h"

#include <raft.h>

/* A message to a member waits in its FIFO while entries for an earlier one are read from disk. */
#define HF_SEND_WAITING_MAX 64u
/* AppendEntries are cut so that one message carries about this much; a larger entry travels alone. */
#define HF_APPEND_BYTES_MAX (1u << 20)
/* Entries submitted and unacknowledged per follower (libraft's window). */
#define HF_INFLIGHT_ENTRIES_MAX 512u
/* A leader whose disk hangs goes silent after two election timeouts (R23), and gives up after this long. */
#define HF_DISK_HUNG_EXIT_MS 30000u
/* Events that wait while term and vote are being written; beyond it messages are dropped (raft resends). */
#define HF_DEFERRED_MESSAGES_MAX 256u
#define HF_DEFERRED_BYTES_MAX    (16u << 20)
/* Feature level from which a member can receive a copy of the state, and names and changes of members exist. */
#define HF_LEVEL_COPIES  2u
#define HF_LEVEL_MEMBERS 2u
/* A learner may be promoted when what it lacks of the log is at most this much. */
#define HF_PROMOTE_LAG_BYTES (4u << 20)
/* A follower whose disk does not keep up takes no further entries while this much waits to be written. */
#define HF_UNWRITTEN_BYTES_MAX (64u << 20)
/* A member that was silent for this long gets no copy of the state until it is back. */
#define HF_AWAY_MS 5000u
/* The same refusal of a member is logged once in this time. */
#define HF_REFUSAL_NEWS_MS 60000u
/* Requests about members that wait here, of operators and of other nodes. */
#define HF_REQUESTS_MAX 64u
/* How often members tell each other their wall clock and what log they still need. */
#define HF_STATUS_INTERVAL_MS 1000u

struct hf_deferred { /* a message that arrived while an update was held */
    struct hf_deferred *next;
    uint64_t from;
    uint8_t type;
    size_t len;
    uint8_t bytes[];
};

struct hf_send_item { /* one outgoing AppendEntries, waiting for its turn or its entries */
    struct hf_send_item *next;
    struct raft_append_entries header;
    uint64_t first;
    uint32_t n;
};

/* What we know and hold for each other member. */
struct hf_other {
    uint64_t id;
    struct hf_consensus *owner;
    struct hf_member member;
    char client_address[256];
    bool has_hello; /* said who it is, at least once since our start */
    bool hello_is_formed;
    uint8_t hello_incarnation[16];
    uint64_t acked_sequence; /* highest ping it confirmed in our present term */
    int64_t wall_offset_ms;  /* its wall clock less ours when it last told */
    bool is_space_low;       /* as it told then */
    uint64_t wall_heard_ms;  /* boot clock of that, 0 = never */
    uint64_t needs_from;     /* lowest index the cluster still needs according to it as leader, 0 = unknown */
    uint64_t needs_term;     /* the term it led when it said so */
    bool needs_copy;         /* as leader: it asked for entries that were cut; told so until it has caught up */
    uint32_t level;          /* feature level it announced, 0 = not heard */
    bool is_added;           /* to the peers */
    bool is_leaving;         /* no member any more: gone once its read is back */
    char refused[64];        /* why it refused us last, and when that was logged */
    uint64_t refused_ms;
    char hello_address[256]; /* how it says it is reached; "" = not heard */
    /* outgoing entries */
    struct hf_send_item *waiting_head, *waiting_tail;
    uint32_t n_waiting;
    bool is_reading;
    struct hf_journal_read read;
};

enum hf_install_phase {
    HF_INSTALL_IDLE = 0,
    HF_INSTALL_FILES,   /* renaming, CURRENT with install pending */
    HF_INSTALL_JOURNAL, /* reset */
    HF_INSTALL_CURRENT, /* CURRENT without it */
    HF_INSTALL_SWAP,    /* the owner swaps the state */
    HF_INSTALL_TELL     /* the core is to hear of it */
};

struct hf_install {
    bool is_active;
    enum hf_install_phase phase;
    char *from, *path;                      /* the verified copy; the database it becomes */
    struct raft_snapshot_metadata metadata; /* goes back to the core */
    struct hf_marker marker;                /* what CURRENT will say */
    struct hf_job job, cleanup_job;
    uint64_t cleanup_keep;
    bool is_cleaning;
    int rc;
};

/* A change of the members that this node carries out as leader; one at a time. */
struct hf_operation_state {
    bool is_active;
    int op; /* enum hf_member_op, or HF_MEMBER_MOVE */
    uint64_t target, other;
    uint64_t index, term; /* of the configuration entry that is to commit, 0 = none under way */
    int step;
    bool is_forwarded; /* asked for by another member: `from` and `request` */
    uint64_t from, request;
    struct hf_member_request *own; /* else: asked for here; NULL = by the leader itself */
    uint64_t deadline_ms;
    char text[320];
};

struct hf_consensus {
    struct hf_env *env;
    struct hf_consensus_config config;
    struct hf_consensus_events events;
    struct hf_stats *stats;
    char *dir, *listen_address, *client_address, *cluster_word, *name, *join, *peer_address, *replaces;
    struct hf_prng prng;

    struct hf_file *lock;
    struct hf_identity identity;
    struct hf_marker marker;
    struct hf_journal *journal;
    struct hf_journal_state recovered;
    struct hf_journal_events journal_events;
    struct hf_peers *peers;
    struct hf_peers_events peers_events;

    struct raft raft;
    bool is_raft_open, is_started, is_closing, has_failed;
    bool is_finishing_install; /* start waits for the journal's reset */
    uint64_t started_ms;
    uint64_t quiet_until_ms; /* R10 */
    struct hf_timer timer;
    bool has_skipped_turn; /* a late timer was put off once so that waiting messages are read first */
    uint64_t progress_ms;  /* last bytes of a large message from the present leader */

    /* the update being carried out */
    struct raft_update update;
    struct hf_log_entry **step_entries; /* payloads of the event's entries, by position in step_array */
    struct raft_entry *step_array;
    uint32_t n_step_entries;
    bool is_append_stale; /* the event is an AppendEntries of an older term */
    bool is_held;         /* term/vote in flight; `update` waits */
    bool is_stepping;     /* inside raft_step + carry-out: no re-entry */
    struct hf_deferred *deferred_head, *deferred_tail;
    uint32_t n_deferred;
    size_t deferred_bytes;
    uint64_t durable_pending; /* on_durable that came while held */

    uint64_t durable_index;
    uint64_t commit_index; /* our own maximum: the core's may go down (R22) */
    uint64_t delivered_index;
    uint64_t applied_at_start;
    bool is_delivery_paused, is_delivering, is_delivery_reading;
    struct hf_journal_read delivery_read;
    struct hf_task delivery_task;

    enum hf_role role; /* as last told to the owner */
    uint64_t told_term, told_leader;
    uint64_t append_heard_ms;        /* when such a message came last */
    uint64_t leader_id, leader_term; /* AppendEntries of leader_id came in leader_term (R30) */
    uint64_t own_term_index;         /* first entry of our own term as leader, 0 = none yet */
    uint64_t timeout_now_term;       /* term of the last accepted TimeoutNow (R8) */

    struct hf_other others[HF_MEMBERS_MAX * 3]; /* of old and new configurations; id 0: a free place */
    uint32_t n_others;

    /* read gate */
    uint64_t ping_sequence, confirmed_sequence;
    struct hf_gate *gates_new, **gates_new_tail;             /* no ping sent since they came */
    struct hf_gate *gates_pinged, **gates_pinged_tail;       /* waiting for confirmation, by sequence */
    struct hf_gate *gates_confirmed, **gates_confirmed_tail; /* waiting for delivery, by sequence */
    struct hf_task gate_task;
    struct hf_timer gate_timer;

    /* marker snapshots */
    struct hf_executor *meta_executor;
    struct hf_job marker_job;
    bool is_marker_running;
    struct hf_marker marker_next;    /* being written */
    struct hf_marker marker_durable; /* what the state last said of itself, for the one after it */
    int marker_rc;
    uint64_t state_durable_index;

    struct hf_install install;
    uint64_t pin_index;
    bool was_pinned; /* there was a pin, and the journal is still longer than it may be without */
    uint64_t throttled_until_ms;
    bool is_throttling;
    uint32_t level; /* the cluster's, from the state */

    /* requests about members */
    struct hf_operation_state operation;
    struct hf_member_request *requests; /* asked for here and not answered yet */
    uint32_t n_requests;
    uint64_t next_request;
    struct hf_task request_task;
    struct hf_member_request self_request; /* this node asks to be promoted */
    bool is_self_asking, is_removed_told;
    bool is_shut_out; /* a formed member refused this node, which is none itself */
    /* joining */
    struct hf_timer join_timer;
    uint32_t join_at; /* which of the addresses is tried */
    uint64_t join_since_ms;
    struct hf_join *joins; /* nodes that ask to join by way of this one */

    /* leadership transfer */
    bool is_transferring, has_sent_transfer;
    uint64_t transfer_target, transfer_deadline_ms;
    void (*transfer_cb)(void *data, int rc);
    void *transfer_data;

    struct hf_timer status_timer;
    bool is_space_low; /* of our own disk, told by the owner */
    bool is_disk_slow; /* the journal's oldest write is older than two election timeouts */
    char problem[256];
    bool is_behind; /* problem says so; over when entries arrive again */

    struct hf_counter *elections, *leader_changes, *appends_dropped, *pings, *gates, *snapshots, *installs;
    struct hf_gauge *term_gauge, *commit_gauge, *role_gauge, *delivered_gauge;
};

/* driver.c */
void hf_consensus_fail(struct hf_consensus *c, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Feed one event; carries out the update (or holds it). Non-zero only for refusable events (submit, transfer). */
int hf_consensus_step(struct hf_consensus *c, struct raft_event *event);
bool hf_consensus_can_step(const struct hf_consensus *c);
bool hf_consensus_knows(const struct hf_consensus *c, uint64_t id);
/* Submit one entry of any type; see hf_consensus_submit. Takes the reference on 0. */
int hf_consensus_submit_entry(struct hf_consensus *c, struct hf_log_entry *e, uint64_t *index, uint64_t *term);
void hf_consensus_arm(struct hf_consensus *c);
void hf_consensus_deliver(struct hf_consensus *c);
int hf_consensus_begin_raft(struct hf_consensus *c, char *why, size_t why_size);
struct hf_other *hf_consensus_other(struct hf_consensus *c, uint64_t id);
bool hf_consensus_is_leader(const struct hf_consensus *c);
const struct raft_server *hf_consensus_server(const struct hf_consensus *c, uint64_t id);
void hf_consensus_after_step(struct hf_consensus *c);
uint64_t hf_consensus_now(const struct hf_consensus *c);
uint32_t hf_consensus_voters(const struct hf_consensus *c);

/* life.c */
void hf_consensus_go_on_starting(struct hf_consensus *c);
struct hf_hello hf_consensus_hello(const struct hf_consensus *c);
int hf_consensus_save_identity(struct hf_consensus *c);

/* driver.c, for life.c */
void hf_consensus_carry_out_start(struct hf_consensus *c);
void hf_consensus_drop_step(struct hf_consensus *c);
void hf_consensus_init_callbacks(struct hf_consensus *c);

/* install.c */
void hf_consensus_note_behind(struct hf_consensus *c, struct hf_other *o);
void hf_consensus_check_behind(struct hf_consensus *c);
bool hf_consensus_admit_install(struct hf_consensus *c, const struct raft_install_snapshot *m);
void hf_consensus_drop_unused_copy(struct hf_consensus *c);
void hf_consensus_begin_install(struct hf_consensus *c);
void hf_consensus_install_journal_done(struct hf_consensus *c);
void hf_consensus_install_progress(struct hf_consensus *c);
int hf_consensus_finish_install_at_start(struct hf_consensus *c);
void hf_consensus_delete_old(struct hf_consensus *c);
void hf_consensus_install_free(struct hf_consensus *c);

/* operate.c */
#define HF_MEMBER_MOVE 100 /* the leader itself: a member says that it is reached at another address */
void hf_consensus_operate_init(struct hf_consensus *c);
void hf_consensus_operate_close(struct hf_consensus *c);
/* After each step and each second: goes on with what waits for a commit, a leader, a deadline. */
void hf_consensus_operate_progress(struct hf_consensus *c);
void hf_consensus_operate_removed(struct hf_consensus *c);
void hf_consensus_operate_leaving(struct hf_consensus *c, uint64_t id);
void hf_consensus_on_operate(struct hf_consensus *c, uint64_t from, struct hf_slice payload);
/* A u32 length and so many printable characters. */
bool hf_consensus_take_text(struct hf_reader *r, char *out, size_t size);
void hf_consensus_on_operated(struct hf_consensus *c, uint64_t from, struct hf_slice payload);
const char *hf_consensus_member_name(const struct raft_server *s, char buf[HF_MEMBER_NAME_BYTES + 1]);
bool hf_consensus_is_tombstone(const struct raft_server *s);
uint64_t hf_consensus_id_max(const struct hf_consensus *c);

/* join.c */
void hf_consensus_join_begin(struct hf_consensus *c);
void hf_consensus_join_close(struct hf_consensus *c);
void hf_consensus_on_join_link(struct hf_consensus *c, struct hf_link *link, bool is_up);
void hf_consensus_on_join_message(struct hf_consensus *c, struct hf_link *link, uint8_t type, struct hf_slice payload);
void hf_consensus_on_removed(struct hf_consensus *c, uint64_t index, const char *by);
/* The committed configuration changed: are we in it for the first time, or no more? */
void hf_consensus_check_self(struct hf_consensus *c);

/* send.c */
void hf_consensus_send(struct hf_consensus *c, const struct raft_message *m);
void hf_consensus_send_simple(struct hf_consensus *c, uint64_t to, uint8_t type, struct hf_slice bytes);
void hf_consensus_drop_sends(struct hf_consensus *c, struct hf_other *o);
bool hf_consensus_is_mute(const struct hf_consensus *c);

/* receive.c */
int hf_consensus_listen(struct hf_consensus *c, char *why, size_t why_size);
void hf_consensus_dispatch(struct hf_consensus *c, uint64_t from, uint8_t type, struct hf_slice payload);
void hf_consensus_try_form(struct hf_consensus *c);
void hf_consensus_send_status(struct hf_consensus *c);
void hf_consensus_members_changed(struct hf_consensus *c);

/* gate.c */
void hf_consensus_gate_init(struct hf_consensus *c);
void hf_consensus_gate_reset(struct hf_consensus *c, int rc);
void hf_consensus_on_ping(struct hf_consensus *c, uint64_t from, struct hf_slice payload);
void hf_consensus_on_pong(struct hf_consensus *c, uint64_t from, struct hf_slice payload);
void hf_consensus_gate_delivered(struct hf_consensus *c);

/* compact.c */
void hf_consensus_compact(struct hf_consensus *c);
uint64_t hf_consensus_needed_from(const struct hf_consensus *c);
uint64_t hf_consensus_journal_bytes_max(const struct hf_consensus *c);
/* The journal has grown to its limit because the state is not durable yet: nothing is appended meanwhile. */
bool hf_consensus_is_journal_full(const struct hf_consensus *c);
/* R17: writes slow down when the journal behind a copy on its way nears its limit. */
bool hf_consensus_is_throttled(const struct hf_consensus *c);
void hf_consensus_throttle(struct hf_consensus *c, uint64_t bytes);

/* member.c */
void hf_consensus_transfer_progress(struct hf_consensus *c);

#endif
