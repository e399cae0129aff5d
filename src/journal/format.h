/* format.h: every byte that the journal keeps on disk, and the codec for it. Pure: no files, no state.
 *
 * All integers are little-endian. A journal is a directory:
 *
 *   vote                      term and vote, two slots
 *   <id as 16 hex digits>.seg segments; ids are consecutive, the oldest are deleted first. The last one may be a
 *                             spare: prepared ahead of time, without a batch yet
 *   ballast                   a file of zeroes that is given up when the disk is full
 *   spare.tmp, recycle.tmp    a segment being prepared; a deleted segment kept for reuse; both without content
 *
 * SEGMENT. 4096 bytes of header, then batches, each starting where the one before it ended (always a multiple
 * of 8), then bytes without meaning (zeroes, or remains of the segment whose file was recycled):
 *
 *    0  8 bytes  "HFJSEG01"
 *    8  u32      version (1)
 *   12  u32      flags: 1 = recycled file, bytes past the last batch may be anything
 *   16  u64      segment id, the same as in the file name
 *   24  u64      salt: random, repeated in every batch header of the segment
 *   32  u32      CRC-32C of the 32 bytes before it; the rest of the 4096 is zero
 *
 * A segment gets its name only after its header was synced. It holds one run of consecutive indexes.
 *
 * BATCH. One batch is one write and one sync. A header of 96 bytes:
 *
 *    0  u32  magic "HJB1"
 *    4  u16  version (1)
 *    6  u16  kind: 1 ENTRIES (one or more), 2 IDLE (no entries; only publishes durable_to), 3 START (no entries; first
 *            batch of a segment begun by a start of the node), 4 TRUNCATE (no entries; first batch of a segment; drops
 *            every entry >= first_index from the log before it), 5 RESET (no entries; first batch of a segment; all
 *            segments before it are dead, the log goes on at first_index)
 *    8  u64  segment id
 *   16  u64  salt of the segment
 *   24  u64  offset of this header in the file
 *   32  u64  generation: raised at each start, truncation and reset; each of them begins a segment, so it never
 *            changes inside one
 *   40  u64  prev_end: where the previous batch ends: `offset` itself, or for the first batch of a segment the
 *            end of the last batch in segment id - 1
 *   48  u64  durable segment and
 *   56  u64  durable offset: durable_to, the position below which everything was synced before this write began
 *   64  u64  first_index: index of the first entry here, or of the next one to come when there is none
 *   72  u32  entry count
 *   76  u32  body bytes (multiple of 8)
 *   80  u32  prev_crc: header CRC of the previous batch (0: none)
 *   84  u32  CRC-32C of the body
 *   88  u32  0
 *   92  u32  header CRC: CRC-32C of the 92 bytes before it
 *
 * The header has a CRC of its own because it is evidence even when the body is torn: a batch at any later place
 * whose durable_to lies above a bad spot proves that the bad spot was once synced. Segment id, salt and offset
 * keep old bytes of a recycled file, misdirected writes and values that imitate a batch from being believed.
 *
 * BODY. `count` records, each:
 *
 *    0  u32  payload length
 *    4  u8   type (enum hf_entry_type), then 3 bytes 0
 *    8  u64  index
 *   16  u64  term
 *   24  payload, padded with zeroes to a multiple of 8
 *
 * VOTE. Two slots of 4096 bytes at 0 and 4096, both written and synced one after the other for each change:
 *
 *    0  8 bytes  "HFJVOTE1"
 *    8  u32      version (1)
 *   12  u32      0
 *   16  u64      sequence number of the change
 *   24  u64      term
 *   32  u64      vote (0 = none)
 *   40  u32      CRC-32C of the 40 bytes before it; the rest is zero
 *
 * RECOVERY. The log is the chain of batches from the first batch of the oldest segment (or of the newest segment
 * that begins with RESET). A segment that is followed by one whose first batch header is good ends exactly at that
 * header's prev_end; anything less is damage. In the last segment that holds batches the chain ends at the first
 * bad spot. If any good batch header further on (searched in steps of 8) carries a durable_to above the spot, it is
 * damage too; otherwise it is the tail of a write that was never reported: it is cut off. Damage refuses the
 * start and changes nothing. */
#ifndef HF_JOURNAL_FORMAT_H
#define HF_JOURNAL_FORMAT_H

#include "base/buf.h"
#include "base/err.h"
#include "entry/entry.h"

#include <stdbool.h>
#include <stdint.h>

#define HF_JSEG_HEADER_BYTES   4096u
#define HF_JSEG_HEADER_USED    36u
#define HF_JBATCH_HEADER_BYTES 96u
#define HF_JBATCH_ALIGN        8u
#define HF_JRECORD_BYTES       24u
#define HF_JVOTE_SLOT_BYTES    4096u
/* Largest payload of one entry: keeps every batch size well inside 32 bits. */
#define HF_JENTRY_BYTES_MAX (1u << 30)

enum hf_jseg_flags {
    HF_JSEG_RECYCLED = 1,
};

struct hf_jseg_header {
    uint64_t id, salt;
    uint32_t flags;
};

/* out: HF_JSEG_HEADER_BYTES, all of them written. */
void hf_jseg_encode(uint8_t *out, const struct hf_jseg_header *h);
/* HF_E_CORRUPT, or HF_E_VERSION for an intact header of a newer format. n: bytes at `in`. */
HF_MUST_CHECK int hf_jseg_decode(struct hf_jseg_header *h, const uint8_t *in, size_t n);

enum hf_jbatch_kind {
    HF_JBATCH_ENTRIES = 1,
    HF_JBATCH_IDLE = 2,
    HF_JBATCH_START = 3,
    HF_JBATCH_TRUNCATE = 4,
    HF_JBATCH_RESET = 5,
};

struct hf_jbatch {
    enum hf_jbatch_kind kind;
    uint64_t segment, salt, offset;
    uint64_t generation;
    uint64_t prev_end;
    uint64_t durable_segment, durable_offset;
    uint64_t first_index;
    uint32_t count;
    uint32_t body_bytes;
    uint32_t prev_crc;
    uint32_t body_crc;
    uint32_t header_crc; /* set by encode and decode */
};

/* Bytes of one record with its padding. */
static inline uint64_t hf_jrecord_size(uint32_t payload_len)
{
    return (HF_JRECORD_BYTES + (uint64_t)payload_len + 7u) & ~(uint64_t)7u;
}

/* out: HF_JBATCH_HEADER_BYTES. Sets b->header_crc. */
void hf_jbatch_encode(uint8_t *out, struct hf_jbatch *b);
/* Checks the checksum and that the fields make sense together; not the body, nor the place in a chain.
 * HF_E_CORRUPT, HF_E_VERSION (intact, but newer). n: bytes at `in`. */
HF_MUST_CHECK int hf_jbatch_decode(struct hf_jbatch *b, const uint8_t *in, size_t n);
/* A cheap first look before decode, for searching. */
static inline bool hf_jbatch_has_magic(const uint8_t *in)
{
    return memcmp(in, "HJB1", 4) == 0;
}

/* Append one record to out. */
void hf_jrecord_put(struct hf_buf *out, const struct hf_log_entry *e);

struct hf_jrecord {
    enum hf_entry_type type;
    uint64_t index, term;
    struct hf_slice payload;
};

/* Check a whole body against its header: checksum, record structure, consecutive indexes from first_index, terms
 * that never fall. HF_E_CORRUPT. After HF_OK hf_jrecord_next cannot fail `count` times over the same bytes. */
HF_MUST_CHECK int hf_jbatch_check_body(const struct hf_jbatch *b, const uint8_t *body);
/* False when the bytes at r are not a well-formed record (or none is left). */
bool hf_jrecord_next(struct hf_reader *r, struct hf_jrecord *out);

struct hf_jvote {
    uint64_t sequence, term, vote;
};

/* out: HF_JVOTE_SLOT_BYTES, all of them written. */
void hf_jvote_encode(uint8_t *out, const struct hf_jvote *v);
HF_MUST_CHECK int hf_jvote_decode(struct hf_jvote *v, const uint8_t *in, size_t n);

/* "0123456789abcdef.seg" */
#define HF_JSEG_NAME_BYTES 21
void hf_jseg_name(char out[HF_JSEG_NAME_BYTES], uint64_t id);
bool hf_jseg_parse_name(const char *name, uint64_t *id);

#endif
