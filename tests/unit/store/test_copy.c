/* test_copy.c: online copies: the state at one index whatever is written meanwhile, on real files, from another thread,
 * and on a disk that fails, fills up and loses power. */
#include "fixture.h"

#include "base/buf.h"
#include "base/mem.h"
#include "sim/disk.h"
#include "sim/vfs.h"
#include "store/internal.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define VFS "sim-copy"

/* One entry: n keys of a thousand bytes or so. */
static void write_some(struct hf_store *s, unsigned n, unsigned seed)
{
    char key[32], value[1001];

    memset(value, 'a' + (int)(seed % 26), sizeof value - 1);
    value[1000] = 0;
    begin(s, 1);
    for (unsigned i = 0; i < n; i++) {
        snprintf(key, sizeof key, "k%u", (seed * 7919 + i) % 20000);
        put(s, key, value, i % 5 ? 0 : 1000000);
    }
    end(s);
}

static void commit(struct hf_store *s)
{
    ck_assert_int_eq(hf_store_commit(s), 0);
}

static void check_copy(const char *path, const char *vfs, uint64_t index, const uint8_t digest[16])
{
    struct hf_store_info info;
    char why[600] = "";

    ck_assert_msg(hf_store_verify(path, vfs, &info, NULL, NULL, why, sizeof why) == 0, "%s", why);
    ck_assert_uint_eq(info.meta.applied_index, index);
    ck_assert_mem_eq(info.meta.digest, digest, 16);
    hf_store_info_free(&info);
}

/* The store goes on between the steps: entries, commits, checkpoints. */
START_TEST(test_copy_is_one_state_whatever_is_written_meanwhile)
{
    struct hf_store *s = open_with("a.db", 4u << 20, 1u << 20);
    struct hf_store_copy *c;
    uint64_t index, done_bytes = 0, total_bytes = 0, before = 0, wal_bytes;
    uint8_t digest[16], header[20];
    char why[600] = "";
    bool done = false;
    struct stat st;
    unsigned steps = 0;
    FILE *f;

    for (unsigned i = 0; i < 10; i++)
        write_some(s, 1000, i);
    commit(s);
    index = hf_store_durable_index(s);
    memcpy(digest, hf_store_durable_meta(s)->digest, 16);
    write_some(s, 10, 99); /* not committed: not in the copy */
    ck_assert_msg(hf_store_copy_open(path_of("a.db"), NULL, path_of("b.db"), &c, why, sizeof why) == 0, "%s", why);
    while (!done) {
        ck_assert_msg(hf_store_copy_step(c, 200000, &done) == 0, "%s", hf_store_copy_why(c));
        hf_store_copy_progress(c, &done_bytes, &total_bytes);
        ck_assert_uint_ge(done_bytes, before);
        ck_assert_uint_le(done_bytes, total_bytes);
        before = done_bytes;
        steps++;
        if (!done) {
            ck_assert_uint_le(file_size("a.db"), total_bytes); /* nothing newer gets into what is being read */
            write_some(s, 400, steps);
            commit(s);
            ck_assert_uint_eq(hf_store_durable_index(s), hf_store_meta(s)->applied_index);
        }
    }
    ck_assert_uint_gt(steps, 30);
    ck_assert_uint_eq(done_bytes, total_bytes);
    ck_assert_uint_eq(hf_store_copy_info(c)->meta.applied_index, index);
    ck_assert_uint_eq(hf_store_copy_info(c)->file_bytes, file_size("b.db"));
    ck_assert_uint_eq(hf_store_copy_info(c)->level, 1);
    hf_store_copy_close(c);
    check_copy(path_of("b.db"), NULL, index, digest);
    /* The WAL held all of it; the copy put it where it belongs, so that the store has little to do, and with the next
     * commit it is back within its bound. */
    ck_assert_uint_gt(file_size("a.db"), total_bytes + (4u << 20));
    wal_bytes = file_size("a.db-wal");
    ck_assert_uint_gt(wal_bytes, STORE_WAL_KEEP_BYTES);
    write_some(s, 10, 1);
    commit(s);
    ck_assert_uint_le(file_size("a.db-wal"), STORE_WAL_KEEP_BYTES);
    ck_assert(hf_store_digest_is_right(s));
    ck_assert_int_eq(hf_store_check(s, why, sizeof why), 0);
    /* A plain file, not for everyone, alone, that opens as a state of its own. */
    f = fopen(path_of("b.db"), "r");
    ck_assert_uint_eq(fread(header, 1, sizeof header, f), sizeof header);
    fclose(f);
    ck_assert_uint_eq(header[18], 1);
    ck_assert_uint_eq(header[19], 1);
    ck_assert_int_eq(stat(path_of("b.db"), &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0640);
    ck_assert(!file_exists("b.db-wal"));
    ck_assert(!file_exists("b.db-shm"));
    ck_assert(!file_exists("b.db-journal"));
    hf_store_close(s);
    s = open_with("b.db", 0, 0);
    ck_assert_uint_eq(hf_store_meta(s)->applied_index, index);
    ck_assert(hf_store_digest_is_right(s));
    write_some(s, 10, 1);
    commit(s);
    hf_store_close(s);
}
END_TEST

struct copying {
    struct hf_store_copy *copy;
    bool failed;
};

static void *copy_all(void *data)
{
    struct copying *c = data;
    bool done = false;

    while (!done && !c->failed)
        c->failed = hf_store_copy_step(c->copy, 100000, &done) != 0;
    return NULL;
}

/* As in a node: the copy has a thread of its own. */
START_TEST(test_copy_from_another_thread)
{
    struct hf_store *s = open_with("a.db", 4u << 20, 1u << 20);
    struct copying c = {0};
    uint8_t digest[16];
    char why[600] = "";
    uint64_t index;
    pthread_t thread;

    for (unsigned i = 0; i < 10; i++)
        write_some(s, 1000, i);
    commit(s);
    for (unsigned round = 0; round < 3; round++) {
        index = hf_store_durable_index(s);
        memcpy(digest, hf_store_durable_meta(s)->digest, 16);
        ck_assert_msg(hf_store_copy_open(path_of("a.db"), NULL, path_of("b.db"), &c.copy, why, sizeof why) == 0, "%s",
                      why);
        ck_assert_int_eq(pthread_create(&thread, NULL, copy_all, &c), 0);
        for (unsigned i = 0; i < 20; i++) {
            write_some(s, 300, round * 20 + i);
            commit(s);
        }
        ck_assert_int_eq(pthread_join(thread, NULL), 0);
        ck_assert_msg(!c.failed, "%s", hf_store_copy_why(c.copy));
        hf_store_copy_close(c.copy);
        check_copy(path_of("b.db"), NULL, index, digest);
        remove_file("b.db");
    }
    hf_store_close(s);
}
END_TEST

START_TEST(test_copy_that_is_closed_early_leaves_nothing)
{
    struct hf_store *s = open_store();
    struct hf_store_copy *c;
    char why[600] = "";
    bool done = false;

    write_some(s, 5000, 1);
    commit(s);
    for (unsigned steps = 0; steps < 3; steps++) {
        ck_assert_int_eq(hf_store_copy_open(path_of("a.db"), NULL, path_of("b.db"), &c, why, sizeof why), 0);
        for (unsigned i = 0; i < steps; i++)
            ck_assert_int_eq(hf_store_copy_step(c, 100000, &done), 0);
        ck_assert(!done);
        ck_assert(file_exists("b.db"));
        hf_store_copy_close(c);
        ck_assert(!file_exists("b.db"));
    }
    ck_assert(file_exists("a.db-wal")); /* closing a copy does nothing to the source */
    hf_store_close(s);
}
END_TEST

START_TEST(test_copy_touches_nothing_that_is_there)
{
    struct hf_store *s = open_store();
    struct hf_store_copy *c;
    char why[600] = "", far[200];
    FILE *f;

    write_some(s, 10, 1);
    commit(s);
    for (unsigned size = 0; size < 2; size++) {
        f = fopen(path_of("b.db"), "w");
        fwrite("x", 1, size, f);
        fclose(f);
        ck_assert_int_eq(hf_store_copy_open(path_of("a.db"), NULL, path_of("b.db"), &c, why, sizeof why), HF_E_EXISTS);
        ck_assert_ptr_null(c);
        ck_assert(file_exists("b.db"));
        ck_assert_uint_eq(file_size("b.db"), size);
    }
    ck_assert_ptr_nonnull(strstr(why, "b.db"));
    remove_file("b.db");
    ck_assert_int_eq(hf_store_copy_open(path_of("c.db"), NULL, path_of("b.db"), &c, why, sizeof why), HF_E_NOENT);
    ck_assert_ptr_nonnull(strstr(why, "c.db"));
    ck_assert(!file_exists("b.db"));
    ck_assert(!file_exists("c.db"));
    snprintf(far, sizeof far, "%s/none/b.db", dir);
    ck_assert_int_ne(hf_store_copy_open(path_of("a.db"), NULL, far, &c, why, sizeof why), 0);
    ck_assert_ptr_nonnull(strstr(why, "none/b.db"));
    hf_store_close(s);
}
END_TEST

/* ---- on the simulated disk ----------------------------------------------------------------------- */

struct world {
    struct hf_sim_disk *disk;
    struct hf_sim_vfs *vfs;
    struct hf_store *s;
};

static struct hf_store *open_sim(void)
{
    struct hf_store_config config = {
        .path = "/d/a.db", .vfs = VFS, .cache_bytes_max = 1u << 20, .dirty_bytes_max = 1u << 18};
    struct hf_store *s;
    char why[600] = "";

    ck_assert_msg(hf_store_open(&config, NULL, &s, why, sizeof why) == 0, "%s", why);
    return s;
}

static void world_init(struct world *w)
{
    struct hf_fs *fs;

    w->disk = hf_sim_disk_new();
    fs = hf_sim_disk_ops(w->disk);
    ck_assert_int_eq(fs->mkdir(fs, "/d"), 0);
    ck_assert_int_eq(fs->sync_dir(fs, "/"), 0);
    w->vfs = hf_sim_vfs_new(VFS, fs);
    w->s = open_sim();
    ck_assert_int_eq(fs->sync_dir(fs, "/d"), 0);
    for (unsigned i = 0; i < 4; i++)
        write_some(w->s, 500, i);
    commit(w->s);
}

static void world_free(struct world *w)
{
    hf_store_close(w->s);
    ck_assert_int_eq(hf_sim_disk_open_files(w->disk), 0);
    hf_sim_vfs_free(w->vfs);
    hf_sim_disk_free(w->disk);
}

/* The disk forgets what was not synced; what the connections still do is done to the old one. */
static void power_loss(struct world *w, struct hf_store_copy *c, struct hf_prng *prng)
{
    struct hf_sim_disk *after = hf_sim_disk_crash(w->disk, prng);

    hf_store_copy_close(c);
    hf_store_abandon(w->s);
    hf_sim_vfs_free(w->vfs);
    hf_sim_disk_free(w->disk);
    w->disk = after;
    w->vfs = hf_sim_vfs_new(VFS, hf_sim_disk_ops(after));
}

static bool is_on_disk(const struct world *w, const char *path)
{
    struct hf_fs *fs = hf_sim_disk_ops(w->disk);
    struct hf_file *f;

    if (fs->open(fs, path, HF_FS_READ, &f) != 0)
        return false;
    fs->close(fs, f);
    return true;
}

static struct hf_store_copy *open_copy(void)
{
    struct hf_store_copy *c;
    char why[600] = "";

    ck_assert_msg(hf_store_copy_open("/d/a.db", VFS, "/d/b.db", &c, why, sizeof why) == 0, "%s", why);
    return c;
}

/* R14: what was committed while a copy was open survives a power loss; so does the copy, once it is done. */
START_TEST(test_commits_and_copies_survive_a_power_loss)
{
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct hf_prng prng;
        struct hf_store_copy *c;
        uint64_t index, committed, steps;
        uint8_t digest[16];
        struct world w;
        bool done = false;

        hf_prng_seed(&prng, seed);
        world_init(&w);
        index = hf_store_durable_index(w.s);
        memcpy(digest, hf_store_durable_meta(w.s)->digest, 16);
        c = open_copy();
        steps = hf_prng_below(&prng, 40);
        for (uint64_t i = 0; i < steps && !done; i++) {
            ck_assert_int_eq(hf_store_copy_step(c, 150000, &done), 0);
            write_some(w.s, 100, (unsigned)(seed * 40 + i));
            if (hf_prng_below(&prng, 2) == 0)
                commit(w.s);
        }
        committed = hf_store_durable_index(w.s);
        power_loss(&w, c, &prng);
        w.s = open_sim();
        ck_assert_uint_eq(hf_store_meta(w.s)->applied_index, committed);
        ck_assert(hf_store_digest_is_right(w.s));
        if (done) {
            ck_assert(is_on_disk(&w, "/d/b.db"));
            check_copy("/d/b.db", VFS, index, digest);
        }
        world_free(&w);
    }
}
END_TEST

/* Every operation of the copy fails once: an error, no target, an unharmed store. */
START_TEST(test_copy_fails_cleanly_wherever_the_disk_fails)
{
    bool done = false;

    for (uint64_t n = 1; !done; n += 1 + n / 40) {
        struct hf_store_copy *c;
        char why[600] = "";
        struct world w;
        int rc;

        world_init(&w);
        hf_sim_disk_fail(w.disk, HF_SIM_ANY, n, n % 2 ? HF_E_IO : HF_E_NOSPC, false);
        rc = hf_store_copy_open("/d/a.db", VFS, "/d/b.db", &c, why, sizeof why);
        while (rc == 0 && !done)
            rc = hf_store_copy_step(c, 500000, &done);
        ck_assert(done == (rc == 0));
        if (c && rc != 0)
            ck_assert_int_ne(hf_store_copy_why(c)[0], 0);
        hf_sim_disk_fail(w.disk, HF_SIM_ANY, 0, 0, false);
        hf_store_copy_close(c);
        ck_assert(is_on_disk(&w, "/d/b.db") == done);
        if (done)
            check_copy("/d/b.db", VFS, hf_store_durable_index(w.s), hf_store_durable_meta(w.s)->digest);
        write_some(w.s, 100, (unsigned)n);
        commit(w.s);
        ck_assert(hf_store_digest_is_right(w.s));
        world_free(&w);
        ck_assert_uint_lt(n, 100000);
    }
}
END_TEST

START_TEST(test_copy_onto_a_full_disk_says_so)
{
    struct hf_store_copy *c;
    struct world w;
    bool done = false;
    int rc = 0;

    world_init(&w);
    hf_sim_disk_limit(w.disk, hf_sim_disk_used(w.disk) + (1u << 20));
    c = open_copy();
    while (rc == 0 && !done)
        rc = hf_store_copy_step(c, 100000, &done);
    ck_assert_int_eq(rc, HF_E_NOSPC);
    ck_assert_ptr_nonnull(strstr(hf_store_copy_why(c), "/d/b.db"));
    hf_store_copy_close(c);
    ck_assert(!is_on_disk(&w, "/d/b.db"));
    write_some(w.s, 10, 1); /* there is room again */
    commit(w.s);
    world_free(&w);
}
END_TEST

/* The simulator's disk and locks carry more than one connection: as on real files. */
START_TEST(test_copy_on_the_simulated_disk_is_one_state)
{
    struct hf_store_copy *c;
    struct hf_prng prng;
    uint64_t index;
    uint8_t digest[16];
    struct world w;
    bool done = false;

    hf_prng_seed(&prng, 1);
    world_init(&w);
    index = hf_store_durable_index(w.s);
    memcpy(digest, hf_store_durable_meta(w.s)->digest, 16);
    c = open_copy();
    for (unsigned i = 0; !done; i++) {
        ck_assert_int_eq(hf_store_copy_step(c, 50000, &done), 0);
        write_some(w.s, 500, i + 10);
        commit(w.s);
    }
    hf_store_copy_close(c);
    check_copy("/d/b.db", VFS, index, digest);
    power_loss(&w, NULL, &prng);
    check_copy("/d/b.db", VFS, index, digest);
    w.s = open_sim();
    ck_assert(hf_store_digest_is_right(w.s));
    world_free(&w);
}
END_TEST

Suite *suite_copy(void)
{
    Suite *suite = suite_create("copy");
    TCase *tc = tcase_create("copy");

    tcase_add_checked_fixture(tc, make_dir, remove_dir);
    tcase_set_timeout(tc, 300);
    tcase_add_test(tc, test_copy_is_one_state_whatever_is_written_meanwhile);
    tcase_add_test(tc, test_copy_from_another_thread);
    tcase_add_test(tc, test_copy_that_is_closed_early_leaves_nothing);
    tcase_add_test(tc, test_copy_touches_nothing_that_is_there);
    tcase_add_test(tc, test_copy_on_the_simulated_disk_is_one_state);
    tcase_add_test(tc, test_copy_onto_a_full_disk_says_so);
    tcase_add_test(tc, test_copy_fails_cleanly_wherever_the_disk_fails);
    tcase_add_test(tc, test_commits_and_copies_survive_a_power_loss);
    suite_add_tcase(suite, tc);
    return suite;
}
