/* internal.h: what the files of the journal share. Not for other folders.
 *
 *   format    bytes on disk                        recover  open: find the end of the log, tell torn from damaged
 *   vote      the two slots of term and vote       files    prepare, seal and delete segments; the ballast
 *   segment   one run of indexes and where it is   tail     the newest entries in memory
 *   journal   the seam, the write path             read     entries from disk, at start and later */
#ifndef HF_JOURNAL_INTERNAL_H
#define HF_JOURNAL_INTERNAL_H

#include "base/buf.h"
#include "base/env.h"
#include "base/util.h"
#include "journal/format.h"
#include "journal/journal.h"

#include <stdatomic.h>

/* ---- segment.c ----------------------------------------------------------------------------------- */

/* Every so many bytes the place of a batch is remembered; between two points a read walks the batches. */
#define HF_JPOINT_BYTES (64u * 1024u)

struct hf_jpoint {
    uint64_t index;  /* of the first entry in the batch */
    uint64_t offset; /* of its header */
    uint64_t cum;    /* record bytes of the whole log before it, since the journal was opened (a running sum) */
};

/* A file of the log with one run of indexes [first_index, last_index], empty when last_index < first_index.
 * Loop thread, but for `file`, which belongs to the executor whose job holds it. */
struct hf_jsegment {
    uint64_t id, salt;
    uint64_t capacity; /* bytes of the file */
    uint64_t end;      /* where the next batch goes */
    uint64_t first_index, last_index;
    struct hf_file *file; /* for writing; NULL once sealed */
    struct hf_jpoint *points;
    size_t n_points, cap_points;
    uint32_t reads; /* running reads of its file */
};

struct hf_jsegment *hf_jsegment_new(uint64_t id, uint64_t salt, uint64_t capacity);
void hf_jsegment_free(struct hf_jsegment *s);
static inline bool hf_jsegment_is_empty(const struct hf_jsegment *s)
{
    return s->last_index < s->first_index;
}
/* Note a batch of entries; keeps it as a point when far enough from the last one. Extends the run. */
void hf_jsegment_add_batch(struct hf_jsegment *s, uint64_t offset, uint64_t first_index, uint32_t count, uint64_t cum);
/* Shorten the run to end before from_index. */
void hf_jsegment_cut(struct hf_jsegment *s, uint64_t from_index);
/* The last point at or before index, which lies in the run. */
const struct hf_jpoint *hf_jsegment_find(const struct hf_jsegment *s, uint64_t index);

/* ---- tail.c -------------------------------------------------------------------------------------- */

struct hf_jtail_item {
    struct hf_log_entry *entry;
    uint64_t cum; /* running sum of record bytes, this entry included */
};

/* A ring of the entries [first, next). */
struct hf_jtail {
    struct hf_jtail_item *items;
    size_t cap; /* power of two */
    uint64_t first, next;
    uint64_t bytes; /* of the blocks it holds */
};

void hf_jtail_init(struct hf_jtail *t, uint64_t next);
void hf_jtail_free(struct hf_jtail *t);
void hf_jtail_push(struct hf_jtail *t, struct hf_log_entry *e, uint64_t cum); /* takes a reference */
struct hf_jtail_item *hf_jtail_at(const struct hf_jtail *t, uint64_t index);
void hf_jtail_drop_first(struct hf_jtail *t);
/* Drop all entries >= from; if that is below first the ring is empty at `from`. */
void hf_jtail_cut(struct hf_jtail *t, uint64_t from);
static inline bool hf_jtail_has(const struct hf_jtail *t, uint64_t index)
{
    return index >= t->first && index < t->next;
}

/* ---- vote.c -------------------------------------------------------------------------------------- */

/* Load the file; *differ tells that a slot must be written again before anything is built on the answer.
 * HF_E_NOENT, HF_E_CORRUPT when both slots are bad, HF_E_VERSION, HF_E_IO. */
HF_MUST_CHECK int hf_jvote_load(struct hf_fs *fs, const char *path, struct hf_jvote *out, bool *differ);
/* Write and sync slot 0, then slot 1. */
HF_MUST_CHECK int hf_jvote_store(struct hf_fs *fs, struct hf_file *f, const struct hf_jvote *v);
/* A new vote file, complete and durable under its name, or none. */
HF_MUST_CHECK int hf_jvote_create(struct hf_fs *fs, const char *dir, const char *path, const struct hf_jvote *v);

/* ---- files.c: blocking file work, on an executor or at start --------------------------------------- */

struct hf_jprepare {
    struct hf_job job;
    struct hf_fs *fs;
    const char *dir;
    const _Atomic bool *stop; /* give up early (HF_E_CANCELED) */
    uint64_t id, salt, bytes;
    bool in_place;          /* the segment file is there already: enlarge it to `bytes` */
    uint64_t reserve_bytes; /* ballast to have, if there is space for it */
    /* answer */
    int rc;
    bool ballast_used, recycled_used;
    uint64_t ballast_bytes; /* what there is of it now */
    struct hf_file *file;
};

/* Make segment `id` of `bytes` ready: zeroes (or a recycled file), header, name, all durable. On HF_E_NOSPC the
 * ballast is given up and it is tried once more. */
void hf_jfiles_prepare(struct hf_jprepare *p);
/* The path of a file in the journal's directory; caller frees. */
char *hf_jfiles_path(const char *dir, const char *name);
char *hf_jfiles_segment_path(const char *dir, uint64_t id);
/* Remove a segment file and make that durable; a file of exactly recycle_bytes is kept for reuse instead when
 * there is none yet (*is_kept). */
HF_MUST_CHECK int hf_jfiles_delete(struct hf_fs *fs, const char *dir, uint64_t id, uint64_t capacity,
                                   uint64_t recycle_bytes, bool *is_kept);
/* At start: remove what an unfinished preparation left, and a file for reuse that has not the size of a segment any
 * more. *recycle_bytes: what there is for reuse. */
HF_MUST_CHECK int hf_jfiles_tidy(struct hf_fs *fs, const char *dir, uint64_t segment_bytes, uint64_t *recycle_bytes);
/* (Re)create the ballast of `bytes` if there is space for it beside a few segments; returns its size on disk. */
uint64_t hf_jfiles_fill_ballast(struct hf_fs *fs, const char *dir, uint64_t bytes, uint64_t spare_bytes);

/* ---- recover.c ----------------------------------------------------------------------------------- */

/* What is on disk: filled by hf_jrecover without changing anything. */
struct hf_jrecovery {
    bool empty;                     /* no journal here yet (or a creation that never finished) */
    uint64_t dead_to;               /* segments with an id below this are left over from before a reset */
    uint64_t lowest_id, highest_id; /* of all segment files; 0 when none */
    struct hf_jsegment **segments;  /* the live ones, in order */
    size_t n;
    struct hf_jsegment *spare; /* the last file, without a batch; NULL if there is none */
    bool spare_is_bad;         /* the last file has no readable header and nothing in it: make it anew */
    uint32_t last_crc;         /* header CRC of the last batch */
    uint64_t generation;       /* greatest seen */
    uint64_t next_index;
    uint64_t last_term;
    uint64_t cum;
    bool torn;
    struct hf_jvote vote;
    bool vote_differs;
};

HF_MUST_CHECK int hf_jrecover(struct hf_fs *fs, const char *dir, struct hf_jrecovery *r, char *why, size_t why_size);
/* The same for the owner. */
struct hf_journal_state hf_jrecovery_state(const struct hf_jrecovery *r);
void hf_jrecovery_free(struct hf_jrecovery *r); /* what was not taken out of it */

/* ---- journal.c ----------------------------------------------------------------------------------- */

enum hf_jspare_state {
    HF_JSPARE_NONE = 0,
    HF_JSPARE_PREPARING,
    HF_JSPARE_READY,
    HF_JSPARE_FAILED, /* no space, even without the ballast; tried again by timer and on need */
};

/* The one write in flight. */
struct hf_jwrite {
    struct hf_job job;
    struct hf_fs *fs;
    struct hf_file *file;
    struct hf_jbatch header;
    struct hf_log_entry **entries; /* referenced */
    size_t cap_entries;
    struct hf_buf buf;
    uint64_t truncations; /* of the journal when it was formed (R12) */
    uint64_t began_ms;
    uint64_t sync_us; /* write and sync */
    struct hf_env *env;
    int rc;
    const char *what;
};

struct hf_jvote_write {
    struct hf_job job;
    struct hf_fs *fs;
    struct hf_file *file;
    struct hf_jvote value;
    uint64_t began_ms;
    int rc;
};

/* One segment's file in a cleanup. Seal: cut the unused rest off and close. Delete: close it if need be, then see
 * hf_jfiles_delete. */
struct hf_jcleanup_item {
    struct hf_jsegment *segment;
    bool is_delete;
    bool cut;
    bool is_kept; /* for reuse */
};

/* All that there is to clean goes into one job: one file a job would fall behind, since each segment that is filled
 * costs a preparation on the same thread. */
#define HF_JCLEANUP_MAX 16
struct hf_jcleanup {
    struct hf_job job;
    struct hf_journal *j;
    struct hf_jcleanup_item items[HF_JCLEANUP_MAX];
    size_t n, n_done; /* n_done < n: that item failed with rc */
    int rc;
};

enum hf_jcut {
    HF_JCUT_NONE = 0,
    HF_JCUT_TRUNCATE,
    HF_JCUT_RESET,
};

struct hf_jread_impl;

struct hf_journal {
    struct hf_env *env;
    struct hf_fs *fs;
    char *dir;
    uint64_t segment_bytes, tail_bytes_max, reserve_bytes;
    const struct hf_journal_events *events;
    struct hf_executor *writer, *reader, *files;
    struct hf_prng prng; /* salts */

    /* the log as the owner sees it */
    uint64_t next_index;
    uint64_t durable_index;
    struct hf_jtail tail; /* [tail.first, next_index) */
    uint64_t cum;         /* running sum of record bytes up to the last entry */
    uint64_t truncations; /* raised by truncate_suffix and reset */

    /* the log as it goes to disk */
    struct hf_jsegment **segments; /* in order of id; the last is the active one */
    size_t n_segments, cap_segments;
    uint64_t submitted_index; /* last entry handed to the disk */
    uint32_t last_crc;
    uint64_t generation;
    uint64_t durable_segment, durable_offset;     /* synced up to here */
    uint64_t published_segment, published_offset; /* and a synced batch says so up to here */
    enum hf_jcut cut;                             /* must be written before any entry */
    uint64_t cut_from;

    struct hf_jwrite write;
    bool write_busy, write_begins_segment;
    struct hf_jvote_write vote_write;
    bool vote_busy;
    struct hf_jvote vote;
    struct hf_file *vote_file;
    struct hf_task pump_task;
    struct hf_timer idle_timer;
    struct hf_timer spare_timer;
    bool idle_wanted;

    enum hf_jspare_state spare_state;
    struct hf_jsegment *spare;
    struct hf_jprepare prepare;
    uint64_t recycle_bytes, ballast_bytes; /* of the file for reuse and of the reserve, 0 = there is none */
    uint64_t blocked_ms;                   /* since when a write waits for a segment; 0 = none does */
    bool spare_last_chance;                /* the present attempt was made because a write waits */

    struct hf_jsegment **doomed; /* out of the log, oldest first, to be deleted in this order */
    size_t n_doomed, cap_doomed;
    struct hf_jcleanup cleanup;
    bool cleanup_busy;

    struct hf_jread_impl *reads; /* running */
    bool failed;
    _Atomic bool stopping;

    struct hf_counter *stat_writes, *stat_bytes;
    struct hf_histogram *stat_sync_us, *stat_batch_entries;
    struct hf_gauge *stat_disk_bytes, *stat_tail_bytes, *stat_reserve_bytes, *stat_spare_failed;
};

/* Pump: start the next write if there is something to write and nothing in flight. */
void hf_journal_pump(struct hf_journal *j);
/* "doing DIR/name: error" is what the owner hears. */
void hf_journal_fail(struct hf_journal *j, int rc, const char *doing, const char *name);

/* segments.c: the life of segment files around the log */
void hf_jspare_prepare(struct hf_journal *j, uint64_t min_bytes);
/* The spare becomes the active segment; the run begins at first_index. */
void hf_jspare_activate(struct hf_journal *j, uint64_t first_index);
void hf_jsegments_push(struct hf_journal *j, struct hf_jsegment *s);
/* Take the n oldest segments out of the log and delete their files when nobody reads them. */
void hf_jsegments_doom(struct hf_journal *j, size_t n);
/* Seal or delete the next file that waits for it. */
void hf_jsegments_clean(struct hf_journal *j);
void hf_jsegments_update_stats(struct hf_journal *j);

/* read.c */
void hf_jreads_cut(struct hf_journal *j, uint64_t from_index);
/* Blocking: hand out the entries of [first, last] in one segment through cb, until it returns non-zero. */
struct hf_jwalk {
    struct hf_fs *fs;
    const char *dir;
    uint64_t segment, salt;
    uint64_t offset, end; /* of the batch to begin with; of the last batch */
    uint64_t first, last;
};
HF_MUST_CHECK int hf_jwalk_run(const struct hf_jwalk *w, int (*cb)(void *data, struct hf_log_entry *e), void *data);

#endif
