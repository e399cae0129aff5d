/* fixture.h: the dispatcher over a real proposer and real proxies, with doubles of consensus, state and links, for the
 * files of this folder. One world at a time, between begin and finish. */
#ifndef HF_TESTS_DISPATCH_FIXTURE_H
#define HF_TESTS_DISPATCH_FIXTURE_H

#include "doubles.h"

#include "command/command.h"
#include "dispatch/dispatch.h"
#include "propose/propose.h"
#include "proxy/proxy.h"

#include <check.h>

struct request {
    struct hf_dispatch_req req; /* first */
    int calls;
    uint64_t order;
    char reply[200];
    struct hf_slice words[6];
    char text[6][40];
};

struct arrived {
    struct hf_proxy_remote *remote;
    uint64_t sequence, term;
    char text[60];
    bool is_answered;
};

extern struct test_env te;
extern struct hf_stats *stats;
extern struct hf_consensus consensus;
extern struct hf_state state;
extern struct hf_proposer *proposer;
extern struct hf_proxy *proxy, *other;
extern struct hf_dispatcher *d;
extern struct hf_link to2, at2, from2, by2;
extern uint64_t next_order;
extern uint32_t n_released, n_ready;
struct request *submit(struct hf_lane *lane, const char *line);
void release(struct hf_dispatch_req *req);
void on_ready(void *data);
extern struct arrived arrived[4096];
extern uint32_t n_arrived, n_remote_ends;
void answer(uint32_t i);
void refuse(uint32_t i);
void carry(void);
extern struct hf_node_status *last_status;
void role(enum hf_role r, uint64_t term, uint64_t leader);
extern const struct hf_operator_ops *begin_ops;
void begin_with(uint64_t queue_bytes_max, uint32_t lane_queue_max);
void begin(void);
void finish(void);
void commit_all(void);
void settle(void);
void check_done(struct request *r, const char *reply);
void check_prefix(struct request *r, const char *prefix);

TCase *operate_case(void);

#endif
