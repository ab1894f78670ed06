/* test_graph_memory.c - a memory bound over the models of a workflow: the same bits, the promised number of packs, never more
 * than allowed, and one line where it is too small. */
#include "graph_fixture.h"

#include "graph/graph_priv.h"

#define MB ((size_t)1000 * 1000)
/* Room for one UNet of these models in float32 and a call of it, and not for a text encoder or a second UNet besides. */
#define ROOM (122 * MB)

/* `two` is another network than `one`, and there are adapters. */
static void open_with(fixture *f, const tsr_graph_options *options) {
    char path[200], *demo = NULL;
    fixture_open(f, options);
    assert_int_equal(tsr_engine_find_model(&demo, NULL), TSR_OK);
    snprintf(path, sizeof path, "%s/checkpoints/two.safetensors", f->models);
    assert_int_equal(unlink(path) | symlink(demo, path), 0);
    tsr_free(demo);
    snprintf(path, sizeof path, "%s/loras", f->models);
    assert_int_equal(symlink(TSR_GOLDEN_DIR "/loras", path), 0);
}

static void reopen(fixture *f, size_t budget, tsr_history history) {
    tsr_graph_options options = TSR_GRAPH_OPTIONS_INIT;
    options.memory_budget = budget;
    options.history = history;
    open_graph(f, &options);
}

#define LOAD(id, name)       NODE(id, "CheckpointLoaderSimple", "\"ckpt_name\":\"" name ".safetensors\"")
#define TEXT(id, clip, text) NODE(id, "CLIPTextEncode", "\"text\":\"" text "\",\"clip\":[\"" clip "\",1]")
#define EMPTY(id, side)      NODE(id, "EmptyLatentImage", "\"width\":" side ",\"height\":" side ",\"batch_size\":1")
#define SAMPLED(id, model, text, from, denoise)                                                                        \
    NODE(id, "KSampler",                                                                                               \
         "\"model\":[\"" model "\",0],\"positive\":[\"" text "\",0],\"negative\":[\"" text                             \
         "\",0],\"latent_image\":[\"" from "\",0],\"seed\":3,\"steps\":3,\"cfg\":2,\"sampler_name\":\"euler\","        \
         "\"scheduler\":\"normal\",\"denoise\":" denoise)
#define KEPT(id, from)       NODE(id, "SaveLatent", "\"samples\":[\"" from "\",0],\"filename_prefix\":\"l\"")
#define DECODED(id, from, v) NODE(id, "VAEDecode", "\"samples\":[\"" from "\",0],\"vae\":[\"" v "\",2]")

/* The latent of a run under the bound and without one, equal to the bit; the swaps are told. */
static void expect_same(fixture *f, const char *text, size_t budget, tsr_history history, int swaps) {
    reopen(f, 0, history);
    tsr_workflow_outputs *want = run_text(f, text);
    reopen(f, budget, history);
    tsr_workflow_outputs *got = run_text(f, text);
    print_message("%d swaps, %.3f s, %.1f MB; held %.1f MB of %.1f\n", got->swaps, got->swap_seconds,
                  (double)got->swap_bytes / 1e6, (double)f->graph->budget.peak / 1e6, (double)budget / 1e6);
    assert_non_null(want->items[0].latent);
    assert_memory_equal(got->items[0].latent->values, want->items[0].latent->values,
                        tsr_latent_count(want->items[0].latent) * sizeof(float));
    assert_int_equal(want->swaps, 0);
    assert_int_equal(got->swaps, swaps);
    assert_true((got->swap_seconds > 0.0) == (swaps > 0) && (got->swap_bytes > 90 * MB) == (swaps > 0));
    assert_true(f->graph->budget.peak <= budget);
    assert_int_equal(tsr_graph_get_memory(f->graph).swaps, swaps);
    tsr_workflow_outputs_free(want);
    tsr_workflow_outputs_free(got);
}

/* --- one after the other -------------------------------------------------------------------------------------------------- */
#define BOTH                                                                                                           \
    LOAD("1", "one")                                                                                                   \
    "," LOAD("2", "two") "," TEXT("3", "1", "a tree") "," TEXT("4", "2", "a house") "," EMPTY("5", "64")
#define IN_TURN                                                                                                        \
    "{" BOTH "," SAMPLED("6", "1", "3", "5", "1") "," SAMPLED("7", "2", "4", "6", "0.7") "," SAMPLED(                  \
        "8", "1", "3", "7", "0.5") "," KEPT("9", "8") "}"

static void memory__serves_samplers_in_turn(void **state) {
    fixture f;
    (void)state;
    open_with(&f, NULL);
    f.callbacks.user = &f;
    expect_same(&f, IN_TURN, ROOM, TSR_HISTORY_RESTART, 1); /* `one` comes back */
    expect_same(&f, IN_TURN, 4 * ROOM, TSR_HISTORY_RESTART, 0);
    fixture_close(&f);
}

/* --- two models on one canvas ------------------------------------------------------------------------------------------------ */
#define PIPE(id, model, vae, text)                                                                                     \
    NODE(id, "ToBasicPipe",                                                                                            \
         "\"model\":[\"" model "\",0],\"clip\":[\"" model "\",1],\"vae\":[\"" vae "\",2],\"positive\":[\"" text        \
         "\",0],\"negative\":[\"" text "\",0]")
#define PROVIDER(id, pipe)                                                                                             \
    NODE(id, "KSamplerAdvancedProvider",                                                                               \
         "\"cfg\":2,\"sampler_name\":\"euler\",\"scheduler\":\"normal\",\"sigma_factor\":1,\"basic_pipe\":[\"" pipe    \
         "\",0]")
/* The left half. */
#define HALF                                                                                                           \
    NODE("17", "SolidMask", "\"value\":0,\"width\":64,\"height\":64")                                                  \
    "," NODE("18", "SolidMask", "\"value\":1,\"width\":32,\"height\":64") "," NODE(                                    \
        "14", "MaskComposite",                                                                                         \
        "\"destination\":[\"17\",0],\"source\":[\"18\",0],\"x\":0,\"y\":0,\"operation\":\"add\"")
#define SAMPLER                                                                                                        \
    NODE("16", "RegionalSampler",                                                                                      \
         "\"seed\":7,\"seed_2nd\":0,\"seed_2nd_mode\":\"ignore\",\"steps\":4,\"base_only_steps\":1,\"denoise\":1,"     \
         "\"samples\":[\"5\",0],\"base_sampler\":[\"12\",0],\"regional_prompts\":[\"15\",0],\"overlap_factor\":0,"     \
         "\"restore_latent\":true,\"additional_mode\":\"DISABLE\",\"additional_sampler\":\"AUTO\","                    \
         "\"additional_sigma_ratio\":0.3")
#define REGION NODE("15", "RegionalPrompt", "\"mask\":[\"14\",0],\"advanced_sampler\":[\"13\",0]")
#define LOADED_REGION(more, model)                                                                                     \
    "{" LOAD("1", "one") "," LOAD("2", "two") "," more                                                                 \
        TEXT("4", model, "a house") "," TEXT("3", "1", "a tree") "," EMPTY("5", "64") "," PIPE(                        \
            "10", "1", "1",                                                                                            \
            "3") "," PIPE("11", model, "2",                                                                            \
                          "4") "," PROVIDER("12", "10") "," PROVIDER("13", "11") "," HALF "," REGION "," SAMPLER       \
                                                                                 "," KEPT("9", "16") "}"
#define LORA(id, from)                                                                                                 \
    NODE(id, "LoraLoader",                                                                                             \
         "\"model\":[\"" from "\",0],\"clip\":[\"" from "\",1],\"lora_name\":\"lora-kohya.safetensors\","              \
         "\"strength_model\":0.9,\"strength_clip\":0.7")
static const char two_regions[] = LOADED_REGION("", "2"), lora_regions[] = LOADED_REGION(LORA("20", "2") ",", "20");

static void memory__serves_regions_of_two_models(void **state) {
    fixture f;
    (void)state;
    open_with(&f, NULL);
    f.callbacks.user = &f;
    /* Kept histories: in each of the three common steps the model that is there is asked first. */
    expect_same(&f, two_regions, ROOM, TSR_HISTORY_KEEP, 2);
    /* Restarted ones: base, base, region, base, region, base, region: four find the other model and have been there. */
    expect_same(&f, two_regions, ROOM, TSR_HISTORY_RESTART, 4);
    fixture_close(&f);
}

/* --- other parts ---------------------------------------------------------------------------------------------------------------- */
static void memory__keeps_adapters_of_a_swapped_model(void **state) {
    fixture f;
    (void)state;
    open_with(&f, NULL);
    f.callbacks.user = &f;
    reopen(&f, 0, TSR_HISTORY_KEEP);
    tsr_workflow_outputs *with = run_text(&f, lora_regions), *without = run_text(&f, two_regions);
    assert_memory_not_equal(with->items[0].latent->values, without->items[0].latent->values, 256 * sizeof(float));
    tsr_workflow_outputs_free(with);
    tsr_workflow_outputs_free(without);
    expect_same(&f, lora_regions, ROOM, TSR_HISTORY_KEEP, 2);
    fixture_close(&f);
}

/* The VAE makes the UNet go, and a picture that is too large for the bound is decoded in tiles. */
static void memory__decodes_within_the_bound(void **state) {
    static const char text[] =
        "{" LOAD("1", "one") "," TEXT("3", "1", "a tree") "," EMPTY("5", "64") "," EMPTY("4", "640") "," SAMPLED(
            "6", "1", "3", "5",
            "1") "," DECODED("7", "6", "1") "," SAVE("8", "7") "," DECODED("9", "4", "1") "," SAVE("10", "9") "}";
    size_t most[2];
    fixture f;
    (void)state;
    open_with(&f, NULL);
    f.callbacks.user = &f;
    for (int i = 0; i < 2; i++) {
        reopen(&f, i ? ROOM : 0, TSR_HISTORY_RESTART);
        tsr_workflow_outputs *o = run_text(&f, text);
        assert_int_equal(o->items[1].image->width, 640);
        most[i] = tsr__nn_peak_bytes(f.graph->slots->engine->nn);
        tsr_workflow_outputs_free(o);
    }
    print_message("activations: at most %.1f MB without a bound, %.1f MB with\n", (double)most[0] / 1e6,
                  (double)most[1] / 1e6);
    assert_true(most[0] > ROOM && most[1] < ROOM);
    fixture_close(&f);
}

static void memory__previews_swap_nothing(void **state) {
    fixture f;
    (void)state;
    open_with(&f, NULL);
    f.callbacks.user = &f;
    f.callbacks.preview_seconds = 1e-9;
    reopen(&f, ROOM, TSR_HISTORY_KEEP);
    tsr_workflow_outputs *o = run_text(&f, two_regions);
    assert_true(f.previews >= 3);
    assert_int_equal(f.last_preview->width, 8); /* the linear map: a pixel a cell */
    assert_int_equal(o->swaps, 2);
    tsr_workflow_outputs_free(o);
    fixture_close(&f);
}

/* --- too small --------------------------------------------------------------------------------------------------------------------- */
static void expect_refusal(fixture *f, const char *text, const char *node, const char *what) {
    tsr_workflow_outputs *none = NULL;
    tsr_error err = TSR_ERROR_INIT;
    assert_int_equal(try_run(f, &none, text, &err), TSR_TOO_LARGE);
    if (strncmp(err.message, node, strlen(node)) != 0 || !strstr(err.message, what) || strchr(err.message, '\n'))
        fail_msg("%s", err.message);
}

/* A model is refused where it is loaded; a call where it is made, with a size that then is enough. */
static void memory__too_small_is_refused(void **state) {
    static const char large[] = "{" LOAD("1", "one") "," TEXT("3", "1", "a tree") "," EMPTY("5", "512") "," SAMPLED(
        "6", "1", "3", "5", "1") "," KEPT("9", "6") "}";
    tsr_workflow_outputs *none = NULL;
    tsr_error err = TSR_ERROR_INIT;
    double needed = 0.0;
    fixture f;
    (void)state;
    open_with(&f, NULL);
    f.callbacks.user = &f;
    reopen(&f, 60 * MB, TSR_HISTORY_RESTART);
    expect_refusal(&f, IN_TURN, "node 1 (CheckpointLoaderSimple): memory: 60.0 MB cannot hold", "which takes about");
    reopen(&f, 115 * MB, TSR_HISTORY_RESTART);
    expect_refusal(&f, large, "node 6 (KSampler): memory: 115.0 MB cannot hold",
                   "give at least that, or a smaller picture");
    assert_int_equal(try_run(&f, &none, large, &err), TSR_TOO_LARGE);
    assert_int_equal(sscanf(strstr(err.message, "takes about"), "takes about %lf MB", &needed), 1);
    reopen(&f, (size_t)(needed * 1.03e6), TSR_HISTORY_RESTART);
    run_only(&f, large);
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory__serves_samplers_in_turn),
        cmocka_unit_test(memory__serves_regions_of_two_models),
        cmocka_unit_test(memory__keeps_adapters_of_a_swapped_model),
        cmocka_unit_test(memory__decodes_within_the_bound),
        cmocka_unit_test(memory__previews_swap_nothing),
        cmocka_unit_test(memory__too_small_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
