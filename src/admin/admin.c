/* admin.c: see admin.h. Four fixed pages; GET and HEAD only; nothing is read from a request but its path. */
#include "admin/admin.h"

#include "base/mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct hf_admin {
    struct MHD_Daemon *daemon;
    const struct hf_admin_ops *ops;
};

#define TEXT_TYPE    "text/plain; charset=utf-8"
#define METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"
#define JSON_TYPE    "application/json"

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned code, const char *type,
                              const struct hf_buf *body)
{
    struct MHD_Response *r = MHD_create_response_from_buffer(body->len, body->data, MHD_RESPMEM_MUST_COPY);
    enum MHD_Result rc;

    if (!r)
        return MHD_NO;
    MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    if (code == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    rc = MHD_queue_response(connection, code, r);
    MHD_destroy_response(r);
    return rc;
}

static unsigned page(const struct hf_admin *a, const char *url, const char **type, struct hf_buf *body)
{
    *type = TEXT_TYPE;
    if (strcmp(url, "/healthz") == 0) {
        hf_buf_printf(body, "ok\n");
        return MHD_HTTP_OK;
    }
    if (strcmp(url, "/readyz") == 0) {
        if (a->ops->is_ready(a->ops->data, body)) {
            body->len = 0;
            hf_buf_printf(body, "ready\n");
            return MHD_HTTP_OK;
        }
        hf_buf_printf(body, body->len == 0 ? "the node does not answer\n" : "\n");
        return MHD_HTTP_SERVICE_UNAVAILABLE;
    }
    if (strcmp(url, "/metrics") == 0 || strcmp(url, "/status") == 0) {
        bool is_metrics = url[1] == 'm';

        if (is_metrics ? a->ops->metrics(a->ops->data, body) : a->ops->status_json(a->ops->data, body)) {
            *type = is_metrics ? METRICS_TYPE : JSON_TYPE;
            return MHD_HTTP_OK;
        }
        body->len = 0;
        hf_buf_printf(body, "the node does not answer\n");
        return MHD_HTTP_SERVICE_UNAVAILABLE;
    }
    if (strcmp(url, "/") == 0) {
        hf_buf_printf(body, "Holdfast " HF_VERSION "\n/metrics\n/healthz\n/readyz\n/status\n");
        return MHD_HTTP_OK;
    }
    hf_buf_printf(body, "not found\n");
    return MHD_HTTP_NOT_FOUND;
}

static enum MHD_Result on_request(void *data, struct MHD_Connection *connection, const char *url, const char *method,
                                  const char *version, const char *upload, size_t *upload_size, void **state)
{
    struct hf_admin *a = data;
    struct hf_buf body = {0};
    const char *type = TEXT_TYPE;
    enum MHD_Result rc;
    unsigned code;

    (void)version;
    (void)upload;
    if (!*state) { /* headers read; answer when the (ignored) body has arrived */
        *state = a;
        return MHD_YES;
    }
    if (*upload_size > 0) {
        *upload_size = 0;
        return MHD_YES;
    }
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0) {
        hf_buf_printf(&body, "only GET and HEAD\n");
        code = MHD_HTTP_METHOD_NOT_ALLOWED;
    } else {
        code = page(a, url, &type, &body);
    }
    rc = answer(connection, code, type, &body);
    hf_buf_free(&body);
    return rc;
}

static bool resolve(const char *address, struct sockaddr_storage *out, socklen_t *out_len)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found = NULL;
    char host[256];
    const char *colon = strrchr(address, ':');
    size_t n = colon ? (size_t)(colon - address) : 0;

    if (!colon || n >= sizeof host)
        return false;
    memcpy(host, address, n);
    host[n] = 0;
    if (n >= 2 && host[0] == '[' && host[n - 1] == ']') {
        memmove(host, host + 1, n - 2);
        host[n - 2] = 0;
    }
    if (getaddrinfo(*host ? host : NULL, colon + 1, &hints, &found) != 0 || !found)
        return false;
    memcpy(out, found->ai_addr, found->ai_addrlen);
    *out_len = found->ai_addrlen;
    freeaddrinfo(found);
    return true;
}

/* A listening socket of our own: the library does not always tell why it could not make one. */
static int listen_on(const struct sockaddr_storage *where, socklen_t len, int *out)
{
    int fd = socket(where->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1, rc;

    if (fd < 0)
        return hf_err_from_errno(errno);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (const struct sockaddr *)where, len) != 0 || listen(fd, HF_ADMIN_CONNECTIONS_MAX) != 0) {
        rc = hf_err_from_errno(errno);
        close(fd);
        return rc;
    }
    *out = fd;
    return 0;
}

int hf_admin_open(const char *address, const struct hf_admin_ops *ops, struct hf_admin **out, char *why,
                  size_t why_size)
{
    struct sockaddr_storage where;
    socklen_t len = 0;
    struct hf_admin *a;
    int fd = -1, rc;

    memset(&where, 0, sizeof where);
    if (!resolve(address, &where, &len)) {
        snprintf(why, why_size, "cannot understand the HTTP address %.100s: it must be host:port", address);
        return HF_E_INVALID;
    }
    rc = listen_on(&where, len, &fd);
    if (rc < 0) {
        snprintf(why, why_size, "cannot listen for HTTP on %.100s: %s", address, hf_strerror(rc));
        return rc;
    }
    a = hf_calloc(1, sizeof *a);
    a->ops = ops;
    a->daemon =
        MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_AUTO, 0, NULL, NULL, on_request, a,
                         MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, (unsigned)HF_ADMIN_CONNECTIONS_MAX,
                         MHD_OPTION_CONNECTION_TIMEOUT, 10u, MHD_OPTION_END);
    if (!a->daemon) {
        snprintf(why, why_size, "cannot start the HTTP server on %.100s", address);
        close(fd);
        hf_free(a);
        return HF_E_SYS;
    }
    *out = a;
    return 0;
}

void hf_admin_close(struct hf_admin *a)
{
    if (!a)
        return;
    MHD_stop_daemon(a->daemon);
    hf_free(a);
}
