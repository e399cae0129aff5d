/* offline.c: what an operator's command does to a data directory while no node runs on it. See offline.h.
 *
 * Every change is framed by DIR/identity: the first step writes it with `unfinished` set, the last one without. In
 * between the node refuses to start (hf_identity_load) and the text names the command to run again. So a crash at any
 * step leaves a directory that starts as it did before, one that is recognisably unfinished, or one that is done:
 *
 *   recover  1. identity: unfinished, the new incarnation, this node as the only listed member
 *            2. a pending install is completed as a start would: journal reset behind the marker, CURRENT not pending
 *            3. journal: term T+1 (T = greatest known), no vote; then the configuration entry of term T+1
 *            4. identity: finished
 *            The entry must never be seen together with the old incarnation: a directory that starts with both would
 *            lead a cluster of one among members who still know the old one (R20). Run again, it draws another
 *            incarnation and appends another entry, which nobody has seen.
 *   rejoin   1. identity: unfinished, joining, node id 0, a new store id
 *            2. journal, CURRENT, databases and copies are deleted, and that is made durable
 *            3. identity: finished
 *            From step 1 on the old node id and store id are gone: nothing can start as the old voter with an empty
 *            log (R19).
 *   create   1. identity: unfinished, new cluster id, incarnation and store id
 *            2. what an attempt before left is deleted
 *            3. journal: term, no vote, empty, going on behind the state's index
 *            4. the state is renamed into place, CURRENT is written
 *            5. identity: finished */
#include "consensus/offline.h"

#include "base/assert.h"
#include "base/crashpoint.h"
#include "base/mem.h"
#include "base/util.h"
#include "consensus/identity.h"
#include "journal/journal.h"

#include <inttypes.h>
#include <raft.h>
#include <stdio.h>

/* Small ones: a disk that is full has to take them. The node makes its own again when it starts. */
#define SEGMENT_BYTES (64u * 1024u)
#define TAIL_BYTES    (64u * 1024u)
#define WHY_BYTES     768u

/* ---- what a directory holds ----------------------------------------------------------------------- */

/* Each part is read on its own, so that the rest is known when one is damaged. */
struct found {
    const char *dir;
    bool is_there; /* the directory itself */
    int identity_rc, marker_rc, journal_rc;
    char identity_why[WHY_BYTES], marker_why[WHY_BYTES], journal_why[WHY_BYTES];
    struct hf_identity identity;
    struct hf_marker marker;
    struct hf_journal_state journal;
    uint64_t last_term;           /* of the journal's last entry, else of the marker */
    uint64_t configuration_index; /* 0 = none known */
    struct hf_buf bytes;          /* of the newest configuration */
    struct raft_configuration configuration;
    bool has_configuration; /* and it decodes */
};

static int decode_configuration(struct hf_slice bytes, struct raft_configuration *out)
{
    struct raft_buffer buf = {raft_malloc(bytes.len), bytes.len}; /* the decoder reads aligned words */
    int rv;

    HF_ASSERT(buf.base != NULL);
    memcpy(buf.base, bytes.ptr, bytes.len);
    raft_configuration_init(out);
    rv = raft_configuration_decode(&buf, out);
    raft_free(buf.base);
    if (rv != 0)
        raft_configuration_close(out);
    return rv == 0 ? 0 : HF_E_CORRUPT;
}

static void encode_configuration(const struct hf_member *only, struct hf_buf *out)
{
    struct raft_configuration conf;
    char text[HF_MEMBER_TEXT_BYTES];
    struct raft_buffer buf;
    int rv;

    hf_member_format(only, text, sizeof(text));
    raft_configuration_init(&conf);
    rv = raft_configuration_add(&conf, only->id, text, RAFT_VOTER);
    HF_ASSERT(rv == 0);
    rv = raft_configuration_encode(&conf, &buf);
    HF_ASSERT(rv == 0);
    raft_configuration_close(&conf);
    hf_buf_put(out, buf.base, buf.len);
    raft_free(buf.base);
}

static int take_entry(void *data, struct hf_log_entry *e)
{
    struct found *f = data;

    f->last_term = e->term;
    if (e->type == HF_ENTRY_CONFIGURATION) {
        f->configuration_index = e->index;
        f->bytes.len = 0;
        hf_buf_put(&f->bytes, e->data, e->len);
    }
    return 0;
}

static void ignore_name(void *data, const char *name)
{
    (void)data;
    (void)name;
}

static void find(struct hf_fs *fs, const char *dir, struct found *f)
{
    char *path = hf_asprintf("%s/journal", dir);

    memset(f, 0, sizeof(*f));
    f->dir = dir;
    f->is_there = fs->list(fs, dir, ignore_name, NULL) == 0;
    f->journal.first_index = f->journal.next_index = 1;
    f->identity_rc =
        hf_identity_load_unfinished(fs, dir, &f->identity, f->identity_why, sizeof(f->identity_why));
    f->marker_rc = hf_marker_load(fs, dir, &f->marker, f->marker_why, sizeof(f->marker_why));
    f->journal_rc =
        hf_journal_look(fs, path, &f->journal, take_entry, f, f->journal_why, sizeof(f->journal_why));
    hf_free(path);
    if (f->journal_rc != 0)
        f->configuration_index = 0; /* what was read before the damage is not the newest */
    /* A pending install counts as done, as the next start would do it: nothing of the old journal is left. */
    if (f->marker_rc == 0 && f->marker.install_pending) {
        f->configuration_index = 0;
        f->journal.first_index = f->journal.next_index = f->marker.index + 1;
    }
    if (f->marker_rc == 0 && f->journal.first_index == f->journal.next_index)
        f->last_term = f->marker.term;
    if (f->marker_rc == 0 && f->marker.configuration_index > f->configuration_index) {
        f->configuration_index = f->marker.configuration_index;
        f->bytes.len = 0;
        hf_buf_put(&f->bytes, f->marker.configuration.data, f->marker.configuration.len);
    }
    f->has_configuration =
        f->configuration_index != 0 && decode_configuration(hf_buf_slice(&f->bytes), &f->configuration) == 0;
}

static void found_free(struct found *f)
{
    hf_marker_free(&f->marker);
    hf_buf_free(&f->bytes);
    if (f->has_configuration)
        raft_configuration_close(&f->configuration);
}

static uint64_t greatest_term(const struct found *f)
{
    return f->journal.term > f->marker.term ? f->journal.term : f->marker.term;
}

static char *state_path(const char *dir, uint64_t generation)
{
    return hf_asprintf("%s/state-%" PRIu64 ".db", dir, generation);
}

static bool is_file(struct hf_fs *fs, const char *path)
{
    struct hf_file *f;
    int rc = fs->open(fs, path, HF_FS_READ, &f);

    if (rc != 0)
        return false;
    fs->close(fs, f);
    return true;
}

#define REPAIR "put it back as it was, or let this node start again from the other members: holdfast repair --dir %s "     \
               "--from-peers"

/* Is the directory whole, as far as can be seen without opening the database? */
static int judge(struct hf_fs *fs, const struct found *f, char *why, size_t why_size)
{
    bool is_pending = f->marker_rc == 0 && f->marker.install_pending;
    char *state;
    bool has_state;

    if (!f->is_there) {
        snprintf(why, why_size, "there is no directory %s", f->dir);
        return HF_E_NOENT;
    }
    if (f->identity_rc == HF_E_NOENT) {
        if (f->marker_rc == HF_E_NOENT && f->journal_rc == HF_E_NOENT) {
            snprintf(why, why_size, "%s holds no node: there is no file %s/identity", f->dir, f->dir);
            return HF_E_NOENT;
        }
        snprintf(why, why_size,
                 "%s/identity is missing, though other parts of a node are there: " REPAIR
                 " --name NAME --join HOST:PORT",
                 f->dir, f->dir);
        return HF_E_CORRUPT;
    }
    if (f->identity_rc != 0) {
        snprintf(why, why_size, "%s", f->identity_why);
        return f->identity_rc;
    }
    if (f->marker_rc != 0 && (f->marker_rc != HF_E_NOENT || f->identity.is_formed)) {
        if (f->marker_rc == HF_E_NOENT)
            snprintf(why, why_size, "%s/CURRENT is missing, though node %" PRIu64 " was a member here: " REPAIR, f->dir,
                     f->identity.node_id, f->dir);
        else
            snprintf(why, why_size, "%s", f->marker_why);
        return f->marker_rc == HF_E_NOENT ? HF_E_CORRUPT : f->marker_rc;
    }
    if (f->journal_rc != 0 && (f->journal_rc != HF_E_NOENT || f->identity.is_formed)) {
        if (f->journal_rc == HF_E_NOENT)
            snprintf(why, why_size, "%s/journal is missing, though node %" PRIu64 " was a member here: " REPAIR, f->dir,
                     f->identity.node_id, f->dir);
        else
            snprintf(why, why_size, "%s", f->journal_why);
        return f->journal_rc == HF_E_NOENT ? HF_E_CORRUPT : f->journal_rc;
    }
    if (f->identity.is_formed && !is_pending && f->journal.next_index == 1) {
        snprintf(why, why_size, "%s/journal is empty, though node %" PRIu64 " was a member here: " REPAIR, f->dir,
                 f->identity.node_id, f->dir);
        return HF_E_CORRUPT;
    }
    if (!is_pending && (f->journal.next_index <= f->marker.index || f->journal.first_index > f->marker.index + 1)) {
        snprintf(why, why_size,
                 "%s/journal holds entries %" PRIu64 "..%" PRIu64 ", but CURRENT says that the state goes up to %" PRIu64
                 ": " REPAIR,
                 f->dir, f->journal.first_index, f->journal.next_index - 1, f->marker.index, f->dir);
        return HF_E_CORRUPT;
    }
    if (f->configuration_index != 0 && !f->has_configuration) {
        snprintf(why, why_size, "the configuration of index %" PRIu64 " in %s does not decode: " REPAIR,
                 f->configuration_index, f->dir, f->dir);
        return HF_E_CORRUPT;
    }
    state = state_path(f->dir, f->marker.generation);
    has_state = f->marker.index == 0 || is_file(fs, state);
    if (!has_state)
        snprintf(why, why_size, "%s is missing: " REPAIR, state, f->dir);
    hf_free(state);
    return has_state ? 0 : HF_E_CORRUPT;
}

static const char *role_name(int role)
{
    switch (role) {
    case RAFT_VOTER:
        return "voter";
    case RAFT_STANDBY:
        return "standby";
    case RAFT_SPARE:
        return "spare";
    default:
        return "unknown";
    }
}

/* The members of the newest configuration; without one those of the identity, whose roles are not known. */
static uint32_t known_members(const struct found *f, struct hf_member *out, const char **roles)
{
    uint32_t n = 0;

    if (f->has_configuration) {
        for (unsigned i = 0; i < f->configuration.n && n < HF_MEMBERS_MAX; i++) {
            const struct raft_server *s = &f->configuration.servers[i];

            if (hf_member_parse(s->id, s->address, &out[n]) == 0)
                roles[n++] = role_name(s->role);
        }
        return n;
    }
    if (f->identity_rc != 0)
        return 0;
    for (; n < f->identity.n_members; n++) {
        out[n] = f->identity.members[n];
        roles[n] = role_name(-1);
    }
    return n;
}

static void put_hex(char out[33], const uint8_t id[16])
{
    for (int i = 0; i < 16; i++)
        snprintf(out + 2 * (size_t)i, 3, "%02x", id[i]);
}

static void summarise(const struct found *f, struct hf_offline_summary *out)
{
    struct hf_member members[HF_MEMBERS_MAX], self = {.id = f->identity.node_id};
    const char *roles[HF_MEMBERS_MAX];
    char digits[HF_MEMBER_NAME_BYTES + 1];

    memset(out, 0, sizeof(*out));
    out->first_index = 1;
    if (f->identity_rc == 0) {
        out->node_id = f->identity.node_id;
        out->store_id = f->identity.store_id;
        put_hex(out->cluster_id, f->identity.cluster_id);
        put_hex(out->incarnation, f->identity.incarnation);
        out->is_formed = f->identity.is_formed;
        out->is_joining = f->identity.is_joining;
        out->is_removed = f->identity.is_removed;
        memcpy(self.name, f->identity.name, sizeof(self.name));
        snprintf(out->name, sizeof(out->name), "%s", hf_member_name(&self, digits));
    }
    if (f->marker_rc == 0) {
        char *path = state_path(f->dir, f->marker.generation);

        out->generation = f->marker.generation;
        out->marker_index = f->marker.index;
        out->marker_term = f->marker.term;
        snprintf(out->state_path, sizeof(out->state_path), "%s", path);
        hf_free(path);
    }
    if (f->journal_rc == 0) {
        out->term = f->journal.term;
        out->vote = f->journal.vote;
        out->first_index = f->journal.first_index;
        out->last_index = f->journal.next_index - 1;
        out->last_term = f->last_term;
        out->torn_tail = f->journal.torn_tail;
    }
    out->configuration_index = f->configuration_index;
    out->n_members = known_members(f, members, roles);
    for (uint32_t i = 0; i < out->n_members; i++) {
        struct hf_offline_member *m = &out->members[i];

        m->id = members[i].id;
        m->role = roles[i];
        snprintf(m->name, sizeof(m->name), "%s", hf_member_name(&members[i], digits));
        snprintf(m->address, sizeof(m->address), "%s", members[i].address);
    }
}

/* ---- the lock ------------------------------------------------------------------------------------- */

/* *lock stays NULL when there is no such file and none may be made: then no node ever ran here. */
static int take_lock(struct hf_fs *fs, const char *dir, bool may_create, struct hf_file **lock, char *why,
                     size_t why_size)
{
    char *path = hf_asprintf("%s/lock", dir);
    int rc = fs->open(fs, path, may_create ? HF_FS_WRITE | HF_FS_CREATE : HF_FS_READ, lock);

    if (rc == HF_E_NOENT && !may_create) {
        *lock = NULL;
        hf_free(path);
        return 0;
    }
    if (rc == 0) {
        rc = fs->lock(fs, *lock);
        if (rc != 0)
            fs->close(fs, *lock);
    }
    if (rc != 0) {
        *lock = NULL;
        if (rc == HF_E_LOCKED)
            snprintf(why, why_size, "a node runs on %s: stop it first", dir);
        else
            snprintf(why, why_size, "cannot lock %s: %s", path, hf_strerror(rc));
    }
    hf_free(path);
    return rc;
}

static void drop_lock(struct hf_fs *fs, struct hf_file *lock)
{
    if (lock != NULL)
        fs->close(fs, lock);
}

/* ---- looking -------------------------------------------------------------------------------------- */

int hf_offline_look(struct hf_env *env, const char *dir, struct hf_offline_summary *out, char *why, size_t why_size)
{
    struct hf_file *lock;
    struct found f;
    int rc = take_lock(env->fs, dir, false, &lock, why, why_size);

    memset(out, 0, sizeof(*out));
    if (rc != 0)
        return rc;
    find(env->fs, dir, &f);
    summarise(&f, out);
    rc = judge(env->fs, &f, why, why_size);
    if (f.identity_rc == 0 && f.identity.unfinished != HF_UNFINISHED_NONE) {
        struct hf_identity again;

        rc = hf_identity_load(env->fs, dir, &again, why, why_size); /* whose text it is */
    }
    found_free(&f);
    drop_lock(env->fs, lock);
    return rc;
}

/* ---- the journal ---------------------------------------------------------------------------------- */

struct journal_work {
    const struct hf_offline_loop *loop;
    struct hf_journal *journal;
    struct hf_journal_events events;
    struct hf_stats *stats;
    struct hf_journal_state state;
    bool is_waiting, is_vote_durable;
    uint64_t durable, wanted;
    int rc;
};

static void stop_waiting(struct journal_work *w)
{
    if (!w->is_waiting)
        return;
    w->is_waiting = false;
    w->loop->stop(w->loop->data);
}

static void on_durable(void *data, uint64_t index)
{
    struct journal_work *w = data;

    w->durable = index;
    if (w->wanted != 0 && index >= w->wanted)
        stop_waiting(w);
}

static void on_vote_durable(void *data)
{
    struct journal_work *w = data;

    w->is_vote_durable = true;
    stop_waiting(w);
}

static void on_journal_failed(void *data, int err, const char *what)
{
    struct journal_work *w = data;

    (void)what;
    w->rc = err;
    stop_waiting(w);
}

static int wait_for_journal(struct journal_work *w)
{
    if (w->rc == 0) {
        w->is_waiting = true;
        w->loop->run(w->loop->data);
        /* The loop ended for another reason (a signal): the command is left unfinished. */
        if (w->is_waiting && w->rc == 0)
            w->rc = HF_E_CANCELED;
        w->is_waiting = false;
    }
    return w->rc;
}

static int open_journal(struct hf_env *env, const struct hf_offline_loop *loop, const char *dir,
                        struct journal_work *w, char *why, size_t why_size)
{
    char *path = hf_asprintf("%s/journal", dir);
    struct hf_journal_config config = {.dir = path, .segment_bytes = SEGMENT_BYTES, .tail_bytes_max = TAIL_BYTES};
    int rc;

    memset(w, 0, sizeof(*w));
    w->loop = loop;
    w->events = (struct hf_journal_events){
        .on_durable = on_durable, .on_vote_durable = on_vote_durable, .on_failed = on_journal_failed, .data = w};
    w->stats = hf_stats_new();
    rc = hf_journal_open(env, &config, &w->events, w->stats, &w->state, &w->journal, why, why_size);
    hf_free(path);
    if (rc != 0)
        hf_stats_free(w->stats);
    return rc;
}

static void close_journal(struct journal_work *w)
{
    hf_journal_close(w->journal);
    hf_stats_free(w->stats);
}

static int set_term(struct journal_work *w, uint64_t term)
{
    w->is_vote_durable = false;
    w->wanted = 0;
    hf_journal_set_vote(w->journal, term, 0);
    return wait_for_journal(w);
}

/* The journal goes on behind `index`, empty. */
static int reset_journal(struct journal_work *w, uint64_t index)
{
    w->wanted = index;
    hf_journal_reset(w->journal, index + 1);
    return wait_for_journal(w);
}

static int append_configuration(struct journal_work *w, const struct hf_member *only, uint64_t term)
{
    uint64_t index = hf_journal_next_index(w->journal);
    struct hf_buf bytes = {0};
    struct hf_log_entry *e;

    encode_configuration(only, &bytes);
    e = hf_log_entry_new(HF_ENTRY_CONFIGURATION, index, term, (uint32_t)bytes.len);
    memcpy(e->data, bytes.data, bytes.len);
    hf_buf_free(&bytes);
    w->wanted = index;
    hf_journal_append(w->journal, &e, 1);
    hf_log_entry_unref(e);
    return wait_for_journal(w);
}

/* ---- small parts ---------------------------------------------------------------------------------- */

static uint64_t draw_nonzero(struct hf_prng *prng)
{
    uint64_t v;

    do
        v = hf_prng_next(prng);
    while (v == 0);
    return v;
}

static void draw_id(struct hf_prng *prng, uint8_t out[16])
{
    hf_store_u64(out, draw_nonzero(prng));
    hf_store_u64(out + 8, draw_nonzero(prng));
}

/* "host:port,host:port": ids stay 0. */
static int parse_addresses(const char *list, struct hf_member *out, uint32_t *n, char *why, size_t why_size)
{
    struct hf_buf numbered = {0};
    char text[256];
    int id = 1, rc;

    for (const char *p = list;; id++) {
        size_t len = strcspn(p, ",");

        hf_buf_printf(&numbered, "%s%d=%.*s", id == 1 ? "" : ",", id, (int)len, p);
        if (p[len] == '\0')
            break;
        p += len + 1;
    }
    hf_buf_put_u8(&numbered, 0);
    rc = hf_members_parse((const char *)numbered.data, out, n, text, sizeof(text));
    hf_buf_free(&numbered);
    if (rc != 0) {
        snprintf(why, why_size, "\"%s\" is not a list of addresses (host:port,...) of at most %d members", list,
                 HF_MEMBERS_MAX);
        return rc;
    }
    for (uint32_t i = 0; i < *n; i++)
        out[i].id = 0;
    return 0;
}

static int check_address(const char *address, char *why, size_t why_size)
{
    struct hf_member one[HF_MEMBERS_MAX];
    char text[256];
    uint32_t n;

    if (strchr(address, ',') == NULL && parse_addresses(address, one, &n, text, sizeof(text)) == 0)
        return 0;
    snprintf(why, why_size, "\"%s\" is not host:port", address);
    return HF_E_INVALID;
}

static int save_identity(struct hf_fs *fs, const char *dir, struct hf_identity *id, enum hf_unfinished unfinished,
                         char *why, size_t why_size)
{
    int rc;

    id->unfinished = unfinished;
    rc = hf_identity_save(fs, dir, id);
    if (rc != 0)
        snprintf(why, why_size, "cannot write %s/identity: %s", dir, hf_strerror(rc));
    return rc;
}

struct names {
    bool (*is_wanted)(const char *name);
    const char *keep; /* or NULL */
    char **at;
    size_t n;
};

static void add_name(void *data, const char *name)
{
    struct names *names = data;

    if ((names->keep != NULL && strcmp(name, names->keep) == 0) || !names->is_wanted(name))
        return;
    names->at = hf_realloc(names->at, (names->n + 1) * sizeof(char *));
    names->at[names->n++] = hf_strdup(name);
}

/* Deletes the files of `dir` that are wanted; durable on 0. A directory that is not there holds none. */
static int delete_files(struct hf_fs *fs, const char *dir, bool (*is_wanted)(const char *name), const char *keep)
{
    struct names names = {.is_wanted = is_wanted, .keep = keep};
    int rc = fs->list(fs, dir, add_name, &names);
    bool is_missing = rc == HF_E_NOENT;

    for (size_t i = 0; i < names.n; i++) {
        char *path = hf_asprintf("%s/%s", dir, names.at[i]);

        if (rc == 0)
            rc = fs->unlink(fs, path);
        hf_free(path);
        hf_free(names.at[i]);
    }
    hf_free(names.at);
    if (is_missing)
        return 0;
    return rc == 0 ? fs->sync_dir(fs, dir) : rc;
}

static bool is_any(const char *name)
{
    (void)name;
    return true;
}

/* What belongs to the state of a node: not its lock, its identity, and what others put there. */
static bool is_state(const char *name)
{
    return strncmp(name, "CURRENT", 7) == 0 || strncmp(name, "state-", 6) == 0 || strncmp(name, "copy-", 5) == 0 ||
           strncmp(name, "incoming.db", 11) == 0;
}

static int wipe(struct hf_fs *fs, const char *dir, const char *keep, char *why, size_t why_size)
{
    char *journal = hf_asprintf("%s/journal", dir);
    int rc = delete_files(fs, journal, is_any, NULL);

    hf_crash_point("offline-journal-wiped");
    if (rc == 0)
        rc = delete_files(fs, dir, is_state, keep);
    if (rc != 0)
        snprintf(why, why_size, "cannot delete the old state in %s: %s", dir, hf_strerror(rc));
    hf_free(journal);
    return rc;
}

/* ---- recover -------------------------------------------------------------------------------------- */

/* This node as the newest configuration knows it, under its new address if it gets one. */
static int survivor(const struct found *f, const char *address, struct hf_member *out, char *why, size_t why_size)
{
    struct hf_member members[HF_MEMBERS_MAX];
    const char *roles[HF_MEMBERS_MAX];
    uint32_t n = known_members(f, members, roles);

    *out = (struct hf_member){0};
    for (uint32_t i = 0; i < n; i++) {
        if (members[i].id == f->identity.node_id)
            *out = members[i];
    }
    for (uint32_t i = 0; i < f->identity.n_members; i++) {
        const struct hf_member *m = &f->identity.members[i];

        /* The attempt that did not finish had an address already. */
        if (m->id == f->identity.node_id && (out->id == 0 || f->identity.unfinished != HF_UNFINISHED_NONE))
            *out = *m;
    }
    out->id = f->identity.node_id;
    out->store_id = f->identity.store_id;
    if (address[0] != '\0') {
        int rc = check_address(address, why, why_size);

        if (rc != 0)
            return rc;
        snprintf(out->address, sizeof(out->address), "%s", address);
    }
    if (out->address[0] == '\0') {
        snprintf(why, why_size, "the address of node %" PRIu64 " is not known: give it (host:port)",
                 f->identity.node_id);
        return HF_E_INVALID;
    }
    return 0;
}

static int may_recover(const struct found *f, char *why, size_t why_size)
{
    const struct hf_identity *id = &f->identity;

    if (id->unfinished == HF_UNFINISHED_REJOIN || id->unfinished == HF_UNFINISHED_CREATE)
        snprintf(why, why_size,
                 "%s is half-way through another command, its state is not whole: nothing can be recovered from it",
                 f->dir);
    else if (id->is_joining || !id->is_formed)
        snprintf(why, why_size, "%s was never a member of a cluster: there is nothing to recover from it", f->dir);
    else if (id->is_removed)
        snprintf(why, why_size,
                 "node %" PRIu64 " was removed from its cluster: its state is older than the cluster's; recover another "
                 "one",
                 id->node_id);
    else
        return 0;
    return HF_E_INVALID;
}

/* What recovering means here, for whoever has to decide. */
static void describe(const struct found *f, const struct hf_member *self, char *why, size_t why_size)
{
    struct hf_member members[HF_MEMBERS_MAX];
    const char *roles[HF_MEMBERS_MAX];
    uint32_t n = known_members(f, members, roles);
    char name[HF_MEMBER_NAME_BYTES + 1];
    struct hf_buf text = {0};

    hf_buf_printf(&text,
                  "node %s at %s becomes the only voter of a new incarnation of its cluster. Its log ends at index "
                  "%" PRIu64 " (term %" PRIu64 "), its state is sure up to %" PRIu64
                  "; all of that counts as committed. Writes that only other members had are lost, even if clients "
                  "were told OK.",
                  hf_member_name(self, name), self->address, f->journal.next_index - 1, f->last_term, f->marker.index);
    for (uint32_t i = 0, others = 0; i < n; i++) {
        if (members[i].id == self->id)
            continue;
        hf_buf_printf(&text, "%s%s (%s, %s)", others++ == 0 ? " No members any more: " : ", ",
                      hf_member_name(&members[i], name), members[i].address, roles[i]);
        if (others == 0)
            break;
    }
    hf_buf_printf(&text, ". A member that comes back is refused until it was wiped: holdfast repair --dir ITS-DIR "
                         "--from-peers --join %s",
                  self->address);
    snprintf(why, why_size, "%.*s", (int)text.len, (const char *)text.data);
    hf_buf_free(&text);
}

static int finish_install(struct hf_fs *fs, struct found *f, struct journal_work *w)
{
    int rc;

    if (!f->marker.install_pending)
        return 0;
    rc = reset_journal(w, f->marker.index);
    if (rc != 0)
        return rc;
    f->marker.install_pending = false;
    return hf_marker_save(fs, f->dir, &f->marker);
}

static int write_recovery(struct hf_env *env, const struct hf_offline_loop *loop, struct found *f,
                          const struct hf_member *self, char *why, size_t why_size)
{
    uint64_t term = greatest_term(f) + 1;
    struct journal_work w;
    int rc = open_journal(env, loop, f->dir, &w, why, why_size);

    if (rc != 0)
        return rc;
    rc = finish_install(env->fs, f, &w);
    if (rc == 0)
        rc = set_term(&w, term);
    hf_crash_point("offline-recover-term");
    if (rc == 0)
        rc = append_configuration(&w, self, term);
    close_journal(&w);
    if (rc != 0)
        snprintf(why, why_size, "cannot write the journal in %s: %s; run the same command again", f->dir,
                 hf_strerror(rc));
    return rc;
}

static int recover(struct hf_env *env, const struct hf_offline_loop *loop, struct found *f,
                   const struct hf_member *self, uint64_t seed, char *why, size_t why_size)
{
    struct hf_identity id = f->identity;
    struct hf_prng prng;
    int rc;

    hf_prng_seed(&prng, seed);
    draw_id(&prng, id.incarnation);
    memset(id.members, 0, sizeof(id.members));
    id.members[0] = *self;
    id.n_members = 1;
    rc = save_identity(env->fs, f->dir, &id, HF_UNFINISHED_RECOVER, why, why_size);
    hf_crash_point("offline-recover-begun");
    if (rc == 0)
        rc = write_recovery(env, loop, f, self, why, why_size);
    hf_crash_point("offline-recover-written");
    if (rc == 0)
        rc = save_identity(env->fs, f->dir, &id, HF_UNFINISHED_NONE, why, why_size);
    return rc;
}

int hf_offline_recover(struct hf_env *env, const struct hf_offline_loop *loop, const char *dir, const char *address,
                       uint64_t seed, bool dry_run, struct hf_offline_summary *before, char *why, size_t why_size)
{
    struct hf_member self;
    struct hf_file *lock;
    struct found f;
    int rc;

    memset(before, 0, sizeof(*before));
    find(env->fs, dir, &f); /* before the lock is made in a directory that is not ours */
    rc = judge(env->fs, &f, why, why_size);
    if (rc == 0)
        rc = may_recover(&f, why, why_size);
    found_free(&f);
    if (rc != 0)
        return rc;
    rc = take_lock(env->fs, dir, !dry_run, &lock, why, why_size);
    if (rc != 0)
        return rc;
    find(env->fs, dir, &f);
    summarise(&f, before);
    rc = judge(env->fs, &f, why, why_size);
    if (rc == 0)
        rc = may_recover(&f, why, why_size);
    if (rc == 0)
        rc = survivor(&f, address, &self, why, why_size);
    if (rc == 0 && !dry_run)
        rc = recover(env, loop, &f, &self, seed, why, why_size);
    if (rc == 0)
        describe(&f, &self, why, why_size);
    found_free(&f);
    drop_lock(env->fs, lock);
    return rc;
}
