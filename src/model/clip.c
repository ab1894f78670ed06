/* model/clip.c - CLIP's text encoder (ViT-L layout): embeddings, pre-norm layers with a causal mask, final norm.
 *
 * The token table stays in the mapped file (the weights must outlive the encoder); only rows in use are read. */
#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "core/memory.h"
#include "model/layers.h"
#include "model/model.h"

#define MAX_LAYERS 128
#define POSITIONS  77
#define BATCH      8 /* chunks at once: bounds memory, enough rows for the matrix products */

typedef struct clip_layer {
    tsr__norm norm1, norm2;
    tsr__nn_weight *qkv, *out, *fc1, *fc2;
} clip_layer;

struct tsr__clip {
    tsr__nn *nn;
    const tsr__tensor_view *tokens; /* [vocabulary, width], in the file */
    float *positions;               /* [77, width] */
    int width, heads, depth;
    clip_layer *layers;
    tsr__norm final;
};

static tsr_status load_layer(clip_layer *layer, tsr__loader *loader, int number, int width, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__name name = tsr__name_of("encoder.layers.%d", number);
    const tsr__name qkv[3] = { tsr__name_of("%s.self_attn.q_proj", name.text),
                               tsr__name_of("%s.self_attn.k_proj", name.text),
                               tsr__name_of("%s.self_attn.v_proj", name.text) };
    const int sides[3] = { width, width, width };
    int inner = 0, in = 0;
    tsr__name fc1 = tsr__name_of("%s.mlp.fc1", name.text), fc2 = tsr__name_of("%s.mlp.fc2", name.text);
    TSR_TRY(tsr__norm_load(&layer->norm1, loader, width, tsr__name_of("%s.layer_norm1", name.text).text, err));
    TSR_TRY(tsr__norm_load(&layer->norm2, loader, width, tsr__name_of("%s.layer_norm2", name.text).text, err));
    TSR_TRY(tsr__load_stacked(loader, &layer->qkv, 3, qkv, sides, width, TSR__WITH_BIAS, err));
    TSR_TRY(tsr__load_linear(loader, &layer->out, width, width, TSR__WITH_BIAS,
                             tsr__name_of("%s.self_attn.out_proj", name.text).text, err));
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
    TSR_TRY(tsr__load_shaped(loader, &view, "embeddings.position_embedding.weight", 2, shape, err));
    TSR_ALLOC(err, clip->positions, view->count);
    TSR_TRY(tsr__tensor_to_f32(view, clip->positions, err));
done:
    return status;
}

static tsr_status load_clip(tsr__clip *clip, tsr__loader *loader, const char *config, tsr_error *err) {
    tsr_status status = TSR_OK;
    int depth = 0;
    TSR_TRY(tsr__load_need(loader, &clip->tokens, "embeddings.token_embedding.weight", 2, err));
    clip->width = (int)clip->tokens->shape[1];
    TSR_TRY(tsr__config_int(&clip->heads, config, "text_heads", clip->width < 64 ? 1 : clip->width / 64, err));
    if (clip->width % clip->heads)
        TSR_FAIL(err, TSR_UNSUPPORTED, "%s: %d channels cannot be shared by %d heads (tessera.config, text_heads)",
                 loader->prefix, clip->width, clip->heads);
    TSR_TRY(load_positions(clip, loader, err));
    while (depth < MAX_LAYERS && tsr__load_has(loader, "encoder.layers.%d.layer_norm1.weight", depth)) depth++;
    TSR_ALLOC_ZERO(err, clip->layers, depth ? depth : 1);
    clip->depth = depth;
    for (int i = 0; i < depth; i++) TSR_TRY(load_layer(&clip->layers[i], loader, i, clip->width, err));
    TSR_TRY(tsr__norm_load(&clip->final, loader, clip->width, "final_layer_norm", err));
done:
    return status;
}

tsr_status tsr__clip_new(tsr__clip **out, tsr__nn *nn, const tsr__weights *weights, const char *prefix,
                         const char *config, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__clip *clip = NULL;
    tsr__loader loader;
    *out = NULL;
    TSR_ALLOC_ZERO(err, clip, 1);
    clip->nn = nn;
    TSR_TRY(tsr__loader_init(&loader, nn, weights, prefix, "an SD1-layout checkpoint", err));
    TSR_TRY(load_clip(clip, &loader, config, err));
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
    tsr__norm_clear(&clip->final);
    free(clip);
}

int tsr__clip_width(const tsr__clip *clip) {
    return clip->width;
}

/* --- encoding ------------------------------------------------------------------------------------------------------- */

/* rows [n, 77, width] = token row + position row */
static tsr_status embed(const tsr__clip *clip, float *rows, const int *ids, int n, tsr_error *err) {
    size_t width = (size_t)clip->width, row_bytes = width * tsr__dtype_size(clip->tokens->dtype);
    for (int i = 0; i < n * POSITIONS; i++) {
        if (ids[i] < 0 || ids[i] >= clip->tokens->shape[0])
            return tsr__fail(err, TSR_BAD_ARGUMENT, "token %d: the text encoder knows 0 to %lld", ids[i],
                             (long long)clip->tokens->shape[0] - 1);
        tsr__tensor_view row = *clip->tokens;
        row.rank = 1;
        row.shape[0] = clip->width;
        row.count = width;
        row.data = (const char *)clip->tokens->data + (size_t)ids[i] * row_bytes;
        float *dst = rows + (size_t)i * width;
        const float *position = clip->positions + (size_t)(i % POSITIONS) * width;
        tsr_status status = tsr__tensor_to_f32(&row, dst, err);
        if (status != TSR_OK) return status;
        for (size_t c = 0; c < width; c++) dst[c] += position[c];
    }
    return TSR_OK;
}

/* x = x + out(attention(norm1(x))), then x = x + fc2(quick_gelu(fc1(norm2(x)))) */
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
    TSR_TRY(tsr__nn_linear(nn, &b, &a, layer->fc1, TSR__ACT_QUICK_GELU, NULL, err));
    TSR_TRY(tsr__nn_linear(nn, x, &b, layer->fc2, TSR__ACT_NONE, &y, err));
done:
    tsr__nn_release(nn, &a);
    tsr__nn_release(nn, &b);
    tsr__nn_release(nn, &y);
    return status;
}

static tsr_status encode_batch(const tsr__clip *clip, float *out, const int *ids, int n, int layers, tsr_error *err) {
    tsr_status status = TSR_OK;
    float *rows = NULL;
    tsr__tensor x = { 0 }, normed = { 0 };
    TSR_ALLOC(err, rows, (size_t)n * POSITIONS * (size_t)clip->width);
    TSR_TRY(embed(clip, rows, ids, n, err));
    TSR_TRY(tsr__nn_from_rows(clip->nn, &x, rows, n, POSITIONS, clip->width, err));
    for (int i = 0; i < layers; i++) TSR_TRY(run_layer(clip, &x, &clip->layers[i], err));
    TSR_TRY(tsr__norm_layer(clip->nn, &normed, &x, &clip->final, err));
    TSR_TRY(tsr__nn_to_rows(clip->nn, out, &normed, err));
done:
    tsr__nn_release(clip->nn, &x);
    tsr__nn_release(clip->nn, &normed);
    free(rows);
    return status;
}

tsr_status tsr__clip_encode(tsr__clip *clip, float *out, const int *ids, int n, int layer, tsr_error *err) {
    tsr_status status = TSR_OK;
    if (layer >= 0 || -layer > clip->depth)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "clip skip %d: -1 to -%d for this text encoder", layer, clip->depth);
    for (int i = 0; i < n; i += BATCH)
        TSR_TRY(encode_batch(clip, out + (size_t)i * POSITIONS * (size_t)clip->width, ids + i * POSITIONS,
                             n - i < BATCH ? n - i : BATCH, clip->depth + layer + 1, err));
done:
    return status;
}
