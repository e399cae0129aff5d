/* peer.c: see the seam header of this folder. */
typedef int hf_peer_placeholder;
