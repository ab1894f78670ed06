/* region/canvas.h - keep's lockstep: several solvers with their own histories on one canvas.
 *
 * Owns the solvers and the canvas while a run lasts. Must not know how plans are made or printed. */
#ifndef TSR_CANVAS_H
#define TSR_CANVAS_H

#include "region/plan_priv.h"
#include "sample/sample_priv.h"

typedef struct tsr__canvas tsr__canvas;

/* A canvas for a real run, started from the latent and the plan's noise. run is borrowed. */
tsr_status tsr__canvas_new(tsr__canvas **out, const tsr_plan *plan, const tsr_latent *latent, tsr__run *run,
                           tsr_error *err);
/* A canvas that asks no network and counts what it would ask: one pixel for every set of actors that meet somewhere. */
tsr_status tsr__canvas_new_dry(tsr__canvas **out, const tsr_plan *plan, tsr_error *err);
void tsr__canvas_free(tsr__canvas *canvas);

/* What a step asks of networks: evaluations, and the latent pixels of one picture that they cover together. */
typedef struct tsr__work {
    int64_t evaluations, pixels;
} tsr__work;

/* All actors go from canvas sigma i to i + 1. work_out: NULL, or what a dry canvas counted. */
tsr_status tsr__canvas_step(tsr__canvas *canvas, int i, tsr__work *work_out, tsr_error *err);

/* The canvas in raw VAE units. out: the latent's count. */
void tsr__canvas_result(const tsr__canvas *canvas, float *out);

#endif /* TSR_CANVAS_H */
