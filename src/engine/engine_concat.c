/* engine/engine_concat.c - see engine_concat.h. Everything is made at the canvas's size, then cut to what the call sees. */
#include "engine/engine_concat.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine_priv.h"
#include "picture/mask_priv.h"

/* Pixels of value 0 as SD1's VAE encodes them, in model space; ComfyUI takes them for every family. */
static const float EMPTY[4] = { 0.8223f, -0.6876f, 0.6364f, 0.1380f };

int tsr__concat_channels(const tsr_engine *engine) {
    return engine->checkpoint.variant == TSR_VARIANT_PLAIN
               ? 0
               : (int)(engine->checkpoint.unet_in_channels - engine->checkpoint.unet_out_channels);
}

/* Picture k of a batch of n, taken out of `from`: evenly chosen when there are more, repeated in blocks when fewer. */
static int pick(int k, int n, int from) {
    if (from == n) return k;
    if (n <= 1) return 0;
    double at = from > n ? rint((double)k * ((double)(from - 1) / (double)(n - 1)))
                         : floor(((double)k + 0.5) * ((double)from / (double)n));
    return at < from - 1 ? (int)at : from - 1;
}

/* Cut to the canvas's proportions, then bilinear. in: [channels, h, w] */
static tsr_status fit(float *out, int height, int width, const float *in, int channels, int h, int w, tsr_error *err) {
    tsr_status status = TSR_OK;
    float *cut = NULL, *to;
    int left = 0, top = 0;
    size_t plane = (size_t)height * (size_t)width;
    if (h == height && w == width) {
        memcpy(out, in, (size_t)channels * plane * sizeof *out);
        return TSR_OK;
    }
    tsr_resize_center_crop(&left, &top, w, h, width, height);
    const int shape[4] = { 1, channels, h - 2 * top, w - 2 * left };
    TSR_ALLOC(err, cut, (size_t)channels * (size_t)shape[2] * (size_t)shape[3]);
    to = cut;
    for (int c = 0; c < channels; c++)
        for (int y = 0; y < shape[2]; y++, to += shape[3])
            memcpy(to, in + ((size_t)c * (size_t)h + (size_t)(y + top)) * (size_t)w + (size_t)left,
                   (size_t)shape[3] * sizeof *to);
    TSR_TRY(tsr_resize_nchw(out, height, width, cut, shape, TSR_RESIZE_BILINEAR, err));
done:
    free(cut);
    return status;
}

/* What one call reads from, and the canvas it lies on. */
typedef struct sources {
    const tsr_latent *given;
    const tsr_start_picture *start; /* latent NULL: none */
    const tsr_mask *mask;           /* the conditioning's; NULL: the run's */
    int n, channels, height, width;
    float scale;
} sources;

static int has_mask(const sources *s) {
    return s->mask || (s->start && s->start->mask);
}

/* 0 or 1: a half is 0, as in torch.round. */
static tsr_status make_mask(float *out, const sources *s, int k, tsr_error *err) {
    tsr_status status = TSR_OK;
    size_t plane = (size_t)s->height * (size_t)s->width;
    if (s->mask)
        TSR_TRY(fit(out, s->height, s->width, tsr__mask_item(s->mask, pick(k, s->n, tsr__mask_count(s->mask))), 1,
                    s->mask->height, s->mask->width, err));
    else memcpy(out, s->start->mask + (size_t)k * plane, plane * sizeof *out);
    for (size_t i = 0; i < plane; i++) out[i] = rintf(out[i]);
done:
    return status;
}

static tsr_status make_picture(float *out, const sources *s, int k, tsr_error *err) {
    tsr_status status = TSR_OK;
    const int *shape = s->given ? s->given->shape : NULL;
    size_t count = (size_t)s->channels * (size_t)s->height * (size_t)s->width;
    if (shape) {
        size_t each = (size_t)shape[1] * (size_t)shape[2] * (size_t)shape[3];
        TSR_TRY(fit(out, s->height, s->width, s->given->values + (size_t)pick(k, s->n, shape[0]) * each, s->channels,
                    shape[2], shape[3], err));
        for (size_t i = 0; i < count; i++) out[i] *= s->scale;
    } else if (s->start && s->start->latent) {
        memcpy(out, s->start->latent + (size_t)k * count, count * sizeof *out);
    } else {
        memset(out, 0, count * sizeof *out);
    }
done:
    return status;
}

/* [1 + c, height, width]: the mask, then the picture. */
static tsr_status make_inpaint(float *out, const sources *s, int k, tsr_error *err) {
    tsr_status status = TSR_OK;
    size_t plane = (size_t)s->height * (size_t)s->width;
    if (has_mask(s)) {
        TSR_TRY(make_mask(out, s, k, err));
        return make_picture(out + plane, s, k, err);
    }
    for (size_t i = 0; i < plane; i++) out[i] = 1.0f;
    for (int c = 0; c < s->channels; c++)
        for (size_t i = 0; i < plane; i++) out[(size_t)(c + 1) * plane + i] = c < 4 ? EMPTY[c] : 1.0f;
done:
    return status;
}

/* The picture to edit goes in unscaled; without one, nothing. */
static tsr_status make_edit(float *out, const sources *s, int k, tsr_error *err) {
    if (s->given) return make_picture(out, s, k, err);
    memset(out, 0, (size_t)s->channels * (size_t)s->height * (size_t)s->width * sizeof *out);
    return TSR_OK;
}

static tsr_status find_sources(sources *s, const tsr_engine *engine, const tsr_latent *given,
                               const tsr_denoise_call *call, const int shape[4], tsr_error *err) {
    sources found = { .given = given,
                      .start = call->start,
                      .mask = given ? given->noise_mask : NULL,
                      .n = shape[0],
                      .channels = shape[1],
                      .height = call->start ? call->start->height : shape[2],
                      .width = call->start ? call->start->width : shape[3],
                      .scale = engine->checkpoint.variant == TSR_VARIANT_EDIT ? 1.0f : engine->family->latent_scale };
    *s = found;
    if (given && given->shape[1] != shape[1])
        return tsr__fail(err, TSR_BAD_ARGUMENT, "the conditioning's picture has %d channels, the latent %d",
                         given->shape[1], shape[1]);
    return TSR_OK;
}

tsr_status tsr__concat_fill(float *out, size_t stride, const tsr_engine *engine, const tsr_latent *given,
                            const tsr_denoise_call *call, const int shape[4], tsr_error *err) {
    tsr_status status = TSR_OK;
    sources s;
    float *whole = NULL;
    const int extra = tsr__concat_channels(engine);
    TSR_TRY(find_sources(&s, engine, given, call, shape, err));
    size_t width = (size_t)s.width, plane = (size_t)s.height * width;
    TSR_ALLOC(err, whole, (size_t)extra * plane);
    for (int k = 0; k < shape[0]; k++) {
        float *to = out + (size_t)k * stride;
        if (engine->checkpoint.variant == TSR_VARIANT_INPAINT) TSR_TRY(make_inpaint(whole, &s, k, err));
        else TSR_TRY(make_edit(whole, &s, k, err));
        for (int c = 0; c < extra; c++)
            for (int y = 0; y < shape[2]; y++, to += shape[3])
                memcpy(to, whole + (size_t)c * plane + (size_t)(call->start_top + y) * width + (size_t)call->start_left,
                       (size_t)shape[3] * sizeof *to);
    }
done:
    free(whole);
    return status;
}
