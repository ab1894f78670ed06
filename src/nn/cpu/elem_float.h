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
    float tail[VL] = { 0 };
    memcpy(tail, p, n * sizeof *p);
    return v_load(tail);
}
static inline void e_store_n(elem *p, vf v, size_t n) {
    float tail[VL];
    v_store(tail, v);
    memcpy(p, tail, n * sizeof *p);
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

#endif /* TSR_ELEM_H */
