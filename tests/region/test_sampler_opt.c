/* sampler_opt of a call of the Impact Pack: it runs in both passes' place on a schedule of its own, while the provider's sampler
 * decides whether there are two passes. */
#include "gaussian.h"
#include "sample/impact.h"

enum { STEPS = 6, C = 2, H = 4, W = 4, COUNT = C * H * W };

static void begin(gaussian *g, tsr_guide *guide, tsr__impact_call *call, const gaussian_cond cond[2]) {
    gaussian_init(g, 1.0f);
    *guide = (tsr_guide){ &g->denoiser, &cond[0], &cond[1], 2.0f, 0.0, 0.0 };
    memset(call, 0, sizeof *call);
    call->guide = guide;
    call->scheduler = "karras";
    call->sigma_factor = 1.0;
    call->seed = 9;
    call->steps = STEPS;
    call->start = 2;
    call->end = 4;
    call->leftover = 1;
}

static void sampler_opt__runs_both_passes(void **state) {
    static const gaussian_cond cond[2] = { { 0.3f, 0.7f }, { 0.0f, 1.0f } };
    gaussian g;
    tsr_guide guide;
    tsr__impact_call call;
    tsr__impact_passes passes;
    tsr_error err = TSR_ERROR_INIT;
    float *all = NULL;
    int n = 0;
    (void)state;
    begin(&g, &guide, &call, cond);
    call.sampler = "uni_pc"; /* whose own schedule drops a sigma */
    call.sampler_opt = "heun";
    call.recovery = TSR__RECOVERY_BETWEEN;
    call.recovery_ratio = 0.3;
    expect_ok(tsr_ksampler_sigmas(&all, &n, g.table, "karras", "euler", STEPS, 1.0, &err), &err);
    expect_ok(tsr__impact_passes_init(&passes, &call, &err), &err);
    assert_true(passes.runs[0] && passes.runs[1] && passes.recovers);
    for (int p = 0; p < 2; p++) {
        assert_string_equal(passes.pass[p].sampler, "heun");
        assert_int_equal(passes.pass[p].n_sigmas, 3);
        for (int i = 0; i < 3; i++) assert_float_equal(passes.pass[p].sigmas[i], all[2 + i] * (p ? 0.3f : 0.7f), 1e-5f);
    }
    tsr__impact_passes_clear(&passes);
    call.sampler = "euler"; /* no recovery, though what runs would have one */
    call.sampler_opt = "uni_pc";
    expect_ok(tsr__impact_passes_init(&passes, &call, &err), &err);
    assert_true(passes.runs[0] && !passes.runs[1] && !passes.recovers);
    assert_string_equal(passes.pass[0].sampler, "uni_pc");
    tsr__impact_passes_clear(&passes);
    tsr_free(all);
    gaussian_clear(&g);
}

/* The tree spans the call's own sigmas, as a sampler of KSamplerSelect does everywhere; the provider's spans the whole schedule. */
static void sampler_opt__has_a_tree_of_its_own(void **state) {
    static const gaussian_cond cond[2] = { { 0.3f, 0.7f }, { 0.0f, 1.0f } };
    gaussian g;
    tsr_guide guide;
    tsr__impact_call call;
    tsr_error err = TSR_ERROR_INIT;
    tsr_sample_options alone = TSR_SAMPLE_OPTIONS_INIT;
    tsr_solver_options quiet = TSR_SOLVER_OPTIONS_INIT;
    tsr_latent *latent = zero_latent(1, C, H, W), *results[4] = { NULL };
    float *all = NULL;
    int n = 0;
    (void)state;
    begin(&g, &guide, &call, cond);
    for (int i = 0; i < COUNT; i++) latent->values[i] = 0.1f * (float)(i % 7);
    expect_ok(tsr_ksampler_sigmas(&all, &n, g.table, "karras", "euler", STEPS, 1.0, &err), &err);
    alone.sampler = "dpmpp_2m_sde";
    alone.sigmas = all + 2;
    alone.n_sigmas = 3;
    alone.seed = 9;
    alone.add_noise = 0;
    expect_ok(tsr_sample(&results[0], latent, &guide, &alone, &err), &err);
    quiet.eta = 0.25f;
    call.sampler = "euler";
    for (int i = 1; i < 4; i++) {
        tsr__run run;
        call.sampler_opt = i < 3 ? "dpmpp_2m_sde" : NULL;
        call.solver = i == 2 ? &quiet : NULL;
        if (i == 3) call.sampler = "dpmpp_2m_sde";
        tsr__run_init(&run, NULL, latent->shape, 1.0f);
        expect_ok(tsr__impact_run(&results[i], latent, &call, &run, &err), &err);
        tsr__run_clear(&run);
    }
    assert_memory_equal(results[0]->values, results[1]->values, COUNT * sizeof(float));
    assert_memory_not_equal(results[0]->values, results[2]->values, COUNT * sizeof(float)); /* its options count */
    assert_memory_not_equal(results[0]->values, results[3]->values, COUNT * sizeof(float));
    alone.solver = &quiet;
    tsr_latent_free(results[0]);
    expect_ok(tsr_sample(&results[0], latent, &guide, &alone, &err), &err);
    assert_memory_equal(results[0]->values, results[2]->values, COUNT * sizeof(float));
    for (int i = 0; i < 4; i++) tsr_latent_free(results[i]);
    tsr_latent_free(latent);
    tsr_free(all);
    gaussian_clear(&g);
}

/* A plan hands it to the calls of base and region, whatever runs them. */
static void sampler_opt__reaches_every_call(void **state) {
    static const gaussian_cond cond[2] = { { 0.3f, 0.7f }, { 0.0f, 1.0f } };
    static const tsr_history histories[2] = { TSR_HISTORY_RESTART, TSR_HISTORY_KEEP };
    tsr_latent *latent = zero_latent(1, C, 8, 8);
    tsr_mask *mask = box_mask(64, 64, 8, 8, 32, 40);
    gaussian g;
    (void)state;
    gaussian_init(&g, 1.0f);
    for (int h = 0; h < 2; h++) {
        tsr_latent *out[2];
        for (int i = 0; i < 2; i++) {
            tsr_region_base base = TSR_REGION_BASE_INIT;
            tsr_region region = TSR_REGION_INIT;
            tsr_regional_options o = TSR_REGIONAL_OPTIONS_INIT;
            base.guide = region.guide = (tsr_guide){ &g.denoiser, &cond[0], &cond[1], 2.0f, 0.0, 0.0 };
            region.mask = mask;
            base.sampler = region.sampler = i ? "euler" : "heun";
            base.sampler_opt = region.sampler_opt = i ? "heun" : NULL;
            o.history = histories[h];
            o.steps = STEPS;
            o.base_only_steps = 1;
            out[i] = run_regions(&base, &region, 1, &o, latent);
        }
        assert_memory_equal(out[0]->values, out[1]->values, tsr_latent_count(latent) * sizeof(float));
        tsr_latent_free(out[0]);
        tsr_latent_free(out[1]);
    }
    tsr_mask_free(mask);
    tsr_latent_free(latent);
    gaussian_clear(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sampler_opt__runs_both_passes),
        cmocka_unit_test(sampler_opt__has_a_tree_of_its_own),
        cmocka_unit_test(sampler_opt__reaches_every_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
