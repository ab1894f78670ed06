/* solver/solver_euler.c - one evaluation a step, no memory: Euler, its ancestral and cfg++ kinds, LCM, DDPM.
 *
 * Sources: Karras et al. 2022; k-diffusion (ancestral); Chung et al. 2024 (CFG++); Luo et al. 2023 (LCM); Ho et al. 2020. */
#include <math.h>

#include "core/check.h"
#include "solver_priv.h"

tsr_status tsr__advance_euler(tsr_solver *s, tsr_error *err) {
    (void)err;
    tsr__euler_move(s, s->answer, tsr__sigma(s), tsr__sigma_next(s));
    return TSR_OK;
}

tsr_status tsr__advance_euler_ancestral(tsr_solver *s, tsr_error *err) {
    double sigma = tsr__sigma(s), next = tsr__sigma_next(s), down, up;
    tsr__ancestral(sigma, next, s->options.eta, &down, &up);
    tsr__euler_move(s, s->answer, sigma, down);
    return down == 0 ? TSR_OK : tsr__add_noise(s, s->latent, up, sigma, next, err);
}

/* The direction comes from the unconditional prediction, the target is the guided one. */
tsr_status tsr__advance_euler_cfg_pp(tsr_solver *s, tsr_error *err) {
    double sigma = tsr__sigma(s), next = tsr__sigma_next(s), down = next, up = 0;
    if (s->kind->variant & TSR__VARIANT_ANCESTRAL) tsr__ancestral(sigma, next, s->options.eta, &down, &up);
    double ratio = down / sigma;
    TSR__COMBINE(s, s->latent, { 1.0, s->answer }, { ratio, s->latent }, { -ratio, s->uncond });
    return tsr__add_noise(s, s->latent, up, sigma, next, err);
}

tsr_status tsr__advance_lcm(tsr_solver *s, tsr_error *err) {
    double next = tsr__sigma_next(s);
    tsr__copy(s, s->latent, s->answer);
    return tsr__add_noise(s, s->latent, next, tsr__sigma(s), next, err);
}

/* DDPM's posterior, with alpha-bar = 1 / (1 + sigma^2), between latents scaled to unit variance and back. */
tsr_status tsr__advance_ddpm(tsr_solver *s, tsr_error *err) {
    double sigma = tsr__sigma(s), next = tsr__sigma_next(s);
    double bar = 1 / (1 + sigma * sigma), bar_next = 1 / (1 + next * next), alpha = bar / bar_next;
    double grow = sqrt(1 / alpha) * sqrt(1 + next * next);
    double keep = grow * sqrt(bar), eps = grow * (1 - alpha) / sqrt(1 - bar) / sigma;
    TSR__COMBINE(s, s->latent, { keep - eps, s->latent }, { eps, s->answer });
    double spread = sqrt((1 - alpha) * (1 - bar_next) / (1 - bar)) * sqrt(1 + next * next);
    return tsr__add_noise(s, s->latent, spread, sigma, next, err);
}
