/* sample/differential.h - a noise mask as a change map: each pixel is painted from the step on that its value stands for.
 *
 * Owns the rule of ComfyUI's DifferentialDiffusion (0.8.0): at sigma the threshold is (t - last) / (first - last), where t is
 * sigma's timestep and first and last are those of the run's sigmas, last not below the model's lowest; a pixel counts where
 * mask >= threshold. Strength s below 1 mixes: s * that + (1 - s) * mask. Must not know latents or solvers. */
#ifndef TSR_DIFFERENTIAL_H
#define TSR_DIFFERENTIAL_H

#include "tessera/schedule.h"

/* The rule for one run along given sigmas. All 0: the mask as it is. */
typedef struct tsr__differential {
    double strength; /* 0: off, up to 1 */
    const tsr_sigma_table *table;
    float first, last; /* timesteps */
} tsr__differential;

/* sigmas: at least one. */
tsr__differential tsr__differential_of(double strength, const tsr_sigma_table *table, const float *sigmas, int n);

/* The rule at one sigma. */
typedef struct tsr__mask_step {
    float threshold;
    float hard, soft; /* shares of the comparison and of the mask itself */
} tsr__mask_step;
tsr__mask_step tsr__differential_at(const tsr__differential *rule, float sigma);

/* What counts of a prediction where the mask has that value. */
static inline float tsr__mask_weight(const tsr__mask_step *step, float value) {
    if (step->hard == 0.0f) return value;
    float chosen = value >= step->threshold ? 1.0f : 0.0f;
    return step->soft == 0.0f ? chosen : step->hard * chosen + step->soft * value;
}

#endif /* TSR_DIFFERENTIAL_H */
