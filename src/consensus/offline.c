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
#include "consensus/offline_internal.h"

#include "base/assert.h"
#include "base/crashpoint.h"
#include "base/mem.h"
#include "base/util.h"

#include <inttypes.h>
#include <stdio.h>

/* Small ones: a disk that is full has to take them. The node makes its own again when it starts. */
#define SEGMENT_BYTES (64u * 1024u)
#define TAIL_BYTES    (64u * 1024u)

/* One voter. When a higher id was given out before, its place stays as a spare, as the removal of a member leaves it
 * (operate.c): ids are never used again (R19). */
static void encode_configuration(const struct hf_member *only, uint64_t id_max, struct hf_buf *out)
{
    struct raft_configuration conf;
    char text[HF_MEMBER_TEXT_BYTES];
    struct raft_buffer buf;
    int rv;

    hf_member_format(only, text, sizeof(text));
    raft_configuration_init(&conf);
    rv = raft_configuration_add(&conf, only->id, text, RAFT_VOTER);
    HF_ASSERT(rv == 0);
    if (id_max > only->id) {
        struct hf_member gone = {.id = id_max};

        snprintf(gone.address, sizeof(gone.address), "removed-%" PRIu64 ":0", id_max);
        hf_member_format(&gone, text, sizeof(text));
        rv = raft_configuration_add(&conf, id_max, text, RAFT_SPARE);
        HF_ASSERT(rv == 0);
    }
    rv = raft_configuration_encode(&conf, &buf);
    HF_ASSERT(rv == 0);
    raft_configuration_close(&conf);
    hf_buf_put(out, buf.base, buf.len);
    raft_free(buf.base);
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

static int open_journal(struct hf_env *env, const struct hf_offline_loop *loop, const char *dir, struct journal_work *w,
                        char *why, size_t why_size)
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

static int append_configuration(struct journal_work *w, const struct hf_member *only, uint64_t id_max, uint64_t term)
{
    uint64_t index = hf_journal_next_index(w->journal);
    struct hf_buf bytes = {0};
    struct hf_log_entry *e;

    encode_configuration(only, id_max, &bytes);
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
static int survivor(const struct hf_offline_found *f, const char *address, struct hf_member *out, char *why,
                    size_t why_size)
{
    struct hf_member members[HF_MEMBERS_MAX];
    const char *roles[HF_MEMBERS_MAX];
    uint32_t n = hf_offline_members(f, members, roles);

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

static int may_recover(const struct hf_offline_found *f, char *why, size_t why_size)
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
                 "node %" PRIu64
                 " was removed from its cluster: its state is older than the cluster's; recover another "
                 "one",
                 id->node_id);
    else
        return 0;
    return HF_E_INVALID;
}

static uint64_t greatest_term(const struct hf_offline_found *f)
{
    return f->journal.term > f->marker.term ? f->journal.term : f->marker.term;
}

static uint64_t greatest_id(const struct hf_offline_found *f)
{
    uint64_t max = f->identity.node_id;

    for (uint32_t i = 0; i < f->identity.n_members; i++)
        max = f->identity.members[i].id > max ? f->identity.members[i].id : max;
    for (unsigned i = 0; f->has_configuration && i < f->configuration.n; i++)
        max = f->configuration.servers[i].id > max ? f->configuration.servers[i].id : max;
    return max;
}

/* What recovering means here, for whoever has to decide. */
static void describe(const struct hf_offline_found *f, const struct hf_member *self, char *why, size_t why_size)
{
    struct hf_member members[HF_MEMBERS_MAX];
    const char *roles[HF_MEMBERS_MAX];
    uint32_t n = hf_offline_members(f, members, roles), n_others = 0;
    char name[HF_MEMBER_NAME_BYTES + 1];
    struct hf_buf text = {0};

    hf_buf_printf(&text,
                  "node %s at %s becomes the only voter of a new incarnation of its cluster. Its log ends at index "
                  "%" PRIu64 " (term %" PRIu64 "), its state is sure up to %" PRIu64
                  "; all of that counts as committed. Writes that only other members had are lost, even if clients "
                  "were told OK.",
                  hf_member_name(self, name), self->address, f->journal.next_index - 1, f->last_term, f->marker.index);
    for (uint32_t i = 0; i < n; i++) {
        if (members[i].id == self->id || strcmp(roles[i], "spare") == 0)
            continue;
        hf_buf_printf(&text, "%s%s (%s, %s)", n_others++ == 0 ? " No members any more: " : ", ",
                      hf_member_name(&members[i], name), members[i].address, roles[i]);
    }
    hf_buf_printf(&text,
                  "%s A member that comes back is refused until it was wiped: holdfast repair --dir "
                  "ITS-DIR --from-peers --join %s",
                  n_others == 0 ? "" : ".", self->address);
    snprintf(why, why_size, "%.*s", (int)text.len, (const char *)text.data);
    hf_buf_free(&text);
}

static int finish_install(struct hf_fs *fs, struct hf_offline_found *f, struct journal_work *w)
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

static int write_recovery(struct hf_env *env, const struct hf_offline_loop *loop, struct hf_offline_found *f,
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
        rc = append_configuration(&w, self, greatest_id(f), term);
    close_journal(&w);
    if (rc != 0)
        snprintf(why, why_size, "cannot write the journal in %s: %s; run the same command again", f->dir,
                 hf_strerror(rc));
    return rc;
}

static int recover(struct hf_env *env, const struct hf_offline_loop *loop, struct hf_offline_found *f,
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
    id.wants_vote = false;
    id.replaces[0] = '\0';
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
    struct hf_offline_found f;
    int rc;

    memset(before, 0, sizeof(*before));
    rc = hf_offline_lock(env->fs, dir, !dry_run && hf_offline_has_identity(env->fs, dir), &lock, why, why_size);
    if (rc != 0)
        return rc;
    hf_offline_find(env->fs, dir, &f);
    hf_offline_summarise(&f, before);
    rc = f.identity_rc == 0 ? may_recover(&f, why, why_size) : 0;
    if (rc == 0)
        rc = hf_offline_judge(env->fs, &f, why, why_size);
    if (rc == 0)
        rc = survivor(&f, address, &self, why, why_size);
    if (rc == 0 && !dry_run)
        rc = recover(env, loop, &f, &self, seed, why, why_size);
    if (rc == 0)
        describe(&f, &self, why, why_size);
    hf_offline_found_free(&f);
    hf_offline_unlock(env->fs, lock);
    return rc;
}

/* ---- rejoin --------------------------------------------------------------------------------------- */

/* Does the node want its vote back? A learner that was one on purpose stays one. */
static bool wants_vote(const struct hf_offline_found *f)
{
    if (f->identity_rc == 0 && f->identity.is_removed)
        return true; /* what is left of it in a configuration says nothing */
    if (f->identity_rc == 0 && (f->identity.is_joining || f->identity.wants_vote))
        return f->identity.wants_vote;
    /* Without the journal the configuration is that of the marker, from before it was promoted perhaps. */
    for (unsigned i = 0; f->identity_rc == 0 && f->journal_rc == 0 && f->has_configuration && i < f->configuration.n;
         i++) {
        if (f->configuration.servers[i].id == f->identity.node_id)
            return f->configuration.servers[i].role == RAFT_VOTER;
    }
    return true;
}

/* Whose place it takes: that of its own old id; of a node that had no id yet, what it was told before. */
static void copy_replaces(const struct hf_offline_found *f, struct hf_identity *next)
{
    const struct hf_identity *old = &f->identity;

    if (f->identity_rc != 0)
        memcpy(next->replaces, next->name, sizeof(next->replaces));
    else if (old->is_removed)
        next->replaces[0] = '\0';
    else if (old->replaces[0] != '\0') /* it had not come so far as to replace it */
        memcpy(next->replaces, old->replaces, sizeof(next->replaces));
    else if (old->node_id != 0)
        snprintf(next->replaces, sizeof(next->replaces), "%" PRIu64, old->node_id);
    else
        memcpy(next->replaces, old->replaces, sizeof(next->replaces));
}

static int copy_name(const struct hf_offline_found *f, const char *name, struct hf_identity *next, char *why,
                     size_t why_size)
{
    const struct hf_identity *old = &f->identity;

    if (name[0] != '\0') {
        if (!hf_member_name_is_good(hf_slice_str(name))) {
            snprintf(why, why_size, "\"%s\" is not a name: 1 to %u letters, digits, . _ -", name, HF_MEMBER_NAME_BYTES);
            return HF_E_INVALID;
        }
        snprintf(next->name, sizeof(next->name), "%s", name);
    } else if (old->name[0] != '\0') {
        memcpy(next->name, old->name, sizeof(next->name));
    } else if (old->node_id != 0) {
        snprintf(next->name, sizeof(next->name), "%" PRIu64, old->node_id);
    }
    return 0;
}

static int check_members(const struct hf_offline_found *f, const struct hf_identity *next, char *why, size_t why_size)
{
    if (next->n_members > 0)
        return 0;
    snprintf(why, why_size, "%s knows no other member: say where to join (--join HOST:PORT)", f->dir);
    return HF_E_INVALID;
}

/* Where to join: as told, else by way of the members that the directory knows. */
static int copy_members(const struct hf_offline_found *f, const char *join, struct hf_identity *next, char *why,
                        size_t why_size)
{
    struct hf_member members[HF_MEMBERS_MAX];
    const char *roles[HF_MEMBERS_MAX];
    uint32_t n;

    if (join[0] != '\0')
        return parse_addresses(join, next->members, &next->n_members, why, why_size);
    /* In the same cluster: an address that belongs to another one by now is refused. */
    memcpy(next->cluster_id, f->identity.cluster_id, sizeof(next->cluster_id));
    if (f->identity_rc == 0 && f->identity.node_id == 0) {
        /* It is joining already, or an attempt got as far as to say so; what else is left here is from before that. */
        memcpy(next->members, f->identity.members, sizeof(next->members));
        next->n_members = f->identity.n_members;
        return check_members(f, next, why, why_size);
    }
    n = hf_offline_members(f, members, roles);
    for (uint32_t i = 0; i < n; i++) {
        if (members[i].id != f->identity.node_id && strcmp(roles[i], "spare") != 0)
            next->members[next->n_members++] = members[i];
    }
    return check_members(f, next, why, why_size);
}

static int may_rejoin(const struct hf_offline_found *f, const char *name, const char *join, char *why, size_t why_size)
{
    if (!f->is_there || (f->identity_rc == HF_E_NOENT && f->marker_rc == HF_E_NOENT && f->journal_rc == HF_E_NOENT)) {
        snprintf(why, why_size, "%s holds no node", f->dir);
        return HF_E_NOENT;
    }
    if (f->identity_rc != 0 && (name[0] == '\0' || join[0] == '\0')) {
        snprintf(why, why_size,
                 "%s/identity cannot be read (%s): who the node is and where it belongs must be told: "
                 "--name NAME --join HOST:PORT",
                 f->dir, hf_strerror(f->identity_rc));
        return f->identity_rc == HF_E_NOENT ? HF_E_CORRUPT : f->identity_rc;
    }
    if (f->identity_rc == 0 && f->identity.unfinished == HF_UNFINISHED_CREATE) {
        snprintf(why, why_size, "%s was never a member of a cluster: a backup was being restored there; do that again",
                 f->dir);
        return HF_E_INVALID;
    }
    return 0;
}

static int rejoin(struct hf_fs *fs, const struct hf_offline_found *f, const char *name, const char *join, uint64_t seed,
                  char *why, size_t why_size)
{
    struct hf_identity next = {.is_joining = true, .wants_vote = wants_vote(f)};
    struct hf_prng prng;
    int rc = copy_name(f, name, &next, why, why_size);

    if (rc == 0)
        rc = copy_members(f, join, &next, why, why_size);
    if (rc != 0)
        return rc;
    copy_replaces(f, &next);
    hf_prng_seed(&prng, seed);
    next.store_id = draw_nonzero(&prng);
    rc = save_identity(fs, f->dir, &next, HF_UNFINISHED_REJOIN, why, why_size);
    hf_crash_point("offline-rejoin-begun");
    if (rc == 0)
        rc = wipe(fs, f->dir, NULL, why, why_size);
    hf_crash_point("offline-rejoin-wiped");
    if (rc == 0)
        rc = save_identity(fs, f->dir, &next, HF_UNFINISHED_NONE, why, why_size);
    return rc;
}

int hf_offline_rejoin(struct hf_env *env, const char *dir, const char *name, const char *join, uint64_t seed, char *why,
                      size_t why_size)
{
    struct hf_fs *fs = env->fs;
    struct hf_file *lock;
    struct hf_offline_found f;
    int rc = hf_offline_lock(fs, dir, hf_offline_has_identity(fs, dir), &lock, why, why_size);

    if (rc != 0)
        return rc;
    hf_offline_find(fs, dir, &f);
    rc = may_rejoin(&f, name, join, why, why_size);
    if (rc == 0)
        rc = rejoin(fs, &f, name, join, seed, why, why_size);
    hf_offline_found_free(&f);
    hf_offline_unlock(fs, lock);
    return rc;
}

/* ---- create --------------------------------------------------------------------------------------- */

static struct hf_member only_member(uint64_t node_id, const char *address, struct hf_prng *prng)
{
    struct hf_member m = {.id = node_id, .store_id = draw_nonzero(prng)};

    snprintf(m.address, sizeof(m.address), "%s", address);
    return m;
}

void hf_offline_configuration(uint64_t node_id, const char *address, uint64_t seed, struct hf_buf *out)
{
    struct hf_member only;
    struct hf_prng prng;

    hf_prng_seed(&prng, seed);
    only = only_member(node_id, address, &prng);
    encode_configuration(&only, 0, out);
}

/* The parent's name, and where the last name begins. */
static char *parent_of(const char *path, const char **last)
{
    const char *slash = strrchr(path, '/');
    char *parent;

    *last = slash == NULL ? path : slash + 1;
    if (slash == NULL)
        return hf_strdup(".");
    parent = hf_strdup(path);
    parent[slash == path ? 1 : slash - path] = '\0';
    return parent;
}

/* The name of `state` in `dir` when it lies there, else NULL. */
static const char *name_within(const char *state, const char *dir)
{
    size_t n = strlen(dir);

    if (strncmp(state, dir, n) != 0 || state[n] != '/' || strchr(state + n + 1, '/') != NULL)
        return NULL;
    return state + n + 1;
}

static bool is_foreign(const char *name)
{
    return strcmp(name, "lock") != 0 && strcmp(name, "identity.tmp") != 0;
}

/* Empty but for what an attempt leaves that did not get as far as the identity, or left by an attempt that did. */
static int check_vacant(struct hf_fs *fs, const char *dir, const char *keep, char *why, size_t why_size)
{
    struct names names = {.is_wanted = is_foreign, .keep = keep};
    struct hf_identity id;
    char text[HF_OFFLINE_WHY_BYTES];
    int rc;

    if (hf_identity_load_unfinished(fs, dir, &id, text, sizeof(text)) == 0 && id.unfinished == HF_UNFINISHED_CREATE)
        return 0;
    rc = fs->list(fs, dir, add_name, &names);
    if (rc != 0)
        snprintf(why, why_size, "cannot list %s: %s", dir, hf_strerror(rc));
    if (rc == 0 && names.n > 0) {
        snprintf(why, why_size, "%s is not empty (there is %s): a new cluster needs a new directory", dir, names.at[0]);
        rc = HF_E_EXISTS;
    }
    for (size_t i = 0; i < names.n; i++)
        hf_free(names.at[i]);
    hf_free(names.at);
    return rc;
}

static int make_dir(struct hf_fs *fs, const char *dir, char *why, size_t why_size)
{
    const char *last;
    char *parent = parent_of(dir, &last);
    int rc = fs->mkdir(fs, dir);

    if (rc == 0 || rc == HF_E_EXISTS)
        rc = fs->sync_dir(fs, parent);
    if (rc != 0)
        snprintf(why, why_size, "cannot create %s: %s", dir, hf_strerror(rc));
    hf_free(parent);
    return rc;
}

/* The database file gets its place and both its content and its name are durable. */
static int place_state(struct hf_fs *fs, const char *dir, const char *state, char *why, size_t why_size)
{
    char *to = hf_offline_state_path(dir, 1), *from_dir;
    const char *last;
    struct hf_file *f;
    int rc = fs->open(fs, state, HF_FS_WRITE, &f);

    from_dir = parent_of(state, &last);
    if (rc == 0) {
        rc = fs->sync(fs, f);
        fs->close(fs, f);
    }
    if (rc == 0)
        rc = fs->rename(fs, state, to);
    if (rc == 0)
        rc = fs->sync_dir(fs, dir);
    if (rc == 0)
        rc = fs->sync_dir(fs, from_dir);
    if (rc != 0)
        snprintf(why, why_size, "cannot move %s to %s: %s", state, to, hf_strerror(rc));
    hf_free(from_dir);
    hf_free(to);
    return rc;
}

static int write_journal(struct hf_env *env, const struct hf_offline_loop *loop, const char *dir, uint64_t index,
                         uint64_t term, char *why, size_t why_size)
{
    struct journal_work w;
    int rc = open_journal(env, loop, dir, &w, why, why_size);

    if (rc != 0)
        return rc;
    rc = set_term(&w, term);
    if (rc == 0)
        rc = reset_journal(&w, index);
    close_journal(&w);
    if (rc != 0)
        snprintf(why, why_size, "cannot write the journal in %s: %s", dir, hf_strerror(rc));
    return rc;
}

static int create(struct hf_env *env, const struct hf_offline_loop *loop, const char *dir, struct hf_identity *id,
                  struct hf_marker *marker, const char *state, char *why, size_t why_size)
{
    struct hf_fs *fs = env->fs;
    int rc = save_identity(fs, dir, id, HF_UNFINISHED_CREATE, why, why_size);

    hf_crash_point("offline-create-begun");
    if (rc == 0)
        rc = wipe(fs, dir, name_within(state, dir), why, why_size);
    if (rc == 0)
        rc = write_journal(env, loop, dir, marker->index, marker->term, why, why_size);
    hf_crash_point("offline-create-journal");
    if (rc == 0)
        rc = place_state(fs, dir, state, why, why_size);
    hf_crash_point("offline-create-state");
    if (rc == 0) {
        rc = hf_marker_save(fs, dir, marker);
        if (rc != 0)
            snprintf(why, why_size, "cannot write %s/CURRENT: %s", dir, hf_strerror(rc));
    }
    hf_crash_point("offline-create-current");
    if (rc == 0)
        rc = save_identity(fs, dir, id, HF_UNFINISHED_NONE, why, why_size);
    return rc;
}

int hf_offline_create(struct hf_env *env, const struct hf_offline_loop *loop, const char *dir, uint64_t node_id,
                      const char *address, const char *cluster_word, uint64_t index, uint64_t term, const char *state,
                      uint64_t seed, char *why, size_t why_size)
{
    struct hf_marker marker = {.generation = 1, .index = index, .term = term, .configuration_index = index};
    struct hf_identity id = {.node_id = node_id, .is_formed = true, .n_members = 1};
    struct hf_fs *fs = env->fs;
    struct hf_file *lock;
    struct hf_prng prng;
    int rc = check_address(address, why, why_size);

    if (rc != 0)
        return rc;
    if (node_id == 0 || index == 0 || term == 0 || !hf_offline_is_file(fs, state)) {
        snprintf(why, why_size,
                 "cannot begin a cluster with node %" PRIu64 " and %s at index %" PRIu64 " of term %" PRIu64, node_id,
                 state, index, term);
        return HF_E_INVALID;
    }
    rc = make_dir(fs, dir, why, why_size);
    if (rc != 0)
        return rc;
    rc = check_vacant(fs, dir, name_within(state, dir), why, why_size); /* before the lock appears in it */
    if (rc != 0)
        return rc;
    rc = hf_offline_lock(fs, dir, true, &lock, why, why_size);
    if (rc != 0)
        return rc;
    rc = check_vacant(fs, dir, name_within(state, dir), why, why_size);
    hf_prng_seed(&prng, seed);
    id.members[0] = only_member(node_id, address, &prng);
    id.store_id = id.members[0].store_id;
    draw_id(&prng, id.incarnation);
    draw_id(&prng, id.cluster_id);
    if (cluster_word != NULL && cluster_word[0] != '\0')
        hf_cluster_id(cluster_word, NULL, 0, id.cluster_id);
    encode_configuration(&id.members[0], 0, &marker.configuration);
    if (rc == 0)
        rc = create(env, loop, dir, &id, &marker, state, why, why_size);
    hf_marker_free(&marker);
    hf_offline_unlock(fs, lock);
    return rc;
}
