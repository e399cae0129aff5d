/* errors.h: what an error reply of a Holdfast server means for a retry. For clients in C; works on the text of an error
 * reply as any Redis client library hands it over (without the leading '-').
 *
 * One rule: only UNKNOWN says that the command may have been executed. Every other error says that it was not. */
#ifndef HOLDFAST_ERRORS_H
#define HOLDFAST_ERRORS_H

#include <stdbool.h>
#include <string.h>

/* The leader was lost, or did not answer in time, after it had been given the command. */
#define HOLDFAST_UNKNOWN "UNKNOWN"
/* No leader within the server's time limit: not executed, try again later. */
#define HOLDFAST_NOLEADER "NOLEADER"
/* A queue is at its limit: not executed, slow down. */
#define HOLDFAST_OVERLOADED "OVERLOADED"
/* The disk of a member is nearly full: not executed; reads and deletes still work. */
#define HOLDFAST_NOSPACE "NOSPACE"

static inline bool holdfast_error_is(const char *text, const char *prefix)
{
    size_t n = strlen(prefix);

    return strncmp(text, prefix, n) == 0 && (text[n] == ' ' || text[n] == '\0');
}

/* The command may have been executed: look at the state, or use an idempotent command, before trying again. */
static inline bool holdfast_may_have_happened(const char *text)
{
    return holdfast_error_is(text, HOLDFAST_UNKNOWN);
}

/* It was not executed, and the same command may succeed a little later. */
static inline bool holdfast_is_worth_retrying(const char *text)
{
    return holdfast_error_is(text, HOLDFAST_NOLEADER) || holdfast_error_is(text, HOLDFAST_OVERLOADED);
}

#endif
