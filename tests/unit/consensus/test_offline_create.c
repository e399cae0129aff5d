/* A restored state laid down as a new cluster of one voter, offline. */
#include "offline_fixture.h"

static void build_backup(struct offline_place *p)
{
    offline_write_file(p, "/backup.db", "a state at 70");
    if (p->world)
        ck_assert_int_eq(p->fs->sync_dir(p->fs, "/"), 0);
}

static int create(struct offline_place *p, const char *word, uint64_t seed)
{
    p->why[0] = 0;
    return hf_offline_create(p->env, &p->loop, p->dir, 4, "d:1", word, 70, 6, "/backup.db", seed, p->why,
                             sizeof p->why);
}

static void check_created(struct offline_place *p)
{
    struct hf_marker marker;
    struct hf_offline_summary s;
    const uint8_t *data;
    uint64_t size;
    int rc;

    s = offline_look(p, &rc);
    ck_assert_msg(rc == 0, "%s", p->why);
    ck_assert_uint_eq(s.node_id, 4);
    ck_assert(s.is_formed);
    ck_assert_uint_eq(s.term, 6);
    ck_assert_uint_eq(s.vote, 0);
    ck_assert_uint_eq(s.first_index, 71);
    ck_assert_uint_eq(s.last_index, 70);
    ck_assert_uint_eq(s.last_term, 6);
    ck_assert_uint_eq(s.generation, 1);
    ck_assert_uint_eq(s.marker_index, 70);
    ck_assert_uint_eq(s.marker_term, 6);
    ck_assert_uint_eq(s.configuration_index, 70);
    ck_assert_uint_eq(s.n_members, 1);
    ck_assert_uint_eq(s.members[0].id, 4);
    ck_assert_str_eq(s.members[0].address, "d:1");
    ck_assert_str_ne(s.incarnation, "00000000000000000000000000000000");
    ck_assert_int_eq(hf_marker_load(p->fs, p->dir, &marker, p->why, sizeof p->why), 0);
    ck_assert(!marker.install_pending);
    hf_marker_free(&marker);
    if (p->world) {
        ck_assert(hf_fake_fs_peek(p->disk, "/d/state-1.db", &data, &size));
        ck_assert(hf_slice_eq(hf_slice(data, (size_t)size), hf_slice_str("a state at 70")));
        ck_assert(!offline_has_file(p, "/backup.db"));
    }
}

START_TEST(test_create_lays_down_a_cluster_of_one)
{
    struct hf_buf expected = {0};
    struct hf_marker marker;
    struct hf_offline_summary s;
    struct offline_place p;
    int rc;

    offline_open_fake(&p, 1);
    build_backup(&p);
    ck_assert_msg(create(&p, "", 9) == 0, "%s", p.why);
    check_created(&p);
    s = offline_look(&p, &rc);
    hf_offline_configuration(4, "d:1", 9, &expected);
    ck_assert_int_eq(hf_marker_load(p.fs, p.dir, &marker, p.why, sizeof p.why), 0);
    ck_assert(hf_slice_eq(hf_buf_slice(&marker.configuration), hf_buf_slice(&expected)));
    ck_assert_str_ne(s.cluster_id, "00000000000000000000000000000000");
    hf_marker_free(&marker);
    hf_buf_free(&expected);
    offline_check_leads_alone(&p, 4, 70, 71);
    offline_close(&p);
}
END_TEST

START_TEST(test_create_draws_a_new_cluster_or_takes_the_word)
{
    char ids[4][33];

    for (int i = 0; i < 4; i++) {
        struct offline_place p;
        struct hf_offline_summary s;
        int rc;

        offline_open_fake(&p, 1);
        build_backup(&p);
        ck_assert_int_eq(create(&p, i < 2 ? "" : "prod", (uint64_t)i), 0);
        s = offline_look(&p, &rc);
        memcpy(ids[i], s.cluster_id, sizeof ids[i]);
        offline_close(&p);
    }
    ck_assert_str_ne(ids[0], ids[1]);
    ck_assert_str_eq(ids[2], "838c796609fc2ed34eafc8437f8ddc34");
    ck_assert_str_eq(ids[2], ids[3]);
}
END_TEST

START_TEST(test_create_touches_nothing_that_is_there)
{
    struct offline_place p;
    char names[100];
    uint64_t changes;

    offline_open_fake(&p, 1);
    offline_build(&p);
    build_backup(&p);
    changes = hf_fake_fs_ops(p.disk, HF_FAKE_WRITE | HF_FAKE_TRUNCATE | HF_FAKE_ALLOCATE);
    ck_assert_int_eq(create(&p, "", 9), HF_E_EXISTS);
    ck_assert_ptr_nonnull(strstr(p.why, "is not empty"));
    ck_assert_uint_eq(hf_fake_fs_ops(p.disk, HF_FAKE_WRITE | HF_FAKE_TRUNCATE | HF_FAKE_ALLOCATE), changes);
    ck_assert_int_eq(p.fs->unlink(p.fs, "/backup.db"), 0);
    snprintf(p.dir, sizeof p.dir, "/new");
    ck_assert_int_eq(create(&p, "", 9), HF_E_INVALID);
    offline_names(&p, "/", names, sizeof names);
    ck_assert_ptr_null(strstr(names, "new"));
    offline_close(&p);
}
END_TEST

/* A restore that was killed while it unpacked: no node may begin there as a new one. */
START_TEST(test_half_unpacked_state_is_not_started_on)
{
    struct offline_place p;
    struct offline_node n;
    char path[100];

    offline_open_fake(&p, 1);
    ck_assert_int_eq(p.fs->mkdir(p.fs, p.dir), 0);
    snprintf(path, sizeof path, "%s/restore.db", p.dir);
    ck_assert_int_eq(hf_fs_write_small(p.fs, path, "half", 4), 0);
    ck_assert_int_eq(offline_open_node(&p, &n, 2), HF_E_AGAIN);
    ck_assert_msg(strstr(p.why, "holdfast restore") != NULL, "%s", p.why);
    ck_assert_int_eq(p.fs->unlink(p.fs, path), 0);
    ck_assert_msg(offline_open_node(&p, &n, 2) == 0, "%s", p.why);
    offline_close_node(&n);
    offline_close(&p);
}
END_TEST

/* The state may have been unpacked in the new directory itself. */
START_TEST(test_create_finds_the_state_within)
{
    struct offline_place p;

    offline_open_fake(&p, 1);
    ck_assert_int_eq(p.fs->mkdir(p.fs, "/d"), 0);
    offline_write_file(&p, "/d/state-restored", "a state at 70");
    ck_assert_msg(
        hf_offline_create(p.env, &p.loop, p.dir, 4, "d:1", "", 70, 6, "/d/state-restored", 9, p.why, sizeof p.why) == 0,
        "%s", p.why);
    check_created(&p);
    offline_close(&p);
}
END_TEST

static int act_create(struct offline_place *p, uint64_t seed)
{
    if (!offline_has_file(p, "/backup.db") && !hf_fake_fs_is_dead(p->disk))
        build_backup(p); /* the tool unpacks it again */
    return create(p, "", seed);
}

static enum offline_stage judge_create(struct offline_place *p)
{
    struct hf_offline_summary s;
    int rc;

    s = offline_look(p, &rc);
    (void)s;
    if (rc == HF_E_NOENT)
        return BEFORE;
    if (rc == HF_E_AGAIN) {
        offline_check_refused(p, "holdfast restore FILE --dir /d");
        return UNFINISHED;
    }
    if (offline_has_file(p, "/backup.db")) /* a rename across directories that the power loss half undid */
        ck_assert_int_eq(p->fs->unlink(p->fs, "/backup.db"), 0);
    check_created(p);
    return DONE;
}

static void finish_create(struct offline_place *p)
{
    offline_check_leads_alone(p, 4, 70, 71);
}

START_TEST(test_create_survives_a_crash_at_any_step)
{
    static const struct offline_crash_case cc = {build_backup, act_create, judge_create, finish_create};

    offline_crash_everywhere(&cc);
}
END_TEST

START_TEST(test_create_on_a_real_disk)
{
    char state[200];
    struct offline_place p;

    offline_open_real(&p);
    snprintf(state, sizeof state, "%s/state-restored", p.dir);
    offline_write_file(&p, state, "a state at 70");
    ck_assert_msg(hf_offline_create(p.env, &p.loop, p.dir, 4, "d:1", "", 70, 6, state, 9, p.why, sizeof p.why) == 0,
                  "%s", p.why);
    check_created(&p);
    offline_close(&p);
}
END_TEST

TCase *offline_create_case(void)
{
    TCase *t = tcase_create("create");

    tcase_set_timeout(t, 120);
    tcase_add_test(t, test_create_lays_down_a_cluster_of_one);
    tcase_add_test(t, test_create_draws_a_new_cluster_or_takes_the_word);
    tcase_add_test(t, test_create_touches_nothing_that_is_there);
    tcase_add_test(t, test_half_unpacked_state_is_not_started_on);
    tcase_add_test(t, test_create_finds_the_state_within);
    tcase_add_test(t, test_create_on_a_real_disk);
    tcase_add_test(t, test_create_survives_a_crash_at_any_step);
    return t;
}
