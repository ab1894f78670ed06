/* region/canvas.c - see canvas.h; the rules are those of docs/keep.md. */
#include "region/canvas_priv.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"

static tsr_status make(tsr__canvas **out, const tsr_plan *plan, const int shape[4], tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__canvas *c = NULL;
    int n = plan->n_actors;
    *out = NULL;
    TSR_ALLOC_ZERO(err, c, 1);
    c->plan = plan;
    memcpy(c->shape, shape, sizeof c->shape);
    c->plane = (size_t)shape[2] * (size_t)shape[3];
    c->count = (size_t)shape[0] * (size_t)shape[1] * c->plane;
    tsr__evaluator_init(&c->evaluator, shape);
    TSR_ALLOC_ZERO(err, c->members, n);
    TSR_ALLOC(err, c->x, c->count);
    TSR_ALLOC(err, c->latent, c->count);
    TSR_ALLOC_ZERO(err, c->noise, c->count);
    TSR_ALLOC(err, c->blended, c->count);
    TSR_ALLOC_ZERO(err, c->requests, n);
    TSR_ALLOC_ZERO(err, c->parts, n);
    TSR_ALLOC_ZERO(err, c->group, n);
    TSR_ALLOC_ZERO(err, c->shared, n);
    TSR_ALLOC_ZERO(err, c->inputs, n);
    TSR_ALLOC_ZERO(err, c->by_model, n);
    TSR_ALLOC_ZERO(err, c->takes_part, n);
    TSR_ALLOC_ZERO(err, c->shares, n);
    TSR_ALLOC_ZERO(err, c->claims, n);
    for (int k = 0; k < n; k++) {
        TSR_ALLOC(err, c->members[k].denoised, c->count);
        TSR_ALLOC(err, c->members[k].uncond, c->count);
        TSR_ALLOC_ZERO(err, c->members[k].weights, c->plane);
        c->members[k].claims = plan->actors[k].claims;
    }
    *out = c;
    c = NULL;
done:
    tsr__canvas_free(c);
    return status;
}

void tsr__canvas_free(tsr__canvas *c) {
    if (!c) return;
    for (int k = 0; c->members && k < c->plan->n_actors; k++) {
        tsr_solver_free(c->members[k].solver);
        free(c->members[k].denoised);
        free(c->members[k].uncond);
        free(c->members[k].weights);
        tsr__mask_rule_clear(&c->members[k].rule);
    }
    if (c->coupled_owned) c->coupled.denoiser->uncouple(c->coupled.denoiser->user, c->coupled_owned);
    tsr__evaluator_clear(&c->evaluator);
    free(c->members);
    free(c->x);
    free(c->latent);
    free(c->noise);
    free(c->blended);
    free(c->solo);
    free(c->requests);
    free(c->parts);
    free(c->group);
    free(c->shared);
    free(c->inputs);
    free(c->by_model);
    free(c->takes_part);
    free(c->shares);
    free(c->claims);
    free(c);
}

/* One positive out of everybody's, each where its share is. */
static tsr_status couple(tsr__canvas *c, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr_plan *plan = c->plan;
    const tsr_denoiser *denoiser = plan->actors[0].guide.denoiser;
    const void **conds = NULL;
    const float **weights = NULL;
    int n = 0;
    TSR_ALLOC_ZERO(err, conds, plan->n_actors);
    TSR_ALLOC_ZERO(err, weights, plan->n_actors);
    for (int k = 0; k < plan->n_actors; k++) {
        if (!plan->actors[k].used) continue;
        conds[n] = plan->actors[k].guide.positive;
        weights[n++] = plan->actors[k].weights;
    }
    c->coupled = plan->actors[0].guide;
    TSR_TRY(denoiser->couple(denoiser->user, &c->coupled_owned, conds, weights, n, c->shape[2], c->shape[3], err));
    c->coupled.positive = c->coupled_owned;
done:
    free(conds);
    free(weights);
    return status;
}

tsr_status tsr__canvas_new(tsr__canvas **out, const tsr_plan *plan, const tsr_latent *latent, tsr__run *run,
                           tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__canvas *c = NULL;
    const tsr_denoiser *denoiser = plan->actors[0].guide.denoiser;
    float scale = tsr__start_noise_scale(denoiser->table, plan->sigmas[0]);
    *out = NULL;
    TSR_TRY(make(&c, plan, plan->shape, err));
    c->run = run;
    tsr__scale_latent(c->latent, latent->values, c->count, denoiser->latent_scale);
    if (plan->options.add_noise || plan->options.system == TSR_SYSTEM_REGIONAL)
        TSR_TRY(tsr__keep_noise(c->noise, plan, latent, err));
    for (size_t i = 0; i < c->count; i++) c->x[i] = c->noise[i] * scale + c->latent[i];
    for (int k = 0; latent->noise_mask && k < plan->n_actors; k++) {
        const tsr__actor *actor = &plan->actors[k];
        TSR_TRY(tsr__mask_rule_init(&c->members[k].rule, latent->noise_mask, plan->shape, c->latent, c->noise,
                                    actor->sampler, actor->seed, err));
        c->members[k].rule.inpaint.differential =
            tsr__differential_of(actor->guide.differential, actor->guide.denoiser->table, plan->sigmas, plan->n_sigmas);
    }
    tsr__evaluator_set_start(&c->evaluator, c->latent, c->members[0].rule.mask);
    if (plan->sharing == TSR_SHARING_COUPLE) TSR_TRY(couple(c, err));
    *out = c;
    c = NULL;
done:
    tsr__canvas_free(c);
    return status;
}

/* 1 when two pixels are claimed by the same actors, in part or whole, and shared by the same. */
static int same_actors(const tsr_plan *plan, size_t a, size_t b) {
    for (int k = 0; k < plan->n_actors; k++) {
        const float *weights = plan->actors[k].weights, *claims = plan->actors[k].claims;
        if ((weights[a] > 0.0f) != (weights[b] > 0.0f)) return 0;
        if (k > 0 && ((claims[a] > 0.0f) != (claims[b] > 0.0f) || (claims[a] == 1.0f) != (claims[b] == 1.0f))) return 0;
    }
    return 1;
}

tsr_status tsr__canvas_new_dry(tsr__canvas **out, const tsr_plan *plan, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__canvas *c = NULL;
    size_t plane = (size_t)plan->shape[2] * (size_t)plan->shape[3];
    size_t *kinds = NULL;
    int n = 0;
    *out = NULL;
    TSR_ALLOC(err, kinds, plane);
    for (size_t p = 0; p < plane; p++) {
        int found = 0;
        for (int i = n - 1; i >= 0 && !found; i--) found = same_actors(plan, kinds[i], p);
        if (!found) kinds[n++] = p;
    }
    int shape[4] = { 1, 1, 1, n };
    TSR_TRY(make(&c, plan, shape, err));
    TSR_ALLOC(err, c->solo, n * plan->n_actors);
    for (int k = 1; k < plan->n_actors; k++) {
        c->members[k].claims = c->solo + (size_t)k * (size_t)n;
        for (int i = 0; i < n; i++) c->solo[k * n + i] = plan->actors[k].claims[kinds[i]];
    }
    for (int i = 0; i < n; i++) c->x[i] = plan->sigmas[0] * (0.3f + 0.7f / (float)(i + 1));
    *out = c;
    c = NULL;
done:
    free(kinds);
    tsr__canvas_free(c);
    return status;
}

/* The Brownian tree spans the canvas sigmas for everybody, also for those who start later: equal intervals, equal
 * noise. Who starts at another step than planned (a base that gets pixels back) takes a stream of its own: its first
 * draws are in the canvas already. */
tsr_status tsr__canvas_start(tsr__canvas *c, int k, int i, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__actor *actor = &c->plan->actors[k];
    tsr_solver_options options = actor->solver;
    int last = c->plan->n_sigmas - 1;
    float low = c->plan->sigmas[last] > 0.0f ? c->plan->sigmas[last] : c->plan->sigmas[last - 1];
    options.seed = actor->seed;
    options.noise = NULL;
    options.sigma_min = options.sigma_max = 0.0f;
    if (i != actor->first && !(tsr_sampler_flags(tsr_sampler_find(actor->sampler)) & TSR_SAMPLER_BROWNIAN))
        options.seed += (uint64_t)(c->plan->n_actors + i) * UINT64_C(0x9E3779B97F4A7C15);
    if (low < c->plan->sigmas[0]) {
        options.sigma_min = low;
        options.sigma_max = c->plan->sigmas[0];
    }
    int from = actor->boundary[i];
    tsr_solver_free(c->members[k].solver);
    c->members[k].solver = NULL;
    c->members[k].from = i;
    TSR_TRY(tsr_solver_new(&c->members[k].solver, actor->sampler, &options, err));
    TSR_TRY(tsr_solver_begin(c->members[k].solver, c->x, c->count, actor->sigmas + from, actor->n_sigmas - from, err));
done:
    return status;
}

/* A solver on its own sigmas goes on until it wants the network. What it wants below canvas sigma i + 1 is asked in a
 * later step. */
static tsr_status pump_own_pace(tsr__canvas *c, int k, int i, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__member *m = &c->members[k];
    m->waiting = 0;
    for (;;) {
        tsr_solver_query query = tsr_solver_pending(m->solver);
        if (query.x) {
            m->waiting = i + 1 == c->plan->steps || query.sigma > c->plan->sigmas[i + 1];
            return TSR_OK;
        }
        tsr_solver_event event = tsr_solver_next(m->solver, err);
        if (event == TSR_SOLVER_DONE) return TSR_OK;
        if (event == TSR_SOLVER_FAILED)
            TSR_FAIL(err, err->status != TSR_OK ? err->status : TSR_WRONG_STATE, "%s: %s stopped",
                     c->plan->actors[k].label, c->plan->actors[k].sampler);
    }
done:
    return status;
}

/* Lets a solver go on until it wants the network or has reached the end of canvas step i. */
static tsr_status pump(tsr__canvas *c, int k, int i, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__member *m = &c->members[k];
    const tsr__actor *actor = &c->plan->actors[k];
    if (actor->own_pace) return pump_own_pace(c, k, i, err);
    int goal = actor->boundary[i + 1] - actor->boundary[m->from];
    m->waiting = 0;
    for (;;) {
        switch (tsr_solver_next(m->solver, err)) {
        case TSR_SOLVER_WANT_DENOISED: m->waiting = 1; return TSR_OK;
        case TSR_SOLVER_STEPPED:
            if (tsr_solver_step(m->solver) < goal) continue;
            if (tsr_solver_sigma(m->solver) != c->plan->sigmas[i + 1]) break;
            return TSR_OK;
        case TSR_SOLVER_FAILED:
            TSR_FAIL(err, err->status != TSR_OK ? err->status : TSR_WRONG_STATE, "%s: %s stopped", actor->label,
                     actor->sampler);
        case TSR_SOLVER_DONE: break;
        }
        TSR_FAIL(err, TSR_UNSUPPORTED,
                 "%s: %s chooses its own steps and cannot share a canvas; take another sampler, or history restart",
                 actor->label, actor->sampler);
    }
done:
    return status;
}

/* The members that wait at the highest sigma. The highest goes first: who is at a lower one is ahead, and the others
 * may still catch up with it and share its evaluation. */
static int gather(tsr__canvas *c, float *sigma) {
    int n = 0;
    *sigma = -1.0f;
    for (int k = 0; k < c->plan->n_actors; k++)
        if (c->members[k].waiting) *sigma = fmaxf(*sigma, tsr_solver_pending(c->members[k].solver).sigma);
    for (int k = 0; k < c->plan->n_actors; k++)
        if (c->members[k].waiting && tsr_solver_pending(c->members[k].solver).sigma == *sigma) c->group[n++] = k;
    return n;
}

/* Members whose latents hold the same fresh noise, or none: a solver that adds none would take a neighbour's noise
 * for its own slope. */
static int same_noise(const tsr__blend_part *a, const tsr__blend_part *b) {
    int has = a->noise.noise != NULL;
    return has == (b->noise.noise != NULL) && (!has || a->noise.key == b->noise.key);
}

/* Blends the n parts and gives the blend to all of them, where any of them has weight. */
static tsr_status blend_group(tsr__canvas *c, tsr__blend_part *parts, float *const *inputs, int n, float sigma,
                              tsr_error *err) {
    tsr_status status = TSR_OK;
    int equal = 1;
    for (int i = 1; i < n && equal; i++) equal = memcmp(inputs[i], inputs[0], c->count * sizeof(float)) == 0;
    if (equal) return TSR_OK;
    TSR_TRY(tsr__blend(c->blended, parts, n, sigma, c->count, c->plane, err));
    for (size_t p = 0; p < c->plane; p++) {
        float sum = 0.0f;
        for (int i = 0; i < n; i++) sum += parts[i].weights[p];
        if (sum <= 0.0f) continue;
        for (int i = 0; i < n; i++)
            for (size_t at = p; at < c->count; at += c->plane) inputs[i][at] = c->blended[at];
    }
done:
    return status;
}

/* Members that wait at one sigma see one canvas there: the blend of their latents. */
static tsr_status share_canvas(tsr__canvas *c, int n, float sigma, tsr_error *err) {
    tsr_status status = TSR_OK;
    for (int i = 0; i < n; i++) c->shared[i] = c->plan->actors[c->group[i]].own_pace;
    for (int i = 0; i < n; i++) {
        int m = 0;
        if (c->shared[i]) continue;
        for (int j = i; j < n; j++) {
            tsr__member *other = &c->members[c->group[j]];
            float *x = tsr_solver_pending(other->solver).x;
            tsr__blend_part part = { x, other->weights, tsr_solver_noise_part(other->solver) };
            if (c->shared[j] || (m > 0 && !same_noise(&c->parts[0], &part))) continue;
            c->shared[j] = 1;
            c->inputs[m] = x;
            c->parts[m++] = part;
        }
        TSR_TRY(blend_group(c, c->parts, c->inputs, m, sigma, err));
    }
done:
    return status;
}

/* Equal inputs are given as one pointer, so that the network sees them once. */
static const float *same_input(const tsr__canvas *c, int i, const float *x) {
    for (int j = 0; j < i; j++)
        if (memcmp(c->requests[j].x, x, c->count * sizeof(float)) == 0) return c->requests[j].x;
    return x;
}

static int same_rule(const tsr__mask_rule *a, const tsr__mask_rule *b) {
    const tsr__differential *one = &a->inpaint.differential, *other = &b->inpaint.differential;
    return !a->random && !b->random && one->strength == other->strength && one->table == other->table;
}

/* Equal noise-mask rules are given as one pointer too. */
static const tsr__inpaint *rule_of(const tsr__canvas *c, int k) {
    const tsr__mask_rule *rule = &c->members[k].rule;
    if (!rule->mask) return NULL;
    for (int j = 0; j < k; j++)
        if (same_rule(&c->members[j].rule, rule)) return &c->members[j].rule.inpaint;
    return &rule->inpaint;
}

/* A dry canvas answers with something smooth that differs between actors. */
static void pretend(tsr__canvas *c, int k, float sigma) {
    tsr__member *m = &c->members[k];
    const float *x = tsr_solver_pending(m->solver).x;
    for (size_t i = 0; i < c->count; i++)
        m->denoised[i] = m->uncond[i] = (x[i] + (float)(k + 1) * 0.1f * sigma * sigma) / (1.0f + sigma * sigma);
}

/* couple: the common prompt, once the regions have started. */
static const tsr_guide *guide_of(const tsr__canvas *c, int k, int i) {
    int coupled = c->coupled_owned && k == 0 && i >= c->plan->actors[1].first;
    return coupled ? &c->coupled : &c->plan->actors[k].guide;
}

/* 1 for a solver on its own sigmas that has not reached its last one: it is seldom at a canvas sigma. */
static int is_under_way(const tsr__canvas *c, int k) {
    const tsr_solver *solver = c->members[k].solver;
    return c->plan->actors[k].own_pace && tsr_solver_step(solver) < tsr_solver_steps(solver);
}

/* Parts of all active members. values: their latents, or their predictions of the clean latent. */
static int active_parts(tsr__canvas *c, int clean) {
    int n = 0;
    for (int k = 0; k < c->plan->n_actors; k++) {
        tsr__member *m = &c->members[k];
        tsr_solver_noise none = { 0 };
        if (!m->active) continue;
        tsr__blend_part part = { clean ? tsr_solver_x0(m->solver) : tsr_solver_latent(m->solver), m->weights,
                                 clean ? none : tsr_solver_noise_part(m->solver) };
        if (!clean && is_under_way(c, k)) part.values = m->uncond; /* set by reach */
        if (clean && part.values && is_under_way(c, k)) part.values = tsr_solver_newest(m->solver);
        if (part.values) c->parts[n++] = part;
    }
    return n;
}

/* The canvas of step i at a sigma within it: on its way to the clean latent that all predict. */
static tsr_status canvas_at(tsr__canvas *c, float *out, int i, float sigma, tsr_error *err) {
    tsr_status status = TSR_OK;
    int n = active_parts(c, 1);
    float from = c->plan->sigmas[i];
    memcpy(out, c->x, c->count * sizeof *out);
    if (sigma >= from || n == 0) goto done;
    TSR_TRY(tsr__blend(out, c->parts, n, 0.0f, c->count, c->plane, err));
    tsr__blend_line(out, c->x, out, from, sigma, NULL, c->count, c->plane);
done:
    return status;
}

/* Solvers on sigmas of their own, of the n that wait at one: pixels that are theirs alone keep what they have; elsewhere they
 * see the canvas. */
static tsr_status meet(tsr__canvas *c, int n, int step, float sigma, tsr_error *err) {
    tsr_status status = TSR_OK;
    float *canvas = c->members[c->group[0]].uncond; /* is written after the evaluation only */
    int m = 0;
    for (int i = 0; i < n; i++) m += c->plan->actors[c->group[i]].own_pace;
    if (m == 0) goto done;
    TSR_TRY(canvas_at(c, canvas, step, sigma, err));
    m = 0;
    for (int i = 0; i < n; i++) {
        tsr__member *one = &c->members[c->group[i]];
        if (!c->plan->actors[c->group[i]].own_pace) continue;
        c->inputs[m] = tsr_solver_pending(one->solver).x;
        c->parts[m] = (tsr__blend_part){ c->inputs[m], one->weights, { 0 } };
        m++;
    }
    TSR_TRY(tsr__blend(c->blended, c->parts, m, sigma, c->count, c->plane, err));
    for (size_t p = 0; p < c->plane; p++) {
        float theirs = 0.0f;
        for (int i = 0; i < m; i++) theirs += c->parts[i].weights[p];
        const float *seen = theirs > 1.0f - 1e-6f ? c->blended : canvas;
        for (int i = 0; i < m; i++)
            for (size_t at = p; at < c->count; at += c->plane) c->inputs[i][at] = seen[at];
    }
done:
    return status;
}

static tsr_status evaluate(tsr__canvas *c, int step, int n, float sigma, tsr_error *err) {
    tsr_status status = TSR_OK;
    int calls = 0;
    int64_t pixels = 0, whole = (int64_t)c->plan->shape[2] * c->plan->shape[3];
    TSR_TRY(share_canvas(c, n, sigma, err));
    TSR_TRY(meet(c, n, step, sigma, err));
    for (int i = 0; i < n; i++) {
        int k = c->group[i];
        tsr__member *m = &c->members[k];
        tsr_solver_query query = tsr_solver_pending(m->solver);
        tsr__request request = { guide_of(c, k, step),
                                 same_input(c, i, query.x),
                                 sigma,
                                 rule_of(c, k),
                                 k,
                                 m->denoised,
                                 query.wants_uncond ? m->uncond : NULL,
                                 c->plan->actors[k].crop };
        c->requests[i] = request;
    }
    if (c->run) {
        TSR_TRY(tsr__evaluate(&c->evaluator, c->requests, n, c->run, err));
    } else {
        TSR_TRY(tsr__evaluate_count(&calls, &pixels, whole, &c->evaluator, c->requests, n, err));
        c->counted.evaluations += calls;
        c->counted.pixels += pixels;
        for (int k = 0; k < c->plan->n_actors; k++)
            c->by_model[k] += tsr__evaluate_calls_of(&c->evaluator, c->plan->actors[k].guide.denoiser);
    }
    for (int i = 0; i < n; i++) {
        if (!c->run) pretend(c, c->group[i], sigma);
        tsr__member *m = &c->members[c->group[i]];
        TSR_TRY(tsr_solver_supply(m->solver, m->denoised, c->requests[i].uncond, err));
        m->waiting = 0;
    }
done:
    return status;
}

/* Solvers between sigmas of their own reach the canvas sigma on the straight line to what they predict. */
static void reach(tsr__canvas *c, float sigma) {
    for (int k = 0; k < c->plan->n_actors; k++) {
        tsr__member *m = &c->members[k];
        if (m->active && is_under_way(c, k))
            tsr__blend_line(m->uncond, tsr_solver_latent(m->solver), tsr_solver_newest(m->solver),
                            tsr_solver_sigma(m->solver), sigma, NULL, c->count, c->plane);
    }
}

/* The new canvas, handed to every solver. Who is between sigmas of its own gets, where it is not alone, a latent whose
 * line meets the canvas. A base that is alone owns every pixel. */
static tsr_status join(tsr__canvas *c, int i, tsr_error *err) {
    tsr_status status = TSR_OK;
    float sigma = c->plan->sigmas[i + 1];
    reach(c, sigma);
    int n = active_parts(c, 0);
    if (n == 1) memcpy(c->x, c->parts[0].values, c->count * sizeof(float));
    else TSR_TRY(tsr__blend(c->x, c->parts, n, sigma, c->count, c->plane, err));
    for (int k = 0; k < c->plan->n_actors; k++) {
        tsr__member *m = &c->members[k];
        if (!m->active) continue;
        if (!is_under_way(c, k)) memcpy(tsr_solver_latent(m->solver), c->x, c->count * sizeof(float));
        else if (n > 1)
            tsr__blend_line(tsr_solver_latent(m->solver), c->x, tsr_solver_newest(m->solver), sigma,
                            tsr_solver_sigma(m->solver), m->weights, c->count, c->plane);
    }
done:
    return status;
}

static tsr_status report(tsr__canvas *c, int i, tsr_error *err) {
    tsr_status status = TSR_OK;
    if (!c->run || !c->run->hooks) return TSR_OK;
    int n = active_parts(c, 1);
    if (n == 1) {
        TSR_TRY(tsr__run_set_x0(c->run, c->parts[0].values, err));
    } else if (n > 1) {
        TSR_TRY(tsr__blend(c->blended, c->parts, n, 0.0f, c->count, c->plane, err));
        TSR_TRY(tsr__run_set_x0(c->run, c->blended, err));
    }
    TSR_TRY(tsr__run_notify(c->run, TSR_PROGRESS_STEP, c->plan->sigmas[i + 1], err));
done:
    return status;
}

/* Who takes part in step i, and with which shares. */
static void choose_members(tsr__canvas *c, int i) {
    const tsr_plan *plan = c->plan;
    const unsigned char *active = plan->active + (size_t)i * (size_t)plan->n_actors;
    int same = i > 0, couples = plan->sharing == TSR_SHARING_COUPLE;
    for (int k = 0; k < plan->n_actors; k++) {
        unsigned char now = i >= plan->actors[k].first && i < plan->actors[k].last;
        same &= now == c->takes_part[k];
        c->takes_part[k] = now;
        c->shares[k] = c->members[k].weights;
        c->claims[k] = c->members[k].claims;
        c->members[k].active = couples ? k == 0 : active[k];
    }
    if (!same) tsr__plan_share(plan, c->shares, c->claims, c->takes_part, c->plane);
}

tsr_status tsr__canvas_step(tsr__canvas *c, int i, tsr__work *work_out, tsr_error *err) {
    tsr_status status = TSR_OK;
    float sigma;
    int n;
    memset(&c->counted, 0, sizeof c->counted);
    choose_members(c, i);
    for (int k = 0; k < c->plan->n_actors; k++) {
        tsr__member *m = &c->members[k];
        if (!m->active) continue;
        if (!m->solver || m->until != i) TSR_TRY(tsr__canvas_start(c, k, i, err));
        m->until = i + 1;
        TSR_TRY(pump(c, k, i, err));
    }
    while ((n = gather(c, &sigma)) > 0) {
        TSR_TRY(evaluate(c, i, n, sigma, err));
        for (int j = 0; j < n; j++) TSR_TRY(pump(c, c->group[j], i, err));
    }
    TSR_TRY(join(c, i, err));
    c->steps_ended = i + 1;
    TSR_TRY(report(c, i, err));
    if (work_out) *work_out = c->counted;
done:
    return status;
}

int64_t tsr__canvas_evaluations_of(const tsr__canvas *c, const tsr_denoiser *denoiser) {
    for (int k = 0; k < c->plan->n_actors; k++)
        if (c->plan->actors[k].guide.denoiser == denoiser) return c->by_model[k];
    return 0;
}

void tsr__canvas_result(const tsr__canvas *c, float *out) {
    float scale = c->plan->actors[0].guide.denoiser->latent_scale;
    for (size_t i = 0; i < c->count; i++) out[i] = c->x[i] / scale;
}
