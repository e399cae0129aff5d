/* space.h: watches the free space of the data directory's disk and decides when it is too low for writes (R15). Part of
 * node: opened last, closed first. Loop thread only; the file system is asked on a thread of its own. */
#ifndef HF_MAIN_SPACE_H
#define HF_MAIN_SPACE_H

#include "base/env.h"
#include "base/stats.h"
#include "consensus/consensus.h"
#include "dispatch/dispatch.h"

struct hf_space;

struct hf_space_config {
    const char *dir;         /* data directory; copied */
    uint64_t free_bytes_min; /* below this, writes that grow the state are refused; 0 = never, nothing is watched */
};

/* Everything but config is borrowed for the life of the object. */
HF_MUST_CHECK int hf_space_open(struct hf_env *env, const struct hf_space_config *config,
                                struct hf_consensus *consensus, struct hf_dispatcher *dispatcher,
                                struct hf_stats *stats, struct hf_space **out);
/* Waits for the look at the disk that is under way. NULL is allowed. */
void hf_space_close(struct hf_space *space);

/* "" or what the operator should know about this node's disk. Valid until the next turn of the loop; "" for NULL. */
const char *hf_space_problem(const struct hf_space *space);
/* Free bytes when the disk was last looked at, 0 before; 0 for NULL. */
uint64_t hf_space_free_bytes(const struct hf_space *space);
/* Writes that grow the state are refused because of this node's disk. */
bool hf_space_is_low(const struct hf_space *space);

#endif
