/* embedding:NAME in prompts: an embedding made of words' own rows gives what the words give; files of every layout; what is
 * refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/engine_priv.h"
#include "golden_file.h"

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        tsr_error err = TSR_ERROR_INIT;                                                                                \
        if ((call) != TSR_OK) fail_msg("%s", err.message);                                                             \
    } while (0)

enum { CAT = 2368, TREE = 2677, SD1_WIDTH = 128, L_WIDTH = 32, G_WIDTH = 64 };

static char root[64];

/* models/checkpoints/ with links to the golden checkpoints, and models/embeddings/ */
static int make_folders(void **state) {
    char path[600];
    (void)state;
    strcpy(root, "/tmp/tessera-embeddings-XXXXXX");
    if (!mkdtemp(root)) return 1;
    snprintf(path, sizeof path, "%s/checkpoints", root);
    if (mkdir(path, 0700)) return 1;
    snprintf(path, sizeof path, "%s/embeddings", root);
    return mkdir(path, 0700);
}

static int remove_folders(void **state) {
    char command[600];
    (void)state;
    snprintf(command, sizeof command, "rm -r %s", root);
    return system(command); /* NOLINT(cert-env33-c): a folder of this test's own */
}

static tsr_engine *open_engine(const char *name) {
    tsr_engine *engine = NULL;
    tsr_engine_options options = TSR_ENGINE_OPTIONS_INIT;
    char from[600], to[600];
    snprintf(from, sizeof from, "%s/checkpoints/%s.safetensors", TSR_GOLDEN_DIR, name);
    snprintf(to, sizeof to, "%s/checkpoints/%s.safetensors", root, name);
    if (access(to, R_OK) != 0) assert_int_equal(symlink(from, to), 0);
    options.model = to;
    options.precision = TSR_PRECISION_F32;
    OK(tsr_engine_open(&engine, &options, &err));
    OK(tsr__engine_need_text(engine, &err));
    return engine;
}

/* The rows of two words. */
static void read_words(float *out, const tsr_engine *engine, const char *tensor, size_t width) {
    const tsr__tensor_view *view = tsr__weights_find(engine->weights, tensor);
    assert_non_null(view);
    OK(tsr__tensor_part_to_f32(view, CAT * width, width, out, &err));
    OK(tsr__tensor_part_to_f32(view, TREE * width, width, out + width, &err));
}

static void save(const char *file, const tsr__tensor_out *tensors, size_t count) {
    char path[600];
    snprintf(path, sizeof path, "%s/embeddings/%s", root, file);
    OK(tsr__safetensors_save(path, tensors, count, NULL, &err));
}

static tsr__text_rows encode(const tsr_engine *engine, const char *prompt) {
    tsr__text_rows rows;
    OK(tsr__text_encode(&rows, engine->text, engine->tokenizer, prompt, 0, NULL, &err));
    return rows;
}

static double difference(const tsr_engine *engine, const char *one, const char *other) {
    tsr__text_rows a = encode(engine, one), b = encode(engine, other);
    size_t count = (size_t)a.tokens * (size_t)tsr__text_width(engine->text);
    assert_int_equal(a.tokens, b.tokens);
    double worst = max_abs_diff(a.rows, b.rows, count);
    if (a.pooled) worst += max_abs_diff(a.pooled, b.pooled, (size_t)tsr__text_pooled_width(engine->text));
    tsr__text_rows_clear(&a);
    tsr__text_rows_clear(&b);
    return worst;
}

static void embedding__of_words_rows_is_the_words(void **state) {
    static float words[2 * SD1_WIDTH];
    tsr_engine *engine = open_engine("golden-sd1");
    (void)state;
    read_words(words, engine, "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight", SD1_WIDTH);
    save("pair.safetensors", &(tsr__tensor_out){ "emb_params", TSR_DTYPE_F32, 2, { 2, SD1_WIDTH }, words }, 1);
    save("one.safetensors", &(tsr__tensor_out){ "<cat>", TSR_DTYPE_F32, 1, { SD1_WIDTH }, words }, 1);
    assert_true(difference(engine, "a embedding:pair hill", "a cat tree hill") == 0);
    assert_true(difference(engine, "a embedding:pair.safetensors, hill", "a cat tree, hill") == 0);
    assert_true(difference(engine, "(embedding:pair:1.3) embedding:one", "(cat tree:1.3) cat") == 0);
    assert_true(difference(engine, "embedding:pair", "embedding:one") > 1e-3);
    tsr_engine_close(engine);
}

static void embedding__pt_of_a1111_is_read(void **state) {
    float values[2 * SD1_WIDTH];
    char to[600];
    tsr_engine *engine = open_engine("golden-sd1");
    (void)state;
    for (int i = 0; i < 2 * SD1_WIDTH; i++) values[i] = (float)(i % 13 - 6) / 8;
    save("same.safetensors", &(tsr__tensor_out){ "emb_params", TSR_DTYPE_F32, 2, { 2, SD1_WIDTH }, values }, 1);
    snprintf(to, sizeof to, "%s/embeddings/word.pt", root);
    assert_int_equal(symlink(TSR_SOURCE_DIR "/fuzz/corpus/pth/good_embedding", to), 0);
    assert_true(difference(engine, "a embedding:word", "a embedding:same") == 0);
    tsr_engine_close(engine);
}

/* Files of torch.save, by tests/golden/make_adapter_numbers.py. */
static void embedding__pt_of_other_shapes_is_read(void **state) {
    static const char *const files[] = { "bare", "list", "tensors", "a1111" };
    float values[2 * SD1_WIDTH];
    tsr_engine *engine = open_engine("golden-sd1");
    (void)state;
    for (int i = 0; i < 2 * SD1_WIDTH; i++) values[i] = (float)i / 256.0f;
    save("ramp.safetensors", &(tsr__tensor_out){ "emb_params", TSR_DTYPE_F32, 2, { 2, SD1_WIDTH }, values }, 1);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char from[600], to[600], prompt[80];
        snprintf(from, sizeof from, "%s/embeddings/%s.pt", TSR_GOLDEN_DIR, files[i]);
        snprintf(to, sizeof to, "%s/embeddings/%s.pt", root, files[i]);
        assert_int_equal(symlink(from, to), 0);
        snprintf(prompt, sizeof prompt, "a embedding:%s hill", files[i]);
        assert_true(difference(engine, prompt, "a embedding:ramp hill") == 0);
    }
    tsr_engine_close(engine);
}

static void embedding__of_sd2_is_the_words(void **state) {
    static float words[2 * G_WIDTH];
    tsr_engine *engine = open_engine("tiny-sd2");
    (void)state;
    read_words(words, engine, "cond_stage_model.model.token_embedding.weight", G_WIDTH);
    save("two.safetensors", &(tsr__tensor_out){ "emb_params", TSR_DTYPE_F32, 2, { 2, G_WIDTH }, words }, 1);
    assert_true(difference(engine, "a (embedding:two:1.2) hill", "a (cat tree:1.2) hill") == 0);
    assert_true(difference(engine, "a embedding:two hill", "a hill") > 1e-3);
    tsr_engine_close(engine);
}

static void embedding__of_sdxl_has_rows_for_both_encoders(void **state) {
    static float low[2 * L_WIDTH], high[2 * G_WIDTH];
    tsr_engine *engine = open_engine("tiny-sdxl");
    (void)state;
    read_words(low, engine, "conditioner.embedders.0.transformer.text_model.embeddings.token_embedding.weight",
               L_WIDTH);
    read_words(high, engine, "conditioner.embedders.1.model.token_embedding.weight", G_WIDTH);
    const tsr__tensor_out both[2] = { { "clip_g", TSR_DTYPE_F32, 2, { 2, G_WIDTH }, high },
                                      { "clip_l", TSR_DTYPE_F32, 2, { 2, L_WIDTH }, low } };
    save("xl.safetensors", both, 2);
    assert_true(difference(engine, "a embedding:xl hill", "a cat tree hill") == 0);
    tsr_engine_close(engine);
}

/* Bare names as words, wherever the tokenizer then finds "embedding:". */
static void names__alone_are_words_where_a1111_is_meant(void **state) {
    static const char *const prompts[][2] = {
        { "a Bad-Hands, hill", "a embedding:bad-hands , hill" },
        { "(bad-hands:1.3) tree", "(embedding:bad-hands :1.3) tree" },
        { "tree,bad-hands", "tree, embedding:bad-hands" },
        { "embedding:bad-hands bad-hands", "embedding:bad-hands embedding:bad-hands" },
        { "bad-handsome bad verybad bad_hands", "embedding:bad -handsome embedding:bad verybad bad_hands" },
        { "", "" },
    };
    static float words[2 * SD1_WIDTH];
    tsr_engine *engine = open_engine("golden-sd1");
    (void)state;
    read_words(words, engine, "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight", SD1_WIDTH);
    save("bad-hands.safetensors", &(tsr__tensor_out){ "emb_params", TSR_DTYPE_F32, 2, { 2, SD1_WIDTH }, words }, 1);
    save("bad.safetensors", &(tsr__tensor_out){ "emb_params", TSR_DTYPE_F32, 1, { SD1_WIDTH }, words }, 1);
    for (size_t i = 0; i < sizeof prompts / sizeof *prompts; i++) {
        char *found = NULL;
        OK(tsr__embedding_words(&found, engine, prompts[i][0], &err));
        assert_string_equal(found, prompts[i][1]);
        free(found);
    }
    assert_true(difference(engine, prompts[0][1], "a cat tree, hill") == 0);
    assert_true(difference(engine, prompts[1][1], "(cat tree:1.3) tree") == 0);
    tsr_engine_close(engine);
}

/* The scene key decides; ordinary words stay words without it. */
static void names__alone_count_only_when_asked_for(void **state) {
    static const char *const keys[] = { "comfyui", "a1111" };
    static float latents[3][4 * 8 * 8];
    static const char *const prompts[] = { "a bad-hands", "a bad-hands", "a embedding:bad-hands" };
    tsr_engine *engine = open_engine("golden-sd1");
    (void)state;
    for (int i = 0; i < 3; i++) {
        tsr_scene *scene = NULL;
        tsr_result *result = NULL;
        OK(tsr_scene_new(&scene, &err));
        OK(tsr_scene_set(scene, "prompt", prompts[i], &err));
        OK(tsr_scene_set(scene, "width", "64", &err));
        OK(tsr_scene_set(scene, "height", "64", &err));
        OK(tsr_scene_set(scene, "steps", "1", &err));
        OK(tsr_scene_set(scene, "embedding_names", keys[i == 1], &err));
        OK(tsr_engine_run(&result, engine, scene, NULL, &err));
        memcpy(latents[i], result->latent->values, sizeof latents[i]);
        tsr_result_free(result);
        tsr_scene_free(scene);
    }
    assert_memory_equal(latents[1], latents[2], sizeof latents[1]);
    assert_true(max_abs_diff(latents[0], latents[1], 4 * 8 * 8) > 1e-3);
    tsr_engine_close(engine);
}

static void refuses(const tsr_engine *engine, const char *prompt, tsr_status status, const char *words) {
    tsr__text_rows rows;
    tsr_error err = TSR_ERROR_INIT;
    assert_int_equal(tsr__text_encode(&rows, engine->text, engine->tokenizer, prompt, 0, NULL, &err), status);
    if (!strstr(err.message, words)) fail_msg("%s", err.message);
}

static void embedding__misfits_end_in_one_line(void **state) {
    static float values[3 * L_WIDTH];
    const tsr__tensor_out uneven[2] = { { "clip_l", TSR_DTYPE_F32, 2, { 2, L_WIDTH }, values },
                                        { "clip_g", TSR_DTYPE_F32, 2, { 1, G_WIDTH }, values } };
    tsr_engine *engine = open_engine("tiny-sdxl");
    (void)state;
    save("small.safetensors", &(tsr__tensor_out){ "emb_params", TSR_DTYPE_F32, 2, { 3, L_WIDTH }, values }, 1);
    save("uneven.safetensors", uneven, 2);
    refuses(engine, "embedding:small", TSR_UNSUPPORTED, "holds no vectors of 64 values");
    refuses(engine, "embedding:uneven", TSR_UNSUPPORTED, "\"clip_g\" is 1 vectors; 2 to 2 are taken");
    refuses(engine, "embedding:nothing", TSR_NOT_FOUND, "\"embedding:nothing\": no such file in embeddings/");
    refuses(engine, "embedding:../checkpoints/tiny-sdxl", TSR_NOT_FOUND, "no such file");
    tsr_engine_close(engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(embedding__of_words_rows_is_the_words),
        cmocka_unit_test(embedding__pt_of_a1111_is_read),
        cmocka_unit_test(embedding__pt_of_other_shapes_is_read),
        cmocka_unit_test(embedding__of_sd2_is_the_words),
        cmocka_unit_test(embedding__of_sdxl_has_rows_for_both_encoders),
        cmocka_unit_test(names__alone_are_words_where_a1111_is_meant),
        cmocka_unit_test(names__alone_count_only_when_asked_for),
        cmocka_unit_test(embedding__misfits_end_in_one_line),
    };
    return cmocka_run_group_tests(tests, make_folders, remove_folders);
}
