/* graph/nodes_vae.c - rows between pictures and latents. */
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
};
const tsr__node_group tsr__nodes_vae = { rows, sizeof rows / sizeof *rows, "nodes" };
