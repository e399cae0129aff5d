/* store.c: see the seam header of this folder. */
typedef int hf_store_placeholder;
