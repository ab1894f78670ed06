/* nn/cpu/kernels.h - one table of vectorised inner loops for each instruction set and element type.
 *
 * kernels_body.h is compiled once for each; cpu_detect.c chooses at run time. Kernels are single-threaded, know no
 * tensor, and allocate nothing: cpu_ops.c and cpu_attention.c split the work between threads. `elements` are float in
 * the float32 tables and uint16_t (bfloat16) in the bf16 table. */
#ifndef TSR_NN_KERNELS_H
#define TSR_NN_KERNELS_H

#include <stddef.h>

/* One block of queries of one head against all keys. Packed keys and values are made by pack_keys and pack_values. */
typedef struct tsr__attention_block {
    const void *q; /* elements, first row of the block */
    const void *packed_k, *packed_v;
    void *out;                                /* elements, first row */
    const float *mask;                        /* first row or NULL */
    size_t q_stride, out_stride, mask_stride; /* in elements */
    int rows, keys, dim;
    int causal_first; /* -1, or the index of the first query: it sees keys <= causal_first */
    float scale;
    void *scratch; /* attention_scratch(keys, dim) bytes, 64-byte aligned, one a thread */
} tsr__attention_block;

typedef struct tsr__kernels {
    const char *name;
    void (*to_float)(float *out, const void *x, size_t count);
    void (*from_float)(void *out, const float *x, size_t count);
    /* pixels x c elements to the mean and the sum of squared distances from it, a pair for each of `groups` groups.
     * work: 2 * c floats. */
    void (*group_stats)(double *out, const void *x, size_t pixels, int c, int groups, float *work);
    /* y = (x - mean[c]) * scale[c] + shift[c], then SiLU when asked; factors: mean, scale, shift, c floats each. */
    void (*normalise)(void *out, const void *x, size_t pixels, int c, const float *factors, int silu);
    void (*layer_norm)(void *out, const void *x, size_t rows, int c, float eps, const float *gamma, const float *beta);
    void (*geglu)(void *out, const void *x, size_t rows, int c); /* x rows have 2c */
    void (*add)(void *inout, const void *x, size_t count);
    /* inout = weight inout (x NULL), or inout += weight x */
    void (*weigh)(void *inout, const void *x, float weight, size_t count);
    void (*silu)(void *inout, size_t count);
    void (*gelu)(void *inout, size_t count);
    void (*quick_gelu)(void *inout, size_t count);
    void (*relu)(void *inout, size_t count);
    int (*is_finite)(const void *x, size_t count);
    /* Attention. Rows a block may have, and sizes in bytes. */
    int block_rows;
    size_t (*packed_k_size)(int keys, int dim);
    size_t (*packed_v_size)(int keys, int dim);
    size_t (*attention_scratch)(int keys, int dim);
    void (*pack_k)(void *packed, const void *k, size_t stride, int keys, int dim);
    void (*pack_v)(void *packed, const void *v, size_t stride, int keys, int dim);
    void (*attention)(const tsr__attention_block *block);
} tsr__kernels;

extern const tsr__kernels tsr__kernels_base;
#if defined(__x86_64__)
extern const tsr__kernels tsr__kernels_avx2;
extern const tsr__kernels tsr__kernels_avx512;
extern const tsr__kernels tsr__kernels_bf16;
#endif

/* The best float32 table for this CPU, or the one that the environment's TSR_CPU (base, avx2, avx512) asks for if the
 * CPU has it. */
const tsr__kernels *tsr__kernels_f32(void);
/* The bf16 table, or NULL where the CPU lacks it or TSR_CPU excludes it. */
const tsr__kernels *tsr__kernels_bf16_or_null(void);

#endif /* TSR_NN_KERNELS_H */
