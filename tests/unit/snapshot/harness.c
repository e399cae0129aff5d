/* harness.c: see harness.h. */
#include "harness.h"

struct hf_sim_world *world;
struct node nodes[NODES];

uint64_t id_of(unsigned number)
{
    return number + 1;
}

static const char *address_of(unsigned number)
{
    static const char *const addresses[NODES] = {"n0:7000", "n1:7000", "n2:7000", "n3:7000"};

    return addresses[number];
}

/* ---- peers --------------------------------------------------------------------------------------- */

static bool on_hello(void *data, const struct hf_hello *theirs, bool is_dialed, char *why, size_t why_size)
{
    (void)data;
    (void)theirs;
    (void)is_dialed;
    (void)why;
    (void)why_size;
    return true;
}

static void on_refused(void *data, uint64_t node_id, const char *why)
{
    (void)data;
    ck_abort_msg("refused by %d: %s", (int)node_id, why);
}

static void on_link_up(void *data, struct hf_link *link)
{
    struct node *n = data;

    if (hf_link_channel(link) == HF_CHANNEL_STATE && n->s != NULL)
        hf_snapshots_on_link_up(n->s, link);
}

static void on_link_down(void *data, struct hf_link *link)
{
    struct node *n = data;

    if (hf_link_channel(link) == HF_CHANNEL_STATE && n->s != NULL)
        hf_snapshots_on_link_down(n->s, link);
}

static void on_message(void *data, struct hf_link *link, uint8_t type, struct hf_slice payload)
{
    struct node *n = data;

    ck_assert_int_eq(hf_link_channel(link), HF_CHANNEL_STATE);
    if (type < COUNT(n->count))
        n->count[type]++;
    if (n->filter != NULL && !n->filter(n, link, type, payload))
        return;
    if (++n->messages == n->break_at) {
        hf_link_close(link);
        return;
    }
    if (n->s != NULL)
        hf_snapshots_on_message(n->s, link, type, payload);
}

static void on_progress(void *data, struct hf_link *link)
{
    (void)data;
    (void)link;
}

/* ---- the owner ----------------------------------------------------------------------------------- */

static const char *live_path(void *data)
{
    struct node *n = data;

    return n->has_no_live ? NULL : n->live_path;
}

static void on_pin(void *data, uint64_t index)
{
    struct node *n = data;

    ck_assert_uint_ne(n->pin, index);
    n->pin = index;
}

static void on_delivered(void *data, uint64_t member, const struct hf_snapshot_info *info)
{
    struct node *n = data;

    n->delivered++;
    n->delivered_member = member;
    hf_held_info_set(&n->last, info);
    if (n->on_delivered)
        n->on_delivered(n, member);
}

static void on_send_failed(void *data, uint64_t member, const char *why)
{
    struct node *n = data;

    n->failed++;
    n->failed_member = member;
    snprintf(n->why, sizeof(n->why), "%s", why);
}

static bool may_receive(void *data, uint64_t member, const struct hf_snapshot_info *info, char *why, size_t why_size)
{
    struct node *n = data;

    (void)member;
    n->asked++;
    n->asked_bytes = info->bytes;
    if (n->refuses != NULL)
        snprintf(why, why_size, "%s", n->refuses);
    return n->refuses == NULL;
}

static struct hf_link *link_of(void *data, uint64_t member)
{
    struct node *n = data;

    return hf_peers_link(n->p, member, HF_CHANNEL_STATE);
}

/* ---- life ---------------------------------------------------------------------------------------- */

struct node *boot(unsigned number)
{
    struct node *n = &nodes[number];

    *n = (struct node){.number = number};
    n->fake = hf_sim_node_new(world, number);
    n->env = hf_sim_node_env(n->fake);
    n->stats = hf_stats_new();
    snprintf(n->dir, sizeof(n->dir), "n%u", number);
    snprintf(n->live_path, sizeof(n->live_path), "n%u/state-1.db", number);
    n->config = (struct hf_snapshots_config){.dir = n->dir, .chunk_bytes = 16 * KB, .window_bytes = 128 * KB};
    set_live(n, 100 + number, MB);
    return n;
}

void open_node(struct node *n)
{
    struct hf_peers_config peers = {.listen_address = address_of(n->number), .message_bytes_max = 80 * MB};
    struct hf_peers_events peer_events = {n, on_hello, on_refused, on_link_up, on_link_down, on_message, on_progress};
    struct hf_snapshots_events events = {n, live_path, on_pin, on_delivered, on_send_failed, may_receive};
    char why[256] = "";

    fake_store.fs[n->number] = n->env->fs;
    peers.self.node_id = id_of(n->number);
    peers.self.store_id = 1000 + n->number;
    ck_assert_int_eq(hf_peers_open(n->env, &peers, &peer_events, n->stats, &n->p), 0);
    ck_assert_msg(hf_snapshots_open(n->env, &n->config, &events, n->stats, &n->s, why, sizeof(why)) == 0, "%s", why);
    hf_snapshots_set_link_of(n->s, link_of, n);
}

struct node *start(unsigned number)
{
    struct node *n = boot(number);

    open_node(n);
    return n;
}

static void close_node(struct node *n)
{
    if (n->p != NULL)
        hf_peers_close(n->p);
    n->p = NULL;
    if (n->s != NULL)
        hf_snapshots_close(n->s);
    n->s = NULL;
}

void stop(struct node *n)
{
    if (n->fake == NULL)
        return;
    close_node(n);
    hf_held_info_free(&n->last);
    hf_stats_free(n->stats);
    hf_sim_node_free(n->fake);
    *n = (struct node){0};
}

void crash(struct node *n)
{
    struct hf_snapshots_config config = n->config;
    unsigned number = n->number;
    struct hf_sim_disk *disk;

    hf_sim_node_crash(n->fake, &disk);
    stop(n);
    n = boot(number);
    hf_sim_node_set_fs(n->fake, disk);
    n->env = hf_sim_node_env(n->fake);
    config.dir = n->dir;
    n->config = config;
    open_node(n);
}

void setup(void)
{
    world = hf_sim_world_new(1);
    memset(nodes, 0, sizeof(nodes));
    memset(&fake_store, 0, sizeof(fake_store));
}

void teardown(void)
{
    for (unsigned i = 0; i < NODES; i++)
        stop(&nodes[i]);
    hf_sim_world_free(world);
    ck_assert_int_eq(fake_store.copies_open, 0);
}

void run(uint64_t ms)
{
    hf_sim_world_run_until(world, hf_sim_world_now_ms(world) + ms);
}

bool run_until(uint64_t ms, bool (*done)(void))
{
    uint64_t until = hf_sim_world_now_ms(world) + ms;

    while (!done()) {
        if (!hf_sim_world_step(world, until))
            return done();
    }
    return true;
}

void set_live(struct node *n, uint64_t index, uint64_t bytes)
{
    fake_store.live[n->number] = (struct fake_live){
        .index = index, .term = 3, .configuration_index = 2, .bytes = bytes, .level = 2, .configuration = "A, B and C"};
}

void link_nodes(struct node *from, struct node *to)
{
    hf_peers_add(from->p, id_of(to->number), address_of(to->number));
    hf_peers_want_state(from->p, id_of(to->number), true);
}

void send_to(struct node *from, struct node *to, uint64_t at_least)
{
    link_nodes(from, to);
    hf_snapshots_send(from->s, id_of(to->number), at_least);
}

struct hf_link *link_between(struct node *from, struct node *to)
{
    return hf_peers_link(from->p, id_of(to->number), HF_CHANNEL_STATE);
}

uint64_t counter(struct node *n, const char *name, const char *labels)
{
    return hf_counter_get(hf_stats_counter(n->stats, name, labels, ""));
}

/* ---- files --------------------------------------------------------------------------------------- */

bool read_file(struct node *n, const char *name, struct hf_buf *out)
{
    struct hf_fs *fs = n->env->fs;
    char path[64];
    struct hf_file *f;
    uint64_t size;
    size_t got;

    snprintf(path, sizeof(path), "%s/%s", n->dir, name);
    out->len = 0;
    if (fs->open(fs, path, HF_FS_READ, &f) != 0)
        return false;
    ck_assert_int_eq(fs->size(fs, f, &size), 0);
    ck_assert_int_eq(fs->read(fs, f, 0, hf_buf_reserve(out, size), size, &got), 0);
    out->len = got;
    fs->close(fs, f);
    return true;
}

static void count_name(void *data, const char *name)
{
    *(int *)data += strncmp(name, "copy-", 5) == 0 || strncmp(name, "incoming", 8) == 0;
}

int files(struct node *n)
{
    int count = 0;

    ck_assert_int_eq(n->env->fs->list(n->env->fs, n->dir, count_name, &count), 0);
    return count;
}

void assert_received(struct node *to, const struct fake_live *live)
{
    struct hf_buf want = {0}, have = {0};
    struct hf_snapshot_info info;

    ck_assert(hf_snapshots_received(to->s, live->index, live->term, &info));
    ck_assert(!hf_snapshots_received(to->s, live->index + 1, live->term, &info));
    ck_assert(!hf_snapshots_received(to->s, live->index, live->term + 1, &info));
    ck_assert_uint_eq(info.index, live->index);
    ck_assert_uint_eq(info.term, live->term);
    ck_assert_uint_eq(info.configuration_index, live->configuration_index);
    ck_assert_uint_eq(info.level, live->level);
    ck_assert_uint_eq(info.bytes, live->bytes);
    ck_assert(hf_slice_eq(info.configuration, hf_slice_str(live->configuration)));
    fake_store_image(live, &want);
    ck_assert(read_file(to, "incoming.db", &have));
    ck_assert(hf_slice_eq(hf_buf_slice(&want), hf_buf_slice(&have)));
    hf_buf_free(&want);
    hf_buf_free(&have);
}

struct hf_snapshot_progress progress_of(struct node *n)
{
    struct hf_snapshot_progress p[4] = {{0}};

    ck_assert_uint_le(hf_snapshots_progress(n->s, p, 4), 1);
    if (p[0].phase == NULL)
        p[0].phase = "";
    return p[0];
}
