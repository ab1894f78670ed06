/* Outpainting under a change map with the shipped model: stopped anywhere, it goes on to the same pictures without the init
 * image; states that lie about the picture inside are refused. Few steps, f32. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "run_watcher.h"
#include "tessera/tessera.h"

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        tsr_error err = TSR_ERROR_INIT;                                                                                \
        if ((call) != TSR_OK) fail_msg("%s", err.message);                                                             \
    } while (0)

enum { SIDE = 64, MARGIN = 16, STEPS = 3 };

static tsr_engine *engine;
static char folder[] = "/tmp/tessera-repaint-XXXXXX", picture[64];

static void write_picture(void) {
    tsr_image *image = NULL;
    OK(tsr_image_new(&image, SIDE, SIDE, 3, &err));
    for (int i = 0; i < 3 * SIDE * SIDE; i++) image->pixels[i] = (unsigned char)(i * 7 % 251);
    OK(tsr_image_save(image, picture, 0, &err));
    tsr_image_free(image);
}

static tsr_scene *new_scene(void) {
    static const char *const settings[][2] = { { "prompt", "grass field" },
                                               { "steps", "3" },
                                               { "seed", "5" },
                                               { "batch", "2" },
                                               { "outpaint_left", "16" },
                                               { "outpaint_feather", "12" },
                                               { "differential", "true" },
                                               { "mask_fill", "noise" },
                                               { "sampler", "dpmpp_2m_sde" } };
    tsr_scene *scene = NULL;
    OK(tsr_scene_new(&scene, &err));
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        OK(tsr_scene_set(scene, settings[i][0], settings[i][1], &err));
    OK(tsr_scene_set(scene, "init_image", picture, &err));
    return scene;
}

/* A run that is stopped; its state is in the watcher. */
static void stop(watcher *w) {
    w->steps = STEPS;
    tsr_engine_callbacks callbacks = watcher_callbacks(w);
    tsr_scene *scene = new_scene();
    tsr_result *result = NULL;
    write_picture();
    assert_int_equal(tsr_engine_run(&result, engine, scene, &callbacks, NULL), TSR_CANCELLED);
    assert_int_equal(unlink(picture), 0);
    assert_non_null(w->state);
    tsr_scene_free(scene);
}

static void repaint__goes_on_without_its_picture(void **state) {
    tsr_scene *scene = new_scene();
    tsr_result *whole = NULL, *result = NULL;
    (void)state;
    write_picture();
    OK(tsr_engine_run(&whole, engine, scene, NULL, &err));
    assert_int_equal(whole->image_count, 2);
    const size_t bytes = (size_t)3 * (SIDE + MARGIN) * SIDE;
    for (int i = 0; i < 2; i++) { /* both pictures of the batch have its pixels */
        assert_int_equal(whole->images[i]->width, SIDE + MARGIN);
        for (int x = 12; x < SIDE; x++)
            assert_int_equal(whole->images[i]->pixels[3 * (5 * (SIDE + MARGIN) + MARGIN + x)],
                             3 * (5 * SIDE + x) * 7 % 251);
    }
    assert_memory_not_equal(whole->images[0]->pixels, whole->images[1]->pixels, bytes);
    for (int at = 1; at <= 5; at++) {
        watcher w = { .stop_at = at < 5 ? at : 0, .stop_decoding = at == 5 };
        stop(&w);
        OK(tsr_engine_resume(&result, engine, w.state, w.size, NULL, &err));
        for (int i = 0; i < 2; i++) assert_memory_equal(result->images[i]->pixels, whole->images[i]->pixels, bytes);
        tsr_result_free(result);
        free(w.state);
    }
    tsr_result_free(whole);
    tsr_scene_free(scene);
}

/* As the state's own checksum is made. */
static void seal(watcher *w) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < w->size - 8; i++) hash = (hash ^ w->state[i]) * 0x100000001b3u;
    for (int i = 0; i < 8; i++) w->state[w->size - 8 + (size_t)i] = (unsigned char)(hash >> (8 * i));
}

static unsigned char *find_picture(const watcher *w) {
    for (size_t i = 0; i + 16 < w->size; i++)
        if (memcmp(w->state + i, "TSRPICTR", 8) == 0) return w->state + i;
    fail_msg("the state holds no picture");
    return NULL;
}

static void repaint__refuses_states_that_lie_about_the_picture(void **state) {
    static const unsigned char sizes[][2] = {
        { 0, SIDE }, { SIDE, 0 }, { SIDE, SIDE + MARGIN }, { 255, 255 }, { 1, 1 }
    };
    watcher w = { .stop_at = 2 };
    tsr_result *result = NULL;
    (void)state;
    stop(&w);
    unsigned char *at = find_picture(&w);
    size_t step = at[8] == SIDE + MARGIN && at[12] == SIDE ? 4 : 8; /* bytes of a number */
    assert_true(at[8] == SIDE + MARGIN && at[8 + step] == SIDE);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        tsr_error err = TSR_ERROR_INIT;
        at[8] = sizes[i][0];
        at[8 + step] = sizes[i][1];
        seal(&w);
        assert_int_equal(tsr_engine_resume(&result, engine, w.state, w.size, NULL, &err), TSR_BAD_FORMAT);
        assert_null(result);
        assert_null(strchr(err.message, '\n'));
    }
    at[8] = SIDE + MARGIN;
    at[8 + step] = SIDE;
    seal(&w);
    OK(tsr_engine_resume(&result, engine, w.state, w.size, NULL, &err));
    tsr_result_free(result);
    free(w.state);
}

static int open_all(void **state) {
    tsr_engine_options options = TSR_ENGINE_OPTIONS_INIT;
    (void)state;
    if (!mkdtemp(folder)) return 1;
    snprintf(picture, sizeof picture, "%s/start.png", folder);
    options.model = TSR_SOURCE_DIR "/models/tessera-demo.safetensors";
    options.precision = TSR_PRECISION_F32;
    return tsr_engine_open(&engine, &options, NULL) != TSR_OK;
}

static int close_all(void **state) {
    (void)state;
    tsr_engine_close(engine);
    (void)unlink(picture);
    return rmdir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(repaint__goes_on_without_its_picture),
        cmocka_unit_test(repaint__refuses_states_that_lie_about_the_picture),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
