/* recover.c: finds the end of the log and tells a torn tail from damage, without changing anything on disk. The
 * rule is at the end of format.h; SAFETY R11 is why it is not simply "cut at the first bad batch". */
#include "base/assert.h"
#include "base/mem.h"
#include "journal/internal.h"

#include <inttypes.h>
#include <stdio.h>

/* The first look at each segment file. */
struct head {
    uint64_t id, size;
    int header_rc; /* of the segment header */
    struct hf_jseg_header header;
    bool has_first; /* the header of its first batch is good (its body may be torn) */
    struct hf_jbatch first;
};

struct walk {
    struct hf_fs *fs;
    const char *dir;
    int owner_len; /* of the path that the journal's directory lies in: the data directory of the node */
    struct head *heads;
    size_t n_heads;
    struct hf_jrecovery *r;
    uint64_t max_term;
    char *why;
    size_t why_size;
    uint8_t *data; /* the file being looked at */
};

#define WHAT_TO_DO                                                                                                     \
    "Nothing was changed. Put the file back from a copy of this very node if there is one, else let the node start "   \
    "again from the other members: holdfast repair --dir %.*s --from-peers"

static int refuse(struct walk *w, const struct head *h, uint64_t offset, const char *what)
{
    char name[HF_JSEG_NAME_BYTES];

    hf_jseg_name(name, h->id);
    snprintf(w->why, w->why_size,
             "journal damaged: %s/%s at offset %" PRIu64 ": %s; entries below index %" PRIu64
             " are intact. " WHAT_TO_DO,
             w->dir, name, offset, what, w->r->next_index, w->owner_len, w->dir);
    return HF_E_CORRUPT;
}

/* ---- reading files ------------------------------------------------------------------------------- */

static int load_range(struct walk *w, uint64_t id, uint64_t n_max, uint8_t **out, uint64_t *size, size_t *got)
{
    char *path = hf_jfiles_segment_path(w->dir, id);
    struct hf_file *f;
    int rc = w->fs->open(w->fs, path, HF_FS_READ, &f);

    *out = NULL;
    if (rc == HF_OK) {
        rc = w->fs->size(w->fs, f, size);
        if (rc == HF_OK) {
            uint64_t n = *size < n_max ? *size : n_max;

            *out = hf_malloc((size_t)n + 1);
            rc = w->fs->read(w->fs, f, 0, *out, (size_t)n, got);
        }
        w->fs->close(w->fs, f);
    }
    if (rc != HF_OK) {
        snprintf(w->why, w->why_size, "journal: cannot read %s: %s", path, hf_strerror(rc));
        hf_free(*out);
        *out = NULL;
    }
    hf_free(path);
    return rc;
}

static bool belongs(const struct hf_jbatch *b, const struct head *h, uint64_t offset)
{
    return b->segment == h->id && b->offset == offset && (h->header_rc != HF_OK || b->salt == h->header.salt);
}

static int look_at_head(struct walk *w, struct head *h)
{
    uint8_t *data;
    size_t got = 0;
    int rc = load_range(w, h->id, HF_JSEG_HEADER_BYTES + HF_JBATCH_HEADER_BYTES, &data, &h->size, &got);

    if (rc != HF_OK)
        return rc;
    h->header_rc = hf_jseg_decode(&h->header, data, got);
    if (h->header_rc == HF_OK && h->header.id != h->id)
        h->header_rc = HF_E_CORRUPT;
    rc = h->header_rc == HF_E_VERSION ? HF_E_VERSION : HF_OK;
    if (h->header_rc == HF_OK && got == HF_JSEG_HEADER_BYTES + HF_JBATCH_HEADER_BYTES) {
        int first_rc = hf_jbatch_decode(&h->first, data + HF_JSEG_HEADER_BYTES, HF_JBATCH_HEADER_BYTES);

        h->has_first = first_rc == HF_OK && belongs(&h->first, h, HF_JSEG_HEADER_BYTES);
        if (first_rc == HF_E_VERSION)
            rc = HF_E_VERSION;
    }
    if (rc == HF_E_VERSION)
        snprintf(w->why, w->why_size, "journal %s was written by a newer release; start that one", w->dir);
    hf_free(data);
    return rc;
}

static void add_id(void *data, const char *name)
{
    struct walk *w = data;
    uint64_t id;

    if (!hf_jseg_parse_name(name, &id))
        return;
    w->heads = hf_realloc(w->heads, (w->n_heads + 1) * sizeof *w->heads);
    memset(&w->heads[w->n_heads], 0, sizeof *w->heads);
    w->heads[w->n_heads++].id = id; /* names come in byte order, which is the order of ids */
}

/* ---- the chain ----------------------------------------------------------------------------------- */

/* Does a good batch header beyond `from` say that the bytes at `from` were once synced? */
static bool is_proven_damage(const struct head *h, const uint8_t *data, uint64_t size, uint64_t from)
{
    struct hf_jbatch b;

    for (uint64_t at = from; at + HF_JBATCH_HEADER_BYTES <= size; at += HF_JBATCH_ALIGN) {
        if (!hf_jbatch_has_magic(data + at) || hf_jbatch_decode(&b, data + at, (size_t)(size - at)) != HF_OK)
            continue;
        if (!belongs(&b, h, at))
            continue;
        /* With an unreadable segment header any batch at all is proof: it was synced before the first one. */
        if (h->header_rc != HF_OK || b.durable_segment > h->id ||
            (b.durable_segment == h->id && b.durable_offset > from))
            return true;
    }
    return false;
}

/* For the log line only: in a recycled file old bytes are usual, so only remains of this segment count. */
static bool has_remains(const struct head *h, const uint8_t *data, uint64_t size, uint64_t from)
{
    struct hf_jbatch b;

    if (h->header.flags & HF_JSEG_RECYCLED)
        return hf_jbatch_decode(&b, data + from, (size_t)(size - from)) == HF_OK && belongs(&b, h, from);
    for (uint64_t at = from; at < size; at++)
        if (data[at] != 0)
            return true;
    return false;
}

static void cut_log(struct hf_jrecovery *r, uint64_t from_index)
{
    for (size_t i = 0; i < r->n; i++) {
        struct hf_jsegment *s = r->segments[i];

        hf_jsegment_cut(s, from_index);
    }
    for (size_t i = r->n; i-- > 0;) {
        const struct hf_jsegment *s = r->segments[i];

        if (!hf_jsegment_is_empty(s)) {
            r->cum = hf_jsegment_find(s, s->last_index)->cum;
            break;
        }
    }
    r->next_index = from_index;
}

/* Take one good batch into the log. False: it cannot follow what is there. */
static bool take_batch(struct walk *w, struct hf_jsegment *s, const struct hf_jbatch *b, const uint8_t *body)
{
    struct hf_jrecovery *r = w->r;
    struct hf_reader in = hf_reader(hf_slice(body, b->body_bytes));
    struct hf_jrecord rec;

    if (b->generation < r->generation)
        return false;
    switch (b->kind) {
    case HF_JBATCH_TRUNCATE:
        if (b->first_index > r->next_index)
            return false;
        cut_log(r, b->first_index);
        break;
    case HF_JBATCH_ENTRIES:
    case HF_JBATCH_IDLE:
    case HF_JBATCH_START:
        if (b->first_index != r->next_index)
            return false;
        break;
    case HF_JBATCH_RESET:
        break; /* the log begins with it: next_index is already its own */
    }
    r->generation = b->generation;
    if (b->offset == HF_JSEG_HEADER_BYTES) {
        s->first_index = b->first_index;
        s->last_index = b->first_index - 1;
    }
    if (b->count > 0) {
        hf_jsegment_add_batch(s, b->offset, b->first_index, b->count, r->cum);
        r->next_index += b->count;
        r->cum += b->body_bytes;
        while (hf_jrecord_next(&in, &rec))
            if (rec.term > w->max_term)
                w->max_term = rec.term;
    }
    s->end = b->offset + HF_JBATCH_HEADER_BYTES + b->body_bytes;
    r->last_crc = b->header_crc;
    return true;
}

/* Walk the batches of one file up to `limit`. *end: where the first bad or missing one is. */
static int walk_batches(struct walk *w, const struct head *h, struct hf_jsegment *s, uint64_t size, uint64_t limit,
                        bool is_oldest, uint64_t *end)
{
    uint64_t at = HF_JSEG_HEADER_BYTES;
    struct hf_jbatch b;

    while (at < limit && at + HF_JBATCH_HEADER_BYTES <= size) {
        const uint8_t *body = w->data + at + HF_JBATCH_HEADER_BYTES;

        if (hf_jbatch_decode(&b, w->data + at, (size_t)(size - at)) != HF_OK || !belongs(&b, h, at))
            break;
        if (b.body_bytes > size - at - HF_JBATCH_HEADER_BYTES || hf_jbatch_check_body(&b, body) != HF_OK)
            break;
        /* A whole batch in its place that does not follow its predecessor is no power loss. */
        if (!(is_oldest && at == HF_JSEG_HEADER_BYTES) && b.prev_crc != w->r->last_crc)
            return refuse(w, h, at, "this batch does not follow the one before it");
        if (at != HF_JSEG_HEADER_BYTES && b.generation != w->r->generation)
            return refuse(w, h, at, "the generation changes inside a segment");
        if (!take_batch(w, s, &b, body))
            return refuse(w, h, at, "the indexes of this batch do not continue the log");
        at += HF_JBATCH_HEADER_BYTES + b.body_bytes;
    }
    *end = at;
    return HF_OK;
}

static int walk_segment(struct walk *w, size_t i, size_t oldest)
{
    struct head *h = &w->heads[i];
    struct head *next = i + 1 < w->n_heads ? h + 1 : NULL;
    bool is_followed = next != NULL && next->has_first;
    uint64_t limit = is_followed ? next->first.prev_end : UINT64_MAX, size, end;
    struct hf_jrecovery *r = w->r;
    struct hf_jsegment *s;
    size_t got = 0;
    int rc;

    /* Only the last file may be without a batch: the next one is begun after the first batch here was synced. */
    if (next != NULL && h->header_rc != HF_OK)
        return refuse(w, h, 0, "the header of the segment is unreadable");
    if (next != NULL && !h->has_first)
        return refuse(w, h, HF_JSEG_HEADER_BYTES, "the first batch of the segment is unreadable");

    rc = load_range(w, h->id, UINT64_MAX, &w->data, &size, &got);
    if (rc != HF_OK)
        return rc;
    size = got;
    s = hf_jsegment_new(h->id, h->header.salt, size);
    if (h->header_rc != HF_OK) {
        r->spare_is_bad = true;
        rc = is_proven_damage(h, w->data, size, 0)
                 ? refuse(w, h, 0, "the header of the segment is unreadable, but there are batches in it")
                 : HF_OK;
        goto spare;
    }
    if (i == oldest && h->has_first)
        r->next_index = h->first.first_index;
    rc = walk_batches(w, h, s, size, limit, i == oldest, &end);
    if (rc != HF_OK)
        goto spare;
    if (is_followed && end != limit) {
        rc = refuse(w, h, end, "a batch that was synced (the next segment says so) cannot be read");
        goto spare;
    }
    if (!is_followed) {
        if (is_proven_damage(h, w->data, size, end)) {
            rc = refuse(w, h, end, "a batch that was synced (a later one says so) cannot be read");
            goto spare;
        }
        r->torn = r->torn || (end < size && has_remains(h, w->data, size, end));
    }
    if (end == HF_JSEG_HEADER_BYTES)
        goto spare;
    r->segments = hf_realloc(r->segments, (r->n + 1) * sizeof(struct hf_jsegment *));
    r->segments[r->n++] = s;
    s = NULL;
spare:
    hf_free(w->data);
    w->data = NULL;
    if (rc == HF_OK)
        r->spare = s;
    else
        hf_jsegment_free(s);
    return rc;
}

/* ---- the whole ----------------------------------------------------------------------------------- */

static int read_vote(struct walk *w, bool *missing)
{
    char *path = hf_jfiles_path(w->dir, "vote");
    int rc = hf_jvote_load(w->fs, path, &w->r->vote, &w->r->vote_differs);

    *missing = rc == HF_E_NOENT;
    if (rc == HF_E_NOENT)
        rc = HF_OK;
    else if (rc == HF_E_VERSION)
        snprintf(w->why, w->why_size, "journal file %s was written by a newer release; start that one", path);
    else if (rc == HF_E_CORRUPT)
        snprintf(w->why, w->why_size,
                 "journal damaged: both slots of %s are unreadable, so this node no longer knows how it voted. "
                 "" WHAT_TO_DO,
                 path, w->owner_len, w->dir);
    else if (rc != HF_OK)
        snprintf(w->why, w->why_size, "journal: cannot read %s: %s", path, hf_strerror(rc));
    hf_free(path);
    return rc;
}

/* The vote file is the last thing that a creation makes: without it there may be the empty first segment, no more. */
static int check_unfinished_creation(struct walk *w)
{
    if (w->n_heads > 1 || (w->n_heads == 1 && w->heads[0].id != 1)) {
        snprintf(w->why, w->why_size,
                 "journal damaged: %s/vote is missing, so this node no longer knows how it voted. " WHAT_TO_DO, w->dir,
                 w->owner_len, w->dir);
        return HF_E_CORRUPT;
    }
    if (w->n_heads == 1) {
        uint8_t *data;
        uint64_t size;
        size_t got = 0;
        int rc = load_range(w, 1, UINT64_MAX, &data, &size, &got);
        bool has_more;

        if (rc != HF_OK)
            return rc;
        has_more = is_proven_damage(&w->heads[0], data, got, HF_JSEG_HEADER_BYTES);
        hf_free(data);
        if (has_more) {
            snprintf(w->why, w->why_size,
                     "journal damaged: %s/vote is missing, so this node no longer knows how it voted. " WHAT_TO_DO,
                     w->dir, w->owner_len, w->dir);
            return HF_E_CORRUPT;
        }
    }
    w->r->empty = true;
    return HF_OK;
}

/* Segments are deleted oldest first, each made durable: a hole in the row is somebody else's doing. */
static int check_no_hole(struct walk *w, size_t oldest)
{
    char name[HF_JSEG_NAME_BYTES];

    for (size_t i = oldest + 1; i < w->n_heads; i++) {
        if (w->heads[i].id == w->heads[i - 1].id + 1)
            continue;
        hf_jseg_name(name, w->heads[i - 1].id + 1);
        snprintf(w->why, w->why_size, "journal damaged: %s/%s is missing, later segments are there. " WHAT_TO_DO,
                 w->dir, name, w->owner_len, w->dir);
        return HF_E_CORRUPT;
    }
    return HF_OK;
}

static int walk_all(struct walk *w)
{
    struct hf_jrecovery *r = w->r;
    bool vote_missing;
    size_t oldest = 0;
    int rc;

    rc = w->fs->list(w->fs, w->dir, add_id, w);
    if (rc != HF_OK) {
        snprintf(w->why, w->why_size, "journal: cannot list %s: %s", w->dir, hf_strerror(rc));
        return rc;
    }
    if (w->n_heads > 0) {
        r->lowest_id = w->heads[0].id;
        r->highest_id = w->heads[w->n_heads - 1].id;
    }
    rc = read_vote(w, &vote_missing);
    if (rc != HF_OK)
        return rc;
    for (size_t i = 0; i < w->n_heads; i++) {
        rc = look_at_head(w, &w->heads[i]);
        if (rc != HF_OK)
            return rc;
    }
    if (vote_missing)
        return check_unfinished_creation(w);

    for (size_t i = 0; i < w->n_heads; i++)
        if (w->heads[i].has_first && w->heads[i].first.kind == HF_JBATCH_RESET)
            oldest = i;
    r->dead_to = w->n_heads > 0 ? w->heads[oldest].id : 0;
    rc = check_no_hole(w, oldest);
    for (size_t i = oldest; i < w->n_heads && rc == HF_OK; i++)
        rc = walk_segment(w, i, oldest);
    if (rc != HF_OK)
        return rc;
    if (r->n == 0) {
        snprintf(w->why, w->why_size, "journal damaged: %s holds no segment with a readable batch. " WHAT_TO_DO, w->dir,
                 w->owner_len, w->dir);
        return HF_E_CORRUPT;
    }
    r->last_term = w->max_term;
    return HF_OK;
}

int hf_jrecover(struct hf_fs *fs, const char *dir, struct hf_jrecovery *r, char *why, size_t why_size)
{
    struct walk w = {.fs = fs, .dir = dir, .r = r, .why = why, .why_size = why_size};
    const char *slash = strrchr(dir, '/');
    int rc;

    w.owner_len = slash != NULL && slash != dir ? (int)(slash - dir) : (int)strlen(dir);

    memset(r, 0, sizeof *r);
    r->next_index = 1;
    rc = walk_all(&w);
    hf_free(w.heads);
    if (rc != HF_OK)
        hf_jrecovery_free(r);
    return rc;
}

struct hf_journal_state hf_jrecovery_state(const struct hf_jrecovery *r)
{
    struct hf_journal_state state = {.next_index = r->next_index, .torn_tail = r->torn};

    state.term = r->vote.term > r->last_term ? r->vote.term : r->last_term;
    state.vote = r->vote.term == state.term ? r->vote.vote : 0;
    state.first_index = r->next_index;
    for (size_t i = r->n; i-- > 0;)
        if (!hf_jsegment_is_empty(r->segments[i]))
            state.first_index = r->segments[i]->first_index;
    return state;
}

void hf_jrecovery_free(struct hf_jrecovery *r)
{
    for (size_t i = 0; i < r->n; i++)
        hf_jsegment_free(r->segments[i]);
    hf_free(r->segments);
    hf_jsegment_free(r->spare);
    r->segments = NULL;
    r->n = 0;
    r->spare = NULL;
}
