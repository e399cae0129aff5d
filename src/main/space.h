/* space.h: watches the free space of the data directory's disk (R15). Four levels, told in the log, by metrics
 * (disk_space_level, disk_free_bytes, disk_reserve_bytes) and by the node's status:
 *
 *   0  enough
 *   1  warning: less than twice min-free-disk is free. Nothing is refused yet
 *   2  low: less than min-free-disk is free. Every member learns of it and refuses commands that may grow the state
 *      (NOSPACE); reads, deletes and changes of the cluster go on
 *   3  critical: so little is free that the next commit of the database may not fit. The reserve is given up: the file
 *      DIR/ballast, filled while there was space, is deleted. Its size is a quarter of min-free-disk, at most 64 MiB,
 *      which is about the most that one commit needs
 *
 * A level is left a tenth above its mark, so that it does not flap; the reserve is made again as soon as it fits above
 * the mark of level 2. Nothing needs a restart. Deleting the file by hand is always allowed.
 *
 * A node that stops for lack of space gives the reserve up as well, and so does one that starts on a full disk: it then
 * has what it needs to come back.
 *
 * Part of node: opened last, closed first. Loop thread only; the file system is asked on a thread of its own, because a
 * hung disk must not hold the loop. */
#ifndef HF_MAIN_SPACE_H
#define HF_MAIN_SPACE_H

#include "base/env.h"
#include "base/stats.h"
#include "consensus/consensus.h"
#include "dispatch/dispatch.h"

struct hf_space;

#define HF_SPACE_BALLAST_BYTES_MAX (UINT64_C(64) << 20)

enum hf_space_level {
    HF_SPACE_ENOUGH = 0,
    HF_SPACE_WARNING,
    HF_SPACE_LOW,
    HF_SPACE_CRITICAL,
};

struct hf_space_config {
    const char *dir;         /* data directory; copied */
    uint64_t free_bytes_min; /* mark of level 2 (min-free-disk); 0 = nothing is watched, no reserve is kept */
};

/* Before anything is opened in the directory: makes room if the disk is full, by deleting the reserve. */
void hf_space_make_room(struct hf_env *env, const struct hf_space_config *config);

/* Everything but config is borrowed for the life of the object. */
HF_MUST_CHECK int hf_space_open(struct hf_env *env, const struct hf_space_config *config,
                                struct hf_consensus *consensus, struct hf_dispatcher *dispatcher,
                                struct hf_stats *stats, struct hf_space **out);
/* Waits for the look at the disk that is under way. NULL is allowed. */
void hf_space_close(struct hf_space *space);
/* The node is about to stop because a file could not grow: delete the reserve, for the next start. NULL is allowed. */
void hf_space_give_up(struct hf_space *space);
/* Another value of min-free-disk from now on. */
void hf_space_set_min(struct hf_space *space, uint64_t free_bytes_min);

/* "" or what the operator should know about this node's disk. Copy it: it is gone with the turn of the loop. "" for
 * NULL. */
#define HF_SPACE_PROBLEM_BYTES 192
const char *hf_space_problem(const struct hf_space *space);
/* Free bytes when the disk was last looked at, 0 before; 0 for NULL. */
uint64_t hf_space_free_bytes(const struct hf_space *space);
/* Writes that grow the state are refused because of this node's disk. False for NULL. */
bool hf_space_is_low(const struct hf_space *space);

#endif
