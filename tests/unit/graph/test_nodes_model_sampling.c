/* test_nodes_model_sampling.c - nodes that say what a model's output means: the same latents as the library's own options give,
 * patches that travel with a model, and noise levels that the schedulers see. The formulas are tested in
 * test_model_sampling.c. */
#include "graph_fixture.h"

#include <math.h>

#include "graph/graph_priv.h"
#include "latent_pair.h"

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        tsr_error err = TSR_ERROR_INIT;                                                                                \
        if ((call) != TSR_OK) fail_msg("%s", err.message);                                                             \
    } while (0)

#define MODEL        NODE("1", "CheckpointLoaderSimple", "\"ckpt_name\":\"one.safetensors\"")
#define TEXT(id, of) NODE(id, "CLIPTextEncode", "\"text\":\"" of "\",\"clip\":[\"1\",1]")
#define START        MODEL "," TEXT("2", "a cat") "," TEXT("3", "") "," EMPTY
#define EMPTY        NODE("4", "EmptyLatentImage", "\"width\":64,\"height\":64,\"batch_size\":2")
#define SAMPLED(model, sampler)                                                                                        \
    NODE("8", "KSampler",                                                                                              \
         "\"model\":[\"" model "\",0],\"positive\":[\"2\",0],\"negative\":[\"3\",0],\"latent_image\":[\"4\",0],"       \
         "\"seed\":5,\"steps\":4,\"cfg\":5,\"sampler_name\":\"" sampler "\",\"scheduler\":\"normal\",\"denoise\":1")
#define KEPT NODE("9", "SaveLatent", "\"samples\":[\"8\",0],\"filename_prefix\":\"l\"")
#define DISCRETE(id, from, kind, zsnr)                                                                                 \
    NODE(id, "ModelSamplingDiscrete", "\"model\":[\"" from "\",0],\"sampling\":\"" kind "\",\"zsnr\":" zsnr)
#define RESCALE(id, from, much) NODE(id, "RescaleCFG", "\"model\":[\"" from "\",0],\"multiplier\":" much)
#define LORA(id, from)                                                                                                 \
    NODE(id, "LoraLoaderModelOnly",                                                                                    \
         "\"model\":[\"" from "\",0],\"lora_name\":\"lora-kohya.safetensors\",\"strength_model\":0.9")
#define PATCHED(patches, model, sampler) "{" START "," patches "," SAMPLED(model, sampler) "," KEPT "}"

static fixture f;

static int set_up(void **state) {
    char path[200];
    (void)state;
    fixture_open(&f, NULL);
    f.callbacks.user = &f;
    snprintf(path, sizeof path, "%s/loras", f.models);
    return symlink(TSR_GOLDEN_DIR "/loras", path);
}

static int tear_down(void **state) {
    (void)state;
    fixture_close(&f);
    return 0;
}

static tsr_latent *latent_of(const char *text) {
    tsr_workflow_outputs *outputs = run_text(&f, text);
    tsr_latent *latent = outputs->items[outputs->count - 1].latent;
    outputs->items[outputs->count - 1].latent = NULL;
    tsr_workflow_outputs_free(outputs);
    return latent;
}

/* The same by the library alone. */
static tsr_latent *library_s(const char *prediction, tsr_choice zero_snr, double rescale, const char *sampler) {
    tsr_engine_options options = TSR_ENGINE_OPTIONS_INIT;
    tsr_ksampler_options sampling = TSR_KSAMPLER_OPTIONS_INIT;
    tsr_engine *engine = NULL;
    tsr_latent *empty = NULL, *out = NULL;
    tsr_guide guide = { .cfg = 5.0f, .rescale = rescale };
    options.model = TSR_GOLDEN_DIR "/checkpoints/golden-sd1.safetensors";
    options.precision = TSR_PRECISION_F32;
    options.prediction = prediction;
    options.zero_snr = zero_snr;
    OK(tsr_engine_open(&engine, &options, &err));
    OK(tsr_engine_denoiser(&guide.denoiser, engine, &err));
    OK(tsr_engine_encode_prompt(&guide.positive, engine, "a cat", 0, &err));
    OK(tsr_engine_encode_prompt(&guide.negative, engine, "", 0, &err));
    OK(tsr_latent_new(&empty, 2, 4, 8, 8, &err));
    sampling.sampler = sampler;
    sampling.scheduler = "normal";
    sampling.steps = 4;
    sampling.seed = 5;
    OK(tsr_ksampler(&out, empty, &guide, &sampling, &err));
    tsr_latent_free(empty);
    tsr_engine_close(engine);
    return out;
}

static void nodes__give_what_the_library_gives(void **state) {
    static const char plain[] = "{" START "," SAMPLED("1", "euler") "," KEPT "}";
    (void)state;
    assert_true(differ(latent_of(PATCHED(DISCRETE("5", "1", "eps", "false"), "5", "euler")), latent_of(plain)) == 0.0);
    assert_true(differ(latent_of(PATCHED(DISCRETE("5", "1", "v_prediction", "true"), "5", "euler")),
                       library_s("v", TSR_CHOICE_ON, 0.0, "euler")) < 1e-6);
    assert_true(differ(latent_of(PATCHED(DISCRETE("5", "1", "lcm", "false"), "5", "lcm")),
                       library_s("lcm", TSR_CHOICE_AUTO, 0.0, "lcm")) < 1e-6);
    assert_true(differ(latent_of(PATCHED(DISCRETE("5", "1", "x0", "false"), "5", "euler")),
                       library_s("x0", TSR_CHOICE_AUTO, 0.0, "euler")) < 1e-6);
    assert_true(differ(latent_of(PATCHED(RESCALE("5", "1", "0.7"), "5", "euler")),
                       library_s("auto", TSR_CHOICE_AUTO, 0.7, "euler")) < 1e-6);
    assert_true(differ(latent_of(PATCHED(RESCALE("5", "1", "0"), "5", "euler")), latent_of(plain)) == 0.0);
    assert_true(differ(latent_of(PATCHED(RESCALE("5", "1", "0.7"), "5", "euler")), latent_of(plain)) > 0.01);
}

/* A later patch of the same kind takes the earlier one's place, others stay, and adapters keep them all. */
static void patches__go_with_their_model(void **state) {
    (void)state;
    assert_true(
        differ(latent_of(PATCHED(DISCRETE("5", "1", "v_prediction", "false") "," DISCRETE("6", "5", "x0", "false"), "6",
                                 "euler")),
               library_s("x0", TSR_CHOICE_AUTO, 0.0, "euler")) < 1e-6);
    assert_true(differ(latent_of(PATCHED(RESCALE("5", "1", "0.5") "," DISCRETE("6", "5", "v_prediction", "true"), "6",
                                         "euler")),
                       library_s("v", TSR_CHOICE_ON, 0.5, "euler")) < 1e-6);
    tsr_latent *before =
                   latent_of(PATCHED(DISCRETE("5", "1", "v_prediction", "true") "," LORA("6", "5"), "6", "euler")),
               *after = latent_of(PATCHED(LORA("5", "1") "," DISCRETE("6", "5", "v_prediction", "true"), "6", "euler"));
    assert_memory_equal(before->values, after->values, tsr_latent_count(before) * sizeof(float));
    assert_true(differ(before, library_s("v", TSR_CHOICE_ON, 0.0, "euler")) > 1e-3); /* the adapter counts as well */
    tsr_latent_free(after);
}

/* Two samplings of one model in one workflow do not mix up, whichever comes first. */
static void samplings__of_one_model_stay_apart(void **state) {
    static const char both[] = "{" START "," DISCRETE("5", "1", "v_prediction", "true") "," NODE(
        "7", "KSampler",
        "\"model\":[\"1\",0],\"positive\":[\"2\",0],\"negative\":[\"3\",0],\"latent_image\":"
        "[\"4\",0],\"seed\":5,"
        "\"steps\":4,\"cfg\":5,\"sampler_name\":\"euler\",\"scheduler\":\"normal\","
        "\"denoise\":1") "," SAMPLED("5", "euler") "," KEPT "," NODE("10", "SaveLatent",
                                                                     "\"samples\":[\"7\",0],"
                                                                     "\"filename_prefix\":\"m\"") "}";
    (void)state;
    tsr_workflow_outputs *outputs = run_text(&f, both);
    assert_int_equal(outputs->count, 2);
    for (int i = 0; i < 2; i++) {
        int is_v = outputs->items[i].filename[0] == 'l';
        tsr_latent *got = outputs->items[i].latent;
        outputs->items[i].latent = NULL;
        assert_true(differ(got, is_v ? library_s("v", TSR_CHOICE_ON, 0.0, "euler")
                                     : library_s("auto", TSR_CHOICE_AUTO, 0.0, "euler")) < 1e-6);
    }
    tsr_workflow_outputs_free(outputs);
}

/* --- noise levels ----------------------------------------------------------------------------------------------------------- */
/* A KSampler node by its parts: BasicScheduler sees the noise levels that KSampler takes by itself. */
#define CUSTOM(patches, model)                                                                                                   \
    "{" START "," patches                                                                                                        \
    "," NODE("11", "BasicScheduler", "\"model\":[\"" model "\",0],\"scheduler\":\"normal\",\"steps\":4,\"denoise\":1") "," NODE( \
        "12", "KSamplerSelect",                                                                                                  \
        "\"sampler_name\":\"euler\"") "," NODE("8", "SamplerCustom",                                                             \
                                               "\"model\":[\"" model "\",0],\"positive\":[\"2\",0],\"negative\":["               \
                                               "\"3\",0],\"latent_image\":[\"4\",0],"                                            \
                                               "\"noise_seed\":5,\"add_noise\":true,\"cfg\":5,\"sampler\":[\"12\",0],"           \
                                               "\"sigmas\":[\"11\",0]") "," KEPT "}"

static void schedulers__see_a_patched_model(void **state) {
    (void)state;
    assert_true(differ(latent_of(CUSTOM(DISCRETE("5", "1", "lcm", "false"), "5")),
                       library_s("lcm", TSR_CHOICE_AUTO, 0.0, "euler")) < 1e-6);
    assert_true(differ(latent_of(CUSTOM(DISCRETE("5", "1", "lcm", "false"), "1")),
                       library_s("auto", TSR_CHOICE_AUTO, 0.0, "euler")) < 1e-6);
}

#define CONTINUOUS(kind, high, low)                                                                                    \
    NODE("5", "ModelSamplingContinuousEDM",                                                                            \
         "\"model\":[\"1\",0],\"sampling\":\"" kind "\",\"sigma_max\":" high ",\"sigma_min\":" low)

/* A range is what matters there: eps between the ends of the usual table is next to the usual picture. */
static void continuous__takes_its_range(void **state) {
    tsr_workflow_outputs *none = NULL;
    tsr_error err = TSR_ERROR_INIT;
    (void)state;
    tsr_latent *v = latent_of(PATCHED(CONTINUOUS("v_prediction", "14.0", "0.03"), "5", "euler"));
    tsr_latent *eps = latent_of(PATCHED(CONTINUOUS("eps", "14.0", "0.03"), "5", "euler"));
    tsr_latent *edm = latent_of(PATCHED(CONTINUOUS("edm", "14.0", "0.03"), "5", "euler"));
    assert_true(max_abs_diff(v->values, eps->values, 256) > 0.01 && max_abs_diff(v->values, edm->values, 256) > 0.01);
    tsr_latent_free(v);
    tsr_latent_free(eps);
    tsr_latent_free(edm);
    assert_int_equal(try_run(&f, &none, PATCHED(CONTINUOUS("eps", "1", "2"), "5", "euler"), &err), TSR_BAD_ARGUMENT);
    assert_non_null(strstr(err.message, "node 5 (ModelSamplingContinuousEDM): sigma_min 2, sigma_max 1"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nodes__give_what_the_library_gives), cmocka_unit_test(patches__go_with_their_model),
        cmocka_unit_test(samplings__of_one_model_stay_apart), cmocka_unit_test(schedulers__see_a_patched_model),
        cmocka_unit_test(continuous__takes_its_range),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
