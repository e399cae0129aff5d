/* operate.h: what operators ask of a node: membership and leadership (given to consensus), backups (read from a local
 * copy of the state), settings that change while the node runs, and raising the cluster's feature level. Provides
 * hf_operator_ops for the OPERATE commands. Loop thread only.
 *
 * Settings at run time: a LIVE setting of this node alone takes effect at once and is written to DIR/settings, which is
 * read at start and wins over file and command line (with a log line that says so); a CLUSTER setting is proposed as
 * an entry (op SETTING, name "config.<name>") and takes effect on every node when it is applied there. */
#ifndef HF_OPERATE_OPERATE_H
#define HF_OPERATE_OPERATE_H

#include "apply/apply.h"
#include "base/env.h"
#include "base/stats.h"
#include "command/command.h"
#include "consensus/consensus.h"
#include "dispatch/dispatch.h"
#include "propose/propose.h"
#include "snapshot/snapshot.h"

struct hf_operator;

/* How settings are checked and take effect: the owner of the configuration (main). */
struct hf_settings_ops {
    void *data;
    /* Splits n pairs: checks names and values without changing anything; *is_cluster[i] tells where each belongs. False
     * with a Redis-style reason ("Unknown option ..."), all or nothing. */
    bool (*check)(void *data, const struct hf_slice *names, const struct hf_slice *values, uint32_t n, bool *is_cluster,
                  char *err, size_t err_size);
    /* Makes one checked pair effective on this node; persist: also in DIR/settings (never for cluster settings).
     * False with a reason when it cannot be persisted (nothing changed then). */
    bool (*set)(void *data, struct hf_slice name, struct hf_slice value, bool persist, char *err, size_t err_size);
};

struct hf_operator_config {
    uint64_t backups_max;       /* open at once (default 2) */
    uint64_t backup_idle_ms;    /* one that nobody reads from for this long is closed (default 60 s) */
    uint64_t backup_chunk_max;  /* longest READ (default 4 MiB) */
    uint64_t member_timeout_ms; /* default 30 s */
};

/* All borrowed. settings may be NULL (simulator): CONFIG SET is refused then. */
HF_MUST_CHECK int hf_operator_open(struct hf_env *env, const struct hf_operator_config *config,
                                   struct hf_consensus *consensus, struct hf_proposer *proposer, struct hf_state *state,
                                   struct hf_snapshots *snapshots, const struct hf_settings_ops *settings,
                                   struct hf_stats *stats, struct hf_operator **out);
/* Open operations are answered with errors; backups are closed. Comes after consensus, state, proposer and snapshots
 * are closed (what they still held is given up), and before the dispatcher is. */
void hf_operator_close(struct hf_operator *o);
const struct hf_operator_ops *hf_operator_ops(struct hf_operator *o);

/* The way of settings that concern the whole cluster: a lane of this dispatcher, which is opened after the operator and
 * closed after it. Until then such settings are refused. */
void hf_operator_set_dispatcher(struct hf_operator *o, struct hf_dispatcher *d);

/* From the wiring: the state is durable up to this index (at open and from state.on_durable, also after a swap). */
void hf_operator_on_durable(struct hf_operator *o, uint64_t index);

/* From the wiring: state.on_setting; consensus.on_role (the leader raises the level when it can). */
void hf_operator_on_setting(struct hf_operator *o, struct hf_slice name, struct hf_slice value);
void hf_operator_on_role(struct hf_operator *o, enum hf_role role);

#endif
