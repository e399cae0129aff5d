/* buf.c: the parts of slices and buffers that are not worth inlining. */
#include "base/buf.h"

#include "base/assert.h"
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>

#define BUF_CAP_MIN 64

int hf_slice_cmp(struct hf_slice a, struct hf_slice b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int rc = n ? memcmp(a.ptr, b.ptr, n) : 0;

    if (rc != 0)
        return rc < 0 ? -1 : 1;
    if (a.len == b.len)
        return 0;
    return a.len < b.len ? -1 : 1;
}

static uint8_t lower_ascii(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c + ('a' - 'A')) : c;
}

bool hf_slice_is(struct hf_slice s, const char *word)
{
    for (size_t i = 0; i < s.len; i++) {
        /* The final 0 of word must stop the walk even when the slice itself holds a 0 byte. */
        if (word[i] == '\0' || lower_ascii(s.ptr[i]) != lower_ascii((uint8_t)word[i]))
            return false;
    }
    return word[s.len] == '\0';
}

void hf_buf_free(struct hf_buf *b)
{
    hf_free(b->data);
    *b = (struct hf_buf){0};
}

void hf_buf_grow(struct hf_buf *b, size_t n)
{
    size_t cap = b->cap > BUF_CAP_MIN ? b->cap : BUF_CAP_MIN;

    HF_ASSERT(b->len <= b->cap);
    HF_ASSERT(n <= SIZE_MAX / 4 - b->len);
    while (cap - b->len < n)
        cap *= 2;
    b->data = hf_realloc(b->data, cap);
    b->cap = cap;
}

void hf_buf_put_slice(struct hf_buf *b, struct hf_slice s)
{
    HF_ASSERT(s.len <= UINT32_MAX);
    hf_store_u32(hf_buf_reserve(b, 4 + s.len), (uint32_t)s.len);
    b->len += 4;
    hf_buf_put(b, s.ptr, s.len);
}

void hf_buf_printf(struct hf_buf *b, const char *fmt, ...)
{
    va_list ap;
    int n;

    hf_buf_reserve(b, 1);
    va_start(ap, fmt);
    n = vsnprintf((char *)b->data + b->len, b->cap - b->len, fmt, ap);
    va_end(ap);
    HF_ASSERT(n >= 0);
    if ((size_t)n >= b->cap - b->len) {
        hf_buf_reserve(b, (size_t)n + 1);
        va_start(ap, fmt);
        n = vsnprintf((char *)b->data + b->len, b->cap - b->len, fmt, ap);
        va_end(ap);
    }
    b->len += (size_t)n;
}

void hf_buf_consume(struct hf_buf *b, size_t n)
{
    HF_ASSERT(n <= b->len);
    if (n == 0)
        return;
    b->len -= n;
    if (b->len != 0)
        memmove(b->data, b->data + n, b->len);
}
