/* One sampling run on networks whose answers are known: guidance, batching, noise mask, windows, hooks, bad input. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "picture/mask_priv.h"
#include "sample/evaluate.h"
#include "sample/impact.h"
#include "tessera/noise.h"
#include "tessera/sample.h"

enum { COUNT = 2 * 4 * 4 };

/* Answers scale * x + offset, where the conditioning is {scale, offset}. */
typedef struct linear {
    tsr_denoiser denoiser;
    tsr_sigma_table *table;
    int calls, evaluations, nan_at;
} linear;

static tsr_status linear_denoise(void *user, const int shape[4], const tsr_denoise_call *calls, int count,
                                 tsr_error *err) {
    linear *l = user;
    (void)err;
    l->calls++;
    for (int k = 0; k < count; k++) {
        const float *cond = calls[k].cond;
        int n = shape[0] * shape[1] * shape[2] * shape[3];
        for (int i = 0; i < n; i++) calls[k].denoised[i] = cond[0] * calls[k].x[i] + cond[1];
        if (++l->evaluations == l->nan_at) calls[k].denoised[1] = INFINITY;
    }
    return TSR_OK;
}

static void linear_init(linear *l) {
    memset(l, 0, sizeof *l);
    assert_int_equal(tsr_sigma_table_new(&l->table, 0.00085, 0.012, 1000, NULL), TSR_OK);
    l->denoiser = (tsr_denoiser){
        .struct_size = sizeof l->denoiser, .user = l, .denoise = linear_denoise, .table = l->table, .latent_scale = 0.5f
    };
}

static void linear_clear(linear *l) {
    tsr_sigma_table_free(l->table);
}

static const float one[2] = { 0.5f, 0.25f }, two[2] = { 0.25f, -0.5f };

static tsr_latent *ramp(void) {
    tsr_latent *latent = NULL;
    assert_int_equal(tsr_latent_new(&latent, 1, 2, 4, 4, NULL), TSR_OK);
    for (int i = 0; i < COUNT; i++) latent->values[i] = 0.1f * (float)i - 1.0f;
    return latent;
}

/* Equal (x, sigma, conditioning) once, one call a denoiser, u + cfg (c - u). */
static void evaluate__shares_and_combines(void **state) {
    linear a, b;
    float x[COUNT], out[4][COUNT], uncond[COUNT];
    int shape[4] = { 1, 2, 4, 4 }, n = 0;
    (void)state;
    linear_init(&a);
    linear_init(&b);
    for (int i = 0; i < COUNT; i++) x[i] = (float)i;
    tsr_guide guides[4] = { { &a.denoiser, one, two, 3.0f, 0.0, 0.0 },
                            { &a.denoiser, two, two, 5.0f, 0.0, 0.0 },
                            { &b.denoiser, one, two, 1.0f, 0.0, 0.0 },
                            { &b.denoiser, one, two, 1.0f, 0.0, 0.0 } };
    tsr__request requests[4];
    tsr__evaluator evaluator;
    tsr__run run;
    for (int k = 0; k < 4; k++)
        requests[k] = (tsr__request){ &guides[k], x, 2.0f, NULL, k, out[k], NULL, { 0, 0, 0, 0 } };
    requests[3].uncond = uncond;
    tsr__evaluator_init(&evaluator, shape);
    tsr__run_init(&run, NULL, shape, 1.0f);
    assert_int_equal(tsr__evaluate_count(&n, NULL, 0, &evaluator, requests, 4, NULL), TSR_OK);
    assert_int_equal(n, 4); /* a: one, two; b: one, and two for the uncond */
    assert_int_equal(tsr__evaluate(&evaluator, requests, 4, &run, NULL), TSR_OK);
    assert_int_equal(a.calls, 1);
    assert_int_equal(a.evaluations, 2);
    assert_int_equal(b.calls, 1);
    assert_int_equal(b.evaluations, 2);
    assert_int_equal(run.evaluations_done, 4);
    for (int i = 0; i < COUNT; i++) {
        float c = 0.5f * x[i] + 0.25f, u = 0.25f * x[i] - 0.5f;
        assert_true(out[0][i] == u + (c - u) * 3.0f);
        assert_true(out[1][i] == u);
        assert_true(out[2][i] == c);
        assert_true(out[3][i] == c);
        assert_true(uncond[i] == u);
    }
    tsr__evaluator_clear(&evaluator);
    linear_clear(&a);
    linear_clear(&b);
}

/* The noise-mask rule before and after the network, value by value. */
static void evaluate__applies_the_noise_mask(void **state) {
    linear a;
    float x[COUNT], latent[COUNT], noise[COUNT], mask[16], out[COUNT];
    int shape[4] = { 1, 2, 4, 4 };
    tsr__evaluator evaluator;
    tsr__run run;
    (void)state;
    linear_init(&a);
    for (int i = 0; i < COUNT; i++) {
        x[i] = (float)i;
        latent[i] = 1.0f - (float)i;
        noise[i] = 0.125f * (float)i;
        mask[i % 16] = (float)(i % 16) / 15.0f;
    }
    tsr_guide guide = { &a.denoiser, one, two, 1.0f, 0.0, 0.0 };
    tsr__inpaint rule = { .mask = mask, .latent = latent, .noise = noise };
    tsr__request request = { &guide, x, 2.0f, &rule, 0, out, NULL, { 0, 0, 0, 0 } };
    tsr__evaluator_init(&evaluator, shape);
    tsr__run_init(&run, NULL, shape, 1.0f);
    assert_int_equal(tsr__evaluate(&evaluator, &request, 1, &run, NULL), TSR_OK);
    for (int i = 0; i < COUNT; i++) {
        float m = mask[i % 16], seen = x[i] * m + (latent[i] + noise[i] * 2.0f) * (1.0f - m);
        float want = (0.5f * seen + 0.25f) * m + latent[i] * (1.0f - m);
        assert_true(fabsf(out[i] - want) <= 1e-6f * (1.0f + fabsf(want)));
    }
    tsr__evaluator_clear(&evaluator);
    linear_clear(&a);
}

/* One euler step to 0 ends at the prediction; the start is latent + noise * sqrt(1 + sigma^2) at the largest sigma. */
static void sample__one_step(void **state) {
    linear l;
    tsr_latent *latent = ramp(), *out = NULL;
    float noise[COUNT];
    tsr_sample_options o = TSR_SAMPLE_OPTIONS_INIT;
    (void)state;
    linear_init(&l);
    tsr_guide guide = { &l.denoiser, one, two, 1.0f, 0.0, 0.0 };
    float top = tsr_sigma_table_max(l.table);
    for (int at_top = 0; at_top < 2; at_top++) {
        float sigmas[2] = { at_top ? top : 3.0f, 0.0f };
        float scale = at_top ? sqrtf(1.0f + top * top) : 3.0f;
        o.sigmas = sigmas;
        o.n_sigmas = 2;
        o.seed = 9;
        assert_int_equal(tsr_initial_noise(noise, latent->shape, 9, NULL, NULL), TSR_OK);
        assert_int_equal(tsr_sample(&out, latent, &guide, &o, NULL), TSR_OK);
        for (int i = 0; i < COUNT; i++) {
            float x = latent->values[i] * 0.5f + noise[i] * scale;
            assert_true(fabsf(out->values[i] - (0.5f * x + 0.25f) / 0.5f) < 1e-4f);
        }
        tsr_latent_free(out);
        o.noise = noise; /* the same noise given by hand */
        o.add_noise = 0;
        tsr_latent *again = NULL;
        assert_int_equal(tsr_sample(&again, latent, &guide, &o, NULL), TSR_OK);
        o.noise = NULL;
        o.add_noise = 1;
        assert_int_equal(tsr_sample(&out, latent, &guide, &o, NULL), TSR_OK);
        assert_memory_equal(out->values, again->values, sizeof noise);
        tsr_latent_free(again);
        tsr_latent_free(out);
    }
    tsr_latent_free(latent);
    linear_clear(&l);
}

/* x0 is the last prediction, x the latent at the last sigma. */
static void sample__x0_or_x(void **state) {
    linear l;
    tsr_latent *latent = ramp(), *x = NULL, *x0 = NULL;
    float sigmas[2] = { 4.0f, 2.0f };
    tsr_sample_options o = TSR_SAMPLE_OPTIONS_INIT;
    (void)state;
    linear_init(&l);
    tsr_guide guide = { &l.denoiser, one, two, 1.0f, 0.0, 0.0 };
    o.sigmas = sigmas;
    o.n_sigmas = 2;
    o.add_noise = 0;
    assert_int_equal(tsr_sample(&x, latent, &guide, &o, NULL), TSR_OK);
    o.want_x0 = 1;
    assert_int_equal(tsr_sample(&x0, latent, &guide, &o, NULL), TSR_OK);
    for (int i = 0; i < COUNT; i++) {
        float start = latent->values[i] * 0.5f, clean = 0.5f * start + 0.25f;
        assert_true(fabsf(x0->values[i] - clean / 0.5f) < 1e-6f);
        assert_true(fabsf(x->values[i] - (start + (start - clean) / 4.0f * -2.0f) / 0.5f) < 1e-6f);
    }
    tsr_latent_free(x);
    tsr_latent_free(x0);
    tsr_latent_free(latent);
    linear_clear(&l);
}

/* Two windows with the noise left between them are one run. */
static void ksampler_advanced__split_equals_whole(void **state) {
    linear l;
    tsr_latent *latent = ramp(), *whole = NULL, *half = NULL, *rest = NULL;
    tsr_ksampler_options k = TSR_KSAMPLER_OPTIONS_INIT;
    tsr_ksampler_advanced_options a = TSR_KSAMPLER_ADVANCED_OPTIONS_INIT;
    (void)state;
    linear_init(&l);
    tsr_guide guide = { &l.denoiser, one, two, 2.0f, 0.0, 0.0 };
    k.steps = a.steps = 8;
    k.seed = a.seed = 3;
    k.sampler = a.sampler = "heun";
    assert_int_equal(tsr_ksampler(&whole, latent, &guide, &k, NULL), TSR_OK);
    a.end_step = 5;
    a.leftover_noise = 1;
    assert_int_equal(tsr_ksampler_advanced(&half, latent, &guide, &a, NULL), TSR_OK);
    a.start_step = 5;
    a.end_step = 10000;
    a.add_noise = 0;
    assert_int_equal(tsr_ksampler_advanced(&rest, half, &guide, &a, NULL), TSR_OK);
    for (int i = 0; i < COUNT; i++) assert_true(fabsf(rest->values[i] - whole->values[i]) < 1e-4f);
    tsr_latent_free(rest);
    a.start_step = 8; /* beyond the end: untouched */
    assert_int_equal(tsr_ksampler_advanced(&rest, half, &guide, &a, NULL), TSR_OK);
    assert_memory_equal(rest->values, half->values, COUNT * sizeof(float));
    tsr_latent_free(rest);
    k.denoise = 0.0;
    assert_int_equal(tsr_ksampler(&rest, half, &guide, &k, NULL), TSR_OK);
    assert_memory_equal(rest->values, half->values, COUNT * sizeof(float));
    tsr_latent_free(rest);
    tsr_latent_free(whole);
    tsr_latent_free(half);
    tsr_latent_free(latent);
    linear_clear(&l);
}

/* Where the noise mask is 0 the picture comes back; ddim's own mask noise makes the way there different, not the
 * end. */
static void ksampler__noise_mask_protects(void **state) {
    static const char *const samplers[] = { "euler", "ddim", "dpmpp_2m" };
    linear l;
    tsr_latent *latent = ramp();
    (void)state;
    linear_init(&l);
    tsr_guide guide = { &l.denoiser, one, two, 1.0f, 0.0, 0.0 };
    assert_int_equal(tsr_mask_from_box(&latent->noise_mask, 4, 4, 0, 0, 2, 4, NULL), TSR_OK);
    for (int s = 0; s < 3; s++) {
        tsr_latent *out = NULL;
        tsr_ksampler_options k = TSR_KSAMPLER_OPTIONS_INIT;
        k.sampler = samplers[s];
        k.steps = 5;
        assert_int_equal(tsr_ksampler(&out, latent, &guide, &k, NULL), TSR_OK);
        assert_non_null(out->noise_mask);
        for (int i = 0; i < COUNT; i++) {
            float moved = fabsf(out->values[i] - latent->values[i]);
            if (i % 4 >= 2) assert_true(moved < 1e-4f);
            else assert_true(moved > 1e-3f);
        }
        tsr_latent_free(out);
    }
    tsr_latent_free(latent);
    linear_clear(&l);
}

/* A batch with indices: each item is what it would be alone. */
static void ksampler__batch_items_are_independent(void **state) {
    linear l;
    tsr_latent *batch = NULL, *out = NULL, *single = NULL;
    tsr_ksampler_options k = TSR_KSAMPLER_OPTIONS_INIT;
    (void)state;
    linear_init(&l);
    tsr_guide guide = { &l.denoiser, one, two, 1.0f, 0.0, 0.0 };
    k.steps = 4;
    assert_int_equal(tsr_latent_new(&batch, 2, 2, 4, 4, NULL), TSR_OK);
    assert_int_equal(tsr_ksampler(&out, batch, &guide, &k, NULL), TSR_OK);
    tsr_latent_free(batch);
    assert_int_equal(tsr_latent_new(&batch, 1, 2, 4, 4, NULL), TSR_OK);
    batch->batch_index = calloc(1, sizeof *batch->batch_index);
    assert_int_equal(tsr_ksampler(&single, batch, &guide, &k, NULL), TSR_OK);
    assert_memory_equal(single->values, out->values, COUNT * sizeof(float));
    tsr_latent_free(batch);
    tsr_latent_free(single);
    tsr_latent_free(out);
    linear_clear(&l);
}

static int stop_at_three(void *user, const tsr_progress *p) {
    int *seen = user;
    assert_true(p->evaluations_total == 2 * 6);
    assert_int_equal(p->steps, 6);
    return ++*seen == 3;
}

static void sample__cancels_and_says_where(void **state) {
    linear l;
    tsr_latent *latent = ramp(), *out = latent;
    tsr_ksampler_options k = TSR_KSAMPLER_OPTIONS_INIT;
    tsr_run_hooks hooks = TSR_RUN_HOOKS_INIT;
    tsr_error err = TSR_ERROR_INIT;
    int seen = 0;
    (void)state;
    linear_init(&l);
    tsr_guide guide = { &l.denoiser, one, two, 2.0f, 0.0, 0.0 };
    k.steps = 6;
    hooks.user = &seen;
    hooks.progress = stop_at_three;
    k.hooks = &hooks;
    assert_int_equal(tsr_ksampler(&out, latent, &guide, &k, &err), TSR_CANCELLED);
    assert_null(out);
    assert_int_equal(l.calls, 1); /* asked, stepped, about to ask again */
    assert_non_null(strstr(err.message, "step 2 of 6"));
    tsr_latent_free(latent);
    linear_clear(&l);
}

static void sample__infinity_says_where(void **state) {
    linear l;
    tsr_latent *latent = ramp(), *out = NULL;
    tsr_ksampler_options k = TSR_KSAMPLER_OPTIONS_INIT;
    tsr_error err = TSR_ERROR_INIT;
    (void)state;
    linear_init(&l);
    tsr_guide guide = { &l.denoiser, one, two, 2.0f, 0.0, 0.0 };
    k.steps = 6;
    l.nan_at = 6; /* the third step's negative */
    assert_int_equal(tsr_ksampler(&out, latent, &guide, &k, &err), TSR_NOT_FINITE);
    assert_non_null(strstr(err.message, "step 3 of 6"));
    assert_non_null(strstr(err.message, "infinity for the negative prompt"));
    assert_null(strstr(err.message, "region"));
    tsr_latent_free(latent);
    linear_clear(&l);
}

/* SplitSigmas at step 0: one sigma, no step; the latent gets its noise and nothing is taken off. */
static void one_sigma__adds_its_noise_only(void **state) {
    linear l;
    tsr_latent *latent = ramp(), *out = NULL;
    tsr_sample_options o = TSR_SAMPLE_OPTIONS_INIT;
    tsr_error err = TSR_ERROR_INIT;
    const float sigma = 1.5f;
    float *noise = malloc(tsr_latent_count(latent) * sizeof *noise);
    (void)state;
    linear_init(&l);
    tsr_guide guide = { &l.denoiser, one, two, 2.0f, 0.0, 0.0 };
    assert_int_equal(tsr_initial_noise(noise, latent->shape, 5, NULL, &err), TSR_OK);
    o.sigmas = &sigma;
    o.n_sigmas = 1;
    o.seed = 5;
    o.add_noise = 1;
    assert_int_equal(tsr_sample(&out, latent, &guide, &o, &err), TSR_OK);
    for (size_t i = 0; i < tsr_latent_count(latent); i++)
        assert_float_equal(out->values[i], latent->values[i] + noise[i] * sigma / l.denoiser.latent_scale, 1e-4);
    free(noise);
    tsr_latent_free(out);
    tsr_latent_free(latent);
    linear_clear(&l);
}

/* A batch of masks: each picture is sampled as it would be alone with its own. */
static void mask_batch__masks_each_picture_by_its_own(void **state) {
    linear l;
    tsr_latent *both = NULL, *single = NULL, *out = NULL, *alone = NULL;
    tsr_mask *stack = NULL, *items[2];
    tsr_sample_options o = TSR_SAMPLE_OPTIONS_INIT;
    const float sigmas[4] = { 8.0f, 3.0f, 1.0f, 0.0f };
    tsr_error err = TSR_ERROR_INIT;
    (void)state;
    linear_init(&l);
    tsr_guide guide = { &l.denoiser, one, two, 2.0f, 0.0, 0.0 };
    assert_int_equal(tsr_latent_new(&both, 2, 2, 4, 4, &err), TSR_OK);
    assert_int_equal(tsr_latent_new(&single, 1, 2, 4, 4, &err), TSR_OK);
    for (int i = 0; i < 32; i++) both->values[i] = both->values[32 + i] = single->values[i] = 0.1f * (float)i;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(tsr_mask_new(&items[i], 2, 2, 0.0f, &err), TSR_OK);
        items[i]->values[i] = 1.0f;
    }
    assert_int_equal(tsr__mask_stack(&stack, items, 2, &err), TSR_OK);
    assert_int_equal(tsr_mask_copy(&both->noise_mask, stack, &err), TSR_OK);
    o.sampler = "euler";
    o.sigmas = sigmas;
    o.n_sigmas = 4;
    o.add_noise = 0;
    assert_int_equal(tsr_sample(&out, both, &guide, &o, &err), TSR_OK);
    for (int i = 0; i < 2; i++) {
        single->noise_mask = items[i];
        assert_int_equal(tsr_sample(&alone, single, &guide, &o, &err), TSR_OK);
        single->noise_mask = NULL;
        assert_memory_equal(alone->values, out->values + 32 * i, 32 * sizeof(float));
        tsr_latent_free(alone);
        tsr_mask_free(items[i]);
    }
    assert_memory_not_equal(out->values, out->values + 32, 32 * sizeof(float));
    tsr_mask_free(stack);
    tsr_latent_free(both);
    tsr_latent_free(single);
    tsr_latent_free(out);
    linear_clear(&l);
}

static void sample__refuses_bad_input(void **state) {
    linear l;
    tsr_latent *latent = ramp(), *out = NULL;
    tsr_ksampler_options k = TSR_KSAMPLER_OPTIONS_INIT;
    tsr_sample_options o = TSR_SAMPLE_OPTIONS_INIT;
    tsr_error err = TSR_ERROR_INIT, again = TSR_ERROR_INIT;
    float turning[3] = { 1.0f, 2.0f, 0.5f };
    (void)state;
    linear_init(&l);
    tsr_guide guide = { &l.denoiser, one, two, 2.0f, 0.0, 0.0 }, none = { NULL, one, two, 2.0f, 0.0, 0.0 };
    k.sampler = "eulr";
    assert_int_equal(tsr_ksampler(&out, latent, &guide, &k, &err), TSR_NOT_FOUND);
    assert_non_null(strstr(err.message, "\"euler\""));
    k.sampler = NULL;
    k.steps = 0;
    assert_int_equal(tsr_ksampler(&out, latent, &guide, &k, NULL), TSR_BAD_ARGUMENT);
    k.steps = 4;
    k.denoise = NAN;
    assert_int_equal(tsr_ksampler(&out, latent, &guide, &k, NULL), TSR_BAD_ARGUMENT);
    o.sigmas = turning;
    o.n_sigmas = 3;
    assert_int_equal(tsr_sample(&out, latent, &guide, &o, &again), TSR_BAD_ARGUMENT);
    assert_non_null(strstr(again.message, "sigma 1 (2)"));
    assert_int_equal(tsr_sample(&out, latent, &none, &o, NULL), TSR_BAD_ARGUMENT);
    assert_int_equal(tsr_sample(&out, NULL, &guide, &o, NULL), TSR_BAD_ARGUMENT);
    tsr_latent_free(latent);
    linear_clear(&l);
}

static tsr__impact_call impact_call(const tsr_guide *guide, const char *sampler) {
    tsr__impact_call call = { .guide = guide,
                              .sampler = sampler,
                              .scheduler = "karras",
                              .sigma_factor = 1.0,
                              .seed = 7,
                              .steps = 6,
                              .start = 2,
                              .end = 3,
                              .leftover = 1,
                              .recovery = TSR__RECOVERY_BETWEEN,
                              .recovery_ratio = 0.25 };
    return call;
}

/* Which passes a call comes to, with which sigmas. */
static void impact__passes(void **state) {
    linear l;
    tsr__impact_passes p;
    float *all = NULL;
    int n = 0;
    (void)state;
    linear_init(&l);
    tsr_guide guide = { &l.denoiser, one, two, 1.0f, 0.0, 0.0 };
    tsr__impact_call call = impact_call(&guide, "dpmpp_2m_sde");
    assert_int_equal(tsr_ksampler_sigmas(&all, &n, l.table, "karras", "euler", 6, 1.0, NULL), TSR_OK);
    assert_int_equal(tsr__impact_passes_init(&p, &call, NULL), TSR_OK);
    assert_true(p.runs[0] && p.runs[1] && p.recovers);
    assert_string_equal(p.pass[1].sampler, "dpmpp_2m");
    assert_true(p.pass[0].sigmas[0] == all[2] * 0.75f && p.pass[0].sigmas[1] == all[3] * 0.75f);
    assert_true(p.pass[1].sigmas[0] == all[2] * 0.25f);
    assert_true(p.pass[0].brownian_min == all[5] && p.pass[0].brownian_max == all[0]);
    tsr__impact_passes_clear(&p);
    call.recovery = TSR__RECOVERY_ADDITIONAL;
    call.sigma_factor = 2.0;
    call.leftover = 0; /* the window's end becomes 0 */
    assert_int_equal(tsr__impact_passes_init(&p, &call, NULL), TSR_OK);
    assert_true(p.pass[0].sigmas[0] == all[2] * 2.0f && p.pass[0].sigmas[1] == 0.0f);
    tsr__impact_passes_clear(&p);
    call = impact_call(&guide, "uni_pc");
    assert_int_equal(tsr__impact_passes_init(&p, &call, NULL), TSR_OK);
    assert_string_equal(p.pass[1].sampler, "dpm_fast");
    tsr__impact_passes_clear(&p);
    call.recovery_ratio = 1.0; /* between: nothing is left for the first pass */
    call.recovery_sampler = "heun";
    assert_int_equal(tsr__impact_passes_init(&p, &call, NULL), TSR_OK);
    assert_true(!p.runs[0] && p.runs[1]);
    assert_string_equal(p.pass[1].sampler, "heun");
    tsr__impact_passes_clear(&p);
    call = impact_call(&guide, "euler");
    assert_int_equal(tsr__impact_passes_init(&p, &call, NULL), TSR_OK);
    assert_true(p.runs[0] && !p.runs[1] && !p.recovers);
    tsr__impact_passes_clear(&p);
    call = impact_call(&guide, "dpmpp_sde");
    call.steps = 1; /* one positive sigma: the Brownian range is empty, and the pass is given up */
    call.start = 0;
    assert_int_equal(tsr__impact_passes_init(&p, &call, NULL), TSR_OK);
    assert_true(!p.runs[0] && !p.runs[1] && !p.recovers);
    tsr__impact_passes_clear(&p);
    tsr_free(all);
    linear_clear(&l);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(evaluate__shares_and_combines),
        cmocka_unit_test(evaluate__applies_the_noise_mask),
        cmocka_unit_test(sample__one_step),
        cmocka_unit_test(sample__x0_or_x),
        cmocka_unit_test(ksampler_advanced__split_equals_whole),
        cmocka_unit_test(ksampler__noise_mask_protects),
        cmocka_unit_test(ksampler__batch_items_are_independent),
        cmocka_unit_test(sample__cancels_and_says_where),
        cmocka_unit_test(sample__infinity_says_where),
        cmocka_unit_test(one_sigma__adds_its_noise_only),
        cmocka_unit_test(mask_batch__masks_each_picture_by_its_own),
        cmocka_unit_test(sample__refuses_bad_input),
        cmocka_unit_test(impact__passes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
