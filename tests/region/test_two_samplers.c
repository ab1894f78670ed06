/* The two-sampler plans against the same calls made by hand through the public samplers, as reference/nodes has them. */
#include "gaussian.h"
#include "tessera/two_samplers.h"

enum { H = 6, W = 8, C = 2, COUNT = C * H * W };

typedef struct world {
    gaussian g;
    gaussian_cond sky, castle, negative;
    tsr_mask *mask;
    tsr_latent *latent;
    tsr_ksampler_provider base, inside;
} world;

static void world_init(world *w) {
    static const tsr_ksampler_provider fresh = TSR_KSAMPLER_PROVIDER_INIT;
    memset(w, 0, sizeof *w);
    gaussian_init(&w->g, 0.5f);
    w->sky = (gaussian_cond){ 0.4f, 0.8f };
    w->castle = (gaussian_cond){ -1.0f, 0.5f };
    w->negative = (gaussian_cond){ 0.0f, 1.0f };
    w->mask = box_mask(8 * W, 8 * H, 16, 8, 24, 24);
    for (int y = 0; y < 8 * H; y++) w->mask->values[y * 8 * W + 16] *= 0.5f; /* a soft column */
    w->latent = zero_latent(1, C, H, W);
    for (int i = 0; i < COUNT; i++) w->latent->values[i] = 0.1f * (float)(i % 7);
    w->base = w->inside = fresh;
    w->base.guide = (tsr_guide){ &w->g.denoiser, &w->sky, &w->negative, 3.0f, 0.0, 0.0 };
    w->base.steps = 5;
    w->base.seed = 11;
    w->inside.guide = (tsr_guide){ &w->g.denoiser, &w->castle, &w->negative, 2.0f, 0.0, 0.0 };
    w->inside.scheduler = "karras";
    w->inside.steps = 4;
    w->inside.denoise = 0.6;
    w->inside.seed = 12;
}

static void world_clear(world *w) {
    tsr_mask_free(w->mask);
    tsr_latent_free(w->latent);
    gaussian_clear(&w->g);
}

static void expect_near(const tsr_latent *a, const tsr_latent *b, float tolerance) {
    assert_memory_equal(a->shape, b->shape, sizeof a->shape);
    for (size_t i = 0; i < tsr_latent_count(a); i++)
        if (!(fabsf(a->values[i] - b->values[i]) <= tolerance))
            fail_msg("value %zu is %g, not %g", i, (double)a->values[i], (double)b->values[i]);
}

static void put_mask(tsr_latent *latent, const tsr_mask *mask) {
    tsr_error err = TSR_ERROR_INIT;
    tsr_mask_free(latent->noise_mask);
    latent->noise_mask = NULL;
    expect_ok(tsr_mask_copy(&latent->noise_mask, mask, &err), &err);
}

static void replace(tsr_latent **now, tsr_latent *next) {
    tsr_latent_free(*now);
    *now = next;
}

static tsr_latent *run_plan(world *w, tsr_plan *plan) {
    tsr_latent *out = NULL;
    tsr_error err = TSR_ERROR_INIT;
    w->g.evaluations = 0;
    expect_ok(tsr_plan_run(&out, plan, w->latent, NULL, &err), &err);
    assert_int_equal(w->g.evaluations, tsr_plan_evaluations(plan));
    assert_null(out->noise_mask);
    tsr_plan_free(plan);
    return out;
}

static void whole_run(world *w, tsr_latent **now, const tsr_ksampler_provider *provider, const tsr_mask *mask) {
    tsr_ksampler_options options = TSR_KSAMPLER_OPTIONS_INIT;
    tsr_latent *next = NULL;
    tsr_error err = TSR_ERROR_INIT;
    (void)w;
    options.scheduler = provider->scheduler;
    options.steps = provider->steps;
    options.denoise = provider->denoise;
    options.seed = provider->seed;
    put_mask(*now, mask);
    expect_ok(tsr_ksampler(&next, *now, &provider->guide, &options, &err), &err);
    replace(now, next);
}

static void two_samplers__are_two_whole_runs(void **state) {
    (void)state;
    world w;
    tsr_plan *plan = NULL;
    tsr_latent *now = NULL;
    tsr_mask *outside = NULL;
    tsr_error err = TSR_ERROR_INIT;
    world_init(&w);
    expect_ok(tsr_mask_inverse_not_one(&outside, w.mask, &err), &err);
    expect_ok(tsr_latent_copy(&now, w.latent, &err), &err);
    whole_run(&w, &now, &w.base, outside);
    whole_run(&w, &now, &w.inside, w.mask);
    expect_ok(tsr_two_samplers_plan(&plan, &w.base, &w.inside, w.mask, NULL, w.latent->shape, &err), &err);
    assert_int_equal(tsr_plan_steps(plan), 9);
    tsr_latent *out = run_plan(&w, plan);
    expect_near(out, now, 1e-5f);
    tsr_latent_free(out);
    tsr_latent_free(now);
    tsr_mask_free(outside);
    world_clear(&w);
}

static void one_step(tsr_latent **now, const tsr_guide *guide, const tsr_mask *mask, int all, int i, int add_noise,
                     int leftover) {
    tsr_ksampler_advanced_options options = TSR_KSAMPLER_ADVANCED_OPTIONS_INIT;
    tsr_latent *next = NULL;
    tsr_error err = TSR_ERROR_INIT;
    options.steps = all;
    options.start_step = i;
    options.end_step = i + 1;
    options.seed = 21;
    options.add_noise = add_noise;
    options.leftover_noise = leftover;
    put_mask(*now, mask);
    expect_ok(tsr_ksampler_advanced(&next, *now, guide, &options, &err), &err);
    replace(now, next);
}

static void fill_regions(const world *w, tsr_region_base *base, tsr_region *inside) {
    static const tsr_region_base fresh_base = TSR_REGION_BASE_INIT;
    static const tsr_region fresh = TSR_REGION_INIT;
    *base = fresh_base;
    *inside = fresh;
    base->guide = w->base.guide;
    inside->guide = w->inside.guide;
    inside->mask = w->mask;
}

static void two_advanced__is_the_nodes_loop(void **state) {
    (void)state;
    world w;
    tsr_region_base base;
    tsr_region inside;
    tsr_two_advanced_options options = TSR_TWO_ADVANCED_OPTIONS_INIT;
    tsr_plan *plan = NULL;
    tsr_latent *now = NULL;
    tsr_mask *outside = NULL, *grown = NULL;
    tsr_error err = TSR_ERROR_INIT;
    world_init(&w);
    fill_regions(&w, &base, &inside);
    options.steps = 5;
    options.denoise = 0.7;
    options.seed = 21;
    options.overlap_factor = 2;
    expect_ok(tsr_mask_inverse_not_one(&outside, w.mask, &err), &err);
    expect_ok(tsr_mask_region_growth(&grown, w.mask, W, H, 2, &err), &err);
    expect_ok(tsr_latent_copy(&now, w.latent, &err), &err);
    for (int i = 2; i < 7; i++) { /* int(5 / 0.7) = 7 */
        one_step(&now, &base.guide, outside, 7, i, i == 2, 1);
        one_step(&now, &inside.guide, grown, 7, i, 0, i < 6);
    }
    expect_ok(tsr_two_advanced_plan(&plan, &base, &inside, &options, w.latent->shape, &err), &err);
    assert_int_equal(tsr_plan_steps(plan), 5);
    assert_int_equal(tsr_plan_count(plan), 11);
    tsr_latent *out = run_plan(&w, plan);
    expect_near(out, now, 1e-4f);
    tsr_latent_free(out);
    tsr_latent_free(now);
    tsr_mask_free(outside);
    tsr_mask_free(grown);
    world_clear(&w);
}

static void two_advanced__recovers_from_sde_steps(void **state) {
    (void)state;
    world w;
    tsr_region_base base;
    tsr_region inside;
    tsr_two_advanced_options options = TSR_TWO_ADVANCED_OPTIONS_INIT;
    tsr_plan *plain = NULL, *sde = NULL;
    tsr_error err = TSR_ERROR_INIT;
    world_init(&w);
    fill_regions(&w, &base, &inside);
    options.steps = 4;
    expect_ok(tsr_two_advanced_plan(&plain, &base, &inside, &options, w.latent->shape, &err), &err);
    inside.sampler = "dpmpp_2m_sde";
    expect_ok(tsr_two_advanced_plan(&sde, &base, &inside, &options, w.latent->shape, &err), &err);
    /* The inside's first three steps cost a second pass, of two evaluations each; the last one's too. */
    assert_int_equal(tsr_plan_evaluations(plain), 4 * 2 * 2);
    assert_int_equal(tsr_plan_evaluations(sde), 4 * 2 * 2 + 4 * 2);
    tsr_latent *out = run_plan(&w, sde);
    for (int i = 0; i < COUNT; i++) assert_true(isfinite(out->values[i]));
    tsr_latent_free(out);
    tsr_plan_free(plain);
    world_clear(&w);
}

static void delegate_and_keep__are_regional_plans(void **state) {
    (void)state;
    world w;
    tsr_region_base base;
    tsr_region inside;
    tsr_error err = TSR_ERROR_INIT;
    world_init(&w);
    fill_regions(&w, &base, &inside);
    for (int keep = 0; keep < 2; keep++) {
        tsr_two_advanced_options options = TSR_TWO_ADVANCED_OPTIONS_INIT;
        tsr_regional_options same = TSR_REGIONAL_OPTIONS_INIT;
        tsr_plan *plan = NULL;
        options.history = keep ? TSR_HISTORY_KEEP : TSR_HISTORY_RESTART;
        options.delegate = !keep;
        options.steps = same.steps = 4;
        options.seed = same.seed = 5;
        options.overlap_factor = same.overlap = 3;
        same.history = options.history;
        if (!keep) same.base_only_steps = 1;
        expect_ok(tsr_two_advanced_plan(&plan, &base, &inside, &options, w.latent->shape, &err), &err);
        tsr_latent *out = run_plan(&w, plan), *expected = run_regions(&base, &inside, 1, &same, w.latent);
        assert_memory_equal(out->values, expected->values, COUNT * sizeof(float));
        tsr_latent_free(out);
        tsr_latent_free(expected);
    }
    world_clear(&w);
}

static void two_samplers_keep__is_one_canvas_with_two_seeds(void **state) {
    (void)state;
    world w;
    tsr_two_samplers_options options = TSR_TWO_SAMPLERS_OPTIONS_INIT;
    tsr_plan *plan = NULL;
    tsr_region_base base;
    tsr_region inside;
    tsr_regional_options same = TSR_REGIONAL_OPTIONS_INIT;
    tsr_error err = TSR_ERROR_INIT;
    world_init(&w);
    fill_regions(&w, &base, &inside);
    inside.scheduler = "karras";
    inside.variation_seed = 12;
    inside.variation_strength = 1.0f;
    same.steps = 5;
    same.seed = 11;
    options.history = TSR_HISTORY_KEEP;
    expect_ok(tsr_two_samplers_plan(&plan, &w.base, &w.inside, w.mask, &options, w.latent->shape, &err), &err);
    assert_non_null(strstr(tsr_plan_warning(plan, 0), "4 steps of denoise 0.6 give way"));
    tsr_latent *out = run_plan(&w, plan), *expected = run_regions(&base, &inside, 1, &same, w.latent);
    assert_memory_equal(out->values, expected->values, COUNT * sizeof(float));
    tsr_latent_free(out);
    tsr_latent_free(expected);
    world_clear(&w);
}

static void plan_text__names_both_runs(void **state) {
    (void)state;
    world w;
    tsr_plan *plan = NULL;
    char *text = NULL;
    tsr_error err = TSR_ERROR_INIT;
    world_init(&w);
    expect_ok(tsr_two_samplers_plan(&plan, &w.base, &w.inside, w.mask, NULL, w.latent->shape, &err), &err);
    expect_ok(tsr_plan_text(&text, plan, &err), &err);
    assert_non_null(strstr(text, "base: euler"));
    assert_non_null(strstr(text, "adds noise of seed 11, 10 evaluations"));
    assert_non_null(strstr(text, "inside the mask: euler"));
    assert_non_null(strstr(text, "adds noise of seed 12, 8 evaluations"));
    assert_non_null(strstr(text, "18 network evaluations"));
    tsr_free(text);
    tsr_plan_free(plan);
    world_clear(&w);
}

static void empty_and_full_masks__are_told(void **state) {
    (void)state;
    world w;
    tsr_error err = TSR_ERROR_INIT;
    world_init(&w);
    for (int full = 0; full < 2; full++) {
        tsr_plan *plan = NULL;
        tsr_mask *mask = NULL;
        expect_ok(tsr_mask_new(&mask, 16, 16, (float)full, &err), &err);
        expect_ok(tsr_two_samplers_plan(&plan, &w.base, &w.inside, mask, NULL, w.latent->shape, &err), &err);
        assert_non_null(strstr(tsr_plan_warning(plan, 0), full ? "1 everywhere" : "empty"));
        assert_null(tsr_plan_warning(plan, 1));
        tsr_plan_free(plan);
        tsr_mask_free(mask);
    }
    world_clear(&w);
}

/* The message holds `part`, and out is NULL. */
static void expect_refused(tsr_status status, tsr_status expected, tsr_plan *plan, tsr_error *err, const char *part) {
    assert_int_equal(status, expected);
    assert_null(plan);
    if (!strstr(err->message, part)) fail_msg("\"%s\" does not say \"%s\"", err->message, part);
    *err = (tsr_error)TSR_ERROR_INIT;
}

static void two_samplers__refuse_bad_input(void **state) {
    (void)state;
    static const int no_shape[4] = { 1, 0, 4, 4 };
    world w;
    tsr_plan *plan = NULL;
    tsr_error err = TSR_ERROR_INIT;
    tsr_two_samplers_options keep = TSR_TWO_SAMPLERS_OPTIONS_INIT;
    world_init(&w);
    const int *shape = w.latent->shape;
    tsr_ksampler_provider bad = w.inside;
#define REFUSED(status, part, inside, mask, options, shape)                                                            \
    expect_refused(tsr_two_samplers_plan(&plan, &w.base, (inside), (mask), (options), (shape), &err), (status), plan,  \
                   &err, (part))
    REFUSED(TSR_BAD_ARGUMENT, "inside", NULL, w.mask, NULL, shape);
    REFUSED(TSR_BAD_ARGUMENT, "no mask", &w.inside, NULL, NULL, shape);
    REFUSED(TSR_BAD_ARGUMENT, "latent shape 1x0x4x4", &w.inside, w.mask, NULL, no_shape);
    bad.steps = 0;
    REFUSED(TSR_BAD_ARGUMENT, "steps is 0", &bad, w.mask, NULL, shape);
    bad = w.inside;
    bad.denoise = 0.0;
    REFUSED(TSR_BAD_ARGUMENT, "denoise is 0", &bad, w.mask, NULL, shape);
    bad = w.inside;
    bad.sampler = "eulr";
    REFUSED(TSR_NOT_FOUND, "inside the mask: unknown sampler \"eulr\": did you mean \"euler\"", &bad, w.mask, NULL,
            shape);
    bad = w.inside;
    bad.scheduler = "karas";
    REFUSED(TSR_NOT_FOUND, "karras", &bad, w.mask, NULL, shape);
    bad = w.inside;
    bad.guide.denoiser = NULL;
    REFUSED(TSR_BAD_ARGUMENT, "no denoiser", &bad, w.mask, NULL, shape);
    bad = w.inside;
    bad.struct_size = 1;
    REFUSED(TSR_BAD_ARGUMENT, "struct_size", &bad, w.mask, NULL, shape);
    keep.history = TSR_HISTORY_KEEP;
    tsr_mask *small = box_mask(8, 8, 0, 0, 4, 4);
    REFUSED(TSR_BAD_ARGUMENT, "8x8, the picture is 64x48", &w.inside, small, &keep, shape);
    w.mask->values[3] = NAN;
    REFUSED(TSR_BAD_ARGUMENT, "NaN or infinity at x 3, y 0", &w.inside, w.mask, NULL, shape);
#undef REFUSED
    tsr_mask_free(small);
    world_clear(&w);
}

static void two_advanced__refuses_bad_input(void **state) {
    (void)state;
    world w;
    tsr_region_base base;
    tsr_region inside;
    tsr_two_advanced_options options = TSR_TWO_ADVANCED_OPTIONS_INIT;
    tsr_plan *plan = NULL;
    tsr_error err = TSR_ERROR_INIT;
    world_init(&w);
    fill_regions(&w, &base, &inside);
#define REFUSED(part)                                                                                                  \
    expect_refused(tsr_two_advanced_plan(&plan, &base, &inside, &options, w.latent->shape, &err), TSR_BAD_ARGUMENT,    \
                   plan, &err, (part))
    options.overlap_factor = -1;
    REFUSED("overlap_factor is -1");
    options.overlap_factor = 1;
    options.denoise = 1.5;
    REFUSED("denoise is 1.5");
    options.denoise = 1.0;
    inside.sigma_factor = 11.0f;
    REFUSED("sigma_factor is 11");
    inside.sigma_factor = 1.0f;
    inside.mask = NULL;
    REFUSED("no mask");
#undef REFUSED
    world_clear(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_samplers__are_two_whole_runs),
        cmocka_unit_test(two_advanced__is_the_nodes_loop),
        cmocka_unit_test(two_advanced__recovers_from_sde_steps),
        cmocka_unit_test(delegate_and_keep__are_regional_plans),
        cmocka_unit_test(two_samplers_keep__is_one_canvas_with_two_seeds),
        cmocka_unit_test(plan_text__names_both_runs),
        cmocka_unit_test(empty_and_full_masks__are_told),
        cmocka_unit_test(two_samplers__refuse_bad_input),
        cmocka_unit_test(two_advanced__refuses_bad_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
