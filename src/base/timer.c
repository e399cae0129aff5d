/* timer.c: a binary min-heap of timers, ordered by (due, order of starting). Positions are kept in the timers,
 * so that stopping one costs O(log n) too. The environments in src/uv and in the simulator share it. */
#include "base/assert.h"
#include "base/env.h"
#include "base/mem.h"

static bool is_before(const struct hf_timer *a, const struct hf_timer *b)
{
    return a->due_ms != b->due_ms ? a->due_ms < b->due_ms : a->seq < b->seq;
}

static void place(struct hf_timer_heap *h, size_t pos, struct hf_timer *t)
{
    h->items[pos] = t;
    t->heap_pos = pos;
}

static void sift_up(struct hf_timer_heap *h, size_t pos, struct hf_timer *t)
{
    while (pos > 1 && is_before(t, h->items[pos / 2])) {
        place(h, pos, h->items[pos / 2]);
        pos /= 2;
    }
    place(h, pos, t);
}

static void sift_down(struct hf_timer_heap *h, size_t pos, struct hf_timer *t)
{
    for (;;) {
        size_t child = pos * 2;

        if (child > h->n)
            break;
        if (child < h->n && is_before(h->items[child + 1], h->items[child]))
            child++;
        if (!is_before(h->items[child], t))
            break;
        place(h, pos, h->items[child]);
        pos = child;
    }
    place(h, pos, t);
}

void hf_timer_heap_free(struct hf_timer_heap *h)
{
    for (size_t i = 1; i <= h->n; i++)
        h->items[i]->heap_pos = 0;
    hf_free(h->items);
    *h = (struct hf_timer_heap){0};
}

void hf_timer_heap_insert(struct hf_timer_heap *h, struct hf_timer *t, uint64_t due_ms)
{
    hf_timer_heap_remove(h, t);
    if (h->n + 1 >= h->cap) {
        h->cap = h->cap ? h->cap * 2 : 16;
        h->items = hf_realloc(h->items, h->cap * sizeof(h->items[0]));
    }
    t->due_ms = due_ms;
    t->seq = h->next_seq++;
    h->n++;
    sift_up(h, h->n, t);
}

void hf_timer_heap_remove(struct hf_timer_heap *h, struct hf_timer *t)
{
    size_t pos = t->heap_pos;
    struct hf_timer *last;

    if (pos == 0)
        return;
    HF_ASSERT(pos <= h->n);
    HF_ASSERT(h->items[pos] == t);
    t->heap_pos = 0;
    last = h->items[h->n--];
    if (last == t)
        return;
    /* The last one fills the hole; it may belong above or below it. */
    if (pos > 1 && is_before(last, h->items[pos / 2]))
        sift_up(h, pos, last);
    else
        sift_down(h, pos, last);
}

struct hf_timer *hf_timer_heap_first(const struct hf_timer_heap *h)
{
    return h->n ? h->items[1] : NULL;
}
