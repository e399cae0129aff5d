/* internal.h: what the files of this folder share and nobody else sees.
 *
 *   apply.c      one entry, synchronous
 *   settings.c   replicated settings: lists of them, their differences, the feature level
 *   state.c      the state thread */
#ifndef HF_APPLY_INTERNAL_H
#define HF_APPLY_INTERNAL_H

#include "apply/apply.h"

/* As hf_apply_entry; *are_settings_changed becomes true (never false) when the entry may have changed settings. */
HF_MUST_CHECK int hf_apply_entry_noting(struct hf_store *s, const struct hf_log_entry *e,
                                        struct hf_apply_result *result, bool *are_settings_changed, char *why,
                                        size_t why_size);

/* All settings of a store in byte order of their names, as (u32 length, bytes) name, then value; *level is the feature
 * level among them. Replaces what was in out. */
void hf_settings_list(struct hf_store *s, struct hf_buf *out, uint32_t *level);
/* Tells what is in `now` and not, or with another value, in `before` (is_all: all of `now`), and "" for what is gone.
 */
void hf_settings_compare(const struct hf_buf *before, const struct hf_buf *now, bool is_all,
                         void (*cb)(void *data, struct hf_slice name, struct hf_slice value), void *data);
/* hf_store_open, but refuses a state of a feature level above this release's: HF_E_VERSION. */
HF_MUST_CHECK int hf_open_supported(const struct hf_store_config *config, struct hf_stats *stats, struct hf_store **out,
                                    char *why, size_t why_size);

#endif
