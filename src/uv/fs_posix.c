/* fs_posix.c: struct hf_fs on the kernel. Stateless, so any thread may use it. */
#include "uv/internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

struct hf_file {
    int fd;
};

#define FILE_MODE  0640
#define DIR_MODE   0750
#define ZERO_BYTES 65536

static int last_error(void)
{
    return hf_err_from_errno(errno);
}

static int posix_open(struct hf_fs *fs, const char *path, int flags, struct hf_file **out)
{
    int mode = O_CLOEXEC | ((flags & HF_FS_WRITE) ? O_RDWR : O_RDONLY);
    int fd;

    (void)fs;
    if (flags & HF_FS_CREATE)
        mode |= O_CREAT;
    if (flags & HF_FS_EXCL)
        mode |= O_EXCL;
    do
        fd = open(path, mode, FILE_MODE);
    while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return last_error();
    *out = hf_malloc(sizeof(**out));
    (*out)->fd = fd;
    return 0;
}

static void posix_close(struct hf_fs *fs, struct hf_file *f)
{
    (void)fs;
    close(f->fd); /* what must be durable was synced before: nothing to learn from its result */
    hf_free(f);
}

static int posix_read(struct hf_fs *fs, struct hf_file *f, uint64_t offset, void *buf, size_t n, size_t *got)
{
    size_t done = 0;

    (void)fs;
    while (done < n) {
        ssize_t rc = pread(f->fd, (uint8_t *)buf + done, n - done, (off_t)(offset + done));

        if (rc < 0) {
            if (errno == EINTR)
                continue;
            return last_error();
        }
        if (rc == 0)
            break;
        done += (size_t)rc;
    }
    *got = done;
    return 0;
}

static int posix_write(struct hf_fs *fs, struct hf_file *f, uint64_t offset, const void *buf, size_t n)
{
    size_t done = 0;

    (void)fs;
    while (done < n) {
        ssize_t rc = pwrite(f->fd, (const uint8_t *)buf + done, n - done, (off_t)(offset + done));

        if (rc < 0) {
            if (errno == EINTR)
                continue;
            return last_error();
        }
        if (rc == 0)
            return HF_E_IO;
        done += (size_t)rc;
    }
    return 0;
}

static int posix_sync(struct hf_fs *fs, struct hf_file *f)
{
    (void)fs;
    /* No retry, not even after EINTR: a second call may report success for pages that the first one lost. */
    return fdatasync(f->fd) == 0 ? 0 : last_error();
}

static int posix_truncate(struct hf_fs *fs, struct hf_file *f, uint64_t size)
{
    int rc;

    (void)fs;
    do
        rc = ftruncate(f->fd, (off_t)size);
    while (rc != 0 && errno == EINTR);
    return rc == 0 ? 0 : last_error();
}

static int posix_size(struct hf_fs *fs, struct hf_file *f, uint64_t *out)
{
    struct stat st;

    (void)fs;
    if (fstat(f->fd, &st) != 0)
        return last_error();
    *out = (uint64_t)st.st_size;
    return 0;
}

static int write_zeroes(struct hf_fs *fs, struct hf_file *f, uint64_t from, uint64_t to)
{
    uint8_t *zero = hf_calloc(1, ZERO_BYTES);
    int rc = 0;

    while (rc == 0 && from < to) {
        size_t n = to - from < ZERO_BYTES ? (size_t)(to - from) : ZERO_BYTES;

        rc = posix_write(fs, f, from, zero, n);
        from += n;
    }
    hf_free(zero);
    return rc;
}

/* fallocate(2) rather than posix_fallocate: glibc's own fallback touches one byte a block, which neither fills a
 * copy-on-write file system's blocks nor is faster than plain zeroes. */
static int posix_allocate(struct hf_fs *fs, struct hf_file *f, uint64_t size)
{
    uint64_t now = size;
    int rc;

    if (size == 0)
        return 0;
    do
        rc = fallocate(f->fd, 0, 0, (off_t)size);
    while (rc != 0 && errno == EINTR);
    if (rc == 0)
        return 0;
    if (errno != EOPNOTSUPP && errno != ENOSYS)
        return last_error();
    rc = posix_size(fs, f, &now);
    return rc != 0 ? rc : write_zeroes(fs, f, now, size);
}

static int posix_lock(struct hf_fs *fs, struct hf_file *f)
{
    (void)fs;
    if (flock(f->fd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    return errno == EWOULDBLOCK ? HF_E_LOCKED : last_error();
}

static int posix_mkdir(struct hf_fs *fs, const char *path)
{
    (void)fs;
    return mkdir(path, DIR_MODE) == 0 ? 0 : last_error();
}

static int posix_rename(struct hf_fs *fs, const char *from, const char *to)
{
    (void)fs;
    return rename(from, to) == 0 ? 0 : last_error();
}

static int posix_unlink(struct hf_fs *fs, const char *path)
{
    (void)fs;
    return unlink(path) == 0 ? 0 : last_error();
}

static int posix_sync_dir(struct hf_fs *fs, const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc;

    (void)fs;
    if (fd < 0)
        return last_error();
    rc = fsync(fd) == 0 ? 0 : last_error();
    close(fd);
    return rc;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int posix_list(struct hf_fs *fs, const char *path, void (*cb)(void *data, const char *name), void *data)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    char **names = NULL;
    size_t n = 0, cap = 0;
    int rc;

    (void)fs;
    if (dir == NULL)
        return last_error();
    while (errno = 0, (entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (n == cap) {
            cap = cap ? cap * 2 : 32;
            names = hf_realloc(names, cap * sizeof(*names));
        }
        names[n++] = hf_strdup(entry->d_name);
    }
    rc = last_error();
    closedir(dir);
    if (n > 0)
        qsort(names, n, sizeof(*names), compare_names);
    for (size_t i = 0; i < n; i++) {
        if (rc == 0)
            cb(data, names[i]);
        hf_free(names[i]);
    }
    hf_free(names);
    return rc;
}

static int posix_free_bytes(struct hf_fs *fs, const char *path, uint64_t *out)
{
    struct statvfs st;

    (void)fs;
    if (statvfs(path, &st) != 0)
        return last_error();
    *out = (uint64_t)st.f_bavail * st.f_frsize;
    return 0;
}

void hf_uv_fs_init(struct hf_fs *fs)
{
    *fs = (struct hf_fs){
        .open = posix_open,
        .close = posix_close,
        .read = posix_read,
        .write = posix_write,
        .sync = posix_sync,
        .truncate = posix_truncate,
        .allocate = posix_allocate,
        .size = posix_size,
        .lock = posix_lock,
        .mkdir = posix_mkdir,
        .rename = posix_rename,
        .unlink = posix_unlink,
        .sync_dir = posix_sync_dir,
        .list = posix_list,
        .free_bytes = posix_free_bytes,
    };
}
