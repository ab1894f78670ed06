/* The iterative upscale and its two upscalers on an exact VAE and an exact denoiser, against the same made by hand. */
#include "exact_vae.h"

typedef struct world {
    gaussian g;
    gaussian_cond sky, castle, all, negative;
    exact_vae vae;
    tsr__pixel_upscaler pixel;
    tsr__masked_upscaler masked;
    tsr_ksampler_provider full;
    tsr_mask *mask;
} world;

static tsr_ksampler_provider provider(world *w, const gaussian_cond *cond, uint64_t seed, double denoise) {
    tsr_ksampler_provider p = TSR_KSAMPLER_PROVIDER_INIT;
    p.guide = (tsr_guide){ &w->g.denoiser, cond, &w->negative, 2.5f, 0.0, 0.0 };
    p.seed = seed;
    p.steps = 4;
    p.denoise = denoise;
    return p;
}

static void world_init(world *w) {
    memset(w, 0, sizeof *w);
    gaussian_init(&w->g, 0.5f);
    exact_vae_init(&w->vae);
    w->sky = (gaussian_cond){ 0.4f, 0.8f };
    w->castle = (gaussian_cond){ -1.0f, 0.5f };
    w->all = (gaussian_cond){ 0.1f, 1.2f };
    w->negative = (gaussian_cond){ 0.0f, 1.0f };
    w->mask = box_mask(32, 24, 8, 0, 12, 16);
    w->full = provider(w, &w->all, 33, 0.3);
    w->pixel.path = w->masked.path = (tsr__pixel_path){ &w->vae.table, NULL, TSR_RESIZE_NEAREST_EXACT, 0 };
    w->pixel.sampler = provider(w, &w->sky, 5, 0.5);
    w->masked.base = provider(w, &w->sky, 31, 0.4);
    w->masked.inside = provider(w, &w->castle, 32, 0.6);
    w->masked.mask = w->mask;
    w->masked.whole_mask = 1;
}

static void world_clear(world *w) {
    tsr_mask_free(w->mask);
    gaussian_clear(&w->g);
}

static tsr_latent *run(const tsr__upscaler *upscaler, const tsr_latent *latent, double factor, int steps) {
    const tsr__iterative_options options = { factor, steps, 0, NULL };
    tsr_latent *out = NULL;
    tsr_error err = TSR_ERROR_INIT;
    expect_ok(tsr__iterative_latent(&out, latent, upscaler, &options, &err), &err);
    return out;
}

static void sample(tsr_latent **now, const tsr_ksampler_provider *p, const tsr_mask *mask) {
    tsr_ksampler_options options = TSR_KSAMPLER_OPTIONS_INIT;
    tsr_latent *next = NULL;
    tsr_error err = TSR_ERROR_INIT;
    options.steps = p->steps;
    options.denoise = p->denoise;
    options.seed = p->seed;
    tsr_mask_free((*now)->noise_mask);
    (*now)->noise_mask = NULL;
    if (mask) expect_ok(tsr_mask_copy(&(*now)->noise_mask, mask, &err), &err);
    expect_ok(tsr_ksampler(&next, *now, &p->guide, &options, &err), &err);
    tsr_latent_free(*now);
    *now = next;
}

/* --- sizes -------------------------------------------------------------------------------------------------------------- */
static void steps__grow_evenly_or_by_a_ratio(void **state) {
    (void)state;
    static const int shape[4] = { 1, 4, 16, 8 };
    static const double simple[3] = { 1.5, 2.0, 2.5 }, geometric[2] = { 1.41421356237, 2.0 };
    tsr__iterative_options options = { 2.5, 3, 0, NULL };
    tsr__iterative_step *steps = NULL;
    int n = 0;
    tsr_error err = TSR_ERROR_INIT;
    expect_ok(tsr__iterative_steps(&steps, &n, shape, &options, &err), &err);
    assert_int_equal(n, 3);
    for (int i = 0; i < 3; i++) {
        assert_true(fabs(steps[i].width - 64 * simple[i]) < 1e-9 && fabs(steps[i].height - 128 * simple[i]) < 1e-9);
        assert_int_equal(steps[i].time.step, i);
        assert_int_equal(steps[i].time.total, 3);
    }
    free(steps);
    options = (tsr__iterative_options){ 2.0, 2, 1, NULL };
    expect_ok(tsr__iterative_steps(&steps, &n, shape, &options, &err), &err);
    assert_int_equal(n, 2);
    for (int i = 0; i < 2; i++) assert_true(fabs(steps[i].width - 64 * geometric[i]) < 1e-6);
    free(steps);
    /* Factor 1: the sizes stay, and the last step, which has nothing to add, does not come. */
    options = (tsr__iterative_options){ 1.0, 3, 0, NULL };
    expect_ok(tsr__iterative_steps(&steps, &n, shape, &options, &err), &err);
    assert_int_equal(n, 2);
    free(steps);
}

static void path__cuts_to_whole_cells_in_the_middle(void **state) {
    (void)state;
    exact_vae vae;
    tsr_latent *latent = pattern(2, 2, 3), *out = NULL;
    tsr_error err = TSR_ERROR_INIT;
    exact_vae_init(&vae);
    const tsr__pixel_path path = { &vae.table, NULL, TSR_RESIZE_NEAREST_EXACT, 64 };
    expect_ok(tsr__pixel_path_run(&out, &path, latent, 30.9, 16.0, &err), &err);
    assert_int_equal(out->shape[3], 3); /* 30 pixels, 3 of them cut off on each side */
    assert_int_equal(out->shape[2], 2);
    assert_int_equal(vae.tile_px, 64);
    /* Target pixel x of 30 is source pixel int((x + 0.5) * 24 / 30) of 24; the first cell kept is x 3..10. */
    for (int k = 0; k < 2; k++)
        for (int c = 0; c < 3; c++) {
            float mean = 0.0f;
            for (int x = 3; x < 11; x++) mean += *cell(latent, k, c, 1, (2 * x + 1) * 24 / 60 / 8) / 8.0f;
            assert_true(fabsf(*cell(out, k, c, 1, 0) - mean) < 1e-6f);
        }
    tsr_latent_free(latent);
    tsr_latent_free(out);
}

typedef struct fake_model {
    tsr__pixel_model_table table;
    int calls;
} fake_model;

static tsr_status enlarge(void *user, float *out, const float *rgb, int n, int height, int width, tsr_error *err) {
    fake_model *model = user;
    int s = model->table.scale;
    (void)err;
    model->calls++;
    for (int k = 0; k < n; k++)
        for (int y = 0; y < s * height; y++)
            for (int x = 0; x < s * width; x++)
                for (int c = 0; c < 3; c++)
                    out[((k * s * height + y) * s * width + x) * 3 + c] =
                        rgb[((k * height + y / s) * width + x / s) * 3 + c] + 1.0f;
    return TSR_OK;
}

static void path__applies_the_model_until_it_is_wide_enough(void **state) {
    (void)state;
    exact_vae vae;
    fake_model model = { { &model, 2, enlarge }, 0 };
    tsr_latent *latent = pattern(1, 2, 2), *out = NULL;
    tsr_error err = TSR_ERROR_INIT;
    exact_vae_init(&vae);
    const tsr__pixel_path path = { &vae.table, &model.table, TSR_RESIZE_NEAREST_EXACT, 0 };
    expect_ok(tsr__pixel_path_run(&out, &path, latent, 48.0, 48.0, &err), &err); /* 16, 32, 64, then down to 48 */
    assert_int_equal(model.calls, 2);
    assert_int_equal(out->shape[3], 6);
    assert_true(fabsf(*cell(out, 0, 1, 5, 0) - (*cell(latent, 0, 1, 1, 0) + 2.0f)) < 1e-5f);
    tsr_latent_free(out);
    model.table.scale = 1; /* would never get there: works once */
    expect_ok(tsr__pixel_path_run(&out, &path, latent, 32.0, 32.0, &err), &err);
    assert_int_equal(model.calls, 3);
    assert_int_equal(out->shape[3], 4);
    tsr_latent_free(out);
    tsr_latent_free(latent);
}

/* --- upscalers ---------------------------------------------------------------------------------------------------------- */
static void pixel_upscaler__enlarges_then_samples(void **state) {
    (void)state;
    world w;
    tsr__upscaler upscaler;
    tsr_latent *latent = pattern(1, 3, 4), *now = doubled(latent);
    world_init(&w);
    tsr__pixel_upscaler_table(&upscaler, &w.pixel);
    tsr_latent *out = run(&upscaler, latent, 2.0, 1);
    sample(&now, &w.pixel.sampler, NULL);
    expect_near(out, now, 1e-5f);
    assert_int_equal(w.vae.decodes, 1);
    assert_int_equal(w.vae.encodes, 1);
    tsr_latent_free(out);
    tsr_latent_free(now);
    tsr_latent_free(latent);
    world_clear(&w);
}

static void pixel_upscaler__keeps_the_noise_mask_in_every_step(void **state) {
    (void)state;
    world w;
    tsr__upscaler upscaler;
    tsr_error err = TSR_ERROR_INIT;
    tsr_latent *latent = pattern(1, 2, 2);
    world_init(&w);
    tsr__pixel_upscaler_table(&upscaler, &w.pixel);
    expect_ok(tsr_mask_copy(&latent->noise_mask, w.mask, &err), &err);
    tsr_latent *first = doubled(latent);
    sample(&first, &w.pixel.sampler, w.mask);
    tsr_latent *out = run(&upscaler, latent, 3.0, 2);
    assert_non_null(out->noise_mask);
    assert_int_equal(out->shape[3], 6);
    tsr_latent *one = run(&upscaler, latent, 2.0, 1);
    expect_near(one, first, 1e-5f);
    tsr_latent_free(first);
    tsr_latent_free(one);
    tsr_latent_free(out);
    tsr_latent_free(latent);
    world_clear(&w);
}

static void masked_upscaler__samples_outside_then_inside(void **state) {
    (void)state;
    world w;
    tsr__upscaler upscaler;
    tsr_mask *mask = NULL, *outside = NULL;
    tsr_error err = TSR_ERROR_INIT;
    tsr_latent *latent = pattern(1, 3, 4), *now = doubled(latent);
    world_init(&w);
    tsr__masked_upscaler_table(&upscaler, &w.masked);
    expect_ok(tsr_mask_resize_corners(&mask, w.mask, 8, 6, &err), &err);
    expect_ok(tsr_mask_inverse_not_one(&outside, mask, &err), &err);
    sample(&now, &w.masked.base, outside);
    sample(&now, &w.masked.inside, mask);
    tsr_latent *out = run(&upscaler, latent, 2.0, 1);
    expect_near(out, now, 1e-5f);
    assert_null(out->noise_mask);
    tsr_latent_free(out);
    tsr_latent_free(now);
    tsr_latent_free(latent);
    tsr_mask_free(mask);
    tsr_mask_free(outside);
    world_clear(&w);
}

/* The node's own mask: its first row, running down, the same in every column. */
static void masked_upscaler__turns_the_first_row_as_the_node_does(void **state) {
    (void)state;
    world w;
    tsr__upscaler upscaler;
    tsr_mask *mask = NULL, *outside = NULL;
    tsr_error err = TSR_ERROR_INIT;
    tsr_latent *latent = pattern(1, 4, 4), *now = doubled(latent);
    world_init(&w);
    tsr_mask_free(w.mask);
    w.mask = box_mask(8, 32, 3, 0, 5, 2); /* row 0 is 0 0 0 1 1 1 1 1 */
    w.masked.mask = w.mask;
    w.masked.whole_mask = 0;
    tsr__masked_upscaler_table(&upscaler, &w.masked);
    expect_ok(tsr_mask_from_box(&mask, 8, 8, 0, 3, 8, 5, &err), &err); /* rows 3 to 7 of the 8 cells */
    expect_ok(tsr_mask_inverse_not_one(&outside, mask, &err), &err);
    sample(&now, &w.masked.base, outside);
    sample(&now, &w.masked.inside, mask);
    tsr_latent *out = run(&upscaler, latent, 2.0, 1);
    expect_near(out, now, 1e-5f);
    tsr_latent_free(out);
    tsr_latent_free(now);
    tsr_latent_free(latent);
    /* A second picture would get the second row, which is the same; a third gets one that differs. */
    for (int n = 2; n <= 3; n++) {
        const tsr__iterative_options options = { 2.0, 1, 0, NULL };
        latent = pattern(n, 2, 2);
        tsr_status status = tsr__iterative_latent(&out, latent, &upscaler, &options, &err);
        assert_int_equal(status, n == 2 ? TSR_OK : TSR_UNSUPPORTED);
        if (n == 3) assert_non_null(strstr(err.message, "row 2 of the mask for picture 2"));
        tsr_latent_free(out);
        tsr_latent_free(latent);
    }
    tsr_mask_free(mask);
    tsr_mask_free(outside);
    world_clear(&w);
}

static void masked_upscaler__samples_everything_when_the_schedule_says(void **state) {
    (void)state;
    world w;
    tsr__upscaler upscaler;
    tsr__hook hook = { .kind = TSR__HOOK_STEPS, .target = 6.0 };
    tsr_latent *latent = pattern(1, 3, 4);
    world_init(&w);
    w.masked.schedule = TSR__FULL_LAST2; /* which is the last step */
    w.masked.hook_full = &hook;
    tsr__masked_upscaler_table(&upscaler, &w.masked);
    for (int own = 0; own < 2; own++) { /* without a full sampler, the base takes its place */
        tsr_latent *now = doubled(latent);
        tsr_ksampler_provider second = own ? w.full : w.masked.base;
        w.masked.full = own ? &w.full : NULL;
        second.steps = 6; /* the hook's target, as there is one step only */
        sample(&now, &w.masked.base, NULL);
        sample(&now, &second, NULL);
        tsr_latent *out = run(&upscaler, latent, 2.0, 1);
        expect_near(out, now, 1e-5f);
        tsr_latent_free(out);
        tsr_latent_free(now);
    }
    tsr_latent_free(latent);
    world_clear(&w);
}

/* The base's hook sees the encoded latent; where a model enlarges, the mask's does. */
static void masked_upscaler__gives_the_latent_to_the_right_hook(void **state) {
    (void)state;
    world w;
    fake_model model = { { &model, 2, enlarge }, 0 };
    tsr__upscaler upscaler;
    tsr__hook noise = { .kind = TSR__HOOK_NOISE, .noise = { "CPU", 3, 5.0, 5.0 } };
    tsr_latent *latent = pattern(1, 3, 4);
    world_init(&w);
    for (int with_model = 0; with_model < 2; with_model++) {
        w.masked.path.model = with_model ? &model.table : NULL;
        w.masked.hook_base = w.masked.hook_mask = NULL;
        tsr__masked_upscaler_table(&upscaler, &w.masked);
        tsr_latent *plain = run(&upscaler, latent, 2.0, 1);
        for (int base = 0; base < 2; base++) {
            w.masked.hook_base = base ? &noise : NULL;
            w.masked.hook_mask = base ? NULL : &noise;
            tsr_latent *out = run(&upscaler, latent, 2.0, 1);
            int same = memcmp(out->values, plain->values, tsr_latent_count(out) * sizeof(float)) == 0;
            assert_int_equal(same, base == with_model);
            tsr_latent_free(out);
        }
        tsr_latent_free(plain);
    }
    tsr_latent_free(latent);
    world_clear(&w);
}

static void image__is_encoded_upscaled_and_decoded(void **state) {
    (void)state;
    world w;
    tsr__upscaler upscaler;
    tsr_error err = TSR_ERROR_INIT;
    const tsr__iterative_options options = { 2.0, 1, 0, NULL };
    float *out = NULL;
    int width = 0, height = 0;
    world_init(&w);
    w.pixel.path.tile_px = 320;
    tsr__pixel_upscaler_table(&upscaler, &w.pixel);
    tsr_latent *latent = pattern(1, 2, 3);
    float rgb[16 * 24 * 3];
    exact_decode(&w.vae, rgb, latent->values, 1, 2, 3, 0, NULL);
    expect_ok(tsr__iterative_image(&out, &width, &height, rgb, 1, 24, 16, &w.vae.table, &upscaler, &options, &err),
              &err);
    assert_int_equal(width, 48);
    assert_int_equal(height, 32);
    assert_int_equal(w.vae.tile_px, 0); /* the last decode is whole */
    tsr_latent *larger = run(&upscaler, latent, 2.0, 1);
    for (int y = 0; y < 32; y++)
        for (int x = 0; x < 48; x++)
            assert_true(fabsf(out[(y * 48 + x) * 3 + 1] - *cell(larger, 0, 1, y / 8, x / 8)) < 1e-5f);
    free(out);
    tsr_latent_free(larger);
    tsr_latent_free(latent);
    world_clear(&w);
}

/* --- progress ------------------------------------------------------------------------------------------------------------ */
typedef struct listener {
    int told, last_step, steps, stop_at;
    int64_t done, total;
    int last_width, inside;
} listener;

static int listen(void *user, const tsr_progress *p) {
    listener *l = user;
    assert_true(p->step >= l->last_step && p->step < p->steps);
    l->told++;
    l->last_step = p->step;
    l->steps = p->steps;
    l->done = p->evaluations_done;
    l->total = p->evaluations_total;
    l->last_width = p->shape[3];
    l->inside |= p->region == 1;
    if (p->x0) assert_true(isfinite(p->x0[p->shape[2] * p->shape[3] * p->shape[1] - 1]));
    return l->stop_at && l->told == l->stop_at;
}

static void progress__covers_all_steps_and_can_stop(void **state) {
    (void)state;
    world w;
    tsr__upscaler upscaler;
    listener l = { 0 };
    tsr_run_hooks hooks = TSR_RUN_HOOKS_INIT;
    hooks.user = &l;
    hooks.progress = listen;
    tsr__hook unsample = { .kind = TSR__HOOK_UNSAMPLE };
    const tsr__iterative_options options = { 2.0, 2, 0, &hooks };
    tsr_latent *latent = pattern(1, 2, 2), *out = NULL;
    tsr_error err = TSR_ERROR_INIT;
    world_init(&w);
    unsample.unsample.guide = (tsr_guide){ &w.g.denoiser, &w.sky, &w.negative, 1.0f, 0.0, 0.0 };
    unsample.unsample.sampler = "euler";
    unsample.unsample.scheduler = "normal";
    unsample.unsample.steps = 6;
    unsample.unsample.start_end_at_step = unsample.unsample.end_end_at_step = 3;
    w.masked.hook_base = &unsample;
    w.masked.schedule = TSR__FULL_INTERLEAVE1; /* the second of two steps */
    tsr__masked_upscaler_table(&upscaler, &w.masked);
    expect_ok(tsr__iterative_latent(&out, latent, &upscaler, &options, &err), &err);
    assert_int_equal(l.steps, 2 * (3 + 4 + 4));
    assert_int_equal(l.last_step, l.steps - 1);
    assert_int_equal(l.done, l.total);
    assert_int_equal(l.total, w.g.evaluations);
    assert_int_equal(l.total, 2 * (3 + 8 + 8));
    assert_int_equal(l.last_width, 4);
    assert_true(l.inside);
    tsr_latent_free(out);
    l = (listener){ .stop_at = 9 };
    assert_int_equal(tsr__iterative_latent(&out, latent, &upscaler, &options, &err), TSR_CANCELLED);
    assert_null(out);
    assert_int_equal(l.told, 9);
    tsr_latent_free(latent);
    world_clear(&w);
}

static void text__lists_sizes_and_costs(void **state) {
    (void)state;
    static const int shape[4] = { 1, 4, 3, 4 };
    world w;
    tsr__upscaler upscaler;
    const tsr__iterative_options options = { 2.0, 2, 0, NULL };
    char *text = NULL;
    tsr_error err = TSR_ERROR_INIT;
    world_init(&w);
    w.masked.schedule = TSR__FULL_LAST2;
    w.masked.full = &w.full;
    tsr__masked_upscaler_table(&upscaler, &w.masked);
    expect_ok(tsr__iterative_text(&text, shape, &upscaler, &options, &err), &err);
    assert_string_equal(text, "from 32x24 by 2 in 2 simple steps\n"
                              "  1: 48x32, outside, then inside the mask, 8 sampling steps, 16 evaluations\n"
                              "  2: 64x48, everything twice (base, then full sampler), 8 sampling steps, 16 "
                              "evaluations\n"
                              "16 sampling steps, 32 network evaluations\n");
    tsr_free(text);
    world_clear(&w);
}

/* --- bad input ----------------------------------------------------------------------------------------------------------- */
static void expect_refused(world *w, const tsr__iterative_options *options, tsr_status expected, const char *part) {
    tsr__upscaler upscaler;
    tsr_latent *latent = pattern(1, 2, 2), *out = NULL;
    tsr_error err = TSR_ERROR_INIT;
    tsr__masked_upscaler_table(&upscaler, &w->masked);
    w->g.calls = 0;
    assert_int_equal(tsr__iterative_latent(&out, latent, &upscaler, options, &err), expected);
    if (!strstr(err.message, part)) fail_msg("\"%s\" does not say \"%s\"", err.message, part);
    assert_null(out);
    assert_int_equal(w->g.calls, 0);
    tsr_latent_free(latent);
}

static void bad_input__is_told_before_anything_runs(void **state) {
    (void)state;
    world w;
    tsr__iterative_options options = { 0.9, 2, 0, NULL };
    world_init(&w);
    expect_refused(&w, &options, TSR_BAD_ARGUMENT, "upscale_factor is 0.9; give 1 or more");
    options.factor = 2000.0;
    expect_refused(&w, &options, TSR_TOO_LARGE, "32000x32000 pixels");
    options.factor = 2.0;
    options.steps = 0;
    expect_refused(&w, &options, TSR_BAD_ARGUMENT, "upscale steps is 0");
    options.steps = 1;
    tsr__masked_upscaler good = w.masked;
    w.masked.mask = NULL;
    expect_refused(&w, &options, TSR_BAD_ARGUMENT, "has no mask");
    w.masked = good;
    w.masked.path.vae = NULL;
    expect_refused(&w, &options, TSR_BAD_ARGUMENT, "no VAE");
    w.masked = good;
    w.masked.path.method = TSR_RESIZE_BISLERP;
    expect_refused(&w, &options, TSR_BAD_ARGUMENT, "nearest-exact, bilinear, lanczos or area");
    w.masked = good;
    w.masked.path.tile_px = -1;
    expect_refused(&w, &options, TSR_BAD_ARGUMENT, "tile_size is -1");
    w.masked = good;
    w.masked.inside.denoise = 0.0;
    expect_refused(&w, &options, TSR_BAD_ARGUMENT, "mask_sampler: denoise is 0");
    w.masked = good;
    w.masked.base.sampler = "eulr";
    expect_refused(&w, &options, TSR_NOT_FOUND, "base_sampler: unknown sampler");
    w.masked = good;
    w.full.steps = 0;
    w.masked.full = &w.full;
    expect_refused(&w, &options, TSR_BAD_ARGUMENT, "full_sampler_opt: steps is 0");
    w.masked = good;
    w.masked.schedule = TSR__FULL_COUNT;
    expect_refused(&w, &options, TSR_BAD_ARGUMENT, "full_sample_schedule");
    w.masked = good;
    w.vae.table.channels = 16;
    expect_refused(&w, &options, TSR_BAD_ARGUMENT, "the latent has 4 channels, the VAE decodes 16");
    world_clear(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps__grow_evenly_or_by_a_ratio),
        cmocka_unit_test(path__cuts_to_whole_cells_in_the_middle),
        cmocka_unit_test(path__applies_the_model_until_it_is_wide_enough),
        cmocka_unit_test(pixel_upscaler__enlarges_then_samples),
        cmocka_unit_test(pixel_upscaler__keeps_the_noise_mask_in_every_step),
        cmocka_unit_test(masked_upscaler__samples_outside_then_inside),
        cmocka_unit_test(masked_upscaler__turns_the_first_row_as_the_node_does),
        cmocka_unit_test(masked_upscaler__samples_everything_when_the_schedule_says),
        cmocka_unit_test(masked_upscaler__gives_the_latent_to_the_right_hook),
        cmocka_unit_test(image__is_encoded_upscaled_and_decoded),
        cmocka_unit_test(progress__covers_all_steps_and_can_stop),
        cmocka_unit_test(text__lists_sizes_and_costs),
        cmocka_unit_test(bad_input__is_told_before_anything_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
