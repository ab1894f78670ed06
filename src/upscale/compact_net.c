/* upscale/compact_net.c - SRVGGNetCompact (Real-ESRGAN's small models).
 *
 *   y = pixel_shuffle(conv_last(prelu(conv(... prelu(conv(x))))), s) + nearest(x, s)
 *
 * body.0 conv, body.1 PReLU, body.2 conv, ..., the last conv makes 3 s s channels. */
#include <stdio.h>
#include <stdlib.h>

#include "core/memory.h"
#include "upscale/upscale_priv.h"

enum { MAX_LAYERS = 512 };

typedef struct compact {
    int scale, layers;      /* layers: convolutions, the last one without PReLU */
    tsr__nn_weight **convs; /* [layers] */
    float **slopes;         /* [layers - 1], features values each */
} compact;

static void release(void *net, tsr__nn *nn) {
    compact *self = net;
    if (!self) return;
    for (int i = 0; i < self->layers; i++) {
        if (self->convs) tsr__nn_weight_free(nn, self->convs[i]);
        if (self->slopes) free(self->slopes[i]);
    }
    free((void *)self->convs);
    free((void *)self->slopes);
    free(self);
}

/* The s of 3 s s output channels, or 0. */
static int shuffle_of(int64_t channels) {
    for (int s = 1; s <= 16; s++) {
        if (channels == 3 * (int64_t)s * s) return s;
    }
    return 0;
}

static tsr_status load_layers(compact *self, tsr__upscale_loader *loader, int features, tsr_error *err) {
    tsr_status status = TSR_OK;
    char name[48];
    for (int i = 0; i < self->layers; i++) {
        const int last = i + 1 == self->layers;
        (void)snprintf(name, sizeof name, "body.%d", 2 * i);
        TSR_TRY(tsr__upscale_load_conv(loader, &self->convs[i], name, last ? 3 * self->scale * self->scale : features,
                                       i ? features : 3, 1.0f, err));
        if (last) break;
        (void)snprintf(name, sizeof name, "body.%d.weight", 2 * i + 1);
        TSR_TRY(tsr__upscale_load_vector(loader, &self->slopes[i], name, features, err));
    }
done:
    return status;
}

tsr_status tsr__compact_open(void **net, int *scale, char name[96], tsr__upscale_loader *loader, tsr_error *err) {
    tsr_status status = TSR_OK;
    compact *self = NULL;
    int64_t first[4], last[4];
    char key[48];
    *net = NULL;
    if (!tsr__upscale_has(loader, "body.0.weight") || !tsr__upscale_has(loader, "body.2.weight")) return TSR_OK;
    TSR_ALLOC_ZERO(err, self, 1);
    int layers = 2;
    while (layers < MAX_LAYERS && tsr__upscale_has(loader, "body.%d.weight", 2 * layers)) layers++;
    TSR_ALLOC_ZERO(err, self->convs, layers);
    TSR_ALLOC_ZERO(err, self->slopes, layers);
    self->layers = layers;
    (void)snprintf(key, sizeof key, "body.%d", 2 * (layers - 1));
    TSR_TRY(tsr__upscale_conv_shape(loader, "body.0", first, err));
    TSR_TRY(tsr__upscale_conv_shape(loader, key, last, err));
    self->scale = shuffle_of(last[0]);
    if (!self->scale)
        TSR_FAIL(err, TSR_UNSUPPORTED, "%s: \"%s.weight\" makes %lld channels, which is no RGB picture of any scale",
                 tsr__weights_path(loader->weights), key, (long long)last[0]);
    TSR_TRY(load_layers(self, loader, (int)first[0], err));
    *scale = self->scale;
    (void)snprintf(name, 96, "SRVGGNetCompact %dx, %d features, %d convolutions", self->scale, (int)first[0], layers);
    *net = self;
    self = NULL;
done:
    release(self, loader->nn);
    return status;
}

/* out += each pixel of rgb, s times in both directions. */
static void add_nearest(float *out, const float *rgb, int h, int w, int s) {
    const size_t width = (size_t)w * (size_t)s;
    for (int y = 0; y < h * s; y++) {
        const float *row = rgb + (size_t)(y / s) * (size_t)w * 3;
        float *to = out + (size_t)y * width * 3;
        for (size_t x = 0; x < width; x++) {
            for (size_t c = 0; c < 3; c++) to[x * 3 + c] += row[x / (size_t)s * 3 + c];
        }
    }
}

static tsr_status forward(void *net, tsr__nn *nn, float *out, const float *rgb, int h, int w, tsr_error *err) {
    tsr_status status = TSR_OK;
    const compact *self = net;
    tsr__tensor x = { 0 }, y = { 0 };
    float *coarse = NULL;
    TSR_TRY(tsr__nn_from_rows(nn, &x, rgb, 1, h * w, 3, err));
    x.h = h;
    x.w = w;
    for (int i = 0; i < self->layers; i++) {
        TSR_TRY(tsr__nn_conv2d(nn, &y, &x, self->convs[i], NULL, NULL, err));
        tsr__nn_release(nn, &x);
        x = y;
        y = (tsr__tensor){ 0 };
        if (i + 1 < self->layers) tsr__upscale_prelu(nn, &x, self->slopes[i]);
    }
    TSR_ALLOC(err, coarse, (size_t)h * (size_t)w * (size_t)x.c);
    TSR_TRY(tsr__nn_to_rows(nn, coarse, &x, err));
    tsr__upscale_shuffle(out, coarse, h, w, self->scale);
    add_nearest(out, rgb, h, w, self->scale);
done:
    tsr__nn_release(nn, &x);
    tsr__nn_release(nn, &y);
    free(coarse);
    return status;
}

const tsr__upscale_net tsr__compact_net = { forward, release };
