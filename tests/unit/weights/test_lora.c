/* Adapters: what is added against the definitions in double precision, names of both layouts, and faults. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "golden_file.h"
#include "weights/lora.h"

enum { FILE_FLOATS = 1 << 16 };

/* A safetensors file in memory, made tensor by tensor. */
typedef struct file_maker {
    char header[8192];
    float data[FILE_FLOATS];
    size_t header_used, count; /* floats */
    int tensors;
    unsigned char *bytes;
    uint32_t random;
} file_maker;

static file_maker maker;

static void begin(void) {
    memset(&maker, 0, sizeof maker);
    maker.random = 7;
    maker.header[0] = '{';
    maker.header_used = 1;
}

static float next_value(void) {
    maker.random = maker.random * 1664525u + 1013904223u;
    return (float)(maker.random >> 8) / (float)(1 << 23) - 1.0f;
}

/* Random values; shape is a list ended by 0. Returns them. */
static const float *add(const char *name, const int *shape) {
    char text[64] = "";
    size_t count = 1, begin_at = maker.count * sizeof(float);
    for (int i = 0; shape[i]; i++) {
        count *= (size_t)shape[i];
        (void)snprintf(text + strlen(text), sizeof text - strlen(text), "%s%d", i ? "," : "", shape[i]);
    }
    float *values = maker.data + maker.count;
    assert_true((maker.count += count) <= sizeof maker.data / sizeof(float));
    for (size_t i = 0; i < count; i++) values[i] = next_value();
    maker.header_used +=
        (size_t)snprintf(maker.header + maker.header_used, sizeof maker.header - maker.header_used,
                         "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
                         maker.tensors++ ? "," : "", name, text, begin_at, maker.count * sizeof(float));
    return values;
}

#define ADD(name, ...) add(name, (const int[]){ __VA_ARGS__, 0 })

static tsr__weights *finish(void) {
    tsr__weights *weights = NULL;
    tsr_error err = TSR_ERROR_INIT;
    maker.header[maker.header_used++] = '}';
    const size_t size = 8 + maker.header_used + maker.count * sizeof(float);
    maker.bytes = calloc(1, size);
    assert_non_null(maker.bytes);
    for (int i = 0; i < 8; i++) maker.bytes[i] = (unsigned char)((uint64_t)maker.header_used >> 8 * i & 0xff);
    memcpy(maker.bytes + 8, maker.header, maker.header_used);
    memcpy(maker.bytes + 8 + maker.header_used, maker.data, maker.count * sizeof(float));
    if (tsr__weights_open_memory(&weights, maker.bytes, size, &err) != TSR_OK) fail_msg("%s", err.message);
    return weights;
}

/* Applies the made file to a tensor of ones and compares with 1 + strength * delta. */
static void expect_delta(const char *key, const int *shape_list, float strength, const double *delta) {
    int64_t shape[8];
    int rank = 0, changed = 0;
    size_t count = 1;
    for (; shape_list[rank]; rank++) count *= (size_t)(shape[rank] = shape_list[rank]);
    tsr__weights *weights = finish();
    tsr__lora *lora = NULL;
    tsr_error err = TSR_ERROR_INIT;
    if (tsr__lora_open(&lora, weights, &err) != TSR_OK) fail_msg("%s", err.message);
    float *values = malloc(count * sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < count; i++) values[i] = 1.0f;
    assert_true(tsr__lora_changes(lora, key));
    assert_int_equal(tsr__lora_used(lora), 0);
    if (tsr__lora_add(lora, key, shape, rank, strength, values, &changed, &err) != TSR_OK) fail_msg("%s", err.message);
    assert_int_equal(changed, 1);
    assert_int_equal(tsr__lora_used(lora), 1);
    for (size_t i = 0; i < count; i++) {
        const double want = 1 + (double)strength * delta[i];
        if (!(fabs(values[i] - want) <= 2e-6 * (1 + fabs(want))))
            fail_msg("[%zu] %.9g, not %.9g", i, (double)values[i], want);
    }
    free(values);
    tsr__lora_free(lora);
    tsr__weights_close(weights);
    free(maker.bytes);
}

#define EXPECT_DELTA(key, strength, delta, ...) expect_delta(key, (const int[]){ __VA_ARGS__, 0 }, strength, delta)
#define UNET_KEY                                "model.diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight"
#define UNET_NAME                               "lora_unet_middle_block_1_transformer_blocks_0_attn2_to_k"
#define CONV_KEY                                "model.diffusion_model.input_blocks.4.0.in_layers.2.weight"
#define CONV_NAME                               "lora_unet_input_blocks_4_0_in_layers_2"

enum { OUT = 6, IN = 4, R = 3, K = 9 };

static void add__lora_is_up_times_down(void **state) {
    (void)state;
    double delta[OUT * IN];
    begin();
    const float *alpha = ADD(UNET_NAME ".alpha", 1), *up = ADD(UNET_NAME ".lora_up.weight", OUT, R),
                *down = ADD(UNET_NAME ".lora_down.weight", R, IN);
    for (int o = 0; o < OUT; o++)
        for (int i = 0; i < IN; i++) {
            delta[o * IN + i] = 0;
            for (int r = 0; r < R; r++) delta[o * IN + i] += (double)up[o * R + r] * down[r * IN + i] * alpha[0] / R;
        }
    EXPECT_DELTA(UNET_KEY, 0.7f, delta, OUT, IN);
}

static void add__without_alpha_the_scale_is_one(void **state) {
    (void)state;
    double delta[OUT * IN];
    begin();
    const float *up = ADD(UNET_NAME ".lora_up.weight", OUT, 1, 1, 1),
                *down = ADD(UNET_NAME ".lora_down.weight", 1, IN, 1, 1);
    for (int o = 0; o < OUT; o++)
        for (int i = 0; i < IN; i++) delta[o * IN + i] = (double)up[o] * down[i];
    EXPECT_DELTA(UNET_KEY, -1.5f, delta, OUT, IN, 1, 1); /* a 1x1 convolution and its linear are the same */
}

static void add__lora_convolution_and_core(void **state) {
    (void)state;
    double delta[OUT * IN * K], folded[R * IN * K];
    begin();
    const float *up = ADD(CONV_NAME ".lora_up.weight", OUT, R, 1, 1),
                *down = ADD(CONV_NAME ".lora_down.weight", R, IN, 3, 3);
    for (int o = 0; o < OUT; o++)
        for (int i = 0; i < IN * K; i++) {
            delta[o * IN * K + i] = 0;
            for (int r = 0; r < R; r++) delta[o * IN * K + i] += (double)up[o * R + r] * down[r * IN * K + i];
        }
    EXPECT_DELTA(CONV_KEY, 1.0f, delta, OUT, IN, 3, 3);

    begin();
    up = ADD(CONV_NAME ".lora_up.weight", OUT, R, 1, 1);
    down = ADD(CONV_NAME ".lora_down.weight", R, IN, 1, 1);
    const float *mid = ADD(CONV_NAME ".lora_mid.weight", R, R, 3, 3), *alpha = ADD(CONV_NAME ".alpha", 1);
    for (int r = 0; r < R; r++)
        for (int i = 0; i < IN; i++)
            for (int k = 0; k < K; k++) {
                folded[(r * IN + i) * K + k] = 0;
                for (int j = 0; j < R; j++)
                    folded[(r * IN + i) * K + k] += (double)mid[(r * R + j) * K + k] * down[j * IN + i];
            }
    for (int o = 0; o < OUT; o++)
        for (int i = 0; i < IN * K; i++) {
            delta[o * IN * K + i] = 0;
            for (int r = 0; r < R; r++) delta[o * IN * K + i] += (double)up[o * R + r] * folded[r * IN * K + i];
            delta[o * IN * K + i] *= (double)alpha[0] / R;
        }
    EXPECT_DELTA(CONV_KEY, 0.5f, delta, OUT, IN, 3, 3);
}

static double matrix(const float *a, const float *b, int row, int column, int rank, int columns) {
    double sum = 0;
    for (int r = 0; r < rank; r++) sum += (double)a[row * rank + r] * b[r * columns + column];
    return sum;
}

/* sum_ij a[i, o] t[i, j, k] b[j, in] */
static double cored(const float *a, const float *t, const float *b, int o, int in, int k, int rank, int rows, int ins) {
    double sum = 0;
    for (int i = 0; i < rank; i++)
        for (int j = 0; j < rank; j++) sum += (double)a[i * rows + o] * t[(i * rank + j) * K + k] * b[j * ins + in];
    return sum;
}

static void add__loha_is_a_product_of_products(void **state) {
    (void)state;
    double delta[OUT * IN * K];
    begin();
    const float *a1 = ADD(UNET_NAME ".hada_w1_a", OUT, R), *b1 = ADD(UNET_NAME ".hada_w1_b", R, IN),
                *a2 = ADD(UNET_NAME ".hada_w2_a", OUT, R), *b2 = ADD(UNET_NAME ".hada_w2_b", R, IN),
                *alpha = ADD(UNET_NAME ".alpha", 1);
    for (int o = 0; o < OUT; o++)
        for (int i = 0; i < IN; i++)
            delta[o * IN + i] = matrix(a1, b1, o, i, R, IN) * matrix(a2, b2, o, i, R, IN) * alpha[0] / R;
    EXPECT_DELTA(UNET_KEY, 0.9f, delta, OUT, IN);

    begin();
    a1 = ADD(CONV_NAME ".hada_w1_a", R, OUT), b1 = ADD(CONV_NAME ".hada_w1_b", R, IN);
    a2 = ADD(CONV_NAME ".hada_w2_a", R, OUT), b2 = ADD(CONV_NAME ".hada_w2_b", R, IN);
    const float *t1 = ADD(CONV_NAME ".hada_t1", R, R, 3, 3), *t2 = ADD(CONV_NAME ".hada_t2", R, R, 3, 3);
    for (int o = 0; o < OUT; o++)
        for (int i = 0; i < IN; i++)
            for (int k = 0; k < K; k++)
                delta[(o * IN + i) * K + k] =
                    cored(a1, t1, b1, o, i, k, R, OUT, IN) * cored(a2, t2, b2, o, i, k, R, OUT, IN);
    EXPECT_DELTA(CONV_KEY, 1.0f, delta, OUT, IN, 3, 3);
}

static void add__lokr_is_a_kronecker_product(void **state) {
    (void)state;
    double delta[OUT * IN * K];
    begin();
    const float *w1 = ADD(UNET_NAME ".lokr_w1", 2, 2), *w2 = ADD(UNET_NAME ".lokr_w2", 3, 2);
    (void)ADD(UNET_NAME ".alpha", 1); /* says nothing where no factor is a product */
    for (int o = 0; o < OUT; o++)
        for (int i = 0; i < IN; i++) delta[o * IN + i] = (double)w1[o / 3 * 2 + i / 2] * w2[o % 3 * 2 + i % 2];
    EXPECT_DELTA(UNET_KEY, 0.8f, delta, OUT, IN);

    begin(); /* both factors products, and a convolution */
    const float *a1 = ADD(CONV_NAME ".lokr_w1_a", 2, R), *b1 = ADD(CONV_NAME ".lokr_w1_b", R, 2),
                *a2 = ADD(CONV_NAME ".lokr_w2_a", 3, 2), *b2 = ADD(CONV_NAME ".lokr_w2_b", 2, 2 * K),
                *alpha = ADD(CONV_NAME ".alpha", 1);
    for (int o = 0; o < OUT; o++)
        for (int i = 0; i < IN * K; i++)
            delta[o * IN * K + i] =
                matrix(a1, b1, o / 3, i / (2 * K), R, 2) * matrix(a2, b2, o % 3, i % (2 * K), 2, 2 * K) * alpha[0] / 2;
    EXPECT_DELTA(CONV_KEY, 1.0f, delta, OUT, IN, 3, 3);

    begin();
    w1 = ADD(CONV_NAME ".lokr_w1", 2, 2);
    a2 = ADD(CONV_NAME ".lokr_w2_a", R, 3), b2 = ADD(CONV_NAME ".lokr_w2_b", R, 2);
    const float *t2 = ADD(CONV_NAME ".lokr_t2", R, R, 3, 3);
    for (int o = 0; o < OUT; o++)
        for (int i = 0; i < IN; i++)
            for (int k = 0; k < K; k++)
                delta[(o * IN + i) * K + k] = w1[o / 3 * 2 + i / 2] * cored(a2, t2, b2, o % 3, i % 2, k, R, 3, 2);
    EXPECT_DELTA(CONV_KEY, 1.0f, delta, OUT, IN, 3, 3);
}

static void add__full_differences_of_weight_and_bias(void **state) {
    (void)state;
    double delta[OUT * IN];
    begin();
    const float *diff = ADD(UNET_NAME ".diff", OUT, IN);
    for (int i = 0; i < OUT * IN; i++) delta[i] = diff[i];
    EXPECT_DELTA(UNET_KEY, 0.25f, delta, OUT, IN);

    begin();
    diff = ADD(CONV_NAME ".diff_b", OUT);
    for (int i = 0; i < OUT; i++) delta[i] = diff[i];
    EXPECT_DELTA("model.diffusion_model.input_blocks.4.0.in_layers.2.bias", 2.0f, delta, OUT);
}

#define U "model.diffusion_model."
static const struct {
    const char *key, *name;
} NAMES[] = {
    { U "input_blocks.0.0.weight", "lora_unet_conv_in" },
    { U "time_embed.2.weight", "lora_unet_time_embedding_linear_2" },
    { U "out.2.weight", "lora_unet_conv_out" },
    { U "input_blocks.1.0.in_layers.2.weight", "lora_unet_down_blocks_0_resnets_0_conv1" },
    { U "input_blocks.2.1.proj_in.weight", "lora_unet_down_blocks_0_attentions_1_proj_in" },
    { U "input_blocks.3.0.op.weight", "lora_unet_down_blocks_0_downsamplers_0_conv" },
    { U "input_blocks.4.0.skip_connection.weight", "lora_unet_down_blocks_1_resnets_0_conv_shortcut" },
    { U "input_blocks.8.1.transformer_blocks.0.ff.net.0.proj.weight",
      "lora_unet_down_blocks_2_attentions_1_transformer_blocks_0_ff_net_0_proj" },
    { U "input_blocks.11.0.emb_layers.1.weight", "lora_unet_down_blocks_3_resnets_1_time_emb_proj" },
    { U "middle_block.0.out_layers.3.weight", "lora_unet_mid_block_resnets_0_conv2" },
    { U "middle_block.1.transformer_blocks.0.attn1.to_out.0.weight",
      "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_out_0" },
    { U "middle_block.2.in_layers.2.weight", "lora_unet_mid_block_resnets_1_conv1" },
    { U "output_blocks.2.1.conv.weight", "lora_unet_up_blocks_0_upsamplers_0_conv" },
    { U "output_blocks.5.2.conv.weight", "lora_unet_up_blocks_1_upsamplers_0_conv" },
    { U "output_blocks.11.1.transformer_blocks.0.attn2.to_v.weight",
      "lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_attn2_to_v" },
    { U "output_blocks.11.1.transformer_blocks.0.attn2.to_v.weight",
      "lora_unet_output_blocks_11_1_transformer_blocks_0_attn2_to_v" },
    { U "output_blocks.9.0.in_layers.2.weight", "unet.up_blocks.3.resnets.0.conv1" },
    { U "output_blocks.9.0.in_layers.2.weight", "diffusion_model.output_blocks.9.0.in_layers.2" },
    { "cond_stage_model.transformer.text_model.encoder.layers.3.self_attn.q_proj.weight",
      "lora_te_text_model_encoder_layers_3_self_attn_q_proj" },
    { "cond_stage_model.transformer.text_model.encoder.layers.3.mlp.fc1.weight",
      "lora_te1_text_model_encoder_layers_3_mlp_fc1" },
    { "cond_stage_model.transformer.text_model.encoder.layers.3.mlp.fc1.weight",
      "text_encoder.text_model.encoder.layers.3.mlp.fc1" },
};

static void changes__knows_the_names_of_both_layouts(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        char up[160], down[160];
        (void)snprintf(up, sizeof up, "%s.lora_up.weight", NAMES[i].name);
        (void)snprintf(down, sizeof down, "%s.lora_down.weight", NAMES[i].name);
        begin();
        (void)ADD(up, 2, 1);
        (void)ADD(down, 1, 2);
        tsr__weights *weights = finish();
        tsr__lora *lora = NULL;
        assert_int_equal(tsr__lora_open(&lora, weights, NULL), TSR_OK);
        for (size_t k = 0; k < sizeof NAMES / sizeof *NAMES; k++) {
            const int same = strcmp(NAMES[i].key, NAMES[k].key) == 0;
            if (tsr__lora_changes(lora, NAMES[k].key) != same) fail_msg("%s and %s", NAMES[i].name, NAMES[k].key);
        }
        tsr__lora_free(lora);
        tsr__weights_close(weights);
        free(maker.bytes);
    }
}

/* SDXL's two text encoders and SD2's: OpenCLIP's layers go by Hugging Face's names in adapters. */
static void changes__knows_the_text_encoders_of_other_families(void **state) {
    static const struct {
        const char *key, *name;
    } families[] = {
        { "conditioner.embedders.0.transformer.text_model.encoder.layers.3.mlp.fc1.weight",
          "lora_te1_text_model_encoder_layers_3_mlp_fc1" },
        { "conditioner.embedders.1.model.transformer.resblocks.30.mlp.c_proj.weight",
          "lora_te2_text_model_encoder_layers_30_mlp_fc2" },
        { "conditioner.embedders.1.model.transformer.resblocks.3.attn.out_proj.weight",
          "text_encoder_2.text_model.encoder.layers.3.self_attn.out_proj" },
        { "conditioner.embedders.1.model.transformer.resblocks.3.attn.in_proj_weight",
          "lora_te2_text_model_encoder_layers_3_self_attn_k_proj" },
        { "cond_stage_model.model.transformer.resblocks.9.mlp.c_fc.weight",
          "lora_te_text_model_encoder_layers_9_mlp_fc1" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        char up[160], down[160];
        (void)snprintf(up, sizeof up, "%s.lora_up.weight", families[i].name);
        (void)snprintf(down, sizeof down, "%s.lora_down.weight", families[i].name);
        begin();
        (void)ADD(up, 2, 1);
        (void)ADD(down, 1, 2);
        tsr__weights *weights = finish();
        tsr__lora *lora = NULL;
        assert_int_equal(tsr__lora_open(&lora, weights, NULL), TSR_OK);
        for (size_t k = 0; k < sizeof families / sizeof *families; k++)
            if (tsr__lora_changes(lora, families[k].key) != (i == k))
                fail_msg("%s and %s", families[i].name, families[k].key);
        tsr__lora_free(lora);
        tsr__weights_close(weights);
        free(maker.bytes);
    }
}

/* q, k and v stand in one tensor: the adapter of k changes the middle third of its rows. */
static void add__reaches_the_parts_of_in_proj(void **state) {
    double delta[3 * OUT * IN] = { 0 };
    (void)state;
    begin();
    const float *up = ADD("lora_te2_text_model_encoder_layers_3_self_attn_k_proj.lora_up.weight", OUT, 1);
    const float *down = ADD("lora_te2_text_model_encoder_layers_3_self_attn_k_proj.lora_down.weight", 1, IN);
    for (int i = 0; i < OUT * IN; i++) delta[OUT * IN + i] = (double)up[i / IN] * down[i % IN];
    EXPECT_DELTA("conditioner.embedders.1.model.transformer.resblocks.3.attn.in_proj_weight", 0.5f, delta, 3 * OUT, IN);
}

static void changes__knows_other_trainers_endings(void **state) {
    (void)state;
    static const char *const endings[][2] = {
        { "unet.mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_k_lora.up.weight",
          "unet.mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_k_lora.down.weight" },
        { "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.lora_B.weight",
          "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight" },
        { "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.lora.up.weight",
          "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.lora.down.weight" },
    };
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        begin();
        const float *up = ADD(endings[i][0], OUT, 1), *down = ADD(endings[i][1], 1, IN);
        double delta[OUT * IN];
        for (int k = 0; k < OUT * IN; k++) delta[k] = (double)up[k / IN] * down[k % IN];
        EXPECT_DELTA(UNET_KEY, 1.0f, delta, OUT, IN);
    }
}

static void strength__is_the_text_encoders_or_the_models(void **state) {
    (void)state;
    assert_true(tsr__lora_strength(NAMES[18].key, 0.25f, 0.75f) == 0.75f);
    assert_true(tsr__lora_strength(NAMES[0].key, 0.25f, 0.75f) == 0.25f);
}

/* Opens the made file, which must fail with that text. */
static void expect_refusal(const char *says) {
    tsr__weights *weights = finish();
    tsr__lora *lora = NULL;
    tsr_error err = TSR_ERROR_INIT;
    tsr_status status = tsr__lora_open(&lora, weights, &err);
    if (status == TSR_OK || lora || !strstr(err.message, says)) fail_msg("\"%s\", not \"%s\"", err.message, says);
    tsr__weights_close(weights);
    free(maker.bytes);
}

/* --- DoRA: the definition in double precision ------------------------------------------------------------------------- */

/* w [rows, inputs, taps]; as the reference's weight_decompose: rows are measured before the change, inputs after it. */
static void decompose(double *w, const double *delta, const float *scale, int by_row, int rows, int inputs, int taps,
                      double strength) {
    const int columns = inputs * taps;
    for (int line = 0; line < (by_row ? rows : inputs); line++) {
        double length = 0;
        for (int i = 0; i < rows * columns; i++) {
            const double value = by_row ? w[i] : w[i] + delta[i];
            if ((by_row ? i / columns : i / taps % inputs) == line) length += value * value;
        }
        for (int i = 0; i < rows * columns; i++)
            if ((by_row ? i / columns : i / taps % inputs) == line) {
                const double turned = (w[i] + delta[i]) * scale[line] / (sqrt(length) + 1.1920929e-7);
                w[i] = w[i] + strength * (turned - w[i]);
            }
    }
}

/* The same as factors: row_gain .* W .* input_gain + up down. */
static void expect_factors(tsr__lora *lora, const char *key, int columns, int taps, float strength, const float *weight,
                           const double *want) {
    tsr__lora_factors f;
    int found = 0;
    assert_int_equal(tsr__lora_find_factors(&f, lora, key, OUT, (size_t)columns, strength, weight, &found, NULL),
                     TSR_OK);
    assert_int_equal(found, 1);
    assert_true(!f.row_gain != !f.input_gain);
    for (int i = 0; i < OUT * columns; i++) {
        const int row = i / columns, column = i % columns;
        double value = (double)weight[i] * (double)(f.row_gain ? f.row_gain[row] : f.input_gain[column / taps]);
        if (!f.up) value += (double)f.down[i];
        for (size_t r = 0; f.up && r < f.rank; r++)
            value += (double)f.up[(size_t)row * f.rank + r] * (double)f.down[r * (size_t)columns + (size_t)column];
        if (!(fabs(value - want[i]) <= 4e-6 * (1 + fabs(want[i])))) fail_msg("[%d] %.9g, not %.9g", i, value, want[i]);
    }
    tsr__lora_factors_clear(&f);
}

static void expect_dora(const char *key, int by_row, int inputs, int taps, float strength, const double *delta,
                        const float *scale) {
    float values[OUT * IN * K];
    double want[OUT * IN * K];
    const int64_t shape[4] = { OUT, inputs, taps == 1 ? 1 : 3, taps == 1 ? 1 : 3 };
    tsr__weights *weights = finish();
    tsr__lora *lora = NULL;
    tsr_error err = TSR_ERROR_INIT;
    for (int i = 0; i < OUT * inputs * taps; i++) want[i] = values[i] = next_value();
    decompose(want, delta, scale, by_row, OUT, inputs, taps, strength);
    if (tsr__lora_open(&lora, weights, &err) != TSR_OK) fail_msg("%s", err.message);
    assert_true(tsr__lora_is_bound(lora, key));
    expect_factors(lora, key, inputs * taps, taps, strength, values, want);
    if (tsr__lora_add(lora, key, shape, taps == 1 ? 2 : 4, strength, values, NULL, &err) != TSR_OK)
        fail_msg("%s", err.message);
    for (int i = 0; i < OUT * inputs * taps; i++)
        if (!(fabs(values[i] - want[i]) <= 4e-6 * (1 + fabs(want[i]))))
            fail_msg("[%d] %.9g, not %.9g", i, (double)values[i], want[i]);
    tsr__lora_free(lora);
    tsr__weights_close(weights);
    free(maker.bytes);
}

/* alpha / R up down of R x columns factors */
static void low_rank(double *delta, const float *alpha, const float *up, const float *down, int columns) {
    for (int o = 0; o < OUT; o++)
        for (int c = 0; c < columns; c++) {
            delta[o * columns + c] = 0;
            for (int r = 0; r < R; r++)
                delta[o * columns + c] += (double)up[o * R + r] * down[r * columns + c] * alpha[0] / R;
        }
}

static void dora__gives_rows_their_lengths(void **state) {
    (void)state;
    double delta[OUT * IN];
    for (int half = 0; half < 2; half++) {
        begin();
        const float *alpha = ADD(UNET_NAME ".alpha", 1), *up = ADD(UNET_NAME ".lora_up.weight", OUT, R),
                    *down = ADD(UNET_NAME ".lora_down.weight", R, IN), *scale = ADD(UNET_NAME ".dora_scale", OUT, 1);
        low_rank(delta, alpha, up, down, IN);
        expect_dora(UNET_KEY, 1, IN, 1, half ? 0.5f : 1.0f, delta, scale);
    }
}

static void dora__gives_inputs_their_lengths(void **state) {
    (void)state;
    double delta[OUT * IN * K];
    begin();
    const float *alpha = ADD(CONV_NAME ".alpha", 1), *up = ADD(CONV_NAME ".lora_up.weight", OUT, R, 1, 1),
                *down = ADD(CONV_NAME ".lora_down.weight", R, IN, 3, 3),
                *scale = ADD(CONV_NAME ".dora_scale", 1, IN, 1, 1);
    low_rank(delta, alpha, up, down, IN * K);
    expect_dora(CONV_KEY, 0, IN, K, 0.7f, delta, scale);
}

static void dora__scales_loha_too(void **state) {
    (void)state;
    double delta[OUT * IN];
    begin();
    const float *a1 = ADD(UNET_NAME ".hada_w1_a", OUT, 1), *b1 = ADD(UNET_NAME ".hada_w1_b", 1, IN),
                *a2 = ADD(UNET_NAME ".hada_w2_a", OUT, 1), *b2 = ADD(UNET_NAME ".hada_w2_b", 1, IN),
                *scale = ADD(UNET_NAME ".dora_scale", 1, IN);
    for (int i = 0; i < OUT * IN; i++) delta[i] = (double)a1[i / IN] * b1[i % IN] * a2[i / IN] * b2[i % IN];
    expect_dora(UNET_KEY, 0, IN, 1, 1.0f, delta, scale);
}

static void open__refuses_what_it_cannot_merge(void **state) {
    (void)state;
    begin();
    (void)ADD("conv_in.weight", 2, 2);
    expect_refusal("holds no LoRA");
    begin();
    (void)ADD(UNET_NAME ".lora_up.weight", OUT, R);
    expect_refusal("has not both lora_up and lora_down");
    begin();
    (void)ADD(UNET_NAME ".lora_up.weight", OUT, R);
    (void)ADD(UNET_NAME ".lora_down.weight", R, IN);
    (void)ADD(UNET_NAME ".lora_magnitude_vector", OUT);
    expect_refusal("PEFT");
    begin();
    (void)ADD(UNET_NAME ".dora_scale", OUT, 1);
    expect_refusal("dora_scale and no low rank");
    begin();
    (void)ADD(UNET_NAME ".oft_blocks", 2, 3, 3);
    (void)ADD(UNET_NAME ".dora_scale", OUT, 1);
    expect_refusal("dora_scale and no low rank");
    begin();
    (void)ADD(UNET_NAME ".rescale", OUT, 1);
    expect_refusal("a rescale without oft_blocks");
    begin();
    (void)ADD(UNET_NAME ".a1.weight", IN, R);
    (void)ADD(UNET_NAME ".a2.weight", R, IN);
    (void)ADD(UNET_NAME ".b1.weight", OUT, R);
    expect_refusal("has not all of GLoRA's a1, a2, b1 and b2");
    begin();
    (void)ADD(UNET_NAME ".set_weight", OUT, IN);
    expect_refusal("replaced weights");
    begin();
    (void)ADD(UNET_NAME ".oft_diag", OUT, IN);
    expect_refusal("OFT of an early LyCORIS");
    begin();
    (void)ADD(UNET_NAME ".lora_up.weight", OUT, R);
    (void)ADD(UNET_NAME ".lora_down.weight", R, IN);
    (void)ADD(UNET_NAME ".diff", OUT, IN);
    expect_refusal("mixes several kinds");
    begin();
    (void)ADD(UNET_NAME ".alpha", 1);
    expect_refusal("alpha and nothing else");
    begin();
    (void)ADD(UNET_NAME ".lokr_w1", 2, 2);
    expect_refusal("lokr_w2");
    begin();
    (void)ADD(UNET_NAME ".lora_up.weight", OUT, R);
    (void)ADD(UNET_NAME ".lora_down.weight", R, IN);
    (void)ADD(UNET_NAME ".lora_B.weight", OUT, R);
    expect_refusal("the same part of one layer");
}

/* Adds the made file to OUT x IN, which must fail and leave the values alone. */
static void expect_misfit(const char *says) {
    tsr__weights *weights = finish();
    tsr__lora *lora = NULL;
    tsr_error err = TSR_ERROR_INIT;
    float values[OUT * IN] = { 0 };
    int changed = 1;
    assert_int_equal(tsr__lora_open(&lora, weights, NULL), TSR_OK);
    tsr_status status = tsr__lora_add(lora, UNET_KEY, (const int64_t[]){ OUT, IN }, 2, 1.0f, values, &changed, &err);
    if (status != TSR_BAD_FORMAT || changed || !strstr(err.message, says))
        fail_msg("\"%s\", not \"%s\"", err.message, says);
    for (int i = 0; i < OUT * IN; i++) assert_true(values[i] == 0);
    assert_int_equal(tsr__lora_used(lora), 0);
    tsr__lora_free(lora);
    tsr__weights_close(weights);
    free(maker.bytes);
}

static void add__misfits_end_in_one_line(void **state) {
    (void)state;
    begin();
    (void)ADD(UNET_NAME ".lora_up.weight", OUT, R);
    (void)ADD(UNET_NAME ".lora_down.weight", R, 2048);
    expect_misfit("does not fit \"" UNET_KEY "\" [6, 4]: it is made for SDXL");
    begin();
    (void)ADD(UNET_NAME ".lora_up.weight", OUT, R);
    (void)ADD(UNET_NAME ".lora_down.weight", R + 1, IN);
    expect_misfit("does not fit");
    begin();
    (void)ADD(UNET_NAME ".hada_w1_a", OUT, R);
    (void)ADD(UNET_NAME ".hada_w1_b", R, IN);
    (void)ADD(UNET_NAME ".hada_w2_a", OUT, R);
    (void)ADD(UNET_NAME ".hada_w2_b", R, IN - 1);
    expect_misfit("does not fit");
    begin();
    (void)ADD(UNET_NAME ".lokr_w1", 4, 2);
    (void)ADD(UNET_NAME ".lokr_w2", 2, 2);
    expect_misfit("does not fit");
    begin();
    (void)ADD(UNET_NAME ".lokr_w1", 2, 2);
    (void)ADD(UNET_NAME ".lokr_w2_a", 5000, 1); /* 5000 x 5000 is never made */
    (void)ADD(UNET_NAME ".lokr_w2_b", 1, 5000);
    expect_misfit("does not fit");
    begin();
    (void)ADD(UNET_NAME ".diff", IN, OUT);
    expect_misfit("does not fit");
    begin();
    (void)ADD(UNET_NAME ".a1.weight", IN + 1, R);
    (void)ADD(UNET_NAME ".a2.weight", R, IN + 1);
    (void)ADD(UNET_NAME ".b1.weight", OUT, R);
    (void)ADD(UNET_NAME ".b2.weight", R, IN);
    expect_misfit("does not fit");
    begin();
    (void)ADD(UNET_NAME ".oft_blocks", 2, 2, 2); /* four rows, not six */
    expect_misfit("does not fit");
    begin();
    (void)ADD(UNET_NAME ".oft_blocks", 2, 3, 2);
    expect_misfit("does not fit");
    begin();
    (void)ADD(UNET_NAME ".oft_blocks", 3, 3, 2, 2); /* the third round would deal rows 4 apart */
    expect_misfit("does not fit");
    begin();
    (void)ADD(UNET_NAME ".oft_blocks", 6);
    expect_misfit("does not fit");
    begin();
    (void)ADD(UNET_NAME ".lora_up.weight", OUT, R);
    (void)ADD(UNET_NAME ".lora_down.weight", R, IN);
    (void)ADD(UNET_NAME ".dora_scale", OUT + 1, 1);
    expect_misfit("does not fit");
    begin();
    (void)ADD(UNET_NAME ".lora_up.weight", OUT, R);
    (void)ADD(UNET_NAME ".lora_down.weight", R, IN);
    (void)ADD(UNET_NAME ".alpha", 2);
    expect_misfit("does not fit");
}

static void require_used__names_the_family(void **state) {
    (void)state;
    begin();
    (void)ADD("lora_unet_double_blocks_0_img_attn_proj.lora_up.weight", 2, 1);
    (void)ADD("lora_unet_double_blocks_0_img_attn_proj.lora_down.weight", 1, 2);
    tsr__weights *weights = finish();
    tsr__lora *lora = NULL;
    tsr_error err = TSR_ERROR_INIT;
    int changed = 1;
    assert_int_equal(tsr__lora_open(&lora, weights, NULL), TSR_OK);
    assert_int_equal(tsr__lora_add(lora, UNET_KEY, (const int64_t[]){ 1, 1 }, 2, 1.0f, NULL, &changed, NULL), TSR_OK);
    assert_int_equal(changed, 0);
    assert_int_equal(tsr__lora_unused(lora), 1);
    const char *first = NULL;
    assert_int_equal(tsr__lora_unused_of(lora, TSR__LORA_MODEL, &first), 1);
    assert_non_null(strstr(first, "double_blocks"));
    assert_int_equal(tsr__lora_unused_of(lora, TSR__LORA_TEXT, &first), 0);
    assert_null(first);
    assert_int_equal(tsr__lora_require_used(lora, TSR__LORA_TEXT, NULL), TSR_OK); /* it has nothing for text */
    assert_int_equal(tsr__lora_require_used(lora, TSR__LORA_MODEL, &err), TSR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "none of this adapter's 1 layers"));
    assert_non_null(strstr(err.message, "made for Flux"));
    tsr__lora_free(lora);
    tsr__weights_close(weights);
    free(maker.bytes);
}

/* A LoRA of one layer, [out, in], in none of whose networks the model has it. */
static void made_for__is_told_by_names_and_widths(void **state) {
    static const struct {
        const char *layer, *family;
        int in;
    } cases[] = {
        { "lora_unet_single_transformer_blocks_1_attn_to_q", "Flux", 4 },
        { "transformer.single_transformer_blocks.1.attn.to_q", "Flux", 4 },
        { "diffusion_model.double_blocks.1.img_mlp.0", "Flux", 4 },
        { "lora_unet_joint_blocks_1_context_block_attn_qkv", "SD3", 4 },
        { "transformer.transformer_blocks.1.attn.add_q_proj", "SD3", 4 },
        { "diffusion_model.blocks.1.cross_attn.k", "Wan", 4 },
        { "lora_unet_blocks_1_self_attn_q", "Wan", 4 },
        { "transformer_blocks.1.img_mlp.net.2", "Qwen-Image", 4 },
        { "lora_te2_text_model_encoder_layers_9_mlp_fc1", "SDXL", 4 },
        { "lora_unet_input_blocks_7_1_transformer_blocks_9_attn2_to_k", "SDXL", 2048 },
        { "lora_unet_down_blocks_9_attentions_1_transformer_blocks_0_attn2_to_k", "SD1", 768 },
        { "unet.down_blocks.9.attentions.1.transformer_blocks.0.attn2.to_k", "SD2", 1024 },
        { "lora_unet_tower_9", "another model", 4 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char up[160], down[160], says[64];
        tsr_error err = TSR_ERROR_INIT;
        tsr__lora *lora = NULL;
        (void)snprintf(up, sizeof up, "%s.lora_up.weight", cases[i].layer);
        (void)snprintf(down, sizeof down, "%s.lora_down.weight", cases[i].layer);
        (void)snprintf(says, sizeof says, "made for %s", cases[i].family);
        begin();
        (void)ADD(up, 4, 1);
        (void)ADD(down, 1, cases[i].in);
        tsr__weights *weights = finish();
        assert_int_equal(tsr__lora_open(&lora, weights, NULL), TSR_OK);
        assert_int_equal(tsr__lora_require_used(lora, TSR__LORA_MODEL, &err), TSR_UNSUPPORTED);
        if (!strstr(err.message, says)) fail_msg("%s: \"%s\"", cases[i].layer, err.message);
        tsr__lora_free(lora);
        tsr__weights_close(weights);
        free(maker.bytes);
    }
}

/* Files of other kinds are called by their names. */
static void open__says_what_a_file_is_instead(void **state) {
    (void)state;
    begin();
    (void)ADD("emb_params", 2, 768);
    expect_refusal("holds no LoRA or other adapter (none of its 1 tensors is part of one): it is a textual-inversion");
    begin();
    (void)ADD("clip_l", 1, 768);
    (void)ADD("clip_g", 1, 1280);
    expect_refusal("it is a textual-inversion embedding");
    begin();
    (void)ADD("zero_convs.0.0.weight", 4, 4, 1, 1);
    (void)ADD("input_hint_block.0.weight", 4, 3, 3, 3);
    (void)ADD("input_blocks.0.0.weight", 4, 4, 3, 3);
    expect_refusal("it is a ControlNet");
    begin();
    (void)ADD("some.thing", 2);
    expect_refusal("(none of its 1 tensors is part of one)");
}

/* Every layer of the golden adapters fits the golden checkpoint, and each changes what it meets. */
static void add__golden_adapters_fit_whole(void **state) {
    (void)state;
    static const char *const files[] = { "lora-kohya", "lora-kohya-conv", "loha", "lokr" };
    tsr__weights *model = NULL;
    assert_int_equal(tsr__weights_open(&model, TSR_GOLDEN_DIR "/checkpoints/golden-sd1.safetensors", NULL), TSR_OK);
    for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
        char path[512];
        tsr__weights *weights = NULL;
        tsr__lora *lora = NULL;
        tsr_error err = TSR_ERROR_INIT;
        size_t met = 0;
        (void)snprintf(path, sizeof path, "%s/loras/%s.safetensors", TSR_GOLDEN_DIR, files[f]);
        assert_int_equal(tsr__weights_open(&weights, path, NULL), TSR_OK);
        assert_int_equal(tsr__lora_open(&lora, weights, NULL), TSR_OK);
        for (size_t i = 0; i < tsr__weights_count(model); i++) {
            const tsr__tensor_view *view = tsr__weights_at(model, i);
            int changed;
            if (!tsr__lora_changes(lora, view->name)) continue;
            float *delta = calloc(view->count, sizeof *delta);
            assert_non_null(delta);
            if (tsr__lora_add(lora, view->name, view->shape, view->rank, 1.0f, delta, &changed, &err) != TSR_OK)
                fail_msg("%s", err.message);
            assert_int_equal(changed, 1);
            if (!(max_abs(delta, view->count) > 0)) fail_msg("%s: %s is not changed", files[f], view->name);
            met++;
            free(delta);
        }
        assert_int_equal(tsr__lora_unused(lora), 0);
        assert_int_equal(tsr__lora_used(lora), met);
        assert_int_equal(tsr__lora_require_used(lora, TSR__LORA_MODEL, NULL), TSR_OK);
        print_message("%s: %zu layers\n", files[f], met);
        tsr__lora_free(lora);
        tsr__weights_close(weights);
    }
    tsr__weights_close(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(add__lora_is_up_times_down),
        cmocka_unit_test(add__without_alpha_the_scale_is_one),
        cmocka_unit_test(add__lora_convolution_and_core),
        cmocka_unit_test(add__loha_is_a_product_of_products),
        cmocka_unit_test(add__lokr_is_a_kronecker_product),
        cmocka_unit_test(add__full_differences_of_weight_and_bias),
        cmocka_unit_test(changes__knows_the_names_of_both_layouts),
        cmocka_unit_test(changes__knows_the_text_encoders_of_other_families),
        cmocka_unit_test(add__reaches_the_parts_of_in_proj),
        cmocka_unit_test(changes__knows_other_trainers_endings),
        cmocka_unit_test(strength__is_the_text_encoders_or_the_models),
        cmocka_unit_test(dora__gives_rows_their_lengths),
        cmocka_unit_test(dora__gives_inputs_their_lengths),
        cmocka_unit_test(dora__scales_loha_too),
        cmocka_unit_test(open__refuses_what_it_cannot_merge),
        cmocka_unit_test(add__misfits_end_in_one_line),
        cmocka_unit_test(require_used__names_the_family),
        cmocka_unit_test(made_for__is_told_by_names_and_widths),
        cmocka_unit_test(open__says_what_a_file_is_instead),
        cmocka_unit_test(add__golden_adapters_fit_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
