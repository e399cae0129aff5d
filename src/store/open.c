/* open.c: opening and closing the state database: the schema, what is checked, and the texts of the refusals.
 *
 * The schema is a public interface (docs/store.md). `slot` orders the rows by the scan position of their key: the
 * upper 43 bits of its hash, then 20 bits that tell the keys of one position apart (0 for the first one, nearly
 * always the only one). It is the rowid, so rows sit in a B+tree by an integer: measured against a WITHOUT ROWID
 * table by (slot, key), large values are read and replaced three to five times faster (docs/decisions/0002).
 *
 * Nothing here reads a table from end to end: a start takes as long for 4 GiB as for none. */
#include "store/internal.h"

#include "base/log.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

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

/* Came after the first release, which ignores it: the schema's number stays. */
static const char settings_sql[] = "CREATE TABLE IF NOT EXISTS settings ("
                                   "name TEXT PRIMARY KEY, "
                                   "value BLOB NOT NULL) STRICT, WITHOUT ROWID";

/* ---- refusals ------------------------------------------------------------------------------------ */

void store_repair_advice(const char *path, char *out, size_t size)
{
    const char *slash = strrchr(path, '/');
    int dir_len = slash == path ? 1 : slash ? (int)(slash - path) : 1;

    snprintf(out, size,
             "; do not edit the file; wipe this node and fetch the state from the others: "
             "holdfast repair --dir %.*s --from-peers",
             dir_len, slash ? path : ".");
}

int store_refuse(const struct refusal *r, int err, const char *what)
{
    char advice[400] = "";

    if (err == HF_E_CORRUPT && r->is_node)
        store_repair_advice(r->path, advice, sizeof advice);
    else if (err == HF_E_NOSPC)
        snprintf(advice, sizeof advice, "; free some space and start again");
    else if (err == HF_E_LOCKED)
        snprintf(advice, sizeof advice, "; another program has it open");
    snprintf(r->why, r->why_size, "%s: %s%s", r->path, what, advice);
    return err;
}

int store_refuse_sqlite(const struct refusal *r, int sqlite_rc, const char *doing)
{
    int extended = sqlite3_extended_errcode(r->db);
    char what[400];

    if ((extended & 0xff) == (sqlite_rc & 0xff))
        snprintf(what, sizeof what, "%s: %s (SQLite %d)", doing, sqlite3_errmsg(r->db), extended);
    else
        snprintf(what, sizeof what, "%s: %s (SQLite %d: %s)", doing, sqlite3_errstr(sqlite_rc), sqlite_rc,
                 sqlite3_errmsg(r->db));
    return store_refuse(r, store_translate(sqlite_rc), what);
}

/* ---- looking ------------------------------------------------------------------------------------- */

int store_query_int(sqlite3 *db, const char *sql, int64_t *out)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);

    if (rc == SQLITE_OK) {
        rc = sqlite3_step(st);
        if (rc == SQLITE_ROW)
            *out = sqlite3_column_int64(st, 0);
        if (rc == SQLITE_ROW || rc == SQLITE_DONE)
            rc = SQLITE_OK;
    }
    sqlite3_finalize(st);
    return rc;
}

int store_identify(const struct refusal *r, bool *is_new)
{
    int64_t application = 0, version = 0, tables = 0;
    int rc = store_query_int(r->db, "PRAGMA application_id", &application);

    if (rc == SQLITE_OK)
        rc = store_query_int(r->db, "PRAGMA user_version", &version);
    if (rc == SQLITE_OK)
        rc = store_query_int(r->db, "SELECT count(*) FROM sqlite_schema", &tables);
    if (rc != SQLITE_OK)
        return store_refuse_sqlite(r, rc, "cannot read the state database");
    if (is_new) {
        *is_new = application == 0 && version == 0 && tables == 0;
        if (*is_new)
            return 0;
    }
    if (application != STORE_APPLICATION_ID)
        return store_refuse(r, HF_E_CORRUPT, "this is an SQLite database, but not one of Holdfast's");
    if (version > STORE_SCHEMA_VERSION) {
        char what[160];
        snprintf(what, sizeof what,
                 "written by a newer release (schema %" PRId64 ", this one knows up to %d); start the newer release",
                 version, STORE_SCHEMA_VERSION);
        return store_refuse(r, HF_E_VERSION, what);
    }
    if (version < 1)
        return store_refuse(r, HF_E_CORRUPT, "its schema version is missing");
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

void store_free_facts(struct facts *f)
{
    hf_buf_free(&f->configuration);
}

int store_read_facts(const struct refusal *r, struct facts *out)
{
    sqlite3_stmt *st = NULL;
    int rc =
        sqlite3_prepare_v2(r->db,
                           "SELECT digest_version, applied_index, applied_term, log_time_ms, configuration_index, "
                           "configuration, digest, history, key_count, expiring_count, key_seed FROM meta WHERE id = 1",
                           -1, &st, NULL);
    int err = 0;

    memset(out, 0, sizeof *out);
    if (rc != SQLITE_OK)
        return store_refuse_sqlite(r, (rc & 0xff) == SQLITE_ERROR ? SQLITE_CORRUPT : rc, "cannot read table meta");
    rc = sqlite3_step(st);
    if (rc == SQLITE_DONE) {
        err = store_refuse(r, HF_E_CORRUPT, "the row of table meta is missing");
    } else if (rc != SQLITE_ROW) {
        err = store_refuse_sqlite(r, rc, "cannot read table meta");
    } else if (sqlite3_column_int(st, 0) > STORE_DIGEST_VERSION) {
        err = store_refuse(r, HF_E_VERSION, "its digest is of a newer release's kind; start the newer release");
    } else if (!read_fixed(st, 6, out->meta.digest) || !read_fixed(st, 7, out->meta.history)) {
        err = store_refuse(r, HF_E_CORRUPT, "the row of table meta is damaged");
    } else {
        out->meta.applied_index = (uint64_t)sqlite3_column_int64(st, 1);
        out->meta.applied_term = (uint64_t)sqlite3_column_int64(st, 2);
        out->meta.log_time_ms = sqlite3_column_int64(st, 3);
        out->meta.configuration_index = (uint64_t)sqlite3_column_int64(st, 4);
        hf_buf_put(&out->configuration, sqlite3_column_blob(st, 5), (size_t)sqlite3_column_bytes(st, 5));
        out->meta.configuration = hf_buf_slice(&out->configuration);
        out->meta.keys = (uint64_t)sqlite3_column_int64(st, 8);
        out->keys_expiring = (uint64_t)sqlite3_column_int64(st, 9);
        out->key_seed = (uint64_t)sqlite3_column_int64(st, 10);
    }
    sqlite3_finalize(st);
    return err;
}

/* ---- opening ------------------------------------------------------------------------------------- */

static int set_wal(sqlite3 *db, bool *is_wal)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(db, "PRAGMA journal_mode = WAL", -1, &st, NULL);

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

static int remember_wal_pages(void *data, sqlite3 *db, const char *name, int n_pages)
{
    (void)db;
    (void)name;
    ((struct hf_store *)data)->wal_pages = n_pages;
    return SQLITE_OK;
}

static int run_in_transaction(sqlite3 *db, const char *sql)
{
    int rc = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);

    if (rc == SQLITE_OK)
        rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
    return rc;
}

static int configure(const struct refusal *r, struct hf_store *s, const struct hf_store_config *config, bool is_new)
{
    int64_t has_settings = 0;
    char sql[512];
    bool is_wal;
    int rc;

    if (is_new) {
        sqlite3_exec(s->db, "PRAGMA page_size = 4096", NULL, NULL, NULL);
        if (!config->vfs && chmod(config->path, 0640) != 0) /* before the WAL is made: it takes over the mode */
            return store_refuse(r, HF_E_PERM, "cannot set the file's mode");
    }
    rc = set_wal(s->db, &is_wal);
    if (rc == SQLITE_OK && !is_wal) { /* a VFS without shared memory (tests): its index lives on the heap then */
        rc = sqlite3_exec(s->db, "PRAGMA locking_mode = EXCLUSIVE", NULL, NULL, NULL);
        if (rc == SQLITE_OK)
            rc = set_wal(s->db, &is_wal);
        if (rc == SQLITE_OK && !is_wal)
            return store_refuse(r, HF_E_IO, "SQLite refuses WAL mode here");
    }
    snprintf(sql, sizeof sql,
             "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0; PRAGMA journal_size_limit = %u;"
             "PRAGMA cache_size = -%" PRIu64 "; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY;"
             "PRAGMA cell_size_check = ON; PRAGMA trusted_schema = OFF",
             STORE_WAL_KEEP_BYTES, (config->page_cache_bytes ? config->page_cache_bytes : 16u << 20) / 1024);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(s->db, sql, NULL, NULL, NULL);
    if (rc == SQLITE_OK && is_new)
        rc = run_in_transaction(s->db, schema_sql);
    if (rc == SQLITE_OK)
        rc = store_query_int(s->db, "SELECT count(*) FROM sqlite_schema WHERE name = 'settings'", &has_settings);
    if (rc == SQLITE_OK && !has_settings)
        rc = run_in_transaction(s->db, settings_sql);
    if (rc != SQLITE_OK)
        return store_refuse_sqlite(r, rc,
                                   is_new ? "cannot create the state database" : "cannot open the state database");
    sqlite3_wal_hook(s->db, remember_wal_pages, s);
    return 0;
}

/* Meta row and settings, and whether this release may go on with them (R26). */
static int read_state(const struct refusal *r, struct hf_store *s, uint32_t level_max)
{
    struct facts facts = {0};
    uint32_t level = 0;
    int err = store_read_facts(r, &facts);

    if (err == 0)
        err = settings_load(r, &s->settings);
    if (err == 0)
        err = settings_level(r, &s->settings, &level);
    if (err == 0 && level_max != 0 && level > level_max) {
        char what[200];
        snprintf(what, sizeof what,
                 "its state is of feature level %" PRIu32 ", this release knows up to %" PRIu32
                 "; start the newer release",
                 level, level_max);
        err = store_refuse(r, HF_E_VERSION, what);
    }
    if (err == 0) {
        s->meta = facts.meta;
        hf_buf_put(&s->configuration, facts.configuration.data, facts.configuration.len);
        s->meta.configuration = hf_buf_slice(&s->configuration);
        s->keys_expiring = facts.keys_expiring;
        s->key_seed = facts.key_seed;
        s->digest[0] = hf_load_u64(s->meta.digest);
        s->digest[1] = hf_load_u64(s->meta.digest + 8);
    }
    store_free_facts(&facts);
    return err;
}

static int open_database(struct refusal *r, struct hf_store *s, const struct hf_store_config *config)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    int rc = sqlite3_open_v2(config->path, &s->db, flags, config->vfs);
    bool is_new = false;
    int64_t pages = 0;
    int err;

    r->db = s->db;
    if (rc != SQLITE_OK)
        return store_refuse_sqlite(r, rc, "cannot open the state database");
    sqlite3_busy_timeout(s->db, STORE_BUSY_TIMEOUT_MS);
    err = store_identify(r, &is_new); /* before anything is changed: a foreign database must stay as it was */
    if (err == 0)
        err = configure(r, s, config, is_new);
    if (err == 0)
        err = read_state(r, s, config->level_max);
    if (err != 0)
        return err;
    rc = store_prepare(s);
    if (rc != SQLITE_OK) /* a table or column that must be there is not */
        return store_refuse_sqlite(r, (rc & 0xff) == SQLITE_ERROR ? SQLITE_CORRUPT : rc, "unexpected schema");
    rc = store_query_int(s->db, "PRAGMA page_count", &pages);
    s->database_pages = (uint64_t)pages;
    if (rc == SQLITE_OK)
        rc = store_query_int(s->db, "SELECT expires_at FROM keys WHERE expires_at > 0 ORDER BY expires_at LIMIT 1",
                             &s->db_due_ms);
    if (rc != SQLITE_OK)
        return store_refuse_sqlite(r, rc, "cannot read the state database");
    return 0;
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

static void release(struct hf_store *s)
{
    for (unsigned i = 0; i < STMT_N; i++)
        sqlite3_finalize(s->stmt[i]);
    sqlite3_close(s->db);
    cache_free(&s->cache);
    settings_free(&s->settings);
    row_free(s->loaded);
    hf_buf_free(&s->scratch);
    hf_buf_free(&s->configuration);
    hf_buf_free(&s->durable_configuration);
    if (s->own_stats)
        hf_stats_free(s->own_stats);
    hf_free(s->path);
    hf_free(s);
}

int hf_store_open(const struct hf_store_config *config, struct hf_stats *stats, struct hf_store **out, char *why,
                  size_t why_size)
{
    struct hf_store *s = hf_calloc(1, sizeof *s);
    struct refusal r = {config->path, NULL, true, why, why_size};
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
    err = open_database(&r, s, config);
    if (err != 0) {
        release(s);
        return err;
    }
    store_copy_meta(&s->durable_meta, &s->durable_configuration, &s->meta);
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
