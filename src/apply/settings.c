/* settings.c: the replicated settings as the loop hears of them, and the feature level among them (R26). */
#include "apply/internal.h"

#include "base/util.h"

#include <inttypes.h>
#include <stdio.h>

static const char level_name[] = "level";

/* What nobody but a damaged or foreign store could hold counts as above every level. */
static uint32_t read_level(struct hf_slice value)
{
    int64_t level;

    if (!hf_parse_int64(value, &level) || level < 1 || level > UINT32_MAX)
        return UINT32_MAX;
    return (uint32_t)level;
}

static void put_setting(void *data, struct hf_slice name, struct hf_slice value)
{
    hf_buf_put_slice(data, name);
    hf_buf_put_slice(data, value);
}

void hf_settings_list(struct hf_store *s, struct hf_buf *out, uint32_t *level)
{
    struct hf_slice value;

    out->len = 0;
    hf_store_setting_visit(s, put_setting, out);
    *level = hf_store_setting_get(s, hf_slice_str(level_name), &value) ? read_level(value) : 1;
}

struct cursor {
    struct hf_reader in;
    struct hf_slice name, value;
    bool is_there;
};

static void next_setting(struct cursor *c)
{
    c->is_there = hf_reader_left(&c->in) > 0;
    if (!c->is_there)
        return;
    c->name = hf_read_slice(&c->in);
    c->value = hf_read_slice(&c->in);
}

static int compare_names(const struct cursor *a, const struct cursor *b)
{
    size_t n = a->name.len < b->name.len ? a->name.len : b->name.len;
    int order;

    if (!a->is_there || !b->is_there)
        return a->is_there ? -1 : 1;
    order = n > 0 ? memcmp(a->name.ptr, b->name.ptr, n) : 0;
    if (order != 0)
        return order;
    return a->name.len < b->name.len ? -1 : a->name.len > b->name.len;
}

void hf_settings_compare(const struct hf_buf *before, const struct hf_buf *now, bool is_all,
                         void (*cb)(void *data, struct hf_slice name, struct hf_slice value), void *data)
{
    struct cursor old = {.in = hf_reader(hf_buf_slice(before))}, new = {.in = hf_reader(hf_buf_slice(now))};

    next_setting(&old);
    next_setting(&new);
    while (old.is_there || new.is_there) {
        int order = compare_names(&old, &new);

        if (order < 0) {
            cb(data, old.name, hf_slice("", 0));
            next_setting(&old);
            continue;
        }
        if (order > 0 || is_all || !hf_slice_eq(old.value, new.value))
            cb(data, new.name, new.value);
        if (order == 0)
            next_setting(&old);
        next_setting(&new);
    }
}

int hf_open_supported(const struct hf_store_config *config, struct hf_stats *stats, struct hf_store **out, char *why,
                      size_t why_size)
{
    struct hf_slice value;
    uint32_t level = 1;
    int err = hf_store_open(config, stats, out, why, why_size);

    if (err != 0)
        return err;
    if (hf_store_setting_get(*out, hf_slice_str(level_name), &value))
        level = read_level(value);
    if (level <= HF_LEVEL_MAX)
        return 0;
    snprintf(why, why_size,
             "%s is a state of feature level %" PRIu32 ", and this release supports levels up to %u: start a newer "
             "release; nothing was changed",
             config->path, level, HF_LEVEL_MAX);
    hf_store_abandon(*out);
    *out = NULL;
    return HF_E_VERSION;
}
