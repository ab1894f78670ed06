/* resize_priv.h - resampling of single planes, shared by masks and latents. */
#ifndef TSR_RESIZE_PRIV_H
#define TSR_RESIZE_PRIV_H

#include "core/check.h"

/* For each of `out` positions: `per_output` source positions and their weights, which sum to 1. */
typedef struct tsr__taps {
    int per_output;
    int *index;    /* [out, per_output] */
    float *weight; /* [out, per_output] */
} tsr__taps;

/* PyTorch's float32 arithmetic for one axis. The linear one serves both conventions of align_corners. */
tsr_status tsr__taps_nearest_exact(tsr__taps *taps, int in, int out, tsr_error *err);
tsr_status tsr__taps_linear(tsr__taps *taps, int in, int out, int align_corners, tsr_error *err);
tsr_status tsr__taps_cubic(tsr__taps *taps, int in, int out, tsr_error *err);
void tsr__taps_clear(tsr__taps *taps);

/* out [height, width] from one plane in [*, in_width]; across gives the columns, down the rows. */
void tsr__taps_apply(float *out, int height, int width, const float *in, int in_width, const tsr__taps *down,
                     const tsr__taps *across);

/* Bilinear resampling of one plane. */
tsr_status tsr__resize_bilinear(float *out, int height, int width, const float *in, int in_height, int in_width,
                                int align_corners, tsr_error *err);

/* The methods that need all channels of a pixel together, or 8-bit pixels; contracts as tsr_resize_nchw. */
tsr_status tsr__resize_bislerp(float *out, int height, int width, const float *in, const int shape[4], tsr_error *err);
tsr_status tsr__resize_lanczos(float *out, int height, int width, const float *in, const int shape[4], tsr_error *err);

#endif /* TSR_RESIZE_PRIV_H */
