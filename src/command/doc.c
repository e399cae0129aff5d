/* doc.c: the argument notation (doc.h), HELP of the containers, and docs/commands.md. */
#include "command/doc.h"

#include "base/assert.h"
#include "command/rows.h"

#include <ctype.h>

/* ---- the notation -------------------------------------------------------------------------------- */

struct parser {
    struct hf_doc *doc;
    const char *p;
    bool failed;
};

static uint8_t parse_alternatives(struct parser *ps, char close);

static uint8_t new_node(struct parser *ps, enum hf_doc_kind kind)
{
    if (ps->doc->n == HF_DOC_NODES_MAX) {
        ps->failed = true;
        return 0;
    }
    ps->doc->node[ps->doc->n].kind = kind;
    return ps->doc->n++;
}

static char peek(struct parser *ps)
{
    while (*ps->p == ' ')
        ps->p++;
    return *ps->p;
}

static bool is_word(char c)
{
    return islower((unsigned char)c) || isupper((unsigned char)c) || isdigit((unsigned char)c) || c == '-' || c == '_';
}

static struct hf_slice take_word(struct parser *ps)
{
    const char *start = ps->p;

    while (is_word(*ps->p))
        ps->p++;
    if (ps->p == start)
        ps->failed = true;
    return hf_slice(start, (size_t)(ps->p - start));
}

static uint8_t parse_item(struct parser *ps)
{
    struct hf_doc_node *node;
    uint8_t n;
    char c = peek(ps);

    if (c == '[' || c == '(') {
        ps->p++;
        n = parse_alternatives(ps, c == '[' ? ']' : ')');
        node = &ps->doc->node[n];
        node->is_optional = node->is_optional || c == '[';
    } else {
        struct hf_slice word = take_word(ps);

        if (*ps->p == ':') {
            n = new_node(ps, HF_DOC_ARGUMENT);
            node = &ps->doc->node[n];
            node->name = word;
            ps->p++;
            node->type = take_word(ps);
        } else {
            c = peek(ps);
            if (c == '(' || islower((unsigned char)c)) {
                n = parse_item(ps);
            } else {
                n = new_node(ps, HF_DOC_TOKEN);
            }
            node = &ps->doc->node[n];
            node->token = word;
        }
    }
    if (strncmp(ps->p, "...", 3) == 0) {
        node->is_multiple = true;
        ps->p += 3;
    }
    return n;
}

/* Links the items up to one of the end characters; returns the first, and how many there are. */
static uint8_t parse_sequence(struct parser *ps, char close, unsigned *n_items)
{
    uint8_t first = 0, last = 0;

    for (*n_items = 0; !ps->failed && peek(ps) != '\0' && *ps->p != '|' && *ps->p != close; ++*n_items) {
        uint8_t n = parse_item(ps);

        if (first == 0)
            first = n;
        else
            ps->doc->node[last].next = n;
        last = n;
    }
    return first;
}

static uint8_t parse_alternatives(struct parser *ps, char close)
{
    uint8_t first = 0, last = 0, n;
    unsigned n_alternatives = 0;

    while (!ps->failed) {
        unsigned n_items;
        uint8_t child = parse_sequence(ps, close, &n_items);

        if (n_items == 0) {
            ps->failed = true;
            break;
        }
        if (n_items > 1) {
            n = new_node(ps, HF_DOC_BLOCK);
            ps->doc->node[n].first_child = child;
            child = n;
        }
        if (first == 0)
            first = child;
        else
            ps->doc->node[last].next = child;
        last = child;
        n_alternatives++;
        if (*ps->p != '|')
            break;
        ps->p++;
    }
    if (*ps->p == close)
        ps->p++;
    else
        ps->failed = true;
    if (n_alternatives == 1)
        return first;
    n = new_node(ps, HF_DOC_ONEOF);
    ps->doc->node[n].first_child = first;
    return n;
}

bool hf_doc_parse(struct hf_doc *doc, const char *text)
{
    struct parser ps = {.doc = doc, .p = text};
    unsigned n_items;

    memset(doc, 0, sizeof(*doc));
    (void)new_node(&ps, HF_DOC_BLOCK);
    doc->node[0].first_child = parse_sequence(&ps, '\0', &n_items);
    return !ps.failed && *ps.p == '\0';
}

void hf_doc_usage(struct hf_buf *out, const char *text)
{
    for (const char *p = text; *p != '\0'; p++) {
        if (*p == ':') {
            while (is_word(p[1]))
                p++;
        } else if (strncmp(p, "...", 3) == 0) {
            hf_buf_printf(out, " ...");
            p += 2;
        } else {
            hf_buf_put_u8(out, (uint8_t)*p);
        }
    }
}

/* ---- HELP ---------------------------------------------------------------------------------------- */

static void put_upper(struct hf_buf *out, const char *name)
{
    for (; *name != '\0'; name++)
        hf_buf_put_u8(out, (uint8_t)(*name == '|' ? ' ' : toupper((unsigned char)*name)));
}

static void reply_line(struct hf_reply *out, struct hf_buf *line)
{
    hf_buf_put_u8(line, 0);
    hf_reply_status(out, (const char *)line->data);
    line->len = 0;
}

void hf_local_help(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    const struct hf_command *container = hf_command_find(args->at[0]);
    struct hf_buf line = {0};
    size_t mark = hf_reply_begin(out, HF_REPLY_ARRAY);
    uint32_t n = 1;

    (void)cx;
    HF_ASSERT(container != NULL);
    put_upper(&line, container->name);
    hf_buf_printf(&line, " <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
    reply_line(out, &line);
    for (const struct hf_command *sub = container->subcommands; sub->name != NULL; sub++, n += 2) {
        put_upper(&line, strchr(sub->name, '|') + 1);
        if (sub->doc.args[0] != '\0') {
            hf_buf_put_u8(&line, ' ');
            hf_doc_usage(&line, sub->doc.args);
        }
        reply_line(out, &line);
        hf_buf_printf(&line, "    %s", sub->doc.summary);
        reply_line(out, &line);
    }
    hf_reply_end(out, mark, n);
    hf_buf_free(&line);
}

/* ---- docs/commands.md ---------------------------------------------------------------------------- */

static const struct {
    enum hf_command_group group;
    const char *title;
} chapters[] = {
    {HF_GROUP_CONNECTION, "Connection"}, {HF_GROUP_GENERIC, "Keys"},      {HF_GROUP_STRING, "Strings"},
    {HF_GROUP_HOLDFAST, "Holdfast"},     {HF_GROUP_SERVER, "The server"},
};

static void put_kind(struct hf_buf *out, const struct hf_command *row)
{
    if (row->flags & HF_CMD_WRITE)
        hf_buf_printf(out, "A write, through the log.");
    else if ((row->flags & HF_CMD_READ) && !(row->flags & HF_CMD_NOGATE))
        hf_buf_printf(out, "A linearizable read.");
    else if (row->flags & HF_CMD_OPERATE)
        hf_buf_printf(out, "For operators; any node takes it and answers when it is done.");
    else
        hf_buf_printf(out, "Answered by the node the client is connected to.");
}

static void put_command(struct hf_buf *out, const struct hf_command *row)
{
    hf_buf_printf(out, "### ");
    put_upper(out, row->name);
    hf_buf_printf(out, "\n\n");
    hf_buf_printf(out, "```\n");
    put_upper(out, row->name);
    if (row->subcommands != NULL && row->local == NULL)
        hf_buf_printf(out, " <subcommand>");
    if (row->doc.args[0] != '\0') {
        hf_buf_put_u8(out, ' ');
        hf_doc_usage(out, row->doc.args);
    }
    hf_buf_printf(out, "\n```\n\n%s\n\n", row->doc.summary);
    if (row->subcommands != NULL && row->local == NULL)
        hf_buf_printf(out, "Since %s.\n\n", row->doc.since);
    else {
        put_kind(out, row);
        hf_buf_printf(out, " Complexity: %s. Since %s.\n\n", row->doc.complexity, row->doc.since);
    }
}

void hf_command_docs_markdown(struct hf_buf *out)
{
    const struct hf_command *const *all = hf_command_all();

    hf_buf_printf(out, "# Commands\n\n"
                       "Made from the command table by `cmddoc`; do not edit. What differs from Redis is in\n"
                       "[redis-compatibility.md](redis-compatibility.md). \"Since\" is the Redis version that brought\n"
                       "a command, or the Holdfast version for its own.\n\n");
    for (size_t c = 0; c < sizeof(chapters) / sizeof(chapters[0]); c++)
        hf_buf_printf(out, "- %s\n", chapters[c].title);
    for (size_t c = 0; c < sizeof(chapters) / sizeof(chapters[0]); c++) {
        hf_buf_printf(out, "\n## %s\n\n", chapters[c].title);
        for (size_t i = 0; all[i] != NULL; i++) {
            if (all[i]->doc.group != chapters[c].group)
                continue;
            put_command(out, all[i]);
            for (const struct hf_command *sub = all[i]->subcommands; sub != NULL && sub->name != NULL; sub++)
                put_command(out, sub);
        }
        out->len--; /* one empty line between chapters */
    }
}
