/* solver/solver_dpm.c - DPM-Solver on the noise prediction, which chooses its own sigmas between the first and the last
 * positive one: dpm_fast (a given number of evaluations) and dpm_adaptive (a given accuracy).
 *
 * Source: Lu et al. 2022a, DPM-Solver-1, -2, -3 in t = -log sigma; k-diffusion's controller and constants. In terms of the
 * sigma ratio, sigma_next (e^h - 1) = sigma - sigma_next. Both kinds end at a positive sigma.
 * Times and weights are float32 as in the reference: dpm_adaptive's steps hang on the last bits of small differences.
 * history[0]: the noise prediction at the step's start; [1]: its change to the first inner point; [2]: the last low-order result. */
#include <limits.h>
#include <math.h>

#include "core/check.h"
#include "solver_priv.h"

static double last_positive(const tsr_solver *s) {
    int last = s->n_sigmas - 1;
    return s->sigmas[last] > 0 ? s->sigmas[last] : s->sigmas[last - 1];
}

/* out = (x - answer) / sigma. */
static void noise_prediction(tsr_solver *s, float *out, const float *x) {
    float sigma = s->query_sigma;
    for (size_t i = 0; i < s->count; i++) out[i] = (x[i] - s->answer[i]) / sigma;
}

/* out = the noise prediction at x, less that at the step's start. */
static void noise_change(tsr_solver *s, float *out, const float *x) {
    noise_prediction(s, out, x);
    TSR__COMBINE(s, out, { 1.0, out }, { -1.0, s->history[0] });
}

/* e^h - 1 over h, less 1. */
static float phi_2(float h) {
    return expm1f(h) / h - 1;
}

/* Asks for the first inner point, a share r of the way t..t + h. */
static void ask_first(tsr_solver *s, float t, float h, float r) {
    float sigma = expf(-(t + r * h));
    noise_prediction(s, s->history[0], s->latent);
    TSR__COMBINE(s, s->middle, { 1.0, s->latent }, { -sigma * expm1f(r * h), s->history[0] });
    tsr__ask(s, sigma);
}

/* Asks for the inner point at 2/3, after the one at 1/3. */
static void ask_second(tsr_solver *s, float t, float h, float *first) {
    const float r = 2.0f / 3;
    float sigma = expf(-(t + r * h)), bend = -sigma * 2 * phi_2(r * h);
    noise_change(s, first, s->middle);
    TSR__COMBINE(s, s->middle, { 1.0, s->latent }, { -sigma * expm1f(r * h), s->history[0] }, { bend, first });
    tsr__ask(s, sigma);
}

/* latent = DPM-Solver-3's result; the answer at 2/3 has come. */
static void finish_third(tsr_solver *s, float t, float h) {
    float sigma = expf(-(t + h)), bend = -sigma * 1.5f * phi_2(h);
    noise_change(s, s->middle, s->middle);
    TSR__COMBINE(s, s->latent, { 1.0, s->latent }, { -sigma * expm1f(h), s->history[0] }, { bend, s->middle });
}

/* scalars: first t, length of a step. Orders: 3, 3, ..., and what is left of the evaluations. */
tsr_status tsr__plan_dpm_fast(tsr_solver *s, tsr_error *err) {
    int evaluations = s->n_sigmas - 1, thirds = evaluations / 3 + 1;
    (void)err;
    s->own_sigmas = 1;
    s->n_steps = thirds; /* a multiple of 3 ends in orders 2 and 1 */
    s->scalars[0] = -log(s->sigmas[0]);
    s->scalars[1] = (-log(last_positive(s)) - s->scalars[0]) / thirds;
    return TSR_OK;
}

static int fast_order(const tsr_solver *s) {
    int left = s->n_steps - 1 - s->step, rest = (s->n_sigmas - 1) % 3;
    if (rest) return left == 0 ? rest : 3;
    return left == 0 ? 1 : left == 1 ? 2 : 3;
}

tsr_status tsr__advance_dpm_fast(tsr_solver *s, tsr_error *err) {
    double start = s->scalars[0] + s->step * s->scalars[1], end = start + s->scalars[1];
    float t = (float)start, h = (float)end - t, next = expf(-(float)end);
    int order = fast_order(s);
    (void)err;
    if (s->stage == 0 && order > 1) {
        ask_first(s, t, h, order == 2 ? 0.5f : 1.0f / 3);
        return TSR_OK;
    }
    if (order == 1) {
        noise_prediction(s, s->history[0], s->latent);
        TSR__COMBINE(s, s->latent, { 1.0, s->latent }, { -next * expm1f(h), s->history[0] });
    } else if (order == 2) {
        noise_prediction(s, s->middle, s->middle);
        TSR__COMBINE(s, s->latent, { 1.0, s->latent }, { -next * expm1f(h), s->middle });
    } else if (s->stage == 1) {
        ask_second(s, t, h, s->history[1]);
        return TSR_OK;
    } else {
        finish_third(s, t, h);
    }
    s->latent_sigma = next;
    return TSR_OK;
}

enum { AT_T, AT_END, AT_H, AT_ERROR }; /* scalars of dpm_adaptive: t, last t, proposed step */

static const double relative_tolerance = 0.05, absolute_tolerance = 0.0078, first_h = 0.05, accept_above = 0.81;

tsr_status tsr__plan_dpm_adaptive(tsr_solver *s, tsr_error *err) {
    (void)err;
    s->scalars[AT_T] = -logf(s->sigmas[0]);
    s->scalars[AT_END] = -logf((float)last_positive(s));
    s->scalars[AT_H] = first_h;
    s->own_sigmas = 1;
    s->n_steps = s->scalars[AT_T] < s->scalars[AT_END] - 1e-5 ? INT32_MAX : 0;
    return TSR_OK;
}

/* Root mean square of the difference of the two orders, measured in tolerances. The only sum over a canvas here. */
static double scaled_error(const tsr_solver *s, const float *low, const float *high, const float *before) {
    double sum = 0;
    for (size_t i = 0; i < s->count; i++) {
        double size = fmax(fabs((double)low[i]), fabs((double)before[i]));
        double delta = fmax(absolute_tolerance, relative_tolerance * size);
        double scaled = ((double)low[i] - (double)high[i]) / delta;
        sum += scaled * scaled;
    }
    return sqrt(sum / (double)s->count);
}

/* An integral controller of order 3; returns whether the step is good. */
static int propose(tsr_solver *s, double error) {
    double factor = 1 + atan(cbrt(1 / (error + 1e-8)) - 1);
    s->scalars[AT_H] *= factor;
    return factor >= accept_above;
}

static void start_again(tsr_solver *s) {
    tsr__ask(s, s->latent_sigma);
    s->stage = 0;
    s->asks_middle = 0;
}

tsr_status tsr__advance_dpm_adaptive(tsr_solver *s, tsr_error *err) {
    float t = (float)s->scalars[AT_T], end = (float)s->scalars[AT_END], proposed = t + (float)s->scalars[AT_H];
    float t_next = proposed < end ? proposed : end, h = t_next - t, next = expf(-t_next);
    float *low = s->middle, *high = s->answer;
    (void)err;
    if (s->stage == 0) {
        if (s->step == 0) tsr__copy(s, s->history[2], s->latent);
        ask_first(s, t, h, 1.0f / 3);
    } else if (s->stage == 1) {
        ask_second(s, t, h, s->history[1]);
    } else {
        float bend = -next * 1.5f * expm1f(h), bend_3 = -next * 1.5f * phi_2(h);
        noise_change(s, s->answer, s->middle);
        TSR__COMBINE(s, low, { 1.0, s->latent }, { -next * expm1f(h), s->history[0] }, { bend, s->history[1] });
        TSR__COMBINE(s, high, { 1.0, s->latent }, { -next * expm1f(h), s->history[0] }, { bend_3, s->answer });
        if (!propose(s, scaled_error(s, low, high, s->history[2]))) {
            start_again(s);
            return TSR_OK;
        }
        tsr__copy(s, s->history[2], low);
        tsr__copy(s, s->latent, high);
        s->scalars[AT_T] = t_next;
        s->latent_sigma = next;
        if (!(t_next < end - 1e-5)) s->n_steps = s->step + 1;
    }
    return TSR_OK;
}
