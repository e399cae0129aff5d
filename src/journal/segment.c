/* segment.c: what is known in memory of one segment: its run of indexes and a sparse index of its batches. */
#include "base/assert.h"
#include "base/mem.h"
#include "journal/internal.h"

struct hf_jsegment *hf_jsegment_new(uint64_t id, uint64_t salt, uint64_t capacity)
{
    struct hf_jsegment *s = hf_calloc(1, sizeof *s);

    s->id = id;
    s->salt = salt;
    s->capacity = capacity;
    s->end = HF_JSEG_HEADER_BYTES;
    s->first_index = 1;
    return s;
}

void hf_jsegment_free(struct hf_jsegment *s)
{
    if (s == NULL)
        return;
    HF_ASSERT(s->file == NULL);
    HF_ASSERT(s->reads == 0);
    hf_free(s->points);
    hf_free(s);
}

void hf_jsegment_add_batch(struct hf_jsegment *s, uint64_t offset, uint64_t first_index, uint32_t count, uint64_t cum)
{
    HF_ASSERT(count > 0);
    HF_ASSERT(first_index == s->last_index + 1);
    if (s->n_points == 0 || offset - s->points[s->n_points - 1].offset >= HF_JPOINT_BYTES) {
        if (s->n_points == s->cap_points) {
            s->cap_points = s->cap_points ? s->cap_points * 2 : 4;
            s->points = hf_realloc(s->points, s->cap_points * sizeof *s->points);
        }
        s->points[s->n_points++] = (struct hf_jpoint){first_index, offset, cum};
    }
    s->last_index = first_index + count - 1;
}

void hf_jsegment_cut(struct hf_jsegment *s, uint64_t from_index)
{
    if (from_index <= s->first_index) {
        s->last_index = s->first_index - 1;
        s->n_points = 0;
        return;
    }
    if (s->last_index >= from_index)
        s->last_index = from_index - 1;
    while (s->n_points > 0 && s->points[s->n_points - 1].index >= from_index)
        s->n_points--;
}

const struct hf_jpoint *hf_jsegment_find(const struct hf_jsegment *s, uint64_t index)
{
    size_t low = 0, high = s->n_points;

    HF_ASSERT(index >= s->first_index);
    HF_ASSERT(index <= s->last_index);
    HF_ASSERT(s->n_points > 0);
    /* points[low] <= index < points[high] */
    while (high - low > 1) {
        size_t mid = low + (high - low) / 2;

        if (s->points[mid].index <= index)
            low = mid;
        else
            high = mid;
    }
    HF_ASSERT(s->points[low].index <= index);
    return &s->points[low];
}
