/* identity.c: the two small files that say whose data directory this is and which state is current, and the texts
 * that name members (walk step 5). Both files are replaced as a whole (hf_fs_write_small adds a magic and a CRC-32C
 * after the content), so a crash leaves the old or the new one. All integers little-endian.
 *
 * DIR/identity:
 *   u32  magic 0x44494648 ("HFID")
 *   u16  version (1 or 2)
 *   u16  flags: bit 0 = formed; version 2 also: bit 1 = joining, bit 2 = wants a vote, bit 3 = removed,
 *                             bits 4 and 5 = an offline command that did not finish (enum hf_unfinished),
 *                             bit 6 = the cluster's feature level is 2 or above; others 0
 *   u64  node id                not 0, except while joining
 *   u64  store id               not 0; random, made once for this directory (R19)
 *   16   cluster id             all zero = not known yet (joining)
 *   16   incarnation            made when the cluster forms and when a recovery gives it a new one (R20)
 *   u16  member count           0..16
 *   then each member, ids strictly rising (while joining some ids may be 0, these come first):
 *     u64 id, u64 store id (0 = not known yet), u16 length, address bytes; version 2: u8 length, name bytes
 *   version 2: u8 length, name of this node; u8 length, name or id of the member that it replaces
 *
 * Version 1 is written as long as nothing that only version 2 can say is said: a release that knows no other can then
 * be started on the directory again. A name has 0 (none) to 64 letters, digits, '.', '_', '-'.
 *
 * DIR/CURRENT, the only commit point of taking or installing a snapshot (R16):
 *   u32  magic 0x524d4648 ("HFMR")
 *   u16  version (1)
 *   u16  flags: bit 0 = install pending; others 0
 *   u64  generation of the database: state-<generation>.db
 *   u64  index, u64 term        of the marker; both 0 = no snapshot taken yet
 *   u64  configuration index    not above index
 *   u32  length, configuration bytes in libraft's encoding (empty when there is no snapshot)
 *
 * The version is read before anything behind it, so that a directory of a newer release is told apart from damage. */
#include "consensus/identity.h"

#include "base/assert.h"
#include "base/mem.h"
#include "base/util.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IDENTITY_MAGIC     0x44494648u
#define MARKER_MAGIC       0x524d4648u
#define MARKER_VERSION     1
#define FLAG_FORMED        1u
#define FLAG_JOINING       2u
#define FLAG_WANTS_VOTE    4u
#define FLAG_REMOVED       8u
#define FLAG_UNFINISHED    0x30u
#define FLAG_LEVEL_2       0x40u
#define UNFINISHED_SHIFT   4
#define FLAG_PENDING       1u
#define NAME_BYTES         (1 + HF_MEMBER_NAME_BYTES)
#define IDENTITY_BYTES_MAX (64u + HF_MEMBERS_MAX * (8 + 8 + 2 + 256 + NAME_BYTES) + 2 * NAME_BYTES)
#define MARKER_BYTES_MAX   (1u << 20)

#define STORE_ID_DIGITS 16

/* ---- reading and writing ------------------------------------------------------------------------- */

/* Why a file is no good, and for a damaged one the command that gets the node going again. Who the node is stands in
 * the identity alone: without it the command has to be told. */
static void explain(char *why, size_t why_size, const char *dir, const char *name, const char *what, int rc)
{
    const char *also = strcmp(name, "identity") == 0 ? " --name NAME --join HOST:PORT" : "";

    if (rc == HF_E_CORRUPT)
        snprintf(why, why_size,
                 "%s/%s: %s: the file is damaged; put an intact copy of the whole directory back, or let this node "
                 "start again from the other members: holdfast repair --dir %s --from-peers%s",
                 dir, name, what, dir, also);
    else
        snprintf(why, why_size, "%s/%s: %s", dir, name, what);
}

/* Reads the file and its header (magic, version, flags). On 0 *bytes is the whole content, to be freed, and *in stands
 * after the header. */
static int open_file(struct hf_fs *fs, const char *dir, const char *name, size_t n_max, uint32_t magic,
                     uint16_t version_max, uint16_t *version, uint16_t *flags, uint8_t **bytes, struct hf_reader *in,
                     char *why, size_t why_size)
{
    char *path = hf_asprintf("%s/%s", dir, name);
    size_t n = 0;
    int rc;

    *bytes = NULL;
    rc = hf_fs_read_small(fs, path, n_max, bytes, &n);
    hf_free(path);
    if (rc != 0) {
        explain(why, why_size, dir, name, rc == HF_E_CORRUPT ? "its checksum does not match" : hf_strerror(rc), rc);
        return rc;
    }
    *in = hf_reader(hf_slice(*bytes, n));
    if (hf_read_u32(in) != magic) {
        rc = HF_E_CORRUPT;
        explain(why, why_size, dir, name, "is not a file of this kind", rc);
        goto fail;
    }
    *version = hf_read_u16(in);
    *flags = hf_read_u16(in);
    if (in->failed || *version == 0) {
        rc = HF_E_CORRUPT;
        explain(why, why_size, dir, name, "is cut short", rc);
        goto fail;
    }
    if (*version > version_max) {
        snprintf(why, why_size, "%s/%s: has format version %u, this program knows up to %u: use the newer release", dir,
                 name, *version, version_max);
        rc = HF_E_VERSION;
        goto fail;
    }
    return 0;

fail:
    hf_free(*bytes);
    *bytes = NULL;
    return rc;
}

static int write_file(struct hf_fs *fs, const char *dir, const char *name, struct hf_buf *content)
{
    char *path = hf_asprintf("%s/%s", dir, name);
    int rc = hf_fs_write_small(fs, path, content->data, content->len);

    hf_free(path);
    hf_buf_free(content);
    return rc;
}

static void read_fixed(struct hf_reader *in, void *out, size_t n)
{
    const uint8_t *p = hf_reader_take(in, n);

    if (p != NULL)
        memcpy(out, p, n);
}

/* ---- texts --------------------------------------------------------------------------------------- */

/* What an address must be to be kept: printable, and free of the characters that separate things elsewhere. A node
 * alone may well be known by a listen address nobody could dial. */
static bool is_address_text(struct hf_slice a)
{
    if (a.len == 0 || a.len >= sizeof(((struct hf_member *)0)->address))
        return false;
    for (size_t i = 0; i < a.len; i++) {
        if (a.ptr[i] <= 0x20 || a.ptr[i] > 0x7e || a.ptr[i] == '#' || a.ptr[i] == ',' || a.ptr[i] == '=')
            return false;
    }
    return true;
}

/* What a member list may say: host:port with a port of 1..65535. The host is a name, an IPv4 address, or an IPv6
 * address in brackets. */
static bool is_address(struct hf_slice a)
{
    int64_t port;
    size_t colon = a.len;

    if (!is_address_text(a))
        return false;
    while (colon > 0 && a.ptr[colon - 1] != ':')
        colon--;
    if (colon < 2) /* no ':', or nothing before it */
        return false;
    if (!hf_parse_int64(hf_slice(a.ptr + colon, a.len - colon), &port) || port < 1 || port > 65535)
        return false;
    colon--;
    if (a.ptr[0] == '[') {
        if (colon < 4 || a.ptr[colon - 1] != ']')
            return false;
        for (size_t i = 1; i < colon - 1; i++) {
            if (strchr("0123456789abcdefABCDEF:.", (char)a.ptr[i]) == NULL)
                return false;
        }
        return true;
    }
    for (size_t i = 0; i < colon; i++) {
        if (strchr(":[]", (char)a.ptr[i]) != NULL)
            return false;
    }
    return true;
}

static int compare_members(const void *a, const void *b)
{
    uint64_t x = ((const struct hf_member *)a)->id;
    uint64_t y = ((const struct hf_member *)b)->id;

    return x < y ? -1 : x > y;
}

static int parse_one(struct hf_slice item, struct hf_member *out, char *why, size_t why_size)
{
    const uint8_t *eq = item.len != 0 ? memchr(item.ptr, '=', item.len) : NULL;
    struct hf_slice address;
    int64_t id;

    if (eq == NULL) {
        snprintf(why, why_size, "member \"%.*s\": expected id=host:port", (int)item.len, (const char *)item.ptr);
        return HF_E_INVALID;
    }
    if (!hf_parse_int64(hf_slice(item.ptr, (size_t)(eq - item.ptr)), &id) || id < 1) {
        snprintf(why, why_size, "member \"%.*s\": the id must be a number from 1 on", (int)item.len,
                 (const char *)item.ptr);
        return HF_E_INVALID;
    }
    address = hf_slice(eq + 1, item.len - (size_t)(eq - item.ptr) - 1);
    if (!is_address(address)) {
        snprintf(why, why_size, "member %" PRId64 ": \"%.*s\" is not host:port", id, (int)address.len,
                 (const char *)address.ptr);
        return HF_E_INVALID;
    }
    *out = (struct hf_member){.id = (uint64_t)id};
    memcpy(out->address, address.ptr, address.len);
    return 0;
}

int hf_members_parse(const char *list, struct hf_member *out, uint32_t *n, char *why, size_t why_size)
{
    struct hf_member members[HF_MEMBERS_MAX];
    uint32_t count = 0;
    const char *p = list;

    for (;;) {
        size_t len = strcspn(p, ",");
        int rc;

        if (count == HF_MEMBERS_MAX) {
            snprintf(why, why_size, "more than %d members", HF_MEMBERS_MAX);
            return HF_E_INVALID;
        }
        rc = parse_one(hf_slice(p, len), &members[count], why, why_size);
        if (rc != 0)
            return rc;
        for (uint32_t i = 0; i < count; i++) {
            if (members[i].id == members[count].id) {
                snprintf(why, why_size, "member id %" PRIu64 " is named twice", members[i].id);
                return HF_E_INVALID;
            }
            if (strcmp(members[i].address, members[count].address) == 0) {
                snprintf(why, why_size, "members %" PRIu64 " and %" PRIu64 " have the same address %s", members[i].id,
                         members[count].id, members[i].address);
                return HF_E_INVALID;
            }
        }
        count++;
        if (p[len] == '\0')
            break;
        p += len + 1;
    }
    qsort(members, count, sizeof(members[0]), compare_members);
    memcpy(out, members, count * sizeof(members[0]));
    *n = count;
    return 0;
}

bool hf_member_name_is_good(struct hf_slice name)
{
    if (name.len == 0 || name.len > HF_MEMBER_NAME_BYTES)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.ptr[i];
        bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');

        if (!is_letter && !(c >= '0' && c <= '9') && c != '.' && c != '_' && c != '-')
            return false;
    }
    return true;
}

static void id_digits(uint64_t id, char buf[HF_MEMBER_NAME_BYTES + 1])
{
    snprintf(buf, HF_MEMBER_NAME_BYTES + 1, "%" PRIu64, id);
}

const char *hf_member_name(const struct hf_member *m, char buf[HF_MEMBER_NAME_BYTES + 1])
{
    if (m->name[0] != '\0')
        return m->name;
    id_digits(m->id, buf);
    return buf;
}

void hf_member_format(const struct hf_member *m, char *out, size_t out_size)
{
    char digits[HF_MEMBER_NAME_BYTES + 1];
    bool has_name;
    int len;

    id_digits(m->id, digits);
    has_name = m->name[0] != '\0' && strcmp(m->name, digits) != 0;
    HF_ASSERT(!has_name || hf_member_name_is_good(hf_slice_str(m->name)));
    len = snprintf(out, out_size, "%s#%016" PRIx64 "%s%s", m->address, m->store_id, has_name ? "#" : "",
                   has_name ? m->name : "");
    HF_ASSERT(len > 0);
    HF_ASSERT((size_t)len < out_size);
}

static bool parse_store_id(struct hf_slice digits, uint64_t *out)
{
    uint64_t id = 0;

    if (digits.len != STORE_ID_DIGITS)
        return false;
    for (size_t i = 0; i < digits.len; i++) {
        uint8_t c = digits.ptr[i];

        if (c >= '0' && c <= '9')
            id = id << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            id = id << 4 | (uint64_t)(c - 'a' + 10);
        else
            return false;
    }
    *out = id;
    return true;
}

/* One spelling only: two texts for one member would be two members to libraft. */
int hf_member_parse(uint64_t id, const char *text, struct hf_member *out)
{
    size_t address_len = strcspn(text, "#"), digits_len;
    struct hf_member m = {.id = id};
    const char *digits, *rest;

    if (id == 0 || text[address_len] == '\0' || !is_address_text(hf_slice(text, address_len)))
        return HF_E_INVALID;
    memcpy(m.address, text, address_len);
    digits = text + address_len + 1;
    digits_len = strcspn(digits, "#");
    if (!parse_store_id(hf_slice(digits, digits_len), &m.store_id))
        return HF_E_INVALID;
    rest = digits + digits_len;
    if (*rest == '#') {
        char own[HF_MEMBER_NAME_BYTES + 1];

        id_digits(id, own);
        if (!hf_member_name_is_good(hf_slice_str(rest + 1)) || strcmp(rest + 1, own) == 0)
            return HF_E_INVALID;
        memcpy(m.name, rest + 1, strlen(rest + 1));
    }
    *out = m;
    return 0;
}

/* One 64-bit pass over the text: FNV-1a from a seeded basis, finished with splitmix64's mixer so that texts which
 * differ in the last byte only differ everywhere. */
static uint64_t hash_pass(struct hf_slice text, uint64_t seed)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325) ^ seed;

    for (size_t i = 0; i < text.len; i++)
        h = (h ^ text.ptr[i]) * UINT64_C(0x100000001b3);
    h += UINT64_C(0x9e3779b97f4a7c15);
    h = (h ^ (h >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    h = (h ^ (h >> 27)) * UINT64_C(0x94d049bb133111eb);
    return h ^ (h >> 31);
}

/* The text that is hashed: "word:" and the word, or "list:" and "id=address," for each member in the order of the ids.
 * The id keeps clusters from being mixed up by mistake; it is no secret and no proof, so 128 bits of a plain hash do.
 * It must never change: every data directory holds it. */
void hf_cluster_id(const char *word, const struct hf_member *members, uint32_t n, uint8_t out[16])
{
    struct hf_buf text = {0};

    if (word != NULL && word[0] != '\0') {
        hf_buf_printf(&text, "word:%s", word);
    } else {
        hf_buf_printf(&text, "list:");
        for (uint32_t i = 0; i < n; i++)
            hf_buf_printf(&text, "%" PRIu64 "=%s,", members[i].id, members[i].address);
    }
    hf_store_u64(out, hash_pass(hf_buf_slice(&text), UINT64_C(0x686f6c6466617374)));     /* "holdfast" */
    hf_store_u64(out + 8, hash_pass(hf_buf_slice(&text), UINT64_C(0x636c757374657269))); /* "clusteri" */
    hf_buf_free(&text);
}

/* ---- identity ------------------------------------------------------------------------------------ */

static bool read_name(struct hf_reader *in, char out[HF_MEMBER_NAME_BYTES + 1])
{
    struct hf_slice name = hf_read_bytes(in, hf_read_u8(in));

    if (in->failed || (name.len != 0 && !hf_member_name_is_good(name)))
        return false;
    if (name.len != 0)
        memcpy(out, name.ptr, name.len);
    return true;
}

static void put_name(struct hf_buf *b, const char *name)
{
    HF_ASSERT(name[0] == '\0' || hf_member_name_is_good(hf_slice_str(name)));
    hf_buf_put_u8(b, (uint8_t)strlen(name));
    hf_buf_put(b, name, strlen(name));
}

/* Ids rise strictly; while joining some may be 0 = not known, before the others. */
static bool is_next_id(const struct hf_identity *id, uint32_t i)
{
    uint64_t previous = i == 0 ? 0 : id->members[i - 1].id;

    return id->members[i].id > previous || (id->is_joining && id->members[i].id == 0 && previous == 0);
}

static bool read_member(struct hf_reader *in, uint16_t version, struct hf_member *out)
{
    struct hf_slice address;

    out->id = hf_read_u64(in);
    out->store_id = hf_read_u64(in);
    address = hf_read_bytes(in, hf_read_u16(in));
    if (in->failed || !is_address_text(address))
        return false;
    memcpy(out->address, address.ptr, address.len);
    return version == 1 || read_name(in, out->name);
}

static bool read_identity(struct hf_reader *in, uint16_t version, uint16_t flags, struct hf_identity *id)
{
    uint16_t known = FLAG_FORMED;

    if (version >= 2)
        known |= FLAG_JOINING | FLAG_WANTS_VOTE | FLAG_REMOVED | FLAG_UNFINISHED | FLAG_LEVEL_2;
    memset(id, 0, sizeof(*id));
    id->is_formed = (flags & FLAG_FORMED) != 0;
    id->is_joining = (flags & FLAG_JOINING) != 0;
    id->wants_vote = (flags & FLAG_WANTS_VOTE) != 0;
    id->is_removed = (flags & FLAG_REMOVED) != 0;
    id->is_level_2 = (flags & FLAG_LEVEL_2) != 0;
    id->unfinished = (enum hf_unfinished)((flags & FLAG_UNFINISHED) >> UNFINISHED_SHIFT);
    id->node_id = hf_read_u64(in);
    id->store_id = hf_read_u64(in);
    read_fixed(in, id->cluster_id, sizeof(id->cluster_id));
    read_fixed(in, id->incarnation, sizeof(id->incarnation));
    id->n_members = hf_read_u16(in);
    if (in->failed || (flags & ~known) != 0 || (id->node_id == 0 && !id->is_joining) || id->store_id == 0)
        return false;
    if (id->n_members > HF_MEMBERS_MAX)
        return false;
    for (uint32_t i = 0; i < id->n_members; i++) {
        if (!read_member(in, version, &id->members[i]) || !is_next_id(id, i))
            return false;
    }
    if (version >= 2 && (!read_name(in, id->name) || !read_name(in, id->replaces)))
        return false;
    return hf_reader_done(in);
}

int hf_identity_load_unfinished(struct hf_fs *fs, const char *dir, struct hf_identity *out, char *why, size_t why_size)
{
    struct hf_identity id;
    struct hf_reader in;
    uint8_t *bytes;
    uint16_t version, flags;
    int rc = open_file(fs, dir, "identity", IDENTITY_BYTES_MAX, IDENTITY_MAGIC, HF_IDENTITY_VERSION, &version, &flags,
                       &bytes, &in, why, why_size);

    if (rc != 0)
        return rc;
    if (read_identity(&in, version, flags, &id)) {
        *out = id;
    } else {
        rc = HF_E_CORRUPT;
        explain(why, why_size, dir, "identity", "its content makes no sense", rc);
    }
    hf_free(bytes);
    return rc;
}

int hf_identity_load(struct hf_fs *fs, const char *dir, struct hf_identity *out, char *why, size_t why_size)
{
    int rc = hf_identity_load_unfinished(fs, dir, out, why, why_size);

    if (rc != 0)
        return rc;
    switch (out->unfinished) {
    case HF_UNFINISHED_NONE:
        return 0;
    case HF_UNFINISHED_RECOVER:
        snprintf(why, why_size,
                 "%s: a recovery was begun here and did not finish; finish it: holdfast recover --dir %s", dir, dir);
        break;
    case HF_UNFINISHED_REJOIN:
        snprintf(why, why_size,
                 "%s: a repair was begun here and did not finish; finish it: holdfast repair --dir %s --from-peers",
                 dir, dir);
        break;
    case HF_UNFINISHED_CREATE:
        snprintf(why, why_size,
                 "%s: a backup was being restored here and that did not finish; do it again: holdfast restore FILE "
                 "--dir %s",
                 dir, dir);
        break;
    }
    return HF_E_AGAIN;
}

static uint16_t version_for(const struct hf_identity *id)
{
    if (id->is_joining || id->wants_vote || id->is_removed || id->name[0] != '\0' || id->replaces[0] != '\0' ||
        id->is_level_2 || id->unfinished != HF_UNFINISHED_NONE)
        return 2;
    for (uint32_t i = 0; i < id->n_members; i++) {
        if (id->members[i].name[0] != '\0')
            return 2;
    }
    return 1;
}

int hf_identity_save(struct hf_fs *fs, const char *dir, const struct hf_identity *id)
{
    struct hf_buf b = {0};
    uint16_t version = version_for(id), flags = 0;

    HF_ASSERT(id->node_id != 0 || id->is_joining);
    HF_ASSERT(id->store_id != 0);
    HF_ASSERT(id->n_members <= HF_MEMBERS_MAX);
    flags |= id->is_formed ? FLAG_FORMED : 0;
    flags |= id->is_joining ? FLAG_JOINING : 0;
    flags |= id->wants_vote ? FLAG_WANTS_VOTE : 0;
    flags |= id->is_removed ? FLAG_REMOVED : 0;
    flags |= id->is_level_2 ? FLAG_LEVEL_2 : 0;
    flags |= (uint16_t)((unsigned)id->unfinished << UNFINISHED_SHIFT);
    hf_buf_put_u32(&b, IDENTITY_MAGIC);
    hf_buf_put_u16(&b, version);
    hf_buf_put_u16(&b, flags);
    hf_buf_put_u64(&b, id->node_id);
    hf_buf_put_u64(&b, id->store_id);
    hf_buf_put(&b, id->cluster_id, sizeof(id->cluster_id));
    hf_buf_put(&b, id->incarnation, sizeof(id->incarnation));
    hf_buf_put_u16(&b, (uint16_t)id->n_members);
    for (uint32_t i = 0; i < id->n_members; i++) {
        const struct hf_member *m = &id->members[i];

        HF_ASSERT(is_next_id(id, i));
        HF_ASSERT(is_address_text(hf_slice_str(m->address)));
        hf_buf_put_u64(&b, m->id);
        hf_buf_put_u64(&b, m->store_id);
        hf_buf_put_u16(&b, (uint16_t)strlen(m->address));
        hf_buf_put(&b, m->address, strlen(m->address));
        if (version >= 2)
            put_name(&b, m->name);
    }
    if (version >= 2) {
        put_name(&b, id->name);
        put_name(&b, id->replaces);
    }
    return write_file(fs, dir, "identity", &b);
}

/* ---- marker -------------------------------------------------------------------------------------- */

static bool is_marker(const struct hf_marker *m)
{
    if (m->index == 0)
        return m->term == 0 && m->configuration_index == 0 && m->configuration.len == 0;
    return m->term != 0 && m->configuration_index != 0 && m->configuration_index <= m->index &&
           m->configuration.len != 0;
}

int hf_marker_load(struct hf_fs *fs, const char *dir, struct hf_marker *out, char *why, size_t why_size)
{
    struct hf_marker m = {0};
    struct hf_slice configuration;
    struct hf_reader in;
    uint8_t *bytes;
    uint16_t version, flags;
    int rc = open_file(fs, dir, "CURRENT", MARKER_BYTES_MAX, MARKER_MAGIC, MARKER_VERSION, &version, &flags, &bytes,
                       &in, why, why_size);

    if (rc != 0)
        return rc;
    m.install_pending = (flags & FLAG_PENDING) != 0;
    m.generation = hf_read_u64(&in);
    m.index = hf_read_u64(&in);
    m.term = hf_read_u64(&in);
    m.configuration_index = hf_read_u64(&in);
    configuration = hf_read_slice(&in);
    hf_buf_put(&m.configuration, configuration.ptr, configuration.len);
    if (hf_reader_done(&in) && (flags & ~FLAG_PENDING) == 0 && is_marker(&m)) {
        *out = m;
    } else {
        rc = HF_E_CORRUPT;
        explain(why, why_size, dir, "CURRENT", "its content makes no sense", rc);
        hf_buf_free(&m.configuration);
    }
    hf_free(bytes);
    return rc;
}

int hf_marker_save(struct hf_fs *fs, const char *dir, const struct hf_marker *m)
{
    struct hf_buf b = {0};

    HF_ASSERT(is_marker(m));
    HF_ASSERT(m->configuration.len < MARKER_BYTES_MAX / 2);
    hf_buf_put_u32(&b, MARKER_MAGIC);
    hf_buf_put_u16(&b, MARKER_VERSION);
    hf_buf_put_u16(&b, m->install_pending ? FLAG_PENDING : 0);
    hf_buf_put_u64(&b, m->generation);
    hf_buf_put_u64(&b, m->index);
    hf_buf_put_u64(&b, m->term);
    hf_buf_put_u64(&b, m->configuration_index);
    hf_buf_put_slice(&b, hf_buf_slice(&m->configuration));
    return write_file(fs, dir, "CURRENT", &b);
}

void hf_marker_free(struct hf_marker *m)
{
    hf_buf_free(&m->configuration);
    *m = (struct hf_marker){0};
}
