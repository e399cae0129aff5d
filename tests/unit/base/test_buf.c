/* test_buf.c: slices, buffers, the reader, error texts, memory. */
#include "test_base.h"

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"

#include <errno.h>

START_TEST(test_slice_order_and_equality)
{
    ck_assert_int_eq(hf_slice_cmp(hf_slice_str("abc"), hf_slice_str("abc")), 0);
    ck_assert_int_lt(hf_slice_cmp(hf_slice_str("ab"), hf_slice_str("abc")), 0);
    ck_assert_int_gt(hf_slice_cmp(hf_slice_str("b"), hf_slice_str("abc")), 0);
    ck_assert_int_gt(hf_slice_cmp(hf_slice("\xff", 1), hf_slice("\x01", 1)), 0); /* unsigned bytes */
    ck_assert_int_eq(hf_slice_cmp(hf_slice(NULL, 0), hf_slice_str("")), 0);
    ck_assert(hf_slice_eq(hf_slice(NULL, 0), hf_slice_str("")));
    ck_assert(!hf_slice_eq(hf_slice_str("a"), hf_slice_str("b")));
    ck_assert(hf_slice_is(hf_slice_str("GeT"), "get"));
    ck_assert(!hf_slice_is(hf_slice_str("get"), "gets"));
    ck_assert(!hf_slice_is(hf_slice_str("gets"), "get"));
    ck_assert(!hf_slice_is(hf_slice("get\0", 4), "get"));
    ck_assert(hf_slice_is(hf_slice(NULL, 0), ""));
    ck_assert(!hf_slice_is(hf_slice_str("@"), "`")); /* differ by the case bit, but are no letters */
}
END_TEST

START_TEST(test_buf_grows_and_keeps_bytes)
{
    struct hf_buf b = {0};

    for (unsigned i = 0; i < 10000; i++)
        hf_buf_put_u8(&b, (uint8_t)(i * 7));
    ck_assert_uint_eq(b.len, 10000);
    for (unsigned i = 0; i < 10000; i++)
        ck_assert_uint_eq(b.data[i], (uint8_t)(i * 7));
    hf_buf_consume(&b, 0);
    hf_buf_consume(&b, 9999);
    ck_assert_uint_eq(b.len, 1);
    ck_assert_uint_eq(b.data[0], (uint8_t)(9999 * 7));
    hf_buf_consume(&b, 1);
    ck_assert_uint_eq(b.len, 0);
    hf_buf_free(&b);
    ck_assert_ptr_null(b.data);
    ck_assert_uint_eq(b.cap, 0);
    ck_assert_ptr_nonnull(hf_buf_reserve(&b, 0));
    hf_buf_put(&b, NULL, 0);
    ck_assert_uint_eq(b.len, 0);
    hf_buf_free(&b);
    hf_buf_free(&b);
}
END_TEST

START_TEST(test_buf_printf_of_any_length)
{
    struct hf_buf b = {0};
    char text[500];

    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    /* Lengths around the first capacity: the cases where the text just fits or just does not. */
    for (int n = 0; n < 200; n++) {
        b.len = 0;
        hf_buf_printf(&b, "%.*s", n, text);
        ck_assert_uint_eq(b.len, (size_t)n);
        ck_assert(n == 0 || memcmp(b.data, text, (size_t)n) == 0);
        hf_buf_free(&b);
    }
    hf_buf_printf(&b, "a=%d", 1);
    hf_buf_printf(&b, " b=%s", "two");
    ck_assert(hf_slice_eq(hf_buf_slice(&b), hf_slice_str("a=1 b=two")));
    hf_buf_free(&b);
}
END_TEST

START_TEST(test_integers_are_little_endian)
{
    static const uint8_t expected[] = {0x01, 0x03, 0x02, 0x07, 0x06, 0x05, 0x04, 0xff, 0xee, 0xdd, 0xcc,
                                       0xbb, 0xaa, 0x99, 0x88, 0x02, 0x00, 0x00, 0x00, 'h',  'i'};
    struct hf_buf b = {0};
    struct hf_reader r;

    hf_buf_put_u8(&b, 0x01);
    hf_buf_put_u16(&b, 0x0203);
    hf_buf_put_u32(&b, 0x04050607);
    hf_buf_put_u64(&b, 0x8899aabbccddeeff);
    hf_buf_put_slice(&b, hf_slice_str("hi"));
    ck_assert_uint_eq(b.len, sizeof(expected));
    ck_assert_mem_eq(b.data, expected, sizeof(expected));
    r = hf_reader(hf_buf_slice(&b));
    ck_assert_uint_eq(hf_read_u8(&r), 0x01);
    ck_assert_uint_eq(hf_read_u16(&r), 0x0203);
    ck_assert_uint_eq(hf_read_u32(&r), 0x04050607);
    ck_assert_uint_eq(hf_read_u64(&r), 0x8899aabbccddeeff);
    ck_assert_uint_eq(hf_reader_left(&r), 6);
    ck_assert(!hf_reader_done(&r));
    ck_assert(hf_slice_eq(hf_read_slice(&r), hf_slice_str("hi")));
    ck_assert(hf_reader_done(&r));
    hf_buf_free(&b);
}
END_TEST

START_TEST(test_reader_stops_at_the_end)
{
    uint8_t bytes[16];

    memset(bytes, 0xff, sizeof(bytes));
    /* Every read at every shortage: the block is heap memory of just that size, so an overrun would be seen. */
    for (size_t n = 0; n < 8; n++) {
        uint8_t *exact = hf_memdup(bytes, n);
        struct hf_reader r = hf_reader(hf_slice(exact, n));

        ck_assert_uint_eq(hf_read_u64(&r), 0);
        ck_assert(r.failed);
        ck_assert_uint_eq(hf_read_u8(&r), 0); /* also when one byte would be there */
        ck_assert_uint_eq(hf_read_bytes(&r, 0).len, 0);
        ck_assert(!hf_reader_done(&r));
        if (n < 4) {
            r = hf_reader(hf_slice(exact, n));
            ck_assert_uint_eq(hf_read_u32(&r), 0);
            ck_assert(r.failed);
        }
        if (n < 2) {
            r = hf_reader(hf_slice(exact, n));
            ck_assert_uint_eq(hf_read_u16(&r), 0);
            ck_assert(r.failed);
        }
        hf_free(exact);
    }
}
END_TEST

START_TEST(test_reader_refuses_lying_lengths)
{
    struct hf_buf b = {0};
    struct hf_reader r;
    struct hf_slice s;

    hf_buf_put_u32(&b, 0xffffffff);
    hf_buf_put(&b, "abc", 3);
    r = hf_reader(hf_buf_slice(&b));
    s = hf_read_slice(&r);
    ck_assert_uint_eq(s.len, 0);
    ck_assert_ptr_null(s.ptr);
    ck_assert(r.failed);
    r = hf_reader(hf_buf_slice(&b));
    hf_read_bytes(&r, SIZE_MAX);
    ck_assert(r.failed);
    hf_buf_free(&b);

    r = hf_reader(hf_slice(NULL, 0));
    ck_assert(hf_reader_done(&r));
    ck_assert_uint_eq(hf_read_bytes(&r, 0).len, 0);
    ck_assert(hf_reader_done(&r));
}
END_TEST

START_TEST(test_error_texts)
{
    ck_assert_str_eq(hf_strerror(0), "ok");
    ck_assert_str_eq(hf_strerror(HF_E_NOSPC), "no space left on the disk");
    ck_assert_str_eq(hf_strerror(-9999), "unknown error");
    ck_assert_str_eq(hf_strerror(1), "unknown error");
    ck_assert_int_eq(hf_err_from_errno(0), 0);
    ck_assert_int_eq(hf_err_from_errno(ENOSPC), HF_E_NOSPC);
    ck_assert_int_eq(hf_err_from_errno(EIO), HF_E_IO);
    ck_assert_int_eq(hf_err_from_errno(ECONNREFUSED), HF_E_CONN);
    ck_assert_int_eq(hf_err_from_errno(EADDRINUSE), HF_E_ADDRINUSE);
    ck_assert_int_eq(hf_err_from_errno(123456), HF_E_SYS);
}
END_TEST

START_TEST(test_memory)
{
    char *s = hf_asprintf("%s-%d", "a", 7);
    void *none = hf_malloc(0);

    ck_assert_str_eq(s, "a-7");
    hf_free(s);
    ck_assert_ptr_nonnull(none);
    none = hf_realloc(none, 0);
    ck_assert_ptr_nonnull(none);
    hf_free(none);
    none = hf_calloc(0, 8);
    ck_assert_ptr_nonnull(none);
    hf_free(none);
    hf_free(NULL);
    s = hf_strdup("");
    ck_assert_str_eq(s, "");
    hf_free(s);
    none = hf_memdup(NULL, 0);
    ck_assert_ptr_nonnull(none);
    hf_free(none);
}
END_TEST

TCase *buf_case(void)
{
    TCase *tc = tcase_create("buf");

    tcase_add_test(tc, test_slice_order_and_equality);
    tcase_add_test(tc, test_buf_grows_and_keeps_bytes);
    tcase_add_test(tc, test_buf_printf_of_any_length);
    tcase_add_test(tc, test_integers_are_little_endian);
    tcase_add_test(tc, test_reader_stops_at_the_end);
    tcase_add_test(tc, test_reader_refuses_lying_lengths);
    tcase_add_test(tc, test_error_texts);
    tcase_add_test(tc, test_memory);
    return tc;
}
