/* resize_bislerp.c - ComfyUI's "bislerp": linear in x then y, but turning the channel vector of a pixel instead of
 * mixing it, so that the strength of a latent survives. Owns that formula only. */
#include <math.h>
#include <stdlib.h>

#include "core/memory.h"
#include "resize_priv.h"

/* For an output position: both source positions and the way between them. */
typedef struct step {
    int first, second;
    float ratio;
} step;

/* ComfyUI finds the positions by resampling the ramps 0, 1, 2, ... and 1, 2, ..., last, last linearly; the rounding of
 * that detour decides which neighbour is taken, so it is repeated here. */
static tsr_status find_steps(step **out, int in, int count, tsr_error *err) {
    tsr_status status = TSR_OK;
    step *steps = NULL;
    tsr__taps taps = { 0, NULL, NULL };
    *out = NULL;
    TSR_ALLOC(err, steps, count);
    TSR_TRY(tsr__taps_linear(&taps, in, count, 0, err));
    for (int i = 0; i < count; i++) {
        int low = taps.index[2 * i], high = taps.index[2 * i + 1];
        float w0 = taps.weight[2 * i], w1 = taps.weight[2 * i + 1];
        float at = (float)low * w0 + (float)high * w1;
        float next = (float)(low + 1 < in ? low + 1 : in - 1) * w0 + (float)(high + 1 < in ? high + 1 : in - 1) * w1;
        steps[i] = (step){ (int)at, (int)next, at - floorf(at) };
    }
    *out = steps;
    steps = NULL;
done:
    tsr__taps_clear(&taps);
    free(steps);
    return status;
}

/* Turns from a to b (c values, `stride` apart) by ratio r, into out. */
static void turn(float *out, size_t out_stride, const float *a, const float *b, size_t stride, int c, float r) {
    double aa = 0.0, bb = 0.0;
    for (int i = 0; i < c; i++) {
        double u = a[(size_t)i * stride], v = b[(size_t)i * stride];
        aa += u * u;
        bb += v * v;
    }
    float na = (float)sqrt(aa), nb = (float)sqrt(bb), dot = 0.0f;
    float ia = na > 0.0f ? 1.0f / na : 0.0f, ib = nb > 0.0f ? 1.0f / nb : 0.0f;
    for (int i = 0; i < c; i++) dot += a[(size_t)i * stride] * ia * (b[(size_t)i * stride] * ib);
    float from = 0.0f, to = 0.0f;
    if (dot > 1.0f - 1e-5f) {
        from = 1.0f; /* the same direction: ComfyUI takes the first */
    } else if (dot < 1e-5f - 1.0f) {
        from = 1.0f - r;
        to = r;
    } else {
        float omega = acosf(dot), sine = sinf(omega), length = na * (1.0f - r) + nb * r;
        from = sinf((1.0f - r) * omega) / sine * ia * length;
        to = sinf(r * omega) / sine * ib * length;
    }
    for (int i = 0; i < c; i++) out[(size_t)i * out_stride] = a[(size_t)i * stride] * from + b[(size_t)i * stride] * to;
}

tsr_status tsr__resize_bislerp(float *out, int height, int width, const float *in, const int shape[4], tsr_error *err) {
    tsr_status status = TSR_OK;
    int n = shape[0], c = shape[1], h = shape[2], w = shape[3];
    size_t in_plane = (size_t)h * (size_t)w, mid_plane = (size_t)h * (size_t)width,
           out_plane = (size_t)height * (size_t)width;
    float *middle = NULL; /* [c, h, width] of one picture */
    step *across = NULL, *down = NULL;
    TSR_ALLOC(err, middle, mid_plane * (size_t)c);
    TSR_TRY(find_steps(&across, w, width, err));
    TSR_TRY(find_steps(&down, h, height, err));
    for (int k = 0; k < n; k++) {
        const float *from = in + (size_t)k * (size_t)c * in_plane;
        float *to = out + (size_t)k * (size_t)c * out_plane;
        for (int y = 0; y < h; y++)
            for (int x = 0; x < width; x++)
                turn(middle + (size_t)y * (size_t)width + (size_t)x, mid_plane,
                     from + (size_t)y * (size_t)w + (size_t)across[x].first,
                     from + (size_t)y * (size_t)w + (size_t)across[x].second, in_plane, c, across[x].ratio);
        for (int y = 0; y < height; y++)
            for (int x = 0; x < width; x++)
                turn(to + (size_t)y * (size_t)width + (size_t)x, out_plane,
                     middle + (size_t)down[y].first * (size_t)width + (size_t)x,
                     middle + (size_t)down[y].second * (size_t)width + (size_t)x, mid_plane, c, down[y].ratio);
    }
done:
    free(middle);
    free(across);
    free(down);
    return status;
}
