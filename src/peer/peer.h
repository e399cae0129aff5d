/* peer.h: streams between nodes. Dials every other member, accepts their dials, checks who they are, carries typed
 * frames with checksums, limits and bounded queues. Knows nothing of raft or of commands: bytes with a type.
 * Loop thread only. The wire format is described in full at the top of peer/frame.h.
 *
 * A link is one authenticated stream in either direction of dialing. For every (member, channel) there is at most one
 * dialed link, kept up by redialing with back-off; accepted links come and go. Both ends may send on a link. */
#ifndef HF_PEER_PEER_H
#define HF_PEER_PEER_H

#include "base/buf.h"
#include "base/env.h"
#include "base/stats.h"

#include <stdbool.h>
#include <stdint.h>

struct hf_peers;
struct hf_link;

/* RAFT carries consensus messages and pings, PROXY client commands and their replies, STATE copies of the state
 * (dialed only while asked for: hf_peers_want_state), JOIN the requests of nodes that are no members yet
 * (hf_peers_dial_join). The number is on the wire; a node of the first release refuses STATE and JOIN as malformed. */
enum hf_channel {
    HF_CHANNEL_RAFT = 0,
    HF_CHANNEL_PROXY = 1,
    HF_CHANNEL_STATE = 2,
    HF_CHANNEL_JOIN = 3,
    HF_CHANNELS = 4
};

#define HF_PEER_PROTOCOL_MIN 1
#define HF_PEER_PROTOCOL_MAX 1
#define HF_PEER_FRAME_BYTES  (256u << 10) /* a longer message travels in several frames */
#define HF_PEER_TYPE_MAX     0xefu        /* message types above are the streams' own */

/* Whoever joins has proved nothing yet: few accepted links (one more is refused), short messages, a short queue. */
#define HF_PEER_JOIN_LINKS_MAX         16u
#define HF_PEER_JOIN_MESSAGE_BYTES_MAX (64u << 10)
#define HF_PEER_JOIN_QUEUE_BYTES_MAX   (1u << 20)
/* Bulk has budgets of its own; they also end at message_bytes_max and queue_bytes_max. */
#define HF_PEER_STATE_MESSAGE_BYTES_MAX (4u << 20)
#define HF_PEER_STATE_QUEUE_BYTES_MAX   (16u << 20)

/* What each side says first. Fixed size on the wire but for the addresses (at most 255 bytes each). */
struct hf_hello {
    uint16_t protocol_min, protocol_max;
    enum hf_channel channel;
    uint8_t cluster_id[16];
    uint8_t incarnation[16];  /* all zero until a recovery gives the cluster a new one (R20) */
    uint64_t node_id;         /* JOIN: may be 0, no member yet */
    uint64_t target_id;       /* whom the dialer means to reach; 0 in the answer and on JOIN */
    uint64_t store_id;        /* random, of this data directory (R19) */
    bool is_formed;           /* false: the directory is empty and waits for the cluster to form */
    char address[256];        /* peer address of the sender as the cluster's configuration spells it */
    char client_address[256]; /* where the sender serves clients */
};

/* 0 in a field with a default means that default. */
struct hf_peers_config {
    const char *listen_address; /* copied */
    struct hf_hello self;       /* what we say; may change (is_formed, node id) through hf_peers_update_self */
    uint64_t message_bytes_max; /* longest message accepted or sent (entry limit plus slack) */
    uint64_t queue_bytes_max;   /* unsent bytes of one link beyond which hf_link_send refuses (default 32 MiB) */
    uint64_t connect_timeout_ms, redial_min_ms, redial_max_ms; /* defaults 500, 50, 500 */
    uint64_t handshake_timeout_ms;                             /* default 2000: half-open strangers are dropped */
    uint32_t strangers_max;     /* accepted streams that have not finished their hello (default 64); the oldest goes */
    uint64_t refused_redial_ms; /* default 1000: how soon a member that refused us is tried again */
    uint64_t keepalive_ms;      /* default 1000: an idle link says something this often */
    uint64_t silence_max_ms;    /* default 5000: a link that brought nothing for this long is closed */
};

struct hf_peers_events {
    void *data;
    /* Judge a hello (incoming, or the answer to our dial). False: refuse, `why` (a short text) is logged on both
     * sides and sent back. member id, cluster id, store id, formed state: consensus decides. */
    bool (*on_hello)(void *data, const struct hf_hello *theirs, bool is_dialed, char *why, size_t why_size);
    /* The other side refused us, with its reason. */
    void (*on_refused)(void *data, uint64_t node_id, const char *why);
    void (*on_link_up)(void *data, struct hf_link *link);
    /* Last event of a link; unsent and partly received messages are lost. */
    void (*on_link_down)(void *data, struct hf_link *link);
    /* A whole message; payload borrowed for the call. */
    void (*on_message)(void *data, struct hf_link *link, uint8_t type, struct hf_slice payload);
    /* Bytes of a large message arrived: the other side is alive though no message is complete yet. */
    void (*on_progress)(void *data, struct hf_link *link);
};

/* Starts listening. HF_E_ADDRINUSE ... events and stats are borrowed. A protocol_max of 0 in self means
 * HF_PEER_PROTOCOL_MIN..MAX. Events never come from inside a function of this header. */
HF_MUST_CHECK int hf_peers_open(struct hf_env *env, const struct hf_peers_config *config,
                                const struct hf_peers_events *events, struct hf_stats *stats, struct hf_peers **out);
/* Closes all links (no further event) and frees. What was sent before still goes out if it can at once. Not from
 * inside an event. */
void hf_peers_close(struct hf_peers *p);
void hf_peers_update_self(struct hf_peers *p, const struct hf_hello *self);

/* Keep dialed links (one a channel) to this member, or stop and close all its links. Adding again with another
 * address redials. */
void hf_peers_add(struct hf_peers *p, uint64_t node_id, const char *address);
void hf_peers_remove(struct hf_peers *p, uint64_t node_id);

/* Keep a dialed STATE link to this member while wanted (it must have been added, else nothing happens; gone with
 * hf_peers_remove). */
void hf_peers_want_state(struct hf_peers *p, uint64_t node_id, bool is_wanted);
/* Keep one JOIN link to whoever listens at `address`, as a node that is no member yet: the hello's target is 0 and ours
 * may carry node id 0; redialed with back-off. NULL = no more. The other side gets the JOIN hello through on_hello like
 * any other; an all zero cluster id means that the sender does not know it yet. A refusal comes through on_refused with
 * node id 0. JOIN links are nobody's as a member: hf_peers_remove and hf_peers_silence_ms pass them by. */
void hf_peers_dial_join(struct hf_peers *p, const char *address);
struct hf_link *hf_peers_join_link(struct hf_peers *p); /* NULL when there is none now */

/* The dialed, handshaken link to a member, NULL when there is none now. */
struct hf_link *hf_peers_link(struct hf_peers *p, uint64_t node_id, enum hf_channel channel);

/* Send one message made of n parts (copied); type is at most HF_PEER_TYPE_MAX. HF_E_BUSY: queue_bytes_max would be
 * passed (nothing was sent; raft resends later; a link with nothing queued takes any message), HF_E_LIMIT: longer
 * than message_bytes_max, HF_E_CLOSED. Small messages (up to 16 KiB) may overtake the unsent frames of larger ones
 * when `urgent` is set, and have room of their own (about 1 MiB beyond queue_bytes_max), so that bulk cannot silence
 * a heartbeat; else order is kept. Writes are collected per loop turn. */
HF_MUST_CHECK int hf_link_send(struct hf_link *link, uint8_t type, bool urgent, const struct hf_slice *parts, size_t n);
uint64_t hf_link_node_id(const struct hf_link *link); /* accepted JOIN link: 0 unless it says that it has an id */
enum hf_channel hf_link_channel(const struct hf_link *link);
bool hf_link_is_dialed(const struct hf_link *link);
const struct hf_hello *hf_link_hello(const struct hf_link *link); /* theirs */
size_t hf_link_queued(const struct hf_link *link);
/* The owner of the channel may hang its own state on a link. */
void hf_link_set_data(struct hf_link *link, void *data);
void *hf_link_data(const struct hf_link *link);
/* Close one link (a peer that talks nonsense); on_link_down follows; a dialed one is redialed later. */
void hf_link_close(struct hf_link *link);
/* Time since the last byte from this member on any link, UINT64_MAX = never. */
uint64_t hf_peers_silence_ms(const struct hf_peers *p, uint64_t node_id);

#endif
