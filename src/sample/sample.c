/* sample/sample.c - one sampling run on one latent. See tessera/sample.h.
 *
 * Must not know regions. Formulas: reference/comfyui-sampling.md, "Latents, noise, model scaling" and "One denoiser
 * call with a noise mask". */
#include "sample/sample_priv.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "picture/mask_priv.h"
#include "picture/resize_priv.h"
#include "sample/run_state.h"
#include "solver/snapshot.h"
#include "tessera/noise.h"

void tsr__scale_latent(float *out, const float *values, size_t count, float scale) {
    for (size_t i = 0; i < count; i++) out[i] = values[i] * scale; /* zeros stay zeros by themselves */
}

float tsr__start_noise_scale(const tsr_sigma_table *table, float sigma) {
    double top = (double)tsr_sigma_table_max(table);
    double at = (double)sigma;
    int is_max = at > top || fabs(top - at) <= 1e-5 * fmax(fabs(top), fabs(at));
    return is_max ? sqrtf(1.0f + sigma * sigma) : sigma;
}

tsr_status tsr__check_guide(const tsr_guide *guide, const char *who, tsr_error *err) {
    const tsr_denoiser *denoiser = guide ? guide->denoiser : NULL;
    if (!denoiser || !denoiser->denoise || !denoiser->table)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "%s: no denoiser; fill tsr_guide.denoiser with its function and table",
                         who);
    if (!(denoiser->latent_scale > 0.0f) || !isfinite(denoiser->latent_scale))
        return tsr__fail(err, TSR_BAD_ARGUMENT, "%s: latent_scale is %g; it must be positive (0.18215 for SD1)", who,
                         (double)denoiser->latent_scale);
    if (!isfinite(guide->cfg))
        return tsr__fail(err, TSR_BAD_ARGUMENT, "%s: cfg is %g; give a finite number", who, (double)guide->cfg);
    if (!(guide->differential >= 0.0 && guide->differential <= 1.0))
        return tsr__fail(err, TSR_BAD_ARGUMENT, "%s: differential is %g; give 0 to 1", who, guide->differential);
    if (!(guide->rescale >= 0.0 && guide->rescale <= 1.0))
        return tsr__fail(err, TSR_BAD_ARGUMENT, "%s: rescale is %g; give 0 to 1", who, guide->rescale);
    return TSR_OK;
}

tsr_status tsr__check_sampler(const char *name, const char *who, tsr_error *err) {
    tsr_solver *solver = NULL;
    tsr_error reason = TSR_ERROR_INIT;
    tsr_status status = tsr_solver_new(&solver, name, NULL, &reason);
    tsr_solver_free(solver);
    return status == TSR_OK ? TSR_OK : tsr__fail(err, status, "%s: %s", who, reason.message);
}

tsr_status tsr__mask_rule_init(tsr__mask_rule *rule, const tsr_mask *noise_mask, const int shape[4],
                               const float *latent, const float *noise, const char *sampler, uint64_t seed,
                               tsr_error *err) {
    tsr_status status = TSR_OK;
    size_t count = (size_t)shape[0] * (size_t)shape[1] * (size_t)shape[2] * (size_t)shape[3];
    int index = tsr_sampler_find(sampler);
    memset(rule, 0, sizeof *rule);
    size_t plane = (size_t)shape[2] * (size_t)shape[3];
    TSR_ALLOC(err, rule->mask, (size_t)shape[0] * plane);
    for (int i = 0; i < shape[0]; i++)
        TSR_TRY(tsr__resize_bilinear(rule->mask + (size_t)i * plane, shape[2], shape[3], tsr__mask_item(noise_mask, i),
                                     noise_mask->height, noise_mask->width, 0, err));
    if (index >= 0 && (tsr_sampler_flags(index) & TSR_SAMPLER_RANDOM_INPAINT)) {
        tsr_rng rng;
        TSR_ALLOC(err, rule->random, count);
        tsr_rng_seed(&rng, seed + 1);
        tsr_rng_randn(&rng, rule->random, count);
    }
    rule->inpaint.mask = rule->mask;
    rule->inpaint.latent = latent;
    rule->inpaint.noise = rule->random ? rule->random : noise;
done:
    return status;
}

void tsr__mask_rule_clear(tsr__mask_rule *rule) {
    free(rule->mask);
    free(rule->random);
    memset(rule, 0, sizeof *rule);
}

/* Everything one call owns. */
typedef struct sampling {
    size_t count;
    float *latent; /* model space */
    float *noise;
    float *x; /* start */
    float *denoised;
    float *uncond;
    tsr__mask_rule rule;
    tsr__evaluator evaluator;
    tsr_solver *solver;
} sampling;

static void clear_sampling(sampling *s) {
    free(s->latent);
    free(s->noise);
    free(s->x);
    free(s->denoised);
    free(s->uncond);
    tsr__mask_rule_clear(&s->rule);
    tsr__evaluator_clear(&s->evaluator);
    tsr_solver_free(s->solver);
}

/* Noise, start and solver of a call. A single sigma leaves nothing to solve: the start, noise and all, is the result. */
static tsr_status begin(sampling *s, const tsr_latent *latent, const tsr_guide *guide, const tsr_sample_options *o,
                        tsr_error *err) {
    tsr_status status = TSR_OK;
    static const tsr_solver_options usual = TSR_SOLVER_OPTIONS_INIT;
    tsr_solver_options solver = o->solver ? *o->solver : usual;
    float scale = tsr__start_noise_scale(guide->denoiser->table, o->sigmas[0]);
    s->count = tsr_latent_count(latent);
    TSR_ALLOC(err, s->latent, s->count);
    TSR_ALLOC_ZERO(err, s->noise, s->count);
    TSR_ALLOC(err, s->x, s->count);
    TSR_ALLOC(err, s->denoised, s->count);
    TSR_ALLOC(err, s->uncond, s->count);
    tsr__scale_latent(s->latent, latent->values, s->count, guide->denoiser->latent_scale);
    if (o->noise) memcpy(s->noise, o->noise, s->count * sizeof(float));
    else if (o->add_noise) TSR_TRY(tsr_initial_noise(s->noise, latent->shape, o->seed, latent->batch_index, err));
    for (size_t i = 0; i < s->count; i++) s->x[i] = s->noise[i] * scale + s->latent[i];
    if (o->n_sigmas < 2) goto done;
    if (latent->noise_mask)
        TSR_TRY(tsr__mask_rule_init(&s->rule, latent->noise_mask, latent->shape, s->latent, s->noise, o->sampler,
                                    o->seed, err));
    s->rule.inpaint.differential =
        tsr__differential_of(guide->differential, guide->denoiser->table, o->sigmas, o->n_sigmas);
    tsr__evaluator_init(&s->evaluator, latent->shape);
    tsr__evaluator_set_start(&s->evaluator, s->latent, s->rule.mask);
    solver.seed = o->seed;
    solver.sigma_min = o->brownian_min;
    solver.sigma_max = o->brownian_max;
    solver.noise = NULL;
    TSR_TRY(tsr_solver_new(&s->solver, o->sampler, &solver, err));
    TSR_TRY(tsr_solver_begin(s->solver, s->x, s->count, o->sigmas, o->n_sigmas, err));
done:
    return status;
}

static void set_step(tsr__run *run, int step) {
    run->step = run->first_step + step;
    if (run->step >= run->steps) run->step = run->steps > 0 ? run->steps - 1 : 0;
}

static tsr_status answer(sampling *s, const tsr_guide *guide, tsr__run *run, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_solver_query query = tsr_solver_pending(s->solver);
    tsr__request request = { guide,
                             query.x,
                             query.sigma,
                             s->rule.mask ? &s->rule.inpaint : NULL,
                             run->region,
                             s->denoised,
                             query.wants_uncond ? s->uncond : NULL,
                             { 0, 0, 0, 0 } };
    set_step(run, query.step);
    TSR_TRY(tsr__evaluate(&s->evaluator, &request, 1, run, err));
    TSR_TRY(tsr_solver_supply(s->solver, s->denoised, request.uncond, err));
done:
    return status;
}

static tsr_status drive(sampling *s, const tsr_guide *guide, const tsr_sample_options *o, tsr__run *run,
                        tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_solver_event event;
    if (tsr_solver_pending(s->solver).x) TSR_TRY(answer(s, guide, run, err)); /* was saved while it waited */
    while ((event = tsr_solver_next(s->solver, err)) != TSR_SOLVER_DONE) {
        if (event == TSR_SOLVER_FAILED)
            TSR_FAIL(err, err->status != TSR_OK ? err->status : TSR_WRONG_STATE, "%s stopped", o->sampler);
        if (event == TSR_SOLVER_WANT_DENOISED) {
            TSR_TRY(answer(s, guide, run, err));
            continue;
        }
        int ended = tsr_solver_step(s->solver);
        set_step(run, ended > 0 ? ended - 1 : 0);
        TSR_TRY(tsr__run_set_x0(run, tsr_solver_x0(s->solver), err));
        TSR_TRY(tsr__run_notify(run, TSR_PROGRESS_STEP, ended < o->n_sigmas ? o->sigmas[ended] : 0.0f, err));
        if (tsr__run_is_due(run, run->step + 1)) TSR_TRY(tsr__run_save(run, run->step + 1, err));
    }
done:
    return status;
}

/* The solver of a saved call takes the place of the fresh one. */
static tsr_status take_over(sampling *s, tsr__run *run, tsr_error *err) {
    tsr_solver *saved = run->from.solver;
    if (!saved) return TSR_OK;
    if (!tsr__solver_same_run(saved, s->solver))
        return tsr__fail(err, TSR_BAD_FORMAT, "state: its sampler is not that of the call it names; it is damaged");
    tsr_solver_free(s->solver);
    s->solver = saved;
    run->from.solver = NULL;
    return TSR_OK;
}

static tsr_status solve(sampling *s, const tsr_guide *guide, const tsr_sample_options *o, tsr__run *run,
                        tsr_error *err) {
    tsr_status status = take_over(s, run, err);
    if (status != TSR_OK) return status;
    run->call.solver = s->solver;
    status = drive(s, guide, o, run, err);
    if (status == TSR_CANCELLED) status = tsr__run_save_stopped(run, err);
    run->call.solver = NULL;
    return status;
}

tsr_status tsr__sample(tsr_latent **out, const tsr_latent *latent, const tsr_guide *guide,
                       const tsr_sample_options *options, tsr__run *run, tsr_error *err) {
    tsr_status status = TSR_OK;
    sampling s = { 0 };
    tsr_latent *result = NULL;
    *out = NULL;
    TSR_TRY(tsr_latent_copy(&result, latent, err));
    if (options->n_sigmas >= 1) {
        TSR_TRY(begin(&s, latent, guide, options, err));
        if (s.solver) TSR_TRY(solve(&s, guide, options, run, err));
        const float *x0 = s.solver ? tsr_solver_x0(s.solver) : NULL;
        const float *x = options->want_x0 && x0 ? x0 : s.solver ? tsr_solver_latent(s.solver) : s.x;
        for (size_t i = 0; i < s.count; i++) result->values[i] = x[i] / guide->denoiser->latent_scale;
    }
    *out = result;
    result = NULL;
done:
    clear_sampling(&s);
    tsr_latent_free(result);
    return status;
}

/* A stand-in network of a few values is enough: which sigmas a solver asks for does not depend on the picture. */
tsr_status tsr__sample_count(int64_t *out, const tsr_guide *guide, const char *sampler, const float *sigmas,
                             int n_sigmas, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_solver *solver = NULL;
    tsr_solver_event event;
    float x[4] = { 0.3f, -0.2f, 0.9f, -1.1f };
    *out = 0;
    if (n_sigmas < 2) return TSR_OK;
    for (int i = 0; i < 4; i++) x[i] *= sigmas[0];
    TSR_TRY(tsr_solver_new(&solver, sampler, NULL, err));
    TSR_TRY(tsr_solver_begin(solver, x, 4, sigmas, n_sigmas, err));
    while ((event = tsr_solver_next(solver, err)) != TSR_SOLVER_DONE) {
        if (event == TSR_SOLVER_FAILED)
            TSR_FAIL(err, err->status != TSR_OK ? err->status : TSR_WRONG_STATE, "%s stopped", sampler);
        if (event != TSR_SOLVER_WANT_DENOISED) continue;
        tsr_solver_query query = tsr_solver_pending(solver);
        for (int i = 0; i < 4; i++) x[i] = query.x[i] / (1.0f + query.sigma * query.sigma);
        int negative = (query.wants_uncond || !tsr__guide_is_plain(guide)) && guide->negative != guide->positive;
        *out += 1 + negative;
        TSR_TRY(tsr_solver_supply(solver, x, query.wants_uncond ? x : NULL, err));
    }
done:
    tsr_solver_free(solver);
    return status;
}

/* Which way they may go is the solver's to say. */
static tsr_status check_sigmas(const float *sigmas, int n, tsr_error *err) {
    if (n < 0 || n > 100001 || (n > 0 && !sigmas))
        return tsr__fail(err, TSR_BAD_ARGUMENT, "%d sigmas; give 0 to 100001 of them", n);
    for (int i = 0; i < n; i++)
        if (!isfinite(sigmas[i]) || sigmas[i] < 0.0f)
            return tsr__fail(err, TSR_BAD_ARGUMENT, "sigma %d is %g; sigmas must not be negative", i,
                             (double)sigmas[i]);
    return TSR_OK;
}

/* What a state of tsr_sample is a state of. */
static void identify(tsr__state_id *id, const tsr_latent *latent, const tsr_guide *guide, const tsr_sample_options *o) {
    tsr__sha256 sha;
    memset(id, 0, sizeof *id);
    id->kind = TSR__STATE_SAMPLE;
    memcpy(id->shape, latent->shape, sizeof id->shape);
    tsr__sha256_init(&sha);
    TSR__MARK(&sha, o->seed);
    TSR__MARK(&sha, o->add_noise);
    TSR__MARK(&sha, o->want_x0);
    TSR__MARK(&sha, o->brownian_min);
    TSR__MARK(&sha, o->brownian_max);
    TSR__MARK(&sha, o->n_sigmas);
    if (o->n_sigmas) tsr__sha256_add(&sha, o->sigmas, (size_t)o->n_sigmas * sizeof *o->sigmas);
    tsr__mark_text(&sha, o->sampler);
    tsr__mark_solver(&sha, o->solver);
    tsr__mark_guide(&sha, guide);
    tsr__state_add_part(id, "sampler, schedule, seed or cfg", &sha);
    tsr__sha256_init(&sha);
    tsr__mark_latent(&sha, latent);
    tsr__mark_values(&sha, o->noise, tsr_latent_count(latent));
    tsr__state_add_part(id, "start", &sha);
}

/* A run of tsr_sample, for its states. */
typedef struct lone {
    tsr__run run;
    tsr__state_id id;
} lone;

static void visit_lone(void *user, tsr__stream *io) {
    tsr__block *solver = user;
    tsr__stream_block(io, &solver->data, &solver->size);
}

static tsr_status give_lone(void *owner, tsr_error *err) {
    tsr_status status = TSR_OK;
    const lone *l = owner;
    void *solver = NULL, *state = NULL;
    size_t solver_size = 0, size = 0;
    TSR_TRY(tsr_solver_save(l->run.call.solver, &solver, &solver_size, err));
    tsr__block block = { solver, solver_size };
    TSR_TRY(tsr__state_make(&state, &size, &l->id, l->run.evaluations_done, visit_lone, &block, err));
    TSR_TRY(l->run.hooks->save(l->run.hooks->user, state, size, err));
done:
    tsr_free(solver);
    free(state);
    return status;
}

static tsr_status load_lone(lone *l, const void *state, size_t size, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__stream io;
    tsr__block solver = { 0 };
    TSR_TRY(tsr__state_open(&io, &l->id, state, size, &l->run.evaluations_done, err));
    visit_lone(&solver, &io);
    TSR_TRY(tsr__state_close(&io, err));
    TSR_TRY(tsr_solver_restore(&l->run.from.solver, solver.data, solver.size, err));
    l->run.saved_step = tsr_solver_step(l->run.from.solver);
done:
    return status;
}

/* Makes states of the run, and goes on from one when the hooks give it. */
static tsr_status set_saving(lone *l, const tsr_latent *latent, const tsr_guide *guide, const tsr_sample_options *o,
                             tsr_error *err) {
    if (!o->hooks || (!o->hooks->save && !o->hooks->state)) return TSR_OK;
    if (o->n_sigmas < 2 && o->hooks->state)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "state: this run has no steps to go on with");
    identify(&l->id, latent, guide, o);
    l->run.owner = l;
    l->run.give = give_lone;
    return o->hooks->state ? load_lone(l, o->hooks->state, o->hooks->state_size, err) : TSR_OK;
}

tsr_status tsr_sample(tsr_latent **out, const tsr_latent *latent, const tsr_guide *guide,
                      const tsr_sample_options *options, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_sample_options o = TSR_SAMPLE_OPTIONS_INIT;
    lone l = { 0 };
    tsr__run *run = &l.run;
    tsr_error own = TSR_ERROR_INIT;
    if (!err) err = &own; /* the status of a stopped solver is read from it */
    if (!out) return tsr__fail(err, TSR_BAD_ARGUMENT, "tsr_sample: out is NULL");
    *out = NULL;
    if (!latent || !options) TSR_FAIL(err, TSR_BAD_ARGUMENT, "tsr_sample: latent or options is NULL");
    TSR_TRY(tsr__check_guide(guide, "tsr_sample", err));
    o = *options;
    if (!o.sampler) o.sampler = "euler";
    TSR_TRY(check_sigmas(o.sigmas, o.n_sigmas, err));
    tsr__run_init(run, o.hooks, latent->shape, guide->denoiser->latent_scale);
    run->region = 0;
    run->steps = o.n_sigmas > 1 ? o.n_sigmas - 1 : 0;
    if (o.hooks) TSR_TRY(tsr__sample_count(&run->evaluations_total, guide, o.sampler, o.sigmas, o.n_sigmas, err));
    TSR_TRY(set_saving(&l, latent, guide, &o, err));
    TSR_TRY(tsr__sample(out, latent, guide, &o, run, err));
done:
    tsr__run_clear(run);
    return status;
}
