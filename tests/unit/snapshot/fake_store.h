/* fake_store.h: the part of the store that snapshot uses, on the simulated disks: a "database" is a page that says what
 * it is and as many bytes as one likes, drawn from its index. Paths begin with "nX/", which tells whose disk. */
#ifndef HF_TEST_SNAPSHOT_FAKE_STORE_H
#define HF_TEST_SNAPSHOT_FAKE_STORE_H

#include "base/buf.h"
#include "base/fs.h"
#include "store/store.h"

#define FAKE_NODES 4
#define FAKE_PAGE  4096u

struct fake_live { /* what the running store of a node committed last */
    uint64_t index, term, configuration_index, bytes;
    uint32_t level;
    const char *configuration;
    /* faults */
    int open_rc; /* of hf_store_copy_open */
    int step_rc; /* of the step that passes fail_at bytes */
    uint64_t fail_at;
    uint64_t step_bytes; /* 0 = as asked */
    int verify_rc;
};

struct fake_store {
    struct hf_fs *fs[FAKE_NODES];
    struct fake_live live[FAKE_NODES];
    int copies_open;
    unsigned long verified;
};

extern struct fake_store fake_store;

/* The bytes of the database of this live state. */
void fake_store_image(const struct fake_live *live, struct hf_buf *out);

#endif
