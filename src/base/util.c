/* util.c: the seeded generator, strict numbers and the glob matcher. All pure. */
#include "base/util.h"

#include "base/assert.h"

/* ---- xoshiro256** (Blackman and Vigna, public domain) -------------------------------------------- */

void hf_prng_seed(struct hf_prng *p, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        uint64_t z = (seed += 0x9e3779b97f4a7c15u);

        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        p->s[i] = z ^ (z >> 31);
    }
}

static uint64_t rotate_left(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

uint64_t hf_prng_next(struct hf_prng *p)
{
    uint64_t *s = p->s;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

uint64_t hf_prng_below(struct hf_prng *p, uint64_t bound)
{
    uint64_t least, v;

    HF_ASSERT(bound > 0);
    /* 2^64 mod bound: the values below it would make the small remainders more likely than the large ones. */
    least = (0 - bound) % bound;
    do
        v = hf_prng_next(p);
    while (v < least);
    return v % bound;
}

/* ---- numbers ------------------------------------------------------------------------------------- */

bool hf_parse_int64(struct hf_slice s, int64_t *out)
{
    const uint8_t *p = s.ptr;
    size_t n = s.len;
    bool is_negative = false;
    uint64_t v = 0;

    if (n == 0 || n > 20)
        return false;
    if (n == 1 && p[0] == '0') {
        *out = 0;
        return true;
    }
    if (p[0] == '-') {
        is_negative = true;
        p++;
        n--;
    }
    if (n == 0 || n > 19 || p[0] < '1' || p[0] > '9')
        return false;
    for (; n > 0; n--, p++) { /* 19 digits cannot overflow 64 bits */
        if (*p < '0' || *p > '9')
            return false;
        v = v * 10 + (uint64_t)(*p - '0');
    }
    if (v > (uint64_t)INT64_MAX + is_negative)
        return false;
    *out = is_negative ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

bool hf_parse_bytes(const char *s, uint64_t *out)
{
    static const struct {
        const char *name;
        uint64_t factor;
    } units[] = {
        {"", 1},           {"b", 1},
        {"k", 1000},       {"kb", 1024},
        {"m", 1000000},    {"mb", 1024 * 1024},
        {"g", 1000000000}, {"gb", 1024 * 1024 * 1024},
    };
    uint64_t v = 0;

    if (*s < '0' || *s > '9')
        return false;
    for (; *s >= '0' && *s <= '9'; s++) {
        uint64_t digit = (uint64_t)(*s - '0');

        if (v > (UINT64_MAX - digit) / 10)
            return false;
        v = v * 10 + digit;
    }
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (!hf_slice_is(hf_slice_str(s), units[i].name))
            continue;
        if (v > UINT64_MAX / units[i].factor)
            return false;
        *out = v * units[i].factor;
        return true;
    }
    return false;
}

size_t hf_format_int64(char *out, int64_t v)
{
    char digits[20];
    uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    size_t n = 0, len = 0;

    do {
        digits[n++] = (char)('0' + u % 10);
        u /= 10;
    } while (u != 0);
    if (v < 0)
        out[len++] = '-';
    while (n > 0)
        out[len++] = digits[--n];
    return len;
}

/* ---- glob ---------------------------------------------------------------------------------------- */

static uint8_t fold(uint8_t c, bool nocase)
{
    return nocase && c >= 'A' && c <= 'Z' ? (uint8_t)(c + ('a' - 'A')) : c;
}

/* Matches c against the class whose first byte after '[' is at *i; moves *i past the ']'. A class without its
 * ']' reaches to the end of the pattern; "[]" matches nothing and "[^]" anything, all as in Redis. */
static bool match_class(struct hf_slice p, size_t *i, uint8_t c, bool nocase)
{
    bool is_negated = *i < p.len && p.ptr[*i] == '^';
    bool is_in = false;

    if (is_negated)
        ++*i;
    for (;;) {
        if (p.len - *i >= 2 && p.ptr[*i] == '\\') {
            /* Redis compares an escaped byte of a class exactly, also when it ignores case. */
            is_in |= p.ptr[*i + 1] == c;
            *i += 2;
        } else if (*i == p.len) {
            break;
        } else if (p.ptr[*i] == ']') {
            ++*i;
            break;
        } else if (p.len - *i >= 3 && p.ptr[*i + 1] == '-') {
            uint8_t from = p.ptr[*i], to = p.ptr[*i + 2];

            if (from > to) {
                uint8_t swap = from;
                from = to;
                to = swap;
            }
            is_in |= fold(c, nocase) >= fold(from, nocase) && fold(c, nocase) <= fold(to, nocase);
            *i += 3;
        } else {
            is_in |= fold(p.ptr[*i], nocase) == fold(c, nocase);
            ++*i;
        }
    }
    return is_in != is_negated;
}

/* Matches c against the one-byte element at *i (not '*') and moves *i past it. */
static bool match_element(struct hf_slice p, size_t *i, uint8_t c, bool nocase)
{
    uint8_t e = p.ptr[(*i)++];

    if (e == '?')
        return true;
    if (e == '[')
        return match_class(p, i, c, nocase);
    if (e == '\\' && *i < p.len)
        e = p.ptr[(*i)++];
    return fold(e, nocase) == fold(c, nocase);
}

bool hf_glob_match(struct hf_slice pattern, struct hf_slice s, bool nocase)
{
    size_t i = 0, j = 0;
    size_t star_i = 0, star_j = 0; /* where to go on after a mismatch: one more byte for the last '*' */
    bool has_star = false;

    /* Only the last '*' is ever widened: an earlier one already found its leftmost match, and a wider one
     * could only move the rest to the right. This bounds the work to pattern * string. */
    while (j < s.len) {
        if (i < pattern.len && pattern.ptr[i] == '*') {
            has_star = true;
            star_i = ++i;
            star_j = j;
            continue;
        }
        if (i < pattern.len && match_element(pattern, &i, s.ptr[j], nocase)) {
            j++;
            continue;
        }
        if (!has_star)
            return false;
        i = star_i;
        j = ++star_j;
    }
    while (i < pattern.len && pattern.ptr[i] == '*')
        i++;
    return i == pattern.len;
}
