/* Two proxies, one calling and one answering, over links that the test carries messages across. */
#include "doubles.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/util.h"
#include "proxy/proxy.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

static const struct hf_resp_limits limits = {
    .bulk_bytes_max = 1 << 20, .query_bytes_max = 2 << 20, .args_max = 64, .inline_bytes_max = 1024};

static struct test_env te;
static struct hf_stats *stats;
static struct hf_proxy *caller, *server;
static struct hf_link near, far; /* the two ends of one link: near is the caller's */

/* ---- the answering side ------------------------------------------------------------------------------- */

#define COMMANDS_MAX 4096

struct remote_state {
    struct hf_proxy_remote *remote;
    bool is_open;
};
struct command {
    struct remote_state *from;
    uint64_t sequence, term;
    char text[64]; /* words joined by spaces */
    bool is_answered;
};
static struct remote_state remotes[1024];
static uint32_t n_remotes, n_closed, n_commands;
static struct command commands[COMMANDS_MAX];

static void *on_open(void *data, struct hf_proxy_remote *remote)
{
    struct remote_state *r = &remotes[n_remotes++];

    ck_assert_ptr_eq(data, &server);
    r->remote = remote;
    r->is_open = true;
    return r;
}

static void on_command(void *state, uint64_t sequence, uint64_t term, const struct hf_args *args)
{
    struct command *c = &commands[n_commands++];
    size_t at = 0;

    memset(c, 0, sizeof *c);
    c->from = state;
    ck_assert(c->from->is_open);
    c->sequence = sequence;
    c->term = term;
    for (uint32_t i = 0; i < args->n && at < sizeof c->text; i++)
        at += (size_t)snprintf(c->text + at, sizeof c->text - at, "%s%.*s", i ? " " : "",
                               (int)(args->at[i].len > 40 ? 40 : args->at[i].len), (const char *)args->at[i].ptr);
}

static void on_close(void *state)
{
    struct remote_state *r = state;

    ck_assert(r->is_open);
    r->is_open = false;
    n_closed++;
}

static const struct hf_proxy_handler handler = {
    .data = &server, .open = on_open, .command = on_command, .close = on_close};

static void answer(struct command *c, const char *text)
{
    struct hf_reply reply = {0};

    hf_reply_status(&reply, text);
    hf_proxy_answer(c->from->remote, c->sequence, hf_buf_slice(&reply.buf));
    hf_reply_free(&reply);
    c->is_answered = true;
}

/* ---- the calling side --------------------------------------------------------------------------------- */

struct sent {
    struct hf_proxy_call call;
    int calls;
    enum hf_proxy_outcome outcome;
    char reply[200];
};
static struct sent sent[COMMANDS_MAX];

static void on_outcome(struct hf_proxy_call *call, enum hf_proxy_outcome outcome, struct hf_slice reply)
{
    struct sent *s = call->data;

    s->calls++;
    s->outcome = outcome;
    s->reply[0] = 0;
    if (reply.len > 5)
        snprintf(s->reply, sizeof s->reply, "%.*s", (int)(reply.len - 5), (const char *)reply.ptr + 5);
}

static int call_bytes(struct sent *s, uint64_t connection, struct hf_slice word)
{
    struct hf_slice words[2] = {hf_slice_str("echo"), word};
    struct hf_args args = {words, 2};

    memset(s, 0, sizeof *s);
    s->call.data = s;
    s->call.cb = on_outcome;
    return hf_proxy_send(caller, &near, connection, 7, &args, &s->call);
}

static void call(struct sent *s, uint64_t connection, const char *word)
{
    ck_assert_int_eq(call_bytes(s, connection, hf_slice_str(word)), 0);
}

/* ---- carrying ----------------------------------------------------------------------------------------- */

static void begin(void)
{
    test_env_init(&te);
    stats = hf_stats_new();
    n_remotes = n_closed = n_commands = 0;
    ck_assert_int_eq(hf_proxy_open(&te.env, &limits, stats, &caller), 0);
    ck_assert_int_eq(hf_proxy_open(&te.env, &limits, stats, &server), 0);
    hf_proxy_set_handler(server, &handler);
    test_link_pair(&near, 1, &far, 2);
    hf_proxy_on_link_up(caller, &near);
    hf_proxy_on_link_up(server, &far);
}

static void end(void)
{
    hf_proxy_close(caller);
    hf_proxy_close(server);
    test_link_free(&near);
    test_link_free(&far);
    hf_stats_free(stats);
    test_env_free(&te);
}

static void carry_one_way(struct hf_proxy *p, struct hf_link *l)
{
    struct test_message *m;

    while ((m = test_link_take(l)) != NULL) {
        hf_proxy_on_message(p, l, m->type, hf_slice(m->bytes, m->len));
        hf_free(m);
    }
}

static void carry(void)
{
    test_env_turn(&te);
    carry_one_way(server, &far);
    test_env_turn(&te);
    carry_one_way(caller, &near);
    test_env_turn(&te);
}

static void break_link(void)
{
    near.is_closed = far.is_closed = true;
    hf_proxy_on_link_down(caller, &near);
    hf_proxy_on_link_down(server, &far);
}

/* Write a record by hand. */
static void put_record(struct hf_buf *b, uint8_t kind, struct hf_slice body)
{
    hf_buf_put_u32(b, (uint32_t)body.len + 1);
    hf_buf_put_u8(b, kind);
    hf_buf_put(b, body.ptr, body.len);
}

/* ---- tests -------------------------------------------------------------------------------------------- */

/* A command arrives whole and in order, its answer comes back; commands of one turn share a message. */
START_TEST(test_round_trip)
{
    begin();
    for (int i = 0; i < 5; i++) {
        char word[16];

        snprintf(word, sizeof word, "w%d", i);
        call(&sent[i], 40, word);
    }
    ck_assert_uint_eq(near.sent, 0);
    carry();
    ck_assert_uint_eq(near.sent, 1);
    ck_assert_uint_eq(n_commands, 5);
    ck_assert_uint_eq(n_remotes, 1);
    ck_assert_str_eq(commands[4].text, "echo w4");
    ck_assert_uint_eq(commands[4].term, 7);
    for (uint32_t i = 0; i < 5; i++)
        answer(&commands[i], commands[i].text);
    ck_assert_int_eq(sent[0].calls, 0);
    carry();
    for (int i = 0; i < 5; i++) {
        char expected[32];

        snprintf(expected, sizeof expected, "echo w%d", i);
        ck_assert_int_eq(sent[i].calls, 1);
        ck_assert_int_eq(sent[i].outcome, HF_PROXY_ANSWERED);
        ck_assert_str_eq(sent[i].reply, expected);
    }
    end();
}
END_TEST

/* Refused is its own outcome. */
START_TEST(test_refusal)
{
    begin();
    call(&sent[0], 1, "a");
    carry();
    hf_proxy_refuse(commands[0].from->remote, commands[0].sequence);
    carry();
    ck_assert_int_eq(sent[0].outcome, HF_PROXY_REFUSED);
    end();
}
END_TEST

/* Many clients whose commands are answered in random order: every client hears its own answers only. */
START_TEST(test_answers_never_cross)
{
    struct hf_prng prng;
    uint32_t n_open = 0;

    begin();
    hf_prng_seed(&prng, 11);
    for (int i = 0; i < 3000; i++) {
        char word[32];
        uint64_t connection = hf_prng_below(&prng, 200) + 1;

        snprintf(word, sizeof word, "c%u.%d", (unsigned)connection, i);
        call(&sent[i], connection, word);
        if (hf_prng_below(&prng, 20) == 0)
            carry();
        /* Answer a random one of those that wait. */
        while (n_open < n_commands && hf_prng_below(&prng, 3) == 0) {
            struct command *c = &commands[hf_prng_below(&prng, n_commands)];

            if (!c->is_answered) {
                answer(c, c->text);
                n_open++;
            }
        }
    }
    carry();
    for (uint32_t i = n_commands; i > 0; i--)
        if (!commands[i - 1].is_answered)
            answer(&commands[i - 1], commands[i - 1].text);
    carry();
    hf_prng_seed(&prng, 11);
    for (int i = 0; i < 3000; i++) {
        char tail[32];

        ck_assert_int_eq(sent[i].calls, 1);
        ck_assert_int_eq(sent[i].outcome, HF_PROXY_ANSWERED);
        snprintf(tail, sizeof tail, "echo c%u.%d", (unsigned)sent[i].call.connection, i);
        ck_assert_str_eq(sent[i].reply, tail);
    }
    ck_assert(!near.is_closed);
    ck_assert_uint_eq(n_remotes, 200);
    end();
}
END_TEST

/* The stream breaks: what was sent may have happened, what had not left did not. */
START_TEST(test_broken_stream)
{
    begin();
    call(&sent[0], 1, "a");
    call(&sent[1], 2, "b");
    carry();
    near.is_busy = true;
    call(&sent[2], 1, "c");
    test_env_turn(&te);
    ck_assert_int_eq(sent[2].calls, 0);
    break_link();
    ck_assert_int_eq(sent[0].outcome, HF_PROXY_LOST);
    ck_assert_int_eq(sent[1].outcome, HF_PROXY_LOST);
    ck_assert_int_eq(sent[2].outcome, HF_PROXY_REFUSED);
    ck_assert_uint_eq(n_closed, 2);
    ck_assert_int_eq(call_bytes(&sent[3], 1, hf_slice_str("d")), HF_E_CLOSED);
    end();
}
END_TEST

/* A link that takes nothing for a while gets everything later, in order. */
START_TEST(test_busy_link_is_tried_again)
{
    begin();
    near.is_busy = far.is_busy = true;
    for (int i = 0; i < 3; i++)
        call(&sent[i], 1, i == 0 ? "a" : i == 1 ? "b" : "c");
    test_env_pass(&te, 50);
    ck_assert_uint_eq(n_commands, 0);
    near.is_busy = false;
    test_env_pass(&te, 10);
    carry();
    ck_assert_uint_eq(n_commands, 3);
    ck_assert_str_eq(commands[0].text, "echo a");
    ck_assert_str_eq(commands[2].text, "echo c");
    for (int i = 0; i < 3; i++)
        answer(&commands[i], "x");
    test_env_pass(&te, 50);
    ck_assert_int_eq(sent[0].calls, 0);
    far.is_busy = false;
    test_env_pass(&te, 10);
    carry();
    ck_assert_int_eq(sent[2].outcome, HF_PROXY_ANSWERED);
    end();
}
END_TEST

/* Answers that the other side does not take are not dropped in silence: the stream ends. */
START_TEST(test_unread_answers_close_the_stream)
{
    static uint8_t big[1 << 20];
    struct hf_reply reply = {0};
    uint32_t n = 0;

    begin();
    for (int i = 0; i < 40; i++)
        call(&sent[i], 1, "x");
    carry();
    far.is_busy = true;
    hf_reply_bulk(&reply, hf_slice(big, sizeof big));
    while (!far.is_closed && n < 40) {
        hf_proxy_answer(commands[n].from->remote, commands[n].sequence, hf_buf_slice(&reply.buf));
        test_env_turn(&te);
        n++;
    }
    ck_assert(far.is_closed);
    ck_assert_uint_gt(n, 30);
    /* Later answers to a stream that is about to end do nothing. */
    hf_proxy_answer(commands[n].from->remote, commands[n].sequence, hf_buf_slice(&reply.buf));
    break_link();
    for (int i = 0; i < 40; i++)
        ck_assert_int_eq(sent[i].outcome, HF_PROXY_LOST);
    hf_reply_free(&reply);
    end();
}
END_TEST

/* The window: more unanswered bytes than that are BUSY, and answers make room. */
START_TEST(test_window)
{
    static uint8_t big[1 << 20];
    int n = 0;

    begin();
    while (call_bytes(&sent[n], 1, hf_slice(big, sizeof big)) == 0)
        n++;
    ck_assert_int_eq(n, 31);
    ck_assert_int_eq(call_bytes(&sent[n], 1, hf_slice(big, sizeof big)), HF_E_BUSY);
    carry();
    ck_assert_int_eq(call_bytes(&sent[n], 1, hf_slice(big, sizeof big)), HF_E_BUSY);
    answer(&commands[0], "x");
    carry();
    ck_assert_int_eq(call_bytes(&sent[n], 1, hf_slice(big, sizeof big)), 0);
    end();
}
END_TEST

/* What no message can carry is said at once, and takes nothing down. */
START_TEST(test_too_large_for_a_message)
{
    static uint8_t big[300 << 10];
    struct hf_reply reply = {0};

    begin();
    near.message_max = 200 << 10;
    ck_assert_int_eq(call_bytes(&sent[0], 1, hf_slice(big, sizeof big)), HF_E_LIMIT);
    call(&sent[1], 1, "small");
    carry();
    ck_assert_uint_eq(n_commands, 1);
    /* And an answer too large becomes one that says so. */
    far.message_max = 200 << 10;
    hf_reply_bulk(&reply, hf_slice(big, sizeof big));
    hf_proxy_answer(commands[0].from->remote, commands[0].sequence, hf_buf_slice(&reply.buf));
    carry();
    ck_assert_int_eq(sent[1].outcome, HF_PROXY_ANSWERED);
    ck_assert(strncmp(sent[1].reply, "UNKNOWN", 7) == 0);
    ck_assert(!far.is_closed);
    hf_reply_free(&reply);
    end();
}
END_TEST

/* A client's end closes its state on the other side, and its number may come again. */
START_TEST(test_end_of_a_client)
{
    begin();
    call(&sent[0], 5, "a");
    carry();
    answer(&commands[0], "x");
    carry();
    hf_proxy_end(caller, &near, 5);
    hf_proxy_end(caller, &near, 77); /* never heard of there: nothing happens */
    carry();
    ck_assert_uint_eq(n_closed, 1);
    call(&sent[1], 5, "b");
    carry();
    ck_assert_uint_eq(n_remotes, 2);
    ck_assert(!far.is_closed);
    end();
    ck_assert_uint_eq(n_closed, 2);
}
END_TEST

/* Whatever is not an answer to a call that waits closes the stream, and no call hears of it. */
START_TEST(test_false_answers_close_the_stream)
{
    for (int i = 0; i < 5; i++) {
        struct hf_buf body = {0}, message = {0};
        struct sent *s = &sent[0];

        begin();
        call(s, 3, "a");
        if (i != 4)
            carry();
        hf_buf_put_u64(&body, i == 0 ? 4 : 3); /* another client's */
        hf_buf_put_u64(&body, i == 1 ? s->call.sequence + (UINT64_C(1) << 20) : s->call.sequence); /* a later life */
        hf_buf_put_u8(&body, i == 2 ? 3 : 1);                                                      /* no such outcome */
        if (i == 3)
            body.len = 10; /* cut short */
        put_record(&message, 2, hf_buf_slice(&body));
        hf_proxy_on_message(caller, &near, 1, hf_buf_slice(&message));
        ck_assert_int_eq(s->calls, 0);
        ck_assert(near.is_closed);
        break_link();
        ck_assert_int_eq(s->outcome, i == 4 ? HF_PROXY_REFUSED : HF_PROXY_LOST);
        hf_buf_free(&body);
        hf_buf_free(&message);
        end();
    }
}
END_TEST

/* The second answer to one call is false too. */
START_TEST(test_second_answer_closes_the_stream)
{
    struct test_message *m;

    begin();
    call(&sent[0], 1, "a");
    carry();
    answer(&commands[0], "x");
    test_env_turn(&te);
    m = test_link_take(&near);
    hf_proxy_on_message(caller, &near, m->type, hf_slice(m->bytes, m->len));
    ck_assert(!near.is_closed);
    hf_proxy_on_message(caller, &near, m->type, hf_slice(m->bytes, m->len));
    ck_assert(near.is_closed);
    ck_assert_int_eq(sent[0].calls, 1);
    hf_free(m);
    end();
}
END_TEST

/* Commands that break a limit or the form close the stream before anyone sees them. */
START_TEST(test_bad_commands_close_the_stream)
{
    static uint8_t big[(1 << 20) + 1];

    for (int i = 0; i < 9; i++) {
        struct hf_buf body = {0}, message = {0};
        uint8_t kind = 1, type = 1;
        uint32_t n = i == 1 ? 0 : i == 2 ? 65 : i == 3 ? UINT32_MAX : i == 7 ? 3 : 1;

        begin();
        hf_buf_put_u64(&body, 1);
        hf_buf_put_u64(&body, 100);
        hf_buf_put_u64(&body, 7);
        hf_buf_put_u32(&body, n);
        for (uint32_t k = 0; k < (n > 65 ? 1 : n); k++)
            hf_buf_put_slice(&body, i == 4 || i == 7 ? hf_slice(big, sizeof big - (i == 7)) : hf_slice_str("ping"));
        if (i == 5)
            hf_buf_put_u8(&body, 0); /* more than the words */
        if (i == 6)
            kind = 9;
        if (i == 8)
            type = 2;
        put_record(&message, kind, hf_buf_slice(&body));
        hf_proxy_on_message(server, &far, type, hf_buf_slice(&message));
        ck_assert_int_eq(far.is_closed, i != 0);
        ck_assert_uint_eq(n_commands, i == 0 ? 1 : 0);
        hf_buf_free(&body);
        hf_buf_free(&message);
        end();
    }
}
END_TEST

/* The sequence of a client rises. */
START_TEST(test_command_out_of_order_closes_the_stream)
{
    struct test_message *m;

    begin();
    call(&sent[0], 1, "a");
    test_env_turn(&te);
    m = test_link_take(&far);
    hf_proxy_on_message(server, &far, m->type, hf_slice(m->bytes, m->len));
    ck_assert(!far.is_closed);
    hf_proxy_on_message(server, &far, m->type, hf_slice(m->bytes, m->len));
    ck_assert(far.is_closed);
    ck_assert_uint_eq(n_commands, 1);
    hf_free(m);
    end();
}
END_TEST

/* Random damage to real messages: no crash, and no call gets an answer twice. */
START_TEST(test_damaged_messages)
{
    struct hf_prng prng;

    hf_prng_seed(&prng, 5);
    for (int round = 0; round < 500; round++) {
        struct test_message *m;

        begin();
        for (int i = 0; i < 5; i++)
            call(&sent[i], (uint64_t)i + 1, "abc");
        test_env_turn(&te);
        m = test_link_take(&far);
        for (uint64_t k = hf_prng_below(&prng, 4); k > 0; k--)
            m->bytes[hf_prng_below(&prng, m->len)] = (uint8_t)hf_prng_next(&prng);
        hf_proxy_on_message(server, &far, m->type, hf_slice(m->bytes, m->len - hf_prng_below(&prng, 3)));
        hf_free(m);
        for (uint32_t i = 0; i < n_commands; i++)
            answer(&commands[i], "x");
        test_env_turn(&te);
        m = test_link_take(&near);
        if (m) {
            for (uint64_t k = hf_prng_below(&prng, 4); k > 0; k--)
                m->bytes[hf_prng_below(&prng, m->len)] = (uint8_t)hf_prng_next(&prng);
            hf_proxy_on_message(caller, &near, m->type, hf_slice(m->bytes, m->len));
            hf_free(m);
        }
        break_link();
        for (int i = 0; i < 5; i++)
            ck_assert_int_eq(sent[i].calls, 1);
        end();
    }
}
END_TEST

/* Closing tells every call. */
START_TEST(test_close_tells_every_call)
{
    begin();
    call(&sent[0], 1, "a");
    carry();
    call(&sent[1], 1, "b");
    end();
    ck_assert_int_eq(sent[0].outcome, HF_PROXY_LOST);
    ck_assert_int_eq(sent[1].outcome, HF_PROXY_REFUSED);
    ck_assert_uint_eq(n_closed, 1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("proxy");
    TCase *t = tcase_create("proxy");
    SRunner *runner;
    int failed;

    hf_log_silence(getenv("HF_TEST_LOG") == NULL);
    tcase_add_test(t, test_round_trip);
    tcase_add_test(t, test_refusal);
    tcase_add_test(t, test_answers_never_cross);
    tcase_add_test(t, test_broken_stream);
    tcase_add_test(t, test_busy_link_is_tried_again);
    tcase_add_test(t, test_unread_answers_close_the_stream);
    tcase_add_test(t, test_window);
    tcase_add_test(t, test_too_large_for_a_message);
    tcase_add_test(t, test_end_of_a_client);
    tcase_add_test(t, test_false_answers_close_the_stream);
    tcase_add_test(t, test_second_answer_closes_the_stream);
    tcase_add_test(t, test_bad_commands_close_the_stream);
    tcase_add_test(t, test_command_out_of_order_closes_the_stream);
    tcase_add_test(t, test_damaged_messages);
    tcase_add_test(t, test_close_tells_every_call);
    suite_add_tcase(s, t);
    runner = srunner_create(s);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
