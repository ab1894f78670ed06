/* engine/engine_family.h - the families of checkpoints the engine opens, and what their files do not say by themselves. */
#ifndef TSR_ENGINE_FAMILY_H
#define TSR_ENGINE_FAMILY_H

#include "model/text_encode.h"
#include "tessera/engine.h"
#include "weights/checkpoint_kind.h"

typedef struct tsr__family {
    tsr__checkpoint_kind kind;
    const char *name; /* "SD1" */
    tsr__text_family text;
    float latent_scale;
    int native_pixels; /* the side it was trained at */
} tsr__family;

/* OK for a full checkpoint of a family in the table; else UNSUPPORTED with one line that says what the file is and what it
 * lacks. partial: one part is enough. */
tsr_status tsr__family_find(const tsr__family **out, const tsr__weights *weights, const tsr__checkpoint_info *info,
                            int partial, tsr_error *err);

/* *family as an option's text says it (NULL and "auto" leave it): UNSUPPORTED, in one line with what the weights are, when they
 * cannot be that. A VAE alone may belong to any. */
tsr_status tsr__family_choose(const tsr__family **family, const char *told, const tsr__weights *weights,
                              const tsr__checkpoint_info *info, tsr_error *err);

/* What the network predicts: tessera.config's "prediction" ("eps" or "v") if there, else what the file's names and numbers
 * tell, as ComfyUI reads them. */
tsr_status tsr__family_prediction(tsr_prediction *out, const tsr__family *family, const tsr__weights *weights,
                                  const tsr__checkpoint_info *info, const char *config, tsr_error *err);

/* Whether its noise levels end at pure noise: tessera.config's "zsnr", else the mark `ztsnr` beside `v_pred`. */
tsr_status tsr__family_zero_snr(int *out, const tsr__weights *weights, const char *config, tsr_error *err);

/* SDXL's second conditioning vector: pooled text, then 256 values for each of height, width, crop top, crop left, target
 * height, target width. Source: ComfyUI 0.8.0, SDXL.encode_adm. */
enum { TSR__SIZE_VALUES = 6, TSR__SIZE_WIDTH = 256 };
void tsr__family_label(float *out, const float *pooled, int pooled_width, const float sizes[TSR__SIZE_VALUES]);

#endif /* TSR_ENGINE_FAMILY_H */
