/* reply.c: building and checking flat reply values (the format is in reply.h). Command handlers write them, net
 * encodes them (encode.c), proxies carry them between nodes as they are. */
#include "resp/reply.h"

#include "base/assert.h"
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>

#define DEPTH_MAX 32

static void put_tag(struct hf_reply *r, enum hf_reply_tag tag)
{
    hf_buf_put_u8(&r->buf, (uint8_t)tag);
}

static void put_text(struct hf_reply *r, enum hf_reply_tag tag, const void *ptr, size_t n)
{
    uint8_t *out;

    if (r->discard)
        return;
    HF_ASSERT(n <= UINT32_MAX);
    out = hf_buf_reserve(&r->buf, 5 + n);
    out[0] = (uint8_t)tag;
    hf_store_u32(out + 1, (uint32_t)n);
    if (n != 0)
        memcpy(out + 5, ptr, n);
    r->buf.len += 5 + n;
}

/* Status and error are one line on the wire: what would end the line early becomes a space. */
static void put_line(struct hf_reply *r, enum hf_reply_tag tag, const char *text, size_t n)
{
    uint8_t *line;

    if (r->discard)
        return;
    put_text(r, tag, text, n);
    line = r->buf.data + r->buf.len - n;
    for (size_t i = 0; i < n; i++) {
        if (line[i] == '\r' || line[i] == '\n')
            line[i] = ' ';
    }
}

static void put_count(struct hf_reply *r, enum hf_reply_tag tag, uint32_t n)
{
    if (r->discard)
        return;
    put_tag(r, tag);
    hf_buf_put_u32(&r->buf, n);
}

void hf_reply_status(struct hf_reply *r, const char *text)
{
    put_line(r, HF_REPLY_STATUS, text, strlen(text));
}

void hf_reply_ok(struct hf_reply *r)
{
    put_text(r, HF_REPLY_STATUS, "OK", 2);
}

void hf_reply_error(struct hf_reply *r, const char *text)
{
    put_line(r, HF_REPLY_ERROR, text, strlen(text));
}

void hf_reply_errorf(struct hf_reply *r, const char *fmt, ...)
{
    char small[512];
    va_list ap;
    int n;

    if (r->discard)
        return;
    va_start(ap, fmt);
    n = vsnprintf(small, sizeof small, fmt, ap);
    va_end(ap);
    HF_ASSERT(n >= 0);
    if ((size_t)n < sizeof small) {
        put_line(r, HF_REPLY_ERROR, small, (size_t)n);
        return;
    }

    char *large = hf_malloc((size_t)n + 1);
    va_start(ap, fmt);
    vsnprintf(large, (size_t)n + 1, fmt, ap);
    va_end(ap);
    put_line(r, HF_REPLY_ERROR, large, (size_t)n);
    hf_free(large);
}

void hf_reply_int(struct hf_reply *r, int64_t v)
{
    if (r->discard)
        return;
    put_tag(r, HF_REPLY_INT);
    hf_buf_put_u64(&r->buf, (uint64_t)v);
}

void hf_reply_bulk(struct hf_reply *r, struct hf_slice s)
{
    put_text(r, HF_REPLY_BULK, s.ptr, s.len);
}

void hf_reply_bulk_str(struct hf_reply *r, const char *s)
{
    put_text(r, HF_REPLY_BULK, s, strlen(s));
}

void hf_reply_null(struct hf_reply *r)
{
    if (!r->discard)
        put_tag(r, HF_REPLY_NULL);
}

void hf_reply_null_array(struct hf_reply *r)
{
    if (!r->discard)
        put_tag(r, HF_REPLY_NULL_ARRAY);
}

void hf_reply_array(struct hf_reply *r, uint32_t n)
{
    put_count(r, HF_REPLY_ARRAY, n);
}

void hf_reply_map(struct hf_reply *r, uint32_t n_pairs)
{
    put_count(r, HF_REPLY_MAP, n_pairs);
}

void hf_reply_set(struct hf_reply *r, uint32_t n)
{
    put_count(r, HF_REPLY_SET, n);
}

void hf_reply_push(struct hf_reply *r, uint32_t n)
{
    put_count(r, HF_REPLY_PUSH, n);
}

void hf_reply_double_text(struct hf_reply *r, struct hf_slice text)
{
    put_line(r, HF_REPLY_DOUBLE, (const char *)text.ptr, text.len);
}

void hf_reply_bool(struct hf_reply *r, bool v)
{
    if (r->discard)
        return;
    put_tag(r, HF_REPLY_BOOL);
    hf_buf_put_u8(&r->buf, v ? 1 : 0);
}

void hf_reply_verbatim(struct hf_reply *r, struct hf_slice text)
{
    put_text(r, HF_REPLY_VERBATIM, text.ptr, text.len);
}

size_t hf_reply_begin(struct hf_reply *r, enum hf_reply_tag tag)
{
    HF_ASSERT(tag == HF_REPLY_ARRAY || tag == HF_REPLY_MAP || tag == HF_REPLY_SET || tag == HF_REPLY_PUSH ||
              tag == HF_REPLY_ATTRIBUTE);
    if (r->discard)
        return 0;
    put_count(r, tag, 0);
    return r->buf.len - 4;
}

void hf_reply_end(struct hf_reply *r, size_t mark, uint32_t n)
{
    if (r->discard)
        return;
    HF_ASSERT(mark >= 1 && mark + 4 <= r->buf.len);
    hf_store_u32(r->buf.data + mark, n);
}

void hf_reply_free(struct hf_reply *r)
{
    hf_buf_free(&r->buf);
}

static bool is_one_line(struct hf_slice s)
{
    return s.len == 0 || (memchr(s.ptr, '\r', s.len) == NULL && memchr(s.ptr, '\n', s.len) == NULL);
}

bool hf_reply_is_valid(struct hf_slice flat)
{
    struct hf_reader in = hf_reader(flat);
    uint64_t left[DEPTH_MAX + 1] = {1}; /* values still to come at each depth; 64 bits: a map of 2^32-1 pairs */
    unsigned depth = 0;

    for (;;) {
        uint64_t children = 0;
        uint8_t tag;
        bool has_children = false, is_prefix = false;

        while (left[depth] == 0) {
            if (depth == 0)
                return hf_reader_done(&in);
            depth--;
        }
        tag = hf_read_u8(&in);
        if (tag < HF_REPLY_STATUS || tag > HF_REPLY_ATTRIBUTE)
            return false;
        switch ((enum hf_reply_tag)tag) {
        case HF_REPLY_STATUS:
        case HF_REPLY_ERROR:
        case HF_REPLY_DOUBLE:
        case HF_REPLY_BIGNUM:
            if (!is_one_line(hf_read_slice(&in)))
                return false;
            break;
        case HF_REPLY_BULK:
        case HF_REPLY_VERBATIM:
            hf_read_slice(&in);
            break;
        case HF_REPLY_INT:
            hf_read_u64(&in);
            break;
        case HF_REPLY_BOOL:
            if (hf_read_u8(&in) > 1)
                return false;
            break;
        case HF_REPLY_NULL:
        case HF_REPLY_NULL_ARRAY:
            break;
        case HF_REPLY_ARRAY:
        case HF_REPLY_SET:
        case HF_REPLY_PUSH:
            children = hf_read_u32(&in);
            has_children = true;
            break;
        case HF_REPLY_MAP:
            children = 2 * (uint64_t)hf_read_u32(&in);
            has_children = true;
            break;
        case HF_REPLY_ATTRIBUTE: /* stands before the value that it is about: does not count as one itself */
            children = 2 * (uint64_t)hf_read_u32(&in);
            has_children = true;
            is_prefix = true;
            break;
        }
        if (in.failed)
            return false;
        if (!is_prefix)
            left[depth]--;
        if (has_children) {
            if (depth == DEPTH_MAX)
                return false;
            left[++depth] = children;
        }
    }
}

enum hf_reply_tag hf_reply_first_tag(struct hf_slice flat)
{
    return flat.len == 0 ? (enum hf_reply_tag)0 : (enum hf_reply_tag)flat.ptr[0];
}
