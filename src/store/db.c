/* db.c: what the running store asks of SQLite: statements, errors, the transaction that stays open across entries,
 * write-back of dirty rows, commits and checkpoints. The schema is in open.c.
 *
 * Durability: WAL with synchronous=FULL, so that a commit is one sync of the WAL (R14 a). Checkpoints run right
 * after a commit, before the next transaction begins: then nothing of ours pins the WAL and it restarts from its
 * beginning. The WAL is bounded by the largest transaction, which hf_store_wants_commit bounds; while a copy is open
 * (copy.c) it holds all that is committed meanwhile. */
#include "store/internal.h"

#include "base/log.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define CHECKPOINT_PAGES      4096          /* 16 MiB of WAL */
#define TRANSACTION_WAL_BYTES (64ull << 20) /* estimated; more asks for a commit */
#define WORK_BYTES_PER_US     256u          /* 4 us for a small row, which counts as 1 KiB */
#define SMALL_ROW_BYTES       1024u
#define PREPARE_BYTES_MIN     (256u << 10) /* less than this is written by the commit itself */

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
    [STMT_SETTING_PUT] = "INSERT OR REPLACE INTO settings VALUES (?1, ?2)",
    [STMT_SETTING_DELETE] = "DELETE FROM settings WHERE name = ?1",
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

int store_translate(int sqlite_rc)
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
    struct refusal r = {s->path, s->db, true, s->err_text, sizeof s->err_text};

    if (s->err != 0)
        return;
    store_refuse_sqlite(&r, sqlite_rc, doing);
    hf_store_fail(s, store_translate(sqlite_rc), s->err_text);
}

int store_prepare(struct hf_store *s)
{
    int rc = SQLITE_OK;

    for (unsigned i = 0; i < STMT_N && rc == SQLITE_OK; i++)
        rc = sqlite3_prepare_v3(s->db, stmt_sql[i], -1, SQLITE_PREPARE_PERSISTENT, &s->stmt[i], NULL);
    return rc;
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

void store_copy_meta(struct hf_store_meta *to, struct hf_buf *bytes, const struct hf_store_meta *from)
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
        if ((uint64_t)n_log * STORE_PAGE_BYTES > STORE_WAL_KEEP_BYTES) {
            sqlite3_busy_timeout(s->db, 0); /* with a reader in the way it is cut by the next transaction instead */
            rc = sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
            sqlite3_busy_timeout(s->db, STORE_BUSY_TIMEOUT_MS);
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
    store_copy_meta(&s->durable_meta, &s->durable_configuration, &s->meta);
    hf_histogram_record(s->stats.commit_us, now_us() - started);
    if (s->wal_pages >= CHECKPOINT_PAGES)
        checkpoint(s);
    store_update_gauges(s);
    return s->err;
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

void store_update_gauges(struct hf_store *s)
{
    hf_gauge_set(s->stats.dirty_bytes, (int64_t)hf_store_dirty_bytes(s));
    hf_gauge_set(s->stats.cache_bytes, (int64_t)s->cache.bytes);
    hf_gauge_set(s->stats.cache_rows, (int64_t)s->cache.n);
    hf_gauge_set(s->stats.wal_bytes, (int64_t)s->wal_pages * (STORE_PAGE_BYTES + 24));
    hf_gauge_set(s->stats.database_bytes, (int64_t)(s->database_pages * STORE_PAGE_BYTES));
    hf_gauge_set(s->stats.keys, (int64_t)s->meta.keys);
}

int store_quick_check(const struct refusal *r)
{
    static const char heading[] = "*** in database main ***\n";
    sqlite3_stmt *st = NULL;
    int err = 0, rc = sqlite3_prepare_v2(r->db, "PRAGMA quick_check(1)", -1, &st, NULL);
    const char *text = NULL;

    if (rc == SQLITE_OK)
        rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        text = (const char *)sqlite3_column_text(st, 0);
    if (!text) {
        err = store_refuse_sqlite(r, rc, "cannot check the file");
    } else if (strcmp(text, "ok") != 0) {
        char what[400];

        if (strncmp(text, heading, sizeof heading - 1) == 0)
            text += sizeof heading - 1;
        snprintf(what, sizeof what, "damaged: %.*s", (int)strcspn(text, "\n"), text);
        err = store_refuse(r, HF_E_CORRUPT, what);
    }
    sqlite3_finalize(st);
    return err;
}

int hf_store_check(struct hf_store *s, char *why, size_t why_size)
{
    struct refusal r = {s->path, s->db, true, why, why_size};

    if (s->err != 0) {
        snprintf(why, why_size, "%s", s->err_text);
        return s->err;
    }
    return store_quick_check(&r);
}
