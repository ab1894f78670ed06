/* model/vae_priv.h - the VAE's halves, shared by vae.c, vae_load.c and vae_tiled.c. */
#ifndef TSR_VAE_PRIV_H
#define TSR_VAE_PRIV_H

#include "model/layers.h"
#include "model/model.h"
#include "model/taesd.h"

#define TSR__VAE_MAX_LEVELS 8
#define TSR__VAE_MAX_BLOCKS 8

/* One head over all places. */
typedef struct tsr__vae_attention {
    int channels;
    tsr__norm norm;
    tsr__nn_weight *qkv, *out;
} tsr__vae_attention;

typedef struct tsr__vae_level {
    int blocks;
    tsr__res_block block[TSR__VAE_MAX_BLOCKS];
    tsr__vae_attention attention[TSR__VAE_MAX_BLOCKS]; /* channels 0: none */
    tsr__nn_weight *resize; /* 3x3: stride 2 (encoder) or behind a doubling; NULL at the end */
} tsr__vae_level;

/* Encoder or decoder. Levels stand in the order they run. */
typedef struct tsr__vae_half {
    int in_channels, out_channels, levels;
    tsr__nn_weight *conv_in, *conv_out;
    tsr__res_block mid1, mid2;
    tsr__vae_attention mid_attention;
    tsr__vae_level level[TSR__VAE_MAX_LEVELS];
    tsr__norm norm_out;
} tsr__vae_half;

struct tsr__vae {
    tsr__nn *nn;
    int latent_channels, factor;
    tsr__taesd *tiny; /* then there is nothing of the rest */
    tsr__ask_fn ask;  /* NULL: nobody is asked */
    void *ask_user;
    tsr__vae_half encoder, decoder;
    tsr__nn_weight *quant, *post_quant; /* 1x1; NULL where the file has none */
    tsr__weight_log log;
};

tsr_status tsr__vae_load(tsr__vae *vae, const tsr__weights *weights, const char *prefix, tsr_error *err);

/* One sample, whole. latent [c, h, w] -> values [8h, 8w, 3], before scaling to 0..1. */
tsr_status tsr__vae_decode_values(tsr__vae *vae, float *values, const float *latent, int h, int w, tsr_error *err);
/* rgb [H, W, 3] in 0..1 -> mean [c, H/8, W/8]. */
tsr_status tsr__vae_encode_values(tsr__vae *vae, float *latent, const float *rgb, int height, int width,
                                  tsr_error *err);

/* The same by three passes of feathered tiles, averaged. */
tsr_status tsr__vae_decode_tiled(tsr__vae *vae, float *values, const float *latent, int h, int w, int tile_px,
                                 int overlap_px, tsr_error *err);
tsr_status tsr__vae_encode_tiled(tsr__vae *vae, float *latent, const float *rgb, int height, int width, int tile_px,
                                 int overlap_px, tsr_error *err);

#endif /* TSR_VAE_PRIV_H */
