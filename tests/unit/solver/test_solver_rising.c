/* Rising sigmas: from a picture to its noise. The exact Gaussian denoiser has a known path: along the probability flow a
 * value's distance from the mean grows as sqrt(sd^2 + sigma^2). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "tessera/solver.h"

enum { STEPS = 400 };

static const float mu = 0.3f, sd = 0.7f;

static void rising(float *sigmas) {
    for (int i = 0; i <= STEPS; i++) sigmas[i] = 0.0001f + 5.0f * powf((float)i / STEPS, 3.0f);
}

static int drives(const char *name, const float *sigmas, int n, float *x, tsr_error *err) {
    tsr_solver *s = NULL;
    tsr_solver_event event = TSR_SOLVER_FAILED;
    int ok = tsr_solver_new(&s, name, NULL, err) == TSR_OK && tsr_solver_begin(s, x, 1, sigmas, n, err) == TSR_OK;
    while (ok && (event = tsr_solver_next(s, err)) != TSR_SOLVER_DONE && event != TSR_SOLVER_FAILED) {
        if (event != TSR_SOLVER_WANT_DENOISED) continue;
        tsr_solver_query q = tsr_solver_pending(s);
        float v = sd * sd, s2 = q.sigma * q.sigma, denoised = (v * q.x[0] + s2 * mu) / (v + s2);
        assert_int_equal(tsr_solver_supply(s, &denoised, q.wants_uncond ? &denoised : NULL, err), TSR_OK);
    }
    if (ok) x[0] = tsr_solver_latent(s)[0];
    tsr_solver_free(s);
    return ok && event == TSR_SOLVER_DONE;
}

/* dpm_fast and dpm_adaptive plan their own steps, heunpp2 weighs slopes by the first sigma. */
static int goes_down_only(const char *name) {
    return strcmp(name, "dpm_fast") == 0 || strcmp(name, "dpm_adaptive") == 0 || strcmp(name, "heunpp2") == 0;
}

static void deterministic_samplers__follow_the_flow_upwards(void **state) {
    (void)state;
    float sigmas[STEPS + 1];
    rising(sigmas);
    for (int k = 0; k < tsr_sampler_count(); k++) {
        const char *name = tsr_sampler_name(k);
        tsr_error err = TSR_ERROR_INIT;
        float x = 1.4f;
        double grown = sqrt((double)(sd * sd + sigmas[STEPS] * sigmas[STEPS]) / (double)(sd * sd));
        double expected = (double)mu + (1.4 - (double)mu) * grown;
        int went = drives(name, sigmas, STEPS + 1, &x, &err);
        if ((tsr_sampler_flags(k) & TSR_SAMPLER_STOCHASTIC) || goes_down_only(name)) {
            assert_false(went);
            assert_int_equal(err.status, TSR_BAD_ARGUMENT);
            assert_non_null(strstr(err.message, "small to large"));
            continue;
        }
        if (!went) fail_msg("%s: %s", name, err.message);
        if (!(fabs((double)x - expected) <= 0.05 * expected))
            fail_msg("%s ends at %g, not %g", name, (double)x, expected);
    }
}

static void sigmas_that_turn__are_refused(void **state) {
    (void)state;
    static const float up_down_up[] = { 0.1f, 1.0f, 0.5f, 2.0f }, from_zero[] = { 0.0f, 1.0f };
    float x = 1.0f;
    tsr_error err = TSR_ERROR_INIT;
    assert_false(drives("euler", up_down_up, 4, &x, &err));
    assert_non_null(strstr(err.message, "turns back"));
    err = (tsr_error)TSR_ERROR_INIT;
    assert_false(drives("euler", from_zero, 2, &x, &err));
    assert_non_null(strstr(err.message, "must be positive"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deterministic_samplers__follow_the_flow_upwards),
        cmocka_unit_test(sigmas_that_turn__are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
