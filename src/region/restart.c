/* region/restart.c - plans the Impact Pack's RegionalSampler and RegionalSamplerAdvanced, call by call.
 *
 * Source of the order of calls: reference/nodes/RegionalSampler.txt and RegionalSamplerAdvanced.txt; quirks that decide
 * numbers are kept, and listed in docs/restart.md. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "region/calls.h"

/* The nodes wrap mixed seeds at 2^50. */
#define SEED_WRAP UINT64_C(1125899906842624)

/* 1 where no region has anything, at picture resolution. */
static tsr_status make_inverse(tsr_plan *plan, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr_mask *first = plan->actors[1].mask;
    size_t count = (size_t)first->width * (size_t)first->height;
    TSR_TRY(tsr_mask_new(&plan->inverse, first->width, first->height, 1.0f, err));
    for (int k = 1; k < plan->n_actors; k++) {
        const tsr__actor *actor = &plan->actors[k];
        for (size_t i = 0; i < count; i++)
            if (actor->mask->values[i] > 0.0f) plan->inverse->values[i] = 0.0f;
    }
done:
    return status;
}

static tsr_status grow_masks(tsr_plan *plan, tsr_error *err) {
    tsr_status status = TSR_OK;
    for (int k = 1; k < plan->n_actors; k++) {
        tsr__actor *actor = &plan->actors[k];
        int covers = 0;
        TSR_TRY(tsr_mask_region_growth(&actor->grown, actor->mask, actor->mask->width, actor->mask->height,
                                       plan->options.overlap, err));
        size_t count = (size_t)actor->grown->width * (size_t)actor->grown->height;
        for (size_t i = 0; i < count; i++) covers |= actor->grown->values[i] > 0.0f;
        if (!covers && plan->options.allow_empty)
            TSR_TRY(tsr__plan_warn(plan, err, "%s covers no pixel: its mask is empty", actor->label));
        else if (!covers)
            TSR_FAIL(err, TSR_BAD_ARGUMENT,
                     "%s covers no pixel: its mask is empty; paint where the region shall be, or "
                     "give a larger overlap",
                     actor->label);
        if (actor->strength != 1.0f || actor->feather_px != 0.0f)
            TSR_TRY(
                tsr__plan_warn(plan, err, "%s: strength and feather have no meaning in history restart", actor->label));
    }
done:
    return status;
}

void tsr__restart_call(tsr__impact_call *out, const tsr_plan *plan, const tsr__op *op, const float *noise) {
    const tsr__actor *actor = &plan->actors[op->shown.region];
    memset(out, 0, sizeof *out);
    out->guide = &actor->guide;
    out->sampler = actor->sampler;
    out->scheduler = actor->scheduler;
    out->sampler_opt = actor->sampler_opt;
    out->solver = &actor->solver;
    out->sigma_factor = actor->sigma_factor;
    out->add_noise = op->add_noise;
    out->seed = op->seed;
    out->steps = op->schedule_steps;
    out->start = op->start;
    out->end = op->end;
    out->leftover = op->leftover;
    out->recovery = TSR__RECOVERY_DISABLE;
    if (op->recovers && plan->options.recovery_mode == TSR_RECOVERY_RATIO_ADDITIONAL)
        out->recovery = TSR__RECOVERY_ADDITIONAL;
    if (op->recovers && plan->options.recovery_mode == TSR_RECOVERY_RATIO_BETWEEN)
        out->recovery = TSR__RECOVERY_BETWEEN;
    out->recovery_sampler = plan->options.recovery_sampler;
    out->recovery_ratio = (double)plan->options.recovery_ratio;
    out->noise = op->uses_noise ? noise : NULL;
}

tsr_status tsr__plan_add_call(tsr_plan *plan, tsr__op *op, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__impact_call call;
    tsr__impact_passes passes = { 0 };
    int64_t cost[2];
    const tsr__actor *actor = &plan->actors[op->shown.region];
    op->shown.kind = TSR_PLAN_CALL;
    op->shown.sampler = actor->sampler_opt ? actor->sampler_opt : actor->sampler;
    tsr__restart_call(&call, plan, op, NULL);
    TSR_TRY(tsr__impact_passes_init(&passes, &call, err));
    TSR_TRY(tsr__impact_count(cost, &passes, &actor->guide, err));
    if (!passes.runs[0] && !passes.runs[1]) goto done;
    op->shown.evaluations = cost[0] + cost[1];
    tsr__impact_passes_clear(&passes);
    call.recovery = TSR__RECOVERY_DISABLE; /* shown are the schedule's own sigmas, not what the ratios make of them */
    call.sigma_factor = 1.0;
    TSR_TRY(tsr__impact_passes_init(&passes, &call, err));
    if (passes.pass[0].n_sigmas >= 2) {
        op->shown.sigma_from = passes.pass[0].sigmas[0];
        op->shown.sigma_to = passes.pass[0].sigmas[passes.pass[0].n_sigmas - 1];
    }
    TSR_TRY(tsr__plan_add(plan, op, err));
done:
    tsr__impact_passes_clear(&passes);
    return status;
}

static tsr_status add_simple(tsr_plan *plan, tsr_plan_kind kind, int region, int step, uint64_t seed, tsr_error *err) {
    tsr__op op = { 0 };
    op.shown.phase = step >= 0 && step < plan->first_regional ? TSR_PHASE_BASE_ONLY : TSR_PHASE_SAMPLE;
    op.shown.kind = kind;
    op.shown.region = region;
    op.shown.step = step;
    op.seed = seed;
    return tsr__plan_add(plan, &op, err);
}

/* The base on its own part, then every region on its own. With restore_latent each region's result is put into the
 * base's through its mask; without, it simply goes on from it. `first` is what the base call of this step has
 * besides. */
static tsr_status add_round(tsr_plan *plan, tsr__op first, tsr_error *err) {
    tsr_status status = TSR_OK;
    if (first.uses_noise && first.add_noise)
        TSR_TRY(add_simple(plan, TSR_PLAN_NOISE, -1, first.shown.step, first.seed, err));
    first.end = first.start + 1;
    first.leftover = 1;
    first.recovers = 1;
    first.mask = TSR__MASK_INVERSE;
    first.shown.region = 0;
    tsr__op base = first;
    TSR_TRY(tsr__plan_add_call(plan, &base, err));
    for (int k = 1; k < plan->n_actors; k++) {
        tsr__op op = first;
        op.shown.region = k;
        op.mask = TSR__MASK_REGION;
        op.add_noise = op.uses_noise = 0;
        int before = plan->n_ops;
        TSR_TRY(tsr__plan_add_call(plan, &op, err));
        if (plan->options.restore_latent && plan->n_ops > before)
            TSR_TRY(add_simple(plan, TSR_PLAN_COMPOSITE, k, first.shown.step, 0, err));
    }
done:
    return status;
}

/* The nodes' last call: the base once more, with its noise removed. With restore_latent they throw its result away. */
static tsr_status add_final(tsr_plan *plan, int start, int leftover, int schedule_steps, uint64_t seed,
                            tsr_error *err) {
    tsr__op op = { 0 };
    if (plan->options.restore_latent) return TSR_OK;
    op.start = start;
    op.end = start + 1;
    op.leftover = leftover;
    op.recovers = 1;
    op.schedule_steps = schedule_steps;
    op.seed = seed;
    op.mask = TSR__MASK_INVERSE;
    op.shown.step = plan->steps > 0 ? plan->steps - 1 : 0;
    return tsr__plan_add_call(plan, &op, err);
}

/* The seed of the regional part. What leaves 64 bits, or -2^63 downwards, is refused by the reference's generator too. */
static tsr_status second_seed(uint64_t *out, const tsr_regional_options *o, tsr_error *err) {
    *out = o->seed;
    switch (o->seed_2nd_mode) {
    case TSR_SEED_2ND_IGNORE: return TSR_OK;
    case TSR_SEED_2ND_ADD:
        if (o->seed_2nd > SEED_WRAP && o->seed_2nd - SEED_WRAP > UINT64_MAX - o->seed)
            return tsr__fail(err, TSR_BAD_ARGUMENT, "seed + seed_2nd is over 64 bits; give smaller seeds");
        *out = o->seed + o->seed_2nd; /* may wrap: what is taken off brings it back */
        if (o->seed_2nd > UINT64_MAX - o->seed || *out > SEED_WRAP) *out -= SEED_WRAP;
        return TSR_OK;
    case TSR_SEED_2ND_SUBTRACT:
        if (o->seed < o->seed_2nd && o->seed_2nd - o->seed > (UINT64_C(1) << 63) + SEED_WRAP)
            return tsr__fail(err, TSR_BAD_ARGUMENT, "seed - seed_2nd is under -2^63; give seeds that are closer");
        *out = o->seed - o->seed_2nd; /* a negative one is taken as its two's complement, as the generator does */
        if (o->seed < o->seed_2nd) *out += SEED_WRAP;
        return TSR_OK;
    case TSR_SEED_2ND_FIXED:
    case TSR_SEED_2ND_INCREMENT:
    case TSR_SEED_2ND_DECREMENT:
    case TSR_SEED_2ND_RANDOMIZE: *out = o->seed_2nd; return TSR_OK;
    }
    return tsr__fail(err, TSR_BAD_ARGUMENT, "seed_2nd_mode %d is not one of tsr_seed_2nd_mode", (int)o->seed_2nd_mode);
}

/* RegionalSampler. */
static tsr_status list_regional(tsr_plan *plan, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr_regional_options *o = &plan->options;
    uint64_t seed = o->seed;
    int varies = tsr__plan_varies(plan);
    int all = (int)((double)o->steps / o->denoise), start = all - o->steps;
    int leftover = o->base_only_steps > 0 && o->seed_2nd_mode == TSR_SEED_2ND_IGNORE;
    plan->steps = o->steps;
    plan->first_regional = o->base_only_steps;
    if (o->base_only_steps > 0) {
        tsr__op op = { 0 };
        op.shown.phase = TSR_PHASE_BASE_ONLY;
        op.schedule_steps = all;
        op.start = start;
        op.end = start + o->base_only_steps;
        op.seed = seed;
        op.add_noise = 1;
        op.leftover = leftover;
        op.uses_noise = varies;
        if (varies) TSR_TRY(add_simple(plan, TSR_PLAN_NOISE, -1, 0, seed, err));
        TSR_TRY(tsr__plan_add_call(plan, &op, err));
    }
    TSR_TRY(second_seed(&seed, o, err));
    for (int i = start + o->base_only_steps; i < all; i++) {
        tsr__op op = { 0 };
        op.schedule_steps = all;
        op.start = i;
        op.shown.step = i - start;
        op.seed = seed;
        op.add_noise = !leftover && i == start + o->base_only_steps;
        op.uses_noise = !leftover; /* the node gives its noise to the base at every step, not only at the first */
        TSR_TRY(add_round(plan, op, err));
    }
    TSR_TRY(add_final(plan, all, 0, all, seed, err));
done:
    return status;
}

/* RegionalSamplerAdvanced. */
static tsr_status list_advanced(tsr_plan *plan, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr_regional_options *o = &plan->options;
    int end = o->end_step < o->steps ? o->end_step : o->steps;
    if (end < 1) return TSR_OK; /* the node gives the latent back */
    plan->steps = end > o->start_step ? end - o->start_step : 0;
    for (int i = o->start_step; i < end - 1; i++) {
        tsr__op op = { 0 };
        op.schedule_steps = o->steps;
        op.start = i;
        op.shown.step = i - o->start_step;
        op.seed = o->seed;
        op.add_noise = i == o->start_step && o->add_noise;
        op.uses_noise = op.add_noise && tsr__plan_varies(plan);
        TSR_TRY(add_round(plan, op, err));
    }
    TSR_TRY(add_final(plan, end - 1, o->leftover_noise, o->steps, o->seed, err));
done:
    return status;
}

static tsr_status check(const tsr_plan *plan, tsr_error *err) {
    const tsr_regional_options *o = &plan->options;
    const tsr_mask *first;
    for (int k = 0; k < plan->n_actors; k++) {
        tsr_status status = tsr__check_factor(plan->actors[k].sigma_factor, plan->actors[k].label, err);
        if (status != TSR_OK) return status;
    }
    if (plan->n_actors < 2)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "history restart needs at least one region; add one, or use keep");
    first = plan->actors[1].mask;
    for (int k = 2; k < plan->n_actors; k++) {
        const tsr_mask *mask = plan->actors[k].mask;
        if (mask->width != first->width || mask->height != first->height)
            return tsr__fail(err, TSR_BAD_ARGUMENT,
                             "%s: its mask is %dx%d, the first region's is %dx%d; make them equal",
                             plan->actors[k].label, mask->width, mask->height, first->width, first->height);
    }
    if (!(o->recovery_ratio >= 0.0f && o->recovery_ratio <= 1.0f))
        return tsr__fail(err, TSR_BAD_ARGUMENT, "recovery_ratio is %g; give 0 to 1", (double)o->recovery_ratio);
    return TSR_OK;
}

tsr_status tsr__plan_restart(tsr_plan *plan, tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_TRY(check(plan, err));
    TSR_TRY(make_inverse(plan, err));
    TSR_TRY(grow_masks(plan, err));
    if (plan->options.system == TSR_SYSTEM_REGIONAL) TSR_TRY(list_regional(plan, err));
    else TSR_TRY(list_advanced(plan, err));
    TSR_TRY(add_simple(plan, TSR_PLAN_FINISH, -1, -1, 0, err));
done:
    return status;
}
