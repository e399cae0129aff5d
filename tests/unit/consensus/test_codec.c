/* Raft messages to bytes and back: what a correct core sends comes back the same, and nothing else gets through. */
#include "suites.h"

#include "base/mem.h"
#include "base/util.h"
#include "consensus/codec.h"

#define INDEX_MAX ((UINT64_C(1) << 48) - 1)
#define TERM_MAX  (UINT64_C(1) << 62)

/* ---- helpers ------------------------------------------------------------------------------------- */

static void free_entries(struct hf_log_entry **entries, unsigned n)
{
    for (unsigned i = 0; entries != NULL && i < n; i++)
        hf_log_entry_unref(entries[i]);
    hf_free(entries);
}

static void put_server(struct hf_buf *out, uint64_t id, const char *address, uint8_t role)
{
    hf_buf_put_u64(out, id);
    hf_buf_put(out, address, strlen(address) + 1);
    hf_buf_put_u8(out, role);
}

static void pad(struct hf_buf *out)
{
    while (out->len % 8 != 0)
        hf_buf_put_u8(out, 0);
}

static struct hf_log_entry *entry_of(enum hf_entry_type type, uint64_t term, struct hf_slice payload)
{
    struct hf_log_entry *e = hf_log_entry_new(type, 0, term, (uint32_t)payload.len);

    if (payload.len != 0)
        memcpy(e->data, payload.ptr, payload.len);
    return e;
}

/* An AppendEntries with one CONFIGURATION entry of these bytes. */
static int decode_configuration(struct hf_slice bytes)
{
    struct raft_message m = {.type = RAFT_APPEND_ENTRIES};
    struct hf_log_entry *e = entry_of(HF_ENTRY_CONFIGURATION, 1, bytes), **entries;
    struct hf_buf out = {0};
    uint8_t *copy;
    int rc;

    m.append_entries.term = 1;
    m.append_entries.n_entries = 1;
    hf_codec_put_message(&out, &m);
    hf_codec_put_entry(&out, e);
    /* An exact copy, so that the sanitizer sees a read past the end. */
    copy = hf_memdup(out.data, out.len);
    rc = hf_codec_decode(HF_MSG_APPEND_ENTRIES, hf_slice(copy, out.len), &m, &entries);
    if (rc == 0)
        free_entries(entries, m.append_entries.n_entries);
    else
        ck_assert_ptr_null(entries);
    hf_free(copy);
    hf_buf_free(&out);
    hf_log_entry_unref(e);
    return rc;
}

/* ---- what is good comes back --------------------------------------------------------------------- */

static uint64_t draw_term(struct hf_prng *prng)
{
    return 1 + hf_prng_below(prng, hf_prng_below(prng, 4) == 0 ? TERM_MAX : 100);
}

static uint64_t draw_index(struct hf_prng *prng)
{
    return hf_prng_below(prng, hf_prng_below(prng, 4) == 0 ? INDEX_MAX - 100000 : 1000);
}

static void draw_place(struct hf_prng *prng, uint64_t term, raft_index *index, raft_term *place_term)
{
    *index = draw_index(prng);
    *place_term = *index == 0 ? 0 : 1 + hf_prng_below(prng, term);
}

static struct raft_message draw_message(struct hf_prng *prng)
{
    struct raft_message m = {0};
    uint64_t term = draw_term(prng);

    switch (hf_prng_below(prng, 5)) {
    case 0:
        m.type = RAFT_APPEND_ENTRIES;
        m.append_entries.term = term;
        draw_place(prng, term, &m.append_entries.prev_log_index, &m.append_entries.prev_log_term);
        m.append_entries.leader_commit = draw_index(prng);
        m.append_entries.n_entries = (unsigned)hf_prng_below(prng, 20);
        break;
    case 1:
        m.type = RAFT_APPEND_ENTRIES_RESULT;
        m.append_entries_result.version = 2;
        m.append_entries_result.term = term;
        m.append_entries_result.last_log_index = draw_index(prng);
        if (hf_prng_below(prng, 2) == 0)
            m.append_entries_result.rejected = m.append_entries_result.last_log_index + 1 + hf_prng_below(prng, 9);
        m.append_entries_result.features = (unsigned short)hf_prng_next(prng);
        m.append_entries_result.capacity = (unsigned short)hf_prng_next(prng);
        break;
    case 2:
        m.type = RAFT_REQUEST_VOTE;
        m.request_vote.version = 2;
        m.request_vote.term = term;
        m.request_vote.candidate_id = 1 + hf_prng_below(prng, UINT64_MAX);
        draw_place(prng, term, &m.request_vote.last_log_index, &m.request_vote.last_log_term);
        m.request_vote.disrupt_leader = hf_prng_below(prng, 2) != 0;
        m.request_vote.pre_vote = hf_prng_below(prng, 2) != 0;
        break;
    case 3:
        m.type = RAFT_REQUEST_VOTE_RESULT;
        m.request_vote_result.version = 2;
        m.request_vote_result.term = term;
        m.request_vote_result.vote_granted = hf_prng_below(prng, 2) != 0;
        m.request_vote_result.pre_vote = hf_prng_below(prng, 2) != 0;
        m.request_vote_result.features = (unsigned short)hf_prng_next(prng);
        m.request_vote_result.capacity = (unsigned short)hf_prng_next(prng);
        break;
    default:
        m.type = RAFT_TIMEOUT_NOW;
        m.timeout_now.term = term;
        draw_place(prng, term, &m.timeout_now.last_log_index, &m.timeout_now.last_log_term);
        break;
    }
    return m;
}

static void draw_entries(struct hf_prng *prng, const struct raft_append_entries *m, struct hf_log_entry **out)
{
    uint64_t term = m->prev_log_term == 0 ? 1 : m->prev_log_term;
    uint8_t bytes[300];

    for (unsigned i = 0; i < m->n_entries; i++) {
        size_t len = hf_prng_below(prng, sizeof(bytes));

        if (term < m->term && hf_prng_below(prng, 4) == 0)
            term += 1 + hf_prng_below(prng, m->term - term);
        for (size_t j = 0; j < len; j++)
            bytes[j] = (uint8_t)hf_prng_next(prng);
        if (hf_prng_below(prng, 5) == 0) {
            struct hf_buf conf = {0};

            hf_buf_put_u8(&conf, 1);
            hf_buf_put_u64(&conf, 2);
            put_server(&conf, 1 + hf_prng_below(prng, 100), "a:1#0000000000000001", RAFT_VOTER);
            put_server(&conf, 200, "b:1", (uint8_t)hf_prng_below(prng, 3));
            pad(&conf);
            out[i] = entry_of(HF_ENTRY_CONFIGURATION, term, hf_buf_slice(&conf));
            hf_buf_free(&conf);
        } else {
            out[i] =
                entry_of(hf_prng_below(prng, 5) == 0 ? HF_ENTRY_BARRIER : HF_ENTRY_COMMAND, term, hf_slice(bytes, len));
        }
    }
}

static void assert_same_message(const struct raft_message *a, const struct raft_message *b)
{
    ck_assert_int_eq(a->type, b->type);
    switch (a->type) {
    case RAFT_APPEND_ENTRIES:
        ck_assert_uint_eq(a->append_entries.version, b->append_entries.version);
        ck_assert_uint_eq(a->append_entries.term, b->append_entries.term);
        ck_assert_uint_eq(a->append_entries.prev_log_index, b->append_entries.prev_log_index);
        ck_assert_uint_eq(a->append_entries.prev_log_term, b->append_entries.prev_log_term);
        ck_assert_uint_eq(a->append_entries.leader_commit, b->append_entries.leader_commit);
        ck_assert_uint_eq(a->append_entries.n_entries, b->append_entries.n_entries);
        ck_assert_ptr_null(b->append_entries.entries);
        return;
    case RAFT_APPEND_ENTRIES_RESULT:
        ck_assert_uint_eq(a->append_entries_result.version, b->append_entries_result.version);
        ck_assert_uint_eq(a->append_entries_result.term, b->append_entries_result.term);
        ck_assert_uint_eq(a->append_entries_result.rejected, b->append_entries_result.rejected);
        ck_assert_uint_eq(a->append_entries_result.last_log_index, b->append_entries_result.last_log_index);
        ck_assert_uint_eq(a->append_entries_result.features, b->append_entries_result.features);
        ck_assert_uint_eq(a->append_entries_result.capacity, b->append_entries_result.capacity);
        return;
    case RAFT_REQUEST_VOTE:
        ck_assert_uint_eq(a->request_vote.version, b->request_vote.version);
        ck_assert_uint_eq(a->request_vote.term, b->request_vote.term);
        ck_assert_uint_eq(a->request_vote.candidate_id, b->request_vote.candidate_id);
        ck_assert_uint_eq(a->request_vote.last_log_index, b->request_vote.last_log_index);
        ck_assert_uint_eq(a->request_vote.last_log_term, b->request_vote.last_log_term);
        ck_assert_int_eq(a->request_vote.disrupt_leader, b->request_vote.disrupt_leader);
        ck_assert_int_eq(a->request_vote.pre_vote, b->request_vote.pre_vote);
        return;
    case RAFT_REQUEST_VOTE_RESULT:
        ck_assert_uint_eq(a->request_vote_result.version, b->request_vote_result.version);
        ck_assert_uint_eq(a->request_vote_result.term, b->request_vote_result.term);
        ck_assert_int_eq(a->request_vote_result.vote_granted, b->request_vote_result.vote_granted);
        ck_assert_int_eq(a->request_vote_result.pre_vote, b->request_vote_result.pre_vote);
        ck_assert_uint_eq(a->request_vote_result.features, b->request_vote_result.features);
        ck_assert_uint_eq(a->request_vote_result.capacity, b->request_vote_result.capacity);
        return;
    case RAFT_TIMEOUT_NOW:
        ck_assert_uint_eq(a->timeout_now.version, b->timeout_now.version);
        ck_assert_uint_eq(a->timeout_now.term, b->timeout_now.term);
        ck_assert_uint_eq(a->timeout_now.last_log_index, b->timeout_now.last_log_index);
        ck_assert_uint_eq(a->timeout_now.last_log_term, b->timeout_now.last_log_term);
        return;
    case RAFT_INSTALL_SNAPSHOT:
        break;
    }
    ck_abort_msg("unexpected type");
}

/* Random messages come back the same; every shorter and every longer version of their bytes is refused. */
START_TEST(test_random_messages_come_back_and_no_other_length_does)
{
    struct hf_prng prng;

    hf_prng_seed(&prng, 20);
    for (int round = 0; round < 3000; round++) {
        struct raft_message m = draw_message(&prng), back;
        struct hf_log_entry *sent[32] = {0}, **entries;
        struct hf_buf out = {0};
        unsigned n = m.type == RAFT_APPEND_ENTRIES ? m.append_entries.n_entries : 0;
        size_t step = 1;

        hf_codec_put_message(&out, &m);
        if (n != 0)
            draw_entries(&prng, &m.append_entries, sent);
        for (unsigned i = 0; i < n; i++)
            hf_codec_put_entry(&out, sent[i]);
        ck_assert_int_eq(hf_codec_decode((uint8_t)m.type, hf_buf_slice(&out), &back, &entries), 0);
        assert_same_message(&m, &back);
        ck_assert_int_eq(entries != NULL, n != 0);
        for (unsigned i = 0; i < n; i++) {
            ck_assert_uint_eq(entries[i]->index, m.append_entries.prev_log_index + 1 + i);
            ck_assert_uint_eq(entries[i]->term, sent[i]->term);
            ck_assert_int_eq(entries[i]->type, sent[i]->type);
            ck_assert_uint_eq(entries[i]->refs, 1);
            ck_assert(hf_slice_eq(hf_slice(entries[i]->data, entries[i]->len), hf_slice(sent[i]->data, sent[i]->len)));
        }
        free_entries(entries, n);
        if (out.len > 200)
            step = 1 + hf_prng_below(&prng, 100);
        for (size_t len = 0; len < out.len; len += step) {
            uint8_t *copy = hf_memdup(out.data, len);

            ck_assert_int_eq(hf_codec_decode((uint8_t)m.type, hf_slice(copy, len), &back, &entries), HF_E_INVALID);
            ck_assert_ptr_null(entries);
            hf_free(copy);
        }
        hf_buf_put_u8(&out, 0);
        ck_assert_int_eq(hf_codec_decode((uint8_t)m.type, hf_buf_slice(&out), &back, &entries), HF_E_INVALID);
        for (unsigned i = 0; i < n; i++)
            hf_log_entry_unref(sent[i]);
        hf_buf_free(&out);
    }
}
END_TEST

/* Whatever bytes come, decode says yes or no without touching what it must not; a yes encodes to the same bytes. */
START_TEST(test_flipped_bytes_are_refused_or_mean_exactly_what_they_say)
{
    struct hf_prng prng;

    hf_prng_seed(&prng, 21);
    for (int round = 0; round < 20000; round++) {
        struct raft_message m = draw_message(&prng), back;
        struct hf_log_entry *sent[32] = {0}, **entries;
        struct hf_buf out = {0}, again = {0};
        unsigned n = m.type == RAFT_APPEND_ENTRIES ? m.append_entries.n_entries : 0;

        hf_codec_put_message(&out, &m);
        if (n != 0)
            draw_entries(&prng, &m.append_entries, sent);
        for (unsigned i = 0; i < n; i++) {
            hf_codec_put_entry(&out, sent[i]);
            hf_log_entry_unref(sent[i]);
        }
        for (int i = 0; i < 2; i++)
            out.data[hf_prng_below(&prng, out.len)] ^= (uint8_t)(1u << hf_prng_below(&prng, 8));
        if (hf_codec_decode((uint8_t)m.type, hf_buf_slice(&out), &back, &entries) == 0) {
            n = back.type == RAFT_APPEND_ENTRIES ? back.append_entries.n_entries : 0;
            hf_codec_put_message(&again, &back);
            for (unsigned i = 0; i < n; i++)
                hf_codec_put_entry(&again, entries[i]);
            ck_assert(hf_slice_eq(hf_buf_slice(&out), hf_buf_slice(&again)));
            free_entries(entries, n);
        }
        hf_buf_free(&out);
        hf_buf_free(&again);
    }
}
END_TEST

/* libraft 0.22.1 answers a message of an older term with an uninitialised last_log_index: the news of the higher term
 * must get through, and the field must not. */
START_TEST(test_uninitialised_last_log_index_does_not_keep_the_term_from_arriving)
{
    struct raft_message m = {.type = RAFT_APPEND_ENTRIES_RESULT}, back;
    struct hf_log_entry **entries;
    struct hf_buf out = {0};

    m.append_entries_result.version = 2;
    m.append_entries_result.term = 9;
    m.append_entries_result.last_log_index = UINT64_C(0xbebebebebebebebe);
    for (uint64_t rejected = 0; rejected < 2; rejected++) {
        m.append_entries_result.rejected = rejected;
        hf_codec_put_message(&out, &m);
        ck_assert_int_eq(hf_codec_decode(HF_MSG_APPEND_ENTRIES_RESULT, hf_buf_slice(&out), &back, &entries), 0);
        ck_assert_uint_eq(back.append_entries_result.term, 9);
        ck_assert_uint_eq(back.append_entries_result.last_log_index, 0);
        hf_buf_free(&out);
    }
}
END_TEST

/* ---- what is bad does not get through ------------------------------------------------------------ */

/* One good message of each type, and changes that must be refused: bytes written over it at an offset. */
struct change {
    const char *what;
    uint8_t type;
    size_t offset;
    size_t len; /* 1, 4 or 8 */
    uint64_t value;
};

static const struct change changes[] = {
    /* AppendEntries: version 0, term 1, prev index 9, prev term 17, commit 25, count 33, entry 37: term, 45 type,
     * 46 length */
    {"version", HF_MSG_APPEND_ENTRIES, 0, 1, 1},
    {"term 0", HF_MSG_APPEND_ENTRIES, 1, 8, 0},
    {"term too large", HF_MSG_APPEND_ENTRIES, 1, 8, TERM_MAX + 1},
    {"term below prev term", HF_MSG_APPEND_ENTRIES, 1, 8, 3},
    {"prev index 0 with a term", HF_MSG_APPEND_ENTRIES, 9, 8, 0},
    {"prev index too large", HF_MSG_APPEND_ENTRIES, 9, 8, INDEX_MAX + 1},
    {"last entry past the end of indexes", HF_MSG_APPEND_ENTRIES, 9, 8, INDEX_MAX},
    {"prev term 0 with an index", HF_MSG_APPEND_ENTRIES, 17, 8, 0},
    {"prev term above term", HF_MSG_APPEND_ENTRIES, 17, 8, 8},
    {"commit too large", HF_MSG_APPEND_ENTRIES, 25, 8, INDEX_MAX + 1},
    {"count 0 with bytes behind", HF_MSG_APPEND_ENTRIES, 33, 4, 0},
    {"count more than there are", HF_MSG_APPEND_ENTRIES, 33, 4, 3},
    {"count absurd", HF_MSG_APPEND_ENTRIES, 33, 4, UINT32_MAX},
    {"entry term 0", HF_MSG_APPEND_ENTRIES, 37, 8, 0},
    {"entry term below prev term", HF_MSG_APPEND_ENTRIES, 37, 8, 3},
    {"entry term above the next", HF_MSG_APPEND_ENTRIES, 37, 8, 6},
    {"entry term above the message's", HF_MSG_APPEND_ENTRIES, 37, 8, 8},
    {"entry type 0", HF_MSG_APPEND_ENTRIES, 45, 1, 0},
    {"entry type 4", HF_MSG_APPEND_ENTRIES, 45, 1, 4},
    {"entry that is no configuration", HF_MSG_APPEND_ENTRIES, 45, 1, HF_ENTRY_CONFIGURATION},
    {"entry length past the end", HF_MSG_APPEND_ENTRIES, 46, 4, UINT32_MAX},
    {"entry length one more", HF_MSG_APPEND_ENTRIES, 46, 4, 9},
    {"entry length one less", HF_MSG_APPEND_ENTRIES, 46, 4, 7},
    /* AppendEntriesResult: version 0, term 1, rejected 9, last 17 */
    {"version", HF_MSG_APPEND_ENTRIES_RESULT, 0, 1, 1},
    {"version", HF_MSG_APPEND_ENTRIES_RESULT, 0, 1, 3},
    {"term 0", HF_MSG_APPEND_ENTRIES_RESULT, 1, 8, 0},
    {"term too large", HF_MSG_APPEND_ENTRIES_RESULT, 1, 8, UINT64_MAX},
    {"rejected too large", HF_MSG_APPEND_ENTRIES_RESULT, 9, 8, INDEX_MAX + 1},
    {"rejected at or below last", HF_MSG_APPEND_ENTRIES_RESULT, 9, 8, 10},
    {"last too large", HF_MSG_APPEND_ENTRIES_RESULT, 17, 8, INDEX_MAX + 1},
    /* RequestVote: version 0, term 1, candidate 9, last index 17, last term 25, flags 33 */
    {"version", HF_MSG_REQUEST_VOTE, 0, 1, 1},
    {"term 0", HF_MSG_REQUEST_VOTE, 1, 8, 0},
    {"term too large", HF_MSG_REQUEST_VOTE, 1, 8, TERM_MAX + 1},
    {"candidate 0", HF_MSG_REQUEST_VOTE, 9, 8, 0},
    {"last index 0 with a term", HF_MSG_REQUEST_VOTE, 17, 8, 0},
    {"last index too large", HF_MSG_REQUEST_VOTE, 17, 8, INDEX_MAX + 1},
    {"last term 0 with an index", HF_MSG_REQUEST_VOTE, 25, 8, 0},
    {"last term above term", HF_MSG_REQUEST_VOTE, 25, 8, 8},
    {"unknown flag", HF_MSG_REQUEST_VOTE, 33, 1, 4},
    /* RequestVoteResult: version 0, term 1, flags 9 */
    {"version", HF_MSG_REQUEST_VOTE_RESULT, 0, 1, 0},
    {"term 0", HF_MSG_REQUEST_VOTE_RESULT, 1, 8, 0},
    {"term too large", HF_MSG_REQUEST_VOTE_RESULT, 1, 8, TERM_MAX + 1},
    {"unknown flag", HF_MSG_REQUEST_VOTE_RESULT, 9, 1, 0x80},
    /* TimeoutNow: version 0, term 1, last index 9, last term 17 */
    {"version", HF_MSG_TIMEOUT_NOW, 0, 1, 1},
    {"term 0", HF_MSG_TIMEOUT_NOW, 1, 8, 0},
    {"term too large", HF_MSG_TIMEOUT_NOW, 1, 8, TERM_MAX + 1},
    {"last index 0 with a term", HF_MSG_TIMEOUT_NOW, 9, 8, 0},
    {"last index too large", HF_MSG_TIMEOUT_NOW, 9, 8, INDEX_MAX + 1},
    {"last term above term", HF_MSG_TIMEOUT_NOW, 17, 8, 8},
};

/* Term 7, last log (10, 4); AppendEntries carries two entries of terms 4 and 5 with 8 bytes each. */
static void put_good(struct hf_buf *out, uint8_t type)
{
    struct raft_message m = {.type = (enum raft_message_type)type};

    if (type == HF_MSG_APPEND_ENTRIES) {
        struct hf_log_entry *a = entry_of(HF_ENTRY_COMMAND, 4, hf_slice_str("12345678"));
        struct hf_log_entry *b = entry_of(HF_ENTRY_BARRIER, 5, hf_slice_str("12345678"));

        m.append_entries = (struct raft_append_entries){
            .term = 7, .prev_log_index = 10, .prev_log_term = 4, .leader_commit = 9, .n_entries = 2};
        hf_codec_put_message(out, &m);
        hf_codec_put_entry(out, a);
        hf_codec_put_entry(out, b);
        hf_log_entry_unref(a);
        hf_log_entry_unref(b);
        return;
    }
    if (type == HF_MSG_APPEND_ENTRIES_RESULT)
        m.append_entries_result =
            (struct raft_append_entries_result){.version = 2, .term = 7, .rejected = 11, .last_log_index = 10};
    else if (type == HF_MSG_REQUEST_VOTE)
        m.request_vote = (struct raft_request_vote){
            .version = 2, .term = 7, .candidate_id = 3, .last_log_index = 10, .last_log_term = 4};
    else if (type == HF_MSG_REQUEST_VOTE_RESULT)
        m.request_vote_result = (struct raft_request_vote_result){.version = 2, .term = 7};
    else
        m.timeout_now = (struct raft_timeout_now){.term = 7, .last_log_index = 10, .last_log_term = 4};
    hf_codec_put_message(out, &m);
}

START_TEST(test_malformed_message_is_refused)
{
    const struct change *c = &changes[_i];
    struct hf_log_entry **entries;
    struct raft_message m;
    struct hf_buf out = {0};

    put_good(&out, c->type);
    ck_assert_int_eq(hf_codec_decode(c->type, hf_buf_slice(&out), &m, &entries), 0);
    free_entries(entries, c->type == HF_MSG_APPEND_ENTRIES ? m.append_entries.n_entries : 0);
    ck_assert_uint_le(c->offset + c->len, out.len);
    if (c->len == 1)
        out.data[c->offset] = (uint8_t)c->value;
    else if (c->len == 4)
        hf_store_u32(out.data + c->offset, (uint32_t)c->value);
    else
        hf_store_u64(out.data + c->offset, c->value);
    ck_assert_msg(hf_codec_decode(c->type, hf_buf_slice(&out), &m, &entries) == HF_E_INVALID, "type %u: %s", c->type,
                  c->what);
    ck_assert_ptr_null(entries);
    hf_buf_free(&out);
}
END_TEST

START_TEST(test_unknown_message_types_are_refused)
{
    struct hf_log_entry **entries;
    struct raft_message m;
    struct hf_buf out = {0};

    put_good(&out, HF_MSG_TIMEOUT_NOW);
    for (unsigned type = 0; type < 256; type++) {
        if (type >= HF_MSG_APPEND_ENTRIES && type <= HF_MSG_TIMEOUT_NOW && type != HF_MSG_INSTALL_SNAPSHOT)
            continue;
        ck_assert_int_eq(hf_codec_decode((uint8_t)type, hf_buf_slice(&out), &m, &entries), HF_E_INVALID);
    }
    hf_buf_free(&out);
}
END_TEST

START_TEST(test_too_many_entries_are_refused)
{
    struct raft_message m = {.type = RAFT_APPEND_ENTRIES};
    struct hf_log_entry *e = entry_of(HF_ENTRY_COMMAND, 1, hf_slice(NULL, 0)), **entries;
    struct hf_buf out = {0};

    m.append_entries.term = 1;
    m.append_entries.n_entries = 65535;
    hf_codec_put_message(&out, &m);
    for (int i = 0; i < 65535; i++)
        hf_codec_put_entry(&out, e);
    ck_assert_int_eq(hf_codec_decode(HF_MSG_APPEND_ENTRIES, hf_buf_slice(&out), &m, &entries), 0);
    free_entries(entries, 65535);
    hf_codec_put_entry(&out, e);
    hf_store_u32(out.data + 33, 65536);
    ck_assert_int_eq(hf_codec_decode(HF_MSG_APPEND_ENTRIES, hf_buf_slice(&out), &m, &entries), HF_E_INVALID);
    hf_buf_free(&out);
    hf_log_entry_unref(e);
}
END_TEST

/* ---- configurations ------------------------------------------------------------------------------ */

/* What libraft encodes passes, and libraft decodes what passes. */
START_TEST(test_libraft_configuration_is_accepted)
{
    struct raft_configuration conf;
    struct raft_buffer buf;

    raft_configuration_init(&conf);
    for (unsigned i = 1; i <= 20; i++) {
        char address[64];

        snprintf(address, sizeof(address), "10.0.0.%u:7000#%016x", i, i);
        ck_assert_int_eq(raft_configuration_add(&conf, i, address, i == 1 ? RAFT_VOTER : (int)(i % 3)), 0);
        ck_assert_int_eq(raft_configuration_encode(&conf, &buf), 0);
        ck_assert_int_eq(decode_configuration(hf_slice(buf.base, buf.len)), 0);
        raft_free(buf.base);
    }
    raft_configuration_close(&conf);
}
END_TEST

static int check_servers(uint8_t format, uint64_t n, void (*put)(struct hf_buf *))
{
    struct hf_buf conf = {0};
    int rc;

    hf_buf_put_u8(&conf, format);
    hf_buf_put_u64(&conf, n);
    put(&conf);
    pad(&conf);
    rc = decode_configuration(hf_buf_slice(&conf));
    hf_buf_free(&conf);
    return rc;
}

static void put_none(struct hf_buf *b)
{
    (void)b;
}
static void put_voter(struct hf_buf *b)
{
    put_server(b, 1, "a:1", RAFT_VOTER);
}
static void put_standby(struct hf_buf *b)
{
    put_server(b, 1, "a:1", RAFT_STANDBY);
}
static void put_id_0(struct hf_buf *b)
{
    put_server(b, 0, "a:1", RAFT_VOTER);
}
static void put_bad_role(struct hf_buf *b)
{
    put_server(b, 1, "a:1", 3);
}
static void put_no_address(struct hf_buf *b)
{
    put_server(b, 1, "", RAFT_VOTER);
}
static void put_same_id(struct hf_buf *b)
{
    put_server(b, 1, "a:1", RAFT_VOTER);
    put_server(b, 1, "b:1", RAFT_VOTER);
}
static void put_same_address(struct hf_buf *b)
{
    put_server(b, 1, "a:1", RAFT_VOTER);
    put_server(b, 2, "a:1", RAFT_VOTER);
}
static void put_open_address(struct hf_buf *b)
{
    hf_buf_put_u64(b, 1);
    hf_buf_put(b, "aaaaaaa", 7); /* fills the 8 bytes exactly: no final 0 anywhere */
}
static void put_dirty_padding(struct hf_buf *b)
{
    put_server(b, 1, "a", RAFT_VOTER);
    hf_buf_put_u8(b, 7);
}
static void put_long_padding(struct hf_buf *b)
{
    put_server(b, 1, "a:1", RAFT_VOTER);
    hf_buf_put_u64(b, 0);
}
static void put_long_address(struct hf_buf *b)
{
    char address[2000];

    memset(address, 'a', sizeof(address));
    address[sizeof(address) - 1] = '\0';
    put_server(b, 1, address, RAFT_VOTER);
}

START_TEST(test_malformed_configuration_is_refused)
{
    ck_assert_int_eq(check_servers(1, 1, put_voter), 0);
    ck_assert_int_eq(check_servers(0, 1, put_voter), HF_E_INVALID);
    ck_assert_int_eq(check_servers(2, 1, put_voter), HF_E_INVALID);
    ck_assert_int_eq(check_servers(1, 0, put_none), HF_E_INVALID);
    ck_assert_int_eq(check_servers(1, 0, put_voter), HF_E_INVALID);
    ck_assert_int_eq(check_servers(1, 2, put_voter), HF_E_INVALID);
    ck_assert_int_eq(check_servers(1, UINT64_MAX, put_voter), HF_E_INVALID);
    ck_assert_int_eq(check_servers(1, 1, put_standby), HF_E_INVALID);
    ck_assert_int_eq(check_servers(1, 1, put_id_0), HF_E_INVALID);
    ck_assert_int_eq(check_servers(1, 1, put_bad_role), HF_E_INVALID);
    ck_assert_int_eq(check_servers(1, 1, put_no_address), HF_E_INVALID);
    ck_assert_int_eq(check_servers(1, 2, put_same_id), HF_E_INVALID);
    ck_assert_int_eq(check_servers(1, 2, put_same_address), HF_E_INVALID);
    ck_assert_int_eq(check_servers(1, 1, put_open_address), HF_E_INVALID);
    ck_assert_int_eq(check_servers(1, 1, put_dirty_padding), HF_E_INVALID);
    ck_assert_int_eq(check_servers(1, 1, put_long_padding), HF_E_INVALID);
    ck_assert_int_eq(check_servers(1, 1, put_long_address), HF_E_INVALID);
    ck_assert_int_eq(decode_configuration(hf_slice(NULL, 0)), HF_E_INVALID);
}
END_TEST

/* Every cut and every flipped byte of a configuration is refused or decodes in libraft too. */
START_TEST(test_damaged_configuration_never_reaches_libraft)
{
    struct raft_configuration conf;
    struct raft_buffer buf;
    uint8_t *bytes;
    size_t len;

    raft_configuration_init(&conf);
    ck_assert_int_eq(raft_configuration_add(&conf, 1, "a:1", RAFT_VOTER), 0);
    ck_assert_int_eq(raft_configuration_add(&conf, 2, "bb:2", RAFT_STANDBY), 0);
    ck_assert_int_eq(raft_configuration_encode(&conf, &buf), 0);
    raft_configuration_close(&conf);
    bytes = buf.base;
    len = buf.len;
    for (size_t n = 0; n < len; n++)
        ck_assert_int_eq(decode_configuration(hf_slice(bytes, n)), HF_E_INVALID);
    for (size_t at = 0; at < len; at++) {
        for (unsigned x = 1; x < 256; x++) {
            bytes[at] ^= (uint8_t)x;
            if (decode_configuration(hf_slice(bytes, len)) == 0) {
                ck_assert_int_eq(raft_configuration_decode(&buf, &conf), 0);
                raft_configuration_close(&conf);
            }
            bytes[at] ^= (uint8_t)x;
        }
    }
    raft_free(buf.base);
}
END_TEST

Suite *codec_suite(void)
{
    Suite *s = suite_create("codec");
    TCase *t = tcase_create("codec");

    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_random_messages_come_back_and_no_other_length_does);
    tcase_add_test(t, test_flipped_bytes_are_refused_or_mean_exactly_what_they_say);
    tcase_add_test(t, test_uninitialised_last_log_index_does_not_keep_the_term_from_arriving);
    tcase_add_loop_test(t, test_malformed_message_is_refused, 0, (int)(sizeof(changes) / sizeof(changes[0])));
    tcase_add_test(t, test_unknown_message_types_are_refused);
    tcase_add_test(t, test_too_many_entries_are_refused);
    tcase_add_test(t, test_libraft_configuration_is_accepted);
    tcase_add_test(t, test_malformed_configuration_is_refused);
    tcase_add_test(t, test_damaged_configuration_never_reaches_libraft);
    suite_add_tcase(s, t);
    return s;
}
