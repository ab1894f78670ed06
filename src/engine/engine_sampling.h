/* engine/engine_sampling.h - what a network's output means, and between which noise levels: a model's own, or another that a
 * workflow gives it (ComfyUI's model sampling).
 *
 * Formulas: ComfyUI 0.8.0's EPS, V_PREDICTION, X0, IMG_TO_IMG, EDM and LCM. */
#ifndef TSR_ENGINE_SAMPLING_H
#define TSR_ENGINE_SAMPLING_H

#include "tessera/denoiser.h"
#include "tessera/engine.h"

/* IMAGE: the network takes x as it is and gives the clean latent. EDM: v with the other sign. */
typedef enum tsr__output_rule {
    TSR__OUTPUT_EPS,
    TSR__OUTPUT_V,
    TSR__OUTPUT_LCM,
    TSR__OUTPUT_X0,
    TSR__OUTPUT_IMAGE,
    TSR__OUTPUT_EDM
} tsr__output_rule;

typedef struct tsr__sampling {
    tsr__output_rule rule;
    double data; /* sigma_data: how far clean latents spread; 1, or 0.5 */
    const tsr_sigma_table *table;
} tsr__sampling;

/* What the network sees of x: out = x / sqrt(sigma^2 + data^2), or x. */
void tsr__sampling_input(float *out, const float *x, size_t count, float sigma, const tsr__sampling *sampling);
/* The clean latent that the network's output means. */
void tsr__sampling_denoised(float *denoised, const float *x, const float *out, size_t count, float sigma,
                            const tsr__sampling *sampling);

/* An engine's denoiser under another sampling: both borrowed. */
typedef struct tsr__sampled_denoiser {
    tsr_denoiser denoiser;
    tsr_engine *engine;
    const tsr__sampling *sampling;
} tsr__sampled_denoiser;
/* out stays where it is for as long as it is used. */
void tsr__sampled_denoiser_init(tsr__sampled_denoiser *out, tsr_engine *engine, const tsr__sampling *sampling);

#endif /* TSR_ENGINE_SAMPLING_H */
