/* propose.c: the leader's side of a write, between the plan of a command and its place in the log, and the way of
 * every committed entry into the state.
 *
 * A batch is one entry on its walk:
 *
 *   open       commands are being added to it; at the end of the loop turn it goes out, if the window has room
 *   queued     full before its turn came; goes out first
 *   pending    submitted: has an index and a term; waits to be committed
 *   applying   committed: lies in the queue of the state thread
 *
 * Until it is submitted a batch can be refused: it did not happen. A pending one is decided by what is committed at
 * its index: the entry itself (same term and nonce), or another (R21: refused for good). When neither comes in time its
 * clients hear UNKNOWN and it is forgotten. An applying one always ends well; it never times out.
 *
 * Entries that were not proposed here (followers, entries of earlier leaders) take the same last step with a batch
 * that has no requests. Batches and their memory are used again and again. */
#include "propose/propose.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/util.h"
#include "propose/logclock.h"

#include <inttypes.h>

/* No plan is larger; an entry's length is a u32. */
#define COMMAND_BYTES_MAX (UINT64_C(1) << 30)
/* After a submit was put off (leadership is being handed over) or turned down before the role changed. */
#define RETRY_MS 10u
/* After a tick of our own failed. */
#define TICK_RETRY_MS 100u
/* The longest sleep towards a due time: until then the clocks may have been steered. */
#define TICK_SLEEP_MAX_MS 60000u
/* The voters' clocks are asked for their median no more often than this. */
#define OFFSET_AGE_US 100000u
/* Batches kept for use again, and the memory that each may keep. */
#define SPARE_BATCHES_MAX 256u
#define SPARE_BYTES_MAX   (1u << 20)

struct batch {
    struct batch *next, *prev;
    struct hf_proposer *p;
    struct hf_state_entry apply;
    struct hf_entry_writer writer;
    struct hf_log_entry *entry; /* sealed and not submitted yet */
    struct hf_propose_req *commands, **commands_tail;
    struct hf_propose_req *ticks, **ticks_tail; /* want the stamp only */
    uint32_t n_commands;
    size_t bytes;
    uint64_t index, term, nonce;
    int64_t stamp_ms;
    uint64_t submitted_ns, committed_ns;
    bool is_in_window;
};

struct batch_list {
    struct batch *first, *last;
};

struct hf_proposer {
    struct hf_env *env;
    struct hf_proposer_config config;
    struct hf_consensus *consensus;
    struct hf_state *state;
    struct hf_prng prng;

    bool leads, is_stalled, is_paused, is_closed;
    uint64_t term;

    struct batch *open;
    struct batch_list queued, pending, applying;
    struct batch *spare;
    uint32_t n_spare, n_window;
    uint64_t queued_bytes;

    struct hf_logclock clock;
    int64_t offset_ms;
    uint64_t offset_read_us;
    bool is_clock_off;
    int64_t log_time_ms;     /* of what was handed to the state */
    int64_t applied_time_ms; /* of what came back from it */

    int64_t due_ms;
    struct hf_propose_req tick;
    bool is_tick_pending;

    struct hf_task flush_task, resume_task, due_task;
    struct hf_timer unknown_timer, retry_timer, due_timer;

    struct hf_counter *entries_total, *commands_total, *unknown_total, *ticks_total;
    struct hf_histogram *commands_per_entry, *commit_us, *apply_us;
    struct hf_gauge *queue_gauge;
};

/* ---- batches ------------------------------------------------------------------------------------------ */

static void append_batch(struct batch_list *list, struct batch *b)
{
    b->next = NULL;
    b->prev = list->last;
    if (list->last)
        list->last->next = b;
    else
        list->first = b;
    list->last = b;
}

static void prepend_batch(struct batch_list *list, struct batch *b)
{
    b->prev = NULL;
    b->next = list->first;
    if (list->first)
        list->first->prev = b;
    else
        list->last = b;
    list->first = b;
}

static void remove_batch(struct batch_list *list, struct batch *b)
{
    if (b->prev)
        b->prev->next = b->next;
    else
        list->first = b->next;
    if (b->next)
        b->next->prev = b->prev;
    else
        list->last = b->prev;
    b->next = b->prev = NULL;
}

static struct batch *take_batch(struct hf_proposer *p)
{
    struct batch *b = p->spare;

    if (b) {
        p->spare = b->next;
        p->n_spare--;
        b->next = NULL;
    } else {
        b = hf_calloc(1, sizeof *b);
        b->p = p;
    }
    b->commands_tail = &b->commands;
    b->ticks_tail = &b->ticks;
    return b;
}

static void free_batch(struct batch *b)
{
    hf_log_entry_unref(b->entry);
    hf_entry_writer_free(&b->writer);
    hf_apply_result_free(&b->apply.result);
    hf_free(b);
}

static void recycle_batch(struct hf_proposer *p, struct batch *b)
{
    struct hf_entry_writer writer = b->writer;

    HF_ASSERT(b->commands == NULL);
    HF_ASSERT(b->ticks == NULL);
    if (p->n_spare >= SPARE_BATCHES_MAX || p->is_closed) {
        free_batch(b);
        return;
    }
    hf_log_entry_unref(b->entry);
    hf_apply_result_free(&b->apply.result);
    if (writer.buf.cap > SPARE_BYTES_MAX)
        hf_entry_writer_free(&writer);
    memset(b, 0, sizeof *b);
    b->p = p;
    b->writer = writer;
    b->next = p->spare;
    p->spare = b;
    p->n_spare++;
}

static void drop_bytes(struct hf_proposer *p, struct batch *b)
{
    HF_ASSERT(p->queued_bytes >= b->bytes);
    p->queued_bytes -= b->bytes;
    b->bytes = 0;
    hf_gauge_set(p->queue_gauge, (int64_t)p->queued_bytes);
}

/* Tell every request of a batch, which must be out of all lists: callbacks may propose again. */
static void tell_batch(struct hf_proposer *p, struct batch *b, enum hf_fate fate)
{
    struct hf_propose_req *req = b->commands, *tick = b->ticks, *next;
    uint32_t position = 0;

    b->commands = b->ticks = NULL;
    drop_bytes(p, b);
    if (fate == HF_FATE_APPLIED && b->n_commands > 0)
        HF_ASSERT(b->apply.result.n == b->n_commands);
    for (; req; req = next, position++) {
        struct hf_slice reply = {0};

        next = req->next;
        if (fate == HF_FATE_APPLIED)
            reply = hf_apply_result_at(&b->apply.result, position);
        req->cb(req, fate, reply);
    }
    for (; tick; tick = next) {
        next = tick->next;
        tick->cb(tick, fate, hf_slice(NULL, 0));
    }
    if (fate == HF_FATE_UNKNOWN)
        hf_counter_add(p->unknown_total, b->n_commands);
}

static void finish_batch(struct hf_proposer *p, struct batch *b, enum hf_fate fate)
{
    if (b->is_in_window) {
        b->is_in_window = false;
        p->n_window--;
    }
    tell_batch(p, b, fate);
    recycle_batch(p, b);
}

/* Nothing that was not submitted will be: it did not happen. */
static void refuse_waiting(struct hf_proposer *p)
{
    struct batch_list list = p->queued;
    struct batch *open = p->open, *b;

    p->queued.first = p->queued.last = NULL;
    p->open = NULL;
    while ((b = list.first) != NULL) {
        remove_batch(&list, b);
        finish_batch(p, b, HF_FATE_REFUSED);
    }
    if (open)
        finish_batch(p, open, HF_FATE_REFUSED);
}

/* ---- the clock ---------------------------------------------------------------------------------------- */

static uint64_t boot_us(struct hf_proposer *p)
{
    return p->env->boot_ns(p->env) / 1000;
}

static void read_offset(struct hf_proposer *p, uint64_t now_us)
{
    bool is_off;

    p->offset_ms = hf_consensus_clock_offset_ms(p->consensus);
    p->offset_read_us = now_us;
    is_off = hf_logclock_is_off(p->offset_ms);
    if (is_off && !p->is_clock_off)
        HF_LOG_WARN("propose", "this node's wall clock is far from the other members': check its time service",
                    "offset_ms=%" PRId64, p->offset_ms);
    p->is_clock_off = is_off;
}

static int64_t leader_clock_ms(struct hf_proposer *p)
{
    uint64_t now_us = boot_us(p);

    if (now_us - p->offset_read_us >= OFFSET_AGE_US)
        read_offset(p, now_us);
    return hf_logclock_now(&p->clock, p->env->wall_ms(p->env), p->offset_ms, now_us);
}

int64_t hf_propose_clock_ms(struct hf_proposer *p)
{
    return p->leads ? leader_clock_ms(p) : p->applied_time_ms;
}

/* ---- submitting --------------------------------------------------------------------------------------- */

static void arm_unknown(struct hf_proposer *p)
{
    uint64_t now_ms, due_ms;

    if (p->pending.first == NULL || hf_timer_is_active(&p->unknown_timer))
        return;
    now_ms = p->env->boot_ms(p->env);
    due_ms = p->pending.first->submitted_ns / 1000000 + p->config.unknown_timeout_ms + 1;
    p->env->timer_start(p->env, &p->unknown_timer, due_ms > now_ms ? due_ms - now_ms : 0);
}

static void on_unknown_timer(struct hf_timer *timer)
{
    struct hf_proposer *p = timer->data;
    uint64_t now_ns = p->env->boot_ns(p->env);
    struct batch *b;

    while ((b = p->pending.first) != NULL && now_ns - b->submitted_ns >= p->config.unknown_timeout_ms * 1000000) {
        HF_LOG_WARN("propose", "a submitted entry was not committed in time: its outcome is unknown",
                    "index=%" PRIu64 " term=%" PRIu64 " commands=%" PRIu32, b->index, b->term, b->n_commands);
        remove_batch(&p->pending, b);
        finish_batch(p, b, HF_FATE_UNKNOWN);
    }
    arm_unknown(p);
    p->env->post(p->env, &p->flush_task);
}

static struct hf_log_entry *seal_batch(struct hf_proposer *p, struct batch *b)
{
    /* Never 0, which is what a batch without a proposal has. */
    b->nonce = hf_prng_next(&p->prng) | 1;
    b->stamp_ms = leader_clock_ms(p);
    return hf_entry_finish(&b->writer, b->nonce, b->stamp_ms, hf_prng_next(&p->prng));
}

/* The next batch to go, out of its list; NULL when there is none. */
static struct batch *next_batch(struct hf_proposer *p)
{
    struct batch *b = p->queued.first;

    if (b) {
        remove_batch(&p->queued, b);
    } else {
        b = p->open;
        p->open = NULL;
    }
    return b;
}

static void stall(struct hf_proposer *p)
{
    p->is_stalled = true;
    p->env->timer_start(p->env, &p->retry_timer, RETRY_MS);
}

static void submit_batches(struct hf_proposer *p)
{
    struct batch *b;

    while (p->leads && !p->is_stalled && p->n_window < p->config.entries_in_flight && (b = next_batch(p)) != NULL) {
        int rc;

        if (b->entry == NULL)
            b->entry = seal_batch(p, b);
        /* The role may change and entries may be committed inside this call: the batch is in no list now. */
        rc = hf_consensus_submit(p->consensus, b->entry, &b->index, &b->term);
        if (rc == HF_E_AGAIN) {
            prepend_batch(&p->queued, b);
            stall(p);
            if (!p->leads)
                refuse_waiting(p);
            return;
        }
        if (rc < 0) {
            HF_ASSERT(rc == HF_E_NOT_LEADER);
            /* The change of role will be told; until then nothing more is taken. */
            stall(p);
            finish_batch(p, b, HF_FATE_REFUSED);
            refuse_waiting(p);
            return;
        }
        b->entry = NULL;
        b->submitted_ns = p->env->boot_ns(p->env);
        append_batch(&p->pending, b);
        if (p->leads && p->term == b->term) {
            b->is_in_window = true;
            p->n_window++;
        }
        hf_counter_add(p->entries_total, 1);
        hf_counter_add(p->commands_total, b->n_commands);
        hf_histogram_record(p->commands_per_entry, b->n_commands);
        arm_unknown(p);
    }
}

static void on_flush(struct hf_task *task)
{
    submit_batches(task->data);
}

static void on_retry(struct hf_timer *timer)
{
    struct hf_proposer *p = timer->data;

    p->is_stalled = false;
    submit_batches(p);
}

static struct batch *open_batch(struct hf_proposer *p)
{
    if (p->open == NULL) {
        p->open = take_batch(p);
        hf_entry_begin(&p->open->writer);
        p->open->bytes = hf_entry_size(&p->open->writer);
        p->queued_bytes += p->open->bytes;
    }
    p->env->post(p->env, &p->flush_task);
    return p->open;
}

/* A stall because of a transfer is no reason to turn commands away: they wait. One because the core does not lead any
 * more is; the two differ in that the latter left nothing queued. */
static bool takes_commands(const struct hf_proposer *p)
{
    return p->leads && !p->is_closed && (!p->is_stalled || p->queued.first != NULL);
}

int hf_propose(struct hf_proposer *p, struct hf_propose_req *req, const struct hf_plan *plan)
{
    struct hf_slice payload = hf_buf_slice(&plan->payload);
    size_t bytes = payload.len + HF_ENTRY_COMMAND_HEADER_BYTES;
    struct batch *b;

    if (!takes_commands(p))
        return HF_E_NOT_LEADER;
    if (payload.len > COMMAND_BYTES_MAX)
        return HF_E_LIMIT;
    if (p->queued_bytes > 0 && p->queued_bytes + bytes > p->config.queue_bytes_max)
        return HF_E_BUSY;
    b = open_batch(p);
    if (b->n_commands == HF_ENTRY_COMMANDS_MAX ||
        (b->n_commands > 0 && hf_entry_size(&b->writer) + bytes > p->config.entry_bytes_max)) {
        append_batch(&p->queued, b);
        p->open = NULL;
        b = open_batch(p);
    }
    if (!hf_entry_add(&b->writer, plan->op, payload))
        HF_UNREACHABLE();
    req->next = NULL;
    req->bytes = bytes;
    *b->commands_tail = req;
    b->commands_tail = &req->next;
    b->n_commands++;
    b->bytes += bytes;
    p->queued_bytes += bytes;
    hf_gauge_set(p->queue_gauge, (int64_t)p->queued_bytes);
    return 0;
}

int hf_propose_tick(struct hf_proposer *p, struct hf_propose_req *req)
{
    struct batch *b;

    if (!takes_commands(p))
        return HF_E_NOT_LEADER;
    /* Every entry carries a stamp, so a tick rides on whatever goes next and makes no entry larger. */
    b = open_batch(p);
    req->next = NULL;
    req->bytes = 0;
    *b->ticks_tail = req;
    b->ticks_tail = &req->next;
    return 0;
}

uint64_t hf_propose_queued_bytes(const struct hf_proposer *p)
{
    return p->queued_bytes;
}

/* ---- from the log into the state ---------------------------------------------------------------------- */

static void on_applied(struct hf_state_entry *req)
{
    struct batch *b = req->data;
    struct hf_proposer *p = b->p;

    remove_batch(&p->applying, b);
    if (p->is_closed) {
        free_batch(b);
        if (p->applying.first == NULL)
            hf_free(p);
        return;
    }
    if (b->stamp_ms > p->applied_time_ms)
        p->applied_time_ms = b->stamp_ms;
    hf_histogram_record(p->apply_us, (p->env->boot_ns(p->env) - b->committed_ns) / 1000);
    if (p->is_paused)
        p->env->post(p->env, &p->resume_task);
    finish_batch(p, b, HF_FATE_APPLIED);
}

static void on_resume(struct hf_task *task)
{
    struct hf_proposer *p = task->data;

    if (!p->is_paused || hf_state_queued_bytes(p->state) > p->config.state_queue_bytes_max / 2)
        return;
    p->is_paused = false;
    hf_consensus_resume(p->consensus);
}

/* The batch that became entry `e`, out of the pending list; those whose place went to another are told. */
static struct batch *match_pending(struct hf_proposer *p, const struct hf_log_entry *e, uint64_t nonce)
{
    struct batch_list refused = {0}, unknown = {0};
    struct batch *found = NULL, *b, *next;

    for (b = p->pending.first; b; b = next) {
        next = b->next;
        if (b->index > e->index) {
            /* Indexes rise within a term; an older term's leftovers may stand before a newer one's. */
            if (b->term == p->term)
                break;
            continue;
        }
        remove_batch(&p->pending, b);
        if (b->index == e->index && b->term != e->term) {
            append_batch(&refused, b);
        } else if (b->index == e->index && b->nonce == nonce) {
            HF_ASSERT(found == NULL);
            found = b;
        } else {
            /* Its index went by without being delivered (a snapshot replaced the log), or what stands there in our
             * own term is not what we wrote. Neither says whether it happened (R21). */
            HF_LOG_ERROR("propose", "a proposal cannot be found in the log: its outcome is unknown",
                         "index=%" PRIu64 " term=%" PRIu64 " delivered_index=%" PRIu64 " delivered_term=%" PRIu64,
                         b->index, b->term, e->index, e->term);
            append_batch(&unknown, b);
        }
    }
    while ((b = refused.first) != NULL) {
        remove_batch(&refused, b);
        finish_batch(p, b, HF_FATE_REFUSED);
    }
    while ((b = unknown.first) != NULL) {
        remove_batch(&unknown, b);
        finish_batch(p, b, HF_FATE_UNKNOWN);
    }
    return found;
}

bool hf_propose_on_commit(struct hf_proposer *p, struct hf_log_entry *e)
{
    struct hf_entry_header header = {0};
    struct batch *b = NULL;
    bool has_header = e->type == HF_ENTRY_COMMAND && hf_entry_peek(&header, hf_slice(e->data, e->len)) == 0;

    if (p->pending.first)
        b = match_pending(p, e, has_header ? header.nonce : 0);
    if (b == NULL)
        b = take_batch(p);
    if (b->is_in_window) {
        b->is_in_window = false;
        p->n_window--;
    }
    b->committed_ns = p->env->boot_ns(p->env);
    if (b->submitted_ns != 0)
        hf_histogram_record(p->commit_us, (b->committed_ns - b->submitted_ns) / 1000);
    b->stamp_ms = header.stamp_ms;
    if (header.stamp_ms > p->log_time_ms) {
        p->log_time_ms = header.stamp_ms;
        if (p->leads)
            hf_logclock_raise(&p->clock, header.stamp_ms);
    }
    b->apply.data = b;
    b->apply.cb = on_applied;
    b->apply.entry = hf_log_entry_ref(e);
    b->apply.wants_replies = b->n_commands > 0;
    append_batch(&p->applying, b);
    if (p->open || p->queued.first)
        p->env->post(p->env, &p->flush_task);
    hf_state_apply(p->state, &b->apply);
    if (hf_state_queued_bytes(p->state) > p->config.state_queue_bytes_max)
        p->is_paused = true;
    return !p->is_paused;
}

void hf_propose_on_swap(struct hf_proposer *p, int64_t log_time_ms)
{
    if (log_time_ms > p->log_time_ms) {
        p->log_time_ms = log_time_ms;
        if (p->leads)
            hf_logclock_raise(&p->clock, log_time_ms);
    }
    if (log_time_ms > p->applied_time_ms)
        p->applied_time_ms = log_time_ms;
    /* Delivery may have been paused by entries that went to the old database. */
    if (p->is_paused)
        p->env->post(p->env, &p->resume_task);
}

/* ---- ticks -------------------------------------------------------------------------------------------- */

static void check_due(struct hf_proposer *p)
{
    int64_t now_ms;
    uint64_t sleep_ms;

    p->env->timer_stop(p->env, &p->due_timer);
    if (!p->leads || p->due_ms <= 0 || p->is_tick_pending)
        return;
    now_ms = leader_clock_ms(p);
    if (p->due_ms <= now_ms) {
        if (hf_propose_tick(p, &p->tick) < 0) {
            p->env->timer_start(p->env, &p->due_timer, TICK_RETRY_MS);
            return;
        }
        p->is_tick_pending = true;
        hf_counter_add(p->ticks_total, 1);
        return;
    }
    /* The clock may run a tenth faster than the timer. */
    sleep_ms = (uint64_t)(p->due_ms - now_ms);
    sleep_ms = sleep_ms > TICK_SLEEP_MAX_MS ? TICK_SLEEP_MAX_MS : sleep_ms * 10 / 11 + 1;
    p->env->timer_start(p->env, &p->due_timer, sleep_ms);
}

static void on_due_timer(struct hf_timer *timer)
{
    check_due(timer->data);
}

/* After the state had its say: its news of the next due time comes in the same turn as the answer to the tick. */
static void on_due_task(struct hf_task *task)
{
    check_due(task->data);
}

static void on_tick(struct hf_propose_req *req, enum hf_fate fate, struct hf_slice reply)
{
    struct hf_proposer *p = req->data;

    (void)reply;
    p->is_tick_pending = false;
    if (p->is_closed)
        return;
    if (fate == HF_FATE_APPLIED)
        p->env->post(p->env, &p->due_task);
    else if (p->leads)
        p->env->timer_start(p->env, &p->due_timer, TICK_RETRY_MS);
}

void hf_propose_on_next_due(struct hf_proposer *p, int64_t due_ms)
{
    p->due_ms = due_ms;
    p->env->post(p->env, &p->due_task);
}

/* ---- role --------------------------------------------------------------------------------------------- */

void hf_propose_on_role(struct hf_proposer *p, enum hf_role role, uint64_t term)
{
    bool leads = role == HF_ROLE_LEADER;
    bool is_new_reign = leads && (!p->leads || term != p->term);
    bool ends_reign = p->leads && (!leads || term != p->term);

    if (!is_new_reign && !ends_reign) {
        /* Something else changed; a submit that was put off may go now. */
        if (leads && p->is_stalled)
            p->env->timer_start(p->env, &p->retry_timer, 0);
        return;
    }
    p->leads = leads;
    p->term = term;
    p->is_stalled = false;
    p->env->timer_stop(p->env, &p->retry_timer);
    /* The window is a reign's: what an earlier one left behind is decided by the log, or by time. */
    for (struct batch *b = p->pending.first; b; b = b->next)
        b->is_in_window = false;
    p->n_window = 0;
    if (is_new_reign) {
        uint64_t now_us = boot_us(p);

        p->is_clock_off = false;
        read_offset(p, now_us);
        hf_logclock_start(&p->clock, p->log_time_ms, p->env->wall_ms(p->env), p->offset_ms, now_us);
    }
    if (ends_reign)
        refuse_waiting(p);
    p->env->post(p->env, &p->due_task);
}

/* ---- life --------------------------------------------------------------------------------------------- */

int hf_proposer_open(struct hf_env *env, const struct hf_proposer_config *config, struct hf_consensus *consensus,
                     struct hf_state *state, struct hf_stats *stats, int64_t log_time_ms, struct hf_proposer **out)
{
    struct hf_proposer *p;

    if (config->entries_in_flight == 0 || config->entry_bytes_max == 0 || config->unknown_timeout_ms == 0)
        return HF_E_INVALID;
    p = hf_calloc(1, sizeof *p);
    p->env = env;
    p->config = *config;
    p->consensus = consensus;
    p->state = state;
    p->log_time_ms = p->applied_time_ms = log_time_ms;
    hf_prng_seed(&p->prng, config->seed);
    p->tick.data = p;
    p->tick.cb = on_tick;
    p->flush_task.data = p->resume_task.data = p->due_task.data = p;
    p->flush_task.cb = on_flush;
    p->resume_task.cb = on_resume;
    p->due_task.cb = on_due_task;
    p->unknown_timer.data = p->retry_timer.data = p->due_timer.data = p;
    p->unknown_timer.cb = on_unknown_timer;
    p->retry_timer.cb = on_retry;
    p->due_timer.cb = on_due_timer;
    p->entries_total = hf_stats_counter(stats, "propose_entries_total", NULL, "Entries submitted to the log");
    p->commands_total = hf_stats_counter(stats, "propose_commands_total", NULL, "Commands in submitted entries");
    p->ticks_total =
        hf_stats_counter(stats, "propose_ticks_total", NULL, "Entries asked for only because keys were due to expire");
    p->unknown_total =
        hf_stats_counter(stats, "unknown_outcomes_total", NULL, "Commands whose clients were told: outcome unknown");
    p->commands_per_entry =
        hf_stats_histogram(stats, "propose_commands_per_entry", NULL, "Commands packed into one entry");
    p->commit_us =
        hf_stats_histogram(stats, "propose_commit_us", NULL, "From the submission of an entry to its commit");
    p->apply_us = hf_stats_histogram(stats, "propose_apply_us", NULL,
                                     "From the commit of an entry to the state's answers, waiting included");
    p->queue_gauge = hf_stats_gauge(stats, "propose_queue_bytes", NULL,
                                    "Bytes of commands waiting for an entry and of own entries not yet applied");
    *out = p;
    return 0;
}

void hf_proposer_close(struct hf_proposer *p)
{
    struct batch *b;

    if (!p)
        return;
    p->is_closed = true;
    p->env->unpost(p->env, &p->flush_task);
    p->env->unpost(p->env, &p->resume_task);
    p->env->unpost(p->env, &p->due_task);
    p->env->timer_stop(p->env, &p->unknown_timer);
    p->env->timer_stop(p->env, &p->retry_timer);
    p->env->timer_stop(p->env, &p->due_timer);
    p->leads = false;
    while ((b = p->pending.first) != NULL) {
        remove_batch(&p->pending, b);
        finish_batch(p, b, HF_FATE_UNKNOWN);
    }
    refuse_waiting(p);
    while ((b = p->spare) != NULL) {
        p->spare = b->next;
        free_batch(b);
    }
    /* A state that is closed first leaves none of these. Otherwise its callbacks free the rest, later. */
    for (b = p->applying.first; b; b = b->next)
        tell_batch(p, b, HF_FATE_UNKNOWN);
    if (p->applying.first == NULL)
        hf_free(p);
}
