/* Regions with checkpoints of their own on one canvas. The second model is the shipped one with two layers turned over: one
 * of the network's, one of the text encoder's, so that both must be its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "golden_file.h"
#include "tessera/tessera.h"
#include "whole_file.h"

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        tsr_error err = TSR_ERROR_INIT;                                                                                \
        if ((call) != TSR_OK) fail_msg("%s", err.message);                                                             \
    } while (0)

enum { SIDE = 8, PLANE = SIDE * SIDE, COUNT = 4 * PLANE, STEPS = 4 };
static const char *const left = "a cat face on grass field", *const right = "a house on grass field";

static tsr_engine *engine; /* the shipped model */
static tsr_engine *alone;  /* the second one, as the engine of a picture */
static char second[64], link_to_first[64], broken[64];

/* --- the second checkpoint ---------------------------------------------------------------------------------------------- */
/* Changes the sign of every value of an F16 tensor. */
static void turn_over(unsigned char *data, const char *name) {
    uint64_t header = 0;
    memcpy(&header, data, sizeof header);
    json_t *all = json_loadb((const char *)data + 8, header, 0, NULL), *entry = json_object_get(all, name);
    assert_non_null(entry);
    assert_string_equal(json_string_value(json_object_get(entry, "dtype")), "F16");
    json_t *offsets = json_object_get(entry, "data_offsets");
    json_int_t from = json_integer_value(json_array_get(offsets, 0)),
               to = json_integer_value(json_array_get(offsets, 1));
    for (json_int_t i = from; i < to; i += 2) data[8 + header + (uint64_t)i + 1] ^= 0x80;
    json_decref(all);
}

static void make_second(const char *first) {
    size_t size = 0;
    unsigned char *data = read_whole(first, &size);
    turn_over(data, "model.diffusion_model.out.2.weight");
    turn_over(data, "cond_stage_model.transformer.text_model.final_layer_norm.weight");
    write_whole(second, data, size);
    write_whole(broken, data, size / 2);
    free(data);
}

/* --- scenes ---------------------------------------------------------------------------------------------------------------- */
static tsr_scene *scene_of(const char *steps) {
    tsr_scene *scene = NULL;
    OK(tsr_scene_new(&scene, &err));
    OK(tsr_scene_set(scene, "prompt", "grass field", &err));
    OK(tsr_scene_set(scene, "steps", steps, &err));
    OK(tsr_scene_set(scene, "width", "64", &err));
    OK(tsr_scene_set(scene, "height", "64", &err));
    OK(tsr_scene_set(scene, "overlap", "0", &err));
    return scene;
}

static void add(tsr_scene *scene, const char *box, const char *prompt, const char *model) {
    int index = -1;
    OK(tsr_scene_add_region(scene, &index, &err));
    OK(tsr_scene_set_region(scene, index, "box", box, &err));
    OK(tsr_scene_set_region(scene, index, "prompt", prompt, &err));
    if (model) OK(tsr_scene_set_region(scene, index, "model", model, &err));
}

/* The first model on the left, the second on the right. */
static tsr_scene *both(const char *steps) {
    tsr_scene *scene = scene_of(steps);
    add(scene, "0:0:50%:100%", left, NULL);
    add(scene, "50%:0:50%:100%", right, second);
    return scene;
}

static tsr_result *run(tsr_engine *with, tsr_scene *scene) {
    tsr_result *result = NULL;
    OK(tsr_engine_run(&result, with, scene, NULL, &err));
    tsr_scene_free(scene);
    return result;
}

static void expect_half(const float *a, const float *b, int from, const char *what) {
    for (int i = 0; i < COUNT; i++)
        if (i % SIDE >= from && i % SIDE < from + SIDE / 2 && memcmp(&a[i], &b[i], sizeof *a) != 0)
            fail_msg("%s: value %d is %.9g, alone %.9g", what, i, (double)a[i], (double)b[i]);
}

/* One step from the same noise: each half is what its model paints alone with its region everywhere, bit for bit. */
static void models__each_side_is_its_own_models(void **state) {
    (void)state;
    tsr_scene *scene = scene_of("1");
    tsr_result *two = run(engine, both("1"));
    add(scene, "0:0:100%:100%", left, NULL);
    tsr_result *first = run(engine, scene);
    scene = scene_of("1");
    add(scene, "0:0:100%:100%", right, NULL);
    tsr_result *other = run(alone, scene);
    expect_half(two->latent->values, first->latent->values, 0, "left");
    expect_half(two->latent->values, other->latent->values, SIDE / 2, "right");
    assert_string_equal(tsr_scene_get_region(two->scene, 1, "model"), second);
    tsr_result_free(two);
    tsr_result_free(first);
    tsr_result_free(other);
}

/* The guided prediction of one engine for a prompt. */
static void predict(float *out, tsr_engine *with, const char *prompt, const float *x, float sigma) {
    static const int shape[4] = { 1, 4, SIDE, SIDE };
    const tsr_denoiser *denoiser = NULL;
    const void *positive = NULL, *negative = NULL;
    float yes[COUNT], no[COUNT];
    OK(tsr_engine_denoiser(&denoiser, with, &err));
    OK(tsr_engine_encode_prompt(&positive, with, prompt, 1, &err));
    OK(tsr_engine_encode_prompt(&negative, with, "", 1, &err));
    tsr_denoise_call calls[2] = { { .x = x, .sigma = sigma, .cond = positive, .denoised = yes },
                                  { .x = x, .sigma = sigma, .cond = negative, .denoised = no } };
    OK(denoiser->denoise(denoiser->user, shape, calls, 2, &err));
    for (int i = 0; i < COUNT; i++) out[i] = no[i] + (yes[i] - no[i]) * 4.0f;
}

/* Several steps equal Euler's method written out, with both models on one canvas. */
static void models__share_a_canvas_step_by_step(void **state) {
    static const int shape[4] = { 1, 4, SIDE, SIDE };
    const tsr_denoiser *denoiser = NULL;
    float *sigmas = NULL, x[COUNT], clean[2][COUNT];
    int n = 0;
    (void)state;
    tsr_result *two = run(engine, both("4"));
    OK(tsr_engine_denoiser(&denoiser, engine, &err));
    OK(tsr_ksampler_sigmas(&sigmas, &n, denoiser->table, "normal", "euler", STEPS, 1.0, &err));
    OK(tsr_initial_noise(x, shape, 0, NULL, &err));
    /* a full schedule starts at the largest sigma, where ComfyUI's noise has sqrt(1 + sigma^2) */
    for (int i = 0; i < COUNT; i++) x[i] *= sqrtf(1.0f + sigmas[0] * sigmas[0]);
    for (int s = 0; s + 1 < n; s++) {
        predict(clean[0], engine, left, x, sigmas[s]);
        predict(clean[1], alone, right, x, sigmas[s]);
        for (int i = 0; i < COUNT; i++) {
            float to = clean[i % SIDE >= SIDE / 2][i];
            x[i] = to + (x[i] - to) * (sigmas[s + 1] / sigmas[s]);
        }
    }
    for (int i = 0; i < COUNT; i++) x[i] /= denoiser->latent_scale;
    double off = max_abs_diff(x, two->latent->values, COUNT);
    if (off > 1e-3) fail_msg("by hand: %g away", off);
    tsr_free(sigmas);
    tsr_result_free(two);
}

/* The plan says who is asked how often, in restart too. */
static void models__are_in_the_plan(void **state) {
    char *text = NULL, counts[64];
    tsr_scene *scene = both("4");
    (void)state;
    OK(tsr_engine_plan(&text, engine, scene, &err));
    assert_non_null(strstr(text, second));
    assert_non_null(strstr(text, "MiB"));
    assert_non_null(strstr(text, "model 2"));
    snprintf(counts, sizeof counts, "%d network evaluations; model 1: %d, model 2: %d\n", 4 * STEPS, 2 * STEPS,
             2 * STEPS);
    assert_non_null(strstr(text, counts));
    tsr_free(text);
    OK(tsr_scene_set(scene, "history", "restart", &err));
    OK(tsr_scene_set(scene, "base_only_steps", "2", &err));
    OK(tsr_engine_plan(&text, engine, scene, &err));
    assert_non_null(strstr(text, "model 2: 4\n")); /* two steps of two */
    tsr_free(text);
    tsr_scene_free(scene);
}

/* Wide enough that a crop is less than the canvas: another network input, another result, the same models. */
static void models__work_with_crop(void **state) {
    tsr_result *results[2];
    tsr_scene *scene;
    (void)state;
    for (int crops = 0; crops < 2; crops++) {
        scene = both("2");
        OK(tsr_scene_set(scene, "width", "128", &err));
        OK(tsr_scene_set(scene, "mode", crops ? "crop" : "full", &err));
        OK(tsr_scene_set(scene, "crop_context", "8", &err));
        results[crops] = run(engine, scene);
        assert_string_equal(tsr_scene_get(results[crops]->scene, "mode"), crops ? "crop" : "full");
    }
    size_t count = tsr_latent_count(results[0]->latent);
    double off = max_abs_diff(results[0]->latent->values, results[1]->latent->values, count);
    assert_true(off > 1e-3 && off < 100.0);
    tsr_result_free(results[0]);
    tsr_result_free(results[1]);
}

/* The picture's own file by another name is the same model: nothing is opened twice. */
static void models__are_told_apart_by_file(void **state) {
    char *text = NULL;
    tsr_scene *scene = scene_of("1");
    (void)state;
    add(scene, "0:0:50%:100%", left, link_to_first);
    OK(tsr_engine_plan(&text, engine, scene, &err));
    assert_null(strstr(text, "model 2"));
    assert_non_null(strstr(text, "\n3 network evaluations\n")); /* two prompts and the common negative */
    tsr_free(text);
    tsr_scene_free(scene);
}

static void expect_refusal(tsr_scene *scene, tsr_status status, const char *one, const char *two) {
    char *text = NULL;
    tsr_error why = TSR_ERROR_INIT;
    assert_int_equal(tsr_engine_plan(&text, engine, scene, &why), status);
    assert_null(text);
    if (!strstr(why.message, one) || !strstr(why.message, two) || strchr(why.message, '\n'))
        fail_msg("'%s' lacks '%s' or '%s'", why.message, one, two);
    tsr_scene_free(scene);
}

static void models__that_do_not_fit_are_refused(void **state) {
    char sdxl[512];
    tsr_scene *scene = both("4");
    (void)state;
    OK(tsr_scene_set(scene, "mode", "couple", &err));
    expect_refusal(scene, TSR_UNSUPPORTED, "couple", "region 2 has a model of its own");
    scene = scene_of("4");
    add(scene, "0:0:50%:100%", left, broken);
    expect_refusal(scene, TSR_BAD_FORMAT, "region 1", broken);
    scene = scene_of("4");
    add(scene, "0:0:50%:100%", left, "/no/such/model.safetensors");
    expect_refusal(scene, TSR_NOT_FOUND, "region 1", "/no/such/model.safetensors");
    snprintf(sdxl, sizeof sdxl, "%s/checkpoints/tiny-sdxl.safetensors", TSR_GOLDEN_DIR);
    if (access(sdxl, R_OK) != 0) return;
    scene = scene_of("4");
    add(scene, "0:0:50%:100%", left, sdxl);
    expect_refusal(scene, TSR_UNSUPPORTED, "0.13025", "cannot share a canvas");
}

/* Who paints what is checked before anything runs. */
static void regions__must_cover_what_has_no_prompt(void **state) {
    tsr_scene *scene = NULL;
    (void)state;
    OK(tsr_scene_new(&scene, &err));
    OK(tsr_scene_set(scene, "width", "64", &err));
    OK(tsr_scene_set(scene, "height", "64", &err));
    add(scene, "0:0:50%:100%", left, NULL);
    expect_refusal(scene, TSR_BAD_ARGUMENT, "50.0 % of the picture uncovered", "set prompt");
}

static int open_engines(void **state) {
    tsr_engine_options options = TSR_ENGINE_OPTIONS_INIT;
    tsr_error err = TSR_ERROR_INIT;
    int number = (int)getpid();
    (void)state;
    unsetenv("TESSERA_MODEL");
    options.precision = TSR_PRECISION_F32;
    if (tsr_engine_open(&engine, &options, &err) != TSR_OK) goto failed;
    snprintf(second, sizeof second, "/tmp/tessera-second-%d.safetensors", number);
    snprintf(broken, sizeof broken, "/tmp/tessera-broken-%d.safetensors", number);
    snprintf(link_to_first, sizeof link_to_first, "/tmp/tessera-first-%d.safetensors", number);
    make_second(tsr_engine_get_info(engine).model);
    if (symlink(tsr_engine_get_info(engine).model, link_to_first) != 0) return -1;
    options.model = second;
    if (tsr_engine_open(&alone, &options, &err) == TSR_OK) return 0;
failed:
    print_error("%s\n", err.message);
    return -1;
}

static int close_engines(void **state) {
    (void)state;
    tsr_engine_close(engine);
    tsr_engine_close(alone);
    unlink(second);
    unlink(broken);
    unlink(link_to_first);
    return 0;
}

/* The library writes what a name says, or says who does. */
static void convert__writes_no_packed_cache(void **state) {
    tsr_error err = TSR_ERROR_INIT;
    (void)state;
    assert_int_equal(tsr_convert_model(NULL, "/tmp/tessera-never.tsrpack", link_to_first, NULL, NULL, &err),
                     TSR_BAD_ARGUMENT);
    assert_non_null(strstr(err.message, "tsr_pack_model"));
    assert_int_not_equal(access("/tmp/tessera-never.tsrpack", F_OK), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(models__each_side_is_its_own_models),
        cmocka_unit_test(models__share_a_canvas_step_by_step),
        cmocka_unit_test(models__are_in_the_plan),
        cmocka_unit_test(models__are_told_apart_by_file),
        cmocka_unit_test(models__work_with_crop),
        cmocka_unit_test(regions__must_cover_what_has_no_prompt),
        cmocka_unit_test(models__that_do_not_fit_are_refused),
        cmocka_unit_test(convert__writes_no_packed_cache),
    };
    return cmocka_run_group_tests(tests, open_engines, close_engines);
}
