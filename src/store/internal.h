/* internal.h: the parts of the store and what they tell each other. Only src/store and its unit tests include it.
 *
 *   store.c     the seam: entries, rows, digest, history, counters
 *   cache.c     the row cache: hash table, dirty lists, heap of expiries, eviction
 *   db.c        SQLite: statements, errors, transactions, write-back, checkpoints
 *   open.c      opening and closing, the schema, refusals
 *   settings.c  the replicated settings
 *   visit.c     scan order, random keys, expiry
 *   copy.c      online copies
 *   rest.c      files that nobody has open: looking, verifying, another configuration */
#ifndef HF_STORE_INTERNAL_H
#define HF_STORE_INTERNAL_H

#include "base/assert.h"
#include "base/buf.h"
#include "base/stats.h"
#include "store/store.h"

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- rows ---------------------------------------------------------------------------------------- */

/* One cached row. What follows the fixed part is the row's canonical encoding, in one piece, so that its hash
 * (the summand of the digest, algorithm version 1) is one pass over memory:
 *
 *   u64 version, i64 expires_at_ms, u32 key length, u8 type (little-endian), key bytes, value bytes */
struct row {
    uint64_t hash;      /* of the key; see hf_store_hash_key */
    int64_t slot;       /* primary key in table `keys`, 0 = not in the database */
    uint64_t digest[2]; /* hash of the canonical encoding, when present */
    uint32_t size;      /* bytes allocated, fixed part included */
    uint32_t value_len;
    uint32_t list_pos; /* where in the list that `list` names */
    uint32_t heap_pos; /* 1-based place in the heap of expiries, 0 = not in it */
    uint8_t list;      /* enum row_list */
    bool present;      /* false: deleted, and the database does not know it yet */
    bool referenced;   /* the clock hand spares it once */
    uint8_t canon[];
};

#define CANON_HEADER 21u

/* A row is on a list exactly when it is dirty: it differs from the database. */
enum row_list {
    LIST_NONE = 0, /* clean: present and the same as in the database */
    LIST_SHAPE,    /* dirty: the set of keys differs (new or deleted); scans need these written back first */
    LIST_CONTENT,  /* dirty: the key is in the database with other content */
    LIST_FLUSH,    /* dirty, either kind, in the sorted batch being written back */
    LIST_N,
};

static inline uint64_t row_version(const struct row *r)
{
    return hf_load_u64(r->canon);
}
static inline int64_t row_expires(const struct row *r)
{
    return (int64_t)hf_load_u64(r->canon + 8);
}
static inline uint32_t row_key_len(const struct row *r)
{
    return hf_load_u32(r->canon + 16);
}
static inline enum hf_type row_type(const struct row *r)
{
    return (enum hf_type)r->canon[20];
}
static inline struct hf_slice row_key(const struct row *r)
{
    return hf_slice(r->canon + CANON_HEADER, row_key_len(r));
}
static inline struct hf_slice row_value(const struct row *r)
{
    return hf_slice(r->canon + CANON_HEADER + row_key_len(r), r->value_len);
}
static inline bool row_is_dirty(const struct row *r)
{
    return r->list != LIST_NONE;
}

/* ---- the cache ----------------------------------------------------------------------------------- */

struct cell { /* of the open-addressing table (linear probing, at most 3/4 full); row NULL = empty */
    uint64_t hash;
    struct row *row;
};

struct row_ref { /* of a dirty list */
    uint64_t hash;
    struct row *row; /* NULL: left the list (flush batch only) */
};

struct row_vec {
    struct row_ref *at;
    uint32_t n, cap;
};

struct row_cache {
    struct cell *cells;
    uint64_t mask;
    uint64_t n;           /* rows in the table */
    uint64_t hand;        /* clock hand, a cell number */
    uint64_t bytes;       /* memory of all rows and of the table */
    uint64_t dirty_bytes; /* memory of the dirty ones */
    struct row_vec list[LIST_N];
    uint32_t flush_pos; /* next of list[LIST_FLUSH] to write */
    struct row **heap;  /* dirty present rows with an expiry, least (expiry, key) first; heap[0] unused */
    uint32_t heap_n, heap_cap;
};

void cache_init(struct row_cache *c);
void cache_free(struct row_cache *c);
/* Cell of a key, NULL when it is not cached. Valid until the next insert or remove. */
struct cell *cache_find(struct row_cache *c, uint64_t hash, struct hf_slice key);
/* A detached row: not present, slot 0, not in the table, room for value_len bytes of value. */
struct row *row_new(uint64_t hash, struct hf_slice key, uint32_t value_len);
void row_free(struct row *r);
/* Puts a row into the table; the key must not be there. */
struct cell *cache_insert(struct row_cache *c, struct row *r);
/* Off the table, lists and heap; the row is freed. */
void cache_remove(struct row_cache *c, struct cell *cell);
/* Replace version, expiry, type and value of a row in the table (its memory may move): it becomes present and
 * dirty. value NULL keeps the value. */
struct row *cache_set(struct row_cache *c, struct cell *cell, uint64_t version, int64_t expires_at_ms,
                      enum hf_type type, const struct hf_slice *value);
/* The key is gone: becomes a dirty tombstone, or leaves the cache when the database never had it. */
void cache_erase(struct row_cache *c, struct cell *cell);
/* After the row was written to the database (slot set, or deleted there): becomes clean, off its list and heap. */
void cache_written(struct row_cache *c, struct row *r);
/* Drops one clean row, not `keep`. False when a whole turn of the hand found none. */
bool cache_evict_one(struct row_cache *c, const struct row *keep);
uint64_t cache_dirty_rows(const struct row_cache *c);
/* Starts a flush batch from both dirty lists, sorted by hash (the order of the table). No batch may be under way. */
void cache_start_batch(struct row_cache *c);
/* Walks everything and asserts the invariants. Slow. */
void cache_check(const struct row_cache *c);
/* Of the canonical encoding. */
void row_compute_digest(struct row *r);

/* ---- the database -------------------------------------------------------------------------------- */

enum stmt {
    STMT_BEGIN,
    STMT_COMMIT,
    STMT_GET,       /* slot range, key -> slot, type, version, expires_at, value */
    STMT_PEEK,      /* the same without the value */
    STMT_GET_SLOT,  /* slot -> type, version, expires_at, value, key */
    STMT_INSERT,    /* ignored when the slot is taken */
    STMT_UPDATE,    /* by slot */
    STMT_DELETE,    /* by slot */
    STMT_LAST_SLOT, /* slot range -> greatest slot in use */
    STMT_SCAN,      /* first slot -> rows without values, ascending */
    STMT_DUE,       /* time, limit -> due rows in (expiry, key) order */
    STMT_NEXT_DUE,  /* time -> earliest expiry after it */
    STMT_CLEAR,
    STMT_META,
    STMT_PAGES,
    STMT_SETTING_PUT,
    STMT_SETTING_DELETE,
    STMT_ALL, /* every row, for the digest check */
    STMT_N,
};

/* Table `settings`, all of it, in byte order of the names. Summand of the digest: XXH3-128 with seed
 * STORE_SETTING_SEED of (u32 length of the name, name, value). */
struct setting {
    struct hf_slice name, value; /* one block, which name.ptr owns */
    uint64_t digest[2];
};

struct settings {
    struct setting *at;
    unsigned n;
    uint64_t digest[2]; /* sum of the summands */
};

/* The row of table meta. */
struct facts {
    struct hf_store_meta meta; /* its configuration points into `configuration` */
    struct hf_buf configuration;
    uint64_t keys_expiring;
    uint64_t key_seed;
};

/* Where a refusal to open a file goes. */
struct refusal {
    const char *path;
    sqlite3 *db;
    bool is_node; /* the file is a node's state: damage is repaired with a command, which the text ends with */
    char *why;
    size_t why_size;
};

struct hf_store {
    uint64_t key_seed; /* of the keys' hash: replicated, secret, set by the first log entry */
    sqlite3 *db;
    sqlite3_stmt *stmt[STMT_N];
    char *path;
    uint64_t cache_bytes_max, dirty_bytes_max;
    struct hf_stats *own_stats; /* when none was given */

    int err; /* poisoned */
    char err_text[512];

    bool in_entry;
    bool in_transaction;
    struct row_cache cache;
    struct row *loaded; /* a row that is too large to be kept clean: lives until the next one is loaded */
    struct hf_buf scratch;
    uint64_t group_mask; /* all ones in 43 bits; tests narrow it to make collisions common */

    struct hf_store_meta meta, durable_meta;
    struct hf_buf configuration, durable_configuration;
    struct settings settings;
    uint64_t digest[2]; /* running sums, settings included; meta.digest is their encoding */
    uint64_t keys_expiring;
    int64_t db_due_ms; /* no row in the database expires before this; 0 = none expires */

    uint64_t written_rows, written_bytes; /* in the open transaction */
    uint64_t prepare_bytes;               /* each step of preparing the commit under way writes so much, */
    unsigned prepare_calls_left;          /* in so many steps at most; 0 = not preparing */
    uint64_t database_pages;              /* as of the last commit */
    int wal_pages;                        /* told by the last commit */

    struct {
        struct hf_histogram *commit_us, *writeback_us, *checkpoint_us;
        struct hf_gauge *dirty_bytes, *cache_bytes, *cache_rows, *wal_bytes, *database_bytes, *keys;
        struct hf_counter *hits, *misses, *expired, *rows_written;
    } stats;
};

#define STORE_SETTING_SEED   0x73657474696e6773ull
#define STORE_KEY_SEED       0x486f6c6466617374ull /* until the first entry brings the cluster's own */
#define STORE_PAGE_BYTES     4096u
#define STORE_GROUP_BITS     43u /* of the key's hash: the scan position */
#define STORE_ORDINAL_BITS   20u /* tells the keys of one position apart */
#define STORE_CLEAN_ROW_MAX  (64u << 10)
#define STORE_SCHEMA_VERSION 1
#define STORE_DIGEST_VERSION 1
#define STORE_APPLICATION_ID 0x48467374 /* "HFst" */

/* Scan position of a key: 1 .. 2^43 - 1. */
static inline uint64_t store_group(const struct hf_store *s, uint64_t hash)
{
    uint64_t g = (hash >> (64u - STORE_GROUP_BITS)) & s->group_mask;
    return g ? g : 1;
}
static inline int64_t store_group_first_slot(uint64_t group)
{
    return (int64_t)(group << STORE_ORDINAL_BITS);
}
static inline int64_t store_group_last_slot(uint64_t group)
{
    return (int64_t)(group << STORE_ORDINAL_BITS | ((1u << STORE_ORDINAL_BITS) - 1));
}

/* XXH3-64 under the cluster's own seed (key_seed). */
uint64_t hf_store_hash_key(const struct hf_store *s, struct hf_slice key);
/* Records the error, rolls back. The first one wins. */
void store_poison(struct hf_store *s, int sqlite_rc, const char *doing);
/* Makes sure that the transaction is open. False when poisoned. */
bool store_transaction(struct hf_store *s);
sqlite3_stmt *store_stmt(struct hf_store *s, enum stmt which); /* in the transaction; NULL when poisoned */
/* One step of a statement: true = a row is there. Anything but a row or the end poisons. Not at a row: reset. */
bool store_step(struct hf_store *s, enum stmt which);
void store_done(struct hf_store *s, enum stmt which);
/* Loads a row into a detached `struct row`; NULL when it is absent (or poisoned). */
struct row *store_load(struct hf_store *s, uint64_t hash, struct hf_slice key);
/* From a statement whose columns are slot, type, version, expires_at, value. */
struct row *store_row_from_columns(sqlite3_stmt *st, uint64_t hash, struct hf_slice key);
struct row *store_load_slot(struct hf_store *s, int64_t slot);
/* Writes one dirty row; it may leave the cache. */
void store_write_row(struct hf_store *s, struct row *r);
void store_delete_slot(struct hf_store *s, int64_t slot);
/* Writes back the batch under way and then all other dirty rows. */
void store_flush_all(struct hf_store *s);
/* Makes the set of keys in the database right; contents may still differ. */
void store_flush_shape(struct hf_store *s);
/* Evicts and, when too little is clean, writes back, until the cache is within its bound. */
void store_make_room(struct hf_store *s, const struct row *keep);
/* Row that expires first in the database after `after_ms`; 0 = none. */
int64_t store_query_due(struct hf_store *s, int64_t after_ms);
void store_update_gauges(struct hf_store *s);
/* Prepares all statements. SQLite's code. */
int store_prepare(struct hf_store *s);
void store_copy_meta(struct hf_store_meta *to, struct hf_buf *bytes, const struct hf_store_meta *from);
/* The hf_err for an SQLite code. */
int store_translate(int sqlite_rc);

/* ---- looking at a database that is being opened ------------------------------------------------------ */

#define STORE_WAL_KEEP_BYTES  (32u << 20) /* a WAL file larger than this is cut off after its checkpoint */
#define STORE_BUSY_TIMEOUT_MS 2000        /* someone looks at the live file, against advice */

/* Write the text, return err. */
int store_refuse(const struct refusal *r, int err, const char *what);
int store_refuse_sqlite(const struct refusal *r, int sqlite_rc, const char *doing);
/* "; repair it with: ..." for a node's database, with the folder that it is in. */
void store_repair_advice(const char *path, char *out, size_t size);
/* The first column of the first row, unchanged when there is none. SQLite's code. */
int store_query_int(sqlite3 *db, const char *sql, int64_t *out);
/* Is it ours, and of a schema that we know? is_new (may be NULL: then it may not be) = nothing is in it yet. */
int store_identify(const struct refusal *r, bool *is_new);
int store_read_facts(const struct refusal *r, struct facts *out);
void store_free_facts(struct facts *f);
/* PRAGMA quick_check. */
int store_quick_check(const struct refusal *r);

/* ---- settings ---------------------------------------------------------------------------------------- */

/* All of the table; none when a file of the first release has no such table. */
int settings_load(const struct refusal *r, struct settings *out);
void settings_free(struct settings *t);
/* The feature level: setting "level" (decimal), 1 when it is absent. */
int settings_level(const struct refusal *r, const struct settings *t, uint32_t *out);

/* ---- bookkeeping shared by store.c and visit.c ------------------------------------------------------ */

static inline bool store_is_live(const struct hf_store *s, int64_t expires_at_ms)
{
    return expires_at_ms == 0 || expires_at_ms > s->meta.log_time_ms;
}
/* The row leaves / joins the logical state: digest and counts. */
void store_subtract(struct hf_store *s, const struct row *r);
void store_add(struct hf_store *s, const struct row *r);
/* Asserts all invariants that hold between calls. Slow. */
void store_check(struct hf_store *s);

/* For tests: keep only some low bits of the scan position, so that many keys share one. Right after open. */
void hf_store_narrow_groups(struct hf_store *s, unsigned bits);

#endif
