/* Floats to GGUF's blocks and back: errors that each number of bits allows, exact cases, extremes; files written and read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "weights/gguf.h"
#include "weights/pth.h"

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        tsr_error err = TSR_ERROR_INIT;                                                                                \
        if ((call) != TSR_OK) fail_msg("%s", err.message);                                                             \
    } while (0)

enum { BLOCKS = 64, MOST = BLOCKS * 256 };

/* rms error of normal values beside their size, measured here and rounded up: a mistake in one bit is far above it */
static const struct kind {
    tsr__dtype type;
    double error;
} KINDS[] = {
    { TSR_DTYPE_Q8_0, 0.006 }, { TSR_DTYPE_Q5_1, 0.04 }, { TSR_DTYPE_Q5_0, 0.045 }, { TSR_DTYPE_Q4_1, 0.08 },
    { TSR_DTYPE_Q4_0, 0.09 },  { TSR_DTYPE_Q6_K, 0.02 }, { TSR_DTYPE_Q5_K, 0.038 }, { TSR_DTYPE_Q4_K, 0.072 },
    { TSR_DTYPE_Q3_K, 0.15 },  { TSR_DTYPE_Q2_K, 0.27 },
};
enum { KIND_COUNT = sizeof KINDS / sizeof *KINDS };

static double next_normal(unsigned *seed) {
    double sum = 0;
    for (int i = 0; i < 12; i++) {
        *seed = *seed * 1664525u + 1013904223u;
        sum += (double)(*seed >> 8) / (double)(1u << 24);
    }
    return sum - 6.0;
}

/* in through blocks to out. */
static void there_and_back(tsr__dtype type, const float *in, float *out, size_t count) {
    unsigned char block[256];
    const size_t per = tsr__dtype_block(type);
    for (size_t i = 0; i < count; i += per) {
        unsigned char exact[256];
        memset(block, 0xaa, sizeof block);
        assert_true(tsr__gguf_block_from_f32(type, in + i, block));
        for (size_t k = tsr__dtype_size(type); k < sizeof block; k++) assert_int_equal(block[k], 0xaa);
        memset(exact, 0x55, sizeof exact); /* every bit is written, whatever stood there */
        assert_true(tsr__gguf_block_from_f32(type, in + i, exact));
        assert_memory_equal(block, exact, tsr__dtype_size(type));
        tsr__gguf_block_to_f32(type, block, out + i);
    }
}

static void normal_values__keep_what_the_bits_allow(void **state) {
    static float in[MOST], out[MOST];
    unsigned seed = 3;
    (void)state;
    for (int i = 0; i < MOST; i++) in[i] = (float)(0.03 * next_normal(&seed));
    for (int k = 0; k < KIND_COUNT; k++) {
        double difference = 0, size = 0;
        there_and_back(KINDS[k].type, in, out, MOST);
        for (int i = 0; i < MOST; i++) {
            difference += ((double)out[i] - in[i]) * ((double)out[i] - in[i]);
            size += (double)in[i] * in[i];
        }
        const double error = sqrt(difference / size);
        if (error > KINDS[k].error || error < KINDS[k].error / 2)
            fail_msg("%s: relative error %g, expected below %g", tsr__dtype_name(KINDS[k].type), error, KINDS[k].error);
    }
}

/* What a block holds exactly comes back exactly: zeros, and numbers that are on a type's grid. */
static void exact_values__stay(void **state) {
    float in[256], out[256];
    (void)state;
    for (int k = 0; k < KIND_COUNT; k++) {
        memset(in, 0, sizeof in);
        there_and_back(KINDS[k].type, in, out, 256);
        for (int i = 0; i < 256; i++) assert_true(out[i] == 0.0f);
    }
    for (int i = 0; i < 256; i++) in[i] = (float)(i % 16 - 8) * 0.25f;
    there_and_back(TSR_DTYPE_Q4_0, in, out, 256);
    assert_memory_equal(in, out, sizeof in);
    there_and_back(TSR_DTYPE_Q4_1, in, out, 256);
    assert_memory_equal(in, out, sizeof in);
    for (int i = 0; i < 256; i++) in[i] = (float)(i % 32 - 16) * 0.5f;
    there_and_back(TSR_DTYPE_Q5_0, in, out, 256);
    assert_memory_equal(in, out, sizeof in);
    for (int i = 0; i < 256; i++) in[i] = (float)(i % 2 ? 127 : i % 32 - 16) * 0.5f;
    there_and_back(TSR_DTYPE_Q8_0, in, out, 256);
    assert_memory_equal(in, out, sizeof in);
}

/* One group of large values must not spoil the others' scales beyond the format's own; nothing becomes NaN. */
static void extremes__stay_finite(void **state) {
    const float values[] = { 1e-30f, 1e-8f, 1e4f, 1e9f, 3e38f, 0.5f };
    float in[256], out[256];
    (void)state;
    for (int k = 0; k < KIND_COUNT; k++)
        for (size_t v = 0; v < sizeof values / sizeof *values; v++)
            for (int pattern = 0; pattern < 4; pattern++) {
                for (int i = 0; i < 256; i++)
                    in[i] = pattern == 0   ? values[v]
                            : pattern == 1 ? (i == 100 ? -values[v] : 0.0f)
                            : pattern == 2 ? (i % 2 ? values[v] : -values[v])
                                           : values[v] * (float)(i % 7);
                there_and_back(KINDS[k].type, in, out, 256);
                for (int i = 0; i < 256; i++)
                    if (!isfinite(out[i])) fail_msg("%s: %g became %g", tsr__dtype_name(KINDS[k].type), in[i], out[i]);
                if (values[v] != 0.5f || pattern == 3) continue;
                for (int i = 0; i < 256;
                     i++) /* constants and two-valued blocks are within a step of the coarsest type */
                    if (fabsf(out[i] - in[i]) > 0.26f)
                        fail_msg("%s: %g became %g", tsr__dtype_name(KINDS[k].type), in[i], out[i]);
            }
    assert_false(tsr__gguf_block_from_f32(TSR_DTYPE_IQ4_NL, in, (unsigned char *)out));
}

/* --- files ------------------------------------------------------------------------------------------------------------------ */
static float WRITTEN[512];

static tsr_status give(void *user, size_t index, const void **data, tsr_error *err) {
    (void)err;
    *data = index == 0 ? (const void *)WRITTEN : user;
    return TSR_OK;
}

static void files__are_read_as_they_were_written(void **state) {
    static const char *const metadata[] = { "note", "two", "general.architecture", "other", NULL };
    const tsr__tensor_out tensors[] = {
        { "conv", TSR_DTYPE_F32, 4, { 8, 16, 2, 2 }, NULL },
        { "blocks", TSR_DTYPE_Q8_0, 2, { 3, 32 }, NULL },
        { "one", TSR_DTYPE_F32, 0, { 0 }, NULL },
    };
    const tsr__gguf_shape stored[] = { { 2, { 2, 256, 0, 0 } }, { -1, { 0 } }, { -1, { 0 } } };
    const tsr__gguf_header header = { "sd1", 7, metadata };
    char path[] = "/tmp/tessera-gguf-XXXXXX";
    unsigned char rows[3 * 34] = { 0 };
    float values[512];
    tsr__weights *weights = NULL;
    int fd = mkstemp(path);
    (void)state;
    assert_true(fd >= 0);
    close(fd);
    for (int i = 0; i < 512; i++) WRITTEN[i] = (float)i;
    for (int r = 0; r < 3; r++) assert_true(tsr__gguf_block_from_f32(TSR_DTYPE_Q8_0, WRITTEN + 32 * r, rows + 34 * r));
    OK(tsr__gguf_save_made(path, tensors, stored, 3, &header, give, rows, &err));
    OK(tsr__weights_open_any(&weights, path, &err));
    unlink(path);
    assert_string_equal(tsr__weights_metadata(weights, "general.architecture"), "sd1");
    assert_string_equal(tsr__weights_metadata(weights, "note"), "two");
    const tsr__tensor_view *conv = tsr__weights_find(weights, "conv"), *one = tsr__weights_find(weights, "one");
    assert_int_equal(conv->rank, 4);
    assert_int_equal(conv->shape[1], 16);
    OK(tsr__tensor_to_f32(conv, values, &err));
    assert_memory_equal(values, WRITTEN, sizeof values);
    OK(tsr__tensor_to_f32(tsr__weights_find(weights, "blocks"), values, &err));
    assert_true(fabsf(values[95] - 95.0f) < 0.5f);
    assert_int_equal(one->rank, 0);
    assert_int_equal(one->count, 1);
    tsr__weights_close(weights);
}

static void refuses(const tsr__tensor_out *tensor, const char *words) {
    const tsr__gguf_header header = { NULL, -1, NULL };
    tsr_error err = TSR_ERROR_INIT;
    char path[] = "/tmp/tessera-gguf-none-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    unlink(path);
    assert_int_not_equal(tsr__gguf_save_made(path, tensor, NULL, 1, &header, give, NULL, &err), TSR_OK);
    if (!strstr(err.message, words)) fail_msg("said \"%s\", not \"%s\"", err.message, words);
    assert_int_not_equal(access(path, F_OK), 0);
}

static void what_gguf_cannot_hold__is_refused(void **state) {
    (void)state;
    refuses(&(tsr__tensor_out){ "w", TSR_DTYPE_F32, 5, { 1, 1, 1, 1, 2 }, NULL }, "5 sides");
    refuses(&(tsr__tensor_out){ "w", TSR_DTYPE_F8_E4M3, 1, { 4 }, NULL }, "GGUF has no F8_E4M3");
    refuses(&(tsr__tensor_out){ "w", TSR_DTYPE_Q4_0, 2, { 32, 33 }, NULL }, "do not divide into Q4_0 blocks");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(normal_values__keep_what_the_bits_allow),
        cmocka_unit_test(exact_values__stay),
        cmocka_unit_test(extremes__stay_finite),
        cmocka_unit_test(files__are_read_as_they_were_written),
        cmocka_unit_test(what_gguf_cannot_hold__is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
