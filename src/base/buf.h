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

/* Owned, growable bytes. Zero-initialise; hf_buf_free releases and zeroes. Grows by doubling. */
struct hf_buf {
    uint8_t *data;
    size_t len, cap;
};

void hf_buf_free(struct hf_buf *b);
/* Room for n more bytes after len; returns where they go. */
uint8_t *hf_buf_reserve(struct hf_buf *b, size_t n);
void hf_buf_put(struct hf_buf *b, const void *ptr, size_t n);
void hf_buf_printf(struct hf_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void hf_buf_put_u8(struct hf_buf *b, uint8_t v);
void hf_buf_put_u16(struct hf_buf *b, uint16_t v);
void hf_buf_put_u32(struct hf_buf *b, uint32_t v);
void hf_buf_put_u64(struct hf_buf *b, uint64_t v);
/* u32 length, then the bytes. */
void hf_buf_put_slice(struct hf_buf *b, struct hf_slice s);
/* Drop the first n bytes (n <= len). */
void hf_buf_consume(struct hf_buf *b, size_t n);

static inline struct hf_slice hf_buf_slice(const struct hf_buf *b)
{
    return hf_slice(b->data, b->len);
}

/* Fixed-offset encoders for headers that are patched in place. */
void hf_store_u16(uint8_t *p, uint16_t v);
void hf_store_u32(uint8_t *p, uint32_t v);
void hf_store_u64(uint8_t *p, uint64_t v);
uint16_t hf_load_u16(const uint8_t *p);
uint32_t hf_load_u32(const uint8_t *p);
uint64_t hf_load_u64(const uint8_t *p);

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

uint8_t hf_read_u8(struct hf_reader *r);
uint16_t hf_read_u16(struct hf_reader *r);
uint32_t hf_read_u32(struct hf_reader *r);
uint64_t hf_read_u64(struct hf_reader *r);
struct hf_slice hf_read_slice(struct hf_reader *r);          /* u32 length, then bytes; borrowed */
struct hf_slice hf_read_bytes(struct hf_reader *r, size_t n); /* n bytes; borrowed */
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
