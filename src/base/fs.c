/* fs.c: small files that are replaced as a whole (term and vote slots, CURRENT, node identity).
 *
 * Format of such a file: the content, then a trailer of 8 bytes:
 *   u32  magic 0x31534648 ("HFS1")
 *   u32  CRC-32C over the content and the magic
 * The magic names the format, and since the sum always covers it, a file that a crash left full of zeroes can never
 * pass as an empty one. */
#include "base/fs.h"

#include "base/buf.h"
#include "base/mem.h"
#include "base/util.h"

#define SMALL_MAGIC   0x31534648u
#define SMALL_TRAILER 8

static char *parent_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *dir;

    if (slash == NULL)
        return hf_strdup(".");
    if (slash == path)
        return hf_strdup("/");
    dir = hf_strdup(path);
    dir[slash - path] = '\0';
    return dir;
}

static int write_and_sync(struct hf_fs *fs, const char *path, struct hf_slice bytes)
{
    struct hf_file *f;
    int rc = fs->open(fs, path, HF_FS_WRITE | HF_FS_CREATE, &f);

    if (rc != 0)
        return rc;
    /* A crash may have left an older, longer temporary file. */
    rc = fs->truncate(fs, f, 0);
    if (rc == 0)
        rc = fs->write(fs, f, 0, bytes.ptr, bytes.len);
    if (rc == 0)
        rc = fs->sync(fs, f);
    fs->close(fs, f);
    return rc;
}

int hf_fs_write_small(struct hf_fs *fs, const char *path, const void *data, size_t n)
{
    struct hf_buf b = {0};
    char *tmp = hf_asprintf("%s.tmp", path);
    char *dir = parent_of(path);
    int rc;

    hf_buf_reserve(&b, n + SMALL_TRAILER);
    hf_buf_put(&b, data, n);
    hf_buf_put_u32(&b, SMALL_MAGIC);
    hf_buf_put_u32(&b, hf_crc32c(0, b.data, b.len));
    rc = write_and_sync(fs, tmp, hf_buf_slice(&b));
    if (rc == 0)
        rc = fs->rename(fs, tmp, path);
    if (rc == 0)
        rc = fs->sync_dir(fs, dir);
    hf_buf_free(&b);
    hf_free(dir);
    hf_free(tmp);
    return rc;
}

static int check_small(const uint8_t *data, size_t n)
{
    if (n < SMALL_TRAILER)
        return HF_E_CORRUPT;
    if (hf_load_u32(data + n - SMALL_TRAILER) != SMALL_MAGIC)
        return HF_E_CORRUPT;
    if (hf_load_u32(data + n - 4) != hf_crc32c(0, data, n - 4))
        return HF_E_CORRUPT;
    return 0;
}

int hf_fs_read_small(struct hf_fs *fs, const char *path, size_t n_max, uint8_t **out, size_t *n)
{
    struct hf_file *f;
    uint8_t *data = NULL;
    uint64_t size;
    size_t got = 0;
    int rc = fs->open(fs, path, HF_FS_READ, &f);

    if (rc != 0)
        return rc;
    rc = fs->size(fs, f, &size);
    if (rc == 0 && (size < SMALL_TRAILER || size - SMALL_TRAILER > n_max))
        rc = HF_E_CORRUPT;
    if (rc == 0) {
        data = hf_malloc((size_t)size);
        rc = fs->read(fs, f, 0, data, (size_t)size, &got);
    }
    if (rc == 0)
        rc = check_small(data, got);
    fs->close(fs, f);
    if (rc != 0) {
        hf_free(data);
        return rc;
    }
    data[got - SMALL_TRAILER] = '\0'; /* text content can be used as a C string */
    *out = data;
    *n = got - SMALL_TRAILER;
    return 0;
}
