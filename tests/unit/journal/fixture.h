/* fixture.h: one journal on a fake disk, with a record of what it reported. */
#ifndef HF_TESTS_JOURNAL_FIXTURE_H
#define HF_TESTS_JOURNAL_FIXTURE_H

#include "journal/journal.h"
#include "support/fake_env.h"

#include <check.h>

struct fixture {
    struct hf_fake_world *world;
    struct hf_env *env;
    struct hf_fake_fs *disk;
    struct hf_stats *stats;
    struct hf_journal_events events;
    struct hf_journal_config config;
    struct hf_journal_state state;
    struct hf_journal *journal;
    char why[1024];
    /* what was reported */
    uint64_t durable;
    int durable_calls, vote_calls, failed;
};

void fixture_init(struct fixture *f, uint64_t seed, uint64_t segment_bytes);
void fixture_free(struct fixture *f); /* closes the journal if it is open */
int fixture_open(struct fixture *f);
void fixture_must_open(struct fixture *f);
void fixture_close(struct fixture *f);
/* Power loss, teardown, and the disk ready for the next open. */
void fixture_crash(struct fixture *f, enum hf_fake_loss loss);
/* Append entries [next_index, next_index + n) of `term`, each of `len` bytes derived from (index, term, len). */
void fixture_append(struct fixture *f, uint64_t term, uint64_t n, uint32_t len);
void fixture_run_ms(struct fixture *f, uint64_t ms);
struct hf_log_entry *fixture_entry(uint64_t index, uint64_t term, uint32_t len);
bool fixture_entry_is_genuine(const struct hf_log_entry *e);
void fixture_wait_durable(struct fixture *f, uint64_t index);
/* Everything from first_index to the end is there, in order, genuine. Only before the first append. */
void fixture_check_scan(struct fixture *f, uint64_t first, uint64_t next);
/* Read through hf_journal_read until done; returns rc; *n and the first index / last index seen. */
int fixture_read(struct fixture *f, uint64_t first, size_t n_max, size_t bytes_max, uint64_t *n);

Suite *format_suite(void);
Suite *journal_suite(void);
Suite *damage_suite(void);
Suite *property_suite(void);
Suite *space_suite(void);
Suite *threads_suite(void);

#endif
