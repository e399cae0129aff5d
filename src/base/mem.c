/* mem.c: allocation that stops the process instead of failing. */
#include "base/mem.h"

#include "base/assert.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Sizes of 0 are rounded up to 1, so that NULL can never be a good answer. */
static void *check_block(void *ptr, size_t size)
{
    if (ptr == NULL)
        hf_fatal("out of memory: an allocation of %zu bytes failed", size);
    return ptr;
}

void *hf_malloc(size_t size)
{
    return check_block(malloc(size ? size : 1), size);
}

void *hf_calloc(size_t n, size_t size)
{
    if (n == 0 || size == 0)
        n = size = 1;
    return check_block(calloc(n, size), n > SIZE_MAX / size ? SIZE_MAX : n * size);
}

void *hf_realloc(void *ptr, size_t size)
{
    return check_block(realloc(ptr, size ? size : 1), size);
}

void *hf_memdup(const void *ptr, size_t size)
{
    void *copy = hf_malloc(size);

    if (size != 0)
        memcpy(copy, ptr, size);
    return copy;
}

char *hf_strdup(const char *s)
{
    return hf_memdup(s, strlen(s) + 1);
}

char *hf_asprintf(const char *fmt, ...)
{
    va_list ap;
    char *out = NULL;
    int n;

    va_start(ap, fmt);
    n = vasprintf(&out, fmt, ap);
    va_end(ap);
    if (n < 0)
        hf_fatal("out of memory: formatting a string failed");
    return out;
}

void hf_free(void *ptr)
{
    free(ptr);
}
