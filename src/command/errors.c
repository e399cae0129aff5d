/* errors.c: error replies counted by their first word, for INFO errorstats. */
#include "command/command.h"

#include "base/assert.h"

#include <stdio.h>

/* Every word that an error of this server begins with; "other" catches what is not here. */
static const char *const words[] = {
    "ERR",       "WRONGTYPE", "UNKNOWN",  "NOLEADER",  "OVERLOADED", "NOSPACE", "NOAUTH",
    "WRONGPASS", "NOPROTO",   "READONLY", "EXECABORT", "LOADING",    "BUSY",    "other",
};
_Static_assert(sizeof(words) / sizeof(words[0]) == HF_ERROR_WORDS, "a counter for each word");

const char *hf_error_word(uint32_t i)
{
    HF_ASSERT(i < HF_ERROR_WORDS);
    return words[i];
}

struct hf_error_stats hf_error_stats(struct hf_stats *st)
{
    struct hf_error_stats errors;
    char label[32];

    for (uint32_t i = 0; i < HF_ERROR_WORDS; i++) {
        snprintf(label, sizeof(label), "word=\"%s\"", words[i]);
        errors.of[i] =
            hf_stats_counter(st, "error_replies_by_word_total", label, "Error replies to clients by their first word");
    }
    return errors;
}

void hf_error_stats_count(const struct hf_error_stats *errors, struct hf_slice flat)
{
    struct hf_reader in = hf_reader(flat);
    struct hf_slice text;
    uint32_t i = 0;
    size_t n = 0;

    if (hf_reply_first_tag(flat) != HF_REPLY_ERROR)
        return;
    (void)hf_read_u8(&in);
    text = hf_read_slice(&in);
    while (n < text.len && text.ptr[n] != ' ')
        n++;
    while (i < HF_ERROR_WORDS - 1 && !hf_slice_eq(hf_slice(text.ptr, n), hf_slice_str(words[i])))
        i++;
    hf_counter_add(errors->of[i], 1);
}
