/* space.c: what is done as the disk fills up; the levels and the reserve are described in space.h. The file system is
 * asked every HF_SPACE_CHECK_MS; what it says is told to the other members through consensus, and what they said
 * decides here whether the dispatcher refuses writes that grow the state.
 *
 * The marks come from one setting, min-free-disk (M): warning below 2 M, low below M, critical below the size of the
 * reserve. Between low and critical only deletes, log entries that were under way and the commit of the database use
 * space, so a look each 100 ms sees the critical mark in time, unless another program fills the disk meanwhile. Then
 * SQLite fails, the store is poisoned and the node stops (R15), with the reserve given up for its next start. */
#include "main/space.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>

/* How often free disk space is looked at. */
#define HF_SPACE_CHECK_MS 100u
#define MIB               (UINT64_C(1) << 20)

/* One look at the disk; on the executor's thread while it runs. */
struct look {
    struct hf_job job;
    uint64_t free_bytes_min;
    uint64_t free_bytes;
    uint64_t ballast_bytes; /* of the file, 0 = there is none */
    bool is_released, is_made;
    int rc;
    int ballast_rc;
};

struct hf_space {
    struct hf_env *env;
    char *dir, *ballast_path;
    struct hf_consensus *consensus;
    struct hf_dispatcher *dispatcher;
    uint64_t free_bytes_min;
    struct hf_timer timer;
    struct hf_executor *executor;
    struct look look;
    bool is_looking, is_closing, has_complained;
    enum hf_space_level level;
    uint64_t free_bytes;
    uint64_t low_on; /* member for whose sake writes are refused, 0 = none */
    char problem[HF_SPACE_PROBLEM_BYTES];
    struct hf_gauge *free_gauge, *level_gauge, *reserve_gauge;
};

static uint64_t ballast_size(uint64_t free_bytes_min)
{
    return free_bytes_min / 4 < HF_SPACE_BALLAST_BYTES_MAX ? free_bytes_min / 4 : HF_SPACE_BALLAST_BYTES_MAX;
}

/* ---- the reserve: blocking ----------------------------------------------------------------------------- */

/* Blocks of a deleted file are free for others only when the deletion is durable. */
static int release_ballast(struct hf_fs *fs, const char *dir, const char *path)
{
    int rc = fs->unlink(fs, path);

    return rc == 0 ? fs->sync_dir(fs, dir) : rc;
}

/* 0 also when it is not there. */
static uint64_t size_of(struct hf_fs *fs, const char *path)
{
    struct hf_file *f;
    uint64_t size = 0;

    if (fs->open(fs, path, HF_FS_READ, &f) != 0)
        return 0;
    if (fs->size(fs, f, &size) != 0)
        size = 0;
    fs->close(fs, f);
    return size;
}

static int make_ballast(struct hf_fs *fs, const char *dir, const char *path, uint64_t bytes)
{
    struct hf_file *f;
    int rc = fs->open(fs, path, HF_FS_WRITE | HF_FS_CREATE, &f);

    if (rc != 0)
        return rc;
    rc = fs->allocate(fs, f, bytes);
    if (rc == 0)
        rc = fs->sync(fs, f);
    fs->close(fs, f);
    if (rc == 0)
        rc = fs->sync_dir(fs, dir);
    else if (release_ballast(fs, dir, path) != 0) /* a part of it is worth nothing and takes space */
        rc = HF_E_IO;
    return rc;
}

static void run_look(struct hf_job *job)
{
    struct hf_space *space = job->data;
    struct look *l = &space->look;
    struct hf_fs *fs = space->env->fs;
    uint64_t wanted = ballast_size(l->free_bytes_min);

    l->is_released = l->is_made = false;
    l->ballast_rc = 0;
    l->ballast_bytes = size_of(fs, space->ballast_path);
    l->rc = fs->free_bytes(fs, space->dir, &l->free_bytes);
    if (l->rc != 0)
        return;
    if (l->ballast_bytes > 0 && l->free_bytes < wanted) {
        l->ballast_rc = release_ballast(fs, space->dir, space->ballast_path);
        l->is_released = l->ballast_rc == 0;
    } else if (l->ballast_bytes < wanted && l->free_bytes >= l->free_bytes_min + l->free_bytes_min / 10 + wanted) {
        l->ballast_rc = make_ballast(fs, space->dir, space->ballast_path, wanted);
        l->is_made = l->ballast_rc == 0;
    }
    if (l->is_released || l->is_made) {
        l->ballast_bytes = l->is_made ? wanted : 0;
        l->rc = fs->free_bytes(fs, space->dir, &l->free_bytes);
    }
}

void hf_space_make_room(struct hf_env *env, const struct hf_space_config *config)
{
    struct hf_fs *fs = env->fs;
    uint64_t free_bytes = 0;
    char *path;

    if (config->free_bytes_min == 0)
        return;
    path = hf_asprintf("%s/ballast", config->dir);
    if (fs->free_bytes(fs, config->dir, &free_bytes) == 0 && free_bytes < ballast_size(config->free_bytes_min) &&
        release_ballast(fs, config->dir, path) == 0)
        HF_LOG_WARN("node", "the disk is nearly full: the reserve was given up to start", "free=%" PRIu64 " reserve=%s",
                    free_bytes, path);
    hf_free(path);
}

void hf_space_give_up(struct hf_space *space)
{
    if (space && space->free_bytes_min > 0 && release_ballast(space->env->fs, space->dir, space->ballast_path) == 0)
        HF_LOG_WARN("node", "the reserve was given up for the next start", "reserve=%s", space->ballast_path);
}

/* ---- judging ------------------------------------------------------------------------------------------- */

/* R15: writes that grow the state are refused while the disk of any member is low, so that none of them stops. */
static void judge_cluster(struct hf_space *space)
{
    uint64_t low_on = hf_consensus_space_low_on(space->consensus);
    char text[256];

    if (low_on == space->low_on)
        return;
    space->low_on = low_on;
    if (low_on == 0) {
        HF_LOG_INFO("node", "disk space is back on all members", "free=%" PRIu64, space->free_bytes);
        hf_dispatcher_refuse_writes(space->dispatcher, NULL);
        return;
    }
    HF_LOG_ERROR("node", "disk space is low, refusing writes that grow the state",
                 "member=%" PRIu64 " free_here=%" PRIu64 " threshold=%" PRIu64, low_on, space->free_bytes,
                 space->free_bytes_min);
    snprintf(text, sizeof text,
             "NOSPACE the disk of node %" PRIu64
             " is nearly full, so the command was not executed: free disk space on it "
             "or delete keys (min-free-disk is the threshold)",
             low_on);
    hf_dispatcher_refuse_writes(space->dispatcher, text);
}

static uint64_t mark_of(const struct hf_space *space, enum hf_space_level level)
{
    switch (level) {
    case HF_SPACE_ENOUGH:
        return UINT64_MAX;
    case HF_SPACE_WARNING:
        return 2 * space->free_bytes_min;
    case HF_SPACE_LOW:
        return space->free_bytes_min;
    case HF_SPACE_CRITICAL:
        return ballast_size(space->free_bytes_min);
    }
    HF_ASSERT(false);
    return 0;
}

static enum hf_space_level level_for(const struct hf_space *space, uint64_t free_bytes)
{
    enum hf_space_level level;

    for (level = HF_SPACE_CRITICAL; level > HF_SPACE_ENOUGH; level--) {
        uint64_t mark = mark_of(space, level);

        /* A tenth above the mark before a level is left, so that it does not flap. */
        if (free_bytes < (space->level >= level ? mark + mark / 10 : mark))
            break;
    }
    return level;
}

static void describe(struct hf_space *space)
{
    switch (space->level) {
    case HF_SPACE_ENOUGH:
        space->problem[0] = 0;
        return;
    case HF_SPACE_WARNING:
        snprintf(space->problem, sizeof space->problem,
                 "disk space is getting low: %" PRIu64 " MiB are free, below %" PRIu64 " MiB writes are refused",
                 space->free_bytes / MIB, space->free_bytes_min / MIB);
        return;
    case HF_SPACE_LOW:
    case HF_SPACE_CRITICAL:
        snprintf(space->problem, sizeof space->problem,
                 "disk space is low: %" PRIu64 " MiB are free, less than min-free-disk (%" PRIu64
                 " MiB): writes that grow the state are refused",
                 space->free_bytes / MIB, space->free_bytes_min / MIB);
        return;
    }
}

static void judge_level(struct hf_space *space)
{
    enum hf_space_level level = level_for(space, space->free_bytes);

    if (level > space->level && level == HF_SPACE_WARNING)
        HF_LOG_WARN("node", "disk space is getting low", "free=%" PRIu64 " refusing_below=%" PRIu64 " dir=%s",
                    space->free_bytes, space->free_bytes_min, space->dir);
    if (level == HF_SPACE_ENOUGH && space->level != HF_SPACE_ENOUGH)
        HF_LOG_INFO("node", "there is enough disk space again", "free=%" PRIu64 " dir=%s", space->free_bytes,
                    space->dir);
    space->level = level;
    describe(space);
    hf_gauge_set(space->level_gauge, level);
}

static void tell_ballast(struct hf_space *space)
{
    struct look *l = &space->look;

    hf_gauge_set(space->reserve_gauge, (int64_t)l->ballast_bytes);
    if (l->is_released)
        HF_LOG_WARN("node", "disk space is critical, the reserve was given up", "free=%" PRIu64 " reserve=%s",
                    l->free_bytes, space->ballast_path);
    if (l->is_made)
        HF_LOG_INFO("node", "disk space reserve", "bytes=%" PRIu64 " reserve=%s", l->ballast_bytes,
                    space->ballast_path);
    if (l->ballast_rc != 0 && !space->has_complained)
        HF_LOG_WARN("node", "cannot change the disk space reserve", "reserve=%s error=\"%s\"", space->ballast_path,
                    hf_strerror(l->ballast_rc));
    space->has_complained = l->ballast_rc != 0;
}

static void judge(struct hf_job *job)
{
    struct hf_space *space = job->data;

    space->is_looking = false;
    if (space->is_closing)
        return;
    tell_ballast(space);
    if (space->look.rc == 0) {
        space->free_bytes = space->look.free_bytes;
        hf_gauge_set(space->free_gauge, (int64_t)space->free_bytes);
        judge_level(space);
        hf_consensus_set_space_low(space->consensus, hf_space_is_low(space));
    }
    judge_cluster(space);
}

static void on_timer(struct hf_timer *timer)
{
    struct hf_space *space = timer->data;

    if (!space->is_looking) {
        space->is_looking = true;
        space->look.free_bytes_min = space->free_bytes_min;
        space->env->executor_submit(space->env, space->executor, &space->look.job);
    }
    space->env->timer_start(space->env, timer, HF_SPACE_CHECK_MS);
}

/* ---- life ---------------------------------------------------------------------------------------------- */

int hf_space_open(struct hf_env *env, const struct hf_space_config *config, struct hf_consensus *consensus,
                  struct hf_dispatcher *dispatcher, struct hf_stats *stats, struct hf_space **out)
{
    struct hf_space *space = hf_calloc(1, sizeof *space);
    int rc;

    space->env = env;
    space->free_bytes_min = config->free_bytes_min;
    space->dir = hf_strdup(config->dir);
    space->ballast_path = hf_asprintf("%s/ballast", config->dir);
    space->consensus = consensus;
    space->dispatcher = dispatcher;
    space->free_gauge = hf_stats_gauge(stats, "disk_free_bytes", NULL, "Free bytes on the data directory's disk");
    space->level_gauge =
        hf_stats_gauge(stats, "disk_space_level", NULL,
                       "0 enough, 1 warning, 2 low (writes are refused), 3 critical (reserve given up)");
    space->reserve_gauge =
        hf_stats_gauge(stats, "disk_reserve_bytes", NULL, "Bytes of the reserve for the database, 0 once given up");
    rc = env->executor_open(env, "hf-space", &space->executor);
    if (rc < 0) {
        hf_space_close(space);
        return rc;
    }
    space->look.job = (struct hf_job){.data = space, .run = run_look, .done = judge};
    space->timer.data = space;
    space->timer.cb = on_timer;
    if (config->free_bytes_min > 0)
        env->timer_start(env, &space->timer, 0);
    *out = space;
    return 0;
}

void hf_space_close(struct hf_space *space)
{
    if (!space)
        return;
    space->is_closing = true;
    space->env->timer_stop(space->env, &space->timer);
    if (space->executor)
        space->env->executor_close(space->env, space->executor);
    hf_free(space->ballast_path);
    hf_free(space->dir);
    hf_free(space);
}

void hf_space_set_min(struct hf_space *space, uint64_t free_bytes_min)
{
    space->free_bytes_min = free_bytes_min;
    if (!hf_timer_is_active(&space->timer))
        space->env->timer_start(space->env, &space->timer, 0);
}

const char *hf_space_problem(const struct hf_space *space)
{
    return space ? space->problem : "";
}

uint64_t hf_space_free_bytes(const struct hf_space *space)
{
    return space ? space->free_bytes : 0;
}

bool hf_space_is_low(const struct hf_space *space)
{
    return space && space->level >= HF_SPACE_LOW;
}
