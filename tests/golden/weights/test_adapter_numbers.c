/* Adapters of every kind and naming merged into the golden checkpoints, against PyTorch's numbers
 * (tests/golden/make_adapter_numbers.py): each changed tensor, and no other is changed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>

#include "adapter_cases.h"
#include "golden_file.h"

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        tsr_error err = TSR_ERROR_INIT;                                                                                \
        if ((call) != TSR_OK) fail_msg("%s", err.message);                                                             \
    } while (0)

/* Largest difference from the expected numbers, over the largest of these. */
static double distance(const tsr__tensor_view *got, const tsr__tensor_view *want) {
    double worst = 0, largest = 0;
    const float *weight = got->data, *numbers = want->data;
    assert_int_equal(got->dtype, TSR_DTYPE_F32);
    const size_t rows = (size_t)got->shape[0], columns = got->count / rows;
    assert_int_equal(want->count, got->rank == 1 ? rows : 2 * rows);
    for (size_t i = 0; i < want->count; i++) {
        double value = 0;
        for (size_t c = 0; got->rank > 1 && c < columns; c++)
            value += (double)weight[i / 2 * columns + c] * probe(c, i % 2);
        if (got->rank == 1) value = (double)weight[i];
        worst = fmax(worst, fabs(value - (double)numbers[i]));
        largest = fmax(largest, fabs((double)numbers[i]));
    }
    return worst / largest;
}

static size_t count_changed(const tsr__weights *merged, const tsr__weights *base) {
    size_t count = 0;
    for (size_t i = 0; i < tsr__weights_count(base); i++) {
        const tsr__tensor_view *view = tsr__weights_at(base, i);
        count += tsr__weights_find(merged, view->name)->data != view->data;
    }
    return count;
}

/* Expected tensors of one case stand side by side: they are sorted by name. Returns how many. */
static size_t check_case(const char *family, const tsr__weights *base, const tsr__weights *expected, size_t first,
                         double *worst) {
    adapter_case asked;
    tsr__weights *merged = NULL;
    size_t count = 0;
    const char *name = tsr__weights_at(expected, first)->name;
    read_case(&asked, family, name);
    OK(tsr__lora_merge(&merged, base, asked.items, asked.count, 0, &err));
    for (; first + count < tsr__weights_count(expected); count++) {
        const tsr__tensor_view *want = tsr__weights_at(expected, first + count);
        if (!same_case(name, want->name)) break;
        const tsr__tensor_view *got = tsr__weights_find(merged, strchr(want->name, '|') + 1);
        assert_non_null(got);
        const double away = distance(got, want);
        if (!(away < 1e-5)) fail_msg("%s %s: %g", family, want->name, away);
        *worst = fmax(*worst, away);
    }
    if (count_changed(merged, base) != count)
        fail_msg("%s %s: %zu tensors changed, not %zu", family, name, count_changed(merged, base), count);
    tsr__weights_close(merged);
    return count;
}

static void check_family(const char *family, const char *checkpoint, size_t least) {
    char path[CASE_SIZE];
    tsr__weights *base = NULL, *expected = NULL;
    double worst = 0;
    size_t cases = 0;
    (void)snprintf(path, sizeof path, "%s/checkpoints/%s.safetensors", TSR_GOLDEN_DIR, checkpoint);
    OK(tsr__weights_open(&base, path, &err));
    (void)snprintf(path, sizeof path, "%s/adapters/%s-expected.safetensors", TSR_GOLDEN_DIR, family);
    OK(tsr__weights_open(&expected, path, &err));
    for (size_t first = 0; first < tsr__weights_count(expected); cases++)
        first += check_case(family, base, expected, first, &worst);
    print_message("%s: %zu cases, %zu tensors, worst %.2e\n", family, cases, tsr__weights_count(expected), worst);
    assert_true(cases >= least);
    tsr__weights_close(expected);
    tsr__weights_close(base);
}

static void merged_weights__are_pytorchs_for_sd1(void **state) {
    (void)state;
    check_family("sd1", "golden-sd1", 40);
}

static void merged_weights__are_pytorchs_for_sd2(void **state) {
    (void)state;
    check_family("sd2", "tiny-sd2", 40);
}

static void merged_weights__are_pytorchs_for_sdxl(void **state) {
    (void)state;
    check_family("sdxl", "tiny-sdxl", 40);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merged_weights__are_pytorchs_for_sd1),
        cmocka_unit_test(merged_weights__are_pytorchs_for_sd2),
        cmocka_unit_test(merged_weights__are_pytorchs_for_sdxl),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
