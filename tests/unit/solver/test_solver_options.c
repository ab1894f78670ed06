/* unit/solver - eta, s_noise, order, r and power against the published update rules, told again for one value in double. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "tessera/solver.h"

static const float sigmas[] = { 10.0f, 4.0f, 1.5f, 0.5f };
enum { STEPS = 3, COUNT = 3 };
static const float NOISE = 0.5f;

static double clean(double x, double sigma) {
    return (0.25 * x + sigma * sigma * (0.7 + sin(sigma))) / (0.25 + sigma * sigma);
}

static tsr_status same_noise(void *user, float from, float to, float *out, size_t count, tsr_error *err) {
    (void)user, (void)from, (void)to, (void)err;
    for (size_t i = 0; i < count; i++) out[i] = NOISE;
    return TSR_OK;
}

static double run(const char *name, tsr_solver_options options) {
    tsr_solver *s = NULL;
    tsr_solver_event event;
    float x[COUNT] = { 3.0f, 3.0f, 3.0f };
    options.noise = same_noise;
    assert_int_equal(tsr_solver_new(&s, name, &options, NULL), TSR_OK);
    assert_int_equal(tsr_solver_begin(s, x, COUNT, sigmas, STEPS + 1, NULL), TSR_OK);
    while ((event = tsr_solver_next(s, NULL)) != TSR_SOLVER_DONE) {
        assert_int_not_equal(event, TSR_SOLVER_FAILED);
        if (event != TSR_SOLVER_WANT_DENOISED) continue;
        tsr_solver_query q = tsr_solver_pending(s);
        for (int i = 0; i < COUNT; i++) x[i] = (float)clean((double)q.x[i], (double)q.sigma);
        assert_int_equal(tsr_solver_supply(s, x, NULL, NULL), TSR_OK);
    }
    double result = (double)tsr_solver_latent(s)[1];
    tsr_solver_free(s);
    return result;
}

static double split(double from, double to, double eta, double *up) {
    *up = fmin(to, eta * sqrt(to * to * (from * from - to * to) / (from * from)));
    return sqrt(to * to - *up * *up);
}

static void options__ancestral_noise(void **state) {
    tsr_solver_options o = TSR_SOLVER_OPTIONS_INIT;
    double x = 3.0, up;
    (void)state;
    o.eta = 0.6f;
    o.s_noise = 1.3f;
    for (int i = 0; i < STEPS; i++) {
        double at = (double)sigmas[i], down = split(at, (double)sigmas[i + 1], 0.6, &up);
        x += (x - clean(x, at)) / at * (down - at) + 0.5 * 1.3 * up;
    }
    assert_float_equal(run("euler_ancestral", o), x, 1e-4);
    o.s_noise = 0.0f; /* none, but still only down to `down` */
    x = 3.0;
    for (int i = 0; i < STEPS; i++) {
        double at = (double)sigmas[i];
        x += (x - clean(x, at)) / at * (split(at, (double)sigmas[i + 1], 0.6, &up) - at);
    }
    assert_float_equal(run("euler_ancestral", o), x, 1e-4);
}

/* Adams-Bashforth of two slopes and unequal steps. */
static void options__lms_order(void **state) {
    tsr_solver_options o = TSR_SOLVER_OPTIONS_INIT;
    double x = 3.0, last = 0.0;
    (void)state;
    o.order = 2;
    for (int i = 0; i < STEPS; i++) {
        double at = (double)sigmas[i], h = (double)sigmas[i + 1] - at, slope = (x - clean(x, at)) / at;
        double q = i ? h / (at - (double)sigmas[i - 1]) : 0.0;
        x += h * (slope + q / 2.0 * (slope - last));
        last = slope;
    }
    assert_float_equal(run("lms", o), x, 1e-4);
    o.order = 0;
    double most = run("lms", o);
    assert_true(fabs(most - x) > 1e-3);
    o.order = 4;
    assert_float_equal(run("lms", o), most, 0.0);
}

static void options__sde_middle(void **state) {
    tsr_solver_options o = TSR_SOLVER_OPTIONS_INIT;
    const double r = 0.3, eta = 0.5, share = 1.0 / (2.0 * 0.3);
    double x = 3.0, up;
    (void)state;
    o.r = 0.3f;
    o.eta = 0.5f;
    for (int i = 0; i < STEPS; i++) {
        double at = (double)sigmas[i], next = (double)sigmas[i + 1], middle = at * pow(next / at, r);
        double first = clean(x, at), down = split(at, middle, eta, &up);
        double second = clean(down / at * x + (1.0 - down / at) * first + 0.5 * up, middle);
        down = split(at, next, eta, &up);
        x = down / at * x + (1.0 - down / at) * ((1.0 - share) * first + share * second) + 0.5 * up;
    }
    assert_float_equal(run("dpmpp_sde", o), x, 2e-4);
    o.r = 0.0f;
    double usual = run("dpmpp_sde", o);
    assert_true(fabs(usual - x) > 1e-3);
    o.r = 0.5f;
    assert_float_equal(run("dpmpp_sde", o), usual, 0.0);
}

/* phi(x) = x^2, sums over 200 points, order 2. */
static void options__er_sde_scale(void **state) {
    tsr_solver_options o = TSR_SOLVER_OPTIONS_INIT;
    double x = 3.0, last = 0.0;
    (void)state;
    o.order = 2;
    o.power = 2.0f;
    o.s_noise = 0.8f;
    for (int i = 0; i < STEPS; i++) {
        double at = (double)sigmas[i], next = (double)sigmas[i + 1], dt = next - at, sum = 0.0;
        double ratio = next * next / (at * at), now = clean(x, at);
        x = ratio * x + (1.0 - ratio) * now;
        for (int k = 0; k < 200; k++) sum += -dt / 200.0 / pow(next - k * dt / 200.0, 2.0);
        if (i) x += (dt + sum * next * next) * (now - last) / (at - (double)sigmas[i - 1]);
        x += 0.5 * 0.8 * sqrt(next * next - at * at * ratio * ratio);
        last = now;
    }
    assert_float_equal(run("er_sde", o), x, 1e-4);
    o.power = 1.0f; /* the differential equation at order 1: Euler */
    o.order = 1;
    o.s_noise = 0.0f;
    x = 3.0;
    for (int i = 0; i < STEPS; i++)
        x += (x - clean(x, (double)sigmas[i])) / (double)sigmas[i] * (double)(sigmas[i + 1] - sigmas[i]);
    assert_float_equal(run("er_sde", o), x, 1e-4);
}

static void options__out_of_range_are_refused(void **state) {
    tsr_solver *s = NULL;
    (void)state;
    for (int i = 0; i < 4; i++) {
        tsr_error err = TSR_ERROR_INIT;
        static const char *const words[] = { "order", "r ", "power", "s_noise" };
        tsr_solver_options o = TSR_SOLVER_OPTIONS_INIT;
        if (i == 0) o.order = 5;
        if (i == 1) o.r = -1.0f;
        if (i == 2) o.power = 0.5f;
        if (i == 3) o.s_noise = -0.1f;
        assert_int_equal(tsr_solver_new(&s, "er_sde", &o, &err), TSR_BAD_ARGUMENT);
        assert_non_null(strstr(err.message, words[i]));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options__ancestral_noise),
        cmocka_unit_test(options__lms_order),
        cmocka_unit_test(options__sde_middle),
        cmocka_unit_test(options__er_sde_scale),
        cmocka_unit_test(options__out_of_range_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
