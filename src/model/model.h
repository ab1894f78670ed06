/* model/model.h - the networks: text encoder, UNet, VAE. Built from weights by name, run on src/nn.
 *
 * Shapes are read from the weights; nothing here knows files, prompts' syntax (see prompt_text.h) or samplers.
 * Threads: one at a time per nn context. */
#ifndef TSR_MODEL_H
#define TSR_MODEL_H

#include "model/weight_log.h"
#include "nn/nn.h"
#include "weights/weights.h"

/* --- CLIP text encoders --------------------------------------------------------------------------------------------- */
typedef struct tsr__clip tsr__clip;
/* Two layouts, told apart by names: Hugging Face's (SD1, SDXL's first: embeddings.*, encoder.layers.*; quick GELU) and
 * OpenCLIP's (SD2, SDXL's second: token_embedding, transformer.resblocks.*; exact GELU, a projection of the end token).
 * config: the metadata key tessera.config (JSON) or NULL, where heads_key ("text_heads") may say how many heads; else 64
 * channels a head. prefix: with or without its last dot. The weights must outlive the encoder, which reads token rows
 * from them. */
tsr_status tsr__clip_new(tsr__clip **out, tsr__nn *nn, const tsr__weights *weights, const char *prefix,
                         const char *config, const char *heads_key, tsr_error *err);
void tsr__clip_free(tsr__clip *clip);
int tsr__clip_width(const tsr__clip *clip);
int tsr__clip_depth(const tsr__clip *clip);                      /* layers */
const tsr__weight_log *tsr__clip_weights(const tsr__clip *clip); /* the encoder's */
int tsr__clip_pooled_width(const tsr__clip *clip);               /* 0: it has no projection */
int tsr__clip_pad(const tsr__clip *clip); /* the token behind the end token: 49407, or OpenCLIP's 0 */

/* What of the hidden states is wanted. */
typedef struct tsr__clip_want {
    int layer;     /* -1 = last hidden state, -2 = the one before, ... */
    int normed;    /* through the final layer norm */
    float *pooled; /* NULL, or [n, pooled width]: the end token's last state, normed and projected */
    const float *const
        *extra; /* [extra_count] rows of width that ids from TSR__EXTRA_TOKEN on stand for; may be NULL */
    int extra_count;
} tsr__clip_want;
/* ids [n, 77] -> out [n, 77, width] float32. Text encoding runs in float32 arithmetic as far as the context allows. */
tsr_status tsr__clip_encode(tsr__clip *clip, float *out, const int *ids, int n, tsr__clip_want want, tsr_error *err);

/* --- UNet (LDM layout: model.diffusion_model.*) --------------------------------------------------------------------- */
typedef struct tsr__unet tsr__unet;
tsr_status tsr__unet_new(tsr__unet **out, tsr__nn *nn, const tsr__weights *weights, const char *prefix,
                         const char *config, tsr_error *err);
void tsr__unet_free(tsr__unet *unet);
int tsr__unet_in_channels(const tsr__unet *unet);
int tsr__unet_out_channels(const tsr__unet *unet);
int tsr__unet_multiple(const tsr__unet *unet); /* latent sides that are multiples of this (8 for SD1.5) halve evenly */
int tsr__unet_context_width(const tsr__unet *unet);
int64_t tsr__unet_parameters(const tsr__unet *unet);
const tsr__weight_log *tsr__unet_weights(const tsr__unet *unet); /* the network's */
int tsr__unet_label_width(const tsr__unet *unet); /* of SDXL's second conditioning vector; 0: the network takes none */
/* Text keys and values of every cross-attention, computed once a run. tokens rows of context_width floats. */
typedef struct tsr__unet_context tsr__unet_context;
tsr_status tsr__unet_context_new(tsr__unet_context **out, tsr__unet *unet, const float *context, int tokens,
                                 tsr_error *err);
/* Several texts that share a picture of h x w cells: every cross-attention gives sum_k weights[k] attention(text k), the
 * weights averaged down to its own resolution. weights[k] is [h, w]; they should sum to 1 at each cell. The contexts must
 * outlive it, and it serves pictures of that size only. */
tsr_status tsr__unet_context_couple(tsr__unet_context **out, tsr__unet *unet, tsr__unet_context *const *contexts,
                                    const float *const *weights, int n, int h, int w, tsr_error *err);
void tsr__unet_context_free(tsr__unet_context *context);
int tsr__unet_context_tokens(const tsr__unet_context *context);
/* x [n, in_channels, h, w] (already scaled), one timestep and one context a sample (contexts of one call have the same number
 * of tokens) -> out [n, out_channels, h, w]. labels: [n] vectors of label_width values, NULL where that is 0. h and w any
 * size >= 1: odd sides are halved upwards, and doubled to what they were. */
tsr_status tsr__unet_run(tsr__unet *unet, float *out, const float *x, int n, int h, int w, const float *timesteps,
                         tsr__unet_context *const *contexts, const float *const *labels, tsr_error *err);

/* What a control network adds to a run, for some of its samples (control_net.h). A tensor without data adds nothing. */
typedef enum tsr__control_place {
    TSR__CONTROL_SKIPS, /* tensors: one a skip, then the middle's; the decoder sees them */
    TSR__CONTROL_INPUTS /* tensors: one an input block, then the middle's; the rest of the encoder sees them too */
} tsr__control_place;
typedef struct tsr__unet_control {
    tsr__control_place place;
    const tsr__tensor *tensors; /* [count], each [m, h, w, c] at its block's size */
    int count;
    int m;
    const int *samples;     /* [m]: which samples of the run */
    const float *strengths; /* [m] */
} tsr__unet_control;
tsr_status tsr__unet_run_controlled(tsr__unet *unet, float *out, const float *x, int n, int h, int w,
                                    const float *timesteps, tsr__unet_context *const *contexts,
                                    const float *const *labels, const tsr__unet_control *controls, int n_controls,
                                    tsr_error *err);

/* --- VAE (LDM layout: first_stage_model.*; or a TAESD, first_stage_model.taesd_*, taesd.h) ------------------------- */
typedef struct tsr__vae tsr__vae;
tsr_status tsr__vae_new(tsr__vae **out, tsr__nn *nn, const tsr__weights *weights, const char *prefix,
                        const char *config, tsr_error *err);
void tsr__vae_free(tsr__vae *vae);
/* Asked between the blocks of every call; what it returns instead of TSR_OK ends the call. */
typedef tsr_status (*tsr__ask_fn)(void *user, tsr_error *err);
void tsr__vae_ask(tsr__vae *vae, tsr__ask_fn ask, void *user);
const tsr__weight_log *tsr__vae_weights(const tsr__vae *vae); /* both halves' */
int tsr__vae_latent_channels(const tsr__vae *vae);
int tsr__vae_factor(const tsr__vae *vae);  /* 8 */
int tsr__vae_is_tiny(const tsr__vae *vae); /* a TAESD, which may lack one half: then that call is UNSUPPORTED */
/* About how many bytes of activations a whole decode of an h x w latent (or encode to it) holds at its peak. */
size_t tsr__vae_decode_bytes(const tsr__vae *vae, int h, int w);
/* latent [n, c, h, w] raw units -> rgb [n, 8h, 8w, 3] in 0..1 (clamped). tile_px 0 = whole, else ComfyUI's three-pass tiled decode
 * with 64 px overlap (a quarter of the tile when that is less). */
tsr_status tsr__vae_decode(tsr__vae *vae, float *rgb, const float *latent, int n, int h, int w, int tile_px,
                           tsr_error *err);
/* rgb [n, H, W, 3] in 0..1, H and W multiples of 8 -> latent [n, c, H/8, W/8]: the mode (mean) of the posterior, raw units. */
tsr_status tsr__vae_encode(tsr__vae *vae, float *latent, const float *rgb, int n, int height, int width, int tile_px,
                           tsr_error *err);

/* The same with an overlap of the caller's choice. Decoding cuts both to whole cells; encoding wants sides in steps of 16 pixels
 * and overlaps in steps of 8. The overlap is less than half of a side. side_px 0: whole. */
typedef struct tsr__vae_tiles {
    int side_px, overlap_px;
} tsr__vae_tiles;
tsr_status tsr__vae_decode_tiles(tsr__vae *vae, float *rgb, const float *latent, int n, int h, int w,
                                 tsr__vae_tiles tiles, tsr_error *err);
tsr_status tsr__vae_encode_tiles(tsr__vae *vae, float *latent, const float *rgb, int n, int height, int width,
                                 tsr__vae_tiles tiles, tsr_error *err);

#endif /* TSR_MODEL_H */
