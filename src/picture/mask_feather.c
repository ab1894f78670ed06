/* mask_feather.c - soft edges: a Gaussian, and ComfyUI's ramps from the borders of the picture. */
#include <math.h>
#include <stdlib.h>

#include "core/memory.h"
#include "tessera/mask.h"

/* Convolves one line (stride as in memory) with the half kernel [reach + 1]; past the ends the border goes on. */
static void blur_line(float *line, size_t stride, int count, const float *kernel, int reach, float *copy) {
    for (int i = 0; i < count; i++) copy[i] = line[(size_t)i * stride];
    for (int i = 0; i < count; i++) {
        double sum = (double)kernel[0] * copy[i];
        for (int k = 1; k <= reach; k++) {
            float before = copy[i - k < 0 ? 0 : i - k], after = copy[i + k >= count ? count - 1 : i + k];
            sum += (double)kernel[k] * ((double)before + after);
        }
        line[(size_t)i * stride] = (float)fmin(fmax(sum, 0.0), 1.0);
    }
}

tsr_status tsr_mask_feather(tsr_mask *mask, float radius_px, tsr_error *err) {
    tsr_status status = TSR_OK;
    float *kernel = NULL, *copy = NULL;
    if (!mask) TSR_FAIL(err, TSR_BAD_ARGUMENT, "no mask to feather");
    if (!(radius_px >= 0.0f && radius_px <= 4096.0f))
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "feather of %g pixels: must be 0..4096", (double)radius_px);
    double sigma = radius_px / 2.0, total = 1.0;
    int reach = (int)ceil(3.0 * sigma);
    if (reach == 0) goto done;
    TSR_ALLOC(err, kernel, reach + 1);
    TSR_ALLOC(err, copy, mask->width > mask->height ? mask->width : mask->height);
    for (int k = 1; k <= reach; k++) total += 2.0 * exp(-0.5 * k * k / (sigma * sigma));
    for (int k = 0; k <= reach; k++) kernel[k] = (float)(exp(-0.5 * k * k / (sigma * sigma)) / total);
    for (int y = 0; y < mask->height; y++)
        blur_line(mask->values + (size_t)y * (size_t)mask->width, 1, mask->width, kernel, reach, copy);
    for (int x = 0; x < mask->width; x++)
        blur_line(mask->values + x, (size_t)mask->width, mask->height, kernel, reach, copy);
done:
    free(kernel);
    free(copy);
    return status;
}

static void scale_column(tsr_mask *mask, int x, float rate) {
    for (int y = 0; y < mask->height; y++) mask->values[(size_t)y * (size_t)mask->width + (size_t)x] *= rate;
}

static void scale_row(tsr_mask *mask, int y, float rate) {
    for (int x = 0; x < mask->width; x++) mask->values[(size_t)y * (size_t)mask->width + (size_t)x] *= rate;
}

tsr_status tsr_mask_feather_edges(tsr_mask *mask, int left, int top, int right, int bottom, tsr_error *err) {
    if (!mask) return tsr__fail(err, TSR_BAD_ARGUMENT, "no mask to feather");
    if (left < 0 || top < 0 || right < 0 || bottom < 0)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "feather of %d, %d, %d, %d pixels: must not be negative", left, top,
                         right, bottom);
    int w = mask->width, h = mask->height;
    if (left > w) left = w;
    if (right > w) right = w;
    if (top > h) top = h;
    if (bottom > h) bottom = h;
    for (int x = 0; x < left; x++) scale_column(mask, x, (float)(((double)x + 1.0) / left));
    /* ComfyUI counts the right and bottom ramps as index -i: step 0 falls on the first column or row, not the last. */
    for (int x = 0; x < right; x++) scale_column(mask, x ? w - x : 0, (float)(((double)x + 1.0) / right));
    for (int y = 0; y < top; y++) scale_row(mask, y, (float)(((double)y + 1.0) / top));
    for (int y = 0; y < bottom; y++) scale_row(mask, y ? h - y : 0, (float)(((double)y + 1.0) / bottom));
    return TSR_OK;
}
