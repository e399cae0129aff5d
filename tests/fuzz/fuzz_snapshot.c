/* fuzz_snapshot.c: messages of a member on the STATE channel. What decodes encodes to the same bytes; and both a source
 * with a transfer under way and a target take any sequence of them without a crash, a leak or a window overrun.
 *
 * The input: a byte that chooses the side, then messages: u8 type, u8 length / 16, that many bytes. A type with its
 * high bit set gets the number of the offer at hand, so that the rules behind it are reached too. Links are made here;
 * peer itself is fuzzed elsewhere. */
#include "fuzz.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "peer/peer.h"
#include "sim/world.h"
#include "snapshot/internal.h"
#include "snapshot/wire.h"

#include <stdio.h>

#define WINDOW 8192u

/* ---- links --------------------------------------------------------------------------------------- */

struct hf_link {
    bool is_dialed, is_closed;
    struct hf_hello hello;
    uint64_t offer; /* the last one said or heard */
};

static struct hf_link fuzz_link;

int hf_link_send(struct hf_link *link, uint8_t type, bool urgent, const struct hf_slice *parts, size_t n)
{
    (void)urgent;
    HF_ASSERT(n > 0);
    if (type == HF_TRANSFER_OFFER)
        link->offer = hf_load_u64(parts[0].ptr);
    return link->is_closed ? HF_E_CLOSED : 0;
}

uint64_t hf_link_node_id(const struct hf_link *link)
{
    (void)link;
    return 2;
}

bool hf_link_is_dialed(const struct hf_link *link)
{
    return link->is_dialed;
}

const struct hf_hello *hf_link_hello(const struct hf_link *link)
{
    return &link->hello;
}

size_t hf_link_queued(const struct hf_link *link)
{
    (void)link;
    return 0;
}

void hf_link_close(struct hf_link *link)
{
    link->is_closed = true;
}

/* ---- a store that has one page ------------------------------------------------------------------- */

struct hf_store_copy {
    struct hf_store_info info;
    struct hf_fs *fs;
    char *to;
};

static struct hf_fs *fuzz_fs;

int hf_store_copy_open(const char *path, const char *vfs, const char *to, struct hf_store_copy **out, char *why,
                       size_t why_size)
{
    struct hf_store_copy *c = hf_calloc(1, sizeof(*c));

    (void)path;
    (void)vfs;
    (void)why;
    (void)why_size;
    c->info.meta.applied_index = 9;
    c->info.meta.applied_term = 2;
    c->info.level = 1;
    c->fs = fuzz_fs;
    c->to = hf_strdup(to);
    *out = c;
    return 0;
}

int hf_store_copy_step(struct hf_store_copy *c, uint64_t bytes, bool *done)
{
    static const uint8_t page[20000];
    struct hf_file *f;
    int rc = c->fs->open(c->fs, c->to, HF_FS_WRITE | HF_FS_CREATE, &f);

    (void)bytes;
    if (rc == 0)
        rc = c->fs->write(c->fs, f, 0, page, sizeof(page));
    HF_ASSERT(rc == 0);
    c->fs->close(c->fs, f);
    *done = true;
    return 0;
}

void hf_store_copy_progress(const struct hf_store_copy *c, uint64_t *done_bytes, uint64_t *total_bytes)
{
    (void)c;
    *done_bytes = *total_bytes = 20000;
}

const char *hf_store_copy_why(const struct hf_store_copy *c)
{
    (void)c;
    return "";
}

const struct hf_store_info *hf_store_copy_info(const struct hf_store_copy *c)
{
    return &c->info;
}

void hf_store_copy_close(struct hf_store_copy *c)
{
    hf_free(c->to);
    hf_free(c);
}

void hf_store_info_free(struct hf_store_info *info)
{
    (void)info;
}

int hf_store_verify_digest(const char *path, const char *vfs, struct hf_store_info *info,
                           bool (*progress)(void *data, uint64_t done, uint64_t total), void *data, char *why,
                           size_t why_size)
{
    (void)path;
    (void)vfs;
    (void)why;
    (void)why_size;
    *info = (struct hf_store_info){.level = 1};
    info->meta.applied_index = 9; /* an input may promise just this */
    info->meta.applied_term = 2;
    return progress(data, 1, 1) ? 0 : HF_E_CANCELED;
}

/* ---- the owner ----------------------------------------------------------------------------------- */

static const char *live_path(void *data)
{
    (void)data;
    return "n/state-1.db";
}

static void on_pin(void *data, uint64_t index)
{
    (void)data;
    (void)index;
}

static void on_delivered(void *data, uint64_t member, const struct hf_snapshot_info *info)
{
    (void)data;
    HF_ASSERT(member == 2);
    HF_ASSERT(info->index >= 5);
}

static void on_send_failed(void *data, uint64_t member, const char *why)
{
    (void)data;
    HF_ASSERT(member == 2);
    HF_ASSERT(why != NULL);
}

static bool may_receive(void *data, uint64_t member, const struct hf_snapshot_info *info, char *why, size_t why_size)
{
    (void)data;
    (void)member;
    (void)why;
    (void)why_size;
    return info->index % 16 != 15;
}

static struct hf_link *link_of(void *data, uint64_t member)
{
    (void)data;
    (void)member;
    return fuzz_link.is_closed ? NULL : &fuzz_link;
}

/* ---- the input ----------------------------------------------------------------------------------- */

static void check_codec(uint8_t type, struct hf_slice payload)
{
    struct hf_transfer_wire w;
    struct hf_buf again = {0};

    if (hf_transfer_decode(type, payload, &w) != 0)
        return;
    hf_transfer_put(&again, &w);
    hf_buf_put(&again, w.bytes.ptr, w.bytes.len);
    HF_ASSERT(again.len == payload.len);
    /* The text of a failure is made printable. */
    HF_ASSERT(type == HF_TRANSFER_FAILED || hf_slice_eq(hf_buf_slice(&again), payload));
    hf_buf_free(&again);
}

static void feed(struct hf_snapshots *s, struct hf_sim_world *world, struct hf_reader *in)
{
    uint8_t head = hf_read_u8(in), type = head & 0x7f;
    size_t n = (size_t)hf_read_u8(in) * 16;
    struct hf_slice rest;
    uint8_t *bytes;

    if (n > hf_reader_left(in))
        n = hf_reader_left(in);
    rest = hf_read_bytes(in, n);
    bytes = hf_malloc(n + 1); /* exactly as long as the message, so that a read past it is seen */
    if (n != 0)
        memcpy(bytes, rest.ptr, n);
    if ((head & 0x80) != 0 && n >= 8)
        hf_store_u64(bytes, fuzz_link.offer);
    check_codec(type, hf_slice(bytes, n));
    if (type == HF_TRANSFER_OFFER && n >= 8 && !fuzz_link.is_dialed)
        fuzz_link.offer = hf_load_u64(bytes);
    hf_snapshots_on_message(s, &fuzz_link, type, hf_slice(bytes, n));
    hf_free(bytes);
    HF_ASSERT(s->in.received - s->in.written <= WINDOW);
    /* Sometimes at once, sometimes after everything that follows. */
    if ((n & 16) == 0)
        hf_sim_world_run_until(world, hf_sim_world_now_ms(world) + 5);
    if (fuzz_link.is_closed) {
        hf_snapshots_on_link_down(s, &fuzz_link);
        fuzz_link.is_closed = false;
        hf_snapshots_on_link_up(s, &fuzz_link);
        hf_sim_world_run_until(world, hf_sim_world_now_ms(world) + 5);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hf_snapshots_config config = {.dir = "n", .chunk_bytes = 1024, .window_bytes = WINDOW};
    struct hf_snapshots_events events = {NULL, live_path, on_pin, on_delivered, on_send_failed, may_receive};
    struct hf_reader in = hf_reader(hf_slice(data, size));
    struct hf_sim_world *world = hf_sim_world_new(1);
    struct hf_sim_node *node = hf_sim_node_new(world, 0);
    struct hf_env *env = hf_sim_node_env(node);
    struct hf_stats *stats = hf_stats_new();
    struct hf_snapshots *s;
    char why[256];

    hf_log_silence(true);
    fuzz_fs = env->fs;
    fuzz_link = (struct hf_link){.is_dialed = (hf_read_u8(&in) & 1) != 0};
    HF_ASSERT(hf_snapshots_open(env, &config, &events, stats, &s, why, sizeof(why)) == 0);
    hf_snapshots_set_link_of(s, link_of, NULL);
    if (fuzz_link.is_dialed) {
        hf_snapshots_send(s, 2, 5);
        hf_sim_world_run_until(world, 50);
    }
    while (hf_reader_left(&in) != 0)
        feed(s, world, &in);
    hf_sim_world_run_until(world, hf_sim_world_now_ms(world) + 100);
    hf_snapshots_close(s);
    hf_stats_free(stats);
    hf_sim_node_free(node);
    hf_sim_world_free(world);
    return 0;
}
