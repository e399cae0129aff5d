/* wire.c: writes and reads the messages described in wire.h. */
#include "snapshot/wire.h"

#include "base/assert.h"

static void put_info(struct hf_buf *out, const struct hf_snapshot_info *info)
{
    HF_ASSERT(info->configuration.len <= HF_COPY_CONFIGURATION_MAX);
    hf_buf_put_u64(out, info->index);
    hf_buf_put_u64(out, info->term);
    hf_buf_put_u64(out, info->configuration_index);
    hf_buf_put_u64(out, info->bytes);
    hf_buf_put_u32(out, info->level);
    hf_buf_put(out, info->digest, sizeof(info->digest));
    hf_buf_put(out, info->history, sizeof(info->history));
    hf_buf_put_slice(out, info->configuration);
}

void hf_transfer_put(struct hf_buf *out, const struct hf_transfer_wire *w)
{
    hf_buf_put_u64(out, w->offer);
    switch (w->type) {
    case HF_TRANSFER_OFFER:
        hf_buf_put_u64(out, w->epoch);
        hf_buf_put_u64(out, w->counter);
        hf_buf_put_u64(out, w->at_least);
        hf_buf_put_u64(out, w->window);
        put_info(out, &w->info);
        break;
    case HF_TRANSFER_WANT:
        hf_buf_put_u64(out, w->offset);
        hf_buf_put_u64(out, w->window);
        break;
    case HF_TRANSFER_DATA:
    case HF_TRANSFER_ACK:
        hf_buf_put_u64(out, w->offset);
        break;
    case HF_TRANSFER_END:
        hf_buf_put(out, w->hash, sizeof(w->hash));
        break;
    case HF_TRANSFER_VERIFYING:
        hf_buf_put_u64(out, w->done);
        hf_buf_put_u64(out, w->total);
        break;
    case HF_TRANSFER_VERIFIED:
        put_info(out, &w->info);
        break;
    case HF_TRANSFER_FAILED:
        hf_buf_put_u8(out, (uint8_t)w->reason);
        hf_buf_put(out, w->why, strnlen(w->why, HF_COPY_WHY_MAX));
        break;
    }
}

static void read_fixed(struct hf_reader *in, uint8_t out[16])
{
    const uint8_t *p = hf_reader_take(in, 16);

    if (p != NULL)
        memcpy(out, p, 16);
}

/* False: not what a copy can be like. */
static bool read_info(struct hf_reader *in, struct hf_snapshot_info *info)
{
    info->index = hf_read_u64(in);
    info->term = hf_read_u64(in);
    info->configuration_index = hf_read_u64(in);
    info->bytes = hf_read_u64(in);
    info->level = hf_read_u32(in);
    read_fixed(in, info->digest);
    read_fixed(in, info->history);
    info->configuration = hf_read_slice(in);
    /* A file's offsets are signed where files are read and written. */
    return info->index != 0 && info->term != 0 && info->configuration_index <= info->index && info->bytes != 0 &&
           info->bytes <= INT64_MAX && info->configuration.len <= HF_COPY_CONFIGURATION_MAX;
}

static bool read_failed(struct hf_reader *in, struct hf_transfer_wire *w)
{
    uint8_t reason = hf_read_u8(in);
    struct hf_slice why = hf_read_bytes(in, hf_reader_left(in));

    if (reason < HF_TRANSFER_REFUSED || reason > HF_TRANSFER_GIVEN_UP || why.len > HF_COPY_WHY_MAX)
        return false;
    w->reason = (enum hf_transfer_reason)reason;
    for (size_t i = 0; i < why.len; i++)
        w->why[i] = (char)(why.ptr[i] >= 0x20 && why.ptr[i] <= 0x7e ? why.ptr[i] : '?');
    w->why[why.len] = '\0';
    return true;
}

static bool read_body(struct hf_reader *in, struct hf_transfer_wire *w)
{
    switch (w->type) {
    case HF_TRANSFER_OFFER:
        w->epoch = hf_read_u64(in);
        w->counter = hf_read_u64(in);
        w->at_least = hf_read_u64(in);
        w->window = hf_read_u64(in);
        return read_info(in, &w->info) && w->window != 0 && w->at_least <= w->info.index;
    case HF_TRANSFER_WANT:
        w->offset = hf_read_u64(in);
        w->window = hf_read_u64(in);
        return w->window != 0;
    case HF_TRANSFER_DATA:
        w->offset = hf_read_u64(in);
        w->bytes = hf_read_bytes(in, hf_reader_left(in));
        return w->bytes.len != 0;
    case HF_TRANSFER_ACK:
        w->offset = hf_read_u64(in);
        return true;
    case HF_TRANSFER_END:
        read_fixed(in, w->hash);
        return true;
    case HF_TRANSFER_VERIFYING:
        w->done = hf_read_u64(in);
        w->total = hf_read_u64(in);
        return true;
    case HF_TRANSFER_VERIFIED:
        return read_info(in, &w->info);
    case HF_TRANSFER_FAILED:
        return read_failed(in, w);
    }
    return false;
}

int hf_transfer_decode(uint8_t type, struct hf_slice payload, struct hf_transfer_wire *out)
{
    struct hf_reader in = hf_reader(payload);

    if (type < HF_TRANSFER_OFFER || type > HF_TRANSFER_FAILED)
        return HF_E_INVALID;
    *out = (struct hf_transfer_wire){.type = (enum hf_transfer_message)type};
    out->offer = hf_read_u64(&in);
    if (!read_body(&in, out) || !hf_reader_done(&in))
        return HF_E_INVALID;
    return 0;
}
