/* internal.h: the operator's state, shared by the files of this folder and by nobody else.
 *
 *   operate.c   the seam; members and leadership (consensus answers); the feature level
 *   backup.c    backups: local copies that a client reads in chunks
 *   setting.c   CONFIG SET: what each setting's way is, and what it does when it is applied */
#ifndef HF_OPERATE_INTERNAL_H
#define HF_OPERATE_INTERNAL_H

#include "operate/operate.h"

struct member_call;
struct backup;
struct change;

/* A replicated setting as it is here now, config. ones only. */
struct known_setting {
    struct known_setting *next;
    char *name, *value; /* name without "config." */
};

struct hf_operator {
    struct hf_env *env;
    struct hf_operator_config config;
    struct hf_consensus *consensus;
    struct hf_proposer *proposer;
    struct hf_state *state;
    struct hf_snapshots *snapshots;
    const struct hf_settings_ops *settings;
    struct hf_operator_ops ops;

    struct member_call *members; /* with consensus */

    uint64_t durable_index;
    struct backup *backups;
    uint32_t n_backups;
    uint64_t last_backup_id;
    struct hf_timer backup_timer;
    struct hf_gauge *backups_gauge;
    struct hf_counter *backup_bytes, *backups_total;

    struct hf_lane *lane; /* for writes of our own, NULL = none yet */
    struct change *changes;
    struct known_setting *known;
    struct hf_timer change_timer;

    bool leads, is_raising;
    struct hf_timer level_timer;
    struct hf_propose_req raise;
    struct hf_plan plan;
};

/* One flat error, with the text as it is. */
void hf_operation_fail(struct hf_operation *op, const char *text);

/* backup.c */
void hf_operate_backup_start(void *data, struct hf_operation *op);
void hf_operate_backup_read(void *data, struct hf_operation *op, uint64_t id, uint64_t offset, uint64_t n);
void hf_operate_backup_end(void *data, struct hf_operation *op, uint64_t id);
void hf_operate_backups_open(struct hf_operator *o, struct hf_stats *stats);
void hf_operate_backups_close(struct hf_operator *o);

/* setting.c */
void hf_operate_config_set_pairs(void *data, struct hf_operation *op, const struct hf_slice *names,
                                 const struct hf_slice *values, uint32_t n);
void hf_operate_settings_open(struct hf_operator *o);
void hf_operate_settings_close(struct hf_operator *o);

#endif
