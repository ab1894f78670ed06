/* engine/engine_masks.c - where regions are: boxes, mask files, colours of one picture.
 *
 * Files are read once; their bytes go into the job's scene, so that a picture recalls its masks without the files. */
#include <stdlib.h>
#include <string.h>

#include "engine/engine_priv.h"

tsr_status tsr__job_load_picture(tsr_image **out, tsr__job *job, const char *path, char **kept, tsr_error *err) {
    tsr_status status = TSR_OK;
    void *bytes = NULL;
    size_t size = 0;
    *out = NULL;
    if (*kept) {
        TSR_TRY(tsr__base64_decode(&bytes, &size, *kept, TSR__DATA_MAX_BYTES, err));
        TSR_TRY(tsr_image_load_memory(out, bytes, size, err));
        goto done;
    }
    TSR_TRY(tsr_image_load(out, path, err));
    tsr_error ignored = TSR_ERROR_INIT;
    if (tsr__read_file(&bytes, &size, path, TSR__DATA_MAX_BYTES, &ignored) == TSR_OK) {
        TSR_TRY(tsr__base64_encode(kept, bytes, size, err));
    } else {
        char text[300];
        snprintf(text, sizeof text, "%.200s is over 4 MiB and is not kept in the picture's metadata", path);
        TSR_TRY(tsr__job_warn(job, text, err));
    }
done:
    if (status != TSR_OK) {
        tsr_image_free(*out);
        *out = NULL;
    }
    free(bytes);
    return status;
}

static tsr_mask_channel channel_of(const char *name) {
    static const char *const names[] = { "luma", "alpha", "red", "green", "blue" };
    int channel = 0;
    for (int i = 0; i < 5; i++)
        if (strcmp(names[i], name) == 0) channel = i;
    return (tsr_mask_channel)channel;
}

/* "region 2: mask.png", for messages. */
static void place_label(char *out, size_t size, const tsr__job *job, int region) {
    char label[80];
    const char *path = tsr__region_text(job->scene, region, TSR__REG_MASK);
    tsr__region_label(label, sizeof label, job->scene, region);
    snprintf(out, size, "%s: %.200s", label, *path ? path : "the mask");
}

static tsr_status mask_from_file(tsr_mask **out, tsr__job *job, int region, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_image *image = NULL;
    char label[320];
    place_label(label, sizeof label, job, region);
    TSR_TRY(tsr__job_load_picture(&image, job, tsr__region_text(job->scene, region, TSR__REG_MASK),
                                  &job->scene->regions[region].text[TSR__REG_MASK_DATA], err));
    if (image->width != job->width || image->height != job->height)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "%s is %dx%d, the picture %dx%d; masks must have the picture's size", label,
                 image->width, image->height, job->width, job->height);
    TSR_TRY(
        tsr_mask_from_image(out, image, channel_of(tsr__region_text(job->scene, region, TSR__REG_MASK_CHANNEL)), err));
done:
    tsr_image_free(image);
    return status;
}

static tsr_status mask_from_box(tsr_mask **out, const tsr__job *job, int region, tsr_error *err) {
    int box[4];
    char label[80];
    const char *text = tsr__region_text(job->scene, region, TSR__REG_BOX);
    tsr__region_label(label, sizeof label, job->scene, region);
    if (!tsr__parse_box(text, job->width, job->height, box) || box[2] == 0 || box[3] == 0 || box[0] >= job->width ||
        box[1] >= job->height)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "%s: the box %.64s lies outside the picture of %dx%d, or is empty",
                         label, text, job->width, job->height);
    return tsr_mask_from_box(out, job->width, job->height, box[0], box[1], box[2], box[3], err);
}

static tsr_status mask_from_color(tsr_mask **out, const tsr__job *job, int region, const tsr_image *colors,
                                  tsr_error *err) {
    const char *text = tsr__region_text(job->scene, region, TSR__REG_COLOR);
    if (colors->width != job->width || colors->height != job->height)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "color_image is %dx%d, the picture %dx%d; they must have the same size",
                         colors->width, colors->height, job->width, job->height);
    return tsr_mask_from_color(out, colors, (unsigned)strtoul(text + 1, NULL, 16), err);
}

static tsr_status check_mask(const tsr__job *job, int region, tsr_mask *mask, tsr_error *err) {
    size_t count = (size_t)mask->width * (size_t)mask->height;
    float most = 0;
    if (strcmp(tsr__region_text(job->scene, region, TSR__REG_INVERT), "true") == 0)
        for (size_t i = 0; i < count; i++) mask->values[i] = 1.0f - mask->values[i];
    for (size_t i = 0; i < count; i++)
        if (mask->values[i] > most) most = mask->values[i];
    if (most > 0) return TSR_OK;
    const char *color = tsr__region_text(job->scene, region, TSR__REG_COLOR);
    if (*color) {
        char label[80];
        tsr__region_label(label, sizeof label, job->scene, region);
        return tsr__fail(err, TSR_BAD_ARGUMENT, "%s: color_image has no pixel of the colour %s", label, color);
    }
    char label[320];
    place_label(label, sizeof label, job, region);
    return tsr__fail(err, TSR_BAD_ARGUMENT, "%s is empty: no pixel of it is inside the region", label);
}

/* Pixels that no region takes are the base's, which then needs something to paint. */
static tsr_status check_cover(const tsr__job *job, tsr_error *err) {
    size_t count = (size_t)job->width * (size_t)job->height, open = 0;
    if (job->region_count == 0 || job->scene->text[TSR__OPT_PROMPT]) return TSR_OK;
    for (size_t i = 0; i < count; i++) {
        float sum = 0;
        for (int k = 0; k < job->region_count; k++) sum += job->masks[k]->values[i];
        open += sum <= 0;
    }
    if (open == 0) return TSR_OK;
    return tsr__fail(err, TSR_BAD_ARGUMENT,
                     "the regions leave %.1f %% of the picture uncovered and there is no prompt for it; set prompt, or "
                     "add a region",
                     100.0 * (double)open / (double)count);
}

tsr_status tsr__job_load_masks(tsr__job *job, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_image *colors = NULL;
    TSR_ALLOC_ZERO(err, job->masks, job->region_count ? job->region_count : 1);
    for (int i = 0; i < job->region_count; i++) {
        char *const *text = job->scene->regions[i].text;
        if (text[TSR__REG_COLOR] && !colors)
            TSR_TRY(tsr__job_load_picture(&colors, job, tsr__scene_text(job->scene, TSR__OPT_COLOR_IMAGE),
                                          &job->scene->text[TSR__OPT_COLOR_IMAGE_DATA], err));
        if (text[TSR__REG_COLOR]) TSR_TRY(mask_from_color(&job->masks[i], job, i, colors, err));
        else if (text[TSR__REG_BOX]) TSR_TRY(mask_from_box(&job->masks[i], job, i, err));
        else TSR_TRY(mask_from_file(&job->masks[i], job, i, err));
        TSR_TRY(check_mask(job, i, job->masks[i], err));
    }
    TSR_TRY(check_cover(job, err));
done:
    tsr_image_free(colors);
    return status;
}

/* --- the noise mask ------------------------------------------------------------------------------------------------------------- */
/* A mask of the init image, on the larger canvas. */
static tsr_status place_mask(tsr_mask **inout, const tsr__job *job, tsr_error *err) {
    tsr_mask *own = *inout, *placed = NULL;
    tsr_status status = tsr_mask_new(&placed, job->width, job->height, 0.0f, err);
    if (status != TSR_OK) return status;
    for (int y = 0; y < own->height; y++)
        memcpy(placed->values + (size_t)(y + job->margins.top) * (size_t)placed->width + (size_t)job->margins.left,
               own->values + (size_t)y * (size_t)own->width, (size_t)own->width * sizeof(float));
    tsr_mask_free(own);
    *inout = placed;
    return TSR_OK;
}

/* A mask may have the picture's size, or that of the init image: then it goes wherever that goes. */
static tsr_status fit_mask(tsr_mask **inout, const tsr__job *job, tsr_error *err) {
    tsr_mask *own = *inout, *sized = NULL;
    if (own->width == job->width && own->height == job->height) return TSR_OK;
    if (own->width != job->init_width || own->height != job->init_height)
        return tsr__fail(err, TSR_BAD_ARGUMENT,
                         "mask: %.200s is %dx%d, the picture %dx%d; they must have the same size",
                         tsr__scene_text(job->scene, TSR__OPT_MASK), own->width, own->height, job->width, job->height);
    if (tsr__scene_outpaints(job->scene)) return place_mask(inout, job, err);
    tsr_status status = tsr_mask_resize(&sized, own, job->width, job->height, err);
    if (status != TSR_OK) return status;
    tsr_mask_free(own);
    *inout = sized;
    return TSR_OK;
}

static tsr_status read_noise_mask(tsr_mask **out, tsr__job *job, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_image *image = NULL;
    const tsr_scene *scene = job->scene;
    TSR_TRY(tsr__job_load_picture(&image, job, tsr__scene_text(scene, TSR__OPT_MASK),
                                  &job->scene->text[TSR__OPT_MASK_DATA], err));
    TSR_TRY(tsr_mask_from_image(out, image, channel_of(tsr__scene_text(scene, TSR__OPT_MASK_CHANNEL)), err));
    tsr_mask *mask = *out;
    for (size_t i = 0; i < (size_t)mask->width * (size_t)mask->height; i++)
        if (tsr__scene_flag(scene, TSR__OPT_MASK_INVERT)) mask->values[i] = 1.0f - mask->values[i];
    TSR_TRY(fit_mask(out, job, err));
    TSR_TRY(tsr_mask_widen(*out, tsr__scene_int(scene, TSR__OPT_MASK_GROW), err));
    TSR_TRY(tsr_mask_feather(*out, (float)tsr__scene_number(scene, TSR__OPT_MASK_FEATHER), err));
done:
    tsr_image_free(image);
    return status;
}

/* What is marked, and what outpainting adds: where both are, the stronger counts. */
static tsr_status add_margins(tsr__job *job, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_mask *around = NULL;
    if (!tsr__scene_outpaints(job->scene)) return TSR_OK;
    TSR_TRY(tsr_mask_outpaint(&around, job->init_width, job->init_height, &job->margins,
                              tsr__scene_int(job->scene, TSR__OPT_OUTPAINT_FEATHER), err));
    for (size_t i = 0; job->noise_mask && i < (size_t)job->width * (size_t)job->height; i++)
        if (job->noise_mask->values[i] > around->values[i]) around->values[i] = job->noise_mask->values[i];
    tsr_mask_free(job->noise_mask);
    job->noise_mask = around;
done:
    return status;
}

tsr_status tsr__job_load_noise_mask(tsr__job *job, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr_scene *scene = job->scene;
    if (scene->text[TSR__OPT_MASK] || scene->text[TSR__OPT_MASK_DATA]) {
        TSR_TRY(read_noise_mask(&job->noise_mask, job, err));
        if (!(tsr_mask_max(job->noise_mask) > 0.0f))
            TSR_TRY(tsr__job_warn(job, "mask: nothing of it is marked, so that nothing is repainted", err));
    }
    TSR_TRY(add_margins(job, err));
    if (job->noise_mask && job->region_count && strcmp(tsr__scene_text(scene, TSR__OPT_HISTORY), "restart") == 0)
        TSR_TRY(
            tsr__job_warn(job,
                          "history restart samples each region through its own mask: the scene's mask counts in the "
                          "base-only steps; take history keep",
                          err));
done:
    return status;
}
