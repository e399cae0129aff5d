/* dispatch.c: lanes, and the run that moves them; see internal.h for the files of this folder.
 *
 * A lane's commands wait in order. The first one starts when nothing of the lane is in flight, or only its like with
 * the same destination; then the next one looks. A lane whose first command can't start for a reason outside the
 * lane joins the list of that reason: no leader, no way to it, no room. Each list is woken by what may end its reason,
 * and all of them by a change of role and every POLL_MS (a link that opened or drained tells nobody).
 *
 * A command that comes back because it did not happen (refused by another node, a gate that failed, a batch that was
 * never submitted) returns to its place by its number, before all that never started. */
#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "dispatch/internal.h"

#include <inttypes.h>

#define POLL_MS 10u

/* ---- lists -------------------------------------------------------------------------------------------- */

void hf_dispatch_push(struct req_list *list, struct hf_dispatch_req *req)
{
    req->next = NULL;
    if (list->last)
        list->last->next = req;
    else
        list->first = req;
    list->last = req;
}

struct hf_dispatch_req *hf_dispatch_pop(struct req_list *list)
{
    struct hf_dispatch_req *req = list->first;

    if (req) {
        list->first = req->next;
        if (list->first == NULL)
            list->last = NULL;
        req->next = NULL;
    }
    return req;
}

static void remove_lane(struct hf_lane *lane)
{
    struct lane_list *list = lane->list;

    if (list == NULL)
        return;
    if (lane->prev)
        lane->prev->next = lane->next;
    else
        list->first = lane->next;
    if (lane->next)
        lane->next->prev = lane->prev;
    else
        list->last = lane->prev;
    lane->next = lane->prev = NULL;
    lane->list = NULL;
    list->n--;
}

static void append_lane(struct lane_list *list, struct hf_lane *lane)
{
    HF_ASSERT(lane->list == NULL);
    lane->list = list;
    lane->next = NULL;
    lane->prev = list->last;
    if (list->last)
        list->last->next = lane;
    else
        list->first = lane;
    list->last = lane;
    list->n++;
}

void hf_dispatch_ask_run(struct hf_dispatcher *d)
{
    if (!d->is_closed)
        d->env->post(d->env, &d->run_task);
}

static void make_ready(struct hf_lane *lane)
{
    if (lane->list == NULL)
        append_lane(&lane->d->ready, lane);
    hf_dispatch_ask_run(lane->d);
}

/* ---- the end of a command ----------------------------------------------------------------------------- */

void hf_dispatch_landed(struct hf_dispatch_req *req)
{
    struct hf_lane *lane = req->lane;

    HF_ASSERT(lane->n_in_flight > 0);
    lane->n_in_flight--;
    lane->d->n_in_flight--;
    if (lane->n_in_flight == 0) {
        lane->kind = KIND_NONE;
        if (lane->waiting.first)
            make_ready(lane);
    }
}

void hf_dispatch_finish(struct hf_dispatch_req *req, int outcome)
{
    req->state = REQ_DONE;
    req->outcome = outcome;
    hf_dispatch_push(&req->lane->d->done, req);
    hf_dispatch_ask_run(req->lane->d);
}

void hf_dispatch_finish_error(struct hf_dispatch_req *req, int outcome, const char *text)
{
    req->reply.buf.len = 0;
    hf_reply_error(&req->reply, text);
    hf_dispatch_finish(req, outcome);
}

void hf_dispatch_return(struct hf_dispatch_req *req)
{
    struct hf_lane *lane = req->lane;
    struct hf_dispatch_req **at = &lane->waiting.first;

    if (lane->is_remote) {
        if (req->term > lane->refused_term)
            lane->refused_term = req->term;
        hf_dispatch_finish(req, OUTCOME_REFUSED);
        return;
    }
    if (lane->is_closed) {
        hf_dispatch_finish(req, OUTCOME_REJECTED);
        return;
    }
    req->state = REQ_WAITING;
    /* They come back in order nearly always: the next one belongs right behind the one before. */
    if (lane->returned && lane->returned->seq < req->seq)
        at = &lane->returned->next;
    while (*at && (*at)->seq < req->seq)
        at = &(*at)->next;
    req->next = *at;
    *at = req;
    if (req->next == NULL)
        lane->waiting.last = req;
    lane->returned = req;
    if (lane->n_in_flight == 0)
        make_ready(lane);
}

static struct hf_command_stats *figures_of(struct hf_dispatcher *d, const struct hf_command *command)
{
    struct hf_command_stats *f;

    if (command->id >= d->n_figures)
        return NULL;
    f = &d->figures[command->id];
    if (f->calls == NULL)
        *f = hf_command_stats(d->stats, command->id);
    return f;
}

/* Only at the node that the client is connected to, so that the sum over the nodes is right. */
static void count_command(struct hf_dispatcher *d, const struct hf_dispatch_req *req, uint64_t now_ns)
{
    struct hf_command_stats *f = figures_of(d, req->command);

    if (f == NULL)
        return;
    if (req->outcome == OUTCOME_REJECTED) {
        hf_counter_add(f->rejected, 1);
        return;
    }
    hf_counter_add(f->calls, 1);
    if (hf_reply_first_tag(hf_buf_slice(&req->reply.buf)) == HF_REPLY_ERROR)
        hf_counter_add(f->failed, 1);
    hf_histogram_record(f->duration_us, (now_ns - req->started_ns) / 1000);
}

static void hand_out(struct hf_dispatcher *d)
{
    uint64_t now_ns = d->env->boot_ns(d->env);
    struct hf_dispatch_req *req;

    while ((req = hf_dispatch_pop(&d->done)) != NULL) {
        struct hf_lane *lane = req->lane;

        HF_ASSERT(lane->n > 0);
        lane->n--;
        if (lane->is_full || lane->is_closed)
            make_ready(lane);
        if (!lane->is_remote)
            count_command(d, req, now_ns);
        if (lane->is_closed) {
            hf_reply_free(&req->reply);
            if (lane->release)
                lane->release(req);
            else
                hf_free(req);
        } else if (lane->is_remote) {
            hf_dispatch_answer_remote(req);
        } else {
            req->cb(req);
        }
    }
}

/* ---- the run ------------------------------------------------------------------------------------------ */

static void free_lane(struct hf_lane *lane)
{
    struct hf_dispatcher *d = lane->d;

    if (lane->forwarded_to && !d->is_closed) {
        struct hf_link *link = hf_consensus_proxy_link(d->consensus, lane->forwarded_to);

        if (link)
            hf_proxy_end(d->proxy, link, lane->id);
    }
    remove_lane(lane);
    if (lane->all_prev)
        lane->all_prev->all_next = lane->all_next;
    else
        d->lanes = lane->all_next;
    if (lane->all_next)
        lane->all_next->all_prev = lane->all_prev;
    d->n_lanes--;
    hf_gauge_set(d->lanes_gauge, d->n_lanes);
    hf_free(lane);
}

static uint64_t deadline_of(const struct hf_dispatcher *d, const struct hf_dispatch_req *req)
{
    return req->started_ns + d->config.no_leader_timeout_ms * 1000000;
}

/* True: the first command waited too long for a leader. It is out of the queue before its error is written, so that
 * nothing can start it any more. Those of remote clients are refused when the role changes; their own node
 * counts the time. */
static bool give_up_first(struct hf_dispatcher *d, struct hf_lane *lane)
{
    struct hf_dispatch_req *req = lane->waiting.first;

    if (lane->is_remote || d->env->boot_ns(d->env) < deadline_of(d, req))
        return false;
    hf_dispatch_pop(&lane->waiting);
    if (lane->returned == req)
        lane->returned = NULL;
    hf_counter_add(d->no_leader_total, 1);
    hf_dispatch_finish_error(req, OUTCOME_REJECTED,
                             "NOLEADER No leader could be reached within the time limit; the command was not "
                             "executed; retry later");
    return true;
}

/* Start what can be started; returns where the lane waits now. */
static enum hf_wait start_waiting(struct hf_dispatcher *d, struct hf_lane *lane)
{
    struct hf_dispatch_req *req;

    while ((req = lane->waiting.first) != NULL) {
        enum hf_wait wait = hf_dispatch_start(d, lane, req);

        if (wait == WAIT_NOTHING)
            continue;
        if ((wait == WAIT_LEADER || wait == WAIT_LINK) && give_up_first(d, lane))
            continue;
        return wait;
    }
    return WAIT_NOTHING;
}

static void note_deadline(struct hf_dispatcher *d, const struct hf_lane *lane)
{
    uint64_t deadline_ns = deadline_of(d, lane->waiting.first);

    if (!lane->is_remote && deadline_ns < d->deadline_ns)
        d->deadline_ns = deadline_ns;
}

/* Returns what the lane waits for. The lane may be gone afterwards. */
static enum hf_wait move_lane(struct hf_dispatcher *d, struct hf_lane *lane)
{
    enum hf_wait wait;

    remove_lane(lane);
    if (lane->is_closed && lane->n == 0) {
        free_lane(lane);
        return WAIT_NOTHING;
    }
    wait = start_waiting(d, lane);
    switch (wait) {
    case WAIT_NOTHING:
    case WAIT_LANE:
        break;
    case WAIT_LEADER:
        append_lane(&d->wait_leader, lane);
        note_deadline(d, lane);
        break;
    case WAIT_LINK:
        append_lane(&d->wait_link, lane);
        note_deadline(d, lane);
        break;
    case WAIT_ROOM:
        append_lane(&d->wait_room, lane);
        lane->is_full = true;
        break;
    }
    if (lane->is_full && wait != WAIT_ROOM && lane->n <= d->config.lane_queue_max / 2) {
        lane->is_full = false;
        /* Last, because it may submit, or close the lane (which then is freed in a later round of the run). */
        if (!lane->is_closed && lane->on_ready)
            lane->on_ready(lane->ready_data);
    }
    return wait;
}

/* Unless all of them are to look: stop at the first that still has to wait for the same, as the others would. It went
 * to the end of the list, so that the next turn is another's. */
static void wake(struct hf_dispatcher *d, struct lane_list *list, enum hf_wait reason, bool all)
{
    for (uint32_t n = list->n; n > 0 && list->first; n--)
        if (move_lane(d, list->first) == reason && !all)
            break;
}

static void on_run(struct hf_task *task)
{
    struct hf_dispatcher *d = task->data;

    do {
        bool all = d->wakes_all, link = d->wakes_link, room = d->wakes_room;
        struct hf_lane *lane;

        d->wakes_all = d->wakes_link = d->wakes_room = false;
        if (all) {
            d->deadline_ns = UINT64_MAX;
            hf_dispatch_watch_former(d);
            wake(d, &d->wait_leader, WAIT_LEADER, true);
        }
        if (all || link)
            wake(d, &d->wait_link, WAIT_LINK, all);
        if (all || room) {
            d->is_waking_room = true;
            wake(d, &d->wait_room, WAIT_ROOM, all);
            d->is_waking_room = false;
        }
        while ((lane = d->ready.first) != NULL)
            move_lane(d, lane);
        hf_dispatch_open_gate(d);
        hand_out(d);
    } while (d->ready.first || d->wakes_all);
    if ((d->wait_leader.first || d->wait_link.first || d->wait_room.first) && !hf_timer_is_active(&d->poll_timer))
        d->env->timer_start(d->env, &d->poll_timer, POLL_MS);
}

static void on_poll(struct hf_timer *timer)
{
    struct hf_dispatcher *d = timer->data;
    bool has_leader = hf_consensus_leader(d->consensus) != 0;

    d->wakes_link = d->wakes_room = true;
    if ((d->wait_leader.first && has_leader) || d->env->boot_ns(d->env) >= d->deadline_ns)
        d->wakes_all = true;
    on_run(&d->run_task);
}

static void on_former(struct hf_timer *timer)
{
    hf_dispatch_watch_former(timer->data);
}

/* ---- lanes -------------------------------------------------------------------------------------------- */

struct hf_lane *hf_lane_open(struct hf_dispatcher *d)
{
    struct hf_lane *lane = hf_calloc(1, sizeof *lane);

    lane->d = d;
    lane->id = ++d->next_lane_id;
    lane->all_next = d->lanes;
    if (d->lanes)
        d->lanes->all_prev = lane;
    d->lanes = lane;
    d->n_lanes++;
    hf_gauge_set(d->lanes_gauge, d->n_lanes);
    return lane;
}

void hf_lane_close(struct hf_lane *lane, void (*release)(struct hf_dispatch_req *req))
{
    struct hf_dispatch_req *req;

    HF_ASSERT(!lane->is_closed);
    lane->is_closed = true;
    lane->release = release;
    lane->returned = NULL;
    while ((req = hf_dispatch_pop(&lane->waiting)) != NULL)
        hf_dispatch_finish(req, OUTCOME_REJECTED);
    remove_lane(lane);
    make_ready(lane);
}

void hf_lane_submit(struct hf_lane *lane, struct hf_dispatch_req *req)
{
    struct hf_dispatcher *d = lane->d;

    HF_ASSERT(!lane->is_closed);
    HF_ASSERT(req->command != NULL);
    HF_ASSERT(req->command->flags & (HF_CMD_WRITE | HF_CMD_READ | HF_CMD_OPERATE));
    memset(&req->reply, 0, sizeof req->reply);
    req->lane = lane;
    req->seq = ++lane->seq;
    req->started_ns = d->env->boot_ns(d->env);
    req->state = REQ_WAITING;
    hf_dispatch_push(&lane->waiting, req);
    lane->n++;
    if (lane->n >= d->config.lane_queue_max)
        lane->is_full = true;
    /* In a list of those that wait it stays there: the commands before this one decide. */
    make_ready(lane);
}

bool hf_lane_is_full(const struct hf_lane *lane)
{
    return lane->is_full;
}

void hf_lane_set_ready_cb(struct hf_lane *lane, void (*on_ready)(void *data), void *data)
{
    lane->on_ready = on_ready;
    lane->ready_data = data;
}

/* ---- life --------------------------------------------------------------------------------------------- */

int hf_dispatcher_open(struct hf_env *env, const struct hf_dispatch_config *config, struct hf_consensus *consensus,
                       struct hf_proposer *proposer, struct hf_state *state, struct hf_proxy *proxy,
                       const struct hf_node_status *(*status)(void *data), void *status_data, struct hf_stats *stats,
                       struct hf_dispatcher **out)
{
    struct hf_dispatcher *d;

    if (config->lane_queue_max == 0 || config->no_leader_timeout_ms == 0)
        return HF_E_INVALID;
    hf_command_table_init();
    d = hf_calloc(1, sizeof *d);
    d->env = env;
    d->config = *config;
    d->consensus = consensus;
    d->proposer = proposer;
    d->state = state;
    d->proxy = proxy;
    d->status = status;
    d->status_data = status_data;
    d->stats = stats;
    d->deadline_ns = UINT64_MAX;
    hf_prng_seed(&d->prng, env->boot_ns(env));
    d->n_figures = hf_command_count();
    d->figures = hf_calloc(d->n_figures, sizeof *d->figures);
    d->run_task.data = d->poll_timer.data = d->former_timer.data = d;
    d->run_task.cb = on_run;
    d->poll_timer.cb = on_poll;
    d->former_timer.cb = on_former;
    d->no_leader_total =
        hf_stats_counter(stats, "dispatch_no_leader_total", NULL, "Commands given up because no leader was reached");
    d->overloaded_total = hf_stats_counter(stats, "dispatch_overloaded_total", NULL,
                                           "Commands of other nodes' clients turned away because too many wait here");
    d->lanes_gauge = hf_stats_gauge(stats, "dispatch_lanes", NULL, "Clients of this and of other nodes served here");
    hf_dispatch_serve_remotes(d);
    *out = d;
    return 0;
}

void hf_dispatcher_stop(struct hf_dispatcher *d)
{
    d->is_stopped = true;
}

void hf_dispatcher_close(struct hf_dispatcher *d)
{
    struct gate_batch *gate;

    if (!d)
        return;
    d->is_closed = true;
    d->env->unpost(d->env, &d->run_task);
    d->env->timer_stop(d->env, &d->poll_timer);
    d->env->timer_stop(d->env, &d->former_timer);
    for (struct hf_lane *lane = d->lanes; lane; lane = lane->all_next) {
        struct hf_dispatch_req *req;

        lane->returned = NULL;
        while ((req = hf_dispatch_pop(&lane->waiting)) != NULL)
            hf_dispatch_finish_error(req, OUTCOME_REJECTED,
                                     "NOLEADER This node is shutting down; the command was not executed; retry at "
                                     "another node");
    }
    hand_out(d);
    if (d->n_in_flight > 0) {
        /* Someone below still holds commands of ours: better to leak than to have the answer write into freed memory.
         */
        HF_LOG_ERROR("dispatch", "closed while commands were in flight", "commands=%" PRIu64, d->n_in_flight);
        return;
    }
    while (d->lanes)
        free_lane(d->lanes);
    while ((gate = d->spare_gates) != NULL) {
        d->spare_gates = gate->next;
        hf_free(gate);
    }
    hf_plan_free(&d->plan);
    hf_free(d->refuse_text);
    hf_free(d->figures);
    hf_free(d);
}

void hf_dispatcher_on_role(struct hf_dispatcher *d)
{
    /* In the run, because the proposer may hear of the role after us. */
    d->wakes_all = true;
    hf_dispatch_ask_run(d);
}

void hf_dispatcher_refuse_writes(struct hf_dispatcher *d, const char *error_text)
{
    hf_free(d->refuse_text);
    d->refuse_text = error_text ? hf_strdup(error_text) : NULL;
}
