/* frame.h: the wire format of the streams between nodes, and the pure code that writes and reads it (no sockets, no
 * clock: fuzzed as it is). Internal to peer.
 *
 * All integers are little-endian. Each side of a new stream first sends a preface of 12 bytes:
 *
 *   8   "HOLDFAST"
 *   u16 framing version (1)     the shape of frames and of the first two fields of a hello; other = cannot talk at all
 *   u16 0
 *
 * then frames, a header of 16 bytes and the payload:
 *
 *   u32 payload length          at most HF_PEER_FRAME_BYTES, and HF_HELLO_BYTES_MAX until the hello has been accepted
 *   u8  type                    0x00..0xef the owner of the channel, 0xf0 hello, 0xf1 refuse, 0xf2 keepalive
 *   u8  flags                   1 MORE: the message goes on in a later frame
 *                               2 CONTINUED: goes on from an earlier one
 *                               4 URGENT: a whole message that may stand between the frames of another
 *   u16 sequence                number of the frame on this stream and direction, from 0, wraps
 *   u32 CRC-32C of the 8 bytes before: a damaged length must not make us wait for bytes that never come
 *   u32 CRC-32C of the payload, started with the one before, so that header and payload belong together
 *
 * A message longer than one frame travels as MORE, MORE|CONTINUED, ..., CONTINUED; all of one type, none of them
 * empty. Until it ends only URGENT messages and keepalives may stand between its frames. Flags that are not named
 * here, and flags on types from 0xf0 on, are violations; every violation ends the stream.
 *
 * The walk of a stream:
 *
 *   dialer    preface, HELLO ------------------->              judged; "HELLO" or "REFUSE text" is the answer
 *             judged   <------------------- preface, HELLO
 *             KEEPALIVE (or REFUSE text) ------->              the link is up on the dialer's side when it sends this,
 *                                                              on the other when it arrives
 *
 * HELLO payload: u16 protocol_min, u16 protocol_max, u8 channel, u8 flags (1 = formed), 16 cluster id, 16 incarnation,
 * u64 node id, u64 target id, u64 store id, u8 length + address, u8 length + client address. A sender of a newer
 * protocol may append fields, which an older one skips; nothing may follow otherwise.
 * On the channel JOIN the dialer's target id is 0, its node id may be 0 (no member yet) and its cluster id may be all
 * zero (not known yet); on the others both ids are those of members.
 * REFUSE payload: a reason of at most 255 printable ASCII characters. KEEPALIVE payload: empty. */
#ifndef HF_PEER_FRAME_H
#define HF_PEER_FRAME_H

#include "base/buf.h"
#include "base/err.h"
#include "peer/peer.h"

#define HF_FRAMING_VERSION     1
#define HF_PREFACE_BYTES       12
#define HF_FRAME_HEADER_BYTES  16
#define HF_HELLO_BYTES_MAX     1024u
#define HF_REFUSE_BYTES_MAX    255u
#define HF_FRAME_OWN_TYPES     0xf0u
#define HF_HELLO_STRINGS_BYTES 255u

enum hf_frame_type { HF_FRAME_HELLO = 0xf0, HF_FRAME_REFUSE = 0xf1, HF_FRAME_KEEPALIVE = 0xf2 };
enum hf_frame_flags { HF_FRAME_MORE = 1, HF_FRAME_CONTINUED = 2, HF_FRAME_URGENT = 4 };

void hf_frame_put_preface(struct hf_buf *out);
/* One frame made of n parts, which are copied. */
void hf_frame_put(struct hf_buf *out, uint8_t type, uint8_t flags, uint16_t sequence, const struct hf_slice *parts,
                  size_t n);

/* Reads a stream: init, then for each chunk of bytes: input, and next until it gives 0. */
struct hf_frame_reader {
    size_t frame_bytes_max; /* may be raised between two calls of next */
    uint64_t message_bytes_max;
    const char *error; /* static text, set when next fails */
    /* private */
    bool has_preface;
    uint16_t sequence;
    struct hf_slice input; /* borrowed, not yet looked at */
    struct hf_buf partial; /* the beginning of a frame whose end has not come */
    bool is_partial_spent;
    struct hf_buf bulk; /* the frames so far of a message of several; grows with what came, not with promises */
    uint8_t bulk_type;
    bool is_bulk_open, is_bulk_spent;
};

struct hf_frame_message {
    uint8_t type;
    struct hf_slice payload; /* borrowed until the next call of next or free */
};

void hf_frame_reader_init(struct hf_frame_reader *r, size_t frame_bytes_max, uint64_t message_bytes_max);
void hf_frame_reader_free(struct hf_frame_reader *r);
/* The bytes stay borrowed until next gives 0 or an error. Only when the input before was used up. */
void hf_frame_reader_input(struct hf_frame_reader *r, struct hf_slice bytes);
/* 1: *out is a whole message. 0: all input is used up. HF_E_INVALID: the stream breaks the rules (r->error says how),
 * HF_E_VERSION: it speaks another framing version; no further call then. */
HF_MUST_CHECK int hf_frame_reader_next(struct hf_frame_reader *r, struct hf_frame_message *out);
/* Whether some of a message has come but not its end. */
bool hf_frame_reader_is_midway(const struct hf_frame_reader *r);
/* Memory held now; bounded by the two limits. */
size_t hf_frame_reader_memory(const struct hf_frame_reader *r);

void hf_hello_put(struct hf_buf *out, const struct hf_hello *h);
/* HF_E_VERSION: no protocol version in common with `ours`; HF_E_INVALID: malformed. `why` is filled on error. */
HF_MUST_CHECK int hf_hello_decode(struct hf_slice bytes, const struct hf_hello *ours, struct hf_hello *out, char *why,
                                  size_t why_size);
/* The reason in a REFUSE frame as printable text that fits out. False: too long for the format. */
HF_MUST_CHECK bool hf_refuse_decode(struct hf_slice bytes, char *out, size_t out_size);

#endif
