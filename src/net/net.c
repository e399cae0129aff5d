/* net.c: see the seam header of this folder. */
typedef int hf_net_placeholder;
