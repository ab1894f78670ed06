/* model/clip.c - CLIP's text encoders: embeddings, pre-norm layers with a causal mask, final norm, projection.
 *
 * Two layouts of names, Hugging Face's and OpenCLIP's, are one table; formulas: reference/comfyui-sampling.md, "Text".
 * The token table stays in the mapped file (the weights must outlive the encoder); only rows in use are read. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "core/memory.h"
#include "model/layers.h"
#include "model/model.h"
#include "model/prompt_text.h"

#define MAX_LAYERS 128
#define POSITIONS  77
#define BATCH      8 /* chunks at once: bounds memory, enough rows for the matrix products */
#define END_TOKEN  49407

/* How a layout names its parts. */
typedef struct clip_layout {
    const char *tokens, *positions, *layer /* printf, the number */, *norm1, *norm2;
    const char *qkv[3]; /* one of 3 * width rows where the others are NULL */
    const char *out, *fc1, *fc2, *final;
    tsr__act act;
    int pad;
} clip_layout;

static const clip_layout HF_LAYOUT = {
    "embeddings.token_embedding.weight",
    "embeddings.position_embedding.weight",
    "encoder.layers.%d",
    "layer_norm1",
    "layer_norm2",
    { "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj" },
    "self_attn.out_proj",
    "mlp.fc1",
    "mlp.fc2",
    "final_layer_norm",
    TSR__ACT_QUICK_GELU,
    END_TOKEN,
};
static const clip_layout OPEN_LAYOUT = {
    "token_embedding.weight",
    "positional_embedding",
    "transformer.resblocks.%d",
    "ln_1",
    "ln_2",
    { "attn.in_proj", NULL, NULL },
    "attn.out_proj",
    "mlp.c_fc",
    "mlp.c_proj",
    "ln_final",
    TSR__ACT_GELU,
    0,
};

typedef struct clip_layer {
    tsr__norm norm1, norm2;
    tsr__nn_weight *qkv, *out, *fc1, *fc2;
} clip_layer;

struct tsr__clip {
    tsr__nn *nn;
    const clip_layout *layout;
    const tsr__tensor_view *tokens; /* [vocabulary, width], in the file */
    float *positions;               /* [77, width] */
    int width, heads, depth;
    clip_layer *layers;
    tsr__norm final;
    float *projection; /* [width, pooled_width]; NULL: none */
    int pooled_width;
    tsr__weight_log log;
};

static tsr_status load_layer(clip_layer *layer, const tsr__clip *clip, tsr__loader *loader, int number,
                             tsr_error *err) {
    tsr_status status = TSR_OK;
    const clip_layout *l = clip->layout;
    int width = clip->width, inner = 0, in = 0, parts = l->qkv[1] ? 3 : 1;
    const int sides[3] = { width * 3 / parts, width, width };
    tsr__name name = { "" }, qkv[3];
    snprintf(name.text, sizeof name.text, l->layer, number);
    for (int i = 0; i < parts; i++) qkv[i] = tsr__name_of("%s.%s", name.text, l->qkv[i]);
    tsr__name fc1 = tsr__name_of("%s.%s", name.text, l->fc1), fc2 = tsr__name_of("%s.%s", name.text, l->fc2);
    TSR_TRY(tsr__norm_load(&layer->norm1, loader, width, tsr__name_of("%s.%s", name.text, l->norm1).text, err));
    TSR_TRY(tsr__norm_load(&layer->norm2, loader, width, tsr__name_of("%s.%s", name.text, l->norm2).text, err));
    TSR_TRY(tsr__load_stacked(loader, &layer->qkv, parts, qkv, sides, width, TSR__WITH_BIAS, err));
    TSR_TRY(tsr__load_linear(loader, &layer->out, width, width, TSR__WITH_BIAS,
                             tsr__name_of("%s.%s", name.text, l->out).text, err));
    TSR_TRY(tsr__load_sides(loader, &inner, &in, fc1.text, 2, err));
    TSR_TRY(tsr__load_linear(loader, &layer->fc1, inner, width, TSR__WITH_BIAS, fc1.text, err));
    TSR_TRY(tsr__load_linear(loader, &layer->fc2, width, inner, TSR__WITH_BIAS, fc2.text, err));
done:
    return status;
}

static tsr_status load_positions(tsr__clip *clip, tsr__loader *loader, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__tensor_view *view = NULL;
    const int64_t shape[2] = { POSITIONS, clip->width };
    TSR_TRY(tsr__load_shaped(loader, &view, clip->layout->positions, 2, shape, err));
    TSR_ALLOC(err, clip->positions, view->count);
    TSR_TRY(tsr__tensor_to_f32(view, clip->positions, err));
done:
    return status;
}

/* OpenCLIP multiplies rows by text_projection [width, out]. */
static tsr_status load_projection(tsr__clip *clip, tsr__loader *loader, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__tensor_view *view = NULL;
    if (clip->layout != &OPEN_LAYOUT || !tsr__load_has(loader, "text_projection")) return TSR_OK;
    TSR_TRY(tsr__load_need(loader, &view, "text_projection", 2, err));
    if (view->shape[0] != clip->width)
        TSR_FAIL(err, TSR_UNSUPPORTED, "%s.text_projection takes %lld channels, the encoder has %d", loader->prefix,
                 (long long)view->shape[0], clip->width);
    TSR_ALLOC(err, clip->projection, view->count);
    TSR_TRY(tsr__tensor_to_f32(view, clip->projection, err));
    clip->pooled_width = (int)view->shape[1];
done:
    return status;
}

static int has_layer(const tsr__clip *clip, const tsr__loader *loader, int number) {
    tsr__name name = { "" };
    snprintf(name.text, sizeof name.text, clip->layout->layer, number);
    return tsr__load_has(loader, "%s.%s.weight", name.text, clip->layout->norm1);
}

static tsr_status load_clip(tsr__clip *clip, tsr__loader *loader, const char *config, const char *heads_key,
                            tsr_error *err) {
    tsr_status status = TSR_OK;
    int depth = 0;
    clip->layout = tsr__load_has(loader, "%s", OPEN_LAYOUT.tokens) ? &OPEN_LAYOUT : &HF_LAYOUT;
    TSR_TRY(tsr__load_need(loader, &clip->tokens, clip->layout->tokens, 2, err));
    clip->width = (int)clip->tokens->shape[1];
    TSR_TRY(tsr__config_int(&clip->heads, config, heads_key, clip->width < 64 ? 1 : clip->width / 64, err));
    if (clip->width % clip->heads)
        TSR_FAIL(err, TSR_UNSUPPORTED, "%s: %d channels cannot be shared by %d heads (tessera.config, %s)",
                 loader->prefix, clip->width, clip->heads, heads_key);
    TSR_TRY(load_positions(clip, loader, err));
    while (depth < MAX_LAYERS && has_layer(clip, loader, depth)) depth++;
    TSR_ALLOC_ZERO(err, clip->layers, depth ? depth : 1);
    clip->depth = depth;
    for (int i = 0; i < depth; i++) TSR_TRY(load_layer(&clip->layers[i], clip, loader, i, err));
    TSR_TRY(tsr__norm_load(&clip->final, loader, clip->width, clip->layout->final, err));
    TSR_TRY(load_projection(clip, loader, err));
done:
    return status;
}

tsr_status tsr__clip_new(tsr__clip **out, tsr__nn *nn, const tsr__weights *weights, const char *prefix,
                         const char *config, const char *heads_key, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__clip *clip = NULL;
    tsr__loader loader;
    *out = NULL;
    TSR_ALLOC_ZERO(err, clip, 1);
    clip->nn = nn;
    TSR_TRY(tsr__loader_init(&loader, nn, weights, prefix, "an SD-layout checkpoint", err));
    loader.log = &clip->log;
    TSR_TRY(load_clip(clip, &loader, config, heads_key, err));
    *out = clip;
    clip = NULL;
done:
    tsr__clip_free(clip);
    return status;
}

void tsr__clip_free(tsr__clip *clip) {
    if (!clip) return;
    for (int i = 0; i < clip->depth; i++) {
        clip_layer *layer = &clip->layers[i];
        tsr__norm_clear(&layer->norm1);
        tsr__norm_clear(&layer->norm2);
        tsr__nn_weight_free(clip->nn, layer->qkv);
        tsr__nn_weight_free(clip->nn, layer->out);
        tsr__nn_weight_free(clip->nn, layer->fc1);
        tsr__nn_weight_free(clip->nn, layer->fc2);
    }
    free(clip->layers);
    free(clip->positions);
    free(clip->projection);
    tsr__weight_log_clear(&clip->log);
    tsr__norm_clear(&clip->final);
    free(clip);
}

const tsr__weight_log *tsr__clip_weights(const tsr__clip *clip) {
    return &clip->log;
}

int tsr__clip_width(const tsr__clip *clip) {
    return clip->width;
}

int tsr__clip_depth(const tsr__clip *clip) {
    return clip->depth;
}

int tsr__clip_pooled_width(const tsr__clip *clip) {
    return clip->pooled_width;
}

int tsr__clip_pad(const tsr__clip *clip) {
    return clip->layout->pad;
}

/* --- encoding ------------------------------------------------------------------------------------------------------- */

static tsr_status read_token(const tsr__clip *clip, float *dst, int id, const tsr__clip_want *want, tsr_error *err) {
    size_t width = (size_t)clip->width;
    if (id >= TSR__EXTRA_TOKEN && id - TSR__EXTRA_TOKEN < want->extra_count) {
        memcpy(dst, want->extra[id - TSR__EXTRA_TOKEN], width * sizeof *dst);
        return TSR_OK;
    }
    if (id < 0 || id >= clip->tokens->shape[0])
        return tsr__fail(err, TSR_BAD_ARGUMENT, "token %d: the text encoder knows 0 to %lld", id,
                         (long long)clip->tokens->shape[0] - 1);
    return tsr__tensor_part_to_f32(clip->tokens, (size_t)id * width, width, dst, err);
}

/* rows [n, 77, width] = token row + position row */
static tsr_status embed(const tsr__clip *clip, float *rows, const int *ids, int n, const tsr__clip_want *want,
                        tsr_error *err) {
    size_t width = (size_t)clip->width;
    for (int i = 0; i < n * POSITIONS; i++) {
        float *dst = rows + (size_t)i * width;
        const float *position = clip->positions + (size_t)(i % POSITIONS) * width;
        tsr_status status = read_token(clip, dst, ids[i], want, err);
        if (status != TSR_OK) return status;
        for (size_t c = 0; c < width; c++) dst[c] += position[c];
    }
    return TSR_OK;
}

/* x = x + out(attention(norm1(x))), then x = x + fc2(gelu(fc1(norm2(x)))) */
static tsr_status run_layer(const tsr__clip *clip, tsr__tensor *x, const clip_layer *layer, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__nn *nn = clip->nn;
    int c = clip->width;
    tsr__tensor a = { 0 }, b = { 0 }, y = { 0 };
    TSR_TRY(tsr__norm_layer(nn, &a, x, &layer->norm1, err));
    TSR_TRY(tsr__nn_linear(nn, &b, &a, layer->qkv, TSR__ACT_NONE, NULL, err));
    tsr__nn_release(nn, &a);
    tsr__token_view q = { &b, x->w, 3 * c, 0 }, k = { &b, x->w, 3 * c, c }, v = { &b, x->w, 3 * c, 2 * c };
    TSR_TRY(tsr__nn_attention(nn, &a, q, k, v, x->n, clip->heads, c / clip->heads, NULL, 1, err));
    TSR_TRY(tsr__nn_linear(nn, &y, &a, layer->out, TSR__ACT_NONE, x, err));
    tsr__nn_release(nn, &a);
    tsr__nn_release(nn, &b);
    tsr__nn_release(nn, x);
    TSR_TRY(tsr__norm_layer(nn, &a, &y, &layer->norm2, err));
    TSR_TRY(tsr__nn_linear(nn, &b, &a, layer->fc1, clip->layout->act, NULL, err));
    TSR_TRY(tsr__nn_linear(nn, x, &b, layer->fc2, TSR__ACT_NONE, &y, err));
done:
    tsr__nn_release(nn, &a);
    tsr__nn_release(nn, &b);
    tsr__nn_release(nn, &y);
    return status;
}

/* The hidden state as rows, through the final norm if asked. */
static tsr_status read_state(const tsr__clip *clip, float *out, const tsr__tensor *x, int normed, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__tensor y = { 0 };
    if (!normed) return tsr__nn_to_rows(clip->nn, out, x, err);
    TSR_TRY(tsr__norm_layer(clip->nn, &y, x, &clip->final, err));
    TSR_TRY(tsr__nn_to_rows(clip->nn, out, &y, err));
done:
    tsr__nn_release(clip->nn, &y);
    return status;
}

/* pooled [n, pooled width]: the normed last state at the first end token, projected. */
static void pool(const tsr__clip *clip, float *pooled, const float *rows, const int *ids, int n) {
    size_t width = (size_t)clip->width, out = (size_t)clip->pooled_width;
    for (int i = 0; i < n; i++) {
        int end = 0;
        while (end + 1 < POSITIONS && ids[i * POSITIONS + end] != END_TOKEN) end++;
        const float *row = rows + ((size_t)i * POSITIONS + (size_t)end) * width;
        float *to = pooled + (size_t)i * out;
        for (size_t k = 0; k < out; k++) to[k] = 0.0f;
        for (size_t c = 0; c < width; c++)
            for (size_t k = 0; k < out; k++) to[k] += row[c] * clip->projection[c * out + k];
    }
}

static tsr_status encode_batch(const tsr__clip *clip, float *out, float *pooled, const int *ids, int n,
                               tsr__clip_want want, tsr_error *err) {
    tsr_status status = TSR_OK;
    float *rows = NULL;
    tsr__tensor x = { 0 };
    int layers = clip->depth + want.layer + 1, all = pooled ? clip->depth : layers;
    TSR_ALLOC(err, rows, (size_t)n * POSITIONS * (size_t)clip->width);
    TSR_TRY(embed(clip, rows, ids, n, &want, err));
    TSR_TRY(tsr__nn_from_rows(clip->nn, &x, rows, n, POSITIONS, clip->width, err));
    for (int i = 0; i < all; i++) {
        if (i == layers) TSR_TRY(read_state(clip, out, &x, want.normed, err));
        TSR_TRY(run_layer(clip, &x, &clip->layers[i], err));
    }
    if (layers == all) TSR_TRY(read_state(clip, out, &x, want.normed, err));
    if (pooled) {
        TSR_TRY(read_state(clip, rows, &x, 1, err));
        pool(clip, pooled, rows, ids, n);
    }
done:
    tsr__nn_release(clip->nn, &x);
    free(rows);
    return status;
}

tsr_status tsr__clip_encode(tsr__clip *clip, float *out, const int *ids, int n, tsr__clip_want want, tsr_error *err) {
    tsr_status status = TSR_OK;
    if (want.layer >= 0 || -want.layer > clip->depth)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "clip skip %d: -1 to -%d for this text encoder", want.layer, clip->depth);
    if (want.pooled && !clip->projection)
        TSR_FAIL(err, TSR_UNSUPPORTED, "a text encoder without text_projection has no pooled output");
    for (int i = 0; i < n; i += BATCH)
        TSR_TRY(encode_batch(clip, out + (size_t)i * POSITIONS * (size_t)clip->width,
                             want.pooled ? want.pooled + (size_t)i * (size_t)clip->pooled_width : NULL,
                             ids + i * POSITIONS, n - i < BATCH ? n - i : BATCH, want, err));
done:
    return status;
}
