/* A memory budget over the models of a picture: the same bits, the promised number of packs, and never more than allowed. The
 * second and third models are the shipped one with the signs of its network's last bias or last weights turned over. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control_file.h"
#include "engine/engine_priv.h"
#include "tessera/tessera.h"
#include "weights/weights.h"
#include "whole_file.h"

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        tsr_error err = TSR_ERROR_INIT;                                                                                \
        if ((call) != TSR_OK) fail_msg("%s", err.message);                                                             \
    } while (0)

enum { STEPS = 3, MODELS = 3 };
static char copies[MODELS - 1][64], adapter[64], control[64], picture[64];

/* What the second region has besides its model. */
typedef enum extra { NOTHING, ADAPTER, CONTROL } extra;

/* --- files ---------------------------------------------------------------------------------------------------------------- */
/* The shipped model with the sign of an F16 tensor's values turned over. */
static void write_copy(const char *path, const tsr_engine *from, const char *name) {
    size_t size = 0;
    unsigned char *data = read_whole(tsr_engine_get_info(from).model, &size);
    tsr__weights *own = NULL;
    OK(tsr__weights_open_memory(&own, data, size, &err));
    const tsr__tensor_view *view = tsr__weights_find(own, name);
    assert_non_null(view);
    unsigned char *values = (unsigned char *)(uintptr_t)view->data;
    for (size_t i = 0; i < view->count; i++) values[2 * i + 1] ^= 0x80;
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    fclose(file);
    tsr__weights_close(own);
    free(data);
}

/* A LoRA of rank 1 for one layer of the UNet. */
static void write_adapter(void) {
    enum { WIDE = 256 };
    static const char *const layer = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q";
    static float values[2 * WIDE];
    char header[1024];
    for (int i = 0; i < 2 * WIDE; i++) values[i] = (float)(i % 17 - 8) / 40.0f;
    int n = snprintf(header, sizeof header,
                     "{\"%s.lora_down.weight\":{\"dtype\":\"F32\",\"shape\":[1,%d],\"data_offsets\":[0,%d]},"
                     "\"%s.lora_up.weight\":{\"dtype\":\"F32\",\"shape\":[%d,1],\"data_offsets\":[%d,%d]}}",
                     layer, WIDE, WIDE * 4, layer, WIDE, WIDE * 4, WIDE * 8);
    uint64_t length = (uint64_t)n;
    FILE *file = fopen(adapter, "wb");
    assert_non_null(file);
    fwrite(&length, sizeof length, 1, file);
    fwrite(header, 1, (size_t)n, file);
    fwrite(values, sizeof *values, 2 * WIDE, file);
    fclose(file);
}

static void write_picture(void) {
    static float rgb[64 * 96 * 3];
    tsr_image *image = NULL;
    numbers(rgb, "a picture", sizeof rgb / sizeof *rgb, 0.5, 0.5);
    OK(tsr_image_from_floats(&image, rgb, 96, 64, &err));
    OK(tsr_image_save(image, picture, 0, &err));
    tsr_image_free(image);
}

/* --- scenes ---------------------------------------------------------------------------------------------------------------- */
/* Two or three vertical stripes, each with a model of its own. */
static tsr_scene *stripes(int models, const char *sampler, extra with) {
    tsr_scene *scene = NULL;
    char box[40], steps[8];
    OK(tsr_scene_new(&scene, &err));
    snprintf(steps, sizeof steps, "%d", STEPS);
    OK(tsr_scene_set(scene, "prompt", "grass field", &err));
    OK(tsr_scene_set(scene, "steps", steps, &err));
    OK(tsr_scene_set(scene, "sampler", sampler, &err));
    OK(tsr_scene_set(scene, "width", "96", &err));
    OK(tsr_scene_set(scene, "height", "64", &err));
    for (int i = 0; i < models; i++) {
        int index = -1;
        OK(tsr_scene_add_region(scene, &index, &err));
        snprintf(box, sizeof box, "%d:0:%d:64", 96 / models * i, 96 / models);
        OK(tsr_scene_set_region(scene, index, "box", box, &err));
        OK(tsr_scene_set_region(scene, index, "prompt", i ? "a house on grass field" : "a cat face", &err));
        if (i) OK(tsr_scene_set_region(scene, index, "model", copies[i - 1], &err));
        if (i == 1 && with == CONTROL) {
            OK(tsr_scene_set_region(scene, index, "control", control, &err));
            OK(tsr_scene_set_region(scene, index, "control_image", picture, &err));
        }
        if (i == 1 && with == ADAPTER) OK(tsr_scene_set_region(scene, index, "lora", adapter, &err));
    }
    return scene;
}

static tsr_engine *open_engine(size_t budget) {
    tsr_engine *engine = NULL;
    tsr_engine_options options = TSR_ENGINE_OPTIONS_INIT;
    options.precision = TSR_PRECISION_F32;
    options.memory_budget = budget;
    OK(tsr_engine_open(&engine, &options, &err));
    return engine;
}

/* What all packed weights take at any time that the caller hears of. */
typedef struct peak {
    const tsr_engine *engine;
    size_t weights;
} peak;

static int measure(void *user, const tsr_progress *at) {
    peak *p = user;
    size_t now = 0;
    (void)at;
    for (const tsr_engine *e = p->engine; e; e = e == p->engine ? e->guests : e->next_guest)
        now += tsr__nn_weight_bytes(e->nn);
    if (now > p->weights) p->weights = now;
    return 0;
}

/* *peak_out: the most of packed weights. */
static tsr_result *paint(tsr_engine *engine, tsr_scene *scene, size_t *peak_out) {
    tsr_result *result = NULL;
    peak p = { .engine = engine };
    tsr_engine_callbacks callbacks = TSR_ENGINE_CALLBACKS_INIT;
    callbacks.user = &p;
    callbacks.progress = measure;
    OK(tsr_engine_run(&result, engine, scene, &callbacks, &err));
    tsr_scene_free(scene);
    if (peak_out) *peak_out = p.weights;
    return result;
}

static void expect_equal(const tsr_result *a, const tsr_result *b) {
    assert_memory_equal(a->latent->values, b->latent->values, tsr_latent_count(a->latent) * sizeof(float));
    assert_memory_equal(a->images[0]->pixels, b->images[0]->pixels,
                        (size_t)a->images[0]->width * (size_t)a->images[0]->height * 3);
}

/* Bytes of a budget that has room for so many UNets, and not for text encoders besides. */
static size_t room_for(int unets) {
    return (size_t)unets * 112 * 1000 * 1000 + (size_t)10 * 1000 * 1000;
}
enum { CONTROL_ROOM = 60 * 1000 * 1000 };

/* --- cases ------------------------------------------------------------------------------------------------------------------- */
/* Paints under a budget for `fitting` of the models' UNets; the same scene without one gives the same bits. */
static void expect_swaps(int models, int fitting, const char *sampler, extra with, int swaps) {
    size_t most = 0, all = 0, room = room_for(fitting) + (with == CONTROL ? CONTROL_ROOM : 0);
    tsr_engine *free_engine = open_engine(0), *tight = open_engine(room);
    tsr_result *want = paint(free_engine, stripes(models, sampler, with), &all);
    tsr_result *got = paint(tight, stripes(models, sampler, with), &most);
    print_message("%d models, room for %d, %s: %d swaps in %.3f s, weights %.1f MB of %.1f, held %.1f MB\n", models,
                  fitting, sampler, got->swaps, got->swap_seconds, (double)most / 1e6, (double)all / 1e6,
                  (double)tight->budget->peak / 1e6);
    expect_equal(got, want);
    assert_int_equal(want->swaps, 0);
    assert_int_equal(got->swaps, swaps);
    assert_true(got->swap_seconds > 0.0);
    assert_true(most <= room && tight->budget->peak <= room);
    assert_true(all > room);
    tsr_result_free(got);
    tsr_result_free(want);
    /* Once more with the same engine: texts are known, networks are not all there. */
    got = paint(tight, stripes(models, sampler, with), NULL);
    want = paint(free_engine, stripes(models, sampler, with), NULL);
    expect_equal(got, want);
    tsr_result_free(got);
    tsr_result_free(want);
    tsr_engine_close(free_engine);
    tsr_engine_close(tight);
}

/* The first step packs everybody once; each later call of the step begins with who is there. */
static void budget__of_one_of_two(void **state) {
    (void)state;
    expect_swaps(2, 1, "euler", NOTHING, STEPS - 1);
}

static void budget__serves_samplers_of_two_calls(void **state) {
    (void)state;
    expect_swaps(2, 1, "heun", NOTHING, 2 * STEPS - 2); /* the last step asks once */
}

static void budget__of_some_of_three(void **state) {
    (void)state;
    expect_swaps(3, 1, "euler", NOTHING, 2 * (STEPS - 1));
    expect_swaps(3, 2, "euler", NOTHING, STEPS - 1);
}

static void budget__keeps_adapters_of_a_swapped_model(void **state) {
    (void)state;
    tsr_engine *engine = open_engine(0);
    tsr_result *with = paint(engine, stripes(2, "euler", ADAPTER), NULL),
               *without = paint(engine, stripes(2, "euler", NOTHING), NULL);
    assert_memory_not_equal(with->latent->values, without->latent->values,
                            tsr_latent_count(with->latent) * sizeof(float));
    tsr_result_free(with);
    tsr_result_free(without);
    tsr_engine_close(engine);
    expect_swaps(2, 1, "euler", ADAPTER, STEPS - 1);
}

/* With one UNet at a time the second comes and goes with its control network; with two, only that goes. */
static void budget__swaps_control_networks(void **state) {
    (void)state;
    expect_swaps(2, 1, "euler", CONTROL, STEPS);
    tsr_engine *engine = open_engine(room_for(2) + CONTROL_ROOM / 3);
    tsr_result *got = paint(engine, stripes(2, "euler", CONTROL), NULL);
    print_message("%d swaps of %.1f MB\n", got->swaps, (double)got->swap_bytes / 1e6);
    assert_int_equal(got->swaps, STEPS - 1);
    tsr_result_free(got);
    tsr_engine_close(engine);
}

static void expect_plan(size_t budget, extra with, const char *one, const char *two) {
    char *text = NULL;
    tsr_engine *engine = open_engine(budget);
    tsr_scene *scene = stripes(2, "euler", with);
    OK(tsr_engine_plan(&text, engine, scene, &err));
    if (!strstr(text, one) || !strstr(text, two)) fail_msg("no '%s' or '%s' in:\n%s", one, two, text);
    tsr_free(text);
    tsr_scene_free(scene);
    tsr_engine_close(engine);
}

static void plan__says_what_fits(void **state) {
    (void)state;
    expect_plan((size_t)4000000000, NOTHING, "memory: 4000.0 MB hold everything", "model 2");
    expect_plan(room_for(2), NOTHING, "hold every UNet", "text encoders and VAE are released");
    expect_plan(room_for(1), NOTHING, "hold 1 of 2 UNets", "swap: 1 packed again from the file in every step");
    expect_plan(room_for(2), CONTROL, "with their control networks", "MB a step of one call");
}

static void budget__too_small_is_refused(void **state) {
    char *text = NULL;
    tsr_error why = TSR_ERROR_INIT;
    tsr_result *result = NULL;
    tsr_engine *engine = open_engine(50 * 1000 * 1000);
    tsr_scene *scene = stripes(2, "euler", NOTHING);
    (void)state;
    assert_int_equal(tsr_engine_plan(&text, engine, scene, &why), TSR_TOO_LARGE);
    if (!strstr(why.message, "memory: 50.0 MB cannot hold") || !strstr(why.message, "a UNet and one call") ||
        strchr(why.message, '\n'))
        fail_msg("%s", why.message);
    assert_int_equal(tsr_engine_run(&result, engine, scene, NULL, NULL), TSR_TOO_LARGE);
    assert_null(engine->unet); /* nothing was packed for nothing */
    tsr_scene_free(scene);
    tsr_engine_close(engine);
}

/* --- previews ---------------------------------------------------------------------------------------------------------------- */
static int count_preview(void *user, const tsr_image *image, const tsr_progress *at) {
    (void)at;
    assert_int_equal(image->height, 8); /* from the map: a pixel a cell, and no VAE among the UNets */
    ++*(int *)user;
    return 0;
}

static void budget__swaps_nothing_for_previews(void **state) {
    tsr_result *result = NULL;
    int previews = 0;
    tsr_engine *engine = open_engine(room_for(1));
    tsr_scene *scene = stripes(2, "euler", NOTHING);
    tsr_engine_callbacks callbacks = TSR_ENGINE_CALLBACKS_INIT;
    (void)state;
    callbacks.user = &previews;
    callbacks.preview = count_preview;
    OK(tsr_engine_run(&result, engine, scene, &callbacks, &err));
    assert_true(previews > 0);
    assert_int_equal(result->swaps, STEPS - 1);
    tsr_result_free(result);
    tsr_scene_free(scene);
    tsr_engine_close(engine);
}

static int make_files(void **state) {
    static const char *const turned[] = { "model.diffusion_model.out.2.bias", "model.diffusion_model.out.2.weight" };
    (void)state;
    unsetenv("TESSERA_MODEL");
    tsr_engine *engine = open_engine(0);
    for (int i = 0; i < MODELS - 1; i++) {
        snprintf(copies[i], sizeof copies[i], "/tmp/tessera-budget-%d-%d.safetensors", (int)getpid(), i);
        write_copy(copies[i], engine, turned[i]);
    }
    tsr_engine_close(engine);
    snprintf(adapter, sizeof adapter, "/tmp/tessera-budget-%d-lora.safetensors", (int)getpid());
    write_adapter();
    snprintf(control, sizeof control, "/tmp/tessera-budget-%d-control.safetensors", (int)getpid());
    control_file_write(control, "sd1", "");
    snprintf(picture, sizeof picture, "/tmp/tessera-budget-%d-control.png", (int)getpid());
    write_picture();
    return 0;
}

static int remove_files(void **state) {
    (void)state;
    for (int i = 0; i < MODELS - 1; i++) unlink(copies[i]);
    unlink(adapter);
    unlink(control);
    unlink(picture);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(budget__of_one_of_two),          cmocka_unit_test(budget__serves_samplers_of_two_calls),
        cmocka_unit_test(budget__of_some_of_three),       cmocka_unit_test(budget__keeps_adapters_of_a_swapped_model),
        cmocka_unit_test(budget__swaps_control_networks), cmocka_unit_test(plan__says_what_fits),
        cmocka_unit_test(budget__too_small_is_refused),   cmocka_unit_test(budget__swaps_nothing_for_previews),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
