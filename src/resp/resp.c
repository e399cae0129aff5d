/* resp.c: see the seam header of this folder. */
typedef int hf_resp_placeholder;
