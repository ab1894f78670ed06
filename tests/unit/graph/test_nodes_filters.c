/* test_nodes_filters.c - blurred, sharpened, blended, turned pictures and their alpha. Expected numbers are computed from the
 * reference's formulas: kernels over the whole plane, where the nodes go row by row. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "node_runner.h"

enum { H = 5, W = 6 };

static tsr__value *varied(int n, int h, int w, int c) {
    tsr__value *made = NULL;
    assert_int_equal(tsr__value_pictures(&made, n, h, w, c, NULL), TSR_OK);
    for (int i = 0; i < n * h * w * c; i++) made->pictures.values[i] = (float)((i * 37 + 11) % 101) / 100.0f;
    return made;
}

static int reflect(int i, int n) {
    return i < 0 ? -i : i >= n ? 2 * n - 2 - i : i;
}

/* One value of the plane's kernel applied: `centre` times the middle pixel, `rest` times the bell. */
static double filtered(const tsr__pictures *p, int y, int x, int c, int radius, double sigma, double centre,
                       double rest) {
    double sum = 0.0, weights = 0.0;
    for (int dy = -radius; dy <= radius; dy++)
        for (int dx = -radius; dx <= radius; dx++) {
            double fy = (double)dy / radius, fx = (double)dx / radius;
            double weight = exp(-(fx * fx + fy * fy) / (2.0 * sigma * sigma));
            weights += weight;
            sum += weight * (double)p->values[(reflect(y + dy, H) * W + reflect(x + dx, W)) * 3 + c];
        }
    return centre * (double)p->values[(y * W + x) * 3 + c] + rest * sum / weights;
}

static void filters__match_the_whole_kernel(void **state) {
    static const struct {
        const char *class_type, *radius_name, *radius, *sigma, *alpha;
        int r;
        double s, centre, rest;
    } cases[] = {
        { "ImageBlur", "blur_radius", "1", "1.0", NULL, 1, 1.0, 0.0, 1.0 },
        { "ImageBlur", "blur_radius", "3", "0.4", NULL, 3, 0.4, 0.0, 1.0 },
        { "ImageSharpen", "sharpen_radius", "2", "0.7", "0.05", 2, 0.7, 1.5, -0.5 },
    };
    tsr__value *image = varied(1, H, W, 3);
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        node_run run;
        node_begin(&run, cases[i].class_type);
        node_link(&run, "image", image);
        node_set(&run, cases[i].radius_name, cases[i].radius);
        node_set(&run, "sigma", cases[i].sigma);
        if (cases[i].alpha) node_set(&run, "alpha", cases[i].alpha);
        assert_int_equal(node_go(&run), TSR_OK);
        for (int k = 0; k < H * W * 3; k++) {
            double wanted = filtered(&image->pictures, k / 3 / W, k / 3 % W, k % 3, cases[i].r, cases[i].s,
                                     cases[i].centre, cases[i].rest);
            wanted = wanted < 0.0 ? 0.0 : wanted > 1.0 ? 1.0 : wanted;
            assert_float_equal(run.call.results[0]->pictures.values[k], wanted, 1e-5);
        }
        node_end(&run);
    }
    node_run run;
    node_begin(&run, "ImageBlur");
    node_link(&run, "image", image);
    node_set(&run, "blur_radius", "5");
    assert_int_equal(node_go(&run), TSR_BAD_ARGUMENT);
    node_end(&run);
    tsr__value_unref(image);
}

static void blends__match_the_formulas(void **state) {
    static const struct {
        const char *mode;
        float a, b, wanted; /* at a factor of 1 */
    } cases[] = {
        { "\"normal\"", 0.2f, 0.7f, 0.7f },      { "\"multiply\"", 0.5f, 0.6f, 0.3f },
        { "\"screen\"", 0.5f, 0.6f, 0.8f },      { "\"overlay\"", 0.4f, 0.5f, 0.4f },
        { "\"overlay\"", 0.8f, 0.5f, 0.8f },     { "\"soft_light\"", 0.5f, 0.2f, 0.35f },
        { "\"soft_light\"", 0.64f, 1.0f, 0.8f }, { "\"soft_light\"", 0.2f, 1.0f, 0.448f },
        { "\"difference\"", 0.7f, 0.2f, 0.5f },  { "\"difference\"", 0.2f, 0.7f, 0.0f },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int half = 0; half < 2; half++) {
            tsr__value *images[2] = { varied(1, 4, 4, 3), varied(2, 8, 4, 3) };
            for (int k = 0; k < 48; k++) images[0]->pictures.values[k] = cases[i].a;
            for (int k = 0; k < 192; k++) images[1]->pictures.values[k] = cases[i].b;
            node_run run;
            node_begin(&run, "ImageBlend");
            node_link(&run, "image1", images[0]);
            node_link(&run, "image2", images[1]);
            node_set(&run, "blend_mode", cases[i].mode);
            node_set(&run, "blend_factor", half ? "0.5" : "1.0");
            assert_int_equal(node_go(&run), TSR_OK);
            float full = strcmp(cases[i].mode, "\"difference\"") == 0 ? cases[i].a - cases[i].b : cases[i].wanted;
            float mixed = 0.5f * (cases[i].a + full), wanted = half ? (mixed > 0.0f ? mixed : 0.0f) : cases[i].wanted;
            assert_int_equal(run.call.results[0]->pictures.n, 2);
            assert_int_equal(run.call.results[0]->pictures.h, 4);
            assert_float_equal(run.call.results[0]->pictures.values[90], wanted, 1e-4f);
            node_end(&run);
            for (int k = 0; k < 2; k++) tsr__value_unref(images[k]);
        }
}

/* Pixels [[0 1 2] [3 4 5]], in every channel. */
static void pictures__turn_as_torch_turns(void **state) {
    static const struct {
        const char *class_type, *input, *value;
        int h, w;
        float wanted[6];
    } cases[] = {
        { "ImageRotate", "rotation", "\"none\"", 2, 3, { 0, 1, 2, 3, 4, 5 } },
        { "ImageRotate", "rotation", "\"90 degrees\"", 3, 2, { 3, 0, 4, 1, 5, 2 } },
        { "ImageRotate", "rotation", "\"180 degrees\"", 2, 3, { 5, 4, 3, 2, 1, 0 } },
        { "ImageRotate", "rotation", "\"270 degrees\"", 3, 2, { 2, 5, 1, 4, 0, 3 } },
        { "ImageFlip", "flip_method", "\"x-axis: vertically\"", 2, 3, { 3, 4, 5, 0, 1, 2 } },
        { "ImageFlip", "flip_method", "\"y-axis: horizontally\"", 2, 3, { 2, 1, 0, 5, 4, 3 } },
    };
    tsr__value *image = varied(2, 2, 3, 3);
    (void)state;
    for (int k = 0; k < 36; k++) image->pictures.values[k] = (float)(k / 3 % 6) + 10.0f * (float)(k / 18);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        node_run run;
        node_begin(&run, cases[i].class_type);
        node_link(&run, "image", image);
        node_set(&run, cases[i].input, cases[i].value);
        assert_int_equal(node_go(&run), TSR_OK);
        const tsr__pictures *got = &run.call.results[0]->pictures;
        assert_int_equal(got->h, cases[i].h);
        assert_int_equal(got->w, cases[i].w);
        for (int k = 0; k < 36; k++)
            assert_float_equal(got->values[k], cases[i].wanted[k / 3 % 6] + 10.0f * (float)(k / 18), 0.0f);
        node_end(&run);
    }
    tsr__value_unref(image);
}

static void alpha__comes_off_and_on(void **state) {
    tsr__value *image = varied(2, 3, 4, 4), *plain = varied(1, 3, 4, 3);
    node_run split, join;
    (void)state;
    node_begin(&split, "SplitImageWithAlpha");
    node_link(&split, "image", image);
    assert_int_equal(node_go(&split), TSR_OK);
    assert_float_equal(split.call.results[1]->masks.items[1]->values[5], 1.0f - image->pictures.values[71], 1e-6f);
    node_begin(&join, "JoinImageWithAlpha");
    node_link(&join, "image", split.call.results[0]);
    node_link(&join, "alpha", split.call.results[1]);
    assert_int_equal(node_go(&join), TSR_OK);
    assert_int_equal(join.call.results[0]->pictures.c, 4);
    for (int k = 0; k < 96; k++)
        assert_float_equal(join.call.results[0]->pictures.values[k], image->pictures.values[k], 1e-6f);
    node_end(&join);
    node_end(&split);
    node_begin(&split, "SplitImageWithAlpha"); /* without one, nothing is transparent */
    node_link(&split, "image", plain);
    assert_int_equal(node_go(&split), TSR_OK);
    assert_float_equal(split.call.results[1]->masks.items[0]->values[7], 0.0f, 0.0f);
    node_end(&split);
    tsr__value_unref(image);
    tsr__value_unref(plain);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(filters__match_the_whole_kernel),
        cmocka_unit_test(blends__match_the_formulas),
        cmocka_unit_test(pictures__turn_as_torch_turns),
        cmocka_unit_test(alpha__comes_off_and_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
