/* world.h: a world of nodes on virtual time, one thread, one seed. Each node gets an hf_env whose timers, tasks,
 * worker threads and streams are events in one queue, and a disk (disk.h). The same seed gives the same run.
 *
 * A crash leaves the node's old env working on a detached copy of its disk, without network, so that its owner can be
 * closed and freed as usual; what survived on the real disk is decided before that. */
#ifndef HF_SIM_WORLD_H
#define HF_SIM_WORLD_H

#include "base/env.h"
#include "base/util.h"
#include "sim/disk.h"

struct hf_sim_world;
struct hf_sim_node;

#define HF_SIM_NODES_MAX 16

struct hf_sim_rules {
    uint64_t latency_min_us, latency_max_us; /* one way, per chunk of a stream */
    uint64_t job_min_us, job_max_us;         /* duration of a worker's job */
    uint32_t slow_job_per_mille;             /* of the jobs take slow_job_us */
    uint64_t slow_job_us;
    uint32_t reset_per_million; /* chunks that break their stream instead of arriving */
    uint64_t cut_timeout_ms;    /* a stream across a partition breaks after this long */
};

struct hf_sim_world *hf_sim_world_new(uint64_t seed);
void hf_sim_world_free(struct hf_sim_world *w);
struct hf_sim_rules *hf_sim_world_rules(struct hf_sim_world *w); /* change at any time */
struct hf_prng *hf_sim_world_prng(struct hf_sim_world *w);
uint64_t hf_sim_world_now_ms(const struct hf_sim_world *w);

/* A node is known by its number (0..) and listens on addresses "host:port" of its own choice. */
struct hf_sim_node *hf_sim_node_new(struct hf_sim_world *w, unsigned number);
struct hf_env *hf_sim_node_env(struct hf_sim_node *n);
struct hf_sim_disk *hf_sim_node_fs(struct hf_sim_node *n);
/* Power loss. The node object stays usable for closing its owner (which then sees a dead network and a disk that does
 * not matter); *disk gets the surviving disk for the next node object of that number. */
void hf_sim_node_crash(struct hf_sim_node *n, struct hf_sim_disk **disk);
/* After its owner is closed: frees the node. Its fs goes with it unless it was taken by keep_fs. */
void hf_sim_node_free(struct hf_sim_node *n);
/* Use this disk instead of an empty one (right after new; the node owns it). */
void hf_sim_node_set_fs(struct hf_sim_node *n, struct hf_sim_disk *fs);
/* Take the disk away before free (a clean restart). */
struct hf_sim_disk *hf_sim_node_take_fs(struct hf_sim_node *n);

void hf_sim_node_pause(struct hf_sim_node *n);
void hf_sim_node_resume(struct hf_sim_node *n);
/* A disk that hangs: no job of the executors of this name ends before then. */
void hf_sim_node_hang(struct hf_sim_node *n, const char *executor, uint64_t until_ms);
void hf_sim_node_set_wall_offset(struct hf_sim_node *n, int64_t offset_ms);

/* Directed: nothing sent from `a` reaches `b`. Heals deliver what was held back on streams that still live. */
void hf_sim_world_block(struct hf_sim_world *w, unsigned a, unsigned b, bool is_blocked);
void hf_sim_world_heal(struct hf_sim_world *w);

/* Run the next event, if it is due by until_ms; false (and time moves to until_ms) when there is none. */
bool hf_sim_world_step(struct hf_sim_world *w, uint64_t until_ms);
void hf_sim_world_run_until(struct hf_sim_world *w, uint64_t until_ms);

#endif
