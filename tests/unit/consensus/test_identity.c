/* The identity and marker files: what was saved is loaded, damage is told from a newer release, and the texts that
 * name members are read strictly. */
#include "suites.h"

#include "base/mem.h"
#include "consensus/identity.h"
#include "sim/disk.h"

#include <inttypes.h>
#include <stdio.h>

#define DIR "/data"

static struct hf_sim_disk *disk;
static struct hf_fs *fs;

static void setup(void)
{
    disk = hf_sim_disk_new();
    fs = hf_sim_disk_ops(disk);
    ck_assert_int_eq(fs->mkdir(fs, DIR), 0);
}

static void teardown(void)
{
    ck_assert_int_eq(hf_sim_disk_open_files(disk), 0);
    hf_sim_disk_free(disk);
}

static uint64_t file_size(const char *path)
{
    struct hf_file *f;
    uint64_t size;

    ck_assert_int_eq(fs->open(fs, path, HF_FS_READ, &f), 0);
    ck_assert_int_eq(fs->size(fs, f, &size), 0);
    fs->close(fs, f);
    return size;
}

static struct hf_identity sample_identity(void)
{
    struct hf_identity id = {.node_id = 2, .store_id = UINT64_C(0xfedcba9876543210), .is_formed = true, .n_members = 3};

    memset(id.cluster_id, 0xc1, sizeof(id.cluster_id));
    memset(id.incarnation, 0x1c, sizeof(id.incarnation));
    for (uint32_t i = 0; i < 3; i++) {
        id.members[i].id = i + 1;
        id.members[i].store_id = i * 1000;
        snprintf(id.members[i].address, sizeof(id.members[i].address), "node-%u:7000", i);
    }
    return id;
}

static struct hf_marker sample_marker(void)
{
    struct hf_marker m = {.generation = 3, .install_pending = true, .index = 100, .term = 4, .configuration_index = 90};

    hf_buf_put(&m.configuration, "configuration", 13);
    return m;
}

START_TEST(test_identity_comes_back_as_saved)
{
    struct hf_identity id = sample_identity(), back;
    char why[256] = "";

    ck_assert_int_eq(hf_identity_load(fs, DIR, &back, why, sizeof(why)), HF_E_NOENT);
    ck_assert_int_eq(hf_identity_save(fs, DIR, &id), 0);
    ck_assert_int_eq(hf_identity_load(fs, DIR, &back, why, sizeof(why)), 0);
    ck_assert_mem_eq(&id, &back, sizeof(id));
    id.is_formed = false;
    id.n_members = 0;
    memset(id.members, 0, sizeof(id.members));
    ck_assert_int_eq(hf_identity_save(fs, DIR, &id), 0);
    ck_assert_int_eq(hf_identity_load(fs, DIR, &back, why, sizeof(why)), 0);
    ck_assert_mem_eq(&id, &back, sizeof(id));
}
END_TEST

/* A directory that an offline command left half-way is refused with the command that ends it. */
START_TEST(test_unfinished_directory_is_refused_by_name)
{
    static const char *const commands[] = {
        [HF_UNFINISHED_RECOVER] = "holdfast recover --dir /data",
        [HF_UNFINISHED_REJOIN] = "holdfast repair --dir /data --from-peers",
        [HF_UNFINISHED_CREATE] = "holdfast restore FILE --dir /data",
    };
    struct hf_identity id = sample_identity(), back;

    for (int what = HF_UNFINISHED_RECOVER; what <= HF_UNFINISHED_CREATE; what++) {
        char why[512] = "";

        id.unfinished = (enum hf_unfinished)what;
        ck_assert_int_eq(hf_identity_save(fs, DIR, &id), 0);
        ck_assert_int_eq(hf_identity_load(fs, DIR, &back, why, sizeof(why)), HF_E_AGAIN);
        ck_assert_ptr_nonnull(strstr(why, commands[what]));
        ck_assert_int_eq(hf_identity_load_unfinished(fs, DIR, &back, why, sizeof(why)), 0);
        ck_assert_mem_eq(&id, &back, sizeof(id));
    }
}
END_TEST

/* What version 2 adds: names, joining without an id and a cluster, what is wanted and what is over. */
static struct hf_identity joining_identity(void)
{
    struct hf_identity id = {.store_id = 77, .is_joining = true, .wants_vote = true, .n_members = 3};

    snprintf(id.name, sizeof(id.name), "db-2.rack_1");
    snprintf(id.replaces, sizeof(id.replaces), "2");
    snprintf(id.members[0].address, sizeof(id.members[0].address), "a:1"); /* known by its address alone */
    snprintf(id.members[1].address, sizeof(id.members[1].address), "b:1");
    id.members[2].id = 9;
    snprintf(id.members[2].address, sizeof(id.members[2].address), "c:1");
    snprintf(id.members[2].name, sizeof(id.members[2].name), "third");
    return id;
}

START_TEST(test_joining_identity_comes_back_as_saved)
{
    struct hf_identity id = joining_identity(), back;
    char why[256] = "";

    ck_assert_int_eq(hf_identity_save(fs, DIR, &id), 0);
    ck_assert_int_eq(hf_identity_load(fs, DIR, &back, why, sizeof(why)), 0);
    ck_assert_mem_eq(&id, &back, sizeof(id));
}
END_TEST

static uint64_t field(const char *path, size_t offset, size_t len)
{
    uint8_t *bytes;
    uint64_t value = 0;
    size_t n;

    ck_assert_int_eq(hf_fs_read_small(fs, path, 1 << 16, &bytes, &n), 0);
    ck_assert_uint_le(offset + len, n);
    for (size_t i = len; i-- > 0;)
        value = value << 8 | bytes[offset + i];
    hf_free(bytes);
    return value;
}

/* Each thing that only version 2 can say makes the file version 2, and nothing else does: the release before reads
 * the directory until then, byte for byte as it wrote it. */
START_TEST(test_version_2_is_written_only_when_it_says_something)
{
    static const uint8_t version_1[] = {
        0x48, 0x46, 0x49, 0x44, 1,    0,    1,    0,    2,    0,    0,    0,    0,    0,    0,    0, /* magic .. id */
        0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe, 0xc1, 0xc1, 0xc1, 0xc1, 0xc1, 0xc1, 0xc1, 0xc1,
        0xc1, 0xc1, 0xc1, 0xc1, 0xc1, 0xc1, 0xc1, 0xc1, 0x1c, 0x1c, 0x1c, 0x1c, 0x1c, 0x1c, 0x1c, 0x1c,
        0x1c, 0x1c, 0x1c, 0x1c, 0x1c, 0x1c, 0x1c, 0x1c, 1,    0,    1,    0,    0,    0,    0,    0,
        0,    0,    5,    0,    0,    0,    0,    0,    0,    0,    3,    0,    'a',  ':',  '1',
    };
    struct hf_identity id = sample_identity(), back;
    char why[256] = "";
    uint8_t *bytes;
    size_t n;

    id.n_members = 1;
    memset(id.members, 0, sizeof(id.members));
    id.members[0] = (struct hf_member){.id = 1, .store_id = 5, .address = "a:1"};
    ck_assert_int_eq(hf_identity_save(fs, DIR, &id), 0);
    ck_assert_int_eq(hf_fs_read_small(fs, DIR "/identity", 1 << 16, &bytes, &n), 0);
    ck_assert_uint_eq(n, sizeof(version_1));
    ck_assert_mem_eq(bytes, version_1, n);
    hf_free(bytes);
    for (int what = 0; what < 6; what++) {
        struct hf_identity changed = id;

        changed.is_joining = what == 0;
        changed.wants_vote = what == 1;
        changed.is_removed = what == 2;
        snprintf(changed.name, sizeof(changed.name), "%s", what == 3 ? "x" : "");
        snprintf(changed.replaces, sizeof(changed.replaces), "%s", what == 4 ? "x" : "");
        snprintf(changed.members[0].name, sizeof(changed.members[0].name), "%s", what == 5 ? "x" : "");
        ck_assert_int_eq(hf_identity_save(fs, DIR, &changed), 0);
        ck_assert_uint_eq(field(DIR "/identity", 4, 2), 2);
        ck_assert_int_eq(hf_identity_load(fs, DIR, &back, why, sizeof(why)), 0);
        ck_assert_int_eq(back.is_joining, changed.is_joining);
        ck_assert_int_eq(back.wants_vote, changed.wants_vote);
        ck_assert_int_eq(back.is_removed, changed.is_removed);
        ck_assert_str_eq(back.name, changed.name);
        ck_assert_str_eq(back.replaces, changed.replaces);
        ck_assert_str_eq(back.members[0].name, changed.members[0].name);
        ck_assert(back.is_formed);
        ck_assert_int_eq(hf_identity_save(fs, DIR, &id), 0);
        ck_assert_uint_eq(field(DIR "/identity", 4, 2), 1);
    }
}
END_TEST

START_TEST(test_full_identity_fits)
{
    struct hf_identity id = sample_identity(), back;
    char why[256] = "";

    id.n_members = HF_MEMBERS_MAX;
    memset(id.name, 'n', HF_MEMBER_NAME_BYTES);
    memset(id.replaces, 'r', HF_MEMBER_NAME_BYTES);
    for (uint32_t i = 0; i < HF_MEMBERS_MAX; i++) {
        id.members[i].id = UINT64_MAX - HF_MEMBERS_MAX + i;
        memset(id.members[i].address, 'a', 255);
        memset(id.members[i].name, 'm', HF_MEMBER_NAME_BYTES);
    }
    ck_assert_int_eq(hf_identity_save(fs, DIR, &id), 0);
    ck_assert_int_eq(hf_identity_load(fs, DIR, &back, why, sizeof(why)), 0);
    ck_assert_mem_eq(&id, &back, sizeof(id));
}
END_TEST

START_TEST(test_marker_comes_back_as_saved)
{
    struct hf_marker m = sample_marker(), back, none = {.generation = 1};
    char why[256] = "";

    ck_assert_int_eq(hf_marker_load(fs, DIR, &back, why, sizeof(why)), HF_E_NOENT);
    ck_assert_int_eq(hf_marker_save(fs, DIR, &m), 0);
    ck_assert_int_eq(hf_marker_load(fs, DIR, &back, why, sizeof(why)), 0);
    ck_assert_uint_eq(back.generation, 3);
    ck_assert(back.install_pending);
    ck_assert_uint_eq(back.index, 100);
    ck_assert_uint_eq(back.term, 4);
    ck_assert_uint_eq(back.configuration_index, 90);
    ck_assert(hf_slice_eq(hf_buf_slice(&back.configuration), hf_slice_str("configuration")));
    hf_marker_free(&back);
    hf_marker_free(&m);
    ck_assert_int_eq(hf_marker_save(fs, DIR, &none), 0);
    ck_assert_int_eq(hf_marker_load(fs, DIR, &back, why, sizeof(why)), 0);
    ck_assert_uint_eq(back.generation, 1);
    ck_assert(!back.install_pending);
    ck_assert_uint_eq(back.index, 0);
    ck_assert_uint_eq(back.configuration.len, 0);
    hf_marker_free(&back);
}
END_TEST

/* A flipped bit anywhere is damage, never another identity, and the text names the file. */
START_TEST(test_every_damaged_byte_is_found)
{
    struct hf_identity id = sample_identity();
    struct hf_marker m = sample_marker(), marker;
    char why[256];

    ck_assert_int_eq(hf_identity_save(fs, DIR, &id), 0);
    ck_assert_int_eq(hf_marker_save(fs, DIR, &m), 0);
    for (uint64_t at = 0; at < file_size(DIR "/identity"); at++) {
        ck_assert(hf_sim_disk_flip(disk, DIR "/identity", at, (int)(at % 8)));
        why[0] = '\0';
        ck_assert_int_eq(hf_identity_load(fs, DIR, &id, why, sizeof(why)), HF_E_CORRUPT);
        ck_assert_ptr_nonnull(strstr(why, DIR "/identity"));
        ck_assert(hf_sim_disk_flip(disk, DIR "/identity", at, (int)(at % 8)));
    }
    for (uint64_t at = 0; at < file_size(DIR "/CURRENT"); at++) {
        ck_assert(hf_sim_disk_flip(disk, DIR "/CURRENT", at, (int)(at % 8)));
        why[0] = '\0';
        ck_assert_int_eq(hf_marker_load(fs, DIR, &marker, why, sizeof(why)), HF_E_CORRUPT);
        ck_assert_ptr_nonnull(strstr(why, DIR "/CURRENT"));
        ck_assert(hf_sim_disk_flip(disk, DIR "/CURRENT", at, (int)(at % 8)));
    }
    hf_marker_free(&m);
}
END_TEST

/* Rewrite a saved file with other content and a good checksum. */
static void rewrite(const char *path, size_t offset, uint64_t value, size_t len, size_t cut)
{
    uint8_t *bytes;
    size_t n;

    ck_assert_int_eq(hf_fs_read_small(fs, path, 1 << 16, &bytes, &n), 0);
    ck_assert_uint_le(offset + len, n);
    for (size_t i = 0; i < len; i++)
        bytes[offset + i] = (uint8_t)(value >> (8 * i));
    ck_assert_uint_le(cut, n);
    ck_assert_int_eq(hf_fs_write_small(fs, path, bytes, n - cut), 0);
    hf_free(bytes);
}

static int load_changed_identity(size_t offset, uint64_t value, size_t len, size_t cut)
{
    struct hf_identity id = sample_identity();
    char why[256] = "";
    int rc;

    ck_assert_int_eq(hf_identity_save(fs, DIR, &id), 0);
    rewrite(DIR "/identity", offset, value, len, cut);
    rc = hf_identity_load(fs, DIR, &id, why, sizeof(why));
    ck_assert_int_eq(why[0] != '\0', rc != 0);
    return rc;
}

/* Offsets: magic 0, version 4, flags 6, node id 8, store id 16, ids 24..56, count 56, first member 58: id, store id,
 * length at 74, 11 bytes of address at 76; second member at 87. */
START_TEST(test_identity_that_makes_no_sense_is_damage_and_a_newer_one_is_not)
{
    ck_assert_int_eq(load_changed_identity(0, 0, 0, 0), 0);
    ck_assert_int_eq(load_changed_identity(0, 0x44494649, 4, 0), HF_E_CORRUPT);
    ck_assert_int_eq(load_changed_identity(4, 0, 2, 0), HF_E_CORRUPT);
    ck_assert_int_eq(load_changed_identity(4, 3, 2, 0), HF_E_VERSION);
    ck_assert_int_eq(load_changed_identity(4, 3, 2, 20), HF_E_VERSION);
    ck_assert_int_eq(load_changed_identity(4, 2, 2, 0), HF_E_CORRUPT); /* has not the fields of version 2 */
    ck_assert_int_eq(load_changed_identity(6, 2, 2, 0), HF_E_CORRUPT);
    ck_assert_int_eq(load_changed_identity(8, 0, 8, 0), HF_E_CORRUPT);
    ck_assert_int_eq(load_changed_identity(16, 0, 8, 0), HF_E_CORRUPT);
    ck_assert_int_eq(load_changed_identity(56, 2, 2, 0), HF_E_CORRUPT);
    ck_assert_int_eq(load_changed_identity(56, 4, 2, 0), HF_E_CORRUPT);
    ck_assert_int_eq(load_changed_identity(56, 17, 2, 0), HF_E_CORRUPT);
    ck_assert_int_eq(load_changed_identity(58, 0, 8, 0), HF_E_CORRUPT);
    ck_assert_int_eq(load_changed_identity(58, 2, 8, 0), HF_E_CORRUPT); /* ids do not rise */
    ck_assert_int_eq(load_changed_identity(74, 10, 2, 0), HF_E_CORRUPT);
    ck_assert_int_eq(load_changed_identity(74, 65535, 2, 0), HF_E_CORRUPT);
    ck_assert_int_eq(load_changed_identity(76, 0, 1, 0), HF_E_CORRUPT); /* 0 inside an address */
    for (size_t cut = 1; cut <= 58 + 3 * (18 + 11); cut++)
        ck_assert_int_eq(load_changed_identity(0, 0, 0, cut), HF_E_CORRUPT);
}
END_TEST

static int load_changed_joining(size_t offset, uint64_t value, size_t len, size_t cut)
{
    struct hf_identity id = joining_identity();
    char why[512] = "";
    int rc;

    ck_assert_int_eq(hf_identity_save(fs, DIR, &id), 0);
    rewrite(DIR "/identity", offset, value, len, cut);
    rc = hf_identity_load(fs, DIR, &id, why, sizeof(why));
    if (rc == HF_E_CORRUPT)
        ck_assert_ptr_nonnull(strstr(why, "holdfast repair --dir /data --from-peers --name NAME --join HOST:PORT"));
    return rc;
}

/* Offsets: flags 6, node id 8, members at 58, 80 and 102 (id, store id, length, 3 bytes, name's length, name), name's
 * length 129, name 130, length of the replaced one 141, its name 142. */
START_TEST(test_version_2_that_makes_no_sense_is_damage)
{
    ck_assert_int_eq(load_changed_joining(0, 0, 0, 0), 0);
    ck_assert_int_eq(load_changed_joining(6, 0x40, 2, 0), HF_E_CORRUPT); /* no such flag */
    ck_assert_int_eq(load_changed_joining(6, 0xf, 2, 0), 0);
    ck_assert_int_eq(load_changed_joining(6, 0, 2, 0), HF_E_CORRUPT);   /* no member has the id 0 */
    ck_assert_int_eq(load_changed_joining(8, 5, 8, 0), 0);              /* a leader gave one */
    ck_assert_int_eq(load_changed_joining(80, 1, 8, 0), 0);             /* 0, 1, 9 */
    ck_assert_int_eq(load_changed_joining(58, 1, 8, 0), HF_E_CORRUPT);  /* 1, 0, 9 */
    ck_assert_int_eq(load_changed_joining(102, 0, 8, 0), 0);            /* 0, 0, 0 */
    ck_assert_int_eq(load_changed_joining(123, 4, 1, 0), HF_E_CORRUPT); /* lengths do not fit */
    ck_assert_int_eq(load_changed_joining(124, '#', 1, 0), HF_E_CORRUPT);
    ck_assert_int_eq(load_changed_joining(129, 65, 1, 0), HF_E_CORRUPT);
    ck_assert_int_eq(load_changed_joining(130, ' ', 1, 0), HF_E_CORRUPT);
    ck_assert_int_eq(load_changed_joining(142, 0, 1, 0), HF_E_CORRUPT);
    for (size_t cut = 1; cut <= 143; cut++)
        ck_assert_int_eq(load_changed_joining(0, 0, 0, cut), HF_E_CORRUPT);
}
END_TEST

static int load_changed_marker(size_t offset, uint64_t value, size_t len, size_t cut)
{
    struct hf_marker m = sample_marker(), back;
    char why[256] = "";
    int rc;

    ck_assert_int_eq(hf_marker_save(fs, DIR, &m), 0);
    rewrite(DIR "/CURRENT", offset, value, len, cut);
    rc = hf_marker_load(fs, DIR, &back, why, sizeof(why));
    ck_assert_int_eq(why[0] != '\0', rc != 0);
    if (rc == 0)
        hf_marker_free(&back);
    hf_marker_free(&m);
    return rc;
}

/* Offsets: magic 0, version 4, flags 6, generation 8, index 16, term 24, configuration index 32, length 40. */
START_TEST(test_marker_that_makes_no_sense_is_damage_and_a_newer_one_is_not)
{
    ck_assert_int_eq(load_changed_marker(0, 0, 0, 0), 0);
    ck_assert_int_eq(load_changed_marker(0, 1, 4, 0), HF_E_CORRUPT);
    ck_assert_int_eq(load_changed_marker(4, 0, 2, 0), HF_E_CORRUPT);
    ck_assert_int_eq(load_changed_marker(4, 2, 2, 0), HF_E_VERSION);
    ck_assert_int_eq(load_changed_marker(6, 2, 2, 0), HF_E_CORRUPT);
    ck_assert_int_eq(load_changed_marker(16, 0, 8, 0), HF_E_CORRUPT);
    ck_assert_int_eq(load_changed_marker(24, 0, 8, 0), HF_E_CORRUPT);
    ck_assert_int_eq(load_changed_marker(32, 0, 8, 0), HF_E_CORRUPT);
    ck_assert_int_eq(load_changed_marker(32, 101, 8, 0), HF_E_CORRUPT);
    ck_assert_int_eq(load_changed_marker(40, 12, 4, 0), HF_E_CORRUPT);
    ck_assert_int_eq(load_changed_marker(40, UINT32_MAX, 4, 0), HF_E_CORRUPT);
    for (size_t cut = 1; cut <= 44 + 13; cut++)
        ck_assert_int_eq(load_changed_marker(0, 0, 0, cut), HF_E_CORRUPT);
}
END_TEST

/* Whatever operation fails or wherever the power goes, the old or the new identity is there. */
START_TEST(test_save_is_all_or_nothing)
{
    struct hf_identity before = sample_identity(), after = sample_identity(), back;
    struct hf_prng prng;
    char why[256] = "";

    before.is_formed = false;
    hf_prng_seed(&prng, 5);
    for (uint64_t n = 1; n < 12; n++) {
        struct hf_sim_disk *survivor;
        int rc;

        ck_assert_int_eq(hf_identity_save(fs, DIR, &before), 0);
        hf_sim_disk_fail(disk, HF_SIM_ANY, n, HF_E_IO, true);
        rc = hf_identity_save(fs, DIR, &after);
        hf_sim_disk_fail(disk, 0, 0, 0, false);
        survivor = hf_sim_disk_crash(disk, &prng);
        hf_sim_disk_free(disk);
        disk = survivor;
        fs = hf_sim_disk_ops(disk);
        ck_assert_int_eq(hf_identity_load(fs, DIR, &back, why, sizeof(why)), 0);
        if (rc == 0)
            ck_assert(back.is_formed);
        ck_assert_uint_eq(back.store_id, before.store_id);
    }
}
END_TEST

/* ---- texts --------------------------------------------------------------------------------------- */

START_TEST(test_member_list_is_read_and_sorted)
{
    struct hf_member m[HF_MEMBERS_MAX];
    char why[256] = "";
    uint32_t n = 0;

    ck_assert_int_eq(hf_members_parse("3=c.example:7003,1=10.0.0.1:7001,2=[::1]:7002", m, &n, why, sizeof(why)), 0);
    ck_assert_uint_eq(n, 3);
    ck_assert_uint_eq(m[0].id, 1);
    ck_assert_str_eq(m[0].address, "10.0.0.1:7001");
    ck_assert_uint_eq(m[1].id, 2);
    ck_assert_str_eq(m[1].address, "[::1]:7002");
    ck_assert_uint_eq(m[2].id, 3);
    ck_assert_str_eq(m[2].address, "c.example:7003");
    ck_assert_uint_eq(m[2].store_id, 0);
}
END_TEST

static const char *const bad_lists[] = {
    "",
    ",",
    "1",
    "1=",
    "=a:1",
    "1=a",
    "1=a:",
    "1=:1",
    "1=a:0",
    "1=a:65536",
    "1=a:1,",
    ",1=a:1",
    "1=a:1,,2=b:1",
    "0=a:1",
    "-1=a:1",
    "x=a:1",
    "01=a:1",
    "1=a:01",
    "1=a b:1",
    "1=a:1 ",
    " 1=a:1",
    "1=a#b:1",
    "1=a=b:1",
    "1=a:b:1",
    "1=[::1:1",
    "1=::1]:1",
    "1=[]:1",
    "1=[x]:1",
    "1=a:1,1=b:1",
    "1=a:1,2=a:1",
    "1=a:1;2=b:1",
    "1=\x01:1",
    "1=a:+1",
    "99999999999999999999=a:1",
    "1=a:1,2=a:2,3=a:3,4=a:4,5=a:5,6=a:6,7=a:7,8=a:8,9=a:9,10=a:10,11=a:11,12=a:12,13=a:13,14=a:14,15=a:15,16=a:16,"
    "17=a:17",
};

START_TEST(test_bad_member_list_is_refused_with_a_reason)
{
    struct hf_member m[HF_MEMBERS_MAX];
    char why[256] = "";
    uint32_t n = 77;

    ck_assert_msg(hf_members_parse(bad_lists[_i], m, &n, why, sizeof(why)) == HF_E_INVALID, "\"%s\"", bad_lists[_i]);
    ck_assert_uint_eq(n, 77);
    ck_assert_int_ne(why[0], '\0');
}
END_TEST

START_TEST(test_address_may_have_255_bytes_and_no_more)
{
    struct hf_member m[HF_MEMBERS_MAX];
    char list[300], why[256] = "";
    uint32_t n;

    memset(list, 'a', sizeof(list));
    memcpy(list, "1=", 2);
    memcpy(list + 2 + 253, ":1", 3);
    ck_assert_int_eq(hf_members_parse(list, m, &n, why, sizeof(why)), 0);
    ck_assert_uint_eq(strlen(m[0].address), 255);
    memset(list + 2 + 253, 'a', 1);
    memcpy(list + 2 + 254, ":1", 3);
    ck_assert_int_eq(hf_members_parse(list, m, &n, why, sizeof(why)), HF_E_INVALID);
}
END_TEST

START_TEST(test_member_text_has_one_spelling)
{
    struct hf_member m = {.id = 7, .store_id = 0xabc}, back;
    char text[HF_MEMBER_TEXT_BYTES];
    static const char *const bad[] = {
        "",
        "a:1",
        "a:1#",
        "a:1#0000000000000abg",
        "a:1#0000000000000ABC",
        "a:1#000000000000abc",
        "a:1#00000000000000abc",
        "#0000000000000abc",
        "a 1#0000000000000abc",
        "a:1#0000000000000abc#",
        "a:1#0000000000000abc#7", /* its own id */
        "a:1#0000000000000abc#x y",
        "a:1#0000000000000abc#x#y",
        "a:1#0000000000000abc#x,y",
        "a:1##x",
        "#0000000000000abc#x",
        "a:1#0000000000000abc#"
        "12345678901234567890123456789012345678901234567890123456789012345",
    };

    memcpy(m.address, "a:1", 4);
    hf_member_format(&m, text, sizeof(text));
    ck_assert_str_eq(text, "a:1#0000000000000abc");
    ck_assert_int_eq(hf_member_parse(7, text, &back), 0);
    ck_assert_mem_eq(&m, &back, sizeof(m));
    ck_assert_int_eq(hf_member_parse(0, text, &back), HF_E_INVALID);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ck_assert_msg(hf_member_parse(7, bad[i], &back) == HF_E_INVALID, "\"%s\"", bad[i]);
    m.store_id = UINT64_MAX;
    memset(m.address, 'a', 255);
    memset(m.name, 'n', HF_MEMBER_NAME_BYTES);
    hf_member_format(&m, text, sizeof(text));
    ck_assert_uint_eq(strlen(text), HF_MEMBER_TEXT_BYTES - 1);
    ck_assert_int_eq(hf_member_parse(7, text, &back), 0);
    ck_assert_mem_eq(&m, &back, sizeof(m));
}
END_TEST

START_TEST(test_member_text_carries_a_name_and_an_open_place)
{
    struct hf_member m = {.id = 7, .address = "a:1", .name = "db-1.Rack_2"}, back;
    char text[HF_MEMBER_TEXT_BYTES], name[HF_MEMBER_NAME_BYTES + 1];

    hf_member_format(&m, text, sizeof(text));
    ck_assert_str_eq(text, "a:1#0000000000000000#db-1.Rack_2");
    ck_assert_int_eq(hf_member_parse(7, text, &back), 0);
    ck_assert_mem_eq(&m, &back, sizeof(m));
    ck_assert_str_eq(hf_member_name(&m, name), "db-1.Rack_2");
    /* The id of another member is a name like any other: who came back after a repair keeps it. */
    memcpy(m.name, "2", 2);
    hf_member_format(&m, text, sizeof(text));
    ck_assert_str_eq(text, "a:1#0000000000000000#2");
    ck_assert_str_eq(hf_member_name(&m, name), "2");
    /* Its own id says nothing new. */
    memcpy(m.name, "7", 2);
    hf_member_format(&m, text, sizeof(text));
    ck_assert_str_eq(text, "a:1#0000000000000000");
    m.name[0] = '\0';
    ck_assert_str_eq(hf_member_name(&m, name), "7");
    m.id = UINT64_MAX;
    ck_assert_str_eq(hf_member_name(&m, name), "18446744073709551615");
}
END_TEST

START_TEST(test_names_are_short_and_plain)
{
    char long_name[HF_MEMBER_NAME_BYTES + 2];

    memset(long_name, 'x', sizeof(long_name));
    ck_assert(hf_member_name_is_good(hf_slice(long_name, HF_MEMBER_NAME_BYTES)));
    ck_assert(!hf_member_name_is_good(hf_slice(long_name, HF_MEMBER_NAME_BYTES + 1)));
    ck_assert(!hf_member_name_is_good(hf_slice(NULL, 0)));
    for (unsigned c = 0; c < 256; c++) {
        uint8_t byte = (uint8_t)c;
        bool is_plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' ||
                        c == '_' || c == '-';

        ck_assert_msg(hf_member_name_is_good(hf_slice(&byte, 1)) == is_plain, "character %u", c);
    }
}
END_TEST

static void hex_of(const uint8_t id[16], char out[33])
{
    for (int i = 0; i < 16; i++)
        snprintf(out + 2 * i, 3, "%02x", id[i]);
}

/* The value is on disk everywhere: it must never change, and not depend on what is unknown while forming. */
START_TEST(test_cluster_id_is_stable_and_tells_clusters_apart)
{
    struct hf_member m[HF_MEMBERS_MAX];
    uint8_t word[16], list[16], other[16];
    char why[256], hex[33];
    uint32_t n;

    ck_assert_int_eq(hf_members_parse("1=a:1,2=b:2", m, &n, why, sizeof(why)), 0);
    hf_cluster_id("prod", m, n, word);
    hf_cluster_id(NULL, m, n, list);
    hex_of(word, hex);
    ck_assert_str_eq(hex, "838c796609fc2ed34eafc8437f8ddc34");
    hex_of(list, hex);
    ck_assert_str_eq(hex, "650a0e90b3c16004283bcd0dcafa7d66");
    m[0].store_id = 9;
    hf_cluster_id("", m, n, other);
    ck_assert_mem_eq(list, other, 16);
    hf_cluster_id("prod", NULL, 0, other);
    ck_assert_mem_eq(word, other, 16);
    hf_cluster_id("proe", NULL, 0, other);
    ck_assert_mem_ne(word, other, 8);
    ck_assert_mem_ne(word + 8, other + 8, 8);
    m[1].id = 3;
    hf_cluster_id(NULL, m, n, other);
    ck_assert_mem_ne(list, other, 8);
    hf_cluster_id("1=a:1,2=b:2,", NULL, 0, other); /* a word is not a list */
    ck_assert_mem_ne(list, other, 16);
}
END_TEST

Suite *identity_suite(void)
{
    Suite *s = suite_create("identity");
    TCase *files = tcase_create("files"), *texts = tcase_create("texts");

    tcase_add_checked_fixture(files, setup, teardown);
    tcase_add_test(files, test_identity_comes_back_as_saved);
    tcase_add_test(files, test_joining_identity_comes_back_as_saved);
    tcase_add_test(files, test_version_2_is_written_only_when_it_says_something);
    tcase_add_test(files, test_unfinished_directory_is_refused_by_name);
    tcase_add_test(files, test_full_identity_fits);
    tcase_add_test(files, test_marker_comes_back_as_saved);
    tcase_add_test(files, test_every_damaged_byte_is_found);
    tcase_add_test(files, test_identity_that_makes_no_sense_is_damage_and_a_newer_one_is_not);
    tcase_add_test(files, test_version_2_that_makes_no_sense_is_damage);
    tcase_add_test(files, test_marker_that_makes_no_sense_is_damage_and_a_newer_one_is_not);
    tcase_add_test(files, test_save_is_all_or_nothing);
    suite_add_tcase(s, files);
    tcase_add_test(texts, test_member_list_is_read_and_sorted);
    tcase_add_loop_test(texts, test_bad_member_list_is_refused_with_a_reason, 0,
                        (int)(sizeof(bad_lists) / sizeof(bad_lists[0])));
    tcase_add_test(texts, test_address_may_have_255_bytes_and_no_more);
    tcase_add_test(texts, test_member_text_has_one_spelling);
    tcase_add_test(texts, test_member_text_carries_a_name_and_an_open_place);
    tcase_add_test(texts, test_names_are_short_and_plain);
    tcase_add_test(texts, test_cluster_id_is_stable_and_tells_clusters_apart);
    suite_add_tcase(s, texts);
    return s;
}
