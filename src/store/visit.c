/* visit.c: everything that goes over more than one row: scans, a random key, expiry, the full digest.
 *
 * Scan order is (position, key), the position being the upper 43 bits of the key's hash. It depends on nothing but
 * the key, so a cursor is good on every node and for ever: it is the next position to visit. */
#include "store/internal.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

/* ---- scan ---------------------------------------------------------------------------------------- */

/* The rows of one position, gathered so that they can be visited in key order. */
struct group_row {
    size_t key_at, key_len;
    struct hf_row row;
};

struct group {
    uint64_t position; /* 0 = empty */
    struct hf_buf keys;
    struct group_row *rows;
    uint32_t n, cap;
};

static struct hf_slice group_key(const struct group *g, const struct group_row *r)
{
    return hf_slice(g->keys.data + r->key_at, r->key_len);
}

static int compare_group_rows(const void *a, const void *b, void *group)
{
    return hf_slice_cmp(group_key(group, a), group_key(group, b));
}

static void group_add(struct group *g, struct hf_slice key, const struct hf_row *row)
{
    if (g->n == g->cap) {
        g->cap = g->cap ? g->cap * 2 : 4;
        g->rows = hf_realloc(g->rows, g->cap * sizeof g->rows[0]);
    }
    g->rows[g->n++] = (struct group_row){g->keys.len, key.len, *row};
    hf_buf_put(&g->keys, key.ptr, key.len);
}

/* Visits and empties the group. *next becomes the cursor after what was visited. False when cb said stop. */
static bool group_visit(struct hf_store *s, struct group *g, hf_store_visit_cb cb, void *data, uint64_t *next)
{
    bool go_on = true;

    if (g->n > 1)
        qsort_r(g->rows, g->n, sizeof g->rows[0], compare_group_rows, g);
    *next = g->position + 1;
    for (uint32_t i = 0; i < g->n && go_on; i++) {
        struct group_row *r = &g->rows[i];
        if (!store_is_live(s, r->row.expires_at_ms))
            continue;
        go_on = cb(data, group_key(g, r), &r->row);
        if (!go_on && i + 1 < g->n)
            *next = g->position;
    }
    g->n = 0;
    g->keys.len = 0;
    g->position = 0;
    return go_on;
}

/* The row under the statement, or what the cache knows better (only the content: the set of keys is the same). */
static struct hf_slice read_scan_row(struct hf_store *s, sqlite3_stmt *st, struct hf_row *row)
{
    struct hf_slice key = hf_slice(sqlite3_column_blob(st, 4), (size_t)sqlite3_column_bytes(st, 4));
    struct cell *cell = NULL;

    if (s->cache.dirty_bytes != 0)
        cell = cache_find(&s->cache, hf_store_hash_key(s, key), key);
    memset(row, 0, sizeof *row);
    if (cell) {
        HF_ASSERT(cell->row->present);
        row->type = row_type(cell->row);
        row->version = row_version(cell->row);
        row->expires_at_ms = row_expires(cell->row);
    } else {
        row->type = (enum hf_type)sqlite3_column_int(st, 1);
        row->version = (uint64_t)sqlite3_column_int64(st, 2);
        row->expires_at_ms = sqlite3_column_int64(st, 3);
    }
    return key;
}

uint64_t hf_store_scan(struct hf_store *s, uint64_t cursor, uint64_t count, hf_store_visit_cb cb, void *data)
{
    struct group g = {0};
    uint64_t visited = 0, next = 0;
    sqlite3_stmt *st;
    bool go_on = true, more;

    if (cursor >> STORE_GROUP_BITS != 0)
        return 0;
    store_flush_shape(s);
    st = store_stmt(s, STMT_SCAN);
    if (!st)
        return 0;
    sqlite3_bind_int64(st, 1, (int64_t)(cursor << STORE_ORDINAL_BITS));
    while ((more = store_step(s, STMT_SCAN))) {
        uint64_t position = (uint64_t)sqlite3_column_int64(st, 0) >> STORE_ORDINAL_BITS;
        struct hf_row row;
        struct hf_slice key;

        if (g.position != 0 && position != g.position) {
            go_on = group_visit(s, &g, cb, data, &next);
            if (!go_on || visited >= count)
                break;
        }
        key = read_scan_row(s, st, &row);
        g.position = position;
        group_add(&g, key, &row);
        visited++;
    }
    store_done(s, STMT_SCAN);
    if (!more && s->err == 0) { /* the end of the table */
        next = 0;
        if (g.position != 0) {
            uint64_t after;
            if (!group_visit(s, &g, cb, data, &after))
                next = after;
        }
    }
    hf_buf_free(&g.keys);
    hf_free(g.rows);
    return s->err == 0 ? next : 0;
}

static bool take_one(void *data, struct hf_slice key, const struct hf_row *row)
{
    struct hf_buf *out = data;

    (void)row;
    out->len = 0;
    hf_buf_put_slice(out, key);
    return false;
}

bool hf_store_random(struct hf_store *s, uint64_t rnd, struct hf_slice *key)
{
    uint64_t from = (rnd >> (64u - STORE_GROUP_BITS)) & s->group_mask;

    s->scratch.len = 0;
    hf_store_scan(s, from, UINT64_MAX, take_one, &s->scratch);
    if (s->scratch.len == 0 && from != 0) /* nothing up to the end: once around */
        hf_store_scan(s, 0, UINT64_MAX, take_one, &s->scratch);
    if (s->scratch.len == 0)
        return false;
    *key = hf_slice(s->scratch.data + 4, s->scratch.len - 4);
    return true;
}

/* ---- expiry -------------------------------------------------------------------------------------- */

int64_t hf_store_next_due_ms(struct hf_store *s)
{
    int64_t heap_due = s->cache.heap_n ? row_expires(s->cache.heap[1]) : 0;

    if (s->err != 0)
        return 0;
    if (s->db_due_ms == 0 || heap_due == 0)
        return s->db_due_ms + heap_due;
    return s->db_due_ms < heap_due ? s->db_due_ms : heap_due;
}

/* A due row of the database. Rows that are dirty in the cache are not among them: the heap has those. */
struct due {
    int64_t slot, expires_at_ms;
    size_t key_at, key_len;
};

/* Writes back the rows whose place in the index is out of date; true when there was one. Each costs one write
 * that had to happen sooner or later, so stale index entries cannot be met again and again. */
static bool write_stale(struct hf_store *s, const struct due *due, unsigned n, const struct hf_buf *keys)
{
    bool any = false;

    for (unsigned i = 0; i < n && s->err == 0; i++) {
        struct hf_slice key = hf_slice(keys->data + due[i].key_at, due[i].key_len);
        struct cell *cell = cache_find(&s->cache, hf_store_hash_key(s, key), key);
        if (cell && row_is_dirty(cell->row)) {
            store_write_row(s, cell->row);
            any = true;
        }
    }
    return any;
}

/* The first n_max due rows of the database into due[] and their keys into s->scratch. */
static unsigned collect_due(struct hf_store *s, struct due *due, unsigned n_max)
{
    unsigned n;

    if (s->db_due_ms == 0 || s->db_due_ms > s->meta.log_time_ms)
        return 0;
    do {
        sqlite3_stmt *st = store_stmt(s, STMT_DUE);
        if (!st)
            return 0;
        n = 0;
        s->scratch.len = 0;
        sqlite3_bind_int64(st, 1, s->meta.log_time_ms);
        sqlite3_bind_int64(st, 2, n_max);
        while (store_step(s, STMT_DUE)) {
            struct hf_slice key = hf_slice(sqlite3_column_blob(st, 2), (size_t)sqlite3_column_bytes(st, 2));
            due[n++] = (struct due){sqlite3_column_int64(st, 0), sqlite3_column_int64(st, 1), s->scratch.len, key.len};
            hf_buf_put(&s->scratch, key.ptr, key.len);
        }
    } while (write_stale(s, due, n, &s->scratch));
    return s->err == 0 ? n : 0;
}

static void expire_stored(struct hf_store *s, const struct due *due, struct hf_slice key)
{
    struct cell *cell = cache_find(&s->cache, hf_store_hash_key(s, key), key);
    struct row *r = cell ? cell->row : store_load_slot(s, due->slot);

    if (!r)
        return;
    HF_ASSERT(row_expires(r) == due->expires_at_ms);
    store_subtract(s, r);
    if (cell)
        cache_remove(&s->cache, cell);
    else
        row_free(r);
    store_delete_slot(s, due->slot);
}

unsigned hf_store_expire(struct hf_store *s, unsigned n_max)
{
    int64_t first = hf_store_next_due_ms(s), now = s->meta.log_time_ms;
    struct row_cache *c = &s->cache;
    unsigned n = 0, n_stored, used = 0;
    struct due *due;

    if (s->err != 0 || first == 0 || first > now || n_max == 0)
        return 0;
    HF_ASSERT(s->in_entry);
    due = hf_malloc(n_max * sizeof due[0]);
    n_stored = collect_due(s, due, n_max);
    for (; n < n_max && s->err == 0; n++) {
        struct row *dirty = c->heap_n && row_expires(c->heap[1]) <= now ? c->heap[1] : NULL;
        const struct due *d = used < n_stored ? &due[used] : NULL;
        struct hf_slice key = d ? hf_slice(s->scratch.data + d->key_at, d->key_len) : hf_slice(NULL, 0);

        if (!dirty && !d)
            break;
        if (dirty && d &&
            (row_expires(dirty) > d->expires_at_ms ||
             (row_expires(dirty) == d->expires_at_ms && hf_slice_cmp(row_key(dirty), key) > 0)))
            dirty = NULL;
        if (dirty) {
            store_subtract(s, dirty);
            cache_erase(c, cache_find(c, dirty->hash, row_key(dirty)));
        } else {
            expire_stored(s, d, key);
            used++;
        }
    }
    /* Refine the bound: exact again, unless more than we may delete is due. */
    if (s->db_due_ms != 0 && s->db_due_ms <= now)
        s->db_due_ms = used < n_stored     ? due[used].expires_at_ms
                       : n_stored == n_max ? due[n_max - 1].expires_at_ms
                                           : store_query_due(s, now);
    hf_free(due);
    hf_counter_add(s->stats.expired, n);
    return s->err == 0 ? n : 0;
}

/* ---- the full digest ----------------------------------------------------------------------------- */

bool hf_store_digest_is_right(struct hf_store *s)
{
    struct refusal refusal = {s->path, s->db, true, s->err_text, sizeof s->err_text};
    struct settings settings = {0};
    uint64_t sum[2], keys = 0, expiring = 0;
    int err;

    store_flush_all(s);
    if (s->err != 0)
        return false;
    err = settings_load(&refusal, &settings); /* what the database holds, not what memory does */
    memcpy(sum, settings.digest, sizeof sum);
    settings_free(&settings);
    if (err != 0) {
        hf_store_fail(s, err, s->err_text);
        return false;
    }
    if (!store_stmt(s, STMT_ALL))
        return false;
    while (store_step(s, STMT_ALL)) {
        sqlite3_stmt *st = s->stmt[STMT_ALL];
        struct hf_slice key = hf_slice(sqlite3_column_blob(st, 5), (size_t)sqlite3_column_bytes(st, 5));
        struct row *r = store_row_from_columns(st, hf_store_hash_key(s, key), key);

        sum[0] += r->digest[0];
        sum[1] += r->digest[1];
        keys++;
        expiring += row_expires(r) != 0;
        row_free(r);
    }
    return s->err == 0 && sum[0] == s->digest[0] && sum[1] == s->digest[1] && keys == s->meta.keys &&
           expiring == s->keys_expiring;
}
