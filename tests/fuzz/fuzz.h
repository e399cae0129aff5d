/* fuzz.h: the entry of a fuzz target, called by libFuzzer or by standalone.c. */
#ifndef HF_FUZZ_FUZZ_H
#define HF_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* Returns 0; anything wrong with what the target checks ends the process. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
