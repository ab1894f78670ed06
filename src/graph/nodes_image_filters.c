/* graph/nodes_image_filters.c - rows that blur, sharpen, blend, turn and flip pictures, and take their alpha off and on. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "graph/graph_priv.h"
#include "picture/resize_priv.h"

static const tsr__pictures *pictures_arg(tsr__call *call, const char *name) {
    return &tsr__arg(call->in, name)->pictures;
}

static float clamp(float v) {
    return v < 0.0f ? 0.0f : v > 1.0f ? 1.0f : v;
}

static size_t value_count(const tsr__pictures *p) {
    return (size_t)p->n * (size_t)p->h * (size_t)p->w * (size_t)p->c;
}

/* Where pixel x, y of picture i begins. */
static size_t at(const tsr__pictures *p, int i, int y, int x) {
    return (((size_t)i * (size_t)p->h + (size_t)y) * (size_t)p->w + (size_t)x) * (size_t)p->c;
}

/* --- blur and sharpen ----------------------------------------------------------------------------------------------------------- */
enum { MOST_RADIUS = 31 };

/* One side of the normalized kernel over 2 radius + 1 pixels, whose ends count as 1 from the middle: its square is the plane's. */
static void make_kernel(float *out, int radius, double sigma) {
    double sum = 0.0;
    for (int k = -radius; k <= radius; k++) sum += exp(-pow((double)k / radius / sigma, 2.0) / 2.0);
    for (int k = -radius; k <= radius; k++)
        out[k + radius] = (float)(exp(-pow((double)k / radius / sigma, 2.0) / 2.0) / sum);
}

/* The place that i beyond a side of n pixels mirrors, the border pixel itself not repeated. */
static int mirror(int i, int n) {
    if (i < 0) return -i;
    return i < n ? i : 2 * (n - 1) - i;
}

/* Along one direction: lines of n pixels, `step` values apart. */
static void blur_line(float *out, const float *in, int n, size_t step, int channels, const float *kernel, int radius) {
    for (int x = 0; x < n; x++)
        for (int c = 0; c < channels; c++) {
            double sum = 0.0;
            for (int k = -radius; k <= radius; k++)
                sum += (double)kernel[k + radius] * (double)in[(size_t)mirror(x + k, n) * step + (size_t)c];
            out[(size_t)x * step + (size_t)c] = (float)sum;
        }
}

/* A picture of p's size, blurred. */
static tsr_status blur(tsr__value **out, const tsr__pictures *p, int radius, double sigma, tsr_error *err) {
    tsr_status status = TSR_OK;
    float kernel[2 * MOST_RADIUS + 1] = { 0 }, *rows = NULL;
    *out = NULL;
    if (radius >= p->h || radius >= p->w)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "a radius of %d mirrors more than pictures of %dx%d have", radius, p->w, p->h);
    TSR_ALLOC(err, rows, value_count(p));
    TSR_TRY(tsr__value_pictures(out, p->n, p->h, p->w, p->c, err));
    float *values = (*out)->pictures.values;
    make_kernel(kernel, radius, sigma);
    for (int i = 0; i < p->n; i++) {
        for (int y = 0; y < p->h; y++)
            blur_line(rows + at(p, i, y, 0), p->values + at(p, i, y, 0), p->w, (size_t)p->c, p->c, kernel, radius);
        for (int x = 0; x < p->w; x++)
            blur_line(values + at(p, i, 0, x), rows + at(p, i, 0, x), p->h, (size_t)p->c * (size_t)p->w, p->c, kernel,
                      radius);
    }
done:
    free(rows);
    return status;
}

static const tsr__input blur_inputs[] = {
    TSR__LINK("image", IMAGE, "The pictures."),
    TSR__INT("blur_radius", 1, 1, MOST_RADIUS, "Pixels on each side that count."),
    TSR__FLOAT("sigma", 1.0, 0.1, 10.0, 0.1, "Width of the bell, 1 being the radius."),
    TSR__END,
};

static tsr_status run_blur(tsr__call *call, tsr_error *err) {
    return blur(&call->results[0], pictures_arg(call, "image"), tsr__arg_int(call->in, "blur_radius"),
                tsr__arg_float(call->in, "sigma"), err);
}

static const tsr__input sharpen_inputs[] = {
    TSR__LINK("image", IMAGE, "The pictures."),
    TSR__INT("sharpen_radius", 1, 1, MOST_RADIUS, "Pixels on each side that count."),
    TSR__FLOAT("sigma", 1.0, 0.1, 10.0, 0.01, "Width of the bell, 1 being the radius."),
    TSR__FLOAT("alpha", 1.0, 0.0, 5.0, 0.01,
               "How much: ten times this of the difference to the blurred picture is added."),
    TSR__END,
};

static tsr_status run_sharpen(tsr__call *call, tsr_error *err) {
    const tsr__pictures *p = pictures_arg(call, "image");
    float gain = (float)(10.0 * tsr__arg_float(call->in, "alpha"));
    tsr_status status =
        blur(&call->results[0], p, tsr__arg_int(call->in, "sharpen_radius"), tsr__arg_float(call->in, "sigma"), err);
    if (status != TSR_OK) return status;
    float *values = call->results[0]->pictures.values;
    for (size_t i = 0; i < value_count(p); i++) values[i] = clamp(p->values[i] + gain * (p->values[i] - values[i]));
    return TSR_OK;
}

/* --- blend ---------------------------------------------------------------------------------------------------------------------- */
static const char *const modes[] = { "normal", "multiply", "screen", "overlay", "soft_light", "difference", NULL };
static const tsr__input blend_inputs[] = {
    TSR__LINK("image1", IMAGE, "The pictures below."),
    TSR__LINK("image2", IMAGE, "The pictures above; scaled to the others' size."),
    TSR__FLOAT("blend_factor", 0.5, 0.0, 1.0, 0.01, "How much of the blend counts."),
    TSR__COMBO("blend_mode", modes, NULL, "What the blend is."),
    TSR__END,
};

static float soft_light(float a, float b) {
    float g = a <= 0.25f ? ((16.0f * a - 12.0f) * a + 4.0f) * a : sqrtf(a);
    return b <= 0.5f ? a - (1.0f - 2.0f * b) * a * (1.0f - a) : a + (2.0f * b - 1.0f) * (g - a);
}

static float blend(const char *mode, float a, float b) {
    switch (mode[0]) {
    case 'm': return a * b;
    case 'o': return a <= 0.5f ? 2.0f * a * b : 1.0f - 2.0f * (1.0f - a) * (1.0f - b);
    case 'd': return a - b;
    case 's': return mode[1] == 'c' ? 1.0f - (1.0f - a) * (1.0f - b) : soft_light(a, b);
    default: return b;
    }
}

static tsr_status run_blend(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__pictures *a = pictures_arg(call, "image1"), *b = pictures_arg(call, "image2");
    const char *mode = tsr__arg_text(call->in, "blend_mode");
    float share = (float)tsr__arg_float(call->in, "blend_factor");
    tsr__value *scaled = NULL;
    if (a->c > b->c) TSR_FAIL(err, TSR_UNSUPPORTED, "image1 has an alpha and image2 has none; take it off");
    if (b->n != 1 && a->n != 1 && a->n != b->n)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "image1 is a batch of %d and image2 of %d", a->n, b->n);
    if (a->h != b->h || a->w != b->w) {
        TSR_TRY(tsr__scale(&scaled, b, a->w, a->h, "bicubic", 1, err));
        b = &scaled->pictures;
    }
    TSR_TRY(tsr__value_pictures(&call->results[0], a->n > b->n ? a->n : b->n, a->h, a->w, a->c, err));
    const tsr__pictures *made = &call->results[0]->pictures;
    for (int i = 0; i < made->n; i++)
        for (int k = 0; k < a->h * a->w; k++) {
            const float *below = a->values + at(a, i % a->n, 0, k), *above = b->values + at(b, i % b->n, 0, k);
            float *out = made->values + at(made, i, 0, k);
            for (int c = 0; c < a->c; c++)
                out[c] = clamp(below[c] * (1.0f - share) + blend(mode, below[c], above[c]) * share);
        }
done:
    tsr__value_unref(scaled);
    return status;
}

/* --- turn and flip --------------------------------------------------------------------------------------------------------------- */
static const char *const flips[] = { "x-axis: vertically", "y-axis: horizontally", NULL };
static const char *const rotations[] = { "none", "90 degrees", "180 degrees", "270 degrees", NULL };
static const tsr__input flip_inputs[] = {
    TSR__LINK("image", IMAGE, "The pictures."),
    TSR__COMBO("flip_method", flips, NULL, "vertically: top and bottom change places."),
    TSR__END,
};
static const tsr__input rotate_inputs[] = {
    TSR__LINK("image", IMAGE, "The pictures."),
    TSR__COMBO("rotation", rotations, NULL, "Clockwise."),
    TSR__END,
};

static tsr_status run_flip(tsr__call *call, tsr_error *err) {
    const tsr__pictures *p = pictures_arg(call, "image");
    int vertical = strcmp(tsr__arg_text(call->in, "flip_method"), flips[0]) == 0;
    tsr_status status = tsr__value_pictures(&call->results[0], p->n, p->h, p->w, p->c, err);
    if (status != TSR_OK) return status;
    for (int i = 0; i < p->n; i++)
        for (int y = 0; y < p->h; y++)
            for (int x = 0; x < p->w; x++)
                memcpy(call->results[0]->pictures.values + at(p, i, y, x),
                       p->values + at(p, i, vertical ? p->h - 1 - y : y, vertical ? x : p->w - 1 - x),
                       (size_t)p->c * sizeof *p->values);
    return TSR_OK;
}

static tsr_status run_rotate(tsr__call *call, tsr_error *err) {
    const tsr__pictures *p = pictures_arg(call, "image");
    int quarters = 0;
    while (rotations[quarters + 1] && strcmp(rotations[quarters], tsr__arg_text(call->in, "rotation")) != 0) quarters++;
    int h = quarters % 2 ? p->w : p->h, w = quarters % 2 ? p->h : p->w;
    tsr_status status = tsr__value_pictures(&call->results[0], p->n, h, w, p->c, err);
    if (status != TSR_OK) return status;
    const tsr__pictures *made = &call->results[0]->pictures;
    for (int i = 0; i < p->n; i++)
        for (int y = 0; y < h; y++)
            for (int x = 0; x < w; x++) {
                int from_y = quarters == 0 ? y : quarters == 1 ? w - 1 - x : quarters == 2 ? h - 1 - y : x;
                int from_x = quarters == 0 ? x : quarters == 1 ? y : quarters == 2 ? w - 1 - x : h - 1 - y;
                memcpy(made->values + at(made, i, y, x), p->values + at(p, i, from_y, from_x),
                       (size_t)p->c * sizeof *p->values);
            }
    return TSR_OK;
}

/* --- alpha ----------------------------------------------------------------------------------------------------------------------- */
static const tsr__input split_inputs[] = { TSR__LINK("image", IMAGE, "The pictures."), TSR__END };
static const tsr__input join_inputs[] = {
    TSR__LINK("image", IMAGE, "The pictures."),
    TSR__LINK("alpha", MASK, "1 where they are transparent; resized to them."),
    TSR__END,
};

static tsr_status run_split(tsr__call *call, tsr_error *err) {
    const tsr__pictures *p = pictures_arg(call, "image");
    int pixels = p->h * p->w;
    tsr_status status = tsr__value_pictures(&call->results[0], p->n, p->h, p->w, 3, err);
    if (status == TSR_OK) status = tsr__value_masks(&call->results[1], p->n, p->w, p->h, err);
    if (status != TSR_OK) return status;
    const tsr__pictures *made = &call->results[0]->pictures;
    for (int i = 0; i < p->n; i++)
        for (int k = 0; k < pixels; k++) {
            const float *from = p->values + at(p, i, 0, k);
            memcpy(made->values + at(made, i, 0, k), from, 3 * sizeof *from);
            call->results[1]->masks.items[i]->values[k] = p->c > 3 ? 1.0f - from[3] : 0.0f;
        }
    return TSR_OK;
}

/* As many pictures as both have. */
static tsr_status run_join(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__pictures *p = pictures_arg(call, "image");
    const tsr__masks *masks = &tsr__arg(call->in, "alpha")->masks;
    int n = p->n < masks->n ? p->n : masks->n, pixels = p->h * p->w;
    float *alpha = NULL;
    TSR_ALLOC(err, alpha, pixels);
    TSR_TRY(tsr__value_pictures(&call->results[0], n, p->h, p->w, 4, err));
    const tsr__pictures *made = &call->results[0]->pictures;
    for (int i = 0; i < n; i++) {
        const tsr_mask *mask = masks->items[i];
        TSR_TRY(tsr__resize_bilinear(alpha, p->h, p->w, mask->values, mask->height, mask->width, 0, err));
        for (int k = 0; k < pixels; k++) {
            float *out = made->values + at(made, i, 0, k);
            memcpy(out, p->values + at(p, i, 0, k), 3 * sizeof *out);
            out[3] = 1.0f - alpha[k];
        }
    }
done:
    free(alpha);
    return status;
}

#define GIVES_IMAGE                                                                                                    \
    {                                                                                                                  \
        { "IMAGE", TSR__V_IMAGE }                                                                                      \
    }
static const tsr__node rows[] = {
    { "ImageBlur", "Image Blur", "image/postprocessing", blur_inputs, GIVES_IMAGE, 0, run_blur,
      "Pictures blurred by a bell." },
    { "ImageSharpen", "Image Sharpen", "image/postprocessing", sharpen_inputs, GIVES_IMAGE, 0, run_sharpen,
      "Pictures whose difference to their blur is raised." },
    { "ImageBlend", "Image Blend", "image/postprocessing", blend_inputs, GIVES_IMAGE, 0, run_blend,
      "Two pictures mixed, pixel by pixel." },
    { "ImageFlip", "ImageFlip", "image/transform", flip_inputs, GIVES_IMAGE, 0, run_flip, "Pictures mirrored." },
    { "ImageRotate", "ImageRotate", "image/transform", rotate_inputs, GIVES_IMAGE, 0, run_rotate,
      "Pictures turned by quarters." },
    { "SplitImageWithAlpha",
      "Split Image with Alpha",
      "mask/compositing",
      split_inputs,
      { { "IMAGE", TSR__V_IMAGE }, { "MASK", TSR__V_MASK } },
      0,
      run_split,
      "Colours and transparency apart." },
    { "JoinImageWithAlpha", "Join Image with Alpha", "mask/compositing", join_inputs, GIVES_IMAGE, 0, run_join,
      "Pictures with a mask as their transparency." },
};
const tsr__node_group tsr__nodes_image_filters = { rows, sizeof rows / sizeof *rows, "nodes" };
