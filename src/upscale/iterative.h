/* upscale/iterative.h - upscaling in several steps, each of which makes the picture larger and samples it again:
 * IterativeLatentUpscale and IterativeImageUpscale.
 *
 * Knows an upscaler, a VAE and a pixel upscale model only as tables of functions.
 * Source of the rules: reference/comfyui-sampling.md, "IterativeLatentUpscale". */
#ifndef TSR_ITERATIVE_H
#define TSR_ITERATIVE_H

#include "upscale/hooks.h"

/* A VAE of 8 pixels a latent pixel. Pictures are [n, height, width, 3] in 0..1, latents [n, channels, h, w] in raw units. */
typedef struct tsr__vae_table {
    void *user;
    int channels; /* of the latent */
    /* rgb: [n, 8h, 8w, 3]. tile_px 0: whole, else the tiled VAE of that tile size. */
    tsr_status (*decode)(void *user, float *rgb, const float *latent, int n, int h, int w, int tile_px, tsr_error *err);
    /* latent: [n, channels, height / 8, width / 8]; height and width are multiples of 8. */
    tsr_status (*encode)(void *user, float *latent, const float *rgb, int n, int height, int width, int tile_px,
                         tsr_error *err);
} tsr__vae_table;

/* A pixel upscale model (ImageUpscaleWithModel). */
typedef struct tsr__pixel_model_table {
    void *user;
    int scale; /* 1.. */
    /* out: [n, scale * height, scale * width, 3] in 0..1. */
    tsr_status (*upscale)(void *user, float *out, const float *rgb, int n, int height, int width, tsr_error *err);
} tsr__pixel_model_table;

/* How a latent gets larger: decode, resize (or model, then resize), encode. All borrowed. */
typedef struct tsr__pixel_path {
    const tsr__vae_table *vae;
    const tsr__pixel_model_table *model; /* NULL: none */
    tsr_resize_method method;            /* nearest-exact, bilinear, lanczos, area */
    int tile_px;                         /* tile_size when use_tiled_vae, else 0 */
} tsr__pixel_path;

tsr_status tsr__pixel_path_check(const tsr__pixel_path *path, tsr_error *err);
/* width, height: pixels, as the node computes them, with a fraction that resizing cuts off; the latent is of the multiple
 * of 8 below, cut out of the middle. *out has neither noise mask nor batch index. */
tsr_status tsr__pixel_path_run(tsr_latent **out, const tsr__pixel_path *path, const tsr_latent *latent, double width,
                               double height, tsr_error *err);
/* VAEEncode: cut to multiples of 8 in the middle, then encoded. rgb: [n, height, width, 3]. */
tsr_status tsr__pixels_encode(tsr_latent **out, const tsr__vae_table *vae, const float *rgb, int n, int width,
                              int height, int tile_px, tsr_error *err);

/* UPSCALER: one step. Filled by masked_upscaler.h. */
typedef struct tsr__upscaler {
    const void *self;
    /* Refuses what cannot work, before anything runs. */
    tsr_status (*check)(const void *self, tsr_error *err);
    /* Latent of any size in, latent of that size in pixels out. */
    tsr_status (*upscale)(const void *self, tsr_latent **out, const tsr_latent *latent, tsr__hook_time time,
                          double width, double height, tsr__run *run, tsr_error *err);
    /* Network evaluations and sampling steps of one upscale step; adds to both. shape: of the enlarged latent. */
    tsr_status (*count)(const void *self, tsr__hook_time time, const int shape[4], int64_t *evaluations, int *steps,
                        tsr_error *err);
    const char *(*describe)(const void *self, tsr__hook_time time); /* what is sampled in this step */
    int regions;                                                    /* told in progress: 1 with an inside, else 0 */
    float latent_scale;                                             /* of the model whose steps are previewed */
    const tsr__vae_table *vae;
} tsr__upscaler;

typedef struct tsr__iterative_options {
    double factor;              /* 1.. */
    int steps;                  /* 1..10000 */
    int geometric;              /* step_mode: 0 simple, 1 geometric */
    const tsr_run_hooks *hooks; /* NULL: none. progress.step counts sampling steps over all upscale steps. */
} tsr__iterative_options;

/* The picture sizes of each step. */
typedef struct tsr__iterative_step {
    double width, height; /* pixels, as computed: 234.5 is resized to 234 */
    tsr__hook_time time;
} tsr__iterative_step;
/* *out: *n_out steps (0: the latent stays as it is); release with free(). */
tsr_status tsr__iterative_steps(tsr__iterative_step **out, int *n_out, const int latent_shape[4],
                                const tsr__iterative_options *options, tsr_error *err);
/* One line a step, for --dry-run; *out is released with tsr_free. */
tsr_status tsr__iterative_text(char **out, const int latent_shape[4], const tsr__upscaler *upscaler,
                               const tsr__iterative_options *options, tsr_error *err);

/* IterativeLatentUpscale. */
tsr_status tsr__iterative_latent(tsr_latent **out, const tsr_latent *latent, const tsr__upscaler *upscaler,
                                 const tsr__iterative_options *options, tsr_error *err);

/* IterativeImageUpscale: rgb [n, height, width, 3] in 0..1 -> *out of *width_out x *height_out; release with free(). The
 * first encode and the last decode are whole, never tiled, as in the node. */
tsr_status tsr__iterative_image(float **out, int *width_out, int *height_out, const float *rgb, int n, int width,
                                int height, const tsr__vae_table *vae, const tsr__upscaler *upscaler,
                                const tsr__iterative_options *options, tsr_error *err);

#endif /* TSR_ITERATIVE_H */
