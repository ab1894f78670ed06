/* weights/tensor_pack.c - see tensor_pack.h. Little-endian hosts only, like the file format. */
#include "weights/tensor_pack.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

static uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static uint16_t to_bf16(float value) {
    const uint32_t bits = bits_of(value);
    if (isnan(value)) return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

/* A magnitude as a float of `mantissa` bits whose smallest normal exponent is `lowest`: exponent and mantissa as one number,
 * subnormals included. nearbyint rounds halves to even. */
static uint32_t to_small(double magnitude, int mantissa, int lowest) {
    int exponent;
    if (magnitude == 0.0) return 0;
    (void)frexp(magnitude, &exponent); /* magnitude < 2^exponent */
    exponent = exponent - 1 < lowest ? lowest : exponent - 1;
    const uint32_t steps = (uint32_t)nearbyint(ldexp(magnitude, mantissa - exponent));
    /* normals: steps has its hidden bit, which the exponent's count starts with */
    return ((uint32_t)(exponent - lowest) << mantissa) + steps;
}

static uint16_t to_f16(float value) {
    const uint32_t sign = bits_of(value) >> 16 & 0x8000u;
    if (isnan(value)) return (uint16_t)(sign | 0x7e00u);
    const double magnitude = fabs((double)value);
    if (magnitude >= 65520.0) return (uint16_t)(sign | 0x7c00u);
    return (uint16_t)(sign | to_small(magnitude, 10, -14));
}

static unsigned char to_e4m3(float value) {
    const uint32_t sign = bits_of(value) >> 24 & 0x80u;
    if (isnan(value)) return (unsigned char)(sign | 0x7fu);
    const double magnitude = fabs((double)value);
    if (magnitude >= 448.0) return (unsigned char)(sign | 0x7eu);
    return (unsigned char)(sign | to_small(magnitude, 3, -6));
}

int tsr__tensor_from_f32(void *out, tsr__dtype dtype, const float *in, size_t count) {
    unsigned char *bytes = out;
    switch (dtype) {
    case TSR_DTYPE_F32:
        if (count) memcpy(out, in, count * sizeof *in);
        return 1;
    case TSR_DTYPE_F16:
    case TSR_DTYPE_BF16:
        for (size_t i = 0; i < count; i++) {
            const uint16_t half = dtype == TSR_DTYPE_F16 ? to_f16(in[i]) : to_bf16(in[i]);
            memcpy(bytes + 2 * i, &half, sizeof half);
        }
        return 1;
    case TSR_DTYPE_F8_E4M3:
        for (size_t i = 0; i < count; i++) bytes[i] = to_e4m3(in[i]);
        return 1;
    default: return 0;
    }
}
