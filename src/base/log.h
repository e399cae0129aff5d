/* log.h: structured log lines to stderr or a file, as text or JSON, with levels and a rate limit a call
 * site. One process-wide sink (the only global besides stats-free helpers): set up once in main. Any thread.
 *
 *   HF_LOG_INFO("consensus", "became leader", "term=%" PRIu64 " last=%" PRIu64, term, last);
 *
 * prints: 2026-01-02T03:04:05.678Z INFO consensus: became leader term=3 last=17
 * Fields are written as key=value pairs in the format; JSON output splits them into members. */
#ifndef HF_BASE_LOG_H
#define HF_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum hf_log_level {
    HF_LOG_DEBUG_LEVEL = 0,
    HF_LOG_INFO_LEVEL,
    HF_LOG_WARN_LEVEL,
    HF_LOG_ERROR_LEVEL,
    HF_LOG_FATAL_LEVEL
};

/* path NULL = stderr. prefix (may be NULL) is added to every line as node=prefix. Strings are copied.
 * Returns false when the file cannot be opened. */
bool hf_log_open(const char *path, enum hf_log_level min, bool json, const char *prefix);
/* From now on: a node that joins learns what it is called. One thread, at most three times after hf_log_open. */
void hf_log_set_prefix(const char *prefix);
void hf_log_set_level(enum hf_log_level min);
bool hf_log_level_parse(const char *word, enum hf_log_level *out); /* debug info warn error */
/* Drops all output (tests, simulator) but the last words of a process that stops (level fatal). */
void hf_log_silence(bool on);

struct hf_log_site { /* rate limit of one call site: at most 20 lines a second, then a count of the dropped */
    _Atomic uint64_t window;
    _Atomic uint32_t lines;
};

void hf_log_write(struct hf_log_site *site, enum hf_log_level level, const char *module, const char *event,
                  const char *fmt, ...) __attribute__((format(printf, 5, 6)));
bool hf_log_wants(enum hf_log_level level);

#define HF_LOG_AT(level, module, event, ...)                                                                           \
    do {                                                                                                               \
        static struct hf_log_site hf_site_;                                                                            \
        if (hf_log_wants(level))                                                                                       \
            hf_log_write(&hf_site_, level, module, event, __VA_ARGS__);                                                \
    } while (0)
#define HF_LOG_DEBUG(module, event, ...) HF_LOG_AT(HF_LOG_DEBUG_LEVEL, module, event, __VA_ARGS__)
#define HF_LOG_INFO(module, event, ...)  HF_LOG_AT(HF_LOG_INFO_LEVEL, module, event, __VA_ARGS__)
#define HF_LOG_WARN(module, event, ...)  HF_LOG_AT(HF_LOG_WARN_LEVEL, module, event, __VA_ARGS__)
#define HF_LOG_ERROR(module, event, ...) HF_LOG_AT(HF_LOG_ERROR_LEVEL, module, event, __VA_ARGS__)

#endif
