/* region/gaussian.h - a network whose answer is known exactly: the clean latents are Gaussian with mean mu and
 * deviation sd, so the best prediction is (sd^2 x + sigma^2 mu) / (sd^2 + sigma^2). A conditioning is a (mu, sd).
 * Counts what it is asked, and can be told to return NaN. */
#ifndef TSR_TEST_GAUSSIAN_H
#define TSR_TEST_GAUSSIAN_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tessera/region.h"

typedef struct gaussian_cond {
    float mu, sd;
} gaussian_cond;

typedef struct gaussian {
    tsr_denoiser denoiser;
    tsr_sigma_table *table;
    int calls;       /* of denoise() */
    int evaluations; /* latents */
    int64_t pixels;  /* latent pixels of one picture, of all evaluations */
    int shape[4];    /* of the newest call */
    int nan_at;      /* the evaluation that returns NaN, from 1; 0: none */
} gaussian;

static tsr_status gaussian_denoise(void *user, const int shape[4], const tsr_denoise_call *calls, int count,
                                   tsr_error *err) {
    gaussian *g = user;
    size_t n = (size_t)shape[0] * (size_t)shape[1] * (size_t)shape[2] * (size_t)shape[3];
    (void)err;
    g->calls++;
    memcpy(g->shape, shape, sizeof g->shape);
    g->pixels += (int64_t)count * shape[2] * shape[3];
    for (int k = 0; k < count; k++) {
        const gaussian_cond *cond = calls[k].cond;
        float v = cond->sd * cond->sd, s = calls[k].sigma * calls[k].sigma;
        g->evaluations++;
        for (size_t i = 0; i < n; i++) calls[k].denoised[i] = (v * calls[k].x[i] + s * cond->mu) / (v + s);
        if (g->evaluations == g->nan_at) calls[k].denoised[n / 2] = NAN;
    }
    return TSR_OK;
}

static inline void gaussian_init(gaussian *g, float latent_scale) {
    tsr_error err = TSR_ERROR_INIT;
    memset(g, 0, sizeof *g);
    assert_int_equal(tsr_sigma_table_new(&g->table, 0.00085, 0.012, 1000, &err), TSR_OK);
    g->denoiser.struct_size = sizeof g->denoiser;
    g->denoiser.user = g;
    g->denoiser.denoise = gaussian_denoise;
    g->denoiser.table = g->table;
    g->denoiser.latent_scale = latent_scale;
}

static inline void gaussian_clear(gaussian *g) {
    tsr_sigma_table_free(g->table);
}

/* Fails the test with the library's own words. */
static inline void expect_ok(tsr_status status, const tsr_error *err) {
    if (status != TSR_OK) fail_msg("%s: %s", tsr_status_name(status), err->message);
}

static inline tsr_mask *box_mask(int width, int height, int x, int y, int w, int h) {
    tsr_mask *mask = NULL;
    tsr_error err = TSR_ERROR_INIT;
    expect_ok(tsr_mask_from_box(&mask, width, height, x, y, w, h, &err), &err);
    return mask;
}

static inline tsr_latent *zero_latent(int n, int c, int h, int w) {
    tsr_latent *latent = NULL;
    tsr_error err = TSR_ERROR_INIT;
    expect_ok(tsr_latent_new(&latent, n, c, h, w, &err), &err);
    return latent;
}

/* Plans and runs; the caller frees the latent. */
static inline tsr_latent *run_regions(const tsr_region_base *base, const tsr_region *regions, int n,
                                      const tsr_regional_options *options, const tsr_latent *latent) {
    tsr_plan *plan = NULL;
    tsr_latent *out = NULL;
    tsr_error err = TSR_ERROR_INIT;
    expect_ok(tsr_plan_new(&plan, base, regions, n, options, latent->shape, &err), &err);
    expect_ok(tsr_plan_run(&out, plan, latent, NULL, &err), &err);
    tsr_plan_free(plan);
    return out;
}

/* Its step size hangs on the whole canvas: refused by keep. */
static inline int is_own_step_sampler(const char *name) {
    return strcmp(name, "dpm_adaptive") == 0;
}

#endif /* TSR_TEST_GAUSSIAN_H */
