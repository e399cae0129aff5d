/* fake_fs.h: a disk in memory for tests, with the ways in which real disks disappoint. What was not synced may be
 * lost, kept or torn at sector size when the power goes; names that were not made durable by sync_dir may be lost;
 * operations can be made to fail. Deterministic for a seed. Not thread-safe. */
#ifndef HF_SUPPORT_FAKE_FS_H
#define HF_SUPPORT_FAKE_FS_H

#include "base/fs.h"
#include "base/util.h"

struct hf_fake_fs;

struct hf_fake_fs *hf_fake_fs_new(void);
void hf_fake_fs_free(struct hf_fake_fs *f);
struct hf_fs *hf_fake_fs_ops(struct hf_fake_fs *f);

/* Power loss: a new disk with what survived, decided by the generator. The old one goes on working for whoever still
 * holds it (nothing it does matters any more). */
struct hf_fake_fs *hf_fake_fs_crash(struct hf_fake_fs *f, struct hf_prng *prng);
/* From now on syncs return success but make nothing durable (the moment before a power loss). */
void hf_fake_fs_stop_syncing(struct hf_fake_fs *f);

enum hf_fake_fs_op { HF_FAKE_READ = 1, HF_FAKE_WRITE = 2, HF_FAKE_SYNC = 4, HF_FAKE_META = 8, HF_FAKE_ANY = 15 };
/* The n-th operation from now (1 = the next) out of the mask fails with err, once (or for ever with `sticky`). */
void hf_fake_fs_fail(struct hf_fake_fs *f, int op_mask, uint64_t n, int err, bool sticky);
/* Bytes the disk can hold; writes and allocations beyond give HF_E_NOSPC. 0 = no limit. */
void hf_fake_fs_limit(struct hf_fake_fs *f, uint64_t bytes_max);
/* Flip one bit of a file's durable and present content. False when there is no such byte. */
bool hf_fake_fs_flip(struct hf_fake_fs *f, const char *path, uint64_t offset, int bit);
uint64_t hf_fake_fs_used(const struct hf_fake_fs *f);
uint64_t hf_fake_fs_ops_done(const struct hf_fake_fs *f);
/* Number of open files (leak checks). */
int hf_fake_fs_open_files(const struct hf_fake_fs *f);

#endif
