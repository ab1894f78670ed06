/* solver/solver_res.c - res_multistep and gradient_estimation: one evaluation a step and a memory of one.
 *
 * Sources: Zhang et al. 2023 (refined exponential solver), Permenter and Yuan 2024 (gradient estimation, gamma 2), Chung et
 * al. 2024 (CFG++). */
#include <math.h>

#include "core/check.h"
#include "solver_priv.h"

/* history[0]: the last prediction (the unconditional one for cfg++). scalars[0]: the sigma the last step went down to. */
tsr_status tsr__advance_res(tsr_solver *s, tsr_error *err) {
    double sigma = tsr__sigma(s), next = tsr__sigma_next(s), down = next, up = 0;
    int cfg_pp = s->kind->variant & TSR__VARIANT_CFG_PP;
    const float *basis = cfg_pp ? s->uncond : s->answer;
    if (s->kind->variant & TSR__VARIANT_ANCESTRAL) tsr__ancestral(sigma, next, s->options.eta, &down, &up);
    double ratio = down / sigma;
    if (down == 0 || s->step == 0) {
        TSR__COMBINE(s, s->latent, { ratio, s->latent }, { 1.0, s->answer }, { -ratio, basis });
    } else {
        double h = log(sigma / down), c2 = log(s->scalars[0] / tsr__sigma_back(s, 1)) / h;
        double phi_1 = expm1(-h) / -h, phi_2 = (phi_1 - 1) / -h;
        double b2 = phi_2 / c2;
        double b1 = phi_1 - b2;
        if (!isfinite(b2)) b1 = b2 = 0;
        if (cfg_pp)
            TSR__COMBINE(s, s->latent, { ratio, s->latent }, { ratio, s->answer }, { h * b1 - ratio, s->uncond },
                         { h * b2, s->history[0] });
        else TSR__COMBINE(s, s->latent, { ratio, s->latent }, { h * b1, s->answer }, { h * b2, s->history[0] });
    }
    tsr__copy(s, s->history[0], basis);
    s->scalars[0] = down;
    return tsr__add_noise(s, s->latent, up, sigma, next, err);
}

/* history[0]: the last slope. */
tsr_status tsr__advance_gradient(tsr_solver *s, tsr_error *err) {
    double sigma = tsr__sigma(s), next = tsr__sigma_next(s), dt = next - sigma;
    int cfg_pp = s->kind->variant & TSR__VARIANT_CFG_PP;
    float *slope = s->middle;
    (void)err;
    TSR__COMBINE(s, slope, { 1 / sigma, s->latent }, { -1 / sigma, cfg_pp ? s->uncond : s->answer });
    if (next == 0) tsr__copy(s, s->latent, s->answer);
    else if (cfg_pp) TSR__COMBINE(s, s->latent, { 1.0, s->answer }, { next, slope });
    else TSR__COMBINE(s, s->latent, { 1.0, s->latent }, { dt, slope });
    if (next != 0 && s->step > 0) TSR__COMBINE(s, s->latent, { 1.0, s->latent }, { dt, slope }, { -dt, s->history[0] });
    tsr__copy(s, s->history[0], slope);
    return TSR_OK;
}
