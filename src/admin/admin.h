/* admin.h: the HTTP side of a node: /metrics (Prometheus text), /healthz, /readyz, /status (JSON). Serves on threads of
 * its own (libmicrohttpd); the functions in ops are called on those threads and must be safe there: main hands them
 * over to the loop thread and waits. */
#ifndef HF_ADMIN_ADMIN_H
#define HF_ADMIN_ADMIN_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>

struct hf_admin;

struct hf_admin_ops {
    void *data;
    /* Each fills out and returns true, or returns false when the node does not answer in time. */
    bool (*metrics)(void *data, struct hf_buf *out);
    bool (*status_json)(void *data, struct hf_buf *out);
    /* True when the node serves; else a reason in out. */
    bool (*is_ready)(void *data, struct hf_buf *out);
};

#define HF_ADMIN_CONNECTIONS_MAX 64

/* address "host:port". ops is borrowed. Errors come with `why`. */
HF_MUST_CHECK int hf_admin_open(const char *address, const struct hf_admin_ops *ops, struct hf_admin **out, char *why,
                                size_t why_size);
/* Waits for requests under way. */
void hf_admin_close(struct hf_admin *a);

#endif
