/* internal.h: links and the table they live in, shared by link.c and peer.c and by nobody else.
 *
 * A link's states:
 *
 *   CONNECTING  dialed, the stream is not open yet
 *   HELLO       we wait for the other side's hello (dialed: ours is sent; accepted: a stranger, small buffers)
 *   ANSWERED    accepted: their hello was judged good and ours is sent; their first frame makes the link
 *   UP          on_link_up was called; carries messages
 *   DEAD        off the stream, waits for the reaper to call on_link_down (if it was up) and to free it
 *
 * Nothing is called back from inside a seam function: whatever ends a link there leaves the event to the reaper, a
 * task that runs later in the same loop turn. */
#ifndef HF_PEER_INTERNAL_H
#define HF_PEER_INTERNAL_H

#include "base/util.h"
#include "peer/frame.h"
#include "peer/peer.h"

/* Ordinary messages wait in the link's own queue while the stream has this much: what is in the stream can no longer
 * be overtaken. */
#define HF_LINK_WINDOW_BYTES (1u << 20)
#define HF_LINK_URGENT_MAX   (16u << 10)
/* What may be in the stream and the output buffer when an urgent message is added: the window, the frame that went
 * over it, and as much again for urgent messages. Not part of queue_bytes_max. */
#define HF_LINK_URGENT_QUEUE_MAX (2 * (HF_LINK_WINDOW_BYTES + HF_PEER_FRAME_BYTES))
#define HF_LINK_OUT_KEEP_BYTES   (1u << 20) /* an output buffer larger than this is given back after the flush */
#define HF_LINK_DIAL_PROVEN_MS   1000u      /* a link that lived this long starts the back-off afresh */
#define HF_PEER_STRANGER_LOG_MS  1000u      /* one line about strangers in this time */
/* STATE and JOIN: a dialed link that ended before any answer is tried again after refused_redial_ms, then ever later
 * up to this: a node of the first release does not know these channels and hangs up. */
#define HF_LINK_UNANSWERED_MAX_MS 15000u
#define HF_PEER_LOG_MODULE        "peer"

enum link_state { LINK_CONNECTING = 1, LINK_HELLO, LINK_ANSWERED, LINK_UP, LINK_DEAD };

struct hf_queued { /* an ordinary message, not or partly sent */
    struct hf_queued *next;
    uint8_t type;
    size_t sent, len;
    uint8_t bytes[];
};

struct dial;

struct hf_link {
    struct hf_peers *p;
    struct hf_link *next, *previous; /* in peers->links or peers->dead */
    struct hf_stream *stream;        /* NULL when DEAD */
    enum link_state state;
    bool is_dialed;
    bool was_up;        /* on_link_down is owed */
    bool was_refused;   /* dialed: redial slowly */
    bool is_unanswered; /* dialed: it ended while we waited for the hello */
    struct dial *dial;
    uint64_t node_id; /* dialed: whom we mean; accepted: who it says it is; 0 before the hello, JOIN: perhaps always */
    enum hf_channel channel;
    struct hf_hello theirs;
    void *data;
    struct hf_timer timer; /* handshake deadline, then keepalive */
    uint64_t heard_ms, up_ms, ticked_ms;
    bool has_sent; /* since the last tick */
    /* input */
    struct hf_frame_reader reader;
    /* output */
    struct hf_task flush;
    uint16_t sequence;
    struct hf_buf out; /* whole frames, written at the end of the turn */
    struct hf_queued *queue_head, *queue_tail;
    size_t queue_bytes; /* of all queued messages, less what was sent of them */
};

struct dial { /* one a member and channel, and that of JOIN */
    struct hf_peers *p;
    struct member *member; /* NULL: JOIN */
    enum hf_channel channel;
    struct hf_link *link; /* NULL while waiting to redial */
    struct hf_timer timer;
    uint64_t backoff_ms, unanswered_ms;
    bool is_trouble_told; /* one log line an outage */
};

struct member {
    struct member *next;
    uint64_t id;
    char *address;
    uint64_t heard_ms; /* of links that are gone, 0 = never */
    bool wants_state;
    struct dial dials[HF_CHANNELS];
};

struct channel_stats {
    struct hf_counter *messages_sent, *messages_received, *bytes_sent, *bytes_received, *dropped, *refused;
    struct hf_gauge *links;
};

struct hf_peers {
    struct hf_env *env;
    struct hf_peers_config config; /* listen_address is NULL here: nobody needs it after open */
    struct hf_peers_events events;
    struct hf_listener *listener;
    struct hf_prng prng;
    struct member *members;
    char *join_address; /* NULL = no JOIN link is wanted */
    struct dial join;
    struct hf_link *links; /* all but the dead */
    struct hf_link *dead;
    uint32_t n_strangers; /* accepted links in HELLO or ANSWERED */
    uint64_t stranger_logged_ms;
    struct hf_task reaper;
    struct channel_stats stats[HF_CHANNELS];
    struct hf_counter *strangers_rejected;
};

/* ---- link.c -------------------------------------------------------------------------------------- */

struct hf_link *hf_link_new(struct hf_peers *p, bool is_dialed);
/* Frees a link that is on no list and off its stream. */
void hf_link_free(struct hf_link *link);
extern const struct hf_stream_events hf_link_stream_events;
/* An accepted stream is there: start the handshake clock. */
void hf_link_accepted(struct hf_link *link, struct hf_stream *s);
/* Take the link off its stream; flush: bytes already written still go out. */
void hf_link_detach(struct hf_link *link, bool flush);
void hf_link_flush(struct hf_link *link);

/* ---- peer.c -------------------------------------------------------------------------------------- */

/* End a link in any state; `why` is logged once. Safe anywhere, also twice. */
void hf_peers_end_link(struct hf_link *link, bool flush, const char *why);
/* The same, and on_link_down (if owed) comes before it returns. Only where events may be called. */
void hf_peers_retire_link(struct hf_link *link, const char *why);
/* The accepted link of the same node and channel that is up, other than this one. */
struct hf_link *hf_peers_older_link(const struct hf_link *link);
/* Accepted JOIN links whose hello was judged good. */
uint32_t hf_peers_count_joining(const struct hf_peers *p);
/* A stranger said a hello that was good, or went away. */
void hf_peers_stranger_done(struct hf_peers *p);

#endif
