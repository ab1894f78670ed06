/* tessera/denoiser.h - what sampling knows of a network: a table of functions.
 *
 * Anything that predicts a clean latent from a noisy one can be sampled: a diffusion model opened by an engine, or your
 * own function (an exact Gaussian posterior, another inference library).
 *
 * Threads: the library calls a denoiser from the thread that called the library, one call at a time. */
#ifndef TSR_DENOISER_H
#define TSR_DENOISER_H

#include "tessera/schedule.h"
#include "tessera/status.h"
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The picture that a run starts from and the mask of what it repaints, for networks that see them beside x (inpainting
 * models). In the model's scaled latent space, of the whole canvas. Borrowed. */
typedef struct tsr_start_picture {
    int width, height;   /* of the canvas, in latent pixels */
    const float *latent; /* [n, c, height, width] */
    const float *mask;   /* [n, height, width], 1: repaint; NULL: no mask */
} tsr_start_picture;

/* One network evaluation. x and denoised are [n, c, h, w] float32; x = clean + noise * sigma, in the model's scaled latent
 * space. cond is the conditioning: whatever the owner of the denoiser made of a prompt; sampling only compares the
 * pointers, so that equal ones are evaluated once. */
typedef struct tsr_denoise_call {
    const float *x;
    float sigma;
    const void *cond;
    float *denoised; /* to be written */
    /* Where x lies on its canvas, in latent pixels. canvas_width 0: x is the whole. */
    int left, top, canvas_width, canvas_height;
    /* What the run starts from, or NULL, and where x lies on it. */
    const tsr_start_picture *start;
    int start_left, start_top;
} tsr_denoise_call;

typedef struct tsr_denoiser {
    size_t struct_size;
    void *user;
    /* Writes every calls[i].denoised. All calls have the same shape (a crop of the canvas, perhaps); a good implementation evaluates calls of equal sigma
     * as one batch. Not owned by the library. */
    tsr_status (*denoise)(void *user, const int shape[4], const tsr_denoise_call *calls, int count, tsr_error *err);
    const tsr_sigma_table *table; /* borrowed; the model's sigmas */
    float latent_scale;           /* raw VAE units * latent_scale = model space; 0.18215 for SD1 */
    /* The rest may stay 0. Sides in latent pixels: what it paints best (0: not known), and what sides should be multiples
     * of (0: any); crops keep to both. */
    int native_size;
    int multiple;
    /* One conditioning in which several prompts share the picture: weights[k] is [height, width] of the latent, all of them
     * sum to 1 at every pixel. It serves calls of that size only and is released with uncouple. NULL: not available. */
    tsr_status (*couple)(void *user, const void **out, const void *const *conds, const float *const *weights, int n,
                         int height, int width, tsr_error *err);
    void (*uncouple)(void *user, const void *cond);
    /* Whether a call would begin at once. Where several denoisers are asked for one step, those that would first have to
     * load something are asked last. NULL: always. */
    int (*is_ready)(void *user);
} tsr_denoiser;

#ifdef __cplusplus
}
#endif
#endif /* TSR_DENOISER_H */
