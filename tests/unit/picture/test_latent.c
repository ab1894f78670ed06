/* test_latent.c - latents as plain memory, and resizing's own rules beside the golden numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tessera/latent.h"

static tsr_latent *make_latent(int n, int c, int h, int w, float first, float step) {
    tsr_latent *latent = NULL;
    assert_int_equal(TSR_OK, tsr_latent_new(&latent, n, c, h, w, NULL));
    for (size_t i = 0; i < tsr_latent_count(latent); i++) latent->values[i] = first + step * (float)i;
    return latent;
}

static void new__checks_the_shape(void **state) {
    tsr_latent *latent = NULL;
    tsr_error err = TSR_ERROR_INIT;
    (void)state;
    assert_int_equal(TSR_BAD_ARGUMENT, tsr_latent_new(&latent, 0, 4, 8, 8, &err));
    assert_non_null(strstr(err.message, "[0, 4, 8, 8]"));
    assert_int_equal(TSR_BAD_ARGUMENT, tsr_latent_new(&latent, 1, 65, 8, 8, NULL));
    assert_int_equal(TSR_BAD_ARGUMENT, tsr_latent_new(&latent, 1, 4, 2049, 8, NULL));
    assert_int_equal(TSR_BAD_ARGUMENT, tsr_latent_new(&latent, 1, 4, 8, -1, NULL));
    assert_null(latent);
    tsr_latent_free(NULL);
}

static void copy__is_deep(void **state) {
    tsr_latent *latent = make_latent(2, 4, 3, 5, 0.0f, 1.0f), *copy = NULL;
    (void)state;
    assert_int_equal(TSR_OK, tsr_mask_new(&latent->noise_mask, 40, 24, 0.5f, NULL));
    latent->batch_index = malloc(2 * sizeof(int));
    latent->batch_index[0] = 3;
    latent->batch_index[1] = 7;
    assert_int_equal(TSR_OK, tsr_latent_copy(&copy, latent, NULL));
    tsr_latent_free(latent);
    assert_int_equal(120, tsr_latent_count(copy));
    assert_true(copy->values[119] == 119.0f);
    assert_int_equal(40, copy->noise_mask->width);
    assert_true(tsr_mask_mean(copy->noise_mask) == 0.5f);
    assert_int_equal(7, copy->batch_index[1]);
    tsr_latent_free(copy);
}

static void composite__repeats_a_smaller_batch_and_cuts(void **state) {
    tsr_latent *to = make_latent(3, 1, 4, 4, 0.0f, 0.0f), *from = make_latent(2, 1, 2, 2, 1.0f, 1.0f);
    static const float corner[3] = { 4.0f, 8.0f, 4.0f };
    (void)state;
    assert_int_equal(TSR_OK, tsr_latent_composite(to, from, -1, -1, NULL, NULL));
    for (int n = 0; n < 3; n++)
        for (int i = 0; i < 16; i++) assert_true(to->values[n * 16 + i] == (i ? 0.0f : corner[n]));
    assert_int_equal(TSR_OK, tsr_latent_composite(to, from, 3, 3, NULL, NULL));
    assert_true(to->values[15] == 1.0f && to->values[31] == 5.0f);
    assert_int_equal(TSR_OK, tsr_latent_composite(to, from, 2147483647, -2147483647, NULL, NULL)); /* far outside */
    tsr_latent_free(from);
    from = make_latent(1, 4, 2, 2, 1.0f, 0.0f);
    assert_int_equal(TSR_BAD_ARGUMENT, tsr_latent_composite(to, from, 0, 0, NULL, NULL));
    tsr_latent_free(from);
    tsr_latent_free(to);
}

static void composite__of_masks_is_exact_where_hard(void **state) {
    tsr_latent *to = make_latent(1, 4, 4, 6, 0.1f, 0.37f), *from = make_latent(1, 4, 4, 6, -0.3f, 0.11f), *old = NULL;
    tsr_mask *mask = NULL;
    (void)state;
    assert_int_equal(TSR_OK, tsr_latent_copy(&old, to, NULL));
    assert_int_equal(TSR_OK, tsr_mask_from_box(&mask, 48, 32, 0, 0, 24, 32, NULL));
    assert_int_equal(TSR_OK, tsr_latent_composite(to, from, 0, 0, mask, NULL));
    for (size_t i = 0; i < tsr_latent_count(to); i++)
        assert_true(to->values[i] == (i % 6 < 3 ? from->values[i] : old->values[i]));
    tsr_mask_free(mask);
    tsr_latent_free(old);
    tsr_latent_free(to);
    tsr_latent_free(from);
}

static void resize__to_the_same_size_changes_nothing(void **state) {
    tsr_latent *in = make_latent(1, 3, 7, 9, 0.1f, 0.004f);
    float out[3 * 7 * 9];
    (void)state;
    for (int m = TSR_RESIZE_NEAREST_EXACT; m <= TSR_RESIZE_BISLERP; m++) {
        float room = m == TSR_RESIZE_LANCZOS ? 1.0f / 255.0f : m == TSR_RESIZE_BISLERP ? 1e-6f : 0.0f;
        assert_int_equal(TSR_OK, tsr_resize_nchw(out, 7, 9, in->values, in->shape, (tsr_resize_method)m, NULL));
        for (int i = 0; i < 3 * 7 * 9; i++)
            assert_true(out[i] - in->values[i] <= room && in->values[i] - out[i] <= room);
    }
    tsr_latent_free(in);
}

static void resize__survives_extreme_shapes(void **state) {
    static const int shapes[4][4] = { { 1, 4, 1, 1 }, { 2, 1, 1, 50 }, { 1, 2, 50, 1 }, { 1, 3, 3, 200 } };
    static const int targets[4][2] = { { 1, 1 }, { 33, 1 }, { 1, 33 }, { 5, 7 } };
    (void)state;
    for (int s = 0; s < 4; s++)
        for (int t = 0; t < 4; t++)
            for (int m = TSR_RESIZE_NEAREST_EXACT; m <= TSR_RESIZE_BISLERP; m++) {
                const int *shape = shapes[s];
                tsr_latent *in = make_latent(shape[0], shape[1], shape[2], shape[3], 0.5f, 0.0f);
                size_t count = (size_t)shape[0] * (size_t)shape[1] * (size_t)targets[t][0] * (size_t)targets[t][1];
                float *out = malloc(count * sizeof *out); /* exact, for the address sanitizer */
                assert_int_equal(TSR_OK, tsr_resize_nchw(out, targets[t][0], targets[t][1], in->values, shape,
                                                         (tsr_resize_method)m, NULL));
                for (size_t i = 0; i < count; i++)
                    assert_true(out[i] > 0.495f && out[i] < 0.505f); /* flat stays flat */
                free(out);
                tsr_latent_free(in);
            }
}

static void resize__refuses_what_it_cannot(void **state) {
    const int shape[4] = { 1, 1, 2, 2 }, empty[4] = { 1, 1, 0, 2 };
    float in[4] = { 0 }, out[4];
    tsr_error err = TSR_ERROR_INIT;
    tsr_resize_method method;
    (void)state;
    assert_int_equal(TSR_BAD_ARGUMENT, tsr_resize_nchw(out, 0, 2, in, shape, TSR_RESIZE_AREA, NULL));
    assert_int_equal(TSR_BAD_ARGUMENT, tsr_resize_nchw(out, 2, 2, in, empty, TSR_RESIZE_AREA, NULL));
    assert_int_equal(TSR_BAD_ARGUMENT, tsr_resize_nchw(out, 2, 2, in, shape, (tsr_resize_method)17, NULL));
    assert_int_equal(TSR_NOT_FOUND, tsr_resize_method_parse(&method, "cubic", &err));
    assert_non_null(strstr(err.message, "bicubic"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(new__checks_the_shape),
        cmocka_unit_test(copy__is_deep),
        cmocka_unit_test(composite__repeats_a_smaller_batch_and_cuts),
        cmocka_unit_test(composite__of_masks_is_exact_where_hard),
        cmocka_unit_test(resize__to_the_same_size_changes_nothing),
        cmocka_unit_test(resize__survives_extreme_shapes),
        cmocka_unit_test(resize__refuses_what_it_cannot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
