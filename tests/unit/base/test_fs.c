/* test_fs.c: small files, on a disk of two files in memory that writes down the order of its operations. */
#include "test_base.h"

#include "base/buf.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/util.h"

struct hf_file {
    bool is_used;
    char path[64];
    struct hf_buf bytes;
};

struct disk {
    struct hf_fs fs; /* first */
    struct hf_file files[4];
    struct hf_buf journal; /* one letter an operation */
    char fail_at;          /* the operation that fails */
};

static int note(struct hf_fs *fs, char letter)
{
    struct disk *d = (struct disk *)(void *)fs;

    if (letter == d->fail_at)
        return HF_E_IO;
    hf_buf_put_u8(&d->journal, (uint8_t)letter);
    return 0;
}

static struct hf_file *find(struct disk *d, const char *path)
{
    for (size_t i = 0; i < 4; i++) {
        if (d->files[i].is_used && strcmp(d->files[i].path, path) == 0)
            return &d->files[i];
    }
    return NULL;
}

static int disk_open(struct hf_fs *fs, const char *path, int flags, struct hf_file **out)
{
    struct disk *d = (struct disk *)(void *)fs;

    *out = find(d, path);
    for (size_t i = 0; i < 4 && *out == NULL && (flags & HF_FS_CREATE); i++) {
        if (d->files[i].is_used)
            continue;
        *out = &d->files[i];
        (*out)->is_used = true;
        strcpy((*out)->path, path);
    }
    return *out ? 0 : HF_E_NOENT;
}

static void disk_close(struct hf_fs *fs, struct hf_file *f)
{
    (void)fs;
    (void)f;
}

static int disk_read(struct hf_fs *fs, struct hf_file *f, uint64_t offset, void *buf, size_t n, size_t *got)
{
    (void)fs;
    ck_assert_uint_eq(offset, 0);
    *got = n < f->bytes.len ? n : f->bytes.len;
    memcpy(buf, f->bytes.data, *got);
    return 0;
}

static int disk_write(struct hf_fs *fs, struct hf_file *f, uint64_t offset, const void *buf, size_t n)
{
    ck_assert_uint_eq(offset, f->bytes.len);
    hf_buf_put(&f->bytes, buf, n);
    return note(fs, 'w');
}

static int disk_sync(struct hf_fs *fs, struct hf_file *f)
{
    (void)f;
    return note(fs, 's');
}

static int disk_truncate(struct hf_fs *fs, struct hf_file *f, uint64_t size)
{
    (void)fs;
    ck_assert_uint_eq(size, 0);
    f->bytes.len = 0;
    return 0;
}

static int disk_size(struct hf_fs *fs, struct hf_file *f, uint64_t *out)
{
    (void)fs;
    *out = f->bytes.len;
    return 0;
}

static int disk_rename(struct hf_fs *fs, const char *from, const char *to)
{
    struct disk *d = (struct disk *)(void *)fs;
    struct hf_file *src = find(d, from), *old = find(d, to);
    int rc = note(fs, 'r');

    if (rc != 0)
        return rc;
    if (old != NULL) {
        hf_buf_free(&old->bytes);
        old->is_used = false;
    }
    strcpy(src->path, to);
    return 0;
}

static int disk_sync_dir(struct hf_fs *fs, const char *path)
{
    ck_assert_str_eq(path, "data");
    return note(fs, 'd');
}

static void disk_init(struct disk *d)
{
    *d = (struct disk){.fs = {.open = disk_open,
                              .close = disk_close,
                              .read = disk_read,
                              .write = disk_write,
                              .sync = disk_sync,
                              .truncate = disk_truncate,
                              .size = disk_size,
                              .rename = disk_rename,
                              .sync_dir = disk_sync_dir}};
}

static void disk_free(struct disk *d)
{
    for (size_t i = 0; i < 4; i++)
        hf_buf_free(&d->files[i].bytes);
    hf_buf_free(&d->journal);
}

static void expect_content(struct disk *d, const char *text)
{
    uint8_t *out;
    size_t n;

    ck_assert_int_eq(hf_fs_read_small(&d->fs, "data/f", 100, &out, &n), 0);
    ck_assert_uint_eq(n, strlen(text));
    ck_assert_mem_eq(out, text, n + 1); /* with a final 0 behind */
    hf_free(out);
}

START_TEST(test_small_file_order_of_effects)
{
    struct disk d;

    disk_init(&d);
    ck_assert_int_eq(hf_fs_write_small(&d.fs, "data/f", "one", 3), 0);
    expect_content(&d, "one");
    /* A longer leftover of an interrupted write must not shine through. */
    d.fail_at = 'r';
    ck_assert_int_eq(hf_fs_write_small(&d.fs, "data/f", "a much longer content", 21), HF_E_IO);
    expect_content(&d, "one");
    d.fail_at = 0;
    d.journal.len = 0;
    ck_assert_int_eq(hf_fs_write_small(&d.fs, "data/f", "two", 3), 0);
    expect_content(&d, "two");
    ck_assert(hf_slice_eq(hf_buf_slice(&d.journal), hf_slice_str("wsrd")));
    ck_assert_int_eq(hf_fs_write_small(&d.fs, "data/f", "", 0), 0);
    expect_content(&d, "");
    disk_free(&d);
}
END_TEST

START_TEST(test_small_file_failures_keep_the_old_content)
{
    static const char ops[] = "wsr";

    for (const char *op = ops; *op != '\0'; op++) {
        struct disk d;

        disk_init(&d);
        ck_assert_int_eq(hf_fs_write_small(&d.fs, "data/f", "old", 3), 0);
        d.journal.len = 0;
        d.fail_at = *op;
        ck_assert_int_eq(hf_fs_write_small(&d.fs, "data/f", "new", 3), HF_E_IO);
        ck_assert_uint_eq(d.journal.len, (size_t)(op - ops)); /* nothing after the failure */
        expect_content(&d, "old");
        disk_free(&d);
    }
}
END_TEST

START_TEST(test_small_file_damage_is_seen)
{
    uint8_t *out = NULL;
    struct disk d;
    struct hf_file *f;
    size_t n, whole;

    disk_init(&d);
    ck_assert_int_eq(hf_fs_read_small(&d.fs, "data/f", 100, &out, &n), HF_E_NOENT);
    ck_assert_int_eq(hf_fs_write_small(&d.fs, "data/f", "content", 7), 0);
    f = find(&d, "data/f");
    whole = f->bytes.len;
    for (size_t bit = 0; bit < whole * 8; bit++) {
        f->bytes.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        ck_assert_int_eq(hf_fs_read_small(&d.fs, "data/f", 100, &out, &n), HF_E_CORRUPT);
        f->bytes.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    for (f->bytes.len = 0; f->bytes.len < whole; f->bytes.len++)
        ck_assert_int_eq(hf_fs_read_small(&d.fs, "data/f", 100, &out, &n), HF_E_CORRUPT);
    expect_content(&d, "content");
    ck_assert_int_eq(hf_fs_read_small(&d.fs, "data/f", 6, &out, &n), HF_E_CORRUPT); /* over the limit */
    for (f->bytes.len = 0; f->bytes.len < 40; hf_buf_put_u8(&f->bytes, 0))          /* a file of zeroes of any length */
        ck_assert_int_eq(hf_fs_read_small(&d.fs, "data/f", 100, &out, &n), HF_E_CORRUPT);
    f->bytes.len = 0; /* another format, in itself sound */
    hf_buf_put_u32(&f->bytes, 0x32534648);
    hf_buf_put_u32(&f->bytes, hf_crc32c(0, f->bytes.data, 4));
    ck_assert_int_eq(hf_fs_read_small(&d.fs, "data/f", 100, &out, &n), HF_E_CORRUPT);
    ck_assert_ptr_null(out);
    disk_free(&d);
}
END_TEST

TCase *fs_case(void)
{
    TCase *tc = tcase_create("fs");

    tcase_add_test(tc, test_small_file_order_of_effects);
    tcase_add_test(tc, test_small_file_failures_keep_the_old_content);
    tcase_add_test(tc, test_small_file_damage_is_seen);
    return tc;
}
