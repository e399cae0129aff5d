/* entry.c: the payload of a COMMAND entry, to bytes and back (format: entry.h), and the reference-counted block
 * that carries any entry through a node. On the walk it stands between propose, which fills entries, and apply,
 * which empties them; the journal and the peers only carry the bytes. */
#include "entry/entry.h"

#include "base/assert.h"
#include "base/mem.h"
#include "base/util.h"

#define ENTRY_VERSION 1

/* Offsets inside the header, patched in place by hf_entry_finish. */
enum {
    AT_VERSION = 0,
    AT_FLAGS = 1,
    AT_COUNT = 2,
    AT_NONCE = 4,
    AT_STAMP = 12,
    AT_SEED = 20,
};

/* ---- the block ----------------------------------------------------------------------------------- */

struct hf_log_entry *hf_log_entry_new(enum hf_entry_type type, uint64_t index, uint64_t term, uint32_t len)
{
    struct hf_log_entry *e = hf_malloc(sizeof *e + len);

    atomic_init(&e->refs, 1);
    e->type = type;
    e->index = index;
    e->term = term;
    e->len = len;
    return e;
}

struct hf_log_entry *hf_log_entry_ref(struct hf_log_entry *e)
{
    uint32_t before = atomic_fetch_add_explicit(&e->refs, 1, memory_order_relaxed);

    HF_ASSERT(before > 0);
    HF_ASSERT(before < UINT32_MAX);
    return e;
}

void hf_log_entry_unref(struct hf_log_entry *e)
{
    uint32_t before;

    if (e == NULL)
        return;
    /* Release our reads of the block before another thread may free it; the last one acquires them all. */
    before = atomic_fetch_sub_explicit(&e->refs, 1, memory_order_acq_rel);
    HF_ASSERT(before > 0);
    if (before == 1)
        hf_free(e);
}

/* ---- writing ------------------------------------------------------------------------------------- */

void hf_entry_begin(struct hf_entry_writer *w)
{
    uint8_t *p;

    w->buf.len = 0;
    w->count = 0;
    p = hf_buf_reserve(&w->buf, HF_ENTRY_HEADER_BYTES);
    memset(p, 0, HF_ENTRY_HEADER_BYTES);
    w->buf.len = HF_ENTRY_HEADER_BYTES;
}

bool hf_entry_add(struct hf_entry_writer *w, uint16_t op, struct hf_slice payload)
{
    HF_ASSERT(w->buf.len >= HF_ENTRY_HEADER_BYTES);
    HF_ASSERT(payload.len <= UINT32_MAX);
    if (w->count == HF_ENTRY_COMMANDS_MAX)
        return false;
    hf_buf_put_u16(&w->buf, op);
    hf_buf_put_slice(&w->buf, payload);
    w->count++;
    return true;
}

size_t hf_entry_size(const struct hf_entry_writer *w)
{
    return w->buf.len + HF_ENTRY_TRAILER_BYTES;
}

struct hf_log_entry *hf_entry_finish(struct hf_entry_writer *w, uint64_t nonce, int64_t stamp_ms, uint64_t seed)
{
    struct hf_log_entry *e;
    size_t size = hf_entry_size(w);
    uint8_t *p = w->buf.data;

    HF_ASSERT(w->buf.len >= HF_ENTRY_HEADER_BYTES);
    HF_ASSERT(size <= UINT32_MAX);
    p[AT_VERSION] = ENTRY_VERSION;
    p[AT_FLAGS] = 0;
    hf_store_u16(p + AT_COUNT, (uint16_t)w->count);
    hf_store_u64(p + AT_NONCE, nonce);
    hf_store_u64(p + AT_STAMP, (uint64_t)stamp_ms);
    hf_store_u64(p + AT_SEED, seed);

    e = hf_log_entry_new(HF_ENTRY_COMMAND, 0, 0, (uint32_t)size);
    memcpy(e->data, p, w->buf.len);
    hf_store_u32(e->data + w->buf.len, hf_crc32c(0, p, w->buf.len));
    w->buf.len = 0;
    w->count = 0;
    return e;
}

void hf_entry_writer_free(struct hf_entry_writer *w)
{
    hf_buf_free(&w->buf);
    w->count = 0;
}

/* ---- reading ------------------------------------------------------------------------------------- */

int hf_entry_peek(struct hf_entry_header *h, struct hf_slice payload)
{
    if (payload.len < 1)
        return HF_E_CORRUPT;
    /* The version comes first: of a newer format nothing else is known, not even its size. */
    if (payload.ptr[AT_VERSION] != ENTRY_VERSION)
        return HF_E_VERSION;
    if (payload.len < HF_ENTRY_HEADER_BYTES + HF_ENTRY_TRAILER_BYTES)
        return HF_E_CORRUPT;
    if (payload.ptr[AT_FLAGS] != 0)
        return HF_E_VERSION;
    h->count = hf_load_u16(payload.ptr + AT_COUNT);
    h->nonce = hf_load_u64(payload.ptr + AT_NONCE);
    h->stamp_ms = (int64_t)hf_load_u64(payload.ptr + AT_STAMP);
    h->seed = hf_load_u64(payload.ptr + AT_SEED);
    return HF_OK;
}

int hf_entry_decode(struct hf_entry_reader *r, struct hf_slice payload)
{
    struct hf_reader check;
    size_t body_end;
    int rc;

    rc = hf_entry_peek(&r->header, payload);
    if (rc != HF_OK)
        return rc;
    body_end = payload.len - HF_ENTRY_TRAILER_BYTES;
    if (hf_crc32c(0, payload.ptr, body_end) != hf_load_u32(payload.ptr + body_end))
        return HF_E_CORRUPT;

    /* Walk once now, so that a half-applied entry can never turn out to be malformed. */
    r->in = hf_reader(hf_slice(payload.ptr + HF_ENTRY_HEADER_BYTES, body_end - HF_ENTRY_HEADER_BYTES));
    r->position = 0;
    check = r->in;
    for (uint32_t i = 0; i < r->header.count && !check.failed; i++) {
        (void)hf_read_u16(&check);
        (void)hf_read_slice(&check);
    }
    return hf_reader_done(&check) ? HF_OK : HF_E_CORRUPT;
}

bool hf_entry_next(struct hf_entry_reader *r, uint16_t *op, struct hf_slice *payload)
{
    if (r->position == r->header.count)
        return false;
    *op = hf_read_u16(&r->in);
    *payload = hf_read_slice(&r->in);
    HF_ASSERT(!r->in.failed); /* decode walked it */
    r->position++;
    return true;
}
