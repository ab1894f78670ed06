/* What networks are told of the picture under them (inpainting models read it): the run's latent and noise mask in history keep,
 * those of each sampler call in history restart, and the place of a crop on them. */
#include "gaussian.h"

enum { WIDTH = 24, HEIGHT = 16, PLANE = WIDTH * HEIGHT, STEPS = 4 };
#define SCALE 0.5f

/* The network, and what it was told. */
typedef struct spy {
    gaussian g;
    tsr_latent *latent;
    int crops, wholes;        /* evaluations of parts, of the whole */
    int furthest;             /* the largest distance of a part from the left */
    int masked[3], unmasked;  /* evaluations by conditioning's number, all without a mask */
    const tsr_mask *masks[3]; /* what each conditioning's mask must be, at latent size; NULL: not looked at */
    int fixed;                /* 1: the start is the run's latent in every call */
} spy;

static void look(spy *s, const int shape[4], const tsr_denoise_call *call) {
    const tsr_start_picture *start = call->start;
    int k = (int)((const gaussian_cond *)call->cond)->mu;
    assert_non_null(start);
    assert_int_equal(start->width, WIDTH);
    assert_int_equal(start->height, HEIGHT);
    assert_int_equal(call->start_left, call->left);
    assert_int_equal(call->start_top, call->top);
    if (call->start_left > s->furthest) s->furthest = call->start_left;
    if (call->canvas_width) s->crops++;
    else s->wholes++;
    assert_true(call->start_left + shape[3] <= WIDTH && call->start_top + shape[2] <= HEIGHT);
    for (int i = 0; s->fixed && i < 2 * PLANE; i++) assert_true(start->latent[i] == s->latent->values[i] * SCALE);
    if (!start->mask) s->unmasked++;
    else if (k >= 0 && k < 3) s->masked[k]++;
    for (int i = 0; start->mask && k >= 0 && k < 3 && s->masks[k] && i < PLANE; i++)
        assert_true(start->mask[i] == s->masks[k]->values[i]);
}

static tsr_status spy_denoise(void *user, const int shape[4], const tsr_denoise_call *calls, int count,
                              tsr_error *err) {
    spy *s = user;
    for (int i = 0; i < count; i++) look(s, shape, &calls[i]);
    return s->g.denoiser.denoise(&s->g, shape, calls, count, err);
}

typedef struct world {
    spy s;
    tsr_denoiser denoiser;
    gaussian_cond conds[3], negative;
    tsr_mask *left, *right;             /* at latent size */
    tsr_mask *left_large, *right_large; /* at the picture's */
    tsr_region_base base;
    tsr_region regions[2];
    tsr_regional_options options;
} world;

static void world_init(world *w) {
    static const tsr_region_base base = TSR_REGION_BASE_INIT;
    static const tsr_region region = TSR_REGION_INIT;
    static const tsr_regional_options options = TSR_REGIONAL_OPTIONS_INIT;
    memset(w, 0, sizeof *w);
    gaussian_init(&w->s.g, SCALE);
    w->denoiser = w->s.g.denoiser;
    w->denoiser.user = &w->s;
    w->denoiser.denoise = spy_denoise;
    w->denoiser.native_size = 8;
    w->denoiser.multiple = 4;
    w->left = box_mask(WIDTH, HEIGHT, 0, 0, 8, HEIGHT);
    w->right = box_mask(WIDTH, HEIGHT, 16, 0, 8, HEIGHT);
    w->left_large = box_mask(8 * WIDTH, 8 * HEIGHT, 0, 0, 64, 8 * HEIGHT);
    w->right_large = box_mask(8 * WIDTH, 8 * HEIGHT, 128, 0, 64, 8 * HEIGHT);
    w->s.latent = zero_latent(1, 2, HEIGHT, WIDTH);
    for (int i = 0; i < 2 * PLANE; i++) w->s.latent->values[i] = (float)(i % 11) - 5.0f;
    for (int k = 0; k < 3; k++) w->conds[k] = (gaussian_cond){ (float)k, 0.7f }; /* the mean is the number */
    w->negative = (gaussian_cond){ -1.0f, 0.9f };
    w->base = base;
    w->base.guide =
        (tsr_guide){ .denoiser = &w->denoiser, .positive = &w->conds[0], .negative = &w->negative, .cfg = 2.0f };
    for (int k = 0; k < 2; k++) {
        w->regions[k] = region;
        w->regions[k].guide = w->base.guide;
        w->regions[k].guide.positive = &w->conds[k + 1];
        w->regions[k].mask = k ? w->right_large : w->left_large;
    }
    w->options = options;
    w->options.steps = STEPS;
    w->options.seed = 4;
    w->options.overlap = 0;
}

static void world_clear(world *w) {
    gaussian_clear(&w->s.g);
    tsr_mask_free(w->left);
    tsr_mask_free(w->right);
    tsr_mask_free(w->left_large);
    tsr_mask_free(w->right_large);
    tsr_latent_free(w->s.latent);
}

static void keep__tells_the_runs_latent_and_mask_and_the_crops_place(void **state) {
    world w;
    tsr_error err = TSR_ERROR_INIT;
    (void)state;
    world_init(&w);
    w.s.fixed = 1;
    w.options.sharing = TSR_SHARING_CROP;
    tsr_latent_free(run_regions(&w.base, w.regions, 2, &w.options, w.s.latent));
    assert_true(w.s.crops > 0 && w.s.furthest >= 8);
    assert_int_equal(w.s.unmasked, w.s.crops + w.s.wholes);
    expect_ok(tsr_mask_new(&w.s.latent->noise_mask, WIDTH, HEIGHT, 0.0f, &err), &err);
    for (int i = 0; i < PLANE; i++) w.s.latent->noise_mask->values[i] = (float)(i % 5) / 4.0f;
    for (int k = 0; k < 3; k++) w.s.masks[k] = w.s.latent->noise_mask;
    w.s.unmasked = 0;
    tsr_latent_free(run_regions(&w.base, w.regions, 2, &w.options, w.s.latent));
    assert_int_equal(w.s.unmasked, 0);
    assert_int_equal(w.s.masked[1], STEPS);
    world_clear(&w);
}

/* Each region's step is a sampler call with the region's own mask. */
static void restart__tells_each_calls_own_mask(void **state) {
    world w;
    (void)state;
    world_init(&w);
    w.options.history = TSR_HISTORY_RESTART;
    w.s.masks[1] = w.left;
    w.s.masks[2] = w.right;
    tsr_latent_free(run_regions(&w.base, w.regions, 2, &w.options, w.s.latent));
    assert_int_equal(w.s.masked[1], STEPS);
    assert_int_equal(w.s.masked[2], STEPS);
    assert_true(w.s.masked[0] > 0); /* the base: what the regions leave */
    assert_int_equal(w.s.crops, 0);
    world_clear(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keep__tells_the_runs_latent_and_mask_and_the_crops_place),
        cmocka_unit_test(restart__tells_each_calls_own_mask),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
