/* vfs.c: see vfs.h. Follows the contract of sqlite3_io_methods, version 2 (shared memory for WAL). */
#include "sim/vfs.h"

#include "base/mem.h"

#include <sqlite3.h>

#include <stdio.h>
#include <string.h>

struct shm { /* the wal-index of one database, shared by its connections */
    struct shm *next;
    char *path;
    unsigned refs;
    void *region[64];
    int n;
};

struct hf_sim_vfs {
    sqlite3_vfs base;
    struct hf_fs *fs;
    char *name;
    struct shm *shms;
    struct vfs_file *files; /* all that are open: who holds which lock is found there */
};

struct vfs_file {
    sqlite3_file base;
    struct hf_sim_vfs *vfs;
    struct vfs_file *next;
    struct hf_file *file;
    struct shm *shm;
    char *path;
    int level;                          /* SQLITE_LOCK_... on the file */
    unsigned shm_shared, shm_exclusive; /* bit i: lock i of the shared memory */
    bool delete_on_close;
};

static int code_of(int rc, int io_code)
{
    return rc == 0 ? SQLITE_OK : rc == HF_E_NOSPC ? SQLITE_FULL : rc == HF_E_NOENT ? SQLITE_CANTOPEN : io_code;
}

static int file_close(sqlite3_file *base)
{
    struct vfs_file *f = (struct vfs_file *)base;

    struct vfs_file **at = &f->vfs->files;

    while (*at != f)
        at = &(*at)->next;
    *at = f->next;
    f->vfs->fs->close(f->vfs->fs, f->file);
    if (f->delete_on_close && f->vfs->fs->unlink(f->vfs->fs, f->path) < 0)
        f->delete_on_close = false;
    hf_free(f->path);
    f->file = NULL;
    f->path = NULL;
    return SQLITE_OK;
}

static int file_read(sqlite3_file *base, void *buf, int n, sqlite3_int64 offset)
{
    struct vfs_file *f = (struct vfs_file *)base;
    size_t got = 0;
    int rc = f->vfs->fs->read(f->vfs->fs, f->file, (uint64_t)offset, buf, (size_t)n, &got);

    if (rc < 0)
        return SQLITE_IOERR_READ;
    if (got < (size_t)n) {
        memset((char *)buf + got, 0, (size_t)n - got);
        return SQLITE_IOERR_SHORT_READ;
    }
    return SQLITE_OK;
}

static int file_write(sqlite3_file *base, const void *buf, int n, sqlite3_int64 offset)
{
    struct vfs_file *f = (struct vfs_file *)base;

    return code_of(f->vfs->fs->write(f->vfs->fs, f->file, (uint64_t)offset, buf, (size_t)n), SQLITE_IOERR_WRITE);
}

static int file_truncate(sqlite3_file *base, sqlite3_int64 size)
{
    struct vfs_file *f = (struct vfs_file *)base;

    return code_of(f->vfs->fs->truncate(f->vfs->fs, f->file, (uint64_t)size), SQLITE_IOERR_TRUNCATE);
}

static int file_sync(sqlite3_file *base, int flags)
{
    struct vfs_file *f = (struct vfs_file *)base;

    (void)flags;
    return code_of(f->vfs->fs->sync(f->vfs->fs, f->file), SQLITE_IOERR_FSYNC);
}

static int file_size(sqlite3_file *base, sqlite3_int64 *size)
{
    struct vfs_file *f = (struct vfs_file *)base;
    uint64_t n = 0;
    int rc = f->vfs->fs->size(f->vfs->fs, f->file, &n);

    *size = (sqlite3_int64)n;
    return code_of(rc, SQLITE_IOERR_FSTAT);
}

/* The highest level at which another connection holds the file. */
static int others_level(const struct vfs_file *f)
{
    int level = SQLITE_LOCK_NONE;

    for (const struct vfs_file *o = f->vfs->files; o; o = o->next)
        if (o != f && strcmp(o->path, f->path) == 0 && o->level > level)
            level = o->level;
    return level;
}

static int file_lock(sqlite3_file *base, int level)
{
    struct vfs_file *f = (struct vfs_file *)base;
    int others = others_level(f);

    if (f->level >= level)
        return SQLITE_OK;
    if (others >= (level == SQLITE_LOCK_SHARED ? SQLITE_LOCK_PENDING : SQLITE_LOCK_RESERVED))
        return SQLITE_BUSY;
    if (level == SQLITE_LOCK_EXCLUSIVE && others == SQLITE_LOCK_SHARED) {
        f->level = SQLITE_LOCK_PENDING; /* keeps new readers out until the present ones are gone */
        return SQLITE_BUSY;
    }
    f->level = level;
    return SQLITE_OK;
}

static int file_unlock(sqlite3_file *base, int level)
{
    struct vfs_file *f = (struct vfs_file *)base;

    if (f->level > level)
        f->level = level;
    return SQLITE_OK;
}

static int file_check_lock(sqlite3_file *base, int *out)
{
    struct vfs_file *f = (struct vfs_file *)base;

    *out = f->level >= SQLITE_LOCK_RESERVED || others_level(f) >= SQLITE_LOCK_RESERVED;
    return SQLITE_OK;
}

static int file_control(sqlite3_file *base, int op, void *arg)
{
    (void)base;
    (void)op;
    (void)arg;
    return SQLITE_NOTFOUND;
}

static int file_sector(sqlite3_file *base)
{
    (void)base;
    return 512;
}

static int file_characteristics(sqlite3_file *base)
{
    (void)base;
    return 0;
}

static int shm_map(sqlite3_file *base, int region, int size, int extend, void volatile **out)
{
    struct vfs_file *f = (struct vfs_file *)base;

    *out = NULL;
    if (!f->shm) {
        struct shm *s = f->vfs->shms;

        while (s && strcmp(s->path, f->path) != 0)
            s = s->next;
        if (!s) {
            s = hf_calloc(1, sizeof *s);
            s->path = hf_strdup(f->path);
            s->next = f->vfs->shms;
            f->vfs->shms = s;
        }
        s->refs++;
        f->shm = s;
    }
    if (region >= (int)(sizeof f->shm->region / sizeof f->shm->region[0]))
        return SQLITE_IOERR_SHMMAP;
    if (!f->shm->region[region]) {
        if (!extend)
            return SQLITE_OK;
        f->shm->region[region] = hf_calloc(1, (size_t)size);
        if (region >= f->shm->n)
            f->shm->n = region + 1;
    }
    *out = f->shm->region[region];
    return SQLITE_OK;
}

static int shm_lock(sqlite3_file *base, int offset, int n, int flags)
{
    struct vfs_file *f = (struct vfs_file *)base;
    unsigned mask = ((1u << n) - 1) << offset;

    if (flags & SQLITE_SHM_UNLOCK) {
        f->shm_shared &= ~mask;
        f->shm_exclusive &= ~mask;
        return SQLITE_OK;
    }
    for (const struct vfs_file *o = f->vfs->files; o; o = o->next)
        if (o != f && o->shm && o->shm == f->shm &&
            ((o->shm_exclusive & mask) || ((flags & SQLITE_SHM_EXCLUSIVE) && (o->shm_shared & mask))))
            return SQLITE_BUSY;
    if (flags & SQLITE_SHM_EXCLUSIVE)
        f->shm_exclusive |= mask;
    else
        f->shm_shared |= mask;
    return SQLITE_OK;
}

static void shm_barrier(sqlite3_file *base)
{
    (void)base;
}

static int shm_unmap(sqlite3_file *base, int delete)
{
    struct vfs_file *f = (struct vfs_file *)base;
    struct shm **at = &f->vfs->shms, *s = f->shm;

    (void)delete;
    f->shm = NULL;
    f->shm_shared = f->shm_exclusive = 0;
    if (!s || --s->refs > 0)
        return SQLITE_OK;
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    for (int i = 0; i < s->n; i++)
        hf_free(s->region[i]);
    hf_free(s->path);
    hf_free(s);
    return SQLITE_OK;
}

static const sqlite3_io_methods methods = {.iVersion = 2,
                                           .xClose = file_close,
                                           .xRead = file_read,
                                           .xWrite = file_write,
                                           .xTruncate = file_truncate,
                                           .xSync = file_sync,
                                           .xFileSize = file_size,
                                           .xLock = file_lock,
                                           .xUnlock = file_unlock,
                                           .xCheckReservedLock = file_check_lock,
                                           .xFileControl = file_control,
                                           .xSectorSize = file_sector,
                                           .xDeviceCharacteristics = file_characteristics,
                                           .xShmMap = shm_map,
                                           .xShmLock = shm_lock,
                                           .xShmBarrier = shm_barrier,
                                           .xShmUnmap = shm_unmap};

static struct hf_sim_vfs *vfs_of(sqlite3_vfs *base)
{
    return base->pAppData;
}

static int vfs_open(sqlite3_vfs *base, const char *path, sqlite3_file *out, int flags, int *out_flags)
{
    struct vfs_file *f = (struct vfs_file *)out;
    struct hf_sim_vfs *v = vfs_of(base);
    int fs_flags = HF_FS_READ, rc;
    char temporary[64];

    memset(f, 0, sizeof *f);
    if (!path) {
        static unsigned counter;

        snprintf(temporary, sizeof temporary, "/sqlite-temp-%u", counter++);
        path = temporary;
        f->delete_on_close = true;
    }
    if (flags & SQLITE_OPEN_READWRITE)
        fs_flags |= HF_FS_WRITE;
    if (flags & SQLITE_OPEN_CREATE)
        fs_flags |= HF_FS_CREATE | HF_FS_WRITE;
    if (flags & SQLITE_OPEN_EXCLUSIVE)
        fs_flags |= HF_FS_EXCL;
    if (flags & SQLITE_OPEN_DELETEONCLOSE)
        f->delete_on_close = true;
    rc = v->fs->open(v->fs, path, fs_flags, &f->file);
    if (rc < 0)
        return code_of(rc, SQLITE_CANTOPEN);
    f->vfs = v;
    f->path = hf_strdup(path);
    f->base.pMethods = &methods;
    f->next = v->files;
    v->files = f;
    if (out_flags)
        *out_flags = flags;
    return SQLITE_OK;
}

static int vfs_delete(sqlite3_vfs *base, const char *path, int sync_dir)
{
    struct hf_sim_vfs *v = vfs_of(base);
    char dir[512];
    int rc = v->fs->unlink(v->fs, path);

    if (rc == HF_E_NOENT)
        return SQLITE_IOERR_DELETE_NOENT;
    if (rc == 0 && sync_dir) {
        char *slash;

        snprintf(dir, sizeof dir, "%s", path);
        slash = strrchr(dir, '/');
        if (slash) {
            *slash = 0;
            rc = v->fs->sync_dir(v->fs, dir);
        }
    }
    return code_of(rc, SQLITE_IOERR_DELETE);
}

static int vfs_access(sqlite3_vfs *base, const char *path, int flags, int *out)
{
    struct hf_sim_vfs *v = vfs_of(base);
    struct hf_file *f;
    uint64_t size = 0;
    int rc = v->fs->open(v->fs, path, HF_FS_READ, &f);

    *out = rc == 0;
    if (rc == 0) {
        if (flags == SQLITE_ACCESS_EXISTS && v->fs->size(v->fs, f, &size) == 0)
            *out = size > 0; /* SQLite's own rule: an empty file counts as absent */
        v->fs->close(v->fs, f);
    }
    return SQLITE_OK;
}

static int vfs_full_path(sqlite3_vfs *base, const char *path, int n, char *out)
{
    (void)base;
    snprintf(out, (size_t)n, "%s", path);
    return SQLITE_OK;
}

static int vfs_randomness(sqlite3_vfs *base, int n, char *out)
{
    /* Salts of the WAL: any bytes will do, the same ones make runs repeat. */
    (void)base;
    for (int i = 0; i < n; i++)
        out[i] = (char)(i * 37 + 11);
    return n;
}

static int vfs_sleep(sqlite3_vfs *base, int us)
{
    (void)base;
    return us;
}

static int vfs_time(sqlite3_vfs *base, double *out)
{
    (void)base;
    *out = 2440587.5; /* 1970-01-01: nothing replicated may depend on it */
    return SQLITE_OK;
}

struct hf_sim_vfs *hf_sim_vfs_new(const char *name, struct hf_fs *fs)
{
    struct hf_sim_vfs *v = hf_calloc(1, sizeof *v);

    v->fs = fs;
    v->name = hf_strdup(name);
    v->base.iVersion = 1;
    v->base.szOsFile = sizeof(struct vfs_file);
    v->base.mxPathname = 512;
    v->base.zName = v->name;
    v->base.pAppData = v;
    v->base.xOpen = vfs_open;
    v->base.xDelete = vfs_delete;
    v->base.xAccess = vfs_access;
    v->base.xFullPathname = vfs_full_path;
    v->base.xRandomness = vfs_randomness;
    v->base.xSleep = vfs_sleep;
    v->base.xCurrentTime = vfs_time;
    sqlite3_vfs_register(&v->base, 0);
    return v;
}

void hf_sim_vfs_free(struct hf_sim_vfs *v)
{
    sqlite3_vfs_unregister(&v->base);
    hf_free(v->name);
    hf_free(v);
}

const char *hf_sim_vfs_name(const struct hf_sim_vfs *v)
{
    return v->name;
}
