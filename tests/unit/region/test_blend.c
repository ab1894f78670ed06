/* Blending: exact copies, linear deterministic parts, noise levels; and noise variation. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "region/blend.h"
#include "region/plan_priv.h"
#include "tessera/noise.h"

enum { PLANE = 3, COUNT = 6 };

static void blend__one_owner_is_copied_bit_for_bit(void **state) {
    float a[COUNT] = { 0.1f, 0.2f, 0.3f, 0.4f, 0.5f, 0.6f }, b[COUNT] = { 1, 2, 3, 4, 5, 6 };
    float wa[PLANE] = { 1.0f, 0.0f, 0.0f }, wb[PLANE] = { 0.0f, 0.3f, 0.0f }; /* the last is nobody's */
    float out[COUNT] = { 9, 9, 9, 9, 9, 9 };
    tsr__blend_part parts[2] = { { a, wa, { NULL, 0, 0 } }, { b, wb, { NULL, 0, 0 } } };
    (void)state;
    assert_int_equal(tsr__blend(out, parts, 2, 1.0f, COUNT, PLANE, NULL), TSR_OK);
    assert_true(out[0] == a[0] && out[3] == a[3]);
    assert_true(out[1] == b[1] && out[4] == b[4]);
    assert_true(out[2] == 9.0f && out[5] == 9.0f);
}

static void blend__deterministic_parts_are_linear(void **state) {
    float a[2] = { 1, 5 }, b[2] = { 3, 7 }, wa[1] = { 0.2f }, wb[1] = { 0.6f }, out[2];
    tsr__blend_part parts[2] = { { a, wa, { NULL, 0, 0 } }, { b, wb, { NULL, 0, 0 } } };
    (void)state;
    assert_int_equal(tsr__blend(out, parts, 2, 1.0f, 2, 1, NULL), TSR_OK);
    assert_true(fabsf(out[0] - 2.5f) < 1e-6f && fabsf(out[1] - 6.5f) < 1e-6f);
}

/* One noise in the same amount stays that amount; different noises together fill up to sigma. */
static void blend__noise_reaches_sigma(void **state) {
    float n1 = 1.0f, n2 = -1.0f, w = 0.5f, out;
    float a = 2.0f + 0.6f * n1, b = 2.0f + 0.6f * n1, c = 2.0f + 0.6f * n2, d = 2.0f;
    (void)state;
    tsr__blend_part same[2] = { { &a, &w, { &n1, 0.6f, 7 } }, { &b, &w, { &n1, 0.6f, 7 } } };
    assert_int_equal(tsr__blend(&out, same, 2, 1.0f, 1, 1, NULL), TSR_OK);
    assert_true(fabsf(out - a) < 1e-6f);
    n2 = 0.0f; /* see the first noise's amplitude by itself: 0.6 / sqrt(2) */
    c = 2.0f;
    tsr__blend_part different[2] = { { &a, &w, { &n1, 0.6f, 7 } }, { &c, &w, { &n2, 0.6f, 8 } } };
    assert_int_equal(tsr__blend(&out, different, 2, 1.0f, 1, 1, NULL), TSR_OK);
    assert_true(fabsf(out - (2.0f + 0.6f * sqrtf(0.5f))) < 1e-6f);
    /* A deterministic neighbour: its level is 1, the other's 0.8, together 0.9; sqrt(1 - 0.81) is fresh. */
    tsr__blend_part one[2] = { { &a, &w, { &n1, 0.6f, 7 } }, { &d, &w, { NULL, 0.0f, 0 } } };
    assert_int_equal(tsr__blend(&out, one, 2, 1.0f, 1, 1, NULL), TSR_OK);
    assert_true(fabsf(out - (2.0f + sqrtf(0.19f))) < 1e-6f);
}

/* A plan just big enough for tsr__keep_noise: base and two regions, all soft everywhere. */
static void variation__mixed_noise_keeps_unit_variance(void **state) {
    enum { SIDE = 128, PIXELS = SIDE * SIDE, VALUES = 4 * PIXELS };
    tsr__actor actors[3];
    tsr_plan plan;
    tsr_latent *latent = NULL;
    float *noise = malloc(sizeof *noise * VALUES), *weights = malloc(sizeof *weights * 3 * PIXELS);
    (void)state;
    assert_true(noise && weights);
    assert_int_equal(tsr_latent_new(&latent, 1, 4, SIDE, SIDE, NULL), TSR_OK);
    for (int kind = 0; kind < 8; kind++) {
        memset(&plan, 0, sizeof plan);
        memset(actors, 0, sizeof actors);
        plan.actors = actors;
        plan.n_actors = 3;
        plan.options.seed = 5;
        for (int k = 0; k < 3; k++) {
            actors[k].weights = weights + k * PIXELS;
            for (int i = 0; i < PIXELS; i++) actors[k].weights[i] = k == 0 ? 0.2f : 0.4f;
            if (k == 0) continue;
            actors[k].variation_strength = kind & 1 ? 0.7f : 0.3f * (float)k;
            actors[k].variation_method = kind & 2 ? TSR_VARIATION_SLERP : TSR_VARIATION_LINEAR;
            actors[k].variation_seed = kind & 4 ? 77 : 77 + (uint64_t)k;
        }
        double sum = 0.0;
        assert_int_equal(tsr__keep_noise(noise, &plan, latent, NULL), TSR_OK);
        for (int i = 0; i < VALUES; i++) sum += (double)noise[i] * (double)noise[i];
        assert_true(fabs(sum / VALUES - 1.0) < 0.02);
    }
    free(noise);
    free(weights);
    tsr_latent_free(latent);
}

/* The Impact Pack's rule: mixed where the mask is 1, untouched where 0, no noise between. */
static void variation__restart_rule(void **state) {
    tsr__actor actors[2];
    tsr_plan plan;
    tsr_latent *latent = NULL;
    tsr_mask *mask = NULL;
    float plain[32], own[32], got[32];
    (void)state;
    memset(&plan, 0, sizeof plan);
    memset(actors, 0, sizeof actors);
    assert_int_equal(tsr_latent_new(&latent, 1, 2, 4, 4, NULL), TSR_OK);
    assert_int_equal(tsr_mask_new(&mask, 4, 4, 0.0f, NULL), TSR_OK);
    for (int i = 0; i < 16; i++) mask->values[i] = i < 6 ? 1.0f : i < 8 ? 0.5f : 0.0f;
    plan.actors = actors;
    plan.n_actors = 2;
    actors[1].mask = mask;
    actors[1].variation_seed = 12;
    actors[1].variation_strength = 0.25f;
    assert_int_equal(tsr_initial_noise(plain, latent->shape, 3, NULL, NULL), TSR_OK);
    assert_int_equal(tsr_initial_noise(own, latent->shape, 12, NULL, NULL), TSR_OK);
    assert_int_equal(tsr__restart_noise(got, &plan, latent, 3, NULL), TSR_OK);
    for (int i = 0; i < 32; i++) {
        float mixed = (0.75f * plain[i] + 0.25f * own[i]) / sqrtf(0.625f);
        float want = i % 16 < 6 ? mixed : i % 16 < 8 ? 0.0f : plain[i];
        assert_true(fabsf(got[i] - want) < 1e-6f);
    }
    actors[1].variation_method = TSR_VARIATION_SLERP;
    actors[1].variation_strength = 1.0f; /* all the way to the own noise */
    assert_int_equal(tsr__restart_noise(got, &plan, latent, 3, NULL), TSR_OK);
    for (int i = 0; i < 6; i++) assert_true(fabsf(got[i] - own[i]) < 1e-5f);
    tsr_mask_free(mask);
    tsr_latent_free(latent);
}

static void names__round_trip(void **state) {
    (void)state;
    assert_int_equal(tsr_history_find("restart"), TSR_HISTORY_RESTART);
    assert_int_equal(tsr_seed_2nd_mode_find("seed-seed_2nd"), TSR_SEED_2ND_SUBTRACT);
    assert_int_equal(tsr_recovery_mode_find("ratio between"), TSR_RECOVERY_RATIO_BETWEEN);
    assert_int_equal(tsr_variation_method_find("slerp"), TSR_VARIATION_SLERP);
    assert_int_equal(tsr_history_find("Keep"), -1);
    assert_int_equal(tsr_history_find(NULL), -1);
    for (int i = 0; tsr_seed_2nd_mode_name(i); i++)
        assert_int_equal(tsr_seed_2nd_mode_find(tsr_seed_2nd_mode_name(i)), i);
    assert_null(tsr_recovery_mode_name(3));
    assert_null(tsr_variation_method_name(-1));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blend__one_owner_is_copied_bit_for_bit),
        cmocka_unit_test(blend__deterministic_parts_are_linear),
        cmocka_unit_test(blend__noise_reaches_sigma),
        cmocka_unit_test(variation__mixed_noise_keeps_unit_variance),
        cmocka_unit_test(variation__restart_rule),
        cmocka_unit_test(names__round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
