/* nn/cpu/vec_base.h - vectors of 4 floats in GCC's portable vector extension: the kernels' vocabulary for any CPU. */
#ifndef TSR_VEC_H
#define TSR_VEC_H

#include <stdint.h>
#include <string.h>

enum { VL = 4, MAX_NV = 2, MR = 4 };
typedef float vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));

static inline vf v_set(float x) {
    return (vf){ x, x, x, x };
}
static inline vf v_load(const float *p) {
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void v_store(float *p, vf v) {
    memcpy(p, &v, sizeof v);
}
static inline vf v_fma(vf a, vf b, vf c) {
    return a * b + c;
}
static inline vf v_select(vi mask, vf a, vf b) {
    return (vf)(((vi)a & mask) | ((vi)b & ~mask));
}
static inline vf v_max(vf a, vf b) {
    return v_select(a > b, a, b);
}
static inline vf v_min(vf a, vf b) {
    return v_select(a < b, a, b);
}
static inline vf v_abs(vf a) {
    return (vf)((vi)a & (vi){ INT32_MAX, INT32_MAX, INT32_MAX, INT32_MAX });
}
static inline vf v_sign_of(vf a, vf sign) { /* a is positive */
    vi bit = { INT32_MIN, INT32_MIN, INT32_MIN, INT32_MIN };
    return (vf)((vi)a | ((vi)sign & bit));
}
static inline vf v_shift_exponent(vf rounded) { /* 2^n from the bits of 1.5 * 2^23 + n */
    vi n = (vi)rounded - (vi)v_set(12582912.0f);
    return (vf)((n + 127) << 23);
}
/* Reads and writes of the first n floats only; the rest reads as 0. */
static inline vf v_load_n(const float *p, size_t n) {
    float tail[VL] = { 0 };
    memcpy(tail, p, n * sizeof *p);
    return v_load(tail);
}
static inline void v_store_n(float *p, vf v, size_t n) {
    memcpy(p, &v, n * sizeof *p);
}
/* The first n of v, then `rest`. */
static inline vf v_keep(vf v, size_t n, vf rest) {
    vi lane = { 0, 1, 2, 3 };
    return v_select(lane < (int32_t)n, v, rest);
}
/* x = whole + fraction, |fraction| <= 1/2; v_pow2 scales by 2^whole. From -127 down the power is exactly 0. */
static inline vf v_split(vf x, vf *whole) {
    vf magic = v_set(12582912.0f); /* 1.5 * 2^23: adding it rounds to a whole number */
    x = v_min(v_max(x, v_set(-127.0f)), v_set(127.0f));
    *whole = x + magic;
    return x - (*whole - magic);
}
static inline vf v_pow2(vf p, vf whole) {
    return p * v_shift_exponent(whole);
}
static inline float v_sum(vf a) {
    return (a[0] + a[1]) + (a[2] + a[3]);
}
static inline float v_top(vf a) {
    float x = a[0] > a[1] ? a[0] : a[1], y = a[2] > a[3] ? a[2] : a[3];
    return x > y ? x : y;
}

#endif /* TSR_VEC_H */
