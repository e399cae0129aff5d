/* test_store.c: the store against a naive model, across cache sizes, commits, losses and restarts; scans; expiry;
 * errors. */
#include "fixture.h"
#include "model.h"

#include "base/mem.h"
#include "store/internal.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- against the model --------------------------------------------------------------------------- */

static void same_state(struct hf_store *a, struct hf_store *b)
{
    const struct hf_store_meta *x = hf_store_meta(a), *y = hf_store_meta(b);

    ck_assert_uint_eq(x->applied_index, y->applied_index);
    ck_assert_uint_eq(x->applied_term, y->applied_term);
    ck_assert_int_eq(x->log_time_ms, y->log_time_ms);
    ck_assert_uint_eq(x->configuration_index, y->configuration_index);
    ck_assert(hf_slice_eq(x->configuration, y->configuration));
    ck_assert_mem_eq(x->digest, y->digest, 16);
    ck_assert_mem_eq(x->history, y->history, 16);
    ck_assert_uint_eq(x->keys, y->keys);
}

/* A store that evicts, writes back, commits, is lost and restarted at random gives the same answers, digest, history
 * and counts, entry for entry, as the model and as a store that keeps everything in memory. */
static void run_model(uint64_t seed, unsigned group_bits)
{
    struct model *m = hf_malloc(sizeof *m);
    struct hf_store *a, *b;
    unsigned n_entries = 150 + (unsigned)(seed % 5) * 100;
    struct hf_prng p;

    remove_file("a.db");
    remove_file("b.db");
    hf_prng_seed(&p, seed);
    model_init(m, seed);
    /* a: everything stays in the cache. b: nearly nothing does. */
    a = open_with("a.db", 0, 0);
    b = open_with("b.db", 20000 + hf_prng_below(&p, 100000), 1000 + hf_prng_below(&p, 30000));
    if (group_bits != 0) {
        hf_store_narrow_groups(a, group_bits);
        hf_store_narrow_groups(b, group_bits);
    }
    while (m->index < n_entries) {
        model_apply(m, a);
        while (hf_store_meta(b)->applied_index < m->index) {
            uint64_t before = hf_store_meta(b)->applied_index, kind = hf_prng_below(&p, 100);
            model_apply(m, b);
            ck_assert_uint_eq(hf_store_meta(b)->applied_index, before + 1);
            if (kind < 10) {
                hf_store_work(b, hf_prng_below(&p, 100));
            } else if (kind < 15) {
                for (unsigned i = 0; kind == 14 && !hf_store_prepare_commit(b, 1); i++)
                    ck_assert_uint_lt(i, 32);
                ck_assert_int_eq(hf_store_commit(b), 0);
                ck_assert_uint_eq(hf_store_durable_index(b), before + 1);
                ck_assert_uint_eq(hf_store_dirty_bytes(b), 0);
            } else if (kind < 18) { /* a crash: back to the last commit, and again */
                uint64_t durable = hf_store_durable_index(b);
                hf_store_abandon(b);
                b = open_with("b.db", 20000 + hf_prng_below(&p, 100000), 1000 + hf_prng_below(&p, 30000));
                b->group_mask = a->group_mask;
                ck_assert_uint_eq(hf_store_meta(b)->applied_index, durable);
            } else if (kind < 19) { /* a clean restart */
                hf_store_close(b);
                b = open_with("b.db", 30000, 5000);
                b->group_mask = a->group_mask;
                ck_assert_uint_eq(hf_store_meta(b)->applied_index, before + 1);
            }
        }
        same_state(a, b);
        if (hf_prng_below(&p, 16) == 0)
            model_compare(m, a);
        if (hf_prng_below(&p, 8) == 0)
            model_compare(m, b);
        store_check(a);
        store_check(b);
        ck_assert_uint_le(b->cache.bytes, b->cache_bytes_max + 512 * 1024);
    }
    ck_assert(hf_store_digest_is_right(a));
    ck_assert(hf_store_digest_is_right(b));
    same_state(a, b);
    model_compare(m, a);
    model_compare(m, b);
    hf_store_close(a);
    hf_store_close(b);
    hf_free(m);
}

START_TEST(test_random_entries_match_the_model_whatever_the_cache_does)
{
    const char *seeds = getenv("HF_STORE_SEEDS");

    for (uint64_t seed = 1; seed <= (seeds ? (uint64_t)atoi(seeds) : 30u); seed++)
        run_model(seed, 0);
}
END_TEST

/* With 8 scan positions for all keys every insert collides and every position holds many keys. */
START_TEST(test_random_entries_match_the_model_when_positions_collide)
{
    for (uint64_t seed = 1000; seed < 1010; seed++)
        run_model(seed, 3);
}
END_TEST

/* ---- single facts -------------------------------------------------------------------------------- */

START_TEST(test_empty_store_has_nothing_at_index_0)
{
    struct hf_store *s = open_store();
    static const uint8_t zero[16];

    ck_assert_uint_eq(hf_store_meta(s)->applied_index, 0);
    ck_assert_uint_eq(hf_store_count(s), 0);
    ck_assert_mem_eq(hf_store_meta(s)->digest, zero, 16);
    ck_assert_int_eq(hf_store_next_due_ms(s), 0);
    ck_assert(!has(s, "x"));
    ck_assert_int_eq(hf_store_commit(s), 0);
    hf_store_close(s);
}
END_TEST

START_TEST(test_files_are_not_readable_by_everyone)
{
    struct hf_store *s = open_store();
    static const char *const names[] = {"a.db", "a.db-wal", "a.db-shm"};
    char path[128];
    struct stat st;

    begin(s, 1);
    put(s, "k", "v", 0);
    end(s);
    ck_assert_int_eq(hf_store_commit(s), 0);
    for (unsigned i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        ck_assert_int_eq(stat(path, &st), 0);
        ck_assert_int_eq(st.st_mode & 0027, 0);
    }
    hf_store_close(s);
}
END_TEST

START_TEST(test_log_time_never_goes_back)
{
    struct hf_store *s = open_store();

    begin(s, 1000);
    put(s, "k", "v", 1500);
    end(s);
    begin(s, 500);
    ck_assert_int_eq(hf_store_log_time_ms(s), 1000);
    end(s);
    begin(s, 1499);
    ck_assert(has(s, "k"));
    end(s);
    begin(s, 1500); /* dead at its expiry, before it is deleted */
    ck_assert(!has(s, "k"));
    ck_assert_uint_eq(hf_store_count(s), 1);
    ck_assert(!hf_store_del(s, hf_slice_str("k")));
    ck_assert_uint_eq(hf_store_count(s), 0);
    end(s);
    hf_store_close(s);
    s = open_store();
    ck_assert_int_eq(hf_store_log_time_ms(s), 1500);
    hf_store_close(s);
}
END_TEST

START_TEST(test_expiry_goes_by_time_then_key_and_stops_at_the_limit)
{
    struct hf_store *s = open_store();
    char key[32];

    begin(s, 1);
    for (unsigned i = 0; i < 50; i++) {
        snprintf(key, sizeof key, "k%02u", (i * 7) % 50);
        put(s, key, "v", 100);
    }
    put(s, "early", "v", 99);
    put(s, "late", "v", 1000);
    put(s, "never", "v", 0);
    end(s);
    ck_assert_int_eq(hf_store_commit(s), 0); /* half of them stay as they are in the database ... */
    begin(s, 2);
    for (unsigned i = 0; i < 50; i += 2) { /* ... the others are dirty again */
        snprintf(key, sizeof key, "k%02u", i);
        put(s, key, "w", 100);
    }
    end(s);
    ck_assert_int_eq(hf_store_next_due_ms(s), 99);
    begin(s, 100);
    ck_assert_uint_eq(hf_store_expire(s, 20), 20);
    ck_assert_uint_eq(hf_store_count(s), 33);
    end(s);
    hf_store_u64((uint8_t *)key, 0);
    for (unsigned i = 0; i < 50; i++) { /* gone: "early" and k00 .. k18 */
        struct cell *cell;
        struct row *r;
        struct hf_slice k;
        snprintf(key, sizeof key, "k%02u", i);
        k = hf_slice_str(key);
        cell = cache_find(&s->cache, hf_store_hash_key(s, k), k);
        r = cell ? NULL : store_load(s, hf_store_hash_key(s, k), k);
        ck_assert_int_eq(cell ? cell->row->present : r != NULL, i >= 19);
        row_free(r);
    }
    begin(s, 100);
    ck_assert_uint_eq(hf_store_expire(s, 20), 20);
    end(s);
    begin(s, 100);
    ck_assert_uint_eq(hf_store_expire(s, 20), 11);
    end(s);
    ck_assert_int_eq(hf_store_next_due_ms(s), 1000);
    ck_assert_uint_eq(hf_store_count(s), 2);
    ck_assert_uint_eq(hf_store_count_expiring(s), 1);
    ck_assert(hf_store_digest_is_right(s));
    hf_store_close(s);
}
END_TEST

/* The bound of the next expiry survives a restart, and a key whose expiry was taken away is not deleted. */
START_TEST(test_persisted_key_outlives_its_old_expiry)
{
    struct hf_store *s = open_store();

    begin(s, 1);
    put(s, "a", "v", 50);
    put(s, "b", "v", 60);
    end(s);
    hf_store_close(s);
    s = open_store();
    ck_assert_int_eq(hf_store_next_due_ms(s), 50);
    begin(s, 2);
    hf_store_touch(s, hf_slice_str("a"), 3, 0);
    end(s);
    begin(s, 55);
    ck_assert_uint_eq(hf_store_expire(s, 20), 0);
    end(s);
    ck_assert(has(s, "a"));
    ck_assert_int_eq(hf_store_next_due_ms(s), 60);
    hf_store_close(s);
}
END_TEST

struct scanned {
    struct hf_buf keys;
    unsigned n, stop_after;
};

static bool collect(void *data, struct hf_slice key, const struct hf_row *row)
{
    struct scanned *sc = data;

    ck_assert_int_eq(row->type, HF_TYPE_STRING);
    hf_buf_put(&sc->keys, key.ptr, key.len);
    hf_buf_put_u8(&sc->keys, ' ');
    return ++sc->n != sc->stop_after;
}

/* Keys present from the first call to the last are seen, whatever else comes and goes between the calls, also when
 * the calls go to different stores (a failover) and one of them was restarted. */
START_TEST(test_scan_sees_every_key_that_stays_through_changes_and_failover)
{
    for (unsigned bits = 0; bits <= 5; bits += 5) {
        struct hf_store *s[2];
        struct scanned sc = {0};
        uint64_t cursor = 0;
        char key[32];
        unsigned turn = 0;
        struct hf_prng p;

        remove_file("a.db");
        remove_file("b.db");
        hf_prng_seed(&p, bits + 1);
        s[0] = open_with("a.db", 0, 0);
        s[1] = open_with("b.db", 20000, 2000);
        for (unsigned k = 0; k < 2; k++) {
            if (bits != 0)
                hf_store_narrow_groups(s[k], bits);
            begin(s[k], 1);
            for (unsigned i = 0; i < 500; i++) {
                snprintf(key, sizeof key, "stay%u", i);
                put(s[k], key, "v", 0);
                snprintf(key, sizeof key, "go%u", i);
                put(s[k], key, "v", 0);
            }
            end(s[k]);
        }
        do {
            unsigned n_before = sc.n;
            cursor = hf_store_scan(s[turn++ % 2], cursor, 10, collect, &sc);
            ck_assert(cursor == 0 || sc.n >= n_before + 10);
            for (unsigned j = 0; j < 10; j++) {
                uint64_t r = hf_prng_next(&p);
                for (unsigned k = 0; k < 2; k++) {
                    begin(s[k], 1);
                    snprintf(key, sizeof key, "go%u", (unsigned)(r % 500));
                    hf_store_del(s[k], hf_slice_str(key));
                    snprintf(key, sizeof key, "come%u", (unsigned)(r % 1000));
                    put(s[k], key, "v", 0);
                    snprintf(key, sizeof key, "stay%u", (unsigned)(r % 500));
                    put(s[k], key, "changed", 0);
                    end(s[k]);
                }
            }
        } while (cursor != 0);
        hf_buf_put_u8(&sc.keys, 0);
        for (unsigned i = 0; i < 500; i++) {
            snprintf(key, sizeof key, "stay%u ", i);
            ck_assert_ptr_nonnull(strstr((char *)sc.keys.data, key));
        }
        hf_buf_free(&sc.keys);
        same_state(s[0], s[1]);
        hf_store_close(s[0]);
        hf_store_close(s[1]);
    }
}
END_TEST

START_TEST(test_scan_that_is_stopped_goes_on_without_a_gap)
{
    struct hf_store *s = open_store();
    struct scanned all = {0}, parts = {0};
    uint64_t cursor = 0;
    char key[32];

    begin(s, 1);
    for (unsigned i = 0; i < 40; i++) {
        snprintf(key, sizeof key, "k%u", i);
        put(s, key, "v", 0);
    }
    end(s);
    ck_assert_uint_eq(hf_store_scan(s, 0, 1000, collect, &all), 0);
    do {
        parts.stop_after = parts.n + 3;
        cursor = hf_store_scan(s, cursor, 1000, collect, &parts);
    } while (cursor != 0);
    ck_assert_uint_eq(all.n, 40);
    ck_assert(hf_slice_eq(hf_buf_slice(&all.keys), hf_buf_slice(&parts.keys)));
    ck_assert_uint_eq(hf_store_scan(s, UINT64_MAX, 10, collect, &all), 0);
    ck_assert_uint_eq(all.n, 40);
    hf_buf_free(&all.keys);
    hf_buf_free(&parts.keys);
    hf_store_close(s);
}
END_TEST

START_TEST(test_random_key_is_live_and_reaches_every_key)
{
    struct hf_store *s = open_store();
    struct hf_slice key;
    struct hf_prng p;
    bool seen[10] = {false};

    ck_assert(!hf_store_random(s, 1, &key));
    begin(s, 1);
    put(s, "dead", "v", 1);
    end(s);
    ck_assert(!hf_store_random(s, UINT64_MAX, &key));
    begin(s, 1);
    for (char i[] = "0"; i[0] <= '9'; i[0]++)
        put(s, i, "v", 0);
    end(s);
    hf_prng_seed(&p, 7);
    for (unsigned i = 0; i < 2000; i++) {
        ck_assert(hf_store_random(s, hf_prng_next(&p), &key));
        ck_assert_uint_eq(key.len, 1);
        seen[key.ptr[0] - '0'] = true;
    }
    for (unsigned i = 0; i < 10; i++)
        ck_assert(seen[i]);
    hf_store_close(s);
}
END_TEST

START_TEST(test_digest_depends_on_every_part_of_a_row_and_not_on_the_way_there)
{
    struct hf_store *s = open_store();
    struct hf_row row = {HF_TYPE_STRING, 7, 0, hf_slice_str("bc")};
    uint8_t digest[5][16];

    for (unsigned i = 0; i < 5; i++) {
        begin(s, 1);
        row = (struct hf_row){HF_TYPE_STRING, 7, 0, hf_slice_str("bc")};
        switch (i) {
        case 1:
            row.version = 8;
            break;
        case 2:
            row.expires_at_ms = 9;
            break;
        case 3:
            row.value = hf_slice_str("bd");
            break;
        }
        hf_store_del(s, hf_slice_str("a"));
        hf_store_put(s, hf_slice_str(i == 4 ? "ab" : "a"), &row);
        if (i == 4) { /* the same bytes, cut elsewhere */
            row.value = hf_slice_str("c");
            hf_store_put(s, hf_slice_str("ab"), &row);
        }
        end(s);
        memcpy(digest[i], hf_store_meta(s)->digest, 16);
        for (unsigned j = 0; j < i; j++)
            ck_assert_mem_ne(digest[i], digest[j], 16);
    }
    begin(s, 1);
    hf_store_clear(s);
    row = (struct hf_row){HF_TYPE_STRING, 7, 0, hf_slice_str("bc")};
    hf_store_put(s, hf_slice_str("z"), &row);
    hf_store_put(s, hf_slice_str("a"), &row);
    hf_store_del(s, hf_slice_str("z"));
    end(s);
    ck_assert_mem_eq(hf_store_meta(s)->digest, digest[0], 16);
    hf_store_close(s);
}
END_TEST

START_TEST(test_history_depends_on_the_bytes_and_order_of_entries)
{
    struct hf_store *s[3];
    static const char *const entries[3][2] = {{"x", "y"}, {"y", "x"}, {"x", "z"}};
    static const char *const names[] = {"a.db", "b.db", "c.db"};

    for (unsigned i = 0; i < 3; i++) {
        s[i] = open_with(names[i], 0, 0);
        for (unsigned j = 0; j < 2; j++) {
            begin(s[i], 1);
            hf_store_end(s[i], hf_slice_str(entries[i][j]));
        }
        for (unsigned j = 0; j < i; j++)
            ck_assert_mem_ne(hf_store_meta(s[i])->history, hf_store_meta(s[j])->history, 16);
    }
    for (unsigned i = 0; i < 3; i++)
        hf_store_close(s[i]);
}
END_TEST

/* What a marker snapshot states is the meta of the last commit, whatever was applied since. */
START_TEST(test_durable_meta_stays_at_the_last_commit)
{
    struct hf_store *s = open_store();
    const struct hf_store_meta *d = hf_store_durable_meta(s);

    begin(s, 10);
    put(s, "a", "v", 0);
    hf_store_set_configuration(s, 1, hf_slice_str("one"));
    end(s);
    ck_assert_uint_eq(d->applied_index, 0);
    ck_assert_int_eq(hf_store_commit(s), 0);
    begin(s, 20);
    put(s, "b", "v", 0);
    hf_store_set_configuration(s, 2, hf_slice_str("two"));
    end(s);
    ck_assert_uint_eq(d->applied_index, 1);
    ck_assert_uint_eq(d->keys, 1);
    ck_assert_int_eq(d->log_time_ms, 10);
    ck_assert(hf_slice_is(d->configuration, "one"));
    ck_assert(hf_slice_is(hf_store_meta(s)->configuration, "two"));
    hf_store_abandon(s);
    s = open_store();
    ck_assert_uint_eq(hf_store_meta(s)->applied_index, 1);
    ck_assert(hf_slice_is(hf_store_meta(s)->configuration, "one"));
    ck_assert(has(s, "a"));
    ck_assert(!has(s, "b"));
    hf_store_close(s);
}
END_TEST

START_TEST(test_large_values_are_not_kept_clean_and_come_back_whole)
{
    struct hf_store *s = open_with("a.db", 1u << 20, 1u << 20);
    size_t n = 3u << 20;
    char *value = hf_malloc(n + 1);
    struct hf_row row;

    memset(value, 'x', n);
    value[n] = 0;
    begin(s, 1);
    put(s, "large", value, 0);
    end(s);
    ck_assert_uint_lt(s->cache.bytes, 1u << 20);
    ck_assert_int_eq(hf_store_commit(s), 0);
    ck_assert(hf_store_get(s, hf_slice_str("large"), &row));
    ck_assert_uint_eq(row.value.len, n);
    ck_assert_mem_eq(row.value.ptr, value, n);
    ck_assert_uint_lt(s->cache.bytes, 1u << 20);
    ck_assert(hf_store_peek(s, hf_slice_str("large"), &row));
    begin(s, 1);
    hf_store_touch(s, hf_slice_str("large"), 9, 100);
    end(s);
    ck_assert(hf_store_get(s, hf_slice_str("large"), &row));
    ck_assert_uint_eq(row.value.len, n);
    ck_assert_uint_eq(row.version, 9);
    ck_assert(hf_store_digest_is_right(s));
    hf_store_close(s);
    hf_free(value);
}
END_TEST

/* ---- size ---------------------------------------------------------------------------------------- */

/* The open transaction asks for its commit before the WAL gets large, and the file is cut back afterwards. */
START_TEST(test_wal_stays_within_its_bound)
{
    struct hf_store *s = open_with("a.db", 4u << 20, 1u << 20);
    char value[1000], key[32], path[128];
    struct stat st;
    off_t largest = 0, peak = 0;
    unsigned n_commits = 0;

    memset(value, 'v', sizeof value - 1);
    value[sizeof value - 1] = 0;
    snprintf(path, sizeof path, "%s/a.db-wal", dir);
    for (unsigned i = 0; i < 120000; i++) {
        begin(s, 1);
        snprintf(key, sizeof key, "key:%u", (unsigned)(i * 2654435761u) % 60000);
        put(s, key, value, 0);
        end(s);
        hf_store_work(s, 1000);
        if (hf_store_wants_commit(s)) {
            n_commits++;
            store_flush_all(s);
            peak = stat(path, &st) == 0 && st.st_size > peak ? st.st_size : peak;
            ck_assert_int_eq(hf_store_commit(s), 0);
            ck_assert_int_eq(stat(path, &st), 0);
            largest = st.st_size > largest ? st.st_size : largest;
        }
    }
    ck_assert_uint_gt(n_commits, 1);
    ck_assert_int_le(largest, 34 << 20); /* after its commit: it was cut off */
    ck_assert_int_lt(peak, 128 << 20);
    ck_assert_int_eq(hf_store_commit(s), 0);
    hf_store_close(s);
}
END_TEST

/* Preparing leaves little for the commit, ends also when changes come in faster than it works, and changes nothing
 * that can be seen. */
START_TEST(test_prepared_commit_has_little_left_to_write)
{
    struct hf_store *s = open_store();
    char key[32];
    unsigned steps = 0;

    begin(s, 1);
    for (unsigned i = 0; i < 20000; i++) {
        snprintf(key, sizeof key, "key:%u", i);
        put(s, key, "value", 0);
    }
    end(s);
    ck_assert(!hf_store_prepare_commit(s, 100));
    while (!hf_store_prepare_commit(s, 100))
        ck_assert_uint_lt(++steps, 32);
    ck_assert_uint_le(s->cache.dirty_bytes, 256u << 10);
    ck_assert_uint_eq(hf_store_durable_index(s), 0);
    ck_assert_int_eq(hf_store_commit(s), 0);
    steps = 0;
    do { /* 2000 changes a step, 25 rows written by each */
        begin(s, 1);
        for (unsigned i = 0; i < 2000; i++) {
            snprintf(key, sizeof key, "key:%u", (steps * 2000 + i) % 20000);
            put(s, key, "other", 0);
        }
        end(s);
        ck_assert_uint_lt(++steps, 34);
    } while (!hf_store_prepare_commit(s, 100));
    ck_assert_int_eq(hf_store_commit(s), 0);
    ck_assert(hf_store_digest_is_right(s));
    hf_store_close(s);
}
END_TEST

/* ---- errors -------------------------------------------------------------------------------------- */

/* A full disk poisons the store: nothing has an effect any more, and a restart finds the last commit. */
START_TEST(test_full_disk_poisons_and_the_last_commit_survives)
{
    struct hf_store *s = open_with("a.db", 100000, 10000);
    char value[2000], key[32];
    const char *text;
    unsigned i;

    memset(value, 'v', sizeof value - 1);
    value[sizeof value - 1] = 0;
    begin(s, 1);
    put(s, "first", "v", 0);
    end(s);
    ck_assert_int_eq(hf_store_commit(s), 0);
    sqlite3_exec(s->db, "PRAGMA max_page_count = 50", NULL, NULL, NULL);
    for (i = 0; i < 1000 && hf_store_error(s, NULL) == 0; i++) {
        begin(s, 1);
        snprintf(key, sizeof key, "k%u", i);
        put(s, key, value, 0);
        end(s);
    }
    ck_assert_uint_lt(i, 1000);
    ck_assert_int_eq(hf_store_error(s, &text), HF_E_NOSPC);
    ck_assert_ptr_nonnull(strstr(text, "a.db"));
    /* no effect, no crash, the same error */
    begin(s, 1);
    put(s, "x", "v", 0);
    ck_assert(!has(s, "first"));
    ck_assert(!hf_store_del(s, hf_slice_str("first")));
    hf_store_touch(s, hf_slice_str("first"), 1, 0);
    hf_store_clear(s);
    ck_assert_uint_eq(hf_store_expire(s, 20), 0);
    end(s);
    hf_store_work(s, 1000);
    ck_assert_int_eq(hf_store_commit(s), HF_E_NOSPC);
    hf_store_close(s);
    s = open_store();
    ck_assert_uint_eq(hf_store_meta(s)->applied_index, 1);
    ck_assert(has(s, "first"));
    ck_assert_uint_eq(hf_store_count(s), 1);
    ck_assert(hf_store_digest_is_right(s));
    hf_store_close(s);
}
END_TEST

START_TEST(test_failed_entry_is_dropped_whole)
{
    struct hf_store *s = open_store();

    begin(s, 1);
    put(s, "a", "v", 0);
    end(s);
    ck_assert_int_eq(hf_store_commit(s), 0);
    begin(s, 1);
    put(s, "b", "v", 0);
    hf_store_fail(s, HF_E_CORRUPT, "a bad entry");
    ck_assert_int_eq(hf_store_error(s, NULL), HF_E_CORRUPT);
    hf_store_close(s);
    s = open_store();
    ck_assert_uint_eq(hf_store_meta(s)->applied_index, 1);
    ck_assert(!has(s, "b"));
    hf_store_close(s);
}
END_TEST

START_TEST(test_files_that_are_not_ours_are_refused_untouched)
{
    char why[512], path[128];
    FILE *f;
    struct stat before, after;

    snprintf(path, sizeof path, "%s/a.db", dir);
    f = fopen(path, "w");
    for (unsigned i = 0; i < 1000; i++)
        fputs("not a database ", f);
    fclose(f);
    ck_assert_int_eq(try_open(why, sizeof why), HF_E_CORRUPT);
    ck_assert_ptr_nonnull(strstr(why, "a.db"));

    remove_file("a.db");
    run_sql("CREATE TABLE keys (a); PRAGMA user_version = 1");
    stat(path, &before);
    ck_assert_int_eq(try_open(why, sizeof why), HF_E_CORRUPT);
    ck_assert_ptr_nonnull(strstr(why, "not one of Holdfast's"));
    stat(path, &after);
    ck_assert_int_eq(before.st_size, after.st_size);
    ck_assert_int_eq(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
}
END_TEST

START_TEST(test_newer_schema_or_digest_is_refused_as_such)
{
    char why[512];

    hf_store_close(open_store());
    run_sql("PRAGMA user_version = 2");
    ck_assert_int_eq(try_open(why, sizeof why), HF_E_VERSION);
    ck_assert_ptr_nonnull(strstr(why, "newer release"));
    run_sql("PRAGMA user_version = 1; UPDATE meta SET digest_version = 2");
    ck_assert_int_eq(try_open(why, sizeof why), HF_E_VERSION);
    run_sql("UPDATE meta SET digest_version = 1");
    ck_assert_int_eq(try_open(why, sizeof why), 0);
}
END_TEST

START_TEST(test_missing_tables_or_meta_are_damage)
{
    static const char *const damage[] = {"DROP TABLE meta", "DELETE FROM meta", "DROP TABLE keys",
                                         "UPDATE meta SET digest = x'00'", "ALTER TABLE keys RENAME COLUMN slot TO s"};
    char why[512];

    for (unsigned i = 0; i < 5; i++) {
        remove_file("a.db");
        hf_store_close(open_store());
        run_sql(damage[i]);
        ck_assert_msg(try_open(why, sizeof why) == HF_E_CORRUPT, "%s", damage[i]);
        ck_assert_ptr_nonnull(strstr(why, "a.db"));
    }
}
END_TEST

/* Damage inside the file is met later: as an error that stops the store, never as an answer. */
START_TEST(test_damaged_pages_are_found_by_the_check_and_poison_when_met)
{
    struct hf_store *s = open_store();
    char path[128], key[32], why[512];
    uint8_t junk[4096];
    FILE *f;
    struct stat st;

    begin(s, 1);
    for (unsigned i = 0; i < 5000; i++) {
        snprintf(key, sizeof key, "k%u", i);
        put(s, key, "some value of some length", 0);
    }
    end(s);
    ck_assert_int_eq(hf_store_commit(s), 0);
    ck_assert_int_eq(hf_store_check(s, why, sizeof why), 0);
    hf_store_close(s);
    snprintf(path, sizeof path, "%s/a.db", dir);
    ck_assert_int_eq(stat(path, &st), 0);
    memset(junk, 0xa5, sizeof junk);
    f = fopen(path, "r+");
    for (long page = 6; page < st.st_size / 4096; page++) {
        fseek(f, page * 4096, SEEK_SET);
        fwrite(junk, 1, sizeof junk, f);
    }
    fclose(f);
    s = open_store();
    ck_assert_int_eq(hf_store_check(s, why, sizeof why), HF_E_CORRUPT);
    for (unsigned i = 0; i < 5000; i++) {
        snprintf(key, sizeof key, "k%u", i);
        has(s, key);
    }
    ck_assert_int_eq(hf_store_error(s, NULL), HF_E_CORRUPT);
    hf_store_close(s);
}
END_TEST

struct order {
    char text[1024];
    size_t used;
};

static bool note_key(void *data, struct hf_slice key, const struct hf_row *row)
{
    struct order *o = data;

    (void)row;
    memcpy(o->text + o->used, key.ptr, key.len);
    o->used += key.len;
    return true;
}

/* A store whose first entry is this configuration, with the keys a..z; then closed and opened again. */
static void scan_order(const char *name, const char *configuration, struct order *o)
{
    struct hf_store *s = open_with(name, 0, 0);

    begin(s, 1);
    hf_store_set_configuration(s, 1, hf_slice_str(configuration));
    end(s);
    begin(s, 2);
    for (char c = 'a'; c <= 'z'; c++) {
        char key[2] = {c, 0};

        put(s, key, "v", 0);
    }
    end(s);
    hf_store_close(s);
    s = open_with(name, 0, 0);
    ck_assert(has(s, "a"));
    ck_assert(has(s, "z"));
    memset(o, 0, sizeof *o);
    ck_assert_uint_eq(hf_store_scan(s, 0, 100, note_key, o), 0);
    ck_assert_uint_eq(o->used, 26);
    hf_store_close(s);
}

/* The seed of the keys' hash comes with the cluster's first entry: the same on all nodes, another in each cluster. */
START_TEST(test_scan_order_is_the_clusters_own)
{
    struct order a, b, c;

    scan_order("a.db", "cluster one", &a);
    scan_order("b.db", "cluster one", &b);
    scan_order("c.db", "cluster two", &c);
    ck_assert_mem_eq(a.text, b.text, 26);
    ck_assert_mem_ne(a.text, c.text, 26);
}
END_TEST

Suite *suite_store(void)
{
    Suite *suite = suite_create("store");
    TCase *tc = tcase_create("store");

    tcase_add_checked_fixture(tc, make_dir, remove_dir);
    tcase_set_timeout(tc, 300);
    tcase_add_test(tc, test_empty_store_has_nothing_at_index_0);
    tcase_add_test(tc, test_files_are_not_readable_by_everyone);
    tcase_add_test(tc, test_log_time_never_goes_back);
    tcase_add_test(tc, test_scan_order_is_the_clusters_own);
    tcase_add_test(tc, test_expiry_goes_by_time_then_key_and_stops_at_the_limit);
    tcase_add_test(tc, test_persisted_key_outlives_its_old_expiry);
    tcase_add_test(tc, test_scan_sees_every_key_that_stays_through_changes_and_failover);
    tcase_add_test(tc, test_scan_that_is_stopped_goes_on_without_a_gap);
    tcase_add_test(tc, test_random_key_is_live_and_reaches_every_key);
    tcase_add_test(tc, test_digest_depends_on_every_part_of_a_row_and_not_on_the_way_there);
    tcase_add_test(tc, test_history_depends_on_the_bytes_and_order_of_entries);
    tcase_add_test(tc, test_durable_meta_stays_at_the_last_commit);
    tcase_add_test(tc, test_large_values_are_not_kept_clean_and_come_back_whole);
    tcase_add_test(tc, test_wal_stays_within_its_bound);
    tcase_add_test(tc, test_prepared_commit_has_little_left_to_write);
    tcase_add_test(tc, test_full_disk_poisons_and_the_last_commit_survives);
    tcase_add_test(tc, test_failed_entry_is_dropped_whole);
    tcase_add_test(tc, test_files_that_are_not_ours_are_refused_untouched);
    tcase_add_test(tc, test_newer_schema_or_digest_is_refused_as_such);
    tcase_add_test(tc, test_missing_tables_or_meta_are_damage);
    tcase_add_test(tc, test_damaged_pages_are_found_by_the_check_and_poison_when_met);
    tcase_add_test(tc, test_random_entries_match_the_model_whatever_the_cache_does);
    tcase_add_test(tc, test_random_entries_match_the_model_when_positions_collide);
    suite_add_tcase(suite, tc);
    return suite;
}
