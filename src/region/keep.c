/* region/keep.c - plans a keep run: canvas sigmas, each actor's own sigmas, seeds, and one lockstep a canvas step.
 *
 * Source of the rules: docs/keep.md. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "region/canvas.h"
#include "region/plan_priv.h"

/* Two sigmas nearer than this (relative) are one. */
#define SAME_SIGMA 1e-3f

/* An actor's sigmas as if it were alone: the options' steps, denoise or window, its own scheduler and sampler. */
static tsr_status own_sigmas(float **out, int *n_out, const tsr_plan *plan, const tsr__actor *actor, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr_regional_options *o = &plan->options;
    int window = o->system == TSR_SYSTEM_REGIONAL_ADVANCED;
    float *sigmas = NULL;
    TSR_TRY(tsr_ksampler_sigmas(&sigmas, n_out, actor->guide.denoiser->table, actor->scheduler, actor->sampler,
                                o->steps, window ? 1.0 : o->denoise, err));
    if (window) {
        int last = *n_out - 1;
        if (o->end_step < last) {
            last = o->end_step;
            if (!o->leftover_noise) sigmas[last] = 0.0f;
        }
        int start = o->start_step < last ? o->start_step : last;
        *n_out = last + 1 - start;
        memmove(sigmas, sigmas + start, (size_t)*n_out * sizeof *sigmas);
    }
    *out = sigmas;
    sigmas = NULL;
done:
    tsr_free(sigmas);
    return status;
}

/* The canvas sigmas with the actor's own strictly between them. Below the last positive canvas sigma there are none:
 * the canvas-wide Brownian noise ends there. */
static tsr_status merge_sigmas(tsr__actor *actor, const tsr_plan *plan, const float *own, int n_own, tsr_error *err) {
    tsr_status status = TSR_OK;
    int next = 0;
    TSR_ALLOC(err, actor->sigmas, plan->n_sigmas + n_own);
    TSR_ALLOC(err, actor->boundary, plan->n_sigmas);
    for (int i = 0; i < plan->n_sigmas; i++) {
        float at = plan->sigmas[i], below = i + 1 < plan->n_sigmas ? plan->sigmas[i + 1] : at;
        actor->boundary[i] = actor->n_sigmas;
        actor->sigmas[actor->n_sigmas++] = at;
        while (next < n_own && own[next] >= at * (1.0f - SAME_SIGMA)) next++;
        for (; below > 0.0f && next < n_own && own[next] > below * (1.0f + SAME_SIGMA); next++) {
            float before = actor->sigmas[actor->n_sigmas - 1];
            if (own[next] < before * (1.0f - SAME_SIGMA)) actor->sigmas[actor->n_sigmas++] = own[next];
        }
    }
done:
    return status;
}

static int same_steps(const tsr__actor *a, const tsr__actor *b) {
    return a->first == b->first && a->n_sigmas == b->n_sigmas &&
           memcmp(a->sigmas, b->sigmas, (size_t)a->n_sigmas * sizeof(float)) == 0;
}

/* Actors on the same steps draw the same noises in the same order: one canvas-wide stream. Others would draw noises
 * again that the canvas already holds, so they get a stream of their own. A Brownian tree is a function of sigma:
 * always shared. */
static void set_seed(tsr_plan *plan, int k) {
    tsr__actor *actor = &plan->actors[k];
    int index = tsr_sampler_find(actor->sampler), stream = 0;
    actor->seed = plan->options.seed;
    if (index >= 0 && (tsr_sampler_flags(index) & TSR_SAMPLER_BROWNIAN)) return;
    while (stream < k && !same_steps(&plan->actors[stream], actor)) stream++;
    actor->seed += (uint64_t)stream * UINT64_C(0x9E3779B97F4A7C15);
}

/* The steps in which a region takes part: its shares of the run, and not the base's own first ones. */
static tsr_status set_window(tsr_plan *plan, int k, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__actor *actor = &plan->actors[k];
    int base_only = plan->options.system == TSR_SYSTEM_REGIONAL ? plan->options.base_only_steps : 0;
    actor->last = plan->steps;
    if (k == 0) goto done;
    actor->first = (int)floor((double)actor->start * (double)plan->steps + 0.5);
    actor->last = (int)floor((double)actor->end * (double)plan->steps + 0.5);
    if (actor->last <= actor->first)
        TSR_FAIL(err, TSR_BAD_ARGUMENT,
                 "%s: from %g to %g of the run holds none of its %d steps; widen it, or take "
                 "more steps",
                 actor->label, (double)actor->start, (double)actor->end, plan->steps);
    if (actor->first < base_only) actor->first = base_only < plan->steps ? base_only : plan->steps;
done:
    return status;
}

static tsr_status set_actor(tsr_plan *plan, int k, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__actor *actor = &plan->actors[k];
    const tsr__actor *base = &plan->actors[0];
    float *own = NULL;
    int n_own = 0;
    int other_scheduler = k > 0 && strcmp(actor->scheduler, base->scheduler) != 0;
    actor->own_pace = (tsr_sampler_flags(tsr_sampler_find(actor->sampler)) & TSR_SAMPLER_OWN_SIGMAS) != 0;
    if (other_scheduler && actor->own_pace)
        TSR_TRY(tsr__plan_warn(plan, err, "%s: %s chooses its own sigmas: its scheduler has no meaning in history keep",
                               actor->label, actor->sampler));
    else if (other_scheduler) TSR_TRY(own_sigmas(&own, &n_own, plan, actor, err));
    TSR_TRY(merge_sigmas(actor, plan, own, n_own, err));
    TSR_TRY(set_window(plan, k, err));
    set_seed(plan, k);
    if (actor->sigma_factor != 1.0)
        TSR_TRY(tsr__plan_warn(plan, err, "%s: sigma_factor has no meaning in history keep", actor->label));
    if (base->guide.denoiser->latent_scale != actor->guide.denoiser->latent_scale)
        TSR_FAIL(err, TSR_UNSUPPORTED,
                 "%s: its model scales latents by %g, the base's by %g; regions that share a canvas need models of one "
                 "family",
                 actor->label, (double)actor->guide.denoiser->latent_scale, (double)base->guide.denoiser->latent_scale);
done:
    tsr_free(own);
    return status;
}

static tsr_status warn_ignored(tsr_plan *plan, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr_regional_options *o = &plan->options;
    if (o->system == TSR_SYSTEM_REGIONAL && o->seed_2nd_mode != TSR_SEED_2ND_IGNORE)
        TSR_TRY(tsr__plan_warn(plan, err, "seed_2nd has no meaning in history keep: one canvas, one noise"));
    if (!o->restore_latent)
        TSR_TRY(
            tsr__plan_warn(plan, err,
                           "restore_latent off has no meaning in history keep: each region's result is its share of "
                           "one canvas"));
    if (o->recovery_mode == TSR_RECOVERY_RATIO_ADDITIONAL ||
        (o->recovery_sampler && strcmp(o->recovery_sampler, "AUTO") != 0))
        TSR_TRY(tsr__plan_warn(plan, err,
                               "the recovery pass has no meaning in history keep: samplers go on with their history"));
    if (o->system == TSR_SYSTEM_REGIONAL && o->base_only_steps >= plan->n_sigmas - 1 && plan->n_actors > 1)
        TSR_TRY(tsr__plan_warn(plan, err, "base_only_steps is %d of %d steps: the regions never start",
                               o->base_only_steps, plan->n_sigmas - 1));
done:
    return status;
}

/* 1 when the base is the only one to take part in a step. */
static int base_alone(const tsr_plan *plan, int i) {
    const unsigned char *active = plan->active + (size_t)i * (size_t)plan->n_actors;
    for (int k = 1; k < plan->n_actors; k++)
        if (active[k]) return 0;
    return 1;
}

/* 1 when no region has started yet. */
static int before_regions(const tsr_plan *plan, int i) {
    for (int k = 1; k < plan->n_actors; k++)
        if (i >= plan->actors[k].first) return 0;
    return plan->n_actors > 1;
}

/* The list of steps; a dry run tells what each costs, and finds samplers that cannot keep step. */
static tsr_status list_steps(tsr_plan *plan, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__canvas *dry = NULL;
    tsr__op noise = { 0 }, finish = { 0 };
    noise.shown.kind = TSR_PLAN_NOISE;
    noise.shown.region = noise.shown.step = -1;
    noise.shown.sigma_from = noise.shown.sigma_to = plan->sigmas[0];
    noise.seed = plan->options.seed;
    TSR_TRY(tsr__plan_add(plan, &noise, err));
    TSR_TRY(tsr__canvas_new_dry(&dry, plan, err));
    for (int i = 0; i + 1 < plan->n_sigmas; i++) {
        tsr__op step = { 0 };
        int alone = base_alone(plan, i);
        tsr__work work;
        step.shown.kind = TSR_PLAN_LOCKSTEP;
        step.shown.phase = before_regions(plan, i) ? TSR_PHASE_BASE_ONLY : TSR_PHASE_SAMPLE;
        step.shown.region = alone ? 0 : -1;
        step.shown.step = i;
        step.shown.sigma_from = plan->sigmas[i];
        step.shown.sigma_to = plan->sigmas[i + 1];
        step.shown.sampler = alone ? plan->actors[0].sampler : NULL;
        TSR_TRY(tsr__canvas_step(dry, i, &work, err));
        step.shown.evaluations = work.evaluations;
        TSR_TRY(tsr__plan_add(plan, &step, err));
    }
    for (int k = 0; k < plan->n_actors; k++)
        plan->actors[k].network_evaluations = tsr__canvas_evaluations_of(dry, plan->actors[k].guide.denoiser);
    finish.shown.kind = TSR_PLAN_FINISH;
    finish.shown.region = finish.shown.step = -1;
    TSR_TRY(tsr__plan_add(plan, &finish, err));
done:
    tsr__canvas_free(dry);
    return status;
}

tsr_status tsr__plan_keep(tsr_plan *plan, tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_TRY(own_sigmas(&plan->sigmas, &plan->n_sigmas, plan, &plan->actors[0], err));
    if (plan->n_sigmas < 2)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "no steps to sample: start_step %d is at or beyond the end",
                 plan->options.start_step);
    plan->steps = plan->n_sigmas - 1;
    TSR_TRY(tsr__plan_set_weights(plan, err));
    for (int k = 0; k < plan->n_actors; k++) TSR_TRY(set_actor(plan, k, err));
    TSR_TRY(tsr__plan_set_active(plan, err));
    TSR_TRY(warn_ignored(plan, err));
    TSR_TRY(tsr__plan_set_sharing(plan, err));
    TSR_TRY(list_steps(plan, err));
done:
    return status;
}
