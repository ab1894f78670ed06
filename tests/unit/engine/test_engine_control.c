/* Control networks of prompts: no strength and no window is no control bit for bit, a batch equals single runs, several add
 * up, a crop sees its part of the picture, scenes and regions name them, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <unistd.h>

#include "control_expected.inc"
#include "control_file.h"
#include "engine/engine_priv.h"
#include "golden_file.h"

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        tsr_error err = TSR_ERROR_INIT;                                                                                \
        if ((call) != TSR_OK) fail_msg("%s", err.message);                                                             \
    } while (0)

enum { H = 8, W = 12, COUNT = 4 * H * W, MAX_CALLS = 4 };
static const float SIGMA = 3.0f;

/* What all tests share: two networks and two pictures. */
static char net_path[128], adapter_path[128], picture_path[128], other_picture_path[128];
static float picture[8 * H * 8 * W * 3], other_picture[8 * H * 8 * W * 3], x[COUNT];

static int setup(void **state) {
    const char *folder = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";
    tsr_image *image = NULL;
    (void)state;
    snprintf(net_path, sizeof net_path, "%s/tessera-ec-net-%ld.safetensors", folder, (long)getpid());
    snprintf(adapter_path, sizeof adapter_path, "%s/tessera-ec-adapter-%ld.safetensors", folder, (long)getpid());
    snprintf(picture_path, sizeof picture_path, "%s/tessera-ec-picture-%ld.png", folder, (long)getpid());
    snprintf(other_picture_path, sizeof other_picture_path, "%s/tessera-ec-other-%ld.png", folder, (long)getpid());
    control_file_write(net_path, "sd1", "");
    adapter_file_write(adapter_path);
    numbers(picture, "a picture", sizeof picture / sizeof(float), 0.5, 0.5);
    numbers(other_picture, "another picture", sizeof picture / sizeof(float), 0.5, 0.5);
    numbers(x, "x", COUNT, 3.0, 0.0);
    OK(tsr_image_from_floats(&image, picture, 8 * W, 8 * H, &err));
    OK(tsr_image_save(image, picture_path, 0, &err));
    tsr_image_free(image);
    OK(tsr_image_from_floats(&image, other_picture, 8 * W, 8 * H, &err));
    OK(tsr_image_save(image, other_picture_path, 0, &err));
    tsr_image_free(image);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    unlink(net_path);
    unlink(adapter_path);
    unlink(picture_path);
    unlink(other_picture_path);
    return 0;
}

static tsr_engine *open_engine(void) {
    tsr_engine *engine = NULL;
    tsr_engine_options options = TSR_ENGINE_OPTIONS_INIT;
    options.model = TSR_GOLDEN_DIR "/checkpoints/golden-sd1.safetensors";
    options.precision = TSR_PRECISION_F32;
    OK(tsr_engine_open(&engine, &options, &err));
    return engine;
}

static tsr__control_use use_of(const char *model, const float *pixels, float strength) {
    tsr__control_use use = { model, pixels, 8 * W, 8 * H, strength, 1e9f, 0.0f, -1 };
    return use;
}

static const void *make_cond(tsr_engine *engine, const tsr__control_use *uses, int n) {
    tsr__control_set *set = NULL;
    tsr__conditioning *cond = NULL;
    OK(tsr__controls_get(&set, engine, uses, n, "test", &err));
    OK(tsr__conditioning_get(&cond, engine, "a cat on a hill", 1, NULL, set, &err));
    tsr__controls_unref(set);
    return cond;
}

static void denoise(tsr_engine *engine, const void *const *conds, float (*out)[COUNT], int n) {
    const int shape[4] = { 1, 4, H, W };
    tsr_denoise_call calls[MAX_CALLS];
    for (int i = 0; i < n; i++)
        calls[i] = (tsr_denoise_call){ .x = x, .sigma = SIGMA, .cond = conds[i], .denoised = out[i] };
    OK(engine->denoiser.denoise(engine, shape, calls, n, &err));
}

static double differ(const float *a, const float *b) {
    return max_abs_diff(a, b, COUNT) / max_abs(b, COUNT);
}

static void no_strength_and_no_window__are_no_control(void **state) {
    static float out[4][COUNT];
    tsr_engine *engine = open_engine();
    tsr__control_use none = use_of(net_path, picture, 0.0f), late = use_of(net_path, picture, 1.0f), early = late,
                     now = late;
    const void *conds[4];
    (void)state;
    late.start_sigma = SIGMA * 0.9f;
    early.end_sigma = SIGMA * 1.1f;
    now.start_sigma = now.end_sigma = SIGMA; /* both ends belong to it */
    conds[0] = make_cond(engine, NULL, 0);
    conds[1] = make_cond(engine, &none, 1);
    conds[2] = make_cond(engine, &late, 1);
    conds[3] = make_cond(engine, &early, 1);
    for (int i = 0; i < 4; i++) denoise(engine, conds + i, out + i, 1);
    for (int i = 1; i < 4; i++) assert_memory_equal(out[i], out[0], sizeof out[0]);
    conds[1] = make_cond(engine, &now, 1);
    denoise(engine, conds + 1, out + 1, 1);
    assert_true(differ(out[1], out[0]) > 0.01);
    tsr_engine_close(engine);
}

static void batch__equals_single_runs(void **state) {
    static float together[4][COUNT], alone[4][COUNT];
    tsr_engine *engine = open_engine();
    tsr__control_use a = use_of(net_path, picture, 1.0f), b = use_of(net_path, other_picture, 0.5f);
    tsr__control_use both[2] = { b, use_of(adapter_path, picture, 0.8f) };
    const void *conds[4] = { make_cond(engine, &a, 1), make_cond(engine, NULL, 0), make_cond(engine, &b, 1),
                             make_cond(engine, both, 2) };
    (void)state;
    denoise(engine, conds, together, 4);
    for (int i = 0; i < 4; i++) {
        denoise(engine, conds + i, alone + i, 1);
        assert_true(differ(together[i], alone[i]) < 1e-5);
        for (int k = 0; k < i; k++) assert_true(differ(alone[i], alone[k]) > 1e-3);
    }
    /* The sample without is what an engine gives that never saw a control network. */
    tsr_engine *fresh = open_engine();
    conds[0] = make_cond(fresh, NULL, 0);
    denoise(fresh, conds, together, 1);
    assert_memory_equal(together[0], alone[1], sizeof alone[1]);
    tsr_engine_close(fresh);
    tsr_engine_close(engine);
}

static void equal_uses__are_one_conditioning(void **state) {
    tsr_engine *engine = open_engine();
    tsr__control_use a = use_of(net_path, picture, 1.0f), b = use_of(net_path, other_picture, 1.0f);
    (void)state;
    assert_ptr_equal(make_cond(engine, &a, 1), make_cond(engine, &a, 1));
    assert_ptr_not_equal(make_cond(engine, &a, 1), make_cond(engine, &b, 1));
    tsr_engine_forget_prompts(engine);
    assert_null(engine->control_sets);
    tsr_engine_close(engine);
}

static void several__add_up(void **state) {
    static float twice[1][COUNT], once[1][COUNT];
    tsr_engine *engine = open_engine();
    tsr__control_use whole = use_of(net_path, picture, 1.0f), half = use_of(net_path, picture, 0.5f);
    tsr__control_use halves[2] = { half, half };
    const void *conds[2] = { make_cond(engine, halves, 2), make_cond(engine, &whole, 1) };
    (void)state;
    denoise(engine, conds, twice, 1);
    denoise(engine, conds + 1, once, 1);
    assert_true(differ(twice[0], once[0]) < 1e-5);
    tsr_engine_close(engine);
}

/* The part at (4, 2) of 8 x 4 cells: the same as that part given as a picture of its own. */
static void crop__sees_its_part_of_the_picture(void **state) {
    enum { TOP = 2, LEFT = 4, HIGH = 4, WIDE = 8 };
    static float part[8 * HIGH * 8 * WIDE * 3], seen[COUNT], own[COUNT];
    const int shape[4] = { 1, 4, HIGH, WIDE };
    tsr_engine *engine = open_engine();
    tsr__control_use whole = use_of(net_path, picture, 1.0f), cut = whole;
    (void)state;
    for (size_t y = 0; y < 8 * HIGH; y++)
        memcpy(part + y * 8 * WIDE * 3, picture + ((y + 8 * TOP) * 8 * W + 8 * LEFT) * 3, 8 * WIDE * 3 * sizeof *part);
    cut.pixels = part;
    cut.width = 8 * WIDE;
    cut.height = 8 * HIGH;
    tsr_denoise_call call = { .x = x,
                              .sigma = SIGMA,
                              .cond = make_cond(engine, &whole, 1),
                              .denoised = seen,
                              .left = LEFT,
                              .top = TOP,
                              .canvas_width = W,
                              .canvas_height = H };
    OK(engine->denoiser.denoise(engine, shape, &call, 1, &err));
    tsr_denoise_call plain = { .x = x, .sigma = SIGMA, .cond = make_cond(engine, &cut, 1), .denoised = own };
    OK(engine->denoiser.denoise(engine, shape, &plain, 1, &err));
    assert_memory_equal(seen, own, sizeof(float) * 4 * HIGH * WIDE);
    tsr_error error = TSR_ERROR_INIT;
    call.left = W - 2; /* it would read beyond the picture */
    assert_int_equal(engine->denoiser.denoise(engine, shape, &call, 1, &error), TSR_BAD_ARGUMENT);
    tsr_engine_close(engine);
}

/* --- against PyTorch ------------------------------------------------------------------------------------------------------- */
/* A conditioning that has control_reference.py's numbers for its text. */
static const void *make_numbered(tsr_engine *engine, const tsr__control_use *uses, int n) {
    enum { TOKENS = 7 };
    static float unused[1][COUNT];
    tsr__control_set *set = NULL;
    tsr__conditioning *cond = NULL;
    OK(tsr__controls_get(&set, engine, uses, n, "test", &err));
    OK(tsr__conditioning_get(&cond, engine, "a text that is not read", 1, NULL, set, &err));
    tsr__controls_unref(set);
    const void *plain = make_cond(engine, NULL, 0);
    denoise(engine, &plain, unused, 1); /* opens the networks */
    size_t count = TOKENS * (size_t)tsr__unet_context_width(engine->unet);
    cond->values = malloc(count * sizeof *cond->values);
    assert_non_null(cond->values);
    numbers(cond->values, "text", count, 1.0, 0.0);
    cond->tokens = TOKENS;
    cond->width = tsr__unet_context_width(engine->unet);
    return cond;
}

/* Four steps of Euler from 14 x; call: everything but x, sigma and denoised. */
static void run_euler(tsr_engine *engine, float *out, const int shape[4], tsr_denoise_call call) {
    static const float sigmas[5] = { 14.6146f, 4.0f, 1.5f, 0.6f, 0.0f };
    static float denoised[COUNT];
    const int count = shape[1] * shape[2] * shape[3];
    numbers(out, "x", (size_t)count, 14.0, 0.0);
    call.x = out;
    call.denoised = denoised;
    for (int step = 0; step < 4; step++) {
        call.sigma = sigmas[step];
        OK(engine->denoiser.denoise(engine, shape, &call, 1, &err));
        for (int i = 0; i < count; i++)
            out[i] += (out[i] - denoised[i]) / sigmas[step] * (sigmas[step + 1] - sigmas[step]);
    }
}

static void compare(const char *what, const float *got, const float *want, size_t count) {
    double worst = max_abs_diff(got, want, count) / max_abs(want, count);
    print_message("%s: worst %.2e\n", what, worst);
    assert_true(worst < 1e-3);
}

/* Two networks, one of them twice, each with a window of its own. */
static void chain_with_windows__equals_pytorch(void **state) {
    static float out[COUNT];
    const int shape[4] = { 1, 4, H, W };
    const double windows[3][2] = { { 0.0, 0.4 }, { 0.2, 1.0 }, { 0.1, 0.9 } };
    tsr_engine *engine = open_engine();
    tsr__control_use uses[3] = { use_of(net_path, picture, 0.7f), use_of(adapter_path, other_picture, 0.5f),
                                 use_of(net_path, other_picture, 0.3f) };
    (void)state;
    for (int i = 0; i < 3; i++) {
        uses[i].start_sigma = tsr_sigma_of_percent(engine->table, windows[i][0]);
        uses[i].end_sigma = tsr_sigma_of_percent(engine->table, windows[i][1]);
    }
    run_euler(engine, out, shape, (tsr_denoise_call){ .cond = make_numbered(engine, uses, 3) });
    compare("a chain", out, chain_run, COUNT);
    tsr_engine_close(engine);
}

/* As a region of mode crop is evaluated: the network sees the same part of the picture. */
static void part_of_the_canvas__equals_pytorch(void **state) {
    static float out[COUNT];
    const int shape[4] = { 1, 4, 4, 8 };
    tsr_engine *engine = open_engine();
    tsr__control_use whole = use_of(net_path, picture, 1.0f);
    (void)state;
    run_euler(
        engine, out, shape,
        (tsr_denoise_call){
            .cond = make_numbered(engine, &whole, 1), .left = 4, .top = 2, .canvas_width = W, .canvas_height = H });
    compare("a part", out, part_run, sizeof part_run / sizeof *part_run);
    tsr_engine_close(engine);
}

/* SDXL's T2I-Adapter takes cells of 16 pixels: a picture of 96 x 64 stays as it is on a canvas of 88 x 56, where one scaled to the
 * canvas would lose every twelfth column. */
static void wide_adapter__sees_whole_cells(void **state) {
    enum { HIGH = 7, WIDE = 11, CELLS = 4 * HIGH * WIDE };
    static float changed[8 * H * 8 * W * 3], plain[CELLS], out[CELLS], in[CELLS];
    const int shape[4] = { 1, 4, HIGH, WIDE };
    tsr_engine *engine = NULL;
    tsr_engine_options options = TSR_ENGINE_OPTIONS_INIT;
    char path[140];
    (void)state;
    snprintf(path, sizeof path, "%s.wide", net_path);
    adapter_kind_write(path, ADAPTER_WIDE);
    options.model = TSR_GOLDEN_DIR "/checkpoints/tiny-sdxl.safetensors";
    options.precision = TSR_PRECISION_F32;
    OK(tsr_engine_open(&engine, &options, &err));
    numbers(in, "x", CELLS, 3.0, 0.0);
    for (size_t column = 0; column <= 13; column++) { /* the first unchanged */
        tsr__control_use use = use_of(path, changed, 1.0f);
        memcpy(changed, picture, sizeof changed);
        for (size_t y = 0; column && y < 8 * H; y++) changed[(y * 8 * W + column + 40) * 3] += 1.0f;
        tsr_denoise_call call = {
            .x = in, .sigma = SIGMA, .cond = make_cond(engine, &use, 1), .denoised = column ? out : plain
        };
        OK(engine->denoiser.denoise(engine, shape, &call, 1, &err));
        if (column) assert_true(memcmp(out, plain, sizeof out) != 0);
    }
    tsr_engine_close(engine);
    unlink(path);
}

/* --- scenes ---------------------------------------------------------------------------------------------------------------- */
static tsr_scene *make_scene(const char *mode) {
    tsr_scene *scene = NULL;
    OK(tsr_scene_new(&scene, &err));
    const char *const keys[][2] = { { "prompt", "a hill" }, { "width", "96" }, { "height", "64" },
                                    { "steps", "2" },       { "cfg", "2" },    { "mode", mode } };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) OK(tsr_scene_set(scene, keys[i][0], keys[i][1], &err));
    OK(tsr_scene_parse_region(scene, "box=50%:0:50%:100%,prompt=a cat", NULL, &err));
    return scene;
}

static void paint(float *out, tsr_engine *engine, const tsr_scene *scene) {
    tsr_result *result = NULL;
    OK(tsr_engine_run(&result, engine, scene, NULL, &err));
    assert_int_equal(tsr_latent_count(result->latent), COUNT);
    memcpy(out, result->latent->values, COUNT * sizeof *out);
    tsr_result_free(result);
}

/* Left and right half of a latent: how much they differ. */
static double half_differs(const float *a, const float *b, int right) {
    double most = 0.0;
    for (int i = 0; i < COUNT; i++) {
        double d = (double)a[i] - (double)b[i];
        if ((i % W >= W / 2) == right) most = d > most ? d : -d > most ? -d : most;
    }
    return most;
}

static void control_of_a_region__steers_its_place(void **state) {
    static float plain[COUNT], region[COUNT], everywhere[COUNT], off[COUNT];
    tsr_engine *engine = open_engine();
    tsr_scene *scene = make_scene("full");
    (void)state;
    OK(tsr_scene_set(scene, "overlap", "0", &err));
    OK(tsr_scene_set(scene, "steps", "1", &err));
    paint(plain, engine, scene);
    OK(tsr_scene_set_region(scene, 0, "control", net_path, &err));
    OK(tsr_scene_set_region(scene, 0, "control_image", picture_path, &err));
    paint(region, engine, scene);
    assert_true(half_differs(region, plain, 1) > 0.01);
    assert_true(half_differs(region, plain, 0) == 0.0); /* the base's half, of one step, without feathering */
    OK(tsr_scene_set(scene, "control", net_path, &err));
    OK(tsr_scene_set(scene, "control_image", picture_path, &err));
    OK(tsr_scene_set(scene, "control_preprocess", "invert", &err));
    paint(everywhere, engine, scene);
    assert_true(half_differs(everywhere, plain, 0) > 0.01);
    assert_true(half_differs(everywhere, region, 1) > 1e-3); /* both nets count there */
    OK(tsr_scene_set(scene, "control_strength", "0", &err));
    OK(tsr_scene_set_region(scene, 0, "control_start", "0.99", &err)); /* after the only step */
    paint(off, engine, scene);
    assert_memory_equal(off, plain, sizeof plain);
    tsr_scene_free(scene);
    tsr_engine_close(engine);
}

/* One network with all of 0.8 is two uses of it with 0.3 and 0.5; the list, typed and as JSON, says so. */
static void lists__are_several_networks(void **state) {
    static float one[COUNT], two[COUNT], again[COUNT], swapped[COUNT];
    char nets[512], pictures[512], *json = NULL;
    tsr_engine *engine = open_engine();
    tsr_scene *scene = make_scene("full"), *copy = NULL;
    tsr_error error = TSR_ERROR_INIT;
    (void)state;
    snprintf(nets, sizeof nets, "%s;%s", net_path, net_path);
    snprintf(pictures, sizeof pictures, "%s;%s", picture_path, other_picture_path);
    OK(tsr_scene_set(scene, "control", net_path, &err));
    OK(tsr_scene_set(scene, "control_image", picture_path, &err));
    OK(tsr_scene_set(scene, "control_strength", "0.8", &err));
    paint(one, engine, scene);
    OK(tsr_scene_set(scene, "control", nets, &err));
    OK(tsr_scene_set(scene, "control_strength", "0.3;0.50", &err));
    assert_string_equal(tsr_scene_get(scene, "control_strength"), "0.3;0.5");
    paint(two, engine, scene);
    for (int i = 0; i < COUNT; i++) assert_float_equal(one[i], two[i], 1e-3f);
    OK(tsr_scene_set(scene, "control_image", pictures, &err));
    OK(tsr_scene_set(scene, "control_preprocess", "none;invert", &err));
    paint(two, engine, scene);
    OK(tsr_scene_to_json(&json, scene, &err));
    OK(tsr_scene_from_json(&copy, json, strlen(json), &err));
    paint(again, engine, copy);
    assert_memory_equal(again, two, sizeof two);
    OK(tsr_scene_set(scene, "control_strength", "0.5;0.3", &err));
    paint(swapped, engine, scene);
    assert_true(half_differs(swapped, two, 0) > 1e-4);
    OK(tsr_scene_set(scene, "control_end", "0.5;0.6;0.7", &err));
    assert_int_equal(tsr_scene_check(scene, &error), TSR_BAD_ARGUMENT);
    assert_non_null(strstr(error.message, "control_end has 3 values and control 2"));
    error = (tsr_error)TSR_ERROR_INIT;
    assert_int_equal(tsr_scene_set(scene, "control_strength", "0.5;;1", &error), TSR_BAD_ARGUMENT);
    assert_non_null(strstr(error.message, "value 2 of the list is empty"));
    free(json);
    tsr_scene_free(copy);
    tsr_scene_free(scene);
    tsr_engine_close(engine);
}

static void modes__take_control(void **state) {
    static const char *const modes[] = { "crop", "couple" };
    static float plain[COUNT], steered[COUNT];
    tsr_engine *engine = open_engine();
    tsr_error error = TSR_ERROR_INIT;
    tsr_result *result = NULL;
    (void)state;
    for (int i = 0; i < 2; i++) {
        tsr_scene *scene = make_scene(modes[i]);
        paint(plain, engine, scene);
        OK(tsr_scene_set(scene, "control", net_path, &err));
        OK(tsr_scene_set(scene, "control_image", picture_path, &err));
        paint(steered, engine, scene);
        assert_true(half_differs(steered, plain, 0) > 0.01 && half_differs(steered, plain, 1) > 0.01);
        OK(tsr_scene_set_region(scene, 0, "control", adapter_path, &err));
        OK(tsr_scene_set_region(scene, 0, "control_image", picture_path, &err));
        if (i == 0) paint(plain, engine, scene);
        else assert_int_equal(tsr_engine_run(&result, engine, scene, NULL, &error), TSR_UNSUPPORTED);
        tsr_scene_free(scene);
    }
    assert_non_null(strstr(error.message, "couple"));
    tsr_engine_close(engine);
}

static void bad_scenes__are_refused(void **state) {
    tsr_engine *engine = open_engine();
    tsr_scene *scene = make_scene("full");
    tsr_result *result = NULL;
    (void)state;
    OK(tsr_scene_set(scene, "control", net_path, &err));
    tsr_error error = TSR_ERROR_INIT;
    assert_int_equal(tsr_engine_run(&result, engine, scene, NULL, &error), TSR_BAD_ARGUMENT);
    assert_non_null(strstr(error.message, "control needs control_image"));
    OK(tsr_scene_set(scene, "control_image", picture_path, &err));
    OK(tsr_scene_set(scene, "control", "/nowhere/edges.safetensors", &err));
    error = (tsr_error)TSR_ERROR_INIT;
    assert_int_equal(tsr_engine_run(&result, engine, scene, NULL, &error), TSR_NOT_FOUND);
    assert_non_null(strstr(error.message, "edges.safetensors"));
    OK(tsr_scene_set(scene, "control", TSR_GOLDEN_DIR "/checkpoints/tiny-sdxl.safetensors", &err));
    error = (tsr_error)TSR_ERROR_INIT;
    assert_int_equal(tsr_engine_run(&result, engine, scene, NULL, &error), TSR_UNSUPPORTED);
    assert_non_null(strstr(error.message, "neither a ControlNet"));
    tsr_scene_free(scene);
    tsr_engine_close(engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_strength_and_no_window__are_no_control),
        cmocka_unit_test(batch__equals_single_runs),
        cmocka_unit_test(equal_uses__are_one_conditioning),
        cmocka_unit_test(several__add_up),
        cmocka_unit_test(crop__sees_its_part_of_the_picture),
        cmocka_unit_test(chain_with_windows__equals_pytorch),
        cmocka_unit_test(part_of_the_canvas__equals_pytorch),
        cmocka_unit_test(wide_adapter__sees_whole_cells),
        cmocka_unit_test(control_of_a_region__steers_its_place),
        cmocka_unit_test(lists__are_several_networks),
        cmocka_unit_test(modes__take_control),
        cmocka_unit_test(bad_scenes__are_refused),
    };
    return cmocka_run_group_tests_name("engine_control", tests, setup, teardown);
}
