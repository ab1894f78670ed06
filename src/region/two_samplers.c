/* region/two_samplers.c - plans TwoSamplersForMask and TwoAdvancedSamplersForMask; the runner is that of all plans.
 *
 * Source of the order of calls: reference/nodes/TwoSamplersForMask.txt and TwoAdvancedSamplersForMask.txt. Must not know
 * how a call is carried out. */
#include "tessera/two_samplers.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "region/calls.h"
#include "sample/sample_priv.h"

enum { BASE = 0, INSIDE = 1 };

/* Most schedule steps a denoise below 1 may come to. */
#define MOST_STEPS 1e6

/* What both nodes know of a sampler. */
typedef struct painter {
    const tsr_guide *guide;
    const char *sampler, *scheduler;
    double sigma_factor;
    const char *sampler_opt;
    const tsr_solver_options *solver;
} painter;

static tsr_status set_actor(tsr__actor *actor, const char *label, const painter *from, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_error reason = TSR_ERROR_INIT;
    float *sigmas = NULL;
    int n = 0;
    actor->guide = *from->guide;
    actor->sigma_factor = from->sigma_factor;
    actor->strength = 1.0f;
    actor->label = tsr__strdup(label);
    actor->sampler = tsr__strdup(from->sampler ? from->sampler : "euler");
    actor->scheduler = tsr__strdup(from->scheduler ? from->scheduler : "normal");
    if (!actor->label || !actor->sampler || !actor->scheduler) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory for a name");
    TSR_TRY(tsr__check_guide(&actor->guide, label, err));
    TSR_TRY(tsr__check_sampler(actor->sampler, label, err));
    TSR_TRY(tsr__actor_set_opt(actor, from->sampler_opt, from->solver, 0, err));
    TSR_TRY(tsr__check_factor(actor->sigma_factor, label, err));
    status = tsr_schedule_sigmas(&sigmas, &n, actor->guide.denoiser->table, actor->scheduler, 20, &reason);
    if (status != TSR_OK) TSR_FAIL(err, status, "%s: %s", label, reason.message);
done:
    tsr_free(sigmas);
    return status;
}

static tsr_status check_mask(const tsr_mask *mask, tsr_error *err) {
    if (!mask || !mask->values || mask->width < 1 || mask->height < 1)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "there is no mask; give one that is 1 where the inside sampler paints");
    for (size_t i = 0; i < (size_t)mask->width * (size_t)mask->height; i++)
        if (!isfinite(mask->values[i]))
            return tsr__fail(err, TSR_BAD_ARGUMENT, "the mask holds NaN or infinity at x %d, y %d; masks are 0 to 1",
                             (int)(i % (size_t)mask->width), (int)(i / (size_t)mask->width));
    return TSR_OK;
}

static tsr_status check_run(const char *who, int steps, double denoise, tsr_error *err) {
    if (steps < 1 || steps > 10000)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "%s: steps is %d; give 1 to 10000", who, steps);
    if (!(denoise > 0.0 && denoise <= 1.0) || (double)steps / denoise > MOST_STEPS)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "%s: denoise is %g; give more than 0, up to 1", who, denoise);
    return TSR_OK;
}

static tsr_status check_shape(const int shape[4], tsr_error *err) {
    for (int i = 0; i < 4; i++)
        if (shape[i] < 1 || shape[i] > 4096)
            return tsr__fail(err, TSR_BAD_ARGUMENT, "latent shape %dx%dx%dx%d; every size is 1 to 4096", shape[0],
                             shape[1], shape[2], shape[3]);
    return TSR_OK;
}

/* A restart plan of two actors and the base's mask; the inside's mask is the caller's to set. */
static tsr_status new_plan(tsr_plan **out, const painter *base, const painter *inside, const tsr_mask *mask,
                           const int shape[4], tsr_error *err) {
    tsr_status status = TSR_OK;
    static const tsr_regional_options defaults = TSR_REGIONAL_OPTIONS_INIT;
    tsr_plan *plan = NULL;
    *out = NULL;
    TSR_TRY(check_shape(shape, err));
    TSR_TRY(check_mask(mask, err));
    TSR_ALLOC_ZERO(err, plan, 1);
    plan->options = defaults;
    plan->options.history = TSR_HISTORY_RESTART;
    memcpy(plan->shape, shape, sizeof plan->shape);
    TSR_ALLOC_ZERO(err, plan->actors, 2);
    plan->n_actors = 2;
    TSR_TRY(set_actor(&plan->actors[BASE], "base", base, err));
    TSR_TRY(set_actor(&plan->actors[INSIDE], "inside the mask", inside, err));
    TSR_TRY(tsr_mask_inverse_not_one(&plan->inverse, mask, err));
    if (!(tsr_mask_max(mask) > 0.0f))
        TSR_TRY(tsr__plan_warn(plan, err, "the mask is empty: the inside sampler runs without leaving a trace"));
    if (!(tsr_mask_max(plan->inverse) > 0.0f))
        TSR_TRY(tsr__plan_warn(plan, err, "the mask is 1 everywhere: the base runs without leaving a trace"));
    *out = plan;
    plan = NULL;
done:
    tsr_plan_free(plan);
    return status;
}

static tsr_status add_finish(tsr_plan *plan, tsr_error *err) {
    tsr__op op = { 0 };
    op.shown.kind = TSR_PLAN_FINISH;
    op.shown.region = op.shown.step = -1;
    return tsr__plan_add(plan, &op, err);
}

/* KSAMPLER.sample: the last `steps` of int(steps / denoise), noise added, none left over. */
static tsr_status add_whole_run(tsr_plan *plan, int k, const tsr_ksampler_provider *provider, tsr_error *err) {
    tsr__op op = { 0 };
    op.shown.region = k;
    op.shown.step = plan->steps;
    op.schedule_steps = (int)((double)provider->steps / provider->denoise);
    op.start = op.schedule_steps - provider->steps;
    op.end = op.schedule_steps;
    op.seed = provider->seed;
    op.add_noise = 1;
    op.mask = k == BASE ? TSR__MASK_INVERSE : TSR__MASK_REGION;
    plan->steps += provider->steps;
    return tsr__plan_add_call(plan, &op, err);
}

/* One canvas along the base's schedule; the inside is a region of it, with noise of its own seed. */
static tsr_status keep_two(tsr_plan **out, const tsr_ksampler_provider *base, const tsr_ksampler_provider *inside,
                           const tsr_mask *mask, int overlap, const int shape[4], tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_plan *plan = NULL;
    tsr_region_base under = TSR_REGION_BASE_INIT;
    tsr_region region = TSR_REGION_INIT;
    tsr_regional_options options = TSR_REGIONAL_OPTIONS_INIT;
    under.guide = base->guide;
    under.sampler = base->sampler;
    under.scheduler = base->scheduler;
    region.guide = inside->guide;
    region.sampler = inside->sampler ? inside->sampler : "euler";
    region.scheduler = inside->scheduler ? inside->scheduler : "normal";
    region.mask = mask;
    region.variation_seed = inside->seed;
    region.variation_strength = inside->seed == base->seed ? 0.0f : 1.0f;
    options.steps = base->steps;
    options.denoise = base->denoise;
    options.seed = base->seed;
    options.overlap = overlap;
    TSR_TRY(tsr_plan_new(&plan, &under, &region, 1, &options, shape, err));
    if (inside->steps != base->steps || inside->denoise < base->denoise || inside->denoise > base->denoise)
        TSR_TRY(tsr__plan_warn(plan, err,
                               "history keep has one canvas: the inside's %d steps of denoise %g give way to "
                               "the base's %d steps of %g",
                               inside->steps, inside->denoise, base->steps, base->denoise));
    *out = plan;
    plan = NULL;
done:
    tsr_plan_free(plan);
    return status;
}

tsr_status tsr_two_samplers_plan(tsr_plan **out, const tsr_ksampler_provider *base, const tsr_ksampler_provider *inside,
                                 const tsr_mask *mask, const tsr_two_samplers_options *options,
                                 const int latent_shape[4], tsr_error *err) {
    static const tsr_two_samplers_options defaults = TSR_TWO_SAMPLERS_OPTIONS_INIT;
    tsr_status status = TSR_OK;
    tsr_plan *plan = NULL;
    if (!out) return tsr__fail(err, TSR_BAD_ARGUMENT, "tsr_two_samplers_plan: out is NULL");
    *out = NULL;
    if (!options) options = &defaults;
    if (!base || !inside || !latent_shape)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "tsr_two_samplers_plan: base, inside or latent_shape is NULL");
    if (base->struct_size != sizeof *base || inside->struct_size != sizeof *inside ||
        options->struct_size != sizeof *options)
        TSR_FAIL(err, TSR_BAD_ARGUMENT,
                 "tsr_two_samplers_plan: a struct_size is wrong; start from TSR_KSAMPLER_PROVIDER_INIT and "
                 "TSR_TWO_SAMPLERS_OPTIONS_INIT");
    TSR_TRY(check_run("base", base->steps, base->denoise, err));
    TSR_TRY(check_run("inside the mask", inside->steps, inside->denoise, err));
    if (options->history == TSR_HISTORY_KEEP) {
        TSR_TRY(keep_two(out, base, inside, mask, options->overlap, latent_shape, err));
        goto done;
    }
    painter outer = { &base->guide, base->sampler, base->scheduler, 1.0, NULL, NULL };
    painter inner = { &inside->guide, inside->sampler, inside->scheduler, 1.0, NULL, NULL };
    TSR_TRY(new_plan(&plan, &outer, &inner, mask, latent_shape, err));
    plan->options.seed = base->seed;
    TSR_TRY(tsr_mask_copy(&plan->actors[INSIDE].grown, mask, err));
    TSR_TRY(add_whole_run(plan, BASE, base, err));
    TSR_TRY(add_whole_run(plan, INSIDE, inside, err));
    TSR_TRY(add_finish(plan, err));
    *out = plan;
    plan = NULL;
done:
    tsr_plan_free(plan);
    return status;
}

/* RegionalSampler with one region: keep, and what later releases of the node do. */
static tsr_status as_regional(tsr_plan **out, const tsr_region_base *base, const tsr_region *inside,
                              const tsr_two_advanced_options *o, const int shape[4], tsr_error *err) {
    tsr_regional_options options = TSR_REGIONAL_OPTIONS_INIT;
    options.history = o->history;
    options.steps = o->steps;
    options.seed = o->seed;
    options.denoise = o->denoise;
    options.overlap = o->overlap_factor;
    if (o->history == TSR_HISTORY_RESTART) {
        options.base_only_steps = 1;
        options.restore_latent = 1;
        options.recovery_mode = TSR_RECOVERY_RATIO_BETWEEN;
        options.recovery_ratio = 0.3f;
    }
    return tsr_plan_new(out, base, inside, 1, &options, shape, err);
}

/* The node's own loop. */
static tsr_status list_advanced(tsr_plan *plan, const tsr_two_advanced_options *o, tsr_error *err) {
    tsr_status status = TSR_OK;
    int all = (int)((double)o->steps / o->denoise), first = all - o->steps;
    plan->steps = o->steps;
    for (int i = first; i < all; i++)
        for (int k = BASE; k <= INSIDE; k++) {
            tsr__op op = { 0 };
            op.shown.region = k;
            op.shown.step = i - first;
            op.schedule_steps = all;
            op.start = i;
            op.end = i + 1;
            op.seed = o->seed;
            op.add_noise = k == BASE && i == first;
            op.leftover = k == BASE || i + 1 < all;
            op.recovers = 1;
            op.mask = k == BASE ? TSR__MASK_INVERSE : TSR__MASK_REGION;
            TSR_TRY(tsr__plan_add_call(plan, &op, err));
        }
    TSR_TRY(add_finish(plan, err));
done:
    return status;
}

static tsr_status own_loop(tsr_plan **out, const tsr_region_base *base, const tsr_region *inside,
                           const tsr_two_advanced_options *o, const int shape[4], tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_plan *plan = NULL;
    painter outer = { &base->guide,      base->sampler, base->scheduler, (double)base->sigma_factor,
                      base->sampler_opt, base->solver };
    painter inner = { &inside->guide,
                      inside->sampler ? inside->sampler : base->sampler,
                      inside->scheduler ? inside->scheduler : base->scheduler,
                      (double)inside->sigma_factor,
                      inside->sampler_opt,
                      inside->solver };
    TSR_TRY(new_plan(&plan, &outer, &inner, inside->mask, shape, err));
    plan->options.seed = o->seed;
    plan->options.overlap = o->overlap_factor;
    plan->options.recovery_mode = TSR_RECOVERY_RATIO_ADDITIONAL;
    plan->options.recovery_ratio = 1.0f;
    TSR_TRY(
        tsr_mask_region_growth(&plan->actors[INSIDE].grown, inside->mask, shape[3], shape[2], o->overlap_factor, err));
    TSR_TRY(list_advanced(plan, o, err));
    *out = plan;
    plan = NULL;
done:
    tsr_plan_free(plan);
    return status;
}

tsr_status tsr_two_advanced_plan(tsr_plan **out, const tsr_region_base *base, const tsr_region *inside,
                                 const tsr_two_advanced_options *options, const int latent_shape[4], tsr_error *err) {
    static const tsr_two_advanced_options defaults = TSR_TWO_ADVANCED_OPTIONS_INIT;
    tsr_status status = TSR_OK;
    if (!out) return tsr__fail(err, TSR_BAD_ARGUMENT, "tsr_two_advanced_plan: out is NULL");
    *out = NULL;
    if (!options) options = &defaults;
    if (!base || !inside || !latent_shape)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "tsr_two_advanced_plan: base, inside or latent_shape is NULL");
    if (base->struct_size != sizeof *base || inside->struct_size != sizeof *inside ||
        options->struct_size != sizeof *options)
        TSR_FAIL(err, TSR_BAD_ARGUMENT,
                 "tsr_two_advanced_plan: a struct_size is wrong; start from TSR_REGION_BASE_INIT, TSR_REGION_INIT and "
                 "TSR_TWO_ADVANCED_OPTIONS_INIT");
    TSR_TRY(check_run("TwoAdvancedSamplersForMask", options->steps, options->denoise, err));
    if (options->overlap_factor < 0 || options->overlap_factor > 10000)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "overlap_factor is %d; give 0 to 10000", options->overlap_factor);
    if (options->history == TSR_HISTORY_KEEP || options->delegate)
        TSR_TRY(as_regional(out, base, inside, options, latent_shape, err));
    else TSR_TRY(own_loop(out, base, inside, options, latent_shape, err));
done:
    return status;
}
