/* harness.h: nodes that send each other copies of fake databases over real peers in a world of virtual time. */
#ifndef HF_TEST_SNAPSHOT_HARNESS_H
#define HF_TEST_SNAPSHOT_HARNESS_H

#include "base/mem.h"
#include "base/util.h"
#include "fake_store.h"
#include "peer/peer.h"
#include "sim/world.h"
#include "snapshot/internal.h"
#include "snapshot/snapshot.h"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>

#define NODES        FAKE_NODES
#define KB           (1u << 10)
#define MB           (1u << 20)
#define SECONDS      1000u
#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

struct node {
    unsigned number;
    struct hf_sim_node *fake;
    struct hf_env *env;
    struct hf_stats *stats;
    struct hf_peers *p;
    struct hf_snapshots *s;
    struct hf_snapshots_config config;
    char dir[8], live_path[32];
    bool has_no_live;
    /* what happened */
    int delivered, failed, asked;
    uint64_t delivered_member, failed_member, pin;
    struct hf_held_info last;
    char why[256];
    uint64_t asked_bytes;
    /* what to do */
    const char *refuses; /* may_receive says no with this */
    /* Sees each message before snapshot does; false: it is lost. */
    bool (*filter)(struct node *n, struct hf_link *link, uint8_t type, struct hf_slice payload);
    void (*on_delivered)(struct node *n, uint64_t member);
    uint64_t messages, break_at; /* the n-th message of this node breaks its link */
    int count[16];               /* messages by type */
};

extern struct hf_sim_world *world;
extern struct node nodes[NODES];

void setup(void);
void teardown(void);
uint64_t id_of(unsigned number);
/* A node with a small chunk and window, for the test to change before open_node. */
struct node *boot(unsigned number);
void open_node(struct node *n);
struct node *start(unsigned number);
void stop(struct node *n);
/* Power loss; the node is started anew on what is left of its disk. */
void crash(struct node *n);
void run(uint64_t ms);
/* Until done() or so much virtual time; whether it came true. */
bool run_until(uint64_t ms, bool (*done)(void));
/* The database that the node's store runs on. */
void set_live(struct node *n, uint64_t index, uint64_t bytes);
/* Ask for a transfer and for the link it takes. */
void send_to(struct node *from, struct node *to, uint64_t at_least);
void link_nodes(struct node *from, struct node *to);
struct hf_link *link_between(struct node *from, struct node *to);
uint64_t counter(struct node *n, const char *name, const char *labels);
/* False: there is no such file on the node's disk. */
bool read_file(struct node *n, const char *name, struct hf_buf *out);
/* How many files copy-* or incoming* there are. */
int files(struct node *n);
/* The target has, verified, byte for byte what the source's store was at this index. */
void assert_received(struct node *to, const struct fake_live *live);
struct hf_snapshot_progress progress_of(struct node *n);

#endif
