/* tessera/sample.h - one sampling run on one latent: guidance, initial noise, the noise-mask rule, hooks.
 *
 * Needs no weights: anything that fills a tsr_denoiser (denoiser.h) can be sampled.
 *
 *   tsr_guide guide = { .denoiser = &denoiser, .positive = positive, .negative = negative, .cfg = 7.0f };
 *   tsr_ksampler_options options = TSR_KSAMPLER_OPTIONS_INIT;
 *   options.steps = 20;
 *   tsr_ksampler(&result, latent, &guide, &options, &err);
 *
 * Latents come and go in raw VAE units; the scaling by tsr_denoiser.latent_scale happens inside.
 * Threads: a run uses its arguments from the calling thread only; hooks are called from that thread. */
#ifndef TSR_SAMPLE_H
#define TSR_SAMPLE_H

#include "tessera/denoiser.h"
#include "tessera/latent.h"
#include "tessera/solver.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What pulls a picture somewhere: uncond + cfg * (cond - uncond), all of them predictions of the clean latent. cfg
 * within 1e-9 (relative) of 1 leaves the negative out. positive and negative are the denoiser's own handles
 * (borrowed); equal pointers are evaluated once. */
typedef struct tsr_guide {
    const tsr_denoiser *denoiser; /* borrowed */
    const void *positive;
    const void *negative;
    float cfg;
    /* 0: a noise mask says how much of each prediction counts. Above 0, up to 1: it says from when on a pixel is painted, as
     * ComfyUI's DifferentialDiffusion with that strength (docs/inpainting.md); between, a blend of both. */
    double differential;
    /* Above 0, up to 1: so much of the guided prediction is brought back to the spread of the positive one, as ComfyUI's
     * RescaleCFG (Lin et al. 2023): as v, for each picture of the batch. 0: not at all. */
    double rescale;
} tsr_guide;

typedef enum tsr_progress_event {
    TSR_PROGRESS_EVALUATE = 0, /* a network call is about to start */
    TSR_PROGRESS_STEP = 1      /* a step has ended */
} tsr_progress_event;

typedef enum tsr_phase {
    TSR_PHASE_SAMPLE = 0,    /* an ordinary step */
    TSR_PHASE_BASE_ONLY = 1, /* the base alone, before the regions start */
    TSR_PHASE_RECOVERY = 2   /* the Impact Pack's second pass after an SDE or UniPC step */
} tsr_phase;

/* Where a run is. Valid during the callback. */
typedef struct tsr_progress {
    size_t struct_size;
    tsr_progress_event event;
    tsr_phase phase;
    int step;                  /* of the whole run, from 0 */
    int steps;                 /* in the whole run */
    int region;                /* 0 = base, k = region k; -1: all of them together */
    int regions;               /* without the base */
    int64_t evaluations_done;  /* an evaluation is one latent through the network with one conditioning */
    int64_t evaluations_total; /* as planned; dpm_adaptive may differ */
    float sigma;
    const float *x0; /* newest prediction of the clean latent, raw VAE units; NULL before the first */
    int shape[4];    /* of x0: n, c, h, w */
} tsr_progress;

/* progress may be NULL. A value other than 0 stops the run with TSR_CANCELLED before the next network call.
 *
 * save may be NULL. It gets the state of the run (docs/resume.md): when the run is stopped by TSR_CANCELLED, and after
 * steps as the next two say. The bytes are valid during the call; a failure stops the run with it. A run with equal
 * arguments and that `state` goes on from there, and its result is the same bits as without the stop. Errors for `state`:
 * BAD_FORMAT (damaged), UNSUPPORTED (another version), BAD_ARGUMENT (of another run). */
typedef struct tsr_run_hooks {
    size_t struct_size;
    void *user;
    int (*progress)(void *user, const tsr_progress *progress);
    tsr_status (*save)(void *user, const void *state, size_t size, tsr_error *err);
    int save_steps;      /* save after so many steps; 0: not for that reason */
    double save_seconds; /* save at the first step that ends so long after the last time; 0: not for that reason */
    const void *state;   /* NULL: from the start */
    size_t state_size;
} tsr_run_hooks;
#define TSR_RUN_HOOKS_INIT                                                                                             \
    { sizeof(tsr_run_hooks), 0, 0, 0, 0, 0.0, 0, 0 }

/* One run along given sigmas. */
typedef struct tsr_sample_options {
    size_t struct_size;
    const char *sampler; /* NULL: "euler" */
    const float *sigmas; /* descending; the last may be 0 */
    int n_sigmas;        /* 0 or 1: the latent is returned as it is */
    uint64_t seed;
    int add_noise;      /* 0: start from the latent as it is */
    const float *noise; /* NULL, or unit noise of the latent's shape to use whatever add_noise says */
    int want_x0;        /* 1: the result is the last prediction of the clean latent, 0: x at the last sigma */
    float brownian_min; /* range of the Brownian tree; both 0: smallest positive and largest of sigmas */
    float brownian_max;
    const tsr_run_hooks *hooks; /* NULL: none */
    const tsr_solver_options
        *solver; /* eta, s_noise and the like; its seed, range and noise do not count. NULL: the usual */
} tsr_sample_options;
#define TSR_SAMPLE_OPTIONS_INIT                                                                                        \
    { sizeof(tsr_sample_options), 0, 0, 0, 0, 1, 0, 0, 0.0f, 0.0f, 0, 0 }

/* *out is a new latent with the batch_index and the noise_mask of `latent`. Errors: NOT_FINITE names the step, sigma
 * and side; CANCELLED; NOT_FOUND for the sampler. */
TSR_API tsr_status tsr_sample(tsr_latent **out, const tsr_latent *latent, const tsr_guide *guide,
                              const tsr_sample_options *options, tsr_error *err);

/* ComfyUI's KSampler. */
typedef struct tsr_ksampler_options {
    size_t struct_size;
    const char *sampler;   /* NULL: "euler" */
    const char *scheduler; /* NULL: "normal" */
    int steps;             /* 1..10000 */
    double denoise;        /* 0..1; 0 returns the latent */
    uint64_t seed;
    const tsr_run_hooks *hooks;
} tsr_ksampler_options;
#define TSR_KSAMPLER_OPTIONS_INIT                                                                                      \
    { sizeof(tsr_ksampler_options), 0, 0, 20, 1.0, 0, 0 }
TSR_API tsr_status tsr_ksampler(tsr_latent **out, const tsr_latent *latent, const tsr_guide *guide,
                                const tsr_ksampler_options *options, tsr_error *err);

/* ComfyUI's KSamplerAdvanced: steps [start_step, end_step) of a schedule of `steps`. */
typedef struct tsr_ksampler_advanced_options {
    size_t struct_size;
    const char *sampler;
    const char *scheduler;
    int steps;
    int start_step;
    int end_step;
    uint64_t seed;
    int add_noise;
    int leftover_noise; /* 1: stop at the window's last sigma; 0: the last step goes to 0 */
    const tsr_run_hooks *hooks;
} tsr_ksampler_advanced_options;
#define TSR_KSAMPLER_ADVANCED_OPTIONS_INIT                                                                             \
    { sizeof(tsr_ksampler_advanced_options), 0, 0, 20, 0, 10000, 0, 1, 0, 0 }
TSR_API tsr_status tsr_ksampler_advanced(tsr_latent **out, const tsr_latent *latent, const tsr_guide *guide,
                                         const tsr_ksampler_advanced_options *options, tsr_error *err);

#ifdef __cplusplus
}
#endif
#endif /* TSR_SAMPLE_H */
