/* offline_look.c: what a data directory holds, read without changing anything in it. See offline.h. */
#include "consensus/offline_internal.h"

#include "base/assert.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- what a directory holds ----------------------------------------------------------------------- */

static int decode_configuration(struct hf_slice bytes, struct raft_configuration *out)
{
    struct raft_buffer buf = {raft_malloc(bytes.len + 1), bytes.len}; /* the decoder reads aligned words */
    int rv;

    HF_ASSERT(buf.base != NULL);
    if (bytes.len == 0) {
        raft_free(buf.base);
        return HF_E_CORRUPT;
    }
    memcpy(buf.base, bytes.ptr, bytes.len);
    raft_configuration_init(out);
    rv = raft_configuration_decode(&buf, out);
    raft_free(buf.base);
    if (rv != 0)
        raft_configuration_close(out);
    return rv == 0 ? 0 : HF_E_CORRUPT;
}

static int take_entry(void *data, struct hf_log_entry *e)
{
    struct hf_offline_found *f = data;

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

void hf_offline_find(struct hf_fs *fs, const char *dir, struct hf_offline_found *f)
{
    char *path = hf_asprintf("%s/journal", dir);

    memset(f, 0, sizeof(*f));
    f->dir = dir;
    f->is_there = fs->list(fs, dir, ignore_name, NULL) == 0;
    f->journal.first_index = f->journal.next_index = 1;
    f->identity_rc = hf_identity_load_unfinished(fs, dir, &f->identity, f->identity_why, sizeof(f->identity_why));
    f->marker_rc = hf_marker_load(fs, dir, &f->marker, f->marker_why, sizeof(f->marker_why));
    f->journal_rc = hf_journal_look(fs, path, &f->journal, take_entry, f, f->journal_why, sizeof(f->journal_why));
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

void hf_offline_found_free(struct hf_offline_found *f)
{
    hf_marker_free(&f->marker);
    hf_buf_free(&f->bytes);
    if (f->has_configuration)
        raft_configuration_close(&f->configuration);
}

char *hf_offline_state_path(const char *dir, uint64_t generation)
{
    return hf_asprintf("%s/state-%" PRIu64 ".db", dir, generation);
}

bool hf_offline_is_file(struct hf_fs *fs, const char *path)
{
    struct hf_file *f;
    int rc = fs->open(fs, path, HF_FS_READ, &f);

    if (rc != 0)
        return false;
    fs->close(fs, f);
    return true;
}

#define REPAIR                                                                                                         \
    "put it back as it was, or let this node start again from the other members: holdfast repair --dir %s "            \
    "--from-peers"

int hf_offline_judge(struct hf_fs *fs, const struct hf_offline_found *f, char *why, size_t why_size)
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
                 "%s/journal holds entries %" PRIu64 "..%" PRIu64
                 ", but CURRENT says that the state goes up to %" PRIu64 ": " REPAIR,
                 f->dir, f->journal.first_index, f->journal.next_index - 1, f->marker.index, f->dir);
        return HF_E_CORRUPT;
    }
    if (f->configuration_index != 0 && !f->has_configuration) {
        snprintf(why, why_size, "the configuration of index %" PRIu64 " in %s does not decode: " REPAIR,
                 f->configuration_index, f->dir, f->dir);
        return HF_E_CORRUPT;
    }
    state = hf_offline_state_path(f->dir, f->marker.generation);
    has_state = f->marker.index == 0 || hf_offline_is_file(fs, state);
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

uint32_t hf_offline_members(const struct hf_offline_found *f, struct hf_member *out, const char **roles)
{
    uint32_t n = 0;

    if (f->has_configuration) {
        for (unsigned i = 0; i < f->configuration.n && n < HF_MEMBERS_MAX; i++) {
            const struct raft_server *s = &f->configuration.servers[i];

            if (hf_member_parse(s->id, s->address, &out[n]) != 0)
                continue;
            /* A spare without a name and a store keeps an id from being given out again: no member. */
            if (s->role != RAFT_SPARE || out[n].name[0] != '\0' || out[n].store_id != 0)
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

void hf_offline_summarise(const struct hf_offline_found *f, struct hf_offline_summary *out)
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
        char *path = hf_offline_state_path(f->dir, f->marker.generation);

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
    out->n_members = hf_offline_members(f, members, roles);
    for (uint32_t i = 0; i < out->n_members; i++) {
        struct hf_offline_member *m = &out->members[i];

        m->id = members[i].id;
        m->role = roles[i];
        snprintf(m->name, sizeof(m->name), "%s", hf_member_name(&members[i], digits));
        snprintf(m->address, sizeof(m->address), "%s", members[i].address);
    }
}

/* ---- the lock ------------------------------------------------------------------------------------- */

bool hf_offline_has_identity(struct hf_fs *fs, const char *dir)
{
    char *path = hf_asprintf("%s/identity", dir);
    bool has = hf_offline_is_file(fs, path);

    hf_free(path);
    return has;
}

int hf_offline_lock(struct hf_fs *fs, const char *dir, bool may_create, struct hf_file **lock, char *why,
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

void hf_offline_unlock(struct hf_fs *fs, struct hf_file *lock)
{
    if (lock != NULL)
        fs->close(fs, lock);
}

/* ---- looking -------------------------------------------------------------------------------------- */

int hf_offline_look(struct hf_env *env, const char *dir, struct hf_offline_summary *out, char *why, size_t why_size)
{
    struct hf_file *lock;
    struct hf_offline_found f;
    int rc = hf_offline_lock(env->fs, dir, false, &lock, why, why_size);

    memset(out, 0, sizeof(*out));
    if (rc != 0)
        return rc;
    hf_offline_find(env->fs, dir, &f);
    hf_offline_summarise(&f, out);
    rc = hf_offline_judge(env->fs, &f, why, why_size);
    if (f.identity_rc == 0 && f.identity.unfinished != HF_UNFINISHED_NONE) {
        struct hf_identity again;

        rc = hf_identity_load(env->fs, dir, &again, why, why_size); /* whose text it is */
    }
    hf_offline_found_free(&f);
    hf_offline_unlock(env->fs, lock);
    return rc;
}
