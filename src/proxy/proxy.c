/* proxy.c: see the seam header of this folder. */
typedef int hf_proxy_placeholder;
