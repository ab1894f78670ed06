/* Upscale models against the reference, in every container and key style; in bf16 loosely. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "golden_file.h"
#include "upscale/upscale_model.h"
#include "weights/pth.h"

static const struct {
    const char *file, *expected;
    int scale;
    const char *name;
} CASES[] = {
    { "rrdb_x4.safetensors", "rrdb_x4", 4, "RRDBNet 4x, 16 features, 2 blocks" },
    { "rrdb_x4_old_names.pth", "rrdb_x4", 4, "RRDBNet 4x, 16 features, 2 blocks" },
    { "rrdb_x4_old_zipless.pth", "rrdb_x4", 4, "RRDBNet 4x, 16 features, 2 blocks" },
    { "rrdb_x4_realesrgan.pth", "rrdb_x4", 4, "RRDBNet 4x, 16 features, 2 blocks" },
    { "rrdb_x2.safetensors", "rrdb_x2", 2, "RRDBNet 2x, 16 features, 2 blocks" },
    { "compact_x2.safetensors", "compact_x2", 2, "SRVGGNetCompact 2x, 16 features, 6 convolutions" },
    { "compact_x2.pth", "compact_x2", 2, "SRVGGNetCompact 2x, 16 features, 6 convolutions" },
    { "compact_x4.safetensors", "compact_x4", 4, NULL },
    { "compact_x4.pth", "compact_x4", 4, NULL },
};
enum { CASE_COUNT = (int)(sizeof CASES / sizeof *CASES) };

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        tsr_error err = TSR_ERROR_INIT;                                                                                \
        if ((call) != TSR_OK) fail_msg("%s", err.message);                                                             \
    } while (0)

/* [1, 3, h, w] to [h, w, 3]; release with free(). */
static float *to_nhwc(golden_tensor t) {
    const size_t pixels = t.shape[2] * t.shape[3];
    float *out = malloc(t.count * sizeof *out);
    assert_non_null(out);
    for (size_t i = 0; i < pixels; i++)
        for (size_t c = 0; c < 3; c++) out[i * 3 + c] = t.data[c * pixels + i];
    return out;
}

static void run_case(tsr__nn *nn, golden_file *golden, int i, double tolerance) {
    char path[512];
    tsr__weights *weights;
    tsr__upscale_model *model;
    golden_tensor in = golden_get(golden, "input"), want = golden_get(golden, "%s", CASES[i].expected);
    const int h = (int)in.shape[2], w = (int)in.shape[3];
    (void)snprintf(path, sizeof path, "%s/upscale_models/%s", TSR_GOLDEN_DIR, CASES[i].file);
    OK(tsr__weights_open_any(&weights, path, &err));
    OK(tsr__upscale_model_open(&model, nn, weights, &err));
    tsr__weights_close(weights);
    assert_int_equal(tsr__upscale_model_scale(model), CASES[i].scale);
    if (CASES[i].name) assert_string_equal(tsr__upscale_model_name(model), CASES[i].name);

    float *rgb = to_nhwc(in), *expected = to_nhwc(want), *out = calloc(want.count, sizeof *out);
    assert_non_null(out);
    OK(tsr__upscale_model_forward(model, out, rgb, h, w, &err));
    double worst = max_abs_diff(out, expected, want.count);
    print_message("%-26s max %.2e of %.2f\n", CASES[i].file, worst, max_abs(expected, want.count));
    if (!(worst <= tolerance)) fail_msg("%s: off by %g", CASES[i].file, worst);

    /* the same through run: whole, so only clamped */
    OK(tsr__upscale_model_run(model, out, rgb, 1, h, w, TSR__UPSCALE_TILE, TSR__UPSCALE_OVERLAP, NULL, NULL, &err));
    for (size_t k = 0; k < want.count; k++) expected[k] = expected[k] < 0 ? 0 : expected[k] > 1 ? 1 : expected[k];
    assert_true(max_abs_diff(out, expected, want.count) <= tolerance);
    free(rgb);
    free(expected);
    free(out);
    tsr__upscale_model_free(model);
}

static void run_all(tsr__precision precision, double tolerance) {
    tsr__nn *nn;
    const tsr__nn_options options = { precision, 0 };
    golden_file *golden = golden_open("upscale_models/expected.safetensors");
    OK(tsr__nn_new(&nn, &options, &err));
    for (int i = 0; i < CASE_COUNT; i++) run_case(nn, golden, i, tolerance);
    tsr__nn_free(nn);
    golden_close(golden);
}

static void forward__matches_the_reference_in_every_container(void **state) {
    (void)state;
    run_all(TSR__F32, 1e-4);
}

static void forward__stays_near_the_reference_in_bf16(void **state) {
    (void)state;
    if (!tsr__nn_has_bf16()) skip();
    run_all(TSR__BF16, 0.15);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forward__matches_the_reference_in_every_container),
        cmocka_unit_test(forward__stays_near_the_reference_in_bf16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
