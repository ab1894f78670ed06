/* graph/nodes_image_ops.c - rows that pad, turn, repeat and lay pictures over one another; numbers typed in. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "graph/graph_priv.h"
#include "picture/resize_priv.h"

#define SIDE_MAX TSR_IMAGE_MAX_SIDE

static const tsr__pictures *pictures_arg(tsr__call *call, const char *name) {
    return &tsr__arg(call->in, name)->pictures;
}

static float *pixel(const tsr__pictures *p, int i, int y, int x) {
    return p->values + (((size_t)i * (size_t)p->h + (size_t)y) * (size_t)p->w + (size_t)x) * (size_t)p->c;
}

/* --- making -------------------------------------------------------------------------------------------------------------------- */
static const tsr__input empty_inputs[] = {
    TSR__INT("width", 512, 1, SIDE_MAX, "Pixels."),
    TSR__INT("height", 512, 1, SIDE_MAX, "Pixels."),
    TSR__INT("batch_size", 1, 1, 4096, "Pictures."),
    TSR__INT("color", 0, 0, 0xFFFFFF, "0xRRGGBB as a number."),
    TSR__END,
};

static tsr_status run_empty(tsr__call *call, tsr_error *err) {
    int color = tsr__arg_int(call->in, "color");
    const float rgb[3] = { (float)(color >> 16 & 255) / 255.0f, (float)(color >> 8 & 255) / 255.0f,
                           (float)(color & 255) / 255.0f };
    tsr_status status = tsr__value_pictures(&call->results[0], tsr__arg_int(call->in, "batch_size"),
                                            tsr__arg_int(call->in, "height"), tsr__arg_int(call->in, "width"), 3, err);
    if (status != TSR_OK) return status;
    tsr__pictures *p = &call->results[0]->pictures;
    size_t count = (size_t)p->n * (size_t)p->h * (size_t)p->w;
    for (size_t i = 0; i < count; i++) memcpy(p->values + 3 * i, rgb, sizeof rgb);
    return TSR_OK;
}

/* --- size ---------------------------------------------------------------------------------------------------------------------- */
static const tsr__input total_inputs[] = {
    TSR__LINK("image", IMAGE, "The pictures."),
    TSR__COMBO("upscale_method", tsr__scale_methods, NULL, "How values between are found."),
    TSR__FLOAT("megapixels", 1.0, 0.01, 16.0, 0.01, "Of 1024 x 1024 pixels each."),
    { "resolution_steps", TSR__V_INT, TSR__IN_OPTIONAL, 1, 1, 256, 1, NULL, NULL, NULL, "Sides become multiples." },
    TSR__END,
};

static tsr_status run_total(tsr__call *call, tsr_error *err) {
    const tsr__pictures *p = pictures_arg(call, "image");
    double total = tsr__arg_float(call->in, "megapixels") * 1024.0 * 1024.0;
    double by = sqrt(total / ((double)p->w * p->h)), step = tsr__arg_int(call->in, "resolution_steps");
    return tsr__scale(&call->results[0], p, (int)(rint(p->w * by / step) * step), (int)(rint(p->h * by / step) * step),
                      tsr__arg_text(call->in, "upscale_method"), 0, err);
}

static const tsr__input pad_inputs[] = {
    TSR__LINK("image", IMAGE, "The pictures."),
    TSR__INT_STEP("left", 0, 0, SIDE_MAX, 8, "Pixels to add."),
    TSR__INT_STEP("top", 0, 0, SIDE_MAX, 8, "Pixels to add."),
    TSR__INT_STEP("right", 0, 0, SIDE_MAX, 8, "Pixels to add."),
    TSR__INT_STEP("bottom", 0, 0, SIDE_MAX, 8, "Pixels to add."),
    TSR__INT("feathering", 40, 0, SIDE_MAX, "Pixels of the picture over which the mask fades."),
    TSR__END,
};

static tsr_status run_pad(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    static const char *const names[4] = { "left", "top", "right", "bottom" };
    const tsr__pictures *p = pictures_arg(call, "image");
    tsr_mask *mask = NULL;
    int sides[4];
    for (int i = 0; i < 4; i++) sides[i] = tsr__arg_int(call->in, names[i]);
    int w = p->w + sides[0] + sides[2], h = p->h + sides[1] + sides[3];
    TSR_TRY(tsr__value_pictures(&call->results[0], p->n, h, w, p->c, err));
    tsr__pictures *to = &call->results[0]->pictures;
    size_t count = (size_t)to->n * (size_t)h * (size_t)w * (size_t)to->c;
    for (size_t i = 0; i < count; i++) to->values[i] = 0.5f;
    for (int i = 0; i < p->n; i++)
        for (int y = 0; y < p->h; y++)
            memcpy(pixel(to, i, y + sides[1], sides[0]), pixel(p, i, y, 0),
                   (size_t)p->w * (size_t)p->c * sizeof *p->values);
    const tsr_margins margins = { sides[0], sides[1], sides[2], sides[3] };
    TSR_TRY(tsr_mask_outpaint(&mask, p->w, p->h, &margins, tsr__arg_int(call->in, "feathering"), err));
    status = tsr__value_take_mask(&call->results[1], mask, err);
done:
    return status;
}

/* --- composite ----------------------------------------------------------------------------------------------------------------- */
static const tsr__input composite_inputs[] = {
    TSR__LINK("destination", IMAGE, "What is painted over."),
    TSR__LINK("source", IMAGE, "What is put on it."),
    TSR__INT("x", 0, 0, SIDE_MAX, "Pixels from the left."),
    TSR__INT("y", 0, 0, SIDE_MAX, "Pixels from the top."),
    TSR__BOOL("resize_source", 0, "Bring the source to the destination's size first."),
    TSR__LINK_OPT("mask", MASK, "How much of the source is seen; without it all."),
    TSR__END,
};

static void lay_over(const tsr__pictures *to, const tsr__pictures *from, int i, int x0, int y0, const float *weight) {
    int channels = to->c < from->c ? to->c : from->c;
    for (int y = 0; y < from->h && y + y0 < to->h; y++)
        for (int x = 0; x < from->w && x + x0 < to->w; x++) {
            float m = weight ? weight[(size_t)y * (size_t)from->w + (size_t)x] : 1.0f;
            float *d = pixel(to, i, y + y0, x + x0);
            const float *s = pixel(from, i % from->n, y, x);
            for (int c = 0; c < channels; c++) d[c] = m * s[c] + (1.0f - m) * d[c];
        }
}

static tsr_status run_composite(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__pictures *to = pictures_arg(call, "destination"), *from = pictures_arg(call, "source");
    const tsr__value *mask = tsr__arg(call->in, "mask");
    tsr__value *sized = NULL;
    float *weight = NULL;
    if (tsr__arg_bool(call->in, "resize_source")) {
        TSR_TRY(tsr__scale(&sized, from, to->w, to->h, "bilinear", 0, err));
        from = &sized->pictures;
    }
    TSR_TRY(tsr__value_pictures(&call->results[0], to->n, to->h, to->w, to->c, err));
    memcpy(call->results[0]->pictures.values, to->values,
           (size_t)to->n * (size_t)to->h * (size_t)to->w * (size_t)to->c * sizeof *to->values);
    if (mask) TSR_ALLOC(err, weight, (size_t)from->h * (size_t)from->w);
    for (int i = 0; i < to->n; i++) {
        const tsr_mask *one = mask ? mask->masks.items[i % mask->masks.n] : NULL;
        if (one) TSR_TRY(tsr__resize_bilinear(weight, from->h, from->w, one->values, one->height, one->width, 0, err));
        lay_over(&call->results[0]->pictures, from, i, tsr__arg_int(call->in, "x"), tsr__arg_int(call->in, "y"),
                 weight);
    }
done:
    free(weight);
    tsr__value_unref(sized);
    return status;
}

/* --- batches ------------------------------------------------------------------------------------------------------------------- */
static const tsr__input repeat_inputs[] = {
    TSR__LINK("image", IMAGE, "The pictures."),
    TSR__INT("amount", 1, 1, 4096, "How often the whole batch stands behind itself."),
    TSR__END,
};
static const tsr__input from_batch_inputs[] = {
    TSR__LINK("image", IMAGE, "The pictures."),
    TSR__INT("batch_index", 0, 0, 4095, "The first picture to take, from 0."),
    TSR__INT("length", 1, 1, 4096, "How many."),
    TSR__END,
};

/* n pictures from `first` on, counted round. */
static tsr_status take(tsr__call *call, int first, int n, tsr_error *err) {
    const tsr__pictures *p = pictures_arg(call, "image");
    tsr_status status = tsr__value_pictures(&call->results[0], n, p->h, p->w, p->c, err);
    size_t each = (size_t)p->h * (size_t)p->w * (size_t)p->c;
    for (int i = 0; status == TSR_OK && i < n; i++)
        memcpy(call->results[0]->pictures.values + (size_t)i * each, p->values + (size_t)((first + i) % p->n) * each,
               each * sizeof *p->values);
    return status;
}

static tsr_status run_repeat(tsr__call *call, tsr_error *err) {
    return take(call, 0, pictures_arg(call, "image")->n * tsr__arg_int(call->in, "amount"), err);
}

static tsr_status run_from_batch(tsr__call *call, tsr_error *err) {
    int n = pictures_arg(call, "image")->n, first = tsr__arg_int(call->in, "batch_index"),
        length = tsr__arg_int(call->in, "length");
    if (first > n - 1) first = n - 1;
    return take(call, first, length < n - first ? length : n - first, err);
}

/* --- numbers and texts --------------------------------------------------------------------------------------------------------- */
static const tsr__input size_inputs[] = { TSR__LINK("image", IMAGE, "The pictures."), TSR__END };

static tsr_status give_int(tsr__call *call, int slot, int value, tsr_error *err) {
    tsr_status status = tsr__value_new(&call->results[slot], TSR__V_INT, err);
    if (status != TSR_OK) return status;
    call->results[slot]->integer = value;
    call->results[slot]->bits = (uint64_t)value;
    call->results[slot]->number = value;
    return TSR_OK;
}

static tsr_status run_size(tsr__call *call, tsr_error *err) {
    const tsr__pictures *p = pictures_arg(call, "image");
    tsr_status status = give_int(call, 0, p->w, err);
    if (status == TSR_OK) status = give_int(call, 1, p->h, err);
    return status == TSR_OK ? give_int(call, 2, p->n, err) : status;
}

#define WHOLE 9223372036854774784.0 /* the largest double below 2^63 */
static const tsr__input int_inputs[] = {
    { "value", TSR__V_INT, TSR__IN_CONTROL, 0, -WHOLE, WHOLE, 1, NULL, NULL, NULL, "The number." },
    TSR__END,
};
static const tsr__input float_inputs[] = { TSR__FLOAT("value", 0.0, -1e15, 1e15, 0.1, "The number."), TSR__END };
static const tsr__input bool_inputs[] = { TSR__BOOL("value", 0, "On or off."), TSR__END };
static const tsr__input string_inputs[] = { TSR__STRING("value", 0, "", "The text."), TSR__END };
static const tsr__input lines_inputs[] = { TSR__STRING("value", TSR__IN_MULTILINE, "", "The text."), TSR__END };

static tsr_status run_primitive(tsr__call *call, tsr_error *err) {
    (void)err;
    return tsr__give(call, 0, tsr__value_ref(tsr__arg(call->in, "value")), TSR_OK);
}

#define GIVES(type)                                                                                                    \
    {                                                                                                                  \
        { #type, TSR__V_##type }                                                                                       \
    }
#define PRIMITIVES "utils/primitive"
static const tsr__node rows[] = {
    { "EmptyImage", "EmptyImage", "image", empty_inputs, GIVES(IMAGE), 0, run_empty, "Pictures of one colour." },
    { "ImageScaleToTotalPixels", "ImageScaleToTotalPixels", "image/upscaling", total_inputs, GIVES(IMAGE), 0, run_total,
      "Pictures brought to so many pixels." },
    { "ImagePadForOutpaint",
      "Pad Image for Outpainting",
      "image",
      pad_inputs,
      { { "IMAGE", TSR__V_IMAGE }, { "MASK", TSR__V_MASK } },
      0,
      run_pad,
      "Grey borders around pictures, and the mask of what is to be painted there." },
    { "ImageCompositeMasked", "ImageCompositeMasked", "image", composite_inputs, GIVES(IMAGE), 0, run_composite,
      "One picture put on another through a mask." },
    { "RepeatImageBatch", "RepeatImageBatch", "image/batch", repeat_inputs, GIVES(IMAGE), 0, run_repeat,
      "A batch repeated." },
    { "ImageFromBatch", "ImageFromBatch", "image/batch", from_batch_inputs, GIVES(IMAGE), 0, run_from_batch,
      "Some pictures of a batch." },
    { "GetImageSize",
      "Get Image Size",
      "image",
      size_inputs,
      { { "width", TSR__V_INT }, { "height", TSR__V_INT }, { "batch_size", TSR__V_INT } },
      0,
      run_size,
      "Width, height and number of pictures." },
    { "PrimitiveInt", "Int", PRIMITIVES, int_inputs, GIVES(INT), 0, run_primitive, "A whole number for other nodes." },
    { "PrimitiveFloat", "Float", PRIMITIVES, float_inputs, GIVES(FLOAT), 0, run_primitive,
      "A number for other nodes." },
    { "PrimitiveBoolean", "Boolean", PRIMITIVES, bool_inputs, GIVES(BOOLEAN), 0, run_primitive,
      "A switch for other nodes." },
    { "PrimitiveString", "String", PRIMITIVES, string_inputs, GIVES(STRING), 0, run_primitive,
      "A text for other nodes." },
    { "PrimitiveStringMultiline", "String (Multiline)", PRIMITIVES, lines_inputs, GIVES(STRING), 0, run_primitive,
      "A text of several lines for other nodes." },
};
const tsr__node_group tsr__nodes_image_ops = { rows, sizeof rows / sizeof *rows, "nodes" };
