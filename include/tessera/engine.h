/* tessera/engine.h - an opened model, and scenes painted with it.
 *
 *   tsr_engine_open(&engine, NULL, &err);              // the model that ships with Tessera
 *   tsr_scene_new(&scene, &err);
 *   tsr_scene_set(scene, "prompt", "a fox on snow", &err);
 *   tsr_engine_run(&result, engine, scene, NULL, &err);
 *   tsr_image_save(result->images[0], "fox.png", 0, &err);
 *
 * Threads: one thread at a time per engine; a callback runs on the thread that called tsr_engine_run. Several engines in
 * one process are independent. */
#ifndef TSR_ENGINE_H
#define TSR_ENGINE_H

#include "tessera/denoiser.h"
#include "tessera/image.h"
#include "tessera/latent.h"
#include "tessera/sample.h"
#include "tessera/scene.h"
#include "tessera/status.h"
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tsr_engine tsr_engine;

typedef enum tsr_precision {
    TSR_PRECISION_AUTO = 0, /* bf16 where the CPU has it, else f32 */
    TSR_PRECISION_F32 = 1,
    TSR_PRECISION_BF16 = 2 /* UNSUPPORTED where the CPU lacks it */
} tsr_precision;

/* A LoRA, LoHa or LoKr file to merge into a model. Strengths may be negative. */
typedef struct tsr_adapter {
    const char *path;
    float strength_model, strength_clip;
} tsr_adapter;

/* Parts of a model in files of their own, which replace the model's. NULL: none. A diffusers folder or a checkpoint may
 * stand for the part it holds. SDXL's two text encoders may come in either order. */
typedef struct tsr_model_parts {
    const char *unet, *text_encoder, *text_encoder_2, *vae;
} tsr_model_parts;

typedef enum tsr_choice { TSR_CHOICE_AUTO = 0, TSR_CHOICE_ON = 1, TSR_CHOICE_OFF = 2 } tsr_choice;

typedef struct tsr_engine_options {
    size_t struct_size;
    const char *model; /* checkpoint file or diffusers folder; NULL: the one that tsr_engine_find_model finds, or, where
                          parts.unet is given, none */
    tsr_precision precision;
    int threads;                 /* 0: all that the process may use */
    size_t memory_limit;         /* bytes that activations may take; 0: half of what is free */
    const tsr_adapter *adapters; /* merged in this order; read by tsr_engine_open only */
    int adapter_count;
    tsr_model_parts parts;
    const char *family; /* "sd1", "sd2" or "sdxl": refused when the weights are none; NULL or "auto": what they tell */
    const char *prediction; /* what the network gives: "eps", "v", "lcm" or "x0"; NULL or "auto": what the files tell */
    tsr_choice zero_snr;    /* whether the noise levels end at (nearly) pure noise; auto: what the files tell */
    int partial;            /* not 0: what the model lacks is an error only when it is needed */
    size_t memory_budget; /* bytes that packed weights and activations of a run may take, over all its models; 0: any */
} tsr_engine_options;
#define TSR_ENGINE_OPTIONS_INIT                                                                                        \
    { sizeof(tsr_engine_options), 0, TSR_PRECISION_AUTO, 0, 0, 0, 0, { 0, 0, 0, 0 }, 0, 0, TSR_CHOICE_AUTO, 0, 0 }

/* Opens the checkpoint and checks its kind; networks are built when first needed. options may be NULL. Errors: NOT_FOUND,
 * BAD_FORMAT (truncated, hostile), UNSUPPORTED (another kind of checkpoint: named, with what is missing; or no bf16). */
TSR_API tsr_status tsr_engine_open(tsr_engine **out, const tsr_engine_options *options, tsr_error *err);
/* With the model, precision, threads and memory budget that the scene asks for. */
TSR_API tsr_status tsr_engine_open_for(tsr_engine **out, const tsr_scene *scene, tsr_error *err);
TSR_API void tsr_engine_close(tsr_engine *engine); /* NULL is allowed */

/* The shipped model's file: $TESSERA_MODEL, beside the library or the program (models/, ../models/,
 * ../share/tessera/), the installed data folder, the source tree it was built from. *out is released with tsr_free. */
TSR_API tsr_status tsr_engine_find_model(char **out, tsr_error *err);

typedef struct tsr_engine_info {
    size_t struct_size;
    const char *model;     /* the engine's; valid while it is open */
    const char *kind;      /* "SD1" */
    const char *precision; /* "f32" or "bf16" */
    tsr_prediction prediction;
    int latent_channels; /* 4 */
    int latent_factor;   /* pixels a latent pixel: 8 */
    int native_size;     /* pixels, the side it paints best */
} tsr_engine_info;
TSR_API tsr_engine_info tsr_engine_get_info(const tsr_engine *engine);

/* How pictures of the work so far are made; ComfyUI's names. */
typedef enum tsr_preview_method {
    TSR_PREVIEW_AUTO = 0,       /* TAESD where its file is found, else the VAE or latent2rgb, by what they cost */
    TSR_PREVIEW_LATENT2RGB = 1, /* a linear map of the latent's channels, one pixel a cell */
    TSR_PREVIEW_TAESD = 2,      /* a tiny autoencoder from a file of its own (docs/previews.md) */
    TSR_PREVIEW_NONE = 3
} tsr_preview_method;
/* "auto", "latent2rgb", "taesd", "none"; -1: none of them. */
TSR_API int tsr_preview_method_find(const char *name);

/* --- scenes ----------------------------------------------------------------------------------------------------------- */
typedef struct tsr_engine_callbacks {
    size_t struct_size;
    void *user;
    /* Before every network call and after every step; see tessera/sample.h. Not 0 stops the run with TSR_CANCELLED. May be
     * NULL, as all of these. */
    int (*progress)(void *user, const tsr_progress *progress);
    /* The picture so far (first of a batch), now and then, so that it costs little. Borrowed. Not 0 stops the run. */
    int (*preview)(void *user, const tsr_image *image, const tsr_progress *progress);
    /* Asked before every network call and every part of the decoding; not 0 stops the run. */
    int (*cancelled)(void *user);
    /* Gets the state of the run, whole and ready to be a file: when the run is stopped (also while it decodes), and after
     * steps as the next two say (docs/resume.md). Valid during the call; a failure stops the run with it. */
    tsr_status (*save)(void *user, const void *state, size_t size, tsr_error *err);
    int save_steps;      /* save after so many steps; 0: not for that reason */
    double save_seconds; /* save at the first step that ends so long after the last time; 0: not for that reason */
    /* Of `preview`. TAESD without its file (vae_approx/taesd_decoder.* or taesdxl_decoder.* beside the model) is NOT_FOUND
     * before the run begins. */
    tsr_preview_method preview_method;
} tsr_engine_callbacks;
#define TSR_ENGINE_CALLBACKS_INIT                                                                                      \
    { sizeof(tsr_engine_callbacks), 0, 0, 0, 0, 0, 0, 0.0, TSR_PREVIEW_AUTO }

/* Released by tsr_result_free; images may be taken out (leave NULL behind). */
typedef struct tsr_result {
    tsr_image **images; /* image_count pictures with their metadata */
    int image_count;
    tsr_latent *latent; /* all of the batch, raw VAE units */
    tsr_scene *scene;   /* what was painted: nothing random or automatic left in it, masks kept inside */
    char **warnings;    /* one line each */
    int warning_count;
    double text_seconds, sample_seconds, decode_seconds;
    int swaps; /* under a memory budget: UNets and control networks that were packed again, how long that took in all */
    double swap_seconds;
    size_t swap_bytes; /* and how much it was, packed */
} tsr_result;
TSR_API void tsr_result_free(tsr_result *result); /* NULL is allowed */

/* Paints the scene. callbacks may be NULL. The scene's model, precision, threads and memory are not looked at: the engine
 * has its own. Errors also: CANCELLED, TOO_LARGE (the budget cannot hold one model), NOT_FINITE (says which step), BAD_ARGUMENT (masks that are empty, of a wrong size, or
 * leave pixels to a base without a prompt). */
TSR_API tsr_status tsr_engine_run(tsr_result **out, tsr_engine *engine, const tsr_scene *scene,
                                  const tsr_engine_callbacks *callbacks, tsr_error *err);
/* Goes on from a state that `save` got; scene, masks and start are in it. The result is the same bits as without the stop.
 * Errors: BAD_FORMAT (damaged), UNSUPPORTED (another version), BAD_ARGUMENT (another model, or precision). */
TSR_API tsr_status tsr_engine_resume(tsr_result **out, tsr_engine *engine, const void *state, size_t size,
                                     const tsr_engine_callbacks *callbacks, tsr_error *err);
/* The scene of a state, with the model and the precision that it ran with, for tsr_engine_open_for. */
TSR_API tsr_status tsr_state_scene(tsr_scene **out, const void *state, size_t size, tsr_error *err);
/* A state as a file: written whole or not at all. *out is released with tsr_free. */
TSR_API tsr_status tsr_state_write(const char *path, const void *state, size_t size, tsr_error *err);
TSR_API tsr_status tsr_state_load(void **out, size_t *size_out, const char *path, tsr_error *err);
/* What tsr_engine_run would do, as text, without running the network; *out is released with tsr_free. */
TSR_API tsr_status tsr_engine_plan(char **out, tsr_engine *engine, const tsr_scene *scene, tsr_error *err);

/* --- parts, to drive samplers by hand ------------------------------------------------------------------------------------ */
/* The network as sampling sees it; conditionings come from tsr_engine_encode_prompt. Owned by the engine. Errors when the
 * UNet cannot be built. */
TSR_API tsr_status tsr_engine_denoiser(const tsr_denoiser **out, tsr_engine *engine, tsr_error *err);
/* Text -> conditioning; equal texts give the same pointer. Owned by the engine, valid until tsr_engine_close or
 * tsr_engine_forget_prompts. clip_skip 1 = the last layer, 0 = the one that the model's family reads. */
TSR_API tsr_status tsr_engine_encode_prompt(const void **out, tsr_engine *engine, const char *prompt, int clip_skip,
                                            tsr_error *err);
TSR_API void tsr_engine_forget_prompts(tsr_engine *engine);
/* Picture `index` of the batch. tile_px 0: whole, or tiles when memory is short. */
TSR_API tsr_status tsr_engine_decode(tsr_image **out, tsr_engine *engine, const tsr_latent *latent, int index,
                                     int tile_px, tsr_error *err);
/* The latent of a picture, cropped to a multiple of 8, centred. */
TSR_API tsr_status tsr_engine_encode(tsr_latent **out, tsr_engine *engine, const tsr_image *image, int tile_px,
                                     tsr_error *err);

/* --- files ---------------------------------------------------------------------------------------------------------------- */
/* What a checkpoint, a picture or a latent file contains, as text; *out is released with tsr_free. */
TSR_API tsr_status tsr_inspect_file(char **out, const char *path, tsr_error *err);
/* The same as one JSON object on one line, for programs: file, kind ("sdxl", "lora", "picture", "unknown", ...), and where they are
 * known family, layout, container, tensors, parameters, bytes, parts, types, unet, adapter, latent, metadata; of a
 * picture width, height, alpha, texts, scene. *out is released with tsr_free. */
TSR_API tsr_status tsr_inspect_file_json(char **out, const char *path, tsr_error *err);

/* Types of numbers that models are written with. */
typedef enum tsr_weight_type {
    TSR_WEIGHT_KEEP = 0, /* as they are; what the container has no type for becomes F16 */
    TSR_WEIGHT_F32 = 1,
    TSR_WEIGHT_F16 = 2,
    TSR_WEIGHT_BF16 = 3,
    TSR_WEIGHT_F8 = 4, /* E4M3 for the UNet's matrices and convolutions, F16 for the rest; not in GGUF */
    /* GGUF's blocks, in GGUF only: matrices whose rows divide into blocks, see docs/convert.md */
    TSR_WEIGHT_Q8_0 = 5,
    TSR_WEIGHT_Q5_1 = 6,
    TSR_WEIGHT_Q5_0 = 7,
    TSR_WEIGHT_Q4_1 = 8,
    TSR_WEIGHT_Q4_0 = 9,
    TSR_WEIGHT_Q6_K = 10,
    TSR_WEIGHT_Q5_K = 11,
    TSR_WEIGHT_Q4_K = 12,
    TSR_WEIGHT_Q3_K = 13,
    TSR_WEIGHT_Q2_K = 14
} tsr_weight_type;
/* "keep", "f32", "f16", "bf16", "f8", "q8_0" ... "q2_k"; -1: none of them. */
TSR_API int tsr_weight_type_find(const char *name);

/* What of a model is written. */
typedef enum tsr_convert_part {
    TSR_CONVERT_ALL = 0,
    TSR_CONVERT_UNET = 1,           /* names without prefix: input_blocks.* */
    TSR_CONVERT_TEXT_ENCODER = 2,   /* Hugging Face's names: text_model.* */
    TSR_CONVERT_TEXT_ENCODER_2 = 3, /* SDXL's second one, likewise */
    TSR_CONVERT_VAE = 4             /* names without prefix: encoder.*, decoder.* */
} tsr_convert_part;
/* "all", "unet", "text-encoder", "text-encoder-2", "vae"; -1: none of them. */
TSR_API int tsr_convert_part_find(const char *name);

/* Called between tensors, in the caller's thread: bytes written so far and in all. Not 0: stop, with CANCELLED. */
typedef int (*tsr_convert_fn)(void *user, unsigned long long done, unsigned long long total);
typedef struct tsr_convert_options {
    tsr_weight_type type;
    tsr_convert_part part;
    tsr_convert_fn progress; /* may be NULL */
    void *user;
} tsr_convert_options;

/* Writes a model of any layout (model and parts as in tsr_engine_options; either may be NULL) under another name, whole or
 * not at all. The name says what is written: X.gguf a GGUF file; X/, a name without suffix, or a folder that is there and
 * empty: a diffusers folder; X.tsrpack nothing (BAD_ARGUMENT: tsr_pack_model writes those); any other name a safetensors
 * file. A file of that name is replaced, a folder with anything in it is not (BAD_ARGUMENT). options: NULL for all as it is. *report, released with tsr_free, says what it became;
 * report may be NULL. Errors: those of opening the model; UNSUPPORTED when it lacks the part, or when the container
 * cannot hold it; IO; CANCELLED. */
TSR_API tsr_status tsr_convert_model(char **report, const char *path, const char *model, const tsr_model_parts *parts,
                                     const tsr_convert_options *options, tsr_error *err);

typedef struct tsr_pack_options {
    size_t struct_size;
    tsr_precision precision; /* of UNet and VAE; text encoders compute in f32 */
    int threads; /* 0: all that the process may use. A cache serves any number; its layouts are chosen for this one */
    void *user;
    /* Before every weight that is written, in bytes of packed weights; not 0 stops with TSR_CANCELLED. May be NULL. */
    int (*progress)(void *user, size_t done, size_t total);
} tsr_pack_options;
#define TSR_PACK_OPTIONS_INIT                                                                                          \
    { sizeof(tsr_pack_options), TSR_PRECISION_AUTO, 0, 0, 0 }
/* Writes a full model (given as to tsr_convert_model) as a packed cache for this processor and library (docs/packed.md), which
 * tsr_engine_open takes in the place of the model; whole or not at all. options and report may be NULL. Errors also:
 * UNSUPPORTED (parts missing, no bf16, a cache), CANCELLED. */
TSR_API tsr_status tsr_pack_model(char **report, const char *path, const char *model, const tsr_model_parts *parts,
                                  const tsr_pack_options *options, tsr_error *err);

#ifdef __cplusplus
}
#endif
#endif /* TSR_ENGINE_H */
