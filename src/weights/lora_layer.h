/* weights/lora_layer.h - one layer of an adapter: which tensors it has, and its difference as numbers.
 *
 * Knows the formulas of LoRA, LoHa and LoKr; knows no key names of checkpoints and no files. */
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
/* Whether the result hangs on the weight that is changed (DoRA), so that no difference stands for the layer. */
int tsr__lora_layer_is_dora(const tsr__lora_layer *layer);
/* weight [rows, columns] += strength * difference. BAD_ARGUMENT without a message when the shapes do not agree. */
tsr_status tsr__lora_layer_add(const tsr__lora_layer *layer, size_t rows, size_t columns, float strength, float *weight,
                               tsr_error *err);
/* strength * difference as factors up [rows, rank] and down [rank, columns]; where the kind has no low rank, up is NULL and
 * down is the difference [rows, columns]. Not for DoRA. Arrays are the caller's (free). */
typedef struct tsr__lora_factors {
    size_t rows, columns, rank;
    float *up, *down;
} tsr__lora_factors;
void tsr__lora_factors_clear(tsr__lora_factors *factors);
tsr_status tsr__lora_layer_factors(tsr__lora_factors *out, const tsr__lora_layer *layer, size_t rows, size_t columns,
                                   float strength, tsr_error *err);
tsr_status tsr__lora_layer_add_bias(const tsr__lora_layer *layer, size_t count, float strength, float *bias,
                                    tsr_error *err);

#endif /* TSR_LORA_LAYER_H */
