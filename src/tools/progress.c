/* progress.c: long work: how far it is, on stderr; being told to stop; cleaning up. See tools.h. */
#include "tools/tools.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define BAR_MS  100u  /* between two drawings of a bar */
#define LINE_MS 5000u /* between two lines where there is no terminal */
#define BAR     30

uint64_t hf_tool_now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

void hf_tool_format_bytes(char *out, size_t cap, uint64_t bytes)
{
    if (bytes < 1000000)
        snprintf(out, cap, "%.1f kB", (double)bytes / 1e3);
    else if (bytes < 1000000000)
        snprintf(out, cap, "%.1f MB", (double)bytes / 1e6);
    else
        snprintf(out, cap, "%.2f GB", (double)bytes / 1e9);
}

static void show(const struct hf_tool_progress *p, uint64_t now_ms)
{
    double seconds = (double)(now_ms - p->began_ms) / 1000.0 + 0.001;
    double speed = (double)p->done / seconds;
    unsigned percent = p->total == 0 ? 100 : (unsigned)(p->done * 100 / p->total);
    char amount[64], total[64], rate[80], eta[64] = "";
    char bar[BAR + 1];

    if (p->is_bytes) {
        hf_tool_format_bytes(amount, sizeof amount, p->done);
        hf_tool_format_bytes(total, sizeof total, p->total);
        snprintf(rate, sizeof rate, "%.1f MB/s", speed / 1e6);
    } else {
        snprintf(amount, sizeof amount, "%" PRIu64, p->done);
        snprintf(total, sizeof total, "%" PRIu64 " rows", p->total);
        snprintf(rate, sizeof rate, "%.0f rows/s", speed);
    }
    if (p->done < p->total && speed > 0)
        snprintf(eta, sizeof eta, ", %.0f s left", (double)(p->total - p->done) / speed);
    if (!p->is_terminal) {
        fprintf(stderr, "%s: %u%%, %s of %s, %s%s\n", p->what, percent, amount, total, rate, eta);
        return;
    }
    for (unsigned i = 0; i < BAR; i++)
        bar[i] = i * 100 < percent * BAR ? '#' : '.';
    bar[BAR] = 0;
    fprintf(stderr, "\r%s [%s] %3u%%  %s of %s  %s%s\033[K", p->what, bar, percent, amount, total, rate, eta);
}

void hf_tool_progress_begin(struct hf_tool_progress *p, const char *what, uint64_t total, bool is_bytes, bool is_quiet)
{
    *p = (struct hf_tool_progress){.what = what, .total = total, .is_bytes = is_bytes, .is_quiet = is_quiet};
    p->is_terminal = isatty(STDERR_FILENO) == 1;
    p->began_ms = hf_tool_now_ms();
    p->shown_ms = p->began_ms;
}

void hf_tool_progress_step(struct hf_tool_progress *p, uint64_t done)
{
    uint64_t now_ms = hf_tool_now_ms();

    p->done = done;
    if (p->is_quiet || now_ms - p->shown_ms < (p->is_terminal ? BAR_MS : LINE_MS))
        return;
    p->shown_ms = now_ms;
    show(p, now_ms);
}

void hf_tool_progress_end(struct hf_tool_progress *p)
{
    if (p->is_quiet || !p->is_terminal)
        return;
    show(p, hf_tool_now_ms());
    fprintf(stderr, "\n");
}

/* ---- stopping ------------------------------------------------------------------------------------------ */

static volatile sig_atomic_t is_stopped; /* a signal handler reaches nothing else */

static void on_signal(int signum)
{
    (void)signum;
    is_stopped = 1;
}

void hf_tool_catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};

    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
}

bool hf_tool_is_stopped(void)
{
    return is_stopped != 0;
}

void hf_tool_remove_database(const char *path)
{
    static const char *const ends[] = {"", "-wal", "-shm", "-journal"};
    char name[4200];

    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        snprintf(name, sizeof name, "%s%s", path, ends[i]);
        (void)unlink(name);
    }
}
