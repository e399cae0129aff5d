/* mem.h: allocation. Sizes that come from outside are checked against a named limit before they get here,
 * so running out of memory is a fact about the machine: these functions never return NULL, they stop the
 * process with a clear line (hf_fatal). Any thread. Free with hf_free (NULL allowed). */
#ifndef HF_BASE_MEM_H
#define HF_BASE_MEM_H

#include <stddef.h>

void *hf_malloc(size_t size);
void *hf_calloc(size_t n, size_t size);
void *hf_realloc(void *ptr, size_t size);
void *hf_memdup(const void *ptr, size_t size);
char *hf_strdup(const char *s);
char *hf_asprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void hf_free(void *ptr);

#endif
