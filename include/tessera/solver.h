/* tessera/solver.h - one ODE/SDE integration, driven a step at a time.
 *
 * A solver never calls a model. It asks for a denoised sample and waits:
 *
 *   tsr_solver_new(&s, "euler", &opts, &err);
 *   tsr_solver_begin(s, latent, count, sigmas, n_sigmas, &err);
 *   while ((event = tsr_solver_next(s, &err)) != TSR_SOLVER_DONE) {
 *       if (event == TSR_SOLVER_FAILED) break;
 *       if (event == TSR_SOLVER_WANT_DENOISED) {
 *           tsr_solver_query q = tsr_solver_pending(s);
 *           model(q.x, q.sigma, denoised);
 *           tsr_solver_supply(s, denoised, NULL, &err);
 *       }                              // TSR_SOLVER_STEPPED: a step ended, may edit the latent
 *   }
 *
 * A step goes from sigmas[i] to sigmas[i + 1] and ends with TSR_SOLVER_STEPPED (also the last one, before DONE). Between
 * STEPPED and the next tsr_solver_next the caller may change tsr_solver_latent: that is how regions share one canvas.
 *
 * Threads: one thread at a time per solver; different solvers are independent. */
#ifndef TSR_SOLVER_H
#define TSR_SOLVER_H

#include "tessera/status.h"
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tsr_solver tsr_solver;

typedef enum tsr_solver_event {
    TSR_SOLVER_FAILED = -1,
    TSR_SOLVER_DONE = 0,
    TSR_SOLVER_WANT_DENOISED = 1,
    TSR_SOLVER_STEPPED = 2
} tsr_solver_event;

/* Fills out[0..count) with unit-variance noise for the move from one sigma to another; see tsr_solver_options.noise. */
typedef tsr_status (*tsr_noise_fn)(void *user, float sigma_from, float sigma_to, float *out, size_t count,
                                   tsr_error *err);

typedef struct tsr_solver_options {
    size_t struct_size;
    float eta;       /* >= 0; amount of fresh noise of stochastic samplers, 1 = as ComfyUI */
    float s_noise;   /* >= 0; multiplies that noise */
    uint64_t seed;   /* of the built-in noise: ancestral kinds use a generator of seed + 1, SDE kinds a
                                Brownian tree of seed (ComfyUI's rule on a CPU) */
    float sigma_min; /* range of the Brownian tree; both 0: smallest positive and largest of the sigmas */
    float sigma_max;
    tsr_noise_fn noise; /* NULL: the built-in noise. A solver with its own noise cannot be saved. */
    void *noise_user;
    int order; /* lms: 1..4, er_sde: 1..3, others: not read; 0: the most */
    float r;   /* dpmpp_sde: where its middle evaluation lies, > 0; 0: one half */
    float
        power; /* er_sde: its noise scale is sigma to this power, >= 1 (1: an ordinary differential equation when s_noise is 0);
                    0: the paper's scale */
} tsr_solver_options;
#define TSR_SOLVER_OPTIONS_INIT                                                                                        \
    { sizeof(tsr_solver_options), 1.0f, 1.0f, 0, 0.0f, 0.0f, 0, 0, 0, 0.0f, 0.0f }

/* What the solver waits for. x is the solver's own buffer, valid until the next call on it; it may be changed before
 * tsr_solver_supply (a canvas shared by regions does), and the solver goes on from the changed values. */
typedef struct tsr_solver_query {
    float *x;
    size_t count;
    float sigma;
    int step;         /* index of the step in hand, from 0 */
    int stage;        /* 0 for the first evaluation of a step */
    int wants_uncond; /* cfg++ kinds: supply needs the unconditional prediction too */
} tsr_solver_query;

/* The noise that is part of the pending x (WANT_DENOISED) or of the latent (STEPPED): value = rest + amount * noise.
 * amount is 0 and noise NULL when none was added. Two solvers whose keys are equal (same seed and options) added the
 * same noise. Valid until the next call on the solver. */
typedef struct tsr_solver_noise {
    const float *noise;
    float amount;
    uint64_t key;
} tsr_solver_noise;

/* name: one of tsr_sampler_name(). options may be NULL. Errors: NOT_FOUND with the nearest name. */
TSR_API tsr_status tsr_solver_new(tsr_solver **out, const char *name, const tsr_solver_options *options,
                                  tsr_error *err);
TSR_API void tsr_solver_free(tsr_solver *solver); /* NULL is allowed */

/* Copies latent (x = signal + noise * sigmas[0]) and sigmas (descending, n_sigmas >= 2, the last may be 0). Samplers that
 * add no noise and plan no steps of their own also take rising positive sigmas: unsampling, from a picture to its noise. */
TSR_API tsr_status tsr_solver_begin(tsr_solver *solver, const float *latent, size_t count, const float *sigmas,
                                    int n_sigmas, tsr_error *err);

TSR_API tsr_solver_event tsr_solver_next(tsr_solver *solver, tsr_error *err);
TSR_API tsr_solver_query tsr_solver_pending(const tsr_solver *solver);
TSR_API tsr_solver_noise tsr_solver_noise_part(const tsr_solver *solver);
/* denoised: count values; uncond: NULL unless the query wants it. Both are copied. */
TSR_API tsr_status tsr_solver_supply(tsr_solver *solver, const float *denoised, const float *uncond, tsr_error *err);

/* The latent between steps; writable so that a region driver can composite into it. While a stage after the first is
 * pending it is what the step started from, and may be changed too. */
TSR_API float *tsr_solver_latent(tsr_solver *solver);
/* The prediction of the clean latent that the newest step reports (ComfyUI's callback x0); NULL before the first. */
TSR_API const float *tsr_solver_x0(const tsr_solver *solver);
/* The newest answer, to whatever stage; NULL before the first. */
TSR_API const float *tsr_solver_newest(const tsr_solver *solver);
/* The sigma the latent is at: sigmas[0] after begin, the next one after each step. dpm_fast and dpm_adaptive choose their own
 * and end at the last positive sigma. */
TSR_API float tsr_solver_sigma(const tsr_solver *solver);
/* How many steps have ended, and how many there are (an estimate for dpm_adaptive, which chooses as it goes). */
TSR_API int tsr_solver_step(const tsr_solver *solver);
TSR_API int tsr_solver_steps(const tsr_solver *solver);

/* A snapshot holds everything a later tsr_solver_restore needs to go on bit for bit (also in the middle of a step). It
 * is versioned; restore checks every field and never trusts a length. *out is released with tsr_free. */
TSR_API tsr_status tsr_solver_save(const tsr_solver *solver, void **out, size_t *size_out, tsr_error *err);
TSR_API tsr_status tsr_solver_restore(tsr_solver **out, const void *data, size_t size, tsr_error *err);

/* Releases memory that the library handed out; NULL is allowed. */
TSR_API void tsr_free(void *memory);

/* The table of samplers. */
#define TSR_SAMPLER_STOCHASTIC     0x1  /* adds noise while it runs */
#define TSR_SAMPLER_BROWNIAN       0x2  /* that noise comes from a Brownian tree */
#define TSR_SAMPLER_CFG_PP         0x4  /* wants the unconditional prediction */
#define TSR_SAMPLER_PENULTIMATE    0x8  /* KSampler drops the second-last sigma (dpm_2, dpm_2_ancestral, uni_pc, ...) */
#define TSR_SAMPLER_RANDOM_INPAINT 0x10 /* the noise-mask rule uses fresh noise of seed + 1 (ddim) */
#define TSR_SAMPLER_RECOVERY       0x20 /* the Impact Pack runs its recovery pass after it */
#define TSR_SAMPLER_OWN_SIGMAS     0x40 /* spreads as many evaluations over sigmas of its own (dpm_fast) */
TSR_API int tsr_sampler_count(void);
TSR_API const char *tsr_sampler_name(int index);    /* ComfyUI's name; NULL out of range */
TSR_API const char *tsr_sampler_summary(int index); /* one line on the method and its paper */
TSR_API unsigned tsr_sampler_flags(int index);      /* TSR_SAMPLER_... */
/* Index of a name, or -1. */
TSR_API int tsr_sampler_find(const char *name);

#ifdef __cplusplus
}
#endif
#endif /* TSR_SOLVER_H */
