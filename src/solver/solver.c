/* solver/solver.c - the life of a solver and its events; knows no sampler by name and never calls a model. */
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "core/memory.h"
#include "core/suggest.h"
#include "solver_priv.h"

static tsr_status check_options(const tsr_solver_options *options, tsr_error *err) {
    if (options->struct_size != sizeof *options)
        return tsr__fail(err, TSR_BAD_ARGUMENT,
                         "solver options: struct_size is %zu, not %zu; start from TSR_SOLVER_OPTIONS_INIT",
                         options->struct_size, sizeof *options);
    if (!(options->eta >= 0) || !isfinite(options->eta))
        return tsr__fail(err, TSR_BAD_ARGUMENT, "solver options: eta %g, must be 0 or more", (double)options->eta);
    if (!(options->s_noise >= 0) || !isfinite(options->s_noise))
        return tsr__fail(err, TSR_BAD_ARGUMENT, "solver options: s_noise %g, must be 0 or more",
                         (double)options->s_noise);
    if (options->order < 0 || options->order > 4)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "solver options: order %d, must be 1 to 4, or 0", options->order);
    if (!(options->r >= 0) || !isfinite(options->r))
        return tsr__fail(err, TSR_BAD_ARGUMENT, "solver options: r %g, must be above 0", (double)options->r);
    if (options->power != 0 && (!(options->power >= 1) || !isfinite(options->power)))
        return tsr__fail(err, TSR_BAD_ARGUMENT, "solver options: power %g, must be 1 or more", (double)options->power);
    int no_range = options->sigma_min == 0 && options->sigma_max == 0;
    if (!no_range &&
        !(options->sigma_min >= 0 && options->sigma_min < options->sigma_max && isfinite(options->sigma_max)))
        return tsr__fail(err, TSR_BAD_ARGUMENT, "solver options: Brownian range %g..%g is empty or not finite",
                         (double)options->sigma_min, (double)options->sigma_max);
    return TSR_OK;
}

tsr_status tsr_solver_new(tsr_solver **out, const char *name, const tsr_solver_options *options, tsr_error *err) {
    static const tsr_solver_options defaults = TSR_SOLVER_OPTIONS_INIT;
    tsr_status status = TSR_OK;
    tsr_solver *s = NULL;
    *out = NULL;
    if (!options) options = &defaults;
    int index = tsr_sampler_find(name);
    if (index < 0) {
        const char *near = tsr__suggest(name, tsr_sampler_name, tsr_sampler_count());
        TSR_FAIL(err, TSR_NOT_FOUND, "unknown sampler \"%.64s\"%s%s%s", name ? name : "",
                 near ? ": did you mean \"" : "", near ? near : ": see tsr_sampler_name", near ? "\"?" : "");
    }
    TSR_TRY(check_options(options, err));
    TSR_ALLOC_ZERO(err, s, 1);
    s->kind = tsr__solver_kind_at(index);
    s->options = *options;
    *out = s;
    s = NULL;
done:
    tsr_solver_free(s);
    return status;
}

void tsr_solver_free(tsr_solver *s) {
    if (!s) return;
    tsr_brownian_free(s->tree);
    free(s->sigmas);
    free(s->slab);
    free(s);
}

/* Backwards, from the clean end towards noise: for ordinary differential equations, whose solvers know no direction. */
static tsr_status check_rising(const tsr__solver_kind *kind, const float *sigmas, int n_sigmas, tsr_error *err) {
    const char *why = kind->plan                             ? "plans its own steps"
                      : kind->flags & TSR_SAMPLER_STOCHASTIC ? "adds noise"
                      : kind->flags & TSR__SAMPLER_ONE_WAY   ? "weighs slopes by the first sigma"
                                                             : NULL;
    if (why)
        return tsr__fail(err, TSR_BAD_ARGUMENT,
                         "solver: %s cannot go from small to large sigmas, as it %s; take euler, heun or dpmpp_2m",
                         kind->name, why);
    for (int i = 1; i < n_sigmas; i++)
        if (sigmas[i] < sigmas[i - 1])
            return tsr__fail(err, TSR_BAD_ARGUMENT, "solver: sigma %d (%g) turns back from %g; sigmas rise or fall", i,
                             (double)sigmas[i], (double)sigmas[i - 1]);
    return TSR_OK;
}

tsr_status tsr__solver_check_sigmas(const tsr__solver_kind *kind, const float *sigmas, int n_sigmas, tsr_error *err) {
    if (n_sigmas < 2 || n_sigmas > TSR__MAX_SIGMAS)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "solver: %d sigmas, must be 2..%d", n_sigmas, TSR__MAX_SIGMAS);
    for (int i = 0; i < n_sigmas; i++)
        if (!isfinite(sigmas[i]) || sigmas[i] < 0 || (sigmas[i] == 0 && i != n_sigmas - 1))
            return tsr__fail(err, TSR_BAD_ARGUMENT, "solver: sigma %d is %g; all but the last must be positive", i,
                             (double)sigmas[i]);
    if (sigmas[n_sigmas - 1] > sigmas[0]) return check_rising(kind, sigmas, n_sigmas, err);
    for (int i = 1; i < n_sigmas; i++)
        if (sigmas[i] > sigmas[i - 1])
            return tsr__fail(err, TSR_BAD_ARGUMENT, "solver: sigma %d (%g) is larger than the one before it (%g)", i,
                             (double)sigmas[i], (double)sigmas[i - 1]);
    return TSR_OK;
}

tsr_status tsr__solver_set_size(tsr_solver *s, size_t count, int n_sigmas, tsr_error *err) {
    tsr_status status = TSR_OK;
    float *slab = NULL, *sigmas = NULL;
    size_t arrays = (size_t)TSR__FIXED_ARRAYS + (size_t)s->kind->history;
    if (!count || count > SIZE_MAX / (2 * sizeof(float)) / arrays - 16)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "solver: a latent of %zu values is empty or too large", count);
    size_t stride = (count + 15) / 16 * 16; /* keeps every array aligned as the block is */
    TSR_ALLOC_ZERO(err, slab, stride * arrays);
    TSR_ALLOC_ZERO(err, sigmas, n_sigmas);
    free(s->slab);
    free(s->sigmas);
    s->slab = slab;
    s->sigmas = sigmas;
    s->count = count;
    s->n_sigmas = n_sigmas;
    float **fixed[TSR__FIXED_ARRAYS] = { &s->latent, &s->middle, &s->answer, &s->uncond, &s->x0, &s->draw };
    for (size_t i = 0; i < TSR__FIXED_ARRAYS; i++) *fixed[i] = slab + i * stride;
    for (int i = 0; i < s->kind->history; i++) s->history[i] = slab + (size_t)(TSR__FIXED_ARRAYS + i) * stride;
    slab = sigmas = NULL;
done:
    free(slab);
    free(sigmas);
    return status;
}

tsr_status tsr__solver_plan(tsr_solver *s, tsr_error *err) {
    s->n_steps = s->n_sigmas - 1;
    s->own_sigmas = 0;
    return s->kind->plan ? s->kind->plan(s, err) : TSR_OK;
}

tsr_status tsr_solver_begin(tsr_solver *s, const float *latent, size_t count, const float *sigmas, int n_sigmas,
                            tsr_error *err) {
    tsr_status status = TSR_OK;
    if (!s || !latent || !sigmas) TSR_FAIL(err, TSR_BAD_ARGUMENT, "solver: latent and sigmas must not be NULL");
    TSR_TRY(tsr__solver_check_sigmas(s->kind, sigmas, n_sigmas, err));
    TSR_TRY(tsr__solver_set_size(s, count, n_sigmas, err));
    memcpy(s->latent, latent, count * sizeof *latent);
    memcpy(s->sigmas, sigmas, (size_t)n_sigmas * sizeof *sigmas);
    memset(s->scalars, 0, sizeof s->scalars);
    s->step = s->stage = s->has_x0 = s->asks_middle = 0;
    s->latent_sigma = s->query_sigma = sigmas[0];
    s->part = TSR__NOISE_NONE;
    s->draws = 0;
    tsr_rng_seed(&s->rng, s->options.seed + 1);
    tsr_brownian_free(s->tree);
    s->tree = NULL;
    s->phase = TSR__PHASE_NEW;
    TSR_TRY(tsr__solver_plan(s, err));
    s->phase = TSR__PHASE_BETWEEN;
done:
    return status;
}

void tsr__ask(tsr_solver *s, double sigma) {
    s->asks = 1;
    s->asks_middle = 1;
    s->query_sigma = (float)sigma;
    s->stage++;
}

static tsr_solver_event start_step(tsr_solver *s) {
    if (s->step >= s->n_steps) return TSR_SOLVER_DONE;
    s->part = TSR__NOISE_NONE;
    s->stage = 0;
    s->asks_middle = 0;
    s->query_sigma = s->latent_sigma;
    s->phase = TSR__PHASE_WAITING;
    return TSR_SOLVER_WANT_DENOISED;
}

static tsr_solver_event go_on(tsr_solver *s, tsr_error *err) {
    s->asks = 0;
    s->part = TSR__NOISE_NONE;
    if (s->kind->advance(s, err) != TSR_OK) {
        s->phase = TSR__PHASE_FAILED;
        return TSR_SOLVER_FAILED;
    }
    if (s->asks) {
        s->phase = TSR__PHASE_WAITING;
        return TSR_SOLVER_WANT_DENOISED;
    }
    if (!s->own_sigmas) s->latent_sigma = s->sigmas[s->step + 1];
    s->step++;
    s->phase = TSR__PHASE_BETWEEN;
    return TSR_SOLVER_STEPPED;
}

tsr_solver_event tsr_solver_next(tsr_solver *s, tsr_error *err) {
    switch (s->phase) {
    case TSR__PHASE_BETWEEN: return start_step(s);
    case TSR__PHASE_ANSWERED: return go_on(s, err);
    case TSR__PHASE_NEW: tsr__fail(err, TSR_WRONG_STATE, "solver: call tsr_solver_begin first"); break;
    case TSR__PHASE_WAITING:
        tsr__fail(err, TSR_WRONG_STATE, "solver: step %d waits for tsr_solver_supply", s->step);
        break;
    case TSR__PHASE_FAILED: tsr__fail(err, TSR_WRONG_STATE, "solver: a step failed; begin again"); break;
    }
    return TSR_SOLVER_FAILED;
}

static int wants_uncond(const tsr_solver *s) {
    return (s->kind->flags & TSR_SAMPLER_CFG_PP) != 0;
}

tsr_solver_query tsr_solver_pending(const tsr_solver *s) {
    tsr_solver_query query = { 0 };
    if (s->phase != TSR__PHASE_WAITING) return query;
    query.x = s->asks_middle ? s->middle : s->latent;
    query.count = s->count;
    query.sigma = s->query_sigma;
    query.step = s->step;
    query.stage = s->stage;
    query.wants_uncond = wants_uncond(s);
    return query;
}

tsr_solver_noise tsr_solver_noise_part(const tsr_solver *s) {
    tsr_solver_noise noise = { 0 };
    if (s->part == TSR__NOISE_NONE) return noise;
    noise.noise = s->part == TSR__NOISE_DRAW ? s->draw : s->history[0];
    noise.amount = s->part_amount;
    noise.key = s->part_key;
    return noise;
}

tsr_status tsr_solver_supply(tsr_solver *s, const float *denoised, const float *uncond, tsr_error *err) {
    tsr_status status = TSR_OK;
    if (s->phase != TSR__PHASE_WAITING)
        TSR_FAIL(err, TSR_WRONG_STATE, "solver: nothing was asked; call tsr_solver_next first");
    if (!denoised) TSR_FAIL(err, TSR_BAD_ARGUMENT, "solver: denoised must not be NULL");
    if (wants_uncond(s) && !uncond)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "solver: %s wants the unconditional prediction as well", s->kind->name);
    tsr__copy(s, s->answer, denoised);
    if (wants_uncond(s)) tsr__copy(s, s->uncond, uncond);
    if (s->stage == 0) {
        tsr__copy(s, s->x0, denoised);
        s->has_x0 = 1;
    }
    s->phase = TSR__PHASE_ANSWERED;
done:
    return status;
}

float *tsr_solver_latent(tsr_solver *s) {
    return s->latent;
}

const float *tsr_solver_x0(const tsr_solver *s) {
    return s->has_x0 ? s->x0 : NULL;
}

const float *tsr_solver_newest(const tsr_solver *s) {
    return s->has_x0 ? s->answer : NULL;
}

float tsr_solver_sigma(const tsr_solver *s) {
    return s->latent_sigma;
}

int tsr_solver_step(const tsr_solver *s) {
    return s->step;
}

int tsr_solver_steps(const tsr_solver *s) {
    if (s->n_steps != INT32_MAX) return s->n_steps;
    return s->step < s->n_sigmas ? s->n_sigmas - 1 : s->step;
}
