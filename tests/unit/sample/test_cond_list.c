/* test_cond_list.c - lists of conditionings on a network that answers with a constant for each conditioning. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "sample/cond_list.h"

enum { H = 16, W = 24, PIXELS = H * W };

/* cond is a float: every value of the answer. */
typedef struct network {
    int calls, evaluations, smallest; /* smallest: pixels of the smallest evaluation */
    int left, top;                    /* of the smallest, on what the run starts from */
    const tsr_start_picture *start;   /* of all */
} network;

static tsr_status constant(void *user, const int shape[4], const tsr_denoise_call *calls, int count, tsr_error *err) {
    network *n = user;
    (void)err;
    n->calls++;
    n->evaluations += count;
    if (!n->smallest || shape[2] * shape[3] < n->smallest) {
        n->smallest = shape[2] * shape[3];
        n->left = calls[0].start_left;
        n->top = calls[0].start_top;
    }
    for (int i = 0; i < count; i++) assert_ptr_equal(calls[i].start, n->start);
    for (int i = 0; i < count; i++)
        for (int k = 0; k < shape[0] * shape[1] * shape[2] * shape[3]; k++)
            calls[i].denoised[k] = *(const float *)calls[i].cond;
    return TSR_OK;
}

static const float ONE = 1.0f, THREE = 3.0f, MINUS = -5.0f;

static tsr__cond_entry plain(const float *value) {
    tsr__cond_entry e = { .cond = value, .strength = 1.0f, .mask_strength = 1.0f, .start_sigma = 1e9f };
    return e;
}

/* Both sides at one sigma: out[0] positive, out[1] negative. */
static network evaluate(float out[2][2 * PIXELS], const tsr__cond_entry *positive, int n_positive,
                        const tsr__cond_entry *negative, int n_negative, float sigma) {
    static const float latent[2 * PIXELS];
    static const tsr_start_picture start = { W, H, latent, NULL };
    network n = { .start = &start };
    const tsr_denoiser net = { .struct_size = sizeof net, .user = &n, .denoise = constant, .latent_scale = 1.0f };
    const int shape[4] = { 2, 1, H, W };
    float x[2 * PIXELS] = { 0 };
    tsr__cond_denoiser lists;
    tsr__cond_pair *pair = NULL;
    tsr_error err = TSR_ERROR_INIT;
    assert_int_equal(tsr__cond_pair_new(&pair, positive, n_positive, negative, n_negative, &err), TSR_OK);
    tsr__cond_denoiser_init(&lists, &net);
    const tsr_denoise_call calls[2] = {
        { .x = x, .sigma = sigma, .cond = tsr__cond_pair_side(pair, 0), .denoised = out[0], .start = &start },
        { .x = x, .sigma = sigma, .cond = tsr__cond_pair_side(pair, 1), .denoised = out[1], .start = &start }
    };
    assert_int_equal(lists.denoiser.denoise(lists.denoiser.user, shape, calls, 2, &err), TSR_OK);
    tsr__cond_pair_free(pair);
    return n;
}

static void cond_list__masks_and_strengths_weigh(void **state) {
    float out[2][2 * PIXELS];
    tsr_mask *mask = NULL;
    (void)state;
    assert_int_equal(tsr_mask_from_box(&mask, W * 8, H * 8, 0, 0, W * 4, H * 8, NULL), TSR_OK);
    tsr__cond_entry both[2] = { plain(&ONE), plain(&THREE) }, negative = plain(&MINUS);
    both[1].mask = mask;
    both[1].mask_strength = 3.0f;
    network n = evaluate(out, both, 2, &negative, 1, 1.0f);
    assert_int_equal(n.calls, 1);
    assert_int_equal(n.evaluations, 3);
    for (int y = 0; y < H; y++) {
        assert_true(fabsf(out[0][y * W + 2] - 2.5f) < 1e-6f); /* (1 + 3 * 3) / 4 */
        assert_true(fabsf(out[0][PIXELS + y * W + W - 2] - 1.0f) < 1e-6f);
        assert_true(out[1][y * W] == -5.0f);
    }
    tsr_mask_free(mask);
}

static void cond_list__areas_ramp_and_are_evaluated_alone(void **state) {
    float out[2][2 * PIXELS];
    (void)state;
    tsr__cond_entry both[2] = { plain(&ONE), plain(&THREE) }, negative = plain(&MINUS);
    both[1].area_kind = TSR__AREA_LATENT;
    const double area[4] = { H, 12, 0, 12 }; /* the right half */
    memcpy(both[1].area, area, sizeof area);
    network n = evaluate(out, both, 2, &negative, 1, 1.0f);
    /* Two whole ones, the half on both sides: the negative is evaluated there too. */
    assert_int_equal(n.evaluations, 4);
    assert_int_equal(n.smallest, H * 12);
    assert_int_equal(n.left, 12);
    assert_int_equal(n.top, 0);
    assert_true(out[0][11] == 1.0f);
    /* A side of 12 ramps over 3: weight 1/3 at its first column. */
    assert_true(fabsf(out[0][12] - (1.0f + 3.0f / 3.0f) / (1.0f + 1.0f / 3.0f)) < 1e-6f);
    assert_true(fabsf(out[0][W - 1] - 2.0f) < 1e-6f);
    assert_true(out[1][5] == -5.0f && fabsf(out[1][W - 1] + 5.0f) < 1e-6f);
}

static void cond_list__shares_round_half_to_even(void **state) {
    float out[2][2 * PIXELS];
    (void)state;
    tsr__cond_entry both[2] = { plain(&ONE), plain(&THREE) }, negative = plain(&MINUS);
    both[1].area_kind = TSR__AREA_SHARE;
    const double area[4] = { 0.0, 2.5 / W, 0.0, 3.5 / W }; /* 1 high (the least), 2 wide, from column 4 */
    memcpy(both[1].area, area, sizeof area);
    evaluate(out, both, 2, &negative, 1, 1.0f);
    for (int x = 0; x < W; x++) assert_int_equal(fabsf(out[0][x] - 1.0f) > 1e-6f, x == 4 || x == 5);
    assert_true(out[0][W + 4] == 1.0f);
}

static void cond_list__bounds_follow_the_mask(void **state) {
    float out[2][2 * PIXELS];
    tsr_mask *mask = NULL;
    (void)state;
    assert_int_equal(tsr_mask_from_box(&mask, W, H, 10, 4, 10, 9, NULL), TSR_OK);
    tsr__cond_entry only = plain(&THREE), negative = plain(&MINUS);
    only.mask = mask;
    only.mask_bounds = 1;
    network n = evaluate(out, &only, 1, &negative, 1, 1.0f);
    assert_int_equal(n.smallest, 10 * 9);
    assert_int_equal(n.left, 10);
    assert_int_equal(n.top, 4);
    assert_true(out[0][0] == 0.0f); /* nobody says anything there */
    assert_true(fabsf(out[0][4 * W + 10] - 3.0f) < 1e-6f);
    tsr_mask_free(mask);
}

static void cond_list__ranges_leave_entries_out(void **state) {
    float out[2][2 * PIXELS];
    (void)state;
    tsr__cond_entry both[2] = { plain(&ONE), plain(&THREE) }, negative = plain(&MINUS);
    both[0].start_sigma = 5.0f;
    both[1].end_sigma = 5.0f;
    assert_int_equal(evaluate(out, both, 2, &negative, 1, 6.0f).evaluations, 2);
    assert_true(out[0][0] == 3.0f);
    evaluate(out, both, 2, &negative, 1, 4.0f);
    assert_true(out[0][0] == 1.0f);
    evaluate(out, both, 2, &negative, 1, 5.0f);
    assert_true(out[0][0] == 2.0f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cond_list__masks_and_strengths_weigh),
        cmocka_unit_test(cond_list__areas_ramp_and_are_evaluated_alone),
        cmocka_unit_test(cond_list__shares_round_half_to_even),
        cmocka_unit_test(cond_list__bounds_follow_the_mask),
        cmocka_unit_test(cond_list__ranges_leave_entries_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
