/* Scenes with inpainting models: what the network is given, regions in every mode beside other models, adapters and control on
 * them, stopped runs, a memory budget. The models are the golden one with a wider first convolution: `wide` reads the new
 * channels, `blind` has zeros for them and must paint what the golden one paints. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control_file.h"
#include "engine/engine_priv.h"
#include "golden_file.h"
#include "inpaint_file.h"
#include "run_watcher.h"
#include "tessera/tessera.h"

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        tsr_error err = TSR_ERROR_INIT;                                                                                \
        if ((call) != TSR_OK) fail_msg("%s", err.message);                                                             \
    } while (0)
#define GOLDEN TSR_GOLDEN_DIR "/checkpoints/golden-sd1.safetensors"

enum { SIDE = 64, CELLS = SIDE / 8, PLANE = CELLS * CELLS, COUNT = 4 * PLANE };

static char wide[64], blind[64], picture[64], mask[64], control[64], adapter[64];
static tsr_engine *plain, *seeing, *unseeing;

/* --- files -------------------------------------------------------------------------------------------------------------------- */
static int pixel(int x, int y, int c) {
    return (4 * x ^ (2 * y + 40 * c)) & 255;
}
static int inside(int x, int y) {
    return x >= 18 && x < 50 && y >= 10 && y < 44;
}

static void write_picture(const char *path, int is_mask) {
    tsr_image *image = NULL;
    OK(tsr_image_new(&image, SIDE, SIDE, 3, &err));
    for (int i = 0; i < SIDE * SIDE * 3; i++) {
        int x = i / 3 % SIDE, y = i / 3 / SIDE;
        image->pixels[i] = (unsigned char)(is_mask ? 255 * inside(x, y) : pixel(x, y, i % 3));
    }
    OK(tsr_image_save(image, path, 0, &err));
    tsr_image_free(image);
}

/* A LoRA of rank 1 for two layers of the network; the first is made for 4 channels going in. */
static void write_adapter(const char *path, int with_first) {
    static const char first[] = "lora_unet_conv_in", second[] = "lora_unet_mid_block_attentions_0_proj_in";
    static float values[36 + 64 + 256 + 256];
    const struct {
        const char *layer, *part, *shape;
        int count;
    } tensors[] = { { first, "lora_down", "[1,4,3,3]", 36 },
                    { first, "lora_up", "[64,1,1,1]", 64 },
                    { second, "lora_down", "[1,256,1,1]", 256 },
                    { second, "lora_up", "[256,1,1,1]", 256 } };
    char header[1024] = "{", entry[256];
    int at = 0;
    numbers(values, "adapter", sizeof values / sizeof *values, 0.2, 0.0);
    for (int i = with_first ? 0 : 2; i < 4; i++) {
        snprintf(entry, sizeof entry, "%s\"%s.%s.weight\":{\"dtype\":\"F32\",\"shape\":%s,\"data_offsets\":[%d,%d]}",
                 at ? "," : "", tensors[i].layer, tensors[i].part, tensors[i].shape, 4 * at,
                 4 * (at + tensors[i].count));
        strcat(header, entry);
        at += tensors[i].count;
    }
    strcat(header, "}");
    uint64_t length = strlen(header);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    fwrite(&length, sizeof length, 1, file);
    fwrite(header, 1, length, file);
    fwrite(values + (with_first ? 0 : 100), sizeof *values, (size_t)at, file);
    assert_int_equal(fclose(file), 0);
}

static tsr_engine *open_model(const char *path, size_t budget) {
    tsr_engine *engine = NULL;
    tsr_engine_options options = TSR_ENGINE_OPTIONS_INIT;
    options.model = path;
    options.precision = TSR_PRECISION_F32;
    options.memory_budget = budget;
    OK(tsr_engine_open(&engine, &options, &err));
    return engine;
}

static int setup(void **state) {
    char *const names[] = { wide, blind, picture, mask, control, adapter };
    static const char *const ends[] = { "wide.safetensors", "blind.safetensors",   "picture.png",
                                        "mask.png",         "control.safetensors", "adapter.safetensors" };
    (void)state;
    for (int i = 0; i < 6; i++) snprintf(names[i], sizeof wide, "/tmp/tsr_inp_%d_%s", (int)getpid(), ends[i]);
    widen_checkpoint(wide, "golden-sd1", 5, 0.25);
    widen_checkpoint(blind, "golden-sd1", 5, 0.0);
    write_picture(picture, 0);
    write_picture(mask, 1);
    control_file_write(control, "sd1", "");
    write_adapter(adapter, 1);
    plain = open_model(GOLDEN, 0);
    seeing = open_model(wide, 0);
    unseeing = open_model(blind, 0);
    return 0;
}

static int teardown(void **state) {
    char *const names[] = { wide, blind, picture, mask, control, adapter };
    (void)state;
    tsr_engine_close(plain);
    tsr_engine_close(seeing);
    tsr_engine_close(unseeing);
    for (int i = 0; i < 6; i++) unlink(names[i]);
    return 0;
}

/* --- scenes ------------------------------------------------------------------------------------------------------------------- */
static tsr_scene *scene_of(const char *steps) {
    tsr_scene *scene = NULL;
    OK(tsr_scene_new(&scene, &err));
    OK(tsr_scene_set(scene, "prompt", "grass field", &err));
    OK(tsr_scene_set(scene, "steps", steps, &err));
    OK(tsr_scene_set(scene, "init_image", picture, &err));
    OK(tsr_scene_set(scene, "mask", mask, &err));
    OK(tsr_scene_set(scene, "overlap", "0", &err));
    return scene;
}

static void add_region(tsr_scene *scene, const char *box, const char *prompt, const char *model) {
    int index = -1;
    OK(tsr_scene_add_region(scene, &index, &err));
    OK(tsr_scene_set_region(scene, index, "box", box, &err));
    OK(tsr_scene_set_region(scene, index, "prompt", prompt, &err));
    if (model) OK(tsr_scene_set_region(scene, index, "model", model, &err));
}

static tsr_result *run(tsr_engine *engine, const tsr_scene *scene) {
    tsr_result *result = NULL;
    OK(tsr_engine_run(&result, engine, scene, NULL, &err));
    return result;
}

/* Largest difference of the latents, by the largest value; frees both. */
static double apart(tsr_result *a, tsr_result *b) {
    double most = max_abs_diff(a->latent->values, b->latent->values, COUNT) / max_abs(a->latent->values, COUNT);
    tsr_result_free(a);
    tsr_result_free(b);
    return most;
}

/* --- what the network is given ------------------------------------------------------------------------------------------------ */
static void picture__is_grey_under_the_mask(void **state) {
    static float rgb[SIDE * SIDE * 3];
    tsr_scene *scene = scene_of("1");
    tsr__job *job = NULL;
    tsr_latent *want = NULL;
    (void)state;
    for (int i = 0; i < SIDE * SIDE * 3; i++) {
        int x = i / 3 % SIDE, y = i / 3 / SIDE;
        rgb[i] = inside(x, y) ? 0.5f : (float)pixel(x, y, i % 3) / 255.0f;
    }
    OK(tsr__job_new(&job, seeing, scene, NULL, 1, &err));
    OK(tsr__engine_encode_rgb(&want, seeing, rgb, SIDE, SIDE, 0, &err));
    assert_non_null(job->concat);
    assert_true(max_abs_diff(job->concat->values, want->values, COUNT) < 1e-5 * max_abs(want->values, COUNT));
    assert_int_equal(job->concat->noise_mask->width, SIDE);
    for (int i = 0; i < SIDE * SIDE; i++)
        assert_true(job->concat->noise_mask->values[i] == (float)inside(i % SIDE, i / SIDE));
    tsr__job_free(job);
    OK(tsr__job_new(&job, plain, scene, NULL, 1, &err)); /* nobody would read it */
    assert_null(job->concat);
    tsr__job_free(job);
    tsr_latent_free(want);
    tsr_scene_free(scene);
}

/* Margins are holes too, on the larger picture. */
static void margins__are_grey_and_masked(void **state) {
    enum { LEFT = 16, WIDTH = SIDE + LEFT };
    static float rgb[SIDE * WIDTH * 3];
    tsr_scene *scene = scene_of("1");
    tsr__job *job = NULL;
    tsr_latent *want = NULL;
    (void)state;
    for (int i = 0; i < SIDE * WIDTH * 3; i++) {
        int x = i / 3 % WIDTH - LEFT, y = i / 3 / WIDTH;
        rgb[i] = x < 0 || inside(x, y) ? 0.5f : (float)pixel(x, y, i % 3) / 255.0f;
    }
    OK(tsr_scene_set(scene, "outpaint_left", "16", &err));
    OK(tsr_scene_set(scene, "outpaint_feather", "0", &err));
    OK(tsr__job_new(&job, seeing, scene, NULL, 1, &err));
    OK(tsr__engine_encode_rgb(&want, seeing, rgb, WIDTH, SIDE, 0, &err));
    size_t count = tsr_latent_count(want);
    assert_int_equal(tsr_latent_count(job->concat), count);
    assert_true(max_abs_diff(job->concat->values, want->values, count) < 1e-5 * max_abs(want->values, count));
    assert_int_equal(job->concat->noise_mask->width, WIDTH);
    for (int x = 0; x < WIDTH; x++)
        assert_true(job->concat->noise_mask->values[x] == (x < LEFT ? 1.0f : 0.0f)); /* the first row */
    tsr__job_free(job);
    tsr_latent_free(want);
    tsr_scene_free(scene);
}

static void network__sees_what_lies_outside_the_mask(void **state) {
    tsr_scene *scene = scene_of("2");
    (void)state;
    tsr_result *with = run(seeing, scene);
    OK(tsr_scene_set(scene, "mask", NULL, &err));
    tsr_result *without = run(seeing, scene);
    assert_true(apart(with, without) > 0.01);
    /* Bound to that run: the next one on the same engine starts from nothing again. */
    assert_null(seeing->concat);
    assert_null(seeing->edited);
    tsr_scene_free(scene);
}

/* --- regions ------------------------------------------------------------------------------------------------------------------ */
static void expect_half(const tsr_result *a, const tsr_result *b, int from, const char *what) {
    for (int i = 0; i < COUNT; i++)
        if (i % CELLS >= from && i % CELLS < from + CELLS / 2 && a->latent->values[i] != b->latent->values[i])
            fail_msg("%s: value %d is %.9g, alone %.9g", what, i, (double)a->latent->values[i],
                     (double)b->latent->values[i]);
}

/* One step: each half is what its own model paints with its region everywhere, bit for bit. */
static void regions__with_and_without_an_inpainting_model(void **state) {
    static const char left[] = "a cat face on grass field", right[] = "a house on grass field";
    (void)state;
    for (int other_way = 0; other_way < 2; other_way++) {
        tsr_scene *both = scene_of("1"), *one = scene_of("1"), *two = scene_of("1");
        add_region(both, "0:0:50%:100%", left, NULL);
        add_region(both, "50%:0:50%:100%", right, other_way ? GOLDEN : wide);
        add_region(one, "0:0:100%:100%", left, NULL);
        add_region(two, "0:0:100%:100%", right, NULL);
        tsr_engine *host = other_way ? seeing : plain, *guest = other_way ? plain : seeing;
        tsr_result *shared = run(host, both), *first = run(host, one), *second = run(guest, two);
        expect_half(shared, first, 0, "left");
        expect_half(shared, second, CELLS / 2, "right");
        tsr_result_free(shared);
        tsr_result_free(first);
        tsr_result_free(second);
        tsr_scene_free(both);
        tsr_scene_free(one);
        tsr_scene_free(two);
    }
}

/* Every way of sharing and both histories, with an adapter and a control network: new channels that weigh nothing change
 * nothing. */
static void everything__works_on_a_wider_network(void **state) {
    static const char *const sets[][3] = { { "mode", "full", "keep" },
                                           { "mode", "crop", "keep" },
                                           { "mode", "couple", "keep" },
                                           { "history", "restart", "restart" } };
    (void)state;
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        tsr_scene *scene = scene_of("2");
        OK(tsr_scene_set(scene, sets[i][0], sets[i][1], &err));
        OK(tsr_scene_set(scene, "lora", TSR_GOLDEN_DIR "/loras/lora-kohya-conv.safetensors:0.8", &err));
        OK(tsr_scene_set(scene, "control", control, &err));
        OK(tsr_scene_set(scene, "control_image", picture, &err));
        add_region(scene, "0:0:50%:100%", "a cat face", NULL);
        add_region(scene, "50%:0:50%:50%", "a house", NULL);
        tsr_result *want = run(plain, scene), *got = run(unseeing, scene), *other = run(seeing, scene);
        assert_true(max_abs_diff(got->latent->values, other->latent->values, COUNT) > 1e-3);
        tsr_result_free(other);
        double worst = apart(want, got);
        print_message("%s %s: %.2e\n", sets[i][0], sets[i][1], worst);
        assert_true(worst < 1e-5);
        tsr_scene_free(scene);
    }
}

/* --- adapters ----------------------------------------------------------------------------------------------------------------- */
static void adapters__leave_the_first_convolution_alone(void **state) {
    tsr_scene *scene = scene_of("2");
    (void)state;
    tsr_result *none = run(seeing, scene);
    OK(tsr_scene_set(scene, "lora", adapter, &err));
    tsr_result *whole = run(seeing, scene), *fitting = run(plain, scene);
    assert_int_equal(fitting->warning_count, 0);
    assert_int_equal(whole->warning_count, 1);
    assert_non_null(strstr(whole->warnings[0], "1 of its 2 layers"));
    assert_non_null(strstr(whole->warnings[0], "lora_unet_conv_in"));
    tsr_result_free(fitting);
    char second[80];
    snprintf(second, sizeof second, "%s.second", adapter);
    write_adapter(second, 0);
    OK(tsr_scene_set(scene, "lora", second, &err));
    tsr_result *part = run(seeing, scene);
    assert_true(max_abs_diff(none->latent->values, part->latent->values, COUNT) > 1e-3);
    assert_true(apart(whole, part) == 0.0);
    tsr_result_free(none);
    tsr_scene_free(scene);
    unlink(second);
}

/* --- stopped runs --------------------------------------------------------------------------------------------------------------- */

/* At every event, also with the picture and the mask gone. */
static void stopped_runs__go_on_to_the_same_bits(void **state) {
    tsr_scene *scene = scene_of("3");
    char away[80];
    int stops = 0;
    (void)state;
    OK(tsr_scene_set(scene, "sampler", "dpmpp_2m_sde", &err));
    add_region(scene, "0:0:50%:100%", "a cat face", GOLDEN);
    tsr_result *want = run(seeing, scene);
    snprintf(away, sizeof away, "%s.away", picture);
    for (int at = 1;; at++, stops++) {
        watcher w = { .stop_at = at };
        tsr_result *result = NULL;
        tsr_engine_callbacks callbacks = watcher_callbacks(&w);
        tsr_status status = tsr_engine_run(&result, seeing, scene, &callbacks, NULL);
        if (status == TSR_OK) {
            tsr_result_free(result);
            free(w.state);
            break;
        }
        assert_int_equal(status, TSR_CANCELLED);
        assert_int_equal(rename(picture, away), 0);
        OK(tsr_engine_resume(&result, seeing, w.state, w.size, NULL, &err));
        assert_int_equal(rename(away, picture), 0);
        assert_memory_equal(result->latent->values, want->latent->values, COUNT * sizeof(float));
        assert_memory_equal(result->images[0]->pixels, want->images[0]->pixels, SIDE * SIDE * 3);
        tsr_result_free(result);
        free(w.state);
    }
    assert_true(stops >= 6);
    tsr_result_free(want);
    tsr_scene_free(scene);
}

/* --- memory ----------------------------------------------------------------------------------------------------------------------- */
static void budget__changes_nothing(void **state) {
    tsr_scene *scene = scene_of("2");
    (void)state;
    add_region(scene, "0:0:50%:100%", "a cat face", GOLDEN);
    tsr_engine *tight = open_model(wide, (size_t)124 << 20);
    tsr_result *want = run(seeing, scene), *got = run(tight, scene);
    assert_true(got->swaps > 0);
    assert_memory_equal(got->latent->values, want->latent->values, COUNT * sizeof(float));
    tsr_result_free(want);
    tsr_result_free(got);
    tsr_engine_close(tight);
    tsr_scene_free(scene);
}

/* --- kinds ------------------------------------------------------------------------------------------------------------------------ */
static void describe(tsr__checkpoint_info *info, const char *path) {
    tsr__weights *weights = NULL;
    OK(tsr__weights_open(&weights, path, &err));
    tsr__checkpoint_describe(info, weights);
    tsr__weights_close(weights);
}

static void kinds__are_told_by_the_first_convolution(void **state) {
    tsr__checkpoint_info info;
    char path[80], *text = NULL;
    (void)state;
    describe(&info, GOLDEN);
    assert_int_equal(info.variant, TSR_VARIANT_PLAIN);
    describe(&info, wide);
    assert_int_equal(info.variant, TSR_VARIANT_INPAINT);
    assert_int_equal(info.kind, TSR_CHECKPOINT_SD1);
    snprintf(path, sizeof path, "%s.other", wide);
    widen_checkpoint(path, "tiny-sdxl", 4, 0.25);
    describe(&info, path);
    assert_int_equal(info.variant, TSR_VARIANT_EDIT);
    widen_checkpoint(path, "golden-sd1", 1, 0.25);
    describe(&info, path);
    assert_int_equal(info.variant, TSR_VARIANT_UNKNOWN);
    OK(tsr_inspect_file(&text, wide, &err));
    assert_non_null(strstr(text, "family SD1, inpainting, predicts eps"));
    tsr_free(text);
    unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(picture__is_grey_under_the_mask),
        cmocka_unit_test(margins__are_grey_and_masked),
        cmocka_unit_test(network__sees_what_lies_outside_the_mask),
        cmocka_unit_test(regions__with_and_without_an_inpainting_model),
        cmocka_unit_test(everything__works_on_a_wider_network),
        cmocka_unit_test(adapters__leave_the_first_convolution_alone),
        cmocka_unit_test(stopped_runs__go_on_to_the_same_bits),
        cmocka_unit_test(budget__changes_nothing),
        cmocka_unit_test(kinds__are_told_by_the_first_convolution),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
