/* rows.h: the tables of this folder, one array a topic, each ended by a row without a name; table.c joins them.
 * Private to the folder. */
#ifndef HF_COMMAND_ROWS_H
#define HF_COMMAND_ROWS_H

#include "command/command.h"

extern const struct hf_command hf_commands_connection[];
extern const struct hf_command hf_commands_key[];
extern const struct hf_command hf_commands_string[];
extern const struct hf_command hf_commands_server[];
extern const struct hf_command hf_commands_holdfast[];
extern const struct hf_command hf_commands_member[];

/* Without names for clients (hf_command_internal); not among the others. */
extern const struct hf_command hf_commands_internal[];

extern const struct hf_command hf_subcommands_client[];
extern const struct hf_command hf_subcommands_command[];

/* Where the keys stand. */
/* clang-format off */
#define HF_ONE_KEY   {1, 1, 1}
#define HF_TWO_KEYS  {1, 2, 1}
#define HF_ALL_KEYS  {1, -1, 1}
#define HF_ALL_PAIRS {1, -1, 2}
#define HF_KEY_AT_2  {2, 2, 1} /* behind a subcommand */
/* clang-format on */

/* COMMAND without a subcommand (introspect.c). */
void hf_local_command(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out);
/* HELP of any command with subcommands, made from their rows (doc.c). */
void hf_local_help(struct hf_local_ctx *cx, const struct hf_args *args, struct hf_reply *out);
/* INFO (info.c). */
void hf_read_info(struct hf_read_ctx *cx, const struct hf_args *args, struct hf_reply *out);

/* The row of a HELP subcommand, the same in every container. */
#define HF_ROW_HELP(container, group_)                                                                                 \
    {                                                                                                                  \
        .name = container "|help", .arity = 2, .flags = HF_CMD_LOCAL | HF_CMD_LOADING, .local = hf_local_help,         \
        .doc = {                                                                                                       \
            .group = group_,                                                                                           \
            .summary = "Prints this help.",                                                                            \
            .since = "5.0.0",                                                                                          \
            .complexity = "O(1)",                                                                                      \
            .args = "",                                                                                                \
        },                                                                                                             \
    }

#endif
