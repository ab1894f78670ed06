/* weights/lora_merge.h - a checkpoint with adapters merged in, as one more set of weights.
 *
 * Tensors that an adapter changes are float32 copies; all others stay views of the checkpoint. Whoever reads weights
 * needs to know nothing of adapters. */
#ifndef TSR_LORA_MERGE_H
#define TSR_LORA_MERGE_H

#include "weights/weights.h"

typedef struct tsr__merge_adapter {
    const char *path;
    float model, clip; /* strengths */
} tsr__merge_adapter;

/* *out borrows from base, which must outlive it. Adapters are added in order. Errors: those of tsr__lora_open, and
 * UNSUPPORTED when an adapter is for another kind of model, unless base is only a part of one. */
tsr_status tsr__lora_merge(tsr__weights **out, const tsr__weights *base, const tsr__merge_adapter *adapters, int n,
                           int partial, tsr_error *err);

#endif /* TSR_LORA_MERGE_H */
