/* decimal.h: exact decimal numbers for INCRBYFLOAT. Redis computes in long double and prints with the C library,
 * so its answers depend on the machine and the library; replicas must not. Here the rule is arithmetic on digits:
 *
 * A number has at most 309 digits before the point and 17 after it. Text with more digits after the point is
 * rounded to 17, half away from zero. Sums are exact. A sum of 10^309 or more overflows. The text form has no
 * exponent, no trailing zeros after the point, no bare point, and no "-0". Pure; private to the folder. */
#ifndef HF_COMMAND_DECIMAL_H
#define HF_COMMAND_DECIMAL_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

#define HF_DECIMAL_FRACTION  17
#define HF_DECIMAL_DIGITS    (309 + HF_DECIMAL_FRACTION)
#define HF_DECIMAL_TEXT_MAX  (HF_DECIMAL_DIGITS + 4)
#define HF_DECIMAL_INPUT_MAX 5119 /* bytes of text looked at, as in Redis */

struct hf_decimal {
    bool is_negative;                 /* never for zero */
    uint8_t digit[HF_DECIMAL_DIGITS]; /* 0..9, least first; digit[17] is the units */
};

enum hf_decimal_parse_result {
    HF_DECIMAL_OK = 0,
    HF_DECIMAL_INVALID,
    HF_DECIMAL_INFINITE, /* "inf", "infinity" with or without sign, or 10^309 and above */
};

/* [sign] digits [. digits] [e [sign] digits], whole slice, no spaces. */
enum hf_decimal_parse_result hf_decimal_parse(struct hf_decimal *d, struct hf_slice text);
/* a += b; false when the sum has too many digits (a is then undefined). */
bool hf_decimal_add(struct hf_decimal *a, const struct hf_decimal *b);
/* Text into out (HF_DECIMAL_TEXT_MAX bytes), no final 0; returns its length. */
size_t hf_decimal_format(const struct hf_decimal *d, char *out);

#endif
