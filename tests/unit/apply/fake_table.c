/* fake_table.c: see fake_table.h. */
#include "fake_table.h"

#include "base/log.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static pthread_mutex_t gate_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate_changed = PTHREAD_COND_INITIALIZER;
static bool is_gate_closed;

void fake_gate_close(void)
{
    pthread_mutex_lock(&gate_lock);
    is_gate_closed = true;
    pthread_mutex_unlock(&gate_lock);
}

void fake_gate_open(void)
{
    pthread_mutex_lock(&gate_lock);
    is_gate_closed = false;
    pthread_cond_broadcast(&gate_changed);
    pthread_mutex_unlock(&gate_lock);
}

static void apply_put(struct hf_apply_ctx *cx, struct hf_reader *in, struct hf_reply *out)
{
    struct hf_slice key = hf_read_slice(in);
    struct hf_row row = {.type = HF_TYPE_STRING, .version = cx->revision};

    row.value = hf_read_slice(in);
    row.expires_at_ms = (int64_t)hf_read_u64(in);
    hf_store_put(cx->store, key, &row);
    hf_reply_int(out, (int64_t)cx->revision);
}

static void apply_roll(struct hf_apply_ctx *cx, struct hf_reader *in, struct hf_reply *out)
{
    (void)in;
    hf_reply_array(out, 2);
    hf_reply_int(out, (int64_t)hf_prng_next(&cx->prng));
    hf_reply_int(out, (int64_t)hf_prng_next(&cx->prng));
}

static void put_half(struct hf_apply_ctx *cx)
{
    struct hf_row row = {.type = HF_TYPE_STRING, .version = cx->revision, .value = hf_slice_str("half")};

    hf_store_put(cx->store, hf_slice_str("half"), &row);
}

static void apply_leaves(struct hf_apply_ctx *cx, struct hf_reader *in, struct hf_reply *out)
{
    (void)in;
    put_half(cx);
    hf_reply_ok(out);
}

static void apply_overread(struct hf_apply_ctx *cx, struct hf_reader *in, struct hf_reply *out)
{
    hf_read_bytes(in, hf_reader_left(in));
    hf_read_u64(in);
    put_half(cx);
    hf_reply_ok(out);
}

static void apply_gate(struct hf_apply_ctx *cx, struct hf_reader *in, struct hf_reply *out)
{
    (void)cx;
    (void)in;
    pthread_mutex_lock(&gate_lock);
    while (is_gate_closed)
        pthread_cond_wait(&gate_changed, &gate_lock);
    pthread_mutex_unlock(&gate_lock);
    hf_reply_ok(out);
}

static void apply_setting(struct hf_apply_ctx *cx, struct hf_reader *in, struct hf_reply *out)
{
    struct hf_slice name = hf_read_slice(in);

    hf_store_setting_put(cx->store, name, hf_read_slice(in));
    cx->are_settings_changed = true;
    hf_reply_ok(out);
}

static void apply_level(struct hf_apply_ctx *cx, struct hf_reader *in, struct hf_reply *out)
{
    char text[16];

    snprintf(text, sizeof text, "%u", hf_read_u32(in));
    hf_store_setting_put(cx->store, hf_slice_str("level"), hf_slice_str(text));
    cx->are_settings_changed = true;
    hf_reply_ok(out);
}

static void read_get(struct hf_read_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    struct hf_row row;

    if (hf_store_get(cx->store, args->at[0], &row))
        hf_reply_bulk(out, row.value);
    else
        hf_reply_null(out);
}

static void read_not_yet(struct hf_read_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    (void)args;
    cx->needs_tick = true;
    hf_reply_int(out, cx->clock_ms);
}

static void read_applied(struct hf_read_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    (void)args;
    hf_reply_int(out, (int64_t)hf_store_meta(cx->store)->applied_index);
}

static const struct hf_command writes[] = {
    {.name = "put", .op = OP_PUT, .flags = HF_CMD_WRITE, .apply = apply_put},
    {.name = "roll", .op = OP_ROLL, .flags = HF_CMD_WRITE, .apply = apply_roll},
    {.name = "leaves", .op = OP_LEAVES, .flags = HF_CMD_WRITE, .apply = apply_leaves},
    {.name = "overread", .op = OP_OVERREAD, .flags = HF_CMD_WRITE, .apply = apply_overread},
    {.name = "gate", .op = OP_GATE, .flags = HF_CMD_WRITE, .apply = apply_gate},
    {.name = "setting", .op = OP_SETTING, .flags = HF_CMD_WRITE, .apply = apply_setting},
    {.name = "level", .op = OP_LEVEL, .flags = HF_CMD_WRITE, .apply = apply_level},
};
const struct hf_command fake_get = {.name = "get", .op = OP_READ_ONLY, .flags = HF_CMD_READ, .read = read_get};
const struct hf_command fake_not_yet = {.name = "notyet", .flags = HF_CMD_READ, .read = read_not_yet};
const struct hf_command fake_applied = {.name = "applied", .flags = HF_CMD_READ, .read = read_applied};

const struct hf_command *hf_command_by_op(uint16_t op)
{
    for (unsigned i = 0; i < sizeof writes / sizeof writes[0]; i++)
        if (writes[i].op == op)
            return &writes[i];
    return op == OP_READ_ONLY ? &fake_get : NULL;
}

uint32_t hf_command_level(const struct hf_command *cmd, struct hf_slice payload)
{
    struct hf_reader in = hf_reader(payload);

    return cmd->op == OP_LEVEL ? hf_read_u32(&in) : 1;
}

void put_payload(struct hf_buf *out, const char *key, const char *value, int64_t expiry)
{
    hf_buf_put_slice(out, hf_slice_str(key));
    hf_buf_put_slice(out, hf_slice_str(value));
    hf_buf_put_u64(out, (uint64_t)expiry);
}

static struct hf_log_entry *finish(struct hf_entry_writer *w, uint64_t index, int64_t stamp_ms)
{
    struct hf_log_entry *e = hf_entry_finish(w, index, stamp_ms, index * 77);

    e->index = index;
    e->term = 1;
    hf_entry_writer_free(w);
    return e;
}

struct hf_log_entry *entry_put(uint64_t index, int64_t stamp_ms, const char *key, const char *value, int64_t expiry)
{
    struct hf_entry_writer w = {0};
    struct hf_buf payload = {0};

    put_payload(&payload, key, value, expiry);
    hf_entry_begin(&w);
    hf_entry_add(&w, OP_PUT, hf_buf_slice(&payload));
    hf_buf_free(&payload);
    return finish(&w, index, stamp_ms);
}

struct hf_log_entry *entry_op(uint64_t index, uint16_t op, struct hf_slice payload)
{
    struct hf_entry_writer w = {0};

    hf_entry_begin(&w);
    hf_entry_add(&w, op, payload);
    return finish(&w, index, 0);
}

struct hf_log_entry *entry_setting(uint64_t index, const char *name, const char *value)
{
    struct hf_buf payload = {0};
    struct hf_log_entry *e;

    hf_buf_put_slice(&payload, hf_slice_str(name));
    hf_buf_put_slice(&payload, hf_slice_str(value));
    e = entry_op(index, OP_SETTING, hf_buf_slice(&payload));
    hf_buf_free(&payload);
    return e;
}

struct hf_log_entry *entry_level(uint64_t index, uint32_t level)
{
    uint8_t payload[4];

    hf_store_u32(payload, level);
    return entry_op(index, OP_LEVEL, hf_slice(payload, 4));
}

struct hf_log_entry *entry_other(uint64_t index, enum hf_entry_type type, const char *bytes)
{
    struct hf_log_entry *e = hf_log_entry_new(type, index, 1, (uint32_t)strlen(bytes));

    memcpy(e->data, bytes, strlen(bytes));
    return e;
}

/* ---- files --------------------------------------------------------------------------------------- */

char test_dir[64];

const char *test_path(void)
{
    static char path[128];

    snprintf(path, sizeof path, "%s/a.db", test_dir);
    return path;
}

const char *test_path_b(void)
{
    static char path[128];

    snprintf(path, sizeof path, "%s/b.db", test_dir);
    return path;
}

void make_test_dir(void)
{
    strcpy(test_dir, "/tmp/hf-apply-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(test_dir));
    hf_log_silence(true);
}

static void remove_database(const char *path)
{
    static const char *const ends[] = {"", "-wal", "-shm"};
    char name[160];

    for (unsigned i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s%s", path, ends[i]);
        unlink(name);
    }
}

void remove_test_dir(void)
{
    remove_database(test_path());
    remove_database(test_path_b());
    ck_assert_int_eq(rmdir(test_dir), 0);
}

struct hf_store *open_store_at(const char *path)
{
    struct hf_store_config config = {.path = path};
    struct hf_store *s;
    char why[512];
    int rc = hf_store_open(&config, NULL, &s, why, sizeof why);

    ck_assert_msg(rc == 0, "%s", why);
    return s;
}

struct hf_store *open_test_store(void)
{
    return open_store_at(test_path());
}
