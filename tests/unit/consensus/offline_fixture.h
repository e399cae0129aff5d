/* offline_fixture.h: data directories on a fake disk or a real one, to do offline work on, and a power loss at each
 * operation of it. */
#ifndef HF_TEST_CONSENSUS_OFFLINE_FIXTURE_H
#define HF_TEST_CONSENSUS_OFFLINE_FIXTURE_H

#include "base/mem.h"
#include "base/util.h"
#include "consensus/consensus.h"
#include "consensus/identity.h"
#include "consensus/offline.h"
#include "journal/journal.h"
#include "support/fake_env.h"

#include <check.h>
#include <inttypes.h>
#include <raft.h>
#include <stdio.h>
#include <stdlib.h>

/* What offline_build builds. */
#define OLD_STORE UINT64_C(0x2222)
#define OLD_LAST  10u
#define OLD_TERM  3u

/* Where the work is done: a fake disk, or a real one. */
struct offline_place {
    struct hf_fake_world *world; /* NULL: real */
    struct hf_fake_fs *disk;
    struct hf_env *env;
    struct hf_fs *fs;
    struct hf_offline_loop loop;
    bool is_stopped;
    char dir[64];
    char why[1500];
};

/* A configuration at this index of the journal. */
struct offline_part {
    uint64_t index;
    struct hf_buf bytes;
};

struct offline_node {
    struct offline_place *place;
    struct hf_stats *stats;
    struct hf_consensus *c;
    uint64_t delivered;
    enum hf_role role;
};

enum offline_stage { BEFORE, UNFINISHED, DONE, N_STAGES };

struct offline_crash_case {
    void (*prepare)(struct offline_place *p);
    int (*act)(struct offline_place *p, uint64_t seed);
    enum offline_stage (*judge)(struct offline_place *p); /* fails the test when it is none of the three */
    void (*finish)(struct offline_place *p);              /* after it was run again: check the whole */
};

extern const char *const offline_three[3]; /* the members of that cluster, as in its configuration */

void offline_open_fake(struct offline_place *p, uint64_t seed);
void offline_open_real(struct offline_place *p);
void offline_close(struct offline_place *p);
/* DIR/name, valid for the next few calls. */
const char *offline_path(const struct offline_place *p, const char *name);
void offline_write_file(struct offline_place *p, const char *path, const char *text);
bool offline_has_file(struct offline_place *p, const char *path);
void offline_names(struct offline_place *p, const char *dir, char *out, size_t size);
void offline_put_configuration(struct hf_buf *out, const char *const *addresses, const int *roles, unsigned n);
struct hf_identity offline_old_identity(void);
/* Entries up to and with `last`, some of them configurations; then the vote of OLD_TERM. */
void offline_write_journal(struct offline_place *p, uint64_t first, uint64_t last, uint64_t term,
                           const struct offline_part *parts, unsigned n_parts);
/* Node 2 of three: a marker at 5, a journal of 1..10, of terms up to 2; it voted in term 3. */
void offline_build(struct offline_place *p);
/* And checks that nothing on disk changed. */
struct hf_offline_summary offline_look(struct offline_place *p, int *rc);
int offline_open_node(struct offline_place *p, struct offline_node *n, uint64_t id);
void offline_close_node(struct offline_node *n);
/* The directory starts, leads alone and commits everything it holds. */
void offline_check_leads_alone(struct offline_place *p, uint64_t id, uint64_t applied, uint64_t at_least);
void offline_check_old(const struct hf_offline_summary *s);
/* The power goes in the middle of every operation in turn; the directory is judged, the work is done again. */
void offline_crash_everywhere(const struct offline_crash_case *cc);
/* The node refuses to start on it, with the same word. */
void offline_check_refused(struct offline_place *p, const char *command);

TCase *offline_create_case(void); /* test_offline_create.c */

#endif
