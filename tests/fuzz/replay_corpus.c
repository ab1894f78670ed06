/* tests/fuzz/replay_corpus.c - runs one fuzz target over a folder of inputs, without a fuzzer.
 *
 *   replay_X FOLDER
 *
 * Every file is given whole, then cut short at some places, then with single bytes changed; the places are a fixed
 * function of the file's length, so a failure repeats. Knows nothing of what the target parses. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { CUTS = 24, CHANGES = 48, PATH_SIZE = 4096 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Hands over a copy of exactly `size` bytes, so that a sanitizer sees the first byte read past the end. */
static int give(const uint8_t *data, size_t size) {
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy) return -1;
    if (size) memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
    return 0;
}

/* A small generator of its own: the library's numbers are among the things under test. */
static uint32_t next_random(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static int replay_bytes(uint8_t *data, size_t size) {
    uint32_t state = (uint32_t)size + 1;
    if (give(data, size)) return -1;
    for (size_t i = 0; i < CUTS && size; i++)
        if (give(data, next_random(&state) % size)) return -1;
    for (size_t i = 0; i < CHANGES && size; i++) {
        size_t at = next_random(&state) % size;
        uint8_t old = data[at];
        data[at] = (uint8_t)next_random(&state);
        if (give(data, size)) return -1;
        data[at] = old;
    }
    return 0;
}

static int replay_file(const char *path, size_t size) {
    FILE *stream = fopen(path, "rb");
    uint8_t *data = malloc(size ? size : 1);
    int failed = !stream || !data || fread(data, 1, size, stream) != size || replay_bytes(data, size);
    if (failed) fprintf(stderr, "%s: cannot be read\n", path);
    if (stream) fclose(stream);
    free(data);
    return failed;
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
        return 2;
    }
    DIR *folder = opendir(argv[1]);
    if (!folder) {
        fprintf(stderr, "%s: no such folder\n", argv[1]);
        return 1;
    }
    int files = 0, failures = 0;
    for (struct dirent *entry; (entry = readdir(folder));) {
        char path[PATH_SIZE];
        struct stat about;
        snprintf(path, sizeof path, "%s/%s", argv[1], entry->d_name);
        if (stat(path, &about) || !S_ISREG(about.st_mode)) continue;
        files++;
        failures += replay_file(path, (size_t)about.st_size);
    }
    closedir(folder);
    printf("%d files replayed\n", files);
    return files == 0 || failures != 0;
}
