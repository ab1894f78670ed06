/* upscale/hooks.c - see hooks.h. One row a kind; a row leaves out what its kind does not touch. */
#include "upscale/hooks.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "sample/sample_priv.h"
#include "tessera/noise.h"

typedef struct hook_row {
    tsr_status (*check)(const tsr__hook *hook, tsr_error *err);
    void (*pre_sample)(const tsr__hook *hook, tsr__hook_time time, tsr__hook_call *call);
    tsr_status (*post_encode)(const tsr__hook *hook, tsr__hook_time time, tsr_latent *latent, tsr__run *run,
                              tsr_error *err);
    tsr_status (*count)(int64_t *evaluations, int *steps, const tsr__hook *hook, tsr__hook_time time, tsr_error *err);
} hook_row;

static const hook_row *row_of(const tsr__hook *hook);

/* From the call's own value at the first step to the target at the last; a single step has the target. */
static double scheduled(double value, double target, tsr__hook_time time) {
    if (time.total <= 1) return target;
    return value + (target - value) * ((double)time.step / (double)(time.total - 1));
}

/* --- schedules --------------------------------------------------------------------------------------------------------- */
static tsr_status check_cfg(const tsr__hook *hook, tsr_error *err) {
    if (isfinite(hook->target) && fabs(hook->target) <= 1e6) return TSR_OK;
    return tsr__fail(err, TSR_BAD_ARGUMENT, "CfgScheduleHookProvider: target_cfg is %g; give 0 to 100", hook->target);
}

/* The node cuts the cfg to a whole number on its way, but not for a single step. */
static void schedule_cfg(const tsr__hook *hook, tsr__hook_time time, tsr__hook_call *call) {
    double cfg = scheduled(call->cfg, hook->target, time);
    call->cfg = time.total > 1 ? trunc(cfg) : cfg;
}

static tsr_status check_denoise(const tsr__hook *hook, tsr_error *err) {
    if (hook->target > 0.0 && hook->target <= 1.0) return TSR_OK;
    return tsr__fail(err, TSR_BAD_ARGUMENT,
                     "DenoiseScheduleHookProvider: target_denoise is %g; give more than 0, up to 1", hook->target);
}

static void schedule_denoise(const tsr__hook *hook, tsr__hook_time time, tsr__hook_call *call) {
    call->denoise = scheduled(call->denoise, hook->target, time);
}

static tsr_status check_steps(const tsr__hook *hook, tsr_error *err) {
    if (hook->target >= 1.0 && hook->target <= 10000.0) return TSR_OK;
    return tsr__fail(err, TSR_BAD_ARGUMENT, "StepsScheduleHookProvider: target_steps is %g; give 1 to 10000",
                     hook->target);
}

static void schedule_steps(const tsr__hook *hook, tsr__hook_time time, tsr__hook_call *call) {
    call->steps = (int)scheduled((double)call->steps, hook->target, time);
}

/* --- noise ------------------------------------------------------------------------------------------------------------- */
static tsr_status check_noise(const tsr__hook *hook, tsr_error *err) {
    const char *source = hook->noise.source ? hook->noise.source : "CPU";
    if (strncmp(source, "GPU", 3) == 0)
        return tsr__fail(err, TSR_UNSUPPORTED,
                         "NoiseInjectionHookProvider: source %.32s draws a graphics card's own numbers; take CPU",
                         source);
    if (strcmp(source, "CPU") != 0)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "NoiseInjectionHookProvider: source is \"%.32s\"; give CPU", source);
    if (!isfinite(hook->noise.start_strength) || !isfinite(hook->noise.end_strength))
        return tsr__fail(err, TSR_BAD_ARGUMENT, "NoiseInjectionHookProvider: strengths %g to %g; give 0 to 200",
                         hook->noise.start_strength, hook->noise.end_strength);
    return TSR_OK;
}

/* One draw over the whole batch, of seed + twice the step; the strength is on its way to a step that never comes. The
 * node's noise has 4 channels, and it leaves latents of another number alone. */
static tsr_status inject_noise(const tsr__hook *hook, tsr__hook_time time, tsr_latent *latent, tsr__run *run,
                               tsr_error *err) {
    tsr_status status = TSR_OK;
    size_t count = tsr_latent_count(latent);
    float *noise = NULL;
    tsr_rng rng;
    (void)run;
    if (latent->shape[1] != 4) return TSR_OK;
    double way = time.total > 0 ? (double)time.step / (double)time.total : 0.0;
    float strength =
        (float)(hook->noise.start_strength + (hook->noise.end_strength - hook->noise.start_strength) * way);
    TSR_ALLOC(err, noise, count);
    tsr_rng_seed(&rng, hook->noise.seed + 2 * (uint64_t)time.step);
    tsr_rng_randn(&rng, noise, count);
    for (size_t i = 0; i < count; i++) latent->values[i] += noise[i] * strength;
done:
    free(noise);
    return status;
}

/* --- unsampling -------------------------------------------------------------------------------------------------------- */
/* The schedule turned round: sigmas rise from 0, lifted by 0.0001 so that none is 0. Fewer than 2: nothing to do. */
static tsr_status rising_sigmas(float **out, int *n_out, const tsr__hook *hook, tsr__hook_time time, tsr_error *err) {
    tsr_status status = TSR_OK;
    float *down = NULL, *up = NULL;
    int n = 0, steps = hook->unsample.steps;
    double way = time.total > 0 ? (double)time.step / (double)time.total : 0.0;
    int skipped = (int)((double)hook->unsample.start_end_at_step +
                        (double)(hook->unsample.end_end_at_step - hook->unsample.start_end_at_step) * way);
    *out = NULL;
    TSR_TRY(tsr_ksampler_sigmas(&down, &n, hook->unsample.guide.denoiser->table, hook->unsample.scheduler,
                                hook->unsample.sampler, steps, 1.0, err));
    int last = steps - (skipped < steps - 1 ? skipped : steps - 1);
    *n_out = last < n - 1 ? last + 1 : n;
    TSR_ALLOC(err, up, *n_out);
    for (int i = 0; i < *n_out; i++) up[i] = down[n - 1 - i] + 0.0001f;
    *out = up;
done:
    tsr_free(down);
    return status;
}

static tsr_status check_unsample(const tsr__hook *hook, tsr_error *err) {
    tsr_status status = TSR_OK;
    static const tsr__hook_time first = { 0, 1 };
    float *sigmas = NULL;
    int n = 0;
    int64_t evaluations = 0;
    TSR_TRY(tsr__check_guide(&hook->unsample.guide, "UnsamplerHookProvider", err));
    TSR_TRY(tsr__check_sampler(hook->unsample.sampler, "UnsamplerHookProvider", err));
    if (hook->unsample.steps < 1 || hook->unsample.steps > 10000)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "UnsamplerHookProvider: steps is %d; give 1 to 10000", hook->unsample.steps);
    if (hook->unsample.start_end_at_step < 0 || hook->unsample.end_end_at_step < 0)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "UnsamplerHookProvider: end_at_step from %d to %d; they count from 0",
                 hook->unsample.start_end_at_step, hook->unsample.end_end_at_step);
    TSR_TRY(rising_sigmas(&sigmas, &n, hook, first, err));
    TSR_TRY(tsr__sample_count(&evaluations, &hook->unsample.guide, hook->unsample.sampler, sigmas, n, err));
done:
    free(sigmas);
    return status;
}

/* Mean 0 and deviation 1 over everything. */
static void normalize(float *values, size_t count) {
    double sum = 0.0, squares = 0.0;
    for (size_t i = 0; i < count; i++) sum += (double)values[i];
    double mean = sum / (double)count;
    for (size_t i = 0; i < count; i++) squares += ((double)values[i] - mean) * ((double)values[i] - mean);
    double deviation = count > 1 ? sqrt(squares / (double)(count - 1)) : 0.0;
    for (size_t i = 0; i < count; i++)
        values[i] = (float)(((double)values[i] - mean) / (deviation > 0.0 ? deviation : 1.0));
}

static tsr_status unsample(const tsr__hook *hook, tsr__hook_time time, tsr_latent *latent, tsr__run *run,
                           tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_sample_options options = TSR_SAMPLE_OPTIONS_INIT;
    tsr_latent *noisy = NULL;
    float *sigmas = NULL;
    float outer_scale = run->latent_scale;
    TSR_TRY(rising_sigmas(&sigmas, &options.n_sigmas, hook, time, err));
    options.sigmas = sigmas;
    options.sampler = hook->unsample.sampler;
    options.add_noise = 0;
    run->latent_scale = hook->unsample.guide.denoiser->latent_scale;
    TSR_TRY(tsr__sample(&noisy, latent, &hook->unsample.guide, &options, run, err));
    run->first_step += options.n_sigmas - 1;
    if (hook->unsample.normalize) normalize(noisy->values, tsr_latent_count(noisy));
    memcpy(latent->values, noisy->values, tsr_latent_count(noisy) * sizeof(float));
done:
    run->latent_scale = outer_scale;
    tsr_latent_free(noisy);
    free(sigmas);
    return status;
}

static tsr_status count_unsample(int64_t *evaluations, int *steps, const tsr__hook *hook, tsr__hook_time time,
                                 tsr_error *err) {
    tsr_status status = TSR_OK;
    float *sigmas = NULL;
    int n = 0;
    int64_t cost = 0;
    TSR_TRY(rising_sigmas(&sigmas, &n, hook, time, err));
    TSR_TRY(tsr__sample_count(&cost, &hook->unsample.guide, hook->unsample.sampler, sigmas, n, err));
    *evaluations += cost;
    *steps += n - 1;
done:
    free(sigmas);
    return status;
}

/* --- two in a row ------------------------------------------------------------------------------------------------------ */
static tsr_status check_both(const tsr__hook *hook, tsr_error *err) {
    tsr_status status = tsr__hook_check(hook->first, err);
    return status == TSR_OK ? tsr__hook_check(hook->second, err) : status;
}

static void pre_sample_both(const tsr__hook *hook, tsr__hook_time time, tsr__hook_call *call) {
    tsr__hook_pre_sample(hook->first, time, call);
    tsr__hook_pre_sample(hook->second, time, call);
}

static tsr_status post_encode_both(const tsr__hook *hook, tsr__hook_time time, tsr_latent *latent, tsr__run *run,
                                   tsr_error *err) {
    tsr_status status = tsr__hook_post_encode(hook->first, time, latent, run, err);
    return status == TSR_OK ? tsr__hook_post_encode(hook->second, time, latent, run, err) : status;
}

static tsr_status count_both(int64_t *evaluations, int *steps, const tsr__hook *hook, tsr__hook_time time,
                             tsr_error *err) {
    tsr_status status = tsr__hook_count(evaluations, steps, hook->first, time, err);
    return status == TSR_OK ? tsr__hook_count(evaluations, steps, hook->second, time, err) : status;
}

/* --- the table --------------------------------------------------------------------------------------------------------- */
static const hook_row *row_of(const tsr__hook *hook) {
    static const hook_row rows[] = {
        [TSR__HOOK_CFG] = { check_cfg, schedule_cfg, NULL, NULL },
        [TSR__HOOK_DENOISE] = { check_denoise, schedule_denoise, NULL, NULL },
        [TSR__HOOK_STEPS] = { check_steps, schedule_steps, NULL, NULL },
        [TSR__HOOK_NOISE] = { check_noise, NULL, inject_noise, NULL },
        [TSR__HOOK_UNSAMPLE] = { check_unsample, NULL, unsample, count_unsample },
        [TSR__HOOK_COMBINE] = { check_both, pre_sample_both, post_encode_both, count_both },
    };
    size_t kind = (size_t)hook->kind;
    return kind < sizeof rows / sizeof *rows ? &rows[kind] : NULL;
}

tsr_status tsr__hook_check(const tsr__hook *hook, tsr_error *err) {
    if (!hook) return TSR_OK;
    const hook_row *row = row_of(hook);
    if (!row) return tsr__fail(err, TSR_BAD_ARGUMENT, "hook kind %d is not in its enum", (int)hook->kind);
    return row->check(hook, err);
}

void tsr__hook_pre_sample(const tsr__hook *hook, tsr__hook_time time, tsr__hook_call *call) {
    const hook_row *row = hook ? row_of(hook) : NULL;
    if (row && row->pre_sample) row->pre_sample(hook, time, call);
}

tsr_status tsr__hook_post_encode(const tsr__hook *hook, tsr__hook_time time, tsr_latent *latent, tsr__run *run,
                                 tsr_error *err) {
    const hook_row *row = hook ? row_of(hook) : NULL;
    return row && row->post_encode ? row->post_encode(hook, time, latent, run, err) : TSR_OK;
}

tsr_status tsr__hook_count(int64_t *evaluations, int *steps, const tsr__hook *hook, tsr__hook_time time,
                           tsr_error *err) {
    const hook_row *row = hook ? row_of(hook) : NULL;
    return row && row->count ? row->count(evaluations, steps, hook, time, err) : TSR_OK;
}
