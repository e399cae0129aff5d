/* fixture.c: see fixture.h. */
#include "fixture.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/util.h"

#include <stdio.h>
#include <stdlib.h>

static const struct hf_resp_limits limits = {
    .bulk_bytes_max = 1 << 20, .query_bytes_max = 2 << 20, .args_max = 64, .inline_bytes_max = 1024};

struct test_env te;
struct hf_stats *stats;
struct hf_consensus consensus;
struct hf_state state;
struct hf_proposer *proposer;
struct hf_proxy *proxy, *other; /* ours; that of the node at the far end of the links */
struct hf_dispatcher *d;
/* to2: dialed by us to node 2; at2: its other end. from2: the accepted end of a link that node 2 dialed; by2: its end.
 */
struct hf_link to2, at2, from2, by2;

/* ---- requests ----------------------------------------------------------------------------------------- */

uint64_t next_order;
uint32_t n_released, n_ready;

static void on_done(struct hf_dispatch_req *req)
{
    struct request *r = (struct request *)(void *)req;
    struct hf_slice flat = hf_buf_slice(&req->reply.buf);

    ck_assert(hf_reply_is_valid(flat));
    r->calls++;
    r->order = ++next_order;
    snprintf(r->reply, sizeof r->reply, "%.*s", (int)(flat.len > 5 ? flat.len - 5 : 0), (const char *)flat.ptr + 5);
    hf_reply_free(&req->reply);
}

struct request *submit(struct hf_lane *lane, const char *line)
{
    struct request *r = hf_calloc(1, sizeof *r);
    struct hf_reply error = {0};
    char copy[100], *save = NULL;
    uint32_t n = 0;

    snprintf(copy, sizeof copy, "%s", line);
    for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save), n++) {
        snprintf(r->text[n], sizeof r->text[n], "%s", w);
        r->words[n] = hf_slice_str(r->text[n]);
    }
    r->req.args.at = r->words;
    r->req.args.n = n;
    r->req.command = hf_command_resolve(&r->req.args, &error);
    ck_assert_msg(r->req.command != NULL, "%s", line);
    r->req.cb = on_done;
    hf_lane_submit(lane, &r->req);
    return r;
}

void release(struct hf_dispatch_req *req)
{
    n_released++;
    hf_free(req);
}

void on_ready(void *data)
{
    (void)data;
    n_ready++;
}

/* ---- the other node ----------------------------------------------------------------------------------- */

struct arrived arrived[4096];
uint32_t n_arrived, n_remote_ends;

static void *on_remote_open(void *data, struct hf_proxy_remote *remote)
{
    (void)data;
    return remote;
}

static void on_remote_command(void *remote, uint64_t sequence, uint64_t term, const struct hf_args *args)
{
    struct arrived *a = &arrived[n_arrived++];
    size_t at = 0;

    memset(a, 0, sizeof *a);
    a->remote = remote;
    a->sequence = sequence;
    a->term = term;
    for (uint32_t i = 0; i < args->n; i++)
        at += (size_t)snprintf(a->text + at, sizeof a->text - at, "%s%.*s", i ? " " : "", (int)args->at[i].len,
                               (const char *)args->at[i].ptr);
}

static void on_remote_close(void *remote)
{
    (void)remote;
    n_remote_ends++;
}

static const struct hf_proxy_handler other_handler = {
    .open = on_remote_open, .command = on_remote_command, .close = on_remote_close};

void answer(uint32_t i)
{
    struct hf_reply reply = {0};

    hf_reply_status(&reply, arrived[i].text);
    hf_proxy_answer(arrived[i].remote, arrived[i].sequence, hf_buf_slice(&reply.buf));
    hf_reply_free(&reply);
    arrived[i].is_answered = true;
}

void refuse(uint32_t i)
{
    hf_proxy_refuse(arrived[i].remote, arrived[i].sequence);
    arrived[i].is_answered = true;
}

static void carry_one_way(struct hf_proxy *p, struct hf_link *l)
{
    struct test_message *m;

    while ((m = test_link_take(l)) != NULL) {
        hf_proxy_on_message(p, l, m->type, hf_slice(m->bytes, m->len));
        hf_free(m);
    }
}

void carry(void)
{
    for (int i = 0; i < 3; i++) {
        test_env_turn(&te);
        carry_one_way(other, &at2);
        carry_one_way(other, &by2);
        test_env_turn(&te);
        carry_one_way(proxy, &to2);
        carry_one_way(proxy, &from2);
    }
    test_env_turn(&te);
}

/* ---- the whole ---------------------------------------------------------------------------------------- */

static bool on_commit(void *data, struct hf_log_entry *e)
{
    (void)data;
    return hf_propose_on_commit(proposer, e);
}

struct hf_node_status *last_status;

static const struct hf_node_status *give_status(void *data)
{
    (void)data;
    last_status = hf_calloc(1, sizeof *last_status);
    return last_status;
}

void role(enum hf_role r, uint64_t term, uint64_t leader)
{
    consensus.role = r;
    consensus.term = term;
    consensus.leader = leader;
    if (r != HF_ROLE_LEADER)
        test_consensus_answer_gates(&consensus, HF_E_NOT_LEADER);
    hf_dispatcher_on_role(d); /* before the proposer knows: the order must not matter */
    hf_propose_on_role(proposer, r, term);
    test_env_turn(&te);
}

const struct hf_operator_ops *begin_ops;

void begin_with(uint64_t queue_bytes_max, uint32_t lane_queue_max)
{
    struct hf_proposer_config pc = {.entry_bytes_max = 4096,
                                    .entries_in_flight = 4,
                                    .queue_bytes_max = queue_bytes_max,
                                    .unknown_timeout_ms = 3000,
                                    .state_queue_bytes_max = 1 << 20,
                                    .seed = 7};
    struct hf_dispatch_config dc = {.no_leader_timeout_ms = 1000,
                                    .lane_queue_max = lane_queue_max,
                                    .overload_bytes = queue_bytes_max,
                                    .operator_ops = begin_ops};

    test_env_init(&te);
    test_consensus_init(&consensus, &te);
    test_state_init(&state);
    stats = hf_stats_new();
    next_order = 0;
    n_released = n_ready = n_arrived = n_remote_ends = 0;
    consensus.on_commit = on_commit;
    ck_assert_int_eq(hf_proposer_open(&te.env, &pc, &consensus, &state, stats, 0, &proposer), 0);
    ck_assert_int_eq(hf_proxy_open(&te.env, &limits, stats, &proxy), 0);
    ck_assert_int_eq(hf_proxy_open(&te.env, &limits, stats, &other), 0);
    ck_assert_int_eq(
        hf_dispatcher_open(&te.env, &dc, &consensus, proposer, &state, proxy, give_status, NULL, stats, &d), 0);
    hf_proxy_set_handler(other, &other_handler);
    test_link_pair(&to2, 1, &at2, 2);
    test_link_pair(&from2, 1, &by2, 2);
    hf_proxy_on_link_up(proxy, &to2);
    hf_proxy_on_link_up(proxy, &from2);
    hf_proxy_on_link_up(other, &at2);
    hf_proxy_on_link_up(other, &by2);
    consensus.links[2] = &to2;
}

void begin(void)
{
    begin_with(1 << 20, 1000);
}

/* The order of a node's shutdown. */
void finish(void)
{
    test_consensus_answer_gates(&consensus, HF_E_NOT_LEADER);
    test_state_apply(&state, UINT32_MAX);
    test_state_answer_reads(&state);
    hf_proposer_close(proposer);
    hf_proxy_close(proxy);
    hf_dispatcher_close(d);
    hf_proxy_close(other);
    test_link_free(&to2);
    test_link_free(&at2);
    test_link_free(&from2);
    test_link_free(&by2);
    test_consensus_free(&consensus);
    hf_stats_free(stats);
    test_env_free(&te);
}

void commit_all(void)
{
    test_env_turn(&te);
    test_consensus_commit(&consensus, consensus.last_index);
    test_state_apply(&state, UINT32_MAX);
    test_env_turn(&te);
}

/* Everything that a leader can do for what waits, until nothing moves. */
void settle(void)
{
    for (int i = 0; i < 50; i++) {
        commit_all();
        test_consensus_answer_gates(&consensus, 0);
        test_state_answer_reads(&state);
        carry();
    }
}

void check_done(struct request *r, const char *reply)
{
    ck_assert_int_eq(r->calls, 1);
    ck_assert_str_eq(r->reply, reply);
    hf_free(r);
}

void check_prefix(struct request *r, const char *prefix)
{
    ck_assert_int_eq(r->calls, 1);
    ck_assert_msg(strncmp(r->reply, prefix, strlen(prefix)) == 0, "%s", r->reply);
    hf_free(r);
}
