/* remote.c: clients of other nodes. Each has a lane here like any other; its commands arrive over the proxy, are
 * copied (their stream's buffer goes on), and are never forwarded again: a command that is not for this node in this
 * term goes back as refused, which means that it did not happen. */
#include "base/assert.h"
#include "base/mem.h"
#include "dispatch/internal.h"

/* Bytes of other nodes' commands held here at most; beyond it they are answered with OVERLOADED. The window of
 * each stream keeps well-behaved nodes far below it. */
#define REMOTE_BYTES_MAX (UINT64_C(512) << 20)

struct remote_req {
    struct hf_dispatch_req req; /* first: the lane releases the block by it */
    uint64_t sequence;
    size_t bytes;
    struct hf_slice words[];
};

static void free_remote_req(struct hf_dispatch_req *req)
{
    struct remote_req *r = HF_CONTAINER_OF(req, struct remote_req, req);

    HF_ASSERT(req->lane->d->remote_bytes >= r->bytes);
    req->lane->d->remote_bytes -= r->bytes;
    hf_reply_free(&req->reply);
    hf_free(r);
}

void hf_dispatch_answer_remote(struct hf_dispatch_req *req)
{
    struct remote_req *r = HF_CONTAINER_OF(req, struct remote_req, req);

    if (req->outcome == OUTCOME_REFUSED)
        hf_proxy_refuse(req->lane->remote, r->sequence);
    else
        hf_proxy_answer(req->lane->remote, r->sequence, hf_buf_slice(&req->reply.buf));
    free_remote_req(req);
}

static void *open_remote(void *data, struct hf_proxy_remote *remote)
{
    struct hf_lane *lane = hf_lane_open(data);

    lane->is_remote = true;
    lane->remote = remote;
    return lane;
}

static void answer_error(struct hf_lane *lane, uint64_t sequence, const char *text)
{
    struct hf_reply reply = {0};

    hf_reply_error(&reply, text);
    hf_proxy_answer(lane->remote, sequence, hf_buf_slice(&reply.buf));
    hf_reply_free(&reply);
}

/* What other nodes themselves submit. Clients cannot: their own node does not know the name. */
static const struct hf_command *resolve_internal(const struct hf_args *args)
{
    const struct hf_command *command = hf_command_internal(args->at[0]);

    return command && args->n == (uint32_t)command->arity ? command : NULL;
}

static void take_command(void *state, uint64_t sequence, uint64_t term, const struct hf_args *args)
{
    struct hf_lane *lane = state;
    struct hf_dispatcher *d = lane->d;
    struct hf_reply error = {0};
    const struct hf_command *command;
    size_t bytes = sizeof(struct remote_req) + args->n * sizeof(struct hf_slice);
    struct remote_req *r;
    uint8_t *at;

    /* Also when it is not for us to run: resolving says the same everywhere, unless the releases differ. */
    command = hf_command_resolve(args, &error);
    if (command == NULL)
        command = resolve_internal(args);
    if (command == NULL) {
        hf_proxy_answer(lane->remote, sequence, hf_buf_slice(&error.buf));
        hf_reply_free(&error);
        return;
    }
    hf_reply_free(&error);
    if (!(command->flags & (HF_CMD_WRITE | HF_CMD_READ)) || (command->flags & HF_CMD_NOGATE)) {
        answer_error(lane, sequence, "ERR the command belongs to the node that its client is connected to");
        return;
    }
    for (uint32_t i = 0; i < args->n; i++)
        bytes += args->at[i].len;
    if (d->remote_bytes > 0 && d->remote_bytes + bytes > REMOTE_BYTES_MAX) {
        hf_counter_add(d->overloaded_total, 1);
        answer_error(lane, sequence,
                     "OVERLOADED Too many commands wait at the leader; the command was not executed; retry later");
        return;
    }
    r = hf_malloc(bytes);
    memset(r, 0, sizeof *r);
    r->sequence = sequence;
    r->bytes = bytes;
    at = (uint8_t *)(r->words + args->n);
    for (uint32_t i = 0; i < args->n; i++) {
        if (args->at[i].len > 0)
            memcpy(at, args->at[i].ptr, args->at[i].len);
        r->words[i] = hf_slice(at, args->at[i].len);
        at += args->at[i].len;
    }
    r->req.command = command;
    r->req.args.at = r->words;
    r->req.args.n = args->n;
    r->req.term = term;
    d->remote_bytes += bytes;
    hf_lane_submit(lane, &r->req);
}

static void close_remote(void *state)
{
    struct hf_lane *lane = state;

    lane->remote = NULL;
    hf_lane_close(lane, free_remote_req);
}

void hf_dispatch_serve_remotes(struct hf_dispatcher *d)
{
    struct hf_proxy_handler handler = {.data = d, .open = open_remote, .command = take_command, .close = close_remote};

    hf_proxy_set_handler(d->proxy, &handler);
}
