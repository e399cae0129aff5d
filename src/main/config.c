/* config.c: the table of settings, where their values come from at the start, and the texts made from it. See
 * config.h. */
#include "base/mem.h"
#include "base/util.h"
#include "main/config_table.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AT(field) offsetof(struct hf_config, field)
#define KB        UINT64_C(1024)
#define MB        (KB * 1024)
#define GB        (MB * 1024)

const struct hf_setting hf_settings_table[] = {
    {"id", NUMBER, AT(id), "1", 1, 1000000, FIXED, NULL, NULL, "Identity and addresses",
     "number of this node in the cluster; stays with its data directory for ever; with --join the cluster gives it"},
    {"name", WORD, AT(name), "", 0, 64, FIXED, NULL, NULL, NULL,
     "what operators call this node: letters, digits, '.', '_', '-'; stays with its data directory; empty = its id"},
    {"listen", TEXT, AT(listen), "127.0.0.1:7379", 0, 0, FIXED, NULL, NULL, NULL, "host:port where clients connect"},
    {"advertise", TEXT, AT(advertise), "", 0, 0, FIXED, NULL, NULL, NULL,
     "host:port that is told to clients and tools as this node's; empty = what --listen says"},
    {"peer-listen", TEXT, AT(peer_listen), "127.0.0.1:17379", 0, 0, FIXED, NULL, NULL, NULL,
     "host:port where the other members connect; as --peers spells it"},
    {"http-listen", TEXT, AT(http_listen), "127.0.0.1:8379", 0, 0, FIXED, NULL, NULL, NULL,
     "host:port of /metrics, /healthz, /readyz and /status; empty = none"},
    {"peers", TEXT, AT(peers), "", 0, 0, FIXED, NULL, NULL, NULL,
     "all members at the first start, \"1=host:port,2=host:port,3=host:port\"; empty = this node alone"},
    {"peer-advertise", ADDRESS, AT(peer_advertise), "", 0, 1, FIXED, NULL, NULL, NULL,
     "host:port where the other members reach --peer-listen, when it differs; may change from start to start"},
    {"join", ADDRESS, AT(join), "", 0, 16, FIXED, NULL, NULL, NULL,
     "peer addresses of members of a cluster that this node joins, \"host:port,host:port\"; means nothing once it has "
     "joined"},
    {"join-as-learner", FLAG, AT(join_as_learner), "no", 0, 0, FIXED, NULL, NULL, NULL,
     "joins to keep a copy of the state without a vote"},
    {"replaces", WORD, AT(replaces), "", 0, 64, FIXED, NULL, NULL, NULL,
     "joins in the place of this member (name or id), which is then removed"},
    {"cluster-id", TEXT, AT(cluster_id), "", 0, 0, FIXED, NULL, NULL, NULL,
     "a word that names the cluster, so that members of another one are refused; empty = made from --peers"},
    {"dir", TEXT, AT(dir), "./holdfast-data", 0, 0, FIXED, NULL, NULL, NULL,
     "data directory, of this node alone; created if missing"},
    {"log-level", CHOICE, AT(log_level), "info", 0, 0, LIVE, "loglevel", "debug|info|warn|error", "Logging",
     "least serious lines that are written"},
    {"log-format", CHOICE, AT(log_format), "text", 0, 0, FIXED, NULL, "text|json", NULL, "form of a line"},
    {"log-file", TEXT, AT(log_file), "", 0, 0, FIXED, "logfile", NULL, NULL, "file to append to; empty = stderr"},
    {"requirepass", TEXT, AT(requirepass), "", 0, 0, LIVE, "requirepass", NULL, "Clients",
     "password that clients must give (AUTH); empty = none. Every node needs the same"},
    {"maxclients", NUMBER, AT(maxclients), "10000", 1, 1000000, LIVE, "maxclients", NULL, NULL,
     "client connections of this node"},
    {"timeout", SECONDS, AT(timeout_s), "0", 0, 31536000, LIVE, "timeout", NULL, NULL,
     "close a client that was silent for so many seconds; 0 = never"},
    {"proto-max-bulk-len", BYTES, AT(bulk_bytes_max), "64mb", KB, 512 * MB, LIVE, "proto-max-bulk-len", NULL, NULL,
     "longest argument of a command"},
    {"max-args", NUMBER, AT(args_max), "1048576", 16, 16777216, LIVE, NULL, NULL, NULL, "arguments of one command"},
    {"client-query-buffer-limit", BYTES, AT(query_bytes_max), "1gb", MB, 4 * GB, LIVE, "client-query-buffer-limit",
     NULL, NULL, "longest command with all its arguments"},
    {"client-output-buffer-limit", BYTES, AT(output_bytes_max), "1gb", MB, 4 * GB, FIXED, NULL, NULL, NULL,
     "a client that leaves more replies than this unread is disconnected"},
    {"max-pipeline", NUMBER, AT(pipeline_max), "1024", 1, 1048576, FIXED, NULL, NULL, NULL,
     "commands of one connection under way at a time; more wait unread"},
    {"no-leader-timeout", MILLIS, AT(no_leader_timeout_ms), "5000", 0, 3600000, FIXED, NULL, NULL, "Commands",
     "how long a command waits for a leader before NOLEADER"},
    {"unknown-timeout", MILLIS, AT(unknown_timeout_ms), "5000", 100, 3600000, FIXED, NULL, NULL, NULL,
     "how long a proposed write may stay uncommitted before its client is told UNKNOWN"},
    {"entry-bytes", BYTES, AT(entry_bytes_max), "256kb", KB, 64 * MB, FIXED, NULL, NULL, NULL,
     "size at which a batch of commands is closed into a log entry"},
    {"entries-in-flight", NUMBER, AT(entries_in_flight), "4", 1, 256, FIXED, NULL, NULL, NULL,
     "log entries proposed and not yet committed; more commands are packed into the next one"},
    {"propose-queue-bytes", BYTES, AT(propose_queue_bytes), "128mb", MB, 4 * GB, FIXED, NULL, NULL, NULL,
     "commands waiting for their entry; beyond it clients are not read"},
    {"election-timeout", MILLIS, AT(election_timeout_ms), "600", 100, 60000, CLUSTER, NULL, NULL, "Consensus",
     "silence of the leader after which followers campaign (each waits one to two times this)"},
    {"heartbeat", MILLIS, AT(heartbeat_ms), "100", 10, 10000, CLUSTER, NULL, NULL, NULL,
     "interval of the leader's messages when idle; at most a quarter of election-timeout"},
    {"journal-segment-bytes", BYTES, AT(journal_segment_bytes), "16mb", 64 * KB, GB, FIXED, NULL, NULL, NULL,
     "size of a journal file"},
    {"journal-tail-bytes", BYTES, AT(journal_tail_bytes), "8mb", 64 * KB, GB, FIXED, NULL, NULL, NULL,
     "newest entries kept in memory"},
    {"journal-retain-bytes", BYTES, AT(journal_retain_bytes), "32mb", 64 * KB, 64 * GB, CLUSTER, NULL, NULL, NULL,
     "journal kept behind the last marker for members that are a little behind"},
    {"journal-max-bytes", BYTES, AT(journal_max_bytes), "1gb", MB, 1024 * GB, CLUSTER, NULL, NULL, NULL,
     "journal kept at most for a voter that lags further"},
    {"journal-pin", BYTES, AT(journal_pin_bytes), "1gb", MB, 1024 * GB, FIXED, NULL, NULL, NULL,
     "journal kept beyond journal-max-bytes while a copy of the state is on its way to a member"},
    {"transfer-rate", BYTES, AT(transfer_rate), "0", 0, 1024 * GB, CLUSTER, NULL, NULL, NULL,
     "bytes a second that a node sends copies of its state with at most; 0 = as fast as it goes"},
    {"snapshot-journal-bytes", BYTES, AT(snapshot_journal_bytes), "16mb", 64 * KB, 64 * GB, CLUSTER, NULL, NULL, NULL,
     "growth of the journal after which it is cut"},
    {"commit-interval", MILLIS, AT(commit_interval_ms), "1000", 10, 60000, CLUSTER, NULL, NULL, "State",
     "longest time between commits of the database; the journal covers what is in between"},
    {"commit-bytes", BYTES, AT(commit_bytes_max), "32mb", MB, GB, FIXED, NULL, NULL, NULL,
     "uncommitted changes that bring a commit on earlier"},
    {"store-cache-bytes", BYTES, AT(cache_bytes), "32mb", MB, 1024 * GB, FIXED, NULL, NULL, NULL,
     "memory for hot keys"},
    {"store-dirty-bytes", BYTES, AT(dirty_bytes), "16mb", 64 * KB, 64 * GB, FIXED, NULL, NULL, NULL,
     "changed keys held in memory before they are written to the database"},
    {"store-page-cache-bytes", BYTES, AT(page_cache_bytes), "16mb", 256 * KB, 1024 * GB, FIXED, NULL, NULL, NULL,
     "memory for database pages"},
    {"min-free-disk", BYTES, AT(free_disk_min), "256mb", 0, 1024 * GB, CLUSTER, NULL, NULL, NULL,
     "with less free space than this on any member, writes that grow the state are refused (NOSPACE); 0 = never"},
    {"enable-debug-command", FLAG, AT(enable_debug_command), "no", 0, 0, FIXED, "enable-debug-command", NULL, NULL,
     "allow the DEBUG command (tests)"},
};
const size_t hf_n_settings = sizeof hf_settings_table / sizeof hf_settings_table[0];

/* Parameters of Redis 7.2 that tools read and set; kept, and without effect here. */
const struct hf_redis_parameter hf_redis_parameters[] = {
    {"save", ""},
    {"appendonly", "yes"},
    {"appendfsync", "always"},
    {"maxmemory", "0"},
    {"maxmemory-policy", "noeviction"},
    {"maxmemory-samples", "5"},
    {"databases", "1"},
    {"notify-keyspace-events", ""},
    {"replica-read-only", "yes"},
    {"slave-read-only", "yes"},
    {"replica-serve-stale-data", "no"},
    {"tcp-keepalive", "300"},
    {"tcp-backlog", "511"},
    {"hz", "10"},
    {"latency-monitor-threshold", "0"},
    {"slowlog-log-slower-than", "10000"},
    {"slowlog-max-len", "128"},
    {"lua-time-limit", "5000"},
    {"busy-reply-threshold", "5000"},
    {"lazyfree-lazy-eviction", "no"},
    {"lazyfree-lazy-expire", "no"},
    {"lazyfree-lazy-server-del", "no"},
    {"lazyfree-lazy-user-del", "no"},
    {"lazyfree-lazy-user-flush", "no"},
    {"activedefrag", "no"},
    {"hash-max-listpack-entries", "128"},
    {"hash-max-listpack-value", "64"},
    {"list-max-listpack-size", "-2"},
    {"set-max-intset-entries", "512"},
    {"zset-max-listpack-entries", "128"},
    {"zset-max-listpack-value", "64"},
    {"stream-node-max-entries", "100"},
    {"min-replicas-to-write", "0"},
    {"min-slaves-to-write", "0"},
    {"cluster-enabled", "no"},
    {"protected-mode", "no"},
    {"rdbcompression", "yes"},
    {"rdbchecksum", "yes"},
    {"stop-writes-on-bgsave-error", "yes"},
    {"dbfilename", ""},
    {"daemonize", "no"},
    {"supervised", "no"},
    {"io-threads", "1"},
};
const size_t hf_n_redis_parameters = sizeof hf_redis_parameters / sizeof hf_redis_parameters[0];

/* ---- values ------------------------------------------------------------------------------------------- */

static void *field(const struct hf_config *c, const struct hf_setting *s)
{
    return (char *)(uintptr_t)c + s->offset;
}

static bool choice_is_listed(const char *choices, const char *value)
{
    size_t n = strlen(value);

    for (const char *at = choices; *at; at += strcspn(at, "|"), at += *at == '|') {
        if (strcspn(at, "|") == n && strncmp(at, value, n) == 0)
            return true;
    }
    return false;
}

static void format_limit(char *out, size_t cap, enum hf_setting_type type, uint64_t v)
{
    if (type == BYTES && v >= GB && v % GB == 0)
        snprintf(out, cap, "%" PRIu64 "gb", v / GB);
    else if (type == BYTES && v >= MB && v % MB == 0)
        snprintf(out, cap, "%" PRIu64 "mb", v / MB);
    else if (type == BYTES && v >= KB && v % KB == 0)
        snprintf(out, cap, "%" PRIu64 "kb", v / KB);
    else
        snprintf(out, cap, "%" PRIu64, v);
}

static bool check_word(const struct hf_setting *s, const char *value, char *err, size_t err_size)
{
    size_t n = strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");

    if (n <= s->high && value[n] == 0)
        return true;
    snprintf(err, err_size, "%s must be at most %" PRIu64 " letters, digits, '.', '_' and '-', not '%.80s'", s->name,
             s->high, value);
    return false;
}

/* host:port, and as many as `high` of them between commas. */
static bool check_addresses(const struct hf_setting *s, const char *value, char *err, size_t err_size)
{
    const char *at = value;
    uint64_t n = 0;
    bool ok = true;

    while (ok && *at) {
        size_t len = strcspn(at, ",");
        const char *colon = memrchr(at, ':', len);
        int64_t port;

        ok = colon && colon > at && len <= HF_CONFIG_ADDRESS_MAX && ++n <= s->high &&
             hf_parse_int64(hf_slice(colon + 1, (size_t)(at + len - colon - 1)), &port) && port > 0 && port < 65536 &&
             strcspn(at, " \t") >= len;
        at += len;
        if (ok && *at == ',')
            ok = *++at != 0;
    }
    if (!ok)
        snprintf(err, err_size, "%s must be host:port%s, not '%.80s'", s->name,
                 s->high > 1 ? " or several of them with commas between" : "", value);
    return ok;
}

bool hf_setting_check(const struct hf_setting *s, const char *value, uint64_t *number, char *err, size_t err_size)
{
    char low[32], high[32];
    int64_t v;

    switch (s->type) {
    case TEXT:
        return true;
    case WORD:
        return check_word(s, value, err, err_size);
    case ADDRESS:
        return check_addresses(s, value, err, err_size);
    case CHOICE:
        if (choice_is_listed(s->choices, value))
            return true;
        snprintf(err, err_size, "%s must be one of %s, not '%.60s'", s->name, s->choices, value);
        return false;
    case FLAG:
        *number = strcmp(value, "yes") == 0 || strcmp(value, "true") == 0 || strcmp(value, "1") == 0;
        if (*number || strcmp(value, "no") == 0 || strcmp(value, "false") == 0 || strcmp(value, "0") == 0)
            return true;
        snprintf(err, err_size, "%s must be yes or no, not '%.60s'", s->name, value);
        return false;
    case BYTES:
        if (!hf_parse_bytes(value, number)) {
            snprintf(err, err_size, "%s must be a size such as 512kb, 64mb or 1gb, not '%.60s'", s->name, value);
            return false;
        }
        break;
    case NUMBER:
    case MILLIS:
    case SECONDS:
        if (!hf_parse_int64(hf_slice_str(value), &v) || v < 0) {
            snprintf(err, err_size, "%s must be a whole number%s, not '%.60s'", s->name,
                     s->type == MILLIS    ? " of milliseconds"
                     : s->type == SECONDS ? " of seconds"
                                          : "",
                     value);
            return false;
        }
        *number = (uint64_t)v;
        break;
    }
    if (*number < s->low || *number > s->high) {
        format_limit(low, sizeof low, s->type, s->low);
        format_limit(high, sizeof high, s->type, s->high);
        snprintf(err, err_size, "%s must be from %s to %s, not %.60s", s->name, low, high, value);
        return false;
    }
    return true;
}

bool hf_setting_assign(struct hf_config *c, const struct hf_setting *s, const char *value, char *err, size_t err_size)
{
    uint64_t number = 0;

    if (!hf_setting_check(s, value, &number, err, err_size))
        return false;
    switch (s->type) {
    case TEXT:
    case WORD:
    case ADDRESS:
    case CHOICE: {
        char **text = field(c, s);

        hf_free(*text);
        *text = hf_strdup(value);
        break;
    }
    case FLAG:
        *(bool *)field(c, s) = number != 0;
        break;
    case NUMBER:
    case BYTES:
    case MILLIS:
    case SECONDS:
        *(uint64_t *)field(c, s) = number;
        break;
    }
    return true;
}

void hf_setting_print(const struct hf_config *c, const struct hf_setting *s, char *out, size_t cap)
{
    switch (s->type) {
    case TEXT:
    case WORD:
    case ADDRESS:
    case CHOICE:
        snprintf(out, cap, "%s", *(char **)field(c, s));
        break;
    case FLAG:
        snprintf(out, cap, "%s", *(bool *)field(c, s) ? "yes" : "no");
        break;
    case NUMBER:
    case BYTES:
    case MILLIS:
    case SECONDS:
        snprintf(out, cap, "%" PRIu64, *(uint64_t *)field(c, s));
        break;
    }
}

static const struct hf_setting *find(const char *name, size_t n)
{
    for (size_t i = 0; i < hf_n_settings; i++)
        if (strlen(hf_settings_table[i].name) == n && strncasecmp(hf_settings_table[i].name, name, n) == 0)
            return &hf_settings_table[i];
    return NULL;
}

/* ---- sources ------------------------------------------------------------------------------------------ */

static bool load_environment(struct hf_config *c, char *err, size_t err_size)
{
    for (size_t i = 0; i < hf_n_settings; i++) {
        char name[80], why[256];
        size_t n = (size_t)snprintf(name, sizeof name, "HOLDFAST_%s", hf_settings_table[i].name);
        const char *value;

        for (size_t k = 0; k < n; k++)
            name[k] = name[k] == '-' ? '_' : (char)toupper((unsigned char)name[k]);
        value = getenv(name);
        if (!value)
            continue;
        if (!hf_setting_assign(c, &hf_settings_table[i], value, why, sizeof why)) {
            snprintf(err, err_size, "environment variable %s: %s", name, why);
            return false;
        }
        hf_config_note_origin(c, &hf_settings_table[i], name);
    }
    return true;
}

/* One line `name value`; quotes may hold blanks, # starts a comment. */
static bool load_line(struct hf_config *c, const char *path, char *line, char *err, size_t err_size)
{
    char *name = line + strspn(line, " \t"), *value, *end;
    const struct hf_setting *s;

    if (*name == '#' || *name == 0)
        return true;
    value = name + strcspn(name, " \t");
    s = find(name, (size_t)(value - name));
    if (!s) {
        *value = 0;
        snprintf(err, err_size, "unknown setting '%.60s'", name);
        return false;
    }
    value += strspn(value, " \t");
    if (*value == '"') {
        end = strchr(++value, '"');
        if (!end) {
            snprintf(err, err_size, "%s: a closing quote is missing", s->name);
            return false;
        }
        if (end[1 + strspn(end + 1, " \t")] != 0) {
            snprintf(err, err_size, "%s: text follows the closing quote", s->name);
            return false;
        }
        *end = 0;
    } else {
        end = value + strlen(value);
        while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
            *--end = 0;
    }
    hf_config_note_origin(c, s, path);
    return hf_setting_assign(c, s, value, err, err_size);
}

static bool load_file(struct hf_config *c, const char *path, char *err, size_t err_size)
{
    char *line = NULL, why[256], full[PATH_MAX];
    size_t cap = 0;
    unsigned number = 0;
    bool ok = true;
    FILE *f = fopen(path, "re");

    if (!f) {
        snprintf(err, err_size, "cannot read the configuration file %s: %s", path,
                 hf_strerror(hf_err_from_errno(errno)));
        return false;
    }
    while (ok && getline(&line, &cap, f) >= 0) {
        number++;
        line[strcspn(line, "\r\n")] = 0;
        ok = load_line(c, path, line, why, sizeof why);
        if (!ok)
            snprintf(err, err_size, "%s:%u: %s", path, number, why);
    }
    if (ok && ferror(f)) {
        ok = false;
        snprintf(err, err_size, "cannot read the configuration file %s: %s", path,
                 errno == EISDIR ? "it is a directory" : hf_strerror(hf_err_from_errno(errno)));
    }
    free(line);
    fclose(f);
    hf_free(c->config_file);
    c->config_file = hf_strdup(realpath(path, full) ? full : path);
    return ok;
}

struct flag {
    const char *name, *value;
    size_t n;
};

/* Take argv apart: settings into flags, the rest into want and path. */
static bool read_flags(int argc, char **argv, struct flag *flags, size_t *n, const char **path,
                       enum hf_config_want *want, char *err, size_t err_size)
{
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i], *equals = strchr(arg, '='), *value = NULL;
        size_t len = equals ? (size_t)(equals - arg) : strlen(arg);

        if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
            *want = HF_CONFIG_HELP;
            continue;
        }
        if (strcmp(arg, "--version") == 0) {
            *want = HF_CONFIG_VERSION;
            continue;
        }
        if (strcmp(arg, "--print-config") == 0) {
            *want = HF_CONFIG_PRINT_CONFIG;
            continue;
        }
        if (strcmp(arg, "--print-docs") == 0) {
            *want = HF_CONFIG_PRINT_DOCS;
            continue;
        }
        bool is_file = len == 8 && strncmp(arg, "--config", 8) == 0;

        if (strncmp(arg, "--", 2) != 0 || (!is_file && !find(arg + 2, len - 2))) {
            snprintf(err, err_size, "unknown option '%.80s' (try --help)", arg);
            return false;
        }
        value = equals ? equals + 1 : i + 1 < argc ? argv[++i] : NULL;
        if (!value) {
            snprintf(err, err_size, "%.80s needs a value", arg);
            return false;
        }
        if (is_file) {
            *path = value;
            continue;
        }
        flags[*n].name = arg + 2;
        flags[*n].n = len - 2;
        flags[(*n)++].value = value;
    }
    return true;
}

bool hf_config_check_limits(uint64_t bulk_bytes_max, uint64_t query_bytes_max, char *err, size_t err_size)
{
    if (query_bytes_max >= bulk_bytes_max)
        return true;
    snprintf(err, err_size, "client-query-buffer-limit must not be below proto-max-bulk-len");
    return false;
}

bool hf_config_check_timeouts(uint64_t heartbeat_ms, uint64_t election_timeout_ms, char *err, size_t err_size)
{
    if (heartbeat_ms * 4 <= election_timeout_ms)
        return true;
    snprintf(err, err_size, "heartbeat (%" PRIu64 " ms) must be at most a quarter of election-timeout (%" PRIu64 " ms)",
             heartbeat_ms, election_timeout_ms);
    return false;
}

bool hf_config_check_together(const struct hf_config *c, char *err, size_t err_size)
{
    if (!hf_config_check_timeouts(c->heartbeat_ms, c->election_timeout_ms, err, err_size))
        return false;
    if (*c->join && *c->peers) {
        snprintf(err, err_size,
                 "--join and --peers do not go together: --peers forms a new cluster, --join enters one that runs");
        return false;
    }
    if (!*c->join && (*c->replaces || c->join_as_learner)) {
        snprintf(err, err_size, "--%s says how to join and needs --join",
                 *c->replaces ? "replaces" : "join-as-learner");
        return false;
    }
    return hf_config_check_limits(c->bulk_bytes_max, c->query_bytes_max, err, err_size);
}

int hf_config_load(struct hf_config *out, int argc, char **argv, enum hf_config_want *want, char *err, size_t err_size)
{
    struct flag *flags = hf_calloc((size_t)argc + 1, sizeof *flags);
    const char *path = NULL;
    size_t n = 0;
    bool ok = true;

    memset(out, 0, sizeof *out);
    *want = HF_CONFIG_RUN;
    out->config_file = hf_strdup("");
    out->run = hf_config_run_new();
    for (size_t i = 0; i < hf_n_settings && ok; i++)
        ok = hf_setting_assign(out, &hf_settings_table[i], hf_settings_table[i].value, err, err_size);
    ok = ok && read_flags(argc, argv, flags, &n, &path, want, err, err_size);
    if (ok && *want == HF_CONFIG_RUN) {
        ok = load_environment(out, err, err_size);
        if (!path)
            path = getenv("HOLDFAST_CONFIG");
        if (ok && path)
            ok = load_file(out, path, err, err_size);
        for (size_t i = 0; i < n && ok; i++) {
            const struct hf_setting *s = find(flags[i].name, flags[i].n);
            char why[256], flag[80];

            snprintf(flag, sizeof flag, "--%s", s->name);
            hf_config_note_origin(out, s, flag);
            ok = hf_setting_assign(out, s, flags[i].value, why, sizeof why);
            if (!ok)
                snprintf(err, err_size, "--%s", why);
        }
        out->is_id_given = hf_config_origin(out, &hf_settings_table[0]) != NULL;
        if (!out->is_id_given && *out->join)
            out->id = 0;
        ok = ok && hf_config_check_together(out, err, err_size);
    }
    hf_free(flags);
    if (!ok)
        hf_config_free(out);
    return ok ? 0 : HF_E_INVALID;
}

void hf_config_free(struct hf_config *c)
{
    for (size_t i = 0; i < hf_n_settings; i++)
        if (hf_setting_is_text(&hf_settings_table[i]))
            hf_free(*(char **)field(c, &hf_settings_table[i]));
    hf_config_run_free(c->run);
    hf_free(c->config_file);
    memset(c, 0, sizeof *c);
}

/* ---- texts -------------------------------------------------------------------------------------------- */

static const char *placeholder(const struct hf_setting *s)
{
    switch (s->type) {
    case TEXT:
        return "TEXT";
    case WORD:
        return "NAME";
    case ADDRESS:
        return s->high > 1 ? "HOST:PORT,..." : "HOST:PORT";
    case NUMBER:
        return "N";
    case BYTES:
        return "SIZE";
    case MILLIS:
        return "MS";
    case SECONDS:
        return "S";
    case FLAG:
        return "yes|no";
    case CHOICE:
        return s->choices;
    }
    return "";
}

void hf_config_help(struct hf_buf *out)
{
    hf_buf_printf(out,
                  "usage: holdfastd [--SETTING VALUE ...]\n\n"
                  "A Raft-replicated server that speaks the Redis protocol. Without arguments: one node on\n"
                  "127.0.0.1:7379 with its data in ./holdfast-data.\n\n"
                  "Every setting can be given as --SETTING VALUE, as a line `SETTING VALUE` in the file of --config,\n"
                  "or as the environment variable HOLDFAST_SETTING (in capitals, - becomes _); the first of these\n"
                  "wins. A SIZE is a number with kb, mb or gb. What is marked live can be changed with CONFIG SET "
                  "while the node runs,\n"
                  "for itself or for the whole cluster; that is kept and wins at the next start.\n\n"
                  "      --config FILE           read settings from FILE\n"
                  "      --print-config          print a configuration file with every setting\n"
                  "      --version               print the version\n"
                  "  -h, --help                  print this\n");
    for (size_t i = 0; i < hf_n_settings; i++) {
        const struct hf_setting *s = &hf_settings_table[i];
        char left[64];

        if (s->section)
            hf_buf_printf(out, "\n%s\n", s->section);
        snprintf(left, sizeof left, "--%s %s", s->name, placeholder(s));
        hf_buf_printf(out, "  %-38s  %s%s%s%s%s\n", left, s->help,
                      s->scope == FIXED  ? ""
                      : s->scope == LIVE ? " [live]"
                                         : " [live, cluster]",
                      *s->value ? " (" : "", s->value, *s->value ? ")" : "");
    }
}

void hf_config_sample(struct hf_buf *out)
{
    hf_buf_printf(out, "# Settings of holdfastd with their defaults. Take the # away to change one.\n"
                       "# A flag on the command line wins over this file, this file over the environment.\n");
    for (size_t i = 0; i < hf_n_settings; i++) {
        const struct hf_setting *s = &hf_settings_table[i];

        if (s->section)
            hf_buf_printf(out, "\n## %s\n", s->section);
        hf_buf_printf(out, "\n# %s\n# %s %s%s%s\n", s->help, s->name, *s->value ? "" : "\"", s->value,
                      *s->value ? "" : "\"");
    }
}

void hf_config_markdown(struct hf_buf *out)
{
    static const char *const live_words[] = {[FIXED] = "", [LIVE] = "node", [CLUSTER] = "cluster"};

    hf_buf_printf(
        out, "# Configuration\n\n"
             "Generated by `holdfastd --print-docs`. A setting comes from, strongest first: the command line\n"
             "(`--max-args 1000`), the file given with `--config` (`max-args 1000`), the environment\n"
             "(`HOLDFAST_MAX_ARGS=1000`), the default.\n\n"
             "`CONFIG SET` changes some while the node runs, and that is kept: `CONFIG REWRITE` has nothing left\n"
             "to do and answers OK.\n\n"
             "- Live *node*: for the node that was asked. It is kept in `settings` in the data directory and wins\n"
             "  over all the sources above at the next start, which the log then tells. To give such a setting\n"
             "  up, set it to what the command line says, or stop the node and delete the file.\n"
             "- Live *cluster*: for all nodes, through the log; ask any of them. It is part of the replicated\n"
             "  state and wins over what each node was started with. Needs feature level 2 (`INFO server`).\n");
    for (size_t i = 0; i < hf_n_settings; i++) {
        const struct hf_setting *s = &hf_settings_table[i];
        char range[80] = "", low[32], high[32];

        if (s->section)
            hf_buf_printf(out, "\n## %s\n\n| name | default | range | live | what |\n| --- | --- | --- | --- | --- |\n",
                          s->section);
        if (s->type == CHOICE) {
            size_t used = 0;

            for (const char *at = s->choices; *at && used + 3 < sizeof range; at++) {
                range[used++] = *at == '|' ? ',' : *at;
                if (*at == '|')
                    range[used++] = ' ';
            }
            range[used] = 0;
        } else if (!hf_setting_is_text(s) && s->type != FLAG) {
            format_limit(low, sizeof low, s->type, s->low);
            format_limit(high, sizeof high, s->type, s->high);
            snprintf(range, sizeof range, "%s to %s%s", low, high,
                     s->type == MILLIS    ? " ms"
                     : s->type == SECONDS ? " s"
                                          : "");
        }
        hf_buf_printf(out, "| `%s` | %s%s%s | %s | %s | %s |\n", s->name, *s->value ? "`" : "", s->value,
                      *s->value ? "`" : "", range, live_words[s->scope], s->help);
    }
    hf_buf_printf(
        out, "\n## Redis parameters without effect\n\n"
             "`CONFIG GET` and `CONFIG SET` know these for the sake of tools, and keep what they are set to. `CONFIG\n"
             "GET` also shows `bind` and `port`, the two halves of `listen`:\n");
    for (size_t i = 0; i < hf_n_redis_parameters; i++)
        hf_buf_printf(out, "%s `%s`", i ? "," : "", hf_redis_parameters[i].name);
    hf_buf_printf(out, ".\n");
}
