/* Masks wider and narrower: against looking at every pixel of the disc. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tessera/mask.h"

enum { W = 23, H = 17 };

static float slow(const tsr_mask *mask, int x0, int y0, int radius, int sign) {
    float best = -INFINITY;
    for (int y = y0 - radius; y <= y0 + radius; y++)
        for (int x = x0 - radius; x <= x0 + radius; x++) {
            if (x < 0 || y < 0 || x >= W || y >= H) continue;
            if ((x - x0) * (x - x0) + (y - y0) * (y - y0) > radius * radius) continue;
            best = fmaxf(best, (float)sign * mask->values[y * W + x]);
        }
    return (float)sign * best;
}

static void widen__is_the_largest_within_a_disc(void **state) {
    static const int radii[] = { 0, 1, 2, 5, 9, 40, -1, -3, -7, -40 };
    (void)state;
    for (size_t r = 0; r < sizeof radii / sizeof *radii; r++) {
        tsr_mask *mask = NULL, *before = NULL;
        assert_int_equal(tsr_mask_new(&mask, W, H, 0.0f, NULL), TSR_OK);
        for (int i = 0; i < W * H; i++) mask->values[i] = (float)(i * 7919 % 101) / 100.0f * (float)(i % 5 == 0);
        assert_int_equal(tsr_mask_copy(&before, mask, NULL), TSR_OK);
        assert_int_equal(tsr_mask_widen(mask, radii[r], NULL), TSR_OK);
        for (int i = 0; i < W * H; i++)
            assert_true(mask->values[i] == slow(before, i % W, i / W, abs(radii[r]), radii[r] < 0 ? -1 : 1));
        tsr_mask_free(mask);
        tsr_mask_free(before);
    }
}

static void widen__refuses_what_is_no_radius(void **state) {
    tsr_mask *mask = NULL;
    tsr_error err = TSR_ERROR_INIT;
    (void)state;
    assert_int_equal(tsr_mask_new(&mask, W, H, 0.0f, NULL), TSR_OK);
    assert_int_equal(tsr_mask_widen(mask, 5000, &err), TSR_BAD_ARGUMENT);
    assert_non_null(strstr(err.message, "5000"));
    assert_int_equal(tsr_mask_widen(NULL, 1, NULL), TSR_BAD_ARGUMENT);
    tsr_mask_free(mask);
}

static void outpaint__refuses_bad_sizes(void **state) {
    static const tsr_margins bad[] = { { -1, 0, 0, 0 }, { 0, 0, 0, TSR_IMAGE_MAX_SIDE + 1 } }, good = { 8, 0, 0, 0 };
    tsr_mask *mask = NULL;
    (void)state;
    for (int i = 0; i < 2; i++) assert_int_equal(tsr_mask_outpaint(&mask, W, H, &bad[i], 4, NULL), TSR_BAD_ARGUMENT);
    assert_int_equal(tsr_mask_outpaint(&mask, 0, H, &good, 4, NULL), TSR_BAD_ARGUMENT);
    assert_int_equal(tsr_mask_outpaint(&mask, W, H, &good, -1, NULL), TSR_BAD_ARGUMENT);
    assert_null(mask);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(widen__is_the_largest_within_a_disc),
        cmocka_unit_test(widen__refuses_what_is_no_radius),
        cmocka_unit_test(outpaint__refuses_bad_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
