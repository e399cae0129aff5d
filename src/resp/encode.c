/* encode.c: flat reply values to RESP2 or RESP3 bytes, and requests to bytes. The last step of a command's walk.
 *
 * The flat form is written in the order of the wire, so encoding is one forward pass without a stack: a container's
 * header is written when it is met, its values follow by themselves. Only an attribute for a RESP2 client needs
 * counting, to leave out exactly its values. */
#include "resp/resp.h"

#include "base/assert.h"
#include "base/util.h"

/* A sign or type byte, up to 20 digits, CR LF. */
#define HEADER_BYTES_MAX 24

static uint8_t *write_crlf(uint8_t *p)
{
    p[0] = '\r';
    p[1] = '\n';
    return p + 2;
}

static uint8_t *write_header(uint8_t *p, char type, int64_t v)
{
    *p++ = (uint8_t)type;
    if (v >= 0 && v < 10)
        *p++ = (uint8_t)('0' + v); /* most lengths and counters */
    else
        p += hf_format_int64((char *)p, v);
    return write_crlf(p);
}

static void put_header(struct hf_buf *out, char type, int64_t v)
{
    uint8_t *start = hf_buf_reserve(out, HEADER_BYTES_MAX);
    out->len += (size_t)(write_header(start, type, v) - start);
}

static void put_bulk(struct hf_buf *out, struct hf_slice s)
{
    uint8_t *start = hf_buf_reserve(out, HEADER_BYTES_MAX + s.len + 2);
    uint8_t *p = write_header(start, '$', (int64_t)s.len);

    if (s.len != 0)
        memcpy(p, s.ptr, s.len);
    p = write_crlf(p + s.len);
    out->len += (size_t)(p - start);
}

static void put_line(struct hf_buf *out, char type, struct hf_slice s)
{
    uint8_t *p = hf_buf_reserve(out, 1 + s.len + 2);

    p[0] = (uint8_t)type;
    if (s.len != 0)
        memcpy(p + 1, s.ptr, s.len);
    write_crlf(p + 1 + s.len);
    out->len += s.len + 3;
}

static void put_verbatim(struct hf_buf *out, struct hf_slice s)
{
    put_header(out, '=', (int64_t)s.len + 4);
    hf_buf_put(out, "txt:", 4);
    hf_buf_put(out, s.ptr, s.len);
    hf_buf_put(out, "\r\n", 2);
}

/* Step over `n` values. */
static void skip_values(struct hf_reader *in, uint64_t n)
{
    while (n != 0 && !in->failed) {
        n--;
        switch ((enum hf_reply_tag)hf_read_u8(in)) {
        case HF_REPLY_STATUS:
        case HF_REPLY_ERROR:
        case HF_REPLY_BULK:
        case HF_REPLY_DOUBLE:
        case HF_REPLY_VERBATIM:
        case HF_REPLY_BIGNUM:
            hf_read_slice(in);
            break;
        case HF_REPLY_INT:
            hf_read_u64(in);
            break;
        case HF_REPLY_BOOL:
            hf_read_u8(in);
            break;
        case HF_REPLY_NULL:
        case HF_REPLY_NULL_ARRAY:
            break;
        case HF_REPLY_ARRAY:
        case HF_REPLY_SET:
        case HF_REPLY_PUSH:
            n += hf_read_u32(in);
            break;
        case HF_REPLY_MAP:
            n += 2 * (uint64_t)hf_read_u32(in);
            break;
        case HF_REPLY_ATTRIBUTE: /* its own values, and the value it stands before */
            n += 2 * (uint64_t)hf_read_u32(in) + 1;
            break;
        }
    }
}

void hf_resp_encode(struct hf_buf *out, struct hf_slice flat, int protocol)
{
    struct hf_reader in = hf_reader(flat);
    bool resp3 = protocol >= 3;
    uint32_t n;

    while (hf_reader_left(&in) != 0) {
        switch ((enum hf_reply_tag)hf_read_u8(&in)) {
        case HF_REPLY_BULK:
            put_bulk(out, hf_read_slice(&in));
            break;
        case HF_REPLY_STATUS:
            put_line(out, '+', hf_read_slice(&in));
            break;
        case HF_REPLY_ERROR:
            put_line(out, '-', hf_read_slice(&in));
            break;
        case HF_REPLY_INT:
            put_header(out, ':', (int64_t)hf_read_u64(&in));
            break;
        case HF_REPLY_NULL:
            hf_buf_put(out, resp3 ? "_\r\n" : "$-1\r\n", resp3 ? 3 : 5);
            break;
        case HF_REPLY_NULL_ARRAY:
            hf_buf_put(out, resp3 ? "_\r\n" : "*-1\r\n", resp3 ? 3 : 5);
            break;
        case HF_REPLY_ARRAY:
            put_header(out, '*', hf_read_u32(&in));
            break;
        case HF_REPLY_SET:
            put_header(out, resp3 ? '~' : '*', hf_read_u32(&in));
            break;
        case HF_REPLY_PUSH:
            put_header(out, resp3 ? '>' : '*', hf_read_u32(&in));
            break;
        case HF_REPLY_MAP:
            n = hf_read_u32(&in);
            put_header(out, resp3 ? '%' : '*', resp3 ? (int64_t)n : 2 * (int64_t)n);
            break;
        case HF_REPLY_DOUBLE:
            if (resp3)
                put_line(out, ',', hf_read_slice(&in));
            else
                put_bulk(out, hf_read_slice(&in));
            break;
        case HF_REPLY_BOOL:
            if (resp3)
                hf_buf_put(out, hf_read_u8(&in) ? "#t\r\n" : "#f\r\n", 4);
            else
                put_header(out, ':', hf_read_u8(&in) ? 1 : 0);
            break;
        case HF_REPLY_VERBATIM:
            if (resp3)
                put_verbatim(out, hf_read_slice(&in));
            else
                put_bulk(out, hf_read_slice(&in));
            break;
        case HF_REPLY_BIGNUM:
            if (resp3)
                put_line(out, '(', hf_read_slice(&in));
            else
                put_bulk(out, hf_read_slice(&in));
            break;
        case HF_REPLY_ATTRIBUTE:
            n = hf_read_u32(&in);
            if (resp3)
                put_header(out, '|', n);
            else
                skip_values(&in, 2 * (uint64_t)n);
            break;
        }
    }
    HF_ASSERT(!in.failed);
}

void hf_resp_encode_request(struct hf_buf *out, const struct hf_slice *words, uint32_t n)
{
    put_header(out, '*', n);
    for (uint32_t i = 0; i < n; i++)
        put_bulk(out, words[i]);
}
