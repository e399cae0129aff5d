/* log.c: formats one line into a buffer on the stack and hands it to the kernel with one write(2), so lines of
 * several threads do not mix and no lock is needed. A line that is too long is cut and ends in "...".
 *
 * Text:  2026-01-02T03:04:05.678Z INFO consensus: became leader node=n1 term=3 last=17
 * JSON:  {"time":"2026-01-02T03:04:05.678Z","level":"info","module":"consensus","event":"became leader",
 *         "node":"n1","term":3,"last":17}
 *
 * The formatted fields are split at spaces; a value in double quotes may hold spaces (backslash escapes the next
 * byte). Words without '=' are collected in "message". A value that is a plain decimal number becomes a JSON
 * number, all others strings. A field with the name of a fixed member gets an underscore behind its name.
 * Control bytes never reach the output raw: what a client sent cannot forge a line. */
#include "base/log.h"

#include "base/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#define LINES_A_SECOND 20
#define FIELDS_MAX     1536
#define LINE_MAX_BYTES 4096

#define PREFIXES_MAX 4

/* The one process-wide sink. fd and json change only in hf_log_open, before other threads start; a prefix never changes
 * once it is in use: another takes its place. */
static struct {
    int fd; /* 0 = not opened yet: stderr */
    bool json;
    char prefix[PREFIXES_MAX][64];
    _Atomic unsigned prefix_at;
    _Atomic int min;
    _Atomic bool silent;
} sink = {.min = HF_LOG_INFO_LEVEL};

struct line {
    char text[LINE_MAX_BYTES];
    size_t len;
    bool is_cut;
};

bool hf_log_open(const char *path, enum hf_log_level min, bool json, const char *prefix)
{
    int fd = STDERR_FILENO;

    if (path != NULL) {
        fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        if (fd < 0)
            return false;
    }
    if (sink.fd > STDERR_FILENO)
        close(sink.fd);
    sink.fd = fd;
    sink.json = json;
    snprintf(sink.prefix[0], sizeof(sink.prefix[0]), "%s", prefix ? prefix : "");
    atomic_store_explicit(&sink.prefix_at, 0, memory_order_release);
    hf_log_set_level(min);
    return true;
}

void hf_log_set_prefix(const char *prefix)
{
    unsigned at = atomic_load_explicit(&sink.prefix_at, memory_order_relaxed);

    if (strcmp(sink.prefix[at], prefix) == 0 || at + 1 == PREFIXES_MAX)
        return;
    snprintf(sink.prefix[at + 1], sizeof(sink.prefix[0]), "%s", prefix);
    atomic_store_explicit(&sink.prefix_at, at + 1, memory_order_release);
}

void hf_log_set_level(enum hf_log_level min)
{
    atomic_store_explicit(&sink.min, (int)min, memory_order_relaxed);
}

void hf_log_silence(bool on)
{
    atomic_store_explicit(&sink.silent, on, memory_order_relaxed);
}

bool hf_log_wants(enum hf_log_level level)
{
    if (level == HF_LOG_FATAL_LEVEL)
        return true;
    return (int)level >= atomic_load_explicit(&sink.min, memory_order_relaxed) &&
           !atomic_load_explicit(&sink.silent, memory_order_relaxed);
}

static const char *level_name(enum hf_log_level level, bool is_upper)
{
    switch (level) {
    case HF_LOG_DEBUG_LEVEL:
        return is_upper ? "DEBUG" : "debug";
    case HF_LOG_INFO_LEVEL:
        return is_upper ? "INFO" : "info";
    case HF_LOG_WARN_LEVEL:
        return is_upper ? "WARN" : "warn";
    case HF_LOG_ERROR_LEVEL:
        return is_upper ? "ERROR" : "error";
    case HF_LOG_FATAL_LEVEL:
        return is_upper ? "FATAL" : "fatal";
    }
    HF_UNREACHABLE();
}

bool hf_log_level_parse(const char *word, enum hf_log_level *out)
{
    for (int i = HF_LOG_DEBUG_LEVEL; i <= HF_LOG_ERROR_LEVEL; i++) {
        if (strcasecmp(word, level_name((enum hf_log_level)i, false)) == 0) {
            *out = (enum hf_log_level)i;
            return true;
        }
    }
    return false;
}

/* ---- building a line ----------------------------------------------------------------------------- */

/* Keeps room for what closes a line: "...", quotes, brace, newline. */
#define LINE_ROOM 16

static void put_bytes(struct line *l, const char *p, size_t n)
{
    if (l->is_cut || l->len + n > sizeof(l->text) - LINE_ROOM) {
        l->is_cut = true;
        return;
    }
    memcpy(l->text + l->len, p, n);
    l->len += n;
}

static void put_str(struct line *l, const char *s)
{
    put_bytes(l, s, strlen(s));
}

/* Length of the valid UTF-8 sequence at p, or 0. */
static size_t utf8_len(const unsigned char *p, size_t left)
{
    static const struct {
        unsigned char mask, lead;
        uint32_t least;
    } forms[] = {{0xe0, 0xc0, 0x80}, {0xf0, 0xe0, 0x800}, {0xf8, 0xf0, 0x10000}};

    if (p[0] < 0x80)
        return 1;
    for (size_t n = 2; n <= 4; n++) {
        uint32_t c;

        if ((p[0] & forms[n - 2].mask) != forms[n - 2].lead)
            continue;
        if (n > left)
            return 0;
        c = p[0] & (unsigned char)~forms[n - 2].mask;
        for (size_t i = 1; i < n; i++) {
            if ((p[i] & 0xc0) != 0x80)
                return 0;
            c = c << 6 | (p[i] & 0x3f);
        }
        if (c < forms[n - 2].least || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
            return 0;
        return n;
    }
    return 0;
}

/* Control bytes and broken UTF-8 escaped; quotes and backslashes too for JSON. */
static void put_escaped(struct line *l, const char *s, size_t n, bool json)
{
    const unsigned char *p = (const unsigned char *)s;

    for (size_t i = 0; i < n;) {
        size_t len = utf8_len(p + i, n - i);
        char esc[8];

        if (len == 0) {
            snprintf(esc, sizeof(esc), json ? "\\ufffd" : "\\x%02x", p[i]);
            put_str(l, esc);
            i++;
        } else if (p[i] < 0x20 || p[i] == 0x7f) {
            snprintf(esc, sizeof(esc), json ? "\\u%04x" : "\\x%02x", p[i]);
            put_str(l, esc);
            i++;
        } else if (json && (p[i] == '"' || p[i] == '\\')) {
            esc[0] = '\\';
            esc[1] = (char)p[i];
            put_bytes(l, esc, 2);
            i++;
        } else {
            put_bytes(l, s + i, len);
            i += len;
        }
    }
}

static void put_member(struct line *l, const char *name, const char *value)
{
    put_str(l, ",\"");
    put_str(l, name);
    put_str(l, "\":\"");
    put_escaped(l, value, strlen(value), true);
    put_str(l, "\"");
}

static bool is_json_number(const char *p, size_t n)
{
    size_t i = 0, digits;

    if (i < n && p[i] == '-')
        i++;
    digits = i;
    while (i < n && p[i] >= '0' && p[i] <= '9')
        i++;
    digits = i - digits;
    if (digits == 0 || (digits > 1 && p[i - digits] == '0'))
        return false;
    if (i < n && p[i] == '.') {
        size_t from = ++i;

        while (i < n && p[i] >= '0' && p[i] <= '9')
            i++;
        if (i == from)
            return false;
    }
    return i == n;
}

static bool is_fixed_member(const char *p, size_t n)
{
    static const char *const fixed[] = {"time", "level", "module", "event", "node", "message"};

    for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++) {
        if (strlen(fixed[i]) == n && memcmp(fixed[i], p, n) == 0)
            return true;
    }
    return false;
}

static void put_json_field(struct line *l, const char *word, const char *eq, const char *end)
{
    const char *v = eq + 1;
    bool is_quoted = end - v >= 2 && v[0] == '"' && end[-1] == '"';

    put_str(l, ",\"");
    put_escaped(l, word, (size_t)(eq - word), true);
    put_str(l, is_fixed_member(word, (size_t)(eq - word)) ? "_\":" : "\":");
    if (!is_quoted && is_json_number(v, (size_t)(end - v))) {
        put_bytes(l, v, (size_t)(end - v));
        return;
    }
    put_str(l, "\"");
    if (is_quoted) {
        v++;
        end--;
        for (; v < end; v++) {
            const char *from;

            if (*v == '\\' && v + 1 < end)
                v++; /* the escape itself is not part of the value */
            from = v;
            while (v + 1 < end && v[1] != '\\')
                v++;
            put_escaped(l, from, (size_t)(v + 1 - from), true);
        }
    } else {
        put_escaped(l, v, (size_t)(end - v), true);
    }
    put_str(l, "\"");
}

/* Splits "a=1 b=\"x y\" free words" into members. */
static void put_json_fields(struct line *l, const char *fields)
{
    char message[FIELDS_MAX];
    size_t message_len = 0;
    const char *p = fields;

    while (*p != '\0') {
        const char *word = p, *eq = NULL;

        if (*p == ' ') {
            p++;
            continue;
        }
        while (*p != '\0' && *p != ' ') {
            if (*p == '=' && eq == NULL && p > word) {
                eq = p;
                if (p[1] == '"') {
                    for (p += 2; *p != '\0' && *p != '"'; p++) {
                        if (*p == '\\' && p[1] != '\0')
                            p++;
                    }
                    if (*p == '\0')
                        break;
                }
            }
            p++;
        }
        if (eq != NULL) {
            size_t before = l->len;

            put_json_field(l, word, eq, p);
            if (l->is_cut) {
                l->len = before; /* half a member would break the line's syntax */
                return;
            }
        } else {
            if (message_len > 0)
                message[message_len++] = ' ';
            memcpy(message + message_len, word, (size_t)(p - word));
            message_len += (size_t)(p - word);
        }
    }
    if (message_len > 0) {
        size_t before = l->len;

        message[message_len] = '\0';
        put_member(l, "message", message);
        if (l->is_cut)
            l->len = before;
    }
}

static void put_time(struct line *l)
{
    struct timespec now;
    struct tm tm;
    char text[40];
    size_t n;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    n = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text + n, sizeof(text) - n, ".%03dZ", (int)(now.tv_nsec / 1000000));
    put_str(l, text);
}

static void write_all(int fd, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t rc = write(fd, p, n);

        if (rc < 0) {
            if (errno == EINTR)
                continue;
            return; /* nobody is left to be told */
        }
        p += rc;
        n -= (size_t)rc;
    }
}

static void write_line(enum hf_log_level level, const char *module, const char *event, uint32_t n_dropped,
                       const char *fields)
{
    int saved_errno = errno;
    int fd = sink.fd > 0 ? sink.fd : STDERR_FILENO;
    const char *prefix = sink.prefix[atomic_load_explicit(&sink.prefix_at, memory_order_acquire)];
    struct line l;
    char dropped[32] = "";

    l.len = 0;
    l.is_cut = false;
    if (n_dropped > 0)
        snprintf(dropped, sizeof(dropped), "dropped=%u", (unsigned)n_dropped);
    if (sink.json) {
        put_str(&l, "{\"time\":\"");
        put_time(&l);
        put_str(&l, "\"");
        put_member(&l, "level", level_name(level, false));
        put_member(&l, "module", module);
        put_member(&l, "event", event);
        if (prefix[0] != '\0')
            put_member(&l, "node", prefix);
        put_json_fields(&l, dropped);
        put_json_fields(&l, fields);
        l.is_cut = false; /* from here on the reserved room is used */
        memcpy(l.text + l.len, "}\n", 2);
        l.len += 2;
    } else {
        put_time(&l);
        put_str(&l, " ");
        put_str(&l, level_name(level, true));
        put_str(&l, " ");
        put_str(&l, module);
        put_str(&l, ": ");
        put_escaped(&l, event, strlen(event), false);
        if (prefix[0] != '\0') {
            put_str(&l, " node=");
            put_escaped(&l, prefix, strlen(prefix), false);
        }
        if (fields[0] != '\0') {
            put_str(&l, " ");
            put_escaped(&l, fields, strlen(fields), false);
        }
        if (n_dropped > 0) {
            put_str(&l, " ");
            put_str(&l, dropped);
        }
        memcpy(l.text + l.len, l.is_cut ? "...\n" : "\n", l.is_cut ? 4 : 1);
        l.len += l.is_cut ? 4 : 1;
    }
    write_all(fd, l.text, l.len);
    /* Last words also go where an operator looks first. */
    if (level == HF_LOG_FATAL_LEVEL && fd != STDERR_FILENO)
        write_all(STDERR_FILENO, l.text, l.len);
    errno = saved_errno;
}

static void format_fields(char *out, size_t cap, const char *fmt, va_list ap)
{
    int n = vsnprintf(out, cap, fmt, ap);

    if (n < 0)
        snprintf(out, cap, "unprintable");
    else if ((size_t)n >= cap)
        memcpy(out + cap - 4, "...", 4);
}

/* Counts a line of the site; false when it is over the limit. *n_dropped = lines dropped in the last window that
 * had any. Two threads that meet at the edge of a window may let a line more or less through. */
static bool take_turn(struct hf_log_site *site, uint32_t *n_dropped)
{
    struct timespec now;
    uint64_t window, seen;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    window = (uint64_t)now.tv_sec + 1; /* 0 = never used */
    seen = atomic_load_explicit(&site->window, memory_order_relaxed);
    if (seen != window && atomic_compare_exchange_strong_explicit(&site->window, &seen, window, memory_order_relaxed,
                                                                  memory_order_relaxed)) {
        uint32_t lines = atomic_exchange_explicit(&site->lines, 1, memory_order_relaxed);

        *n_dropped = lines > LINES_A_SECOND ? lines - LINES_A_SECOND : 0;
        return true;
    }
    return atomic_fetch_add_explicit(&site->lines, 1, memory_order_relaxed) < LINES_A_SECOND;
}

void hf_log_write(struct hf_log_site *site, enum hf_log_level level, const char *module, const char *event,
                  const char *fmt, ...)
{
    char fields[FIELDS_MAX];
    uint32_t n_dropped = 0;
    va_list ap;

    if (!hf_log_wants(level))
        return;
    if (site != NULL && level != HF_LOG_FATAL_LEVEL && !take_turn(site, &n_dropped))
        return;
    va_start(ap, fmt);
    format_fields(fields, sizeof(fields), fmt, ap);
    va_end(ap);
    write_line(level, module, event, n_dropped, fields);
}

/* ---- last words ---------------------------------------------------------------------------------- */

void hf_assert_failed(const char *file, int line, const char *expr)
{
    char fields[FIELDS_MAX];

    snprintf(fields, sizeof(fields), "%s:%d: %s", file, line, expr);
    write_line(HF_LOG_FATAL_LEVEL, "base", "assertion failed", 0, fields);
    abort();
}

void hf_fatal(const char *fmt, ...)
{
    char fields[FIELDS_MAX];
    va_list ap;

    va_start(ap, fmt);
    format_fields(fields, sizeof(fields), fmt, ap);
    va_end(ap);
    write_line(HF_LOG_FATAL_LEVEL, "base", "stopping", 0, fields);
    _exit(70);
}
