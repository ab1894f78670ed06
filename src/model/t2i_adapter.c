/* model/t2i_adapter.c - T2I-Adapter: unshuffled pixels and residual blocks, level by level. A full one has a convolution first
 * and two blocks a level, a light one narrows every level for its four blocks and widens it again.
 *
 * After Mou et al.: T2I-Adapter (2023). It depends on the picture alone, so it runs once a picture; what no network
 * operation covers (ReLU, means of four) is done on plain floats. */
#include "model/t2i_adapter.h"

#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "core/memory.h"
#include "model/layers.h"
#include "model/unet_priv.h"

enum { MAX_BLOCKS = 64, MAX_LEVELS = 8, BLOCKS_A_LEVEL = 2, WIDE_SHUFFLE = 16, SHUFFLE = 8 };

/* [halve] [in] x + second(relu(first(x))) [out] */
typedef struct block {
    int halves, ends_level;
    tsr__nn_weight *down;                             /* halves: by this convolution; NULL: by means */
    tsr__nn_weight *in, *first, *second, *skip, *out; /* in, skip, out: NULL when absent */
} block;

struct tsr__t2i_adapter {
    tsr__nn *nn;
    tsr__nn_weight *conv_in; /* NULL: a light one */
    int shuffle, planes;     /* pixels a side in one cell; colour planes taken: 1 or 3 */
    int wide;                /* SDXL's */
    int first_channels;      /* of what the first level gives */
    block blocks[MAX_BLOCKS];
    int count, levels;
};

static const char LAYOUT[] = "a T2I-Adapter";

/* --- loading -------------------------------------------------------------------------------------------------------- */
static const char *prefix_of(const tsr__weights *weights, int *is_light) {
    static const char *const prefixes[] = { "", "adapter." };
    for (int i = 0; i < 4; i++) {
        *is_light = i > 1;
        if (tsr__weights_find(
                weights, tsr__name_of("%sbody.0.%sblock1.weight", prefixes[i % 2], *is_light ? "body.0." : "").text))
            return prefixes[i % 2];
    }
    return NULL;
}

int tsr__t2i_adapter_is(const tsr__weights *weights) {
    int is_light;
    return prefix_of(weights, &is_light) != NULL;
}

/* A convolution of any odd side that keeps the size; *channels is what it takes, then what it gives. */
static tsr_status load_conv(tsr__loader *loader, tsr__nn_weight **out, int *channels, const char *name, int stride,
                            tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__tensor_view *view = NULL;
    TSR_TRY(tsr__load_need(loader, &view, tsr__name_of("%s.weight", name).text, 4, err));
    int k = (int)view->shape[2], pad = k / 2;
    TSR_TRY(tsr__load_conv(loader, out, (int)view->shape[0], *channels, k, stride, pad, pad, name, err));
    *channels = (int)view->shape[0];
done:
    return status;
}

/* The same where the file has it. */
static tsr_status load_optional(tsr__loader *loader, tsr__nn_weight **out, int *channels, const char *at,
                                const char *layer, int stride, tsr_error *err) {
    tsr__name name = tsr__name_of("%s.%s", at, layer);
    if (!tsr__load_has(loader, "%s.weight", name.text)) return TSR_OK;
    return load_conv(loader, out, channels, name.text, stride, err);
}

/* The residual part of the next block. */
static tsr_status load_block(tsr__t2i_adapter *adapter, tsr__loader *loader, const char *name, int *channels,
                             tsr_error *err) {
    tsr_status status = TSR_OK;
    block *b = &adapter->blocks[adapter->count - 1];
    int middle = *channels, skipped = *channels;
    TSR_TRY(load_conv(loader, &b->first, &middle, tsr__name_of("%s.block1", name).text, 1, err));
    TSR_TRY(load_conv(loader, &b->second, &middle, tsr__name_of("%s.block2", name).text, 1, err));
    TSR_TRY(load_optional(loader, &b->skip, &skipped, name, "skep", 1, err));
    if (middle != skipped)
        TSR_FAIL(err, TSR_UNSUPPORTED, "%s adds %d channels to %d: not %s", name, middle, skipped, LAYOUT);
    *channels = middle;
done:
    return status;
}

static tsr_status next_block(block **out, tsr__t2i_adapter *adapter, tsr_error *err) {
    if (adapter->count == MAX_BLOCKS || adapter->levels == MAX_LEVELS)
        return tsr__fail(err, TSR_UNSUPPORTED, "more than %d blocks or %d levels: not %s", MAX_BLOCKS, MAX_LEVELS,
                         LAYOUT);
    *out = &adapter->blocks[adapter->count++];
    return TSR_OK;
}

static void end_level(tsr__t2i_adapter *adapter, int channels) {
    adapter->blocks[adapter->count - 1].ends_level = 1;
    if (adapter->levels++ == 0) adapter->first_channels = channels;
}

/* Level 1 of SDXL's adapter keeps the size, and so does its last. */
static int halves_at(const tsr__t2i_adapter *adapter, int index) {
    if (index == 0 || index % BLOCKS_A_LEVEL) return 0;
    return adapter->wide ? index / BLOCKS_A_LEVEL == 2 : 1;
}

static tsr_status load_full(tsr__t2i_adapter *adapter, tsr__loader *loader, int channels, tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_TRY(load_conv(loader, &adapter->conv_in, &channels, "conv_in", 1, err));
    for (int i = 0; tsr__load_has(loader, "body.%d.block1.weight", i); i++) {
        block *b = NULL;
        tsr__name name = tsr__name_of("body.%d", i);
        TSR_TRY(next_block(&b, adapter, err));
        b->halves = halves_at(adapter, i);
        if (b->halves) TSR_TRY(load_optional(loader, &b->down, &channels, name.text, "down_opt.op", 2, err));
        TSR_TRY(load_optional(loader, &b->in, &channels, name.text, "in_conv", 1, err));
        TSR_TRY(load_block(adapter, loader, name.text, &channels, err));
        if (i % BLOCKS_A_LEVEL == BLOCKS_A_LEVEL - 1) end_level(adapter, channels);
    }
    if (adapter->count % BLOCKS_A_LEVEL || (adapter->wide && adapter->levels != 4))
        TSR_FAIL(err, TSR_UNSUPPORTED, "%d blocks: not %s", adapter->count, LAYOUT);
done:
    return status;
}

static tsr_status load_light(tsr__t2i_adapter *adapter, tsr__loader *loader, int channels, tsr_error *err) {
    tsr_status status = TSR_OK;
    for (int level = 0; tsr__load_has(loader, "body.%d.body.0.block1.weight", level); level++) {
        tsr__name name = tsr__name_of("body.%d", level);
        block *b = NULL;
        for (int i = 0; tsr__load_has(loader, "%s.body.%d.block1.weight", name.text, i); i++) {
            TSR_TRY(next_block(&b, adapter, err));
            b->halves = i == 0 && level > 0;
            if (i == 0)
                TSR_TRY(load_conv(loader, &b->in, &channels, tsr__name_of("%s.in_conv", name.text).text, 1, err));
            TSR_TRY(load_block(adapter, loader, tsr__name_of("%s.body.%d", name.text, i).text, &channels, err));
        }
        TSR_TRY(load_conv(loader, &b->out, &channels, tsr__name_of("%s.out_conv", name.text).text, 1, err));
        end_level(adapter, channels);
    }
done:
    return status;
}

tsr_status tsr__t2i_adapter_new(tsr__t2i_adapter **out, tsr__nn *nn, const tsr__weights *weights, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__t2i_adapter *adapter = NULL;
    tsr__loader loader;
    int gives = 0, taken = 0, is_light = 0;
    const char *prefix = prefix_of(weights, &is_light), *first = is_light ? "body.0.in_conv" : "conv_in";
    *out = NULL;
    TSR_ALLOC_ZERO(err, adapter, 1);
    adapter->nn = nn;
    TSR_TRY(tsr__loader_init(&loader, nn, weights, prefix, LAYOUT, err));
    TSR_TRY(tsr__load_sides(&loader, &gives, &taken, first, 4, err));
    adapter->wide = !is_light && (taken == WIDE_SHUFFLE * WIDE_SHUFFLE || taken == 3 * WIDE_SHUFFLE * WIDE_SHUFFLE);
    adapter->shuffle = adapter->wide ? WIDE_SHUFFLE : SHUFFLE;
    adapter->planes = taken / (adapter->shuffle * adapter->shuffle);
    if ((adapter->planes != 1 && adapter->planes != 3) ||
        taken != adapter->planes * adapter->shuffle * adapter->shuffle)
        TSR_FAIL(err, TSR_UNSUPPORTED, "%s takes %d channels: not %s", first, taken, LAYOUT);
    TSR_TRY(is_light ? load_light(adapter, &loader, taken, err) : load_full(adapter, &loader, taken, err));
    *out = adapter;
    adapter = NULL;
done:
    tsr__t2i_adapter_free(adapter);
    return status;
}

void tsr__t2i_adapter_free(tsr__t2i_adapter *adapter) {
    if (!adapter) return;
    tsr__nn_weight_free(adapter->nn, adapter->conv_in);
    for (int i = 0; i < adapter->count; i++) {
        block *b = &adapter->blocks[i];
        tsr__nn_weight *weights[] = { b->down, b->in, b->first, b->second, b->skip, b->out };
        for (size_t w = 0; w < sizeof weights / sizeof *weights; w++) tsr__nn_weight_free(adapter->nn, weights[w]);
    }
    free(adapter);
}

int tsr__t2i_adapter_cells(const tsr__t2i_adapter *adapter) {
    return adapter->shuffle / SHUFFLE;
}

/* --- where its levels go ---------------------------------------------------------------------------------------------- */
/* The input block that a level is added to: the last one of each size in SD1; of SDXL, the last level is the middle's. */
static int place_of(const tsr__t2i_adapter *adapter, int level) {
    static const int wide[4] = { 3, 5, 8, 9 };
    return adapter->wide ? wide[level] : 3 * level + 2;
}

static int places(const tsr__t2i_adapter *adapter) {
    return place_of(adapter, adapter->levels - 1) + (adapter->wide ? 1 : 2);
}

tsr_status tsr__t2i_adapter_fits(const tsr__t2i_adapter *adapter, const tsr__unet *unet, const char *name,
                                 tsr_error *err) {
    if (places(adapter) == unet->inputs + 2 && adapter->first_channels == unet->model_channels &&
        adapter->wide == (unet->label_width > 0))
        return TSR_OK;
    return tsr__fail(err, TSR_UNSUPPORTED,
                     "%s: a T2I-Adapter of %d levels from %d channels; the model has %d input blocks from %d: it is of "
                     "another family",
                     name, adapter->levels, adapter->first_channels, unet->inputs + 1, unet->model_channels);
}

/* --- one run ------------------------------------------------------------------------------------------------------------ */
/* [planes, high, wide] -> [planes side side, ceil(high / side), ceil(wide / side)]; pixels beyond the edge repeat it. */
static tsr_status unshuffle(const tsr__t2i_adapter *adapter, tsr__tensor *out, const float *picture, int high, int wide,
                            tsr_error *err) {
    tsr_status status = TSR_OK;
    int side = adapter->shuffle, h = (high + side - 1) / side, w = (wide + side - 1) / side;
    size_t plane = (size_t)high * (size_t)wide;
    float *cells = NULL, *to;
    TSR_ALLOC(err, cells, (size_t)adapter->planes * (size_t)(side * side) * (size_t)h * (size_t)w);
    to = cells;
    for (int c = 0; c < adapter->planes * side * side; c++) {
        int dy = c % (side * side) / side, dx = c % side;
        const float *from = picture + (size_t)(c / (side * side)) * plane;
        for (int y = 0; y < h; y++)
            for (int x = 0; x < w; x++) {
                int py = y * side + dy < high ? y * side + dy : high - 1,
                    px = x * side + dx < wide ? x * side + dx : wide - 1;
                size_t at = (size_t)py * (size_t)wide + (size_t)px;
                *to++ = adapter->planes == 3 ? from[at] : (from[at] + from[at + plane] + from[at + 2 * plane]) / 3.0f;
            }
    }
    TSR_TRY(tsr__nn_from_nchw(adapter->nn, out, cells, 1, adapter->planes * side * side, h, w, err));
done:
    free(cells);
    return status;
}

static float at_or_0(const float *plane, int h, int w, int y, int x) {
    return y < 0 || x < 0 || y >= h || x >= w ? 0.0f : plane[(size_t)y * (size_t)w + (size_t)x];
}

/* Half the size, rounded up, by means of 2 x 2. As in ComfyUI an odd side begins and ends with a line of zeros, which count. */
static void halve(float *to, const float *plane, int h, int w) {
    for (int y = -(h % 2); y < h; y += 2)
        for (int x = -(w % 2); x < w; x += 2)
            *to++ = 0.25f * ((at_or_0(plane, h, w, y, x) + at_or_0(plane, h, w, y, x + 1)) +
                             (at_or_0(plane, h, w, y + 1, x) + at_or_0(plane, h, w, y + 1, x + 1)));
}

/* Halves *x, or makes it max(x, 0): on floats. */
static tsr_status rework(const tsr__t2i_adapter *adapter, tsr__tensor *x, int halves, tsr_error *err) {
    tsr_status status = TSR_OK;
    float *from = NULL, *to = NULL;
    int h = halves ? (x->h + 1) / 2 : x->h, w = halves ? (x->w + 1) / 2 : x->w, channels = x->c;
    size_t plane = (size_t)x->h * (size_t)x->w, made = (size_t)h * (size_t)w;
    TSR_ALLOC(err, from, plane * (size_t)channels);
    TSR_ALLOC(err, to, made * (size_t)channels);
    TSR_TRY(tsr__nn_to_nchw(adapter->nn, from, x, err));
    for (size_t c = 0; halves && c < (size_t)channels; c++) halve(to + c * made, from + c * plane, x->h, x->w);
    for (size_t i = 0; !halves && i < plane * (size_t)channels; i++) to[i] = from[i] > 0.0f ? from[i] : 0.0f;
    tsr__nn_release(adapter->nn, x);
    TSR_TRY(tsr__nn_from_nchw(adapter->nn, x, to, 1, channels, h, w, err));
done:
    free(from);
    free(to);
    return status;
}

/* *x = conv(*x). */
static tsr_status convolve(const tsr__t2i_adapter *adapter, tsr__tensor *x, const tsr__nn_weight *weight,
                           tsr_error *err) {
    tsr__tensor y = { 0 };
    if (!weight) return TSR_OK;
    tsr_status status = tsr__nn_conv2d(adapter->nn, &y, x, weight, NULL, NULL, err);
    if (status != TSR_OK) return status;
    tsr__nn_release(adapter->nn, x);
    *x = y;
    return TSR_OK;
}

static tsr_status run_block(const tsr__t2i_adapter *adapter, tsr__tensor *x, const block *b, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__tensor hidden = { 0 }, sum = { 0 };
    if (b->halves && !b->down) TSR_TRY(rework(adapter, x, 1, err));
    TSR_TRY(convolve(adapter, x, b->down, err));
    TSR_TRY(convolve(adapter, x, b->in, err));
    TSR_TRY(tsr__nn_conv2d(adapter->nn, &hidden, x, b->first, NULL, NULL, err));
    TSR_TRY(rework(adapter, &hidden, 0, err));
    TSR_TRY(convolve(adapter, x, b->skip, err));
    TSR_TRY(tsr__nn_conv2d(adapter->nn, &sum, &hidden, b->second, NULL, x, err));
    tsr__nn_release(adapter->nn, x);
    *x = sum;
    memset(&sum, 0, sizeof sum);
    TSR_TRY(convolve(adapter, x, b->out, err));
done:
    tsr__nn_release(adapter->nn, &hidden);
    tsr__nn_release(adapter->nn, &sum);
    return status;
}

tsr_status tsr__t2i_adapter_run(tsr__t2i_adapter *adapter, tsr__tensor **out, int *count, const float *picture, int h,
                                int w, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__tensor x = { 0 }, next = { 0 }, *tensors = NULL;
    int made = places(adapter), level = 0;
    *out = NULL;
    *count = 0;
    TSR_ALLOC_ZERO(err, tensors, made);
    TSR_TRY(unshuffle(adapter, &x, picture, 8 * h, 8 * w, err));
    TSR_TRY(convolve(adapter, &x, adapter->conv_in, err));
    for (int i = 0; i < adapter->count; i++) {
        TSR_TRY(run_block(adapter, &x, &adapter->blocks[i], err));
        if (!adapter->blocks[i].ends_level) continue;
        TSR_TRY(tsr__nn_tensor(adapter->nn, &next, 1, x.h, x.w, x.c, err));
        memcpy(next.data, x.data, (size_t)x.h * (size_t)x.w * (size_t)x.c * (x.dtype == TSR__BF16 ? 2 : 4));
        tensors[place_of(adapter, level++)] = next;
        memset(&next, 0, sizeof next);
    }
    *out = tensors;
    *count = made;
    tensors = NULL;
done:
    tsr__nn_release(adapter->nn, &x);
    for (int i = 0; tensors && i < made; i++) tsr__nn_release(adapter->nn, &tensors[i]);
    free(tensors);
    return status;
}
