/* history.h: what clients saw of one register, and whether some order of the operations explains it. */
#ifndef HF_SIM_HISTORY_H
#define HF_SIM_HISTORY_H

#include <stdbool.h>
#include <stdint.h>

#define HF_HISTORY_OPS_MAX 64

enum hf_history_kind { HF_HISTORY_READ, HF_HISTORY_WRITE };

struct hf_history_op {
    enum hf_history_kind kind;
    uint64_t value;     /* written, or read (0 = absent) */
    uint64_t invoked;   /* any rising clock */
    uint64_t completed; /* UINT64_MAX: outcome unknown, it may take effect at any later time or never */
};

struct hf_history {
    struct hf_history_op ops[HF_HISTORY_OPS_MAX];
    uint32_t n;
};

/* Wing and Gong's search with Lowe's cache of visited (done set, register value): true when the history is
 * linearizable for a register that starts absent (0). Failed operations are not part of a history; reads of unknown
 * outcome neither. */
bool hf_history_is_linearizable(const struct hf_history *h);

#endif
