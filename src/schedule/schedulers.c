/* schedule/schedulers.c - the table of schedulers, one row each: which sigmas a run of n steps visits.
 *
 * Definitions: Karras et al. 2022 (karras), k-diffusion (exponential), Align Your Steps' KL-optimal curve, genmo's
 * linear-quadratic curve, "Beta Sampling is All You Need" (beta), DDIM (ddim_uniform), as ComfyUI 0.8.0 sets their constants. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "core/memory.h"
#include "core/suggest.h"
#include "schedule_priv.h"

/* Writes descending sigmas ending in 0 to out (room for the table and steps + 2 more); returns how many. */
typedef int (*fill_fn)(float *out, const tsr_sigma_table *table, int steps);

/* torch.linspace in float32: counted from the nearer end. */
float tsr__linspace(float start, float end, int n, int i) {
    if (n < 2) return start;
    float step = (end - start) / (float)(n - 1);
    return i < n / 2 ? start + step * (float)i : end - step * (float)(n - 1 - i);
}

static int end_with_zero(float *out, int n) {
    out[n] = 0.0f;
    return n + 1;
}

static int fill_simple(float *out, const tsr_sigma_table *table, int steps) {
    double stride = (double)table->count / steps;
    for (int i = 0; i < steps; i++) out[i] = table->sigmas[table->count - 1 - (int)(i * stride)];
    return end_with_zero(out, steps);
}

/* Of a table that ends at next to no noise, which then is no step of its own. */
static int is_zero(float sigma) {
    return fabsf(sigma) <= 1e-5f;
}

/* n timesteps evenly from the largest to the smallest sigma, the first `steps` of them used. */
static int fill_timesteps(float *out, const tsr_sigma_table *table, int steps, int n) {
    float first = tsr_timestep_of_sigma(table, tsr_sigma_table_max(table)),
          last = tsr_timestep_of_sigma(table, tsr_sigma_table_min(table));
    for (int i = 0; i < steps; i++) out[i] = tsr_sigma_of_timestep(table, tsr__linspace(first, last, n, i));
    return steps;
}

static int fill_normal(float *out, const tsr_sigma_table *table, int steps) {
    if (is_zero(tsr_sigma_of_timestep(table, tsr_timestep_of_sigma(table, tsr_sigma_table_min(table)))))
        return fill_timesteps(out, table, steps + 1, steps + 1);
    return end_with_zero(out, fill_timesteps(out, table, steps, steps));
}

static int fill_sgm_uniform(float *out, const tsr_sigma_table *table, int steps) {
    return end_with_zero(out, fill_timesteps(out, table, steps, steps + 1));
}

/* The root is float32 as in the reference: a few last bits of the ends decide the Brownian tree's rounded times. */
int tsr__karras_sigmas(float *out, double low, double high, double rho, int steps) {
    double low_root = pow(low, 1 / rho), high_root = pow(high, 1 / rho);
    for (int i = 0; i < steps; i++) {
        float root = (float)high_root + tsr__linspace(0.0f, 1.0f, steps, i) * (float)(low_root - high_root);
        out[i] = (float)pow((double)root, rho);
    }
    return end_with_zero(out, steps);
}

static int fill_karras(float *out, const tsr_sigma_table *table, int steps) {
    return tsr__karras_sigmas(out, tsr_sigma_table_min(table), tsr_sigma_table_max(table), 7.0, steps);
}

int tsr__exponential_sigmas(float *out, double low, double high, int steps) {
    float first = (float)log(high), last = (float)log(low);
    for (int i = 0; i < steps; i++) out[i] = expf(tsr__linspace(first, last, steps, i));
    return end_with_zero(out, steps);
}

static int fill_exponential(float *out, const tsr_sigma_table *table, int steps) {
    return tsr__exponential_sigmas(out, tsr_sigma_table_min(table), tsr_sigma_table_max(table), steps);
}

/* Every k-th entry from the second on: may give more or fewer values than steps + 1. */
static int fill_ddim_uniform(float *out, const tsr_sigma_table *table, int steps) {
    int ends = is_zero(table->sigmas[1]), wanted = steps + ends;
    int stride = table->count / wanted > 1 ? table->count / wanted : 1;
    int n = (table->count - 2) / stride + 1;
    for (int i = 0; i < n; i++) out[i] = table->sigmas[1 + (n - 1 - i) * stride];
    return ends ? n : end_with_zero(out, n);
}

int tsr__beta_sigmas(float *out, const tsr_sigma_table *table, double alpha, double beta, int steps) {
    int n = 0, last = -1;
    for (int i = 0; i < steps; i++) {
        int t = (int)rint(tsr__beta_quantile(1.0 - (double)i / steps, alpha, beta) * (table->count - 1));
        if (t != last) out[n++] = table->sigmas[t];
        last = t;
    }
    return end_with_zero(out, n);
}

static int fill_beta(float *out, const tsr_sigma_table *table, int steps) {
    return tsr__beta_sigmas(out, table, 0.6, 0.6, steps);
}

static int fill_linear_quadratic(float *out, const tsr_sigma_table *table, int steps) {
    const double threshold = 0.025;
    double largest = tsr_sigma_table_max(table);
    out[0] = (float)largest;
    if (steps == 1) return end_with_zero(out, 1);
    int linear = steps / 2, quadratic = steps - linear;
    double gap = linear - threshold * steps;
    double square = gap / ((double)linear * quadratic * quadratic);
    double slope = threshold / linear - 2.0 * gap / ((double)quadratic * quadratic);
    double constant = square * linear * linear;
    for (int i = 0; i < steps; i++) {
        double done = i < linear ? i * threshold / linear : square * i * i + slope * i + constant;
        out[i] = (float)((1.0 - done) * largest);
    }
    return end_with_zero(out, steps);
}

static int fill_kl_optimal(float *out, const tsr_sigma_table *table, int steps) {
    double low = atan(tsr_sigma_table_min(table)), high = atan(tsr_sigma_table_max(table));
    for (int i = 0; i < steps; i++) {
        double part = steps > 1 ? (double)i / (steps - 1) : 0.0;
        out[i] = (float)tan(part * low + (1.0 - part) * high);
    }
    return end_with_zero(out, steps);
}

/* Align Your Steps (Sabour et al. 2024): ten steps found by the authors for each kind of model. */
enum { AYS_STEPS = 10 };
static const double ays_sd1[] = { 14.6146412293, 6.4745760956, 3.8636745985, 2.6946151520, 1.8841921177, 1.3943805092,
                                  0.9642583904,  0.6523686016, 0.3977456272, 0.1515232662, 0.0291671582 };
static const double ays_sdxl[] = { 14.6146412293, 6.3184485287, 3.7681790315, 2.1811480769, 1.3405244945, 0.8620721141,
                                   0.5550693289,  0.3798540708, 0.2332364134, 0.1114188177, 0.0291671582 };
static const double ays_svd[] = { 700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002 };

/* Other step counts lie between them, by logarithm; the last sigma becomes 0. */
static int fill_between(float *out, const double *row, int row_steps, int steps) {
    for (int i = 0; i < steps; i++) {
        double at = (double)i * row_steps / steps;
        int left = (int)at;
        double low = log(row[left]), high = log(row[left + 1]);
        out[i] = (float)exp(low + (at - left) * (high - low));
    }
    return end_with_zero(out, steps);
}

static int fill_ays_sd1(float *out, const tsr_sigma_table *table, int steps) {
    (void)table;
    return fill_between(out, ays_sd1, AYS_STEPS, steps);
}

static int fill_ays_sdxl(float *out, const tsr_sigma_table *table, int steps) {
    (void)table;
    return fill_between(out, ays_sdxl, AYS_STEPS, steps);
}

static int fill_ays_svd(float *out, const tsr_sigma_table *table, int steps) {
    (void)table;
    return fill_between(out, ays_svd, AYS_STEPS, steps);
}

/* GITS (Chen et al. 2024): a row of its own for each count from 2 to 20. */
enum { GITS_FIRST = 2, GITS_LAST = 20 };
static const double gits_levels[] = {
#include "gits_levels.inc"
};

static int fill_gits(float *out, const tsr_sigma_table *table, int steps) {
    (void)table;
    int row = steps < GITS_FIRST ? GITS_FIRST : steps > GITS_LAST ? GITS_LAST : steps;
    int before = row * (row + 1) / 2 - 3; /* the rows of 2..row - 1 steps have 3 + 4 + ... + row values */
    return fill_between(out, gits_levels + before, row, steps);
}

static const struct scheduler {
    const char *name, *summary;
    fill_fn fill;
} schedulers[] = {
    { "simple", "evenly spaced entries of the model's own table", fill_simple },
    { "sgm_uniform", "evenly spaced timesteps, without the smallest", fill_sgm_uniform },
    { "karras", "denser at low noise (Karras et al. 2022, rho 7)", fill_karras },
    { "exponential", "evenly spaced logarithms of sigma", fill_exponential },
    { "ddim_uniform", "every k-th table entry, as DDIM; the number of steps may differ", fill_ddim_uniform },
    { "beta", "timesteps spaced by the beta(0.6, 0.6) distribution: denser at both ends", fill_beta },
    { "normal", "evenly spaced timesteps from the largest to the smallest", fill_normal },
    { "linear_quadratic", "linear, then quadratic descent (made for flow models)", fill_linear_quadratic },
    { "kl_optimal", "evenly spaced arc tangents of sigma (Align Your Steps)", fill_kl_optimal },
    { "AYS SD1", "the Align Your Steps table for SD1, as the Impact Pack offers it", fill_ays_sd1 },
    { "AYS SDXL", "the Align Your Steps table for SDXL", fill_ays_sdxl },
    { "AYS SVD", "the Align Your Steps table for Stable Video Diffusion", fill_ays_svd },
    { "GITS[coeff=1.2]", "the GITS table of coefficient 1.2, as the Impact Pack offers it", fill_gits },
};

int tsr_scheduler_count(void) {
    return (int)(sizeof schedulers / sizeof *schedulers);
}

const char *tsr_scheduler_name(int index) {
    return index >= 0 && index < tsr_scheduler_count() ? schedulers[index].name : NULL;
}

const char *tsr_scheduler_summary(int index) {
    return index >= 0 && index < tsr_scheduler_count() ? schedulers[index].summary : NULL;
}

int tsr_scheduler_find(const char *name) {
    for (int i = 0; name && i < tsr_scheduler_count(); i++)
        if (!strcmp(name, schedulers[i].name)) return i;
    return -1;
}

tsr_status tsr_schedule_sigmas(float **out, int *n_out, const tsr_sigma_table *table, const char *scheduler, int steps,
                               tsr_error *err) {
    tsr_status status = TSR_OK;
    float *sigmas = NULL;
    *out = NULL;
    *n_out = 0;
    int index = tsr_scheduler_find(scheduler);
    if (index < 0) {
        const char *near = tsr__suggest(scheduler, tsr_scheduler_name, tsr_scheduler_count());
        TSR_FAIL(err, TSR_NOT_FOUND, "unknown scheduler \"%.64s\"%s%s%s", scheduler ? scheduler : "",
                 near ? ": did you mean \"" : "", near ? near : ": see tsr_scheduler_name", near ? "\"?" : "");
    }
    if (steps < 1 || steps > TSR__MAX_STEPS)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "scheduler %s: %d steps, must be 1..%d", scheduler, steps, TSR__MAX_STEPS);
    TSR_ALLOC(err, sigmas, table->count + steps + 2);
    *n_out = schedulers[index].fill(sigmas, table, steps);
    *out = sigmas;
done:
    return status;
}
