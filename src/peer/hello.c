/* hello.c: what the two sides say about themselves first, and the reason of a refusal; layouts in frame.h. */
#include "peer/frame.h"

#include <inttypes.h>
#include <stdio.h>

#define FLAG_FORMED 1u

static void put_string(struct hf_buf *out, const char *s)
{
    size_t len = strnlen(s, HF_HELLO_STRINGS_BYTES);

    hf_buf_put_u8(out, (uint8_t)len);
    hf_buf_put(out, s, len);
}

void hf_hello_put(struct hf_buf *out, const struct hf_hello *h)
{
    hf_buf_put_u16(out, h->protocol_min);
    hf_buf_put_u16(out, h->protocol_max);
    hf_buf_put_u8(out, (uint8_t)h->channel);
    hf_buf_put_u8(out, h->is_formed ? FLAG_FORMED : 0);
    hf_buf_put(out, h->cluster_id, sizeof(h->cluster_id));
    hf_buf_put(out, h->incarnation, sizeof(h->incarnation));
    hf_buf_put_u64(out, h->node_id);
    hf_buf_put_u64(out, h->target_id);
    hf_buf_put_u64(out, h->store_id);
    put_string(out, h->address);
    put_string(out, h->client_address);
}

/* Addresses end up in logs and in replies to clients: printable or nothing. */
static bool read_string(struct hf_reader *in, char out[256])
{
    struct hf_slice s = hf_read_bytes(in, hf_read_u8(in));

    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] <= 0x20 || s.ptr[i] > 0x7e)
            return false;
    }
    if (s.len != 0)
        memcpy(out, s.ptr, s.len);
    out[s.len] = '\0';
    return !in->failed;
}

static void read_fixed(struct hf_reader *in, uint8_t out[16])
{
    const uint8_t *p = hf_reader_take(in, 16);

    if (p != NULL)
        memcpy(out, p, 16);
}

int hf_hello_decode(struct hf_slice bytes, const struct hf_hello *ours, struct hf_hello *out, char *why,
                    size_t why_size)
{
    struct hf_reader in = hf_reader(bytes);
    struct hf_hello h = {0};
    uint8_t channel, flags;
    bool is_good;

    h.protocol_min = hf_read_u16(&in);
    h.protocol_max = hf_read_u16(&in);
    if (in.failed || h.protocol_min == 0 || h.protocol_min > h.protocol_max) {
        snprintf(why, why_size, "malformed hello");
        return HF_E_INVALID;
    }
    /* Before anything else: what follows may have another shape. */
    if (h.protocol_max < ours->protocol_min || h.protocol_min > ours->protocol_max) {
        snprintf(why, why_size, "no protocol version in common: you speak %u to %u, this node %u to %u", h.protocol_min,
                 h.protocol_max, ours->protocol_min, ours->protocol_max);
        return HF_E_VERSION;
    }
    channel = hf_read_u8(&in);
    flags = hf_read_u8(&in);
    read_fixed(&in, h.cluster_id);
    read_fixed(&in, h.incarnation);
    h.node_id = hf_read_u64(&in);
    h.target_id = hf_read_u64(&in);
    h.store_id = hf_read_u64(&in);
    is_good = read_string(&in, h.address) && read_string(&in, h.client_address) && !in.failed;
    if (h.protocol_max <= ours->protocol_max)
        is_good = is_good && hf_reader_done(&in) && (flags & ~FLAG_FORMED) == 0;
    /* Whoever has no id yet may ask to join; everything else is between members. */
    if (!is_good || channel >= HF_CHANNELS || (h.node_id == 0 && channel != HF_CHANNEL_JOIN)) {
        snprintf(why, why_size, "malformed hello");
        return HF_E_INVALID;
    }
    h.channel = (enum hf_channel)channel;
    h.is_formed = (flags & FLAG_FORMED) != 0;
    *out = h;
    return 0;
}

bool hf_refuse_decode(struct hf_slice bytes, char *out, size_t out_size)
{
    size_t n = bytes.len < out_size ? bytes.len : out_size - 1;

    for (size_t i = 0; i < n; i++)
        out[i] = (char)(bytes.ptr[i] >= 0x20 && bytes.ptr[i] <= 0x7e ? bytes.ptr[i] : '?');
    out[n] = '\0';
    return bytes.len <= HF_REFUSE_BYTES_MAX;
}
