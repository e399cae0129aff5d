/* fake_table.h: a tiny command table in place of src/command, and helpers to build log entries of it. */
#ifndef HF_TESTS_APPLY_FAKE_TABLE_H
#define HF_TESTS_APPLY_FAKE_TABLE_H

#include "apply/apply.h"

#include <check.h>

enum {
    OP_PUT = 1,  /* slice key, slice value, i64 expiry: replies with the version */
    OP_ROLL,     /* replies with two numbers of the generator */
    OP_LEAVES,   /* puts a key "half" and reads nothing */
    OP_OVERREAD, /* puts a key "half" and reads too much */
    OP_GATE,     /* waits until fake_gate is opened */
    OP_SETTING,  /* slice name, slice value */
    OP_LEVEL,    /* u32 level, kept as the setting "level" */
    OP_READ_ONLY,
    OP_UNKNOWN = 999,
};

extern const struct hf_command fake_get;     /* args: key; bulk or null */
extern const struct hf_command fake_not_yet; /* always needs a tick */
extern const struct hf_command fake_applied; /* replies with the applied index */
void fake_gate_close(void);
void fake_gate_open(void);

struct hf_log_entry *entry_put(uint64_t index, int64_t stamp_ms, const char *key, const char *value, int64_t expiry);
/* One command with this payload. */
struct hf_log_entry *entry_op(uint64_t index, uint16_t op, struct hf_slice payload);
struct hf_log_entry *entry_other(uint64_t index, enum hf_entry_type type, const char *bytes);
struct hf_log_entry *entry_setting(uint64_t index, const char *name, const char *value);
struct hf_log_entry *entry_level(uint64_t index, uint32_t level);
void put_payload(struct hf_buf *out, const char *key, const char *value, int64_t expiry);

extern char test_dir[64];
const char *test_path(void);
/* A second database, for swaps. */
const char *test_path_b(void);
void make_test_dir(void);
void remove_test_dir(void);
struct hf_store *open_test_store(void);
struct hf_store *open_store_at(const char *path);

TCase *apply_case(void);
TCase *state_case(void);

#endif
