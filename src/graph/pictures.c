/* graph/pictures.c - float pictures: through the VAE, resized, to 8 bits. */
#include <stdlib.h>
#include <string.h>

#include "graph/graph_priv.h"
#include "picture/mask_priv.h"

tsr_status tsr__one_mask(const tsr_mask **out, const tsr__value *mask, const char *name, tsr_error *err) {
    *out = NULL;
    if (mask->masks.n != 1)
        return tsr__fail(err, TSR_UNSUPPORTED, "%s: a batch of %d masks; one mask is wanted here", name, mask->masks.n);
    *out = mask->masks.items[0];
    return TSR_OK;
}

tsr_status tsr__noise_mask(tsr_mask **out, const tsr__value *mask, tsr_error *err) {
    return mask->masks.n == 1 ? tsr_mask_copy(out, mask->masks.items[0], err)
                              : tsr__mask_stack(out, mask->masks.items, mask->masks.n, err);
}

/* --- VAE ---------------------------------------------------------------------------------------------------------------- */
/* Whole pictures while memory allows, tiles otherwise. side_px 0: the usual overlap is meant as well. */
static tsr_status choose_tiles(tsr__vae_tiles *out, tsr_engine *engine, int h, int w, int tile_px, tsr_error *err) {
    enum { FALLBACK = 512, LEAST = 256, OVERLAP = 64 };
    tsr_status status = TSR_OK;
    tsr__vae_tiles tiles = { tile_px, tile_px / 4 < OVERLAP ? tile_px / 4 : OVERLAP };
    TSR_TRY(tsr__engine_need_vae(engine, err));
    int factor = tsr__vae_factor(engine->vae);
    size_t needed = tsr__vae_decode_bytes(engine->vae, h, w);
    if (tile_px == 0) {
        if (tsr__engine_need_vae_for(engine, needed, NULL) != TSR_OK || needed > tsr__engine_memory(engine))
            tiles.side_px = FALLBACK;
        if (tiles.side_px &&
            tsr__vae_decode_bytes(engine->vae, FALLBACK / factor, FALLBACK / factor) > tsr__engine_memory(engine))
            tiles.side_px = LEAST;
        if (tiles.side_px) tiles.overlap_px = OVERLAP;
    }
    if (tiles.side_px) {
        int high = tiles.side_px / factor < h ? tiles.side_px / factor : h,
            wide = tiles.side_px / factor < w ? tiles.side_px / factor : w;
        TSR_TRY(tsr__engine_need_vae_for(engine, tsr__vae_decode_bytes(engine->vae, high, wide), err));
    }
    *out = tiles;
done:
    return status;
}

tsr_status tsr__decode(tsr__value **out, tsr_graph *graph, const tsr__value *vae, const tsr_latent *latent, int tile_px,
                       tsr_error *err) {
    tsr_engine *engine = NULL;
    tsr__vae_tiles tiles;
    *out = NULL;
    tsr_status status = tsr__slot_engine(&engine, graph, vae->slot, err);
    if (status == TSR_OK) status = choose_tiles(&tiles, engine, latent->shape[2], latent->shape[3], tile_px, err);
    if (status != TSR_OK) return status;
    return tsr__decode_tiles(out, graph, vae, latent, tiles, err);
}

tsr_status tsr__decode_tiles(tsr__value **out, tsr_graph *graph, const tsr__value *vae, const tsr_latent *latent,
                             tsr__vae_tiles tiles, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_engine *engine = NULL;
    tsr__value *result = NULL;
    *out = NULL;
    TSR_TRY(tsr__slot_engine(&engine, graph, vae->slot, err));
    TSR_TRY(tsr__engine_need_vae(engine, err));
    int n = latent->shape[0], c = latent->shape[1], h = latent->shape[2], w = latent->shape[3];
    int factor = tsr__vae_factor(engine->vae);
    if (c != tsr__vae_latent_channels(engine->vae))
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "the latent has %d channels, the VAE takes %d", c,
                 tsr__vae_latent_channels(engine->vae));
    TSR_TRY(tsr__value_pictures(&result, n, h * factor, w * factor, 3, err));
    for (int i = 0; i < n; i++) {
        size_t from = (size_t)i * (size_t)c * (size_t)h * (size_t)w;
        size_t to = (size_t)i * (size_t)(h * factor) * (size_t)(w * factor) * 3;
        TSR_TRY(tsr__engine_check_cancel(engine, err));
        TSR_TRY(tsr__vae_decode_tiles(engine->vae, result->pictures.values + to, latent->values + from, 1, h, w, tiles,
                                      err));
    }
    *out = result;
    result = NULL;
done:
    tsr__value_unref(result);
    return status;
}

tsr_status tsr__encode(tsr_latent **out, tsr_graph *graph, const tsr__value *vae, const tsr__pictures *p, int tile_px,
                       tsr_error *err) {
    tsr_engine *engine = NULL;
    tsr__vae_tiles tiles;
    *out = NULL;
    tsr_status status = tsr__slot_engine(&engine, graph, vae->slot, err);
    if (status == TSR_OK) status = tsr__engine_need_vae(engine, err);
    if (status != TSR_OK) return status;
    int factor = tsr__vae_factor(engine->vae);
    status = choose_tiles(&tiles, engine, p->h / factor, p->w / factor, tile_px, err);
    return status == TSR_OK ? tsr__encode_tiles(out, graph, vae, p, tiles, err) : status;
}

tsr_status tsr__encode_tiles(tsr_latent **out, tsr_graph *graph, const tsr__value *vae, const tsr__pictures *p,
                             tsr__vae_tiles tiles, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_engine *engine = NULL;
    tsr_latent *latent = NULL;
    float *rgb = NULL;
    *out = NULL;
    TSR_TRY(tsr__slot_engine(&engine, graph, vae->slot, err));
    TSR_TRY(tsr__engine_need_vae(engine, err));
    int factor = tsr__vae_factor(engine->vae), h = p->h / factor, w = p->w / factor;
    int top = p->h % factor / 2, left = p->w % factor / 2;
    if (h < 1 || w < 1)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "a picture of %dx%d is smaller than %dx%d", p->w, p->h, factor, factor);
    TSR_TRY(tsr_latent_new(&latent, p->n, tsr__vae_latent_channels(engine->vae), h, w, err));
    size_t each = tsr_latent_count(latent) / (size_t)p->n, row = (size_t)w * (size_t)factor;
    TSR_ALLOC(err, rgb, (size_t)h * (size_t)factor * row * 3);
    for (int i = 0; i < p->n; i++) {
        for (size_t y = 0; y < (size_t)(h * factor); y++)
            for (size_t x = 0; x < row; x++) {
                size_t from =
                    (((size_t)i * (size_t)p->h + y + (size_t)top) * (size_t)p->w + x + (size_t)left) * (size_t)p->c;
                memcpy(rgb + (y * row + x) * 3, p->values + from, 3 * sizeof *rgb);
            }
        TSR_TRY(tsr__engine_check_cancel(engine, err));
        TSR_TRY(tsr__vae_encode_tiles(engine->vae, latent->values + (size_t)i * each, rgb, 1, h * factor, w * factor,
                                      tiles, err));
    }
    *out = latent;
    latent = NULL;
done:
    tsr_latent_free(latent);
    free(rgb);
    return status;
}

/* --- size ------------------------------------------------------------------------------------------------------------------ */
/* NHWC, without `left` columns and `top` rows on each side, to NCHW. */
static void to_planes(float *out, const tsr__pictures *p, int left, int top) {
    int h = p->h - 2 * top, w = p->w - 2 * left;
    for (int i = 0; i < p->n; i++)
        for (int c = 0; c < p->c; c++)
            for (int y = 0; y < h; y++)
                for (int x = 0; x < w; x++)
                    *out++ =
                        p->values[(((size_t)i * (size_t)p->h + (size_t)(y + top)) * (size_t)p->w + (size_t)(x + left)) *
                                      (size_t)p->c +
                                  (size_t)c];
}

static void from_planes(tsr__pictures *p, const float *in) {
    size_t pixels = (size_t)p->h * (size_t)p->w;
    for (size_t i = 0; i < (size_t)p->n; i++)
        for (size_t c = 0; c < (size_t)p->c; c++)
            for (size_t k = 0; k < pixels; k++) p->values[(i * pixels + k) * (size_t)p->c + c] = *in++;
}

tsr_status tsr__scale(tsr__value **out, const tsr__pictures *p, int width, int height, const char *method, int center,
                      tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_resize_method how;
    tsr__value *result = NULL;
    float *planes = NULL, *scaled = NULL;
    int left = 0, top = 0;
    *out = NULL;
    TSR_TRY(tsr_resize_method_parse(&how, method, err));
    TSR_TRY(tsr__value_pictures(&result, p->n, height, width, p->c, err));
    if (center) tsr_resize_center_crop(&left, &top, p->w, p->h, width, height);
    const int shape[4] = { p->n, p->c, p->h - 2 * top, p->w - 2 * left };
    TSR_ALLOC(err, planes, (size_t)shape[0] * (size_t)shape[1] * (size_t)shape[2] * (size_t)shape[3]);
    TSR_ALLOC(err, scaled, (size_t)p->n * (size_t)p->c * (size_t)height * (size_t)width);
    to_planes(planes, p, left, top);
    TSR_TRY(tsr_resize_nchw(scaled, height, width, planes, shape, how, err));
    from_planes(&result->pictures, scaled);
    *out = result;
    result = NULL;
done:
    tsr__value_unref(result);
    free(planes);
    free(scaled);
    return status;
}

/* --- 8 bits ---------------------------------------------------------------------------------------------------------------- */
static unsigned char to_byte(float v) {
    float scaled = v * 255.0f;
    return scaled >= 255.0f ? 255 : scaled > 0.0f ? (unsigned char)scaled : 0; /* NaN: 0 */
}

tsr_status tsr__to_image(tsr_image **out, const tsr__pictures *p, int index, tsr_error *err) {
    tsr_status status = tsr_image_new(out, p->w, p->h, p->c, err);
    if (status != TSR_OK) return status;
    size_t count = (size_t)p->w * (size_t)p->h * (size_t)p->c;
    for (size_t i = 0; i < count; i++) (*out)->pixels[i] = to_byte(p->values[(size_t)index * count + i]);
    return TSR_OK;
}
