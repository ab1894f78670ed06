/* upscale/upscale_ops.c - the layers of upscale networks that nn has not: leaky ReLU, PReLU, pixel shuffle.
 *
 * Element by element on the tensor's own memory; bfloat16 goes through float32 in pieces. */
#include <string.h>

#include "core/check.h"
#include "upscale/upscale_priv.h"

enum { PIECE = 2048 };

/* count values that begin at element `first` of the tensor. With other: 0.2 x + other; with slopes, one for each of the
 * tensor's channels: PReLU; with neither: leaky ReLU. */
static void apply(const float *slopes, int channels, float *x, const float *other, size_t first, size_t count) {
    if (other) {
        for (size_t i = 0; i < count; i++) x[i] = 0.2f * x[i] + other[i];
    } else if (slopes) {
        size_t channel = first % (size_t)channels;
        for (size_t i = 0; i < count; i++) {
            x[i] = x[i] < 0 ? slopes[channel] * x[i] : x[i];
            if (++channel == (size_t)channels) channel = 0;
        }
    } else {
        for (size_t i = 0; i < count; i++) x[i] = x[i] < 0 ? 0.2f * x[i] : x[i];
    }
}

/* float32 to bfloat16, to nearest, ties to even. */
static void narrow(uint16_t *out, const float *in, size_t count) {
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &in[i], sizeof bits);
        const int is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
        out[i] = is_nan ? (uint16_t)(bits >> 16 | 64u) : (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
    }
}

static void apply_piece(const float *slopes, tsr__tensor *x, const tsr__tensor *y, size_t first, size_t count) {
    if (x->dtype == TSR__F32) {
        apply(slopes, x->c, (float *)x->data + first, y ? (const float *)y->data + first : NULL, first, count);
        return;
    }
    float wide[PIECE], other[PIECE];
    uint16_t *half = (uint16_t *)x->data + first;
    tsr__bf16_to_f32(wide, half, count);
    if (y) tsr__bf16_to_f32(other, (const uint16_t *)y->data + first, count);
    apply(slopes, x->c, wide, y ? other : NULL, first, count);
    narrow(half, wide, count);
}

static void run(tsr__nn *nn, const float *slopes, tsr__tensor *x, const tsr__tensor *y) {
    const size_t total = (size_t)x->n * (size_t)x->h * (size_t)x->w * (size_t)x->c;
    const int64_t pieces = (int64_t)((total + PIECE - 1) / PIECE);
#pragma omp parallel for num_threads(tsr__nn_threads(nn)) schedule(static)
    for (int64_t i = 0; i < pieces; i++) {
        const size_t first = (size_t)i * PIECE, left = total - first;
        apply_piece(slopes, x, y, first, left < PIECE ? left : PIECE);
    }
}

void tsr__upscale_leaky_relu(tsr__nn *nn, tsr__tensor *x) {
    run(nn, NULL, x, NULL);
}

void tsr__upscale_prelu(tsr__nn *nn, tsr__tensor *x, const float *slopes) {
    run(nn, slopes, x, NULL);
}

void tsr__upscale_scale_add(tsr__nn *nn, tsr__tensor *x, const tsr__tensor *y) {
    run(nn, NULL, x, y);
}

/* Both directions visit every value once: fine is [h s, w s, 3], coarse [h, w, 3 s s]. */
static void permute(float *fine_out, float *coarse_out, const float *in, int h, int w, int s) {
    const size_t width = (size_t)w * (size_t)s, block = 3 * (size_t)s * (size_t)s;
    for (int y = 0; y < h * s; y++) {
        for (size_t x = 0; x < width; x++) {
            const size_t cell = (size_t)(y / s) * (size_t)w + x / (size_t)s;
            const size_t inside = (size_t)(y % s) * (size_t)s + x % (size_t)s;
            for (size_t c = 0; c < 3; c++) {
                const size_t fine = ((size_t)y * width + x) * 3 + c;
                const size_t coarse = cell * block + c * (size_t)s * (size_t)s + inside;
                if (fine_out) fine_out[fine] = in[coarse];
                else if (coarse_out) coarse_out[coarse] = in[fine];
            }
        }
    }
}

void tsr__upscale_unshuffle(float *out, const float *rgb, int h, int w, int s) {
    permute(NULL, out, rgb, h / s, w / s, s);
}

void tsr__upscale_shuffle(float *out, const float *in, int h, int w, int s) {
    permute(out, NULL, in, h, w, s);
}
