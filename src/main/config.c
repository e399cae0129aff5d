/* config.c: the table of settings and everything that is derived from it. See config.h. */
#include "main/config.h"

#include "base/mem.h"
#include "base/util.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum type { TEXT, NUMBER, BYTES, MILLIS, SECONDS, FLAG, CHOICE };

struct setting {
    const char *name;
    enum type type;
    size_t offset;
    const char *value;   /* default, as one would write it */
    uint64_t low, high;  /* numbers */
    bool is_live;        /* CONFIG SET may change it */
    const char *redis;   /* the name Redis has for it, or NULL */
    const char *choices; /* CHOICE: "a|b|c" */
    const char *section; /* first setting of a section names it */
    const char *help;
};

#define AT(field) offsetof(struct hf_config, field)
#define KB        UINT64_C(1024)
#define MB        (KB * 1024)
#define GB        (MB * 1024)

static const struct setting settings[] = {
    {"id", NUMBER, AT(id), "1", 1, 1000000, false, NULL, NULL, "Identity and addresses",
     "number of this node in the cluster; stays with its data directory for ever"},
    {"listen", TEXT, AT(listen), "127.0.0.1:7379", 0, 0, false, NULL, NULL, NULL, "host:port where clients connect"},
    {"advertise", TEXT, AT(advertise), "", 0, 0, false, NULL, NULL, NULL,
     "host:port that is told to clients and tools as this node's; empty = what --listen says"},
    {"peer-listen", TEXT, AT(peer_listen), "127.0.0.1:17379", 0, 0, false, NULL, NULL, NULL,
     "host:port where the other members connect; as --peers spells it"},
    {"http-listen", TEXT, AT(http_listen), "127.0.0.1:8379", 0, 0, false, NULL, NULL, NULL,
     "host:port of /metrics, /healthz, /readyz and /status; empty = none"},
    {"peers", TEXT, AT(peers), "", 0, 0, false, NULL, NULL, NULL,
     "all members at the first start, \"1=host:port,2=host:port,3=host:port\"; empty = this node alone"},
    {"cluster-id", TEXT, AT(cluster_id), "", 0, 0, false, NULL, NULL, NULL,
     "a word that names the cluster, so that members of another one are refused; empty = made from --peers"},
    {"dir", TEXT, AT(dir), "./holdfast-data", 0, 0, false, NULL, NULL, NULL,
     "data directory, of this node alone; created if missing"},
    {"log-level", CHOICE, AT(log_level), "info", 0, 0, true, "loglevel", "debug|info|warn|error", "Logging",
     "least serious lines that are written"},
    {"log-format", CHOICE, AT(log_format), "text", 0, 0, false, NULL, "text|json", NULL, "form of a line"},
    {"log-file", TEXT, AT(log_file), "", 0, 0, false, "logfile", NULL, NULL, "file to append to; empty = stderr"},
    {"requirepass", TEXT, AT(requirepass), "", 0, 0, true, "requirepass", NULL, "Clients",
     "password that clients must give (AUTH); empty = none. Every node needs the same"},
    {"maxclients", NUMBER, AT(maxclients), "10000", 1, 1000000, true, "maxclients", NULL, NULL,
     "client connections of this node"},
    {"timeout", SECONDS, AT(timeout_s), "0", 0, 31536000, true, "timeout", NULL, NULL,
     "close a client that was silent for so many seconds; 0 = never"},
    {"proto-max-bulk-len", BYTES, AT(bulk_bytes_max), "64mb", KB, 512 * MB, true, "proto-max-bulk-len", NULL, NULL,
     "longest argument of a command"},
    {"max-args", NUMBER, AT(args_max), "1048576", 16, 16777216, true, NULL, NULL, NULL, "arguments of one command"},
    {"client-query-buffer-limit", BYTES, AT(query_bytes_max), "1gb", MB, 4 * GB, true, "client-query-buffer-limit",
     NULL, NULL, "longest command with all its arguments"},
    {"client-output-buffer-limit", BYTES, AT(output_bytes_max), "1gb", MB, 4 * GB, false, NULL, NULL, NULL,
     "a client that leaves more replies than this unread is disconnected"},
    {"max-pipeline", NUMBER, AT(pipeline_max), "1024", 1, 1048576, false, NULL, NULL, NULL,
     "commands of one connection under way at a time; more wait unread"},
    {"no-leader-timeout", MILLIS, AT(no_leader_timeout_ms), "5000", 0, 3600000, false, NULL, NULL, "Commands",
     "how long a command waits for a leader before NOLEADER"},
    {"unknown-timeout", MILLIS, AT(unknown_timeout_ms), "5000", 100, 3600000, false, NULL, NULL, NULL,
     "how long a proposed write may stay uncommitted before its client is told UNKNOWN"},
    {"entry-bytes", BYTES, AT(entry_bytes_max), "256kb", KB, 64 * MB, false, NULL, NULL, NULL,
     "size at which a batch of commands is closed into a log entry"},
    {"entries-in-flight", NUMBER, AT(entries_in_flight), "4", 1, 256, false, NULL, NULL, NULL,
     "log entries proposed and not yet committed; more commands are packed into the next one"},
    {"propose-queue-bytes", BYTES, AT(propose_queue_bytes), "128mb", MB, 4 * GB, false, NULL, NULL, NULL,
     "commands waiting for their entry; beyond it clients are not read"},
    {"election-timeout", MILLIS, AT(election_timeout_ms), "600", 100, 60000, false, NULL, NULL, "Consensus",
     "silence of the leader after which followers campaign (each waits one to two times this)"},
    {"heartbeat", MILLIS, AT(heartbeat_ms), "100", 10, 10000, false, NULL, NULL, NULL,
     "interval of the leader's messages when idle; at most a quarter of election-timeout"},
    {"journal-segment-bytes", BYTES, AT(journal_segment_bytes), "16mb", 64 * KB, GB, false, NULL, NULL, NULL,
     "size of a journal file"},
    {"journal-tail-bytes", BYTES, AT(journal_tail_bytes), "8mb", 64 * KB, GB, false, NULL, NULL, NULL,
     "newest entries kept in memory"},
    {"journal-retain-bytes", BYTES, AT(journal_retain_bytes), "32mb", 64 * KB, 64 * GB, false, NULL, NULL, NULL,
     "journal kept behind the last marker for members that are a little behind"},
    {"journal-max-bytes", BYTES, AT(journal_max_bytes), "1gb", MB, 1024 * GB, false, NULL, NULL, NULL,
     "journal kept at most for a voter that lags further"},
    {"snapshot-journal-bytes", BYTES, AT(snapshot_journal_bytes), "16mb", 64 * KB, 64 * GB, false, NULL, NULL, NULL,
     "growth of the journal after which it is cut"},
    {"commit-interval", MILLIS, AT(commit_interval_ms), "1000", 10, 60000, false, NULL, NULL, "State",
     "longest time between commits of the database; the journal covers what is in between"},
    {"commit-bytes", BYTES, AT(commit_bytes_max), "32mb", MB, GB, false, NULL, NULL, NULL,
     "uncommitted changes that bring a commit on earlier"},
    {"store-cache-bytes", BYTES, AT(cache_bytes), "32mb", MB, 1024 * GB, false, NULL, NULL, NULL,
     "memory for hot keys"},
    {"store-dirty-bytes", BYTES, AT(dirty_bytes), "16mb", 64 * KB, 64 * GB, false, NULL, NULL, NULL,
     "changed keys held in memory before they are written to the database"},
    {"store-page-cache-bytes", BYTES, AT(page_cache_bytes), "16mb", 256 * KB, 1024 * GB, false, NULL, NULL, NULL,
     "memory for database pages"},
    {"min-free-disk", BYTES, AT(free_disk_min), "256mb", 0, 1024 * GB, false, NULL, NULL, NULL,
     "with less free space than this on any member, writes that grow the state are refused (NOSPACE); 0 = never"},
    {"enable-debug-command", FLAG, AT(enable_debug_command), "no", 0, 0, false, "enable-debug-command", NULL, NULL,
     "allow the DEBUG command (tests)"},
};
#define N_SETTINGS (sizeof settings / sizeof settings[0])

/* Parameters of Redis 7.2 that tools read and set; kept, and without effect here. */
static const struct {
    const char *name, *value;
} redis_parameters[] = {
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
#define N_INERT         (sizeof redis_parameters / sizeof redis_parameters[0])
#define INERT_VALUE_MAX 1024

struct hf_config_inert {
    char *value[N_INERT];
};

/* ---- values ------------------------------------------------------------------------------------------- */

static void *field(const struct hf_config *c, const struct setting *s)
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

static void format_limit(char *out, size_t cap, enum type type, uint64_t v)
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

/* Parse and range-check; *number is set for numbers. */
static bool check(const struct setting *s, const char *value, uint64_t *number, char *err, size_t err_size)
{
    char low[32], high[32];
    int64_t v;

    switch (s->type) {
    case TEXT:
        return true;
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

static bool assign(struct hf_config *c, const struct setting *s, const char *value, char *err, size_t err_size)
{
    uint64_t number = 0;

    if (!check(s, value, &number, err, err_size))
        return false;
    switch (s->type) {
    case TEXT:
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

static void print_value(const struct hf_config *c, const struct setting *s, char *out, size_t cap)
{
    switch (s->type) {
    case TEXT:
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

static const struct setting *find(const char *name, size_t n)
{
    for (size_t i = 0; i < N_SETTINGS; i++)
        if (strlen(settings[i].name) == n && strncasecmp(settings[i].name, name, n) == 0)
            return &settings[i];
    return NULL;
}

/* ---- sources ------------------------------------------------------------------------------------------ */

static bool load_environment(struct hf_config *c, char *err, size_t err_size)
{
    for (size_t i = 0; i < N_SETTINGS; i++) {
        char name[80], why[256];
        size_t n = (size_t)snprintf(name, sizeof name, "HOLDFAST_%s", settings[i].name);
        const char *value;

        for (size_t k = 0; k < n; k++)
            name[k] = name[k] == '-' ? '_' : (char)toupper((unsigned char)name[k]);
        value = getenv(name);
        if (value && !assign(c, &settings[i], value, why, sizeof why)) {
            snprintf(err, err_size, "environment variable %s: %s", name, why);
            return false;
        }
    }
    return true;
}

/* One line `name value`; quotes may hold blanks, # starts a comment. */
static bool load_line(struct hf_config *c, char *line, char *err, size_t err_size)
{
    char *name = line + strspn(line, " \t"), *value, *end;
    const struct setting *s;

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
    return assign(c, s, value, err, err_size);
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
        ok = load_line(c, line, why, sizeof why);
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

static bool check_limits(uint64_t bulk_bytes_max, uint64_t query_bytes_max, char *err, size_t err_size)
{
    if (query_bytes_max >= bulk_bytes_max)
        return true;
    snprintf(err, err_size, "client-query-buffer-limit must not be below proto-max-bulk-len");
    return false;
}

static bool check_together(const struct hf_config *c, char *err, size_t err_size)
{
    if (c->heartbeat_ms * 4 > c->election_timeout_ms) {
        snprintf(err, err_size,
                 "heartbeat (%" PRIu64 " ms) must be at most a quarter of election-timeout (%" PRIu64 " ms)",
                 c->heartbeat_ms, c->election_timeout_ms);
        return false;
    }
    return check_limits(c->bulk_bytes_max, c->query_bytes_max, err, err_size);
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
    out->inert = hf_calloc(1, sizeof *out->inert);
    for (size_t i = 0; i < N_INERT; i++)
        out->inert->value[i] = hf_strdup(redis_parameters[i].value);
    for (size_t i = 0; i < N_SETTINGS && ok; i++)
        ok = assign(out, &settings[i], settings[i].value, err, err_size);
    ok = ok && read_flags(argc, argv, flags, &n, &path, want, err, err_size);
    if (ok && *want == HF_CONFIG_RUN) {
        ok = load_environment(out, err, err_size);
        if (!path)
            path = getenv("HOLDFAST_CONFIG");
        if (ok && path)
            ok = load_file(out, path, err, err_size);
        for (size_t i = 0; i < n && ok; i++) {
            char why[256];

            ok = assign(out, find(flags[i].name, flags[i].n), flags[i].value, why, sizeof why);
            if (!ok)
                snprintf(err, err_size, "--%s", why);
        }
        ok = ok && check_together(out, err, err_size);
    }
    hf_free(flags);
    if (!ok)
        hf_config_free(out);
    return ok ? 0 : HF_E_INVALID;
}

void hf_config_free(struct hf_config *c)
{
    for (size_t i = 0; i < N_SETTINGS; i++)
        if (settings[i].type == TEXT || settings[i].type == CHOICE)
            hf_free(*(char **)field(c, &settings[i]));
    for (size_t i = 0; i < N_INERT && c->inert; i++)
        hf_free(c->inert->value[i]);
    hf_free(c->inert);
    hf_free(c->config_file);
    memset(c, 0, sizeof *c);
}

/* ---- texts -------------------------------------------------------------------------------------------- */

static const char *placeholder(const struct setting *s)
{
    switch (s->type) {
    case TEXT:
        return "TEXT";
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
                  "usage: holdfastd [--name value ...]\n\n"
                  "A Raft-replicated server that speaks the Redis protocol. Without arguments: one node on\n"
                  "127.0.0.1:7379 with its data in ./holdfast-data.\n\n"
                  "Every setting can be given as --name value, as a line `name value` in the file of --config, or\n"
                  "as the environment variable HOLDFAST_NAME (- becomes _); the first of these wins. A SIZE is a\n"
                  "number with kb, mb or gb.\n\n"
                  "      --config FILE           read settings from FILE\n"
                  "      --print-config          print a configuration file with every setting\n"
                  "      --version               print the version\n"
                  "  -h, --help                  print this\n");
    for (size_t i = 0; i < N_SETTINGS; i++) {
        const struct setting *s = &settings[i];
        char left[64];

        if (s->section)
            hf_buf_printf(out, "\n%s\n", s->section);
        snprintf(left, sizeof left, "--%s %s", s->name, placeholder(s));
        hf_buf_printf(out, "  %-38s  %s%s%s%s\n", left, s->help, *s->value ? " (" : "", s->value, *s->value ? ")" : "");
    }
}

void hf_config_sample(struct hf_buf *out)
{
    hf_buf_printf(out, "# Settings of holdfastd with their defaults. Take the # away to change one.\n"
                       "# A flag on the command line wins over this file, this file over the environment.\n");
    for (size_t i = 0; i < N_SETTINGS; i++) {
        const struct setting *s = &settings[i];

        if (s->section)
            hf_buf_printf(out, "\n## %s\n", s->section);
        hf_buf_printf(out, "\n# %s\n# %s %s%s%s\n", s->help, s->name, *s->value ? "" : "\"", s->value,
                      *s->value ? "" : "\"");
    }
}

void hf_config_markdown(struct hf_buf *out)
{
    hf_buf_printf(out,
                  "# Configuration\n\n"
                  "Generated by `holdfastd --print-docs`. A setting comes from, strongest first: the command line\n"
                  "(`--name value`), the file given with `--config`, the environment (`HOLDFAST_NAME`, `-` becomes\n"
                  "`_`), the default. *Live* settings can be changed with `CONFIG SET` on a node; that lasts until\n"
                  "the node restarts.\n");
    for (size_t i = 0; i < N_SETTINGS; i++) {
        const struct setting *s = &settings[i];
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
        } else if (s->type != TEXT && s->type != FLAG) {
            format_limit(low, sizeof low, s->type, s->low);
            format_limit(high, sizeof high, s->type, s->high);
            snprintf(range, sizeof range, "%s to %s%s", low, high,
                     s->type == MILLIS    ? " ms"
                     : s->type == SECONDS ? " s"
                                          : "");
        }
        hf_buf_printf(out, "| `%s` | %s%s%s | %s | %s | %s |\n", s->name, *s->value ? "`" : "", s->value,
                      *s->value ? "`" : "", range, s->is_live ? "yes" : "", s->help);
    }
    hf_buf_printf(out,
                  "\n## Redis parameters without effect\n\n"
                  "`CONFIG GET` and `CONFIG SET` know these for the sake of tools, and keep what they are set to:\n");
    for (size_t i = 0; i < N_INERT; i++)
        hf_buf_printf(out, "%s `%s`", i ? "," : "", redis_parameters[i].name);
    hf_buf_printf(out, ".\n");
}

/* ---- CONFIG ------------------------------------------------------------------------------------------- */

void hf_config_get(const struct hf_config *c, struct hf_slice pattern,
                   void (*cb)(void *arg, const char *name, const char *value), void *arg)
{
    char value[4096];

    for (size_t i = 0; i < N_SETTINGS; i++) {
        const struct setting *s = &settings[i];

        if (!hf_glob_match(pattern, hf_slice_str(s->name), true) &&
            (!s->redis || !hf_glob_match(pattern, hf_slice_str(s->redis), true)))
            continue;
        print_value(c, s, value, sizeof value);
        if (hf_glob_match(pattern, hf_slice_str(s->name), true))
            cb(arg, s->name, value);
        if (s->redis && strcmp(s->redis, s->name) != 0 && hf_glob_match(pattern, hf_slice_str(s->redis), true))
            cb(arg, s->redis, value);
    }
    for (size_t i = 0; i < N_INERT; i++)
        if (hf_glob_match(pattern, hf_slice_str(redis_parameters[i].name), true))
            cb(arg, redis_parameters[i].name, c->inert->value[i]);
}

static const struct setting *find_live(struct hf_slice name)
{
    for (size_t i = 0; i < N_SETTINGS; i++)
        if (hf_slice_is(name, settings[i].name) || (settings[i].redis && hf_slice_is(name, settings[i].redis)))
            return &settings[i];
    return NULL;
}

static int find_inert(struct hf_slice name)
{
    for (size_t i = 0; i < N_INERT; i++)
        if (hf_slice_is(name, redis_parameters[i].name))
            return (int)i;
    return -1;
}

/* Redis' word for the level we call warn. */
static const char *translate(const struct setting *s, const char *value)
{
    if (strcmp(s->name, "log-level") == 0 && (strcmp(value, "notice") == 0 || strcmp(value, "verbose") == 0))
        return "info";
    if (strcmp(s->name, "log-level") == 0 && strcmp(value, "warning") == 0)
        return "warn";
    return value;
}

/* One name and value of CONFIG SET, looked up and checked. */
struct change {
    const struct setting *setting; /* or NULL and */
    int inert;                     /* the index of a Redis parameter without effect */
    const char *name;
    uint64_t number;
    char value[INERT_VALUE_MAX + 1];
};

static bool read_change(struct change *out, struct hf_slice name, struct hf_slice value, char *err, size_t err_size)
{
    const struct setting *s = find_live(name);
    char why[256] = "";

    out->setting = s;
    out->inert = s ? -1 : find_inert(name);
    out->number = 0;
    if (!s && out->inert < 0) {
        snprintf(err, err_size, "Unknown option or number of arguments for CONFIG SET - '%.*s'",
                 (int)(name.len < 80 ? name.len : 80), (const char *)name.ptr);
        return false;
    }
    out->name = s ? s->name : redis_parameters[out->inert].name;
    if (value.len > INERT_VALUE_MAX || (value.len > 0 && memchr(value.ptr, 0, value.len)))
        snprintf(why, sizeof why, "the value is too long or has a zero byte");
    else if (s && !s->is_live)
        snprintf(why, sizeof why, "can't set immutable config");
    if (!*why) {
        snprintf(out->value, sizeof out->value, "%.*s", (int)value.len, value.len ? (const char *)value.ptr : "");
        if (!s || check(s, translate(s, out->value), &out->number, why, sizeof why))
            return true;
    }
    snprintf(err, err_size, "CONFIG SET failed (possibly related to argument '%s') - %s", out->name, why);
    return false;
}

/* What the changes do together: no name twice, and limits that fit each other. */
static bool check_changes(const struct hf_config *c, const struct change *changes, uint32_t n, char *err,
                          size_t err_size)
{
    uint64_t bulk_bytes_max = c->bulk_bytes_max, query_bytes_max = c->query_bytes_max;
    char why[160];

    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t k = 0; k < i; k++) {
            if (changes[i].name == changes[k].name) {
                snprintf(err, err_size, "CONFIG SET failed (possibly related to argument '%s') - duplicate parameter",
                         changes[i].name);
                return false;
            }
        }
        if (changes[i].setting && changes[i].setting->offset == AT(bulk_bytes_max))
            bulk_bytes_max = changes[i].number;
        if (changes[i].setting && changes[i].setting->offset == AT(query_bytes_max))
            query_bytes_max = changes[i].number;
    }
    if (check_limits(bulk_bytes_max, query_bytes_max, why, sizeof why))
        return true;
    snprintf(err, err_size, "CONFIG SET failed - %s", why);
    return false;
}

bool hf_config_set(struct hf_config *c, const struct hf_slice *names, const struct hf_slice *values, uint32_t n,
                   char *err, size_t err_size)
{
    struct change *changes;
    bool ok = true;

    /* Twice the same name is refused, so more pairs than names cannot be right; this bounds the memory. */
    if (n > N_SETTINGS + N_INERT) {
        snprintf(err, err_size, "CONFIG SET failed - too many parameters");
        return false;
    }
    changes = hf_calloc((size_t)n + 1, sizeof *changes);
    for (uint32_t i = 0; i < n && ok; i++)
        ok = read_change(&changes[i], names[i], values[i], err, err_size);
    ok = ok && check_changes(c, changes, n, err, err_size);
    for (uint32_t i = 0; i < n && ok; i++) {
        const struct change *change = &changes[i];

        if (change->setting) {
            ok = assign(c, change->setting, translate(change->setting, change->value), err, err_size);
        } else {
            hf_free(c->inert->value[change->inert]);
            c->inert->value[change->inert] = hf_strdup(change->value);
        }
    }
    hf_free(changes);
    return ok;
}
