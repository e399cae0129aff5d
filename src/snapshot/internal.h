/* internal.h: the parts of snapshot and what they tell each other.
 *
 *   snapshot.c  the seam: opening, closing, left-overs, which message goes where, the clock, progress
 *   copy.c      local copies: made, shared, read, deleted
 *   source.c    transfers to members
 *   target.c    the copy that is received, its verification
 *   wire.c      messages; hash.c: the hash of a file
 *
 * Everything that happens (a call, a message, a job that is done, a timer) only notes what changed and posts one task,
 * hf_snapshots_poke; hf_snapshots_work then does what can be done now and is the only place that calls the owner (but
 * for may_receive, which a message asks at once). So no event ever comes from inside a seam function, and what the
 * owner does in an event cannot pull the ground from under a loop here.
 *
 * Memory, bounded: a transfer holds HF_COPY_READ_BYTES_MAX of the file and has at most HF_COPY_QUEUE_BYTES_MAX unsent
 * in its link; the target holds at most two buffers of the window (one fills while the other is written). */
#ifndef HF_SNAPSHOT_INTERNAL_H
#define HF_SNAPSHOT_INTERNAL_H

#include "base/mem.h"
#include "base/util.h"
#include "snapshot/hash.h"
#include "snapshot/snapshot.h"
#include "snapshot/wire.h"

#include <stdatomic.h>

#define HF_COPY_LOG              "snapshot"
#define HF_COPY_STEP_BYTES       (8u << 20)   /* of the database; */
#define HF_COPY_STEPS_MAX        8u           /* so many in one job, */
#define HF_COPY_STEPS_MS         50u          /* or for so long: other jobs wait meanwhile */
#define HF_COPY_CHUNK_BYTES      (252u << 10) /* whole pages; with its header it fits one frame of the peers */
#define HF_COPY_READ_BYTES_MAX   (4 * HF_COPY_CHUNK_BYTES) /* of a copy, in one job */
#define HF_COPY_QUEUE_BYTES_MAX  (2u << 20)                /* unsent in a link when no more is read */
#define HF_COPY_WINDOW_BYTES_MAX (64u << 20)               /* whatever is configured or asked for */
#define HF_COPY_SYNC_BYTES       (64u << 20) /* the target's file is synced each time it grew by so much */
#define HF_COPY_FILES_MAX        3u          /* copies at once: one per index that somebody still reads */
#define HF_COPY_ATTEMPTS_MAX     10u         /* copies made for one transfer that came out too old */
#define HF_COPY_RETRY_MS         500u        /* after one that came out too old, or when there is no live database */
#define HF_COPY_RESTARTS_MAX     2u          /* after a wrong hash */
#define HF_COPY_TICK_MS          1000u
#define HF_COPY_LINK_RETRY_MS    50u /* when a link took no more */

/* An info that owns its configuration. */
struct hf_held_info {
    struct hf_snapshot_info info;
    struct hf_buf room;
};
void hf_held_info_set(struct hf_held_info *h, const struct hf_snapshot_info *info);
void hf_held_info_free(struct hf_held_info *h);

/* How fast something goes, looked at in each tick; and its line for each tenth. */
struct hf_speed {
    uint64_t start_ms, start_bytes; /* of the present run */
    uint64_t last_ms, last_bytes, rate;
    unsigned tenth;
};
void hf_speed_start(struct hf_speed *v, uint64_t now_ms, uint64_t bytes);
void hf_speed_tick(struct hf_speed *v, uint64_t now_ms, uint64_t bytes);
/* True once for each further tenth of total. */
bool hf_speed_is_tenth(struct hf_speed *v, uint64_t done, uint64_t total);
/* MB a second since the start of the run. */
double hf_speed_mean(const struct hf_speed *v, uint64_t now_ms, uint64_t bytes);

/* ---- copies -------------------------------------------------------------------------------------- */

struct copy {
    struct copy *next;
    struct hf_snapshots *s;
    uint64_t number;
    char *path, *live;
    bool is_making;  /* a job makes it, step by step */
    bool is_ready;   /* complete, open for reading */
    bool is_removed; /* a job deletes it */
    bool is_suspect; /* a target found it damaged, or it cannot be read: nobody else gets it */
    uint32_t users;
    uint64_t idle_ms; /* when the last user left */
    struct hf_held_info held;
    uint64_t started_ms, ready_ms;
    uint64_t done_bytes, total_bytes; /* while it is made */
    bool has_result;                  /* the job that made a part of it is done */
    /* The job's, on the executor while it is under way. */
    struct hf_job job;
    struct hf_store_copy *handle;
    int rc;
    bool is_done;
    uint64_t job_done_bytes, job_total_bytes;
    char why[256];
    struct hf_file *file;
    uint64_t bytes;
    /* The executor's: whoever reads the next byte feeds the hash. */
    struct hf_file_hash *hash;
    uint64_t hashed;
};

struct hf_snapshot_reader {
    struct hf_snapshot_reader *next; /* of s->readers */
    struct hf_snapshots *s;          /* NULL: closed before it */
    struct copy *copy;
    struct hf_held_info held;
    struct hf_snapshot_read *read; /* under way */
    struct hf_job job;
    uint8_t *buf;
    size_t cap, n, got;
    int rc;
};

/* ---- source -------------------------------------------------------------------------------------- */

enum send_phase { SEND_COPYING = 1, SEND_CONNECTING, SEND_OFFERED, SEND_SENDING, SEND_VERIFYING, SEND_DELIVERED };

struct transfer {
    struct transfer *next;
    struct hf_snapshots *s;
    uint64_t member, at_least;
    enum send_phase phase;
    unsigned attempts;
    struct copy *copy;    /* from SEND_CONNECTING on; a user of it */
    struct hf_link *link; /* from SEND_OFFERED on */
    uint64_t offer, window, sent, acked;
    uint64_t verify_done, verify_total;
    uint64_t progress_ms; /* the last that brought it nearer to its end; another link alone does not */
    struct hf_speed speed;
    struct hf_held_info delivered; /* what the target said last that it has; index 0 = nothing */
    bool owes_delivered;
    bool is_ended; /* off the list; freed when its job is done */
    bool has_hash; /* of the whole file */
    uint8_t hash[16];
    /* reading; from n on the job's while it is under way */
    struct hf_job job;
    bool is_reading, is_stale; /* stale: what is read is not wanted any more */
    bool is_hashing;           /* read for the hash alone */
    uint64_t reserved;         /* tokens taken for it */
    struct copy *reading;      /* a user of it */
    uint8_t *buf;
    uint64_t offset;
    size_t n;
    int rc;
    bool read_has_hash;
    uint8_t read_hash[16];
};

struct owed_failure {
    struct owed_failure *next;
    uint64_t member;
    char why[256];
};

/* ---- target -------------------------------------------------------------------------------------- */

enum receive_phase {
    RECEIVE_NONE = 1,
    RECEIVE_OPENING,   /* the file is made empty; then WANT 0 */
    RECEIVE_GOING,     /* bytes come */
    RECEIVE_CHECKING,  /* END came; what is left is written, then the hash compared */
    RECEIVE_VERIFYING, /* synced and read as a database */
    RECEIVE_VERIFIED,  /* waits to be taken */
};

enum receive_job { JOB_NONE = 0, JOB_OPEN, JOB_WRITE, JOB_VERIFY, JOB_REMOVE };

struct incoming {
    enum receive_phase phase;
    uint64_t member; /* who sends, or sent */
    uint64_t store_id, epoch, counter;
    struct hf_held_info held; /* as offered */
    struct hf_link *link;     /* NULL: broken off */
    uint64_t offer, window;
    bool owes_want; /* as soon as nothing waits to be written */
    uint64_t received, written;
    uint8_t hash[16]; /* END's */
    unsigned restarts;
    uint64_t progress_ms;
    struct hf_speed speed;
    /* An offer that waits for the job under way; the newest. */
    bool has_next;
    struct hf_transfer_wire next;
    struct hf_held_info next_held;
    struct hf_link *next_link;
    uint64_t next_member, next_store_id;
    /* writing */
    struct hf_buf filling, writing;
    bool is_dropped; /* what the job does is not wanted any more: remove the file */
    enum receive_job doing;
    struct hf_job job;
    int rc;
    char why[256];
    struct hf_file *file;
    struct hf_file_hash *running;
    _Atomic bool cancel;
    _Atomic uint64_t verify_done, verify_total;
    /* early write-back: a handle of its own on an executor of its own, so that the stream does not wait for it */
    struct hf_job sync_job;
    bool is_syncing;
    uint64_t synced;
};

/* ---- all of it ----------------------------------------------------------------------------------- */

struct hf_snapshots {
    struct hf_env *env;
    struct hf_snapshots_config config; /* strings are ours */
    struct hf_snapshots_events events;
    struct hf_executor *executor, *syncer;
    struct hf_link *(*link_of)(void *data, uint64_t member);
    void *link_of_data;
    bool is_closing;
    struct hf_task task;
    struct hf_timer tick;  /* each second while there is anything */
    struct hf_timer retry; /* earlier than that: the rate, a full link, another try at a copy */
    uint64_t retry_at_ms;
    char *incoming_path;
    /* copies */
    uint64_t epoch, last_number;
    struct copy *copies;
    uint32_t n_copies;
    uint64_t copy_not_before_ms;
    struct hf_snapshot_request *requests; /* linked through impl, in order */
    struct hf_snapshot_reader *readers;
    /* source */
    struct transfer *transfers;
    struct owed_failure *failures;
    uint64_t last_offer, pin;
    int64_t tokens; /* bytes that may be sent now; below 0: on credit */
    uint64_t tokens_ns;
    /* target */
    struct incoming in;
    struct {
        struct hf_counter *copies, *copies_failed, *sent_bytes, *received_bytes;
        struct hf_counter *send_started, *send_completed, *send_failed;
        struct hf_counter *receive_started, *receive_completed, *receive_failed;
    } stats;
};

static inline uint64_t hf_snapshots_now(const struct hf_snapshots *s)
{
    return s->env->boot_ms(s->env);
}

/* ---- snapshot.c ---------------------------------------------------------------------------------- */

/* Something changed: hf_snapshots_work runs later in this turn. */
void hf_snapshots_poke(struct hf_snapshots *s);
/* Also run it so much later, at the latest. */
void hf_snapshots_poke_in(struct hf_snapshots *s, uint64_t ms);
/* Removes a database file and what SQLite may have left beside it. Any thread. */
int hf_snapshots_unlink(struct hf_fs *fs, const char *path);
/* One message, whole. An error is the link's: HF_E_CLOSED, HF_E_BUSY ... */
HF_MUST_CHECK int hf_snapshots_say(struct hf_link *link, const struct hf_transfer_wire *w);

/* ---- copy.c -------------------------------------------------------------------------------------- */

/* A ready copy with index >= at_least, the newest; one more user. NULL: none. */
struct copy *hf_copies_acquire(struct hf_snapshots *s, uint64_t at_least);
void hf_copies_release(struct copy *c);
struct copy *hf_copies_making(const struct hf_snapshots *s);
/* Start, go on with, give up and delete copies; give readers to those that asked. */
void hf_copies_work(struct hf_snapshots *s);
/* Exactly n bytes of a ready copy; on the executor. HF_E_CORRUPT: the file is shorter. */
HF_MUST_CHECK int hf_copies_read(struct copy *c, uint64_t offset, void *buf, size_t n);
/* After the executor is gone. */
void hf_copies_close(struct hf_snapshots *s);

/* ---- source.c ------------------------------------------------------------------------------------ */

/* Whether some transfer waits for a copy. */
bool hf_source_wants_copy(const struct hf_snapshots *s);
/* Those that wait take a ready copy, if there is one that will do. */
void hf_source_take_copies(struct hf_snapshots *s);
/* A copy is ready, or (why != NULL) could not be made. */
void hf_source_copied(struct hf_snapshots *s, const char *why);
void hf_source_copy_progress(struct hf_snapshots *s);
void hf_source_link_down(struct hf_snapshots *s, struct hf_link *link);
void hf_source_message(struct hf_snapshots *s, struct hf_link *link, const struct hf_transfer_wire *w);
void hf_source_work(struct hf_snapshots *s);
void hf_source_tick(struct hf_snapshots *s, uint64_t now_ms);
/* Calls the owner for what is owed. */
void hf_source_tell(struct hf_snapshots *s);
uint32_t hf_source_progress(const struct hf_snapshots *s, struct hf_snapshot_progress *out, uint32_t n);
void hf_source_close(struct hf_snapshots *s);

/* ---- target.c ------------------------------------------------------------------------------------ */

void hf_target_open(struct hf_snapshots *s);
void hf_target_link_down(struct hf_snapshots *s, struct hf_link *link);
void hf_target_message(struct hf_snapshots *s, struct hf_link *link, const struct hf_transfer_wire *w);
void hf_target_work(struct hf_snapshots *s);
void hf_target_tick(struct hf_snapshots *s, uint64_t now_ms);
bool hf_target_is_busy(const struct hf_snapshots *s);
uint32_t hf_target_progress(const struct hf_snapshots *s, struct hf_snapshot_progress *out, uint32_t n);
void hf_target_close(struct hf_snapshots *s);

#endif
