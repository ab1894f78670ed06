/* weights/lora.h - adapters (LoRA, LoHa, LoKr, GLoRA, OFT, DoRA, plain differences) and what they add to a checkpoint's weights.
 *
 * Knows the key names of SD1, SD2 and SDXL checkpoints and of adapter files, in both of which one layer has several names; adds
 * strength * delta to a float array and owns no model. Borrows the file's weights. Threads: one at a time for each
 * adapter (it counts what was used).
 *
 *   tsr__lora_open(&lora, weights, &err);
 *   for each tensor of the checkpoint, as floats:
 *       tsr__lora_add(lora, key, shape, rank, tsr__lora_strength(key, model, clip), values, &changed, &err);
 *   tsr__lora_require_used(lora, TSR__LORA_MODEL, &err);       an adapter for another model ends in one line */
#ifndef TSR_LORA_H
#define TSR_LORA_H

#include "weights/lora_layer.h"
#include "weights/weights.h"

typedef struct tsr__lora tsr__lora;

/* BAD_FORMAT or UNSUPPORTED when the file holds no adapter, an incomplete one, or a kind that cannot be merged here.
 * weights must outlive the adapter. */
tsr_status tsr__lora_open(tsr__lora **out, const tsr__weights *weights, tsr_error *err);
void tsr__lora_free(tsr__lora *lora);

/* Whether the adapter changes the checkpoint tensor of that name, "model.diffusion_model....", "cond_stage_model...." or
 * "conditioner....". */
int tsr__lora_changes(const tsr__lora *lora, const char *key);
/* clip for names of the text encoder, model for all others. */
float tsr__lora_strength(const char *key, float model, float clip);
/* weight += strength * delta, weight of that shape in C order. *changed (may be NULL) tells whether the adapter has that
 * name; it counts as used then, also with strength 0. BAD_FORMAT when the shapes do not agree. */
tsr_status tsr__lora_add(tsr__lora *lora, const char *key, const int64_t *shape, int rank, float strength,
                         float *weight, int *changed, tsr_error *err);

/* Whether what the adapter makes of that weight hangs on the weight itself (DoRA, GLoRA, OFT). */
int tsr__lora_is_bound(const tsr__lora *lora, const char *key);
/* The same change as factors, of a weight [rows, columns]; *found 0: the adapter does not have that name. weight: what is
 * changed; may be NULL unless tsr__lora_is_bound. */
tsr_status tsr__lora_find_factors(tsr__lora_factors *out, tsr__lora *lora, const char *key, size_t rows, size_t columns,
                                  float strength, const float *weight, int *found, tsr_error *err);

/* Layers of the adapter that some tsr__lora_add met, and those that none did. */
size_t tsr__lora_used(const tsr__lora *lora);
size_t tsr__lora_unused(const tsr__lora *lora);

/* The networks that a layer's name speaks of. */
enum { TSR__LORA_UNET = 1, TSR__LORA_TEXT = 2, TSR__LORA_MODEL = 3 };
/* Layers for these networks that were not used; *first (may be NULL): the name of one, with its tensor's ending, or NULL. */
size_t tsr__lora_unused_of(const tsr__lora *lora, int networks, const char **first);
/* UNSUPPORTED with one line that says for what model the adapter seems to be, when it has layers for these networks and none of
 * them was used. */
tsr_status tsr__lora_require_used(const tsr__lora *lora, int networks, tsr_error *err);
/* About how many values its terms beside a model's weights are: low ranks as they are, whole products as the layers. */
size_t tsr__lora_term_values(const tsr__lora *lora);

#endif /* TSR_LORA_H */
