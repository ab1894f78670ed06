/* weights/lora_bound.h - layers of adapters whose difference hangs on the weight they change: GLoRA, OFT, BOFT.
 *
 * Knows the formulas; knows no names and no files. DoRA, which turns any difference into such a one, is lora_layer.c's. */
#ifndef TSR_LORA_BOUND_H
#define TSR_LORA_BOUND_H

#include "weights/lora_layer.h"

/* Whether the layer is one of these. */
int tsr__lora_bound_is(const tsr__lora_layer *layer);
/* weight [rows, columns] += what the layer makes of it. BAD_ARGUMENT without a message when the shapes do not agree. */
tsr_status tsr__lora_bound_add(const tsr__lora_layer *layer, size_t rows, size_t columns, float strength, float *weight,
                               tsr_error *err);

#endif /* TSR_LORA_BOUND_H */
