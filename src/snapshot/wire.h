/* wire.h: what the two ends of a transfer say to each other on the STATE channel, and the pure code that writes and
 * reads it (no clock, no files: fuzzed as it is). Internal to snapshot.
 *
 * The source dials the target's STATE channel. Messages are those of peer: typed, whole, in order, each frame with its
 * CRC-32C; integers are little-endian. Every message begins with u64 offer, a number that the source gives each OFFER
 * it sends, never twice in its life: an answer to an offer that is over is told by it and ignored. A message that is
 * malformed, or comes where the walk below does not have it, closes the link; the transfer goes on with the next one.
 *
 *   0x01 OFFER      source   offer, u64 epoch, u64 counter, u64 at_least, u64 window, then INFO
 *   0x02 WANT       target   offer, u64 offset, u64 window
 *   0x03 DATA       source   offer, u64 offset, bytes (at least one, to the end of the message)
 *   0x04 ACK        target   offer, u64 offset
 *   0x05 END        source   offer, 16 bytes XXH3-128 of the whole file (canonical byte order)
 *   0x06 VERIFYING  target   offer, u64 rows done, u64 rows in all (0 = not known yet)
 *   0x07 VERIFIED   target   offer, then INFO
 *   0x08 FAILED     both     offer, u8 reason (enum hf_transfer_reason), text (printable ASCII, at most 200 bytes)
 *
 *   INFO            u64 index, u64 term, u64 configuration index, u64 file bytes, u32 level, 16 digest, 16 history,
 *                   u32 length + configuration (at most HF_COPY_CONFIGURATION_MAX)
 *
 * The walk:
 *
 *   source                                target
 *   OFFER  --------------------------->   may it be received? (FAILED refused)
 *          <---------------------------   WANT offset: 0, or where a broken stream of the same copy left off;
 *                                         VERIFYING: all bytes are here; VERIFIED: a file that will do is here already
 *   DATA, DATA, ...  ----------------->   written by and by,
 *          <---------------------------   ACK offset: everything below it is in the file. The source never has more
 *                                         than the WANT's window of bytes on the way that are not acknowledged.
 *   END hash  ------------------------>   compares with the hash of what came. Another: WANT 0, start over (a few
 *                                         times, then FAILED damaged). The same: sync, open, check everything,
 *          <---------------------------   VERIFYING about each second
 *          <---------------------------   VERIFIED: synced, checked, and it waits there to be installed
 *
 * Which copy it is: (store id in the source's hello, epoch, counter, index, file bytes). The epoch is drawn when the
 * source starts, the counter counts its copies, so two different files never share all of them. at_least: a verified
 * file of another source (the leader before) with at least this index is as good as this copy, and VERIFIED names it.
 * FAILED from the source (it gave up, the target needs nothing any more) makes the target forget what it has of this
 * copy. A source that leads no more says nothing: another leader may do with what is there. */
#ifndef HF_SNAPSHOT_WIRE_H
#define HF_SNAPSHOT_WIRE_H

#include "base/buf.h"
#include "base/err.h"
#include "snapshot/snapshot.h"

#define HF_COPY_CONFIGURATION_MAX (64u << 10)
#define HF_COPY_WHY_MAX           200u
#define HF_COPY_DATA_HEADER       16u /* of a DATA message, before its bytes */

enum hf_transfer_message {
    HF_TRANSFER_OFFER = 1,
    HF_TRANSFER_WANT = 2,
    HF_TRANSFER_DATA = 3,
    HF_TRANSFER_ACK = 4,
    HF_TRANSFER_END = 5,
    HF_TRANSFER_VERIFYING = 6,
    HF_TRANSFER_VERIFIED = 7,
    HF_TRANSFER_FAILED = 8
};

enum hf_transfer_reason {
    HF_TRANSFER_REFUSED = 1, /* the target does not want it */
    HF_TRANSFER_NO_SPACE = 2,
    HF_TRANSFER_IO = 3,
    HF_TRANSFER_DAMAGED = 4,  /* what arrived is not what was offered: another copy is needed */
    HF_TRANSFER_REPLACED = 5, /* another source's copy is received instead */
    HF_TRANSFER_GIVEN_UP = 6  /* source: it is not needed any more, or cannot be sent */
};

/* One message of any kind; slices are borrowed from what was decoded. */
struct hf_transfer_wire {
    enum hf_transfer_message type;
    uint64_t offer;
    uint64_t epoch, counter, at_least; /* OFFER */
    uint64_t window;                   /* OFFER, WANT */
    uint64_t offset;                   /* WANT, DATA, ACK */
    uint64_t done, total;              /* VERIFYING */
    uint8_t hash[16];                  /* END */
    struct hf_slice bytes;             /* DATA */
    struct hf_snapshot_info info;      /* OFFER, VERIFIED */
    enum hf_transfer_reason reason;    /* FAILED */
    char why[HF_COPY_WHY_MAX + 1];     /* FAILED */
};

/* Everything but DATA's bytes, which the caller sends as a second part. */
void hf_transfer_put(struct hf_buf *out, const struct hf_transfer_wire *w);
/* HF_E_INVALID: malformed. */
HF_MUST_CHECK int hf_transfer_decode(uint8_t type, struct hf_slice payload, struct hf_transfer_wire *out);

#endif
