/* conn.c: one client connection.
 *
 * Input is parsed where it lies: straight from the stream's bytes while nothing is left over, else from c->in. Parsing
 * goes on until the input ends, or one of the limits says that the client has enough on its way (can_take); then
 * reading stops as well, and the rest waits in c->in. Every answer and every drain look again (hf_net_conn_attend).
 *
 * A command of the LOCAL kind runs as soon as it is read, though its answer waits for the earlier ones. One that
 * changes how answers are written (FRAMING) is left unread in c->in until all earlier answers are out. */
#include "net/internal.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"

#include <inttypes.h>

size_t hf_net_conn_unread(const struct hf_net_conn *c)
{
    return c->out.len + c->held_bytes + c->net->env->stream_queued(c->net->env, c->stream);
}

void hf_net_conn_mark(struct hf_net_conn *c)
{
    struct hf_net *net = c->net;

    if (c->is_dirty || c->is_closing)
        return;
    c->is_dirty = true;
    c->dirty_next = NULL;
    c->dirty_prev = net->dirty_last;
    if (net->dirty_last != NULL)
        net->dirty_last->dirty_next = c;
    else
        net->dirty_first = c;
    net->dirty_last = c;
    net->env->post(net->env, &net->task);
}

static void unmark(struct hf_net_conn *c)
{
    struct hf_net *net = c->net;

    if (!c->is_dirty)
        return;
    c->is_dirty = false;
    if (c->dirty_prev != NULL)
        c->dirty_prev->dirty_next = c->dirty_next;
    else
        net->dirty_first = c->dirty_next;
    if (c->dirty_next != NULL)
        c->dirty_next->dirty_prev = c->dirty_prev;
    else
        net->dirty_last = c->dirty_prev;
}

/* ---- commands ------------------------------------------------------------------------------------ */

static bool can_take(const struct hf_net_conn *c)
{
    const struct hf_net_config *config = &c->net->config;

    if (c->head == NULL)
        return hf_net_conn_unread(c) <= config->output_soft_bytes;
    /* Answers under way count as large as the recent ones were: a short pipeline may ask for a lot. */
    if (c->in_flight > 0 && c->in_flight * c->answer_bytes > config->output_soft_bytes)
        return false;
    return !c->waits_for_empty && c->in_flight < config->pipeline_max && c->in_flight_bytes < HF_NET_IN_FLIGHT_BYTES &&
           (c->lane == NULL || !hf_lane_is_full(c->lane)) && hf_net_conn_unread(c) <= config->output_soft_bytes;
}

/* Whether the answer to the command that comes now is dropped, by CLIENT REPLY. */
static bool take_mute(struct hf_client *client)
{
    switch (client->reply_mode) {
    case HF_CLIENT_REPLY_ON:
        break;
    case HF_CLIENT_REPLY_OFF:
        return true;
    case HF_CLIENT_REPLY_SKIP:
        client->reply_mode = HF_CLIENT_REPLY_ON;
        return true;
    }
    return false;
}

static void on_lane_ready(void *data)
{
    hf_net_conn_mark(data);
}

static void run_local(struct hf_net_conn *c, const struct hf_command *command)
{
    struct hf_net *net = c->net;
    struct hf_local_ctx cx = {&c->client, &net->ops};
    struct hf_command_stats *stats = hf_net_command_stats(net, command);
    enum hf_client_reply_mode before = c->client.reply_mode;
    struct hf_reply reply = {{NULL, 0, 0}, false};
    uint64_t started_ns = net->env->boot_ns(net->env);
    bool is_muted = false;

    command->local(&cx, &c->parser.args, &reply);
    hf_histogram_record(stats->duration_us, (net->env->boot_ns(net->env) - started_ns) / 1000);
    hf_counter_add(stats->calls, 1);
    if (hf_reply_first_tag(hf_buf_slice(&reply.buf)) == HF_REPLY_ERROR)
        hf_counter_add(stats->failed, 1);

    /* CLIENT REPLY answers (or keeps silent) by the mode it sets; an empty reply to a client that skips is a second
     * CLIENT REPLY SKIP, which counts anew. */
    if (before == c->client.reply_mode && reply.buf.len != 0)
        is_muted = take_mute(&c->client);
    hf_net_slot_answer(c, &reply, c->client.protocol, is_muted);
    hf_reply_free(&reply);
}

static void refuse(struct hf_net_conn *c, struct hf_reply *error)
{
    hf_net_slot_answer(c, error, c->client.protocol, take_mute(&c->client));
    hf_reply_free(error);
}

/* The command in c->parser.args. False: it must wait until all earlier ones are answered. */
static bool run_command(struct hf_net_conn *c)
{
    struct hf_net *net = c->net;
    struct hf_reply error = {{NULL, 0, 0}, false};
    const struct hf_command *command = hf_command_resolve(&c->parser.args, &error);

    if (command != NULL && (command->flags & HF_CMD_FRAMING) != 0 && c->head != NULL)
        return false;

    c->client.commands++;
    c->client.last_command_ms = c->active_ms;
    if (command == NULL) {
        const struct hf_command *named = hf_command_find(c->parser.args.at[0]);

        if (named != NULL)
            hf_counter_add(hf_net_command_stats(net, named)->rejected, 1);
        refuse(c, &error);
        return true;
    }
    hf_reply_free(&error);
    c->client.last_command = command->name;
    if (!c->client.authenticated && (command->flags & HF_CMD_NO_AUTH) == 0 && net->ops.auth_required(net->ops.data)) {
        hf_counter_add(hf_net_command_stats(net, command)->rejected, 1);
        hf_reply_error(&error, "NOAUTH Authentication required.");
        refuse(c, &error);
    } else if ((command->flags & HF_CMD_LOCAL) != 0) {
        run_local(c, command);
    } else {
        if (c->lane == NULL) {
            c->lane = hf_lane_open(net->dispatcher);
            hf_lane_set_ready_cb(c->lane, on_lane_ready, c);
        }
        hf_net_slot_submit(c, command, take_mute(&c->client));
    }
    return true;
}

/* ---- input --------------------------------------------------------------------------------------- */

static void protocol_error(struct hf_net_conn *c)
{
    struct hf_reply reply = {{NULL, 0, 0}, false};

    HF_LOG_DEBUG("net", "protocol error", "client=%" PRIu64 " addr=%s error=\"%s\"", c->client.id, c->client.addr,
                 c->parser.error);
    hf_counter_add(c->net->protocol_errors, 1);
    hf_reply_error(&reply, c->parser.error);
    c->client.close_after_reply = true;
    refuse(c, &reply);
}

static bool is_ending(const struct hf_net_conn *c)
{
    return c->client.close_after_reply || c->client.killed || c->is_over_limit || c->is_closing;
}

static void set_stopped(struct hf_net_conn *c, bool is_stopped)
{
    struct hf_env *env = c->net->env;

    if (c->is_stopped == is_stopped || c->is_closing)
        return;
    c->is_stopped = is_stopped;
    if (is_stopped)
        env->stream_read_stop(env, c->stream);
    else
        env->stream_read_start(env, c->stream);
}

/* Run what is complete in these bytes, as far as the limits allow; returns how many bytes are done with. */
static size_t take_commands(struct hf_net_conn *c, const uint8_t *bytes, size_t n)
{
    size_t at = 0, used;
    uint64_t commands = 0;
    bool must_wait = false;

    c->waits_for_empty = false;
    while (at < n && !must_wait) {
        if (is_ending(c)) {
            at = n;
            break;
        }
        if (!can_take(c)) {
            must_wait = true;
            break;
        }
        switch (hf_resp_parse(&c->parser, hf_slice(bytes + at, n - at), &used)) {
        case HF_RESP_COMMAND:
            if (c->parser.args.n != 0) {
                if (!run_command(c)) {
                    c->waits_for_empty = must_wait = true;
                    used = 0;
                } else {
                    commands++;
                }
            }
            at += used;
            continue;
        case HF_RESP_MORE:
            goto out;
        case HF_RESP_ERROR:
            protocol_error(c);
            continue;
        }
    }
out:
    if (commands != 0)
        hf_counter_add(c->net->commands, commands);
    /* Also when the input ended just here: what comes next has to wait in the socket. A client about to be closed is
     * read on, to nowhere, so that its own late bytes don't reset the connection before it sees the last answer. */
    if (is_ending(c))
        hf_net_conn_mark(c);
    set_stopped(c, !is_ending(c) && (must_wait || !can_take(c)));
    return at;
}

/* Append to c->in. While a large bulk is coming the memory doubles with what has arrived but ends at what the command
 * needs: neither a length line alone nor the last doubling costs memory for nothing. */
static void keep_input(struct hf_net_conn *c, const uint8_t *bytes, size_t n)
{
    struct hf_buf *in = &c->in;

    if (n == 0 || c->is_closing)
        return;
    if (in->data == NULL)
        *in = hf_net_take_buf(c->net);
    if (in->cap - in->len < n && c->parser.needed > in->len + n) {
        size_t cap = in->cap * 2 > in->len + n ? in->cap * 2 : in->len + n;

        in->cap = cap > c->parser.needed ? c->parser.needed : cap;
        in->data = hf_realloc(in->data, in->cap);
    }
    hf_buf_put(in, bytes, n);
}

static void drop_input(struct hf_net_conn *c, size_t n)
{
    struct hf_buf *in = &c->in;

    if (c->is_closing) /* a command of its own closed net (SHUTDOWN): all is given back already */
        return;
    if (n != 0)
        hf_buf_consume(in, n);
    if (in->len != 0) {
        if (in->cap > 4 * HF_NET_SPARE_BUF_BYTES && in->len < in->cap / 4 && c->parser.needed < in->cap / 4) {
            in->cap = in->len > HF_NET_SPARE_BUF_BYTES ? in->len : HF_NET_SPARE_BUF_BYTES;
            in->data = hf_realloc(in->data, in->cap);
        }
        return;
    }
    hf_net_give_buf(c->net, &c->in);
    /* Large commands leave large arrays behind. */
    if (c->parser.cap > 16 || c->parser.scratch.data != NULL)
        hf_resp_parser_free(&c->parser);
}

static void on_data(struct hf_stream *s, const uint8_t *bytes, size_t n)
{
    struct hf_net_conn *c = s->data;
    struct hf_net *net = c->net;

    c->active_ms = net->env->boot_ms(net->env);
    c->client.input_total += n;
    hf_counter_add(net->input_bytes, n);
    if (is_ending(c))
        return;
    if (c->is_stopped) {
        keep_input(c, bytes, n);
    } else if (c->in.len == 0) {
        size_t at = take_commands(c, bytes, n);

        keep_input(c, bytes + at, n - at);
        drop_input(c, 0);
    } else {
        keep_input(c, bytes, n);
        drop_input(c, take_commands(c, c->in.data, c->in.len));
    }
}

/* ---- output and the end -------------------------------------------------------------------------- */

static void write_output(struct hf_net_conn *c)
{
    struct hf_env *env = c->net->env;

    if (c->out.len == 0)
        return;
    c->client.output_total += c->out.len;
    hf_counter_add(c->net->output_bytes, c->out.len);
    /* HF_E_CLOSED: on_close is on its way and ends this connection. */
    (void)env->stream_write(env, c->stream, c->out.data, c->out.len);
    c->out.len = 0;
    hf_net_give_buf(c->net, &c->out);
}

void hf_net_conn_attend(struct hf_net_conn *c)
{
    struct hf_net *net = c->net;

    unmark(c);
    if (c->client.killed) {
        hf_net_conn_close(c, false);
        return;
    }
    if (!c->is_over_limit) {
        write_output(c);
        c->is_over_limit = hf_net_conn_unread(c) > net->config.output_bytes_max;
    }
    if (c->is_over_limit) {
        HF_LOG_WARN("net", "client closed: it does not read its replies",
                    "client=%" PRIu64 " addr=%s unread_bytes=%zu limit=%" PRIu64 " last_command=%s", c->client.id,
                    c->client.addr, hf_net_conn_unread(c), net->config.output_bytes_max,
                    c->client.last_command != NULL ? c->client.last_command : "none");
        hf_counter_add(net->output_limit, 1);
        hf_net_conn_close(c, false);
    } else if (c->client.close_after_reply) {
        if (c->head == NULL)
            hf_net_conn_close(c, true);
        else
            set_stopped(c, false);
    } else if (c->is_stopped && can_take(c)) {
        drop_input(c, take_commands(c, c->in.data, c->in.len));
    }
}

static void on_drain(struct hf_stream *s)
{
    hf_net_conn_mark(s->data);
}

/* All but the stream: from here on the client is not on any list. */
static void leave(struct hf_net_conn *c)
{
    struct hf_net *net = c->net;

    unmark(c);
    c->is_closing = true;
    hf_net_slots_drop(c);
    if (c->prev != NULL)
        c->prev->next = c->next;
    else
        net->first = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    else
        net->last = c->prev;
    net->n_clients--;
    hf_gauge_set(net->connected, net->n_clients);
    hf_net_give_buf(net, &c->in);
    hf_net_give_buf(net, &c->out);
    hf_resp_parser_free(&c->parser);
}

void hf_net_conn_close(struct hf_net_conn *c, bool flush)
{
    struct hf_env *env = c->net->env;

    if (c->is_closing)
        return;
    if (flush)
        write_output(c);
    leave(c);
    env->stream_close(env, c->stream, flush);
}

static void on_close(struct hf_stream *s, int rc)
{
    struct hf_net_conn *c = s->data;
    struct hf_net *net = c->net;

    (void)rc;
    if (!c->is_closing)
        leave(c);
    hf_free(c->client.name);
    hf_free(c->client.lib_name);
    hf_free(c->client.lib_ver);
    hf_free(c);
    hf_net_stream_gone(net);
}

static const struct hf_stream_events conn_events = {NULL, on_data, on_drain, on_close};

static void ignore_data(struct hf_stream *s, const uint8_t *bytes, size_t n)
{
    (void)s;
    (void)bytes;
    (void)n;
}

static void ignore_close(struct hf_stream *s, int rc)
{
    (void)s;
    (void)rc;
}

static const struct hf_stream_events refused_events = {NULL, ignore_data, NULL, ignore_close};

void hf_net_conn_accept(struct hf_net *net, struct hf_stream *s)
{
    struct hf_env *env = net->env;
    struct hf_net_conn *c;

    if (net->is_closing || net->n_clients >= net->config.clients_max) {
        static const char text[] = "-ERR max number of clients reached\r\n";

        s->events = &refused_events;
        s->data = NULL;
        hf_counter_add(net->rejected, 1);
        (void)env->stream_write(env, s, (const uint8_t *)text, sizeof text - 1);
        env->stream_close(env, s, true);
        return;
    }

    c = hf_calloc(1, sizeof *c);
    c->net = net;
    c->stream = s;
    s->events = &conn_events;
    s->data = c;
    c->answer_bytes = net->config.output_soft_bytes / HF_NET_FIRST_COMMANDS;
    hf_resp_parser_init(&c->parser, &net->config.limits);
    c->client.id = ++net->next_id;
    c->client.protocol = 2;
    c->client.fd = -1;
    c->client.authenticated = !net->ops.auth_required(net->ops.data);
    c->active_ms = c->client.connected_ms = c->client.last_command_ms = env->boot_ms(env);
    env->stream_name(env, s, true, c->client.addr, sizeof c->client.addr);
    env->stream_name(env, s, false, c->client.laddr, sizeof c->client.laddr);
    c->prev = net->last;
    if (net->last != NULL)
        net->last->next = c;
    else
        net->first = c;
    net->last = c;
    net->n_clients++;
    net->n_streams++;
    hf_gauge_set(net->connected, net->n_clients);
    hf_counter_add(net->connections, 1);
}
