/* introspect.c: COMMAND and its subcommands: the table as clients see it, in Redis' form. */
#include "command/args.h"
#include "command/doc.h"
#include "command/rows.h"

#include "base/assert.h"
#include "base/util.h"

#include <stdio.h>

/* ---- words about a row --------------------------------------------------------------------------- */

static const struct {
    uint32_t flag;
    const char *word;
} flag_words[] = {
    {HF_CMD_WRITE, "write"},     {HF_CMD_DENYOOM, "denyoom"}, {HF_CMD_ADMIN, "admin"}, {HF_CMD_LOADING, "stale"},
    {HF_CMD_LOADING, "loading"}, {HF_CMD_NO_AUTH, "no_auth"}, {HF_CMD_FAST, "fast"},
};

static bool is_readonly(const struct hf_command *row)
{
    return (row->flags & HF_CMD_READ) && !(row->flags & HF_CMD_NOGATE);
}

static void put_flags(struct hf_reply *out, const struct hf_command *row)
{
    size_t mark = hf_reply_begin(out, HF_REPLY_SET);
    uint32_t n = 0;

    if (is_readonly(row)) {
        hf_reply_status(out, "readonly");
        n++;
    }
    for (size_t i = 0; i < sizeof(flag_words) / sizeof(flag_words[0]); i++) {
        if (row->flags & flag_words[i].flag) {
            hf_reply_status(out, flag_words[i].word);
            n++;
        }
    }
    hf_reply_end(out, mark, n);
}

static const char *group_word(enum hf_command_group group)
{
    switch (group) {
    case HF_GROUP_CONNECTION:
        return "connection";
    case HF_GROUP_GENERIC:
        return "generic";
    case HF_GROUP_STRING:
        return "string";
    case HF_GROUP_SERVER:
        return "server";
    case HF_GROUP_HOLDFAST:
        return "holdfast";
    }
    HF_UNREACHABLE();
}

#define CATEGORIES_MAX 8

/* ACL categories, derived from flags and group. */
static uint32_t categories_of(const struct hf_command *row, const char *words[CATEGORIES_MAX])
{
    uint32_t n = 0;

    if (row->flags & HF_CMD_WRITE)
        words[n++] = "write";
    if (is_readonly(row))
        words[n++] = "read";
    switch (row->doc.group) {
    case HF_GROUP_CONNECTION:
        words[n++] = "connection";
        break;
    case HF_GROUP_GENERIC:
        words[n++] = "keyspace";
        break;
    case HF_GROUP_STRING:
        words[n++] = "string";
        break;
    case HF_GROUP_HOLDFAST:
        if (row->keys.first != 0)
            words[n++] = "string";
        break;
    case HF_GROUP_SERVER:
        break;
    }
    if (row->flags & HF_CMD_ADMIN)
        words[n++] = "admin";
    if (row->flags & (HF_CMD_ADMIN | HF_CMD_SLOW_READ))
        words[n++] = "dangerous";
    words[n++] = row->flags & HF_CMD_FAST ? "fast" : "slow";
    HF_ASSERT(n <= CATEGORIES_MAX);
    return n;
}

static void put_categories(struct hf_reply *out, const struct hf_command *row)
{
    const char *words[CATEGORIES_MAX];
    uint32_t n = categories_of(row, words);
    char text[32];

    hf_reply_set(out, n);
    for (uint32_t i = 0; i < n; i++) {
        snprintf(text, sizeof(text), "@%s", words[i]);
        hf_reply_status(out, text);
    }
}

static void put_key_flags(struct hf_reply *out, const struct hf_command *row)
{
    hf_reply_set(out, 2);
    hf_reply_status(out, row->flags & HF_CMD_WRITE ? "RW" : "RO");
    hf_reply_status(out, row->flags & HF_CMD_WRITE ? "update" : "access");
}

static void put_key_specs(struct hf_reply *out, const struct hf_command *row)
{
    if (row->keys.first == 0) {
        hf_reply_set(out, 0);
        return;
    }
    hf_reply_set(out, 1);
    hf_reply_map(out, 3);
    hf_reply_bulk_str(out, "flags");
    put_key_flags(out, row);
    hf_reply_bulk_str(out, "begin_search");
    hf_reply_map(out, 2);
    hf_reply_bulk_str(out, "type");
    hf_reply_bulk_str(out, "index");
    hf_reply_bulk_str(out, "spec");
    hf_reply_map(out, 1);
    hf_reply_bulk_str(out, "index");
    hf_reply_int(out, row->keys.first);
    hf_reply_bulk_str(out, "find_keys");
    hf_reply_map(out, 2);
    hf_reply_bulk_str(out, "type");
    hf_reply_bulk_str(out, "range");
    hf_reply_bulk_str(out, "spec");
    hf_reply_map(out, 3);
    hf_reply_bulk_str(out, "lastkey");
    hf_reply_int(out, row->keys.last < 0 ? row->keys.last : row->keys.last - row->keys.first);
    hf_reply_bulk_str(out, "keystep");
    hf_reply_int(out, row->keys.step);
    hf_reply_bulk_str(out, "limit");
    hf_reply_int(out, 0);
}

static uint32_t count_rows(const struct hf_command *rows)
{
    uint32_t n = 0;

    while (rows != NULL && rows[n].name != NULL)
        n++;
    return n;
}

static void put_info(struct hf_reply *out, const struct hf_command *row)
{
    uint32_t n = count_rows(row->subcommands);

    hf_reply_array(out, 10);
    hf_reply_bulk_str(out, row->name);
    hf_reply_int(out, row->arity);
    put_flags(out, row);
    hf_reply_int(out, row->keys.first);
    hf_reply_int(out, row->keys.last);
    hf_reply_int(out, row->keys.step);
    put_categories(out, row);
    hf_reply_set(out, 0); /* tips */
    put_key_specs(out, row);
    hf_reply_set(out, n);
    for (uint32_t i = 0; i < n; i++)
        put_info(out, &row->subcommands[i]);
}

/* ---- COMMAND DOCS -------------------------------------------------------------------------------- */

static void put_slice_lower(struct hf_reply *out, struct hf_slice s)
{
    char text[64];
    size_t n = s.len < sizeof(text) ? s.len : sizeof(text);

    for (size_t i = 0; i < n; i++)
        text[i] = (char)(s.ptr[i] >= 'A' && s.ptr[i] <= 'Z' ? s.ptr[i] + ('a' - 'A') : s.ptr[i]);
    hf_reply_bulk(out, hf_slice(text, n));
}

static void put_argument(struct hf_reply *out, const struct hf_doc *doc, uint8_t at);

static void put_children(struct hf_reply *out, const struct hf_doc *doc, uint8_t at)
{
    size_t mark = hf_reply_begin(out, HF_REPLY_ARRAY);
    uint32_t n = 0;

    for (uint8_t child = doc->node[at].first_child; child != 0; child = doc->node[child].next, n++)
        put_argument(out, doc, child);
    hf_reply_end(out, mark, n);
}

static void put_argument(struct hf_reply *out, const struct hf_doc *doc, uint8_t at)
{
    const struct hf_doc_node *node = &doc->node[at];
    bool is_group = node->kind == HF_DOC_ONEOF || node->kind == HF_DOC_BLOCK;
    bool is_key = node->kind == HF_DOC_ARGUMENT && hf_slice_is(node->type, "key");
    size_t mark = hf_reply_begin(out, HF_REPLY_MAP);
    uint32_t n = 2;

    hf_reply_bulk_str(out, "name");
    if (node->kind == HF_DOC_ARGUMENT)
        hf_reply_bulk(out, node->name);
    else if (node->token.len != 0)
        put_slice_lower(out, node->token);
    else
        hf_reply_bulk_str(out, node->kind == HF_DOC_ONEOF ? "option" : "block");
    hf_reply_bulk_str(out, "type");
    switch (node->kind) {
    case HF_DOC_ARGUMENT:
        hf_reply_bulk(out, node->type);
        break;
    case HF_DOC_TOKEN:
        hf_reply_bulk_str(out, "pure-token");
        break;
    case HF_DOC_ONEOF:
        hf_reply_bulk_str(out, "oneof");
        break;
    case HF_DOC_BLOCK:
        hf_reply_bulk_str(out, "block");
        break;
    }
    if (!is_group && node->kind == HF_DOC_ARGUMENT) {
        hf_reply_bulk_str(out, "display_text");
        hf_reply_bulk(out, node->name);
        n++;
    }
    if (is_key) {
        hf_reply_bulk_str(out, "key_spec_index");
        hf_reply_int(out, 0);
        n++;
    }
    if (node->token.len != 0) {
        hf_reply_bulk_str(out, "token");
        hf_reply_bulk(out, node->token);
        n++;
    }
    if (node->is_optional || node->is_multiple) {
        hf_reply_bulk_str(out, "flags");
        hf_reply_set(out, (uint32_t)node->is_optional + (uint32_t)node->is_multiple);
        if (node->is_optional)
            hf_reply_status(out, "optional");
        if (node->is_multiple)
            hf_reply_status(out, "multiple");
        n++;
    }
    if (is_group) {
        hf_reply_bulk_str(out, "arguments");
        put_children(out, doc, at);
        n++;
    }
    hf_reply_end(out, mark, n);
}

static void put_docs(struct hf_reply *out, const struct hf_command *row)
{
    size_t mark = hf_reply_begin(out, HF_REPLY_MAP);
    uint32_t n = 4, n_sub = count_rows(row->subcommands);
    struct hf_doc doc;

    hf_reply_bulk_str(out, "summary");
    hf_reply_bulk_str(out, row->doc.summary);
    hf_reply_bulk_str(out, "since");
    hf_reply_bulk_str(out, row->doc.since);
    hf_reply_bulk_str(out, "group");
    hf_reply_bulk_str(out, group_word(row->doc.group));
    hf_reply_bulk_str(out, "complexity");
    hf_reply_bulk_str(out, row->doc.complexity);
    if (row->doc.args[0] != '\0') {
        bool is_right = hf_doc_parse(&doc, row->doc.args);

        HF_ASSERT(is_right);
        hf_reply_bulk_str(out, "arguments");
        put_children(out, &doc, 0);
        n++;
    }
    if (n_sub != 0) {
        hf_reply_bulk_str(out, "subcommands");
        hf_reply_map(out, n_sub);
        for (uint32_t i = 0; i < n_sub; i++) {
            hf_reply_bulk_str(out, row->subcommands[i].name);
            put_docs(out, &row->subcommands[i]);
        }
        n++;
    }
    hf_reply_end(out, mark, n);
}

/* ---- handlers ------------------------------------------------------------------------------------ */

static uint32_t count_all(void)
{
    const struct hf_command *const *all = hf_command_all();
    uint32_t n = 0;

    while (all[n] != NULL)
        n++;
    return n;
}

/* "get", "client|list". */
static const struct hf_command *find_full_name(struct hf_slice name)
{
    const uint8_t *bar = name.len != 0 ? memchr(name.ptr, '|', name.len) : NULL;
    const struct hf_command *row;

    if (bar == NULL)
        return hf_command_find(name);
    row = hf_command_find(hf_slice(name.ptr, (size_t)(bar - name.ptr)));
    if (row == NULL || row->subcommands == NULL)
        return NULL;
    for (row = row->subcommands; row->name != NULL; row++) {
        if (hf_slice_is(name, row->name))
            return row;
    }
    return NULL;
}

void hf_local_command(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    uint32_t n = count_all();

    (void)cx;
    (void)args;
    hf_reply_array(out, n);
    for (uint32_t i = 0; i < n; i++)
        put_info(out, hf_command_all()[i]);
}

static void local_count(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    (void)cx;
    (void)args;
    hf_reply_int(out, count_all());
}

static void local_info(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    if (args->n == 2) {
        hf_local_command(cx, args, out);
        return;
    }
    hf_reply_array(out, args->n - 2);
    for (uint32_t i = 2; i < args->n; i++) {
        const struct hf_command *row = find_full_name(args->at[i]);

        if (row != NULL)
            put_info(out, row);
        else
            hf_reply_null_array(out);
    }
}

static void local_docs(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    size_t mark = hf_reply_begin(out, HF_REPLY_MAP);
    uint32_t n = 0;

    (void)cx;
    if (args->n == 2) {
        for (; hf_command_all()[n] != NULL; n++) {
            hf_reply_bulk_str(out, hf_command_all()[n]->name);
            put_docs(out, hf_command_all()[n]);
        }
    }
    for (uint32_t i = 2; i < args->n; i++) {
        const struct hf_command *row = find_full_name(args->at[i]);

        if (row == NULL)
            continue;
        hf_reply_bulk_str(out, row->name);
        put_docs(out, row);
        n++;
    }
    hf_reply_end(out, mark, n);
}

static bool has_category(const struct hf_command *row, struct hf_slice category)
{
    const char *words[CATEGORIES_MAX];
    uint32_t n = categories_of(row, words);

    for (uint32_t i = 0; i < n; i++) {
        if (hf_slice_is(category, words[i]))
            return true;
    }
    return false;
}

static void local_list(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    bool by_module = false, by_category = false, by_pattern = false;
    size_t mark;
    uint32_t n = 0;

    (void)cx;
    if (args->n == 5 && hf_arg_is(args, 2, "FILTERBY")) {
        by_module = hf_arg_is(args, 3, "MODULE");
        by_category = hf_arg_is(args, 3, "ACLCAT");
        by_pattern = hf_arg_is(args, 3, "PATTERN");
    }
    if (args->n != 2 && !by_module && !by_category && !by_pattern) {
        hf_reply_error(out, HF_ERR_SYNTAX);
        return;
    }
    mark = hf_reply_begin(out, HF_REPLY_ARRAY);
    for (uint16_t id = 0; id < hf_command_count() && !by_module; id++) {
        const struct hf_command *row = hf_command_at(id);

        if (by_category && !has_category(row, args->at[4]))
            continue;
        if (by_pattern && !hf_glob_match(args->at[4], hf_slice_str(row->name), true))
            continue;
        hf_reply_bulk_str(out, row->name);
        n++;
    }
    hf_reply_end(out, mark, n);
}

/* Both forms of GETKEYS. */
static void reply_keys(const struct hf_args *args, struct hf_reply *out, bool with_flags)
{
    static const char unknown[] = "ERR unknown";
    struct hf_args words = {.at = args->at + 2, .n = args->n - 2};
    struct hf_reply err = {0};
    const struct hf_command *row = hf_command_resolve(&words, &err);
    int64_t last;
    size_t mark;
    uint32_t n = 0;

    if (row == NULL) {
        /* Flat form of an error: tag, u32 length, text. */
        bool is_unknown = err.buf.len > 5 + sizeof(unknown) && memcmp(err.buf.data + 5, unknown, strlen(unknown)) == 0;

        hf_reply_error(out, is_unknown ? "ERR Invalid command specified"
                                       : "ERR Invalid number of arguments specified for command");
        hf_reply_free(&err);
        return;
    }
    if (row->keys.first == 0) {
        hf_reply_error(out, "ERR The command has no key arguments");
        return;
    }
    last = row->keys.last < 0 ? (int64_t)words.n + row->keys.last : row->keys.last;
    mark = hf_reply_begin(out, HF_REPLY_ARRAY);
    for (int64_t i = row->keys.first; i <= last && i < words.n; i += row->keys.step, n++) {
        if (with_flags)
            hf_reply_array(out, 2);
        hf_reply_bulk(out, words.at[i]);
        if (with_flags)
            put_key_flags(out, row);
    }
    hf_reply_end(out, mark, n);
}

static void local_getkeys(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    (void)cx;
    reply_keys(args, out, false);
}

static void local_getkeysandflags(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    (void)cx;
    reply_keys(args, out, true);
}

/* ---- rows ---------------------------------------------------------------------------------------- */

const struct hf_command hf_subcommands_command[] = {
    {
        .name = "command|count",
        .arity = 2,
        .flags = HF_CMD_LOCAL | HF_CMD_LOADING,
        .local = local_count,
        .doc = {.group = HF_GROUP_SERVER,
                .summary = "Returns the number of commands.",
                .since = "2.8.13",
                .complexity = "O(1)",
                .args = ""},
    },
    {
        .name = "command|info",
        .arity = -2,
        .flags = HF_CMD_LOCAL | HF_CMD_LOADING,
        .local = local_info,
        .doc = {.group = HF_GROUP_SERVER,
                .summary = "Describes the named commands, or all.",
                .since = "2.8.13",
                .complexity = "O(N) with N the number of commands",
                .args = "[command-name:string...]"},
    },
    {
        .name = "command|docs",
        .arity = -2,
        .flags = HF_CMD_LOCAL | HF_CMD_LOADING,
        .local = local_docs,
        .doc = {.group = HF_GROUP_SERVER,
                .summary = "Returns the documentation of the named commands, or of all.",
                .since = "7.0.0",
                .complexity = "O(N) with N the number of commands",
                .args = "[command-name:string...]"},
    },
    {
        .name = "command|list",
        .arity = -2,
        .flags = HF_CMD_LOCAL | HF_CMD_LOADING,
        .local = local_list,
        .doc = {.group = HF_GROUP_SERVER,
                .summary = "Returns the names of all commands, or of those that a filter lets through.",
                .since = "7.0.0",
                .complexity = "O(N) with N the number of commands",
                .args = "[FILTERBY (MODULE module-name:string | ACLCAT category:string | PATTERN pattern:pattern)]"},
    },
    {
        .name = "command|getkeys",
        .arity = -3,
        .flags = HF_CMD_LOCAL | HF_CMD_LOADING,
        .local = local_getkeys,
        .doc = {.group = HF_GROUP_SERVER,
                .summary = "Returns the keys in a whole command.",
                .since = "2.8.13",
                .complexity = "O(N) with N the number of arguments",
                .args = "command:string [arg:string...]"},
    },
    {
        .name = "command|getkeysandflags",
        .arity = -3,
        .flags = HF_CMD_LOCAL | HF_CMD_LOADING,
        .local = local_getkeysandflags,
        .doc = {.group = HF_GROUP_SERVER,
                .summary = "Returns the keys in a whole command, and how each is used.",
                .since = "7.0.0",
                .complexity = "O(N) with N the number of arguments",
                .args = "command:string [arg:string...]"},
    },
    HF_ROW_HELP("command", HF_GROUP_SERVER),
    {.name = NULL},
};
