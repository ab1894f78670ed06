/* upscale/upscale_model.h - networks that enlarge pictures: ESRGAN and RealESRGAN (RRDBNet), SRVGGNetCompact.
 *
 * Owns the packed weights; what network a file holds, its widths and its scale are told from names and shapes. Pictures
 * are float RGB, NHWC, in 0..1. Runs on the context it was opened with, which must outlive it. Knows no workflow. */
#ifndef TSR_UPSCALE_MODEL_H
#define TSR_UPSCALE_MODEL_H

#include "nn/nn.h"
#include "weights/weights.h"

typedef struct tsr__upscale_model tsr__upscale_model;

/* What ComfyUI's ImageUpscaleWithModel uses, in pixels of the input. */
enum { TSR__UPSCALE_TILE = 512, TSR__UPSCALE_OVERLAP = 32 };

/* Called after each tile; anything but 0 stops the run with CANCELLED. */
typedef int (*tsr__upscale_progress_fn)(void *user, int tiles_done, int tiles);

/* UNSUPPORTED with one line that says what the file is when it holds neither network. weights may be closed after. */
tsr_status tsr__upscale_model_open(tsr__upscale_model **out, tsr__nn *nn, const tsr__weights *weights, tsr_error *err);
void tsr__upscale_model_free(tsr__upscale_model *model);
int tsr__upscale_model_scale(const tsr__upscale_model *model);        /* 1, 2, 4, ... (compact: any) */
const char *tsr__upscale_model_name(const tsr__upscale_model *model); /* "RRDBNet 4x, 64 features, 23 blocks" */

/* out: [n, h * scale, w * scale, 3], clamped to 0..1. A picture with both sides within tile goes through whole; larger
 * ones in tiles that share overlap pixels, weighted by ramps over the shared border (ComfyUI's tiled_scale).
 * 0 <= overlap < tile. progress may be NULL. */
tsr_status tsr__upscale_model_run(tsr__upscale_model *model, float *out, const float *rgb, int n, int h, int w,
                                  int tile, int overlap, tsr__upscale_progress_fn progress, void *user, tsr_error *err);
/* The network alone on one picture, neither tiled nor clamped: out [h * scale, w * scale, 3]. */
tsr_status tsr__upscale_model_forward(tsr__upscale_model *model, float *out, const float *rgb, int h, int w,
                                      tsr_error *err);

#endif /* TSR_UPSCALE_MODEL_H */
