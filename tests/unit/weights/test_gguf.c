/* GGUF files made here by hand: every block type against its definition element by element, shapes, metadata, scaled F8,
 * parts of tensors, and files cut off at every byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "weights/gguf.h"
#include "weights/pth.h"

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        tsr_error err = TSR_ERROR_INIT;                                                                                \
        if ((call) != TSR_OK) fail_msg("%s", err.message);                                                             \
    } while (0)

/* --- a file in the making ----------------------------------------------------------------------------------------------- */
typedef struct file {
    unsigned char bytes[65536];
    size_t size;
} file;

static void put(file *f, const void *data, size_t size) {
    assert_true(f->size + size <= sizeof f->bytes);
    memcpy(f->bytes + f->size, data, size);
    f->size += size;
}

static void put_u32(file *f, uint32_t value) {
    put(f, &value, 4);
}

static void put_u64(file *f, uint64_t value) {
    put(f, &value, 8);
}

static void put_text(file *f, const char *text) {
    put_u64(f, strlen(text));
    put(f, text, strlen(text));
}

static void begin(file *f, uint64_t tensors, uint64_t pairs) {
    f->size = 0;
    put(f, "GGUF", 4);
    put_u32(f, 3);
    put_u64(f, tensors);
    put_u64(f, pairs);
}

static void put_tensor(file *f, const char *name, uint32_t type, uint64_t offset, int rank, const uint64_t *sides) {
    put_text(f, name);
    put_u32(f, (uint32_t)rank);
    for (int i = 0; i < rank; i++) put_u64(f, sides[i]);
    put_u32(f, type);
    put_u64(f, offset);
}

static void align(file *f, size_t to) {
    while (f->size % to) put(f, "", 1);
}

/* --- blocks against their definitions -------------------------------------------------------------------------------------- */
static int bit(const unsigned char *bytes, size_t at) {
    return bytes[at / 8] >> (at % 8) & 1;
}

static int nibble(const unsigned char *bytes, size_t at) {
    return bytes[at / 2] >> (at % 2 ? 4 : 0) & 15;
}

static const int IQ4_TABLE[16] = { -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113 };

/* Element i of a block, from the published layouts: d, m are the scale and minimum. */
static double expected(tsr__dtype type, const unsigned char *b, int i, double d, double m) {
    int lane = i % 16, low = b[0], half = i / 128, in_half = i % 128;
    switch (type) {
    case TSR_DTYPE_Q8_0: return d * (signed char)b[2 + i];
    case TSR_DTYPE_Q4_0: return d * ((i < 16 ? b[2 + lane] & 15 : b[2 + lane] >> 4) - 8);
    case TSR_DTYPE_Q4_1: return d * (i < 16 ? b[4 + lane] & 15 : b[4 + lane] >> 4) + m;
    case TSR_DTYPE_Q5_0: return d * ((i < 16 ? b[6 + lane] & 15 : b[6 + lane] >> 4) + 16 * bit(b + 2, (size_t)i) - 16);
    case TSR_DTYPE_Q5_1: return d * ((i < 16 ? b[8 + lane] & 15 : b[8 + lane] >> 4) + 16 * bit(b + 4, (size_t)i)) + m;
    case TSR_DTYPE_Q2_K:
        low = b[i / 16];
        return d * (low & 15) * (b[16 + 32 * half + in_half % 32] >> (2 * (in_half / 32)) & 3) - m * (low >> 4);
    case TSR_DTYPE_Q3_K: {
        int g = i / 16, scale = (g < 8 ? b[96 + g] & 15 : b[88 + g] >> 4) + 16 * (b[104 + g % 4] >> (2 * (g / 4)) & 3);
        int q = b[32 + 32 * half + in_half % 32] >> (2 * (in_half / 32)) & 3;
        return d * (scale - 32) * (q - (bit(b + in_half % 32, (size_t)(i / 32)) ? 0 : 4));
    }
    case TSR_DTYPE_Q4_K:
    case TSR_DTYPE_Q5_K: {
        int g = i / 32, s = g < 4 ? b[4 + g] & 63 : (b[8 + g] & 15) + 16 * (b[g] >> 6);
        int o = g < 4 ? b[8 + g] & 63 : (b[8 + g] >> 4) + 16 * (b[4 + g] >> 6), five = type == TSR_DTYPE_Q5_K;
        const unsigned char *qs = b + (five ? 48 : 16);
        int q = nibble(qs + 32 * (g / 2) + i % 32, (size_t)(g % 2)) + (five ? 16 * bit(b + 16 + i % 32, (size_t)g) : 0);
        return d * s * q - m * o;
    }
    case TSR_DTYPE_Q6_K: {
        int part = in_half / 32, at = i % 32, q = nibble(b + 64 * half + 32 * (part % 2) + at, (size_t)(part / 2));
        q += 16 * (b[128 + 32 * half + at] >> (2 * part) & 3);
        return d * (signed char)b[192 + i / 16] * (q - 32);
    }
    case TSR_DTYPE_IQ4_NL: return d * IQ4_TABLE[i < 16 ? b[2 + lane] & 15 : b[2 + lane] >> 4];
    case TSR_DTYPE_IQ4_XS: {
        int g = i / 32,
            s = nibble(b + 4, (size_t)g) + 16 * (bit(b + 2, (size_t)(2 * g)) + 2 * bit(b + 2, (size_t)(2 * g + 1)));
        return d * (s - 32) * IQ4_TABLE[nibble(b + 8 + 16 * g + lane, (size_t)(i % 32 / 16))];
    }
    default: return NAN;
    }
}

static const struct kind {
    tsr__dtype type;
    uint32_t number;
    int d, m; /* where scale and minimum stand, -1: nowhere */
} KINDS[] = {
    { TSR_DTYPE_Q4_0, 2, 0, -1 },    { TSR_DTYPE_Q4_1, 3, 0, 2 },     { TSR_DTYPE_Q5_0, 6, 0, -1 },
    { TSR_DTYPE_Q5_1, 7, 0, 2 },     { TSR_DTYPE_Q8_0, 8, 0, -1 },    { TSR_DTYPE_Q2_K, 10, 80, 82 },
    { TSR_DTYPE_Q3_K, 11, 108, -1 }, { TSR_DTYPE_Q4_K, 12, 0, 2 },    { TSR_DTYPE_Q5_K, 13, 0, 2 },
    { TSR_DTYPE_Q6_K, 14, 208, -1 }, { TSR_DTYPE_IQ4_NL, 20, 0, -1 }, { TSR_DTYPE_IQ4_XS, 23, 0, -1 },
};
enum { KIND_COUNT = sizeof KINDS / sizeof *KINDS, BLOCKS = 2 };

/* Random bits; the halves 0.25 and -1.5 as scale and minimum. */
static void fill_block(const struct kind *k, unsigned char *block, unsigned seed) {
    const unsigned char quarter[2] = { 0x00, 0x34 }, minus[2] = { 0x00, 0xbe };
    for (size_t i = 0; i < tsr__dtype_size(k->type); i++) {
        seed = seed * 1664525u + 1013904223u;
        block[i] = (unsigned char)(seed >> 24);
    }
    memcpy(block + k->d, quarter, 2);
    if (k->m >= 0) memcpy(block + k->m, minus, 2);
}

static void one_tensor(file *f, const struct kind *k) {
    unsigned char block[256];
    const uint64_t sides[2] = { tsr__dtype_block(k->type), BLOCKS };
    begin(f, 1, 0);
    put_tensor(f, "w", k->number, 0, 2, sides);
    align(f, 32);
    for (unsigned i = 0; i < BLOCKS; i++) {
        fill_block(k, block, 7 + i);
        put(f, block, tsr__dtype_size(k->type));
    }
}

static void blocks__are_what_the_format_defines(void **state) {
    static file f;
    (void)state;
    for (int n = 0; n < KIND_COUNT; n++) {
        const struct kind *k = &KINDS[n];
        const int per = (int)tsr__dtype_block(k->type);
        tsr__weights *weights = NULL;
        float got[BLOCKS * 256], part[64];
        one_tensor(&f, k);
        OK(tsr__weights_open_any_memory(&weights, f.bytes, f.size, &err));
        const tsr__tensor_view *view = tsr__weights_find(weights, "w");
        assert_non_null(view);
        assert_int_equal(view->dtype, k->type);
        assert_int_equal(view->shape[0], BLOCKS);
        assert_int_equal(view->shape[1], per);
        OK(tsr__tensor_to_f32(view, got, &err));
        for (int i = 0; i < BLOCKS * per; i++) {
            const unsigned char *block =
                (const unsigned char *)view->data + (size_t)(i / per) * tsr__dtype_size(k->type);
            double want = expected(k->type, block, i % per, 0.25, -1.5);
            if (fabs(got[i] - want) > 1e-3)
                fail_msg("%s: element %d is %g, not %g", tsr__dtype_name(k->type), i, got[i], want);
        }
        OK(tsr__tensor_part_to_f32(view, (size_t)per - 21, 50 < per + 21 ? 50 : 20, part, &err));
        assert_memory_equal(part, got + per - 21, (50 < per + 21 ? 50 : 20) * sizeof *part);
        tsr__weights_close(weights);
    }
}

/* --- headers ------------------------------------------------------------------------------------------------------------------ */
/* Two tensors, one with its original shape noted; every kind of pair. */
static void full_file(file *f) {
    const uint64_t flat[1] = { 12 }, sides[2] = { 4, 2 };
    const float values[12] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 };
    begin(f, 2, 5);
    put_text(f, "general.architecture");
    put_u32(f, 8);
    put_text(f, "sd1");
    put_text(f, "general.alignment");
    put_u32(f, 4);
    put_u32(f, 64);
    put_text(f, "comfy.gguf.orig_shape.conv");
    put_u32(f, 9);
    put_u32(f, 5);
    put_u64(f, 3);
    for (uint32_t i = 0; i < 3; i++) put_u32(f, i == 1 ? 1 : i == 0 ? 3 : 4);
    put_text(f, "tokens");
    put_u32(f, 9);
    put_u32(f, 8);
    put_u64(f, 2);
    put_text(f, "a");
    put_text(f, "b");
    put_text(f, "ratio");
    put_u32(f, 6);
    put(f, values, 4);
    put_tensor(f, "conv", 0, 0, 1, flat);
    put_tensor(f, "linear", 0, 64, 2, sides);
    align(f, 64);
    put(f, values, 48);
    align(f, 64);
    put(f, values, 32);
}

static void headers__give_shapes_and_texts(void **state) {
    static file f;
    tsr__weights *weights = NULL;
    (void)state;
    full_file(&f);
    OK(tsr__weights_open_any_memory(&weights, f.bytes, f.size, &err));
    assert_int_equal(tsr__weights_count(weights), 2);
    assert_string_equal(tsr__weights_metadata(weights, "general.architecture"), "sd1");
    assert_null(tsr__weights_metadata(weights, "ratio"));
    const tsr__tensor_view *conv = tsr__weights_find(weights, "conv"), *linear = tsr__weights_find(weights, "linear");
    assert_int_equal(conv->rank, 3);
    assert_int_equal(conv->shape[0], 3);
    assert_int_equal(conv->shape[2], 4);
    assert_int_equal(linear->rank, 2);
    assert_int_equal(linear->shape[0], 2); /* PyTorch's order: the slowest side first */
    assert_int_equal(linear->shape[1], 4);
    float values[8];
    OK(tsr__tensor_to_f32(linear, values, &err));
    assert_true(values[7] == 8.0f);
    tsr__weights_close(weights);
}

static void cut_files__are_refused(void **state) {
    static file f;
    (void)state;
    full_file(&f);
    for (size_t size = 4; size < f.size; size++) {
        tsr__weights *weights = NULL;
        tsr_error err = TSR_ERROR_INIT;
        unsigned char *exact = malloc(size); /* so that a sanitizer sees a byte too many */
        assert_non_null(exact);
        memcpy(exact, f.bytes, size);
        assert_int_not_equal(tsr__weights_open_any_memory(&weights, exact, size, &err), TSR_OK);
        assert_null(weights);
        assert_true(strlen(err.message) > 0);
        free(exact);
    }
}

static void refuses(file *f, const char *words) {
    tsr__weights *weights = NULL;
    tsr_error err = TSR_ERROR_INIT;
    assert_int_not_equal(tsr__weights_open_any_memory(&weights, f->bytes, f->size, &err), TSR_OK);
    if (!strstr(err.message, words)) fail_msg("said \"%s\", not \"%s\"", err.message, words);
}

static void strange_files__are_named(void **state) {
    static file f;
    const uint64_t odd[2] = { 33, 2 }, huge[2] = { UINT64_C(1) << 40, 1 }, plain[1] = { 32 };
    (void)state;
    begin(&f, 1, 0);
    put_tensor(&f, "w", 2, 0, 2, odd);
    refuses(&f, "do not divide into Q4_0 blocks");
    begin(&f, 1, 0);
    put_tensor(&f, "w", 0, 0, 2, huge);
    refuses(&f, "too large");
    begin(&f, 1, 0);
    put_tensor(&f, "w", 16, 0, 1, plain);
    refuses(&f, "element type 16");
    begin(&f, 2, 0);
    put_tensor(&f, "w", 0, 0, 1, plain);
    put_tensor(&f, "w", 0, 0, 1, plain);
    align(&f, 32);
    for (int i = 0; i < 32; i++) put_u32(&f, 0);
    refuses(&f, "two tensors are named");
    begin(&f, 0, 0);
    f.bytes[4] = 9;
    refuses(&f, "GGUF version 9");
    begin(&f, UINT64_C(1) << 60, 0);
    refuses(&f, "over the limits");
}

/* --- scaled F8 ---------------------------------------------------------------------------------------------------------------- */
static void scaled_f8__is_multiplied(void **state) {
    static const char header[] = "{\"a.weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[2],\"data_offsets\":[0,2]},"
                                 "\"a.scale_weight\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[2,6]},"
                                 "\"b.weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[1],\"data_offsets\":[6,7]}}";
    static file f;
    const float scale = 3.0f;
    float values[2];
    tsr__weights *weights = NULL;
    (void)state;
    f.size = 0;
    put_u64(&f, sizeof header - 1);
    put(&f, header, sizeof header - 1);
    put(&f, "\x38\x40", 2); /* 1 and 2 */
    put(&f, &scale, 4);
    put(&f, "\x38", 1);
    OK(tsr__weights_open_any_memory(&weights, f.bytes, f.size, &err));
    OK(tsr__tensor_to_f32(tsr__weights_find(weights, "a.weight"), values, &err));
    assert_true(values[0] == 3.0f && values[1] == 6.0f);
    OK(tsr__tensor_to_f32(tsr__weights_find(weights, "b.weight"), values, &err));
    assert_true(values[0] == 1.0f);
    tsr__weights_close(weights);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks__are_what_the_format_defines),
        cmocka_unit_test(headers__give_shapes_and_texts),
        cmocka_unit_test(cut_files__are_refused),
        cmocka_unit_test(strange_files__are_named),
        cmocka_unit_test(scaled_f8__is_multiplied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
