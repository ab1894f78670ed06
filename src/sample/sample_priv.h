/* sample/sample_priv.h - the parts of one sampling run that regional runs use too. */
#ifndef TSR_SAMPLE_PRIV_H
#define TSR_SAMPLE_PRIV_H

#include "sample/evaluate.h"

/* tsr_sample within a longer run: run's step, steps, phase, region and totals are the caller's; run->first_step is
 * added to the sampler's own step. options->hooks is not read. */
tsr_status tsr__sample(tsr_latent **out, const tsr_latent *latent, const tsr_guide *guide,
                       const tsr_sample_options *options, tsr__run *run, tsr_error *err);

/* Network evaluations of a run (exact, except for samplers that choose their own steps). */
tsr_status tsr__sample_count(int64_t *out, const tsr_guide *guide, const char *sampler, const float *sigmas,
                             int n_sigmas, tsr_error *err);

/* latent * scale, unless it is all zeros (which stay). out: count values. */
void tsr__scale_latent(float *out, const float *values, size_t count, float scale);
/* What unit noise is multiplied by at the start of a call. */
float tsr__start_noise_scale(const tsr_sigma_table *table, float sigma);

/* A latent's noise mask at latent size, and the noise of the rule. Zero-initialise; release with _clear. */
typedef struct tsr__mask_rule {
    tsr__inpaint inpaint; /* borrows the next two and `latent` of _init */
    float *mask;          /* [n, h, w] */
    float *random;        /* ddim's own noise */
} tsr__mask_rule;
/* latent and noise: model space, of shape, borrowed as long as the rule lives. */
tsr_status tsr__mask_rule_init(tsr__mask_rule *rule, const tsr_mask *noise_mask, const int shape[4],
                               const float *latent, const float *noise, const char *sampler, uint64_t seed,
                               tsr_error *err);
void tsr__mask_rule_clear(tsr__mask_rule *rule);

/* Refuses a guide that cannot be used. who: for the message. */
tsr_status tsr__check_guide(const tsr_guide *guide, const char *who, tsr_error *err);
/* Refuses an unknown sampler, with the nearest name. */
tsr_status tsr__check_sampler(const char *name, const char *who, tsr_error *err);

#endif /* TSR_SAMPLE_PRIV_H */
