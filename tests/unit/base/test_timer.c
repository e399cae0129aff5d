/* test_timer.c: the timer heap against a plain list. */
#include "test_base.h"

#include "base/env.h"
#include "base/util.h"

#define N_TIMERS 200

static void check_heap(const struct hf_timer_heap *h)
{
    for (size_t i = 1; i <= h->n; i++) {
        ck_assert_uint_eq(h->items[i]->heap_pos, i);
        if (i > 1)
            ck_assert_uint_le(h->items[i / 2]->due_ms, h->items[i]->due_ms);
    }
}

START_TEST(test_equal_times_keep_their_order)
{
    struct hf_timer_heap h = {0};
    struct hf_timer t[50] = {0};

    ck_assert_ptr_null(hf_timer_heap_first(&h));
    for (int i = 0; i < 50; i++)
        hf_timer_heap_insert(&h, &t[i], 5);
    hf_timer_heap_insert(&h, &t[0], 5); /* restarted: now the last one */
    for (int i = 1; i <= 50; i++) {
        ck_assert_ptr_eq(hf_timer_heap_first(&h), &t[i % 50]);
        hf_timer_heap_remove(&h, &t[i % 50]);
        ck_assert(!hf_timer_is_active(&t[i % 50]));
    }
    ck_assert_ptr_null(hf_timer_heap_first(&h));
    hf_timer_heap_remove(&h, &t[0]);
    hf_timer_heap_free(&h);
}
END_TEST

START_TEST(test_random_inserts_and_removes)
{
    struct hf_timer_heap h = {0};
    struct hf_timer t[N_TIMERS] = {0};
    struct hf_prng p;

    hf_prng_seed(&p, 5);
    for (int step = 0; step < 20000; step++) {
        struct hf_timer *x = &t[hf_prng_below(&p, N_TIMERS)], *least = NULL;
        size_t n_active = 0;

        if (hf_prng_below(&p, 3) > 0)
            hf_timer_heap_insert(&h, x, hf_prng_below(&p, 100));
        else
            hf_timer_heap_remove(&h, x);
        for (int i = 0; i < N_TIMERS; i++) {
            if (!hf_timer_is_active(&t[i]))
                continue;
            n_active++;
            if (least == NULL || t[i].due_ms < least->due_ms || (t[i].due_ms == least->due_ms && t[i].seq < least->seq))
                least = &t[i];
        }
        ck_assert_uint_eq(h.n, n_active);
        ck_assert_ptr_eq(hf_timer_heap_first(&h), least);
        if (step % 100 == 0)
            check_heap(&h);
    }
    hf_timer_heap_free(&h);
    for (int i = 0; i < N_TIMERS; i++)
        ck_assert(!hf_timer_is_active(&t[i]));
}
END_TEST

TCase *timer_case(void)
{
    TCase *tc = tcase_create("timer");

    tcase_add_test(tc, test_equal_times_keep_their_order);
    tcase_add_test(tc, test_random_inserts_and_removes);
    return tc;
}
