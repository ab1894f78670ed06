/* model/vae_tiled.c - encoding and decoding in overlapping tiles, for pictures too large to go through whole.
 *
 * Three passes of different tile shapes are averaged (so that no seam is in all of them); inside a pass tiles overlap
 * and are blended with linear ramps. Facts: reference/comfyui-sampling.md, "Tiled VAE". */
#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "core/memory.h"
#include "model/vae_priv.h"

/* A job knows how to do one tile; in- and output have their own units (cells, pixels). */
typedef struct job {
    tsr__vae *vae;
    int decode;
    const float *in; /* decode: latent [c, h, w]; encode: rgb [h, w, 3] */
    int h, w;        /* of the input */
    int channels;    /* of the output: 3 or the latent's */
    float *tile_in, *tile_out;
} job;

static int to_out(const job *j, int size) {
    return j->decode ? size * j->vae->factor : size / j->vae->factor;
}

/* Where channel c of a place stands in an h x w output: pictures are NHWC, latents NCHW. */
static size_t place(const job *j, int h, int w, int y, int x, int c) {
    size_t at = (size_t)y * (size_t)w + (size_t)x;
    return j->decode ? at * (size_t)j->channels + (size_t)c : (size_t)c * (size_t)h * (size_t)w + at;
}

/* Cuts [y, y + th) x [x, x + tw) out of the input and runs it into tile_out. */
static tsr_status run_tile(job *j, int y, int x, int th, int tw, tsr_error *err) {
    int planes = j->decode ? j->vae->latent_channels : 1;
    size_t scalars = j->decode ? 1 : 3; /* a place of a plane */
    for (int p = 0; p < planes; p++)
        for (int row = 0; row < th; row++)
            memcpy(j->tile_in + ((size_t)p * (size_t)th + (size_t)row) * (size_t)tw * scalars,
                   j->in + (((size_t)p * (size_t)j->h + (size_t)(y + row)) * (size_t)j->w + (size_t)x) * scalars,
                   (size_t)tw * scalars * sizeof *j->in);
    if (j->decode) return tsr__vae_decode_values(j->vae, j->tile_out, j->tile_in, th, tw, err);
    return tsr__vae_encode_values(j->vae, j->tile_out, j->tile_in, th, tw, err);
}

/* The blend weight along one side of a tile: a ramp (t + 1) / feather from both ends, none when it does not fit. */
static void ramp(float *weight, int side, int feather) {
    for (int i = 0; i < side; i++) weight[i] = 1.0f;
    if (feather >= side) return;
    for (int t = 0; t < feather; t++) {
        float a = (float)(t + 1) / (float)feather;
        weight[t] *= a;
        weight[side - 1 - t] *= a;
    }
}

typedef struct pass {
    int tile_h, tile_w, overlap; /* input units */
    float *sum;                  /* weighted outputs */
    float *weight;               /* [out h, out w] */
    float *ramp_y, *ramp_x;
} pass;

static void add_tile(const job *j, const pass *p, int y, int x, int th, int tw) {
    int oy = to_out(j, y), ox = to_out(j, x), oh = to_out(j, th), ow = to_out(j, tw);
    int whole_h = to_out(j, j->h), whole_w = to_out(j, j->w), feather = to_out(j, p->overlap);
    ramp(p->ramp_y, oh, feather);
    ramp(p->ramp_x, ow, feather);
    for (int r = 0; r < oh; r++)
        for (int s = 0; s < ow; s++) {
            float m = p->ramp_y[r] * p->ramp_x[s];
            p->weight[(size_t)(oy + r) * (size_t)whole_w + (size_t)(ox + s)] += m;
            for (int c = 0; c < j->channels; c++)
                p->sum[place(j, whole_h, whole_w, oy + r, ox + s, c)] += m * j->tile_out[place(j, oh, ow, r, s, c)];
        }
}

/* The k-th tile's start along a side, or -1 behind the last. */
static int tile_start(int side, int tile, int overlap, int k) {
    if (side <= tile) return k ? -1 : 0;
    int start = k * (tile - overlap);
    return start < side - overlap ? start : -1;
}

/* out += one pass / 3 */
static tsr_status run_pass(job *j, const pass *p, float *out, tsr_error *err) {
    tsr_status status = TSR_OK;
    int oh = to_out(j, j->h), ow = to_out(j, j->w), y, x;
    size_t places = (size_t)oh * (size_t)ow, count = places * (size_t)j->channels;
    if (j->h <= p->tile_h && j->w <= p->tile_w) {
        TSR_TRY(run_tile(j, 0, 0, j->h, j->w, err));
        for (size_t i = 0; i < count; i++) out[i] += j->tile_out[i] / 3.0f;
        return TSR_OK;
    }
    memset(p->sum, 0, count * sizeof *p->sum);
    memset(p->weight, 0, places * sizeof *p->weight);
    for (int i = 0; (y = tile_start(j->h, p->tile_h, p->overlap, i)) >= 0; i++)
        for (int k = 0; (x = tile_start(j->w, p->tile_w, p->overlap, k)) >= 0; k++) {
            int th = j->h - y < p->tile_h ? j->h - y : p->tile_h, tw = j->w - x < p->tile_w ? j->w - x : p->tile_w;
            TSR_TRY(run_tile(j, y, x, th, tw, err));
            add_tile(j, p, y, x, th, tw);
        }
    for (size_t i = 0; i < count; i++)
        out[i] += p->sum[i] / p->weight[j->decode ? i / (size_t)j->channels : i % places] / 3.0f;
done:
    return status;
}

/* tile, overlap: input units */
static tsr_status run_job(job *j, float *out, int tile, int overlap, tsr_error *err) {
    tsr_status status = TSR_OK;
    const int shapes[3][2] = { { tile * 2, tile / 2 }, { tile / 2, tile * 2 }, { tile, tile } }; /* [h, w] */
    pass p = { .overlap = overlap };
    size_t places = (size_t)to_out(j, j->h) * (size_t)to_out(j, j->w), count = places * (size_t)j->channels;
    /* A tile of any pass has at most tile^2 places, unless the whole input fits one. */
    size_t in_places = (size_t)tile * (size_t)tile;
    if ((size_t)j->h * (size_t)j->w < in_places) in_places = (size_t)j->h * (size_t)j->w;
    size_t tile_out = (size_t)to_out(j, tile) * (size_t)to_out(j, tile) * (size_t)j->channels;
    if (count < tile_out) tile_out = count;
    TSR_ALLOC(err, j->tile_in, in_places * (size_t)(j->decode ? j->vae->latent_channels : 3));
    TSR_ALLOC(err, j->tile_out, tile_out);
    TSR_ALLOC(err, p.sum, count);
    TSR_ALLOC(err, p.weight, places);
    TSR_ALLOC(err, p.ramp_y, to_out(j, j->h));
    TSR_ALLOC(err, p.ramp_x, to_out(j, j->w));
    memset(out, 0, count * sizeof *out);
    for (int i = 0; i < 3; i++) {
        p.tile_h = shapes[i][0];
        p.tile_w = shapes[i][1];
        TSR_TRY(run_pass(j, &p, out, err));
    }
done:
    free(j->tile_in);
    free(j->tile_out);
    free(p.sum);
    free(p.weight);
    free(p.ramp_y);
    free(p.ramp_x);
    return status;
}

tsr_status tsr__vae_decode_tiled(tsr__vae *vae, float *values, const float *latent, int h, int w, int tile_px,
                                 int overlap_px, tsr_error *err) {
    job j = { .vae = vae, .decode = 1, .in = latent, .h = h, .w = w, .channels = 3 };
    return run_job(&j, values, tile_px / vae->factor, overlap_px / vae->factor, err);
}

tsr_status tsr__vae_encode_tiled(tsr__vae *vae, float *latent, const float *rgb, int height, int width, int tile_px,
                                 int overlap_px, tsr_error *err) {
    job j = { .vae = vae, .in = rgb, .h = height, .w = width, .channels = vae->latent_channels };
    return run_job(&j, latent, tile_px, overlap_px, err);
}
