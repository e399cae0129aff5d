/* decimal.c: see decimal.h. */
#include "command/decimal.h"

#include "base/assert.h"

#define EXPONENT_MAX 100000 /* beyond it every number is zero or infinite; keeps the sums below in range */

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

/* Adds one in the last place. False on overflow. */
static bool bump(struct hf_decimal *d)
{
    for (size_t i = 0; i < HF_DECIMAL_DIGITS; i++) {
        if (d->digit[i] != 9) {
            d->digit[i]++;
            return true;
        }
        d->digit[i] = 0;
    }
    return false;
}

static bool is_zero(const struct hf_decimal *d)
{
    for (size_t i = 0; i < HF_DECIMAL_DIGITS; i++) {
        if (d->digit[i] != 0)
            return false;
    }
    return true;
}

enum hf_decimal_parse_result hf_decimal_parse(struct hf_decimal *d, struct hf_slice text)
{
    const uint8_t *p = text.ptr, *end = p + text.len, *whole, *fraction;
    size_t n_whole, n_fraction = 0;
    int64_t exponent = 0;
    bool is_negative = false, is_exponent_negative = false;

    memset(d, 0, sizeof(*d));
    if (text.len == 0 || text.len > HF_DECIMAL_INPUT_MAX)
        return HF_DECIMAL_INVALID;
    if (*p == '+' || *p == '-')
        is_negative = *p++ == '-';
    if (hf_slice_is(hf_slice(p, (size_t)(end - p)), "inf") || hf_slice_is(hf_slice(p, (size_t)(end - p)), "infinity"))
        return HF_DECIMAL_INFINITE;

    for (whole = p; p < end && is_digit(*p); p++)
        ;
    n_whole = (size_t)(p - whole);
    fraction = p;
    if (p < end && *p == '.') {
        for (fraction = ++p; p < end && is_digit(*p); p++)
            ;
        n_fraction = (size_t)(p - fraction);
    }
    if (n_whole + n_fraction == 0)
        return HF_DECIMAL_INVALID;
    if (p < end && (*p == 'e' || *p == 'E')) {
        p++;
        if (p < end && (*p == '+' || *p == '-'))
            is_exponent_negative = *p++ == '-';
        if (p == end)
            return HF_DECIMAL_INVALID;
        for (; p < end && is_digit(*p); p++) {
            if (exponent < EXPONENT_MAX)
                exponent = exponent * 10 + (*p - '0');
        }
        if (is_exponent_negative)
            exponent = -exponent;
    }
    if (p != end)
        return HF_DECIMAL_INVALID;

    /* Digit number i of the text (whole part and fraction in one row) has the place n_whole - 1 - i + exponent,
     * place 0 being the units. */
    for (size_t i = 0; i < n_whole + n_fraction; i++) {
        uint8_t c = (uint8_t)((i < n_whole ? whole[i] : fraction[i - n_whole]) - '0');
        int64_t place = (int64_t)n_whole - 1 - (int64_t)i + exponent + HF_DECIMAL_FRACTION;

        if (c != 0 && place >= HF_DECIMAL_DIGITS)
            return HF_DECIMAL_INFINITE;
        if (place >= 0 && place < HF_DECIMAL_DIGITS)
            d->digit[place] = c;
        /* Half away from zero depends on the first digit dropped alone. */
        if (place == -1 && c >= 5 && !bump(d))
            return HF_DECIMAL_INFINITE;
    }
    d->is_negative = is_negative && !is_zero(d);
    return HF_DECIMAL_OK;
}

/* Order of the absolute values. */
static int compare_size(const struct hf_decimal *a, const struct hf_decimal *b)
{
    for (size_t i = HF_DECIMAL_DIGITS; i-- > 0;) {
        if (a->digit[i] != b->digit[i])
            return a->digit[i] < b->digit[i] ? -1 : 1;
    }
    return 0;
}

bool hf_decimal_add(struct hf_decimal *a, const struct hf_decimal *b)
{
    const struct hf_decimal *large = a, *small = b;
    int carry = 0;

    if (a->is_negative == b->is_negative) {
        for (size_t i = 0; i < HF_DECIMAL_DIGITS; i++) {
            int sum = a->digit[i] + b->digit[i] + carry;

            carry = sum >= 10;
            a->digit[i] = (uint8_t)(sum - (carry ? 10 : 0));
        }
        return carry == 0;
    }
    if (compare_size(a, b) < 0) {
        large = b;
        small = a;
    }
    a->is_negative = large->is_negative;
    for (size_t i = 0; i < HF_DECIMAL_DIGITS; i++) {
        int difference = large->digit[i] - small->digit[i] - carry;

        carry = difference < 0;
        a->digit[i] = (uint8_t)(difference + (carry ? 10 : 0));
    }
    HF_ASSERT(carry == 0);
    if (is_zero(a))
        a->is_negative = false;
    return true;
}

size_t hf_decimal_format(const struct hf_decimal *d, char *out)
{
    size_t high = HF_DECIMAL_DIGITS - 1, low = 0, n = 0;

    while (high > HF_DECIMAL_FRACTION && d->digit[high] == 0)
        high--;
    while (low < HF_DECIMAL_FRACTION && d->digit[low] == 0)
        low++;
    if (d->is_negative)
        out[n++] = '-';
    for (size_t i = high + 1; i-- > low;) {
        out[n++] = (char)('0' + d->digit[i]);
        if (i == HF_DECIMAL_FRACTION && low < HF_DECIMAL_FRACTION)
            out[n++] = '.';
    }
    return n;
}
