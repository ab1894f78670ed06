/* model/upsample.h - doubling a picture and the 3x3 convolution behind it, as one convolution on the small picture.
 *
 * Shared by the UNet and the VAE's decoder. */
#ifndef TSR_UPSAMPLE_H
#define TSR_UPSAMPLE_H

#include "model/layers.h"

/* name.weight [c, c, 3, 3] and, where there is one, name.bias, packed for tsr__upsample_run. */
tsr_status tsr__upsample_load(tsr__loader *loader, tsr__nn_weight **out, int channels, tsr__bias with_bias,
                              const char *name, tsr_error *err);
/* The same for numbers in memory: weight [out_c, in_c, 3, 3], bias NULL or [out_c]. */
tsr_status tsr__upsample_weight(tsr__nn *nn, tsr__nn_weight **out, const float *weight, int out_c, int in_c,
                                const float *bias, tsr_error *err);
/* *x [n, h, w, c] becomes [n, height, width, c]; the old one is released. height is 2h or 2h - 1, width likewise: the
 * doubled picture is cut before the convolution, as a UNet wants it that has halved an odd side. */
tsr_status tsr__upsample_run(tsr__nn *nn, tsr__tensor *x, const tsr__nn_weight *weight, int height, int width,
                             tsr_error *err);

#endif /* TSR_UPSAMPLE_H */
