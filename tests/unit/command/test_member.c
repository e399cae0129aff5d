/* test_member.c: what operators ask: the words that are refused, what reaches the node, and what members and copies
 * look like in HF.MEMBER LIST and INFO. Errors by their first word. */
#include "suites.h"

#include "base/mem.h"
#include "harness.h"

#include <stdio.h>

static const struct hf_node_copy_status copies[] = {
    {.member = 2,
     .is_sending = true,
     .phase = "sending",
     .index = 40,
     .done_bytes = 25,
     .total_bytes = 100,
     .bytes_per_second = 7},
    {.member = 3, .phase = "receiving", .index = 41, .done_bytes = 1, .total_bytes = 2, .bytes_per_second = 3},
};

static void open_node(struct harness *h)
{
    harness_open(h);
    h->status.node_id = 2;
    h->status.leader_id = 2;
    h->status.name = "b";
    h->status.self_role = "voter";
    h->status.peer_address = "10.0.0.2:17379";
    h->status.client_address = "10.0.0.2:7379";
    h->status.level = 1;
    h->status.level_max = 2;
    h->status.journal_bytes = 5000;
    h->status.journal_bytes_max = 9000;
    h->status.problem = "no room";
    h->status.copies = copies;
    h->status.n_copies = 2;
    h->peers[0].id = 1;
    h->peers[0].name = "a";
    h->peers[0].address = "10.0.0.1:17379";
    h->peers[0].client_address = "10.0.0.1:7379";
    h->peers[0].level = 2;
    h->peers[1].name = "3";
    h->peers[1].role = "standby";
}

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

/* ---- tests --------------------------------------------------------------------------------------- */

START_TEST(test_list_shows_what_the_leader_knows)
{
    struct harness h;

    open_node(&h);
    expect(&h, "HF.MEMBER LIST",
           "1)  1# \"id\" => (integer) 1\n"
           "    2# \"name\" => \"a\"\n"
           "    3# \"role\" => \"voter\"\n"
           "    4# \"leader\" => (false)\n"
           "    5# \"self\" => (false)\n"
           "    6# \"address\" => \"10.0.0.1:17379\"\n"
           "    7# \"client-address\" => \"10.0.0.1:7379\"\n"
           "    8# \"connected\" => (true)\n"
           "    9# \"match-index\" => (integer) 41\n"
           "   10# \"lag\" => (integer) 1\n"
           "   11# \"level\" => (integer) 2\n"
           "2)  1# \"id\" => (integer) 2\n"
           "    2# \"name\" => \"b\"\n"
           "    3# \"role\" => \"voter\"\n"
           "    4# \"leader\" => (true)\n"
           "    5# \"self\" => (true)\n"
           "    6# \"address\" => \"10.0.0.2:17379\"\n"
           "    7# \"client-address\" => \"10.0.0.2:7379\"\n"
           "    8# \"connected\" => (true)\n"
           "    9# \"match-index\" => (integer) 42\n"
           "   10# \"lag\" => (integer) 0\n"
           "   11# \"level\" => (integer) 2\n"
           "3)  1# \"id\" => (integer) 3\n"
           "    2# \"name\" => \"3\"\n"
           "    3# \"role\" => \"learner\"\n"
           "    4# \"leader\" => (false)\n"
           "    5# \"self\" => (false)\n"
           "    6# \"address\" => \"[::1]:17379\"\n"
           "    7# \"client-address\" => \"\"\n"
           "    8# \"connected\" => (false)\n"
           "    9# \"match-index\" => (integer) 0\n"
           "   10# \"lag\" => (integer) 42\n"
           "   11# \"level\" => (nil)");
    harness_close(&h);
}
END_TEST

START_TEST(test_list_of_a_follower_and_of_no_member)
{
    struct harness h;
    char *text;

    open_node(&h);
    h.status.role = "follower";
    h.status.leader_id = 1;
    text = run(&h, "HF.MEMBER LIST");
    check_has(text, "\"match-index\" => (nil)", true);
    check_has(text, "\"match-index\" => (integer) 42", true); /* its own */
    check_has(text, "\"match-index\" => (integer) 41", false);
    check_has(text, "\"lag\" => (integer)", false);
    hf_free(text);
    h.status.self_role = "";
    text = run(&h, "HF.MEMBER LIST");
    check_has(text, "\"self\" => (true)", false);
    check_has(text, "\"id\" => (integer) 2", false);
    check_has(text, "\"id\" => (integer) 3", true);
    hf_free(text);
    harness_close(&h);
}
END_TEST

START_TEST(test_info_tells_of_members_and_copies)
{
    static const char *const fields[] = {
        "# Members\r\nmembers:3\r\nmember_name:b\r\nmember_role:voter\r\nmember_address:10.0.0.2:17379\r\n"
        "feature_level:1\r\nfeature_level_max:2\r\n",
        "member1:name=a,role=voter,leader=0,address=10.0.0.1:17379,client_address=10.0.0.1:7379,connected=1,level=2,"
        "match_index=41,lag=1\r\n",
        "member3:name=3,role=learner,leader=0,address=[::1]:17379,client_address=,connected=0,level=0,match_index=0,"
        "lag=42\r\n",
        "# Copies\r\ncopies:2\r\n",
        "copy0:member=2,direction=out,phase=sending,index=40,done_bytes=25,total_bytes=100,bytes_per_second=7\r\n",
        "copy1:member=3,direction=in,phase=receiving,index=41,done_bytes=1,total_bytes=2,bytes_per_second=3\r\n",
        "journal_bytes:5000\r\njournal_bytes_max:9000\r\n",
        "raft_ready:1\r\nraft_problem:no room\r\n",
    };
    struct harness h;
    char *text;

    open_node(&h);
    text = run(&h, "INFO");
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        check_has(text, fields[i], true);
    hf_free(text);
    h.status.role = "follower";
    text = run(&h, "INFO members");
    check_has(text, ",connected=1,level=2\r\n", true);
    check_has(text, "match_index", false);
    hf_free(text);
    harness_close(&h);
}
END_TEST

static void count_error(const struct hf_error_stats *errors, const char *text)
{
    struct hf_reply reply = {0};

    hf_reply_error(&reply, text);
    hf_error_stats_count(errors, hf_buf_slice(&reply.buf));
    hf_reply_free(&reply);
}

START_TEST(test_errors_are_counted_by_their_first_word)
{
    struct hf_error_stats errors;
    struct hf_reply fine = {0};
    struct harness h;
    char *text;

    open_node(&h);
    errors = hf_error_stats(h.stats);
    text = run(&h, "INFO errorstats");
    check_has(text, "errorstat_", false);
    hf_free(text);
    count_error(&errors, "ERR one");
    count_error(&errors, "ERR two");
    count_error(&errors, "WRONGTYPE Operation against");
    count_error(&errors, "UNKNOWN");
    count_error(&errors, "ERRATIC word");
    count_error(&errors, "");
    hf_reply_status(&fine, "ERR in a status");
    hf_error_stats_count(&errors, hf_buf_slice(&fine.buf));
    hf_error_stats_count(&errors, hf_slice(NULL, 0));
    hf_reply_free(&fine);
    text = run(&h, "INFO errorstats");
    ck_assert_str_eq(text, "# Errorstats\r\nerrorstat_ERR:count=2\r\nerrorstat_WRONGTYPE:count=1\r\n"
                           "errorstat_UNKNOWN:count=1\r\nerrorstat_other:count=2\r\n");
    hf_free(text);
    harness_close(&h);
}
END_TEST

Suite *suite_member(void)
{
    Suite *s = suite_create("member");
    TCase *tc = tcase_create("member");

    tcase_add_test(tc, test_list_shows_what_the_leader_knows);
    tcase_add_test(tc, test_list_of_a_follower_and_of_no_member);
    tcase_add_test(tc, test_info_tells_of_members_and_copies);
    tcase_add_test(tc, test_errors_are_counted_by_their_first_word);
    suite_add_tcase(s, tc);
    return s;
}
