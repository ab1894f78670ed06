/* test_nodes_scene.c - the node TesseraScene: equal to the engine's own run, its files inside the folders, its faults told
 * beforehand, and pictures that recall their scene. */
#include "graph_fixture.h"

#include "engine/scene_priv.h"
#include "tessera/tessera.h"

/* scene: JSON text without quotes escaped; *text: a workflow that saves picture and latent. Release with free(). */
static char *scene_workflow(const char *scene, const char *seed) {
    json_t *inputs = json_pack("{s:s, s:s, s:i}", "ckpt_name", "one.safetensors", "scene", scene, "seed", 0);
    char *literal = json_dumps(inputs, JSON_COMPACT), *text = malloc(strlen(literal) + 600);
    char *zero = strstr(literal, "\"seed\":0");
    assert_non_null(zero);
    sprintf(text,
            "{\"1\":{\"class_type\":\"TesseraScene\",\"inputs\":%.*s\"seed\":%s}},"
            "\"2\":{\"class_type\":\"SaveImage\",\"inputs\":{\"images\":[\"1\",0],\"filename_prefix\":\"s\"}},"
            "\"3\":{\"class_type\":\"SaveLatent\",\"inputs\":{\"samples\":[\"1\",1],\"filename_prefix\":\"l\"}}}",
            (int)(zero - literal), literal, seed);
    json_decref(inputs);
    free(literal);
    return text;
}

static tsr_workflow_outputs *paint(fixture *f, const char *scene, const char *seed) {
    char *text = scene_workflow(scene, seed);
    tsr_workflow_outputs *outputs = run_text(f, text);
    free(text);
    return outputs;
}

static fixture opened(size_t cache_memory) {
    tsr_graph_options options = TSR_GRAPH_OPTIONS_INIT;
    fixture f;
    options.cache_memory = cache_memory;
    fixture_open(&f, &options);
    return f;
}

#define FIXTURE(cache)                                                                                                 \
    fixture f = opened(cache);                                                                                         \
    f.callbacks.user = &f

#define REGIONS                                                                                                        \
    "\"regions\":[{\"box\":\"0:0:50%:100%\",\"prompt\":\"a house\"},"                                                  \
    "{\"box\":\"50%:0:50%:100%\",\"prompt\":\"a tree\"}]"
#define SMALL "\"prompt\":\"grass\",\"width\":64,\"height\":64,\"steps\":3,\"seed\":1,"

static void scene__paints_what_the_engine_paints(void **state) {
    static const char json[] = "{" SMALL "\"sampler\":\"dpmpp_2m\"," REGIONS "}";
    tsr_engine_options options = TSR_ENGINE_OPTIONS_INIT;
    tsr_engine *engine = NULL;
    tsr_scene *scene = NULL;
    tsr_result *result = NULL;
    (void)state;
    FIXTURE(0);
    f.callbacks.preview_seconds = 1e-9;
    tsr_workflow_outputs *o = paint(&f, json, "18446744073709551615");
    assert_true(f.progress >= 6);
    assert_int_equal(f.previews, 3);
    options.model = TSR_GOLDEN_DIR "/checkpoints/golden-sd1.safetensors";
    options.precision = TSR_PRECISION_F32;
    assert_int_equal(tsr_engine_open(&engine, &options, NULL), TSR_OK);
    assert_int_equal(tsr_scene_from_json(&scene, json, sizeof json - 1, NULL), TSR_OK);
    assert_int_equal(tsr_scene_set(scene, "seed", "18446744073709551615", NULL), TSR_OK);
    assert_int_equal(tsr_engine_run(&result, engine, scene, NULL, NULL), TSR_OK);
    const tsr_image *image = o->items[o->items[0].image ? 0 : 1].image;
    const tsr_latent *latent = o->items[o->items[0].image ? 1 : 0].latent;
    assert_memory_equal(image->pixels, result->images[0]->pixels, 64 * 64 * 3);
    assert_memory_equal(latent->values, result->latent->values, tsr_latent_count(latent) * sizeof(float));
    tsr_result_free(result);
    tsr_scene_free(scene);
    tsr_engine_close(engine);
    tsr_workflow_outputs_free(o);
    fixture_close(&f);
}

/* What the engine warns of is a note of the run. */
static void scene__tells_its_warnings(void **state) {
    static const char json[] = "{" SMALL "\"base_only_steps\":3," REGIONS "}";
    (void)state;
    FIXTURE(0);
    tsr_workflow_outputs *o = paint(&f, json, "1");
    int told = 0;
    for (int i = 0; i < o->note_count; i++)
        told += strcmp(o->notes[i], "node 1: base_only_steps is 3 of 3 steps: the regions never start") == 0;
    if (told != 1) fail_msg("of %d notes the first is %s", o->note_count, o->note_count ? o->notes[0] : "");
    tsr_workflow_outputs_free(o);
    fixture_close(&f);
}

/* --- files --------------------------------------------------------------------------------------------------------------- */
static void write_mask(const fixture *f, const char *name) {
    char path[200];
    tsr_image *image = NULL;
    assert_int_equal(tsr_image_new(&image, 64, 64, 3, NULL), TSR_OK);
    memset(image->pixels, 255, 64 * 32 * 3);
    snprintf(path, sizeof path, "%s/%s", f->input, name);
    assert_int_equal(tsr_image_save(image, path, 0, NULL), TSR_OK);
    tsr_image_free(image);
}

/* The report's JSON, or "" without faults. */
static char *faults(fixture *f, const char *scene) {
    tsr_workflow_report *report = NULL;
    char *text = scene_workflow(scene, "1");
    tsr_workflow *workflow = load_text(text);
    assert_int_equal(tsr_workflow_validate(&report, f->graph, workflow, NULL), TSR_OK);
    char *json = report->faults ? report->json : strdup("");
    if (report->faults) report->json = NULL;
    tsr_workflow_report_free(report);
    tsr_workflow_free(workflow);
    free(text);
    return json;
}

static void expect_fault(fixture *f, const char *scene, const char *words) {
    char *json = faults(f, scene);
    if (words && (!strstr(json, words) || !strstr(json, "custom_validation_failed")))
        fail_msg("'%s' does not say '%s'", json, words);
    if (!words && *json) fail_msg("'%s'", json);
    free(json);
}

#define MASKED(name)    "{" SMALL "\"regions\":[{\"mask\":\"" name "\",\"prompt\":\"a tree\"}]}"
#define KEY(key, value) "{" SMALL "\"" key "\":\"" value "\"}"

static void scene__files_stay_in_their_folders(void **state) {
    char out[200], in[200];
    (void)state;
    FIXTURE(0);
    write_mask(&f, "top.png");
    snprintf(out, sizeof out, "%s/models/checkpoints/one.safetensors", f.root);
    snprintf(in, sizeof in, "%s/away.png", f.input);
    assert_int_equal(symlink(out, in), 0);
    snprintf(in, sizeof in, "%s/near.png", f.input);
    assert_int_equal(symlink("top.png", in), 0);
    expect_fault(&f, MASKED("top.png"), NULL);
    expect_fault(&f, MASKED("near.png"), NULL);
    expect_fault(&f, MASKED("none.png"), "scene - scene: mask: there is no file 'none.png'");
    expect_fault(&f, MASKED("/etc/passwd"), "not a name inside the input folder");
    expect_fault(&f, MASKED("../models/x"), "not a name inside the input folder");
    expect_fault(&f, MASKED("away.png"), "leads out of the input folder");
    expect_fault(&f, KEY("init_image", "/etc/passwd"), "scene: init_image: '/etc/passwd' is not a name");
    expect_fault(&f, KEY("init_latent", "../l.latent"), "scene: init_latent");
    expect_fault(&f, KEY("color_image", "away.png"), "leads out");
    expect_fault(&f, KEY("control_image", "top.png;/etc/passwd"), "scene: control_image: '/etc/passwd' is not a name");
    expect_fault(&f, KEY("control_image_data", "aGVsbG8=;\",\"control_image\":\"/etc/shadow;/etc/passwd"),
                 "scene: control_image: '/etc/passwd' is not a name"); /* the first is kept inside, the second not */
    expect_fault(&f, KEY("output", "x.png"), "scene: output names a file to write");
    expect_fault(&f, KEY("save_latent", "x"), "scene: save_latent names a file to write");
    expect_fault(&f, KEY("preview", "x.png"), "scene: preview names a file to write");
    expect_fault(&f, KEY("model", "/etc/passwd"), NULL); /* ckpt_name counts */
    expect_fault(&f, "{" SMALL "\"regions\":[{\"box\":\"0:0:32:64\",\"prompt\":\"a\",\"model\":\"two.safetensors\"}]}",
                 NULL);
    tsr_workflow_outputs_free(paint(&f, MASKED("top.png"), "1"));
    tsr_workflow_outputs_free(paint(&f, KEY("init_image", "near.png"), "1"));
    fixture_close(&f);
}

/* No key of the table opens or writes a file unasked: each path is answered for, each text is known to be harmless. */
static void scene__every_key_is_answered_for(void **state) {
    char scene[300], words[80];
    int paths = 0;
    (void)state;
    FIXTURE(0);
    for (int scope = TSR_OPTIONS_SCENE; scope <= TSR_OPTIONS_REGION; scope++)
        for (int i = 0; i < tsr_option_count((tsr_option_scope)scope); i++) {
            const tsr_option_info *option = tsr_option_at((tsr_option_scope)scope, i);
            int path = option->kind == TSR_OPTION_PATH, text = option->kind == TSR_OPTION_TEXT;
            if ((!path && !text) || (option->flags & TSR_OPTION_COMMAND)) continue;
            if (strcmp(option->key, "prompt") == 0 || strcmp(option->key, "negative") == 0) continue;
            if (strcmp(option->key, "name") == 0) continue;
            if (scope == TSR_OPTIONS_SCENE && strcmp(option->key, "model") == 0) continue;
            snprintf(words, sizeof words, "scene: %s", option->key);
            snprintf(scene, sizeof scene,
                     scope == TSR_OPTIONS_SCENE ? "{" SMALL "\"%s\":\"/etc/passwd\"}"
                                                : "{" SMALL "\"regions\":[{\"%s\":\"/etc/passwd\"}]}",
                     option->key);
            expect_fault(&f, scene, words);
            paths += path;
        }
    assert_true(paths >= 8);
    fixture_close(&f);
}

static void scene__masks_may_come_inside(void **state) {
    void *bytes = NULL;
    char *base64 = NULL, path[200], *scene = NULL;
    size_t size = 0;
    (void)state;
    FIXTURE(0);
    write_mask(&f, "top.png");
    tsr_workflow_outputs *from_file = paint(&f, MASKED("top.png"), "4");
    snprintf(path, sizeof path, "%s/top.png", f.input);
    assert_int_equal(tsr__read_file(&bytes, &size, path, 1 << 20, NULL), TSR_OK);
    assert_int_equal(tsr__base64_encode(&base64, bytes, size, NULL), TSR_OK);
    assert_int_equal(unlink(path), 0);
    scene = malloc(strlen(base64) + 400);
    sprintf(scene,
            "{" SMALL "\"regions\":[{\"mask\":\"/home/me/top.png\",\"mask_data\":\"%s\",\"prompt\":\"a tree\"}]}",
            base64);
    tsr_workflow_outputs *inside = paint(&f, scene, "4");
    for (int i = 0; i < 2; i++)
        if (inside->items[i].image)
            assert_memory_equal(inside->items[i].image->pixels, from_file->items[i].image->pixels, 64 * 64 * 3);
    tsr_workflow_outputs_free(from_file);
    tsr_workflow_outputs_free(inside);
    free(scene);
    free(base64);
    free(bytes);
    fixture_close(&f);
}

static void scene__faults_are_told_beforehand(void **state) {
    (void)state;
    FIXTURE(0);
    expect_fault(&f, "{" SMALL REGIONS "}", NULL);
    expect_fault(&f, "{\"prompt\"", "scene - scene: line 1:");
    expect_fault(&f, "{\"promt\":\"x\"}", "promt");
    expect_fault(&f, "{\"prompt\":\"x\",\"width\":63}", "width");
    expect_fault(&f, "{\"prompt\":\"x\",\"regions\":[{\"prompt\":\"y\"}]}", "region 1");
    fixture_close(&f);
}

/* --- from run to run ------------------------------------------------------------------------------------------------------ */
static void scene__is_kept_like_any_node(void **state) {
    (void)state;
    FIXTURE(16 << 20);
    write_mask(&f, "top.png");
    tsr_workflow_outputs_free(paint(&f, MASKED("top.png"), "1"));
    tsr_workflow_outputs_free(paint(&f, MASKED("top.png"), "1"));
    assert_non_null(strstr(f.told, "run[1 2 3]"));
    tsr_workflow_outputs_free(paint(&f, MASKED("top.png"), "2"));
    assert_non_null(strstr(f.told, "run[] >1"));
    write_mask(&f, "top.png"); /* the same picture in a new file */
    tsr_workflow_outputs_free(paint(&f, MASKED("top.png"), "2"));
    assert_non_null(strstr(f.told, "run[] >1"));
    /* Chance is not repeated. */
    for (int i = 0; i < 2; i++) tsr_workflow_outputs_free(paint(&f, "{" SMALL "\"seed_2nd\":\"random\"}", "3"));
    assert_non_null(strstr(f.told, "run[] >1"));
    fixture_close(&f);
}

static void scene__can_be_stopped(void **state) {
    tsr_error err = TSR_ERROR_INIT;
    tsr_workflow_outputs *none = NULL;
    (void)state;
    FIXTURE(16 << 20);
    char *text = scene_workflow("{" SMALL REGIONS "}", "1");
    f.stop_at = 3;
    assert_int_equal(try_run(&f, &none, text, &err), TSR_CANCELLED);
    f.stop_at = 0;
    tsr_workflow_outputs_free(run_text(&f, text));
    assert_non_null(strstr(f.told, "=1"));
    free(text);
    fixture_close(&f);
}

/* --- recalled ---------------------------------------------------------------------------------------------------------------- */
static void picture__recalls_its_scene(void **state) {
    tsr_scene *scene = NULL;
    tsr_image *image = NULL;
    (void)state;
    FIXTURE(0);
    tsr_workflow_outputs *o = paint(&f, "{" SMALL REGIONS "}", "18446744073709551615");
    assert_int_equal(tsr_image_load(&image, o->items[o->items[0].image ? 0 : 1].path, NULL), TSR_OK);
    assert_int_equal(tsr_scene_from_image(&scene, image, NULL), TSR_OK);
    assert_int_equal(tsr_scene_region_count(scene), 2);
    assert_string_equal(tsr_scene_get_region(scene, 1, "prompt"), "a tree");
    assert_string_equal(tsr_scene_get(scene, "seed"), "18446744073709551615");
    assert_string_equal(tsr_scene_get(scene, "model"), "one.safetensors");
    tsr_scene_free(scene);
    /* Tessera's own text goes before. */
    assert_int_equal(tsr_image_set_text(image, "tessera", "{\"prompt\":\"own\"}", NULL), TSR_OK);
    assert_int_equal(tsr_scene_from_image(&scene, image, NULL), TSR_OK);
    assert_string_equal(tsr_scene_get(scene, "prompt"), "own");
    tsr_scene_free(scene);
    tsr_image_free(image);
    tsr_workflow_outputs_free(o);
    fixture_close(&f);
}

/* A prompt of other nodes, or of none, leaves A1111's text its turn. */
static void picture__other_prompts_are_passed_over(void **state) {
    static const char *const prompts[] = {
        "{\"1\":{\"class_type\":\"KSampler\",\"inputs\":{\"scene\":\"{}\"}}}",
        "{\"1\":{\"class_type\":\"TesseraScene\",\"inputs\":{\"scene\":[\"2\",0]}}}",
        "[1, 2]",
        "{broken",
    };
    (void)state;
    for (size_t i = 0; i < sizeof prompts / sizeof *prompts; i++) {
        tsr_scene *scene = NULL;
        tsr_image *image = NULL;
        assert_int_equal(tsr_image_new(&image, 8, 8, 3, NULL), TSR_OK);
        assert_int_equal(tsr_image_set_text(image, "prompt", prompts[i], NULL), TSR_OK);
        assert_int_equal(tsr_scene_from_image(&scene, image, NULL), TSR_NOT_FOUND);
        assert_null(scene);
        assert_int_equal(tsr_image_set_text(image, "parameters", "a fox\nSteps: 7", NULL), TSR_OK);
        assert_int_equal(tsr_scene_from_image(&scene, image, NULL), TSR_OK);
        assert_string_equal(tsr_scene_get(scene, "steps"), "7");
        tsr_scene_free(scene);
        tsr_image_free(image);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scene__paints_what_the_engine_paints),
        cmocka_unit_test(scene__tells_its_warnings),
        cmocka_unit_test(scene__files_stay_in_their_folders),
        cmocka_unit_test(scene__every_key_is_answered_for),
        cmocka_unit_test(scene__masks_may_come_inside),
        cmocka_unit_test(scene__faults_are_told_beforehand),
        cmocka_unit_test(scene__is_kept_like_any_node),
        cmocka_unit_test(scene__can_be_stopped),
        cmocka_unit_test(picture__recalls_its_scene),
        cmocka_unit_test(picture__other_prompts_are_passed_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
