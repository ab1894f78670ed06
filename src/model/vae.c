/* model/vae.c - runs the VAE: picture to latent and back. Latents are raw units; the model's scale is the caller's.
 *
 * Pictures go through one at a time: a decode is far larger than its result. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "core/memory.h"
#include "model/upsample.h"
#include "model/vae_priv.h"

#define MAX_SIDE 8192 /* latent cells */

tsr_status tsr__vae_new(tsr__vae **out, tsr__nn *nn, const tsr__weights *weights, const char *prefix,
                        const char *config, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__vae *vae = NULL;
    (void)config; /* everything about a VAE is in its shapes */
    *out = NULL;
    TSR_ALLOC_ZERO(err, vae, 1);
    vae->nn = nn;
    if (tsr__taesd_is_at(weights, prefix)) {
        TSR_TRY(tsr__taesd_new(&vae->tiny, nn, weights, prefix, err));
        vae->latent_channels = tsr__taesd_latent_channels(vae->tiny);
        vae->factor = TSR__TAESD_FACTOR;
    } else {
        TSR_TRY(tsr__vae_load(vae, weights, prefix, err));
    }
    *out = vae;
    vae = NULL;
done:
    tsr__vae_free(vae);
    return status;
}

static void clear_attention(tsr__nn *nn, tsr__vae_attention *attention) {
    tsr__norm_clear(&attention->norm);
    tsr__nn_weight_free(nn, attention->qkv);
    tsr__nn_weight_free(nn, attention->out);
}

static void clear_half(tsr__nn *nn, tsr__vae_half *half) {
    for (int l = 0; l < TSR__VAE_MAX_LEVELS; l++) {
        for (int b = 0; b < TSR__VAE_MAX_BLOCKS; b++) {
            tsr__res_clear(nn, &half->level[l].block[b]);
            clear_attention(nn, &half->level[l].attention[b]);
        }
        tsr__nn_weight_free(nn, half->level[l].resize);
    }
    tsr__res_clear(nn, &half->mid1);
    tsr__res_clear(nn, &half->mid2);
    clear_attention(nn, &half->mid_attention);
    tsr__norm_clear(&half->norm_out);
    tsr__nn_weight_free(nn, half->conv_in);
    tsr__nn_weight_free(nn, half->conv_out);
}

void tsr__vae_free(tsr__vae *vae) {
    if (!vae) return;
    clear_half(vae->nn, &vae->encoder);
    clear_half(vae->nn, &vae->decoder);
    tsr__nn_weight_free(vae->nn, vae->quant);
    tsr__nn_weight_free(vae->nn, vae->post_quant);
    tsr__taesd_free(vae->tiny);
    tsr__weight_log_clear(&vae->log);
    free(vae);
}

const tsr__weight_log *tsr__vae_weights(const tsr__vae *vae) {
    return &vae->log;
}

int tsr__vae_latent_channels(const tsr__vae *vae) {
    return vae->latent_channels;
}

int tsr__vae_is_tiny(const tsr__vae *vae) {
    return vae->tiny != NULL;
}

int tsr__vae_factor(const tsr__vae *vae) {
    return vae->factor;
}

/* At the widest residual block three activations live at once (input, normed copy, skip or output); a quarter more is for
 * pooled blocks that fit no later tensor. */
size_t tsr__vae_decode_bytes(const tsr__vae *vae, int h, int w) {
    size_t scalar = tsr__nn_precision(vae->nn) == TSR__BF16 ? 2 : 4, peak = 0, places = (size_t)h * (size_t)w;
    if (vae->tiny) return tsr__taesd_decode_bytes(vae->tiny, h, w);
    for (int l = 0; l < vae->decoder.levels; l++) {
        const tsr__vae_level *level = &vae->decoder.level[l];
        for (int b = 0; b < level->blocks; b++) {
            const tsr__res_block *block = &level->block[b];
            int wide = block->in_channels > block->out_channels ? block->in_channels : block->out_channels;
            size_t bytes = places * scalar * (2 * (size_t)wide + (size_t)block->out_channels);
            if (bytes > peak) peak = bytes;
        }
        if (l + 1 < vae->decoder.levels) places *= 4;
    }
    return peak + peak / 4;
}

/* --- running ---------------------------------------------------------------------------------------------------------- */

/* *x += out(attention(norm(x))): one head over all places. */
static tsr_status attend(tsr__nn *nn, tsr__tensor *x, const tsr__vae_attention *attention, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__tensor a = { 0 }, b = { 0 }, y = { 0 };
    int c = attention->channels, tokens = x->h * x->w;
    TSR_TRY(tsr__norm_group(nn, &a, x, &attention->norm, 1e-6f, 0, err));
    TSR_TRY(tsr__nn_linear(nn, &b, &a, attention->qkv, TSR__ACT_NONE, NULL, err));
    tsr__nn_release(nn, &a);
    tsr__token_view q = { &b, tokens, 3 * c, 0 }, k = { &b, tokens, 3 * c, c }, v = { &b, tokens, 3 * c, 2 * c };
    TSR_TRY(tsr__nn_attention(nn, &a, q, k, v, x->n, 1, c, NULL, 0, err));
    tsr__nn_release(nn, &b);
    a.h = x->h;
    a.w = x->w;
    TSR_TRY(tsr__nn_linear(nn, &y, &a, attention->out, TSR__ACT_NONE, x, err));
    tsr__nn_release(nn, x);
    *x = y;
done:
    tsr__nn_release(nn, &a);
    tsr__nn_release(nn, &b);
    return status;
}

static tsr_status run_res(tsr__nn *nn, tsr__tensor *x, const tsr__res_block *block, tsr_error *err) {
    tsr__tensor y = { 0 };
    tsr_status status = tsr__res_run(nn, &y, x, 1, block, NULL, err);
    *x = y;
    return status;
}

static tsr_status run_mid(tsr__nn *nn, tsr__tensor *x, const tsr__vae_half *half, tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_TRY(run_res(nn, x, &half->mid1, err));
    TSR_TRY(attend(nn, x, &half->mid_attention, err));
    TSR_TRY(run_res(nn, x, &half->mid2, err));
done:
    return status;
}

/* *x = conv(x), the old x released. */
static tsr_status convolve(tsr__nn *nn, tsr__tensor *x, const tsr__nn_weight *conv, tsr_error *err) {
    tsr__tensor y = { 0 };
    tsr_status status = tsr__nn_conv2d(nn, &y, x, conv, NULL, NULL, err);
    tsr__nn_release(nn, x);
    *x = y;
    return status;
}

static tsr_status run_level(const tsr__vae *vae, tsr__tensor *x, const tsr__vae_level *level, int decoder,
                            tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__nn *nn = vae->nn;
    for (int b = 0; b < level->blocks; b++) {
        if (vae->ask) TSR_TRY(vae->ask(vae->ask_user, err));
        TSR_TRY(run_res(nn, x, &level->block[b], err));
        if (level->attention[b].channels) TSR_TRY(attend(nn, x, &level->attention[b], err));
    }
    if (!level->resize) return TSR_OK;
    if (decoder) TSR_TRY(tsr__upsample_run(nn, x, level->resize, 2 * x->h, 2 * x->w, err));
    else TSR_TRY(convolve(nn, x, level->resize, err));
done:
    return status;
}

/* *x through the half, from conv_in to conv_out; x is released when it fails. */
static tsr_status run_half(const tsr__vae *vae, tsr__tensor *x, const tsr__vae_half *half, int decoder,
                           tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__nn *nn = vae->nn;
    tsr__tensor normed = { 0 };
    TSR_TRY(convolve(nn, x, half->conv_in, err));
    if (decoder) TSR_TRY(run_mid(nn, x, half, err));
    for (int l = 0; l < half->levels; l++) TSR_TRY(run_level(vae, x, &half->level[l], decoder, err));
    if (!decoder) TSR_TRY(run_mid(nn, x, half, err));
    TSR_TRY(tsr__norm_group(nn, &normed, x, &half->norm_out, 1e-6f, 1, err));
    tsr__nn_release(nn, x);
    TSR_TRY(tsr__nn_conv2d(nn, x, &normed, half->conv_out, NULL, NULL, err));
done:
    tsr__nn_release(nn, &normed);
    if (status != TSR_OK) tsr__nn_release(nn, x);
    return status;
}

static tsr_status project(tsr__nn *nn, tsr__tensor *x, const tsr__nn_weight *weight, tsr_error *err) {
    tsr__tensor y = { 0 };
    if (!weight) return TSR_OK;
    tsr_status status = tsr__nn_linear(nn, &y, x, weight, TSR__ACT_NONE, NULL, err);
    tsr__nn_release(nn, x);
    *x = y;
    return status;
}

tsr_status tsr__vae_decode_values(tsr__vae *vae, float *values, const float *latent, int h, int w, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__nn *nn = vae->nn;
    tsr__tensor x = { 0 };
    if (vae->tiny) return tsr__taesd_decode_values(vae->tiny, values, latent, h, w, err);
    TSR_TRY(tsr__nn_from_nchw(nn, &x, latent, 1, vae->latent_channels, h, w, err));
    TSR_TRY(project(nn, &x, vae->post_quant, err));
    TSR_TRY(run_half(vae, &x, &vae->decoder, 1, err));
    TSR_TRY(tsr__nn_to_rows(nn, values, &x, err)); /* NHWC is what a picture is */
done:
    tsr__nn_release(nn, &x);
    return status;
}

tsr_status tsr__vae_encode_values(tsr__vae *vae, float *latent, const float *rgb, int height, int width,
                                  tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__nn *nn = vae->nn;
    tsr__tensor x = { 0 };
    float *buffer = NULL;
    if (vae->tiny) return tsr__taesd_encode_values(vae->tiny, latent, rgb, height, width, err);
    size_t pixels = (size_t)height * (size_t)width, z = (size_t)vae->latent_channels;
    size_t cells = pixels / ((size_t)vae->factor * (size_t)vae->factor);
    TSR_ALLOC(err, buffer, pixels * 3);
    for (size_t i = 0; i < pixels * 3; i++) buffer[i] = rgb[i] * 2.0f - 1.0f;
    TSR_TRY(tsr__nn_from_rows(nn, &x, buffer, 1, (int)pixels, 3, err));
    x.h = height;
    x.w = width;
    free(buffer);
    buffer = NULL;
    TSR_TRY(run_half(vae, &x, &vae->encoder, 0, err));
    TSR_TRY(project(nn, &x, vae->quant, err));
    /* Means first, then log variances, which the mode does not need. */
    TSR_ALLOC(err, buffer, cells * 2 * z);
    TSR_TRY(tsr__nn_to_nchw(nn, buffer, &x, err));
    memcpy(latent, buffer, cells * z * sizeof *latent);
done:
    tsr__nn_release(nn, &x);
    free(buffer);
    return status;
}

void tsr__vae_ask(tsr__vae *vae, tsr__ask_fn ask, void *user) {
    vae->ask = ask;
    vae->ask_user = user;
}

/* --- public calls ----------------------------------------------------------------------------------------------------- */

/* unit: halves of a tile, and what tiles share, are whole cells. */
static tsr_status check_call(const tsr__vae *vae, int n, int h, int w, int unit, tsr__vae_tiles tiles, tsr_error *err) {
    if (n < 1 || h < 1 || w < 1 || h > MAX_SIDE || w > MAX_SIDE)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "a latent batch of %d, %d x %d cells: 1 to %d cells a side", n, w, h,
                         MAX_SIDE);
    if (tiles.side_px == 0) return TSR_OK;
    if (tiles.side_px < 2 * vae->factor || tiles.side_px % unit || tiles.side_px > MAX_SIDE)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "tiles of %d pixels: a multiple of %d, or 0 for none", tiles.side_px,
                         unit);
    if (tiles.overlap_px < 0 || tiles.overlap_px % (unit > 1 ? vae->factor : 1) ||
        tiles.overlap_px >= tiles.side_px / 2)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "tiles of %d pixels that share %d: give less than half, in steps of %d",
                         tiles.side_px, tiles.overlap_px, vae->factor);
    return TSR_OK;
}

/* 64 pixels for a VAE of factor 8, a quarter of the tile when that is less. */
static tsr__vae_tiles usual_tiles(const tsr__vae *vae, int tile_px) {
    tsr__vae_tiles tiles = { tile_px, tile_px / 4 < 8 * vae->factor ? tile_px / 4 : 8 * vae->factor };
    return tiles;
}

static tsr_status check_finite(const float *values, size_t count, const char *what, tsr_error *err) {
    for (size_t i = 0; i < count; i++)
        if (!isfinite(values[i]))
            return tsr__fail(err, TSR_NOT_FINITE, "the VAE's %s returned NaN or infinity: try --precision f32", what);
    return TSR_OK;
}

tsr_status tsr__vae_decode(tsr__vae *vae, float *rgb, const float *latent, int n, int h, int w, int tile_px,
                           tsr_error *err) {
    return tsr__vae_decode_tiles(vae, rgb, latent, n, h, w, usual_tiles(vae, tile_px), err);
}

tsr_status tsr__vae_decode_tiles(tsr__vae *vae, float *rgb, const float *latent, int n, int h, int w,
                                 tsr__vae_tiles tiles, tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_TRY(check_call(vae, n, h, w, 1, tiles, err));
    size_t cells = (size_t)h * (size_t)w, in = cells * (size_t)vae->latent_channels;
    size_t out = cells * (size_t)vae->factor * (size_t)vae->factor * 3;
    for (int i = 0; i < n; i++) {
        float *values = rgb + (size_t)i * out;
        if (tiles.side_px)
            TSR_TRY(tsr__vae_decode_tiled(vae, values, latent + (size_t)i * in, h, w, tiles.side_px, tiles.overlap_px,
                                          err));
        else TSR_TRY(tsr__vae_decode_values(vae, values, latent + (size_t)i * in, h, w, err));
        TSR_TRY(check_finite(values, out, "decoder", err));
        for (size_t v = 0; v < out; v++) {
            float one = (values[v] + 1.0f) * 0.5f;
            values[v] = one < 0.0f ? 0.0f : one > 1.0f ? 1.0f : one;
        }
    }
done:
    return status;
}

tsr_status tsr__vae_encode(tsr__vae *vae, float *latent, const float *rgb, int n, int height, int width, int tile_px,
                           tsr_error *err) {
    return tsr__vae_encode_tiles(vae, latent, rgb, n, height, width, usual_tiles(vae, tile_px), err);
}

tsr_status tsr__vae_encode_tiles(tsr__vae *vae, float *latent, const float *rgb, int n, int height, int width,
                                 tsr__vae_tiles tiles, tsr_error *err) {
    tsr_status status = TSR_OK;
    int f = vae->factor;
    if (height < f || width < f || height % f || width % f)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "a picture of %d x %d pixels: sides must be multiples of %d", width, height, f);
    TSR_TRY(check_call(vae, n, height / f, width / f, 2 * f, tiles, err));
    size_t in = (size_t)height * (size_t)width * 3;
    size_t out = (size_t)(height / f) * (size_t)(width / f) * (size_t)vae->latent_channels;
    for (int i = 0; i < n; i++) {
        float *one = latent + (size_t)i * out;
        if (tiles.side_px)
            TSR_TRY(tsr__vae_encode_tiled(vae, one, rgb + (size_t)i * in, height, width, tiles.side_px,
                                          tiles.overlap_px, err));
        else TSR_TRY(tsr__vae_encode_values(vae, one, rgb + (size_t)i * in, height, width, err));
        TSR_TRY(check_finite(one, out, "encoder", err));
    }
done:
    return status;
}
