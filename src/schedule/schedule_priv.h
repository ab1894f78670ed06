/* schedule/schedule_priv.h - what the files of this folder, and the tests, share. */
#ifndef TSR_SCHEDULE_PRIV_H
#define TSR_SCHEDULE_PRIV_H

#include "tessera/schedule.h"

typedef enum tsr__table_kind { TSR__TABLE_DISCRETE, TSR__TABLE_EDM, TSR__TABLE_V } tsr__table_kind;

struct tsr_sigma_table {
    tsr__table_kind kind;
    int skip; /* discrete: entry i is timestep i skip + skip - 1 */
    int count;
    float *sigmas;     /* [count], ascending */
    float *log_sigmas; /* [count] */
};

/* x with I_x(a, b) = p: the quantile of the beta distribution; a, b in (0, 20], p in [0, 1]. */
double tsr__beta_quantile(double p, double a, double b);

/* Whether KSampler computes one step more for this sampler and drops the second-last sigma. */
int tsr__drops_penultimate(const char *sampler);

/* torch.linspace in float32. */
float tsr__linspace(float start, float end, int n, int i);
/* Curves with their parameters; out has room for steps + 1. They return how many sigmas there are, the last one 0. */
int tsr__karras_sigmas(float *out, double low, double high, double rho, int steps);
int tsr__exponential_sigmas(float *out, double low, double high, int steps);
int tsr__beta_sigmas(float *out, const tsr_sigma_table *table, double alpha, double beta, int steps);

enum { TSR__MAX_STEPS = 10000 };

#endif /* TSR_SCHEDULE_PRIV_H */
