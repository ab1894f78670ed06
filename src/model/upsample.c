/* model/upsample.c - nearest doubling and a 3x3 convolution in 4/9 of the products.
 *
 * In the doubled picture neighbours repeat, so an output at (2i + a, 2j + b) reads only 2 x 2 places of the small one,
 * with weights that are sums of the 3 x 3. Along one axis, with w0 w1 w2:
 *   a = 0 reads i - 1, i      with w0, w1 + w2
 *   a = 1 reads i, i + 1      with w0 + w1, w2
 * All four (a, b) together are one 2 x 2 convolution of 4c channels over the small picture with a border of one zero,
 * [h + 1, w + 1, 4c]; the answer for (2i + a, 2j + b) stands at (i + a, j + b).
 *
 * A UNet on a picture of odd sides wants one row or column less than the double. Its last row (2h - 2, a = 0) must not see the
 * row that was cut off, which repeats row h - 1 under the weight w2. That share is what the same convolution answers at
 * (i = -1, a = 1) for a picture of row h - 1 alone, less the bias: it is taken off. Columns likewise; the corner was taken
 * off twice. */
#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "core/memory.h"
#include "model/upsample.h"

/* Serves the rows of the [4c, c, 2, 2] weight, folding one row [c, 3, 3] of the file at a time. */
typedef struct folding {
    const tsr__weights *weights;
    const tsr__tensor_view *view; /* [out, in, 3, 3] */
    size_t out, in, row;          /* next row of 4 out */
    float *source, *folded;       /* [c, 9], [c, 4] */
    size_t used;                  /* scalars of `folded` already served */
} folding;

/* w [3] by step -> two taps for output offset a */
static void fold(float *tap, const float *w, int step, int a) {
    tap[0] = a ? w[0] + w[step] : w[0];
    tap[1] = a ? w[2 * step] : w[step] + w[2 * step];
}

static tsr_status fold_row(folding *f, tsr_error *err) {
    size_t c = f->in, phase = f->row / f->out, from = f->row % f->out;
    int a = (int)(phase / 2), b = (int)(phase % 2);
    tsr_status status = tsr__tensor_part_to_f32(f->view, from * c * 9, c * 9, f->source, err);
    if (status != TSR_OK) return status;
    for (size_t i = 0; i < c; i++) {
        const float *w = f->source + 9 * i;
        float rows[2][3]; /* folded along y */
        for (int x = 0; x < 3; x++) {
            float taps[2];
            fold(taps, w + x, 3, a);
            rows[0][x] = taps[0];
            rows[1][x] = taps[1];
        }
        fold(f->folded + 4 * i, rows[0], 1, b);
        fold(f->folded + 4 * i + 2, rows[1], 1, b);
    }
    f->row++;
    f->used = 0;
    return TSR_OK;
}

static tsr_status read_folded(void *user, float *dst, size_t count, tsr_error *err) {
    folding *f = user;
    size_t whole = 4 * f->in, rows = 4 * f->out;
    while (count) {
        if (f->used == whole) {
            if (f->row == rows) return tsr__fail(err, TSR_BACKEND, "a weight was read beyond its end");
            tsr_status status = fold_row(f, err);
            if (status != TSR_OK) return status;
        }
        size_t take = whole - f->used < count ? whole - f->used : count;
        memcpy(dst, f->folded + f->used, take * sizeof *dst);
        f->used += take;
        dst += take;
        count -= take;
    }
    if (f->row == rows && f->weights) tsr__weights_release_pages(f->weights, f->view);
    return TSR_OK;
}

/* weights: where the view lies, or NULL; biases: [4 out] or NULL. */
static tsr_status fold_weight(tsr__nn *nn, tsr__nn_weight **out, const tsr__weights *weights,
                              const tsr__tensor_view *view, int out_c, int in_c, const float *biases, tsr_error *err) {
    tsr_status status = TSR_OK;
    folding f = {
        .weights = weights, .view = view, .out = (size_t)out_c, .in = (size_t)in_c, .used = 4 * (size_t)in_c
    };
    TSR_ALLOC(err, f.source, 9 * f.in);
    TSR_ALLOC(err, f.folded, 4 * f.in);
    TSR_TRY(tsr__nn_conv_weight(nn, out, 4 * out_c, in_c, 2, 1, 1, 1, read_folded, &f, biases, err));
done:
    free(f.source);
    free(f.folded);
    return status;
}

tsr_status tsr__upsample_weight(tsr__nn *nn, tsr__nn_weight **out, const float *weight, int out_c, int in_c,
                                const float *bias, tsr_error *err) {
    tsr_status status = TSR_OK;
    float *biases = NULL;
    tsr__tensor_view view = { .name = "", .dtype = TSR_DTYPE_F32, .rank = 1, .data = weight };
    view.count = (size_t)out_c * (size_t)in_c * 9;
    view.shape[0] = (int64_t)view.count;
    *out = NULL;
    if (bias) TSR_ALLOC(err, biases, 4 * out_c);
    for (int i = 0; bias && i < 4; i++) memcpy(biases + i * out_c, bias, (size_t)out_c * sizeof *bias);
    TSR_TRY(fold_weight(nn, out, NULL, &view, out_c, in_c, biases, err));
done:
    free(biases);
    return status;
}

tsr_status tsr__upsample_load(tsr__loader *loader, tsr__nn_weight **out, int channels, tsr__bias with_bias,
                              const char *name, tsr_error *err) {
    tsr_status status = TSR_OK;
    size_t c = (size_t)channels;
    const int64_t shape[4] = { channels, channels, 3, 3 };
    const tsr__tensor_view *view = NULL;
    float *bias = NULL, *biases = NULL;
    *out = NULL;
    TSR_TRY(tsr__load_shaped(loader, &view, tsr__name_of("%s.weight", name).text, 4, shape, err));
    if (with_bias == TSR__WITH_BIAS) {
        TSR_TRY(tsr__load_vector(loader, &bias, channels, tsr__name_of("%s.bias", name).text, err));
        TSR_ALLOC(err, biases, 4 * c);
    }
    loader->parameters += (int64_t)view->count;
    for (size_t i = 0; bias && i < 4; i++) memcpy(biases + i * c, bias, c * sizeof *bias);
    const tsr__nn_shape folded = { 4 * channels, channels, 2, 1, 1, 1 };
    TSR_TRY(tsr__load_packed(loader, out, &folded, view, biases, err));
    if (!*out) TSR_TRY(fold_weight(loader->nn, out, loader->weights, view, channels, channels, biases, err));
    tsr__weight_entry entry = { .weight = *out, .in_c = channels, .k = 3, .stride = 1, .upsample = 1 };
    tsr__name logged = tsr__name_of("%s", name);
    TSR_TRY(tsr__load_log(loader, &entry, 1, &logged, &channels, err));
done:
    free(bias);
    free(biases);
    return status;
}

/* One row of the doubled picture out of the four answers. y [n, h + 1, w + 1, 4c] */
static void deal_row(const tsr__tensor *out, const tsr__tensor *y, int sample, int row) {
    size_t scalar = out->dtype == TSR__BF16 ? 2 : 4, place = (size_t)out->c * scalar;
    int a = row & 1;
    const char *from =
        (const char *)y->data + ((size_t)sample * (size_t)y->h + (size_t)(row / 2 + a)) * (size_t)y->w * 4 * place;
    char *to = (char *)out->data + ((size_t)sample * (size_t)out->h + (size_t)row) * (size_t)out->w * place;
    for (int x = 0; x < out->w; x++) {
        int b = x & 1;
        memcpy(to + (size_t)x * place, from + ((size_t)(x / 2 + b) * 4 + (size_t)(2 * a + b)) * place, place);
    }
}

static float scalar_at(const tsr__tensor *t, size_t i) {
    float value;
    if (t->dtype != TSR__BF16) return ((const float *)t->data)[i];
    uint32_t bits = (uint32_t)((const uint16_t *)t->data)[i] << 16;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void add_scalar(tsr__tensor *t, size_t i, float added) {
    float value = scalar_at(t, i) + added;
    if (t->dtype != TSR__BF16) {
        ((float *)t->data)[i] = value;
        return;
    }
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    ((uint16_t *)t->data)[i] = (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16); /* to nearest even */
}

static size_t place_of(const tsr__tensor *t, int sample, int row, int column, int phase) {
    return ((((size_t)sample * (size_t)t->h + (size_t)row) * (size_t)t->w + (size_t)column) * 4 + (size_t)phase) *
           ((size_t)t->c / 4);
}

/* Adds sign * (edge - bias) for one answer of all channels; bias holds the answers of a picture of zeros. */
static void correct(tsr__tensor *y, size_t to, const tsr__tensor *edge, size_t from, const tsr__tensor *bias,
                    float sign) {
    for (size_t k = 0; k < (size_t)y->c / 4; k++)
        add_scalar(y, to + k, sign * (scalar_at(edge, from + k) - scalar_at(bias, k)));
}

/* The convolution over the part of x from (row, column) on: its last row, last column or corner. */
static tsr_status run_edge(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x, int row, int column,
                           const tsr__nn_weight *weight, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__tensor part = { 0 };
    size_t place = (size_t)x->c * (x->dtype == TSR__BF16 ? 2 : 4);
    TSR_TRY(tsr__nn_tensor(nn, &part, x->n, x->h - row, x->w - column, x->c, err));
    char *to = part.data;
    for (int s = 0; s < x->n; s++)
        for (int i = row; i < x->h; i++, to += (size_t)part.w * place)
            memcpy(to,
                   (const char *)x->data +
                       (((size_t)s * (size_t)x->h + (size_t)i) * (size_t)x->w + (size_t)column) * place,
                   (size_t)part.w * place);
    TSR_TRY(tsr__nn_conv2d(nn, out, &part, weight, NULL, NULL, err));
done:
    tsr__nn_release(nn, &part);
    return status;
}

/* As many samples as the picture has, because what is added beside the weight is counted by sample. */
static tsr_status run_zeros(tsr__nn *nn, tsr__tensor *out, int n, int channels, const tsr__nn_weight *weight,
                            tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__tensor zeros = { 0 };
    TSR_TRY(tsr__nn_tensor(nn, &zeros, n, 1, 1, channels, err));
    memset(zeros.data, 0, (size_t)n * (size_t)channels * (zeros.dtype == TSR__BF16 ? 2 : 4));
    TSR_TRY(tsr__nn_conv2d(nn, out, &zeros, weight, NULL, NULL, err));
done:
    tsr__nn_release(nn, &zeros);
    return status;
}

/* Takes off y what a cut last row (odd_h) and column (odd_w) had added to the answers before them. */
static tsr_status cut_edges(tsr__nn *nn, tsr__tensor *y, const tsr__tensor *x, int odd_h, int odd_w,
                            const tsr__nn_weight *weight, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__tensor bias = { 0 }, row = { 0 }, column = { 0 }, corner = { 0 };
    int h = x->h, w = x->w;
    TSR_TRY(run_zeros(nn, &bias, x->n, x->c, weight, err));
    if (odd_h) TSR_TRY(run_edge(nn, &row, x, h - 1, 0, weight, err));
    if (odd_w) TSR_TRY(run_edge(nn, &column, x, 0, w - 1, weight, err));
    if (odd_h && odd_w) TSR_TRY(run_edge(nn, &corner, x, h - 1, w - 1, weight, err));
    for (int s = 0; s < x->n; s++) {
        for (int j = 0; odd_h && j <= w; j++)
            for (int b = 0; b < 2; b++)
                correct(y, place_of(y, s, h - 1, j, b), &row, place_of(&row, s, 0, j, 2 + b), &bias, -1.0f);
        for (int i = 0; odd_w && i <= h; i++)
            for (int a = 0; a < 2; a++)
                correct(y, place_of(y, s, i, w - 1, 2 * a), &column, place_of(&column, s, i, 0, 2 * a + 1), &bias,
                        -1.0f);
        if (odd_h && odd_w)
            correct(y, place_of(y, s, h - 1, w - 1, 0), &corner, place_of(&corner, s, 0, 0, 3), &bias, 1.0f);
    }
done:
    tsr__nn_release(nn, &bias);
    tsr__nn_release(nn, &row);
    tsr__nn_release(nn, &column);
    tsr__nn_release(nn, &corner);
    return status;
}

tsr_status tsr__upsample_run(tsr__nn *nn, tsr__tensor *x, const tsr__nn_weight *weight, int height, int width,
                             tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__tensor y = { 0 }, big = { 0 };
    int odd_h = height != 2 * x->h, odd_w = width != 2 * x->w;
    TSR_TRY(tsr__nn_conv2d(nn, &y, x, weight, NULL, NULL, err));
    if (odd_h || odd_w) TSR_TRY(cut_edges(nn, &y, x, odd_h, odd_w, weight, err));
    int n = x->n, c = x->c;
    tsr__nn_release(nn, x);
    TSR_TRY(tsr__nn_tensor(nn, &big, n, height, width, c, err));
#pragma omp parallel for num_threads(tsr__nn_threads(nn)) if (big.h > 16)
    for (int i = 0; i < big.n * big.h; i++) deal_row(&big, &y, i / big.h, i % big.h);
    *x = big;
done:
    tsr__nn_release(nn, &y);
    return status;
}
