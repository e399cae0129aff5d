/* journal.h: the node's write-ahead log: segments of checksummed batches, group commit, term and vote.
 * Knows no libraft type. All functions on the loop thread; writes and syncs run on an executor of its own
 * ("hf-journal"), reads of old entries on another ("hf-jread"). Safety rules R11, R12, R13, R22, R23.
 *
 * The format on disk is described in full at the top of journal/format.h. */
#ifndef HF_JOURNAL_JOURNAL_H
#define HF_JOURNAL_JOURNAL_H

#include "base/env.h"
#include "base/stats.h"
#include "entry/entry.h"

#include <stdbool.h>
#include <stdint.h>

struct hf_journal;

#define HF_JOURNAL_NO_RESERVE UINT64_MAX

struct hf_journal_config {
    const char *dir;         /* of its own; created if missing. Copied. */
    uint64_t segment_bytes;  /* size of a preallocated segment (default 16 MiB); a larger batch gets a larger segment */
    uint64_t tail_bytes_max; /* newest entries kept in memory (default 8 MiB); at least the unwritten ones stay */
    uint64_t reserve_bytes; /* ballast file released when the disk is full; 0 = one segment, or HF_JOURNAL_NO_RESERVE */
};

struct hf_journal_events {
    /* Everything up to `index` of the present log is on stable storage. Rises, except after a truncation,
     * where it restarts below the cut. Never reports an index that was truncated meanwhile (R12). */
    void (*on_durable)(void *data, uint64_t index);
    /* The term and vote of the last hf_journal_set_vote are on stable storage, in both slots (R13). */
    void (*on_vote_durable)(void *data);
    /* A write or sync failed for good (EIO, or no space with the reserve used up). The owner stops the node. `what`
     * says what was done to which file, and the error. */
    void (*on_failed)(void *data, int err, const char *what);
    void *data;
};

/* What recovery found. An empty journal has first_index = next_index = 1 unless it was reset. */
struct hf_journal_state {
    uint64_t term;        /* max(slots, last entry's term): the term to start with */
    uint64_t vote;        /* 0 = none, or none in `term` */
    uint64_t first_index; /* of the oldest entry present; == next_index when empty */
    uint64_t next_index;  /* one past the last */
    bool torn_tail;       /* an unsynced tail was cut (benign power loss) */
};

/* Recover (synchronously) or create. HF_E_CORRUPT: damage in synced data, HF_E_VERSION: newer format,
 * HF_E_IO/NOSPC...; then `why` says which file, what is known and what to do, and nothing on disk was changed.
 * events and stats are borrowed for the life of the journal. */
HF_MUST_CHECK int hf_journal_open(struct hf_env *env, const struct hf_journal_config *config,
                                  const struct hf_journal_events *events, struct hf_stats *stats,
                                  struct hf_journal_state *state, struct hf_journal **out, char *why, size_t why_size);
/* Finishes what was submitted (waits for the disk), closes files. No callback afterwards. */
void hf_journal_close(struct hf_journal *j);

/* Read the journal in `dir` without changing anything: what hf_journal_open would find, then every entry as by
 * hf_journal_scan. Blocking; any thread, while nobody has it open. Errors and `why` as hf_journal_open;
 * HF_E_NOENT: there is no such directory. */
HF_MUST_CHECK int hf_journal_look(struct hf_fs *fs, const char *dir, struct hf_journal_state *state,
                                  int (*cb)(void *data, struct hf_log_entry *e), void *data, char *why,
                                  size_t why_size);

/* ---- writing ------------------------------------------------------------------------------------- */

/* Append entries[0..n): index must continue the log (next_index). Takes a reference to each. All that waits
 * while a write is in flight goes into the next single write and sync. */
void hf_journal_append(struct hf_journal *j, struct hf_log_entry *const *entries, size_t n);
/* Drop every entry >= from_index (a follower's conflict). Ordered with appends; its own synced step. */
void hf_journal_truncate_suffix(struct hf_journal *j, uint64_t from_index);
/* Make term and vote durable; on_vote_durable follows. At most one in flight (asserted). Ordered after
 * earlier appends is not required: it goes first. */
void hf_journal_set_vote(struct hf_journal *j, uint64_t term, uint64_t vote);
/* Entries <= up_to_index are no longer needed: whole segments below are deleted in the background (and
 * first_index rises accordingly, maybe less than asked). A running read of them finishes first. */
void hf_journal_truncate_prefix(struct hf_journal *j, uint64_t up_to_index);
/* Throw the whole log away and continue at next_index (an installed snapshot); term and vote are kept. Once that is on
 * stable storage on_durable comes with next_index - 1 (always, and nothing older before it); until then the durable
 * index is 0 and a crash leaves either the old log or the empty one. */
void hf_journal_reset(struct hf_journal *j, uint64_t next_index);

/* ---- reading ------------------------------------------------------------------------------------- */

uint64_t hf_journal_first_index(const struct hf_journal *j);
uint64_t hf_journal_next_index(const struct hf_journal *j);
uint64_t hf_journal_durable_index(const struct hf_journal *j);
/* Bytes of the journal's files on disk, those kept for reuse and the reserve among them; bytes of the tail in memory.
 */
uint64_t hf_journal_disk_bytes(const struct hf_journal *j);
uint64_t hf_journal_tail_bytes(const struct hf_journal *j);
/* Bytes of the records in (index, last], without what stores them: how much log a follower at `index` still needs. Says
 * nothing about space on disk, where a batch of one small entry takes several times its size. */
uint64_t hf_journal_bytes_after(const struct hf_journal *j, uint64_t index);
/* The first index of the oldest segment that may stay so that all segments from there on are files of at most `bytes`
 * together; at least the active one stays. What to cut with, if space on disk is what counts. */
uint64_t hf_journal_first_within(const struct hf_journal *j, uint64_t bytes);
/* What hf_journal_disk_bytes may come to, at most, in a journal that is cut to `kept_bytes` (hf_journal_first_within)
 * whenever `grown_bytes` more of files came in: those two, four segments (the one being filled, the prepared one, two
 * that are being deleted; each as large as one entry of `entry_bytes_max` may need), one kept for reuse, and the
 * reserve. */
uint64_t hf_journal_bytes_bound(const struct hf_journal *j, uint64_t kept_bytes, uint64_t grown_bytes,
                                uint64_t entry_bytes_max);
/* Memory of the entries that are not on stable storage yet. They stay in memory whatever tail_bytes_max says: the owner
 * takes no more entries in when this grows too large. */
uint64_t hf_journal_waiting_bytes(const struct hf_journal *j);
/* Time in ms since the oldest write or sync in flight began, of entries or of term and vote, or since a write waits for
 * a segment; 0 when none (R23: hung disk). */
uint64_t hf_journal_stall_ms(const struct hf_journal *j);

/* The entry from the in-memory tail with a new reference, or HF_E_AGAIN (older: use hf_journal_read),
 * HF_E_NOENT (not in the journal). */
HF_MUST_CHECK int hf_journal_get(struct hf_journal *j, uint64_t index, struct hf_log_entry **out);

/* Read entries [first, ...) from disk asynchronously: up to n_max entries and about bytes_max bytes, at
 * least one. cb gets references (callee unrefs; the array is borrowed) or rc < 0 with n = 0 (HF_E_NOENT when
 * they were truncated meanwhile, HF_E_CORRUPT/IO). The request is the caller's until cb. */
struct hf_journal_read {
    void *data;
    void (*cb)(struct hf_journal_read *req, int rc, struct hf_log_entry **entries, size_t n);
    uint64_t first;
    size_t n_max;
    size_t bytes_max;
    void *impl; /* private */
};
void hf_journal_read(struct hf_journal *j, struct hf_journal_read *req);

/* Synchronous walk at start-up over all entries from `first` in order (before the first append). The entry
 * is borrowed (ref it to keep it). Stops when cb returns non-zero and returns that. */
HF_MUST_CHECK int hf_journal_scan(struct hf_journal *j, uint64_t first, int (*cb)(void *data, struct hf_log_entry *e),
                                  void *data);

#endif
