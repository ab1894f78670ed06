/* sample/run.h - where a run is, told to the caller's hooks, and whether the caller wants it to stop or to be saved.
 *
 * Owns the preview buffer. Knows no network, and of solvers only which one is at work. */
#ifndef TSR_RUN_H
#define TSR_RUN_H

#include "tessera/sample.h"

/* A sampler call within a run. */
typedef struct tsr__call_state {
    tsr_solver *solver; /* NULL: none */
    int pass;           /* 0, or 1 in a recovery pass */
    float *first;       /* [count]: what a recovery pass starts from, raw VAE units; NULL in pass 0 */
} tsr__call_state;

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

    /* Saving. give makes the state of the whole run, hands it to the hooks' save, and is set by the run's owner. */
    tsr_status (*give)(void *owner, tsr_error *err);
    void *owner;
    tsr__call_state call; /* the one in hand, borrowed; solver NULL: none */
    tsr__call_state from; /* what the next call goes on from, owned; solver NULL: from its start */
    int saved_step;       /* steps that had ended when the run was last saved */
    double saved_time;
} tsr__run;

void tsr__run_init(tsr__run *run, const tsr_run_hooks *hooks, const int shape[4], float latent_scale);
void tsr__run_clear(tsr__run *run);

/* Remembers a prediction of the clean latent (model space, run->shape) for previews; free of cost without hooks. */
tsr_status tsr__run_set_x0(tsr__run *run, const float *x0, tsr_error *err);

/* Tells the hooks; CANCELLED when they say so. */
tsr_status tsr__run_notify(tsr__run *run, tsr_progress_event event, float sigma, tsr_error *err);

/* 1 when the hooks want the run saved after that many steps of it. */
int tsr__run_is_due(const tsr__run *run, int steps_ended);
/* Saves, and notes when. */
tsr_status tsr__run_save(tsr__run *run, int steps_ended, tsr_error *err);
/* After a run was stopped: saves it when the hooks want states. CANCELLED, or why it could not be saved. */
tsr_status tsr__run_save_stopped(tsr__run *run, tsr_error *err);

/* "step 7 of 20 (sigma 3.21, region 2)" */
void tsr__run_describe(const tsr__run *run, float sigma, int region, char *text, size_t size);

#endif /* TSR_RUN_H */
