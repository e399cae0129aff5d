/* test_rest.c: files that nobody has open: what inspect, verify and rebase say and do; the texts about damage. */
#include "fixture.h"

#include "base/buf.h"

#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* a.db: 3000 keys, a third of them expire, one setting, a configuration; at index 3. */
static void make_database(void)
{
    struct hf_store *s = open_store();
    char key[32];

    begin(s, 1);
    hf_store_set_configuration(s, 1, hf_slice_str("members"));
    end(s);
    begin(s, 2);
    for (unsigned i = 0; i < 3000; i++) {
        snprintf(key, sizeof key, "k%u", i);
        put(s, key, "some value", i % 3 ? 0 : 1000 + i);
    }
    end(s);
    begin(s, 3);
    hf_store_setting_put(s, hf_slice_str("level"), hf_slice_str("2"));
    end(s);
    hf_store_close(s);
}

struct watch {
    unsigned calls;
    uint64_t done, total;
    unsigned stop_at; /* call */
};

static bool note_progress(void *data, uint64_t done, uint64_t total)
{
    struct watch *w = data;

    ck_assert_uint_ge(done, w->done);
    ck_assert_uint_le(done, total);
    w->done = done;
    w->total = total;
    return ++w->calls != w->stop_at;
}

static int verify(char *why, size_t why_size)
{
    struct hf_store_info info;
    int rc = hf_store_verify(path_of("a.db"), NULL, &info, NULL, NULL, why, why_size);

    hf_store_info_free(&info);
    return rc;
}

static void check_info(const struct hf_store_info *info)
{
    ck_assert_uint_eq(info->meta.applied_index, 3);
    ck_assert_uint_eq(info->meta.applied_term, 1);
    ck_assert_uint_eq(info->meta.keys, 3000);
    ck_assert_uint_eq(info->meta.configuration_index, 1);
    ck_assert(hf_slice_eq(info->meta.configuration, hf_slice_str("members")));
    ck_assert_uint_eq(info->level, 2);
    ck_assert_uint_eq(info->file_bytes, file_size("a.db"));
}

/* A file as it came from a clean stop (in WAL mode) is looked at without a trace. */
START_TEST(test_inspect_and_verify_leave_no_trace)
{
    struct hf_store_info info;
    char why[600] = "";
    struct watch w = {0};

    make_database();
    ck_assert_int_eq(chmod(path_of("a.db"), 0440), 0);
    ck_assert_msg(hf_store_inspect(path_of("a.db"), NULL, &info, why, sizeof why) == 0, "%s", why);
    check_info(&info);
    hf_store_info_free(&info);
    ck_assert_msg(hf_store_verify(path_of("a.db"), NULL, &info, note_progress, &w, why, sizeof why) == 0, "%s", why);
    {
        struct hf_store_info quick;

        ck_assert_msg(hf_store_verify_digest(path_of("a.db"), NULL, &quick, NULL, NULL, why, sizeof why) == 0, "%s",
                      why);
        ck_assert_mem_eq(quick.meta.digest, info.meta.digest, sizeof quick.meta.digest);
        hf_store_info_free(&quick);
    }
    check_info(&info);
    hf_store_info_free(&info);
    ck_assert_uint_eq(w.done, 3000);
    ck_assert_uint_eq(w.total, 3000);
    ck_assert(!file_exists("a.db-wal"));
    ck_assert(!file_exists("a.db-shm"));
}
END_TEST

START_TEST(test_verify_can_be_given_up)
{
    struct hf_store_info info;
    char why[600] = "";
    struct watch w = {.stop_at = 1};

    make_database();
    ck_assert_int_eq(hf_store_verify(path_of("a.db"), NULL, &info, note_progress, &w, why, sizeof why), HF_E_CANCELED);
    ck_assert_uint_eq(w.calls, 1);
    hf_store_info_free(&info);
}
END_TEST

START_TEST(test_path_with_any_character_is_that_path)
{
    struct hf_store_info info;
    char why[600] = "", odd[200];

    make_database();
    snprintf(odd, sizeof odd, "%s/odd %%41?x=1#y.db", dir);
    ck_assert_int_eq(rename(path_of("a.db"), odd), 0);
    ck_assert_msg(hf_store_inspect(odd, NULL, &info, why, sizeof why) == 0, "%s", why);
    ck_assert_uint_eq(info.meta.applied_index, 3);
    hf_store_info_free(&info);
    ck_assert_int_eq(unlink(odd), 0);
}
END_TEST

START_TEST(test_inspect_refuses_what_it_cannot_see_whole)
{
    struct hf_store_info info;
    struct hf_store *s;
    char why[600] = "";
    FILE *f;

    ck_assert_int_eq(hf_store_inspect(path_of("a.db"), NULL, &info, why, sizeof why), HF_E_NOENT);
    ck_assert_ptr_nonnull(strstr(why, "a.db"));
    ck_assert(!file_exists("a.db"));
    make_database();
    s = open_store();
    begin(s, 4);
    put(s, "more", "v", 0);
    end(s);
    ck_assert_int_eq(hf_store_commit(s), 0);
    ck_assert_int_eq(hf_store_inspect(path_of("a.db"), NULL, &info, why, sizeof why), HF_E_LOCKED);
    ck_assert_ptr_nonnull(strstr(why, "-wal"));
    hf_store_close(s);
    f = fopen(path_of("a.db-wal"), "w"); /* empty */
    fclose(f);
    ck_assert_int_eq(hf_store_inspect(path_of("a.db"), NULL, &info, why, sizeof why), 0);
    hf_store_info_free(&info);
    f = fopen(path_of("a.db-journal"), "w");
    fputs("x", f);
    fclose(f);
    ck_assert_int_eq(hf_store_inspect(path_of("a.db"), NULL, &info, why, sizeof why), HF_E_LOCKED);
    remove_file("a.db");
    f = fopen(path_of("a.db"), "w");
    for (unsigned i = 0; i < 1000; i++)
        fputs("not a database ", f);
    fclose(f);
    ck_assert_int_eq(hf_store_inspect(path_of("a.db"), NULL, &info, why, sizeof why), HF_E_CORRUPT);
    remove_file("a.db");
    run_sql("CREATE TABLE t (a)");
    ck_assert_int_eq(hf_store_inspect(path_of("a.db"), NULL, &info, why, sizeof why), HF_E_CORRUPT);
    remove_file("a.db");
    make_database();
    run_sql("PRAGMA user_version = 2");
    ck_assert_int_eq(hf_store_inspect(path_of("a.db"), NULL, &info, why, sizeof why), HF_E_VERSION);
}
END_TEST

/* Each of these leaves a file that SQLite finds nothing wrong with. */
START_TEST(test_verify_finds_every_difference_from_what_meta_says)
{
    static const char *const damage[] = {
        "UPDATE keys SET value = x'00' WHERE key = CAST('k7' AS BLOB)",
        "UPDATE keys SET version = version + 1 WHERE key = CAST('k7' AS BLOB)",
        "UPDATE keys SET expires_at = expires_at + 1 WHERE key = CAST('k3' AS BLOB)",
        "UPDATE keys SET type = 2 WHERE key = CAST('k7' AS BLOB)",
        "UPDATE keys SET key = CAST('K7' AS BLOB) WHERE key = CAST('k7' AS BLOB)",
        "UPDATE keys SET slot = slot + (1 << 20) WHERE key = CAST('k7' AS BLOB)",
        "DELETE FROM keys WHERE key = CAST('k7' AS BLOB)",
        "UPDATE meta SET key_count = 2999",
        "UPDATE meta SET expiring_count = 999",
        "UPDATE meta SET digest = zeroblob(16)",
        "UPDATE meta SET key_seed = key_seed + 1",
        "UPDATE settings SET value = x'31'",
        "DELETE FROM settings",
        "DROP INDEX keys_by_expiry",
    };
    char why[600] = "";

    for (unsigned i = 0; i < sizeof damage / sizeof damage[0]; i++) {
        remove_file("a.db");
        make_database();
        ck_assert_msg(verify(why, sizeof why) == 0, "%s", why);
        run_sql(damage[i]);
        ck_assert_msg(verify(why, sizeof why) == HF_E_CORRUPT, "%s", damage[i]);
        if (i < 5) { /* what a row says is in the digest */
            struct hf_store_info info;

            ck_assert_int_eq(hf_store_verify_digest(path_of("a.db"), NULL, &info, NULL, NULL, why, sizeof why),
                             HF_E_CORRUPT);
        }
        ck_assert_ptr_nonnull(strstr(why, "a.db"));
    }
}
END_TEST

/* An index that holds another time than the table: rows would expire at different moments on different nodes. */
START_TEST(test_verify_finds_an_index_that_differs_from_its_table)
{
    char why[600] = "";

    make_database();
    run_sql("CREATE TABLE aside AS SELECT * FROM sqlite_schema WHERE name = 'keys_by_expiry';"
            "UPDATE keys SET expires_at = expires_at + 1 WHERE key = CAST('k3' AS BLOB);"
            "PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE name = 'keys_by_expiry'");
    run_sql("UPDATE keys SET expires_at = expires_at - 1 WHERE key = CAST('k3' AS BLOB)");
    run_sql("PRAGMA writable_schema = ON; INSERT INTO sqlite_schema SELECT * FROM aside; DROP TABLE aside");
    ck_assert_int_eq(verify(why, sizeof why), HF_E_CORRUPT);
    ck_assert_ptr_nonnull(strstr(why, "keys_by_expiry"));
}
END_TEST

START_TEST(test_verify_finds_damaged_pages)
{
    char why[600] = "";
    uint8_t junk[4096];
    FILE *f;

    make_database();
    memset(junk, 0xa5, sizeof junk);
    f = fopen(path_of("a.db"), "r+");
    fseek(f, 20 * 4096, SEEK_SET);
    fwrite(junk, 1, sizeof junk, f);
    fclose(f);
    ck_assert_int_eq(verify(why, sizeof why), HF_E_CORRUPT);
    ck_assert_ptr_nonnull(strstr(why, "a.db"));
    ck_assert_int_eq(truncate(path_of("a.db"), 30 * 4096), 0);
    ck_assert_int_eq(verify(why, sizeof why), HF_E_CORRUPT);
}
END_TEST

START_TEST(test_rebase_changes_the_configuration_and_nothing_else)
{
    struct hf_store_info before, after;
    struct hf_store *s;
    char why[600] = "";

    make_database();
    ck_assert_int_eq(hf_store_inspect(path_of("a.db"), NULL, &before, why, sizeof why), 0);
    ck_assert_msg(hf_store_rebase(path_of("a.db"), NULL, hf_slice_str("one member"), why, sizeof why) == 0, "%s", why);
    ck_assert(!file_exists("a.db-wal"));
    ck_assert(!file_exists("a.db-journal"));
    ck_assert_msg(hf_store_verify(path_of("a.db"), NULL, &after, NULL, NULL, why, sizeof why) == 0, "%s", why);
    ck_assert(hf_slice_eq(after.meta.configuration, hf_slice_str("one member")));
    ck_assert_uint_eq(after.meta.configuration_index, 3);
    ck_assert_uint_eq(after.meta.applied_index, 3);
    ck_assert_mem_eq(after.meta.digest, before.meta.digest, 16);
    ck_assert_mem_eq(after.meta.history, before.meta.history, 16);
    ck_assert_uint_eq(after.level, 2);
    hf_store_info_free(&before);
    hf_store_info_free(&after);
    s = open_store();
    ck_assert(has(s, "k1"));
    ck_assert(hf_slice_eq(hf_store_meta(s)->configuration, hf_slice_str("one member")));
    hf_store_close(s);
    ck_assert_int_eq(hf_store_rebase(path_of("b.db"), NULL, hf_slice_str("x"), why, sizeof why), HF_E_NOENT);
    ck_assert(!file_exists("b.db"));
}
END_TEST

/* The text about a damaged state names the file and ends with the command for this very directory. */
START_TEST(test_damage_names_the_file_and_the_command_that_repairs_it)
{
    static const char *const damage[] = {"DELETE FROM meta", "DROP TABLE keys", "PRAGMA user_version = 0",
                                         "PRAGMA application_id = 1"};
    char why[600] = "", command[200];

    snprintf(command, sizeof command, "holdfast repair --dir %s --from-peers", dir);
    for (unsigned i = 0; i < 4; i++) {
        remove_file("a.db");
        make_database();
        run_sql(damage[i]);
        ck_assert_msg(try_open(why, sizeof why) == HF_E_CORRUPT, "%s", damage[i]);
        ck_assert_ptr_eq(strstr(why, path_of("a.db")), why);
        ck_assert_ptr_nonnull(strstr(why, command));
        ck_assert_str_eq(strstr(why, command), command);
    }
}
END_TEST

Suite *suite_rest(void)
{
    Suite *suite = suite_create("rest");
    TCase *tc = tcase_create("rest");

    tcase_add_checked_fixture(tc, make_dir, remove_dir);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, test_inspect_and_verify_leave_no_trace);
    tcase_add_test(tc, test_verify_can_be_given_up);
    tcase_add_test(tc, test_path_with_any_character_is_that_path);
    tcase_add_test(tc, test_inspect_refuses_what_it_cannot_see_whole);
    tcase_add_test(tc, test_verify_finds_every_difference_from_what_meta_says);
    tcase_add_test(tc, test_verify_finds_an_index_that_differs_from_its_table);
    tcase_add_test(tc, test_verify_finds_damaged_pages);
    tcase_add_test(tc, test_rebase_changes_the_configuration_and_nothing_else);
    tcase_add_test(tc, test_damage_names_the_file_and_the_command_that_repairs_it);
    suite_add_tcase(suite, tc);
    return suite;
}
