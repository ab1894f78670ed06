/* Stopped pictures with the shipped model: states from the engine's own callbacks, gone on with by the same engine and by a
 * fresh one. Few steps, f32. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "run_watcher.h"
#include "tessera/tessera.h"

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        tsr_error err = TSR_ERROR_INIT;                                                                                \
        if ((call) != TSR_OK) fail_msg("%s", err.message);                                                             \
    } while (0)

static tsr_engine *engine;

/* 0: a plain run, 1: keep with soft, windowed regions, 2: couple, 3: restart with recovery. */
static tsr_scene *scene_of(int kind) {
    tsr_scene *scene = NULL;
    OK(tsr_scene_new(&scene, &err));
    OK(tsr_scene_set(scene, "prompt", "grass field", &err));
    OK(tsr_scene_set(scene, "negative", "blurry", &err));
    OK(tsr_scene_set(scene, "steps", "4", &err));
    OK(tsr_scene_set(scene, "width", "64", &err));
    OK(tsr_scene_set(scene, "height", "64", &err));
    OK(tsr_scene_set(scene, "batch", kind == 1 ? "2" : "1", &err));
    OK(tsr_scene_set(scene, "cfg", "3.50", &err));
    OK(tsr_scene_set(scene, "seed", "18446744073709551615", &err));
    OK(tsr_scene_set(scene, "sampler", kind == 3 ? "uni_pc" : "dpmpp_2m_sde", &err));
    if (kind == 1)
        OK(tsr_scene_parse_region(scene, "box=0:0:50%:100%,prompt=a cat face,feather=9,end=0.7", NULL, &err));
    if (kind == 2) OK(tsr_scene_set(scene, "mode", "couple", &err));
    if (kind == 3) OK(tsr_scene_set(scene, "history", "restart", &err));
    if (kind >= 1) OK(tsr_scene_parse_region(scene, "box=50%:0:50%:100%,prompt=a dog face", NULL, &err));
    return scene;
}

static void expect_same(const tsr_result *a, const tsr_result *b) {
    char *one = NULL, *two = NULL;
    assert_int_equal(a->image_count, b->image_count);
    assert_memory_equal(a->latent->shape, b->latent->shape, sizeof a->latent->shape);
    assert_memory_equal(a->latent->values, b->latent->values, tsr_latent_count(a->latent) * sizeof(float));
    for (int i = 0; i < a->image_count; i++) {
        assert_string_equal(tsr_image_text(a->images[i], "parameters"), tsr_image_text(b->images[i], "parameters"));
        assert_string_equal(tsr_image_text(a->images[i], "tessera"), tsr_image_text(b->images[i], "tessera"));
    }
    OK(tsr_scene_to_json(&one, a->scene, &err));
    OK(tsr_scene_to_json(&two, b->scene, &err));
    assert_string_equal(one, two);
    tsr_free(one);
    tsr_free(two);
}

static void engine_state__goes_on_to_the_same_bits(void **state) {
    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        tsr_scene *scene = scene_of(kind);
        tsr_result *whole = NULL;
        watcher all = { 0 };
        tsr_engine_callbacks callbacks = watcher_callbacks(&all);
        OK(tsr_engine_run(&whole, engine, scene, &callbacks, &err));
        assert_int_equal(all.saves, 0);
        for (int stop = 1; stop <= all.events + 1; stop += 3) {
            watcher w = { .stop_at = stop, .stop_decoding = stop > all.events - 3, .steps = all.ended }, again = { 0 };
            tsr_result *result = NULL;
            callbacks = watcher_callbacks(&w);
            assert_int_equal(tsr_engine_run(&result, engine, scene, &callbacks, NULL), TSR_CANCELLED);
            assert_null(result);
            assert_int_equal(w.saves, 1);
            callbacks = watcher_callbacks(&again);
            OK(tsr_engine_resume(&result, engine, w.state, w.size, &callbacks, &err));
            assert_true(again.events < all.events || stop == 1);
            expect_same(result, whole);
            tsr_result_free(result);
            free(w.state);
        }
        tsr_result_free(whole);
        tsr_scene_free(scene);
    }
}

static void engine_state__goes_on_after_sampling_and_in_a_fresh_engine(void **state) {
    tsr_scene *scene = scene_of(1), *told = NULL;
    tsr_result *whole = NULL, *result = NULL;
    tsr_engine *other = NULL;
    watcher w = { .stop_decoding = 1, .steps = 4 }, again = { 0 };
    tsr_engine_callbacks callbacks = watcher_callbacks(&w);
    (void)state;
    OK(tsr_engine_run(&whole, engine, scene, NULL, &err));
    assert_int_equal(tsr_engine_run(&result, engine, scene, &callbacks, NULL), TSR_CANCELLED);
    assert_int_equal(w.saves, 1);
    assert_int_equal(w.ended, 4);
    OK(tsr_state_scene(&told, w.state, w.size, &err));
    assert_string_equal(tsr_scene_get(told, "precision"), "f32");
    OK(tsr_engine_open_for(&other, told, &err));
    callbacks = watcher_callbacks(&again);
    OK(tsr_engine_resume(&result, other, w.state, w.size, &callbacks, &err));
    assert_int_equal(again.events, 0); /* the network was not asked again */
    expect_same(result, whole);
    tsr_result_free(result);
    tsr_engine_close(other);
    tsr_scene_free(told);
    tsr_result_free(whole);
    tsr_scene_free(scene);
    free(w.state);
}

static void engine_state__saves_after_steps(void **state) {
    tsr_scene *scene = scene_of(0);
    tsr_result *result = NULL;
    watcher w = { 0 };
    tsr_engine_callbacks callbacks = watcher_callbacks(&w);
    (void)state;
    callbacks.save_steps = 2;
    OK(tsr_engine_run(&result, engine, scene, &callbacks, &err));
    assert_int_equal(w.saves, 2);
    tsr_result_free(result);
    tsr_scene_free(scene);
    free(w.state);
}

static void engine_state__refuses_what_is_not_whole(void **state) {
    tsr_scene *scene = scene_of(2), *told = NULL;
    tsr_result *result = NULL;
    watcher w = { .stop_at = 4 };
    tsr_engine_callbacks callbacks = watcher_callbacks(&w);
    (void)state;
    assert_int_equal(tsr_engine_run(&result, engine, scene, &callbacks, NULL), TSR_CANCELLED);
    for (size_t size = 0; size < w.size; size += size < 300 ? 1 : 173) {
        tsr_error err = TSR_ERROR_INIT;
        unsigned char *part = malloc(size ? size : 1);
        assert_non_null(part);
        memcpy(part, w.state, size);
        assert_int_equal(tsr_state_scene(&told, part, size, &err), TSR_BAD_FORMAT);
        assert_null(told);
        assert_true(err.message[0]);
        free(part);
    }
    for (size_t at = 0; at < w.size; at += 61) {
        tsr_error err = TSR_ERROR_INIT;
        w.state[at] ^= 4;
        assert_int_not_equal(tsr_engine_resume(&result, engine, w.state, w.size, NULL, &err), TSR_OK);
        assert_null(result);
        w.state[at] ^= 4;
    }
    OK(tsr_engine_resume(&result, engine, w.state, w.size, NULL, &err));
    tsr_result_free(result);
    tsr_scene_free(scene);
    free(w.state);
}

/* A run that an embedding shaped is not gone on with when the file has become another one. */
static void engine_state__remembers_embeddings(void **state) {
    char root[] = "/tmp/tessera-state-XXXXXX", model[64], folder[64], word[80], command[200];
    tsr_engine_options options = TSR_ENGINE_OPTIONS_INIT;
    tsr_scene *scene = scene_of(1);
    tsr_result *whole = NULL, *result = NULL;
    tsr_engine *own = NULL;
    watcher w = { .stop_at = 6 };
    tsr_engine_callbacks callbacks = watcher_callbacks(&w);
    tsr_error err = TSR_ERROR_INIT;
    (void)state;
    assert_non_null(mkdtemp(root));
    snprintf(model, sizeof model, "%s/m.safetensors", root);
    snprintf(folder, sizeof folder, "%s/embeddings", root);
    snprintf(word, sizeof word, "%s/word.pt", folder);
    assert_int_equal(symlink(TSR_GOLDEN_DIR "/checkpoints/golden-sd1.safetensors", model), 0);
    assert_int_equal(mkdir(folder, 0700), 0);
    assert_int_equal(symlink(TSR_GOLDEN_DIR "/embeddings/bare.pt", word), 0);
    options.model = model;
    options.precision = TSR_PRECISION_F32;
    assert_int_equal(tsr_engine_open(&own, &options, NULL), TSR_OK);
    assert_int_equal(tsr_scene_set(scene, "negative", "a (embedding:word:1.2)", NULL), TSR_OK);
    assert_int_equal(tsr_engine_run(&whole, own, scene, NULL, NULL), TSR_OK);
    assert_int_equal(tsr_engine_run(&result, own, scene, &callbacks, NULL), TSR_CANCELLED);
    assert_int_equal(tsr_engine_resume(&result, own, w.state, w.size, NULL, NULL), TSR_OK);
    expect_same(result, whole);
    tsr_result_free(result);
    assert_int_equal(unlink(word) | symlink(TSR_GOLDEN_DIR "/embeddings/list.pt", word), 0);
    assert_int_equal(tsr_engine_resume(&result, own, w.state, w.size, NULL, &err), TSR_BAD_ARGUMENT);
    if (!strstr(err.message, "bare.pt")) fail_msg("%s", err.message);
    snprintf(command, sizeof command, "rm -r %s", root);
    assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c): a folder of this test's own */
    tsr_result_free(whole);
    tsr_scene_free(scene);
    tsr_engine_close(own);
    free(w.state);
}

static int open_engine(void **state) {
    tsr_engine_options options = TSR_ENGINE_OPTIONS_INIT;
    (void)state;
    options.precision = TSR_PRECISION_F32;
    options.threads = 2;
    return tsr_engine_open(&engine, &options, NULL) == TSR_OK ? 0 : -1;
}

static int close_engine(void **state) {
    (void)state;
    tsr_engine_close(engine);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(engine_state__goes_on_to_the_same_bits),
        cmocka_unit_test(engine_state__goes_on_after_sampling_and_in_a_fresh_engine),
        cmocka_unit_test(engine_state__saves_after_steps),
        cmocka_unit_test(engine_state__refuses_what_is_not_whole),
        cmocka_unit_test(engine_state__remembers_embeddings),
    };
    return cmocka_run_group_tests(tests, open_engine, close_engine);
}
