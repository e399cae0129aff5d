/* copy.c: online copies of the live database with SQLite's backup interface, on two connections of their own.
 *
 * The source connection is read-only and holds one read transaction from open to the last page (R28): without it the
 * backup would start again with every commit of the store. It never checkpoints, also not when it is closed. While it
 * is open the store goes on committing, and its checkpoints do what they can: the WAL keeps what this transaction
 * may still read and grows by all that is committed meanwhile (R14). Once it is over, a third connection checkpoints
 * on this thread: hundreds of MiB at once would hold up the store for a second and more.
 *
 * The target is written without a journal and synced every SYNC_BYTES: otherwise gigabytes of dirty pages pile up in
 * the kernel, and a sync of the node's journal waits for all of them. At the end one ordinary transaction takes it out
 * of WAL mode (the mode is part of the first page); with synchronous=EXTRA that syncs file and folder, through
 * whatever VFS. */
#include "store/internal.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define SYNC_BYTES       (32u << 20)
#define SOURCE_CACHE_KIB 1024
#define TARGET_CACHE_KIB 1024

struct hf_store_copy {
    char *from, *to, *vfs;
    sqlite3 *source, *target;
    sqlite3_backup *backup;
    struct hf_store_info info;
    uint64_t pages_done, pages_total, page_bytes;
    uint64_t unsynced_bytes;
    bool is_made; /* the target file is ours to remove */
    bool is_done;
    char why[600];
};

static int fail(struct hf_store_copy *c, sqlite3 *db, const char *path, int sqlite_rc, const char *doing)
{
    struct refusal r = {path, db, path == c->from, c->why, sizeof c->why};

    return store_refuse_sqlite(&r, sqlite_rc, doing);
}

static int fail_target(struct hf_store_copy *c, int sqlite_rc, const char *doing)
{
    return fail(c, c->target, c->to, sqlite_rc, doing);
}

static int execute(sqlite3 *db, const char *sql)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL);
}

/* An empty file that was not there before: what we remove later is surely ours. */
static int make_target(struct hf_store_copy *c)
{
    sqlite3_vfs *vfs = sqlite3_vfs_find(c->vfs);
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_EXCLUSIVE | SQLITE_OPEN_MAIN_DB;
    int is_there = 0, opened = 0, rc;
    sqlite3_file *file;

    if (!vfs) {
        snprintf(c->why, sizeof c->why, "no SQLite VFS \"%s\"", c->vfs ? c->vfs : "");
        return HF_E_INVALID;
    }
    file = hf_calloc(1, (size_t)vfs->szOsFile);
    rc = vfs->xOpen(vfs, c->to, file, flags, &opened);
    if (file->pMethods)
        file->pMethods->xClose(file);
    hf_free(file);
    if (rc == SQLITE_OK && !(opened & SQLITE_OPEN_READONLY)) {
        c->is_made = true;
        if (!c->vfs && chmod(c->to, 0640) != 0) {
            snprintf(c->why, sizeof c->why, "%s: cannot set the file's mode", c->to);
            return HF_E_PERM;
        }
        return 0;
    }
    /* SQLite's own VFS tries again to read what it may not create: so it was there. */
    if (rc == SQLITE_OK || (vfs->xAccess(vfs, c->to, SQLITE_ACCESS_EXISTS, &is_there) == SQLITE_OK && is_there)) {
        snprintf(c->why, sizeof c->why, "%s: is there already", c->to);
        return HF_E_EXISTS;
    }
    snprintf(c->why, sizeof c->why, "%s: cannot create the copy: %s (SQLite %d)", c->to, sqlite3_errstr(rc), rc);
    return rc == SQLITE_FULL ? HF_E_NOSPC : HF_E_IO;
}

static int open_source(struct hf_store_copy *c)
{
    int flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    int rc = sqlite3_open_v2(c->from, &c->source, flags, c->vfs);
    struct refusal r = {c->from, c->source, true, c->why, sizeof c->why};
    struct facts facts = {0};
    struct settings settings = {0};
    int64_t pages = 0, page_bytes = 0;
    char sql[200];
    int err;

    if (rc != SQLITE_OK) {
        sqlite3_vfs *vfs = sqlite3_vfs_find(c->vfs);
        int is_there = 1;

        err = fail(c, c->source, c->from, rc, "cannot open the state database");
        if (vfs->xAccess(vfs, c->from, SQLITE_ACCESS_EXISTS, &is_there) == SQLITE_OK && !is_there)
            err = HF_E_NOENT;
        return err;
    }
    sqlite3_busy_timeout(c->source, STORE_BUSY_TIMEOUT_MS);
    sqlite3_db_config(c->source, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    snprintf(sql, sizeof sql,
             "PRAGMA wal_autocheckpoint = 0; PRAGMA mmap_size = 0; PRAGMA cache_size = -%d; PRAGMA query_only = ON;"
             "BEGIN",
             SOURCE_CACHE_KIB);
    rc = execute(c->source, sql);
    if (rc == SQLITE_OK) /* the first read takes the snapshot */
        rc = store_query_int(c->source, "PRAGMA page_count", &pages);
    if (rc == SQLITE_OK)
        rc = store_query_int(c->source, "PRAGMA page_size", &page_bytes);
    if (rc != SQLITE_OK)
        return fail(c, c->source, c->from, rc, "cannot read the state database");
    err = store_identify(&r, NULL);
    if (err == 0)
        err = store_read_facts(&r, &facts);
    if (err == 0)
        err = settings_load(&r, &settings);
    if (err == 0)
        err = settings_level(&r, &settings, &c->info.level);
    if (err == 0) {
        HF_ASSERT(sqlite3_txn_state(c->source, "main") == SQLITE_TXN_READ);
        store_copy_meta(&c->info.meta, &c->info.configuration, &facts.meta);
        c->pages_total = (uint64_t)pages;
        c->page_bytes = (uint64_t)page_bytes;
        c->info.file_bytes = c->pages_total * c->page_bytes;
    }
    settings_free(&settings);
    store_free_facts(&facts);
    return err;
}

static int open_target(struct hf_store_copy *c)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    int rc = sqlite3_open_v2(c->to, &c->target, flags, c->vfs);
    char sql[200];

    snprintf(sql, sizeof sql,
             "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
             "PRAGMA mmap_size = 0; PRAGMA cache_size = -%d",
             TARGET_CACHE_KIB);
    if (rc == SQLITE_OK)
        rc = execute(c->target, sql);
    if (rc != SQLITE_OK)
        return fail_target(c, rc, "cannot open the copy");
    c->backup = sqlite3_backup_init(c->target, "main", c->source, "main");
    if (!c->backup)
        return fail_target(c, sqlite3_errcode(c->target), "cannot start the copy");
    return 0;
}

int hf_store_copy_open(const char *path, const char *vfs, const char *to, struct hf_store_copy **out, char *why,
                       size_t why_size)
{
    struct hf_store_copy *c = hf_calloc(1, sizeof *c);
    int err;

    *out = NULL;
    c->from = hf_strdup(path);
    c->to = hf_strdup(to);
    c->vfs = vfs ? hf_strdup(vfs) : NULL;
    err = make_target(c);
    if (err == 0)
        err = open_source(c);
    if (err == 0)
        err = open_target(c);
    if (err != 0) {
        snprintf(why, why_size, "%s", c->why);
        hf_store_copy_close(c);
        return err;
    }
    *out = c;
    return 0;
}

/* What came so far is on the disk. A sync that failed is not tried again (the caller closes the copy). */
static int sync_target(struct hf_store_copy *c)
{
    sqlite3_file *file = NULL;
    int rc = sqlite3_file_control(c->target, "main", SQLITE_FCNTL_FILE_POINTER, &file);

    if (rc == SQLITE_OK)
        rc = file->pMethods->xSync(file, SQLITE_SYNC_NORMAL | SQLITE_SYNC_DATAONLY);
    c->unsynced_bytes = 0;
    if (rc != SQLITE_OK)
        return fail_target(c, rc, "cannot sync the copy");
    return 0;
}

/* Brings the WAL's content into the database, as far as no reader is in the way, while the store goes on; the store's
 * own next checkpoint finds little left and starts the WAL again. A failure changes nothing: SQLite counts nothing as
 * done, so the store writes all of it again, and meets the trouble itself if it lasts. */
static void relieve_wal(struct hf_store_copy *c)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    int64_t pages = 0;
    sqlite3 *db;

    if (sqlite3_open_v2(c->from, &db, flags, c->vfs) == SQLITE_OK) {
        sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
        if (execute(db, "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = -64") ==
                SQLITE_OK &&
            store_query_int(db, "PRAGMA page_count", &pages) == SQLITE_OK)
            sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    }
    sqlite3_close(db);
}

static void close_source(struct hf_store_copy *c)
{
    bool was_reading = c->backup != NULL;

    if (c->backup)
        sqlite3_backup_finish(c->backup);
    c->backup = NULL;
    if (c->source && !sqlite3_get_autocommit(c->source))
        execute(c->source, "ROLLBACK");
    sqlite3_close(c->source);
    c->source = NULL;
    if (was_reading)
        relieve_wal(c);
}

/* All pages are written. Lets go of the source first: its WAL has waited long enough. */
static int finish(struct hf_store_copy *c)
{
    struct refusal r = {c->to, c->target, false, c->why, sizeof c->why};
    struct facts facts = {0};
    int64_t pages = 0;
    sqlite3_stmt *st = NULL;
    bool is_plain = false;
    int err, rc;

    close_source(c);
    err = sync_target(c);
    if (err != 0)
        return err;
    rc = store_query_int(c->target, "PRAGMA page_count", &pages); /* now it is in WAL mode, which it can leave */
    if (rc == SQLITE_OK)
        rc = execute(c->target, "PRAGMA synchronous = EXTRA");
    if (rc == SQLITE_OK)
        rc = sqlite3_prepare_v2(c->target, "PRAGMA journal_mode = DELETE", -1, &st, NULL);
    if (rc == SQLITE_OK) {
        rc = sqlite3_step(st);
        if (rc == SQLITE_ROW) {
            is_plain = strcmp((const char *)sqlite3_column_text(st, 0), "delete") == 0;
            rc = SQLITE_OK;
        }
    }
    sqlite3_finalize(st);
    if (rc != SQLITE_OK)
        return fail_target(c, rc, "cannot finish the copy");
    if (!is_plain || (uint64_t)pages != c->pages_total)
        return store_refuse(&r, HF_E_CORRUPT, "the copy came out wrong");
    err = store_read_facts(&r, &facts);
    if (err == 0 && (facts.meta.applied_index != c->info.meta.applied_index ||
                     memcmp(facts.meta.digest, c->info.meta.digest, sizeof facts.meta.digest) != 0))
        err = store_refuse(&r, HF_E_CORRUPT, "the copy came out wrong");
    store_free_facts(&facts);
    if (err != 0)
        return err;
    rc = sqlite3_close(c->target);
    c->target = NULL;
    HF_ASSERT(rc == SQLITE_OK);
    return 0;
}

int hf_store_copy_step(struct hf_store_copy *c, uint64_t bytes, bool *done)
{
    uint64_t pages = bytes / c->page_bytes + 1;
    int rc, err = 0;

    HF_ASSERT(c->why[0] == 0);
    *done = c->is_done;
    if (c->is_done)
        return 0;
    if (pages > SYNC_BYTES / c->page_bytes)
        pages = SYNC_BYTES / c->page_bytes;
    rc = sqlite3_backup_step(c->backup, (int)pages);
    if (rc != SQLITE_OK && rc != SQLITE_DONE) {
        bool is_source = (rc & 0xff) == SQLITE_CORRUPT || rc == SQLITE_IOERR_READ || rc == SQLITE_IOERR_SHORT_READ;
        return is_source ? fail(c, c->source, c->from, rc, "cannot read the state database")
                         : fail_target(c, rc, "cannot write the copy");
    }
    c->pages_done += pages;
    if (rc == SQLITE_DONE || c->pages_done > c->pages_total)
        c->pages_done = c->pages_total;
    if (rc == SQLITE_DONE) {
        err = finish(c);
        *done = c->is_done = err == 0;
        return err;
    }
    c->unsynced_bytes += pages * c->page_bytes;
    return c->unsynced_bytes >= SYNC_BYTES ? sync_target(c) : 0;
}

void hf_store_copy_progress(const struct hf_store_copy *c, uint64_t *done_bytes, uint64_t *total_bytes)
{
    *done_bytes = c->pages_done * c->page_bytes;
    *total_bytes = c->pages_total * c->page_bytes;
}

const char *hf_store_copy_why(const struct hf_store_copy *c)
{
    return c->why;
}

const struct hf_store_info *hf_store_copy_info(const struct hf_store_copy *c)
{
    HF_ASSERT(c->is_done);
    return &c->info;
}

void hf_store_copy_close(struct hf_store_copy *c)
{
    static const char *const suffix[] = {"", "-journal", "-wal"};
    sqlite3_vfs *vfs;

    if (!c)
        return;
    close_source(c);
    sqlite3_close(c->target);
    vfs = sqlite3_vfs_find(c->vfs);
    for (unsigned i = 0; vfs && c->is_made && !c->is_done && i < 3; i++) {
        char *path = hf_asprintf("%s%s", c->to, suffix[i]);
        vfs->xDelete(vfs, path, 0);
        hf_free(path);
    }
    hf_store_info_free(&c->info);
    hf_free(c->from);
    hf_free(c->to);
    hf_free(c->vfs);
    hf_free(c);
}
