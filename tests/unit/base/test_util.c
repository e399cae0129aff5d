/* test_util.c: checksums, the generator, numbers, glob. */
#include "test_base.h"

#include "base/mem.h"
#include "base/util.h"

#include <inttypes.h>
#include <stdio.h>

START_TEST(test_crc_known_vectors)
{
    uint8_t bytes[32];

    /* RFC 3720, appendix B.4 */
    memset(bytes, 0, sizeof(bytes));
    ck_assert_uint_eq(hf_crc32c(0, bytes, 32), 0x8a9136aa);
    memset(bytes, 0xff, sizeof(bytes));
    ck_assert_uint_eq(hf_crc32c(0, bytes, 32), 0x62a8ab43);
    for (unsigned i = 0; i < 32; i++)
        bytes[i] = (uint8_t)i;
    ck_assert_uint_eq(hf_crc32c(0, bytes, 32), 0x46dd794e);
    ck_assert_uint_eq(hf_crc32c_portable(0, bytes, 32), 0x46dd794e);
    ck_assert_uint_eq(hf_crc32c(0, "123456789", 9), 0xe3069283);
    ck_assert_uint_eq(hf_crc32c(0, NULL, 0), 0);
}
END_TEST

START_TEST(test_crc_chains_and_agrees)
{
    struct hf_prng p;
    uint8_t bytes[300];

    hf_prng_seed(&p, 7);
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)hf_prng_next(&p);
    for (int i = 0; i < 5000; i++) {
        size_t from = hf_prng_below(&p, 16), n = hf_prng_below(&p, sizeof(bytes) - 16), cut = hf_prng_below(&p, n + 1);
        uint32_t whole = hf_crc32c(0, bytes + from, n);

        ck_assert_uint_eq(whole, hf_crc32c_portable(0, bytes + from, n));
        ck_assert_uint_eq(whole, hf_crc32c(hf_crc32c(0, bytes + from, cut), bytes + from + cut, n - cut));
        ck_assert_uint_eq(whole, hf_crc32c_portable(hf_crc32c(0, bytes + from, cut), bytes + from + cut, n - cut));
    }
}
END_TEST

START_TEST(test_prng_is_fixed_for_ever)
{
    static const uint64_t of_0[] = {0x99ec5f36cb75f2b4, 0xbf6e1f784956452a, 0x1a5f849d4933e6e0, 0x6aa594f1262d2d2c};
    static const uint64_t of_42[] = {0x15780b2e0c2ec716, 0x6104d9866d113a7e, 0xae17533239e499a1, 0xecb8ad4703b360a1};
    struct hf_prng p;

    hf_prng_seed(&p, 0);
    for (int i = 0; i < 4; i++)
        ck_assert_uint_eq(hf_prng_next(&p), of_0[i]);
    hf_prng_seed(&p, 42);
    for (int i = 0; i < 4; i++)
        ck_assert_uint_eq(hf_prng_next(&p), of_42[i]);
}
END_TEST

START_TEST(test_prng_below_is_fair)
{
    unsigned count[3] = {0};
    struct hf_prng p;
    /* With this bound a plain remainder gives the lower half of the values twice as often. */
    const uint64_t bound = UINT64_C(3) << 62;
    unsigned n_low = 0;

    hf_prng_seed(&p, 1);
    for (int i = 0; i < 30000; i++)
        count[hf_prng_below(&p, 3)]++;
    for (int i = 0; i < 3; i++)
        ck_assert(count[i] > 9500 && count[i] < 10500);
    for (int i = 0; i < 30000; i++) {
        uint64_t v = hf_prng_below(&p, bound);

        ck_assert(v < bound);
        n_low += v < bound / 3;
    }
    ck_assert(n_low > 9500 && n_low < 10500);
    ck_assert_uint_eq(hf_prng_below(&p, 1), 0);
}
END_TEST

START_TEST(test_parse_int64)
{
    static const struct {
        const char *text;
        int64_t value;
    } good[] = {{"0", 0},
                {"1", 1},
                {"-1", -1},
                {"10", 10},
                {"9223372036854775807", INT64_MAX},
                {"-9223372036854775808", INT64_MIN},
                {"-9223372036854775807", -INT64_MAX}};
    static const char *const bad[] = {"",
                                      "-",
                                      "+1",
                                      "01",
                                      "00",
                                      "-0",
                                      "-01",
                                      " 1",
                                      "1 ",
                                      "1a",
                                      "0x1",
                                      "--1",
                                      "9223372036854775808",
                                      "-9223372036854775809",
                                      "9999999999999999999",
                                      "18446744073709551617",
                                      "100000000000000000000",
                                      "1.0"};
    int64_t v;

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        char text[21];

        v = 12345;
        ck_assert_msg(hf_parse_int64(hf_slice_str(good[i].text), &v), "%s", good[i].text);
        ck_assert_int_eq(v, good[i].value);
        ck_assert_uint_eq(hf_format_int64(text, v), strlen(good[i].text));
        ck_assert_mem_eq(text, good[i].text, strlen(good[i].text));
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ck_assert_msg(!hf_parse_int64(hf_slice_str(bad[i]), &v), "%s", bad[i]);
    ck_assert(!hf_parse_int64(hf_slice("1\0", 2), &v));
    ck_assert(!hf_parse_int64(hf_slice(NULL, 0), &v));
}
END_TEST

START_TEST(test_format_then_parse)
{
    struct hf_prng p;

    hf_prng_seed(&p, 3);
    for (int i = 0; i < 20000; i++) {
        int64_t v = (int64_t)(hf_prng_next(&p) >> hf_prng_below(&p, 64)), back;
        char text[21], expected[24];
        size_t n;

        if (i & 1)
            v = (int64_t)(0 - (uint64_t)v);
        n = hf_format_int64(text, v);
        snprintf(expected, sizeof(expected), "%" PRId64, v);
        ck_assert_uint_eq(n, strlen(expected));
        ck_assert_mem_eq(text, expected, n);
        ck_assert(hf_parse_int64(hf_slice(text, n), &back));
        ck_assert_int_eq(back, v);
    }
}
END_TEST

START_TEST(test_parse_bytes)
{
    static const struct {
        const char *text;
        uint64_t value;
    } good[] = {{"0", 0},
                {"1000", 1000},
                {"1b", 1},
                {"2k", 2000},
                {"512kb", 512 * 1024},
                {"3m", 3000000},
                {"64mb", 64 * 1024 * 1024},
                {"64MB", 64 * 1024 * 1024},
                {"1g", 1000000000},
                {"1Gb", 1024 * 1024 * 1024},
                {"18446744073709551615", UINT64_MAX}};
    static const char *const bad[] = {"",
                                      "mb",
                                      "-1",
                                      "1.5mb",
                                      "1 mb",
                                      "1tb",
                                      "1kbx",
                                      " 1",
                                      "1m ",
                                      "18446744073709551616",
                                      "18446744073709551615k",
                                      "99999999999gb"};
    uint64_t v;

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        ck_assert_msg(hf_parse_bytes(good[i].text, &v), "%s", good[i].text);
        ck_assert_uint_eq(v, good[i].value);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ck_assert_msg(!hf_parse_bytes(bad[i], &v), "%s", bad[i]);
}
END_TEST

/* ---- glob ---------------------------------------------------------------------------------------- */

/* Redis' stringmatchlen, transcribed with its recursion: slow, but easy to compare with the original. */
static bool naive_glob(const char *p, size_t pn, const char *s, size_t sn, bool nocase)
{
#define LOW(c) ((unsigned char)(nocase && (c) >= 'A' && (c) <= 'Z' ? (c) + 32 : (c)))
    if (pn == 0)
        return sn == 0;
    if (*p == '*') {
        for (size_t skip = 0; skip <= sn; skip++) {
            if (naive_glob(p + 1, pn - 1, s + skip, sn - skip, nocase))
                return true;
        }
        return false;
    }
    if (sn == 0)
        return false;
    if (*p == '?')
        return naive_glob(p + 1, pn - 1, s + 1, sn - 1, nocase);
    if (*p == '[') {
        bool is_not, match = false;

        p++;
        pn--;
        is_not = pn > 0 && *p == '^';
        if (is_not) {
            p++;
            pn--;
        }
        while (pn > 0 && (*p != ']')) {
            if (pn >= 2 && *p == '\\') {
                match |= p[1] == *s;
                p += 2;
                pn -= 2;
            } else if (pn >= 3 && p[1] == '-') {
                unsigned char a = (unsigned char)p[0], b = (unsigned char)p[2], c = LOW(*s), t;

                if (a > b) {
                    t = a;
                    a = b;
                    b = t;
                }
                match |= c >= LOW(a) && c <= LOW(b);
                p += 3;
                pn -= 3;
            } else {
                match |= LOW(*p) == LOW(*s);
                p++;
                pn--;
            }
        }
        if (pn > 0) {
            p++;
            pn--;
        }
        return match != is_not && naive_glob(p, pn, s + 1, sn - 1, nocase);
    }
    if (*p == '\\' && pn >= 2) {
        p++;
        pn--;
    }
    return LOW(*p) == LOW(*s) && naive_glob(p + 1, pn - 1, s + 1, sn - 1, nocase);
#undef LOW
}

static bool glob(const char *pattern, const char *s)
{
    return hf_glob_match(hf_slice_str(pattern), hf_slice_str(s), false);
}

START_TEST(test_glob_examples)
{
    ck_assert(glob("*", ""));
    ck_assert(glob("", ""));
    ck_assert(!glob("", "a"));
    ck_assert(glob("h?llo", "hello"));
    ck_assert(!glob("h?llo", "hllo"));
    ck_assert(glob("h[ae]llo", "hallo"));
    ck_assert(!glob("h[ae]llo", "hillo"));
    ck_assert(glob("h[^e]llo", "hallo"));
    ck_assert(!glob("h[^e]llo", "hello"));
    ck_assert(glob("h[a-b]llo", "hbllo"));
    ck_assert(glob("h[b-a]llo", "hbllo"));
    ck_assert(glob("user:*:name", "user:a:b:name"));
    ck_assert(!glob("user:*:name", "user:a:b:nam"));
    ck_assert(glob("\\*", "*"));
    ck_assert(!glob("\\*", "a"));
    ck_assert(glob("[\\]]", "]"));
    ck_assert(glob("a\\", "a\\"));
    ck_assert(glob("[abc", "b"));
    ck_assert(!glob("[]", "a"));
    ck_assert(glob("[^]", "a"));
    ck_assert(hf_glob_match(hf_slice_str("HELLO[A-C]"), hf_slice_str("hellob"), true));
    ck_assert(!glob("HELLO", "hello"));
}
END_TEST

START_TEST(test_glob_against_naive)
{
    static const char pattern_bytes[] = "aabB*?[]^-\\c*";
    static const char text_bytes[] = "aabBc-]^\\A";
    struct hf_prng r;
    unsigned n_true = 0;

    hf_prng_seed(&r, 99);
    for (int i = 0; i < 300000; i++) {
        size_t pn = hf_prng_below(&r, 9), sn = hf_prng_below(&r, 8);
        bool nocase = hf_prng_below(&r, 2), expected;
        char *p = hf_malloc(pn), *s = hf_malloc(sn); /* exact blocks: an overrun is seen */

        for (size_t k = 0; k < pn; k++)
            p[k] = pattern_bytes[hf_prng_below(&r, sizeof(pattern_bytes) - 1)];
        for (size_t k = 0; k < sn; k++)
            s[k] = text_bytes[hf_prng_below(&r, sizeof(text_bytes) - 1)];
        expected = naive_glob(p, pn, s, sn, nocase);
        n_true += expected;
        ck_assert_msg(hf_glob_match(hf_slice(p, pn), hf_slice(s, sn), nocase) == expected,
                      "pattern %.*s text %.*s nocase %d", (int)pn, p, (int)sn, s, nocase);
        hf_free(p);
        hf_free(s);
    }
    ck_assert_uint_gt(n_true, 10000);
}
END_TEST

START_TEST(test_glob_work_is_bounded)
{
    struct hf_buf p = {0}, s = {0};

    /* Exponential for a matcher that tries every star: this would not end. */
    for (int i = 0; i < 200; i++)
        hf_buf_put(&p, "a*", 2);
    hf_buf_put(&p, "b", 1);
    for (int i = 0; i < 20000; i++)
        hf_buf_put(&s, "a", 1);
    ck_assert(!hf_glob_match(hf_buf_slice(&p), hf_buf_slice(&s), false));
    hf_buf_free(&p);
    hf_buf_free(&s);
}
END_TEST

TCase *util_case(void)
{
    TCase *tc = tcase_create("util");

    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, test_crc_known_vectors);
    tcase_add_test(tc, test_crc_chains_and_agrees);
    tcase_add_test(tc, test_prng_is_fixed_for_ever);
    tcase_add_test(tc, test_prng_below_is_fair);
    tcase_add_test(tc, test_parse_int64);
    tcase_add_test(tc, test_format_then_parse);
    tcase_add_test(tc, test_parse_bytes);
    tcase_add_test(tc, test_glob_examples);
    tcase_add_test(tc, test_glob_against_naive);
    tcase_add_test(tc, test_glob_work_is_bounded);
    return tc;
}
