/* The networks of golden-sd1 against the reference: text encoder, UNet, VAE whole and tiled; bf16 loosely against f32. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "golden_file.h"
#include "model/text_encode.h"

#define CHECKPOINT TSR_GOLDEN_DIR "/checkpoints/golden-sd1.safetensors"

typedef struct fixture {
    tsr__nn *nn;
    tsr__weights *weights;
    tsr__text_stack *text;
    tsr__unet *unet;
    tsr__vae *vae;
    tsr__tokenizer *tokenizer;
    golden_file *golden;
    json_t *index;
} fixture;

static fixture f32, bf16; /* one for each precision, opened on first use */

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        tsr_error err = TSR_ERROR_INIT;                                                                                \
        if ((call) != TSR_OK) fail_msg("%s", err.message);                                                             \
    } while (0)

static void open_fixture(fixture *f, tsr__precision precision) {
    if (f->nn) return;
    tsr__nn_options options = { precision, 0 };
    OK(tsr__nn_new(&f->nn, &options, &err));
    OK(tsr__weights_open(&f->weights, CHECKPOINT, &err));
    const char *config = tsr__weights_metadata(f->weights, "tessera.config");
    OK(tsr__text_stack_new(&f->text, f->nn, f->weights, TSR__TEXT_SD1, config, &err));
    OK(tsr__unet_new(&f->unet, f->nn, f->weights, "model.diffusion_model.", config, &err));
    OK(tsr__vae_new(&f->vae, f->nn, f->weights, "first_stage_model", config, &err));
    OK(tsr__tokenizer_new(&f->tokenizer, &err));
    f->golden = golden_open("networks.safetensors");
    f->index = golden_json("networks.json");
}

static void close_fixture(fixture *f) {
    if (!f->nn) return;
    tsr__tokenizer_free(f->tokenizer);
    tsr__vae_free(f->vae);
    tsr__unet_free(f->unet);
    tsr__text_stack_free(f->text);
    tsr__weights_close(f->weights);
    tsr__nn_free(f->nn);
    golden_close(f->golden);
    json_decref(f->index);
    memset(f, 0, sizeof *f);
}

static fixture *exact(void) {
    open_fixture(&f32, TSR__F32);
    return &f32;
}

static fixture *rough(void) {
    if (!tsr__nn_has_bf16()) skip();
    open_fixture(&bf16, TSR__BF16);
    return &bf16;
}

static float *floats(size_t count) {
    float *values = calloc(count, sizeof *values);
    assert_non_null(values);
    return values;
}

/* relative: of the largest expected value */
static void compare(const char *what, const float *got, golden_tensor want, double relative, double least_cosine) {
    double largest = max_abs(want.data, want.count), worst = max_abs_diff(got, want.data, want.count) / largest;
    double cos = cosine(got, want.data, want.count);
    print_message("%-24s worst %.2e of %.3g, cosine %.9f\n", what, worst, largest, cos);
    if (!(worst <= relative) || !(cos >= least_cosine)) fail_msg("%s differs", what);
}

#define EXACT 2e-4, 0.999999
#define ROUGH 0.05, 0.999

/* --- text --- */
static void compare_text(fixture *f, const char *key, size_t prompt, int skip_to, double relative, double least) {
    const char *text = json_string_value(json_array_get(json_object_get(f->index, "prompts"), prompt));
    golden_tensor want = golden_get(f->golden, "%s", key);
    tsr__text_rows rows;
    OK(tsr__text_encode(&rows, f->text, f->tokenizer, text, -skip_to, NULL, &err));
    assert_int_equal((size_t)rows.tokens * (size_t)tsr__text_width(f->text), want.count);
    compare(key, rows.rows, want, relative, least);
    tsr__text_rows_clear(&rows);
}

static void compare_texts(fixture *f, double relative, double least) {
    char key[32];
    assert_int_equal(json_array_size(json_object_get(f->index, "prompts")), 7);
    for (size_t i = 0; i < 7; i++) {
        snprintf(key, sizeof key, "text/%zu", i);
        compare_text(f, key, i, -1, relative, least);
    }
    compare_text(f, "text_skip-2/1", 1, -2, relative, least);
    compare_text(f, "text_skip-3/1", 1, -3, relative, least);
}

static void text__equals_the_reference(void **state) {
    (void)state;
    compare_texts(exact(), EXACT);
}

/* --- UNet --- */
/* x, t, context as golden tensors or arrays of the caller */
static float *run_unet(fixture *f, const float *x, int n, int h, int w, const float *t, const float *context,
                       int tokens) {
    tsr__unet_context *contexts[8] = { 0 };
    assert_in_range(n, 1, 8);
    for (int i = 0; i < n; i++)
        OK(tsr__unet_context_new(&contexts[i], f->unet,
                                 context + (size_t)i * (size_t)tokens * (size_t)tsr__unet_context_width(f->unet),
                                 tokens, &err));
    float *out = floats((size_t)n * (size_t)tsr__unet_out_channels(f->unet) * (size_t)h * (size_t)w);
    OK(tsr__unet_run(f->unet, out, x, n, h, w, t, contexts, NULL, &err));
    for (int i = 0; i < n; i++) tsr__unet_context_free(contexts[i]);
    return out;
}

static void compare_unets(fixture *f, double relative, double least) {
    for (int i = 0; i < 4; i++) {
        golden_tensor x = golden_get(f->golden, "unet/%d/x", i), t = golden_get(f->golden, "unet/%d/t", i);
        golden_tensor c = golden_get(f->golden, "unet/%d/context", i), want = golden_get(f->golden, "unet/%d/out", i);
        char key[32];
        snprintf(key, sizeof key, "unet/%d", i);
        float *out =
            run_unet(f, x.data, (int)x.shape[0], (int)x.shape[2], (int)x.shape[3], t.data, c.data, (int)c.shape[1]);
        compare(key, out, want, relative, least);
        free(out);
    }
}

static void unet__equals_the_reference(void **state) {
    (void)state;
    compare_unets(exact(), EXACT);
}

/* The index of the nearest log sigma in SD1's table. */
static float timestep_of(double sigma) {
    double product = 1, best = INFINITY;
    int index = 0;
    for (int i = 0; i < 1000; i++) {
        double root = sqrt(0.00085) + (sqrt(0.012) - sqrt(0.00085)) * i / 999;
        product *= 1 - root * root;
        double distance = fabs(log(sqrt((1 - product) / product)) - log(sigma));
        if (distance < best) {
            best = distance;
            index = i;
        }
    }
    return (float)index;
}

static void unet__denoises_at_a_sigma(void **state) {
    (void)state;
    fixture *f = exact();
    const char *sigmas[] = { "0.5", "3.3", "14.6" };
    golden_tensor text = golden_get(f->golden, "text/0");
    for (int i = 0; i < 3; i++) {
        float sigma = strtof(sigmas[i], NULL), t = timestep_of(sigma);
        golden_tensor x = golden_get(f->golden, "eps_scaled/%s/x", sigmas[i]);
        golden_tensor want = golden_get(f->golden, "eps_scaled/%s/denoised", sigmas[i]);
        float *scaled = floats(x.count);
        for (size_t k = 0; k < x.count; k++) scaled[k] = x.data[k] / sqrtf(sigma * sigma + 1);
        float *out = run_unet(f, scaled, 1, (int)x.shape[2], (int)x.shape[3], &t, text.data, 77);
        for (size_t k = 0; k < x.count; k++) out[k] = x.data[k] - sigma * out[k];
        compare(sigmas[i], out, want, EXACT);
        free(scaled);
        free(out);
    }
}

/* Odd sides have no numbers here: the golden workflows `upscaler_*` hold them to the reference. */
static void unet__takes_odd_sides_and_writes_every_value(void **state) {
    (void)state;
    fixture *f = exact();
    golden_tensor text = golden_get(f->golden, "text/0");
    tsr__unet_context *context = NULL;
    float x[4 * 13 * 18], out[4 * 13 * 18], t = 1;
    for (size_t i = 0; i < 4 * 13 * 18; i++) {
        x[i] = (float)(i % 17) / 17;
        out[i] = NAN;
    }
    OK(tsr__unet_context_new(&context, f->unet, text.data, 77, &err));
    OK(tsr__unet_run(f->unet, out, x, 1, 18, 13, &t, &context, NULL, &err));
    for (size_t i = 0; i < 4 * 13 * 18; i++) assert_true(isfinite(out[i]));
    tsr__unet_context_free(context);
}

/* --- VAE --- */
static void compare_decodes(fixture *f, double relative, double least) {
    for (int i = 0; i < 2; i++) {
        golden_tensor latent = golden_get(f->golden, "vae_decode/%d/latent", i);
        golden_tensor want = golden_get(f->golden, "vae_decode/%d/image", i);
        char key[32];
        snprintf(key, sizeof key, "vae_decode/%d", i);
        float *rgb = floats(want.count);
        OK(tsr__vae_decode(f->vae, rgb, latent.data, 1, (int)latent.shape[2], (int)latent.shape[3], 0, &err));
        compare(key, rgb, want, relative, least);
        free(rgb);
    }
}

static void compare_encodes(fixture *f, double relative, double least) {
    for (int i = 0; i < 3; i++) {
        golden_tensor image = golden_get(f->golden, "vae_encode/%d/image", i);
        golden_tensor want = golden_get(f->golden, "vae_encode/%d/latent", i);
        size_t h = image.shape[1] / 8 * 8, w = image.shape[2] / 8 * 8; /* the reference crops, centred */
        size_t top = image.shape[1] % 8 / 2, left = image.shape[2] % 8 / 2;
        float *rgb = floats(h * w * 3), *latent = floats(want.count);
        for (size_t y = 0; y < h; y++)
            memcpy(rgb + y * w * 3, image.data + ((y + top) * image.shape[2] + left) * 3, w * 3 * sizeof *rgb);
        char key[32];
        snprintf(key, sizeof key, "vae_encode/%d", i);
        OK(tsr__vae_encode(f->vae, latent, rgb, 1, (int)h, (int)w, 0, &err));
        compare(key, latent, want, relative, least);
        free(rgb);
        free(latent);
    }
}

static void vae__equals_the_reference(void **state) {
    (void)state;
    compare_decodes(exact(), EXACT);
    compare_encodes(exact(), EXACT);
}

static void vae_tiled__equals_the_reference(void **state) {
    (void)state;
    fixture *f = exact();
    golden_tensor latent = golden_get(f->golden, "vae_tiled/latent");
    golden_tensor image = golden_get(f->golden, "vae_tiled/decoded_320_64");
    golden_tensor encoded = golden_get(f->golden, "vae_tiled/encoded_320_64");
    float *rgb = floats(image.count), *again = floats(encoded.count);
    OK(tsr__vae_decode(f->vae, rgb, latent.data, 1, (int)latent.shape[2], (int)latent.shape[3], 320, &err));
    compare("vae_tiled decode", rgb, image, EXACT);
    OK(tsr__vae_encode(f->vae, again, image.data, 1, (int)image.shape[1], (int)image.shape[2], 320, &err));
    compare("vae_tiled encode", again, encoded, EXACT);
    free(rgb);
    free(again);
}

static void bf16__stays_near_the_reference(void **state) {
    (void)state;
    fixture *f = rough();
    compare_texts(f, ROUGH);
    compare_unets(f, ROUGH);
    compare_decodes(f, ROUGH);
    compare_encodes(f, ROUGH);
}

static int close_all(void **state) {
    (void)state;
    close_fixture(&f32);
    close_fixture(&bf16);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text__equals_the_reference),
        cmocka_unit_test(unet__equals_the_reference),
        cmocka_unit_test(unet__denoises_at_a_sigma),
        cmocka_unit_test(unet__takes_odd_sides_and_writes_every_value),
        cmocka_unit_test(vae__equals_the_reference),
        cmocka_unit_test(vae_tiled__equals_the_reference),
        cmocka_unit_test(bf16__stays_near_the_reference),
    };
    return cmocka_run_group_tests(tests, NULL, close_all);
}
