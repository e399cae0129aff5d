/* hash.c: see hash.h. */
#include "snapshot/hash.h"

#include "base/mem.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define STATE_ALIGNMENT 64u

struct hf_file_hash {
    uint8_t room[sizeof(XXH3_state_t) + STATE_ALIGNMENT];
};

static XXH3_state_t *state_of(const struct hf_file_hash *h)
{
    uintptr_t at = (uintptr_t)h->room;

    return (XXH3_state_t *)((at + STATE_ALIGNMENT - 1) / STATE_ALIGNMENT * STATE_ALIGNMENT);
}

struct hf_file_hash *hf_file_hash_new(void)
{
    struct hf_file_hash *h = hf_calloc(1, sizeof(*h));

    XXH3_INITSTATE(state_of(h));
    hf_file_hash_reset(h);
    return h;
}

void hf_file_hash_free(struct hf_file_hash *h)
{
    hf_free(h);
}

void hf_file_hash_reset(struct hf_file_hash *h)
{
    (void)XXH3_128bits_reset(state_of(h)); /* fails for NULL alone, like update */
}

void hf_file_hash_feed(struct hf_file_hash *h, const void *bytes, size_t n)
{
    (void)XXH3_128bits_update(state_of(h), bytes, n);
}

void hf_file_hash_get(const struct hf_file_hash *h, uint8_t out[16])
{
    XXH128_canonical_t canonical;

    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state_of(h)));
    memcpy(out, canonical.digest, 16);
}
