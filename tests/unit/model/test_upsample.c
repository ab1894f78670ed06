/* test_upsample.c - doubling and convolving at once, against doubling, cutting and convolving one after the other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "golden_file.h"
#include "model/upsample.h"

enum { C = 5 };

static float noise(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return (float)(*state >> 8) / (float)(1 << 24) - 0.5f;
}

/* The 3x3 convolution of a height x width cut of the doubled x. */
static void by_definition(float *out, const float *x, int h, int w, int height, int width, const float *weight,
                          const float *bias) {
    (void)h;
    for (int y = 0; y < height; y++)
        for (int z = 0; z < width; z++)
            for (int o = 0; o < C; o++) {
                float sum = bias[o];
                for (int i = 0; i < C; i++)
                    for (int ky = 0; ky < 3; ky++)
                        for (int kx = 0; kx < 3; kx++) {
                            int v = y + ky - 1, u = z + kx - 1;
                            if (v < 0 || u < 0 || v >= height || u >= width) continue;
                            sum += weight[((o * C + i) * 3 + ky) * 3 + kx] * x[((v / 2) * w + u / 2) * C + i];
                        }
                out[(y * width + z) * C + o] = sum;
            }
}

static void upsample__equals_its_definition_for_cut_pictures_too(void **state) {
    char path[] = "/tmp/tessera-upsample-XXXXXX";
    float weight[C * C * 9], bias[C];
    uint32_t seed = 1;
    tsr_error err = TSR_ERROR_INIT;
    tsr__nn *nn = NULL;
    tsr__weights *weights = NULL;
    tsr__nn_weight *packed = NULL;
    tsr__loader loader;
    const tsr__nn_options options = { .precision = TSR__F32, .threads = 1 };
    (void)state;
    for (int i = 0; i < C * C * 9; i++) weight[i] = noise(&seed);
    for (int i = 0; i < C; i++) bias[i] = noise(&seed);
    const tsr__tensor_out tensors[] = {
        { .name = "net.up.weight", .dtype = TSR_DTYPE_F32, .rank = 4, .shape = { C, C, 3, 3 }, .data = weight },
        { .name = "net.up.bias", .dtype = TSR_DTYPE_F32, .rank = 1, .shape = { C }, .data = bias },
    };
    close(mkstemp(path));
    assert_int_equal(tsr__safetensors_save(path, tensors, 2, NULL, &err), TSR_OK);
    assert_int_equal(tsr__nn_new(&nn, &options, &err), TSR_OK);
    assert_int_equal(tsr__weights_open(&weights, path, &err), TSR_OK);
    assert_int_equal(tsr__loader_init(&loader, nn, weights, "net", "a test", &err), TSR_OK);
    assert_int_equal(tsr__upsample_load(&loader, &packed, C, TSR__WITH_BIAS, "up", &err), TSR_OK);
    const int sizes[][4] = { { 3, 4, 6, 8 }, { 3, 4, 5, 8 }, { 3, 4, 6, 7 },
                             { 3, 4, 5, 7 }, { 1, 1, 1, 1 }, { 1, 2, 2, 3 } };
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int h = sizes[s][0], w = sizes[s][1], height = sizes[s][2], width = sizes[s][3];
        float planar[2 * C * 12], x[12 * C], expected[48 * C], got[2 * 48 * C];
        for (int i = 0; i < 2 * C * h * w; i++) planar[i] = noise(&seed);
        tsr__tensor t = { 0 };
        assert_int_equal(tsr__nn_from_nchw(nn, &t, planar, 2, C, h, w, &err), TSR_OK);
        assert_int_equal(tsr__upsample_run(nn, &t, packed, height, width, &err), TSR_OK);
        assert_int_equal(t.h, height);
        assert_int_equal(t.w, width);
        memcpy(got, t.data, (size_t)(2 * height * width * C) * sizeof *got);
        for (int n = 0; n < 2; n++) {
            for (int i = 0; i < h * w; i++)
                for (int c = 0; c < C; c++) x[i * C + c] = planar[(n * C + c) * h * w + i];
            by_definition(expected, x, h, w, height, width, weight, bias);
            assert_true(max_abs_diff(got + n * height * width * C, expected, (size_t)(height * width * C)) < 1e-5);
        }
        tsr__nn_release(nn, &t);
    }
    tsr__nn_weight_free(nn, packed);
    tsr__weights_close(weights);
    tsr__nn_free(nn);
    remove(path);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(upsample__equals_its_definition_for_cut_pictures_too) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
