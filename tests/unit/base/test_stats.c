/* test_stats.c: the metrics registry and its text form. */
#include "test_base.h"

#include "base/mem.h"
#include "base/stats.h"
#include "base/util.h"

#include <pthread.h>
#include <stdlib.h>

START_TEST(test_same_name_same_metric)
{
    struct hf_stats *st = hf_stats_new();
    struct hf_counter *a = hf_stats_counter(st, "x_total", NULL, "X.");

    ck_assert_ptr_eq(hf_stats_counter(st, "x_total", NULL, "X."), a);
    ck_assert_ptr_eq(hf_stats_counter(st, "x_total", "", "X."), a);
    ck_assert_ptr_ne(hf_stats_counter(st, "x_total", "cmd=\"get\"", "X."), a);
    hf_counter_add(a, 2);
    hf_counter_add(a, 3);
    ck_assert_uint_eq(hf_counter_get(a), 5);
    hf_stats_free(st);
    hf_stats_free(NULL);
}
END_TEST

START_TEST(test_prometheus_text)
{
    struct hf_stats *st = hf_stats_new();
    struct hf_buf out = {0};
    char labels[] = "cmd=\"get\"";
    struct hf_histogram *h;
    char *text;

    hf_counter_add(hf_stats_counter(st, "calls_total", labels, "Calls."), 7);
    labels[5] = 'x'; /* copied */
    hf_gauge_set(hf_stats_gauge(st, "term", NULL, "Term."), -3);
    hf_counter_add(hf_stats_counter(st, "calls_total", "cmd=\"set\"", "Calls."), 8);
    h = hf_stats_histogram(st, "wait_seconds", "stage=\"q\"", "Wait.");
    hf_histogram_record(h, 0);
    hf_histogram_record(h, 3);
    hf_histogram_record(h, 4);
    hf_histogram_record(h, 1500000);
    hf_histogram_record(h, UINT64_C(1) << 40); /* beyond the last bucket */
    hf_histogram_record(hf_stats_histogram(st, "batch_us", NULL, "Batch."), 5);
    hf_stats_prometheus(st, &out);
    hf_buf_put_u8(&out, 0);
    text = (char *)out.data;
    ck_assert_ptr_eq(strstr(text, "# HELP holdfast_calls_total Calls.\n"
                                  "# TYPE holdfast_calls_total counter\n"
                                  "holdfast_calls_total{cmd=\"get\"} 7\n"
                                  "holdfast_calls_total{cmd=\"set\"} 8\n"
                                  "# HELP holdfast_term Term.\n"
                                  "# TYPE holdfast_term gauge\n"
                                  "holdfast_term -3\n"
                                  "# HELP holdfast_wait_seconds Wait.\n"
                                  "# TYPE holdfast_wait_seconds histogram\n"
                                  "holdfast_wait_seconds_bucket{stage=\"q\",le=\"0.000001\"} 1\n"
                                  "holdfast_wait_seconds_bucket{stage=\"q\",le=\"0.000002\"} 1\n"
                                  "holdfast_wait_seconds_bucket{stage=\"q\",le=\"0.000004\"} 2\n"
                                  "holdfast_wait_seconds_bucket{stage=\"q\",le=\"0.000008\"} 3\n"),
                     text);
    ck_assert_ptr_nonnull(strstr(text, "{stage=\"q\",le=\"1.048576\"} 3\n"));
    ck_assert_ptr_nonnull(strstr(text, "{stage=\"q\",le=\"2.097152\"} 4\n"));
    ck_assert_ptr_nonnull(strstr(text, "{stage=\"q\",le=\"2147.483648\"} 4\n"));
    ck_assert_ptr_nonnull(strstr(text, "{stage=\"q\",le=\"+Inf\"} 5\n"
                                       "holdfast_wait_seconds_sum{stage=\"q\"} 1099513.127783\n"
                                       "holdfast_wait_seconds_count{stage=\"q\"} 5\n"));
    ck_assert_ptr_nonnull(strstr(text, "holdfast_batch_us_bucket{le=\"4\"} 0\nholdfast_batch_us_bucket{le=\"8\"} 1\n"));
    ck_assert_ptr_nonnull(strstr(text, "holdfast_batch_us_sum 5\nholdfast_batch_us_count 1\n"));
    hf_buf_free(&out);
    hf_stats_free(st);
}
END_TEST

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

START_TEST(test_quantiles)
{
    static const double quantiles[] = {0, 0.01, 0.5, 0.9, 0.99, 0.999, 1};
    static uint64_t values[10000];
    struct hf_histogram *h = hf_calloc(1, sizeof(*h));
    struct hf_prng p;
    uint64_t sum = 0;

    ck_assert_uint_eq(hf_histogram_quantile(h, 0.5), 0);
    hf_histogram_record(h, 2);
    ck_assert_uint_eq(hf_histogram_quantile(h, 0), 2);
    ck_assert_uint_eq(hf_histogram_quantile(h, 1), 2);
    memset(h, 0, sizeof(*h));
    hf_prng_seed(&p, 11);
    for (size_t i = 0; i < 10000; i++) {
        values[i] = hf_prng_next(&p) >> (32 + hf_prng_below(&p, 30));
        sum += values[i];
        hf_histogram_record(h, values[i]);
    }
    qsort(values, 10000, sizeof(values[0]), compare_u64);
    for (size_t i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++) {
        size_t rank = (size_t)(quantiles[i] * 10000);
        uint64_t exact = values[rank > 0 ? rank - 1 : 0];
        uint64_t got = hf_histogram_quantile(h, quantiles[i]);

        /* The upper end of the value's bucket, whose width is a quarter of its power of two at most. */
        ck_assert_uint_ge(got, exact);
        ck_assert_uint_le(got, exact + exact / 4 + 1);
    }
    ck_assert_uint_eq(atomic_load(&h->sum_us), sum);
    ck_assert_uint_eq(atomic_load(&h->count), 10000);
    ck_assert_uint_eq(atomic_load(&h->max_us), values[9999]);
    hf_free(h);
}
END_TEST

START_TEST(test_extremes_fall_into_the_last_bucket)
{
    struct hf_histogram *h = hf_calloc(1, sizeof(*h));

    hf_histogram_record(h, UINT64_MAX);
    hf_histogram_record(h, (UINT64_C(1) << 32) - 1);
    ck_assert_uint_eq(atomic_load(&h->bucket[HF_HISTOGRAM_BUCKETS - 1]), 2);
    ck_assert_uint_eq(hf_histogram_quantile(h, 0.5), UINT64_MAX);
    hf_free(h);
}
END_TEST

static void *add_many(void *arg)
{
    struct hf_stats *st = arg;
    struct hf_histogram *h = hf_stats_histogram(st, "t_us", NULL, "T.");

    for (uint64_t i = 0; i < 10000; i++) {
        hf_counter_add(hf_stats_counter(st, "n_total", NULL, "N."), 1);
        hf_histogram_record(h, i);
    }
    return NULL;
}

/* What is shown starts again; what Prometheus reads does not. */
START_TEST(test_since_the_mark)
{
    struct hf_stats *st = hf_stats_new();
    struct hf_counter *c = hf_stats_counter(st, "x_total", NULL, "X.");
    struct hf_histogram *h = hf_stats_histogram(st, "y_us", NULL, "Y."), seen;

    hf_counter_add(c, 5);
    hf_histogram_record(h, 3);
    hf_histogram_record(h, 3);
    hf_gauge_set(hf_stats_gauge(st, "z", NULL, "Z."), 7);
    ck_assert_uint_eq(hf_counter_since_mark(c), 5);
    hf_histogram_since_mark(h, &seen);
    ck_assert_uint_eq(seen.count, 2);
    ck_assert_uint_eq(hf_histogram_quantile(&seen, 0.5), 3);
    hf_stats_mark(st);
    ck_assert_uint_eq(hf_counter_since_mark(c), 0);
    ck_assert_uint_eq(hf_counter_get(c), 5);
    hf_counter_add(c, 2);
    hf_histogram_record(h, 0);
    ck_assert_uint_eq(hf_counter_since_mark(c), 2);
    hf_histogram_since_mark(h, &seen);
    ck_assert_uint_eq(seen.count, 1);
    ck_assert_uint_eq(seen.sum_us, 0);
    ck_assert_uint_eq(hf_histogram_quantile(&seen, 0.99), 0);
    ck_assert_uint_eq(h->count, 3);
    ck_assert_int_eq(hf_gauge_get(hf_stats_gauge(st, "z", NULL, "Z.")), 7);
    hf_stats_mark(st);
    ck_assert_uint_eq(hf_counter_since_mark(c), 0);
    hf_stats_free(st);
}
END_TEST

START_TEST(test_many_threads)
{
    struct hf_stats *st = hf_stats_new();
    struct hf_buf out = {0};
    struct hf_histogram *h;
    pthread_t threads[4];

    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, add_many, st), 0);
    hf_stats_prometheus(st, &out);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    h = hf_stats_histogram(st, "t_us", NULL, "T.");
    ck_assert_uint_eq(hf_counter_get(hf_stats_counter(st, "n_total", NULL, "N.")), 40000);
    ck_assert_uint_eq(atomic_load(&h->count), 40000);
    ck_assert_uint_eq(atomic_load(&h->max_us), 9999);
    hf_buf_free(&out);
    hf_stats_free(st);
}
END_TEST

TCase *stats_case(void)
{
    TCase *tc = tcase_create("stats");

    tcase_add_test(tc, test_same_name_same_metric);
    tcase_add_test(tc, test_prometheus_text);
    tcase_add_test(tc, test_quantiles);
    tcase_add_test(tc, test_extremes_fall_into_the_last_bucket);
    tcase_add_test(tc, test_since_the_mark);
    tcase_add_test(tc, test_many_threads);
    return tc;
}
