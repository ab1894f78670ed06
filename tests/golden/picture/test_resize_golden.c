/* test_resize_golden.c - resizing and compositing against the reference's numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "golden_file.h"
#include "tessera/latent.h"

static const char *const METHODS[] = { "nearest-exact", "bilinear", "area", "bicubic", "lanczos", "bislerp" };

static double tolerance(tsr_resize_method method) {
    return method == TSR_RESIZE_LANCZOS ? 1.0 / 255.0 + 1e-4 : 2e-5;
}

static void resize__latents_equal_reference(void **state) {
    static const int sizes[3][2] = { { 11, 8 }, { 30, 40 }, { 46, 34 } };
    golden_file *g = golden_open("resize.safetensors");
    golden_tensor in = golden_get(g, "latent");
    const int shape[4] = { (int)in.shape[0], (int)in.shape[1], (int)in.shape[2], (int)in.shape[3] };
    (void)state;
    for (int m = 0; m < 6; m++) {
        if (m == TSR_RESIZE_LANCZOS) continue; /* the reference's lanczos is for pictures only */
        for (int k = 0; k < 3; k++) {
            golden_tensor want = golden_get(g, "latent/%s/%dx%d", METHODS[m], sizes[k][0], sizes[k][1]);
            float *out = malloc(want.count * sizeof *out);
            tsr_resize_method method;
            assert_int_equal(TSR_OK, tsr_resize_method_parse(&method, METHODS[m], NULL));
            assert_int_equal(TSR_OK, tsr_resize_nchw(out, sizes[k][1], sizes[k][0], in.data, shape, method, NULL));
            double worst = max_abs_diff(out, want.data, want.count);
            if (worst > tolerance(method))
                fail_msg("%s to %dx%d: off by %g", METHODS[m], sizes[k][0], sizes[k][1], worst);
            free(out);
        }
    }
    golden_close(g);
}

/* [h, w, 3] cut by x and y on each side, as [3, h - 2y, w - 2x]. */
static float *cut_planes(golden_tensor in, int x, int y) {
    int h = (int)in.shape[1], w = (int)in.shape[2];
    float *out = malloc(in.count * sizeof *out), *to = out;
    for (int c = 0; c < 3; c++)
        for (int j = y; j < h - y; j++)
            for (int i = x; i < w - x; i++) *to++ = in.data[(j * w + i) * 3 + c];
    return out;
}

static void resize__pictures_equal_reference(void **state) {
    static const int sizes[4][2] = { { 100, 37 }, { 134, 90 }, { 33, 22 }, { 67, 45 } };
    golden_file *g = golden_open("resize.safetensors");
    golden_tensor in = golden_get(g, "image");
    int h = (int)in.shape[1], w = (int)in.shape[2];
    (void)state;
    for (int m = 0; m < 6; m++)
        for (int k = 0; k < 8; k++) {
            int tw = sizes[k / 2][0], th = sizes[k / 2][1], x = 0, y = 0;
            golden_tensor want = golden_get(g, "image/%s/%dx%d/%s", METHODS[m], tw, th, k % 2 ? "center" : "disabled");
            if (k % 2) tsr_resize_center_crop(&x, &y, w, h, tw, th);
            float *planes = cut_planes(in, x, y), *out = malloc(want.count * sizeof *out);
            const int shape[4] = { 1, 3, h - 2 * y, w - 2 * x };
            assert_int_equal(TSR_OK, tsr_resize_nchw(out, th, tw, planes, shape, (tsr_resize_method)m, NULL));
            double worst = 0.0;
            for (int p = 0; p < tw * th; p++)
                for (int c = 0; c < 3; c++) {
                    float a = out[c * tw * th + p];
                    double d = max_abs_diff(&a, &want.data[p * 3 + c], 1);
                    if (d > worst) worst = d;
                }
            if (worst > tolerance((tsr_resize_method)m))
                fail_msg("%s to %dx%d (%s): off by %g", METHODS[m], tw, th, k % 2 ? "center" : "disabled", worst);
            free(planes);
            free(out);
        }
    golden_close(g);
}

static tsr_latent *latent_of(golden_tensor t) {
    tsr_latent *latent = NULL;
    assert_int_equal(TSR_OK,
                     tsr_latent_new(&latent, (int)t.shape[0], (int)t.shape[1], (int)t.shape[2], (int)t.shape[3], NULL));
    memcpy(latent->values, t.data, t.count * sizeof *t.data);
    return latent;
}

static void composite__equals_reference(void **state) {
    static const char *const names[] = { "offset", "overflow", "same" };
    static const char *const kinds[] = { "masked", "masked_resize", "nomask" };
    golden_file *g = golden_open("composite.safetensors");
    (void)state;
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 3; k++) {
            golden_tensor xy = golden_get(g, "%s/xy", names[i]), mt = golden_get(g, "%s/mask", names[i]);
            golden_tensor want = golden_get(g, "%s/%s", names[i], kinds[k]);
            tsr_mask mask = { (int)mt.shape[1], (int)mt.shape[0], (float *)mt.data, 1 };
            tsr_latent *to = latent_of(golden_get(g, "%s/dest", names[i]));
            tsr_latent *from = latent_of(golden_get(g, "%s/src", names[i]));
            if (k == 1) {
                tsr_latent *resized = latent_of(golden_get(g, "%s/dest", names[i]));
                assert_int_equal(TSR_OK, tsr_resize_nchw(resized->values, to->shape[2], to->shape[3], from->values,
                                                         from->shape, TSR_RESIZE_BILINEAR, NULL));
                tsr_latent_free(from);
                from = resized;
            }
            assert_int_equal(TSR_OK, tsr_latent_composite(to, from, (int)xy.data[0] / 8, (int)xy.data[1] / 8,
                                                          k < 2 ? &mask : NULL, NULL));
            double worst = max_abs_diff(to->values, want.data, want.count);
            if (worst > 2e-5) fail_msg("%s/%s: off by %g", names[i], kinds[k], worst);
            tsr_latent_free(to);
            tsr_latent_free(from);
        }
    golden_close(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resize__latents_equal_reference),
        cmocka_unit_test(resize__pictures_equal_reference),
        cmocka_unit_test(composite__equals_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
