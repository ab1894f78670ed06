/* sample/ksampler.c - ComfyUI's KSampler and KSamplerAdvanced: from steps and denoise to sigmas, then one run.
 *
 * Source of the rules: reference/comfyui-sampling.md, "Solvers". */
#include <stdlib.h>

#include "core/check.h"
#include "sample/sample_priv.h"

static tsr_status check_steps(int steps, tsr_error *err) {
    if (steps >= 1 && steps <= 10000) return TSR_OK;
    return tsr__fail(err, TSR_BAD_ARGUMENT, "steps is %d; give 1 to 10000", steps);
}

tsr_status tsr_ksampler(tsr_latent **out, const tsr_latent *latent, const tsr_guide *guide,
                        const tsr_ksampler_options *options, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_sample_options sample = TSR_SAMPLE_OPTIONS_INIT;
    float *sigmas = NULL;
    if (!out) return tsr__fail(err, TSR_BAD_ARGUMENT, "tsr_ksampler: out is NULL");
    *out = NULL;
    if (!options) TSR_FAIL(err, TSR_BAD_ARGUMENT, "tsr_ksampler: options is NULL");
    TSR_TRY(tsr__check_guide(guide, "tsr_ksampler", err));
    TSR_TRY(check_steps(options->steps, err));
    if (!(options->denoise >= 0.0 && options->denoise <= 1.0))
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "denoise is %g; give 0 to 1", options->denoise);
    sample.sampler = options->sampler ? options->sampler : "euler";
    TSR_TRY(tsr_ksampler_sigmas(&sigmas, &sample.n_sigmas, guide->denoiser->table,
                                options->scheduler ? options->scheduler : "normal", sample.sampler, options->steps,
                                options->denoise, err));
    sample.sigmas = sigmas;
    sample.seed = options->seed;
    sample.hooks = options->hooks;
    TSR_TRY(tsr_sample(out, latent, guide, &sample, err));
done:
    tsr_free(sigmas);
    return status;
}

tsr_status tsr_ksampler_advanced(tsr_latent **out, const tsr_latent *latent, const tsr_guide *guide,
                                 const tsr_ksampler_advanced_options *options, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_sample_options sample = TSR_SAMPLE_OPTIONS_INIT;
    float *sigmas = NULL;
    int n = 0;
    if (!out) return tsr__fail(err, TSR_BAD_ARGUMENT, "tsr_ksampler_advanced: out is NULL");
    *out = NULL;
    if (!options) TSR_FAIL(err, TSR_BAD_ARGUMENT, "tsr_ksampler_advanced: options is NULL");
    TSR_TRY(tsr__check_guide(guide, "tsr_ksampler_advanced", err));
    TSR_TRY(check_steps(options->steps, err));
    if (options->start_step < 0 || options->end_step < 0)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "steps %d to %d; they count from 0", options->start_step, options->end_step);
    sample.sampler = options->sampler ? options->sampler : "euler";
    TSR_TRY(tsr_ksampler_sigmas(&sigmas, &n, guide->denoiser->table, options->scheduler ? options->scheduler : "normal",
                                sample.sampler, options->steps, 1.0, err));
    if (options->end_step < n - 1) {
        n = options->end_step + 1;
        if (!options->leftover_noise) sigmas[n - 1] = 0.0f;
    }
    sample.n_sigmas = options->start_step < n - 1 ? n - options->start_step : 0;
    sample.sigmas = sample.n_sigmas ? sigmas + options->start_step : NULL;
    sample.seed = options->seed;
    sample.add_noise = options->add_noise;
    sample.hooks = options->hooks;
    TSR_TRY(tsr_sample(out, latent, guide, &sample, err));
done:
    tsr_free(sigmas);
    return status;
}
