/* upscale/upscale_model.c - opening an upscale model of either kind, and running it over a picture in tiles. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "upscale/upscale_priv.h"
#include "weights/checkpoint_kind.h"

enum {
    MAX_SIDE = 1 << 16, /* of the result */
    MAX_TILE = 4096,    /* what goes through the network at once */
};

struct tsr__upscale_model {
    tsr__nn *nn;
    const tsr__upscale_net *kind;
    void *net;
    int scale;
    char name[96];
};

/* --- opening --- */

static tsr_status refuse_kind(const tsr__weights *weights, tsr_error *err) {
    tsr__checkpoint_info info;
    tsr__checkpoint_describe(&info, weights);
    return tsr__fail(err, TSR_UNSUPPORTED,
                     "%s: this is %s; an ESRGAN or RealESRGAN (RRDBNet) or compact (SRVGGNetCompact) upscale model is "
                     "needed",
                     tsr__weights_path(weights),
                     info.kind == TSR_CHECKPOINT_UPSCALER ? "another kind of upscaler"
                                                          : tsr__checkpoint_kind_name(info.kind));
}

/* A tensor nobody asked for means a network that is like one of the two, but is not. */
static tsr_status check_all_taken(const tsr__upscale_loader *loader, const char *name, tsr_error *err) {
    for (size_t i = 0; i < tsr__weights_count(loader->weights); i++) {
        if (!loader->taken[i])
            return tsr__fail(err, TSR_UNSUPPORTED, "%s: looks like %s, which has no \"%s\"",
                             tsr__weights_path(loader->weights), name, tsr__weights_at(loader->weights, i)->name);
    }
    return TSR_OK;
}

tsr_status tsr__upscale_model_open(tsr__upscale_model **out, tsr__nn *nn, const tsr__weights *weights, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__upscale_model *model = NULL;
    tsr__upscale_loader loader = { nn, weights, NULL };
    *out = NULL;
    TSR_ALLOC_ZERO(err, loader.taken, tsr__weights_count(weights) + 1);
    TSR_ALLOC_ZERO(err, model, 1);
    model->nn = nn;
    model->kind = &tsr__rrdb_net;
    TSR_TRY(tsr__rrdb_open(&model->net, &model->scale, model->name, &loader, err));
    if (!model->net) {
        model->kind = &tsr__compact_net;
        TSR_TRY(tsr__compact_open(&model->net, &model->scale, model->name, &loader, err));
    }
    if (!model->net) TSR_TRY(refuse_kind(weights, err));
    TSR_TRY(check_all_taken(&loader, model->name, err));
    *out = model;
    model = NULL;
done:
    tsr__upscale_model_free(model);
    free(loader.taken);
    return status;
}

void tsr__upscale_model_free(tsr__upscale_model *model) {
    if (!model) return;
    model->kind->release(model->net, model->nn);
    free(model);
}

int tsr__upscale_model_scale(const tsr__upscale_model *model) {
    return model->scale;
}

const char *tsr__upscale_model_name(const tsr__upscale_model *model) {
    return model->name;
}

static tsr_status check_size(const tsr__upscale_model *model, int h, int w, tsr_error *err) {
    if (h < 1 || w < 1) return tsr__fail(err, TSR_BAD_ARGUMENT, "upscaling a picture of %d x %d pixels", w, h);
    if (h > MAX_SIDE / model->scale || w > MAX_SIDE / model->scale)
        return tsr__fail(err, TSR_TOO_LARGE, "upscaling %d x %d pixels %d times: a side would be over %d", w, h,
                         model->scale, MAX_SIDE);
    return TSR_OK;
}

tsr_status tsr__upscale_model_forward(tsr__upscale_model *model, float *out, const float *rgb, int h, int w,
                                      tsr_error *err) {
    if (h < 1 || w < 1 || h > MAX_TILE || w > MAX_TILE)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "upscaling a picture of %d x %d pixels at once; 1 to %d can be", w, h,
                         MAX_TILE);
    return model->kind->forward(model->net, model->nn, out, rgb, h, w, err);
}

/* --- tiles: ComfyUI's tiled_scale --- */

/* Along one axis: how many tiles, and where one begins. */
static int tile_count(int size, int tile, int overlap) {
    if (size <= tile) return 1;
    const int step = tile - overlap;
    return (size - overlap + step - 1) / step;
}

static int tile_begin(int index, int tile, int overlap) {
    return index * (tile - overlap);
}

/* Weights of a tile's `count` result pixels along one axis: a ramp over the first and the last `ramp` of them, also where
 * the tile ends at the picture's edge (there it cancels: nothing else adds to these pixels). No ramp if it would not fit. */
static void make_ramp(float *out, int count, int ramp) {
    for (int i = 0; i < count; i++) out[i] = 1.0f;
    if (ramp >= count) return;
    for (int i = 0; i < ramp; i++) {
        const float a = (float)((double)(i + 1) / ramp);
        out[i] *= a;
        out[count - 1 - i] *= a;
    }
}

typedef struct canvas {
    float *sum;     /* [h, w, 3] of the result */
    float *divisor; /* [h, w] */
    float *tile_in, *tile_out;
    float *ramp_y, *ramp_x;
    int h, w; /* of the input */
} canvas;

static float clamp01(float value) {
    return value < 0 ? 0 : value > 1 ? 1 : value;
}

/* Adds the tile's result, clamped and weighted; y, x, th, tw in input pixels. */
static void add_tile(canvas *c, int s, int y, int x, int th, int tw) {
    for (int row = 0; row < th * s; row++) {
        const size_t to = ((size_t)(y * s + row) * (size_t)c->w * (size_t)s) + (size_t)(x * s);
        const float *from = c->tile_out + (size_t)row * (size_t)tw * (size_t)s * 3;
        for (int column = 0; column < tw * s; column++) {
            const float weight = c->ramp_y[row] * c->ramp_x[column];
            float *sum = c->sum + (to + (size_t)column) * 3;
            for (int channel = 0; channel < 3; channel++) sum[channel] += clamp01(from[column * 3 + channel]) * weight;
            c->divisor[to + (size_t)column] += weight;
        }
    }
}

static tsr_status run_tile(tsr__upscale_model *model, canvas *c, const float *rgb, int y, int x, int tile, int overlap,
                           tsr_error *err) {
    tsr_status status = TSR_OK;
    const int th = c->h - y < tile ? c->h - y : tile, tw = c->w - x < tile ? c->w - x : tile, s = model->scale;
    for (int row = 0; row < th; row++)
        memcpy(c->tile_in + (size_t)row * (size_t)tw * 3, rgb + ((size_t)(y + row) * (size_t)c->w + (size_t)x) * 3,
               (size_t)tw * 3 * sizeof(float));
    TSR_TRY(model->kind->forward(model->net, model->nn, c->tile_out, c->tile_in, th, tw, err));
    make_ramp(c->ramp_y, th * s, overlap * s);
    make_ramp(c->ramp_x, tw * s, overlap * s);
    add_tile(c, s, y, x, th, tw);
done:
    return status;
}

static tsr_status new_canvas(canvas *c, int h, int w, int tile, int scale, tsr_error *err) {
    tsr_status status = TSR_OK;
    const size_t s = (size_t)scale, pixels = (size_t)h * (size_t)w * s * s;
    const size_t th = (size_t)(h < tile ? h : tile), tw = (size_t)(w < tile ? w : tile);
    c->h = h;
    c->w = w;
    TSR_ALLOC_ZERO(err, c->sum, pixels * 3);
    TSR_ALLOC_ZERO(err, c->divisor, pixels);
    TSR_ALLOC(err, c->tile_in, th * tw * 3);
    TSR_ALLOC(err, c->tile_out, th * tw * s * s * 3);
    TSR_ALLOC(err, c->ramp_y, th * s);
    TSR_ALLOC(err, c->ramp_x, tw * s);
done:
    return status;
}

static void clear_canvas(canvas *c) {
    free(c->sum);
    free(c->divisor);
    free(c->tile_in);
    free(c->tile_out);
    free(c->ramp_y);
    free(c->ramp_x);
}

typedef struct report {
    tsr__upscale_progress_fn progress;
    void *user;
    int done, all;
} report;

static tsr_status tell(report *r, tsr_error *err) {
    r->done++;
    if (r->progress && r->progress(r->user, r->done, r->all))
        return tsr__fail(err, TSR_CANCELLED, "upscaling was stopped after %d of %d tiles", r->done, r->all);
    return TSR_OK;
}

static tsr_status run_tiled(tsr__upscale_model *model, float *out, const float *rgb, int h, int w, int tile,
                            int overlap, report *r, tsr_error *err) {
    tsr_status status = TSR_OK;
    canvas c = { 0 };
    const int rows = tile_count(h, tile, overlap), columns = tile_count(w, tile, overlap);
    TSR_TRY(new_canvas(&c, h, w, tile, model->scale, err));
    for (int i = 0; i < rows * columns; i++) {
        TSR_TRY(run_tile(model, &c, rgb, tile_begin(i / columns, tile, overlap), tile_begin(i % columns, tile, overlap),
                         tile, overlap, err));
        TSR_TRY(tell(r, err));
    }
    const size_t pixels = (size_t)h * (size_t)w * (size_t)model->scale * (size_t)model->scale;
    for (size_t i = 0; i < pixels; i++) {
        for (size_t channel = 0; channel < 3; channel++)
            out[i * 3 + channel] = clamp01(c.sum[i * 3 + channel] / c.divisor[i]);
    }
done:
    clear_canvas(&c);
    return status;
}

tsr_status tsr__upscale_model_run(tsr__upscale_model *model, float *out, const float *rgb, int n, int h, int w,
                                  int tile, int overlap, tsr__upscale_progress_fn progress, void *user,
                                  tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_TRY(check_size(model, h, w, err));
    if (n < 1 || tile < 1 || tile > MAX_TILE || overlap < 0 || overlap >= tile)
        TSR_FAIL(err, TSR_BAD_ARGUMENT,
                 "upscaling %d pictures in tiles of %d pixels that share %d: tiles are 1 to %d, the shared part less",
                 n, tile, overlap, MAX_TILE);
    const int whole = h <= tile && w <= tile;
    const size_t in_size = (size_t)h * (size_t)w * 3;
    const size_t out_size = in_size * (size_t)model->scale * (size_t)model->scale;
    report r = { progress, user, 0, n };
    if (!whole) r.all *= tile_count(h, tile, overlap) * tile_count(w, tile, overlap);
    for (int i = 0; i < n; i++) {
        float *to = out + (size_t)i * out_size;
        const float *from = rgb + (size_t)i * in_size;
        if (!whole) {
            TSR_TRY(run_tiled(model, to, from, h, w, tile, overlap, &r, err));
            continue;
        }
        TSR_TRY(model->kind->forward(model->net, model->nn, to, from, h, w, err));
        for (size_t k = 0; k < out_size; k++) to[k] = clamp01(to[k]);
        TSR_TRY(tell(&r, err));
    }
done:
    return status;
}
