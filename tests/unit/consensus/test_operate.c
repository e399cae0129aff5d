/* test_operate.c: members that join, change, leave, move and fall behind, on the simulated world, with a state machine
 * that is a running hash in a small file: copies of it travel at once, so that what is tested is consensus. */
#include "consensus/consensus.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/util.h"
#include "sim/world.h"
#include "suites.h"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define N       7
#define LISTED  3
#define COMMITS 100u /* ms between commits of the state */

struct state { /* the file state-<generation>.db */
    uint64_t index, term, hash, configuration_index;
    uint32_t configuration_len;
    uint8_t configuration[2048];
};

struct member {
    struct group *group;
    unsigned number;
    struct hf_sim_node *fake;
    struct hf_sim_disk *disk;
    struct hf_stats *stats;
    struct hf_consensus *c;
    struct state state;
    char state_path[64], copy_path[64];
    bool has_copy, has_failed, is_removed, installs_now;
    struct state copy;
    uint64_t committed;
    unsigned n_installs;
    struct hf_task install_task;
    char why[512];
    const char *peer_address, *listen; /* NULL: as usual */
};

struct group {
    struct hf_sim_world *w;
    struct member m[N];
    unsigned starts;
    uint64_t committed_ms;
    bool holds_copies;  /* members that lag get nothing */
    bool holds_commits; /* the states do not become durable */
};

static uint64_t mix(uint64_t h, const struct hf_log_entry *e)
{
    h ^= e->index * UINT64_C(0x9e3779b97f4a7c15) + (uint64_t)e->type;
    for (uint32_t i = 0; i < e->len; i++)
        h = (h ^ e->data[i]) * UINT64_C(0x100000001b3);
    return h;
}

static bool on_commit(void *data, struct hf_log_entry *e)
{
    struct member *m = data;

    ck_assert_uint_eq(e->index, m->state.index + 1);
    m->state.index = e->index;
    m->state.term = e->term;
    m->state.hash = mix(m->state.hash, e);
    if (e->type == HF_ENTRY_CONFIGURATION) {
        ck_assert_uint_le(e->len, sizeof m->state.configuration);
        m->state.configuration_index = e->index;
        m->state.configuration_len = e->len;
        memcpy(m->state.configuration, e->data, e->len);
    }
    return true;
}

static void on_failed(void *data, int err, const char *why)
{
    struct member *m = data;

    m->has_failed = true;
    snprintf(m->why, sizeof m->why, "%s (%d)", why, err);
}

static void on_removed(void *data, const char *why)
{
    struct member *m = data;

    m->is_removed = true;
    snprintf(m->why, sizeof m->why, "%s", why);
}

static struct hf_fs *fs_of(struct member *m)
{
    return hf_sim_node_env(m->fake)->fs;
}

static void save_state(struct member *m)
{
    char path[64];

    snprintf(path, sizeof path, "/n%u/state-%" PRIu64 ".db", m->number + 1, hf_consensus_generation(m->c));
    if (hf_fs_write_small(fs_of(m), path, &m->state, sizeof m->state) == 0)
        m->committed = m->state.index;
}

/* The copy of this node's state reaches `member` at once, and with it the word to install it. */
static void on_behind(void *data, uint64_t member, uint64_t at_least)
{
    struct member *from = data, *to = NULL;
    char path[64];

    for (unsigned i = 0; i < N; i++) {
        struct hf_consensus_status st;

        if (!from->group->m[i].c)
            continue;
        hf_consensus_status(from->group->m[i].c, &st);
        if (st.node_id == member)
            to = &from->group->m[i];
    }
    if (!to || to->has_failed || from->group->holds_copies || from->state.index < at_least)
        return;
    hf_consensus_pin(from->c, from->state.index);
    if (hf_consensus_may_receive(to->c, from->number + 1, from->state.index, from->state.term, to->why,
                                 sizeof to->why)) {
        snprintf(path, sizeof path, "/n%u/incoming.db", to->number + 1);
        if (hf_fs_write_small(fs_of(to), path, &from->state, sizeof from->state) < 0)
            return;
        to->copy = from->state;
        to->has_copy = true;
    }
    if (to->has_copy)
        hf_consensus_send_install(from->c, member, to->copy.index, to->copy.term, to->copy.configuration_index,
                                  hf_slice(to->copy.configuration, to->copy.configuration_len));
}

static void on_caught_up(void *data, uint64_t member)
{
    struct member *m = data;

    (void)member;
    hf_consensus_pin(m->c, 0);
}

static bool take_copy(void *data, uint64_t index, uint64_t term, const char **path)
{
    struct member *m = data;

    if (!m->has_copy || m->copy.index != index || m->copy.term != term)
        return false;
    m->has_copy = false;
    snprintf(m->copy_path, sizeof m->copy_path, "/n%u/incoming.db", m->number + 1);
    *path = m->copy_path;
    return true;
}

static int read_state(struct member *m, const char *path)
{
    uint8_t *bytes;
    size_t n;
    int rc = hf_fs_read_small(fs_of(m), path, sizeof m->state, &bytes, &n);

    if (rc == 0) {
        ck_assert_uint_eq(n, sizeof m->state);
        memcpy(&m->state, bytes, n);
        hf_free(bytes);
    }
    return rc;
}

static void on_install_task(struct hf_task *task)
{
    struct member *m = task->data;

    ck_assert_int_eq(read_state(m, m->state_path), 0);
    m->committed = m->state.index;
    m->n_installs++;
    hf_consensus_installed(m->c);
}

static void on_install(void *data, const char *path, uint64_t index)
{
    struct member *m = data;

    (void)index;
    snprintf(m->state_path, sizeof m->state_path, "%s", path);
    m->install_task.data = m;
    m->install_task.cb = on_install_task;
    hf_sim_node_env(m->fake)->post(hf_sim_node_env(m->fake), &m->install_task);
}

static int open_member(struct group *g, unsigned i, const char *join, const char *replaces)
{
    struct member *m = &g->m[i];
    struct hf_consensus_events events = {.data = m,
                                         .on_commit = on_commit,
                                         .on_behind = on_behind,
                                         .on_caught_up = on_caught_up,
                                         .take_copy = take_copy,
                                         .on_install = on_install,
                                         .on_removed = on_removed,
                                         .on_failed = on_failed};
    char dir[16], address[16], name[16], path[64];
    struct hf_consensus_config config = {.node_id = join ? 0 : i + 1,
                                         .members = join ? "" : "1=n1:1,2=n2:1,3=n3:1",
                                         .client_address = "",
                                         .cluster_id = "",
                                         .join = join,
                                         .replaces = replaces,
                                         .peer_address = m->peer_address,
                                         .seed = 100 * i + ++g->starts,
                                         .election_timeout_ms = 600,
                                         .heartbeat_ms = 100,
                                         .message_bytes_max = 8u << 20,
                                         .journal_segment_bytes = 16u << 10,
                                         .journal_tail_bytes = 4096,
                                         .journal_retain_bytes = 16u << 10,
                                         .journal_max_bytes = 32u << 10,
                                         .journal_pin_bytes = 1u << 20,
                                         .snapshot_journal_bytes = 8u << 10};
    int rc;

    m->group = g;
    m->number = i;
    m->fake = hf_sim_node_new(g->w, i);
    if (m->disk)
        hf_sim_node_set_fs(m->fake, m->disk);
    m->disk = NULL;
    memset(&m->state, 0, sizeof m->state);
    m->has_copy = m->has_failed = m->is_removed = false;
    m->committed = 0;
    m->stats = hf_stats_new();
    snprintf(dir, sizeof dir, "/n%u", i + 1);
    snprintf(address, sizeof address, "n%u:1", i + 1);
    snprintf(name, sizeof name, "node-%c", 'a' + (int)i);
    config.dir = dir;
    config.listen_address = m->listen ? m->listen : address;
    config.name = join ? name : "";
    rc = hf_consensus_open(hf_sim_node_env(m->fake), &config, &events, m->stats, &m->c, m->why, sizeof m->why);
    if (rc == 0) {
        snprintf(path, sizeof path, "%s/state-%" PRIu64 ".db", dir, hf_consensus_generation(m->c));
        rc = read_state(m, path);
        m->committed = m->state.index;
        rc = rc == HF_E_NOENT ? 0 : rc;
        if (rc == 0)
            rc = hf_consensus_start(m->c, m->state.index, m->why, sizeof m->why);
        if (rc < 0)
            hf_consensus_close(m->c);
    }
    if (rc < 0)
        m->c = NULL;
    else
        hf_consensus_set_level(m->c, HF_LEVEL_MAX);
    return rc;
}

static void start(struct group *g, unsigned i, const char *join)
{
    int rc = open_member(g, i, join, "");

    ck_assert_msg(rc == 0, "member %u: %s", i + 1, g->m[i].why);
}

static void stop(struct group *g, unsigned i, bool is_crash)
{
    struct member *m = &g->m[i];

    if (!m->fake)
        return;
    if (is_crash)
        hf_sim_node_crash(m->fake, &m->disk);
    hf_sim_node_env(m->fake)->unpost(hf_sim_node_env(m->fake), &m->install_task);
    if (m->c)
        hf_consensus_close(m->c);
    if (!is_crash)
        m->disk = hf_sim_node_take_fs(m->fake);
    hf_sim_node_free(m->fake);
    hf_stats_free(m->stats);
    m->c = NULL;
    m->fake = NULL;
}

static void group_open(struct group *g, uint64_t seed)
{
    memset(g, 0, sizeof *g);
    hf_log_silence(true);
    g->w = hf_sim_world_new(seed);
    for (unsigned i = 0; i < LISTED; i++)
        start(g, i, NULL);
}

static void group_close(struct group *g)
{
    for (unsigned i = 0; i < N; i++) {
        stop(g, i, false);
        hf_sim_disk_free(g->m[i].disk);
    }
    hf_sim_world_free(g->w);
}

static void run(struct group *g, uint64_t ms)
{
    uint64_t until = hf_sim_world_now_ms(g->w) + ms;

    while (hf_sim_world_now_ms(g->w) < until) {
        uint64_t step = until - hf_sim_world_now_ms(g->w);

        hf_sim_world_run_until(g->w, hf_sim_world_now_ms(g->w) + (step < 10 ? step : 10));
        if (hf_sim_world_now_ms(g->w) < g->committed_ms + COMMITS)
            continue;
        g->committed_ms = hf_sim_world_now_ms(g->w);
        for (unsigned i = 0; i < N; i++) {
            struct member *m = &g->m[i];
            struct hf_consensus_status st;

            if (!m->c || m->has_failed || g->holds_commits || m->committed == m->state.index)
                continue;
            hf_consensus_status(m->c, &st);
            if (st.is_installing)
                continue;
            save_state(m);
            if (m->committed == m->state.index)
                hf_consensus_state_durable(m->c, m->state.index, m->state.term, m->state.configuration_index,
                                           hf_slice(m->state.configuration, m->state.configuration_len));
        }
    }
}

static struct member *leader(struct group *g, uint64_t within_ms)
{
    for (uint64_t t = 0; t < within_ms; t += 10) {
        for (unsigned i = 0; i < N; i++)
            if (g->m[i].c && hf_consensus_role(g->m[i].c) == HF_ROLE_LEADER)
                return &g->m[i];
        run(g, 10);
    }
    return NULL;
}

static void write_some(struct group *g, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct member *l = leader(g, 5000);
        struct hf_log_entry *e = hf_log_entry_new(HF_ENTRY_COMMAND, 0, 0, 100);
        uint64_t index, term;

        ck_assert_ptr_nonnull(l);
        memset(e->data, (int)i, 100);
        if (hf_consensus_submit(l->c, e, &index, &term) < 0)
            hf_log_entry_unref(e);
        if (i % 8 == 7)
            run(g, 5);
    }
    run(g, 50);
}

static const struct hf_consensus_member *status_of(struct member *m, uint64_t id, struct hf_consensus_status *st)
{
    hf_consensus_status(m->c, st);
    for (uint32_t i = 0; i < st->n_members; i++)
        if (st->members[i].id == id)
            return &st->members[i];
    return NULL;
}

static bool has_role(struct group *g, uint64_t id, const char *role)
{
    struct hf_consensus_status st;
    struct member *l = leader(g, 5000);
    const struct hf_consensus_member *m = l ? status_of(l, id, &st) : NULL;

    return m && strcmp(m->role, role) == 0;
}

/* Until it is so, at most within_ms. */
static bool wait_role(struct group *g, uint64_t id, const char *role, uint64_t within_ms)
{
    for (uint64_t t = 0; t < within_ms; t += 50) {
        if (has_role(g, id, role))
            return true;
        run(g, 50);
    }
    return false;
}

struct asked {
    struct hf_member_request req;
    int rc;
    bool is_done;
    char text[512];
};

static void on_answer(struct hf_member_request *req, int rc, const char *text)
{
    struct asked *a = req->data;

    a->rc = rc;
    a->is_done = true;
    snprintf(a->text, sizeof a->text, "%s", text);
}

static int ask(struct group *g, unsigned by, int op, const char *node, const char *other, struct asked *a)
{
    memset(a, 0, sizeof *a);
    a->req = (struct hf_member_request){.data = a, .cb = on_answer, .op = op, .timeout_ms = 5000};
    snprintf(a->req.node, sizeof a->req.node, "%s", node);
    snprintf(a->req.other, sizeof a->req.other, "%s", other);
    hf_consensus_operate(g->m[by].c, &a->req);
    ck_assert(!a->is_done);
    for (uint64_t t = 0; t < 30000 && !a->is_done; t += 10)
        run(g, 10);
    ck_assert_msg(a->is_done, "no answer");
    return a->rc;
}

static void check_equal(struct group *g)
{
    struct member *first = NULL;

    run(g, 3000);
    for (unsigned i = 0; i < N; i++) {
        struct member *m = &g->m[i];

        if (!m->c || m->is_removed)
            continue;
        ck_assert_msg(!m->has_failed, "member %u: %s", i + 1, m->why);
        if (!first)
            first = m;
        ck_assert_uint_eq(m->state.index, first->state.index);
        ck_assert_uint_eq(m->state.hash, first->state.hash);
    }
}

/* ---- what is not committed, or not known yet ---------------------------------------------------------- */

static void make_leader(struct group *g, unsigned i)
{
    for (unsigned k = 0; k < 5; k++) {
        struct member *l = leader(g, 5000);

        ck_assert_ptr_nonnull(l);
        if (l->number == i)
            return;
        hf_consensus_transfer(l->c, g->m[i].number + 1, 1000, NULL, NULL);
        run(g, 1500);
    }
    ck_abort_msg("member %u does not lead", i + 1);
}

/* A removal that was never committed stands in the log of a node that restarts, and who was to be removed leads. */
START_TEST(test_removal_taken_back)
{
    struct group g;
    struct asked a = {0};
    unsigned l, x;

    group_open(&g, (uint64_t)_i + 900);
    l = leader(&g, 5000)->number;
    x = (l + 1) % LISTED;
    write_some(&g, 20);
    run(&g, 2000);
    for (unsigned i = 0; i < LISTED; i++)
        if (i != l)
            hf_sim_world_block(g.w, l, i, true);
    a.req = (struct hf_member_request){.data = &a, .cb = on_answer, .op = HF_MEMBER_REMOVE, .timeout_ms = 5000};
    snprintf(a.req.node, sizeof a.req.node, "%u", x + 1);
    hf_consensus_operate(g.m[l].c, &a.req);
    run(&g, 200);
    stop(&g, l, false);
    ck_assert(a.is_done && a.rc == HF_E_TIMEOUT);
    run(&g, 4000); /* what it sent is lost */
    hf_sim_world_heal(g.w);
    make_leader(&g, x);
    start(&g, l, NULL);
    write_some(&g, 20);
    check_equal(&g);
    group_close(&g);
}
END_TEST

static void cut_off(struct group *g, unsigned who)
{
    for (unsigned i = 0; i < N; i++)
        if (i != who) {
            hf_sim_world_block(g->w, who, i, true);
            hf_sim_world_block(g->w, i, who, true);
        }
}

/* The single-server rule: one change that is not committed is enough. */
START_TEST(test_one_change_at_a_time)
{
    struct group g;
    struct asked a = {0}, b;
    unsigned l;

    group_open(&g, (uint64_t)_i + 970);
    l = leader(&g, 5000)->number;
    write_some(&g, 20);
    run(&g, 500);
    cut_off(&g, l);
    a.req = (struct hf_member_request){.data = &a, .cb = on_answer, .op = HF_MEMBER_DEMOTE, .timeout_ms = 5000};
    snprintf(a.req.node, sizeof a.req.node, "%u", (l + 1) % LISTED + 1);
    hf_consensus_operate(g.m[l].c, &a.req);
    run(&g, 50);
    ck_assert(!a.is_done); /* in the log, and not committed */
    char id[24];
    snprintf(id, sizeof id, "%u", (l + 2) % LISTED + 1);
    ck_assert_int_ne(ask(&g, l, HF_MEMBER_DEMOTE, id, "", &b), 0);
    ck_assert_msg(strstr(b.text, "under way") != NULL, "%s", b.text);
    hf_sim_world_heal(g.w);
    run(&g, 5000);
    ck_assert(a.is_done);
    write_some(&g, 20);
    check_equal(&g);
    group_close(&g);
}
END_TEST

/* And no change at all before an entry of the leader's own term is committed. */
START_TEST(test_no_change_before_the_own_term)
{
    struct group g;
    struct asked a;
    struct member *l = NULL;
    char id[24];

    group_open(&g, (uint64_t)_i + 980);
    for (unsigned t = 0; t < 10000 && !l; t++) {
        hf_sim_world_run_until(g.w, hf_sim_world_now_ms(g.w) + 1);
        for (unsigned i = 0; i < LISTED; i++)
            if (hf_consensus_role(g.m[i].c) == HF_ROLE_LEADER)
                l = &g.m[i];
    }
    ck_assert_ptr_nonnull(l);
    cut_off(&g, l->number); /* its first entry reaches nobody any more */
    snprintf(id, sizeof id, "%u", (l->number + 1) % LISTED + 1);
    ck_assert_int_ne(ask(&g, l->number, HF_MEMBER_DEMOTE, id, "", &a), 0);
    ck_assert_msg(strncmp(a.text, "UNKNOWN", 7) != 0, "%s", a.text); /* nothing was written */
    hf_sim_world_heal(g.w);
    write_some(&g, 20);
    check_equal(&g);
    group_close(&g);
}
END_TEST

/* A node was let in and stopped before it got any entry; when it is back, one that joined after it leads. */
START_TEST(test_leader_that_came_later)
{
    struct hf_consensus_status st = {0};
    struct group g;

    group_open(&g, (uint64_t)_i + 950);
    ck_assert_ptr_nonnull(leader(&g, 5000));
    run(&g, 3000);
    start(&g, 3, "n1:1,n2:1,n3:1");
    for (unsigned i = 0; i < 20000 && st.node_id == 0; i++) {
        run(&g, 1);
        hf_consensus_status(g.m[3].c, &st);
    }
    ck_assert_uint_eq(st.node_id, 4);
    ck_assert_uint_eq(st.last_index, 0);
    stop(&g, 3, false);
    start(&g, 4, "n1:1,n2:1,n3:1");
    ck_assert(wait_role(&g, 5, "voter", 20000));
    make_leader(&g, 4);
    start(&g, 3, "n1:1,n2:1,n3:1");
    ck_assert(wait_role(&g, 4, "voter", 20000));
    write_some(&g, 20);
    check_equal(&g);
    group_close(&g);
}
END_TEST

/* A learner's promotion stands in the log of a leader that restarts, and nowhere else; another voter is gone. By the
 * newest configuration three of four must vote, and the learner is one of them. */
START_TEST(test_learner_votes_for_its_promoter)
{
    struct group g;
    struct asked a = {0};
    unsigned l;

    group_open(&g, (uint64_t)_i + 970);
    ck_assert_ptr_nonnull(leader(&g, 5000));
    start(&g, 3, "n1:1,n2:1,n3:1");
    ck_assert(wait_role(&g, 4, "voter", 20000));
    run(&g, 2000);
    ck_assert_msg(ask(&g, 0, HF_MEMBER_DEMOTE, "4", "", &a) == 0, "%s", a.text);
    run(&g, 2000);
    l = leader(&g, 5000)->number;
    for (unsigned i = 0; i < LISTED + 1; i++)
        if (i != l)
            hf_sim_world_block(g.w, l, i, true);
    a = (struct asked){0};
    a.req = (struct hf_member_request){.data = &a, .cb = on_answer, .op = HF_MEMBER_PROMOTE, .timeout_ms = 5000};
    snprintf(a.req.node, sizeof a.req.node, "4");
    hf_consensus_operate(g.m[l].c, &a.req);
    run(&g, 200);
    stop(&g, l, false);
    ck_assert_msg(a.is_done && a.rc == HF_E_TIMEOUT, "%d %s", a.rc, a.text);
    stop(&g, (l + 1) % LISTED, false);
    run(&g, 4000); /* what it sent is lost */
    hf_sim_world_heal(g.w);
    start(&g, l, NULL);
    ck_assert(wait_role(&g, 4, "voter", 20000));
    start(&g, (l + 1) % LISTED, NULL);
    write_some(&g, 20);
    check_equal(&g);
    group_close(&g);
}
END_TEST

static void on_gate(struct hf_gate *gate, int rc)
{
    *(int *)gate->data = rc;
}

/* A read waits for the answer of a voter that is demoted before it answers: then the leader is the only voter. */
START_TEST(test_reads_go_on_alone)
{
    struct hf_gate first = {.cb = on_gate}, second = {.cb = on_gate};
    int rc[2] = {1, 1};
    struct group g;
    struct asked a;
    unsigned l, x;
    char id[16];

    group_open(&g, 990);
    l = leader(&g, 5000)->number;
    x = (l + 1) % LISTED;
    snprintf(id, sizeof id, "%u", (l + 2) % LISTED + 1);
    ck_assert_msg(ask(&g, l, HF_MEMBER_REMOVE, id, "", &a) == 0, "%s", a.text);
    make_leader(&g, l);
    stop(&g, x, true);
    first.data = &rc[0];
    second.data = &rc[1];
    hf_consensus_gate(g.m[l].c, &first);
    snprintf(id, sizeof id, "%u", x + 1);
    ck_assert_msg(ask(&g, l, HF_MEMBER_DEMOTE, id, "", &a) == 0, "%s", a.text);
    run(&g, 1000);
    hf_consensus_gate(g.m[l].c, &second);
    run(&g, 1000);
    ck_assert_int_eq(rc[0], 0);
    ck_assert_int_eq(rc[1], 0);
    group_close(&g);
}
END_TEST

/* ---- a copy of the state ------------------------------------------------------------------------------ */

START_TEST(test_lagging_member_gets_a_copy)
{
    struct group g;
    unsigned lagging;

    group_open(&g, (uint64_t)_i + 1);
    lagging = (leader(&g, 5000)->number + 1) % LISTED;
    write_some(&g, 20);
    stop(&g, lagging, _i % 2);
    write_some(&g, 1500);
    start(&g, lagging, NULL);
    run(&g, 4000);
    ck_assert_uint_ge(g.m[lagging].n_installs, 1);
    write_some(&g, 50);
    check_equal(&g);
    stop(&g, lagging, true); /* and what it installed lasts */
    start(&g, lagging, NULL);
    write_some(&g, 10);
    check_equal(&g);
    group_close(&g);
}
END_TEST

/* The power goes again and again around the install: what is there afterwards is the old state or the new one. */
START_TEST(test_crashes_during_installs)
{
    struct group g;
    unsigned lagging;

    group_open(&g, (uint64_t)_i + 700);
    lagging = (leader(&g, 5000)->number + 1) % LISTED;
    stop(&g, lagging, false);
    write_some(&g, 1000);
    for (unsigned k = 0; k < 12; k++) {
        start(&g, lagging, NULL);
        run(&g, 300 + hf_prng_next(hf_sim_world_prng(g.w)) % 500);
        stop(&g, lagging, true);
        write_some(&g, 40);
    }
    start(&g, lagging, NULL);
    write_some(&g, 20);
    check_equal(&g);
    group_close(&g);
}
END_TEST

/* The power goes when the copy is installed and before the leader hears of it, and nobody writes any more. */
START_TEST(test_lost_answer_to_an_install)
{
    struct hf_consensus_status st;
    struct group g;
    unsigned lagging;

    group_open(&g, (uint64_t)_i + 60);
    lagging = (leader(&g, 5000)->number + 1) % LISTED;
    stop(&g, lagging, false);
    write_some(&g, 1200);
    g.m[lagging].n_installs = 0;
    start(&g, lagging, NULL);
    for (unsigned t = 0; t < 20000 && g.m[lagging].n_installs == 0; t++)
        hf_sim_world_step(g.w, hf_sim_world_now_ms(g.w) + 1);
    ck_assert_uint_eq(g.m[lagging].n_installs, 1);
    stop(&g, lagging, true);
    start(&g, lagging, NULL);
    run(&g, 8000);
    hf_consensus_status(leader(&g, 5000)->c, &st);
    ck_assert_uint_eq(status_of(leader(&g, 5000), lagging + 1, &st)->match_index, st.last_index);
    check_equal(&g);
    group_close(&g);
}
END_TEST

/* A verified copy outlives the leader that sent it; whoever leads then can have it installed. */
START_TEST(test_leader_changes_during_a_copy)
{
    struct group g;
    unsigned lagging, first;

    group_open(&g, (uint64_t)_i + 40);
    first = leader(&g, 5000)->number;
    lagging = (first + 1) % LISTED;
    stop(&g, lagging, false);
    write_some(&g, 1500);
    g.holds_copies = true;
    start(&g, lagging, NULL);
    run(&g, 1000);
    stop(&g, first, true);
    run(&g, 500);
    start(&g, first, NULL);
    g.holds_copies = false;
    run(&g, 3000);
    write_some(&g, 20);
    check_equal(&g);
    group_close(&g);
}
END_TEST

/* R17: what is written while a copy travels does not outrun the journal's limit. */
START_TEST(test_writes_slow_down_behind_a_copy)
{
    struct group g;
    struct hf_consensus_status st;
    struct member *l;
    uint64_t taken = 0, refused = 0, began, limit = (32u << 10) + (1u << 20);

    group_open(&g, 900);
    l = leader(&g, 5000);
    ck_assert_ptr_nonnull(l);
    run(&g, 500);
    hf_consensus_pin(l->c, l->state.index);
    began = hf_sim_world_now_ms(g.w);
    while (hf_sim_world_now_ms(g.w) < began + 2000) {
        struct hf_log_entry *e = hf_log_entry_new(HF_ENTRY_COMMAND, 0, 0, 16u << 10);
        uint64_t index, term;
        int rc;

        memset(e->data, 1, e->len);
        rc = hf_consensus_submit(l->c, e, &index, &term);
        if (rc < 0) {
            ck_assert_int_eq(rc, HF_E_AGAIN);
            hf_log_entry_unref(e);
            refused++;
        } else {
            taken += 16u << 10;
        }
        run(&g, 5);
    }
    ck_assert_uint_gt(refused, 10);
    ck_assert_uint_gt(taken, limit / 2); /* it was allowed to grow ... */
    ck_assert_uint_lt(taken, 3 * limit); /* ... unhindered it would have been six times the limit */
    hf_consensus_status(l->c, &st);
    ck_assert_uint_le(st.journal_bytes, st.journal_bytes_max + limit);
    hf_consensus_pin(l->c, 0);
    run(&g, 2000);
    write_some(&g, 100);
    check_equal(&g);
    group_close(&g);
}
END_TEST

/* The log may not outgrow its limit while the states of all members are slow; afterwards it goes on. */
START_TEST(test_full_journals_take_nothing)
{
    struct group g;
    struct hf_consensus_status st;
    struct member *l;
    uint64_t refused = 0, before;

    group_open(&g, 950);
    l = leader(&g, 5000);
    ck_assert_ptr_nonnull(l);
    write_some(&g, 50);
    g.holds_commits = true;
    for (unsigned i = 0; i < 400; i++) {
        struct hf_log_entry *e = hf_log_entry_new(HF_ENTRY_COMMAND, 0, 0, 4u << 10);
        uint64_t index, term;

        memset(e->data, 1, e->len);
        if (hf_consensus_submit(l->c, e, &index, &term) < 0) {
            hf_log_entry_unref(e);
            refused++;
        }
        run(&g, 5);
        for (unsigned k = 0; k < LISTED; k++) {
            hf_consensus_status(g.m[k].c, &st);
            ck_assert_uint_le(st.journal_bytes, st.journal_bytes_max);
        }
    }
    ck_assert_uint_gt(refused, 200);
    before = l->state.index;
    g.holds_commits = false;
    run(&g, 1000);
    write_some(&g, 200);
    ck_assert_uint_gt(leader(&g, 100)->state.index, before + 100);
    check_equal(&g);
    group_close(&g);
}
END_TEST

/* ---- members ------------------------------------------------------------------------------------------ */

START_TEST(test_nodes_join_and_become_voters)
{
    struct group g;

    group_open(&g, (uint64_t)_i + 90);
    write_some(&g, _i % 2 ? 1500 : 30); /* by a copy of the state, or by the log alone */
    start(&g, 3, "n2:1");
    ck_assert_msg(wait_role(&g, 4, "voter", 15000), "%s", g.m[3].why);
    start(&g, 4, "n9:1,n1:1"); /* the first address answers nothing */
    ck_assert(wait_role(&g, 5, "voter", 40000));
    write_some(&g, 100);
    check_equal(&g);
    stop(&g, 3, true); /* it comes back as what it is, by itself */
    start(&g, 3, "n2:1");
    write_some(&g, 20);
    check_equal(&g);
    ck_assert(has_role(&g, 4, "voter"));
    group_close(&g);
}
END_TEST

START_TEST(test_crashes_while_joining)
{
    struct group g;

    group_open(&g, (uint64_t)_i + 300);
    write_some(&g, _i % 2 ? 1200 : 30);
    for (unsigned k = 0; k < 8; k++) {
        start(&g, 3, "n3:1,n1:1");
        run(&g, 200 + hf_prng_next(hf_sim_world_prng(g.w)) % 900);
        stop(&g, 3, true);
        if (k % 3 == 2) {
            unsigned l = leader(&g, 5000)->number;

            stop(&g, l, true);
            run(&g, 300);
            start(&g, l, NULL);
        }
    }
    start(&g, 3, "n3:1,n1:1");
    ck_assert(wait_role(&g, 4, "voter", 30000) || wait_role(&g, 5, "voter", 1000));
    write_some(&g, 20);
    check_equal(&g);
    group_close(&g);
}
END_TEST

START_TEST(test_changes_from_any_member)
{
    struct group g;
    struct asked a;
    unsigned l, f;

    group_open(&g, (uint64_t)_i + 500);
    l = leader(&g, 5000)->number;
    f = (l + 1) % LISTED;
    write_some(&g, 10);
    char id[24];
    snprintf(id, sizeof id, "%u", (l + 2) % LISTED + 1);
    ck_assert_int_eq(ask(&g, f, HF_MEMBER_DEMOTE, id, "", &a), 0);
    ck_assert(has_role(&g, (l + 2) % LISTED + 1, "standby"));
    ck_assert_int_eq(ask(&g, l, HF_MEMBER_PROMOTE, id, "", &a), 0);
    ck_assert(has_role(&g, (l + 2) % LISTED + 1, "voter"));
    ck_assert_int_ne(ask(&g, f, HF_MEMBER_REMOVE, "77", "", &a), 0);
    ck_assert_msg(strstr(a.text, "no member called 77") != NULL, "%s", a.text);
    ck_assert_int_eq(ask(&g, f, HF_MEMBER_REMOVE, id, "", &a), 0);
    ck_assert_msg(strncmp(a.text, "OK ", 3) == 0, "it says what was done, not \"%s\"", a.text);
    run(&g, 3000);
    ck_assert(g.m[(l + 2) % LISTED].is_removed);
    stop(&g, (l + 2) % LISTED, false);
    ck_assert_int_eq(open_member(&g, (l + 2) % LISTED, NULL, NULL), HF_E_FOREIGN);
    ck_assert_msg(strstr(g.m[(l + 2) % LISTED].why, "was removed") != NULL, "%s", g.m[(l + 2) % LISTED].why);
    write_some(&g, 10);
    check_equal(&g);
    group_close(&g);
}
END_TEST

START_TEST(test_removed_leader_hands_over)
{
    struct group g;
    struct asked a;
    unsigned l;
    char id[24];

    group_open(&g, (uint64_t)_i + 520);
    l = leader(&g, 5000)->number;
    write_some(&g, 20);
    snprintf(id, sizeof id, "%u", l + 1);
    ck_assert_msg(ask(&g, _i % 2 ? l : (l + 1) % LISTED, HF_MEMBER_REMOVE, id, "", &a) == 0, "%s", a.text);
    run(&g, 3000);
    ck_assert(g.m[l].is_removed);
    ck_assert_uint_ne(leader(&g, 5000)->number, l);
    write_some(&g, 20);
    check_equal(&g);
    group_close(&g);
}
END_TEST

/* A member that is down when it is removed hears of it when it comes back, and ids are never used again. */
/* Whoever was away, or joins and replays the log, meets a leader that the old part of the log does not know. */
START_TEST(test_leader_that_the_log_does_not_tell_of_yet)
{
    struct group g;
    struct asked a;
    unsigned away;
    bool removes = _i % 4 >= 2;

    group_open(&g, (uint64_t)_i + 1200);
    away = (leader(&g, 5000)->number + 1) % LISTED;
    write_some(&g, 20);
    stop(&g, away, _i % 2);
    start(&g, 3, "n1:1,n2:1,n3:1");
    ck_assert(wait_role(&g, 4, "voter", 30000));
    run(&g, 500);
    ck_assert_msg(ask(&g, 3, HF_MEMBER_TRANSFER, "4", "", &a) == 0, "%s", a.text);
    ck_assert_uint_eq(leader(&g, 5000)->number, 3);
    if (removes) { /* and one of those that it knows is gone */
        char id[24];
        unsigned other = 0;

        while (other == away)
            other++;
        start(&g, 4, "n4:1");
        ck_assert(wait_role(&g, 5, "voter", 30000));
        run(&g, 500);
        snprintf(id, sizeof id, "%u", other + 1);
        ck_assert_msg(ask(&g, 3, HF_MEMBER_REMOVE, id, "", &a) == 0, "%s", a.text);
    }
    write_some(&g, _i % 3 == 2 ? 1200 : 30);
    start(&g, away, NULL);
    run(&g, 3000);
    start(&g, 5, "n4:1");
    ck_assert(wait_role(&g, removes ? 6 : 5, "voter", 30000));
    write_some(&g, 20);
    check_equal(&g);
    group_close(&g);
}
END_TEST

/* Wiped again before it had caught up: it joins once more under its name, and its earlier self goes. */
START_TEST(test_wiped_twice)
{
    struct group g;
    unsigned l, dead;
    char id[24];

    group_open(&g, (uint64_t)_i + 1400);
    l = leader(&g, 5000)->number;
    dead = (l + 1) % LISTED;
    write_some(&g, 1200);
    stop(&g, dead, true);
    snprintf(id, sizeof id, "%u", dead + 1);
    g.holds_copies = true;
    ck_assert_int_eq(open_member(&g, 3, l == 0 ? "n1:1" : l == 1 ? "n2:1" : "n3:1", id), 0);
    ck_assert(wait_role(&g, 4, "standby", 10000));
    run(&g, 500);
    stop(&g, 3, true);
    hf_sim_disk_free(g.m[3].disk);
    g.m[3].disk = NULL;
    ck_assert_int_eq(open_member(&g, 3, l == 0 ? "n1:1" : l == 1 ? "n2:1" : "n3:1", id), 0);
    ck_assert(wait_role(&g, 5, "standby", 20000));
    g.holds_copies = false;
    ck_assert(wait_role(&g, 5, "voter", 20000));
    run(&g, 8000);
    ck_assert(!has_role(&g, 4, "standby"));
    ck_assert(!has_role(&g, dead + 1, "voter"));
    write_some(&g, 20);
    check_equal(&g);
    group_close(&g);
}
END_TEST

/* The level rises only when all members are heard: one that is gone for good must be removable before. */
START_TEST(test_dead_member_is_removed_before_the_level_rises)
{
    struct group g;
    struct asked a;
    unsigned l, dead;
    char id[24];

    group_open(&g, (uint64_t)_i + 1300);
    l = leader(&g, 5000)->number;
    dead = (l + 1) % LISTED;
    for (unsigned i = 0; i < LISTED; i++)
        hf_consensus_set_level(g.m[i].c, 1);
    run(&g, 1500);
    ck_assert_uint_eq(hf_consensus_members_level(g.m[l].c), HF_LEVEL_MAX);
    stop(&g, dead, true);
    run(&g, 6000);
    ck_assert_uint_eq(hf_consensus_members_level(g.m[l].c), 0); /* it may come back as an older release */
    ck_assert_int_ne(ask(&g, l, HF_MEMBER_ADD, "node-e", "n5:1", &a), 0);
    ck_assert_msg(strstr(a.text, "remove those that are gone") != NULL, "%s", a.text);
    snprintf(id, sizeof id, "%u", dead + 1);
    ck_assert_msg(ask(&g, l, HF_MEMBER_REMOVE, id, "", &a) == 0, "%s", a.text);
    ck_assert_uint_eq(hf_consensus_members_level(g.m[l].c), HF_LEVEL_MAX);
    group_close(&g);
}
END_TEST

START_TEST(test_removed_while_down)
{
    struct group g;
    struct asked a;
    unsigned l, down;
    char id[24];

    group_open(&g, (uint64_t)_i + 540);
    start(&g, 3, "n1:1");
    ck_assert(wait_role(&g, 4, "voter", 15000));
    down = 3;
    l = leader(&g, 5000)->number;
    if (l == down) {
        ck_assert_int_eq(ask(&g, 0, HF_MEMBER_TRANSFER, "1", "", &a), 0);
        l = leader(&g, 5000)->number;
    }
    run(&g, 500); /* the promotion is committed */
    stop(&g, down, true);
    snprintf(id, sizeof id, "%u", down + 1);
    ck_assert_msg(ask(&g, 0, HF_MEMBER_REMOVE, id, "", &a) == 0, "%s", a.text);
    start(&g, down, "n1:1");
    run(&g, 5000);
    ck_assert(g.m[down].is_removed);
    stop(&g, down, false);
    hf_sim_disk_free(g.m[down].disk);
    g.m[down].disk = NULL;
    start(&g, down, "n1:1"); /* a new directory: a new member */
    ck_assert(wait_role(&g, 5, "voter", 15000));
    ck_assert(!has_role(&g, 4, "voter"));
    write_some(&g, 20);
    check_equal(&g);
    group_close(&g);
}
END_TEST

START_TEST(test_unsafe_changes_are_refused)
{
    struct group g;
    struct asked a;
    unsigned l, down;
    char id[24];

    group_open(&g, 560);
    l = leader(&g, 5000)->number;
    down = (l + 1) % LISTED;
    stop(&g, down, true);
    run(&g, 6000);
    snprintf(id, sizeof id, "%u", (l + 2) % LISTED + 1);
    ck_assert_int_ne(ask(&g, l, HF_MEMBER_REMOVE, id, "", &a), 0); /* the dead one would be half of the voters */
    ck_assert_msg(strstr(a.text, "no quorum would remain") != NULL, "%s", a.text);
    snprintf(id, sizeof id, "%u", down + 1);
    ck_assert_int_eq(ask(&g, l, HF_MEMBER_REMOVE, id, "", &a), 0); /* it itself may go */
    ck_assert_int_ne(ask(&g, l, HF_MEMBER_ADD, "7", "n7:1", &a), 0);
    ck_assert_int_ne(ask(&g, l, HF_MEMBER_ADD, "seven", "nowhere", &a), 0);
    ck_assert_int_eq(ask(&g, l, HF_MEMBER_ADD, "node-e", "n5:1", &a), 0);
    ck_assert_int_ne(ask(&g, l, HF_MEMBER_PROMOTE, "node-e", "", &a), 0);
    ck_assert_msg(strstr(a.text, "has not joined yet") != NULL, "%s", a.text);
    start(&g, 4, "n1:1,n2:1,n3:1"); /* takes the place that was kept for its name */
    ck_assert(wait_role(&g, 4, "voter", 30000));
    write_some(&g, 20);
    check_equal(&g);
    group_close(&g);
}
END_TEST

/* A dead voter is replaced by a node that joins in its place; the old directory stays out. */
START_TEST(test_replacing_a_dead_member)
{
    struct group g;
    unsigned l, dead;
    char id[24];

    group_open(&g, (uint64_t)_i + 580);
    l = leader(&g, 5000)->number;
    dead = (l + 1) % LISTED;
    write_some(&g, _i % 2 ? 1200 : 20);
    stop(&g, dead, true);
    snprintf(id, sizeof id, "%u", dead + 1);
    ck_assert_int_eq(open_member(&g, 3, l == 0 ? "n1:1" : l == 1 ? "n2:1" : "n3:1", id), 0);
    ck_assert(wait_role(&g, 4, "voter", 20000));
    ck_assert(!has_role(&g, dead + 1, "voter"));
    start(&g, dead, NULL);
    run(&g, 5000);
    ck_assert(g.m[dead].is_removed);
    write_some(&g, 20);
    check_equal(&g);
    group_close(&g);
}
END_TEST

START_TEST(test_member_moves_to_another_address)
{
    struct group g;
    struct hf_consensus_status st;
    const struct hf_consensus_member *m;
    unsigned l, moved;

    group_open(&g, 600);
    l = leader(&g, 5000)->number;
    moved = (l + 1) % LISTED;
    write_some(&g, 20);
    stop(&g, moved, false);
    g.m[moved].listen = g.m[moved].peer_address = "elsewhere:7";
    start(&g, moved, NULL);
    run(&g, 5000);
    m = status_of(leader(&g, 5000), moved + 1, &st);
    ck_assert_ptr_nonnull(m);
    ck_assert_str_eq(m->address, "elsewhere:7");
    ck_assert(m->is_connected);
    write_some(&g, 20);
    check_equal(&g);
    group_close(&g);
}
END_TEST

START_TEST(test_single_node_grows)
{
    struct group g;

    memset(&g, 0, sizeof g);
    hf_log_silence(true);
    g.w = hf_sim_world_new((uint64_t)_i + 800);
    /* Node 1 alone: a list of its own. */
    g.m[0].listen = "n1:1";
    {
        struct member *m = &g.m[0];
        struct hf_consensus_events events = {.data = m,
                                             .on_commit = on_commit,
                                             .on_behind = on_behind,
                                             .on_caught_up = on_caught_up,
                                             .take_copy = take_copy,
                                             .on_install = on_install,
                                             .on_removed = on_removed,
                                             .on_failed = on_failed};
        struct hf_consensus_config config = {.dir = "/n1",
                                             .node_id = 1,
                                             .listen_address = "n1:1",
                                             .members = "",
                                             .client_address = "",
                                             .cluster_id = "",
                                             .seed = 7,
                                             .election_timeout_ms = 600,
                                             .heartbeat_ms = 100,
                                             .message_bytes_max = 8u << 20,
                                             .journal_segment_bytes = 16u << 10,
                                             .journal_tail_bytes = 4096,
                                             .journal_retain_bytes = 16u << 10,
                                             .journal_max_bytes = 32u << 10,
                                             .snapshot_journal_bytes = 8u << 10};

        m->group = &g;
        m->fake = hf_sim_node_new(g.w, 0);
        m->stats = hf_stats_new();
        ck_assert_int_eq(hf_consensus_open(hf_sim_node_env(m->fake), &config, &events, m->stats, &m->c, m->why, 512),
                         0);
        ck_assert_int_eq(hf_consensus_start(m->c, 0, m->why, sizeof m->why), 0);
        hf_consensus_set_level(m->c, HF_LEVEL_MAX);
    }
    write_some(&g, _i % 2 ? 1200 : 20);
    start(&g, 1, "n1:1");
    ck_assert(wait_role(&g, 2, "voter", 15000));
    start(&g, 2, "n1:1");
    ck_assert(wait_role(&g, 3, "voter", 15000));
    write_some(&g, 50);
    check_equal(&g);
    group_close(&g);
}
END_TEST

Suite *operate_suite(void)
{
    Suite *s = suite_create("operate");
    TCase *t = tcase_create("members");

    tcase_set_timeout(t, 240);
    tcase_add_loop_test(t, test_removal_taken_back, 0, 3);
    tcase_add_loop_test(t, test_one_change_at_a_time, 0, 3);
    tcase_add_loop_test(t, test_no_change_before_the_own_term, 0, 3);
    tcase_add_loop_test(t, test_leader_that_came_later, 0, 3);
    tcase_add_test(t, test_reads_go_on_alone);
    tcase_add_loop_test(t, test_learner_votes_for_its_promoter, 0, 3);
    tcase_add_loop_test(t, test_lagging_member_gets_a_copy, 0, 10);
    tcase_add_loop_test(t, test_crashes_during_installs, 0, 20);
    tcase_add_loop_test(t, test_lost_answer_to_an_install, 0, 6);
    tcase_add_loop_test(t, test_leader_changes_during_a_copy, 0, 5);
    tcase_add_test(t, test_writes_slow_down_behind_a_copy);
    tcase_add_test(t, test_full_journals_take_nothing);
    tcase_add_loop_test(t, test_nodes_join_and_become_voters, 0, 4);
    tcase_add_loop_test(t, test_crashes_while_joining, 0, 20);
    tcase_add_loop_test(t, test_changes_from_any_member, 0, 5);
    tcase_add_loop_test(t, test_removed_leader_hands_over, 0, 4);
    tcase_add_loop_test(t, test_wiped_twice, 0, 3);
    tcase_add_loop_test(t, test_dead_member_is_removed_before_the_level_rises, 0, 3);
    tcase_add_loop_test(t, test_removed_while_down, 0, 4);
    tcase_add_loop_test(t, test_leader_that_the_log_does_not_tell_of_yet, 0, 12);
    tcase_add_test(t, test_unsafe_changes_are_refused);
    tcase_add_loop_test(t, test_replacing_a_dead_member, 0, 4);
    tcase_add_test(t, test_member_moves_to_another_address);
    tcase_add_loop_test(t, test_single_node_grows, 0, 2);
    suite_add_tcase(s, t);
    return s;
}
