/* net.c: the client listener: opening and closing, the limit on clients, idle clients, and what LOCAL commands may
 * ask (the node's answers, plus the list of clients, which is net's own). First on a command's walk. */
#include "net/internal.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"

#include <inttypes.h>

#define TICK_MS 1000

/* ---- what LOCAL commands may ask ----------------------------------------------------------------- */

/* The node's functions are called with the node's data; ours stand in front only to add `clients`. */
static const struct hf_local_ops *node_ops(void *data)
{
    return ((struct hf_net_local_data *)data)->node;
}

static void local_clients(void *data, bool (*cb)(void *arg, struct hf_client *client), void *arg)
{
    struct hf_net *net = ((struct hf_net_local_data *)data)->net;

    for (struct hf_net_conn *c = net->first; c != NULL; c = c->next) {
        bool more;

        c->client.query_bytes = c->in.len;
        c->client.output_bytes = hf_net_conn_unread(c);
        more = cb(arg, &c->client);
        if (c->client.killed || c->client.close_after_reply)
            hf_net_conn_mark(c);
        if (!more)
            break;
    }
}

static const struct hf_node_status *local_status(void *data)
{
    return node_ops(data)->status(node_ops(data)->data);
}

static void local_config_get(void *data, struct hf_slice pattern,
                             void (*cb)(void *arg, const char *name, const char *value), void *arg)
{
    node_ops(data)->config_get(node_ops(data)->data, pattern, cb, arg);
}

static void local_config_resetstat(void *data)
{
    node_ops(data)->config_resetstat(node_ops(data)->data);
}

static bool local_auth(void *data, struct hf_slice user, struct hf_slice password)
{
    return node_ops(data)->auth(node_ops(data)->data, user, password);
}

static bool local_auth_required(void *data)
{
    const struct hf_local_ops *ops = node_ops(data);

    return ops->auth_required != NULL && ops->auth_required(ops->data);
}

static void local_shutdown(void *data)
{
    node_ops(data)->shutdown(node_ops(data)->data);
}

static uint32_t local_replicas_in_sync(void *data)
{
    return node_ops(data)->replicas_in_sync(node_ops(data)->data);
}

static int64_t local_wall_ms(void *data)
{
    return node_ops(data)->wall_ms(node_ops(data)->data);
}

static uint64_t local_wall_us(void *data)
{
    return node_ops(data)->wall_us(node_ops(data)->data);
}

static bool local_debug_allowed(void *data)
{
    return node_ops(data)->debug_allowed(node_ops(data)->data);
}

static const struct hf_local_ops forwarding_ops = {
    .clients = local_clients,
    .status = local_status,
    .config_get = local_config_get,
    .config_resetstat = local_config_resetstat,
    .auth = local_auth,
    .auth_required = local_auth_required,
    .shutdown = local_shutdown,
    .replicas_in_sync = local_replicas_in_sync,
    .wall_ms = local_wall_ms,
    .wall_us = local_wall_us,
    .debug_allowed = local_debug_allowed,
};

/* ---- shared by the connections ------------------------------------------------------------------- */

struct hf_command_stats *hf_net_command_stats(struct hf_net *net, const struct hf_command *command)
{
    struct hf_command_stats *stats = &net->command_stats[command->id];

    if (stats->calls == NULL)
        *stats = hf_command_stats(net->stats, command->id);
    return stats;
}

struct hf_buf hf_net_take_buf(struct hf_net *net)
{
    struct hf_buf none = {NULL, 0, 0};

    return net->n_spare != 0 ? net->spare[--net->n_spare] : none;
}

void hf_net_give_buf(struct hf_net *net, struct hf_buf *b)
{
    if (b->data == NULL)
        return;
    if (net->n_spare < HF_NET_SPARE_BUFS && b->cap <= HF_NET_SPARE_BUF_BYTES && !net->is_closing) {
        b->len = 0;
        net->spare[net->n_spare++] = *b;
        memset(b, 0, sizeof *b);
    } else {
        hf_buf_free(b);
    }
}

/* ---- life ---------------------------------------------------------------------------------------- */

static void finish_close(struct hf_net *net)
{
    void (*done)(void *data) = net->done;
    void *data = net->done_data;

    HF_ASSERT(net->n_streams == 0);
    HF_ASSERT(net->n_clients == 0);
    net->env->unpost(net->env, &net->task);
    net->env->timer_stop(net->env, &net->tick);
    hf_net_slots_free_spare(net);
    while (net->n_spare != 0)
        hf_buf_free(&net->spare[--net->n_spare]);
    hf_free(net->command_stats);
    hf_free((char *)net->config.address);
    hf_free(net);
    if (done != NULL)
        done(data);
}

void hf_net_stream_gone(struct hf_net *net)
{
    HF_ASSERT(net->n_streams > 0);
    net->n_streams--;
    if (net->is_closing && net->n_streams == 0)
        net->env->post(net->env, &net->task);
}

static void on_task(struct hf_task *task)
{
    struct hf_net *net = task->data;

    while (net->dirty_first != NULL)
        hf_net_conn_attend(net->dirty_first);
    if (net->is_closing && net->n_streams == 0)
        finish_close(net);
}

static void on_tick(struct hf_timer *timer)
{
    struct hf_net *net = timer->data;
    uint64_t now_ms = net->env->boot_ms(net->env);
    uint64_t commands = hf_counter_get(net->commands);

    hf_gauge_set(net->commands_per_second, (int64_t)(commands - net->commands_at_tick));
    net->commands_at_tick = commands;
    if (net->config.idle_timeout_ms != 0) {
        for (struct hf_net_conn *c = net->first, *next; c != NULL; c = next) {
            next = c->next;
            if (c->head != NULL || now_ms - c->active_ms < net->config.idle_timeout_ms)
                continue;
            HF_LOG_DEBUG("net", "idle client closed", "client=%" PRIu64 " addr=%s", c->client.id, c->client.addr);
            hf_net_conn_close(c, true);
        }
    }
    net->env->timer_start(net->env, &net->tick, TICK_MS);
}

static void on_accept(void *data, struct hf_stream *s)
{
    hf_net_conn_accept(data, s);
}

static const struct hf_listener_events listener_events = {on_accept};

static void register_metrics(struct hf_net *net)
{
    struct hf_stats *st = net->stats;

    net->connections = hf_stats_counter(st, HF_METRIC_CONNECTIONS, NULL, "Client connections accepted");
    net->rejected = hf_stats_counter(st, HF_METRIC_REJECTED, NULL, "Client connections refused over the limit");
    net->input_bytes = hf_stats_counter(st, HF_METRIC_INPUT_BYTES, NULL, "Bytes received from clients");
    net->output_bytes = hf_stats_counter(st, HF_METRIC_OUTPUT_BYTES, NULL, "Bytes sent to clients");
    net->commands_per_second = hf_stats_gauge(st, HF_METRIC_OPS, NULL, "Commands read in the last second");
    net->connected = hf_stats_gauge(st, "connected_clients", NULL, "Client connections open now");
    net->commands = hf_stats_counter(st, HF_METRIC_COMMANDS, NULL, "Commands read from clients");
    net->errors = hf_stats_counter(st, HF_METRIC_ERRORS, NULL, "Replies to clients that were errors");
    net->error_words = hf_error_stats(st);
    net->output_limit = hf_stats_counter(st, "client_output_limit_disconnections_total", NULL,
                                         "Clients closed because they did not read their replies");
    net->protocol_errors =
        hf_stats_counter(st, "protocol_errors_total", NULL, "Clients closed because they did not speak RESP");
}

int hf_net_open(struct hf_env *env, const struct hf_net_config *config, struct hf_dispatcher *dispatcher,
                struct hf_local_ops *ops, struct hf_stats *stats, struct hf_net **out)
{
    struct hf_net *net = hf_calloc(1, sizeof *net);
    int rc;

    HF_ASSERT(config->pipeline_max > 0);
    net->env = env;
    net->config = *config;
    net->config.address = hf_strdup(config->address);
    net->dispatcher = dispatcher;
    net->ops = forwarding_ops;
    net->ops_data.node = ops;
    net->ops_data.net = net;
    net->ops.data = &net->ops_data;
    net->stats = stats;
    net->task.data = net;
    net->task.cb = on_task;
    net->tick.data = net;
    net->tick.cb = on_tick;
    net->command_stats = hf_calloc((size_t)hf_command_count() + 1, sizeof *net->command_stats);
    register_metrics(net);
    rc = env->listen(env, net->config.address, &listener_events, net, &net->listener);
    if (rc != 0)
        goto free_net;
    env->timer_start(env, &net->tick, TICK_MS);
    *out = net;
    return 0;

free_net:
    hf_free(net->command_stats);
    hf_free((char *)net->config.address);
    hf_free(net);
    return rc;
}

struct hf_net_config *hf_net_config_live(struct hf_net *net)
{
    return &net->config;
}

void hf_net_stop_accepting(struct hf_net *net)
{
    if (net->listener != NULL)
        net->env->listener_close(net->env, net->listener);
    net->listener = NULL;
}

void hf_net_close(struct hf_net *net, void (*done)(void *data), void *data)
{
    HF_ASSERT(!net->is_closing);
    hf_net_stop_accepting(net);
    net->is_closing = true;
    net->done = done;
    net->done_data = data;
    while (net->first != NULL)
        hf_net_conn_close(net->first, true);
    net->env->post(net->env, &net->task); /* done never comes from inside this call */
}

uint32_t hf_net_clients(const struct hf_net *net)
{
    return net->n_clients;
}
