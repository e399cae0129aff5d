/* history.c: see history.h. */
#include "sim/history.h"

#include "base/mem.h"

#include <stddef.h>

struct seen {
    uint64_t done, value;
    struct seen *next;
};

#define BUCKETS 4096u

struct search {
    const struct hf_history *h;
    struct seen *table[BUCKETS];
    uint64_t all_known; /* bits of operations that must take effect */
};

static bool visit(struct search *s, uint64_t done, uint64_t value)
{
    uint64_t hash = (done * 0x9e3779b97f4a7c15u) ^ (value * 0xc2b2ae3d27d4eb4fu);
    struct seen **at = &s->table[(hash >> 32) % BUCKETS], *e;

    for (e = *at; e; e = e->next)
        if (e->done == done && e->value == value)
            return false;
    e = hf_malloc(sizeof *e);
    e->done = done;
    e->value = value;
    e->next = *at;
    *at = e;
    return true;
}

/* Whether the operation may take effect on `value` next; then what it leaves. */
static bool take_effect(const struct hf_history_op *op, uint64_t value, uint64_t *out)
{
    bool is_answered = op->completed != UINT64_MAX;

    *out = value;
    switch (op->kind) {
    case HF_HISTORY_READ:
        return op->value == value;
    case HF_HISTORY_WRITE:
        *out = op->value;
        return true;
    case HF_HISTORY_ADD:
        *out = value + 1;
        return !is_answered || op->value == value + 1;
    case HF_HISTORY_SWAP:
        if (value == op->expected)
            *out = op->value;
        return !is_answered || op->did_swap == (value == op->expected);
    case HF_HISTORY_EXPIRE:
        *out = 0;
        return value == op->expected;
    }
    return false;
}

static bool explain(struct search *s, uint64_t done, uint64_t value)
{
    const struct hf_history *h = s->h;
    uint64_t earliest_return = UINT64_MAX, next;

    if ((done & s->all_known) == s->all_known)
        return true;
    if (!visit(s, done, value))
        return false;
    /* The next operation must have been invoked before any pending one completed. */
    for (uint32_t i = 0; i < h->n; i++)
        if (!(done >> i & 1) && h->ops[i].completed < earliest_return)
            earliest_return = h->ops[i].completed;
    for (uint32_t i = 0; i < h->n; i++) {
        const struct hf_history_op *op = &h->ops[i];

        if ((done >> i & 1) || op->invoked > earliest_return)
            continue;
        if (op->after && !(done >> (op->after - 1) & 1) && h->ops[op->after - 1].completed != UINT64_MAX)
            continue;
        if (take_effect(op, value, &next) && explain(s, done | UINT64_C(1) << i, next))
            return true;
    }
    return false;
}

bool hf_history_is_linearizable(const struct hf_history *h)
{
    struct search *s = hf_calloc(1, sizeof *s);
    bool ok;

    s->h = h;
    for (uint32_t i = 0; i < h->n; i++)
        if (h->ops[i].completed != UINT64_MAX)
            s->all_known |= UINT64_C(1) << i;
    ok = explain(s, 0, 0);
    for (unsigned i = 0; i < BUCKETS; i++)
        for (struct seen *e = s->table[i], *next; e; e = next) {
            next = e->next;
            hf_free(e);
        }
    hf_free(s);
    return ok;
}
