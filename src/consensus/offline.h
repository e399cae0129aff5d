/* offline.h: what can be done with a data directory while no node runs on it: looking, forcing a new cluster out of a
 * survivor, wiping for a new start under the same name, and laying down a restored state. For the command-line tool;
 * everything takes the directory's lock first (HF_E_LOCKED: a node runs on it). Blocking; any thread that owns env's
 * loop: functions that write the journal run the loop through `run` until they are done. */
#ifndef HF_CONSENSUS_OFFLINE_H
#define HF_CONSENSUS_OFFLINE_H

#include "base/buf.h"
#include "base/env.h"

#include <stdbool.h>
#include <stdint.h>

struct hf_offline_member {
    uint64_t id;
    char name[65], address[256];
    const char *role; /* voter, standby, spare; unknown where no configuration is known (forming, joining) */
};
/* What a data directory holds. */
struct hf_offline_summary {
    uint64_t node_id, store_id;
    char name[65];
    char cluster_id[33], incarnation[33]; /* hex */
    bool is_formed, is_joining, is_removed;
    uint64_t term, vote;                         /* of the journal */
    uint64_t first_index, last_index, last_term; /* of the journal; last_index < first_index: empty */
    bool torn_tail;
    uint64_t generation, marker_index, marker_term;
    uint64_t configuration_index; /* of the newest configuration in journal or marker, committed or not */
    uint32_t n_members;
    struct hf_offline_member members[16];
    char state_path[512]; /* DIR/state-<generation>.db */
};
/* Changes nothing. `why` says which file is damaged, what is known, and the command that repairs it; *out holds what
 * is known also then. HF_E_NOENT: no node in it; HF_E_AGAIN: another of these functions did not finish here; also
 * HF_E_LOCKED, HF_E_CORRUPT, HF_E_VERSION. */
HF_MUST_CHECK int hf_offline_look(struct hf_env *env, const char *dir, struct hf_offline_summary *out, char *why,
                                  size_t why_size);

/* How offline functions let the env's loop run: run returns when stop (called from a callback) was called. */
struct hf_offline_loop {
    void *data;
    void (*run)(void *data);
    void (*stop)(void *data);
};

/* R20: make the survivor in `dir` the only voter of a new incarnation of its cluster: everything in its journal counts
 * as committed; what only the lost members had is gone. address: "" = keep the member's own. The new incarnation is
 * random (seed). dry_run changes nothing. Durable on return. On 0 `why` tells what this means: where the log ends, what
 * may be lost, who is no member any more. May be run again after a failure or a crash. */
HF_MUST_CHECK int hf_offline_recover(struct hf_env *env, const struct hf_offline_loop *loop, const char *dir,
                                     const char *address, uint64_t seed, bool dry_run,
                                     struct hf_offline_summary *before, char *why, size_t why_size);

/* Forget the state of `dir` (journal, databases, copies) and turn it into a directory that joins again under its name,
 * in the place of its old id, by way of `join` (peer addresses "host:port,..."; "" = the other members that the
 * directory knows). Works on damaged directories as long as identity is readable, or with name and join given. May be
 * run again after a failure or a crash. */
HF_MUST_CHECK int hf_offline_rejoin(struct hf_env *env, const char *dir, const char *name, const char *join,
                                    uint64_t seed, char *why, size_t why_size);

/* Lay down a new data directory for a cluster of one voter whose state is the database file `state` (moved into
 * place; on the same file system), at its applied index and term: a new cluster id and incarnation (random). `dir`
 * must be missing or empty (the state itself may lie in it, and what a failed attempt left). address: the peer address
 * of the new member. */
HF_MUST_CHECK int hf_offline_create(struct hf_env *env, const struct hf_offline_loop *loop, const char *dir,
                                    uint64_t node_id, const char *address, const char *cluster_word, uint64_t index,
                                    uint64_t term, const char *state, uint64_t seed, char *why, size_t why_size);
/* The configuration bytes that hf_offline_create writes for this member, to be given to hf_store_rebase for the state
 * before. The store id is drawn from seed as hf_offline_create draws it. */
void hf_offline_configuration(uint64_t node_id, const char *address, uint64_t seed, struct hf_buf *out);

#endif
