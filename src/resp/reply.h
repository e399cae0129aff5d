/* reply.h: protocol-neutral reply values. A command handler builds one value; net encodes it for the
 * connection's protocol (resp.h), a follower receives it from the leader in the same flat form.
 *
 * Flat form, all little-endian, one tag byte each:
 *   STATUS/ERROR/BULK/DOUBLE/VERBATIM/BIGNUM  u32 length, bytes   (DOUBLE as its decimal text)
 *   INT                                        i64
 *   BOOL                                       u8
 *   NULL, NULL_ARRAY                           nothing
 *   ARRAY/SET/PUSH                             u32 n, then n values
 *   MAP                                        u32 n, then 2n values
 *   ATTRIBUTE                                  u32 n, then 2n values, then the value that it is about
 * The same inputs give the same bytes on every node. */
#ifndef HF_RESP_REPLY_H
#define HF_RESP_REPLY_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

enum hf_reply_tag {
    HF_REPLY_STATUS = 1,
    HF_REPLY_ERROR,
    HF_REPLY_BULK,
    HF_REPLY_INT,
    HF_REPLY_NULL,
    HF_REPLY_NULL_ARRAY, /* RESP2 "*-1": an aborted EXEC, a timed-out blocking pop */
    HF_REPLY_ARRAY,
    HF_REPLY_MAP,
    HF_REPLY_SET,
    HF_REPLY_PUSH,
    HF_REPLY_DOUBLE,
    HF_REPLY_BOOL,
    HF_REPLY_VERBATIM, /* text; "txt" format */
    HF_REPLY_BIGNUM,
    HF_REPLY_ATTRIBUTE,
};

/* A value under construction. Zero-initialise. With discard set (followers applying an entry whose client is
 * elsewhere) all calls below do nothing. */
struct hf_reply {
    struct hf_buf buf;
    bool discard;
};

void hf_reply_status(struct hf_reply *r, const char *text);
void hf_reply_ok(struct hf_reply *r);
/* Full text with its prefix word, no CR/LF (replaced by spaces): "ERR syntax error". */
void hf_reply_error(struct hf_reply *r, const char *text);
void hf_reply_errorf(struct hf_reply *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void hf_reply_int(struct hf_reply *r, int64_t v);
void hf_reply_bulk(struct hf_reply *r, struct hf_slice s);
void hf_reply_bulk_str(struct hf_reply *r, const char *s);
void hf_reply_null(struct hf_reply *r);
void hf_reply_null_array(struct hf_reply *r);
void hf_reply_array(struct hf_reply *r, uint32_t n);
void hf_reply_map(struct hf_reply *r, uint32_t n_pairs);
void hf_reply_set(struct hf_reply *r, uint32_t n);
void hf_reply_push(struct hf_reply *r, uint32_t n);
void hf_reply_double_text(struct hf_reply *r, struct hf_slice text);
void hf_reply_bool(struct hf_reply *r, bool v);
void hf_reply_verbatim(struct hf_reply *r, struct hf_slice text);
/* An array/map whose size is known only at the end: begin returns a mark, end patches n. */
size_t hf_reply_begin(struct hf_reply *r, enum hf_reply_tag tag);
void hf_reply_end(struct hf_reply *r, size_t mark, uint32_t n);
void hf_reply_free(struct hf_reply *r);

/* Error texts that more than one handler or folder gives, exactly as Redis words them where Redis has them. */
#define HF_ERR_SYNTAX       "ERR syntax error"
#define HF_ERR_NOT_INTEGER  "ERR value is not an integer or out of range"
#define HF_ERR_NOT_FLOAT    "ERR value is not a valid float"
#define HF_ERR_OUT_OF_RANGE "ERR value is out of range"
#define HF_ERR_WRONGTYPE    "WRONGTYPE Operation against a key holding the wrong kind of value"
#define HF_ERR_NO_SUCH_KEY  "ERR no such key"

/* True when bytes are exactly one well-formed value (nesting at most 32). For replies from other nodes. */
bool hf_reply_is_valid(struct hf_slice flat);
/* Tag of the first value, 0 when empty. */
enum hf_reply_tag hf_reply_first_tag(struct hf_slice flat);

#endif
