/* resp.h: RESP2/RESP3 on the wire (Redis serialization protocol specification): an incremental request parser
 * and a reply encoder. Pure: no sockets, no clock. */
#ifndef HF_RESP_RESP_H
#define HF_RESP_RESP_H

#include "base/buf.h"
#include "resp/reply.h"

#include <stdbool.h>
#include <stdint.h>

/* The words of one command. Slices are borrowed from the input given to the parser. */
struct hf_args {
    struct hf_slice *at;
    uint32_t n;
};

struct hf_resp_limits {
    uint64_t bulk_bytes_max;   /* one argument; never above HF_RESP_BULK_BYTES_LIMIT */
    uint64_t query_bytes_max;  /* one whole command with its framing */
    uint32_t args_max;         /* arguments of one command */
    uint32_t inline_bytes_max; /* one inline line, and one length line (Redis: 64 KiB) */
};

#define HF_RESP_BULK_BYTES_LIMIT     (512ull << 20)
#define HF_RESP_BULK_BYTES_DEFAULT   (64ull << 20)
#define HF_RESP_ARGS_DEFAULT         (1u << 20)
#define HF_RESP_INLINE_BYTES_DEFAULT (64u << 10)

enum hf_resp_status {
    HF_RESP_COMMAND = 1, /* args holds a command (n may be 0: an empty line or *0, skip it) */
    HF_RESP_MORE,        /* the input ends inside a command */
    HF_RESP_ERROR,       /* `error` holds the text to send ("ERR Protocol error: ..."); close after it */
};

/* State between calls: where in the unconsumed input the parser stands, so that no byte is scanned twice
 * however the input is cut. */
struct hf_resp_parser {
    const struct hf_resp_limits *limits; /* borrowed; may change between commands */
    struct hf_args args;                 /* words of the command just parsed; owned array of borrowed slices */
    char error[160];
    size_t needed; /* with MORE: total input bytes known to be needed (a hint for buffer growth), 0 = unknown */
    /* private */
    size_t line, pos;
    int64_t words_left;
    int64_t bulk_len;
    uint32_t cap;
    struct hf_resp_span {
        size_t offset, len;
    } * spans;
    struct hf_buf scratch; /* unquoted inline arguments */
};

void hf_resp_parser_init(struct hf_resp_parser *p, const struct hf_resp_limits *limits);
/* Releases what it holds and forgets a command in progress; the parser may be used again as after init. */
void hf_resp_parser_free(struct hf_resp_parser *p);
/* `input` is everything received and not yet consumed; between calls it may move and grow but never lose or
 * change bytes. On COMMAND, *consumed bytes are finished with (drop them after using args). */
enum hf_resp_status hf_resp_parse(struct hf_resp_parser *p, struct hf_slice input, size_t *consumed);

/* Append the wire form of one flat value to out, for protocol 2 or 3. RESP2 has no maps, sets, doubles,
 * booleans: they become arrays, bulks and integers as Redis does it; attributes are left out. The value is
 * trusted (hf_reply_is_valid was checked for foreign ones). */
void hf_resp_encode(struct hf_buf *out, struct hf_slice flat, int protocol);

/* Request encoding for clients of ours (tools, tests): *n $len ... */
void hf_resp_encode_request(struct hf_buf *out, const struct hf_slice *words, uint32_t n);

#endif
