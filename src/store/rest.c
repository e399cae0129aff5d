/* rest.c: database files that nobody has open: looking at one, verifying it, giving it another configuration.
 *
 * Looking opens the file as immutable: no lock, no WAL, nothing is written beside it. That shows the truth only when
 * all of the state is in the main file, so a WAL or a rollback journal with something in it is refused. */
#include "store/internal.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define PAGE_CACHE_KIB 4096
#define ROWS_A_REPORT  65536u

void hf_store_info_free(struct hf_store_info *info)
{
    hf_buf_free(&info->configuration);
    memset(info, 0, sizeof *info);
}

/* ---- opening ------------------------------------------------------------------------------------- */

static bool has_content(sqlite3_vfs *vfs, const char *path, const char *suffix)
{
    char *name = hf_asprintf("%s%s", path, suffix);
    int is_there = 0;

    if (vfs->xAccess(vfs, name, SQLITE_ACCESS_EXISTS, &is_there) != SQLITE_OK)
        is_there = 0;
    hf_free(name);
    return is_there != 0;
}

/* file:PATH?immutable=1, with what would end the path written as %XX. */
static void put_uri(struct hf_buf *out, const char *path)
{
    hf_buf_put(out, "file:", 5);
    for (; *path; path++) {
        char hex[4];

        if (*path == '%' || *path == '?' || *path == '#') {
            snprintf(hex, sizeof hex, "%%%02X", (unsigned)(uint8_t)*path);
            hf_buf_put(out, hex, 3);
        } else {
            hf_buf_put(out, path, 1);
        }
    }
    hf_buf_put(out, "?immutable=1", 13);
}

/* r->db is to be closed, also on an error. */
static int open_at_rest(struct refusal *r, const char *vfs_name, bool is_immutable)
{
    static const char *const beside[] = {"-wal", "-journal"};
    sqlite3_vfs *vfs = sqlite3_vfs_find(vfs_name);
    int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    char sql[200];
    int rc;

    if (!vfs)
        return store_refuse(r, HF_E_INVALID, "no such SQLite VFS");
    if (!has_content(vfs, r->path, ""))
        return store_refuse(r, HF_E_NOENT, "there is no such file, or it is empty");
    for (unsigned i = 0; i < 2; i++)
        if (has_content(vfs, r->path, beside[i])) {
            char what[100];
            snprintf(what, sizeof what, "a %s file with changes stands beside it; start and stop its node first",
                     beside[i]);
            return store_refuse(r, HF_E_LOCKED, what);
        }
    if (is_immutable) {
        struct hf_buf uri = {0};
        put_uri(&uri, r->path);
        rc = sqlite3_open_v2((const char *)uri.data, &r->db, flags | SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, vfs_name);
        hf_buf_free(&uri);
    } else {
        rc = sqlite3_open_v2(r->path, &r->db, flags | SQLITE_OPEN_READWRITE, vfs_name);
    }
    snprintf(sql, sizeof sql,
             "PRAGMA cache_size = -%d; PRAGMA mmap_size = 0; PRAGMA cell_size_check = ON; PRAGMA trusted_schema = OFF;"
             "PRAGMA temp_store = MEMORY",
             PAGE_CACHE_KIB);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(r->db, sql, NULL, NULL, NULL);
    if (rc != SQLITE_OK)
        return store_refuse_sqlite(r, rc, "cannot open the state database");
    return store_identify(r, NULL);
}

/* Everything that the file says about itself. */
struct file_state {
    struct facts facts;
    struct settings settings;
};

static void free_state(struct file_state *f)
{
    store_free_facts(&f->facts);
    settings_free(&f->settings);
}

static int read_state(const struct refusal *r, struct file_state *f, struct hf_store_info *info)
{
    int64_t pages = 0, page_bytes = 0;
    int rc, err = store_read_facts(r, &f->facts);

    if (err == 0)
        err = settings_load(r, &f->settings);
    if (err == 0)
        err = settings_level(r, &f->settings, &info->level);
    if (err != 0)
        return err;
    rc = store_query_int(r->db, "PRAGMA page_count", &pages);
    if (rc == SQLITE_OK)
        rc = store_query_int(r->db, "PRAGMA page_size", &page_bytes);
    if (rc != SQLITE_OK)
        return store_refuse_sqlite(r, rc, "cannot read the state database");
    info->file_bytes = (uint64_t)pages * (uint64_t)page_bytes;
    store_copy_meta(&info->meta, &info->configuration, &f->facts.meta);
    return 0;
}

int hf_store_inspect(const char *path, const char *vfs, struct hf_store_info *info, char *why, size_t why_size)
{
    struct refusal r = {path, NULL, false, why, why_size};
    struct file_state state = {0};
    int err;

    memset(info, 0, sizeof *info);
    err = open_at_rest(&r, vfs, true);
    if (err == 0)
        err = read_state(&r, &state, info);
    free_state(&state);
    sqlite3_close(r.db);
    if (err != 0)
        hf_store_info_free(info);
    return err;
}

/* ---- verifying ----------------------------------------------------------------------------------- */

struct verify {
    const struct refusal *r;
    bool (*progress)(void *data, uint64_t done, uint64_t total);
    void *data;
    uint64_t total;
    bool is_canceled;
    uint64_t digest[2], keys, expiring;
    uint64_t expiry_sum; /* of (slot, expires_at, key) of the rows that expire: the index must hold the same */
};

static int report(struct verify *v, uint64_t done)
{
    if (v->progress && !v->progress(v->data, done, v->total))
        v->is_canceled = true;
    return v->is_canceled;
}

static int report_start(void *data)
{
    return report(data, 0);
}

static int canceled(const struct verify *v)
{
    return store_refuse(v->r, HF_E_CANCELED, "verifying it was given up");
}

static int check_structure(struct verify *v)
{
    int err;

    sqlite3_progress_handler(v->r->db, 1000000, report_start, v);
    err = store_quick_check(v->r);
    sqlite3_progress_handler(v->r->db, 0, NULL, NULL);
    return v->is_canceled ? canceled(v) : err;
}

static uint64_t expiry_summand(int64_t slot, int64_t expires_at_ms, struct hf_slice key)
{
    return XXH3_64bits_withSeed(key.ptr, key.len, (uint64_t)slot ^ (uint64_t)expires_at_ms * 0x9e3779b97f4a7c15ull);
}

static bool add_row(struct verify *v, const struct facts *facts, sqlite3_stmt *st, struct hf_buf *canon)
{
    struct hf_slice key = hf_slice(sqlite3_column_blob(st, 4), (size_t)sqlite3_column_bytes(st, 4));
    struct hf_slice value = hf_slice(sqlite3_column_blob(st, 5), (size_t)sqlite3_column_bytes(st, 5));
    int64_t slot = sqlite3_column_int64(st, 0), expires_at_ms = sqlite3_column_int64(st, 3);
    uint64_t group = XXH3_64bits_withSeed(key.ptr, key.len, facts->key_seed) >> (64u - STORE_GROUP_BITS);
    uint8_t *p;
    XXH128_hash_t h;

    canon->len = 0;
    p = hf_buf_reserve(canon, CANON_HEADER + key.len + value.len);
    hf_store_u64(p, (uint64_t)sqlite3_column_int64(st, 2));
    hf_store_u64(p + 8, (uint64_t)expires_at_ms);
    hf_store_u32(p + 16, (uint32_t)key.len);
    p[20] = (uint8_t)sqlite3_column_int(st, 1);
    if (key.len != 0)
        memcpy(p + CANON_HEADER, key.ptr, key.len);
    if (value.len != 0)
        memcpy(p + CANON_HEADER + key.len, value.ptr, value.len);
    h = XXH3_128bits(p, CANON_HEADER + key.len + value.len);
    v->digest[0] += h.low64;
    v->digest[1] += h.high64;
    v->keys++;
    if (expires_at_ms != 0) {
        v->expiring++;
        v->expiry_sum += expiry_summand(slot, expires_at_ms, key);
    }
    return (uint64_t)slot >> STORE_ORDINAL_BITS == (group ? group : 1);
}

static int check_rows(struct verify *v, const struct facts *facts)
{
    struct hf_buf canon = {0};
    sqlite3_stmt *st = NULL;
    int err = 0;
    int rc = sqlite3_prepare_v2(v->r->db, "SELECT slot, type, version, expires_at, key, value FROM keys NOT INDEXED",
                                -1, &st, NULL);

    while (rc == SQLITE_OK && err == 0) {
        rc = sqlite3_step(st);
        if (rc != SQLITE_ROW)
            break;
        rc = SQLITE_OK;
        if (!add_row(v, facts, st, &canon))
            err = store_refuse(v->r, HF_E_CORRUPT, "damaged: a row stands at the place of another key");
        else if (v->keys % ROWS_A_REPORT == 0 && report(v, v->keys))
            err = canceled(v);
    }
    if (err == 0 && rc != SQLITE_DONE)
        err = store_refuse_sqlite(v->r, rc, "cannot read table keys");
    sqlite3_finalize(st);
    hf_buf_free(&canon);
    return err;
}

static int check_expiry_index(struct verify *v)
{
    sqlite3_stmt *st = NULL;
    uint64_t n = 0, sum = 0;
    int err = 0;
    int rc = sqlite3_prepare_v2(v->r->db,
                                "SELECT slot, expires_at, key FROM keys INDEXED BY keys_by_expiry WHERE expires_at > 0",
                                -1, &st, NULL);

    while (rc == SQLITE_OK && err == 0) {
        rc = sqlite3_step(st);
        if (rc != SQLITE_ROW)
            break;
        rc = SQLITE_OK;
        sum += expiry_summand(sqlite3_column_int64(st, 0), sqlite3_column_int64(st, 1),
                              hf_slice(sqlite3_column_blob(st, 2), (size_t)sqlite3_column_bytes(st, 2)));
        if (++n % ROWS_A_REPORT == 0 && report(v, v->keys))
            err = canceled(v);
    }
    if (err == 0 && rc != SQLITE_DONE)
        err = store_refuse_sqlite(v->r, (rc & 0xff) == SQLITE_ERROR ? SQLITE_CORRUPT : rc,
                                  "cannot read index keys_by_expiry");
    if (err == 0 && (n != v->expiring || sum != v->expiry_sum))
        err = store_refuse(v->r, HF_E_CORRUPT, "damaged: index keys_by_expiry and table keys differ");
    sqlite3_finalize(st);
    return err;
}

static int check_sums(const struct verify *v, const struct file_state *f)
{
    uint8_t digest[16];

    hf_store_u64(digest, v->digest[0] + f->settings.digest[0]);
    hf_store_u64(digest + 8, v->digest[1] + f->settings.digest[1]);
    if (v->keys != f->facts.meta.keys || v->expiring != f->facts.keys_expiring)
        return store_refuse(v->r, HF_E_CORRUPT, "damaged: the number of rows is not what table meta says");
    if (memcmp(digest, f->facts.meta.digest, sizeof digest) != 0)
        return store_refuse(v->r, HF_E_CORRUPT, "damaged: the digest of the rows is not what table meta says");
    return 0;
}

static int verify_file(const char *path, const char *vfs, bool is_full, struct hf_store_info *info,
                       bool (*progress)(void *data, uint64_t done, uint64_t total), void *data, char *why,
                       size_t why_size)
{
    struct refusal r = {path, NULL, false, why, why_size};
    struct verify v = {.r = &r, .progress = progress, .data = data};
    struct file_state state = {0};
    int err;

    memset(info, 0, sizeof *info);
    err = open_at_rest(&r, vfs, true);
    if (err == 0)
        err = read_state(&r, &state, info);
    v.total = info->meta.keys;
    if (err == 0 && is_full)
        err = check_structure(&v);
    if (err == 0)
        err = check_rows(&v, &state.facts);
    if (err == 0 && is_full)
        err = check_expiry_index(&v);
    if (err == 0)
        err = check_sums(&v, &state);
    if (err == 0 && report(&v, v.keys))
        err = canceled(&v);
    free_state(&state);
    sqlite3_close(r.db);
    if (err != 0)
        hf_store_info_free(info);
    return err;
}

int hf_store_verify(const char *path, const char *vfs, struct hf_store_info *info,
                    bool (*progress)(void *data, uint64_t done, uint64_t total), void *data, char *why, size_t why_size)
{
    return verify_file(path, vfs, true, info, progress, data, why, why_size);
}

int hf_store_verify_digest(const char *path, const char *vfs, struct hf_store_info *info,
                           bool (*progress)(void *data, uint64_t done, uint64_t total), void *data, char *why,
                           size_t why_size)
{
    return verify_file(path, vfs, false, info, progress, data, why, why_size);
}

/* ---- another configuration ----------------------------------------------------------------------- */

int hf_store_rebase(const char *path, const char *vfs, struct hf_slice configuration, char *why, size_t why_size)
{
    struct refusal r = {path, NULL, false, why, why_size};
    struct file_state state = {0};
    struct hf_store_info info = {0};
    sqlite3_stmt *st = NULL;
    int rc, err = open_at_rest(&r, vfs, false);

    if (err == 0)
        err = read_state(&r, &state, &info);
    free_state(&state);
    hf_store_info_free(&info);
    if (err != 0)
        goto done;
    /* A rollback journal, so that all of it is in the one file afterwards; EXTRA: the journal's end is durable too. */
    rc = sqlite3_exec(r.db, "PRAGMA synchronous = EXTRA; PRAGMA journal_mode = DELETE", NULL, NULL, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_prepare_v2(r.db, "UPDATE meta SET configuration = ?1, configuration_index = applied_index", -1,
                                &st, NULL);
    if (rc == SQLITE_OK) {
        sqlite3_bind_blob64(st, 1, configuration.len ? (const void *)configuration.ptr : "", configuration.len,
                            SQLITE_STATIC);
        rc = sqlite3_step(st);
        if (rc == SQLITE_DONE)
            rc = SQLITE_OK;
    }
    sqlite3_finalize(st);
    if (rc != SQLITE_OK)
        err = store_refuse_sqlite(&r, rc, "cannot write the configuration");
done:
    sqlite3_close(r.db);
    return err;
}
