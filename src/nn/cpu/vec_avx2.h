/* nn/cpu/vec_avx2.h - vectors of 8 floats for AVX2 with FMA: the kernels' vocabulary. */
#ifndef TSR_VEC_H
#define TSR_VEC_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

enum { VL = 8, MAX_NV = 3, MR = 4 };
typedef __m256 vf;

static inline vf v_set(float x) {
    return _mm256_set1_ps(x);
}
static inline vf v_load(const float *p) {
    return _mm256_loadu_ps(p);
}
static inline void v_store(float *p, vf v) {
    _mm256_storeu_ps(p, v);
}
static inline vf v_fma(vf a, vf b, vf c) {
    return _mm256_fmadd_ps(a, b, c);
}
static inline vf v_max(vf a, vf b) {
    return _mm256_max_ps(a, b);
}
static inline vf v_min(vf a, vf b) {
    return _mm256_min_ps(a, b);
}
static inline vf v_abs(vf a) {
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}
static inline vf v_sign_of(vf a, vf sign) {
    return _mm256_or_ps(a, _mm256_and_ps(_mm256_set1_ps(-0.0f), sign));
}
static inline vf v_shift_exponent(vf rounded) { /* 2^n from the bits of 1.5 * 2^23 + n */
    __m256i n = _mm256_sub_epi32(_mm256_castps_si256(rounded), _mm256_castps_si256(_mm256_set1_ps(12582912.0f)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}
/* Reads and writes of the first n floats only; the rest reads as 0. */
static inline __m256i first_lanes(size_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline vf v_load_n(const float *p, size_t n) {
    return _mm256_maskload_ps(p, first_lanes(n));
}
static inline void v_store_n(float *p, vf v, size_t n) {
    _mm256_maskstore_ps(p, first_lanes(n), v);
}
/* The first n of v, then `rest`. */
static inline vf v_keep(vf v, size_t n, vf rest) {
    return _mm256_blendv_ps(rest, v, _mm256_castsi256_ps(first_lanes(n)));
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
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}
static inline float v_top(vf a) {
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}

#endif /* TSR_VEC_H */
