/* test_operate.c: operators' requests in a lane: their place among other commands, who answers them and when. */
#include "fixture.h"

/* What was asked for, in order; the test answers, or the op itself at once. */
static struct hf_operation *operations[16];
static uint32_t n_operations;
static bool answers_at_once;

static void answer_operation(struct hf_operation *op, const char *text)
{
    hf_reply_status(&op->reply, text);
    hf_operation_done(op);
}

static void on_config_set(void *data, struct hf_operation *op, const struct hf_slice *names,
                          const struct hf_slice *values, uint32_t n)
{
    (void)data;
    (void)names;
    (void)values;
    ck_assert_uint_eq(n, 1);
    operations[n_operations++] = op;
    if (answers_at_once)
        answer_operation(op, "at once");
}

static const struct hf_operator_ops operator_ops = {.config_set = on_config_set};

static void begin_operating(void)
{
    n_operations = 0;
    answers_at_once = false;
    begin_ops = &operator_ops;
    begin();
}

/* Operators' requests go to the node at once, without a leader, one at a time in the lane's order. */
START_TEST(test_operations_run_here_one_at_a_time)
{
    struct hf_lane *lane;
    struct request *a, *b, *r;

    begin_operating();
    role(HF_ROLE_CANDIDATE, 1, 0);
    lane = hf_lane_open(d);
    a = submit(lane, "config set x 1");
    b = submit(lane, "config set x 2");
    r = submit(lane, "get a");
    test_env_turn(&te);
    ck_assert_uint_eq(n_operations, 1);
    ck_assert_int_eq(a->calls, 0);
    answer_operation(operations[0], "first");
    ck_assert_int_eq(a->calls, 0); /* never from inside */
    test_env_turn(&te);
    check_done(a, "first");
    ck_assert_uint_eq(n_operations, 2);
    role(HF_ROLE_LEADER, 2, 1);
    settle();
    ck_assert_int_eq(r->calls, 0); /* behind the second */
    answer_operation(operations[1], "second");
    settle();
    ck_assert_uint_lt(b->order, r->order);
    check_done(b, "second");
    check_done(r, "read");
    hf_lane_close(lane, release);
    finish();
}
END_TEST

/* What is in flight comes first, whatever it is. */
START_TEST(test_operation_waits_for_what_is_in_flight)
{
    struct hf_lane *lane;
    struct request *w, *o;

    begin_operating();
    role(HF_ROLE_LEADER, 1, 1);
    lane = hf_lane_open(d);
    w = submit(lane, "set a 1");
    o = submit(lane, "config set x 1");
    test_env_turn(&te);
    ck_assert_uint_eq(n_operations, 0);
    commit_all();
    check_done(w, "1.0");
    ck_assert_uint_eq(n_operations, 1);
    answer_operation(operations[0], "done");
    test_env_turn(&te);
    check_done(o, "done");
    hf_lane_close(lane, release);
    finish();
}
END_TEST

/* An answer from inside the request, and the lane goes on: also into waiting for a leader. */
START_TEST(test_operation_answered_at_once)
{
    struct hf_lane *lane;
    struct request *r[4];

    begin_operating();
    answers_at_once = true;
    role(HF_ROLE_CANDIDATE, 1, 0);
    lane = hf_lane_open(d);
    r[0] = submit(lane, "config set x 1");
    r[1] = submit(lane, "config set x 2");
    r[2] = submit(lane, "set a 1");
    r[3] = submit(lane, "config set x 3 4"); /* its own words are wrong: never asked for */
    ck_assert_int_eq(r[0]->calls, 0);
    test_env_turn(&te);
    check_done(r[0], "at once");
    check_done(r[1], "at once");
    ck_assert_uint_eq(n_operations, 2);
    ck_assert_int_eq(r[2]->calls, 0);
    role(HF_ROLE_LEADER, 2, 1);
    settle();
    check_done(r[2], "1.0");
    check_prefix(r[3], "ERR syntax error");
    ck_assert_uint_eq(n_operations, 2);
    hf_lane_close(lane, release);
    finish();
}
END_TEST

/* The client is gone: its request runs to its end, and nobody hears of it. */
START_TEST(test_operation_of_a_closed_lane)
{
    struct hf_lane *lane;

    begin_operating();
    lane = hf_lane_open(d);
    submit(lane, "config set x 1");
    submit(lane, "config set x 2");
    test_env_turn(&te);
    hf_lane_close(lane, release);
    test_env_turn(&te);
    ck_assert_uint_eq(n_released, 1); /* the one that never started */
    ck_assert_uint_eq(n_operations, 1);
    answer_operation(operations[0], "late");
    test_env_turn(&te);
    ck_assert_uint_eq(n_released, 2);
    ck_assert_uint_eq(n_operations, 1);
    finish();
}
END_TEST

START_TEST(test_no_operations_without_an_operator_or_while_stopping)
{
    struct hf_lane *lane;
    struct request *r;

    begin_ops = NULL;
    begin();
    lane = hf_lane_open(d);
    r = submit(lane, "config set x 1");
    test_env_turn(&te);
    check_prefix(r, "ERR ");
    hf_lane_close(lane, release);
    finish();

    begin_operating();
    lane = hf_lane_open(d);
    hf_dispatcher_stop(d);
    r = submit(lane, "config set x 1");
    test_env_turn(&te);
    check_prefix(r, "NOLEADER This node is shutting down");
    ck_assert_uint_eq(n_operations, 0);
    hf_lane_close(lane, release);
    finish();
}
END_TEST

TCase *operate_case(void)
{
    TCase *t = tcase_create("operate");

    tcase_add_test(t, test_operations_run_here_one_at_a_time);
    tcase_add_test(t, test_operation_waits_for_what_is_in_flight);
    tcase_add_test(t, test_operation_answered_at_once);
    tcase_add_test(t, test_operation_of_a_closed_lane);
    tcase_add_test(t, test_no_operations_without_an_operator_or_while_stopping);
    return t;
}
