/* nn/nn.h - the small set of tensor operations a diffusion network is made of, behind one back-end table.
 *
 * Activations are NHWC: a picture is [n, h, w, c], a token sequence is [n, 1, tokens, c]; the same memory serves both, so a
 * transformer block reads a picture without a transpose. Activations are float32 or bfloat16 (the context's precision); bias
 * and norm parameters are float32. Callers never know which back end runs.
 *
 * Memory: activations come from the context's pool (tsr__nn_tensor / tsr__nn_release); packed weights belong to the model.
 * Threads: one thread at a time per context. */
#ifndef TSR_NN_H
#define TSR_NN_H

#include "tessera/status.h"
#include <stddef.h>

typedef enum tsr__precision { TSR__F32 = 0, TSR__BF16 = 1 } tsr__precision;

typedef struct tsr__nn tsr__nn;               /* a context: back end, precision, threads, pool, primitive cache */
typedef struct tsr__nn_weight tsr__nn_weight; /* a linear or convolution weight, packed once, with its bias */

typedef struct tsr__tensor {
    void *data; /* float or uint16_t (bfloat16), dense NHWC */
    int n, h, w, c;
    int dtype; /* tsr__precision */
} tsr__tensor;

typedef struct tsr__nn_options {
    tsr__precision precision;
    int threads; /* 0: all the process may use */
} tsr__nn_options;

/* Whether this CPU computes bf16 natively (avx512_bf16 or AMX). */
int tsr__nn_has_bf16(void);
/* UNSUPPORTED with one clear line when bf16 is asked for and the CPU lacks it. */
tsr_status tsr__nn_new(tsr__nn **out, const tsr__nn_options *options, tsr_error *err);
void tsr__nn_free(tsr__nn *nn);
/* From now on weights get their layouts and sizes, but no numbers: nothing can be computed with them. */
void tsr__nn_plan_only(tsr__nn *nn);
tsr__precision tsr__nn_precision(const tsr__nn *nn);
/* Highest number of bytes the activation pool held at once since creation, and bytes held in packed weights, those that lie in
 * a mapped file included. */
size_t tsr__nn_peak_bytes(const tsr__nn *nn);
size_t tsr__nn_weight_bytes(const tsr__nn *nn);
/* Bytes held now: packed weights, and activations that are in use. */
size_t tsr__nn_held_bytes(const tsr__nn *nn);
/* Gives pooled memory that no tensor uses back to the system. */
void tsr__nn_trim(tsr__nn *nn);

/* Names for reports: the instruction set of the kernels by hand ("avx512_bf16", "avx2", ...), and the thread count. */
const char *tsr__nn_isa(const tsr__nn *nn);
int tsr__nn_threads(const tsr__nn *nn);

/* Time by kind of operation and shape since tsr__nn_profile_start (which also clears); rows are sorted, slowest first, and
 * stay valid until the next call on the context. work is floating-point operations, 0 where nothing is multiplied. */
typedef struct tsr__nn_profile_row {
    const char *kind;
    char shape[72];
    long calls;
    double seconds, work;
} tsr__nn_profile_row;
tsr_status tsr__nn_profile_start(tsr__nn *nn, tsr_error *err);
void tsr__nn_profile_stop(tsr__nn *nn);
const tsr__nn_profile_row *tsr__nn_profile_rows(tsr__nn *nn, int *count);

/* --- tensors ------------------------------------------------------------------------------------------------------ */
/* An uninitialised activation of the context's precision. Release is by value; a zeroed tsr__tensor is allowed. */
tsr_status tsr__nn_tensor(tsr__nn *nn, tsr__tensor *out, int n, int h, int w, int c, tsr_error *err);
tsr_status tsr__nn_tensor_typed(tsr__nn *nn, tsr__tensor *out, int n, int h, int w, int c, tsr__precision type,
                                tsr_error *err);
void tsr__nn_release(tsr__nn *nn, tsr__tensor *tensor); /* zeroes *tensor */
/* float32 NCHW <-> activation NHWC (converted to/from the context's precision). */
tsr_status tsr__nn_from_nchw(tsr__nn *nn, tsr__tensor *out, const float *nchw, int n, int c, int h, int w,
                             tsr_error *err);
tsr_status tsr__nn_to_nchw(tsr__nn *nn, float *nchw, const tsr__tensor *x, tsr_error *err);
/* float32 rows [n, tokens, c] <-> activation [n, 1, tokens, c]. */
tsr_status tsr__nn_from_rows(tsr__nn *nn, tsr__tensor *out, const float *rows, int n, int tokens, int c,
                             tsr_error *err);
tsr_status tsr__nn_to_rows(tsr__nn *nn, float *rows, const tsr__tensor *x, tsr_error *err);

/* --- weights (packed for the context's precision; the source is not kept) ------------------------------------------- */
/* Reads PyTorch's layouts as float32 through a callback so that a whole f32 copy of a big model never exists: fill() writes
 * `count` floats of the source into dst. */
typedef tsr_status (*tsr__fill_fn)(void *user, float *dst, size_t count, tsr_error *err);
/* weight [out_features, in_features]; bias NULL or out_features floats. */
tsr_status tsr__nn_linear_weight(tsr__nn *nn, tsr__nn_weight **out, int out_features, int in_features,
                                 tsr__fill_fn fill, void *user, const float *bias, tsr_error *err);
/* weight [out_c, in_c, k, k]; stride 1 or 2. pad_before / pad_after: zeros on top-left / bottom-right (SD's VAE downsample has 0, 1). */
tsr_status tsr__nn_conv_weight(tsr__nn *nn, tsr__nn_weight **out, int out_c, int in_c, int k, int stride,
                               int pad_before, int pad_after, tsr__fill_fn fill, void *user, const float *bias,
                               tsr_error *err);
void tsr__nn_weight_free(tsr__nn *nn, tsr__nn_weight *weight); /* NULL is allowed */

/* --- packed weights kept in files ------------------------------------------------------------------------------------- */
enum { TSR__NN_LAYOUT_SIZE = 256, TSR__NN_PACK_ALIGN = 64 };
/* What decides how weights are laid out, besides precision and threads. */
typedef struct tsr__nn_packing {
    int version; /* of this library's own choices: which weights stand together, for which problem they are laid out */
    char library[64]; /* "oneDNN 2.6.3" */
    char isa[48];     /* the instruction set the library computes with, "avx512_core_bf16" */
} tsr__nn_packing;
void tsr__nn_packing_here(tsr__nn_packing *out);

/* A linear (k 0) or convolution. */
typedef struct tsr__nn_shape {
    int out_c, in_c, k, stride, pad_before, pad_after;
} tsr__nn_shape;
/* A weight's bytes as the context keeps them. */
typedef struct tsr__nn_packed {
    const void *data;                 /* at a multiple of TSR__NN_PACK_ALIGN bytes; NULL in a context that only plans */
    size_t size;                      /* a multiple of TSR__NN_PACK_ALIGN: the end is zeros */
    char layout[TSR__NN_LAYOUT_SIZE]; /* oneDNN's, as text: "bf16 320x320x3x3 ..." */
    int threads;                      /* it was chosen for: oneDNN may choose others for others */
} tsr__nn_packed;
/* How a weight made by fill lies in memory; valid as long as the weight. UNSUPPORTED when its layout has no plain form. */
tsr_status tsr__nn_weight_packed(const tsr__nn *nn, const tsr__nn_weight *weight, tsr__nn_packed *out, tsr_error *err);
/* A weight from such bytes, which are used where they lie and must outlive it (a few that have padding are copied). Layout
 * and size are compared with what this context would choose, so bytes from anywhere are safe to give; UNSUPPORTED with the
 * difference otherwise. bias: NULL or out_c floats. */
tsr_status tsr__nn_weight_from_packed(tsr__nn *nn, tsr__nn_weight **out, const tsr__nn_shape *shape,
                                      const tsr__nn_packed *packed, const float *bias, tsr_error *err);

/* --- terms: what single samples of a batch change about a weight's result -------------------------------------------- */
/* Adapters beside the weights they change, so that samples with different adapters share the weights in one batch. */
typedef struct tsr__nn_terms tsr__nn_terms;
tsr_status tsr__nn_terms_new(tsr__nn_terms **out, tsr__nn *nn, tsr_error *err);
void tsr__nn_terms_free(tsr__nn_terms *terms); /* NULL is allowed */

/* y = gain .* y + shift, then y += up(down(x)), or y += down(x). down takes the weight's input as the weight does (kernel,
 * stride, padding); up is linear, or NULL; where down gives m times as many channels as up takes, up serves each of the m
 * parts. input_gain multiplies what the weight itself sees of x, not what products see: of a weight's terms, only the first
 * may have it. All parts may be NULL, gain and shift only together. */
typedef struct tsr__nn_term {
    tsr__nn_weight *down, *up;
    float *gain, *shift; /* [out] */
    float *input_gain;   /* [in] */
} tsr__nn_term;
/* A weight may get several, which follow each other. Takes the term's parts over, also when it fails. */
tsr_status tsr__nn_terms_add(tsr__nn_terms *terms, const tsr__nn_weight *weight, const tsr__nn_term *term,
                             tsr_error *err);
/* Other values for a norm, known by its gamma; both are copied, [c]. Once a norm. */
tsr_status tsr__nn_terms_add_norm(tsr__nn_terms *terms, const float *norm, const float *gamma, const float *beta, int c,
                                  tsr_error *err);
size_t tsr__nn_terms_count(const tsr__nn_terms *terms);
/* samples[i] (NULL: none) counts for sample i of everything that linears, convolutions and norms compute until the next call
 * of this; n must then be the batch, or 1: the same for every sample. Borrowed. n 0: an end of it. */
void tsr__nn_terms_use(tsr__nn *nn, const tsr__nn_terms *const *samples, int n);
/* What is in use, for code that computes some samples at a time; NULL and 0: nothing. */
const tsr__nn_terms *const *tsr__nn_terms_in_use(const tsr__nn *nn, int *n);

/* --- operations. Each makes *out (from the pool) unless said otherwise; inputs stay the caller's. -------------------- */
typedef enum tsr__act {
    TSR__ACT_NONE,
    TSR__ACT_SILU,
    TSR__ACT_GELU, /* erf */
    TSR__ACT_QUICK_GELU,
    TSR__ACT_RELU,
    TSR__ACT_COUNT
} tsr__act;
/* y = act(x W^T + b) (+ residual, after the activation; may be NULL). x [n, h, w, in]. */
tsr_status tsr__nn_linear(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x, const tsr__nn_weight *w, tsr__act act,
                          const tsr__tensor *residual, tsr_error *err);
/* Several projections of one input, for q, k, v: pack them as one weight (rows stacked) and use tsr__nn_linear, then give
 * tsr__nn_attention strided views. */
/* y = conv(x) + b (+ per-sample channel vector add[n, c], float32 NULL or [n * out_c]) (+ residual). */
tsr_status tsr__nn_conv2d(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x, const tsr__nn_weight *w,
                          const float *channel_add, const tsr__tensor *residual, tsr_error *err);
/* y = act(conv(x) + b (+ residual)): unlike a linear layer's, this activation comes last. */
tsr_status tsr__nn_conv2d_act(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x, const tsr__nn_weight *w,
                              const tsr__tensor *residual, tsr__act act, tsr_error *err);
/* Group norm over (h, w, c / groups), then optionally SiLU. gamma, beta: c floats. */
tsr_status tsr__nn_group_norm(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x, int groups, float eps,
                              const float *gamma, const float *beta, int silu, tsr_error *err);
tsr_status tsr__nn_layer_norm(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x, float eps, const float *gamma,
                              const float *beta, tsr_error *err);
/* softmax(q k^T / sqrt(d) + mask) v with a streaming softmax: no full score matrix ever exists. A view names token rows inside a
 * tensor: row i of sample b, head j starts at data + ((b * tokens + i) * row_stride + offset + j * head_dim) elements.
 * out is [n, 1, q.tokens, heads * head_dim]. mask: NULL or float32 [q.tokens, kv tokens], added to the scores (-inf
 * allowed; a query whose every score is -inf gives zeros). causal: query i sees keys <= i. Any head_dim. */
typedef struct tsr__token_view {
    const tsr__tensor *x;
    int tokens;
    int row_stride;
    int offset;
} tsr__token_view;
tsr_status tsr__nn_attention(tsr__nn *nn, tsr__tensor *out, tsr__token_view q, tsr__token_view k, tsr__token_view v,
                             int n, int heads, int head_dim, const float *mask, int causal, tsr_error *err);
/* x [.., 2c] -> a * gelu(b), a the first half of the channels (GEGLU after its projection). */
tsr_status tsr__nn_geglu(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x, tsr_error *err);
tsr_status tsr__nn_upsample2x(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x, tsr_error *err); /* nearest */
tsr_status tsr__nn_concat(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *a, const tsr__tensor *b,
                          tsr_error *err); /* channels */
tsr_status tsr__nn_add(tsr__nn *nn, tsr__tensor *inout, const tsr__tensor *x, tsr_error *err);
/* Rows of c values, each with a weight of its own: inout = w inout (x NULL), or inout += w x. */
tsr_status tsr__nn_weigh_rows(tsr__nn *nn, tsr__tensor *inout, const tsr__tensor *x, const float *weights,
                              tsr_error *err);
tsr_status tsr__nn_activate(tsr__nn *nn, tsr__tensor *inout, tsr__act act, tsr_error *err);
/* SD's timestep embedding: [cos(t f_i), sin(t f_i)], f_i = exp(-ln(10000) i / (dim / 2)); out is [n, 1, 1, dim], an activation
 * of the context's precision like every other. */
tsr_status tsr__nn_timestep_embedding(tsr__nn *nn, tsr__tensor *out, const float *timesteps, int n, int dim,
                                      tsr_error *err);
/* Sets *finite to 0 when any value is NaN or infinite. */
tsr_status tsr__nn_is_finite(tsr__nn *nn, const tsr__tensor *x, int *finite, tsr_error *err);

#endif /* TSR_NN_H */
