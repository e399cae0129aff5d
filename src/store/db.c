/* db.c: everything that talks to SQLite: opening and checking the file, the schema, statements, errors, the
 * transaction that stays open across entries, write-back of dirty rows, commits and checkpoints.
 *
 * The schema is a public interface (docs/store.md). `slot` orders the rows by the scan position of their key: the
 * upper 43 bits of its hash, then 20 bits that tell the keys of one position apart (0 for the first one, nearly
 * always the only one). It is the rowid, so rows sit in a B+tree by an integer: measured against a WITHOUT ROWID
 * table by (slot, key), large values are read and replaced three to five times faster (docs/decisions/0002).
 *
 * Durability: WAL with synchronous=FULL, so that a commit is one sync of the WAL (R14 a). Checkpoints run right
 * after a commit, before the next transaction begins: then nothing of ours pins the WAL and it restarts from its
 * beginning. The WAL is bounded by the largest transaction, which hf_store_wants_commit bounds. */
#include "store/internal.h"

#include "base/log.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define CHECKPOINT_PAGES      4096          /* 16 MiB of WAL */
#define TRANSACTION_WAL_BYTES (64ull << 20) /* estimated; more asks for a commit */
#define WAL_KEEP_BYTES        (32u << 20)   /* a WAL file larger than this is cut off after its checkpoint */
#define BUSY_TIMEOUT_MS       2000          /* someone looks at the live file, against advice */
#define WORK_BYTES_PER_US     256u          /* 4 us for a small row, which counts as 1 KiB */
#define SMALL_ROW_BYTES       1024u
#define PREPARE_BYTES_MIN     (256u << 10) /* less than this is written by the commit itself */

static const char schema_sql[] = "CREATE TABLE keys ("
                                 "slot INTEGER PRIMARY KEY, "
                                 "key BLOB NOT NULL, "
                                 "type INTEGER NOT NULL, "
                                 "version INTEGER NOT NULL, "
                                 "expires_at INTEGER NOT NULL, "
                                 "value BLOB NOT NULL) STRICT;"
                                 "CREATE INDEX keys_by_expiry ON keys (expires_at, key) WHERE expires_at > 0;"
                                 "CREATE TABLE meta ("
                                 "id INTEGER PRIMARY KEY CHECK (id = 1), "
                                 "digest_version INTEGER NOT NULL, "
                                 "applied_index INTEGER NOT NULL, "
                                 "applied_term INTEGER NOT NULL, "
                                 "log_time_ms INTEGER NOT NULL, "
                                 "configuration_index INTEGER NOT NULL, "
                                 "configuration BLOB NOT NULL, "
                                 "digest BLOB NOT NULL, "
                                 "history BLOB NOT NULL, "
                                 "key_count INTEGER NOT NULL, "
                                 "expiring_count INTEGER NOT NULL, "
                                 "key_seed INTEGER NOT NULL) STRICT;"
                                 "INSERT INTO meta VALUES (1, 1, 0, 0, 0, 0, x'', zeroblob(16), zeroblob(16), 0, 0, "
                                 "0x486f6c6466617374);"
                                 "PRAGMA application_id = 0x48467374;"
                                 "PRAGMA user_version = 1;";

static const char *const stmt_sql[STMT_N] = {
    [STMT_BEGIN] = "BEGIN IMMEDIATE",
    [STMT_COMMIT] = "COMMIT",
    [STMT_GET] = "SELECT slot, type, version, expires_at, value FROM keys WHERE slot BETWEEN ?1 AND ?2 AND key = ?3",
    [STMT_PEEK] = "SELECT slot, type, version, expires_at FROM keys WHERE slot BETWEEN ?1 AND ?2 AND key = ?3",
    [STMT_GET_SLOT] = "SELECT slot, type, version, expires_at, value, key FROM keys WHERE slot = ?1",
    [STMT_INSERT] = "INSERT OR IGNORE INTO keys VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    [STMT_UPDATE] = "UPDATE keys SET type = ?3, version = ?4, expires_at = ?5, value = ?6 WHERE slot = ?1",
    [STMT_DELETE] = "DELETE FROM keys WHERE slot = ?1",
    [STMT_LAST_SLOT] = "SELECT max(slot) FROM keys WHERE slot BETWEEN ?1 AND ?2",
    [STMT_SCAN] = "SELECT slot, type, version, expires_at, key FROM keys WHERE slot >= ?1 ORDER BY slot",
    [STMT_DUE] = "SELECT slot, expires_at, key FROM keys WHERE expires_at > 0 AND expires_at <= ?1 "
                 "ORDER BY expires_at, key LIMIT ?2",
    [STMT_NEXT_DUE] = "SELECT expires_at FROM keys WHERE expires_at > 0 AND expires_at > ?1 "
                      "ORDER BY expires_at LIMIT 1",
    [STMT_CLEAR] = "DELETE FROM keys",
    [STMT_META] = "UPDATE meta SET applied_index = ?1, applied_term = ?2, log_time_ms = ?3, configuration_index = ?4, "
                  "configuration = ?5, digest = ?6, history = ?7, key_count = ?8, expiring_count = ?9, key_seed = ?10 "
                  "WHERE id = 1",
    [STMT_PAGES] = "PRAGMA page_count",
    [STMT_ALL] = "SELECT slot, type, version, expires_at, value, key FROM keys",
};

/* For histograms only: no result depends on it. */
static uint64_t now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

/* ---- errors -------------------------------------------------------------------------------------- */

static int translate(int sqlite_rc)
{
    switch (sqlite_rc & 0xff) {
    case SQLITE_FULL:
        return HF_E_NOSPC;
    case SQLITE_NOMEM:
        return HF_E_NOMEM;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_FORMAT:
        return HF_E_CORRUPT;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return HF_E_LOCKED;
    case SQLITE_PERM:
    case SQLITE_READONLY:
    case SQLITE_AUTH:
        return HF_E_PERM;
    case SQLITE_TOOBIG:
        return HF_E_LIMIT;
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH:
        return HF_E_CORRUPT;
    default:
        return HF_E_IO;
    }
}

void hf_store_fail(struct hf_store *s, int err, const char *text)
{
    if (s->err != 0)
        return;
    s->err = err;
    s->in_entry = false;
    if (text != s->err_text)
        snprintf(s->err_text, sizeof s->err_text, "%s", text);
    HF_LOG_ERROR("store", "failed", "error=\"%s\"", s->err_text);
    for (unsigned i = 0; i < STMT_N; i++)
        sqlite3_reset(s->stmt[i]);
    if (!sqlite3_get_autocommit(s->db))
        sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    s->in_transaction = false;
}

void store_poison(struct hf_store *s, int sqlite_rc, const char *doing)
{
    if (s->err != 0)
        return;
    snprintf(s->err_text, sizeof s->err_text, "%s: %s: %s (SQLite %d)", s->path, doing, sqlite3_errmsg(s->db),
             sqlite3_extended_errcode(s->db));
    hf_store_fail(s, translate(sqlite_rc), s->err_text);
}

bool store_transaction(struct hf_store *s)
{
    if (s->err != 0)
        return false;
    if (s->in_transaction)
        return true;
    if (sqlite3_step(s->stmt[STMT_BEGIN]) != SQLITE_DONE) {
        store_poison(s, sqlite3_errcode(s->db), "cannot begin a transaction");
        return false;
    }
    sqlite3_reset(s->stmt[STMT_BEGIN]);
    s->in_transaction = true;
    return true;
}

sqlite3_stmt *store_stmt(struct hf_store *s, enum stmt which)
{
    return store_transaction(s) ? s->stmt[which] : NULL;
}

bool store_step(struct hf_store *s, enum stmt which)
{
    int rc;

    if (s->err != 0)
        return false;
    rc = sqlite3_step(s->stmt[which]);
    if (rc == SQLITE_ROW)
        return true;
    if (rc == SQLITE_DONE)
        sqlite3_reset(s->stmt[which]);
    else
        store_poison(s, rc, stmt_sql[which]);
    return false;
}

void store_done(struct hf_store *s, enum stmt which)
{
    if (s->err == 0)
        sqlite3_reset(s->stmt[which]);
}

static void bind_slice(sqlite3_stmt *st, int i, struct hf_slice v)
{
    sqlite3_bind_blob64(st, i, v.len ? (const void *)v.ptr : "", v.len, SQLITE_STATIC);
}

/* ---- loading rows -------------------------------------------------------------------------------- */

struct row *store_row_from_columns(sqlite3_stmt *st, uint64_t hash, struct hf_slice key)
{
    const void *value = sqlite3_column_blob(st, 4);
    uint32_t value_len = (uint32_t)sqlite3_column_bytes(st, 4);
    struct row *r = row_new(hash, key, value_len);

    r->slot = sqlite3_column_int64(st, 0);
    hf_store_u64(r->canon, (uint64_t)sqlite3_column_int64(st, 2));
    hf_store_u64(r->canon + 8, (uint64_t)sqlite3_column_int64(st, 3));
    r->canon[20] = (uint8_t)sqlite3_column_int(st, 1);
    r->value_len = value_len;
    if (value_len != 0)
        memcpy(r->canon + CANON_HEADER + key.len, value, value_len);
    r->present = true;
    row_compute_digest(r);
    return r;
}

struct row *store_load(struct hf_store *s, uint64_t hash, struct hf_slice key)
{
    sqlite3_stmt *st = store_stmt(s, STMT_GET);
    uint64_t group = store_group(s, hash);
    struct row *r = NULL;

    if (!st)
        return NULL;
    sqlite3_bind_int64(st, 1, store_group_first_slot(group));
    sqlite3_bind_int64(st, 2, store_group_last_slot(group));
    bind_slice(st, 3, key);
    if (store_step(s, STMT_GET)) {
        r = store_row_from_columns(st, hash, key);
        store_done(s, STMT_GET);
    }
    return r;
}

struct row *store_load_slot(struct hf_store *s, int64_t slot)
{
    sqlite3_stmt *st = store_stmt(s, STMT_GET_SLOT);
    struct row *r = NULL;

    if (!st)
        return NULL;
    sqlite3_bind_int64(st, 1, slot);
    if (store_step(s, STMT_GET_SLOT)) {
        struct hf_slice key = hf_slice(sqlite3_column_blob(st, 5), (size_t)sqlite3_column_bytes(st, 5));
        r = store_row_from_columns(st, hf_store_hash_key(s, key), key);
        store_done(s, STMT_GET_SLOT);
    }
    return r;
}

/* ---- writing rows back --------------------------------------------------------------------------- */

void store_delete_slot(struct hf_store *s, int64_t slot)
{
    sqlite3_stmt *st = store_stmt(s, STMT_DELETE);

    if (!st)
        return;
    sqlite3_bind_int64(st, 1, slot);
    store_step(s, STMT_DELETE);
    s->written_rows++;
}

/* The first free number in the group, where the plain one is taken by another key of the same position. */
static int64_t find_free_slot(struct hf_store *s, uint64_t group)
{
    int64_t first = store_group_first_slot(group), last = store_group_last_slot(group), slot = 0;
    sqlite3_stmt *st = store_stmt(s, STMT_LAST_SLOT);

    if (!st)
        return 0;
    sqlite3_bind_int64(st, 1, first);
    sqlite3_bind_int64(st, 2, last);
    if (store_step(s, STMT_LAST_SLOT)) {
        slot = sqlite3_column_int64(st, 0) + 1;
        store_done(s, STMT_LAST_SLOT);
    }
    if (slot <= last)
        return slot;
    /* The end was reached by keys that came and went: look for a gap. */
    st = store_stmt(s, STMT_SCAN);
    if (!st)
        return 0;
    sqlite3_bind_int64(st, 1, first);
    for (slot = first; slot <= last && store_step(s, STMT_SCAN); slot++)
        if (sqlite3_column_int64(st, 0) != slot)
            break;
    store_done(s, STMT_SCAN);
    if (slot > last)
        store_poison(s, SQLITE_FULL, "a million keys share one scan position");
    return slot;
}

static void insert_row(struct hf_store *s, struct row *r, int64_t slot)
{
    sqlite3_bind_int64(s->stmt[STMT_INSERT], 1, slot);
    store_step(s, STMT_INSERT);
    r->slot = slot;
}

static void write_columns(struct hf_store *s, enum stmt which, const struct row *r)
{
    sqlite3_stmt *st = s->stmt[which];

    bind_slice(st, 2, row_key(r));
    sqlite3_bind_int(st, 3, (int)row_type(r));
    sqlite3_bind_int64(st, 4, (int64_t)row_version(r));
    sqlite3_bind_int64(st, 5, row_expires(r));
    bind_slice(st, 6, row_value(r));
}

void store_write_row(struct hf_store *s, struct row *r)
{
    if (!store_transaction(s))
        return;
    if (!r->present) {
        store_delete_slot(s, r->slot);
    } else if (r->slot != 0) {
        sqlite3_bind_int64(s->stmt[STMT_UPDATE], 1, r->slot);
        write_columns(s, STMT_UPDATE, r);
        store_step(s, STMT_UPDATE);
    } else {
        uint64_t group = store_group(s, r->hash);
        write_columns(s, STMT_INSERT, r);
        insert_row(s, r, store_group_first_slot(group));
        if (s->err == 0 && sqlite3_changes(s->db) == 0) {
            int64_t slot = find_free_slot(s, group);
            if (s->err == 0)
                insert_row(s, r, slot);
        }
    }
    if (s->err != 0)
        return;
    s->written_rows++;
    s->written_bytes += r->size;
    hf_counter_add(s->stats.rows_written, 1);
    if (r->present && row_expires(r) != 0 && (s->db_due_ms == 0 || row_expires(r) < s->db_due_ms))
        s->db_due_ms = row_expires(r);
    cache_written(&s->cache, r);
    if (!r->present || r->size > STORE_CLEAN_ROW_MAX)
        cache_remove(&s->cache, cache_find(&s->cache, r->hash, row_key(r)));
}

/* Writes about `bytes` worth of the batch under way; small rows count as their fixed cost. */
static void flush_batch(struct hf_store *s, uint64_t bytes)
{
    struct row_cache *c = &s->cache;
    struct row_vec *batch = &c->list[LIST_FLUSH];
    uint64_t started = now_us(), spent = 0;

    while (c->flush_pos < batch->n && spent < bytes && s->err == 0) {
        struct row *r = batch->at[c->flush_pos++].row;
        if (r) {
            spent += r->size < SMALL_ROW_BYTES ? SMALL_ROW_BYTES : r->size;
            store_write_row(s, r);
        }
    }
    hf_histogram_record(s->stats.writeback_us, now_us() - started);
}

static bool has_batch(const struct hf_store *s)
{
    return s->cache.flush_pos < s->cache.list[LIST_FLUSH].n;
}

void store_flush_all(struct hf_store *s)
{
    while (s->err == 0 && (has_batch(s) || s->cache.dirty_bytes != 0)) {
        if (!has_batch(s))
            cache_start_batch(&s->cache);
        flush_batch(s, UINT64_MAX);
    }
}

void store_flush_shape(struct hf_store *s)
{
    struct row_vec *shape = &s->cache.list[LIST_SHAPE];

    if (has_batch(s))
        flush_batch(s, UINT64_MAX);
    while (shape->n != 0 && s->err == 0)
        store_write_row(s, shape->at[shape->n - 1].row);
}

void store_make_room(struct hf_store *s, const struct row *keep)
{
    struct row_cache *c = &s->cache;

    while (c->bytes > s->cache_bytes_max && s->err == 0) {
        uint64_t table_bytes = (c->mask + 1) * sizeof c->cells[0];
        uint64_t clean = c->bytes - c->dirty_bytes - table_bytes;

        /* With little left that is clean, the hand would walk far for each row: make more rows clean instead. */
        if (clean > s->cache_bytes_max / 8 || c->dirty_bytes == 0) {
            if (!cache_evict_one(c, keep))
                break;
        } else {
            if (!has_batch(s))
                cache_start_batch(c);
            flush_batch(s, 256u << 10);
        }
    }
}

void hf_store_work(struct hf_store *s, uint64_t budget_us)
{
    if (s->err != 0 || (!has_batch(s) && s->cache.dirty_bytes < s->dirty_bytes_max))
        return;
    if (!has_batch(s))
        cache_start_batch(&s->cache);
    flush_batch(s, budget_us * WORK_BYTES_PER_US);
    store_update_gauges(s);
}

/* Bounded whatever comes in meanwhile: what is dirty at the start is written in at most 32 calls, then the commit
 * takes the rest. */
bool hf_store_prepare_commit(struct hf_store *s, uint64_t budget_us)
{
    uint64_t bytes = budget_us * WORK_BYTES_PER_US;

    if (s->err != 0)
        return true;
    if (s->prepare_calls_left == 0) {
        if (s->cache.dirty_bytes < PREPARE_BYTES_MIN)
            return true;
        s->prepare_calls_left = 32;
        s->prepare_bytes = 0;
        for (unsigned list = LIST_NONE + 1; list < LIST_N; list++)
            s->prepare_bytes += (uint64_t)s->cache.list[list].n * SMALL_ROW_BYTES;
        s->prepare_bytes = (s->prepare_bytes + s->cache.dirty_bytes) / 32;
    }
    if (!has_batch(s))
        cache_start_batch(&s->cache);
    flush_batch(s, bytes > s->prepare_bytes ? bytes : s->prepare_bytes);
    return --s->prepare_calls_left == 0 || s->cache.dirty_bytes < PREPARE_BYTES_MIN ||
           hf_store_dirty_bytes(s) >= 2 * TRANSACTION_WAL_BYTES;
}

uint64_t hf_store_dirty_bytes(const struct hf_store *s)
{
    return s->cache.dirty_bytes + s->written_bytes;
}

bool hf_store_wants_work(const struct hf_store *s)
{
    return s->err == 0 && (has_batch(s) || s->cache.dirty_bytes >= s->dirty_bytes_max);
}

/* Rows spread over the whole table dirty a page each at first, then more and more often a page that is dirty
 * already: rows * pages / (rows + pages) is a good enough guess. */
bool hf_store_wants_commit(const struct hf_store *s)
{
    uint64_t rows = s->written_rows + cache_dirty_rows(&s->cache);
    uint64_t pages = s->database_pages;
    uint64_t touched = rows + pages ? rows * pages / (rows + pages) : 0;

    return touched * STORE_PAGE_BYTES + hf_store_dirty_bytes(s) >= TRANSACTION_WAL_BYTES;
}

/* ---- commit -------------------------------------------------------------------------------------- */

static void copy_meta(struct hf_store_meta *to, struct hf_buf *bytes, const struct hf_store_meta *from)
{
    bytes->len = 0;
    hf_buf_put(bytes, from->configuration.ptr, from->configuration.len);
    *to = *from;
    to->configuration = hf_buf_slice(bytes);
}

static void write_meta(struct hf_store *s)
{
    sqlite3_stmt *st = store_stmt(s, STMT_META);

    if (!st)
        return;
    sqlite3_bind_int64(st, 1, (int64_t)s->meta.applied_index);
    sqlite3_bind_int64(st, 2, (int64_t)s->meta.applied_term);
    sqlite3_bind_int64(st, 3, s->meta.log_time_ms);
    sqlite3_bind_int64(st, 4, (int64_t)s->meta.configuration_index);
    bind_slice(st, 5, s->meta.configuration);
    bind_slice(st, 6, hf_slice(s->meta.digest, sizeof s->meta.digest));
    bind_slice(st, 7, hf_slice(s->meta.history, sizeof s->meta.history));
    sqlite3_bind_int64(st, 8, (int64_t)s->meta.keys);
    sqlite3_bind_int64(st, 9, (int64_t)s->keys_expiring);
    sqlite3_bind_int64(st, 10, (int64_t)s->key_seed);
    store_step(s, STMT_META);
    if (store_stmt(s, STMT_PAGES) && store_step(s, STMT_PAGES)) {
        s->database_pages = (uint64_t)sqlite3_column_int64(s->stmt[STMT_PAGES], 0);
        store_done(s, STMT_PAGES);
    }
}

static void checkpoint(struct hf_store *s)
{
    uint64_t started = now_us();
    int rc, n_log = 0, n_done = 0;

    /* PASSIVE: a foreign reader of the file makes it incomplete, which costs space and nothing else. */
    rc = sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_PASSIVE, &n_log, &n_done);
    if (rc == SQLITE_OK && n_log == n_done) {
        s->wal_pages = 0;
        if ((uint64_t)n_log * STORE_PAGE_BYTES > WAL_KEEP_BYTES) {
            sqlite3_busy_timeout(s->db, 0); /* with a reader in the way it is cut by the next transaction instead */
            rc = sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
            sqlite3_busy_timeout(s->db, BUSY_TIMEOUT_MS);
        }
    }
    if (rc != SQLITE_OK && (rc & 0xff) != SQLITE_BUSY && (rc & 0xff) != SQLITE_LOCKED)
        store_poison(s, rc, "checkpoint failed");
    hf_histogram_record(s->stats.checkpoint_us, now_us() - started);
}

int hf_store_commit(struct hf_store *s)
{
    uint64_t started = now_us();
    int rc;

    HF_ASSERT(!s->in_entry);
    if (s->err != 0)
        return s->err;
    if (s->meta.applied_index == s->durable_meta.applied_index)
        return 0;
    store_flush_all(s);
    write_meta(s);
    if (s->err != 0)
        return s->err;
    rc = sqlite3_step(s->stmt[STMT_COMMIT]);
    if (rc != SQLITE_DONE) {
        store_poison(s, rc, "commit failed");
        return s->err;
    }
    sqlite3_reset(s->stmt[STMT_COMMIT]);
    s->in_transaction = false;
    s->prepare_calls_left = 0;
    s->written_rows = s->written_bytes = 0;
    copy_meta(&s->durable_meta, &s->durable_configuration, &s->meta);
    hf_histogram_record(s->stats.commit_us, now_us() - started);
    if (s->wal_pages >= CHECKPOINT_PAGES)
        checkpoint(s);
    store_update_gauges(s);
    return s->err;
}

static int remember_wal_pages(void *data, sqlite3 *db, const char *name, int n_pages)
{
    (void)db;
    (void)name;
    ((struct hf_store *)data)->wal_pages = n_pages;
    return SQLITE_OK;
}

int64_t store_query_due(struct hf_store *s, int64_t after_ms)
{
    sqlite3_stmt *st = store_stmt(s, STMT_NEXT_DUE);
    int64_t due = 0;

    if (!st)
        return 0;
    sqlite3_bind_int64(st, 1, after_ms);
    if (store_step(s, STMT_NEXT_DUE)) {
        due = sqlite3_column_int64(st, 0);
        store_done(s, STMT_NEXT_DUE);
    }
    return due;
}

/* ---- opening ------------------------------------------------------------------------------------- */

struct opening {
    struct hf_store *s;
    char *why;
    size_t why_size;
};

static int open_failed(const struct opening *o, int err, const char *what)
{
    const char *advice = "";

    if (err == HF_E_CORRUPT)
        advice = "; do not edit it: restore a backup, or remove this node's data directory and let it join again as a "
                 "new member";
    else if (err == HF_E_NOSPC)
        advice = "; free some space and start again";
    else if (err == HF_E_LOCKED)
        advice = "; another program has it open";
    snprintf(o->why, o->why_size, "%s: %s%s", o->s->path, what, advice);
    return err;
}

static int open_failed_sqlite(const struct opening *o, int rc, const char *doing)
{
    char what[400];

    snprintf(what, sizeof what, "%s: %s (SQLite %d)", doing, sqlite3_errmsg(o->s->db),
             sqlite3_extended_errcode(o->s->db));
    return open_failed(o, translate(rc), what);
}

static int query_int(struct hf_store *s, const char *sql, int64_t *out)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(s->db, sql, -1, &st, NULL);

    if (rc == SQLITE_OK) {
        rc = sqlite3_step(st);
        if (rc == SQLITE_ROW) {
            *out = sqlite3_column_int64(st, 0);
            rc = SQLITE_OK;
        }
    }
    sqlite3_finalize(st);
    return rc;
}

static int query_is_wal(struct hf_store *s, bool *is_wal)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(s->db, "PRAGMA journal_mode = WAL", -1, &st, NULL);

    *is_wal = false;
    if (rc == SQLITE_OK) {
        rc = sqlite3_step(st);
        if (rc == SQLITE_ROW) {
            const char *mode = (const char *)sqlite3_column_text(st, 0);
            *is_wal = mode && strcmp(mode, "wal") == 0;
            rc = SQLITE_OK;
        }
    }
    sqlite3_finalize(st);
    return rc;
}

/* Looks before anything is changed: a foreign database must stay as it was. */
static int identify(const struct opening *o, bool *is_new)
{
    int64_t application = 0, version = 0, tables = 0;
    int rc = query_int(o->s, "PRAGMA application_id", &application);

    if (rc == SQLITE_OK)
        rc = query_int(o->s, "PRAGMA user_version", &version);
    if (rc == SQLITE_OK)
        rc = query_int(o->s, "SELECT count(*) FROM sqlite_schema", &tables);
    if (rc != SQLITE_OK)
        return open_failed_sqlite(o, rc, "cannot read the state database");
    *is_new = application == 0 && version == 0 && tables == 0;
    if (*is_new)
        return 0;
    if (application != STORE_APPLICATION_ID)
        return open_failed(o, HF_E_CORRUPT, "this is an SQLite database, but not one of Holdfast's");
    if (version > STORE_SCHEMA_VERSION) {
        char what[160];
        snprintf(what, sizeof what,
                 "written by a newer release (schema %" PRId64 ", this one knows up to %d); start the newer release",
                 version, STORE_SCHEMA_VERSION);
        return open_failed(o, HF_E_VERSION, what);
    }
    if (version < 1)
        return open_failed(o, HF_E_CORRUPT, "its schema version is missing");
    return 0;
}

static int configure(const struct opening *o, const struct hf_store_config *config, bool is_new)
{
    struct hf_store *s = o->s;
    char sql[512];
    bool is_wal;
    int rc;

    if (is_new) {
        sqlite3_exec(s->db, "PRAGMA page_size = 4096", NULL, NULL, NULL);
        if (!config->vfs && chmod(config->path, 0640) != 0) /* before the WAL is made: it takes over the mode */
            return open_failed(o, HF_E_PERM, "cannot set the file's mode");
    }
    rc = query_is_wal(s, &is_wal);
    if (rc == SQLITE_OK && !is_wal) { /* a VFS without shared memory (tests): its index lives on the heap then */
        rc = sqlite3_exec(s->db, "PRAGMA locking_mode = EXCLUSIVE", NULL, NULL, NULL);
        if (rc == SQLITE_OK)
            rc = query_is_wal(s, &is_wal);
        if (rc == SQLITE_OK && !is_wal)
            return open_failed(o, HF_E_IO, "SQLite refuses WAL mode here");
    }
    snprintf(sql, sizeof sql,
             "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0; PRAGMA journal_size_limit = %u;"
             "PRAGMA cache_size = -%" PRIu64 "; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY;"
             "PRAGMA cell_size_check = ON; PRAGMA trusted_schema = OFF",
             WAL_KEEP_BYTES, (config->page_cache_bytes ? config->page_cache_bytes : 16u << 20) / 1024);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(s->db, sql, NULL, NULL, NULL);
    if (rc == SQLITE_OK && is_new) {
        rc = sqlite3_exec(s->db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
        if (rc == SQLITE_OK)
            rc = sqlite3_exec(s->db, schema_sql, NULL, NULL, NULL);
        if (rc == SQLITE_OK)
            rc = sqlite3_exec(s->db, "COMMIT", NULL, NULL, NULL);
    }
    if (rc != SQLITE_OK)
        return open_failed_sqlite(o, rc,
                                  is_new ? "cannot create the state database" : "cannot open the state database");
    sqlite3_wal_hook(s->db, remember_wal_pages, s);
    return 0;
}

static bool read_fixed(sqlite3_stmt *st, int column, uint8_t out[16])
{
    const void *p = sqlite3_column_blob(st, column);

    if (sqlite3_column_bytes(st, column) != 16)
        return false;
    memcpy(out, p, 16);
    return true;
}

static int read_meta(const struct opening *o)
{
    struct hf_store *s = o->s;
    sqlite3_stmt *st = NULL;
    int rc =
        sqlite3_prepare_v2(s->db,
                           "SELECT digest_version, applied_index, applied_term, log_time_ms, configuration_index, "
                           "configuration, digest, history, key_count, expiring_count, key_seed FROM meta WHERE id = 1",
                           -1, &st, NULL);
    int err = 0;

    if (rc != SQLITE_OK)
        return open_failed_sqlite(o, (rc & 0xff) == SQLITE_ERROR ? SQLITE_CORRUPT : rc, "cannot read table meta");
    rc = sqlite3_step(st);
    if (rc == SQLITE_DONE) {
        err = open_failed(o, HF_E_CORRUPT, "the row of table meta is missing");
    } else if (rc != SQLITE_ROW) {
        err = open_failed_sqlite(o, rc, "cannot read table meta");
    } else if (sqlite3_column_int(st, 0) > STORE_DIGEST_VERSION) {
        err = open_failed(o, HF_E_VERSION, "its digest is of a newer release's kind; start the newer release");
    } else if (!read_fixed(st, 6, s->meta.digest) || !read_fixed(st, 7, s->meta.history)) {
        err = open_failed(o, HF_E_CORRUPT, "the row of table meta is damaged");
    } else {
        s->meta.applied_index = (uint64_t)sqlite3_column_int64(st, 1);
        s->meta.applied_term = (uint64_t)sqlite3_column_int64(st, 2);
        s->meta.log_time_ms = sqlite3_column_int64(st, 3);
        s->meta.configuration_index = (uint64_t)sqlite3_column_int64(st, 4);
        hf_buf_put(&s->configuration, sqlite3_column_blob(st, 5), (size_t)sqlite3_column_bytes(st, 5));
        s->meta.configuration = hf_buf_slice(&s->configuration);
        s->meta.keys = (uint64_t)sqlite3_column_int64(st, 8);
        s->keys_expiring = (uint64_t)sqlite3_column_int64(st, 9);
        s->key_seed = (uint64_t)sqlite3_column_int64(st, 10);
        s->digest[0] = hf_load_u64(s->meta.digest);
        s->digest[1] = hf_load_u64(s->meta.digest + 8);
    }
    sqlite3_finalize(st);
    return err;
}

static void register_stats(struct hf_store *s, struct hf_stats *st)
{
    s->stats.commit_us = hf_stats_histogram(st, "store_commit_us", NULL, "Write-back and commit of the state database");
    s->stats.writeback_us = hf_stats_histogram(st, "store_writeback_us", NULL, "One run of writing dirty rows back");
    s->stats.checkpoint_us = hf_stats_histogram(st, "store_checkpoint_us", NULL, "Checkpoint of the WAL");
    s->stats.dirty_bytes = hf_stats_gauge(st, "store_dirty_bytes", NULL, "Changes not yet committed, in bytes");
    s->stats.cache_bytes = hf_stats_gauge(st, "store_cache_bytes", NULL, "Memory of the row cache");
    s->stats.cache_rows = hf_stats_gauge(st, "store_cache_rows", NULL, "Rows in the row cache");
    s->stats.wal_bytes = hf_stats_gauge(st, "store_wal_bytes", NULL, "Bytes in the WAL not yet checkpointed");
    s->stats.database_bytes = hf_stats_gauge(st, "store_database_bytes", NULL, "Size of the state database");
    s->stats.keys = hf_stats_gauge(st, "keyspace_keys", NULL, "Keys present");
    s->stats.hits = hf_stats_counter(st, "store_cache_hits_total", NULL, "Row lookups answered by the row cache");
    s->stats.misses = hf_stats_counter(st, "store_cache_misses_total", NULL, "Row lookups that asked the database");
    s->stats.expired = hf_stats_counter(st, "keyspace_expired_total", NULL, "Keys deleted because they expired");
    s->stats.rows_written = hf_stats_counter(st, "store_rows_written_total", NULL, "Rows written to the database");
}

void store_update_gauges(struct hf_store *s)
{
    hf_gauge_set(s->stats.dirty_bytes, (int64_t)hf_store_dirty_bytes(s));
    hf_gauge_set(s->stats.cache_bytes, (int64_t)s->cache.bytes);
    hf_gauge_set(s->stats.cache_rows, (int64_t)s->cache.n);
    hf_gauge_set(s->stats.wal_bytes, (int64_t)s->wal_pages * (STORE_PAGE_BYTES + 24));
    hf_gauge_set(s->stats.database_bytes, (int64_t)(s->database_pages * STORE_PAGE_BYTES));
    hf_gauge_set(s->stats.keys, (int64_t)s->meta.keys);
}

static void release(struct hf_store *s)
{
    for (unsigned i = 0; i < STMT_N; i++)
        sqlite3_finalize(s->stmt[i]);
    sqlite3_close(s->db);
    cache_free(&s->cache);
    row_free(s->loaded);
    hf_buf_free(&s->scratch);
    hf_buf_free(&s->configuration);
    hf_buf_free(&s->durable_configuration);
    if (s->own_stats)
        hf_stats_free(s->own_stats);
    hf_free(s->path);
    hf_free(s);
}

static int open_database(const struct opening *o, const struct hf_store_config *config)
{
    struct hf_store *s = o->s;
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    int rc = sqlite3_open_v2(config->path, &s->db, flags, config->vfs);
    bool is_new = false;
    int64_t pages = 0;
    int err;

    if (rc != SQLITE_OK)
        return open_failed_sqlite(o, rc, "cannot open the state database");
    sqlite3_busy_timeout(s->db, BUSY_TIMEOUT_MS);
    err = identify(o, &is_new);
    if (err == 0)
        err = configure(o, config, is_new);
    if (err == 0)
        err = read_meta(o);
    if (err != 0)
        return err;
    for (unsigned i = 0; i < STMT_N; i++) {
        rc = sqlite3_prepare_v3(s->db, stmt_sql[i], -1, SQLITE_PREPARE_PERSISTENT, &s->stmt[i], NULL);
        if (rc != SQLITE_OK) /* a table or column that must be there is not */
            return open_failed_sqlite(o, (rc & 0xff) == SQLITE_ERROR ? SQLITE_CORRUPT : rc, "unexpected schema");
    }
    rc = query_int(s, stmt_sql[STMT_PAGES], &pages);
    s->database_pages = (uint64_t)pages;
    if (rc == SQLITE_OK)
        rc = query_int(
            s, "SELECT ifnull((SELECT expires_at FROM keys WHERE expires_at > 0 ORDER BY expires_at LIMIT 1), 0)",
            &s->db_due_ms);
    if (rc != SQLITE_OK)
        return open_failed_sqlite(o, rc, "cannot read the state database");
    return 0;
}

int hf_store_open(const struct hf_store_config *config, struct hf_stats *stats, struct hf_store **out, char *why,
                  size_t why_size)
{
    struct hf_store *s = hf_calloc(1, sizeof *s);
    struct opening o = {s, why, why_size};
    int err;

    *out = NULL;
    s->path = hf_strdup(config->path);
    s->cache_bytes_max = config->cache_bytes_max ? config->cache_bytes_max : 48u << 20;
    s->dirty_bytes_max = config->dirty_bytes_max ? config->dirty_bytes_max : 16u << 20;
    s->group_mask = (1ull << STORE_GROUP_BITS) - 1;
    if (!stats)
        stats = s->own_stats = hf_stats_new();
    register_stats(s, stats);
    cache_init(&s->cache);
    err = open_database(&o, config);
    if (err != 0) {
        release(s);
        return err;
    }
    copy_meta(&s->durable_meta, &s->durable_configuration, &s->meta);
    store_update_gauges(s);
    *out = s;
    return 0;
}

void hf_store_close(struct hf_store *s)
{
    if (!s)
        return;
    if (s->err == 0 && hf_store_commit(s) != 0)
        HF_LOG_ERROR("store", "last commit failed", "error=\"%s\"", s->err_text);
    hf_store_abandon(s);
}

void hf_store_abandon(struct hf_store *s)
{
    if (!s)
        return;
    for (unsigned i = 0; i < STMT_N; i++)
        sqlite3_reset(s->stmt[i]);
    if (!sqlite3_get_autocommit(s->db))
        sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    release(s);
}

int hf_store_check(struct hf_store *s, char *why, size_t why_size)
{
    sqlite3_stmt *st = NULL;
    int err = s->err;

    if (err == 0 && sqlite3_prepare_v2(s->db, "PRAGMA quick_check(1)", -1, &st, NULL) == SQLITE_OK) {
        int rc = sqlite3_step(st);
        const char *text = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(st, 0) : sqlite3_errmsg(s->db);
        if (rc != SQLITE_ROW || !text || strcmp(text, "ok") != 0) {
            err = HF_E_CORRUPT;
            snprintf(why, why_size, "%s: %s", s->path, text ? text : "quick_check gave nothing");
        }
    } else {
        snprintf(why, why_size, "%s: %s", s->path, s->err ? s->err_text : sqlite3_errmsg(s->db));
        err = err ? err : HF_E_CORRUPT;
    }
    sqlite3_finalize(st);
    return err;
}
