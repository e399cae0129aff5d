/* lookup.c: how read handlers reach a key. A key that is due by the leader's clock but still alive by log time may
 * be shown neither alive (it is past its time) nor dead (after a failover to a node with a slower clock it would
 * rise again): the read asks for a tick, which moves log time on, and runs again after it. */
#include "command/command.h"

static bool seen(struct hf_read_ctx *cx, bool is_found, const struct hf_row *row)
{
    if (!is_found) {
        cx->misses++;
        return false;
    }
    if (row->expires_at_ms != 0 && row->expires_at_ms <= cx->clock_ms) {
        cx->needs_tick = true;
        return false;
    }
    cx->hits++;
    return true;
}

bool hf_read_row(struct hf_read_ctx *cx, struct hf_slice key, struct hf_row *row)
{
    return seen(cx, hf_store_get(cx->store, key, row), row);
}

bool hf_read_peek(struct hf_read_ctx *cx, struct hf_slice key, struct hf_row *row)
{
    return seen(cx, hf_store_peek(cx->store, key, row), row);
}
