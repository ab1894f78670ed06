/* schedule/beta_quantile.c - the quantile of the beta distribution, which the "beta" scheduler spaces its steps by. */
#include <float.h>
#include <math.h>

#include "schedule_priv.h"

/* The continued fraction of the incomplete beta function (DLMF 8.17.22), evaluated by Lentz's method. */
static double fraction(double x, double a, double b) {
    const double tiny = 1e-300;
    double c = 1.0, d = 1.0 - (a + b) * x / (a + 1.0);
    d = 1.0 / (fabs(d) < tiny ? tiny : d);
    double value = d;
    for (int m = 1; m <= 1000; m++) {
        double terms[2] = { m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
                            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)) };
        double change = 1.0;
        for (int k = 0; k < 2; k++) {
            d = 1.0 + terms[k] * d;
            c = 1.0 + terms[k] / c;
            d = 1.0 / (fabs(d) < tiny ? tiny : d);
            if (fabs(c) < tiny) c = tiny;
            change = c * d;
            value *= change;
        }
        if (fabs(change - 1.0) < DBL_EPSILON) break;
    }
    return value;
}

/* I_x(a, b), the distribution function. The fraction converges fast on the left of the mean. */
static double regularized(double x, double a, double b) {
    if (x <= 0) return 0.0;
    if (x >= 1) return 1.0;
    double front = pow(x, a) * pow(1.0 - x, b) * tgamma(a + b) / (tgamma(a) * tgamma(b));
    if (x < (a + 1.0) / (a + b + 2.0)) return front * fraction(x, a, b) / a;
    return 1.0 - front * fraction(1.0 - x, b, a) / b;
}

double tsr__beta_quantile(double p, double a, double b) {
    double low = 0.0, high = 1.0;
    if (!(p > 0)) return 0.0;
    if (p >= 1) return 1.0;
    /* The middle of the symmetric case is exact: the scheduler rounds 0.5 * 999, where the last bit decides. */
    if (a == b && p == 0.5) return 0.5;
    /* The function is monotone; halving to the last bit is quick enough for a handful of steps and cannot diverge. */
    for (int i = 0; i < 200; i++) {
        double middle = 0.5 * (low + high);
        if (middle <= low || middle >= high) break;
        if (regularized(middle, a, b) < p) low = middle;
        else high = middle;
    }
    return 0.5 * (low + high);
}
