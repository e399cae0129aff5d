/* test_golden.c: the scripts in tests/golden/command/NAME.txt. A line "> words" runs a command, and the lines up to the
 * next command, comment (#), directive (@) or empty line are its answer as
 * redis-cli shows it (with "| " in front of lines that would be taken for something else). Directives:
 *   @time +N    N ms pass, and an entry moves log time with the clock
 *   @clock +N   N ms pass on the leader's clock alone
 *   @seed N     the seed for RANDOMKEY
 *   @debug      DEBUG is allowed from here on
 *   @password   AUTH needs the password "secret" from here on
 *   @follower   the node follows from here on
 *   @quiet      the next answer is not shown: it is long, or not the same on both stores; it must not be an error
 * After a script its log is applied to a second store, which must come out the same. */
#include "suites.h"

#include "base/mem.h"
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>

static const char *const scripts[] = {
    "client", "command", "connection", "expire", "getset", "holdfast", "key",
    "member", "number",  "range",      "scan",   "server", "set",      "setting",
};
#define N_SCRIPTS (sizeof(scripts) / sizeof(scripts[0]))

static char *read_text(const char *path)
{
    FILE *f = fopen(path, "rb");
    struct hf_buf b = {0};
    size_t n;

    ck_assert_msg(f != NULL, "%s is missing", path);
    do {
        n = fread(hf_buf_reserve(&b, 65536), 1, 65536, f);
        b.len += n;
    } while (n != 0);
    fclose(f);
    hf_buf_put_u8(&b, 0);
    return (char *)b.data;
}

static void run_directive(struct harness *h, const char *line)
{
    long long n;

    if (sscanf(line, "@time +%lld", &n) == 1) {
        h->clock_ms += n;
        harness_tick(h);
    } else if (sscanf(line, "@clock +%lld", &n) == 1) {
        h->clock_ms += n;
    } else if (sscanf(line, "@seed %lld", &n) == 1) {
        h->seed = (uint64_t)n;
    } else if (strcmp(line, "@debug") == 0) {
        h->debug_allowed = true;
    } else if (strcmp(line, "@password") == 0) {
        h->password_set = true;
        h->clients[0].authenticated = false;
    } else if (strcmp(line, "@follower") == 0) {
        h->status.role = "follower";
        h->status.leader_id = 2;
        h->status.leader_client_address = "10.0.0.2:7379";
    } else {
        ck_abort_msg("unknown directive: %s", line);
    }
}

/* Lines that would be read as a part of the script get "| " in front. */
static void put_answer(struct hf_buf *trace, const char *text)
{
    for (;;) {
        size_t n = strcspn(text, "\n");
        size_t shown = n > 0 && text[n - 1] == '\r' ? n - 1 : n;

        if (shown == 0 || strchr(">#@|", text[0]) != NULL)
            hf_buf_printf(trace, "| ");
        hf_buf_put(trace, text, shown);
        hf_buf_put_u8(trace, '\n');
        if (text[n] == '\0')
            break;
        text += n + 1;
    }
}

/* The script with the answers that were really given. */
static void run_script(const char *script, struct hf_buf *trace)
{
    struct harness h;
    struct hf_buf text = {0};
    bool in_answer = false, is_quiet = false;

    harness_open(&h);
    for (const char *p = script; *p != '\0';) {
        size_t n = strcspn(p, "\n");
        char *line = hf_malloc(n + 1);

        memcpy(line, p, n);
        line[n] = '\0';
        p += n + (p[n] == '\n');
        if (line[0] == '>' || line[0] == '#' || line[0] == '@' || line[0] == '\0') {
            hf_buf_printf(trace, "%s\n", line);
            in_answer = line[0] == '>';
            if (strcmp(line, "@quiet") == 0)
                is_quiet = true;
            else if (line[0] == '@')
                run_directive(&h, line);
            if (line[0] == '>') {
                harness_run_line(&h, line + 1, &text);
                if (!is_quiet)
                    put_answer(trace, (char *)text.data);
                else
                    ck_assert_msg(strncmp((char *)text.data, "(error)", 7) != 0, "%s: %s", line, (char *)text.data);
                is_quiet = false;
            }
        } else {
            ck_assert_msg(in_answer, "an answer to nothing: %s", line);
        }
        hf_free(line);
    }
    hf_buf_put_u8(trace, 0);
    harness_check_replay(&h);
    hf_buf_free(&text);
    harness_close(&h);
}

static void script_path(char *out, size_t size, const char *name)
{
    snprintf(out, size, "%s/%s.txt", HF_GOLDEN_DIR, name);
}

/* Set by --rewrite alone. */
static bool is_rewriting;

void golden_rewrite(void)
{
    is_rewriting = true;
}

static void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "wb");

    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
}

START_TEST(test_script_gives_its_answers)
{
    char path[512];
    struct hf_buf trace = {0};
    const char *a, *b;
    char *script;
    size_t line = 1;

    script_path(path, sizeof(path), scripts[_i]);
    script = read_text(path);
    run_script(script, &trace);
    if (is_rewriting) {
        write_text(path, (char *)trace.data);
        hf_free(script);
        script = read_text(path);
    }
    for (a = script, b = (char *)trace.data; *a != '\0' || *b != '\0'; line++) {
        size_t n = strcspn(a, "\n"), m = strcspn(b, "\n");

        ck_assert_msg(n == m && memcmp(a, b, n) == 0, "%s line %zu: wanted %.*s, got %.*s", path, line, (int)n, a,
                      (int)m, b);
        a += n + (a[n] == '\n');
        b += m + (b[m] == '\n');
    }
    hf_free(script);
    hf_buf_free(&trace);
}
END_TEST

/* Every command is named by a script, or it has no test of its own. */
START_TEST(test_every_command_stands_in_a_script)
{
    struct hf_buf all = {0};

    hf_command_table_init();
    for (size_t i = 0; i < N_SCRIPTS; i++) {
        char path[512];
        char *script;

        script_path(path, sizeof(path), scripts[i]);
        script = read_text(path);
        hf_buf_printf(&all, "%s", script);
        hf_free(script);
    }
    hf_buf_put_u8(&all, 0);
    for (uint16_t id = 0; id < hf_command_count(); id++) {
        const struct hf_command *row = hf_command_at(id);
        char wanted[64];

        if (row->subcommands != NULL && row->local == NULL)
            continue;
        snprintf(wanted, sizeof(wanted), "\n> %s", row->name);
        if (strchr(wanted, '|') != NULL)
            *strchr(wanted, '|') = ' ';
        ck_assert_msg(strcasestr((char *)all.data, wanted) != NULL, "no script runs %s", row->name);
    }
    hf_buf_free(&all);
}
END_TEST

Suite *suite_golden(void)
{
    Suite *s = suite_create("golden");
    TCase *tc = tcase_create("scripts");

    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, test_script_gives_its_answers, 0, (int)N_SCRIPTS);
    tcase_add_test(tc, test_every_command_stands_in_a_script);
    suite_add_tcase(s, tc);
    return s;
}
