/* identity.h: who this data directory belongs to, and the marker of its state. Internal to consensus. Small
 * checksummed files, replaced atomically (hf_fs_write_small):
 *
 *   identity  node id, store id (random), cluster id, incarnation, formed or forming, initial member list
 *   CURRENT   generation of the database, marker: index, term, configuration index and bytes (R16)
 *   lock      held by the running process
 */
#ifndef HF_CONSENSUS_IDENTITY_H
#define HF_CONSENSUS_IDENTITY_H

#include "base/buf.h"
#include "base/env.h"

#include <stdbool.h>
#include <stdint.h>

#define HF_IDENTITY_VERSION                                                                                            \
    2 /* 1 is read too; written as 1 while nothing of 2 is used, so that a release can go back */
#define HF_MEMBERS_MAX       16
#define HF_MEMBER_NAME_BYTES 64u

struct hf_member {
    uint64_t id;
    char address[256];                   /* peer address host:port */
    uint64_t store_id;                   /* 0 = not known yet (forming, or a place that nobody took yet) */
    char name[HF_MEMBER_NAME_BYTES + 1]; /* letters, digits, . _ -; "" = none given: shown as the id in digits */
};

/* An offline command (offline.h) that is changing this directory: written before its first change and taken back after
 * its last. Such a directory does not start. */
enum hf_unfinished { HF_UNFINISHED_NONE = 0, HF_UNFINISHED_RECOVER, HF_UNFINISHED_REJOIN, HF_UNFINISHED_CREATE };

struct hf_identity {
    uint64_t node_id;
    uint64_t store_id;
    uint8_t cluster_id[16];
    uint8_t incarnation[16];
    bool is_formed;
    uint32_t n_members; /* of the initial list, or of the configuration as last known when joining */
    /* Sorted by id. While joining, ids may be 0 (first): places to join by of which only the address is known. */
    struct hf_member members[HF_MEMBERS_MAX];
    /* version 2 */
    char name[HF_MEMBER_NAME_BYTES + 1]; /* of this node; "" = the id in digits */
    bool is_joining; /* no member yet: node_id is 0 until a leader gave one; cluster id 0 until it was told */
    bool wants_vote; /* joined to become a voter and is not one yet */
    bool is_level_2; /* the cluster's feature level is 2 or above: the first release must not start here (R26) */
    bool is_removed; /* was a member and is none any more: must not start again */
    char replaces[HF_MEMBER_NAME_BYTES + 1]; /* joining in the place of this member (name or id), "" = of nobody */
    enum hf_unfinished unfinished;
};

/* Reads DIR/identity. HF_E_NOENT: a new directory. HF_E_CORRUPT / HF_E_VERSION with `why`; HF_E_AGAIN: an offline
 * command did not finish, `why` names it. */
HF_MUST_CHECK int hf_identity_load(struct hf_fs *fs, const char *dir, struct hf_identity *out, char *why,
                                   size_t why_size);
/* For the offline commands themselves: also gives one with `unfinished` set. */
HF_MUST_CHECK int hf_identity_load_unfinished(struct hf_fs *fs, const char *dir, struct hf_identity *out, char *why,
                                              size_t why_size);
HF_MUST_CHECK int hf_identity_save(struct hf_fs *fs, const char *dir, const struct hf_identity *id);

struct hf_marker {
    uint64_t generation; /* state-<generation>.db */
    bool install_pending;
    uint64_t index, term; /* 0 = no snapshot taken yet */
    uint64_t configuration_index;
    struct hf_buf configuration; /* owned */
};
HF_MUST_CHECK int hf_marker_load(struct hf_fs *fs, const char *dir, struct hf_marker *out, char *why, size_t why_size);
HF_MUST_CHECK int hf_marker_save(struct hf_fs *fs, const char *dir, const struct hf_marker *m);
void hf_marker_free(struct hf_marker *m);

/* Parse "1=host:port,2=host:port,..." (ids 1.. unique, addresses unique, at most HF_MEMBERS_MAX), sorted by id. */
HF_MUST_CHECK int hf_members_parse(const char *list, struct hf_member *out, uint32_t *n, char *why, size_t why_size);
/* Cluster id: hash of a --cluster-id word, or of the sorted initial list when word is NULL or "". */
void hf_cluster_id(const char *word, const struct hf_member *members, uint32_t n, uint8_t out[16]);

/* 1..64 letters, digits, '.', '_', '-'. */
bool hf_member_name_is_good(struct hf_slice name);
/* The member's name, or its id in digits when it has none (then kept in buf). */
const char *hf_member_name(const struct hf_member *m, char buf[HF_MEMBER_NAME_BYTES + 1]);

/* The address string of a member in the raft configuration carries its store id and, when it has one, its name:
 * "host:port#0123456789abcdef" or "host:port#0123456789abcdef#name", so that the identity of every voter is replicated
 * state (R19). Names need feature level 2. One spelling only: a name that is just the id in digits is left out by
 * format and refused by parse. A store id of zeroes is a place that nobody took yet. out_size of
 * HF_MEMBER_TEXT_BYTES always suffices. */
#define HF_MEMBER_TEXT_BYTES (256u + 17u + 1u + HF_MEMBER_NAME_BYTES)
void hf_member_format(const struct hf_member *m, char *out, size_t out_size);
HF_MUST_CHECK int hf_member_parse(uint64_t id, const char *text, struct hf_member *out);

#endif
