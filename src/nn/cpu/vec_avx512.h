/* nn/cpu/vec_avx512.h - vectors of 16 floats for AVX-512 (F, BW, DQ, VL): the kernels' vocabulary. */
#ifndef TSR_VEC_H
#define TSR_VEC_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

enum { VL = 16, MAX_NV = 3, MR = 8 };
typedef __m512 vf;

static inline vf v_set(float x) {
    return _mm512_set1_ps(x);
}
static inline vf v_load(const float *p) {
    return _mm512_loadu_ps(p);
}
static inline void v_store(float *p, vf v) {
    _mm512_storeu_ps(p, v);
}
static inline vf v_fma(vf a, vf b, vf c) {
    return _mm512_fmadd_ps(a, b, c);
}
static inline vf v_max(vf a, vf b) {
    return _mm512_max_ps(a, b);
}
static inline vf v_min(vf a, vf b) {
    return _mm512_min_ps(a, b);
}
static inline vf v_abs(vf a) {
    return _mm512_abs_ps(a);
}
static inline vf v_sign_of(vf a, vf sign) {
    return _mm512_or_ps(a, _mm512_and_ps(_mm512_set1_ps(-0.0f), sign));
}
static inline vf v_shift_exponent(vf rounded) { /* 2^n from the bits of 1.5 * 2^23 + n */
    __m512i n = _mm512_sub_epi32(_mm512_castps_si512(rounded), _mm512_castps_si512(_mm512_set1_ps(12582912.0f)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(n, _mm512_set1_epi32(127)), 23));
}
/* Reads and writes of the first n floats only; the rest reads as 0. */
static inline __mmask16 first_lanes(size_t n) {
    return (__mmask16)((1u << n) - 1);
}
static inline vf v_load_n(const float *p, size_t n) {
    return _mm512_maskz_loadu_ps(first_lanes(n), p);
}
static inline void v_store_n(float *p, vf v, size_t n) {
    _mm512_mask_storeu_ps(p, first_lanes(n), v);
}
/* The first n of v, then `rest`. */
static inline vf v_keep(vf v, size_t n, vf rest) {
    return _mm512_mask_blend_ps(first_lanes(n), rest, v);
}
/* x = whole + fraction, |fraction| <= 1/2; v_pow2 scales by 2^whole, to exactly 0 for -infinity. */
static inline vf v_split(vf x, vf *whole) {
    *whole = _mm512_roundscale_ps(x, 0);
    return _mm512_reduce_ps(x, 0); /* 0 for infinities */
}
static inline vf v_pow2(vf p, vf whole) {
    return _mm512_scalef_ps(p, whole);
}
static inline float v_sum(vf a) {
    return _mm512_reduce_add_ps(a);
}
static inline float v_top(vf a) {
    return _mm512_reduce_max_ps(a);
}

#endif /* TSR_VEC_H */
