/* resp.c: laws of src/resp over random input, one 64-bit seed a round.
 *
 *  - a pipeline of requests (arrays and inline lines mixed, empty ones between) gives the same words however its bytes
 *    are cut, and those words are the ones that were encoded;
 *  - what the reply builder builds the validator accepts, each proper prefix of it is refused, and both encodings
 *    don't depend on how often they are made;
 *  - a byte changed at random is refused or still encodes without harm (the sanitizer watches).
 *
 * Usage: property_resp [first seed] [number of seeds]. A failure names its seed. */
#include "resp/resp.h"
#include "base/mem.h"
#include "base/util.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static uint64_t seed;

static void require(bool holds, const char *law)
{
    if (holds)
        return;
    fprintf(stderr, "seed %" PRIu64 ": %s\n", seed, law);
    exit(EXIT_FAILURE);
}

/* ---- requests ------------------------------------------------------------------------------------ */

static size_t random_len(struct hf_prng *rng)
{
    static const uint64_t bounds[] = {1, 4, 12, 120, 5000};

    return hf_prng_below(rng, bounds[hf_prng_below(rng, 5)]);
}

static void put_random_bytes(struct hf_buf *b, struct hf_prng *rng, size_t n)
{
    /* Bytes that mean something to a parser come often. */
    static const char special[] = "\r\n$*:\"'\\ 0123456789x";

    for (; n != 0; n--) {
        if (hf_prng_below(rng, 2) == 0)
            hf_buf_put_u8(b, (uint8_t)special[hf_prng_below(rng, sizeof special - 1)]);
        else
            hf_buf_put_u8(b, (uint8_t)hf_prng_next(rng));
    }
}

static void put_quoted(struct hf_buf *wire, struct hf_slice word)
{
    hf_buf_put_u8(wire, '"');
    for (size_t i = 0; i < word.len; i++) {
        uint8_t c = word.ptr[i];

        if (c == '"' || c == '\\')
            hf_buf_printf(wire, "\\%c", c);
        else if (c < ' ' || c > '~')
            hf_buf_printf(wire, "\\x%02x", c);
        else
            hf_buf_put_u8(wire, c);
    }
    hf_buf_put_u8(wire, '"');
}

static void log_command(struct hf_buf *log, const struct hf_slice *words, uint32_t n)
{
    if (n == 0)
        return;
    hf_buf_put_u32(log, n);
    for (uint32_t i = 0; i < n; i++)
        hf_buf_put_slice(log, words[i]);
}

static void put_random_request(struct hf_buf *wire, struct hf_buf *log, struct hf_prng *rng)
{
    static const char *const empty[] = {"*0\r\n", "*-1\r\n", "\r\n", "\n", "  \t\r\n"};
    uint32_t n = 1 + (uint32_t)hf_prng_below(rng, hf_prng_below(rng, 10) == 0 ? 200 : 5);
    bool is_inline = hf_prng_below(rng, 4) == 0;
    struct hf_buf bytes = {NULL, 0, 0};
    struct hf_slice words[200];
    size_t lens[200], at = 0;

    if (hf_prng_below(rng, 10) == 0)
        hf_buf_printf(wire, "%s", empty[hf_prng_below(rng, 5)]);
    for (uint32_t i = 0; i < n; i++) {
        lens[i] = is_inline ? hf_prng_below(rng, 20) : random_len(rng);
        put_random_bytes(&bytes, rng, lens[i]);
    }
    for (uint32_t i = 0; i < n; at += lens[i], i++)
        words[i] = hf_slice(bytes.data + at, lens[i]);
    if (is_inline) {
        for (uint32_t i = 0; i < n; i++) {
            hf_buf_printf(wire, "%s", i == 0 ? "" : " ");
            put_quoted(wire, words[i]);
        }
        hf_buf_printf(wire, hf_prng_below(rng, 2) == 0 ? "\r\n" : "\n");
    } else {
        hf_resp_encode_request(wire, words, n);
    }
    log_command(log, words, n);
    hf_buf_free(&bytes);
}

static void parse_in_chunks(struct hf_slice wire, struct hf_buf *log, struct hf_prng *rng)
{
    static const struct hf_resp_limits limits = {HF_RESP_BULK_BYTES_DEFAULT, UINT64_MAX, HF_RESP_ARGS_DEFAULT,
                                                 HF_RESP_INLINE_BYTES_DEFAULT};
    uint64_t chunk_max = hf_prng_below(rng, 3) == 0 ? 3 : 3000;
    struct hf_resp_parser p;
    struct hf_buf in = {NULL, 0, 0};
    size_t end = 0, used;

    hf_resp_parser_init(&p, &limits);
    while (end < wire.len) {
        size_t n = 1 + hf_prng_below(rng, chunk_max), at = 0;
        bool wants_more = false;

        if (n > wire.len - end)
            n = wire.len - end;
        hf_buf_put(&in, wire.ptr + end, n);
        end += n;
        while (!wants_more) {
            switch (hf_resp_parse(&p, hf_slice(in.data + at, in.len - at), &used)) {
            case HF_RESP_COMMAND:
                log_command(log, p.args.at, p.args.n);
                at += used;
                break;
            case HF_RESP_MORE:
                wants_more = true;
                break;
            case HF_RESP_ERROR:
                require(false, p.error);
                break;
            }
        }
        hf_buf_consume(&in, at);
    }
    require(in.len == 0, "bytes are left over");
    hf_buf_free(&in);
    hf_resp_parser_free(&p);
}

static void check_requests(struct hf_prng *rng)
{
    struct hf_buf wire = {NULL, 0, 0}, expected = {NULL, 0, 0}, got = {NULL, 0, 0};
    uint64_t n = 1 + hf_prng_below(rng, 20);

    for (uint64_t i = 0; i < n; i++)
        put_random_request(&wire, &expected, rng);
    for (int i = 0; i < 3; i++) {
        got.len = 0;
        parse_in_chunks(hf_buf_slice(&wire), &got, rng);
        require(hf_slice_eq(hf_buf_slice(&got), hf_buf_slice(&expected)), "the words differ from those encoded");
    }
    hf_buf_free(&wire);
    hf_buf_free(&expected);
    hf_buf_free(&got);
}

/* ---- replies ------------------------------------------------------------------------------------- */

static void build_random_value(struct hf_reply *r, struct hf_prng *rng, unsigned depth)
{
    struct hf_buf bytes = {NULL, 0, 0};
    uint32_t n = (uint32_t)hf_prng_below(rng, 5);
    size_t mark;

    put_random_bytes(&bytes, rng, random_len(rng));
    switch (hf_prng_below(rng, depth < 6 ? 14 : 9)) {
    case 0:
        hf_reply_ok(r);
        break;
    case 1:
        hf_reply_errorf(r, "ERR %.*s", (int)bytes.len, bytes.data != NULL ? (char *)bytes.data : "");
        break;
    case 2:
        hf_reply_bulk(r, hf_buf_slice(&bytes));
        break;
    case 3:
        hf_reply_int(r, (int64_t)hf_prng_next(rng));
        break;
    case 4:
        hf_reply_null(r);
        break;
    case 5:
        hf_reply_null_array(r);
        break;
    case 6:
        hf_reply_double_text(r, hf_slice_str("-1.25e+30"));
        break;
    case 7:
        hf_reply_bool(r, n % 2 == 0);
        break;
    case 8:
        hf_reply_verbatim(r, hf_buf_slice(&bytes));
        break;
    case 9:
        hf_reply_array(r, n);
        for (uint32_t i = 0; i < n; i++)
            build_random_value(r, rng, depth + 1);
        break;
    case 10:
        hf_reply_map(r, n);
        for (uint32_t i = 0; i < 2 * n; i++)
            build_random_value(r, rng, depth + 1);
        break;
    case 11:
        hf_reply_set(r, n);
        for (uint32_t i = 0; i < n; i++)
            build_random_value(r, rng, depth + 1);
        break;
    case 12:
        mark = hf_reply_begin(r, HF_REPLY_ARRAY);
        for (uint32_t i = 0; i < n; i++)
            build_random_value(r, rng, depth + 1);
        hf_reply_end(r, mark, n);
        break;
    default:
        mark = hf_reply_begin(r, HF_REPLY_ATTRIBUTE);
        build_random_value(r, rng, depth + 1);
        build_random_value(r, rng, depth + 1);
        hf_reply_end(r, mark, 1);
        build_random_value(r, rng, depth + 1);
        break;
    }
    hf_buf_free(&bytes);
}

static void check_reply(struct hf_prng *rng)
{
    struct hf_reply r = {{NULL, 0, 0}, false};
    struct hf_buf once = {NULL, 0, 0}, twice = {NULL, 0, 0};
    uint8_t *copy;

    build_random_value(&r, rng, 0);
    require(hf_reply_is_valid(hf_buf_slice(&r.buf)), "a built value is refused");
    for (int i = 0; i < 10; i++)
        require(!hf_reply_is_valid(hf_slice(r.buf.data, hf_prng_below(rng, r.buf.len))), "a prefix passes");
    for (int protocol = 2; protocol <= 3; protocol++) {
        once.len = twice.len = 0;
        hf_resp_encode(&once, hf_buf_slice(&r.buf), protocol);
        hf_resp_encode(&twice, hf_buf_slice(&r.buf), protocol);
        hf_resp_encode(&twice, hf_buf_slice(&r.buf), protocol);
        require(once.len >= 3 && twice.len == 2 * once.len, "an encoding depends on what stands before it");
        require(memcmp(once.data, twice.data + once.len, once.len) == 0, "two encodings differ");
    }
    copy = hf_memdup(r.buf.data, r.buf.len);
    copy[hf_prng_below(rng, r.buf.len)] = (uint8_t)hf_prng_next(rng);
    if (hf_reply_is_valid(hf_slice(copy, r.buf.len)))
        hf_resp_encode(&once, hf_slice(copy, r.buf.len), 3);
    hf_free(copy);
    hf_buf_free(&once);
    hf_buf_free(&twice);
    hf_reply_free(&r);
}

int main(int argc, char **argv)
{
    uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    uint64_t count = argc > 2 ? strtoull(argv[2], NULL, 10) : 1000;
    struct hf_prng rng;

    for (seed = first; seed < first + count; seed++) {
        hf_prng_seed(&rng, seed);
        check_requests(&rng);
        check_reply(&rng);
    }
    printf("%" PRIu64 " seeds\n", count);
    return EXIT_SUCCESS;
}
