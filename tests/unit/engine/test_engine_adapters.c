/* A region's own adapter: one batch in which every sample has another one gives what engines with merged weights give; lists
 * of files as a person writes them, tags in prompts, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/engine_priv.h"
#include "golden_file.h"

#define LORAS TSR_GOLDEN_DIR "/loras/"
#define OK(call)                                                                                                       \
    do {                                                                                                               \
        tsr_error err = TSR_ERROR_INIT;                                                                                \
        if ((call) != TSR_OK) fail_msg("%s", err.message);                                                             \
    } while (0)

enum { H = 16, W = 24, COUNT = 4 * H * W };

/* adapter NULL: none */
static tsr_engine *open_engine(const char *adapter, float strength) {
    tsr_engine *engine = NULL;
    tsr_engine_options options = TSR_ENGINE_OPTIONS_INIT;
    tsr_adapter merged = { adapter, strength, strength };
    options.model = TSR_GOLDEN_DIR "/checkpoints/golden-sd1.safetensors";
    options.precision = TSR_PRECISION_F32;
    options.adapters = &merged;
    options.adapter_count = adapter ? 1 : 0;
    OK(tsr_engine_open(&engine, &options, &err));
    return engine;
}

static const tsr__conditioning *make_cond(tsr_engine *engine, const char *list) {
    tsr__adapter_set *set = NULL;
    tsr__conditioning *cond = NULL;
    OK(tsr__adapters_get(&set, engine, list, "test", &err));
    OK(tsr__conditioning_get(&cond, engine, "a cat on a hill", 1, set, NULL, &err));
    return cond;
}

static void denoise(tsr_engine *engine, const void *const *conds, float *const *out, const float *x, int n) {
    const int shape[4] = { 1, 4, H, W };
    tsr_denoise_call calls[4];
    for (int i = 0; i < n; i++)
        calls[i] = (tsr_denoise_call){ .x = x, .sigma = 3.0f, .cond = conds[i], .denoised = out[i] };
    OK(engine->denoiser.denoise(engine, shape, calls, n, &err));
}

static void batch__equals_merged_engines(void **state) {
    static const char *const files[3] = { LORAS "lora-kohya-conv.safetensors", NULL, LORAS "lokr.safetensors" };
    static float x[COUNT], got[3][COUNT], want[COUNT];
    const void *conds[3];
    float *outs[3] = { got[0], got[1], got[2] }, *one[1] = { want };
    tsr_engine *shared = open_engine(NULL, 0);
    (void)state;
    for (int i = 0; i < COUNT; i++) x[i] = (float)((i * 7919) % 2001 - 1000) / 300.0f;
    conds[0] = make_cond(shared, LORAS "lora-kohya-conv.safetensors:0.8");
    conds[1] = make_cond(shared, "");
    conds[2] = make_cond(shared, LORAS "lokr.safetensors:0.8");
    assert_ptr_not_equal(conds[0], conds[1]);
    assert_ptr_equal(conds[2], make_cond(shared, LORAS "lokr.safetensors:0.8")); /* equal lists are one */
    denoise(shared, conds, outs, x, 3);
    for (int i = 0; i < 3; i++) {
        tsr_engine *merged = open_engine(files[i], 0.8f);
        const void *cond = make_cond(merged, NULL);
        denoise(merged, &cond, one, x, 1);
        double worst = max_abs_diff(got[i], want, COUNT) / max_abs(want, COUNT);
        print_message("%s worst %.2e\n", files[i] ? files[i] : "none", worst);
        assert_true(worst < 1e-4);
        tsr_engine_close(merged);
    }
    assert_true(max_abs_diff(got[0], got[1], COUNT) > 1e-3);
    tsr_engine_close(shared);
}

static void expect_tags(const char *prompt, const char *clean, const char *list) {
    char *got_clean = NULL, *got_list = NULL;
    OK(tsr__adapters_from_prompt(&got_clean, &got_list, prompt, &err));
    assert_string_equal(got_clean, clean);
    assert_string_equal(got_list, list);
    free(got_clean);
    free(got_list);
}

static void prompts__give_their_tags(void **state) {
    char *clean = NULL, *list = NULL;
    tsr_error err = TSR_ERROR_INIT;
    (void)state;
    expect_tags("a cat", "a cat", "");
    expect_tags("a <lora:hero:0.8>cat<lyco:x/y:1:0.5>", "a cat", "hero:0.8;x/y:1:0.5");
    expect_tags("1 <lora: 2, <loras:x>", "1 <lora: 2, <loras:x>", "");
    assert_int_equal(tsr__adapters_from_prompt(&clean, &list, "<lora:../secret:1>", &err), TSR_BAD_ARGUMENT);
    assert_null(clean);
}

static void refuses(tsr_engine *engine, const char *list, tsr_status status, const char *words) {
    tsr__adapter_set *set = NULL;
    tsr_error err = TSR_ERROR_INIT;
    assert_int_equal(tsr__adapters_get(&set, engine, list, "region 2", &err), status);
    assert_null(set);
    if (!strstr(err.message, words) || !strstr(err.message, "region 2")) fail_msg("%s", err.message);
}

static void lists__are_checked(void **state) {
    tsr_engine *engine = open_engine(NULL, 0);
    (void)state;
    refuses(engine, "/nowhere/x.safetensors:1", TSR_NOT_FOUND, "/nowhere/x.safetensors");
    refuses(engine, LORAS "lokr.safetensors:1e9", TSR_BAD_ARGUMENT, "-100 to 100");
    refuses(engine, ":0.5", TSR_BAD_ARGUMENT, "names no file");
    refuses(engine, TSR_GOLDEN_DIR "/checkpoints/golden-sd1.safetensors", TSR_BAD_FORMAT, "holds no LoRA");
    tsr__adapter_set *a = NULL, *b = NULL;
    OK(tsr__adapters_get(&a, engine, LORAS "lokr.safetensors:0.5:0.5; " LORAS "loha.safetensors", "x", &err));
    OK(tsr__adapters_get(&b, engine, LORAS "lokr.safetensors:0.5;" LORAS "loha.safetensors:1;", "x", &err));
    assert_ptr_equal(a, b);
    tsr_engine_close(engine);
}

/* --- DoRA -------------------------------------------------------------------------------------------------------------------- */
enum { MAX_TENSORS = 1024 };

/* The golden LoRA with a dora_scale beside every lora_up. */
static void write_dora(const char *path) {
    static tsr__tensor_out out[MAX_TENSORS];
    static char names[MAX_TENSORS][256];
    static float lengths[4096];
    tsr__weights *weights = NULL;
    size_t count = 0;
    OK(tsr__weights_open(&weights, LORAS "lora-kohya.safetensors", &err));
    for (int i = 0; i < 4096; i++) lengths[i] = 0.5f + (float)(i % 7) / 5.0f;
    for (size_t i = 0; i < tsr__weights_count(weights); i++) {
        const tsr__tensor_view *view = tsr__weights_at(weights, i);
        const char *end = strstr(view->name, ".lora_up.weight");
        assert_true(count + 2 <= MAX_TENSORS);
        out[count] =
            (tsr__tensor_out){ .name = view->name, .dtype = view->dtype, .rank = view->rank, .data = view->data };
        memcpy(out[count++].shape, view->shape, sizeof view->shape);
        if (!end) continue;
        snprintf(names[count], sizeof names[count], "%.*s.dora_scale", (int)(end - view->name), view->name);
        assert_true(view->shape[0] <= 4096);
        out[count] = (tsr__tensor_out){ names[count], TSR_DTYPE_F32, 2, { view->shape[0], 1 }, lengths };
        count++;
    }
    OK(tsr__safetensors_save(path, out, count, NULL, &err));
    tsr__weights_close(weights);
}

static void dora__of_a_region_shares_the_model(void **state) {
    static float x[COUNT], got[COUNT], want[COUNT], base[COUNT];
    char path[] = "/tmp/tessera-dora-XXXXXX";
    float *one[1] = { got };
    tsr_scene *scene = NULL;
    tsr__job *job = NULL;
    int index = 0;
    (void)state;
    close(mkstemp(path));
    write_dora(path);
    for (int i = 0; i < COUNT; i++) x[i] = (float)((i * 7919) % 2001 - 1000) / 300.0f;
    tsr_engine *engine = open_engine(NULL, 0);
    OK(tsr_scene_new(&scene, &err));
    OK(tsr_scene_set(scene, "width", "128", &err));
    OK(tsr_scene_set(scene, "height", "128", &err));
    for (int i = 0; i < 3; i++) {
        OK(tsr_scene_add_region(scene, &index, &err));
        OK(tsr_scene_set_region(scene, index, "box", i ? "50%:0:50%:100%" : "0:0:50%:100%", &err));
        OK(tsr_scene_set_region(scene, index, "prompt", "a cat on a hill", &err));
        if (i) OK(tsr_scene_set_region(scene, index, "lora", path, &err));
    }
    OK(tsr__job_new(&job, engine, scene, NULL, 0, &err));
    for (int i = 0; i < 3; i++) assert_ptr_equal(job->regions[i].guide.denoiser->user, engine);
    assert_null(engine->guests);
    const size_t before = tsr__nn_weight_bytes(engine->nn);
    denoise(engine, &job->regions[0].guide.positive, one, x, 1);
    const size_t plain = tsr__nn_weight_bytes(engine->nn);
    denoise(engine, &job->regions[1].guide.positive, one, x, 1);
    const size_t with = tsr__nn_weight_bytes(engine->nn);
    print_message("weights %zu, DoRA beside them %zu bytes\n", plain - before, with - plain);
    assert_true(with > plain && with - plain < (plain - before) / 10); /* its rank, not the layers again */
    tsr_engine *merged = open_engine(path, 1.0f);
    const void *cond = make_cond(merged, NULL);
    one[0] = want;
    denoise(merged, &cond, one, x, 1);
    assert_true(max_abs_diff(got, want, COUNT) / max_abs(want, COUNT) < 2e-5);
    one[0] = base;
    denoise(engine, &job->regions[0].guide.positive, one, x, 1);
    assert_true(max_abs_diff(got, base, COUNT) > 1e-2);
    tsr__job_free(job);
    tsr_scene_free(scene);
    tsr_engine_close(merged);
    tsr_engine_close(engine);
    remove(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batch__equals_merged_engines),
        cmocka_unit_test(prompts__give_their_tags),
        cmocka_unit_test(lists__are_checked),
        cmocka_unit_test(dora__of_a_region_shares_the_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
