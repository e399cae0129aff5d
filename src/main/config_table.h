/* config_table.h: the table of settings, shared by config.c (start, texts) and config_run.c (while the node runs). Seen
 * by these two alone. */
#ifndef HF_MAIN_CONFIG_TABLE_H
#define HF_MAIN_CONFIG_TABLE_H

#include "main/config.h"

/* WORD: letters, digits, '.', '_', '-', at most `high` of them. ADDRESS: host:port, at most `high` with commas between.
 */
enum hf_setting_type { TEXT, WORD, ADDRESS, NUMBER, BYTES, MILLIS, SECONDS, FLAG, CHOICE };
/* Whether CONFIG SET may change it: not; for this node; for the whole cluster. */
enum hf_setting_scope { FIXED, LIVE, CLUSTER };

struct hf_setting {
    const char *name;
    enum hf_setting_type type;
    size_t offset;
    const char *value;  /* default, as one would write it */
    uint64_t low, high; /* numbers */
    enum hf_setting_scope scope;
    const char *redis;   /* the name Redis has for it, or NULL */
    const char *choices; /* CHOICE: "a|b|c" */
    const char *section; /* first setting of a section names it */
    const char *help;
};
extern const struct hf_setting hf_settings_table[];
extern const size_t hf_n_settings;

struct hf_redis_parameter {
    const char *name, *value;
};
extern const struct hf_redis_parameter hf_redis_parameters[];
extern const size_t hf_n_redis_parameters;

#define HF_CONFIG_ADDRESS_MAX 255

static inline bool hf_setting_is_text(const struct hf_setting *s)
{
    return s->type == TEXT || s->type == WORD || s->type == ADDRESS || s->type == CHOICE;
}

/* ---- config.c ---- */

/* Parse and range-check; *number is set for numbers. */
bool hf_setting_check(const struct hf_setting *s, const char *value, uint64_t *number, char *err, size_t err_size);
bool hf_setting_assign(struct hf_config *c, const struct hf_setting *s, const char *value, char *err, size_t err_size);
void hf_setting_print(const struct hf_config *c, const struct hf_setting *s, char *out, size_t cap);
bool hf_config_check_limits(uint64_t bulk_bytes_max, uint64_t query_bytes_max, char *err, size_t err_size);
bool hf_config_check_timeouts(uint64_t heartbeat_ms, uint64_t election_timeout_ms, char *err, size_t err_size);
/* What the settings must be together. */
bool hf_config_check_together(const struct hf_config *c, char *err, size_t err_size);

/* ---- config_run.c ---- */

struct hf_config_run *hf_config_run_new(void);
void hf_config_run_free(struct hf_config_run *run);
/* Where a value came from: "--maxclients", a file, a variable. */
void hf_config_note_origin(struct hf_config *c, const struct hf_setting *s, const char *origin);
/* NULL: the default holds. */
const char *hf_config_origin(const struct hf_config *c, const struct hf_setting *s);

#endif
