/* weights/lora_layer.h - one layer of an adapter: which tensors it has, and its difference as numbers.
 *
 * Knows the formulas; knows no key names of checkpoints and no files. */
#ifndef TSR_LORA_LAYER_H
#define TSR_LORA_LAYER_H

#include "weights/weights.h"

typedef enum tsr__lora_role {
    TSR__LORA_ALPHA,
    TSR__LORA_UP,   /* [out, r] */
    TSR__LORA_DOWN, /* [r, in] or [r, in, k, k] */
    TSR__LORA_MID,  /* [r, r, k, k] */
    TSR__LOHA_W1_A, /* [out, r]; with cores [r, out] */
    TSR__LOHA_W1_B, /* [r, in...] */
    TSR__LOHA_W2_A,
    TSR__LOHA_W2_B,
    TSR__LOHA_T1, /* [r, r, k, k] */
    TSR__LOHA_T2,
    TSR__LOKR_W1, /* [a, b] */
    TSR__LOKR_W1_A,
    TSR__LOKR_W1_B,
    TSR__LOKR_W2, /* [out / a, in / b...] */
    TSR__LOKR_W2_A,
    TSR__LOKR_W2_B,
    TSR__LOKR_T2,
    TSR__GLORA_A1, /* the four of GLoRA: lora_bound.c */
    TSR__GLORA_A2,
    TSR__GLORA_B1,
    TSR__GLORA_B2,
    TSR__OFT_BLOCKS, /* OFT [blocks, n, n], BOFT [rounds, blocks, n, n] */
    TSR__OFT_RESCALE,
    TSR__LORA_DIFF,      /* the difference itself */
    TSR__LORA_DIFF_BIAS, /* that of the bias */
    TSR__LORA_DORA,      /* [out, 1] or [1, in, ...]: the lengths that the changed weight gets */
    TSR__LORA_ROLE_COUNT
} tsr__lora_role;

typedef struct tsr__lora_layer {
    const char *name; /* not 0-terminated */
    size_t name_length;
    const tsr__tensor_view *parts[TSR__LORA_ROLE_COUNT]; /* NULL where absent */
    int used;
} tsr__lora_layer;

/* NULL when the parts are exactly one kind's (and perhaps a bias); else what is wrong, "has no lora_down". */
const char *tsr__lora_layer_fault(const tsr__lora_layer *layer);
/* Whether the result hangs on the weight that is changed (DoRA, GLoRA, OFT), so that no difference stands for the layer. */
int tsr__lora_layer_is_bound(const tsr__lora_layer *layer);
/* weight [rows, columns] += strength * difference. BAD_ARGUMENT without a message when the shapes do not agree. */
tsr_status tsr__lora_layer_add(const tsr__lora_layer *layer, size_t rows, size_t columns, float strength, float *weight,
                               tsr_error *err);
/* The changed weight as row_gain .* W .* input_gain + up down: up [rows, rank] and down [rank, columns]; where the kind has no
 * low rank, up is NULL and down is [rows, columns]. row_gain [rows], input_gain [inputs]: NULL where there is none; one of
 * both at most, and only of DoRA. Arrays are the caller's (tsr__lora_factors_clear). */
typedef struct tsr__lora_factors {
    size_t rows, columns, rank, inputs;
    float *up, *down, *row_gain, *input_gain;
} tsr__lora_factors;
void tsr__lora_factors_clear(tsr__lora_factors *factors);
/* weight: the one that is changed, [rows, columns]; may be NULL unless the layer is bound. */
tsr_status tsr__lora_layer_factors(tsr__lora_factors *out, const tsr__lora_layer *layer, size_t rows, size_t columns,
                                   float strength, const float *weight, tsr_error *err);
/* About how many values the factors hold. */
size_t tsr__lora_layer_term_values(const tsr__lora_layer *layer);
tsr_status tsr__lora_layer_add_bias(const tsr__lora_layer *layer, size_t count, float strength, float *bias,
                                    tsr_error *err);

#endif /* TSR_LORA_LAYER_H */
