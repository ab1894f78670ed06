/* unit/noise - properties of the random numbers that golden data alone does not show. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "noise/seed_sequence.h"
#include "tessera/noise.h"

enum { COUNT = 4096 };

/* The reference values of the paper's own program, seed 5489: the 1st and the 10000th word. */
static void rng__is_mt19937(void **state) {
    (void)state;
    tsr_rng rng;
    tsr_rng_seed(&rng, 5489);
    assert_int_equal(tsr_rng_next_u32(&rng), 3499211612u);
    uint32_t last = 0;
    for (int i = 1; i < 10000; i++) last = tsr_rng_next_u32(&rng);
    assert_int_equal(last, 4123659995u);
}

static void rng__uses_the_low_half_of_a_seed(void **state) {
    (void)state;
    tsr_rng a, b;
    tsr_rng_seed(&a, 7);
    tsr_rng_seed(&b, 7 + (UINT64_C(9) << 32));
    assert_int_equal(tsr_rng_next_u32(&a), tsr_rng_next_u32(&b));
}

static void rng__copies_fork_the_stream(void **state) {
    (void)state;
    tsr_rng a, b;
    float x[20], y[20];
    tsr_rng_seed(&a, 3);
    tsr_rng_randn(&a, x, 3); /* leaves one normal waiting */
    b = a;
    tsr_rng_randn(&a, x, 20);
    tsr_rng_randn(&b, y, 20);
    assert_memory_equal(x, y, sizeof x);
    tsr_rng_randn(&a, x, 1);
    tsr_rng_randn(&b, y, 1);
    assert_true(x[0] == y[0]);
    tsr_rng_randn(&a, x, 0);
}

/* numpy.random.SeedSequence(0, pool_size=24) differs from spawn_key=(0, 0): a padded key is not no key. */
static void seed_sequence__tells_keys_apart(void **state) {
    (void)state;
    assert_true(tsr__seed_root(0) != tsr__seed_spawn(0, 0, 0));
    assert_true(tsr__seed_spawn(5, 2, 1) != tsr__seed_spawn(5, 1, 2));
    assert_true(tsr__seed_spawn(5, 2, 1) != tsr__seed_spawn(6, 2, 1));
    assert_true(tsr__seed_spawn(5, UINT64_C(1) << 40, 41) != tsr__seed_spawn(5, 0, 41));
}

static void initial_noise__refuses_bad_shapes_and_indices(void **state) {
    (void)state;
    float out[16];
    const int good[4] = { 1, 1, 4, 4 }, zero[4] = { 1, 0, 4, 4 }, huge[4] = { 1, 1 << 20, 1 << 20, 1 << 20 };
    const int negative = -1, large = 4096;
    assert_int_equal(tsr_initial_noise(out, good, 1, NULL, NULL), TSR_OK);
    assert_int_equal(tsr_initial_noise(out, zero, 1, NULL, NULL), TSR_BAD_ARGUMENT);
    assert_int_equal(tsr_initial_noise(out, huge, 1, NULL, NULL), TSR_TOO_LARGE);
    assert_int_equal(tsr_initial_noise(out, good, 1, &negative, NULL), TSR_BAD_ARGUMENT);
    assert_int_equal(tsr_initial_noise(out, good, 1, &large, NULL), TSR_BAD_ARGUMENT);
    assert_int_equal(tsr_initial_noise(NULL, good, 1, NULL, NULL), TSR_BAD_ARGUMENT);
}

static tsr_brownian *tree(void) {
    tsr_brownian *out = NULL;
    assert_int_equal(tsr_brownian_new(&out, COUNT, 0.03f, 14.6f, 11, NULL), TSR_OK);
    return out;
}

/* W(b) - W(a) and W(c) - W(b) add up to W(c) - W(a), whatever was asked before. */
static void brownian__increments_add_up(void **state) {
    (void)state;
    tsr_brownian *t = tree();
    float *whole = malloc(3 * COUNT * sizeof *whole), *low = whole + COUNT, *high = whole + 2 * COUNT;
    assert_int_equal(tsr_brownian_query(t, 2.5f, 9.0f, whole, NULL), TSR_OK);
    assert_int_equal(tsr_brownian_query(t, 4.1f, 9.0f, high, NULL), TSR_OK);
    assert_int_equal(tsr_brownian_query(t, 2.5f, 4.1f, low, NULL), TSR_OK);
    double sum = 0;
    for (int i = 0; i < COUNT; i++) {
        float both = low[i] * sqrtf(1.6f) + high[i] * sqrtf(4.9f);
        assert_true(fabsf(both - whole[i] * sqrtf(6.5f)) < 2e-5f);
        sum += (double)whole[i] * (double)whole[i];
    }
    assert_true(fabs(sum / COUNT - 1) < 0.1); /* unit variance */
    free(whole);
    tsr_brownian_free(t);
}

static void brownian__direction_turns_the_sign(void **state) {
    (void)state;
    tsr_brownian *t = tree();
    float *a = malloc(2 * COUNT * sizeof *a), *b = a + COUNT;
    assert_int_equal(tsr_brownian_query(t, 7.0f, 3.0f, a, NULL), TSR_OK);
    assert_int_equal(tsr_brownian_query(t, 3.0f, 7.0f, b, NULL), TSR_OK);
    for (int i = 0; i < COUNT; i++) assert_true(a[i] == -b[i]);
    free(a);
    tsr_brownian_free(t);
}

static void brownian__outside_and_empty_give_zeros(void **state) {
    (void)state;
    static const float asked[][2] = { { 2, 2 }, { 0.02f, 0.001f }, { 20, 30 } };
    tsr_brownian *t = tree();
    float *out = malloc(COUNT * sizeof *out);
    for (int k = 0; k < 3; k++) {
        memset(out, 0xff, COUNT * sizeof *out);
        assert_int_equal(tsr_brownian_query(t, asked[k][0], asked[k][1], out, NULL), TSR_OK);
        for (int i = 0; i < COUNT; i++) assert_true(out[i] == 0);
    }
    assert_int_equal(tsr_brownian_query(t, NAN, 1, out, NULL), TSR_BAD_ARGUMENT);
    free(out);
    tsr_brownian_free(t);
}

static void brownian__refuses_bad_ranges(void **state) {
    (void)state;
    tsr_brownian *t = NULL;
    assert_int_equal(tsr_brownian_new(&t, 4, 1, 1, 0, NULL), TSR_BAD_ARGUMENT);
    assert_int_equal(tsr_brownian_new(&t, 4, 1, INFINITY, 0, NULL), TSR_BAD_ARGUMENT);
    assert_int_equal(tsr_brownian_new(&t, 0, 1, 2, 0, NULL), TSR_BAD_ARGUMENT);
    assert_null(t);
    tsr_brownian_free(NULL);
}

/* A range that cannot be halved down to the asked point ends in an error, not in an endless walk. */
static void brownian__survives_an_absurd_range(void **state) {
    (void)state;
    tsr_brownian *t = NULL;
    float out[16];
    assert_int_equal(tsr_brownian_new(&t, 16, 0.001f, 1e30f, 0, NULL), TSR_OK);
    assert_int_equal(tsr_brownian_query(t, 0.5f, 1.0f, out, NULL), TSR_BAD_ARGUMENT);
    tsr_brownian_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rng__is_mt19937),
        cmocka_unit_test(rng__uses_the_low_half_of_a_seed),
        cmocka_unit_test(rng__copies_fork_the_stream),
        cmocka_unit_test(seed_sequence__tells_keys_apart),
        cmocka_unit_test(initial_noise__refuses_bad_shapes_and_indices),
        cmocka_unit_test(brownian__increments_add_up),
        cmocka_unit_test(brownian__direction_turns_the_sign),
        cmocka_unit_test(brownian__outside_and_empty_give_zeros),
        cmocka_unit_test(brownian__refuses_bad_ranges),
        cmocka_unit_test(brownian__survives_an_absurd_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
