/* config_run.c: settings while the node runs: CONFIG GET and CONFIG SET, the file DIR/settings that keeps what was
 * changed for this node, and what the cluster's settings put over what the node was started with. See config.h. */
#include "base/log.h"
#include "base/mem.h"
#include "base/util.h"
#include "main/config_table.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VALUE_MAX      1024u
#define FILE_BYTES_MAX (1u << 20)
#define FILE_FIRST     "holdfast-settings "
#define FILE_VERSION   1

/* By place in the tables; NULL = none. */
struct hf_config_run {
    char **origin;       /* where the value at the start came from */
    char **kept;         /* set at run time for this node: in the file */
    char **own;          /* of a setting that the cluster's replaced: what it was before */
    char **inert;        /* values of Redis' parameters without effect */
    bool *is_inert_kept; /* set at run time: in the file */
};

struct hf_config_run *hf_config_run_new(void)
{
    struct hf_config_run *run = hf_calloc(1, sizeof *run);

    run->origin = hf_calloc(hf_n_settings, sizeof *run->origin);
    run->kept = hf_calloc(hf_n_settings, sizeof *run->kept);
    run->own = hf_calloc(hf_n_settings, sizeof *run->own);
    run->inert = hf_calloc(hf_n_redis_parameters, sizeof *run->inert);
    run->is_inert_kept = hf_calloc(hf_n_redis_parameters, sizeof *run->is_inert_kept);
    for (size_t i = 0; i < hf_n_redis_parameters; i++)
        run->inert[i] = hf_strdup(hf_redis_parameters[i].value);
    return run;
}

void hf_config_run_free(struct hf_config_run *run)
{
    if (!run)
        return;
    for (size_t i = 0; i < hf_n_settings; i++) {
        hf_free(run->origin[i]);
        hf_free(run->kept[i]);
        hf_free(run->own[i]);
    }
    for (size_t i = 0; i < hf_n_redis_parameters; i++)
        hf_free(run->inert[i]);
    hf_free(run->origin);
    hf_free(run->kept);
    hf_free(run->own);
    hf_free(run->inert);
    hf_free(run->is_inert_kept);
    hf_free(run);
}

static size_t place_of(const struct hf_setting *s)
{
    return (size_t)(s - hf_settings_table);
}

static void replace_text(char **at, const char *text)
{
    hf_free(*at);
    *at = text ? hf_strdup(text) : NULL;
}

void hf_config_note_origin(struct hf_config *c, const struct hf_setting *s, const char *origin)
{
    replace_text(&c->run->origin[place_of(s)], origin);
}

const char *hf_config_origin(const struct hf_config *c, const struct hf_setting *s)
{
    return c->run->origin[place_of(s)];
}

static const struct hf_setting *find_setting(struct hf_slice name)
{
    for (size_t i = 0; i < hf_n_settings; i++) {
        const struct hf_setting *s = &hf_settings_table[i];

        if (hf_slice_is(name, s->name) || (s->redis && hf_slice_is(name, s->redis)))
            return s;
    }
    return NULL;
}

static int find_inert(struct hf_slice name)
{
    for (size_t i = 0; i < hf_n_redis_parameters; i++)
        if (hf_slice_is(name, hf_redis_parameters[i].name))
            return (int)i;
    return -1;
}

/* ---- CONFIG GET --------------------------------------------------------------------------------------- */

/* The two halves of --listen, under the names that Redis has for them. */
static void get_address(const struct hf_config *c, struct hf_slice pattern,
                        void (*cb)(void *arg, const char *name, const char *value), void *arg)
{
    const char *colon = strrchr(c->listen, ':');
    size_t n = colon ? (size_t)(colon - c->listen) : strlen(c->listen);
    bool is_bracketed = n >= 2 && c->listen[0] == '[' && c->listen[n - 1] == ']';
    char *host = hf_asprintf("%.*s", (int)(is_bracketed ? n - 2 : n), c->listen + is_bracketed);

    if (hf_glob_match(pattern, hf_slice_str("bind"), true))
        cb(arg, "bind", host);
    if (hf_glob_match(pattern, hf_slice_str("port"), true))
        cb(arg, "port", colon ? colon + 1 : "0");
    hf_free(host);
}

void hf_config_get(const struct hf_config *c, struct hf_slice pattern,
                   void (*cb)(void *arg, const char *name, const char *value), void *arg)
{
    char value[4096];

    for (size_t i = 0; i < hf_n_settings; i++) {
        const struct hf_setting *s = &hf_settings_table[i];

        if (!hf_glob_match(pattern, hf_slice_str(s->name), true) &&
            (!s->redis || !hf_glob_match(pattern, hf_slice_str(s->redis), true)))
            continue;
        hf_setting_print(c, s, value, sizeof value);
        if (hf_glob_match(pattern, hf_slice_str(s->name), true))
            cb(arg, s->name, value);
        if (s->redis && strcmp(s->redis, s->name) != 0 && hf_glob_match(pattern, hf_slice_str(s->redis), true))
            cb(arg, s->redis, value);
    }
    get_address(c, pattern, cb, arg);
    for (size_t i = 0; i < hf_n_redis_parameters; i++)
        if (hf_glob_match(pattern, hf_slice_str(hf_redis_parameters[i].name), true))
            cb(arg, hf_redis_parameters[i].name, c->run->inert[i]);
}

/* ---- CONFIG SET --------------------------------------------------------------------------------------- */

/* Redis' word for the level we call warn. */
static const char *translate(const struct hf_setting *s, const char *value)
{
    if (strcmp(s->name, "log-level") == 0 && (strcmp(value, "notice") == 0 || strcmp(value, "verbose") == 0))
        return "info";
    if (strcmp(s->name, "log-level") == 0 && strcmp(value, "warning") == 0)
        return "warn";
    return value;
}

/* One name and value of CONFIG SET, looked up and checked. */
struct change {
    const struct hf_setting *setting; /* or NULL and */
    int inert;                        /* the index of a Redis parameter without effect */
    const char *name;
    uint64_t number;
    char value[VALUE_MAX + 1];
};

static bool read_change(struct change *out, struct hf_slice name, struct hf_slice value, char *err, size_t err_size)
{
    const struct hf_setting *s = find_setting(name);
    bool is_address = hf_slice_is(name, "bind") || hf_slice_is(name, "port");
    char why[256] = "";

    out->setting = s;
    out->inert = s ? -1 : find_inert(name);
    out->number = 0;
    if (!s && out->inert < 0 && !is_address) {
        snprintf(err, err_size, "Unknown option or number of arguments for CONFIG SET - '%.*s'",
                 (int)(name.len < 80 ? name.len : 80), (const char *)name.ptr);
        return false;
    }
    out->name = s ? s->name : is_address ? "listen" : hf_redis_parameters[out->inert].name;
    if (value.len > VALUE_MAX || (value.len > 0 && memchr(value.ptr, 0, value.len)))
        snprintf(why, sizeof why, "the value is too long or has a zero byte");
    else if (is_address || (s && s->scope == FIXED))
        snprintf(why, sizeof why, "can't set immutable config");
    if (!*why) {
        snprintf(out->value, sizeof out->value, "%.*s", (int)value.len, value.len ? (const char *)value.ptr : "");
        if (!s)
            return true;
        if (hf_setting_check(s, translate(s, out->value), &out->number, why, sizeof why))
            return true;
    }
    snprintf(err, err_size, "CONFIG SET failed (possibly related to argument '%s') - %s", out->name, why);
    return false;
}

static uint64_t number_after(const struct change *changes, uint32_t n, const char *name, uint64_t present)
{
    for (uint32_t i = 0; i < n; i++)
        if (changes[i].setting && strcmp(changes[i].setting->name, name) == 0)
            return changes[i].number;
    return present;
}

/* What the changes do together: no name twice, and limits that fit each other. */
static bool check_changes(const struct hf_config *c, const struct change *changes, uint32_t n, char *err,
                          size_t err_size)
{
    char why[160];

    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t k = 0; k < i; k++) {
            if (changes[i].name == changes[k].name) {
                snprintf(err, err_size, "CONFIG SET failed (possibly related to argument '%s') - duplicate parameter",
                         changes[i].name);
                return false;
            }
        }
    }
    if (hf_config_check_limits(number_after(changes, n, "proto-max-bulk-len", c->bulk_bytes_max),
                               number_after(changes, n, "client-query-buffer-limit", c->query_bytes_max), why,
                               sizeof why) &&
        hf_config_check_timeouts(number_after(changes, n, "heartbeat", c->heartbeat_ms),
                                 number_after(changes, n, "election-timeout", c->election_timeout_ms), why, sizeof why))
        return true;
    snprintf(err, err_size, "CONFIG SET failed - %s", why);
    return false;
}

bool hf_config_check(const struct hf_config *c, const struct hf_slice *names, const struct hf_slice *values, uint32_t n,
                     bool *is_cluster, char *err, size_t err_size)
{
    struct change *changes;
    bool ok = true;

    /* Twice the same name is refused, so more pairs than names cannot be right; this bounds the memory. */
    if (n > hf_n_settings + hf_n_redis_parameters) {
        snprintf(err, err_size, "CONFIG SET failed - too many parameters");
        return false;
    }
    changes = hf_calloc((size_t)n + 1, sizeof *changes);
    for (uint32_t i = 0; i < n && ok; i++) {
        ok = read_change(&changes[i], names[i], values[i], err, err_size);
        is_cluster[i] = ok && changes[i].setting && changes[i].setting->scope == CLUSTER;
    }
    ok = ok && check_changes(c, changes, n, err, err_size);
    hf_free(changes);
    return ok;
}

/* ---- the file ----------------------------------------------------------------------------------------- */

static void put_line(struct hf_buf *out, const char *name, const char *value)
{
    hf_buf_printf(out, "%s ", name);
    for (; *value; value++) {
        if (*value == '\n')
            hf_buf_put(out, "\\n", 2);
        else if (*value == '\\')
            hf_buf_put(out, "\\\\", 2);
        else
            hf_buf_put_u8(out, (uint8_t)*value);
    }
    hf_buf_put_u8(out, '\n');
}

/* In place; false when a backslash stands before something else. */
static bool unescape(char *value)
{
    char *to = value;

    for (const char *from = value; *from; from++) {
        if (*from == '\\') {
            from++;
            if (*from != 'n' && *from != '\\')
                return false;
            *to++ = *from == 'n' ? '\n' : '\\';
        } else {
            *to++ = *from;
        }
    }
    *to = 0;
    return true;
}

static bool save_settings(const struct hf_config *c, struct hf_fs *fs, char *err, size_t err_size)
{
    char *path = hf_asprintf("%s/settings", c->dir);
    struct hf_buf text = {0};
    int rc;

    hf_buf_printf(&text, FILE_FIRST "%d\n", FILE_VERSION);
    for (size_t i = 0; i < hf_n_settings; i++)
        if (c->run->kept[i])
            put_line(&text, hf_settings_table[i].name, c->run->kept[i]);
    for (size_t i = 0; i < hf_n_redis_parameters; i++)
        if (c->run->is_inert_kept[i])
            put_line(&text, hf_redis_parameters[i].name, c->run->inert[i]);
    rc = hf_fs_write_small(fs, path, text.data, text.len);
    if (rc < 0)
        snprintf(err, err_size, "CONFIG SET failed - %s cannot be written: %s", path, hf_strerror(rc));
    hf_buf_free(&text);
    hf_free(path);
    return rc == 0;
}

static int read_line(struct hf_config *c, char *line, char *why, size_t why_size)
{
    char *value = strchr(line, ' ');
    const struct hf_setting *s;
    char before[VALUE_MAX + 1];
    const char *origin;
    int inert;

    if (!value || !unescape(value + 1)) {
        snprintf(why, why_size, "a line is not `name value`");
        return HF_E_CORRUPT;
    }
    *value++ = 0;
    s = find_setting(hf_slice_str(line));
    inert = s ? -1 : find_inert(hf_slice_str(line));
    if (inert >= 0) {
        replace_text(&c->run->inert[inert], value);
        c->run->is_inert_kept[inert] = true;
        return 0;
    }
    if (!s || s->scope != LIVE) {
        HF_LOG_WARN("config", "a setting that was changed at run time means nothing to this release: left out",
                    "name=%.64s", line);
        return 0;
    }
    hf_setting_print(c, s, before, sizeof before);
    if (!hf_setting_assign(c, s, value, why, why_size))
        return HF_E_INVALID;
    replace_text(&c->run->kept[place_of(s)], value);
    origin = hf_config_origin(c, s);
    if (origin && strcmp(before, value) != 0 && strcmp(s->name, "requirepass") != 0)
        HF_LOG_INFO("config", "a setting was changed at run time, which wins over what was given",
                    "name=%s set_at_run_time=\"%s\" given_by=%s given=\"%s\"", s->name, value, origin, before);
    else if (origin && strcmp(before, value) != 0)
        HF_LOG_INFO("config", "a setting was changed at run time, which wins over what was given",
                    "name=%s given_by=%s", s->name, origin);
    return 0;
}

int hf_config_load_settings(struct hf_config *c, struct hf_fs *fs, char *err, size_t err_size)
{
    char *path = hf_asprintf("%s/settings", c->dir);
    char *line, *save = NULL, why[256] = "";
    uint8_t *data = NULL;
    size_t n = 0;
    int64_t version = 0;
    int rc = hf_fs_read_small(fs, path, FILE_BYTES_MAX, &data, &n);

    if (rc == HF_E_NOENT) {
        hf_free(path);
        return 0;
    }
    if (rc < 0)
        snprintf(why, sizeof why, "%s", rc == HF_E_CORRUPT ? "its checksum is wrong" : hf_strerror(rc));
    if (rc == 0) {
        line = strtok_r((char *)data, "\n", &save);
        if (!line || strncmp(line, FILE_FIRST, strlen(FILE_FIRST)) != 0 ||
            !hf_parse_int64(hf_slice_str(line + strlen(FILE_FIRST)), &version)) {
            rc = HF_E_CORRUPT;
            snprintf(why, sizeof why, "it does not begin as such a file does");
        } else if (version != FILE_VERSION) {
            rc = HF_E_VERSION;
            snprintf(why, sizeof why, "it has format %" PRId64 ", written by another release", version);
        }
        while (rc == 0 && (line = strtok_r(NULL, "\n", &save)) != NULL)
            rc = read_line(c, line, why, sizeof why);
    }
    if (rc == 0 && !hf_config_check_together(c, why, sizeof why))
        rc = HF_E_INVALID;
    if (rc < 0)
        snprintf(
            err, err_size,
            "%s, which keeps what CONFIG SET changed on this node, cannot be used: %s. Delete it to start with the "
            "settings of file and command line, and change again with CONFIG SET what has to be changed",
            path, why);
    hf_free(data);
    hf_free(path);
    return rc;
}

/* ---- taking effect ------------------------------------------------------------------------------------ */

static bool set_inert(struct hf_config *c, struct hf_fs *fs, const struct change *change, char *err, size_t err_size)
{
    struct hf_config_run *run = c->run;
    bool was_kept = run->is_inert_kept[change->inert];
    char *before = run->inert[change->inert];

    run->inert[change->inert] = hf_strdup(change->value);
    run->is_inert_kept[change->inert] = true;
    if (save_settings(c, fs, err, err_size)) {
        hf_free(before);
        return true;
    }
    hf_free(run->inert[change->inert]);
    run->inert[change->inert] = before;
    run->is_inert_kept[change->inert] = was_kept;
    return false;
}

bool hf_config_set_local(struct hf_config *c, struct hf_fs *fs, struct hf_slice name, struct hf_slice value, char *err,
                         size_t err_size)
{
    struct change change;
    char **kept, *before;

    if (!read_change(&change, name, value, err, err_size))
        return false;
    if (!change.setting)
        return set_inert(c, fs, &change, err, err_size);
    kept = &c->run->kept[place_of(change.setting)];
    before = *kept;
    *kept = hf_strdup(translate(change.setting, change.value));
    /* First the file: what runs must not be lost with the process. */
    if (!save_settings(c, fs, err, err_size)) {
        hf_free(*kept);
        *kept = before;
        return false;
    }
    hf_free(before);
    return hf_setting_assign(c, change.setting, *kept, err, err_size);
}

bool hf_config_set_cluster(struct hf_config *c, struct hf_slice name, struct hf_slice value, char *err, size_t err_size)
{
    const struct hf_setting *s = find_setting(name);
    struct change change;
    char text[64];
    char **own;

    if (!s || s->scope != CLUSTER) {
        snprintf(err, err_size, "there is no such setting of the cluster");
        return false;
    }
    own = &c->run->own[place_of(s)];
    if (value.len == 0) {
        bool ok = *own == NULL || hf_setting_assign(c, s, *own, err, err_size);

        replace_text(own, NULL);
        return ok;
    }
    if (!read_change(&change, name, value, err, err_size))
        return false;
    if (*own == NULL) {
        hf_setting_print(c, s, text, sizeof text);
        replace_text(own, text);
    }
    return hf_setting_assign(c, s, change.value, err, err_size);
}

uint64_t hf_config_heartbeat_ms(const struct hf_config *c)
{
    uint64_t most = c->election_timeout_ms / 4;

    return c->heartbeat_ms < most ? c->heartbeat_ms : most;
}
