/* Errors by value, allocation without overflow, files written whole or not at all. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/check.h"
#include "core/memory.h"

static char folder[] = "/tmp/tessera-core-XXXXXX";

static int make_folder(void **state) {
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
    (void)state;
    return rmdir(folder); /* fails when a test left a file behind */
}

static void status__every_value_has_a_name_and_a_text(void **state) {
    (void)state;
    for (int i = 0; i < TSR_STATUS_END_; i++) {
        assert_string_not_equal(tsr_status_name((tsr_status)i), "UNKNOWN");
        assert_true(strlen(tsr_status_text((tsr_status)i)) > 1);
    }
    assert_string_equal(tsr_status_name((tsr_status)999), "UNKNOWN");
}

static void status__first_failure_wins_and_stays_on_one_line(void **state) {
    (void)state;
    tsr_error err = TSR_ERROR_INIT;
    assert_int_equal(tsr__fail(&err, TSR_IO, "first\nline %d", 1), TSR_IO);
    assert_int_equal(tsr__fail(&err, TSR_NO_MEMORY, "second"), TSR_NO_MEMORY);
    assert_int_equal(err.status, TSR_IO);
    assert_string_equal(err.message, "first line 1");
    assert_int_equal(tsr__fail(NULL, TSR_IO, "nobody listens"), TSR_IO);
}

static void memory__overflowing_sizes_are_refused(void **state) {
    (void)state;
    assert_null(tsr__alloc(SIZE_MAX / 2, 3));
    assert_null(tsr__alloc_zero(SIZE_MAX, 1));
    unsigned char *p = tsr__alloc_zero(100, 1);
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % 64, 0);
    for (int i = 0; i < 100; i++) assert_int_equal(p[i], 0);
    free(p);
}

static void file__commit_shows_the_whole_file_and_abort_shows_none(void **state) {
    (void)state;
    char *path = tsr__format("%s/a", folder);
    tsr__outfile *file = NULL;
    void *data = NULL;
    size_t size = 0;
    tsr_error err = TSR_ERROR_INIT;
    assert_int_equal(tsr__outfile_open(&file, path, &err), TSR_OK);
    assert_int_equal(tsr__outfile_write(file, "hello", 5, &err), TSR_OK);
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_equal(tsr__outfile_commit(file, &err), TSR_OK);
    assert_int_equal(tsr__outfile_open(&file, path, &err), TSR_OK);
    assert_int_equal(tsr__outfile_write(file, "rubbish", 7, &err), TSR_OK);
    tsr__outfile_abort(file);
    assert_int_equal(tsr__read_file(&data, &size, path, 100, &err), TSR_OK);
    assert_int_equal(size, 5);
    assert_string_equal(data, "hello");
    free(data);
    assert_int_equal(tsr__read_file(&data, &size, path, 4, &err), TSR_TOO_LARGE);
    unlink(path);
    free(path);
}

static void file__a_write_over_the_limit_leaves_nothing(void **state) {
    (void)state;
    char *path = tsr__format("%s/big", folder);
    char block[4096] = { 0 };
    struct rlimit was, small;
    tsr__outfile *file = NULL;
    tsr_error err = TSR_ERROR_INIT;
    tsr_status status = TSR_OK;
    signal(SIGXFSZ, SIG_IGN); /* a full disk, as far as write(2) tells */
    getrlimit(RLIMIT_FSIZE, &was);
    small = was;
    small.rlim_cur = 8192;
    setrlimit(RLIMIT_FSIZE, &small);
    assert_int_equal(tsr__outfile_open(&file, path, &err), TSR_OK);
    for (int i = 0; i < 16 && status == TSR_OK; i++) status = tsr__outfile_write(file, block, sizeof block, &err);
    if (status == TSR_OK) status = tsr__outfile_commit(file, &err);
    else tsr__outfile_abort(file);
    setrlimit(RLIMIT_FSIZE, &was);
    assert_int_equal(status, TSR_IO);
    assert_non_null(strstr(err.message, path));
    assert_int_not_equal(access(path, F_OK), 0);
    free(path);
}

static void file__a_folder_that_is_not_there_is_named(void **state) {
    (void)state;
    tsr__outfile *file = NULL;
    tsr_error err = TSR_ERROR_INIT;
    assert_int_equal(tsr__outfile_open(&file, "/no/such/folder/x.png", &err), TSR_IO);
    assert_null(file);
    assert_non_null(strstr(err.message, "/no/such/folder/x.png"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(status__every_value_has_a_name_and_a_text),
        cmocka_unit_test(status__first_failure_wins_and_stays_on_one_line),
        cmocka_unit_test(memory__overflowing_sizes_are_refused),
        cmocka_unit_test(file__commit_shows_the_whole_file_and_abort_shows_none),
        cmocka_unit_test(file__a_write_over_the_limit_leaves_nothing),
        cmocka_unit_test(file__a_folder_that_is_not_there_is_named),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
