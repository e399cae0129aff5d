/* disk_shim.c: a bad disk for one process, on command. Loaded by LD_PRELOAD; the calls below it are the C library's, so
 * everything between the server and the kernel is real. Only the cluster suite uses it (test_disk.py).
 *
 * HF_SHIM_CONTROL names a file of rules, read again whenever it changes; the first one that fits decides:
 *
 *   CALL PATTERN ACTION [once]
 *
 *   CALL     write (write, pwrite, writev ...), sync (fsync, fdatasync), grow (fallocate, ftruncate), free (statvfs)
 *   PATTERN  of the file's path, as fnmatch(3) has it: a star also stands for slashes
 *   ACTION   EIO, ENOSPC: the call fails with it; half: a write stores the first half of its bytes and then fails with
 *            ENOSPC; hang: it does not return while a rule says so; a number: free bytes that statvfs reports
 *   once     the rule holds for one call only
 *
 * HF_SHIM_LOG names a file that gets a line for each call that a rule met, and for each later sync of a file of which a
 * sync failed: "CALL PATH ACTION". */
/* Both names of each call are wanted, not one for the other. */
#undef _FILE_OFFSET_BITS
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define RULES_MAX  16
#define PATH_BYTES 512

enum call { CALL_WRITE, CALL_SYNC, CALL_GROW, CALL_FREE, CALL_N };
enum action { ACTION_NONE, ACTION_FAIL, ACTION_HALF, ACTION_HANG, ACTION_NUMBER };

static const char *const call_names[CALL_N] = {"write", "sync", "grow", "free"};

struct rule {
    enum call call;
    char pattern[PATH_BYTES];
    enum action action;
    int error;
    uint64_t number;
    bool once, is_spent;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct rule rules[RULES_MAX];
static int n_rules;
static struct timespec control_time;
static off_t control_size = -1;
static char failed_syncs[RULES_MAX][PATH_BYTES];
static int n_failed_syncs;

/* ---- rules: under the lock ------------------------------------------------------------------------------ */

static void parse_line(const char *line)
{
    char call[16], action[32], once[16] = "";
    struct rule *r = &rules[n_rules];

    memset(r, 0, sizeof *r);
    if (n_rules == RULES_MAX || sscanf(line, "%15s %511s %31s %15s", call, r->pattern, action, once) < 3)
        return;
    for (int i = 0; i < CALL_N; i++)
        if (strcmp(call, call_names[i]) == 0)
            r->call = (enum call)i;
    r->once = strcmp(once, "once") == 0;
    r->action = ACTION_FAIL;
    if (strcmp(action, "EIO") == 0)
        r->error = EIO;
    else if (strcmp(action, "ENOSPC") == 0)
        r->error = ENOSPC;
    else if (strcmp(action, "half") == 0)
        r->action = ACTION_HALF;
    else if (strcmp(action, "hang") == 0)
        r->action = ACTION_HANG;
    else {
        r->action = ACTION_NUMBER;
        r->number = strtoull(action, NULL, 10);
    }
    n_rules++;
}

static void load_rules(void)
{
    const char *path = getenv("HF_SHIM_CONTROL");
    static char text[8192];
    struct stat st;
    ssize_t n;
    int fd;

    if (!path || stat(path, &st) != 0) {
        n_rules = 0;
        control_size = -1;
        return;
    }
    if (st.st_size == control_size && st.st_mtim.tv_sec == control_time.tv_sec &&
        st.st_mtim.tv_nsec == control_time.tv_nsec)
        return;
    fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return;
    n = read(fd, text, sizeof text - 1);
    syscall(SYS_close, fd);
    if (n < 0)
        return;
    text[n] = 0;
    control_size = st.st_size;
    control_time = st.st_mtim;
    n_rules = 0;
    for (char *line = text, *end; line && *line; line = end ? end + 1 : NULL) {
        end = strchr(line, '\n');
        if (end)
            *end = 0;
        parse_line(line);
    }
}

static void note(const char *call, const char *path, const char *what)
{
    const char *log = getenv("HF_SHIM_LOG");
    char line[PATH_BYTES + 64];
    int fd, n;

    if (!log)
        return;
    fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0)
        return;
    n = snprintf(line, sizeof line, "%s %s %s\n", call, path, what);
    (void)!syscall(SYS_write, fd, line, (size_t)n);
    syscall(SYS_close, fd);
}

/* ---- judging a call -------------------------------------------------------------------------------------- */

static struct rule find(enum call call, const char *path)
{
    struct rule found = {.action = ACTION_NONE};
    int i;

    pthread_mutex_lock(&lock);
    load_rules();
    for (i = 0; i < n_rules; i++)
        if (rules[i].call == call && !rules[i].is_spent && fnmatch(rules[i].pattern, path, 0) == 0)
            break;
    if (i < n_rules) {
        found = rules[i];
        rules[i].is_spent = rules[i].once;
    }
    if (call == CALL_SYNC) {
        for (i = 0; i < n_failed_syncs; i++)
            if (strcmp(failed_syncs[i], path) == 0)
                note("sync-again", path, "after-a-failure");
        if (found.action == ACTION_FAIL && n_failed_syncs < RULES_MAX)
            memcpy(failed_syncs[n_failed_syncs++], path, strlen(path) + 1);
    }
    if (found.action != ACTION_NONE && found.action != ACTION_NUMBER)
        note(call_names[call], path,
             found.action == ACTION_FAIL   ? strerrorname_np(found.error)
             : found.action == ACTION_HALF ? "half"
                                           : "hang");
    pthread_mutex_unlock(&lock);
    return found;
}

static bool path_of(int fd, char *path)
{
    char link[32];
    ssize_t n;

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    n = readlink(link, path, PATH_BYTES - 1);
    if (n <= 0 || path[0] != '/')
        return false;
    path[n] = 0;
    return true;
}

/* What is to become of this call on the file; waits here while it hangs. */
static struct rule judge(enum call call, int fd)
{
    const struct timespec nap = {.tv_nsec = 10 * 1000 * 1000};
    struct rule r = {.action = ACTION_NONE};
    char path[PATH_BYTES];
    int before = errno;

    if (path_of(fd, path))
        while ((r = find(call, path)).action == ACTION_HANG)
            nanosleep(&nap, NULL);
    errno = r.action == ACTION_FAIL ? r.error : before;
    return r;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* ---- the calls -------------------------------------------------------------------------------------------- */

ssize_t write(int fd, const void *buf, size_t n)
{
    struct rule r = judge(CALL_WRITE, fd);

    if (r.action == ACTION_FAIL)
        return -1;
    return REAL(write)(fd, buf, r.action == ACTION_HALF && n > 1 ? n / 2 : n);
}

/* The first half arrives, the caller goes on with the rest, and of that again the first half ... until one byte is
 * left: that one does not fit any more. */
static ssize_t put(int fd, const void *buf, size_t n, off64_t offset)
{
    struct rule r = judge(CALL_WRITE, fd);

    if (r.action == ACTION_FAIL)
        return -1;
    if (r.action == ACTION_HALF && n == 1) {
        errno = ENOSPC;
        return -1;
    }
    return REAL(pwrite64)(fd, buf, r.action == ACTION_HALF ? n / 2 : n, offset);
}

ssize_t pwrite64(int fd, const void *buf, size_t n, off64_t offset)
{
    return put(fd, buf, n, offset);
}

ssize_t pwrite(int fd, const void *buf, size_t n, off_t offset)
{
    return put(fd, buf, n, offset);
}

ssize_t writev(int fd, const struct iovec *parts, int n)
{
    return judge(CALL_WRITE, fd).action == ACTION_FAIL ? -1 : REAL(writev)(fd, parts, n);
}

int fsync(int fd)
{
    return judge(CALL_SYNC, fd).action == ACTION_FAIL ? -1 : REAL(fsync)(fd);
}

int fdatasync(int fd)
{
    return judge(CALL_SYNC, fd).action == ACTION_FAIL ? -1 : REAL(fdatasync)(fd);
}

int fallocate(int fd, int mode, off_t offset, off_t n)
{
    return judge(CALL_GROW, fd).action == ACTION_FAIL ? -1 : REAL(fallocate)(fd, mode, offset, n);
}

int fallocate64(int fd, int mode, off64_t offset, off64_t n)
{
    return judge(CALL_GROW, fd).action == ACTION_FAIL ? -1 : REAL(fallocate64)(fd, mode, offset, n);
}

int ftruncate(int fd, off_t size)
{
    return judge(CALL_GROW, fd).action == ACTION_FAIL ? -1 : REAL(ftruncate)(fd, size);
}

int ftruncate64(int fd, off64_t size)
{
    return judge(CALL_GROW, fd).action == ACTION_FAIL ? -1 : REAL(ftruncate64)(fd, size);
}

int statvfs64(const char *path, struct statvfs64 *st)
{
    int rc = REAL(statvfs64)(path, st);
    struct rule r = find(CALL_FREE, path);

    if (rc == 0 && r.action == ACTION_NUMBER)
        st->f_bavail = r.number / st->f_frsize;
    return rc;
}

int statvfs(const char *path, struct statvfs *st)
{
    int rc = REAL(statvfs)(path, st);
    struct rule r = find(CALL_FREE, path);

    if (rc == 0 && r.action == ACTION_NUMBER)
        st->f_bavail = r.number / st->f_frsize;
    return rc;
}
