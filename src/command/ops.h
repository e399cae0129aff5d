/* ops.h: the wire numbers of the WRITE commands and what their payloads hold. The numbers stand in the log for
 * ever: append only, never reuse or change one. New behaviour is a new op.
 *
 * Payload notation: `bytes` = u32 length and that many bytes; u8, u16, u32, i64 little-endian; x* = u32 count, then
 * that many x. A relative expiry is milliseconds from the log time of the entry, an absolute one is milliseconds
 * since 1970. */
#ifndef HF_COMMAND_OPS_H
#define HF_COMMAND_OPS_H

enum hf_op {
    HF_OP_SET = 1,          /* u16 hf_set_flags, bytes key, bytes value, [i64 expiry], [bytes compare] */
    HF_OP_SETNX = 2,        /* as SET */
    HF_OP_SETEX = 3,        /* as SET */
    HF_OP_PSETEX = 4,       /* as SET */
    HF_OP_GETSET = 5,       /* as SET */
    HF_OP_GETDEL = 6,       /* bytes key */
    HF_OP_GETEX = 7,        /* u8 hf_expiry_kind, bytes key, i64 expiry */
    HF_OP_MSET = 8,         /* (bytes key, bytes value)* */
    HF_OP_MSETNX = 9,       /* (bytes key, bytes value)* */
    HF_OP_APPEND = 10,      /* bytes key, bytes value */
    HF_OP_SETRANGE = 11,    /* bytes key, i64 offset, bytes value */
    HF_OP_INCR = 12,        /* bytes key, i64 delta */
    HF_OP_DECR = 13,        /* as INCR */
    HF_OP_INCRBY = 14,      /* as INCR */
    HF_OP_DECRBY = 15,      /* as INCR; the delta is already negated */
    HF_OP_INCRBYFLOAT = 16, /* bytes key, bytes decimal text in the form of decimal.h */
    HF_OP_DEL = 17,         /* (bytes key)* */
    HF_OP_UNLINK = 18,      /* (bytes key)* */
    HF_OP_EXPIRE = 19,      /* u8 hf_expire_flags, bytes key, i64 expiry */
    HF_OP_PEXPIRE = 20,     /* as EXPIRE */
    HF_OP_EXPIREAT = 21,    /* as EXPIRE */
    HF_OP_PEXPIREAT = 22,   /* as EXPIRE */
    HF_OP_PERSIST = 23,     /* bytes key */
    HF_OP_RENAME = 24,      /* bytes from, bytes to */
    HF_OP_RENAMENX = 25,    /* bytes from, bytes to */
    HF_OP_COPY = 26,        /* u8 replace, bytes from, bytes to */
    HF_OP_FLUSHDB = 27,     /* nothing */
    HF_OP_FLUSHALL = 28,    /* nothing */
    HF_OP_HF_CAS = 29,      /* u8 hf_cas_kind, bytes key, i64 version | bytes old, bytes new */
    HF_OP_SETTING = 30,     /* bytes name, bytes value ("" deletes); level 2 */
    HF_OP_LEVEL = 31,       /* u32 level: raises setting "level" to it, never lowers it */
    HF_OP_MAX = 31,
};

/* Part of the payloads above. */
enum hf_set_flags {
    HF_SET_NX = 1 << 0,
    HF_SET_XX = 1 << 1,
    HF_SET_GET = 1 << 2,
    HF_SET_KEEPTTL = 1 << 3,
    HF_SET_RELATIVE = 1 << 4, /* an expiry follows: relative */
    HF_SET_ABSOLUTE = 1 << 5, /* an expiry follows: absolute */
    HF_SET_IFEQ = 1 << 6,     /* a value to compare with follows */
    HF_SET_COUNT = 1 << 7,    /* reply 1 or 0 (SETNX) in place of OK or nil */
};

enum hf_expiry_kind {
    HF_EXPIRY_UNCHANGED = 0,
    HF_EXPIRY_RELATIVE = 1,
    HF_EXPIRY_ABSOLUTE = 2,
    HF_EXPIRY_PERSIST = 3,
};

enum hf_expire_flags {
    HF_EXPIRE_NX = 1 << 0,
    HF_EXPIRE_XX = 1 << 1,
    HF_EXPIRE_GT = 1 << 2,
    HF_EXPIRE_LT = 1 << 3,
    HF_EXPIRE_ABSOLUTE = 1 << 4,
};

enum hf_cas_kind {
    HF_CAS_VERSION = 1,
    HF_CAS_VALUE = 2,
};

#endif
