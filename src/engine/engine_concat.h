/* engine/engine_concat.h - what a UNet that is wider than its latents takes beside them: a mask and the picture without what
 * it covers (inpainting), or a picture to edit. Source: ComfyUI 0.8.0, BaseModel.concat_cond, set_inpaint and IP2P. */
#ifndef TSR_ENGINE_CONCAT_H
#define TSR_ENGINE_CONCAT_H

#include "tessera/denoiser.h"
#include "tessera/engine.h"
#include "tessera/latent.h"

/* How many channels the engine's UNet takes beside the latent's; 0: none. */
int tsr__concat_channels(const tsr_engine *engine);

/* out [extra, h, w] for each of a call's pictures, `stride` floats apart. given: NULL, or a conditioning's own picture in raw
 * VAE units with its mask as noise_mask, either of any size; what it lacks is the run's (call->start), and what that lacks is
 * blank: a mask of ones over an empty picture. */
tsr_status tsr__concat_fill(float *out, size_t stride, const tsr_engine *engine, const tsr_latent *given,
                            const tsr_denoise_call *call, const int shape[4], tsr_error *err);

#endif /* TSR_ENGINE_CONCAT_H */
