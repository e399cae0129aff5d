/* stats.h: the registry of counters, gauges and latency histograms behind INFO, /metrics and status.
 * A registry belongs to one node (tests build several in a process). A metric is registered once by its
 * owner and then updated without locks: updates are relaxed atomics, so any thread may update or read. */
#ifndef HF_BASE_STATS_H
#define HF_BASE_STATS_H

#include "base/buf.h"

#include <stdatomic.h>
#include <stdint.h>

struct hf_stats;

struct hf_counter {
    _Atomic uint64_t v;
};
struct hf_gauge {
    _Atomic int64_t v;
};
/* Log-linear buckets over microseconds: 4 per power of two, 0 us .. 71 min (2^32 us), what is longer
 * counts in the last one. */
#define HF_HISTOGRAM_BUCKETS 124
struct hf_histogram {
    _Atomic uint64_t count, sum_us, max_us;
    _Atomic uint64_t bucket[HF_HISTOGRAM_BUCKETS];
};

struct hf_stats *hf_stats_new(void);
void hf_stats_free(struct hf_stats *st);

/* Register under a Prometheus name without the "holdfast_" prefix ("raft_elections_total"), or return the
 * metric of that name. name and help are static strings; labels may be NULL or like `cmd="get"` (copied).
 * The pointer lives as long as the registry. Thread-safe. */
struct hf_counter *hf_stats_counter(struct hf_stats *st, const char *name, const char *labels, const char *help);
struct hf_gauge *hf_stats_gauge(struct hf_stats *st, const char *name, const char *labels, const char *help);
struct hf_histogram *hf_stats_histogram(struct hf_stats *st, const char *name, const char *labels, const char *help);

static inline void hf_counter_add(struct hf_counter *c, uint64_t n)
{
    atomic_fetch_add_explicit(&c->v, n, memory_order_relaxed);
}
static inline uint64_t hf_counter_get(const struct hf_counter *c)
{
    return atomic_load_explicit(&c->v, memory_order_relaxed);
}
static inline void hf_gauge_set(struct hf_gauge *g, int64_t v)
{
    atomic_store_explicit(&g->v, v, memory_order_relaxed);
}
static inline int64_t hf_gauge_get(const struct hf_gauge *g)
{
    return atomic_load_explicit(&g->v, memory_order_relaxed);
}
void hf_histogram_record(struct hf_histogram *h, uint64_t us);
/* Upper bound in us of the bucket that holds quantile q (0..1); 0 when empty. */
uint64_t hf_histogram_quantile(const struct hf_histogram *h, double q);

/* CONFIG RESETSTAT: the functions below tell from now on what came after this call. The metrics themselves go on,
 * because their readers (Prometheus) take a fall for a restart. Thread-safe; what is recorded meanwhile counts for
 * either side. */
void hf_stats_mark(struct hf_stats *st);
/* Both only for metrics of a registry. */
uint64_t hf_counter_since_mark(const struct hf_counter *c);
/* Fills *out with what was recorded since; its max_us is that of all time. */
void hf_histogram_since_mark(const struct hf_histogram *h, struct hf_histogram *out);

/* Prometheus text exposition format 0.0.4 of everything, in order of registration (metrics of one name stand
 * together). A histogram whose name ends in _seconds is shown in seconds, any other in microseconds. */
void hf_stats_prometheus(struct hf_stats *st, struct hf_buf *out);

#endif
