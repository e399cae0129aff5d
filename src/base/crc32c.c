/* crc32c.c: CRC-32C (Castagnoli polynomial 0x1EDC6F41, reflected 0x82F63B78, start and end inverted). On x86-64
 * with SSE 4.2 the CPU's own instruction, found at run time; else eight tables of 256 words (slicing-by-8). */
#include "base/util.h"

#include <pthread.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#define HAVE_SSE42 1
#else
#define HAVE_SSE42 0
#endif

#define POLY_REFLECTED 0x82F63B78u

/* Constant after the first use; computed rather than spelled out as 2048 numbers. */
static uint32_t crc_table[8][256];
static pthread_once_t crc_table_once = PTHREAD_ONCE_INIT;

static void fill_table(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;

        for (int bit = 0; bit < 8; bit++)
            c = (c & 1) ? (c >> 1) ^ POLY_REFLECTED : c >> 1;
        crc_table[0][i] = c;
    }
    for (uint32_t i = 0; i < 256; i++) {
        for (int k = 1; k < 8; k++)
            crc_table[k][i] = (crc_table[k - 1][i] >> 8) ^ crc_table[0][crc_table[k - 1][i] & 0xff];
    }
}

uint32_t hf_crc32c_portable(uint32_t crc, const void *data, size_t n)
{
    const uint8_t *p = data;
    uint32_t c = ~crc;

    pthread_once(&crc_table_once, fill_table);
    for (; n >= 8; n -= 8, p += 8) {
        uint32_t lo = hf_load_u32(p) ^ c;
        uint32_t hi = hf_load_u32(p + 4);

        c = crc_table[7][lo & 0xff] ^ crc_table[6][(lo >> 8) & 0xff] ^ crc_table[5][(lo >> 16) & 0xff] ^
            crc_table[4][lo >> 24] ^ crc_table[3][hi & 0xff] ^ crc_table[2][(hi >> 8) & 0xff] ^
            crc_table[1][(hi >> 16) & 0xff] ^ crc_table[0][hi >> 24];
    }
    for (; n > 0; n--, p++)
        c = (c >> 8) ^ crc_table[0][(c ^ *p) & 0xff];
    return ~c;
}

#if HAVE_SSE42
__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc, const void *data, size_t n)
{
    const uint8_t *p = data;
    uint64_t c = (uint32_t)~crc;

    for (; n >= 8; n -= 8, p += 8)
        c = _mm_crc32_u64(c, hf_load_u64(p));
    for (; n > 0; n--, p++)
        c = _mm_crc32_u8((uint32_t)c, *p);
    return ~(uint32_t)c;
}
#endif

uint32_t hf_crc32c(uint32_t crc, const void *data, size_t n)
{
#if HAVE_SSE42
    if (__builtin_cpu_supports("sse4.2"))
        return crc32c_sse42(crc, data, n);
#endif
    return hf_crc32c_portable(crc, data, n);
}
