/* solver/solver_math.c - the few formulas that the families share. */
#include <math.h>
#include <string.h>

#include "solver_priv.h"

enum { COMBINE_BLOCK = 256 };

void tsr__copy(const tsr_solver *s, float *out, const float *in) {
    memcpy(out, in, s->count * sizeof *out);
}

void tsr__combine(float *out, size_t count, const tsr__term *terms, int n) {
    float sum[COMBINE_BLOCK];
    for (size_t at = 0; at < count; at += COMBINE_BLOCK) {
        size_t size = count - at < COMBINE_BLOCK ? count - at : COMBINE_BLOCK;
        float c = (float)terms[0].c;
        for (size_t i = 0; i < size; i++) sum[i] = c * terms[0].a[at + i];
        for (int k = 1; k < n; k++) {
            const float *a = terms[k].a + at;
            c = (float)terms[k].c;
            for (size_t i = 0; i < size; i++) sum[i] += c * a[i];
        }
        memcpy(out + at, sum, size * sizeof *out);
    }
}

void tsr__shift_history(tsr_solver *s, int n) {
    float *oldest = s->history[n - 1];
    for (int i = n - 1; i > 0; i--) s->history[i] = s->history[i - 1];
    s->history[0] = oldest;
}

void tsr__euler_move(tsr_solver *s, const float *denoised, double sigma, double sigma_next) {
    double ratio = sigma_next / sigma;
    TSR__COMBINE(s, s->latent, { ratio, s->latent }, { 1.0 - ratio, denoised });
}

/* k-diffusion's get_ancestral_step, in float32 as there: a large move leaves `down` few digits, and then they matter. */
void tsr__ancestral(double from, double to, double eta, double *down, double *up) {
    float f = (float)from, t = (float)to;
    float room = t * t * (f * f - t * t) / (f * f);
    float full = (float)eta * sqrtf(room > 0 ? room : 0);
    float most = full < t ? full : t, rest = t * t - most * most;
    *up = most;
    *down = sqrtf(rest > 0 ? rest : 0);
}

void tsr__solve(double *a, double *b, int n) {
    for (int column = 0; column < n; column++) {
        int pivot = column;
        for (int row = column + 1; row < n; row++)
            if (fabs(a[row * n + column]) > fabs(a[pivot * n + column])) pivot = row;
        for (int k = 0; k < n; k++) {
            double kept = a[column * n + k];
            a[column * n + k] = a[pivot * n + k];
            a[pivot * n + k] = kept;
        }
        double kept = b[column];
        b[column] = b[pivot];
        b[pivot] = kept;
        for (int row = column + 1; row < n; row++) {
            double factor = a[row * n + column] / a[column * n + column];
            for (int k = column; k < n; k++) a[row * n + k] -= factor * a[column * n + k];
            b[row] -= factor * b[column];
        }
    }
    for (int row = n - 1; row >= 0; row--) {
        for (int k = row + 1; k < n; k++) b[row] -= a[row * n + k] * b[k];
        b[row] /= a[row * n + row];
    }
}
