/* internal.h: the structures shared by the files of this folder.
 *
 * net.c   the listener, limits on the number of clients, the once-a-second look round, what LOCAL commands may ask
 * conn.c  one connection: input to commands, back-pressure, output, the end
 * slot.c  one command in flight: its memory, and the order of the answers
 *
 * What one loop turn does: on_data parses and submits; answers come (from the lane) and are encoded into the output
 * of their connection as far as the order allows; then one task goes over the connections that have something to do
 * and writes, takes up stopped reading again, or closes. Connections are closed only there, by the stream itself and
 * by hf_net_close (which a command may cause: then is_closing says so); the memory of one lives until its stream's
 * on_close, so no code above has to expect its connection to vanish. */
#ifndef HF_NET_INTERNAL_H
#define HF_NET_INTERNAL_H

#include "net/net.h"

/* Commands of one connection that are in flight hold copies of their arguments: at most this many bytes (one command
 * may always be in flight, however large). */
#define HF_NET_IN_FLIGHT_BYTES (16u << 20)
/* Commands that a connection may have under way before its first answers tell how large they are;
 * HF_NET_ANSWER_DECAY: how slowly the expectation follows smaller ones. */
#define HF_NET_FIRST_COMMANDS 16u
#define HF_NET_ANSWER_DECAY   8u

/* Freed slots kept for reuse, all of one size: room for the words of most commands. One that needs more gets a block
 * of its own. */
#define HF_NET_SLOT_BYTES (sizeof(struct hf_net_slot) + 256)
#ifdef __SANITIZE_ADDRESS__
#define HF_NET_FREE_SLOTS_MAX 0u /* let the sanitizer see each life of a slot */
#else
#define HF_NET_FREE_SLOTS_MAX 4096u
#endif

/* Input and output buffers kept for reuse. */
#define HF_NET_SPARE_BUFS      256u
#define HF_NET_SPARE_BUF_BYTES (16u << 10)

/* One command whose answer has not been written yet, in the order of the requests. Followed in the same block by the
 * words of the command and their bytes. */
struct hf_net_slot {
    struct hf_dispatch_req req; /* first: the lane takes the block over when the client goes */
    struct hf_net_conn *conn;
    struct hf_net_slot *next;
    size_t bytes; /* of the block */
    int protocol; /* in force when the command was read */
    bool is_done; /* req.reply is the answer, waiting for those before it */
    bool is_muted;
};

struct hf_net_conn {
    struct hf_client client;
    struct hf_net *net;
    struct hf_stream *stream;
    struct hf_lane *lane; /* NULL until the first command that needs it: an idle client has none */
    struct hf_resp_parser parser;
    struct hf_buf in;  /* received, not consumed; empty (and no memory) most of the time */
    struct hf_buf out; /* to be written in this turn */
    struct hf_net_slot *head, *tail;
    uint32_t in_flight;     /* slots given to the lane and not answered */
    size_t in_flight_bytes; /* their blocks */
    uint64_t answer_bytes;  /* expected size of an answer, from the recent ones */
    size_t held_bytes;      /* answers waiting for an earlier one */
    uint64_t active_ms;     /* last time bytes came */
    bool is_stopped;        /* reading is stopped: back-pressure */
    bool waits_for_empty;   /* a FRAMING command stands first in `in` and waits for all earlier answers */
    bool is_over_limit;     /* does not read its answers: to be closed */
    bool is_closing;
    bool is_dirty;
    struct hf_net_conn *dirty_prev, *dirty_next;
    struct hf_net_conn *prev, *next;
};

struct hf_net_local_data {
    const struct hf_local_ops *node;
    struct hf_net *net;
};

struct hf_net {
    struct hf_env *env;
    struct hf_net_config config;
    struct hf_dispatcher *dispatcher;
    struct hf_local_ops ops; /* forwards to the node's, with the `clients` of ours */
    struct hf_net_local_data ops_data;
    struct hf_stats *stats;
    struct hf_listener *listener;
    struct hf_task task;
    struct hf_timer tick;
    struct hf_net_conn *first, *last; /* all that are not closing */
    struct hf_net_conn *dirty_first, *dirty_last;
    uint32_t n_clients; /* on the list above */
    uint32_t n_streams; /* connections whose stream still lives */
    uint64_t next_id;
    uint64_t commands_at_tick;
    struct hf_net_slot *free_slots;
    uint32_t n_free_slots;
    struct hf_buf spare[HF_NET_SPARE_BUFS];
    uint32_t n_spare;
    struct hf_command_stats *command_stats; /* by command id, looked up at first use */
    bool is_closing;
    void (*done)(void *data);
    void *done_data;
    struct hf_counter *connections, *rejected, *input_bytes, *output_bytes, *commands, *errors, *output_limit,
        *protocol_errors;
    struct hf_error_stats error_words;
    struct hf_gauge *connected, *commands_per_second;
};

/* net.c */
struct hf_command_stats *hf_net_command_stats(struct hf_net *net, const struct hf_command *command);
void hf_net_stream_gone(struct hf_net *net);
/* An empty buffer, with memory when one is spare; and back. */
struct hf_buf hf_net_take_buf(struct hf_net *net);
void hf_net_give_buf(struct hf_net *net, struct hf_buf *b);

/* conn.c */
void hf_net_conn_accept(struct hf_net *net, struct hf_stream *s);
void hf_net_conn_close(struct hf_net_conn *c, bool flush);
/* The connection has something to do at the end of this turn. */
void hf_net_conn_mark(struct hf_net_conn *c);
/* Write, take up reading again or close, whatever is due. */
void hf_net_conn_attend(struct hf_net_conn *c);
/* Bytes that the client has not read yet, wherever they stand. */
size_t hf_net_conn_unread(const struct hf_net_conn *c);

/* slot.c */
/* Give the command in c->parser.args to the lane; its answer will come in turn. */
void hf_net_slot_submit(struct hf_net_conn *c, const struct hf_command *command, bool is_muted);
/* An answer that is there already: written now if nothing is before it, else kept for its turn. Moves `reply`. */
void hf_net_slot_answer(struct hf_net_conn *c, struct hf_reply *reply, int protocol, bool is_muted);
/* Drop all slots; what is in flight stays with the lane, which is closed. */
void hf_net_slots_drop(struct hf_net_conn *c);
void hf_net_slots_free_spare(struct hf_net *net);

#endif
