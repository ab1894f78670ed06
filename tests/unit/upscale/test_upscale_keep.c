/* TwoSamplersForMaskUpscaler in history keep: each size is one canvas, the mask a region of it. On an exact VAE and an exact
 * denoiser. */
#include "exact_vae.h"

typedef struct world {
    gaussian g;
    gaussian_cond sky, castle, negative;
    exact_vae vae;
    tsr__masked_upscaler masked;
    tsr_mask *mask;
} world;

enum { COLUMNS = 8, ROWS = 6 }; /* of the enlarged latent */

static tsr_ksampler_provider provider(world *w, const gaussian_cond *cond, double denoise, float cfg) {
    tsr_ksampler_provider p = TSR_KSAMPLER_PROVIDER_INIT;
    p.guide = (tsr_guide){ &w->g.denoiser, cond, &w->negative, cfg, 0.0, 0.0 };
    p.seed = 31;
    p.steps = 4;
    p.denoise = denoise;
    return p;
}

static int setup(void **state) {
    world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    gaussian_init(&w->g, 0.5f);
    exact_vae_init(&w->vae);
    w->sky = (gaussian_cond){ 0.4f, 0.8f };
    w->castle = (gaussian_cond){ -1.0f, 0.5f };
    w->negative = (gaussian_cond){ 0.0f, 1.0f };
    w->mask = box_mask(8 * COLUMNS, 8 * ROWS, 0, 0, 4 * COLUMNS, 8 * ROWS); /* left half */
    w->masked.path = (tsr__pixel_path){ &w->vae.table, NULL, TSR_RESIZE_NEAREST_EXACT, 0 };
    w->masked.base = provider(w, &w->sky, 0.4, 2.5f);
    w->masked.base.sampler = "dpmpp_2m";
    w->masked.inside = provider(w, &w->castle, 0.6, 1.5f);
    w->masked.inside.sampler = "euler_ancestral";
    w->masked.mask = w->mask;
    w->masked.keep = 1;
    *state = w;
    return 0;
}

static int teardown(void **state) {
    world *w = *state;
    tsr_mask_free(w->mask);
    gaussian_clear(&w->g);
    free(w);
    return 0;
}

static tsr_latent *run(const tsr__upscaler *upscaler, const tsr_latent *latent, const tsr_run_hooks *hooks, int steps) {
    const tsr__iterative_options options = { 2.0, steps, 0, hooks };
    tsr_latent *out = NULL;
    tsr_error err = TSR_ERROR_INIT;
    expect_ok(tsr__iterative_latent(&out, latent, upscaler, &options, &err), &err);
    return out;
}

/* A plain run of one side along the base's schedule. */
static tsr_latent *alone(const tsr_latent *from, const tsr_ksampler_provider *p, const tsr_ksampler_provider *base) {
    tsr_ksampler_options options = TSR_KSAMPLER_OPTIONS_INIT;
    tsr_latent *out = NULL;
    tsr_error err = TSR_ERROR_INIT;
    options.sampler = p->sampler;
    options.steps = base->steps;
    options.denoise = base->denoise;
    options.seed = base->seed;
    expect_ok(tsr_ksampler(&out, from, &p->guide, &options, &err), &err);
    return out;
}

static void expect_columns(tsr_latent *a, tsr_latent *b, int from, int to) {
    for (int k = 0; k < a->shape[0]; k++)
        for (int c = 0; c < a->shape[1]; c++)
            for (int y = 0; y < ROWS; y++)
                for (int x = from; x < to; x++)
                    if (fabsf(*cell(a, k, c, y, x) - *cell(b, k, c, y, x)) > 1e-5f)
                        fail_msg("row %d, column %d: %.9g, alone %.9g", y, x, (double)*cell(a, k, c, y, x),
                                 (double)*cell(b, k, c, y, x));
}

/* Both sides, of a batch, with hooks that move the base's denoise and both cfgs. */
static void upscale_keep__sides_equal_plain_runs(void **state) {
    world *w = *state;
    tsr__upscaler upscaler;
    tsr__hook denoise = { .kind = TSR__HOOK_DENOISE, .target = 0.8 }, cfg = { .kind = TSR__HOOK_CFG, .target = 3.0 };
    tsr_latent *latent = pattern(2, ROWS / 2, COLUMNS / 2), *from = doubled(latent);
    for (int hooks = 0; hooks < 2; hooks++) {
        tsr_ksampler_provider base = w->masked.base, inside = w->masked.inside;
        w->masked.hook_base = hooks ? &denoise : NULL;
        w->masked.hook_mask = hooks ? &cfg : NULL;
        if (hooks) { /* their targets, as there is one step only */
            base.denoise = 0.8;
            inside.guide.cfg = 3.0f;
        }
        tsr__masked_upscaler_table(&upscaler, &w->masked);
        tsr_latent *out = run(&upscaler, latent, NULL, 1);
        tsr_latent *left = alone(from, &inside, &base), *right = alone(from, &base, &base);
        expect_columns(out, left, 0, COLUMNS / 2);
        expect_columns(out, right, COLUMNS / 2, COLUMNS);
        assert_null(out->noise_mask);
        tsr_latent_free(out);
        tsr_latent_free(left);
        tsr_latent_free(right);
    }
    tsr_latent_free(from);
    tsr_latent_free(latent);
}

/* A mask of another size is stretched over the picture; grey pixels are shared. */
static void upscale_keep__takes_soft_masks_of_any_size(void **state) {
    world *w = *state;
    tsr__upscaler upscaler;
    tsr_error err = TSR_ERROR_INIT;
    tsr_mask *small = NULL;
    expect_ok(tsr_mask_new(&small, 2, 1, 0.0f, &err), &err);
    small->values[0] = 1.0f; /* a ramp from left to right */
    w->masked.mask = small;
    w->masked.inside.sampler = "dpmpp_2m";
    tsr__masked_upscaler_table(&upscaler, &w->masked);
    tsr_latent *latent = pattern(1, ROWS / 2, COLUMNS / 2), *from = doubled(latent);
    tsr_latent *out = run(&upscaler, latent, NULL, 1);
    tsr_latent *inside = alone(from, &w->masked.inside, &w->masked.base);
    tsr_latent *outside = alone(from, &w->masked.base, &w->masked.base);
    float before = 1.0f;
    for (int x = 0; x < COLUMNS; x++) { /* the share of the inside falls from column to column */
        float a = *cell(inside, 0, 0, 2, x), b = *cell(outside, 0, 0, 2, x);
        float share = (*cell(out, 0, 0, 2, x) - b) / (a - b);
        assert_true(share < before && share > 0.0f);
        before = share;
    }
    tsr_latent_free(out);
    tsr_latent_free(inside);
    tsr_latent_free(outside);
    tsr_latent_free(from);
    tsr_latent_free(latent);
    tsr_mask_free(small);
}

typedef struct listener {
    int steps, last, stop_at;
    int64_t done, total;
} listener;

static int listen(void *user, const tsr_progress *at) {
    listener *l = user;
    if (at->event == TSR_PROGRESS_STEP) assert_int_equal(at->step, l->last++);
    l->steps = at->steps;
    l->done = at->evaluations_done;
    l->total = at->evaluations_total;
    return l->stop_at && l->last >= l->stop_at;
}

static void upscale_keep__promises_what_it_does(void **state) {
    world *w = *state;
    tsr__upscaler upscaler;
    listener l = { 0 };
    tsr_run_hooks hooks = TSR_RUN_HOOKS_INIT;
    const tsr__iterative_options options = { 2.0, 3, 0, &hooks };
    tsr_error err = TSR_ERROR_INIT;
    char *text = NULL;
    hooks.user = &l;
    hooks.progress = listen;
    w->masked.schedule = TSR__FULL_LAST2; /* the last of three sizes is sampled twice, as ever */
    tsr__masked_upscaler_table(&upscaler, &w->masked);
    tsr_latent *latent = pattern(1, ROWS / 2, COLUMNS / 2), *none = NULL;
    expect_ok(tsr__iterative_text(&text, latent->shape, &upscaler, &options, &err), &err);
    assert_non_null(strstr(text, "on one canvas"));
    tsr_free(text);
    tsr_latent *out = run(&upscaler, latent, &hooks, 3);
    assert_int_equal(l.last, l.steps);
    assert_int_equal(l.steps, 4 + 4 + 2 * 4);
    assert_int_equal(l.done, w->g.evaluations);
    assert_int_equal(l.done, l.total);
    tsr_latent_free(out);
    l = (listener){ .stop_at = 6 };
    assert_int_equal(tsr__iterative_latent(&none, latent, &upscaler, &options, &err), TSR_CANCELLED);
    assert_null(none);
    assert_int_equal(l.last, 6);
    tsr_latent_free(latent);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(upscale_keep__sides_equal_plain_runs, setup, teardown),
        cmocka_unit_test_setup_teardown(upscale_keep__takes_soft_masks_of_any_size, setup, teardown),
        cmocka_unit_test_setup_teardown(upscale_keep__promises_what_it_does, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
