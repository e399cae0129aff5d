/* listener.c: listening sockets. Accepts by itself (uv_poll on the socket) rather than through uv_listen, to
 * have its own say when descriptors run out: libuv would drop such connections without a word. */
#include "uv/internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG        4096 /* the kernel lowers it to net.core.somaxconn */
#define ACCEPT_MAX     64   /* a turn: connections that are open go on meanwhile */
#define PAUSE_MS       100  /* when the kernel has no memory or no descriptor left even for turning away */
#define RESERVE_CLOSED (-1)

struct hf_listener {
    struct hf_listener *prev, *next; /* in the env's list */
    struct uv_env *e;
    uv_poll_t poll;
    int fd;
    int reserve_fd; /* given up to accept, and at once close, a connection when no descriptor is left */
    struct hf_timer pause;
    const struct hf_listener_events *events;
    void *data;
    bool is_closing;
};

static int open_reserve(void)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    return fd < 0 ? RESERVE_CLOSED : fd;
}

static void on_readable(uv_poll_t *poll, int status, int events);

static void pause_accepting(struct hf_listener *l)
{
    uv_poll_stop(&l->poll);
    l->e->env.timer_start(&l->e->env, &l->pause, PAUSE_MS);
}

static void on_pause_over(struct hf_timer *timer)
{
    struct hf_listener *l = timer->data;

    if (l->reserve_fd == RESERVE_CLOSED)
        l->reserve_fd = open_reserve();
    uv_poll_start(&l->poll, UV_READABLE, on_readable);
}

/* Out of descriptors. Left in the backlog, the connection would wake us for ever and its client would wait.
 * False when accepting has to end for now. (The kernel looks for a descriptor before it looks for a connection,
 * so we may get here with an empty backlog too.) */
static bool turn_away(struct hf_listener *l)
{
    int fd = -1, error = EMFILE;

    if (l->reserve_fd != RESERVE_CLOSED) {
        close(l->reserve_fd);
        fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        error = errno;
        if (fd >= 0)
            close(fd);
        l->reserve_fd = open_reserve();
    }
    if (fd >= 0)
        HF_LOG_WARN("uv", "connection refused: out of file descriptors", "listener_fd=%d", l->fd);
    else if (error == EAGAIN)
        return false;
    if (fd < 0 || l->reserve_fd == RESERVE_CLOSED) {
        HF_LOG_WARN("uv", "accepting paused: out of file descriptors", "pause_ms=%d", PAUSE_MS);
        pause_accepting(l);
        return false;
    }
    return true;
}

/* False when accepting has to end for now. */
static bool accept_one(struct hf_listener *l)
{
    int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct stream *st;

    if (fd >= 0) {
        st = hf_uv_stream_adopt(l->e, fd);
        l->events->on_accept(l->data, hf_uv_stream_public(st));
        hf_uv_stream_start(st);
        return true;
    }
    switch (errno) {
    case EAGAIN:
        return false;
    case EMFILE:
    case ENFILE:
        return turn_away(l);
    case ENOBUFS:
    case ENOMEM:
        pause_accepting(l);
        return false;
    }
    return true; /* an error of that one connection, which is gone (ECONNABORTED, EPROTO, ...), or EINTR */
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct hf_listener *l = poll->data;

    (void)events;
    if (status < 0) {
        /* The socket itself reports an error; accept clears it. */
        HF_LOG_WARN("uv", "listener error", "error=\"%s\"", uv_strerror(status));
        uv_poll_start(&l->poll, UV_READABLE, on_readable);
    }
    for (int i = 0; i < ACCEPT_MAX && !l->is_closing; i++) {
        if (!accept_one(l))
            break;
    }
}

/* Names are looked up on the spot: this happens at start, and the caller wants to know. */
static int resolve(const char *address, struct sockaddr_storage *out)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *list;
    char host[HF_UV_HOST_MAX];
    uint16_t port;

    if (!hf_uv_address_split(address, host, &port))
        return HF_E_INVALID;
    if (host[0] == '\0' || strcmp(host, "*") == 0)
        memcpy(host, "0.0.0.0", 8);
    if (hf_uv_address_numeric(host, port, out))
        return 0;
    if (getaddrinfo(host, NULL, &hints, &list) != 0)
        return HF_E_INVALID;
    memset(out, 0, sizeof(*out));
    memcpy(out, list->ai_addr, list->ai_addrlen);
    freeaddrinfo(list);
    if (out->ss_family == AF_INET6)
        ((struct sockaddr_in6 *)(void *)out)->sin6_port = htons(port);
    else
        ((struct sockaddr_in *)(void *)out)->sin_port = htons(port);
    return 0;
}

static int open_socket(const struct sockaddr_storage *addr, int *out)
{
    socklen_t len = addr->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    int fd = socket(addr->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int one = 1, rc;

    if (fd < 0)
        return hf_err_from_errno(errno);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)); /* a restart need not wait for old connections */
    if (bind(fd, (const struct sockaddr *)addr, len) == 0 && listen(fd, BACKLOG) == 0) {
        *out = fd;
        return 0;
    }
    rc = hf_err_from_errno(errno);
    close(fd);
    return rc;
}

static int env_listen(struct hf_env *env, const char *address, const struct hf_listener_events *events, void *data,
                      struct hf_listener **out)
{
    struct uv_env *e = hf_uv_env_of(env);
    struct sockaddr_storage addr;
    struct hf_listener *l;
    int fd = -1, rc;

    rc = resolve(address, &addr);
    if (rc == 0)
        rc = open_socket(&addr, &fd);
    if (rc != 0)
        return rc;
    l = hf_calloc(1, sizeof(*l));
    l->e = e;
    l->fd = fd;
    l->events = events;
    l->data = data;
    rc = uv_poll_init_socket(&e->loop, &l->poll, fd);
    if (rc != 0) {
        close(fd);
        hf_free(l);
        return hf_uv_err_to_hf(rc);
    }
    l->reserve_fd = open_reserve();
    l->poll.data = l;
    l->pause.data = l;
    l->pause.cb = on_pause_over;
    uv_poll_start(&l->poll, UV_READABLE, on_readable);
    l->next = e->listeners;
    if (l->next != NULL)
        l->next->prev = l;
    e->listeners = l;
    *out = l;
    return 0;
}

static void on_poll_closed(uv_handle_t *handle)
{
    hf_free(handle->data);
}

static void listener_close(struct hf_env *env, struct hf_listener *l)
{
    env->timer_stop(env, &l->pause);
    if (l->prev != NULL)
        l->prev->next = l->next;
    else
        l->e->listeners = l->next;
    if (l->next != NULL)
        l->next->prev = l->prev;
    l->is_closing = true; /* seen by on_readable when on_accept closes its own listener */
    uv_close((uv_handle_t *)&l->poll, on_poll_closed);
    close(l->fd); /* after uv_close, which took it out of epoll; the address is free again at once */
    if (l->reserve_fd != RESERVE_CLOSED)
        close(l->reserve_fd);
}

uint16_t hf_uv_listener_port(const struct hf_listener *l)
{
    struct sockaddr_storage addr = {0};
    socklen_t len = sizeof(addr);

    if (getsockname(l->fd, (struct sockaddr *)&addr, &len) != 0)
        return 0;
    if (addr.ss_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *)(const void *)&addr)->sin6_port);
    return ntohs(((const struct sockaddr_in *)(const void *)&addr)->sin_port);
}

void hf_uv_listener_init(struct uv_env *e)
{
    e->env.listen = env_listen;
    e->env.listener_close = listener_close;
}
