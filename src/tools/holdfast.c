/* holdfast.c: the command-line tool. Finds the subcommand and hands over; see tools.h. */
#include "tools/tools.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name, *summary;
    int (*run)(struct hf_tool *tool, int argc, char **argv);
} subcommands[] = {
    {"cli", "a shell for commands, or one command: holdfast cli SET a b", hf_tool_cli},
    {"status", "a table of the nodes: role, term, lag, journal; copies on their way, problems", hf_tool_status},
    {"member", "list the members, add, remove, promote, demote, replace one", hf_tool_member},
    {"transfer", "hand leadership over", hf_tool_transfer},
    {"backup", "write the cluster's state into a file; backup verify FILE checks one", hf_tool_backup},
    {"restore", "make a new cluster from a backup", hf_tool_restore},
    {"inspect", "tell what a data directory holds (the node must not run)", hf_tool_inspect},
    {"recover", "make a survivor of a lost majority serve again (the node must not run)", hf_tool_recover},
    {"repair", "wipe a damaged node and fetch its state from its peers (it must not run)", hf_tool_repair},
};
#define N_SUBCOMMANDS (sizeof subcommands / sizeof subcommands[0])

static void print_help(FILE *to)
{
    fprintf(to, "usage: holdfast [options] SUBCOMMAND [arguments]\n\n");
    for (size_t i = 0; i < N_SUBCOMMANDS; i++)
        fprintf(to, "  %-10s  %s\n", subcommands[i].name, subcommands[i].summary);
    fprintf(
        to,
        "\nOptions, before or after the subcommand (`holdfast SUBCOMMAND --help` tells of more):\n%s"
        "      --version               print the version\n"
        "\nExit status: 0 done, 1 the server answered with an error, or what was looked at is not as it should be,\n"
        "2 wrong usage, 3 no server reached (nothing happened), 4 the connection broke before the answer (it may\n"
        "have happened).\n",
        hf_tool_options_help);
}

int main(int argc, char **argv)
{
    struct hf_tool tool = {.timeout_ms = HF_TOOL_TIMEOUT_MS, .password = getenv("HOLDFAST_PASSWORD")};
    const char *name = NULL;
    int i = 1, code = HF_TOOL_USAGE;

    signal(SIGPIPE, SIG_IGN);
    for (; i < argc && !name; i++) {
        int taken = hf_tool_option(&tool, argc, argv, &i);

        if (taken < 0)
            return HF_TOOL_USAGE;
        if (taken > 0)
            continue;
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0 || strcmp(argv[i], "help") == 0) {
            print_help(stdout);
            return HF_TOOL_OK;
        }
        if (strcmp(argv[i], "--version") == 0) {
            printf("holdfast " HF_VERSION "\n");
            return HF_TOOL_OK;
        }
        if (argv[i][0] == '-') {
            fprintf(stderr, "holdfast: unknown option '%s' (try --help)\n", argv[i]);
            return HF_TOOL_USAGE;
        }
        name = argv[i];
    }
    if (!name) {
        print_help(stderr);
        return HF_TOOL_USAGE;
    }
    for (size_t k = 0; k < N_SUBCOMMANDS; k++) {
        if (strcmp(name, subcommands[k].name) == 0) {
            code = subcommands[k].run(&tool, argc - i + 1, argv + i - 1);
            hf_tool_disconnect(&tool);
            return code;
        }
    }
    fprintf(stderr, "holdfast: no subcommand '%s' (try --help)\n", name);
    return HF_TOOL_USAGE;
}
