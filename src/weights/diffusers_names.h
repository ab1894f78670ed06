/* weights/diffusers_names.h - names of diffusers' and Hugging Face's layouts to those of single-file checkpoints.
 *
 * The other way round than lora_keys.h, whose first comment has the UNet's table. Pure text; knows no tensors. */
#ifndef TSR_DIFFUSERS_NAMES_H
#define TSR_DIFFUSERS_NAMES_H

#include <stddef.h>

enum { TSR__NAME_SIZE = 256, TSR__DIFFUSERS_LEVELS = 16 };

/* What single-file numbers depend on; filled name by name. Zeroed before. */
typedef struct tsr__diffusers_shape {
    int blocks;                         /* residual blocks of a level, going down */
    int levels;                         /* of the half that goes up */
    int attends[TSR__DIFFUSERS_LEVELS]; /* whether up_blocks.L has attentions */
    int hints;                          /* of a ControlNet: convolutions between the picture's first and last */
} tsr__diffusers_shape;
void tsr__diffusers_look(tsr__diffusers_shape *shape, const char *name);

/* All names without their single file's prefix, with ".weight" or ".bias". 0: the layout has no such name. */
int tsr__diffusers_unet_name(char out[TSR__NAME_SIZE], const char *name, const tsr__diffusers_shape *shape);
int tsr__diffusers_vae_name(char out[TSR__NAME_SIZE], const char *name, const tsr__diffusers_shape *shape);

/* The way back: a single file's names to diffusers', with today's names of attentions. shape is filled by
 * tsr__single_file_look from the single file's names without their prefix; VAEs need none. */
void tsr__single_file_look(tsr__diffusers_shape *shape, const char *name);
int tsr__single_file_unet_name(char out[TSR__NAME_SIZE], const char *name, const tsr__diffusers_shape *shape);
int tsr__single_file_vae_name(char out[TSR__NAME_SIZE], const char *name, const tsr__diffusers_shape *shape);

/* The same for a ControlNet, to LDM's names without "control_model."; what only unions have keeps its name. */
int tsr__diffusers_control_name(char out[TSR__NAME_SIZE], const char *name, const tsr__diffusers_shape *shape);
/* And for a T2I-Adapter ("adapter...."), full or light, to its authors' names. */
int tsr__diffusers_adapter_name(char out[TSR__NAME_SIZE], const char *name, int is_light);

/* A text encoder's name ("text_model....") to OpenCLIP's. */
typedef enum tsr__open_clip_part {
    TSR__OPEN_NONE,  /* no such name */
    TSR__OPEN_PLAIN, /* the same tensor */
    TSR__OPEN_Q,     /* the upper third of the tensor `out`; k and v, named alike, are the others */
    TSR__OPEN_K,
    TSR__OPEN_V,
    TSR__OPEN_TURNED /* the tensor `out`, transposed */
} tsr__open_clip_part;
tsr__open_clip_part tsr__open_clip_name(char out[TSR__NAME_SIZE], const char *name);
/* The way back. Q: the upper third of the tensor is `out`, a name with ".q_proj." in it; the others are k's and v's. */
tsr__open_clip_part tsr__open_clip_back(char out[TSR__NAME_SIZE], const char *name);

#endif /* TSR_DIFFUSERS_NAMES_H */
