/* store.h: the replicated state in one SQLite database (WAL mode), with a bounded write-back row cache in
 * front of it. Synchronous and thread-free: one thread at a time uses a store (the state thread; in the
 * simulator the only thread). SQL never leaves this folder.
 *
 * Log time: a key is dead once log time >= its expiry. All functions here judge by log time only.
 * Every mutation happens between hf_store_begin and hf_store_end of one log entry; a SQLite transaction stays
 * open across entries and is committed by hf_store_commit (durable: synchronous=FULL). Recovery = open, look at
 * applied_index, replay from there (I3). Local errors never become replies (R15): after an unexpected SQLite
 * result the store is poisoned, hf_store_error() tells, the owner stops the node. */
#ifndef HF_STORE_STORE_H
#define HF_STORE_STORE_H

#include "base/buf.h"
#include "base/err.h"
#include "base/stats.h"
#include "base/util.h"

#include <stdbool.h>
#include <stdint.h>

struct hf_store;

enum hf_type { HF_TYPE_NONE = 0, HF_TYPE_STRING = 1 }; /* stored and digested: numbers are for ever */

struct hf_store_config {
    const char *path;          /* database file, e.g. DIR/state-1.db; its folder exists. Copied. */
    const char *vfs;           /* SQLite VFS name or NULL (simulator). Copied. */
    uint64_t cache_bytes_max;  /* row cache, clean and dirty rows together (default 48 MiB) */
    uint64_t dirty_bytes_max;  /* write-back starts at this many dirty bytes (default 16 MiB) */
    uint64_t page_cache_bytes; /* SQLite's (default 16 MiB) */
    uint32_t level_max;        /* the feature level this release knows: a state above is refused (0 = no check) */
};

/* Kept in the database itself, in the same transaction as the rows. */
struct hf_store_meta {
    uint64_t applied_index;
    uint64_t applied_term;
    int64_t log_time_ms;
    uint64_t configuration_index;  /* last applied configuration entry (R16) ... */
    struct hf_slice configuration; /* ... and its bytes as consensus encoded them; borrowed until the next begin */
    uint8_t digest[16];            /* multiset hash over the logical rows, algorithm version 1 */
    uint8_t history[16];           /* hash(previous history, entry bytes) */
    uint64_t keys;                 /* rows present, dead but not yet deleted ones included */
};

/* Opens or creates. HF_E_CORRUPT (quick check of the header and meta failed), HF_E_VERSION (newer schema or feature
 * level), HF_E_IO, HF_E_NOSPC, HF_E_LOCKED; `why` says which file, what is known and what to do. The time it takes
 * depends on the WAL, which is bounded, and not on the size of the state. */
HF_MUST_CHECK int hf_store_open(const struct hf_store_config *config, struct hf_stats *stats, struct hf_store **out,
                                char *why, size_t why_size);
/* Commits what is pending (unless poisoned), checkpoints and closes. */
void hf_store_close(struct hf_store *s);
/* Drops everything since the last commit and closes (tests; a poisoned store). */
void hf_store_abandon(struct hf_store *s);

/* 0, or the error that poisoned the store; *text (may be NULL) gets a description, static lifetime of s. */
int hf_store_error(const struct hf_store *s, const char **text);

/* The entry between begin and end cannot be applied: drops everything since the last commit and poisons the store
 * with err. */
void hf_store_fail(struct hf_store *s, int err, const char *text);

const struct hf_store_meta *hf_store_meta(const struct hf_store *s);

/* ---- applying one entry -------------------------------------------------------------------------- */

/* index must be applied_index + 1. stamp_ms moves log time forward (never back). */
void hf_store_begin(struct hf_store *s, uint64_t index, uint64_t term, int64_t stamp_ms);
/* Delete at most n_max due keys in (expiry, key) order; returns how many. Called once by every entry. */
unsigned hf_store_expire(struct hf_store *s, unsigned n_max);
/* Remember a configuration entry (bytes copied). */
void hf_store_set_configuration(struct hf_store *s, uint64_t index, struct hf_slice bytes);
/* entry_bytes feed the history hash. */
void hf_store_end(struct hf_store *s, struct hf_slice entry_bytes);

/* ---- rows ---------------------------------------------------------------------------------------- */

struct hf_row {
    enum hf_type type;
    uint64_t version;      /* revision: log index << 16 | position of the command in its entry (R1) */
    int64_t expires_at_ms; /* log time; 0 = never */
    struct hf_slice value; /* borrowed until the next call on the store */
};

/* Longer keys must be refused before they are proposed: SQLite holds at most 10^9 bytes in one row, and a value may
 * have 512 MiB. */
#define HF_KEY_BYTES_MAX (256ull << 20)

/* Live row of a key; false when absent or dead. */
bool hf_store_get(struct hf_store *s, struct hf_slice key, struct hf_row *row);
/* As get, but without the value (TYPE, TTL, EXISTS). */
bool hf_store_peek(struct hf_store *s, struct hf_slice key, struct hf_row *row);
/* Insert or replace; row->value may not point into the store's memory. */
void hf_store_put(struct hf_store *s, struct hf_slice key, const struct hf_row *row);
/* Change version and expiry only. The key must be live. */
void hf_store_touch(struct hf_store *s, struct hf_slice key, uint64_t version, int64_t expires_at_ms);
/* False when it was absent or dead (a dead row is removed all the same). */
bool hf_store_del(struct hf_store *s, struct hf_slice key);
void hf_store_clear(struct hf_store *s);
/* Live and dead-but-present rows. */
uint64_t hf_store_count(const struct hf_store *s);
/* Keys with an expiry. */
uint64_t hf_store_count_expiring(const struct hf_store *s);
/* Earliest expiry in log time of any key, 0 = none. May be earlier than the truth, never later. */
int64_t hf_store_next_due_ms(struct hf_store *s);
int64_t hf_store_log_time_ms(const struct hf_store *s);

/* Visit live keys in the store's scan order starting at cursor (0 = from the start); value is not loaded. cb
 * returns false to stop after this key (it must not call the store). At least `count` rows are visited when there are
 * as many; all rows of one cursor position are visited together, so the returned cursor (0 = finished) never skips a
 * key that is present throughout, on any node. */
typedef bool (*hf_store_visit_cb)(void *data, struct hf_slice key, const struct hf_row *row);
uint64_t hf_store_scan(struct hf_store *s, uint64_t cursor, uint64_t count, hf_store_visit_cb cb, void *data);
/* A key at the position that rnd points to in scan order, live; false when there is none. key is borrowed. */
bool hf_store_random(struct hf_store *s, uint64_t rnd, struct hf_slice *key);

/* ---- settings ------------------------------------------------------------------------------------ */

/* Replicated settings: a few named values that are the same on every node, part of the digest (an empty table changes
 * nothing in it). Names are short words ("level", "config.heartbeat-ms"). Written between begin and end only; copied;
 * larger or more ones must be refused before they are proposed. hf_store_clear leaves them alone. */
#define HF_SETTING_NAME_MAX  64u
#define HF_SETTING_VALUE_MAX 4096u
#define HF_SETTINGS_MAX      256u
void hf_store_setting_put(struct hf_store *s, struct hf_slice name, struct hf_slice value); /* "" deletes */
/* False when absent; the value is borrowed until the next call on the store. */
bool hf_store_setting_get(struct hf_store *s, struct hf_slice name, struct hf_slice *value);
/* In byte order of the names; cb must not call the store. */
void hf_store_setting_visit(struct hf_store *s, void (*cb)(void *data, struct hf_slice name, struct hf_slice value),
                            void *data);

/* ---- copies and files at rest -------------------------------------------------------------------- */

/* What a database file says about itself. */
struct hf_store_info {
    struct hf_store_meta meta; /* its configuration points into `configuration` */
    struct hf_buf configuration;
    uint32_t level;      /* setting "level" (decimal digits), 1 when absent */
    uint64_t file_bytes; /* of the main file */
};
void hf_store_info_free(struct hf_store_info *info);

/* An online copy of the database that a running store writes. It has connections of its own, holds one read
 * transaction on the source (R28) and so is the state at one index: that of the store's last commit. Any thread, one
 * at a time. The result is one plain file without a WAL, synced, openable by anyone. While a copy is open the WAL of
 * the source cannot start again from its beginning: callers bound the time (R14). The last step (or close) then brings
 * the WAL into the source's database, so that this does not hold up the store. */
struct hf_store_copy;
HF_MUST_CHECK int hf_store_copy_open(const char *path, const char *vfs, const char *to, struct hf_store_copy **out,
                                     char *why, size_t why_size);
/* Copies about `bytes` more; *done once everything is copied and synced. On an error close the copy: `why` from
 * hf_store_copy_why. HF_E_NOSPC is told apart. */
HF_MUST_CHECK int hf_store_copy_step(struct hf_store_copy *c, uint64_t bytes, bool *done);
void hf_store_copy_progress(const struct hf_store_copy *c, uint64_t *done_bytes, uint64_t *total_bytes);
const char *hf_store_copy_why(const struct hf_store_copy *c);
/* After done. Borrowed until close. */
const struct hf_store_info *hf_store_copy_info(const struct hf_store_copy *c);
/* Removes the target unless it is complete. */
void hf_store_copy_close(struct hf_store_copy *c);

/* Reads what a database file that nobody has open says about itself (nothing is changed, no -wal may stand beside it
 * unless it is empty). HF_E_CORRUPT, HF_E_VERSION, HF_E_NOENT... with `why`. */
HF_MUST_CHECK int hf_store_inspect(const char *path, const char *vfs, struct hf_store_info *info, char *why,
                                   size_t why_size);
/* As inspect, and then everything that can be checked: quick_check, the digest recomputed from the rows and compared,
 * counters. Reads the whole file. progress (may be NULL) gets done and total rows and returns false to give up
 * (HF_E_CANCELED). Any thread. */
HF_MUST_CHECK int hf_store_verify(const char *path, const char *vfs, struct hf_store_info *info,
                                  bool (*progress)(void *data, uint64_t done, uint64_t total), void *data, char *why,
                                  size_t why_size);
/* As verify, without the structure of the file and the index of expiries: the digest recomputed from the rows, and the
 * counters. For a file whose bytes are known to be those of a sound one (their hash was compared). */
HF_MUST_CHECK int hf_store_verify_digest(const char *path, const char *vfs, struct hf_store_info *info,
                                         bool (*progress)(void *data, uint64_t done, uint64_t total), void *data,
                                         char *why, size_t why_size);
/* Restore into a new cluster: the database at rest gets another configuration, as of its applied index; everything
 * else stays. Durable on return. */
HF_MUST_CHECK int hf_store_rebase(const char *path, const char *vfs, struct hf_slice configuration, char *why,
                                  size_t why_size);

/* ---- durability ---------------------------------------------------------------------------------- */

/* Bounded background work between entries: write back some dirty rows, checkpoint. Returns after about budget_us. */
void hf_store_work(struct hf_store *s, uint64_t budget_us);
/* True when hf_store_work has something to do now. */
bool hf_store_wants_work(const struct hf_store *s);
/* True when the open transaction has grown so large that it should be committed: this bounds the WAL file. */
bool hf_store_wants_commit(const struct hf_store *s);
/* Dirty bytes (rows not yet written to SQLite plus those written but not committed). */
uint64_t hf_store_dirty_bytes(const struct hf_store *s);
/* Writes a part of what the next commit would have to write, so that the commit itself is short. True when the commit
 * should follow now. */
bool hf_store_prepare_commit(struct hf_store *s, uint64_t budget_us);
/* Write back all, commit under synchronous=FULL (R14 a). Afterwards durable_index == applied_index. */
HF_MUST_CHECK int hf_store_commit(struct hf_store *s);
/* Everything up to this index survives a power loss. */
uint64_t hf_store_durable_index(const struct hf_store *s);
/* Meta as of the last commit (what a marker snapshot at durable_index states). */
const struct hf_store_meta *hf_store_durable_meta(const struct hf_store *s);
/* PRAGMA quick_check: HF_E_CORRUPT with text. Slow. */
HF_MUST_CHECK int hf_store_check(struct hf_store *s, char *why, size_t why_size);
/* Recompute the digest from all rows and compare with the incremental one (tests, DEBUG). */
bool hf_store_digest_is_right(struct hf_store *s);

#endif
