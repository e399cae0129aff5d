/* test_net.c: connections from the first byte to the last answer: order, framing, limits, endings. */
#include "fake.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/util.h"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static uint64_t count(struct fake *f, const char *name)
{
    return hf_counter_get(hf_stats_counter(f->stats, name, NULL, ""));
}

/* ---- order and framing --------------------------------------------------------------------------- */

START_TEST(test_answers_keep_the_order_of_the_requests)
{
    struct fake *f = fake_new();
    struct fake_client *c;

    fake_open(f);
    c = fake_connect(f);
    fake_send(c, "GET a\r\nPING\r\nGET b\r\nECHO x\r\nnonsense\r\nGET c\r\n");
    fake_turn(f);
    fake_expect(c, "");
    ck_assert_uint_eq(fake_pending(f), 3);
    fake_answer(f, 1); /* b, before a */
    fake_turn(f);
    fake_expect(c, "");
    fake_answer(f, 0);
    fake_turn(f);
    fake_expect(c, "$3\r\nv:a\r\n+PONG\r\n$3\r\nv:b\r\n$1\r\nx\r\n-ERR unknown command\r\n");
    fake_answer(f, 0);
    fake_turn(f);
    fake_expect(c, "$3\r\nv:c\r\n");
    fake_free(f);
}
END_TEST

START_TEST(test_the_answers_of_a_turn_are_one_write)
{
    struct fake *f = fake_new();
    struct fake_client *c;

    fake_open(f);
    c = fake_connect(f);
    for (int i = 0; i < 16; i++)
        fake_send(c, "*2\r\n$3\r\nGET\r\n$1\r\na\r\n");
    fake_answer_all(f);
    ck_assert_uint_eq(c->n_writes, 1);
    ck_assert_uint_eq(c->received.len, 16 * 9);
    fake_free(f);
}
END_TEST

START_TEST(test_single_bytes_make_the_same_commands)
{
    const char *text = "*2\r\n$4\r\nECHO\r\n$5\r\nhello\r\nPING\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$4\r\n\r\n\r\n\r\n";
    struct fake *f = fake_new();
    struct fake_client *c;

    fake_open(f);
    c = fake_connect(f);
    for (size_t i = 0; i < strlen(text); i++) {
        fake_send_bytes(c, text + i, 1);
        fake_turn(f);
    }
    fake_answer_all(f);
    fake_expect(c, "$5\r\nhello\r\n+PONG\r\n+OK\r\n");
    ck_assert_uint_eq(count(f, "commands_processed_total"), 3);
    ck_assert_uint_eq(count(f, HF_METRIC_INPUT_BYTES), strlen(text));
    ck_assert_uint_eq(count(f, HF_METRIC_OUTPUT_BYTES), 11 + 7 + 5);
    fake_free(f);
}
END_TEST

START_TEST(test_hello_changes_the_protocol_of_later_answers_only)
{
    struct fake *f = fake_new();
    struct fake_client *c;

    fake_open(f);
    c = fake_connect(f);
    fake_send(c, "GET no1\r\nNIL\r\nHELLO 3\r\nNIL\r\nGET no2\r\n");
    fake_turn(f);
    ck_assert_uint_eq(fake_pending(f), 1); /* HELLO waits, and what stands behind it */
    fake_answer_all(f);
    fake_expect(c, "$-1\r\n$-1\r\n%1\r\n$5\r\nproto\r\n:3\r\n_\r\n_\r\n");
    fake_send(c, "HELLO 2\r\nNIL\r\n");
    fake_turn(f);
    fake_expect(c, "*2\r\n$5\r\nproto\r\n:2\r\n$-1\r\n");
    fake_free(f);
}
END_TEST

START_TEST(test_reply_modes_silence_the_right_answers)
{
    struct fake *f = fake_new();
    struct fake_client *c;

    fake_open(f);
    c = fake_connect(f);
    fake_send(c, "REPLY SKIP\r\nGET a\r\nGET b\r\nREPLY SKIP\r\nPING\r\nPING\r\n");
    fake_answer_all(f);
    fake_expect(c, "$3\r\nv:b\r\n+PONG\r\n");
    fake_send(c, "GET a\r\nREPLY OFF\r\nGET b\r\nPING\r\nnonsense\r\nREPLY ON\r\nGET c\r\n");
    fake_answer_all(f);
    fake_expect(c, "$3\r\nv:a\r\n+OK\r\n$3\r\nv:c\r\n");
    fake_send(c, "REPLY SKIP\r\nREPLY SKIP\r\nPING\r\nECHO x\r\n");
    fake_turn(f);
    fake_expect(c, "$1\r\nx\r\n");
    fake_free(f);
}
END_TEST

START_TEST(test_a_large_value_arrives_whole)
{
    size_t n = 1 << 20;
    struct hf_buf in = {NULL, 0, 0};
    struct fake *f = fake_new();
    struct fake_client *c;

    f->config.output_bytes_max = 8 << 20;
    f->config.output_soft_bytes = 4 << 20;
    fake_open(f);
    c = fake_connect(f);
    hf_buf_printf(&in, "*2\r\n$4\r\nECHO\r\n$%zu\r\n", n);
    for (size_t i = 0; i < n; i++)
        hf_buf_put_u8(&in, (uint8_t)(i * 7 + i / 251));
    hf_buf_printf(&in, "\r\nPING\r\n");
    for (size_t at = 0; at < in.len; at += 30011)
        fake_send_bytes(c, in.data + at, in.len - at < 30011 ? in.len - at : 30011);
    fake_turn(f);
    ck_assert_uint_eq(c->received.len, strlen("$1048576\r\n") + n + 2 + 7);
    ck_assert_mem_eq(c->received.data + 10, in.data + in.len - n - 8, n);
    hf_buf_free(&in);
    fake_free(f);
}
END_TEST

/* ---- endings ------------------------------------------------------------------------------------- */

START_TEST(test_malformed_input_is_answered_in_turn_and_ends_the_connection)
{
    struct fake *f = fake_new();
    struct fake_client *c, *other;

    fake_open(f);
    c = fake_connect(f);
    other = fake_connect(f);
    fake_send(c, "GET a\r\n*1\r\n:1\r\nPING\r\n");
    fake_turn(f);
    ck_assert(!c->is_closing);
    fake_expect(c, "");
    fake_send(c, "PING\r\n"); /* goes nowhere */
    fake_answer_all(f);
    fake_expect(c, "$3\r\nv:a\r\n-ERR Protocol error: expected '$', got ':'\r\n");
    ck_assert(c->is_closed);
    ck_assert_uint_eq(count(f, "protocol_errors_total"), 1);
    ck_assert_uint_eq(count(f, "error_replies_total"), 1);
    fake_send(other, "PING\r\n");
    fake_turn(f);
    fake_expect(other, "+PONG\r\n");
    fake_free(f);
}
END_TEST

START_TEST(test_an_oversize_bulk_is_refused_by_its_length_line)
{
    struct fake *f = fake_new();
    struct fake_client *c;

    fake_open(f);
    c = fake_connect(f);
    fake_send(c, "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1048577\r\n");
    fake_turn(f);
    fake_expect(c, "-ERR Protocol error: invalid bulk length\r\n");
    ck_assert(c->is_closed);

    /* The limit may be changed while the server runs. */
    hf_net_config_live(f->net)->limits.bulk_bytes_max = 10;
    c = fake_connect(f);
    fake_send(c, "ECHO 0123456789\r\n*2\r\n$4\r\nECHO\r\n$11\r\n");
    fake_turn(f);
    fake_expect(c, "$10\r\n0123456789\r\n-ERR Protocol error: invalid bulk length\r\n");
    fake_free(f);
}
END_TEST

START_TEST(test_quit_answers_everything_before_it_and_nothing_after)
{
    struct fake *f = fake_new();
    struct fake_client *c;

    fake_open(f);
    c = fake_connect(f);
    fake_send(c, "GET a\r\nQUIT\r\nGET b\r\n");
    fake_turn(f);
    ck_assert_uint_eq(fake_pending(f), 1);
    ck_assert(!c->is_closing);
    fake_answer_all(f);
    fake_expect(c, "$3\r\nv:a\r\n+OK\r\n");
    ck_assert(c->is_closed);
    ck_assert_uint_eq(hf_net_clients(f->net), 0);
    fake_free(f);
}
END_TEST

START_TEST(test_a_client_that_leaves_hands_its_commands_to_the_lane)
{
    struct fake *f = fake_new();
    struct fake_client *c;

    fake_open(f);
    c = fake_connect(f);
    fake_send(c, "GET a\r\nPING\r\nGET b\r\nGET c\r\n*1\r\n$10\r\nhalf");
    fake_turn(f);
    fake_answer(f, 1); /* an answer that waits for its turn */
    fake_hang_up(c);
    ck_assert_uint_eq(fake_pending(f), 0);
    ck_assert_uint_eq(f->n_orphans, 1);
    ck_assert_uint_eq(f->n_released, 1);
    fake_turn(f);
    ck_assert_uint_eq(hf_net_clients(f->net), 0);
    fake_free(f); /* the orphan is released after net is gone */
}
END_TEST

START_TEST(test_closing_net_flushes_and_waits_for_the_last_stream)
{
    struct fake *f = fake_new();
    struct fake_client *c, *late;

    fake_open(f);
    c = fake_connect(f);
    late = fake_connect(f);
    fake_send(c, "PING\r\n"); /* encoded, not yet written when net closes */
    fake_send(late, "GET a\r\n");
    hf_net_stop_accepting(f->net);
    ck_assert(!f->is_listening);
    fake_free(f);
}
END_TEST

START_TEST(test_closing_net_sends_what_is_encoded)
{
    struct fake *f = fake_new();
    struct fake_client *c;

    fake_open(f);
    c = fake_connect(f);
    fake_send(c, "PING\r\n");
    hf_net_close(f->net, NULL, NULL);
    fake_turn(f);
    f->net = NULL;
    ck_assert(c->is_closed);
    fake_expect(c, "+PONG\r\n");
    fake_free(f);
}
END_TEST

START_TEST(test_a_command_may_close_net_under_its_own_connection)
{
    struct fake *f = fake_new();
    struct fake_client *c, *other;

    fake_open(f);
    c = fake_connect(f);
    other = fake_connect(f);
    fake_send(other, "GET a\r\nPING\r\n*2\r\n$4\r\nha");
    fake_send(c, "PING\r\n*1\r\n$8\r\nSHUT");
    fake_send(c, "DOWN\r\nPING\r\nGET a\r\n*1\r\n$4\r\nha");
    fake_turn(f);
    ck_assert(c->is_closed);
    ck_assert(other->is_closed);
    fake_expect(c, "+PONG\r\n");
    fake_free(f);
}
END_TEST

START_TEST(test_kill_closes_another_client_and_oneself_after_the_answer)
{
    struct fake *f = fake_new();
    struct fake_client *a, *b;

    fake_open(f);
    a = fake_connect(f);
    b = fake_connect(f);
    fake_send(b, "GET x\r\n");
    fake_send(a, "KILL 2\r\nKILL 7\r\nKILL 1\r\nPING\r\n");
    fake_turn(f);
    ck_assert(b->is_closed);
    ck_assert(a->is_closed);
    fake_expect(a, ":1\r\n:0\r\n:1\r\n");
    fake_expect(b, "");
    fake_free(f);
}
END_TEST

START_TEST(test_idle_clients_are_closed_but_not_waiting_ones)
{
    struct fake *f = fake_new();
    struct fake_client *idle, *busy, *waiting;

    f->config.idle_timeout_ms = 5000;
    fake_open(f);
    idle = fake_connect(f);
    busy = fake_connect(f);
    waiting = fake_connect(f);
    fake_send(waiting, "GET a\r\n");
    for (int i = 0; i < 7; i++) {
        fake_send(busy, "PING\r\n");
        fake_advance(f, 1000);
    }
    ck_assert(idle->is_closed);
    ck_assert(!busy->is_closed);
    ck_assert(!waiting->is_closed);
    fake_free(f);
}
END_TEST

/* ---- limits -------------------------------------------------------------------------------------- */

START_TEST(test_one_client_too_many_is_told_so)
{
    struct fake *f = fake_new();
    struct fake_client *c[3];

    f->config.clients_max = 2;
    fake_open(f);
    for (int i = 0; i < 3; i++)
        c[i] = fake_connect(f);
    fake_turn(f);
    fake_expect(c[2], "-ERR max number of clients reached\r\n");
    ck_assert(c[2]->is_closed);
    ck_assert_uint_eq(hf_net_clients(f->net), 2);
    ck_assert_uint_eq(count(f, HF_METRIC_REJECTED), 1);
    ck_assert_uint_eq(count(f, HF_METRIC_CONNECTIONS), 2);
    fake_hang_up(c[0]);
    c[0] = fake_connect(f);
    fake_send(c[0], "PING\r\n");
    fake_turn(f);
    fake_expect(c[0], "+PONG\r\n");
    fake_free(f);
}
END_TEST

START_TEST(test_without_auth_only_some_commands_run)
{
    struct fake *f = fake_new();
    struct fake_client *c;

    f->needs_auth = true;
    fake_open(f);
    c = fake_connect(f);
    fake_send(c, "PING\r\nGET a\r\nHELLO 2\r\nAUTH x\r\nPING\r\n");
    fake_turn(f);
    fake_expect(c, "-NOAUTH Authentication required.\r\n-NOAUTH Authentication required.\r\n"
                   "*2\r\n$5\r\nproto\r\n:2\r\n+OK\r\n+PONG\r\n");
    ck_assert_uint_eq(fake_pending(f), 0);
    fake_free(f);
}
END_TEST

START_TEST(test_a_full_pipeline_stops_reading_until_answers_come)
{
    struct fake *f = fake_new();
    struct fake_client *c;

    f->config.pipeline_max = 4;
    fake_open(f);
    c = fake_connect(f);
    for (int i = 0; i < 10; i++)
        fake_send(c, "GET a\r\n");
    ck_assert_uint_eq(fake_pending(f), 4);
    ck_assert(c->is_stopped);
    fake_answer(f, 0);
    fake_turn(f);
    ck_assert_uint_eq(fake_pending(f), 4);
    fake_answer_all(f);
    ck_assert(!c->is_stopped);
    ck_assert_uint_eq(c->received.len, 10 * 9);
    fake_free(f);
}
END_TEST

START_TEST(test_a_full_lane_stops_reading_until_it_is_ready)
{
    struct fake *f = fake_new();
    struct fake_client *c;

    f->lane_max = 3;
    fake_open(f);
    c = fake_connect(f);
    fake_send(c, "GET a\r\nGET b\r\nGET c\r\nGET d\r\nPING\r\n");
    ck_assert_uint_eq(fake_pending(f), 3);
    ck_assert(c->is_stopped);
    fake_answer_all(f);
    ck_assert(!c->is_stopped);
    fake_expect(c, "$3\r\nv:a\r\n$3\r\nv:b\r\n$3\r\nv:c\r\n$3\r\nv:d\r\n+PONG\r\n");
    fake_free(f);
}
END_TEST

START_TEST(test_a_client_that_reads_slowly_is_not_read_from)
{
    struct fake *f = fake_new();
    struct fake_client *c;

    fake_open(f);
    c = fake_connect(f);
    c->window = 0;
    fake_send(c, "BIG 20000\r\n");
    fake_answer_all(f);
    fake_send(c, "PING\r\n"); /* one command may come before the limit is seen to be passed */
    fake_send(c, "ECHO x\r\nECHO y\r\n");
    fake_turn(f);
    ck_assert(c->is_stopped);
    fake_read_on(c, SIZE_MAX);
    fake_turn(f);
    ck_assert(!c->is_stopped);
    ck_assert_uint_eq(c->received.len, 8 + 20000 + 2 + 7 + 7 + 7);
    fake_free(f);
}
END_TEST

START_TEST(test_a_client_that_does_not_read_is_closed_at_the_limit)
{
    struct fake *f = fake_new();
    struct fake_client *c, *other;

    fake_open(f);
    c = fake_connect(f);
    other = fake_connect(f);
    c->window = 10;
    /* One in flight already, so that the others' answers have to wait for it. */
    fake_send(c, "GET a\r\nBIG 40000\r\nBIG 40000\r\nBIG 40000\r\n");
    fake_answer(f, 1);
    fake_answer(f, 1);
    fake_turn(f);
    ck_assert(!c->is_closing);
    fake_answer(f, 1);
    fake_turn(f);
    ck_assert(c->is_closed);
    ck_assert_uint_eq(count(f, "client_output_limit_disconnections_total"), 1);
    fake_send(other, "PING\r\n");
    fake_turn(f);
    fake_expect(other, "+PONG\r\n");
    fake_free(f);
}
END_TEST

START_TEST(test_an_address_in_use_is_an_error)
{
    struct fake *f = fake_new();

    f->config.address = "127.0.0.1:1";
    ck_assert_int_eq(hf_net_open(&f->env, &f->config, NULL, &f->ops, f->stats, &f->net), HF_E_ADDRINUSE);
    ck_assert_ptr_null(f->net);
    fake_free(f);
}
END_TEST

/* ---- everything at once -------------------------------------------------------------------------- */

/* One random request and the answer it must get. Returns what stands in the way of nothing: each command's answer
 * depends on the commands before it only through the protocol. */
static void put_random_command(struct hf_prng *rng, int *protocol, struct hf_buf *in, struct hf_buf *expected)
{
    unsigned n = (unsigned)hf_prng_below(rng, 1000);
    char word[16];

    snprintf(word, sizeof word, "%u", n);
    switch (hf_prng_below(rng, 12)) {
    case 0:
        hf_buf_printf(in, "PING\r\n");
        hf_buf_printf(expected, "+PONG\r\n");
        break;
    case 1:
        hf_buf_printf(in, "*2\r\n$4\r\nECHO\r\n$%zu\r\n%s\r\n", strlen(word), word);
        hf_buf_printf(expected, "$%zu\r\n%s\r\n", strlen(word), word);
        break;
    case 2:
        hf_buf_printf(in, "NIL\r\n\r\n*0\r\n");
        hf_buf_printf(expected, *protocol == 3 ? "_\r\n" : "$-1\r\n");
        break;
    case 3:
        *protocol = n % 2 == 0 ? 2 : 3;
        hf_buf_printf(in, "HELLO %d\r\n", *protocol);
        hf_buf_printf(expected, "%s\r\n$5\r\nproto\r\n:%d\r\n", *protocol == 3 ? "%1" : "*2", *protocol);
        break;
    case 4:
        hf_buf_printf(in, "nonsense %u\r\n", n);
        hf_buf_printf(expected, "-ERR unknown command\r\n");
        break;
    case 5:
        hf_buf_printf(in, "BIG %u\r\n", n);
        hf_buf_printf(expected, "$%u\r\n", n);
        memset(hf_buf_reserve(expected, n), 'x', n);
        expected->len += n;
        hf_buf_printf(expected, "\r\n");
        break;
    case 6:
        hf_buf_printf(in, "GET no%u\r\n", n);
        hf_buf_printf(expected, *protocol == 3 ? "_\r\n" : "$-1\r\n");
        break;
    case 7:
        hf_buf_printf(in, "REPLY SKIP\r\nGET %u\r\n", n);
        break;
    case 8:
        hf_buf_printf(in, "*3\r\n$3\r\nSET\r\n$%zu\r\n%s\r\n$600\r\n%600u\r\n", strlen(word), word, n);
        hf_buf_printf(expected, "+OK\r\n");
        break;
    default:
        hf_buf_printf(in, "*2\r\n$3\r\nGET\r\n$%zu\r\n%s\r\n", strlen(word), word);
        hf_buf_printf(expected, "$%zu\r\nv:%s\r\n", strlen(word) + 2, word);
        break;
    }
}

START_TEST(test_random_pipelines_get_their_answers_in_order)
{
    struct hf_buf in[3] = {{NULL, 0, 0}}, expected[3] = {{NULL, 0, 0}};
    struct fake_client *c[3];
    size_t sent[3];
    struct hf_prng rng;

    for (uint64_t seed = 1; seed <= 400; seed++) {
        struct fake *f = fake_new();
        bool is_done = false;

        hf_prng_seed(&rng, seed);
        f->config.pipeline_max = 1 + (uint32_t)hf_prng_below(&rng, 20);
        f->config.output_soft_bytes = 1 + hf_prng_below(&rng, 3000);
        f->lane_max = 1 + hf_prng_below(&rng, 20);
        fake_open(f);
        for (int i = 0; i < 3; i++) {
            int protocol = 2;

            in[i].len = expected[i].len = sent[i] = 0;
            for (uint64_t n = hf_prng_below(&rng, 60); n != 0; n--)
                put_random_command(&rng, &protocol, &in[i], &expected[i]);
            c[i] = fake_connect(f);
            c[i]->window = hf_prng_below(&rng, 2000);
        }
        for (int round = 0; !is_done; round++) {
            int i = (int)hf_prng_below(&rng, 3);
            size_t n = hf_prng_below(&rng, 500), left = in[i].len - sent[i];

            ck_assert_msg(round < 100000, "seed %" PRIu64 ": it hangs", seed);
            switch (hf_prng_below(&rng, 4)) {
            case 0:
                n = n < left ? n : left;
                fake_send_bytes(c[i], in[i].data + sent[i], n);
                sent[i] += n;
                break;
            case 1:
                if (fake_pending(f) != 0)
                    fake_answer(f, (unsigned)hf_prng_below(&rng, fake_pending(f)));
                break;
            case 2:
                fake_turn(f);
                break;
            default:
                fake_read_on(c[i], n);
                break;
            }
            is_done = true;
            for (i = 0; i < 3; i++) {
                if (c[i]->received.len != expected[i].len || sent[i] != in[i].len)
                    is_done = false;
                ck_assert_msg(c[i]->received.len <= expected[i].len, "seed %" PRIu64, seed);
            }
        }
        for (int i = 0; i < 3; i++) {
            ck_assert_msg(hf_slice_eq(hf_buf_slice(&c[i]->received), hf_buf_slice(&expected[i])), "seed %" PRIu64,
                          seed);
        }
        fake_free(f);
    }
    for (int i = 0; i < 3; i++) {
        hf_buf_free(&in[i]);
        hf_buf_free(&expected[i]);
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        test_answers_keep_the_order_of_the_requests,
        test_the_answers_of_a_turn_are_one_write,
        test_single_bytes_make_the_same_commands,
        test_hello_changes_the_protocol_of_later_answers_only,
        test_reply_modes_silence_the_right_answers,
        test_a_large_value_arrives_whole,
        test_malformed_input_is_answered_in_turn_and_ends_the_connection,
        test_an_oversize_bulk_is_refused_by_its_length_line,
        test_quit_answers_everything_before_it_and_nothing_after,
        test_a_client_that_leaves_hands_its_commands_to_the_lane,
        test_closing_net_flushes_and_waits_for_the_last_stream,
        test_closing_net_sends_what_is_encoded,
        test_a_command_may_close_net_under_its_own_connection,
        test_kill_closes_another_client_and_oneself_after_the_answer,
        test_idle_clients_are_closed_but_not_waiting_ones,
        test_one_client_too_many_is_told_so,
        test_without_auth_only_some_commands_run,
        test_a_full_pipeline_stops_reading_until_answers_come,
        test_a_full_lane_stops_reading_until_it_is_ready,
        test_a_client_that_reads_slowly_is_not_read_from,
        test_a_client_that_does_not_read_is_closed_at_the_limit,
        test_an_address_in_use_is_an_error,
        test_random_pipelines_get_their_answers_in_order,
    };
    Suite *suite = suite_create("net");
    TCase *t = tcase_create("net");
    SRunner *runner;
    int failed;

    hf_log_silence(true);
    tcase_set_timeout(t, 100);
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        tcase_add_test(t, tests[i]);
    suite_add_tcase(suite, t);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
