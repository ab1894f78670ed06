/* graph/nodes_mask.c - rows on masks: ComfyUI's and the Impact Pack's. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "graph/graph_priv.h"

#define SIZE_MAX_PX 16384
static const tsr__input one_mask[] = { TSR__LINK("mask", MASK, "The mask."), TSR__END };

/* A value per pixel of every mask of a batch. */
static tsr_status map(tsr__call *call, const tsr__value *in, float (*f)(float value, float parameter), float parameter,
                      tsr_error *err) {
    const tsr_mask *first = in->masks.items[0];
    tsr_status status = tsr__value_masks(&call->results[0], in->masks.n, first->width, first->height, err);
    if (status != TSR_OK) return status;
    for (int i = 0; i < in->masks.n; i++)
        for (size_t k = 0; k < (size_t)first->width * (size_t)first->height; k++)
            call->results[0]->masks.items[i]->values[k] = f(in->masks.items[i]->values[k], parameter);
    return TSR_OK;
}

/* A copy that may be changed. */
static tsr_status copy(tsr__value **out, const tsr__value *in, tsr_error *err) {
    const tsr_mask *first = in->masks.items[0];
    size_t bytes = (size_t)first->width * (size_t)first->height * sizeof(float);
    tsr_status status = tsr__value_masks(out, in->masks.n, first->width, first->height, err);
    for (int i = 0; status == TSR_OK && i < in->masks.n; i++)
        memcpy((*out)->masks.items[i]->values, in->masks.items[i]->values, bytes);
    return status;
}

/* --- making ------------------------------------------------------------------------------------------------------------------- */
static const tsr__input solid_inputs[] = {
    TSR__FLOAT("value", 1.0, 0.0, 1.0, 0.01, "Of every pixel."),
    TSR__INT("width", 512, 1, SIZE_MAX_PX, "Pixels."),
    TSR__INT("height", 512, 1, SIZE_MAX_PX, "Pixels."),
    TSR__END,
};

static tsr_status run_solid(tsr__call *call, tsr_error *err) {
    tsr_mask *mask = NULL;
    tsr_status status = tsr_mask_new(&mask, tsr__arg_int(call->in, "width"), tsr__arg_int(call->in, "height"),
                                     (float)tsr__arg_float(call->in, "value"), err);
    return status == TSR_OK ? tsr__value_take_mask(&call->results[0], mask, err) : status;
}

static const char *const channels[] = { "red", "green", "blue", "alpha", NULL };
static const tsr__input from_image_inputs[] = {
    TSR__LINK("image", IMAGE, "The picture."),
    TSR__COMBO("channel", channels, NULL, "Whose values become the mask."),
    TSR__END,
};

static tsr_status run_from_image(tsr__call *call, tsr_error *err) {
    const tsr__pictures *p = &tsr__arg(call->in, "image")->pictures;
    const char *name = tsr__arg_text(call->in, "channel");
    int c = 0;
    while (channels[c + 1] && strcmp(channels[c], name) != 0) c++;
    if (c >= p->c) return tsr__fail(err, TSR_BAD_ARGUMENT, "channel: the picture has no %s", name);
    tsr_status status = tsr__value_masks(&call->results[0], p->n, p->w, p->h, err);
    size_t pixels = (size_t)p->w * (size_t)p->h;
    for (int i = 0; status == TSR_OK && i < p->n; i++)
        for (size_t k = 0; k < pixels; k++)
            call->results[0]->masks.items[i]->values[k] =
                p->values[((size_t)i * pixels + k) * (size_t)p->c + (size_t)c];
    return status;
}

static tsr_status run_to_image(tsr__call *call, tsr_error *err) {
    const tsr__masks *m = &tsr__arg(call->in, "mask")->masks;
    int w = m->items[0]->width, h = m->items[0]->height;
    tsr_status status = tsr__value_pictures(&call->results[0], m->n, h, w, 3, err);
    if (status != TSR_OK) return status;
    float *to = call->results[0]->pictures.values;
    for (int i = 0; i < m->n; i++)
        for (size_t k = 0; k < (size_t)w * (size_t)h; k++)
            for (int c = 0; c < 3; c++) *to++ = m->items[i]->values[k];
    return TSR_OK;
}

static const tsr__input color_inputs[] = {
    TSR__LINK("image", IMAGE, "The picture."),
    TSR__INT("color", 0, 0, 0xFFFFFF, "0xRRGGBB as a number."),
    TSR__END,
};

tsr_status tsr__color_masks(tsr__value **out, const tsr__pictures *p, unsigned rgb, tsr_error *err) {
    tsr_status status = tsr__value_masks(out, p->n, p->w, p->h, err);
    size_t pixels = (size_t)p->w * (size_t)p->h;
    for (int i = 0; status == TSR_OK && i < p->n; i++)
        for (size_t k = 0; k < pixels; k++) {
            const float *v = p->values + ((size_t)i * pixels + k) * (size_t)p->c;
            unsigned seen = 0;
            for (int c = 0; c < 3; c++) seen = seen << 8 | (unsigned)lrintf(fminf(fmaxf(v[c], 0.0f), 1.0f) * 255.0f);
            (*out)->masks.items[i]->values[k] = seen == rgb ? 1.0f : 0.0f;
        }
    return status;
}

static tsr_status run_color(tsr__call *call, tsr_error *err) {
    return tsr__color_masks(&call->results[0], &tsr__arg(call->in, "image")->pictures,
                            (unsigned)tsr__arg_int(call->in, "color"), err);
}

/* --- changing ------------------------------------------------------------------------------------------------------------------- */
static const char *const operations[] = { "multiply", "add", "subtract", "and", "or", "xor", NULL };
static const tsr__input composite_inputs[] = {
    TSR__LINK("destination", MASK, "What is painted over."),
    TSR__LINK("source", MASK, "What is put on it."),
    TSR__INT("x", 0, 0, SIZE_MAX_PX, "Pixels from the left."),
    TSR__INT("y", 0, 0, SIZE_MAX_PX, "Pixels from the top."),
    TSR__COMBO("operation", operations, NULL, "and, or, xor round both first."),
    TSR__END,
};

static tsr_status run_composite(tsr__call *call, tsr_error *err) {
    const tsr__value *source = tsr__arg(call->in, "source");
    const char *name = tsr__arg_text(call->in, "operation");
    int op = 0;
    while (operations[op + 1] && strcmp(operations[op], name) != 0) op++;
    tsr_status status = copy(&call->results[0], tsr__arg(call->in, "destination"), err);
    for (int i = 0; status == TSR_OK && i < call->results[0]->masks.n; i++)
        status = tsr_mask_composite(call->results[0]->masks.items[i], source->masks.items[i % source->masks.n],
                                    tsr__arg_int(call->in, "x"), tsr__arg_int(call->in, "y"), (tsr_mask_op)op, err);
    return status;
}

static float inverted(float value, float parameter) {
    (void)parameter;
    return 1.0f - value;
}

static tsr_status run_invert(tsr__call *call, tsr_error *err) {
    return map(call, tsr__arg(call->in, "mask"), inverted, 0.0f, err);
}

static const tsr__input threshold_inputs[] = {
    TSR__LINK("mask", MASK, "The mask."),
    TSR__FLOAT("value", 0.5, 0.0, 1.0, 0.01, "Above it 1, else 0."),
    TSR__END,
};

static float above(float value, float parameter) {
    return value > parameter ? 1.0f : 0.0f;
}

static tsr_status run_threshold(tsr__call *call, tsr_error *err) {
    return map(call, tsr__arg(call->in, "mask"), above, (float)tsr__arg_float(call->in, "value"), err);
}

static const tsr__input feather_inputs[] = {
    TSR__LINK("mask", MASK, "The mask."),
    TSR__INT("left", 0, 0, SIZE_MAX_PX, "Pixels."),
    TSR__INT("top", 0, 0, SIZE_MAX_PX, "Pixels."),
    TSR__INT("right", 0, 0, SIZE_MAX_PX, "Pixels."),
    TSR__INT("bottom", 0, 0, SIZE_MAX_PX, "Pixels."),
    TSR__END,
};

static tsr_status run_feather(tsr__call *call, tsr_error *err) {
    tsr_status status = copy(&call->results[0], tsr__arg(call->in, "mask"), err);
    for (int i = 0; status == TSR_OK && i < call->results[0]->masks.n; i++)
        status = tsr_mask_feather_edges(call->results[0]->masks.items[i], tsr__arg_int(call->in, "left"),
                                        tsr__arg_int(call->in, "top"), tsr__arg_int(call->in, "right"),
                                        tsr__arg_int(call->in, "bottom"), err);
    return status;
}

static const tsr__input crop_inputs[] = {
    TSR__LINK("mask", MASK, "The mask."),
    TSR__INT("x", 0, 0, SIZE_MAX_PX, "Pixels from the left."),
    TSR__INT("y", 0, 0, SIZE_MAX_PX, "Pixels from the top."),
    TSR__INT("width", 512, 1, SIZE_MAX_PX, "Pixels; cut at the mask's end."),
    TSR__INT("height", 512, 1, SIZE_MAX_PX, "Pixels; cut at the mask's end."),
    TSR__END,
};

static tsr_status run_crop(tsr__call *call, tsr_error *err) {
    const tsr__masks *m = &tsr__arg(call->in, "mask")->masks;
    int x = tsr__arg_int(call->in, "x"), y = tsr__arg_int(call->in, "y"), w = tsr__arg_int(call->in, "width"),
        h = tsr__arg_int(call->in, "height"), whole = m->items[0]->width;
    if (w > whole - x) w = whole - x;
    if (h > m->items[0]->height - y) h = m->items[0]->height - y;
    if (w < 1 || h < 1)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "the box starts at (%d, %d), outside a mask of %dx%d", x, y, whole,
                         m->items[0]->height);
    tsr_status status = tsr__value_masks(&call->results[0], m->n, w, h, err);
    for (int i = 0; status == TSR_OK && i < m->n; i++)
        for (int row = 0; row < h; row++)
            memcpy(call->results[0]->masks.items[i]->values + (size_t)row * (size_t)w,
                   m->items[i]->values + (size_t)(y + row) * (size_t)whole + (size_t)x, (size_t)w * sizeof(float));
    return status;
}

/* --- growing -------------------------------------------------------------------------------------------------------------------- */
/* The largest (or smallest) value under a window of w x h whose top left corner lies (left, top) before the pixel; what lies
 * outside does not count. cross: the window's corners do not count either. */
static void extreme(float *out, const tsr_mask *mask, int left, int top, int w, int h, int cross, int smallest) {
    for (int y = 0; y < mask->height; y++)
        for (int x = 0; x < mask->width; x++) {
            float best = mask->values[(size_t)y * (size_t)mask->width + (size_t)x];
            for (int j = 0; j < h; j++)
                for (int i = 0; i < w; i++) {
                    int v = y - top + j, u = x - left + i;
                    if (v < 0 || u < 0 || v >= mask->height || u >= mask->width) continue;
                    if (cross && v != y && u != x) continue;
                    float value = mask->values[(size_t)v * (size_t)mask->width + (size_t)u];
                    if (smallest ? value < best : value > best) best = value;
                }
            out[(size_t)y * (size_t)mask->width + (size_t)x] = best;
        }
}

static tsr_status apply_window(tsr_mask *mask, int left, int top, int w, int h, int cross, int smallest,
                               tsr_error *err) {
    tsr_status status = TSR_OK;
    float *values = NULL;
    TSR_ALLOC(err, values, (size_t)mask->width * (size_t)mask->height);
    extreme(values, mask, left, top, w, h, cross, smallest);
    free(mask->values);
    mask->values = values;
done:
    return status;
}

static const tsr__input grow_inputs[] = {
    TSR__LINK("mask", MASK, "The mask."),
    TSR__INT("expand", 0, -SIZE_MAX_PX, SIZE_MAX_PX, "Pixels; negative shrinks."),
    TSR__BOOL("tapered_corners", 1, "Round corners off."),
    TSR__END,
};

static tsr_status run_grow(tsr__call *call, tsr_error *err) {
    int expand = tsr__arg_int(call->in, "expand"), cross = tsr__arg_bool(call->in, "tapered_corners");
    tsr_status status = copy(&call->results[0], tsr__arg(call->in, "mask"), err);
    for (int i = 0; status == TSR_OK && i < call->results[0]->masks.n; i++) {
        tsr_mask *mask = call->results[0]->masks.items[i];
        /* After as many steps as there are pixels nothing changes any more. */
        int steps = abs(expand) < mask->width + mask->height ? abs(expand) : mask->width + mask->height;
        for (int k = 0; status == TSR_OK && k < steps; k++)
            status = apply_window(mask, 1, 1, 3, 3, cross, expand < 0, err);
    }
    return status;
}

static const tsr__input dilate_inputs[] = {
    TSR__LINK("mask", MASK, "The mask."),
    TSR__INT("dilation", 10, -512, 512, "Side of the square that is moved over the mask; negative shrinks."),
    TSR__END,
};

static tsr_status run_dilate(tsr__call *call, tsr_error *err) {
    int dilation = tsr__arg_int(call->in, "dilation"), side = abs(dilation), shrink = dilation < 0;
    tsr_status status = copy(&call->results[0], tsr__arg(call->in, "mask"), err);
    for (int i = 0; status == TSR_OK && side > 1 && i < call->results[0]->masks.n; i++) {
        tsr_mask *mask = call->results[0]->masks.items[i];
        /* A square is a row and then a column. */
        status = apply_window(mask, side / 2, 0, side, 1, 0, shrink, err);
        if (status == TSR_OK) status = apply_window(mask, 0, side / 2, 1, side, 0, shrink, err);
    }
    return status;
}

/* --- blur ----------------------------------------------------------------------------------------------------------------------- */
static const tsr__input blur_inputs[] = {
    TSR__LINK("mask", MASK, "The mask."),
    TSR__INT("kernel_size", 10, 0, 100, "Radius in pixels."),
    TSR__FLOAT("sigma", 10.0, 0.1, 100.0, 0.1, "Of the Gaussian, in pixels."),
    TSR__END,
};

static int reflected(int at, int size) {
    if (at < 0) at = -at;
    return at >= size ? 2 * size - 2 - at : at;
}

/* One direction of the blur; step is the distance of neighbours in memory. */
static void blur_line(float *out, const float *in, int size, size_t step, const float *kernel, int radius) {
    for (int i = 0; i < size; i++) {
        float sum = 0.0f;
        for (int k = -radius; k <= radius; k++) sum += kernel[k + radius] * in[(size_t)reflected(i + k, size) * step];
        out[(size_t)i * step] = sum;
    }
}

static tsr_status blur(tsr_mask *mask, int size, double sigma, tsr_error *err) {
    tsr_status status = TSR_OK;
    float *kernel = NULL, *other = NULL;
    double total = 0.0;
    int radius = size / 2, w = mask->width, h = mask->height;
    TSR_ALLOC(err, kernel, size);
    TSR_ALLOC(err, other, (size_t)w * (size_t)h);
    for (int i = 0; i < size; i++) total += exp(-0.5 * pow((i - radius) / sigma, 2.0));
    for (int i = 0; i < size; i++) kernel[i] = (float)(exp(-0.5 * pow((i - radius) / sigma, 2.0)) / total);
    for (int y = 0; y < h; y++)
        blur_line(other + (size_t)y * (size_t)w, mask->values + (size_t)y * (size_t)w, w, 1, kernel, radius);
    for (int x = 0; x < w; x++) blur_line(mask->values + x, other + x, h, (size_t)w, kernel, radius);
done:
    free(kernel);
    free(other);
    return status;
}

/* The window is at most about half of the shorter side. */
static tsr_status run_blur(tsr__call *call, tsr_error *err) {
    int size = tsr__arg_int(call->in, "kernel_size");
    tsr_status status = copy(&call->results[0], tsr__arg(call->in, "mask"), err);
    if (status != TSR_OK || size <= 0) return status;
    size = 2 * size + 1;
    const tsr_mask *first = call->results[0]->masks.items[0];
    int shortest = first->width < first->height ? first->width : first->height;
    if (shortest <= size) size = shortest / 2 + (shortest / 2 % 2 == 0);
    if (size < 3) return TSR_OK;
    for (int i = 0; status == TSR_OK && i < call->results[0]->masks.n; i++)
        status = blur(call->results[0]->masks.items[i], size, tsr__arg_float(call->in, "sigma"), err);
    return status;
}

/* --- two masks ------------------------------------------------------------------------------------------------------------------ */
static const tsr__input two_inputs[] = {
    TSR__LINK("mask1", MASK, "The first mask."),
    TSR__LINK("mask2", MASK, "The second mask; of another size it does nothing."),
    TSR__END,
};

static tsr_status combine(tsr__call *call, float (*f)(float a, float b), tsr_error *err) {
    const tsr__value *a = tsr__arg(call->in, "mask1"), *b = tsr__arg(call->in, "mask2");
    const tsr_mask *first = a->masks.items[0], *second = b->masks.items[0];
    if (first->width != second->width || first->height != second->height) /* the reference: mostly an empty mask */
        return tsr__give(call, 0, tsr__value_ref(tsr__arg(call->in, "mask1")), TSR_OK);
    tsr_status status = copy(&call->results[0], a, err);
    for (int i = 0; status == TSR_OK && i < a->masks.n; i++)
        for (size_t k = 0; k < (size_t)first->width * (size_t)first->height; k++) {
            float *to = &call->results[0]->masks.items[i]->values[k];
            *to = fminf(fmaxf(f(*to, b->masks.items[i % b->masks.n]->values[k]), 0.0f), 1.0f);
        }
    return status;
}

static float sum(float a, float b) {
    return a + b;
}

static float difference(float a, float b) {
    return a - b;
}

/* The reference takes the bits of both floats; on masks of 0 and 1 that is what the name says. */
static float both_bits(float a, float b) {
    uint32_t x, y;
    memcpy(&x, &a, sizeof x);
    memcpy(&y, &b, sizeof y);
    x &= y;
    memcpy(&a, &x, sizeof a);
    return a;
}

static tsr_status run_add(tsr__call *call, tsr_error *err) {
    return combine(call, sum, err);
}

static tsr_status run_subtract(tsr__call *call, tsr_error *err) {
    return combine(call, difference, err);
}

static tsr_status run_and(tsr__call *call, tsr_error *err) {
    return combine(call, both_bits, err);
}

static const tsr__input binary_inputs[] = {
    TSR__LINK("mask", MASK, "The mask."),
    TSR__INT("threshold", 20, 1, 255, "Of 255: above it 1, else 0."),
    TSR__END,
};

static tsr_status run_binary(tsr__call *call, tsr_error *err) {
    return map(call, tsr__arg(call->in, "mask"), above, (float)tsr__arg_int(call->in, "threshold") / 255.0f, err);
}

#define GIVES_MASK                                                                                                     \
    {                                                                                                                  \
        { "MASK", TSR__V_MASK }                                                                                        \
    }
static const tsr__node rows[] = {
    { "SolidMask", "SolidMask", "mask", solid_inputs, GIVES_MASK, 0, run_solid, "A mask of one value." },
    { "ImageToMask", "Convert Image to Mask", "mask", from_image_inputs, GIVES_MASK, 0, run_from_image,
      "A channel of a picture as a mask." },
    { "ImageColorToMask", "ImageColorToMask", "mask", color_inputs, GIVES_MASK, 0, run_color,
      "1 where a picture has exactly one colour." },
    { "MaskToImage",
      "Convert Mask to Image",
      "mask",
      one_mask,
      { { "IMAGE", TSR__V_IMAGE } },
      0,
      run_to_image,
      "A mask as a grey picture." },
    { "MaskComposite", "MaskComposite", "mask", composite_inputs, GIVES_MASK, 0, run_composite,
      "One mask put on another." },
    { "InvertMask", "InvertMask", "mask", one_mask, GIVES_MASK, 0, run_invert, "1 minus the mask." },
    { "FeatherMask", "FeatherMask", "mask", feather_inputs, GIVES_MASK, 0, run_feather,
      "Fades a mask towards the picture's edges." },
    { "GrowMask", "GrowMask", "mask", grow_inputs, GIVES_MASK, 0, run_grow, "Grows or shrinks a mask." },
    { "CropMask", "CropMask", "mask", crop_inputs, GIVES_MASK, 0, run_crop, "A box of a mask." },
    { "ThresholdMask", "ThresholdMask", "mask", threshold_inputs, GIVES_MASK, 0, run_threshold,
      "A mask of 0 and 1 only." },
    { "ImpactDilateMask", "Dilate Mask", "ImpactPack/Util", dilate_inputs, GIVES_MASK, 0, run_dilate,
      "Grows or shrinks a mask by a square." },
    { "ImpactGaussianBlurMask", "Gaussian Blur Mask", "ImpactPack/Util", blur_inputs, GIVES_MASK, 0, run_blur,
      "Softens a mask." },
    { "AddMask", "Pixelwise(MASK + MASK)", "ImpactPack/Operation", two_inputs, GIVES_MASK, 0, run_add,
      "Two masks added, at most 1." },
    { "SubtractMask", "Pixelwise(MASK - MASK)", "ImpactPack/Operation", two_inputs, GIVES_MASK, 0, run_subtract,
      "The second mask taken off the first." },
    { "BitwiseAndMask", "Pixelwise(MASK & MASK)", "ImpactPack/Operation", two_inputs, GIVES_MASK, 0, run_and,
      "Where both masks are." },
    { "ToBinaryMask", "ToBinaryMask", "ImpactPack/Operation", binary_inputs, GIVES_MASK, 0, run_binary,
      "A mask of 0 and 1 only, by a threshold of 255." },
};
const tsr__node_group tsr__nodes_mask = { rows, sizeof rows / sizeof *rows, "nodes" };
