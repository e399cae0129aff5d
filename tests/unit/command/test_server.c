/* test_server.c: INFO, the figures of commands, the lists of clients, and what local commands do to the node. */
#include "suites.h"

#include "base/mem.h"
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>

static char *run(struct harness *h, const char *line)
{
    struct hf_buf text = {0};

    harness_run_line(h, line, &text);
    return (char *)text.data;
}

static void check_has(const char *text, const char *wanted, bool has)
{
    ck_assert_msg((strstr(text, wanted) != NULL) == has, "%s \"%s\" in: %s", has ? "no" : "a", wanted, text);
}

START_TEST(test_info_without_arguments_has_what_tools_parse)
{
    static const char *const fields[] = {
        "# Server\r\n",
        "redis_version:7.2.5\r\n",
        "holdfast_version:",
        "redis_mode:standalone\r\n",
        "arch_bits:64\r\n",
        "process_id:4711\r\n",
        "tcp_port:7379\r\n",
        "uptime_in_seconds:90061\r\n",
        "uptime_in_days:1\r\n",
        "config_file:\r\n",
        "# Clients\r\n",
        "connected_clients:3\r\n",
        "blocked_clients:0\r\n",
        "maxclients:10000\r\n",
        "# Memory\r\n",
        "used_memory:3145728\r\n",
        "used_memory_human:3.00M\r\n",
        "used_memory_peak_human:5.00M\r\n",
        "maxmemory:0\r\n",
        "maxmemory_policy:noeviction\r\n",
        "mem_allocator:",
        "# Persistence\r\n",
        "loading:0\r\n",
        "rdb_changes_since_last_save:",
        "rdb_last_save_time:1700000000\r\n",
        "aof_enabled:1\r\n",
        "# Stats\r\n",
        "total_connections_received:9\r\n",
        "total_commands_processed:0\r\n",
        "instantaneous_ops_per_sec:77\r\n",
        "keyspace_hits:0\r\n",
        "keyspace_misses:0\r\n",
        "expired_keys:0\r\n",
        "total_error_replies:0\r\n",
        "# Replication\r\n",
        "role:master\r\n",
        "connected_slaves:1\r\n",
        "slave0:ip=10.0.0.2,port=7379,state=online,offset=41,lag=1\r\n",
        "master_repl_offset:42\r\n",
        "# CPU\r\n",
        "used_cpu_sys:",
        "used_cpu_user:",
        "# Cluster\r\n",
        "cluster_enabled:0\r\n",
        "# Keyspace\r\n",
        "db0:keys=2,expires=1,avg_ttl=0\r\n",
        "# Store\r\n",
        "store_keys:2\r\n",
        "store_durable_index:",
        "# Raft\r\n",
        "raft_state:leader\r\n",
        "raft_term:5\r\n",
        "raft_leader_id:1\r\n",
        "raft_last_index:42\r\n",
        "raft_commit_index:42\r\n",
        "raft_applied_index:3\r\n",
        "raft_voters:1,2,3\r\n",
        "raft_node_id:1\r\n",
        "raft_peer1:id=3,address=[::1]:17379,role=voter,connected=0,match_index=0,last_contact_ms=-1\r\n",
    };
    struct harness h;
    char *text;

    harness_open(&h);
    hf_counter_add(hf_stats_counter(h.stats, HF_METRIC_CONNECTIONS, NULL, ""), 9);
    hf_gauge_set(hf_stats_gauge(h.stats, HF_METRIC_OPS, NULL, ""), 77);
    expect(&h, "SET a 1", "OK");
    expect(&h, "SET b 1 EX 10", "OK");
    text = run(&h, "INFO");
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        check_has(text, fields[i], true);
    check_has(text, "raft_digest", false);
    check_has(text, "# Commandstats", false);
    check_has(text, "# Latencystats", false);
    check_has(text, "master_host", false);
    hf_free(text);
    harness_close(&h);
}
END_TEST

START_TEST(test_info_sections_are_chosen_by_name)
{
    struct harness h;
    char *text;

    harness_open(&h);
    text = run(&h, "INFO keyspace CLIENTS keyspace");
    check_has(text, "# Clients", true);
    check_has(text, "# Keyspace", true);
    check_has(text, "# Server", false);
    ck_assert_ptr_null(strstr(strstr(text, "# Keyspace") + 1, "# Keyspace"));
    hf_free(text);
    text = run(&h, "INFO nothing");
    ck_assert_str_eq(text, "");
    hf_free(text);
    text = run(&h, "INFO everything");
    check_has(text, "# Commandstats", true);
    check_has(text, "# Latencystats", true);
    check_has(text, "raft_digest", false);
    hf_free(text);
    text = run(&h, "INFO default commandstats");
    check_has(text, "# Server", true);
    check_has(text, "# Commandstats", true);
    check_has(text, "# Latencystats", false);
    hf_free(text);
    harness_close(&h);
}
END_TEST

START_TEST(test_info_raft_by_name_shows_the_digest_of_the_applied_index)
{
    struct harness h;
    char wanted[64], *text, *digest;

    harness_open(&h);
    expect(&h, "SET a 1", "OK");
    text = run(&h, "INFO raft");
    check_has(text, "raft_applied_index:2\r\n", true);
    digest = wanted + snprintf(wanted, sizeof(wanted), "raft_digest:");
    for (size_t i = 0; i < 16; i++)
        digest += sprintf(digest, "%02x", hf_store_meta(h.store)->digest[i]);
    check_has(text, wanted, true);
    hf_free(text);
    text = run(&h, "DEBUG DIGEST");
    ck_assert_str_eq(text, wanted + strlen("raft_digest:"));
    hf_free(text);
    text = run(&h, "info server RAFT");
    check_has(text, "raft_digest:", true);
    hf_free(text);
    harness_close(&h);
}
END_TEST

START_TEST(test_info_of_a_follower)
{
    struct harness h;
    char *text;

    harness_open(&h);
    h.status.role = "follower";
    h.status.leader_client_address = "[fe80::1]:7380";
    text = run(&h, "INFO replication");
    check_has(text, "role:slave\r\n", true);
    check_has(text, "master_host:fe80::1\r\n", true);
    check_has(text, "master_port:7380\r\n", true);
    check_has(text, "master_link_status:up\r\n", true);
    check_has(text, "connected_slaves:0\r\n", true);
    check_has(text, "slave0:", false);
    hf_free(text);
    h.status.leader_client_address = "";
    text = run(&h, "INFO replication");
    check_has(text, "master_link_status:down\r\n", true);
    hf_free(text);
    harness_close(&h);
}
END_TEST

START_TEST(test_command_figures_are_shown)
{
    struct harness h;
    struct hf_command_stats get, list;
    char *text;

    harness_open(&h);
    get = hf_command_stats(h.stats, hf_command_find(hf_slice_str("get"))->id);
    list = hf_command_stats(h.stats, hf_command_find(hf_slice_str("client"))->subcommands[5].id);
    hf_counter_add(get.calls, 4);
    hf_counter_add(get.failed, 1);
    hf_counter_add(list.rejected, 2);
    hf_histogram_record(get.duration_us, 10);
    hf_histogram_record(get.duration_us, 20);
    text = run(&h, "INFO commandstats");
    check_has(text, "cmdstat_get:calls=4,usec=30,usec_per_call=7.50,rejected_calls=0,failed_calls=1\r\n", true);
    check_has(text, "cmdstat_client|", true);
    check_has(text, ":calls=0,usec=0,usec_per_call=0.00,rejected_calls=2,failed_calls=0\r\n", true);
    check_has(text, "cmdstat_set:", false);
    hf_free(text);
    text = run(&h, "INFO latencystats");
    check_has(text, "latency_percentiles_usec_get:p50=", true);
    check_has(text, "latency_percentiles_usec_client", false);
    hf_free(text);
    harness_close(&h);
}
END_TEST

START_TEST(test_client_kill_marks_the_right_connections)
{
    struct harness h;

    harness_open(&h);
    expect(&h, "CLIENT KILL 10.0.0.2:5000", "OK");
    ck_assert(h.clients[1].killed);
    ck_assert(!h.clients[0].killed && !h.clients[2].killed);
    expect(&h, "CLIENT KILL 10.0.0.2:5000", "(error) ERR No such client");
    expect(&h, "CLIENT KILL ID 10", "(integer) 0");
    expect(&h, "CLIENT KILL ID 10 SKIPME no", "(integer) 1");
    ck_assert(h.clients[0].close_after_reply);
    ck_assert(!h.clients[0].killed);
    expect(&h, "CLIENT KILL TYPE pubsub", "(integer) 0");
    expect(&h, "CLIENT KILL MAXAGE 61", "(integer) 0");
    expect(&h, "CLIENT KILL MAXAGE 60 TYPE normal LADDR 10.0.0.9:7379 USER default", "(integer) 1");
    ck_assert(h.clients[2].killed);
    harness_close(&h);
}
END_TEST

START_TEST(test_client_reply_modes)
{
    struct harness h;

    harness_open(&h);
    expect(&h, "CLIENT REPLY SKIP", "(no reply)");
    ck_assert_int_eq(h.clients[0].reply_mode, HF_CLIENT_REPLY_SKIP);
    expect(&h, "CLIENT REPLY OFF", "(no reply)");
    expect(&h, "CLIENT REPLY SKIP", "(no reply)");
    ck_assert_int_eq(h.clients[0].reply_mode, HF_CLIENT_REPLY_OFF);
    expect(&h, "CLIENT REPLY ON", "OK");
    ck_assert_int_eq(h.clients[0].reply_mode, HF_CLIENT_REPLY_ON);
    harness_close(&h);
}
END_TEST

START_TEST(test_hello_and_reset_change_the_connection)
{
    struct harness h;
    char *text;

    harness_open(&h);
    h.password_set = true;
    h.clients[0].authenticated = false;
    text = run(&h, "HELLO 3 AUTH default wrong SETNAME me");
    check_has(text, "WRONGPASS", true);
    hf_free(text);
    ck_assert_int_eq(h.clients[0].protocol, 2);
    ck_assert_ptr_null(h.clients[0].name);
    hf_free(run(&h, "HELLO 3 AUTH default secret SETNAME me"));
    ck_assert_int_eq(h.clients[0].protocol, 3);
    ck_assert(h.clients[0].authenticated);
    ck_assert_str_eq(h.clients[0].name, "me");
    expect(&h, "RESET", "RESET");
    ck_assert_int_eq(h.clients[0].protocol, 2);
    ck_assert(!h.clients[0].authenticated);
    ck_assert_ptr_null(h.clients[0].name);
    harness_close(&h);
}
END_TEST

START_TEST(test_quit_shutdown_and_resetstat_reach_the_node)
{
    struct harness h;

    harness_open(&h);
    expect(&h, "QUIT", "OK");
    ck_assert(h.clients[0].close_after_reply);
    expect(&h, "CONFIG RESETSTAT", "OK");
    ck_assert(h.stats_reset);
    expect(&h, "SHUTDOWN SAVE NOSAVE", "(error) ERR syntax error");
    expect(&h, "SHUTDOWN maybe", "(error) ERR syntax error");
    expect(&h, "SHUTDOWN ABORT", "(error) ERR No shutdown in progress.");
    ck_assert(!h.is_shut_down);
    expect(&h, "SHUTDOWN NOSAVE", "(no reply)");
    ck_assert(h.is_shut_down);
    harness_close(&h);
}
END_TEST

START_TEST(test_client_names_have_a_limit)
{
    struct harness h;
    char line[320];

    harness_open(&h);
    memset(line, 'n', sizeof(line));
    memcpy(line, "CLIENT SETNAME ", 15);
    line[15 + 256] = '\0';
    expect(&h, line, "OK");
    line[15 + 256] = 'n';
    line[15 + 257] = '\0';
    expect(&h, line, "(error) ERR Client names cannot be longer than 256 bytes.");
    harness_close(&h);
}
END_TEST

/* Everything that COMMAND and COMMAND DOCS say is a well-formed value (the harness checks), and names every command. */
START_TEST(test_command_and_docs_name_every_command)
{
    struct harness h;
    char *command, *docs;
    struct hf_buf page = {0};

    harness_open(&h);
    command = run(&h, "COMMAND");
    docs = run(&h, "COMMAND DOCS");
    hf_command_docs_markdown(&page);
    hf_buf_put_u8(&page, 0);
    for (uint16_t id = 0; id < hf_command_count(); id++) {
        char quoted[64];

        snprintf(quoted, sizeof(quoted), "\"%s\"", hf_command_at(id)->name);
        check_has(command, quoted, true);
        check_has(docs, quoted, true);
        check_has((char *)page.data, hf_command_at(id)->doc.summary, true);
    }
    hf_free(command);
    hf_free(docs);
    hf_buf_free(&page);
    harness_close(&h);
}
END_TEST

Suite *suite_server(void)
{
    Suite *s = suite_create("server");
    TCase *tc = tcase_create("server");

    tcase_add_test(tc, test_info_without_arguments_has_what_tools_parse);
    tcase_add_test(tc, test_info_sections_are_chosen_by_name);
    tcase_add_test(tc, test_info_raft_by_name_shows_the_digest_of_the_applied_index);
    tcase_add_test(tc, test_info_of_a_follower);
    tcase_add_test(tc, test_command_figures_are_shown);
    tcase_add_test(tc, test_client_kill_marks_the_right_connections);
    tcase_add_test(tc, test_client_reply_modes);
    tcase_add_test(tc, test_hello_and_reset_change_the_connection);
    tcase_add_test(tc, test_quit_shutdown_and_resetstat_reach_the_node);
    tcase_add_test(tc, test_client_names_have_a_limit);
    tcase_add_test(tc, test_command_and_docs_name_every_command);
    suite_add_tcase(s, tc);
    return s;
}
