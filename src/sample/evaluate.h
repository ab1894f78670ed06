/* sample/evaluate.h - guided predictions for several requests with as few network calls as possible.
 *
 * Owns the grouping: one denoise() call a denoiser and crop size, equal (x, sigma, conditioning, crop) once. Must not know solvers, regions
 * or schedules. x and conditionings are compared by pointer: who wants to share gives the same pointer. */
#ifndef TSR_EVALUATE_H
#define TSR_EVALUATE_H

#include "sample/differential.h"
#include "sample/run.h"

/* The noise-mask rule of one run: x * m + (latent + noise * sigma) * (1 - m) before the network, denoised * m +
 * latent * (1 - m) after it, m being what `differential` makes of the mask at sigma. All in model space. Borrowed. */
typedef struct tsr__inpaint {
    const float *mask;   /* [n, h, w], repeated over channels */
    const float *latent; /* [n, c, h, w] */
    const float *noise;  /* [n, c, h, w] */
    tsr__differential differential;
} tsr__inpaint;

/* A part of the canvas, in latent pixels; all 0: the whole. */
typedef struct tsr__crop {
    int x, y, width, height;
} tsr__crop;

typedef struct tsr__request {
    const tsr_guide *guide;
    const float *x; /* [n, c, h, w] */
    float sigma;
    const tsr__inpaint *inpaint; /* NULL: none */
    int region;                  /* for messages */
    float *denoised;
    float *uncond;  /* NULL, or also wants the negative's prediction (cfg++) */
    tsr__crop crop; /* what the network sees; outside it, denoised and uncond are x */
} tsr__request;

/* Zero-initialise; release with _clear. Buffers are kept between calls. */
typedef struct tsr__evaluator {
    int shape[4];
    size_t count;
    tsr__request *requests; /* of the call in hand, borrowed */
    int n_requests;
    tsr_start_picture start;    /* latent NULL: not known */
    struct network_call *calls; /* distinct network calls */
    int n_calls, cap_calls;
    struct masked_x *masked; /* distinct masked inputs */
    int n_masked, cap_masked;
    tsr_denoise_call *batch; /* what one denoiser gets */
    int *sides;              /* [n_requests * 2]: indices into calls of positive and negative, -1 = none */
    int cap_requests;
} tsr__evaluator;

void tsr__evaluator_init(tsr__evaluator *evaluator, const int shape[4]);
/* What networks may see beside x: the run's start in model space [n, c, h, w] and its mask [n, h, w] or NULL. Borrowed. */
void tsr__evaluator_set_start(tsr__evaluator *evaluator, const float *latent, const float *mask);
void tsr__evaluator_clear(tsr__evaluator *evaluator);

/* 1 when a guide's negative is left out: cfg is 1. */
int tsr__guide_is_plain(const tsr_guide *guide);

/* How many network evaluations tsr__evaluate would make, and (pixels may be NULL) of how many latent pixels together;
 * an evaluation of the whole has `whole` pixels. */
tsr_status tsr__evaluate_count(int *out, int64_t *pixels, int64_t whole, tsr__evaluator *evaluator,
                               tsr__request *requests, int n, tsr_error *err);

/* How many of the calls that were counted last go to one network. */
int tsr__evaluate_calls_of(const tsr__evaluator *evaluator, const tsr_denoiser *denoiser);

/* Fills every request's denoised (and uncond). Tells run's hooks before each network call, adds to its evaluations.
 * Errors: NOT_FINITE, CANCELLED, and whatever the denoiser says. */
tsr_status tsr__evaluate(tsr__evaluator *evaluator, tsr__request *requests, int n, tsr__run *run, tsr_error *err);

#endif /* TSR_EVALUATE_H */
