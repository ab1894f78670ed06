/* graph/nodes_image.c - rows on pictures and the VAE. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "graph/graph_priv.h"
#include "upscale/upscale_model.h"
#include "weights/pth.h"

#define SIDE_MAX TSR_IMAGE_MAX_SIDE
static const char *const crops[] = { "disabled", "center", NULL };

static const tsr__pictures *pictures_arg(tsr__call *call, const char *name) {
    return &tsr__arg(call->in, name)->pictures;
}

/* --- files ------------------------------------------------------------------------------------------------------------------ */
static tsr_status open_picture(tsr_image **out, tsr__call *call, tsr_error *err) {
    char *path = NULL;
    *out = NULL;
    tsr_status status = tsr__find_file(&path, call->graph, "input", tsr__arg_text(call->in, "image"), err);
    if (status == TSR_OK) status = tsr_image_load(out, path, err);
    free(path);
    return status;
}

static const tsr__input load_inputs[] = {
    TSR__FILE("image", tsr__choices_pictures, "A picture of the input folder."),
    TSR__END,
};

/* Without alpha the mask is 64x64 zeros, as in ComfyUI. */
static tsr_status run_load(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_image *image = NULL;
    tsr_mask *mask = NULL;
    TSR_TRY(open_picture(&image, call, err));
    TSR_TRY(tsr__value_pictures(&call->results[0], 1, image->height, image->width, 3, err));
    tsr_image_to_floats(image, call->results[0]->pictures.values);
    if (image->channels == 4) TSR_TRY(tsr_mask_from_image(&mask, image, TSR_MASK_ALPHA, err));
    else TSR_TRY(tsr_mask_new(&mask, 64, 64, 0.0f, err));
    status = tsr__value_take_mask(&call->results[1], mask, err);
done:
    tsr_image_free(image);
    return status;
}

static const char *const channels[] = { "alpha", "red", "green", "blue", NULL };
static const tsr__input load_mask_inputs[] = {
    TSR__FILE("image", tsr__choices_pictures, "A picture of the input folder."),
    TSR__COMBO("channel", channels, NULL, "Whose values become the mask; alpha is inverted."),
    TSR__END,
};

static tsr_status run_load_mask(tsr__call *call, tsr_error *err) {
    static const tsr_mask_channel kinds[] = { TSR_MASK_ALPHA, TSR_MASK_RED, TSR_MASK_GREEN, TSR_MASK_BLUE };
    tsr_status status = TSR_OK;
    tsr_image *image = NULL;
    tsr_mask *mask = NULL;
    const char *name = tsr__arg_text(call->in, "channel");
    int c = 0;
    while (channels[c + 1] && strcmp(channels[c], name) != 0) c++;
    TSR_TRY(open_picture(&image, call, err));
    TSR_TRY(tsr_mask_from_image(&mask, image, kinds[c], err)); /* without alpha the picture counts as opaque */
    status = tsr__value_take_mask(&call->results[0], mask, err);
done:
    tsr_image_free(image);
    return status;
}

static const tsr__input save_inputs[] = {
    TSR__LINK("images", IMAGE, "The pictures."),
    TSR__STRING("filename_prefix", 0, "ComfyUI", "Folder and start of the name below the output folder."),
    TSR__END,
};

static const tsr__input preview_inputs[] = { TSR__LINK("images", IMAGE, "The pictures."), TSR__END };

static tsr_status add_text(tsr_image *image, const char *key, const json_t *value, tsr_error *err) {
    char *text = tsr__workflow_dump(value, JSON_ENCODE_ANY);
    if (!text) return tsr__fail(err, TSR_NO_MEMORY, "out of memory");
    tsr_status status = tsr_image_set_text(image, key, text, err);
    free(text);
    return status;
}

/* `prompt` and `workflow`, as ComfyUI writes them, so that the picture can be loaded as a workflow, and whatever the caller
 * wants beside them. */
static tsr_status add_texts(tsr_image *image, const tsr_workflow *workflow, tsr_error *err) {
    tsr_status status = TSR_OK;
    const char *key;
    json_t *value;
    if (workflow->ui) TSR_TRY(add_text(image, "workflow", workflow->ui, err));
    json_object_foreach(workflow->extra, key, value) TSR_TRY(add_text(image, key, value, err));
    TSR_TRY(add_text(image, "prompt", workflow->prompt, err));
done:
    return status;
}

static tsr_status save_all(tsr__call *call, const char *prefix, int temp, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__pictures *p = pictures_arg(call, "images");
    char *filled = NULL;
    TSR_TRY(tsr__fill_prefix(&filled, prefix, p->w, p->h, time(NULL), err));
    for (int i = 0; i < p->n; i++) {
        tsr_workflow_output *output = NULL;
        TSR_TRY(tsr__add_output(&output, call, filled, ".png", temp, err));
        TSR_TRY(tsr__to_image(&output->image, p, i, err));
        TSR_TRY(add_texts(output->image, call->run->workflow, err));
        if (output->path) TSR_TRY(tsr_image_save(output->image, output->path, 0, err));
    }
done:
    free(filled);
    return status;
}

static tsr_status run_save(tsr__call *call, tsr_error *err) {
    return save_all(call, tsr__arg_text(call->in, "filename_prefix"), 0, err);
}

static tsr_status run_preview(tsr__call *call, tsr_error *err) {
    return save_all(call, call->graph->temp_prefix, 1, err);
}

/* --- size --------------------------------------------------------------------------------------------------------------------- */
static const tsr__input scale_inputs[] = {
    TSR__LINK("image", IMAGE, "The pictures."),
    TSR__COMBO("upscale_method", tsr__scale_methods, NULL, "How values between are found."),
    TSR__INT("width", 512, 0, SIDE_MAX, "Pixels; 0: in proportion to the height."),
    TSR__INT("height", 512, 0, SIDE_MAX, "Pixels; 0: in proportion to the width."),
    TSR__COMBO("crop", crops, NULL, "center: cut to the new proportions first."),
    TSR__END,
};

static tsr_status run_scale(tsr__call *call, tsr_error *err) {
    const tsr__pictures *p = pictures_arg(call, "image");
    int width = tsr__arg_int(call->in, "width"), height = tsr__arg_int(call->in, "height");
    if (width == 0 && height == 0) return tsr__give(call, 0, tsr__value_ref(tsr__arg(call->in, "image")), TSR_OK);
    if (width == 0) width = (int)fmax(1.0, rint((double)p->w * height / p->h));
    else if (height == 0) height = (int)fmax(1.0, rint((double)p->h * width / p->w));
    return tsr__scale(&call->results[0], p, width, height, tsr__arg_text(call->in, "upscale_method"),
                      strcmp(tsr__arg_text(call->in, "crop"), "center") == 0, err);
}

static const tsr__input scale_by_inputs[] = {
    TSR__LINK("image", IMAGE, "The pictures."),
    TSR__COMBO("upscale_method", tsr__scale_methods, NULL, "How values between are found."),
    TSR__FLOAT("scale_by", 1.0, 0.01, 8.0, 0.01, "Factor of both sides."),
    TSR__END,
};

static tsr_status run_scale_by(tsr__call *call, tsr_error *err) {
    const tsr__pictures *p = pictures_arg(call, "image");
    double by = tsr__arg_float(call->in, "scale_by");
    return tsr__scale(&call->results[0], p, (int)fmax(1.0, rint(p->w * by)), (int)fmax(1.0, rint(p->h * by)),
                      tsr__arg_text(call->in, "upscale_method"), 0, err);
}

static const tsr__input crop_inputs[] = {
    TSR__LINK("image", IMAGE, "The pictures."),
    TSR__INT("width", 512, 1, SIDE_MAX, "Pixels; cut at the picture's end."),
    TSR__INT("height", 512, 1, SIDE_MAX, "Pixels; cut at the picture's end."),
    TSR__INT("x", 0, 0, SIDE_MAX, "Pixels from the left."),
    TSR__INT("y", 0, 0, SIDE_MAX, "Pixels from the top."),
    TSR__END,
};

static tsr_status run_crop(tsr__call *call, tsr_error *err) {
    const tsr__pictures *p = pictures_arg(call, "image");
    int x = tsr__arg_int(call->in, "x"), y = tsr__arg_int(call->in, "y"), w = tsr__arg_int(call->in, "width"),
        h = tsr__arg_int(call->in, "height");
    if (x > p->w - 1) x = p->w - 1;
    if (y > p->h - 1) y = p->h - 1;
    if (w > p->w - x) w = p->w - x;
    if (h > p->h - y) h = p->h - y;
    tsr_status status = tsr__value_pictures(&call->results[0], p->n, h, w, p->c, err);
    if (status != TSR_OK) return status;
    float *to = call->results[0]->pictures.values;
    size_t row = (size_t)w * (size_t)p->c;
    for (size_t i = 0; i < (size_t)p->n; i++)
        for (size_t k = 0; k < (size_t)h; k++, to += row)
            memcpy(to, p->values + ((i * (size_t)p->h + (size_t)y + k) * (size_t)p->w + (size_t)x) * (size_t)p->c,
                   row * sizeof *to);
    return TSR_OK;
}

static const tsr__input one_image[] = { TSR__LINK("image", IMAGE, "The pictures."), TSR__END };

static tsr_status run_invert(tsr__call *call, tsr_error *err) {
    const tsr__pictures *p = pictures_arg(call, "image");
    tsr_status status = tsr__value_pictures(&call->results[0], p->n, p->h, p->w, p->c, err);
    size_t count = (size_t)p->n * (size_t)p->h * (size_t)p->w * (size_t)p->c;
    for (size_t i = 0; status == TSR_OK && i < count; i++) call->results[0]->pictures.values[i] = 1.0f - p->values[i];
    return status;
}

static const tsr__input batch_inputs[] = {
    TSR__LINK("image1", IMAGE, "The first pictures."),
    TSR__LINK("image2", IMAGE, "Pictures behind them, brought to their size."),
    TSR__END,
};

static tsr_status run_batch(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__pictures *a = pictures_arg(call, "image1"), *b = pictures_arg(call, "image2");
    tsr__value *sized = NULL;
    if (a->w != b->w || a->h != b->h) {
        TSR_TRY(tsr__scale(&sized, b, a->w, a->h, "bilinear", 1, err));
        b = &sized->pictures;
    }
    TSR_TRY(tsr__value_pictures(&call->results[0], a->n + b->n, a->h, a->w, 3, err));
    float *to = call->results[0]->pictures.values;
    size_t pixels = (size_t)a->h * (size_t)a->w;
    for (int side = 0; side < 2; side++) {
        const tsr__pictures *p = side ? b : a;
        for (size_t k = 0; k < (size_t)p->n * pixels; k++, to += 3)
            memcpy(to, p->values + k * (size_t)p->c, 3 * sizeof *to);
    }
done:
    tsr__value_unref(sized);
    return status;
}

/* --- upscale models ------------------------------------------------------------------------------------------------------------- */
static const tsr__input upscale_loader_inputs[] = {
    TSR__COMBO_FROM("model_name", tsr__choices_upscale_models, NULL,
                    "A file of the models folder's upscale_models: ESRGAN, RealESRGAN or SRVGGNetCompact."),
    TSR__END,
};

typedef struct upscaler {
    tsr__nn *nn;
    tsr__upscale_model *model;
} upscaler;

static void free_upscaler(void *other) {
    upscaler *u = other;
    if (!u) return;
    tsr__upscale_model_free(u->model);
    tsr__nn_free(u->nn);
    free(u);
}

static tsr_status run_upscale_loader(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__weights *weights = NULL;
    upscaler *u = NULL;
    char *path = NULL;
    tsr__nn_options options = { .threads = call->graph->threads };
    options.precision = call->graph->precision == TSR_PRECISION_BF16 ? TSR__BF16 : TSR__F32;
    TSR_TRY(tsr__find_file(&path, call->graph, "upscale_models", tsr__arg_text(call->in, "model_name"), err));
    TSR_ALLOC_ZERO(err, u, 1);
    TSR_TRY(tsr__nn_new(&u->nn, &options, err));
    TSR_TRY(tsr__weights_open_any(&weights, path, err));
    TSR_TRY(tsr__upscale_model_open(&u->model, u->nn, weights, err));
    TSR_TRY(tsr__value_new(&call->results[0], TSR__V_UPSCALE_MODEL, err));
    call->results[0]->other = u;
    call->results[0]->free_other = free_upscaler;
    u = NULL;
done:
    tsr__weights_close(weights);
    free_upscaler(u);
    free(path);
    return status;
}

tsr__upscale_model *tsr__value_upscale_model(const tsr__value *value) {
    return ((upscaler *)value->other)->model;
}

static const tsr__input upscale_inputs[] = {
    TSR__LINK("upscale_model", UPSCALE_MODEL, "The network."),
    TSR__LINK("image", IMAGE, "The pictures."),
    TSR__END,
};

static int on_tile(void *user, int done, int total) {
    const tsr_engine_callbacks *callbacks = ((tsr_graph *)user)->callbacks;
    (void)done;
    (void)total;
    return callbacks && callbacks->cancelled && callbacks->cancelled(callbacks->user);
}

tsr_status tsr__upscale_pictures(tsr__upscale_model *model, tsr_graph *graph, float *out, const float *rgb, int n,
                                 int h, int w, tsr_error *err) {
    return tsr__upscale_model_run(model, out, rgb, n, h, w, TSR__UPSCALE_TILE, TSR__UPSCALE_OVERLAP, on_tile, graph,
                                  err);
}

static tsr_status run_upscale(tsr__call *call, tsr_error *err) {
    const tsr__pictures *p = pictures_arg(call, "image");
    tsr__upscale_model *model = tsr__value_upscale_model(tsr__arg(call->in, "upscale_model"));
    int scale = tsr__upscale_model_scale(model);
    if (p->c != 3) return tsr__fail(err, TSR_BAD_ARGUMENT, "image: %d channels; the network takes 3", p->c);
    tsr_status status = tsr__value_pictures(&call->results[0], p->n, p->h * scale, p->w * scale, 3, err);
    if (status != TSR_OK) return status;
    return tsr__upscale_pictures(model, call->graph, call->results[0]->pictures.values, p->values, p->n, p->h, p->w,
                                 err);
}

#define GIVES_IMAGE                                                                                                    \
    {                                                                                                                  \
        { "IMAGE", TSR__V_IMAGE }                                                                                      \
    }
#define GIVES_MASK                                                                                                     \
    {                                                                                                                  \
        { "MASK", TSR__V_MASK }                                                                                        \
    }
static const tsr__node rows[] = {
    { "LoadImage",
      "Load Image",
      "image",
      load_inputs,
      { { "IMAGE", TSR__V_IMAGE }, { "MASK", TSR__V_MASK } },
      0,
      run_load,
      "Reads a picture; its mask is 1 - alpha." },
    { "LoadImageMask", "Load Image (as Mask)", "mask", load_mask_inputs, GIVES_MASK, 0, run_load_mask,
      "Reads one channel of a picture as a mask." },
    { "SaveImage",
      "Save Image",
      "image",
      save_inputs,
      { { NULL, TSR__V_ANY } },
      1,
      run_save,
      "Writes pictures as PNG, with the workflow inside." },
    { "PreviewImage",
      "Preview Image",
      "image",
      preview_inputs,
      { { NULL, TSR__V_ANY } },
      1,
      run_preview,
      "Shows pictures without keeping them: their files, if any, go to the temp folder." },
    { "ImageScale", "Upscale Image", "image/upscaling", scale_inputs, GIVES_IMAGE, 0, run_scale,
      "Pictures at another size." },
    { "ImageScaleBy", "Upscale Image By", "image/upscaling", scale_by_inputs, GIVES_IMAGE, 0, run_scale_by,
      "Pictures larger or smaller by a factor." },
    { "ImageCrop", "Image Crop", "image/transform", crop_inputs, GIVES_IMAGE, 0, run_crop, "A box of pictures." },
    { "ImageInvert", "Invert Image", "image", one_image, GIVES_IMAGE, 0, run_invert, "1 minus every value." },
    { "ImageBatch", "Batch Images", "image", batch_inputs, GIVES_IMAGE, 0, run_batch,
      "Two batches, one behind the other." },
    { "UpscaleModelLoader",
      "Load Upscale Model",
      "loaders",
      upscale_loader_inputs,
      { { "UPSCALE_MODEL", TSR__V_UPSCALE_MODEL } },
      0,
      run_upscale_loader,
      "Opens a network that enlarges pictures." },
    { "ImageUpscaleWithModel", "Upscale Image (using Model)", "image/upscaling", upscale_inputs, GIVES_IMAGE, 0,
      run_upscale, "Enlarges pictures by a network, in tiles." },
};
const tsr__node_group tsr__nodes_image = { rows, sizeof rows / sizeof *rows, "nodes" };
