/* model.h: a naive keyspace in plain arrays, and one stream of random entries that drives it and a store alike. What
 * an entry does follows from (seed, index) alone, so that a store which lost its tail can be given the same entries
 * again, and so that several stores with different settings can be compared. */
#ifndef HF_TESTS_STORE_MODEL_H
#define HF_TESTS_STORE_MODEL_H

#include "store/store.h"

#define MODEL_KEYS     160u
#define MODEL_ENTRIES  4000u
#define MODEL_SETTINGS 6u

struct model_key {
    bool present;
    uint64_t version;
    int64_t expires_at_ms;
    uint32_t value_len;
};

struct model {
    uint64_t seed;
    uint64_t index;
    int64_t log_time_ms;
    struct model_key keys[MODEL_KEYS];
    uint64_t settings[MODEL_SETTINGS];   /* version that wrote it, 0 = absent */
    uint64_t results[MODEL_ENTRIES + 1]; /* a checksum of what entry i answered, 0 = not applied yet */
};

void model_init(struct model *m, uint64_t seed);
/* Bytes of key number i: some empty, long or binary. Borrowed until the next call with the same buffer. */
struct hf_slice model_key_bytes(unsigned i, struct hf_buf *buf);
/* Applies entry `store's applied index + 1`. Entries that the model has seen are checked against what they answered
 * the first time; new ones against the model. */
void model_apply(struct model *m, struct hf_store *s);
/* Everything visible in the store is what the model says. The store must stand at the model's index. */
void model_compare(const struct model *m, struct hf_store *s);

#endif
