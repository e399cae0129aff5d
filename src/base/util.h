/* util.h: small pure helpers with a precise name each: checksums, a seeded generator, strict number parsing. */
#ifndef HF_BASE_UTIL_H
#define HF_BASE_UTIL_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

/* CRC-32C (Castagnoli, RFC 3720), hardware-assisted where the CPU has it. Start with crc 0; chainable. */
uint32_t hf_crc32c(uint32_t crc, const void *data, size_t n);
/* The same sum without help of the CPU (what hf_crc32c falls back to). */
uint32_t hf_crc32c_portable(uint32_t crc, const void *data, size_t n);

/* xoshiro256** seeded through splitmix64. Deterministic for a seed on every machine. */
struct hf_prng {
    uint64_t s[4];
};
void hf_prng_seed(struct hf_prng *p, uint64_t seed);
uint64_t hf_prng_next(struct hf_prng *p);
/* Uniform in [0, bound), bound > 0, without modulo bias. */
uint64_t hf_prng_below(struct hf_prng *p, uint64_t bound);

/* Strict decimal, as Redis' string2ll: whole slice, optional '-', no spaces, no leading zeros or '+'. */
bool hf_parse_int64(struct hf_slice s, int64_t *out);
/* "64mb", "1gb", "512kb", "1000" (Redis' memtoll units: k=1000, kb=1024, ...), case-insensitive. */
bool hf_parse_bytes(const char *s, uint64_t *out);
/* Decimal text of v into out (at least 21 bytes), no final 0; returns its length. */
size_t hf_format_int64(char *out, int64_t v);

/* Redis' glob (stringmatchlen): * ? [a-c] [^x] \x. Iterative, bounded work: O(pattern * string). */
bool hf_glob_match(struct hf_slice pattern, struct hf_slice s, bool nocase);

#endif
