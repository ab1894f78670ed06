/* model/unet.c - runs the UNet: time, text, down, middle, up. Knows no sampler and no prompt.
 *
 * Memory: an activation is released as soon as its last reader is done; what the decoder half reads again waits in
 * `skips`. Text keys and values are made once a prompt (tsr__unet_context), the network only reads them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "core/memory.h"
#include "model/unet_priv.h"
#include "model/upsample.h"

#define MAX_SIDE   8192 /* latent cells */
#define MAX_BATCH  1024
#define MAX_TOKENS 65536

tsr_status tsr__unet_new(tsr__unet **out, tsr__nn *nn, const tsr__weights *weights, const char *prefix,
                         const char *config, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__unet *unet = NULL;
    *out = NULL;
    TSR_ALLOC_ZERO(err, unet, 1);
    unet->nn = nn;
    TSR_TRY(tsr__unet_load(unet, weights, prefix, config, err));
    *out = unet;
    unet = NULL;
done:
    tsr__unet_free(unet);
    return status;
}

void tsr__unet_free(tsr__unet *unet) {
    if (!unet) return;
    for (int i = 0; i < unet->count; i++) {
        tsr__unet_block *block = &unet->blocks[i];
        tsr__res_clear(unet->nn, &block->res);
        tsr__transformer_clear(unet->nn, &block->transformer);
        tsr__nn_weight_free(unet->nn, block->down);
        tsr__nn_weight_free(unet->nn, block->up);
    }
    free(unet->blocks);
    tsr__weight_log_clear(&unet->log);
    tsr__nn_weight *weights[] = { unet->conv_in,   unet->time_in,  unet->time_out,        unet->label_in,
                                  unet->label_out, unet->conv_out, unet->time_projections };
    for (size_t w = 0; w < sizeof weights / sizeof *weights; w++) tsr__nn_weight_free(unet->nn, weights[w]);
    tsr__norm_clear(&unet->norm_out);
    free(unet);
}

int tsr__unet_in_channels(const tsr__unet *unet) {
    return unet->in_channels;
}

int tsr__unet_out_channels(const tsr__unet *unet) {
    return unet->out_channels;
}

int tsr__unet_context_width(const tsr__unet *unet) {
    return unet->context_width;
}

int tsr__unet_multiple(const tsr__unet *unet) {
    return 1 << unet->halvings;
}

int tsr__unet_label_width(const tsr__unet *unet) {
    return unet->label_width;
}

const tsr__weight_log *tsr__unet_weights(const tsr__unet *unet) {
    return &unet->log;
}

int64_t tsr__unet_parameters(const tsr__unet *unet) {
    return unet->parameters;
}

/* --- the text's side of cross-attention ----------------------------------------------------------------------------- */

struct tsr__unet_context {
    tsr__nn *nn;
    int tokens, slots;
    tsr__tensor *kv; /* [1, 1, tokens, 2c] a cross-attention; of a coupled context: its first text's, borrowed */
    int parts;       /* coupled: texts; else 0 */
    int h, w, levels;
    const tsr__tensor **part_kv; /* [parts] */
    float **weights;             /* [levels * parts], at h x w and its halvings */
};

tsr_status tsr__unet_context_new(tsr__unet_context **out, tsr__unet *unet, const float *rows, int tokens,
                                 tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__unet_context *context = NULL;
    tsr__tensor text = { 0 };
    *out = NULL;
    if (tokens < 1 || tokens > MAX_TOKENS)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "a text of %d tokens: 1 to %d", tokens, MAX_TOKENS);
    TSR_ALLOC_ZERO(err, context, 1);
    context->nn = unet->nn;
    context->tokens = tokens;
    TSR_ALLOC_ZERO(err, context->kv, unet->slots + 1);
    context->slots = unet->slots;
    if (unet->slots) TSR_TRY(tsr__nn_from_rows(unet->nn, &text, rows, 1, tokens, unet->context_width, err));
    for (int b = 0; b < unet->count; b++) {
        const tsr__transformer *t = &unet->blocks[b].transformer;
        for (int i = 0; i < t->depth; i++)
            TSR_TRY(tsr__nn_linear(unet->nn, &context->kv[t->layers[i].context_slot], &text, t->layers[i].text_kv,
                                   TSR__ACT_NONE, NULL, err));
    }
    *out = context;
    context = NULL;
done:
    tsr__nn_release(unet->nn, &text);
    tsr__unet_context_free(context);
    return status;
}

static int level_side(int side, int level) {
    return (side + (1 << level) - 1) >> level; /* a convolution of stride 2 rounds up */
}

/* Averages of the 2 x 2 cells behind each cell of the next level; at odd ends of those that exist. */
static void halve(float *out, const float *in, int h, int w) {
    int half_h = (h + 1) / 2, half_w = (w + 1) / 2;
    for (int y = 0; y < half_h; y++)
        for (int x = 0; x < half_w; x++) {
            int x1 = 2 * x + 1 < w ? 2 * x + 1 : 2 * x, y1 = 2 * y + 1 < h ? 2 * y + 1 : 2 * y;
            const float *a = in + (size_t)(2 * y) * (size_t)w, *b = in + (size_t)y1 * (size_t)w;
            out[(size_t)y * (size_t)half_w + (size_t)x] = 0.25f * ((a[2 * x] + a[x1]) + (b[2 * x] + b[x1]));
        }
}

tsr_status tsr__unet_context_couple(tsr__unet_context **out, tsr__unet *unet, tsr__unet_context *const *contexts,
                                    const float *const *weights, int n, int h, int w, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__unet_context *context = NULL;
    *out = NULL;
    if (n < 1 || h < 1 || w < 1 || h > MAX_SIDE || w > MAX_SIDE)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "%d texts coupled on %d x %d cells", n, w, h);
    TSR_ALLOC_ZERO(err, context, 1);
    context->nn = unet->nn;
    context->tokens = contexts[0]->tokens;
    context->slots = contexts[0]->slots;
    context->kv = contexts[0]->kv;
    context->parts = n;
    context->h = h;
    context->w = w;
    TSR_ALLOC_ZERO(err, context->part_kv, n);
    TSR_ALLOC_ZERO(err, context->weights, (unet->halvings + 1) * n);
    context->levels = unet->halvings + 1;
    for (int i = 0; i < context->levels * n; i++) {
        int level = i / n, high = level_side(h, level), wide = level_side(w, level);
        TSR_ALLOC(err, context->weights[i], (size_t)high * (size_t)wide);
        context->part_kv[i % n] = contexts[i % n]->kv;
        if (level == 0) memcpy(context->weights[i], weights[i], (size_t)h * (size_t)w * sizeof(float));
        else halve(context->weights[i], context->weights[i - n], level_side(h, level - 1), level_side(w, level - 1));
    }
    *out = context;
    context = NULL;
done:
    tsr__unet_context_free(context);
    return status;
}

void tsr__unet_context_free(tsr__unet_context *context) {
    if (!context) return;
    for (int i = 0; i < context->slots && !context->parts; i++) tsr__nn_release(context->nn, &context->kv[i]);
    if (!context->parts) free(context->kv);
    for (int i = 0; i < context->levels * context->parts; i++) free(context->weights[i]);
    free(context->part_kv);
    free(context->weights);
    free(context);
}

int tsr__unet_context_tokens(const tsr__unet_context *context) {
    return context->tokens;
}

/* --- one run ---------------------------------------------------------------------------------------------------------- */

static tsr_status check_sizes(const tsr__unet *unet, int n, int h, int w, tsr__unet_context *const *contexts,
                              tsr_error *err) {
    if (n < 1 || n > MAX_BATCH || h < 1 || w < 1 || h > MAX_SIDE || w > MAX_SIDE)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "a latent batch of %d, %d x %d cells: 1 to %d and 1 to %d cells a side",
                         n, w, h, MAX_BATCH, MAX_SIDE);
    for (int i = 0; i < n; i++) {
        if (contexts[i]->slots != unet->slots)
            return tsr__fail(err, TSR_BAD_ARGUMENT, "a text context made for another UNet");
        if (contexts[i]->parts && (contexts[i]->h != h || contexts[i]->w != w))
            return tsr__fail(err, TSR_BAD_ARGUMENT, "texts coupled on %d x %d cells, the latent has %d x %d",
                             contexts[i]->w, contexts[i]->h, w, h);
        if (contexts[i]->tokens != contexts[0]->tokens)
            return tsr__fail(err, TSR_BAD_ARGUMENT, "texts of %d and %d tokens in one batch: they must be equally long",
                             contexts[0]->tokens, contexts[i]->tokens);
    }
    return TSR_OK;
}

/* Puts the samples' keys and values side by side; 77 tokens a sample are next to nothing beside the pictures. */
static tsr_status join_contexts(tsr__unet_pass *r, tsr__unet_context *const *contexts, tsr_error *err) {
    tsr_status status = TSR_OK;
    r->kv = contexts[0]->kv;
    r->contexts = contexts;
    for (int i = 0; i < r->n && !r->shared; i++)
        if (contexts[i]->parts) TSR_ALLOC_ZERO(err, r->shared, r->n);
    if (r->n == 1) return TSR_OK;
    TSR_ALLOC_ZERO(err, r->kv_owned, r->unet->slots + 1);
    for (int s = 0; s < r->unet->slots; s++) {
        const tsr__tensor *one = &contexts[0]->kv[s];
        size_t bytes = (size_t)one->w * (size_t)one->c * (one->dtype == TSR__BF16 ? 2 : 4);
        TSR_TRY(tsr__nn_tensor(r->nn, &r->kv_owned[s], r->n, 1, one->w, one->c, err));
        for (int i = 0; i < r->n; i++)
            memcpy((char *)r->kv_owned[s].data + (size_t)i * bytes, contexts[i]->kv[s].data, bytes);
    }
    r->kv = r->kv_owned;
done:
    return status;
}

/* time = label_emb(label) + time: SDXL's sizes and pooled text. */
static tsr_status add_labels(tsr__unet_pass *r, tsr__tensor *time, const float *const *labels, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__unet *unet = r->unet;
    size_t width = (size_t)unet->label_width;
    float *rows = NULL;
    tsr__tensor in = { 0 }, hidden = { 0 }, sum = { 0 };
    TSR_ALLOC(err, rows, (size_t)r->n * width);
    for (int i = 0; i < r->n; i++) memcpy(rows + (size_t)i * width, labels[i], width * sizeof *rows);
    TSR_TRY(tsr__nn_from_rows(r->nn, &in, rows, r->n, 1, unet->label_width, err));
    TSR_TRY(tsr__nn_linear(r->nn, &hidden, &in, unet->label_in, TSR__ACT_SILU, NULL, err));
    TSR_TRY(tsr__nn_linear(r->nn, &sum, &hidden, unet->label_out, TSR__ACT_NONE, time, err));
    tsr__nn_release(r->nn, time);
    *time = sum;
    memset(&sum, 0, sizeof sum);
done:
    tsr__nn_release(r->nn, &in);
    tsr__nn_release(r->nn, &hidden);
    tsr__nn_release(r->nn, &sum);
    free(rows);
    return status;
}

/* SiLU(time_embed(t) + label_emb(label)), then every residual block's projection of it in one product. */
static tsr_status embed_time(tsr__unet_pass *r, const float *timesteps, const float *const *labels, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__unet *unet = r->unet;
    tsr__tensor waves = { 0 }, hidden = { 0 }, time = { 0 }, adds = { 0 };
    TSR_ALLOC(err, r->adds, (size_t)r->n * (size_t)unet->add_width);
    TSR_ALLOC(err, r->add, (size_t)r->n * (size_t)unet->add_width);
    TSR_TRY(tsr__nn_timestep_embedding(r->nn, &waves, timesteps, r->n, unet->model_channels, err));
    TSR_TRY(tsr__nn_linear(r->nn, &hidden, &waves, unet->time_in, TSR__ACT_SILU, NULL, err));
    const int alone = !unet->label_width && !r->time_more;
    TSR_TRY(tsr__nn_linear(r->nn, &time, &hidden, unet->time_out, alone ? TSR__ACT_SILU : TSR__ACT_NONE, r->time_more,
                           err));
    if (unet->label_width) TSR_TRY(add_labels(r, &time, labels, err));
    if (!alone) TSR_TRY(tsr__nn_activate(r->nn, &time, TSR__ACT_SILU, err));
    TSR_TRY(tsr__nn_linear(r->nn, &adds, &time, unet->time_projections, TSR__ACT_NONE, NULL, err));
    TSR_TRY(tsr__nn_to_rows(r->nn, r->adds, &adds, err));
done:
    tsr__nn_release(r->nn, &waves);
    tsr__nn_release(r->nn, &hidden);
    tsr__nn_release(r->nn, &time);
    tsr__nn_release(r->nn, &adds);
    return status;
}

static const float *block_add(tsr__unet_pass *r, const tsr__unet_block *block) {
    size_t c = (size_t)block->res.out_channels;
    for (int i = 0; i < r->n; i++)
        memcpy(r->add + (size_t)i * c, r->adds + (size_t)i * (size_t)r->unet->add_width + block->add_offset,
               c * sizeof *r->add);
    return r->add;
}

/* The shared texts' weights at the size of x. */
static const tsr__shared_text *shared_at(tsr__unet_pass *r, const tsr__tensor *x) {
    for (int i = 0; r->shared && i < r->n; i++) {
        const tsr__unet_context *context = r->contexts[i];
        int level = 0;
        if (!context->parts) continue;
        while (level + 1 < context->levels &&
               (level_side(context->h, level) > x->h || level_side(context->w, level) > x->w))
            level++;
        r->shared[i].parts = context->parts;
        r->shared[i].kv = context->part_kv;
        r->shared[i].weights = (const float *const *)(context->weights + (size_t)level * (size_t)context->parts);
    }
    return r->shared;
}

/* x is released when take says so. */
static tsr_status run_block(tsr__unet_pass *r, tsr__tensor *out, tsr__tensor *x, int take, const tsr__unet_block *block,
                            tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__tensor y = { 0 };
    memset(out, 0, sizeof *out);
    if (block->down) return tsr__nn_conv2d(r->nn, out, x, block->down, NULL, NULL, err);
    TSR_TRY(tsr__res_run(r->nn, &y, x, take, &block->res, block_add(r, block), err));
    if (block->has_transformer) {
        tsr__tensor res = y;
        memset(&y, 0, sizeof y);
        TSR_TRY(tsr__transformer_run(r->nn, &y, &res, &block->transformer, r->kv, shared_at(r, &res), err));
    }
    if (block->up) { /* to the size of the skip it will stand beside */
        const tsr__tensor *skip = r->depth > 0 ? &r->skips[r->depth - 1] : NULL;
        if (!skip || (skip->h + 1) / 2 != y.h || (skip->w + 1) / 2 != y.w)
            TSR_FAIL(err, TSR_UNSUPPORTED, "a UNet that doubles a picture where it did not halve one");
        TSR_TRY(tsr__upsample_run(r->nn, &y, block->up, skip->h, skip->w, err));
    }
    *out = y;
    memset(&y, 0, sizeof y);
done:
    tsr__nn_release(r->nn, &y);
    return status;
}

/* --- what control networks add ------------------------------------------------------------------------------------------ */
/* to[sample] += strength x[i], rows of samples. */
static tsr_status add_samples(tsr__unet_pass *r, tsr__tensor *to, const tsr__tensor *x,
                              const tsr__unet_control *control, tsr_error *err) {
    tsr_status status = TSR_OK;
    float *weights = NULL;
    size_t rows = (size_t)to->h * (size_t)to->w, bytes = rows * (size_t)to->c * (to->dtype == TSR__BF16 ? 2 : 4);
    if (x->n < control->m || x->h != to->h || x->w != to->w || x->c != to->c || x->dtype != to->dtype)
        TSR_FAIL(err, TSR_BAD_ARGUMENT,
                 "the control network gives %d x %d x %d values where the UNet has %d x %d x %d: it is for another "
                 "family of models",
                 x->h, x->w, x->c, to->h, to->w, to->c);
    TSR_ALLOC(err, weights, rows);
    for (int i = 0; i < control->m; i++) {
        if (control->samples[i] < 0 || control->samples[i] >= to->n)
            TSR_FAIL(err, TSR_BAD_ARGUMENT, "control of sample %d in a batch of %d", control->samples[i], to->n);
        tsr__tensor sample = *to, added = *x;
        sample.n = added.n = 1;
        sample.data = (char *)to->data + (size_t)control->samples[i] * bytes;
        added.data = (char *)x->data + (size_t)i * bytes;
        for (size_t k = 0; k < rows; k++) weights[k] = control->strengths[i];
        TSR_TRY(tsr__nn_weigh_rows(r->nn, &sample, &added, weights, err));
    }
done:
    free(weights);
    return status;
}

/* Adds tensor `index` of all controls of one place. */
static tsr_status add_controls(tsr__unet_pass *r, tsr__tensor *to, tsr__control_place place, int index,
                               tsr_error *err) {
    for (int i = 0; i < r->n_controls; i++) {
        const tsr__unet_control *control = &r->controls[i];
        if (control->place != place || index >= control->count || !control->tensors[index].data) continue;
        tsr_status status = add_samples(r, to, &control->tensors[index], control, err);
        if (status != TSR_OK) return status;
    }
    return TSR_OK;
}

/* --- the halves ------------------------------------------------------------------------------------------------------------ */
tsr_status tsr__unet_pass_encode(tsr__unet_pass *r, const tsr__tensor *x, const tsr__tensor *hint, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__unet *unet = r->unet;
    tsr__tensor next = { 0 };
    TSR_TRY(tsr__nn_conv2d(r->nn, &r->skips[r->depth++], x, unet->conv_in, NULL, hint, err));
    TSR_TRY(add_controls(r, &r->skips[0], TSR__CONTROL_INPUTS, 0, err));
    for (int i = 0; i < unet->inputs; i++) {
        TSR_TRY(run_block(r, &r->skips[r->depth], &r->skips[r->depth - 1], 0, &unet->blocks[i], err));
        r->depth++;
        TSR_TRY(add_controls(r, &r->skips[r->depth - 1], TSR__CONTROL_INPUTS, i + 1, err));
    }
    TSR_TRY(run_block(r, &next, &r->skips[r->depth - 1], 0, &unet->blocks[unet->inputs], err));
    TSR_TRY(run_block(r, &r->middle, &next, 1, &unet->blocks[unet->inputs + 1], err));
    for (int i = 0; i < r->depth; i++) TSR_TRY(add_controls(r, &r->skips[i], TSR__CONTROL_SKIPS, i, err));
    TSR_TRY(add_controls(r, &r->middle, TSR__CONTROL_SKIPS, r->depth, err));
    TSR_TRY(add_controls(r, &r->middle, TSR__CONTROL_INPUTS, r->depth, err));
done:
    tsr__nn_release(r->nn, &next);
    return status;
}

/* out gets the last activation before the final norm. */
static tsr_status decode(tsr__unet_pass *r, tsr__tensor *out, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__unet *unet = r->unet;
    tsr__tensor y = r->middle, joined = { 0 };
    memset(&r->middle, 0, sizeof r->middle);
    memset(out, 0, sizeof *out);
    for (int i = 0; i < unet->outputs; i++) {
        tsr__tensor *skip = &r->skips[--r->depth];
        TSR_TRY(tsr__nn_concat(r->nn, &joined, &y, skip, err));
        tsr__nn_release(r->nn, &y);
        tsr__nn_release(r->nn, skip);
        TSR_TRY(run_block(r, &y, &joined, 1, &unet->blocks[unet->inputs + 2 + i], err));
    }
    *out = y;
    memset(&y, 0, sizeof y);
done:
    tsr__nn_release(r->nn, &y);
    tsr__nn_release(r->nn, &joined);
    return status;
}

tsr_status tsr__unet_pass_begin(tsr__unet_pass *r, int h, int w, const float *timesteps,
                                tsr__unet_context *const *contexts, const float *const *labels, tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_TRY(check_sizes(r->unet, r->n, h, w, contexts, err));
    if (r->unet->label_width && !labels)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "this UNet needs a second conditioning vector (SDXL's pooled text and sizes)");
    TSR_TRY(join_contexts(r, contexts, err));
    TSR_TRY(embed_time(r, timesteps, labels, err));
done:
    return status;
}

void tsr__unet_pass_end(tsr__unet_pass *r) {
    for (int i = 0; i < TSR__UNET_MAX_BLOCKS; i++) tsr__nn_release(r->nn, &r->skips[i]);
    tsr__nn_release(r->nn, &r->middle);
    for (int s = 0; r->kv_owned && s < r->unet->slots; s++) tsr__nn_release(r->nn, &r->kv_owned[s]);
    free(r->kv_owned);
    free(r->shared);
    free(r->adds);
    free(r->add);
}

tsr_status tsr__unet_run_controlled(tsr__unet *unet, float *out, const float *x, int n, int h, int w,
                                    const float *timesteps, tsr__unet_context *const *contexts,
                                    const float *const *labels, const tsr__unet_control *controls, int n_controls,
                                    tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__unet_pass r = { .unet = unet, .nn = unet->nn, .n = n, .controls = controls, .n_controls = n_controls };
    tsr__tensor in = { 0 }, y = { 0 }, normed = { 0 }, result = { 0 };
    TSR_TRY(tsr__unet_pass_begin(&r, h, w, timesteps, contexts, labels, err));
    TSR_TRY(tsr__nn_from_nchw(r.nn, &in, x, n, unet->in_channels, h, w, err));
    TSR_TRY(tsr__unet_pass_encode(&r, &in, NULL, err));
    TSR_TRY(decode(&r, &y, err));
    TSR_TRY(tsr__norm_group(r.nn, &normed, &y, &unet->norm_out, 1e-5f, 1, err));
    TSR_TRY(tsr__nn_conv2d(r.nn, &result, &normed, unet->conv_out, NULL, NULL, err));
    TSR_TRY(tsr__nn_to_nchw(r.nn, out, &result, err));
    for (size_t i = 0, count = (size_t)n * (size_t)unet->out_channels * (size_t)h * (size_t)w; i < count; i++)
        if (!isfinite(out[i]))
            TSR_FAIL(err, TSR_NOT_FINITE,
                     "the UNet returned NaN or infinity: try --precision f32 or another checkpoint");
done:
    tsr__nn_release(r.nn, &in);
    tsr__nn_release(r.nn, &y);
    tsr__nn_release(r.nn, &normed);
    tsr__nn_release(r.nn, &result);
    tsr__unet_pass_end(&r);
    return status;
}

tsr_status tsr__unet_run(tsr__unet *unet, float *out, const float *x, int n, int h, int w, const float *timesteps,
                         tsr__unet_context *const *contexts, const float *const *labels, tsr_error *err) {
    return tsr__unet_run_controlled(unet, out, x, n, h, w, timesteps, contexts, labels, NULL, 0, err);
}
