/* picture/preprocess.h - pictures made into what control networks were trained on: edges, strokes, blurred tiles. */
#ifndef TSR_PREPROCESS_H
#define TSR_PREPROCESS_H

#include "tessera/status.h"

typedef enum tsr__preprocess_kind {
    TSR__PREPROCESS_NONE = 0,
    TSR__PREPROCESS_CANNY,
    TSR__PREPROCESS_SCRIBBLE,
    TSR__PREPROCESS_TILE,
    TSR__PREPROCESS_INVERT,
    TSR__PREPROCESS_INPAINT
} tsr__preprocess_kind;
int tsr__preprocess_find(const char *name); /* "none", "canny", "scribble", "tile", "invert", "inpaint"; -1 */

/* In place of rgb [height, width, 3] in 0..1. Canny with ComfyUI's thresholds. INPAINT is tsr__blank_masked, which needs a mask:
 * nothing here. */
tsr_status tsr__preprocess(float *rgb, int width, int height, tsr__preprocess_kind kind, tsr_error *err);
/* Canny's edges, 1 on 0, after J. Canny (1986): Gaussian of 5 x 5 and sigma 1, Sobel, thinning across the edge, and what lies
 * above `low` and hangs together with something above `high`. Thresholds are of the gradient of a grey picture in 0..1 by
 * unscaled Sobel kernels, as ComfyUI's Canny node takes them. */
tsr_status tsr__canny(float *rgb, int width, int height, float low, float high, tsr_error *err);

/* What lies under a mask of more than a half becomes -1, as ControlNets for inpainting were trained. mask [mask_height,
 * mask_width] covers the canvas, whose proportions the picture is cut to when it is scaled; the nearest value counts. */
void tsr__blank_masked(float *rgb, int width, int height, const float *mask, int mask_width, int mask_height);

#endif /* TSR_PREPROCESS_H */
