/* vfs.h: SQLite on an hf_fs, so that the simulator's disk can lose, tear and fail SQLite's files like any other. One
 * VFS per node; everything of a node runs on one thread, so the WAL's shared memory is plain heap. Locks are kept,
 * because a node has several connections to one database while it makes a copy. */
#ifndef HF_SIM_VFS_H
#define HF_SIM_VFS_H

#include "base/fs.h"

struct hf_sim_vfs;

/* name is copied; the fs can be exchanged while no file is open. */
struct hf_sim_vfs *hf_sim_vfs_new(const char *name, struct hf_fs *fs);
void hf_sim_vfs_free(struct hf_sim_vfs *v);
const char *hf_sim_vfs_name(const struct hf_sim_vfs *v);

#endif
