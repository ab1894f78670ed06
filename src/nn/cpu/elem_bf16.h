/* nn/cpu/elem_bf16.h - elements are bfloat16 on AVX-512: how kernels read, write and pair them. A "unit" is what one
 * broadcast of the matrix kernel multiplies: two neighbouring bfloat16 values, multiplied and summed by one instruction. */
#ifndef TSR_ELEM_H
#define TSR_ELEM_H

typedef uint16_t elem;
typedef uint32_t unit;
enum { PAIR = 2 }; /* elements in a unit */

static inline vf widen(__m256i v) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16));
}
static inline vf e_load(const elem *p) {
    return widen(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
static inline void e_store(elem *p, vf v) {
    _mm256_storeu_si256((__m256i *)(void *)p, (__m256i)_mm512_cvtneps_pbh(v));
}
static inline vf e_load_n(const elem *p, size_t n) {
    return widen(_mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1), p));
}
static inline void e_store_n(elem *p, vf v, size_t n) {
    _mm256_mask_storeu_epi16(p, (__mmask16)((1u << n) - 1), (__m256i)_mm512_cvtneps_pbh(v));
}
static inline elem e_zero(void) {
    return 0;
}
static inline __m512i u_load(const unit *p) {
    return _mm512_loadu_si512(p);
}
static inline __m512i u_set(const unit *p) {
    return _mm512_set1_epi32((int)*p);
}
static inline vf u_dot(__m512i a, __m512i b, vf c) {
    return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b);
}

#endif /* TSR_ELEM_H */
