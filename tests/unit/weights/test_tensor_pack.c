/* Every value of the small types comes back from float32 as itself, and values between two go to the nearer, halves to even. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "weights/tensor_pack.h"

static float unpack(tsr__dtype dtype, uint32_t bits) {
    tsr__tensor_view view = { .name = "x", .dtype = dtype, .rank = 1, .shape = { 1 }, .count = 1, .data = &bits };
    float value = 0.0f;
    assert_int_equal(tsr__tensor_to_f32(&view, &value, NULL), TSR_OK);
    return value;
}

static uint32_t pack(tsr__dtype dtype, float value) {
    uint32_t bits = 0;
    assert_true(tsr__tensor_from_f32(&bits, dtype, &value, 1));
    return bits;
}

static void pack__gives_every_value_back(void **state) {
    (void)state;
    static const struct {
        tsr__dtype dtype;
        uint32_t count;
    } types[] = { { TSR_DTYPE_F16, 65536 }, { TSR_DTYPE_BF16, 65536 }, { TSR_DTYPE_F8_E4M3, 256 } };
    for (size_t t = 0; t < 3; t++)
        for (uint32_t bits = 0; bits < types[t].count; bits++) {
            const float value = unpack(types[t].dtype, bits);
            if (isnan(value)) assert_true(isnan(unpack(types[t].dtype, pack(types[t].dtype, value))));
            else assert_int_equal(pack(types[t].dtype, value), bits);
        }
}

static void pack__rounds_to_the_nearer(void **state) {
    (void)state;
    static const tsr__dtype types[] = { TSR_DTYPE_F16, TSR_DTYPE_BF16, TSR_DTYPE_F8_E4M3 };
    static const uint32_t last[] = { 0x7bfe, 0x7f7e, 0x7d };
    for (size_t t = 0; t < 3; t++)
        for (uint32_t bits = 0; bits <= last[t]; bits++) {
            const float low = unpack(types[t], bits), high = unpack(types[t], bits + 1);
            const float middle = (float)(((double)low + (double)high) / 2.0);
            if ((double)middle != ((double)low + (double)high) / 2.0) continue; /* below float32's own subnormals */
            assert_int_equal(pack(types[t], middle), bits + (bits & 1));
            assert_int_equal(pack(types[t], nextafterf(middle, low)), bits);
            assert_int_equal(pack(types[t], nextafterf(middle, high)), bits + 1);
        }
}

static void pack__ends_at_the_largest(void **state) {
    (void)state;
    assert_int_equal(pack(TSR_DTYPE_F16, 65519.0f), 0x7bff);
    assert_int_equal(pack(TSR_DTYPE_F16, 65520.0f), 0x7c00);
    assert_int_equal(pack(TSR_DTYPE_F16, -1e9f), 0xfc00);
    assert_int_equal(pack(TSR_DTYPE_F8_E4M3, 1e9f), 0x7e);
    assert_int_equal(pack(TSR_DTYPE_F8_E4M3, -449.0f), 0xfe);
    assert_int_equal(pack(TSR_DTYPE_BF16, 3.4e38f), 0x7f80);
    uint32_t untouched;
    assert_false(tsr__tensor_from_f32(&untouched, TSR_DTYPE_I64, &(float){ 1.0f }, 1));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pack__gives_every_value_back),
        cmocka_unit_test(pack__rounds_to_the_nearer),
        cmocka_unit_test(pack__ends_at_the_largest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
