/* test_masks_golden.c - masks against the reference's numbers (masks.safetensors): rounded ones exactly. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "golden_file.h"
#include "tessera/mask.h"

static const char *const NAMES[] = { "disk_128x128", "disk_160x96",  "disk_96x160", "empty_32x32",
                                     "full_32x32",   "half_128x128", "noise_40x56", "soft_64x64" };
#define NAME_COUNT ((int)(sizeof NAMES / sizeof *NAMES))

static tsr_mask view(golden_tensor t) {
    return (tsr_mask){ (int)t.shape[t.rank - 1], (int)t.shape[t.rank - 2], (float *)t.data, 1 };
}

static void check_growth(golden_file *g, const char *kind, int divisor) {
    static const int overlaps[] = { 0, 1, 2, 3, 10, 11 };
    int compared = 0;
    for (int i = 0; i < NAME_COUNT; i++) {
        tsr_mask in = view(golden_get(g, "mask/%s", NAMES[i])), *out = NULL;
        for (int k = 0; k < 6; k++) {
            if (!golden_has(g, "%s/%s/%d", kind, NAMES[i], overlaps[k])) continue;
            golden_tensor want = golden_get(g, "%s/%s/%d", kind, NAMES[i], overlaps[k]);
            assert_int_equal(
                TSR_OK, tsr_mask_region_growth(&out, &in, in.width / divisor, in.height / divisor, overlaps[k], NULL));
            assert_int_equal(want.shape[2], out->height);
            assert_int_equal(want.shape[3], out->width);
            for (size_t p = 0; p < want.count; p++)
                if (want.data[p] != out->values[p])
                    fail_msg("%s/%s/%d differs at %zu: %g, not %g", kind, NAMES[i], overlaps[k], p,
                             (double)out->values[p], (double)want.data[p]);
            tsr_mask_free(out);
            compared++;
        }
    }
    assert_true(compared >= 5 * NAME_COUNT);
}

static void growth__equals_reference_at_mask_size(void **state) {
    check_growth(*state, "erosion", 1);
}

static void growth__equals_reference_at_latent_size(void **state) {
    check_growth(*state, "latent_erosion", 8);
}

static void inverse__equals_reference(void **state) {
    for (int i = 0; i < NAME_COUNT; i++) {
        tsr_mask in = view(golden_get(*state, "mask/%s", NAMES[i])), *out = NULL;
        golden_tensor want = golden_get(*state, "inv/%s", NAMES[i]);
        assert_int_equal(TSR_OK, tsr_mask_inverse_not_one(&out, &in, NULL));
        assert_true(max_abs_diff(out->values, want.data, want.count) == 0.0);
        tsr_mask_free(out);
    }
}

static void resize__equals_reference(void **state) {
    static const int sizes[3][2] = { { 12, 20 }, { 16, 16 }, { 20, 12 } }; /* height, width */
    for (int i = 0; i < NAME_COUNT; i++) {
        tsr_mask in = view(golden_get(*state, "mask/%s", NAMES[i])), *out = NULL;
        for (int k = 0; k < 3; k++) {
            int h = sizes[k][0], w = sizes[k][1];
            golden_tensor want = golden_get(*state, "noise_mask/%s/%dx%d", NAMES[i], h, w);
            assert_int_equal(TSR_OK, tsr_mask_resize(&out, &in, (int)want.shape[3], (int)want.shape[2], NULL));
            assert_true(max_abs_diff(out->values, want.data, want.count) <= 2e-5);
            tsr_mask_free(out);
            want = golden_get(*state, "upscale_mask/%s/%dx%d", NAMES[i], h, w);
            assert_int_equal(TSR_OK, tsr_mask_resize_corners(&out, &in, (int)want.shape[3], (int)want.shape[2], NULL));
            assert_true(max_abs_diff(out->values, want.data, want.count) <= 2e-5);
            tsr_mask_free(out);
        }
    }
}

static int open_file(void **state) {
    *state = golden_open("masks.safetensors");
    return 0;
}

static int close_file(void **state) {
    golden_close(*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(growth__equals_reference_at_mask_size),
        cmocka_unit_test(growth__equals_reference_at_latent_size),
        cmocka_unit_test(inverse__equals_reference),
        cmocka_unit_test(resize__equals_reference),
    };
    return cmocka_run_group_tests(tests, open_file, close_file);
}
