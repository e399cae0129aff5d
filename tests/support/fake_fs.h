/* fake_fs.h: a file system in memory that behaves at a power loss as badly as a real one may. What was synced
 * stays; each write since is kept, dropped or torn at sectors of 512 bytes; names that were not made durable by
 * sync_dir may vanish (or an old name come back). One seed decides. One thread only. */
#ifndef HF_TESTS_FAKE_FS_H
#define HF_TESTS_FAKE_FS_H

#include "base/fs.h"

#include <stdbool.h>
#include <stdint.h>

struct hf_fake_fs;

/* Kinds of operations, for failpoints. */
enum hf_fake_op {
    HF_FAKE_OPEN = 1 << 0,
    HF_FAKE_READ = 1 << 1,
    HF_FAKE_WRITE = 1 << 2,
    HF_FAKE_SYNC = 1 << 3,
    HF_FAKE_TRUNCATE = 1 << 4,
    HF_FAKE_ALLOCATE = 1 << 5,
    HF_FAKE_NAME = 1 << 6, /* mkdir, rename, unlink */
    HF_FAKE_SYNC_DIR = 1 << 7,
    HF_FAKE_LIST = 1 << 8,
    HF_FAKE_CHANGES =
        HF_FAKE_WRITE | HF_FAKE_SYNC | HF_FAKE_TRUNCATE | HF_FAKE_ALLOCATE | HF_FAKE_NAME | HF_FAKE_SYNC_DIR,
    HF_FAKE_ANY = (1 << 9) - 1,
};

/* How a crash treats what was not synced. */
enum hf_fake_loss {
    HF_FAKE_LOSS_RANDOM = 0, /* drawn: one of the others, or each write on its own (most of the time) */
    HF_FAKE_LOSS_NOTHING,    /* the process died, the machine did not: a later power loss may still take it */
    HF_FAKE_LOSS_ALL,
    HF_FAKE_LOSS_EACH, /* each write kept, dropped or torn; each name kept or dropped */
};

struct hf_fake_fs *hf_fake_fs_new(uint64_t seed);
void hf_fake_fs_free(struct hf_fake_fs *ff);
struct hf_fs *hf_fake_fs_table(struct hf_fake_fs *ff);

/* Power loss. Open files stay open but every operation on them fails with HF_E_IO from now on (close works), as
 * does every other operation until hf_fake_fs_revive. */
void hf_fake_fs_crash(struct hf_fake_fs *ff, enum hf_fake_loss loss);
void hf_fake_fs_revive(struct hf_fake_fs *ff);
bool hf_fake_fs_is_dead(const struct hf_fake_fs *ff);

/* The n-th operation from now (1 = the next) among `ops` fails with err, without effect (a failing write may have
 * any part of its effect), and so do all after it when `sticky`. n 0 = off. */
void hf_fake_fs_fail_at(struct hf_fake_fs *ff, int ops, uint64_t n, int err, bool sticky);
/* Power loss in the middle of the n-th operation among `ops` from now: it becomes part of what was not synced, and
 * everything fails as after hf_fake_fs_crash. n 0 = off. */
void hf_fake_fs_crash_at(struct hf_fake_fs *ff, int ops, uint64_t n, enum hf_fake_loss loss);
/* Operations of all kinds / of HF_FAKE_CHANGES so far. */
uint64_t hf_fake_fs_ops(const struct hf_fake_fs *ff, int ops);
/* Bytes that all files together may have. */
void hf_fake_fs_set_capacity(struct hf_fake_fs *ff, uint64_t bytes);
uint64_t hf_fake_fs_used(const struct hf_fake_fs *ff);

/* Damage and inspection, by path; false when there is no such file or offset. */
bool hf_fake_fs_flip_bit(struct hf_fake_fs *ff, const char *path, uint64_t offset, unsigned bit);
bool hf_fake_fs_peek(struct hf_fake_fs *ff, const char *path, const uint8_t **data, uint64_t *size);

/* Write all files out below a real directory, to look at them after a failure. */
bool hf_fake_fs_dump(struct hf_fake_fs *ff, const char *to_dir);

#endif
