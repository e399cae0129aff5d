/* sim.h: a run of the simulator, shared by its parts: sim.c (one seed from start to verdict), nodes.c (nodes, their
 * disks, what is watched on them), clients.c, faults.c, members.c (operators and nodes that join). */
#ifndef HF_SIM_SIM_H
#define HF_SIM_SIM_H

#include "entry/entry.h"
#include "main/node.h"
#include "sim/history.h"
#include "sim/vfs.h"
#include "sim/world.h"

#define NODES_MAX          7
#define CLIENTS            5
#define KEYS               1000
#define FAULT_MS           16000u
#define HEAL_MS            6000u  /* of serving after everything healed */
#define SERVE_MS           20000u /* at the latest a command succeeded by then */
#define CONVERGE_MS        90000u /* nodes that join try dead addresses for a while */
#define DIGESTS_MAX        4096
#define CLIENT_PATIENCE_MS 12000u
#define PIPELINE_MAX       4
#define WORDS_MAX          5
#define TOUCHED_MAX        2
#define IDS_MAX            64
#define VERSIONS_MAX       8192

/* What a seed may do: each picks some. */
enum {
    FAULT_CRASH = 1 << 0,
    FAULT_PAUSE = 1 << 1,
    FAULT_CUT = 1 << 2,
    FAULT_STOP = 1 << 3,
    FAULT_CLOCK = 1 << 4,
    FAULT_HANDOVER = 1 << 5,
    FAULT_HANG = 1 << 6,    /* disks that do not finish a write for seconds */
    FAULT_AIM = 1 << 7,     /* at nodes that send, receive or install a copy of the state */
    FAULT_LONG = 1 << 8,    /* nodes are away for longer */
    FAULT_MEMBERS = 1 << 9, /* operators and nodes that join */
    FAULT_WIPE = 1 << 10,   /* disks are lost */
    FAULT_SHORT = 1 << 11,  /* short journals: who is away needs a copy of the state */
};

struct sim;
struct request;

/* The members as a node knew them. */
struct view {
    unsigned n;
    struct {
        uint64_t id;
        bool is_voter;
    } members[16];
};

enum standing {
    STANDING_NONE = 0, /* a number that nobody uses yet */
    STANDING_MEMBER,   /* or on its way to become one */
    STANDING_REMOVED,  /* heard that it was removed; stopped */
    STANDING_WIPED,    /* its disk is lost */
};

struct node {
    struct sim *sim;
    unsigned number;
    struct hf_sim_node *fake;
    struct hf_node *node;
    struct hf_stats *stats;
    struct hf_sim_vfs *vfs;
    struct hf_sim_disk *disk; /* while down */
    unsigned starts;
    uint64_t restart_at_ms; /* 0 = up */
    uint64_t resume_at_ms;  /* 0 = not paused */
    bool has_failed;
    struct hf_lane *probe_lane;
    bool is_probing, is_transferring;
    /* membership */
    enum standing standing;
    unsigned life;  /* rises when the directory becomes another node's */
    bool is_joiner; /* starts with --join */
    bool is_ghost;  /* its disk was lost and it runs as what it was: it must stay out */
    bool is_told_removed;
    bool was_voter;          /* in this life; or needs not become one */
    uint64_t id;             /* 0 = none yet */
    uint64_t old_id;         /* of the life before */
    uint64_t aimed_until_ms; /* it received a copy just now */
    char name[24];           /* --name */
    char replaces[24];       /* --replaces */
    uint64_t ghost_until_ms, generation;
    struct view view; /* when it was last looked at */
};

struct client {
    struct sim *sim;
    unsigned number, at; /* node it is connected to */
    struct hf_lane *lane;
    struct request *busy[PIPELINE_MAX];
    unsigned n_busy;
    uint64_t next_ms;
    bool is_disappointed;                 /* by an error: another node may do better */
    uint32_t pipelined_key, pipelined_op; /* 1 + the last operation of the pipeline on that key, 0 = none */
    struct {
        uint32_t key;
        uint64_t version, value;
    } seen; /* of a key with versions */
};

struct request {
    struct hf_dispatch_req req; /* first: the lane frees the block */
    struct client *client;      /* NULL once the client gave up on it */
    struct node *probe;
    uint64_t started_ms;
    struct {
        uint32_t key, op; /* in the key's history */
    } touched[TOUCHED_MAX];
    unsigned n_touched;
    bool wants_version;
    struct hf_slice words[WORDS_MAX];
    char bytes[160];
};

enum key_kind { KEY_PLAIN, KEY_COUNTER, KEY_VERSIONED, KEY_EXPIRING, KEY_KINDS };

struct sim {
    uint64_t seed;
    struct hf_sim_world *world;
    struct hf_prng prng; /* of the schedule and the clients, apart from the world's */
    unsigned faults;     /* FAULT_... */
    unsigned n;          /* of the initial members; their numbers come first */
    unsigned n_all;      /* with those that may join */
    struct node nodes[NODES_MAX];
    struct client clients[CLIENTS];
    struct client visitor; /* reads at a node that was just resumed, before it hears what it missed */
    struct hf_history keys[KEYS];
    uint32_t key_base; /* clients work on a window of keys that moves on, so that histories stay short */
    uint64_t next_value;
    uint64_t clock; /* rises with every invocation and completion */
    uint64_t acked, unknown, failed, reads;
    struct {
        uint64_t version, value;
    } versions[VERSIONS_MAX]; /* seen with their values */
    uint64_t heal_ms;
    struct {
        uint64_t index;
        char digest[40];
    } digests[DIGESTS_MAX];
    bool is_healing, is_ending, is_broken, trace; /* ending: clients ask nothing more */
    char complaint[1024];
    /* sizes of this seed's nodes */
    uint64_t journal_max, journal_pin, snapshot_rate, chunk_bytes;
    /* operators: one request at a time */
    struct hf_member_request ask;
    bool is_asking;
    uint64_t asked_ms, answered_ms, wiped_ms;
    /* raft ids that were given out: to whom (number and life), and whether the holder's disk is lost */
    struct {
        unsigned number, life;
        bool is_lost;
    } ids[IDS_MAX];
    unsigned crashes, pauses, partitions, hangs, wipes, installs, joins, changes, removals, refusals;
};

void hf_sim_complain(struct sim *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void hf_sim_trace(const struct sim *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
uint64_t hf_sim_now_ms(const struct sim *s);

/* ---- nodes.c */
void hf_sim_start(struct sim *s, struct node *n);
void hf_sim_stop(struct sim *s, struct node *n, bool is_crash);
/* The disk is gone; the number is free for another node. */
void hf_sim_wipe(struct sim *s, struct node *n);
/* The directory becomes a new node's that joins in the place of the old one (holdfast repair). False: not possible. */
bool hf_sim_rejoin(struct sim *s, struct node *n);
bool hf_sim_is_up(const struct node *n); /* runs, and is not paused */
void hf_sim_probe(struct sim *s, struct node *n);
/* Looks at every node: ids, members, journals; stops nodes that were removed or gave up. */
void hf_sim_watch(struct sim *s);
/* At the quiet end: files that nobody needs. */
void hf_sim_check_files(struct sim *s, struct node *n);

/* ---- clients.c */
struct request *hf_sim_new_request(const char *text);
void hf_sim_release_request(struct hf_dispatch_req *req);
/* The client's commands are lost from its sight: they may have happened. */
void hf_sim_abandon(struct client *c);
void hf_sim_client_turn(struct sim *s, struct client *c);
/* Reads at a node that was just resumed. */
void hf_sim_visit(struct sim *s, struct node *n);

/* ---- faults.c */
void hf_sim_choose_faults(struct sim *s);
void hf_sim_fault_turn(struct sim *s);

/* ---- members.c */
void hf_sim_member_turn(struct sim *s);
/* May this node's disk be lost: can the others form a quorum whatever configuration they end with? */
bool hf_sim_may_wipe(struct sim *s, const struct node *victim);
/* Every node is where it belongs; else `why` says which is not. */
bool hf_sim_members_settled(struct sim *s, char *why, size_t why_size);

#endif
