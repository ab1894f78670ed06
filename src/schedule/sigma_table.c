/* schedule/sigma_table.c - the noise levels a discrete diffusion model was trained on, and the maps to and from timesteps.
 *
 * Source: DDPM's alphas with Stable Diffusion's "scaled linear" betas; float32 where ComfyUI keeps float32. */
#include <math.h>
#include <stdlib.h>

#include "core/check.h"
#include "core/memory.h"
#include "schedule_priv.h"

tsr_status tsr_sigma_table_new(tsr_sigma_table **out, double beta_start, double beta_end, int n, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_sigma_table *table = NULL;
    double alpha_bar = 1.0;
    *out = NULL;
    if (n < 2 || n > 1000000) TSR_FAIL(err, TSR_BAD_ARGUMENT, "sigma table: %d entries, must be 2..1000000", n);
    if (!(beta_start > 0 && beta_start < beta_end && beta_end < 1))
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "sigma table: betas %g..%g must rise within 0..1", beta_start, beta_end);
    TSR_ALLOC_ZERO(err, table, 1);
    table->count = n;
    TSR_ALLOC(err, table->sigmas, n);
    TSR_ALLOC(err, table->log_sigmas, n);
    for (int i = 0; i < n; i++) {
        double low = sqrt(beta_start), high = sqrt(beta_end);
        double root = low + (high - low) * i / (n - 1);
        alpha_bar *= 1.0 - root * root;
        table->sigmas[i] = (float)sqrt((1.0 - alpha_bar) / alpha_bar);
        table->log_sigmas[i] = logf(table->sigmas[i]);
        if (!isfinite(table->sigmas[i]))
            TSR_FAIL(err, TSR_BAD_ARGUMENT, "sigma table: sigma %d of %d is not finite; use smaller betas", i, n);
    }
    *out = table;
    table = NULL;
done:
    tsr_sigma_table_free(table);
    return status;
}

void tsr_sigma_table_free(tsr_sigma_table *table) {
    if (!table) return;
    free(table->sigmas);
    free(table->log_sigmas);
    free(table);
}

int tsr_sigma_table_count(const tsr_sigma_table *table) {
    return table->count;
}

float tsr_sigma_table_min(const tsr_sigma_table *table) {
    return table->sigmas[0];
}

float tsr_sigma_table_max(const tsr_sigma_table *table) {
    return table->sigmas[table->count - 1];
}

/* The first of the nearest entries, as torch.argmin gives. */
float tsr_timestep_of_sigma(const tsr_sigma_table *table, float sigma) {
    float log_sigma = logf(sigma);
    int best = 0;
    for (int i = 1; i < table->count; i++)
        if (fabsf(log_sigma - table->log_sigmas[i]) < fabsf(log_sigma - table->log_sigmas[best])) best = i;
    return (float)best;
}

float tsr_sigma_of_timestep(const tsr_sigma_table *table, float timestep) {
    float last = (float)(table->count - 1);
    float t = timestep > 0 ? timestep : 0; /* also for NaN */
    if (t > last) t = last;
    float low = floorf(t), weight = t - low;
    const float *logs = table->log_sigmas;
    return expf((1.0f - weight) * logs[(int)low] + weight * logs[(int)ceilf(t)]);
}

float tsr_sigma_of_percent(const tsr_sigma_table *table, double percent) {
    if (percent <= 0.0) return 999999999.9f;
    if (percent >= 1.0) return 0.0f;
    return tsr_sigma_of_timestep(table, (float)((1.0 - percent) * 999.0));
}
