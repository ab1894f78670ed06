/* Packed weights from bytes that lie somewhere: the same results as packing, and refusals of everything that does not fit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nn/nn.h"

/* Kernel 0: linear. The last two have padding where blocks are 8 or 16 wide. */
static const tsr__nn_shape SHAPES[] = {
    { 64, 32, 0, 1, 0, 0 }, { 32, 64, 1, 1, 0, 0 }, { 64, 32, 3, 1, 1, 1 },
    { 32, 32, 3, 2, 0, 1 }, { 5, 7, 0, 1, 0, 0 },   { 3, 4, 3, 1, 1, 1 },
};
enum { SHAPE_COUNT = sizeof SHAPES / sizeof *SHAPES, SIDE = 6 };

static tsr_status fill(void *user, float *dst, size_t count, tsr_error *err) {
    unsigned *state = user;
    (void)err;
    for (size_t i = 0; i < count; i++) {
        *state = *state * 1664525u + 1013904223u;
        dst[i] = (float)(*state >> 8) / (float)(1u << 24) - 0.5f;
    }
    return TSR_OK;
}

static tsr__nn *open_nn(tsr__precision precision, int threads) {
    tsr__nn *nn = NULL;
    const tsr__nn_options options = { .precision = precision, .threads = threads };
    tsr_error err = TSR_ERROR_INIT;
    if (tsr__nn_new(&nn, &options, &err) != TSR_OK) fail_msg("%s", err.message);
    return nn;
}

static tsr__nn_weight *pack(tsr__nn *nn, const tsr__nn_shape *s, const float *bias) {
    tsr__nn_weight *weight = NULL;
    unsigned seed = 7;
    tsr_error err = TSR_ERROR_INIT;
    tsr_status status = s->k ? tsr__nn_conv_weight(nn, &weight, s->out_c, s->in_c, s->k, s->stride, s->pad_before,
                                                   s->pad_after, fill, &seed, bias, &err)
                             : tsr__nn_linear_weight(nn, &weight, s->out_c, s->in_c, fill, &seed, bias, &err);
    if (status != TSR_OK) fail_msg("%s", err.message);
    return weight;
}

/* What the weight gives for a picture; *count values, free() them. */
static float *run(tsr__nn *nn, const tsr__nn_weight *weight, const tsr__nn_shape *s, size_t *count) {
    tsr__tensor x = { 0 }, y = { 0 };
    tsr_error err = TSR_ERROR_INIT;
    unsigned seed = 11;
    float *in = malloc((size_t)s->in_c * SIDE * SIDE * sizeof *in);
    assert_non_null(in);
    (void)fill(&seed, in, (size_t)s->in_c * SIDE * SIDE, NULL);
    tsr_status status = tsr__nn_from_nchw(nn, &x, in, 1, s->in_c, SIDE, SIDE, &err);
    if (status == TSR_OK)
        status = s->k ? tsr__nn_conv2d(nn, &y, &x, weight, NULL, NULL, &err)
                      : tsr__nn_linear(nn, &y, &x, weight, TSR__ACT_NONE, NULL, &err);
    if (status != TSR_OK) fail_msg("%s", err.message);
    *count = (size_t)y.h * (size_t)y.w * (size_t)y.c;
    float *out = malloc(*count * sizeof *out);
    assert_non_null(out);
    assert_int_equal(tsr__nn_to_nchw(nn, out, &y, &err), TSR_OK);
    tsr__nn_release(nn, &x);
    tsr__nn_release(nn, &y);
    free(in);
    return out;
}

/* A copy that the test owns, as a mapped file would hold it. */
static tsr__nn_packed copy_of(tsr__nn *nn, const tsr__nn_weight *weight) {
    tsr__nn_packed packed;
    tsr_error err = TSR_ERROR_INIT;
    if (tsr__nn_weight_packed(nn, weight, &packed, &err) != TSR_OK) fail_msg("%s", err.message);
    assert_int_equal(packed.size % TSR__NN_PACK_ALIGN, 0);
    void *bytes = aligned_alloc(TSR__NN_PACK_ALIGN, packed.size);
    assert_non_null(bytes);
    memcpy(bytes, packed.data, packed.size);
    packed.data = bytes;
    return packed;
}

static void check_shape(tsr__precision precision, const tsr__nn_shape *s) {
    tsr__nn *first = open_nn(precision, 2), *second = open_nn(precision, 1);
    float *bias = calloc((size_t)s->out_c, sizeof *bias);
    assert_non_null(bias);
    for (int i = 0; i < s->out_c; i++) bias[i] = (float)i;
    tsr_error err = TSR_ERROR_INIT;
    tsr__nn_weight *made = pack(first, s, bias), *taken = NULL, *again = NULL;
    tsr__nn_packed packed = copy_of(first, made), back;
    assert_int_equal(packed.threads, 2);
    if (tsr__nn_weight_from_packed(first, &taken, s, &packed, bias, &err) != TSR_OK) fail_msg("%s", err.message);
    size_t count = 0, other = 0;
    float *expected = run(first, made, s, &count), *found = run(first, taken, s, &other);
    assert_int_equal(count, other);
    assert_memory_equal(found, expected, count * sizeof *found);
    /* what was taken can be written again */
    assert_int_equal(tsr__nn_weight_packed(first, taken, &back, &err), TSR_OK);
    assert_string_equal(back.layout, packed.layout);
    assert_memory_equal(back.data, packed.data, packed.size);
    /* a context of other threads takes it too */
    if (tsr__nn_weight_from_packed(second, &again, s, &packed, bias, &err) != TSR_OK) fail_msg("%s", err.message);
    tsr__nn_weight_free(second, again);
    tsr__nn_weight_free(first, taken);
    tsr__nn_weight_free(first, made);
    assert_int_equal(tsr__nn_weight_bytes(first), 0);
    assert_int_equal(tsr__nn_weight_bytes(second), 0);
    free(expected);
    free(found);
    free(bias);
    free((void *)(uintptr_t)packed.data);
    tsr__nn_free(first);
    tsr__nn_free(second);
}

static void packed__bytes_compute_as_the_weight_does(void **state) {
    (void)state;
    for (int i = 0; i < SHAPE_COUNT; i++) {
        check_shape(TSR__F32, &SHAPES[i]);
        if (tsr__nn_has_bf16()) check_shape(TSR__BF16, &SHAPES[i]);
    }
}

/* 64 x 32 has no padding: its bytes are used where they lie. */
static void packed__bytes_are_not_copied(void **state) {
    (void)state;
    tsr__nn *nn = open_nn(TSR__F32, 1);
    tsr__nn_weight *made = pack(nn, &SHAPES[0], NULL), *taken = NULL;
    tsr__nn_packed packed = copy_of(nn, made), back;
    assert_int_equal(tsr__nn_weight_from_packed(nn, &taken, &SHAPES[0], &packed, NULL, NULL), TSR_OK);
    assert_int_equal(tsr__nn_weight_packed(nn, taken, &back, NULL), TSR_OK);
    assert_ptr_equal(back.data, packed.data);
    assert_int_equal(tsr__nn_weight_bytes(nn), 2 * packed.size);
    tsr__nn_weight_free(nn, made);
    tsr__nn_weight_free(nn, taken);
    free((void *)(uintptr_t)packed.data);
    tsr__nn_free(nn);
}

static void expect_refused(tsr__nn *nn, const tsr__nn_shape *s, const tsr__nn_packed *packed, const char *part) {
    tsr__nn_weight *weight = NULL;
    tsr_error err = TSR_ERROR_INIT;
    assert_int_not_equal(tsr__nn_weight_from_packed(nn, &weight, s, packed, NULL, &err), TSR_OK);
    assert_null(weight);
    if (!strstr(err.message, part)) fail_msg("expected \"%s\": %s", part, err.message);
}

static void packed__refuses_what_does_not_fit(void **state) {
    (void)state;
    tsr__nn *nn = open_nn(TSR__F32, 1);
    tsr__nn_weight *made = pack(nn, &SHAPES[2], NULL);
    tsr__nn_packed packed = copy_of(nn, made), bad = packed;
    const tsr__nn_shape wrong = { 128, 32, 3, 1, 1, 1 }, senseless = { 64, 32, 3, 5, 1, 1 };
    const size_t held = tsr__nn_weight_bytes(nn);
    expect_refused(nn, &wrong, &packed, "packed as");
    expect_refused(nn, &senseless, &packed, "stride 5");
    bad.size -= TSR__NN_PACK_ALIGN;
    expect_refused(nn, &SHAPES[2], &bad, "packed as");
    bad = packed;
    bad.layout[0] = 'b';
    expect_refused(nn, &SHAPES[2], &bad, "packed as \"b32");
    bad = packed;
    bad.data = (const char *)packed.data + 4;
    expect_refused(nn, &SHAPES[2], &bad, "not at a multiple");
    assert_int_equal(tsr__nn_weight_bytes(nn), held);
    tsr__nn_weight_free(nn, made);
    free((void *)(uintptr_t)packed.data);
    tsr__nn_free(nn);
}

static tsr_status never(void *user, float *dst, size_t count, tsr_error *err) {
    (void)user;
    (void)dst;
    (void)count;
    (void)err;
    fail_msg("a plan reads no numbers");
    return TSR_BACKEND;
}

static void plan__has_sizes_and_computes_nothing(void **state) {
    (void)state;
    tsr__nn *plan = open_nn(TSR__F32, 1), *real = open_nn(TSR__F32, 1);
    tsr__nn_weight *planned = NULL, *made = pack(real, &SHAPES[2], NULL);
    tsr__nn_packed expected, found;
    tsr__tensor x = { 0 }, y = { 0 };
    tsr_error err = TSR_ERROR_INIT;
    tsr__nn_plan_only(plan);
    assert_int_equal(tsr__nn_conv_weight(plan, &planned, 64, 32, 3, 1, 1, 1, never, NULL, NULL, &err), TSR_OK);
    assert_int_equal(tsr__nn_weight_packed(plan, planned, &found, &err), TSR_OK);
    assert_int_equal(tsr__nn_weight_packed(real, made, &expected, &err), TSR_OK);
    assert_null(found.data);
    assert_int_equal(found.size, expected.size);
    assert_string_equal(found.layout, expected.layout);
    assert_int_equal(tsr__nn_weight_bytes(plan), 0);
    assert_int_equal(tsr__nn_tensor(plan, &x, 1, SIDE, SIDE, 32, &err), TSR_OK);
    assert_int_equal(tsr__nn_conv2d(plan, &y, &x, planned, NULL, NULL, &err), TSR_BACKEND);
    assert_non_null(strstr(err.message, "planned only"));
    tsr__nn_release(plan, &x);
    tsr__nn_weight_free(plan, planned);
    tsr__nn_weight_free(real, made);
    tsr__nn_free(plan);
    tsr__nn_free(real);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packed__bytes_compute_as_the_weight_does),
        cmocka_unit_test(packed__bytes_are_not_copied),
        cmocka_unit_test(packed__refuses_what_does_not_fit),
        cmocka_unit_test(plan__has_sizes_and_computes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
