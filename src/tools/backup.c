/* backup.c: `holdfast backup`: chooses a node, reads a copy of its state in order over HF.BACKUP, several requests
 * ahead, into a file (backup_file.h); and `holdfast backup verify`. A connection that breaks is made again to the same
 * node, which keeps the copy for a while, and reading goes on where it stood. */
#include "tools/backup_file.h"

#include "base/mem.h"
#include "store/store.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CHUNK_BYTES    (1u << 20)
#define IN_FLIGHT_MAX  4u
#define START_MS       900000u /* making the copy of a large state takes its time */
#define RECONNECTS_MAX 20u     /* in a row without a byte */
#define RECONNECT_MS   500u
#define LEVEL_DEFAULT  3
#define LEVEL_MAX      19
#define CANDIDATES_MAX 33u

static void print_help(void)
{
    printf(
        "usage: holdfast backup --out FILE [options]\n"
        "       holdfast backup verify FILE [--tmp DIR] [--quiet] [--json]\n\n"
        "Writes the state of the cluster, as it is at one index, into FILE while the nodes serve. The file is a zstd\n"
        "file with the SQLite database in it: zstd -dc FILE > state.db; sqlite3 state.db\n\n"
        "      --out FILE              the file; it appears under this name when it is complete (until then\n"
        "                              FILE.part)\n"
        "      --force                 replace FILE when it exists\n"
        "      --node HOST:PORT        take it from this node; else from a follower, or, when there is none to be\n"
        "                              had, from the leader\n"
        "      --level N               of compression, 1 to 19 (3)\n"
        "      --quiet                 no progress\n%s"
        "\nverify reads FILE, checks every sum in it, unpacks the database beside it (or into DIR) for a moment, has\n"
        "SQLite check it and compares the digest of all rows.\n\n"
        "Exit status: 0 done; 1 failed, or FILE is damaged; 2 wrong usage; 3 no server reached.\n",
        hf_tool_options_help);
}

/* ---- whom to ask ---------------------------------------------------------------------------------------- */

struct candidate {
    char address[280];
    bool is_leader;
};

static void add_candidate(struct candidate *list, uint32_t *n, const char *address, bool is_leader)
{
    for (uint32_t i = 0; i < *n; i++)
        if (strcmp(list[i].address, address) == 0)
            return;
    if (*address && *n < CANDIDATES_MAX) {
        snprintf(list[*n].address, sizeof list[*n].address, "%s", address);
        list[(*n)++].is_leader = is_leader;
    }
}

/* Followers first: voters, then learners; the leader last. */
static uint32_t find_candidates(struct hf_tool *tool, struct candidate *list, int *code)
{
    redisReply *members;
    uint32_t n = 0;

    *code = HF_TOOL_NO_SERVER;
    if (!tool->link && !hf_tool_connect_any(tool))
        return 0;
    members = redisCommand(tool->link, "HF.MEMBER LIST");
    if (!members || members->type != REDIS_REPLY_ARRAY) {
        fprintf(stderr, "holdfast: %s does not tell the members: %s\n", tool->link_server,
                members && members->type == REDIS_REPLY_ERROR ? members->str : tool->link->errstr);
        *code = HF_TOOL_FAILED;
        if (members)
            freeReplyObject(members);
        return 0;
    }
    for (int pass = 0; pass < 3; pass++) {
        for (size_t i = 0; i < members->elements; i++) {
            const redisReply *m = members->element[i];
            bool is_leader = hf_tool_uint(m, "leader") != 0;
            bool is_voter = strcmp(hf_tool_text(m, "role"), "voter") == 0;
            int turn = is_leader ? 2 : is_voter ? 0 : 1;

            if (turn == pass && hf_tool_uint(m, "connected"))
                add_candidate(list, &n, hf_tool_uint(m, "self") ? tool->link_server : hf_tool_text(m, "client-address"),
                              is_leader);
        }
    }
    freeReplyObject(members);
    add_candidate(list, &n, tool->link_server,
                  false); /* not a member yet, or none any more: it has a state all the same */
    hf_tool_disconnect(tool);
    *code = HF_TOOL_OK;
    return n;
}

/* ---- reading --------------------------------------------------------------------------------------------- */

struct backup {
    struct hf_tool *tool;
    const char *node;
    redisContext *link;
    uint64_t id, bytes, asked, done;
    struct hf_backup_writer *writer;
};

/* Asks node for a copy. NULL reply: why says. */
static bool start(struct backup *b, struct hf_backup_info *info, char *why, size_t why_size)
{
    uint64_t timeout_ms = b->tool->is_timeout_given ? b->tool->timeout_ms : START_MS;
    redisReply *reply;
    struct tm tm;
    time_t now = time(NULL);
    const char *at;

    b->link = hf_tool_connect(b->tool, b->node, timeout_ms, why, why_size);
    if (!b->link)
        return false;
    reply = redisCommand(b->link, "INFO raft");
    if (reply && reply->type == REDIS_REPLY_STRING) {
        at = strstr(reply->str, "raft_cluster_id:");
        if (at)
            snprintf(info->cluster_id, sizeof info->cluster_id, "%.*s", (int)strcspn(at + 16, "\r\n\"\\"), at + 16);
        at = strstr(reply->str, "raft_node_id:");
        if (at)
            info->node_id = strtoull(at + 13, NULL, 10);
    }
    if (reply)
        freeReplyObject(reply);
    reply = b->link->err ? NULL : redisCommand(b->link, "HF.BACKUP START");
    if (!reply || reply->type != REDIS_REPLY_ARRAY) {
        snprintf(why, why_size, "%s gives no backup: %s", b->node,
                 reply && reply->type == REDIS_REPLY_ERROR ? reply->str : b->link->errstr);
        if (reply)
            freeReplyObject(reply);
        redisFree(b->link);
        b->link = NULL;
        return false;
    }
    b->id = hf_tool_uint(reply, "id");
    b->bytes = info->bytes = hf_tool_uint(reply, "bytes");
    info->index = hf_tool_uint(reply, "index");
    info->term = hf_tool_uint(reply, "term");
    info->level = hf_tool_uint(reply, "level");
    snprintf(info->digest, sizeof info->digest, "%s", hf_tool_text(reply, "digest"));
    snprintf(info->history, sizeof info->history, "%s", hf_tool_text(reply, "history"));
    snprintf(info->version, sizeof info->version, "%s", HF_VERSION);
    gmtime_r(&now, &tm);
    strftime(info->created_at, sizeof info->created_at, "%Y-%m-%dT%H:%M:%SZ", &tm);
    freeReplyObject(reply);
    redisSetTimeout(b->link, (struct timeval){.tv_sec = (time_t)(b->tool->timeout_ms / 1000),
                                              .tv_usec = (suseconds_t)(b->tool->timeout_ms % 1000 * 1000)});
    return true;
}

/* Makes a broken connection again; what was asked and not answered is asked anew. */
static bool reconnect(struct backup *b, char *why, size_t why_size)
{
    char reason[128];

    snprintf(reason, sizeof reason, "%s", b->link ? b->link->errstr : "");
    if (b->link)
        redisFree(b->link);
    b->link = NULL;
    b->asked = b->done;
    for (unsigned i = 0; i < RECONNECTS_MAX && !hf_tool_is_stopped(); i++) {
        struct timespec pause = {.tv_nsec = RECONNECT_MS * 1000000};
        char refused[512];

        if (i > 0)
            clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
        b->link = hf_tool_connect(b->tool, b->node, b->tool->timeout_ms, refused, sizeof refused);
        if (b->link) {
            fprintf(stderr,
                    "holdfast: the connection to %s broke (%s) and was made again; going on at byte %" PRIu64 "\n",
                    b->node, reason, b->done);
            return true;
        }
    }
    snprintf(why, why_size, "the connection to %s broke (%s) and could not be made again; nothing was written", b->node,
             reason);
    return false;
}

static uint64_t chunk_at(const struct backup *b, uint64_t offset)
{
    return b->bytes - offset < CHUNK_BYTES ? b->bytes - offset : CHUNK_BYTES;
}

static void ask_ahead(struct backup *b)
{
    while (b->asked < b->bytes && b->asked - b->done < IN_FLIGHT_MAX * (uint64_t)CHUNK_BYTES) {
        uint64_t n = chunk_at(b, b->asked);

        if (redisAppendCommand(b->link, "HF.BACKUP READ %" PRIu64 " %" PRIu64 " %" PRIu64, b->id, b->asked, n) !=
            REDIS_OK)
            return; /* seen by the next answer */
        b->asked += n;
    }
}

static bool take_chunk(struct backup *b, const redisReply *reply, char *why, size_t why_size)
{
    if (reply->type == REDIS_REPLY_ERROR) {
        snprintf(why, why_size, "%s: %s", b->node, reply->str);
        return false;
    }
    if (reply->type != REDIS_REPLY_STRING || reply->len != chunk_at(b, b->done)) {
        snprintf(why, why_size, "%s gave %zu bytes at %" PRIu64 " where %" PRIu64 " were asked for", b->node,
                 (size_t)reply->len, b->done, chunk_at(b, b->done));
        return false;
    }
    if (hf_backup_write(b->writer, reply->str, reply->len, why, why_size) != 0)
        return false;
    b->done += reply->len;
    return true;
}

static bool read_all(struct backup *b, struct hf_tool_progress *progress, char *why, size_t why_size)
{
    unsigned n_broken = 0;

    while (b->done < b->bytes) {
        void *answer = NULL;
        bool is_taken;

        if (hf_tool_is_stopped()) {
            snprintf(why, why_size, "stopped; nothing was written");
            return false;
        }
        ask_ahead(b);
        if (b->link->err || redisGetReply(b->link, &answer) != REDIS_OK) {
            if (++n_broken > RECONNECTS_MAX || !reconnect(b, why, why_size))
                return false;
            continue;
        }
        is_taken = take_chunk(b, answer, why, why_size);
        freeReplyObject(answer);
        if (!is_taken)
            return false;
        n_broken = 0;
        hf_tool_progress_step(progress, b->done);
    }
    return true;
}

/* ---- a backup --------------------------------------------------------------------------------------------- */

static void print_result(const struct hf_tool *tool, const struct backup *b, const char *path,
                         const struct hf_backup_info *info, uint64_t file_bytes)
{
    struct hf_buf out = {0};
    char database[32], file[32];

    if (tool->style == HF_TOOL_JSON) {
        hf_buf_printf(&out, "{\"file\":");
        hf_tool_print_json_text(&out, path, strlen(path));
        hf_buf_printf(&out, ",\"node\":");
        hf_tool_print_json_text(&out, b->node, strlen(b->node));
        hf_buf_printf(&out,
                      ",\"index\":%" PRIu64 ",\"term\":%" PRIu64 ",\"digest\":\"%s\",\"bytes\":%" PRIu64
                      ",\"file_bytes\":%" PRIu64 "}\n",
                      info->index, info->term, info->digest, info->bytes, file_bytes);
    } else {
        hf_tool_format_bytes(database, sizeof database, info->bytes);
        hf_tool_format_bytes(file, sizeof file, file_bytes);
        hf_buf_printf(&out, "%s: the state at index %" PRIu64 " from %s, %s (database %s)\n", path, info->index,
                      b->node, file, database);
    }
    fwrite(out.data, 1, out.len, stdout);
    hf_buf_free(&out);
}

static int run_backup(struct hf_tool *tool, const char *path, const char *node, int level, bool replace, bool is_quiet)
{
    struct candidate list[CANDIDATES_MAX];
    struct hf_backup_info info = {0};
    struct backup b = {.tool = tool};
    struct hf_tool_progress progress;
    struct stat st;
    char why[700] = "";
    uint64_t file_bytes = 0;
    uint32_t n = 0;
    int code;

    if (!replace && stat(path, &st) == 0) {
        fprintf(stderr, "holdfast: %s exists; --force replaces it\n", path);
        return HF_TOOL_FAILED;
    }
    if (node) {
        add_candidate(list, &n, node, false);
    } else {
        n = find_candidates(tool, list, &code);
        if (n == 0)
            return code;
    }
    for (uint32_t i = 0; i < n; i++) {
        b.node = list[i].address;
        if (!node && list[i].is_leader)
            fprintf(stderr, "holdfast: no follower can be asked: the leader %s gives the backup\n", b.node);
        if (start(&b, &info, why, sizeof why))
            break;
        fprintf(stderr, "holdfast: %s\n", why);
    }
    if (!b.link)
        return HF_TOOL_FAILED;
    code = HF_TOOL_FAILED;
    if (hf_backup_create(path, &info, level, &b.writer, why, sizeof why) == 0) {
        bool is_read;

        hf_tool_catch_signals();
        hf_tool_progress_begin(&progress, "backing up", b.bytes, true, is_quiet);
        is_read = read_all(&b, &progress, why, sizeof why);
        hf_tool_progress_end(&progress);
        if (!is_read)
            hf_backup_abandon(b.writer);
        else if (hf_backup_finish(b.writer, replace, &file_bytes, why, sizeof why) == 0)
            code = HF_TOOL_OK;
    }
    if (b.link && !b.link->err && b.asked == b.done) {
        redisReply *end = redisCommand(b.link, "HF.BACKUP END %" PRIu64, b.id);

        if (end)
            freeReplyObject(end);
    }
    if (b.link)
        redisFree(b.link);
    if (code == HF_TOOL_OK)
        print_result(tool, &b, path, &info, file_bytes);
    else
        fprintf(stderr, "holdfast: %s\n", why);
    return code;
}

/* ---- verify ------------------------------------------------------------------------------------------------ */

static bool show_rows(void *data, uint64_t done, uint64_t total)
{
    struct hf_tool_progress *p = data;

    p->total = total;
    hf_tool_progress_step(p, done);
    return !hf_tool_is_stopped();
}

static void hex(const uint8_t *bytes, size_t n, char *out)
{
    for (size_t i = 0; i < n; i++)
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

int hf_backup_check(const char *path, const char *database, const struct hf_backup_info *info, bool is_quiet, char *why,
                    size_t why_size)
{
    struct hf_store_info found = {0};
    struct hf_tool_progress progress;
    char digest[33], history[33], reason[512] = "";
    int rc;

    hf_tool_progress_begin(&progress, "checking", 0, false, is_quiet);
    rc = hf_store_verify(database, NULL, &found, show_rows, &progress, reason, sizeof reason);
    hf_tool_progress_end(&progress);
    if (rc != 0) {
        snprintf(why, why_size, "the database in %s is not sound: %s", path, reason);
        return rc;
    }
    hex(found.meta.digest, sizeof found.meta.digest, digest);
    hex(found.meta.history, sizeof found.meta.history, history);
    if (found.meta.applied_index != info->index || found.meta.applied_term != info->term ||
        strcmp(digest, info->digest) != 0 || (*info->history && strcmp(history, info->history) != 0)) {
        snprintf(why, why_size,
                 "the database in %s is another than it says: index %" PRIu64 ", digest %s instead of index %" PRIu64
                 ", digest %s",
                 path, found.meta.applied_index, digest, info->index, info->digest);
        rc = HF_E_CORRUPT;
    }
    hf_store_info_free(&found);
    return rc;
}

static int run_verify(struct hf_tool *tool, const char *path, const char *tmp, bool is_quiet)
{
    const char *slash = strrchr(path, '/');
    struct hf_backup_info info;
    struct hf_buf out = {0};
    char database[4096], why[1024] = "", bytes[32];
    int rc;

    if (tmp)
        snprintf(database, sizeof database, "%s/%s.%ld.verify", tmp, slash ? slash + 1 : path, (long)getpid());
    else
        snprintf(database, sizeof database, "%s.%ld.verify", path, (long)getpid());
    hf_tool_catch_signals();
    rc = hf_backup_unpack(path, database, &info, is_quiet, why, sizeof why);
    if (rc == 0) {
        rc = hf_backup_check(path, database, &info, is_quiet, why, sizeof why);
        hf_tool_remove_database(database);
    }
    if (rc != 0) {
        fprintf(stderr, "holdfast: %s\n", why);
        return HF_TOOL_FAILED;
    }
    if (tool->style == HF_TOOL_JSON) {
        hf_buf_printf(&out, "{\"file\":");
        hf_tool_print_json_text(&out, path, strlen(path));
        hf_buf_printf(&out,
                      ",\"sound\":true,\"index\":%" PRIu64 ",\"term\":%" PRIu64 ",\"level\":%" PRIu64
                      ",\"bytes\":%" PRIu64 ",\"digest\":\"%s\",\"cluster_id\":\"%s\",\"node_id\":%" PRIu64
                      ",\"created_at\":\"%s\",\"holdfast_version\":\"%s\"}\n",
                      info.index, info.term, info.level, info.bytes, info.digest, info.cluster_id, info.node_id,
                      info.created_at, info.version);
    } else {
        hf_tool_format_bytes(bytes, sizeof bytes, info.bytes);
        hf_buf_printf(&out,
                      "%s is sound.\n  made        %s by holdfast %s, from node %" PRIu64 " of cluster %s\n"
                      "  state       index %" PRIu64 ", term %" PRIu64 ", feature level %" PRIu64 "\n"
                      "  digest      %s\n  database    %s\n",
                      path, info.created_at, info.version, info.node_id, info.cluster_id, info.index, info.term,
                      info.level, info.digest, bytes);
    }
    fwrite(out.data, 1, out.len, stdout);
    hf_buf_free(&out);
    return HF_TOOL_OK;
}

/* ---- the command line -------------------------------------------------------------------------------------- */

int hf_tool_backup(struct hf_tool *tool, int argc, char **argv)
{
    const char *path = NULL, *node = NULL, *tmp = NULL, *words[2] = {0};
    bool replace = false, is_quiet = false, is_verify;
    uint64_t level = LEVEL_DEFAULT;
    uint32_t n = 0;

    for (int i = 1; i < argc; i++) {
        int taken = hf_tool_option(tool, argc, argv, &i);

        if (taken == 0)
            taken = hf_tool_value(argc, argv, &i, "--out", &path);
        if (taken == 0)
            taken = hf_tool_value(argc, argv, &i, "--node", &node);
        if (taken == 0)
            taken = hf_tool_value(argc, argv, &i, "--tmp", &tmp);
        if (taken == 0)
            taken = hf_tool_number(argc, argv, &i, "--level", 1, LEVEL_MAX, &level);
        if (taken < 0)
            return HF_TOOL_USAGE;
        if (taken > 0)
            continue;
        if (strcmp(argv[i], "--force") == 0)
            replace = true;
        else if (strcmp(argv[i], "--quiet") == 0)
            is_quiet = true;
        else if (argv[i][0] == '-' || n == 2)
            return hf_tool_unknown(argv[i], "backup", print_help);
        else
            words[n++] = argv[i];
    }
    is_verify = n > 0 && strcmp(words[0], "verify") == 0;
    if (is_verify && n == 2 && !path && !node)
        return run_verify(tool, words[1], tmp, is_quiet);
    if (n > 0 || !path) {
        fprintf(stderr, "usage: holdfast backup --out FILE | holdfast backup verify FILE (see --help)\n");
        return HF_TOOL_USAGE;
    }
    hf_tool_default_server(tool);
    return run_backup(tool, path, node, (int)level, replace, is_quiet);
}
