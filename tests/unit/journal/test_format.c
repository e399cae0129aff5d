/* test_format.c: the codec of the journal's bytes. */
#include "fixture.h"

#include "base/mem.h"
#include "base/util.h"
#include "journal/format.h"

static struct hf_jbatch sample(void)
{
    return (struct hf_jbatch){.kind = HF_JBATCH_ENTRIES,
                              .segment = 3,
                              .salt = 0x1122334455667788,
                              .offset = 8192,
                              .generation = 5,
                              .prev_end = 8192,
                              .durable_segment = 3,
                              .durable_offset = 8000,
                              .first_index = 17,
                              .count = 2,
                              .body_bytes = 64,
                              .prev_crc = 9,
                              .body_crc = 10};
}

static int reencode(const struct hf_jbatch *b)
{
    struct hf_jbatch copy = *b, out;
    uint8_t bytes[HF_JBATCH_HEADER_BYTES];

    hf_jbatch_encode(bytes, &copy);
    return hf_jbatch_decode(&out, bytes, sizeof bytes);
}

START_TEST(batch_header_round_trip)
{
    struct hf_jbatch b = sample(), out;
    uint8_t bytes[HF_JBATCH_HEADER_BYTES];

    hf_jbatch_encode(bytes, &b);
    memset(&out, 0, sizeof out);
    ck_assert_int_eq(hf_jbatch_decode(&out, bytes, sizeof bytes), HF_OK);
    ck_assert_int_eq(out.kind, b.kind);
    ck_assert_uint_eq(out.segment, b.segment);
    ck_assert_uint_eq(out.salt, b.salt);
    ck_assert_uint_eq(out.offset, b.offset);
    ck_assert_uint_eq(out.generation, b.generation);
    ck_assert_uint_eq(out.prev_end, b.prev_end);
    ck_assert_uint_eq(out.durable_segment, b.durable_segment);
    ck_assert_uint_eq(out.durable_offset, b.durable_offset);
    ck_assert_uint_eq(out.first_index, b.first_index);
    ck_assert_uint_eq(out.count, b.count);
    ck_assert_uint_eq(out.body_bytes, b.body_bytes);
    ck_assert_uint_eq(out.prev_crc, b.prev_crc);
    ck_assert_uint_eq(out.body_crc, b.body_crc);
    ck_assert_uint_eq(out.header_crc, b.header_crc);
    for (size_t bit = 0; bit < sizeof bytes * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_assert_int_ne(hf_jbatch_decode(&out, bytes, sizeof bytes), HF_OK);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    ck_assert_int_eq(hf_jbatch_decode(&out, bytes, sizeof bytes - 1), HF_E_CORRUPT);
}
END_TEST

START_TEST(batch_fields_must_make_sense)
{
    struct hf_jbatch b = sample();

    ck_assert_int_eq(reencode(&b), HF_OK);
    b = sample();
    b.prev_end = 8184; /* a gap before a batch that is not the first */
    ck_assert_int_eq(reencode(&b), HF_E_CORRUPT);
    b = sample();
    b.offset = b.prev_end = 4095;
    ck_assert_int_eq(reencode(&b), HF_E_CORRUPT);
    b = sample();
    b.first_index = 0;
    ck_assert_int_eq(reencode(&b), HF_E_CORRUPT);
    b = sample();
    b.count = 3; /* three records do not fit in 64 bytes */
    ck_assert_int_eq(reencode(&b), HF_E_CORRUPT);
    b = sample();
    b.kind = HF_JBATCH_TRUNCATE; /* only at the beginning of a segment */
    b.count = 0;
    b.body_bytes = 0;
    ck_assert_int_eq(reencode(&b), HF_E_CORRUPT);
    b.offset = b.prev_end = HF_JSEG_HEADER_BYTES;
    ck_assert_int_eq(reencode(&b), HF_OK);
    b.kind = HF_JBATCH_IDLE; /* never there */
    ck_assert_int_eq(reencode(&b), HF_E_CORRUPT);
}
END_TEST

static struct hf_buf body_of(uint64_t index, uint64_t term1, uint64_t term2)
{
    struct hf_log_entry *a = fixture_entry(index, term1, 13), *b = fixture_entry(index + 1, term2, 0);
    struct hf_buf body = {0};

    hf_jrecord_put(&body, a);
    hf_jrecord_put(&body, b);
    hf_log_entry_unref(a);
    hf_log_entry_unref(b);
    return body;
}

static int check(struct hf_jbatch *b, const struct hf_buf *body)
{
    b->body_crc = hf_crc32c(0, body->data, body->len);
    b->body_bytes = (uint32_t)body->len;
    return hf_jbatch_check_body(b, body->data);
}

START_TEST(body_is_checked_record_by_record)
{
    struct hf_jbatch b = sample();
    struct hf_buf body = body_of(17, 4, 5);

    ck_assert_uint_eq(body.len, 40 + 24);
    ck_assert_int_eq(check(&b, &body), HF_OK);
    b.body_crc++;
    ck_assert_int_eq(hf_jbatch_check_body(&b, body.data), HF_E_CORRUPT);
    b.first_index = 18;
    ck_assert_int_eq(check(&b, &body), HF_E_CORRUPT);
    b.first_index = 17;
    b.count = 1;
    ck_assert_int_eq(check(&b, &body), HF_E_CORRUPT);
    b.count = 2;
    body.data[4] = 4; /* no such type */
    ck_assert_int_eq(check(&b, &body), HF_E_CORRUPT);
    body.data[4] = 1;
    body.data[5] = 1;
    ck_assert_int_eq(check(&b, &body), HF_E_CORRUPT);
    body.data[5] = 0;
    hf_store_u32(body.data, 4000);
    ck_assert_int_eq(check(&b, &body), HF_E_CORRUPT);
    hf_buf_free(&body);
    body = body_of(17, 5, 4); /* terms never fall */
    ck_assert_int_eq(check(&b, &body), HF_E_CORRUPT);
    hf_buf_free(&body);
}
END_TEST

START_TEST(segment_header_and_vote_round_trip)
{
    struct hf_jseg_header h = {.id = 9, .salt = 77, .flags = HF_JSEG_RECYCLED}, h2;
    struct hf_jvote v = {.sequence = 1, .term = 2, .vote = 3}, v2;
    uint8_t block[4096];

    hf_jseg_encode(block, &h);
    ck_assert_int_eq(hf_jseg_decode(&h2, block, sizeof block), HF_OK);
    ck_assert(h2.id == 9 && h2.salt == 77 && h2.flags == HF_JSEG_RECYCLED);
    ck_assert_int_eq(hf_jseg_decode(&h2, block, 4095), HF_E_CORRUPT);
    for (size_t bit = 0; bit < HF_JSEG_HEADER_USED * 8; bit++) {
        block[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_assert_int_ne(hf_jseg_decode(&h2, block, sizeof block), HF_OK);
        block[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    hf_jvote_encode(block, &v);
    ck_assert_int_eq(hf_jvote_decode(&v2, block, sizeof block), HF_OK);
    ck_assert(v2.sequence == 1 && v2.term == 2 && v2.vote == 3);
    for (size_t bit = 0; bit < 44 * 8; bit++) {
        block[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_assert_int_ne(hf_jvote_decode(&v2, block, sizeof block), HF_OK);
        block[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}
END_TEST

START_TEST(segment_names)
{
    char name[HF_JSEG_NAME_BYTES];
    uint64_t id;

    hf_jseg_name(name, 0xabc);
    ck_assert_str_eq(name, "0000000000000abc.seg");
    ck_assert(hf_jseg_parse_name(name, &id));
    ck_assert_uint_eq(id, 0xabc);
    ck_assert(!hf_jseg_parse_name("0000000000000ABC.seg", &id));
    ck_assert(!hf_jseg_parse_name("000000000000abc.seg", &id));
    ck_assert(!hf_jseg_parse_name("0000000000000000.seg", &id));
    ck_assert(!hf_jseg_parse_name("0000000000000abc.tmp", &id));
    ck_assert(!hf_jseg_parse_name("vote", &id));
}
END_TEST

Suite *format_suite(void)
{
    Suite *s = suite_create("format");
    TCase *t = tcase_create("format");

    tcase_add_test(t, batch_header_round_trip);
    tcase_add_test(t, batch_fields_must_make_sense);
    tcase_add_test(t, body_is_checked_record_by_record);
    tcase_add_test(t, segment_header_and_vote_round_trip);
    tcase_add_test(t, segment_names);
    suite_add_tcase(s, t);
    return s;
}
