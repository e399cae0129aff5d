/* fake_env.h: several nodes on one virtual clock. Each node has a struct hf_env of its own (timers, tasks, executors,
 * streams, a fake disk); streams between nodes have latency, arrive in random pieces, stall in a partition and break.
 * One seed decides everything, one thread runs everything, nothing waits: a run is repeated exactly by its seed.
 *
 * The life of a node: it is alive from the start. hf_fake_node_kill cuts it off from the world at that instant
 * (disk, streams, timers); the owner then closes its modules in the usual order, which only frees memory;
 * hf_fake_node_bury delivers the last on_close of its streams; hf_fake_node_boot starts it again on what its disk
 * kept. */
#ifndef HF_TESTS_FAKE_ENV_H
#define HF_TESTS_FAKE_ENV_H

#include "base/env.h"
#include "support/fake_fs.h"

struct hf_fake_world;

struct hf_fake_world_config {
    uint64_t seed;
    int nodes;
    /* 0 = the defaults in brackets */
    uint64_t latency_us_min, latency_us_max; /* one way between two nodes [50, 500] */
    uint64_t disk_us_min, disk_us_max;       /* one job of an executor [50, 400] */
    uint64_t break_ms;                       /* a stream with undelivered bytes breaks after this [3000] */
};

struct hf_fake_world *hf_fake_world_new(const struct hf_fake_world_config *config);
/* All nodes must have closed what they opened. */
void hf_fake_world_free(struct hf_fake_world *w);

uint64_t hf_fake_world_now_us(const struct hf_fake_world *w);
/* Uniform in [0, bound): for the test's own choices, from the same seed. */
uint64_t hf_fake_world_draw(struct hf_fake_world *w, uint64_t bound);

/* The next thing that happens, anywhere: tasks that are posted, else one event or timer. False: nothing ever will. */
bool hf_fake_world_step(struct hf_fake_world *w);
/* Steps until so much time has passed. */
void hf_fake_world_run_ms(struct hf_fake_world *w, uint64_t ms);
/* Steps until done(data), at most ms of virtual time; whether it came true. */
bool hf_fake_world_run_until(struct hf_fake_world *w, uint64_t ms, bool (*done)(void *data), void *data);

/* node: 0-based. */
struct hf_env *hf_fake_node_env(struct hf_fake_world *w, int node);
struct hf_fake_fs *hf_fake_node_fs(struct hf_fake_world *w, int node);

void hf_fake_node_kill(struct hf_fake_world *w, int node, enum hf_fake_loss loss);
void hf_fake_node_bury(struct hf_fake_world *w, int node);
void hf_fake_node_boot(struct hf_fake_world *w, int node);
bool hf_fake_node_is_alive(const struct hf_fake_world *w, int node);

/* Like SIGSTOP and SIGCONT: nothing of the node runs, its clocks do, bytes for it wait. */
void hf_fake_node_pause(struct hf_fake_world *w, int node);
void hf_fake_node_resume(struct hf_fake_world *w, int node);

/* Difference of its wall clock to the virtual one. */
void hf_fake_node_set_wall_skew(struct hf_fake_world *w, int node, int64_t ms);
/* Duration of one executor job from now on; 0, 0 = the world's. */
void hf_fake_node_set_disk(struct hf_fake_world *w, int node, uint64_t us_min, uint64_t us_max);

/* Cut or heal the way from one node to another (one direction). */
void hf_fake_world_cut(struct hf_fake_world *w, int from, int to, bool cut);
void hf_fake_world_heal(struct hf_fake_world *w); /* all ways */
/* Break every stream between two nodes now. */
void hf_fake_world_drop_streams(struct hf_fake_world *w, int a, int b);

#endif
