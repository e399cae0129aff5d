/* restore.c: `holdfast restore`: a backup becomes the data directory of a new cluster of one node.
 *
 * The database is unpacked to DIR/restore.db, checked, given the new cluster's configuration, and moved into place by
 * hf_offline_create, which writes the identity last. A crash before leaves a directory that the same command takes up
 * again (it begins anew): one with nothing but restore.db, or one that says itself that it is unfinished. */
#include "tools/backup_file.h"
#include "tools/offline.h"

#include "base/crashpoint.h"
#include "base/mem.h"
#include "store/store.h"
#include "uv/uv_env.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define STATE_NAME "restore.db"
#define ID_MAX     1000000u

static void print_help(void)
{
    printf(
        "usage: holdfast restore FILE --dir DIR [options]\n\n"
        "Makes DIR, which must be missing or empty, the data directory of a new cluster of one node with the state\n"
        "of the backup FILE, and prints how to start it and how others join. FILE is checked as `backup verify`\n"
        "does. The new cluster has an id of its own: nodes of the old one and of the new one refuse each other.\n\n"
        "      --dir DIR               the new data directory\n"
        "      --id N                  of the node (1)\n"
        "      --peer-address H:P      where its peers will reach it (127.0.0.1:17379)\n"
        "      --cluster-id WORD       a word from which the cluster's id is made (else it is random)\n"
        "      --quiet                 no progress\n\n"
        "When it fails or is interrupted, run it again with the same DIR. Exit status: 0 done; 1 failed, nothing in\n"
        "DIR starts as a node; 2 wrong usage.\n");
}

/* ---- the directory ---------------------------------------------------------------------------------------- */

struct foreign {
    char name[256];
};

/* What an attempt that did not get far leaves behind. */
static void note_foreign(void *data, const char *name)
{
    struct foreign *f = data;

    if (strncmp(name, STATE_NAME, strlen(STATE_NAME)) != 0 && strcmp(name, "lock") != 0 && *f->name == 0)
        snprintf(f->name, sizeof f->name, "%s", name);
}

static bool is_vacant(struct hf_tool_world *world, const char *dir)
{
    struct hf_fs *fs = world->env->fs;
    struct hf_offline_summary s;
    struct foreign foreign = {{0}};
    char why[HF_WHY_BYTES];
    int rc = fs->list(fs, dir, note_foreign, &foreign);

    if (rc == HF_E_NOENT)
        return true;
    if (rc != 0) {
        fprintf(stderr, "holdfast: cannot list %s: %s\n", dir, hf_strerror(rc));
        return false;
    }
    if (*foreign.name == 0)
        return true;
    /* A restore that did not finish says so itself; hf_offline_create knows which one it was. */
    rc = hf_offline_look(world->env, dir, &s, why, sizeof why);
    if (rc == HF_E_AGAIN)
        return true;
    if (rc == HF_E_LOCKED)
        fprintf(stderr, "holdfast: %s\n", why);
    else
        fprintf(stderr, "holdfast: %s is not empty (there is %s): a new cluster needs a new directory\n", dir,
                foreign.name);
    return false;
}

/* Held while this runs, so that two of them do not meet: the directory itself, before there is anything in it. */
static int claim(const char *dir, bool *is_made)
{
    char reason[128];
    int fd;

    *is_made = mkdir(dir, 0750) == 0;
    if (!*is_made && errno != EEXIST) {
        fprintf(stderr, "holdfast: cannot make %s: %s\n", dir, strerror_r(errno, reason, sizeof reason));
        return -1;
    }
    fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        fprintf(stderr, "holdfast: cannot open %s: %s\n", dir, strerror_r(errno, reason, sizeof reason));
    } else if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        fprintf(stderr, "holdfast: another holdfast restore works on %s\n", dir);
        close(fd);
        fd = -1;
    }
    return fd;
}

/* ---- the work --------------------------------------------------------------------------------------------- */

struct plan {
    const char *file, *dir, *address, *cluster_word;
    uint64_t id;
    bool is_quiet;
};

static int unpack(const struct plan *plan, const char *state, struct hf_backup_info *info, char *why, size_t why_size)
{
    int rc;

    hf_tool_remove_database(state);
    rc = hf_backup_unpack(plan->file, state, info, plan->is_quiet, why, why_size);
    hf_crash_point("restore-unpacked");
    return rc != 0 ? rc : hf_backup_check(plan->file, state, info, plan->is_quiet, why, why_size);
}

static int lay_down(struct hf_tool_world *world, const struct plan *plan, const char *state,
                    const struct hf_backup_info *info, char *why, size_t why_size)
{
    struct hf_buf configuration = {0};
    int rc;

    hf_offline_configuration(plan->id, plan->address, world->seed, &configuration);
    rc = hf_store_rebase(state, NULL, hf_buf_slice(&configuration), why, why_size);
    hf_buf_free(&configuration);
    hf_crash_point("restore-rebased");
    if (rc != 0)
        return rc;
    return hf_offline_create(world->env, &world->loop, plan->dir, plan->id, plan->address, plan->cluster_word,
                             info->index, info->term, state, world->seed, why, why_size);
}

static void print_next(const struct plan *plan, const struct hf_backup_info *info)
{
    struct hf_buf out = {0};

    hf_buf_printf(&out, "restored the state at index %" PRIu64 " into ", info->index);
    hf_tool_print_word(&out, plan->dir);
    hf_buf_printf(&out,
                  "\n\nStart the node (with its --listen and other settings):\n  holdfastd --id %" PRIu64 " --dir ",
                  plan->id);
    hf_tool_print_word(&out, plan->dir);
    hf_buf_printf(&out, " --peer-listen %s", plan->address);
    if (*plan->cluster_word) {
        hf_buf_printf(&out, " --cluster-id ");
        hf_tool_print_word(&out, plan->cluster_word);
    }
    hf_buf_printf(&out,
                  "\nLet others join it, each with a name, an empty directory and addresses of its own:\n"
                  "  holdfastd --join %s --name NAME --dir NEW-DIR --listen HOST:PORT --peer-listen HOST:PORT\n",
                  plan->address);
    fwrite(out.data, 1, out.len, stdout);
    hf_buf_free(&out);
}

static int restore(const struct plan *plan)
{
    struct hf_tool_world world;
    struct hf_backup_info info = {0};
    char why[HF_WHY_BYTES] = "", *state;
    size_t n = strlen(plan->dir) + sizeof "/" STATE_NAME;
    bool is_made = false;
    int fd = -1, code = HF_TOOL_FAILED;

    /* First what costs nothing: a file that is no backup leaves no directory behind. */
    if (hf_backup_look(plan->file, &info, why, sizeof why) != 0) {
        fprintf(stderr, "holdfast: %s\n", why);
        return HF_TOOL_FAILED;
    }
    if (!hf_tool_world_open(&world))
        return HF_TOOL_FAILED;
    state = hf_malloc(n);
    snprintf(state, n, "%s/" STATE_NAME, plan->dir);
    if (is_vacant(&world, plan->dir))
        fd = claim(plan->dir, &is_made);
    if (fd >= 0 && is_vacant(&world, plan->dir)) {
        hf_tool_catch_signals();
        if (unpack(plan, state, &info, why, sizeof why) == 0 &&
            lay_down(&world, plan, state, &info, why, sizeof why) == 0) {
            code = HF_TOOL_OK;
        } else {
            hf_tool_remove_database(state);
            if (is_made)
                (void)rmdir(plan->dir); /* only when there is nothing in it */
            fprintf(stderr, "holdfast: %s\n", why);
        }
    }
    if (fd >= 0)
        close(fd);
    hf_tool_world_close(&world);
    hf_free(state);
    if (code == HF_TOOL_OK)
        print_next(plan, &info);
    return code;
}

int hf_tool_restore(struct hf_tool *tool, int argc, char **argv)
{
    struct plan plan = {.address = "127.0.0.1:17379", .cluster_word = "", .id = 1};
    char dir[4096];
    size_t n;

    (void)tool;
    for (int i = 1; i < argc; i++) {
        int taken = hf_tool_value(argc, argv, &i, "--dir", &plan.dir);

        if (taken == 0)
            taken = hf_tool_value(argc, argv, &i, "--peer-address", &plan.address);
        if (taken == 0)
            taken = hf_tool_value(argc, argv, &i, "--cluster-id", &plan.cluster_word);
        if (taken == 0)
            taken = hf_tool_number(argc, argv, &i, "--id", 1, ID_MAX, &plan.id);
        if (taken < 0)
            return HF_TOOL_USAGE;
        if (taken > 0)
            continue;
        if (strcmp(argv[i], "--quiet") == 0)
            plan.is_quiet = true;
        else if (argv[i][0] == '-' || plan.file)
            return hf_tool_unknown(argv[i], "restore", print_help);
        else
            plan.file = argv[i];
    }
    if (!plan.file || !plan.dir) {
        fprintf(stderr, "usage: holdfast restore FILE --dir DIR (see --help)\n");
        return HF_TOOL_USAGE;
    }
    /* "DIR/" is DIR: names within are compared as texts. */
    n = strlen(plan.dir);
    while (n > 1 && plan.dir[n - 1] == '/')
        n--;
    snprintf(dir, sizeof dir, "%.*s", (int)n, plan.dir);
    plan.dir = dir;
    return restore(&plan);
}
