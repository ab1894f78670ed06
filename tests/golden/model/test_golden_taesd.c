/* TAESD against PyTorch (tests/golden/make_taesd_numbers.py): both halves, opened as their pair of files, in f32 and bf16. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "golden_file.h"
#include "model/model.h"
#include "weights/model_open.h"

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        tsr_error err = TSR_ERROR_INIT;                                                                                \
        if ((call) != TSR_OK) fail_msg("%s", err.message);                                                             \
    } while (0)
#define FOLDER TSR_GOLDEN_DIR "/taesd"

typedef struct fixture {
    tsr__nn *nn;
    tsr__weights *weights;
    tsr__vae *vae;
    golden_file *golden;
} fixture;

static void open_fixture(fixture *f, tsr__precision precision) {
    tsr__nn_options options = { precision, 2 };
    tsr__model_files files = { .vae = FOLDER "/taesd_decoder.safetensors" };
    OK(tsr__nn_new(&f->nn, &options, &err));
    OK(tsr__model_open(&f->weights, &files, &err));
    OK(tsr__vae_new(&f->vae, f->nn, f->weights, "first_stage_model.", NULL, &err));
    f->golden = golden_open("taesd/expected.safetensors");
}

static void close_fixture(fixture *f) {
    tsr__vae_free(f->vae);
    tsr__weights_close(f->weights);
    tsr__nn_free(f->nn);
    golden_close(f->golden);
}

static void compare(const char *what, const float *got, golden_tensor want, double relative) {
    double worst = max_abs_diff(got, want.data, want.count) / max_abs(want.data, want.count);
    print_message("%s: worst %.2e\n", what, worst);
    if (!(worst <= relative)) fail_msg("%s differs by %g of the largest", what, worst);
}

static void compare_both(tsr__precision precision, double relative) {
    fixture f;
    open_fixture(&f, precision);
    assert_true(tsr__vae_is_tiny(f.vae));
    assert_int_equal(tsr__vae_latent_channels(f.vae), 4);
    assert_int_equal(tsr__vae_factor(f.vae), 8);
    golden_tensor latent = golden_get(f.golden, "latent"), decoded = golden_get(f.golden, "decoded");
    golden_tensor image = golden_get(f.golden, "image"), encoded = golden_get(f.golden, "encoded");
    float *rgb = calloc(decoded.count, sizeof *rgb), *cells = calloc(encoded.count, sizeof *cells);
    assert_non_null(rgb);
    assert_non_null(cells);
    OK(tsr__vae_decode(f.vae, rgb, latent.data, 1, (int)latent.shape[2], (int)latent.shape[3], 0, &err));
    compare("decoded", rgb, decoded, relative);
    OK(tsr__vae_encode(f.vae, cells, image.data, 1, (int)image.shape[1], (int)image.shape[2], 0, &err));
    compare("encoded", cells, encoded, relative);
    assert_true(tsr__nn_peak_bytes(f.nn) > 0);
    free(rgb);
    free(cells);
    close_fixture(&f);
}

static void taesd__equals_pytorch(void **state) {
    (void)state;
    compare_both(TSR__F32, 1e-4);
}

static void taesd__equals_pytorch_roughly_in_bf16(void **state) {
    (void)state;
    if (!tsr__nn_has_bf16()) skip();
    compare_both(TSR__BF16, 0.05);
}

/* Tiles go through the same calls as a whole VAE's. */
static void taesd__decodes_in_tiles(void **state) {
    enum { H = 12, W = 10, PIXELS = H * W * 64 };
    fixture f;
    float latent[4 * H * W], *whole = calloc(PIXELS * 3, sizeof *whole), *tiled = calloc(PIXELS * 3, sizeof *tiled);
    (void)state;
    open_fixture(&f, TSR__F32);
    for (int i = 0; i < 4 * H * W; i++) latent[i] = (float)(i % 13) - 6.0f;
    OK(tsr__vae_decode(f.vae, whole, latent, 1, H, W, 0, &err));
    OK(tsr__vae_decode_tiles(f.vae, tiled, latent, 1, H, W, (tsr__vae_tiles){ 64, 24 }, &err));
    double spread = rms_diff(tiled, whole, PIXELS * 3);
    print_message("tiles against the whole: rms %.3g\n", spread);
    assert_true(spread > 0.0 && spread < 0.05); /* borders of tiles see zeros */
    free(whole);
    free(tiled);
    close_fixture(&f);
}

/* The bound on activations holds what a decode took, and not many times that. */
static void taesd__says_what_a_decode_takes(void **state) {
    enum { SIDE = 64 };
    fixture f;
    float *latent = calloc(4 * SIDE * SIDE, sizeof *latent), *rgb = calloc(SIDE * SIDE * 64 * 3, sizeof *rgb);
    (void)state;
    open_fixture(&f, TSR__F32);
    size_t said = tsr__vae_decode_bytes(f.vae, SIDE, SIDE);
    OK(tsr__vae_decode(f.vae, rgb, latent, 1, SIDE, SIDE, 0, &err));
    print_message("said %zu, took %zu\n", said, tsr__nn_peak_bytes(f.nn));
    assert_true(tsr__nn_peak_bytes(f.nn) < 2 * said);
    assert_true(said < 2 * tsr__nn_peak_bytes(f.nn));
    free(latent);
    free(rgb);
    close_fixture(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(taesd__equals_pytorch),
        cmocka_unit_test(taesd__equals_pytorch_roughly_in_bf16),
        cmocka_unit_test(taesd__decodes_in_tiles),
        cmocka_unit_test(taesd__says_what_a_decode_takes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
