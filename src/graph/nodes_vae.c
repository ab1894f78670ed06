/* graph/nodes_vae.c - rows between pictures and latents. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "graph/graph_priv.h"

static const tsr__input decode_inputs[] = {
    TSR__LINK("samples", LATENT, "The latents."),
    TSR__LINK("vae", VAE, "The model's VAE."),
    TSR__END,
};

static tsr_status run_decode(tsr__call *call, tsr_error *err) {
    return tsr__decode(&call->results[0], call->graph, tsr__arg(call->in, "vae"), tsr__arg(call->in, "samples")->latent,
                       0, err);
}

/* Decoding shares at most a quarter of a tile; encoding what it is told. */
static tsr__vae_tiles tiles_of(tsr__call *call, int decode) {
    tsr__vae_tiles tiles = { tsr__arg_int(call->in, "tile_size"), tsr__arg_int(call->in, "overlap") };
    if (decode && tiles.side_px < 4 * tiles.overlap_px) tiles.overlap_px = tiles.side_px / 4;
    return tiles;
}

static const tsr__input decode_tiled_inputs[] = {
    TSR__LINK("samples", LATENT, "The latents."),
    TSR__LINK("vae", VAE, "The model's VAE."),
    TSR__INT_STEP("tile_size", 512, 64, 4096, 32, "Side of a tile in pixels."),
    TSR__INT_STEP("overlap", 64, 0, 4096, 32, "Pixels that tiles share."),
    { "temporal_size", TSR__V_INT, TSR__IN_OPTIONAL, 64, 8, 4096, 4, NULL, NULL, NULL, "For video models; not read." },
    { "temporal_overlap", TSR__V_INT, TSR__IN_OPTIONAL, 8, 4, 4096, 4, NULL, NULL, NULL,
      "For video models; not read." },
    TSR__END,
};

static tsr_status run_decode_tiled(tsr__call *call, tsr_error *err) {
    return tsr__decode_tiles(&call->results[0], call->graph, tsr__arg(call->in, "vae"),
                             tsr__arg(call->in, "samples")->latent, tiles_of(call, 1), err);
}

static tsr_status encode(tsr__call *call, const tsr__pictures *pixels, tsr_error *err) {
    tsr_latent *latent = NULL;
    tsr_status status = tsr__encode(&latent, call->graph, tsr__arg(call->in, "vae"), pixels, 0, err);
    return status == TSR_OK ? tsr__value_take_latent(&call->results[0], latent, err) : status;
}

static const tsr__input encode_inputs[] = {
    TSR__LINK("pixels", IMAGE, "The pictures; cut to multiples of 8 in the middle."),
    TSR__LINK("vae", VAE, "The model's VAE."),
    TSR__END,
};

static tsr_status run_encode(tsr__call *call, tsr_error *err) {
    return encode(call, &tsr__arg(call->in, "pixels")->pictures, err);
}

static const tsr__input encode_tiled_inputs[] = {
    TSR__LINK("pixels", IMAGE, "The pictures; cut to multiples of 8 in the middle."),
    TSR__LINK("vae", VAE, "The model's VAE."),
    TSR__INT_STEP("tile_size", 512, 64, 4096, 64, "Side of a tile in pixels."),
    TSR__INT_STEP("overlap", 64, 0, 4096, 32, "Pixels that tiles share."),
    { "temporal_size", TSR__V_INT, TSR__IN_OPTIONAL, 64, 8, 4096, 4, NULL, NULL, NULL, "For video models; not read." },
    { "temporal_overlap", TSR__V_INT, TSR__IN_OPTIONAL, 8, 4, 4096, 4, NULL, NULL, NULL,
      "For video models; not read." },
    TSR__END,
};

static tsr_status run_encode_tiled(tsr__call *call, tsr_error *err) {
    tsr_latent *latent = NULL;
    tsr_status status = tsr__encode_tiles(&latent, call->graph, tsr__arg(call->in, "vae"),
                                          &tsr__arg(call->in, "pixels")->pictures, tiles_of(call, 0), err);
    return status == TSR_OK ? tsr__value_take_latent(&call->results[0], latent, err) : status;
}

/* --- for inpainting --------------------------------------------------------------------------------------------------------------- */
static const tsr__input inpaint_inputs[] = {
    TSR__LINK("pixels", IMAGE, "The pictures."),
    TSR__LINK("vae", VAE, "The model's VAE."),
    TSR__LINK("mask", MASK, "1: repaint."),
    TSR__INT("grow_mask_by", 6, 0, 64, "Pixels by which the mask grows, so that edges are repainted too."),
    TSR__END,
};

/* A box of w x h that starts at (left, top). */
static tsr_status cut_mask(tsr_mask **out, const tsr_mask *mask, int left, int top, int w, int h, tsr_error *err) {
    tsr_status status = tsr_mask_new(out, w, h, 0.0f, err);
    for (int y = 0; status == TSR_OK && y < h; y++)
        memcpy((*out)->values + (size_t)y * (size_t)w,
               mask->values + (size_t)(y + top) * (size_t)mask->width + (size_t)left, (size_t)w * sizeof(float));
    return status;
}

/* What will be repainted becomes grey, so that it does not shine through. pixels is changed; it starts at (left, top) of the
 * mask. */
static void grey_out(tsr__pictures *p, const tsr_mask *mask) {
    for (size_t i = 0; i < (size_t)p->n; i++)
        for (size_t k = 0; k < (size_t)p->h * (size_t)p->w; k++) {
            float keep = 1.0f - rintf(mask->values[k]);
            float *v = p->values + (i * (size_t)p->h * (size_t)p->w + k) * (size_t)p->c;
            for (int c = 0; c < 3; c++) v[c] = (v[c] - 0.5f) * keep + 0.5f;
        }
}

static tsr_status cut_pictures(tsr__value **out, const tsr__pictures *p, int left, int top, int w, int h,
                               tsr_error *err) {
    tsr_status status = tsr__value_pictures(out, p->n, h, w, 3, err);
    float *to = status == TSR_OK ? (*out)->pictures.values : NULL;
    for (size_t i = 0; to && i < (size_t)p->n; i++)
        for (size_t y = 0; y < (size_t)h; y++)
            for (size_t x = 0; x < (size_t)w; x++, to += 3)
                memcpy(to,
                       p->values +
                           ((i * (size_t)p->h + y + (size_t)top) * (size_t)p->w + x + (size_t)left) * (size_t)p->c,
                       3 * sizeof *to);
    return status;
}

static tsr_status run_inpaint(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__pictures *p = &tsr__arg(call->in, "pixels")->pictures;
    const tsr_mask *given = NULL;
    tsr_mask *sized = NULL, *cut = NULL, *grown = NULL;
    tsr__value *pixels = NULL;
    int w = p->w / 8 * 8, h = p->h / 8 * 8, left = p->w % 8 / 2, top = p->h % 8 / 2;
    if (w < 8 || h < 8) TSR_FAIL(err, TSR_BAD_ARGUMENT, "pixels: %dx%d is smaller than 8x8", p->w, p->h);
    TSR_TRY(tsr__one_mask(&given, tsr__arg(call->in, "mask"), "mask", err));
    TSR_TRY(tsr_mask_resize(&sized, given, p->w, p->h, err));
    TSR_TRY(cut_mask(&cut, sized, left, top, w, h, err));
    TSR_TRY(tsr_mask_grow(&grown, cut, w, h, tsr__arg_int(call->in, "grow_mask_by"), err));
    TSR_TRY(cut_pictures(&pixels, p, left, top, w, h, err));
    grey_out(&pixels->pictures, cut);
    TSR_TRY(encode(call, &pixels->pictures, err));
    call->results[0]->latent->noise_mask = grown;
    grown = NULL;
done:
    tsr_mask_free(sized);
    tsr_mask_free(cut);
    tsr_mask_free(grown);
    tsr__value_unref(pixels);
    return status;
}

#define GIVES_LATENT                                                                                                   \
    {                                                                                                                  \
        { "LATENT", TSR__V_LATENT }                                                                                    \
    }
#define GIVES_IMAGE                                                                                                    \
    {                                                                                                                  \
        { "IMAGE", TSR__V_IMAGE }                                                                                      \
    }
static const tsr__node rows[] = {
    { "VAEDecode", "VAE Decode", "latent", decode_inputs, GIVES_IMAGE, 0, run_decode, "Latents to pictures." },
    { "VAEDecodeTiled", "VAE Decode (Tiled)", "_for_testing", decode_tiled_inputs, GIVES_IMAGE, 0, run_decode_tiled,
      "Latents to pictures, tile by tile, in less memory." },
    { "VAEEncode", "VAE Encode", "latent", encode_inputs, GIVES_LATENT, 0, run_encode, "Pictures to latents." },
    { "VAEEncodeTiled", "VAE Encode (Tiled)", "_for_testing", encode_tiled_inputs, GIVES_LATENT, 0, run_encode_tiled,
      "Pictures to latents, tile by tile, in less memory." },
    { "VAEEncodeForInpaint", "VAE Encode (for Inpainting)", "latent/inpaint", inpaint_inputs, GIVES_LATENT, 0,
      run_inpaint, "Pictures to latents with a hole to repaint." },
};
const tsr__node_group tsr__nodes_vae = { rows, sizeof rows / sizeof *rows, "nodes" };
