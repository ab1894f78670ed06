/* weights/tensor_value.c - element types: names, sizes, and conversion to float32.
 *
 * Plain bit arithmetic without branches in the loops, so that compilers vectorise them on every machine. Input may be
 * unaligned, as tensors in files are. Little-endian hosts only, like the file format. */
#include <string.h>

#include "core/check.h"
#include "weights/gguf.h"

static const struct {
    const char *name;
    size_t block, size; /* elements and bytes of a block */
    int is_float;
} DTYPES[TSR_DTYPE_COUNT_] = {
    [TSR_DTYPE_F32] = { "F32", 1, 4, 1 },
    [TSR_DTYPE_F16] = { "F16", 1, 2, 1 },
    [TSR_DTYPE_BF16] = { "BF16", 1, 2, 1 },
    [TSR_DTYPE_F64] = { "F64", 1, 8, 1 },
    [TSR_DTYPE_I64] = { "I64", 1, 8, 0 },
    [TSR_DTYPE_I32] = { "I32", 1, 4, 0 },
    [TSR_DTYPE_U8] = { "U8", 1, 1, 0 },
    [TSR_DTYPE_BOOL] = { "BOOL", 1, 1, 0 },
    [TSR_DTYPE_I8] = { "I8", 1, 1, 0 },
    [TSR_DTYPE_I16] = { "I16", 1, 2, 0 },
    [TSR_DTYPE_U16] = { "U16", 1, 2, 0 },
    [TSR_DTYPE_U32] = { "U32", 1, 4, 0 },
    [TSR_DTYPE_U64] = { "U64", 1, 8, 0 },
    [TSR_DTYPE_F8_E4M3] = { "F8_E4M3", 1, 1, 1 },
    [TSR_DTYPE_F8_E5M2] = { "F8_E5M2", 1, 1, 1 },
    [TSR_DTYPE_Q4_0] = { "Q4_0", 32, 18, 1 },
    [TSR_DTYPE_Q4_1] = { "Q4_1", 32, 20, 1 },
    [TSR_DTYPE_Q5_0] = { "Q5_0", 32, 22, 1 },
    [TSR_DTYPE_Q5_1] = { "Q5_1", 32, 24, 1 },
    [TSR_DTYPE_Q8_0] = { "Q8_0", 32, 34, 1 },
    [TSR_DTYPE_Q2_K] = { "Q2_K", 256, 84, 1 },
    [TSR_DTYPE_Q3_K] = { "Q3_K", 256, 110, 1 },
    [TSR_DTYPE_Q4_K] = { "Q4_K", 256, 144, 1 },
    [TSR_DTYPE_Q5_K] = { "Q5_K", 256, 176, 1 },
    [TSR_DTYPE_Q6_K] = { "Q6_K", 256, 210, 1 },
    [TSR_DTYPE_IQ4_NL] = { "IQ4_NL", 32, 18, 1 },
    [TSR_DTYPE_IQ4_XS] = { "IQ4_XS", 256, 136, 1 },
    [TSR_DTYPE_PACKED] = { "packed", 1, 0, 1 },
};

const char *tsr__dtype_name(tsr__dtype dtype) {
    return (unsigned)dtype < TSR_DTYPE_COUNT_ ? DTYPES[dtype].name : "?";
}

int tsr__dtype_is_float(tsr__dtype dtype) {
    return (unsigned)dtype < TSR_DTYPE_COUNT_ && DTYPES[dtype].is_float;
}

size_t tsr__dtype_block(tsr__dtype dtype) {
    return (unsigned)dtype < TSR_DTYPE_COUNT_ ? DTYPES[dtype].block : 1;
}

size_t tsr__dtype_size(tsr__dtype dtype) {
    return (unsigned)dtype < TSR_DTYPE_COUNT_ ? DTYPES[dtype].size : 0;
}

size_t tsr__tensor_bytes(const tsr__tensor_view *view) {
    return view->count / tsr__dtype_block(view->dtype) * tsr__dtype_size(view->dtype);
}

static float float_of_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t bits_of_float(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* 1+5+10 bits to 1+8+23: shift the magnitude up and rebias the exponent by 112. An exponent of all ones gets another
 * 112 (stays infinity or NaN). A zero exponent (subnormal) gets one more and the hidden bit 2^-14 taken off again,
 * which is exact and does not depend on the processor's treatment of float32 subnormals. Masks instead of ?: because
 * compilers make branches of the latter. */
static float half_to_float(uint32_t half) {
    const uint32_t sign = (half & 0x8000u) << 16;
    const uint32_t shifted = (half & 0x7fffu) << 13;
    const uint32_t exponent = shifted & 0x0f800000u;
    const uint32_t is_special = 0u - (uint32_t)(exponent == 0x0f800000u);
    const uint32_t is_small = 0u - (uint32_t)(exponent == 0);
    const uint32_t normal = shifted + (112u << 23) + (is_special & 112u << 23);
    const uint32_t small = bits_of_float(float_of_bits(shifted + (113u << 23)) - float_of_bits(113u << 23));
    return float_of_bits(sign | (is_small & small) | (~is_small & normal));
}

void tsr__f16_to_f32(float *out, const void *in, size_t count) {
    const unsigned char *bytes = in;
    for (size_t i = 0; i < count; i++) {
        uint16_t half;
        memcpy(&half, bytes + 2 * i, sizeof half);
        out[i] = half_to_float(half);
    }
}

void tsr__bf16_to_f32(float *out, const void *in, size_t count) {
    const unsigned char *bytes = in;
    for (size_t i = 0; i < count; i++) {
        uint16_t upper;
        memcpy(&upper, bytes + 2 * i, sizeof upper);
        out[i] = float_of_bits((uint32_t)upper << 16);
    }
}

/* E5M2 is the upper byte of a half. */
static float e5m2_to_float(unsigned char byte) {
    return half_to_float((uint32_t)byte << 8);
}

/* E4M3 (the "FN" kind): exponent bias 7, no infinities, NaN only as all ones. Placed in a half (bias 15) its exponent
 * and mantissa read 2^-8 too small. */
static float e4m3_to_float(unsigned char byte) {
    const uint32_t magnitude = byte & 0x7fu;
    const uint32_t sign = (byte & 0x80u) << 8;
    if (magnitude == 0x7f) return float_of_bits(0x7fc00000u | sign << 16);
    return half_to_float(sign | magnitude << 7) * 256.0f;
}

/* Blocks that the range touches only in part go through a buffer. */
static void blocks_to_f32(const tsr__tensor_view *view, size_t first, size_t count, float *out) {
    enum { LARGEST = 256 };
    float buffer[LARGEST];
    const size_t block = tsr__dtype_block(view->dtype), size = tsr__dtype_size(view->dtype);
    const unsigned char *bytes = view->data;
    while (count) {
        const size_t skip = first % block, take = block - skip < count ? block - skip : count;
        const unsigned char *from = bytes + first / block * size;
        if (take == block) {
            tsr__gguf_block_to_f32(view->dtype, from, out);
        } else {
            tsr__gguf_block_to_f32(view->dtype, from, buffer);
            memcpy(out, buffer + skip, take * sizeof *out);
        }
        out += take;
        first += take;
        count -= take;
    }
}

tsr_status tsr__tensor_part_to_f32(const tsr__tensor_view *view, size_t first, size_t count, float *out,
                                   tsr_error *err) {
    const unsigned char *bytes = (const unsigned char *)view->data;
    if (view->dtype == TSR_DTYPE_PACKED)
        return tsr__fail(
            err, TSR_UNSUPPORTED,
            "tensor \"%s\" lies in a packed cache, whose numbers cannot be read: give the original checkpoint",
            view->name);
    if (!tsr__dtype_is_float(view->dtype))
        return tsr__fail(err, TSR_UNSUPPORTED, "tensor \"%s\": %s values are not floating point", view->name,
                         tsr__dtype_name(view->dtype));
    if (count) bytes += first / tsr__dtype_block(view->dtype) * tsr__dtype_size(view->dtype);
    switch (view->dtype) {
    case TSR_DTYPE_F32:
        if (count) memcpy(out, bytes, count * sizeof *out);
        break;
    case TSR_DTYPE_F16: tsr__f16_to_f32(out, bytes, count); break;
    case TSR_DTYPE_BF16: tsr__bf16_to_f32(out, bytes, count); break;
    case TSR_DTYPE_F64:
        for (size_t i = 0; i < count; i++) {
            double value;
            memcpy(&value, bytes + 8 * i, sizeof value);
            out[i] = (float)value;
        }
        break;
    case TSR_DTYPE_F8_E4M3:
        for (size_t i = 0; i < count; i++) out[i] = e4m3_to_float(bytes[i]);
        break;
    case TSR_DTYPE_F8_E5M2:
        for (size_t i = 0; i < count; i++) out[i] = e5m2_to_float(bytes[i]);
        break;
    default: blocks_to_f32(view, first, count, out); break;
    }
    for (size_t i = 0; view->scale != 0.0f && i < count; i++) out[i] *= view->scale;
    return TSR_OK;
}

tsr_status tsr__tensor_to_f32(const tsr__tensor_view *view, float *out, tsr_error *err) {
    return tsr__tensor_part_to_f32(view, 0, view->count, out, err);
}
