/* cmddoc.c: prints docs/commands.md from the command table. A lint test compares its output with the committed page. */
#include "command/command.h"

#include <stdio.h>

int main(void)
{
    struct hf_buf text = {0};
    bool is_written;

    hf_command_table_init();
    hf_command_docs_markdown(&text);
    is_written = fwrite(text.data, 1, text.len, stdout) == text.len && fflush(stdout) == 0;
    hf_buf_free(&text);
    return is_written ? 0 : 1;
}
