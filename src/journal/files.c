/* files.c: the blocking work around segment files: preparing the next one, deleting or recycling old ones, the
 * ballast. Every step leaves a directory that recovery understands, whatever a power loss keeps of it: a segment
 * has its name only when its header is durable, and names change one at a time with a sync between. */
#include "base/log.h"
#include "base/mem.h"
#include "journal/internal.h"

#define ZERO_CHUNK (256u * 1024u)

char *hf_jfiles_path(const char *dir, const char *name)
{
    return hf_asprintf("%s/%s", dir, name);
}

char *hf_jfiles_segment_path(const char *dir, uint64_t id)
{
    char name[HF_JSEG_NAME_BYTES];

    hf_jseg_name(name, id);
    return hf_jfiles_path(dir, name);
}

/* Write real zeroes: blocks that were only reserved (fallocate) turn into written ones at the first write, and the
 * sync of that write then also has to commit the file system's own journal (docs/decisions/0003). */
static int write_zeroes(struct hf_jprepare *p, struct hf_file *f, uint64_t from)
{
    struct hf_fs *fs = p->fs;
    uint8_t *zero = hf_calloc(1, ZERO_CHUNK);
    int rc = fs->allocate(fs, f, p->bytes);

    for (uint64_t at = from; rc == HF_OK && at < p->bytes; at += ZERO_CHUNK) {
        uint64_t n = p->bytes - at < ZERO_CHUNK ? p->bytes - at : ZERO_CHUNK;

        rc = atomic_load(p->stop) ? HF_E_CANCELED : fs->write(fs, f, at, zero, (size_t)n);
        /* Small syncs: one of the whole file would hold back the log's own for its whole length. */
        if (rc == HF_OK)
            rc = fs->sync(fs, f);
    }
    hf_free(zero);
    return rc;
}

static int write_header(struct hf_jprepare *p, struct hf_file *f, uint32_t flags)
{
    struct hf_jseg_header h = {.id = p->id, .salt = p->salt, .flags = flags};
    uint8_t *block = hf_malloc(HF_JSEG_HEADER_BYTES);
    int rc;

    hf_jseg_encode(block, &h);
    rc = p->fs->write(p->fs, f, 0, block, HF_JSEG_HEADER_BYTES);
    if (rc == HF_OK)
        rc = p->fs->sync(p->fs, f);
    hf_free(block);
    return rc;
}

/* A recycled file of the right size spares writing every byte twice. */
static int open_recycled(struct hf_jprepare *p, const char *path, struct hf_file **out)
{
    uint64_t size;
    int rc = p->fs->open(p->fs, path, HF_FS_WRITE, out);

    if (rc != HF_OK)
        return rc;
    rc = p->fs->size(p->fs, *out, &size);
    if (rc == HF_OK && size == p->bytes)
        return HF_OK;
    p->fs->close(p->fs, *out);
    return HF_E_NOENT;
}

static int prepare_once(struct hf_jprepare *p)
{
    char *final = hf_jfiles_segment_path(p->dir, p->id);
    char *recycle = hf_jfiles_path(p->dir, "recycle.tmp"), *fresh = hf_jfiles_path(p->dir, "spare.tmp");
    const char *from = recycle;
    struct hf_fs *fs = p->fs;
    struct hf_file *f = NULL;
    int rc;

    if (p->in_place) {
        uint64_t size = 0;

        rc = fs->open(fs, final, HF_FS_WRITE, &f);
        if (rc == HF_OK)
            rc = fs->size(fs, f, &size);
        if (rc == HF_OK)
            rc = write_zeroes(p, f, size);
        goto out;
    }
    rc = open_recycled(p, recycle, &f);
    if (rc == HF_OK) {
        p->recycled_used = true;
        rc = write_header(p, f, HF_JSEG_RECYCLED);
    } else if (rc == HF_E_NOENT) {
        from = fresh;
        rc = fs->open(fs, fresh, HF_FS_WRITE | HF_FS_CREATE, &f);
        if (rc == HF_OK)
            rc = fs->truncate(fs, f, 0); /* whatever an earlier attempt left */
        if (rc == HF_OK)
            rc = write_zeroes(p, f, 0);
        if (rc == HF_OK)
            rc = write_header(p, f, 0);
    }
    if (rc == HF_OK)
        rc = fs->rename(fs, from, final);
    if (rc == HF_OK)
        rc = fs->sync_dir(fs, p->dir);
out:
    if (rc != HF_OK && f != NULL) {
        fs->close(fs, f);
        f = NULL;
    }
    /* A half-written file keeps the space that is missing. */
    if (rc == HF_E_NOSPC && !p->in_place && fs->unlink(fs, fresh) == HF_OK && fs->sync_dir(fs, p->dir) != HF_OK)
        rc = HF_E_IO;
    p->file = f;
    hf_free(final);
    hf_free(recycle);
    hf_free(fresh);
    return rc;
}

void hf_jfiles_prepare(struct hf_jprepare *p)
{
    char *ballast;

    p->ballast_used = p->recycled_used = false;
    p->ballast_bytes = 0;
    p->rc = prepare_once(p);
    if (p->rc == HF_OK)
        p->ballast_bytes = hf_jfiles_fill_ballast(p->fs, p->dir, p->reserve_bytes, 4 * p->bytes);
    if (p->rc != HF_E_NOSPC)
        return;
    ballast = hf_jfiles_path(p->dir, "ballast");
    if (p->fs->unlink(p->fs, ballast) == HF_OK && p->fs->sync_dir(p->fs, p->dir) == HF_OK) {
        p->ballast_used = true;
        p->rc = prepare_once(p);
    }
    hf_free(ballast);
}

int hf_jfiles_delete(struct hf_fs *fs, const char *dir, uint64_t id, uint64_t capacity, uint64_t recycle_bytes,
                     bool *is_kept)
{
    char *path = hf_jfiles_segment_path(dir, id), *recycle = hf_jfiles_path(dir, "recycle.tmp");
    struct hf_file *f;
    int rc = HF_E_EXISTS;

    if (capacity == recycle_bytes) {
        rc = fs->open(fs, recycle, HF_FS_READ, &f);
        if (rc == HF_OK) {
            fs->close(fs, f);
            rc = HF_E_EXISTS;
        } else if (rc == HF_E_NOENT) {
            rc = fs->rename(fs, path, recycle);
            if (is_kept)
                *is_kept = rc == HF_OK;
        }
    }
    if (rc == HF_E_EXISTS)
        rc = fs->unlink(fs, path);
    /* One name at a time: a hole in the row of ids must always mean that somebody else removed a file. */
    if (rc == HF_OK)
        rc = fs->sync_dir(fs, dir);
    hf_free(path);
    hf_free(recycle);
    return rc;
}

int hf_jfiles_tidy(struct hf_fs *fs, const char *dir, uint64_t segment_bytes, uint64_t *recycle_bytes)
{
    char *recycle = hf_jfiles_path(dir, "recycle.tmp"), *fresh = hf_jfiles_path(dir, "spare.tmp");
    struct hf_file *f;
    int rc;

    *recycle_bytes = 0;
    rc = fs->open(fs, recycle, HF_FS_READ, &f);
    if (rc == HF_OK) {
        rc = fs->size(fs, f, recycle_bytes);
        fs->close(fs, f);
        if (rc == HF_OK && *recycle_bytes != segment_bytes) {
            *recycle_bytes = 0;
            rc = fs->unlink(fs, recycle);
        }
    }
    if (rc == HF_OK || rc == HF_E_NOENT)
        rc = fs->unlink(fs, fresh);
    hf_free(recycle);
    hf_free(fresh);
    return rc == HF_E_NOENT ? HF_OK : rc;
}

uint64_t hf_jfiles_fill_ballast(struct hf_fs *fs, const char *dir, uint64_t bytes, uint64_t spare_bytes)
{
    char *path = hf_jfiles_path(dir, "ballast");
    uint64_t size = 0, free_bytes = 0;
    struct hf_file *f = NULL;
    int rc = fs->open(fs, path, HF_FS_READ, &f);

    if (rc == HF_OK) {
        rc = fs->size(fs, f, &size);
        fs->close(fs, f);
        f = NULL;
    }
    if ((rc == HF_OK && size >= bytes) || bytes == 0)
        goto out;
    size = 0;
    rc = fs->free_bytes(fs, dir, &free_bytes);
    if (rc != HF_OK || free_bytes < bytes + spare_bytes)
        goto out;
    rc = fs->open(fs, path, HF_FS_WRITE | HF_FS_CREATE, &f);
    if (rc == HF_OK)
        rc = fs->allocate(fs, f, bytes);
    if (rc == HF_OK)
        rc = fs->sync(fs, f);
    if (rc == HF_OK)
        size = bytes;
    if (f != NULL)
        fs->close(fs, f);
    if (rc != HF_OK && fs->unlink(fs, path) != HF_OK)
        HF_LOG_WARN("journal", "cannot remove an unfinished ballast file", "path=%s", path);
out:
    hf_free(path);
    return size;
}
