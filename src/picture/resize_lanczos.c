/* resize_lanczos.c - "lanczos" as ComfyUI has it: through 8-bit pixels and Pillow's fixed-point sums, columns first.
 *
 * Owns the kernel a = 3 stretched when shrinking, and its 22-bit integer weights. Values outside 0..1 are clamped, so
 * this is for pictures; latents lose their range, as they do in ComfyUI. */
#include <math.h>
#include <stdlib.h>

#include "core/memory.h"
#include "resize_priv.h"

#define WEIGHT_BITS 22

typedef struct window {
    int count;       /* taps per output, at most */
    int *first;      /* [out] */
    int *length;     /* [out] */
    int32_t *weight; /* [out, count] */
} window;

static void window_clear(window *w) {
    free(w->first);
    free(w->length);
    free(w->weight);
}

static double sinc(double x) {
    if (x == 0.0) return 1.0;
    x *= 3.14159265358979323846;
    return sin(x) / x;
}

static double lanczos3(double x) {
    return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3.0) : 0.0;
}

static tsr_status window_init(window *w, int in, int out, tsr_error *err) {
    tsr_status status = TSR_OK;
    double *row = NULL, scale = (double)in / out, stretch = scale < 1.0 ? 1.0 : scale, reach = 3.0 * stretch;
    w->count = (int)ceil(reach) * 2 + 1;
    TSR_ALLOC(err, w->first, out);
    TSR_ALLOC(err, w->length, out);
    TSR_ALLOC_ZERO(err, w->weight, (size_t)out * (size_t)w->count);
    TSR_ALLOC(err, row, w->count);
    for (int i = 0; i < out; i++) {
        double center = (i + 0.5) * scale, sum = 0.0;
        int first = (int)(center - reach + 0.5), end = (int)(center + reach + 0.5);
        if (center - reach + 0.5 < 0.0) first = 0;
        if (end > in) end = in;
        for (int k = 0; k < end - first; k++) sum += row[k] = lanczos3((k + first - center + 0.5) / stretch);
        for (int k = 0; k < end - first; k++) {
            double weight = (sum != 0.0 ? row[k] / sum : row[k]) * (1 << WEIGHT_BITS);
            w->weight[(size_t)i * (size_t)w->count + (size_t)k] = (int32_t)(weight < 0.0 ? weight - 0.5 : weight + 0.5);
        }
        w->first[i] = first;
        w->length[i] = end - first;
    }
done:
    free(row);
    return status;
}

/* One output sample from `in`, whose samples lie `stride` apart. */
static unsigned char gather(const window *w, int i, const unsigned char *in, size_t stride) {
    const int32_t *weight = w->weight + (size_t)i * (size_t)w->count;
    const unsigned char *from = in + (size_t)w->first[i] * stride;
    int64_t sum = 1 << (WEIGHT_BITS - 1);
    for (int k = 0; k < w->length[i]; k++) sum += (int64_t)from[(size_t)k * stride] * weight[k];
    if (sum < 0) return 0;
    sum >>= WEIGHT_BITS;
    return (unsigned char)(sum > 255 ? 255 : sum);
}

tsr_status tsr__resize_lanczos(float *out, int height, int width, const float *in, const int shape[4], tsr_error *err) {
    tsr_status status = TSR_OK;
    int h = shape[2], w = shape[3];
    size_t in_plane = (size_t)h * (size_t)w, out_plane = (size_t)height * (size_t)width;
    unsigned char *bytes = NULL, *middle = NULL; /* [h, w] and [h, width] of one plane */
    window across = { 0, NULL, NULL, NULL }, down = { 0, NULL, NULL, NULL };
    TSR_ALLOC(err, bytes, in_plane);
    TSR_ALLOC(err, middle, (size_t)h * (size_t)width);
    TSR_TRY(window_init(&across, w, width, err));
    TSR_TRY(window_init(&down, h, height, err));
    for (size_t plane = 0; plane < (size_t)shape[0] * (size_t)shape[1]; plane++) {
        const float *from = in + plane * in_plane;
        float *to = out + plane * out_plane;
        for (size_t i = 0; i < in_plane; i++) {
            float v = 255.0f * from[i];
            bytes[i] = (unsigned char)(v > 255.0f ? 255.0f : v > 0.0f ? v : 0.0f);
        }
        for (int y = 0; y < h; y++)
            for (int x = 0; x < width; x++)
                middle[(size_t)y * (size_t)width + (size_t)x] = gather(&across, x, bytes + (size_t)y * (size_t)w, 1);
        for (int y = 0; y < height; y++)
            for (int x = 0; x < width; x++)
                to[(size_t)y * (size_t)width + (size_t)x] = (float)gather(&down, y, middle + x, (size_t)width) / 255.0f;
    }
done:
    free(bytes);
    free(middle);
    window_clear(&across);
    window_clear(&down);
    return status;
}
