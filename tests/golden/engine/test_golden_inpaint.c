/* Inpainting networks (9 channels in) against PyTorch code of their own, make_inpaint_numbers.py: evaluations with the mask and
 * picture of the run, with a conditioning's own, with none, on a part of the canvas; and sampler runs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/engine_priv.h"
#include "golden_file.h"
#include "inpaint_file.h"
#include "tessera/tessera.h"

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        tsr_error err = TSR_ERROR_INIT;                                                                                \
        if ((call) != TSR_OK) fail_msg("%s", err.message);                                                             \
    } while (0)

enum { H = 12, W = 16, PLANE = H * W, COUNT = 2 * 4 * PLANE };
static const char *const prompts[2][2] = { { "a (red:1.3) house, blue sky", "" },
                                           { "a (red:1.3) house on a hill, blue sky", "" } };
static const struct {
    const char *tag, *file, *kind;
} families[2] = { { "sd1", "golden-sd1", "SD1" }, { "sdxl", "tiny-sdxl", "SDXL" } };

typedef struct fixture {
    int family;
    char path[64], plain[256];
    tsr_engine *engine;
    const tsr_denoiser *denoiser;
    golden_file *golden;
    float x[COUNT], picture[COUNT], mask[2 * PLANE];
    const void *conds[2];
} fixture;

static tsr_engine *open_model(const char *path) {
    tsr_engine *engine = NULL;
    tsr_engine_options options = TSR_ENGINE_OPTIONS_INIT;
    options.model = path;
    options.precision = TSR_PRECISION_F32;
    OK(tsr_engine_open(&engine, &options, &err));
    return engine;
}

static void open_fixture(fixture *f, int family, double scale) {
    memset(f, 0, sizeof *f);
    f->family = family;
    snprintf(f->path, sizeof f->path, "/tmp/tsr_inpaint_%d.safetensors", (int)getpid());
    snprintf(f->plain, sizeof f->plain, TSR_GOLDEN_DIR "/checkpoints/%s.safetensors", families[family].file);
    widen_checkpoint(f->path, families[family].file, 5, scale);
    f->engine = open_model(f->path);
    f->golden = golden_open("inpaint/expected.safetensors");
    OK(tsr_engine_denoiser(&f->denoiser, f->engine, &err));
    for (int i = 0; i < 2; i++) OK(tsr_engine_encode_prompt(&f->conds[i], f->engine, prompts[family][i], 0, &err));
    numbers(f->x, "x", COUNT, 4.0, 0.0);
    numbers(f->picture, "picture", COUNT, 1.0, 0.0);
    numbers(f->mask, "mask", 2 * PLANE, 0.5, 0.5);
}

static void close_fixture(fixture *f) {
    golden_close(f->golden);
    tsr_engine_close(f->engine);
    unlink(f->path);
}

static void compare(const fixture *f, const char *name, const float *got, double most) {
    golden_tensor want = golden_get(f->golden, "%s/%s", families[f->family].tag, name);
    double worst = max_abs_diff(got, want.data, want.count) / max_abs(want.data, want.count);
    print_message("%s/%s worst %.2e\n", families[f->family].tag, name, worst);
    if (!(worst <= most)) fail_msg("%s differs", name);
}

static void evaluate(const fixture *f, float *out, const tsr_start_picture *start, const tsr_latent *concat) {
    const int shape[4] = { 2, 4, H, W };
    tsr__conditioning *cond = (tsr__conditioning *)(uintptr_t)f->conds[0];
    tsr_denoise_call call = { .x = f->x, .sigma = 3.7f, .cond = cond, .denoised = out, .start = start };
    cond->concat = concat;
    OK(f->denoiser->denoise(f->denoiser->user, shape, &call, 1, &err));
    cond->concat = NULL;
}

/* A picture of 14x9, as a conditioning may bring it, and three masks of 90x100: of other proportions than the canvas. */
static tsr_latent *given_picture(void) {
    tsr_latent *given = NULL;
    OK(tsr_latent_new(&given, 1, 4, 9, 14, &err));
    numbers(given->values, "other", 4 * 9 * 14, 1.0, 0.0);
    OK(tsr_mask_new(&given->noise_mask, 90, 100, 0.0f, &err));
    free(given->noise_mask->values);
    given->noise_mask->values = malloc(sizeof(float) * 3 * 90 * 100);
    assert_non_null(given->noise_mask->values);
    given->noise_mask->count = 3;
    numbers(given->noise_mask->values, "large", 3 * 90 * 100, 0.5, 0.5);
    return given;
}

static void evaluate_part(const fixture *f, float *out, const tsr_start_picture *start) {
    enum { SIDE = 8, TOP = 2, LEFT = 4 };
    float part[2 * 4 * SIDE * SIDE];
    const int shape[4] = { 2, 4, SIDE, SIDE };
    for (int p = 0; p < 8; p++)
        for (int y = 0; y < SIDE; y++)
            memcpy(part + (p * SIDE + y) * SIDE, f->x + p * PLANE + (y + TOP) * W + LEFT, SIDE * sizeof *part);
    tsr_denoise_call call = { .x = part,
                              .sigma = 3.7f,
                              .cond = f->conds[0],
                              .denoised = out,
                              .start = start,
                              .start_left = LEFT,
                              .start_top = TOP };
    OK(f->denoiser->denoise(f->denoiser->user, shape, &call, 1, &err));
}

static void evaluations(int family) {
    fixture f;
    float out[COUNT];
    open_fixture(&f, family, 0.25);
    assert_string_equal(tsr_engine_get_info(f.engine).kind, families[family].kind);
    const tsr_start_picture start = { W, H, f.picture, f.mask }, unmasked = { W, H, f.picture, NULL };
    tsr_latent *given = given_picture();
    evaluate(&f, out, &start, NULL);
    compare(&f, "of_the_run", out, 2e-4);
    evaluate(&f, out, &start, given); /* its own counts, not the run's */
    compare(&f, "given", out, 2e-4);
    evaluate(&f, out, &unmasked, NULL);
    compare(&f, "blank", out, 2e-4);
    evaluate(&f, out, NULL, NULL);
    compare(&f, "blank", out, 2e-4);
    evaluate_part(&f, out, &start);
    compare(&f, "part", out, 2e-4);
    tsr_latent_free(given);
    close_fixture(&f);
}

static void sd1__evaluations_equal_the_reference(void **state) {
    (void)state;
    evaluations(0);
}

static void sdxl__evaluations_equal_the_reference(void **state) {
    (void)state;
    evaluations(1);
}

static tsr_latent *sample(const tsr_guide *guide, double denoise, int masked) {
    tsr_latent *start = NULL, *out = NULL;
    tsr_ksampler_options options = TSR_KSAMPLER_OPTIONS_INIT;
    OK(tsr_latent_new(&start, 1, 4, H, W, &err));
    numbers(start->values, "latent", 4 * PLANE, 5.0, 0.0);
    if (masked) {
        OK(tsr_mask_new(&start->noise_mask, W, H, 0.0f, &err));
        numbers(start->noise_mask->values, "mask", PLANE, 0.5, 0.5);
    }
    options.steps = 5;
    options.seed = 17;
    options.denoise = denoise;
    OK(tsr_ksampler(&out, start, guide, &options, &err));
    tsr_latent_free(start);
    return out;
}

static void runs(int family) {
    fixture f;
    open_fixture(&f, family, 0.25);
    tsr_guide guide = { .denoiser = f.denoiser, .positive = f.conds[0], .negative = f.conds[1], .cfg = 4.0f };
    tsr_latent *whole = sample(&guide, 1.0, 1), *late = sample(&guide, 0.6, 1);
    compare(&f, "euler", whole->values, 1e-3);
    compare(&f, "euler_0.6", late->values, 1e-3);
    tsr_latent_free(whole);
    tsr_latent_free(late);
    close_fixture(&f);
}

static void sd1__runs_equal_the_reference(void **state) {
    (void)state;
    runs(0);
}

static void sdxl__runs_equal_the_reference(void **state) {
    (void)state;
    runs(1);
}

/* New weights of zero: the model it was made of, to the last bits of a sum. */
static void zero_weights__are_the_plain_model(void **state) {
    (void)state;
    fixture f;
    tsr_guide plain = { .cfg = 4.0f };
    open_fixture(&f, 0, 0.0);
    tsr_engine *engine = open_model(f.plain);
    OK(tsr_engine_denoiser(&plain.denoiser, engine, &err));
    OK(tsr_engine_encode_prompt(&plain.positive, engine, prompts[0][0], 0, &err));
    OK(tsr_engine_encode_prompt(&plain.negative, engine, prompts[0][1], 0, &err));
    tsr_guide guide = { .denoiser = f.denoiser, .positive = f.conds[0], .negative = f.conds[1], .cfg = 4.0f };
    for (int masked = 0; masked < 2; masked++) {
        tsr_latent *want = sample(&plain, 1.0, masked), *got = sample(&guide, 1.0, masked);
        double worst = max_abs_diff(got->values, want->values, 4 * PLANE) / max_abs(want->values, 4 * PLANE);
        print_message("masked %d: %.2e\n", masked, worst);
        assert_true(worst < 1e-5);
        tsr_latent_free(want);
        tsr_latent_free(got);
    }
    tsr_engine_close(engine);
    close_fixture(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sd1__evaluations_equal_the_reference), cmocka_unit_test(sdxl__evaluations_equal_the_reference),
        cmocka_unit_test(sd1__runs_equal_the_reference),        cmocka_unit_test(sdxl__runs_equal_the_reference),
        cmocka_unit_test(zero_weights__are_the_plain_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
