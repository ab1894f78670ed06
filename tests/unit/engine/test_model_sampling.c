/* test_model_sampling.c - what outputs mean and between which noise levels, and guidance that keeps its spread, against PyTorch
 * (tests/support/sampling_reference.py); and the engine's option. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "engine/engine_priv.h"
#include "golden_file.h"
#include "latent_pair.h"
#include "numbers.h"
#include "sample/rescale.h"
#include "sampling_expected.inc"

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        tsr_error err = TSR_ERROR_INIT;                                                                                \
        if ((call) != TSR_OK) fail_msg("%s", err.message);                                                             \
    } while (0)

enum { COUNT = 48, STEPS = 6, AT = 4 };
static const float SIGMAS[AT] = { 0.05f, 0.7f, 3.0f, 14.0f };
static const double PERCENTS[AT] = { 0.1, 0.25, 0.5, 0.9 };

/* Last digits of float32 logarithms differ between libraries; a timestep of a discrete table must not. */
static void expect_near(const char *what, const float *got, const float *want, int n, double relative) {
    for (int i = 0; i < n; i++)
        if (fabs((double)got[i] - (double)want[i]) > relative * fmax(fabs((double)want[i]), 1e-3))
            fail_msg("%s: value %d is %.9g, not %.9g", what, i, (double)got[i], (double)want[i]);
}

static void expect_scheduler(const tsr_sigma_table *table, const char *name, const float *want, int n) {
    float *sigmas = NULL;
    int count = 0;
    OK(tsr_schedule_sigmas(&sigmas, &count, table, name, STEPS, &err));
    assert_int_equal(count, n);
    expect_near(name, sigmas, want, n, 2e-5);
    tsr_free(sigmas);
}

#define LENGTH(list) (int)(sizeof list / sizeof *list)
#define EXPECT_TABLE(table, name, timestep_error)                                                                      \
    do {                                                                                                               \
        float steps[AT], percents[AT];                                                                                 \
        for (int i = 0; i < AT; i++) {                                                                                 \
            steps[i] = tsr_timestep_of_sigma(table, SIGMAS[i]);                                                        \
            percents[i] = tsr_sigma_of_percent(table, PERCENTS[i]);                                                    \
        }                                                                                                              \
        expect_near(#name " timestep", steps, name##_timesteps, AT, timestep_error);                                   \
        expect_near(#name " percent", percents, name##_percents, AT, 2e-5);                                            \
        expect_scheduler(table, "normal", name##_normal, LENGTH(name##_normal));                                       \
        expect_scheduler(table, "sgm_uniform", name##_sgm, LENGTH(name##_sgm));                                        \
        expect_scheduler(table, "simple", name##_simple, LENGTH(name##_simple));                                       \
        expect_scheduler(table, "ddim_uniform", name##_ddim, LENGTH(name##_ddim));                                     \
    } while (0)

/* The first values of each result, for every sigma. */
static void expect_denoised(const char *what, tsr__output_rule rule, double data, const tsr_sigma_table *table,
                            const float *want) {
    enum { SHOWN = 6 };
    const tsr__sampling sampling = { rule, data, table };
    float x[COUNT], out[COUNT], got[COUNT];
    numbers(x, "x", COUNT, 4.0, 0.0);
    numbers(out, "out", COUNT, 1.0, 0.0);
    for (int i = 0; i < AT; i++) {
        tsr__sampling_denoised(got, x, out, COUNT, SIGMAS[i], &sampling);
        expect_near(what, got, want + (ptrdiff_t)i * SHOWN, SHOWN, 2e-5);
    }
    tsr__sampling_input(got, x, COUNT, 3.0f, &sampling);
    for (int i = 0; i < COUNT; i++)
        assert_float_equal(got[i], rule == TSR__OUTPUT_IMAGE ? x[i] : x[i] / sqrtf(9.0f + (float)(data * data)), 1e-6f);
}

static void samplings__are_pytorch_s(void **state) {
    tsr_sigma_table *eps = NULL, *zero = NULL, *lcm = NULL, *edm = NULL, *angle = NULL;
    (void)state;
    OK(tsr__engine_new_table(&eps, 0, 0, &err));
    OK(tsr__engine_new_table(&zero, 0, 1, &err));
    OK(tsr__engine_new_table(&lcm, 1, 0, &err));
    OK(tsr_sigma_table_new_continuous(&edm, 0.002, 120.0, TSR_CONTINUOUS_EDM, &err));
    OK(tsr_sigma_table_new_continuous(&angle, 0.03, 500.0, TSR_CONTINUOUS_V, &err));
    assert_int_equal(tsr_sigma_table_count(lcm), 50);
    EXPECT_TABLE(eps, eps, 0.0);
    EXPECT_TABLE(zero, zero, 0.0);
    EXPECT_TABLE(lcm, lcm, 0.0);
    EXPECT_TABLE(edm, edm, 1e-5);
    EXPECT_TABLE(angle, angle, 1e-5);
    expect_denoised("eps", TSR__OUTPUT_EPS, 1.0, eps, eps_denoised);
    expect_denoised("v", TSR__OUTPUT_V, 1.0, zero, v_denoised);
    expect_denoised("lcm", TSR__OUTPUT_LCM, 1.0, lcm, lcm_denoised);
    expect_denoised("edm", TSR__OUTPUT_EDM, 0.5, edm, edm_denoised);
    expect_denoised("x0", TSR__OUTPUT_X0, 1.0, eps, x0_denoised);
    expect_denoised("img_to_img", TSR__OUTPUT_IMAGE, 1.0, eps, x0_denoised);
    tsr_sigma_table_free(eps);
    tsr_sigma_table_free(zero);
    tsr_sigma_table_free(lcm);
    tsr_sigma_table_free(edm);
    tsr_sigma_table_free(angle);
}

static void tables__of_wrong_ends_are_refused(void **state) {
    tsr_sigma_table *whole = NULL, *none = NULL;
    (void)state;
    assert_int_equal(tsr_sigma_table_new_continuous(&none, 0.0, 10.0, TSR_CONTINUOUS_EDM, NULL), TSR_BAD_ARGUMENT);
    assert_int_equal(tsr_sigma_table_new_continuous(&none, 10.0, 10.0, TSR_CONTINUOUS_V, NULL), TSR_BAD_ARGUMENT);
    OK(tsr__engine_new_table(&whole, 0, 0, &err));
    assert_int_equal(tsr_sigma_table_new_distilled(&none, whole, 1001, NULL), TSR_BAD_ARGUMENT);
    assert_int_equal(tsr_sigma_table_new_distilled(&none, whole, 1, NULL), TSR_BAD_ARGUMENT);
    assert_null(none);
    tsr_sigma_table_free(whole);
}

/* --- guidance ------------------------------------------------------------------------------------------------------------- */
static void rescale__is_pytorch_s(void **state) {
    enum { EACH = COUNT / 2 };
    const tsr_guide guide = { .cfg = 7.0f, .rescale = 0.7 };
    static const float sigmas[] = { 0.7f, 14.0f };
    float x[COUNT], positive[COUNT], negative[COUNT], got[COUNT];
    (void)state;
    numbers(x, "x", COUNT, 4.0, 0.0);
    numbers(positive, "positive", COUNT, 1.0, 0.0);
    numbers(negative, "negative", COUNT, 1.5, 0.0);
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < COUNT; i += EACH) /* each picture by its own spread */
            tsr__guide_rescaled(got + i, x + i, positive + i, negative + i, EACH, sigmas[k], &guide);
        expect_near("rescaled", got, rescale_07 + (ptrdiff_t)k * COUNT, COUNT, 1e-4);
    }
    memcpy(got, x, sizeof got); /* over its own input */
    tsr__guide_rescaled(got, got, positive, negative, EACH, 0.7f, &guide);
    expect_near("in place", got, rescale_07, EACH, 1e-4);
}

/* --- the engine --------------------------------------------------------------------------------------------------------------- */
static tsr_latent *paint(const char *prediction, const char *zsnr, double rescale, const char *sampler) {
    tsr_scene *scene = NULL;
    tsr_engine *engine = NULL;
    tsr_result *result = NULL;
    const char *const keys[][2] = { { "model", TSR_GOLDEN_DIR "/checkpoints/golden-sd1.safetensors" },
                                    { "precision", "f32" },
                                    { "prompt", "a cat" },
                                    { "width", "64" },
                                    { "height", "64" },
                                    { "steps", "4" },
                                    { "cfg", "5" },
                                    { "prediction", prediction },
                                    { "zsnr", zsnr },
                                    { "sampler", sampler } };
    char text[32];
    OK(tsr_scene_new(&scene, &err));
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) OK(tsr_scene_set(scene, keys[i][0], keys[i][1], &err));
    snprintf(text, sizeof text, "%g", rescale);
    OK(tsr_scene_set(scene, "rescale_cfg", text, &err));
    OK(tsr_engine_open_for(&engine, scene, &err));
    OK(tsr_engine_run(&result, engine, scene, NULL, &err));
    tsr_latent *latent = result->latent;
    result->latent = NULL;
    tsr_result_free(result);
    tsr_engine_close(engine);
    tsr_scene_free(scene);
    return latent;
}

/* What the file tells is eps without zero SNR; said outright it is the same bits, and anything else another picture. */
static void options__override_what_the_file_tells(void **state) {
    (void)state;
    assert_true(differ(paint("auto", "auto", 0.0, "euler"), paint("eps", "off", 0.0, "euler")) == 0.0);
    assert_true(differ(paint("auto", "auto", 0.0, "euler"), paint("v", "auto", 0.0, "euler")) > 0.05);
    assert_true(differ(paint("auto", "auto", 0.0, "euler"), paint("auto", "on", 0.0, "euler")) > 0.05);
    assert_true(differ(paint("auto", "auto", 0.0, "euler"), paint("x0", "auto", 0.0, "euler")) > 0.05);
    assert_true(differ(paint("auto", "auto", 0.0, "lcm"), paint("lcm", "auto", 0.0, "lcm")) > 0.05);
    assert_true(differ(paint("auto", "auto", 0.0, "euler"), paint("auto", "auto", 0.7, "euler")) > 0.01);
}

static tsr_status open_as(const char *model, const char *family, tsr_error *err) {
    tsr_engine *engine = NULL;
    tsr_engine_options options = TSR_ENGINE_OPTIONS_INIT;
    options.model = model;
    options.family = family;
    tsr_status status = tsr_engine_open(&engine, &options, err);
    tsr_engine_close(engine);
    return status;
}

static void family__is_held_against_the_weights(void **state) {
    static const char sd1[] = TSR_GOLDEN_DIR "/checkpoints/golden-sd1.safetensors",
                      sdxl[] = TSR_GOLDEN_DIR "/checkpoints/tiny-sdxl.safetensors";
    tsr_error why = TSR_ERROR_INIT;
    (void)state;
    assert_int_equal(open_as(sd1, "sd1", NULL), TSR_OK);
    assert_int_equal(open_as(sdxl, "sdxl", NULL), TSR_OK);
    assert_int_equal(open_as(sd1, "auto", NULL), TSR_OK);
    assert_int_equal(open_as(sd1, "sdxl", &why), TSR_UNSUPPORTED);
    if (!strstr(why.message, "golden-sd1.safetensors cannot be SDXL, its weights are those of SD1") ||
        strchr(why.message, '\n'))
        fail_msg("%s", why.message);
    assert_int_equal(open_as(sdxl, "sd2", NULL), TSR_UNSUPPORTED);
    assert_int_equal(open_as(sd1, "sd9", NULL), TSR_BAD_ARGUMENT);
}

/* --- stopping ---------------------------------------------------------------------------------------------------------------- */
/* Not before the decoding begins, and then between the blocks of the one picture. */
typedef struct patience {
    const tsr_engine *engine;
    int asked_with_vae, most;
} patience;

static int lose_patience(void *user) {
    patience *p = user;
    return p->engine->vae && ++p->asked_with_vae > p->most;
}

static tsr_status decode_with(patience *p, tsr_engine *engine) {
    const tsr_engine_callbacks callbacks = { .struct_size = sizeof callbacks, .user = p, .cancelled = lose_patience };
    tsr_latent *latent = NULL;
    tsr_image *image = NULL;
    OK(tsr_latent_new(&latent, 1, 4, 8, 8, &err));
    p->engine = engine;
    p->asked_with_vae = 0;
    engine->callbacks = &callbacks;
    tsr_status status = tsr_engine_decode(&image, engine, latent, 0, 0, NULL);
    engine->callbacks = NULL;
    tsr_image_free(image);
    tsr_latent_free(latent);
    return status;
}

static void decoding__can_be_stopped_within_a_picture(void **state) {
    tsr_engine *engine = NULL;
    tsr_engine_options options = TSR_ENGINE_OPTIONS_INIT;
    patience p = { .most = 1000 };
    (void)state;
    options.model = TSR_GOLDEN_DIR "/checkpoints/golden-sd1.safetensors";
    OK(tsr_engine_open(&engine, &options, &err));
    assert_int_equal(decode_with(&p, engine), TSR_OK);
    assert_true(p.asked_with_vae >= 6); /* not once a picture only */
    p.most = 3;
    assert_int_equal(decode_with(&p, engine), TSR_CANCELLED);
    p.most = 1000;
    assert_int_equal(decode_with(&p, engine), TSR_OK);
    tsr_engine_close(engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samplings__are_pytorch_s),
        cmocka_unit_test(tables__of_wrong_ends_are_refused),
        cmocka_unit_test(rescale__is_pytorch_s),
        cmocka_unit_test(options__override_what_the_file_tells),
        cmocka_unit_test(family__is_held_against_the_weights),
        cmocka_unit_test(decoding__can_be_stopped_within_a_picture),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
