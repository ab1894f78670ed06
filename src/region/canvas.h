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

/* Of the steps a dry canvas has taken: evaluations of one network. */
int64_t tsr__canvas_evaluations_of(const tsr__canvas *canvas, const tsr_denoiser *denoiser);

/* Canvas steps that have ended. */
int tsr__canvas_steps_ended(const tsr__canvas *canvas);
/* A canvas between two steps as bytes, and back on a fresh one of the same plan; *out is released with free(). What follows
 * from the plan and the latent (noise, masks, weights) is not stored. */
tsr_status tsr__canvas_save(void **out, size_t *size_out, const tsr__canvas *canvas, tsr_error *err);
tsr_status tsr__canvas_load(tsr__canvas *canvas, int steps_ended, const void *data, size_t size, tsr_error *err);

/* The canvas in raw VAE units. out: the latent's count. */
void tsr__canvas_result(const tsr__canvas *canvas, float *out);

#endif /* TSR_CANVAS_H */
