/* model/unet_blocks.c - the transformer of a UNet: load, run, release. */
#include "model/unet_blocks.h"

#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "core/memory.h"

#define MAX_DEPTH  64
#define WIDE_BYTES (2 << 20) /* of a feed-forward's middle at once: what a cache holds */
#define MIN_ROWS   256       /* fewer would leave matrix products idle */

static tsr_status load_attention(tsr__transformer_layer *layer, tsr__loader *loader, const char *name, int c,
                                 int context_width, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__name self[3] = { tsr__name_of("%s.attn1.to_q", name), tsr__name_of("%s.attn1.to_k", name),
                                tsr__name_of("%s.attn1.to_v", name) };
    const tsr__name text[2] = { tsr__name_of("%s.attn2.to_k", name), tsr__name_of("%s.attn2.to_v", name) };
    const int sides[3] = { c, c, c };
    TSR_TRY(tsr__load_stacked(loader, &layer->qkv, 3, self, sides, c, TSR__NO_BIAS, err));
    TSR_TRY(tsr__load_linear(loader, &layer->self_out, c, c, TSR__WITH_BIAS,
                             tsr__name_of("%s.attn1.to_out.0", name).text, err));
    TSR_TRY(tsr__load_linear(loader, &layer->query, c, c, TSR__NO_BIAS, tsr__name_of("%s.attn2.to_q", name).text, err));
    TSR_TRY(tsr__load_stacked(loader, &layer->text_kv, 2, text, sides, context_width, TSR__NO_BIAS, err));
    TSR_TRY(tsr__load_linear(loader, &layer->cross_out, c, c, TSR__WITH_BIAS,
                             tsr__name_of("%s.attn2.to_out.0", name).text, err));
done:
    return status;
}

static tsr_status load_layer(tsr__transformer_layer *layer, tsr__loader *loader, const char *name, int c,
                             int context_width, tsr_error *err) {
    tsr_status status = TSR_OK;
    int doubled = 0, in = 0;
    tsr__name ff_in = tsr__name_of("%s.ff.net.0.proj", name), ff_out = tsr__name_of("%s.ff.net.2", name);
    TSR_TRY(tsr__norm_load(&layer->norm1, loader, c, tsr__name_of("%s.norm1", name).text, err));
    TSR_TRY(tsr__norm_load(&layer->norm2, loader, c, tsr__name_of("%s.norm2", name).text, err));
    TSR_TRY(tsr__norm_load(&layer->norm3, loader, c, tsr__name_of("%s.norm3", name).text, err));
    TSR_TRY(load_attention(layer, loader, name, c, context_width, err));
    TSR_TRY(tsr__load_sides(loader, &doubled, &in, ff_in.text, 2, err));
    layer->inner = (doubled + 1) / 2;
    TSR_TRY(tsr__load_linear(loader, &layer->ff_in, 2 * layer->inner, c, TSR__WITH_BIAS, ff_in.text, err));
    TSR_TRY(tsr__load_linear(loader, &layer->ff_out, c, layer->inner, TSR__WITH_BIAS, ff_out.text, err));
done:
    return status;
}

static tsr_status choose_heads(tsr__transformer *t, const tsr__loader *loader, const char *name, int heads_asked,
                               tsr_error *err) {
    tsr__name weight = tsr__name_of("%s.proj_in.weight", name);
    const tsr__tensor_view *view = tsr__load_find(loader, weight.text);
    int convolution = view && view->rank == 4;
    t->heads = heads_asked ? heads_asked : convolution ? 8 : t->channels / 64;
    if (t->heads < 1 || t->channels % t->heads)
        return tsr__fail(err, TSR_UNSUPPORTED,
                         "%s: %d channels cannot be shared by %d heads: name the number in the checkpoint's metadata "
                         "(tessera.config, unet_heads)",
                         name, t->channels, t->heads);
    return TSR_OK;
}

tsr_status tsr__transformer_load(tsr__transformer *t, tsr__loader *loader, const char *name, int channels,
                                 int heads_asked, int *context_width, int *slots, tsr_error *err) {
    tsr_status status = TSR_OK;
    int depth = 0, out = 0, width = 0;
    t->channels = channels;
    while (depth < MAX_DEPTH && tsr__load_has(loader, "%s.transformer_blocks.%d.norm1.weight", name, depth)) depth++;
    tsr__name text_key = tsr__name_of("%s.transformer_blocks.0.attn2.to_k", name);
    if (tsr__load_has(loader, "%s.weight", text_key.text) && !depth) depth = 1; /* whose norm1 will be missed */
    /* The small ControlNets for SDXL have one without layers: its two projections stay. */
    if (depth || !tsr__load_has(loader, "%s.proj_out.weight", name)) {
        TSR_TRY(tsr__load_sides(loader, &out, &width, text_key.text, 2, err));
        if (*context_width == 0) *context_width = width;
    }
    t->context_width = *context_width;
    TSR_TRY(choose_heads(t, loader, name, heads_asked, err));
    TSR_TRY(tsr__norm_load_group(&t->norm, loader, channels, tsr__name_of("%s.norm", name).text, err));
    TSR_TRY(tsr__load_linear(loader, &t->proj_in, channels, channels, TSR__WITH_BIAS,
                             tsr__name_of("%s.proj_in", name).text, err));
    TSR_ALLOC_ZERO(err, t->layers, depth + 1);
    t->depth = depth;
    for (int i = 0; i < depth; i++) {
        t->layers[i].context_slot = (*slots)++;
        TSR_TRY(load_layer(&t->layers[i], loader, tsr__name_of("%s.transformer_blocks.%d", name, i).text, channels,
                           t->context_width, err));
    }
    TSR_TRY(tsr__load_linear(loader, &t->proj_out, channels, channels, TSR__WITH_BIAS,
                             tsr__name_of("%s.proj_out", name).text, err));
done:
    return status;
}

void tsr__transformer_clear(tsr__nn *nn, tsr__transformer *t) {
    for (int i = 0; i < t->depth; i++) {
        tsr__transformer_layer *layer = &t->layers[i];
        tsr__nn_weight *weights[] = { layer->qkv,       layer->self_out, layer->query, layer->text_kv,
                                      layer->cross_out, layer->ff_in,    layer->ff_out };
        for (size_t w = 0; w < sizeof weights / sizeof *weights; w++) tsr__nn_weight_free(nn, weights[w]);
        tsr__norm_clear(&layer->norm1);
        tsr__norm_clear(&layer->norm2);
        tsr__norm_clear(&layer->norm3);
    }
    free(t->layers);
    tsr__norm_clear(&t->norm);
    tsr__nn_weight_free(nn, t->proj_in);
    tsr__nn_weight_free(nn, t->proj_out);
    memset(t, 0, sizeof *t);
}

/* *x += linear(a, w), as a new tensor in *x; a is released. */
static tsr_status add_projection(tsr__nn *nn, tsr__tensor *x, tsr__tensor *a, const tsr__nn_weight *w, tsr_error *err) {
    tsr__tensor y = { 0 };
    tsr_status status = tsr__nn_linear(nn, &y, a, w, TSR__ACT_NONE, x, err);
    tsr__nn_release(nn, a);
    if (status != TSR_OK) return status;
    tsr__nn_release(nn, x);
    *x = y;
    return TSR_OK;
}

static tsr_status attend_self(tsr__nn *nn, tsr__tensor *x, const tsr__transformer *t,
                              const tsr__transformer_layer *layer, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__tensor y = { 0 }, qkv = { 0 }, a = { 0 };
    int c = t->channels;
    TSR_TRY(tsr__norm_layer(nn, &y, x, &layer->norm1, err));
    TSR_TRY(tsr__nn_linear(nn, &qkv, &y, layer->qkv, TSR__ACT_NONE, NULL, err));
    tsr__nn_release(nn, &y);
    tsr__token_view q = { &qkv, x->w, 3 * c, 0 }, k = { &qkv, x->w, 3 * c, c }, v = { &qkv, x->w, 3 * c, 2 * c };
    TSR_TRY(tsr__nn_attention(nn, &a, q, k, v, x->n, t->heads, c / t->heads, NULL, 0, err));
    tsr__nn_release(nn, &qkv);
    TSR_TRY(add_projection(nn, x, &a, layer->self_out, err));
done:
    tsr__nn_release(nn, &y);
    tsr__nn_release(nn, &qkv);
    tsr__nn_release(nn, &a);
    return status;
}

/* Rows first .. first + rows of x as a tensor of their own; nothing to release. */
static tsr__tensor rows_of(const tsr__tensor *x, size_t first, size_t rows) {
    tsr__tensor view = *x;
    view.data = (char *)x->data + first * (size_t)x->c * (x->dtype == TSR__BF16 ? 2 : 4);
    view.n = view.h = 1;
    view.w = (int)rows;
    return view;
}

/* First and one past the last row with weight. */
static void weighted_span(size_t span[2], const float *weights, size_t rows) {
    span[0] = 0;
    span[1] = rows;
    while (span[0] < rows && weights[span[0]] == 0.0f) span[0]++;
    while (span[1] > span[0] && weights[span[1] - 1] == 0.0f) span[1]--;
}

/* a holds the attention of sample `index` to its first text; makes it the weighted sum over all its texts. */
static tsr_status share_text(tsr__nn *nn, tsr__tensor *a, const tsr__tensor *query, int index,
                             const tsr__transformer *t, int slot, const tsr__shared_text *shared, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__tensor part = { 0 };
    size_t rows = (size_t)query->w, first = (size_t)index * rows, span[2];
    int c = t->channels;
    if (shared->parts == 0) return TSR_OK;
    tsr__tensor own = rows_of(a, first, rows);
    TSR_TRY(tsr__nn_weigh_rows(nn, &own, NULL, shared->weights[0], err));
    for (int p = 1; p < shared->parts; p++) {
        const tsr__tensor *kv = &shared->kv[p][slot];
        weighted_span(span, shared->weights[p], rows);
        if (span[0] == span[1]) continue;
        size_t count = span[1] - span[0];
        tsr__tensor asks = rows_of(query, first + span[0], count), sum = rows_of(a, first + span[0], count);
        tsr__token_view q = { &asks, (int)count, c, 0 }, k = { kv, kv->w, 2 * c, 0 }, v = { kv, kv->w, 2 * c, c };
        TSR_TRY(tsr__nn_attention(nn, &part, q, k, v, 1, t->heads, c / t->heads, NULL, 0, err));
        TSR_TRY(tsr__nn_weigh_rows(nn, &sum, &part, shared->weights[p] + span[0], err));
        tsr__nn_release(nn, &part);
    }
done:
    tsr__nn_release(nn, &part);
    return status;
}

static tsr_status attend_text(tsr__nn *nn, tsr__tensor *x, const tsr__transformer *t,
                              const tsr__transformer_layer *layer, const tsr__tensor *kv,
                              const tsr__shared_text *shared, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__tensor y = { 0 }, query = { 0 }, a = { 0 };
    int c = t->channels;
    TSR_TRY(tsr__norm_layer(nn, &y, x, &layer->norm2, err));
    TSR_TRY(tsr__nn_linear(nn, &query, &y, layer->query, TSR__ACT_NONE, NULL, err));
    tsr__nn_release(nn, &y);
    tsr__token_view q = { &query, x->w, c, 0 }, k = { kv, kv->w, 2 * c, 0 }, v = { kv, kv->w, 2 * c, c };
    TSR_TRY(tsr__nn_attention(nn, &a, q, k, v, x->n, t->heads, c / t->heads, NULL, 0, err));
    for (int i = 0; shared && i < x->n; i++)
        TSR_TRY(share_text(nn, &a, &query, i, t, layer->context_slot, &shared[i], err));
    tsr__nn_release(nn, &query);
    TSR_TRY(add_projection(nn, x, &a, layer->cross_out, err));
done:
    tsr__nn_release(nn, &y);
    tsr__nn_release(nn, &query);
    tsr__nn_release(nn, &a);
    return status;
}

static tsr_status feed_rows(tsr__nn *nn, tsr__tensor *x, const tsr__transformer_layer *layer, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__tensor y = { 0 }, wide = { 0 }, gated = { 0 }, sum = { 0 };
    TSR_TRY(tsr__norm_layer(nn, &y, x, &layer->norm3, err));
    TSR_TRY(tsr__nn_linear(nn, &wide, &y, layer->ff_in, TSR__ACT_NONE, NULL, err));
    TSR_TRY(tsr__nn_geglu(nn, &gated, &wide, err));
    TSR_TRY(tsr__nn_linear(nn, &sum, &gated, layer->ff_out, TSR__ACT_NONE, x, err));
    memcpy(x->data, sum.data, (size_t)x->w * (size_t)x->c * (x->dtype == TSR__BF16 ? 2 : 4));
done:
    tsr__nn_release(nn, &y);
    tsr__nn_release(nn, &wide);
    tsr__nn_release(nn, &gated);
    tsr__nn_release(nn, &sum);
    return status;
}

/* x += feed-forward(norm3(x)), in place and some rows at a time: the middle is eight times as wide as x and would go out
 * to memory and back, while a few rows of it stay in the cache. */
static tsr_status feed_forward(tsr__nn *nn, tsr__tensor *x, const tsr__transformer_layer *layer, tsr_error *err) {
    size_t all = (size_t)x->n * (size_t)x->w, row_bytes = 2 * (size_t)layer->inner * (x->dtype == TSR__BF16 ? 2 : 4);
    size_t most = WIDE_BYTES / row_bytes > MIN_ROWS ? WIDE_BYTES / row_bytes : MIN_ROWS;
    size_t parts = (all + most - 1) / most;
    size_t rows = (all + parts - 1) / parts;
    for (size_t first = 0; first < all; first += rows) {
        tsr__tensor part = rows_of(x, first, all - first < rows ? all - first : rows);
        tsr_status status = feed_rows(nn, &part, layer, err);
        if (status != TSR_OK) return status;
    }
    return TSR_OK;
}

/* Sample by sample where samples have adapters of their own: rows of two would otherwise share a part. */
static tsr_status feed_samples(tsr__nn *nn, tsr__tensor *x, const tsr__transformer_layer *layer, tsr_error *err) {
    tsr_status status = TSR_OK;
    int n;
    const tsr__nn_terms *const *terms = tsr__nn_terms_in_use(nn, &n);
    if (!terms || n == 1) return feed_forward(nn, x, layer, err);
    for (int i = 0; i < x->n && status == TSR_OK; i++) {
        tsr__tensor sample = rows_of(x, (size_t)i * (size_t)x->w, (size_t)x->w);
        tsr__nn_terms_use(nn, terms + i, 1);
        status = feed_forward(nn, &sample, layer, err);
    }
    tsr__nn_terms_use(nn, terms, n);
    return status;
}

tsr_status tsr__transformer_run(tsr__nn *nn, tsr__tensor *out, tsr__tensor *x, const tsr__transformer *t,
                                const tsr__tensor *text_kv, const tsr__shared_text *shared, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__tensor y = { 0 }, tokens = { 0 };
    int h = x->h, w = x->w;
    memset(out, 0, sizeof *out);
    TSR_TRY(tsr__norm_group(nn, &y, x, &t->norm, 1e-6f, 0, err));
    TSR_TRY(tsr__nn_linear(nn, &tokens, &y, t->proj_in, TSR__ACT_NONE, NULL, err));
    tsr__nn_release(nn, &y);
    /* NHWC: the picture is the token sequence already. */
    tokens.w = h * w;
    tokens.h = 1;
    for (int i = 0; i < t->depth; i++) {
        const tsr__transformer_layer *layer = &t->layers[i];
        TSR_TRY(attend_self(nn, &tokens, t, layer, err));
        TSR_TRY(attend_text(nn, &tokens, t, layer, &text_kv[layer->context_slot], shared, err));
        TSR_TRY(feed_samples(nn, &tokens, layer, err));
    }
    tokens.h = h;
    tokens.w = w;
    TSR_TRY(tsr__nn_linear(nn, out, &tokens, t->proj_out, TSR__ACT_NONE, x, err));
done:
    tsr__nn_release(nn, &y);
    tsr__nn_release(nn, &tokens);
    tsr__nn_release(nn, x);
    return status;
}
