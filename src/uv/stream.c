/* stream.c: TCP byte streams, incoming (handed over by listener.c) and outgoing.
 *
 *     RESOLVING -> CONNECTING <-> RETRYING        outgoing only; RETRYING closes the failed socket to try the
 *          |           |              |           next address of the name
 *          |           v              |
 *          |         OPEN -> FLUSHING |           FLUSHING: closed by its owner, queued output still leaves
 *          v           v        v     v
 *          +--------> CLOSING <-------+           libuv closes the handle, then on_close, then freed
 *
 * on_close is called from the handle's close callback and from nowhere else, so it comes once, last, and never
 * from inside a call of the owner.
 *
 * Output: what uv_try_write does not take goes to `out`. While one uv_write is on its way (from `sending`) all
 * further bytes gather in `out`, and leave together when it is done: two buffers swap roles. */
#include "uv/internal.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define KEEPALIVE_S       15
#define USER_TIMEOUT_MS   10000
#define FLUSH_MS_MAX      2000
#define ADDRESSES_MAX     8
#define BUF_KEEP_BYTES    (256 * 1024) /* a burst larger than this gives its memory back */
#define DISCARD_BYTES_MAX (1 << 20)

enum stream_state {
    STREAM_RESOLVING,
    STREAM_CONNECTING,
    STREAM_RETRYING,
    STREAM_OPEN,
    STREAM_FLUSHING,
    STREAM_CLOSING
};

/* A look-up outlives its stream when the stream is closed meanwhile. */
struct lookup {
    uv_getaddrinfo_t req;
    struct stream *st; /* NULL once the stream has let go */
};

struct stream {
    struct hf_stream pub; /* first: the pointer that others hold */
    struct uv_env *e;
    struct stream *prev, *next; /* in the env's list, until CLOSING */
    enum stream_state state;
    int rc; /* for on_close */
    uv_tcp_t tcp;
    uv_connect_t connect;
    uv_write_t write;
    struct hf_timer deadline; /* of connecting, later of flushing */
    struct lookup *lookup;
    struct sockaddr_storage *addresses; /* while connecting */
    size_t n_addresses, next_address;
    struct hf_buf out, sending; /* sending.len > 0 = a uv_write is on its way */
    bool wants_input;
    bool is_reading;
};

static void continue_close(struct stream *st);

static struct stream *stream_of(struct hf_stream *s)
{
    return (struct stream *)(void *)s;
}

struct hf_stream *hf_uv_stream_public(struct stream *st)
{
    return &st->pub;
}

/* ---- life ---------------------------------------------------------------------------------------- */

static void unlink_stream(struct stream *st)
{
    if (st->prev != NULL)
        st->prev->next = st->next;
    else
        st->e->streams = st->next;
    if (st->next != NULL)
        st->next->prev = st->prev;
}

static void connect_next(struct stream *st);

static void on_tcp_closed(uv_handle_t *handle)
{
    struct stream *st = handle->data;

    if (st->state == STREAM_RETRYING) {
        connect_next(st);
        return;
    }
    HF_ASSERT(st->state == STREAM_CLOSING);
    st->pub.events->on_close(&st->pub, st->rc);
    hf_buf_free(&st->out);
    hf_buf_free(&st->sending);
    hf_free(st->addresses);
    hf_free(st);
}

/* The only way to CLOSING. Does nothing the second time. */
static void begin_close(struct stream *st, int rc)
{
    bool is_handle_closing = st->state == STREAM_RETRYING;

    if (st->state == STREAM_CLOSING)
        return;
    st->state = STREAM_CLOSING;
    st->rc = rc;
    st->is_reading = false;
    unlink_stream(st);
    hf_timer_heap_remove(&st->e->timers, &st->deadline);
    if (st->lookup != NULL) {
        st->lookup->st = NULL;
        uv_cancel((uv_req_t *)&st->lookup->req); /* its callback comes in any case */
        st->lookup = NULL;
    }
    if (!is_handle_closing)
        uv_close((uv_handle_t *)&st->tcp, on_tcp_closed);
}

static struct stream *stream_new(struct uv_env *e, enum stream_state state)
{
    struct stream *st = hf_calloc(1, sizeof(*st));
    int rc = uv_tcp_init(&e->loop, &st->tcp); /* makes no socket yet, cannot fail */

    HF_ASSERT(rc == 0);
    st->pub.env = &e->env;
    st->e = e;
    st->state = state;
    st->tcp.data = st;
    st->wants_input = true;
    st->next = e->streams;
    if (st->next != NULL)
        st->next->prev = st;
    e->streams = st;
    return st;
}

/* None of these is worth losing a connection for. Only streams that we dialed (to other nodes) give up on
 * unacknowledged bytes: the same limit would disconnect a client that does not read its replies for a while. */
static void set_options(struct stream *st, bool is_outgoing)
{
    unsigned timeout_ms = USER_TIMEOUT_MS;
    uv_os_fd_t fd;

    uv_tcp_nodelay(&st->tcp, 1);
    uv_tcp_keepalive(&st->tcp, 1, KEEPALIVE_S);
    if (is_outgoing && uv_fileno((uv_handle_t *)&st->tcp, &fd) == 0)
        setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof(timeout_ms));
}

/* ---- input --------------------------------------------------------------------------------------- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct stream *st = handle->data;

    (void)suggested;
    *buf = uv_buf_init((char *)st->e->read_buf, HF_UV_READ_BYTES);
}

static void on_read(uv_stream_t *handle, ssize_t n, const uv_buf_t *buf)
{
    struct stream *st = handle->data;

    if (n > 0)
        st->pub.events->on_data(&st->pub, (const uint8_t *)buf->base, (size_t)n);
    else if (n < 0)
        begin_close(st, n == UV_EOF ? 0 : hf_uv_err_to_hf((int)n));
}

static void update_reading(struct stream *st)
{
    bool should = st->wants_input && st->state == STREAM_OPEN;
    int rc;

    if (should == st->is_reading)
        return;
    st->is_reading = should;
    if (!should) {
        uv_read_stop((uv_stream_t *)&st->tcp);
        return;
    }
    rc = uv_read_start((uv_stream_t *)&st->tcp, on_alloc, on_read);
    if (rc != 0)
        begin_close(st, hf_uv_err_to_hf(rc));
}

static void stream_read_stop(struct hf_env *env, struct hf_stream *s)
{
    (void)env;
    stream_of(s)->wants_input = false;
    update_reading(stream_of(s));
}

static void stream_read_start(struct hf_env *env, struct hf_stream *s)
{
    (void)env;
    stream_of(s)->wants_input = true;
    update_reading(stream_of(s));
}

/* ---- output -------------------------------------------------------------------------------------- */

static size_t stream_queued(struct hf_env *env, struct hf_stream *s)
{
    const struct stream *st = stream_of(s);
    size_t n = st->out.len;

    (void)env;
    /* libuv counts down what the kernel takes of a large write. */
    if (st->sending.len > 0)
        n += uv_stream_get_write_queue_size((const uv_stream_t *)&st->tcp);
    return n;
}

static void on_written(uv_write_t *req, int status);

static void send_out(struct stream *st)
{
    struct hf_buf empty = st->sending;
    uv_buf_t buf;
    int rc;

    HF_ASSERT(st->sending.len == 0);
    if (st->out.len == 0)
        return;
    st->sending = st->out;
    st->out = empty;
    buf.base = (char *)st->sending.data;
    buf.len = st->sending.len; /* uv_buf_init would count in 32 bits */
    rc = uv_write(&st->write, (uv_stream_t *)&st->tcp, &buf, 1, on_written);
    if (rc != 0) {
        st->sending.len = 0;
        begin_close(st, hf_uv_err_to_hf(rc));
    }
}

static void shrink(struct hf_buf *b)
{
    if (b->len == 0 && b->cap > BUF_KEEP_BYTES)
        hf_buf_free(b);
}

static void on_written(uv_write_t *req, int status)
{
    struct stream *st = HF_CONTAINER_OF(req, struct stream, write);

    st->sending.len = 0;
    shrink(&st->sending);
    if (st->state == STREAM_CLOSING)
        return;
    if (status != 0) {
        begin_close(st, st->state == STREAM_FLUSHING ? 0 : hf_uv_err_to_hf(status));
        return;
    }
    if (st->out.len > 0) {
        send_out(st);
        return;
    }
    if (st->state == STREAM_FLUSHING)
        continue_close(st);
    else if (st->pub.events->on_drain != NULL)
        st->pub.events->on_drain(&st->pub);
}

static int stream_write(struct hf_env *env, struct hf_stream *s, const uint8_t *bytes, size_t n)
{
    struct stream *st = stream_of(s);
    bool is_idle = st->state == STREAM_OPEN && st->sending.len == 0 && st->out.len == 0;

    (void)env;
    if (st->state == STREAM_FLUSHING || st->state == STREAM_CLOSING)
        return HF_E_CLOSED;
    if (n == 0)
        return 0;
    if (is_idle) {
        /* libuv counts in 32 bits; more than this never fits into a socket buffer at once anyway. */
        uv_buf_t buf = uv_buf_init((char *)(uintptr_t)bytes, n > INT32_MAX ? INT32_MAX : (unsigned)n);
        int rc = uv_try_write((uv_stream_t *)&st->tcp, &buf, 1);

        if (rc < 0 && rc != UV_EAGAIN) {
            begin_close(st, hf_uv_err_to_hf(rc)); /* told by on_close */
            return 0;
        }
        if (rc > 0) {
            bytes += rc;
            n -= (size_t)rc;
        }
    }
    hf_buf_put(&st->out, bytes, n);
    if (is_idle)
        send_out(st);
    return 0;
}

/* ---- opening ------------------------------------------------------------------------------------- */

static void finish_open(struct stream *st)
{
    hf_timer_heap_remove(&st->e->timers, &st->deadline);
    hf_free(st->addresses);
    st->addresses = NULL;
    st->state = STREAM_OPEN;
    set_options(st, true);
    send_out(st); /* what was written while connecting */
    if (st->state == STREAM_OPEN && st->pub.events->on_open != NULL)
        st->pub.events->on_open(&st->pub);
    update_reading(st); /* does nothing when on_open closed it */
}

static void connect_failed(struct stream *st, int rc)
{
    if (st->next_address == st->n_addresses) {
        begin_close(st, rc);
        return;
    }
    st->state = STREAM_RETRYING;
    uv_close((uv_handle_t *)&st->tcp, on_tcp_closed);
}

static void on_connected(uv_connect_t *req, int status)
{
    struct stream *st = HF_CONTAINER_OF(req, struct stream, connect);

    if (st->state != STREAM_CONNECTING)
        return; /* canceled by closing the handle */
    if (status == 0)
        finish_open(st);
    else
        connect_failed(st, hf_uv_err_to_hf(status));
}

static void connect_next(struct stream *st)
{
    const struct sockaddr_storage *addr = &st->addresses[st->next_address++];
    int rc;

    if (st->state == STREAM_RETRYING) {
        rc = uv_tcp_init(&st->e->loop, &st->tcp);
        HF_ASSERT(rc == 0);
        st->tcp.data = st;
    }
    st->state = STREAM_CONNECTING;
    rc = uv_tcp_connect(&st->connect, &st->tcp, (const struct sockaddr *)addr, on_connected);
    if (rc != 0)
        connect_failed(st, hf_uv_err_to_hf(rc));
}

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *list)
{
    struct lookup *l = HF_CONTAINER_OF(req, struct lookup, req);
    struct stream *st = l->st;

    hf_free(l);
    if (st != NULL) {
        st->lookup = NULL;
        for (struct addrinfo *ai = list; status == 0 && ai != NULL && st->n_addresses < ADDRESSES_MAX; ai = ai->ai_next)
            memcpy(&st->addresses[st->n_addresses++], ai->ai_addr, ai->ai_addrlen);
        if (st->n_addresses > 0)
            connect_next(st);
        else
            begin_close(st, HF_E_CONN);
    }
    if (list != NULL)
        uv_freeaddrinfo(list);
}

static int start_lookup(struct stream *st, const char *host, uint16_t port)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct lookup *l = hf_calloc(1, sizeof(*l));
    char service[8];
    int rc;

    snprintf(service, sizeof(service), "%u", port);
    st->addresses = hf_calloc(ADDRESSES_MAX, sizeof(*st->addresses));
    rc = uv_getaddrinfo(&st->e->loop, &l->req, on_resolved, host, service, &hints);
    if (rc != 0) {
        hf_free(l);
        return hf_uv_err_to_hf(rc);
    }
    l->st = st;
    st->lookup = l;
    return 0;
}

static void on_deadline(struct hf_timer *timer)
{
    struct stream *st = timer->data;

    begin_close(st, st->state == STREAM_FLUSHING ? 0 : HF_E_TIMEOUT);
}

static int stream_connect(struct hf_env *env, const char *address, uint64_t timeout_ms,
                          const struct hf_stream_events *events, void *data, struct hf_stream **out)
{
    struct uv_env *e = hf_uv_env_of(env);
    char host[HF_UV_HOST_MAX];
    struct sockaddr_storage addr;
    uint16_t port;
    struct stream *st;
    int rc;

    if (!hf_uv_address_split(address, host, &port) || host[0] == '\0' || port == 0)
        return HF_E_INVALID;
    st = stream_new(e, STREAM_RESOLVING);
    st->pub.events = events;
    st->pub.data = data;
    st->deadline.data = st;
    st->deadline.cb = on_deadline;
    env->timer_start(env, &st->deadline, timeout_ms);
    if (hf_uv_address_numeric(host, port, &addr)) {
        st->addresses = hf_memdup(&addr, sizeof(addr));
        st->n_addresses = 1;
        connect_next(st);
    } else {
        rc = start_lookup(st, host, port);
        if (rc != 0)
            begin_close(st, rc);
    }
    *out = &st->pub;
    return 0;
}

struct stream *hf_uv_stream_adopt(struct uv_env *e, int fd)
{
    struct stream *st = stream_new(e, STREAM_OPEN);
    int rc = uv_tcp_open(&st->tcp, fd);

    HF_ASSERT(rc == 0); /* fails only for what is no socket */
    st->deadline.data = st;
    st->deadline.cb = on_deadline;
    set_options(st, false);
    return st;
}

void hf_uv_stream_start(struct stream *st)
{
    HF_ASSERT(st->pub.events != NULL);
    update_reading(st);
}

/* ---- closing ------------------------------------------------------------------------------------- */

/* All output is with the kernel. Input that nobody read would make close(2) send a reset, which can overtake
 * the last bytes we sent (an error reply, say) and destroy them: read it away first. */
static void continue_close(struct stream *st)
{
    ssize_t discarded = 0;
    uv_os_fd_t fd;

    if (uv_fileno((uv_handle_t *)&st->tcp, &fd) == 0) {
        shutdown(fd, SHUT_WR);
        /* MSG_TRUNC: thrown away in the kernel. */
        while (discarded < DISCARD_BYTES_MAX) {
            ssize_t n = recv(fd, NULL, DISCARD_BYTES_MAX, MSG_DONTWAIT | MSG_TRUNC);

            if (n <= 0)
                break;
            discarded += n;
        }
    }
    begin_close(st, 0);
}

static void stream_close(struct hf_env *env, struct hf_stream *s, bool flush)
{
    struct stream *st = stream_of(s);

    if (st->state == STREAM_CLOSING || (st->state == STREAM_FLUSHING && flush))
        return;
    if (st->state != STREAM_OPEN || !flush) {
        begin_close(st, 0);
        return;
    }
    st->state = STREAM_FLUSHING;
    update_reading(st);
    if (st->sending.len > 0)
        env->timer_start(env, &st->deadline, FLUSH_MS_MAX);
    else
        continue_close(st);
}

void hf_uv_stream_cancel(struct stream *st)
{
    begin_close(st, HF_E_CANCELED);
}

static void stream_name(struct hf_env *env, struct hf_stream *s, bool peer, char *out, size_t cap)
{
    struct stream *st = stream_of(s);
    struct sockaddr_storage addr = {0};
    int len = sizeof(addr);

    (void)env;
    if (peer)
        uv_tcp_getpeername(&st->tcp, (struct sockaddr *)&addr, &len);
    else
        uv_tcp_getsockname(&st->tcp, (struct sockaddr *)&addr, &len);
    hf_uv_address_format(&addr, out, cap);
}

void hf_uv_stream_init(struct uv_env *e)
{
    e->env.connect = stream_connect;
    e->env.stream_write = stream_write;
    e->env.stream_queued = stream_queued;
    e->env.stream_read_stop = stream_read_stop;
    e->env.stream_read_start = stream_read_start;
    e->env.stream_close = stream_close;
    e->env.stream_name = stream_name;
}
