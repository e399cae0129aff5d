/* offline.c: `holdfast inspect`, `recover` and `repair`: data directories on which no node runs. What is done and why
 * it is safe is in consensus/offline.h; here it is explained, asked for and reported. */
#include "tools/offline.h"

#include "base/log.h"
#include "store/store.h"
#include "uv/uv_env.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- the environment ------------------------------------------------------------------------------------ */

static void run_loop(void *data)
{
    hf_uv_env_run(data);
}

static void stop_loop(void *data)
{
    hf_uv_env_stop(data);
}

bool hf_tool_world_open(struct hf_tool_world *w)
{
    int rc = hf_uv_env_open(&w->env);

    if (rc != 0) {
        fprintf(stderr, "holdfast: cannot start: %s\n", hf_strerror(rc));
        return false;
    }
    w->loop = (struct hf_offline_loop){.data = w->env, .run = run_loop, .stop = stop_loop};
    if (getrandom(&w->seed, sizeof w->seed, 0) != (ssize_t)sizeof w->seed) {
        fprintf(stderr, "holdfast: the kernel gives no random bytes\n");
        hf_uv_env_close(w->env);
        return false;
    }
    return true;
}

void hf_tool_world_close(struct hf_tool_world *w)
{
    hf_uv_env_close(w->env);
}

bool hf_tool_confirm(const char *question, const char *word)
{
    char line[256];

    if (!isatty(STDIN_FILENO)) {
        fprintf(stderr, "holdfast: nobody can be asked here; --yes goes ahead\n");
        return false;
    }
    fprintf(stderr, "%s ", question);
    fflush(stderr);
    if (!fgets(line, sizeof line, stdin))
        return false;
    line[strcspn(line, "\r\n")] = 0;
    if (strcmp(line, word) == 0)
        return true;
    fprintf(stderr, "holdfast: that is not it; nothing was changed\n");
    return false;
}

void hf_tool_print_word(struct hf_buf *out, const char *word)
{
    if (*word &&
        word[strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./_-[]")] == 0) {
        hf_buf_put(out, word, strlen(word));
        return;
    }
    hf_buf_put_u8(out, '\'');
    for (const char *p = word; *p; p++) {
        if (*p == '\'')
            hf_buf_printf(out, "'\\''");
        else
            hf_buf_put_u8(out, (uint8_t)*p);
    }
    hf_buf_put_u8(out, '\'');
}

#define LINE_MAX_CHARS 100

void hf_tool_print_wrapped(FILE *to, const char *text)
{
    size_t column = 0;

    while (*text) {
        size_t n = strcspn(text, " ");

        if (column > 0 && column + 1 + n > LINE_MAX_CHARS) {
            fputc('\n', to);
            column = 0;
        }
        fprintf(to, "%s%.*s", column > 0 ? " " : "", (int)n, text);
        column += n + (column > 0);
        text += n;
        text += strspn(text, " ");
    }
    fputc('\n', to);
}

/* ---- what a directory holds ------------------------------------------------------------------------------ */

static const char *kind_of(const struct hf_offline_summary *s)
{
    if (s->is_removed)
        return "was removed from its cluster";
    if (s->is_joining)
        return "is joining a cluster";
    return s->is_formed ? "member of a cluster" : "waits for its cluster to form";
}

static const char *role_word(const char *role)
{
    return strcmp(role, "standby") == 0 ? "learner" : role;
}

void hf_tool_print_summary(const struct hf_offline_summary *s, FILE *to)
{
    fprintf(to, "  node         %s (id %" PRIu64 "), %s\n", *s->name ? s->name : "without a name", s->node_id,
            kind_of(s));
    fprintf(to, "  cluster      %s, incarnation %s\n", s->cluster_id, s->incarnation);
    if (s->last_index >= s->first_index && s->last_index > 0)
        fprintf(to, "  journal      entries %" PRIu64 " to %" PRIu64 ", last term %" PRIu64 "; term %" PRIu64 "%s\n",
                s->first_index, s->last_index, s->last_term, s->term, s->torn_tail ? "; its end is torn" : "");
    else
        fprintf(to, "  journal      empty; term %" PRIu64 "\n", s->term);
    fprintf(to, "  state        %s\n", *s->state_path ? s->state_path : "none");
    for (uint32_t i = 0; i < s->n_members; i++) {
        const struct hf_offline_member *m = &s->members[i];

        fprintf(to, "  %-11s  %s (id %" PRIu64 "), %s, %s%s\n", i == 0 ? "members" : "", m->name, m->id,
                role_word(m->role), m->address, m->id == s->node_id ? " - this one" : "");
    }
}

static void json_text(struct hf_buf *out, const char *name, const char *text)
{
    hf_buf_printf(out, ",\"%s\":", name);
    hf_tool_print_json_text(out, text, strlen(text));
}

static void print_summary_json(const struct hf_offline_summary *s, const char *problem,
                               const struct hf_store_info *state, const char *state_problem)
{
    struct hf_buf out = {0};

    hf_buf_printf(&out, "{\"node_id\":%" PRIu64, s->node_id);
    json_text(&out, "name", s->name);
    json_text(&out, "cluster_id", s->cluster_id);
    json_text(&out, "incarnation", s->incarnation);
    hf_buf_printf(&out,
                  ",\"formed\":%s,\"joining\":%s,\"removed\":%s,\"term\":%" PRIu64 ",\"vote\":%" PRIu64
                  ",\"first_index\":%" PRIu64 ",\"last_index\":%" PRIu64 ",\"last_term\":%" PRIu64
                  ",\"torn_tail\":%s,\"generation\":%" PRIu64 ",\"marker_index\":%" PRIu64
                  ",\"configuration_index\":%" PRIu64,
                  s->is_formed ? "true" : "false", s->is_joining ? "true" : "false", s->is_removed ? "true" : "false",
                  s->term, s->vote, s->first_index, s->last_index, s->last_term, s->torn_tail ? "true" : "false",
                  s->generation, s->marker_index, s->configuration_index);
    json_text(&out, "state_path", s->state_path);
    if (state)
        hf_buf_printf(&out,
                      ",\"state\":{\"applied_index\":%" PRIu64 ",\"applied_term\":%" PRIu64 ",\"keys\":%" PRIu64
                      ",\"level\":%u,\"bytes\":%" PRIu64 "}",
                      state->meta.applied_index, state->meta.applied_term, state->meta.keys, state->level,
                      state->file_bytes);
    hf_buf_printf(&out, ",\"members\":[");
    for (uint32_t i = 0; i < s->n_members; i++) {
        const struct hf_offline_member *m = &s->members[i];

        hf_buf_printf(&out, "%s{\"id\":%" PRIu64, i ? "," : "", m->id);
        json_text(&out, "name", m->name);
        json_text(&out, "address", m->address);
        json_text(&out, "role", role_word(m->role));
        hf_buf_put_u8(&out, '}');
    }
    hf_buf_put_u8(&out, ']');
    json_text(&out, "problem", problem);
    json_text(&out, "state_problem", state_problem);
    hf_buf_printf(&out, "}\n");
    fwrite(out.data, 1, out.len, stdout);
    hf_buf_free(&out);
}

/* ---- inspect ---------------------------------------------------------------------------------------------- */

static void print_inspect_help(void)
{
    printf(
        "usage: holdfast inspect --dir DIR [--json]\n\n"
        "Tells what a data directory holds: whose it is, how far its journal goes, the members it knows, its state.\n"
        "Changes nothing. The node must not run on it.\n\n"
        "Exit status: 0 sound as far as a look can tell; 1 damaged, unfinished, locked, or no data directory (said\n"
        "on stderr, with what repairs it); 2 wrong usage.\n");
}

static void look_at_state(const struct hf_offline_summary *s, struct hf_store_info *state, bool *has_state, char *why,
                          size_t why_size)
{
    char wal[sizeof s->state_path + 8];
    struct stat st;

    *has_state = false;
    why[0] = 0;
    snprintf(wal, sizeof wal, "%s-wal", s->state_path);
    if (!*s->state_path || access(s->state_path, F_OK) != 0)
        return;
    if (stat(wal, &st) == 0 && st.st_size > 0)
        snprintf(why, why_size, "more than in the file itself: its node did not stop cleanly (%s)", wal);
    else
        *has_state = hf_store_inspect(s->state_path, NULL, state, why, why_size) == 0;
}

int hf_tool_inspect(struct hf_tool *tool, int argc, char **argv)
{
    struct hf_offline_summary s = {0};
    struct hf_store_info state = {0};
    struct hf_tool_world world;
    const char *dir = NULL;
    char why[HF_WHY_BYTES] = "", state_why[HF_WHY_BYTES] = "";
    bool has_state;
    int rc;

    for (int i = 1; i < argc; i++) {
        int taken = hf_tool_option(tool, argc, argv, &i);

        if (taken == 0)
            taken = hf_tool_value(argc, argv, &i, "--dir", &dir);
        if (taken < 0)
            return HF_TOOL_USAGE;
        if (taken == 0)
            return hf_tool_unknown(argv[i], "inspect", print_inspect_help);
    }
    if (!dir) {
        fprintf(stderr, "usage: holdfast inspect --dir DIR\n");
        return HF_TOOL_USAGE;
    }
    if (!hf_tool_world_open(&world))
        return HF_TOOL_FAILED;
    rc = hf_offline_look(world.env, dir, &s, why, sizeof why);
    hf_tool_world_close(&world);
    look_at_state(&s, &state, &has_state, state_why, sizeof state_why);
    if (rc == 0)
        why[0] = 0;
    if (tool->style == HF_TOOL_JSON) {
        print_summary_json(&s, why, has_state ? &state : NULL, state_why);
    } else if (rc == 0 || s.node_id != 0) {
        printf("%s\n", dir);
        hf_tool_print_summary(&s, stdout);
        if (has_state)
            printf("  content      index %" PRIu64 ", %" PRIu64 " keys, feature level %u, %" PRIu64 " bytes\n",
                   state.meta.applied_index, state.meta.keys, state.level, state.file_bytes);
        else if (*state_why)
            printf("  content      %s\n", state_why);
    }
    hf_store_info_free(&state);
    if (rc != 0)
        fprintf(stderr, "holdfast: %s\n", why);
    return rc == 0 ? HF_TOOL_OK : HF_TOOL_FAILED;
}

/* ---- recover ---------------------------------------------------------------------------------------------- */

static void print_recover_help(void)
{
    printf(
        "usage: holdfast recover --dir DIR [--peer-address HOST:PORT] [--dry-run] [--yes]\n\n"
        "For a cluster that lost more than half of its voters FOR GOOD. Makes the node in DIR the only voter of a\n"
        "new incarnation of its cluster, so that it serves again and others can join it. What only the lost members\n"
        "had is gone, also writes that clients were told are done. Members that come back are refused until they\n"
        "were repaired (holdfast repair). If the others can be brought back, do that instead.\n\n"
        "Run it on the survivor whose journal goes furthest: compare with holdfast inspect (last term, then last\n"
        "entry). The node must not run.\n\n"
        "      --dir DIR               its data directory; copy it somewhere first\n"
        "      --peer-address H:P      the node gets this address for its peers\n"
        "      --dry-run               only tell what would be done and lost\n"
        "      --yes                   do not ask\n\n"
        "Exit status: 0 done (or told); 1 nothing was done, or it did not finish: run it again; 2 wrong usage.\n");
}

/* What has to be typed: enough of the cluster's id to know which one it is. */
#define CLUSTER_DIGITS 8

static int recover(const char *dir, const char *address, bool dry_run, bool is_sure)
{
    struct hf_offline_summary s = {0};
    struct hf_tool_world world;
    char why[HF_WHY_BYTES] = "", question[200], word[CLUSTER_DIGITS + 1];
    bool is_refused = false;
    int rc;

    if (!hf_tool_world_open(&world))
        return HF_TOOL_FAILED;
    rc = hf_offline_recover(world.env, &world.loop, dir, address, world.seed, true, &s, why, sizeof why);
    if (rc == 0) {
        fprintf(stderr, "%s holds\n", dir);
        hf_tool_print_summary(&s, stderr);
        fprintf(stderr, "\nWARNING: this gives up what is not in this directory.\n");
        hf_tool_print_wrapped(stderr, why);
        fprintf(stderr, "\n");
        snprintf(word, sizeof word, "%.*s", CLUSTER_DIGITS, s.cluster_id);
        snprintf(question, sizeof question,
                 "Type the first %d digits of the cluster's id (%s) to go ahead:", CLUSTER_DIGITS, word);
        if (dry_run)
            fprintf(stderr, "Nothing was changed (--dry-run).\n");
        else if (!is_sure && !hf_tool_confirm(question, word))
            is_refused = true;
        else
            rc = hf_offline_recover(world.env, &world.loop, dir, address, world.seed, false, &s, why, sizeof why);
    }
    hf_tool_world_close(&world);
    if (is_refused)
        return HF_TOOL_FAILED;
    if (rc != 0) {
        fprintf(stderr, "holdfast: %s\n", why);
        return HF_TOOL_FAILED;
    }
    if (!dry_run)
        printf("recovered: node %" PRIu64 " is the only voter now. Start it as before; wipe the others with\n"
               "holdfast repair before they join it.\n",
               s.node_id);
    return HF_TOOL_OK;
}

int hf_tool_recover(struct hf_tool *tool, int argc, char **argv)
{
    const char *dir = NULL, *address = "";
    bool dry_run = false, is_sure = false;

    (void)tool;
    for (int i = 1; i < argc; i++) {
        int taken = hf_tool_value(argc, argv, &i, "--dir", &dir);

        if (taken == 0)
            taken = hf_tool_value(argc, argv, &i, "--peer-address", &address);
        if (taken < 0)
            return HF_TOOL_USAGE;
        if (taken > 0)
            continue;
        if (strcmp(argv[i], "--dry-run") == 0)
            dry_run = true;
        else if (strcmp(argv[i], "--yes") == 0)
            is_sure = true;
        else
            return hf_tool_unknown(argv[i], "recover", print_recover_help);
    }
    if (!dir) {
        fprintf(stderr, "usage: holdfast recover --dir DIR [--dry-run] (see --help)\n");
        return HF_TOOL_USAGE;
    }
    return recover(dir, address, dry_run, is_sure);
}

/* ---- repair ----------------------------------------------------------------------------------------------- */

static void print_repair_help(void)
{
    printf("usage: holdfast repair --dir DIR --from-peers [--join HOST:PORT,...] [--name NAME] [--yes]\n\n"
           "For a node whose disk is damaged or was wiped, or that a recovered cluster refuses: deletes journal and\n"
           "state in DIR and makes it a directory that joins its cluster again when the node is started, under its\n"
           "name, as a learner first and in the place of its old id. Everything it had comes from the other members:\n"
           "they must be able to go on without it. The node must not run.\n\n"
           "      --dir DIR               its data directory\n"
           "      --from-peers            say that its own data are to be deleted\n"
           "      --join HOST:PORT,...    peer addresses of members to join by (else those that DIR knows)\n"
           "      --name NAME             of the node, when DIR does not know it any more\n"
           "      --yes                   do not ask\n\n"
           "Exit status: 0 done; 1 nothing was done, or it did not finish: run it again; 2 wrong usage.\n");
}

static int repair(const char *dir, const char *name, const char *join, bool is_sure)
{
    struct hf_offline_summary s = {0};
    struct hf_tool_world world;
    char why[HF_WHY_BYTES] = "";
    int rc;

    if (!hf_tool_world_open(&world))
        return HF_TOOL_FAILED;
    rc = hf_offline_look(world.env, dir, &s, why, sizeof why);
    fprintf(stderr, "%s holds\n", dir);
    if (rc == 0 || s.node_id != 0)
        hf_tool_print_summary(&s, stderr);
    if (rc != 0)
        fprintf(stderr, "  %s\n", why);
    fprintf(stderr, "\nIts journal and its state will be deleted and fetched again from the other members.\n");
    if (rc == HF_E_LOCKED || (!is_sure && !hf_tool_confirm("Type yes to go ahead:", "yes"))) {
        hf_tool_world_close(&world);
        return HF_TOOL_FAILED;
    }
    rc = hf_offline_rejoin(world.env, dir, name, join, world.seed, why, sizeof why);
    hf_tool_world_close(&world);
    if (rc != 0) {
        fprintf(stderr, "holdfast: %s\n", why);
        return HF_TOOL_FAILED;
    }
    printf("repaired: start the node as before; it joins again as a learner, gets the state from its peers and takes\n"
           "the place it had. holdfast status shows how far it is.\n");
    return HF_TOOL_OK;
}

int hf_tool_repair(struct hf_tool *tool, int argc, char **argv)
{
    const char *dir = NULL, *name = "", *join = "";
    bool is_from_peers = false, is_sure = false;

    (void)tool;
    for (int i = 1; i < argc; i++) {
        int taken = hf_tool_value(argc, argv, &i, "--dir", &dir);

        if (taken == 0)
            taken = hf_tool_value(argc, argv, &i, "--name", &name);
        if (taken == 0)
            taken = hf_tool_value(argc, argv, &i, "--join", &join);
        if (taken < 0)
            return HF_TOOL_USAGE;
        if (taken > 0)
            continue;
        if (strcmp(argv[i], "--from-peers") == 0)
            is_from_peers = true;
        else if (strcmp(argv[i], "--yes") == 0)
            is_sure = true;
        else
            return hf_tool_unknown(argv[i], "repair", print_repair_help);
    }
    if (!dir || !is_from_peers) {
        fprintf(stderr, "usage: holdfast repair --dir DIR --from-peers (see --help)\n");
        return HF_TOOL_USAGE;
    }
    return repair(dir, name, join, is_sure);
}
