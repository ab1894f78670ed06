/* nn/nn.c - contexts, tensors, conversions and weights: the front of the operations that are not layers.
 *
 * Checks what callers pass; knows no back end but through the table. */
#include "nn/nn_priv.h"
#include "nn/nn_profile.h"
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SIDE = 1 << 24 };

int tsr__nn_has_bf16(void) {
    return tsr__nn_onednn.has_bf16();
}

tsr_status tsr__nn_new(tsr__nn **out, const tsr__nn_options *options, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__nn *nn = NULL;
    *out = NULL;
    if (options->threads < 0 || options->threads > 1024)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "%d threads: use 1 to 1024, or 0 for all", options->threads);
    const tsr__nn_backend *backend = &tsr__nn_onednn;
    TSR_ALLOC_ZERO(err, nn, 1);
    nn->precision = options->precision;
    nn->threads = options->threads ? options->threads : omp_get_max_threads();
    nn->kernels[TSR__F32] = tsr__kernels_f32();
    nn->kernels[TSR__BF16] = tsr__kernels_bf16_or_null();
    if (nn->precision == TSR__BF16 && !backend->has_bf16())
        TSR_FAIL(err, TSR_UNSUPPORTED, "this CPU has no bf16 arithmetic (avx512_bf16): use --precision f32");
    TSR_TRY(backend->open(nn, err));
    nn->backend = backend;
    *out = nn;
    nn = NULL;
done:
    free(nn);
    return status;
}

void tsr__nn_free(tsr__nn *nn) {
    if (!nn) return;
    nn->backend->close(nn);
    tsr__pool_trim(&nn->pool);
    tsr__profile_free(nn->profile);
    free(nn);
}

void tsr__nn_plan_only(tsr__nn *nn) {
    nn->plan = 1;
}

tsr__precision tsr__nn_precision(const tsr__nn *nn) {
    return nn->precision;
}
size_t tsr__nn_peak_bytes(const tsr__nn *nn) {
    return nn->pool.peak;
}
size_t tsr__nn_weight_bytes(const tsr__nn *nn) {
    return nn->weight_bytes;
}
size_t tsr__nn_held_bytes(const tsr__nn *nn) {
    return nn->weight_bytes + nn->pool.held - nn->pool.idle;
}
void tsr__nn_trim(tsr__nn *nn) {
    tsr__pool_trim(&nn->pool);
}
const char *tsr__nn_isa(const tsr__nn *nn) {
    return nn->kernels[nn->precision]->name;
}
int tsr__nn_threads(const tsr__nn *nn) {
    return nn->threads;
}

tsr_status tsr__nn_tensor_typed(tsr__nn *nn, tsr__tensor *out, int n, int h, int w, int c, tsr__precision type,
                                tsr_error *err) {
    memset(out, 0, sizeof *out);
    if (n < 1 || h < 1 || w < 1 || c < 1 || n > MAX_SIDE || h > MAX_SIDE || w > MAX_SIDE || c > MAX_SIDE)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "tensor of [%d, %d, %d, %d]: every side must be positive", n, h, w, c);
    size_t rows = (size_t)n * (size_t)h;
    if (rows > SIZE_MAX / 64 / ((size_t)w * (size_t)c))
        return tsr__fail(err, TSR_NO_MEMORY, "tensor of [%d, %d, %d, %d] is too large", n, h, w, c);
    size_t bytes = rows * (size_t)w * (size_t)c * tsr__type_size(type);
    void *data = tsr__pool_take(&nn->pool, bytes);
    if (!data) return tsr__fail(err, TSR_NO_MEMORY, "out of memory for a tensor of [%d, %d, %d, %d]", n, h, w, c);
    *out = (tsr__tensor){ data, n, h, w, c, (int)type };
    return TSR_OK;
}

tsr_status tsr__nn_tensor(tsr__nn *nn, tsr__tensor *out, int n, int h, int w, int c, tsr_error *err) {
    return tsr__nn_tensor_typed(nn, out, n, h, w, c, nn->precision, err);
}

void tsr__nn_release(tsr__nn *nn, tsr__tensor *tensor) {
    tsr__pool_give(&nn->pool, tensor->data);
    memset(tensor, 0, sizeof *tensor);
}

tsr_status tsr__nn_from_nchw(tsr__nn *nn, tsr__tensor *out, const float *nchw, int n, int c, int h, int w,
                             tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_TRY(tsr__nn_tensor(nn, out, n, h, w, c, err));
    double start = tsr__profile_start(nn);
    nn->backend->from_nchw(nn, out, nchw);
    tsr__profile_stop(nn, start, "from_nchw", 0, "%dx%dx%dx%d", n, h, w, c);
done:
    return status;
}

tsr_status tsr__nn_to_nchw(tsr__nn *nn, float *nchw, const tsr__tensor *x, tsr_error *err) {
    if (!x->data) return tsr__fail(err, TSR_BAD_ARGUMENT, "to_nchw of an empty tensor");
    double start = tsr__profile_start(nn);
    nn->backend->to_nchw(nn, nchw, x);
    tsr__profile_stop(nn, start, "to_nchw", 0, "%dx%dx%dx%d", x->n, x->h, x->w, x->c);
    return TSR_OK;
}

tsr_status tsr__nn_from_rows(tsr__nn *nn, tsr__tensor *out, const float *rows, int n, int tokens, int c,
                             tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_TRY(tsr__nn_tensor(nn, out, n, 1, tokens, c, err));
    nn->backend->from_rows(nn, out, rows);
done:
    return status;
}

tsr_status tsr__nn_to_rows(tsr__nn *nn, float *rows, const tsr__tensor *x, tsr_error *err) {
    if (!x->data) return tsr__fail(err, TSR_BAD_ARGUMENT, "to_rows of an empty tensor");
    nn->backend->to_rows(nn, rows, x);
    return TSR_OK;
}

/* --- weights ------------------------------------------------------------------------------------------------------ */
static tsr_status new_weight(tsr__nn *nn, tsr__nn_weight **out, const tsr__weight_spec *spec, tsr_error *err) {
    *out = NULL;
    if (spec->out_c < 1 || spec->in_c < 1 || spec->out_c > MAX_SIDE || spec->in_c > MAX_SIDE || spec->k < 0 ||
        spec->k > 64 || (!spec->fill && !spec->packed))
        return tsr__fail(err, TSR_BAD_ARGUMENT, "weight of [%d, %d, %d, %d]", spec->out_c, spec->in_c, spec->k,
                         spec->k);
    return nn->backend->weight_new(nn, out, spec, err);
}

static tsr_status new_conv(tsr__nn *nn, tsr__nn_weight **out, const tsr__weight_spec *spec, tsr_error *err) {
    *out = NULL;
    if (spec->k < 1 || (spec->stride != 1 && spec->stride != 2) || spec->pad_before < 0 || spec->pad_after < 0 ||
        spec->pad_before >= spec->k || spec->pad_after >= spec->k)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "convolution with kernel %d, stride %d, padding %d and %d", spec->k,
                         spec->stride, spec->pad_before, spec->pad_after);
    return new_weight(nn, out, spec, err);
}

tsr_status tsr__nn_linear_weight(tsr__nn *nn, tsr__nn_weight **out, int out_features, int in_features,
                                 tsr__fill_fn fill, void *user, const float *bias, tsr_error *err) {
    tsr__weight_spec spec = { out_features, in_features, 0, 1, 0, 0, fill, user, bias, NULL };
    return new_weight(nn, out, &spec, err);
}

tsr_status tsr__nn_conv_weight(tsr__nn *nn, tsr__nn_weight **out, int out_c, int in_c, int k, int stride,
                               int pad_before, int pad_after, tsr__fill_fn fill, void *user, const float *bias,
                               tsr_error *err) {
    tsr__weight_spec spec = { out_c, in_c, k, stride, pad_before, pad_after, fill, user, bias, NULL };
    return new_conv(nn, out, &spec, err);
}

tsr_status tsr__nn_weight_from_packed(tsr__nn *nn, tsr__nn_weight **out, const tsr__nn_shape *shape,
                                      const tsr__nn_packed *packed, const float *bias, tsr_error *err) {
    tsr__weight_spec spec = { shape->out_c,     shape->in_c, shape->k, shape->stride, shape->pad_before,
                              shape->pad_after, NULL,        NULL,     bias,          packed };
    return shape->k ? new_conv(nn, out, &spec, err) : new_weight(nn, out, &spec, err);
}

tsr_status tsr__nn_weight_packed(const tsr__nn *nn, const tsr__nn_weight *weight, tsr__nn_packed *out, tsr_error *err) {
    return nn->backend->weight_packed(nn, weight, out, err);
}

void tsr__nn_packing_here(tsr__nn_packing *out) {
    tsr__nn_onednn.packing(out);
}

void tsr__nn_weight_free(tsr__nn *nn, tsr__nn_weight *weight) {
    if (weight) nn->backend->weight_free(nn, weight);
}

tsr_status tsr__nn_timestep_embedding(tsr__nn *nn, tsr__tensor *out, const float *timesteps, int n, int dim,
                                      tsr_error *err) {
    tsr_status status = TSR_OK;
    float *values = NULL;
    memset(out, 0, sizeof *out);
    if (n < 1 || dim < 2 || dim % 2)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "timestep embedding of %d x %d: the size must be even", n, dim);
    TSR_ALLOC(err, values, (size_t)n * (size_t)dim);
    int half = dim / 2;
    for (int s = 0; s < n; s++)
        for (int i = 0; i < half; i++) {
            /* PyTorch computes the frequency and the angle in float32; the golden data holds those roundings. */
            float frequency = expf(-logf(10000.0f) * (float)i / (float)half);
            float angle = timesteps[s] * frequency;
            values[(size_t)s * (size_t)dim + (size_t)i] = (float)cos(angle);
            values[(size_t)s * (size_t)dim + (size_t)(half + i)] = (float)sin(angle);
        }
    TSR_TRY(tsr__nn_tensor(nn, out, n, 1, 1, dim, err));
    nn->backend->from_rows(nn, out, values);
done:
    free(values);
    return status;
}
