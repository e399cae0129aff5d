/* test_log.c: log lines, read back from a file, and the two ways to stop. */
#include "test_base.h"

#include "base/assert.h"
#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static char log_path[] = "/tmp/holdfast-log-XXXXXX";

static void set_up(void)
{
    int fd = mkstemp(strcpy(log_path, "/tmp/holdfast-log-XXXXXX"));

    ck_assert_int_ge(fd, 0);
    close(fd);
}

static void tear_down(void)
{
    unlink(log_path);
    ck_assert(hf_log_open(NULL, HF_LOG_INFO_LEVEL, false, NULL));
}

/* The lines written since the last call, without their time stamps. */
static const char *new_lines(void)
{
    static char text[65536];
    FILE *f = fopen(log_path, "r");
    char line[8192];
    size_t len = 0;

    ck_assert_ptr_nonnull(f);
    text[0] = '\0';
    while (fgets(line, sizeof(line), f) != NULL) {
        char *from = line;

        if (line[0] != '{') { /* 2026-01-02T03:04:05.678Z */
            ck_assert_uint_gt(strlen(line), 25);
            ck_assert(line[10] == 'T' && line[19] == '.' && line[23] == 'Z' && line[24] == ' ');
            from += 25;
        } else {
            ck_assert(strncmp(line, "{\"time\":\"", 9) == 0);
            from = strchr(line + 9, '"') + 2;
        }
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s", from);
        ck_assert_uint_lt(len, sizeof(text));
    }
    fclose(f);
    ck_assert_int_eq(truncate(log_path, 0), 0);
    return text;
}

START_TEST(test_text_lines)
{
    ck_assert(hf_log_open(log_path, HF_LOG_INFO_LEVEL, false, NULL));
    HF_LOG_INFO("consensus", "became leader", "term=%d last=%d", 3, 17);
    ck_assert_str_eq(new_lines(), "INFO consensus: became leader term=3 last=17\n");
    ck_assert(hf_log_open(log_path, HF_LOG_INFO_LEVEL, false, "n1"));
    HF_LOG_WARN("net", "bad bytes", "got=\"%s\"", "a\nFAKE\x1b[0m");
    ck_assert_str_eq(new_lines(), "WARN net: bad bytes node=n1 got=\"a\\x0aFAKE\\x1b[0m\"\n");
    HF_LOG_ERROR("net", "nothing more", "%s", "");
    ck_assert_str_eq(new_lines(), "ERROR net: nothing more node=n1\n");
    hf_log_set_prefix("n1");
    hf_log_set_prefix("called");
    HF_LOG_INFO("net", "renamed", "a=%d", 1);
    ck_assert_str_eq(new_lines(), "INFO net: renamed node=called a=1\n");
    hf_log_set_prefix("three");
    hf_log_set_prefix("four");
    hf_log_set_prefix("too many");
    HF_LOG_INFO("net", "renamed", "a=%d", 1);
    ck_assert_str_eq(new_lines(), "INFO net: renamed node=four a=1\n");
}
END_TEST

START_TEST(test_levels_and_silence)
{
    enum hf_log_level level;

    ck_assert(hf_log_open(log_path, HF_LOG_WARN_LEVEL, false, NULL));
    HF_LOG_INFO("m", "no", "%s", "");
    ck_assert_str_eq(new_lines(), "");
    hf_log_set_level(HF_LOG_DEBUG_LEVEL);
    HF_LOG_DEBUG("m", "yes", "%s", "");
    ck_assert_str_eq(new_lines(), "DEBUG m: yes\n");
    hf_log_silence(true);
    HF_LOG_ERROR("m", "no", "%s", "");
    hf_log_silence(false);
    ck_assert_str_eq(new_lines(), "");
    ck_assert(hf_log_level_parse("Debug", &level) && level == HF_LOG_DEBUG_LEVEL);
    ck_assert(hf_log_level_parse("error", &level) && level == HF_LOG_ERROR_LEVEL);
    ck_assert(!hf_log_level_parse("fatal", &level));
    ck_assert(!hf_log_level_parse("", &level));
    ck_assert(!hf_log_open("/nonexistent/dir/file", HF_LOG_INFO_LEVEL, false, NULL));
}
END_TEST

START_TEST(test_json_lines)
{
    ck_assert(hf_log_open(log_path, HF_LOG_INFO_LEVEL, true, "n\"1"));
    HF_LOG_INFO("consensus", "became leader", "term=%d rate=%s", 3, "-0.5");
    ck_assert_str_eq(new_lines(), "\"level\":\"info\",\"module\":\"consensus\",\"event\":\"became leader\","
                                  "\"node\":\"n\\\"1\",\"term\":3,\"rate\":-0.5}\n");
    ck_assert(hf_log_open(log_path, HF_LOG_INFO_LEVEL, true, NULL));
    HF_LOG_INFO("m", "e", "%s", "two words a=1 node=n2 b=\"x \\\"y\\\" z\" c= d=01 e=1e5 f=a=b tail");
    ck_assert_str_eq(new_lines(), "\"level\":\"info\",\"module\":\"m\",\"event\":\"e\",\"a\":1,\"node_\":\"n2\","
                                  "\"b\":\"x \\\"y\\\" z\",\"c\":\"\",\"d\":\"01\",\"e\":\"1e5\",\"f\":\"a=b\","
                                  "\"message\":\"two words tail\"}\n");
    HF_LOG_INFO("m", "e", "a=\"%s\" b=%s c=\"open end", "\xff\xc3\xa9\n", "\"\"");
    ck_assert_str_eq(new_lines(),
                     "\"level\":\"info\",\"module\":\"m\",\"event\":\"e\",\"a\":\"\\ufffd\xc3\xa9\\u000a\","
                     "\"b\":\"\",\"c\":\"\\\"open end\"}\n");
}
END_TEST

START_TEST(test_long_lines_are_cut)
{
    char *x = hf_malloc(20000);
    const char *line;

    memset(x, '\n', 20000); /* grows by escaping */
    x[19999] = '\0';
    ck_assert(hf_log_open(log_path, HF_LOG_INFO_LEVEL, false, NULL));
    HF_LOG_INFO("m", "e", "%s", x);
    line = new_lines();
    ck_assert_uint_lt(strlen(line), 4096);
    ck_assert_str_eq(line + strlen(line) - 4, "...\n");
    ck_assert(hf_log_open(log_path, HF_LOG_INFO_LEVEL, true, NULL));
    HF_LOG_INFO("m", "e", "a=1 b=%s", x); /* a member that does not fit is left out, the rest stays valid */
    ck_assert_str_eq(new_lines(), "\"level\":\"info\",\"module\":\"m\",\"event\":\"e\",\"a\":1}\n");
    hf_free(x);
}
END_TEST

static unsigned count_lines(const char *text)
{
    unsigned n = 0;

    for (; *text != '\0'; text++)
        n += *text == '\n';
    return n;
}

START_TEST(test_rate_limit)
{
    struct hf_log_site site = {0};
    uint64_t window;
    const char *text;

    ck_assert(hf_log_open(log_path, HF_LOG_INFO_LEVEL, false, NULL));
    do { /* again when a second ended in between */
        atomic_store(&site.window, 0);
        atomic_store(&site.lines, 0);
        new_lines();
        hf_log_write(&site, HF_LOG_INFO_LEVEL, "m", "e", "i=%d", 0);
        window = atomic_load(&site.window);
        for (int i = 1; i < 50; i++)
            hf_log_write(&site, HF_LOG_INFO_LEVEL, "m", "e", "i=%d", i);
    } while (atomic_load(&site.window) != window);
    text = new_lines();
    ck_assert_uint_eq(count_lines(text), 20);
    ck_assert_ptr_nonnull(strstr(text, "i=19\n"));
    atomic_store(&site.window, window - 1); /* as if the second were over */
    hf_log_write(&site, HF_LOG_INFO_LEVEL, "m", "e", "i=%d", 50);
    ck_assert_str_eq(new_lines(), "INFO m: e i=50 dropped=30\n");
    for (int i = 0; i < 40; i++)
        hf_log_write(NULL, HF_LOG_INFO_LEVEL, "m", "e", "i=%d", i); /* no site, no limit */
    ck_assert_uint_eq(count_lines(new_lines()), 40);
}
END_TEST

/* Runs fn in a child process; returns its wait status. */
static int status_of(void (*fn)(void))
{
    int status;
    pid_t pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY);

        dup2(null, STDERR_FILENO);
        fn();
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return status;
}

static void fail_assertion(void)
{
    signal(SIGABRT, SIG_DFL);
    HF_ASSERT(1 + 1 == 3);
}

static void be_fatal(void)
{
    hf_log_silence(true);
    hf_fatal("the disk is gone: rc=%d", -2);
}

START_TEST(test_stopping)
{
    int status;

    ck_assert(hf_log_open(log_path, HF_LOG_ERROR_LEVEL, false, NULL));
    status = status_of(fail_assertion);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    ck_assert_ptr_nonnull(strstr(new_lines(), ": 1 + 1 == 3\n"));
    status = status_of(be_fatal);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 70);
    ck_assert_str_eq(new_lines(), "FATAL base: stopping the disk is gone: rc=-2\n");
}
END_TEST

TCase *log_case(void)
{
    TCase *tc = tcase_create("log");

    tcase_add_checked_fixture(tc, set_up, tear_down);
    tcase_add_test(tc, test_text_lines);
    tcase_add_test(tc, test_levels_and_silence);
    tcase_add_test(tc, test_json_lines);
    tcase_add_test(tc, test_long_lines_are_cut);
    tcase_add_test(tc, test_rate_limit);
    tcase_add_test(tc, test_stopping);
    return tc;
}
