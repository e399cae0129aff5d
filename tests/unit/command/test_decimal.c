/* test_decimal.c: exact decimals: the text forms taken and refused, sums at the edges, laws over random numbers. */
#include "suites.h"

#include "base/util.h"
#include "command/decimal.h"

#include <stdio.h>
#include <stdlib.h>

static const struct {
    const char *text, *wanted; /* NULL = refused, "inf" = infinite */
} parses[] = {
    {"0", "0"},
    {"-0", "0"},
    {"-0.0e5", "0"},
    {"1", "1"},
    {"+1", "1"},
    {"-1", "-1"},
    {"007", "7"},
    {"1.", "1"},
    {".5", "0.5"},
    {"-.5", "-0.5"},
    {"1.50", "1.5"},
    {"3.0e3", "3000"},
    {"3.0E+3", "3000"},
    {"12345e-3", "12.345"},
    {"1e17", "100000000000000000"},
    {"0.00000000000000001", "0.00000000000000001"},
    {"0.000000000000000005", "0.00000000000000001"},
    {"0.000000000000000004", "0"},
    {"-0.000000000000000004", "0"},
    {"-0.000000000000000005", "-0.00000000000000001"},
    {"0.999999999999999995", "1"},
    {"1e-99999999999999999999", "0"},
    {"0e99999999999999999999", "0"},
    {"1e308", NULL}, /* wanted is computed below */
    {"1e309", "inf"},
    {"1e99999999999999999999", "inf"},
    {"inf", "inf"},
    {"-Infinity", "inf"},
    {"+INF", "inf"},
};

static const char *const refused[] = {"",   " 1",  "1 ",    "a",   "1a",  ".",    "-",   "+",    "e5",
                                      "1e", "1e+", "1.2.3", "--1", "nan", "0x10", "1,5", "infi", "1e1.5"};

START_TEST(test_texts_are_read_by_the_rule)
{
    char text[HF_DECIMAL_TEXT_MAX + 1];
    struct hf_decimal d;

    for (size_t i = 0; i < sizeof(parses) / sizeof(parses[0]); i++) {
        enum hf_decimal_parse_result rc = hf_decimal_parse(&d, hf_slice_str(parses[i].text));

        if (parses[i].wanted != NULL && strcmp(parses[i].wanted, "inf") == 0) {
            ck_assert_msg(rc == HF_DECIMAL_INFINITE, "%s", parses[i].text);
            continue;
        }
        ck_assert_msg(rc == HF_DECIMAL_OK, "%s", parses[i].text);
        text[hf_decimal_format(&d, text)] = '\0';
        if (parses[i].wanted == NULL)
            ck_assert_uint_eq(strlen(text), 309);
        else
            ck_assert_str_eq(text, parses[i].wanted);
    }
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        ck_assert_msg(hf_decimal_parse(&d, hf_slice_str(refused[i])) == HF_DECIMAL_INVALID, "%s", refused[i]);
    ck_assert_int_eq(hf_decimal_parse(&d, hf_slice("1\0", 2)), HF_DECIMAL_INVALID);
}
END_TEST

START_TEST(test_rounding_up_all_nines_overflows)
{
    char text[512];
    struct hf_decimal d;

    memset(text, '9', 309);
    snprintf(text + 309, sizeof(text) - 309, ".99999999999999999");
    ck_assert_int_eq(hf_decimal_parse(&d, hf_slice_str(text)), HF_DECIMAL_OK);
    strcat(text, "5");
    ck_assert_int_eq(hf_decimal_parse(&d, hf_slice_str(text)), HF_DECIMAL_INFINITE);
}
END_TEST

START_TEST(test_sum_over_the_last_digit_overflows)
{
    struct hf_decimal a, b;

    ck_assert_int_eq(hf_decimal_parse(&a, hf_slice_str("9e308")), HF_DECIMAL_OK);
    ck_assert_int_eq(hf_decimal_parse(&b, hf_slice_str("1e308")), HF_DECIMAL_OK);
    ck_assert(!hf_decimal_add(&a, &b));
}
END_TEST

/* The largest text fits its bound: a sign, all digits, the point. */
START_TEST(test_longest_text_fits)
{
    char text[512], out[HF_DECIMAL_TEXT_MAX];
    struct hf_decimal d;

    text[0] = '-';
    memset(text + 1, '9', 309);
    snprintf(text + 310, sizeof(text) - 310, ".99999999999999999");
    ck_assert_int_eq(hf_decimal_parse(&d, hf_slice_str(text)), HF_DECIMAL_OK);
    ck_assert_uint_eq(hf_decimal_format(&d, out), strlen(text));
    ck_assert_mem_eq(out, text, strlen(text));
}
END_TEST

/* Numbers of 17 fraction digits as 128-bit integers are the model. */
static __int128 as_integer(const struct hf_decimal *d)
{
    __int128 v = 0;

    for (size_t i = 38; i-- > 0;)
        v = v * 10 + d->digit[i];
    return d->is_negative ? -v : v;
}

START_TEST(test_random_sums_agree_with_integers)
{
    struct hf_prng p;
    char text[HF_DECIMAL_TEXT_MAX];

    hf_prng_seed(&p, 1);
    for (int i = 0; i < 20000; i++) {
        struct hf_decimal a, b, sum, again;
        size_t n;

        for (int k = 0; k < 2; k++) {
            snprintf(text, sizeof(text), "%s%llu.%llu", hf_prng_next(&p) & 1 ? "-" : "",
                     (unsigned long long)(hf_prng_next(&p) >> hf_prng_below(&p, 64)),
                     (unsigned long long)(hf_prng_next(&p) >> (10 + hf_prng_below(&p, 54))));
            ck_assert_int_eq(hf_decimal_parse(k == 0 ? &a : &b, hf_slice_str(text)), HF_DECIMAL_OK);
        }
        sum = a;
        ck_assert(hf_decimal_add(&sum, &b));
        ck_assert(as_integer(&sum) == as_integer(&a) + as_integer(&b));
        n = hf_decimal_format(&sum, text);
        ck_assert_int_eq(hf_decimal_parse(&again, hf_slice(text, n)), HF_DECIMAL_OK);
        ck_assert_mem_eq(again.digit, sum.digit, sizeof(sum.digit));
        ck_assert(again.is_negative == sum.is_negative);
    }
}
END_TEST

Suite *suite_decimal(void)
{
    Suite *s = suite_create("decimal");
    TCase *tc = tcase_create("decimal");

    tcase_add_test(tc, test_texts_are_read_by_the_rule);
    tcase_add_test(tc, test_rounding_up_all_nines_overflows);
    tcase_add_test(tc, test_sum_over_the_last_digit_overflows);
    tcase_add_test(tc, test_longest_text_fits);
    tcase_add_test(tc, test_random_sums_agree_with_integers);
    suite_add_tcase(s, tc);
    return s;
}
