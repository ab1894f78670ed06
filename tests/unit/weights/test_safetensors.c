/* Safetensors reading and writing: good files, hostile headers, other formats, and number conversion. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/memory.h"
#include "golden_file.h"
#include "weights/weights.h"

/* prefix + header + body in fresh memory of exactly that size, so that ASan sees every overrun. */
static unsigned char *make_file(size_t *size, const char *header, size_t body) {
    const size_t length = strlen(header);
    unsigned char *file = malloc(8 + length + body);
    assert_non_null(file);
    for (int i = 0; i < 8; i++) file[i] = (unsigned char)((uint64_t)length >> 8 * i & 0xff);
    memcpy(file + 8, header, length);
    memset(file + 8 + length, 0, body);
    *size = 8 + length + body;
    return file;
}

static void expect_bytes_refused(const void *data, size_t size, tsr_status expected, const char *part) {
    tsr__weights *weights = NULL;
    tsr_error err = TSR_ERROR_INIT;
    tsr_status status = tsr__weights_open_memory(&weights, data, size, &err);
    if (status != expected || !strstr(err.message, part))
        fail_msg("expected \"%s\", got %s: %s", part, tsr_status_name(status), err.message);
    assert_null(weights);
}

static void expect_refused(const char *header, size_t body, const char *part) {
    size_t size;
    unsigned char *file = make_file(&size, header, body);
    expect_bytes_refused(file, size, TSR_BAD_FORMAT, part);
    free(file);
}

#define ENTRY(name, dtype, shape, begin, end)                                                                          \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}"

static void open__reads_views_sorted_and_metadata(void **state) {
    (void)state;
    size_t size;
    unsigned char *file =
        make_file(&size,
                  "{\"__metadata__\":{\"format\":\"pt\"}," ENTRY("b", "F32", "[1,2]", "0", "8") "," ENTRY(
                      "a", "F16", "[3]", "8", "14") "," ENTRY("empty", "F32", "[0,7]", "14", "14") "}",
                  14);
    tsr__weights *weights = NULL;
    tsr_error err = TSR_ERROR_INIT;
    assert_int_equal(tsr__weights_open_memory(&weights, file, size, &err), TSR_OK);
    assert_int_equal(tsr__weights_count(weights), 3);
    assert_string_equal(tsr__weights_at(weights, 0)->name, "a");
    assert_null(tsr__weights_at(weights, 3));
    const tsr__tensor_view *view = tsr__weights_find(weights, "b");
    assert_non_null(view);
    assert_int_equal(view->rank, 2);
    assert_int_equal(view->shape[1], 2);
    assert_int_equal(view->count, 2);
    assert_ptr_equal(view->data, file + size - 14);
    assert_int_equal(tsr__weights_find(weights, "empty")->count, 0);
    assert_null(tsr__weights_find(weights, "c"));
    assert_string_equal(tsr__weights_metadata(weights, "format"), "pt");
    assert_null(tsr__weights_metadata(weights, "other"));
    tsr__weights_close(weights);
    tsr__weights_close(NULL);
    free(file);
}

static void open__refuses_hostile_headers(void **state) {
    (void)state;
    expect_refused("{" ENTRY("a", "F32", "[2]", "0", "8") "," ENTRY("b", "F32", "[2]", "4", "12") "}", 12, "overlap");
    expect_refused("{" ENTRY("a", "F32", "[2]", "0", "8") "," ENTRY("a", "F32", "[2]", "8", "16") "}", 16, "duplicate");
    expect_refused("{" ENTRY("a", "F32", "[2]", "0", "8") "}", 7, "truncated: tensor \"a\"");
    expect_refused("{" ENTRY("a", "F32", "[3]", "0", "8") "}", 8, "do not fit");
    expect_refused("{" ENTRY("a", "F32", "[2]", "8", "0") "}", 8, "backwards");
    expect_refused("{" ENTRY("a", "F32", "[2]", "-8", "0") "}", 8, "backwards");
    expect_refused("{" ENTRY("a", "F32", "[-2]", "0", "8") "}", 8, "not a count");
    expect_refused("{" ENTRY("a", "F32", "[1.5]", "0", "8") "}", 8, "not a count");
    expect_refused("{" ENTRY("a", "F32", "[4294967296,4294967296]", "0", "0") "}", 8, "overflows");
    expect_refused("{" ENTRY("a", "F64", "[2305843009213693952]", "0", "0") "}", 8, "overflows");
    expect_refused("{" ENTRY("a", "F32", "[99999999999999999999]", "0", "0") "}", 8, "bad header");
    expect_refused("{" ENTRY("a", "F32", "[2]", "0", "99999999999999999999") "}", 8, "bad header");
    expect_refused("{" ENTRY("a", "F32", "[2]", "9223372036854775807", "9223372036854775807") "}", 8, "truncated");
    expect_refused("{" ENTRY("a", "F32", "[1,1,1,1,1,1,1,1,1]", "0", "4") "}", 4, "at most 8");
    expect_refused("{" ENTRY("a", "F32", "3", "0", "4") "}", 4, "shape");
    expect_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "two integers");
    expect_refused("{\"a\":{\"dtype\":4,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "no dtype");
    expect_refused("{\"a\":7}", 4, "no dtype");
    expect_refused("{\"__metadata__\":{\"x\":1}}", 0, "not a text");
    expect_refused("{\"__metadata__\":[]}", 0, "not a JSON object");
    expect_refused("{\"a\\u0000b\":{}}", 0, "bad header");
    expect_refused("{\"a\":", 0, "bad header");
    expect_refused("[1,2]", 0, "does not start with");
}

static void open__refuses_deep_json(void **state) {
    (void)state;
    enum { DEPTH = 100000 };
    char *header = malloc(DEPTH * 5 + 1);
    assert_non_null(header);
    for (int i = 0; i < DEPTH; i++) memcpy(header + 5 * i, "{\"a\":", 5);
    header[DEPTH * 5] = 0;
    expect_refused(header, 0, "bad header");
    free(header);
}

static void open__names_other_formats(void **state) {
    (void)state;
    static const unsigned char huge[] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, '{', '}' };
    static const unsigned char longer[] = { 0x40, 0, 0, 0, 0, 0, 0, 0, '{', '}' };
    expect_bytes_refused("", 0, TSR_BAD_FORMAT, "empty");
    expect_bytes_refused("abc", 3, TSR_BAD_FORMAT, "truncated");
    expect_bytes_refused(huge, sizeof huge, TSR_BAD_FORMAT, "over 100 MiB");
    expect_bytes_refused(longer, sizeof longer, TSR_BAD_FORMAT, "truncated: header says 64 bytes, file has 10");
    expect_bytes_refused("PK\x03\x04 and a long rest", 22, TSR_BAD_FORMAT, "PyTorch");
    expect_bytes_refused("\x80\x02}q\x01X....................", 26, TSR_BAD_FORMAT, "pickle");
    expect_bytes_refused("GGUF\x03...................", 24, TSR_BAD_FORMAT, "GGUF");
    expect_bytes_refused("\n<!DOCTYPE html><html>", 22, TSR_BAD_FORMAT, "web page");
    const char *pointer = "version somewhere/git-lfs/spec/v1\noid sha256:0\n";
    expect_bytes_refused(pointer, strlen(pointer), TSR_BAD_FORMAT, "git-lfs");
    size_t size;
    unsigned char *file = make_file(&size, "{" ENTRY("a", "X9", "[1]", "0", "4") "}", 4);
    expect_bytes_refused(file, size, TSR_UNSUPPORTED, "unknown dtype \"X9\"");
    free(file);
}

static void open__every_truncation_of_a_good_file_is_refused(void **state) {
    (void)state;
    size_t size;
    unsigned char *file = make_file(&size, "{" ENTRY("a", "F32", "[2]", "0", "8") "}", 8);
    for (size_t cut = 0; cut < size; cut++) {
        unsigned char *part = malloc(cut + 1);
        assert_non_null(part);
        memcpy(part, file, cut);
        tsr__weights *weights = NULL;
        assert_int_equal(tsr__weights_open_memory(&weights, part, cut, NULL), TSR_BAD_FORMAT);
        free(part);
    }
    free(file);
}

static void open__says_which_file_is_missing(void **state) {
    (void)state;
    tsr__weights *weights = NULL;
    tsr_error err = TSR_ERROR_INIT;
    assert_int_equal(tsr__weights_open(&weights, "/no/such.safetensors", &err), TSR_NOT_FOUND);
    assert_non_null(strstr(err.message, "/no/such.safetensors"));
    tsr_error directory = TSR_ERROR_INIT;
    assert_int_equal(tsr__weights_open(&weights, "/tmp", &directory), TSR_IO);
    assert_non_null(strstr(directory.message, "regular file"));
}

static void save__comes_back_the_same(void **state) {
    (void)state;
    char path[] = "/tmp/tsr_safetensors_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    enum { COUNT = 100000 }; /* several pages, for release_pages */
    float *values = malloc(COUNT * sizeof *values);
    assert_non_null(values);
    for (int i = 0; i < COUNT; i++) values[i] = (float)i * 0.5f;
    const uint16_t halves[2] = { 0x3c00, 0xc000 };
    const tsr__tensor_out tensors[] = {
        { "z", TSR_DTYPE_F32, 2, { COUNT / 10, 10 }, values },
        { "a \"quoted\" \xc3\xa9", TSR_DTYPE_F16, 1, { 2 }, halves },
        { "none", TSR_DTYPE_F32, 1, { 0 }, NULL },
    };
    const char *const metadata[] = { "k", "v", NULL };
    tsr_error err = TSR_ERROR_INIT;
    assert_int_equal(tsr__safetensors_save(path, tensors, 3, metadata, &err), TSR_OK);

    tsr__weights *weights = NULL;
    assert_int_equal(tsr__weights_open(&weights, path, &err), TSR_OK);
    assert_string_equal(tsr__weights_path(weights), path);
    assert_string_equal(tsr__weights_metadata(weights, "k"), "v");
    const tsr__tensor_view *z = tsr__weights_find(weights, "z");
    assert_non_null(z);
    assert_int_equal((uintptr_t)z->data % 8, 0);
    assert_memory_equal(z->data, values, COUNT * sizeof *values);
    tsr__weights_release_pages(weights, z);
    assert_memory_equal(z->data, values, COUNT * sizeof *values);
    float two[2];
    assert_int_equal(tsr__tensor_to_f32(tsr__weights_find(weights, tensors[1].name), two, &err), TSR_OK);
    assert_true(two[0] == 1.0f && two[1] == -2.0f);
    tsr__weights_close(weights);

    const tsr__tensor_out twice[] = { tensors[0], tensors[0] };
    tsr_error again = TSR_ERROR_INIT;
    assert_int_equal(tsr__safetensors_save(path, twice, 2, NULL, &again), TSR_BAD_ARGUMENT);
    unlink(path);
    free(values);
}

/* The definition, in double arithmetic. */
static double half_by_definition(unsigned half) {
    const double sign = half & 0x8000u ? -1.0 : 1.0;
    const int exponent = (int)(half >> 10 & 31), mantissa = (int)(half & 1023);
    if (exponent == 31) return mantissa ? NAN : sign * INFINITY;
    return sign * (exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24));
}

static void f16__all_values_follow_the_definition(void **state) {
    (void)state;
    uint16_t *halves = malloc(65536 * sizeof *halves);
    float *out = malloc(65536 * sizeof *out);
    assert_true(halves && out);
    for (unsigned i = 0; i < 65536; i++) halves[i] = (uint16_t)i;
    tsr__f16_to_f32(out, halves, 65536);
    for (unsigned i = 0; i < 65536; i++) {
        const double expected = half_by_definition(i);
        if (isnan(expected)) assert_true(isnan(out[i]));
        else assert_true((double)out[i] == expected && !signbit(out[i]) == !(i & 0x8000u));
    }
    free(out);
    free(halves);
}

static void to_f32__converts_each_float_type(void **state) {
    (void)state;
    static const unsigned char bytes[] = { 0x38, 0xb8, 0x7e, 0x01, 0x7f };
    static const uint16_t bf16[] = { 0x3f80, 0xc000, 0x7f80 };
    static const double f64[] = { 1.5, -2.25 };
    float out[5];
    tsr_error err = TSR_ERROR_INIT;
    tsr__tensor_view view = { "t", TSR_DTYPE_F8_E4M3, 1, { 5 }, 5, bytes, 0 };
    assert_int_equal(tsr__tensor_to_f32(&view, out, &err), TSR_OK);
    assert_true(out[0] == 1.0f && out[1] == -1.0f && out[2] == 448.0f && out[3] == ldexpf(1, -9) && isnan(out[4]));
    view = (tsr__tensor_view){ "t", TSR_DTYPE_F8_E5M2, 1, { 1 }, 1, "\x3c", 0 };
    assert_int_equal(tsr__tensor_to_f32(&view, out, &err), TSR_OK);
    assert_true(out[0] == 1.0f);
    view = (tsr__tensor_view){ "t", TSR_DTYPE_BF16, 1, { 3 }, 3, bf16, 0 };
    assert_int_equal(tsr__tensor_to_f32(&view, out, &err), TSR_OK);
    assert_true(out[0] == 1.0f && out[1] == -2.0f && isinf(out[2]));
    view = (tsr__tensor_view){ "t", TSR_DTYPE_F64, 1, { 2 }, 2, f64, 0 };
    assert_int_equal(tsr__tensor_to_f32(&view, out, &err), TSR_OK);
    assert_true(out[0] == 1.5f && out[1] == -2.25f);
    view = (tsr__tensor_view){ "t", TSR_DTYPE_I64, 1, { 1 }, 1, f64, 0 };
    assert_int_equal(tsr__tensor_to_f32(&view, out, &err), TSR_UNSUPPORTED);
}

/* The independent reader of tests/support must see the same values. */
static void open__agrees_with_the_golden_reader(void **state) {
    (void)state;
    tsr__weights *weights = NULL;
    tsr_error err = TSR_ERROR_INIT;
    golden_file *golden = golden_open("networks.safetensors");
    assert_int_equal(tsr__weights_open(&weights, TSR_GOLDEN_DIR "/networks.safetensors", &err), TSR_OK);
    assert_int_equal(tsr__weights_count(weights), golden_count(golden));
    for (size_t i = 0; i < golden_count(golden); i++) {
        golden_tensor tensor = golden_get(golden, "%s", golden_name(golden, i));
        const tsr__tensor_view *view = tsr__weights_find(weights, golden_name(golden, i));
        assert_non_null(view);
        assert_int_equal(view->count, tensor.count);
        if (view->dtype == TSR_DTYPE_F32) assert_memory_equal(view->data, tensor.data, tensor.count * sizeof(float));
    }
    tsr__weights_close(weights);
    golden_close(golden);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(open__reads_views_sorted_and_metadata),
        cmocka_unit_test(open__refuses_hostile_headers),
        cmocka_unit_test(open__refuses_deep_json),
        cmocka_unit_test(open__names_other_formats),
        cmocka_unit_test(open__every_truncation_of_a_good_file_is_refused),
        cmocka_unit_test(open__says_which_file_is_missing),
        cmocka_unit_test(save__comes_back_the_same),
        cmocka_unit_test(f16__all_values_follow_the_definition),
        cmocka_unit_test(to_f32__converts_each_float_type),
        cmocka_unit_test(open__agrees_with_the_golden_reader),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
