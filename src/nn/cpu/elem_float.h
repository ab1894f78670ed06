/* nn/cpu/elem_float.h - elements are float32: how kernels read, write and pair them. A "unit" is what one broadcast of
 * the matrix kernel multiplies: one float. */
#ifndef TSR_ELEM_H
#define TSR_ELEM_H

typedef float elem;
typedef float unit;
enum { PAIR = 1 }; /* elements in a unit */

static inline vf e_load(const elem *p) {
    return v_load(p);
}
static inline void e_store(elem *p, vf v) {
    v_store(p, v);
}
static inline vf e_load_n(const elem *p, size_t n) {
    return v_load_n(p, n);
}
static inline void e_store_n(elem *p, vf v, size_t n) {
    v_store_n(p, v, n);
}
static inline elem e_zero(void) {
    return 0.0f;
}
static inline vf u_load(const unit *p) {
    return v_load(p);
}
static inline vf u_set(const unit *p) {
    return v_set(*p);
}
static inline vf u_dot(vf a, vf b, vf c) {
    return v_fma(a, b, c);
}

/* The values of the units of two rows, side by side; b is of no use to single floats. */
static inline unit u_join(const elem *a, const elem *b) {
    (void)b;
    return *a;
}
/* 2^x for softmax weights, as exact as the element type deserves. */
#define E_EXP2 v_exp2

#endif /* TSR_ELEM_H */
