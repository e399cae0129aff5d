/* table.c: joins the rows of this folder into one table, once per process, and answers: which row has this name,
 * which row runs for these words, which row has this op. Step (3) of a command's walk.
 *
 * The rows are written as constants beside their handlers; here they are copied, so that every row and subcommand
 * gets its id. After hf_command_table_init the table is only read, from any thread. */
#include "command/command.h"

#include "base/assert.h"
#include "command/ops.h"
#include "command/rows.h"

#include <stdio.h>

#define ROWS_MAX       256
#define HASH_SLOTS     512 /* power of two, at least twice the top-level rows */
#define NAME_BYTES_MAX 32

static const struct hf_command *const sources[] = {
    hf_commands_connection, hf_commands_key,      hf_commands_string,
    hf_commands_server,     hf_commands_holdfast, hf_commands_member,
};

/* Set once by hf_command_table_init, constant afterwards. */
static struct {
    bool is_ready;
    struct hf_command rows[ROWS_MAX];       /* by id; the arrays of subcommands follow the top-level rows */
    struct hf_command subrows[ROWS_MAX];    /* arrays of subcommands, each ended by a row without a name */
    const struct hf_command *at[ROWS_MAX];  /* by id */
    const struct hf_command *all[ROWS_MAX]; /* top-level rows, NULL at the end */
    const struct hf_command *by_op[HF_OP_MAX + 1];
    struct hf_command internal[4]; /* rows without an id; ended by a row without a name */
    uint16_t hash[HASH_SLOTS];     /* 1 + position in all; 0 = free */
    uint16_t n_ids, n_all;
} table;

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c + ('a' - 'A')) : c;
}

/* FNV-1a over the lower-case name. */
static uint32_t name_hash(struct hf_slice name)
{
    uint32_t h = 2166136261u;

    for (size_t i = 0; i < name.len; i++)
        h = (h ^ lower(name.ptr[i])) * 16777619u;
    return h ^ (h >> 15);
}

static void give_op(struct hf_command *row)
{
    if (row->op == 0)
        return;
    HF_ASSERT(row->op <= HF_OP_MAX);
    HF_ASSERT(table.by_op[row->op] == NULL);
    table.by_op[row->op] = row;
}

static void give_id(struct hf_command *row)
{
    HF_ASSERT(table.n_ids < ROWS_MAX);
    row->id = table.n_ids;
    table.at[table.n_ids++] = row;
    give_op(row);
}

void hf_command_table_init(void)
{
    size_t n_sub = 0;

    if (table.is_ready)
        return;
    for (size_t s = 0; s < sizeof(sources) / sizeof(sources[0]); s++) {
        for (const struct hf_command *source = sources[s]; source->name != NULL; source++) {
            struct hf_command *row = &table.rows[table.n_all];
            uint32_t slot = name_hash(hf_slice_str(source->name)) % HASH_SLOTS;

            HF_ASSERT(table.n_all < HASH_SLOTS / 2);
            *row = *source;
            give_id(row);
            table.all[table.n_all++] = row;
            while (table.hash[slot] != 0)
                slot = (slot + 1) % HASH_SLOTS;
            table.hash[slot] = table.n_all;
            if (row->subcommands == NULL)
                continue;
            row->subcommands = &table.subrows[n_sub];
            for (const struct hf_command *sub = source->subcommands; sub->name != NULL; sub++) {
                HF_ASSERT(n_sub < ROWS_MAX - 1);
                table.subrows[n_sub] = *sub;
                give_id(&table.subrows[n_sub++]);
            }
            table.subrows[n_sub++].name = NULL;
        }
    }
    for (size_t i = 0; hf_commands_internal[i].name != NULL; i++) {
        HF_ASSERT(i + 1 < sizeof(table.internal) / sizeof(table.internal[0]));
        table.internal[i] = hf_commands_internal[i];
        table.internal[i].id = UINT16_MAX;
        give_op(&table.internal[i]);
    }
    table.is_ready = true;
}

const struct hf_command *hf_command_find(struct hf_slice name)
{
    uint32_t slot;

    HF_ASSERT(table.is_ready);
    if (name.len > NAME_BYTES_MAX)
        return NULL;
    for (slot = name_hash(name) % HASH_SLOTS; table.hash[slot] != 0; slot = (slot + 1) % HASH_SLOTS) {
        const struct hf_command *row = table.all[table.hash[slot] - 1];

        if (hf_slice_is(name, row->name))
            return row;
    }
    return NULL;
}

/* Redis quotes up to 128 bytes of the name, and of the arguments until 128 bytes of them are reached. */
static void unknown_command(const struct hf_args *args, struct hf_reply *err)
{
    struct hf_buf text = {0};
    size_t start;
    size_t n = args->at[0].len < 128 ? args->at[0].len : 128;

    hf_buf_printf(&text, "ERR unknown command '");
    hf_buf_put(&text, args->at[0].ptr, n);
    hf_buf_printf(&text, "', with args beginning with: ");
    start = text.len;
    for (uint32_t i = 1; i < args->n && text.len - start < 128; i++) {
        size_t left = 128 - (text.len - start);

        hf_buf_put_u8(&text, '\'');
        hf_buf_put(&text, args->at[i].ptr, args->at[i].len < left ? args->at[i].len : left);
        hf_buf_put(&text, "' ", 2);
    }
    /* The error is a C string: what follows a zero byte would be lost, so show such bytes as spaces. */
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] == 0)
            text.data[i] = ' ';
    }
    hf_buf_put_u8(&text, 0);
    hf_reply_error(err, (const char *)text.data);
    hf_buf_free(&text);
}

static void unknown_subcommand(const struct hf_command *container, struct hf_slice name, struct hf_reply *err)
{
    char upper[NAME_BYTES_MAX + 1] = "";

    for (size_t i = 0; container->name[i] != '\0'; i++)
        upper[i] = (char)(container->name[i] >= 'a' && container->name[i] <= 'z' ? container->name[i] - ('a' - 'A')
                                                                                 : container->name[i]);
    hf_reply_errorf(err, "ERR unknown subcommand '%.*s'. Try %s HELP.", (int)(name.len < 128 ? name.len : 128),
                    (const char *)name.ptr, upper);
}

static const struct hf_command *find_subcommand(const struct hf_command *container, struct hf_slice name)
{
    for (const struct hf_command *sub = container->subcommands; sub->name != NULL; sub++) {
        if (hf_slice_is(name, strchr(sub->name, '|') + 1))
            return sub;
    }
    return NULL;
}

static bool has_handler(const struct hf_command *row)
{
    return row->plan != NULL || row->read != NULL || row->local != NULL || row->operate != NULL;
}

const struct hf_command *hf_command_resolve(const struct hf_args *args, struct hf_reply *err)
{
    const struct hf_command *row;

    HF_ASSERT(args->n > 0);
    row = hf_command_find(args->at[0]);
    if (row == NULL) {
        unknown_command(args, err);
        return NULL;
    }
    if (row->subcommands != NULL && args->n > 1) {
        const struct hf_command *sub = find_subcommand(row, args->at[1]);

        if (sub == NULL) {
            unknown_subcommand(row, args->at[1], err);
            return NULL;
        }
        row = sub;
    }
    if (!has_handler(row) || (row->arity > 0 && args->n != (uint32_t)row->arity) ||
        (row->arity < 0 && args->n < (uint32_t)-row->arity)) {
        hf_reply_errorf(err, "ERR wrong number of arguments for '%s' command", row->name);
        return NULL;
    }
    return row;
}

const struct hf_command *hf_command_by_op(uint16_t op)
{
    HF_ASSERT(table.is_ready);
    return op <= HF_OP_MAX ? table.by_op[op] : NULL;
}

const struct hf_command *hf_command_internal(struct hf_slice name)
{
    HF_ASSERT(table.is_ready);
    for (const struct hf_command *row = table.internal; row->name != NULL; row++)
        if (hf_slice_eq(name, hf_slice_str(row->name)))
            return row;
    return NULL;
}

uint16_t hf_command_count(void)
{
    HF_ASSERT(table.is_ready);
    return table.n_ids;
}

const struct hf_command *hf_command_at(uint16_t id)
{
    HF_ASSERT(table.is_ready);
    HF_ASSERT(id < table.n_ids);
    return table.at[id];
}

const struct hf_command *const *hf_command_all(void)
{
    HF_ASSERT(table.is_ready);
    return table.all;
}

/* Larger keys could not be stored beside the largest value (store.h). Checked before a key can enter the log. */
static bool has_oversized_key(const struct hf_command *cmd, const struct hf_args *args)
{
    int32_t last = cmd->keys.last < 0 ? (int32_t)args->n + cmd->keys.last : cmd->keys.last;

    if (cmd->keys.first == 0)
        return false;
    for (int32_t i = cmd->keys.first; i <= last && i < (int32_t)args->n; i += cmd->keys.step)
        if (args->at[i].len > HF_KEY_BYTES_MAX)
            return true;
    return false;
}

void hf_operation_done(struct hf_operation *op)
{
    op->cb(op);
}

int hf_command_plan(const struct hf_command *cmd, struct hf_plan *plan, const struct hf_args *args)
{
    int rc;

    HF_ASSERT(cmd->plan != NULL);
    plan->payload.len = 0;
    plan->refusal.buf.len = 0;
    plan->refusal.discard = false;
    plan->op = cmd->op;
    if (has_oversized_key(cmd, args)) {
        hf_reply_error(&plan->refusal, "ERR key is longer than 268435456 bytes");
        return -1;
    }
    rc = cmd->plan(plan, args);
    /* A refusal without a text, or a text without a refusal, would leave the client without its answer. */
    HF_ASSERT((rc != 0) == (plan->refusal.buf.len != 0));
    return rc;
}

void hf_plan_free(struct hf_plan *p)
{
    hf_buf_free(&p->payload);
    hf_reply_free(&p->refusal);
}

struct hf_command_stats hf_command_stats(struct hf_stats *st, uint16_t id)
{
    struct hf_command_stats s;
    char label[NAME_BYTES_MAX * 2 + 8];

    snprintf(label, sizeof(label), "cmd=\"%s\"", hf_command_at(id)->name);
    s.calls = hf_stats_counter(st, "command_calls_total", label, "Commands that ran.");
    s.rejected = hf_stats_counter(st, "command_rejected_total", label, "Commands refused before they ran.");
    s.failed = hf_stats_counter(st, "command_failed_total", label, "Commands that ran and gave an error.");
    s.duration_us = hf_stats_histogram(st, "command_duration_us", label, "From request to reply.");
    return s;
}
