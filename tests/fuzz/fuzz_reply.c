/* fuzz_reply.c: bytes from another node that pass as a reply encode to exactly one RESP value, in both protocols. */
#include "fuzz.h"

#include "base/assert.h"
#include "base/util.h"
#include "resp/resp.h"

/* Walks RESP and returns true when it is exactly one value, with the types of this protocol only. */
static bool is_one_value(struct hf_slice wire, int protocol)
{
    const char *types = protocol == 3 ? "+-:$*_%~>,#=(|" : "+-:$*";
    size_t at = 0;
    uint64_t left = 1;

    while (left != 0) {
        const uint8_t *line = wire.ptr + at, *cr;
        uint8_t type;
        int64_t n = 0;

        if (at == wire.len || strchr(types, line[0]) == NULL || line[0] == 0)
            return false;
        type = line[0];
        cr = memchr(line, '\r', wire.len - at);
        if (cr == NULL || (size_t)(cr - wire.ptr) + 2 > wire.len || cr[1] != '\n')
            return false;
        at = (size_t)(cr - wire.ptr) + 2;
        left--;
        if (strchr(":$*%~>=|", type) != NULL && !hf_parse_int64(hf_slice(line + 1, (size_t)(cr - line) - 1), &n))
            return false;
        if ((type == '$' && n >= 0) || type == '=') {
            if (wire.len - at < (size_t)n + 2 || memcmp(wire.ptr + at + n, "\r\n", 2) != 0)
                return false;
            at += (size_t)n + 2;
        } else if ((type == '*' && n >= 0) || type == '~' || type == '>') {
            left += (uint64_t)n;
        } else if (type == '%') {
            left += 2 * (uint64_t)n;
        } else if (type == '|') {
            left += 2 * (uint64_t)n + 1;
        }
    }
    return at == wire.len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hf_slice flat = hf_slice(data, size);
    struct hf_buf out = {NULL, 0, 0};

    if (!hf_reply_is_valid(flat))
        return 0;
    HF_ASSERT(hf_reply_first_tag(flat) != 0);
    for (int protocol = 2; protocol <= 3; protocol++) {
        out.len = 0;
        hf_resp_encode(&out, flat, protocol);
        HF_ASSERT(is_one_value(hf_buf_slice(&out), protocol));
    }
    hf_buf_free(&out);
    return 0;
}
