/* harness.c: see harness.h. */
#include "harness.h"

struct hf_sim_world *world;

struct seen { /* hangs on a link while it is up */
    bool is_up;
};

struct node nodes[NODES];

const char *address_of(unsigned number)
{
    static const char *const addresses[NODES] = {"n0:7000", "n1:7000", "n2:7000", "n3:7000"};

    return addresses[number];
}

uint64_t id_of(unsigned number)
{
    return number + 1;
}

/* ---- the recorder -------------------------------------------------------------------------------- */

static bool on_hello(void *data, const struct hf_hello *theirs, bool is_dialed, char *why, size_t why_size)
{
    struct node *n = data;

    ck_assert(!n->is_inside);
    n->hellos++;
    n->last_hello = *theirs;
    if ((theirs->cluster_id[0] != n->cluster && !n->likes_all) || (is_dialed && n->refuses_answers)) {
        snprintf(why, why_size, "node %u does not like cluster %u", n->number, theirs->cluster_id[0]);
        return false;
    }
    return true;
}

static void on_refused(void *data, uint64_t node_id, const char *why)
{
    struct node *n = data;

    ck_assert(!n->is_inside);
    n->refused++;
    n->refused_node = node_id;
    snprintf(n->refused_why, sizeof(n->refused_why), "%s", why);
}

static void on_link_up(void *data, struct hf_link *link)
{
    struct node *n = data;
    struct seen *seen = hf_calloc(1, sizeof(*seen));

    ck_assert(!n->is_inside);
    ck_assert_ptr_null(hf_link_data(link));
    seen->is_up = true;
    hf_link_set_data(link, seen);
    n->ups++;
    n->last_up = link;
    if (n->on_up)
        n->on_up(n, link);
}

static void on_link_down(void *data, struct hf_link *link)
{
    struct node *n = data;
    struct seen *seen = hf_link_data(link);

    ck_assert(!n->is_inside);
    ck_assert_ptr_nonnull(seen);
    ck_assert(seen->is_up);
    ck_assert_int_eq(hf_link_send(link, 1, false, NULL, 0), HF_E_CLOSED);
    hf_link_set_data(link, NULL);
    hf_free(seen);
    n->downs++;
    if (n->last_up == link)
        n->last_up = NULL;
    if (n->on_down)
        n->on_down(n, link);
}

static void on_message(void *data, struct hf_link *link, uint8_t type, struct hf_slice payload)
{
    struct node *n = data;
    struct seen *seen = hf_link_data(link);

    ck_assert(!n->is_inside);
    ck_assert_ptr_nonnull(seen);
    if ((size_t)n->messages < sizeof(n->order) - 1)
        n->order[n->messages] = (char)type;
    n->messages++;
    n->last_type = type;
    n->last_len = payload.len;
    n->last_crc = hf_crc32c(0, payload.ptr, payload.len);
    if (n->on_message)
        n->on_message(n, link, type);
}

static void on_progress(void *data, struct hf_link *link)
{
    struct node *n = data;

    ck_assert(!n->is_inside);
    ck_assert_ptr_nonnull(hf_link_data(link));
    n->progress++;
}

/* ---- the world ----------------------------------------------------------------------------------- */

void open_peers(struct node *n)
{
    struct hf_peers_events events = {.data = n,
                                     .on_hello = on_hello,
                                     .on_refused = on_refused,
                                     .on_link_up = on_link_up,
                                     .on_link_down = on_link_down,
                                     .on_message = on_message,
                                     .on_progress = on_progress};

    memset(n->config.self.cluster_id, n->cluster, 16);
    n->is_inside = true;
    ck_assert_int_eq(hf_peers_open(n->env, &n->config, &events, n->stats, &n->p), 0);
    n->is_inside = false;
}

struct node *boot(unsigned number)
{
    struct node *n = &nodes[number];

    *n = (struct node){.number = number, .cluster = 7};
    n->fake = hf_sim_node_new(world, number);
    n->env = hf_sim_node_env(n->fake);
    n->stats = hf_stats_new();
    n->config = (struct hf_peers_config){.listen_address = address_of(number), .message_bytes_max = 80 * MB};
    n->config.self.node_id = id_of(number);
    n->config.self.store_id = 1000 + number;
    snprintf(n->config.self.address, sizeof(n->config.self.address), "%s", address_of(number));
    snprintf(n->config.self.client_address, sizeof(n->config.self.client_address), "client%u:1", number);
    return n;
}

struct node *start(unsigned number)
{
    struct node *n = boot(number);

    open_peers(n);
    return n;
}

void free_seen(struct node *n)
{
    /* hf_peers_close calls nothing: what hangs on the links is the owner's to find. */
    for (unsigned i = 0; i < NODES; i++) {
        for (int c = 0; c < HF_CHANNELS; c++) {
            struct hf_link *link = hf_peers_link(n->p, id_of(i), (enum hf_channel)c);

            if (link != NULL) {
                hf_free(hf_link_data(link));
                hf_link_set_data(link, NULL);
            }
        }
    }
}

static void close_peers(struct node *n)
{
    if (n->p == NULL)
        return;
    /* Take every link down first, so that the recorder lets go of what it hung on them. */
    n->on_down = NULL;
    for (unsigned i = 0; i < NODES; i++) {
        if (i != n->number)
            hf_peers_remove(n->p, id_of(i));
    }
    hf_peers_dial_join(n->p, NULL);
    hf_sim_world_run_until(world, hf_sim_world_now_ms(world) + 1);
    free_seen(n);
    hf_peers_close(n->p);
    n->p = NULL;
    ck_assert_int_eq(n->ups, n->downs);
}

void stop(struct node *n)
{
    if (n->fake == NULL)
        return;
    close_peers(n);
    hf_stats_free(n->stats);
    hf_sim_node_free(n->fake);
    *n = (struct node){0};
}

void setup(void)
{
    world = hf_sim_world_new(1);
    memset(nodes, 0, sizeof(nodes));
}

void teardown(void)
{
    for (unsigned i = 0; i < NODES; i++) {
        if (nodes[i].fake != NULL && nodes[i].p != NULL)
            nodes[i].on_message = NULL;
    }
    for (unsigned i = 0; i < NODES; i++)
        stop(&nodes[i]);
    hf_sim_world_free(world);
}

void run(uint64_t ms)
{
    hf_sim_world_run_until(world, hf_sim_world_now_ms(world) + ms);
}

void add(struct node *n, unsigned other)
{
    n->is_inside = true;
    hf_peers_add(n->p, id_of(other), address_of(other));
    n->is_inside = false;
}

struct hf_link *link_to(struct node *n, unsigned other)
{
    return hf_peers_link(n->p, id_of(other), HF_CHANNEL_RAFT);
}

int send_bytes(struct node *n, struct hf_link *link, uint8_t type, bool urgent, const void *bytes, size_t len)
{
    struct hf_slice part = hf_slice(bytes, len);
    int rc;

    n->is_inside = true;
    rc = hf_link_send(link, type, urgent, &part, 1);
    n->is_inside = false;
    return rc;
}

uint64_t counter(struct node *n, const char *name, const char *labels)
{
    return hf_counter_get(hf_stats_counter(n->stats, name, labels, ""));
}

void assert_links(struct node *n, int up)
{
    ck_assert_int_eq(n->ups - n->downs, up);
    ck_assert_int_eq(hf_gauge_get(hf_stats_gauge(n->stats, "peer_links", "channel=\"raft\"", "")) +
                         hf_gauge_get(hf_stats_gauge(n->stats, "peer_links", "channel=\"proxy\"", "")),
                     up);
}

uint8_t *pattern(size_t n, uint64_t seed)
{
    uint8_t *bytes = hf_malloc(n);
    struct hf_prng prng;

    hf_prng_seed(&prng, seed);
    for (size_t i = 0; i + 8 <= n; i += 8)
        hf_store_u64(bytes + i, hf_prng_next(&prng));
    for (size_t i = n & ~(size_t)7; i < n; i++)
        bytes[i] = (uint8_t)i;
    return bytes;
}
