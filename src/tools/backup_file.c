/* backup_file.c: writing and reading backups; the format is in backup_file.h. */
#include "tools/backup_file.h"

#include "base/crashpoint.h"
#include "base/mem.h"
#include "base/util.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#define FRAME_FRONT    0x184D2A50u
#define FRAME_END      0x184D2A51u
#define FORMAT         1
#define JSON_BYTES_MAX 65536u
#define HASH_TEXT      33

static int fail_errno(char *why, size_t why_size, const char *what, const char *path)
{
    char reason[128];

    snprintf(why, why_size, "%s %s: %s", what, path, strerror_r(errno, reason, sizeof reason));
    return -1;
}

static void hash_text(const XXH3_state_t *state, char out[HASH_TEXT])
{
    XXH128_canonical_t canonical;

    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state));
    for (size_t i = 0; i < sizeof canonical.digest; i++)
        snprintf(out + 2 * i, 3, "%02x", canonical.digest[i]);
}

/* ---- JSON, as much as our own two objects need ------------------------------------------------------------ */

/* The place behind "name": in a flat object that this file wrote; NULL when it is not there. */
static const char *json_find(const char *json, const char *name)
{
    char quoted[48];
    const char *p;

    snprintf(quoted, sizeof quoted, "\"%s\":", name);
    p = strstr(json, quoted);
    return p ? p + strlen(quoted) : NULL;
}

static bool json_number(const char *json, const char *name, uint64_t *out)
{
    const char *p = json_find(json, name);
    int64_t n;

    if (!p || !hf_parse_int64(hf_slice(p, strspn(p, "0123456789")), &n))
        return false;
    *out = (uint64_t)n;
    return true;
}

/* Texts of our own that need no escapes. */
static bool json_text(const char *json, const char *name, char *out, size_t cap)
{
    const char *p = json_find(json, name);
    size_t n = p && *p == '"' ? strcspn(p + 1, "\"\\") : 0;

    out[0] = 0;
    if (!p || *p != '"' || p[1 + n] != '"' || n >= cap)
        return false;
    memcpy(out, p + 1, n);
    out[n] = 0;
    return true;
}

static bool parse_info(const char *json, struct hf_backup_info *info)
{
    uint64_t format;

    memset(info, 0, sizeof *info);
    if (!json_number(json, "holdfast_backup", &format) || format != FORMAT)
        return false;
    (void)json_text(json, "history", info->history, sizeof info->history);
    return json_number(json, "index", &info->index) && json_number(json, "term", &info->term) &&
           json_number(json, "level", &info->level) && json_number(json, "bytes", &info->bytes) &&
           json_number(json, "node_id", &info->node_id) &&
           json_text(json, "digest", info->digest, sizeof info->digest) &&
           json_text(json, "cluster_id", info->cluster_id, sizeof info->cluster_id) &&
           json_text(json, "created_at", info->created_at, sizeof info->created_at) &&
           json_text(json, "holdfast_version", info->version, sizeof info->version);
}

static void put_frame(struct hf_buf *out, uint32_t magic, const struct hf_buf *json)
{
    hf_buf_put_u32(out, magic);
    hf_buf_put_u32(out, (uint32_t)json->len);
    hf_buf_put(out, json->data, json->len);
}

/* ---- writing --------------------------------------------------------------------------------------------- */

struct hf_backup_writer {
    char *path, *part;
    int fd;
    uint64_t expected, taken, written;
    ZSTD_CStream *zstd;
    uint8_t *out;
    size_t out_size;
    XXH3_state_t *database, *file;
};

static void free_writer(struct hf_backup_writer *w)
{
    if (w->fd >= 0)
        close(w->fd);
    ZSTD_freeCStream(w->zstd);
    XXH3_freeState(w->database);
    XXH3_freeState(w->file);
    hf_free(w->out);
    hf_free(w->path);
    hf_free(w->part);
    hf_free(w);
}

void hf_backup_abandon(struct hf_backup_writer *w)
{
    (void)unlink(w->part);
    free_writer(w);
}

static int put_bytes(struct hf_backup_writer *w, const void *bytes, size_t n, char *why, size_t why_size)
{
    const uint8_t *p = bytes;

    XXH3_128bits_update(w->file, bytes, n);
    w->written += n;
    while (n > 0) {
        ssize_t done = write(w->fd, p, n);

        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return fail_errno(why, why_size, "cannot write", w->part);
        p += done;
        n -= (size_t)done;
    }
    return 0;
}

static void put_info(struct hf_buf *out, const struct hf_backup_info *info)
{
    struct hf_buf json = {0};

    hf_buf_printf(&json,
                  "{\"holdfast_backup\":%d,\"index\":%" PRIu64 ",\"term\":%" PRIu64 ",\"level\":%" PRIu64
                  ",\"bytes\":%" PRIu64 ",\"digest\":\"%s\"",
                  FORMAT, info->index, info->term, info->level, info->bytes, info->digest);
    if (*info->history)
        hf_buf_printf(&json, ",\"history\":\"%s\"", info->history);
    hf_buf_printf(&json,
                  ",\"cluster_id\":\"%s\",\"node_id\":%" PRIu64 ",\"created_at\":\"%s\",\"holdfast_version\":\"%s\"}\n",
                  info->cluster_id, info->node_id, info->created_at, info->version);
    put_frame(out, FRAME_FRONT, &json);
    hf_buf_free(&json);
}

int hf_backup_create(const char *path, const struct hf_backup_info *info, int level, struct hf_backup_writer **out,
                     char *why, size_t why_size)
{
    struct hf_backup_writer *w = hf_calloc(1, sizeof *w);
    size_t n = strlen(path) + sizeof ".part";
    struct hf_buf front = {0};
    int rc = -1;

    w->path = hf_strdup(path);
    w->part = hf_malloc(n);
    snprintf(w->part, n, "%s.part", path);
    w->expected = info->bytes;
    w->zstd = ZSTD_createCStream();
    w->database = XXH3_createState();
    w->file = XXH3_createState();
    w->out_size = ZSTD_CStreamOutSize();
    w->out = hf_malloc(w->out_size);
    w->fd = open(w->part, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (w->fd < 0) {
        rc = fail_errno(why, why_size, "cannot create", w->part);
        free_writer(w);
        return rc;
    }
    if (flock(w->fd, LOCK_EX | LOCK_NB) != 0) {
        snprintf(why, why_size, "%s is being written by another process", w->part);
        free_writer(w);
        return -1;
    }
    if (!w->zstd || !w->database || !w->file) {
        snprintf(why, why_size, "out of memory");
    } else if (ftruncate(w->fd, 0) != 0) {
        rc = fail_errno(why, why_size, "cannot empty", w->part);
    } else {
        XXH3_128bits_reset(w->database);
        XXH3_128bits_reset(w->file);
        ZSTD_CCtx_setParameter(w->zstd, ZSTD_c_compressionLevel, level);
        ZSTD_CCtx_setParameter(w->zstd, ZSTD_c_checksumFlag, 1);
        ZSTD_CCtx_setPledgedSrcSize(w->zstd, info->bytes);
        put_info(&front, info);
        rc = put_bytes(w, front.data, front.len, why, why_size);
        hf_buf_free(&front);
    }
    if (rc != 0) {
        hf_backup_abandon(w);
        return rc;
    }
    *out = w;
    return 0;
}

static int compress(struct hf_backup_writer *w, const void *bytes, size_t n, ZSTD_EndDirective end, char *why,
                    size_t why_size)
{
    ZSTD_inBuffer in = {bytes, n, 0};
    size_t left;

    do {
        ZSTD_outBuffer out = {w->out, w->out_size, 0};

        left = ZSTD_compressStream2(w->zstd, &out, &in, end);
        if (ZSTD_isError(left)) {
            snprintf(why, why_size, "cannot compress: %s", ZSTD_getErrorName(left));
            return -1;
        }
        if (out.pos > 0 && put_bytes(w, w->out, out.pos, why, why_size) != 0)
            return -1;
    } while (in.pos < in.size || (end == ZSTD_e_end && left != 0));
    return 0;
}

int hf_backup_write(struct hf_backup_writer *w, const void *bytes, size_t n, char *why, size_t why_size)
{
    w->taken += n;
    if (w->taken > w->expected) {
        snprintf(why, why_size, "the node sent more than the %" PRIu64 " bytes it had announced", w->expected);
        return -1;
    }
    XXH3_128bits_update(w->database, bytes, n);
    return compress(w, bytes, n, ZSTD_e_continue, why, why_size);
}

static int sync_directory(const char *path, char *why, size_t why_size)
{
    const char *slash = strrchr(path, '/');
    char *dir = hf_strdup(path);
    int fd, rc = 0;

    if (!slash)
        snprintf(dir, 2, ".");
    else
        dir[slash == path ? 1 : slash - path] = 0;
    fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0)
        rc = fail_errno(why, why_size, "cannot sync the directory", dir);
    if (fd >= 0)
        close(fd);
    hf_free(dir);
    return rc;
}

static int give_name(const struct hf_backup_writer *w, bool replace, char *why, size_t why_size)
{
    if (replace) {
        if (rename(w->part, w->path) != 0)
            return fail_errno(why, why_size, "cannot rename to", w->path);
    } else if (link(w->part, w->path) != 0) { /* unlike rename, never over an existing file */
        return fail_errno(why, why_size, "cannot give the backup its name", w->path);
    } else {
        (void)unlink(w->part);
    }
    return sync_directory(w->path, why, why_size);
}

int hf_backup_finish(struct hf_backup_writer *w, bool replace, uint64_t *file_bytes, char *why, size_t why_size)
{
    struct hf_buf json = {0}, frame = {0};
    char database[HASH_TEXT], file[HASH_TEXT];
    int rc = -1;

    if (w->taken != w->expected) {
        snprintf(why, why_size, "the node sent %" PRIu64 " bytes and had announced %" PRIu64, w->taken, w->expected);
    } else if (compress(w, NULL, 0, ZSTD_e_end, why, why_size) == 0) {
        hash_text(w->database, database);
        hash_text(w->file, file);
        hf_buf_printf(&json,
                      "{\"database_bytes\":%" PRIu64 ",\"database_xxh3_128\":\"%s\",\"file_bytes\":%" PRIu64
                      ",\"file_xxh3_128\":\"%s\"}\n",
                      w->taken, database, w->written, file);
        put_frame(&frame, FRAME_END, &json);
        rc = put_bytes(w, frame.data, frame.len, why, why_size);
        if (rc == 0 && fsync(w->fd) != 0)
            rc = fail_errno(why, why_size, "cannot sync", w->part);
        hf_crash_point("backup-synced");
        if (rc == 0)
            rc = give_name(w, replace, why, why_size);
        *file_bytes = w->written;
    }
    hf_buf_free(&json);
    hf_buf_free(&frame);
    if (rc != 0)
        hf_backup_abandon(w);
    else
        free_writer(w);
    return rc;
}

/* ---- reading --------------------------------------------------------------------------------------------- */

/* What is wrong is told with its place in the file. */
struct reader {
    const char *path;
    int fd;
    uint64_t size, at; /* at: of the next byte that `in` hands out */
    uint8_t *in;
    size_t in_pos, in_len, in_cap;
    XXH3_state_t *hash; /* of everything handed out, NULL = not now */
};

static int damaged(const struct reader *r, char *why, size_t why_size, const char *what)
{
    snprintf(why, why_size, "%s is damaged or no backup: %s (at byte %" PRIu64 " of %" PRIu64 ")", r->path, what, r->at,
             r->size);
    return -1;
}

static int open_reader(struct reader *r, const char *path, char *why, size_t why_size)
{
    struct stat st;

    *r = (struct reader){.path = path, .in_cap = 1 << 20};
    r->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (r->fd < 0)
        return fail_errno(why, why_size, "cannot open", path);
    if (fstat(r->fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        snprintf(why, why_size, "%s is no file", path);
        close(r->fd);
        return -1;
    }
    r->size = (uint64_t)st.st_size;
    r->in = hf_malloc(r->in_cap);
    return 0;
}

static void close_reader(struct reader *r)
{
    close(r->fd);
    XXH3_freeState(r->hash);
    hf_free(r->in);
}

/* More bytes behind those that were handed out. 0 also at the end of the file. */
static int fill(struct reader *r, char *why, size_t why_size)
{
    ssize_t n;

    if (r->in_pos < r->in_len)
        return 0;
    do
        n = read(r->fd, r->in, r->in_cap);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return fail_errno(why, why_size, "cannot read", r->path);
    r->in_pos = 0;
    r->in_len = (size_t)n;
    return 0;
}

static void take(struct reader *r, size_t n)
{
    if (r->hash)
        XXH3_128bits_update(r->hash, r->in + r->in_pos, n);
    r->in_pos += n;
    r->at += n;
}

static int take_exactly(struct reader *r, void *out, size_t n, char *why, size_t why_size)
{
    uint8_t *p = out;

    while (n > 0) {
        size_t part;

        if (fill(r, why, why_size) != 0)
            return -1;
        part = r->in_len - r->in_pos < n ? r->in_len - r->in_pos : n;
        if (part == 0)
            return damaged(r, why, why_size, "the file ends too early");
        memcpy(p, r->in + r->in_pos, part);
        take(r, part);
        p += part;
        n -= part;
    }
    return 0;
}

/* *json: hf_malloc'ed, ends with 0. */
static int take_frame(struct reader *r, uint32_t magic, char **json, char *why, size_t why_size)
{
    uint8_t head[8];
    uint32_t n;

    if (take_exactly(r, head, sizeof head, why, why_size) != 0)
        return -1;
    n = hf_load_u32(head + 4);
    if (hf_load_u32(head) != magic || n > JSON_BYTES_MAX)
        return damaged(r, why, why_size,
                       magic == FRAME_FRONT ? "it does not begin as a backup does"
                                            : "it does not end as a backup does");
    *json = hf_malloc(n + 1);
    (*json)[n] = 0;
    if (take_exactly(r, *json, n, why, why_size) == 0)
        return 0;
    hf_free(*json);
    *json = NULL;
    return -1;
}

static int take_front(struct reader *r, struct hf_backup_info *info, char *why, size_t why_size)
{
    char *json;
    int rc = take_frame(r, FRAME_FRONT, &json, why, why_size);

    if (rc != 0)
        return rc;
    if (!parse_info(json, info)) {
        uint64_t format = 0;

        if (json_number(json, "holdfast_backup", &format) && format != FORMAT) {
            snprintf(why, why_size, "%s has format %" PRIu64 ", and this release knows format %d", r->path, format,
                     FORMAT);
            rc = -1;
        } else {
            rc = damaged(r, why, why_size, "its description cannot be read");
        }
    }
    hf_free(json);
    return rc;
}

int hf_backup_look(const char *path, struct hf_backup_info *info, char *why, size_t why_size)
{
    struct reader r;
    int rc = open_reader(&r, path, why, why_size);

    if (rc != 0)
        return rc;
    rc = take_front(&r, info, why, why_size);
    close_reader(&r);
    return rc;
}

static int write_all(int fd, const char *path, const uint8_t *p, size_t n, char *why, size_t why_size)
{
    while (n > 0) {
        ssize_t done = write(fd, p, n);

        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return fail_errno(why, why_size, "cannot write", path);
        p += done;
        n -= (size_t)done;
    }
    return 0;
}

/* The zstd frame, up to its last byte and no further. */
static int take_database(struct reader *r, int fd, const char *to, ZSTD_DStream *zstd, XXH3_state_t *database,
                         uint64_t *bytes, bool is_quiet, char *why, size_t why_size)
{
    struct hf_tool_progress progress;
    size_t cap = ZSTD_DStreamOutSize(), left = 1;
    uint8_t *plain = hf_malloc(cap);
    int rc = 0;

    hf_tool_progress_begin(&progress, "reading", r->size, true, is_quiet);
    while (rc == 0 && left != 0) {
        ZSTD_outBuffer out = {plain, cap, 0};
        ZSTD_inBuffer in;

        rc = fill(r, why, why_size);
        if (rc != 0)
            break;
        in = (ZSTD_inBuffer){r->in + r->in_pos, r->in_len - r->in_pos, 0};
        left = ZSTD_decompressStream(zstd, &out, &in);
        if (ZSTD_isError(left)) {
            rc = damaged(r, why, why_size, ZSTD_getErrorName(left));
            break;
        }
        if (in.pos == 0 && out.pos == 0) {
            rc = damaged(r, why, why_size, "the file ends too early");
            break;
        }
        take(r, in.pos);
        *bytes += out.pos;
        XXH3_128bits_update(database, plain, out.pos);
        rc = write_all(fd, to, plain, out.pos, why, why_size);
        hf_tool_progress_step(&progress, r->at);
        if (rc == 0 && hf_tool_is_stopped()) {
            snprintf(why, why_size, "stopped");
            rc = -1;
        }
    }
    hf_tool_progress_end(&progress);
    hf_free(plain);
    return rc;
}

/* After the database: the sums of what was read so far against those of the last frame, and the end of the file. */
static int take_end(struct reader *r, const struct hf_backup_info *info, const XXH3_state_t *database, uint64_t bytes,
                    char *why, size_t why_size)
{
    char database_text[HASH_TEXT], file_text[HASH_TEXT], want_database[HASH_TEXT], want_file[HASH_TEXT], *json;
    uint64_t want_bytes, want_file_bytes, file_bytes = r->at;
    const char *wrong = NULL;

    hash_text(database, database_text);
    hash_text(r->hash, file_text);
    if (take_frame(r, FRAME_END, &json, why, why_size) != 0)
        return -1;
    if (!json_number(json, "database_bytes", &want_bytes) || !json_number(json, "file_bytes", &want_file_bytes) ||
        !json_text(json, "database_xxh3_128", want_database, sizeof want_database) ||
        !json_text(json, "file_xxh3_128", want_file, sizeof want_file))
        wrong = "its sums cannot be read";
    else if (want_bytes != bytes || info->bytes != bytes || want_file_bytes != file_bytes)
        wrong = "its length is not what it says";
    else if (strcmp(want_file, file_text) != 0)
        wrong = "the checksum of the file is wrong";
    else if (strcmp(want_database, database_text) != 0)
        wrong = "the checksum of the database is wrong";
    else if (r->at != r->size)
        wrong = "something follows its end";
    hf_free(json);
    return wrong ? damaged(r, why, why_size, wrong) : 0;
}

int hf_backup_unpack(const char *path, const char *to, struct hf_backup_info *info, bool is_quiet, char *why,
                     size_t why_size)
{
    struct reader r;
    ZSTD_DStream *zstd;
    XXH3_state_t *database;
    uint64_t bytes = 0;
    int fd, rc = open_reader(&r, path, why, why_size);

    if (rc != 0)
        return rc;
    fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        rc = fail_errno(why, why_size, "cannot create", to);
        close_reader(&r);
        return rc;
    }
    zstd = ZSTD_createDStream();
    database = XXH3_createState();
    r.hash = XXH3_createState();
    if (!zstd || !database || !r.hash) {
        snprintf(why, why_size, "out of memory");
        rc = -1;
    } else {
        XXH3_128bits_reset(database);
        XXH3_128bits_reset(r.hash);
        rc = take_front(&r, info, why, why_size);
    }
    if (rc == 0)
        rc = take_database(&r, fd, to, zstd, database, &bytes, is_quiet, why, why_size);
    if (rc == 0)
        rc = take_end(&r, info, database, bytes, why, why_size);
    if (rc == 0 && fsync(fd) != 0)
        rc = fail_errno(why, why_size, "cannot sync", to);
    close(fd);
    if (rc != 0)
        (void)unlink(to);
    ZSTD_freeDStream(zstd);
    XXH3_freeState(database);
    close_reader(&r);
    return rc;
}
