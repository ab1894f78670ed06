/* nn/onednn/onednn_priv.h - what the files of the oneDNN back end share: its state, packed weights, cached
 * primitives. */
#ifndef TSR_ONEDNN_PRIV_H
#define TSR_ONEDNN_PRIV_H

#include "nn/nn_priv.h"
#include "nn/onednn/onednn_compat.h"

/* A weight in one of oneDNN's blocked layouts. */
typedef struct tsr__pack {
    tsr__md md;
    void *data;
    size_t size;
    int borrowed; /* data lies in a mapped file: never written, not freed */
    dnnl_memory_t memory;
} tsr__pack;

/* Layouts depend on the problem in rare cases: a second pack is made when a shape has no fast primitive for the
 * first. */
enum { TSR__MAX_PACKS = 2 };

struct tsr__nn_weight {
    tsr__weight_spec spec; /* its pointers are NULL */
    tsr__pack packs[TSR__MAX_PACKS];
    int pack_count;
    int threads; /* that the first pack's layout was chosen for */
    float *bias; /* [out_c], always present */
};

/* One problem: everything that decides a primitive except the weight's layout. Compared as bytes, so zeroed first. */
typedef struct tsr__problem {
    int conv; /* 0: matmul [rows, in_c] x [in_c, out_c] */
    int n, h, w;
    int out_h, out_w;
    int out_c, in_c, k, stride, pad_before, pad_after;
    int act, residual; /* a matmul reads the residual apart; a convolution finds it in its destination */
    int act_last;      /* the activation comes behind the residual, not before it */
} tsr__problem;

typedef struct tsr__entry {
    tsr__problem problem;
    uint64_t hash;
    uint64_t used; /* the clock of its last use; 0: an empty place */
    tsr__md weight_md;
    dnnl_primitive_t primitive;
    dnnl_memory_t src, dst, bias, residual, scratch; /* data handles are set at each use */
    size_t scratch_size;
} tsr__entry;

enum { TSR__CACHE_SIZE = 512 };

typedef struct tsr__onednn {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    int pointwise_by_conv; /* AVX2: oneDNN's convolution keeps packed weights, its gemm packs them at every call */
    tsr__entry cache[TSR__CACHE_SIZE];
    uint64_t clock;
} tsr__onednn;

#define TSR_DNN(err, call, what)                                                                                       \
    do {                                                                                                               \
        dnnl_status_t dnn_ = (call);                                                                                   \
        if (dnn_ != dnnl_success)                                                                                      \
            TSR_FAIL((err), dnn_ == dnnl_out_of_memory ? TSR_NO_MEMORY : TSR_BACKEND, "oneDNN: %s: status %d", (what), \
                     (int)dnn_);                                                                                       \
    } while (0)

static inline dnnl_data_type_t tsr__dnn_type(const tsr__nn *nn) {
    return nn->precision == TSR__BF16 ? dnnl_bf16 : dnnl_f32;
}
/* Linear layers and 1x1 convolutions: a matrix product over pixels. */
static inline int tsr__is_pointwise(const tsr__weight_spec *s) {
    return s->k == 0 || (s->k == 1 && s->stride == 1 && s->pad_before == 0 && s->pad_after == 0);
}

/* The product of `rows` rows with a pointwise weight, as a matmul or (pointwise_by_conv) a 1x1 convolution of one
 * line. */
tsr__problem tsr__pointwise_problem(const tsr__onednn *state, const tsr__weight_spec *spec, int rows);

/* A primitive descriptor for a problem. */
typedef struct tsr__described {
    dnnl_primitive_desc_t pd;
    int fast; /* not a reference loop */
} tsr__described;
/* weights NULL asks oneDNN to choose the layout. The caller destroys out->pd. */
tsr_status tsr__dnn_describe(tsr__nn *nn, tsr__described *out, const tsr__problem *problem, tsr__const_md weights,
                             tsr_error *err);
/* The primitive for a problem and a weight, from the cache or new; may add a pack to the weight. *pack says which of
 * its packs it reads. */
tsr_status tsr__dnn_primitive(tsr__nn *nn, tsr__entry **out, int *pack, const tsr__problem *problem,
                              tsr__nn_weight *weight, tsr_error *err);
void tsr__dnn_cache_clear(tsr__onednn *state);
/* "convolution 2x64x64x320 -> 64x64x320, kernel 3" */
void tsr__dnn_problem_text(char *out, size_t size, const tsr__problem *problem);

tsr_status tsr__dnn_weight_new(tsr__nn *nn, tsr__nn_weight **out, const tsr__weight_spec *spec, tsr_error *err);
void tsr__dnn_weight_free(tsr__nn *nn, tsr__nn_weight *weight);
tsr_status tsr__dnn_weight_packed(const tsr__nn *nn, const tsr__nn_weight *weight, tsr__nn_packed *out, tsr_error *err);
/* Packs a copy of pack 0 in another layout. */
tsr_status tsr__dnn_repack(tsr__nn *nn, tsr__nn_weight *weight, tsr__const_md layout, tsr_error *err);

#endif /* TSR_ONEDNN_PRIV_H */
