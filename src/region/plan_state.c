/* region/plan_state.c - see plan_state.h. */
#include "region/plan_state.h"

#include <stdlib.h>
#include <string.h>

#include "core/memory.h"

/* --- what a state belongs to ------------------------------------------------------------------------------------------------ */
static void mark_options(tsr__sha256 *sha, const tsr_regional_options *o) {
    TSR__MARK(sha, o->system);
    TSR__MARK(sha, o->history);
    TSR__MARK(sha, o->steps);
    TSR__MARK(sha, o->seed);
    TSR__MARK(sha, o->overlap);
    TSR__MARK(sha, o->width);
    TSR__MARK(sha, o->height);
    TSR__MARK(sha, o->denoise);
    TSR__MARK(sha, o->base_only_steps);
    TSR__MARK(sha, o->seed_2nd);
    TSR__MARK(sha, o->seed_2nd_mode);
    TSR__MARK(sha, o->start_step);
    TSR__MARK(sha, o->end_step);
    TSR__MARK(sha, o->add_noise);
    TSR__MARK(sha, o->leftover_noise);
    TSR__MARK(sha, o->restore_latent);
    TSR__MARK(sha, o->recovery_mode);
    tsr__mark_text(sha, o->recovery_sampler);
    TSR__MARK(sha, o->recovery_ratio);
    TSR__MARK(sha, o->overlap_policy);
    TSR__MARK(sha, o->crop_context);
}

static void mark_actor(tsr__sha256 *sha, const tsr__actor *actor) {
    tsr__mark_guide(sha, &actor->guide);
    tsr__mark_text(sha, actor->sampler);
    tsr__mark_text(sha, actor->scheduler);
    tsr__mark_text(sha, actor->sampler_opt);
    tsr__mark_solver(sha, &actor->solver);
    TSR__MARK(sha, actor->sigma_factor);
    TSR__MARK(sha, actor->strength);
    TSR__MARK(sha, actor->feather_px);
    TSR__MARK(sha, actor->variation_seed);
    TSR__MARK(sha, actor->variation_strength);
    TSR__MARK(sha, actor->variation_method);
    TSR__MARK(sha, actor->start);
    TSR__MARK(sha, actor->end);
    tsr__mark_values(sha, actor->sigmas, (size_t)actor->n_sigmas);
}

static void mark_op(tsr__sha256 *sha, const tsr__op *op) {
    TSR__MARK(sha, op->shown.kind);
    TSR__MARK(sha, op->shown.region);
    TSR__MARK(sha, op->shown.step);
    TSR__MARK(sha, op->seed);
    TSR__MARK(sha, op->start);
    TSR__MARK(sha, op->end);
    TSR__MARK(sha, op->schedule_steps);
    TSR__MARK(sha, op->add_noise);
    TSR__MARK(sha, op->leftover);
    TSR__MARK(sha, op->recovers);
    TSR__MARK(sha, op->uses_noise);
    TSR__MARK(sha, op->mask);
}

void tsr__plan_identify(tsr__state_id *id, const tsr_plan *plan, const tsr_latent *latent) {
    tsr__sha256 sha;
    memset(id, 0, sizeof *id);
    id->kind = TSR__STATE_PLAN;
    memcpy(id->shape, plan->shape, sizeof id->shape);
    tsr__sha256_init(&sha);
    mark_options(&sha, &plan->options);
    TSR__MARK(&sha, plan->sharing);
    tsr__mark_values(&sha, plan->sigmas, (size_t)plan->n_sigmas);
    for (int i = 0; i < plan->n_ops; i++) mark_op(&sha, &plan->ops[i]);
    tsr__state_add_part(id, "plan (steps, seed, history, mode, or another option)", &sha);
    tsr__sha256_init(&sha);
    TSR__MARK(&sha, plan->n_actors);
    for (int k = 0; k < plan->n_actors; k++) mark_actor(&sha, &plan->actors[k]);
    tsr__state_add_part(id, "base or region (sampler, scheduler, cfg, variation, or another option)", &sha);
    tsr__sha256_init(&sha);
    for (int k = 1; k < plan->n_actors; k++) tsr__mark_mask(&sha, plan->actors[k].mask);
    tsr__state_add_part(id, "mask", &sha);
    tsr__sha256_init(&sha);
    tsr__mark_latent(&sha, latent);
    tsr__state_add_part(id, "start", &sha);
}

/* --- bytes -------------------------------------------------------------------------------------------------------------------- */
typedef struct body {
    tsr__plan_state *state;
    size_t count;
    int keeps;
    int failed; /* reading: out of memory */
} body;

/* An array that may be missing. Its length is the plan's: nothing is believed from the bytes. */
static void visit_array(body *b, tsr__stream *io, float **values) {
    int present = *values != NULL;
    tsr__stream_whole(io, &present);
    if (present != 1) {
        io->short_of_data |= present != 0; /* no flag */
        return;
    }
    if (io->in) {
        if (b->count > tsr__stream_left(io) / sizeof **values) {
            io->short_of_data = 1;
            return;
        }
        *values = tsr__alloc(b->count, sizeof **values);
        b->failed |= !*values;
    }
    if (*values) tsr__stream_reals(io, *values, b->count);
}

static void visit(void *user, tsr__stream *io) {
    body *b = user;
    tsr__plan_state *s = b->state;
    tsr__stream_whole(io, &s->op);
    if (b->keeps) {
        tsr__stream_block(io, &s->canvas.data, &s->canvas.size);
        return;
    }
    visit_array(b, io, &s->now);
    visit_array(b, io, &s->before);
    visit_array(b, io, &s->noise);
    tsr__stream_block(io, &s->solver.data, &s->solver.size);
    tsr__stream_whole(io, &s->pass);
    visit_array(b, io, &s->first);
}

tsr_status tsr__plan_state_make(void **out, size_t *size_out, const tsr__state_id *id, int64_t evaluations,
                                tsr__plan_state *state, tsr_error *err) {
    size_t count = (size_t)id->shape[0] * (size_t)id->shape[1] * (size_t)id->shape[2] * (size_t)id->shape[3];
    body b = { state, count, state->canvas.data != NULL || !state->now, 0 };
    return tsr__state_make(out, size_out, id, evaluations, visit, &b, err);
}

/* Is everything there that the step needs? */
static tsr_status check(const tsr__plan_state *s, const tsr_plan *plan, int keeps, tsr_error *err) {
    if (s->op < 0 || s->op >= plan->n_ops) return tsr__state_damaged(err, "a step that the plan has not");
    const tsr__op *op = &plan->ops[s->op];
    if (keeps) {
        int needed = op->shown.kind != TSR_PLAN_NOISE;
        return needed != (s->canvas.size > 0) ? tsr__state_damaged(err, "no canvas where one is needed") : TSR_OK;
    }
    if (!s->now) return tsr__state_damaged(err, "no latent");
    if (op->shown.kind == TSR_PLAN_COMPOSITE && !s->before) return tsr__state_damaged(err, "nothing to composite into");
    if (op->shown.kind == TSR_PLAN_CALL && op->uses_noise && !s->noise) return tsr__state_damaged(err, "no noise");
    if (s->solver.size > 0 && op->shown.kind != TSR_PLAN_CALL)
        return tsr__state_damaged(err, "a solver without a call");
    if (s->pass < 0 || s->pass > 1 || (s->pass == 1) != (s->first != NULL) || (s->pass == 1 && !s->solver.size))
        return tsr__state_damaged(err, "a pass that is none");
    return TSR_OK;
}

tsr_status tsr__plan_state_read(tsr__plan_state *out, const tsr__state_id *id, int64_t *evaluations,
                                const tsr_plan *plan, const void *data, size_t size, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__stream io;
    size_t count = (size_t)id->shape[0] * (size_t)id->shape[1] * (size_t)id->shape[2] * (size_t)id->shape[3];
    body b = { out, count, plan->options.history == TSR_HISTORY_KEEP, 0 };
    memset(out, 0, sizeof *out);
    TSR_TRY(tsr__state_open(&io, id, data, size, evaluations, err));
    visit(&b, &io);
    if (b.failed) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory for the state");
    TSR_TRY(tsr__state_close(&io, err));
    TSR_TRY(check(out, plan, b.keeps, err));
done:
    return status;
}

void tsr__plan_state_clear(tsr__plan_state *state) {
    free(state->now);
    free(state->before);
    free(state->noise);
    free(state->first);
    memset(state, 0, sizeof *state);
}
