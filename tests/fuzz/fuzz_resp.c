/* fuzz_resp.c: the request parser gives the same commands and the same error for the same bytes, whole or in chunks.
 * Input: one byte that seeds the chunk sizes, one that chooses the limits, then what a client sends. */
#include "fuzz.h"

#include "base/assert.h"
#include "base/mem.h"
#include "base/util.h"
#include "resp/resp.h"

static const struct hf_resp_limits choices[] = {
    {HF_RESP_BULK_BYTES_DEFAULT, UINT64_MAX, HF_RESP_ARGS_DEFAULT, HF_RESP_INLINE_BYTES_DEFAULT},
    {16, 64, 4, 8},
    {0, 100, 2, 20},
    {1000, 1000, 1000, 1000},
};

/* Everything the parser says, as bytes that can be compared. */
static void put_command(struct hf_buf *log, const struct hf_args *args)
{
    hf_buf_put_u8(log, 'C');
    hf_buf_put_u32(log, args->n);
    for (uint32_t i = 0; i < args->n; i++)
        hf_buf_put_slice(log, args->at[i]);
}

static void run(struct hf_buf *log, const struct hf_resp_limits *limits, struct hf_slice input, struct hf_prng *chunks)
{
    struct hf_resp_parser p;
    size_t done = 0, end = 0;

    hf_resp_parser_init(&p, limits);
    for (;;) {
        enum hf_resp_status status = HF_RESP_COMMAND;
        uint8_t *copy;
        size_t at = 0, used;

        if (chunks == NULL || input.len - end == 0)
            end = input.len;
        else
            end += 1 + hf_prng_below(chunks, input.len - end < 20 ? input.len - end : 20);
        copy = hf_malloc(end - done + 1); /* a fresh place each time: nothing may point to the old one */
        memcpy(copy, input.ptr + done, end - done);
        copy = hf_realloc(copy, end - done != 0 ? end - done : 1);
        while (status == HF_RESP_COMMAND) {
            status = hf_resp_parse(&p, hf_slice(copy + at, end - done - at), &used);
            switch (status) {
            case HF_RESP_COMMAND:
                HF_ASSERT(used > 0);
                HF_ASSERT(used <= end - done - at);
                put_command(log, &p.args);
                at += used;
                break;
            case HF_RESP_MORE:
                HF_ASSERT(used == 0);
                HF_ASSERT(p.needed == 0 || p.needed > end - done - at);
                break;
            case HF_RESP_ERROR:
                HF_ASSERT(strncmp(p.error, "ERR Protocol error: ", 20) == 0);
                hf_buf_put_slice(log, hf_slice_str(p.error));
                break;
            }
        }
        done += at;
        hf_free(copy);
        if (status == HF_RESP_ERROR || end == input.len)
            break;
    }
    HF_ASSERT(p.cap <= 16 + 2 * input.len); /* memory follows the input, not its promises */
    hf_resp_parser_free(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hf_buf whole = {NULL, 0, 0}, chunked = {NULL, 0, 0};
    const struct hf_resp_limits *limits;
    struct hf_prng prng;
    struct hf_slice input;

    if (size < 2)
        return 0;
    hf_prng_seed(&prng, data[0]);
    limits = &choices[data[1] % (sizeof choices / sizeof *choices)];
    input = hf_slice(data + 2, size - 2);
    run(&whole, limits, input, NULL);
    run(&chunked, limits, input, &prng);
    HF_ASSERT(hf_slice_eq(hf_buf_slice(&whole), hf_buf_slice(&chunked)));
    hf_buf_free(&whole);
    hf_buf_free(&chunked);
    return 0;
}
