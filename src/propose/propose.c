/* propose.c: see the seam header of this folder. */
typedef int hf_propose_placeholder;
