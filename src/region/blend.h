/* region/blend.h - one canvas out of several solvers' latents.
 *
 * Where one actor has all the weight its values are copied bit for bit. Elsewhere the deterministic parts blend
 * linearly and the noise parts so that the noise level of the result is sigma. Knows weights and noise parts only. */
#ifndef TSR_BLEND_H
#define TSR_BLEND_H

#include <stddef.h>

#include "core/check.h"
#include "tessera/solver.h"

typedef struct tsr__blend_part {
    const float *values;    /* [count] */
    const float *weights;   /* [plane] */
    tsr_solver_noise noise; /* the fresh noise that is in values; amount 0: none */
} tsr__blend_part;

/* out: count values, a multiple of plane; pixels where no part has weight are left as they are. Weights need not sum
 * to 1: they are shares among the parts. */
tsr_status tsr__blend(float *out, const tsr__blend_part *parts, int n, float sigma, size_t count, size_t plane,
                      tsr_error *err);

/* The way from x at one sigma straight to the clean x0, at another sigma. Pixels where `except` (NULL: none) is exactly 1
 * are left as they are. out may be x or x0. */
void tsr__blend_line(float *out, const float *x, const float *x0, float from, float to, const float *except,
                     size_t count, size_t plane);

#endif /* TSR_BLEND_H */
