/* upscale/masked_upscaler.h - the two upscalers: PixelKSampleUpscalerProvider (one sampler) and
 * TwoSamplersForMaskUpscalerProvider (one outside a mask, one inside, now and then one over everything).
 *
 * Plain data that its owner fills and keeps as long as the tsr__upscaler made of it. Sources:
 * reference/nodes/TwoSamplersForMaskUpscalerProvider.txt, golden/full_sample_schedule.json. */
#ifndef TSR_MASKED_UPSCALER_H
#define TSR_MASKED_UPSCALER_H

#include "tessera/two_samplers.h"
#include "upscale/iterative.h"

/* PixelKSampleUpscalerProvider. */
typedef struct tsr__pixel_upscaler {
    tsr__pixel_path path;
    tsr_ksampler_provider sampler;
    const tsr__hook *hook; /* NULL: none */
} tsr__pixel_upscaler;
void tsr__pixel_upscaler_table(tsr__upscaler *out, const tsr__pixel_upscaler *self);

/* When everything is sampled at once: none, interleave1..3, last1, last2, interleaveN+last1. */
typedef enum tsr__full_schedule {
    TSR__FULL_NONE = 0,
    TSR__FULL_INTERLEAVE1,
    TSR__FULL_INTERLEAVE2,
    TSR__FULL_INTERLEAVE3,
    TSR__FULL_LAST1,
    TSR__FULL_LAST2,
    TSR__FULL_INTERLEAVE1_LAST1,
    TSR__FULL_INTERLEAVE2_LAST1,
    TSR__FULL_INTERLEAVE3_LAST1,
    TSR__FULL_COUNT
} tsr__full_schedule;
const char *tsr__full_schedule_name(int schedule); /* ComfyUI's; NULL out of range */
int tsr__full_schedule_find(const char *name);     /* or -1 */
int tsr__full_schedule_applies(tsr__full_schedule schedule, int step, int total);

/* TwoSamplersForMaskUpscalerProvider. */
typedef struct tsr__masked_upscaler {
    tsr__pixel_path path;
    tsr__full_schedule schedule;
    tsr_ksampler_provider base;        /* where the mask is not exactly 1 */
    tsr_ksampler_provider inside;      /* mask_sampler */
    const tsr_ksampler_provider *full; /* full_sampler_opt; NULL: base */
    const tsr_mask *mask;              /* any size; stretched to each step's latent */
    int whole_mask;                    /* 1: the mask as it is meant. 0: as the node does (docs/upscaling.md): only the
                                          mask's first row counts, running downwards */
    int keep;                          /* history keep: both on one canvas, the inside being a region of it; the mask is
                                          stretched over the picture, soft values and all */
    const tsr__hook *hook_base, *hook_mask, *hook_full; /* NULL: none */
} tsr__masked_upscaler;
void tsr__masked_upscaler_table(tsr__upscaler *out, const tsr__masked_upscaler *self);

#endif /* TSR_MASKED_UPSCALER_H */
