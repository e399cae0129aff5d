/* proxy.h: carries commands of this node's clients to the leader over the PROXY channel, and their replies back;
 * on the leader, receives such commands and gives them to a handler. One stream to a leader is shared by all clients;
 * the commands of one client stay in order on it (R3). Every command names (connection, sequence) and the term it
 * is meant for, so that no reply can reach another client and no old leader runs it. Hop limit 1: what arrives here
 * is never forwarded again. Loop thread only. Frame layouts at the top of proxy.c.
 *
 * A command that was sent and whose stream broke before the answer is UNKNOWN, never sent again. A command that
 * the other side refused (not leading in that term) did not happen. */
#ifndef HF_PROXY_PROXY_H
#define HF_PROXY_PROXY_H

#include "base/env.h"
#include "base/stats.h"
#include "peer/peer.h"
#include "resp/resp.h"

#include <stdbool.h>

struct hf_proxy;

enum hf_proxy_outcome {
    HF_PROXY_ANSWERED = 1, /* reply is the flat value */
    HF_PROXY_REFUSED,      /* not the leader of that term: did not happen */
    HF_PROXY_LOST,         /* stream broke after sending: may have happened */
};

/* ---- sending side -------------------------------------------------------------------------------------- */

struct hf_proxy_call {
    void *data;
    void (*cb)(struct hf_proxy_call *call, enum hf_proxy_outcome outcome, struct hf_slice reply);
    /* private */
    struct hf_proxy_call *next, *prev;
    uint64_t connection, sequence;
    struct hf_proxy_stream *stream;
    size_t bytes;
    bool is_sent;
};

/* Send one command of client `connection` (a number unique on this node) over `link`. args are copied out. cb exactly
 * once, never from inside. HF_E_BUSY (too much is unanswered or unsent: nothing was sent; try again when answers
 * came, or a little later), HF_E_CLOSED, HF_E_LIMIT (longer than a message may be): cb never comes. A call that still
 * waited in this node when its stream broke comes back as REFUSED. */
HF_MUST_CHECK int hf_proxy_send(struct hf_proxy *p, struct hf_link *link, uint64_t connection, uint64_t term,
                                const struct hf_args *args, struct hf_proxy_call *call);
/* The client is gone, or goes to another leader from now on: tells the other side, which ends the client's lane there.
 * Only when all its calls on that link are answered. */
void hf_proxy_end(struct hf_proxy *p, struct hf_link *link, uint64_t connection);

/* ---- receiving side ------------------------------------------------------------------------------------ */

/* One remote client on this node. */
struct hf_proxy_remote;
struct hf_proxy_handler {
    void *data;
    /* A remote client's first command: returns the handler's state for it. */
    void *(*open)(void *data, struct hf_proxy_remote *remote);
    /* Its next command, in order; words borrowed for the call. Answer with hf_proxy_answer or hf_proxy_refuse
     * using the sequence, now or later. */
    void (*command)(void *state, uint64_t sequence, uint64_t term, const struct hf_args *args);
    /* The client or its stream is gone: no answer is wanted any more; remote is freed after this. */
    void (*close)(void *state);
};
void hf_proxy_answer(struct hf_proxy_remote *remote, uint64_t sequence, struct hf_slice reply);
void hf_proxy_refuse(struct hf_proxy_remote *remote, uint64_t sequence);

HF_MUST_CHECK int hf_proxy_open(struct hf_env *env, const struct hf_resp_limits *limits, struct hf_stats *stats,
                                struct hf_proxy **out);
/* The handler may be set once, before links come up. */
void hf_proxy_set_handler(struct hf_proxy *p, const struct hf_proxy_handler *handler);
/* Calls without an answer are LOST (or REFUSED when they had not left yet), remote clients are closed. Links are not
 * touched: they may be gone already. The handler must still be alive. */
void hf_proxy_close(struct hf_proxy *p);

/* Called by the wiring from consensus' events. */
void hf_proxy_on_link_up(struct hf_proxy *p, struct hf_link *link);
void hf_proxy_on_link_down(struct hf_proxy *p, struct hf_link *link);
void hf_proxy_on_message(struct hf_proxy *p, struct hf_link *link, uint8_t type, struct hf_slice payload);

#endif
