/* table.c: see the seam header of this folder. */
typedef int hf_command_placeholder;
