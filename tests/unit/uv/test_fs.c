/* test_fs.c: the file operations on a real directory. */
#include "test_uv.h"

#include "base/buf.h"
#include "base/fs.h"
#include "base/mem.h"
#include "uv/uv_env.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct hf_fs fs;
static char dir[64];
static char path[128];

static void set_up(void)
{
    hf_uv_fs_init(&fs);
    ck_assert_ptr_nonnull(mkdtemp(strcpy(dir, "/tmp/holdfast-fs-XXXXXX")));
}

static const char *in_dir(const char *name)
{
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

static void remove_name(void *data, const char *name)
{
    (void)data;
    remove(in_dir(name));
}

static void tear_down(void)
{
    ck_assert_int_eq(fs.list(&fs, dir, remove_name, NULL), 0);
    ck_assert_int_eq(rmdir(dir), 0);
}

START_TEST(test_write_read_truncate)
{
    struct hf_file *f;
    char bytes[16];
    uint64_t size;
    size_t got;

    ck_assert_int_eq(fs.open(&fs, in_dir("a"), HF_FS_READ, &f), HF_E_NOENT);
    ck_assert_int_eq(fs.open(&fs, in_dir("a"), HF_FS_WRITE, &f), HF_E_NOENT);
    ck_assert_int_eq(fs.open(&fs, in_dir("a"), HF_FS_WRITE | HF_FS_CREATE | HF_FS_EXCL, &f), 0);
    ck_assert_int_eq(fs.write(&fs, f, 5, "hello", 5), 0);
    ck_assert_int_eq(fs.sync(&fs, f), 0);
    ck_assert_int_eq(fs.size(&fs, f, &size), 0);
    ck_assert_uint_eq(size, 10);
    ck_assert_int_eq(fs.read(&fs, f, 3, bytes, sizeof(bytes), &got), 0);
    ck_assert_uint_eq(got, 7);
    ck_assert_mem_eq(bytes, "\0\0hello", 7);
    ck_assert_int_eq(fs.read(&fs, f, 100, bytes, 1, &got), 0);
    ck_assert_uint_eq(got, 0);
    ck_assert_int_eq(fs.truncate(&fs, f, 6), 0);
    ck_assert_int_eq(fs.size(&fs, f, &size), 0);
    ck_assert_uint_eq(size, 6);
    fs.close(&fs, f);
    ck_assert_int_eq(fs.open(&fs, in_dir("a"), HF_FS_WRITE | HF_FS_CREATE | HF_FS_EXCL, &f), HF_E_EXISTS);
    ck_assert_int_eq(fs.open(&fs, in_dir("a"), HF_FS_WRITE | HF_FS_CREATE, &f), 0);
    ck_assert_int_eq(fs.size(&fs, f, &size), 0);
    ck_assert_uint_eq(size, 6); /* not cut by opening */
    fs.close(&fs, f);
    ck_assert_int_eq(fs.open(&fs, in_dir("a"), HF_FS_READ, &f), 0);
    ck_assert_int_ne(fs.write(&fs, f, 0, "x", 1), 0);
    fs.close(&fs, f);
}
END_TEST

START_TEST(test_allocate_reserves_blocks)
{
    uint8_t *bytes = hf_malloc(1 << 20);
    struct hf_file *f;
    struct stat st;
    uint64_t size;
    size_t got;

    ck_assert_int_eq(fs.open(&fs, in_dir("a"), HF_FS_WRITE | HF_FS_CREATE, &f), 0);
    ck_assert_int_eq(fs.write(&fs, f, 0, "head", 4), 0);
    ck_assert_int_eq(fs.allocate(&fs, f, 0), 0);
    ck_assert_int_eq(fs.allocate(&fs, f, 1 << 20), 0);
    ck_assert_int_eq(fs.size(&fs, f, &size), 0);
    ck_assert_uint_eq(size, 1 << 20);
    ck_assert_int_eq(fs.read(&fs, f, 0, bytes, 1 << 20, &got), 0);
    ck_assert_uint_eq(got, 1 << 20);
    ck_assert_mem_eq(bytes, "head", 4);
    for (size_t i = 4; i < got; i++)
        ck_assert_uint_eq(bytes[i], 0);
    fs.close(&fs, f);
    ck_assert_int_eq(stat(in_dir("a"), &st), 0);
    ck_assert_int_ge(st.st_blocks, (1 << 20) / 512); /* no hole */
    hf_free(bytes);
}
END_TEST

START_TEST(test_lock_excludes_others)
{
    struct hf_file *a, *b;
    int status;
    pid_t pid;

    ck_assert_int_eq(fs.open(&fs, in_dir("lock"), HF_FS_WRITE | HF_FS_CREATE, &a), 0);
    ck_assert_int_eq(fs.open(&fs, in_dir("lock"), HF_FS_WRITE | HF_FS_CREATE, &b), 0);
    ck_assert_int_eq(fs.lock(&fs, a), 0);
    ck_assert_int_eq(fs.lock(&fs, b), HF_E_LOCKED);
    pid = fork();
    if (pid == 0) {
        struct hf_file *c;
        int rc = fs.open(&fs, in_dir("lock"), HF_FS_WRITE, &c);

        _exit(rc == 0 && fs.lock(&fs, c) == HF_E_LOCKED ? 0 : 1);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    fs.close(&fs, a);
    ck_assert_int_eq(fs.lock(&fs, b), 0);
    fs.close(&fs, b);
}
END_TEST

static void append_name(void *data, const char *name)
{
    hf_buf_printf(data, "%s ", name);
}

START_TEST(test_directories)
{
    struct hf_buf names = {0};
    struct hf_file *f;
    uint64_t n_free = 0;
    char to[128];

    ck_assert_int_eq(fs.mkdir(&fs, in_dir("sub")), 0);
    ck_assert_int_eq(fs.mkdir(&fs, in_dir("sub")), HF_E_EXISTS);
    for (const char *name = "c\0a\0B\0b2\0b10\0"; *name != '\0'; name += strlen(name) + 1) {
        ck_assert_int_eq(fs.open(&fs, in_dir(name), HF_FS_WRITE | HF_FS_CREATE, &f), 0);
        fs.close(&fs, f);
    }
    ck_assert_int_eq(fs.list(&fs, dir, append_name, &names), 0);
    ck_assert(hf_slice_eq(hf_buf_slice(&names), hf_slice_str("B a b10 b2 c sub ")));
    names.len = 0;
    snprintf(to, sizeof(to), "%s/a", dir);
    ck_assert_int_eq(fs.rename(&fs, in_dir("c"), to), 0); /* replaces */
    ck_assert_int_eq(fs.rename(&fs, in_dir("c"), to), HF_E_NOENT);
    ck_assert_int_eq(fs.unlink(&fs, in_dir("B")), 0);
    ck_assert_int_eq(fs.unlink(&fs, in_dir("B")), HF_E_NOENT);
    ck_assert_int_eq(fs.sync_dir(&fs, dir), 0);
    ck_assert_int_eq(fs.sync_dir(&fs, in_dir("none")), HF_E_NOENT);
    ck_assert_int_eq(fs.list(&fs, dir, append_name, &names), 0);
    ck_assert(hf_slice_eq(hf_buf_slice(&names), hf_slice_str("a b10 b2 sub ")));
    ck_assert_int_eq(fs.list(&fs, in_dir("none"), append_name, &names), HF_E_NOENT);
    ck_assert_int_eq(fs.free_bytes(&fs, dir, &n_free), 0);
    ck_assert_uint_gt(n_free, 0);
    ck_assert_int_eq(fs.free_bytes(&fs, in_dir("none"), &n_free), HF_E_NOENT);
    hf_buf_free(&names);
}
END_TEST

START_TEST(test_small_file_on_a_real_disk)
{
    uint8_t *out;
    size_t n;

    ck_assert_int_eq(hf_fs_write_small(&fs, in_dir("small"), "one", 3), 0);
    ck_assert_int_eq(hf_fs_write_small(&fs, in_dir("small"), "two", 3), 0);
    ck_assert_int_eq(hf_fs_read_small(&fs, in_dir("small"), 10, &out, &n), 0);
    ck_assert_uint_eq(n, 3);
    ck_assert_mem_eq(out, "two", 3);
    hf_free(out);
    ck_assert_int_eq(access(in_dir("small.tmp"), F_OK), -1);
}
END_TEST

START_TEST(test_full_disk_is_told_apart)
{
    struct hf_file *f;
    int rc = fs.open(&fs, "/dev/full", HF_FS_WRITE, &f);

    if (rc != 0)
        return; /* no such device here */
    ck_assert_int_eq(fs.write(&fs, f, 0, "x", 1), HF_E_NOSPC);
    fs.close(&fs, f);
}
END_TEST

TCase *fs_case(void)
{
    TCase *tc = tcase_create("fs");

    tcase_add_checked_fixture(tc, set_up, tear_down);
    tcase_add_test(tc, test_write_read_truncate);
    tcase_add_test(tc, test_allocate_reserves_blocks);
    tcase_add_test(tc, test_lock_excludes_others);
    tcase_add_test(tc, test_directories);
    tcase_add_test(tc, test_small_file_on_a_real_disk);
    tcase_add_test(tc, test_full_disk_is_told_apart);
    return tc;
}
