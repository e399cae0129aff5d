/* disk.c: see disk.h. A file keeps its present bytes, its bytes at the last sync, and the changes since; a
 * directory change is a record in one ordered list, of which a crash keeps a prefix (as a journaling file system does)
 * that covers at least everything before the last sync_dir. */
#include "sim/disk.h"

#include "base/buf.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

#define SECTOR 512u

struct change { /* to a file's bytes since its last sync */
    struct change *next;
    uint64_t offset;
    uint64_t size; /* of data, or the new size of the file when data is NULL */
    uint8_t *data;
    bool is_late; /* after the sync that the power loss interrupted: never happened */
};

struct inode {
    unsigned refs; /* names, handles and records */
    struct hf_buf now, durable;
    struct change *changes, **tail;
};

struct name {
    struct name *next;
    char *path;
    struct inode *inode;
};

struct name_change { /* not yet durable; inode NULL = the name goes away */
    struct name_change *next;
    char *path;
    struct inode *inode;
    bool is_group_end; /* a rename is two records that survive together */
    bool is_late;
};

struct hf_sim_disk {
    struct hf_fs ops;
    struct name *now, *durable;
    struct name_change *changes, **tail;
    bool no_sync, is_late;
    uint64_t bytes_max, used, done;
    struct {
        int mask, err;
        uint64_t countdown;
        bool sticky;
    } fault;
    int open_files;
};

struct hf_file {
    struct inode *inode;
    bool writable;
};

static struct hf_sim_disk *self(struct hf_fs *fs)
{
    return (struct hf_sim_disk *)(void *)fs;
}

static int tick(struct hf_sim_disk *f, int op)
{
    f->done++;
    if (f->fault.countdown == 0 || !(f->fault.mask & op))
        return 0;
    if (--f->fault.countdown > 0)
        return 0;
    if (f->fault.sticky)
        f->fault.countdown = 1;
    return f->fault.err;
}

static struct inode *inode_new(void)
{
    struct inode *i = hf_calloc(1, sizeof *i);

    i->tail = &i->changes;
    return i;
}

static void drop_changes(struct inode *i)
{
    struct change *c;

    while ((c = i->changes) != NULL) {
        i->changes = c->next;
        hf_free(c->data);
        hf_free(c);
    }
    i->tail = &i->changes;
}

static void inode_unref(struct inode *i)
{
    if (!i || --i->refs > 0)
        return;
    drop_changes(i);
    hf_buf_free(&i->now);
    hf_buf_free(&i->durable);
    hf_free(i);
}

static struct inode *inode_ref(struct inode *i)
{
    if (i)
        i->refs++;
    return i;
}

static struct name **find(struct name **list, const char *path)
{
    while (*list && strcmp((*list)->path, path) < 0)
        list = &(*list)->next;
    return list;
}

static struct inode *lookup(struct name **list, const char *path)
{
    struct name *n = *find(list, path);

    return n && strcmp(n->path, path) == 0 ? n->inode : NULL;
}

static void set_name(struct name **list, const char *path, struct inode *inode)
{
    struct name **at = find(list, path), *n = *at;

    inode_ref(inode);
    if (n && strcmp(n->path, path) == 0) {
        inode_unref(n->inode);
        n->inode = inode;
        if (!inode) {
            *at = n->next;
            hf_free(n->path);
            hf_free(n);
        }
        return;
    }
    if (!inode)
        return;
    n = hf_calloc(1, sizeof *n);
    n->path = hf_strdup(path);
    n->inode = inode;
    n->next = *at;
    *at = n;
}

static void record(struct hf_sim_disk *f, const char *path, struct inode *inode, bool is_group_end)
{
    struct name_change *c = hf_calloc(1, sizeof *c);

    c->path = hf_strdup(path);
    c->inode = inode_ref(inode);
    c->is_group_end = is_group_end;
    c->is_late = f->is_late;
    *f->tail = c;
    f->tail = &c->next;
    set_name(&f->now, path, inode);
}

static void resize(struct hf_buf *b, uint64_t size)
{
    if (size > b->len) {
        size_t more = (size_t)size - b->len;

        memset(hf_buf_reserve(b, more), 0, more);
    }
    b->len = (size_t)size;
}

static void write_into(struct hf_buf *b, uint64_t offset, const void *data, size_t n)
{
    if (offset + n > b->len)
        resize(b, offset + n);
    if (n > 0)
        memcpy(b->data + offset, data, n);
}

static int grow(struct hf_sim_disk *f, uint64_t before, uint64_t after)
{
    if (after > before && f->bytes_max != 0 && f->used + (after - before) > f->bytes_max)
        return HF_E_NOSPC;
    f->used = f->used + after - before;
    return 0;
}

static void add_change(const struct hf_sim_disk *f, struct inode *i, uint64_t offset, const void *data, uint64_t size)
{
    struct change *c = hf_calloc(1, sizeof *c);

    c->is_late = f->is_late;

    c->offset = offset;
    c->size = size;
    c->data = data ? hf_memdup(data, (size_t)size) : NULL;
    *i->tail = c;
    i->tail = &c->next;
}

/* ---- operations --------------------------------------------------------------------------------------- */

static int fs_open(struct hf_fs *fs, const char *path, int flags, struct hf_file **out)
{
    struct hf_sim_disk *f = self(fs);
    struct inode *i = lookup(&f->now, path);
    int rc = tick(f, HF_SIM_META);

    if (rc < 0)
        return rc;
    if (i && (flags & HF_FS_CREATE) && (flags & HF_FS_EXCL))
        return HF_E_EXISTS;
    if (!i) {
        if (!(flags & HF_FS_CREATE))
            return HF_E_NOENT;
        i = inode_new();
        record(f, path, i, true);
    }
    *out = hf_calloc(1, sizeof **out);
    (*out)->inode = inode_ref(i);
    (*out)->writable = flags & HF_FS_WRITE;
    f->open_files++;
    return 0;
}

static void fs_close(struct hf_fs *fs, struct hf_file *file)
{
    inode_unref(file->inode);
    hf_free(file);
    self(fs)->open_files--;
}

static int fs_read(struct hf_fs *fs, struct hf_file *file, uint64_t offset, void *buf, size_t n, size_t *got)
{
    struct hf_buf *b = &file->inode->now;
    int rc = tick(self(fs), HF_SIM_READ);

    *got = 0;
    if (rc < 0)
        return rc;
    if (offset < b->len) {
        *got = b->len - (size_t)offset < n ? b->len - (size_t)offset : n;
        memcpy(buf, b->data + offset, *got);
    }
    return 0;
}

static int fs_write(struct hf_fs *fs, struct hf_file *file, uint64_t offset, const void *buf, size_t n)
{
    struct hf_sim_disk *f = self(fs);
    struct inode *i = file->inode;
    int rc = tick(f, HF_SIM_WRITE);

    if (rc == 0 && !file->writable)
        rc = HF_E_PERM;
    if (rc == 0 && offset + n > i->now.len)
        rc = grow(f, i->now.len, offset + n);
    if (rc < 0)
        return rc;
    add_change(f, i, offset, buf, n);
    write_into(&i->now, offset, buf, n);
    return 0;
}

static int fs_sync(struct hf_fs *fs, struct hf_file *file)
{
    struct hf_sim_disk *f = self(fs);
    struct inode *i = file->inode;
    int rc = tick(f, HF_SIM_SYNC);

    f->is_late |= f->no_sync;
    if (rc < 0 || f->no_sync)
        return rc;
    for (struct change *c = i->changes; c; c = c->next) {
        if (c->data)
            write_into(&i->durable, c->offset, c->data, (size_t)c->size);
        else
            resize(&i->durable, c->size);
    }
    drop_changes(i);
    return 0;
}

static int fs_truncate(struct hf_fs *fs, struct hf_file *file, uint64_t size)
{
    struct hf_sim_disk *f = self(fs);
    struct inode *i = file->inode;
    int rc = tick(f, HF_SIM_WRITE);

    if (rc == 0)
        rc = grow(f, i->now.len, size);
    if (rc < 0)
        return rc;
    add_change(f, i, 0, NULL, size);
    resize(&i->now, size);
    return 0;
}

static int fs_allocate(struct hf_fs *fs, struct hf_file *file, uint64_t size)
{
    return size > file->inode->now.len ? fs_truncate(fs, file, size) : tick(self(fs), HF_SIM_WRITE);
}

static int fs_size(struct hf_fs *fs, struct hf_file *file, uint64_t *out)
{
    (void)fs;
    *out = file->inode->now.len;
    return 0;
}

static int fs_lock(struct hf_fs *fs, struct hf_file *file)
{
    (void)fs;
    (void)file;
    return 0;
}

static int fs_mkdir(struct hf_fs *fs, const char *path)
{
    /* Directories are only prefixes of paths here. */
    (void)path;
    return tick(self(fs), HF_SIM_META);
}

static int fs_rename(struct hf_fs *fs, const char *from, const char *to)
{
    struct hf_sim_disk *f = self(fs);
    struct inode *i = lookup(&f->now, from);
    int rc = tick(f, HF_SIM_META);

    if (rc < 0)
        return rc;
    if (!i)
        return HF_E_NOENT;
    record(f, to, i, false);
    record(f, from, NULL, true);
    return 0;
}

static int fs_unlink(struct hf_fs *fs, const char *path)
{
    struct hf_sim_disk *f = self(fs);
    struct inode *i = lookup(&f->now, path);
    int rc = tick(f, HF_SIM_META);

    if (rc < 0)
        return rc;
    if (!i)
        return HF_E_NOENT;
    f->used -= i->now.len < f->used ? i->now.len : f->used;
    record(f, path, NULL, true);
    return 0;
}

static int fs_sync_dir(struct hf_fs *fs, const char *path)
{
    struct hf_sim_disk *f = self(fs);
    struct name_change *c;
    int rc = tick(f, HF_SIM_SYNC);

    (void)path;
    f->is_late |= f->no_sync;
    if (rc < 0 || f->no_sync)
        return rc;
    while ((c = f->changes) != NULL) {
        set_name(&f->durable, c->path, c->inode);
        f->changes = c->next;
        inode_unref(c->inode);
        hf_free(c->path);
        hf_free(c);
    }
    f->tail = &f->changes;
    return 0;
}

static int fs_list(struct hf_fs *fs, const char *path, void (*cb)(void *data, const char *name), void *data)
{
    struct hf_sim_disk *f = self(fs);
    size_t n = strlen(path);
    int rc = tick(f, HF_SIM_META);
    char **names = NULL;
    size_t count = 0;

    if (rc < 0)
        return rc;
    for (struct name *i = f->now; i; i = i->next)
        if (strncmp(i->path, path, n) == 0 && i->path[n] == '/' && !strchr(i->path + n + 1, '/')) {
            names = hf_realloc(names, (count + 1) * sizeof *names);
            names[count++] = hf_strdup(i->path + n + 1);
        }
    for (size_t i = 0; i < count; i++) { /* the callback may change the directory */
        cb(data, names[i]);
        hf_free(names[i]);
    }
    hf_free(names);
    return 0;
}

static int fs_free_bytes(struct hf_fs *fs, const char *path, uint64_t *out)
{
    struct hf_sim_disk *f = self(fs);

    (void)path;
    *out = f->bytes_max == 0 ? UINT64_C(1) << 40 : f->bytes_max > f->used ? f->bytes_max - f->used : 0;
    return 0;
}

/* ---- control ------------------------------------------------------------------------------------------ */

struct hf_sim_disk *hf_sim_disk_new(void)
{
    struct hf_sim_disk *f = hf_calloc(1, sizeof *f);

    f->ops = (struct hf_fs){.open = fs_open,
                            .close = fs_close,
                            .read = fs_read,
                            .write = fs_write,
                            .sync = fs_sync,
                            .truncate = fs_truncate,
                            .allocate = fs_allocate,
                            .size = fs_size,
                            .lock = fs_lock,
                            .mkdir = fs_mkdir,
                            .rename = fs_rename,
                            .unlink = fs_unlink,
                            .sync_dir = fs_sync_dir,
                            .list = fs_list,
                            .free_bytes = fs_free_bytes};
    f->tail = &f->changes;
    return f;
}

struct hf_fs *hf_sim_disk_ops(struct hf_sim_disk *f)
{
    return &f->ops;
}

static void free_names(struct name *n)
{
    while (n) {
        struct name *next = n->next;

        inode_unref(n->inode);
        hf_free(n->path);
        hf_free(n);
        n = next;
    }
}

void hf_sim_disk_free(struct hf_sim_disk *f)
{
    struct name_change *c;

    if (!f)
        return;
    free_names(f->now);
    free_names(f->durable);
    while ((c = f->changes) != NULL) {
        f->changes = c->next;
        inode_unref(c->inode);
        hf_free(c->path);
        hf_free(c);
    }
    hf_free(f);
}

/* What is left of a file after the power went: the synced bytes and, of each later write, all, nothing, or some of its
 * sectors. */
static struct inode *survivor(const struct inode *i, struct hf_prng *prng)
{
    struct inode *s = inode_new();

    hf_buf_put(&s->now, i->durable.data, i->durable.len);
    for (const struct change *c = i->changes; c; c = c->next) {
        uint64_t fate = hf_prng_below(prng, 3);

        if (fate == 0 || c->is_late)
            continue;
        if (!c->data) {
            resize(&s->now, c->size);
            continue;
        }
        for (uint64_t at = 0; at < c->size;) {
            uint64_t end = (c->offset + at) / SECTOR * SECTOR + SECTOR - c->offset;

            if (end > c->size)
                end = c->size;
            if (fate == 1 || hf_prng_below(prng, 2) == 0)
                write_into(&s->now, c->offset + at, c->data + at, (size_t)(end - at));
            at = end;
        }
    }
    hf_buf_put(&s->durable, s->now.data, s->now.len);
    return s;
}

struct hf_sim_disk *hf_sim_disk_crash(struct hf_sim_disk *f, struct hf_prng *prng)
{
    struct hf_sim_disk *n = hf_sim_disk_new();
    struct name *names = NULL;
    size_t total = 0, keep;

    for (struct name *i = f->durable; i; i = i->next)
        set_name(&names, i->path, i->inode);
    for (struct name_change *c = f->changes; c; c = c->next)
        total += !c->is_late;
    keep = (size_t)hf_prng_below(prng, total + 1);
    for (struct name_change *c = f->changes; c && keep > 0; c = c->next) {
        if (c->is_late)
            continue;
        set_name(&names, c->path, c->inode);
        if (keep > 1 || c->is_group_end)
            keep--;
    }
    for (struct name *i = names; i; i = i->next) {
        struct inode *s = survivor(i->inode, prng);

        set_name(&n->now, i->path, s);
        set_name(&n->durable, i->path, s);
        n->used += s->now.len;
    }
    free_names(names);
    n->bytes_max = f->bytes_max;
    return n;
}

void hf_sim_disk_stop_syncing(struct hf_sim_disk *f)
{
    f->no_sync = true;
    f->is_late = false;
}

void hf_sim_disk_fail(struct hf_sim_disk *f, int op_mask, uint64_t n, int err, bool sticky)
{
    f->fault.mask = op_mask;
    f->fault.err = err;
    f->fault.countdown = n;
    f->fault.sticky = sticky;
}

void hf_sim_disk_limit(struct hf_sim_disk *f, uint64_t bytes_max)
{
    f->bytes_max = bytes_max;
}

bool hf_sim_disk_flip(struct hf_sim_disk *f, const char *path, uint64_t offset, int bit)
{
    struct inode *i = lookup(&f->now, path);

    if (!i || offset >= i->now.len)
        return false;
    i->now.data[offset] ^= (uint8_t)(1u << bit);
    if (offset < i->durable.len)
        i->durable.data[offset] ^= (uint8_t)(1u << bit);
    return true;
}

uint64_t hf_sim_disk_used(const struct hf_sim_disk *f)
{
    return f->used;
}

uint64_t hf_sim_disk_ops_done(const struct hf_sim_disk *f)
{
    return f->done;
}

int hf_sim_disk_open_files(const struct hf_sim_disk *f)
{
    return f->open_files;
}
