/* Sharing modes, overlap policies and windows of history keep, on networks whose answers are known exactly. */
#include "gaussian.h"
#include "region/plan_priv.h"

enum { WIDTH = 24, HEIGHT = 16, STEPS = 6 };

/* A coupled conditioning: what the fake network below makes of several, for the test to look at. */
typedef struct coupled_cond {
    gaussian_cond cond; /* first: the network reads it as one of its own */
    int n, height, width;
    float weights[4][WIDTH * HEIGHT];
    const void *conds[4];
} coupled_cond;

static int couples_alive;

static tsr_status couple(void *user, const void **out, const void *const *conds, const float *const *weights, int n,
                         int height, int width, tsr_error *err) {
    coupled_cond *made = calloc(1, sizeof *made);
    (void)user;
    (void)err;
    assert_non_null(made);
    assert_in_range(n, 1, 4);
    for (int k = 0; k < n; k++) {
        made->conds[k] = conds[k];
        for (int i = 0; i < WIDTH * HEIGHT; i++) made->weights[k][i] = weights[k][i];
    }
    made->cond = *(const gaussian_cond *)conds[0];
    made->n = n;
    made->height = height;
    made->width = width;
    couples_alive++;
    *out = made;
    return TSR_OK;
}

static coupled_cond newest; /* a copy of what was released last */

static void uncouple(void *user, const void *cond) {
    (void)user;
    newest = *(const coupled_cond *)cond;
    couples_alive--;
    free((void *)(uintptr_t)cond);
}

typedef struct scene {
    gaussian g;
    gaussian_cond conds[5], negative;
    tsr_mask *masks[3]; /* left, right third; a corner */
    tsr_latent *latent;
    tsr_region_base base;
    tsr_region regions[3];
    tsr_regional_options options;
} scene;

static int setup(void **state) {
    static const tsr_region_base base = TSR_REGION_BASE_INIT;
    static const tsr_region region = TSR_REGION_INIT;
    static const tsr_regional_options options = TSR_REGIONAL_OPTIONS_INIT;
    scene *s = calloc(1, sizeof *s);
    assert_non_null(s);
    gaussian_init(&s->g, 0.18215f);
    s->g.denoiser.native_size = 8;
    s->g.denoiser.multiple = 4;
    s->g.denoiser.couple = couple;
    s->g.denoiser.uncouple = uncouple;
    s->masks[0] = box_mask(8 * WIDTH, 8 * HEIGHT, 0, 0, 64, 128);
    s->masks[1] = box_mask(8 * WIDTH, 8 * HEIGHT, 128, 0, 64, 128);
    s->masks[2] = box_mask(8 * WIDTH, 8 * HEIGHT, 40, 40, 16, 16);
    s->latent = zero_latent(1, 2, HEIGHT, WIDTH);
    for (int k = 0; k < 4; k++) s->conds[k] = (gaussian_cond){ 0.4f * (float)k - 0.5f, 0.6f + 0.1f * (float)k };
    s->negative = (gaussian_cond){ 0.1f, 1.0f };
    s->base = base;
    s->base.guide = (tsr_guide){ &s->g.denoiser, &s->conds[0], &s->negative, 3.0f, 0.0, 0.0 };
    for (int k = 0; k < 3; k++) {
        s->regions[k] = region;
        s->regions[k].guide = (tsr_guide){ &s->g.denoiser, &s->conds[k + 1], &s->negative, 3.0f, 0.0, 0.0 };
        s->regions[k].mask = s->masks[k];
    }
    s->options = options;
    s->options.steps = STEPS;
    s->options.seed = 4;
    s->options.crop_context = 1;
    *state = s;
    return 0;
}

static int teardown(void **state) {
    scene *s = *state;
    gaussian_clear(&s->g);
    for (int k = 0; k < 3; k++) tsr_mask_free(s->masks[k]);
    tsr_latent_free(s->latent);
    free(s);
    return 0;
}

static tsr_plan *plan_of(scene *s, int n) {
    tsr_plan *plan = NULL;
    tsr_error err = TSR_ERROR_INIT;
    expect_ok(tsr_plan_new(&plan, &s->base, s->regions, n, &s->options, s->latent->shape, &err), &err);
    return plan;
}

static tsr_latent *run_as(scene *s, int n, tsr_sharing sharing) {
    s->options.sharing = sharing;
    s->g.evaluations = s->g.calls = 0;
    s->g.pixels = 0;
    return run_regions(&s->base, s->regions, n, &s->options, s->latent);
}

static void expect_same(const tsr_latent *a, const tsr_latent *b, const char *what) {
    for (size_t i = 0; i < tsr_latent_count(a); i++)
        if (memcmp(&a->values[i], &b->values[i], sizeof(float)) != 0)
            fail_msg("%s: value %zu is %.9g and %.9g", what, i, (double)a->values[i], (double)b->values[i]);
}

/* A network that looks at pixels one by one cannot tell a crop from the whole: the same bits, for every sampler, soft
 * borders, own schedulers and noise masks included. */
static void crop__equals_full_for_a_pixelwise_network(void **state) {
    scene *s = *state;
    tsr_error err = TSR_ERROR_INIT;
    s->options.overlap = 24;
    s->regions[1].scheduler = "karras";
    for (int masked = 0; masked < 2; masked++) {
        for (int i = 0; i < tsr_sampler_count(); i++) {
            if (is_own_step_sampler(tsr_sampler_name(i))) continue;
            s->base.sampler = tsr_sampler_name((i * 7 + 3) % 4);
            s->regions[0].sampler = s->regions[1].sampler = tsr_sampler_name(i);
            tsr_latent *full = run_as(s, 2, TSR_SHARING_FULL);
            int64_t whole = s->g.pixels;
            tsr_latent *crop = run_as(s, 2, TSR_SHARING_CROP);
            expect_same(full, crop, tsr_sampler_name(i));
            assert_true(s->g.pixels != whole);
            tsr_latent_free(full);
            tsr_latent_free(crop);
        }
        if (masked) break;
        expect_ok(tsr_mask_new(&s->latent->noise_mask, WIDTH, HEIGHT, 1.0f, &err), &err);
        for (int i = 0; i < WIDTH * HEIGHT; i++) s->latent->noise_mask->values[i] = (float)(i % 5) / 4.0f;
    }
}

/* 8 columns and 1 of context, made 12 by the multiple of 4; the small one 4 by 4, made 8 by 8 by the model's own size. */
static void crop__sizes_are_as_documented(void **state) {
    scene *s = *state;
    s->options.sharing = TSR_SHARING_CROP;
    tsr_plan *plan = plan_of(s, 3);
    const tsr__crop expected[4] = { { 6, 0, 12, 16 }, { 0, 0, 12, 16 }, { 12, 0, 12, 16 }, { 2, 2, 8, 8 } };
    for (int k = 0; k < 4; k++) {
        const tsr__crop *crop = &plan->actors[k].crop;
        if (memcmp(crop, &expected[k], sizeof *crop) != 0)
            fail_msg("actor %d sees %dx%d at %d,%d", k, crop->width, crop->height, crop->x, crop->y);
    }
    tsr_plan_free(plan);
}

/* Promised and made: evaluations, and their pixels. A crop has its own negative. */
static void crop__costs_what_the_plan_says(void **state) {
    scene *s = *state;
    tsr_plan_cost cost;
    s->base.sampler = "heun";
    for (int sharing = TSR_SHARING_FULL; sharing <= TSR_SHARING_COUPLE; sharing++) {
        s->options.sharing = (tsr_sharing)sharing;
        tsr_plan *plan = plan_of(s, 3);
        assert_int_equal(tsr_plan_sharing(plan), sharing);
        assert_true(tsr_plan_cost_of(plan, (tsr_sharing)sharing, &cost));
        assert_int_equal(cost.evaluations, tsr_plan_evaluations(plan));
        tsr_latent_free(run_as(s, 3, (tsr_sharing)sharing));
        assert_int_equal(s->g.evaluations, cost.evaluations);
        double plain = 2.0 * (2 * STEPS - 1) * WIDTH * HEIGHT;
        assert_true(fabs((double)s->g.pixels / plain - cost.relative) < 1e-9);
        tsr_plan_free(plan);
    }
    s->base.sampler = NULL;
    tsr_latent_free(run_as(s, 2, TSR_SHARING_CROP));
    assert_int_equal(s->g.evaluations, STEPS * 6);
    assert_int_equal(s->g.calls, STEPS); /* three crops, all of one size */
}

static void couple__is_one_pass_with_everybody_in_it(void **state) {
    scene *s = *state;
    s->options.overlap = 16;
    s->options.base_only_steps = 2;
    tsr_latent_free(run_as(s, 2, TSR_SHARING_COUPLE));
    assert_int_equal(couples_alive, 0);
    assert_int_equal(s->g.evaluations, STEPS * 2);
    assert_int_equal(s->g.calls, STEPS);
    assert_int_equal(newest.n, 3);
    assert_int_equal(newest.height, HEIGHT);
    assert_int_equal(newest.width, WIDTH);
    for (int k = 0; k < 3; k++) assert_ptr_equal(newest.conds[k], &s->conds[k]);
    for (int i = 0; i < WIDTH * HEIGHT; i++) {
        float sum = newest.weights[0][i] + newest.weights[1][i] + newest.weights[2][i];
        assert_true(fabsf(sum - 1.0f) < 1e-6f);
    }
    assert_true(newest.weights[1][0] == 1.0f && newest.weights[2][WIDTH - 1] == 1.0f);
}

static void expect_refusal(scene *s, tsr_status status, const char *what) {
    tsr_plan *plan = NULL;
    tsr_error err = TSR_ERROR_INIT;
    assert_int_equal(tsr_plan_new(&plan, &s->base, s->regions, 2, &s->options, s->latent->shape, &err), status);
    assert_null(plan);
    if (!strstr(err.message, what)) fail_msg("\"%s\" does not say \"%s\"", err.message, what);
}

static void couple__says_what_it_cannot_give(void **state) {
    scene *s = *state;
    tsr_plan_cost cost;
    s->options.sharing = TSR_SHARING_COUPLE;
    s->regions[1].name = "cat";
    s->regions[1].guide.cfg = 7.0f;
    expect_refusal(s, TSR_UNSUPPORTED, "region 2 (cat) has a cfg");
    s->regions[1].guide.cfg = 3.0f;
    s->regions[1].sampler = "heun";
    expect_refusal(s, TSR_UNSUPPORTED, "sampler");
    s->regions[1].sampler = NULL;
    s->regions[1].guide.negative = &s->conds[4];
    expect_refusal(s, TSR_UNSUPPORTED, "negative prompt");
    s->regions[1].guide.negative = &s->negative;
    s->regions[1].end = 0.5f;
    expect_refusal(s, TSR_UNSUPPORTED, "steps");
    s->options.sharing = TSR_SHARING_FULL;
    tsr_plan *plan = plan_of(s, 2);
    assert_false(tsr_plan_cost_of(plan, TSR_SHARING_COUPLE, &cost));
    tsr_plan_free(plan);
    s->regions[1].end = 1.0f;
    s->g.denoiser.couple = NULL;
    s->options.sharing = TSR_SHARING_COUPLE;
    expect_refusal(s, TSR_UNSUPPORTED, "cannot couple");
    s->options.history = TSR_HISTORY_RESTART;
    expect_refusal(s, TSR_BAD_ARGUMENT, "restart");
}

static void auto__takes_crop_where_it_pays(void **state) {
    scene *s = *state;
    static const struct {
        int native, regions;
        tsr_sharing expected;
    } cases[] = { { 8, 1, TSR_SHARING_FULL },  /* two large crops, each with its negative: 8/9 of full */
                  { 4, 3, TSR_SHARING_CROP },  /* three halves of the picture, no base */
                  { 14, 3, TSR_SHARING_FULL }, /* a picture of the model's own size */
                  { 0, 3, TSR_SHARING_FULL } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tsr_mask *thirds[3];
        s->g.denoiser.native_size = cases[i].native;
        for (int k = 0; k < 3; k++) thirds[k] = box_mask(8 * WIDTH, 8 * HEIGHT, 64 * k, 0, 64, 128);
        for (int k = 0; k < 3; k++) s->regions[k].mask = cases[i].regions == 3 ? thirds[k] : s->masks[k];
        tsr_plan *plan = plan_of(s, cases[i].regions);
        char *text = NULL;
        tsr_error err = TSR_ERROR_INIT;
        assert_int_equal(tsr_plan_sharing(plan), cases[i].expected);
        expect_ok(tsr_plan_text(&text, plan, &err), &err);
        assert_non_null(
            strstr(text, cases[i].expected == TSR_SHARING_CROP ? "mode crop (chosen" : "mode full (chosen"));
        assert_non_null(strstr(text, "couple      12 evaluations, 1.00 times"));
        tsr_free(text);
        tsr_plan_free(plan);
        for (int k = 0; k < 3; k++) tsr_mask_free(thirds[k]);
    }
}

/* Two regions that claim the same half: the later one has it all, and at strength 0.75 a quarter is left. */
static void stack__later_regions_cover_earlier_ones(void **state) {
    scene *s = *state;
    float w[3][WIDTH * HEIGHT];
    tsr_error err = TSR_ERROR_INIT;
    s->options.overlap_policy = TSR_OVERLAP_STACK;
    s->regions[1].mask = s->masks[0];
    s->regions[1].strength = 0.75f;
    tsr_plan *plan = plan_of(s, 2);
    for (int k = 0; k < 3; k++) expect_ok(tsr_plan_weights(w[k], plan, k, &err), &err);
    assert_true(w[0][0] == 0.0f && w[1][0] == 0.25f && w[2][0] == 0.75f && w[0][WIDTH - 1] == 1.0f);
    tsr_plan_free(plan);
    s->regions[1].strength = 1.0f;
    plan = plan_of(s, 2);
    assert_non_null(strstr(tsr_plan_warning(plan, 0), "under later regions"));
    assert_int_equal(tsr_plan_evaluations(plan), STEPS * 3);
    tsr_plan_free(plan);
    tsr_latent *covered = run_as(s, 2, TSR_SHARING_FULL);
    s->regions[0] = s->regions[1];
    tsr_latent *alone = run_as(s, 1, TSR_SHARING_FULL);
    expect_same(covered, alone, "stack");
    tsr_latent_free(covered);
    tsr_latent_free(alone);
}

static void expect_pixel(const tsr_latent *a, const tsr_latent *b, int x, int same) {
    assert_int_equal(memcmp(&a->values[x], &b->values[x], sizeof(float)) == 0, same);
}

/* Outside its window a region's pixels are the base's. A window from the start equals base_only_steps. */
static void window__leaves_its_pixels_to_the_base(void **state) {
    scene *s = *state;
    s->base.sampler = "dpmpp_2m";
    s->regions[0].sampler = "dpmpp_3m_sde";
    tsr_latent *base = run_as(s, 0, TSR_SHARING_FULL);
    s->regions[0].start = 0.5f;
    tsr_latent *late = run_as(s, 1, TSR_SHARING_FULL);
    assert_int_equal(s->g.evaluations, 3 * 2 + 3 * 3);
    s->regions[0].start = 0.0f;
    s->options.base_only_steps = 3;
    tsr_latent *same = run_as(s, 1, TSR_SHARING_FULL);
    expect_same(late, same, "start 0.5 and base_only_steps 3");
    s->options.base_only_steps = 0;
    s->regions[0].end = 0.5f;
    tsr_latent *early = run_as(s, 1, TSR_SHARING_FULL);
    expect_pixel(base, early, WIDTH - 1, 1);
    expect_pixel(base, early, 0, 0);
    expect_pixel(late, early, 0, 0);
    tsr_latent *cropped = run_as(s, 1, TSR_SHARING_CROP);
    expect_same(early, cropped, "crop with a window");
    tsr_latent_free(base);
    tsr_latent_free(late);
    tsr_latent_free(same);
    tsr_latent_free(early);
    tsr_latent_free(cropped);
}

/* Regions that cover the picture and end: the base starts in the middle, with noise of its own. */
static void window__gives_the_picture_back_to_a_base_that_waited(void **state) {
    scene *s = *state;
    tsr_mask *all = box_mask(8 * WIDTH, 8 * HEIGHT, 0, 0, 8 * WIDTH, 8 * HEIGHT);
    s->base.sampler = "euler_ancestral";
    s->regions[0].mask = all;
    s->regions[0].end = 0.5f;
    tsr_plan *plan = plan_of(s, 1);
    assert_int_equal(tsr_plan_evaluations(plan), STEPS * 2);
    tsr_plan_free(plan);
    tsr_latent *out = run_as(s, 1, TSR_SHARING_AUTO);
    assert_int_equal(s->g.evaluations, STEPS * 2);
    for (size_t i = 0; i < tsr_latent_count(out); i++) assert_true(isfinite(out->values[i]));
    tsr_latent_free(out);
    s->regions[0].start = 0.45f;
    s->regions[0].end = 0.46f;
    expect_refusal(s, TSR_BAD_ARGUMENT, "none of its 6 steps");
    s->regions[0].start = 0.5f;
    expect_refusal(s, TSR_BAD_ARGUMENT, "the end after the start");
    s->regions[0].end = 1.0f;
    s->options.history = TSR_HISTORY_RESTART;
    expect_refusal(s, TSR_BAD_ARGUMENT, "restart has no steps");
    tsr_mask_free(all);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(crop__equals_full_for_a_pixelwise_network),
        CASE(crop__sizes_are_as_documented),
        CASE(crop__costs_what_the_plan_says),
        CASE(couple__is_one_pass_with_everybody_in_it),
        CASE(couple__says_what_it_cannot_give),
        CASE(auto__takes_crop_where_it_pays),
        CASE(stack__later_regions_cover_earlier_ones),
        CASE(window__leaves_its_pixels_to_the_base),
        CASE(window__gives_the_picture_back_to_a_base_that_waited),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
