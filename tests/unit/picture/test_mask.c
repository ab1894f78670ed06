/* test_mask.c - masks: boxes, colours, growth, soft edges and their refusals. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tessera/mask.h"

static float at(const tsr_mask *mask, int x, int y) {
    return mask->values[y * mask->width + x];
}

static tsr_mask *box(int width, int height, int x, int y, int w, int h) {
    tsr_mask *mask = NULL;
    assert_int_equal(TSR_OK, tsr_mask_from_box(&mask, width, height, x, y, w, h, NULL));
    return mask;
}

/* A mask of these weights, row by row. */
static tsr_mask *weights(int width, int height, const float *values) {
    tsr_mask *mask = NULL;
    assert_int_equal(TSR_OK, tsr_mask_new(&mask, width, height, 0.0f, NULL));
    memcpy(mask->values, values, (size_t)width * (size_t)height * sizeof *values);
    return mask;
}

static void box__is_cut_to_the_picture_or_refused(void **state) {
    tsr_error err = TSR_ERROR_INIT;
    (void)state;
    tsr_mask *mask = box(8, 6, -2, 4, 5, 100);
    for (int y = 0; y < 6; y++)
        for (int x = 0; x < 8; x++) assert_true(at(mask, x, y) == (x < 3 && y >= 4 ? 1.0f : 0.0f));
    tsr_mask_free(mask);
    assert_int_equal(TSR_BAD_ARGUMENT, tsr_mask_from_box(&mask, 8, 6, 8, 0, 2, 2, &err));
    assert_non_null(strstr(err.message, "outside the 8x6 picture"));
    assert_null(mask);
    assert_int_equal(TSR_BAD_ARGUMENT, tsr_mask_from_box(&mask, 8, 6, -2, 0, 2, 2, NULL));
    assert_int_equal(TSR_BAD_ARGUMENT, tsr_mask_from_box(&mask, 8, 6, 0, -5, 2, 5, NULL));
    assert_int_equal(TSR_BAD_ARGUMENT, tsr_mask_from_box(&mask, 8, 6, 0, 0, 0, 5, NULL));
    mask = box(8, 6, 2147483647 - 2147483640, 0, 2147483647, 2147483647); /* must not overflow */
    assert_true(at(mask, 7, 5) == 1.0f && at(mask, 6, 5) == 0.0f);
    tsr_mask_free(mask);
}

static void new__checks_size_and_value(void **state) {
    tsr_mask *mask = NULL;
    (void)state;
    assert_int_equal(TSR_BAD_ARGUMENT, tsr_mask_new(&mask, 0, 4, 0.0f, NULL));
    assert_int_equal(TSR_BAD_ARGUMENT, tsr_mask_new(&mask, 4, TSR_IMAGE_MAX_SIDE + 1, 0.0f, NULL));
    assert_int_equal(TSR_BAD_ARGUMENT, tsr_mask_new(&mask, 4, 4, 1.5f, NULL));
    assert_int_equal(TSR_BAD_ARGUMENT, tsr_mask_new(&mask, 4, 4, NAN, NULL));
    assert_null(mask);
}

static void picture__gives_masks_by_channel_and_colour(void **state) {
    tsr_image *image = NULL;
    tsr_mask *mask = NULL;
    static const unsigned char pixels[8] = { 255, 128, 0, 64, 255, 128, 1, 255 };
    static const float want[5] = { 383.0f / 765.0f, 1.0f - 64.0f / 255.0f, 1.0f, 128.0f / 255.0f, 0.0f };
    (void)state;
    assert_int_equal(TSR_OK, tsr_image_new(&image, 2, 1, 4, NULL));
    memcpy(image->pixels, pixels, 8);
    for (int c = TSR_MASK_LUMA; c <= TSR_MASK_BLUE; c++) {
        assert_int_equal(TSR_OK, tsr_mask_from_image(&mask, image, (tsr_mask_channel)c, NULL));
        assert_true(mask->values[0] == want[c]);
        tsr_mask_free(mask);
    }
    assert_int_equal(TSR_OK, tsr_mask_from_color(&mask, image, 0xff8000, NULL));
    assert_true(mask->values[0] == 1.0f && mask->values[1] == 0.0f);
    tsr_mask_free(mask);
    assert_int_equal(TSR_BAD_ARGUMENT, tsr_mask_from_color(&mask, image, 0x1000000, NULL));
    tsr_image_free(image);
    assert_int_equal(TSR_OK, tsr_image_new(&image, 3, 2, 3, NULL));
    assert_int_equal(TSR_OK, tsr_mask_from_image(&mask, image, TSR_MASK_ALPHA, NULL));
    assert_true(tsr_mask_max(mask) == 0.0f); /* no alpha: nothing is transparent */
    tsr_mask_free(mask);
    tsr_image_free(image);
}

static void color__is_parsed_strictly(void **state) {
    static const char *const bad[] = { "", "#", "#12", "#12345", "#1234567", "red", "#12345g", "##12345", "0x1234" };
    tsr_error err = TSR_ERROR_INIT;
    unsigned rgb = 1;
    (void)state;
    assert_int_equal(TSR_OK, tsr_mask_parse_color(&rgb, "#Ff8001", NULL));
    assert_int_equal(0xff8001, rgb);
    assert_int_equal(TSR_OK, tsr_mask_parse_color(&rgb, "00a0B0", NULL));
    assert_int_equal(0x00a0b0, rgb);
    assert_int_equal(TSR_OK, tsr_mask_parse_color(&rgb, "#f81", NULL));
    assert_int_equal(0xff8811, rgb);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(TSR_BAD_ARGUMENT, tsr_mask_parse_color(&rgb, bad[i], NULL));
    assert_int_equal(TSR_BAD_ARGUMENT, tsr_mask_parse_color(&rgb, "red", &err));
    assert_non_null(strstr(err.message, "\"red\" is not a colour; write it as #RRGGBB"));
    assert_int_equal(TSR_BAD_ARGUMENT, tsr_mask_parse_color(&rgb, NULL, NULL));
}

/* The reference by its definition: sum over the window, clamped. */
static float grown_at(const tsr_mask *mask, int overlap, int x, int y) {
    int padding = overlap / 2; /* ceil((overlap - 1) / 2) */
    float sum = 0.0f;
    for (int j = 0; j < overlap; j++)
        for (int i = 0; i < overlap; i++) {
            int sx = x - padding + i, sy = y - padding + j;
            if (sx >= 0 && sy >= 0 && sx < mask->width && sy < mask->height) sum += at(mask, sx, sy);
        }
    return sum > 1.0f ? 1.0f : sum;
}

static void grow__is_the_clamped_box_sum(void **state) {
    float values[13 * 9];
    tsr_mask *grown = NULL;
    unsigned random = 12345;
    (void)state;
    for (int i = 0; i < 13 * 9; i++) {
        random = random * 1664525u + 1013904223u;
        values[i] = random >> 28 == 0 ? 1.0f : 0.0f;
    }
    tsr_mask *mask = weights(13, 9, values);
    for (int overlap = 0; overlap <= 40; overlap++) {
        assert_int_equal(TSR_OK, tsr_mask_grow(&grown, mask, 13, 9, overlap, NULL));
        for (int y = 0; y < 9; y++)
            for (int x = 0; x < 13; x++)
                assert_true(at(grown, x, y) == (overlap ? grown_at(mask, overlap, x, y) : at(mask, x, y)));
        tsr_mask_free(grown);
    }
    assert_int_equal(TSR_BAD_ARGUMENT, tsr_mask_grow(&grown, mask, 13, 9, -1, NULL));
    assert_int_equal(TSR_BAD_ARGUMENT, tsr_mask_grow(&grown, mask, 13, 9, 10001, NULL));
    assert_int_equal(TSR_OK, tsr_mask_region_growth(&grown, mask, 13, 9, 3, NULL));
    assert_int_equal(9, grown->width); /* the reference's swap */
    assert_int_equal(13, grown->height);
    tsr_mask_free(grown);
    tsr_mask_free(mask);
}

static void grow__rounds_half_to_even(void **state) {
    const float values[4] = { 0.5f, 0.50001f, 0.49999f, 1.0f };
    tsr_mask *mask = weights(4, 1, values), *grown = NULL;
    (void)state;
    assert_int_equal(TSR_OK, tsr_mask_grow(&grown, mask, 4, 1, 0, NULL));
    assert_true(at(grown, 0, 0) == 0.0f && at(grown, 1, 0) == 1.0f && at(grown, 2, 0) == 0.0f &&
                at(grown, 3, 0) == 1.0f);
    tsr_mask_free(grown);
    tsr_mask_free(mask);
}

static void inverse__of_union_and_not_one(void **state) {
    const float first[4] = { 0.0f, 0.25f, 0.0f, 1.0f }, second[4] = { 0.0f, 0.0f, 1.0f, 1.0f };
    const float want_union[4] = { 1.0f, 0.0f, 0.0f, 0.0f }, want_not_one[4] = { 1.0f, 1.0f, 1.0f, 0.0f };
    tsr_mask *a = weights(4, 1, first), *b = weights(4, 1, second), *c = box(1, 4, 0, 0, 1, 1), *out = NULL;
    const tsr_mask *same[2] = { a, b }, *different[2] = { a, c };
    tsr_error err = TSR_ERROR_INIT;
    (void)state;
    assert_int_equal(TSR_OK, tsr_mask_inverse_of_union(&out, same, 2, NULL));
    assert_memory_equal(want_union, out->values, sizeof want_union);
    tsr_mask_free(out);
    assert_int_equal(TSR_OK, tsr_mask_inverse_not_one(&out, a, NULL));
    assert_memory_equal(want_not_one, out->values, sizeof want_not_one);
    tsr_mask_free(out);
    assert_int_equal(TSR_BAD_ARGUMENT, tsr_mask_inverse_of_union(&out, different, 2, &err));
    assert_non_null(strstr(err.message, "region mask 2 is 1x4 but the first is 4x1"));
    assert_int_equal(TSR_BAD_ARGUMENT, tsr_mask_inverse_of_union(&out, same, 0, NULL));
    assert_null(out);
    tsr_mask_free(a);
    tsr_mask_free(b);
    tsr_mask_free(c);
}

static void feather__is_isotropic_and_keeps_the_range(void **state) {
    static const int sizes[3][2] = { { 61, 31 }, { 31, 61 }, { 41, 41 } };
    (void)state;
    for (int s = 0; s < 3; s++) {
        int w = sizes[s][0], h = sizes[s][1], cx = w / 2, cy = h / 2;
        tsr_mask *mask = box(w, h, cx - 3, cy - 3, 7, 7);
        assert_int_equal(TSR_OK, tsr_mask_feather(mask, 5.0f, NULL));
        assert_true(tsr_mask_min(mask) >= 0.0f && tsr_mask_max(mask) <= 1.0f);
        for (int d = 1; d < 15; d++) {
            float right = at(mask, cx + d, cy), left = at(mask, cx - d, cy);
            float down = at(mask, cx, cy + d), up = at(mask, cx, cy - d);
            assert_true(fabsf(right - left) < 1e-6f && fabsf(right - down) < 1e-6f && fabsf(right - up) < 1e-6f);
            assert_true(right <= at(mask, cx + d - 1, cy)); /* falls outwards */
        }
        assert_true(fabsf(tsr_mask_mean(mask) * (float)(w * h) - 49.0f) < 1e-3f); /* moves weight, makes none */
        tsr_mask_free(mask);
    }
}

/* Far from other edges a straight one becomes the Gaussian's own step, with sigma = radius / 2. */
static void feather__has_the_stated_width(void **state) {
    tsr_mask *mask = box(200, 3, 100, 0, 100, 3);
    (void)state;
    assert_int_equal(TSR_OK, tsr_mask_feather(mask, 16.0f, NULL));
    for (int x = 60; x < 140; x++) assert_true(fabs(at(mask, x, 1) - 0.5 * erfc((99.5 - x) / 8.0 / sqrt(2.0))) < 3e-3);
    tsr_mask_free(mask);
}

static void feather__limits(void **state) {
    tsr_mask *mask = box(9, 5, 0, 0, 9, 5), *copy = NULL;
    (void)state;
    assert_int_equal(TSR_OK, tsr_mask_feather(mask, 50.0f, NULL));
    assert_true(tsr_mask_min(mask) > 0.99999f); /* a full mask stays full */
    tsr_mask_free(mask);
    mask = box(9, 5, 2, 2, 2, 2);
    assert_int_equal(TSR_OK, tsr_mask_copy(&copy, mask, NULL));
    assert_int_equal(TSR_OK, tsr_mask_feather(mask, 0.0f, NULL));
    assert_memory_equal(copy->values, mask->values, 45 * sizeof(float));
    assert_int_equal(TSR_BAD_ARGUMENT, tsr_mask_feather(mask, -1.0f, NULL));
    assert_int_equal(TSR_BAD_ARGUMENT, tsr_mask_feather(mask, NAN, NULL));
    tsr_mask_free(copy);
    tsr_mask_free(mask);
}

static void feather_edges__has_the_references_quirk(void **state) {
    tsr_mask *mask = box(6, 5, 0, 0, 6, 5);
    static const float across[6] = { 0.5f * (1.0f / 3.0f), 1.0f, 1.0f, 1.0f, 1.0f, 2.0f / 3.0f };
    (void)state;
    /* left 2: columns 0, 1 by 1/2, 1. right 3: column 0 by 1/3, the last by 2/3, the one before by 1. */
    assert_int_equal(TSR_OK, tsr_mask_feather_edges(mask, 2, 0, 3, 0, NULL));
    for (int x = 0; x < 6; x++) assert_true(fabsf(at(mask, x, 4) - across[x]) < 1e-6f);
    tsr_mask_free(mask);
    mask = box(2, 5, 0, 0, 2, 5);
    assert_int_equal(TSR_OK, tsr_mask_feather_edges(mask, 0, 2, 0, 2, NULL));
    assert_true(at(mask, 0, 0) == 0.25f && at(mask, 0, 1) == 1.0f && at(mask, 0, 4) == 1.0f);
    assert_int_equal(TSR_BAD_ARGUMENT, tsr_mask_feather_edges(mask, 0, -1, 0, 0, NULL));
    assert_int_equal(TSR_OK, tsr_mask_feather_edges(mask, 99, 99, 99, 99, NULL)); /* cut to the size */
    tsr_mask_free(mask);
}

static void composite__does_each_operation(void **state) {
    static const float want[6][2] = { { 0.3f, 0.2f }, { 1.0f, 0.9f }, { 0.1f, 0.0f },
                                      { 0.0f, 0.0f }, { 1.0f, 1.0f }, { 1.0f, 1.0f } };
    const float d[4] = { 0.6f, 0.4f, 0.6f, 0.4f }, s[4] = { 0.5f, 0.5f, 0.5f, 0.5f };
    (void)state;
    for (int op = TSR_MASK_MULTIPLY; op <= TSR_MASK_XOR; op++) {
        tsr_mask *to = weights(4, 1, d), *from = weights(4, 1, s);
        if (op >= TSR_MASK_AND) to->values[1] = 0.0f, from->values[0] = 0.0f, from->values[1] = 1.0f;
        assert_int_equal(TSR_OK, tsr_mask_composite(to, from, 0, 0, (tsr_mask_op)op, NULL));
        for (int i = 0; i < 2; i++) assert_true(fabsf(at(to, i, 0) - want[op][i]) < 1e-6f);
        tsr_mask_free(to);
        tsr_mask_free(from);
    }
    tsr_mask *to = weights(4, 1, d), *from = box(3, 2, 0, 0, 3, 2);
    assert_int_equal(TSR_OK, tsr_mask_composite(to, from, 2, -1, TSR_MASK_ADD, NULL));
    assert_true(at(to, 1, 0) == 0.4f && at(to, 2, 0) == 1.0f && at(to, 3, 0) == 1.0f);
    assert_int_equal(TSR_OK, tsr_mask_composite(to, from, 2147483647, -2147483647 - 1, TSR_MASK_ADD, NULL));
    assert_int_equal(TSR_BAD_ARGUMENT, tsr_mask_composite(to, from, 0, 0, (tsr_mask_op)99, NULL));
    tsr_mask_free(to);
    tsr_mask_free(from);
}

static void downsample__keeps_the_mean(void **state) {
    static const int sizes[4][2] = { { 8, 6 }, { 7, 5 }, { 3, 1 }, { 16, 24 } };
    tsr_mask *mask = box(24, 18, 5, 3, 11, 9), *small = NULL;
    (void)state;
    for (int s = 0; s < 4; s++) {
        assert_int_equal(TSR_OK, tsr_mask_downsample_area(&small, mask, sizes[s][0], sizes[s][1], NULL));
        assert_true(fabsf(tsr_mask_mean(small) - 99.0f / 432.0f) < 1e-6f);
        assert_true(tsr_mask_min(small) >= 0.0f && tsr_mask_max(small) <= 1.0f);
        if (s == 0)
            assert_true(fabsf(at(small, 1, 1) - 1.0f / 3.0f) < 1e-6f); /* columns 3..5: one of three is inside */
        tsr_mask_free(small);
    }
    tsr_mask_free(mask);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(box__is_cut_to_the_picture_or_refused),
        cmocka_unit_test(new__checks_size_and_value),
        cmocka_unit_test(picture__gives_masks_by_channel_and_colour),
        cmocka_unit_test(color__is_parsed_strictly),
        cmocka_unit_test(grow__is_the_clamped_box_sum),
        cmocka_unit_test(grow__rounds_half_to_even),
        cmocka_unit_test(inverse__of_union_and_not_one),
        cmocka_unit_test(feather__is_isotropic_and_keeps_the_range),
        cmocka_unit_test(feather__has_the_stated_width),
        cmocka_unit_test(feather__limits),
        cmocka_unit_test(feather_edges__has_the_references_quirk),
        cmocka_unit_test(composite__does_each_operation),
        cmocka_unit_test(downsample__keeps_the_mean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
