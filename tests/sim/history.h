/* history.h: what clients saw of one key, and whether some order of the operations explains it. */
#ifndef HF_SIM_HISTORY_H
#define HF_SIM_HISTORY_H

#include <stdbool.h>
#include <stdint.h>

#define HF_HISTORY_OPS_MAX 64

enum hf_history_kind {
    HF_HISTORY_READ,   /* saw `value` (0 = absent) */
    HF_HISTORY_WRITE,  /* made it `value` */
    HF_HISTORY_ADD,    /* added 1; saw `value` afterwards when answered */
    HF_HISTORY_SWAP,   /* made it `value` where it was `expected`, and nothing otherwise; did_swap when answered */
    HF_HISTORY_EXPIRE, /* nobody's: `expected` goes away at some time, or is replaced before */
};

struct hf_history_op {
    enum hf_history_kind kind;
    uint64_t value, expected;
    uint64_t invoked;   /* any rising clock */
    uint64_t completed; /* UINT64_MAX: outcome unknown, it may take effect at any later time or never */
    uint32_t after;     /* 1 + the operation that its client sent before it on the same connection, 0 = none */
    bool did_swap;
};

struct hf_history {
    struct hf_history_op ops[HF_HISTORY_OPS_MAX];
    uint32_t n;
};

/* Wing and Gong's search with Lowe's cache of visited (done set, value): true when the history is linearizable for a
 * value that starts absent (0), with the commands of one connection in their order. Failed operations are not part of a
 * history; reads of unknown outcome neither. */
bool hf_history_is_linearizable(const struct hf_history *h);

#endif
