/* gate.c: linearizable reads without a log write (Raft dissertation 6.4, ReadIndex).
 *
 * A gate opened at time t may pass once (a) an entry of our own term was delivered, (b) a majority of the voters of
 * the newest configuration in our log answered a ping that was sent after t, saying that their term is not above
 * ours, while we still lead in that term, and (c) everything committed at t was delivered. One ping serves all
 * gates opened before it; answers echo (term, sequence), and an answer to sequence s confirms every gate that waits
 * for a sequence <= s. Sequences are never reused within a process and restart above the last one at a new reign. */
#include "consensus/internal.h"

/* Rounds in flight; further gates wait for the next, so that a slow network makes batches, not traffic. */
#define HF_ROUNDS_MAX 4u
/* A round that was not answered is asked again after this long (a message was lost). */
#define HF_ROUND_RETRY_MS 50u

static void push(struct hf_gate ***tail, struct hf_gate *g)
{
    g->next = NULL;
    **tail = g;
    *tail = &g->next;
}

/* Read index: everything committed now, and the first entry of our own term (a). */
static uint64_t read_index_now(const struct hf_consensus *c)
{
    return c->commit_index > c->own_term_index ? c->commit_index : c->own_term_index;
}

void hf_consensus_gate(struct hf_consensus *c, struct hf_gate *gate)
{
    hf_counter_add(c->gates, 1);
    /* Before the own-term entry is placed the read index is unknown: marked 0, filled in when pinged. */
    gate->read_index = hf_consensus_is_leader(c) && c->own_term_index ? read_index_now(c) : 0;
    gate->sequence = 0;
    push(&c->gates_new_tail, gate);
    c->env->post(c->env, &c->gate_task);
}

static void fail_list(struct hf_gate **head, struct hf_gate ***tail, int rc)
{
    struct hf_gate *g = *head, *next;

    *head = NULL;
    *tail = head;
    for (; g; g = next) {
        next = g->next;
        g->cb(g, rc);
    }
}

void hf_consensus_gate_reset(struct hf_consensus *c, int rc)
{
    if (!c->gates_new_tail)
        return;
    fail_list(&c->gates_confirmed, &c->gates_confirmed_tail, rc);
    fail_list(&c->gates_pinged, &c->gates_pinged_tail, rc);
    fail_list(&c->gates_new, &c->gates_new_tail, rc);
}

/* Highest sequence that a majority of the voters of the newest configuration has confirmed (R5). */
static uint64_t quorum_sequence(const struct hf_consensus *c)
{
    uint64_t acked[HF_MEMBERS_MAX];
    uint32_t n = 0;

    for (unsigned i = 0; i < c->raft.configuration.n; i++) {
        const struct raft_server *s = &c->raft.configuration.servers[i];
        uint64_t a = 0;

        if (s->role != RAFT_VOTER)
            continue;
        if (n == HF_MEMBERS_MAX)
            return 0; /* nobody composes such a configuration */
        if (s->id == c->config.node_id) {
            a = c->ping_sequence;
        } else {
            for (uint32_t k = 0; k < c->n_others; k++)
                if (c->others[k].id == s->id)
                    a = c->others[k].acked_sequence;
        }
        /* Insertion sort, descending: at most HF_MEMBERS_MAX voters. */
        uint32_t at = n++;
        while (at > 0 && acked[at - 1] < a) {
            acked[at] = acked[at - 1];
            at--;
        }
        acked[at] = a;
    }
    return n == 0 ? 0 : acked[n / 2];
}

static void send_pings(struct hf_consensus *c)
{
    struct hf_buf buf = {0};

    c->ping_sequence++;
    hf_counter_add(c->pings, 1);
    hf_buf_put_u64(&buf, raft_current_term(&c->raft));
    hf_buf_put_u64(&buf, c->ping_sequence);
    hf_buf_put_u32(&buf, 0);
    for (unsigned i = 0; i < c->raft.configuration.n; i++) {
        const struct raft_server *s = &c->raft.configuration.servers[i];

        if (s->role == RAFT_VOTER && s->id != c->config.node_id)
            hf_consensus_send_simple(c, s->id, HF_MSG_PING, hf_buf_slice(&buf));
    }
    hf_buf_free(&buf);
}

/* (c) of the rule, for gates whose round is confirmed. */
void hf_consensus_gate_delivered(struct hf_consensus *c)
{
    while (c->gates_confirmed && c->gates_confirmed->read_index <= c->delivered_index && !c->is_closing) {
        struct hf_gate *g = c->gates_confirmed;

        c->gates_confirmed = g->next;
        if (!c->gates_confirmed)
            c->gates_confirmed_tail = &c->gates_confirmed;
        g->cb(g, 0);
    }
}

static void confirm(struct hf_consensus *c)
{
    uint64_t quorum = quorum_sequence(c);

    if (quorum > c->confirmed_sequence)
        c->confirmed_sequence = quorum;
    while (c->gates_pinged && c->gates_pinged->sequence <= c->confirmed_sequence) {
        struct hf_gate *g = c->gates_pinged;

        c->gates_pinged = g->next;
        if (!c->gates_pinged)
            c->gates_pinged_tail = &c->gates_pinged;
        push(&c->gates_confirmed_tail, g);
    }
    hf_consensus_gate_delivered(c);
}

static void open_round(struct hf_consensus *c)
{
    if (c->gates_new == NULL && c->gates_pinged == NULL)
        return;
    if (!hf_consensus_is_leader(c)) {
        hf_consensus_gate_reset(c, HF_E_NOT_LEADER);
        return;
    }
    if (c->own_term_index == 0 || c->is_held || hf_consensus_is_mute(c)) {
        c->env->timer_start(c->env, &c->gate_timer, HF_ROUND_RETRY_MS);
        return;
    }
    /* With no gate waiting for an answer none may ever come for the last pings: they are not in flight. */
    if (c->gates_new && (!c->gates_pinged || c->ping_sequence - c->confirmed_sequence < HF_ROUNDS_MAX)) {
        send_pings(c);
        for (struct hf_gate *g = c->gates_new, *next; g; g = next) {
            next = g->next;
            if (g->read_index == 0)
                g->read_index = read_index_now(c);
            g->sequence = c->ping_sequence;
            push(&c->gates_pinged_tail, g);
        }
        c->gates_new = NULL;
        c->gates_new_tail = &c->gates_new;
        confirm(c);
    }
    if (c->gates_new || c->gates_pinged)
        if (!hf_timer_is_active(&c->gate_timer))
            c->env->timer_start(c->env, &c->gate_timer, HF_ROUND_RETRY_MS);
}

static void on_gate_task(struct hf_task *task)
{
    open_round(task->data);
}

static void on_gate_timer(struct hf_timer *timer)
{
    struct hf_consensus *c = timer->data;

    if (c->is_closing)
        return;
    /* Ask again: an answer to the newer ping confirms the older gates as well. Nobody answers when the others have been
     * removed meanwhile and this node is the only voter. */
    if (c->gates_pinged && hf_consensus_is_leader(c) && !c->is_held && !hf_consensus_is_mute(c)) {
        send_pings(c);
        confirm(c);
    }
    if (c->gates_new || c->gates_pinged) {
        c->env->timer_start(c->env, &c->gate_timer, HF_ROUND_RETRY_MS);
        if (c->gates_new)
            open_round(c);
    }
}

void hf_consensus_gate_init(struct hf_consensus *c)
{
    c->gates_new_tail = &c->gates_new;
    c->gates_pinged_tail = &c->gates_pinged;
    c->gates_confirmed_tail = &c->gates_confirmed;
    c->gate_task.data = c;
    c->gate_task.cb = on_gate_task;
    c->gate_timer.data = c;
    c->gate_timer.cb = on_gate_timer;
}

/* A leader asks whether its term still stands. Only configured members may ask (R31). Bit 1 (a promise not to vote)
 * is not given yet: no leader asks for a lease. */
void hf_consensus_on_ping(struct hf_consensus *c, uint64_t from, struct hf_slice payload)
{
    struct hf_reader r = hf_reader(payload);
    uint64_t term = hf_read_u64(&r), sequence = hf_read_u64(&r);
    struct hf_buf buf = {0};

    (void)hf_read_u32(&r); /* lease length */
    if (!hf_reader_done(&r) || !hf_consensus_knows(c, from))
        return;
    hf_buf_put_u64(&buf, term);
    hf_buf_put_u64(&buf, sequence);
    hf_buf_put_u8(&buf, raft_current_term(&c->raft) <= term ? 1 : 0);
    hf_consensus_send_simple(c, from, HF_MSG_PONG, hf_buf_slice(&buf));
    hf_buf_free(&buf);
}

void hf_consensus_on_pong(struct hf_consensus *c, uint64_t from, struct hf_slice payload)
{
    struct hf_reader r = hf_reader(payload);
    uint64_t term = hf_read_u64(&r), sequence = hf_read_u64(&r);
    uint8_t flags = hf_read_u8(&r);
    struct hf_other *o = hf_consensus_other(c, from);

    if (!hf_reader_done(&r) || !o || !hf_consensus_is_leader(c) || term != raft_current_term(&c->raft) ||
        !(flags & 1) || sequence > c->ping_sequence)
        return;
    if (sequence > o->acked_sequence)
        o->acked_sequence = sequence;
    confirm(c);
    if (c->gates_new)
        open_round(c);
}
