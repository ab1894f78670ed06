/* upscale/masked_upscaler.c - see masked_upscaler.h. Enlarges by the pixel path, then samples as a KSAMPLER does.
 *
 * Must not know how large the steps are. */
#include "upscale/masked_upscaler.h"

#include <math.h>
#include <string.h>

#include "core/check.h"
#include "sample/impact.h"

/* --- one sampler call --------------------------------------------------------------------------------------------------- */
typedef struct sampling {
    tsr_guide guide; /* with the hook's cfg */
    tsr__impact_call call;
    int steps;
} sampling;

/* KSAMPLER.sample: hooks may change cfg, steps and denoise; they never replace the latent. */
static void prepare(sampling *s, const tsr_ksampler_provider *provider, const tsr__hook *hook, tsr__hook_time time) {
    tsr__hook_call asked = { provider->steps, (double)provider->guide.cfg, provider->denoise };
    tsr__hook_pre_sample(hook, time, &asked);
    memset(s, 0, sizeof *s);
    s->guide = provider->guide;
    s->guide.cfg = (float)asked.cfg;
    s->steps = asked.steps;
    s->call.sampler = provider->sampler ? provider->sampler : "euler";
    s->call.scheduler = provider->scheduler ? provider->scheduler : "normal";
    s->call.sigma_factor = 1.0;
    s->call.add_noise = 1;
    s->call.seed = provider->seed;
    s->call.steps = (int)((double)asked.steps / asked.denoise);
    s->call.start = s->call.steps - asked.steps;
    s->call.end = s->call.steps;
}

/* *latent is replaced by the result. region: for progress. */
static tsr_status sample(tsr_latent **latent, const tsr_ksampler_provider *provider, const tsr__hook *hook,
                         tsr__hook_time time, int region, tsr__run *run, tsr_error *err) {
    tsr_status status = TSR_OK;
    sampling s;
    tsr_latent *result = NULL;
    prepare(&s, provider, hook, time);
    s.call.guide = &s.guide;
    run->region = region;
    run->latent_scale = provider->guide.denoiser->latent_scale;
    TSR_TRY(tsr__impact_run(&result, *latent, &s.call, run, err));
    run->first_step += s.steps;
    tsr_latent_free(*latent);
    *latent = result;
done:
    return status;
}

static tsr_status count(const tsr_ksampler_provider *provider, const tsr__hook *hook, tsr__hook_time time,
                        int64_t *evaluations, int *steps, tsr_error *err) {
    tsr_status status = TSR_OK;
    sampling s;
    tsr__impact_passes passes = { 0 };
    int64_t cost[2] = { 0, 0 };
    prepare(&s, provider, hook, time);
    s.call.guide = &s.guide;
    TSR_TRY(tsr__impact_passes_init(&passes, &s.call, err));
    TSR_TRY(tsr__impact_count(cost, &passes, &s.guide, err));
    *evaluations += cost[0] + cost[1];
    *steps += s.steps;
done:
    tsr__impact_passes_clear(&passes);
    return status;
}

static tsr_status check_provider(const tsr_ksampler_provider *provider, const char *who, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_error reason = TSR_ERROR_INIT;
    float *sigmas = NULL;
    int n = 0;
    if (provider->struct_size != sizeof *provider)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "%s: struct_size is %zu, not %zu; start from TSR_KSAMPLER_PROVIDER_INIT", who,
                 provider->struct_size, sizeof *provider);
    TSR_TRY(tsr__check_guide(&provider->guide, who, err));
    TSR_TRY(tsr__check_sampler(provider->sampler ? provider->sampler : "euler", who, err));
    if (provider->steps < 1 || provider->steps > 10000)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "%s: steps is %d; give 1 to 10000", who, provider->steps);
    if (!(provider->denoise > 0.0 && provider->denoise <= 1.0) || provider->steps / provider->denoise > 1e6)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "%s: denoise is %g; give more than 0, up to 1", who, provider->denoise);
    status = tsr_schedule_sigmas(&sigmas, &n, provider->guide.denoiser->table,
                                 provider->scheduler ? provider->scheduler : "normal", 20, &reason);
    if (status != TSR_OK) TSR_FAIL(err, status, "%s: %s", who, reason.message);
done:
    tsr_free(sigmas);
    return status;
}

/* The latent of the next size, encoded and past the hook; the run looks at that size from here on. */
static tsr_status enlarge(tsr_latent **out, const tsr__pixel_path *path, const tsr__hook *hook,
                          const tsr_latent *latent, tsr__hook_time time, double width, double height, tsr__run *run,
                          tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_latent *larger = NULL;
    *out = NULL;
    TSR_TRY(tsr__pixel_path_run(&larger, path, latent, width, height, err));
    tsr__run_clear(run); /* its preview has the old size */
    memcpy(run->shape, larger->shape, sizeof run->shape);
    run->region = 0;
    TSR_TRY(tsr__hook_post_encode(hook, time, larger, run, err));
    *out = larger;
    larger = NULL;
done:
    tsr_latent_free(larger);
    return status;
}

static tsr_status set_mask(tsr_latent *latent, const tsr_mask *mask, tsr_error *err) {
    tsr_mask_free(latent->noise_mask);
    latent->noise_mask = NULL;
    return mask ? tsr_mask_copy(&latent->noise_mask, mask, err) : TSR_OK;
}

/* --- PixelKSampleUpscaler ------------------------------------------------------------------------------------------------ */
static tsr_status check_pixel(const void *self, tsr_error *err) {
    const tsr__pixel_upscaler *u = self;
    tsr_status status = TSR_OK;
    TSR_TRY(tsr__pixel_path_check(&u->path, err));
    TSR_TRY(check_provider(&u->sampler, "PixelKSampleUpscalerProvider", err));
    TSR_TRY(tsr__hook_check(u->hook, err));
done:
    return status;
}

static tsr_status upscale_pixel(const void *self, tsr_latent **out, const tsr_latent *latent, tsr__hook_time time,
                                double width, double height, tsr__run *run, tsr_error *err) {
    const tsr__pixel_upscaler *u = self;
    tsr_status status = TSR_OK;
    tsr_latent *now = NULL;
    TSR_TRY(enlarge(&now, &u->path, u->hook, latent, time, width, height, run, err));
    TSR_TRY(set_mask(now, latent->noise_mask, err));
    TSR_TRY(sample(&now, &u->sampler, u->hook, time, 0, run, err));
    *out = now;
    now = NULL;
done:
    tsr_latent_free(now);
    return status;
}

static tsr_status count_pixel(const void *self, tsr__hook_time time, const int shape[4], int64_t *evaluations,
                              int *steps, tsr_error *err) {
    const tsr__pixel_upscaler *u = self;
    tsr_status status = TSR_OK;
    (void)shape;
    TSR_TRY(tsr__hook_count(evaluations, steps, u->hook, time, err));
    TSR_TRY(count(&u->sampler, u->hook, time, evaluations, steps, err));
done:
    return status;
}

static const char *describe_pixel(const void *self, tsr__hook_time time) {
    (void)self;
    (void)time;
    return "one sampler";
}

void tsr__pixel_upscaler_table(tsr__upscaler *out, const tsr__pixel_upscaler *self) {
    const tsr_denoiser *denoiser = self->sampler.guide.denoiser;
    *out = (tsr__upscaler){ .self = self,
                            .check = check_pixel,
                            .upscale = upscale_pixel,
                            .count = count_pixel,
                            .describe = describe_pixel,
                            .latent_scale = denoiser ? denoiser->latent_scale : 1.0f,
                            .vae = self->path.vae };
}

/* --- when everything is sampled ------------------------------------------------------------------------------------------ */
static const char *const schedule_names[TSR__FULL_COUNT] = {
    "none",  "interleave1",       "interleave2",       "interleave3",       "last1",
    "last2", "interleave1+last1", "interleave2+last1", "interleave3+last1",
};

const char *tsr__full_schedule_name(int schedule) {
    return schedule >= 0 && schedule < TSR__FULL_COUNT ? schedule_names[schedule] : NULL;
}

int tsr__full_schedule_find(const char *name) {
    for (int i = 0; name && i < TSR__FULL_COUNT; i++)
        if (strcmp(schedule_names[i], name) == 0) return i;
    return -1;
}

/* The node adds 1 to both the step and the number of steps, so that `last1` never comes and `last2` is the last step; and
 * every interleaveN+last1 is the first of them, with that last2. */
int tsr__full_schedule_applies(tsr__full_schedule schedule, int step, int total) {
    int at = step + 1, of = total + 1;
    switch (schedule) {
    case TSR__FULL_INTERLEAVE1: return at % 2 == 0;
    case TSR__FULL_INTERLEAVE2: return at % 3 == 0;
    case TSR__FULL_INTERLEAVE3: return at % 4 == 0;
    case TSR__FULL_LAST1: return at == of;
    case TSR__FULL_LAST2: return at >= of - 1;
    case TSR__FULL_INTERLEAVE1_LAST1:
    case TSR__FULL_INTERLEAVE2_LAST1:
    case TSR__FULL_INTERLEAVE3_LAST1: return at % 2 == 0 || at >= of - 1;
    case TSR__FULL_NONE:
    case TSR__FULL_COUNT: break;
    }
    return 0;
}

/* --- TwoSamplersForMaskUpscaler ------------------------------------------------------------------------------------------ */
static const tsr_ksampler_provider *full_of(const tsr__masked_upscaler *u) {
    return u->full ? u->full : &u->base;
}

/* The hook that sees the pixels and the encoded latent: the base's, or the mask's when a model enlarges. */
static const tsr__hook *pixel_hook(const tsr__masked_upscaler *u) {
    return u->path.model ? u->hook_mask : u->hook_base;
}

static int is_full(const tsr__masked_upscaler *u, tsr__hook_time time) {
    return tsr__full_schedule_applies(u->schedule, time.step, time.total);
}

static tsr_status check_masked(const void *self, tsr_error *err) {
    const tsr__masked_upscaler *u = self;
    tsr_status status = TSR_OK;
    TSR_TRY(tsr__pixel_path_check(&u->path, err));
    if (!tsr__full_schedule_name((int)u->schedule))
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "full_sample_schedule %d is not in its enum", (int)u->schedule);
    TSR_TRY(check_provider(&u->base, "base_sampler", err));
    TSR_TRY(check_provider(&u->inside, "mask_sampler", err));
    if (u->full) TSR_TRY(check_provider(u->full, "full_sampler_opt", err));
    if (!u->mask || !u->mask->values || u->mask->width < 1 || u->mask->height < 1)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "TwoSamplersForMaskUpscalerProvider has no mask; give one");
    for (size_t i = 0; i < (size_t)u->mask->width * (size_t)u->mask->height; i++)
        if (!isfinite(u->mask->values[i]))
            TSR_FAIL(err, TSR_BAD_ARGUMENT, "the mask holds NaN or infinity; masks are 0 to 1");
    TSR_TRY(tsr__hook_check(u->hook_base, err));
    TSR_TRY(tsr__hook_check(u->hook_mask, err));
    TSR_TRY(tsr__hook_check(u->hook_full, err));
done:
    return status;
}

/* The node hands its mask [height, width] to the resizing as [1, height, width, 1]: rows are taken for channels, columns for
 * rows. The first picture of a batch then gets the mask's first row, running downwards; the next one the next row. */
static tsr_status turned_row(tsr_mask **out, const tsr_mask *mask, const int shape[4], tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_mask *row = NULL;
    size_t width = (size_t)mask->width;
    *out = NULL;
    for (int k = 1; k < shape[0]; k++)
        if (memcmp(mask->values, mask->values + (size_t)(k % mask->height) * width, width * sizeof(float)) != 0)
            TSR_FAIL(err, TSR_UNSUPPORTED,
                     "TwoSamplersForMaskUpscalerProvider takes row %d of the mask for picture %d of the batch, and it "
                     "differs from the first; upscale one picture at a time, or with history keep",
                     k, k);
    TSR_TRY(tsr_mask_new(&row, 1, mask->width, 0.0f, err));
    memcpy(row->values, mask->values, width * sizeof(float));
    TSR_TRY(tsr_mask_resize_corners(out, row, shape[3], shape[2], err));
done:
    tsr_mask_free(row);
    return status;
}

static tsr_status sample_masked(tsr_latent **now, const tsr__masked_upscaler *u, tsr__hook_time time, tsr__run *run,
                                tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_mask *mask = NULL, *outside = NULL;
    const int *shape = (*now)->shape;
    if (u->whole_mask) TSR_TRY(tsr_mask_resize_corners(&mask, u->mask, shape[3], shape[2], err));
    else TSR_TRY(turned_row(&mask, u->mask, shape, err));
    TSR_TRY(tsr_mask_inverse_not_one(&outside, mask, err));
    TSR_TRY(set_mask(*now, outside, err));
    TSR_TRY(sample(now, &u->base, u->hook_base, time, 0, run, err));
    TSR_TRY(set_mask(*now, mask, err));
    TSR_TRY(sample(now, &u->inside, u->hook_mask, time, 1, run, err));
    TSR_TRY(set_mask(*now, NULL, err));
done:
    tsr_mask_free(mask);
    tsr_mask_free(outside);
    return status;
}

/* --- history keep -------------------------------------------------------------------------------------------------------- */
/* What the hooks make of a provider for TwoSamplersForMask's plan. */
static tsr_ksampler_provider hooked(const tsr_ksampler_provider *provider, const tsr__hook *hook, tsr__hook_time time) {
    tsr_ksampler_provider out = *provider;
    tsr__hook_call asked = { provider->steps, (double)provider->guide.cfg, provider->denoise };
    tsr__hook_pre_sample(hook, time, &asked);
    out.steps = asked.steps;
    out.guide.cfg = (float)asked.cfg;
    out.denoise = asked.denoise;
    return out;
}

static tsr_status plan_canvas(tsr_plan **out, const tsr__masked_upscaler *u, tsr__hook_time time, const int shape[4],
                              tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_two_samplers_options options = TSR_TWO_SAMPLERS_OPTIONS_INIT;
    tsr_ksampler_provider base = hooked(&u->base, u->hook_base, time), inside = hooked(&u->inside, u->hook_mask, time);
    tsr_mask *mask = NULL;
    options.history = TSR_HISTORY_KEEP;
    *out = NULL;
    TSR_TRY(tsr_mask_resize_corners(&mask, u->mask, 8 * shape[3], 8 * shape[2], err));
    TSR_TRY(tsr_two_samplers_plan(out, &base, &inside, mask, &options, shape, err));
done:
    tsr_mask_free(mask);
    return status;
}

/* The plan's progress as part of the whole run's. */
static int pass_on(void *user, const tsr_progress *at) {
    const tsr__run *run = user;
    tsr_progress whole = *at;
    whole.step += run->first_step;
    whole.steps = run->steps;
    whole.evaluations_done += run->evaluations_done;
    whole.evaluations_total = run->evaluations_total;
    return run->hooks->progress(run->hooks->user, &whole);
}

static tsr_status sample_canvas(tsr_latent **now, const tsr__masked_upscaler *u, tsr__hook_time time, tsr__run *run,
                                tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_run_hooks hooks = TSR_RUN_HOOKS_INIT;
    tsr_plan *plan = NULL;
    tsr_latent *result = NULL;
    TSR_TRY(plan_canvas(&plan, u, time, (*now)->shape, err));
    hooks.user = run;
    if (run->hooks && run->hooks->progress) hooks.progress = pass_on;
    TSR_TRY(tsr_plan_run(&result, plan, *now, &hooks, err));
    run->first_step += tsr_plan_steps(plan);
    run->evaluations_done += tsr_plan_evaluations(plan);
    tsr_latent_free(*now);
    *now = result;
done:
    tsr_plan_free(plan);
    return status;
}

static tsr_status count_canvas(const tsr__masked_upscaler *u, tsr__hook_time time, const int shape[4],
                               int64_t *evaluations, int *steps, tsr_error *err) {
    tsr_plan *plan = NULL;
    tsr_status status = plan_canvas(&plan, u, time, shape, err);
    if (status != TSR_OK) return status;
    *evaluations += tsr_plan_evaluations(plan);
    *steps += tsr_plan_steps(plan);
    tsr_plan_free(plan);
    return TSR_OK;
}

static tsr_status upscale_masked(const void *self, tsr_latent **out, const tsr_latent *latent, tsr__hook_time time,
                                 double width, double height, tsr__run *run, tsr_error *err) {
    const tsr__masked_upscaler *u = self;
    tsr_status status = TSR_OK;
    tsr_latent *now = NULL;
    TSR_TRY(enlarge(&now, &u->path, pixel_hook(u), latent, time, width, height, run, err));
    if (is_full(u, time)) {
        TSR_TRY(sample(&now, &u->base, u->hook_base, time, 0, run, err));
        TSR_TRY(sample(&now, full_of(u), u->hook_full, time, 0, run, err));
    } else if (u->keep) {
        TSR_TRY(sample_canvas(&now, u, time, run, err));
    } else {
        TSR_TRY(sample_masked(&now, u, time, run, err));
    }
    *out = now;
    now = NULL;
done:
    tsr_latent_free(now);
    return status;
}

static tsr_status count_masked(const void *self, tsr__hook_time time, const int shape[4], int64_t *evaluations,
                               int *steps, tsr_error *err) {
    const tsr__masked_upscaler *u = self;
    tsr_status status = TSR_OK;
    TSR_TRY(tsr__hook_count(evaluations, steps, pixel_hook(u), time, err));
    if (u->keep && !is_full(u, time)) {
        TSR_TRY(count_canvas(u, time, shape, evaluations, steps, err));
        goto done;
    }
    TSR_TRY(count(&u->base, u->hook_base, time, evaluations, steps, err));
    if (is_full(u, time)) TSR_TRY(count(full_of(u), u->hook_full, time, evaluations, steps, err));
    else TSR_TRY(count(&u->inside, u->hook_mask, time, evaluations, steps, err));
done:
    return status;
}

static const char *describe_masked(const void *self, tsr__hook_time time) {
    const tsr__masked_upscaler *u = self;
    return is_full(u, time) ? "everything twice (base, then full sampler)"
           : u->keep        ? "outside and inside the mask, on one canvas"
                            : "outside, then inside the mask";
}

void tsr__masked_upscaler_table(tsr__upscaler *out, const tsr__masked_upscaler *self) {
    const tsr_denoiser *denoiser = self->base.guide.denoiser;
    *out = (tsr__upscaler){ .self = self,
                            .check = check_masked,
                            .upscale = upscale_masked,
                            .count = count_masked,
                            .describe = describe_masked,
                            .regions = 1,
                            .latent_scale = denoiser ? denoiser->latent_scale : 1.0f,
                            .vae = self->path.vae };
}
