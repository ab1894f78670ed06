/* model/unet_priv.h - the UNet's parts, shared by its loader (unet_load.c) and its run (unet.c). */
#ifndef TSR_UNET_PRIV_H
#define TSR_UNET_PRIV_H

#include "model/model.h"
#include "model/unet_blocks.h"

#define TSR__UNET_MAX_BLOCKS 64 /* each of input and output blocks; SD1.5 has 12 */

/* One of LDM's numbered blocks after the first: [residual block] [transformer] [downsample or upsample]. */
typedef struct tsr__unet_block {
    int has_res, has_transformer;
    tsr__res_block res;
    tsr__transformer transformer;
    int add_offset;            /* columns of this block in the stacked time projections */
    tsr__nn_weight *down, *up; /* up: see upsample.h */
} tsr__unet_block;

struct tsr__unet {
    tsr__nn *nn;
    int in_channels, out_channels, model_channels, embed_width, context_width;
    int slots;     /* cross-attentions in all */
    int halvings;  /* downsamples */
    int add_width; /* sum of the residual blocks' channels */
    int64_t parameters;
    tsr__nn_weight *conv_in, *time_in, *time_out;
    tsr__nn_weight *label_in, *label_out; /* SDXL's second conditioning vector; NULL: none */
    int label_width;
    tsr__nn_weight *time_projections; /* every block's emb_layers.1, rows stacked: one product a run instead of 22 */
    tsr__norm norm_out;
    tsr__nn_weight *conv_out;
    /* input blocks 1.., the middle's two, output blocks */
    tsr__unet_block *blocks;
    int inputs, outputs, count;
    tsr__weight_log log;
};

/* Fills a zeroed UNet; on failure the caller frees it. */
tsr_status tsr__unet_load(tsr__unet *unet, const tsr__weights *weights, const char *prefix, const char *config,
                          tsr_error *err);

/* The same without the decoder: outputs 0, no norm_out and conv_out. layout: ends the line of what is missing. */
tsr_status tsr__unet_load_encoder(tsr__unet *unet, const tsr__weights *weights, const char *prefix, const char *config,
                                  const char *layout, tsr_error *err);

/* --- one run ---------------------------------------------------------------------------------------------------------- */
typedef struct tsr__unet_pass {
    tsr__unet *unet;
    tsr__nn *nn;
    int n;
    const tsr__tensor *kv; /* a slot each: [n, 1, tokens, 2c] */
    tsr__tensor *kv_owned; /* the samples' texts side by side; NULL for one sample */
    tsr__unet_context *const *contexts;
    tsr__shared_text *shared;     /* [n], at the resolution at hand; NULL: nobody shares */
    const tsr__tensor *time_more; /* NULL, or [n, 1, 1, embed_width]: added to the time embedding */
    float *adds;                  /* [n, add_width]: the time's share of every residual block */
    float *add;                   /* [n, channels] of the block at hand */
    tsr__tensor skips[TSR__UNET_MAX_BLOCKS];
    int depth;
    tsr__tensor middle; /* of the middle block, until the decoder takes it */
    const tsr__unet_control *controls;
    int n_controls;
} tsr__unet_pass;

/* Checks the sizes and makes what the blocks read: texts side by side, the time's shares. The pass is zero but for unet, nn,
 * n and perhaps time_more; call _end whatever happens. */
tsr_status tsr__unet_pass_begin(tsr__unet_pass *pass, int h, int w, const float *timesteps,
                                tsr__unet_context *const *contexts, const float *const *labels, tsr_error *err);
/* Fills the skips and the middle. hint: NULL, or [n, h, w, model_channels], added behind the first convolution. */
tsr_status tsr__unet_pass_encode(tsr__unet_pass *pass, const tsr__tensor *x, const tsr__tensor *hint, tsr_error *err);
void tsr__unet_pass_end(tsr__unet_pass *pass);

#endif /* TSR_UNET_PRIV_H */
