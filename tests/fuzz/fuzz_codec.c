/* fuzz_codec.c: a message of another node (first byte its type, then its bytes) that decodes encodes to the same bytes
 * again, keeps the promises libraft's core relies on, and holds only configurations that libraft itself can decode. */
#include "fuzz.h"

#include "base/assert.h"
#include "base/mem.h"
#include "consensus/codec.h"

static void check_configuration(const struct hf_log_entry *e)
{
    struct raft_configuration conf;
    uint8_t *copy = hf_memdup(e->data, e->len); /* exact, so that a read past the end is seen */
    struct raft_buffer buf = {.base = copy, .len = e->len};
    unsigned voters = 0;

    HF_ASSERT(raft_configuration_decode(&buf, &conf) == 0);
    for (unsigned i = 0; i < conf.n; i++)
        voters += conf.servers[i].role == RAFT_VOTER;
    HF_ASSERT(voters > 0);
    raft_configuration_close(&conf);
    hf_free(copy);
}

static void check_entries(const struct raft_append_entries *m, struct hf_log_entry **entries, struct hf_buf *again)
{
    uint64_t term = m->prev_log_term;

    HF_ASSERT((entries == NULL) == (m->n_entries == 0));
    for (unsigned i = 0; i < m->n_entries; i++) {
        const struct hf_log_entry *e = entries[i];

        HF_ASSERT(e->index == m->prev_log_index + 1 + i);
        HF_ASSERT(e->term >= term);
        HF_ASSERT(e->term <= m->term);
        term = e->term;
        if (e->type == HF_ENTRY_CONFIGURATION)
            check_configuration(e);
        hf_codec_put_entry(again, e);
        hf_log_entry_unref(entries[i]);
    }
    hf_free(entries);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hf_log_entry **entries;
    struct hf_buf again = {0};
    struct raft_message m;

    if (size == 0)
        return 0;
    if (hf_codec_decode(data[0], hf_slice(data + 1, size - 1), &m, &entries) != 0) {
        HF_ASSERT(entries == NULL);
        return 0;
    }
    hf_codec_put_message(&again, &m);
    if (m.type == RAFT_APPEND_ENTRIES)
        check_entries(&m.append_entries, entries, &again);
    HF_ASSERT(hf_slice_eq(hf_buf_slice(&again), hf_slice(data + 1, size - 1)));
    hf_buf_free(&again);
    return 0;
}
