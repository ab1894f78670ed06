/* solver/solver_er_sde.c - ER-SDE-Solver-3: Taylor expansion of the data prediction under an extended reverse-time SDE.
 *
 * Source: Cui et al. 2023, with the noise scale phi(x) = x (e^(x^0.3) + 10) and sums over 200 points, as the paper's code.
 * history[0]: the last prediction; history[1]: its last divided difference. */
#include <math.h>

#include "core/check.h"
#include "solver_priv.h"

enum { POINTS = 200 };

/* power 0: the paper's. */
static double noise_scale(double sigma, double power) {
    return power > 0 ? pow(sigma, power) : sigma * (exp(pow(sigma, 0.3)) + 10.0);
}

/* Sums of 1 / phi and (lambda - sigma) / phi over the step, from its lower end. */
static void integrate(double sigma, double next, double power, double *plain, double *moment) {
    double width = (sigma - next) / POINTS;
    *plain = *moment = 0;
    for (int i = 0; i < POINTS; i++) {
        double at = next + i * width, scaled = noise_scale(at, power);
        *plain += width / scaled;
        *moment += width * (at - sigma) / scaled;
    }
}

tsr_status tsr__advance_er_sde(tsr_solver *s, tsr_error *err) {
    tsr_status status = TSR_OK;
    double sigma = tsr__sigma(s), next = tsr__sigma_next(s);
    float *difference = s->middle;
    if (next == 0) {
        tsr__copy(s, s->latent, s->answer);
        return TSR_OK;
    }
    int order = s->options.order ? s->options.order : 3;
    double power = (double)s->options.power;
    double scale = noise_scale(next, power), ratio = scale / noise_scale(sigma, power), dt = next - sigma;
    TSR__COMBINE(s, s->latent, { ratio, s->latent }, { 1 - ratio, s->answer });
    if (s->step > 0 && order > 1) {
        double plain, moment, inverse = 1 / (sigma - tsr__sigma_back(s, 1));
        integrate(sigma, next, power, &plain, &moment);
        TSR__COMBINE(s, difference, { inverse, s->answer }, { -inverse, s->history[0] });
        TSR__COMBINE(s, s->latent, { 1.0, s->latent }, { dt + plain * scale, difference });
        if (s->step > 1 && order > 2) {
            double second = (0.5 * dt * dt + moment * scale) * 2 / (sigma - tsr__sigma_back(s, 2));
            TSR__COMBINE(s, s->latent, { 1.0, s->latent }, { second, difference }, { -second, s->history[1] });
        }
        tsr__copy(s, s->history[1], difference);
    }
    tsr__copy(s, s->history[0], s->answer);
    double variance = next * next - sigma * sigma * ratio * ratio;
    TSR_TRY(tsr__add_noise(s, s->latent, variance > 0 ? sqrt(variance) : 0, sigma, next, err));
done:
    return status;
}
