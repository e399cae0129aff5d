/* entry.c: see the seam header of this folder. */
typedef int hf_entry_placeholder;
