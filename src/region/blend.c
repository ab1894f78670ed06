/* region/blend.c - see blend.h. */
#include "region/blend.h"

#include <math.h>
#include <stdlib.h>

#include "core/memory.h"

/* One part's contribution at the pixel in hand. */
typedef struct share {
    const tsr__blend_part *part;
    double weight;
    double amount; /* of noise in values */
    double noise;  /* of this part's noise in the result; 0 for all but the first of a key */
} share;

/* How much of each noise the result gets. Deterministic parts have the noise level sqrt(sigma^2 - a^2), and blend
 * linearly because they hang on the same canvas noise; what then lacks to sigma is fresh noise, split by each
 * noise's share. Equal parts keep their own amount exactly. */
static void set_noise(share *shares, int n, double sigma) {
    double rest = 0.0, power = 0.0, equal = shares[0].amount;
    for (int i = 0; i < n; i++) {
        double a = shares[i].amount;
        rest += shares[i].weight * sqrt(fmax(sigma * sigma - a * a, 0.0));
        power += shares[i].weight * a * a;
        shares[i].noise = 0.0;
        if (a != equal || shares[i].part->noise.key != shares[0].part->noise.key) equal = -1.0;
    }
    if (power <= 0.0) return;
    if (equal >= 0.0) {
        shares[0].noise = equal;
        return;
    }
    double total = fmax(sigma * sigma - rest * rest, 0.0);
    for (int i = 0; i < n; i++) { /* gather squares at the first of each key */
        int first = 0;
        if (shares[i].amount <= 0.0) continue;
        while (shares[first].amount <= 0.0 || shares[first].part->noise.key != shares[i].part->noise.key) first++;
        shares[first].noise += total * shares[i].weight * shares[i].amount * shares[i].amount / power;
    }
    for (int i = 0; i < n; i++) shares[i].noise = sqrt(shares[i].noise);
}

static float mix(const share *shares, int n, size_t at) {
    double sum = 0.0;
    for (int i = 0; i < n; i++) {
        const tsr__blend_part *part = shares[i].part;
        double value = (double)part->values[at];
        if (shares[i].amount > 0.0) {
            /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): an amount comes with its noise */
            double noise = (double)part->noise.noise[at];
            value -= shares[i].amount * noise;
            sum += shares[i].noise * noise;
        }
        sum += shares[i].weight * value;
    }
    return (float)sum;
}

tsr_status tsr__blend(float *out, const tsr__blend_part *parts, int n, float sigma, size_t count, size_t plane,
                      tsr_error *err) {
    tsr_status status = TSR_OK;
    share *shares = NULL;
    TSR_ALLOC(err, shares, n);
    for (size_t p = 0; p < plane; p++) {
        int m = 0;
        double sum = 0.0;
        for (int k = 0; k < n; k++) {
            double weight = (double)parts[k].weights[p];
            if (weight <= 0.0) continue;
            share one = { &parts[k], weight, parts[k].noise.noise ? (double)parts[k].noise.amount : 0.0, 0.0 };
            shares[m++] = one;
            sum += weight;
        }
        if (m == 1) {
            for (size_t i = p; i < count; i += plane) out[i] = shares[0].part->values[i];
        } else if (m > 1) {
            for (int i = 0; i < m; i++) shares[i].weight /= sum;
            set_noise(shares, m, (double)sigma);
            for (size_t i = p; i < count; i += plane) out[i] = mix(shares, m, i);
        }
    }
done:
    free(shares);
    return status;
}

void tsr__blend_line(float *out, const float *x, const float *x0, float from, float to, const float *except,
                     size_t count, size_t plane) {
    float ratio = to / from;
    for (size_t p = 0; p < plane; p++) {
        if (except && except[p] == 1.0f) continue;
        for (size_t i = p; i < count; i += plane) out[i] = x0[i] + (x[i] - x0[i]) * ratio;
    }
}
