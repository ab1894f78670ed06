/* nn/nn_front.c - the layers: checks shapes, makes the result, measures, and calls the back end. */
#include "nn/nn_priv.h"
#include "nn/nn_profile.h"
#include <string.h>

static tsr_status check_type(const tsr__nn *nn, const char *what, const tsr__tensor *x, tsr_error *err) {
    if (x->data && x->dtype == (int)nn->precision) return TSR_OK;
    return tsr__fail(err, TSR_BAD_ARGUMENT, "%s: the input is %s", what, x->data ? "of another precision" : "empty");
}

static int same_shape(const tsr__tensor *a, const tsr__tensor *b) {
    return a->n == b->n && a->h == b->h && a->w == b->w && a->c == b->c && a->dtype == b->dtype;
}

static tsr_status check_residual(const char *what, const tsr__tensor *residual, int n, int h, int w, int c, int dtype,
                                 tsr_error *err) {
    tsr__tensor want = { NULL, n, h, w, c, dtype };
    if (!residual || (residual->data && same_shape(residual, &want))) return TSR_OK;
    return tsr__fail(err, TSR_BAD_ARGUMENT, "%s: residual is [%d, %d, %d, %d], the result [%d, %d, %d, %d]", what,
                     residual->n, residual->h, residual->w, residual->c, n, h, w, c);
}

/* Leaves *out released when the back end failed. */
static tsr_status finish(tsr__nn *nn, tsr__tensor *out, tsr_status status) {
    if (status != TSR_OK) tsr__nn_release(nn, out);
    return status;
}

tsr_status tsr__nn_linear(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x, const tsr__nn_weight *w, tsr__act act,
                          const tsr__tensor *residual, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__weight_spec *spec = nn->backend->weight_spec(w);
    tsr__tensor gained = { 0 };
    memset(out, 0, sizeof *out);
    TSR_TRY(check_type(nn, "linear", x, err));
    if (x->c != spec->in_c || spec->k > 1 || spec->stride != 1)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "linear: input has %d channels, the weight is [%d, %d, kernel %d]", x->c,
                 spec->out_c, spec->in_c, spec->k);
    TSR_TRY(check_residual("linear", residual, x->n, x->h, x->w, spec->out_c, x->dtype, err));
    TSR_TRY(tsr__nn_tensor(nn, out, x->n, x->h, x->w, spec->out_c, err));
    int terms = tsr__terms_concern(nn, w), late = terms & TSR__TERMS_GAIN || (terms && act != TSR__ACT_NONE);
    if (terms & TSR__TERMS_INPUT) TSR_TRY(finish(nn, out, tsr__terms_input(nn, &gained, x, w, err)));
    const tsr__tensor *in = gained.data ? &gained : x;
    double start = tsr__profile_start(nn);
    TSR_TRY(
        finish(nn, out, nn->backend->linear(nn, out, in, w, late ? TSR__ACT_NONE : act, late ? NULL : residual, err)));
    double rows = (double)tsr__tensor_rows(x);
    tsr__profile_stop(nn, start, "linear", 2 * rows * spec->in_c * spec->out_c, "%.0f x %d -> %d%s%s", rows, spec->in_c,
                      spec->out_c, act ? " act" : "", residual ? " res" : "");
    if (terms) TSR_TRY(finish(nn, out, tsr__terms_apply(nn, out, x, w, err)));
    if (late) nn->backend->activate(nn, out, act);
    if (late && residual) nn->backend->add(nn, out, residual);
done:
    tsr__nn_release(nn, &gained);
    return status;
}

static tsr_status convolve(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x, const tsr__nn_weight *w,
                           const float *channel_add, const tsr__tensor *residual, tsr__act act, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__weight_spec *spec = nn->backend->weight_spec(w);
    tsr__tensor gained = { 0 };
    memset(out, 0, sizeof *out);
    TSR_TRY(check_type(nn, "convolution", x, err));
    int grown = spec->pad_before + spec->pad_after - spec->k;
    if (x->c != spec->in_c || spec->k < 1 || x->h + grown < 0 || x->w + grown < 0)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "convolution: input [%d, %d, %d, %d], the weight is [%d, %d, %d, %d]", x->n,
                 x->h, x->w, x->c, spec->out_c, spec->in_c, spec->k, spec->k);
    int oh = (x->h + grown) / spec->stride + 1, ow = (x->w + grown) / spec->stride + 1;
    TSR_TRY(check_residual("convolution", residual, x->n, oh, ow, spec->out_c, x->dtype, err));
    TSR_TRY(tsr__nn_tensor(nn, out, x->n, oh, ow, spec->out_c, err));
    int terms = tsr__terms_concern(nn, w), bare = terms & TSR__TERMS_GAIN,
        late = bare || (terms && act != TSR__ACT_NONE);
    if (terms & TSR__TERMS_INPUT) TSR_TRY(finish(nn, out, tsr__terms_input(nn, &gained, x, w, err)));
    double start = tsr__profile_start(nn);
    TSR_TRY(finish(nn, out,
                   nn->backend->conv(nn, out, gained.data ? &gained : x, w, bare ? NULL : channel_add,
                                     bare ? NULL : residual, late ? TSR__ACT_NONE : act, err)));
    double work = 2.0 * (double)tsr__tensor_count(out) * spec->in_c * spec->k * spec->k;
    tsr__profile_stop(nn, start, "conv", work, "%dx%dx%dx%d -> %d, k%d s%d%s%s%s", x->n, x->h, x->w, x->c, spec->out_c,
                      spec->k, spec->stride, channel_add ? " add" : "", residual ? " res" : "", act ? " act" : "");
    if (terms) TSR_TRY(finish(nn, out, tsr__terms_apply(nn, out, x, w, err)));
    if (bare && channel_add) TSR_TRY(finish(nn, out, tsr__terms_add_channels(nn, out, channel_add, err)));
    if (bare && residual) nn->backend->add(nn, out, residual);
    if (late) nn->backend->activate(nn, out, act);
done:
    tsr__nn_release(nn, &gained);
    return status;
}

tsr_status tsr__nn_conv2d(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x, const tsr__nn_weight *w,
                          const float *channel_add, const tsr__tensor *residual, tsr_error *err) {
    return convolve(nn, out, x, w, channel_add, residual, TSR__ACT_NONE, err);
}

tsr_status tsr__nn_conv2d_act(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x, const tsr__nn_weight *w,
                              const tsr__tensor *residual, tsr__act act, tsr_error *err) {
    return convolve(nn, out, x, w, NULL, residual, act, err);
}

tsr_status tsr__nn_group_norm(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x, int groups, float eps,
                              const float *gamma, const float *beta, int silu, tsr_error *err) {
    tsr_status status = TSR_OK;
    memset(out, 0, sizeof *out);
    TSR_TRY(check_type(nn, "group norm", x, err));
    if (groups < 1 || x->c % groups)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "group norm: %d channels do not divide into %d groups", x->c, groups);
    TSR_TRY(tsr__nn_tensor(nn, out, x->n, x->h, x->w, x->c, err));
    tsr__norm_call call = { groups, eps, gamma, beta, silu };
    double start = tsr__profile_start(nn);
    TSR_TRY(finish(nn, out,
                   tsr__terms_concern(nn, gamma) ? tsr__terms_norm(nn, out, x, &call, err)
                                                 : nn->backend->group_norm(nn, out, x, &call, err)));
    tsr__profile_stop(nn, start, "group_norm", 0, "%dx%dx%dx%d", x->n, x->h, x->w, x->c);
done:
    return status;
}

tsr_status tsr__nn_layer_norm(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x, float eps, const float *gamma,
                              const float *beta, tsr_error *err) {
    tsr_status status = TSR_OK;
    memset(out, 0, sizeof *out);
    TSR_TRY(check_type(nn, "layer norm", x, err));
    TSR_TRY(tsr__nn_tensor(nn, out, x->n, x->h, x->w, x->c, err));
    tsr__norm_call call = { 0, eps, gamma, beta, 0 };
    double start = tsr__profile_start(nn);
    if (tsr__terms_concern(nn, gamma)) TSR_TRY(finish(nn, out, tsr__terms_norm(nn, out, x, &call, err)));
    else nn->backend->layer_norm(nn, out, x, &call);
    tsr__profile_stop(nn, start, "layer_norm", 0, "%dx%dx%dx%d", x->n, x->h, x->w, x->c);
done:
    return status;
}

static tsr_status check_view(const tsr__nn *nn, const tsr__token_view *view, const char *name, int n, int width,
                             tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_TRY(check_type(nn, "attention", view->x, err));
    size_t count = tsr__tensor_count(view->x);
    if (view->tokens < 1 || view->row_stride < 1 || view->offset < 0 || view->offset > view->row_stride - width ||
        (size_t)n * (size_t)view->tokens > count / (size_t)view->row_stride)
        TSR_FAIL(err, TSR_BAD_ARGUMENT,
                 "attention: %s view of %d x %d rows of %d at offset %d, stride %d leaves its tensor of %zu elements",
                 name, n, view->tokens, width, view->offset, view->row_stride, count);
done:
    return status;
}

tsr_status tsr__nn_attention(tsr__nn *nn, tsr__tensor *out, tsr__token_view q, tsr__token_view k, tsr__token_view v,
                             int n, int heads, int head_dim, const float *mask, int causal, tsr_error *err) {
    tsr_status status = TSR_OK;
    memset(out, 0, sizeof *out);
    if (n < 1 || heads < 1 || head_dim < 1 || head_dim > (1 << 20) / heads || k.tokens != v.tokens)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "attention: %d samples, %d heads of %d, %d keys and %d values", n, heads,
                 head_dim, k.tokens, v.tokens);
    TSR_TRY(check_view(nn, &q, "query", n, heads * head_dim, err));
    TSR_TRY(check_view(nn, &k, "key", n, heads * head_dim, err));
    TSR_TRY(check_view(nn, &v, "value", n, heads * head_dim, err));
    TSR_TRY(tsr__nn_tensor(nn, out, n, 1, q.tokens, heads * head_dim, err));
    tsr__attention_call call = { out, q, k, v, n, heads, head_dim, mask, causal };
    double start = tsr__profile_start(nn);
    TSR_TRY(finish(nn, out, nn->backend->attention(nn, &call, err)));
    tsr__profile_stop(nn, start, "attention", 4.0 * n * heads * q.tokens * k.tokens * head_dim,
                      "%d x %d heads, %d x %d, d %d", n, heads, q.tokens, k.tokens, head_dim);
done:
    return status;
}

tsr_status tsr__nn_geglu(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x, tsr_error *err) {
    tsr_status status = TSR_OK;
    memset(out, 0, sizeof *out);
    TSR_TRY(check_type(nn, "geglu", x, err));
    if (x->c % 2) TSR_FAIL(err, TSR_BAD_ARGUMENT, "geglu: %d channels do not split in two", x->c);
    TSR_TRY(tsr__nn_tensor(nn, out, x->n, x->h, x->w, x->c / 2, err));
    double start = tsr__profile_start(nn);
    nn->backend->geglu(nn, out, x);
    tsr__profile_stop(nn, start, "geglu", 0, "%dx%dx%dx%d", x->n, x->h, x->w, x->c);
done:
    return status;
}

tsr_status tsr__nn_upsample2x(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x, tsr_error *err) {
    tsr_status status = TSR_OK;
    memset(out, 0, sizeof *out);
    TSR_TRY(check_type(nn, "upsample", x, err));
    if (x->h > (1 << 23) || x->w > (1 << 23)) TSR_FAIL(err, TSR_BAD_ARGUMENT, "upsample of %d x %d", x->h, x->w);
    TSR_TRY(tsr__nn_tensor(nn, out, x->n, 2 * x->h, 2 * x->w, x->c, err));
    double start = tsr__profile_start(nn);
    nn->backend->upsample2x(nn, out, x);
    tsr__profile_stop(nn, start, "upsample", 0, "%dx%dx%dx%d", x->n, x->h, x->w, x->c);
done:
    return status;
}

tsr_status tsr__nn_concat(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *a, const tsr__tensor *b, tsr_error *err) {
    tsr_status status = TSR_OK;
    memset(out, 0, sizeof *out);
    TSR_TRY(check_type(nn, "concat", a, err));
    TSR_TRY(check_type(nn, "concat", b, err));
    if (a->n != b->n || a->h != b->h || a->w != b->w)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "concat of [%d, %d, %d, %d] and [%d, %d, %d, %d]", a->n, a->h, a->w, a->c, b->n,
                 b->h, b->w, b->c);
    TSR_TRY(tsr__nn_tensor(nn, out, a->n, a->h, a->w, a->c + b->c, err));
    double start = tsr__profile_start(nn);
    nn->backend->concat(nn, out, a, b);
    tsr__profile_stop(nn, start, "concat", 0, "%dx%dx%dx%d", out->n, out->h, out->w, out->c);
done:
    return status;
}

tsr_status tsr__nn_add(tsr__nn *nn, tsr__tensor *inout, const tsr__tensor *x, tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_TRY(check_type(nn, "add", inout, err));
    TSR_TRY(check_residual("add", x, inout->n, inout->h, inout->w, inout->c, inout->dtype, err));
    double start = tsr__profile_start(nn);
    nn->backend->add(nn, inout, x);
    tsr__profile_stop(nn, start, "add", 0, "%dx%dx%dx%d", x->n, x->h, x->w, x->c);
done:
    return status;
}

tsr_status tsr__nn_weigh_rows(tsr__nn *nn, tsr__tensor *inout, const tsr__tensor *x, const float *weights,
                              tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_TRY(check_type(nn, "weigh_rows", inout, err));
    if (x) TSR_TRY(check_residual("weigh_rows", x, inout->n, inout->h, inout->w, inout->c, inout->dtype, err));
    double start = tsr__profile_start(nn);
    nn->backend->weigh_rows(nn, inout, x, weights);
    tsr__profile_stop(nn, start, "weigh_rows", 0, "%dx%dx%dx%d", inout->n, inout->h, inout->w, inout->c);
done:
    return status;
}

tsr_status tsr__nn_activate(tsr__nn *nn, tsr__tensor *inout, tsr__act act, tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_TRY(check_type(nn, "activation", inout, err));
    double start = tsr__profile_start(nn);
    nn->backend->activate(nn, inout, act);
    tsr__profile_stop(nn, start, "activate", 0, "%dx%dx%dx%d", inout->n, inout->h, inout->w, inout->c);
done:
    return status;
}

tsr_status tsr__nn_is_finite(tsr__nn *nn, const tsr__tensor *x, int *finite, tsr_error *err) {
    *finite = 0;
    if (!x->data) return tsr__fail(err, TSR_BAD_ARGUMENT, "is_finite of an empty tensor");
    *finite = nn->backend->is_finite(nn, x);
    return TSR_OK;
}
