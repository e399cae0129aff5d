/* base.c: see the seam header of this folder. */
typedef int hf_base_placeholder;
