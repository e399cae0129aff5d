/* logclock.h: the clock that a leader stamps its entries with (R4). Pure arithmetic over the readings it is given, so
 * that every jump of every clock can be tried in a test.
 *
 * It starts at the larger of the stored log time and the wall clock, advances by the boot clock (which no one sets),
 * and is steered towards the wall clock by making each second at most 10 % longer or shorter. So it never goes back,
 * never stands still, and no jump of a wall clock moves it. The wall clock here is the median of the voters' ones;
 * where this node's own differs from that by more than HF_LOGCLOCK_OFF_MS it is not believed at the start. */
#ifndef HF_PROPOSE_LOGCLOCK_H
#define HF_PROPOSE_LOGCLOCK_H

#include <stdbool.h>
#include <stdint.h>

#define HF_LOGCLOCK_OFF_MS 1000

struct hf_logclock {
    int64_t base_us; /* the clock at base_boot_us */
    uint64_t base_boot_us;
    int64_t told_us; /* the latest reading given out */
};

/* offset_ms: median of the voters' wall clocks less ours. stored_ms: latest stamp in the log as far as known here; 0
 * or less: an empty log, which takes the wall clock as it is. */
void hf_logclock_start(struct hf_logclock *c, int64_t stored_ms, int64_t wall_ms, int64_t offset_ms, uint64_t boot_us);
/* The clock now, ms. boot_us must not go back. */
int64_t hf_logclock_now(struct hf_logclock *c, int64_t wall_ms, int64_t offset_ms, uint64_t boot_us);
/* An entry with this stamp was committed: the clock is not behind it from now on. */
void hf_logclock_raise(struct hf_logclock *c, int64_t stamp_ms);
/* This node's wall clock is too far off the others' to be believed. */
bool hf_logclock_is_off(int64_t offset_ms);

#endif
