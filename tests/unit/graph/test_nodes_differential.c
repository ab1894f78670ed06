/* Workflows whose model is patched by DifferentialDiffusion, on a small model: the patch goes with the model wherever it goes. */
#include <math.h>

#include "graph_fixture.h"

enum { SIDE = 64 };

/* A picture that is black on the left and white on the right. */
static void add_ramp(fixture *f) {
    tsr_image *image = NULL;
    char path[120];
    assert_int_equal(tsr_image_new(&image, SIDE, SIDE, 3, NULL), TSR_OK);
    for (int i = 0; i < 3 * SIDE * SIDE; i++) image->pixels[i] = (unsigned char)(4 * (i / 3 % SIDE));
    snprintf(path, sizeof path, "%s/ramp.png", f->input);
    assert_int_equal(tsr_image_save(image, path, 0, NULL), TSR_OK);
    tsr_image_free(image);
}

#define HEAD                                                                                                                                                         \
    "{" NODE("1", "CheckpointLoaderSimple", "\"ckpt_name\":\"one.safetensors\"") "," NODE("2", "CLIPTextEncode", "\"clip\":[\"1\",1],\"text\":\"a tree\"") "," NODE( \
        "3", "LoadImage",                                                                                                                                            \
        "\"image\":\"ramp.png\"") "," NODE("4", "VAEEncode",                                                                                                         \
                                           "\"pixels\":[\"3\",0],\"vae\":[\"1\",2]") "," NODE("5", "LoadImageMask",                                                  \
                                                                                              "\"image\":\"ramp."                                                    \
                                                                                              "png\",\"channel\":"                                                   \
                                                                                              "\"red\"") "," NODE("6",                                               \
                                                                                                                  "Se"                                               \
                                                                                                                  "tL"                                               \
                                                                                                                  "at"                                               \
                                                                                                                  "en"                                               \
                                                                                                                  "tN"                                               \
                                                                                                                  "oi"                                               \
                                                                                                                  "se"                                               \
                                                                                                                  "Ma"                                               \
                                                                                                                  "s"                                                \
                                                                                                                  "k",                                               \
                                                                                                                  "\""                                               \
                                                                                                                  "sa"                                               \
                                                                                                                  "mp"                                               \
                                                                                                                  "le"                                               \
                                                                                                                  "s"                                                \
                                                                                                                  "\""                                               \
                                                                                                                  ":["                                               \
                                                                                                                  "\""                                               \
                                                                                                                  "4"                                                \
                                                                                                                  "\""                                               \
                                                                                                                  ",0"                                               \
                                                                                                                  "],"                                               \
                                                                                                                  "\""                                               \
                                                                                                                  "ma"                                               \
                                                                                                                  "sk"                                               \
                                                                                                                  "\""                                               \
                                                                                                                  ":["                                               \
                                                                                                                  "\""                                               \
                                                                                                                  "5"                                                \
                                                                                                                  "\""                                               \
                                                                                                                  ",0"                                               \
                                                                                                                  "]") ","
#define END(slot) "," NODE("9", "SaveLatent", "\"samples\":[\"8\"," slot "],\"filename_prefix\":\"p\"") "}"
#define TAIL      END("0")
#define KSAMPLER(model)                                                                                                \
    NODE("8", "KSampler",                                                                                              \
         "\"model\":[\"" model "\",0],\"seed\":3,\"steps\":4,\"cfg\":2.0,\"sampler_name\":\"euler\",\"scheduler\":"    \
         "\"normal\",\"positive\":[\"2\",0],\"negative\":[\"2\",0],\"latent_image\":[\"6\",0],\"denoise\":1.0")
#define PATCH(inputs) NODE("7", "DifferentialDiffusion", "\"model\":[\"1\",0]" inputs) ","
#define CUSTOM                                                                                                             \
    NODE("10", "RandomNoise", "\"noise_seed\":3")                                                                          \
    "," NODE("11", "CFGGuider", "\"model\":[\"7\",0],\"positive\":[\"2\",0],\"negative\":[\"2\",0],\"cfg\":2.0") "," NODE( \
        "12", "KSamplerSelect",                                                                                            \
        "\"sampler_name\":\"euler\"") "," NODE("13", "BasicScheduler",                                                     \
                                               "\"model\":[\"7\",0],\"scheduler\":\"normal\",\"steps\":4,\"denoise\":"     \
                                               "1.0") "," NODE("8", "SamplerCustomAdvanced",                               \
                                                               "\"noise\":[\"10\",0],\"guider\":[\"11\",0],"               \
                                                               "\"sampler\":[\"12\",0],\"sigmas\":[\"13\",0],"             \
                                                               "\"latent_image\":"                                         \
                                                               "[\"6\",0]")
#define PIPE                                                                                                           \
    NODE("10", "ToBasicPipe",                                                                                          \
         "\"model\":[\"7\",0],\"clip\":[\"1\",1],\"vae\":[\"1\",2],\"positive\":[\"2\",0],\"negative\":[\"2\",0]")     \
    "," NODE("8", "ImpactKSamplerBasicPipe",                                                                           \
             "\"basic_pipe\":[\"10\",0],\"seed\":3,\"steps\":4,\"cfg\":2.0,\"sampler_name\":\"euler\",\"scheduler\":"  \
             "\"normal\",\"latent_image\":[\"6\",0],\"denoise\":1.0")
#define KEPT_LORA                                                                                                      \
    NODE("14", "LoraLoaderModelOnly",                                                                                  \
         "\"model\":[\"7\",0],\"lora_name\":\"lora-kohya.safetensors\",\"strength_model\":0.0")                        \
    ","

static tsr_latent *latent_of(fixture *f, const char *text) {
    tsr_workflow_outputs *outputs = run_text(f, text);
    tsr_latent *latent = NULL;
    for (int i = 0; i < outputs->count; i++)
        if (outputs->items[i].latent)
            assert_int_equal(tsr_latent_copy(&latent, outputs->items[i].latent, NULL), TSR_OK);
    assert_non_null(latent);
    tsr_workflow_outputs_free(outputs);
    return latent;
}

static float difference(const tsr_latent *a, const tsr_latent *b) {
    float most = 0.0f;
    for (size_t i = 0; i < tsr_latent_count(a); i++) most = fmaxf(most, fabsf(a->values[i] - b->values[i]));
    return most;
}

static void differential__goes_with_the_model(void **state) {
    static const char *const same[] = { HEAD PATCH(",\"strength\":1.0") KSAMPLER("7") TAIL,
                                        HEAD PATCH(",\"strength\":0.0") KSAMPLER("7") TAIL, /* as in ComfyUI */
                                        HEAD PATCH("") CUSTOM TAIL, HEAD PATCH("") PIPE END("1"),
                                        HEAD PATCH("") KEPT_LORA KSAMPLER("14") TAIL };
    fixture f;
    char from[300], to[200];
    (void)state;
    fixture_open(&f, NULL);
    snprintf(to, sizeof to, "%s/loras", f.models);
    snprintf(from, sizeof from, "%s/loras", TSR_GOLDEN_DIR);
    assert_int_equal(symlink(from, to), 0);
    add_ramp(&f);
    tsr_latent *grey = latent_of(&f, HEAD KSAMPLER("1") TAIL), *map = latent_of(&f, HEAD PATCH("") KSAMPLER("7") TAIL),
               *half = latent_of(&f, HEAD PATCH(",\"strength\":0.5") KSAMPLER("7") TAIL);
    assert_true(difference(grey, map) > 0.05f);
    assert_true(difference(grey, half) > 0.02f && difference(half, map) > 0.02f);
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        tsr_latent *other = latent_of(&f, same[i]);
        float off = difference(map, other);
        if (!(off <= 1e-5f)) fail_msg("workflow %zu: off by %g", i, (double)off);
        tsr_latent_free(other);
    }
    tsr_latent_free(grey);
    tsr_latent_free(map);
    tsr_latent_free(half);
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(differential__goes_with_the_model) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
