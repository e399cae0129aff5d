/* assert.h: assertions that stay on in release builds, and the one way to stop the process for good.
 * A stopped replica is an outage of one; a wrong replica is an outage of all. */
#ifndef HF_BASE_ASSERT_H
#define HF_BASE_ASSERT_H

/* Stop the process: logs `file:line: message` at level fatal, then abort(). Any thread. Never returns. */
_Noreturn void hf_assert_failed(const char *file, int line, const char *expr);

/* An error that this node cannot survive (a failed fsync, damaged state, an impossible step of the
 * consensus core). Logs the message and exits with status 70 without running destructors. Any thread. */
_Noreturn void hf_fatal(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#define HF_ASSERT(expr) ((expr) ? (void)0 : hf_assert_failed(__FILE__, __LINE__, #expr))

#ifdef HF_SLOW_ASSERTS
#define HF_ASSERT_SLOW(expr) HF_ASSERT(expr)
#else
#define HF_ASSERT_SLOW(expr) ((void)0)
#endif

#define HF_UNREACHABLE()                   hf_assert_failed(__FILE__, __LINE__, "unreachable")
#define HF_CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#endif
