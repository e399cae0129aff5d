/* test_read.c: reads against two clocks, versions within an entry, random writes replayed. */
#include "suites.h"

#include "base/mem.h"
#include "base/util.h"
#include "harness.h"

#include <stdio.h>

static void read_with(struct harness *h, struct hf_read_ctx *cx, const char *name, const char *key,
                      struct hf_reply *out)
{
    struct hf_slice at[2] = {hf_slice_str(name), hf_slice_str(key)};
    struct hf_args args = {.at = at, .n = key[0] != '\0' ? 2 : 1};
    const struct hf_command *cmd = hf_command_find(at[0]);

    cx->store = h->store;
    cx->needs_tick = false;
    out->buf.len = 0;
    cmd->read(cx, &args, out);
}

/* Judging by log time only (clock_ms 0) must never ask for a tick; by a clock past the expiry every read of the key
 * must, and by a clock just before it none may. */
START_TEST(test_key_due_by_the_clock_alone_wants_a_tick)
{
    static const char *const names[] = {"get",         "mget", "exists", "touch",   "type",
                                        "ttl",         "pttl", "strlen", "keys",    "expiretime",
                                        "pexpiretime", "scan", "dbsize", "hf.getv", "randomkey"};
    struct harness h;
    struct hf_reply out = {0};

    harness_open(&h);
    expect(&h, "SET k v PX 100", "OK");
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const char *key = "k";
        struct hf_read_ctx cx = {0};

        if (strcmp(names[i], "scan") == 0)
            key = "0";
        if (strcmp(names[i], "dbsize") == 0 || strcmp(names[i], "randomkey") == 0)
            key = "";
        read_with(&h, &cx, names[i], key, &out);
        ck_assert_msg(!cx.needs_tick, "%s by log time", names[i]);
        cx.clock_ms = HARNESS_EPOCH + 99;
        read_with(&h, &cx, names[i], key, &out);
        ck_assert_msg(!cx.needs_tick, "%s before", names[i]);
        cx.clock_ms = HARNESS_EPOCH + 100;
        read_with(&h, &cx, names[i], key, &out);
        ck_assert_msg(cx.needs_tick, "%s at the expiry", names[i]);
    }
    h.clock_ms += 100;
    harness_tick(&h);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct hf_read_ctx cx = {.clock_ms = h.clock_ms + 1000000};

        read_with(&h, &cx, names[i], strcmp(names[i], "scan") == 0 ? "0" : "k", &out);
        ck_assert_msg(!cx.needs_tick, "%s after the tick", names[i]);
    }
    hf_reply_free(&out);
    harness_close(&h);
}
END_TEST

/* More keys fall due than an entry removes: the rest stay, dead, and must not keep a read asking for ticks. */
START_TEST(test_reads_end_although_dead_keys_remain)
{
    struct harness h;
    struct hf_buf text = {0};
    char line[64];

    harness_open(&h);
    for (int i = 0; i < 50; i++) {
        snprintf(line, sizeof(line), "SET k%d v PX 100", i);
        harness_run_line(&h, line, &text);
    }
    hf_buf_free(&text);
    h.clock_ms += 100;
    expect(&h, "DBSIZE", "(integer) 30\n(after a tick)");
    expect(&h, "DBSIZE", "(integer) 30");
    expect(&h, "RANDOMKEY", "(nil)");
    expect(&h, "KEYS *", "(empty array)");
    expect(&h, "SCAN 0 COUNT 100", "1) \"0\"\n2) (empty array)");
    expect(&h, "EXISTS k1 k2 k49", "(integer) 0");
    harness_tick(&h);
    expect(&h, "DBSIZE", "(integer) 10");
    harness_close(&h);
}
END_TEST

/* TTL never grows when the leader's clock is behind log time, and shows the clock's view when it is ahead. */
START_TEST(test_ttl_counts_from_the_later_of_both_clocks)
{
    struct harness h;
    struct hf_reply out = {0};
    struct hf_read_ctx cx = {.clock_ms = HARNESS_EPOCH - 5000};

    harness_open(&h);
    expect(&h, "SET k v PX 10000", "OK");
    read_with(&h, &cx, "pttl", "k", &out);
    ck_assert_uint_eq(hf_load_u64(out.buf.data + 1), 10000);
    cx.clock_ms = HARNESS_EPOCH + 4000;
    read_with(&h, &cx, "pttl", "k", &out);
    ck_assert_uint_eq(hf_load_u64(out.buf.data + 1), 6000);
    hf_reply_free(&out);
    harness_close(&h);
}
END_TEST

START_TEST(test_lookups_are_counted)
{
    struct harness h;
    struct hf_reply out = {0};
    struct hf_read_ctx cx = {0};

    harness_open(&h);
    expect(&h, "SET k v", "OK");
    read_with(&h, &cx, "get", "k", &out);
    read_with(&h, &cx, "exists", "k", &out);
    read_with(&h, &cx, "get", "absent", &out);
    ck_assert_uint_eq(cx.hits, 2);
    ck_assert_uint_eq(cx.misses, 1);
    hf_reply_free(&out);
    harness_close(&h);
}
END_TEST

/* Two writes of one key in one entry get two versions: else a CAS on the first would destroy the second. */
START_TEST(test_writes_of_one_entry_have_their_own_versions)
{
    static const char *const lines[] = {"SET a 1", "SET a 2", "SET b 3", "HF.CAS a VALUE 2 4"};
    struct harness h;
    char wanted[128];

    harness_open(&h);
    harness_entry(&h, lines, 4);
    snprintf(wanted, sizeof(wanted), "1) \"4\"\n2) (integer) %lld", 2ll << 16 | 3);
    expect(&h, "HF.GETV a", wanted);
    snprintf(wanted, sizeof(wanted), "1) \"3\"\n2) (integer) %lld", 2ll << 16 | 2);
    expect(&h, "HF.GETV b", wanted);
    snprintf(wanted, sizeof(wanted), "HF.CAS a VERSION %lld x", 2ll << 16 | 1);
    expect(&h, wanted, "(nil)");
    snprintf(wanted, sizeof(wanted), "HF.CAS a VERSION %lld x", 2ll << 16 | 3);
    expect(&h, wanted, "(integer) 262144");
    harness_check_replay(&h);
    harness_close(&h);
}
END_TEST

/* Values that hold every byte, and keys that are empty, come back as they went in. */
START_TEST(test_bytes_come_back_unchanged)
{
    struct harness h;
    uint8_t bytes[512];
    struct hf_slice set[3], get[2] = {hf_slice_str("get"), {0}};
    struct hf_args set_args = {.at = set, .n = 3}, get_args = {.at = get, .n = 2};

    harness_open(&h);
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)i;
    for (size_t n = 0; n <= sizeof(bytes); n += 16) {
        struct hf_slice reply;

        set[0] = hf_slice_str("set");
        set[1] = get[1] = hf_slice(bytes, n);
        set[2] = hf_slice(bytes, sizeof(bytes) - n);
        (void)harness_run(&h, &set_args);
        reply = harness_run(&h, &get_args);
        ck_assert_uint_eq(reply.ptr[0], HF_REPLY_BULK);
        ck_assert_uint_eq(hf_load_u32(reply.ptr + 1), sizeof(bytes) - n);
        ck_assert_mem_eq(reply.ptr + 5, bytes, sizeof(bytes) - n);
    }
    harness_check_replay(&h);
    harness_close(&h);
}
END_TEST

/* 512 MiB of zeroes in one command: the largest value there may be, and one byte more. */
START_TEST(test_value_at_the_size_limit)
{
    struct harness h;

    harness_open(&h);
    expect(&h, "SET a x", "OK");
    expect(&h, "SETRANGE a 536870911 yz", "(error) ERR string exceeds maximum allowed size (proto-max-bulk-len)");
    expect(&h, "STRLEN a", "(integer) 1");
    harness_close(&h);
}
END_TEST

static void random_line(struct hf_prng *p, char *line, size_t size)
{
    static const char *const forms[] = {
        "SET k%d v%d",           "SET k%d %d PX 50",       "SET k%d v%d NX GET",
        "SET k%d %d XX KEEPTTL", "SET k%d v%d IFEQ v1",    "GETSET k%d v%d",
        "APPEND k%d %d",         "SETRANGE k%d %d ab",     "INCRBY k%d %d",
        "DECRBY k%d %d",         "INCRBYFLOAT k%d %d.25",  "PEXPIRE k%d %d",
        "PEXPIRE k%d %d LT",     "EXPIRE k%d -%d",         "RENAME k%d k%d",
        "RENAMENX k%d k%d",      "COPY k%d k%d",           "COPY k%d k%d REPLACE",
        "DEL k%d k%d",           "MSET k%d a k%d b",       "MSETNX k%d a k%d b",
        "GETEX k%d PX %d",       "HF.CAS k%d VALUE v%d w", "HF.CAS k%d VERSION %d w",
        "SETNX k%d v%d",         "PSETEX k%d 3%d v",
    };
    size_t f = hf_prng_below(p, sizeof(forms) / sizeof(forms[0]) + 3);
    int a = (int)hf_prng_below(p, 12), b = (int)hf_prng_below(p, 12);

    if (f == sizeof(forms) / sizeof(forms[0]))
        snprintf(line, size, "GETDEL k%d", a);
    else if (f == sizeof(forms) / sizeof(forms[0]) + 1)
        snprintf(line, size, "PERSIST k%d", a);
    else if (f > sizeof(forms) / sizeof(forms[0]) + 1)
        snprintf(line, size, hf_prng_below(p, 50) == 0 ? "FLUSHALL" : "INCR n%d", a);
    else {
        char form[64];

        /* The forms are constants of this file, copied so that the compiler need not see them as such. */
        snprintf(form, sizeof(form), "%s", forms[f]);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(line, size, form, a, b);
#pragma GCC diagnostic pop
    }
}

/* Whatever is written, a second node that applies the same log has the same state, and it can be read. */
START_TEST(test_random_writes_replay_to_the_same_state)
{
    struct harness h;
    struct hf_prng p;
    struct hf_buf text = {0};
    char line[96];

    hf_prng_seed(&p, (uint64_t)_i);
    harness_open(&h);
    for (int i = 0; i < 1500; i++) {
        h.clock_ms += (int64_t)hf_prng_below(&p, 10);
        random_line(&p, line, sizeof(line));
        harness_run_line(&h, line, &text);
        if (i % 10 == 0)
            harness_run_line(&h, "SCAN 0 COUNT 1000", &text);
    }
    harness_check_replay(&h);
    hf_buf_free(&text);
    harness_close(&h);
}
END_TEST

Suite *suite_read(void)
{
    Suite *s = suite_create("read");
    TCase *tc = tcase_create("read");

    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, test_key_due_by_the_clock_alone_wants_a_tick);
    tcase_add_test(tc, test_reads_end_although_dead_keys_remain);
    tcase_add_test(tc, test_ttl_counts_from_the_later_of_both_clocks);
    tcase_add_test(tc, test_lookups_are_counted);
    tcase_add_test(tc, test_writes_of_one_entry_have_their_own_versions);
    tcase_add_test(tc, test_bytes_come_back_unchanged);
    tcase_add_test(tc, test_value_at_the_size_limit);
    tcase_add_loop_test(tc, test_random_writes_replay_to_the_same_state, 0, 10);
    suite_add_tcase(s, tc);
    return s;
}
