/* mask.c - masks as plain memory: made, copied, resized, combined.
 *
 * Owns tsr_mask. Growth and base masks are in mask_growth.c, colours and channels in mask_color.c, soft edges in
 * mask_feather.c. Knows nothing of latents and samplers. */
#include "tessera/mask.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "mask_priv.h"
#include "resize_priv.h"

static size_t count_of(const tsr_mask *mask) {
    return (size_t)mask->width * (size_t)mask->height;
}

tsr_status tsr_mask_new(tsr_mask **out, int width, int height, float value, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_mask *mask = NULL;
    *out = NULL;
    if (width < 1 || height < 1 || width > TSR_IMAGE_MAX_SIDE || height > TSR_IMAGE_MAX_SIDE)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "mask of %dx%d: each side must be 1..%d", width, height, TSR_IMAGE_MAX_SIDE);
    if (!(value >= 0.0f && value <= 1.0f))
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "mask value %g: must be 0..1", (double)value);
    TSR_ALLOC_ZERO(err, mask, 1);
    mask->width = width;
    mask->height = height;
    TSR_ALLOC(err, mask->values, count_of(mask));
    for (size_t i = 0; i < count_of(mask); i++) mask->values[i] = value;
    *out = mask;
    mask = NULL;
done:
    tsr_mask_free(mask);
    return status;
}

void tsr_mask_free(tsr_mask *mask) {
    if (!mask) return;
    free(mask->values);
    free(mask);
}

tsr_status tsr_mask_copy(tsr_mask **out, const tsr_mask *mask, tsr_error *err) {
    tsr_status status = TSR_OK;
    *out = NULL;
    if (!mask) TSR_FAIL(err, TSR_BAD_ARGUMENT, "no mask to copy");
    TSR_TRY(tsr_mask_new(out, mask->width, mask->height, 0.0f, err));
    if (tsr__mask_count(mask) > 1) {
        free((*out)->values);
        TSR_ALLOC(err, (*out)->values, count_of(mask) * (size_t)mask->count);
        (*out)->count = mask->count;
    }
    memcpy((*out)->values, mask->values, count_of(mask) * (size_t)tsr__mask_count(mask) * sizeof *mask->values);
done:
    if (status != TSR_OK) {
        tsr_mask_free(*out);
        *out = NULL;
    }
    return status;
}

int tsr__mask_count(const tsr_mask *mask) {
    return mask->count > 1 ? mask->count : 1;
}

const float *tsr__mask_item(const tsr_mask *mask, int index) {
    return mask->values + (size_t)(index % tsr__mask_count(mask)) * count_of(mask);
}

tsr_status tsr__mask_stack(tsr_mask **out, tsr_mask *const *items, int n, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_mask *stack = NULL;
    *out = NULL;
    TSR_TRY(tsr_mask_new(&stack, items[0]->width, items[0]->height, 0.0f, err));
    free(stack->values);
    stack->values = NULL;
    TSR_ALLOC(err, stack->values, count_of(stack) * (size_t)n);
    stack->count = n;
    for (int i = 0; i < n; i++)
        memcpy(stack->values + (size_t)i * count_of(stack), items[i]->values, count_of(stack) * sizeof *stack->values);
    *out = stack;
    stack = NULL;
done:
    tsr_mask_free(stack);
    return status;
}

tsr_status tsr_mask_from_box(tsr_mask **out, int width, int height, int x, int y, int w, int h, tsr_error *err) {
    tsr_status status = TSR_OK;
    *out = NULL;
    int64_t right = (int64_t)x + w, bottom = (int64_t)y + h;
    if (w < 1 || h < 1) TSR_FAIL(err, TSR_BAD_ARGUMENT, "box of %dx%d: width and height must be at least 1", w, h);
    if (x >= width || y >= height || right <= 0 || bottom <= 0)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "box at %d,%d of %dx%d lies outside the %dx%d picture; move it inside", x, y, w,
                 h, width, height);
    TSR_TRY(tsr_mask_new(out, width, height, 0.0f, err));
    for (int j = y < 0 ? 0 : y; j < height && j < bottom; j++)
        for (int i = x < 0 ? 0 : x; i < width && i < right; i++)
            (*out)->values[(size_t)j * (size_t)width + (size_t)i] = 1.0f;
done:
    return status;
}

static tsr_status resize_linear(tsr_mask **out, const tsr_mask *mask, int width, int height, int align_corners,
                                tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_mask *resized = NULL;
    *out = NULL;
    if (!mask) TSR_FAIL(err, TSR_BAD_ARGUMENT, "no mask to resize");
    TSR_TRY(tsr_mask_new(&resized, width, height, 0.0f, err));
    TSR_TRY(tsr__resize_bilinear(resized->values, height, width, mask->values, mask->height, mask->width, align_corners,
                                 err));
    *out = resized;
    resized = NULL;
done:
    tsr_mask_free(resized);
    return status;
}

tsr_status tsr_mask_resize(tsr_mask **out, const tsr_mask *mask, int width, int height, tsr_error *err) {
    return resize_linear(out, mask, width, height, 0, err);
}

tsr_status tsr_mask_resize_corners(tsr_mask **out, const tsr_mask *mask, int width, int height, tsr_error *err) {
    return resize_linear(out, mask, width, height, 1, err);
}

/* The mean of a line (`in` samples, `stride` apart) under target sample i of `out`, by exact coverage. */
static double mean_under(const float *line, size_t stride, int in, int out, int i) {
    double scale = (double)in / out, from = i * scale, to = (i + 1) * scale, sum = 0.0;
    for (int k = (int)from; k < in && k < to; k++) {
        double cover = fmin(to, k + 1.0) - fmax(from, k);
        if (cover > 0.0) sum += cover * line[(size_t)k * stride];
    }
    return sum / (to - from);
}

tsr_status tsr_mask_downsample_area(tsr_mask **out, const tsr_mask *mask, int width, int height, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_mask *small = NULL;
    float *middle = NULL; /* [mask->height, width] */
    *out = NULL;
    if (!mask) TSR_FAIL(err, TSR_BAD_ARGUMENT, "no mask to resize");
    TSR_TRY(tsr_mask_new(&small, width, height, 0.0f, err));
    TSR_ALLOC(err, middle, (size_t)mask->height * (size_t)width);
    for (int y = 0; y < mask->height; y++)
        for (int x = 0; x < width; x++)
            middle[(size_t)y * (size_t)width + (size_t)x] =
                (float)mean_under(mask->values + (size_t)y * (size_t)mask->width, 1, mask->width, width, x);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            small->values[(size_t)y * (size_t)width + (size_t)x] =
                (float)fmin(1.0, mean_under(middle + x, (size_t)width, mask->height, height, y));
    *out = small;
    small = NULL;
done:
    free(middle);
    tsr_mask_free(small);
    return status;
}

float tsr_mask_min(const tsr_mask *mask) {
    float low = mask->values[0];
    for (size_t i = 1; i < count_of(mask); i++) low = fminf(low, mask->values[i]);
    return low;
}

float tsr_mask_max(const tsr_mask *mask) {
    float high = mask->values[0];
    for (size_t i = 1; i < count_of(mask); i++) high = fmaxf(high, mask->values[i]);
    return high;
}

float tsr_mask_mean(const tsr_mask *mask) {
    double sum = 0.0;
    for (size_t i = 0; i < count_of(mask); i++) sum += mask->values[i];
    return (float)(sum / (double)count_of(mask));
}

static float combine(float d, float s, tsr_mask_op op) {
    int a = rintf(d) != 0.0f, b = rintf(s) != 0.0f; /* the logical ones look at rounded weights */
    switch (op) {
    case TSR_MASK_MULTIPLY: d = d * s; break;
    case TSR_MASK_ADD: d = d + s; break;
    case TSR_MASK_SUBTRACT: d = d - s; break;
    case TSR_MASK_AND: d = (float)(a & b); break;
    case TSR_MASK_OR: d = (float)(a | b); break;
    case TSR_MASK_XOR: d = (float)(a ^ b); break;
    }
    return fminf(fmaxf(d, 0.0f), 1.0f);
}

tsr_status tsr_mask_composite(tsr_mask *destination, const tsr_mask *source, int x, int y, tsr_mask_op op,
                              tsr_error *err) {
    if (!destination || !source)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "mask composite: destination or source is missing");
    if ((int)op < TSR_MASK_MULTIPLY || op > TSR_MASK_XOR)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "mask composite: no operation number %d", (int)op);
    if (x >= destination->width || y >= destination->height || x <= -source->width || y <= -source->height)
        return TSR_OK;
    for (int j = y < 0 ? -y : 0; j < source->height && j + y < destination->height; j++)
        for (int i = x < 0 ? -x : 0; i < source->width && i + x < destination->width; i++) {
            float *d = destination->values + (size_t)(j + y) * (size_t)destination->width + (size_t)(i + x);
            *d = combine(*d, source->values[(size_t)j * (size_t)source->width + (size_t)i], op);
        }
    return TSR_OK;
}

void tsr__mask_grey_out(float *pixels, int channels, const float *mask, size_t count) {
    for (size_t i = 0; i < count; i++, pixels += channels) {
        const float keep = 1.0f - rintf(mask[i]);
        for (int c = 0; c < 3; c++) pixels[c] = (pixels[c] - 0.5f) * keep + 0.5f;
    }
}
