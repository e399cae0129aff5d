/* offline_internal.h: what the offline functions share: reading a data directory without changing it. See offline.h. */
#ifndef HF_CONSENSUS_OFFLINE_INTERNAL_H
#define HF_CONSENSUS_OFFLINE_INTERNAL_H

#include "consensus/identity.h"
#include "consensus/offline.h"
#include "journal/journal.h"

#include <raft.h>

#define HF_OFFLINE_WHY_BYTES 768u

/* Each part is read on its own, so that the rest is known when one is damaged. */
struct hf_offline_found {
    const char *dir;
    bool is_there; /* the directory itself */
    int identity_rc, marker_rc, journal_rc;
    char identity_why[HF_OFFLINE_WHY_BYTES], marker_why[HF_OFFLINE_WHY_BYTES], journal_why[HF_OFFLINE_WHY_BYTES];
    struct hf_identity identity;
    struct hf_marker marker;
    struct hf_journal_state journal;
    uint64_t last_term;           /* of the journal's last entry, else of the marker */
    uint64_t configuration_index; /* 0 = none known */
    struct hf_buf bytes;          /* of the newest configuration */
    struct raft_configuration configuration;
    bool has_configuration; /* and it decodes */
};

void hf_offline_find(struct hf_fs *fs, const char *dir, struct hf_offline_found *f);
void hf_offline_found_free(struct hf_offline_found *f);
/* Is the directory whole, as far as can be seen without opening the database? */
HF_MUST_CHECK int hf_offline_judge(struct hf_fs *fs, const struct hf_offline_found *f, char *why, size_t why_size);
void hf_offline_summarise(const struct hf_offline_found *f, struct hf_offline_summary *out);
/* The members of the newest configuration; without one those of the identity, whose roles are not known. Room for
 * HF_MEMBERS_MAX; returns how many. */
uint32_t hf_offline_members(const struct hf_offline_found *f, struct hf_member *out, const char **roles);

/* *lock stays NULL when there is no such file and none may be made: then no node ever ran here. */
HF_MUST_CHECK int hf_offline_lock(struct hf_fs *fs, const char *dir, bool may_create, struct hf_file **lock, char *why,
                                  size_t why_size);
void hf_offline_unlock(struct hf_fs *fs, struct hf_file *lock);

bool hf_offline_is_file(struct hf_fs *fs, const char *path);
bool hf_offline_has_identity(struct hf_fs *fs, const char *dir);
char *hf_offline_state_path(const char *dir, uint64_t generation); /* caller frees */

#endif
