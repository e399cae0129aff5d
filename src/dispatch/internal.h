/* internal.h: the dispatcher's state, shared by the files of this folder and by nobody else.
 *
 *   dispatch.c   lanes: what starts when, what waits for what, answers on their way out
 *   run.c        one command's run: proposed, read or forwarded, and what its end means
 *   remote.c     lanes of other nodes' clients, which arrive over the proxy
 *
 * Everything happens in one task that runs once a loop turn ("the run"): callbacks from below only note what became
 * of a command and ask for the run. So no owner's callback comes from inside a call of ours, all reads of a turn
 * share a gate, and all writes of a turn an entry. */
#ifndef HF_DISPATCH_INTERNAL_H
#define HF_DISPATCH_INTERNAL_H

#include "dispatch/dispatch.h"

/* A command's state. */
enum { REQ_WAITING = 1, REQ_STARTED, REQ_DONE };

/* What a finished command counts as. */
enum { OUTCOME_RAN = 1, OUTCOME_REJECTED, OUTCOME_REFUSED /* remote only: goes back to where it came from */ };

enum lane_kind { KIND_NONE = 0, KIND_WRITE, KIND_READ, KIND_FORWARDED, KIND_LOCAL, KIND_OPERATE };

/* What the first waiting command of a lane waits for. */
enum hf_wait {
    WAIT_NOTHING = 0, /* it was started or finished */
    WAIT_LANE,        /* commands in flight of another kind or destination */
    WAIT_LEADER,
    WAIT_LINK, /* a leader is known, the way to it is closed or full */
    WAIT_ROOM, /* this node leads, its queue is full */
};

struct lane_list {
    struct hf_lane *first, *last;
    uint32_t n;
};

struct req_list {
    struct hf_dispatch_req *first, *last;
};

struct hf_lane {
    struct hf_dispatcher *d;
    struct hf_lane *next, *prev; /* in `list` */
    struct lane_list *list;      /* ready, or one of those that wait; NULL = none */
    struct hf_lane *all_next, *all_prev;
    uint64_t id, seq;
    struct req_list waiting;
    struct hf_dispatch_req *returned; /* the last one that came back to `waiting`; the next goes behind it */
    uint32_t n, n_in_flight;          /* n: waiting, in flight, and finished but not yet handed out */
    enum lane_kind kind;              /* of those in flight, and where they run */
    uint64_t node_id, term;
    uint64_t forwarded_to;        /* node that holds a lane for us, 0 = none */
    uint64_t forwarded_write_seq; /* the last write that left this node */
    bool is_full, is_closed;
    void (*on_ready)(void *data);
    void *ready_data;
    void (*release)(struct hf_dispatch_req *req);
    /* remote clients */
    struct hf_proxy_remote *remote;
    bool is_remote;
    uint64_t refused_term; /* a command of this term was refused: all later ones of it are too */
};

struct gate_batch {
    struct hf_gate gate;
    struct hf_dispatcher *d;
    struct req_list reads;
    struct gate_batch *next; /* spare */
};

/* A leader that commands were forwarded to, while some of them have no answer. */
struct destination {
    struct destination *next;
    uint64_t node_id, term;
    uint32_t n;
    uint64_t former_since_ms; /* it is not the leader any more since then, 0 = it is */
};

struct hf_dispatcher {
    struct hf_env *env;
    struct hf_dispatch_config config;
    struct hf_consensus *consensus;
    struct hf_proposer *proposer;
    struct hf_state *state;
    struct hf_proxy *proxy;
    const struct hf_node_status *(*status)(void *data);
    void *status_data;
    struct hf_stats *stats;
    struct hf_prng prng;

    struct hf_lane *lanes;
    struct lane_list ready, wait_leader, wait_link, wait_room;
    struct req_list done;
    struct req_list gate_reads; /* started in this run: they share the next gate */
    struct gate_batch *spare_gates;
    uint64_t n_in_flight, next_lane_id;
    uint64_t deadline_ns; /* earliest of the commands in wait_leader and wait_link, UINT64_MAX = none */
    uint64_t refused_term, refused_until_ms;
    struct destination *destinations;
    struct hf_timer former_timer;
    uint64_t remote_bytes;
    bool wakes_all, wakes_link, wakes_room, is_waking_room, is_stopped, is_closed;

    struct hf_dispatch_req *operating; /* its operate is being called and has not answered yet */
    struct hf_plan plan;
    char *refuse_text;
    struct hf_task run_task;
    struct hf_timer poll_timer;

    struct hf_command_stats *figures; /* by command id */
    uint16_t n_figures;
    struct hf_counter *no_leader_total, *overloaded_total;
    struct hf_gauge *lanes_gauge;
    int64_t n_lanes;
};

/* dispatch.c */
void hf_dispatch_push(struct req_list *list, struct hf_dispatch_req *req);
struct hf_dispatch_req *hf_dispatch_pop(struct req_list *list);
void hf_dispatch_ask_run(struct hf_dispatcher *d);
/* A command that was in flight is not any more. */
void hf_dispatch_landed(struct hf_dispatch_req *req);
/* It did not happen: back to its place at the front of its lane's queue (or, for a remote client, refused). */
void hf_dispatch_return(struct hf_dispatch_req *req);
/* Its reply is in place (or outcome is REFUSED): hand it out in the run. */
void hf_dispatch_finish(struct hf_dispatch_req *req, int outcome);
void hf_dispatch_finish_error(struct hf_dispatch_req *req, int outcome, const char *text);

/* run.c */
enum hf_wait hf_dispatch_start(struct hf_dispatcher *d, struct hf_lane *lane, struct hf_dispatch_req *req);
/* Open the gate for the reads that were started in this run. */
void hf_dispatch_open_gate(struct hf_dispatcher *d);
/* The role, the term or the leader changed, or time passed: see to commands that a former leader does not answer. */
void hf_dispatch_watch_former(struct hf_dispatcher *d);

/* remote.c */
void hf_dispatch_serve_remotes(struct hf_dispatcher *d);
/* Answer or refuse, and free. */
void hf_dispatch_answer_remote(struct hf_dispatch_req *req);

#endif
