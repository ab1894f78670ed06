/* resize_taps.c - which source samples make one output sample, for each axis.
 *
 * Owns the coordinate rules of PyTorch's interpolate (nearest-exact, bilinear, bicubic), in float32 as PyTorch computes
 * them: a mask rounded afterwards must come out equal to the last pixel. Knows nothing of channels or pictures. */
#include <math.h>
#include <stdlib.h>

#include "core/memory.h"
#include "resize_priv.h"

void tsr__taps_clear(tsr__taps *taps) {
    free(taps->index);
    free(taps->weight);
    *taps = (tsr__taps){ 0, NULL, NULL };
}

static tsr_status taps_init(tsr__taps *taps, int out, int per_output, tsr_error *err) {
    tsr_status status = TSR_OK;
    *taps = (tsr__taps){ per_output, NULL, NULL };
    TSR_ALLOC(err, taps->index, (size_t)out * (size_t)per_output);
    TSR_ALLOC(err, taps->weight, (size_t)out * (size_t)per_output);
done:
    if (status != TSR_OK) tsr__taps_clear(taps);
    return status;
}

static int clamp_index(int i, int count) {
    return i < 0 ? 0 : i >= count ? count - 1 : i;
}

tsr_status tsr__taps_nearest_exact(tsr__taps *taps, int in, int out, tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_TRY(taps_init(taps, out, 1, err));
    float scale = (float)in / (float)out;
    for (int i = 0; i < out; i++) {
        taps->index[i] = clamp_index((int)floorf(((float)i + 0.5f) * scale), in);
        taps->weight[i] = 1.0f;
    }
done:
    return status;
}

tsr_status tsr__taps_linear(tsr__taps *taps, int in, int out, int align_corners, tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_TRY(taps_init(taps, out, 2, err));
    float scale = align_corners ? (out > 1 ? (float)(in - 1) / (float)(out - 1) : 0.0f) : (float)in / (float)out;
    for (int i = 0; i < out; i++) {
        float at = align_corners ? scale * (float)i : scale * ((float)i + 0.5f) - 0.5f;
        if (in == out) at = (float)i;
        if (at < 0.0f) at = 0.0f;
        int low = clamp_index((int)at, in);
        float part = fminf(fmaxf(at - (float)low, 0.0f), 1.0f);
        taps->index[2 * i] = low;
        taps->index[2 * i + 1] = clamp_index(low + 1, in);
        taps->weight[2 * i] = 1.0f - part;
        taps->weight[2 * i + 1] = part;
    }
done:
    return status;
}

/* Keys' cubic convolution kernel with a = -0.75, for distances below 1 and from 1 to 2. */
static float cubic_near(float x) {
    const float a = -0.75f;
    return ((a + 2.0f) * x - (a + 3.0f)) * x * x + 1.0f;
}

static float cubic_far(float x) {
    const float a = -0.75f;
    return ((a * x - 5.0f * a) * x + 8.0f * a) * x - 4.0f * a;
}

tsr_status tsr__taps_cubic(tsr__taps *taps, int in, int out, tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_TRY(taps_init(taps, out, 4, err));
    float scale = (float)in / (float)out;
    for (int i = 0; i < out; i++) {
        float at = in == out ? (float)i : scale * ((float)i + 0.5f) - 0.5f;
        int low = (int)floorf(at);
        float part = fminf(fmaxf(at - (float)low, 0.0f), 1.0f);
        float weight[4] = { cubic_far(part + 1.0f), cubic_near(part), cubic_near(1.0f - part), cubic_far(2.0f - part) };
        for (int k = 0; k < 4; k++) {
            taps->index[4 * i + k] = clamp_index(low - 1 + k, in);
            taps->weight[4 * i + k] = weight[k];
        }
    }
done:
    return status;
}

void tsr__taps_apply(float *out, int height, int width, const float *in, int in_width, const tsr__taps *down,
                     const tsr__taps *across) {
    int ny = down->per_output, nx = across->per_output;
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++) {
            float sum = 0.0f;
            for (int j = 0; j < ny; j++) {
                const float *row = in + (size_t)down->index[y * ny + j] * (size_t)in_width;
                float across_sum = 0.0f;
                for (int k = 0; k < nx; k++) across_sum += row[across->index[x * nx + k]] * across->weight[x * nx + k];
                sum += across_sum * down->weight[y * ny + j];
            }
            out[(size_t)y * (size_t)width + (size_t)x] = sum;
        }
    }
}

tsr_status tsr__resize_bilinear(float *out, int height, int width, const float *in, int in_height, int in_width,
                                int align_corners, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__taps down = { 0, NULL, NULL }, across = { 0, NULL, NULL };
    TSR_TRY(tsr__taps_linear(&down, in_height, height, align_corners, err));
    TSR_TRY(tsr__taps_linear(&across, in_width, width, align_corners, err));
    tsr__taps_apply(out, height, width, in, in_width, &down, &across);
done:
    tsr__taps_clear(&down);
    tsr__taps_clear(&across);
    return status;
}
