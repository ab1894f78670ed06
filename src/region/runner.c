/* region/runner.c - carries a plan out, step by step. The systems differ in their plans only. */
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "region/calls.h"
#include "region/canvas.h"

/* What lives between steps. */
typedef struct running {
    const tsr_plan *plan;
    tsr__run run;
    tsr_latent *now;     /* the picture so far, raw units */
    tsr_latent *before;  /* what the newest call started from */
    float *noise;        /* restart: of the newest NOISE step */
    tsr__canvas *canvas; /* keep */
} running;

static void clear(running *r) {
    tsr__run_clear(&r->run);
    tsr_latent_free(r->now);
    tsr_latent_free(r->before);
    free(r->noise);
    tsr__canvas_free(r->canvas);
}

static tsr_status make_noise(running *r, const tsr__op *op, tsr_error *err) {
    tsr_status status = TSR_OK;
    if (r->plan->options.history == TSR_HISTORY_KEEP) {
        TSR_TRY(tsr__canvas_new(&r->canvas, r->plan, r->now, &r->run, err));
    } else {
        if (!r->noise) TSR_ALLOC(err, r->noise, tsr_latent_count(r->now));
        TSR_TRY(tsr__restart_noise(r->noise, r->plan, r->now, op->seed, err));
    }
done:
    return status;
}

/* A call paints under its noise mask; the mask it leaves on the latent is replaced by the next call's. */
static tsr_status call(running *r, const tsr__op *op, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__impact_call asked;
    tsr_latent *result = NULL;
    if (op->mask != TSR__MASK_INPUT) {
        const tsr_mask *mask =
            op->mask == TSR__MASK_INVERSE ? r->plan->inverse : r->plan->actors[op->shown.region].grown;
        tsr_mask_free(r->now->noise_mask);
        r->now->noise_mask = NULL;
        TSR_TRY(tsr_mask_copy(&r->now->noise_mask, mask, err));
    }
    r->run.region = op->shown.region;
    r->run.latent_scale = r->plan->actors[op->shown.region].guide.denoiser->latent_scale;
    tsr__restart_call(&asked, r->plan, op, r->noise);
    TSR_TRY(tsr__impact_run(&result, r->now, &asked, &r->run, err));
    tsr_latent_free(r->before);
    r->before = r->now;
    r->now = result;
done:
    return status;
}

/* The region's result, through its mask, into what its call started from. */
static tsr_status composite(running *r, const tsr__op *op, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_latent *base = r->before;
    TSR_TRY(tsr_latent_composite(base, r->now, 0, 0, r->plan->actors[op->shown.region].grown, err));
    r->before = r->now;
    r->now = base;
done:
    return status;
}

static void finish(running *r) {
    if (r->canvas) {
        tsr__canvas_result(r->canvas, r->now->values);
        return;
    }
    tsr_mask_free(r->now->noise_mask); /* the nodes take it off */
    r->now->noise_mask = NULL;
}

static tsr_status carry_out(running *r, const tsr__op *op, tsr_error *err) {
    if (op->shown.step >= 0) r->run.step = r->run.first_step = op->shown.step;
    r->run.phase = op->shown.phase;
    switch (op->shown.kind) {
    case TSR_PLAN_NOISE: return make_noise(r, op, err);
    case TSR_PLAN_CALL: return call(r, op, err);
    case TSR_PLAN_COMPOSITE: return composite(r, op, err);
    case TSR_PLAN_LOCKSTEP:
        r->run.region = op->shown.region;
        return tsr__canvas_step(r->canvas, op->shown.step, NULL, err);
    case TSR_PLAN_FINISH: finish(r); return TSR_OK;
    }
    return tsr__fail(err, TSR_WRONG_STATE, "plan step %d is of no known kind", op->shown.step);
}

tsr_status tsr_plan_run(tsr_latent **out, const tsr_plan *plan, const tsr_latent *latent, const tsr_run_hooks *hooks,
                        tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_error own = TSR_ERROR_INIT;
    running r = { 0 };
    if (!err) err = &own; /* the status of a stopped solver is read from it */
    if (!out) return tsr__fail(err, TSR_BAD_ARGUMENT, "tsr_plan_run: out is NULL");
    *out = NULL;
    if (!plan || !latent) TSR_FAIL(err, TSR_BAD_ARGUMENT, "tsr_plan_run: plan or latent is NULL");
    if (memcmp(latent->shape, plan->shape, sizeof plan->shape) != 0)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "the latent is %dx%dx%dx%d, the plan is for %dx%dx%dx%d; plan again",
                 latent->shape[0], latent->shape[1], latent->shape[2], latent->shape[3], plan->shape[0], plan->shape[1],
                 plan->shape[2], plan->shape[3]);
    r.plan = plan;
    tsr__run_init(&r.run, hooks, plan->shape, plan->actors[0].guide.denoiser->latent_scale);
    r.run.steps = plan->steps;
    r.run.regions = plan->n_actors - 1;
    r.run.evaluations_total = plan->evaluations;
    TSR_TRY(tsr_latent_copy(&r.now, latent, err));
    for (int i = 0; i < plan->n_ops; i++) TSR_TRY(carry_out(&r, &plan->ops[i], err));
    *out = r.now;
    r.now = NULL;
done:
    clear(&r);
    return status;
}
