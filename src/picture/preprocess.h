/* picture/preprocess.h - pictures made into what control networks were trained on: edges, strokes, blurred tiles. */
#ifndef TSR_PREPROCESS_H
#define TSR_PREPROCESS_H

#include "tessera/status.h"

typedef enum tsr__preprocess_kind {
    TSR__PREPROCESS_NONE = 0,
    TSR__PREPROCESS_CANNY,
    TSR__PREPROCESS_SCRIBBLE,
    TSR__PREPROCESS_TILE,
    TSR__PREPROCESS_INVERT
} tsr__preprocess_kind;
int tsr__preprocess_find(const char *name); /* "none", "canny", "scribble", "tile", "invert"; -1 */

/* In place of rgb [height, width, 3] in 0..1. Canny with ComfyUI's thresholds. */
tsr_status tsr__preprocess(float *rgb, int width, int height, tsr__preprocess_kind kind, tsr_error *err);
/* Canny's edges, 1 on 0, after J. Canny (1986): Gaussian of 5 x 5 and sigma 1, Sobel, thinning across the edge, and what lies
 * above `low` and hangs together with something above `high`. Thresholds are of the gradient of a grey picture in 0..1 by
 * unscaled Sobel kernels, as ComfyUI's Canny node takes them. */
tsr_status tsr__canny(float *rgb, int width, int height, float low, float high, tsr_error *err);

#endif /* TSR_PREPROCESS_H */
