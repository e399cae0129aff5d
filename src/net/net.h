/* net.h: the client side: listener, connections, pipelining, limits, back-pressure. Owns client sockets (through
 * env streams). Reads RESP, resolves commands in the table, runs LOCAL ones itself and gives the others to the
 * connection's lane; writes replies in the order of the requests, in the protocol the connection spoke when it sent
 * them. Loop thread only. */
#ifndef HF_NET_NET_H
#define HF_NET_NET_H

#include "base/env.h"
#include "base/stats.h"
#include "command/command.h"
#include "dispatch/dispatch.h"
#include "resp/resp.h"

struct hf_net;

struct hf_net_config {
    const char *address;          /* host:port to listen on. Copied. */
    uint32_t clients_max;         /* beyond it: "-ERR max number of clients reached" and close */
    uint64_t output_bytes_max;    /* a client whose unread output exceeds this is disconnected (default 1 GiB) */
    uint64_t output_soft_bytes;   /* above this no further commands are read from the client (default 1 MiB) */
    uint64_t idle_timeout_ms;     /* 0 = never */
    uint32_t pipeline_max;        /* commands of one connection in flight or queued; more wait unparsed */
    struct hf_resp_limits limits; /* may be changed live through hf_net_config_live */
};

/* ops: the node's answers for LOCAL commands; net fills in the `clients` member itself. Borrowed: dispatcher, ops,
 * stats. HF_E_ADDRINUSE etc. from listening. */
HF_MUST_CHECK int hf_net_open(struct hf_env *env, const struct hf_net_config *config, struct hf_dispatcher *dispatcher,
                              struct hf_local_ops *ops, struct hf_stats *stats, struct hf_net **out);
struct hf_net_config *hf_net_config_live(struct hf_net *net);
/* Stop accepting; existing connections go on. */
void hf_net_stop_accepting(struct hf_net *net);
/* Close all connections (flushing what is queued) and free; done is called when the last one is gone. */
void hf_net_close(struct hf_net *net, void (*done)(void *data), void *data);
uint32_t hf_net_clients(const struct hf_net *net);

#endif
