/* Offline work on data directories: what a look tells, what recovering and wiping leave, and that a power loss at any
 * operation leaves a directory that starts as before, one that says how to go on, or one that is done. */
#include "offline_fixture.h"
#include "suites.h"

/* ---- looking -------------------------------------------------------------------------------------- */

START_TEST(test_look_tells_what_is_there_and_changes_nothing)
{
    struct hf_offline_summary s;
    struct offline_place p;
    int rc;

    offline_open_fake(&p, 1);
    offline_build(&p);
    s = offline_look(&p, &rc);
    ck_assert_msg(rc == 0, "%s", p.why);
    offline_check_old(&s);
    ck_assert_str_eq(s.name, "2");
    ck_assert_uint_eq(s.generation, 1);
    ck_assert_uint_eq(s.marker_index, 5);
    ck_assert_uint_eq(s.marker_term, 2);
    ck_assert_str_eq(s.state_path, "/d/state-1.db");
    ck_assert_uint_eq(s.members[1].id, 2);
    ck_assert_str_eq(s.members[1].name, "bee");
    ck_assert_str_eq(s.members[1].address, "b:1");
    ck_assert_str_eq(s.members[2].name, "3");
    ck_assert_str_eq(s.members[2].role, "voter");
    offline_close(&p);
}
END_TEST

/* An entry that is in the log alone, committed or not, counts; so does a copy that is half installed. */
START_TEST(test_look_takes_the_newest_configuration)
{
    static const char *const two[] = {"a:1#0000000000001111", "b:1#0000000000002222", NULL, "d:1#0000000000004444",
                                      "removed-5:0#0000000000000000"};
    static const int roles[] = {RAFT_VOTER, RAFT_VOTER, 0, RAFT_STANDBY, RAFT_SPARE};
    struct hf_marker marker = {
        .generation = 2, .install_pending = true, .index = 50, .term = 7, .configuration_index = 40};
    struct offline_part part = {.index = 12};
    struct hf_offline_summary s;
    struct offline_place p;
    int rc;

    offline_open_fake(&p, 1);
    offline_build(&p);
    offline_put_configuration(&part.bytes, two, roles, 5);
    offline_write_journal(&p, 1, 14, 3, &part, 1);
    s = offline_look(&p, &rc);
    ck_assert_msg(rc == 0, "%s", p.why);
    ck_assert_uint_eq(s.configuration_index, 12);
    ck_assert_uint_eq(s.n_members, 3);
    ck_assert_uint_eq(s.members[2].id, 4);
    ck_assert_str_eq(s.members[2].role, "standby");
    ck_assert_uint_eq(s.last_index, 14);
    ck_assert_uint_eq(s.last_term, 3);

    part.bytes.len = 0;
    offline_put_configuration(&marker.configuration, offline_three, NULL, 2);
    ck_assert_int_eq(hf_marker_save(p.fs, p.dir, &marker), 0);
    offline_write_file(&p, "/d/state-2.db", "the copy");
    s = offline_look(&p, &rc);
    ck_assert_msg(rc == 0, "%s", p.why);
    ck_assert_uint_eq(s.configuration_index, 40);
    ck_assert_uint_eq(s.n_members, 2);
    ck_assert_uint_eq(s.first_index, 51);
    ck_assert_uint_eq(s.last_index, 50);
    ck_assert_uint_eq(s.last_term, 7);
    ck_assert_str_eq(s.state_path, "/d/state-2.db");
    hf_marker_free(&marker);
    hf_buf_free(&part.bytes);
    offline_close(&p);
}
END_TEST

/* Each part damaged or missing in turn: the text names it and the command that repairs, the rest is still told. */
static const struct {
    const char *path;
    bool is_missing;
    int rc;
    const char *named, *command;
} damages[] = {
    {"/d/identity", false, HF_E_CORRUPT, "/d/identity", "holdfast repair --dir /d --from-peers --name NAME --join"},
    {"/d/identity", true, HF_E_CORRUPT, "/d/identity is missing", "holdfast repair --dir /d --from-peers --name NAME"},
    {"/d/CURRENT", false, HF_E_CORRUPT, "/d/CURRENT", "holdfast repair --dir /d --from-peers"},
    {"/d/CURRENT", true, HF_E_CORRUPT, "/d/CURRENT is missing", "holdfast repair --dir /d --from-peers"},
    {"/d/journal/0000000000000001.seg", false, HF_E_CORRUPT, "/d/journal/0000000000000001.seg",
     "holdfast repair --dir /d --from-peers"},
    {"/d/journal/vote", true, HF_E_CORRUPT, "/d/journal/vote", "holdfast repair --dir /d --from-peers"},
    {"/d/state-1.db", true, HF_E_CORRUPT, "/d/state-1.db", "holdfast repair --dir /d --from-peers"},
};

START_TEST(test_look_names_the_damage_and_the_repair)
{
    struct hf_offline_summary s;
    struct offline_place p;
    int rc;

    offline_open_fake(&p, 1);
    offline_build(&p);
    if (damages[_i].is_missing)
        ck_assert_int_eq(p.fs->unlink(p.fs, damages[_i].path), 0);
    else
        ck_assert(hf_fake_fs_flip_bit(p.disk, damages[_i].path, 30, 1));
    s = offline_look(&p, &rc);
    ck_assert_int_eq(rc, damages[_i].rc);
    ck_assert_msg(strstr(p.why, damages[_i].named) != NULL, "%s", p.why);
    ck_assert_msg(strstr(p.why, damages[_i].command) != NULL, "%s", p.why);
    if (!strstr(damages[_i].path, "identity"))
        ck_assert_uint_eq(s.store_id, OLD_STORE);
    if (!strstr(damages[_i].path, "journal"))
        ck_assert_uint_eq(s.last_index, OLD_LAST);
    if (!strstr(damages[_i].path, "CURRENT"))
        ck_assert_uint_eq(s.marker_index, 5);
    offline_close(&p);
}
END_TEST

/* A journal that is new though the node was a member, or that does not reach the marker. */
START_TEST(test_look_tells_parts_that_do_not_fit)
{
    struct hf_marker marker = {.generation = 1, .index = OLD_LAST + 1, .term = 3, .configuration_index = 1};
    struct offline_place p;
    int rc;

    offline_open_fake(&p, 1);
    offline_build(&p);
    offline_put_configuration(&marker.configuration, offline_three, NULL, 3);
    ck_assert_int_eq(hf_marker_save(p.fs, p.dir, &marker), 0);
    (void)offline_look(&p, &rc);
    ck_assert_int_eq(rc, HF_E_CORRUPT);
    ck_assert_msg(strstr(p.why, "1..10") != NULL, "%s", p.why);
    ck_assert_ptr_nonnull(strstr(p.why, "holdfast repair --dir /d --from-peers"));
    marker.index = OLD_LAST;
    ck_assert_int_eq(hf_marker_save(p.fs, p.dir, &marker), 0);
    (void)offline_look(&p, &rc);
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(p.fs->unlink(p.fs, "/d/journal/vote"), 0);
    ck_assert_int_eq(p.fs->unlink(p.fs, "/d/journal/0000000000000001.seg"), 0);
    ck_assert_int_eq(p.fs->unlink(p.fs, "/d/journal/0000000000000002.seg"), 0);
    (void)offline_look(&p, &rc);
    ck_assert_int_eq(rc, HF_E_CORRUPT);
    ck_assert_msg(strstr(p.why, "/d/journal is empty") != NULL, "%s", p.why);
    hf_marker_free(&marker);
    offline_close(&p);
}
END_TEST

START_TEST(test_nothing_is_done_while_a_node_runs)
{
    struct hf_offline_summary s;
    struct hf_file *lock;
    struct offline_place p;
    uint64_t changes;
    int rc;

    offline_open_fake(&p, 1);
    offline_build(&p);
    ck_assert_int_eq(p.fs->open(p.fs, "/d/lock", HF_FS_WRITE, &lock), 0);
    ck_assert_int_eq(p.fs->lock(p.fs, lock), 0);
    changes = hf_fake_fs_ops(p.disk, HF_FAKE_CHANGES);
    (void)offline_look(&p, &rc);
    ck_assert_int_eq(rc, HF_E_LOCKED);
    ck_assert_int_eq(hf_offline_recover(p.env, &p.loop, p.dir, "", 1, false, &s, p.why, sizeof p.why), HF_E_LOCKED);
    ck_assert_int_eq(hf_offline_recover(p.env, &p.loop, p.dir, "", 1, true, &s, p.why, sizeof p.why), HF_E_LOCKED);
    ck_assert_int_eq(hf_offline_rejoin(p.env, p.dir, "", "", 1, p.why, sizeof p.why), HF_E_LOCKED);
    ck_assert_ptr_nonnull(strstr(p.why, "a node runs on /d"));
    p.fs->close(p.fs, lock);
    ck_assert_uint_eq(hf_fake_fs_ops(p.disk, HF_FAKE_CHANGES), changes);
    offline_close(&p);
}
END_TEST

START_TEST(test_directories_without_a_node_are_left_alone)
{
    struct hf_offline_summary s;
    struct offline_place p;
    char names[100];
    int rc;

    offline_open_fake(&p, 1);
    for (int i = 0; i < 2; i++) {
        (void)offline_look(&p, &rc);
        ck_assert_int_eq(rc, HF_E_NOENT);
        ck_assert_int_eq(hf_offline_recover(p.env, &p.loop, p.dir, "", 1, false, &s, p.why, sizeof p.why), HF_E_NOENT);
        ck_assert_int_eq(hf_offline_rejoin(p.env, p.dir, "", "", 1, p.why, sizeof p.why), HF_E_NOENT);
        ck_assert_int_eq(hf_offline_rejoin(p.env, p.dir, "x", "a:1", 1, p.why, sizeof p.why), HF_E_NOENT);
        offline_names(&p, p.dir, names, sizeof names);
        ck_assert_str_eq(names, "");
        ck_assert_int_eq(p.fs->mkdir(p.fs, p.dir), i == 0 ? 0 : HF_E_EXISTS);
    }
    offline_close(&p);
}
END_TEST

/* ---- recover -------------------------------------------------------------------------------------- */

static int recover(struct offline_place *p, const char *address, uint64_t seed, bool dry_run,
                   struct hf_offline_summary *before)
{
    p->why[0] = 0;
    return hf_offline_recover(p->env, &p->loop, p->dir, address, seed, dry_run, before, p->why, sizeof p->why);
}

static void check_recovered(struct offline_place *p, const char *address)
{
    struct hf_offline_summary s;
    int rc;

    s = offline_look(p, &rc);
    ck_assert_msg(rc == 0, "%s", p->why);
    ck_assert_uint_eq(s.node_id, 2);
    ck_assert_uint_eq(s.store_id, OLD_STORE);
    ck_assert_str_eq(s.cluster_id, "c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1");
    ck_assert_str_ne(s.incarnation, "1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c");
    ck_assert_uint_gt(s.term, OLD_TERM);
    ck_assert_uint_eq(s.vote, 0);
    ck_assert_uint_eq(s.last_term, s.term);
    ck_assert_uint_ge(s.last_index, OLD_LAST + 1);
    ck_assert_uint_eq(s.configuration_index, s.last_index);
    ck_assert_uint_eq(s.n_members, 1);
    ck_assert_uint_eq(s.members[0].id, 2);
    ck_assert_str_eq(s.members[0].name, "bee");
    ck_assert_str_eq(s.members[0].address, address);
    ck_assert_str_eq(s.members[0].role, "voter");
}

static int take_last(void *data, struct hf_log_entry *e)
{
    struct hf_buf *b = data;

    b->len = 0;
    hf_buf_put(b, e->data, e->len);
    return 0;
}

/* Member 3 is gone, but its id stays taken: a spare that is nobody. */
static void check_id_is_kept(struct offline_place *p)
{
    struct raft_configuration conf;
    struct hf_journal_state state;
    struct hf_buf last = {0};
    struct raft_buffer buf;

    ck_assert_int_eq(
        hf_journal_look(p->fs, offline_path(p, "journal"), &state, take_last, &last, p->why, sizeof p->why), 0);
    buf = (struct raft_buffer){last.data, last.len};
    raft_configuration_init(&conf);
    ck_assert_int_eq(raft_configuration_decode(&buf, &conf), 0);
    ck_assert_uint_eq(conf.n, 2);
    ck_assert_uint_eq(conf.servers[1].id, 3);
    ck_assert_int_eq(conf.servers[1].role, RAFT_SPARE);
    ck_assert_str_eq(conf.servers[1].address, "removed-3:0#0000000000000000");
    raft_configuration_close(&conf);
    hf_buf_free(&last);
}

START_TEST(test_recover_makes_the_survivor_a_cluster_of_its_own)
{
    struct hf_offline_summary before;
    struct hf_identity id;
    struct offline_place p;
    uint64_t changes;
    int rc;

    offline_open_fake(&p, 1);
    offline_build(&p);
    changes = hf_fake_fs_ops(p.disk, HF_FAKE_CHANGES);
    ck_assert_msg(recover(&p, "", 7, true, &before) == 0, "%s", p.why);
    ck_assert_uint_eq(hf_fake_fs_ops(p.disk, HF_FAKE_CHANGES), changes);
    offline_check_old(&before);
    ck_assert_ptr_nonnull(strstr(p.why, "ends at index 10 (term 2)"));
    ck_assert_ptr_nonnull(strstr(p.why, "sure up to 5"));
    ck_assert_ptr_nonnull(strstr(p.why, "1 (a:1, voter), 3 (c:1, voter)."));
    before = offline_look(&p, &rc);
    offline_check_old(&before);

    ck_assert_msg(recover(&p, "", 7, false, &before) == 0, "%s", p.why);
    offline_check_old(&before);
    ck_assert_ptr_nonnull(strstr(p.why, "ends at index 10 (term 2)"));
    check_recovered(&p, "b:1");
    ck_assert_int_eq(hf_identity_load(p.fs, p.dir, &id, p.why, sizeof p.why), 0);
    ck_assert_uint_eq(id.n_members, 1);
    check_id_is_kept(&p);
    offline_check_leads_alone(&p, 2, 5, OLD_LAST + 1);
    offline_close(&p);
}
END_TEST

START_TEST(test_recover_takes_another_address_and_another_incarnation)
{
    struct hf_offline_summary before, one, two;
    struct offline_place p;
    int rc;

    offline_open_fake(&p, 1);
    offline_build(&p);
    ck_assert_int_eq(recover(&p, "nowhere", 7, false, &before), HF_E_INVALID);
    ck_assert_int_eq(recover(&p, "a:1,b:1", 7, false, &before), HF_E_INVALID);
    before = offline_look(&p, &rc);
    offline_check_old(&before);
    ck_assert_int_eq(recover(&p, "new:9", 7, false, &before), 0);
    check_recovered(&p, "new:9");
    one = offline_look(&p, &rc);
    ck_assert_int_eq(recover(&p, "", 8, false, &before), 0); /* keeps the address it has */
    check_recovered(&p, "new:9");
    two = offline_look(&p, &rc);
    ck_assert_str_ne(one.incarnation, two.incarnation);
    ck_assert_uint_eq(two.term, one.term + 1);
    offline_close(&p);
}
END_TEST

/* A copy that is half installed is installed first: nothing of the old log may follow it. */
START_TEST(test_recover_completes_an_install)
{
    struct hf_marker marker = {
        .generation = 2, .install_pending = true, .index = 50, .term = 7, .configuration_index = 40};
    struct hf_offline_summary s, before;
    struct offline_place p;
    int rc;

    offline_open_fake(&p, 1);
    offline_build(&p);
    offline_put_configuration(&marker.configuration, offline_three, NULL, 3);
    ck_assert_int_eq(hf_marker_save(p.fs, p.dir, &marker), 0);
    offline_write_file(&p, "/d/state-2.db", "the copy");
    ck_assert_msg(recover(&p, "", 7, false, &before) == 0, "%s", p.why);
    ck_assert_uint_eq(before.last_index, 50);
    s = offline_look(&p, &rc);
    ck_assert_int_eq(rc, 0);
    ck_assert_uint_eq(s.first_index, 51);
    ck_assert_uint_eq(s.last_index, 51);
    ck_assert_uint_eq(s.term, 8);
    ck_assert_uint_eq(s.configuration_index, 51);
    hf_marker_free(&marker);
    ck_assert_int_eq(hf_marker_load(p.fs, p.dir, &marker, p.why, sizeof p.why), 0);
    ck_assert(!marker.install_pending);
    hf_marker_free(&marker);
    offline_check_leads_alone(&p, 2, 50, 51);
    offline_close(&p);
}
END_TEST

START_TEST(test_recover_refuses_what_has_nothing_to_give)
{
    struct hf_offline_summary before;
    struct hf_identity id = offline_old_identity();
    struct offline_place p;
    uint64_t changes;

    offline_open_fake(&p, 1);
    offline_build(&p);
    for (int what = 0; what < 5; what++) {
        id = offline_old_identity();
        id.is_removed = what == 0;
        id.is_joining = what == 1;
        id.is_formed = what != 1 && what != 2;
        if (what >= 3)
            id.unfinished = what == 3 ? HF_UNFINISHED_REJOIN : HF_UNFINISHED_CREATE;
        ck_assert_int_eq(hf_identity_save(p.fs, p.dir, &id), 0);
        changes = hf_fake_fs_ops(p.disk, HF_FAKE_CHANGES);
        ck_assert_int_eq(recover(&p, "", 7, false, &before), HF_E_INVALID);
        ck_assert_int_ne(p.why[0], 0);
        ck_assert_uint_eq(hf_fake_fs_ops(p.disk, HF_FAKE_CHANGES), changes);
    }
    id = offline_old_identity();
    ck_assert_int_eq(hf_identity_save(p.fs, p.dir, &id), 0);
    ck_assert(hf_fake_fs_flip_bit(p.disk, "/d/journal/0000000000000001.seg", 30, 1));
    changes = hf_fake_fs_ops(p.disk, HF_FAKE_CHANGES);
    ck_assert_int_eq(recover(&p, "", 7, false, &before), HF_E_CORRUPT);
    ck_assert_uint_eq(hf_fake_fs_ops(p.disk, HF_FAKE_CHANGES), changes);
    offline_close(&p);
}
END_TEST

static int act_recover(struct offline_place *p, uint64_t seed)
{
    struct hf_offline_summary before;

    return recover(p, "", seed, false, &before);
}

static enum offline_stage judge_recover(struct offline_place *p)
{
    struct hf_offline_summary s;
    int rc;

    s = offline_look(p, &rc);
    if (rc == HF_E_AGAIN) {
        offline_check_refused(p, "holdfast recover --dir /d");
        return UNFINISHED;
    }
    ck_assert_msg(rc == 0, "%s", p->why);
    if (s.n_members == 3) {
        offline_check_old(&s);
        return BEFORE;
    }
    check_recovered(p, "b:1");
    return DONE;
}

static void finish_recover(struct offline_place *p)
{
    offline_check_leads_alone(p, 2, 5, OLD_LAST + 1);
}

START_TEST(test_recover_survives_a_crash_at_any_step)
{
    static const struct offline_crash_case cc = {offline_build, act_recover, judge_recover, finish_recover};

    offline_crash_everywhere(&cc);
}
END_TEST

/* ---- rejoin --------------------------------------------------------------------------------------- */

static struct hf_identity check_wiped(struct offline_place *p)
{
    struct hf_offline_summary s;
    struct hf_identity id;
    char names[200];
    int rc;

    s = offline_look(p, &rc);
    ck_assert_msg(rc == 0, "%s", p->why);
    ck_assert(s.is_joining);
    ck_assert_uint_eq(s.last_index, 0);
    ck_assert_uint_eq(s.term, 0);
    offline_names(p, p->dir, names, sizeof names);
    ck_assert_str_eq(names, "holdfast.conf identity journal lock ");
    offline_names(p, offline_path(p, "journal"), names, sizeof names);
    ck_assert_str_eq(names, "");
    ck_assert_int_eq(hf_identity_load(p->fs, p->dir, &id, p->why, sizeof p->why), 0);
    ck_assert(id.is_joining);
    ck_assert(!id.is_formed);
    ck_assert(!id.is_removed);
    ck_assert_uint_eq(id.node_id, 0);
    ck_assert_uint_ne(id.store_id, OLD_STORE);
    for (int i = 0; i < 16; i++)
        ck_assert_uint_eq(id.incarnation[i], 0);
    return id;
}

START_TEST(test_rejoin_wipes_and_keeps_the_name)
{
    struct hf_identity id;
    struct offline_place p;
    struct offline_node n;

    offline_open_fake(&p, 1);
    offline_build(&p);
    ck_assert_msg(hf_offline_rejoin(p.env, p.dir, "", "", 3, p.why, sizeof p.why) == 0, "%s", p.why);
    id = check_wiped(&p);
    ck_assert_str_eq(id.name, "2"); /* it had none of its own */
    ck_assert_str_eq(id.replaces, "2");
    ck_assert(id.wants_vote);
    ck_assert_uint_eq(id.n_members, 2);
    ck_assert_str_eq(id.members[0].address, "a:1");
    ck_assert_str_eq(id.members[1].address, "c:1");
    ck_assert_uint_eq(id.cluster_id[0], 0xc1); /* the same cluster */
    ck_assert_msg(offline_open_node(&p, &n, 2) == 0, "%s", p.why);
    ck_assert_int_eq(hf_consensus_start(n.c, 0, p.why, sizeof p.why), 0);
    hf_fake_world_run_ms(p.world, 5000);
    ck_assert_int_ne(n.role, HF_ROLE_LEADER);
    ck_assert_int_ne(n.role, HF_ROLE_CANDIDATE);
    ck_assert_uint_eq(n.delivered, 0);
    offline_close_node(&n);
    offline_close(&p);
}
END_TEST

START_TEST(test_rejoin_says_who_and_where)
{
    static const char *const learner[] = {"a:1#0000000000001111", "b:1#0000000000002222"};
    static const int roles[] = {RAFT_VOTER, RAFT_STANDBY};
    struct hf_identity id = offline_old_identity();
    struct offline_part part = {.index = 11};
    struct offline_place p;

    offline_open_fake(&p, 1);
    offline_build(&p);
    memcpy(id.name, "bee", 4);
    ck_assert_int_eq(hf_identity_save(p.fs, p.dir, &id), 0);
    ck_assert_int_eq(hf_offline_rejoin(p.env, p.dir, "", "x:1,y", 3, p.why, sizeof p.why), HF_E_INVALID);
    ck_assert_int_eq(hf_offline_rejoin(p.env, p.dir, "b ee", "", 3, p.why, sizeof p.why), HF_E_INVALID);
    offline_put_configuration(&part.bytes, learner, roles, 2);
    offline_write_journal(&p, 1, 11, 3, &part, 1);
    hf_buf_free(&part.bytes);
    ck_assert_int_eq(hf_offline_rejoin(p.env, p.dir, "", "y:1,x:1", 3, p.why, sizeof p.why), 0);
    id = check_wiped(&p);
    ck_assert_str_eq(id.name, "bee");
    ck_assert_str_eq(id.replaces, "2");
    ck_assert(!id.wants_vote); /* it was a learner */
    ck_assert_uint_eq(id.n_members, 2);
    ck_assert_uint_eq(id.members[0].id, 0);
    ck_assert_str_eq(id.members[0].address, "y:1");
    ck_assert_str_eq(id.members[1].address, "x:1");
    ck_assert_uint_eq(id.cluster_id[0], 0); /* whichever answers there */
    /* Again, before it got an id: what it replaces stays. */
    ck_assert_int_eq(hf_offline_rejoin(p.env, p.dir, "wasp", "", 4, p.why, sizeof p.why), 0);
    id = check_wiped(&p);
    ck_assert_str_eq(id.name, "wasp");
    ck_assert_str_eq(id.replaces, "2");
    ck_assert(!id.wants_vote);
    ck_assert_uint_eq(id.n_members, 2);
    offline_close(&p);
}
END_TEST

/* A member that was removed comes back as a new one: nobody's place is taken. */
START_TEST(test_rejoin_of_a_removed_member_replaces_nobody)
{
    struct hf_identity id = offline_old_identity();
    struct offline_place p;

    offline_open_fake(&p, 1);
    offline_build(&p);
    id.is_removed = true;
    ck_assert_int_eq(hf_identity_save(p.fs, p.dir, &id), 0);
    ck_assert_int_eq(hf_offline_rejoin(p.env, p.dir, "", "", 3, p.why, sizeof p.why), 0);
    id = check_wiped(&p);
    ck_assert_str_eq(id.name, "2");
    ck_assert_str_eq(id.replaces, "");
    offline_close(&p);
}
END_TEST

START_TEST(test_rejoin_works_on_a_damaged_directory)
{
    bool is_identity = strstr(damages[_i].path, "identity") != NULL;
    struct hf_identity id;
    struct offline_place p;

    offline_open_fake(&p, 1);
    offline_build(&p);
    if (damages[_i].is_missing)
        ck_assert_int_eq(p.fs->unlink(p.fs, damages[_i].path), 0);
    else
        ck_assert(hf_fake_fs_flip_bit(p.disk, damages[_i].path, 30, 1));
    if (is_identity) {
        uint64_t changes = hf_fake_fs_ops(p.disk, HF_FAKE_CHANGES);

        ck_assert_int_eq(hf_offline_rejoin(p.env, p.dir, "", "", 3, p.why, sizeof p.why), HF_E_CORRUPT);
        ck_assert_int_eq(hf_offline_rejoin(p.env, p.dir, "x", "", 3, p.why, sizeof p.why), HF_E_CORRUPT);
        ck_assert_int_eq(hf_offline_rejoin(p.env, p.dir, "", "a:1", 3, p.why, sizeof p.why), HF_E_CORRUPT);
        ck_assert_ptr_nonnull(strstr(p.why, "--name NAME --join HOST:PORT"));
        ck_assert_uint_eq(hf_fake_fs_ops(p.disk, HF_FAKE_CHANGES), changes);
    }
    ck_assert_msg(hf_offline_rejoin(p.env, p.dir, is_identity ? "bee" : "", is_identity ? "a:1" : "", 3, p.why,
                                    sizeof p.why) == 0,
                  "%s", p.why);
    id = check_wiped(&p);
    ck_assert_str_eq(id.name, is_identity ? "bee" : "2");
    ck_assert_str_eq(id.replaces, is_identity ? "bee" : "2");
    ck_assert(id.wants_vote);
    ck_assert_uint_eq(id.n_members, is_identity ? 1 : 2);
    offline_close(&p);
}
END_TEST

static int act_rejoin(struct offline_place *p, uint64_t seed)
{
    p->why[0] = 0;
    return hf_offline_rejoin(p->env, p->dir, "", "", seed, p->why, sizeof p->why);
}

static enum offline_stage judge_rejoin(struct offline_place *p)
{
    struct hf_offline_summary s;
    struct hf_identity id;
    int rc;

    s = offline_look(p, &rc);
    if (rc == HF_E_AGAIN) {
        offline_check_refused(p, "holdfast repair --dir /d --from-peers");
        return UNFINISHED;
    }
    ck_assert_msg(rc == 0, "%s", p->why);
    if (s.node_id != 0) {
        offline_check_old(&s); /* with its log: never the old voter with an empty one */
        return BEFORE;
    }
    id = check_wiped(p);
    ck_assert_str_eq(id.name, "2");
    ck_assert_str_eq(id.replaces, "2");
    ck_assert_uint_eq(id.n_members, 2);
    return DONE;
}

static void finish_rejoin(struct offline_place *p)
{
    struct offline_node n;

    ck_assert_msg(offline_open_node(p, &n, 2) == 0, "%s", p->why);
    offline_close_node(&n);
}

START_TEST(test_rejoin_survives_a_crash_at_any_step)
{
    static const struct offline_crash_case cc = {offline_build, act_rejoin, judge_rejoin, finish_rejoin};

    offline_crash_everywhere(&cc);
}
END_TEST

/* ---- a real disk ---------------------------------------------------------------------------------- */

START_TEST(test_recover_and_rejoin_on_a_real_disk)
{
    struct hf_offline_summary before;
    struct hf_identity id;
    struct offline_place p;
    int rc;

    offline_open_real(&p);
    offline_build(&p);
    before = offline_look(&p, &rc);
    ck_assert_msg(rc == 0, "%s", p.why);
    offline_check_old(&before);
    ck_assert_msg(recover(&p, "", 7, false, &before) == 0, "%s", p.why);
    check_recovered(&p, "b:1");
    ck_assert_msg(hf_offline_rejoin(p.env, p.dir, "", "z:1", 3, p.why, sizeof p.why) == 0, "%s", p.why);
    id = check_wiped(&p);
    ck_assert_str_eq(id.name, "2");
    offline_close(&p);
}
END_TEST

Suite *offline_suite(void)
{
    Suite *s = suite_create("offline");
    TCase *t = tcase_create("offline"), *crash = tcase_create("crashes");

    tcase_add_test(t, test_look_tells_what_is_there_and_changes_nothing);
    tcase_add_test(t, test_look_takes_the_newest_configuration);
    tcase_add_loop_test(t, test_look_names_the_damage_and_the_repair, 0, (int)(sizeof damages / sizeof damages[0]));
    tcase_add_test(t, test_look_tells_parts_that_do_not_fit);
    tcase_add_test(t, test_nothing_is_done_while_a_node_runs);
    tcase_add_test(t, test_directories_without_a_node_are_left_alone);
    tcase_add_test(t, test_recover_makes_the_survivor_a_cluster_of_its_own);
    tcase_add_test(t, test_recover_takes_another_address_and_another_incarnation);
    tcase_add_test(t, test_recover_completes_an_install);
    tcase_add_test(t, test_recover_refuses_what_has_nothing_to_give);
    tcase_add_test(t, test_rejoin_wipes_and_keeps_the_name);
    tcase_add_test(t, test_rejoin_says_who_and_where);
    tcase_add_test(t, test_rejoin_of_a_removed_member_replaces_nobody);
    tcase_add_loop_test(t, test_rejoin_works_on_a_damaged_directory, 0, (int)(sizeof damages / sizeof damages[0]));
    tcase_add_test(t, test_recover_and_rejoin_on_a_real_disk);
    suite_add_tcase(s, t);
    tcase_set_timeout(crash, 120);
    tcase_add_test(crash, test_recover_survives_a_crash_at_any_step);
    tcase_add_test(crash, test_rejoin_survives_a_crash_at_any_step);
    suite_add_tcase(s, crash);
    suite_add_tcase(s, offline_create_case());
    return s;
}
