/* standalone.c: runs each file of the directories (or the files) given as arguments through a fuzz target, so that the
 * corpus is checked in every build, with any compiler. */
#include "fuzz.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define INPUT_BYTES_MAX (4u << 20)

static unsigned n_inputs;

static void run_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    uint8_t *data, *exact;
    size_t n;

    if (f == NULL) {
        perror(path);
        exit(EXIT_FAILURE);
    }
    data = malloc(INPUT_BYTES_MAX);
    if (data == NULL)
        abort();
    n = fread(data, 1, INPUT_BYTES_MAX, f);
    fclose(f);
    /* An allocation of just this size, so that the sanitizer sees a read behind the end. */
    exact = realloc(data, n != 0 ? n : 1);
    if (exact == NULL)
        abort();
    LLVMFuzzerTestOneInput(exact, n);
    free(exact);
    n_inputs++;
}

static void run_path(const char *path)
{
    struct stat st;
    struct dirent *entry;
    char name[4096];
    DIR *dir;

    if (stat(path, &st) != 0) {
        perror(path);
        exit(EXIT_FAILURE);
    }
    if (!S_ISDIR(st.st_mode)) {
        run_file(path);
        return;
    }
    dir = opendir(path);
    if (dir == NULL) {
        perror(path);
        exit(EXIT_FAILURE);
    }
    while ((entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        run_file(name);
    }
    closedir(dir);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        run_path(argv[i]);
    printf("%u inputs\n", n_inputs);
    /* An empty corpus is a mistake in the build, not a success. */
    return n_inputs == 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
