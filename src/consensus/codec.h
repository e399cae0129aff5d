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
    HF_MSG_INSTALL_SNAPSHOT = 5, /* see hf_codec_put_install */
    HF_MSG_TIMEOUT_NOW = 6,
    HF_MSG_PING = 16,   /* read gate: u64 term, u64 sequence, u32 lease_ms (0) */
    HF_MSG_PONG = 17,   /* u64 term, u64 sequence, u8 flags (bit 0: term not above yours, bit 1: promise) */
    HF_MSG_BEHIND = 18, /* was: you need a copy of the state, which the first release could not send. Ignored */
    HF_MSG_STATUS = 19, /* i64 wall clock ms, u64 lowest index needed by any voter (leader; else 0), u64 term, u8 flags
                         * (bit 0: disk space is low) */
    /* feature level 2; the first release ignores them */
    HF_MSG_LEVEL = 20,    /* u32 feature level that the sender supports */
    HF_MSG_OPERATE = 21,  /* a change of the members for the leader to carry out: see operate.c */
    HF_MSG_OPERATED = 22, /* what became of it */
    HF_MSG_REMOVED = 23,  /* u64 index of the committed configuration that the receiver is not in */
};

/* What libraft's core puts into an AppendEntries result of its own. */
#define HF_APPEND_RESULT_VERSION  2
#define HF_APPEND_RESULT_FEATURES 1 /* capacity is told */

/* On the JOIN channel; layouts in join.c. */
enum hf_join_message_type {
    HF_MSG_JOIN = 1,  /* a node that is no member asks to become one */
    HF_MSG_JOINED = 2 /* the answer */
};

/* Header part of a message (AppendEntries: without the entries, which follow as encoded by
 * hf_codec_put_entry, one after the other). */
void hf_codec_put_message(struct hf_buf *out, const struct raft_message *m);
/* The leader's word to install the copy of the state that the receiver has: its place, and the configuration then. */
void hf_codec_put_install(struct hf_buf *out, uint64_t term, uint64_t index, uint64_t index_term,
                          uint64_t configuration_index, struct hf_slice configuration);
/* Whether raft_configuration_decode accepts these bytes, and they hold a voter. */
bool hf_codec_is_configuration(struct hf_slice bytes);
/* u64 term, u8 type, u32 length, payload. Index follows from prev_log_index + position. */
void hf_codec_put_entry(struct hf_buf *out, const struct hf_log_entry *e);

/* Decode a message of `type` from bytes into *m (server_id, server_address are the caller's to set). For
 * AppendEntries with entries, *entries gets n_entries new log entries (one reference each; hf_malloc'ed array, NULL
 * when n = 0) with index set, and m->append_entries.entries stays NULL. HF_E_INVALID on anything malformed: lengths,
 * trailing bytes, terms of entries that fall or exceed the message's term, unknown entry types, a
 * CONFIGURATION entry that does not decode or holds no voter, more than 65535 entries; nothing is allocated then.
 * An INSTALL_SNAPSHOT brings its own configuration and data, which the core takes with the step. */
HF_MUST_CHECK int hf_codec_decode(uint8_t type, struct hf_slice bytes, struct raft_message *m,
                                  struct hf_log_entry ***entries);

#endif
