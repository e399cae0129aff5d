/* admin.c: see the seam header of this folder. */
typedef int hf_admin_placeholder;
