/* stats.c: the metrics registry. The list of metrics is guarded by a mutex (registration and printing are
 * rare); the metrics themselves are relaxed atomics and never move. */
#include "base/stats.h"

#include "base/assert.h"
#include "base/mem.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct metric {
    struct metric *next; /* order of registration */
    const char *name, *help;
    char *labels; /* "" = none */
    enum metric_kind kind;
    union { /* the marks: values at the last hf_stats_mark */
        struct {
            struct hf_counter counter, counter_mark;
        };
        struct hf_gauge gauge;
        struct {
            struct hf_histogram histogram, histogram_mark;
        };
    };
};

struct hf_stats {
    pthread_mutex_t lock;
    struct metric *first, **last;
};

struct hf_stats *hf_stats_new(void)
{
    struct hf_stats *st = hf_calloc(1, sizeof(*st));

    pthread_mutex_init(&st->lock, NULL);
    st->last = &st->first;
    return st;
}

void hf_stats_free(struct hf_stats *st)
{
    if (st == NULL)
        return;
    while (st->first != NULL) {
        struct metric *m = st->first;

        st->first = m->next;
        hf_free(m->labels);
        hf_free(m);
    }
    pthread_mutex_destroy(&st->lock);
    hf_free(st);
}

static struct metric *find_or_add(struct hf_stats *st, enum metric_kind kind, const char *name, const char *labels,
                                  const char *help)
{
    struct metric *m;

    if (labels == NULL)
        labels = "";
    pthread_mutex_lock(&st->lock);
    for (m = st->first; m != NULL; m = m->next) {
        if (strcmp(m->name, name) == 0) {
            HF_ASSERT(m->kind == kind); /* one name, one type, whatever the labels */
            if (strcmp(m->labels, labels) == 0)
                break;
        }
    }
    if (m == NULL) {
        m = hf_calloc(1, sizeof(*m));
        m->name = name;
        m->help = help;
        m->labels = hf_strdup(labels);
        m->kind = kind;
        *st->last = m;
        st->last = &m->next;
    }
    pthread_mutex_unlock(&st->lock);
    return m;
}

struct hf_counter *hf_stats_counter(struct hf_stats *st, const char *name, const char *labels, const char *help)
{
    return &find_or_add(st, METRIC_COUNTER, name, labels, help)->counter;
}

struct hf_gauge *hf_stats_gauge(struct hf_stats *st, const char *name, const char *labels, const char *help)
{
    return &find_or_add(st, METRIC_GAUGE, name, labels, help)->gauge;
}

struct hf_histogram *hf_stats_histogram(struct hf_stats *st, const char *name, const char *labels, const char *help)
{
    return &find_or_add(st, METRIC_HISTOGRAM, name, labels, help)->histogram;
}

/* Buckets 0..3 hold exactly 0..3 us. From 4 on, each power of two 2^e has four of equal width, selected by the
 * two bits below the highest. */
static size_t bucket_of(uint64_t us)
{
    unsigned e;
    size_t i;

    if (us < 4)
        return (size_t)us;
    e = 63u - (unsigned)__builtin_clzll(us);
    i = (e - 1) * 4 + ((us >> (e - 2)) & 3);
    return i < HF_HISTOGRAM_BUCKETS ? i : HF_HISTOGRAM_BUCKETS - 1;
}

/* Least value of a bucket. */
static uint64_t bucket_from(size_t i)
{
    return i < 4 ? i : (4 + (uint64_t)(i & 3)) << (i / 4 - 1);
}

void hf_histogram_record(struct hf_histogram *h, uint64_t us)
{
    uint64_t max = atomic_load_explicit(&h->max_us, memory_order_relaxed);

    atomic_fetch_add_explicit(&h->bucket[bucket_of(us)], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->count, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->sum_us, us, memory_order_relaxed);
    while (us > max &&
           !atomic_compare_exchange_weak_explicit(&h->max_us, &max, us, memory_order_relaxed, memory_order_relaxed))
        ;
}

uint64_t hf_histogram_quantile(const struct hf_histogram *h, double q)
{
    uint64_t bucket[HF_HISTOGRAM_BUCKETS];
    uint64_t total = 0, rank, seen = 0;

    for (size_t i = 0; i < HF_HISTOGRAM_BUCKETS; i++) {
        bucket[i] = atomic_load_explicit(&h->bucket[i], memory_order_relaxed);
        total += bucket[i];
    }
    if (total == 0)
        return 0;
    if (q < 0)
        q = 0;
    if (q > 1)
        q = 1;
    rank = (uint64_t)(q * (double)total);
    if ((double)rank < q * (double)total)
        rank++;
    if (rank == 0)
        rank = 1;
    if (rank > total)
        rank = total;
    for (size_t i = 0; i < HF_HISTOGRAM_BUCKETS - 1; i++) {
        seen += bucket[i];
        if (seen >= rank)
            return bucket_from(i + 1) - 1;
    }
    return atomic_load_explicit(&h->max_us, memory_order_relaxed); /* the last bucket has no upper bound */
}

/* ---- since the mark ------------------------------------------------------------------------------ */

static uint64_t load(const _Atomic uint64_t *v)
{
    return atomic_load_explicit(v, memory_order_relaxed);
}

/* May be read in the middle of a mark: never below 0. */
static uint64_t since(const _Atomic uint64_t *v, const _Atomic uint64_t *mark)
{
    uint64_t from = load(mark), now = load(v);

    return now > from ? now - from : 0;
}

static void mark(_Atomic uint64_t *to, const _Atomic uint64_t *v)
{
    atomic_store_explicit(to, load(v), memory_order_relaxed);
}

void hf_stats_mark(struct hf_stats *st)
{
    pthread_mutex_lock(&st->lock);
    for (struct metric *m = st->first; m != NULL; m = m->next) {
        switch (m->kind) {
        case METRIC_COUNTER:
            mark(&m->counter_mark.v, &m->counter.v);
            break;
        case METRIC_GAUGE:
            break;
        case METRIC_HISTOGRAM:
            mark(&m->histogram_mark.count, &m->histogram.count);
            mark(&m->histogram_mark.sum_us, &m->histogram.sum_us);
            for (size_t i = 0; i < HF_HISTOGRAM_BUCKETS; i++)
                mark(&m->histogram_mark.bucket[i], &m->histogram.bucket[i]);
            break;
        }
    }
    pthread_mutex_unlock(&st->lock);
}

uint64_t hf_counter_since_mark(const struct hf_counter *c)
{
    const struct metric *m = HF_CONTAINER_OF(c, const struct metric, counter);

    return since(&m->counter.v, &m->counter_mark.v);
}

void hf_histogram_since_mark(const struct hf_histogram *h, struct hf_histogram *out)
{
    const struct metric *m = HF_CONTAINER_OF(h, const struct metric, histogram);

    memset(out, 0, sizeof(*out));
    out->count = since(&h->count, &m->histogram_mark.count);
    out->sum_us = since(&h->sum_us, &m->histogram_mark.sum_us);
    out->max_us = load(&h->max_us);
    for (size_t i = 0; i < HF_HISTOGRAM_BUCKETS; i++)
        out->bucket[i] = since(&h->bucket[i], &m->histogram_mark.bucket[i]);
}

/* ---- Prometheus ---------------------------------------------------------------------------------- */

static void print_name(struct hf_buf *out, const struct metric *m, const char *suffix, const char *le)
{
    bool has_labels = m->labels[0] != '\0';

    hf_buf_printf(out, "holdfast_%s%s", m->name, suffix);
    if (has_labels || le != NULL)
        hf_buf_printf(out, "{%s%s", m->labels, has_labels && le != NULL ? "," : "");
    if (le != NULL)
        hf_buf_printf(out, "le=\"%s\"", le);
    hf_buf_printf(out, "%s ", has_labels || le != NULL ? "}" : "");
}

static bool is_in_seconds(const struct metric *m)
{
    static const char suffix[] = "_seconds";
    size_t n = strlen(m->name);

    return n >= sizeof(suffix) - 1 && strcmp(m->name + n - (sizeof(suffix) - 1), suffix) == 0;
}

static void format_us(char *text, size_t cap, uint64_t us, bool in_seconds)
{
    if (in_seconds)
        snprintf(text, cap, "%" PRIu64 ".%06" PRIu64, us / 1000000, us % 1000000);
    else
        snprintf(text, cap, "%" PRIu64, us);
}

/* One line a power of two (the finer buckets serve the quantiles). Values are whole microseconds, rounded down,
 * so "less than 2^k" is what le="2^k" asks for. _count is the sum of the buckets read here, not the counter:
 * updates go on while we print, and the format wants both to agree. */
static void print_histogram(struct hf_buf *out, const struct metric *m)
{
    const struct hf_histogram *h = &m->histogram;
    bool in_seconds = is_in_seconds(m);
    uint64_t seen = 0;
    size_t i = 0;
    char text[48];

    for (unsigned k = 0; k < 32; k++) {
        for (; i < HF_HISTOGRAM_BUCKETS && bucket_from(i) < (uint64_t)1 << k; i++)
            seen += atomic_load_explicit(&h->bucket[i], memory_order_relaxed);
        format_us(text, sizeof(text), (uint64_t)1 << k, in_seconds);
        print_name(out, m, "_bucket", text);
        hf_buf_printf(out, "%" PRIu64 "\n", seen);
    }
    for (; i < HF_HISTOGRAM_BUCKETS; i++)
        seen += atomic_load_explicit(&h->bucket[i], memory_order_relaxed);
    print_name(out, m, "_bucket", "+Inf");
    hf_buf_printf(out, "%" PRIu64 "\n", seen);
    print_name(out, m, "_sum", NULL);
    format_us(text, sizeof(text), atomic_load_explicit(&h->sum_us, memory_order_relaxed), in_seconds);
    hf_buf_printf(out, "%s\n", text);
    print_name(out, m, "_count", NULL);
    hf_buf_printf(out, "%" PRIu64 "\n", seen);
}

static void print_metric(struct hf_buf *out, const struct metric *m)
{
    switch (m->kind) {
    case METRIC_COUNTER:
        print_name(out, m, "", NULL);
        hf_buf_printf(out, "%" PRIu64 "\n", hf_counter_get(&m->counter));
        break;
    case METRIC_GAUGE:
        print_name(out, m, "", NULL);
        hf_buf_printf(out, "%" PRId64 "\n", hf_gauge_get(&m->gauge));
        break;
    case METRIC_HISTOGRAM:
        print_histogram(out, m);
        break;
    }
}

static const char *kind_name(enum metric_kind kind)
{
    switch (kind) {
    case METRIC_COUNTER:
        return "counter";
    case METRIC_GAUGE:
        return "gauge";
    case METRIC_HISTOGRAM:
        return "histogram";
    }
    HF_UNREACHABLE();
}

static bool is_first_of_name(const struct hf_stats *st, const struct metric *m)
{
    const struct metric *other = st->first;

    while (strcmp(other->name, m->name) != 0)
        other = other->next;
    return other == m;
}

void hf_stats_prometheus(struct hf_stats *st, struct hf_buf *out)
{
    /* Quadratic in the number of metrics (some hundred) and off every hot path. */
    pthread_mutex_lock(&st->lock);
    for (const struct metric *m = st->first; m != NULL; m = m->next) {
        if (!is_first_of_name(st, m))
            continue;
        hf_buf_printf(out, "# HELP holdfast_%s %s\n# TYPE holdfast_%s %s\n", m->name, m->help, m->name,
                      kind_name(m->kind));
        for (const struct metric *same = m; same != NULL; same = same->next) {
            if (strcmp(same->name, m->name) == 0)
                print_metric(out, same);
        }
    }
    pthread_mutex_unlock(&st->lock);
}
