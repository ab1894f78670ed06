/* sample/run.c - progress, preview and cancelling of a sampling run. See run.h. */
#include "sample/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/memory.h"

void tsr__run_init(tsr__run *run, const tsr_run_hooks *hooks, const int shape[4], float latent_scale) {
    memset(run, 0, sizeof *run);
    run->hooks = hooks;
    run->region = -1;
    run->latent_scale = latent_scale;
    memcpy(run->shape, shape, sizeof run->shape);
    run->saved_time = tsr__seconds();
}

void tsr__run_clear(tsr__run *run) {
    free(run->preview);
    run->preview = NULL;
    tsr_solver_free(run->from.solver);
    free(run->from.first);
    memset(&run->from, 0, sizeof run->from);
}

int tsr__run_is_due(const tsr__run *run, int steps_ended) {
    const tsr_run_hooks *hooks = run->hooks;
    if (!hooks || !hooks->save || !run->give || steps_ended <= run->saved_step) return 0;
    if (hooks->save_steps > 0 && steps_ended - run->saved_step >= hooks->save_steps) return 1;
    return hooks->save_seconds > 0.0 && tsr__seconds() - run->saved_time >= hooks->save_seconds;
}

tsr_status tsr__run_save(tsr__run *run, int steps_ended, tsr_error *err) {
    tsr_status status = run->give(run->owner, err);
    run->saved_step = steps_ended;
    run->saved_time = tsr__seconds();
    return status;
}

tsr_status tsr__run_save_stopped(tsr__run *run, tsr_error *err) {
    tsr_error own = TSR_ERROR_INIT; /* err holds that the run was stopped */
    if (!run->hooks || !run->hooks->save || !run->give) return TSR_CANCELLED;
    tsr_status status = run->give(run->owner, &own);
    if (status == TSR_OK) return TSR_CANCELLED;
    if (err) *err = own;
    return status;
}

tsr_status tsr__run_set_x0(tsr__run *run, const float *x0, tsr_error *err) {
    tsr_status status = TSR_OK;
    size_t count = (size_t)run->shape[0] * (size_t)run->shape[1] * (size_t)run->shape[2] * (size_t)run->shape[3];
    if (!run->hooks || !run->hooks->progress || !x0) return TSR_OK;
    if (!run->preview) TSR_ALLOC(err, run->preview, count);
    for (size_t i = 0; i < count; i++) run->preview[i] = x0[i] / run->latent_scale;
done:
    return status;
}

void tsr__run_describe(const tsr__run *run, float sigma, int region, char *text, size_t size) {
    char who[32] = "";
    if (run->regions > 0 && region == 0) snprintf(who, sizeof who, ", base");
    if (run->regions > 0 && region > 0) snprintf(who, sizeof who, ", region %d", region);
    snprintf(text, size, "step %d of %d (sigma %.3g%s)", run->step + 1, run->steps, (double)sigma, who);
}

tsr_status tsr__run_notify(tsr__run *run, tsr_progress_event event, float sigma, tsr_error *err) {
    char where[96];
    tsr_progress progress = { 0 };
    if (!run->hooks || !run->hooks->progress) return TSR_OK;
    progress.struct_size = sizeof progress;
    progress.event = event;
    progress.phase = run->phase;
    progress.step = run->step;
    progress.steps = run->steps;
    progress.region = run->region;
    progress.regions = run->regions;
    progress.evaluations_done = run->evaluations_done;
    progress.evaluations_total = run->evaluations_total;
    progress.sigma = sigma;
    progress.x0 = run->preview;
    memcpy(progress.shape, run->shape, sizeof progress.shape);
    if (!run->hooks->progress(run->hooks->user, &progress)) return TSR_OK;
    tsr__run_describe(run, sigma, run->region, where, sizeof where);
    return tsr__fail(err, TSR_CANCELLED, "%s: stopped by the caller", where);
}
