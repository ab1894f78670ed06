/* test_nodes_ops.c - nodes that turn, cut, mix, pad and composite, on latents and pictures small enough to read. Expected
 * numbers are those of torch.rot90, torch.flip and the reference's formulas. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "node_runner.h"

/* 0, 1, 2, ... */
static tsr__value *counted(int n, int c, int h, int w) {
    tsr_latent *latent = NULL;
    tsr__value *made = NULL;
    assert_int_equal(tsr_latent_new(&latent, n, c, h, w, NULL), TSR_OK);
    for (size_t i = 0; i < tsr_latent_count(latent); i++) latent->values[i] = (float)i;
    assert_int_equal(tsr__value_take_latent(&made, latent, NULL), TSR_OK);
    return made;
}

static void expect_latent(const tsr__value *value, int h, int w, const float *wanted) {
    assert_int_equal(value->latent->shape[2], h);
    assert_int_equal(value->latent->shape[3], w);
    for (int i = 0; i < h * w; i++) assert_float_equal(value->latent->values[i], wanted[i], 1e-5f);
}

/* [[0 1 2] [3 4 5]] */
static void latents__turn_as_torch_turns(void **state) {
    static const struct {
        const char *class_type, *input, *value;
        int h, w;
        float wanted[6];
    } cases[] = {
        { "LatentRotate", "rotation", "\"none\"", 2, 3, { 0, 1, 2, 3, 4, 5 } },
        { "LatentRotate", "rotation", "\"90 degrees\"", 3, 2, { 3, 0, 4, 1, 5, 2 } },
        { "LatentRotate", "rotation", "\"180 degrees\"", 2, 3, { 5, 4, 3, 2, 1, 0 } },
        { "LatentRotate", "rotation", "\"270 degrees\"", 3, 2, { 2, 5, 1, 4, 0, 3 } },
        { "LatentFlip", "flip_method", "\"x-axis: vertically\"", 2, 3, { 3, 4, 5, 0, 1, 2 } },
        { "LatentFlip", "flip_method", "\"y-axis: horizontally\"", 2, 3, { 2, 1, 0, 5, 4, 3 } },
    };
    tsr__value *latent = counted(1, 1, 2, 3);
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        node_run run;
        node_begin(&run, cases[i].class_type);
        node_link(&run, "samples", latent);
        node_set(&run, cases[i].input, cases[i].value);
        assert_int_equal(node_go(&run), TSR_OK);
        expect_latent(run.call.results[0], cases[i].h, cases[i].w, cases[i].wanted);
        node_end(&run);
    }
    tsr__value_unref(latent);
}

static void latents__are_mixed(void **state) {
    static const struct {
        const char *class_type, *input, *value;
        float wanted[2]; /* of the pixel with channels (3, 4) and (0, 2) */
    } cases[] = {
        { "LatentAdd", NULL, NULL, { 3, 6 } },
        { "LatentSubtract", NULL, NULL, { 3, 2 } },
        { "LatentBlend", "blend_factor", "0.25", { 0.75f, 2.5f } },
        { "LatentInterpolate", "ratio", "1.0", { 3, 4 } },
        /* directions (0.6, 0.8) and (0, 1), halfway (0.3, 0.9) / sqrt(0.9); lengths 5 and 2, halfway 3.5 */
        { "LatentInterpolate", "ratio", "0.5", { 1.10679718f, 3.32039154f } },
    };
    tsr__value *a = counted(2, 2, 1, 1), *b = counted(1, 2, 1, 1); /* b is repeated */
    (void)state;
    a->latent->values[0] = a->latent->values[2] = 3.0f;
    a->latent->values[1] = a->latent->values[3] = 4.0f;
    b->latent->values[1] = 2.0f;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        node_run run;
        node_begin(&run, cases[i].class_type);
        node_link(&run, "samples1", a);
        node_link(&run, "samples2", b);
        if (cases[i].input) node_set(&run, cases[i].input, cases[i].value);
        assert_int_equal(node_go(&run), TSR_OK);
        for (int k = 0; k < 4; k++)
            assert_float_equal(run.call.results[0]->latent->values[k], cases[i].wanted[k % 2], 1e-5f);
        node_end(&run);
    }
    tsr__value_unref(a);
    tsr__value_unref(b);
}

static void latents__are_cut_and_scaled(void **state) {
    tsr__value *latent = counted(1, 1, 10, 12);
    node_run run;
    (void)state;
    node_begin(&run, "LatentCrop");
    node_link(&run, "samples", latent);
    node_set(&run, "width", "64");
    node_set(&run, "height", "512");
    node_set(&run, "x", "8");
    node_set(&run, "y", "80"); /* too late: the box starts 8 rows before the end */
    assert_int_equal(node_go(&run), TSR_OK);
    assert_int_equal(run.call.results[0]->latent->shape[2], 8);
    assert_int_equal(run.call.results[0]->latent->shape[3], 8);
    assert_float_equal(run.call.results[0]->latent->values[0], 2 * 12 + 1, 0.0f);
    assert_float_equal(run.call.results[0]->latent->values[63], 9 * 12 + 8, 0.0f);
    node_end(&run);
    node_begin(&run, "LatentMultiply");
    node_link(&run, "samples", latent);
    node_set(&run, "multiplier", "-0.5");
    assert_int_equal(node_go(&run), TSR_OK);
    assert_float_equal(run.call.results[0]->latent->values[9], -4.5f, 0.0f);
    node_end(&run);
    tsr__value_unref(latent);
}

static void seed_behavior__gives_all_one_noise(void **state) {
    tsr__value *latent = counted(3, 1, 1, 1);
    node_run fixed, random;
    (void)state;
    node_begin(&fixed, "LatentBatchSeedBehavior");
    node_link(&fixed, "samples", latent);
    assert_int_equal(node_go(&fixed), TSR_OK);
    const int *index = fixed.call.results[0]->latent->batch_index;
    assert_true(index && index[0] == 0 && index[1] == 0 && index[2] == 0);
    node_begin(&random, "LatentBatchSeedBehavior");
    node_link(&random, "samples", fixed.call.results[0]);
    node_set(&random, "seed_behavior", "\"random\"");
    assert_int_equal(node_go(&random), TSR_OK);
    assert_null(random.call.results[0]->latent->batch_index);
    node_end(&random);
    node_end(&fixed);
    tsr__value_unref(latent);
}

static tsr__value *pictures(int n, int h, int w, float value) {
    tsr__value *made = NULL;
    assert_int_equal(tsr__value_pictures(&made, n, h, w, 3, NULL), TSR_OK);
    for (int i = 0; i < n * h * w * 3; i++) made->pictures.values[i] = value;
    return made;
}

/* A picture of 5x5 with 8 columns more on the left, fading over 2 pixels. */
static void pad__fades_towards_what_is_added(void **state) {
    tsr__value *image = pictures(1, 5, 5, 1.0f);
    node_run run;
    (void)state;
    node_begin(&run, "ImagePadForOutpaint");
    node_link(&run, "image", image);
    node_set(&run, "left", "8");
    node_set(&run, "feathering", "2");
    assert_int_equal(node_go(&run), TSR_OK);
    const tsr__pictures *p = &run.call.results[0]->pictures;
    assert_int_equal(p->w, 13);
    assert_int_equal(p->h, 5);
    assert_float_equal(p->values[7 * 3], 0.5f, 0.0f);
    assert_float_equal(p->values[8 * 3], 1.0f, 0.0f);
    const float *mask = run.call.results[1]->masks.items[0]->values;
    static const float wanted[5] = { 1.0f, 1.0f, 0.25f, 0.0f, 0.0f }; /* columns 7 to 11 */
    for (int i = 0; i < 5; i++) assert_float_equal(mask[13 * 2 + (i == 0 ? 7 : 7 + i)], wanted[i], 1e-6f);
    node_end(&run);
    tsr__value_unref(image);
}

static void pictures__are_laid_over(void **state) {
    tsr__value *to = pictures(2, 4, 4, 0.0f), *from = pictures(1, 2, 2, 1.0f), *mask = NULL;
    node_run run;
    (void)state;
    assert_int_equal(tsr__value_masks(&mask, 1, 1, 1, NULL), TSR_OK);
    mask->masks.items[0]->values[0] = 0.25f;
    node_begin(&run, "ImageCompositeMasked");
    node_link(&run, "destination", to);
    node_link(&run, "source", from);
    node_link(&run, "mask", mask);
    node_set(&run, "x", "3");
    node_set(&run, "y", "1");
    assert_int_equal(node_go(&run), TSR_OK);
    const float *values = run.call.results[0]->pictures.values;
    for (int i = 0; i < 32; i++) {
        int y = i % 16 / 4, x = i % 4;
        assert_float_equal(values[3 * i], x == 3 && (y == 1 || y == 2) ? 0.25f : 0.0f, 1e-6f);
    }
    assert_true(to->pictures.values[7 * 3] == 0.0f); /* the source of the link is unchanged */
    node_end(&run);
    tsr__value_unref(to);
    tsr__value_unref(from);
    tsr__value_unref(mask);
}

static void sizes__follow_the_pixels(void **state) {
    tsr__value *image = pictures(1, 30, 40, 0.5f);
    node_run scaled, size, repeated, some;
    (void)state;
    node_begin(&scaled, "ImageScaleToTotalPixels");
    node_link(&scaled, "image", image);
    node_set(&scaled, "megapixels", "0.01"); /* 10485.76 pixels: 118.24 x 88.68 */
    assert_int_equal(node_go(&scaled), TSR_OK);
    node_begin(&size, "GetImageSize");
    node_link(&size, "image", scaled.call.results[0]);
    assert_int_equal(node_go(&size), TSR_OK);
    assert_int_equal(size.call.results[0]->integer, 118);
    assert_int_equal(size.call.results[1]->integer, 89);
    assert_int_equal(size.call.results[2]->integer, 1);
    node_begin(&repeated, "RepeatImageBatch");
    node_link(&repeated, "image", image);
    node_set(&repeated, "amount", "3");
    assert_int_equal(node_go(&repeated), TSR_OK);
    assert_int_equal(repeated.call.results[0]->pictures.n, 3);
    node_begin(&some, "ImageFromBatch");
    node_link(&some, "image", repeated.call.results[0]);
    node_set(&some, "batch_index", "2");
    node_set(&some, "length", "5");
    assert_int_equal(node_go(&some), TSR_OK);
    assert_int_equal(some.call.results[0]->pictures.n, 1);
    node_end(&some);
    node_end(&repeated);
    node_end(&size);
    node_end(&scaled);
    tsr__value_unref(image);
}

static void primitives__hand_their_value_on(void **state) {
    node_run run;
    (void)state;
    node_begin(&run, "PrimitiveInt");
    node_set(&run, "value", "9007199254740993");
    assert_int_equal(node_go(&run), TSR_OK);
    assert_true(run.call.results[0]->bits == UINT64_C(9007199254740993));
    node_end(&run);
    node_begin(&run, "PrimitiveStringMultiline");
    node_set(&run, "value", "\"a cat\\non grass\"");
    assert_int_equal(node_go(&run), TSR_OK);
    assert_string_equal(run.call.results[0]->text, "a cat\non grass");
    node_end(&run);
    node_begin(&run, "EmptyImage");
    node_set(&run, "width", "2");
    node_set(&run, "height", "1");
    node_set(&run, "color", "16711935");
    assert_int_equal(node_go(&run), TSR_OK);
    static const float wanted[6] = { 1, 0, 1, 1, 0, 1 };
    assert_memory_equal(run.call.results[0]->pictures.values, wanted, sizeof wanted);
    node_end(&run);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(latents__turn_as_torch_turns),     cmocka_unit_test(latents__are_mixed),
        cmocka_unit_test(latents__are_cut_and_scaled),      cmocka_unit_test(seed_behavior__gives_all_one_noise),
        cmocka_unit_test(pad__fades_towards_what_is_added), cmocka_unit_test(pictures__are_laid_over),
        cmocka_unit_test(sizes__follow_the_pixels),         cmocka_unit_test(primitives__hand_their_value_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
