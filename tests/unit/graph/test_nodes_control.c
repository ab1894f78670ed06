/* ControlNetLoader, its kin and SetUnionControlNetType, ControlNetApply, ControlNetApplyAdvanced and Canny in workflows: the two ways to apply are one where they
 * should be, chains add up, windows and strengths count, a scene's networks are names of the controlnet folder. */
#include "graph_fixture.h"

#include "control_file.h"
#include "latent_pair.h"

static fixture f;

static int setup(void **state) {
    char path[200];
    (void)state;
    fixture_open(&f, NULL);
    snprintf(path, sizeof path, "%s/controlnet", f.models);
    assert_int_equal(mkdir(path, 0777), 0);
    snprintf(path, sizeof path, "%s/controlnet/net.safetensors", f.models);
    control_file_write(path, "sd1", "control_model.");
    snprintf(path, sizeof path, "%s/controlnet/adapter.safetensors", f.models);
    adapter_file_write(path);
    snprintf(path, sizeof path, "%s/controlnet/union.safetensors", f.models);
    control_kind_write(path, "sd1", "", CONTROL_UNION);
    snprintf(path, sizeof path, "%s/controlnet/difference.safetensors", f.models);
    control_kind_write(path, "sd1", "control_model.", CONTROL_DIFFERENCE);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    fixture_close(&f);
    return 0;
}

#define COMMON                                                                                                                                             \
    NODE("1", "CheckpointLoaderSimple", "\"ckpt_name\":\"one.safetensors\"")                                                                               \
    "," NODE("2", "CLIPTextEncode", "\"clip\":[\"1\",1],\"text\":\"a cat\"") "," NODE("3", "CLIPTextEncode", "\"clip\":[\"1\",1],\"text\":\"\"") "," NODE( \
        "4", "EmptyLatentImage",                                                                                                                           \
        "\"width\":64,\"height\":64,\"batch_size\":1") "," NODE("5", "ControlNetLoader",                                                                   \
                                                                "\"control_net_name\":\"net."                                                              \
                                                                "safetensors\"") "," NODE("6",                                                             \
                                                                                          "EmptyI"                                                         \
                                                                                          "mage",                                                          \
                                                                                          "\"widt"                                                         \
                                                                                          "h\":"                                                           \
                                                                                          "48,"                                                            \
                                                                                          "\"heig"                                                         \
                                                                                          "ht\":"                                                          \
                                                                                          "64,"                                                            \
                                                                                          "\"batc"                                                         \
                                                                                          "h_"                                                             \
                                                                                          "size\""                                                         \
                                                                                          ":1,"                                                            \
                                                                                          "\"colo"                                                         \
                                                                                          "r\":"                                                           \
                                                                                          "126034"                                                         \
                                                                                          "69") "," NODE("7",                                              \
                                                                                                         "ImagePadFor"                                     \
                                                                                                         "Outpaint",                                       \
                                                                                                         "\"image\":["                                     \
                                                                                                         "\"6\",0],"                                       \
                                                                                                         "\"left\":8,"                                     \
                                                                                                         "\"top\":8,"                                      \
                                                                                                         "\"right\":"                                      \
                                                                                                         "8,"                                              \
                                                                                                         "\"bottom\":"                                     \
                                                                                                         "0,"                                              \
                                                                                                         "\"featherin"                                     \
                                                                                                         "g\":0") "," NODE("9",                            \
                                                                                                                           "SaveLatent",                   \
                                                                                                                           "\"samples\":[\"8\",0],\"filename_prefix\":\"l\"")
#define SAMPLE(positive, negative)                                                                                     \
    NODE("8", "KSampler",                                                                                              \
         "\"model\":[\"1\",0],\"positive\":" positive ",\"negative\":" negative                                        \
         ",\"latent_image\":[\"4\",0],\"seed\":3,\"steps\":2,\"cfg\":3,\"sampler_name\":\"euler\","                    \
         "\"scheduler\":\"normal\",\"denoise\":1")
#define ADVANCED(id, positive, negative, strength, start, end)                                                         \
    NODE(id, "ControlNetApplyAdvanced",                                                                                \
         "\"positive\":" positive ",\"negative\":" negative                                                            \
         ",\"control_net\":[\"5\",0],\"image\":[\"7\",0],\"strength\":" strength ",\"start_percent\":" start           \
         ",\"end_percent\":" end)

static tsr_latent *painted(const char *text) {
    tsr_workflow_outputs *outputs = run_text(&f, text);
    tsr_latent *latent = NULL;
    assert_int_equal(outputs->count, 1);
    latent = outputs->items[0].latent;
    outputs->items[0].latent = NULL;
    assert_non_null(latent);
    tsr_workflow_outputs_free(outputs);
    return latent;
}

static const char plain[] = "{" COMMON "," SAMPLE("[\"2\",0]", "[\"3\",0]") "}";
static const char both[] =
    "{" COMMON "," ADVANCED("a", "[\"2\",0]", "[\"3\",0]", "1", "0", "1") "," SAMPLE("[\"a\",0]", "[\"a\",1]") "}";

static void apply__equals_apply_advanced_on_both(void **state) {
    (void)state;
    assert_true(apart(painted(plain), painted(both)) > 0.01);
    assert_true(apart(painted("{" COMMON
                              "," NODE("a", "ControlNetApply",
                                       "\"conditioning\":[\"2\",0],\"control_net\":[\"5\",0],"
                                       "\"image\":[\"7\",0],\"strength\":1") "," SAMPLE("[\"a\",0]", "[\"3\",0]") "}"),
                      painted(both)) == 0.0);
    /* The advanced one leaves a negative alone that does not go through it. */
    assert_true(apart(painted("{" COMMON "," ADVANCED("a", "[\"2\",0]", "[\"3\",0]", "1", "0",
                                                      "1") "," SAMPLE("[\"a\",0]", "[\"3\",0]") "}"),
                      painted(both)) > 1e-3);
}

static void strength_and_window__count(void **state) {
    (void)state;
    assert_true(apart(painted("{" COMMON "," ADVANCED("a", "[\"2\",0]", "[\"3\",0]", "0", "0",
                                                      "1") "," SAMPLE("[\"a\",0]", "[\"a\",1]") "}"),
                      painted(plain)) == 0.0);
    assert_true(apart(painted("{" COMMON "," ADVANCED("a", "[\"2\",0]", "[\"3\",0]", "1", "1",
                                                      "1") "," SAMPLE("[\"a\",0]", "[\"a\",1]") "}"),
                      painted(plain)) == 0.0);
    assert_true(apart(painted("{" COMMON "," ADVANCED("a", "[\"2\",0]", "[\"3\",0]", "1", "0.5",
                                                      "1") "," SAMPLE("[\"a\",0]", "[\"a\",1]") "}"),
                      painted(both)) > 1e-3);
}

static void chains__add_up(void **state) {
    (void)state;
    assert_true(apart(painted("{" COMMON "," ADVANCED("a", "[\"2\",0]", "[\"3\",0]", "0.5", "0", "1") "," ADVANCED(
                          "b", "[\"a\",0]", "[\"a\",1]", "0.5", "0", "1") "," SAMPLE("[\"b\",0]", "[\"b\",1]") "}"),
                      painted(both)) < 1e-3);
}

/* The network of node n and the picture of node 7 on the positive. */
#define STEER(n)                                                                                                       \
    NODE("a", "ControlNetApply",                                                                                       \
         "\"conditioning\":[\"2\",0],\"control_net\":[\"" n "\",0],\"image\":[\"7\",0],\"strength\":1")                \
    "," SAMPLE("[\"a\",0]", "[\"3\",0]")
#define UNION(type)                                                                                                    \
    "{" COMMON "," NODE("u", "ControlNetLoader", "\"control_net_name\":\"union.safetensors\"") "," NODE(               \
        "t", "SetUnionControlNetType", "\"control_net\":[\"u\",0],\"type\":\"" type "\"") "," STEER("t") "}"

static void union_type__is_told(void **state) {
    tsr_error err = TSR_ERROR_INIT;
    tsr_workflow_outputs *outputs = NULL;
    (void)state;
    assert_true(apart(painted(UNION("auto")), painted(UNION("canny/lineart/anime_lineart/mlsd"))) > 1e-3);
    assert_true(apart(painted(UNION("openpose")), painted(UNION("segment"))) > 1e-3);
    assert_true(apart(painted("{" COMMON "," NODE("u", "ControlNetLoader",
                                                  "\"control_net_name\":\"union.safetensors\"") "," STEER("u") "}"),
                      painted(UNION("auto"))) == 0.0);
    assert_int_not_equal(try_run(&f, &outputs, UNION("tile"), &err), TSR_OK); /* the seventh of six */
    assert_non_null(strstr(err.message, "knows 6 types"));
}

static void difference_loader__is_the_loader(void **state) {
    (void)state;
    tsr_latent *loaded = painted("{" COMMON "," NODE(
        "d", "ControlNetLoader", "\"control_net_name\":\"difference.safetensors\"") "," STEER("d") "}");
    assert_true(apart(painted("{" COMMON "," NODE("d", "DiffControlNetLoader",
                                                  "\"model\":[\"1\",0],\"control_net_name\":"
                                                  "\"difference.safetensors\"") "," STEER("d") "}"),
                      loaded) == 0.0);
}

/* Lists of conditionings take another way through sampling: the same control on both halves is the plain run's. */
static void combined_conditionings__keep_their_control(void **state) {
    (void)state;
    assert_true(apart(painted("{" COMMON "," ADVANCED("a", "[\"2\",0]", "[\"3\",0]", "1", "0", "1") "," NODE(
                          "c", "ConditioningCombine",
                          "\"conditioning_1\":[\"a\",0],\"conditioning_2\":"
                          "[\"a\",0]") "," SAMPLE("[\"c\",0]", "[\"a\",1]") "}"),
                      painted(both)) < 1e-4);
}

static void scene__takes_names_of_the_controlnet_folder(void **state) {
    static const char scene[] = "{" NODE(
        "1", "TesseraScene",
        "\"ckpt_name\":\"one.safetensors\",\"seed\":1,\"scene\":\"{\\\"prompt\\\":\\\"a\\\","
        "\\\"width\\\":64,\\\"height\\\":64,\\\"steps\\\":1,"
        "\\\"control\\\":\\\"%s\\\",\\\"control_image\\\":\\\"%s\\\"}\"") "," NODE("9", "SaveLatent",
                                                                                   "\"samples\":[\"1\",1],\"filename_"
                                                                                   "prefix\":\"l\"") "}";
    char text[1000], path[200];
    tsr_image *image = NULL;
    tsr_error err = TSR_ERROR_INIT;
    tsr_workflow_outputs *outputs = NULL;
    (void)state;
    assert_int_equal(tsr_image_new(&image, 64, 64, 3, NULL), TSR_OK);
    snprintf(path, sizeof path, "%s/hint.png", f.input);
    assert_int_equal(tsr_image_save(image, path, 0, NULL), TSR_OK);
    tsr_image_free(image);
    snprintf(text, sizeof text, scene, "net.safetensors", "hint.png");
    tsr_latent *net = painted(text);
    snprintf(text, sizeof text, scene, "adapter.safetensors", "hint.png");
    assert_true(apart(net, painted(text)) > 1e-3);
    static const char *const bad[][2] = { { "/etc/passwd", "hint.png" },
                                          { "../checkpoints/one.safetensors", "hint.png" },
                                          { "net.safetensors", "/etc/passwd" },
                                          { "net.safetensors", "../models/controlnet/net.safetensors" } };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(text, sizeof text, scene, bad[i][0], bad[i][1]);
        assert_int_not_equal(try_run(&f, &outputs, text, &err), TSR_OK);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(apply__equals_apply_advanced_on_both),
        cmocka_unit_test(strength_and_window__count),
        cmocka_unit_test(chains__add_up),
        cmocka_unit_test(union_type__is_told),
        cmocka_unit_test(difference_loader__is_the_loader),
        cmocka_unit_test(combined_conditionings__keep_their_control),
        cmocka_unit_test(scene__takes_names_of_the_controlnet_folder),
    };
    return cmocka_run_group_tests_name("nodes_control", tests, setup, teardown);
}
