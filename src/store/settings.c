/* settings.c: the replicated settings. A few hundred small values at most, so all of them stay in memory, in byte order
 * of the names; a change goes through to table `settings` at once, in the transaction of the rows. They are part of
 * the digest under a seed of their own, so that no row can stand for a setting. */
#include "store/internal.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static void setting_init(struct setting *e, struct hf_slice name, struct hf_slice value)
{
    uint8_t canon[4 + HF_SETTING_NAME_MAX + HF_SETTING_VALUE_MAX];
    uint8_t *bytes = hf_malloc(name.len + value.len);
    XXH128_hash_t h;

    hf_store_u32(canon, (uint32_t)name.len);
    memcpy(canon + 4, name.ptr, name.len);
    memcpy(canon + 4 + name.len, value.ptr, value.len);
    h = XXH3_128bits_withSeed(canon, 4 + name.len + value.len, STORE_SETTING_SEED);
    memcpy(bytes, canon + 4, name.len + value.len);
    e->name = hf_slice(bytes, name.len);
    e->value = hf_slice(bytes + name.len, value.len);
    e->digest[0] = h.low64;
    e->digest[1] = h.high64;
}

static void setting_free(struct setting *e)
{
    hf_free((void *)(uintptr_t)e->name.ptr);
}

void settings_free(struct settings *t)
{
    for (unsigned i = 0; i < t->n; i++)
        setting_free(&t->at[i]);
    hf_free(t->at);
    memset(t, 0, sizeof *t);
}

/* Where the name is, or belongs. */
static unsigned find(const struct settings *t, struct hf_slice name, bool *is_there)
{
    unsigned from = 0, to = t->n;

    *is_there = false;
    while (from < to && !*is_there) {
        unsigned middle = (from + to) / 2;
        int order = hf_slice_cmp(t->at[middle].name, name);

        if (order < 0)
            from = middle + 1;
        else
            to = middle;
        *is_there = order == 0;
    }
    return to;
}

static void remove_at(struct settings *t, unsigned i)
{
    t->digest[0] -= t->at[i].digest[0];
    t->digest[1] -= t->at[i].digest[1];
    setting_free(&t->at[i]);
    memmove(&t->at[i], &t->at[i + 1], (t->n - i - 1) * sizeof t->at[0]);
    t->n--;
}

static void insert_at(struct settings *t, unsigned i, struct hf_slice name, struct hf_slice value)
{
    if (!t->at)
        t->at = hf_malloc(HF_SETTINGS_MAX * sizeof t->at[0]);
    HF_ASSERT(t->n < HF_SETTINGS_MAX);
    memmove(&t->at[i + 1], &t->at[i], (t->n - i) * sizeof t->at[0]);
    setting_init(&t->at[i], name, value);
    t->digest[0] += t->at[i].digest[0];
    t->digest[1] += t->at[i].digest[1];
    t->n++;
}

int settings_load(const struct refusal *r, struct settings *out)
{
    sqlite3_stmt *st = NULL;
    int64_t is_there = 0;
    int err = 0, rc = store_query_int(r->db, "SELECT count(*) FROM sqlite_schema WHERE name = 'settings'", &is_there);

    memset(out, 0, sizeof *out);
    if (rc == SQLITE_OK && !is_there)
        return 0;
    if (rc == SQLITE_OK)
        rc = sqlite3_prepare_v2(r->db, "SELECT name, value FROM settings ORDER BY name", -1, &st, NULL);
    if (rc != SQLITE_OK)
        return store_refuse_sqlite(r, (rc & 0xff) == SQLITE_ERROR ? SQLITE_CORRUPT : rc, "cannot read table settings");
    while (err == 0 && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        const void *name_ptr = sqlite3_column_text(st, 0), *value_ptr = sqlite3_column_blob(st, 1);
        struct hf_slice name = hf_slice(name_ptr, (size_t)sqlite3_column_bytes(st, 0));
        struct hf_slice value = hf_slice(value_ptr, (size_t)sqlite3_column_bytes(st, 1));
        bool is_known = true;

        if (name.len - 1 < HF_SETTING_NAME_MAX && value.len - 1 < HF_SETTING_VALUE_MAX && out->n < HF_SETTINGS_MAX) {
            unsigned i = find(out, name, &is_known);
            if (!is_known)
                insert_at(out, i, name, value);
        }
        if (is_known)
            err = store_refuse(r, HF_E_CORRUPT, "table settings holds what no release writes");
    }
    if (err == 0 && rc != SQLITE_DONE)
        err = store_refuse_sqlite(r, rc, "cannot read table settings");
    sqlite3_finalize(st);
    if (err != 0)
        settings_free(out);
    return err;
}

int settings_level(const struct refusal *r, const struct settings *t, uint32_t *out)
{
    bool is_there;
    unsigned i = find(t, hf_slice_str("level"), &is_there);
    uint64_t level = 0;

    *out = 1;
    if (!is_there)
        return 0;
    for (size_t at = 0; at < t->at[i].value.len; at++) {
        uint8_t c = t->at[i].value.ptr[at];

        if (c < '0' || c > '9' || at >= 9)
            return store_refuse(r, HF_E_CORRUPT, "setting \"level\" is not a number");
        level = level * 10 + (uint64_t)(c - '0');
    }
    *out = (uint32_t)level;
    return 0;
}

/* ---- the seam ------------------------------------------------------------------------------------ */

static void write_through(struct hf_store *s, enum stmt which, struct hf_slice name, struct hf_slice value)
{
    sqlite3_stmt *st = store_stmt(s, which);

    if (!st)
        return;
    sqlite3_bind_text(st, 1, (const char *)name.ptr, (int)name.len, SQLITE_STATIC);
    if (which == STMT_SETTING_PUT)
        sqlite3_bind_blob(st, 2, value.ptr, (int)value.len, SQLITE_STATIC);
    store_step(s, which);
    s->written_rows++;
    s->written_bytes += name.len + value.len;
}

void hf_store_setting_put(struct hf_store *s, struct hf_slice name, struct hf_slice value)
{
    struct settings *t = &s->settings;
    bool is_there;
    unsigned i;

    if (s->err != 0)
        return;
    HF_ASSERT(s->in_entry);
    HF_ASSERT(name.len >= 1);
    HF_ASSERT(name.len <= HF_SETTING_NAME_MAX);
    HF_ASSERT(value.len <= HF_SETTING_VALUE_MAX);
    i = find(t, name, &is_there);
    if (is_there ? hf_slice_eq(t->at[i].value, value) : value.len == 0)
        return;
    write_through(s, value.len ? STMT_SETTING_PUT : STMT_SETTING_DELETE, name, value);
    if (s->err != 0)
        return;
    s->digest[0] -= t->digest[0];
    s->digest[1] -= t->digest[1];
    if (is_there)
        remove_at(t, i);
    if (value.len != 0)
        insert_at(t, i, name, value);
    s->digest[0] += t->digest[0];
    s->digest[1] += t->digest[1];
}

bool hf_store_setting_get(struct hf_store *s, struct hf_slice name, struct hf_slice *value)
{
    bool is_there;
    unsigned i = find(&s->settings, name, &is_there);

    if (is_there)
        *value = s->settings.at[i].value;
    return is_there && s->err == 0;
}

void hf_store_setting_visit(struct hf_store *s, void (*cb)(void *data, struct hf_slice name, struct hf_slice value),
                            void *data)
{
    for (unsigned i = 0; i < s->settings.n && s->err == 0; i++)
        cb(data, s->settings.at[i].name, s->settings.at[i].value);
}
