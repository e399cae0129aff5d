/* status.c: `holdfast status`: asks every node it hears of for INFO and prints a table. The servers given are asked
 * first; what they tell of the leader, and the leader of its followers, is followed. */
#include "base/util.h"
#include "tools/tools.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define NODES_MAX HF_TOOL_SERVERS_MAX
/* A paused node accepts connections and never answers. */
#define ANSWER_TIMEOUT_MS 3000u
#define COPIES_MAX        8

/* A state on its way, as one of its ends tells. */
struct copy {
    uint64_t member, index, done_bytes, total_bytes, bytes_per_second;
    char direction[8], phase[32];
};

struct node {
    char address[280]; /* for clients; of a member nobody could reach: its peer address */
    char state[32];    /* leader, follower, candidate, unavailable; or why there is no answer */
    char cluster_id[128], version[32], name[80], member_role[16], problem[256];
    bool is_answering, is_duplicate;
    uint64_t id, term, leader_id, commit_index, applied_index, clients, rss_bytes, uptime_s;
    uint64_t journal_bytes, journal_bytes_max, level, level_max;
    uint32_t n_copies;
    struct copy copies[COPIES_MAX];
    uint64_t lag; /* entries behind the leader's commit index */
};

struct survey {
    struct node nodes[NODES_MAX];
    uint32_t n;
    const struct node *leader; /* of the highest term, or NULL */
};

/* ---- INFO --------------------------------------------------------------------------------------------- */

/* The value of a line `name:value`; empty when there is none. Names ending in a digit run are looked up as they are. */
static struct hf_slice field(const redisReply *info, const char *name)
{
    size_t n = strlen(name);

    for (const char *line = info->str, *next; line; line = next ? next + 1 : NULL) {
        next = strchr(line, '\n');
        if (strncmp(line, name, n) == 0 && line[n] == ':')
            return hf_slice(line + n + 1, strcspn(line + n + 1, "\r\n"));
    }
    return hf_slice("", 0);
}

static uint64_t number(const redisReply *info, const char *name)
{
    int64_t v = 0;

    return hf_parse_int64(field(info, name), &v) && v > 0 ? (uint64_t)v : 0;
}

static void text(const redisReply *info, const char *name, char *out, size_t cap)
{
    struct hf_slice s = field(info, name);

    snprintf(out, cap, "%.*s", (int)s.len, (const char *)s.ptr);
}

/* The value of `key=` in a line of the form a=1,b=2. */
static bool part(struct hf_slice line, const char *key, char *out, size_t cap)
{
    size_t n = strlen(key);

    for (size_t at = 0; at < line.len;) {
        const char *p = (const char *)line.ptr + at;
        const char *comma = memchr(p, ',', line.len - at);
        size_t len = comma ? (size_t)(comma - p) : line.len - at;

        if (len > n && strncmp(p, key, n) == 0 && p[n] == '=') {
            snprintf(out, cap, "%.*s", (int)(len - n - 1), p + n + 1);
            return true;
        }
        at += len + 1;
    }
    return false;
}

/* ---- the survey --------------------------------------------------------------------------------------- */

static void add_address(struct survey *s, const char *address)
{
    for (uint32_t i = 0; i < s->n; i++)
        if (strcmp(s->nodes[i].address, address) == 0)
            return;
    if (s->n < NODES_MAX)
        snprintf(s->nodes[s->n++].address, sizeof s->nodes[0].address, "%s", address);
}

/* Hear of other nodes: a follower names its leader, a leader its followers. */
static void follow(struct survey *s, const redisReply *info)
{
    char host[256], port[16], address[280];

    text(info, "master_host", host, sizeof host);
    text(info, "master_port", port, sizeof port);
    if (*host && strcmp(port, "0") != 0) {
        snprintf(address, sizeof address, "%s:%s", host, port);
        add_address(s, address);
    }
    for (unsigned i = 0; i < NODES_MAX; i++) {
        char name[24];
        struct hf_slice line;

        snprintf(name, sizeof name, "slave%u", i);
        line = field(info, name);
        if (line.len == 0)
            break;
        if (part(line, "ip", host, sizeof host) && part(line, "port", port, sizeof port) && strcmp(port, "0") != 0) {
            snprintf(address, sizeof address, "%s:%s", host, port);
            add_address(s, address);
        }
    }
}

/* Members that a node knows and that nobody led us to are there as well, as down. */
static void add_missing(struct survey *s, const redisReply *info)
{
    for (unsigned i = 0; i < NODES_MAX && s->n < NODES_MAX; i++) {
        char name[24], id_text[24], address[256];
        struct hf_slice line;
        int64_t id;
        bool is_known = false;

        snprintf(name, sizeof name, "raft_peer%u", i);
        line = field(info, name);
        if (line.len == 0)
            break;
        if (!part(line, "id", id_text, sizeof id_text) || !hf_parse_int64(hf_slice_str(id_text), &id) ||
            !part(line, "address", address, sizeof address))
            continue;
        for (uint32_t k = 0; k < s->n; k++)
            is_known = is_known || s->nodes[k].id == (uint64_t)id;
        if (is_known)
            continue;
        s->nodes[s->n].id = (uint64_t)id;
        snprintf(s->nodes[s->n].address, sizeof s->nodes[0].address, "(peer port) %s", address);
        snprintf(s->nodes[s->n].state, sizeof s->nodes[0].state, "not reached");
        s->n++;
    }
}

static redisReply *ask(const struct hf_tool *tool, struct node *node)
{
    char why[512];
    redisContext *link = hf_tool_connect(tool, node->address, ANSWER_TIMEOUT_MS, why, sizeof why);
    redisReply *info;

    if (!link) {
        fprintf(stderr, "holdfast: %s\n", why);
        snprintf(node->state, sizeof node->state, "not reached");
        return NULL;
    }
    info = redisCommand(link, "INFO");
    if (!info) {
        fprintf(stderr, "holdfast: no answer from %s: %s\n", node->address, link->errstr);
        snprintf(node->state, sizeof node->state, "no answer");
    } else if (info->type != REDIS_REPLY_STRING || field(info, "raft_state").len == 0) {
        fprintf(stderr, "holdfast: %s: %s\n", node->address,
                info->type == REDIS_REPLY_ERROR ? info->str : "this is no holdfastd");
        snprintf(node->state, sizeof node->state, "error");
        freeReplyObject(info);
        info = NULL;
    }
    redisFree(link);
    return info;
}

static uint64_t part_number(struct hf_slice line, const char *key)
{
    char digits[24];
    int64_t n;

    return part(line, key, digits, sizeof digits) && hf_parse_int64(hf_slice_str(digits), &n) && n > 0 ? (uint64_t)n
                                                                                                       : 0;
}

static void read_copies(struct node *node, const redisReply *info)
{
    for (unsigned i = 0; i < COPIES_MAX; i++) {
        struct copy *copy = &node->copies[i];
        char name[24];
        struct hf_slice line;

        snprintf(name, sizeof name, "copy%u", i);
        line = field(info, name);
        if (line.len == 0)
            break;
        copy->member = part_number(line, "member");
        copy->index = part_number(line, "index");
        copy->done_bytes = part_number(line, "done_bytes");
        copy->total_bytes = part_number(line, "total_bytes");
        copy->bytes_per_second = part_number(line, "bytes_per_second");
        part(line, "direction", copy->direction, sizeof copy->direction);
        part(line, "phase", copy->phase, sizeof copy->phase);
        node->n_copies++;
    }
}

static void read_info(struct node *node, const redisReply *info)
{
    node->is_answering = true;
    text(info, "raft_state", node->state, sizeof node->state);
    text(info, "raft_cluster_id", node->cluster_id, sizeof node->cluster_id);
    text(info, "holdfast_version", node->version, sizeof node->version);
    node->id = number(info, "raft_node_id");
    node->term = number(info, "raft_term");
    node->leader_id = number(info, "raft_leader_id");
    node->commit_index = number(info, "raft_commit_index");
    node->applied_index = number(info, "raft_applied_index");
    node->clients = number(info, "connected_clients");
    node->rss_bytes = number(info, "used_memory_rss");
    node->uptime_s = number(info, "uptime_in_seconds");
    text(info, "member_name", node->name, sizeof node->name);
    text(info, "member_role", node->member_role, sizeof node->member_role);
    text(info, "raft_problem", node->problem, sizeof node->problem);
    node->journal_bytes = number(info, "journal_bytes");
    node->journal_bytes_max = number(info, "journal_bytes_max");
    node->level = number(info, "feature_level");
    node->level_max = number(info, "feature_level_max");
    read_copies(node, info);
}

static void survey_nodes(const struct hf_tool *tool, struct survey *s)
{
    redisReply *infos[NODES_MAX] = {0};

    for (uint32_t i = 0; i < tool->n_servers; i++)
        add_address(s, tool->servers[i]);
    for (uint32_t i = 0; i < s->n; i++) {
        struct node *node = &s->nodes[i];

        infos[i] = ask(tool, node);
        if (!infos[i])
            continue;
        read_info(node, infos[i]);
        follow(s, infos[i]);
        /* The same node under another name. */
        for (uint32_t k = 0; k < i; k++)
            if (s->nodes[k].is_answering && s->nodes[k].id == node->id &&
                strcmp(s->nodes[k].cluster_id, node->cluster_id) == 0)
                node->is_duplicate = true;
        if (!node->is_duplicate && strcmp(node->state, "leader") == 0 && (!s->leader || s->leader->term < node->term))
            s->leader = node;
    }
    for (uint32_t i = 0; i < NODES_MAX; i++) {
        if (infos[i]) {
            add_missing(s, infos[i]);
            freeReplyObject(infos[i]);
        }
    }
    for (uint32_t i = 0; i < s->n && s->leader; i++)
        if (s->nodes[i].is_answering && s->nodes[i].applied_index < s->leader->commit_index)
            s->nodes[i].lag = s->leader->commit_index - s->nodes[i].applied_index;
    /* In order of ids; addresses that gave no id come last. */
    for (uint32_t i = 1; i < s->n; i++) {
        for (uint32_t k = i; k > 0 && s->nodes[k].id - 1 < s->nodes[k - 1].id - 1; k--) {
            struct node swap = s->nodes[k];
            bool was_leader = s->leader == &s->nodes[k], was_previous = s->leader == &s->nodes[k - 1];

            s->nodes[k] = s->nodes[k - 1];
            s->nodes[k - 1] = swap;
            if (was_leader)
                s->leader = &s->nodes[k - 1];
            else if (was_previous)
                s->leader = &s->nodes[k];
        }
    }
}

/* ---- printing ----------------------------------------------------------------------------------------- */

static void format_duration(char *out, size_t cap, uint64_t s)
{
    if (s < 120)
        snprintf(out, cap, "%" PRIu64 " s", s);
    else if (s < 7200)
        snprintf(out, cap, "%" PRIu64 " min", s / 60);
    else if (s < 172800)
        snprintf(out, cap, "%" PRIu64 " h", s / 3600);
    else
        snprintf(out, cap, "%" PRIu64 " d", s / 86400);
}

/* A learner follows as well, but does not count; that is what matters of it. */
static const char *role_of(const struct node *node)
{
    bool is_plain = strcmp(node->state, "follower") == 0 && *node->member_role;

    return is_plain && strcmp(node->member_role, "voter") != 0 ? node->member_role : node->state;
}

static void print_node(const struct node *node, int name_width, int width)
{
    char id[24] = "?", memory[32], up[32], journal[32], limit[32], both[72];
    const char *name = *node->name ? node->name : "-";

    if (node->id)
        snprintf(id, sizeof id, "%" PRIu64, node->id);
    if (!node->is_answering) {
        printf("%4s  %-*s  %-*s  %-11s %6s %12s %12s %8s %8s %8s  %-19s %8s\n", id, name_width, name, width,
               node->address, node->state, "-", "-", "-", "-", "-", "-", "-", "-");
        return;
    }
    snprintf(memory, sizeof memory, "%" PRIu64 " MB", (node->rss_bytes + (1u << 19)) >> 20);
    hf_tool_format_bytes(journal, sizeof journal, node->journal_bytes);
    hf_tool_format_bytes(limit, sizeof limit, node->journal_bytes_max);
    snprintf(both, sizeof both, "%s of %s", journal, node->journal_bytes_max ? limit : "?");
    format_duration(up, sizeof up, node->uptime_s);
    printf("%4s  %-*s  %-*s  %-11s %6" PRIu64 " %12" PRIu64 " %12" PRIu64 " %8" PRIu64 " %8" PRIu64 " %8s  %-19s %8s\n",
           id, name_width, name, width, node->address, role_of(node), node->term, node->commit_index,
           node->applied_index, node->lag, node->clients, memory, both, up);
}

static unsigned percent_of(const struct copy *copy)
{
    return copy->total_bytes ? (unsigned)(copy->done_bytes * 100 / copy->total_bytes) : 0;
}

/* A copy between two nodes that both answer is told by its receiver: it knows what has arrived. */
static bool is_told_by_receiver(const struct survey *s, const struct node *sender, const struct copy *copy)
{
    for (uint32_t i = 0; i < s->n; i++) {
        const struct node *node = &s->nodes[i];

        if (!node->is_answering || node->is_duplicate || node->id != copy->member)
            continue;
        for (uint32_t k = 0; k < node->n_copies; k++)
            if (strcmp(node->copies[k].direction, "in") == 0 && node->copies[k].member == sender->id)
                return true;
    }
    return false;
}

static void print_copies(const struct survey *s)
{
    for (uint32_t i = 0; i < s->n; i++) {
        const struct node *node = &s->nodes[i];

        for (uint32_t k = 0; k < node->n_copies && !node->is_duplicate; k++) {
            const struct copy *copy = &node->copies[k];
            bool is_out = strcmp(copy->direction, "out") == 0;
            char done[32], total[32];

            if (is_out && is_told_by_receiver(s, node, copy))
                continue;
            hf_tool_format_bytes(done, sizeof done, copy->done_bytes);
            hf_tool_format_bytes(total, sizeof total, copy->total_bytes);
            printf("copy of the state from node %" PRIu64 " to node %" PRIu64 ": %s, %u %%, %s of %s, %.1f MB/s\n",
                   is_out ? node->id : copy->member, is_out ? copy->member : node->id, copy->phase, percent_of(copy),
                   done, total, (double)copy->bytes_per_second / 1e6);
        }
    }
}

static void print_table(const struct survey *s)
{
    uint32_t n_answering = 0, n_nodes = 0;
    int width = 7, name_width = 4;

    for (uint32_t i = 0; i < s->n; i++) {
        const struct node *node = &s->nodes[i];

        if (node->is_duplicate)
            continue;
        width = (int)strlen(node->address) > width ? (int)strlen(node->address) : width;
        name_width = (int)strlen(node->name) > name_width ? (int)strlen(node->name) : name_width;
    }
    printf("%4s  %-*s  %-*s  %-11s %6s %12s %12s %8s %8s %8s  %-19s %8s\n", "NODE", name_width, "NAME", width,
           "ADDRESS", "ROLE", "TERM", "COMMIT", "APPLIED", "LAG", "CLIENTS", "MEMORY", "JOURNAL", "UP");
    for (uint32_t i = 0; i < s->n; i++) {
        if (s->nodes[i].is_duplicate)
            continue;
        n_nodes++;
        n_answering += s->nodes[i].is_answering;
        print_node(&s->nodes[i], name_width, width);
    }
    printf("\n");
    print_copies(s);
    for (uint32_t i = 0; i < s->n; i++)
        if (!s->nodes[i].is_duplicate && *s->nodes[i].problem)
            printf("node %" PRIu64 ": %s\n", s->nodes[i].id, s->nodes[i].problem);
    printf("%" PRIu32 " of %" PRIu32 " nodes answer; ", n_answering, n_nodes);
    if (s->leader)
        printf("node %" PRIu64 " leads; feature level %" PRIu64 ".\n", s->leader->id, s->leader->level);
    else
        printf("none of them leads.\n");
}

static void print_json_copies(struct hf_buf *out, const struct node *node)
{
    hf_buf_printf(out, ",\"copies\":[");
    for (uint32_t i = 0; i < node->n_copies; i++) {
        const struct copy *copy = &node->copies[i];

        hf_buf_printf(out, "%s{\"member\":%" PRIu64 ",\"direction\":", i ? "," : "", copy->member);
        hf_tool_print_json_text(out, copy->direction, strlen(copy->direction));
        hf_buf_printf(out, ",\"phase\":");
        hf_tool_print_json_text(out, copy->phase, strlen(copy->phase));
        hf_buf_printf(out,
                      ",\"index\":%" PRIu64 ",\"done_bytes\":%" PRIu64 ",\"total_bytes\":%" PRIu64
                      ",\"percent\":%u,\"bytes_per_second\":%" PRIu64 "}",
                      copy->index, copy->done_bytes, copy->total_bytes, percent_of(copy), copy->bytes_per_second);
    }
    hf_buf_put_u8(out, ']');
}

static void print_json(const struct survey *s)
{
    struct hf_buf out = {0};
    bool is_first = true;

    hf_buf_printf(&out, "{\"leader_id\":%" PRIu64 ",\"nodes\":[", s->leader ? s->leader->id : 0);
    for (uint32_t i = 0; i < s->n; i++) {
        const struct node *node = &s->nodes[i];

        if (node->is_duplicate)
            continue;
        hf_buf_printf(&out, "%s{\"id\":%" PRIu64 ",\"address\":", is_first ? "" : ",", node->id);
        is_first = false;
        hf_tool_print_json_text(&out, node->address, strlen(node->address));
        hf_buf_printf(&out, ",\"answers\":%s,\"role\":", node->is_answering ? "true" : "false");
        hf_tool_print_json_text(&out, node->state, strlen(node->state));
        if (node->is_answering) {
            hf_buf_printf(&out, ",\"version\":");
            hf_tool_print_json_text(&out, node->version, strlen(node->version));
            hf_buf_printf(&out, ",\"cluster_id\":");
            hf_tool_print_json_text(&out, node->cluster_id, strlen(node->cluster_id));
            hf_buf_printf(&out,
                          ",\"term\":%" PRIu64 ",\"leader_id\":%" PRIu64 ",\"commit_index\":%" PRIu64
                          ",\"applied_index\":%" PRIu64 ",\"lag\":%" PRIu64 ",\"clients\":%" PRIu64
                          ",\"rss_bytes\":%" PRIu64 ",\"uptime_s\":%" PRIu64,
                          node->term, node->leader_id, node->commit_index, node->applied_index, node->lag,
                          node->clients, node->rss_bytes, node->uptime_s);
            hf_buf_printf(&out, ",\"name\":");
            hf_tool_print_json_text(&out, node->name, strlen(node->name));
            hf_buf_printf(&out, ",\"member_role\":");
            hf_tool_print_json_text(&out, node->member_role, strlen(node->member_role));
            hf_buf_printf(&out,
                          ",\"journal_bytes\":%" PRIu64 ",\"journal_bytes_max\":%" PRIu64 ",\"level\":%" PRIu64
                          ",\"level_max\":%" PRIu64 ",\"problem\":",
                          node->journal_bytes, node->journal_bytes_max, node->level, node->level_max);
            hf_tool_print_json_text(&out, node->problem, strlen(node->problem));
            print_json_copies(&out, node);
        }
        hf_buf_put_u8(&out, '}');
    }
    hf_buf_printf(&out, "]}\n");
    fwrite(out.data, 1, out.len, stdout);
    hf_buf_free(&out);
}

static void print_help(void)
{
    printf(
        "usage: holdfast status [options]\n\n"
        "Asks the nodes given, the leader they name and the followers it names. LAG is how many log entries a node\n"
        "has not applied of those the leader has committed; JOURNAL is its size of its limit. Below the table: states\n"
        "on their way to members that lag, and what keeps a node from serving. The exit status is 0 when there is a\n"
        "leader, every member answers and none has a problem, else 1 (3: nobody answered).\n\n%s",
        hf_tool_options_help);
}

int hf_tool_status(struct hf_tool *tool, int argc, char **argv)
{
    struct survey s = {0};
    uint32_t n_answering = 0, n_nodes = 0;
    bool has_problem = false;

    for (int i = 1; i < argc; i++) {
        int taken = hf_tool_option(tool, argc, argv, &i);

        if (taken < 0)
            return HF_TOOL_USAGE;
        if (taken > 0)
            continue;
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_help();
            return HF_TOOL_OK;
        }
        fprintf(stderr, "holdfast: status takes no '%s' (try holdfast status --help)\n", argv[i]);
        return HF_TOOL_USAGE;
    }
    hf_tool_default_server(tool);
    survey_nodes(tool, &s);
    for (uint32_t i = 0; i < s.n; i++) {
        n_nodes += !s.nodes[i].is_duplicate;
        n_answering += !s.nodes[i].is_duplicate && s.nodes[i].is_answering;
        has_problem = has_problem || (!s.nodes[i].is_duplicate && *s.nodes[i].problem);
    }
    if (tool->style == HF_TOOL_JSON)
        print_json(&s);
    else if (n_answering > 0)
        print_table(&s);
    if (n_answering == 0)
        return HF_TOOL_NO_SERVER;
    return s.leader && n_answering == n_nodes && !has_problem ? HF_TOOL_OK : HF_TOOL_FAILED;
}
