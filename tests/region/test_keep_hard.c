/* Hard masks in history keep: every pixel of a region equals, bit for bit, a plain run of that region's sampler. */
#include "gaussian.h"
#include "region/plan_priv.h"
#include "tessera/noise.h"

enum { SIDE = 4, STEPS = 7, MAX_SAMPLERS = 64 };

typedef struct pair {
    gaussian g;
    gaussian_cond base, region, negative;
    tsr_latent *latent;
    tsr_mask *mask; /* left half */
} pair;

static int setup(void **state) {
    pair *p = calloc(1, sizeof *p);
    assert_non_null(p);
    gaussian_init(&p->g, 0.18215f);
    p->base = (gaussian_cond){ 0.3f, 0.7f };
    p->region = (gaussian_cond){ -0.8f, 1.2f };
    p->negative = (gaussian_cond){ 0.1f, 0.9f };
    p->latent = zero_latent(1, 2, SIDE, SIDE);
    p->mask = box_mask(8 * SIDE, 8 * SIDE, 0, 0, 4 * SIDE, 8 * SIDE);
    *state = p;
    return 0;
}

static int teardown(void **state) {
    pair *p = *state;
    gaussian_clear(&p->g);
    tsr_latent_free(p->latent);
    tsr_mask_free(p->mask);
    free(p);
    return 0;
}

static tsr_guide guide_of(pair *p, const gaussian_cond *cond, float cfg) {
    tsr_guide guide = { &p->g.denoiser, cond, &p->negative, cfg, 0.0, 0.0 };
    return guide;
}

/* A plain run of one sampler along given sigmas, from the canvas noise of `canvas_seed`. */
static tsr_latent *plain_from(const tsr_latent *latent, tsr_guide guide, const char *sampler, const float *sigmas,
                              int n, uint64_t canvas_seed, uint64_t seed) {
    tsr_sample_options o = TSR_SAMPLE_OPTIONS_INIT;
    tsr_latent *out = NULL;
    tsr_error err = TSR_ERROR_INIT;
    float noise[2 * SIDE * SIDE];
    expect_ok(tsr_initial_noise(noise, latent->shape, canvas_seed, NULL, &err), &err);
    o.noise = noise;
    o.sampler = sampler;
    o.sigmas = sigmas;
    o.n_sigmas = n;
    o.seed = seed;
    expect_ok(tsr_sample(&out, latent, &guide, &o, &err), &err);
    return out;
}

static tsr_latent *plain(const tsr_latent *latent, tsr_guide guide, const char *sampler, const float *sigmas, int n,
                         uint64_t seed) {
    return plain_from(latent, guide, sampler, sigmas, n, seed, seed);
}

/* Columns [from, to) are the same bits. */
static void expect_columns(const tsr_latent *a, const tsr_latent *b, int from, int to, const char *what) {
    for (int row = 0; row < a->shape[0] * a->shape[1] * a->shape[2]; row++)
        for (int x = from; x < to; x++) {
            size_t i = (size_t)row * (size_t)a->shape[3] + (size_t)x;
            if (memcmp(&a->values[i], &b->values[i], sizeof(float)) != 0)
                fail_msg("%s: row %d, column %d: %.9g, alone %.9g", what, row, x, (double)a->values[i],
                         (double)b->values[i]);
        }
}

static void keep__pairs_equal_plain_runs(void **state) {
    pair *p = *state;
    tsr_guide base = guide_of(p, &p->base, 4.0f), region = guide_of(p, &p->region, 1.7f);
    int n = tsr_sampler_count();
    tsr_latent *alone[2][2][MAX_SAMPLERS] = { { { NULL } } }; /* [who][canvas drops a sigma][sampler] */
    tsr_error err = TSR_ERROR_INIT;
    assert_in_range(n, 12, MAX_SAMPLERS);
    for (int drops = 0; drops < 2; drops++) {
        float *sigmas = NULL;
        int count = 0;
        expect_ok(
            tsr_ksampler_sigmas(&sigmas, &count, p->g.table, "karras", drops ? "dpm_2" : "euler", STEPS, 1.0, &err),
            &err);
        for (int s = 0; s < n; s++) {
            if (is_own_step_sampler(tsr_sampler_name(s))) continue;
            alone[0][drops][s] = plain(p->latent, base, tsr_sampler_name(s), sigmas, count, 11);
            alone[1][drops][s] = plain(p->latent, region, tsr_sampler_name(s), sigmas, count, 11);
        }
        tsr_free(sigmas);
    }
    for (int a = 0; a < n; a++)
        for (int b = 0; b < n; b++) {
            const char *one = tsr_sampler_name(a), *two = tsr_sampler_name(b);
            if (is_own_step_sampler(one) || is_own_step_sampler(two)) continue;
            int drops = (tsr_sampler_flags(a) & TSR_SAMPLER_PENULTIMATE) != 0;
            tsr_region_base where = TSR_REGION_BASE_INIT;
            tsr_region what = TSR_REGION_INIT;
            tsr_regional_options o = TSR_REGIONAL_OPTIONS_INIT;
            char text[128];
            where.guide = base;
            where.sampler = one;
            where.scheduler = "karras";
            what.guide = region;
            what.sampler = two;
            what.mask = p->mask;
            o.steps = STEPS;
            o.seed = 11;
            tsr_latent *out = run_regions(&where, &what, 1, &o, p->latent);
            snprintf(text, sizeof text, "base %s, region %s", one, two);
            expect_columns(out, alone[1][drops][b], 0, SIDE / 2, text);
            expect_columns(out, alone[0][drops][a], SIDE / 2, SIDE, text);
            tsr_latent_free(out);
        }
    for (int i = 0; i < 4 * MAX_SAMPLERS; i++)
        tsr_latent_free(alone[i / (2 * MAX_SAMPLERS)][(i / MAX_SAMPLERS) % 2][i % MAX_SAMPLERS]);
}

/* A region with a scheduler of its own equals a plain run along the canvas sigmas and its own between them. */
static void keep__own_scheduler_equals_plain_run_on_the_union(void **state) {
    pair *p = *state;
    tsr_region_base where = TSR_REGION_BASE_INIT;
    tsr_region what = TSR_REGION_INIT;
    tsr_regional_options o = TSR_REGIONAL_OPTIONS_INIT;
    tsr_error err = TSR_ERROR_INIT;
    int more = 0;
    where.guide = guide_of(p, &p->base, 3.0f);
    where.sampler = "euler_ancestral";
    where.scheduler = "normal";
    what.guide = guide_of(p, &p->region, 1.0f);
    what.mask = p->mask;
    o.steps = STEPS;
    o.seed = 5;
    for (int scheduler = 0; scheduler < tsr_scheduler_count(); scheduler++)
        for (int s = 0; s < tsr_sampler_count(); s++) {
            tsr_plan *plan = NULL;
            tsr_latent *out = NULL;
            what.scheduler = tsr_scheduler_name(scheduler);
            what.sampler = tsr_sampler_name(s);
            if (is_own_step_sampler(what.sampler)) continue;
            expect_ok(tsr_plan_new(&plan, &where, &what, 1, &o, p->latent->shape, &err), &err);
            expect_ok(tsr_plan_run(&out, plan, p->latent, NULL, &err), &err);
            const tsr__actor *actor = &plan->actors[1];
            more += actor->n_sigmas > plan->n_sigmas;
            for (int i = 1; i < actor->n_sigmas; i++) assert_true(actor->sigmas[i] < actor->sigmas[i - 1]);
            for (int i = 0; i < plan->n_sigmas; i++) assert_true(actor->sigmas[actor->boundary[i]] == plan->sigmas[i]);
            tsr_latent *alone =
                plain_from(p->latent, what.guide, what.sampler, actor->sigmas, actor->n_sigmas, 5, actor->seed);
            expect_columns(out, alone, 0, SIDE / 2, what.sampler);
            tsr_latent_free(alone);
            alone = plain(p->latent, where.guide, where.sampler, plan->sigmas, plan->n_sigmas, 5);
            expect_columns(out, alone, SIDE / 2, SIDE, where.sampler);
            tsr_latent_free(alone);
            tsr_latent_free(out);
            tsr_plan_free(plan);
        }
    assert_true(more > tsr_sampler_count());
}

/* Inpainting and denoise below 1 go through the canvas as through a plain run. */
static void keep__noise_mask_and_denoise_equal_plain_runs(void **state) {
    pair *p = *state;
    tsr_region_base where = TSR_REGION_BASE_INIT;
    tsr_region what = TSR_REGION_INIT;
    tsr_regional_options o = TSR_REGIONAL_OPTIONS_INIT;
    tsr_error err = TSR_ERROR_INIT;
    tsr_latent *latent = NULL, *alone = NULL;
    float *sigmas = NULL;
    int n = 0;
    expect_ok(tsr_latent_copy(&latent, p->latent, &err), &err);
    for (size_t i = 0; i < tsr_latent_count(latent); i++) latent->values[i] = 0.1f * (float)i - 1.0f;
    expect_ok(tsr_mask_new(&latent->noise_mask, SIDE, SIDE, 1.0f, &err), &err);
    for (int i = 0; i < SIDE * SIDE; i++) latent->noise_mask->values[i] = (float)(i % 5) / 4.0f;
    where.guide = guide_of(p, &p->base, 3.0f);
    where.sampler = "ddim"; /* has a mask noise of its own */
    what.guide = guide_of(p, &p->region, 2.0f);
    what.sampler = "dpmpp_2m_sde";
    what.mask = p->mask;
    o.steps = STEPS;
    o.seed = 21;
    o.denoise = 0.6;
    tsr_latent *out = run_regions(&where, &what, 1, &o, latent);
    expect_ok(tsr_ksampler_sigmas(&sigmas, &n, p->g.table, "normal", "ddim", STEPS, 0.6, &err), &err);
    alone = plain(latent, where.guide, "ddim", sigmas, n, 21);
    expect_columns(out, alone, SIDE / 2, SIDE, "ddim");
    tsr_latent_free(alone);
    alone = plain(latent, what.guide, "dpmpp_2m_sde", sigmas, n, 21);
    expect_columns(out, alone, 0, SIDE / 2, "dpmpp_2m_sde");
    tsr_latent_free(alone);
    tsr_free(sigmas);
    tsr_latent_free(out);
    tsr_latent_free(latent);
}

/* A window of steps with noise left over equals KSamplerAdvanced. */
static void keep__window_equals_ksampler_advanced(void **state) {
    pair *p = *state;
    tsr_region_base where = TSR_REGION_BASE_INIT;
    tsr_region what = TSR_REGION_INIT;
    tsr_regional_options o = TSR_REGIONAL_OPTIONS_INIT;
    tsr_ksampler_advanced_options k = TSR_KSAMPLER_ADVANCED_OPTIONS_INIT;
    tsr_error err = TSR_ERROR_INIT;
    tsr_latent *alone = NULL;
    where.guide = guide_of(p, &p->base, 3.0f);
    what.guide = guide_of(p, &p->region, 2.0f);
    what.sampler = "dpmpp_2m";
    what.mask = p->mask;
    o.system = TSR_SYSTEM_REGIONAL_ADVANCED;
    o.steps = k.steps = 10;
    o.start_step = k.start_step = 2;
    o.end_step = k.end_step = 7;
    o.leftover_noise = k.leftover_noise = 1;
    o.seed = k.seed = 8;
    tsr_latent *out = run_regions(&where, &what, 1, &o, p->latent);
    expect_ok(tsr_ksampler_advanced(&alone, p->latent, &where.guide, &k, &err), &err);
    expect_columns(out, alone, SIDE / 2, SIDE, "euler");
    tsr_latent_free(alone);
    k.sampler = "dpmpp_2m";
    expect_ok(tsr_ksampler_advanced(&alone, p->latent, &what.guide, &k, &err), &err);
    expect_columns(out, alone, 0, SIDE / 2, "dpmpp_2m");
    tsr_latent_free(alone);
    tsr_latent_free(out);
}

/* The base alone for some steps, then regions from its canvas: the base's own pixels never notice. */
static void keep__base_only_steps_leave_the_base_alone(void **state) {
    pair *p = *state;
    tsr_region_base where = TSR_REGION_BASE_INIT;
    tsr_region what = TSR_REGION_INIT;
    tsr_regional_options o = TSR_REGIONAL_OPTIONS_INIT;
    tsr_ksampler_options k = TSR_KSAMPLER_OPTIONS_INIT;
    tsr_error err = TSR_ERROR_INIT;
    tsr_latent *alone = NULL, *at_once = NULL;
    where.guide = guide_of(p, &p->base, 3.0f);
    where.sampler = k.sampler = "dpmpp_3m_sde";
    what.guide = guide_of(p, &p->region, 2.0f);
    what.mask = p->mask;
    o.steps = k.steps = STEPS;
    o.seed = k.seed = 3;
    at_once = run_regions(&where, &what, 1, &o, p->latent);
    o.base_only_steps = 3;
    tsr_latent *out = run_regions(&where, &what, 1, &o, p->latent);
    expect_ok(tsr_ksampler(&alone, p->latent, &where.guide, &k, &err), &err);
    expect_columns(out, alone, SIDE / 2, SIDE, "base");
    assert_true(out->values[0] != at_once->values[0]);
    assert_true(out->values[0] != alone->values[0]);
    tsr_latent_free(alone);
    tsr_latent_free(at_once);
    tsr_latent_free(out);
}

/* dpm_fast takes as many evaluations as the canvas has steps, at sigmas of its own; its scheduler has no say. */
static void keep__own_pace_counts_and_warns(void **state) {
    pair *p = *state;
    tsr_region_base where = TSR_REGION_BASE_INIT;
    tsr_region what = TSR_REGION_INIT;
    tsr_regional_options o = TSR_REGIONAL_OPTIONS_INIT;
    tsr_error err = TSR_ERROR_INIT;
    tsr_plan *plan = NULL;
    tsr_latent *out = NULL;
    int warned = 0;
    where.guide = guide_of(p, &p->base, 1.0f);
    what.guide = guide_of(p, &p->region, 1.0f);
    what.mask = p->mask;
    what.sampler = "dpm_fast";
    what.scheduler = "karras";
    o.steps = STEPS;
    expect_ok(tsr_plan_new(&plan, &where, &what, 1, &o, p->latent->shape, &err), &err);
    for (int i = 0; tsr_plan_warning(plan, i); i++) warned |= strstr(tsr_plan_warning(plan, i), "own sigmas") != NULL;
    assert_true(warned);
    assert_int_equal(tsr_plan_evaluations(plan), 2 * STEPS);
    expect_ok(tsr_plan_run(&out, plan, p->latent, NULL, &err), &err);
    assert_int_equal(p->g.evaluations, 2 * STEPS);
    tsr_latent_free(out);
    tsr_plan_free(plan);
}

static void keep__adaptive_samplers_are_refused(void **state) {
    pair *p = *state;
    tsr_region_base where = TSR_REGION_BASE_INIT;
    tsr_region what = TSR_REGION_INIT;
    tsr_regional_options o = TSR_REGIONAL_OPTIONS_INIT;
    tsr_error err = TSR_ERROR_INIT;
    tsr_plan *plan = NULL;
    where.guide = guide_of(p, &p->base, 3.0f);
    what.guide = guide_of(p, &p->region, 2.0f);
    what.mask = p->mask;
    what.sampler = "dpm_adaptive";
    assert_int_equal(tsr_plan_new(&plan, &where, &what, 1, &o, p->latent->shape, &err), TSR_UNSUPPORTED);
    assert_null(plan);
    assert_non_null(strstr(err.message, "region 1"));
    assert_non_null(strstr(err.message, "dpm_adaptive"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(keep__pairs_equal_plain_runs, setup, teardown),
        cmocka_unit_test_setup_teardown(keep__own_scheduler_equals_plain_run_on_the_union, setup, teardown),
        cmocka_unit_test_setup_teardown(keep__noise_mask_and_denoise_equal_plain_runs, setup, teardown),
        cmocka_unit_test_setup_teardown(keep__window_equals_ksampler_advanced, setup, teardown),
        cmocka_unit_test_setup_teardown(keep__base_only_steps_leave_the_base_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(keep__own_pace_counts_and_warns, setup, teardown),
        cmocka_unit_test_setup_teardown(keep__adaptive_samplers_are_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
