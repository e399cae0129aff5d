/* fake.h: a world around src/net with everything in the test's hand: time, loop turns, the kernel's socket buffers, and
 * a dispatcher that answers when it is told to. The command table is a small one of its own (fake_commands.c). */
#ifndef HF_TEST_NET_FAKE_H
#define HF_TEST_NET_FAKE_H

#include "net/net.h"

struct fake;

/* The test's end of a connection. */
struct fake_client {
    struct hf_stream stream;
    struct fake *fake;
    struct fake_client *next;
    struct hf_buf unread;   /* sent by the test while net had stopped reading */
    struct hf_buf queue;    /* written by net, not taken by the kernel yet */
    struct hf_buf received; /* taken */
    size_t window;          /* bytes that the kernel still takes; SIZE_MAX at first */
    unsigned n_writes;
    bool is_stopped, wants_drain, is_closing, is_flushing, is_closed;
};

struct fake {
    struct hf_env env;
    struct hf_net_config config;
    struct hf_local_ops ops;
    struct hf_stats *stats;
    struct hf_net *net;
    uint64_t now_ms;
    bool needs_auth, is_net_closed;
    unsigned n_released; /* requests taken over by closed lanes and released */
    size_t lane_max;
    /* private */
    struct hf_timer_heap timers;
    struct hf_task *tasks;
    const struct hf_listener_events *listener;
    void *listener_data;
    bool is_listening;
    struct fake_client *clients;
    struct fake_pending {
        struct hf_dispatch_req *req;
        struct hf_lane *lane;
    } * pending; /* submitted and not answered, all lanes, oldest first */
    unsigned n_pending, pending_cap;
    struct fake_orphan {
        struct hf_dispatch_req *req;
        void (*release)(struct hf_dispatch_req *req);
    } orphans[64];
    unsigned n_orphans;
};

/* Set what the test wants in config, needs_auth and lane_max after new, then open. */
struct fake *fake_new(void);
void fake_open(struct fake *f);
/* Ends everything: closes net (unless closed), checks that nothing is left. */
void fake_free(struct fake *f);

struct fake_client *fake_connect(struct fake *f);
/* As bytes from the client: now, or when net reads again. */
void fake_send_bytes(struct fake_client *c, const void *bytes, size_t n);
void fake_send(struct fake_client *c, const char *text);
void fake_hang_up(struct fake_client *c);
/* The client reads n more bytes (SIZE_MAX: everything from now on). */
void fake_read_on(struct fake_client *c, size_t n);
/* One loop turn: input that was held back, tasks, drains, closes. */
void fake_turn(struct fake *f);
void fake_advance(struct fake *f, uint64_t ms);

/* Commands with the dispatcher. */
unsigned fake_pending(const struct fake *f);
void fake_answer(struct fake *f, unsigned position); /* 0 = the oldest */
void fake_answer_all(struct fake *f);

/* Compares what the client has received and forgets it. */
void fake_expect(struct fake_client *c, const char *text);

/* The answer of a READ or WRITE command of the fake table, into out. */
void fake_run_command(const struct hf_dispatch_req *req, struct hf_reply *out);

#endif
