/* test_nodes_latent.c - latent and mask nodes at the edges that the golden workflows do not reach. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "node_runner.h"

static tsr__value *latent_of(float value, int n, int h, int w) {
    tsr_latent *latent = NULL;
    tsr__value *made = NULL;
    assert_int_equal(tsr_latent_new(&latent, n, 4, h, w, NULL), TSR_OK);
    for (size_t i = 0; i < tsr_latent_count(latent); i++) latent->values[i] = value;
    assert_int_equal(tsr__value_take_latent(&made, latent, NULL), TSR_OK);
    return made;
}

static tsr__value *mask_of(float value, int w, int h) {
    tsr_mask *mask = NULL;
    tsr__value *made = NULL;
    assert_int_equal(tsr_mask_new(&mask, w, h, value, NULL), TSR_OK);
    assert_int_equal(tsr__value_take_mask(&made, mask, NULL), TSR_OK);
    return made;
}

/* A source of 2x2 with a feather of 3: by the reference's slices the third line from the bottom is the last one again.
 * Rows 1/3 and 2/3 from the top; from the bottom 1/3, 2/3 and, for t = 2 = the height, none. */
static void composite__feathers_as_slices_do(void **state) {
    static const float rows[4] = { 2.0f / 9, 2.0f / 9, 0.0f, 0.0f };
    tsr__value *to = latent_of(0.0f, 1, 6, 6), *from = latent_of(1.0f, 1, 2, 2);
    node_run run;
    (void)state;
    node_begin(&run, "LatentComposite");
    node_link(&run, "samples_to", to);
    node_link(&run, "samples_from", from);
    node_set(&run, "x", "0");
    node_set(&run, "y", "16");
    node_set(&run, "feather", "24");
    assert_int_equal(node_go(&run), TSR_OK);
    const float *values = run.call.results[0]->latent->values;
    /* x = 0: only the right side fades, 2/3 in the first column and 1/3 in the second. */
    for (int y = 0; y < 2; y++) {
        assert_float_equal(values[(2 + y) * 6 + 0], rows[y] * 2 / 3, 1e-6f);
        assert_float_equal(values[(2 + y) * 6 + 1], rows[y] * 1 / 3, 1e-6f);
    }
    node_end(&run);
    node_begin(&run, "LatentComposite"); /* feather 4: t = 3 is behind the first line and meets row 0 again, with 4/4 */
    node_link(&run, "samples_to", to);
    node_link(&run, "samples_from", from);
    node_set(&run, "y", "0");
    node_set(&run, "x", "0");
    node_set(&run, "feather", "48");
    assert_int_equal(node_go(&run), TSR_OK);
    values = run.call.results[0]->latent->values;
    /* 6 lines: t = 0 and 1 from the end, t = 3 row 0 (4/6): row 1 has 1/6, row 0 has 2/6 * 4/6; columns likewise. */
    assert_float_equal(values[7], 1.0f / 36, 1e-6f);
    assert_float_equal(values[0], (2.0f / 6 * 4 / 6) * (2.0f / 6 * 4 / 6), 1e-6f);
    node_end(&run);
    tsr__value_unref(to);
    tsr__value_unref(from);
}

/* The Impact Pack leaves the first mask alone when the second has another size. */
static void mask_sums__leave_other_sizes_alone(void **state) {
    static const char *const names[] = { "AddMask", "SubtractMask", "BitwiseAndMask" };
    tsr__value *a = mask_of(0.5f, 8, 6), *b = mask_of(1.0f, 64, 64);
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        node_run run;
        node_begin(&run, names[i]);
        node_link(&run, "mask1", a);
        node_link(&run, "mask2", b);
        assert_int_equal(node_go(&run), TSR_OK);
        assert_ptr_equal(run.call.results[0], a);
        node_end(&run);
    }
    tsr__value_unref(a);
    tsr__value_unref(b);
}

/* A batch of two masks on three latents: 0, 1, 0. What takes pictures out of the batch takes their masks along. */
static void batches_of_masks__stay_with_their_pictures(void **state) {
    tsr__value *latents = latent_of(1.0f, 3, 2, 2), *masks = NULL;
    (void)state;
    assert_int_equal(tsr__value_masks(&masks, 2, 2, 2, NULL), TSR_OK);
    for (int i = 0; i < 4; i++) masks->masks.items[1]->values[i] = 1.0f;
    node_run set, part, twice, paint;
    node_begin(&set, "SetLatentNoiseMask");
    node_link(&set, "samples", latents);
    node_link(&set, "mask", masks);
    assert_int_equal(node_go(&set), TSR_OK);
    tsr__value *masked = set.call.results[0];
    assert_int_equal(masked->latent->noise_mask->count, 2);
    node_begin(&part, "LatentFromBatch");
    node_link(&part, "samples", masked);
    node_set(&part, "batch_index", "1");
    node_set(&part, "length", "2");
    assert_int_equal(node_go(&part), TSR_OK);
    const tsr_mask *mask = part.call.results[0]->latent->noise_mask;
    assert_int_equal(mask->count, 2);
    assert_true(mask->values[0] == 1.0f && mask->values[4] == 0.0f);
    node_begin(&twice, "RepeatLatentBatch");
    node_link(&twice, "samples", masked);
    node_set(&twice, "amount", "2");
    assert_int_equal(node_go(&twice), TSR_OK);
    mask = twice.call.results[0]->latent->noise_mask;
    assert_int_equal(mask->count, 3);
    assert_true(mask->values[0] == 0.0f && mask->values[4] == 1.0f && mask->values[8] == 0.0f);
    tsr__value *zeros = latent_of(0.0f, 3, 2, 2);
    node_begin(&paint, "LatentCompositeMasked");
    node_link(&paint, "destination", zeros);
    node_link(&paint, "source", latents);
    node_link(&paint, "mask", masks);
    assert_int_equal(node_go(&paint), TSR_OK);
    for (int i = 0; i < 48; i++) assert_true(paint.call.results[0]->latent->values[i] == (i / 16 == 1 ? 1.0f : 0.0f));
    node_end(&set);
    node_end(&part);
    node_end(&twice);
    node_end(&paint);
    tsr__value_unref(zeros);
    tsr__value_unref(latents);
    tsr__value_unref(masks);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(composite__feathers_as_slices_do),
        cmocka_unit_test(mask_sums__leave_other_sizes_alone),
        cmocka_unit_test(batches_of_masks__stay_with_their_pictures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
