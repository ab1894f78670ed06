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
static inline float v_sum(vf a) {
    return _mm512_reduce_add_ps(a);
}
static inline float v_top(vf a) {
    return _mm512_reduce_max_ps(a);
}

#endif /* TSR_VEC_H */
