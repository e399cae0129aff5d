/* vote.c: term and vote on disk (R13). Two slots, both written and synced before the change counts, so that
 * either alone is current: rot in one never falls back to an older vote. */
#include "base/mem.h"
#include "journal/internal.h"

int hf_jvote_load(struct hf_fs *fs, const char *path, struct hf_jvote *out, bool *differ)
{
    uint8_t *buf = hf_calloc(2, HF_JVOTE_SLOT_BYTES);
    struct hf_jvote slot[2];
    int slot_rc[2], rc;
    struct hf_file *f;
    size_t got;

    rc = fs->open(fs, path, HF_FS_READ, &f);
    if (rc != HF_OK)
        goto out;
    rc = fs->read(fs, f, 0, buf, 2 * HF_JVOTE_SLOT_BYTES, &got);
    fs->close(fs, f);
    if (rc != HF_OK)
        goto out;
    for (int i = 0; i < 2; i++)
        slot_rc[i] = hf_jvote_decode(&slot[i], buf + i * HF_JVOTE_SLOT_BYTES, HF_JVOTE_SLOT_BYTES);
    if (slot_rc[0] == HF_E_VERSION || slot_rc[1] == HF_E_VERSION) {
        rc = HF_E_VERSION;
        goto out;
    }
    if (slot_rc[0] != HF_OK && slot_rc[1] != HF_OK) {
        rc = HF_E_CORRUPT;
        goto out;
    }
    /* A bad slot is one that was being written, or rot: the other is current in both cases. Two good ones differ
     * when a change was cut short after the first; its term may be acted upon only once both have it. */
    if (slot_rc[0] != HF_OK)
        *out = slot[1];
    else if (slot_rc[1] != HF_OK)
        *out = slot[0];
    else
        *out = slot[0].sequence >= slot[1].sequence ? slot[0] : slot[1];
    *differ = slot_rc[0] != HF_OK || slot_rc[1] != HF_OK || slot[0].sequence != slot[1].sequence;
    rc = HF_OK;
out:
    hf_free(buf);
    return rc;
}

int hf_jvote_store(struct hf_fs *fs, struct hf_file *f, const struct hf_jvote *v)
{
    uint8_t *buf = hf_malloc(HF_JVOTE_SLOT_BYTES);
    int rc = HF_OK;

    hf_jvote_encode(buf, v);
    for (uint64_t i = 0; i < 2 && rc == HF_OK; i++) {
        rc = fs->write(fs, f, i * HF_JVOTE_SLOT_BYTES, buf, HF_JVOTE_SLOT_BYTES);
        if (rc == HF_OK)
            rc = fs->sync(fs, f);
    }
    hf_free(buf);
    return rc;
}

int hf_jvote_create(struct hf_fs *fs, const char *dir, const char *path, const struct hf_jvote *v)
{
    char *tmp = hf_asprintf("%s.tmp", path);
    struct hf_file *f;
    int rc;

    rc = fs->open(fs, tmp, HF_FS_WRITE | HF_FS_CREATE, &f);
    if (rc == HF_OK) {
        rc = hf_jvote_store(fs, f, v);
        fs->close(fs, f);
    }
    if (rc == HF_OK)
        rc = fs->rename(fs, tmp, path);
    if (rc == HF_OK)
        rc = fs->sync_dir(fs, dir);
    hf_free(tmp);
    return rc;
}
