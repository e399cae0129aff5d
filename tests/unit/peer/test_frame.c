/* The frames of peer streams: any chunking gives the same messages, and every broken rule ends the reading. */
#include "suites.h"

#include "base/mem.h"
#include "base/util.h"
#include "peer/frame.h"

#define LIMIT (1u << 20)

static const struct hf_hello ours = {.protocol_min = 1, .protocol_max = 1, .node_id = 1};

/* ---- good streams -------------------------------------------------------------------------------- */

struct expected {
    uint8_t type;
    struct hf_buf payload;
};

#define MESSAGES_MAX 64

struct script {
    struct hf_buf stream;
    struct expected messages[MESSAGES_MAX];
    size_t n;
    uint16_t sequence;
};

static void script_frame(struct script *s, uint8_t type, unsigned flags, struct hf_slice payload)
{
    hf_frame_put(&s->stream, type, (uint8_t)flags, s->sequence++, &payload, 1);
}

static void script_expect(struct script *s, uint8_t type, struct hf_slice payload)
{
    ck_assert_uint_lt(s->n, MESSAGES_MAX);
    s->messages[s->n].type = type;
    hf_buf_put(&s->messages[s->n].payload, payload.ptr, payload.len);
    s->n++;
}

static void script_free(struct script *s)
{
    for (size_t i = 0; i < s->n; i++)
        hf_buf_free(&s->messages[i].payload);
    hf_buf_free(&s->stream);
}

static struct hf_buf draw_bytes(struct hf_prng *prng, size_t max)
{
    struct hf_buf b = {0};
    size_t n = hf_prng_below(prng, max + 1);

    for (size_t i = 0; i < n; i++)
        hf_buf_put_u8(&b, (uint8_t)hf_prng_next(prng));
    return b;
}

/* What may stand before any frame, also between those of a message. */
static void draw_between(struct script *s, struct hf_prng *prng)
{
    if (hf_prng_below(prng, 2) == 0) {
        script_frame(s, 9, HF_FRAME_URGENT, hf_slice_str("quick"));
        script_expect(s, 9, hf_slice_str("quick"));
    }
    if (hf_prng_below(prng, 3) == 0) {
        script_frame(s, HF_FRAME_KEEPALIVE, 0, hf_slice(NULL, 0));
        script_expect(s, HF_FRAME_KEEPALIVE, hf_slice(NULL, 0));
    }
}

static void draw_script(struct script *s, struct hf_prng *prng)
{
    hf_frame_put_preface(&s->stream);
    while (s->n < 20) {
        struct hf_buf payload = draw_bytes(prng, 600);
        uint8_t type = (uint8_t)hf_prng_below(prng, HF_FRAME_OWN_TYPES);
        size_t parts = 1 + hf_prng_below(prng, 5), at = 0;

        if (payload.len < parts)
            parts = 1;
        for (size_t i = 0; i < parts; i++) {
            size_t n = i + 1 == parts ? payload.len - at : payload.len / parts;
            unsigned flags = (i != 0 ? HF_FRAME_CONTINUED : 0u) | (i + 1 < parts ? HF_FRAME_MORE : 0u);

            draw_between(s, prng);
            script_frame(s, type, flags, hf_slice(payload.data + at, n));
            at += n;
        }
        script_expect(s, type, hf_buf_slice(&payload));
        hf_buf_free(&payload);
    }
}

START_TEST(test_any_chunking_gives_the_same_messages)
{
    struct hf_prng prng;

    hf_prng_seed(&prng, 7);
    for (int round = 0; round < 500; round++) {
        struct script s = {0};
        struct hf_frame_reader r;
        size_t at = 0, got = 0, chunk_max = 1 + hf_prng_below(&prng, round % 3 == 0 ? 3 : 2000);

        draw_script(&s, &prng);
        hf_frame_reader_init(&r, HF_PEER_FRAME_BYTES, LIMIT);
        while (at < s.stream.len) {
            size_t n = 1 + hf_prng_below(&prng, chunk_max);
            struct hf_frame_message m;
            uint8_t *chunk;
            int rc;

            if (n > s.stream.len - at)
                n = s.stream.len - at;
            chunk = hf_memdup(s.stream.data + at, n); /* freed after: nothing may be borrowed longer */
            hf_frame_reader_input(&r, hf_slice(chunk, n));
            while ((rc = hf_frame_reader_next(&r, &m)) == 1) {
                ck_assert_uint_lt(got, s.n);
                ck_assert_uint_eq(m.type, s.messages[got].type);
                ck_assert(hf_slice_eq(m.payload, hf_buf_slice(&s.messages[got].payload)));
                got++;
            }
            ck_assert_int_eq(rc, 0);
            hf_free(chunk);
            at += n;
        }
        ck_assert_uint_eq(got, s.n);
        ck_assert(!hf_frame_reader_is_midway(&r));
        hf_frame_reader_free(&r);
        script_free(&s);
    }
}
END_TEST

/* Read a whole stream at once, then again byte by byte: both end with the same error. */
static const char *error_of(struct hf_slice stream, uint64_t message_max, int *rc_out)
{
    const char *errors[2] = {NULL, NULL};

    for (int pass = 0; pass < 2; pass++) {
        struct hf_frame_reader r;
        struct hf_frame_message m;
        size_t step = pass == 0 ? stream.len : 1;
        int rc = 0;

        hf_frame_reader_init(&r, HF_PEER_FRAME_BYTES, message_max);
        for (size_t at = 0; at < stream.len && rc == 0; at += step) {
            hf_frame_reader_input(&r, hf_slice(stream.ptr + at, step));
            do
                rc = hf_frame_reader_next(&r, &m);
            while (rc == 1);
        }
        errors[pass] = rc < 0 ? r.error : NULL;
        *rc_out = rc;
        hf_frame_reader_free(&r);
    }
    ck_assert_ptr_eq((void *)errors[0], (void *)errors[1]);
    return errors[0];
}

/* No single flipped bit goes unnoticed: either an error, or the stream stays short of its last message. */
START_TEST(test_no_flipped_bit_changes_a_message)
{
    struct script s = {0};
    struct hf_prng prng;

    hf_prng_seed(&prng, 8);
    draw_script(&s, &prng);
    /* More frames behind, so that a damaged length does not merely wait for more. */
    for (int i = 0; i < 3; i++)
        script_frame(&s, HF_FRAME_KEEPALIVE, 0, hf_slice(NULL, 0));
    for (size_t at = 0; at < s.stream.len - 3 * HF_FRAME_HEADER_BYTES; at++) {
        int rc;

        s.stream.data[at] ^= (uint8_t)(1u << (at % 8));
        ck_assert_msg(error_of(hf_buf_slice(&s.stream), LIMIT, &rc) != NULL, "byte %zu", at);
        s.stream.data[at] ^= (uint8_t)(1u << (at % 8));
    }
    script_free(&s);
}
END_TEST

/* ---- broken rules -------------------------------------------------------------------------------- */

struct bad_frame {
    uint8_t type;
    unsigned flags;
    size_t len;
};

struct bad_stream {
    const char *error; /* NULL = good */
    struct bad_frame frames[3];
    size_t n;
};

#define MORE  HF_FRAME_MORE
#define CONT  HF_FRAME_CONTINUED
#define QUICK HF_FRAME_URGENT

static const struct bad_stream bad_streams[] = {
    {NULL, {{1, MORE, 5}, {1, CONT | MORE, 5}, {1, CONT, 5}}, 3},
    {"unknown frame flags", {{1, 8, 5}}, 1},
    {"unknown frame flags", {{1, 0x80, 5}}, 1},
    {"unknown frame type", {{0xf3, 0, 5}}, 1},
    {"unknown frame type", {{0xff, 0, 0}}, 1},
    {"flags on a frame that has none", {{HF_FRAME_HELLO, MORE, 5}}, 1},
    {"flags on a frame that has none", {{HF_FRAME_KEEPALIVE, QUICK, 0}}, 1},
    {"keepalive with content", {{HF_FRAME_KEEPALIVE, 0, 1}}, 1},
    {"urgent message in several frames", {{1, QUICK | MORE, 5}}, 1},
    {"urgent message in several frames", {{1, MORE, 5}, {1, QUICK | CONT, 5}}, 2},
    {"message inside another", {{1, MORE, 5}, {1, 0, 5}}, 2},
    {"message inside another", {{1, MORE, 5}, {1, MORE, 5}}, 2},
    {"continues no message", {{1, CONT, 5}}, 1},
    {"continues no message", {{1, CONT | MORE, 5}}, 1},
    {"message changes its type", {{1, MORE, 5}, {2, CONT, 5}}, 2},
    {"empty part of a message", {{1, MORE, 0}}, 1},
    {"empty part of a message", {{1, MORE, 5}, {1, CONT, 0}}, 2},
    {"message longer than the limit", {{1, 0, 101}}, 1},
    {"message longer than the limit", {{1, QUICK, 101}}, 1},
    {"message longer than the limit", {{1, MORE, 60}, {1, CONT, 41}}, 2},
    {NULL, {{1, MORE, 60}, {1, CONT, 40}, {1, 0, 100}}, 3},
};

START_TEST(test_broken_rule_ends_the_stream)
{
    const struct bad_stream *b = &bad_streams[_i];
    static const uint8_t zeroes[200];
    struct script s = {0};
    const char *error;
    int rc;

    hf_frame_put_preface(&s.stream);
    for (size_t i = 0; i < b->n; i++)
        script_frame(&s, b->frames[i].type, b->frames[i].flags, hf_slice(zeroes, b->frames[i].len));
    error = error_of(hf_buf_slice(&s.stream), 100, &rc);
    if (b->error == NULL)
        ck_assert_msg(error == NULL, "%s", error);
    else
        ck_assert_str_eq(error, b->error);
    script_free(&s);
}
END_TEST

START_TEST(test_preface_of_something_else_is_refused_by_its_first_bytes)
{
    struct hf_buf b = {0};
    int rc;

    ck_assert_ptr_nonnull(error_of(hf_slice_str("G"), LIMIT, &rc));
    ck_assert_ptr_nonnull(error_of(hf_slice_str("HOLDFASX"), LIMIT, &rc));
    ck_assert_ptr_null((void *)error_of(hf_slice_str("HOLDFAST"), LIMIT, &rc));
    hf_frame_put_preface(&b);
    b.data[8] = 2;
    ck_assert_ptr_nonnull(error_of(hf_buf_slice(&b), LIMIT, &rc));
    ck_assert_int_eq(rc, HF_E_VERSION);
    b.data[8] = 1;
    b.data[10] = 1;
    ck_assert_ptr_nonnull(error_of(hf_buf_slice(&b), LIMIT, &rc));
    ck_assert_int_eq(rc, HF_E_INVALID);
    hf_buf_free(&b);
}
END_TEST

/* A frame or a message grows only with what came: announcing costs the announcer's own bytes. */
START_TEST(test_memory_follows_what_came_not_what_was_announced)
{
    uint8_t *zeroes = hf_calloc(1, HF_PEER_FRAME_BYTES);
    struct hf_frame_reader r;
    struct hf_frame_message m;
    struct script s = {0};

    hf_frame_put_preface(&s.stream);
    script_frame(&s, 1, HF_FRAME_MORE, hf_slice(zeroes, HF_PEER_FRAME_BYTES));
    hf_frame_reader_init(&r, HF_PEER_FRAME_BYTES, UINT64_C(1) << 40);
    hf_frame_reader_input(&r, hf_slice(s.stream.data, 1000));
    ck_assert_int_eq(hf_frame_reader_next(&r, &m), 0);
    ck_assert_uint_le(hf_frame_reader_memory(&r), 4096);
    ck_assert(hf_frame_reader_is_midway(&r));
    hf_frame_reader_input(&r, hf_slice(s.stream.data + 1000, s.stream.len - 1000));
    ck_assert_int_eq(hf_frame_reader_next(&r, &m), 0);
    ck_assert_uint_le(hf_frame_reader_memory(&r), 4 * HF_PEER_FRAME_BYTES);
    ck_assert(hf_frame_reader_is_midway(&r));
    hf_frame_reader_free(&r);
    script_free(&s);
    /* Before the hello the limit is small. */
    hf_frame_put_preface(&s.stream);
    s = (struct script){.stream = s.stream};
    script_frame(&s, HF_FRAME_HELLO, 0, hf_slice(zeroes, HF_HELLO_BYTES_MAX + 1));
    hf_frame_reader_init(&r, HF_HELLO_BYTES_MAX, LIMIT);
    hf_frame_reader_input(&r, hf_slice(s.stream.data, HF_PREFACE_BYTES + HF_FRAME_HEADER_BYTES));
    ck_assert_int_eq(hf_frame_reader_next(&r, &m), HF_E_INVALID);
    ck_assert_str_eq(r.error, "frame longer than the limit");
    hf_frame_reader_free(&r);
    script_free(&s);
    hf_free(zeroes);
}
END_TEST

/* ---- hello --------------------------------------------------------------------------------------- */

static struct hf_hello sample_hello(void)
{
    struct hf_hello h = {.protocol_min = 1,
                         .protocol_max = 1,
                         .channel = HF_CHANNEL_PROXY,
                         .node_id = 2,
                         .target_id = 1,
                         .store_id = 77,
                         .is_formed = true};

    memset(h.cluster_id, 3, 16);
    memset(h.incarnation, 4, 16);
    memset(h.address, 'a', 255);
    memcpy(h.client_address, "c:1", 4);
    return h;
}

START_TEST(test_hello_comes_back_and_no_cut_of_it_does)
{
    struct hf_hello h = sample_hello(), back = {0};
    struct hf_buf b = {0};
    char why[256];

    hf_hello_put(&b, &h);
    ck_assert_uint_le(b.len, HF_HELLO_BYTES_MAX);
    ck_assert_int_eq(hf_hello_decode(hf_buf_slice(&b), &ours, &back, why, sizeof(why)), 0);
    ck_assert_uint_eq(back.channel, HF_CHANNEL_PROXY);
    ck_assert_uint_eq(back.node_id, 2);
    ck_assert_uint_eq(back.target_id, 1);
    ck_assert_uint_eq(back.store_id, 77);
    ck_assert(back.is_formed);
    ck_assert_mem_eq(back.cluster_id, h.cluster_id, 16);
    ck_assert_mem_eq(back.incarnation, h.incarnation, 16);
    ck_assert_str_eq(back.address, h.address);
    ck_assert_str_eq(back.client_address, h.client_address);
    for (size_t n = 0; n < b.len; n++) {
        uint8_t *cut = hf_memdup(b.data, n);

        why[0] = '\0';
        ck_assert_int_eq(hf_hello_decode(hf_slice(cut, n), &ours, &back, why, sizeof(why)), HF_E_INVALID);
        ck_assert_int_ne(why[0], '\0');
        hf_free(cut);
    }
    hf_buf_put_u8(&b, 0);
    ck_assert_int_eq(hf_hello_decode(hf_buf_slice(&b), &ours, &back, why, sizeof(why)), HF_E_INVALID);
    hf_buf_free(&b);
}
END_TEST

/* Offsets: min 0, max 2, channel 4, flags 5, cluster 6, incarnation 22, node 38, target 46, store 54, address 62. */
static int decode_changed(size_t offset, uint8_t value)
{
    struct hf_hello h = sample_hello();
    struct hf_buf b = {0};
    char why[256];
    int rc;

    hf_hello_put(&b, &h);
    b.data[offset] = value;
    rc = hf_hello_decode(hf_buf_slice(&b), &ours, &h, why, sizeof(why));
    hf_buf_free(&b);
    return rc;
}

START_TEST(test_malformed_hello_is_refused)
{
    ck_assert_int_eq(decode_changed(0, 1), 0);
    ck_assert_int_eq(decode_changed(0, 0), HF_E_INVALID);
    ck_assert_int_eq(decode_changed(0, 2), HF_E_INVALID); /* min above max */
    ck_assert_int_eq(decode_changed(4, HF_CHANNELS), HF_E_INVALID);
    ck_assert_int_eq(decode_changed(5, 2), HF_E_INVALID);
    ck_assert_int_eq(decode_changed(38, 0), HF_E_INVALID);
    ck_assert_int_eq(decode_changed(62, 254), HF_E_INVALID);
    ck_assert_int_eq(decode_changed(63, ' '), HF_E_INVALID);
    ck_assert_int_eq(decode_changed(63, '\n'), HF_E_INVALID);
    ck_assert_int_eq(decode_changed(63, 0), HF_E_INVALID);
    ck_assert_int_eq(decode_changed(63, 0xc3), HF_E_INVALID);
}
END_TEST

/* Only who asks to join may have no id yet. */
START_TEST(test_node_id_zero_is_for_join_alone)
{
    struct hf_hello h = sample_hello(), back;
    struct hf_buf b = {0};
    char why[256];

    h.channel = (enum hf_channel)_i;
    h.node_id = 0;
    hf_hello_put(&b, &h);
    ck_assert_int_eq(hf_hello_decode(hf_buf_slice(&b), &ours, &back, why, sizeof(why)),
                     _i == HF_CHANNEL_JOIN ? 0 : HF_E_INVALID);
    hf_buf_free(&b);
}
END_TEST

/* What the first release reads on its two channels, byte by byte: it must be able to read us for as long as protocol 1
 * is spoken. */
START_TEST(test_hello_of_a_member_has_the_bytes_of_the_first_release)
{
    static const uint8_t want[] = {
        1, 0, 1, 0, 1, 1, 3,  3, 3, 3, 3, 3, 3, 3, 3, 3,   3,   3,   3, 3,   3,   3,   4, 4,
        4, 4, 4, 4, 4, 4, 4,  4, 4, 4, 4, 4, 4, 4, 2, 0,   0,   0,   0, 0,   0,   0,   1, 0,
        0, 0, 0, 0, 0, 0, 77, 0, 0, 0, 0, 0, 0, 0, 3, 'a', ':', '1', 3, 'c', ':', '1',
    };
    struct hf_hello h = sample_hello();
    struct hf_buf b = {0};

    memcpy(h.address, "a:1", 4);
    hf_hello_put(&b, &h);
    ck_assert_uint_eq(b.len, sizeof(want));
    ck_assert_mem_eq(b.data, want, sizeof(want));
    hf_buf_free(&b);
}
END_TEST

/* Versions are judged before anything else, and a newer sender may say more than we know. */
START_TEST(test_hello_of_other_versions)
{
    struct hf_hello h = sample_hello(), back;
    struct hf_buf b = {0};
    char why[256];

    h.protocol_min = 2;
    h.protocol_max = 3;
    hf_hello_put(&b, &h);
    ck_assert_int_eq(hf_hello_decode(hf_slice(b.data, 4), &ours, &back, why, sizeof(why)), HF_E_VERSION);
    ck_assert_str_eq(why, "no protocol version in common: you speak 2 to 3, this node 1 to 1");
    hf_store_u16(b.data, 1);
    hf_buf_put(&b, "new fields", 10);
    b.data[5] |= 0x40;
    ck_assert_int_eq(hf_hello_decode(hf_buf_slice(&b), &ours, &back, why, sizeof(why)), 0);
    ck_assert_uint_eq(back.protocol_max, 3);
    hf_buf_free(&b);
}
END_TEST

START_TEST(test_refusal_text_is_made_printable)
{
    char text[16];

    ck_assert(hf_refuse_decode(hf_slice("a\nb\x80", 4), text, sizeof(text)));
    ck_assert_str_eq(text, "a?b?");
    ck_assert(hf_refuse_decode(hf_slice_str("a text that is too long"), text, sizeof(text)));
    ck_assert_str_eq(text, "a text that is ");
    ck_assert(!hf_refuse_decode(hf_slice(text, HF_REFUSE_BYTES_MAX + 1), text, 1));
}
END_TEST

Suite *frame_suite(void)
{
    Suite *s = suite_create("frame");
    TCase *t = tcase_create("frame");

    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_any_chunking_gives_the_same_messages);
    tcase_add_test(t, test_no_flipped_bit_changes_a_message);
    tcase_add_loop_test(t, test_broken_rule_ends_the_stream, 0, (int)(sizeof(bad_streams) / sizeof(bad_streams[0])));
    tcase_add_test(t, test_preface_of_something_else_is_refused_by_its_first_bytes);
    tcase_add_test(t, test_memory_follows_what_came_not_what_was_announced);
    tcase_add_test(t, test_hello_comes_back_and_no_cut_of_it_does);
    tcase_add_test(t, test_malformed_hello_is_refused);
    tcase_add_loop_test(t, test_node_id_zero_is_for_join_alone, 0, HF_CHANNELS);
    tcase_add_test(t, test_hello_of_a_member_has_the_bytes_of_the_first_release);
    tcase_add_test(t, test_hello_of_other_versions);
    tcase_add_test(t, test_refusal_text_is_made_printable);
    suite_add_tcase(s, t);
    return s;
}
