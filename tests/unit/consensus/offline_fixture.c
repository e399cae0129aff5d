/* offline_fixture.c: see offline_fixture.h. */
#include "offline_fixture.h"

#include "base/log.h"
#include "uv/uv_env.h"

#include <unistd.h>

static void run_fake(void *data)
{
    struct offline_place *p = data;

    p->is_stopped = false;
    while (!p->is_stopped && hf_fake_world_step(p->world))
        continue;
}

static void stop_fake(void *data)
{
    ((struct offline_place *)data)->is_stopped = true;
}

static void run_real(void *data)
{
    hf_uv_env_run(((struct offline_place *)data)->env);
}

static void stop_real(void *data)
{
    hf_uv_env_stop(((struct offline_place *)data)->env);
}

void offline_open_fake(struct offline_place *p, uint64_t seed)
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

void offline_open_real(struct offline_place *p)
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

void offline_close(struct offline_place *p)
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

const char *offline_path(const struct offline_place *p, const char *name)
{
    static char path[4][200];
    static unsigned at;
    char *out = path[at++ % 4];

    snprintf(out, sizeof path[0], "%s/%s", p->dir, name);
    return out;
}

void offline_write_file(struct offline_place *p, const char *path, const char *text)
{
    struct hf_file *f;

    ck_assert_int_eq(p->fs->open(p->fs, path, HF_FS_WRITE | HF_FS_CREATE, &f), 0);
    ck_assert_int_eq(p->fs->write(p->fs, f, 0, text, strlen(text)), 0);
    ck_assert_int_eq(p->fs->sync(p->fs, f), 0);
    p->fs->close(p->fs, f);
}

bool offline_has_file(struct offline_place *p, const char *path)
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

void offline_names(struct offline_place *p, const char *dir, char *out, size_t size)
{
    struct hf_buf b = {0};

    out[0] = 0;
    if (p->fs->list(p->fs, dir, put_name, &b) == 0)
        snprintf(out, size, "%.*s", (int)b.len, b.data ? (const char *)b.data : "");
    hf_buf_free(&b);
}

/* ---- a member's directory ------------------------------------------------------------------------- */

void offline_put_configuration(struct hf_buf *out, const char *const *addresses, const int *roles, unsigned n)
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

const char *const offline_three[3] = {"a:1#0000000000001111", "b:1#0000000000002222#bee", "c:1#0000000000003333"};

struct hf_identity offline_old_identity(void)
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
    struct offline_place *place;
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

void offline_write_journal(struct offline_place *p, uint64_t first, uint64_t last, uint64_t term,
                           const struct offline_part *parts, unsigned n_parts)
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

void offline_build(struct offline_place *p)
{
    struct hf_identity id = offline_old_identity();
    struct hf_marker marker = {.generation = 1, .index = 5, .term = 2, .configuration_index = 1};
    struct offline_part first = {.index = 1};

    offline_put_configuration(&first.bytes, offline_three, NULL, 3);
    hf_buf_put(&marker.configuration, first.bytes.data, first.bytes.len);
    if (p->world)
        ck_assert_int_eq(p->fs->mkdir(p->fs, p->dir), 0);
    offline_write_file(p, offline_path(p, "lock"), "");
    offline_write_file(p, offline_path(p, "state-1.db"), "the state");
    offline_write_file(p, offline_path(p, "state-1.db-wal"), "its log");
    offline_write_file(p, offline_path(p, "copy-7.db"), "a copy");
    offline_write_file(p, offline_path(p, "incoming.db"), "half a copy");
    offline_write_file(p, offline_path(p, "holdfast.conf"), "somebody's settings");
    offline_write_journal(p, 1, OLD_LAST, 2, &first, 1);
    ck_assert_int_eq(hf_marker_save(p->fs, p->dir, &marker), 0);
    ck_assert_int_eq(hf_identity_save(p->fs, p->dir, &id), 0);
    if (p->world)
        ck_assert_int_eq(p->fs->sync_dir(p->fs, "/"), 0);
    hf_marker_free(&marker);
    hf_buf_free(&first.bytes);
}

struct hf_offline_summary offline_look(struct offline_place *p, int *rc)
{
    struct hf_offline_summary s;
    uint64_t changes = p->world ? hf_fake_fs_ops(p->disk, HF_FAKE_CHANGES) : 0;
    char before[1000], after[1000];

    offline_names(p, p->dir, before, sizeof before);
    p->why[0] = 0;
    *rc = hf_offline_look(p->env, p->dir, &s, p->why, sizeof p->why);
    ck_assert_int_eq(*rc != 0, p->why[0] != 0);
    offline_names(p, p->dir, after, sizeof after);
    ck_assert_str_eq(before, after);
    if (p->world)
        ck_assert_uint_eq(hf_fake_fs_ops(p->disk, HF_FAKE_CHANGES), changes);
    return s;
}

/* ---- starting on it ------------------------------------------------------------------------------- */

static bool on_commit(void *data, struct hf_log_entry *e)
{
    struct offline_node *n = data;

    ck_assert_uint_eq(e->index, n->delivered + 1);
    n->delivered = e->index;
    return true;
}

static void on_role(void *data, enum hf_role role, uint64_t term, uint64_t leader_id)
{
    struct offline_node *n = data;

    (void)term;
    (void)leader_id;
    n->role = role;
}

static void on_failed(void *data, int err, const char *why)
{
    (void)data;
    ck_abort_msg("the node failed: %s (%s)", why, hf_strerror(err));
}

int offline_open_node(struct offline_place *p, struct offline_node *n, uint64_t id)
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

void offline_close_node(struct offline_node *n)
{
    hf_consensus_close(n->c);
    hf_stats_free(n->stats);
}

static bool leads_and_delivered(void *data)
{
    const struct offline_node *n = data;
    struct hf_consensus_status s;

    hf_consensus_status(n->c, &s);
    return n->role == HF_ROLE_LEADER && n->delivered == s.last_index;
}

void offline_check_leads_alone(struct offline_place *p, uint64_t id, uint64_t applied, uint64_t at_least)
{
    struct hf_consensus_status s;
    struct offline_node n;

    ck_assert_msg(offline_open_node(p, &n, id) == 0, "%s", p->why);
    n.delivered = applied;
    ck_assert_msg(hf_consensus_start(n.c, applied, p->why, sizeof p->why) == 0, "%s", p->why);
    ck_assert(hf_fake_world_run_until(p->world, 5000, leads_and_delivered, &n));
    ck_assert_uint_ge(n.delivered, at_least);
    hf_consensus_status(n.c, &s);
    ck_assert_uint_eq(s.n_members, 1);
    ck_assert_uint_eq(s.members[0].id, id);
    ck_assert_str_eq(s.members[0].role, "voter");
    offline_close_node(&n);
}

void offline_check_old(const struct hf_offline_summary *s)
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

/* ---- a power loss at every operation -------------------------------------------------------------- */

static int seen[N_STAGES];

/* How many operations the whole takes when nothing happens. */
static uint64_t count_operations(const struct offline_crash_case *cc)
{
    struct offline_place p;
    uint64_t n;

    offline_open_fake(&p, 1);
    cc->prepare(&p);
    n = hf_fake_fs_ops(p.disk, HF_FAKE_ANY);
    ck_assert_msg(cc->act(&p, 1) == 0, "%s", p.why);
    n = hf_fake_fs_ops(p.disk, HF_FAKE_ANY) - n;
    offline_close(&p);
    return n;
}

void offline_crash_everywhere(const struct offline_crash_case *cc)
{
    uint64_t n_operations = count_operations(cc);

    ck_assert_uint_gt(n_operations, 30);
    memset(seen, 0, sizeof seen);
    for (uint64_t n = 1; n <= n_operations + 2; n++) {
        for (int loss = HF_FAKE_LOSS_NOTHING; loss <= HF_FAKE_LOSS_EACH; loss++) {
            struct offline_place p;
            enum offline_stage stage;
            bool died;
            int rc;

            offline_open_fake(&p, n * 10 + (uint64_t)loss);
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
            offline_close(&p);
        }
    }
    for (int i = 0; i < N_STAGES; i++)
        ck_assert_msg(seen[i] > 0, "stage %d was never met", i);
}

void offline_check_refused(struct offline_place *p, const char *command)
{
    struct offline_node n;

    ck_assert_msg(strstr(p->why, command) != NULL, "%s", p->why);
    ck_assert_int_eq(offline_open_node(p, &n, 2), HF_E_AGAIN);
    ck_assert_msg(strstr(p->why, command) != NULL, "%s", p->why);
}
