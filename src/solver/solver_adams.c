/* solver/solver_adams.c - linear multistep methods on past slopes d = (x - denoised) / sigma: LMS, iPNDM, DEIS.
 *
 * Each step adds sum_j c_j d_j; the kinds differ in their c. Sources: Adams-Bashforth with true step sizes (k-diffusion's
 * LMS; iPNDM-v of Zhang and Chen 2022), with equal steps (PNDM, Liu et al. 2022), with polynomials in the VP time (DEIS).
 * history[0..2]: the slopes of the last steps. */
#include <math.h>

#include "core/check.h"
#include "solver_priv.h"

enum { MAX_ORDER = 4, DEIS_ORDER = 3, DEIS_POINTS = 10000 };

/* The j-th Lagrange polynomial over nodes[0..n). */
static double lagrange(const double *nodes, int n, int j, double at) {
    double value = 1;
    for (int k = 0; k < n; k++)
        if (k != j) value *= (at - nodes[k]) / (nodes[j] - nodes[k]);
    return value;
}

/* Integrals of the Lagrange polynomials over the past sigmas, by Gauss' 3-point rule: exact up to degree 5. */
static void true_steps(const tsr_solver *s, int order, double *c) {
    static const double points[3] = { -0.7745966692414834, 0, 0.7745966692414834 };
    static const double weights[3] = { 5.0 / 9, 8.0 / 9, 5.0 / 9 };
    double nodes[MAX_ORDER], from = tsr__sigma(s), half = 0.5 * (tsr__sigma_next(s) - from);
    for (int j = 0; j < order; j++) nodes[j] = tsr__sigma_back(s, j);
    for (int j = 0; j < order; j++) {
        c[j] = 0;
        for (int p = 0; p < 3; p++)
            c[j] += half * weights[p] * lagrange(nodes, order, j, from + half * (1 + points[p]));
    }
}

/* iPNDM-v as its authors published it: Newton's form of the integrals above, but with slips in the weights of the second and
 * third differences that every picture made with it contains. h1, h2, h3 are the steps before h. */
static void published_steps(const tsr_solver *s, int order, double *c) {
    if (order < 3) {
        true_steps(s, order, c);
        return;
    }
    double h = tsr__sigma_next(s) - tsr__sigma(s), h1 = tsr__sigma(s) - tsr__sigma_back(s, 1);
    double h2 = tsr__sigma_back(s, 1) - tsr__sigma_back(s, 2), q = h1 / h2;
    double first = 0.5 * h / h1, second = 0.5 * (1 - h * h / (3 * h1 * (h1 + h2)));
    c[0] = h * (1 + first + second);
    c[1] = -h * (first + (1 + q) * second);
    c[2] = h * q * second;
    if (order < 4) return;
    double h3 = tsr__sigma_back(s, 2) - tsr__sigma_back(s, 3), p = h1 * (h1 + h2) / (h2 * (h2 + h3));
    double bend = 0.5 * (1 - h / (3 * (h + h1))) + (1 - h / (2 * (h + h1))) * h / (6 * (h + h1 + h2));
    double third = bend * h * (h + h1) * (h + h1 + h2) / (h1 * (h1 + h2) * (h1 + h2 + h3));
    c[0] += h * third;
    c[1] -= h * (1 + q + p) * third;
    c[2] += h * (q + p * (1 + h2 / h3)) * third;
    c[3] = -h * p * q * third;
}

static void equal_steps(const tsr_solver *s, int order, double *c) {
    static const double table[MAX_ORDER][MAX_ORDER] = { { 1 },
                                                        { 3.0 / 2, -1.0 / 2 },
                                                        { 23.0 / 12, -16.0 / 12, 5.0 / 12 },
                                                        { 55.0 / 24, -59.0 / 24, 37.0 / 24, -9.0 / 24 } };
    for (int j = 0; j < order; j++) c[j] = (tsr__sigma_next(s) - tsr__sigma(s)) * table[order - 1][j];
}

/* The variance-preserving SDE's time in which DEIS interpolates: log(1 + sigma^2) = b t + a t^2 / 2, with a and b from sigma
 * 80 at t = 1 and 0.002 at t = 0.001. */
static double vp_slope(double *start) {
    double low = log(0.002 * 0.002 + 1), high = log(80.0 * 80.0 + 1);
    double slope = 2 * (low / 1e-3 - high) / (1e-3 - 1);
    *start = high - 0.5 * slope;
    return slope;
}

static double vp_time(double sigma) {
    double start, slope = vp_slope(&start);
    return (sqrt(start * start + 2 * slope * log(sigma * sigma + 1)) - start) / slope;
}

/* Integrals of the Lagrange polynomials in VP time against d sigma, by the reference's plain sum over 10000 points. */
static void vp_steps(const tsr_solver *s, int order, double *c) {
    double nodes[MAX_ORDER], start, slope = vp_slope(&start);
    double from = vp_time(tsr__sigma(s)), to = vp_time(tsr__sigma_next(s));
    for (int j = 0; j < order; j++) {
        nodes[j] = vp_time(tsr__sigma_back(s, j));
        c[j] = 0;
    }
    for (int p = 0; p < DEIS_POINTS; p++) {
        double t = from + (to - from) * p / (DEIS_POINTS - 1), rate = slope * t + start;
        double grown = exp(start * t + 0.5 * slope * t * t); /* 1 + sigma^2 */
        double speed = 0.5 * rate * grown / sqrt(grown - 1); /* d sigma / dt */
        for (int j = 0; j < order; j++) c[j] += speed * lagrange(nodes, order, j, t) * (to - from) / DEIS_POINTS;
    }
}

tsr_status tsr__advance_adams(tsr_solver *s, tsr_error *err) {
    double c[MAX_ORDER] = { 0 }, sigma = tsr__sigma(s), next = tsr__sigma_next(s);
    int kind = s->kind->variant, largest = kind == TSR__ADAMS_DEIS ? DEIS_ORDER : MAX_ORDER;
    if (kind == TSR__ADAMS_LMS && s->options.order) largest = s->options.order;
    int order = s->step + 1 < largest ? s->step + 1 : largest;
    (void)err;
    float *slope = s->answer;
    if (next == 0) {
        tsr__copy(s, s->latent, s->answer);
        return TSR_OK;
    }
    if (kind == TSR__ADAMS_IPNDM) equal_steps(s, order, c);
    else if (kind == TSR__ADAMS_DEIS && order > 1) vp_steps(s, order, c);
    else if (kind == TSR__ADAMS_IPNDM_V) published_steps(s, order, c);
    else true_steps(s, order, c);
    TSR__COMBINE(s, slope, { 1 / sigma, s->latent }, { -1 / sigma, s->answer });
    tsr__term terms[MAX_ORDER + 1] = { { 1.0, s->latent }, { c[0], slope } };
    for (int j = 1; j < order; j++) terms[j + 1] = (tsr__term){ c[j], s->history[j - 1] };
    tsr__combine(s->latent, s->count, terms, order + 1);
    tsr__shift_history(s, s->kind->history);
    tsr__copy(s, s->history[0], slope);
    return TSR_OK;
}
