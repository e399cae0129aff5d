/* harness.h: nodes that talk through peer in a world of virtual time whose streams cut bytes anywhere. The recorder
 * checks all the time that events keep their promises: never from inside a call, up before anything, down exactly
 * once. */
#ifndef HF_TEST_PEER_HARNESS_H
#define HF_TEST_PEER_HARNESS_H

#include "base/mem.h"
#include "base/util.h"
#include "peer/frame.h"
#include "peer/peer.h"
#include "sim/world.h"

#include <check.h>
#include <stdio.h>

#define NODES        4
#define MB           (1u << 20)
#define SECONDS      1000u
#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

struct node {
    unsigned number;
    struct hf_sim_node *fake;
    struct hf_env *env;
    struct hf_stats *stats;
    struct hf_peers *p;
    struct hf_peers_config config;
    bool is_inside; /* one of peer's functions */
    uint8_t cluster;
    bool refuses_answers; /* on_hello says no to those we dialed */
    bool likes_all;       /* on_hello does not look at clusters */
    /* what happened */
    int hellos, refused, ups, downs, messages, progress;
    uint64_t refused_node;
    char refused_why[256];
    struct hf_hello last_hello;
    struct hf_link *last_up;
    uint8_t last_type;
    size_t last_len;
    uint32_t last_crc;
    char order[64]; /* types of the messages as they came */
    /* what to do in an event */
    void (*on_message)(struct node *n, struct hf_link *link, uint8_t type);
    void (*on_up)(struct node *n, struct hf_link *link);
    void (*on_down)(struct node *n, struct hf_link *link);
};

extern struct hf_sim_world *world;
extern struct node nodes[NODES];

/* Around each test. */
void setup(void);
void teardown(void);

const char *address_of(unsigned number);
uint64_t id_of(unsigned number);
void open_peers(struct node *n);
/* A node with its defaults, for the test to change before open_peers. */
struct node *boot(unsigned number);
/* boot and open_peers. */
struct node *start(unsigned number);
/* Before a bare hf_peers_close, which calls nothing: let go of what hangs on the links. */
void free_seen(struct node *n);
/* Take all links down, check that each up had its down, free the node. */
void stop(struct node *n);
/* Virtual milliseconds. */
void run(uint64_t ms);
void add(struct node *n, unsigned other);
/* The dialed link of the raft channel, NULL when it is not up. */
struct hf_link *link_to(struct node *n, unsigned other);
/* One message of one part; checks that no event comes from inside. */
int send_bytes(struct node *n, struct hf_link *link, uint8_t type, bool urgent, const void *bytes, size_t len);
uint64_t counter(struct node *n, const char *name, const char *labels);
/* How many links of both channels are up, by the events and by the gauge. */
void assert_links(struct node *n, int up);
/* n bytes of a seed's own, to be freed. */
uint8_t *pattern(size_t n, uint64_t seed);

#endif
