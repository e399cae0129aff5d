/* codec.h: raft messages to bytes and back. Internal to consensus. Everything that comes in is validated here, so
 * that libraft's core (which asserts nothing in the Debian build) never sees a malformed message.
 * Message types on the RAFT channel: the enum below; layouts at the top of codec.c. */
#ifndef HF_CONSENSUS_CODEC_H
#define HF_CONSENSUS_CODEC_H

#include "base/buf.h"
#include "base/err.h"
#include "entry/entry.h"

#include <raft.h>

enum hf_raft_message_type {
    HF_MSG_APPEND_ENTRIES = 1,
    HF_MSG_APPEND_ENTRIES_RESULT = 2,
    HF_MSG_REQUEST_VOTE = 3,
    HF_MSG_REQUEST_VOTE_RESULT = 4,
    HF_MSG_INSTALL_SNAPSHOT = 5, /* reserved; not sent yet */
    HF_MSG_TIMEOUT_NOW = 6,
    HF_MSG_PING = 16,   /* read gate: u64 term, u64 sequence, u32 lease_ms (0) */
    HF_MSG_PONG = 17,   /* u64 term, u64 sequence, u8 flags (bit 0: term not above yours, bit 1: promise) */
    HF_MSG_BEHIND = 18, /* leader to follower: your log ends at u64, mine starts at u64: you need a copy of the state */
};

/* Header part of a message (AppendEntries: without the entries, which follow as encoded by
 * hf_codec_put_entry, one after the other). */
void hf_codec_put_message(struct hf_buf *out, const struct raft_message *m);
/* u64 term, u8 type, u32 length, payload. Index follows from prev_log_index + position. */
void hf_codec_put_entry(struct hf_buf *out, const struct hf_log_entry *e);

/* Decode a message of `type` from bytes into *m (server_id, server_address are the caller's to set). For
 * AppendEntries with entries, *entries gets n_entries new log entries (one reference each; hf_malloc'ed array, NULL
 * when n = 0) with index set, and m->append_entries.entries stays NULL. HF_E_INVALID on anything malformed: lengths,
 * trailing bytes, terms of entries that fall or exceed the message's term, unknown entry types, a
 * CONFIGURATION entry that does not decode or holds no voter, more than 65535 entries; nothing is allocated then. */
HF_MUST_CHECK int hf_codec_decode(uint8_t type, struct hf_slice bytes, struct raft_message *m,
                                  struct hf_log_entry ***entries);

#endif
