/* model/unet_blocks.h - the transformer that sits behind a UNet's residual blocks (LDM's SpatialTransformer).
 *
 * Self-attention over the picture's places, cross-attention to the text, GEGLU; depth and widths are read from the
 * weights. Knows nothing of where in the UNet it sits. */
#ifndef TSR_UNET_BLOCKS_H
#define TSR_UNET_BLOCKS_H

#include "model/layers.h"

typedef struct tsr__transformer_layer {
    tsr__norm norm1, norm2, norm3;
    tsr__nn_weight *qkv; /* self-attention: rows q, k, v */
    tsr__nn_weight *self_out;
    tsr__nn_weight *query;   /* cross-attention */
    tsr__nn_weight *text_kv; /* rows k, v; read the text */
    tsr__nn_weight *cross_out;
    tsr__nn_weight *ff_in, *ff_out; /* [8c, c] (GEGLU) and [c, 4c] */
    int inner;                      /* 4c */
    int context_slot;               /* index of this layer's keys and values in a tsr__unet_context */
} tsr__transformer_layer;

typedef struct tsr__transformer {
    int channels, heads, context_width;
    tsr__norm norm;
    tsr__nn_weight *proj_in, *proj_out;
    int depth;
    tsr__transformer_layer *layers;
} tsr__transformer;

/* The texts of one sample that share its picture. parts 0: it reads its own text alone. */
typedef struct tsr__shared_text {
    int parts;
    const tsr__tensor *const *kv; /* [parts], each a slot per cross-attention; the first is the sample's own text */
    const float *const *weights;  /* [parts], each [h * w] of the picture at hand */
} tsr__shared_text;

/* heads_asked: heads of every attention, or 0 for the layout's rule: 8 heads where proj_in is a convolution (SD1), 64
 * channels a head where it is a linear (SD2, SDXL). *context_width is checked, or set when it is 0. *slots counts the
 * cross-attentions. On failure call _clear. */
tsr_status tsr__transformer_load(tsr__transformer *transformer, tsr__loader *loader, const char *name, int channels,
                                 int heads_asked, int *context_width, int *slots, tsr_error *err);
void tsr__transformer_clear(tsr__nn *nn, tsr__transformer *transformer);
/* Keys and values of the text, one tensor [n, 1, tokens, 2c] a slot; shared: NULL, or a shared text a sample.
 * x [n, h, w, c] is taken. */
tsr_status tsr__transformer_run(tsr__nn *nn, tsr__tensor *out, tsr__tensor *x, const tsr__transformer *transformer,
                                const tsr__tensor *text_kv, const tsr__shared_text *shared, tsr_error *err);

#endif /* TSR_UNET_BLOCKS_H */
