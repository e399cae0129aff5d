/* test_parse.c: what the request parser makes of bytes, in one piece and cut at every place. */
#include "suites.h"

#include "base/mem.h"
#include "resp/resp.h"

#include <stdio.h>

static const struct hf_resp_limits limits = {
    .bulk_bytes_max = 1000, .query_bytes_max = 3000, .args_max = 100, .inline_bytes_max = 200};

/* Feed `input` in chunks of `step` bytes (each time from a fresh copy, so that use of old memory shows) and write
 * down what comes out: "[a][b] " for a command, "!text" for an error, and "..." when the end is inside a command. */
static void run(struct hf_buf *out, struct hf_slice input, size_t step)
{
    struct hf_resp_parser p;
    size_t done = 0, end = 0, used;
    bool is_over = false;

    hf_resp_parser_init(&p, &limits);
    out->len = 0;
    while (end < input.len && !is_over) {
        uint8_t *copy;
        bool wants_more = false;

        end = end + step < input.len ? end + step : input.len;
        copy = hf_memdup(input.ptr + done, end - done);
        for (size_t at = 0; !wants_more && !is_over;) {
            switch (hf_resp_parse(&p, hf_slice(copy + at, end - done - at), &used)) {
            case HF_RESP_COMMAND:
                ck_assert_uint_gt(used, 0);
                for (uint32_t i = 0; i < p.args.n; i++) {
                    hf_buf_put_u8(out, '[');
                    hf_buf_put(out, p.args.at[i].ptr, p.args.at[i].len);
                    hf_buf_put_u8(out, ']');
                }
                hf_buf_put_u8(out, ' ');
                at += used;
                break;
            case HF_RESP_MORE:
                ck_assert_uint_eq(used, 0);
                if (p.needed != 0)
                    ck_assert_uint_gt(p.needed, end - done - at);
                wants_more = true;
                done += at;
                if (end == input.len && done < end)
                    hf_buf_put(out, "...", 3);
                break;
            case HF_RESP_ERROR:
                hf_buf_printf(out, "!%s", p.error);
                is_over = true;
                break;
            }
        }
        hf_free(copy);
    }
    hf_buf_put_u8(out, 0);
    hf_resp_parser_free(&p);
}

static void expect_bytes(const void *input, size_t n, const char *expected)
{
    struct hf_buf out = {NULL, 0, 0};

    for (size_t step = n; step > 0; step--) {
        run(&out, hf_slice(input, n), step);
        ck_assert_str_eq((char *)out.data, expected);
    }
    hf_buf_free(&out);
}

static void expect(const char *input, const char *expected)
{
    expect_bytes(input, strlen(input), expected);
}

START_TEST(test_multibulk_gives_its_words)
{
    expect("*1\r\n$4\r\nPING\r\n", "[PING] ");
    expect("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$0\r\n\r\n", "[SET][a][] ");
    expect("*2\r\n$3\r\nGET\r\n$12\r\nabcdef\r\nghij\r\n*1\r\n$4\r\nPING\r\n", "[GET][abcdef\r\nghij] [PING] ");
    expect("*2\r\n$3\r\nGE", "...");
}
END_TEST

START_TEST(test_empty_requests_are_empty_commands)
{
    expect("*0\r\n*-1\r\n\r\n\n*1\r\n$1\r\na\r\n", "    [a] ");
    expect("*-10\r\nPING\r\n", " [PING] ");
}
END_TEST

START_TEST(test_inline_words_follow_the_quoting_rules)
{
    expect("PING\r\n", "[PING] ");
    expect("PING\n", "[PING] ");
    expect("  set  a\tb \r\n", "[set][a][b] ");
    expect("set \"a b\" 'c d'\r\n", "[set][a b][c d] ");
    expect("set \"\\x41\\n\\t\\\"\\\\\\q\" x\r\n", "[set][A\n\t\"\\q][x] ");
    expect("set \"\\x4\" \"\\xzz\"\r\n", "[set][x4][xzz] ");
    expect("set 'it\\'s' '\\n'\r\n", "[set][it's][\\n] ");
    expect("set \"\" ''\r\n", "[set][][] ");
    expect("foo\"bar baz\"\r\n", "[foobar baz] ");
    expect("get a\r\n*1\r\n$4\r\nPING\r\nget b\n", "[get][a] [PING] [get][b] ");
}
END_TEST

START_TEST(test_unbalanced_quotes_are_refused)
{
    const char *error = "!ERR Protocol error: unbalanced quotes in request";

    expect("set \"a\r\n", error);
    expect("set 'a\r\n", error);
    expect("set \"a\"b\r\n", error);
    expect("set 'a'b\r\n", error);
    expect("set \"a\\\"\r\n", error);
}
END_TEST

START_TEST(test_malformed_counts_get_the_text_of_redis)
{
    expect("*x\r\n", "!ERR Protocol error: invalid multibulk length");
    expect("*\r\n", "!ERR Protocol error: invalid multibulk length");
    expect("*1 \r\n", "!ERR Protocol error: invalid multibulk length");
    expect("*01\r\n", "!ERR Protocol error: invalid multibulk length");
    expect("*101\r\n", "!ERR Protocol error: invalid multibulk length");
    expect("*99999999999999999999\r\n", "!ERR Protocol error: invalid multibulk length");
    expect("*1\r\n:1\r\n", "!ERR Protocol error: expected '$', got ':'");
    expect("*1\r\n\x01...\r\n", "!ERR Protocol error: expected '$', got '?'");
    expect("*1\r\n$x\r\n", "!ERR Protocol error: invalid bulk length");
    expect("*1\r\n$-1\r\n", "!ERR Protocol error: invalid bulk length");
    expect("*1\r\n$1001\r\n", "!ERR Protocol error: invalid bulk length");
    expect("*2\r\n$1\r\na\r\n$1 \r\n", "!ERR Protocol error: invalid bulk length");
    expect("PING\r\n*2\r\n$1\r\na\r\nPING\r\n", "[PING] !ERR Protocol error: expected '$', got 'P'");
}
END_TEST

START_TEST(test_limits_hold_at_their_edge)
{
    struct hf_buf in = {NULL, 0, 0}, want = {NULL, 0, 0};

    /* An inline line of the limit passes, one more does not, with or without its end. */
    for (int i = 0; i < 200; i++)
        hf_buf_put_u8(&in, 'x');
    hf_buf_printf(&want, "[%.*s] ", 200, (char *)in.data);
    hf_buf_put_u8(&want, 0);
    hf_buf_put_u8(&in, '\n');
    expect_bytes(in.data, in.len, (char *)want.data);
    in.data[200] = 'x';
    expect_bytes(in.data, in.len, "!ERR Protocol error: too big inline request");
    hf_buf_put_u8(&in, '\n');
    expect_bytes(in.data, in.len, "!ERR Protocol error: too big inline request");
    in.data[0] = '*';
    expect_bytes(in.data, in.len, "!ERR Protocol error: too big mbulk count string");
    hf_buf_put(&in, "\r\n", 2);
    expect_bytes(in.data, in.len, "!ERR Protocol error: too big mbulk count string");
    in.len = 0;
    hf_buf_printf(&in, "*1\r\n$%0200d\r\n", 1);
    expect_bytes(in.data, in.len, "!ERR Protocol error: too big bulk count string");

    /* The whole command: three bulks of 990 bytes fit into 3000, with a fourth of 4 they don't. */
    in.len = 0;
    hf_buf_printf(&in, "*4\r\n");
    for (int i = 0; i < 3; i++)
        hf_buf_printf(&in, "$990\r\n%990s\r\n", "");
    expect_bytes(in.data, in.len, "...");
    hf_buf_printf(&in, "$4\r\n");
    expect_bytes(in.data, in.len, "!ERR Protocol error: too big request");
    hf_buf_free(&in);
    hf_buf_free(&want);
}
END_TEST

START_TEST(test_a_huge_count_costs_no_memory_before_its_words_come)
{
    static const struct hf_resp_limits wide = {
        .bulk_bytes_max = 1000, .query_bytes_max = 1 << 30, .args_max = 1u << 20, .inline_bytes_max = 1 << 16};
    const char *input = "*1048576\r\n$1\r\na\r\n";
    struct hf_resp_parser p;
    size_t used;

    hf_resp_parser_init(&p, &wide);
    ck_assert_int_eq(hf_resp_parse(&p, hf_slice_str(input), &used), HF_RESP_MORE);
    ck_assert_uint_le(p.cap, 16);
    hf_resp_parser_free(&p);
}
END_TEST

START_TEST(test_a_parser_is_usable_after_free)
{
    struct hf_resp_parser p;
    size_t used;

    hf_resp_parser_init(&p, &limits);
    ck_assert_int_eq(hf_resp_parse(&p, hf_slice_str("*3\r\n$1\r\n"), &used), HF_RESP_MORE);
    hf_resp_parser_free(&p);
    ck_assert_int_eq(hf_resp_parse(&p, hf_slice_str("*1\r\n$1\r\na\r\n"), &used), HF_RESP_COMMAND);
    ck_assert_uint_eq(p.args.n, 1);
    hf_resp_parser_free(&p);
}
END_TEST

START_TEST(test_a_request_encodes_to_what_the_parser_reads)
{
    struct hf_slice words[] = {hf_slice_str("SET"), hf_slice_str(""), hf_slice("\r\n\0", 3)};
    struct hf_buf out = {NULL, 0, 0};

    hf_resp_encode_request(&out, words, 3);
    ck_assert(hf_slice_eq(hf_buf_slice(&out), hf_slice("*3\r\n$3\r\nSET\r\n$0\r\n\r\n$3\r\n\r\n\0\r\n", 28)));
    hf_buf_free(&out);
}
END_TEST

TCase *parse_tests(void)
{
    TCase *t = tcase_create("parse");

    tcase_add_test(t, test_multibulk_gives_its_words);
    tcase_add_test(t, test_empty_requests_are_empty_commands);
    tcase_add_test(t, test_inline_words_follow_the_quoting_rules);
    tcase_add_test(t, test_unbalanced_quotes_are_refused);
    tcase_add_test(t, test_malformed_counts_get_the_text_of_redis);
    tcase_add_test(t, test_limits_hold_at_their_edge);
    tcase_add_test(t, test_a_huge_count_costs_no_memory_before_its_words_come);
    tcase_add_test(t, test_a_parser_is_usable_after_free);
    tcase_add_test(t, test_a_request_encodes_to_what_the_parser_reads);
    return t;
}
