/* snapshot.h: copies of the whole state, and their way to a member that lags too far behind for the log. Knows files
 * and the STATE channel of the peers; nothing of libraft: consensus decides who needs a copy and when a received one
 * is installed.
 *
 * Source side: one local copy of the database at a time (store/store.h hf_store_copy), shared by everyone who reads
 * from it (transfers to members, backups), reused while it is recent enough, deleted when nobody uses it and it is
 * too old. R14: nobody reads the live file for long.
 *
 * Transfer: the source offers (index, term, size, digests), the target says from which byte on, chunks follow, each
 * checked by the frame's CRC-32C and by its offset; a window of unacknowledged bytes bounds both sides' memory; rate
 * limit on the source; at the end the whole-file hash (XXH3-128), then the target syncs, compares, opens the file,
 * recomputes its state digest and says VERIFIED. A broken stream resumes where the target stands. The wire format is
 * described in full at the top of snapshot/wire.h.
 *
 * Target side: the bytes go to DIR/incoming.db; a verified file stays there until it is taken for installing, or
 * until another offer replaces it. Left-overs of a crash are removed at open. Loop thread only; file work runs on an
 * executor of its own ("hf-snapshot"). */
#ifndef HF_SNAPSHOT_SNAPSHOT_H
#define HF_SNAPSHOT_SNAPSHOT_H

#include "base/env.h"
#include "base/stats.h"
#include "peer/peer.h"
#include "store/store.h"

#include <stdbool.h>
#include <stdint.h>

struct hf_snapshots;

struct hf_snapshots_config {
    const char *dir;       /* the node's data directory: copies are DIR/copy-*.db, DIR/incoming.db. Copied. */
    const char *vfs;       /* SQLite VFS or NULL. Copied. */
    uint64_t rate_bytes;   /* bytes a second a source sends at most, all targets together; 0 = unlimited */
    uint64_t chunk_bytes;  /* default 252 KiB: with its header it fits one frame of the peers */
    uint64_t window_bytes; /* unacknowledged bytes of one transfer (default 8 MiB) */
    uint64_t copy_ms_max;  /* a local copy that takes longer is given up (default 600 s; R14) */
    uint64_t idle_ms_max;  /* a transfer without progress for this long is dead (default 30 s; R17) */
    uint64_t keep_ms;      /* an unused copy is kept this long for the next who asks (default 10 s) */
};

struct hf_snapshot_info { /* what a copy holds */
    uint64_t index, term, configuration_index;
    struct hf_slice configuration; /* as consensus encoded it */
    uint8_t digest[16], history[16];
    uint32_t level;
    uint64_t bytes;
};

struct hf_snapshots_events {
    void *data;
    /* Where the live database is now. A copy shows what was committed last (at most about a second ago). */
    const char *(*live_path)(void *data);
    /* As source: the journal must keep everything from this index on while transfers run (R17); 0 = nothing now. */
    void (*on_pin)(void *data, uint64_t index);
    /* As source: `member` has verified and synced this copy: tell it to install (consensus sends InstallSnapshot).
     * Comes again (about each second, while the link is up) until hf_snapshots_stop for that member or an OFFER of a
     * newer copy; info borrowed. */
    void (*on_delivered)(void *data, uint64_t member, const struct hf_snapshot_info *info);
    /* As source: the transfer ended without success; it starts again when hf_snapshots_send asks again. */
    void (*on_send_failed)(void *data, uint64_t member, const char *why);
    /* As target: may this copy be received now? False with a reason: nothing is received (not a member, older than our
     * own state, an install is under way, a level above ours, too little disk space). info->bytes is what is still to
     * come: less than the file when a broken transfer goes on, 0 when all of it is here already. Comes from inside
     * hf_snapshots_on_message, unlike the others, which come later in the turn. */
    bool (*may_receive)(void *data, uint64_t member, const struct hf_snapshot_info *info, char *why, size_t why_size);
};

/* Removes left-overs of an earlier process. */
HF_MUST_CHECK int hf_snapshots_open(struct hf_env *env, const struct hf_snapshots_config *config,
                                    const struct hf_snapshots_events *events, struct hf_stats *stats,
                                    struct hf_snapshots **out, char *why, size_t why_size);
/* Ends everything (no further event), waits for the executor, removes copies. Links must be down before. */
void hf_snapshots_close(struct hf_snapshots *s);
/* Live: 0 = unlimited. */
void hf_snapshots_set_rate(struct hf_snapshots *s, uint64_t rate_bytes);

/* Links of the STATE channel, from whoever owns the peers. */
void hf_snapshots_on_link_up(struct hf_snapshots *s, struct hf_link *link);
void hf_snapshots_on_link_down(struct hf_snapshots *s, struct hf_link *link);
void hf_snapshots_on_message(struct hf_snapshots *s, struct hf_link *link, uint8_t type, struct hf_slice payload);
/* How a source finds its dialed STATE link to a member (NULL when there is none now). */
void hf_snapshots_set_link_of(struct hf_snapshots *s, struct hf_link *(*link_of)(void *data, uint64_t member),
                              void *data);

/* ---- source ------------------------------------------------------------------------------------------- */

/* Bring `member` a copy of the state at an index >= at_least. Nothing changes when a transfer to it is under way or
 * delivered with such an index. Waits for the link if there is none. */
void hf_snapshots_send(struct hf_snapshots *s, uint64_t member, uint64_t at_least);
/* The member needs none any more (it caught up, was removed), or this node does not lead any more (member 0 = all). */
void hf_snapshots_stop(struct hf_snapshots *s, uint64_t member);

/* A local copy for reading by someone else (backup). cb once: rc 0 with a reader, else `why`. */
struct hf_snapshot_reader;
struct hf_snapshot_request {
    void *data;
    void (*cb)(struct hf_snapshot_request *req, int rc, struct hf_snapshot_reader *reader, const char *why);
    uint64_t at_least; /* the copy is of this index or a later one; the live database must have committed it */
    void *impl;        /* private */
};
void hf_snapshots_copy(struct hf_snapshots *s, struct hf_snapshot_request *req);
const struct hf_snapshot_info *hf_snapshot_reader_info(const struct hf_snapshot_reader *r);
/* Read n bytes at offset on the executor; cb gets rc and the bytes (borrowed). One at a time for one reader. */
struct hf_snapshot_read {
    void *data;
    void (*cb)(struct hf_snapshot_read *read, int rc, struct hf_slice bytes);
    uint64_t offset;
    size_t n;
    void *impl; /* private */
};
void hf_snapshot_reader_read(struct hf_snapshot_reader *r, struct hf_snapshot_read *read);
/* Not while a read is under way. */
void hf_snapshot_reader_close(struct hf_snapshot_reader *r);

/* ---- target ------------------------------------------------------------------------------------------- */

/* True when a verified copy with exactly this index and term waits; *info borrowed until take or the next event. */
bool hf_snapshots_received(const struct hf_snapshots *s, uint64_t index, uint64_t term, struct hf_snapshot_info *info);
/* The path of that verified file ("DIR/incoming.db"), which now belongs to the caller (who renames it). */
const char *hf_snapshots_take(struct hf_snapshots *s);

/* ---- looking ------------------------------------------------------------------------------------------ */

struct hf_snapshot_progress {
    uint64_t member; /* the other end */
    bool is_sending;
    const char *phase; /* "copying", "connecting", "sending", "receiving", "verifying", "delivered", "received" */
    uint64_t index, done_bytes, total_bytes, bytes_per_second;
};
/* Fills up to n; returns how many transfers there are. */
uint32_t hf_snapshots_progress(const struct hf_snapshots *s, struct hf_snapshot_progress *out, uint32_t n);

#endif
