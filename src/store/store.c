/* store.c: the seam of the state database: one log entry at a time, the rows, and the numbers that go with them
 * (digest, history, counts). The row cache answers first; what it does not hold comes from SQLite; changes stay in
 * the cache until they are written back (db.c).
 *
 * Digest, version 1: the sum, modulo 2^64 in each half, of XXH3-128 over the canonical encoding (internal.h) of every
 * row present, and of a like hash of every setting (settings.c). A sum does not depend on the order, so it is kept up
 * to date with one subtraction and one addition a change. History: XXH3-128 of (previous history, XXH3-128 of the
 * entry's bytes). */
#include "store/internal.h"

#include "base/mem.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t hf_store_hash_key(const struct hf_store *s, struct hf_slice key)
{
    return XXH3_64bits_withSeed(key.ptr, key.len, s->key_seed);
}

int hf_store_error(const struct hf_store *s, const char **text)
{
    if (text)
        *text = s->err_text;
    return s->err;
}

const struct hf_store_meta *hf_store_meta(const struct hf_store *s)
{
    return &s->meta;
}

const struct hf_store_meta *hf_store_durable_meta(const struct hf_store *s)
{
    return &s->durable_meta;
}

uint64_t hf_store_durable_index(const struct hf_store *s)
{
    return s->durable_meta.applied_index;
}

int64_t hf_store_log_time_ms(const struct hf_store *s)
{
    return s->meta.log_time_ms;
}

uint64_t hf_store_count(const struct hf_store *s)
{
    return s->meta.keys;
}

uint64_t hf_store_count_expiring(const struct hf_store *s)
{
    return s->keys_expiring;
}

/* ---- bookkeeping --------------------------------------------------------------------------------- */

void store_subtract(struct hf_store *s, const struct row *r)
{
    HF_ASSERT(r->present);
    HF_ASSERT(s->meta.keys > 0);
    s->digest[0] -= r->digest[0];
    s->digest[1] -= r->digest[1];
    s->meta.keys--;
    s->keys_expiring -= row_expires(r) != 0;
}

void store_add(struct hf_store *s, const struct row *r)
{
    HF_ASSERT(r->present);
    s->digest[0] += r->digest[0];
    s->digest[1] += r->digest[1];
    s->meta.keys++;
    s->keys_expiring += row_expires(r) != 0;
}

void store_check(struct hf_store *s)
{
    cache_check(&s->cache);
    HF_ASSERT(s->keys_expiring <= s->meta.keys);
    HF_ASSERT(s->durable_meta.applied_index <= s->meta.applied_index);
    HF_ASSERT(s->durable_meta.log_time_ms <= s->meta.log_time_ms);
    HF_ASSERT(s->cache.dirty_bytes <= s->cache.bytes);
    for (uint64_t i = 0; i <= s->cache.mask; i++) {
        struct row *r = s->cache.cells[i].row;
        uint64_t was[2];
        if (!r)
            continue;
        HF_ASSERT(r->hash == hf_store_hash_key(s, row_key(r)));
        if (!r->present)
            continue;
        memcpy(was, r->digest, sizeof was);
        row_compute_digest(r);
        HF_ASSERT(was[0] == r->digest[0] && was[1] == r->digest[1]);
        if (r->slot != 0)
            HF_ASSERT((uint64_t)r->slot >> STORE_ORDINAL_BITS == store_group(s, r->hash));
    }
}

void hf_store_narrow_groups(struct hf_store *s, unsigned bits)
{
    HF_ASSERT(s->meta.keys == 0);
    s->group_mask = (1ull << bits) - 1;
}

/* ---- entries ------------------------------------------------------------------------------------- */

void hf_store_begin(struct hf_store *s, uint64_t index, uint64_t term, int64_t stamp_ms)
{
    HF_ASSERT(!s->in_entry);
    if (s->err != 0)
        return;
    HF_ASSERT(index == s->meta.applied_index + 1);
    HF_ASSERT(term >= s->meta.applied_term);
    s->in_entry = true;
    s->meta.applied_term = term;
    if (stamp_ms > s->meta.log_time_ms)
        s->meta.log_time_ms = stamp_ms;
}

void hf_store_set_configuration(struct hf_store *s, uint64_t index, struct hf_slice bytes)
{
    if (s->err != 0)
        return;
    HF_ASSERT(s->in_entry);
    /* The first entry holds the members' random store ids, which no client gets to see: hashed, they seed the hash of
     * the keys, so that nobody outside can choose keys that share a scan position. Part of the scan order: never
     * changes. */
    if (index == 1 && s->meta.configuration_index == 0 && s->meta.keys == 0)
        s->key_seed = XXH3_64bits_withSeed(bytes.ptr, bytes.len, STORE_KEY_SEED);
    s->configuration.len = 0;
    hf_buf_put(&s->configuration, bytes.ptr, bytes.len);
    s->meta.configuration = hf_buf_slice(&s->configuration);
    s->meta.configuration_index = index;
}

void hf_store_end(struct hf_store *s, struct hf_slice entry_bytes)
{
    uint8_t both[32];
    XXH128_hash_t h;

    if (s->err != 0) {
        s->in_entry = false;
        return;
    }
    HF_ASSERT(s->in_entry);
    h = XXH3_128bits(entry_bytes.ptr, entry_bytes.len);
    memcpy(both, s->meta.history, 16);
    hf_store_u64(both + 16, h.low64);
    hf_store_u64(both + 24, h.high64);
    h = XXH3_128bits(both, sizeof both);
    hf_store_u64(s->meta.history, h.low64);
    hf_store_u64(s->meta.history + 8, h.high64);
    hf_store_u64(s->meta.digest, s->digest[0]);
    hf_store_u64(s->meta.digest + 8, s->digest[1]);
    s->meta.applied_index++;
    s->in_entry = false;
#ifdef HF_SLOW_ASSERTS
    if (s->cache.n < 500 || s->meta.applied_index % 1024 == 0)
        store_check(s);
#endif
}

/* ---- rows ---------------------------------------------------------------------------------------- */

/* The row as it is now, from the cache or loaded into it; NULL when the key is absent. */
static struct cell *fetch_for_write(struct hf_store *s, uint64_t hash, struct hf_slice key)
{
    struct cell *cell = cache_find(&s->cache, hash, key);
    struct row *r;

    if (cell) {
        hf_counter_add(s->stats.hits, 1);
        return cell->row->present ? cell : NULL;
    }
    hf_counter_add(s->stats.misses, 1);
    r = store_load(s, hash, key);
    return r ? cache_insert(&s->cache, r) : NULL;
}

static void fill(struct hf_row *out, const struct row *r)
{
    out->type = row_type(r);
    out->version = row_version(r);
    out->expires_at_ms = row_expires(r);
    out->value = row_value(r);
}

bool hf_store_get(struct hf_store *s, struct hf_slice key, struct hf_row *row)
{
    uint64_t hash = hf_store_hash_key(s, key);
    struct cell *cell = cache_find(&s->cache, hash, key);
    struct row *r;

    if (s->err != 0)
        return false;
    if (cell) {
        hf_counter_add(s->stats.hits, 1);
        r = cell->row;
        r->referenced = true;
        if (!r->present || !store_is_live(s, row_expires(r)))
            return false;
        fill(row, r);
        return true;
    }
    hf_counter_add(s->stats.misses, 1);
    r = store_load(s, hash, key);
    if (!r)
        return false;
    if (r->size > STORE_CLEAN_ROW_MAX) {
        row_free(s->loaded);
        s->loaded = r;
    } else {
        cache_insert(&s->cache, r);
        store_make_room(s, r);
    }
    if (!store_is_live(s, row_expires(r)) || s->err != 0)
        return false;
    fill(row, r);
    return true;
}

bool hf_store_peek(struct hf_store *s, struct hf_slice key, struct hf_row *row)
{
    uint64_t hash = hf_store_hash_key(s, key), group = store_group(s, hash);
    struct cell *cell = cache_find(&s->cache, hash, key);
    sqlite3_stmt *st;
    bool found;

    if (s->err != 0)
        return false;
    memset(row, 0, sizeof *row);
    if (cell) {
        hf_counter_add(s->stats.hits, 1);
        if (!cell->row->present || !store_is_live(s, row_expires(cell->row)))
            return false;
        fill(row, cell->row);
        row->value = hf_slice(NULL, 0);
        return true;
    }
    hf_counter_add(s->stats.misses, 1);
    st = store_stmt(s, STMT_PEEK);
    if (!st)
        return false;
    sqlite3_bind_int64(st, 1, store_group_first_slot(group));
    sqlite3_bind_int64(st, 2, store_group_last_slot(group));
    sqlite3_bind_blob64(st, 3, key.len ? (const void *)key.ptr : "", key.len, SQLITE_STATIC);
    found = store_step(s, STMT_PEEK);
    if (found) {
        row->type = (enum hf_type)sqlite3_column_int(st, 1);
        row->version = (uint64_t)sqlite3_column_int64(st, 2);
        row->expires_at_ms = sqlite3_column_int64(st, 3);
        store_done(s, STMT_PEEK);
    }
    return found && store_is_live(s, row->expires_at_ms);
}

void hf_store_put(struct hf_store *s, struct hf_slice key, const struct hf_row *row)
{
    uint64_t hash = hf_store_hash_key(s, key);
    struct cell *cell;

    if (s->err != 0)
        return;
    HF_ASSERT(s->in_entry);
    HF_ASSERT(row->type != HF_TYPE_NONE);
    HF_ASSERT(row->expires_at_ms >= 0);
    cell = fetch_for_write(s, hash, key);
    if (s->err != 0)
        return;
    if (cell) {
        store_subtract(s, cell->row);
    } else {
        cell = cache_find(&s->cache, hash, key); /* a tombstone knows the place in the database */
        if (!cell)
            cell = cache_insert(&s->cache, row_new(hash, key, (uint32_t)row->value.len));
    }
    store_add(s, cache_set(&s->cache, cell, row->version, row->expires_at_ms, row->type, &row->value));
    store_make_room(s, NULL);
}

void hf_store_touch(struct hf_store *s, struct hf_slice key, uint64_t version, int64_t expires_at_ms)
{
    struct cell *cell;

    if (s->err != 0)
        return;
    HF_ASSERT(s->in_entry);
    HF_ASSERT(expires_at_ms >= 0);
    cell = fetch_for_write(s, hf_store_hash_key(s, key), key);
    if (s->err != 0)
        return;
    HF_ASSERT(cell);
    HF_ASSERT(store_is_live(s, row_expires(cell->row)));
    store_subtract(s, cell->row);
    store_add(s, cache_set(&s->cache, cell, version, expires_at_ms, row_type(cell->row), NULL));
    store_make_room(s, NULL);
}

bool hf_store_del(struct hf_store *s, struct hf_slice key)
{
    struct cell *cell;
    bool was_live;

    if (s->err != 0)
        return false;
    HF_ASSERT(s->in_entry);
    cell = fetch_for_write(s, hf_store_hash_key(s, key), key);
    if (!cell)
        return false;
    was_live = store_is_live(s, row_expires(cell->row));
    store_subtract(s, cell->row);
    cache_erase(&s->cache, cell);
    store_make_room(s, NULL);
    return was_live;
}

void hf_store_clear(struct hf_store *s)
{
    if (!store_stmt(s, STMT_CLEAR))
        return;
    HF_ASSERT(s->in_entry);
    store_step(s, STMT_CLEAR);
    if (s->err != 0)
        return;
    cache_free(&s->cache);
    cache_init(&s->cache);
    memcpy(s->digest, s->settings.digest, sizeof s->digest); /* settings are not keys: they stay */
    s->meta.keys = s->keys_expiring = 0;
    s->db_due_ms = 0;
    s->written_rows += s->database_pages; /* every page changed hands: let the commit come soon */
}
