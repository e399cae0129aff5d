/* driver.c: see the seam header of this folder. */
typedef int hf_consensus_placeholder;
