/* solver/solver_sa.c - SA-Solver: stochastic Adams predictor of order 3 and corrector of order 4.
 *
 * Source: Xue et al. 2023, data prediction. The noise level tau is eta between the sigmas at 20 % and 80 % of the model's
 * schedule and 0 outside. As in UniPC the correction is a change of the predicted latent, so edits and noise of the
 * prediction stay. history[0..3]: the newest predictions, [0] being the step's own. scalars: see below. */
#include <math.h>

#include "core/check.h"
#include "solver_priv.h"
#include "tessera/schedule.h"

enum { PREDICTOR_ORDER = 3, CORRECTOR_ORDER = 4, GAUSS_POINTS = 8, GAUSS_PARTS = 4 };
enum { TAU_FROM, TAU_TO }; /* scalars */

/* The interval of tau in the sigmas of Stable Diffusion's schedule. */
tsr_status tsr__plan_sa(tsr_solver *s, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_sigma_table *table = NULL;
    TSR_TRY(tsr_sigma_table_new(&table, 0.00085, 0.012, 1000, err));
    s->scalars[TAU_FROM] = tsr_sigma_of_percent(table, 0.2);
    s->scalars[TAU_TO] = tsr_sigma_of_percent(table, 0.8);
done:
    tsr_sigma_table_free(table);
    return status;
}

static double tau_at(const tsr_solver *s, double sigma) {
    return sigma <= s->scalars[TAU_FROM] && sigma >= s->scalars[TAU_TO] ? s->options.eta : 0;
}

static double lambda_at(const tsr_solver *s, int index) {
    return -log(s->sigmas[index]);
}

/* c[k] = m * integral from `from` to `to` of e^(-m (to - u)) L_k(u) du, L_k over the lambdas of sigma indices newest - k. */
static void adams_weights(const tsr_solver *s, int newest, int order, double from, double to, double tau, double *c) {
    static const double points[GAUSS_POINTS / 2] = { 0.1834346424956498, 0.5255324099163290, 0.7966664774136267,
                                                     0.9602898564975363 };
    static const double weights[GAUSS_POINTS / 2] = { 0.3626837833783620, 0.3137066458778873, 0.2223810344533745,
                                                      0.1012285362903763 };
    double m = 1 + tau * tau, half = (to - from) / (2 * GAUSS_PARTS);
    for (int k = 0; k < order; k++) c[k] = 0;
    for (int p = 0; p < GAUSS_POINTS * GAUSS_PARTS; p++) {
        int part = p / GAUSS_POINTS, q = p % GAUSS_POINTS, pair = q / 2;
        double u = from + half * (2 * part + 1 + (q % 2 ? points[pair] : -points[pair]));
        double value = m * half * weights[pair] * exp(-m * (to - u));
        for (int k = 0; k < order; k++) {
            double basis = value, node = lambda_at(s, newest - k);
            for (int j = 0; j < order; j++)
                if (j != k) basis *= (u - lambda_at(s, newest - j)) / (node - lambda_at(s, newest - j));
            c[k] += basis;
        }
    }
}

static int least(int a, int b) {
    return a < b ? a : b;
}

/* Orders in use at a step; they fall towards a schedule's end in 0. */
static int predictor_order(const tsr_solver *s, int step) {
    int order = least(PREDICTOR_ORDER, step + 1);
    return s->sigmas[s->n_sigmas - 1] == 0 ? least(order, s->n_sigmas - 2 - step) : order;
}

static int corrector_order(const tsr_solver *s) {
    int order = least(CORRECTOR_ORDER, s->step + 1);
    if (s->step == 0 || (tsr__sigma_next(s) == 0 && s->kind->variant == TSR__SA_PEC)) return 0;
    return s->sigmas[s->n_sigmas - 1] == 0 ? least(order, s->n_sigmas - 1 - s->step) : order;
}

/* out = the latent predicted for this step, with the prediction's polynomial replaced by one through the newest answer. */
static void correct(tsr_solver *s, float *out, int order) {
    double with[CORRECTOR_ORDER], without[PREDICTOR_ORDER];
    double from = lambda_at(s, s->step - 1), to = lambda_at(s, s->step), tau = tau_at(s, s->sigmas[s->step]);
    int before = predictor_order(s, s->step - 1), n = 1;
    tsr__term terms[1 + CORRECTOR_ORDER] = { { 1.0, s->latent } };
    adams_weights(s, s->step, order, from, to, tau, with);
    adams_weights(s, s->step - 1, before, from, to, tau, without);
    for (int k = 0; k < CORRECTOR_ORDER; k++) {
        double c = (k < order ? with[k] : 0) - (k > 0 && k - 1 < before ? without[k - 1] : 0);
        if (c != 0) terms[n++] = (tsr__term){ c, s->history[k] };
    }
    tsr__combine(out, s->count, terms, n);
}

static tsr_status predict(tsr_solver *s, tsr_error *err) {
    double sigma = tsr__sigma(s), next = tsr__sigma_next(s), c[PREDICTOR_ORDER];
    if (next == 0) {
        tsr__copy(s, s->latent, s->history[0]);
        return TSR_OK;
    }
    double tau = tau_at(s, next), h = log(sigma / next);
    int order = predictor_order(s, s->step);
    tsr__term terms[1 + PREDICTOR_ORDER] = { { next / sigma * exp(-tau * tau * h), s->latent } };
    adams_weights(s, s->step, order, -log(sigma), -log(next), tau, c);
    for (int k = 0; k < order; k++) terms[k + 1] = (tsr__term){ c[k], s->history[k] };
    tsr__combine(s->latent, s->count, terms, order + 1);
    return tsr__add_noise(s, s->latent, next * sqrt(-expm1(-2 * tau * tau * h)), sigma, next, err);
}

tsr_status tsr__advance_sa(tsr_solver *s, tsr_error *err) {
    if (s->stage == 0) {
        tsr__shift_history(s, CORRECTOR_ORDER);
        tsr__copy(s, s->history[0], s->answer);
        int order = corrector_order(s);
        if (order && s->kind->variant == TSR__SA_PECE) {
            correct(s, s->middle, order);
            tsr__ask(s, tsr__sigma(s));
            return TSR_OK;
        }
        if (order) correct(s, s->latent, order);
    } else {
        tsr__copy(s, s->history[0], s->answer);
        tsr__copy(s, s->latent, s->middle);
    }
    return predict(s, err);
}
