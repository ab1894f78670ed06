/* graph/nodes_latent.c - rows that make, change, save and load latents. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "graph/graph_priv.h"
#include "picture/mask_priv.h"

static const char *const latent_methods[] = { "nearest-exact", "bilinear", "area", "bicubic", "bislerp", NULL };
static const char *const crops[] = { "disabled", "center", NULL };

static const tsr_latent *latent_arg(tsr__call *call, const char *name) {
    return tsr__arg(call->in, name)->latent;
}

/* Hands the latent over as the first result. */
static tsr_status give(tsr__call *call, tsr_latent *latent, tsr_error *err) {
    return tsr__value_take_latent(&call->results[0], latent, err);
}

/* --- empty ------------------------------------------------------------------------------------------------------------------ */
static const tsr__input empty_inputs[] = {
    TSR__INT_STEP("width", 512, 16, 16384, 8, "Pixels."),
    TSR__INT_STEP("height", 512, 16, 16384, 8, "Pixels."),
    TSR__INT("batch_size", 1, 1, 4096, "Pictures of the batch."),
    TSR__END,
};

static tsr_status run_empty(tsr__call *call, tsr_error *err) {
    tsr_latent *latent = NULL;
    tsr_status status = tsr_latent_new(&latent, tsr__arg_int(call->in, "batch_size"), 4,
                                       tsr__arg_int(call->in, "height") / 8, tsr__arg_int(call->in, "width") / 8, err);
    return status == TSR_OK ? give(call, latent, err) : status;
}

/* --- size --------------------------------------------------------------------------------------------------------------------- */
static const tsr__input upscale_inputs[] = {
    TSR__LINK("samples", LATENT, "The latent."),
    TSR__COMBO("upscale_method", latent_methods, NULL, "How values between are found."),
    TSR__INT_STEP("width", 512, 0, 16384, 8, "Pixels; 0: in proportion to the height."),
    TSR__INT_STEP("height", 512, 0, 16384, 8, "Pixels; 0: in proportion to the width."),
    TSR__COMBO("crop", crops, NULL, "center: cut to the new proportions first."),
    TSR__END,
};

/* Latent pixels. The noise mask stays as it is: it is brought to size when it is used. */
static tsr_status resize(tsr_latent **out, const tsr_latent *latent, int width, int height, const char *method,
                         int center, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_resize_method how;
    tsr_latent *result = NULL;
    float *cut = NULL;
    int left = 0, top = 0;
    *out = NULL;
    TSR_TRY(tsr_resize_method_parse(&how, method, err));
    TSR_TRY(tsr_latent_new(&result, latent->shape[0], latent->shape[1], height, width, err));
    if (center) tsr_resize_center_crop(&left, &top, latent->shape[3], latent->shape[2], width, height);
    const int shape[4] = { latent->shape[0], latent->shape[1], latent->shape[2] - 2 * top,
                           latent->shape[3] - 2 * left };
    TSR_ALLOC(err, cut, (size_t)shape[0] * (size_t)shape[1] * (size_t)shape[2] * (size_t)shape[3]);
    float *to = cut;
    for (size_t plane = 0; plane < (size_t)shape[0] * (size_t)shape[1]; plane++)
        for (size_t y = 0; y < (size_t)shape[2]; y++, to += shape[3])
            memcpy(to,
                   latent->values + (plane * (size_t)latent->shape[2] + y + (size_t)top) * (size_t)latent->shape[3] +
                       (size_t)left,
                   (size_t)shape[3] * sizeof *to);
    TSR_TRY(tsr_resize_nchw(result->values, height, width, cut, shape, how, err));
    if (latent->noise_mask) TSR_TRY(tsr_mask_copy(&result->noise_mask, latent->noise_mask, err));
    if (latent->batch_index) {
        TSR_ALLOC(err, result->batch_index, shape[0]);
        memcpy(result->batch_index, latent->batch_index, (size_t)shape[0] * sizeof *result->batch_index);
    }
    *out = result;
    result = NULL;
done:
    tsr_latent_free(result);
    free(cut);
    return status;
}

static tsr_status run_upscale(tsr__call *call, tsr_error *err) {
    const tsr_latent *latent = latent_arg(call, "samples");
    int width = tsr__arg_int(call->in, "width"), height = tsr__arg_int(call->in, "height");
    tsr_latent *result = NULL;
    if (width == 0 && height == 0) return tsr__give(call, 0, tsr__value_ref(tsr__arg(call->in, "samples")), TSR_OK);
    double w = latent->shape[3], h = latent->shape[2];
    if (width == 0) width = (int)fmax(64.0, rint(w * fmax(64.0, height) / h));
    else if (height == 0) height = (int)fmax(64.0, rint(h * fmax(64.0, width) / w));
    if (width < 64) width = 64;
    if (height < 64) height = 64;
    tsr_status status = resize(&result, latent, width / 8, height / 8, tsr__arg_text(call->in, "upscale_method"),
                               strcmp(tsr__arg_text(call->in, "crop"), "center") == 0, err);
    return status == TSR_OK ? give(call, result, err) : status;
}

static const tsr__input upscale_by_inputs[] = {
    TSR__LINK("samples", LATENT, "The latent."),
    TSR__COMBO("upscale_method", latent_methods, NULL, "How values between are found."),
    TSR__FLOAT("scale_by", 1.5, 0.01, 8.0, 0.01, "Factor of both sides."),
    TSR__END,
};

static tsr_status run_upscale_by(tsr__call *call, tsr_error *err) {
    const tsr_latent *latent = latent_arg(call, "samples");
    double by = tsr__arg_float(call->in, "scale_by");
    tsr_latent *result = NULL;
    int width = (int)rint(latent->shape[3] * by), height = (int)rint(latent->shape[2] * by);
    tsr_status status = resize(&result, latent, width < 1 ? 1 : width, height < 1 ? 1 : height,
                               tsr__arg_text(call->in, "upscale_method"), 0, err);
    return status == TSR_OK ? give(call, result, err) : status;
}

/* --- composites ----------------------------------------------------------------------------------------------------------------- */
static const tsr__input composite_inputs[] = {
    TSR__LINK("samples_to", LATENT, "What is painted over."),
    TSR__LINK("samples_from", LATENT, "What is put on it."),
    TSR__INT_STEP("x", 0, 0, 16384, 8, "Pixels from the left."),
    TSR__INT_STEP("y", 0, 0, 16384, 8, "Pixels from the top."),
    TSR__INT_STEP("feather", 0, 0, 16384, 8, "Pixels over which edges inside the picture fade."),
    TSR__END,
};

/* The line t from the end of n, as the reference's slices find it: behind the first line they start at the end again, one
 * later. -1: none. */
static int from_end(int t, int n) {
    int at = t < n ? n - 1 - t : t > n ? 2 * n - 1 - t : -1;
    return at < 0 ? -1 : at;
}

/* 1 inside; towards the sides that lie inside the destination it falls over `feather` latent pixels. */
static tsr_status feathered(tsr_mask **out, const tsr_latent *to, const tsr_latent *from, int x, int y, int feather,
                            tsr_error *err) {
    int w = from->shape[3], h = from->shape[2];
    tsr_status status = tsr_mask_new(out, w, h, 1.0f, err);
    if (status != TSR_OK) return status;
    for (int t = 0; t < feather; t++) {
        float factor = (float)(1.0 / feather * (t + 1));
        int bottom = y + h < to->shape[2] ? from_end(t, h) : -1, right = x + w < to->shape[3] ? from_end(t, w) : -1;
        for (int k = 0; k < w; k++) {
            if (y != 0 && t < h) (*out)->values[t * w + k] *= factor;
            if (bottom >= 0) (*out)->values[bottom * w + k] *= factor;
        }
        for (int k = 0; k < h; k++) {
            if (x != 0 && t < w) (*out)->values[k * w + t] *= factor;
            if (right >= 0) (*out)->values[k * w + right] *= factor;
        }
    }
    return TSR_OK;
}

static tsr_status run_composite(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr_latent *from = latent_arg(call, "samples_from");
    tsr_latent *result = NULL;
    tsr_mask *mask = NULL;
    int x = tsr__arg_int(call->in, "x") / 8, y = tsr__arg_int(call->in, "y") / 8;
    TSR_TRY(tsr_latent_copy(&result, latent_arg(call, "samples_to"), err));
    TSR_TRY(feathered(&mask, result, from, x, y, tsr__arg_int(call->in, "feather") / 8, err));
    TSR_TRY(tsr_latent_composite(result, from, x, y, mask, err));
    status = give(call, result, err);
    result = NULL;
done:
    tsr_latent_free(result);
    tsr_mask_free(mask);
    return status;
}

static const tsr__input masked_inputs[] = {
    TSR__LINK("destination", LATENT, "What is painted over."),
    TSR__LINK("source", LATENT, "What is put on it."),
    TSR__INT_STEP("x", 0, 0, 16384, 8, "Pixels from the left."),
    TSR__INT_STEP("y", 0, 0, 16384, 8, "Pixels from the top."),
    TSR__BOOL("resize_source", 0, "Bring the source to the destination's size first."),
    TSR__LINK_OPT("mask", MASK, "How much of the source is seen; without it all."),
    TSR__END,
};

static tsr_status run_masked(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr_latent *source = latent_arg(call, "source");
    tsr_mask *mask = NULL;
    tsr_latent *result = NULL, *sized = NULL;
    TSR_TRY(tsr_latent_copy(&result, latent_arg(call, "destination"), err));
    if (tsr__arg(call->in, "mask")) TSR_TRY(tsr__noise_mask(&mask, tsr__arg(call->in, "mask"), err));
    if (tsr__arg_bool(call->in, "resize_source")) {
        TSR_TRY(resize(&sized, source, result->shape[3], result->shape[2], "bilinear", 0, err));
        source = sized;
    }
    TSR_TRY(tsr_latent_composite(result, source, tsr__arg_int(call->in, "x") / 8, tsr__arg_int(call->in, "y") / 8, mask,
                                 err));
    status = give(call, result, err);
    result = NULL;
done:
    tsr_mask_free(mask);
    tsr_latent_free(result);
    tsr_latent_free(sized);
    return status;
}

/* --- noise mask ----------------------------------------------------------------------------------------------------------------- */
static const tsr__input noise_mask_inputs[] = {
    TSR__LINK("samples", LATENT, "The latent."),
    TSR__LINK("mask", MASK, "1: repaint; soft values repaint partly."),
    TSR__END,
};

static tsr_status run_noise_mask(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_latent *result = NULL;
    TSR_TRY(tsr_latent_copy(&result, latent_arg(call, "samples"), err));
    tsr_mask_free(result->noise_mask);
    result->noise_mask = NULL;
    TSR_TRY(tsr__noise_mask(&result->noise_mask, tsr__arg(call->in, "mask"), err));
    status = give(call, result, err);
    result = NULL;
done:
    tsr_latent_free(result);
    return status;
}

/* --- batches -------------------------------------------------------------------------------------------------------------------- */
/* An empty latent of n pictures like `like`, with its noise mask and room for indices when `indexed`. */
static tsr_status batch_like(tsr_latent **out, const tsr_latent *like, int n, int indexed, tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_TRY(tsr_latent_new(out, n, like->shape[1], like->shape[2], like->shape[3], err));
    if (like->noise_mask) TSR_TRY(tsr_mask_copy(&(*out)->noise_mask, like->noise_mask, err));
    if (indexed) TSR_ALLOC_ZERO(err, (*out)->batch_index, n);
done:
    return status;
}

/* A batch of noise masks for pictures first, first + 1, ... of the latent; a single one serves them all. */
static tsr_status take_masks(tsr_latent *to, const tsr_latent *from, int first, int n, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_mask *taken = NULL;
    if (!from->noise_mask || tsr__mask_count(from->noise_mask) == 1) return TSR_OK;
    size_t each = (size_t)from->noise_mask->width * (size_t)from->noise_mask->height;
    TSR_TRY(tsr_mask_new(&taken, from->noise_mask->width, from->noise_mask->height, 0.0f, err));
    free(taken->values);
    taken->values = NULL;
    TSR_ALLOC(err, taken->values, each * (size_t)n);
    taken->count = n;
    for (int i = 0; i < n; i++)
        memcpy(taken->values + (size_t)i * each, tsr__mask_item(from->noise_mask, first + i), each * sizeof(float));
    tsr_mask_free(to->noise_mask);
    to->noise_mask = taken;
    taken = NULL;
done:
    tsr_mask_free(taken);
    return status;
}

static int index_at(const tsr_latent *latent, int i) {
    return latent->batch_index ? latent->batch_index[i] : i;
}

static const tsr__input batch_inputs[] = {
    TSR__LINK("samples1", LATENT, "The first pictures."),
    TSR__LINK("samples2", LATENT, "Pictures behind them, brought to their size."),
    TSR__END,
};

static tsr_status run_batch(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr_latent *a = latent_arg(call, "samples1"), *b = latent_arg(call, "samples2");
    tsr_latent *result = NULL, *sized = NULL;
    if (a->shape[1] != b->shape[1])
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "samples2: %d channels, samples1 has %d", b->shape[1], a->shape[1]);
    TSR_TRY(batch_like(&result, a, a->shape[0] + b->shape[0], 1, err));
    TSR_TRY(resize(&sized, b, a->shape[3], a->shape[2], "bilinear", 1, err));
    size_t first = tsr_latent_count(a);
    memcpy(result->values, a->values, first * sizeof(float));
    memcpy(result->values + first, sized->values, tsr_latent_count(sized) * sizeof(float));
    for (int i = 0; i < result->shape[0]; i++)
        result->batch_index[i] = i < a->shape[0] ? index_at(a, i) : index_at(b, i - a->shape[0]);
    status = give(call, result, err);
    result = NULL;
done:
    tsr_latent_free(result);
    tsr_latent_free(sized);
    return status;
}

static const tsr__input repeat_inputs[] = {
    TSR__LINK("samples", LATENT, "The latent."),
    TSR__INT("amount", 1, 1, 64, "How often the whole batch stands behind itself."),
    TSR__END,
};

static tsr_status run_repeat(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr_latent *latent = latent_arg(call, "samples");
    int amount = tsr__arg_int(call->in, "amount"), n = latent->shape[0], low = index_at(latent, 0), high = low;
    tsr_latent *result = NULL;
    size_t count = tsr_latent_count(latent);
    TSR_TRY(batch_like(&result, latent, n * amount, latent->batch_index != NULL, err));
    TSR_TRY(take_masks(result, latent, 0, n, err)); /* counted round: the whole batch again and again */
    for (int i = 0; i < n; i++) {
        if (index_at(latent, i) < low) low = index_at(latent, i);
        if (index_at(latent, i) > high) high = index_at(latent, i);
    }
    for (int k = 0; k < amount; k++) {
        memcpy(result->values + (size_t)k * count, latent->values, count * sizeof(float));
        for (int i = 0; i < n && result->batch_index; i++)
            result->batch_index[k * n + i] = latent->batch_index[i] + k * (high - low + 1);
    }
    status = give(call, result, err);
    result = NULL;
done:
    tsr_latent_free(result);
    return status;
}

static const tsr__input from_batch_inputs[] = {
    TSR__LINK("samples", LATENT, "The latent."),
    TSR__INT("batch_index", 0, 0, 63, "The first picture to take, from 0."),
    TSR__INT("length", 1, 1, 64, "How many."),
    TSR__END,
};

static tsr_status run_from_batch(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr_latent *latent = latent_arg(call, "samples");
    int first = tsr__arg_int(call->in, "batch_index"), n = tsr__arg_int(call->in, "length");
    tsr_latent *result = NULL;
    size_t each = tsr_latent_count(latent) / (size_t)latent->shape[0];
    if (first > latent->shape[0] - 1) first = latent->shape[0] - 1;
    if (n > latent->shape[0] - first) n = latent->shape[0] - first;
    TSR_TRY(batch_like(&result, latent, n, 1, err));
    TSR_TRY(take_masks(result, latent, first, n, err));
    memcpy(result->values, latent->values + (size_t)first * each, (size_t)n * each * sizeof(float));
    for (int i = 0; i < n; i++) result->batch_index[i] = index_at(latent, first + i);
    status = give(call, result, err);
    result = NULL;
done:
    tsr_latent_free(result);
    return status;
}

/* --- files ---------------------------------------------------------------------------------------------------------------------- */
static const tsr__input save_inputs[] = {
    TSR__LINK("samples", LATENT, "The latent."),
    TSR__STRING("filename_prefix", 0, "latents/ComfyUI", "Folder and start of the name below the output folder."),
    TSR__END,
};

static tsr_status run_save(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_workflow_output *output = NULL;
    char *prefix = NULL;
    TSR_TRY(tsr__fill_prefix(&prefix, tsr__arg_text(call->in, "filename_prefix"), 0, 0, time(NULL), err));
    TSR_TRY(tsr__add_output(&output, call, prefix, ".latent", 0, err));
    TSR_TRY(tsr_latent_copy(&output->latent, latent_arg(call, "samples"), err));
    if (output->path) TSR_TRY(tsr_latent_save(output->latent, output->path, err));
done:
    free(prefix);
    return status;
}

static const tsr__input load_inputs[] = {
    TSR__FILE("latent", tsr__choices_latents, "A .latent file of the input folder."),
    TSR__END,
};

static tsr_status run_load(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_latent *latent = NULL;
    char *path = NULL;
    TSR_TRY(tsr__find_file(&path, call->graph, "input", tsr__arg_text(call->in, "latent"), err));
    TSR_TRY(tsr_latent_load(&latent, path, err));
    TSR_TRY(give(call, latent, err));
done:
    free(path);
    return status;
}

#define GIVES_LATENT                                                                                                   \
    {                                                                                                                  \
        { "LATENT", TSR__V_LATENT }                                                                                    \
    }
static const tsr__node rows[] = {
    { "EmptyLatentImage", "Empty Latent Image", "latent", empty_inputs, GIVES_LATENT, 0, run_empty,
      "A batch of empty latents to start from." },
    { "LatentUpscale", "Upscale Latent", "latent", upscale_inputs, GIVES_LATENT, 0, run_upscale,
      "A latent at another size, given in pixels." },
    { "LatentUpscaleBy", "Upscale Latent By", "latent", upscale_by_inputs, GIVES_LATENT, 0, run_upscale_by,
      "A latent larger or smaller by a factor." },
    { "LatentComposite", "Latent Composite", "latent", composite_inputs, GIVES_LATENT, 0, run_composite,
      "One latent put on another, with fading edges." },
    { "LatentCompositeMasked", "LatentCompositeMasked", "latent", masked_inputs, GIVES_LATENT, 0, run_masked,
      "One latent put on another through a mask." },
    { "SetLatentNoiseMask", "Set Latent Noise Mask", "latent/inpaint", noise_mask_inputs, GIVES_LATENT, 0,
      run_noise_mask, "Says where a latent is repainted." },
    { "LatentBatch", "LatentBatch", "latent/batch", batch_inputs, GIVES_LATENT, 0, run_batch,
      "Two batches, one behind the other." },
    { "RepeatLatentBatch", "Repeat Latent Batch", "latent/batch", repeat_inputs, GIVES_LATENT, 0, run_repeat,
      "A batch repeated." },
    { "LatentFromBatch", "Latent From Batch", "latent/batch", from_batch_inputs, GIVES_LATENT, 0, run_from_batch,
      "Some pictures of a batch; they keep their noise." },
    { "SaveLatent",
      "Save Latent",
      "_for_testing",
      save_inputs,
      { { NULL, TSR__V_ANY } },
      1,
      run_save,
      "Writes a .latent file." },
    { "LoadLatent", "Load Latent", "_for_testing", load_inputs, GIVES_LATENT, 0, run_load, "Reads a .latent file." },
};
const tsr__node_group tsr__nodes_latent = { rows, sizeof rows / sizeof *rows, "nodes" };
