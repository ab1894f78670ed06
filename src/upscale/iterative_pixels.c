/* upscale/iterative_pixels.c - a latent made larger by way of its picture. Must not know samplers or hooks.
 *
 * Source of the rules: reference/comfyui-sampling.md, "Pixels: decode, ... ImageScale, ... encode". */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "upscale/iterative.h"

enum { CHANNELS = 3, FACTOR = 8 };

/* Pictures of one size, [n, height, width, 3]. */
typedef struct pixels {
    int n, width, height;
    float *values;
} pixels;

static size_t count_of(const pixels *p) {
    return (size_t)p->n * (size_t)p->height * (size_t)p->width * CHANNELS;
}

tsr_status tsr__pixel_path_check(const tsr__pixel_path *path, tsr_error *err) {
    const tsr__vae_table *vae = path->vae;
    if (!vae || !vae->decode || !vae->encode || vae->channels < 1)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "the upscaler has no VAE that decodes and encodes; give it one");
    if (path->model && (!path->model->upscale || path->model->scale < 1 || path->model->scale > 16))
        return tsr__fail(err, TSR_BAD_ARGUMENT, "the upscale model enlarges %d times; 1 to 16 is possible",
                         path->model->scale);
    if (path->method != TSR_RESIZE_NEAREST_EXACT && path->method != TSR_RESIZE_BILINEAR &&
        path->method != TSR_RESIZE_AREA && path->method != TSR_RESIZE_LANCZOS)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "scale_method %d; give nearest-exact, bilinear, lanczos or area",
                         (int)path->method);
    if (path->tile_px < 0)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "tile_size is %d; give 320 to 4096, or 0 for no tiles", path->tile_px);
    return TSR_OK;
}

static tsr_status decode(pixels *out, const tsr__pixel_path *path, const tsr_latent *latent, tsr_error *err) {
    tsr_status status = TSR_OK;
    const int *shape = latent->shape;
    if (shape[1] != path->vae->channels)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "the latent has %d channels, the VAE decodes %d", shape[1],
                 path->vae->channels);
    out->n = shape[0];
    out->width = FACTOR * shape[3];
    out->height = FACTOR * shape[2];
    TSR_ALLOC(err, out->values, count_of(out));
    TSR_TRY(path->vae->decode(path->vae->user, out->values, latent->values, shape[0], shape[2], shape[3], path->tile_px,
                              err));
done:
    return status;
}

static tsr_status apply_model(pixels *p, const tsr__pixel_model_table *model, tsr_error *err) {
    tsr_status status = TSR_OK;
    int width = p->width * model->scale, height = p->height * model->scale;
    float *larger = NULL;
    if (width > TSR_IMAGE_MAX_SIDE || height > TSR_IMAGE_MAX_SIDE)
        TSR_FAIL(err, TSR_TOO_LARGE, "the upscale model would make %dx%d pixels; %d is the longest side", width, height,
                 TSR_IMAGE_MAX_SIDE);
    TSR_ALLOC(err, larger, count_of(p) * (size_t)model->scale * (size_t)model->scale);
    TSR_TRY(model->upscale(model->user, larger, p->values, p->n, p->height, p->width, err));
    free(p->values);
    p->values = larger;
    p->width = width;
    p->height = height;
    larger = NULL;
done:
    free(larger);
    return status;
}

/* The model again and again until the pictures are wide enough; one that does not enlarge works once. */
static tsr_status enlarge(pixels *p, const tsr__pixel_model_table *model, double width, tsr_error *err) {
    tsr_status status = TSR_OK;
    int more = (double)p->width < width;
    while (more) {
        TSR_TRY(apply_model(p, model, err));
        more = model->scale > 1 && (double)p->width < width;
    }
done:
    return status;
}

/* to_planes: [n, h, w, 3] to [n, 3, h, w], else back. */
static void reorder(float *out, const float *in, const pixels *p, int to_planes) {
    size_t plane = (size_t)p->height * (size_t)p->width;
    for (int k = 0; k < p->n; k++)
        for (size_t i = 0; i < plane; i++)
            for (size_t c = 0; c < CHANNELS; c++) {
                size_t base = (size_t)k * plane * CHANNELS, planar = base + c * plane + i,
                       mixed = base + i * CHANNELS + c;
                if (to_planes) out[planar] = in[mixed];
                else out[mixed] = in[planar];
            }
}

/* ImageScale. */
static tsr_status resize(pixels *p, tsr_resize_method method, int width, int height, tsr_error *err) {
    tsr_status status = TSR_OK;
    pixels next = { p->n, width, height, NULL };
    const int shape[4] = { p->n, CHANNELS, p->height, p->width };
    float *in = NULL, *out = NULL;
    TSR_ALLOC(err, in, count_of(p));
    TSR_ALLOC(err, out, count_of(&next));
    TSR_ALLOC(err, next.values, count_of(&next));
    reorder(in, p->values, p, 1);
    TSR_TRY(tsr_resize_nchw(out, height, width, in, shape, method, err));
    reorder(next.values, out, &next, 0);
    free(p->values);
    *p = next;
    next.values = NULL;
done:
    free(in);
    free(out);
    free(next.values);
    return status;
}

tsr_status tsr__pixels_encode(tsr_latent **out, const tsr__vae_table *vae, const float *rgb, int n, int width,
                              int height, int tile_px, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_latent *latent = NULL;
    float *cut = NULL;
    int w = width / FACTOR, h = height / FACTOR;
    *out = NULL;
    if (w < 1 || h < 1)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "a picture of %dx%d pixels is too small for a latent; 8x8 is the least", width,
                 height);
    size_t row = (size_t)w * FACTOR * CHANNELS;
    size_t left = (size_t)(width % FACTOR / 2) * CHANNELS, top = (size_t)(height % FACTOR / 2);
    TSR_TRY(tsr_latent_new(&latent, n, vae->channels, h, w, err));
    TSR_ALLOC(err, cut, (size_t)n * (size_t)h * FACTOR * row);
    for (size_t k = 0; k < (size_t)n; k++)
        for (size_t y = 0; y < (size_t)h * FACTOR; y++)
            memcpy(cut + (k * (size_t)h * FACTOR + y) * row,
                   rgb + (k * (size_t)height + top + y) * (size_t)width * CHANNELS + left, row * sizeof *cut);
    TSR_TRY(vae->encode(vae->user, latent->values, cut, n, h * FACTOR, w * FACTOR, tile_px, err));
    *out = latent;
    latent = NULL;
done:
    tsr_latent_free(latent);
    free(cut);
    return status;
}

tsr_status tsr__pixel_path_run(tsr_latent **out, const tsr__pixel_path *path, const tsr_latent *latent, double width,
                               double height, tsr_error *err) {
    tsr_status status = TSR_OK;
    pixels p = { 0 };
    *out = NULL;
    if (!(width >= FACTOR && height >= FACTOR && width <= TSR_IMAGE_MAX_SIDE && height <= TSR_IMAGE_MAX_SIDE))
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "cannot upscale to %gx%g pixels; sides are %d to %d", width, height, FACTOR,
                 TSR_IMAGE_MAX_SIDE);
    TSR_TRY(decode(&p, path, latent, err));
    if (path->model) TSR_TRY(enlarge(&p, path->model, width, err));
    TSR_TRY(resize(&p, path->method, (int)width, (int)height, err));
    TSR_TRY(tsr__pixels_encode(out, path->vae, p.values, p.n, p.width, p.height, path->tile_px, err));
done:
    free(p.values);
    return status;
}
