/* sample/run.h - where a run is, told to the caller's hooks, and whether the caller wants it to stop.
 *
 * Owns the preview buffer. Knows nothing of solvers or networks. */
#ifndef TSR_RUN_H
#define TSR_RUN_H

#include "tessera/sample.h"

typedef struct tsr__run {
    const tsr_run_hooks *hooks; /* borrowed; may be NULL */
    tsr_phase phase;
    int first_step; /* of the sampler call in hand, within the whole run */
    int step;       /* of the whole run, from 0 */
    int steps;
    int region; /* 0 base, k region, -1 all of them */
    int regions;
    int64_t evaluations_done;
    int64_t evaluations_total;
    float latent_scale;
    int shape[4];
    float *preview; /* owned, raw VAE units; NULL before the first x0 */
} tsr__run;

void tsr__run_init(tsr__run *run, const tsr_run_hooks *hooks, const int shape[4], float latent_scale);
void tsr__run_clear(tsr__run *run);

/* Remembers a prediction of the clean latent (model space, run->shape) for previews; free of cost without hooks. */
tsr_status tsr__run_set_x0(tsr__run *run, const float *x0, tsr_error *err);

/* Tells the hooks; CANCELLED when they say so. */
tsr_status tsr__run_notify(tsr__run *run, tsr_progress_event event, float sigma, tsr_error *err);

/* "step 7 of 20 (sigma 3.21, region 2)" */
void tsr__run_describe(const tsr__run *run, float sigma, int region, char *text, size_t size);

#endif /* TSR_RUN_H */
