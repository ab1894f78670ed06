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

#endif /* TSR_UNET_PRIV_H */
