/* SD2 (v-prediction) and SDXL through the engine: whole sampling runs and SDXL's size vector against the reference. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine_family.h"
#include "golden_file.h"
#include "tessera/engine.h"

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        tsr_error err = TSR_ERROR_INIT;                                                                                \
        if ((call) != TSR_OK) fail_msg("%s", err.message);                                                             \
    } while (0)

static const char *prompt_of(json_t *index, size_t i) {
    return json_string_value(json_array_get(json_object_get(index, "prompts"), i));
}

static void compare_run(tsr_engine *engine, golden_file *golden, json_t *index, const char *tag, const char *sampler,
                        const char *scheduler) {
    golden_tensor want = golden_get(golden, "%s/ksampler/%s", tag, sampler);
    const int shape[4] = { 1, 4, (int)want.shape[2], (int)want.shape[3] };
    tsr_ksampler_options options = TSR_KSAMPLER_OPTIONS_INIT;
    tsr_latent *start = NULL, *out = NULL;
    tsr_guide guide = { .cfg = 4.0f };
    OK(tsr_engine_denoiser(&guide.denoiser, engine, &err));
    OK(tsr_engine_encode_prompt(&guide.positive, engine, prompt_of(index, 1), 0, &err));
    OK(tsr_engine_encode_prompt(&guide.negative, engine, prompt_of(index, 2), 0, &err));
    OK(tsr_latent_new(&start, shape[0], shape[1], shape[2], shape[3], &err));
    options.sampler = sampler;
    options.scheduler = scheduler;
    options.steps = 5;
    options.seed = 17;
    OK(tsr_ksampler(&out, start, &guide, &options, &err));
    double worst = max_abs_diff(out->values, want.data, want.count) / max_abs(want.data, want.count);
    print_message("%s/%s worst %.2e\n", tag, sampler, worst);
    assert_true(worst <= 1e-3);
    tsr_latent_free(start);
    tsr_latent_free(out);
}

static void compare_family(const char *tag, const char *name, tsr_prediction prediction) {
    char path[256];
    tsr_engine *engine = NULL;
    tsr_engine_options options = TSR_ENGINE_OPTIONS_INIT;
    golden_file *golden = golden_open("checkpoints/expected.safetensors");
    json_t *index = golden_json("checkpoints/expected.json");
    snprintf(path, sizeof path, TSR_GOLDEN_DIR "/checkpoints/tiny-%s.safetensors", tag);
    options.model = path;
    options.precision = TSR_PRECISION_F32;
    OK(tsr_engine_open(&engine, &options, &err));
    tsr_engine_info info = tsr_engine_get_info(engine);
    assert_string_equal(info.kind, name);
    assert_int_equal(info.prediction, prediction);
    compare_run(engine, golden, index, tag, "euler", "normal");
    compare_run(engine, golden, index, tag, "dpmpp_2m", "karras");
    tsr_engine_close(engine);
    json_decref(index);
    golden_close(golden);
}

static void sd2__runs_as_the_reference(void **state) {
    (void)state;
    compare_family("sd2", "SD2", TSR_PREDICTION_V);
}

static void sdxl__runs_as_the_reference(void **state) {
    (void)state;
    compare_family("sdxl", "SDXL", TSR_PREDICTION_EPS);
}

/* adm_args: width, height, crop_w, crop_h, target_width, target_height; y belongs to prompts[1] and [2]. */
static void sdxl__is_told_the_sizes(void **state) {
    golden_file *golden = golden_open("checkpoints/expected.safetensors");
    const float *a = golden_get(golden, "sdxl/adm_args").data;
    const float sizes[TSR__SIZE_VALUES] = { a[1], a[0], a[3], a[2], a[5], a[4] };
    golden_tensor y = golden_get(golden, "sdxl/unet/y");
    int width = (int)y.shape[1], pooled = width - TSR__SIZE_VALUES * TSR__SIZE_WIDTH;
    float *label = calloc((size_t)width, sizeof *label);
    (void)state;
    assert_non_null(label);
    for (int i = 0; i < 2; i++) {
        const float *want = y.data + (size_t)i * (size_t)width;
        tsr__family_label(label, want, pooled, sizes);
        assert_true(max_abs_diff(label, want, (size_t)width) < 1e-4);
    }
    free(label);
    golden_close(golden);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sd2__runs_as_the_reference),
        cmocka_unit_test(sdxl__runs_as_the_reference),
        cmocka_unit_test(sdxl__is_told_the_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
