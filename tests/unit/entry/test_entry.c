/* test_entry.c: the payload codec and the reference-counted block. */
#include "base/mem.h"
#include "base/util.h"
#include "entry/entry.h"

#include <check.h>
#include <stdlib.h>

/* A valid payload with a few commands of assorted lengths. */
static struct hf_log_entry *build(struct hf_prng *p, uint32_t count)
{
    struct hf_entry_writer w = {0};
    struct hf_log_entry *e;

    hf_entry_begin(&w);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t bytes[200];
        size_t n = (size_t)hf_prng_below(p, sizeof bytes);

        for (size_t k = 0; k < n; k++)
            bytes[k] = (uint8_t)hf_prng_next(p);
        ck_assert(hf_entry_add(&w, (uint16_t)(i + 1), hf_slice(bytes, n)));
    }
    ck_assert_uint_eq(w.count, count);
    e = hf_entry_finish(&w, 77, -5, 99);
    hf_entry_writer_free(&w);
    return e;
}

static void seal(uint8_t *p, size_t n)
{
    hf_store_u32(p + n - 4, hf_crc32c(0, p, n - 4));
}

START_TEST(round_trip_keeps_every_command)
{
    struct hf_prng p;

    hf_prng_seed(&p, 1);
    for (uint32_t count = 0; count < 70; count++) {
        struct hf_log_entry *e = build(&p, count);
        struct hf_entry_reader r;
        struct hf_entry_header h;
        struct hf_slice payload;
        uint32_t seen = 0;
        uint16_t op;

        ck_assert_int_eq(e->type, HF_ENTRY_COMMAND);
        ck_assert_int_eq(hf_entry_peek(&h, hf_slice(e->data, e->len)), HF_OK);
        ck_assert_uint_eq(h.nonce, 77);
        ck_assert_int_eq(hf_entry_decode(&r, hf_slice(e->data, e->len)), HF_OK);
        ck_assert_uint_eq(r.header.count, count);
        ck_assert_int_eq(r.header.stamp_ms, -5);
        ck_assert_uint_eq(r.header.seed, 99);
        while (hf_entry_next(&r, &op, &payload)) {
            seen++;
            ck_assert_uint_eq(op, seen);
            ck_assert_uint_eq(r.position, seen);
        }
        ck_assert_uint_eq(seen, count);
        hf_log_entry_unref(e);
    }
}
END_TEST

START_TEST(size_is_known_before_the_end)
{
    struct hf_entry_writer w = {0};
    struct hf_log_entry *e;

    hf_entry_begin(&w);
    ck_assert_uint_eq(hf_entry_size(&w), HF_ENTRY_HEADER_BYTES + HF_ENTRY_TRAILER_BYTES);
    ck_assert(hf_entry_add(&w, 3, hf_slice_str("hello")));
    ck_assert_uint_eq(hf_entry_size(&w), 28 + 6 + 5 + 4);
    e = hf_entry_finish(&w, 1, 2, 3);
    ck_assert_uint_eq(e->len, 28 + 6 + 5 + 4);
    hf_log_entry_unref(e);
    /* The same writer serves the next entry, and remembers nothing of the last. */
    hf_entry_begin(&w);
    e = hf_entry_finish(&w, 1, 2, 3);
    ck_assert_uint_eq(e->len, 32);
    hf_log_entry_unref(e);
    hf_entry_writer_free(&w);
}
END_TEST

START_TEST(no_more_than_65535_commands)
{
    struct hf_entry_writer w = {0};
    struct hf_entry_reader r;
    struct hf_log_entry *e;

    hf_entry_begin(&w);
    for (uint32_t i = 0; i < HF_ENTRY_COMMANDS_MAX; i++)
        ck_assert(hf_entry_add(&w, 1, hf_slice("", 0)));
    ck_assert(!hf_entry_add(&w, 1, hf_slice("", 0)));
    e = hf_entry_finish(&w, 1, 2, 3);
    ck_assert_int_eq(hf_entry_decode(&r, hf_slice(e->data, e->len)), HF_OK);
    ck_assert_uint_eq(r.header.count, HF_ENTRY_COMMANDS_MAX);
    hf_log_entry_unref(e);
    hf_entry_writer_free(&w);
}
END_TEST

START_TEST(every_flipped_bit_and_every_cut_is_refused)
{
    struct hf_prng p;
    struct hf_log_entry *e;
    struct hf_entry_reader r;

    hf_prng_seed(&p, 2);
    e = build(&p, 3);
    for (uint32_t bit = 0; bit < e->len * 8; bit++) {
        e->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_assert_int_ne(hf_entry_decode(&r, hf_slice(e->data, e->len)), HF_OK);
        e->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (uint32_t n = 0; n < e->len; n++) {
        uint8_t *copy = hf_memdup(e->data, n ? n : 1); /* exactly as long, so that a step too far is seen */

        ck_assert_int_ne(hf_entry_decode(&r, hf_slice(copy, n)), HF_OK);
        hf_free(copy);
    }
    ck_assert_int_eq(hf_entry_decode(&r, hf_slice(e->data, e->len)), HF_OK);
    hf_log_entry_unref(e);
}
END_TEST

START_TEST(unknown_version_or_flags_are_told_from_damage)
{
    struct hf_prng p;
    struct hf_log_entry *e;
    struct hf_entry_reader r;
    struct hf_entry_header h;

    hf_prng_seed(&p, 3);
    e = build(&p, 1);
    e->data[0] = 2;
    seal(e->data, e->len);
    ck_assert_int_eq(hf_entry_decode(&r, hf_slice(e->data, e->len)), HF_E_VERSION);
    ck_assert_int_eq(hf_entry_peek(&h, hf_slice(e->data, 1)), HF_E_VERSION);
    e->data[0] = 1;
    e->data[1] = 4;
    seal(e->data, e->len);
    ck_assert_int_eq(hf_entry_decode(&r, hf_slice(e->data, e->len)), HF_E_VERSION);
    hf_log_entry_unref(e);
}
END_TEST

START_TEST(structure_is_checked_even_under_a_right_checksum)
{
    struct hf_prng p;
    struct hf_log_entry *e;
    struct hf_entry_reader r;
    uint16_t counts[] = {0, 2, 4, 65535};

    hf_prng_seed(&p, 4);
    e = build(&p, 3);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        hf_store_u16(e->data + 2, counts[i]);
        seal(e->data, e->len);
        ck_assert_int_eq(hf_entry_decode(&r, hf_slice(e->data, e->len)), HF_E_CORRUPT);
    }
    hf_store_u16(e->data + 2, 3);
    hf_store_u32(e->data + 30, UINT32_MAX); /* length of the first command */
    seal(e->data, e->len);
    ck_assert_int_eq(hf_entry_decode(&r, hf_slice(e->data, e->len)), HF_E_CORRUPT);
    hf_log_entry_unref(e);
}
END_TEST

START_TEST(random_bytes_never_crash_the_decoder)
{
    struct hf_prng p;
    struct hf_entry_reader r;

    hf_prng_seed(&p, 5);
    for (int round = 0; round < 20000; round++) {
        size_t n = (size_t)hf_prng_below(&p, 120);
        uint8_t *bytes = hf_malloc(n ? n : 1);

        for (size_t i = 0; i < n; i++)
            bytes[i] = (uint8_t)hf_prng_below(&p, 4);
        if (n >= 32) {
            bytes[0] = 1;
            bytes[1] = 0;
            seal(bytes, n);
        }
        if (hf_entry_decode(&r, hf_slice(bytes, n)) == HF_OK) {
            struct hf_slice payload;
            uint16_t op;

            while (hf_entry_next(&r, &op, &payload))
                ck_assert_uint_le(payload.len, n);
        }
        hf_free(bytes);
    }
}
END_TEST

START_TEST(block_lives_until_its_last_reference)
{
    struct hf_log_entry *e = hf_log_entry_new(HF_ENTRY_BARRIER, 5, 2, 0);

    ck_assert_ptr_eq(hf_log_entry_ref(e), e);
    hf_log_entry_unref(e);
    ck_assert_uint_eq(e->index, 5);
    ck_assert_uint_eq(e->term, 2);
    ck_assert_uint_eq(e->len, 0);
    hf_log_entry_unref(e);
    hf_log_entry_unref(NULL);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("entry");
    TCase *t = tcase_create("entry");
    SRunner *r;
    int failed;

    tcase_add_test(t, round_trip_keeps_every_command);
    tcase_add_test(t, size_is_known_before_the_end);
    tcase_add_test(t, no_more_than_65535_commands);
    tcase_add_test(t, every_flipped_bit_and_every_cut_is_refused);
    tcase_add_test(t, unknown_version_or_flags_are_told_from_damage);
    tcase_add_test(t, structure_is_checked_even_under_a_right_checksum);
    tcase_add_test(t, random_bytes_never_crash_the_decoder);
    tcase_add_test(t, block_lives_until_its_last_reference);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
