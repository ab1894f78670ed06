/* weights/lora.h - adapters (LoRA, LoHa, LoKr, plain differences) and what they add to a checkpoint's weights.
 *
 * Knows the key names of SD1, SD2 and SDXL checkpoints and of adapter files, in both of which one layer has several names; adds
 * strength * delta to a float array and owns no model. Borrows the file's weights. Threads: one at a time for each
 * adapter (it counts what was used).
 *
 *   tsr__lora_open(&lora, weights, &err);
 *   for each tensor of the checkpoint, as floats:
 *       tsr__lora_add(lora, key, shape, rank, tsr__lora_strength(key, model, clip), values, &changed, &err);
 *   tsr__lora_require_used(lora, &err);       an adapter for another model ends in one line */
#ifndef TSR_LORA_H
#define TSR_LORA_H

#include "weights/lora_layer.h"
#include "weights/weights.h"

typedef struct tsr__lora tsr__lora;

/* BAD_FORMAT or UNSUPPORTED when the file holds no adapter, an incomplete one, or a kind that cannot be merged here (OFT, GLoRA).
 * weights must outlive the adapter. */
tsr_status tsr__lora_open(tsr__lora **out, const tsr__weights *weights, tsr_error *err);
void tsr__lora_free(tsr__lora *lora);

/* Whether the adapter changes the checkpoint tensor of that name, "model.diffusion_model....", "cond_stage_model...." or
 * "conditioner....". */
int tsr__lora_changes(const tsr__lora *lora, const char *key);
/* Whether some layer is DoRA: merged, it is what it should be; it has no factors. */
int tsr__lora_is_dora(const tsr__lora *lora);
/* clip for names of the text encoder, model for all others. */
float tsr__lora_strength(const char *key, float model, float clip);
/* weight += strength * delta, weight of that shape in C order. *changed (may be NULL) tells whether the adapter has that
 * name; it counts as used then, also with strength 0. BAD_FORMAT when the shapes do not agree. */
tsr_status tsr__lora_add(tsr__lora *lora, const char *key, const int64_t *shape, int rank, float strength,
                         float *weight, int *changed, tsr_error *err);

/* The same difference as factors, of a weight [rows, columns]; *found 0: the adapter does not have that name,
 * or has it as DoRA. */
tsr_status tsr__lora_find_factors(tsr__lora_factors *out, tsr__lora *lora, const char *key, size_t rows, size_t columns,
                                  float strength, int *found, tsr_error *err);

/* Layers of the adapter that some tsr__lora_add met, and those that none did. */
size_t tsr__lora_used(const tsr__lora *lora);
size_t tsr__lora_unused(const tsr__lora *lora);
const char *tsr__lora_first_unused(const tsr__lora *lora); /* its name in the file, or NULL */
/* UNSUPPORTED with one line that says for what model the adapter seems to be, when nothing of it was used. */
tsr_status tsr__lora_require_used(const tsr__lora *lora, tsr_error *err);

#endif /* TSR_LORA_H */
