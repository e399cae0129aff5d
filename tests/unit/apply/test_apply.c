/* test_apply.c: one entry at a time on the real store. */
#include "fake_table.h"

#include <stdio.h>

static int apply_to(struct hf_store *s, struct hf_log_entry *e, struct hf_apply_result *result, char *why)
{
    int rc = hf_apply_entry(s, e, result, why, 512);

    hf_log_entry_unref(e);
    return rc;
}

static void must_apply(struct hf_store *s, struct hf_log_entry *e, struct hf_apply_result *result)
{
    char why[512] = "";
    int rc = apply_to(s, e, result, why);

    ck_assert_msg(rc == 0, "%s", why);
}

static bool has(struct hf_store *s, const char *key)
{
    struct hf_row row;

    return hf_store_get(s, hf_slice_str(key), &row);
}

static int64_t int_at(const struct hf_apply_result *r, uint32_t position)
{
    struct hf_slice flat = hf_apply_result_at(r, position);

    ck_assert_uint_eq(flat.len, 9);
    ck_assert_int_eq(flat.ptr[0], HF_REPLY_INT);
    return (int64_t)hf_load_u64(flat.ptr + 1);
}

START_TEST(test_replies_stand_at_their_positions_and_versions_are_index_and_position)
{
    struct hf_store *s = open_test_store();
    struct hf_apply_result r = {0};
    struct hf_entry_writer w = {0};
    struct hf_buf payload = {0};
    struct hf_log_entry *e;
    struct hf_row row;

    hf_entry_begin(&w);
    put_payload(&payload, "a", "1", 0);
    hf_entry_add(&w, OP_PUT, hf_buf_slice(&payload));
    hf_entry_add(&w, OP_ROLL, hf_slice(NULL, 0));
    hf_entry_add(&w, OP_PUT, hf_buf_slice(&payload));
    hf_buf_free(&payload);
    e = hf_entry_finish(&w, 1, 500, 2);
    hf_entry_writer_free(&w);
    e->index = 1;
    e->term = 3;
    must_apply(s, e, &r);
    ck_assert_uint_eq(r.n, 3);
    ck_assert_int_eq(int_at(&r, 0), 1 << 16);
    ck_assert_int_eq(hf_apply_result_at(&r, 1).ptr[0], HF_REPLY_ARRAY);
    ck_assert_int_eq(int_at(&r, 2), 1 << 16 | 2);
    ck_assert(hf_store_get(s, hf_slice_str("a"), &row));
    ck_assert_uint_eq(row.version, 1 << 16 | 2);
    ck_assert_uint_eq(hf_store_meta(s)->applied_index, 1);
    ck_assert_uint_eq(hf_store_meta(s)->applied_term, 3);
    ck_assert_int_eq(hf_store_log_time_ms(s), 500);
    hf_apply_result_free(&r);
    hf_store_close(s);
}
END_TEST

/* Nobody waits on followers: without a result, or with one that discards, the state is the same. */
START_TEST(test_state_is_the_same_with_and_without_listeners)
{
    uint8_t digest[3][16];

    for (unsigned i = 0; i < 3; i++) {
        struct hf_apply_result r = {.replies.discard = i == 1};
        struct hf_store *s = open_test_store();

        must_apply(s, entry_put(1, 1, "a", "1", 0), i < 2 ? &r : NULL);
        if (i == 1) {
            ck_assert_uint_eq(r.n, 1);
            ck_assert_uint_eq(hf_apply_result_at(&r, 0).len, 0);
        }
        memcpy(digest[i], hf_store_meta(s)->digest, 16);
        hf_apply_result_free(&r);
        hf_store_abandon(s);
    }
    ck_assert_mem_eq(digest[0], digest[1], 16);
    ck_assert_mem_eq(digest[0], digest[2], 16);
}
END_TEST

START_TEST(test_generator_depends_on_seed_and_position_only)
{
    struct hf_slice flat[2][2];
    struct hf_apply_result r[2] = {{.n = 0}, {.n = 0}};

    for (unsigned i = 0; i < 2; i++) {
        struct hf_store *s = open_test_store();
        struct hf_entry_writer w = {0};
        struct hf_log_entry *e;

        hf_entry_begin(&w);
        hf_entry_add(&w, OP_ROLL, hf_slice(NULL, 0));
        hf_entry_add(&w, OP_ROLL, hf_slice(NULL, 0));
        e = hf_entry_finish(&w, i, 1 + i, 42);
        hf_entry_writer_free(&w);
        e->index = 1;
        e->term = 1;
        must_apply(s, e, &r[i]);
        for (uint32_t j = 0; j < 2; j++)
            flat[i][j] = hf_apply_result_at(&r[i], j);
        hf_store_abandon(s);
    }
    ck_assert(hf_slice_eq(flat[0][0], flat[1][0]));
    ck_assert(hf_slice_eq(flat[0][1], flat[1][1]));
    ck_assert(!hf_slice_eq(flat[0][0], flat[0][1]));
    hf_apply_result_free(&r[0]);
    hf_apply_result_free(&r[1]);
}
END_TEST

/* Replay after a restart gives what was there, twice seen entries have no second effect. */
START_TEST(test_replay_from_the_last_commit_gives_the_same_state)
{
    struct hf_store *s = open_test_store();
    uint8_t digest[16], history[16];
    char key[16];

    for (uint64_t i = 1; i <= 40; i++) {
        snprintf(key, sizeof key, "k%u", (unsigned)(i % 7));
        must_apply(s, entry_put(i, (int64_t)i, key, "v", i % 3 ? 0 : (int64_t)i + 5), NULL);
        if (i == 17)
            ck_assert_int_eq(hf_store_commit(s), 0);
    }
    memcpy(digest, hf_store_meta(s)->digest, 16);
    memcpy(history, hf_store_meta(s)->history, 16);
    hf_store_abandon(s);
    s = open_test_store();
    ck_assert_uint_eq(hf_store_meta(s)->applied_index, 17);
    for (uint64_t i = 10; i <= 40; i++) {
        snprintf(key, sizeof key, "k%u", (unsigned)(i % 7));
        must_apply(s, entry_put(i, (int64_t)i, key, "v", i % 3 ? 0 : (int64_t)i + 5), NULL);
    }
    ck_assert_mem_eq(hf_store_meta(s)->digest, digest, 16);
    ck_assert_mem_eq(hf_store_meta(s)->history, history, 16);
    hf_store_close(s);
}
END_TEST

START_TEST(test_gap_in_the_log_is_refused)
{
    struct hf_store *s = open_test_store();
    char why[512];

    must_apply(s, entry_put(1, 1, "a", "1", 0), NULL);
    ck_assert_int_eq(apply_to(s, entry_put(3, 1, "a", "1", 0), NULL, why), HF_E_CORRUPT);
    ck_assert_uint_eq(hf_store_meta(s)->applied_index, 1);
    hf_store_close(s);
}
END_TEST

START_TEST(test_barriers_and_configurations_advance_the_index)
{
    struct hf_store *s = open_test_store();
    uint8_t history[16];

    memcpy(history, hf_store_meta(s)->history, 16);
    must_apply(s, entry_other(1, HF_ENTRY_BARRIER, ""), NULL);
    ck_assert_mem_ne(hf_store_meta(s)->history, history, 16);
    ck_assert_uint_eq(hf_store_meta(s)->applied_index, 1);
    must_apply(s, entry_other(2, HF_ENTRY_CONFIGURATION, "three voters"), NULL);
    must_apply(s, entry_put(3, 1, "a", "1", 0), NULL);
    hf_store_close(s);
    s = open_test_store();
    ck_assert_uint_eq(hf_store_meta(s)->applied_index, 3);
    ck_assert_uint_eq(hf_store_meta(s)->configuration_index, 2);
    ck_assert(hf_slice_is(hf_store_meta(s)->configuration, "three voters"));
    hf_store_close(s);
}
END_TEST

/* An unknown command anywhere in an entry stops the node before the known ones before it are applied. */
START_TEST(test_unknown_op_applies_nothing_of_its_entry)
{
    static const uint16_t ops[] = {OP_UNKNOWN, OP_READ_ONLY};

    for (unsigned i = 0; i < 2; i++) {
        struct hf_store *s = open_test_store();
        struct hf_entry_writer w = {0};
        struct hf_buf payload = {0};
        struct hf_log_entry *e;
        char why[512];

        hf_entry_begin(&w);
        put_payload(&payload, "a", "1", 0);
        hf_entry_add(&w, OP_PUT, hf_buf_slice(&payload));
        hf_entry_add(&w, ops[i], hf_slice(NULL, 0));
        hf_buf_free(&payload);
        e = hf_entry_finish(&w, 1, 1000, 1);
        hf_entry_writer_free(&w);
        e->index = 1;
        e->term = 1;
        ck_assert_int_eq(apply_to(s, e, NULL, why), HF_E_VERSION);
        ck_assert_ptr_nonnull(strstr(why, "newer release"));
        ck_assert(!has(s, "a"));
        ck_assert_uint_eq(hf_store_meta(s)->applied_index, 0);
        ck_assert_int_eq(hf_store_log_time_ms(s), 0);
        ck_assert_int_eq(hf_store_error(s, NULL), 0);
        hf_store_close(s);
    }
}
END_TEST

/* R26: a level above ours stops the node before anything of the entry is applied; our own is fine. */
START_TEST(test_level_above_ours_applies_nothing)
{
    struct hf_store *s = open_test_store();
    struct hf_slice value;
    char why[512];

    must_apply(s, entry_level(1, HF_LEVEL_MAX), NULL);
    ck_assert_int_eq(apply_to(s, entry_level(2, HF_LEVEL_MAX + 1), NULL, why), HF_E_VERSION);
    ck_assert_ptr_nonnull(strstr(why, "start a newer release"));
    ck_assert_uint_eq(hf_store_meta(s)->applied_index, 1);
    ck_assert(hf_store_setting_get(s, hf_slice_str("level"), &value));
    ck_assert(hf_slice_is(value, "2"));
    hf_store_close(s);
}
END_TEST

START_TEST(test_damaged_entry_applies_nothing)
{
    struct hf_store *s = open_test_store();
    struct hf_log_entry *e = entry_put(1, 1, "a", "1", 0);
    char why[512];

    e->data[e->len / 2] ^= 1;
    ck_assert_int_eq(apply_to(s, e, NULL, why), HF_E_CORRUPT);
    e = entry_put(1, 1, "a", "1", 0);
    e->data[0] = 9;
    ck_assert_int_ne(apply_to(s, e, NULL, why), 0);
    ck_assert_uint_eq(hf_store_meta(s)->applied_index, 0);
    ck_assert_uint_eq(hf_store_count(s), 0);
    hf_store_close(s);
}
END_TEST

/* A payload that does not fit its handler is found too late to undo by hand: the store drops everything since the
 * last commit, and never commits half an entry. */
START_TEST(test_payload_that_does_not_fit_its_handler_leaves_no_trace)
{
    for (unsigned i = 0; i < 2; i++) {
        struct hf_store *s = open_test_store();
        uint64_t index = hf_store_meta(s)->applied_index;
        char why[512];

        must_apply(s, entry_put(index + 1, 1, "a", "1", 0), NULL);
        ck_assert_int_eq(hf_store_commit(s), 0);
        ck_assert_int_eq(apply_to(s, entry_op(index + 2, i ? OP_OVERREAD : OP_LEAVES, hf_slice_str("xx")), NULL, why),
                         HF_E_CORRUPT);
        ck_assert_ptr_nonnull(strstr(why, i ? "overread" : "leaves"));
        ck_assert_int_eq(apply_to(s, entry_put(index + 2, 1, "b", "1", 0), NULL, why), HF_E_CORRUPT);
        ck_assert_int_eq(hf_store_commit(s), HF_E_CORRUPT);
        hf_store_close(s);
        s = open_test_store();
        ck_assert_uint_eq(hf_store_meta(s)->applied_index, index + 1);
        ck_assert(!has(s, "half"));
        ck_assert(hf_store_digest_is_right(s));
        hf_store_close(s);
    }
}
END_TEST

/* Every entry, whatever its kind, deletes at most 20 due keys, and does so before its own commands run. */
START_TEST(test_each_entry_deletes_at_most_20_due_keys)
{
    struct hf_store *s = open_test_store();
    uint64_t index = 0;
    char key[16];

    for (unsigned i = 0; i < 70; i++) {
        snprintf(key, sizeof key, "k%02u", i);
        must_apply(s, entry_put(++index, 1, key, "v", 100), NULL);
    }
    must_apply(s, entry_put(++index, 100, "k00", "new", 0), NULL);
    ck_assert_uint_eq(hf_store_count(s), 51); /* k00 was among the 20 deleted and came back */
    ck_assert(has(s, "k00"));
    must_apply(s, entry_other(++index, HF_ENTRY_BARRIER, ""), NULL);
    ck_assert_uint_eq(hf_store_count(s), 31);
    must_apply(s, entry_other(++index, HF_ENTRY_CONFIGURATION, "c"), NULL);
    ck_assert_uint_eq(hf_store_count(s), 11);
    must_apply(s, entry_put(++index, 50, "k99", "v", 0), NULL);
    ck_assert_uint_eq(hf_store_count(s), 2);
    ck_assert(hf_store_digest_is_right(s));
    hf_store_close(s);
}
END_TEST

TCase *apply_case(void)
{
    TCase *tc = tcase_create("entry");

    tcase_add_checked_fixture(tc, make_test_dir, remove_test_dir);
    tcase_add_test(tc, test_replies_stand_at_their_positions_and_versions_are_index_and_position);
    tcase_add_test(tc, test_state_is_the_same_with_and_without_listeners);
    tcase_add_test(tc, test_generator_depends_on_seed_and_position_only);
    tcase_add_test(tc, test_replay_from_the_last_commit_gives_the_same_state);
    tcase_add_test(tc, test_gap_in_the_log_is_refused);
    tcase_add_test(tc, test_barriers_and_configurations_advance_the_index);
    tcase_add_test(tc, test_unknown_op_applies_nothing_of_its_entry);
    tcase_add_test(tc, test_level_above_ours_applies_nothing);
    tcase_add_test(tc, test_damaged_entry_applies_nothing);
    tcase_add_test(tc, test_payload_that_does_not_fit_its_handler_leaves_no_trace);
    tcase_add_test(tc, test_each_entry_deletes_at_most_20_due_keys);
    return tc;
}
