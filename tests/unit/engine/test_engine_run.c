/* The engine with the shipped model: callbacks, cancelling, latents, parts driven by hand. Few steps, f32. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "golden_file.h"
#include "tessera/tessera.h"

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        tsr_error err = TSR_ERROR_INIT;                                                                                \
        if ((call) != TSR_OK) fail_msg("%s", err.message);                                                             \
    } while (0)

static tsr_engine *engine;

static tsr_scene *small_scene(void) {
    tsr_scene *scene = NULL;
    OK(tsr_scene_new(&scene, &err));
    OK(tsr_scene_set(scene, "prompt", "grass field", &err));
    OK(tsr_scene_set(scene, "steps", "3", &err));
    OK(tsr_scene_set(scene, "width", "64", &err));
    OK(tsr_scene_set(scene, "height", "64", &err));
    return scene;
}

typedef struct seen {
    int evaluations, steps, previews;
    int stop_at; /* evaluation at which to stop, 0 = never */
    int asked;
    int64_t planned;
} seen;

static int on_progress(void *user, const tsr_progress *at) {
    seen *s = user;
    if (at->event == TSR_PROGRESS_STEP) s->steps++;
    if (at->event == TSR_PROGRESS_EVALUATE) s->evaluations++;
    s->planned = at->evaluations_total;
    return s->stop_at && s->evaluations >= s->stop_at;
}
static int on_preview(void *user, const tsr_image *image, const tsr_progress *at) {
    ((seen *)user)->previews++;
    assert_int_equal(image->width, 64);
    assert_non_null(at->x0);
    return 0;
}
static int on_cancelled(void *user) {
    return ++((seen *)user)->asked >= 3;
}

static void engine_run__tells_progress_and_previews(void **state) {
    tsr_scene *scene = small_scene();
    tsr_result *result = NULL;
    seen s = { 0 };
    tsr_engine_callbacks callbacks = TSR_ENGINE_CALLBACKS_INIT;
    (void)state;
    callbacks.user = &s;
    callbacks.progress = on_progress;
    callbacks.preview = on_preview;
    OK(tsr_scene_parse_region(scene, "box=0:0:50%:100%,prompt=a cat face on grass field", NULL, &err));
    OK(tsr_engine_run(&result, engine, scene, &callbacks, &err));
    assert_int_equal(s.steps, 3);
    assert_true(s.evaluations >= 3 && s.planned == 9); /* base, region, one negative for both */
    assert_true(s.previews >= 1);
    assert_int_equal(result->image_count, 1);
    assert_int_equal(result->images[0]->width, 64);
    assert_non_null(tsr_image_text(result->images[0], "parameters"));
    assert_non_null(tsr_image_text(result->images[0], "tessera"));
    assert_string_equal(tsr_scene_get(result->scene, "width"), "64");
    tsr_result_free(result);
    tsr_scene_free(scene);
}

static void engine_run__stops_when_told(void **state) {
    tsr_scene *scene = small_scene();
    tsr_engine_callbacks callbacks = TSR_ENGINE_CALLBACKS_INIT;
    (void)state;
    for (int by_question = 0; by_question < 2; by_question++) {
        seen s = { .stop_at = by_question ? 0 : 2 };
        tsr_result *result = NULL;
        callbacks.user = &s;
        callbacks.progress = on_progress;
        callbacks.cancelled = by_question ? on_cancelled : NULL;
        assert_int_equal(tsr_engine_run(&result, engine, scene, &callbacks, NULL), TSR_CANCELLED);
        assert_null(result);
        assert_true(s.evaluations <= 2);
    }
    tsr_scene_free(scene);
}

static void engine_run__a_batch_starts_with_the_single_picture(void **state) {
    tsr_scene *scene = small_scene();
    tsr_result *one = NULL, *two = NULL;
    (void)state;
    OK(tsr_engine_run(&one, engine, scene, NULL, &err));
    OK(tsr_scene_set(scene, "batch", "2", &err));
    OK(tsr_engine_run(&two, engine, scene, NULL, &err));
    assert_int_equal(two->image_count, 2);
    /* The noise of a batch is one draw, whose start is the single picture's. */
    assert_true(max_abs_diff(one->latent->values, two->latent->values, tsr_latent_count(one->latent)) < 2e-3);
    tsr_result_free(one);
    tsr_result_free(two);
    tsr_scene_free(scene);
}

/* The prompts meet in cross-attention; where one region is everywhere, nothing but its prompt is left. */
static void engine_run__couple_with_one_region_everywhere_is_a_plain_run(void **state) {
    tsr_scene *plain = small_scene(), *coupled = small_scene();
    tsr_result *one = NULL, *same = NULL, *halves = NULL;
    (void)state;
    OK(tsr_scene_set(plain, "prompt", "a cat face on grass field", &err));
    OK(tsr_scene_set(coupled, "mode", "couple", &err));
    OK(tsr_scene_parse_region(coupled, "box=0:0:100%:100%,prompt=a cat face on grass field", NULL, &err));
    OK(tsr_engine_run(&one, engine, plain, NULL, &err));
    OK(tsr_engine_run(&same, engine, coupled, NULL, &err));
    assert_memory_equal(one->latent->values, same->latent->values, tsr_latent_count(one->latent) * sizeof(float));
    OK(tsr_scene_set_region(coupled, 0, "box", "0:0:50%:100%", &err));
    OK(tsr_engine_run(&halves, engine, coupled, NULL, &err));
    assert_true(max_abs_diff(one->latent->values, halves->latent->values, tsr_latent_count(one->latent)) > 0.01);
    assert_string_equal(tsr_scene_get(halves->scene, "mode"), "couple");
    tsr_result_free(one);
    tsr_result_free(same);
    tsr_result_free(halves);
    tsr_scene_free(plain);
    tsr_scene_free(coupled);
}

/* The same prompt for base and region: whatever the shares, their sum is the plain run, up to rounding. */
static void engine_run__couple_of_equal_prompts_is_a_plain_run(void **state) {
    tsr_scene *plain = small_scene(), *coupled = small_scene();
    tsr_result *one = NULL, *same = NULL;
    (void)state;
    OK(tsr_scene_set(coupled, "mode", "couple", &err));
    OK(tsr_scene_set(coupled, "overlap", "24", &err));
    OK(tsr_scene_parse_region(coupled, "box=8:8:32:40,prompt=grass field,strength=0.7", NULL, &err));
    OK(tsr_engine_run(&one, engine, plain, NULL, &err));
    OK(tsr_engine_run(&same, engine, coupled, NULL, &err));
    assert_true(max_abs_diff(one->latent->values, same->latent->values, tsr_latent_count(one->latent)) < 1e-3);
    tsr_result_free(one);
    tsr_result_free(same);
    tsr_scene_free(plain);
    tsr_scene_free(coupled);
}

static void engine_run__region_keys_reach_the_plan(void **state) {
    tsr_scene *scene = small_scene();
    char *text = NULL;
    tsr_error said = TSR_ERROR_INIT;
    (void)state;
    OK(tsr_scene_set(scene, "steps", "10", &err));
    OK(tsr_scene_set(scene, "mode", "crop", &err));
    OK(tsr_scene_set(scene, "width", "256", &err));
    OK(tsr_scene_parse_region(scene, "box=0:0:64:64,prompt=a cat face,denoise=0.6,end=0.9,seed=5", NULL, &err));
    OK(tsr_engine_plan(&text, engine, scene, &err));
    assert_non_null(strstr(text, "takes part in steps 5-9"));
    assert_non_null(strstr(text, "its network sees 16x8 at 0,0"));
    assert_non_null(strstr(text, "noise varied 1 linear seed 5"));
    tsr_free(text);
    OK(tsr_scene_set_region(scene, 0, "start", "0.1", &err));
    assert_int_equal(tsr_engine_plan(&text, engine, scene, &said), TSR_BAD_ARGUMENT);
    assert_non_null(strstr(said.message, "denoise is another way"));
    OK(tsr_scene_set_region(scene, 0, "start", NULL, &err));
    OK(tsr_scene_set(scene, "mode", "couple", &err));
    tsr_error refused = TSR_ERROR_INIT;
    assert_int_equal(tsr_engine_plan(&text, engine, scene, &refused), TSR_UNSUPPORTED);
    assert_non_null(strstr(refused.message, "steps (start, end, denoise) of its own"));
    tsr_scene_free(scene);
}

static void engine_run__decodes_what_it_encodes(void **state) {
    tsr_image *image = NULL, *again = NULL;
    tsr_latent *latent = NULL;
    double sum = 0;
    (void)state;
    OK(tsr_image_new(&image, 70, 65, 3, &err)); /* cropped to 64x64 */
    for (int i = 0; i < 70 * 65 * 3; i++) image->pixels[i] = (unsigned char)(i % 3 == 1 ? 160 : 60);
    OK(tsr_engine_encode(&latent, engine, image, 0, &err));
    assert_int_equal(latent->shape[2], 8);
    assert_int_equal(latent->shape[3], 8);
    OK(tsr_engine_decode(&again, engine, latent, 0, 0, &err));
    for (int i = 0; i < 64 * 64 * 3; i++) sum += abs((int)again->pixels[i] - (i % 3 == 1 ? 160 : 60));
    assert_true(sum / (64 * 64 * 3) < 12.0); /* a lossy code, but of the same colour */
    tsr_image_free(again);
    assert_int_equal(tsr_engine_decode(&again, engine, latent, 1, 0, NULL), TSR_BAD_ARGUMENT);
    assert_null(again);
    tsr_image_free(image);
    tsr_latent_free(latent);
}

static void engine_run__by_hand_equals_a_run(void **state) {
    tsr_scene *scene = small_scene();
    tsr_result *result = NULL;
    tsr_latent *start = NULL, *out = NULL;
    tsr_guide guide = { 0 };
    tsr_ksampler_options options = TSR_KSAMPLER_OPTIONS_INIT;
    const void *same = NULL;
    (void)state;
    OK(tsr_engine_run(&result, engine, scene, NULL, &err));
    OK(tsr_engine_denoiser(&guide.denoiser, engine, &err));
    OK(tsr_engine_encode_prompt(&guide.positive, engine, "grass field", 1, &err));
    OK(tsr_engine_encode_prompt(&guide.negative, engine, "", 1, &err));
    OK(tsr_engine_encode_prompt(&same, engine, "grass field", 1, &err));
    assert_ptr_equal(same, guide.positive);
    guide.cfg = 4;
    options.steps = 3;
    OK(tsr_latent_new(&start, 1, 4, 8, 8, &err));
    OK(tsr_ksampler(&out, start, &guide, &options, &err));
    assert_memory_equal(out->values, result->latent->values, tsr_latent_count(out) * sizeof *out->values);
    tsr_latent_free(start);
    tsr_latent_free(out);
    tsr_result_free(result);
    tsr_scene_free(scene);
}

/* A wide call of many conditionings goes through the network in several batches; the answers must not depend on it. */
static void engine_run__memory_limit_changes_no_number(void **state) {
    tsr_scene *scene = small_scene();
    tsr_engine_options options = TSR_ENGINE_OPTIONS_INIT;
    tsr_engine *tight = NULL;
    tsr_result *free_result = NULL, *tight_result = NULL;
    (void)state;
    options.precision = TSR_PRECISION_F32;
    options.memory_limit = 1; /* one evaluation a batch, and tiles where there is room for any */
    OK(tsr_scene_parse_region(scene, "box=0:0:50%:100%,prompt=a cat face on grass field", NULL, &err));
    OK(tsr_scene_parse_region(scene, "box=50%:0:50%:100%,prompt=a tree on grass field", NULL, &err));
    OK(tsr_engine_open(&tight, &options, &err));
    OK(tsr_engine_run(&free_result, engine, scene, NULL, &err));
    OK(tsr_engine_run(&tight_result, tight, scene, NULL, &err));
    assert_true(max_abs_diff(free_result->latent->values, tight_result->latent->values,
                             tsr_latent_count(free_result->latent)) < 2e-3);
    tsr_result_free(free_result);
    tsr_result_free(tight_result);
    tsr_engine_close(tight);
    tsr_scene_free(scene);
}

static void engine_open__says_what_is_wrong(void **state) {
    tsr_engine_options options = TSR_ENGINE_OPTIONS_INIT;
    tsr_engine *none = NULL;
    tsr_error why = TSR_ERROR_INIT;
    char *path = NULL;
    (void)state;
    options.model = "/no/such/file.safetensors";
    assert_int_equal(tsr_engine_open(&none, &options, &why), TSR_NOT_FOUND);
    assert_non_null(strstr(why.message, "/no/such/file.safetensors"));
    assert_null(none);
    OK(tsr_engine_find_model(&path, &err));
    assert_int_equal(access(path, R_OK), 0);
    tsr_free(path);
    setenv("TESSERA_MODEL", "/tmp/mine.safetensors", 1);
    OK(tsr_engine_find_model(&path, &err));
    assert_string_equal(path, "/tmp/mine.safetensors");
    tsr_free(path);
    unsetenv("TESSERA_MODEL");
}

static int open_engine(void **state) {
    tsr_engine_options options = TSR_ENGINE_OPTIONS_INIT;
    tsr_error err = TSR_ERROR_INIT;
    (void)state;
    unsetenv("TESSERA_MODEL");
    options.precision = TSR_PRECISION_F32;
    if (tsr_engine_open(&engine, &options, &err) == TSR_OK) return 0;
    print_error("%s\n", err.message);
    return -1;
}
static int close_engine(void **state) {
    (void)state;
    tsr_engine_close(engine);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(engine_run__tells_progress_and_previews),
        cmocka_unit_test(engine_run__stops_when_told),
        cmocka_unit_test(engine_run__a_batch_starts_with_the_single_picture),
        cmocka_unit_test(engine_run__couple_with_one_region_everywhere_is_a_plain_run),
        cmocka_unit_test(engine_run__couple_of_equal_prompts_is_a_plain_run),
        cmocka_unit_test(engine_run__region_keys_reach_the_plan),
        cmocka_unit_test(engine_run__decodes_what_it_encodes),
        cmocka_unit_test(engine_run__by_hand_equals_a_run),
        cmocka_unit_test(engine_run__memory_limit_changes_no_number),
        cmocka_unit_test(engine_open__says_what_is_wrong),
    };
    return cmocka_run_group_tests(tests, open_engine, close_engine);
}
