/* tessera/two_samplers.h - two samplers and one mask: the Impact Pack's TwoSamplersForMask and TwoAdvancedSamplersForMask.
 *
 *   tsr_ksampler_provider base = TSR_KSAMPLER_PROVIDER_INIT, inside = TSR_KSAMPLER_PROVIDER_INIT;
 *   base.guide = (tsr_guide){ .denoiser = &denoiser, .positive = sky, .negative = negative, .cfg = 7.0f };
 *   inside.guide = (tsr_guide){ .denoiser = &denoiser, .positive = castle, .negative = negative, .cfg = 7.0f };
 *   tsr_two_samplers_plan(&plan, &base, &inside, mask, NULL, latent->shape, &err);
 *   tsr_plan_run(&result, plan, latent, &hooks, &err);                  // region.h: text, count, run, free
 *
 * Both make an ordinary tsr_plan, so everything region.h says of plans holds. Needs no weights.
 * Described in docs/two_samplers.md. Threads: as region.h. */
#ifndef TSR_TWO_SAMPLERS_H
#define TSR_TWO_SAMPLERS_H

#include "tessera/region.h"

#ifdef __cplusplus
extern "C" {
#endif

/* KSamplerProvider: everything a whole run needs. */
typedef struct tsr_ksampler_provider {
    size_t struct_size;
    tsr_guide guide;
    const char *sampler;   /* NULL: "euler" */
    const char *scheduler; /* NULL: "normal" */
    uint64_t seed;
    int steps;      /* 1..10000 */
    double denoise; /* in (0, 1] */
} tsr_ksampler_provider;
#define TSR_KSAMPLER_PROVIDER_INIT                                                                                     \
    { sizeof(tsr_ksampler_provider), { 0, 0, 0, 1.0f, 0.0, 0.0 }, 0, 0, 0, 20, 1.0 }

typedef struct tsr_two_samplers_options {
    size_t struct_size;
    tsr_history
        history; /* restart: the node. keep: one canvas along the base's steps, seed and denoise, the inside being
                            a region of it with its own guide, sampler, scheduler and noise seed */
    int overlap; /* keep only: width in picture pixels of a soft ramp across the mask's border */
} tsr_two_samplers_options;
#define TSR_TWO_SAMPLERS_OPTIONS_INIT                                                                                  \
    { sizeof(tsr_two_samplers_options), TSR_HISTORY_RESTART, 0 }

/* A whole run of `base` where the mask is not exactly 1, then a whole run of `inside` on its result, under the mask.
 * The mask is copied; soft values are honoured. It may have any size in restart, the picture's (8 x the latent) in keep.
 * options may be NULL. Errors: BAD_ARGUMENT, NOT_FOUND (names). */
TSR_API tsr_status tsr_two_samplers_plan(tsr_plan **out, const tsr_ksampler_provider *base,
                                         const tsr_ksampler_provider *inside, const tsr_mask *mask,
                                         const tsr_two_samplers_options *options, const int latent_shape[4],
                                         tsr_error *err);

typedef struct tsr_two_advanced_options {
    size_t struct_size;
    tsr_history history; /* restart: the node; keep: RegionalSampler's keep with one region */
    int steps;           /* 1..10000 */
    uint64_t seed;
    double denoise;     /* in (0, 1] */
    int overlap_factor; /* restart: overlap_factor; keep: width in picture pixels of the ramp */
    int delegate;       /* restart: 1 = as later releases of the Impact Pack, which hand over to RegionalSampler */
} tsr_two_advanced_options;
/* The node's defaults. */
#define TSR_TWO_ADVANCED_OPTIONS_INIT                                                                                  \
    { sizeof(tsr_two_advanced_options), TSR_HISTORY_RESTART, 20, 0, 1.0, 10, 0 }

/* Step by step: one step of `base` where the mask is not exactly 1, then one of `inside` under the grown mask. `inside`
 * carries the mask; of its fields only those a KSamplerAdvancedProvider has count in restart (guide, sampler, scheduler,
 * sigma_factor). delegate: RegionalSampler with seed_2nd_mode ignore, base_only_steps 1, restore_latent, "ratio between",
 * AUTO, 0.3. Errors as above. */
TSR_API tsr_status tsr_two_advanced_plan(tsr_plan **out, const tsr_region_base *base, const tsr_region *inside,
                                         const tsr_two_advanced_options *options, const int latent_shape[4],
                                         tsr_error *err);

#ifdef __cplusplus
}
#endif
#endif /* TSR_TWO_SAMPLERS_H */
