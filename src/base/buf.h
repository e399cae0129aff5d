/* buf.h: byte slices (borrowed), growable buffers (owned) and a bounds-checked reader. All integers are
 * little-endian. Not thread-safe; no hidden state. */
#ifndef HF_BASE_BUF_H
#define HF_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Borrowed bytes; ptr may be NULL only when len is 0. */
struct hf_slice {
    const uint8_t *ptr;
    size_t len;
};

static inline struct hf_slice hf_slice(const void *ptr, size_t len)
{
    struct hf_slice s = {(const uint8_t *)ptr, len};
    return s;
}

static inline struct hf_slice hf_slice_str(const char *s)
{
    return hf_slice(s, strlen(s));
}

static inline bool hf_slice_eq(struct hf_slice a, struct hf_slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* Order of memcmp, a prefix sorts first. */
int hf_slice_cmp(struct hf_slice a, struct hf_slice b);
/* ASCII case-insensitive equality with a C string (command names and options). */
bool hf_slice_is(struct hf_slice s, const char *word);

/* Fixed-offset encoders for headers that are patched in place. Written as byte loads and stores that the
 * compiler folds into one unaligned access on little-endian machines. */
static inline void hf_store_u16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static inline void hf_store_u32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
    p[2] = (uint8_t)(v >> 16);
    p[3] = (uint8_t)(v >> 24);
}

static inline void hf_store_u64(uint8_t *p, uint64_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
    p[2] = (uint8_t)(v >> 16);
    p[3] = (uint8_t)(v >> 24);
    p[4] = (uint8_t)(v >> 32);
    p[5] = (uint8_t)(v >> 40);
    p[6] = (uint8_t)(v >> 48);
    p[7] = (uint8_t)(v >> 56);
}

static inline uint16_t hf_load_u16(const uint8_t *p)
{
    return (uint16_t)(p[0] | (uint16_t)p[1] << 8);
}

static inline uint32_t hf_load_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t hf_load_u64(const uint8_t *p)
{
    return (uint64_t)p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 24 | (uint64_t)p[4] << 32 |
           (uint64_t)p[5] << 40 | (uint64_t)p[6] << 48 | (uint64_t)p[7] << 56;
}

/* Owned, growable bytes. Zero-initialise; hf_buf_free releases and zeroes. Grows by doubling. */
struct hf_buf {
    uint8_t *data;
    size_t len, cap;
};

void hf_buf_free(struct hf_buf *b);
/* The slow path of hf_buf_reserve: makes cap - len >= n and data non-NULL. */
void hf_buf_grow(struct hf_buf *b, size_t n);

/* Room for n more bytes after len; returns where they go (never NULL, also for n 0). */
static inline uint8_t *hf_buf_reserve(struct hf_buf *b, size_t n)
{
    if (__builtin_expect(n > b->cap - b->len || b->data == NULL, 0))
        hf_buf_grow(b, n);
    return b->data + b->len;
}

static inline void hf_buf_put(struct hf_buf *b, const void *ptr, size_t n)
{
    if (n == 0)
        return;
    memcpy(hf_buf_reserve(b, n), ptr, n);
    b->len += n;
}

static inline void hf_buf_put_u8(struct hf_buf *b, uint8_t v)
{
    hf_buf_reserve(b, 1)[0] = v;
    b->len += 1;
}

static inline void hf_buf_put_u16(struct hf_buf *b, uint16_t v)
{
    hf_store_u16(hf_buf_reserve(b, 2), v);
    b->len += 2;
}

static inline void hf_buf_put_u32(struct hf_buf *b, uint32_t v)
{
    hf_store_u32(hf_buf_reserve(b, 4), v);
    b->len += 4;
}

static inline void hf_buf_put_u64(struct hf_buf *b, uint64_t v)
{
    hf_store_u64(hf_buf_reserve(b, 8), v);
    b->len += 8;
}

/* u32 length, then the bytes. */
void hf_buf_put_slice(struct hf_buf *b, struct hf_slice s);
void hf_buf_printf(struct hf_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Drop the first n bytes (n <= len). */
void hf_buf_consume(struct hf_buf *b, size_t n);

static inline struct hf_slice hf_buf_slice(const struct hf_buf *b)
{
    return hf_slice(b->data, b->len);
}

/* Reads forward over borrowed bytes. Once a read runs past the end, `failed` stays true, and every
 * further read gives 0 / an empty slice: check once at the end (hf_reader_done). */
struct hf_reader {
    const uint8_t *p, *end;
    bool failed;
};

static inline struct hf_reader hf_reader(struct hf_slice s)
{
    struct hf_reader r = {s.ptr, s.ptr ? s.ptr + s.len : s.ptr, false};
    return r;
}

/* Where the next n bytes are, or NULL (and failed) when fewer are left. The base of all reads below. */
static inline const uint8_t *hf_reader_take(struct hf_reader *r, size_t n)
{
    const uint8_t *p = r->p;

    if (__builtin_expect(r->failed || (size_t)(r->end - p) < n, 0)) {
        r->failed = true;
        return NULL;
    }
    if (n != 0)
        r->p = p + n;
    return p;
}

static inline uint8_t hf_read_u8(struct hf_reader *r)
{
    const uint8_t *p = hf_reader_take(r, 1);
    return p ? p[0] : 0;
}

static inline uint16_t hf_read_u16(struct hf_reader *r)
{
    const uint8_t *p = hf_reader_take(r, 2);
    return p ? hf_load_u16(p) : 0;
}

static inline uint32_t hf_read_u32(struct hf_reader *r)
{
    const uint8_t *p = hf_reader_take(r, 4);
    return p ? hf_load_u32(p) : 0;
}

static inline uint64_t hf_read_u64(struct hf_reader *r)
{
    const uint8_t *p = hf_reader_take(r, 8);
    return p ? hf_load_u64(p) : 0;
}

/* n bytes; borrowed */
static inline struct hf_slice hf_read_bytes(struct hf_reader *r, size_t n)
{
    const uint8_t *p = hf_reader_take(r, n);
    return hf_slice(p, p ? n : 0);
}

/* u32 length, then bytes; borrowed */
static inline struct hf_slice hf_read_slice(struct hf_reader *r)
{
    uint32_t n = hf_read_u32(r);
    return hf_read_bytes(r, n);
}

static inline size_t hf_reader_left(const struct hf_reader *r)
{
    return (size_t)(r->end - r->p);
}
/* True when nothing failed and nothing is left. */
static inline bool hf_reader_done(const struct hf_reader *r)
{
    return !r->failed && r->p == r->end;
}

#endif
