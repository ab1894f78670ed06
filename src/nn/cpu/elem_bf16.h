/* nn/cpu/elem_bf16.h - elements are bfloat16 on AVX-512: how kernels read, write and pair them. A "unit" is what one
 * broadcast of the matrix kernel multiplies: two neighbouring bfloat16 values, multiplied and summed by one
 * instruction. */
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
    return widen(_mm256_maskz_loadu_epi16(first_lanes(n), p));
}
static inline void e_store_n(elem *p, vf v, size_t n) {
    _mm256_mask_storeu_epi16(p, first_lanes(n), (__m256i)_mm512_cvtneps_pbh(v));
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

/* The values of the units of two rows, side by side. */
static inline unit u_join(const elem *a, const elem *b) {
    return (unit)*a | (unit)*b << 16;
}
/* 2^x for softmax weights, as exact as the element type deserves: minimax cubic on [0, 1), error 7.5e-5, a thirtieth
 * of what rounding the weight to bf16 costs. scalef floors its exponent itself; -infinity gives 0. */
static inline vf e_exp2(vf x) {
    vf f = _mm512_reduce_ps(x, 1), p = v_set(0.07802452266443254f); /* 1: x - floor(x) */
    p = v_fma(p, f, v_set(0.22606715539312935f));
    p = v_fma(p, f, v_set(0.6958335405064481f));
    p = v_fma(p, f, v_set(0.99992521856401f));
    return _mm512_scalef_ps(p, x);
}
#define E_EXP2 e_exp2

#endif /* TSR_ELEM_H */
