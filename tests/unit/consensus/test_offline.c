/* Offline work on data directories: what a look tells, what recovering, wiping and restoring leave, and that a power
 * loss at any operation leaves a directory that starts as before, one that says how to go on, or one that is done. */
#include "suites.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/util.h"
#include "consensus/consensus.h"
#include "consensus/identity.h"
#include "consensus/offline.h"
#include "journal/journal.h"
#include "support/fake_env.h"
#include "uv/uv_env.h"

#include <inttypes.h>
#include <raft.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define OLD_STORE UINT64_C(0x2222)
#define OLD_LAST  10u
#define OLD_TERM  3u

/* Where the work is done: a fake disk, or a real one. */
struct place {
    struct hf_fake_world *world; /* NULL: real */
    struct hf_fake_fs *disk;
    struct hf_env *env;
    struct hf_fs *fs;
    struct hf_offline_loop loop;
    bool is_stopped;
    char dir[64];
    char why[1500];
};

static void run_fake(void *data)
{
    struct place *p = data;

    p->is_stopped = false;
    while (!p->is_stopped && hf_fake_world_step(p->world))
        continue;
}

static void stop_fake(void *data)
{
    ((struct place *)data)->is_stopped = true;
}

static void run_real(void *data)
{
    hf_uv_env_run(((struct place *)data)->env);
}

static void stop_real(void *data)
{
    hf_uv_env_stop(((struct place *)data)->env);
}

static void open_fake(struct place *p, uint64_t seed)
{
    struct hf_fake_world_config config = {.seed = seed, .nodes = 1};

    memset(p, 0, sizeof *p);
    hf_log_silence(true);
    p->world = hf_fake_world_new(&config);
    p->env = hf_fake_node_env(p->world, 0);
    p->disk = hf_fake_node_fs(p->world, 0);
    p->fs = p->env->fs;
    p->loop = (struct hf_offline_loop){.data = p, .run = run_fake, .stop = stop_fake};
    snprintf(p->dir, sizeof p->dir, "/d");
}

static void open_real(struct place *p)
{
    memset(p, 0, sizeof *p);
    hf_log_silence(true);
    ck_assert_int_eq(hf_uv_env_open(&p->env), 0);
    p->fs = p->env->fs;
    p->loop = (struct hf_offline_loop){.data = p, .run = run_real, .stop = stop_real};
    snprintf(p->dir, sizeof p->dir, "/tmp/holdfast-offline-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(p->dir));
}

static void delete_name(void *data, const char *name)
{
    char path[400];

    snprintf(path, sizeof path, "%s/%s", (const char *)data, name);
    (void)remove(path);
}

static void close_place(struct place *p)
{
    if (p->world) {
        hf_fake_world_free(p->world);
    } else {
        char path[200];

        snprintf(path, sizeof path, "%s/journal", p->dir);
        ck_assert_int_le(p->fs->list(p->fs, path, delete_name, path), 0);
        ck_assert_int_eq(p->fs->list(p->fs, p->dir, delete_name, p->dir), 0);
        ck_assert_int_eq(rmdir(p->dir), 0);
        hf_uv_env_close(p->env);
    }
}

static const char *in(const struct place *p, const char *name)
{
    static char path[4][200];
    static unsigned at;
    char *out = path[at++ % 4];

    snprintf(out, sizeof path[0], "%s/%s", p->dir, name);
    return out;
}

static void write_file(struct place *p, const char *path, const char *text)
{
    struct hf_file *f;

    ck_assert_int_eq(p->fs->open(p->fs, path, HF_FS_WRITE | HF_FS_CREATE, &f), 0);
    ck_assert_int_eq(p->fs->write(p->fs, f, 0, text, strlen(text)), 0);
    ck_assert_int_eq(p->fs->sync(p->fs, f), 0);
    p->fs->close(p->fs, f);
}

static bool has_file(struct place *p, const char *path)
{
    struct hf_file *f;

    if (p->fs->open(p->fs, path, HF_FS_READ, &f) != 0)
        return false;
    p->fs->close(p->fs, f);
    return true;
}

static void put_name(void *data, const char *name)
{
    hf_buf_printf(data, "%s ", name);
}

static void names_of(struct place *p, const char *dir, char *out, size_t size)
{
    struct hf_buf b = {0};

    out[0] = 0;
    if (p->fs->list(p->fs, dir, put_name, &b) == 0)
        snprintf(out, size, "%.*s", (int)b.len, b.data ? (const char *)b.data : "");
    hf_buf_free(&b);
}

/* ---- a member's directory ------------------------------------------------------------------------- */

static void put_configuration(struct hf_buf *out, const char *const *addresses, const int *roles, unsigned n)
{
    struct raft_configuration conf;
    struct raft_buffer buf;

    raft_configuration_init(&conf);
    for (unsigned i = 0; i < n; i++)
        if (addresses[i])
            ck_assert_int_eq(raft_configuration_add(&conf, i + 1, addresses[i], roles ? roles[i] : RAFT_VOTER), 0);
    ck_assert_int_eq(raft_configuration_encode(&conf, &buf), 0);
    hf_buf_put(out, buf.base, buf.len);
    raft_free(buf.base);
    raft_configuration_close(&conf);
}

static const char *const three[] = {"a:1#0000000000001111", "b:1#0000000000002222#bee", "c:1#0000000000003333"};

static struct hf_identity old_identity(void)
{
    struct hf_identity id = {.node_id = 2, .store_id = OLD_STORE, .is_formed = true, .n_members = 3};

    memset(id.cluster_id, 0xc1, sizeof id.cluster_id);
    memset(id.incarnation, 0x1c, sizeof id.incarnation);
    for (unsigned i = 0; i < 3; i++) {
        id.members[i].id = i + 1;
        snprintf(id.members[i].address, sizeof id.members[i].address, "%c:1", 'a' + (int)i);
    }
    return id;
}

struct writer {
    struct place *place;
    struct hf_journal_events events;
    uint64_t wanted;
};

static void on_written(void *data, uint64_t index)
{
    struct writer *w = data;

    if (index >= w->wanted)
        w->place->loop.stop(w->place->loop.data);
}

static void on_voted(void *data)
{
    struct writer *w = data;

    w->place->loop.stop(w->place->loop.data);
}

static void on_unwritten(void *data, int err, const char *what)
{
    (void)data;
    ck_abort_msg("journal: %s: %s", what, hf_strerror(err));
}

/* Entries up to and with `last`; those at `configurations[i]` hold a configuration. */
struct part {
    uint64_t index;
    struct hf_buf bytes;
};

static void write_journal(struct place *p, uint64_t first, uint64_t last, uint64_t term, const struct part *parts,
                          unsigned n_parts)
{
    struct writer w = {.place = p, .wanted = last};
    char dir[100];
    struct hf_journal_config config = {.dir = dir, .segment_bytes = 16384, .tail_bytes_max = 4096};
    struct hf_stats *stats = hf_stats_new();
    struct hf_journal_state state;
    struct hf_journal *j;

    snprintf(dir, sizeof dir, "%s/journal", p->dir);
    w.events = (struct hf_journal_events){
        .on_durable = on_written, .on_vote_durable = on_voted, .on_failed = on_unwritten, .data = &w};
    ck_assert_msg(hf_journal_open(p->env, &config, &w.events, stats, &state, &j, p->why, sizeof p->why) == 0, "%s",
                  p->why);
    if (state.next_index < first) {
        w.wanted = first - 1;
        hf_journal_reset(j, first);
        p->loop.run(p->loop.data);
        w.wanted = last;
    }
    for (uint64_t index = hf_journal_next_index(j); index <= last; index++) {
        struct hf_log_entry *e = NULL;

        for (unsigned i = 0; i < n_parts; i++) {
            if (parts[i].index != index)
                continue;
            e = hf_log_entry_new(HF_ENTRY_CONFIGURATION, index, term, (uint32_t)parts[i].bytes.len);
            memcpy(e->data, parts[i].bytes.data, parts[i].bytes.len);
        }
        if (!e) {
            e = hf_log_entry_new(HF_ENTRY_BARRIER, index, term, 8);
            memset(e->data, 0, 8);
        }
        hf_journal_append(j, &e, 1);
        hf_log_entry_unref(e);
        if (index == last)
            p->loop.run(p->loop.data);
    }
    hf_journal_set_vote(j, OLD_TERM, 1);
    p->loop.run(p->loop.data);
    hf_journal_close(j);
    hf_stats_free(stats);
}

/* Node 2 of three: a marker at 5, a journal of 1..10, of terms up to 2; it voted in term 3. */
static void build(struct place *p)
{
    struct hf_identity id = old_identity();
    struct hf_marker marker = {.generation = 1, .index = 5, .term = 2, .configuration_index = 1};
    struct part first = {.index = 1};

    put_configuration(&first.bytes, three, NULL, 3);
    hf_buf_put(&marker.configuration, first.bytes.data, first.bytes.len);
    if (p->world)
        ck_assert_int_eq(p->fs->mkdir(p->fs, p->dir), 0);
    write_file(p, in(p, "lock"), "");
    write_file(p, in(p, "state-1.db"), "the state");
    write_file(p, in(p, "state-1.db-wal"), "its log");
    write_file(p, in(p, "copy-7.db"), "a copy");
    write_file(p, in(p, "incoming.db"), "half a copy");
    write_file(p, in(p, "holdfast.conf"), "somebody's settings");
    write_journal(p, 1, OLD_LAST, 2, &first, 1);
    ck_assert_int_eq(hf_marker_save(p->fs, p->dir, &marker), 0);
    ck_assert_int_eq(hf_identity_save(p->fs, p->dir, &id), 0);
    if (p->world)
        ck_assert_int_eq(p->fs->sync_dir(p->fs, "/"), 0);
    hf_marker_free(&marker);
    hf_buf_free(&first.bytes);
}

static struct hf_offline_summary look(struct place *p, int *rc)
{
    struct hf_offline_summary s;
    uint64_t changes = p->world ? hf_fake_fs_ops(p->disk, HF_FAKE_CHANGES) : 0;
    char before[1000], after[1000];

    names_of(p, p->dir, before, sizeof before);
    p->why[0] = 0;
    *rc = hf_offline_look(p->env, p->dir, &s, p->why, sizeof p->why);
    ck_assert_int_eq(*rc != 0, p->why[0] != 0);
    names_of(p, p->dir, after, sizeof after);
    ck_assert_str_eq(before, after);
    if (p->world)
        ck_assert_uint_eq(hf_fake_fs_ops(p->disk, HF_FAKE_CHANGES), changes);
    return s;
}

/* ---- starting on it ------------------------------------------------------------------------------- */

struct node {
    struct place *place;
    struct hf_stats *stats;
    struct hf_consensus *c;
    uint64_t delivered;
    enum hf_role role;
};

static bool on_commit(void *data, struct hf_log_entry *e)
{
    struct node *n = data;

    ck_assert_uint_eq(e->index, n->delivered + 1);
    n->delivered = e->index;
    return true;
}

static void on_role(void *data, enum hf_role role, uint64_t term, uint64_t leader_id)
{
    struct node *n = data;

    (void)term;
    (void)leader_id;
    n->role = role;
}

static void on_failed(void *data, int err, const char *why)
{
    (void)data;
    ck_abort_msg("the node failed: %s (%s)", why, hf_strerror(err));
}

static int open_node(struct place *p, struct node *n, uint64_t id)
{
    struct hf_consensus_events events = {.data = n, .on_commit = on_commit, .on_role = on_role, .on_failed = on_failed};
    struct hf_consensus_config config = {.dir = p->dir,
                                         .node_id = id,
                                         .listen_address = p->world ? "b:1" : "127.0.0.1:0",
                                         .client_address = "",
                                         .members = "",
                                         .cluster_id = "",
                                         .name = "",
                                         .join = "",
                                         .peer_address = "",
                                         .replaces = "",
                                         .seed = 5,
                                         .election_timeout_ms = 600,
                                         .heartbeat_ms = 100,
                                         .message_bytes_max = 8u << 20,
                                         .journal_segment_bytes = 256u << 10,
                                         .journal_tail_bytes = 4096,
                                         .journal_retain_bytes = 1u << 20,
                                         .journal_max_bytes = 4u << 20,
                                         .journal_pin_bytes = 4u << 20,
                                         .snapshot_journal_bytes = 64u << 10};
    int rc;

    memset(n, 0, sizeof *n);
    n->place = p;
    n->stats = hf_stats_new();
    rc = hf_consensus_open(p->env, &config, &events, n->stats, &n->c, p->why, sizeof p->why);
    if (rc != 0)
        hf_stats_free(n->stats);
    return rc;
}

static void close_node(struct node *n)
{
    hf_consensus_close(n->c);
    hf_stats_free(n->stats);
}

static bool leads_and_delivered(void *data)
{
    const struct node *n = data;
    struct hf_consensus_status s;

    hf_consensus_status(n->c, &s);
    return n->role == HF_ROLE_LEADER && n->delivered == s.last_index;
}

/* The directory starts, leads alone and commits everything it holds. */
static void check_leads_alone(struct place *p, uint64_t id, uint64_t applied, uint64_t at_least)
{
    struct hf_consensus_status s;
    struct node n;

    ck_assert_msg(open_node(p, &n, id) == 0, "%s", p->why);
    n.delivered = applied;
    ck_assert_msg(hf_consensus_start(n.c, applied, p->why, sizeof p->why) == 0, "%s", p->why);
    ck_assert(hf_fake_world_run_until(p->world, 5000, leads_and_delivered, &n));
    ck_assert_uint_ge(n.delivered, at_least);
    hf_consensus_status(n.c, &s);
    ck_assert_uint_eq(s.n_members, 1);
    ck_assert_uint_eq(s.members[0].id, id);
    ck_assert_str_eq(s.members[0].role, "voter");
    close_node(&n);
}

/* ---- looking -------------------------------------------------------------------------------------- */

static void check_old(const struct hf_offline_summary *s)
{
    ck_assert_uint_eq(s->node_id, 2);
    ck_assert_uint_eq(s->store_id, OLD_STORE);
    ck_assert_str_eq(s->cluster_id, "c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1");
    ck_assert_str_eq(s->incarnation, "1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c");
    ck_assert(s->is_formed);
    ck_assert(!s->is_joining);
    ck_assert_uint_eq(s->term, OLD_TERM);
    ck_assert_uint_eq(s->vote, 1);
    ck_assert_uint_eq(s->first_index, 1);
    ck_assert_uint_eq(s->last_index, OLD_LAST);
    ck_assert_uint_eq(s->last_term, 2);
    ck_assert_uint_eq(s->configuration_index, 1);
    ck_assert_uint_eq(s->n_members, 3);
}

START_TEST(test_look_tells_what_is_there_and_changes_nothing)
{
    struct hf_offline_summary s;
    struct place p;
    int rc;

    open_fake(&p, 1);
    build(&p);
    s = look(&p, &rc);
    ck_assert_msg(rc == 0, "%s", p.why);
    check_old(&s);
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
    close_place(&p);
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
    struct part part = {.index = 12};
    struct hf_offline_summary s;
    struct place p;
    int rc;

    open_fake(&p, 1);
    build(&p);
    put_configuration(&part.bytes, two, roles, 5);
    write_journal(&p, 1, 14, 3, &part, 1);
    s = look(&p, &rc);
    ck_assert_msg(rc == 0, "%s", p.why);
    ck_assert_uint_eq(s.configuration_index, 12);
    ck_assert_uint_eq(s.n_members, 3);
    ck_assert_uint_eq(s.members[2].id, 4);
    ck_assert_str_eq(s.members[2].role, "standby");
    ck_assert_uint_eq(s.last_index, 14);
    ck_assert_uint_eq(s.last_term, 3);

    part.bytes.len = 0;
    put_configuration(&marker.configuration, three, NULL, 2);
    ck_assert_int_eq(hf_marker_save(p.fs, p.dir, &marker), 0);
    write_file(&p, "/d/state-2.db", "the copy");
    s = look(&p, &rc);
    ck_assert_msg(rc == 0, "%s", p.why);
    ck_assert_uint_eq(s.configuration_index, 40);
    ck_assert_uint_eq(s.n_members, 2);
    ck_assert_uint_eq(s.first_index, 51);
    ck_assert_uint_eq(s.last_index, 50);
    ck_assert_uint_eq(s.last_term, 7);
    ck_assert_str_eq(s.state_path, "/d/state-2.db");
    hf_marker_free(&marker);
    hf_buf_free(&part.bytes);
    close_place(&p);
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
    struct place p;
    int rc;

    open_fake(&p, 1);
    build(&p);
    if (damages[_i].is_missing)
        ck_assert_int_eq(p.fs->unlink(p.fs, damages[_i].path), 0);
    else
        ck_assert(hf_fake_fs_flip_bit(p.disk, damages[_i].path, 30, 1));
    s = look(&p, &rc);
    ck_assert_int_eq(rc, damages[_i].rc);
    ck_assert_msg(strstr(p.why, damages[_i].named) != NULL, "%s", p.why);
    ck_assert_msg(strstr(p.why, damages[_i].command) != NULL, "%s", p.why);
    if (!strstr(damages[_i].path, "identity"))
        ck_assert_uint_eq(s.store_id, OLD_STORE);
    if (!strstr(damages[_i].path, "journal"))
        ck_assert_uint_eq(s.last_index, OLD_LAST);
    if (!strstr(damages[_i].path, "CURRENT"))
        ck_assert_uint_eq(s.marker_index, 5);
    close_place(&p);
}
END_TEST

/* A journal that is new though the node was a member, or that does not reach the marker. */
START_TEST(test_look_tells_parts_that_do_not_fit)
{
    struct hf_marker marker = {.generation = 1, .index = OLD_LAST + 1, .term = 3, .configuration_index = 1};
    struct place p;
    int rc;

    open_fake(&p, 1);
    build(&p);
    put_configuration(&marker.configuration, three, NULL, 3);
    ck_assert_int_eq(hf_marker_save(p.fs, p.dir, &marker), 0);
    (void)look(&p, &rc);
    ck_assert_int_eq(rc, HF_E_CORRUPT);
    ck_assert_msg(strstr(p.why, "1..10") != NULL, "%s", p.why);
    ck_assert_ptr_nonnull(strstr(p.why, "holdfast repair --dir /d --from-peers"));
    marker.index = OLD_LAST;
    ck_assert_int_eq(hf_marker_save(p.fs, p.dir, &marker), 0);
    (void)look(&p, &rc);
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(p.fs->unlink(p.fs, "/d/journal/vote"), 0);
    ck_assert_int_eq(p.fs->unlink(p.fs, "/d/journal/0000000000000001.seg"), 0);
    ck_assert_int_eq(p.fs->unlink(p.fs, "/d/journal/0000000000000002.seg"), 0);
    (void)look(&p, &rc);
    ck_assert_int_eq(rc, HF_E_CORRUPT);
    ck_assert_msg(strstr(p.why, "/d/journal is empty") != NULL, "%s", p.why);
    hf_marker_free(&marker);
    close_place(&p);
}
END_TEST

START_TEST(test_nothing_is_done_while_a_node_runs)
{
    struct hf_offline_summary s;
    struct hf_file *lock;
    struct place p;
    uint64_t changes;
    int rc;

    open_fake(&p, 1);
    build(&p);
    ck_assert_int_eq(p.fs->open(p.fs, "/d/lock", HF_FS_WRITE, &lock), 0);
    ck_assert_int_eq(p.fs->lock(p.fs, lock), 0);
    changes = hf_fake_fs_ops(p.disk, HF_FAKE_CHANGES);
    (void)look(&p, &rc);
    ck_assert_int_eq(rc, HF_E_LOCKED);
    ck_assert_int_eq(hf_offline_recover(p.env, &p.loop, p.dir, "", 1, false, &s, p.why, sizeof p.why), HF_E_LOCKED);
    ck_assert_int_eq(hf_offline_recover(p.env, &p.loop, p.dir, "", 1, true, &s, p.why, sizeof p.why), HF_E_LOCKED);
    ck_assert_int_eq(hf_offline_rejoin(p.env, p.dir, "", "", 1, p.why, sizeof p.why), HF_E_LOCKED);
    ck_assert_ptr_nonnull(strstr(p.why, "a node runs on /d"));
    p.fs->close(p.fs, lock);
    ck_assert_uint_eq(hf_fake_fs_ops(p.disk, HF_FAKE_CHANGES), changes);
    close_place(&p);
}
END_TEST

START_TEST(test_directories_without_a_node_are_left_alone)
{
    struct hf_offline_summary s;
    struct place p;
    char names[100];
    int rc;

    open_fake(&p, 1);
    for (int i = 0; i < 2; i++) {
        (void)look(&p, &rc);
        ck_assert_int_eq(rc, HF_E_NOENT);
        ck_assert_int_eq(hf_offline_recover(p.env, &p.loop, p.dir, "", 1, false, &s, p.why, sizeof p.why), HF_E_NOENT);
        ck_assert_int_eq(hf_offline_rejoin(p.env, p.dir, "", "", 1, p.why, sizeof p.why), HF_E_NOENT);
        ck_assert_int_eq(hf_offline_rejoin(p.env, p.dir, "x", "a:1", 1, p.why, sizeof p.why), HF_E_NOENT);
        names_of(&p, p.dir, names, sizeof names);
        ck_assert_str_eq(names, "");
        ck_assert_int_eq(p.fs->mkdir(p.fs, p.dir), i == 0 ? 0 : HF_E_EXISTS);
    }
    close_place(&p);
}
END_TEST

/* ---- recover -------------------------------------------------------------------------------------- */

static int recover(struct place *p, const char *address, uint64_t seed, bool dry_run, struct hf_offline_summary *before)
{
    p->why[0] = 0;
    return hf_offline_recover(p->env, &p->loop, p->dir, address, seed, dry_run, before, p->why, sizeof p->why);
}

static void check_recovered(struct place *p, const char *address)
{
    struct hf_offline_summary s;
    int rc;

    s = look(p, &rc);
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
static void check_id_is_kept(struct place *p)
{
    struct raft_configuration conf;
    struct hf_journal_state state;
    struct hf_buf last = {0};
    struct raft_buffer buf;

    ck_assert_int_eq(hf_journal_look(p->fs, in(p, "journal"), &state, take_last, &last, p->why, sizeof p->why), 0);
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
    struct place p;
    uint64_t changes;
    int rc;

    open_fake(&p, 1);
    build(&p);
    changes = hf_fake_fs_ops(p.disk, HF_FAKE_CHANGES);
    ck_assert_msg(recover(&p, "", 7, true, &before) == 0, "%s", p.why);
    ck_assert_uint_eq(hf_fake_fs_ops(p.disk, HF_FAKE_CHANGES), changes);
    check_old(&before);
    ck_assert_ptr_nonnull(strstr(p.why, "ends at index 10 (term 2)"));
    ck_assert_ptr_nonnull(strstr(p.why, "sure up to 5"));
    ck_assert_ptr_nonnull(strstr(p.why, "1 (a:1, voter), 3 (c:1, voter)."));
    before = look(&p, &rc);
    check_old(&before);

    ck_assert_msg(recover(&p, "", 7, false, &before) == 0, "%s", p.why);
    check_old(&before);
    ck_assert_ptr_nonnull(strstr(p.why, "ends at index 10 (term 2)"));
    check_recovered(&p, "b:1");
    ck_assert_int_eq(hf_identity_load(p.fs, p.dir, &id, p.why, sizeof p.why), 0);
    ck_assert_uint_eq(id.n_members, 1);
    check_id_is_kept(&p);
    check_leads_alone(&p, 2, 5, OLD_LAST + 1);
    close_place(&p);
}
END_TEST

START_TEST(test_recover_takes_another_address_and_another_incarnation)
{
    struct hf_offline_summary before, one, two;
    struct place p;
    int rc;

    open_fake(&p, 1);
    build(&p);
    ck_assert_int_eq(recover(&p, "nowhere", 7, false, &before), HF_E_INVALID);
    ck_assert_int_eq(recover(&p, "a:1,b:1", 7, false, &before), HF_E_INVALID);
    before = look(&p, &rc);
    check_old(&before);
    ck_assert_int_eq(recover(&p, "new:9", 7, false, &before), 0);
    check_recovered(&p, "new:9");
    one = look(&p, &rc);
    ck_assert_int_eq(recover(&p, "", 8, false, &before), 0); /* keeps the address it has */
    check_recovered(&p, "new:9");
    two = look(&p, &rc);
    ck_assert_str_ne(one.incarnation, two.incarnation);
    ck_assert_uint_eq(two.term, one.term + 1);
    close_place(&p);
}
END_TEST

/* A copy that is half installed is installed first: nothing of the old log may follow it. */
START_TEST(test_recover_completes_an_install)
{
    struct hf_marker marker = {
        .generation = 2, .install_pending = true, .index = 50, .term = 7, .configuration_index = 40};
    struct hf_offline_summary s, before;
    struct place p;
    int rc;

    open_fake(&p, 1);
    build(&p);
    put_configuration(&marker.configuration, three, NULL, 3);
    ck_assert_int_eq(hf_marker_save(p.fs, p.dir, &marker), 0);
    write_file(&p, "/d/state-2.db", "the copy");
    ck_assert_msg(recover(&p, "", 7, false, &before) == 0, "%s", p.why);
    ck_assert_uint_eq(before.last_index, 50);
    s = look(&p, &rc);
    ck_assert_int_eq(rc, 0);
    ck_assert_uint_eq(s.first_index, 51);
    ck_assert_uint_eq(s.last_index, 51);
    ck_assert_uint_eq(s.term, 8);
    ck_assert_uint_eq(s.configuration_index, 51);
    hf_marker_free(&marker);
    ck_assert_int_eq(hf_marker_load(p.fs, p.dir, &marker, p.why, sizeof p.why), 0);
    ck_assert(!marker.install_pending);
    hf_marker_free(&marker);
    check_leads_alone(&p, 2, 50, 51);
    close_place(&p);
}
END_TEST

START_TEST(test_recover_refuses_what_has_nothing_to_give)
{
    struct hf_offline_summary before;
    struct hf_identity id = old_identity();
    struct place p;
    uint64_t changes;

    open_fake(&p, 1);
    build(&p);
    for (int what = 0; what < 5; what++) {
        id = old_identity();
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
    id = old_identity();
    ck_assert_int_eq(hf_identity_save(p.fs, p.dir, &id), 0);
    ck_assert(hf_fake_fs_flip_bit(p.disk, "/d/journal/0000000000000001.seg", 30, 1));
    changes = hf_fake_fs_ops(p.disk, HF_FAKE_CHANGES);
    ck_assert_int_eq(recover(&p, "", 7, false, &before), HF_E_CORRUPT);
    ck_assert_uint_eq(hf_fake_fs_ops(p.disk, HF_FAKE_CHANGES), changes);
    close_place(&p);
}
END_TEST

/* ---- a power loss at every operation -------------------------------------------------------------- */

enum stage { BEFORE, UNFINISHED, DONE, N_STAGES };

struct crash_case {
    void (*prepare)(struct place *p);
    int (*act)(struct place *p, uint64_t seed);
    enum stage (*judge)(struct place *p); /* fails the test when it is none of the three */
    void (*finish)(struct place *p);      /* after it was run again: check the whole */
};

static int seen[N_STAGES];

/* How many operations the whole takes when nothing happens. */
static uint64_t count_operations(const struct crash_case *cc)
{
    struct place p;
    uint64_t n;

    open_fake(&p, 1);
    cc->prepare(&p);
    n = hf_fake_fs_ops(p.disk, HF_FAKE_ANY);
    ck_assert_msg(cc->act(&p, 1) == 0, "%s", p.why);
    n = hf_fake_fs_ops(p.disk, HF_FAKE_ANY) - n;
    close_place(&p);
    return n;
}

static void crash_everywhere(const struct crash_case *cc)
{
    uint64_t n_operations = count_operations(cc);

    ck_assert_uint_gt(n_operations, 30);
    memset(seen, 0, sizeof seen);
    for (uint64_t n = 1; n <= n_operations + 2; n++) {
        for (int loss = HF_FAKE_LOSS_NOTHING; loss <= HF_FAKE_LOSS_EACH; loss++) {
            struct place p;
            enum stage stage;
            bool died;
            int rc;

            open_fake(&p, n * 10 + (uint64_t)loss);
            cc->prepare(&p);
            hf_fake_fs_crash_at(p.disk, HF_FAKE_ANY, n, (enum hf_fake_loss)loss);
            rc = cc->act(&p, 100 + n);
            died = hf_fake_fs_is_dead(p.disk); /* not when the n-th is one that fails anyway */
            ck_assert_int_eq(died, rc != 0);
            hf_fake_fs_crash_at(p.disk, HF_FAKE_ANY, 0, HF_FAKE_LOSS_NOTHING);
            if (!died) /* what was reported as done must be durable */
                hf_fake_fs_crash(p.disk, HF_FAKE_LOSS_ALL);
            hf_fake_fs_revive(p.disk);
            stage = cc->judge(&p);
            ck_assert_msg(died || stage == DONE, "it was reported as done, but is at stage %d", stage);
            seen[stage]++;
            if (stage != DONE)
                ck_assert_msg(cc->act(&p, 200 + n) == 0, "at %" PRIu64 ", again: %s", n, p.why);
            ck_assert_int_eq(cc->judge(&p), DONE);
            cc->finish(&p);
            close_place(&p);
        }
    }
    for (int i = 0; i < N_STAGES; i++)
        ck_assert_msg(seen[i] > 0, "stage %d was never met", i);
}

/* The node itself must refuse an unfinished directory, with the same word. */
static void check_refused(struct place *p, const char *command)
{
    struct node n;

    ck_assert_msg(strstr(p->why, command) != NULL, "%s", p->why);
    ck_assert_int_eq(open_node(p, &n, 2), HF_E_AGAIN);
    ck_assert_msg(strstr(p->why, command) != NULL, "%s", p->why);
}

static int act_recover(struct place *p, uint64_t seed)
{
    struct hf_offline_summary before;

    return recover(p, "", seed, false, &before);
}

static enum stage judge_recover(struct place *p)
{
    struct hf_offline_summary s;
    int rc;

    s = look(p, &rc);
    if (rc == HF_E_AGAIN) {
        check_refused(p, "holdfast recover --dir /d");
        return UNFINISHED;
    }
    ck_assert_msg(rc == 0, "%s", p->why);
    if (s.n_members == 3) {
        check_old(&s);
        return BEFORE;
    }
    check_recovered(p, "b:1");
    return DONE;
}

static void finish_recover(struct place *p)
{
    check_leads_alone(p, 2, 5, OLD_LAST + 1);
}

START_TEST(test_recover_survives_a_crash_at_any_step)
{
    static const struct crash_case cc = {build, act_recover, judge_recover, finish_recover};

    crash_everywhere(&cc);
}
END_TEST

/* ---- rejoin --------------------------------------------------------------------------------------- */

static struct hf_identity check_wiped(struct place *p)
{
    struct hf_offline_summary s;
    struct hf_identity id;
    char names[200];
    int rc;

    s = look(p, &rc);
    ck_assert_msg(rc == 0, "%s", p->why);
    ck_assert(s.is_joining);
    ck_assert_uint_eq(s.last_index, 0);
    ck_assert_uint_eq(s.term, 0);
    names_of(p, p->dir, names, sizeof names);
    ck_assert_str_eq(names, "holdfast.conf identity journal lock ");
    names_of(p, in(p, "journal"), names, sizeof names);
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
    struct place p;
    struct node n;

    open_fake(&p, 1);
    build(&p);
    ck_assert_msg(hf_offline_rejoin(p.env, p.dir, "", "", 3, p.why, sizeof p.why) == 0, "%s", p.why);
    id = check_wiped(&p);
    ck_assert_str_eq(id.name, "2"); /* it had none of its own */
    ck_assert_str_eq(id.replaces, "2");
    ck_assert(id.wants_vote);
    ck_assert_uint_eq(id.n_members, 2);
    ck_assert_str_eq(id.members[0].address, "a:1");
    ck_assert_str_eq(id.members[1].address, "c:1");
    ck_assert_uint_eq(id.cluster_id[0], 0xc1); /* the same cluster */
    ck_assert_msg(open_node(&p, &n, 2) == 0, "%s", p.why);
    close_node(&n);
    close_place(&p);
}
END_TEST

START_TEST(test_rejoin_says_who_and_where)
{
    static const char *const learner[] = {"a:1#0000000000001111", "b:1#0000000000002222"};
    static const int roles[] = {RAFT_VOTER, RAFT_STANDBY};
    struct hf_identity id = old_identity();
    struct part part = {.index = 11};
    struct place p;

    open_fake(&p, 1);
    build(&p);
    memcpy(id.name, "bee", 4);
    ck_assert_int_eq(hf_identity_save(p.fs, p.dir, &id), 0);
    ck_assert_int_eq(hf_offline_rejoin(p.env, p.dir, "", "x:1,y", 3, p.why, sizeof p.why), HF_E_INVALID);
    ck_assert_int_eq(hf_offline_rejoin(p.env, p.dir, "b ee", "", 3, p.why, sizeof p.why), HF_E_INVALID);
    put_configuration(&part.bytes, learner, roles, 2);
    write_journal(&p, 1, 11, 3, &part, 1);
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
    close_place(&p);
}
END_TEST

/* A member that was removed comes back as a new one: nobody's place is taken. */
START_TEST(test_rejoin_of_a_removed_member_replaces_nobody)
{
    struct hf_identity id = old_identity();
    struct place p;

    open_fake(&p, 1);
    build(&p);
    id.is_removed = true;
    ck_assert_int_eq(hf_identity_save(p.fs, p.dir, &id), 0);
    ck_assert_int_eq(hf_offline_rejoin(p.env, p.dir, "", "", 3, p.why, sizeof p.why), 0);
    id = check_wiped(&p);
    ck_assert_str_eq(id.name, "2");
    ck_assert_str_eq(id.replaces, "");
    close_place(&p);
}
END_TEST

START_TEST(test_rejoin_works_on_a_damaged_directory)
{
    bool is_identity = strstr(damages[_i].path, "identity") != NULL;
    struct hf_identity id;
    struct place p;

    open_fake(&p, 1);
    build(&p);
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
    close_place(&p);
}
END_TEST

static int act_rejoin(struct place *p, uint64_t seed)
{
    p->why[0] = 0;
    return hf_offline_rejoin(p->env, p->dir, "", "", seed, p->why, sizeof p->why);
}

static enum stage judge_rejoin(struct place *p)
{
    struct hf_offline_summary s;
    struct hf_identity id;
    int rc;

    s = look(p, &rc);
    if (rc == HF_E_AGAIN) {
        check_refused(p, "holdfast repair --dir /d --from-peers");
        return UNFINISHED;
    }
    ck_assert_msg(rc == 0, "%s", p->why);
    if (s.node_id != 0) {
        check_old(&s); /* with its log: never the old voter with an empty one */
        return BEFORE;
    }
    id = check_wiped(p);
    ck_assert_str_eq(id.name, "2");
    ck_assert_str_eq(id.replaces, "2");
    ck_assert_uint_eq(id.n_members, 2);
    return DONE;
}

static void finish_rejoin(struct place *p)
{
    struct node n;

    ck_assert_msg(open_node(p, &n, 2) == 0, "%s", p->why);
    close_node(&n);
}

START_TEST(test_rejoin_survives_a_crash_at_any_step)
{
    static const struct crash_case cc = {build, act_rejoin, judge_rejoin, finish_rejoin};

    crash_everywhere(&cc);
}
END_TEST

/* ---- create --------------------------------------------------------------------------------------- */

static void build_backup(struct place *p)
{
    write_file(p, "/backup.db", "a state at 70");
    if (p->world)
        ck_assert_int_eq(p->fs->sync_dir(p->fs, "/"), 0);
}

static int create(struct place *p, const char *word, uint64_t seed)
{
    p->why[0] = 0;
    return hf_offline_create(p->env, &p->loop, p->dir, 4, "d:1", word, 70, 6, "/backup.db", seed, p->why,
                             sizeof p->why);
}

static void check_created(struct place *p)
{
    struct hf_marker marker;
    struct hf_offline_summary s;
    const uint8_t *data;
    uint64_t size;
    int rc;

    s = look(p, &rc);
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
        ck_assert(!has_file(p, "/backup.db"));
    }
}

START_TEST(test_create_lays_down_a_cluster_of_one)
{
    struct hf_buf expected = {0};
    struct hf_marker marker;
    struct hf_offline_summary s;
    struct place p;
    int rc;

    open_fake(&p, 1);
    build_backup(&p);
    ck_assert_msg(create(&p, "", 9) == 0, "%s", p.why);
    check_created(&p);
    s = look(&p, &rc);
    hf_offline_configuration(4, "d:1", 9, &expected);
    ck_assert_int_eq(hf_marker_load(p.fs, p.dir, &marker, p.why, sizeof p.why), 0);
    ck_assert(hf_slice_eq(hf_buf_slice(&marker.configuration), hf_buf_slice(&expected)));
    ck_assert_str_ne(s.cluster_id, "00000000000000000000000000000000");
    hf_marker_free(&marker);
    hf_buf_free(&expected);
    check_leads_alone(&p, 4, 70, 71);
    close_place(&p);
}
END_TEST

START_TEST(test_create_draws_a_new_cluster_or_takes_the_word)
{
    char ids[4][33];

    for (int i = 0; i < 4; i++) {
        struct place p;
        struct hf_offline_summary s;
        int rc;

        open_fake(&p, 1);
        build_backup(&p);
        ck_assert_int_eq(create(&p, i < 2 ? "" : "prod", (uint64_t)i), 0);
        s = look(&p, &rc);
        memcpy(ids[i], s.cluster_id, sizeof ids[i]);
        close_place(&p);
    }
    ck_assert_str_ne(ids[0], ids[1]);
    ck_assert_str_eq(ids[2], "838c796609fc2ed34eafc8437f8ddc34");
    ck_assert_str_eq(ids[2], ids[3]);
}
END_TEST

START_TEST(test_create_touches_nothing_that_is_there)
{
    struct place p;
    uint64_t changes;

    open_fake(&p, 1);
    build(&p);
    build_backup(&p);
    changes = hf_fake_fs_ops(p.disk, HF_FAKE_WRITE | HF_FAKE_TRUNCATE | HF_FAKE_ALLOCATE);
    ck_assert_int_eq(create(&p, "", 9), HF_E_EXISTS);
    ck_assert_ptr_nonnull(strstr(p.why, "is not empty"));
    ck_assert_uint_eq(hf_fake_fs_ops(p.disk, HF_FAKE_WRITE | HF_FAKE_TRUNCATE | HF_FAKE_ALLOCATE), changes);
    ck_assert_int_eq(p.fs->unlink(p.fs, "/backup.db"), 0);
    snprintf(p.dir, sizeof p.dir, "/new");
    ck_assert_int_eq(create(&p, "", 9), HF_E_INVALID);
    ck_assert_int_eq(p.fs->list(p.fs, "/new", put_name, NULL), HF_E_NOENT);
    close_place(&p);
}
END_TEST

/* The state may have been unpacked in the new directory itself. */
START_TEST(test_create_finds_the_state_within)
{
    struct place p;

    open_fake(&p, 1);
    ck_assert_int_eq(p.fs->mkdir(p.fs, "/d"), 0);
    write_file(&p, "/d/state-restored", "a state at 70");
    ck_assert_msg(
        hf_offline_create(p.env, &p.loop, p.dir, 4, "d:1", "", 70, 6, "/d/state-restored", 9, p.why, sizeof p.why) == 0,
        "%s", p.why);
    check_created(&p);
    close_place(&p);
}
END_TEST

static int act_create(struct place *p, uint64_t seed)
{
    if (!has_file(p, "/backup.db") && !hf_fake_fs_is_dead(p->disk))
        build_backup(p); /* the tool unpacks it again */
    return create(p, "", seed);
}

static enum stage judge_create(struct place *p)
{
    struct hf_offline_summary s;
    int rc;

    s = look(p, &rc);
    (void)s;
    if (rc == HF_E_NOENT)
        return BEFORE;
    if (rc == HF_E_AGAIN) {
        check_refused(p, "holdfast restore FILE --dir /d");
        return UNFINISHED;
    }
    if (has_file(p, "/backup.db")) /* a rename across directories that the power loss half undid */
        ck_assert_int_eq(p->fs->unlink(p->fs, "/backup.db"), 0);
    check_created(p);
    return DONE;
}

static void finish_create(struct place *p)
{
    check_leads_alone(p, 4, 70, 71);
}

START_TEST(test_create_survives_a_crash_at_any_step)
{
    static const struct crash_case cc = {build_backup, act_create, judge_create, finish_create};

    crash_everywhere(&cc);
}
END_TEST

/* ---- a real disk ---------------------------------------------------------------------------------- */

START_TEST(test_all_of_it_on_a_real_disk)
{
    struct hf_offline_summary before;
    struct hf_identity id;
    char state[200];
    struct place p;
    int rc;

    open_real(&p);
    build(&p);
    before = look(&p, &rc);
    ck_assert_msg(rc == 0, "%s", p.why);
    check_old(&before);
    ck_assert_msg(recover(&p, "", 7, false, &before) == 0, "%s", p.why);
    check_recovered(&p, "b:1");
    ck_assert_msg(hf_offline_rejoin(p.env, p.dir, "", "z:1", 3, p.why, sizeof p.why) == 0, "%s", p.why);
    id = check_wiped(&p);
    ck_assert_str_eq(id.name, "2");
    close_place(&p);

    open_real(&p);
    snprintf(state, sizeof state, "%s/state-restored", p.dir);
    write_file(&p, state, "a state at 70");
    ck_assert_msg(hf_offline_create(p.env, &p.loop, p.dir, 4, "d:1", "", 70, 6, state, 9, p.why, sizeof p.why) == 0,
                  "%s", p.why);
    check_created(&p);
    close_place(&p);
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
    tcase_add_test(t, test_create_lays_down_a_cluster_of_one);
    tcase_add_test(t, test_create_draws_a_new_cluster_or_takes_the_word);
    tcase_add_test(t, test_create_touches_nothing_that_is_there);
    tcase_add_test(t, test_create_finds_the_state_within);
    tcase_add_test(t, test_all_of_it_on_a_real_disk);
    suite_add_tcase(s, t);
    tcase_set_timeout(crash, 120);
    tcase_add_test(crash, test_recover_survives_a_crash_at_any_step);
    tcase_add_test(crash, test_rejoin_survives_a_crash_at_any_step);
    tcase_add_test(crash, test_create_survives_a_crash_at_any_step);
    suite_add_tcase(s, crash);
    return s;
}
