/* engine/engine_control.h - control networks (ControlNet, T2I-Adapter) that belong to single prompts, with the pictures they
 * read. */
#ifndef TSR_ENGINE_CONTROL_H
#define TSR_ENGINE_CONTROL_H

#include "model/control_net.h"
#include "tessera/denoiser.h"
#include "tessera/engine.h"

/* One use of a control network. Borrowed. */
typedef struct tsr__control_use {
    const char *model;   /* file */
    const float *pixels; /* [height, width, 3] in 0..1 */
    int width, height;
    float strength;               /* 0: nothing */
    float start_sigma, end_sigma; /* it counts where start_sigma >= sigma >= end_sigma */
    int type; /* which kind of picture, for unions, numbered as in their files (tsr__control_type); -1: not told */
} tsr__control_use;

/* Some uses together: their tensors add up. Counted; equal lists of one engine are one object, which must go before it. */
typedef struct tsr__control_set tsr__control_set;
typedef struct tsr__control_file tsr__control_file; /* an opened network; the engine's */
struct tsr__conditioning;

/* The number of a kind of picture for union ControlNets, by the name of scenes ("scribble") or of ComfyUI
 * ("hed/pidi/scribble/ted"); -1 for "auto" and names that are none. */
int tsr__control_type(const char *name);

/* *out is the caller's count; n 0 gives NULL. A model's name without a folder is also looked for in controlnet/ beside the
 * checkpoint and beside its folder, with or without ".safetensors"; a folder stands for the file of weights in it. Copies the pixels; opens no network. Errors name `who`. */
tsr_status tsr__controls_get(tsr__control_set **out, tsr_engine *engine, const tsr__control_use *uses, int n,
                             const char *who, tsr_error *err);
/* The file of a use; NULL out of range, or without a set. */
const char *tsr__controls_file(const tsr__control_set *set, int index);
/* Opens the files, so that tsr__controls_bytes knows them; packs nothing. NULL is allowed. */
tsr_status tsr__controls_look(const tsr__control_set *set, tsr_error *err);
/* Packs the networks that count at sigma, and checks that they fit the engine's UNet, which is there; call: bytes of
 * activations that are to follow. set may be NULL. */
tsr_status tsr__controls_need(const tsr__control_set *set, tsr_engine *engine, float sigma, size_t call,
                              tsr_error *err);
/* About what the networks of all sets take; missing_only: those that are not packed. */
size_t tsr__controls_bytes(const tsr_engine *engine, int missing_only);
/* Packed networks go and come back by tsr__controls_need; what was made of pictures and texts stays. */
int tsr__controls_are_packed(const tsr_engine *engine);
void tsr__controls_unpack(tsr_engine *engine);
/* For counting swaps. */
void tsr__controls_begin_run(tsr_engine *engine);
tsr__control_set *tsr__controls_ref(tsr__control_set *set); /* NULL gives NULL */
void tsr__controls_unref(tsr__control_set *set);            /* NULL is allowed */
void tsr__controls_free_files(tsr_engine *engine);

/* What cond's networks read of its text, made of its values; and couple's. Binds the networks. */
tsr_status tsr__controls_read_text(tsr_engine *engine, struct tsr__conditioning *cond, tsr_error *err);
tsr_status tsr__controls_couple(struct tsr__conditioning *made, const void *const *conds, const float *const *weights,
                                int n, int height, int width, tsr_error *err);
/* Releases what cond has of controls, and its count of the set. */
void tsr__controls_drop(struct tsr__conditioning *cond);

/* A batch of calls as the UNet sees it. Borrowed. */
typedef struct tsr__control_batch {
    const tsr_denoise_call *const *calls; /* [count], of one sigma */
    int count;
    const int *shape; /* of one call: n, c, h, w */
    const float *in;  /* [count * n, channels, h, w], scaled; the first c channels are the latent's */
    int channels;
    float timestep;
    const float *const *labels; /* [count * n] or NULL */
} tsr__control_batch;

/* What control adds to the batch. */
typedef struct tsr__control_result {
    tsr__unet_control *controls;
    int count;
    struct control_part *parts; /* what controls points at */
} tsr__control_result;
tsr_status tsr__controls_run(tsr__control_result *out, tsr_engine *engine, const tsr__control_batch *batch,
                             tsr_error *err);
void tsr__controls_result_clear(tsr__control_result *result);

#endif /* TSR_ENGINE_CONTROL_H */
