/* codec.c: raft messages to bytes and back (walk step 5). The wall between the network and libraft's core: the core
 * of the Debian build has its assertions compiled out and believes every field it is given, so whatever passes
 * hf_codec_decode must be something that a correct core could have sent.
 *
 * Layouts on the RAFT channel, all integers little-endian, nothing before and nothing after the named fields. The
 * `version` byte is libraft's own version of that message; each peer protocol version fixes the values we know.
 *
 *   APPEND_ENTRIES         u8 version, u64 term, u64 prev_log_index, u64 prev_log_term, u64 leader_commit,
 *                          u32 entry count, then the entries: u64 term, u8 type, u32 length, payload
 *   APPEND_ENTRIES_RESULT  u8 version, u64 term, u64 rejected, u64 last_log_index, u16 features, u16 capacity
 *   REQUEST_VOTE           u8 version, u64 term, u64 candidate_id, u64 last_log_index, u64 last_log_term,
 *                          u8 flags (bit 0 disrupt_leader, bit 1 pre_vote)
 *   REQUEST_VOTE_RESULT    u8 version, u64 term, u8 flags (bit 0 vote_granted, bit 1 pre_vote), u16 features,
 *                          u16 capacity
 *   TIMEOUT_NOW            u8 version, u64 term, u64 last_log_index, u64 last_log_term
 *   INSTALL_SNAPSHOT       u8 version, u64 term, u64 last_index, u64 last_term, u64 configuration_index,
 *                          u32 length and configuration (the state itself travels on the STATE channel before)
 *
 * What is checked besides lengths:
 *   - terms are 1..2^62 and indexes at most 2^48 - 1: a revision is index << 16, and one forged huge term would
 *     otherwise leave the cluster without terms to count up to;
 *   - an index is 0 exactly when its term is 0 (the log starts at 1), and no term in a log is above the sender's;
 *   - the terms of entries never fall, starting from prev_log_term;
 *   - a CONFIGURATION payload is walked byte by byte before libraft's decoder sees it: that one trusts the server
 *     count and reads ids and roles past the end of the buffer;
 *   - unknown flags, versions and entry types.
 *
 * A configuration in libraft's encoding: u8 format (1), u64 count, then `count` times: u64 id, address bytes and a 0,
 * u8 role; zeroes up to a multiple of 8. */
#include "consensus/codec.h"

#include "base/assert.h"
#include "base/mem.h"

#include <assert.h>
#include <string.h>

#define INDEX_MAX   ((UINT64_C(1) << 48) - 1)
#define TERM_MAX    (UINT64_C(1) << 62)
#define ENTRIES_MAX 65535u

#define ENTRY_HEADER_BYTES 13

#define CONFIGURATION_FORMAT      1
#define CONFIGURATION_SERVERS_MAX 255
#define ADDRESS_BYTES_MAX         1024 /* far above what we write; keeps one message from hiding megabytes in a name */

/* What libraft 0.22.1 puts into its messages. */
#define VERSION_APPEND_ENTRIES        0
#define VERSION_APPEND_ENTRIES_RESULT HF_APPEND_RESULT_VERSION
#define VERSION_REQUEST_VOTE          2
#define VERSION_REQUEST_VOTE_RESULT   2
#define VERSION_TIMEOUT_NOW           0
#define VERSION_INSTALL_SNAPSHOT      0

#define FLAG_DISRUPT_LEADER 1u
#define FLAG_VOTE_GRANTED   1u
#define FLAG_PRE_VOTE       2u

static_assert((int)HF_MSG_APPEND_ENTRIES == (int)RAFT_APPEND_ENTRIES, "wire type");
static_assert((int)HF_MSG_APPEND_ENTRIES_RESULT == (int)RAFT_APPEND_ENTRIES_RESULT, "wire type");
static_assert((int)HF_MSG_REQUEST_VOTE == (int)RAFT_REQUEST_VOTE, "wire type");
static_assert((int)HF_MSG_REQUEST_VOTE_RESULT == (int)RAFT_REQUEST_VOTE_RESULT, "wire type");
static_assert((int)HF_MSG_INSTALL_SNAPSHOT == (int)RAFT_INSTALL_SNAPSHOT, "wire type");
static_assert((int)HF_MSG_TIMEOUT_NOW == (int)RAFT_TIMEOUT_NOW, "wire type");
static_assert((int)HF_ENTRY_COMMAND == (int)RAFT_COMMAND, "wire type");
static_assert((int)HF_ENTRY_BARRIER == (int)RAFT_BARRIER, "wire type");
static_assert((int)HF_ENTRY_CONFIGURATION == (int)RAFT_CHANGE, "wire type");

/* ---- encoding ------------------------------------------------------------------------------------ */

static void put_append_entries(struct hf_buf *out, const struct raft_append_entries *m)
{
    HF_ASSERT(m->n_entries <= ENTRIES_MAX);
    hf_buf_put_u8(out, m->version);
    hf_buf_put_u64(out, m->term);
    hf_buf_put_u64(out, m->prev_log_index);
    hf_buf_put_u64(out, m->prev_log_term);
    hf_buf_put_u64(out, m->leader_commit);
    hf_buf_put_u32(out, m->n_entries);
}

static void put_append_entries_result(struct hf_buf *out, const struct raft_append_entries_result *m)
{
    uint64_t last = m->last_log_index;

    /* libraft 0.22.1 leaves last_log_index uninitialised when it answers a message of an older term. The receiver
     * only needs the term then; the field is cut to what it can mean, by the rule the core itself applies to
     * rejections, so that our own check on the other side does not drop the news of the higher term. */
    if (m->rejected > 0 && last >= m->rejected)
        last = m->rejected - 1;
    if (last > INDEX_MAX)
        last = 0;
    hf_buf_put_u8(out, m->version);
    hf_buf_put_u64(out, m->term);
    hf_buf_put_u64(out, m->rejected);
    hf_buf_put_u64(out, last);
    hf_buf_put_u16(out, m->features);
    hf_buf_put_u16(out, m->capacity);
}

static void put_request_vote(struct hf_buf *out, const struct raft_request_vote *m)
{
    unsigned flags = (m->disrupt_leader ? FLAG_DISRUPT_LEADER : 0) | (m->pre_vote ? FLAG_PRE_VOTE : 0);

    hf_buf_put_u8(out, m->version);
    hf_buf_put_u64(out, m->term);
    hf_buf_put_u64(out, m->candidate_id);
    hf_buf_put_u64(out, m->last_log_index);
    hf_buf_put_u64(out, m->last_log_term);
    hf_buf_put_u8(out, (uint8_t)flags);
}

static void put_request_vote_result(struct hf_buf *out, const struct raft_request_vote_result *m)
{
    unsigned flags = (m->vote_granted ? FLAG_VOTE_GRANTED : 0) | (m->pre_vote ? FLAG_PRE_VOTE : 0);

    hf_buf_put_u8(out, m->version);
    hf_buf_put_u64(out, m->term);
    hf_buf_put_u8(out, (uint8_t)flags);
    hf_buf_put_u16(out, m->features);
    hf_buf_put_u16(out, m->capacity);
}

static void put_timeout_now(struct hf_buf *out, const struct raft_timeout_now *m)
{
    hf_buf_put_u8(out, m->version);
    hf_buf_put_u64(out, m->term);
    hf_buf_put_u64(out, m->last_log_index);
    hf_buf_put_u64(out, m->last_log_term);
}

void hf_codec_put_message(struct hf_buf *out, const struct raft_message *m)
{
    switch (m->type) {
    case RAFT_APPEND_ENTRIES:
        put_append_entries(out, &m->append_entries);
        return;
    case RAFT_APPEND_ENTRIES_RESULT:
        put_append_entries_result(out, &m->append_entries_result);
        return;
    case RAFT_REQUEST_VOTE:
        put_request_vote(out, &m->request_vote);
        return;
    case RAFT_REQUEST_VOTE_RESULT:
        put_request_vote_result(out, &m->request_vote_result);
        return;
    case RAFT_TIMEOUT_NOW:
        put_timeout_now(out, &m->timeout_now);
        return;
    case RAFT_INSTALL_SNAPSHOT:
        break; /* the core's message never travels: see hf_codec_put_install */
    }
    HF_UNREACHABLE();
}

void hf_codec_put_install(struct hf_buf *out, uint64_t term, uint64_t index, uint64_t index_term,
                          uint64_t configuration_index, struct hf_slice configuration)
{
    hf_buf_put_u8(out, VERSION_INSTALL_SNAPSHOT);
    hf_buf_put_u64(out, term);
    hf_buf_put_u64(out, index);
    hf_buf_put_u64(out, index_term);
    hf_buf_put_u64(out, configuration_index);
    hf_buf_put_slice(out, configuration);
}

void hf_codec_put_entry(struct hf_buf *out, const struct hf_log_entry *e)
{
    uint8_t *p = hf_buf_reserve(out, ENTRY_HEADER_BYTES + (size_t)e->len);

    hf_store_u64(p, e->term);
    p[8] = (uint8_t)e->type;
    hf_store_u32(p + 9, e->len);
    if (e->len != 0)
        memcpy(p + ENTRY_HEADER_BYTES, e->data, e->len);
    out->len += ENTRY_HEADER_BYTES + (size_t)e->len;
}

/* ---- checks -------------------------------------------------------------------------------------- */

static bool is_term(uint64_t term)
{
    return term >= 1 && term <= TERM_MAX;
}

/* A place in the log of someone whose current term is `term`: (0, 0) or an index with a term not above it. */
static bool is_place(uint64_t index, uint64_t place_term, uint64_t term)
{
    if (index == 0 || place_term == 0)
        return index == 0 && place_term == 0;
    return index <= INDEX_MAX && place_term <= term;
}

struct server_view {
    uint64_t id;
    struct hf_slice address;
    uint8_t role;
};

/* One server of an encoded configuration. False when it does not fit or makes no sense. */
static bool read_server(struct hf_reader *in, struct server_view *out)
{
    const uint8_t *end;
    size_t left;

    out->id = hf_read_u64(in);
    left = hf_reader_left(in);
    end = left != 0 ? memchr(in->p, 0, left) : NULL;
    if (in->failed || end == NULL)
        return false;
    out->address = hf_read_bytes(in, (size_t)(end - in->p));
    (void)hf_read_u8(in);
    out->role = hf_read_u8(in);
    if (in->failed || out->id == 0 || out->address.len == 0 || out->address.len > ADDRESS_BYTES_MAX)
        return false;
    return out->role == RAFT_STANDBY || out->role == RAFT_VOTER || out->role == RAFT_SPARE;
}

/* Whether raft_configuration_decode may be given these bytes and would accept them, and they hold a voter. */
static bool is_configuration(struct hf_slice bytes)
{
    struct hf_reader in = hf_reader(bytes);
    struct server_view servers[CONFIGURATION_SERVERS_MAX];
    bool has_voter = false;
    uint64_t n;

    if (bytes.len % 8 != 0 || hf_read_u8(&in) != CONFIGURATION_FORMAT)
        return false;
    n = hf_read_u64(&in);
    if (in.failed || n == 0 || n > CONFIGURATION_SERVERS_MAX)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (!read_server(&in, &servers[i]))
            return false;
        for (size_t j = 0; j < i; j++) {
            if (servers[j].id == servers[i].id || hf_slice_eq(servers[j].address, servers[i].address))
                return false;
        }
        has_voter = has_voter || servers[i].role == RAFT_VOTER;
    }
    if (hf_reader_left(&in) >= 8)
        return false;
    while (hf_reader_left(&in) != 0) {
        if (hf_read_u8(&in) != 0)
            return false;
    }
    return has_voter;
}

/* ---- decoding ------------------------------------------------------------------------------------ */

struct entry_view {
    uint64_t term;
    uint8_t type;
    struct hf_slice payload;
};

static bool read_entry(struct hf_reader *in, struct entry_view *out)
{
    out->term = hf_read_u64(in);
    out->type = hf_read_u8(in);
    out->payload = hf_read_slice(in);
    return !in->failed;
}

/* Walks all entries without keeping anything: nothing is allocated for a message that turns out to be bad. */
static bool check_entries(struct hf_reader in, uint32_t n, uint64_t prev_term, uint64_t term)
{
    struct entry_view e;

    for (uint32_t i = 0; i < n; i++) {
        if (!read_entry(&in, &e) || !is_term(e.term) || e.term < prev_term || e.term > term)
            return false;
        if (e.type != HF_ENTRY_COMMAND && e.type != HF_ENTRY_BARRIER && e.type != HF_ENTRY_CONFIGURATION)
            return false;
        if (e.type == HF_ENTRY_CONFIGURATION && !is_configuration(e.payload))
            return false;
        prev_term = e.term;
    }
    return hf_reader_done(&in);
}

static struct hf_log_entry **take_entries(struct hf_reader in, uint32_t n, uint64_t prev_log_index)
{
    struct hf_log_entry **entries;
    struct entry_view e;

    if (n == 0)
        return NULL;
    entries = hf_calloc(n, sizeof(struct hf_log_entry *));
    for (uint32_t i = 0; i < n; i++) {
        bool is_read = read_entry(&in, &e);

        HF_ASSERT(is_read); /* check_entries has walked the same bytes */
        entries[i] =
            hf_log_entry_new((enum hf_entry_type)e.type, prev_log_index + 1 + i, e.term, (uint32_t)e.payload.len);
        if (e.payload.len != 0)
            memcpy(entries[i]->data, e.payload.ptr, e.payload.len);
    }
    return entries;
}

static bool decode_append_entries(struct hf_reader *in, struct raft_append_entries *m, struct hf_log_entry ***entries)
{
    uint32_t n;

    m->version = hf_read_u8(in);
    m->term = hf_read_u64(in);
    m->prev_log_index = hf_read_u64(in);
    m->prev_log_term = hf_read_u64(in);
    m->leader_commit = hf_read_u64(in);
    n = hf_read_u32(in);
    if (in->failed || m->version != VERSION_APPEND_ENTRIES)
        return false;
    if (!is_term(m->term) || !is_place(m->prev_log_index, m->prev_log_term, m->term) || m->leader_commit > INDEX_MAX)
        return false;
    if (n > ENTRIES_MAX || m->prev_log_index + n > INDEX_MAX)
        return false;
    if (!check_entries(*in, n, m->prev_log_term, m->term))
        return false;
    *entries = take_entries(*in, n, m->prev_log_index);
    m->n_entries = n;
    m->entries = NULL;
    return true;
}

static bool decode_append_entries_result(struct hf_reader *in, struct raft_append_entries_result *m)
{
    m->version = hf_read_u8(in);
    m->term = hf_read_u64(in);
    m->rejected = hf_read_u64(in);
    m->last_log_index = hf_read_u64(in);
    m->features = hf_read_u16(in);
    m->capacity = hf_read_u16(in);
    if (!hf_reader_done(in) || m->version != VERSION_APPEND_ENTRIES_RESULT || !is_term(m->term))
        return false;
    if (m->rejected > INDEX_MAX || m->last_log_index > INDEX_MAX)
        return false;
    return m->rejected == 0 || m->last_log_index < m->rejected;
}

static bool decode_request_vote(struct hf_reader *in, struct raft_request_vote *m)
{
    uint8_t flags;

    m->version = hf_read_u8(in);
    m->term = hf_read_u64(in);
    m->candidate_id = hf_read_u64(in);
    m->last_log_index = hf_read_u64(in);
    m->last_log_term = hf_read_u64(in);
    flags = hf_read_u8(in);
    m->disrupt_leader = (flags & FLAG_DISRUPT_LEADER) != 0;
    m->pre_vote = (flags & FLAG_PRE_VOTE) != 0;
    if (!hf_reader_done(in) || m->version != VERSION_REQUEST_VOTE)
        return false;
    if ((flags & ~(FLAG_DISRUPT_LEADER | FLAG_PRE_VOTE)) != 0 || m->candidate_id == 0 || !is_term(m->term))
        return false;
    return is_place(m->last_log_index, m->last_log_term, m->term);
}

static bool decode_request_vote_result(struct hf_reader *in, struct raft_request_vote_result *m)
{
    uint8_t flags;

    m->version = hf_read_u8(in);
    m->term = hf_read_u64(in);
    flags = hf_read_u8(in);
    m->features = hf_read_u16(in);
    m->capacity = hf_read_u16(in);
    m->vote_granted = (flags & FLAG_VOTE_GRANTED) != 0;
    m->pre_vote = (flags & FLAG_PRE_VOTE) != 0;
    if (!hf_reader_done(in) || m->version != VERSION_REQUEST_VOTE_RESULT)
        return false;
    return (flags & ~(FLAG_VOTE_GRANTED | FLAG_PRE_VOTE)) == 0 && is_term(m->term);
}

static bool decode_timeout_now(struct hf_reader *in, struct raft_timeout_now *m)
{
    m->version = hf_read_u8(in);
    m->term = hf_read_u64(in);
    m->last_log_index = hf_read_u64(in);
    m->last_log_term = hf_read_u64(in);
    if (!hf_reader_done(in) || m->version != VERSION_TIMEOUT_NOW || !is_term(m->term))
        return false;
    return is_place(m->last_log_index, m->last_log_term, m->term);
}

bool hf_codec_is_configuration(struct hf_slice bytes)
{
    return is_configuration(bytes);
}

/* The core wants a configuration of its own and some data with it: it takes both, or frees them. */
static bool decode_install_snapshot(struct hf_reader *in, struct raft_install_snapshot *m)
{
    struct hf_slice configuration;
    struct raft_buffer buf;
    int rv;

    m->version = hf_read_u8(in);
    m->term = hf_read_u64(in);
    m->last_index = hf_read_u64(in);
    m->last_term = hf_read_u64(in);
    m->conf_index = hf_read_u64(in);
    configuration = hf_read_slice(in);
    if (!hf_reader_done(in) || m->version != VERSION_INSTALL_SNAPSHOT || !is_term(m->term) || m->last_index == 0 ||
        !is_place(m->last_index, m->last_term, m->term) || m->conf_index == 0 || m->conf_index > m->last_index ||
        !is_configuration(configuration))
        return false;
    buf.len = configuration.len;
    buf.base = raft_malloc(buf.len); /* the decoder reads aligned words */
    HF_ASSERT(buf.base != NULL);
    memcpy(buf.base, configuration.ptr, configuration.len);
    rv = raft_configuration_decode(&buf, &m->conf);
    raft_free(buf.base);
    if (rv != 0)
        return false;
    m->data.len = 1;
    m->data.base = raft_malloc(1);
    HF_ASSERT(m->data.base != NULL);
    *(uint8_t *)m->data.base = 0;
    return true;
}

int hf_codec_decode(uint8_t type, struct hf_slice bytes, struct raft_message *m, struct hf_log_entry ***entries)
{
    struct hf_reader in = hf_reader(bytes);
    bool is_good;

    memset(m, 0, sizeof(*m));
    *entries = NULL;
    m->type = (enum raft_message_type)type;
    if (type == HF_MSG_APPEND_ENTRIES)
        is_good = decode_append_entries(&in, &m->append_entries, entries);
    else if (type == HF_MSG_APPEND_ENTRIES_RESULT)
        is_good = decode_append_entries_result(&in, &m->append_entries_result);
    else if (type == HF_MSG_REQUEST_VOTE)
        is_good = decode_request_vote(&in, &m->request_vote);
    else if (type == HF_MSG_REQUEST_VOTE_RESULT)
        is_good = decode_request_vote_result(&in, &m->request_vote_result);
    else if (type == HF_MSG_TIMEOUT_NOW)
        is_good = decode_timeout_now(&in, &m->timeout_now);
    else if (type == HF_MSG_INSTALL_SNAPSHOT)
        is_good = decode_install_snapshot(&in, &m->install_snapshot);
    else
        is_good = false;
    return is_good ? 0 : HF_E_INVALID;
}
