/* The table of settings: where a value comes from, what is refused and how that is said, CONFIG GET and SET. */
#include "base/log.h"
#include "base/mem.h"
#include "main/config.h"
#include "support/fake_fs.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char err[512];
static char path[] = "/tmp/holdfast-config-XXXXXX";

static int load(struct hf_config *c, enum hf_config_want *want, const char *a, const char *b, const char *d)
{
    char *argv[] = {(char *)"holdfastd", (char *)(uintptr_t)a, (char *)(uintptr_t)b, (char *)(uintptr_t)d, NULL};
    int argc = 1;

    while (argc < 4 && argv[argc])
        argc++;
    err[0] = 0;
    return hf_config_load(c, argc, argv, want, err, sizeof err);
}

static void ck_refused(const char *a, const char *b, const char *text)
{
    struct hf_config c;
    enum hf_config_want want;

    ck_assert_int_lt(load(&c, &want, a, b, NULL), 0);
    ck_assert_msg(strstr(err, text) != NULL, "'%s' does not say '%s'", err, text);
}

static void write_file(const char *text)
{
    FILE *f = fopen(path, "w");

    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
}

static void clear_environment(void)
{
    int fd;

    unsetenv("HOLDFAST_CONFIG");
    unsetenv("HOLDFAST_MAXCLIENTS");
    unsetenv("HOLDFAST_PEER_LISTEN");
    snprintf(path, sizeof path, "/tmp/holdfast-config-XXXXXX");
    fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    close(fd);
}

static struct hf_fake_fs *disk;

static void begin(void)
{
    struct hf_fs *fs;

    clear_environment();
    disk = hf_fake_fs_new(1);
    fs = hf_fake_fs_table(disk);
    setenv("HOLDFAST_DIR", "/data", 1);
    ck_assert_int_eq(fs->mkdir(fs, "/data"), 0);
    ck_assert_int_eq(fs->sync_dir(fs, "/"), 0);
}

static void end(void)
{
    hf_fake_fs_free(disk);
    unlink(path);
    unsetenv("HOLDFAST_MAXCLIENTS");
    unsetenv("HOLDFAST_PEER_LISTEN");
    unsetenv("HOLDFAST_CONFIG");
    unsetenv("HOLDFAST_DIR");
}

START_TEST(test_nothing_given_is_a_single_node_on_loopback)
{
    struct hf_config c;
    enum hf_config_want want;

    unsetenv("HOLDFAST_DIR");
    ck_assert_int_eq(load(&c, &want, NULL, NULL, NULL), 0);
    ck_assert_int_eq(want, HF_CONFIG_RUN);
    ck_assert_uint_eq(c.id, 1);
    ck_assert_str_eq(c.listen, "127.0.0.1:7379");
    ck_assert_str_eq(c.peer_listen, "127.0.0.1:17379");
    ck_assert_str_eq(c.http_listen, "127.0.0.1:8379");
    ck_assert_str_eq(c.peers, "");
    ck_assert_str_eq(c.dir, "./holdfast-data");
    ck_assert_uint_eq(c.bulk_bytes_max, 64u << 20);
    hf_config_free(&c);
}
END_TEST

START_TEST(test_flag_beats_file_beats_environment)
{
    struct hf_config c;
    enum hf_config_want want;

    setenv("HOLDFAST_MAXCLIENTS", "11", 1);
    setenv("HOLDFAST_PEER_LISTEN", "10.0.0.1:1", 1);
    ck_assert_int_eq(load(&c, &want, NULL, NULL, NULL), 0);
    ck_assert_uint_eq(c.maxclients, 11);
    ck_assert_str_eq(c.peer_listen, "10.0.0.1:1");
    hf_config_free(&c);

    write_file("# a comment\n\n  maxclients   22  \n\trequirepass \"two words # here\"\r\n");
    ck_assert_int_eq(load(&c, &want, "--config", path, NULL), 0);
    ck_assert_uint_eq(c.maxclients, 22);
    ck_assert_str_eq(c.peer_listen, "10.0.0.1:1");
    ck_assert_str_eq(c.requirepass, "two words # here");
    hf_config_free(&c);

    ck_assert_int_eq(load(&c, &want, "--maxclients=33", "--config", path), 0);
    ck_assert_uint_eq(c.maxclients, 33);
    ck_assert_str_eq(c.config_file, path);
    hf_config_free(&c);

    setenv("HOLDFAST_CONFIG", path, 1);
    ck_assert_int_eq(load(&c, &want, NULL, NULL, NULL), 0);
    ck_assert_uint_eq(c.maxclients, 22);
    hf_config_free(&c);
}
END_TEST

START_TEST(test_what_is_wrong_is_said_with_its_place)
{
    ck_refused("--maxclient", "5", "--maxclient");
    ck_refused("maxclients", "5", "maxclients");
    ck_refused("--maxclients", NULL, "--maxclients needs a value");
    ck_refused("--maxclients", "0", "--maxclients must be from 1 to 1000000, not 0");
    ck_refused("--maxclients", "many", "whole number");
    ck_refused("--maxclients", "-1", "whole number");
    ck_refused("--proto-max-bulk-len", "513mb", "from 1kb to 512mb");
    ck_refused("--proto-max-bulk-len", "lots", "a size such as");
    ck_refused("--log-level", "loud", "debug|info|warn|error");
    ck_refused("--log-level", "inf", "debug|info|warn|error");
    ck_refused("--enable-debug-command", "perhaps", "yes or no");
    ck_refused("--heartbeat", "151", "a quarter of election-timeout");
    ck_refused("--client-query-buffer-limit", "1mb", "proto-max-bulk-len");
    ck_refused("--config", "/no/such/file", "/no/such/file: no such file");
    ck_refused("--config", "/", "it is a directory");
    setenv("HOLDFAST_MAXCLIENTS", "x", 1);
    ck_refused(NULL, NULL, "environment variable HOLDFAST_MAXCLIENTS");
}
END_TEST

START_TEST(test_a_wrong_line_of_the_file_is_named)
{
    char place[64];

    write_file("id 1\nbogus 2\n");
    snprintf(place, sizeof place, "%s:2: unknown setting 'bogus'", path);
    ck_refused("--config", path, place);
    write_file("id 1\n\nid x\n");
    snprintf(place, sizeof place, "%s:3: id must be", path);
    ck_refused("--config", path, place);
    write_file("dir \"open\n");
    ck_refused("--config", path, "closing quote");
    write_file("dir \"a\" b\n");
    ck_refused("--config", path, "text follows the closing quote");
}
END_TEST

START_TEST(test_help_and_friends_need_nothing_else)
{
    struct hf_config c;
    enum hf_config_want want;

    setenv("HOLDFAST_MAXCLIENTS", "x", 1); /* must not get in the way of --help */
    ck_assert_int_eq(load(&c, &want, "--help", NULL, NULL), 0);
    ck_assert_int_eq(want, HF_CONFIG_HELP);
    hf_config_free(&c);
    ck_assert_int_eq(load(&c, &want, "--version", NULL, NULL), 0);
    ck_assert_int_eq(want, HF_CONFIG_VERSION);
    hf_config_free(&c);
    ck_assert_int_eq(load(&c, &want, "--print-config", NULL, NULL), 0);
    ck_assert_int_eq(want, HF_CONFIG_PRINT_CONFIG);
    hf_config_free(&c);
}
END_TEST

/* Each line of the sample, its comment sign taken away, must be taken as it stands and mean the default. */
START_TEST(test_the_sample_file_is_the_defaults)
{
    struct hf_buf sample = {0}, active = {0};
    struct hf_config c, defaults;
    enum hf_config_want want;
    uint32_t n = 0;

    hf_config_sample(&sample);
    hf_buf_put_u8(&sample, 0);
    for (char *save = NULL, *line = strtok_r((char *)sample.data, "\n", &save); line;
         line = strtok_r(NULL, "\n", &save)) {
        const char *blank = strchr(line + 2, ' ');
        struct hf_slice name = hf_slice(line + 2, blank ? (size_t)(blank - line - 2) : 0);
        char flag[80];

        if (strncmp(line, "# ", 2) != 0 || name.len == 0 || name.len > 60)
            continue;
        snprintf(flag, sizeof flag, "--%.*s", (int)name.len, (const char *)name.ptr);
        /* A line of help begins with a word that is no setting, or goes on with more than one value. */
        if (load(&c, &want, flag, "1", NULL) < 0 && strstr(err, "unknown option"))
            continue;
        if (err[0] == 0)
            hf_config_free(&c);
        hf_buf_printf(&active, "%s\n", line + 2);
        n++;
    }
    ck_assert_uint_ge(n, 30);
    hf_buf_put_u8(&active, 0);
    write_file((const char *)active.data);
    ck_assert_msg(load(&c, &want, "--config", path, NULL) == 0, "%s", err);
    ck_assert_int_eq(load(&defaults, &want, NULL, NULL, NULL), 0);
    ck_assert_str_eq(c.listen, defaults.listen);
    ck_assert_uint_eq(c.journal_max_bytes, defaults.journal_max_bytes);
    ck_assert_uint_eq(c.election_timeout_ms, defaults.election_timeout_ms);
    ck_assert_str_eq(c.requirepass, defaults.requirepass);
    hf_config_free(&c);
    hf_config_free(&defaults);
    hf_buf_free(&sample);
    hf_buf_free(&active);
}
END_TEST

START_TEST(test_names_and_addresses)
{
    static const char *const good[] = {"10.0.0.1:7", "[::1]:17379", "a.example:1,b.example:65535"};
    static const char *const bad[] = {"a",    "a:",   ":1",       "a:0",   "a:65536", "a:x",
                                      "a:1,", ",a:1", "a:1,,b:1", "a b:1", ","};
    struct hf_config c;
    enum hf_config_want want;
    char name[70];

    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        ck_assert_msg(load(&c, &want, "--join", good[i], NULL) == 0, "%s: %s", good[i], err);
        ck_assert_str_eq(c.join, good[i]);
        hf_config_free(&c);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ck_refused("--join", bad[i], "join must be host:port or several");
    ck_refused("--peer-advertise", "a:1,b:1", "peer-advertise must be host:port, not");
    memset(name, 'n', sizeof name);
    name[65] = 0;
    ck_refused("--name", name, "name must be at most 64 letters");
    name[64] = 0;
    ck_assert_int_eq(load(&c, &want, "--name", name, NULL), 0);
    ck_assert_str_eq(c.name, name);
    hf_config_free(&c);
    ck_refused("--name", "a b", "name must be");
    ck_refused("--name", "a/b", "name must be");
}
END_TEST

/* The cluster gives the id to a node that joins, unless it is asked for by number. */
START_TEST(test_joining)
{
    struct hf_config c;
    enum hf_config_want want;

    ck_assert_int_eq(load(&c, &want, "--join", "a:1", NULL), 0);
    ck_assert_uint_eq(c.id, 0);
    ck_assert(!c.is_id_given);
    hf_config_free(&c);
    ck_assert_int_eq(load(&c, &want, "--join=a:1", "--id", "7"), 0);
    ck_assert_uint_eq(c.id, 7);
    ck_assert(c.is_id_given);
    hf_config_free(&c);
    ck_assert_int_eq(load(&c, &want, "--name", "x", NULL), 0);
    ck_assert_uint_eq(c.id, 1);
    ck_assert(!c.is_id_given);
    hf_config_free(&c);
    ck_refused("--join=a:1", "--peers=1=a:1", "--join and --peers do not go together");
    ck_refused("--replaces", "2", "--replaces says how to join and needs --join");
    ck_refused("--join-as-learner", "yes", "--join-as-learner says how to join");
}
END_TEST

/* ---- CONFIG -------------------------------------------------------------------------------------------- */

struct seen {
    unsigned n;
    char last[128];
};

static void see(void *arg, const char *name, const char *value)
{
    struct seen *seen = arg;

    seen->n++;
    snprintf(seen->last, sizeof seen->last, "%s=%s", name, value);
}

static struct seen get(const struct hf_config *c, const char *glob)
{
    struct seen seen = {0};

    hf_config_get(c, hf_slice_str(glob), see, &seen);
    return seen;
}

/* As CONFIG SET does it: all are checked, then each is set where it belongs. */
static bool set(struct hf_config *c, const char *name, const char *value, const char *name2, const char *value2)
{
    struct hf_slice names[2] = {hf_slice_str(name), hf_slice_str(name2 ? name2 : "")};
    struct hf_slice values[2] = {hf_slice_str(value), hf_slice_str(value2 ? value2 : "")};
    bool is_cluster[2], ok;

    err[0] = 0;
    ok = hf_config_check(c, names, values, name2 ? 2 : 1, is_cluster, err, sizeof err);
    for (int i = 0; ok && i < (name2 ? 2 : 1); i++)
        ok = is_cluster[i] ? hf_config_set_cluster(c, names[i], values[i], err, sizeof err)
                           : hf_config_set_local(c, hf_fake_fs_table(disk), names[i], values[i], err, sizeof err);
    return ok;
}

static bool set_cluster(struct hf_config *c, const char *name, const char *value)
{
    err[0] = 0;
    return hf_config_set_cluster(c, hf_slice_str(name), hf_slice_str(value), err, sizeof err);
}

START_TEST(test_config_get_knows_our_names_and_those_of_redis)
{
    struct hf_config c;
    enum hf_config_want want;

    ck_assert_int_eq(load(&c, &want, "--log-level", "warn", NULL), 0);
    ck_assert_str_eq(get(&c, "maxclients").last, "maxclients=10000");
    ck_assert_uint_eq(get(&c, "maxclients").n, 1);
    ck_assert_str_eq(get(&c, "MaxClients").last, "maxclients=10000");
    ck_assert_str_eq(get(&c, "proto-max-bulk-len").last, "proto-max-bulk-len=67108864");
    ck_assert_str_eq(get(&c, "loglevel").last, "loglevel=warn");
    ck_assert_str_eq(get(&c, "log-level").last, "log-level=warn");
    ck_assert_str_eq(get(&c, "maxmemory-policy").last, "maxmemory-policy=noeviction");
    ck_assert_uint_eq(get(&c, "no-such-thing").n, 0);
    ck_assert_uint_gt(get(&c, "*").n, 60);
    hf_config_free(&c);
}
END_TEST

START_TEST(test_config_set_is_all_or_nothing)
{
    struct hf_config c;
    enum hf_config_want want;

    ck_assert_int_eq(load(&c, &want, NULL, NULL, NULL), 0);
    ck_assert(set(&c, "maxclients", "20", "TIMEOUT", "7"));
    ck_assert_uint_eq(c.maxclients, 20);
    ck_assert_uint_eq(c.timeout_s, 7);

    ck_assert(!set(&c, "maxclients", "30", "bogus", "1"));
    ck_assert_str_eq(err, "Unknown option or number of arguments for CONFIG SET - 'bogus'");
    ck_assert_uint_eq(c.maxclients, 20);
    ck_assert(!set(&c, "maxclients", "30", "timeout", "soon"));
    ck_assert_uint_eq(c.maxclients, 20);
    ck_assert(!set(&c, "maxclients", "30", "listen", "0.0.0.0:1"));
    ck_assert_ptr_nonnull(strstr(err, "'listen') - can't set immutable config"));
    ck_assert_uint_eq(c.maxclients, 20);
    ck_assert(!set(&c, "maxclients", "30", "MAXCLIENTS", "40"));
    ck_assert_ptr_nonnull(strstr(err, "duplicate parameter"));
    ck_assert_uint_eq(c.maxclients, 20);
    hf_config_free(&c);
}
END_TEST

START_TEST(test_config_set_keeps_limits_that_fit_each_other)
{
    struct hf_config c;
    enum hf_config_want want;

    ck_assert_int_eq(load(&c, &want, NULL, NULL, NULL), 0);
    ck_assert(!set(&c, "client-query-buffer-limit", "32mb", NULL, NULL));
    ck_assert_ptr_nonnull(strstr(err, "proto-max-bulk-len"));
    ck_assert_uint_eq(c.query_bytes_max, 1u << 30);
    ck_assert(set(&c, "client-query-buffer-limit", "32mb", "proto-max-bulk-len", "16mb"));
    ck_assert_uint_eq(c.query_bytes_max, 32u << 20);
    hf_config_free(&c);
}
END_TEST

START_TEST(test_config_set_keeps_parameters_of_redis)
{
    struct hf_config c;
    enum hf_config_want want;
    struct hf_slice name = hf_slice_str("save"), zero = hf_slice("a\0b", 3);
    bool is_cluster;
    char *longest = hf_malloc(2000);

    ck_assert_int_eq(load(&c, &want, NULL, NULL, NULL), 0);
    ck_assert(set(&c, "save", "3600 1", "maxmemory", "100mb"));
    ck_assert_str_eq(get(&c, "save").last, "save=3600 1");
    ck_assert_str_eq(get(&c, "maxmemory").last, "maxmemory=100mb");
    ck_assert(set(&c, "save", "", NULL, NULL));
    ck_assert_str_eq(get(&c, "save").last, "save=");
    ck_assert(!hf_config_check(&c, &name, &zero, 1, &is_cluster, err, sizeof err));
    memset(longest, 'x', 1999);
    longest[1999] = 0;
    ck_assert(!set(&c, "save", longest, NULL, NULL));
    ck_assert_str_eq(get(&c, "save").last, "save=");
    /* The words Redis has for levels. */
    ck_assert(set(&c, "loglevel", "notice", NULL, NULL));
    ck_assert_str_eq(c.log_level, "info");
    hf_free(longest);
    hf_config_free(&c);
}
END_TEST

START_TEST(test_config_get_of_the_address)
{
    struct hf_config c;
    enum hf_config_want want;

    ck_assert_int_eq(load(&c, &want, "--listen", "[::1]:70", NULL), 0);
    ck_assert_str_eq(get(&c, "port").last, "port=70");
    ck_assert_str_eq(get(&c, "BIND").last, "bind=::1");
    ck_assert(!set(&c, "port", "80", NULL, NULL));
    ck_assert_ptr_nonnull(strstr(err, "can't set immutable config"));
    hf_config_free(&c);
}
END_TEST

/* ---- what CONFIG SET changes is kept ---------------------------------------------------------------------- */

static int load_settings(struct hf_config *c)
{
    return hf_config_load_settings(c, hf_fake_fs_table(disk), err, sizeof err);
}

START_TEST(test_changes_are_kept_and_win)
{
    struct hf_config c;
    enum hf_config_want want;

    ck_assert_int_eq(load(&c, &want, NULL, NULL, NULL), 0);
    ck_assert_int_eq(load_settings(&c), 0); /* no file, nothing said */
    ck_assert(set(&c, "maxclients", "20", "requirepass", " a \\n\nb\\ "));
    ck_assert(set(&c, "loglevel", "notice", "save", ""));
    ck_assert(set(&c, "maxclients", "21", "maxmemory", "1gb"));
    hf_fake_fs_crash(disk, HF_FAKE_LOSS_ALL);
    hf_fake_fs_revive(disk);
    hf_config_free(&c);

    ck_assert_int_eq(load(&c, &want, "--maxclients", "30", NULL), 0);
    ck_assert_msg(load_settings(&c) == 0, "%s", err);
    ck_assert_uint_eq(c.maxclients, 21);
    ck_assert_str_eq(c.requirepass, " a \\n\nb\\ ");
    ck_assert_str_eq(c.log_level, "info");
    ck_assert_str_eq(get(&c, "maxmemory").last, "maxmemory=1gb");
    ck_assert(set(&c, "timeout", "9", NULL, NULL)); /* what was kept stays */
    hf_config_free(&c);
    ck_assert_int_eq(load(&c, &want, NULL, NULL, NULL), 0);
    ck_assert_int_eq(load_settings(&c), 0);
    ck_assert_uint_eq(c.maxclients, 21);
    ck_assert_uint_eq(c.timeout_s, 9);
    hf_config_free(&c);
}
END_TEST

/* Nothing changes that could not be kept. */
START_TEST(test_change_that_cannot_be_kept)
{
    struct hf_config c;
    enum hf_config_want want;

    ck_assert_int_eq(load(&c, &want, NULL, NULL, NULL), 0);
    ck_assert(set(&c, "maxclients", "20", "save", "1 1"));
    hf_fake_fs_fail_at(disk, HF_FAKE_SYNC, 1, HF_E_NOSPC, true);
    ck_assert(!set(&c, "maxclients", "30", NULL, NULL));
    ck_assert_ptr_nonnull(strstr(err, "/data/settings cannot be written"));
    ck_assert_uint_eq(c.maxclients, 20);
    ck_assert(!set(&c, "save", "2 2", NULL, NULL));
    ck_assert_str_eq(get(&c, "save").last, "save=1 1");
    hf_fake_fs_fail_at(disk, HF_FAKE_SYNC, 0, 0, false);
    ck_assert(set(&c, "timeout", "5", NULL, NULL));
    hf_config_free(&c);
    ck_assert_int_eq(load(&c, &want, NULL, NULL, NULL), 0);
    ck_assert_int_eq(load_settings(&c), 0);
    ck_assert_uint_eq(c.maxclients, 20);
    hf_config_free(&c);
}
END_TEST

static void ck_unusable(const char *text, const char *reason)
{
    struct hf_config c;
    enum hf_config_want want;

    if (text)
        ck_assert_int_eq(hf_fs_write_small(hf_fake_fs_table(disk), "/data/settings", text, strlen(text)), 0);
    ck_assert_int_eq(load(&c, &want, NULL, NULL, NULL), 0);
    ck_assert_int_lt(load_settings(&c), 0);
    ck_assert_msg(strstr(err, reason) != NULL, "%s", err);
    ck_assert_ptr_nonnull(strstr(err, "/data/settings"));
    ck_assert_ptr_nonnull(strstr(err, "Delete it"));
    hf_config_free(&c);
}

START_TEST(test_damaged_file_is_refused)
{
    struct hf_config c;
    enum hf_config_want want;

    ck_unusable("", "does not begin");
    ck_unusable("holdfast-settings x\n", "does not begin");
    ck_unusable("maxclients 20\n", "does not begin");
    ck_unusable("holdfast-settings 2\nmaxclients 20\n", "format 2");
    ck_unusable("holdfast-settings 1\nmaxclients\n", "not `name value`");
    ck_unusable("holdfast-settings 1\nmaxclients \\x\n", "not `name value`");
    ck_unusable("holdfast-settings 1\nmaxclients many\n", "whole number");
    ck_unusable("holdfast-settings 1\nclient-query-buffer-limit 1mb\n", "proto-max-bulk-len");
    ck_assert_int_eq(load(&c, &want, NULL, NULL, NULL), 0);
    ck_assert(set(&c, "maxclients", "20", NULL, NULL));
    hf_config_free(&c);
    ck_assert(hf_fake_fs_flip_bit(disk, "/data/settings", 22, 0));
    ck_unusable(NULL, "its checksum is wrong");
}
END_TEST

/* A setting of a later release, or one that is not live any more, does not keep the node from starting. */
START_TEST(test_unknown_settings_of_the_file_are_left_out)
{
    static const char text[] = "holdfast-settings 1\nfrom-the-future 1\nheartbeat 20\ndir /x\nmaxclients 20\n";
    struct hf_config c;
    enum hf_config_want want;

    ck_assert_int_eq(hf_fs_write_small(hf_fake_fs_table(disk), "/data/settings", text, strlen(text)), 0);
    ck_assert_int_eq(load(&c, &want, NULL, NULL, NULL), 0);
    ck_assert_int_eq(load_settings(&c), 0);
    ck_assert_uint_eq(c.maxclients, 20);
    ck_assert_uint_eq(c.heartbeat_ms, 100);
    ck_assert_str_eq(c.dir, "/data");
    hf_config_free(&c);
}
END_TEST

/* ---- settings of the cluster ------------------------------------------------------------------------------- */

START_TEST(test_settings_of_the_cluster)
{
    static const char *const names[] = {"election-timeout",       "heartbeat",        "transfer-rate",
                                        "min-free-disk",          "commit-interval",  "journal-retain-bytes",
                                        "snapshot-journal-bytes", "journal-max-bytes"};
    struct hf_config c;
    enum hf_config_want want;

    ck_assert_int_eq(load(&c, &want, "--transfer-rate", "4mb", NULL), 0);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct hf_slice name = hf_slice_str(names[i]), value = hf_slice_str(i < 2 ? (i ? "150" : "600") : "2000000");
        bool is_cluster = false;

        if (i == 4)
            value = hf_slice_str("2000");
        ck_assert_msg(hf_config_check(&c, &name, &value, 1, &is_cluster, err, sizeof err), "%s", err);
        ck_assert_msg(is_cluster, "%s", names[i]);
    }
    ck_assert(set_cluster(&c, "transfer-rate", "8mb"));
    ck_assert_uint_eq(c.transfer_rate, 8u << 20);
    ck_assert(set_cluster(&c, "transfer-rate", "9mb"));
    ck_assert_str_eq(get(&c, "transfer-rate").last, "transfer-rate=9437184");
    ck_assert(set_cluster(&c, "transfer-rate", "")); /* gone: what it was started with holds */
    ck_assert_uint_eq(c.transfer_rate, 4u << 20);
    ck_assert(set_cluster(&c, "transfer-rate", ""));
    ck_assert(!set_cluster(&c, "maxclients", "5"));
    ck_assert(!set_cluster(&c, "from-the-future", "5"));
    ck_assert(!set_cluster(&c, "heartbeat", "9999999"));
    ck_assert_uint_eq(c.heartbeat_ms, 100);
    /* They are not kept beside the state. */
    hf_config_free(&c);
    ck_assert_int_eq(load(&c, &want, NULL, NULL, NULL), 0);
    ck_assert(set_cluster(&c, "heartbeat", "50"));
    ck_assert(set(&c, "maxclients", "5", NULL, NULL));
    hf_config_free(&c);
    ck_assert_int_eq(load(&c, &want, NULL, NULL, NULL), 0);
    ck_assert_int_eq(load_settings(&c), 0);
    ck_assert_uint_eq(c.maxclients, 5);
    ck_assert_uint_eq(c.heartbeat_ms, 100);
    hf_config_free(&c);
}
END_TEST

/* Checked together; but they come one by one, and in between the heartbeat that runs is what fits. */
START_TEST(test_timeouts_fit_each_other)
{
    struct hf_config c;
    enum hf_config_want want;

    ck_assert_int_eq(load(&c, &want, NULL, NULL, NULL), 0);
    ck_assert(!set(&c, "heartbeat", "151", NULL, NULL));
    ck_assert_ptr_nonnull(strstr(err, "a quarter of election-timeout"));
    ck_assert(!set(&c, "election-timeout", "399", NULL, NULL));
    ck_assert(set(&c, "election-timeout", "1000", "heartbeat", "250"));
    ck_assert_uint_eq(hf_config_heartbeat_ms(&c), 250);
    ck_assert(set_cluster(&c, "election-timeout", "200"));
    ck_assert_uint_eq(hf_config_heartbeat_ms(&c), 50);
    ck_assert(set_cluster(&c, "heartbeat", "20"));
    ck_assert_uint_eq(hf_config_heartbeat_ms(&c), 20);
    hf_config_free(&c);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("config");
    TCase *tc = tcase_create("config");
    SRunner *runner;
    int failed;

    hf_log_silence(true);
    tcase_add_checked_fixture(tc, begin, end);
    tcase_add_test(tc, test_nothing_given_is_a_single_node_on_loopback);
    tcase_add_test(tc, test_flag_beats_file_beats_environment);
    tcase_add_test(tc, test_what_is_wrong_is_said_with_its_place);
    tcase_add_test(tc, test_a_wrong_line_of_the_file_is_named);
    tcase_add_test(tc, test_help_and_friends_need_nothing_else);
    tcase_add_test(tc, test_the_sample_file_is_the_defaults);
    tcase_add_test(tc, test_config_get_knows_our_names_and_those_of_redis);
    tcase_add_test(tc, test_config_set_is_all_or_nothing);
    tcase_add_test(tc, test_config_set_keeps_limits_that_fit_each_other);
    tcase_add_test(tc, test_config_set_keeps_parameters_of_redis);
    tcase_add_test(tc, test_names_and_addresses);
    tcase_add_test(tc, test_joining);
    tcase_add_test(tc, test_config_get_of_the_address);
    tcase_add_test(tc, test_changes_are_kept_and_win);
    tcase_add_test(tc, test_change_that_cannot_be_kept);
    tcase_add_test(tc, test_damaged_file_is_refused);
    tcase_add_test(tc, test_unknown_settings_of_the_file_are_left_out);
    tcase_add_test(tc, test_settings_of_the_cluster);
    tcase_add_test(tc, test_timeouts_fit_each_other);
    suite_add_tcase(suite, tc);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
