/* upscale/hooks.h - the Impact Pack's PK_HOOKs: what changes from one step of an iterative upscale to the next.
 *
 * A hook is plain data that its owner fills and keeps. A table has one row a kind. Must not know upscalers.
 * Formulas: reference/comfyui-sampling.md, "Hooks"; golden/hooks.json. */
#ifndef TSR_HOOKS_H
#define TSR_HOOKS_H

#include "sample/run.h"

typedef enum tsr__hook_kind {
    TSR__HOOK_CFG = 0,  /* CfgScheduleHookProvider */
    TSR__HOOK_DENOISE,  /* DenoiseScheduleHookProvider */
    TSR__HOOK_STEPS,    /* StepsScheduleHookProvider */
    TSR__HOOK_NOISE,    /* NoiseInjectionHookProvider */
    TSR__HOOK_UNSAMPLE, /* UnsamplerHookProvider */
    TSR__HOOK_COMBINE   /* PixelKSampleHookCombine */
} tsr__hook_kind;

/* Zero-initialise, set kind and what it names. Everything is borrowed. */
typedef struct tsr__hook {
    tsr__hook_kind kind;
    double target; /* CFG, DENOISE, STEPS: reached at the last step */
    struct {
        const char *source; /* "CPU"; "GPU" is UNSUPPORTED: its numbers are the graphics card's */
        uint64_t seed;
        double start_strength, end_strength;
    } noise;
    struct {
        tsr_guide guide;
        const char *sampler;
        const char *scheduler;
        int steps;
        int start_end_at_step; /* end_at_step of the first upscale step, */
        int end_end_at_step;   /* and what it moves to */
        int normalize;
    } unsample;
    const struct tsr__hook *first, *second; /* COMBINE; NULL: none */
} tsr__hook;

/* Step `step` of `total`, from 0. */
typedef struct tsr__hook_time {
    int step, total;
} tsr__hook_time;

/* What a hook may change of a sampling call. */
typedef struct tsr__hook_call {
    int steps;
    double cfg;
    double denoise;
} tsr__hook_call;

/* All of these accept hook NULL: nothing happens. */
tsr_status tsr__hook_check(const tsr__hook *hook, tsr_error *err);
void tsr__hook_pre_sample(const tsr__hook *hook, tsr__hook_time time, tsr__hook_call *call);
/* Changes the freshly encoded latent. run: told of the network calls that unsampling makes. */
tsr_status tsr__hook_post_encode(const tsr__hook *hook, tsr__hook_time time, tsr_latent *latent, tsr__run *run,
                                 tsr_error *err);
/* Network evaluations and sampling steps of post_encode. */
tsr_status tsr__hook_count(int64_t *evaluations, int *steps, const tsr__hook *hook, tsr__hook_time time,
                           tsr_error *err);

#endif /* TSR_HOOKS_H */
