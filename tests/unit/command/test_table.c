/* test_table.c: what must hold of every row, and how words find their row. */
#include "suites.h"

#include "command/doc.h"
#include "command/ops.h"
#include "harness.h"

#include <ctype.h>

static void check_name(const char *name)
{
    for (const char *p = name; *p != '\0'; p++)
        ck_assert_msg(!isupper((unsigned char)*p) && !isspace((unsigned char)*p), "%s", name);
}

/* Exactly one of the four kinds, with the handlers of that kind and no others. */
static void check_handlers(const struct hf_command *row)
{
    bool is_write = row->flags & HF_CMD_WRITE, is_read = row->flags & HF_CMD_READ, is_local = row->flags & HF_CMD_LOCAL;
    bool is_operate = row->flags & HF_CMD_OPERATE;

    if (row->subcommands != NULL && row->local == NULL) {
        ck_assert_msg(!is_write && !is_read && !is_local && !is_operate, "%s only holds others", row->name);
        ck_assert_ptr_null(row->plan);
        ck_assert_ptr_null(row->read);
        return;
    }
    ck_assert_msg(is_write + is_read + is_local + is_operate == 1, "%s", row->name);
    ck_assert_msg((row->op != 0) == is_write, "%s", row->name);
    ck_assert_msg((row->plan != NULL) == is_write, "%s", row->name);
    ck_assert_msg((row->apply != NULL) == is_write, "%s", row->name);
    ck_assert_msg((row->read != NULL) == is_read, "%s", row->name);
    ck_assert_msg((row->local != NULL) == is_local, "%s", row->name);
    ck_assert_msg((row->operate != NULL) == is_operate, "%s", row->name);
    ck_assert_msg(!(row->flags & HF_CMD_NOGATE) || is_read, "%s", row->name);
    ck_assert_msg(!(row->flags & HF_CMD_DENYOOM) || is_write, "%s", row->name);
}

static void check_keys(const struct hf_command *row)
{
    int words = row->arity < 0 ? -row->arity : row->arity;

    ck_assert_int_ne(row->arity, 0);
    if (row->keys.first == 0) {
        ck_assert_int_eq(row->keys.last, 0);
        ck_assert_int_eq(row->keys.step, 0);
        return;
    }
    ck_assert_int_gt(row->keys.step, 0);
    ck_assert_msg(row->keys.first < words, "%s", row->name);
    ck_assert_msg(row->keys.last < words, "%s", row->name);
    ck_assert_msg(row->keys.last < 0 || row->keys.last >= row->keys.first, "%s", row->name);
    ck_assert_msg(row->keys.last >= 0 || row->arity < 0, "%s", row->name);
    ck_assert_msg((row->flags & (HF_CMD_LOCAL | HF_CMD_OPERATE)) == 0, "%s has keys and does not see them", row->name);
}

static void check_doc(const struct hf_command *row)
{
    struct hf_doc doc;

    ck_assert_msg(row->doc.summary != NULL && strlen(row->doc.summary) > 5, "%s", row->name);
    ck_assert_msg(row->doc.since != NULL && isdigit((unsigned char)row->doc.since[0]), "%s", row->name);
    ck_assert_msg(row->doc.complexity != NULL && row->doc.complexity[0] != '\0', "%s", row->name);
    ck_assert_ptr_nonnull(row->doc.args);
    ck_assert_msg(hf_doc_parse(&doc, row->doc.args), "%s: %s", row->name, row->doc.args);
    /* A command with a key documents one. */
    if (row->keys.first != 0)
        ck_assert_msg(strstr(row->doc.args, ":key") != NULL, "%s", row->name);
}

START_TEST(test_rows_are_complete_and_consistent)
{
    hf_command_table_init();
    hf_command_table_init(); /* twice does no harm */
    ck_assert_uint_gt(hf_command_count(), 100);
    for (uint16_t id = 0; id < hf_command_count(); id++) {
        const struct hf_command *row = hf_command_at(id);

        ck_assert_uint_eq(row->id, id);
        check_name(row->name);
        check_handlers(row);
        check_keys(row);
        check_doc(row);
        for (uint16_t other = 0; other < id; other++) {
            ck_assert_str_ne(row->name, hf_command_at(other)->name);
            ck_assert_msg(row->op == 0 || row->op != hf_command_at(other)->op, "%s", row->name);
        }
        if (row->op != 0)
            ck_assert_ptr_eq(hf_command_by_op(row->op), row);
    }
}
END_TEST

/* The numbers are in logs on disk: this list may only grow. */
START_TEST(test_op_numbers_never_change)
{
    static const char *const names[HF_OP_MAX + 1] = {
        NULL,          "set",      "setnx",  "setex",    "psetex",   "getset",   "getdel",    "getex",
        "mset",        "msetnx",   "append", "setrange", "incr",     "decr",     "incrby",    "decrby",
        "incrbyfloat", "del",      "unlink", "expire",   "pexpire",  "expireat", "pexpireat", "persist",
        "rename",      "renamenx", "copy",   "flushdb",  "flushall", "hf.cas",   "_setting",  "_level",
    };

    hf_command_table_init();
    for (uint16_t op = 1; op <= HF_OP_MAX; op++)
        ck_assert_str_eq(hf_command_by_op(op)->name, names[op]);
    ck_assert_ptr_null(hf_command_by_op(0));
    ck_assert_ptr_null(hf_command_by_op(HF_OP_MAX + 1));
    ck_assert_ptr_null(hf_command_by_op(UINT16_MAX));
}
END_TEST

/* What only nodes submit has an op, and nothing by which a client could name or see it. */
START_TEST(test_internal_rows_are_hidden)
{
    static const char *const names[] = {HF_COMMAND_SETTING, HF_COMMAND_LEVEL};

    hf_command_table_init();
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const struct hf_command *row = hf_command_internal(hf_slice_str(names[i]));
        struct hf_slice words[] = {hf_slice_str(names[i]), hf_slice_str("a"), hf_slice_str("b")};
        struct hf_args args = {words, row != NULL ? (uint32_t)row->arity : 1};
        struct hf_reply err = {0};

        ck_assert_ptr_nonnull(row);
        ck_assert_ptr_eq(hf_command_by_op(row->op), row);
        ck_assert_ptr_nonnull(row->plan);
        ck_assert_ptr_nonnull(row->apply);
        ck_assert_uint_eq(row->flags, HF_CMD_WRITE); /* DENYOOM: never refused for want of space */
        ck_assert_uint_ge(row->id, hf_command_count());
        ck_assert_ptr_null(hf_command_find(words[0]));
        ck_assert_ptr_null(hf_command_resolve(&args, &err));
        hf_reply_free(&err);
        for (size_t k = 0; hf_command_all()[k] != NULL; k++)
            ck_assert_str_ne(hf_command_all()[k]->name, names[i]);
    }
    ck_assert_ptr_null(hf_command_internal(hf_slice_str("get")));
    ck_assert_ptr_null(hf_command_internal(hf_slice_str("")));
}
END_TEST

START_TEST(test_level_that_a_command_needs)
{
    uint8_t three[4] = {3, 0, 0, 0};

    hf_command_table_init();
    ck_assert_uint_eq(hf_command_level(hf_command_by_op(HF_OP_SET), hf_slice(three, 4)), 1);
    ck_assert_uint_eq(hf_command_level(hf_command_by_op(HF_OP_SETTING), hf_slice(three, 4)), 2);
    ck_assert_uint_eq(hf_command_level(hf_command_by_op(HF_OP_LEVEL), hf_slice(three, 4)), 3);
}
END_TEST

START_TEST(test_find_takes_any_case_and_no_other_name)
{
    char name[40];

    hf_command_table_init();
    for (size_t i = 0; hf_command_all()[i] != NULL; i++) {
        const struct hf_command *row = hf_command_all()[i];
        size_t n = strlen(row->name);

        ck_assert_ptr_eq(hf_command_find(hf_slice_str(row->name)), row);
        for (size_t c = 0; c < n; c++)
            name[c] = (char)toupper((unsigned char)row->name[c]);
        ck_assert_ptr_eq(hf_command_find(hf_slice(name, n)), row);
        name[n] = 'x';
        ck_assert_ptr_null(hf_command_find(hf_slice(name, n + 1)));
    }
    ck_assert_ptr_null(hf_command_find(hf_slice("", 0)));
    ck_assert_ptr_null(hf_command_find(hf_slice("get\0", 4)));
    ck_assert_ptr_null(hf_command_find(hf_slice_str("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")));
}
END_TEST

START_TEST(test_doc_notation_is_parsed)
{
    struct hf_doc doc;
    const struct hf_doc_node *n;
    struct hf_buf usage = {0};

    ck_assert(hf_doc_parse(&doc, "key:key... [EX seconds:integer | KEEPTTL] (A x:string y:string)"));
    n = &doc.node[doc.node[0].first_child];
    ck_assert_int_eq(n->kind, HF_DOC_ARGUMENT);
    ck_assert(n->is_multiple);
    ck_assert(!n->is_optional);
    n = &doc.node[n->next];
    ck_assert_int_eq(n->kind, HF_DOC_ONEOF);
    ck_assert(n->is_optional);
    ck_assert(hf_slice_is(doc.node[n->first_child].token, "EX"));
    ck_assert(hf_slice_is(doc.node[n->first_child].name, "seconds"));
    ck_assert_int_eq(doc.node[doc.node[n->first_child].next].kind, HF_DOC_TOKEN);
    n = &doc.node[n->next];
    ck_assert_int_eq(n->kind, HF_DOC_BLOCK);
    ck_assert_uint_eq(n->next, 0);

    hf_doc_usage(&usage, "key:key... [EX seconds:unix-time | KEEPTTL]");
    hf_buf_put_u8(&usage, 0);
    ck_assert_str_eq((char *)usage.data, "key ... [EX seconds | KEEPTTL]");
    hf_buf_free(&usage);

    ck_assert(!hf_doc_parse(&doc, "[key:key"));
    ck_assert(!hf_doc_parse(&doc, "key:key]"));
    ck_assert(!hf_doc_parse(&doc, "key:"));
    ck_assert(!hf_doc_parse(&doc, "[ | A]"));
    ck_assert(!hf_doc_parse(&doc, "()"));
}
END_TEST

/* A payload cut short anywhere is seen before any of it takes effect: the reader fails on it. (The handler then stops
 * the process, which a test cannot watch from inside.) */
START_TEST(test_payload_reader_notices_short_payloads)
{
    struct hf_reader r = hf_reader(hf_slice("\5\0\0\0abc", 7));

    (void)hf_read_slice(&r);
    ck_assert(!hf_reader_done(&r));
}
END_TEST

/* The limit of the store is met before a key can enter the log. Only its length is looked at, so none is made. */
START_TEST(test_plan_refuses_keys_that_the_store_cannot_hold)
{
    struct hf_slice words[] = {hf_slice_str("MSET"), hf_slice_str("a"), hf_slice_str("1"),
                               hf_slice("k", HF_KEY_BYTES_MAX + 1), hf_slice_str("2")};
    struct hf_args args = {words, 5};
    struct hf_plan plan = {0};
    const struct hf_command *cmd = hf_command_find(words[0]);

    ck_assert_int_ne(hf_command_plan(cmd, &plan, &args), 0);
    ck_assert_int_eq(hf_reply_first_tag(hf_buf_slice(&plan.refusal.buf)), HF_REPLY_ERROR);
    words[3].len = 1;
    ck_assert_int_eq(hf_command_plan(cmd, &plan, &args), 0);
    hf_plan_free(&plan);
}
END_TEST

Suite *suite_table(void)
{
    Suite *s = suite_create("table");
    TCase *tc = tcase_create("rows");

    tcase_add_test(tc, test_rows_are_complete_and_consistent);
    tcase_add_test(tc, test_op_numbers_never_change);
    tcase_add_test(tc, test_internal_rows_are_hidden);
    tcase_add_test(tc, test_level_that_a_command_needs);
    tcase_add_test(tc, test_find_takes_any_case_and_no_other_name);
    tcase_add_test(tc, test_doc_notation_is_parsed);
    tcase_add_test(tc, test_payload_reader_notices_short_payloads);
    tcase_add_test(tc, test_plan_refuses_keys_that_the_store_cannot_hold);
    suite_add_tcase(s, tc);
    return s;
}
