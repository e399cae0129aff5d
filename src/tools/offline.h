/* offline.h: what the subcommands for data directories at rest share: the environment that consensus/offline.h runs
 * in, looking at a directory, asking before something is lost. */
#ifndef HF_TOOLS_OFFLINE_H
#define HF_TOOLS_OFFLINE_H

#include "consensus/offline.h"
#include "tools/tools.h"

#include <stdio.h>

#define HF_WHY_BYTES 2048

struct hf_tool_world {
    struct hf_env *env;
    struct hf_offline_loop loop;
    uint64_t seed; /* from the kernel */
};
/* False: said why on stderr. */
bool hf_tool_world_open(struct hf_tool_world *w);
void hf_tool_world_close(struct hf_tool_world *w);

/* What a directory holds, as lines for people. */
void hf_tool_print_summary(const struct hf_offline_summary *s, FILE *to);
/* Prints the question and reads a line from standard input; true when it is `word`. Without a terminal nobody can
 * answer: false, and says that --yes is needed. */
bool hf_tool_confirm(const char *question, const char *word);
/* Text in lines of at most 100 characters. */
void hf_tool_print_wrapped(FILE *to, const char *text);
/* A word as a shell takes it. */
void hf_tool_print_word(struct hf_buf *out, const char *word);

#endif
