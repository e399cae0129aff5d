/* node.c: see the seam header of this folder. */
typedef int hf_main_placeholder;
