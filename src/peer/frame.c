/* frame.c: writes and reads the frames described in frame.h. */
#include "peer/frame.h"

#include "base/assert.h"
#include "base/util.h"

/* A reassembly buffer larger than this is given back after its message. */
#define BULK_KEEP_BYTES (1u << 20)

static const uint8_t magic[8] = {'H', 'O', 'L', 'D', 'F', 'A', 'S', 'T'};

void hf_frame_put_preface(struct hf_buf *out)
{
    hf_buf_put(out, magic, sizeof(magic));
    hf_buf_put_u16(out, HF_FRAMING_VERSION);
    hf_buf_put_u16(out, 0);
}

void hf_frame_put(struct hf_buf *out, uint8_t type, uint8_t flags, uint16_t sequence, const struct hf_slice *parts,
                  size_t n)
{
    size_t start = out->len, len = 0;
    uint8_t *header;
    uint32_t crc;

    for (size_t i = 0; i < n; i++)
        len += parts[i].len;
    HF_ASSERT(len <= HF_PEER_FRAME_BYTES);
    hf_buf_reserve(out, HF_FRAME_HEADER_BYTES + len);
    out->len += HF_FRAME_HEADER_BYTES;
    for (size_t i = 0; i < n; i++)
        hf_buf_put(out, parts[i].ptr, parts[i].len);
    header = out->data + start;
    hf_store_u32(header, (uint32_t)len);
    header[4] = type;
    header[5] = flags;
    hf_store_u16(header + 6, sequence);
    crc = hf_crc32c(0, header, 8);
    hf_store_u32(header + 8, crc);
    hf_store_u32(header + 12, hf_crc32c(crc, header + HF_FRAME_HEADER_BYTES, len));
}

/* ---- reading ------------------------------------------------------------------------------------- */

void hf_frame_reader_init(struct hf_frame_reader *r, size_t frame_bytes_max, uint64_t message_bytes_max)
{
    *r = (struct hf_frame_reader){.frame_bytes_max = frame_bytes_max, .message_bytes_max = message_bytes_max};
}

void hf_frame_reader_free(struct hf_frame_reader *r)
{
    hf_buf_free(&r->partial);
    hf_buf_free(&r->bulk);
    *r = (struct hf_frame_reader){0};
}

void hf_frame_reader_input(struct hf_frame_reader *r, struct hf_slice bytes)
{
    HF_ASSERT(r->input.len == 0);
    r->input = bytes;
}

bool hf_frame_reader_is_midway(const struct hf_frame_reader *r)
{
    return r->is_bulk_open || (r->partial.len != 0 && !r->is_partial_spent);
}

size_t hf_frame_reader_memory(const struct hf_frame_reader *r)
{
    return r->partial.cap + r->bulk.cap;
}

static int fail(struct hf_frame_reader *r, const char *error)
{
    r->error = error;
    return HF_E_INVALID;
}

/* The first n bytes of what was not consumed yet in one piece, or NULL when they have not all come. Bytes are copied
 * only when a frame does not end in the chunk that it began in. */
static const uint8_t *peek(struct hf_frame_reader *r, size_t n)
{
    size_t missing;

    if (r->partial.len == 0 && r->input.len >= n)
        return r->input.ptr;
    if (r->partial.len < n) {
        missing = n - r->partial.len;
        if (missing > r->input.len)
            missing = r->input.len;
        hf_buf_put(&r->partial, r->input.ptr, missing);
        r->input = hf_slice(r->input.ptr + missing, r->input.len - missing);
    }
    return r->partial.len >= n ? r->partial.data : NULL;
}

static void consume(struct hf_frame_reader *r, size_t n)
{
    if (r->partial.len == 0) {
        HF_ASSERT(r->input.len >= n);
        r->input = hf_slice(r->input.ptr + n, r->input.len - n);
    } else {
        HF_ASSERT(r->partial.len == n); /* peek never takes more than it was asked for */
        r->is_partial_spent = true;
    }
}

/* Let go of what the message returned last stood in. */
static void release_spent(struct hf_frame_reader *r)
{
    if (r->is_partial_spent)
        r->partial.len = 0;
    r->is_partial_spent = false;
    if (r->is_bulk_spent && r->bulk.cap > BULK_KEEP_BYTES)
        hf_buf_free(&r->bulk);
    else if (r->is_bulk_spent)
        r->bulk.len = 0;
    r->is_bulk_spent = false;
}

static int read_preface(struct hf_frame_reader *r)
{
    const uint8_t *p = peek(r, HF_PREFACE_BYTES);

    if (p == NULL) {
        /* Garbage is told by its first bytes: a stranger that sends three of them and waits is gone at once. */
        size_t n = r->partial.len < sizeof(magic) ? r->partial.len : sizeof(magic);

        return n != 0 && memcmp(r->partial.data, magic, n) != 0 ? fail(r, "does not speak this protocol") : 0;
    }
    if (memcmp(p, magic, sizeof(magic)) != 0)
        return fail(r, "does not speak this protocol");
    if (hf_load_u16(p + 8) != HF_FRAMING_VERSION) {
        r->error = "speaks another framing version";
        return HF_E_VERSION;
    }
    if (hf_load_u16(p + 10) != 0)
        return fail(r, "unknown preface");
    consume(r, HF_PREFACE_BYTES);
    r->has_preface = true;
    return 1;
}

/* Everything about a header that can be wrong before its payload has come. */
static int check_header(struct hf_frame_reader *r, const uint8_t *header)
{
    uint8_t type = header[4], flags = header[5];
    size_t len = hf_load_u32(header);

    if (hf_load_u32(header + 8) != hf_crc32c(0, header, 8))
        return fail(r, "frame header checksum");
    if (len > r->frame_bytes_max)
        return fail(r, "frame longer than the limit");
    if (hf_load_u16(header + 6) != r->sequence)
        return fail(r, "frame out of sequence");
    if ((flags & ~(HF_FRAME_MORE | HF_FRAME_CONTINUED | HF_FRAME_URGENT)) != 0)
        return fail(r, "unknown frame flags");
    if (type >= HF_FRAME_OWN_TYPES) {
        if (type != HF_FRAME_HELLO && type != HF_FRAME_REFUSE && type != HF_FRAME_KEEPALIVE)
            return fail(r, "unknown frame type");
        if (flags != 0)
            return fail(r, "flags on a frame that has none");
        return type == HF_FRAME_KEEPALIVE && len != 0 ? fail(r, "keepalive with content") : 0;
    }
    if ((flags & HF_FRAME_URGENT) != 0) {
        if (flags != HF_FRAME_URGENT)
            return fail(r, "urgent message in several frames");
    } else if (((flags & HF_FRAME_CONTINUED) != 0) != r->is_bulk_open) {
        return fail(r, r->is_bulk_open ? "message inside another" : "continues no message");
    } else if (r->is_bulk_open && type != r->bulk_type) {
        return fail(r, "message changes its type");
    }
    if ((flags & (HF_FRAME_MORE | HF_FRAME_CONTINUED)) != 0 && len == 0)
        return fail(r, "empty part of a message");
    if (len + ((flags & HF_FRAME_CONTINUED) != 0 ? r->bulk.len : 0) > r->message_bytes_max)
        return fail(r, "message longer than the limit");
    return 0;
}

/* A frame whose bytes are all here. 1: it completed *out. */
static int take_frame(struct hf_frame_reader *r, const uint8_t *header, struct hf_frame_message *out)
{
    struct hf_slice payload = hf_slice(header + HF_FRAME_HEADER_BYTES, hf_load_u32(header));
    uint8_t flags = header[5];

    if (hf_load_u32(header + 12) != hf_crc32c(hf_load_u32(header + 8), payload.ptr, payload.len))
        return fail(r, "frame checksum");
    r->sequence++;
    out->type = header[4];
    out->payload = payload;
    consume(r, HF_FRAME_HEADER_BYTES + payload.len);
    if ((flags & (HF_FRAME_MORE | HF_FRAME_CONTINUED)) == 0)
        return 1;
    hf_buf_put(&r->bulk, payload.ptr, payload.len);
    r->bulk_type = out->type;
    r->is_bulk_open = (flags & HF_FRAME_MORE) != 0;
    if (r->is_bulk_open)
        return 0;
    r->is_bulk_spent = true;
    out->payload = hf_buf_slice(&r->bulk);
    return 1;
}

int hf_frame_reader_next(struct hf_frame_reader *r, struct hf_frame_message *out)
{
    const uint8_t *p;
    int rc;

    if (!r->has_preface) {
        rc = read_preface(r);
        if (rc != 1)
            return rc;
    }
    for (;;) {
        release_spent(r);
        p = peek(r, HF_FRAME_HEADER_BYTES);
        if (p == NULL)
            return 0;
        rc = check_header(r, p);
        if (rc != 0)
            return rc;
        p = peek(r, HF_FRAME_HEADER_BYTES + (size_t)hf_load_u32(p));
        if (p == NULL)
            return 0;
        rc = take_frame(r, p, out);
        if (rc != 0)
            return rc;
    }
}
