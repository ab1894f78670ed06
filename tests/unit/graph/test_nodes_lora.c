/* test_nodes_lora.c - LoRA nodes against the same adapters merged into the model: every stack, files of parts, what does not fit. */
#include "graph_fixture.h"

#include "graph/graph_priv.h"

#define ADAPTERS TSR_GOLDEN_DIR "/adapters/"
#define WHOLE    TSR_GOLDEN_DIR "/checkpoints/golden-sd1.safetensors"
#define OK(call)                                                                                                       \
    do {                                                                                                               \
        tsr_error err = TSR_ERROR_INIT;                                                                                \
        if ((call) != TSR_OK) fail_msg("%s", err.message);                                                             \
    } while (0)

static void open_with_loras(fixture *f) {
    char path[200];
    fixture_open(f, NULL);
    snprintf(path, sizeof path, "%s/loras", f->models);
    assert_int_equal(symlink(ADAPTERS, path), 0);
}

#define LOAD NODE("1", "CheckpointLoaderSimple", "\"ckpt_name\":\"one.safetensors\"")
#define LORA(id, model, clip, name, strength, clip_strength)                                                           \
    NODE(id, "LoraLoader",                                                                                             \
         "\"model\":[" model "],\"clip\":[" clip "],\"lora_name\":\"" name                                             \
         ".safetensors\",\"strength_model\":" strength ",\"strength_clip\":" clip_strength)
#define MODEL_LORA(id, model, name, strength)                                                                          \
    NODE(id, "LoraLoaderModelOnly",                                                                                    \
         "\"model\":[" model "],\"lora_name\":\"" name ".safetensors\",\"strength_model\":" strength)
#define RUN(model, clip)                                                                                               \
    NODE("20", "CLIPTextEncode", "\"text\":\"a tree\",\"clip\":[" clip "]")                                            \
    "," NODE("21", "EmptyLatentImage", "\"width\":64,\"height\":64,\"batch_size\":1") "," NODE(                        \
        "22", "KSampler",                                                                                              \
        "\"model\":[" model "],\"positive\":[\"20\",0],\"negative\":[\"20\","                                          \
        "0],\"latent_image\":[\"21\",0],"                                                                              \
        "\"seed\":3,\"steps\":2,\"cfg\":2,\"sampler_"                                                                  \
        "name\":\"euler\",\"scheduler\":\"normal\","                                                                   \
        "\"denoise\":1") "," NODE("23", "SaveLatent",                                                                  \
                                  "\"samples\":[\"22\","                                                               \
                                  "0],\"filename_"                                                                     \
                                  "prefix\":\"l\"")

/* The same sampling by an engine that has them merged; n 0: none. */
static tsr_latent *sample_merged(const tsr_adapter *adapters, int n) {
    tsr_engine *engine = NULL;
    tsr_engine_options options = TSR_ENGINE_OPTIONS_INIT;
    tsr_ksampler_options how = TSR_KSAMPLER_OPTIONS_INIT;
    tsr_guide guide = { .cfg = 2.0f };
    tsr_latent *start = NULL, *out = NULL;
    options.model = WHOLE;
    options.precision = TSR_PRECISION_F32;
    options.adapters = adapters;
    options.adapter_count = n;
    OK(tsr_engine_open(&engine, &options, &err));
    OK(tsr_engine_denoiser(&guide.denoiser, engine, &err));
    OK(tsr_engine_encode_prompt(&guide.positive, engine, "a tree", 0, &err));
    guide.negative = guide.positive;
    OK(tsr_latent_new(&start, 1, 4, 8, 8, &err));
    how.sampler = "euler";
    how.scheduler = "normal";
    how.steps = 2;
    how.seed = 3;
    OK(tsr_ksampler(&out, start, &guide, &how, &err));
    tsr_latent_free(start);
    tsr_engine_close(engine);
    return out;
}

static double distance(const tsr_latent *a, const tsr_latent *b) {
    const size_t count = tsr_latent_count(b);
    return max_abs_diff(a->values, b->values, count) / max_abs(b->values, count);
}

/* The workflow's latent is that of merged weights, and it took that many models in memory. */
static void expect_merged(fixture *f, const char *text, const tsr_adapter *adapters, int n, int models) {
    int open = 0;
    tsr_latent *want = sample_merged(adapters, n), *plain = sample_merged(NULL, 0);
    open_graph(f, NULL);
    tsr_workflow_outputs *got = run_text(f, text);
    const double away = distance(got->items[0].latent, want), changed = distance(got->items[0].latent, plain);
    (void)tsr__slots_bytes(f->graph, &open);
    print_message("%s and %d more: %.2e away, changed by %.2e\n", strrchr(adapters->path, '/') + 1, n - 1, away,
                  changed);
    assert_true(away < 1e-4);
    assert_true(changed > 1e-3);
    assert_int_equal(open, models);
    assert_int_equal(got->note_count, 0);
    tsr_workflow_outputs_free(got);
    tsr_latent_free(want);
    tsr_latent_free(plain);
}

static void lora_nodes__are_merged_weights(void **state) {
    fixture f;
    (void)state;
    open_with_loras(&f);
    static const tsr_adapter dora[] = { { ADAPTERS "sd1-dora_out.safetensors", 0.8f, 0.5f } };
    expect_merged(&f,
                  "{" LOAD
                  "," LORA("2", "\"1\",0", "\"1\",1", "sd1-dora_out", "0.8", "0.5") "," RUN("\"2\",0", "\"2\",1") "}",
                  dora, 1, 1);
    static const tsr_adapter model_only[] = { { ADAPTERS "sd1-lora.safetensors", 0.7f, 0.0f } };
    expect_merged(&f, "{" LOAD "," MODEL_LORA("2", "\"1\",0", "sd1-lora", "0.7") "," RUN("\"2\",0", "\"1\",1") "}",
                  model_only, 1, 1);
    fixture_close(&f);
}

/* The same file twice, a DoRA on what these left, and a node for the model alone in between. */
static void lora_nodes__stack(void **state) {
    fixture f;
    (void)state;
    open_with_loras(&f);
    static const tsr_adapter stack[] = { { ADAPTERS "sd1-lora.safetensors", 0.5f, 0.5f },
                                         { ADAPTERS "sd1-lora.safetensors", 0.25f, 0.75f },
                                         { ADAPTERS "sd1-glora.safetensors", 0.6f, 0.0f },
                                         { ADAPTERS "sd1-dora_in.safetensors", -0.4f, 0.3f } };
    expect_merged(&f,
                  "{" LOAD "," LORA("2", "\"1\",0", "\"1\",1", "sd1-lora", "0.5", "0.5") "," LORA(
                      "3", "\"2\",0", "\"2\",1", "sd1-lora", "0.25",
                      "0.75") "," MODEL_LORA("4", "\"3\",0", "sd1-glora",
                                             "0.6") "," LORA("5", "\"4\",0", "\"3\",1", "sd1-dora_in", "-0.4",
                                                             "0.3") "," RUN("\"5\",0", "\"5\",1") "}",
                  stack, 4, 1);
    fixture_close(&f);
}

static void write_part(const fixture *f, const char *folder, tsr_convert_part part) {
    char path[200];
    tsr_convert_options options = { .part = part };
    snprintf(path, sizeof path, "%s/%s", f->models, folder);
    assert_int_equal(mkdir(path, 0777), 0);
    snprintf(path, sizeof path, "%s/%s/part.safetensors", f->models, folder);
    OK(tsr_convert_model(NULL, path, WHOLE, NULL, &options, &err));
}

static void lora_nodes__behind_loaders_of_parts(void **state) {
    fixture f;
    (void)state;
    open_with_loras(&f);
    write_part(&f, "diffusion_models", TSR_CONVERT_UNET);
    write_part(&f, "text_encoders", TSR_CONVERT_TEXT_ENCODER);
    static const tsr_adapter stack[] = { { ADAPTERS "sd1-dora_out.safetensors", 0.8f, 0.5f },
                                         { ADAPTERS "sd1-full.safetensors", 0.9f, 0.6f } };
    expect_merged(
        &f,
        "{" NODE("1", "UNETLoader", "\"unet_name\":\"part.safetensors\",\"weight_dtype\":\"default\"") "," NODE(
            "6", "CLIPLoader",
            "\"clip_name\":\"part.safetensors\",\"type\":\"stable_"
            "diffusion\"") "," LORA("2", "\"1\",0", "\"6\",0", "sd1-dora_out", "0.8",
                                    "0.5") "," LORA("3", "\"2\",0", "\"2\",1", "sd1-full", "0.9",
                                                    "0.6") "," RUN("\"3\",0", "\"3\",1") "}",
        stack, 2, 2);
    fixture_close(&f);
}

/* One layer fits and one has no place: a note. A file of another family, and one that is no adapter: an error. */
static void lora_nodes__say_what_does_not_fit(void **state) {
    static const float ones[256];
    fixture f;
    char path[200];
    tsr_workflow_outputs *got = NULL;
    tsr_error reason = TSR_ERROR_INIT;
    (void)state;
    fixture_open(&f, NULL);
    snprintf(path, sizeof path, "%s/loras", f.models);
    assert_int_equal(mkdir(path, 0777), 0);
    snprintf(path, sizeof path, "%s/loras/odd.safetensors", f.models);
    const tsr__tensor_out layers[] = {
        { "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.lora_up.weight",
          TSR_DTYPE_F32,
          2,
          { 128, 1 },
          ones },
        { "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.lora_down.weight",
          TSR_DTYPE_F32,
          2,
          { 1, 128 },
          ones },
        { "lora_unet_tower_9.lora_up.weight", TSR_DTYPE_F32, 2, { 8, 1 }, ones },
        { "lora_unet_tower_9.lora_down.weight", TSR_DTYPE_F32, 2, { 1, 8 }, ones },
    };
    OK(tsr__safetensors_save(path, layers, 4, NULL, &err));
    got = run_text(&f, "{" LOAD "," LORA("2", "\"1\",0", "\"1\",1", "odd", "1", "1") "," RUN("\"2\",0", "\"2\",1") "}");
    assert_int_equal(got->note_count, 1);
    if (!strstr(got->notes[0], "1 of its 2 layers are not in the model and are left out (lora_unet_tower_9"))
        fail_msg("%s", got->notes[0]);
    tsr_workflow_outputs_free(got);
    snprintf(path, sizeof path, "%s/loras/xl.safetensors", f.models);
    assert_int_equal(symlink(ADAPTERS "sdxl-lora.safetensors", path), 0);
    assert_int_not_equal(try_run(&f, &got,
                                 "{" LOAD
                                 "," LORA("2", "\"1\",0", "\"1\",1", "xl", "1", "1") "," RUN("\"2\",0", "\"2\",1") "}",
                                 &reason),
                         TSR_OK);
    if (!strstr(reason.message, "it is made for SDXL")) fail_msg("%s", reason.message);
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lora_nodes__are_merged_weights),
        cmocka_unit_test(lora_nodes__stack),
        cmocka_unit_test(lora_nodes__behind_loaders_of_parts),
        cmocka_unit_test(lora_nodes__say_what_does_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
