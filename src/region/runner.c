/* region/runner.c - carries a plan out, step by step. The systems differ in their plans only. */
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "region/calls.h"
#include "region/canvas.h"
#include "region/plan_state.h"

/* What lives between steps. */
typedef struct running {
    const tsr_plan *plan;
    tsr__run run;
    tsr_latent *now;     /* the picture so far, raw units */
    tsr_latent *before;  /* what the newest call started from */
    float *noise;        /* restart: of the newest NOISE step */
    tsr__canvas *canvas; /* keep */
    int op;              /* in hand */
    int saves;           /* the hooks want states */
    tsr__state_id id;
    void *boundary; /* keep: the state before the step in hand; NULL: not made */
    size_t boundary_size;
} running;

static void clear(running *r) {
    tsr__run_clear(&r->run);
    tsr_latent_free(r->now);
    tsr_latent_free(r->before);
    free(r->noise);
    tsr__canvas_free(r->canvas);
    free(r->boundary);
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
    if (r->run.from.solver) TSR_TRY(tsr__state_damaged(err, "a solver that its call does not run"));
    tsr_latent_free(r->before);
    r->before = r->now;
    r->now = result;
done:
    tsr_latent_free(status == TSR_OK ? NULL : result);
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

/* --- states -------------------------------------------------------------------------------------------------------------------- */
/* keep: a step changes every solver as it goes, so its start is put aside before it. restart: a call leaves what it
 * started from alone, and its solver can be saved at any moment. */
static tsr_status make_state(void **out, size_t *size_out, running *r, int op, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__plan_state state = { .op = op };
    void *canvas = NULL, *solver = NULL;
    if (r->plan->options.history == TSR_HISTORY_KEEP) {
        if (r->canvas) TSR_TRY(tsr__canvas_save(&canvas, &state.canvas.size, r->canvas, err));
        state.canvas.data = canvas;
    } else {
        state.now = r->now->values;
        state.before = r->before ? r->before->values : NULL;
        state.noise = r->noise;
        if (r->run.call.solver) TSR_TRY(tsr_solver_save(r->run.call.solver, &solver, &state.solver.size, err));
        state.solver.data = solver;
        state.pass = r->run.call.pass;
        state.first = r->run.call.first;
    }
    TSR_TRY(tsr__plan_state_make(out, size_out, &r->id, r->run.evaluations_done, &state, err));
done:
    free(canvas);
    tsr_free(solver);
    return status;
}

/* Hands out the newest state there is. */
static tsr_status give(void *owner, tsr_error *err) {
    tsr_status status = TSR_OK;
    running *r = owner;
    const tsr_run_hooks *hooks = r->run.hooks;
    void *state = NULL;
    size_t size = 0;
    int op = r->op;
    const tsr__op *in_hand = &r->plan->ops[op];
    int ended = r->canvas && in_hand->shown.kind == TSR_PLAN_LOCKSTEP &&
                tsr__canvas_steps_ended(r->canvas) > in_hand->shown.step;
    if (r->boundary && !ended) return hooks->save(hooks->user, r->boundary, r->boundary_size, err);
    TSR_TRY(make_state(&state, &size, r, op + ended, err));
    TSR_TRY(hooks->save(hooks->user, state, size, err));
done:
    free(state);
    return status;
}

/* Before a step of the plan. */
static tsr_status prepare_saving(running *r, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__op *op = &r->plan->ops[r->op];
    if (!r->saves) return TSR_OK;
    free(r->boundary);
    r->boundary = NULL;
    if (op->shown.kind == TSR_PLAN_LOCKSTEP) TSR_TRY(make_state(&r->boundary, &r->boundary_size, r, r->op, err));
    if (op->shown.step >= 0 && tsr__run_is_due(&r->run, op->shown.step))
        TSR_TRY(tsr__run_save(&r->run, op->shown.step, err));
done:
    return status;
}

static tsr_status load_state(running *r, const tsr_latent *latent, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__plan_state state = { 0 };
    size_t count = tsr_latent_count(latent);
    TSR_TRY(tsr__plan_state_read(&state, &r->id, &r->run.evaluations_done, r->plan, r->run.hooks->state,
                                 r->run.hooks->state_size, err));
    r->op = state.op;
    const tsr__op *op = &r->plan->ops[r->op];
    r->run.saved_step = op->shown.step > 0 ? op->shown.step : 0;
    if (state.canvas.size) {
        TSR_TRY(tsr__canvas_new(&r->canvas, r->plan, r->now, &r->run, err));
        int steps = op->shown.kind == TSR_PLAN_LOCKSTEP ? op->shown.step : r->plan->steps;
        TSR_TRY(tsr__canvas_load(r->canvas, steps, state.canvas.data, state.canvas.size, err));
    }
    /* The noise masks are the input's: a call that wants another replaces it, and only the first wants the input's. */
    if (state.now) memcpy(r->now->values, state.now, count * sizeof *state.now);
    if (state.before) {
        TSR_TRY(tsr_latent_copy(&r->before, latent, err));
        memcpy(r->before->values, state.before, count * sizeof *state.before);
    }
    r->noise = state.noise;
    state.noise = NULL;
    if (state.solver.size) TSR_TRY(tsr_solver_restore(&r->run.from.solver, state.solver.data, state.solver.size, err));
    r->run.from.pass = state.pass;
    r->run.from.first = state.first;
    state.first = NULL;
done:
    tsr__plan_state_clear(&state);
    return status;
}

/* --- the run ------------------------------------------------------------------------------------------------------------------- */
static tsr_status carry_out_all(running *r, tsr_error *err) {
    tsr_status status = TSR_OK;
    for (; r->op < r->plan->n_ops; r->op++) {
        TSR_TRY(prepare_saving(r, err));
        status = carry_out(r, &r->plan->ops[r->op], err);
        if (status == TSR_CANCELLED && r->canvas) status = tsr__run_save_stopped(&r->run, err);
        if (status != TSR_OK) goto done;
    }
done:
    return status;
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
    r.saves = hooks && hooks->save;
    r.run.give = give;
    r.run.owner = &r;
    if (r.saves || (hooks && hooks->state)) tsr__plan_identify(&r.id, plan, latent);
    if (hooks && hooks->state) TSR_TRY(load_state(&r, latent, err));
    TSR_TRY(carry_out_all(&r, err));
    *out = r.now;
    r.now = NULL;
done:
    clear(&r);
    return status;
}
