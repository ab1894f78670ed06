/* Linear layers and convolutions against plain double loops. */
#include "nn_reference.h"

typedef struct layer {
    float *x, *weight, *bias, *residual, *add;
    double *want;
} layer;

static void free_layer(layer *l) {
    free(l->x);
    free(l->weight);
    free(l->bias);
    free(l->residual);
    free(l->add);
    free(l->want);
}

static void check_linear(tsr__nn *nn, int rows, int in, int out, tsr__act act, int with_bias, int with_residual) {
    size_t count = (size_t)rows * (size_t)out;
    layer l = { random_values(nn, (size_t)rows * (size_t)in, 1),
                random_values(nn, (size_t)in * (size_t)out, 0.3f),
                random_values(nn, (size_t)out, 1),
                random_values(nn, count, 1),
                NULL,
                malloc(count * sizeof(double)) };
    for (int r = 0; r < rows; r++)
        for (int o = 0; o < out; o++) {
            double sum = with_bias ? (double)l.bias[o] : 0;
            for (int i = 0; i < in; i++) sum += (double)l.x[r * in + i] * (double)l.weight[o * in + i];
            sum = reference_act(sum, act);
            l.want[r * out + o] = sum + (with_residual ? (double)l.residual[r * out + o] : 0);
        }
    tsr__nn_weight *w = NULL;
    tsr__tensor x = tensor_of(nn, l.x, 1, 1, rows, in), residual = tensor_of(nn, l.residual, 1, 1, rows, out), y;
    OK(tsr__nn_linear_weight(nn, &w, out, in, fill_copy, l.weight, with_bias ? l.bias : NULL, &err));
    OK(tsr__nn_linear(nn, &y, &x, w, act, with_residual ? &residual : NULL, &err));
    compare(nn, &y, l.want, count, "linear");
    tsr__nn_release(nn, &y);
    tsr__nn_release(nn, &x);
    tsr__nn_release(nn, &residual);
    tsr__nn_weight_free(nn, w);
    free_layer(&l);
}

static void run_linear(tsr__nn *nn) {
    static const int sizes[][3] = { { 1, 1, 1 },  { 2, 320, 1280 }, { 77, 64, 33 },
                                    { 77, 5, 3 }, { 130, 48, 160 }, { 1, 768, 24 } };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int act = TSR__ACT_NONE; act < TSR__ACT_COUNT; act++)
            check_linear(nn, sizes[i][0], sizes[i][1], sizes[i][2], (tsr__act)act, act != 1, (act + (int)i) % 2);
}
static void linear__equals_a_double_loop(void **state) {
    (void)state;
    each_variant(run_linear);
}

typedef struct conv_case {
    int n, h, w, in, out, k, stride, before, after;
} conv_case;

static double conv_at(const conv_case *t, const layer *l, int s, int y, int x, int o) {
    double sum = (double)l->bias[o];
    for (int ky = 0; ky < t->k; ky++)
        for (int kx = 0; kx < t->k; kx++) {
            int iy = y * t->stride - t->before + ky, ix = x * t->stride - t->before + kx;
            if (iy < 0 || ix < 0 || iy >= t->h || ix >= t->w) continue;
            for (int i = 0; i < t->in; i++)
                sum += (double)l->x[((s * t->h + iy) * t->w + ix) * t->in + i] *
                       (double)l->weight[((o * t->in + i) * t->k + ky) * t->k + kx];
        }
    return sum;
}

/* mode: bit 0 residual, bit 1 channel vector, bit 2 the same vector for every sample, bit 3 ReLU (without a vector) */
static void check_conv(tsr__nn *nn, const conv_case *t, int mode) {
    int oh = (t->h + t->before + t->after - t->k) / t->stride + 1;
    int ow = (t->w + t->before + t->after - t->k) / t->stride + 1;
    size_t count = (size_t)(t->n * oh * ow * t->out), taps = (size_t)(t->k * t->k);
    layer l = { random_values(nn, (size_t)(t->n * t->h * t->w * t->in), 1),
                random_values(nn, (size_t)(t->in * t->out) * taps, 0.3f),
                random_values(nn, (size_t)t->out, 1),
                random_values(nn, count, 1),
                random_values(nn, (size_t)(t->n * t->out), 1),
                malloc(count * sizeof(double)) };
    for (int s = 1; s < t->n && mode & 4; s++) memcpy(l.add + s * t->out, l.add, (size_t)t->out * sizeof *l.add);
    for (int i = 0; i < (int)count; i++) {
        int o = i % t->out, x = i / t->out % ow, y = i / t->out / ow % oh, s = i / t->out / ow / oh;
        l.want[i] = conv_at(t, &l, s, y, x, o) + (mode & 1 ? (double)l.residual[i] : 0) +
                    (mode & 2 ? (double)l.add[s * t->out + o] : 0);
        if (mode & 8) l.want[i] = reference_act(l.want[i], TSR__ACT_RELU);
    }
    tsr__nn_weight *w = NULL;
    tsr__tensor x = tensor_of(nn, l.x, t->n, t->h, t->w, t->in);
    tsr__tensor residual = tensor_of(nn, l.residual, t->n, oh, ow, t->out), y;
    OK(tsr__nn_conv_weight(nn, &w, t->out, t->in, t->k, t->stride, t->before, t->after, fill_copy, l.weight, l.bias,
                           &err));
    if (mode & 8) OK(tsr__nn_conv2d_act(nn, &y, &x, w, mode & 1 ? &residual : NULL, TSR__ACT_RELU, &err));
    else OK(tsr__nn_conv2d(nn, &y, &x, w, mode & 2 ? l.add : NULL, mode & 1 ? &residual : NULL, &err));
    assert_int_equal(y.h, oh);
    assert_int_equal(y.w, ow);
    char what[96];
    snprintf(what, sizeof what, "convolution %dx%dx%dx%d -> %d, kernel %d, stride %d, mode %d", t->n, t->h, t->w, t->in,
             t->out, t->k, t->stride, mode);
    compare(nn, &y, l.want, count, what);
    tsr__nn_release(nn, &y);
    tsr__nn_release(nn, &x);
    tsr__nn_release(nn, &residual);
    tsr__nn_weight_free(nn, w);
    free_layer(&l);
}

static void run_conv(tsr__nn *nn) {
    static const conv_case cases[] = {
        { 2, 9, 7, 4, 32, 3, 1, 1, 1 },  { 1, 8, 8, 32, 4, 3, 1, 1, 1 },     { 2, 6, 6, 48, 40, 3, 1, 1, 1 },
        { 2, 8, 6, 16, 16, 3, 2, 1, 1 }, { 1, 9, 9, 24, 24, 3, 2, 0, 1 },    { 2, 5, 4, 33, 17, 1, 1, 0, 0 },
        { 1, 1, 1, 3, 5, 3, 1, 1, 1 },   { 1, 1, 1, 8, 8, 1, 1, 0, 0 },      { 1, 16, 16, 3, 7, 8, 2, 0, 0 },
        { 2, 8, 8, 8, 8, 3, 2, 0, 1 },   { 1, 12, 10, 64, 128, 3, 1, 1, 1 }, { 3, 4, 4, 80, 64, 3, 1, 1, 1 },
    };
    static const int modes[] = { 0, 1, 2, 3, 6, 7, 8, 9 };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t k = 0; k < sizeof modes / sizeof *modes; k++) check_conv(nn, &cases[i], modes[k]);
}
static void conv2d__equals_a_double_loop(void **state) {
    (void)state;
    each_variant(run_conv);
}

/* One weight, many shapes, with and without a residual: its packed bytes may not grow beyond one second layout. */
static void run_shapes(tsr__nn *nn) {
    tsr__nn_weight *w = NULL;
    float *weight = random_values(nn, 64 * 64 * 9, 0.1f);
    OK(tsr__nn_conv_weight(nn, &w, 64, 64, 3, 1, 1, 1, fill_copy, weight, NULL, &err));
    size_t packed = tsr__nn_weight_bytes(nn);
    assert_true(packed >= 64 * 64 * 9 * (tsr__nn_precision(nn) == TSR__BF16 ? 2u : 4u));
    for (int side = 1; side < 40; side += 6) {
        float *values = random_values(nn, (size_t)(side * 8 * 64), 1);
        tsr__tensor x = tensor_of(nn, values, 1, side, 8, 64), y;
        int finite = 0;
        OK(tsr__nn_conv2d(nn, &y, &x, w, NULL, side % 4 == 1 ? &x : NULL, &err));
        OK(tsr__nn_is_finite(nn, &y, &finite, &err));
        assert_true(finite);
        tsr__nn_release(nn, &y);
        tsr__nn_release(nn, &x);
        free(values);
    }
    assert_true(tsr__nn_weight_bytes(nn) <= 2 * packed);
    tsr__nn_weight_free(nn, w);
    free(weight);
}
static void conv2d__serves_many_shapes_with_one_weight(void **state) {
    (void)state;
    each_variant(run_shapes);
}

/* Rows add up by kind and shape, and say how much was computed. */
static void run_profile(tsr__nn *nn) {
    tsr__nn_weight *w = NULL;
    float weight[12] = { 0 };
    int count = -1;
    tsr__tensor x, y;
    assert_null(tsr__nn_profile_rows(nn, &count));
    assert_int_equal(count, 0);
    OK(tsr__nn_linear_weight(nn, &w, 3, 4, fill_copy, weight, NULL, &err));
    x = tensor_of(nn, weight, 1, 1, 2, 4);
    OK(tsr__nn_activate(nn, &x, TSR__ACT_NONE, &err));
    OK(tsr__nn_profile_start(nn, &err));
    for (int i = 0; i < 3; i++) {
        OK(tsr__nn_linear(nn, &y, &x, w, TSR__ACT_NONE, NULL, &err));
        tsr__nn_release(nn, &y);
    }
    const tsr__nn_profile_row *rows = tsr__nn_profile_rows(nn, &count);
    assert_int_equal(count, 1);
    assert_string_equal(rows[0].kind, "linear");
    assert_int_equal(rows[0].calls, 3);
    assert_true(rows[0].work == 3 * 2.0 * 2 * 4 * 3 && rows[0].seconds > 0);
    tsr__nn_profile_stop(nn);
    tsr__nn_release(nn, &x);
    tsr__nn_weight_free(nn, w);
}
static void profile__adds_up_by_shape(void **state) {
    (void)state;
    each_variant(run_profile);
}

static tsr_status fill_fails(void *user, float *dst, size_t count, tsr_error *err) {
    (void)user;
    (void)dst;
    (void)count;
    if (err && err->status == TSR_OK) err->status = TSR_IO;
    return TSR_IO;
}
static void run_refusals(tsr__nn *nn) {
    tsr_error refusal = TSR_ERROR_INIT;
    tsr__nn_weight *w = NULL;
    float weight[12] = { 0 };
    assert_int_equal(tsr__nn_linear_weight(nn, &w, 3, 4, fill_fails, NULL, NULL, &refusal), TSR_IO);
    assert_null(w);
    OK(tsr__nn_linear_weight(nn, &w, 3, 4, fill_copy, weight, NULL, &err));
    tsr__tensor x, y, residual;
    OK(tsr__nn_tensor(nn, &x, 1, 1, 2, 5, &err));
    refusal = (tsr_error)TSR_ERROR_INIT;
    assert_int_equal(tsr__nn_linear(nn, &y, &x, w, TSR__ACT_NONE, NULL, &refusal), TSR_BAD_ARGUMENT);
    assert_null(y.data);
    assert_non_null(strstr(refusal.message, "5 channels"));
    tsr__nn_release(nn, &x);
    OK(tsr__nn_tensor(nn, &x, 1, 1, 2, 4, &err));
    OK(tsr__nn_tensor(nn, &residual, 1, 2, 1, 3, &err));
    assert_int_equal(tsr__nn_linear(nn, &y, &x, w, TSR__ACT_NONE, &residual, NULL), TSR_BAD_ARGUMENT);
    assert_int_equal(tsr__nn_conv2d(nn, &y, &x, w, NULL, NULL, NULL), TSR_BAD_ARGUMENT);
    tsr__nn_release(nn, &residual);
    tsr__nn_release(nn, &x);
    tsr__nn_weight_free(nn, w);
    assert_int_equal(tsr__nn_tensor(nn, &x, 1, 0, 2, 4, NULL), TSR_BAD_ARGUMENT);
    assert_int_equal(tsr__nn_tensor(nn, &x, 1 << 20, 1 << 20, 1 << 20, 1 << 20, NULL), TSR_NO_MEMORY);
}
static void layers__refuse_wrong_shapes(void **state) {
    (void)state;
    each_variant(run_refusals);
}

static void nn_new__refuses_bf16_without_the_cpu(void **state) {
    (void)state;
    tsr__nn *nn = NULL;
    tsr_error err = TSR_ERROR_INIT;
    tsr__nn_options options = { TSR__BF16, 1 };
    setenv("TSR_CPU", "avx2", 1);
    assert_int_equal(tsr__nn_new(&nn, &options, &err), TSR_UNSUPPORTED);
    unsetenv("TSR_CPU");
    assert_null(nn);
    assert_non_null(strstr(err.message, "--precision f32"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear__equals_a_double_loop),
        cmocka_unit_test(conv2d__equals_a_double_loop),
        cmocka_unit_test(conv2d__serves_many_shapes_with_one_weight),
        cmocka_unit_test(layers__refuse_wrong_shapes),
        cmocka_unit_test(profile__adds_up_by_shape),
        cmocka_unit_test(nn_new__refuses_bf16_without_the_cpu),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
