/* test_stream.c: streams and listeners over the loopback interface, against each other and raw sockets. */
#include "test_uv.h"

#include "base/assert.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/util.h"
#include "uv/uv_env.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define ECHO_BYTES (10u * 1024 * 1024)

/* One end of a connection, and what happened to it. */
struct end {
    struct hf_stream *s;
    bool is_in_call; /* set around calls into the env: no callback may come then */
    unsigned n_open, n_drain, n_close, n_data;
    int close_rc;
    struct hf_buf in; /* all input */
    void (*on_open)(struct end *e);
    void (*on_data)(struct end *e, const uint8_t *bytes, size_t n); /* instead of collecting in `in` */
    void (*on_close)(struct end *e);
};

static struct hf_env *env;
static struct hf_listener *listener;
static struct end client, server;
static void (*on_accepted)(struct end *e);
static char address[64];
static struct hf_timer guard;

static void end_opened(struct hf_stream *s)
{
    struct end *e = s->data;

    ck_assert(!e->is_in_call && e->n_close == 0);
    e->n_open++;
    if (e->on_open != NULL)
        e->on_open(e);
}

static void end_data(struct hf_stream *s, const uint8_t *bytes, size_t n)
{
    struct end *e = s->data;

    ck_assert(!e->is_in_call && e->n_close == 0);
    ck_assert_uint_gt(n, 0);
    e->n_data++;
    if (e->on_data != NULL)
        e->on_data(e, bytes, n);
    else
        hf_buf_put(&e->in, bytes, n);
}

static void end_drained(struct hf_stream *s)
{
    struct end *e = s->data;

    ck_assert(!e->is_in_call && e->n_close == 0);
    ck_assert_uint_eq(env->stream_queued(env, s), 0);
    e->n_drain++;
}

static void end_closed(struct hf_stream *s, int rc)
{
    struct end *e = s->data;

    ck_assert(!e->is_in_call);
    ck_assert_uint_eq(e->n_close, 0);
    e->n_close++;
    e->close_rc = rc;
    e->s = NULL;
    if (e->on_close != NULL)
        e->on_close(e);
}

static const struct hf_stream_events end_events = {
    .on_open = end_opened, .on_data = end_data, .on_drain = end_drained, .on_close = end_closed};

static void end_close(struct end *e, bool flush)
{
    e->is_in_call = true;
    env->stream_close(env, e->s, flush);
    e->is_in_call = false;
}

static int end_write(struct end *e, const void *bytes, size_t n)
{
    int rc;

    e->is_in_call = true;
    rc = env->stream_write(env, e->s, bytes, n);
    e->is_in_call = false;
    return rc;
}

static void accept_server(void *data, struct hf_stream *s)
{
    struct end *e = data;

    ck_assert_ptr_null(e->s);
    e->s = s;
    s->events = &end_events;
    s->data = e;
    if (on_accepted != NULL)
        on_accepted(e);
}

static const struct hf_listener_events server_events = {.on_accept = accept_server};

static void on_guard(struct hf_timer *t)
{
    (void)t;
    ck_abort_msg("the loop waits for something that never comes");
}

static void open_listener(void)
{
    ck_assert_int_eq(env->listen(env, "127.0.0.1:0", &server_events, &server, &listener), 0);
    snprintf(address, sizeof(address), "127.0.0.1:%u", hf_uv_listener_port(listener));
}

static void set_up(void)
{
    memset(&client, 0, sizeof(client));
    memset(&server, 0, sizeof(server));
    on_accepted = NULL;
    listener = NULL;
    ck_assert_int_eq(hf_uv_env_open(&env), 0);
    guard = (struct hf_timer){.cb = on_guard};
    env->timer_start(env, &guard, 30000);
    open_listener();
}

static void tear_down(void)
{
    hf_uv_env_close(env);
    ck_assert_ptr_null(client.s);
    ck_assert_ptr_null(server.s);
    hf_buf_free(&client.in);
    hf_buf_free(&server.in);
}

static void connect_to(const char *to, uint64_t timeout_ms)
{
    client.is_in_call = true;
    ck_assert_int_eq(env->connect(env, to, timeout_ms, &end_events, &client, &client.s), 0);
    client.is_in_call = false;
}

static void stop_loop(struct end *e)
{
    (void)e;
    hf_uv_env_stop(env);
}

static void stop_when_both_closed(struct end *e)
{
    (void)e;
    if (client.n_close + server.n_close == 2)
        hf_uv_env_stop(env);
}

static void on_pause_over(struct hf_timer *t)
{
    (void)t;
    hf_uv_env_stop(env);
}

/* Lets the loop run for a while: to see that something does not happen, or to fill kernel buffers. */
static void run_for(uint64_t ms)
{
    struct hf_timer t = {.cb = on_pause_over};

    env->timer_start(env, &t, ms);
    hf_uv_env_run(env);
}

static uint8_t pattern(size_t i)
{
    return (uint8_t)(i * 31 + (i >> 8) * 17 + (i >> 16));
}

static uint8_t *pattern_bytes(size_t n)
{
    uint8_t *bytes = hf_malloc(n);

    for (size_t i = 0; i < n; i++)
        bytes[i] = pattern(i);
    return bytes;
}

static void check_pattern(const struct hf_buf *b, size_t n)
{
    ck_assert_uint_eq(b->len, n);
    for (size_t i = 0; i < n; i++) {
        if (b->data[i] != pattern(i))
            ck_abort_msg("byte %zu differs", i);
    }
}

/* ---- echo through a slow reader ------------------------------------------------------------------ */

static struct hf_timer reader_pause;
static size_t echo_queued_max;

static void echo_back(struct end *e, const uint8_t *bytes, size_t n)
{
    size_t queued;

    ck_assert_int_eq(end_write(e, bytes, n), 0);
    queued = env->stream_queued(env, e->s);
    if (queued > echo_queued_max)
        echo_queued_max = queued;
}

static void send_in_pieces(struct end *e)
{
    uint8_t *bytes = pattern_bytes(ECHO_BYTES);
    struct hf_prng p;
    size_t at = 0;

    hf_prng_seed(&p, 8);
    while (at < ECHO_BYTES) {
        size_t n = hf_prng_below(&p, 3) ? hf_prng_below(&p, 200) : hf_prng_below(&p, 100000);

        if (n > ECHO_BYTES - at)
            n = ECHO_BYTES - at;
        ck_assert_int_eq(end_write(e, bytes + at, n), 0);
        at += n;
    }
    ck_assert_uint_gt(env->stream_queued(env, e->s), 0); /* more than the kernel takes */
    ck_assert_uint_le(env->stream_queued(env, e->s), ECHO_BYTES);
    hf_free(bytes);
}

static void resume_reading(struct hf_timer *t)
{
    (void)t;
    env->stream_read_start(env, client.s);
}

static void read_slowly(struct end *e, const uint8_t *bytes, size_t n)
{
    hf_buf_put(&e->in, bytes, n);
    if (e->in.len == ECHO_BYTES) {
        end_close(e, true);
        return;
    }
    if (e->n_data % 16 == 0) {
        e->is_in_call = true;
        env->stream_read_stop(env, e->s);
        e->is_in_call = false;
        env->timer_start(env, &reader_pause, 1);
    }
}

START_TEST(test_echo_through_a_slow_reader)
{
    reader_pause = (struct hf_timer){.cb = resume_reading};
    echo_queued_max = 0;
    server.on_data = echo_back;
    client.on_open = send_in_pieces;
    client.on_data = read_slowly;
    client.on_close = server.on_close = stop_when_both_closed;
    connect_to(address, 5000);
    hf_uv_env_run(env);
    check_pattern(&client.in, ECHO_BYTES);
    ck_assert_uint_eq(client.n_open, 1);
    ck_assert_uint_ge(client.n_drain, 1);
    ck_assert_uint_gt(echo_queued_max, 0);
    ck_assert_int_eq(client.close_rc, 0);
    ck_assert_int_eq(server.close_rc, 0);
}
END_TEST

static void stop_reading(struct end *e)
{
    env->stream_read_stop(env, e->s);
}

static void write_hello(struct end *e)
{
    end_write(e, "hello", 5);
}

static void collect_and_stop(struct end *e, const uint8_t *bytes, size_t n)
{
    hf_buf_put(&e->in, bytes, n);
    hf_uv_env_stop(env);
}

START_TEST(test_no_data_while_stopped)
{
    on_accepted = stop_reading;
    server.on_data = collect_and_stop;
    connect_to(address, 5000);
    ck_assert_int_eq(end_write(&client, "early ", 6), 0); /* before it is open: leaves first */
    client.on_open = write_hello;
    run_for(30);
    ck_assert_uint_eq(server.n_data, 0);
    env->stream_read_start(env, server.s);
    while (server.in.len < 11)
        hf_uv_env_run(env);
    ck_assert(hf_slice_eq(hf_buf_slice(&server.in), hf_slice_str("early hello")));
}
END_TEST

/* ---- connecting ---------------------------------------------------------------------------------- */

START_TEST(test_connection_refused)
{
    env->listener_close(env, listener); /* its port is free now, nobody listens */
    client.on_close = stop_loop;
    connect_to(address, 5000);
    ck_assert_uint_eq(client.n_close, 0);
    hf_uv_env_run(env);
    ck_assert_int_eq(client.close_rc, HF_E_CONN);
    ck_assert_uint_eq(client.n_open, 0);
}
END_TEST

static int raw_socket(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_ge(fd, 0);
    return fd;
}

static int raw_connect(uint16_t port, int extra_flags)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | extra_flags, 0);
    struct timeval limit = {5, 0};

    ck_assert_int_ge(fd, 0);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    if (connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0)
        ck_assert_int_eq(errno, EINPROGRESS);
    return fd;
}

START_TEST(test_connect_times_out)
{
    struct sockaddr_in addr = {.sin_family = AF_INET};
    socklen_t len = sizeof(addr);
    int fillers[4], fd = raw_socket();
    uint64_t start;

    /* A listener whose backlog is full: the kernel ignores further attempts. */
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    ck_assert_int_eq(listen(fd, 0), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    for (int i = 0; i < 4; i++)
        fillers[i] = raw_connect(ntohs(addr.sin_port), SOCK_NONBLOCK);
    snprintf(address, sizeof(address), "127.0.0.1:%u", ntohs(addr.sin_port));
    client.on_close = stop_loop;
    start = env->boot_ms(env);
    connect_to(address, 50);
    hf_uv_env_run(env);
    ck_assert_int_eq(client.close_rc, HF_E_TIMEOUT);
    ck_assert_uint_ge(env->boot_ms(env) - start, 50);
    ck_assert_uint_eq(client.n_open, 0);
    for (int i = 0; i < 4; i++)
        close(fillers[i]);
    close(fd);
}
END_TEST

static atomic_bool is_looked_up;

/* Stands in for the C library's resolver, in libuv's threads too: the tests need no name server, and a name with
 * several addresses. Nobody listens at 127.0.0.2 and 127.0.0.3. */
int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **out)
{
    static const struct {
        const char *host, *address;
    } names[] = {{"localhost", "127.0.0.1"},
                 {"three.test", "127.0.0.2"},
                 {"three.test", "127.0.0.3"},
                 {"three.test", "127.0.0.1"}};

    (void)hints;
    *out = NULL;
    for (size_t i = sizeof(names) / sizeof(names[0]); i-- > 0;) {
        struct addrinfo *ai;
        struct sockaddr_in *in;

        if (strcmp(names[i].host, host) != 0)
            continue;
        ai = hf_calloc(1, sizeof(*ai) + sizeof(*in));
        in = (struct sockaddr_in *)(void *)(ai + 1);
        in->sin_family = AF_INET;
        in->sin_port = htons((uint16_t)(service ? atoi(service) : 0));
        inet_pton(AF_INET, names[i].address, &in->sin_addr);
        ai->ai_family = AF_INET;
        ai->ai_socktype = SOCK_STREAM;
        ai->ai_addr = (struct sockaddr *)in;
        ai->ai_addrlen = sizeof(*in);
        ai->ai_next = *out;
        *out = ai;
    }
    atomic_store(&is_looked_up, true);
    return *out != NULL ? 0 : EAI_NONAME;
}

void freeaddrinfo(struct addrinfo *list)
{
    while (list != NULL) {
        struct addrinfo *next = list->ai_next;

        hf_free(list);
        list = next;
    }
}

static void connect_by_name(const char *name, int expected_rc)
{
    client.n_open = client.n_close = 0;
    client.on_open = client.on_close = stop_loop;
    snprintf(address, sizeof(address), "%s:%u", name, hf_uv_listener_port(listener));
    connect_to(address, 5000);
    hf_uv_env_run(env);
    ck_assert_uint_eq(client.n_open, expected_rc == 0);
    if (expected_rc != 0) {
        ck_assert_int_eq(client.close_rc, expected_rc);
        return;
    }
    end_close(&client, false);
    hf_uv_env_run(env);
}

static void forget_server(struct end *e)
{
    e->n_close = 0;
}

START_TEST(test_connect_by_name)
{
    server.on_close = forget_server;
    connect_by_name("localhost", 0);
    while (server.s != NULL)
        run_for(1);
    connect_by_name("three.test", 0); /* the third of its addresses */
    connect_by_name("none.test", HF_E_CONN);
}
END_TEST

struct countdown {
    struct hf_task task;
    unsigned n;
};

static void close_at_zero(struct hf_task *task)
{
    struct countdown *c = task->data;

    if (!atomic_load(&is_looked_up) || c->n-- > 0)
        env->post(env, task);
    else if (client.s != NULL)
        end_close(&client, false);
}

START_TEST(test_close_between_two_addresses)
{
    /* A task that posts itself goes round in every phase of the loop, so the close comes at every step of the
     * attempts after the look-up (and, for the largest counts, behind them). on_close comes once all the same. */
    for (unsigned n = 0; n < 1000; n += 8) {
        struct countdown c = {.n = n};

        c.task.data = &c;
        c.task.cb = close_at_zero;
        client.n_close = 0;
        client.on_close = stop_loop;
        atomic_store(&is_looked_up, false);
        connect_to("three.test:1", 5000);
        env->post(env, &c.task);
        hf_uv_env_run(env);
        env->unpost(env, &c.task);
        ck_assert_uint_eq(client.n_close, 1);
    }
}
END_TEST

START_TEST(test_name_without_listener)
{
    uint16_t port = hf_uv_listener_port(listener);

    env->listener_close(env, listener);
    snprintf(address, sizeof(address), "three.test:%u", port);
    client.on_close = stop_loop;
    connect_to(address, 5000);
    hf_uv_env_run(env);
    ck_assert_int_eq(client.close_rc, HF_E_CONN);
}
END_TEST

START_TEST(test_close_while_connecting)
{
    client.on_close = stop_loop;
    connect_to("localhost:1", 5000); /* looking the name up */
    end_close(&client, true);
    end_close(&client, false);
    ck_assert_int_eq(end_write(&client, "x", 1), HF_E_CLOSED);
    hf_uv_env_run(env);
    ck_assert_int_eq(client.close_rc, 0);
    client.n_close = 0;
    connect_to(address, 5000);
    ck_assert_int_eq(end_write(&client, "x", 1), 0);
    end_close(&client, true);
    hf_uv_env_run(env);
    ck_assert_uint_eq(client.n_open, 0);
}
END_TEST

START_TEST(test_bad_addresses)
{
    static const char *const bad[] = {"",     "127.0.0.1", "127.0.0.1:",     "127.0.0.1:x", "127.0.0.1:65536",
                                      ":1",   "::1:80",    "[::1]80",        "[::1:80",     "127.0.0.1:-1",
                                      "[]:1", "a:0",       "127.0.0.1:0080", ":",           "127.0.0.1: 80"};
    struct hf_listener *l;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ck_assert_msg(env->connect(env, bad[i], 1, &end_events, &client, &client.s) == HF_E_INVALID, "%s", bad[i]);
    ck_assert_ptr_null(client.s);
    ck_assert_int_eq(env->listen(env, "127.0.0.1", &server_events, NULL, &l), HF_E_INVALID);
    ck_assert_int_eq(env->listen(env, "192.0.2.1:1", &server_events, NULL, &l), HF_E_SYS); /* not ours */
}
END_TEST

START_TEST(test_names_of_both_ends)
{
    char a[64], b[64], few[5];

    client.on_open = stop_loop;
    connect_to(address, 5000);
    hf_uv_env_run(env);
    while (server.s == NULL)
        run_for(1);
    env->stream_name(env, client.s, true, a, sizeof(a));
    ck_assert_str_eq(a, address);
    env->stream_name(env, client.s, false, a, sizeof(a));
    env->stream_name(env, server.s, true, b, sizeof(b));
    ck_assert_str_eq(a, b);
    ck_assert(strncmp(a, "127.0.0.1:", 10) == 0);
    env->stream_name(env, client.s, true, few, sizeof(few));
    ck_assert_str_eq(few, "127.");
}
END_TEST

START_TEST(test_ipv6)
{
    struct hf_listener *l;
    char name[64];

    if (env->listen(env, "[::1]:0", &server_events, &server, &l) != 0)
        return; /* a machine without IPv6 */
    snprintf(address, sizeof(address), "[::1]:%u", hf_uv_listener_port(l));
    client.on_open = stop_loop;
    connect_to(address, 5000);
    hf_uv_env_run(env);
    env->stream_name(env, client.s, true, name, sizeof(name));
    ck_assert_str_eq(name, address);
}
END_TEST

/* ---- closing ------------------------------------------------------------------------------------- */

static void close_in_data(struct end *e, const uint8_t *bytes, size_t n)
{
    uint32_t before = hf_crc32c(0, bytes, n);

    end_close(e, e->n_open > 0);
    ck_assert_int_eq(end_write(e, "x", 1), HF_E_CLOSED);
    env->stream_read_stop(env, e->s);
    env->stream_read_start(env, e->s);
    ck_assert_uint_eq(hf_crc32c(0, bytes, n), before); /* borrowed until on_data returns */
}

static void send_megabyte(struct end *e)
{
    uint8_t *bytes = pattern_bytes(1 << 20);

    end_write(e, bytes, 1 << 20);
    hf_free(bytes);
}

START_TEST(test_close_inside_data)
{
    server.on_data = close_in_data;
    client.on_open = send_megabyte;
    client.on_close = server.on_close = stop_when_both_closed;
    connect_to(address, 5000);
    hf_uv_env_run(env);
    ck_assert_uint_eq(server.n_data, 1);
    ck_assert_int_eq(server.close_rc, 0);
}
END_TEST

START_TEST(test_flushing_close_inside_data)
{
    server.on_data = close_in_data;
    server.n_open = 1; /* with flush */
    client.on_open = send_megabyte;
    client.on_close = server.on_close = stop_when_both_closed;
    connect_to(address, 5000);
    hf_uv_env_run(env);
    ck_assert_uint_eq(server.n_data, 1);
    ck_assert_int_eq(server.close_rc, 0);
}
END_TEST

static void close_now(struct end *e)
{
    end_close(e, false);
}

START_TEST(test_close_inside_open_and_accept)
{
    on_accepted = close_now;
    client.on_open = close_now;
    client.on_close = server.on_close = stop_when_both_closed;
    connect_to(address, 5000);
    hf_uv_env_run(env);
    ck_assert_uint_eq(client.n_open, 1);
    ck_assert_uint_eq(client.n_data + server.n_data, 0);
    ck_assert_int_eq(client.close_rc, 0);
}
END_TEST

static void send_much_and_flush(struct end *e)
{
    uint8_t *bytes = pattern_bytes(ECHO_BYTES);

    end_write(e, bytes, ECHO_BYTES);
    hf_free(bytes);
    ck_assert_uint_gt(env->stream_queued(env, e->s), 0);
    end_close(e, true);
    ck_assert_int_eq(end_write(e, "x", 1), HF_E_CLOSED);
    end_close(e, true);
}

START_TEST(test_flush_sends_all)
{
    on_accepted = send_much_and_flush;
    client.on_close = server.on_close = stop_when_both_closed;
    connect_to(address, 5000);
    hf_uv_env_run(env);
    check_pattern(&client.in, ECHO_BYTES);
    ck_assert_int_eq(client.close_rc, 0);
    ck_assert_uint_eq(server.n_drain, 0); /* nothing but on_close after closing */
}
END_TEST

START_TEST(test_last_words_survive_unread_input)
{
    static const char words[] = "-ERR go away\r\n";
    char junk[100000] = {0}, got[64];
    ssize_t n, total = 0;
    int fd, error;
    socklen_t len = sizeof(error);

    on_accepted = stop_reading;
    fd = raw_connect(hf_uv_listener_port(listener), 0);
    ck_assert_int_eq(send(fd, junk, sizeof(junk), 0), sizeof(junk));
    run_for(20);
    server.on_close = stop_loop;
    end_write(&server, words, strlen(words));
    end_close(&server, true);
    hf_uv_env_run(env);
    while ((n = recv(fd, got + total, sizeof(got) - (size_t)total, 0)) > 0)
        total += n;
    ck_assert_int_eq(n, 0); /* a clean end, and no reset behind it */
    ck_assert_int_eq(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len), 0);
    ck_assert_int_eq(error, 0);
    ck_assert_int_eq(total, strlen(words));
    close(fd);
}
END_TEST

START_TEST(test_flush_has_a_deadline)
{
    uint64_t start;
    int fd = raw_connect(hf_uv_listener_port(listener), 0); /* never reads */

    on_accepted = send_much_and_flush;
    server.on_close = stop_loop;
    start = env->boot_ms(env);
    hf_uv_env_run(env);
    ck_assert_uint_ge(env->boot_ms(env) - start, 2000);
    ck_assert_uint_lt(env->boot_ms(env) - start, 10000);
    ck_assert_int_eq(server.close_rc, 0);
    close(fd);
}
END_TEST

START_TEST(test_close_without_flush_drops)
{
    int fd = raw_connect(hf_uv_listener_port(listener), 0);

    while (server.s == NULL)
        run_for(1);
    send_much_and_flush(&server);
    server.on_close = stop_loop;
    end_close(&server, false); /* cuts the flushing short */
    env->timer_stop(env, &guard);
    env->timer_start(env, &guard, 1900);
    hf_uv_env_run(env);
    close(fd);
}
END_TEST

START_TEST(test_reset_by_the_other_side)
{
    struct linger hard = {1, 0};
    int fd = raw_connect(hf_uv_listener_port(listener), 0);

    while (server.s == NULL)
        run_for(1);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    close(fd);
    server.on_close = stop_loop;
    hf_uv_env_run(env);
    ck_assert_int_eq(server.close_rc, HF_E_CONN);
}
END_TEST

START_TEST(test_write_to_a_dead_stream_is_told_later)
{
    struct linger hard = {1, 0};
    int fd = raw_connect(hf_uv_listener_port(listener), 0);

    on_accepted = stop_reading;
    while (server.s == NULL)
        run_for(1);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    close(fd);
    server.on_close = stop_loop;
    ck_assert_int_eq(end_write(&server, "x", 1), 0);
    hf_uv_env_run(env);
    ck_assert_int_ne(server.close_rc, 0);
}
END_TEST

START_TEST(test_env_close_cancels_streams)
{
    client.on_open = send_megabyte;
    connect_to(address, 5000);
    while (server.s == NULL)
        run_for(1);
    stop_reading(&server);
    tear_down();
    ck_assert_uint_eq(client.n_close, 1);
    ck_assert_uint_eq(server.n_close, 1);
    ck_assert_int_eq(server.close_rc, HF_E_CANCELED);
    set_up();
}
END_TEST

/* ---- listeners ----------------------------------------------------------------------------------- */

START_TEST(test_address_in_use)
{
    struct hf_listener *second = NULL;

    ck_assert_int_eq(env->listen(env, address, &server_events, &server, &second), HF_E_ADDRINUSE);
    ck_assert_ptr_null(second);
    env->listener_close(env, listener);
    ck_assert_int_eq(env->listen(env, address, &server_events, &server, &second), 0); /* free at once */
    client.on_open = stop_loop;
    connect_to(address, 5000);
    hf_uv_env_run(env);
    ck_assert_uint_eq(client.n_open, 1);
}
END_TEST

static void close_listener(struct end *e)
{
    (void)e;
    env->listener_close(env, listener);
}

START_TEST(test_close_listener_while_accepting)
{
    int first = raw_connect(hf_uv_listener_port(listener), 0);
    int second = raw_connect(hf_uv_listener_port(listener), 0); /* in the backlog when the first is accepted */

    on_accepted = close_listener;
    run_for(10);
    ck_assert_ptr_nonnull(server.s); /* a second accept would have failed an assertion above */
    close(first);
    close(second);
}
END_TEST

START_TEST(test_out_of_descriptors)
{
    struct rlimit before, low;
    int turned_away, accepted, next_fd;
    char byte;

    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    turned_away = raw_connect(hf_uv_listener_port(listener), 0);
    next_fd = dup(turned_away);
    close(next_fd);
    low = (struct rlimit){(rlim_t)next_fd, before.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
    run_for(20);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    ck_assert_ptr_null(server.s);
    ck_assert_int_eq(recv(turned_away, &byte, 1, 0), 0); /* told at once, not left waiting */
    close(turned_away);

    accepted = raw_connect(hf_uv_listener_port(listener), 0); /* the listener lives on */
    run_for(20);
    ck_assert_ptr_nonnull(server.s);
    close(accepted);
}
END_TEST

TCase *stream_case(void)
{
    TCase *tc = tcase_create("stream");

    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, set_up, tear_down);
    tcase_add_test(tc, test_echo_through_a_slow_reader);
    tcase_add_test(tc, test_no_data_while_stopped);
    tcase_add_test(tc, test_connection_refused);
    tcase_add_test(tc, test_connect_times_out);
    tcase_add_test(tc, test_connect_by_name);
    tcase_add_test(tc, test_close_between_two_addresses);
    tcase_add_test(tc, test_name_without_listener);
    tcase_add_test(tc, test_close_while_connecting);
    tcase_add_test(tc, test_bad_addresses);
    tcase_add_test(tc, test_names_of_both_ends);
    tcase_add_test(tc, test_ipv6);
    tcase_add_test(tc, test_close_inside_data);
    tcase_add_test(tc, test_flushing_close_inside_data);
    tcase_add_test(tc, test_close_inside_open_and_accept);
    tcase_add_test(tc, test_flush_sends_all);
    tcase_add_test(tc, test_last_words_survive_unread_input);
    tcase_add_test(tc, test_flush_has_a_deadline);
    tcase_add_test(tc, test_close_without_flush_drops);
    tcase_add_test(tc, test_reset_by_the_other_side);
    tcase_add_test(tc, test_write_to_a_dead_stream_is_told_later);
    tcase_add_test(tc, test_env_close_cancels_streams);
    tcase_add_test(tc, test_address_in_use);
    tcase_add_test(tc, test_close_listener_while_accepting);
    tcase_add_test(tc, test_out_of_descriptors);
    return tc;
}
