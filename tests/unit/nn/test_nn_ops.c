/* Norms, elementwise operations, layout changes and the pool against plain double loops. */
#include "nn_reference.h"

static void check_group_norm(tsr__nn *nn, int n, int h, int w, int c, int groups, int silu, float offset) {
    size_t count = (size_t)(n * h * w * c);
    float *x = random_values(nn, count, 1), *gamma = random_values(nn, (size_t)c, 1),
          *beta = random_values(nn, (size_t)c, 1);
    double *want = malloc(count * sizeof *want);
    int width = c / groups, pixels = h * w;
    for (size_t i = 0; i < count; i++) x[i] += offset;
    for (int s = 0; s < n; s++)
        for (int g = 0; g < groups; g++) {
            double sum = 0, squares = 0;
            for (int p = 0; p < pixels; p++)
                for (int i = g * width; i < (g + 1) * width; i++) sum += (double)x[(s * pixels + p) * c + i];
            double mean = sum / (pixels * width);
            for (int p = 0; p < pixels; p++)
                for (int i = g * width; i < (g + 1) * width; i++) {
                    double d = (double)x[(s * pixels + p) * c + i] - mean;
                    squares += d * d;
                }
            double factor = 1 / sqrt(squares / (pixels * width) + 1e-5);
            for (int p = 0; p < pixels; p++)
                for (int i = g * width; i < (g + 1) * width; i++) {
                    int at = (s * pixels + p) * c + i;
                    double y = ((double)x[at] - mean) * factor * (double)gamma[i] + (double)beta[i];
                    want[at] = reference_act(y, silu ? TSR__ACT_SILU : TSR__ACT_NONE);
                }
        }
    tsr__tensor in = tensor_of(nn, x, n, h, w, c), out;
    OK(tsr__nn_group_norm(nn, &out, &in, groups, 1e-5f, gamma, beta, silu, &err));
    compare(nn, &out, want, count, "group norm");
    tsr__nn_release(nn, &in);
    tsr__nn_release(nn, &out);
    free(x);
    free(gamma);
    free(beta);
    free(want);
}
static void run_group_norm(tsr__nn *nn) {
    check_group_norm(nn, 1, 1, 1, 4, 1, 0, 0);
    check_group_norm(nn, 2, 5, 3, 12, 3, 1, 0);
    check_group_norm(nn, 2, 1, 1, 32, 32, 1, 0);
    check_group_norm(nn, 2, 9, 11, 320, 32, 1, 0);
    check_group_norm(nn, 1, 64, 33, 40, 8, 0, 2);
    check_group_norm(nn, 1, 16, 16, 7, 1, 1, -3);
}
static void group_norm__equals_a_double_loop(void **state) {
    (void)state;
    each_variant(run_group_norm);
}

static void run_layer_norm(tsr__nn *nn) {
    static const int sizes[][2] = { { 1, 2 }, { 77, 768 }, { 3, 33 }, { 5, 16 }, { 200, 40 } };
    for (size_t t = 0; t < sizeof sizes / sizeof *sizes; t++) {
        int rows = sizes[t][0], c = sizes[t][1];
        size_t count = (size_t)(rows * c);
        float *x = random_values(nn, count, 2), *gamma = random_values(nn, (size_t)c, 1),
              *beta = random_values(nn, (size_t)c, 1);
        double *want = malloc(count * sizeof *want);
        for (int r = 0; r < rows; r++) {
            double mean = 0, squares = 0;
            for (int i = 0; i < c; i++) mean += (double)x[r * c + i] / c;
            for (int i = 0; i < c; i++) squares += ((double)x[r * c + i] - mean) * ((double)x[r * c + i] - mean) / c;
            for (int i = 0; i < c; i++)
                want[r * c + i] =
                    ((double)x[r * c + i] - mean) / sqrt(squares + 1e-5) * (double)gamma[i] + (double)beta[i];
        }
        tsr__tensor in = tensor_of(nn, x, 1, 1, rows, c), out;
        OK(tsr__nn_layer_norm(nn, &out, &in, 1e-5f, gamma, beta, &err));
        compare(nn, &out, want, count, "layer norm");
        tsr__nn_release(nn, &in);
        tsr__nn_release(nn, &out);
        free(x);
        free(gamma);
        free(beta);
        free(want);
    }
}
static void layer_norm__equals_a_double_loop(void **state) {
    (void)state;
    each_variant(run_layer_norm);
}

static void run_elementwise(tsr__nn *nn) {
    static const int sizes[][2] = { { 1, 2 }, { 3, 34 }, { 77, 640 }, { 9, 6 } };
    for (size_t t = 0; t < sizeof sizes / sizeof *sizes; t++) {
        int rows = sizes[t][0], c = sizes[t][1];
        size_t count = (size_t)(rows * c);
        float *x = random_values(nn, count, 3), *more = random_values(nn, count, 3);
        double *want = malloc(count * sizeof *want);
        x[0] = -90.0f; /* far tails must neither overflow nor turn into NaN */
        x[count - 1] = 90.0f;
        tsr__tensor in = tensor_of(nn, x, 1, rows, 1, c), other = tensor_of(nn, more, 1, rows, 1, c), out;
        OK(tsr__nn_geglu(nn, &out, &in, &err));
        for (int r = 0; r < rows; r++)
            for (int i = 0; i < c / 2; i++)
                want[r * (c / 2) + i] =
                    (double)x[r * c + i] * reference_act((double)x[r * c + c / 2 + i], TSR__ACT_GELU);
        compare(nn, &out, want, count / 2, "geglu");
        tsr__nn_release(nn, &out);
        OK(tsr__nn_add(nn, &other, &in, &err));
        for (size_t i = 0; i < count; i++) want[i] = (double)x[i] + (double)more[i];
        compare(nn, &other, want, count, "add");
        tsr__nn_release(nn, &other);
        tsr__nn_release(nn, &in);
        for (int act = TSR__ACT_NONE; act < TSR__ACT_COUNT; act++) {
            in = tensor_of(nn, x, 1, rows, 1, c);
            OK(tsr__nn_activate(nn, &in, (tsr__act)act, &err));
            for (size_t i = 0; i < count; i++) want[i] = reference_act((double)x[i], (tsr__act)act);
            compare(nn, &in, want, count, "activation");
            tsr__nn_release(nn, &in);
        }
        free(x);
        free(more);
        free(want);
    }
}
static void elementwise__equals_double_arithmetic(void **state) {
    (void)state;
    each_variant(run_elementwise);
}

static void check_layout(tsr__nn *nn, int n, int c, int h, int w) {
    size_t count = (size_t)(n * c * h * w);
    float *x = random_values(nn, count, 1), *back = malloc(4 * count * sizeof *back);
    double *want = malloc(4 * count * sizeof *want);
    tsr__tensor in, big, both;
    OK(tsr__nn_from_nchw(nn, &in, x, n, c, h, w, &err));
    OK(tsr__nn_to_nchw(nn, back, &in, &err));
    assert_memory_equal(x, back, count * sizeof *x);
    for (int s = 0; s < n; s++)
        for (int y = 0; y < 2 * h; y++)
            for (int i = 0; i < 2 * w; i++)
                for (int k = 0; k < c; k++)
                    want[((s * 2 * h + y) * 2 * w + i) * c + k] = (double)x[((s * c + k) * h + y / 2) * w + i / 2];
    OK(tsr__nn_upsample2x(nn, &big, &in, &err));
    compare(nn, &big, want, 4 * count, "upsample");
    OK(tsr__nn_concat(nn, &both, &in, &in, &err));
    for (int row = 0; row < n * h * w; row++)
        for (int k = 0; k < 2 * c; k++)
            want[row * 2 * c + k] = (double)x[(row / (h * w) * c + k % c) * h * w + row % (h * w)];
    compare(nn, &both, want, 2 * count, "concat");
    tsr__nn_release(nn, &in);
    tsr__nn_release(nn, &big);
    tsr__nn_release(nn, &both);
    free(x);
    free(back);
    free(want);
}
static void run_layout(tsr__nn *nn) {
    check_layout(nn, 1, 1, 1, 1);
    check_layout(nn, 2, 4, 9, 7);
    check_layout(nn, 1, 35, 3, 70);
    check_layout(nn, 3, 17, 2, 2);
}
static void layout_changes__lose_nothing(void **state) {
    (void)state;
    each_variant(run_layout);
}

static void run_finite(tsr__nn *nn) {
    for (size_t count = 1; count < 70; count += 17)
        for (int bad = 0; bad < 3; bad++) {
            float *x = random_values(nn, count, 1);
            int finite = -1;
            if (bad) x[count / 2] = bad == 1 ? NAN : -INFINITY;
            tsr__tensor in = tensor_of(nn, x, 1, 1, (int)count, 1);
            OK(tsr__nn_is_finite(nn, &in, &finite, &err));
            assert_int_equal(finite, !bad);
            tsr__nn_release(nn, &in);
            free(x);
        }
}
static void is_finite__sees_nan_and_infinity(void **state) {
    (void)state;
    each_variant(run_finite);
}

static void run_timesteps(tsr__nn *nn) {
    static const float steps[] = { 0.0f, 999.0f, 500.25f };
    tsr__tensor out;
    double want[3 * 320];
    for (int s = 0; s < 3; s++)
        for (int i = 0; i < 160; i++) {
            double angle = (double)(steps[s] * (float)exp(-log(10000.0) * i / 160.0));
            want[s * 320 + i] = cos(angle);
            want[s * 320 + 160 + i] = sin(angle);
        }
    OK(tsr__nn_timestep_embedding(nn, &out, steps, 3, 320, &err));
    float *values = malloc(sizeof(float) * 960);
    OK(tsr__nn_to_rows(nn, values, &out, &err));
    /* Frequencies are float32, as in the reference: an angle of 1000 carries an error of 1e-4. */
    for (int i = 0; i < 960; i++)
        assert_true(fabs((double)values[i] - want[i]) < (tsr__nn_precision(nn) == TSR__BF16 ? 8e-3 : 3e-4));
    free(values);
    tsr__nn_release(nn, &out);
    assert_int_equal(tsr__nn_timestep_embedding(nn, &out, steps, 3, 321, NULL), TSR_BAD_ARGUMENT);
}
static void timestep_embedding__is_cosines_then_sines(void **state) {
    (void)state;
    each_variant(run_timesteps);
}

static void run_pool(tsr__nn *nn) {
    tsr__tensor a, b, c;
    OK(tsr__nn_tensor(nn, &a, 1, 512, 512, 16, &err));
    size_t held = tsr__nn_peak_bytes(nn);
    void *first = a.data;
    assert_int_equal((uintptr_t)first % 64, 0);
    tsr__nn_release(nn, &a);
    OK(tsr__nn_tensor(nn, &b, 1, 512, 512, 16, &err));
    assert_ptr_equal(b.data, first);
    assert_int_equal(tsr__nn_peak_bytes(nn), held);
    OK(tsr__nn_tensor(nn, &c, 1, 3, 1, 1, &err));
    assert_true(tsr__nn_peak_bytes(nn) > held);
    tsr__nn_release(nn, &b);
    tsr__nn_release(nn, &c);
    assert_null(c.data);
    tsr__nn_release(nn, &c);
    tsr__nn_trim(nn);
}
static void pool__reuses_memory_and_counts_its_peak(void **state) {
    (void)state;
    each_variant(run_pool);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(group_norm__equals_a_double_loop),
        cmocka_unit_test(layer_norm__equals_a_double_loop),
        cmocka_unit_test(elementwise__equals_double_arithmetic),
        cmocka_unit_test(layout_changes__lose_nothing),
        cmocka_unit_test(is_finite__sees_nan_and_infinity),
        cmocka_unit_test(timestep_embedding__is_cosines_then_sines),
        cmocka_unit_test(pool__reuses_memory_and_counts_its_peak),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
