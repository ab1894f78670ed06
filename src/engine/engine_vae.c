/* engine/engine_vae.c - pictures to latents and back, in tiles where memory is short. */
#include <math.h>
#include <stdlib.h>

#include "engine/engine_priv.h"
#include "model/taesd.h"

/* The decoder's last level holds a few activations of about 128 channels at full size, in float32. */
#define BYTES_PER_PIXEL      ((size_t)128 * 4 * 5)
#define TINY_BYTES_PER_PIXEL ((size_t)64 * 4 * 5) /* TAESD's */
#define SHORT_OF_MEMORY_TILE 256

/* Known before the VAE is built. */
static size_t bytes_per_pixel(const tsr_engine *engine) {
    return tsr__taesd_is_at(engine->weights, "first_stage_model.") ? TINY_BYTES_PER_PIXEL : BYTES_PER_PIXEL;
}

size_t tsr__engine_vae_bytes(const tsr_engine *engine, int width, int height, int tile_px) {
    if (tile_px > 0 && width > tile_px) width = tile_px;
    if (tile_px > 0 && height > tile_px) height = tile_px;
    return (size_t)width * (size_t)height * bytes_per_pixel(engine);
}

size_t tsr__engine_vae_bytes_least(const tsr_engine *engine, int width, int height, int tile_px) {
    return tsr__engine_vae_bytes(engine, width, height, tile_px > 0 ? tile_px : SHORT_OF_MEMORY_TILE);
}

static int choose_tile(const tsr_engine *engine, int width, int height, int tile_px) {
    if (tile_px > 0) return tile_px < 64 + 32 ? 64 + 32 : tile_px; /* the overlap is 64 */
    size_t needed = tsr__engine_vae_bytes(engine, width, height, 0);
    if (needed <= tsr__engine_memory(engine)) return 0;
    return width > SHORT_OF_MEMORY_TILE || height > SHORT_OF_MEMORY_TILE ? SHORT_OF_MEMORY_TILE : 0;
}

static int all_finite(const float *values, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (!isfinite(values[i])) return 0;
    return 1;
}

tsr_status tsr_engine_decode(tsr_image **out, tsr_engine *engine, const tsr_latent *latent, int index, int tile_px,
                             tsr_error *err) {
    tsr_status status = TSR_OK;
    float *rgb = NULL;
    *out = NULL;
    if (index < 0 || index >= latent->shape[0])
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "there is no picture %d in a batch of %d", index, latent->shape[0]);
    TSR_TRY(tsr__engine_check_cancel(engine, err));
    TSR_TRY(tsr__engine_need_vae(engine, err));
    int h = latent->shape[2], w = latent->shape[3], factor = tsr__vae_factor(engine->vae);
    if (latent->shape[1] != tsr__vae_latent_channels(engine->vae))
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "the latent has %d channels, the model's decoder takes %d", latent->shape[1],
                 tsr__vae_latent_channels(engine->vae));
    size_t each = (size_t)latent->shape[1] * (size_t)h * (size_t)w,
           pixels = (size_t)h * (size_t)w * (size_t)(factor * factor);
    const float *values = latent->values + (size_t)index * each;
    if (!all_finite(values, each)) TSR_FAIL(err, TSR_NOT_FINITE, "the latent to decode holds NaN or infinity");
    TSR_ALLOC(err, rgb, pixels * 3);
    TSR_TRY(
        tsr__vae_decode(engine->vae, rgb, values, 1, h, w, choose_tile(engine, w * factor, h * factor, tile_px), err));
    if (!all_finite(rgb, pixels * 3)) TSR_FAIL(err, TSR_NOT_FINITE, "%s: its decoder returned NaN", engine->model);
    tsr__budget_used(engine);
    TSR_TRY(tsr_image_from_floats(out, rgb, w * factor, h * factor, err));
done:
    free(rgb);
    return status;
}

tsr_status tsr__engine_encode_rgb(tsr_latent **out, tsr_engine *engine, const float *rgb, int width, int height,
                                  int tile_px, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_latent *latent = NULL;
    *out = NULL;
    TSR_TRY(tsr__engine_check_cancel(engine, err));
    TSR_TRY(tsr__engine_need_vae(engine, err));
    int factor = tsr__vae_factor(engine->vae);
    TSR_TRY(tsr_latent_new(&latent, 1, tsr__vae_latent_channels(engine->vae), height / factor, width / factor, err));
    TSR_TRY(tsr__vae_encode(engine->vae, latent->values, rgb, 1, height, width,
                            choose_tile(engine, width, height, tile_px), err));
    *out = latent;
    latent = NULL;
done:
    tsr_latent_free(latent);
    return status;
}

tsr_status tsr_engine_encode(tsr_latent **out, tsr_engine *engine, const tsr_image *image, int tile_px,
                             tsr_error *err) {
    tsr_status status = TSR_OK;
    float *rgb = NULL;
    int width = image->width / 8 * 8, height = image->height / 8 * 8;
    *out = NULL;
    if (width == 0 || height == 0)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "a picture of %dx%d is smaller than 8x8", image->width, image->height);
    TSR_ALLOC(err, rgb, (size_t)image->width * (size_t)image->height * 3);
    tsr_image_to_floats(image, rgb);
    /* Centred crop, in place: rows only move towards the start. */
    size_t left = (size_t)(image->width - width) / 2, top = (size_t)(image->height - height) / 2;
    for (size_t y = 0; y < (size_t)height; y++)
        for (size_t i = 0; i < (size_t)width * 3; i++)
            rgb[y * (size_t)width * 3 + i] = rgb[((y + top) * (size_t)image->width + left) * 3 + i];
    TSR_TRY(tsr__engine_encode_rgb(out, engine, rgb, width, height, tile_px, err));
done:
    free(rgb);
    return status;
}
