/* dispatch.c: see the seam header of this folder. */
typedef int hf_dispatch_placeholder;
