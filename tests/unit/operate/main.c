/* The operator over doubles of everything around it: consensus that answers when the test says, copies of the state
 * that are made when the test says, a lane that keeps what it was given. */
#include "doubles.h"

#include "base/log.h"
#include "base/mem.h"
#include "operate/operate.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

static struct test_env te;
static struct hf_stats *stats;
static struct hf_consensus consensus;
static struct hf_state state;
static struct hf_operator *o;
static const struct hf_operator_ops *ops;

/* ---- consensus, state, proposer ------------------------------------------------------------------------ */

static struct hf_member_request *asked[8];
static uint32_t n_asked, members_level, state_level;

void hf_consensus_operate(struct hf_consensus *c, struct hf_member_request *req)
{
    ck_assert_ptr_eq(c, &consensus);
    asked[n_asked++] = req;
}

uint32_t hf_consensus_members_level(const struct hf_consensus *c)
{
    (void)c;
    return members_level;
}

static uint64_t applied_index;
static unsigned n_commits;

uint64_t hf_state_applied_index(const struct hf_state *st)
{
    (void)st;
    return applied_index;
}

void hf_state_commit(struct hf_state *st)
{
    (void)st;
    n_commits++;
}

uint32_t hf_state_level(const struct hf_state *st)
{
    (void)st;
    return state_level;
}

static struct hf_propose_req *proposed;
static uint32_t n_proposed, proposed_level;
static int propose_rc;

int hf_propose(struct hf_proposer *p, struct hf_propose_req *req, const struct hf_plan *plan)
{
    (void)p;
    ck_assert_uint_eq(plan->payload.len, 4);
    if (propose_rc != 0)
        return propose_rc;
    proposed = req;
    proposed_level = hf_load_u32(plan->payload.data);
    n_proposed++;
    return 0;
}

static void end_proposal(enum hf_fate fate)
{
    struct hf_propose_req *req = proposed;

    proposed = NULL;
    req->cb(req, fate, hf_slice(NULL, 0));
}

/* ---- lanes --------------------------------------------------------------------------------------------- */

struct hf_lane {
    struct hf_dispatch_req *req; /* the one that waits for its answer */
    uint32_t n;
    bool is_closed;
};
static struct hf_lane the_lane;

struct hf_lane *hf_lane_open(struct hf_dispatcher *d)
{
    (void)d;
    return &the_lane;
}

void hf_lane_submit(struct hf_lane *lane, struct hf_dispatch_req *req)
{
    ck_assert(!lane->is_closed);
    ck_assert_ptr_null(lane->req);
    memset(&req->reply, 0, sizeof req->reply);
    lane->req = req;
    lane->n++;
}

void hf_lane_close(struct hf_lane *lane, void (*release)(struct hf_dispatch_req *req))
{
    lane->is_closed = true;
    if (lane->req)
        release(lane->req);
    lane->req = NULL;
}

/* The words of what waits in the lane. */
static const char *in_lane(void)
{
    static char line[200];
    const struct hf_args *args;

    if (the_lane.req == NULL)
        return "";
    args = &the_lane.req->args;
    ck_assert_uint_eq(args->n, 3);
    ck_assert_uint_eq(the_lane.req->command->flags, HF_CMD_WRITE);
    snprintf(line, sizeof line, "%.*s %.*s %.*s", (int)args->at[0].len, (const char *)args->at[0].ptr,
             (int)args->at[1].len, (const char *)args->at[1].ptr, (int)args->at[2].len, (const char *)args->at[2].ptr);
    return line;
}

static void answer_lane(const char *error)
{
    struct hf_dispatch_req *req = the_lane.req;

    the_lane.req = NULL;
    if (error)
        hf_reply_error(&req->reply, error);
    else
        hf_reply_ok(&req->reply);
    req->cb(req);
}

/* ---- copies -------------------------------------------------------------------------------------------- */

struct hf_snapshot_reader {
    struct hf_snapshot_info info;
    struct hf_snapshot_read *read;
    bool is_closed;
};
static struct hf_snapshot_reader readers[8];
static struct hf_snapshot_request *copies[8];
static uint32_t n_copies, n_given;

void hf_snapshots_copy(struct hf_snapshots *s, struct hf_snapshot_request *req)
{
    (void)s;
    copies[n_copies++] = req;
}

const struct hf_snapshot_info *hf_snapshot_reader_info(const struct hf_snapshot_reader *r)
{
    ck_assert(!r->is_closed);
    return &r->info;
}

void hf_snapshot_reader_read(struct hf_snapshot_reader *r, struct hf_snapshot_read *read)
{
    ck_assert_ptr_null(r->read);
    r->read = read;
}

void hf_snapshot_reader_close(struct hf_snapshot_reader *r)
{
    ck_assert(!r->is_closed);
    ck_assert_ptr_null(r->read);
    r->is_closed = true;
}

static void give_copy(uint32_t i)
{
    struct hf_snapshot_reader *r = &readers[n_given++];

    memset(r, 0, sizeof *r);
    r->info = (struct hf_snapshot_info){.index = 7, .term = 3, .level = 2, .bytes = 100};
    memset(r->info.digest, 0xab, sizeof r->info.digest);
    copies[i]->cb(copies[i], 0, r, NULL);
}

static void give_bytes(struct hf_snapshot_reader *r, int rc, const char *bytes)
{
    struct hf_snapshot_read *read = r->read;

    r->read = NULL;
    read->cb(read, rc, hf_slice_str(bytes));
}

/* ---- the configuration --------------------------------------------------------------------------------- */

/* "local*" belongs to the node, "cluster*" to the cluster, the value "bad" to nobody. */
static char sets[400];
static const char *refused_value;

static bool check_settings(void *data, const struct hf_slice *names, const struct hf_slice *values, uint32_t n,
                           bool *is_cluster, char *err, size_t err_size)
{
    ck_assert_ptr_eq(data, sets);
    for (uint32_t i = 0; i < n; i++) {
        if (hf_slice_is(values[i], "bad")) {
            snprintf(err, err_size, "bad value");
            return false;
        }
        is_cluster[i] = (names[i].ptr[0] | 0x20) == 'c';
    }
    return true;
}

static bool set_setting(void *data, struct hf_slice name, struct hf_slice value, bool persist, char *err,
                        size_t err_size)
{
    size_t n = strlen(sets);

    (void)data;
    if (refused_value && hf_slice_is(value, refused_value)) {
        snprintf(err, err_size, "refused");
        return false;
    }
    snprintf(sets + n, sizeof sets - n, "%.*s=%.*s%s;", (int)name.len, (const char *)name.ptr, (int)value.len,
             value.len ? (const char *)value.ptr : "", persist ? "!" : "");
    return true;
}

static const struct hf_settings_ops settings = {.data = sets, .check = check_settings, .set = set_setting};

/* ---- the whole ----------------------------------------------------------------------------------------- */

struct request {
    struct hf_operation op;
    int calls;
    char text[400];
};

static void on_done(struct hf_operation *op)
{
    struct request *r = op->data;
    struct hf_slice flat = hf_buf_slice(&op->reply.buf);
    bool has_text = hf_reply_first_tag(flat) == HF_REPLY_STATUS || hf_reply_first_tag(flat) == HF_REPLY_ERROR ||
                    hf_reply_first_tag(flat) == HF_REPLY_BULK;

    ck_assert(hf_reply_is_valid(flat));
    r->calls++;
    snprintf(r->text, sizeof r->text, "%.*s", has_text ? (int)flat.len - 5 : 0, (const char *)flat.ptr + 5);
}

static struct hf_operation *fresh(struct request *r)
{
    hf_reply_free(&r->op.reply);
    memset(r, 0, sizeof *r);
    r->op.data = r;
    r->op.cb = on_done;
    return &r->op;
}

static void done(struct request *r, const char *prefix)
{
    ck_assert_int_eq(r->calls, 1);
    ck_assert_msg(strncmp(r->text, prefix, strlen(prefix)) == 0, "%s", r->text);
    fresh(r);
}

static struct request rq[8];
static struct hf_operator_config config;

static void begin_with(const struct hf_settings_ops *s)
{
    test_env_init(&te);
    test_consensus_init(&consensus, &te);
    test_state_init(&state);
    stats = hf_stats_new();
    n_asked = n_copies = n_given = n_proposed = 0;
    members_level = 0;
    state_level = 2;
    propose_rc = 0;
    proposed = NULL;
    memset(&the_lane, 0, sizeof the_lane);
    sets[0] = 0;
    refused_value = NULL;
    config = (struct hf_operator_config){.backups_max = 2, .backup_idle_ms = 1000, .backup_chunk_max = 50};
    ck_assert_int_eq(hf_operator_open(&te.env, &config, &consensus, NULL, &state, NULL, s, stats, &o), 0);
    ops = hf_operator_ops(o);
    applied_index = 0;
    n_commits = 0;
    for (int i = 0; i < 8; i++)
        fresh(&rq[i]);
}

static void begin(void)
{
    begin_with(&settings);
    hf_operator_set_dispatcher(o, NULL);
}

static void end(void)
{
    hf_operator_close(o);
    for (int i = 0; i < 8; i++)
        fresh(&rq[i]);
    test_consensus_free(&consensus);
    hf_stats_free(stats);
    test_env_free(&te);
}

/* ---- members ------------------------------------------------------------------------------------------- */

START_TEST(test_member_requests)
{
    begin();
    ops->member(ops->data, fresh(&rq[0]), HF_MEMBER_REPLACE, hf_slice_str("old"), hf_slice_str("new"));
    ops->member(ops->data, fresh(&rq[1]), HF_MEMBER_TRANSFER, hf_slice_str(""), hf_slice_str(""));
    ops->member(ops->data, fresh(&rq[2]), HF_MEMBER_REMOVE, hf_slice_str("3"), hf_slice_str(""));
    ck_assert_uint_eq(n_asked, 3);
    ck_assert_int_eq(asked[0]->op, HF_MEMBER_REPLACE);
    ck_assert_str_eq(asked[0]->node, "old");
    ck_assert_str_eq(asked[0]->other, "new");
    ck_assert_uint_eq(asked[0]->timeout_ms, 30000);
    ck_assert_str_eq(asked[1]->node, "");
    asked[1]->cb(asked[1], 0, "node 2 leads");
    done(&rq[1], "OK node 2 leads");
    asked[0]->cb(asked[0], HF_E_BUSY, "ERR another change is under way");
    done(&rq[0], "ERR another change is under way");
    asked[2]->cb(asked[2], 0, "OK removed");
    done(&rq[2], "OK removed");
    end();
}
END_TEST

START_TEST(test_member_words_have_limits)
{
    char name[66], address[257];

    begin();
    memset(name, 'n', 66);
    memset(address, 'a', 257);
    ops->member(ops->data, fresh(&rq[0]), HF_MEMBER_ADD, hf_slice(name, 64), hf_slice(address, 255));
    ck_assert_uint_eq(n_asked, 1);
    ck_assert_uint_eq(strlen(asked[0]->node), 64);
    ck_assert_uint_eq(strlen(asked[0]->other), 255);
    ops->member(ops->data, fresh(&rq[1]), HF_MEMBER_ADD, hf_slice(name, 65), hf_slice(address, 1));
    done(&rq[1], "ERR ");
    ops->member(ops->data, fresh(&rq[1]), HF_MEMBER_ADD, hf_slice(name, 1), hf_slice(address, 256));
    done(&rq[1], "ERR ");
    ops->member(ops->data, fresh(&rq[1]), HF_MEMBER_ADD, hf_slice("a\0b", 3), hf_slice(address, 1));
    done(&rq[1], "ERR ");
    ck_assert_uint_eq(n_asked, 1);
    asked[0]->cb(asked[0], 0, "");
    ck_assert_str_eq(rq[0].text, "OK");
    done(&rq[0], "OK");
    end();
}
END_TEST

START_TEST(test_close_answers_everybody)
{
    begin();
    ops->member(ops->data, fresh(&rq[0]), HF_MEMBER_REMOVE, hf_slice_str("3"), hf_slice_str(""));
    ops->backup_start(ops->data, fresh(&rq[1]));
    ops->backup_start(ops->data, fresh(&rq[2]));
    give_copy(1);
    ck_assert_int_eq(rq[2].calls, 1);
    ops->config_set(ops->data, fresh(&rq[3]), &(struct hf_slice){(const uint8_t *)"cluster", 7},
                    &(struct hf_slice){(const uint8_t *)"1", 1}, 1);
    ck_assert_str_eq(in_lane(), "_setting config.cluster 1");
    hf_operator_close(o);
    done(&rq[0], "UNKNOWN ");
    done(&rq[1], "NOLEADER ");
    done(&rq[3], "UNKNOWN ");
    ck_assert(readers[0].is_closed);
    ck_assert(the_lane.is_closed);
    for (int i = 0; i < 8; i++)
        fresh(&rq[i]);
    test_consensus_free(&consensus);
    hf_stats_free(stats);
    test_env_free(&te);
}
END_TEST

/* ---- backups ------------------------------------------------------------------------------------------- */

/* The number under "id" of START's map. */
static uint64_t id_of(struct request *r)
{
    struct hf_reader in = hf_reader(hf_buf_slice(&r->op.reply.buf));

    ck_assert_int_eq(r->calls, 1);
    ck_assert_uint_eq(hf_read_u8(&in), HF_REPLY_MAP);
    ck_assert_uint_eq(hf_read_u32(&in), 6);
    ck_assert_uint_eq(hf_read_u8(&in), HF_REPLY_BULK);
    ck_assert(hf_slice_is(hf_read_slice(&in), "id"));
    ck_assert_uint_eq(hf_read_u8(&in), HF_REPLY_INT);
    return hf_read_u64(&in);
}

static bool has_bytes(const struct request *r, const char *bytes)
{
    struct hf_slice flat = hf_buf_slice(&r->op.reply.buf);
    size_t n = strlen(bytes);

    for (size_t i = 0; i + n <= flat.len; i++)
        if (memcmp(flat.ptr + i, bytes, n) == 0)
            return true;
    return false;
}

static uint64_t start_backup(struct request *r)
{
    uint64_t id;

    ops->backup_start(ops->data, fresh(r));
    ck_assert_int_eq(r->calls, 0);
    give_copy(n_copies - 1);
    id = id_of(r);
    ck_assert(has_bytes(r, "abababababababababababababababab"));
    fresh(r);
    return id;
}

START_TEST(test_backup_is_read_and_ended)
{
    uint64_t id;

    begin();
    id = start_backup(&rq[0]);
    ops->backup_read(ops->data, fresh(&rq[0]), id, 50, 50);
    ck_assert_int_eq(rq[0].calls, 0);
    ck_assert_uint_eq(readers[0].read->offset, 50);
    ck_assert_uint_eq(readers[0].read->n, 50);
    give_bytes(&readers[0], 0, "hello");
    done(&rq[0], "hello");
    ops->backup_read(ops->data, fresh(&rq[0]), id, 100, 1); /* the very end: nothing, and no error */
    give_bytes(&readers[0], 0, "");
    done(&rq[0], "");
    ops->backup_read(ops->data, fresh(&rq[0]), id, 0, 1);
    give_bytes(&readers[0], HF_E_IO, "");
    done(&rq[0], "ERR the copy cannot be read");
    ops->backup_end(ops->data, fresh(&rq[0]), id);
    done(&rq[0], "OK");
    ck_assert(readers[0].is_closed);
    ops->backup_end(ops->data, fresh(&rq[0]), id);
    done(&rq[0], "ERR there is no such backup");
    ops->backup_read(ops->data, fresh(&rq[0]), id, 0, 1);
    done(&rq[0], "ERR there is no such backup");
    end();
}
END_TEST

/* What was applied when it was asked for is in it: the state commits first, and an older copy will not do. */
START_TEST(test_backup_waits_for_the_commit)
{
    begin();
    applied_index = 70;
    hf_operator_on_durable(o, 60);
    ops->backup_start(ops->data, fresh(&rq[0]));
    ck_assert_uint_eq(n_commits, 1);
    ck_assert_uint_eq(n_copies, 0);
    hf_operator_on_durable(o, 69);
    ck_assert_uint_eq(n_copies, 0);
    hf_operator_on_durable(o, 70);
    ck_assert_uint_eq(n_copies, 1);
    ck_assert_uint_eq(copies[0]->at_least, 70);
    give_copy(0);
    ck_assert_int_eq(rq[0].calls, 1);
    end();
}
END_TEST

START_TEST(test_backup_limits)
{
    uint64_t id;

    begin();
    id = start_backup(&rq[0]);
    ops->backup_read(ops->data, fresh(&rq[0]), id, 0, 51);
    done(&rq[0], "ERR count must be from 1 to 50");
    ops->backup_read(ops->data, fresh(&rq[0]), id, 0, 0);
    done(&rq[0], "ERR count must be from 1 to 50");
    ops->backup_read(ops->data, fresh(&rq[0]), id, 101, 1);
    done(&rq[0], "ERR offset is beyond");
    ops->backup_read(ops->data, fresh(&rq[0]), UINT64_MAX, 0, 1);
    done(&rq[0], "ERR there is no such backup");
    /* A copy that is being made counts, and is nobody's to read. */
    ops->backup_start(ops->data, fresh(&rq[1]));
    ops->backup_start(ops->data, fresh(&rq[2]));
    done(&rq[2], "ERR 2 backups are open");
    ops->backup_read(ops->data, fresh(&rq[2]), id + 1, 0, 1);
    done(&rq[2], "ERR there is no such backup");
    copies[1]->cb(copies[1], HF_E_NOSPC, NULL, "the disk is full");
    done(&rq[1], "NOSPACE the disk is full");
    ops->backup_start(ops->data, fresh(&rq[1]));
    copies[2]->cb(copies[2], HF_E_IO, NULL, "it broke");
    done(&rq[1], "ERR no copy of the state could be made: it broke");
    ck_assert_uint_ne(start_backup(&rq[1]), id);
    end();
}
END_TEST

START_TEST(test_backup_is_read_by_one_at_a_time)
{
    uint64_t id;

    begin();
    id = start_backup(&rq[0]);
    ops->backup_read(ops->data, fresh(&rq[0]), id, 0, 10);
    ops->backup_read(ops->data, fresh(&rq[1]), id, 10, 10);
    done(&rq[1], "ERR this backup is being read");
    ops->backup_end(ops->data, fresh(&rq[1]), id);
    done(&rq[1], "OK");
    ck_assert(!readers[0].is_closed); /* not under a read */
    ops->backup_read(ops->data, fresh(&rq[1]), id, 10, 10);
    done(&rq[1], "ERR there is no such backup");
    test_env_pass(&te, 5000); /* and the timer leaves it alone */
    give_bytes(&readers[0], 0, "last");
    done(&rq[0], "last");
    ck_assert(readers[0].is_closed);
    end();
}
END_TEST

/* The time counts from the last use, and does not run while a read is under way. */
START_TEST(test_idle_backup_is_closed)
{
    uint64_t id, other;

    begin();
    id = start_backup(&rq[0]);
    test_env_pass(&te, 600);
    other = start_backup(&rq[0]);
    test_env_pass(&te, 300);
    ops->backup_read(ops->data, fresh(&rq[0]), id, 0, 10);
    test_env_pass(&te, 600);
    ck_assert(!readers[1].is_closed);
    give_bytes(&readers[0], 0, "x");
    test_env_pass(&te, 101); /* the other was used 1001 ms ago */
    ck_assert(readers[1].is_closed);
    ck_assert(!readers[0].is_closed);
    ops->backup_end(ops->data, fresh(&rq[1]), other);
    done(&rq[1], "ERR there is no such backup");
    test_env_pass(&te, 898); /* 999 since its read */
    ck_assert(!readers[0].is_closed);
    test_env_pass(&te, 2);
    ck_assert(readers[0].is_closed);
    end();
}
END_TEST

/* ---- settings ------------------------------------------------------------------------------------------ */

static void config_set(struct request *r, const char *a, const char *av, const char *b, const char *bv)
{
    struct hf_slice names[2] = {hf_slice_str(a), hf_slice_str(b ? b : "")};
    struct hf_slice values[2] = {hf_slice_str(av), hf_slice_str(bv ? bv : "")};

    ops->config_set(ops->data, fresh(r), names, values, b ? 2 : 1);
}

static void told(const char *name, const char *value)
{
    hf_operator_on_setting(o, hf_slice_str(name), hf_slice_str(value));
}

START_TEST(test_local_settings)
{
    begin();
    config_set(&rq[0], "local-a", "1", "local-b", "2");
    done(&rq[0], "OK");
    ck_assert_str_eq(sets, "local-a=1!;local-b=2!;");
    config_set(&rq[0], "local-a", "3", "local-b", "bad");
    done(&rq[0], "ERR bad value");
    ck_assert_str_eq(sets, "local-a=1!;local-b=2!;");
    refused_value = "5"; /* its file cannot be written */
    config_set(&rq[0], "local-a", "5", NULL, NULL);
    done(&rq[0], "ERR refused");
    config_set(&rq[0], "local-a", "4", "local-b", "5");
    done(&rq[0], "UNKNOWN outcome: the first 1 settings were changed, then: ERR refused");
    ck_assert_uint_eq(the_lane.n, 0);
    end();
}
END_TEST

/* One write each, in order; the answer comes when this node has applied them all. */
START_TEST(test_cluster_settings)
{
    begin();
    config_set(&rq[0], "Cluster-A", "1", "cluster-b", "2");
    ck_assert_str_eq(in_lane(), "_setting config.cluster-a 1");
    ck_assert_str_eq(sets, "");
    answer_lane(NULL);
    ck_assert_str_eq(in_lane(), "_setting config.cluster-b 2");
    told("config.cluster-a", "1");
    ck_assert_str_eq(sets, "cluster-a=1;");
    answer_lane(NULL);
    ck_assert_int_eq(rq[0].calls, 0);
    told("config.other", "x");
    ck_assert_int_eq(rq[0].calls, 0);
    told("config.cluster-b", "2");
    done(&rq[0], "OK");
    ck_assert_str_eq(sets, "cluster-a=1;other=x;cluster-b=2;");
    /* The same once more: it is there already. */
    config_set(&rq[0], "cluster-b", "2", NULL, NULL);
    answer_lane(NULL);
    done(&rq[0], "OK");
    /* A node that does not get to apply it says so after a while all the same. */
    config_set(&rq[0], "cluster-b", "3", NULL, NULL);
    answer_lane(NULL);
    test_env_pass(&te, 990);
    ck_assert_int_eq(rq[0].calls, 0);
    test_env_pass(&te, 30);
    done(&rq[0], "OK");
    end();
}
END_TEST

START_TEST(test_failed_cluster_settings)
{
    begin();
    config_set(&rq[0], "cluster-a", "1", NULL, NULL);
    answer_lane("NOLEADER nobody");
    done(&rq[0], "NOLEADER nobody");
    config_set(&rq[0], "cluster-a", "1", "cluster-b", "2");
    answer_lane(NULL);
    answer_lane("NOLEADER nobody");
    done(&rq[0], "UNKNOWN outcome: the first 1 settings were changed, then: NOLEADER nobody");
    config_set(&rq[0], "cluster-a", "1", "local-b", "2");
    ck_assert_str_eq(sets, "local-b=2!;");
    answer_lane("UNKNOWN outcome");
    done(&rq[0], "UNKNOWN outcome: the first 1 settings were changed, then: UNKNOWN outcome");
    end();
}
END_TEST

START_TEST(test_cluster_settings_need_the_level)
{
    begin();
    state_level = 1;
    config_set(&rq[0], "local-a", "1", "cluster-a", "1");
    done(&rq[0], "ERR CONFIG SET failed (possibly related to argument 'cluster-a')");
    ck_assert_str_eq(sets, "");
    ck_assert_uint_eq(the_lane.n, 0);
    config_set(&rq[0], "local-a", "1", NULL, NULL);
    done(&rq[0], "OK");
    end();
}
END_TEST

START_TEST(test_no_settings)
{
    begin_with(NULL);
    config_set(&rq[0], "local-a", "1", NULL, NULL);
    done(&rq[0], "ERR ");
    told("config.cluster-a", "1"); /* is not lost on it */
    end();
    begin_with(&settings); /* no dispatcher yet */
    config_set(&rq[0], "cluster-a", "1", NULL, NULL);
    done(&rq[0], "ERR ");
    end();
}
END_TEST

/* Only config.* is ours; what this release cannot use is left alone; a setting that is gone is told as "". */
START_TEST(test_told_settings)
{
    begin();
    told("level", "2");
    told("config.", "2");
    told("confix.a", "2");
    ck_assert_str_eq(sets, "");
    refused_value = "future";
    told("config.a", "future");
    told("config.b", "1");
    told("config.b", "");
    ck_assert_str_eq(sets, "b=1;b=;");
    config_set(&rq[0], "cluster-b", "1", NULL, NULL);
    end();
}
END_TEST

/* ---- the level ----------------------------------------------------------------------------------------- */

START_TEST(test_level_is_raised_by_the_leader)
{
    begin();
    state_level = 1;
    members_level = 2;
    test_env_pass(&te, 5000);
    ck_assert_uint_eq(n_proposed, 0); /* a follower does not */
    hf_operator_on_role(o, HF_ROLE_LEADER);
    ck_assert_uint_eq(n_proposed, 0); /* nor from inside */
    test_env_pass(&te, 1);
    ck_assert_uint_eq(n_proposed, 1);
    ck_assert_uint_eq(proposed_level, 2);
    test_env_pass(&te, 5000);
    ck_assert_uint_eq(n_proposed, 1); /* one at a time */
    end_proposal(HF_FATE_REFUSED);
    test_env_pass(&te, 1000);
    ck_assert_uint_eq(n_proposed, 2);
    state_level = 2;
    end_proposal(HF_FATE_APPLIED);
    test_env_pass(&te, 5000);
    ck_assert_uint_eq(n_proposed, 2);
    end();
}
END_TEST

START_TEST(test_level_waits_for_all_members_and_never_passes_ours)
{
    begin();
    state_level = 1;
    hf_operator_on_role(o, HF_ROLE_LEADER);
    test_env_pass(&te, 3000);
    ck_assert_uint_eq(n_proposed, 0); /* not heard of all of them */
    members_level = 1;
    test_env_pass(&te, 3000);
    ck_assert_uint_eq(n_proposed, 0);
    propose_rc = HF_E_NOT_LEADER;
    members_level = HF_LEVEL_MAX + 7;
    test_env_pass(&te, 3000);
    ck_assert_uint_eq(n_proposed, 0);
    propose_rc = 0;
    test_env_pass(&te, 1000);
    ck_assert_uint_eq(proposed_level, HF_LEVEL_MAX);
    end_proposal(HF_FATE_UNKNOWN);
    hf_operator_on_role(o, HF_ROLE_FOLLOWER);
    test_env_pass(&te, 3000);
    ck_assert_uint_eq(n_proposed, 1);
    end();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("operate");
    TCase *t = tcase_create("operate");
    SRunner *runner;
    int failed;

    hf_log_silence(true);
    tcase_add_test(t, test_member_requests);
    tcase_add_test(t, test_member_words_have_limits);
    tcase_add_test(t, test_close_answers_everybody);
    tcase_add_test(t, test_backup_is_read_and_ended);
    tcase_add_test(t, test_backup_limits);
    tcase_add_test(t, test_backup_waits_for_the_commit);
    tcase_add_test(t, test_backup_is_read_by_one_at_a_time);
    tcase_add_test(t, test_idle_backup_is_closed);
    tcase_add_test(t, test_local_settings);
    tcase_add_test(t, test_cluster_settings);
    tcase_add_test(t, test_failed_cluster_settings);
    tcase_add_test(t, test_cluster_settings_need_the_level);
    tcase_add_test(t, test_no_settings);
    tcase_add_test(t, test_told_settings);
    tcase_add_test(t, test_level_is_raised_by_the_leader);
    tcase_add_test(t, test_level_waits_for_all_members_and_never_passes_ours);
    suite_add_tcase(s, t);
    runner = srunner_create(s);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
