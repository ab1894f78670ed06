/* The noise mask as a change map, against numbers that tests/golden/make_differential.py computed from the rule. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "golden_file.h"
#include "sample/differential.h"
#include "tessera/sample.h"

static golden_file *file;
static tsr_sigma_table *table;
static const struct {
    double value;
    const char *text;
} strengths[] = { { 0.0, "0.0" }, { 1.0, "1.0" }, { 0.75, "0.75" }, { 0.3, "0.3" } };
enum { STRENGTHS = sizeof strengths / sizeof *strengths };

static void check_schedule(const char *name, double strength, const char *text) {
    golden_tensor sigmas = golden_get(file, "sigmas/%s", name), asked = golden_get(file, "asked/%s", name);
    golden_tensor mask = golden_get(file, "mask/%s", name), want = golden_get(file, "mask/%s/%s", name, text);
    tsr__differential rule = tsr__differential_of(strength, table, sigmas.data, (int)sigmas.count);
    assert_int_equal(want.count, asked.count * mask.count);
    for (size_t i = 0; i < asked.count; i++) {
        tsr__mask_step step = tsr__differential_at(&rule, asked.data[i]);
        for (size_t k = 0; k < mask.count; k++) {
            float got = tsr__mask_weight(&step, mask.data[k]);
            if (!(fabsf(got - want.data[i * mask.count + k]) <= 1e-6f))
                fail_msg("%s at sigma %g, strength %g: mask %g gives %g, not %g", name, (double)asked.data[i], strength,
                         (double)mask.data[k], (double)got, (double)want.data[i * mask.count + k]);
        }
    }
}

static void mask__equals_the_rule_over_schedules(void **state) {
    static const char *const names[] = { "normal", "denoise", "karras", "window", "step", "last", "rising", "scaled" };
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (int k = 1; k < STRENGTHS; k++) check_schedule(names[i], strengths[k].value, strengths[k].text);
}

static void mask__is_itself_without(void **state) {
    golden_tensor sigmas = golden_get(file, "sigmas/normal");
    (void)state;
    tsr__differential rule = tsr__differential_of(0.0, table, sigmas.data, (int)sigmas.count);
    tsr__mask_step step = tsr__differential_at(&rule, 3.0f);
    for (int i = 0; i <= 10; i++) assert_true(tsr__mask_weight(&step, 0.1f * (float)i) == 0.1f * (float)i);
}

/* Clean latents are Gaussian with deviation 1 around mu. */
static tsr_status denoise(void *user, const int shape[4], const tsr_denoise_call *calls, int count, tsr_error *err) {
    const float *mu = user;
    size_t n = (size_t)shape[0] * (size_t)shape[1] * (size_t)shape[2] * (size_t)shape[3];
    (void)err;
    for (int k = 0; k < count; k++) {
        float v = calls[k].sigma * calls[k].sigma;
        for (size_t i = 0; i < n; i++) calls[k].denoised[i] = (calls[k].x[i] + v * mu[i]) / (1.0f + v);
    }
    return TSR_OK;
}

/* The latent that `sampler` ends at. */
static tsr_latent *run(const char *sampler, double strength) {
    golden_tensor sigmas = golden_get(file, "run/sigmas"), noise = golden_get(file, "run/noise"),
                  mu = golden_get(file, "run/mu"), start = golden_get(file, "run/latent"),
                  mask = golden_get(file, "run/mask");
    tsr_denoiser denoiser = { .struct_size = sizeof denoiser,
                              .user = (void *)(uintptr_t)mu.data,
                              .denoise = denoise,
                              .table = table,
                              .latent_scale = 1.0f };
    tsr_guide guide = { .denoiser = &denoiser, .cfg = 1.0f, .differential = strength };
    tsr_sample_options options = TSR_SAMPLE_OPTIONS_INIT;
    tsr_latent *latent = NULL, *out = NULL;
    tsr_error err = TSR_ERROR_INIT;
    int h = (int)start.shape[2], w = (int)start.shape[3];
    assert_int_equal(tsr_latent_new(&latent, 1, (int)start.shape[1], h, w, &err), TSR_OK);
    memcpy(latent->values, start.data, start.count * sizeof(float));
    assert_int_equal(tsr_mask_new(&latent->noise_mask, w, h, 0.0f, &err), TSR_OK);
    memcpy(latent->noise_mask->values, mask.data, mask.count * sizeof(float));
    options.sampler = sampler;
    options.sigmas = sigmas.data;
    options.n_sigmas = (int)sigmas.count;
    options.noise = noise.data;
    if (tsr_sample(&out, latent, &guide, &options, &err) != TSR_OK) fail_msg("%s", err.message);
    tsr_latent_free(latent);
    return out;
}

static void sample__equals_the_reference(void **state) {
    static const char *const samplers[] = { "euler", "heun" };
    (void)state;
    for (size_t s = 0; s < 2; s++)
        for (int i = 0; i < STRENGTHS; i++) {
            golden_tensor want = golden_get(file, "run/%s/%s", samplers[s], strengths[i].text);
            tsr_latent *out = run(samplers[s], strengths[i].value);
            double diff = max_abs_diff(out->values, want.data, want.count);
            if (!(diff <= 1e-5)) fail_msg("%s, strength %s: off by %g", samplers[s], strengths[i].text, diff);
            tsr_latent_free(out);
        }
}

static int open_all(void **state) {
    (void)state;
    file = golden_open("differential.safetensors");
    return tsr_sigma_table_new(&table, 0.00085, 0.012, 1000, NULL) != TSR_OK;
}

static int close_all(void **state) {
    (void)state;
    golden_close(file);
    tsr_sigma_table_free(table);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mask__equals_the_rule_over_schedules),
        cmocka_unit_test(mask__is_itself_without),
        cmocka_unit_test(sample__equals_the_reference),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
