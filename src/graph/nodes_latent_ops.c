/* graph/nodes_latent_ops.c - rows that turn, cut and mix latents. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "graph/graph_priv.h"

static const tsr_latent *latent_arg(tsr__call *call, const char *name) {
    return tsr__arg(call->in, name)->latent;
}

static tsr_status give(tsr__call *call, tsr_latent *latent, tsr_error *err) {
    return tsr__value_take_latent(&call->results[0], latent, err);
}

/* --- turned -------------------------------------------------------------------------------------------------------------------- */
static const char *const flips[] = { "x-axis: vertically", "y-axis: horizontally", NULL };
static const tsr__input flip_inputs[] = {
    TSR__LINK("samples", LATENT, "The latent."),
    TSR__COMBO("flip_method", flips, NULL, "vertically: top and bottom change places."),
    TSR__END,
};
static const char *const rotations[] = { "none", "90 degrees", "180 degrees", "270 degrees", NULL };
static const tsr__input rotate_inputs[] = {
    TSR__LINK("samples", LATENT, "The latent."),
    TSR__COMBO("rotation", rotations, NULL, "Clockwise."),
    TSR__END,
};

/* The source of place (y, x) of a plane of h x w after so many quarter turns; of a turned plane y and x swap sides. */
static size_t turned(int quarters, int y, int x, int h, int w) {
    int from_y = quarters == 0 ? y : quarters == 1 ? h - 1 - x : quarters == 2 ? h - 1 - y : x;
    int from_x = quarters == 0 ? x : quarters == 1 ? y : quarters == 2 ? w - 1 - x : w - 1 - y;
    return (size_t)from_y * (size_t)w + (size_t)from_x;
}

/* The picture's noise mask and indices stay as they are, as in the reference. */
static tsr_status with_size(tsr_latent **out, const tsr_latent *like, int h, int w, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_latent *made = NULL;
    *out = NULL;
    TSR_TRY(tsr_latent_new(&made, like->shape[0], like->shape[1], h, w, err));
    if (like->noise_mask) TSR_TRY(tsr_mask_copy(&made->noise_mask, like->noise_mask, err));
    if (like->batch_index) {
        TSR_ALLOC(err, made->batch_index, like->shape[0]);
        memcpy(made->batch_index, like->batch_index, (size_t)like->shape[0] * sizeof *made->batch_index);
    }
    *out = made;
    made = NULL;
done:
    tsr_latent_free(made);
    return status;
}

static tsr_status run_rotate(tsr__call *call, tsr_error *err) {
    const tsr_latent *from = latent_arg(call, "samples");
    int quarters = 0, h = from->shape[2], w = from->shape[3];
    while (rotations[quarters + 1] && strcmp(rotations[quarters], tsr__arg_text(call->in, "rotation")) != 0) quarters++;
    tsr_latent *made = NULL;
    tsr_status status = with_size(&made, from, quarters % 2 ? w : h, quarters % 2 ? h : w, err);
    if (status != TSR_OK) return status;
    size_t plane = (size_t)h * (size_t)w, planes = (size_t)from->shape[0] * (size_t)from->shape[1];
    float *to = made->values;
    for (size_t p = 0; p < planes; p++)
        for (int y = 0; y < made->shape[2]; y++)
            for (int x = 0; x < made->shape[3]; x++) *to++ = from->values[p * plane + turned(quarters, y, x, h, w)];
    return give(call, made, err);
}

static tsr_status run_flip(tsr__call *call, tsr_error *err) {
    const tsr_latent *from = latent_arg(call, "samples");
    int vertical = strcmp(tsr__arg_text(call->in, "flip_method"), flips[0]) == 0;
    int h = from->shape[2], w = from->shape[3];
    tsr_latent *made = NULL;
    tsr_status status = with_size(&made, from, h, w, err);
    if (status != TSR_OK) return status;
    size_t planes = (size_t)from->shape[0] * (size_t)from->shape[1];
    float *to = made->values;
    for (size_t p = 0; p < planes; p++)
        for (int y = 0; y < h; y++)
            for (int x = 0; x < w; x++)
                *to++ = from->values[(p * (size_t)h + (size_t)(vertical ? h - 1 - y : y)) * (size_t)w +
                                     (size_t)(vertical ? x : w - 1 - x)];
    return give(call, made, err);
}

/* --- cut ----------------------------------------------------------------------------------------------------------------------- */
static const tsr__input crop_inputs[] = {
    TSR__LINK("samples", LATENT, "The latent."),
    TSR__INT_STEP("width", 512, 64, 16384, 8, "Pixels; cut at the latent's end."),
    TSR__INT_STEP("height", 512, 64, 16384, 8, "Pixels; cut at the latent's end."),
    TSR__INT_STEP("x", 0, 0, 16384, 8, "Pixels from the left."),
    TSR__INT_STEP("y", 0, 0, 16384, 8, "Pixels from the top."),
    TSR__END,
};

/* A box starts early enough to be 8 latent pixels long. */
static void clip_box(int *start, int *length, int side) {
    enum { LEAST = 8 };
    if (*start > side - LEAST) *start = side > LEAST ? side - LEAST : 0;
    if (*length > side - *start) *length = side - *start;
}

static tsr_status run_crop(tsr__call *call, tsr_error *err) {
    const tsr_latent *from = latent_arg(call, "samples");
    int x = tsr__arg_int(call->in, "x") / 8, y = tsr__arg_int(call->in, "y") / 8;
    int w = tsr__arg_int(call->in, "width") / 8, h = tsr__arg_int(call->in, "height") / 8;
    clip_box(&x, &w, from->shape[3]);
    clip_box(&y, &h, from->shape[2]);
    tsr_latent *made = NULL;
    tsr_status status = with_size(&made, from, h, w, err);
    if (status != TSR_OK) return status;
    size_t planes = (size_t)from->shape[0] * (size_t)from->shape[1];
    float *to = made->values;
    for (size_t p = 0; p < planes; p++)
        for (int row = 0; row < h; row++, to += w)
            memcpy(to,
                   from->values + (p * (size_t)from->shape[2] + (size_t)(y + row)) * (size_t)from->shape[3] + (size_t)x,
                   (size_t)w * sizeof *to);
    return give(call, made, err);
}

/* --- mixed --------------------------------------------------------------------------------------------------------------------- */
static const tsr__input two_inputs[] = {
    TSR__LINK("samples1", LATENT, "The first latent."),
    TSR__LINK("samples2", LATENT, "The second, brought to the first one's size."),
    TSR__END,
};
static const tsr__input blend_inputs[] = {
    TSR__LINK("samples1", LATENT, "The first latent."),
    TSR__LINK("samples2", LATENT, "The second, brought to the first one's size."),
    TSR__FLOAT("blend_factor", 0.5, 0.0, 1.0, 0.01, "Share of the first."),
    TSR__END,
};
static const tsr__input ratio_inputs[] = {
    TSR__LINK("samples1", LATENT, "The first latent."),
    TSR__LINK("samples2", LATENT, "The second, brought to the first one's size."),
    TSR__FLOAT("ratio", 1.0, 0.0, 1.0, 0.01, "Share of the first."),
    TSR__END,
};
static const tsr__input multiply_inputs[] = {
    TSR__LINK("samples", LATENT, "The latent."),
    TSR__FLOAT("multiplier", 1.0, -10.0, 10.0, 0.01, "Of every value."),
    TSR__END,
};

/* samples2 in the size and number of samples1: [n, c, h, w] values for the caller to free. */
static tsr_status fitted(float **out, tsr__call *call, tsr_resize_method method, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr_latent *like = latent_arg(call, "samples1"), *from = latent_arg(call, "samples2");
    const int h = like->shape[2], w = like->shape[3];
    int left = 0, top = 0;
    float *cut = NULL, *sized = NULL;
    *out = NULL;
    if (like->shape[1] != from->shape[1])
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "samples2: %d channels, samples1 has %d", from->shape[1], like->shape[1]);
    tsr_resize_center_crop(&left, &top, from->shape[3], from->shape[2], w, h);
    const int shape[4] = { from->shape[0], from->shape[1], from->shape[2] - 2 * top, from->shape[3] - 2 * left };
    size_t planes = (size_t)shape[0] * (size_t)shape[1], each = (size_t)like->shape[1] * (size_t)h * (size_t)w;
    TSR_ALLOC(err, cut, planes * (size_t)shape[2] * (size_t)shape[3]);
    TSR_ALLOC(err, sized, planes * (size_t)h * (size_t)w);
    for (size_t row = 0; row < planes * (size_t)shape[2]; row++)
        memcpy(cut + row * (size_t)shape[3],
               from->values +
                   (row / (size_t)shape[2] * (size_t)from->shape[2] + row % (size_t)shape[2] + (size_t)top) *
                       (size_t)from->shape[3] +
                   (size_t)left,
               (size_t)shape[3] * sizeof *cut);
    TSR_TRY(tsr_resize_nchw(sized, h, w, cut, shape, method, err));
    TSR_ALLOC(err, *out, (size_t)like->shape[0] * each);
    for (int i = 0; i < like->shape[0]; i++)
        memcpy(*out + (size_t)i * each, sized + (size_t)(i % shape[0]) * each, each * sizeof **out);
done:
    free(cut);
    free(sized);
    return status;
}

/* a * samples1 + b * samples2. */
static tsr_status weigh(tsr__call *call, float a, float b, tsr_resize_method method, tsr_error *err) {
    tsr_status status = TSR_OK;
    float *other = NULL;
    tsr_latent *made = NULL;
    TSR_TRY(fitted(&other, call, method, err));
    TSR_TRY(tsr_latent_copy(&made, latent_arg(call, "samples1"), err));
    for (size_t i = 0; i < tsr_latent_count(made); i++) made->values[i] = made->values[i] * a + other[i] * b;
    status = give(call, made, err);
done:
    free(other);
    return status;
}

static tsr_status run_add(tsr__call *call, tsr_error *err) {
    return weigh(call, 1.0f, 1.0f, TSR_RESIZE_BILINEAR, err);
}

static tsr_status run_subtract(tsr__call *call, tsr_error *err) {
    return weigh(call, 1.0f, -1.0f, TSR_RESIZE_BILINEAR, err);
}

static tsr_status run_blend(tsr__call *call, tsr_error *err) {
    double share = tsr__arg_float(call->in, "blend_factor");
    return weigh(call, (float)share, (float)(1.0 - share), TSR_RESIZE_BICUBIC, err);
}

static tsr_status run_multiply(tsr__call *call, tsr_error *err) {
    tsr_latent *made = NULL;
    float by = (float)tsr__arg_float(call->in, "multiplier");
    tsr_status status = tsr_latent_copy(&made, latent_arg(call, "samples"), err);
    for (size_t i = 0; status == TSR_OK && i < tsr_latent_count(made); i++) made->values[i] *= by;
    return status == TSR_OK ? give(call, made, err) : status;
}

/* The vector of a pixel's channels: its length, and the values `step` apart divided by it. */
static float unit(float *out, const float *in, int channels, size_t step) {
    float sum = 0.0f;
    for (int c = 0; c < channels; c++) sum += in[(size_t)c * step] * in[(size_t)c * step];
    float length = sqrtf(sum);
    for (int c = 0; c < channels; c++) out[c] = length > 0.0f ? in[(size_t)c * step] / length : 0.0f;
    return length;
}

/* Directions and lengths of the pixels' vectors are mixed apart. */
static void interpolate(float *a, const float *b, int channels, size_t step, float ratio) {
    float one[64], two[64], mixed[64];
    float lengths[2] = { unit(one, a, channels, step), unit(two, b, channels, step) };
    for (int c = 0; c < channels; c++) mixed[c] = one[c] * ratio + two[c] * (1.0f - ratio);
    unit(mixed, mixed, channels, 1);
    float length = lengths[0] * ratio + lengths[1] * (1.0f - ratio);
    for (int c = 0; c < channels; c++) a[(size_t)c * step] = mixed[c] * length;
}

static tsr_status run_interpolate(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    float *other = NULL, ratio = (float)tsr__arg_float(call->in, "ratio");
    tsr_latent *made = NULL;
    TSR_TRY(fitted(&other, call, TSR_RESIZE_BILINEAR, err));
    TSR_TRY(tsr_latent_copy(&made, latent_arg(call, "samples1"), err));
    size_t plane = (size_t)made->shape[2] * (size_t)made->shape[3], item = plane * (size_t)made->shape[1];
    for (size_t i = 0; i < (size_t)made->shape[0]; i++)
        for (size_t p = 0; p < plane; p++)
            interpolate(made->values + i * item + p, other + i * item + p, made->shape[1], plane, ratio);
    status = give(call, made, err);
done:
    free(other);
    return status;
}

/* --- seeds of a batch ------------------------------------------------------------------------------------------------------------ */
static const char *const behaviors[] = { "random", "fixed", NULL };
static const tsr__input behavior_inputs[] = {
    TSR__LINK("samples", LATENT, "The latent."),
    TSR__COMBO("seed_behavior", behaviors, "fixed", "fixed: every picture of the batch gets the first one's noise."),
    TSR__END,
};

static tsr_status run_behavior(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_latent *made = NULL;
    int first = 0;
    TSR_TRY(tsr_latent_copy(&made, latent_arg(call, "samples"), err));
    if (made->batch_index) first = made->batch_index[0];
    free(made->batch_index);
    made->batch_index = NULL;
    if (strcmp(tsr__arg_text(call->in, "seed_behavior"), "fixed") == 0) {
        TSR_ALLOC(err, made->batch_index, made->shape[0]);
        for (int i = 0; i < made->shape[0]; i++) made->batch_index[i] = first;
    }
    status = give(call, made, err);
    made = NULL;
done:
    tsr_latent_free(made);
    return status;
}

#define GIVES_LATENT                                                                                                   \
    {                                                                                                                  \
        { "LATENT", TSR__V_LATENT }                                                                                    \
    }
#define ADVANCED "latent/advanced"
static const tsr__node rows[] = {
    { "LatentFlip", "Flip Latent", "latent/transform", flip_inputs, GIVES_LATENT, 0, run_flip, "A latent mirrored." },
    { "LatentRotate", "Rotate Latent", "latent/transform", rotate_inputs, GIVES_LATENT, 0, run_rotate,
      "A latent turned by quarters." },
    { "LatentCrop", "Crop Latent", "latent/transform", crop_inputs, GIVES_LATENT, 0, run_crop, "A box of a latent." },
    { "LatentBlend", "Latent Blend", "_for_testing", blend_inputs, GIVES_LATENT, 0, run_blend,
      "A mix of two latents." },
    { "LatentAdd", "LatentAdd", ADVANCED, two_inputs, GIVES_LATENT, 0, run_add, "The sum of two latents." },
    { "LatentSubtract", "LatentSubtract", ADVANCED, two_inputs, GIVES_LATENT, 0, run_subtract,
      "The difference of two latents." },
    { "LatentMultiply", "LatentMultiply", ADVANCED, multiply_inputs, GIVES_LATENT, 0, run_multiply,
      "A latent, larger or smaller in its values." },
    { "LatentInterpolate", "LatentInterpolate", ADVANCED, ratio_inputs, GIVES_LATENT, 0, run_interpolate,
      "Between two latents: directions and lengths mixed apart." },
    { "LatentBatchSeedBehavior", "LatentBatchSeedBehavior", ADVANCED, behavior_inputs, GIVES_LATENT, 0, run_behavior,
      "Whether pictures of a batch get noise of their own." },
};
const tsr__node_group tsr__nodes_latent_ops = { rows, sizeof rows / sizeof *rows, "nodes" };
