/* fuzz_frame.c: a stream of another node gives the same messages and the same error however it is cut, and never makes
 * the reader hold more than its limits. The first byte chooses the cuts; if its highest bit is set, sequence numbers
 * and checksums are repaired first, so that the rules behind them are reached too. */
#include "fuzz.h"

#include "base/assert.h"
#include "base/mem.h"
#include "base/util.h"
#include "peer/frame.h"

#define FRAME_MAX   2000u
#define MESSAGE_MAX 5000u

static const struct hf_hello ours = {.protocol_min = 1, .protocol_max = 3, .node_id = 1};

static void repair(uint8_t *bytes, size_t size)
{
    struct hf_buf preface = {0};
    uint16_t sequence = 0;
    size_t at = HF_PREFACE_BYTES;

    if (size < HF_PREFACE_BYTES)
        return;
    hf_frame_put_preface(&preface);
    memcpy(bytes, preface.data, HF_PREFACE_BYTES);
    hf_buf_free(&preface);
    while (size - at >= HF_FRAME_HEADER_BYTES) {
        uint8_t *header = bytes + at;
        size_t len;
        uint32_t crc;

        header[2] = header[3] = 0; /* lengths that can be here */
        len = hf_load_u32(header);
        if (len > size - at - HF_FRAME_HEADER_BYTES) {
            len = size - at - HF_FRAME_HEADER_BYTES;
            hf_store_u32(header, (uint32_t)len);
        }
        hf_store_u16(header + 6, sequence++);
        crc = hf_crc32c(0, header, 8);
        hf_store_u32(header + 8, crc);
        hf_store_u32(header + 12, hf_crc32c(crc, header + HF_FRAME_HEADER_BYTES, len));
        at += HF_FRAME_HEADER_BYTES + len;
    }
}

static void check_own(const struct hf_frame_message *m)
{
    struct hf_hello hello, again;
    struct hf_buf b = {0};
    char why[256];

    if (m->type == HF_FRAME_REFUSE)
        (void)!hf_refuse_decode(m->payload, why, sizeof(why));
    if (m->type != HF_FRAME_HELLO || hf_hello_decode(m->payload, &ours, &hello, why, sizeof(why)) != 0)
        return;
    hf_hello_put(&b, &hello);
    HF_ASSERT(hello.protocol_max > ours.protocol_max || hf_slice_eq(hf_buf_slice(&b), m->payload));
    HF_ASSERT(hf_hello_decode(hf_buf_slice(&b), &ours, &again, why, sizeof(why)) == 0);
    hf_buf_free(&b);
}

/* Reads it all in chunks of at most `step`; the result stands for everything that came out. */
static uint32_t read_all(const uint8_t *bytes, size_t size, size_t step, const char **error)
{
    struct hf_frame_reader r;
    struct hf_frame_message m;
    uint32_t sum = 0;
    int rc = 0;

    hf_frame_reader_init(&r, FRAME_MAX, MESSAGE_MAX);
    for (size_t at = 0; at < size && rc == 0; at += step) {
        size_t n = size - at < step ? size - at : step;
        uint8_t *chunk = hf_memdup(bytes + at, n);

        hf_frame_reader_input(&r, hf_slice(chunk, n));
        while ((rc = hf_frame_reader_next(&r, &m)) == 1) {
            HF_ASSERT(m.payload.len <= MESSAGE_MAX);
            sum = hf_crc32c(sum, &m.type, 1);
            sum = hf_crc32c(sum, m.payload.ptr, m.payload.len);
            sum = hf_crc32c(sum, &m.payload.len, sizeof(m.payload.len));
            check_own(&m);
        }
        HF_ASSERT(hf_frame_reader_memory(&r) <= 4 * (FRAME_MAX + MESSAGE_MAX));
        hf_free(chunk);
    }
    *error = rc < 0 ? r.error : NULL;
    HF_ASSERT((rc < 0) == (*error != NULL));
    hf_frame_reader_free(&r);
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *error_whole, *error_cut;
    uint32_t whole, cut;
    uint8_t *bytes;

    if (size < 2)
        return 0;
    bytes = hf_memdup(data + 1, size - 1);
    if ((data[0] & 0x80) != 0)
        repair(bytes, size - 1);
    whole = read_all(bytes, size - 1, size, &error_whole);
    cut = read_all(bytes, size - 1, 1 + (data[0] & 0x7f), &error_cut);
    HF_ASSERT(whole == cut);
    HF_ASSERT(error_whole == error_cut);
    hf_free(bytes);
    return 0;
}
