/* region/plan.c - makes and owns plans: checks the options, copies what it needs, lets the system list its steps.
 *
 * Must not know how a step is carried out. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "region/plan_priv.h"
#include "sample/sample_priv.h"

#define MAX_REGIONS 256

tsr_status tsr__plan_add(tsr_plan *plan, const tsr__op *op, tsr_error *err) {
    tsr_status status = TSR_OK;
    if (plan->n_ops == plan->cap_ops) {
        int cap = plan->cap_ops ? 2 * plan->cap_ops : 64;
        tsr__op *grown = NULL;
        TSR_ALLOC(err, grown, cap);
        if (plan->n_ops) memcpy(grown, plan->ops, (size_t)plan->n_ops * sizeof *grown);
        free(plan->ops);
        plan->ops = grown;
        plan->cap_ops = cap;
    }
    plan->ops[plan->n_ops++] = *op;
    plan->evaluations += op->shown.evaluations;
done:
    return status;
}

tsr_status tsr__plan_warn(tsr_plan *plan, tsr_error *err, const char *format, ...) {
    tsr_status status = TSR_OK;
    char text[TSR_ERROR_MESSAGE_SIZE];
    char **grown = NULL;
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    TSR_ALLOC_ZERO(err, grown, plan->n_warnings + 1);
    if (plan->n_warnings) memcpy(grown, plan->warnings, (size_t)plan->n_warnings * sizeof *grown);
    free(plan->warnings);
    plan->warnings = grown;
    plan->warnings[plan->n_warnings] = tsr__strdup(text);
    if (!plan->warnings[plan->n_warnings]) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory for a warning");
    plan->n_warnings++;
done:
    return status;
}

static void clear_actor(tsr__actor *actor) {
    free(actor->label);
    free(actor->sampler);
    free(actor->sampler_opt);
    free(actor->scheduler);
    tsr_mask_free(actor->mask);
    tsr_mask_free(actor->grown);
    free(actor->claims);
    free(actor->weights);
    free(actor->sigmas);
    free(actor->boundary);
}

void tsr_plan_free(tsr_plan *plan) {
    if (!plan) return;
    for (int k = 0; plan->actors && k < plan->n_actors; k++) clear_actor(&plan->actors[k]);
    for (int i = 0; i < plan->n_warnings; i++) free(plan->warnings[i]);
    free(plan->recovery_sampler);
    free(plan->actors);
    free(plan->ops);
    free(plan->warnings);
    tsr_mask_free(plan->inverse);
    tsr_free(plan->sigmas);
    free(plan->active);
    free(plan->no_couple);
    free(plan);
}

static tsr_status copy_text(char **out, const char *text, tsr_error *err) {
    *out = tsr__strdup(text);
    return *out ? TSR_OK : tsr__fail(err, TSR_NO_MEMORY, "out of memory for a name");
}

tsr_status tsr__check_factor(double sigma_factor, const char *label, tsr_error *err) {
    if (sigma_factor > 0.0 && sigma_factor <= 10.0) return TSR_OK;
    return tsr__fail(err, TSR_BAD_ARGUMENT, "%s: sigma_factor is %g%s; give more than 0, up to 10", label, sigma_factor,
                     sigma_factor == 0.0 ? ", which leaves no noise level to sample at" : "");
}

tsr_status tsr__actor_set_opt(tsr__actor *actor, const char *sampler_opt, const tsr_solver_options *solver, int keep,
                              tsr_error *err) {
    static const tsr_solver_options usual = TSR_SOLVER_OPTIONS_INIT;
    tsr_status status = TSR_OK;
    actor->solver = solver && sampler_opt ? *solver : usual;
    if (!sampler_opt) goto done;
    TSR_TRY(tsr__check_sampler(sampler_opt, actor->label, err));
    TSR_TRY(copy_text(&actor->sampler_opt, sampler_opt, err));
    if (!keep) goto done;
    free(actor->sampler);
    actor->sampler = actor->sampler_opt;
    actor->sampler_opt = NULL;
done:
    return status;
}

static tsr_status check_names(const tsr__actor *actor, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_error reason = TSR_ERROR_INIT;
    float *sigmas = NULL;
    int n = 0;
    TSR_TRY(tsr__check_guide(&actor->guide, actor->label, err));
    TSR_TRY(tsr__check_sampler(actor->sampler, actor->label, err));
    status = tsr_schedule_sigmas(&sigmas, &n, actor->guide.denoiser->table, actor->scheduler, 20, &reason);
    if (status != TSR_OK) TSR_FAIL(err, status, "%s: %s", actor->label, reason.message);
done:
    tsr_free(sigmas);
    return status;
}

static tsr_status copy_mask(tsr__actor *actor, const tsr_plan *plan, const tsr_mask *mask, tsr_error *err) {
    tsr_status status = TSR_OK;
    int width = plan->options.width, height = plan->options.height;
    if (!mask || !mask->values || mask->width < 1 || mask->height < 1)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "%s has no mask; give a box, a picture or a colour", actor->label);
    if (plan->options.history == TSR_HISTORY_KEEP && (mask->width != width || mask->height != height))
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "%s: its mask is %dx%d, the picture is %dx%d; make the mask that size",
                 actor->label, mask->width, mask->height, width, height);
    TSR_TRY(tsr_mask_copy(&actor->mask, mask, err));
    for (size_t i = 0; i < (size_t)mask->width * (size_t)mask->height; i++) {
        float *value = &actor->mask->values[i];
        if (!isfinite(*value))
            TSR_FAIL(err, TSR_BAD_ARGUMENT, "%s: its mask holds NaN or infinity at x %d, y %d; masks are 0 to 1",
                     actor->label, (int)(i % (size_t)mask->width), (int)(i / (size_t)mask->width));
        *value = *value < 0.0f ? 0.0f : *value > 1.0f ? 1.0f : *value;
    }
done:
    return status;
}

static tsr_status set_base(tsr_plan *plan, const tsr_region_base *base, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__actor *actor = &plan->actors[0];
    actor->guide = base->guide;
    actor->sigma_factor = (double)base->sigma_factor;
    actor->strength = actor->end = 1.0f;
    TSR_TRY(copy_text(&actor->label, "base", err));
    TSR_TRY(copy_text(&actor->sampler, base->sampler ? base->sampler : "euler", err));
    TSR_TRY(copy_text(&actor->scheduler, base->scheduler ? base->scheduler : "normal", err));
    TSR_TRY(tsr__actor_set_opt(actor, base->sampler_opt, base->solver, plan->options.history == TSR_HISTORY_KEEP, err));
    TSR_TRY(check_names(actor, err));
done:
    return status;
}

static tsr_status set_region(tsr_plan *plan, int k, const tsr_region *region, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__actor *actor = &plan->actors[k];
    actor->guide = region->guide;
    actor->sigma_factor = (double)region->sigma_factor;
    actor->strength = region->strength;
    actor->feather_px = region->feather_px;
    actor->variation_seed = region->variation_seed;
    actor->variation_strength = region->variation_strength;
    actor->variation_method = region->variation_method;
    actor->start = region->start;
    actor->end = region->end;
    actor->label = region->name ? tsr__format("region %d (%s)", k, region->name) : tsr__format("region %d", k);
    if (!actor->label) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory for a name");
    if (region->struct_size != sizeof *region)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "%s: struct_size is %zu, not %zu; start from TSR_REGION_INIT", actor->label,
                 region->struct_size, sizeof *region);
    TSR_TRY(copy_text(&actor->sampler, region->sampler ? region->sampler : plan->actors[0].sampler, err));
    TSR_TRY(copy_text(&actor->scheduler, region->scheduler ? region->scheduler : plan->actors[0].scheduler, err));
    TSR_TRY(
        tsr__actor_set_opt(actor, region->sampler_opt, region->solver, plan->options.history == TSR_HISTORY_KEEP, err));
    TSR_TRY(check_names(actor, err));
    if (!(region->strength >= 0.0f && region->strength <= 1.0f))
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "%s: strength is %g; give 0 to 1", actor->label, (double)region->strength);
    if (!(region->feather_px >= 0.0f && region->feather_px <= 4096.0f))
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "%s: feather is %g; give 0 to 4096 pixels", actor->label,
                 (double)region->feather_px);
    if (!(region->variation_strength >= 0.0f && region->variation_strength <= 1.0f))
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "%s: variation_strength is %g; give 0 to 1", actor->label,
                 (double)region->variation_strength);
    if (!(region->sigma_factor >= 0.0f && region->sigma_factor <= 10.0f))
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "%s: sigma_factor is %g; give 0 to 10", actor->label,
                 (double)region->sigma_factor);
    if (!(region->start >= 0.0f && region->start < region->end && region->end <= 1.0f))
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "%s: from %g to %g of the run; give 0 to 1, the end after the start",
                 actor->label, (double)region->start, (double)region->end);
    if (plan->options.history == TSR_HISTORY_RESTART && (region->start > 0.0f || region->end < 1.0f))
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "%s: history restart has no steps of a region's own; take history keep",
                 actor->label);
    TSR_TRY(copy_mask(actor, plan, region->mask, err));
done:
    return status;
}

static tsr_status check_options(tsr_regional_options *o, const int shape[4], tsr_error *err) {
    for (int i = 0; i < 4; i++)
        if (shape[i] < 1 || shape[i] > 4096)
            return tsr__fail(err, TSR_BAD_ARGUMENT, "latent shape %dx%dx%dx%d; every size is 1 to 4096", shape[0],
                             shape[1], shape[2], shape[3]);
    if (o->steps < 1 || o->steps > 10000)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "steps is %d; give 1 to 10000", o->steps);
    if (o->overlap < 0 || o->overlap > 10000)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "overlap is %d; give 0 to 10000", o->overlap);
    if (o->system == TSR_SYSTEM_REGIONAL) {
        if (!(o->denoise > 0.0 && o->denoise <= 1.0) || (double)o->steps / o->denoise > 1e6)
            return tsr__fail(err, TSR_BAD_ARGUMENT, "denoise is %g; give more than 0, up to 1", o->denoise);
        if (o->base_only_steps < 0 || o->base_only_steps > 10000)
            return tsr__fail(err, TSR_BAD_ARGUMENT, "base_only_steps is %d; give 0 to 10000", o->base_only_steps);
    } else if (o->start_step < 0 || o->end_step < 0) {
        return tsr__fail(err, TSR_BAD_ARGUMENT, "steps %d to %d; they count from 0", o->start_step, o->end_step);
    }
    if (!tsr_history_name((int)o->history) || !tsr_recovery_mode_name((int)o->recovery_mode))
        return tsr__fail(err, TSR_BAD_ARGUMENT, "history %d or recovery_mode %d is not in its enum", (int)o->history,
                         (int)o->recovery_mode);
    if (!tsr_sharing_name((int)o->sharing) || !tsr_overlap_policy_name((int)o->overlap_policy))
        return tsr__fail(err, TSR_BAD_ARGUMENT, "sharing %d or overlap_policy %d is not in its enum", (int)o->sharing,
                         (int)o->overlap_policy);
    if (o->crop_context < 0 || o->crop_context > 4096)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "crop_context is %d; give 0 to 4096 latent pixels", o->crop_context);
    if (o->history == TSR_HISTORY_RESTART && (o->sharing > TSR_SHARING_FULL || o->overlap_policy != TSR_OVERLAP_BLEND))
        return tsr__fail(err, TSR_BAD_ARGUMENT, "mode %s, overlap policy %s: history restart has neither; take keep",
                         tsr_sharing_name((int)o->sharing), tsr_overlap_policy_name((int)o->overlap_policy));
    if (o->width == 0) o->width = 8 * shape[3];
    if (o->height == 0) o->height = 8 * shape[2];
    /* The nodes take masks of any size. */
    if (o->history == TSR_HISTORY_KEEP && (o->width < shape[3] || o->height < shape[2]))
        return tsr__fail(err, TSR_BAD_ARGUMENT, "picture %dx%d is smaller than its latent, %dx%d", o->width, o->height,
                         shape[3], shape[2]);
    return TSR_OK;
}

static tsr_status fill(tsr_plan *plan, const tsr_region_base *base, const tsr_region *regions, int n_regions,
                       tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_ALLOC_ZERO(err, plan->actors, n_regions + 1);
    plan->n_actors = n_regions + 1;
    if (plan->options.recovery_sampler) {
        TSR_TRY(copy_text(&plan->recovery_sampler, plan->options.recovery_sampler, err));
        plan->options.recovery_sampler = plan->recovery_sampler;
        if (strcmp(plan->recovery_sampler, "AUTO") != 0)
            TSR_TRY(tsr__check_sampler(plan->recovery_sampler, "recovery", err));
    }
    TSR_TRY(set_base(plan, base, err));
    for (int k = 1; k <= n_regions; k++) TSR_TRY(set_region(plan, k, &regions[k - 1], err));
    TSR_TRY(plan->options.history == TSR_HISTORY_KEEP ? tsr__plan_keep(plan, err) : tsr__plan_restart(plan, err));
done:
    return status;
}

tsr_status tsr_plan_new(tsr_plan **out, const tsr_region_base *base, const tsr_region *regions, int n_regions,
                        const tsr_regional_options *options, const int latent_shape[4], tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_plan *plan = NULL;
    tsr_error own = TSR_ERROR_INIT;
    if (!err) err = &own; /* the status of a stopped solver is read from it */
    if (!out) return tsr__fail(err, TSR_BAD_ARGUMENT, "tsr_plan_new: out is NULL");
    *out = NULL;
    if (!base || !options || !latent_shape || (n_regions > 0 && !regions))
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "tsr_plan_new: base, regions, options or latent_shape is NULL");
    if (options->struct_size != sizeof *options || base->struct_size != sizeof *base)
        TSR_FAIL(err, TSR_BAD_ARGUMENT,
                 "tsr_plan_new: struct_size of base or options is wrong; start from TSR_REGION_BASE_INIT and "
                 "TSR_REGIONAL_OPTIONS_INIT");
    if (n_regions < 0 || n_regions > MAX_REGIONS)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "%d regions; give 0 to %d", n_regions, MAX_REGIONS);
    TSR_ALLOC_ZERO(err, plan, 1);
    plan->options = *options;
    memcpy(plan->shape, latent_shape, sizeof plan->shape);
    TSR_TRY(check_options(&plan->options, latent_shape, err));
    TSR_TRY(fill(plan, base, regions, n_regions, err));
    *out = plan;
    plan = NULL;
done:
    tsr_plan_free(plan);
    return status;
}

int tsr_plan_count(const tsr_plan *plan) {
    return plan->n_ops;
}
int tsr_plan_steps(const tsr_plan *plan) {
    return plan->steps;
}
int64_t tsr_plan_evaluations(const tsr_plan *plan) {
    return plan->evaluations;
}

tsr_sharing tsr_plan_sharing(const tsr_plan *plan) {
    return plan->sharing ? plan->sharing : TSR_SHARING_FULL;
}

int tsr_plan_cost_of(const tsr_plan *plan, tsr_sharing sharing, tsr_plan_cost *out) {
    tsr_plan_cost none = { 0, 0.0 };
    int known = sharing > TSR_SHARING_AUTO && sharing <= TSR_SHARING_COUPLE;
    *out = known ? plan->costs[sharing] : none;
    return out->evaluations > 0;
}

tsr_plan_step tsr_plan_at(const tsr_plan *plan, int index) {
    tsr_plan_step none = { 0 };
    return index < 0 || index >= plan->n_ops ? none : plan->ops[index].shown;
}

const char *tsr_plan_warning(const tsr_plan *plan, int index) {
    return index < 0 || index >= plan->n_warnings ? NULL : plan->warnings[index];
}

tsr_status tsr_plan_weights(float *out, const tsr_plan *plan, int index, tsr_error *err) {
    if (index < 0 || index >= plan->n_actors)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "weights of region %d; there are %d regions", index,
                         plan->n_actors - 1);
    if (!plan->actors[index].weights)
        return tsr__fail(err, TSR_WRONG_STATE, "a restart plan has masks, not weights; plan with history keep");
    memcpy(out, plan->actors[index].weights, (size_t)plan->shape[2] * (size_t)plan->shape[3] * sizeof *out);
    return TSR_OK;
}
