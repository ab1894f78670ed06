/* Networks of other families (tiny random SD2 and SDXL files in the real layout) against the reference: text conditioning,
 * pooled output, one UNet evaluation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "golden_file.h"
#include "model/text_encode.h"

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        tsr_error err = TSR_ERROR_INIT;                                                                                \
        if ((call) != TSR_OK) fail_msg("%s", err.message);                                                             \
    } while (0)

enum { PROMPTS = 4, SAMPLES = 2 };

typedef struct fixture {
    const char *tag;
    tsr__nn *nn;
    tsr__weights *weights;
    const char *config;
    golden_file *golden;
    json_t *index;
} fixture;

static void open_fixture(fixture *f, const char *tag) {
    char path[256];
    tsr__nn_options options = { TSR__F32, 0 };
    memset(f, 0, sizeof *f);
    f->tag = tag;
    snprintf(path, sizeof path, TSR_GOLDEN_DIR "/checkpoints/tiny-%s.safetensors", tag);
    OK(tsr__nn_new(&f->nn, &options, &err));
    OK(tsr__weights_open(&f->weights, path, &err));
    f->config = tsr__weights_metadata(f->weights, "tessera.config");
    f->golden = golden_open("checkpoints/expected.safetensors");
    f->index = golden_json("checkpoints/expected.json");
}

static void close_fixture(fixture *f) {
    tsr__weights_close(f->weights);
    tsr__nn_free(f->nn);
    golden_close(f->golden);
    json_decref(f->index);
}

static void compare(const char *what, const char *tag, int i, const float *got, golden_tensor want) {
    double worst = max_abs_diff(got, want.data, want.count) / max_abs(want.data, want.count);
    double cos = cosine(got, want.data, want.count);
    print_message("%s/%s/%d worst %.2e, cosine %.9f\n", tag, what, i, worst, cos);
    if (!(worst <= 2e-4) || !(cos >= 0.999999)) fail_msg("%s/%s/%d differs", tag, what, i);
}

static void compare_texts(const char *tag, tsr__text_family family, int pooled) {
    fixture f;
    tsr__text_stack *stack = NULL;
    tsr__tokenizer *tokenizer = NULL;
    open_fixture(&f, tag);
    OK(tsr__text_stack_new(&stack, f.nn, f.weights, family, f.config, &err));
    OK(tsr__tokenizer_new(&tokenizer, &err));
    assert_int_equal(tsr__text_pooled_width(stack) > 0, pooled);
    for (int i = 0; i < PROMPTS; i++) {
        const char *prompt = json_string_value(json_array_get(json_object_get(f.index, "prompts"), (size_t)i));
        golden_tensor want = golden_get(f.golden, "%s/cond/%d", tag, i);
        tsr__text_rows rows;
        OK(tsr__text_encode(&rows, stack, tokenizer, prompt, 0, NULL, &err));
        assert_int_equal((size_t)rows.tokens * (size_t)tsr__text_width(stack), want.count);
        compare("cond", tag, i, rows.rows, want);
        if (pooled) compare("pooled", tag, i, rows.pooled, golden_get(f.golden, "%s/pooled/%d", tag, i));
        else assert_null(rows.pooled);
        tsr__text_rows_clear(&rows);
    }
    tsr__tokenizer_free(tokenizer);
    tsr__text_stack_free(stack);
    close_fixture(&f);
}

static void sd2_text__equals_the_reference(void **state) {
    (void)state;
    compare_texts("sd2", TSR__TEXT_SD2, 0);
}

static void sdxl_text__equals_the_reference(void **state) {
    (void)state;
    compare_texts("sdxl", TSR__TEXT_SDXL, 1);
}

static void compare_unet(const char *tag) {
    fixture f;
    tsr__unet *unet = NULL;
    tsr__unet_context *contexts[SAMPLES];
    const float *labels[SAMPLES] = { NULL };
    open_fixture(&f, tag);
    OK(tsr__unet_new(&unet, f.nn, f.weights, "model.diffusion_model", f.config, &err));
    golden_tensor x = golden_get(f.golden, "%s/unet/x", tag), t = golden_get(f.golden, "%s/unet/t", tag);
    golden_tensor context = golden_get(f.golden, "%s/unet/context", tag),
                  want = golden_get(f.golden, "%s/unet/out", tag);
    size_t each = context.shape[1] * context.shape[2], width = (size_t)tsr__unet_label_width(unet);
    assert_int_equal(x.shape[0], SAMPLES);
    for (int i = 0; i < SAMPLES; i++) {
        OK(tsr__unet_context_new(&contexts[i], unet, context.data + (size_t)i * each, (int)context.shape[1], &err));
        if (width) labels[i] = golden_get(f.golden, "%s/unet/y", tag).data + (size_t)i * width;
    }
    float *out = calloc(want.count, sizeof *out);
    assert_non_null(out);
    OK(tsr__unet_run(unet, out, x.data, SAMPLES, (int)x.shape[2], (int)x.shape[3], t.data, contexts,
                     width ? labels : NULL, &err));
    compare("unet", tag, 0, out, want);
    if (width) { /* without its second vector it must not run */
        tsr_error err = TSR_ERROR_INIT;
        assert_int_equal(
            tsr__unet_run(unet, out, x.data, SAMPLES, (int)x.shape[2], (int)x.shape[3], t.data, contexts, NULL, &err),
            TSR_BAD_ARGUMENT);
    }
    for (int i = 0; i < SAMPLES; i++) tsr__unet_context_free(contexts[i]);
    free(out);
    tsr__unet_free(unet);
    close_fixture(&f);
}

static void sd2_unet__equals_the_reference(void **state) {
    (void)state;
    compare_unet("sd2");
}

static void sdxl_unet__equals_the_reference(void **state) {
    (void)state;
    compare_unet("sdxl");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sd2_text__equals_the_reference),
        cmocka_unit_test(sdxl_text__equals_the_reference),
        cmocka_unit_test(sd2_unet__equals_the_reference),
        cmocka_unit_test(sdxl_unet__equals_the_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
