/* schedule/ksampler_sigmas.c - the sigmas of a KSampler: denoise, and the samplers that skip the second-last sigma. */
#include <string.h>

#include "core/check.h"
#include "schedule_priv.h"

int tsr__drops_penultimate(const char *sampler) {
    static const char *const names[] = { "dpm_2", "dpm_2_ancestral", "uni_pc", "uni_pc_bh2" };
    for (size_t i = 0; sampler && i < sizeof names / sizeof *names; i++)
        if (!strcmp(sampler, names[i])) return 1;
    return 0;
}

tsr_status tsr_ksampler_sigmas(float **out, int *n_out, const tsr_sigma_table *table, const char *scheduler,
                               const char *sampler, int steps, double denoise, tsr_error *err) {
    tsr_status status = TSR_OK;
    int all_steps = steps;
    *out = NULL;
    *n_out = 0;
    if (!(denoise >= 0 && denoise <= 1)) TSR_FAIL(err, TSR_BAD_ARGUMENT, "denoise %g: must be within 0..1", denoise);
    if (steps < 1 || steps > TSR__MAX_STEPS)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "%d steps: must be 1..%d", steps, TSR__MAX_STEPS);
    if (denoise == 0) goto done;
    if (denoise <= 0.9999) {
        double stretched = steps / denoise;
        if (stretched >= TSR__MAX_STEPS)
            TSR_FAIL(err, TSR_BAD_ARGUMENT, "%d steps at denoise %g make a schedule of %.0f, more than %d", steps,
                     denoise, stretched, TSR__MAX_STEPS);
        all_steps = (int)stretched;
    }
    int extra = tsr__drops_penultimate(sampler);
    TSR_TRY(tsr_schedule_sigmas(out, n_out, table, scheduler, all_steps + extra, err));
    float *sigmas = *out;
    if (extra && *n_out >= 2) {
        sigmas[*n_out - 2] = sigmas[*n_out - 1];
        --*n_out;
    }
    if (denoise <= 0.9999 && *n_out > steps + 1) {
        memmove(sigmas, sigmas + (*n_out - steps - 1), (size_t)(steps + 1) * sizeof *sigmas);
        *n_out = steps + 1;
    }
done:
    return status;
}
