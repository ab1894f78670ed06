/* PyTorch files: what is read out of good ones, and the one line each hostile one ends in. The files are made by
 * fuzz/make_pth_corpus.py and shared with the fuzz target. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "golden_file.h"
#include "weights/pth.h"

#define CORPUS TSR_SOURCE_DIR "/fuzz/corpus/pth/"

static tsr__weights *open_file(const char *name) {
    char path[512];
    tsr__weights *weights = NULL;
    tsr_error err = TSR_ERROR_INIT;
    (void)snprintf(path, sizeof path, "%s%s", CORPUS, name);
    if (tsr__weights_open_any(&weights, path, &err) != TSR_OK) fail_msg("%s", err.message);
    return weights;
}

static void expect(const tsr__weights *weights, const char *name, int rank, const int64_t *shape, const float *values) {
    float got[16];
    const tsr__tensor_view *view = tsr__weights_find(weights, name);
    if (!view) fail_msg("%s: no tensor %s", tsr__weights_path(weights), name);
    assert_int_equal(view->rank, rank);
    size_t count = 1;
    for (int i = 0; i < rank; i++) {
        assert_int_equal(view->shape[i], shape[i]);
        count *= (size_t)shape[i];
    }
    assert_int_equal(view->count, count);
    assert_int_equal(tsr__tensor_to_f32(view, got, NULL), TSR_OK);
    for (size_t i = 0; i < count; i++) {
        if (got[i] != values[i])
            fail_msg("%s: %s[%zu] is %g, expected %g", tsr__weights_path(weights), name, i, (double)got[i],
                     (double)values[i]);
    }
}

static const float SIX[] = { 0, 1, 2, 3, 4, 5 };

static void open_any__reads_every_container(void **state) {
    (void)state;
    static const char *const files[] = {
        "good",           "good_zip64",        "good_comment",  "good_metadata", "good_state_dict",
        "good_parameter", "good_python2_dict", "good_protocol4"
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        tsr__weights *weights = open_file(files[i]);
        assert_int_equal(tsr__weights_count(weights), 1);
        expect(weights, "a", 2, (const int64_t[]){ 2, 3 }, SIX);
        tsr__weights_release_pages(weights, tsr__weights_at(weights, 0));
        expect(weights, "a", 2, (const int64_t[]){ 2, 3 }, SIX);
        tsr__weights_close(weights);
    }
}

static void open_any__prefers_params_ema_and_joins_names(void **state) {
    (void)state;
    tsr__weights *weights = open_file("good_params_ema");
    assert_int_equal(tsr__weights_count(weights), 1);
    expect(weights, "net.a", 1, (const int64_t[]){ 6 }, SIX);
    tsr__weights_close(weights);
}

static void open_any__reads_an_embedding(void **state) {
    (void)state;
    tsr__weights *weights = open_file("good_embedding");
    const tsr__tensor_view *view = tsr__weights_find(weights, "string_to_param.*");
    assert_int_equal(tsr__weights_count(weights), 1);
    assert_non_null(view);
    assert_true(view->rank == 2 && view->shape[0] == 2 && view->shape[1] == 128);
    tsr__weights_close(weights);
}

static void open_any__reads_the_old_format(void **state) {
    (void)state;
    tsr__weights *weights = open_file("good_old");
    assert_int_equal(tsr__weights_count(weights), 2);
    expect(weights, "a", 2, (const int64_t[]){ 2, 3 }, SIX);
    expect(weights, "b", 1, (const int64_t[]){ 2 }, (const float[]){ 1, -2 });
    tsr__weights_close(weights);
}

static void open_any__makes_strided_tensors_dense(void **state) {
    (void)state;
    tsr__weights *weights = open_file("good_strides");
    expect(weights, "turned", 2, (const int64_t[]){ 3, 2 }, (const float[]){ 0, 3, 1, 4, 2, 5 });
    expect(weights, "slice", 2, (const int64_t[]){ 2, 2 }, (const float[]){ 1, 2, 4, 5 });
    expect(weights, "one", 3, (const int64_t[]){ 1, 1, 3 }, (const float[]){ 3, 4, 5 });
    /* a copy is no page of the file: releasing it must not lose it */
    for (size_t i = 0; i < tsr__weights_count(weights); i++)
        tsr__weights_release_pages(weights, tsr__weights_at(weights, i));
    expect(weights, "turned", 2, (const int64_t[]){ 3, 2 }, (const float[]){ 0, 3, 1, 4, 2, 5 });
    tsr__weights_close(weights);
}

static void open_any__reads_every_type(void **state) {
    (void)state;
    tsr__weights *weights = open_file("good_types");
    expect(weights, "half", 1, (const int64_t[]){ 2 }, (const float[]){ 1, -2 });
    expect(weights, "brain", 1, (const int64_t[]){ 2 }, (const float[]){ 1, -2 });
    expect(weights, "double", 0, NULL, (const float[]){ 0.5f });
    assert_int_equal(tsr__weights_find(weights, "long")->dtype, TSR_DTYPE_I64);
    int64_t nine;
    memcpy(&nine, tsr__weights_find(weights, "long")->data, sizeof nine);
    assert_int_equal(nine, -9);
    assert_int_equal(tsr__weights_find(weights, "byte")->dtype, TSR_DTYPE_U8);
    assert_int_equal(tsr__weights_find(weights, "empty")->count, 0);
    tsr__weights_close(weights);
}

static const struct {
    const char *file;
    tsr_status status;
    const char *says;
} BAD[] = {
    { "runs_system", TSR_UNSUPPORTED, "runs_system: refuses to run os.system from a pickle" },
    { "runs_eval", TSR_UNSUPPORTED, "refuses to run builtins.eval from a pickle" },
    { "runs_load_from_bytes", TSR_UNSUPPORTED, "refuses to run torch.storage._load_from_bytes from a pickle" },
    { "runs_getattr", TSR_UNSUPPORTED, "refuses to run builtins.getattr from a pickle" },
    { "runs_system_protocol4", TSR_UNSUPPORTED, "refuses to run posix.system from a pickle" },
    { "runs_inst", TSR_UNSUPPORTED, "refuses to run os.system from a pickle" },
    { "runs_storage", TSR_UNSUPPORTED, "refuses to run torch.FloatStorage() from a pickle" },
    { "runs_old", TSR_UNSUPPORTED, "refuses to run os.system from a pickle" },
    { "runs_plain_pickle", TSR_UNSUPPORTED, "refuses to run os.system from a pickle" },
    { "newobj", TSR_UNSUPPORTED, "pickle opcode 0x81" },
    { "extension", TSR_UNSUPPORTED, "pickle opcode 0x82 at byte 2" },
    { "control_name", TSR_UNSUPPORTED, "refuses to run o?s.sys?tem" },
    { "truncated", TSR_BAD_FORMAT, "truncated: this zip archive has no end" },
    { "truncated_head", TSR_BAD_FORMAT, "truncated: this zip archive has no end" },
    { "only_magic", TSR_BAD_FORMAT, "truncated: this zip archive has no end" },
    { "compressed", TSR_UNSUPPORTED, "compressed or encrypted" },
    { "no_pickle", TSR_BAD_FORMAT, "no data.pkl" },
    { "directory_outside", TSR_BAD_FORMAT, "directory lies outside" },
    { "directory_short", TSR_BAD_FORMAT, "directory lies outside" },
    { "directory_broken", TSR_BAD_FORMAT, "entry 0 of its directory is broken" },
    { "entry_outside", TSR_BAD_FORMAT, "is not where it should be" },
    { "entry_long", TSR_BAD_FORMAT, "which the file does not hold" },
    { "zip64_missing", TSR_BAD_FORMAT, "entry 0 of its directory is broken" },
    { "zip64_outside", TSR_BAD_FORMAT, "zip64 record is not where it should be" },
    { "zip64_huge", TSR_BAD_FORMAT, "directory lies outside" },
    { "torchscript", TSR_UNSUPPORTED, "TorchScript" },
    { "big_endian", TSR_UNSUPPORTED, "big-endian" },
    { "storage_missing", TSR_BAD_FORMAT, "tensor \"a\": its data is not in the file" },
    { "storage_short", TSR_BAD_FORMAT, "its storage has 5 elements, not 6" },
    { "tensor_outside", TSR_BAD_FORMAT, "tensor \"a\" reaches outside its storage" },
    { "tensor_stride", TSR_BAD_FORMAT, "tensor \"a\" reaches outside its storage" },
    { "tensor_offset", TSR_BAD_FORMAT, "tensor \"a\" reaches outside its storage" },
    { "tensor_huge", TSR_BAD_FORMAT, "tensor \"a\" is larger than its storage" },
    { "tensor_negative", TSR_BAD_FORMAT, "are no counts" },
    { "tensor_rank9", TSR_BAD_FORMAT, "at most 8 axes" },
    { "tensor_ranks_differ", TSR_BAD_FORMAT, "are no counts" },
    { "tensor_bad_storage", TSR_BAD_FORMAT, "a tensor without a storage" },
    { "name_control", TSR_BAD_FORMAT, "name is no plain text" },
    { "name_number", TSR_BAD_FORMAT, "name is no plain text" },
    { "name_twice", TSR_BAD_FORMAT, "two tensors are named \"a.b\"" },
    { "not_a_dict", TSR_UNSUPPORTED, "no state dict" },
    { "tensors_repeat", TSR_OK, NULL }, /* 400 small copies are less than the file */
    { "persistent_bad", TSR_BAD_FORMAT, "names a storage" },
    { "persistent_view", TSR_UNSUPPORTED, "storages inside storages" },
    { "cycle", TSR_TOO_LARGE, "nest deeper than 8" },
    { "wide", TSR_TOO_LARGE, "entries" },
    { "unfolds", TSR_TOO_LARGE, "unfolds to more than" },
    { "pickle_empty", TSR_BAD_FORMAT, "ends too early" },
    { "pickle_cut", TSR_BAD_FORMAT, "bad pickle at byte" },
    { "pickle_protocol0", TSR_BAD_FORMAT, "protocol" },
    { "pickle_underflow", TSR_BAD_FORMAT, "stack is empty" },
    { "pickle_no_mark", TSR_BAD_FORMAT, "no mark" },
    { "pickle_empty_mark", TSR_UNSUPPORTED, "no state dict" },
    { "pickle_memo", TSR_BAD_FORMAT, "never stored" },
    { "pickle_memo_far", TSR_TOO_LARGE, "remembers more" },
    { "pickle_marks", TSR_TOO_LARGE, "nests deeper" },
    { "pickle_odd", TSR_BAD_FORMAT, "key without a value" },
    { "pickle_text_long", TSR_BAD_FORMAT, "ends too early" },
    { "pickle_text8", TSR_BAD_FORMAT, "ends too early" },
    { "pickle_left_over", TSR_BAD_FORMAT, "left over" },
    { "pickle_build", TSR_BAD_FORMAT, "sets attributes" },
    { "pickle_add", TSR_BAD_FORMAT, "no container" },
    { "old_magic", TSR_UNSUPPORTED, "none that torch.save wrote" },
    { "old_big_endian", TSR_UNSUPPORTED, "big-endian" },
    { "old_truncated", TSR_BAD_FORMAT, "truncated: storage 0" },
    { "old_count", TSR_BAD_FORMAT, "truncated: storage 0" },
    { "old_negative", TSR_BAD_FORMAT, "truncated: storage 0" },
    { "old_few", TSR_BAD_FORMAT, "its storage has 5 elements, not 6" },
    { "old_unknown_key", TSR_BAD_FORMAT, "unknown or listed twice" },
    { "old_key_twice", TSR_BAD_FORMAT, "unknown or listed twice" },
    { "old_missing", TSR_BAD_FORMAT, "its data is not in the file" },
    { "old_two_types", TSR_BAD_FORMAT, "two types" },
    { "protocol_number", TSR_UNSUPPORTED, "none that torch.save wrote" },
};

static void open_any__says_why_not(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        char path[512];
        tsr__weights *weights = NULL;
        tsr_error err = TSR_ERROR_INIT;
        (void)snprintf(path, sizeof path, "%s%s", CORPUS, BAD[i].file);
        tsr_status status = tsr__weights_open_any(&weights, path, &err);
        if (status != BAD[i].status || (BAD[i].says && !strstr(err.message, BAD[i].says)))
            fail_msg("%s: status %d (expected %d), \"%s\"", BAD[i].file, (int)status, (int)BAD[i].status, err.message);
        if (status != TSR_OK && (weights || strchr(err.message, '\n')))
            fail_msg("%s: \"%s\"", BAD[i].file, err.message);
        tsr__weights_close(weights);
    }
}

/* Every prefix of a good file ends in an error, not in weights. */
static void open_any__every_truncation_fails(void **state) {
    (void)state;
    static const char *const files[] = { "good", "good_old" };
    for (size_t i = 0; i < 2; i++) {
        char path[512];
        unsigned char bytes[4096];
        (void)snprintf(path, sizeof path, "%s%s", CORPUS, files[i]);
        FILE *file = fopen(path, "rb");
        assert_non_null(file);
        size_t size = fread(bytes, 1, sizeof bytes, file);
        (void)fclose(file);
        assert_in_range(size, 100, sizeof bytes - 1);
        for (size_t length = 0; length < size; length++) {
            unsigned char *copy = malloc(length + 1); /* its own block, so that a read too far is seen */
            assert_non_null(copy);
            memcpy(copy, bytes, length);
            tsr__weights *weights = NULL;
            assert_int_not_equal(tsr__weights_open_any_memory(&weights, copy, length, NULL), TSR_OK);
            free(copy);
        }
    }
}

static void open_any__opens_safetensors_too(void **state) {
    (void)state;
    tsr__weights *weights = NULL, *torch = NULL;
    assert_int_equal(tsr__weights_open_any(&weights, TSR_GOLDEN_DIR "/upscale_models/compact_x2.safetensors", NULL),
                     TSR_OK);
    assert_int_equal(tsr__weights_open_any(&torch, TSR_GOLDEN_DIR "/upscale_models/compact_x2.pth", NULL), TSR_OK);
    assert_int_equal(tsr__weights_count(weights), tsr__weights_count(torch));
    for (size_t i = 0; i < tsr__weights_count(torch); i++) {
        const tsr__tensor_view *a = tsr__weights_at(weights, i), *b = tsr__weights_at(torch, i);
        assert_string_equal(a->name, b->name);
        assert_int_equal(a->count, b->count);
        assert_memory_equal(a->data, b->data, a->count * sizeof(float));
    }
    tsr__weights_close(torch);
    tsr__weights_close(weights);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(open_any__reads_every_container),
        cmocka_unit_test(open_any__prefers_params_ema_and_joins_names),
        cmocka_unit_test(open_any__reads_an_embedding),
        cmocka_unit_test(open_any__reads_the_old_format),
        cmocka_unit_test(open_any__makes_strided_tensors_dense),
        cmocka_unit_test(open_any__reads_every_type),
        cmocka_unit_test(open_any__says_why_not),
        cmocka_unit_test(open_any__every_truncation_fails),
        cmocka_unit_test(open_any__opens_safetensors_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
