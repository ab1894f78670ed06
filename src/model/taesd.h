/* model/taesd.h - TAESD, a tiny autoencoder that stands for a model's VAE: a sixteenth of the time, a little blurred.
 *
 * It takes latents as sampling sees them, (raw - shift) * scale, and pictures of 0..1. Either half may be missing.
 * Source: madebyollin's TAESD, and ComfyUI 0.8.0's wrapping of it. Threads: one at a time per nn context. */
#ifndef TSR_TAESD_H
#define TSR_TAESD_H

#include "nn/nn.h"
#include "weights/weights.h"

#define TSR__TAESD_FACTOR 8 /* pixels a latent cell */

typedef struct tsr__taesd tsr__taesd;
/* Whether PREFIX.taesd_encoder.* or PREFIX.taesd_decoder.* is there. prefix: with or without its last dot. */
int tsr__taesd_is_at(const tsr__weights *weights, const char *prefix);
/* Widths and depths are read from the weights, which need not outlive it. PREFIX.vae_scale must be there, vae_shift is 0
 * where it is not. UNSUPPORTED says which layer is missing, of a wrong shape or too many. */
tsr_status tsr__taesd_new(tsr__taesd **out, tsr__nn *nn, const tsr__weights *weights, const char *prefix,
                          tsr_error *err);
void tsr__taesd_free(tsr__taesd *taesd); /* NULL is allowed */
int tsr__taesd_latent_channels(const tsr__taesd *taesd);
/* About how many bytes of activations a decode of h x w cells holds at its peak. */
size_t tsr__taesd_decode_bytes(const tsr__taesd *taesd, int h, int w);
/* One sample. latent [c, h, w] raw units -> values [8h, 8w, 3], the picture as -1..1, not clamped. */
tsr_status tsr__taesd_decode_values(tsr__taesd *taesd, float *values, const float *latent, int h, int w,
                                    tsr_error *err);
/* rgb [height, width, 3] in 0..1, multiples of 8 -> latent [c, height / 8, width / 8] raw units. */
tsr_status tsr__taesd_encode_values(tsr__taesd *taesd, float *latent, const float *rgb, int height, int width,
                                    tsr_error *err);

#endif /* TSR_TAESD_H */
