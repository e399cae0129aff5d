/* doubles.c: see doubles.h. */
#include "doubles.h"

#include "base/assert.h"
#include "base/mem.h"
#include "resp/reply.h"

#include <stdio.h>

/* ---- environment -------------------------------------------------------------------------------------- */

static struct test_env *env_of(struct hf_env *env)
{
    return HF_CONTAINER_OF(env, struct test_env, env);
}

static uint64_t boot_ms(struct hf_env *env)
{
    return env_of(env)->boot_ns / 1000000;
}

static uint64_t boot_ns(struct hf_env *env)
{
    return env_of(env)->boot_ns;
}

static int64_t wall_ms(struct hf_env *env)
{
    return env_of(env)->wall_ms;
}

static void timer_start(struct hf_env *env, struct hf_timer *timer, uint64_t delay_ms)
{
    hf_timer_heap_insert(&env_of(env)->timers, timer, boot_ms(env) + delay_ms);
}

static void timer_stop(struct hf_env *env, struct hf_timer *timer)
{
    hf_timer_heap_remove(&env_of(env)->timers, timer);
}

static void post(struct hf_env *env, struct hf_task *task)
{
    struct test_env *te = env_of(env);

    if (task->posted)
        return;
    task->posted = true;
    task->next = NULL;
    *te->tasks_tail = task;
    te->tasks_tail = &task->next;
}

static void unpost(struct hf_env *env, struct hf_task *task)
{
    struct test_env *te = env_of(env);
    struct hf_task **at = &te->tasks;

    if (!task->posted)
        return;
    while (*at != task)
        at = &(*at)->next;
    *at = task->next;
    if (task->next == NULL)
        te->tasks_tail = at;
    task->posted = false;
}

void test_env_init(struct test_env *te)
{
    memset(te, 0, sizeof *te);
    te->boot_ns = UINT64_C(5000000000);
    te->wall_ms = INT64_C(1700000000000);
    te->tasks_tail = &te->tasks;
    te->env.boot_ms = boot_ms;
    te->env.boot_ns = boot_ns;
    te->env.wall_ms = wall_ms;
    te->env.timer_start = timer_start;
    te->env.timer_stop = timer_stop;
    te->env.post = post;
    te->env.unpost = unpost;
}

void test_env_free(struct test_env *te)
{
    HF_ASSERT(te->tasks == NULL);
    HF_ASSERT(hf_timer_heap_first(&te->timers) == NULL);
    hf_timer_heap_free(&te->timers);
}

void test_env_turn(struct test_env *te)
{
    uint32_t rounds = 0;

    while (te->tasks) {
        struct hf_task *task = te->tasks;

        HF_ASSERT(++rounds < 1000000); /* a turn that never ends */
        te->tasks = task->next;
        if (te->tasks == NULL)
            te->tasks_tail = &te->tasks;
        task->posted = false;
        task->cb(task);
    }
}

void test_env_pass(struct test_env *te, uint64_t ms)
{
    uint64_t end_ns = te->boot_ns + ms * 1000000;
    struct hf_timer *t;

    test_env_turn(te);
    while ((t = hf_timer_heap_first(&te->timers)) != NULL && t->due_ms * 1000000 <= end_ns) {
        if (t->due_ms * 1000000 > te->boot_ns) {
            te->wall_ms += (int64_t)(t->due_ms - te->boot_ns / 1000000);
            te->boot_ns = t->due_ms * 1000000;
        }
        hf_timer_heap_remove(&te->timers, t);
        t->cb(t);
        test_env_turn(te);
    }
    te->wall_ms += (int64_t)((end_ns - te->boot_ns) / 1000000);
    te->boot_ns = end_ns;
}

/* ---- consensus ---------------------------------------------------------------------------------------- */

void test_consensus_init(struct hf_consensus *c, struct test_env *te)
{
    memset(c, 0, sizeof *c);
    c->te = te;
    c->gates_tail = &c->gates;
}

void test_consensus_free(struct hf_consensus *c)
{
    for (uint64_t i = 1; i <= c->last_index; i++)
        hf_log_entry_unref(c->log[i]);
}

int hf_consensus_submit(struct hf_consensus *c, struct hf_log_entry *e, uint64_t *index, uint64_t *term)
{
    c->submits++;
    if (c->submit_rc < 0)
        return c->submit_rc;
    if (c->role != HF_ROLE_LEADER)
        return HF_E_NOT_LEADER;
    HF_ASSERT(c->last_index + 1 < TEST_LOG_MAX);
    e->index = *index = ++c->last_index;
    e->term = *term = c->term;
    c->log[e->index] = e;
    return 0;
}

void test_consensus_commit(struct hf_consensus *c, uint64_t upto)
{
    while (!c->is_paused && c->delivered_index < upto && c->delivered_index < c->last_index) {
        c->delivered_index++;
        c->is_paused = !c->on_commit(c->on_commit_data, c->log[c->delivered_index]);
    }
}

void test_consensus_overwrite(struct hf_consensus *c, uint64_t index, uint64_t term)
{
    for (uint64_t i = index; i <= c->last_index; i++)
        hf_log_entry_unref(c->log[i]);
    c->last_index = index;
    c->log[index] = hf_log_entry_new(HF_ENTRY_BARRIER, index, term, 0);
}

void hf_consensus_resume(struct hf_consensus *c)
{
    c->resumes++;
    c->is_paused = false;
}

void hf_consensus_gate(struct hf_consensus *c, struct hf_gate *gate)
{
    gate->next = NULL;
    *c->gates_tail = gate;
    c->gates_tail = &gate->next;
    c->n_gates++;
}

void test_consensus_answer_gates(struct hf_consensus *c, int rc)
{
    struct hf_gate *g = c->gates, *next;

    c->gates = NULL;
    c->gates_tail = &c->gates;
    for (; g; g = next) {
        next = g->next;
        g->cb(g, rc);
    }
}

enum hf_role hf_consensus_role(const struct hf_consensus *c)
{
    return c->role;
}

uint64_t hf_consensus_term(const struct hf_consensus *c)
{
    return c->term;
}

uint64_t hf_consensus_leader(const struct hf_consensus *c)
{
    return c->leader;
}

struct hf_link *hf_consensus_proxy_link(struct hf_consensus *c, uint64_t node_id)
{
    HF_ASSERT(node_id < TEST_NODES_MAX);
    return c->links[node_id];
}

int64_t hf_consensus_clock_offset_ms(const struct hf_consensus *c)
{
    return c->offset_ms;
}

/* ---- state -------------------------------------------------------------------------------------------- */

void hf_apply_result_free(struct hf_apply_result *r)
{
    hf_reply_free(&r->replies);
    hf_free(r->end);
    memset(r, 0, sizeof *r);
}

struct hf_slice hf_apply_result_at(const struct hf_apply_result *r, uint32_t position)
{
    uint32_t start = position == 0 ? 0 : r->end[position - 1];

    HF_ASSERT(position < r->n);
    return hf_slice(r->replies.buf.data + start, r->end[position] - start);
}

void test_state_init(struct hf_state *st)
{
    memset(st, 0, sizeof *st);
    st->entries_tail = &st->entries;
    st->reads_tail = &st->reads;
}

void hf_state_apply(struct hf_state *st, struct hf_state_entry *req)
{
    req->next = NULL;
    *st->entries_tail = req;
    st->entries_tail = &req->next;
    st->queued_bytes += req->entry->len;
    st->n_entries++;
}

void hf_state_read(struct hf_state *st, struct hf_state_read *req)
{
    req->next = NULL;
    *st->reads_tail = req;
    st->reads_tail = &req->next;
    st->n_reads++;
}

uint64_t hf_state_queued_bytes(const struct hf_state *st)
{
    return st->queued_bytes;
}

void test_state_apply(struct hf_state *st, uint32_t n)
{
    for (; n > 0 && st->entries; n--) {
        struct hf_state_entry *req = st->entries;
        struct hf_entry_reader in;

        st->entries = req->next;
        if (st->entries == NULL)
            st->entries_tail = &st->entries;
        st->queued_bytes -= req->entry->len;
        HF_ASSERT(req->entry->index == st->applied_index + 1);
        st->applied_index = req->entry->index;
        if (req->entry->type == HF_ENTRY_COMMAND) {
            if (hf_entry_decode(&in, hf_slice(req->entry->data, req->entry->len)) != 0)
                HF_UNREACHABLE();
            if (in.header.stamp_ms > st->log_time_ms)
                st->log_time_ms = in.header.stamp_ms;
            if (req->wants_replies) {
                req->result.end = hf_calloc(in.header.count, sizeof *req->result.end);
                for (uint32_t i = 0; i < in.header.count; i++) {
                    char text[64];

                    snprintf(text, sizeof text, "%u.%u", (unsigned)req->entry->index, i);
                    hf_reply_status(&req->result.replies, text);
                    req->result.end[i] = (uint32_t)req->result.replies.buf.len;
                }
                req->result.n = in.header.count;
            }
        }
        hf_log_entry_unref(req->entry);
        req->entry = NULL;
        req->cb(req);
    }
}

void test_state_answer_reads(struct hf_state *st)
{
    struct hf_state_read *req = st->reads, *next;

    st->reads = NULL;
    st->reads_tail = &st->reads;
    for (; req; req = next) {
        next = req->next;
        if (st->on_read)
            st->on_read(st, req);
        else
            hf_reply_status(&req->reply, "read");
        req->cb(req);
    }
}

/* ---- links -------------------------------------------------------------------------------------------- */

void test_link_pair(struct hf_link *a, uint64_t a_id, struct hf_link *b, uint64_t b_id)
{
    memset(a, 0, sizeof *a);
    memset(b, 0, sizeof *b);
    a->node_id = b_id;
    b->node_id = a_id;
    a->other = b;
    b->other = a;
    a->inbox_tail = &a->inbox;
    b->inbox_tail = &b->inbox;
}

void test_link_free(struct hf_link *l)
{
    struct test_message *m;

    while ((m = test_link_take(l)) != NULL)
        hf_free(m);
}

void test_link_inject(struct hf_link *l, uint8_t type, struct hf_slice bytes)
{
    struct test_message *m = hf_malloc(sizeof *m + bytes.len);

    m->next = NULL;
    m->type = type;
    m->len = bytes.len;
    if (bytes.len)
        memcpy(m->bytes, bytes.ptr, bytes.len);
    *l->inbox_tail = m;
    l->inbox_tail = &m->next;
}

struct test_message *test_link_take(struct hf_link *l)
{
    struct test_message *m = l->inbox;

    if (m) {
        l->inbox = m->next;
        if (l->inbox == NULL)
            l->inbox_tail = &l->inbox;
    }
    return m;
}

int hf_link_send(struct hf_link *link, uint8_t type, bool urgent, const struct hf_slice *parts, size_t n)
{
    struct hf_buf all = {0};

    (void)urgent;
    if (link->is_closed)
        return HF_E_CLOSED;
    if (link->is_busy)
        return HF_E_BUSY;
    for (size_t i = 0; i < n; i++)
        hf_buf_put(&all, parts[i].ptr, parts[i].len);
    if (link->message_max && all.len > link->message_max) {
        hf_buf_free(&all);
        return HF_E_LIMIT;
    }
    test_link_inject(link->other, type, hf_buf_slice(&all));
    link->sent++;
    hf_buf_free(&all);
    return 0;
}

uint64_t hf_link_node_id(const struct hf_link *link)
{
    return link->node_id;
}

void hf_link_close(struct hf_link *link)
{
    link->is_closed = true;
}
