/* Adapters as terms beside the shared weights give what merged weights give, sample by sample, for the UNet (also on odd
 * sides, where doublings are cut) and the text encoder. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "golden_file.h"
#include "model/model.h"
#include "model/net_terms.h"
#include "weights/lora_merge.h"
#include "weights/pth.h"

#define CHECKPOINT TSR_GOLDEN_DIR "/checkpoints/golden-sd1.safetensors"
#define TEXT       "cond_stage_model.transformer.text_model"
#define OK(call)                                                                                                       \
    do {                                                                                                               \
        tsr_error err = TSR_ERROR_INIT;                                                                                \
        if ((call) != TSR_OK) fail_msg("%s", err.message);                                                             \
    } while (0)

enum { TOKENS = 77, MAX_VALUES = 3 * 4 * 16 * 16 };

typedef struct net {
    tsr__nn *nn;
    tsr__weights *file, *weights;
    tsr__unet *unet;
    tsr__clip *clip;
} net;

/* path NULL: the checkpoint as it is. */
static void open_net(net *n, const char *path, float strength) {
    tsr__nn_options options = { TSR__F32, 0 };
    tsr__merge_adapter adapter = { path, strength, strength };
    memset(n, 0, sizeof *n);
    OK(tsr__nn_new(&n->nn, &options, &err));
    OK(tsr__weights_open(&n->file, CHECKPOINT, &err));
    if (path) OK(tsr__lora_merge(&n->weights, n->file, &adapter, 1, 0, &err));
    const tsr__weights *from = path ? n->weights : n->file;
    const char *config = tsr__weights_metadata(n->file, "tessera.config");
    OK(tsr__unet_new(&n->unet, n->nn, from, "model.diffusion_model", config, &err));
    OK(tsr__clip_new(&n->clip, n->nn, from, TEXT, config, "text_heads", &err));
}

static void close_net(net *n) {
    tsr__unet_free(n->unet);
    tsr__clip_free(n->clip);
    tsr__weights_close(n->weights);
    tsr__weights_close(n->file);
    tsr__nn_free(n->nn);
}

static void fill(float *values, size_t count, unsigned seed) {
    for (size_t i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        values[i] = (float)(seed >> 8) / (float)(1 << 23) - 1.0f;
    }
}

/* Sample i reads text i under terms[i]. */
static void run_unet(net *n, float *out, const float *x, const float *text, int samples, int h, int w,
                     const tsr__nn_terms *const *terms) {
    tsr__unet_context *contexts[3] = { NULL };
    const float times[3] = { 500, 500, 500 };
    size_t each = (size_t)TOKENS * (size_t)tsr__unet_context_width(n->unet);
    for (int i = 0; i < samples; i++) {
        tsr__nn_terms_use(n->nn, terms + i, 1);
        OK(tsr__unet_context_new(&contexts[i], n->unet, text + (size_t)i * each, TOKENS, &err));
    }
    tsr__nn_terms_use(n->nn, terms, samples);
    OK(tsr__unet_run(n->unet, out, x, samples, h, w, times, contexts, NULL, &err));
    tsr__nn_terms_use(n->nn, NULL, 0);
    for (int i = 0; i < samples; i++) tsr__unet_context_free(contexts[i]);
}

static void expect_close(const char *what, const float *got, const float *want, size_t count) {
    double worst = max_abs_diff(got, want, count) / max_abs(want, count);
    print_message("%s worst %.2e\n", what, worst);
    if (!(worst < 1e-4)) fail_msg("%s differs by %g", what, worst);
}

static void compare(const char *name, int h, int w) {
    char path[256];
    net base, merged;
    tsr__weights *file = NULL;
    tsr__lora *lora = NULL;
    tsr__nn_terms *terms = NULL, *text_terms = NULL;
    static float x[MAX_VALUES], got[MAX_VALUES], want[MAX_VALUES];
    const tsr__nn_terms *none[3] = { NULL, NULL, NULL };
    snprintf(path, sizeof path, TSR_GOLDEN_DIR "/loras/%s", name);
    open_net(&base, NULL, 0);
    open_net(&merged, path, 0.7f);
    OK(tsr__weights_open_any(&file, path, &err));
    OK(tsr__lora_open(&lora, file, &err));
    OK(tsr__nn_terms_new(&terms, base.nn, &err));
    OK(tsr__nn_terms_new(&text_terms, base.nn, &err));
    const tsr__net_adapter one_adapter = { lora, 0.7f };
    OK(tsr__net_terms_add(terms, base.nn, tsr__unet_weights(base.unet), base.file, &one_adapter, 1, &err));
    OK(tsr__net_terms_add(text_terms, base.nn, tsr__clip_weights(base.clip), base.file, &one_adapter, 1, &err));
    assert_int_equal(tsr__lora_unused(lora), 0);
    assert_true(tsr__nn_terms_count(terms) > 0);

    /* three samples: with, without, with */
    size_t each = 4 * (size_t)h * (size_t)w, text_each = (size_t)TOKENS * (size_t)tsr__unet_context_width(base.unet);
    float *text = calloc(3 * text_each, sizeof *text);
    assert_non_null(text);
    fill(text, 3 * text_each, 3);
    fill(x, 3 * each, 5);
    const tsr__nn_terms *mixed[3] = { terms, NULL, terms };
    run_unet(&base, got, x, text, 3, h, w, mixed);
    run_unet(&merged, want, x, text, 1, h, w, none);
    run_unet(&merged, want + 2 * each, x + 2 * each, text + 2 * text_each, 1, h, w, none);
    run_unet(&base, want + each, x + each, text + text_each, 1, h, w, none);
    expect_close(name, got, want, 3 * each);
    assert_true(max_abs_diff(got, want + each, each) > 1e-3); /* the adapter does something */

    int ids[TOKENS] = { 49406, 320, 2368, 49407 };
    float *rows = calloc(2 * text_each, sizeof *rows);
    assert_non_null(rows);
    const tsr__clip_want last = { .layer = -1, .normed = 1 };
    const tsr__nn_terms *one[1] = { text_terms };
    tsr__nn_terms_use(base.nn, one, 1);
    OK(tsr__clip_encode(base.clip, rows, ids, 1, last, &err));
    tsr__nn_terms_use(base.nn, NULL, 0);
    OK(tsr__clip_encode(merged.clip, rows + text_each, ids, 1, last, &err));
    expect_close("text", rows, rows + text_each, text_each);

    free(rows);
    free(text);
    tsr__nn_terms_free(terms);
    tsr__nn_terms_free(text_terms);
    tsr__lora_free(lora);
    tsr__weights_close(file);
    close_net(&base);
    close_net(&merged);
}

static void lora__equals_merged_weights(void **state) {
    (void)state;
    compare("lora-kohya.safetensors", 16, 16);
    compare("lora-kohya-conv.safetensors", 13, 15);
}

static void loha_and_lokr__equal_merged_weights(void **state) {
    (void)state;
    compare("loha.safetensors", 16, 16);
    compare("lokr.safetensors", 16, 16);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lora__equals_merged_weights),
        cmocka_unit_test(loha_and_lokr__equal_merged_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
