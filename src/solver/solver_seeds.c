/* solver/solver_seeds.c - SEEDS: exponential SDE solvers of two and three evaluations, and exponential Heun.
 *
 * Source: Gonzalez et al. 2023, on the data prediction in lambda = -log sigma. The noise of a later stage continues that of
 * the stage before, as one path: history[0] holds the path's normalised noise, scalars[0] and part_key its variance and
 * name. A step's inner points lie at shares r of it. */
#include <math.h>

#include "core/check.h"
#include "solver_priv.h"

typedef struct seeds_row {
    int stages;  /* evaluations */
    double r[3]; /* where stage k ends; the last is 1 */
    int phi_2;   /* the last stage weighs by phi_2, else by linear extrapolation */
    int noisy;
} seeds_row;

static const seeds_row rows[] = {
    [TSR__SEEDS_2] = { 2, { 0.5, 1 }, 0, 1 },
    [TSR__SEEDS_3] = { 3, { 1.0 / 3, 2.0 / 3, 1 }, 1, 1 },
    [TSR__SEEDS_HEUN] = { 2, { 1, 1 }, 1, 0 },
    [TSR__SEEDS_HEUN_SDE] = { 2, { 1, 1 }, 1, 1 },
};

/* Continues the noise path of variance 1 - e^(-2 eta h r) to the share r of the step and adds it to value. */
static tsr_status add_path(tsr_solver *s, float *value, double eta_h, int stage, const seeds_row *row, tsr_error *err) {
    tsr_status status = TSR_OK;
    uint64_t key;
    double sigma = tsr__sigma(s), next = tsr__sigma_next(s), before = stage ? row->r[stage - 1] : 0;
    double from = sigma * pow(next / sigma, before), to = sigma * pow(next / sigma, row->r[stage]);
    double segment = (before - row->r[stage]) * eta_h;
    double old = sqrt(-expm1(-2 * before * eta_h)) * exp(segment), fresh = sqrt(-expm1(2 * segment));
    double whole = sqrt(-expm1(-2 * row->r[stage] * eta_h));
    TSR_TRY(tsr__draw(s, from, to, &key, err));
    TSR__COMBINE(s, s->history[0], { stage ? old / whole : 0, s->history[0] }, { fresh / whole, s->draw });
    s->part_key = stage ? tsr__hash(s->part_key, key) : key;
    s->part_amount = (float)(whole * to * s->options.s_noise);
    s->part = TSR__NOISE_MIXED;
    TSR__COMBINE(s, value, { 1.0, value }, { s->part_amount, s->history[0] });
done:
    return status;
}

/* (e^h - 1 - h) / h. */
static double ei_phi_2(double h) {
    return (expm1(h) - h) / h;
}

tsr_status tsr__advance_seeds(tsr_solver *s, tsr_error *err) {
    tsr_status status = TSR_OK;
    const seeds_row *row = &rows[s->kind->variant];
    double sigma = tsr__sigma(s), next = tsr__sigma_next(s);
    if (next == 0) {
        tsr__copy(s, s->latent, s->answer);
        return TSR_OK;
    }
    int stage = s->stage, last = stage == row->stages - 1;
    double eta = row->noisy ? s->options.eta : 0, h = log(sigma / next), r = row->r[stage];
    double whole = -expm1(-r * h * (eta + 1)), weight = 0; /* weight of the newest answer against stage 0's */
    if (stage == 1 && !row->phi_2) weight = whole / (2 * row->r[0]);
    if (stage > 0 && row->phi_2) weight = -ei_phi_2(-r * h * (eta + 1)) * r / row->r[stage - 1];
    float *out = last ? s->latent : s->middle;
    double keep = exp(-r * h * (eta + 1));
    if (stage == 0) TSR__COMBINE(s, out, { keep, s->latent }, { whole, s->answer });
    else TSR__COMBINE(s, out, { keep, s->latent }, { whole - weight, s->x0 }, { weight, s->answer });
    if (eta > 0) TSR_TRY(add_path(s, out, eta * h, stage, row, err));
    if (!last) tsr__ask(s, sigma * pow(next / sigma, r));
done:
    return status;
}
