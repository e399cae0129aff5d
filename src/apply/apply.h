/* apply.h: the state machine. Decodes a committed entry, runs its commands' apply handlers inside one store
 * entry, records index, digest and history. Deterministic: state and entry in, state and replies out.
 *
 * Two layers: hf_apply_entry is synchronous and thread-free; hf_state wraps it with a store on an executor of
 * its own ("hf-state") and one FIFO queue of entries and reads. */
#ifndef HF_APPLY_APPLY_H
#define HF_APPLY_APPLY_H

#include "base/env.h"
#include "base/stats.h"
#include "command/command.h"
#include "entry/entry.h"
#include "store/store.h"

/* ---- synchronous core ---------------------------------------------------------------------------- */

/* Replies of one entry's commands, concatenated: command i's flat value is bytes[end[i-1] .. end[i]). */
struct hf_apply_result {
    struct hf_reply replies; /* replies.discard = true when nobody waits */
    uint32_t *end;
    uint32_t n, cap;
};
void hf_apply_result_free(struct hf_apply_result *r);
struct hf_slice hf_apply_result_at(const struct hf_apply_result *r, uint32_t position);

/* Apply one entry of any type; entries <= applied_index are skipped (replay). result may be NULL. Errors are
 * fatal for the node: HF_E_VERSION / HF_E_CORRUPT (unknown op or malformed entry: nothing of it was applied),
 * or the store's. `why` explains. */
HF_MUST_CHECK int hf_apply_entry(struct hf_store *s, const struct hf_log_entry *e, struct hf_apply_result *result,
                                 char *why, size_t why_size);

/* Due keys removed by each entry at most. Part of the replicated semantics: changing it is a format change. */
#define HF_APPLY_EXPIRE_MAX 20u

/* ---- the state thread ---------------------------------------------------------------------------- */

struct hf_state;

/* A committed entry on its way through the state thread. Allocated by the caller, who gets it back in cb. */
struct hf_state_entry {
    void *data;
    void (*cb)(struct hf_state_entry *req); /* may be NULL: then the facade frees req with hf_free */
    struct hf_log_entry *entry;             /* one reference, owned by req until cb (dropped before cb) */
    bool wants_replies;
    struct hf_apply_result result; /* filled when wants_replies; owned by the caller in cb */
    struct hf_state_entry *next;   /* private */
};

/* A read on its way. args must stay valid until cb. */
struct hf_state_read {
    void *data;
    void (*cb)(struct hf_state_read *req);
    const struct hf_command *command;
    struct hf_args args;
    int64_t clock_ms;                    /* the leader's log clock now; 0: judge by log time only (R4) */
    uint64_t seed;                       /* for RANDOMKEY */
    const struct hf_node_status *status; /* for INFO and the like; stays valid until cb */
    struct hf_reply reply;               /* out; owned by the caller in cb */
    bool needs_tick;                     /* out: met a key that is due by clock_ms but not by log time: reply is
                                          * empty; propose a tick, wait for it, then read again (R4) */
    struct hf_state_read *next;          /* private */
};

struct hf_state_config {
    struct hf_store_config store;
    uint64_t commit_interval_ms; /* at most this long between commits while there are changes (default 1000) */
    uint64_t commit_bytes_max;   /* commit when this many dirty bytes are pending (default 32 MiB) */
};

struct hf_state_events {
    /* Everything up to meta->applied_index is durable in SQLite (I4, R14). Borrowed for the call. */
    void (*on_durable)(void *data, const struct hf_store_meta *meta);
    /* A replicated setting has this value from now on ("" = it is gone): each one that is there after open and after a
     * swap, then each change. May be NULL. */
    void (*on_setting)(void *data, struct hf_slice name, struct hf_slice value);
    /* Earliest expiry (log time ms, 0 = none) changed. */
    void (*on_next_due)(void *data, int64_t due_ms);
    /* The store or an entry failed: the node must stop. */
    void (*on_failed)(void *data, int err, const char *why);
    void *data;
};

/* Opens the store synchronously (fills *meta, copied, configuration pointing into memory owned by the state
 * until close) and starts the executor. */
HF_MUST_CHECK int hf_state_open(struct hf_env *env, const struct hf_state_config *config,
                                const struct hf_state_events *events, struct hf_stats *stats, struct hf_state **out,
                                struct hf_store_meta *meta, char *why, size_t why_size);
/* Put another database in the place of the present one (an installed snapshot). Ordered with what was given in before
 * (which still runs on the old database) and after (on the new one). The old database is closed without a commit;
 * its files stay. Then applied index, due times and settings are those of the new one, told through the events before
 * cb. A failure is on_failed (the node stops) and cb never comes. */
struct hf_state_swap {
    void *data;
    void (*cb)(struct hf_state_swap *swap); /* loop thread */
    const char *path;                       /* valid until cb */
    struct hf_store_meta meta;              /* out: of the new database; configuration borrowed for cb */
    void *impl;                             /* private */
};
void hf_state_swap(struct hf_state *st, struct hf_state_swap *swap);
/* Path and VFS of the present database, for copies of it. Loop thread; valid until a swap. */
const char *hf_state_path(const struct hf_state *st);
const char *hf_state_vfs(const struct hf_state *st);
/* The cluster's feature level as of the last applied entry whose effects were told (setting "level"). Loop thread. */
uint32_t hf_state_level(const struct hf_state *st);

/* Live: counts from the next commit on. */
void hf_state_set_commit_interval(struct hf_state *st, uint64_t commit_interval_ms);

/* Finishes all queued work (callbacks come), commits, closes. */
void hf_state_close(struct hf_state *st);

/* Both: loop thread; strict FIFO over both kinds together. Work posted in one loop turn goes as one job. */
void hf_state_apply(struct hf_state *st, struct hf_state_entry *req);
void hf_state_read(struct hf_state *st, struct hf_state_read *req);
/* Ask for a commit soon (before a marker snapshot); on_durable follows. */
void hf_state_commit(struct hf_state *st);

/* Index of the last entry whose cb was delivered / that was given in; entry bytes queued and not yet applied
 * (back-pressure). Loop thread. */
uint64_t hf_state_applied_index(const struct hf_state *st);
/* For how long the commit under way has been, 0 = none is: a hung disk shows here. Loop thread. */
uint64_t hf_state_stall_ms(const struct hf_state *st);
uint64_t hf_state_queued_index(const struct hf_state *st);
uint64_t hf_state_queued_bytes(const struct hf_state *st);

#endif
