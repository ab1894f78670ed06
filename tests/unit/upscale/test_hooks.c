/* Hooks beyond the golden arithmetic: injected noise, unsampling, combining, what is refused. */
#include "exact_vae.h"
#include "tessera/noise.h"

typedef struct world {
    gaussian g;
    gaussian_cond cond;
    tsr__run run;
} world;

static void world_init(world *w, const tsr_latent *latent) {
    memset(w, 0, sizeof *w);
    gaussian_init(&w->g, 0.5f);
    w->cond = (gaussian_cond){ 0.2f, 0.9f };
    tsr__run_init(&w->run, NULL, latent->shape, 0.5f);
    w->run.steps = 100;
}

static void world_clear(world *w) {
    tsr__run_clear(&w->run);
    gaussian_clear(&w->g);
}

static tsr__hook unsampler(world *w, int steps) {
    tsr__hook hook = { .kind = TSR__HOOK_UNSAMPLE };
    hook.unsample.guide = (tsr_guide){ &w->g.denoiser, &w->cond, &w->cond, 1.0f, 0.0, 0.0 };
    hook.unsample.sampler = "euler";
    hook.unsample.scheduler = "karras";
    hook.unsample.steps = steps;
    return hook;
}

static void noise__is_one_draw_of_the_steps_seed(void **state) {
    (void)state;
    tsr__hook hook = { .kind = TSR__HOOK_NOISE, .noise = { "CPU", 40, 2.0, 1.0 } };
    const tsr__hook_time time = { 1, 4 };
    tsr_latent *latent = pattern(2, 3, 5), *before = pattern(2, 3, 5);
    size_t count = tsr_latent_count(latent);
    float noise[2 * 4 * 3 * 5];
    tsr_rng rng;
    tsr_error err = TSR_ERROR_INIT;
    expect_ok(tsr__hook_check(&hook, &err), &err);
    expect_ok(tsr__hook_post_encode(&hook, time, latent, NULL, &err), &err);
    tsr_rng_seed(&rng, 42); /* 40 + 1 + 1 */
    tsr_rng_randn(&rng, noise, count);
    for (size_t i = 0; i < count; i++) /* strength: from 2 to 1, a quarter of the way */
        assert_true(fabsf(latent->values[i] - (before->values[i] + 1.75f * noise[i])) <= 1e-6f);
    tsr_latent_free(latent);
    tsr_latent_free(before);
}

static void noise__leaves_other_channel_counts_alone(void **state) {
    (void)state;
    tsr__hook hook = { .kind = TSR__HOOK_NOISE, .noise = { "CPU", 1, 1.0, 1.0 } };
    const tsr__hook_time time = { 0, 2 };
    tsr_latent *latent = zero_latent(1, 16, 2, 2);
    tsr_error err = TSR_ERROR_INIT;
    expect_ok(tsr__hook_post_encode(&hook, time, latent, NULL, &err), &err);
    for (size_t i = 0; i < tsr_latent_count(latent); i++) assert_true(latent->values[i] == 0.0f);
    tsr_latent_free(latent);
}

/* Up the exact flow and down again by the sampler: the picture comes back. */
static void unsampling__is_undone_by_sampling(void **state) {
    (void)state;
    world w;
    tsr_latent *latent = pattern(1, 3, 3), *before = pattern(1, 3, 3), *back = NULL;
    tsr_error err = TSR_ERROR_INIT;
    const tsr__hook_time time = { 0, 3 };
    world_init(&w, latent);
    tsr__hook hook = unsampler(&w, 400);
    tsr_ksampler_advanced_options options = TSR_KSAMPLER_ADVANCED_OPTIONS_INIT;
    expect_ok(tsr__hook_check(&hook, &err), &err);
    expect_ok(tsr__hook_post_encode(&hook, time, latent, &w.run, &err), &err);
    assert_int_equal(w.run.first_step, 400);
    double spread = 0.0;
    for (int i = 0; i < 36; i++) spread += fabs((double)latent->values[i]) / 36.0;
    assert_true(spread > 5.0); /* noise of sigma 14.6 is there */
    options.scheduler = "karras";
    options.steps = 400;
    options.add_noise = 0;
    expect_ok(tsr_ksampler_advanced(&back, latent, &hook.unsample.guide, &options, &err), &err);
    expect_near(back, before, 0.03f);
    tsr_latent_free(latent);
    tsr_latent_free(before);
    tsr_latent_free(back);
    world_clear(&w);
}

static void unsampling__stops_where_the_step_says(void **state) {
    (void)state;
    world w;
    tsr_latent *latent = pattern(1, 2, 2);
    tsr_error err = TSR_ERROR_INIT;
    world_init(&w, latent);
    tsr__hook hook = unsampler(&w, 8);
    hook.unsample.start_end_at_step = 6;
    hook.unsample.end_end_at_step = 4;
    static const int taken[4] = { 2, 3, 4, 4 }; /* 8 - int(6 - 2 * step / 3) */
    for (int i = 0; i < 4; i++) {
        const tsr__hook_time time = { i, 3 };
        int64_t evaluations = 0;
        int steps = 0;
        expect_ok(tsr__hook_count(&evaluations, &steps, &hook, time, &err), &err);
        assert_int_equal(steps, taken[i]);
        w.g.evaluations = 0;
        expect_ok(tsr__hook_post_encode(&hook, time, latent, &w.run, &err), &err);
        assert_int_equal(w.g.evaluations, taken[i]);
        assert_int_equal(evaluations, taken[i]);
    }
    tsr_latent_free(latent);
    world_clear(&w);
}

static void unsampling__normalizes_when_asked(void **state) {
    (void)state;
    world w;
    tsr_latent *latent = pattern(1, 3, 3);
    tsr_error err = TSR_ERROR_INIT;
    const tsr__hook_time time = { 0, 1 };
    double mean = 0.0, square = 0.0;
    world_init(&w, latent);
    tsr__hook hook = unsampler(&w, 4);
    hook.unsample.normalize = 1;
    expect_ok(tsr__hook_post_encode(&hook, time, latent, &w.run, &err), &err);
    for (int i = 0; i < 36; i++) mean += (double)latent->values[i] / 36.0;
    for (int i = 0; i < 36; i++) square += pow((double)latent->values[i] - mean, 2.0) / 35.0;
    assert_true(fabs(mean) < 1e-6 && fabs(square - 1.0) < 1e-5);
    tsr_latent_free(latent);
    world_clear(&w);
}

static void combine__applies_both_in_order(void **state) {
    (void)state;
    tsr__hook cfg = { .kind = TSR__HOOK_CFG, .target = 2.0 }, steps = { .kind = TSR__HOOK_STEPS, .target = 9.0 };
    tsr__hook more = { .kind = TSR__HOOK_STEPS, .target = 3.0 };
    tsr__hook inner = { .kind = TSR__HOOK_COMBINE, .first = &steps, .second = &more };
    tsr__hook hook = { .kind = TSR__HOOK_COMBINE, .first = &cfg, .second = &inner };
    const tsr__hook_time last = { 2, 3 };
    tsr__hook_call call = { 20, 8.0, 0.5 };
    tsr_error err = TSR_ERROR_INIT;
    expect_ok(tsr__hook_check(&hook, &err), &err);
    tsr__hook_pre_sample(&hook, last, &call);
    assert_int_equal(call.steps, 3);
    assert_true(call.cfg == 2.0 && call.denoise == 0.5);
    tsr__hook_pre_sample(NULL, last, &call);
    assert_int_equal(call.steps, 3);
    more.target = 0.0; /* a fault inside is found */
    assert_int_equal(tsr__hook_check(&hook, &err), TSR_BAD_ARGUMENT);
}

static void expect_refused(const tsr__hook *hook, tsr_status expected, const char *part) {
    tsr_error err = TSR_ERROR_INIT;
    assert_int_equal(tsr__hook_check(hook, &err), expected);
    if (!strstr(err.message, part)) fail_msg("\"%s\" does not say \"%s\"", err.message, part);
}

static void hooks__refuse_bad_input(void **state) {
    (void)state;
    world w;
    tsr_latent *latent = pattern(1, 2, 2);
    world_init(&w, latent);
    expect_refused(&(tsr__hook){ .kind = TSR__HOOK_NOISE, .noise = { "GPU(=A1111)", 0, 1.0, 1.0 } }, TSR_UNSUPPORTED,
                   "GPU(=A1111)");
    expect_refused(&(tsr__hook){ .kind = TSR__HOOK_NOISE, .noise = { "disk", 0, 1.0, 1.0 } }, TSR_BAD_ARGUMENT, "disk");
    expect_refused(&(tsr__hook){ .kind = TSR__HOOK_NOISE, .noise = { "CPU", 0, NAN, 1.0 } }, TSR_BAD_ARGUMENT, "nan");
    expect_refused(&(tsr__hook){ .kind = TSR__HOOK_DENOISE }, TSR_BAD_ARGUMENT, "target_denoise is 0");
    expect_refused(&(tsr__hook){ .kind = TSR__HOOK_STEPS }, TSR_BAD_ARGUMENT, "target_steps is 0");
    expect_refused(&(tsr__hook){ .kind = TSR__HOOK_CFG, .target = INFINITY }, TSR_BAD_ARGUMENT, "target_cfg is inf");
    expect_refused(&(tsr__hook){ .kind = (tsr__hook_kind)77 }, TSR_BAD_ARGUMENT, "77");
    tsr__hook hook = unsampler(&w, 0);
    expect_refused(&hook, TSR_BAD_ARGUMENT, "steps is 0");
    hook = unsampler(&w, 8);
    hook.unsample.end_end_at_step = -1;
    expect_refused(&hook, TSR_BAD_ARGUMENT, "to -1");
    hook = unsampler(&w, 8);
    hook.unsample.sampler = "euler_ancestral";
    expect_refused(&hook, TSR_BAD_ARGUMENT, "adds noise");
    hook.unsample.sampler = "eulr";
    expect_refused(&hook, TSR_NOT_FOUND, "euler");
    hook = unsampler(&w, 8);
    hook.unsample.guide.denoiser = NULL;
    expect_refused(&hook, TSR_BAD_ARGUMENT, "no denoiser");
    tsr_latent_free(latent);
    world_clear(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(noise__is_one_draw_of_the_steps_seed),
        cmocka_unit_test(noise__leaves_other_channel_counts_alone),
        cmocka_unit_test(unsampling__is_undone_by_sampling),
        cmocka_unit_test(unsampling__stops_where_the_step_says),
        cmocka_unit_test(unsampling__normalizes_when_asked),
        cmocka_unit_test(combine__applies_both_in_order),
        cmocka_unit_test(hooks__refuse_bad_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
