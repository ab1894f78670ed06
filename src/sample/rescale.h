/* sample/rescale.h - guidance that keeps the spread of the positive prediction, so that a high cfg does not burn the picture.
 *
 * Owns the rule of ComfyUI's RescaleCFG (Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed"):
 * both predictions as v, guided, scaled to the standard deviation of the positive one, and mixed with what they were. */
#ifndef TSR_RESCALE_H
#define TSR_RESCALE_H

#include "tessera/sample.h"

/* One picture of `count` values. x: what the network saw; positive and negative: predictions of the clean latent. out may be x,
 * and nothing else. */
void tsr__guide_rescaled(float *out, const float *x, const float *positive, const float *negative, size_t count,
                         float sigma, const tsr_guide *guide);

#endif /* TSR_RESCALE_H */
