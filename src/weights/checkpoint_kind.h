/* weights/checkpoint_kind.h - what a safetensors file is, told from its key names and shapes.
 *
 * Owns no file and loads nothing: looks only at the index. Threads: pure functions. */
#ifndef TSR_CHECKPOINT_KIND_H
#define TSR_CHECKPOINT_KIND_H

#include "weights/weights.h"

typedef enum tsr__checkpoint_kind {
    TSR_CHECKPOINT_UNKNOWN,
    TSR_CHECKPOINT_SD1,
    TSR_CHECKPOINT_SD2,
    TSR_CHECKPOINT_SDXL,
    TSR_CHECKPOINT_SD3,
    TSR_CHECKPOINT_FLUX,
    TSR_CHECKPOINT_LDM_UNET,       /* input_blocks.* without the checkpoint's prefix */
    TSR_CHECKPOINT_DIFFUSERS_UNET, /* down_blocks.* */
    TSR_CHECKPOINT_CONTROLNET,
    TSR_CHECKPOINT_CONTROL_UNION,      /* one ControlNet for several kinds of picture */
    TSR_CHECKPOINT_CONTROL_LORA,       /* low-rank differences from the model's encoder */
    TSR_CHECKPOINT_CONTROL_DIFFERENCE, /* whole ones */
    TSR_CHECKPOINT_T2I_ADAPTER,
    TSR_CHECKPOINT_LORA, /* also LoHa and LoKr */
    TSR_CHECKPOINT_VAE,
    TSR_CHECKPOINT_TAESD,
    TSR_CHECKPOINT_TEXT_ENCODER,
    TSR_CHECKPOINT_UPSCALER,
    TSR_CHECKPOINT_LATENT,
    TSR_CHECKPOINT_EMBEDDING,
    TSR_CHECKPOINT_KIND_COUNT_
} tsr__checkpoint_kind;

/* Parts of a full checkpoint, by key prefix. */
typedef enum tsr__checkpoint_part {
    TSR_PART_TEXT,  /* cond_stage_model.*, conditioner.* */
    TSR_PART_UNET,  /* model.diffusion_model.* */
    TSR_PART_VAE,   /* first_stage_model.* */
    TSR_PART_OTHER, /* everything else; all of a file that is no full checkpoint */
    TSR_PART_COUNT_
} tsr__checkpoint_part;

/* What the UNet takes beside a latent of c channels, told by how many channels go in. */
typedef enum tsr__checkpoint_variant {
    TSR_VARIANT_PLAIN,   /* c */
    TSR_VARIANT_EDIT,    /* 2c: a picture to edit (InstructPix2Pix) */
    TSR_VARIANT_INPAINT, /* 2c + 1: a mask and the picture without what it covers */
    TSR_VARIANT_UNKNOWN
} tsr__checkpoint_variant;

typedef struct tsr__checkpoint_info {
    tsr__checkpoint_kind kind;
    size_t tensors;
    int64_t parameters;
    struct {
        size_t tensors;
        int64_t parameters;
    } parts[TSR_PART_COUNT_];
    size_t dtypes[TSR_DTYPE_COUNT_]; /* tensors of each type */
    /* Of a full checkpoint; 0 where the file does not tell. */
    int64_t unet_channels;    /* width of the first level */
    int64_t unet_in_channels; /* 4; 9 in inpainting models */
    int64_t unet_out_channels;
    tsr__checkpoint_variant variant;
    int64_t context_width; /* of the cross-attention: 768 in SD1 */
    int64_t text_width;
    int64_t vae_channels; /* of the latent */
    char missing[160];    /* which parts of a full checkpoint are not there, and their names; "" if nothing */
} tsr__checkpoint_info;

void tsr__checkpoint_describe(tsr__checkpoint_info *out, const tsr__weights *weights);
const char *tsr__checkpoint_kind_name(tsr__checkpoint_kind kind);          /* "an SDXL checkpoint" */
const char *tsr__checkpoint_variant_name(tsr__checkpoint_variant variant); /* ", inpainting"; "" when it is plain */
const char *tsr__checkpoint_kind_word(tsr__checkpoint_kind kind);          /* for programs: "sdxl" */
tsr__checkpoint_part tsr__checkpoint_part_of(const char *name);            /* of the tensor of that name */
const char *tsr__checkpoint_part_name(tsr__checkpoint_part part);          /* "text encoder" */

#endif /* TSR_CHECKPOINT_KIND_H */
