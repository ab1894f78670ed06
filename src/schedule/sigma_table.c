/* schedule/sigma_table.c - the noise levels a discrete diffusion model was trained on, and the maps to and from timesteps.
 *
 * Source: DDPM's alphas with Stable Diffusion's "scaled linear" betas; float32 where ComfyUI keeps float32. */
#include <math.h>
#include <stdlib.h>

#include "core/check.h"
#include "core/memory.h"
#include "schedule_priv.h"

/* The last abar of a table without signal at its end; 0 would be an infinite sigma. */
#define LAST_ALPHA_BAR 4.8973451890853435e-08
#define PI             3.14159265358979323846f

/* abar of "scaled linear" betas. */
static void fill_alphas(double *alphas, double beta_start, double beta_end, int n) {
    double alpha_bar = 1.0;
    for (int i = 0; i < n; i++) {
        double low = sqrt(beta_start), high = sqrt(beta_end);
        double root = low + (high - low) * i / (n - 1);
        alpha_bar *= 1.0 - root * root;
        alphas[i] = alpha_bar;
    }
}

/* ComfyUI comes back to abar from the sigmas; so does this, for the same last digit. */
static void take_last_signal(double *alphas, int n) {
    for (int i = 0; i < n; i++) {
        const double sigma = sqrt((1.0 - alphas[i]) / alphas[i]);
        alphas[i] = sqrt(1.0 / (sigma * sigma + 1.0));
    }
    const double first = alphas[0], last = alphas[n - 1];
    for (int i = 0; i < n; i++) {
        const double root = (alphas[i] - last) * (first / (first - last));
        alphas[i] = root * root;
    }
    alphas[n - 1] = LAST_ALPHA_BAR;
}

static tsr_status alloc_table(tsr_sigma_table **out, tsr__table_kind kind, int skip, int n, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_sigma_table *table = NULL;
    *out = NULL;
    TSR_ALLOC_ZERO(err, table, 1);
    table->kind = kind;
    table->skip = skip;
    table->count = n;
    TSR_ALLOC(err, table->sigmas, n);
    TSR_ALLOC(err, table->log_sigmas, n);
    *out = table;
    table = NULL;
done:
    tsr_sigma_table_free(table);
    return status;
}

static tsr_status new_table(tsr_sigma_table **out, double beta_start, double beta_end, int n, int zero_snr,
                            tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_sigma_table *table = NULL;
    double *alphas = NULL;
    *out = NULL;
    if (n < 2 || n > 1000000) TSR_FAIL(err, TSR_BAD_ARGUMENT, "sigma table: %d entries, must be 2..1000000", n);
    if (!(beta_start > 0 && beta_start < beta_end && beta_end < 1))
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "sigma table: betas %g..%g must rise within 0..1", beta_start, beta_end);
    TSR_TRY(alloc_table(&table, TSR__TABLE_DISCRETE, 1, n, err));
    TSR_ALLOC(err, alphas, n);
    fill_alphas(alphas, beta_start, beta_end, n);
    if (zero_snr) take_last_signal(alphas, n);
    for (int i = 0; i < n; i++) {
        table->sigmas[i] = (float)sqrt((1.0 - alphas[i]) / alphas[i]);
        table->log_sigmas[i] = logf(table->sigmas[i]);
        if (!isfinite(table->sigmas[i]))
            TSR_FAIL(err, TSR_BAD_ARGUMENT, "sigma table: sigma %d of %d is not finite; use smaller betas", i, n);
    }
    *out = table;
    table = NULL;
done:
    free(alphas);
    tsr_sigma_table_free(table);
    return status;
}

tsr_status tsr_sigma_table_new(tsr_sigma_table **out, double beta_start, double beta_end, int n, tsr_error *err) {
    return new_table(out, beta_start, beta_end, n, 0, err);
}

tsr_status tsr_sigma_table_new_zero_snr(tsr_sigma_table **out, double beta_start, double beta_end, int n,
                                        tsr_error *err) {
    return new_table(out, beta_start, beta_end, n, 1, err);
}

tsr_status tsr_sigma_table_new_distilled(tsr_sigma_table **out, const tsr_sigma_table *from, int kept, tsr_error *err) {
    tsr_sigma_table *table = NULL;
    *out = NULL;
    if (from->kind != TSR__TABLE_DISCRETE || from->skip != 1 || kept < 2 || kept > from->count)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "sigma table: %d sigmas cannot be kept of a table of %d", kept,
                         from->count);
    int skip = from->count / kept;
    tsr_status status = alloc_table(&table, TSR__TABLE_DISCRETE, skip, kept, err);
    for (int i = 0; status == TSR_OK && i < kept; i++) {
        table->sigmas[kept - 1 - i] = from->sigmas[from->count - 1 - i * skip];
        table->log_sigmas[kept - 1 - i] = logf(table->sigmas[kept - 1 - i]);
    }
    *out = table;
    return status;
}

tsr_status tsr_sigma_table_new_continuous(tsr_sigma_table **out, double low, double high, tsr_continuous kind,
                                          tsr_error *err) {
    enum { ENTRIES = 1000 };
    tsr_sigma_table *table = NULL;
    *out = NULL;
    if (!(low > 0.0 && low < high && high <= 1e6))
        return tsr__fail(err, TSR_BAD_ARGUMENT, "sigma table: %g to %g; sigmas must rise from above 0", low, high);
    tsr_status status = alloc_table(&table, kind == TSR_CONTINUOUS_V ? TSR__TABLE_V : TSR__TABLE_EDM, 1, ENTRIES, err);
    for (int i = 0; status == TSR_OK && i < ENTRIES; i++) {
        table->sigmas[i] = expf(tsr__linspace((float)log(low), (float)log(high), ENTRIES, i));
        table->log_sigmas[i] = logf(table->sigmas[i]);
    }
    *out = table;
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
    if (table->kind == TSR__TABLE_EDM) return 0.25f * log_sigma;
    if (table->kind == TSR__TABLE_V) return atanf(sigma) / PI * 2.0f;
    for (int i = 1; i < table->count; i++)
        if (fabsf(log_sigma - table->log_sigmas[i]) < fabsf(log_sigma - table->log_sigmas[best])) best = i;
    return (float)(best * table->skip + table->skip - 1);
}

float tsr_sigma_of_timestep(const tsr_sigma_table *table, float timestep) {
    if (table->kind == TSR__TABLE_EDM) return expf(timestep / 0.25f);
    if (table->kind == TSR__TABLE_V) return tanf(timestep * PI / 2.0f);
    float last = (float)(table->count - 1), first = (float)(table->skip - 1);
    float t = (timestep - first) / (float)table->skip;
    if (!(t > 0)) t = 0; /* also for NaN */
    if (t > last) t = last;
    float low = floorf(t), weight = t - low;
    const float *logs = table->log_sigmas;
    return expf((1.0f - weight) * logs[(int)low] + weight * logs[(int)ceilf(t)]);
}

float tsr_sigma_of_percent(const tsr_sigma_table *table, double percent) {
    if (percent <= 0.0) return 999999999.9f;
    if (percent >= 1.0) return 0.0f;
    if (table->kind != TSR__TABLE_DISCRETE) {
        double low = log((double)tsr_sigma_table_min(table)), high = log((double)tsr_sigma_table_max(table));
        return (float)exp((high - low) * (1.0 - percent) + low);
    }
    return tsr_sigma_of_timestep(table, (float)((1.0 - percent) * 999.0));
}
