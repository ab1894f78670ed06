/* sample/impact.c - see impact.h. */
#include "sample/impact.h"

#include <stdlib.h>
#include <string.h>

#include "core/memory.h"

static unsigned flags_of(const char *sampler) {
    int index = tsr_sampler_find(sampler);
    return index < 0 ? 0u : tsr_sampler_flags(index);
}

static int starts_with(const char *text, const char *prefix) {
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* AUTO: a fast deterministic sampler after the one-step kinds, dpmpp_2m after the multistep SDE kinds. */
static const char *recovery_sampler(const tsr__impact_call *call) {
    if (call->recovery_sampler && strcmp(call->recovery_sampler, "AUTO") != 0) return call->recovery_sampler;
    return starts_with(call->sampler, "uni_pc") || starts_with(call->sampler, "dpmpp_sde") ? "dpm_fast" : "dpmpp_2m";
}

/* The schedule is that of no sampler in particular where sampler_opt runs.
 * sigmas[:end+1], the last one 0 unless noise is left over; then [start:] * ratio. The Brownian range is that of the
 * whole schedule, after that 0 was written (the reference shares the array). n_sigmas 0: nothing to do. */
static tsr_status plan_pass(tsr__impact_pass *pass, const tsr__impact_call *call, const char *sampler, double ratio,
                            tsr_error *err) {
    tsr_status status = TSR_OK;
    float *all = NULL;
    int n = 0, last;
    pass->sampler = call->sampler_opt ? call->sampler_opt : sampler;
    TSR_TRY(tsr_ksampler_sigmas(&all, &n, call->guide->denoiser->table, call->scheduler,
                                call->sampler_opt ? "euler" : sampler, call->steps, 1.0, err));
    last = n - 1;
    if (call->end < last) {
        last = call->end;
        if (!call->leftover) all[last] = 0.0f;
    }
    for (int i = 0; i < n; i++) {
        if (all[i] <= 0.0f) continue;
        if (pass->brownian_min <= 0.0f || all[i] < pass->brownian_min) pass->brownian_min = all[i];
        if (all[i] > pass->brownian_max) pass->brownian_max = all[i];
    }
    if (call->start < last) {
        pass->n_sigmas = last + 1 - call->start;
        TSR_ALLOC(err, pass->sigmas, pass->n_sigmas);
        for (int i = 0; i < pass->n_sigmas; i++) pass->sigmas[i] = all[call->start + i] * (float)ratio;
    }
    if (call->sampler_opt) pass->brownian_min = pass->brownian_max = 0.0f; /* it spans its tree itself */
done:
    tsr_free(all);
    return status;
}

/* The reference raises on a range of no width, and its wrapper then gives the pass up. */
static int is_impossible(const tsr__impact_pass *pass) {
    int spans = pass->brownian_max > 0.0f;
    if (spans && (flags_of(pass->sampler) & TSR_SAMPLER_BROWNIAN)) return !(pass->brownian_max > pass->brownian_min);
    if (starts_with(pass->sampler, "dpm_fast") || starts_with(pass->sampler, "dpm_adaptive")) {
        float lowest = pass->sigmas[pass->n_sigmas - 1];
        if (lowest <= 0.0f) lowest = pass->sigmas[pass->n_sigmas - 2];
        return lowest <= 0.0f;
    }
    return 0;
}

tsr_status tsr__impact_passes_init(tsr__impact_passes *passes, const tsr__impact_call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    double ratio = 1.0;
    memset(passes, 0, sizeof *passes);
    int recovers = call->recovery != TSR__RECOVERY_DISABLE && (flags_of(call->sampler) & TSR_SAMPLER_RECOVERY) != 0;
    if (recovers && call->recovery == TSR__RECOVERY_BETWEEN) ratio = 1.0 - call->recovery_ratio;
    TSR_TRY(plan_pass(&passes->pass[0], call, call->sampler, ratio * call->sigma_factor, err));
    if (passes->pass[0].n_sigmas < 2 && !recovers) goto done;
    if (ratio > 0.0 && passes->pass[0].n_sigmas >= 2) {
        if (is_impossible(&passes->pass[0])) goto done;
        passes->runs[0] = 1;
    }
    if (!recovers || !(call->recovery_ratio > 0.0)) goto done;
    passes->recovers = 1;
    TSR_TRY(plan_pass(&passes->pass[1], call, recovery_sampler(call), call->recovery_ratio * call->sigma_factor, err));
    passes->runs[1] = passes->pass[1].n_sigmas >= 2 && !is_impossible(&passes->pass[1]);
done:
    if (status != TSR_OK) tsr__impact_passes_clear(passes);
    return status;
}

void tsr__impact_passes_clear(tsr__impact_passes *passes) {
    free(passes->pass[0].sigmas);
    free(passes->pass[1].sigmas);
    memset(passes, 0, sizeof *passes);
}

tsr_status tsr__impact_count(int64_t out[2], const tsr__impact_passes *passes, const tsr_guide *guide, tsr_error *err) {
    tsr_status status = TSR_OK;
    out[0] = out[1] = 0;
    for (int i = 0; i < 2; i++) {
        const tsr__impact_pass *pass = &passes->pass[i];
        if (passes->runs[i])
            TSR_TRY(tsr__sample_count(&out[i], guide, pass->sampler, pass->sigmas, pass->n_sigmas, err));
    }
done:
    return status;
}

static tsr_status run_pass(tsr_latent **out, const tsr_latent *latent, const tsr__impact_call *call,
                           const tsr__impact_pass *pass, const float *noise, tsr__run *run, tsr_error *err) {
    tsr_sample_options options = TSR_SAMPLE_OPTIONS_INIT;
    options.sampler = pass->sampler;
    options.sigmas = pass->sigmas;
    options.n_sigmas = pass->n_sigmas;
    options.seed = call->seed;
    options.add_noise = call->add_noise;
    options.noise = noise;
    options.want_x0 = !call->leftover;
    options.solver = call->solver;
    if (flags_of(pass->sampler) & TSR_SAMPLER_BROWNIAN) { /* of a single step the range is empty; others do not ask */
        options.brownian_min = pass->brownian_min;
        options.brownian_max = pass->brownian_max;
    }
    return tsr__sample(out, latent, call->guide, &options, run, err);
}

/* The first pass, and what the second starts from. */
static tsr_status run_first(tsr_latent **out, const tsr_latent *latent, const tsr__impact_call *call,
                            const tsr__impact_passes *passes, tsr__run *run, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_latent *first = NULL, *mixed = NULL;
    if (passes->runs[0]) TSR_TRY(run_pass(&first, latent, call, &passes->pass[0], call->noise, run, err));
    else TSR_TRY(tsr_latent_copy(&first, latent, err));
    if (passes->recovers) {
        TSR_TRY(tsr_latent_copy(&mixed, latent, err));
        TSR_TRY(tsr_latent_composite(mixed, first, 0, 0, latent->noise_mask, err));
        tsr_latent_free(first);
        first = mixed;
        mixed = NULL;
    }
    *out = first;
    first = NULL;
done:
    tsr_latent_free(first);
    tsr_latent_free(mixed);
    return status;
}

tsr_status tsr__impact_run(tsr_latent **out, const tsr_latent *latent, const tsr__impact_call *call, tsr__run *run,
                           tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__impact_passes passes = { 0 };
    tsr_latent *first = NULL;
    tsr_phase phase = run->phase;
    *out = NULL;
    TSR_TRY(tsr__impact_passes_init(&passes, call, err));
    if (run->from.solver && !passes.runs[run->from.pass])
        TSR_FAIL(err, TSR_BAD_FORMAT, "state: names a pass that this call has not; it is damaged");
    if (run->from.solver && run->from.pass == 1) {
        TSR_TRY(tsr_latent_copy(&first, latent, err));
        memcpy(first->values, run->from.first, tsr_latent_count(first) * sizeof *first->values);
    } else {
        TSR_TRY(run_first(&first, latent, call, &passes, run, err));
    }
    if (passes.runs[1]) {
        run->phase = TSR_PHASE_RECOVERY;
        run->call.pass = 1;
        run->call.first = first->values;
        TSR_TRY(run_pass(out, first, call, &passes.pass[1], NULL, run, err));
    } else {
        *out = first;
        first = NULL;
    }
done:
    run->phase = phase;
    memset(&run->call, 0, sizeof run->call);
    tsr_latent_free(first);
    tsr__impact_passes_clear(&passes);
    return status;
}
