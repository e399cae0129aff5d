/* fixture.h: what the tests of the store share: databases in a directory of their own under the temporary directory,
 * and short words for what they do most. */
#ifndef HF_TESTS_STORE_FIXTURE_H
#define HF_TESTS_STORE_FIXTURE_H

#include "store/store.h"

#include <check.h>

extern char dir[64];

/* The checked fixture: remove_dir asserts that nothing but a.db, b.db, c.db and what SQLite puts beside them is
 * left. */
void make_dir(void);
void remove_dir(void);
void remove_file(const char *name);
bool file_exists(const char *name);
uint64_t file_size(const char *name); /* 0 when it is not there */
/* DIR/name; the last four stay valid. */
const char *path_of(const char *name);

struct hf_store *open_with(const char *name, uint64_t cache_bytes, uint64_t dirty_bytes);
struct hf_store *open_store(void); /* a.db */
/* Opens a.db and closes it again; the error. */
int try_open(char *why, size_t why_size);
/* On a.db, which must be closed. */
void run_sql(const char *sql);

void begin(struct hf_store *s, int64_t now_ms); /* the next entry */
void end(struct hf_store *s);
void put(struct hf_store *s, const char *key, const char *value, int64_t expires_at_ms);
bool has(struct hf_store *s, const char *key);

Suite *suite_store(void);
Suite *suite_settings(void);
Suite *suite_rest(void);
Suite *suite_copy(void);

#endif
