/* client.h: what the commands about connections and nodes share. Private to the folder. */
#ifndef HF_COMMAND_CLIENT_H
#define HF_COMMAND_CLIENT_H

#include "command/command.h"

/* The Redis whose commands and replies are followed; clients decide by it what they may use. */
#define HF_REDIS_VERSION "7.2.5"

bool hf_client_name_is_valid(struct hf_slice name);
/* The error for a name that may not be set, else NULL. Static storage. */
const char *hf_client_name_error(struct hf_slice name);
/* Replace one of name, lib_name, lib_ver; empty text clears it. Bytes are copied. */
void hf_client_set_text(char **field, struct hf_slice text);

/* "host:port" or "[v6]:port" taken apart; false (and "" and 0) when there is no address. host is borrowed. */
struct hf_host_port {
    struct hf_slice host;
    int port;
};
bool hf_host_port_split(const char *address, struct hf_host_port *out);
/* The address clients use, or the peer address when that is not known. */
const char *hf_peer_address(const struct hf_node_peer_status *peer);

/* The word operators know for raft's role: a standby is a learner. */
const char *hf_role_word(const char *role);

#define HF_DIGEST_TEXT_BYTES 33
/* Lower-case hex with a final 0. */
void hf_digest_text(const struct hf_store_meta *meta, char out[HF_DIGEST_TEXT_BYTES]);

static inline bool hf_node_is_leader(const struct hf_node_status *status)
{
    return strcmp(status->role, "leader") == 0;
}

#endif
