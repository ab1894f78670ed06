/* model/taesd.c - see taesd.h. A half is torch's numbered sequence, read from the names that are there:
 *
 *   decoder: 0 clamp, 1 conv, 2 ReLU, blocks, (doubling, conv without bias, blocks) three times, conv
 *   encoder: 0 conv, block, (conv of stride 2 without bias, blocks) three times, conv
 *   block:   relu(conv(relu(conv(relu(conv(x))))) + skip(x)); clamp: 3 tanh(x / 3) */
#include "model/taesd.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "core/memory.h"
#include "model/layers.h"
#include "model/upsample.h"

enum { MAX_PLACES = 64, LEVELS = 3, BLOCK_CONVS = 3, COLOURS = 3 };

typedef enum item_kind { NOTHING, CONV_IN, CONV_OUT, BLOCK, DOWN, UP } item_kind;

/* What stands at a place of the sequence. */
typedef struct item {
    item_kind kind;
    int in, out;                       /* channels */
    tsr__nn_weight *conv[BLOCK_CONVS]; /* a block's; else the first alone */
    tsr__nn_weight *skip;              /* of a block whose channels change */
} item;

typedef struct half {
    int is_there, is_decoder, in, out; /* channels */
    item items[MAX_PLACES];
} half;

struct tsr__taesd {
    tsr__nn *nn;
    char *path; /* for messages */
    float scale, shift;
    half encoder, decoder;
};

/* --- loading ---------------------------------------------------------------------------------------------------------- */

static const char *const layout = "a TAESD";

static const char *path_of(const tsr__weights *weights) {
    const char *path = tsr__weights_path(weights);
    return path ? path : "weights";
}

static tsr__name half_name(const char *prefix, const char *half_of) {
    size_t length = strlen(prefix);
    if (length && prefix[length - 1] == '.') length--;
    return tsr__name_of("%.*s%s%s", (int)length, prefix, length ? "." : "", half_of);
}

int tsr__taesd_is_at(const tsr__weights *weights, const char *prefix) {
    return tsr__weights_find(weights, half_name(prefix, "taesd_decoder.1.weight").text) ||
           tsr__weights_find(weights, half_name(prefix, "taesd_encoder.0.weight").text);
}

/* A convolution of 3 x 3 at a place, or of a block at it; its channels in are known. */
static tsr_status load_conv(item *it, int k, tsr__loader *loader, const char *name, int stride, tsr__bias bias,
                            int *channels, tsr_error *err) {
    tsr_status status = TSR_OK;
    int out = 0, in = 0;
    TSR_TRY(tsr__load_sides(loader, &out, &in, name, 4, err));
    TSR_TRY(tsr__load_conv_bias(loader, &it->conv[k], out, *channels, 3, stride, 1, 1, bias, name, err));
    *channels = it->out = out;
done:
    return status;
}

static tsr_status load_block(item *it, tsr__loader *loader, int place, int *channels, tsr_error *err) {
    tsr_status status = TSR_OK;
    it->kind = BLOCK;
    for (int k = 0; k < BLOCK_CONVS; k++)
        TSR_TRY(
            load_conv(it, k, loader, tsr__name_of("%d.conv.%d", place, 2 * k).text, 1, TSR__WITH_BIAS, channels, err));
    if (it->in != it->out)
        TSR_TRY(tsr__load_linear(loader, &it->skip, it->out, it->in, TSR__NO_BIAS, tsr__name_of("%d.skip", place).text,
                                 err));
done:
    return status;
}

/* The item at a place, by which names are there. */
static tsr_status load_item(half *h, tsr__loader *loader, int place, int *channels, tsr_error *err) {
    item *it = &h->items[place];
    const tsr__name here = tsr__name_of("%d", place), next = tsr__name_of("%d", place + 1);
    it->in = *channels;
    if (tsr__load_has(loader, "%d.conv.0.weight", place)) return load_block(it, loader, place, channels, err);
    if (h->is_decoder && place + 1 < MAX_PLACES && !tsr__load_has(loader, "%d.weight", place) &&
        tsr__load_has(loader, "%d.weight", place + 1)) {
        it->kind = UP; /* the doubling; its convolution stands at the next place */
        it->out = *channels;
        return tsr__upsample_load(loader, &it->conv[0], *channels, TSR__NO_BIAS, next.text, err);
    }
    if (!h->is_decoder && !tsr__load_has(loader, "%d.bias", place)) {
        it->kind = DOWN;
        return load_conv(it, 0, loader, here.text, 2, TSR__NO_BIAS, channels, err);
    }
    it->kind = CONV_OUT;
    return load_conv(it, 0, loader, here.text, 1, TSR__WITH_BIAS, channels, err);
}

/* Whether the sequence has this tensor: name is what follows the half's prefix. */
static int knows(const half *h, const char *name) {
    char *rest = NULL;
    const long place = strtol(name, &rest, 10);
    if (rest == name || place < 0 || place >= MAX_PLACES) return 0;
    const item *it = &h->items[place], *before = place ? it - 1 : it;
    const int conv = it->kind == CONV_IN || it->kind == CONV_OUT;
    if (strcmp(rest, ".weight") == 0) return conv || it->kind == DOWN || (place && before->kind == UP);
    if (strcmp(rest, ".bias") == 0) return conv;
    if (it->kind != BLOCK) return 0;
    if (strcmp(rest, ".skip.weight") == 0) return it->skip != NULL;
    static const char *const block[] = { ".conv.0.weight", ".conv.0.bias",   ".conv.2.weight",
                                         ".conv.2.bias",   ".conv.4.weight", ".conv.4.bias" };
    for (size_t i = 0; i < sizeof block / sizeof *block; i++)
        if (strcmp(rest, block[i]) == 0) return 1;
    return 0;
}

/* Another network of these names would paint something else without a word. */
static tsr_status check_names(const half *h, const tsr__loader *loader, tsr_error *err) {
    const size_t length = strlen(loader->prefix);
    for (size_t i = 0; i < tsr__weights_count(loader->weights); i++) {
        const char *name = tsr__weights_at(loader->weights, i)->name;
        if (strncmp(name, loader->prefix, length) != 0 || name[length] != '.' || knows(h, name + length + 1)) continue;
        return tsr__fail(err, TSR_UNSUPPORTED, "%s: tensor %.200s: %s has no such layer", path_of(loader->weights),
                         name, layout);
    }
    return TSR_OK;
}

static tsr_status load_half(half *h, tsr__loader *loader, tsr_error *err) {
    tsr_status status = TSR_OK;
    int place = h->is_decoder ? 1 : 0, channels = 0, first = 0, levels = 0;
    const tsr__name conv_in = tsr__name_of("%d", place);
    TSR_TRY(tsr__load_sides(loader, &first, &h->in, conv_in.text, 4, err));
    channels = h->in;
    h->items[place].kind = CONV_IN;
    h->items[place].in = h->in;
    TSR_TRY(load_conv(&h->items[place], 0, loader, conv_in.text, 1, TSR__WITH_BIAS, &channels, err));
    for (place += h->is_decoder ? 2 : 1; place < MAX_PLACES; place++) {
        item *it = &h->items[place];
        TSR_TRY(load_item(h, loader, place, &channels, err));
        if (it->kind == CONV_OUT) break;
        if (it->kind == DOWN || it->kind == UP) levels++;
        if (it->kind == UP) place++;
    }
    h->out = channels;
    if (place >= MAX_PLACES || levels != LEVELS)
        TSR_FAIL(err, TSR_UNSUPPORTED, "%s: %s: %d resizes in %d layers: not %s, which has %d",
                 path_of(loader->weights), loader->prefix, levels, place, layout, LEVELS);
    TSR_TRY(check_names(h, loader, err));
    h->is_there = 1;
done:
    return status;
}

static tsr_status load_half_at(tsr__taesd *taesd, half *h, const tsr__weights *weights, const char *prefix,
                               tsr_error *err) {
    tsr__loader loader;
    const char *name = h->is_decoder ? "taesd_decoder" : "taesd_encoder", *first = h->is_decoder ? "1" : "0";
    tsr_status status = tsr__loader_init(&loader, taesd->nn, weights, half_name(prefix, name).text, layout, err);
    if (status != TSR_OK || !tsr__load_has(&loader, "%s.weight", first)) return status;
    return load_half(h, &loader, err);
}

/* One number; fallback NULL: it must be there. */
static tsr_status load_number(float *out, const tsr__weights *weights, const char *name, const float *fallback,
                              tsr_error *err) {
    const tsr__tensor_view *view = tsr__weights_find(weights, name);
    if (!view && fallback) {
        *out = *fallback;
        return TSR_OK;
    }
    if (!view || view->count != 1)
        return tsr__fail(err, TSR_UNSUPPORTED, "%s: tensor %s: one number is needed, by which latents are scaled",
                         path_of(weights), name);
    tsr_status status = tsr__tensor_to_f32(view, out, err);
    if (status == TSR_OK && !isfinite(*out))
        status = tsr__fail(err, TSR_NOT_FINITE, "%s: tensor %s is not finite", path_of(weights), name);
    return status;
}

tsr_status tsr__taesd_new(tsr__taesd **out, tsr__nn *nn, const tsr__weights *weights, const char *prefix,
                          tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__taesd *taesd = NULL;
    static const float none = 0.0f;
    *out = NULL;
    TSR_ALLOC_ZERO(err, taesd, 1);
    taesd->nn = nn;
    taesd->decoder.is_decoder = 1;
    taesd->path = tsr__strdup(path_of(weights));
    if (!taesd->path) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    TSR_TRY(load_number(&taesd->scale, weights, half_name(prefix, "vae_scale").text, NULL, err));
    TSR_TRY(load_number(&taesd->shift, weights, half_name(prefix, "vae_shift").text, &none, err));
    if (!(taesd->scale > 0.0f)) TSR_FAIL(err, TSR_UNSUPPORTED, "%s: vae_scale is not above 0", taesd->path);
    TSR_TRY(load_half_at(taesd, &taesd->encoder, weights, prefix, err));
    TSR_TRY(load_half_at(taesd, &taesd->decoder, weights, prefix, err));
    const half *e = &taesd->encoder, *d = &taesd->decoder;
    if ((e->is_there && e->in != COLOURS) || (d->is_there && d->out != COLOURS) ||
        (e->is_there && d->is_there && e->out != d->in))
        TSR_FAIL(err, TSR_UNSUPPORTED, "%s: %d -> %d channels encoding, %d -> %d decoding: not %s", taesd->path, e->in,
                 e->out, d->in, d->out, layout);
    *out = taesd;
    taesd = NULL;
done:
    tsr__taesd_free(taesd);
    return status;
}

static void clear_half(tsr__nn *nn, half *h) {
    for (int i = 0; i < MAX_PLACES; i++) {
        for (int k = 0; k < BLOCK_CONVS; k++) tsr__nn_weight_free(nn, h->items[i].conv[k]);
        tsr__nn_weight_free(nn, h->items[i].skip);
    }
}

void tsr__taesd_free(tsr__taesd *taesd) {
    if (!taesd) return;
    clear_half(taesd->nn, &taesd->encoder);
    clear_half(taesd->nn, &taesd->decoder);
    free(taesd->path);
    free(taesd);
}

int tsr__taesd_latent_channels(const tsr__taesd *taesd) {
    return taesd->decoder.is_there ? taesd->decoder.in : taesd->encoder.out;
}

/* In a block the input and two activations live at once; a quarter more is for pooled memory that fits no later tensor. */
size_t tsr__taesd_decode_bytes(const tsr__taesd *taesd, int h, int w) {
    size_t scalar = tsr__nn_precision(taesd->nn) == TSR__BF16 ? 2 : 4, peak = 0, places = (size_t)h * (size_t)w;
    for (int i = 0; i < MAX_PLACES; i++) {
        const item *it = &taesd->decoder.items[i];
        size_t bytes = places * scalar * (size_t)(it->in + 2 * it->out);
        if (it->kind == BLOCK && bytes > peak) peak = bytes;
        if (it->kind == UP) places *= 4;
    }
    return peak + peak / 4;
}

/* --- running ---------------------------------------------------------------------------------------------------------- */

/* *x becomes the block's result; the old one is released. */
static tsr_status run_block(tsr__nn *nn, tsr__tensor *x, const item *it, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__tensor a = { 0 }, b = { 0 };
    TSR_TRY(tsr__nn_conv2d_act(nn, &a, x, it->conv[0], NULL, TSR__ACT_RELU, err));
    TSR_TRY(tsr__nn_conv2d_act(nn, &b, &a, it->conv[1], NULL, TSR__ACT_RELU, err));
    tsr__nn_release(nn, &a);
    if (it->skip) {
        TSR_TRY(tsr__nn_linear(nn, &a, x, it->skip, TSR__ACT_NONE, NULL, err));
        tsr__nn_release(nn, x);
        *x = a;
        memset(&a, 0, sizeof a);
    }
    TSR_TRY(tsr__nn_conv2d_act(nn, &a, &b, it->conv[2], x, TSR__ACT_RELU, err));
    tsr__nn_release(nn, x);
    *x = a;
    memset(&a, 0, sizeof a);
done:
    tsr__nn_release(nn, &a);
    tsr__nn_release(nn, &b);
    return status;
}

static tsr_status run_item(tsr__nn *nn, tsr__tensor *x, const half *h, const item *it, tsr_error *err) {
    tsr__tensor y = { 0 };
    if (it->kind == NOTHING) return TSR_OK;
    if (it->kind == BLOCK) return run_block(nn, x, it, err);
    if (it->kind == UP) return tsr__upsample_run(nn, x, it->conv[0], 2 * x->h, 2 * x->w, err);
    const tsr__act act = it->kind == CONV_IN && h->is_decoder ? TSR__ACT_RELU : TSR__ACT_NONE;
    tsr_status status = tsr__nn_conv2d_act(nn, &y, x, it->conv[0], NULL, act, err);
    if (status != TSR_OK) return status;
    tsr__nn_release(nn, x);
    *x = y;
    return TSR_OK;
}

static tsr_status run_half(tsr__taesd *taesd, tsr__tensor *x, const half *h, tsr_error *err) {
    tsr_status status = TSR_OK;
    if (!h->is_there)
        return tsr__fail(err, TSR_UNSUPPORTED,
                         "%s: it holds no TAESD %s; put taesd_%s.safetensors beside it, or take another VAE",
                         taesd->path, h->is_decoder ? "decoder" : "encoder", h->is_decoder ? "decoder" : "encoder");
    for (int i = 0; i < MAX_PLACES; i++) TSR_TRY(run_item(taesd->nn, x, h, &h->items[i], err));
done:
    return status;
}

tsr_status tsr__taesd_decode_values(tsr__taesd *taesd, float *values, const float *latent, int h, int w,
                                    tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__nn *nn = taesd->nn;
    tsr__tensor x = { 0 };
    float *clamped = NULL;
    const int channels = tsr__taesd_latent_channels(taesd);
    size_t count = (size_t)channels * (size_t)h * (size_t)w;
    TSR_ALLOC(err, clamped, count);
    for (size_t i = 0; i < count; i++) clamped[i] = tanhf((latent[i] - taesd->shift) * taesd->scale / 3.0f) * 3.0f;
    TSR_TRY(tsr__nn_from_nchw(nn, &x, clamped, 1, channels, h, w, err));
    TSR_TRY(run_half(taesd, &x, &taesd->decoder, err));
    TSR_TRY(tsr__nn_to_rows(nn, values, &x, err));
    count = (size_t)x.h * (size_t)x.w * COLOURS;
    for (size_t i = 0; i < count; i++) values[i] = (values[i] - 0.5f) * 2.0f;
done:
    tsr__nn_release(nn, &x);
    free(clamped);
    return status;
}

tsr_status tsr__taesd_encode_values(tsr__taesd *taesd, float *latent, const float *rgb, int height, int width,
                                    tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__nn *nn = taesd->nn;
    tsr__tensor x = { 0 };
    TSR_TRY(tsr__nn_from_rows(nn, &x, rgb, 1, height * width, COLOURS, err));
    x.h = height;
    x.w = width;
    TSR_TRY(run_half(taesd, &x, &taesd->encoder, err));
    TSR_TRY(tsr__nn_to_nchw(nn, latent, &x, err));
    const size_t count = (size_t)x.h * (size_t)x.w * (size_t)x.c;
    for (size_t i = 0; i < count; i++) latent[i] = latent[i] / taesd->scale + taesd->shift;
done:
    tsr__nn_release(nn, &x);
    return status;
}
