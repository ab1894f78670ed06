/* solver/solver_dpmpp.c - DPM-Solver++: exponential integrators in lambda = -log sigma on the data prediction.
 *
 * Sources: Lu et al. 2022b (2S, 2M, SDE-2M); k-diffusion (ancestral split, 3M SDE); ComfyUI (cfg++ kinds). History of the
 * multistep kinds: history[0] and [1] are the predictions of the last two steps. */
#include <math.h>

#include "core/check.h"
#include "solver_priv.h"

tsr_status tsr__advance_dpmpp_2s(tsr_solver *s, tsr_error *err) {
    double sigma = tsr__sigma(s), next = tsr__sigma_next(s), down, up;
    int cfg_pp = s->kind->variant & TSR__VARIANT_CFG_PP;
    tsr__ancestral(sigma, next, s->options.eta, &down, &up);
    if (down == 0) {
        tsr__copy(s, s->latent, s->answer);
        return tsr__add_noise(s, s->latent, up, sigma, next, err);
    }
    double middle = sqrt(sigma * down), ratio = (s->stage == 0 ? middle : down) / sigma;
    float *out = s->stage == 0 ? s->middle : s->latent;
    if (cfg_pp)
        TSR__COMBINE(s, out, { ratio, s->latent }, { ratio, s->x0 }, { -ratio, s->uncond }, { 1 - ratio, s->answer });
    else TSR__COMBINE(s, out, { ratio, s->latent }, { 1 - ratio, s->answer });
    if (s->stage == 0) {
        tsr__ask(s, middle);
        return TSR_OK;
    }
    return tsr__add_noise(s, s->latent, up, sigma, next, err);
}

tsr_status tsr__advance_dpmpp_2m(tsr_solver *s, tsr_error *err) {
    double sigma = tsr__sigma(s), next = tsr__sigma_next(s), ratio = next / sigma;
    (void)err;
    if (s->step == 0 || next == 0) {
        tsr__euler_move(s, s->answer, sigma, next);
    } else {
        double r = log(tsr__sigma_back(s, 1) / sigma) / log(sigma / next), extra = 1 / (2 * r);
        TSR__COMBINE(s, s->latent, { ratio, s->latent }, { (1 - ratio) * (1 + extra), s->answer },
                     { -(1 - ratio) * extra, s->history[0] });
    }
    tsr__copy(s, s->history[0], s->answer);
    return TSR_OK;
}

/* history[0] keeps the unconditional prediction. */
tsr_status tsr__advance_dpmpp_2m_cfg_pp(tsr_solver *s, tsr_error *err) {
    double sigma = tsr__sigma(s), next = tsr__sigma_next(s), ratio = next / sigma, extra = 0;
    (void)err;
    if (s->step > 0 && next != 0) {
        double r = log(tsr__sigma_back(s, 1) / sigma) / log(sigma / next);
        extra = (1 - ratio) / (2 * r);
    }
    TSR__COMBINE(s, s->latent, { 1 + extra, s->answer }, { -ratio, s->uncond }, { ratio, s->latent },
                 { -extra, s->history[0] });
    tsr__copy(s, s->history[0], s->uncond);
    return TSR_OK;
}

/* The sigma at the share r of the way in lambda, in float32 as the reference: the Brownian tree is asked at exactly this time. */
static double middle_sigma(double sigma, double next, float r) {
    float from = -logf((float)sigma), to = -logf((float)next);
    return expf(-(from + r * (to - from)));
}

tsr_status tsr__advance_dpmpp_sde(tsr_solver *s, tsr_error *err) {
    double sigma = tsr__sigma(s), next = tsr__sigma_next(s), down, up;
    if (next == 0) {
        tsr__euler_move(s, s->answer, sigma, next);
        return TSR_OK;
    }
    float r = s->options.r > 0.0f ? s->options.r : 0.5f;
    double target = s->stage == 0 ? middle_sigma(sigma, next, r) : next;
    tsr__ancestral(sigma, target, s->options.eta, &down, &up);
    double ratio = down / sigma;
    float *out = s->stage == 0 ? s->middle : s->latent;
    /* With the middle at one half the second prediction alone counts: 1 / (2 r) = 1. */
    double newest = s->stage == 0 ? 1.0 : 1 / (2 * (double)r);
    TSR__COMBINE(s, out, { ratio, s->latent }, { (1 - ratio) * newest, s->answer });
    if (newest != 1.0) TSR__COMBINE(s, out, { 1.0, out }, { (1 - ratio) * (1 - newest), s->x0 });
    if (s->stage == 0) tsr__ask(s, target);
    return tsr__add_noise(s, out, up, sigma, target, err);
}

static tsr_status add_sde_noise(tsr_solver *s, double h, tsr_error *err) {
    double next = tsr__sigma_next(s);
    return tsr__add_noise(s, s->latent, next * sqrt(-expm1(-2 * h * s->options.eta)), tsr__sigma(s), next, err);
}

tsr_status tsr__advance_dpmpp_2m_sde(tsr_solver *s, tsr_error *err) {
    tsr_status status = TSR_OK;
    double sigma = tsr__sigma(s), next = tsr__sigma_next(s);
    if (next == 0) {
        tsr__copy(s, s->latent, s->answer);
    } else {
        double h = log(sigma / next), h_eta = h * (s->options.eta + 1.0), gain = -expm1(-h_eta), extra = 0;
        if (s->step > 0) {
            double r = log(tsr__sigma_back(s, 1) / sigma) / h;
            extra = (s->kind->variant == TSR__SDE_HEUN ? 1 - gain / h_eta : 0.5 * gain) / r;
        }
        TSR__COMBINE(s, s->latent, { exp(-h_eta), s->latent }, { gain + extra, s->answer }, { -extra, s->history[0] });
        TSR_TRY(add_sde_noise(s, h, err));
    }
    tsr__copy(s, s->history[0], s->answer);
done:
    return status;
}

tsr_status tsr__advance_dpmpp_3m_sde(tsr_solver *s, tsr_error *err) {
    tsr_status status = TSR_OK;
    double sigma = tsr__sigma(s), next = tsr__sigma_next(s);
    if (next == 0) {
        tsr__copy(s, s->latent, s->answer);
    } else {
        double h = log(sigma / next), h_eta = h * (s->options.eta + 1.0), gain = -expm1(-h_eta);
        double phi_2 = 1 - gain / h_eta, phi_3 = phi_2 / h_eta - 0.5;
        double first = 0, second = 0; /* weights of the backward differences d_0 = m - m_1 and d_1 = m_1 - m_2 */
        if (s->step == 1) first = phi_2 * h / log(tsr__sigma_back(s, 1) / sigma);
        if (s->step > 1) {
            double r0 = log(tsr__sigma_back(s, 1) / sigma) / h;
            double r1 = log(tsr__sigma_back(s, 2) / tsr__sigma_back(s, 1)) / h;
            double bend = (phi_2 * r0 - phi_3) / (r0 + r1);
            first = (phi_2 + bend) / r0;
            second = -bend / r1;
        }
        TSR__COMBINE(s, s->latent, { exp(-h_eta), s->latent }, { gain + first, s->answer },
                     { second - first, s->history[0] }, { -second, s->history[1] });
        TSR_TRY(add_sde_noise(s, h, err));
    }
    tsr__shift_history(s, 2);
    tsr__copy(s, s->history[0], s->answer);
done:
    return status;
}
