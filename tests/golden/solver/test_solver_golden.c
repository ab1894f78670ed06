/* golden/solver - every sampler on the exact Gaussian denoiser, against ComfyUI's numbers and evaluation counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "golden_file.h"
#include "tessera/solver.h"

enum { SEED = 77 };

typedef struct run {
    const char *key; /* "euler/karras/7" */
    double worst_x0, worst_step;
    int evaluations, steps;
} run;

static golden_file *file;
static golden_tensor mu, sd, noise;

/* In float32 and in this order, as the reference: dpm_adaptive's step sizes hang on the last bits. */
static void denoise(const tsr_solver_query *query, float shift, float *out) {
    float v = query->sigma * query->sigma;
    for (size_t i = 0; i < query->count; i++) {
        float own = sd.data[i] * sd.data[i];
        out[i] = (own * query->x[i] + v * (mu.data[i] + shift)) / (own + v);
    }
}

/* The reference's callback of these reports the x it was called with at every step. */
static int reports_steps(const char *key) {
    return strncmp(key, "ipndm", 5) != 0 && strncmp(key, "deis", 4) != 0;
}

/* x where the reference's callback stands: the latent a step starts from. */
static void compare_step(run *r, const tsr_solver_query *query) {
    if (query->stage != 0 || !golden_has(file, "%s/x_at_step_%d", r->key, query->step)) return;
    if (!reports_steps(r->key) && query->step > 0) return;
    golden_tensor want = golden_get(file, "%s/x_at_step_%d", r->key, query->step);
    double diff = max_abs_diff(query->x, want.data, want.count) / (double)query->sigma;
    if (diff > r->worst_step) r->worst_step = diff;
    r->steps++;
}

static void perform(run *r, const char *name) {
    golden_tensor sigmas = golden_get(file, "%s/sigmas", r->key), want = golden_get(file, "%s/x0", r->key);
    size_t count = noise.count;
    float *x = malloc(3 * count * sizeof *x), *answer = x + count, *uncond = x + 2 * count;
    tsr_solver_options options = TSR_SOLVER_OPTIONS_INIT;
    tsr_solver *s = NULL;
    tsr_error err = TSR_ERROR_INIT;
    float scale = sqrtf(1.0f + sigmas.data[0] * sigmas.data[0]);
    for (size_t i = 0; i < count; i++) x[i] = noise.data[i] * scale;
    options.seed = SEED;
    assert_int_equal(tsr_solver_new(&s, name, &options, &err), TSR_OK);
    assert_int_equal(tsr_solver_begin(s, x, count, sigmas.data, (int)sigmas.count, &err), TSR_OK);
    tsr_solver_event event;
    while ((event = tsr_solver_next(s, &err)) > TSR_SOLVER_DONE) {
        if (event != TSR_SOLVER_WANT_DENOISED) continue;
        tsr_solver_query query = tsr_solver_pending(s);
        compare_step(r, &query);
        denoise(&query, 0.0f, answer);
        denoise(&query, 0.1f, uncond);
        assert_int_equal(tsr_solver_supply(s, answer, query.wants_uncond ? uncond : NULL, &err), TSR_OK);
        r->evaluations++;
    }
    if (event != TSR_SOLVER_DONE) fail_msg("%s: %s", r->key, err.message);
    r->worst_x0 = max_abs_diff(tsr_solver_latent(s), want.data, count);
    tsr_solver_free(s);
    free(x);
}

static void solvers__equal_comfyui(void **state) {
    (void)state;
    json_t *manifest = golden_json("manifest.json"), *value;
    json_t *runs = json_object_get(json_object_get(manifest, "solvers"), "runs");
    const char *key;
    double worst_x0 = 0, worst_step = 0;
    int compared = 0, bad = 0, steps = 0;
    json_object_foreach(runs, key, value) {
        char name[64];
        run r = { .key = key };
        snprintf(name, sizeof name, "%.*s", (int)strcspn(key, "/"), key);
        perform(&r, name);
        int wanted = (int)json_integer_value(json_object_get(value, "evals"));
        if (!(r.worst_x0 <= 2e-4) || !(r.worst_step <= 2e-4) || r.evaluations != wanted) {
            print_error("%s: x0 off by %.3g, x at a step by %.3g sigma, %d evaluations of %d\n", key, r.worst_x0,
                        r.worst_step, r.evaluations, wanted);
            bad++;
        }
        if (r.worst_x0 > worst_x0) worst_x0 = r.worst_x0;
        if (r.worst_step > worst_step) worst_step = r.worst_step;
        steps += r.steps;
        compared++;
    }
    printf("solvers: %d runs, worst x0 %.3g, worst x at a step %.3g sigma\n", compared, worst_x0, worst_step);
    assert_int_equal(bad, 0);
    assert_true(compared >= 6 * 44);
    assert_true(steps >= 250);
    json_decref(manifest);
}

static int open_all(void **state) {
    (void)state;
    file = golden_open("solvers.safetensors");
    mu = golden_get(file, "mu");
    sd = golden_get(file, "sd");
    noise = golden_get(file, "noise");
    return 0;
}

static int close_all(void **state) {
    (void)state;
    golden_close(file);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(solvers__equal_comfyui) };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
