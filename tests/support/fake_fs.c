/* fake_fs.c: see fake_fs.h. A file is an inode with its present bytes, its synced bytes and the changes between;
 * names are kept twice as well, with the changes not yet made durable by sync_dir. */
#include "support/fake_fs.h"

#include "base/assert.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/util.h"

#include <stdio.h>
#include <stdlib.h>

#define SECTOR 512u

/* A change of a file since its last sync: a write, or (bytes NULL) a new size. */
struct change {
    uint64_t offset;
    uint8_t *bytes;
    size_t n;
};

struct inode {
    uint32_t refs; /* names, durable names, handles, pending name changes */
    bool is_dir;
    uint8_t *now, *synced;
    size_t now_len, synced_len, now_cap, synced_cap;
    struct change *changes;
    size_t n_changes, cap_changes;
    struct hf_file *locked_by;
};

struct name {
    char *path;
    struct inode *inode;
};

struct names {
    struct name *items;
    size_t n, cap;
};

/* A change of the names since the directory's last sync: set (or with inode NULL remove) `to`; remove `from`. */
struct name_change {
    char *from, *to;
    struct inode *inode;
};

struct failpoint {
    int ops;
    uint64_t left;
    int err;
    bool sticky, is_crash;
    enum hf_fake_loss loss;
};

struct hf_file {
    struct inode *inode;
    int flags;
    uint64_t epoch; /* of the file system when it was opened: dead after a crash */
};

struct hf_fake_fs {
    struct hf_fs table;
    struct hf_prng prng;
    struct names now, durable;
    struct name_change *pending;
    size_t n_pending, cap_pending;
    struct failpoint fail, crash;
    uint64_t epoch, capacity;
    uint64_t counts[9];
    bool dead;
};

/* ---- inodes and names ---------------------------------------------------------------------------- */

static struct inode *inode_ref(struct inode *i)
{
    i->refs++;
    return i;
}

static void drop_changes(struct inode *i)
{
    for (size_t k = 0; k < i->n_changes; k++)
        hf_free(i->changes[k].bytes);
    i->n_changes = 0;
}

static void inode_unref(struct inode *i)
{
    if (i == NULL || --i->refs > 0)
        return;
    drop_changes(i);
    hf_free(i->changes);
    hf_free(i->now);
    hf_free(i->synced);
    hf_free(i);
}

static struct inode *inode_new(bool is_dir)
{
    struct inode *i = hf_calloc(1, sizeof *i);

    i->refs = 1;
    i->is_dir = is_dir;
    return i;
}

static void resize(uint8_t **data, size_t *len, size_t *cap, size_t to)
{
    if (to > *cap) {
        size_t want = *cap * 2 > to ? *cap * 2 : to;

        *data = hf_realloc(*data, want);
        *cap = want;
    }
    if (to > *len)
        memset(*data + *len, 0, to - *len);
    *len = to;
}

static struct name *find(const struct names *t, const char *path)
{
    for (size_t i = 0; i < t->n; i++)
        if (strcmp(t->items[i].path, path) == 0)
            return &t->items[i];
    return NULL;
}

static void names_remove(struct names *t, const char *path)
{
    struct name *at = find(t, path);

    if (at == NULL)
        return;
    hf_free(at->path);
    inode_unref(at->inode);
    *at = t->items[--t->n];
}

static void names_set(struct names *t, const char *path, struct inode *inode)
{
    inode_ref(inode);
    names_remove(t, path);
    if (t->n == t->cap) {
        t->cap = t->cap ? t->cap * 2 : 16;
        t->items = hf_realloc(t->items, t->cap * sizeof *t->items);
    }
    t->items[t->n++] = (struct name){hf_strdup(path), inode};
}

static bool is_root(const char *path)
{
    return path[0] == 0 || strcmp(path, "/") == 0 || strcmp(path, ".") == 0;
}

/* Whether `path` lies directly in `dir`. */
static bool is_in(const char *path, const char *dir)
{
    const char *slash = strrchr(path, '/');
    size_t len = slash != NULL ? (size_t)(slash - path) : 0;

    if (is_root(dir))
        return slash == NULL || slash == path;
    return slash != NULL && len == strlen(dir) && memcmp(path, dir, len) == 0;
}

static bool has_parent(const struct names *t, const char *path)
{
    const char *slash = strrchr(path, '/');
    bool found = true;

    if (slash != NULL && slash != path) {
        char *dir = hf_strdup(path);
        struct name *at;

        dir[slash - path] = 0;
        at = find(t, dir);
        found = at != NULL && at->inode->is_dir;
        hf_free(dir);
    }
    return found;
}

static void pend(struct hf_fake_fs *ff, const char *from, const char *to, struct inode *inode)
{
    if (ff->n_pending == ff->cap_pending) {
        ff->cap_pending = ff->cap_pending ? ff->cap_pending * 2 : 16;
        ff->pending = hf_realloc(ff->pending, ff->cap_pending * sizeof *ff->pending);
    }
    ff->pending[ff->n_pending++] =
        (struct name_change){from ? hf_strdup(from) : NULL, to ? hf_strdup(to) : NULL, inode ? inode_ref(inode) : NULL};
}

static void apply_pending(struct hf_fake_fs *ff, size_t k, bool keep)
{
    struct name_change *c = &ff->pending[k];

    if (keep && c->from != NULL)
        names_remove(&ff->durable, c->from);
    if (keep && c->to != NULL)
        names_set(&ff->durable, c->to, c->inode);
    hf_free(c->from);
    hf_free(c->to);
    inode_unref(c->inode);
    ff->n_pending--;
    memmove(c, c + 1, (ff->n_pending - k) * sizeof *c);
}

/* ---- power loss ---------------------------------------------------------------------------------- */

static void put(uint8_t **data, size_t *len, size_t *cap, uint64_t offset, const uint8_t *bytes, size_t n)
{
    if (offset + n > *len)
        resize(data, len, cap, (size_t)(offset + n));
    if (n > 0)
        memcpy(*data + offset, bytes, n);
}

static void lose_change(struct hf_fake_fs *ff, struct inode *i, const struct change *c, enum hf_fake_loss loss)
{
    uint64_t fate = hf_prng_below(&ff->prng, 3);

    if (loss == HF_FAKE_LOSS_ALL || (loss == HF_FAKE_LOSS_EACH && fate == 0))
        return;
    if (c->bytes == NULL) {
        resize(&i->synced, &i->synced_len, &i->synced_cap, (size_t)c->offset);
        return;
    }
    if (fate == 1) {
        put(&i->synced, &i->synced_len, &i->synced_cap, c->offset, c->bytes, c->n);
        return;
    }
    for (size_t at = 0; at < c->n;) {
        size_t n = SECTOR - (size_t)((c->offset + at) % SECTOR);

        if (n > c->n - at)
            n = c->n - at;
        if (hf_prng_below(&ff->prng, 2) == 0)
            put(&i->synced, &i->synced_len, &i->synced_cap, c->offset + at, c->bytes + at, n);
        at += n;
    }
}

static void settle_inode(struct hf_fake_fs *ff, struct inode *i, enum hf_fake_loss loss)
{
    for (size_t k = 0; k < i->n_changes; k++)
        lose_change(ff, i, &i->changes[k], loss);
    drop_changes(i);
    resize(&i->now, &i->now_len, &i->now_cap, i->synced_len);
    if (i->synced_len > 0)
        memcpy(i->now, i->synced, i->synced_len);
}

void hf_fake_fs_crash(struct hf_fake_fs *ff, enum hf_fake_loss loss)
{
    if (ff->dead)
        return;
    ff->dead = true;
    ff->epoch++;
    for (size_t k = 0; k < ff->now.n; k++)
        ff->now.items[k].inode->locked_by = NULL;
    if (loss == HF_FAKE_LOSS_RANDOM) {
        uint64_t draw = hf_prng_below(&ff->prng, 6);

        loss = draw == 0 ? HF_FAKE_LOSS_NOTHING : draw == 1 ? HF_FAKE_LOSS_ALL : HF_FAKE_LOSS_EACH;
    }
    if (loss == HF_FAKE_LOSS_NOTHING)
        return; /* all of it is still in the page cache, and no safer than before */
    while (ff->n_pending > 0)
        apply_pending(ff, 0, loss == HF_FAKE_LOSS_EACH && hf_prng_below(&ff->prng, 2) == 0);
    /* A name whose directory was lost is lost with it. */
    for (size_t k = 0; k < ff->durable.n;) {
        if (has_parent(&ff->durable, ff->durable.items[k].path)) {
            k++;
        } else {
            names_remove(&ff->durable, ff->durable.items[k].path);
            k = 0;
        }
    }
    while (ff->now.n > 0)
        names_remove(&ff->now, ff->now.items[0].path);
    for (size_t k = 0; k < ff->durable.n; k++) {
        settle_inode(ff, ff->durable.items[k].inode, loss);
        names_set(&ff->now, ff->durable.items[k].path, ff->durable.items[k].inode);
    }
}

void hf_fake_fs_revive(struct hf_fake_fs *ff)
{
    HF_ASSERT(ff->dead);
    ff->dead = false;
    ff->fail.left = 0;
    ff->crash.left = 0;
    ff->fail.sticky = false;
}

bool hf_fake_fs_is_dead(const struct hf_fake_fs *ff)
{
    return ff->dead;
}

/* ---- failpoints ---------------------------------------------------------------------------------- */

static bool due(struct failpoint *p, enum hf_fake_op op)
{
    if (p->left == 0 || (p->ops & (int)op) == 0)
        return false;
    if (p->left == 1) {
        if (!p->sticky)
            p->left = 0;
        return true;
    }
    p->left--;
    return false;
}

/* Before an operation. 0: go on. *crash: do it, then the power goes. */
static int enter(struct hf_fake_fs *ff, const struct hf_file *f, enum hf_fake_op op, bool *crash)
{
    int bit = 0;

    *crash = false;
    if (ff->dead || (f != NULL && f->epoch != ff->epoch))
        return HF_E_IO;
    while ((1 << bit) != (int)op)
        bit++;
    ff->counts[bit]++;
    if (due(&ff->fail, op))
        return ff->fail.err;
    *crash = due(&ff->crash, op);
    return HF_OK;
}

static int leave(struct hf_fake_fs *ff, bool crash)
{
    if (!crash)
        return HF_OK;
    hf_fake_fs_crash(ff, ff->crash.loss);
    return HF_E_IO;
}

void hf_fake_fs_fail_at(struct hf_fake_fs *ff, int ops, uint64_t n, int err, bool sticky)
{
    ff->fail = (struct failpoint){.ops = ops, .left = n, .err = err, .sticky = sticky};
}

void hf_fake_fs_crash_at(struct hf_fake_fs *ff, int ops, uint64_t n, enum hf_fake_loss loss)
{
    ff->crash = (struct failpoint){.ops = ops, .left = n, .is_crash = true, .loss = loss};
}

uint64_t hf_fake_fs_ops(const struct hf_fake_fs *ff, int ops)
{
    uint64_t sum = 0;

    for (int bit = 0; bit < 9; bit++)
        if (ops & (1 << bit))
            sum += ff->counts[bit];
    return sum;
}

void hf_fake_fs_set_capacity(struct hf_fake_fs *ff, uint64_t bytes)
{
    ff->capacity = bytes;
}

uint64_t hf_fake_fs_used(const struct hf_fake_fs *ff)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < ff->now.n; i++)
        sum += ff->now.items[i].inode->now_len;
    return sum;
}

/* ---- the table ----------------------------------------------------------------------------------- */

static struct hf_fake_fs *of(struct hf_fs *fs)
{
    return HF_CONTAINER_OF(fs, struct hf_fake_fs, table);
}

static int fake_open(struct hf_fs *fs, const char *path, int flags, struct hf_file **out)
{
    struct hf_fake_fs *ff = of(fs);
    struct name *at;
    struct inode *inode;
    bool crash;
    int rc = enter(ff, NULL, HF_FAKE_OPEN, &crash);

    if (rc != HF_OK)
        return rc;
    at = find(&ff->now, path);
    if (at != NULL && (flags & HF_FS_CREATE) && (flags & HF_FS_EXCL))
        return HF_E_EXISTS;
    if (at == NULL && !((flags & HF_FS_CREATE) && has_parent(&ff->now, path)))
        return HF_E_NOENT;
    if (at != NULL && at->inode->is_dir)
        return HF_E_INVALID;
    if (at == NULL) {
        inode = inode_new(false);
        names_set(&ff->now, path, inode);
        pend(ff, NULL, path, inode);
    } else {
        inode = inode_ref(at->inode);
    }
    rc = leave(ff, crash);
    if (rc != HF_OK) {
        inode_unref(inode);
        return rc;
    }
    *out = hf_calloc(1, sizeof **out);
    (*out)->inode = inode;
    (*out)->flags = flags;
    (*out)->epoch = ff->epoch;
    return HF_OK;
}

static void fake_close(struct hf_fs *fs, struct hf_file *f)
{
    (void)fs;
    if (f->inode->locked_by == f)
        f->inode->locked_by = NULL;
    inode_unref(f->inode);
    hf_free(f);
}

static int fake_read(struct hf_fs *fs, struct hf_file *f, uint64_t offset, void *buf, size_t n, size_t *got)
{
    bool crash;
    int rc = enter(of(fs), f, HF_FAKE_READ, &crash);
    size_t left;

    if (rc != HF_OK)
        return rc;
    left = offset < f->inode->now_len ? f->inode->now_len - (size_t)offset : 0;
    *got = n < left ? n : left;
    if (*got > 0)
        memcpy(buf, f->inode->now + offset, *got);
    return leave(of(fs), crash);
}

static void note_change(struct inode *i, uint64_t offset, const void *bytes, size_t n)
{
    if (i->n_changes == i->cap_changes) {
        i->cap_changes = i->cap_changes ? i->cap_changes * 2 : 8;
        i->changes = hf_realloc(i->changes, i->cap_changes * sizeof *i->changes);
    }
    i->changes[i->n_changes++] = (struct change){offset, bytes ? hf_memdup(bytes, n) : NULL, n};
}

static bool is_full(struct hf_fake_fs *ff, const struct inode *i, uint64_t size)
{
    return ff->capacity != 0 && size > i->now_len && hf_fake_fs_used(ff) + (size - i->now_len) > ff->capacity;
}

static int fake_write(struct hf_fs *fs, struct hf_file *f, uint64_t offset, const void *buf, size_t n)
{
    struct hf_fake_fs *ff = of(fs);
    struct inode *i = f->inode;
    bool crash;
    int rc = enter(ff, f, HF_FAKE_WRITE, &crash);

    if (rc == HF_OK && is_full(ff, i, offset + n))
        rc = HF_E_NOSPC;
    HF_ASSERT(f->flags & HF_FS_WRITE);
    if (rc != HF_OK) {
        /* A failed write may have done any part of its work. */
        if (ff->dead || f->epoch != ff->epoch)
            return rc;
        n = (size_t)hf_prng_below(&ff->prng, n + 1);
        if (is_full(ff, i, offset + n))
            return rc;
    }
    if (n > 0) {
        put(&i->now, &i->now_len, &i->now_cap, offset, buf, n);
        note_change(i, offset, buf, n);
    }
    return rc != HF_OK ? rc : leave(ff, crash);
}

static int fake_sync(struct hf_fs *fs, struct hf_file *f)
{
    struct inode *i = f->inode;
    bool crash;
    int rc = enter(of(fs), f, HF_FAKE_SYNC, &crash);

    if (rc != HF_OK)
        return rc;
    if (crash)
        return leave(of(fs), crash); /* the power goes before it has done anything: the caller never knows */
    for (size_t k = 0; k < i->n_changes; k++) {
        const struct change *c = &i->changes[k];

        if (c->bytes == NULL)
            resize(&i->synced, &i->synced_len, &i->synced_cap, (size_t)c->offset);
        else
            put(&i->synced, &i->synced_len, &i->synced_cap, c->offset, c->bytes, c->n);
    }
    drop_changes(i);
    return HF_OK;
}

static int fake_truncate(struct hf_fs *fs, struct hf_file *f, uint64_t size)
{
    bool crash;
    int rc = enter(of(fs), f, HF_FAKE_TRUNCATE, &crash);

    if (rc != HF_OK)
        return rc;
    if (is_full(of(fs), f->inode, size))
        return HF_E_NOSPC;
    resize(&f->inode->now, &f->inode->now_len, &f->inode->now_cap, (size_t)size);
    note_change(f->inode, size, NULL, 0);
    return leave(of(fs), crash);
}

static int fake_allocate(struct hf_fs *fs, struct hf_file *f, uint64_t size)
{
    bool crash;
    int rc = enter(of(fs), f, HF_FAKE_ALLOCATE, &crash);

    if (rc != HF_OK)
        return rc;
    if (size <= f->inode->now_len)
        return leave(of(fs), crash);
    if (is_full(of(fs), f->inode, size))
        return HF_E_NOSPC;
    resize(&f->inode->now, &f->inode->now_len, &f->inode->now_cap, (size_t)size);
    note_change(f->inode, size, NULL, 0);
    return leave(of(fs), crash);
}

static int fake_size(struct hf_fs *fs, struct hf_file *f, uint64_t *out)
{
    if (of(fs)->dead || f->epoch != of(fs)->epoch)
        return HF_E_IO;
    *out = f->inode->now_len;
    return HF_OK;
}

static int fake_lock(struct hf_fs *fs, struct hf_file *f)
{
    if (of(fs)->dead || f->epoch != of(fs)->epoch)
        return HF_E_IO;
    if (f->inode->locked_by != NULL && f->inode->locked_by != f)
        return HF_E_LOCKED;
    f->inode->locked_by = f;
    return HF_OK;
}

static int fake_mkdir(struct hf_fs *fs, const char *path)
{
    struct hf_fake_fs *ff = of(fs);
    struct inode *i;
    bool crash;
    int rc = enter(ff, NULL, HF_FAKE_NAME, &crash);

    if (rc != HF_OK)
        return rc;
    if (is_root(path) || find(&ff->now, path) != NULL)
        return HF_E_EXISTS;
    if (!has_parent(&ff->now, path))
        return HF_E_NOENT;
    i = inode_new(true);
    names_set(&ff->now, path, i);
    pend(ff, NULL, path, i);
    inode_unref(i);
    return leave(ff, crash);
}

static int fake_rename(struct hf_fs *fs, const char *from, const char *to)
{
    struct hf_fake_fs *ff = of(fs);
    struct name *at;
    struct inode *i;
    bool crash;
    int rc = enter(ff, NULL, HF_FAKE_NAME, &crash);

    if (rc != HF_OK)
        return rc;
    at = find(&ff->now, from);
    if (at == NULL || !has_parent(&ff->now, to))
        return HF_E_NOENT;
    HF_ASSERT(!at->inode->is_dir);
    i = inode_ref(at->inode);
    names_remove(&ff->now, from);
    names_set(&ff->now, to, i);
    pend(ff, from, to, i);
    inode_unref(i);
    return leave(ff, crash);
}

static int fake_unlink(struct hf_fs *fs, const char *path)
{
    struct hf_fake_fs *ff = of(fs);
    bool crash;
    int rc = enter(ff, NULL, HF_FAKE_NAME, &crash);

    if (rc != HF_OK)
        return rc;
    if (find(&ff->now, path) == NULL)
        return HF_E_NOENT;
    names_remove(&ff->now, path);
    pend(ff, path, NULL, NULL);
    return leave(ff, crash);
}

static int fake_sync_dir(struct hf_fs *fs, const char *path)
{
    struct hf_fake_fs *ff = of(fs);
    bool crash;
    int rc = enter(ff, NULL, HF_FAKE_SYNC_DIR, &crash);

    if (rc != HF_OK)
        return rc;
    if (!is_root(path) && find(&ff->now, path) == NULL)
        return HF_E_NOENT;
    if (crash)
        return leave(ff, crash);
    for (size_t k = 0; k < ff->n_pending;) {
        const struct name_change *c = &ff->pending[k];

        if ((c->to != NULL && is_in(c->to, path)) || (c->from != NULL && is_in(c->from, path)))
            apply_pending(ff, k, true);
        else
            k++;
    }
    return HF_OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int fake_list(struct hf_fs *fs, const char *path, void (*cb)(void *data, const char *name), void *data)
{
    struct hf_fake_fs *ff = of(fs);
    char **found;
    size_t n = 0;
    bool crash;
    int rc = enter(ff, NULL, HF_FAKE_LIST, &crash);

    if (rc != HF_OK)
        return rc;
    if (!is_root(path) && find(&ff->now, path) == NULL)
        return HF_E_NOENT;
    found = hf_calloc(ff->now.n + 1, sizeof *found);
    for (size_t k = 0; k < ff->now.n; k++) {
        const char *p = ff->now.items[k].path, *slash = strrchr(p, '/');

        if (is_in(p, path))
            found[n++] = hf_strdup(slash != NULL ? slash + 1 : p);
    }
    qsort(found, n, sizeof *found, compare_names);
    for (size_t k = 0; k < n; k++) {
        cb(data, found[k]);
        hf_free(found[k]);
    }
    hf_free(found);
    return leave(ff, crash);
}

static int fake_free_bytes(struct hf_fs *fs, const char *path, uint64_t *out)
{
    struct hf_fake_fs *ff = of(fs);
    uint64_t used = hf_fake_fs_used(ff);

    (void)path;
    if (ff->dead)
        return HF_E_IO;
    *out = ff->capacity == 0 ? UINT64_C(1) << 50 : ff->capacity > used ? ff->capacity - used : 0;
    return HF_OK;
}

struct hf_fake_fs *hf_fake_fs_new(uint64_t seed)
{
    struct hf_fake_fs *ff = hf_calloc(1, sizeof *ff);

    hf_prng_seed(&ff->prng, seed);
    ff->table = (struct hf_fs){
        .open = fake_open,
        .close = fake_close,
        .read = fake_read,
        .write = fake_write,
        .sync = fake_sync,
        .truncate = fake_truncate,
        .allocate = fake_allocate,
        .size = fake_size,
        .lock = fake_lock,
        .mkdir = fake_mkdir,
        .rename = fake_rename,
        .unlink = fake_unlink,
        .sync_dir = fake_sync_dir,
        .list = fake_list,
        .free_bytes = fake_free_bytes,
    };
    return ff;
}

void hf_fake_fs_free(struct hf_fake_fs *ff)
{
    while (ff->n_pending > 0)
        apply_pending(ff, 0, false);
    while (ff->now.n > 0)
        names_remove(&ff->now, ff->now.items[0].path);
    while (ff->durable.n > 0)
        names_remove(&ff->durable, ff->durable.items[0].path);
    hf_free(ff->now.items);
    hf_free(ff->durable.items);
    hf_free(ff->pending);
    hf_free(ff);
}

struct hf_fs *hf_fake_fs_table(struct hf_fake_fs *ff)
{
    return &ff->table;
}

/* ---- damage and inspection ----------------------------------------------------------------------- */

bool hf_fake_fs_flip_bit(struct hf_fake_fs *ff, const char *path, uint64_t offset, unsigned bit)
{
    struct name *at = find(&ff->now, path);

    if (at == NULL || offset >= at->inode->now_len)
        return false;
    at->inode->now[offset] ^= (uint8_t)(1u << bit);
    if (offset < at->inode->synced_len)
        at->inode->synced[offset] ^= (uint8_t)(1u << bit);
    return true;
}

bool hf_fake_fs_peek(struct hf_fake_fs *ff, const char *path, const uint8_t **data, uint64_t *size)
{
    struct name *at = find(&ff->now, path);

    if (at == NULL)
        return false;
    *data = at->inode->now;
    *size = at->inode->now_len;
    return true;
}

bool hf_fake_fs_dump(struct hf_fake_fs *ff, const char *to_dir)
{
    for (size_t k = 0; k < ff->now.n; k++) {
        const struct inode *i = ff->now.items[k].inode;
        char *path;
        FILE *f;

        if (i->is_dir)
            continue;
        path = hf_asprintf("%s/%s", to_dir, ff->now.items[k].path);
        for (char *p = path + strlen(to_dir) + 1; *p != 0; p++)
            if (*p == '/')
                *p = '_';
        f = fopen(path, "wb");
        hf_free(path);
        if (f == NULL || fwrite(i->now, 1, i->now_len, f) != i->now_len || fclose(f) != 0)
            return false;
    }
    return true;
}
