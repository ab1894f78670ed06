/* upscale/rrdb_net.c - RRDBNet, the network of ESRGAN, BSRGAN and Real-ESRGAN.
 *
 *   f = conv_first(x);  f = f + conv_body(blocks(f));  for each doubling: f = lrelu(conv_up(nearest2x(f)))
 *   y = conv_last(lrelu(conv_hr(f)))
 *   block:  b = 0.2 dense3(dense2(dense1(x))) + x
 *   dense:  x1 = lrelu(conv1(x)), x2 = lrelu(conv2(x, x1)), ... 0.2 conv5(x, x1, x2, x3, x4) + x
 *
 * lrelu(v) = max(v, 0.2 v). Models of scale 2 and 1 first fold 2x2 or 4x4 pixels into channels. Three ways of naming the
 * layers exist; see NAMES. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "upscale/upscale_priv.h"

enum { DENSES = 3, CONVS = 5, MAX_BLOCKS = 512, MAX_UPS = 5, FOLDED_MULTIPLE = 4 };

typedef struct rrdb {
    int scale, fold, features, growth, blocks, ups; /* fold: 1, 2 or 4 pixels a side into channels */
    tsr__nn_weight *first, *body, *up[MAX_UPS], *hr, *last;
    tsr__nn_weight *(*dense)[DENSES][CONVS]; /* [blocks]; conv5 holds the factor 0.2 */
} rrdb;

typedef struct rrdb_name {
    char text[64];
} rrdb_name;

/* BLOCK n, dense d, conv c: block[0] n block[1] d ".conv" c block[2]. numbered: the layers outside the blocks are
 * model.N of one sequence; then the names are not used. */
static const struct rrdb_names {
    const char *block[3];
    const char *first, *body, *up, *hr, *last;
    int numbered;
} NAMES[] = {
    { { "body.", ".rdb", "" }, "conv_first", "conv_body", "conv_up", "conv_hr", "conv_last", 0 },
    { { "RRDB_trunk.", ".RDB", "" }, "conv_first", "trunk_conv", "upconv", "HRconv", "conv_last", 0 },
    { { "model.1.sub.", ".RDB", ".0" }, NULL, NULL, NULL, NULL, NULL, 1 },
};

static rrdb_name block_name(const struct rrdb_names *names, int block, int dense, int conv) {
    rrdb_name name;
    (void)snprintf(name.text, sizeof name.text, "%s%d%s%d.conv%d%s", names->block[0], block, names->block[1], dense + 1,
                   conv + 1, names->block[2]);
    return name;
}

/* A layer outside the blocks: its name, or model.PLACE; number is added to a plain name unless negative. */
static rrdb_name layer_name(const struct rrdb_names *names, const char *plain, int number, int place) {
    rrdb_name name;
    if (names->numbered) (void)snprintf(name.text, sizeof name.text, "model.%d", place);
    else if (number >= 0) (void)snprintf(name.text, sizeof name.text, "%s%d", plain, number);
    else (void)snprintf(name.text, sizeof name.text, "%s", plain);
    return name;
}

/* In the sequence model.N an enlarging step is (upsample, conv, lrelu), so its conv stands at 3, 6, 9... */
static rrdb_name up_name(const struct rrdb_names *names, int up) {
    return layer_name(names, names->up, up + 1, 3 * (up + 1));
}

static rrdb_name body_name(const struct rrdb_names *names, int blocks) {
    rrdb_name name = layer_name(names, names->body, -1, 0);
    if (names->numbered) (void)snprintf(name.text, sizeof name.text, "model.1.sub.%d", blocks);
    return name;
}

static void release(void *net, tsr__nn *nn) {
    rrdb *self = net;
    if (!self) return;
    for (int i = 0; self->dense && i < self->blocks * DENSES * CONVS; i++)
        tsr__nn_weight_free(nn, self->dense[i / (DENSES * CONVS)][i / CONVS % DENSES][i % CONVS]);
    for (int i = 0; i < MAX_UPS; i++) tsr__nn_weight_free(nn, self->up[i]);
    tsr__nn_weight_free(nn, self->first);
    tsr__nn_weight_free(nn, self->body);
    tsr__nn_weight_free(nn, self->hr);
    tsr__nn_weight_free(nn, self->last);
    free((void *)self->dense);
    free(self);
}

/* --- loading --- */

static const struct rrdb_names *detect_names(const tsr__upscale_loader *loader) {
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        if (tsr__upscale_has(loader, "%s.weight", block_name(&NAMES[i], 0, 0, 0).text)) return &NAMES[i];
    }
    return NULL;
}

/* Widths, depth and scale from the shapes of two layers and from which names exist. */
static tsr_status measure(rrdb *self, const struct rrdb_names *names, const tsr__upscale_loader *loader,
                          tsr_error *err) {
    tsr_status status = TSR_OK;
    const char *path = tsr__weights_path(loader->weights);
    int64_t first[4], inner[4];
    TSR_TRY(tsr__upscale_conv_shape(loader, layer_name(names, names->first, -1, 0).text, first, err));
    TSR_TRY(tsr__upscale_conv_shape(loader, block_name(names, 0, 0, 0).text, inner, err));
    self->features = (int)first[0];
    self->growth = (int)inner[0];
    while (self->blocks < MAX_BLOCKS &&
           tsr__upscale_has(loader, "%s.weight", block_name(names, self->blocks, 0, 0).text))
        self->blocks++;
    int ups = 0;
    while (ups < MAX_UPS && tsr__upscale_has(loader, "%s.weight", up_name(names, ups).text)) ups++;
    self->ups = ups;
    self->fold = first[1] == 3 ? 1 : first[1] == 12 ? 2 : first[1] == 48 ? 4 : 0;
    if (!self->fold)
        TSR_FAIL(err, TSR_UNSUPPORTED, "%s: takes %lld channels; 3 (RGB), 12 or 48 (folded RGB) can be read", path,
                 (long long)first[1]);
    if ((1 << ups) % self->fold)
        TSR_FAIL(err, TSR_UNSUPPORTED, "%s: makes pictures smaller (%d doublings after folding %dx%d pixels)", path,
                 ups, self->fold, self->fold);
    self->scale = (1 << ups) / self->fold;
done:
    return status;
}

static tsr_status load_blocks(rrdb *self, const struct rrdb_names *names, tsr__upscale_loader *loader, tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_ALLOC_ZERO(err, self->dense, self->blocks);
    for (int i = 0; i < self->blocks * DENSES * CONVS; i++) {
        const int block = i / (DENSES * CONVS), dense = i / CONVS % DENSES, conv = i % CONVS;
        const int last = conv == CONVS - 1;
        TSR_TRY(tsr__upscale_load_conv(loader, &self->dense[block][dense][conv],
                                       block_name(names, block, dense, conv).text, last ? self->features : self->growth,
                                       self->features + conv * self->growth, last ? 0.2f : 1.0f, err));
    }
done:
    return status;
}

static tsr_status load_rest(rrdb *self, const struct rrdb_names *names, tsr__upscale_loader *loader, tsr_error *err) {
    tsr_status status = TSR_OK;
    const int f = self->features, ups = self->ups;
    TSR_TRY(tsr__upscale_load_conv(loader, &self->first, layer_name(names, names->first, -1, 0).text, f,
                                   3 * self->fold * self->fold, 1.0f, err));
    TSR_TRY(tsr__upscale_load_conv(loader, &self->body, body_name(names, self->blocks).text, f, f, 1.0f, err));
    for (int i = 0; i < ups; i++)
        TSR_TRY(tsr__upscale_load_conv(loader, &self->up[i], up_name(names, i).text, f, f, 1.0f, err));
    TSR_TRY(
        tsr__upscale_load_conv(loader, &self->hr, layer_name(names, names->hr, -1, 3 * ups + 2).text, f, f, 1.0f, err));
    TSR_TRY(tsr__upscale_load_conv(loader, &self->last, layer_name(names, names->last, -1, 3 * ups + 4).text, 3, f,
                                   1.0f, err));
done:
    return status;
}

tsr_status tsr__rrdb_open(void **net, int *scale, char name[96], tsr__upscale_loader *loader, tsr_error *err) {
    tsr_status status = TSR_OK;
    rrdb *self = NULL;
    *net = NULL;
    const struct rrdb_names *names = detect_names(loader);
    if (!names) return TSR_OK;
    TSR_ALLOC_ZERO(err, self, 1);
    TSR_TRY(measure(self, names, loader, err));
    TSR_TRY(load_blocks(self, names, loader, err));
    TSR_TRY(load_rest(self, names, loader, err));
    *scale = self->scale;
    (void)snprintf(name, 96, "RRDBNet %dx, %d features, %d blocks", self->scale, self->features, self->blocks);
    *net = self;
    self = NULL;
done:
    release(self, loader->nn);
    return status;
}

/* --- running --- */

/* Replaces *x by *y. */
static void move(tsr__nn *nn, tsr__tensor *x, tsr__tensor *y) {
    tsr__nn_release(nn, x);
    *x = *y;
    memset(y, 0, sizeof *y);
}

/* *out = 0.2 conv5(everything before) + x; the 0.2 lies in the weight. */
static tsr_status run_dense(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x, tsr__nn_weight *const convs[CONVS],
                            tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__tensor grown = { 0 }, all = { 0 }, wider = { 0 };
    memset(out, 0, sizeof *out);
    for (int i = 0; i < CONVS - 1; i++) {
        const tsr__tensor *from = i ? &all : x;
        TSR_TRY(tsr__nn_conv2d(nn, &grown, from, convs[i], NULL, NULL, err));
        tsr__upscale_leaky_relu(nn, &grown);
        TSR_TRY(tsr__nn_concat(nn, &wider, from, &grown, err));
        tsr__nn_release(nn, &grown);
        move(nn, &all, &wider);
    }
    TSR_TRY(tsr__nn_conv2d(nn, out, &all, convs[CONVS - 1], NULL, x, err));
done:
    tsr__nn_release(nn, &grown);
    tsr__nn_release(nn, &all);
    tsr__nn_release(nn, &wider);
    return status;
}

/* *out = 0.2 * three dense parts of x, + x. */
static tsr_status run_block(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x,
                            tsr__nn_weight *const block[DENSES][CONVS], tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__tensor at = { 0 }, next = { 0 };
    memset(out, 0, sizeof *out);
    for (int i = 0; i < DENSES; i++) {
        TSR_TRY(run_dense(nn, &next, i ? &at : x, block[i], err));
        move(nn, &at, &next);
    }
    tsr__upscale_scale_add(nn, &at, x);
    move(nn, out, &at);
done:
    tsr__nn_release(nn, &at);
    tsr__nn_release(nn, &next);
    return status;
}

/* *x: the input; becomes the picture, [1, h << ups, w << ups, 3]. */
static tsr_status run_net(const rrdb *self, tsr__nn *nn, tsr__tensor *x, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__tensor base = { 0 }, at = { 0 }, next = { 0 };
    TSR_TRY(tsr__nn_conv2d(nn, &base, x, self->first, NULL, NULL, err));
    for (int i = 0; i < self->blocks; i++) {
        TSR_TRY(run_block(nn, &next, i ? &at : &base, self->dense[i], err));
        move(nn, &at, &next);
    }
    TSR_TRY(tsr__nn_conv2d(nn, &next, &at, self->body, NULL, &base, err));
    tsr__nn_release(nn, &base);
    move(nn, &at, &next);
    for (int i = 0; i < self->ups; i++) {
        TSR_TRY(tsr__nn_upsample2x(nn, &next, &at, err));
        move(nn, &at, &next);
        TSR_TRY(tsr__nn_conv2d(nn, &next, &at, self->up[i], NULL, NULL, err));
        move(nn, &at, &next);
        tsr__upscale_leaky_relu(nn, &at);
    }
    TSR_TRY(tsr__nn_conv2d(nn, &next, &at, self->hr, NULL, NULL, err));
    move(nn, &at, &next);
    tsr__upscale_leaky_relu(nn, &at);
    TSR_TRY(tsr__nn_conv2d(nn, &next, &at, self->last, NULL, NULL, err));
    move(nn, x, &next);
done:
    tsr__nn_release(nn, &base);
    tsr__nn_release(nn, &at);
    tsr__nn_release(nn, &next);
    return status;
}

/* Index into 0..size-1 mirrored at both ends without repeating them ("reflect"). */
static int mirror(int at, int size) {
    const int period = 2 * (size - 1);
    if (period == 0) return 0;
    at %= period;
    return at < size ? at : period - at;
}

/* The picture grown to ph x pw at its right and bottom by mirroring, then folded. */
static tsr_status fold_input(float **out, const rrdb *self, const float *rgb, int h, int w, int ph, int pw,
                             tsr_error *err) {
    tsr_status status = TSR_OK;
    float *padded = NULL, *folded = NULL;
    const size_t count = (size_t)ph * (size_t)pw * 3;
    *out = NULL;
    TSR_ALLOC(err, padded, count);
    for (int y = 0; y < ph; y++) {
        const float *row = rgb + (size_t)mirror(y, h) * (size_t)w * 3;
        for (int x = 0; x < pw; x++)
            memcpy(padded + ((size_t)y * (size_t)pw + (size_t)x) * 3, row + (size_t)mirror(x, w) * 3,
                   3 * sizeof(float));
    }
    TSR_ALLOC(err, folded, count);
    tsr__upscale_unshuffle(folded, padded, ph, pw, self->fold);
    *out = folded;
    folded = NULL;
done:
    free(padded);
    free(folded);
    return status;
}

static tsr_status forward(void *net, tsr__nn *nn, float *out, const float *rgb, int h, int w, tsr_error *err) {
    tsr_status status = TSR_OK;
    const rrdb *self = net;
    const int multiple = self->fold > 1 ? FOLDED_MULTIPLE : 1, fold = self->fold;
    const int ph = (h + multiple - 1) / multiple * multiple, pw = (w + multiple - 1) / multiple * multiple;
    float *folded = NULL, *whole = NULL;
    tsr__tensor x = { 0 };
    if (fold > 1) TSR_TRY(fold_input(&folded, self, rgb, h, w, ph, pw, err));
    TSR_TRY(tsr__nn_from_rows(nn, &x, folded ? folded : rgb, 1, ph / fold * (pw / fold), 3 * fold * fold, err));
    x.h = ph / fold;
    x.w = pw / fold;
    TSR_TRY(run_net(self, nn, &x, err));
    if (ph == h && pw == w) {
        TSR_TRY(tsr__nn_to_rows(nn, out, &x, err));
        goto done;
    }
    const size_t row = (size_t)w * (size_t)self->scale * 3, wide = (size_t)pw * (size_t)self->scale * 3;
    TSR_ALLOC(err, whole, (size_t)ph * (size_t)self->scale * wide);
    TSR_TRY(tsr__nn_to_rows(nn, whole, &x, err));
    for (int y = 0; y < h * self->scale; y++)
        memcpy(out + (size_t)y * row, whole + (size_t)y * wide, row * sizeof(float));
done:
    tsr__nn_release(nn, &x);
    free(folded);
    free(whole);
    return status;
}

const tsr__upscale_net tsr__rrdb_net = { forward, release };
