/* model/upsample.c - nearest doubling and a 3x3 convolution in 4/9 of the products.
 *
 * In the doubled picture neighbours repeat, so an output at (2i + a, 2j + b) reads only 2 x 2 places of the small one,
 * with weights that are sums of the 3 x 3. Along one axis, with w0 w1 w2:
 *   a = 0 reads i - 1, i      with w0, w1 + w2
 *   a = 1 reads i, i + 1      with w0 + w1, w2
 * All four (a, b) together are one 2 x 2 convolution of 4c channels over the small picture with a border of one zero,
 * [h + 1, w + 1, 4c]; the answer for (2i + a, 2j + b) stands at (i + a, j + b). */
#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "core/memory.h"
#include "model/upsample.h"

/* Serves the rows of the [4c, c, 2, 2] weight, folding one row [c, 3, 3] of the file at a time. */
typedef struct folding {
    const tsr__weights *weights;
    const tsr__tensor_view *view; /* [c, c, 3, 3] */
    size_t channels, row;         /* next row of 4c */
    float *source, *folded;       /* [c, 9], [c, 4] */
    size_t used;                  /* scalars of `folded` already served */
} folding;

/* w [3] by step -> two taps for output offset a */
static void fold(float *tap, const float *w, int step, int a) {
    tap[0] = a ? w[0] + w[step] : w[0];
    tap[1] = a ? w[2 * step] : w[step] + w[2 * step];
}

static tsr_status fold_row(folding *f, tsr_error *err) {
    size_t c = f->channels, phase = f->row / c, from = f->row % c;
    int a = (int)(phase / 2), b = (int)(phase % 2);
    tsr__tensor_view part = *f->view;
    part.rank = 1;
    part.count = c * 9;
    part.shape[0] = (int64_t)part.count;
    part.data = (const char *)f->view->data + from * c * 9 * tsr__dtype_size(f->view->dtype);
    tsr_status status = tsr__tensor_to_f32(&part, f->source, err);
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
    size_t whole = 4 * f->channels;
    while (count) {
        if (f->used == whole) {
            if (f->row == whole) return tsr__fail(err, TSR_BACKEND, "a weight was read beyond its end");
            tsr_status status = fold_row(f, err);
            if (status != TSR_OK) return status;
        }
        size_t take = whole - f->used < count ? whole - f->used : count;
        memcpy(dst, f->folded + f->used, take * sizeof *dst);
        f->used += take;
        dst += take;
        count -= take;
    }
    if (f->row == whole) tsr__weights_release_pages(f->weights, f->view);
    return TSR_OK;
}

tsr_status tsr__upsample_load(tsr__loader *loader, tsr__nn_weight **out, int channels, const char *name,
                              tsr_error *err) {
    tsr_status status = TSR_OK;
    size_t c = (size_t)channels;
    const int64_t shape[4] = { channels, channels, 3, 3 };
    folding f = { .weights = loader->weights, .channels = c, .used = 4 * c };
    float *bias = NULL, *biases = NULL;
    *out = NULL;
    TSR_TRY(tsr__load_shaped(loader, &f.view, tsr__name_of("%s.weight", name).text, 4, shape, err));
    TSR_TRY(tsr__load_vector(loader, &bias, channels, tsr__name_of("%s.bias", name).text, err));
    loader->parameters += (int64_t)f.view->count;
    TSR_ALLOC(err, f.source, 9 * c);
    TSR_ALLOC(err, f.folded, 4 * c);
    TSR_ALLOC(err, biases, 4 * c);
    for (size_t i = 0; i < 4; i++) memcpy(biases + i * c, bias, c * sizeof *bias);
    TSR_TRY(tsr__nn_conv_weight(loader->nn, out, 4 * channels, channels, 2, 1, 1, 1, read_folded, &f, biases, err));
done:
    free(f.source);
    free(f.folded);
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

tsr_status tsr__upsample_run(tsr__nn *nn, tsr__tensor *x, const tsr__nn_weight *weight, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__tensor y = { 0 }, big = { 0 };
    TSR_TRY(tsr__nn_conv2d(nn, &y, x, weight, NULL, NULL, err));
    int n = x->n, h = x->h, w = x->w, c = x->c;
    tsr__nn_release(nn, x);
    TSR_TRY(tsr__nn_tensor(nn, &big, n, 2 * h, 2 * w, c, err));
#pragma omp parallel for num_threads(tsr__nn_threads(nn)) if (big.h > 16)
    for (int i = 0; i < big.n * big.h; i++) deal_row(&big, &y, i / big.h, i % big.h);
    *x = big;
done:
    tsr__nn_release(nn, &y);
    return status;
}
