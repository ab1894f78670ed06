/* solver/solver_heun.c - two or three evaluations a step by slopes: Heun, Heun++, DPM-2 and its ancestral kind.
 *
 * Sources: Karras et al. 2022 (Heun, algorithm 2; DPM-2); k-diffusion (ancestral); ComfyUI's weights for Heun++. */
#include <math.h>

#include "core/check.h"
#include "solver_priv.h"

tsr_status tsr__advance_heun(tsr_solver *s, tsr_error *err) {
    double sigma = tsr__sigma(s), next = tsr__sigma_next(s), dt = next - sigma;
    (void)err;
    if (next == 0) {
        tsr__euler_move(s, s->answer, sigma, next);
    } else if (s->stage == 0) {
        TSR__COMBINE(s, s->middle, { next / sigma, s->latent }, { -dt / sigma, s->answer });
        tsr__ask(s, next);
    } else {
        double a = 0.5 * dt / sigma, b = 0.5 * dt / next;
        TSR__COMBINE(s, s->latent, { 1.0 + a, s->latent }, { -a, s->x0 }, { b, s->middle }, { -b, s->answer });
    }
    return TSR_OK;
}

/* history[0] keeps the second slope. */
tsr_status tsr__advance_heunpp2(tsr_solver *s, tsr_error *err) {
    double sigma = tsr__sigma(s), next = tsr__sigma_next(s), dt = next - sigma;
    double end = s->sigmas[s->n_sigmas - 1], first = s->sigmas[0];
    (void)err;
    if (next == end) {
        tsr__euler_move(s, s->answer, sigma, next);
        return TSR_OK;
    }
    double after = s->sigmas[s->step + 2];
    if (s->stage == 0) {
        TSR__COMBINE(s, s->middle, { next / sigma, s->latent }, { -dt / sigma, s->answer });
        tsr__ask(s, next);
    } else if (s->stage == 1 && after == end) {
        double w2 = next / (2 * first), a = (1 - w2) * dt / sigma, b = w2 * dt / next;
        TSR__COMBINE(s, s->latent, { 1.0 + a, s->latent }, { -a, s->x0 }, { b, s->middle }, { -b, s->answer });
    } else if (s->stage == 1) {
        TSR__COMBINE(s, s->history[0], { 1 / next, s->middle }, { -1 / next, s->answer });
        TSR__COMBINE(s, s->middle, { 1.0, s->middle }, { after - next, s->history[0] });
        tsr__ask(s, after);
    } else {
        double w2 = next / (3 * first), w3 = after / (3 * first);
        double a = (1 - w2 - w3) * dt / sigma, c = w3 * dt / after;
        TSR__COMBINE(s, s->latent, { 1.0 + a, s->latent }, { -a, s->x0 }, { w2 * dt, s->history[0] }, { c, s->middle },
                     { -c, s->answer });
    }
    return TSR_OK;
}

tsr_status tsr__advance_dpm_2(tsr_solver *s, tsr_error *err) {
    double sigma = tsr__sigma(s), next = tsr__sigma_next(s), down = next, up = 0;
    if (s->kind->variant & TSR__VARIANT_ANCESTRAL) tsr__ancestral(sigma, next, s->options.eta, &down, &up);
    if (down == 0) {
        tsr__euler_move(s, s->answer, sigma, down);
        return tsr__add_noise(s, s->latent, up, sigma, next, err);
    }
    double middle = sqrt(sigma * down);
    if (s->stage == 0) {
        double ratio = middle / sigma;
        TSR__COMBINE(s, s->middle, { ratio, s->latent }, { 1.0 - ratio, s->answer });
        tsr__ask(s, middle);
        return TSR_OK;
    }
    double slope = (down - sigma) / middle;
    TSR__COMBINE(s, s->latent, { 1.0, s->latent }, { slope, s->middle }, { -slope, s->answer });
    return tsr__add_noise(s, s->latent, up, sigma, next, err);
}
