/* logclock.c: the leader's log clock; see logclock.h. Works in microseconds, because the clock is asked thousands of
 * times a second and a tenth of a millisecond would round to nothing each time. */
#include "propose/logclock.h"

#include "base/assert.h"

/* The line is laid anew at most this often; in between the clock follows from the same base, so that rounding
 * happens once in a while and not at every reading. */
#define REBASE_US 1000u
/* Stamps come from the log, so from other nodes; what is outside these bounds (the year 36812) is brought inside before
 * it is multiplied. */
#define STAMP_MS_MAX INT64_C(1099511627776000)

static int64_t us_from_ms(int64_t ms)
{
    if (ms > STAMP_MS_MAX)
        ms = STAMP_MS_MAX;
    if (ms < 0)
        ms = 0;
    return ms * 1000;
}

/* The voters' wall clock. */
static int64_t target_us(int64_t wall_ms, int64_t offset_ms)
{
    int64_t ms;

    if (__builtin_add_overflow(wall_ms, offset_ms, &ms))
        ms = wall_ms;
    return us_from_ms(ms);
}

bool hf_logclock_is_off(int64_t offset_ms)
{
    return offset_ms > HF_LOGCLOCK_OFF_MS || offset_ms < -HF_LOGCLOCK_OFF_MS;
}

void hf_logclock_start(struct hf_logclock *c, int64_t stored_ms, int64_t wall_ms, int64_t offset_ms, uint64_t boot_us)
{
    int64_t stored = us_from_ms(stored_ms), target = target_us(wall_ms, offset_ms);

    c->base_us = stored;
    if (stored == 0 || (!hf_logclock_is_off(offset_ms) && target > stored))
        c->base_us = target;
    c->base_boot_us = boot_us;
    c->told_us = c->base_us;
}

int64_t hf_logclock_now(struct hf_logclock *c, int64_t wall_ms, int64_t offset_ms, uint64_t boot_us)
{
    int64_t elapsed, steer, most, now;

    HF_ASSERT(boot_us >= c->base_boot_us);
    elapsed = (int64_t)(boot_us - c->base_boot_us);
    most = elapsed / 10;
    steer = target_us(wall_ms, offset_ms) - (c->base_us + elapsed);
    if (steer > most)
        steer = most;
    if (steer < -most)
        steer = -most;
    now = c->base_us + elapsed + steer;
    /* Within one stretch the wall clock may jump back and forth between two readings. */
    if (now < c->told_us)
        now = c->told_us;
    c->told_us = now;
    if (elapsed >= (int64_t)REBASE_US) {
        c->base_us = now;
        c->base_boot_us = boot_us;
    }
    return now / 1000;
}

void hf_logclock_raise(struct hf_logclock *c, int64_t stamp_ms)
{
    int64_t us = us_from_ms(stamp_ms);

    if (us <= c->told_us)
        return;
    c->base_us += us - c->told_us;
    c->told_us = us;
}
