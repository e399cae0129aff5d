/* fuzz_entry.c: the payload of a COMMAND entry that decodes can be walked to its end and encodes to the same bytes
 * again. If the highest bit of the first byte (not part of the payload) is set, the checksum is repaired first. */
#include "fuzz.h"

#include "base/assert.h"
#include "base/mem.h"
#include "base/util.h"
#include "entry/entry.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hf_entry_writer w = {0};
    struct hf_entry_header peeked;
    struct hf_entry_reader r;
    struct hf_log_entry *e;
    struct hf_slice payload, command;
    uint8_t *bytes;
    uint16_t op;
    uint32_t n = 0;

    if (size == 0)
        return 0;
    bytes = hf_memdup(data + 1, size - 1);
    payload = hf_slice(bytes, size - 1);
    if ((data[0] & 0x80) != 0 && payload.len >= HF_ENTRY_TRAILER_BYTES) {
        size_t body = payload.len - HF_ENTRY_TRAILER_BYTES;

        hf_store_u32(bytes + body, hf_crc32c(0, bytes, body));
    }
    if (hf_entry_decode(&r, payload) != 0) {
        (void)!hf_entry_peek(&peeked, payload);
        hf_free(bytes);
        return 0;
    }
    HF_ASSERT(hf_entry_peek(&peeked, payload) == 0);
    HF_ASSERT(peeked.nonce == r.header.nonce);
    HF_ASSERT(peeked.count == r.header.count);
    hf_entry_begin(&w);
    while (hf_entry_next(&r, &op, &command)) {
        HF_ASSERT(hf_entry_add(&w, op, command));
        n++;
    }
    HF_ASSERT(n == r.header.count);
    HF_ASSERT(hf_entry_size(&w) == payload.len);
    e = hf_entry_finish(&w, r.header.nonce, r.header.stamp_ms, r.header.seed);
    HF_ASSERT(hf_slice_eq(hf_slice(e->data, e->len), payload));
    hf_log_entry_unref(e);
    hf_entry_writer_free(&w);
    hf_free(bytes);
    return 0;
}
