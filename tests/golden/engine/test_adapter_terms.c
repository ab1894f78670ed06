/* Adapters of every kind beside shared weights, against the same ones merged into a copy of the model: the text's rows and the
 * denoised picture, of a batch in which a sample without adapters stands between two with them. The merged weights are
 * PyTorch's (golden.adapter_numbers). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>

#include "adapter_cases.h"
#include "engine/engine_priv.h"
#include "golden_file.h"

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        tsr_error err = TSR_ERROR_INIT;                                                                                \
        if ((call) != TSR_OK) fail_msg("%s", err.message);                                                             \
    } while (0)

enum { H = 10, W = 14, COUNT = 4 * H * W };

static tsr_engine *open_engine(const char *checkpoint, const adapter_case *merged) {
    char path[CASE_SIZE];
    tsr_engine *engine = NULL;
    tsr_adapter adapters[CASE_ADAPTERS];
    tsr_engine_options options = TSR_ENGINE_OPTIONS_INIT;
    (void)snprintf(path, sizeof path, "%s/checkpoints/%s.safetensors", TSR_GOLDEN_DIR, checkpoint);
    options.model = path;
    options.precision = TSR_PRECISION_F32;
    for (int i = 0; merged && i < merged->count; i++)
        adapters[i] = (tsr_adapter){ merged->items[i].path, merged->items[i].model, merged->items[i].clip };
    options.adapters = adapters;
    options.adapter_count = merged ? merged->count : 0;
    OK(tsr_engine_open(&engine, &options, &err));
    return engine;
}

/* The prompt under the case's adapters as terms; NULL: none. */
static const tsr__conditioning *make_cond(tsr_engine *engine, const adapter_case *asked) {
    char list[CASE_ADAPTERS * (CASE_SIZE + 16)] = "";
    tsr__adapter_set *set = NULL;
    tsr__conditioning *cond = NULL;
    for (int i = 0; asked && i < asked->count; i++) {
        const size_t used = strlen(list);
        (void)snprintf(list + used, sizeof list - used, "%s:%.3g;", asked->items[i].path,
                       (double)asked->items[i].model);
    }
    OK(tsr__adapters_get(&set, engine, list, "test", &err));
    OK(tsr__conditioning_get(&cond, engine, "a cat on a hill", 1, set, NULL, &err));
    return cond;
}

static void denoise(tsr_engine *engine, const void *const *conds, float (*out)[COUNT], const float *x, int n) {
    const int shape[4] = { 1, 4, H, W };
    tsr_denoise_call calls[3];
    for (int i = 0; i < n; i++)
        calls[i] = (tsr_denoise_call){ .x = x, .sigma = 3.0f, .cond = conds[i], .denoised = out[i] };
    OK(engine->denoiser.denoise(engine, shape, calls, n, &err));
}

static double relative(const float *got, const float *want, size_t count) {
    return max_abs_diff(got, want, count) / max_abs(want, count);
}

typedef struct distances {
    double text, picture, least_change;
} distances;

/* plain: what the sample between the two must give. */
static void check_case(const char *checkpoint, tsr_engine *shared, const adapter_case *asked, const char *name,
                       const float *x, const float *plain, distances *worst) {
    static float got[3][COUNT], want[1][COUNT];
    tsr_engine *merged = open_engine(checkpoint, asked);
    const tsr__conditioning *with = make_cond(shared, asked), *whole = make_cond(merged, NULL);
    const void *conds[3] = { with, make_cond(shared, NULL), with }, *one[1] = { whole };
    denoise(shared, conds, got, x, 3);
    denoise(merged, one, want, x, 1);
    const size_t rows = (size_t)with->tokens * (size_t)shared->text_width;
    const double text = relative(with->values, whole->values, rows), picture = relative(got[0], want[0], COUNT);
    const double changed = relative(want[0], plain, COUNT);
    if (!(text < 2e-5) || !(picture < 2e-5)) fail_msg("%s %s: text %g, picture %g", checkpoint, name, text, picture);
    assert_memory_equal(got[0], got[2], sizeof got[0]);
    assert_true(relative(got[1], plain, COUNT) < 2e-5);
    if (!(changed > 1e-4)) fail_msg("%s %s changes the picture by %g only", checkpoint, name, changed);
    if (text > worst->text) worst->text = text;
    if (picture > worst->picture) worst->picture = picture;
    if (changed < worst->least_change) worst->least_change = changed;
    tsr_engine_close(merged);
}

/* Cases that the numbers have in three strengths are tried with 0.6; names were told apart when they were merged. */
static int is_tried(const char *name) {
    const size_t length = strcspn(name, "|");
    return memchr(name, '+', length) || (length > 4 && strncmp(name + length - 4, ":0.6", 4) == 0);
}

static void check_family(const char *family, const char *checkpoint) {
    char path[CASE_SIZE];
    static float x[COUNT], plain[1][COUNT];
    distances worst = { 0, 0, 1e9 };
    tsr__weights *expected = NULL;
    tsr_engine *shared = open_engine(checkpoint, NULL);
    const void *none = make_cond(shared, NULL);
    int cases = 0;
    for (int i = 0; i < COUNT; i++) x[i] = (float)((i * 7919) % 2001 - 1000) / 300.0f;
    denoise(shared, &none, plain, x, 1);
    (void)snprintf(path, sizeof path, "%s/adapters/%s-expected.safetensors", TSR_GOLDEN_DIR, family);
    OK(tsr__weights_open(&expected, path, &err));
    for (size_t i = 0; i < tsr__weights_count(expected); i++) {
        const char *name = tsr__weights_at(expected, i)->name;
        adapter_case asked;
        if (!is_tried(name) || (i && same_case(name, tsr__weights_at(expected, i - 1)->name))) continue;
        read_case(&asked, family, name);
        check_case(checkpoint, shared, &asked, name, x, plain[0], &worst);
        cases++;
    }
    print_message("%s: %d cases, text %.2e, picture %.2e, changed by %.2e or more\n", family, cases, worst.text,
                  worst.picture, worst.least_change);
    assert_true(cases >= 20);
    tsr__weights_close(expected);
    tsr_engine_close(shared);
}

static void terms__are_merged_weights_in_sd1(void **state) {
    (void)state;
    check_family("sd1", "golden-sd1");
}

static void terms__are_merged_weights_in_sd2(void **state) {
    (void)state;
    check_family("sd2", "tiny-sd2");
}

static void terms__are_merged_weights_in_sdxl(void **state) {
    (void)state;
    check_family("sdxl", "tiny-sdxl");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(terms__are_merged_weights_in_sd1),
        cmocka_unit_test(terms__are_merged_weights_in_sd2),
        cmocka_unit_test(terms__are_merged_weights_in_sdxl),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
