/* entry.h: what a log entry is, in memory and in bytes. Knows no libraft type and no command.
 *
 * In memory a log entry is one reference-counted block, shared by the journal's tail, the messages to slow
 * followers and the state thread. In bytes, a COMMAND entry's payload is (all little-endian):
 *
 *   u8  version (1)          unknown versions stop the node before anything is applied
 *   u8  flags (0)            non-zero = unknown feature = stop
 *   u16 command count        0..65535; 0 = a tick (moves log time only)
 *   u64 nonce                the proposer's; names the proposal together with (index, term)
 *   i64 stamp_ms             the leader's log-clock when it closed the entry
 *   u64 seed                 the leader's random seed for this entry
 *   then `count` times: u16 op, u32 length, payload bytes
 *   u32 CRC-32C of everything before it
 *
 * BARRIER and CONFIGURATION payloads are libraft's and are not looked into here. */
#ifndef HF_ENTRY_ENTRY_H
#define HF_ENTRY_ENTRY_H

#include "base/buf.h"
#include "base/err.h"

#include <stdatomic.h>
#include <stdint.h>

enum hf_entry_type {
    HF_ENTRY_COMMAND = 1, /* values equal libraft's RAFT_COMMAND, RAFT_BARRIER, RAFT_CHANGE; on disk and wire */
    HF_ENTRY_BARRIER = 2,
    HF_ENTRY_CONFIGURATION = 3,
};

/* One entry of the log. Immutable once index and term are set. Thread-safe reference count. */
struct hf_log_entry {
    _Atomic uint32_t refs;
    enum hf_entry_type type;
    uint64_t index; /* 0 until it has a place in the log */
    uint64_t term;
    uint32_t len;
    uint8_t data[];
};

/* New entry with one reference and len uninitialised payload bytes. */
struct hf_log_entry *hf_log_entry_new(enum hf_entry_type type, uint64_t index, uint64_t term, uint32_t len);
struct hf_log_entry *hf_log_entry_ref(struct hf_log_entry *e);
void hf_log_entry_unref(struct hf_log_entry *e); /* NULL allowed */

/* Feature level: what a release can apply and read. The cluster's level is replicated state, raised by an entry once
 * every member (learners too) has announced that it supports the higher one (R26). An entry, a configuration or a
 * state of a level above a node's own stops that node before it applies anything of it.
 *   1  the first release
 *   2  settings in the state, named members, membership changes, state copies for members that lag */
#define HF_LEVEL_MAX 2u

/* What can be asked about the members of a cluster: by operators' commands, by nodes that join, from node to node. The
 * numbers are on the wire. */
enum hf_member_op {
    HF_MEMBER_JOIN = 1, /* a node asks for itself; not a command */
    HF_MEMBER_ADD,      /* name, address: a place for a node that will join under this name */
    HF_MEMBER_REMOVE,
    HF_MEMBER_PROMOTE,
    HF_MEMBER_DEMOTE,
    HF_MEMBER_REPLACE, /* node is the old one, other the new one */
    HF_MEMBER_TRANSFER /* leadership to node, "" = the most up-to-date voter */
};

#define HF_ENTRY_COMMANDS_MAX         65535u
#define HF_ENTRY_HEADER_BYTES         28u
#define HF_ENTRY_COMMAND_HEADER_BYTES 6u
#define HF_ENTRY_TRAILER_BYTES        4u

/* Builds the payload of a COMMAND entry. Zero-initialise, begin, add..., finish. */
struct hf_entry_writer {
    struct hf_buf buf;
    uint32_t count;
};

void hf_entry_begin(struct hf_entry_writer *w);
/* Append one planned command; bytes are copied. False (nothing added) at HF_ENTRY_COMMANDS_MAX. */
bool hf_entry_add(struct hf_entry_writer *w, uint16_t op, struct hf_slice payload);
/* Bytes the finished entry will have. */
size_t hf_entry_size(const struct hf_entry_writer *w);
/* Stamp and seal: returns a new log entry (type COMMAND, index 0, term 0) and empties the writer (keeping its
 * memory for the next one). */
struct hf_log_entry *hf_entry_finish(struct hf_entry_writer *w, uint64_t nonce, int64_t stamp_ms, uint64_t seed);
void hf_entry_writer_free(struct hf_entry_writer *w);

struct hf_entry_header {
    uint16_t count;
    uint64_t nonce;
    int64_t stamp_ms;
    uint64_t seed;
};

/* Walks the commands of a payload. decode checks version, flags, checksum and that all `count` commands fit
 * exactly: after HF_OK, next() cannot fail. Errors: HF_E_VERSION, HF_E_CORRUPT. Payload stays borrowed. */
struct hf_entry_reader {
    struct hf_entry_header header;
    uint32_t position; /* of the next command, 0-based */
    struct hf_reader in;
};

HF_MUST_CHECK int hf_entry_decode(struct hf_entry_reader *r, struct hf_slice payload);
/* False when there are no more. */
bool hf_entry_next(struct hf_entry_reader *r, uint16_t *op, struct hf_slice *payload);
/* Header only, without verifying the checksum (the proposer finding its nonce). */
HF_MUST_CHECK int hf_entry_peek(struct hf_entry_header *h, struct hf_slice payload);

#endif
