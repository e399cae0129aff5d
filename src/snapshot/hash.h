/* hash.h: the hash of a whole file, XXH3-128, fed piece by piece. Internal to snapshot; one thread at a time uses one
 * state. */
#ifndef HF_SNAPSHOT_HASH_H
#define HF_SNAPSHOT_HASH_H

#include <stddef.h>
#include <stdint.h>

struct hf_file_hash; /* opaque: the library's state wants an alignment of its own */

struct hf_file_hash *hf_file_hash_new(void);
void hf_file_hash_free(struct hf_file_hash *h);
void hf_file_hash_reset(struct hf_file_hash *h);
void hf_file_hash_feed(struct hf_file_hash *h, const void *bytes, size_t n);
/* Of what was fed so far; more may be fed afterwards. */
void hf_file_hash_get(const struct hf_file_hash *h, uint8_t out[16]);

#endif
