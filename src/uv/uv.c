/* uv.c: see the seam header of this folder. */
typedef int hf_uv_placeholder;
