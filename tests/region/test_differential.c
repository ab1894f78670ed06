/* Change maps in regional runs: what a model patched by ComfyUI's DifferentialDiffusion does in each system. */
#include "gaussian.h"
#include "tessera/two_samplers.h"

enum { H = 6, W = 8, C = 2, STEPS = 8 };

typedef struct world {
    gaussian g;
    gaussian_cond cond[2], negative;
    tsr_latent *latent; /* with a change map */
    tsr_mask *left;
} world;

static void world_init(world *w) {
    tsr_error err = TSR_ERROR_INIT;
    memset(w, 0, sizeof *w);
    gaussian_init(&w->g, 0.5f);
    w->g.denoiser.native_size = 4;
    w->cond[0] = (gaussian_cond){ 0.4f, 0.8f };
    w->cond[1] = (gaussian_cond){ -1.0f, 0.5f };
    w->negative = (gaussian_cond){ 0.0f, 1.0f };
    w->latent = zero_latent(1, C, H, W);
    for (size_t i = 0; i < tsr_latent_count(w->latent); i++) w->latent->values[i] = 0.4f * sinf((float)i);
    expect_ok(tsr_mask_new(&w->latent->noise_mask, W, H, 0.0f, &err), &err);
    for (int i = 0; i < H * W; i++) w->latent->noise_mask->values[i] = 0.02f + 0.96f * (float)(i % W) / (float)(W - 1);
    w->left = box_mask(8 * W, 8 * H, 0, 0, 4 * W, 8 * H);
}

static void world_clear(world *w) {
    tsr_latent_free(w->latent);
    tsr_mask_free(w->left);
    gaussian_clear(&w->g);
}

static tsr_guide guide_of(world *w, int cond, double differential) {
    tsr_guide guide = { &w->g.denoiser, &w->cond[cond], &w->negative, 2.5f, differential, 0.0 };
    return guide;
}

static float largest_difference(const tsr_latent *a, const tsr_latent *b) {
    float most = 0.0f;
    assert_memory_equal(a->shape, b->shape, sizeof a->shape);
    for (size_t i = 0; i < tsr_latent_count(a); i++) most = fmaxf(most, fabsf(a->values[i] - b->values[i]));
    return most;
}

static tsr_latent *plain(world *w, const char *sampler, double differential, double denoise) {
    tsr_ksampler_options options = TSR_KSAMPLER_OPTIONS_INIT;
    tsr_guide guide = guide_of(w, 0, differential);
    tsr_latent *out = NULL;
    tsr_error err = TSR_ERROR_INIT;
    options.sampler = sampler;
    options.steps = STEPS;
    options.seed = 5;
    options.denoise = denoise;
    expect_ok(tsr_ksampler(&out, w->latent, &guide, &options, &err), &err);
    return out;
}

/* keep: two actors that paint the same are a plain run. */
static tsr_latent *twins(world *w, const char *sampler, double differential, double denoise, tsr_sharing sharing) {
    tsr_region_base base = TSR_REGION_BASE_INIT;
    tsr_region region = TSR_REGION_INIT;
    tsr_regional_options options = TSR_REGIONAL_OPTIONS_INIT;
    base.sampler = sampler;
    base.guide = region.guide = guide_of(w, 0, differential);
    region.mask = w->left;
    options.steps = STEPS;
    options.seed = 5;
    options.denoise = denoise;
    options.sharing = sharing;
    return run_regions(&base, &region, 1, &options, w->latent);
}

static void keep__a_region_like_the_base_is_a_plain_run(void **state) {
    static const char *const samplers[] = { "euler", "dpmpp_2m", "heun", "euler_ancestral", "dpm_2", "uni_pc" };
    static const double strengths[] = { 1.0, 0.4 };
    world w;
    (void)state;
    world_init(&w);
    for (int i = 0; i < 6; i++)
        for (int k = 0; k < 2; k++)
            for (int share = TSR_SHARING_FULL; share <= TSR_SHARING_CROP; share++) {
                double denoise = k ? 0.6 : 1.0;
                tsr_latent *alone = plain(&w, samplers[i], strengths[k], denoise),
                           *both = twins(&w, samplers[i], strengths[k], denoise, (tsr_sharing)share),
                           *grey = plain(&w, samplers[i], 0.0, denoise);
                float off = largest_difference(alone, both);
                if (!(off <= 2e-5f)) fail_msg("%s, strength %g: off by %g", samplers[i], strengths[k], (double)off);
                assert_true(largest_difference(alone, grey) > 0.05f); /* it is another rule */
                tsr_latent_free(alone);
                tsr_latent_free(both);
                tsr_latent_free(grey);
            }
    world_clear(&w);
}

/* Hard weights, pixelwise network: where a region has its own strength, the picture is that of a run with it. */
static void keep__strength_is_each_guides_own(void **state) {
    tsr_region_base base = TSR_REGION_BASE_INIT;
    tsr_region region = TSR_REGION_INIT;
    tsr_regional_options options = TSR_REGIONAL_OPTIONS_INIT;
    world w;
    (void)state;
    world_init(&w);
    base.guide = guide_of(&w, 0, 1.0);
    region.guide = guide_of(&w, 0, 0.0);
    region.mask = w.left;
    options.steps = STEPS;
    options.seed = 5;
    options.sharing = TSR_SHARING_FULL;
    tsr_latent *out = run_regions(&base, &region, 1, &options, w.latent), *hard = plain(&w, "euler", 1.0, 1.0),
               *grey = plain(&w, "euler", 0.0, 1.0);
    for (size_t i = 0; i < tsr_latent_count(out); i++) {
        const tsr_latent *want = i % W < W / 2 ? grey : hard;
        assert_true(fabsf(out->values[i] - want->values[i]) <= 2e-5f);
    }
    tsr_latent_free(out);
    tsr_latent_free(hard);
    tsr_latent_free(grey);
    world_clear(&w);
}

/* TwoSamplersForMask samples twice through the region's mask, which may be grey: two whole runs of a patched model. */
static void two_samplers__grey_masks_are_change_maps(void **state) {
    tsr_ksampler_provider base = TSR_KSAMPLER_PROVIDER_INIT, inside = TSR_KSAMPLER_PROVIDER_INIT;
    tsr_ksampler_options options = TSR_KSAMPLER_OPTIONS_INIT;
    tsr_mask *outside = NULL, *grey = NULL;
    tsr_latent *first = NULL, *second = NULL, *out = NULL;
    tsr_plan *plan = NULL;
    tsr_error err = TSR_ERROR_INIT;
    world w;
    (void)state;
    world_init(&w);
    expect_ok(tsr_mask_copy(&grey, w.left, &err), &err);
    for (int i = 0; i < 64 * H * W; i++) grey->values[i] *= 0.03f + 0.9f * (float)(i % (8 * W)) / (float)(4 * W);
    base.guide = guide_of(&w, 0, 1.0);
    inside.guide = guide_of(&w, 1, 1.0);
    base.steps = inside.steps = options.steps = STEPS;
    base.seed = inside.seed = options.seed = 9;
    expect_ok(tsr_two_samplers_plan(&plan, &base, &inside, grey, NULL, w.latent->shape, &err), &err);
    expect_ok(tsr_plan_run(&out, plan, w.latent, NULL, &err), &err);
    expect_ok(tsr_mask_inverse_not_one(&outside, grey, &err), &err);
    tsr_mask_free(w.latent->noise_mask);
    w.latent->noise_mask = outside;
    expect_ok(tsr_ksampler(&first, w.latent, &base.guide, &options, &err), &err);
    tsr_mask_free(first->noise_mask);
    first->noise_mask = grey;
    expect_ok(tsr_ksampler(&second, first, &inside.guide, &options, &err), &err);
    assert_true(largest_difference(out, second) <= 1e-5f);
    tsr_latent_free(second);
    inside.guide.differential = 0.0;
    expect_ok(tsr_ksampler(&second, first, &inside.guide, &options, &err), &err);
    assert_true(largest_difference(out, second) > 0.05f);
    tsr_latent_free(first);
    tsr_latent_free(second);
    tsr_latent_free(out);
    tsr_plan_free(plan);
    world_clear(&w);
}

static void guide__refuses_what_is_no_share(void **state) {
    static const double bad[] = { -0.1, 1.5, NAN };
    tsr_ksampler_options options = TSR_KSAMPLER_OPTIONS_INIT;
    world w;
    (void)state;
    world_init(&w);
    for (int i = 0; i < 3; i++) {
        tsr_guide guide = guide_of(&w, 0, bad[i]);
        tsr_latent *out = NULL;
        tsr_error err = TSR_ERROR_INIT;
        assert_int_equal(tsr_ksampler(&out, w.latent, &guide, &options, &err), TSR_BAD_ARGUMENT);
        assert_non_null(strstr(err.message, "differential"));
        assert_null(out);
    }
    assert_int_equal(w.g.evaluations, 0);
    world_clear(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keep__a_region_like_the_base_is_a_plain_run),
        cmocka_unit_test(keep__strength_is_each_guides_own),
        cmocka_unit_test(two_samplers__grey_masks_are_change_maps),
        cmocka_unit_test(guide__refuses_what_is_no_share),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
