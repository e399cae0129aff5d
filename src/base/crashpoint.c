/* crashpoint.c: dying on purpose; see crashpoint.h. */
#include "base/crashpoint.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void hf_crash_point_reached(const char *name)
{
    /* One number for the whole process: only one point is ever named, and nothing of a node depends on it. */
    static atomic_ulong times;
    const char *at = getenv("HOLDFAST_CRASH_AT");
    size_t n = strlen(name);
    unsigned long wanted = 1;

    if (at == NULL || strncmp(at, name, n) != 0 || (at[n] != '\0' && at[n] != ':'))
        return;
    if (at[n] == ':')
        wanted = strtoul(at + n + 1, NULL, 10);
    if (atomic_fetch_add(&times, 1) + 1 != wanted)
        return;
    kill(getpid(), SIGKILL);
    /* Delivered before kill returns when no other thread can take it; else wait for it. */
    for (;;)
        pause();
}
