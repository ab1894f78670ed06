/* Regions on one's own network: a denoiser is a table of functions. Here it is an exact Gaussian one, whose "prompts" are
 * the values that a region should have; no weights, no engine. */
#include <math.h>
#include <stdio.h>
#include <tessera/tessera.h>

enum { SIDE = 16 };

typedef struct target {
    float value;
} target;

/* The best guess of a clean value spread around its prompt's with a deviation of 0.1. */
static tsr_status denoise(void *user, const int shape[4], const tsr_denoise_call *calls, int count, tsr_error *err) {
    const size_t values = (size_t)shape[0] * (size_t)shape[1] * (size_t)shape[2] * (size_t)shape[3];
    (void)user;
    (void)err;
    for (int k = 0; k < count; k++) {
        const float spread = 0.1f * 0.1f, noise = calls[k].sigma * calls[k].sigma;
        const float mean = ((const target *)calls[k].cond)->value;
        for (size_t i = 0; i < values; i++)
            calls[k].denoised[i] = (spread * calls[k].x[i] + noise * mean) / (spread + noise);
    }
    return TSR_OK;
}

/* The mean of columns [from, to) of the first channel. */
static double mean_of(const tsr_latent *latent, int from, int to) {
    double sum = 0;
    for (int y = 0; y < SIDE; y++)
        for (int x = from; x < to; x++) sum += latent->values[y * SIDE + x];
    return sum / (SIDE * (to - from));
}

int main(void) {
    static const target dark = { -1.0f }, bright = { 2.0f };
    tsr_error err = TSR_ERROR_INIT;
    tsr_denoiser denoiser = { .struct_size = sizeof denoiser, .denoise = denoise, .latent_scale = 1.0f };
    tsr_sigma_table *table = NULL;
    tsr_mask *right = NULL;
    tsr_latent *start = NULL, *result = NULL;
    tsr_plan *plan = NULL;
    tsr_region_base base = TSR_REGION_BASE_INIT;
    tsr_region region = TSR_REGION_INIT;
    tsr_regional_options options = TSR_REGIONAL_OPTIONS_INIT;
    double left_mean = NAN, right_mean = NAN;

    if (tsr_sigma_table_new(&table, 0.00085, 0.012, 1000, &err) != TSR_OK) return 1;
    denoiser.table = table;
    base.guide.denoiser = region.guide.denoiser = &denoiser;
    base.guide.positive = base.guide.negative = &dark;
    region.guide.positive = region.guide.negative = &bright;
    base.sampler = "euler_ancestral"; /* each part has its own sampler; both share one canvas */
    region.sampler = "dpmpp_2m";
    options.seed = 4;
    if (tsr_mask_from_box(&right, SIDE * 8, SIDE * 8, SIDE * 4, 0, SIDE * 4, SIDE * 8, &err) == TSR_OK &&
        tsr_latent_new(&start, 1, 4, SIDE, SIDE, &err) == TSR_OK) {
        region.mask = right;
        if (tsr_plan_new(&plan, &base, &region, 1, &options, start->shape, &err) == TSR_OK &&
            tsr_plan_run(&result, plan, start, NULL, &err) == TSR_OK) {
            left_mean = mean_of(result, 0, SIDE / 2);
            right_mean = mean_of(result, SIDE / 2, SIDE);
            printf("left %.3f (asked -1), right %.3f (asked 2)\n", left_mean, right_mean);
        }
    }
    if (err.status != TSR_OK) fprintf(stderr, "%s: %s\n", tsr_status_name(err.status), err.message);

    tsr_latent_free(result);
    tsr_plan_free(plan);
    tsr_latent_free(start);
    tsr_mask_free(right);
    tsr_sigma_table_free(table);
    return !(fabs(left_mean + 1) < 0.05 && fabs(right_mean - 2) < 0.05);
}
