/* disk.h: a disk in memory for tests, with the ways in which real disks disappoint. What was not synced may be
 * lost, kept or torn at sector size when the power goes; names that were not made durable by sync_dir may be lost;
 * operations can be made to fail. Deterministic for a seed. Not thread-safe. */
#ifndef HF_SIM_DISK_H
#define HF_SIM_DISK_H

#include "base/fs.h"
#include "base/util.h"

struct hf_sim_disk;

struct hf_sim_disk *hf_sim_disk_new(void);
void hf_sim_disk_free(struct hf_sim_disk *f);
struct hf_fs *hf_sim_disk_ops(struct hf_sim_disk *f);

/* Power loss: a new disk with what survived, decided by the generator. The old one goes on working for whoever still
 * holds it (nothing it does matters any more). */
struct hf_sim_disk *hf_sim_disk_crash(struct hf_sim_disk *f, struct hf_prng *prng);
/* The power goes while the coming operations are under way: the first sync never ends, so it makes nothing durable and
 * nothing after it happens (though all return success). Called again for each further thread that is at work. */
void hf_sim_disk_stop_syncing(struct hf_sim_disk *f);

enum hf_sim_disk_op { HF_SIM_READ = 1, HF_SIM_WRITE = 2, HF_SIM_SYNC = 4, HF_SIM_META = 8, HF_SIM_ANY = 15 };
/* The n-th operation from now (1 = the next) out of the mask fails with err, once (or for ever with `sticky`). */
void hf_sim_disk_fail(struct hf_sim_disk *f, int op_mask, uint64_t n, int err, bool sticky);
/* Bytes the disk can hold; writes and allocations beyond give HF_E_NOSPC. 0 = no limit. */
void hf_sim_disk_limit(struct hf_sim_disk *f, uint64_t bytes_max);
/* Flip one bit of a file's durable and present content. False when there is no such byte. */
bool hf_sim_disk_flip(struct hf_sim_disk *f, const char *path, uint64_t offset, int bit);
uint64_t hf_sim_disk_used(const struct hf_sim_disk *f);
uint64_t hf_sim_disk_ops_done(const struct hf_sim_disk *f);
/* Number of open files (leak checks). */
int hf_sim_disk_open_files(const struct hf_sim_disk *f);

#endif
