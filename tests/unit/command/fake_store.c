/* fake_store.c: store.h on a sorted array. The model that the real store and the command handlers are checked
 * against: so plain that it is right by reading. Only what commands use is here. */
#include "store/store.h"

#include "base/assert.h"
#include "base/mem.h"
#include "base/util.h"

#include <stdio.h>

struct fake_row {
    struct hf_slice key; /* owned */
    struct hf_row row;   /* value owned */
};

struct fake_setting {
    char name[HF_SETTING_NAME_MAX + 1];
    uint8_t value[HF_SETTING_VALUE_MAX];
    size_t n;
};

struct hf_store {
    struct fake_row *rows; /* in key order */
    size_t n;
    struct fake_setting *settings; /* in order of the names */
    size_t n_settings;
    struct hf_store_meta meta;
    struct hf_buf lent; /* what get and random lend: overwritten by every call, so that a late use is seen */
    bool is_applying;
};

static struct hf_slice own(struct hf_slice s)
{
    return hf_slice(s.len ? hf_memdup(s.ptr, s.len) : NULL, s.len);
}

static void end_loans(struct hf_store *s)
{
    hf_buf_free(&s->lent);
}

int hf_store_open(const struct hf_store_config *config, struct hf_stats *stats, struct hf_store **out, char *why,
                  size_t why_size)
{
    (void)config;
    (void)stats;
    (void)why;
    (void)why_size;
    *out = hf_calloc(1, sizeof(**out));
    return 0;
}

static void remove_at(struct hf_store *s, size_t i)
{
    hf_free((void *)(uintptr_t)s->rows[i].key.ptr);
    hf_free((void *)(uintptr_t)s->rows[i].row.value.ptr);
    memmove(&s->rows[i], &s->rows[i + 1], (s->n - i - 1) * sizeof(s->rows[0]));
    s->n--;
}

void hf_store_close(struct hf_store *s)
{
    end_loans(s);
    while (s->n > 0)
        remove_at(s, s->n - 1);
    hf_free(s->rows);
    hf_free(s->settings);
    hf_free(s);
}

void hf_store_abandon(struct hf_store *s)
{
    hf_store_close(s);
}

int hf_store_error(const struct hf_store *s, const char **text)
{
    (void)s;
    (void)text;
    return 0;
}

/* A digest that depends on every logical row and not on their order of arrival. */
const struct hf_store_meta *hf_store_meta(const struct hf_store *s)
{
    struct hf_store *mine = (struct hf_store *)(uintptr_t)s;
    uint64_t sum = 0;

    for (size_t i = 0; i < s->n; i++) {
        const struct fake_row *r = &s->rows[i];
        uint64_t h = hf_crc32c(0, r->key.ptr, r->key.len);

        h = h << 32 | hf_crc32c((uint32_t)h, r->row.value.ptr, r->row.value.len);
        sum += (h ^ r->row.version) * 0x9e3779b97f4a7c15u + (uint64_t)r->row.expires_at_ms;
    }
    hf_store_u64(mine->meta.digest, sum);
    mine->meta.keys = s->n;
    return &s->meta;
}

void hf_store_begin(struct hf_store *s, uint64_t index, uint64_t term, int64_t stamp_ms)
{
    HF_ASSERT(!s->is_applying);
    HF_ASSERT(index == s->meta.applied_index + 1);
    s->is_applying = true;
    s->meta.applied_index = index;
    s->meta.applied_term = term;
    if (stamp_ms > s->meta.log_time_ms)
        s->meta.log_time_ms = stamp_ms;
}

static bool is_dead(const struct hf_store *s, const struct fake_row *r)
{
    return r->row.expires_at_ms != 0 && r->row.expires_at_ms <= s->meta.log_time_ms;
}

unsigned hf_store_expire(struct hf_store *s, unsigned n_max)
{
    unsigned n = 0;

    end_loans(s);
    for (; n < n_max; n++) {
        size_t first = s->n;

        for (size_t i = 0; i < s->n; i++) {
            if (is_dead(s, &s->rows[i]) &&
                (first == s->n || s->rows[i].row.expires_at_ms < s->rows[first].row.expires_at_ms))
                first = i;
        }
        if (first == s->n)
            break;
        remove_at(s, first);
    }
    return n;
}

void hf_store_end(struct hf_store *s, struct hf_slice entry_bytes)
{
    (void)entry_bytes;
    HF_ASSERT(s->is_applying);
    s->is_applying = false;
    end_loans(s);
}

/* Position of the key, or where it would be inserted. */
static size_t position(const struct hf_store *s, struct hf_slice key, bool *is_there)
{
    size_t i = 0;

    while (i < s->n && hf_slice_cmp(s->rows[i].key, key) < 0)
        i++;
    *is_there = i < s->n && hf_slice_eq(s->rows[i].key, key);
    return i;
}

bool hf_store_peek(struct hf_store *s, struct hf_slice key, struct hf_row *row)
{
    bool is_there;
    size_t i = position(s, key, &is_there);

    end_loans(s);
    if (!is_there || is_dead(s, &s->rows[i]))
        return false;
    *row = s->rows[i].row;
    row->value = hf_slice(NULL, 0);
    return true;
}

bool hf_store_get(struct hf_store *s, struct hf_slice key, struct hf_row *row)
{
    bool is_there;
    size_t i = position(s, key, &is_there);

    if (!hf_store_peek(s, key, row))
        return false;
    hf_buf_put(&s->lent, s->rows[i].row.value.ptr, s->rows[i].row.value.len);
    row->value = hf_buf_slice(&s->lent);
    return true;
}

void hf_store_put(struct hf_store *s, struct hf_slice key, const struct hf_row *row)
{
    bool is_there;
    size_t i = position(s, key, &is_there);
    struct fake_row new_row = {.row = *row};

    HF_ASSERT(s->is_applying);
    HF_ASSERT(row->type == HF_TYPE_STRING);
    HF_ASSERT(row->version >> 16 == s->meta.applied_index);
    end_loans(s);
    new_row.key = own(key);
    new_row.row.value = own(row->value);
    if (is_there)
        remove_at(s, i);
    s->rows = hf_realloc(s->rows, (s->n + 1) * sizeof(s->rows[0]));
    memmove(&s->rows[i + 1], &s->rows[i], (s->n - i) * sizeof(s->rows[0]));
    s->rows[i] = new_row;
    s->n++;
}

void hf_store_touch(struct hf_store *s, struct hf_slice key, uint64_t version, int64_t expires_at_ms)
{
    bool is_there;
    size_t i = position(s, key, &is_there);

    HF_ASSERT(s->is_applying);
    HF_ASSERT(is_there);
    HF_ASSERT(!is_dead(s, &s->rows[i]));
    end_loans(s);
    s->rows[i].row.version = version;
    s->rows[i].row.expires_at_ms = expires_at_ms;
}

bool hf_store_del(struct hf_store *s, struct hf_slice key)
{
    bool is_there, was_dead;
    size_t i = position(s, key, &is_there);

    HF_ASSERT(s->is_applying);
    end_loans(s);
    if (!is_there)
        return false;
    was_dead = is_dead(s, &s->rows[i]);
    remove_at(s, i);
    return !was_dead;
}

void hf_store_clear(struct hf_store *s)
{
    HF_ASSERT(s->is_applying);
    end_loans(s);
    while (s->n > 0)
        remove_at(s, s->n - 1);
}

uint64_t hf_store_count(const struct hf_store *s)
{
    return s->n;
}

uint64_t hf_store_count_expiring(const struct hf_store *s)
{
    uint64_t n = 0;

    for (size_t i = 0; i < s->n; i++)
        n += s->rows[i].row.expires_at_ms != 0;
    return n;
}

int64_t hf_store_next_due_ms(struct hf_store *s)
{
    int64_t due = 0;

    for (size_t i = 0; i < s->n; i++) {
        int64_t at = s->rows[i].row.expires_at_ms;

        if (at != 0 && (due == 0 || at < due))
            due = at;
    }
    return due;
}

int64_t hf_store_log_time_ms(const struct hf_store *s)
{
    return s->meta.log_time_ms;
}

/* The cursor is the number of the next row, so it is only right while nothing changes: enough for the tests. */
uint64_t hf_store_scan(struct hf_store *s, uint64_t cursor, uint64_t count, hf_store_visit_cb cb, void *data)
{
    end_loans(s);
    for (; cursor < s->n && count > 0; cursor++, count--) {
        struct hf_row row = s->rows[cursor].row;

        row.value = hf_slice(NULL, 0);
        if (!is_dead(s, &s->rows[cursor]) && !cb(data, s->rows[cursor].key, &row))
            return cursor + 1;
    }
    return cursor < s->n ? cursor : 0;
}

bool hf_store_random(struct hf_store *s, uint64_t rnd, struct hf_slice *key)
{
    end_loans(s);
    for (size_t i = 0; i < s->n; i++) {
        const struct fake_row *r = &s->rows[(rnd + i) % s->n];

        if (is_dead(s, r))
            continue;
        hf_buf_put(&s->lent, r->key.ptr, r->key.len);
        *key = hf_buf_slice(&s->lent);
        return true;
    }
    return false;
}

/* ---- settings ------------------------------------------------------------------------------------ */

static size_t setting_place(const struct hf_store *s, struct hf_slice name, bool *is_there)
{
    char text[HF_SETTING_NAME_MAX + 1];
    size_t i = 0;

    snprintf(text, sizeof(text), "%.*s", (int)name.len, (const char *)name.ptr);
    while (i < s->n_settings && strcmp(s->settings[i].name, text) < 0)
        i++;
    *is_there = i < s->n_settings && strcmp(s->settings[i].name, text) == 0;
    return i;
}

void hf_store_setting_put(struct hf_store *s, struct hf_slice name, struct hf_slice value)
{
    bool is_there;
    size_t i = setting_place(s, name, &is_there);
    struct fake_setting *at;

    HF_ASSERT(s->is_applying);
    HF_ASSERT(value.len <= HF_SETTING_VALUE_MAX);
    if (value.len == 0 && !is_there)
        return;
    if (value.len == 0) {
        memmove(&s->settings[i], &s->settings[i + 1], (s->n_settings - i - 1) * sizeof(s->settings[0]));
        s->n_settings--;
        return;
    }
    if (!is_there) {
        HF_ASSERT(s->n_settings < HF_SETTINGS_MAX);
        s->settings = hf_realloc(s->settings, (s->n_settings + 1) * sizeof(s->settings[0]));
        memmove(&s->settings[i + 1], &s->settings[i], (s->n_settings - i) * sizeof(s->settings[0]));
        s->n_settings++;
    }
    at = &s->settings[i];
    snprintf(at->name, sizeof(at->name), "%.*s", (int)name.len, (const char *)name.ptr);
    memcpy(at->value, value.ptr, value.len);
    at->n = value.len;
}

bool hf_store_setting_get(struct hf_store *s, struct hf_slice name, struct hf_slice *value)
{
    bool is_there;
    size_t i = setting_place(s, name, &is_there);

    end_loans(s);
    if (!is_there)
        return false;
    hf_buf_put(&s->lent, s->settings[i].value, s->settings[i].n);
    *value = hf_buf_slice(&s->lent);
    return true;
}

void hf_store_setting_visit(struct hf_store *s, void (*cb)(void *data, struct hf_slice name, struct hf_slice value),
                            void *data)
{
    end_loans(s);
    for (size_t i = 0; i < s->n_settings; i++)
        cb(data, hf_slice_str(s->settings[i].name), hf_slice(s->settings[i].value, s->settings[i].n));
}

uint64_t hf_store_durable_index(const struct hf_store *s)
{
    return s->meta.applied_index;
}

bool hf_store_digest_is_right(struct hf_store *s)
{
    (void)s;
    return true;
}
