/* UNets of shapes no real checkpoint has: what the loader reads from names and sides, what it refuses and in which words,
 * and that samples of a batch do not touch each other. The numbers themselves are held by golden/model. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "golden_file.h"
#include "model/model.h"

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        tsr_error err = TSR_ERROR_INIT;                                                                                \
        if ((call) != TSR_OK) fail_msg("%s", err.message);                                                             \
    } while (0)

enum { MAX_TENSORS = 320, CHANNELS = 20, WIDTH = 12 /* of the text */, IN = 5, OUT = 3, EMBED = 36 };

/* A checkpoint in the making: two levels of 20 and 40 channels, one block each, transformers in the second. */
typedef struct checkpoint {
    tsr__tensor_out tensors[MAX_TENSORS];
    char names[MAX_TENSORS][96];
    size_t count;
    uint32_t state;
    int linear;          /* proj_in and proj_out are linears */
    const char *without; /* leaves this tensor out */
    const char *longer;  /* gives this tensor one row too many */
    char path[256];
} checkpoint;

static float noise(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return (float)(*state >> 8) / (float)(1 << 23) - 1.0f;
}

static void put(checkpoint *c, int rank, int64_t a, int64_t b, int64_t k, const char *name, const char *end) {
    assert_true(c->count < MAX_TENSORS);
    char *full = c->names[c->count];
    snprintf(full, sizeof c->names[0], "net.%s.%s", name, end);
    if (c->without && !strcmp(full, c->without)) return;
    if (c->longer && !strcmp(full, c->longer)) a++;
    tsr__tensor_out *t = &c->tensors[c->count++];
    *t = (tsr__tensor_out){ .name = full, .dtype = TSR_DTYPE_F32, .rank = rank, .shape = { a, b, k, k } };
    size_t count = (size_t)a * (size_t)(rank > 1 ? b : 1) * (size_t)(rank > 2 ? k * k : 1);
    float *data = calloc(count, sizeof *data), scale = rank > 1 ? 1.7f * (float)a / (float)count : 0.3f;
    assert_non_null(data);
    for (size_t i = 0; i < count; i++) data[i] = scale * noise(&c->state) * (rank > 1 ? 4.0f : 1.0f);
    t->data = data;
}

static void layer(checkpoint *c, int rank, int64_t out, int64_t in, int64_t k, int bias, const char *format, ...) {
    char name[64];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    put(c, rank, out, in, k, name, "weight");
    if (bias) put(c, 1, out, 1, 1, name, "bias");
}

static void res(checkpoint *c, int64_t in, int64_t out, const char *name) {
    layer(c, 1, in, 1, 1, 1, "%s.in_layers.0", name);
    layer(c, 4, out, in, 3, 1, "%s.in_layers.2", name);
    layer(c, 2, out, EMBED, 1, 1, "%s.emb_layers.1", name);
    layer(c, 1, out, 1, 1, 1, "%s.out_layers.0", name);
    layer(c, 4, out, out, 3, 1, "%s.out_layers.3", name);
    if (in != out) layer(c, 4, out, in, 1, 1, "%s.skip_connection", name);
}

static void transformer(checkpoint *c, int64_t n, const char *name) {
    int rank = c->linear ? 2 : 4;
    layer(c, 1, n, 1, 1, 1, "%s.norm", name);
    layer(c, rank, n, n, 1, 1, "%s.proj_in", name);
    layer(c, rank, n, n, 1, 1, "%s.proj_out", name);
    for (int d = 0; d < 2; d++) { /* depth 2: SD1 has 1, SDXL up to 10 */
        char inner[64];
        snprintf(inner, sizeof inner, "%s.transformer_blocks.%d", name, d);
        for (int i = 1; i <= 3; i++) layer(c, 1, n, 1, 1, 1, "%s.norm%d", inner, i);
        for (int a = 1; a <= 2; a++) {
            layer(c, 2, n, n, 1, 0, "%s.attn%d.to_q", inner, a);
            layer(c, 2, n, a == 1 ? n : WIDTH, 1, 0, "%s.attn%d.to_k", inner, a);
            layer(c, 2, n, a == 1 ? n : WIDTH, 1, 0, "%s.attn%d.to_v", inner, a);
            layer(c, 2, n, n, 1, 1, "%s.attn%d.to_out.0", inner, a);
        }
        layer(c, 2, 6 * n, n, 1, 1, "%s.ff.net.0.proj", inner);
        layer(c, 2, n, 3 * n, 1, 1, "%s.ff.net.2", inner);
    }
}

static void build(checkpoint *c) {
    c->state = 7;
    layer(c, 2, EMBED, CHANNELS, 1, 1, "time_embed.0");
    layer(c, 2, EMBED, EMBED, 1, 1, "time_embed.2");
    layer(c, 4, CHANNELS, IN, 3, 1, "input_blocks.0.0");
    res(c, 20, 20, "input_blocks.1.0");
    layer(c, 4, 20, 20, 3, 1, "input_blocks.2.0.op");
    res(c, 20, 40, "input_blocks.3.0");
    transformer(c, 40, "input_blocks.3.1");
    res(c, 40, 40, "middle_block.0");
    transformer(c, 40, "middle_block.1");
    res(c, 40, 40, "middle_block.2");
    res(c, 80, 40, "output_blocks.0.0");
    transformer(c, 40, "output_blocks.0.1");
    res(c, 60, 40, "output_blocks.1.0");
    transformer(c, 40, "output_blocks.1.1");
    layer(c, 4, 40, 40, 3, 1, "output_blocks.1.2.conv");
    res(c, 60, 20, "output_blocks.2.0");
    res(c, 40, 20, "output_blocks.3.0");
    layer(c, 1, CHANNELS, 1, 1, 1, "out.0");
    layer(c, 4, OUT, CHANNELS, 3, 1, "out.2");
    const char *folder = getenv("TMPDIR");
    snprintf(c->path, sizeof c->path, "%s/tessera-unet-shapes-%ld.safetensors", folder ? folder : "/tmp",
             (long)getpid());
    OK(tsr__safetensors_save(c->path, c->tensors, c->count, NULL, &err));
    for (size_t i = 0; i < c->count; i++) free((void *)c->tensors[i].data);
}

typedef struct network {
    tsr__nn *nn;
    tsr__weights *weights;
    tsr__unet *unet;
} network;

static tsr_status open_network(network *n, checkpoint *c, const char *prefix, const char *config, tsr_error *err) {
    tsr__nn_options options = { TSR__F32, 1 };
    memset(n, 0, sizeof *n);
    build(c);
    tsr_status status = tsr__nn_new(&n->nn, &options, err);
    if (status == TSR_OK) status = tsr__weights_open(&n->weights, c->path, err);
    if (status == TSR_OK) status = tsr__unet_new(&n->unet, n->nn, n->weights, prefix, config, err);
    unlink(c->path);
    return status;
}

static void close_network(network *n) {
    tsr__unet_free(n->unet);
    tsr__weights_close(n->weights);
    tsr__nn_free(n->nn);
}

/* A run of n samples, inputs from seed + sample, all of one size. */
static float *run(network *net, int n, int h, int w, uint32_t seed, int tokens) {
    size_t in = (size_t)(IN * h * w), out = (size_t)(OUT * h * w);
    float *x = calloc((size_t)n * in, sizeof *x), *y = calloc((size_t)n * out, sizeof *y), timesteps[4],
          text[8 * WIDTH];
    tsr__unet_context *contexts[4] = { 0 };
    assert_true(n <= 4 && tokens <= 8 && x && y);
    for (int i = 0; i < n; i++) {
        uint32_t state = seed + (uint32_t)i;
        for (size_t k = 0; k < in; k++) x[(size_t)i * in + k] = noise(&state);
        for (int k = 0; k < tokens * WIDTH; k++) text[k] = noise(&state);
        timesteps[i] = 500 + 400 * noise(&state);
        OK(tsr__unet_context_new(&contexts[i], net->unet, text, tokens, &err));
        assert_int_equal(tsr__unet_context_tokens(contexts[i]), tokens);
    }
    OK(tsr__unet_run(net->unet, y, x, n, h, w, timesteps, contexts, NULL, &err));
    for (int i = 0; i < n; i++) tsr__unet_context_free(contexts[i]);
    free(x);
    return y;
}

static void unet__reads_its_shapes_from_the_weights(void **state) {
    (void)state;
    checkpoint c = { 0 };
    network n;
    OK(open_network(&n, &c, "net.", NULL, &err));
    assert_int_equal(tsr__unet_in_channels(n.unet), IN);
    assert_int_equal(tsr__unet_out_channels(n.unet), OUT);
    assert_int_equal(tsr__unet_context_width(n.unet), WIDTH);
    assert_int_equal(tsr__unet_multiple(n.unet), 2);
    int64_t parameters = 0;
    for (size_t i = 0; i < c.count; i++) {
        int64_t count = 1;
        for (int d = 0; d < c.tensors[i].rank; d++) count *= c.tensors[i].shape[d];
        parameters += count;
    }
    assert_int_equal(tsr__unet_parameters(n.unet), parameters);
    close_network(&n);
}

static void unet__samples_of_a_batch_do_not_touch_each_other(void **state) {
    (void)state;
    checkpoint c = { 0 };
    network n;
    OK(open_network(&n, &c, "net", NULL, &err));
    size_t one = OUT * 6 * 10;
    float *batch = run(&n, 3, 6, 10, 40, 8);
    assert_true(max_abs(batch, one) > 1e-3);
    assert_true(max_abs_diff(batch, batch + one, one) > 1e-3);
    for (int i = 0; i < 3; i++) {
        float *alone = run(&n, 1, 6, 10, 40 + (uint32_t)i, 8);
        assert_true(max_abs_diff(alone, batch + (size_t)i * one, one) < 1e-4 * max_abs(alone, one));
        free(alone);
    }
    free(batch);
    close_network(&n);
}

static void unet__runs_from_the_smallest_latent_up(void **state) {
    (void)state;
    checkpoint c = { 0 };
    network n;
    OK(open_network(&n, &c, "net", NULL, &err));
    const int sizes[][2] = { { 1, 1 }, { 2, 2 }, { 2, 34 }, { 18, 2 }, { 22, 14 }, { 5, 8 }, { 6, 7 } };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) free(run(&n, 2, sizes[i][0], sizes[i][1], 3, 1));
    close_network(&n);
}

/* proj_in as a linear is the same product; the head rule differs, so the number is named. */
static void unet__takes_linear_projections(void **state) {
    (void)state;
    checkpoint convolution = { 0 }, linear = { .linear = 1 };
    network a, b;
    OK(open_network(&a, &convolution, "net", "{\"unet_heads\": 5}", &err));
    OK(open_network(&b, &linear, "net", "{\"unet_heads\": 5}", &err));
    float *x = run(&a, 1, 4, 4, 9, 4), *y = run(&b, 1, 4, 4, 9, 4);
    assert_true(max_abs_diff(x, y, OUT * 16) == 0);
    free(x);
    free(y);
    close_network(&a);
    close_network(&b);
}

static void refuses(checkpoint *c, const char *config, tsr_status expected, const char *words) {
    network n;
    tsr_error err = TSR_ERROR_INIT;
    assert_int_equal(open_network(&n, c, "net", config, &err), expected);
    if (!strstr(err.message, words)) fail_msg("\"%s\" lacks \"%s\"", err.message, words);
    assert_null(n.unet);
    close_network(&n);
}

static void unet__names_what_it_refuses(void **state) {
    (void)state;
    checkpoint missing = { .without = "net.input_blocks.0.0.weight" };
    refuses(&missing, NULL, TSR_UNSUPPORTED, "missing tensor net.input_blocks.0.0.weight: not an SD-layout");
    checkpoint deep = { .without = "net.output_blocks.1.1.transformer_blocks.1.attn2.to_v.weight" };
    refuses(&deep, NULL, TSR_UNSUPPORTED,
            "missing tensor net.output_blocks.1.1.transformer_blocks.1.attn2.to_v.weight");
    checkpoint bias = { .without = "net.out.2.bias" };
    refuses(&bias, NULL, TSR_UNSUPPORTED, "missing tensor net.out.2.bias");
    checkpoint shape = { .longer = "net.middle_block.1.transformer_blocks.0.attn1.to_k.weight" };
    refuses(&shape, NULL, TSR_UNSUPPORTED, "has shape [41, 40], expected [40, 40]");
    checkpoint norm = { .longer = "net.middle_block.0.in_layers.0.weight" };
    refuses(&norm, NULL, TSR_UNSUPPORTED, "middle_block.0.in_layers.0.weight has shape [41], expected [40]");
    checkpoint gate = { .longer = "net.middle_block.1.transformer_blocks.0.ff.net.0.proj.weight" };
    refuses(&gate, NULL, TSR_UNSUPPORTED, "ff.net.0.proj.weight has shape [241, 40], expected [242, 40]");
    checkpoint end = { .without = "net.output_blocks.3.0.in_layers.0.weight" };
    refuses(&end, NULL, TSR_UNSUPPORTED, "4 input and 3 output blocks");
    checkpoint up = { .without = "net.output_blocks.1.2.conv.weight" };
    refuses(&up, NULL, TSR_UNSUPPORTED, "1 downsamples, 0 upsamples");
    checkpoint heads = { .linear = 1 }; /* 64 channels a head do not fit 40 */
    refuses(&heads, NULL, TSR_UNSUPPORTED, "unet_heads");
}

static void unet__names_a_bad_config(void **state) {
    (void)state;
    checkpoint a = { 0 }, b = { 0 }, c = { 0 }, d = { 0 };
    refuses(&a, "{", TSR_BAD_FORMAT, "tessera.config is not a JSON object");
    refuses(&b, "[1]", TSR_BAD_FORMAT, "tessera.config is not a JSON object");
    refuses(&c, "{\"unet_heads\": 0}", TSR_BAD_FORMAT, "unet_heads must be a whole number");
    refuses(&d, "{\"unet_heads\": 7}", TSR_UNSUPPORTED, "40 channels cannot be shared by 7 heads");
}

static void unet__refuses_bad_calls(void **state) {
    (void)state;
    checkpoint c = { 0 };
    network n;
    OK(open_network(&n, &c, "net", NULL, &err));
    float text[2 * WIDTH] = { 0 }, x[IN * 4] = { 0 }, y[OUT * 4], t[2] = { 1, 1 };
    tsr__unet_context *contexts[2] = { 0 }, *none = NULL;
    tsr_error e1 = TSR_ERROR_INIT, e2 = TSR_ERROR_INIT, e3 = TSR_ERROR_INIT, e4 = TSR_ERROR_INIT;
    OK(tsr__unet_context_new(&contexts[0], n.unet, text, 1, &err));
    OK(tsr__unet_context_new(&contexts[1], n.unet, text, 2, &err));
    assert_int_equal(tsr__unet_context_new(&none, n.unet, text, 0, &e1), TSR_BAD_ARGUMENT);
    assert_null(none);
    assert_int_equal(tsr__unet_run(n.unet, y, x, 0, 2, 2, t, contexts, NULL, &e2), TSR_BAD_ARGUMENT);
    assert_int_equal(tsr__unet_run(n.unet, y, x, 2, 2, 2, t, contexts, NULL, &e3), TSR_BAD_ARGUMENT);
    assert_non_null(strstr(e3.message, "texts of 1 and 2 tokens"));
    assert_int_equal(tsr__unet_run(n.unet, y, x, 1, 0, 2, t, contexts, NULL, &e4), TSR_BAD_ARGUMENT);
    tsr__unet_context_free(contexts[0]);
    tsr__unet_context_free(contexts[1]);
    close_network(&n);
}

static void unet__says_when_values_are_not_finite(void **state) {
    (void)state;
    checkpoint c = { 0 };
    network n;
    OK(open_network(&n, &c, "net", NULL, &err));
    float text[WIDTH] = { 0 }, x[IN * 4] = { 0 }, y[OUT * 4], t = 1;
    tsr__unet_context *context = NULL;
    tsr_error err = TSR_ERROR_INIT;
    volatile float zero = 0;
    x[3] = zero / zero;
    assert_int_equal(tsr__unet_context_new(&context, n.unet, text, 1, &err), TSR_OK);
    assert_int_equal(tsr__unet_run(n.unet, y, x, 1, 2, 2, &t, &context, NULL, &err), TSR_NOT_FINITE);
    tsr__unet_context_free(context);
    close_network(&n);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unet__reads_its_shapes_from_the_weights),
        cmocka_unit_test(unet__samples_of_a_batch_do_not_touch_each_other),
        cmocka_unit_test(unet__runs_from_the_smallest_latent_up),
        cmocka_unit_test(unet__takes_linear_projections),
        cmocka_unit_test(unet__names_what_it_refuses),
        cmocka_unit_test(unet__names_a_bad_config),
        cmocka_unit_test(unet__refuses_bad_calls),
        cmocka_unit_test(unet__says_when_values_are_not_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
