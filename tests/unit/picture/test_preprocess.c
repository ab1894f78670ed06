/* Preprocessors of control pictures: where Canny's edges lie and how they hang together, strokes, blurred tiles, negatives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "picture/preprocess.h"

enum { W = 40, H = 32, COUNT = W * H };
static float rgb[COUNT * 3];

static void paint(int x, int y, float value) {
    for (int c = 0; c < 3; c++) rgb[(y * W + x) * 3 + c] = value;
}

static float at(int x, int y) {
    return rgb[(y * W + x) * 3];
}

static void paint_all(float value) {
    for (int i = 0; i < COUNT * 3; i++) rgb[i] = value;
}

static int whites(void) {
    int n = 0;
    for (int i = 0; i < COUNT; i++) {
        assert_true(rgb[3 * i] == 0.0f || rgb[3 * i] == 1.0f);
        assert_true(rgb[3 * i] == rgb[3 * i + 1] && rgb[3 * i] == rgb[3 * i + 2]);
        n += rgb[3 * i] == 1.0f;
    }
    return n;
}

/* A blurred ramp that is steepest in column 20: the edge is that one column. */
static void canny__thins_an_edge_to_one_pixel(void **state) {
    (void)state;
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++) paint(x, y, x < 20 ? 0.0f : x == 20 ? 0.5f : 1.0f);
    assert_int_equal(tsr__canny(rgb, W, H, 0.4f, 0.8f, NULL), TSR_OK);
    assert_int_equal(whites(), H);
    for (int y = 0; y < H; y++) assert_true(at(20, y) == 1.0f);
}

static void canny__finds_nothing_where_nothing_changes(void **state) {
    (void)state;
    paint_all(0.7f);
    assert_int_equal(tsr__canny(rgb, W, H, 0.4f, 0.8f, NULL), TSR_OK);
    assert_int_equal(whites(), 0);
}

/* A step from 0, as high as `top` above and `bottom` below. */
static void paint_step(float top, float bottom) {
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++) {
            float high = top + (bottom - top) * (float)y / (float)(H - 1);
            paint(x, y, x < 20 ? 0.0f : x == 20 ? high / 2 : high);
        }
}

static void canny__follows_weak_edges_from_strong_ones(void **state) {
    (void)state;
    paint_step(1.0f, 0.3f); /* strong above, weak below: it hangs together */
    assert_int_equal(tsr__canny(rgb, W, H, 0.4f, 2.0f, NULL), TSR_OK);
    for (int y = 1; y < H - 1; y++) assert_true(at(20, y) == 1.0f);
    paint_step(0.3f, 0.3f); /* weak everywhere */
    assert_int_equal(tsr__canny(rgb, W, H, 0.4f, 2.0f, NULL), TSR_OK);
    assert_int_equal(whites(), 0);
    paint_step(1.0f, 0.3f); /* too weak to follow below */
    assert_int_equal(tsr__canny(rgb, W, H, 1.5f, 2.0f, NULL), TSR_OK);
    assert_true(at(20, 2) == 1.0f && at(20, H - 3) == 0.0f);
}

static void scribble__draws_thick_strokes(void **state) {
    (void)state;
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++) paint(x, y, x < 20 ? 0.0f : 1.0f);
    assert_int_equal(tsr__preprocess(rgb, W, H, TSR__PREPROCESS_SCRIBBLE, NULL), TSR_OK);
    int n = whites();
    assert_true(n % H == 0 && n / H >= 3 && n / H <= 10);
    assert_true(at(19, 5) == 1.0f && at(20, 5) == 1.0f && at(5, 5) == 0.0f && at(35, 5) == 0.0f);
    paint_all(0.3f);
    assert_int_equal(tsr__preprocess(rgb, W, H, TSR__PREPROCESS_SCRIBBLE, NULL), TSR_OK);
    assert_int_equal(whites(), 0);
}

static void tile__keeps_means_and_loses_detail(void **state) {
    double before = 0, after = 0;
    (void)state;
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++) paint(x, y, (x + y) % 2 ? 1.0f : 0.0f); /* finer than a tile */
    for (int i = 0; i < COUNT; i++) before += (double)rgb[3 * i];
    assert_int_equal(tsr__preprocess(rgb, W, H, TSR__PREPROCESS_TILE, NULL), TSR_OK);
    for (int i = 0; i < COUNT; i++) {
        after += (double)rgb[3 * i];
        assert_true(rgb[3 * i] > 0.49f && rgb[3 * i] < 0.51f);
    }
    assert_true(after > before - 1 && after < before + 1);
}

static void invert__is_the_negative(void **state) {
    (void)state;
    paint_all(0.25f);
    assert_int_equal(tsr__preprocess(rgb, W, H, TSR__PREPROCESS_INVERT, NULL), TSR_OK);
    assert_true(at(3, 3) == 0.75f);
    assert_int_equal(tsr__preprocess(rgb, W, H, TSR__PREPROCESS_NONE, NULL), TSR_OK);
    assert_true(at(3, 3) == 0.75f);
    assert_int_equal(tsr__preprocess_find("tile"), TSR__PREPROCESS_TILE);
    assert_int_equal(tsr__preprocess_find("depth"), -1);
}

/* Sides of one pixel have no neighbours to reflect. */
static void smallest_pictures__are_taken(void **state) {
    (void)state;
    for (int kind = TSR__PREPROCESS_NONE; kind <= TSR__PREPROCESS_INVERT; kind++)
        for (int side = 1; side <= 3; side++) {
            paint_all(0.5f);
            assert_int_equal(tsr__preprocess(rgb, side, 1, (tsr__preprocess_kind)kind, NULL), TSR_OK);
            assert_int_equal(tsr__preprocess(rgb, 1, side, (tsr__preprocess_kind)kind, NULL), TSR_OK);
        }
}

/* A mask of the canvas's left half; the picture shows the canvas's middle, with 4 columns beyond each side of it. */
static void inpaint__blanks_what_lies_under_the_mask(void **state) {
    enum { MASK_W = 8, MASK_H = 8 };
    float mask[MASK_W * MASK_H];
    (void)state;
    for (int i = 0; i < MASK_W * MASK_H; i++) mask[i] = i % MASK_W < MASK_W / 2 ? 0.6f : 0.5f;
    paint_all(0.25f);
    tsr__blank_masked(rgb, W, H, mask, MASK_W, MASK_H); /* 40 x 32 is cut to 32 x 32 */
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++) assert_true(at(x, y) == (x >= 4 && x < 20 ? -1.0f : 0.25f));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inpaint__blanks_what_lies_under_the_mask),
        cmocka_unit_test(canny__thins_an_edge_to_one_pixel),
        cmocka_unit_test(canny__finds_nothing_where_nothing_changes),
        cmocka_unit_test(canny__follows_weak_edges_from_strong_ones),
        cmocka_unit_test(scribble__draws_thick_strokes),
        cmocka_unit_test(tile__keeps_means_and_loses_detail),
        cmocka_unit_test(invert__is_the_negative),
        cmocka_unit_test(smallest_pictures__are_taken),
    };
    return cmocka_run_group_tests_name("preprocess", tests, NULL, NULL);
}
