/* Plans: what they promise is what runs; what they refuse, warn of and print; cancelling; NaN; batching. */
#include "gaussian.h"

enum { SIDE = 8, PICTURE = 64 };

typedef struct scene {
    gaussian g;
    gaussian_cond cond[5], negative;
    tsr_mask *quarter[4];
    tsr_latent *latent;
    tsr_region_base base;
    tsr_region regions[4];
    tsr_regional_options options;
} scene;

static int setup(void **state) {
    scene *s = calloc(1, sizeof *s);
    tsr_region region = TSR_REGION_INIT;
    assert_non_null(s);
    gaussian_init(&s->g, 0.18215f);
    s->negative = (gaussian_cond){ 0.0f, 1.0f };
    s->latent = zero_latent(1, 2, SIDE, SIDE);
    s->base = (tsr_region_base)TSR_REGION_BASE_INIT;
    s->options = (tsr_regional_options)TSR_REGIONAL_OPTIONS_INIT;
    s->options.steps = 6;
    s->options.seed = 4;
    for (int k = 0; k < 5; k++) {
        s->cond[k] = (gaussian_cond){ 0.3f * (float)k, 0.5f + 0.2f * (float)k };
        tsr_guide guide = { &s->g.denoiser, &s->cond[k], &s->negative, 2.0f + (float)k, 0.0, 0.0 };
        if (k == 0) {
            s->base.guide = guide;
            continue;
        }
        s->regions[k - 1] = region;
        s->regions[k - 1].guide = guide;
        s->quarter[k - 1] = box_mask(PICTURE, PICTURE, k % 2 * 32, (k - 1) / 2 * 32, 32, 32);
        s->regions[k - 1].mask = s->quarter[k - 1];
    }
    *state = s;
    return 0;
}

static int teardown(void **state) {
    scene *s = *state;
    gaussian_clear(&s->g);
    for (int k = 0; k < 4; k++) tsr_mask_free(s->quarter[k]);
    tsr_latent_free(s->latent);
    free(s);
    return 0;
}

/* Runs and returns how many evaluations the plan promised; the network's own counters start at 0. */
static int64_t run_counted(scene *s, int n) {
    tsr_plan *plan = NULL;
    tsr_latent *out = NULL;
    tsr_error err = TSR_ERROR_INIT;
    expect_ok(tsr_plan_new(&plan, &s->base, s->regions, n, &s->options, s->latent->shape, &err), &err);
    int64_t promised = tsr_plan_evaluations(plan), listed = 0;
    for (int i = 0; i < tsr_plan_count(plan); i++) listed += tsr_plan_at(plan, i).evaluations;
    assert_int_equal(listed, promised);
    s->g.calls = s->g.evaluations = 0;
    expect_ok(tsr_plan_run(&out, plan, s->latent, NULL, &err), &err);
    tsr_latent_free(out);
    tsr_plan_free(plan);
    return promised;
}

/* 4 regions that fill the picture, one negative: 4 + 1 evaluations a step, in one network call. */
static void plan__common_negative_is_evaluated_once(void **state) {
    scene *s = *state;
    assert_int_equal(run_counted(s, 4), 6 * 5);
    assert_int_equal(s->g.evaluations, 6 * 5);
    assert_int_equal(s->g.calls, 6);
    assert_int_equal(run_counted(s, 3), 6 * 5); /* the base paints a quarter */
    assert_int_equal(s->g.evaluations, 6 * 5);
    s->regions[0].guide.cfg = 1.0f; /* wants no negative, the others do */
    assert_int_equal(run_counted(s, 4), 6 * 5);
    for (int k = 0; k < 4; k++) s->regions[k].guide.cfg = 1.0f;
    assert_int_equal(run_counted(s, 4), 6 * 4);
    assert_int_equal(s->g.evaluations, 6 * 4);
}

/* Heun asks a second time at the same sigma for all regions: they see one blended canvas, and one negative again. */
static void plan__second_stage_shares_too(void **state) {
    scene *s = *state;
    s->base.sampler = "heun";
    assert_int_equal(run_counted(s, 4), 5 * 2 * 5 + 5);
    assert_int_equal(s->g.evaluations, 5 * 2 * 5 + 5);
    assert_int_equal(s->g.calls, 5 * 2 + 1);
}

static void plan__promises_what_runs(void **state) {
    scene *s = *state;
    static const char *const pairs[][2] = { { "euler", "heun" },        { "dpm_2", "dpmpp_sde" },
                                            { "uni_pc", "dpmpp_2m" },   { "dpmpp_2s_ancestral", "lcm" },
                                            { "dpmpp_3m_sde", "ddim" }, { "euler_ancestral", "dpmpp_2m_sde" } };
    s->regions[1].scheduler = "karras";
    s->regions[0].strength = 0.5f;
    for (int history = 0; history < 2; history++)
        for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
            s->options.history = (tsr_history)history;
            s->options.overlap = history == TSR_HISTORY_KEEP ? 16 : 2;
            s->options.base_only_steps = (int)i % 3;
            s->options.restore_latent = (int)i % 2;
            s->base.sampler = pairs[i][0];
            s->regions[1].sampler = pairs[i][1];
            int64_t promised = run_counted(s, 3);
            assert_int_equal(s->g.evaluations, promised);
        }
}

static void plan__same_run_twice_is_the_same_bits(void **state) {
    scene *s = *state;
    s->base.sampler = "dpmpp_sde";
    s->regions[0].sampler = "euler_ancestral";
    s->options.overlap = 12;
    for (int history = 0; history < 2; history++) {
        s->options.history = (tsr_history)history;
        tsr_latent *a = run_regions(&s->base, s->regions, 3, &s->options, s->latent);
        tsr_latent *b = run_regions(&s->base, s->regions, 3, &s->options, s->latent);
        assert_memory_equal(a->values, b->values, tsr_latent_count(a) * sizeof(float));
        tsr_latent_free(a);
        tsr_latent_free(b);
    }
}

/* The nodes take a region with an empty mask: it leaves no trace. They take masks smaller than the latent, too. */
static void restart__takes_the_masks_that_the_nodes_take(void **state) {
    scene *s = *state;
    tsr_mask *empty = NULL, *tiny = NULL;
    tsr_error err = TSR_ERROR_INIT;
    s->options.history = TSR_HISTORY_RESTART;
    s->options.allow_empty = 1;
    s->options.base_only_steps = 1;
    expect_ok(tsr_mask_new(&empty, PICTURE, PICTURE, 0.0f, &err), &err);
    s->regions[1].mask = empty;
    tsr_latent *with = run_regions(&s->base, s->regions, 2, &s->options, s->latent);
    tsr_latent *without = run_regions(&s->base, s->regions, 1, &s->options, s->latent);
    assert_memory_equal(with->values, without->values, tsr_latent_count(with) * sizeof(float));
    tsr_latent_free(with);
    expect_ok(tsr_mask_new(&tiny, SIDE / 2, SIDE / 2, 0.0f, &err), &err);
    tiny->values[5] = 1.0f;
    s->options.width = s->options.height = SIDE / 2;
    s->regions[0].mask = tiny;
    with = run_regions(&s->base, s->regions, 1, &s->options, s->latent);
    assert_memory_not_equal(with->values, without->values, tsr_latent_count(with) * sizeof(float));
    tsr_latent_free(with);
    tsr_latent_free(without);
    tsr_mask_free(empty);
    tsr_mask_free(tiny);
}

/* RegionalSamplerAdvanced up to step 0: nothing to do. */
static void restart__window_of_nothing_gives_the_latent(void **state) {
    scene *s = *state;
    s->options.history = TSR_HISTORY_RESTART;
    s->options.system = TSR_SYSTEM_REGIONAL_ADVANCED;
    s->options.end_step = 0;
    s->options.restore_latent = 0;
    s->latent->values[3] = 0.7f;
    tsr_latent *out = run_regions(&s->base, s->regions, 2, &s->options, s->latent);
    assert_memory_equal(out->values, s->latent->values, tsr_latent_count(out) * sizeof(float));
    tsr_latent_free(out);
}

typedef struct watcher {
    int seen, stop_at, steps_seen, x0_seen;
    int64_t last_done;
    tsr_progress last;
} watcher;

static int watch(void *user, const tsr_progress *p) {
    watcher *w = user;
    w->seen++;
    assert_int_equal(p->struct_size, sizeof *p);
    assert_true(p->evaluations_done >= w->last_done && p->evaluations_done <= p->evaluations_total);
    assert_in_range(p->step, 0, p->steps - 1);
    w->last_done = p->evaluations_done;
    w->steps_seen += p->event == TSR_PROGRESS_STEP;
    if (p->x0) {
        w->x0_seen++;
        assert_true(isfinite(p->x0[0]));
        assert_int_equal(p->shape[3], SIDE);
    }
    w->last = *p;
    return w->seen == w->stop_at;
}

static void plan__progress_counts_to_the_end(void **state) {
    scene *s = *state;
    for (int history = 0; history < 2; history++) {
        watcher w = { 0 };
        tsr_run_hooks hooks = TSR_RUN_HOOKS_INIT;
        tsr_plan *plan = NULL;
        tsr_latent *out = NULL;
        tsr_error err = TSR_ERROR_INIT;
        hooks.user = &w;
        hooks.progress = watch;
        s->options.history = (tsr_history)history;
        expect_ok(tsr_plan_new(&plan, &s->base, s->regions, 2, &s->options, s->latent->shape, &err), &err);
        expect_ok(tsr_plan_run(&out, plan, s->latent, &hooks, &err), &err);
        assert_int_equal(w.last.evaluations_done, tsr_plan_evaluations(plan));
        assert_int_equal(w.last.step, 5);
        assert_int_equal(w.last.event, TSR_PROGRESS_STEP);
        assert_int_equal(w.steps_seen, history == TSR_HISTORY_KEEP ? 6 : 6 * 3);
        assert_true(w.x0_seen > 5);
        tsr_latent_free(out);
        tsr_plan_free(plan);
    }
}

static void plan__cancels_before_the_next_call(void **state) {
    scene *s = *state;
    for (int history = 0; history < 2; history++)
        for (int stop = 1; stop < 8; stop += 3) {
            watcher w = { 0 };
            tsr_run_hooks hooks = TSR_RUN_HOOKS_INIT;
            tsr_plan *plan = NULL;
            tsr_latent *out = NULL;
            tsr_error err = TSR_ERROR_INIT;
            w.stop_at = stop;
            hooks.user = &w;
            hooks.progress = watch;
            s->options.history = (tsr_history)history;
            expect_ok(tsr_plan_new(&plan, &s->base, s->regions, 2, &s->options, s->latent->shape, &err), &err);
            s->g.evaluations = 0;
            assert_int_equal(tsr_plan_run(&out, plan, s->latent, &hooks, &err), TSR_CANCELLED);
            assert_null(out);
            assert_int_equal(w.seen, stop);
            assert_int_equal(s->g.evaluations, w.last_done);
            tsr_plan_free(plan);
        }
}

static void plan__nan_names_step_and_region(void **state) {
    scene *s = *state;
    tsr_plan *plan = NULL;
    tsr_latent *out = NULL;
    tsr_error err = TSR_ERROR_INIT;
    expect_ok(tsr_plan_new(&plan, &s->base, s->regions, 4, &s->options, s->latent->shape, &err), &err);
    s->g.evaluations = 0;
    s->g.nan_at = 2 * 5 + 2;
    assert_int_equal(tsr_plan_run(&out, plan, s->latent, NULL, &err), TSR_NOT_FINITE);
    assert_null(out);
    assert_non_null(strstr(err.message, "step 3 of 6"));
    assert_non_null(strstr(err.message, "region 2"));
    assert_non_null(strstr(err.message, "NaN"));
    tsr_plan_free(plan);
}

static void expect_refusal(scene *s, int n, tsr_status status, const char *what) {
    tsr_plan *plan = NULL;
    tsr_error err = TSR_ERROR_INIT;
    assert_int_equal(tsr_plan_new(&plan, &s->base, s->regions, n, &s->options, s->latent->shape, &err), status);
    assert_null(plan);
    if (!strstr(err.message, what)) fail_msg("\"%s\" does not say \"%s\"", err.message, what);
}

static void plan__refuses_with_a_reason(void **state) {
    scene *s = *state;
    tsr_error err = TSR_ERROR_INIT;
    tsr_mask *empty = NULL, *small = NULL, *broken = NULL;
    expect_ok(tsr_mask_new(&empty, PICTURE, PICTURE, 0.0f, &err), &err);
    expect_ok(tsr_mask_new(&small, 32, PICTURE, 1.0f, &err), &err);
    expect_ok(tsr_mask_new(&broken, PICTURE, PICTURE, 1.0f, &err), &err);
    broken->values[70] = NAN;
    s->regions[1].name = "cat";
    for (int history = 0; history < 2; history++) {
        s->options.history = (tsr_history)history;
        s->regions[1].mask = empty;
        expect_refusal(s, 2, TSR_BAD_ARGUMENT, "region 2 (cat)");
        s->regions[1].mask = small;
        expect_refusal(s, 2, TSR_BAD_ARGUMENT, "32x64");
        s->regions[1].mask = broken;
        expect_refusal(s, 2, TSR_BAD_ARGUMENT, "x 6, y 1");
        s->regions[1].mask = NULL;
        expect_refusal(s, 2, TSR_BAD_ARGUMENT, "no mask");
        s->regions[1].mask = s->quarter[1];
        s->regions[1].sampler = "eulr";
        expect_refusal(s, 2, TSR_NOT_FOUND, "\"euler\"");
        s->regions[1].sampler = NULL;
        s->regions[1].scheduler = "karas";
        expect_refusal(s, 2, TSR_NOT_FOUND, "karras");
        s->regions[1].scheduler = NULL;
        s->options.steps = 0;
        expect_refusal(s, 2, TSR_BAD_ARGUMENT, "steps is 0");
        s->options.steps = 6;
        s->options.denoise = 0.0;
        expect_refusal(s, 2, TSR_BAD_ARGUMENT, "denoise is 0");
        s->options.denoise = 1.0;
    }
    s->options.recovery_sampler = "heunn";
    expect_refusal(s, 2, TSR_NOT_FOUND, "recovery");
    s->options.recovery_sampler = NULL;
    s->options.history = TSR_HISTORY_KEEP;
    s->regions[1].strength = 0.0f;
    expect_refusal(s, 2, TSR_BAD_ARGUMENT, "strength is 0");
    tsr_mask_free(empty);
    tsr_mask_free(small);
    tsr_mask_free(broken);
}

static void plan__warns_of_what_is_legal_but_odd(void **state) {
    scene *s = *state;
    tsr_plan *plan = NULL;
    tsr_error err = TSR_ERROR_INIT;
    expect_ok(tsr_plan_new(&plan, &s->base, s->regions, 2, &s->options, s->latent->shape, &err), &err);
    assert_null(tsr_plan_warning(plan, 0));
    tsr_plan_free(plan);
    s->options.base_only_steps = 6;
    expect_ok(tsr_plan_new(&plan, &s->base, s->regions, 4, &s->options, s->latent->shape, &err), &err);
    assert_non_null(strstr(tsr_plan_warning(plan, 0), "base prompt paints nothing"));
    assert_non_null(strstr(tsr_plan_warning(plan, 1), "never start"));
    assert_null(tsr_plan_warning(plan, 2));
    tsr_plan_free(plan);
}

/* A region of a few picture pixels is hardly seen; restart's own settings have no meaning. */
static void keep__names_faint_regions_and_idle_settings(void **state) {
    scene *s = *state;
    static const char *const words[] = { "hardly be seen", "restore_latent", "recovery pass", "seed_2nd" };
    tsr_plan *plan = NULL;
    tsr_error err = TSR_ERROR_INIT;
    tsr_mask *speck = box_mask(PICTURE, PICTURE, 8, 8, 2, 1);
    s->regions[1].mask = speck;
    s->options.restore_latent = 0;
    s->options.recovery_sampler = "heun";
    s->options.seed_2nd_mode = TSR_SEED_2ND_FIXED;
    expect_ok(tsr_plan_new(&plan, &s->base, s->regions, 2, &s->options, s->latent->shape, &err), &err);
    for (size_t w = 0; w < sizeof words / sizeof *words; w++) {
        int said = 0;
        for (int i = 0; tsr_plan_warning(plan, i); i++) said += strstr(tsr_plan_warning(plan, i), words[w]) != NULL;
        if (said != 1) fail_msg("'%s' is said %d times", words[w], said);
    }
    tsr_plan_free(plan);
    tsr_mask_free(speck);
}

static void plan__text_says_it_all(void **state) {
    scene *s = *state;
    tsr_plan *plan = NULL;
    char *text = NULL;
    tsr_error err = TSR_ERROR_INIT;
    s->regions[0].name = "cat";
    s->regions[0].sampler = "dpmpp_2m";
    s->options.base_only_steps = 2;
    expect_ok(tsr_plan_new(&plan, &s->base, s->regions, 2, &s->options, s->latent->shape, &err), &err);
    expect_ok(tsr_plan_text(&text, plan, &err), &err);
    assert_non_null(strstr(text, "region 1 (cat)"));
    assert_non_null(strstr(text, "dpmpp_2m"));
    assert_non_null(strstr(text, "steps 1-2"));
    assert_non_null(strstr(text, "steps 3-6"));
    assert_non_null(strstr(text, "20 network evaluations"));
    tsr_free(text);
    tsr_plan_free(plan);
    s->options.history = TSR_HISTORY_RESTART;
    expect_ok(tsr_plan_new(&plan, &s->base, s->regions, 2, &s->options, s->latent->shape, &err), &err);
    expect_ok(tsr_plan_text(&text, plan, &err), &err);
    assert_non_null(strstr(text, "history restart"));
    assert_non_null(strstr(text, "steps 1-2"));
    assert_non_null(strstr(text, "put into the picture"));
    assert_non_null(strstr(text, "28 network evaluations"));
    tsr_free(text);
    tsr_plan_free(plan);
}

/* keep's shares: 1 inside, 0 outside, half on the border of a ramp, and always 1 together. */
static void plan__weights_sum_to_one(void **state) {
    scene *s = *state;
    tsr_plan *plan = NULL;
    float sum[SIDE * SIDE] = { 0 }, w[SIDE * SIDE];
    tsr_error err = TSR_ERROR_INIT;
    s->options.overlap = 16;
    s->regions[2].strength = 0.5f;
    expect_ok(tsr_plan_new(&plan, &s->base, s->regions, 3, &s->options, s->latent->shape, &err), &err);
    for (int k = 0; k < 4; k++) {
        expect_ok(tsr_plan_weights(w, plan, k, &err), &err);
        for (int i = 0; i < SIDE * SIDE; i++) {
            assert_true(w[i] >= 0.0f && w[i] <= 1.0f);
            sum[i] += w[i];
        }
        if (k == 1) assert_true(w[7] == 1.0f && w[0] == 0.0f && fabsf(w[3] + w[4] - 1.0f) < 1e-6f && w[3] > 0.1f);
        if (k == 3) assert_true(w[7 * SIDE + 7] == 0.5f);
    }
    for (int i = 0; i < SIDE * SIDE; i++) assert_true(fabsf(sum[i] - 1.0f) < 1e-6f);
    assert_int_equal(tsr_plan_weights(w, plan, 4, &err), TSR_BAD_ARGUMENT);
    tsr_plan_free(plan);
}

static void plan__wrong_latent_is_refused(void **state) {
    scene *s = *state;
    tsr_plan *plan = NULL;
    tsr_latent *out = NULL, *other = zero_latent(1, 2, SIDE, SIDE + 1);
    tsr_error err = TSR_ERROR_INIT;
    expect_ok(tsr_plan_new(&plan, &s->base, s->regions, 1, &s->options, s->latent->shape, &err), &err);
    assert_int_equal(tsr_plan_run(&out, plan, other, NULL, &err), TSR_BAD_ARGUMENT);
    assert_non_null(strstr(err.message, "1x2x8x9"));
    tsr_latent_free(other);
    tsr_plan_free(plan);
}

/* A base without regions is a plain KSampler. */
static void plan__no_regions_is_a_plain_run(void **state) {
    scene *s = *state;
    tsr_ksampler_options k = TSR_KSAMPLER_OPTIONS_INIT;
    tsr_latent *alone = NULL;
    tsr_error err = TSR_ERROR_INIT;
    s->base.sampler = k.sampler = "dpm_2";
    k.steps = 6;
    k.seed = 4;
    tsr_latent *out = run_regions(&s->base, NULL, 0, &s->options, s->latent);
    expect_ok(tsr_ksampler(&alone, s->latent, &s->base.guide, &k, &err), &err);
    assert_memory_equal(out->values, alone->values, tsr_latent_count(out) * sizeof(float));
    tsr_latent_free(out);
    tsr_latent_free(alone);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(plan__common_negative_is_evaluated_once),
        CASE(plan__second_stage_shares_too),
        CASE(plan__promises_what_runs),
        CASE(plan__same_run_twice_is_the_same_bits),
        CASE(restart__takes_the_masks_that_the_nodes_take),
        CASE(restart__window_of_nothing_gives_the_latent),
        CASE(plan__progress_counts_to_the_end),
        CASE(plan__cancels_before_the_next_call),
        CASE(plan__nan_names_step_and_region),
        CASE(plan__refuses_with_a_reason),
        CASE(plan__warns_of_what_is_legal_but_odd),
        CASE(keep__names_faint_regions_and_idle_settings),
        CASE(plan__text_says_it_all),
        CASE(plan__weights_sum_to_one),
        CASE(plan__wrong_latent_is_refused),
        CASE(plan__no_regions_is_a_plain_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
