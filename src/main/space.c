/* space.c: when disk space is too low for writes. The file system is asked every HF_SPACE_CHECK_MS on a thread of its
 * own (a hung disk must not hold the loop); what it says is told to the other members through consensus, and what they
 * said decides here whether the dispatcher refuses writes that grow the state. */
#include "main/space.h"

#include "base/log.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>

/* How often free disk space is looked at. */
#define HF_SPACE_CHECK_MS 100u

struct hf_space {
    struct hf_env *env;
    struct hf_space_config config;
    char *dir;
    struct hf_consensus *consensus;
    struct hf_dispatcher *dispatcher;
    struct hf_timer timer;
    struct hf_executor *executor;
    struct hf_job job;
    uint64_t free_bytes, measured_bytes;
    int measured_rc;
    uint64_t low_on; /* member for whose sake writes are refused, 0 = none */
    bool is_running, is_low, is_closing;
    struct hf_gauge *free_gauge;
};

static void measure(struct hf_job *job)
{
    struct hf_space *space = job->data;

    space->measured_rc = space->env->fs->free_bytes(space->env->fs, space->dir, &space->measured_bytes);
}

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
                 space->config.free_bytes_min);
    snprintf(text, sizeof text,
             "NOSPACE the disk of node %" PRIu64
             " is nearly full, so the command was not executed: free disk space on it "
             "or delete keys (min-free-disk is the threshold)",
             low_on);
    hf_dispatcher_refuse_writes(space->dispatcher, text);
}

static void judge(struct hf_job *job)
{
    struct hf_space *space = job->data;

    space->is_running = false;
    if (space->is_closing || space->measured_rc < 0)
        return;
    space->free_bytes = space->measured_bytes;
    hf_gauge_set(space->free_gauge, (int64_t)space->free_bytes);
    /* A tenth above the threshold before service returns, so that it does not flap. */
    space->is_low = space->is_low ? space->free_bytes < space->config.free_bytes_min + space->config.free_bytes_min / 10
                                  : space->free_bytes < space->config.free_bytes_min;
    hf_consensus_set_space_low(space->consensus, space->is_low);
    judge_cluster(space);
}

static void on_timer(struct hf_timer *timer)
{
    struct hf_space *space = timer->data;

    if (!space->is_running) {
        space->is_running = true;
        space->env->executor_submit(space->env, space->executor, &space->job);
    }
    space->env->timer_start(space->env, timer, HF_SPACE_CHECK_MS);
}

int hf_space_open(struct hf_env *env, const struct hf_space_config *config, struct hf_consensus *consensus,
                  struct hf_dispatcher *dispatcher, struct hf_stats *stats, struct hf_space **out)
{
    struct hf_space *space = hf_calloc(1, sizeof *space);
    int rc;

    space->env = env;
    space->config = *config;
    space->dir = hf_strdup(config->dir);
    space->config.dir = space->dir;
    space->consensus = consensus;
    space->dispatcher = dispatcher;
    space->free_gauge = hf_stats_gauge(stats, "disk_free_bytes", NULL, "Free bytes on the data directory's disk");
    rc = env->executor_open(env, "hf-space", &space->executor);
    if (rc < 0) {
        hf_space_close(space);
        return rc;
    }
    space->job = (struct hf_job){.data = space, .run = measure, .done = judge};
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
    hf_free(space->dir);
    hf_free(space);
}

const char *hf_space_problem(const struct hf_space *space)
{
    return space && space->is_low ? "disk space is low: writes are refused" : "";
}

uint64_t hf_space_free_bytes(const struct hf_space *space)
{
    return space ? space->free_bytes : 0;
}

bool hf_space_is_low(const struct hf_space *space)
{
    return space && space->is_low;
}
