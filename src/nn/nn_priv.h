/* nn/nn_priv.h - what the files of src/nn share: the context, its pool, and the back-end table.
 *
 * The front (nn.c, nn_front.c) checks shapes, makes results and calls the table; a back end never sees a wrong
 * shape. */
#ifndef TSR_NN_PRIV_H
#define TSR_NN_PRIV_H

#include "core/check.h"
#include "core/memory.h"
#include "nn/cpu/kernels.h"
#include "nn/nn.h"
#include <stdint.h>

/* Activations: blocks are kept after use and reused for requests of about their size. */
typedef struct tsr__pool_block tsr__pool_block;
typedef struct tsr__pool {
    tsr__pool_block *free_list; /* sorted by size, ascending */
    size_t held;                /* bytes of every block, used or free */
    size_t idle;                /* bytes of blocks in the free list */
    size_t peak;                /* the highest held */
} tsr__pool;

void *tsr__pool_take(tsr__pool *pool, size_t size); /* 64-byte aligned; NULL when memory is out */
void tsr__pool_give(tsr__pool *pool, void *data);   /* NULL is allowed */
void tsr__pool_trim(tsr__pool *pool);

/* What a new weight is made of; k = 0 is a linear weight. */
typedef struct tsr__weight_spec {
    int out_c, in_c, k, stride, pad_before, pad_after;
    tsr__fill_fn fill;
    void *user;
    const float *bias;            /* NULL or out_c floats */
    const tsr__nn_packed *packed; /* instead of fill */
} tsr__weight_spec;

typedef struct tsr__attention_call {
    tsr__tensor *out;
    tsr__token_view q, k, v;
    int n, heads, head_dim;
    const float *mask;
    int causal;
} tsr__attention_call;

typedef struct tsr__norm_call {
    int groups; /* group norm only */
    float eps;
    const float *gamma, *beta;
    int silu; /* group norm only */
} tsr__norm_call;

/* One row per back end. `out` tensors are allocated and have the right shape; shapes and types were checked. */
typedef struct tsr__nn_backend {
    const char *name;
    int (*has_bf16)(void);
    tsr_status (*open)(tsr__nn *nn, tsr_error *err);
    void (*close)(tsr__nn *nn);
    tsr_status (*weight_new)(tsr__nn *nn, tsr__nn_weight **out, const tsr__weight_spec *spec, tsr_error *err);
    void (*weight_free)(tsr__nn *nn, tsr__nn_weight *weight);
    const tsr__weight_spec *(*weight_spec)(const tsr__nn_weight *weight); /* its pointers are NULL */
    tsr_status (*weight_packed)(const tsr__nn *nn, const tsr__nn_weight *weight, tsr__nn_packed *out, tsr_error *err);
    void (*packing)(tsr__nn_packing *out);
    tsr_status (*linear)(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x, const tsr__nn_weight *w, tsr__act act,
                         const tsr__tensor *residual, tsr_error *err);
    tsr_status (*conv)(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x, const tsr__nn_weight *w,
                       const float *channel_add, const tsr__tensor *residual, tsr__act act, tsr_error *err);
    tsr_status (*group_norm)(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x, const tsr__norm_call *call,
                             tsr_error *err);
    void (*layer_norm)(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x, const tsr__norm_call *call);
    tsr_status (*attention)(tsr__nn *nn, const tsr__attention_call *call, tsr_error *err);
    void (*geglu)(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x);
    void (*upsample2x)(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x);
    void (*concat)(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *a, const tsr__tensor *b);
    void (*add)(tsr__nn *nn, tsr__tensor *inout, const tsr__tensor *x);
    void (*weigh_rows)(tsr__nn *nn, tsr__tensor *inout, const tsr__tensor *x, const float *weights);
    void (*scale_channels)(tsr__nn *nn, tsr__tensor *inout, const float *factors); /* [3, c]: off, times, then added */
    void (*copy)(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x);
    void (*activate)(tsr__nn *nn, tsr__tensor *inout, tsr__act act);
    int (*is_finite)(tsr__nn *nn, const tsr__tensor *x);
    void (*from_nchw)(tsr__nn *nn, tsr__tensor *out, const float *nchw);
    void (*to_nchw)(tsr__nn *nn, float *nchw, const tsr__tensor *x);
    void (*from_rows)(tsr__nn *nn, tsr__tensor *out, const float *rows);
    void (*to_rows)(tsr__nn *nn, float *rows, const tsr__tensor *x);
} tsr__nn_backend;

extern const tsr__nn_backend tsr__nn_onednn;

typedef struct tsr__profile tsr__profile;

struct tsr__nn {
    tsr__precision precision;
    int threads;
    int plan;                       /* weights without numbers */
    const tsr__kernels *kernels[2]; /* by tensor type; [TSR__BF16] is NULL where the CPU lacks it */
    const tsr__nn_backend *backend;
    void *state; /* the back end's own */
    tsr__pool pool;
    size_t weight_bytes;
    tsr__profile *profile;             /* NULL: not measuring */
    const tsr__nn_terms *const *terms; /* [terms_n], borrowed; NULL: none in use */
    int terms_n;
};

/* nn_terms.c */
enum { TSR__TERMS = 1, TSR__TERMS_GAIN = 2, TSR__TERMS_INPUT = 4 };
/* Whether some sample changes what that weight (or the norm of that gamma) gives: 0, or TSR__TERMS with what it takes:
 * TSR__TERMS_GAIN, the bare result before anything is added to it; TSR__TERMS_INPUT, tsr__terms_input's. */
int tsr__terms_concern(const tsr__nn *nn, const void *weight);
/* y is the weight's own result of tsr__terms_input's *out, before its activation. */
tsr_status tsr__terms_apply(tsr__nn *nn, tsr__tensor *y, const tsr__tensor *x, const tsr__nn_weight *w, tsr_error *err);
/* What the weight itself sees of x: *out is the caller's to release. */
tsr_status tsr__terms_input(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x, const tsr__nn_weight *w,
                            tsr_error *err);
/* out [..] += add [n, c], a vector for each sample. */
tsr_status tsr__terms_add_channels(tsr__nn *nn, tsr__tensor *out, const float *add, tsr_error *err);
/* A norm whose samples have gammas and betas of their own; groups 0: a layer norm. */
tsr_status tsr__terms_norm(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x, const tsr__norm_call *call,
                           tsr_error *err);

static inline size_t tsr__type_size(int dtype) {
    return dtype == TSR__BF16 ? 2 : 4;
}
static inline size_t tsr__tensor_count(const tsr__tensor *x) {
    return (size_t)x->n * (size_t)x->h * (size_t)x->w * (size_t)x->c;
}
static inline size_t tsr__tensor_rows(const tsr__tensor *x) {
    return (size_t)x->n * (size_t)x->h * (size_t)x->w;
}

/* --- cpu/: operations by hand, shared by every back end that computes on the CPU ---------------------------------- */
tsr_status tsr__cpu_group_norm(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x, const tsr__norm_call *call,
                               tsr_error *err);
void tsr__cpu_layer_norm(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x, const tsr__norm_call *call);
tsr_status tsr__cpu_attention(tsr__nn *nn, const tsr__attention_call *call, tsr_error *err);
void tsr__cpu_geglu(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x);
void tsr__cpu_upsample2x(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x);
void tsr__cpu_concat(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *a, const tsr__tensor *b);
void tsr__cpu_add(tsr__nn *nn, tsr__tensor *inout, const tsr__tensor *x);
void tsr__cpu_weigh_rows(tsr__nn *nn, tsr__tensor *inout, const tsr__tensor *x, const float *weights);
/* inout = (inout - factors[0][c]) * factors[1][c] + factors[2][c] */
void tsr__cpu_scale_channels(tsr__nn *nn, tsr__tensor *inout, const float *factors);
void tsr__cpu_copy(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x);
void tsr__cpu_activate(tsr__nn *nn, tsr__tensor *inout, tsr__act act);
int tsr__cpu_is_finite(tsr__nn *nn, const tsr__tensor *x);
void tsr__cpu_from_nchw(tsr__nn *nn, tsr__tensor *out, const float *nchw);
void tsr__cpu_to_nchw(tsr__nn *nn, float *nchw, const tsr__tensor *x);
void tsr__cpu_from_rows(tsr__nn *nn, tsr__tensor *out, const float *rows);
void tsr__cpu_to_rows(tsr__nn *nn, float *rows, const tsr__tensor *x);

#endif /* TSR_NN_PRIV_H */
