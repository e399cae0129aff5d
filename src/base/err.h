/* err.h: the one list of error codes. Every fallible function returns 0 or one of these (negative).
 * libraft, libuv, errno and SQLite codes are translated at the edge of the folder that meets them. */
#ifndef HF_BASE_ERR_H
#define HF_BASE_ERR_H

/* X(name, value, text). Values are ours alone and may appear in logs, never on disk or on the wire. */
#define HF_ERR_MAP(X)                                                                                                  \
    X(NOMEM, -1, "out of memory")                                                                                      \
    X(IO, -2, "input/output error")                                                                                    \
    X(NOSPC, -3, "no space left on the disk")                                                                          \
    X(CORRUPT, -4, "damaged data")                                                                                     \
    X(INVALID, -5, "invalid argument or malformed data")                                                               \
    X(NOENT, -6, "no such file or item")                                                                               \
    X(EXISTS, -7, "already exists")                                                                                    \
    X(BUSY, -8, "a queue is at its limit")                                                                             \
    X(AGAIN, -9, "not available yet")                                                                                  \
    X(LIMIT, -10, "over a configured limit")                                                                           \
    X(CLOSED, -11, "closed")                                                                                           \
    X(CONN, -12, "not connected")                                                                                      \
    X(TIMEOUT, -13, "timed out")                                                                                       \
    X(CANCELED, -14, "canceled")                                                                                       \
    X(ADDRINUSE, -15, "address already in use")                                                                        \
    X(NOT_LEADER, -16, "not the leader")                                                                               \
    X(VERSION, -17, "unsupported version")                                                                             \
    X(FOREIGN, -18, "belongs to another cluster or node")                                                              \
    X(PERM, -19, "permission denied")                                                                                  \
    X(LOCKED, -20, "locked by another process")                                                                        \
    X(SYS, -21, "operating system error")

enum hf_err {
    HF_OK = 0,
#define X(name, value, text) HF_E_##name = value,
    HF_ERR_MAP(X)
#undef X
};

/* Text of a code above; "unknown error" for any other number. Static storage. Any thread. */
const char *hf_strerror(int err);

/* Translate an errno value to the nearest code above. Any thread. */
int hf_err_from_errno(int sys_errno);

#define HF_MUST_CHECK __attribute__((warn_unused_result))

#endif
