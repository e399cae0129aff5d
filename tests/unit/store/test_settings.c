/* test_settings.c: replicated settings: what they are in memory, in the file, in the digest; the feature level. */
#include "fixture.h"

#include "base/buf.h"
#include "store/internal.h"

#include <stdio.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static void set(struct hf_store *s, const char *name, const char *value)
{
    begin(s, 1);
    hf_store_setting_put(s, hf_slice_str(name), hf_slice_str(value));
    end(s);
}

static bool is(struct hf_store *s, const char *name, const char *value)
{
    struct hf_slice v = {0};
    bool is_there = hf_store_setting_get(s, hf_slice_str(name), &v);

    return is_there ? value && hf_slice_eq(v, hf_slice_str(value)) : !value;
}

static void add_line(void *data, struct hf_slice name, struct hf_slice value)
{
    hf_buf_put(data, name.ptr, name.len);
    hf_buf_put(data, "=", 1);
    hf_buf_put(data, value.ptr, value.len);
    hf_buf_put(data, " ", 1);
}

static void check_list(struct hf_store *s, const char *expected)
{
    struct hf_buf list = {0};

    hf_store_setting_visit(s, add_line, &list);
    ck_assert(hf_slice_eq(hf_buf_slice(&list), hf_slice_str(expected)));
    hf_buf_free(&list);
}

START_TEST(test_settings_are_listed_by_name_and_survive_a_restart)
{
    struct hf_store *s = open_store();

    set(s, "m", "1");
    set(s, "z", "2");
    set(s, "a", "3");
    set(s, "ma", "4");
    set(s, "m", "5");
    set(s, "z", "");
    set(s, "none", "");
    check_list(s, "a=3 m=5 ma=4 ");
    ck_assert(is(s, "m", "5"));
    ck_assert(is(s, "z", NULL));
    ck_assert(hf_store_digest_is_right(s));
    hf_store_close(s);
    s = open_store();
    check_list(s, "a=3 m=5 ma=4 ");
    ck_assert(hf_store_digest_is_right(s));
    hf_store_close(s);
}
END_TEST

START_TEST(test_settings_go_back_to_the_last_commit_with_the_rows)
{
    struct hf_store *s = open_store();
    uint8_t digest[16];

    set(s, "a", "1");
    set(s, "b", "1");
    ck_assert_int_eq(hf_store_commit(s), 0);
    memcpy(digest, hf_store_meta(s)->digest, 16);
    set(s, "a", "2");
    set(s, "b", "");
    set(s, "c", "1");
    hf_store_abandon(s);
    s = open_store();
    check_list(s, "a=1 b=1 ");
    ck_assert_mem_eq(hf_store_meta(s)->digest, digest, 16);
    ck_assert(hf_store_digest_is_right(s));
    hf_store_close(s);
}
END_TEST

/* The sums of the first release for what it knows; with a setting, another summand that no row can have. */
START_TEST(test_digest_without_settings_is_the_first_releases)
{
    struct hf_store *s = open_store();
    uint8_t canon[CANON_HEADER + 4] = {0}, expected[16];
    XXH128_hash_t row, setting;

    begin(s, 1);
    put(s, "key", "v", 99);
    end(s);
    hf_store_u64(canon, 1u << 16);
    hf_store_u64(canon + 8, 99);
    hf_store_u32(canon + 16, 3);
    canon[20] = HF_TYPE_STRING;
    memcpy(canon + CANON_HEADER, "keyv", 4);
    row = XXH3_128bits(canon, sizeof canon);
    hf_store_u64(expected, row.low64);
    hf_store_u64(expected + 8, row.high64);
    ck_assert_mem_eq(hf_store_meta(s)->digest, expected, 16);
    set(s, "n", "vv");
    setting = XXH3_128bits_withSeed("\1\0\0\0nvv", 7, 0x73657474696e6773ull);
    hf_store_u64(expected, row.low64 + setting.low64);
    hf_store_u64(expected + 8, row.high64 + setting.high64);
    ck_assert_mem_eq(hf_store_meta(s)->digest, expected, 16);
    ck_assert(hf_store_digest_is_right(s));
    hf_store_close(s);
}
END_TEST

static void digest_with(const char *name, const char *value, uint8_t out[16])
{
    struct hf_store *s;

    remove_file("a.db");
    s = open_store();
    set(s, name, value);
    memcpy(out, hf_store_meta(s)->digest, 16);
    hf_store_close(s);
}

START_TEST(test_digest_tells_settings_apart)
{
    uint8_t d[5][16] = {{0}};

    digest_with("a", "", d[0]);
    digest_with("a", "b", d[1]);
    digest_with("ab", "c", d[2]);
    digest_with("a", "bc", d[3]);
    digest_with("a", "c", d[4]);
    for (unsigned i = 0; i < 5; i++)
        for (unsigned j = 0; j < i; j++)
            ck_assert_mem_ne(d[i], d[j], 16);
}
END_TEST

START_TEST(test_clearing_the_keys_leaves_the_settings)
{
    struct hf_store *s = open_store();

    set(s, "a", "1");
    begin(s, 1);
    put(s, "key", "v", 0);
    hf_store_clear(s);
    end(s);
    check_list(s, "a=1 ");
    ck_assert_uint_eq(hf_store_count(s), 0);
    ck_assert(hf_store_digest_is_right(s));
    hf_store_close(s);
    s = open_store();
    check_list(s, "a=1 ");
    ck_assert(hf_store_digest_is_right(s));
    hf_store_close(s);
}
END_TEST

START_TEST(test_digest_check_finds_a_setting_that_changed_in_the_file)
{
    struct hf_store *s = open_store();

    set(s, "a", "1");
    hf_store_close(s);
    run_sql("UPDATE settings SET value = x'32'");
    s = open_store();
    ck_assert(!hf_store_digest_is_right(s));
    hf_store_close(s);
}
END_TEST

START_TEST(test_as_many_and_as_large_settings_as_allowed)
{
    struct hf_store *s = open_store();
    char value[HF_SETTING_VALUE_MAX + 1], name[HF_SETTING_NAME_MAX + 1];

    memset(value, 'v', sizeof value - 1);
    value[sizeof value - 1] = 0;
    for (unsigned i = 0; i < HF_SETTINGS_MAX; i++) {
        snprintf(name, sizeof name, "%064u", (i * 77) % HF_SETTINGS_MAX);
        set(s, name, value);
    }
    set(s, name, "other"); /* one that is there may still change */
    ck_assert(hf_store_digest_is_right(s));
    hf_store_close(s);
    s = open_store();
    ck_assert(is(s, name, "other"));
    ck_assert_uint_eq(s->settings.n, HF_SETTINGS_MAX);
    ck_assert(hf_store_digest_is_right(s));
    hf_store_close(s);
}
END_TEST

/* A database of the first release has no such table: it opens, gets it, and its schema number stays. */
START_TEST(test_database_of_the_first_release_gets_the_table)
{
    struct hf_store *s = open_store();
    sqlite3_stmt *st;

    begin(s, 1);
    put(s, "key", "v", 0);
    end(s);
    hf_store_close(s);
    run_sql("DROP TABLE settings");
    s = open_store();
    ck_assert(has(s, "key"));
    set(s, "a", "1");
    hf_store_close(s);
    s = open_store();
    check_list(s, "a=1 ");
    ck_assert(hf_store_digest_is_right(s));
    ck_assert_int_eq(sqlite3_prepare_v2(s->db, "PRAGMA user_version", -1, &st, NULL), SQLITE_OK);
    ck_assert_int_eq(sqlite3_step(st), SQLITE_ROW);
    ck_assert_int_eq(sqlite3_column_int(st, 0), 1);
    sqlite3_finalize(st);
    hf_store_close(s);
}
END_TEST

static int open_level(uint32_t level_max, char *why, size_t why_size)
{
    struct hf_store_config config = {.path = path_of("a.db"), .level_max = level_max};
    struct hf_store *s;
    int rc = hf_store_open(&config, NULL, &s, why, why_size);

    if (rc == 0)
        hf_store_close(s);
    return rc;
}

START_TEST(test_state_of_a_higher_level_is_refused)
{
    struct hf_store *s = open_store();
    char why[600] = "";

    hf_store_close(s);
    ck_assert_int_eq(open_level(1, why, sizeof why), 0);
    s = open_store();
    set(s, "level", "3");
    hf_store_close(s);
    ck_assert_int_eq(open_level(2, why, sizeof why), HF_E_VERSION);
    ck_assert_ptr_nonnull(strstr(why, "a.db"));
    ck_assert_ptr_nonnull(strstr(why, "feature level 3"));
    ck_assert_int_eq(open_level(3, why, sizeof why), 0);
    ck_assert_int_eq(open_level(0, why, sizeof why), 0);
}
END_TEST

START_TEST(test_settings_that_no_release_writes_are_damage)
{
    static const char *const damage[] = {"UPDATE settings SET value = zeroblob(4097)",
                                         "UPDATE settings SET value = x''", "UPDATE settings SET name = ''",
                                         "UPDATE settings SET value = 'x'",
                                         "DROP TABLE settings; CREATE TABLE settings (a)"};
    char why[600];

    for (unsigned i = 0; i < 5; i++) {
        struct hf_store *s;

        remove_file("a.db");
        s = open_store();
        set(s, "level", "2");
        hf_store_close(s);
        run_sql(i == 3 ? "UPDATE settings SET value = CAST('x' AS BLOB)" : damage[i]);
        ck_assert_msg(try_open(why, sizeof why) == HF_E_CORRUPT, "%s", damage[i]);
        ck_assert_ptr_nonnull(strstr(why, "holdfast repair --dir "));
    }
}
END_TEST

Suite *suite_settings(void)
{
    Suite *suite = suite_create("settings");
    TCase *tc = tcase_create("settings");

    tcase_add_checked_fixture(tc, make_dir, remove_dir);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, test_settings_are_listed_by_name_and_survive_a_restart);
    tcase_add_test(tc, test_settings_go_back_to_the_last_commit_with_the_rows);
    tcase_add_test(tc, test_digest_without_settings_is_the_first_releases);
    tcase_add_test(tc, test_digest_tells_settings_apart);
    tcase_add_test(tc, test_clearing_the_keys_leaves_the_settings);
    tcase_add_test(tc, test_digest_check_finds_a_setting_that_changed_in_the_file);
    tcase_add_test(tc, test_as_many_and_as_large_settings_as_allowed);
    tcase_add_test(tc, test_database_of_the_first_release_gets_the_table);
    tcase_add_test(tc, test_state_of_a_higher_level_is_refused);
    tcase_add_test(tc, test_settings_that_no_release_writes_are_damage);
    suite_add_tcase(suite, tc);
    return suite;
}
