/* weights/taesd_files.h - TAESD in the layouts that it is found in, put into a union under one set of names:
 *
 *   first_stage_model.taesd_encoder.N.*, first_stage_model.taesd_decoder.N.*, .vae_scale, .vae_shift
 *
 * that ComfyUI's whole checkpoints have. Read are those with or without their prefix, the original pair of files ("N.*" in
 * taesd_encoder and taesd_decoder), and diffusers' AutoencoderTiny. The shapes say nothing of the model a TAESD was made
 * for: vae_scale does, or else the file's name. Knows no network. */
#ifndef TSR_TAESD_FILES_H
#define TSR_TAESD_FILES_H

#include "weights/checkpoint_kind.h"
#include "weights/weights_union.h"

/* What a file holds of a TAESD. */
typedef struct tsr__taesd_found {
    int has_encoder, has_decoder;
    int is_bare;                 /* one of the original pair */
    const char *prefix;          /* before ComfyUI's or diffusers' names */
    int64_t width;               /* of its first layer */
    int64_t channels;            /* of latents; 0: not told (an encoder alone) */
    const char *told_by;         /* what told the family: "its vae_scale" or "its name"; NULL: nothing */
    tsr__checkpoint_kind family; /* SD1 (SD2's latents are the same), SDXL, or UNKNOWN */
} tsr__taesd_found;
/* 0: no TAESD. */
int tsr__taesd_find(tsr__taesd_found *out, const tsr__weights *source);
const char *tsr__taesd_models(tsr__checkpoint_kind family); /* "SD1 and SD2"; "other models" */
/* What the files for models of that kind begin with: "taesdxl"; NULL: there are none. */
const char *tsr__taesd_name(tsr__checkpoint_kind kind);

/* Adds what the source has, the other half of an original pair that lies beside it, and vae_scale: the family's. kind: of
 * the model that will use it, UNKNOWN when there is none. UNSUPPORTED when the source says that it was made for another, or
 * neither says for which, or it has layers that no TAESD has. The source is the union's. */
tsr_status tsr__taesd_add(tsr__union *all, const tsr__weights *source, tsr__checkpoint_kind kind, tsr_error *err);

/* The file of a VAE in a folder: the decoder of a pair for models of that kind, or diffusion_pytorch_model.safetensors.
 * NOT_FOUND names what was looked for. *out is released with free(). */
tsr_status tsr__taesd_in_folder(char **out, const char *folder, tsr__checkpoint_kind kind, tsr_error *err);
/* FOLDER/STEM with one of the endings that model files have, or NULL. Released with free(). */
char *tsr__taesd_with_ending(const char *folder, const char *stem);

#endif /* TSR_TAESD_FILES_H */
