/* history restart against a straightforward retelling of the nodes' loops with two euler regions: RegionalSampler and
 * RegionalSamplerAdvanced as reference/nodes has them. */
#include "gaussian.h"
#include "tessera/noise.h"

enum { H = 6, W = 6, C = 2, COUNT = C * H * W, PLANE = H * W, STEPS = 6 };

/* The retelling's own world: scale 1, plain arrays, masks at latent size. */
typedef struct world {
    gaussian g;
    gaussian_cond cond[3]; /* base and two regions */
    gaussian_cond negative;
    tsr_mask *mask[3]; /* [1], [2]: pictures */
    float inverse[PLANE];
    float grown[3][PLANE];
    float *sigmas;
    int n_sigmas;
} world;

static const float cfgs[3] = { 2.0f, 3.0f, 1.0f };

static void latent_mask(float *out, const tsr_mask *mask) {
    tsr_mask *small = NULL;
    tsr_error err = TSR_ERROR_INIT;
    expect_ok(tsr_mask_resize(&small, mask, W, H, &err), &err);
    memcpy(out, small->values, sizeof(float) * PLANE);
    tsr_mask_free(small);
}

static void world_init(world *w, int overlap, int all_steps) {
    tsr_error err = TSR_ERROR_INIT;
    memset(w, 0, sizeof *w);
    gaussian_init(&w->g, 1.0f);
    w->cond[0] = (gaussian_cond){ 0.2f, 0.8f };
    w->cond[1] = (gaussian_cond){ -1.0f, 0.5f };
    w->cond[2] = (gaussian_cond){ 1.5f, 1.1f };
    w->negative = (gaussian_cond){ 0.0f, 1.0f };
    w->mask[1] = box_mask(8 * W, 8 * H, 0, 0, 16, 48);
    w->mask[2] = box_mask(8 * W, 8 * H, 24, 8, 16, 24);
    tsr_mask *inverse = box_mask(8 * W, 8 * H, 0, 0, 8 * W, 8 * H);
    for (int i = 0; i < 64 * PLANE; i++)
        if (w->mask[1]->values[i] > 0.0f || w->mask[2]->values[i] > 0.0f) inverse->values[i] = 0.0f;
    latent_mask(w->inverse, inverse);
    tsr_mask_free(inverse);
    for (int k = 1; k < 3; k++) {
        tsr_mask *grown = NULL;
        expect_ok(tsr_mask_region_growth(&grown, w->mask[k], 8 * W, 8 * H, overlap, &err), &err);
        latent_mask(w->grown[k], grown);
        tsr_mask_free(grown);
    }
    expect_ok(tsr_ksampler_sigmas(&w->sigmas, &w->n_sigmas, w->g.table, "karras", "euler", all_steps, 1.0, &err), &err);
}

static void world_clear(world *w) {
    tsr_mask_free(w->mask[1]);
    tsr_mask_free(w->mask[2]);
    tsr_free(w->sigmas);
    gaussian_clear(&w->g);
}

static float denoise(const world *w, int who, float x, float sigma) {
    const gaussian_cond *p = &w->cond[who], *n = &w->negative;
    float s = sigma * sigma;
    float c = (p->sd * p->sd * x + s * p->mu) / (p->sd * p->sd + s);
    float u = (n->sd * n->sd * x + s * n->mu) / (n->sd * n->sd + s);
    return u + cfgs[who] * (c - u);
}

/* sample_advanced of an euler provider. mask NULL: none. Writes x. */
static void sample_advanced(const world *w, int who, float *x, const float *mask, int add_noise, uint64_t seed,
                            int start, int end, int leftover) {
    int shape[4] = { 1, C, H, W }, last = w->n_sigmas - 1;
    float latent[COUNT], noise[COUNT] = { 0 }, clean[COUNT] = { 0 };
    tsr_error err = TSR_ERROR_INIT;
    int cut = end < last;
    if (cut) last = end;
    if (start >= last) return;
    if (add_noise) expect_ok(tsr_initial_noise(noise, shape, seed, NULL, &err), &err);
    memcpy(latent, x, sizeof latent);
    float first = w->sigmas[start];
    float scale = first >= w->sigmas[0] ? sqrtf(1.0f + first * first) : first;
    for (int i = 0; i < COUNT; i++) x[i] = latent[i] + noise[i] * scale;
    for (int step = start; step < last; step++) {
        float at = w->sigmas[step], to = cut && !leftover && step + 1 == last ? 0.0f : w->sigmas[step + 1];
        for (int i = 0; i < COUNT; i++) {
            float m = mask ? mask[i % PLANE] : 1.0f;
            float seen = x[i] * m + (latent[i] + noise[i] * at) * (1.0f - m);
            clean[i] = denoise(w, who, seen, at) * m + latent[i] * (1.0f - m);
            x[i] += (x[i] - clean[i]) / at * (to - at);
        }
    }
    if (!leftover) memcpy(x, clean, sizeof clean);
}

static void composite(float *base, const float *region, const float *mask) {
    for (int i = 0; i < COUNT; i++) base[i] = base[i] * (1.0f - mask[i % PLANE]) + region[i] * mask[i % PLANE];
}

static void one_round(const world *w, float *x, int restore, int add_noise, uint64_t seed, int i) {
    sample_advanced(w, 0, x, w->inverse, add_noise, seed, i, i + 1, 1);
    for (int k = 1; k < 3; k++) {
        float region[COUNT];
        memcpy(region, x, sizeof region);
        sample_advanced(w, k, region, w->grown[k], 0, seed, i, i + 1, 1);
        if (restore) composite(x, region, w->grown[k]);
        else memcpy(x, region, sizeof region);
    }
}

static void regional(const world *w, float *x, const tsr_regional_options *o, uint64_t second) {
    int all = (int)((double)o->steps / o->denoise), start = all - o->steps, first = start + o->base_only_steps;
    int leftover = o->base_only_steps > 0 && o->seed_2nd_mode == TSR_SEED_2ND_IGNORE;
    if (o->base_only_steps > 0) sample_advanced(w, 0, x, NULL, 1, o->seed, start, first, leftover);
    for (int i = first; i < all; i++) one_round(w, x, o->restore_latent, !leftover, second, i);
    if (!o->restore_latent) sample_advanced(w, 0, x, w->inverse, 0, second, all, all + 1, 0);
}

static void advanced(const world *w, float *x, const tsr_regional_options *o) {
    int end = o->end_step < o->steps ? o->end_step : o->steps;
    for (int i = o->start_step; i < end - 1; i++)
        one_round(w, x, o->restore_latent, i == o->start_step && o->add_noise, o->seed, i);
    if (!o->restore_latent) sample_advanced(w, 0, x, w->inverse, 0, o->seed, end - 1, end, o->leftover_noise);
}

/* Runs the library and compares with x. */
static void expect_same(world *w, const float *x, tsr_regional_options *o, const tsr_latent *latent) {
    tsr_region_base base = TSR_REGION_BASE_INIT;
    tsr_region regions[2] = { TSR_REGION_INIT, TSR_REGION_INIT };
    float worst = 0.0f, size = 0.0f;
    for (int k = 0; k < 3; k++) {
        tsr_guide guide = { &w->g.denoiser, &w->cond[k], &w->negative, cfgs[k], 0.0, 0.0 };
        if (k == 0) base.guide = guide;
        else regions[k - 1].guide = guide;
    }
    base.scheduler = "karras";
    regions[0].mask = w->mask[1];
    regions[1].mask = w->mask[2];
    o->history = TSR_HISTORY_RESTART;
    tsr_latent *out = run_regions(&base, regions, 2, o, latent);
    for (int i = 0; i < COUNT; i++) {
        worst = fmaxf(worst, fabsf(out->values[i] - x[i]));
        size = fmaxf(size, fabsf(x[i]));
    }
    assert_null(out->noise_mask);
    tsr_latent_free(out);
    if (worst > 2e-5f * size) fail_msg("largest difference %g, largest value %g", (double)worst, (double)size);
}

static tsr_latent *start_latent(float *x) {
    tsr_latent *latent = zero_latent(1, C, H, W);
    for (int i = 0; i < COUNT; i++) x[i] = latent->values[i] = 0.05f * (float)(i % 17) - 0.3f;
    return latent;
}

static void restart__regional_sampler(void **state) {
    static const struct {
        int base_only, restore, overlap;
        double denoise;
        tsr_seed_2nd_mode mode;
        uint64_t seed, seed_2nd, second;
    } cases[] = {
        { 2, 1, 14, 1.0, TSR_SEED_2ND_IGNORE, 41, 9, 41 },
        { 0, 1, 0, 1.0, TSR_SEED_2ND_IGNORE, 41, 9, 41 },
        { 1, 0, 21, 1.0, TSR_SEED_2ND_IGNORE, 41, 9, 41 },
        { 2, 1, 7, 0.7, TSR_SEED_2ND_FIXED, 41, 9, 9 },
        { 2, 1, 7, 1.0, TSR_SEED_2ND_ADD, 41, 9, 50 },
        { 2, 1, 7, 1.0, TSR_SEED_2ND_ADD, UINT64_C(1125899906842600), 100, 76 },
        { 2, 1, 7, 1.0, TSR_SEED_2ND_ADD, UINT64_MAX, 100, UINT64_C(99) - UINT64_C(1125899906842624) },
        { 2, 0, 7, 1.0, TSR_SEED_2ND_SUBTRACT, 41, 9, 32 },
        { 2, 1, 7, 1.0, TSR_SEED_2ND_SUBTRACT, 9, 41, UINT64_C(1125899906842624) - 32 },
        { 6, 1, 7, 1.0, TSR_SEED_2ND_RANDOMIZE, 41, 9, 9 },
        { 9, 0, 7, 1.0, TSR_SEED_2ND_IGNORE, 41, 9, 41 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        world w;
        float x[COUNT];
        tsr_regional_options o = TSR_REGIONAL_OPTIONS_INIT;
        o.steps = STEPS;
        o.base_only_steps = cases[i].base_only;
        o.restore_latent = cases[i].restore;
        o.overlap = cases[i].overlap;
        o.denoise = cases[i].denoise;
        o.seed = cases[i].seed;
        o.seed_2nd = cases[i].seed_2nd;
        o.seed_2nd_mode = cases[i].mode;
        world_init(&w, o.overlap, (int)(STEPS / cases[i].denoise));
        tsr_latent *latent = start_latent(x);
        regional(&w, x, &o, cases[i].second);
        expect_same(&w, x, &o, latent);
        tsr_latent_free(latent);
        world_clear(&w);
    }
}

static void restart__regional_sampler_advanced(void **state) {
    static const struct {
        int add_noise, start, end, overlap, restore, leftover;
    } cases[] = {
        { 1, 0, 10000, 14, 1, 0 }, { 1, 2, 5, 14, 1, 0 }, { 0, 3, 10000, 7, 1, 0 },
        { 1, 0, 4, 14, 0, 1 },     { 1, 0, 4, 14, 0, 0 }, { 1, 5, 6, 7, 0, 0 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        world w;
        float x[COUNT];
        tsr_regional_options o = TSR_REGIONAL_OPTIONS_INIT;
        o.system = TSR_SYSTEM_REGIONAL_ADVANCED;
        o.steps = STEPS;
        o.seed = 51;
        o.add_noise = cases[i].add_noise;
        o.start_step = cases[i].start;
        o.end_step = cases[i].end;
        o.overlap = cases[i].overlap;
        o.restore_latent = cases[i].restore;
        o.leftover_noise = cases[i].leftover;
        world_init(&w, o.overlap, STEPS);
        tsr_latent *latent = start_latent(x);
        advanced(&w, x, &o);
        expect_same(&w, x, &o, latent);
        tsr_latent_free(latent);
        world_clear(&w);
    }
}

/* Seeds beyond 64 bits are refused, not wrapped; so is a factor that leaves no sigma. */
static void restart__what_the_reference_fails_at_is_refused(void **state) {
    world w;
    tsr_region_base base = TSR_REGION_BASE_INIT;
    tsr_region region = TSR_REGION_INIT;
    tsr_regional_options o = TSR_REGIONAL_OPTIONS_INIT;
    tsr_plan *plan = NULL;
    tsr_error err = TSR_ERROR_INIT;
    int shape[4] = { 1, C, H, W };
    (void)state;
    world_init(&w, 0, STEPS);
    base.guide = (tsr_guide){ &w.g.denoiser, &w.cond[0], &w.negative, 1.0f, 0.0, 0.0 };
    region.guide = base.guide;
    region.mask = w.mask[1];
    o.history = TSR_HISTORY_RESTART;
    o.base_only_steps = 1;
    o.seed = UINT64_MAX;
    o.seed_2nd = UINT64_MAX;
    o.seed_2nd_mode = TSR_SEED_2ND_ADD;
    assert_int_equal(tsr_plan_new(&plan, &base, &region, 1, &o, shape, &err), TSR_BAD_ARGUMENT);
    assert_non_null(strstr(err.message, "64 bits"));
    err = (tsr_error)TSR_ERROR_INIT;
    o.seed = 0;
    o.seed_2nd_mode = TSR_SEED_2ND_SUBTRACT;
    assert_int_equal(tsr_plan_new(&plan, &base, &region, 1, &o, shape, &err), TSR_BAD_ARGUMENT);
    assert_non_null(strstr(err.message, "-2^63"));
    o.seed_2nd = (UINT64_C(1) << 63) + UINT64_C(1125899906842624); /* -2^63 itself is a seed */
    expect_ok(tsr_plan_new(&plan, &base, &region, 1, &o, shape, &err), &err);
    tsr_plan_free(plan);
    err = (tsr_error)TSR_ERROR_INIT;
    base.sigma_factor = 0.0f;
    assert_int_equal(tsr_plan_new(&plan, &base, &region, 1, &o, shape, &err), TSR_BAD_ARGUMENT);
    assert_non_null(strstr(err.message, "base: sigma_factor is 0"));
    world_clear(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(restart__regional_sampler),
        cmocka_unit_test(restart__regional_sampler_advanced),
        cmocka_unit_test(restart__what_the_reference_fails_at_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
