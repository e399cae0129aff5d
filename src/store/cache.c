/* cache.c: the row cache in front of the database. It holds the rows in use, and every change that the database
 * does not have yet. Rows are single blocks found through an open-addressing table; dirty rows are on one of two
 * lists (or in the sorted batch being written back), dirty rows with an expiry also in a heap, since the index in
 * the database does not know them yet. Clean rows leave in CLOCK order.
 *
 * Nothing here is visible in results: which rows are cached or dirty differs from node to node. */
#include "store/internal.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define CACHE_CELLS_MIN 1024u

/* ---- rows ---------------------------------------------------------------------------------------- */

/* Sizes are rounded so that values of similar length reuse each other's memory in place: to 32 bytes when small,
 * to an eighth of the power of two below when large. */
static uint32_t round_size(uint64_t n)
{
    uint64_t step = 32;

    HF_ASSERT(n < UINT32_MAX / 2);
    while (step * 16 < n)
        step *= 2;
    return (uint32_t)((n + step - 1) / step * step);
}

static uint64_t needed_size(uint64_t key_len, uint64_t value_len)
{
    return offsetof(struct row, canon) + CANON_HEADER + key_len + value_len;
}

struct row *row_new(uint64_t hash, struct hf_slice key, uint32_t value_len)
{
    uint32_t size = round_size(needed_size(key.len, value_len));
    struct row *r = hf_malloc(size);

    memset(r, 0, offsetof(struct row, canon) + CANON_HEADER);
    r->hash = hash;
    r->size = size;
    hf_store_u32(r->canon + 16, (uint32_t)key.len);
    if (key.len != 0)
        memcpy(r->canon + CANON_HEADER, key.ptr, key.len);
    return r;
}

void row_free(struct row *r)
{
    hf_free(r);
}

void row_compute_digest(struct row *r)
{
    XXH128_hash_t h = XXH3_128bits(r->canon, CANON_HEADER + (size_t)row_key_len(r) + r->value_len);

    r->digest[0] = h.low64;
    r->digest[1] = h.high64;
}

/* ---- dirty lists --------------------------------------------------------------------------------- */

static void list_push(struct row_cache *c, struct row *r, enum row_list list)
{
    struct row_vec *v = &c->list[list];

    if (v->n == v->cap) {
        v->cap = v->cap ? v->cap * 2 : 64;
        v->at = hf_realloc(v->at, v->cap * sizeof v->at[0]);
    }
    r->list = (uint8_t)list;
    r->list_pos = v->n;
    v->at[v->n++] = (struct row_ref){r->hash, r};
}

static void list_remove(struct row_cache *c, struct row *r)
{
    struct row_vec *v = &c->list[r->list];

    if (r->list == LIST_FLUSH) { /* the batch stays sorted: leave a hole */
        v->at[r->list_pos].row = NULL;
    } else {
        struct row_ref last = v->at[--v->n];
        v->at[r->list_pos] = last;
        last.row->list_pos = r->list_pos;
    }
    r->list = LIST_NONE;
}

/* ---- heap of expiries ---------------------------------------------------------------------------- */

static bool heap_less(const struct row *a, const struct row *b)
{
    if (row_expires(a) != row_expires(b))
        return row_expires(a) < row_expires(b);
    return hf_slice_cmp(row_key(a), row_key(b)) < 0;
}

static void heap_place(struct row_cache *c, uint32_t pos, struct row *r)
{
    c->heap[pos] = r;
    r->heap_pos = pos;
}

static void heap_fix(struct row_cache *c, struct row *r)
{
    uint32_t pos = r->heap_pos;

    while (pos > 1 && heap_less(r, c->heap[pos / 2])) {
        heap_place(c, pos, c->heap[pos / 2]);
        pos /= 2;
    }
    for (;;) {
        uint32_t child = pos * 2;
        if (child > c->heap_n)
            break;
        if (child < c->heap_n && heap_less(c->heap[child + 1], c->heap[child]))
            child++;
        if (!heap_less(c->heap[child], r))
            break;
        heap_place(c, pos, c->heap[child]);
        pos = child;
    }
    heap_place(c, pos, r);
}

static void heap_insert(struct row_cache *c, struct row *r)
{
    if (c->heap_n + 1 >= c->heap_cap) {
        c->heap_cap = c->heap_cap ? c->heap_cap * 2 : 64;
        c->heap = hf_realloc(c->heap, c->heap_cap * sizeof c->heap[0]);
    }
    heap_place(c, ++c->heap_n, r);
    heap_fix(c, r);
}

static void heap_remove(struct row_cache *c, struct row *r)
{
    uint32_t pos = r->heap_pos;
    struct row *last;

    if (pos == 0)
        return;
    last = c->heap[c->heap_n--];
    if (last != r) {
        heap_place(c, pos, last);
        heap_fix(c, last);
    }
    r->heap_pos = 0;
}

/* ---- the table ----------------------------------------------------------------------------------- */

static void table_alloc(struct row_cache *c, uint64_t n_cells)
{
    c->cells = hf_calloc(n_cells, sizeof c->cells[0]);
    c->mask = n_cells - 1;
    c->bytes += n_cells * sizeof c->cells[0];
}

void cache_init(struct row_cache *c)
{
    memset(c, 0, sizeof *c);
    table_alloc(c, CACHE_CELLS_MIN);
}

void cache_free(struct row_cache *c)
{
    for (uint64_t i = 0; c->cells && i <= c->mask; i++)
        row_free(c->cells[i].row);
    hf_free(c->cells);
    for (unsigned i = 0; i < LIST_N; i++)
        hf_free(c->list[i].at);
    hf_free(c->heap);
    memset(c, 0, sizeof *c);
}

struct cell *cache_find(struct row_cache *c, uint64_t hash, struct hf_slice key)
{
    for (uint64_t i = hash & c->mask; c->cells[i].row; i = (i + 1) & c->mask)
        if (c->cells[i].hash == hash && hf_slice_eq(row_key(c->cells[i].row), key))
            return &c->cells[i];
    return NULL;
}

static struct cell *table_place(struct row_cache *c, uint64_t hash, struct row *r)
{
    uint64_t i = hash & c->mask;

    while (c->cells[i].row)
        i = (i + 1) & c->mask;
    c->cells[i] = (struct cell){hash, r};
    return &c->cells[i];
}

static void table_grow(struct row_cache *c)
{
    struct cell *old = c->cells;
    uint64_t n_old = c->mask + 1;

    c->bytes -= n_old * sizeof old[0];
    table_alloc(c, n_old * 2);
    for (uint64_t i = 0; i < n_old; i++)
        if (old[i].row)
            table_place(c, old[i].hash, old[i].row);
    hf_free(old);
    c->hand = 0;
}

struct cell *cache_insert(struct row_cache *c, struct row *r)
{
    HF_ASSERT(r->list == LIST_NONE);
    if ((c->n + 1) * 4 > (c->mask + 1) * 3)
        table_grow(c);
    c->n++;
    c->bytes += r->size;
    r->referenced = true;
    return table_place(c, r->hash, r);
}

/* Backward-shift deletion: no tombstones in the table, so lookups stay short however long the node runs. */
static void table_remove(struct row_cache *c, struct cell *cell)
{
    uint64_t hole = (uint64_t)(cell - c->cells);

    for (uint64_t i = (hole + 1) & c->mask; c->cells[i].row; i = (i + 1) & c->mask) {
        uint64_t home = c->cells[i].hash & c->mask;
        if (((i - home) & c->mask) >= ((i - hole) & c->mask)) {
            c->cells[hole] = c->cells[i];
            hole = i;
        }
    }
    c->cells[hole].row = NULL;
    c->n--;
}

void cache_remove(struct row_cache *c, struct cell *cell)
{
    struct row *r = cell->row;

    c->bytes -= r->size;
    if (row_is_dirty(r)) {
        c->dirty_bytes -= r->size;
        list_remove(c, r);
    }
    heap_remove(c, r);
    table_remove(c, cell);
    row_free(r);
}

/* ---- changes ------------------------------------------------------------------------------------- */

/* Puts the row on the list that fits it. Rows of the batch under way stay in it: it will write what they are then. */
static void mark_dirty(struct row_cache *c, struct row *r)
{
    enum row_list want = r->present && r->slot != 0 ? LIST_CONTENT : LIST_SHAPE;

    if (r->list == LIST_FLUSH || r->list == want)
        return;
    if (row_is_dirty(r))
        list_remove(c, r);
    else
        c->dirty_bytes += r->size;
    list_push(c, r, want);
}

static struct row *row_resize(struct row_cache *c, struct cell *cell, uint64_t value_len)
{
    struct row *r = cell->row;
    uint64_t need = needed_size(row_key_len(r), value_len);
    uint32_t size = round_size(need);

    if (need <= r->size && (uint64_t)r->size <= 2 * (uint64_t)size + 256)
        return r;
    c->bytes += (uint64_t)size - r->size;
    if (row_is_dirty(r))
        c->dirty_bytes += (uint64_t)size - r->size;
    r = hf_realloc(r, size);
    r->size = size;
    cell->row = r;
    if (row_is_dirty(r))
        c->list[r->list].at[r->list_pos].row = r;
    if (r->heap_pos != 0)
        c->heap[r->heap_pos] = r;
    return r;
}

struct row *cache_set(struct row_cache *c, struct cell *cell, uint64_t version, int64_t expires_at_ms,
                      enum hf_type type, const struct hf_slice *value)
{
    struct row *r = value ? row_resize(c, cell, value->len) : cell->row;

    hf_store_u64(r->canon, version);
    hf_store_u64(r->canon + 8, (uint64_t)expires_at_ms);
    r->canon[20] = (uint8_t)type;
    if (value) {
        r->value_len = (uint32_t)value->len;
        if (value->len != 0)
            memcpy(r->canon + CANON_HEADER + row_key_len(r), value->ptr, value->len);
    }
    row_compute_digest(r);
    r->present = true;
    r->referenced = true;
    mark_dirty(c, r);
    if (expires_at_ms == 0)
        heap_remove(c, r);
    else if (r->heap_pos == 0)
        heap_insert(c, r);
    else
        heap_fix(c, r);
    return r;
}

void cache_erase(struct row_cache *c, struct cell *cell)
{
    struct row *r = cell->row;

    if (r->slot == 0) {
        cache_remove(c, cell);
        return;
    }
    heap_remove(c, r);
    r->present = false;
    r->value_len = 0;
    if (r->size > 4096)
        r = row_resize(c, cell, 0);
    mark_dirty(c, r);
}

void cache_written(struct row_cache *c, struct row *r)
{
    HF_ASSERT(row_is_dirty(r));
    list_remove(c, r);
    c->dirty_bytes -= r->size;
    heap_remove(c, r);
}

bool cache_evict_one(struct row_cache *c, const struct row *keep)
{
    for (uint64_t i = 0; i <= 2 * c->mask + 1; i++) {
        struct cell *cell = &c->cells[c->hand & c->mask];
        struct row *r = cell->row;

        if (r && r != keep && !row_is_dirty(r)) {
            if (!r->referenced) {
                cache_remove(c, cell); /* the next row may have moved into this cell: the hand stays */
                return true;
            }
            r->referenced = false;
        }
        c->hand = (c->hand + 1) & c->mask;
    }
    return false;
}

uint64_t cache_dirty_rows(const struct row_cache *c)
{
    return (uint64_t)c->list[LIST_SHAPE].n + c->list[LIST_CONTENT].n + c->list[LIST_FLUSH].n - c->flush_pos;
}

/* ---- flush batches ------------------------------------------------------------------------------- */

/* By the 32 upper bits of the hash, which decide the place in the table file: two passes of 16 bits. A radix sort,
 * because its time does not depend on what keys clients choose. Small batches are left to qsort. */
static int compare_refs(const void *a, const void *b)
{
    uint64_t x = ((const struct row_ref *)a)->hash, y = ((const struct row_ref *)b)->hash;

    return x < y ? -1 : x > y;
}

static void sort_refs(struct row_ref *at, uint32_t n)
{
    struct row_ref *tmp;
    uint32_t *count;

    if (n < 20000) {
        qsort(at, n, sizeof at[0], compare_refs);
        return;
    }
    tmp = hf_malloc(n * sizeof at[0]);
    count = hf_malloc(65536 * sizeof count[0]);
    for (unsigned shift = 32; shift < 64; shift += 16) {
        uint32_t sum = 0;
        struct row_ref *from = shift == 32 ? at : tmp, *to = shift == 32 ? tmp : at;

        memset(count, 0, 65536 * sizeof count[0]);
        for (uint32_t i = 0; i < n; i++)
            count[from[i].hash >> shift & 0xffff]++;
        for (uint32_t i = 0; i < 65536; i++) {
            uint32_t k = count[i];
            count[i] = sum;
            sum += k;
        }
        for (uint32_t i = 0; i < n; i++)
            to[count[from[i].hash >> shift & 0xffff]++] = from[i];
    }
    hf_free(tmp);
    hf_free(count);
}

void cache_start_batch(struct row_cache *c)
{
    struct row_vec *batch = &c->list[LIST_FLUSH];
    struct row_vec *shape = &c->list[LIST_SHAPE], *content = &c->list[LIST_CONTENT];
    uint32_t n = shape->n + content->n;

    HF_ASSERT(c->flush_pos == batch->n);
    c->flush_pos = 0;
    if (batch->cap < n) {
        batch->cap = n;
        batch->at = hf_realloc(batch->at, n * sizeof batch->at[0]);
    }
    batch->n = n;
    if (shape->n != 0)
        memcpy(batch->at, shape->at, shape->n * sizeof batch->at[0]);
    if (content->n != 0)
        memcpy(batch->at + shape->n, content->at, content->n * sizeof batch->at[0]);
    shape->n = content->n = 0;
    if (n != 0)
        sort_refs(batch->at, n);
    for (uint32_t i = 0; i < n; i++) {
        batch->at[i].row->list = LIST_FLUSH;
        batch->at[i].row->list_pos = i;
    }
}

/* ---- invariants ---------------------------------------------------------------------------------- */

void cache_check(const struct row_cache *c)
{
    uint64_t n = 0, bytes = (c->mask + 1) * sizeof c->cells[0], dirty = 0, listed = 0, in_heap = 0;

    for (uint64_t i = 0; i <= c->mask; i++) {
        const struct row *r = c->cells[i].row;
        if (!r)
            continue;
        n++;
        bytes += r->size;
        HF_ASSERT(c->cells[i].hash == r->hash);
        HF_ASSERT(cache_find((struct row_cache *)c, r->hash, row_key(r)) == &c->cells[i]);
        HF_ASSERT(needed_size(row_key_len(r), r->value_len) <= r->size);
        if (row_is_dirty(r)) {
            dirty += r->size;
            listed++;
            HF_ASSERT(r->present || r->slot != 0);
            HF_ASSERT(r->list_pos < c->list[r->list].n);
            HF_ASSERT(c->list[r->list].at[r->list_pos].row == r);
            if (r->list == LIST_CONTENT)
                HF_ASSERT(r->present && r->slot != 0);
            if (r->list == LIST_SHAPE)
                HF_ASSERT(!r->present || r->slot == 0);
        } else {
            HF_ASSERT(r->present && r->slot != 0);
        }
        HF_ASSERT((r->heap_pos != 0) == (row_is_dirty(r) && r->present && row_expires(r) != 0));
        if (r->heap_pos != 0) {
            in_heap++;
            HF_ASSERT(c->heap[r->heap_pos] == r);
            HF_ASSERT(r->heap_pos == 1 || !heap_less(r, c->heap[r->heap_pos / 2]));
        }
    }
    for (uint32_t i = c->flush_pos; i < c->list[LIST_FLUSH].n; i++)
        listed -= c->list[LIST_FLUSH].at[i].row != NULL;
    HF_ASSERT(listed == (uint64_t)c->list[LIST_SHAPE].n + c->list[LIST_CONTENT].n);
    HF_ASSERT(n == c->n);
    HF_ASSERT(bytes == c->bytes);
    HF_ASSERT(dirty == c->dirty_bytes);
    HF_ASSERT(in_heap == c->heap_n);
}
