/* fs.h: the file operations that durability rests on, behind one table so that the simulator can lose, tear,
 * delay and fail them. Used by the journal, the small metadata files and (through a VFS in the simulator)
 * SQLite. Every function may be called from any thread; one file is used by one thread at a time.
 * All return 0 or a negative hf_err (HF_E_NOSPC is told apart from HF_E_IO). */
#ifndef HF_BASE_FS_H
#define HF_BASE_FS_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hf_file; /* opaque */

enum hf_fs_flags {
    HF_FS_READ = 0,        /* read only */
    HF_FS_WRITE = 1 << 0,  /* read and write */
    HF_FS_CREATE = 1 << 1, /* create if missing */
    HF_FS_EXCL = 1 << 2,   /* with CREATE: HF_E_EXISTS if it is there */
};

struct hf_fs {
    HF_MUST_CHECK int (*open)(struct hf_fs *fs, const char *path, int flags, struct hf_file **out);
    void (*close)(struct hf_fs *fs, struct hf_file *f);
    /* Reads exactly n bytes, or fewer only at the end of the file: *got tells. */
    HF_MUST_CHECK int (*read)(struct hf_fs *fs, struct hf_file *f, uint64_t offset, void *buf, size_t n, size_t *got);
    /* Writes all n bytes or fails; after a failure any part may have been written. */
    HF_MUST_CHECK int (*write)(struct hf_fs *fs, struct hf_file *f, uint64_t offset, const void *buf, size_t n);
    /* Data and size durable (fdatasync). A failed sync is never retried: the data may be gone (callers stop). */
    HF_MUST_CHECK int (*sync)(struct hf_fs *fs, struct hf_file *f);
    HF_MUST_CHECK int (*truncate)(struct hf_fs *fs, struct hf_file *f, uint64_t size);
    /* Reserve real blocks for [0, size) and extend the file with zeroes (posix_fallocate). */
    HF_MUST_CHECK int (*allocate)(struct hf_fs *fs, struct hf_file *f, uint64_t size);
    HF_MUST_CHECK int (*size)(struct hf_fs *fs, struct hf_file *f, uint64_t *out);
    /* Exclusive advisory lock held until close; HF_E_LOCKED if another process has it. */
    HF_MUST_CHECK int (*lock)(struct hf_fs *fs, struct hf_file *f);

    HF_MUST_CHECK int (*mkdir)(struct hf_fs *fs, const char *path);                  /* HF_E_EXISTS */
    HF_MUST_CHECK int (*rename)(struct hf_fs *fs, const char *from, const char *to); /* replaces `to` */
    HF_MUST_CHECK int (*unlink)(struct hf_fs *fs, const char *path);                 /* HF_E_NOENT */
    HF_MUST_CHECK int (*sync_dir)(struct hf_fs *fs, const char *path);               /* names durable */
    /* Calls cb for each name in the directory except . and .., in byte order (implementations sort). */
    HF_MUST_CHECK int (*list)(struct hf_fs *fs, const char *path, void (*cb)(void *data, const char *name), void *data);
    HF_MUST_CHECK int (*free_bytes)(struct hf_fs *fs, const char *path, uint64_t *out); /* for this user */
};

/* Replace a small file so that a crash leaves the old or the new content: write `path`.tmp, sync, rename,
 * sync the directory. The content gets a CRC32C trailer that hf_fs_read_small checks. */
HF_MUST_CHECK int hf_fs_write_small(struct hf_fs *fs, const char *path, const void *data, size_t n);
/* Reads a file written so: *out is hf_malloc'ed (caller frees), n_max is the limit. HF_E_NOENT, HF_E_CORRUPT. */
HF_MUST_CHECK int hf_fs_read_small(struct hf_fs *fs, const char *path, size_t n_max, uint8_t **out, size_t *n);

#endif
