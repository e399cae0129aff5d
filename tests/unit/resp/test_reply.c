/* test_reply.c: building, checking and encoding reply values. */
#include "suites.h"

#include "resp/resp.h"

/* Encodes r for both protocols, compares, and starts r anew. */
static void expect_wire(struct hf_reply *r, const char *resp2, const char *resp3)
{
    struct hf_buf out = {NULL, 0, 0};

    ck_assert(hf_reply_is_valid(hf_buf_slice(&r->buf)));
    hf_resp_encode(&out, hf_buf_slice(&r->buf), 2);
    hf_buf_put_u8(&out, 0);
    ck_assert_str_eq((char *)out.data, resp2);
    out.len = 0;
    hf_resp_encode(&out, hf_buf_slice(&r->buf), 3);
    hf_buf_put_u8(&out, 0);
    ck_assert_str_eq((char *)out.data, resp3);
    hf_buf_free(&out);
    hf_reply_free(r);
}

START_TEST(test_each_value_is_written_as_redis_writes_it)
{
    struct hf_reply r = {{NULL, 0, 0}, false};

    hf_reply_ok(&r);
    expect_wire(&r, "+OK\r\n", "+OK\r\n");
    hf_reply_status(&r, "PONG");
    expect_wire(&r, "+PONG\r\n", "+PONG\r\n");
    hf_reply_error(&r, HF_ERR_SYNTAX);
    expect_wire(&r, "-ERR syntax error\r\n", "-ERR syntax error\r\n");
    hf_reply_int(&r, 7);
    expect_wire(&r, ":7\r\n", ":7\r\n");
    hf_reply_int(&r, 10);
    expect_wire(&r, ":10\r\n", ":10\r\n");
    hf_reply_int(&r, INT64_MIN);
    expect_wire(&r, ":-9223372036854775808\r\n", ":-9223372036854775808\r\n");
    hf_reply_bulk_str(&r, "");
    expect_wire(&r, "$0\r\n\r\n", "$0\r\n\r\n");
    hf_reply_bulk_str(&r, "hello\r\nworld");
    expect_wire(&r, "$12\r\nhello\r\nworld\r\n", "$12\r\nhello\r\nworld\r\n");
    hf_reply_null(&r);
    expect_wire(&r, "$-1\r\n", "_\r\n");
    hf_reply_null_array(&r);
    expect_wire(&r, "*-1\r\n", "_\r\n");
    hf_reply_double_text(&r, hf_slice_str("1.5"));
    expect_wire(&r, "$3\r\n1.5\r\n", ",1.5\r\n");
    hf_reply_bool(&r, true);
    expect_wire(&r, ":1\r\n", "#t\r\n");
    hf_reply_bool(&r, false);
    expect_wire(&r, ":0\r\n", "#f\r\n");
    hf_reply_verbatim(&r, hf_slice_str("a\nb"));
    expect_wire(&r, "$3\r\na\nb\r\n", "=7\r\ntxt:a\nb\r\n");
    hf_buf_put(&r.buf,
               "\x0e\x02\0\0\0"
               "42",
               7);
    expect_wire(&r, "$2\r\n42\r\n", "(42\r\n");
}
END_TEST

START_TEST(test_containers_are_headers_before_their_values)
{
    struct hf_reply r = {{NULL, 0, 0}, false};

    hf_reply_array(&r, 2);
    hf_reply_int(&r, 1);
    hf_reply_array(&r, 0);
    expect_wire(&r, "*2\r\n:1\r\n*0\r\n", "*2\r\n:1\r\n*0\r\n");
    hf_reply_map(&r, 2);
    hf_reply_bulk_str(&r, "a");
    hf_reply_set(&r, 1);
    hf_reply_null(&r);
    hf_reply_bulk_str(&r, "b");
    hf_reply_bool(&r, true);
    expect_wire(&r, "*4\r\n$1\r\na\r\n*1\r\n$-1\r\n$1\r\nb\r\n:1\r\n", "%2\r\n$1\r\na\r\n~1\r\n_\r\n$1\r\nb\r\n#t\r\n");
    hf_reply_push(&r, 1);
    hf_reply_bulk_str(&r, "x");
    expect_wire(&r, "*1\r\n$1\r\nx\r\n", ">1\r\n$1\r\nx\r\n");
}
END_TEST

START_TEST(test_an_attribute_is_left_out_in_resp2_with_all_it_holds)
{
    struct hf_reply r = {{NULL, 0, 0}, false};
    size_t mark;

    hf_reply_array(&r, 2);
    mark = hf_reply_begin(&r, HF_REPLY_ATTRIBUTE);
    hf_reply_bulk_str(&r, "ttl");
    hf_reply_map(&r, 1);
    hf_reply_int(&r, 1);
    hf_reply_array(&r, 1);
    hf_reply_int(&r, 2);
    hf_reply_end(&r, mark, 1);
    hf_reply_int(&r, 3);
    hf_reply_int(&r, 4);
    expect_wire(&r, "*2\r\n:3\r\n:4\r\n", "*2\r\n|1\r\n$3\r\nttl\r\n%1\r\n:1\r\n*1\r\n:2\r\n:3\r\n:4\r\n");
}
END_TEST

START_TEST(test_a_late_count_is_patched_in)
{
    struct hf_reply r = {{NULL, 0, 0}, false};
    size_t mark = hf_reply_begin(&r, HF_REPLY_ARRAY);

    for (int i = 0; i < 12; i++)
        hf_reply_int(&r, i);
    hf_reply_end(&r, mark, 12);
    ck_assert(hf_reply_is_valid(hf_buf_slice(&r.buf)));
    hf_reply_end(&r, mark, 11);
    ck_assert(!hf_reply_is_valid(hf_buf_slice(&r.buf)));
    hf_reply_free(&r);
}
END_TEST

START_TEST(test_line_ends_in_an_error_become_spaces)
{
    struct hf_reply r = {{NULL, 0, 0}, false};
    char wide[1001];

    hf_reply_errorf(&r, "ERR unknown command '%s'", "a\r\n+OK");
    expect_wire(&r, "-ERR unknown command 'a  +OK'\r\n", "-ERR unknown command 'a  +OK'\r\n");
    memset(wide, 'w', 1000);
    wide[1000] = '\0';
    hf_reply_errorf(&r, "ERR %s", wide);
    ck_assert_uint_eq(r.buf.len, 5 + 4 + 1000);
    hf_reply_free(&r);
}
END_TEST

START_TEST(test_a_discarding_reply_stays_empty)
{
    struct hf_reply r = {{NULL, 0, 0}, true};
    size_t mark;

    hf_reply_ok(&r);
    hf_reply_errorf(&r, "ERR %d", 1);
    hf_reply_int(&r, 1);
    hf_reply_bulk_str(&r, "x");
    hf_reply_null(&r);
    hf_reply_null_array(&r);
    hf_reply_bool(&r, true);
    hf_reply_double_text(&r, hf_slice_str("1"));
    hf_reply_verbatim(&r, hf_slice_str("1"));
    hf_reply_map(&r, 1);
    mark = hf_reply_begin(&r, HF_REPLY_MAP);
    hf_reply_end(&r, mark, 3);
    ck_assert_uint_eq(r.buf.len, 0);
    ck_assert_ptr_null(r.buf.data);
    ck_assert_int_eq(hf_reply_first_tag(hf_buf_slice(&r.buf)), 0);
}
END_TEST

START_TEST(test_the_validator_refuses_what_the_encoder_could_not_trust)
{
    static const struct {
        const char *bytes;
        size_t n;
    } bad[] = {
        {"", 0},                            /* nothing */
        {"\x00", 1},                        /* no such tag */
        {"\x10", 1},                        /* no such tag */
        {"\x05\x05", 2},                    /* two values */
        {"\x04\0\0\0", 4},                  /* short integer */
        {"\x03\x05\0\0\0abcd", 9},          /* short bulk */
        {"\x0c\x02", 2},                    /* neither true nor false */
        {"\x02\x03\0\0\0a\rb", 8},          /* line end inside an error */
        {"\x01\x01\0\0\0\n", 6},            /* ... a status */
        {"\x0b\x01\0\0\0\n", 6},            /* ... a double */
        {"\x07\x02\0\0\0\x05", 6},          /* array of two with one */
        {"\x08\x01\0\0\0\x05", 6},          /* map without the value */
        {"\x07\xff\xff\xff\xff", 5},        /* count with nothing behind */
        {"\x0f\0\0\0\0", 5},                /* attribute of nothing */
        {"\x07\x01\0\0\0\x0f\0\0\0\0", 10}, /* the same inside an array */
    };
    struct hf_reply r = {{NULL, 0, 0}, false};

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(!hf_reply_is_valid(hf_slice(bad[i].bytes, bad[i].n)), "case %zu", i);
    for (int i = 0; i < 32; i++)
        hf_reply_array(&r, 1);
    hf_reply_null(&r);
    ck_assert(hf_reply_is_valid(hf_buf_slice(&r.buf)));
    r.buf.len = 0;
    for (int i = 0; i < 33; i++)
        hf_reply_array(&r, 1);
    hf_reply_null(&r);
    ck_assert(!hf_reply_is_valid(hf_buf_slice(&r.buf)));
    hf_reply_free(&r);
}
END_TEST

TCase *reply_tests(void)
{
    TCase *t = tcase_create("reply");

    tcase_add_test(t, test_each_value_is_written_as_redis_writes_it);
    tcase_add_test(t, test_containers_are_headers_before_their_values);
    tcase_add_test(t, test_an_attribute_is_left_out_in_resp2_with_all_it_holds);
    tcase_add_test(t, test_a_late_count_is_patched_in);
    tcase_add_test(t, test_line_ends_in_an_error_become_spaces);
    tcase_add_test(t, test_a_discarding_reply_stays_empty);
    tcase_add_test(t, test_the_validator_refuses_what_the_encoder_could_not_trust);
    return t;
}
