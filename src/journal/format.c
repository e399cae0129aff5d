/* format.c: the codec of format.h. */
#include "journal/format.h"

#include "base/assert.h"
#include "base/util.h"

#include <inttypes.h>
#include <stdio.h>

#define FORMAT_VERSION 1

static const char seg_magic[8] = {'H', 'F', 'J', 'S', 'E', 'G', '0', '1'};
static const char vote_magic[8] = {'H', 'F', 'J', 'V', 'O', 'T', 'E', '1'};
static const char batch_magic[4] = {'H', 'J', 'B', '1'};

/* ---- segment header ------------------------------------------------------------------------------ */

void hf_jseg_encode(uint8_t *out, const struct hf_jseg_header *h)
{
    memset(out, 0, HF_JSEG_HEADER_BYTES);
    memcpy(out, seg_magic, sizeof seg_magic);
    hf_store_u32(out + 8, FORMAT_VERSION);
    hf_store_u32(out + 12, h->flags);
    hf_store_u64(out + 16, h->id);
    hf_store_u64(out + 24, h->salt);
    hf_store_u32(out + 32, hf_crc32c(0, out, 32));
}

int hf_jseg_decode(struct hf_jseg_header *h, const uint8_t *in, size_t n)
{
    if (n < HF_JSEG_HEADER_BYTES || memcmp(in, seg_magic, sizeof seg_magic) != 0)
        return HF_E_CORRUPT;
    if (hf_load_u32(in + 32) != hf_crc32c(0, in, 32))
        return HF_E_CORRUPT;
    if (hf_load_u32(in + 8) != FORMAT_VERSION)
        return HF_E_VERSION;
    h->flags = hf_load_u32(in + 12);
    h->id = hf_load_u64(in + 16);
    h->salt = hf_load_u64(in + 24);
    if ((h->flags & ~(uint32_t)HF_JSEG_RECYCLED) != 0)
        return HF_E_VERSION;
    return h->id == 0 ? HF_E_CORRUPT : HF_OK;
}

void hf_jseg_name(char out[HF_JSEG_NAME_BYTES], uint64_t id)
{
    snprintf(out, HF_JSEG_NAME_BYTES, "%016" PRIx64 ".seg", id);
}

bool hf_jseg_parse_name(const char *name, uint64_t *id)
{
    uint64_t v = 0;

    if (strlen(name) != HF_JSEG_NAME_BYTES - 1 || strcmp(name + 16, ".seg") != 0)
        return false;
    for (int i = 0; i < 16; i++) {
        char c = name[i];

        if (c >= '0' && c <= '9')
            v = v << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            v = v << 4 | (uint64_t)(c - 'a' + 10);
        else
            return false;
    }
    *id = v;
    return v != 0;
}

/* ---- batches ------------------------------------------------------------------------------------- */

void hf_jbatch_encode(uint8_t *out, struct hf_jbatch *b)
{
    HF_ASSERT(b->body_bytes % HF_JBATCH_ALIGN == 0);
    HF_ASSERT((b->kind == HF_JBATCH_ENTRIES) == (b->count > 0));
    memcpy(out, batch_magic, sizeof batch_magic);
    hf_store_u16(out + 4, FORMAT_VERSION);
    hf_store_u16(out + 6, (uint16_t)b->kind);
    hf_store_u64(out + 8, b->segment);
    hf_store_u64(out + 16, b->salt);
    hf_store_u64(out + 24, b->offset);
    hf_store_u64(out + 32, b->generation);
    hf_store_u64(out + 40, b->prev_end);
    hf_store_u64(out + 48, b->durable_segment);
    hf_store_u64(out + 56, b->durable_offset);
    hf_store_u64(out + 64, b->first_index);
    hf_store_u32(out + 72, b->count);
    hf_store_u32(out + 76, b->body_bytes);
    hf_store_u32(out + 80, b->prev_crc);
    hf_store_u32(out + 84, b->body_crc);
    hf_store_u32(out + 88, 0);
    b->header_crc = hf_crc32c(0, out, 92);
    hf_store_u32(out + 92, b->header_crc);
}

/* What can be wrong with a header whose checksum is right: a writer's bug, or a place where no writer puts it. */
static bool is_plausible(const struct hf_jbatch *b)
{
    bool first = b->offset == HF_JSEG_HEADER_BYTES;

    if (b->offset < HF_JSEG_HEADER_BYTES || b->offset % HF_JBATCH_ALIGN != 0)
        return false;
    if (!first && b->prev_end != b->offset)
        return false;
    if (b->segment == 0 || b->first_index == 0)
        return false;
    if (b->body_bytes % HF_JBATCH_ALIGN != 0 || b->body_bytes / HF_JRECORD_BYTES < b->count)
        return false;
    if (b->kind != HF_JBATCH_ENTRIES && (b->count != 0 || b->body_bytes != 0))
        return false;
    switch (b->kind) {
    case HF_JBATCH_ENTRIES:
        return b->count > 0;
    case HF_JBATCH_IDLE:
        return !first;
    case HF_JBATCH_START:
    case HF_JBATCH_TRUNCATE:
    case HF_JBATCH_RESET:
        return first;
    }
    return false;
}

int hf_jbatch_decode(struct hf_jbatch *b, const uint8_t *in, size_t n)
{
    uint16_t kind;

    if (n < HF_JBATCH_HEADER_BYTES || memcmp(in, batch_magic, sizeof batch_magic) != 0)
        return HF_E_CORRUPT;
    b->header_crc = hf_load_u32(in + 92);
    if (b->header_crc != hf_crc32c(0, in, 92))
        return HF_E_CORRUPT;
    if (hf_load_u16(in + 4) != FORMAT_VERSION)
        return HF_E_VERSION;
    kind = hf_load_u16(in + 6);
    if (kind < HF_JBATCH_ENTRIES || kind > HF_JBATCH_RESET || hf_load_u32(in + 88) != 0)
        return HF_E_CORRUPT;
    b->kind = (enum hf_jbatch_kind)kind;
    b->segment = hf_load_u64(in + 8);
    b->salt = hf_load_u64(in + 16);
    b->offset = hf_load_u64(in + 24);
    b->generation = hf_load_u64(in + 32);
    b->prev_end = hf_load_u64(in + 40);
    b->durable_segment = hf_load_u64(in + 48);
    b->durable_offset = hf_load_u64(in + 56);
    b->first_index = hf_load_u64(in + 64);
    b->count = hf_load_u32(in + 72);
    b->body_bytes = hf_load_u32(in + 76);
    b->prev_crc = hf_load_u32(in + 80);
    b->body_crc = hf_load_u32(in + 84);
    return is_plausible(b) ? HF_OK : HF_E_CORRUPT;
}

/* ---- records ------------------------------------------------------------------------------------- */

void hf_jrecord_put(struct hf_buf *out, const struct hf_log_entry *e)
{
    size_t size = (size_t)hf_jrecord_size(e->len);
    uint8_t *p = hf_buf_reserve(out, size);

    hf_store_u32(p, e->len);
    hf_store_u32(p + 4, (uint32_t)e->type); /* type and the three zero bytes */
    hf_store_u64(p + 8, e->index);
    hf_store_u64(p + 16, e->term);
    if (e->len > 0)
        memcpy(p + HF_JRECORD_BYTES, e->data, e->len);
    memset(p + HF_JRECORD_BYTES + e->len, 0, size - HF_JRECORD_BYTES - e->len);
    out->len += size;
}

bool hf_jrecord_next(struct hf_reader *r, struct hf_jrecord *out)
{
    uint32_t len = hf_read_u32(r);
    uint32_t type = hf_read_u32(r);

    out->index = hf_read_u64(r);
    out->term = hf_read_u64(r);
    if (r->failed || len > HF_JENTRY_BYTES_MAX || type < HF_ENTRY_COMMAND || type > HF_ENTRY_CONFIGURATION)
        return false;
    out->type = (enum hf_entry_type)type;
    out->payload = hf_read_bytes(r, len);
    (void)hf_read_bytes(r, (size_t)(hf_jrecord_size(len) - HF_JRECORD_BYTES - len));
    return !r->failed;
}

int hf_jbatch_check_body(const struct hf_jbatch *b, const uint8_t *body)
{
    struct hf_reader r = hf_reader(hf_slice(body, b->body_bytes));
    struct hf_jrecord rec;
    uint64_t term = 0;

    if (hf_crc32c(0, body, b->body_bytes) != b->body_crc)
        return HF_E_CORRUPT;
    for (uint32_t i = 0; i < b->count; i++) {
        if (!hf_jrecord_next(&r, &rec) || rec.index != b->first_index + i || rec.term < term)
            return HF_E_CORRUPT;
        term = rec.term;
    }
    return hf_reader_done(&r) ? HF_OK : HF_E_CORRUPT;
}

/* ---- vote slots ---------------------------------------------------------------------------------- */

void hf_jvote_encode(uint8_t *out, const struct hf_jvote *v)
{
    memset(out, 0, HF_JVOTE_SLOT_BYTES);
    memcpy(out, vote_magic, sizeof vote_magic);
    hf_store_u32(out + 8, FORMAT_VERSION);
    hf_store_u64(out + 16, v->sequence);
    hf_store_u64(out + 24, v->term);
    hf_store_u64(out + 32, v->vote);
    hf_store_u32(out + 40, hf_crc32c(0, out, 40));
}

int hf_jvote_decode(struct hf_jvote *v, const uint8_t *in, size_t n)
{
    if (n < HF_JVOTE_SLOT_BYTES || memcmp(in, vote_magic, sizeof vote_magic) != 0)
        return HF_E_CORRUPT;
    if (hf_load_u32(in + 40) != hf_crc32c(0, in, 40))
        return HF_E_CORRUPT;
    if (hf_load_u32(in + 8) != FORMAT_VERSION)
        return HF_E_VERSION;
    v->sequence = hf_load_u64(in + 16);
    v->term = hf_load_u64(in + 24);
    v->vote = hf_load_u64(in + 32);
    return hf_load_u32(in + 12) == 0 ? HF_OK : HF_E_CORRUPT;
}
