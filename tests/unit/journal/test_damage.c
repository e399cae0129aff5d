/* test_damage.c: damage is refused with a clear word and nothing is changed; what a power loss does is not. */
#include "fixture.h"

#include "base/mem.h"
#include "base/util.h"
#include "journal/format.h"

#include <stdio.h>

/* A log over several segments, with a truncation and a vote in it, at rest: the idle batch has published that all of it
 * is synced. The same seed always gives the same bytes. */
static void build(struct fixture *f, bool publish)
{
    fixture_init(f, 77, 16384);
    f->config.reserve_bytes = HF_JOURNAL_NO_RESERVE;
    fixture_must_open(f);
    fixture_append(f, 1, 40, 500);
    fixture_wait_durable(f, 40);
    hf_journal_set_vote(f->journal, 2, 3);
    fixture_run_ms(f, 50);
    hf_journal_truncate_suffix(f->journal, 31);
    f->durable = 30;
    fixture_append(f, 2, 40, 500);
    fixture_wait_durable(f, 70);
    fixture_append(f, 2, 5, 100);
    fixture_wait_durable(f, 75);
    if (publish)
        fixture_run_ms(f, 3000);
    fixture_crash(f, HF_FAKE_LOSS_ALL);
}

static void add_name(void *data, const char *name)
{
    hf_buf_printf(data, "%s\n", name);
}

/* Names of the files, one a line, with a final 0. */
static struct hf_buf list_files(struct fixture *f)
{
    struct hf_buf names = {0};

    ck_assert_int_eq(f->env->fs->list(f->env->fs, "/j", add_name, &names), HF_OK);
    hf_buf_put_u8(&names, 0);
    return names;
}

static uint32_t digest(struct fixture *f)
{
    struct hf_buf names = list_files(f);
    uint32_t crc = hf_crc32c(0, names.data, names.len);

    for (char *p = (char *)names.data, *end; (end = strchr(p, '\n')) != NULL; p = end + 1) {
        char path[100];
        const uint8_t *data;
        uint64_t size;

        snprintf(path, sizeof path, "/j/%.*s", (int)(end - p), p);
        ck_assert(hf_fake_fs_peek(f->disk, path, &data, &size));
        crc = hf_crc32c(crc, data, (size_t)size);
    }
    hf_buf_free(&names);
    return crc;
}

struct look {
    struct hf_journal_state state;
    uint64_t next;
    int rc;
    char why[1024];
};

static int take_look_entry(void *data, struct hf_log_entry *e)
{
    struct look *l = data;

    if (l->next != 0)
        ck_assert_uint_eq(e->index, l->next);
    ck_assert(fixture_entry_is_genuine(e));
    l->next = e->index + 1;
    return 0;
}

/* Looking changes nothing on disk; open must then find the same. */
static struct look look_at(struct fixture *f)
{
    uint32_t before = digest(f);
    struct look l = {0};

    l.rc = hf_journal_look(f->env->fs, "/j", &l.state, take_look_entry, &l, l.why, sizeof l.why);
    ck_assert_uint_eq(digest(f), before);
    return l;
}

static void check_look(const struct look *l, const struct fixture *f, int rc)
{
    ck_assert_int_eq(l->rc, rc);
    if (rc != HF_OK) {
        ck_assert_str_eq(l->why, f->why);
        return;
    }
    ck_assert_uint_eq(l->state.term, f->state.term);
    ck_assert_uint_eq(l->state.vote, f->state.vote);
    ck_assert_uint_eq(l->state.first_index, f->state.first_index);
    ck_assert_uint_eq(l->state.next_index, f->state.next_index);
    ck_assert_int_eq(l->state.torn_tail, f->state.torn_tail);
    if (l->state.next_index > l->state.first_index)
        ck_assert_uint_eq(l->next, l->state.next_index);
    else
        ck_assert_uint_eq(l->next, 0);
}

static void ignore_name(void *data, const char *name)
{
    (void)data;
    (void)name;
}

/* Whatever a power loss left: a look changes nothing and sees what the next start finds. */
START_TEST(look_sees_what_open_finds)
{
    int torn = 0, empty = 0;

    for (uint64_t n = 1; n < 120; n++) {
        struct fixture f;
        struct look l;

        fixture_init(&f, 500 + n, 16384);
        hf_fake_fs_crash_at(f.disk, HF_FAKE_CHANGES, n, HF_FAKE_LOSS_EACH);
        if (fixture_open(&f) == HF_OK) {
            hf_journal_set_vote(f.journal, 1, 2);
            for (int i = 0; i < 20 && !hf_fake_fs_is_dead(f.disk); i++) {
                fixture_append(&f, 1, 7, 300);
                fixture_run_ms(&f, 1);
                if (i == 10)
                    hf_journal_reset(f.journal, 500);
            }
        }
        fixture_crash(&f, HF_FAKE_LOSS_NOTHING);
        if (f.env->fs->list(f.env->fs, "/j", ignore_name, NULL) == HF_E_NOENT) {
            ck_assert_int_eq(hf_journal_look(f.env->fs, "/j", &l.state, NULL, NULL, l.why, sizeof l.why), HF_E_NOENT);
            fixture_free(&f);
            continue;
        }
        l = look_at(&f);
        check_look(&l, &f, fixture_open(&f));
        torn += l.state.torn_tail;
        empty += l.state.next_index == 1;
        fixture_free(&f);
    }
    ck_assert_int_gt(torn, 0);
    ck_assert_int_gt(empty, 0);
}
END_TEST

/* The word about damage names the command that brings the node back, with the data directory. */
START_TEST(damage_names_the_repair)
{
    struct fixture f;
    struct hf_journal_state state;
    struct hf_fs *fs;

    fixture_init(&f, 1, 16384);
    fs = f.env->fs;
    f.config.dir = "/data/journal";
    ck_assert_int_eq(fs->mkdir(fs, "/data"), 0);
    fixture_must_open(&f);
    fixture_append(&f, 1, 3, 10);
    fixture_wait_durable(&f, 3);
    fixture_close(&f);
    ck_assert_int_eq(fs->unlink(fs, "/data/journal/vote"), 0);
    ck_assert_int_eq(hf_journal_look(fs, "/data/journal", &state, NULL, NULL, f.why, sizeof f.why), HF_E_CORRUPT);
    ck_assert_ptr_nonnull(strstr(f.why, "/data/journal/vote is missing"));
    ck_assert_ptr_nonnull(strstr(f.why, "holdfast repair --dir /data --from-peers"));
    fixture_free(&f);
}
END_TEST

/* Open after one flipped bit: all of the log, or a refusal that names the file and touches nothing. */
static bool open_flipped(const char *name, uint64_t offset, unsigned bit)
{
    struct fixture f;
    char path[100];
    struct look look;
    uint32_t before;
    bool refused;
    int rc;

    build(&f, true);
    snprintf(path, sizeof path, "/j/%s", name);
    ck_assert(hf_fake_fs_flip_bit(f.disk, path, offset, bit));
    before = digest(&f);
    look = look_at(&f);
    rc = fixture_open(&f);
    check_look(&look, &f, rc);
    refused = rc != HF_OK;
    if (refused) {
        ck_assert_msg(rc == HF_E_CORRUPT, "%s+%lu: %s", name, offset, hf_strerror(rc));
        ck_assert_msg(strstr(f.why, name) != NULL, "%s is not named in: %s", name, f.why);
        ck_assert_uint_eq(digest(&f), before);
    } else {
        ck_assert_msg(f.state.next_index == 76, "%s+%lu: next index %lu", name, offset, f.state.next_index);
        ck_assert_uint_eq(f.state.term, 2);
        ck_assert_uint_eq(f.state.vote, 3);
        fixture_check_scan(&f, 1, 76);
    }
    fixture_free(&f);
    return refused;
}

START_TEST(one_flipped_bit_is_refused_or_harmless)
{
    struct fixture f;
    struct hf_buf names;
    struct hf_prng p;
    int refused = 0, n = 0;

    build(&f, true);
    names = list_files(&f);
    hf_prng_seed(&p, 5);
    for (char *at = (char *)names.data, *end; (end = strchr(at, '\n')) != NULL; at = end + 1) {
        char name[64], path[100];
        const uint8_t *data;
        uint64_t size;

        snprintf(name, sizeof name, "%.*s", (int)(end - at), at);
        snprintf(path, sizeof path, "/j/%s", name);
        ck_assert(hf_fake_fs_peek(f.disk, path, &data, &size));
        /* Every byte of the first header fields, then a sample of the rest. */
        for (uint64_t offset = 0; offset < size;
             offset += offset < 48 || (offset >= 4096 && offset < 4240) ? 1 : 1 + hf_prng_below(&p, 120)) {
            refused += open_flipped(name, offset, (unsigned)hf_prng_below(&p, 8));
            n++;
        }
    }
    hf_buf_free(&names);
    fixture_free(&f);
    ck_assert_int_gt(n, 500);
    ck_assert_int_gt(refused, n / 4); /* most bytes hold something */
}
END_TEST

/* Until the idle batch is written, rot in the very last batch looks like a torn tail: the known, bounded window. */
START_TEST(last_batch_before_publication_is_cut)
{
    struct fixture f;
    struct hf_buf names;
    const uint8_t *data;
    uint64_t size, last = 0;
    char *dot;
    char path[64];

    build(&f, false);
    names = list_files(&f);
    dot = strstr((char *)names.data, ".seg");
    for (char *next = dot; next != NULL; next = strstr(next + 1, ".seg"))
        dot = next;
    /* The newest file may be the spare: take the newest that holds a batch. */
    for (char *p = dot; p != NULL; p -= 21) {
        snprintf(path, sizeof path, "/j/%.20s", p - 16);
        ck_assert(hf_fake_fs_peek(f.disk, path, &data, &size));
        for (uint64_t at = 4096; at + 96 <= size; at += 8)
            if (memcmp(data + at, "HJB1", 4) == 0)
                last = at;
        if (last != 0)
            break;
    }
    ck_assert(hf_fake_fs_flip_bit(f.disk, path, last + 96 + 30, 0));
    fixture_must_open(&f);
    ck_assert(f.state.torn_tail);
    ck_assert_uint_eq(f.state.next_index, 71);
    fixture_check_scan(&f, 1, 71);
    hf_buf_free(&names);
    fixture_free(&f);
}
END_TEST

static void remove_file(struct fixture *f, const char *path)
{
    ck_assert_int_eq(f->env->fs->unlink(f->env->fs, path), HF_OK);
    ck_assert_int_eq(f->env->fs->sync_dir(f->env->fs, "/j"), HF_OK);
}

START_TEST(missing_files_are_named)
{
    struct fixture f;

    build(&f, true);
    remove_file(&f, "/j/0000000000000002.seg");
    ck_assert_int_eq(fixture_open(&f), HF_E_CORRUPT);
    ck_assert_ptr_nonnull(strstr(f.why, "0000000000000002.seg is missing"));
    fixture_free(&f);

    build(&f, true);
    remove_file(&f, "/j/vote");
    ck_assert_int_eq(fixture_open(&f), HF_E_CORRUPT);
    ck_assert_ptr_nonnull(strstr(f.why, "vote is missing"));
    fixture_free(&f);
}
END_TEST

/* A journal with nothing but its first segment: the missing vote is told from a creation that was cut short. */
START_TEST(missing_vote_beside_entries_is_refused)
{
    struct fixture f;

    fixture_init(&f, 3, 65536);
    fixture_must_open(&f);
    fixture_append(&f, 1, 3, 10);
    fixture_wait_durable(&f, 3);
    fixture_crash(&f, HF_FAKE_LOSS_ALL);
    remove_file(&f, "/j/vote");
    ck_assert_int_eq(fixture_open(&f), HF_E_CORRUPT);
    fixture_free(&f);
}
END_TEST

static void make_newer(struct fixture *f, const char *path, uint64_t offset, uint64_t crc_at)
{
    struct hf_file *file;
    uint8_t block[128];
    size_t got;
    struct hf_fs *fs = f->env->fs;

    ck_assert_int_eq(fs->open(fs, path, HF_FS_WRITE, &file), HF_OK);
    ck_assert_int_eq(fs->read(fs, file, offset, block, sizeof block, &got), HF_OK);
    block[crc_at == 92 ? 4 : 8] = 9; /* the version */
    hf_store_u32(block + crc_at, hf_crc32c(0, block, (size_t)crc_at));
    ck_assert_int_eq(fs->write(fs, file, offset, block, sizeof block), HF_OK);
    ck_assert_int_eq(fs->sync(fs, file), HF_OK);
    fs->close(fs, file);
}

START_TEST(newer_formats_are_told_from_damage)
{
    struct fixture f;

    build(&f, true);
    make_newer(&f, "/j/0000000000000001.seg", 0, 32);
    ck_assert_int_eq(fixture_open(&f), HF_E_VERSION);
    fixture_free(&f);
    build(&f, true);
    make_newer(&f, "/j/0000000000000001.seg", 4096, 92);
    ck_assert_int_eq(fixture_open(&f), HF_E_VERSION);
    fixture_free(&f);
    build(&f, true);
    make_newer(&f, "/j/vote", 0, 40);
    ck_assert_int_eq(fixture_open(&f), HF_E_VERSION);
    fixture_free(&f);
}
END_TEST

/* Where the log ends in segment 1, and its salt. */
static uint64_t end_of_log(struct fixture *f, uint64_t *salt)
{
    const uint8_t *data;
    uint64_t size, end = HF_JSEG_HEADER_BYTES;
    struct hf_jbatch b;

    ck_assert(hf_fake_fs_peek(f->disk, "/j/0000000000000001.seg", &data, &size));
    *salt = hf_load_u64(data + 24);
    while (hf_jbatch_decode(&b, data + end, (size_t)(size - end)) == HF_OK)
        end += HF_JBATCH_HEADER_BYTES + b.body_bytes;
    return end;
}

/* A torn write whose entry holds a good batch header that claims a later position: believed, it would turn the
 * power loss into damage. With everything right it is (only the journal itself could have written it); one wrong
 * field of those that a client cannot know, and it is a value like any other. */
static int open_with_imitation(uint64_t wrong_salt, uint64_t wrong_offset)
{
    struct fixture f;
    struct hf_log_entry *e;
    struct hf_jbatch fake = {.kind = HF_JBATCH_IDLE, .segment = 1, .generation = 1, .first_index = 5};
    uint64_t end, at;
    int rc;

    fixture_init(&f, 4, 65536);
    fixture_must_open(&f);
    fixture_append(&f, 1, 3, 100);
    fixture_wait_durable(&f, 3);
    fixture_run_ms(&f, 3000);
    end = end_of_log(&f, &fake.salt);
    at = end + HF_JBATCH_HEADER_BYTES + HF_JRECORD_BYTES;
    fake.salt += wrong_salt;
    fake.offset = fake.prev_end = at + wrong_offset;
    fake.durable_segment = 1;
    fake.durable_offset = at;
    e = hf_log_entry_new(HF_ENTRY_COMMAND, 4, 1, HF_JBATCH_HEADER_BYTES);
    hf_jbatch_encode(e->data, &fake);
    hf_journal_append(f.journal, &e, 1);
    hf_log_entry_unref(e);
    hf_fake_fs_crash_at(f.disk, HF_FAKE_SYNC, 1, HF_FAKE_LOSS_NOTHING);
    fixture_run_ms(&f, 100);
    ck_assert(hf_fake_fs_is_dead(f.disk));
    fixture_crash(&f, HF_FAKE_LOSS_NOTHING);
    /* The sector with the header of the real batch did not make it. */
    ck_assert(hf_fake_fs_flip_bit(f.disk, "/j/0000000000000001.seg", end + 50, 1));
    rc = fixture_open(&f);
    if (rc == HF_OK) {
        ck_assert_uint_eq(f.state.next_index, 4);
        ck_assert(f.state.torn_tail);
    }
    fixture_free(&f);
    return rc;
}

START_TEST(values_that_imitate_batches_are_not_believed)
{
    ck_assert_int_eq(open_with_imitation(0, 0), HF_E_CORRUPT); /* the test can fail */
    ck_assert_int_eq(open_with_imitation(1, 0), HF_OK);
    ck_assert_int_eq(open_with_imitation(0, 8), HF_OK);
}
END_TEST

START_TEST(crash_at_every_step_of_the_creation)
{
    bool died = true;

    for (uint64_t n = 1; died; n++) {
        for (int loss = HF_FAKE_LOSS_NOTHING; loss <= HF_FAKE_LOSS_EACH; loss++) {
            struct fixture f;
            int rc;

            fixture_init(&f, 100 + n, 16384);
            hf_fake_fs_crash_at(f.disk, HF_FAKE_CHANGES, n, (enum hf_fake_loss)loss);
            rc = fixture_open(&f);
            died = rc != HF_OK;
            if (died)
                ck_assert(hf_fake_fs_is_dead(f.disk));
            fixture_crash(&f, HF_FAKE_LOSS_NOTHING);
            fixture_must_open(&f);
            ck_assert_uint_eq(f.state.next_index, 1);
            fixture_append(&f, 1, 1, 10);
            fixture_wait_durable(&f, 1);
            fixture_free(&f);
        }
    }
}
END_TEST

Suite *damage_suite(void)
{
    Suite *s = suite_create("damage");
    TCase *t = tcase_create("damage");

    tcase_set_timeout(t, 120);
    tcase_add_test(t, one_flipped_bit_is_refused_or_harmless);
    tcase_add_test(t, look_sees_what_open_finds);
    tcase_add_test(t, damage_names_the_repair);
    tcase_add_test(t, last_batch_before_publication_is_cut);
    tcase_add_test(t, missing_files_are_named);
    tcase_add_test(t, missing_vote_beside_entries_is_refused);
    tcase_add_test(t, newer_formats_are_told_from_damage);
    tcase_add_test(t, values_that_imitate_batches_are_not_believed);
    tcase_add_test(t, crash_at_every_step_of_the_creation);
    suite_add_tcase(s, t);
    return s;
}
