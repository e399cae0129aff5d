/* tail.c: the newest entries of the log in memory, a ring addressed by index. Eviction is decided by journal.c:
 * what is not yet durable may never leave. */
#include "base/assert.h"
#include "base/mem.h"
#include "journal/internal.h"

void hf_jtail_init(struct hf_jtail *t, uint64_t next)
{
    t->cap = 256;
    t->items = hf_calloc(t->cap, sizeof *t->items);
    t->first = next;
    t->next = next;
    t->bytes = 0;
}

void hf_jtail_free(struct hf_jtail *t)
{
    hf_jtail_cut(t, t->first);
    hf_free(t->items);
    t->items = NULL;
}

static uint64_t block_bytes(const struct hf_log_entry *e)
{
    return sizeof *e + e->len + sizeof(struct hf_jtail_item);
}

struct hf_jtail_item *hf_jtail_at(const struct hf_jtail *t, uint64_t index)
{
    HF_ASSERT(hf_jtail_has(t, index));
    return &t->items[index & (t->cap - 1)];
}

static void grow(struct hf_jtail *t)
{
    size_t cap = t->cap * 2;
    struct hf_jtail_item *items = hf_calloc(cap, sizeof *items);

    for (uint64_t i = t->first; i < t->next; i++)
        items[i & (cap - 1)] = t->items[i & (t->cap - 1)];
    hf_free(t->items);
    t->items = items;
    t->cap = cap;
}

void hf_jtail_push(struct hf_jtail *t, struct hf_log_entry *e, uint64_t cum)
{
    HF_ASSERT(e->index == t->next);
    if (t->next - t->first == t->cap)
        grow(t);
    t->next++;
    *hf_jtail_at(t, e->index) = (struct hf_jtail_item){hf_log_entry_ref(e), cum};
    t->bytes += block_bytes(e);
}

void hf_jtail_drop_first(struct hf_jtail *t)
{
    struct hf_jtail_item *item = hf_jtail_at(t, t->first);

    t->bytes -= block_bytes(item->entry);
    hf_log_entry_unref(item->entry);
    item->entry = NULL;
    t->first++;
}

void hf_jtail_cut(struct hf_jtail *t, uint64_t from)
{
    while (t->next > t->first && t->next > from) {
        struct hf_jtail_item *item = hf_jtail_at(t, t->next - 1);

        t->bytes -= block_bytes(item->entry);
        hf_log_entry_unref(item->entry);
        item->entry = NULL;
        t->next--;
    }
    if (from < t->first)
        t->first = t->next = from;
}
