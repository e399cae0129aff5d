/* model.c: see model.h. */
#include "model.h"

#include "base/assert.h"
#include "base/mem.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void model_init(struct model *m, uint64_t seed)
{
    memset(m, 0, sizeof *m);
    m->seed = seed;
}

struct hf_slice model_key_bytes(unsigned i, struct hf_buf *buf)
{
    buf->len = 0;
    if (i == 1)
        for (unsigned j = 0; j < 20000; j++)
            hf_buf_put_u8(buf, (uint8_t)j);
    else if (i == 2)
        hf_buf_put(buf, "a\0b", 3);
    else if (i != 0)
        hf_buf_printf(buf, "key:%u", i);
    return hf_buf_slice(buf);
}

/* The value that belongs to a version. */
static void put_value(struct hf_buf *out, uint64_t version, uint32_t len)
{
    out->len = 0;
    hf_buf_reserve(out, len);
    for (uint32_t i = 0; i < len; i++)
        hf_buf_put_u8(out, (uint8_t)(version * 31 + i * 7 + (i >> 8)));
}

static bool model_live(const struct model *m, const struct model_key *k)
{
    return k->present && (k->expires_at_ms == 0 || k->expires_at_ms > m->log_time_ms);
}

static uint32_t random_len(struct hf_prng *p)
{
    uint64_t kind = hf_prng_below(p, 100);

    if (kind < 80)
        return (uint32_t)hf_prng_below(p, 200);
    if (kind < 95)
        return (uint32_t)hf_prng_below(p, 2000);
    if (kind < 99)
        return (uint32_t)hf_prng_below(p, 20000);
    return (uint32_t)hf_prng_below(p, 150000);
}

static int64_t random_expiry(struct hf_prng *p, int64_t now)
{
    uint64_t kind = hf_prng_below(p, 10);

    if (kind < 5)
        return 0;
    if (kind == 5)
        return now > 5 ? now - (int64_t)hf_prng_below(p, 5) : 1; /* already dead */
    if (kind == 6)
        return (now / 64 + 2) * 64; /* many keys due at once */
    return now + 1 + (int64_t)hf_prng_below(p, 400);
}

struct due_key {
    int64_t at;
    unsigned i;
};

static int compare_due(const void *a, const void *b)
{
    const struct due_key *x = a, *y = b;
    struct hf_buf kx = {0}, ky = {0};
    int c = x->at < y->at ? -1 : x->at > y->at;

    if (c == 0)
        c = hf_slice_cmp(model_key_bytes(x->i, &kx), model_key_bytes(y->i, &ky));
    hf_buf_free(&kx);
    hf_buf_free(&ky);
    return c;
}

static unsigned model_expire(struct model *m, unsigned n_max)
{
    struct due_key due[MODEL_KEYS];
    unsigned n = 0;

    for (unsigned i = 0; i < MODEL_KEYS; i++)
        if (m->keys[i].present && m->keys[i].expires_at_ms != 0 && m->keys[i].expires_at_ms <= m->log_time_ms)
            due[n++] = (struct due_key){m->keys[i].expires_at_ms, i};
    qsort(due, n, sizeof due[0], compare_due);
    for (unsigned i = 0; i < n && i < n_max; i++)
        m->keys[due[i].i].present = false;
    return n < n_max ? n : n_max;
}

/* Both sides of one read. `m` is NULL when the entry is being replayed. */
static void check_row(const struct model *m, struct hf_store *s, unsigned i, bool with_value, uint64_t *sum)
{
    struct hf_buf key = {0};
    struct hf_slice k = model_key_bytes(i, &key);
    struct hf_row row;
    bool found = with_value ? hf_store_get(s, k, &row) : hf_store_peek(s, k, &row);

    *sum = *sum * 0x100000001b3ull + found;
    if (found)
        *sum = *sum * 0x100000001b3ull + row.version + (uint64_t)row.expires_at_ms + (with_value ? row.value.len : 0);
    if (m) {
        ck_assert_int_eq(found, model_live(m, &m->keys[i]));
        if (found) {
            ck_assert_uint_eq(row.version, m->keys[i].version);
            ck_assert_int_eq(row.expires_at_ms, m->keys[i].expires_at_ms);
            ck_assert_int_eq(row.type, HF_TYPE_STRING);
        }
    }
    if (m && found && with_value)
        ck_assert_uint_eq(row.value.len, m->keys[i].value_len);
    hf_buf_free(&key);
}

/* Values are made from the version of the put that wrote them, stored in their first 8 bytes where they fit. */
static void fill_value(struct hf_buf *out, uint64_t version, uint32_t len)
{
    put_value(out, version, len);
    if (len >= 8)
        hf_store_u64(out->data, version);
}

static void check_value(struct hf_store *s, unsigned i)
{
    struct hf_buf key = {0}, value = {0};
    struct hf_row row;

    if (hf_store_get(s, model_key_bytes(i, &key), &row) && row.value.len >= 8) {
        fill_value(&value, hf_load_u64(row.value.ptr), (uint32_t)row.value.len);
        ck_assert(hf_slice_eq(row.value, hf_buf_slice(&value)));
    }
    hf_buf_free(&key);
    hf_buf_free(&value);
}

static struct hf_slice setting_name(unsigned i, char out[8])
{
    snprintf(out, 8, "s%u", i);
    return hf_slice_str(out);
}

static void set_setting(struct model *m, bool is_new, struct hf_store *s, unsigned i, uint64_t version)
{
    uint64_t value = version % 3 ? version : 0;
    char name[8];

    hf_store_setting_put(s, setting_name(i, name), hf_slice(&value, value ? sizeof value : 0));
    if (is_new)
        m->settings[i] = value;
}

static void check_settings(const struct model *m, struct hf_store *s)
{
    char name[8];

    for (unsigned i = 0; i < MODEL_SETTINGS; i++) {
        struct hf_slice v = {0};
        bool found = hf_store_setting_get(s, setting_name(i, name), &v);
        ck_assert_int_eq(found, m->settings[i] != 0);
        if (found)
            ck_assert(hf_slice_eq(v, hf_slice(&m->settings[i], sizeof m->settings[i])));
    }
}

static void apply_op(struct model *m, bool is_new, struct hf_store *s, struct hf_prng *p, uint64_t version,
                     uint64_t *sum)
{
    unsigned i = (unsigned)hf_prng_below(p, MODEL_KEYS);
    uint64_t kind = hf_prng_below(p, 1000);
    struct model_key *mk = &m->keys[i];
    struct hf_buf key = {0}, value = {0};
    struct hf_slice k = model_key_bytes(i, &key);
    struct hf_row row;

    if (kind < 450) {
        uint32_t len = random_len(p);
        fill_value(&value, version, len);
        row = (struct hf_row){HF_TYPE_STRING, version, random_expiry(p, hf_store_log_time_ms(s)), hf_buf_slice(&value)};
        hf_store_put(s, k, &row);
        if (is_new)
            *mk = (struct model_key){true, version, row.expires_at_ms, len};
    } else if (kind < 600) {
        int64_t expiry = random_expiry(p, hf_store_log_time_ms(s));
        bool live = hf_store_peek(s, k, &row);
        if (live)
            hf_store_touch(s, k, version, expiry);
        if (is_new) {
            ck_assert_int_eq(live, model_live(m, mk));
            if (live) {
                mk->version = version;
                mk->expires_at_ms = expiry;
            }
        }
    } else if (kind < 750) {
        bool was = hf_store_del(s, k);
        *sum = *sum * 31 + was;
        if (is_new) {
            ck_assert_int_eq(was, model_live(m, mk));
            mk->present = false;
        }
    } else if (kind < 752) {
        hf_store_clear(s);
        if (is_new)
            for (unsigned j = 0; j < MODEL_KEYS; j++)
                m->keys[j].present = false;
    } else if (kind < 780) {
        set_setting(m, is_new, s, i % MODEL_SETTINGS, version);
    } else if (kind < 900) {
        check_row(is_new ? m : NULL, s, i, true, sum);
        check_value(s, i);
    } else {
        check_row(is_new ? m : NULL, s, i, false, sum);
    }
    hf_buf_free(&key);
    hf_buf_free(&value);
}

void model_apply(struct model *m, struct hf_store *s)
{
    uint64_t index = hf_store_meta(s)->applied_index + 1, sum = index;
    bool is_new = index > m->index;
    struct hf_prng p;
    int64_t stamp;
    unsigned n_ops, n_expired;
    uint8_t bytes[16];

    HF_ASSERT(index <= MODEL_ENTRIES);
    hf_prng_seed(&p, m->seed * 1000003 + index);
    stamp = (int64_t)(index * 4 + hf_prng_below(&p, 20)) - 10; /* goes back now and then */
    if (is_new) {
        m->index = index;
        m->log_time_ms = stamp > m->log_time_ms ? stamp : m->log_time_ms;
    }
    hf_store_begin(s, index, 1 + index / 100, stamp);
    n_expired = hf_store_expire(s, 5);
    if (is_new) {
        ck_assert_int_eq(hf_store_log_time_ms(s), m->log_time_ms);
        ck_assert_uint_eq(n_expired, model_expire(m, 5));
    }
    sum = sum * 31 + n_expired;
    n_ops = (unsigned)hf_prng_below(&p, 8);
    for (unsigned i = 0; i < n_ops; i++)
        apply_op(m, is_new, s, &p, index << 16 | i, &sum);
    if (index % 97 == 0) {
        hf_store_u64(bytes, index);
        hf_store_set_configuration(s, index, hf_slice(bytes, 8));
    }
    hf_store_u64(bytes, index);
    hf_store_u64(bytes + 8, m->seed);
    hf_store_end(s, hf_slice(bytes, sizeof bytes));
    ck_assert_int_eq(hf_store_error(s, NULL), 0);
    sum |= 1;
    if (is_new)
        m->results[index] = sum;
    ck_assert_uint_eq(m->results[index], sum);
}

struct seen {
    const struct model *m;
    unsigned times[MODEL_KEYS];
};

static bool see(void *data, struct hf_slice key, const struct hf_row *row)
{
    struct seen *seen = data;
    struct hf_buf buf = {0};
    unsigned i;

    for (i = 0; i < 3; i++)
        if (hf_slice_eq(model_key_bytes(i, &buf), key))
            break;
    if (i == 3) {
        int64_t n = -1;
        ck_assert(key.len > 4 && hf_parse_int64(hf_slice(key.ptr + 4, key.len - 4), &n));
        ck_assert(n >= 0 && n < MODEL_KEYS);
        i = (unsigned)n;
        ck_assert(hf_slice_eq(model_key_bytes(i, &buf), key));
    }
    hf_buf_free(&buf);
    ck_assert_uint_lt(i, MODEL_KEYS);
    seen->times[i]++;
    ck_assert(model_live(seen->m, &seen->m->keys[i]));
    ck_assert_uint_eq(row->version, seen->m->keys[i].version);
    ck_assert_int_eq(row->expires_at_ms, seen->m->keys[i].expires_at_ms);
    return true;
}

void model_compare(const struct model *m, struct hf_store *s)
{
    struct seen seen = {.m = m};
    uint64_t cursor = 0, sum = 0, n_present = 0, n_expiring = 0, n_live = 0;
    int64_t due = 0, told = hf_store_next_due_ms(s);
    struct hf_slice key;

    ck_assert_uint_eq(hf_store_meta(s)->applied_index, m->index);
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        const struct model_key *k = &m->keys[i];
        check_row(m, s, i, i % 2 == 0, &sum);
        n_present += k->present;
        n_live += model_live(m, k);
        n_expiring += k->present && k->expires_at_ms != 0;
        if (k->present && k->expires_at_ms != 0 && (due == 0 || k->expires_at_ms < due))
            due = k->expires_at_ms;
    }
    check_settings(m, s);
    ck_assert_uint_eq(hf_store_count(s), n_present);
    ck_assert_uint_eq(hf_store_count_expiring(s), n_expiring);
    if (due != 0) {
        ck_assert_int_ne(told, 0);
        ck_assert_int_le(told, due);
    }
    do {
        cursor = hf_store_scan(s, cursor, 7, see, &seen);
    } while (cursor != 0);
    for (unsigned i = 0; i < MODEL_KEYS; i++)
        ck_assert_uint_eq(seen.times[i], model_live(m, &m->keys[i]));
    ck_assert_int_eq(hf_store_random(s, m->seed * 0x9e3779b97f4a7c15ull, &key), n_live != 0);
}
