/* Files below a folder: found, written whole, and never elsewhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "paths.h"

static char root[64];

static int in_root(void **state) {
    char path[128];
    (void)state;
    strcpy(root, "/tmp/tessera-paths-XXXXXX");
    if (!mkdtemp(root)) return -1;
    snprintf(path, sizeof path, "%s/sub", root);
    if (mkdir(path, 0777)) return -1;
    snprintf(path, sizeof path, "%s/sub/a.png", root);
    FILE *file = fopen(path, "w");
    if (!file) return -1;
    fputs("content", file);
    fclose(file);
    snprintf(path, sizeof path, "%s/out", root);
    if (symlink("/etc", path)) return -1;
    snprintf(path, sizeof path, "%s/passwd", root);
    if (symlink("/etc/passwd", path)) return -1;
    snprintf(path, sizeof path, "%s/pipe", root);
    return mkfifo(path, 0666);
}

static int clean_up(void **state) {
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -r %s", root);
    return system(command);
}

static tsr_status open_path(const char *path) {
    long long size = 0;
    int file = -1;
    tsr_status status = srv_path_open(&file, &size, root, path, NULL);
    if (file >= 0) close(file);
    assert_true((status == TSR_OK) == (file >= 0));
    return status;
}

static void paths__files_are_found(void **state) {
    void *data = NULL;
    long long size = 0;
    int file = -1;
    (void)state;
    assert_int_equal(srv_path_open(&file, &size, root, "sub/a.png", NULL), TSR_OK);
    assert_int_equal(size, 7);
    assert_int_equal(srv_file_read(&data, file, size, 6, NULL), TSR_TOO_LARGE);
    assert_int_equal(srv_file_read(&data, file, size, 7, NULL), TSR_OK);
    assert_memory_equal(data, "content", 7);
    free(data);
    close(file);
}

static void paths__nothing_leaves_the_folder(void **state) {
    char longest[400];
    (void)state;
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    assert_int_equal(open_path("../passwd"), TSR_BAD_ARGUMENT);
    assert_int_equal(open_path("sub/../sub/a.png"), TSR_BAD_ARGUMENT);
    assert_int_equal(open_path("/etc/passwd"), TSR_BAD_ARGUMENT);
    assert_int_equal(open_path("sub\\a.png"), TSR_BAD_ARGUMENT);
    assert_int_equal(open_path("sub///a.png"), TSR_BAD_ARGUMENT);
    assert_int_equal(open_path(".hidden"), TSR_BAD_ARGUMENT);
    assert_int_equal(open_path(""), TSR_BAD_ARGUMENT);
    assert_int_equal(open_path("sub/"), TSR_BAD_ARGUMENT);
    assert_int_equal(open_path(longest), TSR_BAD_ARGUMENT);
    assert_int_equal(open_path("a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a"), TSR_NOT_FOUND);
    assert_int_equal(open_path("out/passwd"), TSR_UNSUPPORTED);
    assert_int_equal(open_path("passwd"), TSR_UNSUPPORTED);
    assert_int_equal(open_path("sub"), TSR_NOT_FOUND);
    assert_int_equal(open_path("pipe"), TSR_NOT_FOUND);
    assert_int_equal(open_path("sub/a.png/b"), TSR_NOT_FOUND);
    assert_int_equal(open_path("nothing.png"), TSR_NOT_FOUND);
}

static int entries(const char *folder) {
    char command[160];
    int count = -1;
    snprintf(command, sizeof command, "ls -A %s/%s | wc -l", root, folder);
    FILE *pipe = popen(command, "r");
    if (pipe && fscanf(pipe, "%d", &count) != 1) count = -1;
    if (pipe) pclose(pipe);
    return count;
}

static void paths__files_are_written_whole_or_not_at_all(void **state) {
    int folder = -1;
    (void)state;
    assert_int_equal(srv_folder_open(&folder, root, "made/below", 0, NULL), TSR_NOT_FOUND);
    assert_int_equal(srv_folder_open(&folder, root, "made/below", 1, NULL), TSR_OK);
    assert_int_equal(srv_file_write(folder, "x.png", "one", 3, 0, NULL), TSR_OK);
    assert_int_equal(srv_file_write(folder, "x.png", "two", 3, 0, NULL), TSR_WRONG_STATE);
    assert_int_equal(srv_file_write(folder, "../x.png", "two", 3, 0, NULL), TSR_BAD_ARGUMENT);
    assert_int_equal(entries("made/below"), 1);
    assert_int_equal(srv_file_write(folder, "x.png", "three", 5, 1, NULL), TSR_OK);
    assert_int_equal(entries("made/below"), 1);
    assert_int_equal(open_path("made/below/x.png"), TSR_OK);
    close(folder);
    assert_int_equal(srv_folder_open(&folder, root, "out/made", 1, NULL), TSR_UNSUPPORTED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths__files_are_found),
        cmocka_unit_test(paths__nothing_leaves_the_folder),
        cmocka_unit_test(paths__files_are_written_whole_or_not_at_all),
    };
    return cmocka_run_group_tests(tests, in_root, clean_up);
}
