/* apply.c: see the seam header of this folder. */
typedef int hf_apply_placeholder;
