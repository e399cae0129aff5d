/* fake_store.c: see fake_store.h. The first page: u64 index, term, configuration index, bytes, u32 level, 16 digest
 * (of what follows the page), 16 history, u32 length + configuration. */
#include "fake_store.h"

#include "base/mem.h"
#include "base/util.h"

#include <stdio.h>

struct fake_store fake_store;

struct hf_store_copy {
    struct hf_fs *fs;
    struct hf_file *file;
    struct fake_live *live;
    struct hf_buf image;
    uint64_t done;
    bool is_complete;
    char *to;
    struct hf_store_info info;
};

static void digest_of(struct hf_slice bytes, uint8_t out[16])
{
    hf_store_u64(out, bytes.len);
    hf_store_u32(out + 8, hf_crc32c(0, bytes.ptr, bytes.len));
    hf_store_u32(out + 12, hf_crc32c(7, bytes.ptr, bytes.len));
}

void fake_store_image(const struct fake_live *live, struct hf_buf *out)
{
    struct hf_buf page = {0};
    uint8_t digest[16], history[16];
    struct hf_prng prng;
    size_t body = live->bytes - FAKE_PAGE;

    out->len = 0;
    hf_buf_reserve(out, live->bytes);
    memset(out->data, 0, FAKE_PAGE);
    out->len = FAKE_PAGE;
    hf_prng_seed(&prng, live->index);
    for (size_t at = 0; at < body; at += 8) {
        uint8_t eight[8];

        hf_store_u64(eight, hf_prng_next(&prng));
        hf_buf_put(out, eight, body - at < 8 ? body - at : 8);
    }
    digest_of(hf_slice(out->data + FAKE_PAGE, body), digest);
    memset(history, (int)(live->index % 251), sizeof(history));
    hf_buf_put_u64(&page, live->index);
    hf_buf_put_u64(&page, live->term);
    hf_buf_put_u64(&page, live->configuration_index);
    hf_buf_put_u64(&page, live->bytes);
    hf_buf_put_u32(&page, live->level);
    hf_buf_put(&page, digest, 16);
    hf_buf_put(&page, history, 16);
    hf_buf_put_slice(&page, hf_slice_str(live->configuration));
    memcpy(out->data, page.data, page.len);
    hf_buf_free(&page);
}

static bool read_info(struct hf_slice image, struct hf_store_info *info)
{
    struct hf_reader in = hf_reader(hf_slice(image.ptr, image.len < FAKE_PAGE ? image.len : FAKE_PAGE));
    const uint8_t *p;
    uint64_t bytes;

    *info = (struct hf_store_info){0};
    info->meta.applied_index = hf_read_u64(&in);
    info->meta.applied_term = hf_read_u64(&in);
    info->meta.configuration_index = hf_read_u64(&in);
    bytes = hf_read_u64(&in);
    info->level = hf_read_u32(&in);
    p = hf_reader_take(&in, 32);
    if (p != NULL) {
        memcpy(info->meta.digest, p, 16);
        memcpy(info->meta.history, p + 16, 16);
    }
    info->meta.configuration = hf_read_slice(&in);
    hf_buf_put(&info->configuration, info->meta.configuration.ptr, info->meta.configuration.len);
    info->meta.configuration = hf_buf_slice(&info->configuration);
    info->file_bytes = image.len;
    return !in.failed && bytes == image.len && image.len >= FAKE_PAGE;
}

void hf_store_info_free(struct hf_store_info *info)
{
    hf_buf_free(&info->configuration);
}

static struct hf_fs *fs_of(const char *path)
{
    return fake_store.fs[path[1] - '0'];
}

int hf_store_copy_open(const char *path, const char *vfs, const char *to, struct hf_store_copy **out, char *why,
                       size_t why_size)
{
    struct fake_live *live = &fake_store.live[path[1] - '0'];
    struct hf_store_copy *c;
    int rc = live->open_rc;

    (void)vfs;
    if (rc != 0) {
        snprintf(why, why_size, "%s: cannot be opened by this test", path);
        return rc;
    }
    c = hf_calloc(1, sizeof(*c));
    c->fs = fs_of(to);
    c->live = live;
    c->to = hf_strdup(to);
    fake_store_image(live, &c->image);
    rc = c->fs->open(c->fs, to, HF_FS_WRITE | HF_FS_CREATE | HF_FS_EXCL, &c->file);
    if (rc != 0) {
        snprintf(why, why_size, "%s: %s", to, hf_strerror(rc));
        hf_buf_free(&c->image);
        hf_free(c->to);
        hf_free(c);
        return rc;
    }
    fake_store.copies_open++;
    *out = c;
    return 0;
}

int hf_store_copy_step(struct hf_store_copy *c, uint64_t bytes, bool *done)
{
    uint64_t left = c->image.len - c->done, n = c->live->step_bytes != 0 ? c->live->step_bytes : bytes;
    int rc;

    if (n > left)
        n = left;
    if (c->live->step_rc != 0 && c->done + n > c->live->fail_at)
        return c->live->step_rc;
    rc = c->fs->write(c->fs, c->file, c->done, c->image.data + c->done, (size_t)n);
    if (rc != 0)
        return rc;
    c->done += n;
    *done = c->done == c->image.len;
    if (!*done)
        return 0;
    rc = c->fs->sync(c->fs, c->file);
    c->is_complete = rc == 0 && read_info(hf_buf_slice(&c->image), &c->info);
    return rc;
}

void hf_store_copy_progress(const struct hf_store_copy *c, uint64_t *done_bytes, uint64_t *total_bytes)
{
    *done_bytes = c->done;
    *total_bytes = c->image.len;
}

const char *hf_store_copy_why(const struct hf_store_copy *c)
{
    (void)c;
    return "the copy fails in this test";
}

const struct hf_store_info *hf_store_copy_info(const struct hf_store_copy *c)
{
    return &c->info;
}

void hf_store_copy_close(struct hf_store_copy *c)
{
    c->fs->close(c->fs, c->file);
    if (!c->is_complete)
        (void)!c->fs->unlink(c->fs, c->to);
    hf_store_info_free(&c->info);
    hf_buf_free(&c->image);
    hf_free(c->to);
    hf_free(c);
    fake_store.copies_open--;
}

int hf_store_verify_digest(const char *path, const char *vfs, struct hf_store_info *info,
                           bool (*progress)(void *data, uint64_t done, uint64_t total), void *data, char *why,
                           size_t why_size)
{
    struct hf_fs *fs = fs_of(path);
    struct hf_file *f;
    uint64_t size;
    uint8_t *bytes, digest[16];
    size_t got = 0;
    int rc = fs->open(fs, path, HF_FS_READ, &f);

    (void)vfs;
    if (rc != 0)
        return rc;
    fake_store.verified++;
    rc = fs->size(fs, f, &size);
    bytes = hf_calloc(1, size != 0 ? size : 1);
    if (rc == 0)
        rc = fs->read(fs, f, 0, bytes, size, &got);
    fs->close(fs, f);
    if (rc == 0)
        rc = fake_store.live[path[1] - '0'].verify_rc;
    if (rc == 0 && progress != NULL && !progress(data, 1, 2))
        rc = HF_E_CANCELED;
    if (rc == 0) {
        bool is_good = read_info(hf_slice(bytes, got), info);

        if (is_good) {
            digest_of(hf_slice(bytes + FAKE_PAGE, got - FAKE_PAGE), digest);
            is_good = memcmp(digest, info->meta.digest, 16) == 0;
        }
        if (!is_good) {
            snprintf(why, why_size, "%s: not the rows that its digest is of", path);
            hf_store_info_free(info);
            rc = HF_E_CORRUPT;
        }
    } else {
        snprintf(why, why_size, "%s: cannot be verified by this test", path);
    }
    hf_free(bytes);
    return rc;
}
