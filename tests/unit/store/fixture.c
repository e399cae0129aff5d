/* fixture.c: see fixture.h. */
#include "fixture.h"

#include "base/log.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char dir[64];

void make_dir(void)
{
    strcpy(dir, "/tmp/hf-store-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    hf_log_silence(true);
}

const char *path_of(const char *name)
{
    static char paths[4][160];
    static unsigned next;
    char *path = paths[next++ % 4];

    snprintf(path, sizeof paths[0], "%s/%s", dir, name);
    return path;
}

void remove_file(const char *name)
{
    static const char *const suffix[] = {"", "-wal", "-shm", "-journal"};
    char path[128];

    for (unsigned i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s%s", dir, name, suffix[i]);
        unlink(path);
    }
}

void remove_dir(void)
{
    static const char *const names[] = {"a.db", "b.db", "c.db"};

    for (unsigned i = 0; i < 3; i++)
        remove_file(names[i]);
    ck_assert_int_eq(rmdir(dir), 0);
}

bool file_exists(const char *name)
{
    return access(path_of(name), F_OK) == 0;
}

uint64_t file_size(const char *name)
{
    struct stat st;

    return stat(path_of(name), &st) == 0 ? (uint64_t)st.st_size : 0;
}

struct hf_store *open_with(const char *name, uint64_t cache_bytes, uint64_t dirty_bytes)
{
    char why[512] = "";
    struct hf_store_config config = {.path = path_of(name),
                                     .cache_bytes_max = cache_bytes,
                                     .dirty_bytes_max = dirty_bytes,
                                     .page_cache_bytes = 256u << 10};
    struct hf_store *s;
    int rc = hf_store_open(&config, NULL, &s, why, sizeof why);

    ck_assert_msg(rc == 0, "%s", why);
    return s;
}

struct hf_store *open_store(void)
{
    return open_with("a.db", 0, 0);
}

int try_open(char *why, size_t why_size)
{
    struct hf_store_config config = {.path = path_of("a.db")};
    struct hf_store *s;
    int rc = hf_store_open(&config, NULL, &s, why, why_size);

    if (rc == 0)
        hf_store_close(s);
    else
        ck_assert_ptr_null(s);
    return rc;
}

void run_sql(const char *sql)
{
    sqlite3 *db;
    char *text = NULL;

    ck_assert_int_eq(sqlite3_open(path_of("a.db"), &db), SQLITE_OK);
    ck_assert_msg(sqlite3_exec(db, sql, NULL, NULL, &text) == SQLITE_OK, "%s", text);
    sqlite3_close(db);
}

void begin(struct hf_store *s, int64_t now_ms)
{
    hf_store_begin(s, hf_store_meta(s)->applied_index + 1, 1, now_ms);
}

void end(struct hf_store *s)
{
    hf_store_end(s, hf_slice_str("entry"));
}

void put(struct hf_store *s, const char *key, const char *value, int64_t expires_at_ms)
{
    struct hf_row row = {HF_TYPE_STRING, (hf_store_meta(s)->applied_index + 1) << 16, expires_at_ms,
                         hf_slice_str(value)};

    hf_store_put(s, hf_slice_str(key), &row);
}

bool has(struct hf_store *s, const char *key)
{
    struct hf_row row;

    return hf_store_get(s, hf_slice_str(key), &row);
}
